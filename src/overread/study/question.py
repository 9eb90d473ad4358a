"""The question of a study: what ``study.toml`` holds, by subject. The options of the command line are made from it.

Each field says what it is for, what it is where nobody says it, and which values it takes. Nothing heavy is imported
here: ``overread run --help`` reads this module.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overread.cases.sources.layout import Layout, file_and_part
from overread.core.errors import ArgumentError, InputError, checked, nearest, one_of, require
from overread.core.settings import require_allowed, setting, settings

if TYPE_CHECKING:
    from overread.cases.cases import Planes


#: Errors of the audit that a study may go on despite; after the others there is nothing to learn or to judge.
DESPITE = ("leak", "near-leak", "shortcut", "few-patients", "unreadable", "unreadable-mask", "mask-size")


@dataclass(frozen=True)
class Columns:
    """What the table holds."""

    # fmt: off
    image: str = setting("", "column of the images' files; guessed, and said, if not given", first=True)
    label: str = setting("", "column of the class; guessed, and said, if not given", first=True)
    labels: tuple[str, ...] = setting((), "columns of several findings, separated by commas (blank cells = unknown)")
    value: str = setting("", "column of a number to be predicted")
    mask: str = setting("", "outlines of objects to be learned: a column of masks, a file of outlines (COCO, boxes or run lengths), or a folder of masks named like the images", path=True)
    pixel_size: str = setting("", "microns of a pixel: a number, or a column of numbers; of slides, pixels of the finest level, where the files do not say it (of other images the audit alone tells what files say)", also="--mpp")
    outlines: str = setting("", "outlines of lesions on slides: a folder of files named like the slides, a column of files, or one file (ASAP or ImageScope XML, QuPath GeoJSON, label TIFF)", path=True)
    patient: str = setting("", "column of the patient, who is what is independent; guessed, and said, if not given", first=True)
    case: str = setting("", "column of what gets one prediction; each image if not given")
    source: str = setting("", "column of the site, scanner or microscope; guessed, and said, if not given", first=True)
    view: str = setting("", "column that tells the images of one case apart, such as L-MLO")
    time: str = setting("", "column of the date or time; needed for --by-time")
    split: str = setting("", "column of a split that the table brings along")
    subgroups: tuple[str, ...] = setting((), "column to judge by, such as sex; may be repeated", option="--subgroup", repeated=True, first=True)
    keep_columns: tuple[str, ...] = setting((), "column to carry along into cases and predictions; others that nothing names stay out; may be repeated", option="--keep-column", repeated=True)
    positive: tuple[str, ...] = setting((), "classes that count as disease, separated by commas")
    where: str = setting("", "take the rows that fulfil this, such as \"modality == 'DX' and view in ('PA', 'AP')\"")
    labels_from: str = setting("", "for DICOM files: a table of labels to join", path=True)
    key: str = setting("", "column of --labels-from to join by: patient, study, series, instance, accession or file; found out if not given")
    graders: str = setting("", "several readers' answers: a table of case, reader and label, or columns of the table, separated by commas", path=True)
    derive: tuple[str, ...] = setting((), "a finding that follows from columns by a rule, such as \"referable = grade >= 2 or oedema == 1\"; may be repeated", repeated=True)
    consensus: str = setting("majority", "one label of several readers: majority, median (of ordered classes) or dawid-skene", choices=("majority", "median", "dawid-skene"))
    names: str = setting("hash", "hash: codes in place of cases and patients; keep: as they stand, for data whose names identify nobody")
    salt: str = setting("", "what the codes are made with; that of the table if not given", offered=False)
    # fmt: on

    def __post_init__(self) -> None:
        require_allowed(self)
        given = [name for name in ("label", "labels", "value") if getattr(self, name)]
        require(not (self.mask and self.outlines), "objects in images are outlined by masks, lesions on slides by outlines", given="mask and outlines", todo="give one of them")  # fmt: skip
        require(not (self.mask and (self.graders or self.labels or self.value)), "outlines are learned beside no findings, number or readers", given="mask",
                todo="leave labels, value and graders out; --label beside --mask is for what the image as a whole shows")  # fmt: skip
        require(
            len(given) < 2,
            "labels come from one place",
            given=" and ".join(given),
            todo="give one of label, labels and value",
        )
        require(
            not (self.graders and self.value),
            "graders give labels, not numbers",
            given="graders and value",
            todo="give one of them",
        )

    @property
    def readers(self) -> str | tuple[str, ...] | None:
        """The path of the table of answers, or the columns of the study's table that readers answered in.

        >>> Columns(graders="first, second").readers
        ('first', 'second')
        """
        if "," not in self.graders or Path(self.graders).exists():
            return self.graders or None
        return tuple(name.strip() for name in self.graders.split(",") if name.strip())


@checked
def level_folder(level: str) -> str:
    """The name of a level as a folder may have it.

    >>> level_folder("level-1"), level_folder("benign / malignant")
    ('level-1', 'benign-malignant')
    """
    return re.sub(r"[^\w.-]+", "-", level).strip(".-") or "level"


@dataclass(frozen=True)
class ClassTree:
    """A tree of classes."""

    # fmt: off
    taxonomy: str = setting("", "table of child and parent (and level): the tree that the classes stand in", path=True)
    max_class_size: int = setting(0, "cut the tree into training classes of at most so many training images (Esteva 2017); 0: train on the labels as they stand", least=0)
    label_at: str = setting("", "train on the classes at this level of the tree: level-1, level-2 …, or a name in its column level")
    judge_at: tuple[str, ...] = setting((), "judge at these levels of the tree too, separated by commas: a class has the sum of the probabilities below it")
    # fmt: on

    def __post_init__(self) -> None:
        require_allowed(self)
        given = [name for name in ("max_class_size", "label_at", "judge_at") if getattr(self, name)]
        require(bool(self.taxonomy) or not given, "levels and sizes of classes are those of a tree, and there is none", given=" and ".join(given),
                todo="give one: --taxonomy tree.csv, with the columns child,parent")  # fmt: skip
        require(not (self.max_class_size and self.label_at), "classes are cut from the tree in one way", given="max_class_size and label_at",
                todo="give one of them")  # fmt: skip
        places: dict[str, list[str]] = {}
        for level in dict.fromkeys(self.judge_at):
            places.setdefault(level_folder(level).casefold(), []).append(level)
        alike = next((levels for levels in places.values() if len(levels) > 1), [])
        require(not alike, "what holds at two levels would lie in one folder", given=" and ".join(map(repr, alike)),
                todo="judge at one of them, or rename one in the tree's column level")  # fmt: skip

    @property
    def cuts(self) -> bool:
        """Whether training classes stand in the place of labels."""
        return bool(self.max_class_size or self.label_at)


@dataclass(frozen=True)
class Images:
    """What to look at in volumes, in stacks of frames and in slides."""

    # fmt: off
    volumes: str = setting("whole", "whole: each volume as it is; views: three orthogonal views; slices: its axial slices, as images of one case")
    point: tuple[str, ...] = setting((), "columns x,y,z of a point in mm (RAS), or the column of a mask, that the views go through")
    side: float = setting(0.0, "side in mm of the square around that point; 0: the whole plane", least=0)
    pixel: float = setting(0.0, "side in mm of a pixel of that square; 0: the finest spacing of each volume", least=0)
    nan_voxels: str = setting("refuse", "what voxels are that are NaN, as outside of a brain: refuse, or lowest (the lowest value of the volume)", choices=("refuse", "lowest"))
    frames: str = setting("volume", "how a stack of frames is seen (a TIFF of several pages, a film, a folder of images, the rows of a case in time): volume, as it is; projections, its mean, maximum and correlation with neighbours over time as three channels; channels or channels:N, N equal spans of time as channels")
    slides: str = setting("auto", "whether the images are slides, which are read tile by tile: auto (by their content, and said), yes or no", choices=("auto", "yes", "no"))
    tumour: tuple[str, ...] = setting((), "group of the outlines of slides that is a lesion, where its name does not tell; may be repeated", option="--tumour-group", repeated=True)
    # fmt: on

    def __post_init__(self) -> None:
        require_allowed(self)
        _ = self.planes

    @property
    def planes(self) -> Planes:
        """The same as the cases carry it. Raises :class:`ArgumentError` where they do not fit each other."""
        from overread.cases.cases import Planes

        return Planes(
            self.volumes,
            self.point,
            self.side,
            self.nan_voxels,
            self.pixel,
            "" if self.frames == "volume" else self.frames,
            tumour=self.tumour,
        )


@dataclass(frozen=True)
class SplitRule:
    """Who trains, who tests."""

    test: float = setting(0.2, "share of the patients for the test")
    tuning: float = setting(0.1, "share of the patients for tuning")
    deploy_to: str = setting("", "where the model will be used, such as \"source == 'rosendahl'\"")
    leave_out: str = setting("", "a source that is kept for the test alone")
    by_time: bool = setting(False, "train on the past, test on the latest")
    keep_given: bool = setting(True, "split anew even if the table brings a split", option="--resplit")
    folds: str = setting(
        "", "judge by cross-validation over all cases instead: a number, or leave-one-out", offered=False
    )
    despite: tuple[str, ...] = setting(
        (),
        f"go on despite an error of the audit, and say so in the report: {', '.join(DESPITE)}; may be repeated",
        repeated=True,
    )

    def __post_init__(self) -> None:
        require(0 < self.test < 1 and 0 < self.tuning < 1 and self.test + self.tuning < 1,
                "test and tuning must be shares that leave something to train on", given=f"{self.test} and {self.tuning}",
                todo="write 0.2 for a fifth of the patients")  # fmt: skip
        for kind in self.despite:
            one_of(kind, DESPITE, "despite")
        number_of(self.folds)


#: Each patient is a fold.
LEAVE_ONE_OUT = "leave-one-out"


@checked
def number_of(folds: str) -> int:
    """How many folds a text asks for, 0 for ``leave-one-out`` and for none. Raises :class:`InputError` for anything else.

    >>> number_of("10"), number_of("leave-one-out")
    (10, 0)
    """
    if folds in ("", LEAVE_ONE_OUT):
        return 0
    if not folds.isdecimal() or int(folds) < 2:
        raise InputError(
            "folds are a number from 2 on", given=repr(folds), todo=f"--folds 10 or --folds {LEAVE_ONE_OUT}"
        )
    return int(folds)


@dataclass(frozen=True)
class OperatingRule:
    """How to judge: the operating point, chosen on tuning data."""

    # fmt: off
    rule: str = setting("youden", "the operating point where none of --sensitivity, --specificity and --cost is given: youden (largest sum of the two), or accuracy (most cases called right)", choices=("youden", "accuracy", "sensitivity", "specificity", "cost"))
    sensitivity: float = setting(0.0, "choose the operating point for this sensitivity", least=0, most=1, first=True)
    specificity: float = setting(0.0, "choose the operating point for this specificity; with --sensitivity there are two points, the first for the calls", least=0, most=1)
    cost: float = setting(0.0, "how much worse a missed case is than a false alarm: chooses the operating point", least=0)
    decide: str = setting("auto", "how one of several classes is called: auto (the best on tuning data), argmax (the most probable), prior (adjusted for how common each is), thresholds (a weight for each), or cost", choices=("auto", "argmax", "prior", "thresholds", "cost"))
    cost_matrix: str = setting("", "table of what each call (columns) costs for each true class (rows): classes are called at the smallest expected cost", path=True)
    prevalence: float = setting(0.0, "share of the diseased where the model will be used; 0: that of the test set", least=0, most=1)
    net_benefit_at: float = setting(0.0, "the risk from which one acts, such as 0.1: tells net benefit there", least=0, most=1)
    fixed: float = setting(0.9, "the sensitivity at which specificity is told, and the specificity at which sensitivity is", least=0, most=1)
    primary: str = setting("", "the primary endpoint: auc, sensitivity …; of one class: auc:CLASS")
    margin: float = setting(0.0, "margin of non-inferiority, written down before the test set is opened", least=0, most=1)
    margin_of: str = setting("auc", "what the margin is of: auc, sensitivity or specificity, or several behind commas; of one class: sensitivity:CLASS")
    # fmt: on

    def __post_init__(self) -> None:
        from overread.evaluation.comparison.claims import Declaration

        require_allowed(self)
        for name in ("prevalence", "margin", "net_benefit_at", "fixed"):
            require(getattr(self, name) < 1, f"{name} must lie between 0 and 1", given=getattr(self, name))
        meaning = "cost says how much worse a missed case is than a false alarm: a number"
        require(self.cost < float("inf"), meaning, given=self.cost)
        fixed = [name for name in ("sensitivity", "specificity", "cost") if getattr(self, name)]
        require(not self.cost or len(fixed) < 2, "the operating point is chosen in one way", given=" and ".join(fixed),
                todo="give one of sensitivity, specificity and cost; a sensitivity and a specificity make two points")  # fmt: skip
        require(not fixed or self.rule in ("youden", fixed[0] if len(fixed) == 1 else ""), "the operating point is chosen in one way",
                given=f"rule {self.rule} and {' and '.join(fixed)}", todo="leave out --rule, or the other")  # fmt: skip
        require(bool(self.cost_matrix) or self.decide != "cost", "the smallest expected cost needs the costs", given="decide cost",
                todo="give a table: --cost-matrix costs.csv, with the true classes in rows and the called ones in columns")  # fmt: skip
        require(not self.cost_matrix or self.decide in ("auto", "cost"), "costs have no part in this decision", given=f"decide {self.decide} and a table of costs",
                todo="leave out --cost-matrix, or choose --decide cost")  # fmt: skip
        require(self.fixed > 0, "fixed must lie between 0 and 1", given=self.fixed)
        for metric in self.margin_metrics:
            Declaration.read(self.margin or 0.1, metric)

    @property
    def margin_metrics(self) -> tuple[str, ...]:
        """What the margin is of, each metric by itself.

        >>> OperatingRule(margin=0.05, margin_of="sensitivity, specificity").margin_metrics
        ('sensitivity', 'specificity')
        """
        return tuple(part.strip() for part in self.margin_of.split(","))


@dataclass(frozen=True)
class Training:
    """How to train."""

    weights: str = setting("", "folder with pretrained weights", path=True, env="OVERREAD_WEIGHTS", first=True)
    seed: int = setting(0, "same seed, same machine: same result, byte for byte", least=0)
    recipe: dict[str, Any] = setting({}, "the fields of the recipe that differ from its defaults", offered=False)  # noqa: RUF009

    def __post_init__(self) -> None:
        require_allowed(self)


#: Budgets in words.
PRESETS = {"": "", "quick": "5m", "good": "30m", "best": "4h"}


@dataclass(frozen=True)
class Resources:
    """What to use of this machine."""

    budget: str = setting("", "wall-clock time of the whole command, such as 15m or 1h30m", first=True)
    preset: str = setting(
        "",
        f"a budget in words: {', '.join(f'{word} ({time})' for word, time in PRESETS.items() if word)}",
        choices=tuple(PRESETS),
    )
    device: str = setting("", "cpu, cuda (or cuda:1), mps; the best if not given")
    threads: int = setting(0, "threads to use; 0: all cores of this process", least=0)

    def __post_init__(self) -> None:
        require_allowed(self)
        require(not (self.budget and self.preset), "a budget is given in one way", given=f"{self.budget} and {self.preset}",
                todo="give --budget or --preset")  # fmt: skip
        seconds(self.budget)

    @property
    def limit(self) -> float | None:
        """The budget in seconds; None without one.

        >>> Resources(preset="quick").limit
        300.0
        """
        return seconds(self.budget or PRESETS[self.preset])


@dataclass(frozen=True)
class Study:
    """The question, with every default filled in: what ``study.toml`` holds.

    ``table``: CSV, TSV, Parquet, ``.xlsx``, ``.npz``, DICOM files or a folder of class folders. Raises
    :class:`ArgumentError` for values out of range, and for two ways of saying one thing.
    """

    table: str = setting(
        MISSING,
        "CSV, TSV, Parquet, Excel .xlsx, MedMNIST .npz, a folder of class folders, DICOM files (folder, DICOMDIR, zip), or a study.toml",
        path=True,
    )
    columns: Columns = field(default_factory=Columns)
    images: Images = field(default_factory=Images)
    split: SplitRule = field(default_factory=SplitRule)
    operating_point: OperatingRule = field(default_factory=OperatingRule)
    training: Training = field(default_factory=Training)
    resources: Resources = field(default_factory=Resources)
    layout: Layout = field(default_factory=Layout)
    class_tree: ClassTree = field(default_factory=ClassTree)

    def __new__(cls, *given: object, **fields: object) -> Study:
        old = [name for name, value in fields.items() if name in _GROUP_OF and not dataclasses.is_dataclass(value)]
        if old or not all(map(dataclasses.is_dataclass, given[1:])):
            raise ArgumentError("a study is made of groups of fields", given=", ".join(old) or "values without names",
                                todo="write Study.from_flat(table=…, image=…, label=…), or Study(table, columns=Columns(image=…))")  # fmt: skip
        return super().__new__(cls)

    @classmethod
    def from_flat(cls, *, table: str, **fields: Any) -> Study:
        """A study from fields of any group by their own names. Raises :class:`InputError` for one that is in none.

        >>> Study.from_flat(table="t.csv", image="file", label="dx", seed=3).columns.label
        'dx'
        """
        return cls(table).changed(**fields)

    def changed(self, **fields: Any) -> Study:
        """The same study with other values of some fields, of whichever group."""
        groups: dict[str, dict[str, Any]] = {}
        for name, value in fields.items():
            if name not in _GROUP_OF:
                raise InputError(f"a study has no field {name!r}", todo=nearest(name, ["table", *_GROUP_OF]))
            groups.setdefault(_GROUP_OF[name], {})[name] = value
        return replace(self, **{group: replace(getattr(self, group), **values) for group, values in groups.items()})

    def flat(self) -> dict[str, Any]:
        """Every field by its own name, in the order of the groups: ``Study.from_flat`` takes them back."""
        return {"table": self.table} | {name: getattr(getattr(self, group), name) for name, group in _GROUP_OF.items()}

    def seen_from(self, folder: Path) -> Study:
        """The same study with absolute paths, where they were written as seen from ``folder``.

        What is a column of a table of text stays as it is, whatever lies in the folders; of other tables what lies there comes
        first. Raises :class:`InputError` for a path that is one thing there and another beside the table.
        """
        from overread.cases.sources.tables import here_or_beside

        table = Path(self.table) if self.table else folder
        columns = self._named_columns(folder / table)
        written = {name: text for name, text in self.flat().items() if name in _PATHS and text and name not in columns}

        def absolute(text: str) -> str:
            file, part = file_and_part(text)
            found = here_or_beside(file, folder, (folder / table).parent) or (folder / file).absolute()
            return f"{found}{part and '=' + part}"

        moved = {
            name: tuple(map(absolute, text)) if isinstance(text, tuple) else absolute(text)
            for name, text in written.items()
        }
        if "graders" in moved and "," in self.columns.graders and not Path(str(moved["graders"])).exists():
            del moved["graders"]  # columns of a table whose header is not known
        if "mask" in moved and not Path(str(moved["mask"]).partition("#")[0]).exists():
            del moved["mask"]  # the same
        if "outlines" in moved and not Path(str(moved["outlines"])).exists():
            del moved["outlines"]  # the same
        return replace(self, table=str((folder / self.table).absolute())).changed(**moved)

    def _named_columns(self, table: Path) -> set[str]:
        """Which of the fields that may be a path or columns of the table name columns, as far as its header is known."""
        from overread.cases.sources.tables import header_of

        mask, outlines, graders = self.columns.mask, self.columns.outlines, self.columns.graders
        words = {"mask": {mask.partition("#")[0]}, "outlines": {outlines}}
        words["graders"] = {name.strip() for name in graders.split(",")} if "," in graders else {""}  # one name: a path
        header = header_of(table, self.layout) if mask or outlines or "," in graders else ()
        return {name for name, asked in words.items() if asked <= set(header)}

    def save(self, path: str | Path) -> Path:
        """Write as TOML."""
        from overread.core.files import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | Path, say: Callable[[str], None] = lambda line: None) -> Study:
        """Read a study file; unknown keys are refused, the nearest named. ``say`` hears of a file in the old form,
        without groups."""
        from overread.core.files import build, read_fields

        held, file = read_fields(path), Path(path).name
        old = [name for name in _GROUP_OF if name in held and (name == "recipe" or not isinstance(held[name], dict))]
        flat = {name: held.pop(name) for name in old}
        for name, value in flat.items():
            held[_GROUP_OF[name]] = {name: value, **held.get(_GROUP_OF[name], {})}
        unknown = [name for name in held if name != "table" and name not in _GROUPS]
        if unknown:
            raise InputError(
                f"{file} has an unknown key {unknown[0]!r}", todo=nearest(unknown[0], [*_GROUPS, *_GROUP_OF])
            )
        if flat:
            say(f"{file} was read in its old form, without groups such as [columns]; it will be written in groups")
        return build(cls, held, where=file)


#: The groups of a study by the names of its fields.
_GROUPS: dict[str, type] = {"columns": Columns, "images": Images, "split": SplitRule, "operating_point": OperatingRule,
                            "training": Training, "resources": Resources, "layout": Layout, "class_tree": ClassTree}  # fmt: skip
#: The group of each field. No two groups share a name.
_GROUP_OF = {name: group for group, kind in _GROUPS.items() for name in settings(kind)}
_PATHS = {name for kind in _GROUPS.values() for name, about in settings(kind).items() if about.path}


#: Seconds of each unit of time, by all the ways to write it; the longest first, in the order of a length of time.
_UNITS = {r"h(?:ours?|rs?)?": 3600, r"m(?:in(?:ute)?s?)?": 60, r"s(?:ec(?:ond)?s?)?": 1}
_LENGTH = re.compile("".join(rf"(?:(\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in _UNITS), re.IGNORECASE)


@checked
def seconds(text: str) -> float | None:
    """Seconds of ``90s``, ``15m`` or ``1h30m``; None for an empty text. Raises :class:`InputError` for a number without
    unit.

    >>> seconds("1h30m"), seconds("2 min")
    (5400.0, 120.0)
    """
    if not text:
        return None
    found = _LENGTH.fullmatch(text.strip())
    total = sum(float(n or 0) * unit for n, unit in zip(found.groups(), _UNITS.values())) if found else 0.0
    if total <= 0:
        bare = re.search(r"\d$", text.strip()) is not None and text.strip()[0].isdigit()
        what = "the budget needs a unit at its end" if bare else "the budget is not a length of time"
        todo = f"write {text.strip()}s, {text.strip()}m or {text.strip()}h" if re.fullmatch(r"[\d.]+", text.strip()) else "write 90s, 15m or 1h30m"  # fmt: skip
        raise InputError(what, given=f"--budget {text}", todo=todo)
    return total
