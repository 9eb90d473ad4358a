"""What each step of a run works with: the question, the folder with what stands in it, and ways to speak."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.audit.mask_checks import describe_masks
from overread.cases.cases import Cases
from overread.cases.class_tree import in_tree, with_classes
from overread.cases.privacy import codes, patient_codes
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import build, cache_folder, fingerprint, read_fields, read_json, unguarded, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.predictions import Predictions
from overread.study.question import Study
from overread.tasks.target import Target
from overread.tasks.taxonomy import Partition, Taxonomy, read_taxonomy

if TYPE_CHECKING:
    from overread.learning.model import Model

#: The training classes that were made of a study's labels.
PARTITION = "partition.json"
#: The tree that the classes of a run stand in.
TAXONOMY = "taxonomy.csv"

#: Seconds kept at the end of a budget for evaluation, maps, an index and the report.
CLOSING_SECONDS = 40.0


@dataclass(frozen=True, eq=False)
class RunContext:
    """What each step works with: the question, the folder, and ways to speak.

    ``closing``: the seconds of a budget that are kept for what comes after the predictions.
    """

    study: Study
    folder: Path
    cache: Path | None = None
    network: bool = True
    clock: Clock = field(default_factory=Clock)
    progress: Progress = silent
    say: Say = unheard
    table: Cases | None = None
    verbose: bool = False
    closing: float = CLOSING_SECONDS

    def cases(self) -> Cases:
        """All cases under the classes that are learned: those of ``partition.json`` where the labels were cut."""
        found, path, tree = self.labelled(), self.folder / PARTITION, self.study.class_tree
        if not tree.cuts or not path.exists():
            return found
        made = build(Partition, read_json(path), where=path.name)
        return with_classes(found, tree_of(self.study), made, self.study.columns.positive)

    def labelled(self) -> Cases:
        """All cases as the table labels them. Where ``cases.csv`` does not say all of it, the table is read again."""
        return self.table or self._cases

    @cached_property
    def _cases(self) -> Cases:
        saved = Cases.load(self.folder / "cases.csv")
        # the readers' answers are in no file of the run, and labels may stand there under their training classes
        if not (saved.salt or self.study.columns.graders or self.study.class_tree.cuts):
            return saved
        cases = cases_of(self.study, self.progress)
        if list(cases.table["case"]) != list(saved.table["case"]):
            raise InputError("the table has changed since the study began", given=self.study.table,
                             todo="start again from `overread audit`, in this folder or another")  # fmt: skip
        return cases

    @cached_property
    def _known(self) -> Cases | None:
        """The table as far as it is there; codes in place of names are no matter here."""
        path = self.folder / "cases.csv"
        return self.table or (Cases.load(path) if path.exists() else None)

    @property
    def dense(self) -> bool:
        """Whether the answer is an image in which objects are outlined."""
        return self._known is not None and self._known.target.task.dense

    @property
    def slides(self) -> bool:
        """Whether the images are slides, of which tiles are looked at."""
        return self._known is not None and self._known.slides

    def usable(self) -> Cases:
        """The cases without those that the audit or the split set aside."""
        return self.cases().drop(self._excluded())

    def usable_as_labelled(self) -> Cases:
        """The same, as the table labels them."""
        return self.labelled().drop(self._excluded())

    def _excluded(self) -> list[str]:
        return unguarded(pd.read_csv(self.folder / "excluded.csv", dtype=str, keep_default_na=False))["case"].tolist()

    def predictions(self, part: str) -> Predictions:
        """The predictions of one part."""
        return predictions_of(self.folder, part)

    def prints(self, cases: Cases) -> pd.DataFrame:
        """Fingerprints of the images; each file is read once, then known by path, size and time of change."""
        return take_fingerprints(cases, threads=self.study.resources.threads, progress=self.progress, cache=self.cache or cache_folder())  # fmt: skip

    def mask_digest(self, cases: Cases) -> str:
        """A hash of what the masks of these cases hold, blank where they have none; each is read once, as the images are."""
        if not cases.masks:
            return ""
        readable = (self.prints(cases)["error"] == "").to_numpy()
        held = describe_masks(cases, readable, threads=self.study.resources.threads, progress=self.progress, cache=self.cache or cache_folder())  # fmt: skip
        return fingerprint(held[["digest", "classes"]].to_numpy().tolist())

    def written(self, cases: Cases) -> frozenset[str]:
        """The cases with writing in their pixels, which may name a patient."""
        return frozenset(cases.table["case"][(self.prints(cases)["text"] > 0).to_numpy()])

    def done(self, step: str, key: str, *files: str) -> bool:
        """Whether this step was done with these inputs and its files are still there."""
        same = self.record().get("steps", {}).get(step, {}).get("key") == key
        return same and all((self.folder / file).exists() for file in files)

    def record(self) -> dict[str, Any]:
        """What ``record.json`` holds; an empty dict before the first step."""
        path = self.folder / "record.json"
        return read_json(path) if path.exists() else {}

    def note(self, step: str, key: str, took: float) -> None:
        """Write down that a step was done."""
        record = self.record()
        steps = {**record.get("steps", {}), step: {"key": key, "seconds": round(took, 1)}}
        write_json(self.folder / "record.json", {**record, "steps": steps})


@checked
def cases_of(study: Study, progress: Progress = silent) -> Cases:
    """The table of a study as cases. Raises :class:`InputError` naming what is wrong with it."""
    c, tree = study.columns, study.class_tree
    taxonomy = tree_of(study) if tree.taxonomy else None
    for level in filter(None, (*tree.judge_at, tree.label_at)):
        if taxonomy:
            taxonomy.nodes_at(level)
    cases = read_cases(
        study.table, image=c.image or None, label=c.label or None, labels=list(c.labels) or None, value=c.value or None,
        patient=c.patient or None, case=c.case or None, source=c.source or None, view=c.view or None, time=c.time or None,
        keep=[*c.keep_columns, *study.training.recipe.get("extra_inputs", ())], queries=[study.split.deploy_to], split=c.split or None, positive=[] if taxonomy else list(c.positive), subgroups=list(c.subgroups), names=c.names, salt=c.salt, where=c.where,
        labels_from=c.labels_from or None, key=c.key, planes=study.images.planes, progress=progress, graders=c.readers, consensus=c.consensus,
        layout=study.layout, derive=c.derive, mask=c.mask or None, pixel_size=c.pixel_size, outlines=c.outlines or None, slides=study.images.slides,
    )  # fmt: skip
    return in_tree(cases, taxonomy, positive=c.positive, cut=tree.cuts) if taxonomy else cases


@checked
def tree_of(study: Study) -> Taxonomy:
    """The tree that a study's classes stand in; its file may lie beside the table. Raises :class:`InputError` where it is none."""
    path = Path(study.class_tree.taxonomy)
    beside = Path(study.table).parent / path
    return read_taxonomy(beside if beside.exists() and not path.exists() else path)


