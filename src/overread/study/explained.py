"""Where the model of a run looked: which of its cases are shown, by which methods, and the files of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import InputError, checked, require
from overread.core.files import read_rows, write_rows
from overread.core.phrases import count
from overread.explanation.checks.criteria import judge_methods
from overread.explanation.checks.regions import RegionShare
from overread.explanation.explain import explanations
from overread.explanation.filters import show_filters
from overread.explanation.map_files import LIST, MapEntry, keep_map, read_entries, write_entries
from overread.explanation.verdict import Criterion
from overread.learning.inputs import new_cases
from overread.learning.model import Model
from overread.learning.predict import load_model
from overread.reporting.gallery import errors_beside_correct
from overread.reporting.run import read_run
from overread.study.context import RunContext
from overread.tasks.target import Target

#: The methods of a run that names none: the one that most people know, and the plainest one.
METHODS = ("grad-cam", "gradient")
#: Cases that are shown where none is named.
SAMPLE = 8


@dataclass(frozen=True)
class Wish:
    """What maps are asked for.

    ``named``: cases of the run, or paths of images that are not in it; without them ``sample`` cases of a ``part``, of
    which half are the surest errors and half correct ones beside them. ``checks``: see
    :func:`overread.explanation.explain.explain`; of the first ``checked`` cases, 0 for all. ``masks``: the column
    with the addresses of masks, against which the place of each map is checked.
    """

    named: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    target: str = ""
    layer: str = ""
    sample: int = SAMPLE
    part: str = "test"
    views: int = 1
    checks: bool = True
    seed: int = 0
    checked: int = 0
    masks: str = ""

    def __post_init__(self) -> None:
        require(self.sample >= 1, "at least one case is shown", given=self.sample)
        require(self.checks or not self.masks, "masks are held against maps by the checks, which are left out", given=self.masks, todo="leave out --no-checks")  # fmt: skip
        require(self.part in ("test", "tuning"), "cases are shown of the part test or tuning", given=repr(self.part))


@dataclass(frozen=True)
class Explained:
    """The maps that were made, in the order of the cases, and what was found on tuning cases, where methods were judged.

    ``methods``: what they are worth; ``regions``: how much of their maps lies where no finding can be.
    """

    maps: tuple[MapEntry, ...]
    methods: tuple[Criterion, ...] = ()
    regions: tuple[RegionShare, ...] = ()


@checked
def explain_run(context: RunContext, wish: Wish, home: Path | None = None) -> Explained:
    """Make maps of a run's cases and write ``explanations/maps.json`` and their pictures.

    They are written into ``home``, by default the run's folder.

    Maps of an earlier call stay beside the new ones while the model is the same. To show cases of the test part is no look
    at it: the errors that the report shows are shown, and where the test part was not judged yet, cases of the tuning part.
    Raises :class:`InputError` for a case that is not there, and where no image can be read.
    """
    began, model, home = context.clock.elapsed, load_model(context.folder), home or context.folder
    cases, targets = _chosen(context, model, wish)
    written = context.written(cases)
    errors: dict[int, str] = {}
    made: list[MapEntry] = []
    settings: dict[str, Any] = {"targets": wish.target or targets, "methods": wish.methods, "layer": wish.layer, "views": wish.views, "seed": wish.seed,
                                "device": context.study.resources.device, "threads": context.study.resources.threads,
                                "progress": context.progress, "say": context.say}  # fmt: skip
    names = cases.table["case"]
    held = names.isin(names.drop_duplicates().head(wish.checked or len(names)) if wish.checks else ()).to_numpy()
    for checks, rows in ((True, np.flatnonzero(held)), (False, np.flatnonzero(~held))):
        unread: dict[int, str] = {}
        masks = wish.masks if checks else ""
        maps = explanations(model, cases.take(rows), checks=checks, masks=masks, errors=unread, **settings) if len(rows) else ()  # fmt: skip
        made += [keep_map(found, home, withheld=found.case in written) for found in maps]
        errors.update({int(rows[row]): reason for row, reason in unread.items()})
    _tell(context, cases, errors, written)
    if not made:
        raise InputError("none of the images can be read", given=next(iter(errors.values()), "an empty table"))
    same = home != context.folder or context.done("maps", model.digest, LIST)
    kept, new = (read_entries(home) if same else ()), {entry.key for entry in made}
    write_entries(home, [*made, *(entry for entry in kept if entry.key not in new)])
    if home == context.folder:
        context.note("maps", model.digest, context.clock.elapsed - began)
    judged = home / "explanations"
    return Explained(
        tuple(made), read_rows(Criterion, judged / "methods.json"), read_rows(RegionShare, judged / "regions.json")
    )


@checked
def judge_run(
    context: RunContext, wish: Wish, most: int, masks: str = "", home: Path | None = None
) -> tuple[tuple[Criterion, ...], tuple[RegionShare, ...]]:
    """Judge methods on at most ``most`` tuning cases, one of each patient first: ``methods.json`` and ``regions.json``.

    Tuning cases, because who reads the table chooses a method by it. ``masks``: see
    :func:`overread.explanation.checks.criteria.sample_cases`. What was known of other methods stays.
    """
    folder, model, resources = (
        (home or context.folder) / "explanations",
        load_model(context.folder),
        context.study.resources,
    )
    usable = context.usable()
    tuning = set(context.predictions("tuning").table["case"])
    cases = usable.take(np.flatnonzero(usable.table["case"].isin(tuning)))
    criteria, regions = judge_methods(
        model, cases, methods=wish.methods, target=wish.target, masks=masks, most=most, seed=wish.seed,
        device=resources.device, threads=resources.threads, progress=context.progress, say=context.say,
    )  # fmt: skip
    for name, kind, rows in (("methods.json", Criterion, criteria), ("regions.json", RegionShare, regions)):
        before = read_rows(kind, folder / name)
        write_rows(folder / name, [*rows, *(row for row in before if row.method not in wish.methods)])
    return criteria, regions


@checked
def filters_of_run(
    context: RunContext, layer: str = "", units: tuple[int, ...] = (), home: Path | None = None
) -> list[Path]:
    """Write the filters of a run's model, and the patches of its training images that excite its units most."""
    cases, resources = context.usable(), context.study.resources
    training = cases.only(Split.load(context.folder / "split.csv"), "train")
    written = context.written(training)
    if written:
        context.say(f"  {count(len(written), 'case')} with writing burned in are left out: no patch shows a name")
        training = training.take(np.flatnonzero(~training.table["case"].isin(written)))
    return show_filters(
        load_model(context.folder), training, (home or context.folder) / "explanations" / "filters", layer=layer, units=units,
        device=resources.device, threads=resources.threads, progress=context.progress, say=context.say,
    )  # fmt: skip


def _chosen(context: RunContext, model: Model, wish: Wish) -> tuple[Cases, dict[str, str]]:
    """The cases to show, and the class that each was called where that is known."""
    if wish.named:
        return _named(context, model, wish.named), {}
    gallery = read_run(context.folder).gallery
    if wish.part == "test" and gallery:
        rows = pd.DataFrame([asdict(entry) for entry in gallery])
    else:
        if wish.part == "test":
            context.say("  the test part was not judged yet, and stays closed: maps of cases of the tuning part")
        rows = errors_beside_correct(context.predictions("tuning"), count=wish.sample)
    if rows.empty:
        raise InputError("there is no case to show: no labelled case was predicted", given=wish.part, todo="name cases: overread explain RUN CASE")  # fmt: skip
    taken = _errors_and_correct(rows, wish.sample)
    if len(taken) < wish.sample and len(rows) <= len(taken):
        context.say(f"  {count(len(taken), 'case')}: as many as the report shows" if wish.part == "test" else f"  {count(len(taken), 'case')}")  # fmt: skip
    usable = context.usable()
    order = {case: place for place, case in enumerate(taken["case"])}
    where = usable.table["case"].map(order)
    cases = usable.take(np.argsort(where.fillna(len(order)).to_numpy(), kind="stable")[: int(where.notna().sum())])
    called = {row["case"]: called_of(model.target, str(row["predicted"])) for row in taken.to_dict("records")}
    return cases, called


def _errors_and_correct(rows: pd.DataFrame, many: int) -> pd.DataFrame:
    """The first ``many`` of the errors and the correct cases in turn."""
    correct = rows["correct"].astype(bool)
    rank = correct.groupby(correct).cumcount()
    return rows.assign(_rank=rank, _late=correct).sort_values(["_rank", "_late"], kind="stable").head(many)


@checked
def called_of(target: Target, predicted: str) -> str:
    """The class or finding that a call names, in the words of the gallery; of two classes ``not p`` is the other one.

    Blank where no single one is named: of several positive classes, and of a quantity.

    >>> called_of(Target("binary", ("n", "p"), ("p",)), "not p")
    'n'
    """
    if predicted in target.names:
        return predicted
    denied = next((word for word in ("not ", "no ") if predicted.startswith(word)), "")
    named = predicted.removeprefix(denied)
    if not denied or named not in target.names:
        return ""
    if target.task.multilabel:
        return named
    others = [name for name in target.names if name != named]
    return others[0] if len(others) == 1 else ""


def _named(context: RunContext, model: Model, named: Sequence[str]) -> Cases:
    """Cases of the run by their names or codes, and images elsewhere by their paths; all of one kind."""
    paths = [name for name in named if Path(name).exists()]
    if not paths:
        cases = context.cases()
        found = [cases[name] for name in named]
        return replace(cases, table=pd.concat([each.table for each in found], ignore_index=True))
    if len(paths) < len(named):
        other = next(name for name in named if name not in paths)
        raise InputError("paths of images and cases of the run are explained apart", given=f"{other} is no path", todo="call it twice")  # fmt: skip
    parts = [new_cases(model, path, progress=context.progress) for path in paths]
    tables, known = [], set[str]()
    for place, part in enumerate(parts, start=1):
        table = part.table.assign(image=[str(Path(part.root) / image) for image in part.table["image"]])
        if known & set(table["case"]):  # a/x.png and b/x.png are two
            table = table.assign(case=table["case"] + f" ({place})", patient=table["patient"] + f" ({place})")
        known |= set(table["case"])
        tables.append(table)
    return replace(parts[0], table=pd.concat(tables, ignore_index=True), root="")


def _tell(context: RunContext, cases: Cases, errors: dict[int, str], written: frozenset[str]) -> None:
    for row, reason in list(errors.items())[:3]:
        context.say(f"  {cases.table['case'].iloc[row]}: an image cannot be read ({reason})")
    if len(errors) > 3:
        context.say(f"  and {count(len(errors) - 3, 'image')} more")
    if written:
        context.say(f"  {count(len(written), 'case')} with writing in the pixels, which may name a patient: their maps stand on grey")  # fmt: skip