@checked
def predictions_of(folder: Path, part: str) -> Predictions:
    """A run's predictions of one part, with the target that its table was prepared with."""
    return predictions_at(folder, folder / "predictions" / f"{part}.csv", part)


def predictions_at(folder: Path, path: Path, part: str = "tuning") -> Predictions:
    """The predictions in a file of a run's folder, with the target that its table was prepared with."""
    if not (folder / "cases.csv").exists():
        raise InputError("this folder is no run: it has no cases.csv", given=str(folder),
                         todo="give a run's folder, or a table of predictions")  # fmt: skip
    require_answers(folder, "what is asked")
    if not path.exists():
        raise InputError(f"the run has no predictions of its {part} part yet", given=str(folder),
                         todo=f"overread predict {folder}")  # fmt: skip
    return replace(Predictions.read(path), target=Cases.load(folder / "cases.csv").target)


@checked
def key_of(study: Study, progress: Progress = silent) -> pd.DataFrame:
    """Who is behind the codes of a study: ``code`` and ``patient code`` beside case, patient and image as named.

    Raises :class:`InputError` where names were kept.
    """
    salt = study.columns.salt
    if not salt:
        raise InputError("the run has no codes: its names were kept", given=f"names = {study.columns.names!r}")
    cases = cases_of(study.changed(names="keep", volumes="whole", point=(), side=0.0), progress)
    named = cases.table
    made = {
        "code": codes(named["case"], salt),
        "patient code": patient_codes(named["patient"], salt, cases.identifiers),
    }
    return pd.DataFrame({**made, **{name: named[name].to_numpy() for name in ("case", "patient", "image")}})


def refuse_seen(model: Model, test: Cases) -> None:
    """Raise :class:`UnsoundError` where the model has seen a patient of the test part."""
    if seen := model.has_seen(list(test.table["patient"].unique())):
        raise UnsoundError(
            f"the model has seen {count(seen, 'patient')} of the test part", todo="split again and train again"
        )


@checked
def outlines_objects(folder: Path) -> bool:
    """Whether a run, or a model, outlines objects; said by its files, without loading it. False where there is none."""
    file, about = _description(folder)
    held = about.get("target")
    return held is not None and build(Target, held, where=file).task.dense


@checked
def reads_slides(folder: Path) -> bool:
    """Whether a run, or a model, is one of slides; said by its files, without loading it. False where there is none."""
    return bool(_description(folder)[1].get("planes", {}).get("slides", False))


def _description(folder: Path) -> tuple[str, dict[str, Any]]:
    """The file that says what a run, or a model, is asked, and what it holds; nothing where there is none."""
    paths = (folder / "cases.target.json", folder / "model" / "model.json", folder / "model.json")
    return next(((path.name, read_fields(path)) for path in paths if path.exists()), ("", {}))


@checked
def require_images(folder: Path, what: str) -> None:
    """Refuse ``what`` asks for models that see whole images, such as ``overread similar``, of a run that outlines objects and of one of slides."""
    require_answers(folder, what)
    if reads_slides(folder):
        raise InputError(f"this run reads slides tile by tile, and {what} is of models that see whole images", given=folder.name,
                         todo="of slides there are: overread predict, evaluate, compare, readers, froc, grid, export --geojson, report and serve")  # fmt: skip


@checked
def require_answers(folder: Path, what: str) -> None:
    """Refuse ``what`` asks for one answer a case, such as ``overread similar``, of a run that outlines objects."""
    if outlines_objects(folder):
        raise InputError(f"this run outlines objects in images, and {what} is of models that give an answer to each case", given=folder.name,
                         todo="of outlines there are: overread predict, evaluate, compare, measure, export --labels, report and serve")  # fmt: skip


@checked
def recipe_of(study: Study) -> Any:
    """The recipe of a study: its fields over the defaults, with the study's seed."""
    from overread.learning.recipe import Recipe

    return build(Recipe, {**study.training.recipe, "seed": study.training.seed}, where="the study's recipe")
