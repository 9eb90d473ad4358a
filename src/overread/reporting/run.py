"""What a run folder holds, typed and read once; a stage that has not run leaves its part empty."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import build, read_fields, read_json, read_rows
from overread.evaluation.curves import AbstentionCurve, ConformalCoverage, Curves, ReaderPoint
from overread.evaluation.decision.class_decision import load_frozen
from overread.evaluation.evaluate import Evaluation, Provenance
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
from overread.evaluation.ledger import is_declaration, verify
from overread.evaluation.metrics import shown
from overread.evaluation.operating_point import AT_POINT, OperatingPoint
from overread.evaluation.results import Cohort, Content, Tally, from_file_form
from overread.explanation.checks.regions import RegionShare
from overread.explanation.map_files import LIST, MapEntry
from overread.explanation.verdict import Criterion
from overread.reporting import words
from overread.reporting.case_rows import AuditPicture, GalleryEntry, NeighbourRow, OverlayEntry, SizeRow
from overread.stats.estimate import Estimate
from overread.tasks.classes import Classes
from overread.tasks.target import Target
from overread.tasks.task import Task
from overread.tasks.taxonomy import Partition

# -- what the files of the stages hold, as far as pages tell it ---------------------------------------------------


@dataclass(frozen=True)
class StudyFile(Content):
    """What ``study.toml`` asks; ``fields``: all that it holds, in its order."""

    table: str = ""
    label: str = ""
    labels: tuple[str, ...] = ()
    value: str = ""
    patient: str = ""
    source: str = ""
    subgroups: tuple[str, ...] = ()
    where: str = ""
    labels_from: str = ""
    graders: str = ""
    consensus: str = ""
    names: str = ""
    test: float = 0.0
    tuning: float = 0.0
    deploy_to: str = ""
    leave_out: str = ""
    by_time: bool = False
    rule: str = ""
    sensitivity: float = 0.0
    specificity: float = 0.0
    cost: float = 0.0
    prevalence: float = 0.0
    margin: float = 0.0
    margin_of: str = "auc"
    despite: tuple[str, ...] = ()
    budget: str = ""
    fields: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Step:
    """A step of the run: the hash of its inputs."""

    key: str = ""


@dataclass(frozen=True)
class RecordFile(Content):
    """``record.json``: what it takes to run this again."""

    command: str = ""
    started: str = ""
    seed: int | None = None
    cases_digest: str = ""
    seconds: float = math.nan
    steps: dict[str, Step] = field(default_factory=dict, hash=False)
    hardware: dict[str, Any] = field(default_factory=dict, hash=False)
    versions: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class AuditFinding:
    """A finding of the audit."""

    message: str
    kind: str = ""
    severity: str = ""
    advice: str = ""
    count: int | None = None


@dataclass(frozen=True)
class AuditCounts(Content, Tally):
    """Images and patients of the whole table, by class and by source."""

    labelled: int = 0
    classes: dict[str, Tally] = field(default_factory=dict, hash=False)
    sources: dict[str, Tally] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ShortcutArea:
    """The AUC of the label told from something that is not anatomy."""

    auc: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Shortcut(Content, ShortcutArea):
    """The same from all that is not anatomy together, then from each; of slides some may tell it because they show the disease."""

    verdict: str = ""
    may_be_the_disease: tuple[str, ...] = ()
    by_feature: dict[str, ShortcutArea] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class AuditFile(Content):
    """``audit.json``."""

    findings: tuple[AuditFinding, ...] = ()
    counts: AuditCounts = AuditCounts()
    shortcut: Shortcut = Shortcut()
    excluded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PartCounts(Tally):
    """A part of the split, with the images of each class."""

    class_images: dict[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SplitProof(Content):
    """What was counted in the finished split."""

    patients_shared: int | None = None
    duplicate_groups_shared: int | None = None
    groups: int | None = None
    largest_group: int | None = None
    checked: str = ""
    parts: dict[str, PartCounts] = field(default_factory=dict, hash=False)
    left_out: dict[str, int] = field(default_factory=dict, hash=False)
    warnings: tuple[str, ...] = ()
    given: bool = False
    digest: str = ""


@dataclass(frozen=True)
class SplitFile(Content):
    """``split.proof.json``."""

    method: str = ""
    seed: int | None = None
    proof: SplitProof = SplitProof()


@dataclass(frozen=True)
class Undecided:
    """Cases without a label among several readers."""

    tied: int = 0
    no_answer: int = 0


@dataclass(frozen=True)
class AgreementFile(Content):
    """``agreement.json``: the readers who made the labels, and how far they agree."""

    readers: tuple[str, ...] = ()
    cases: int = 0
    answers: int = 0
    rule: str = ""
    questions: tuple[str, ...] = ()
    undecided: Undecided = Undecided()
    estimates: tuple[Estimate, ...] = ()


@dataclass(frozen=True)
class Backbone:
    """The network and its initial weights."""

    name: str = ""
    parameters: int | None = None
    pretrained: bool = False
    licence: str = ""
    weights_source: str = ""


@dataclass(frozen=True)
class RecipeDecision:
    """What was chosen for the user, and why."""

    what: str = ""
    choice: str = ""
    why: str = ""


@dataclass(frozen=True)
class ModelFile(Content):
    """``model.json``; ``recipe`` and ``preprocess`` hold every field by its name."""

    backbone: Backbone = Backbone()
    recipe: dict[str, Any] = field(default_factory=dict, hash=False)
    preprocess: dict[str, Any] = field(default_factory=dict, hash=False)
    target: Target | None = None
    seen: tuple[str, ...] = ()
    salt: str = ""
    decisions: tuple[RecipeDecision, ...] = ()
    shares: tuple[float, ...] = ()  # of the networks of an ensemble


@dataclass(frozen=True)
class TrainingRow:
    """An epoch of a network, or a penalty that was tried for a linear head."""

    epoch: float = math.nan
    train_loss: float = math.nan
    tuning_loss: float = math.nan
    tuning_score: float = math.nan
    penalty: float = math.nan
    held_out_loss: float = math.nan
    chosen: bool = False


@dataclass(frozen=True)
class RungRow:
    """A rung of the ladder that training climbed, as ``ladder.json`` holds it."""

    name: str = ""
    what: str = ""
    began: float = math.nan
    seconds: float = math.nan
    score: float = math.nan
    low: float = math.nan
    high: float = math.nan
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan
    taken: bool = False
    why: str = ""
    judged: str = ""


@dataclass(frozen=True)
class LedgerEntry:
    """A look at the test set, or a declaration, of ``ledger.jsonl``."""

    entry: int | None = None
    when: str = ""
    kind: str = "look"
    model: str = ""
    predictions: str = ""


@dataclass(frozen=True)
class LevelFile(Content):
    """``level.json`` of a folder of ``evaluation/levels/``."""

    level: str = ""
    target: Target | None = None


@dataclass(frozen=True)
class PatientGroup:
    """Who of a group is in each part of the split."""

    column: str
    group: str
    parts: dict[str, Tally] = field(hash=False)


#: The evaluation of a run that has none.
NOT_JUDGED = Evaluation(())

# -- the whole run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """The stored results of a run; empty where a file is missing."""

    folder: Path
    target: Target | None = None
    evaluation: Evaluation = NOT_JUDGED
    study: StudyFile = StudyFile()
    record: RecordFile = RecordFile()
    notes: tuple[str, ...] = ()
    audit: AuditFile = AuditFile()
    excluded: tuple[tuple[str, int], ...] = ()  # reason, cases
    split: SplitFile = SplitFile()
    characteristics: tuple[PatientGroup, ...] = ()
    agreement: AgreementFile = AgreementFile()  # of the readers who made the labels
    model: ModelFile = ModelFile()
    history: tuple[TrainingRow, ...] = ()
    rungs: tuple[RungRow, ...] = ()
    folds: tuple[Estimate, ...] = ()  # of the cross-validation, all of it and each fold
    partition: Partition | None = None  # training classes out of a tree
    levels: tuple[tuple[str, Run], ...] = ()  # the same predictions at coarser levels of it, the finest first
    gallery: tuple[GalleryEntry, ...] = ()
    maps: tuple[MapEntry, ...] = ()
    methods: tuple[Criterion, ...] = ()
    regions: tuple[RegionShare, ...] = ()
    neighbours: tuple[NeighbourRow, ...] = ()
    audit_pictures: tuple[AuditPicture, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
    looks: int | None = None  # of the ledger's entries
    broken_ledger: str = ""  # why it cannot be trusted
    outlines: InstanceEvaluation | None = None  # of objects, where these were outlined
    overlays: tuple[OverlayEntry, ...] = ()
    sizes: tuple[SizeRow, ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the test set."""
        return self.evaluation.estimates

    def estimate(self, metric: str, of: str = "", where: dict[str, str] | None = None) -> Estimate | None:
        """The stored estimate, or None."""
        wanted = (metric, of, where or {})
        return next((e for e in self.estimates if (e.metric, e.of, e.where) == wanted), None)

    def known(self, metric: str, of: str = "") -> Estimate | None:
        """The stored estimate, unless it is undefined."""
        found = self.estimate(metric, of)
        return None if found is None or found.undefined else found

    @property
    def errors(self) -> tuple[GalleryEntry, ...]:
        """The most confident errors of the gallery."""
        return tuple(entry for entry in self.gallery if not entry.correct)

    @property
    def operating(self) -> tuple[OperatingPoint, ...]:
        """The operating points that were frozen on tuning data."""
        return self.evaluation.operating

    @property
    def judged(self) -> bool:
        """Whether there is an evaluation with what its figures draw."""
        return bool(self.evaluation.about.predictions)

    @property
    def place(self) -> str:
        """The folder as a command would name it."""
        return str(self.folder if not self.folder.is_absolute() else self.folder.name)

    @property
    def task(self) -> Task:
        """What is asked of an image; to tell no classes apart, before there is a table of cases."""
        return self.target.task if self.target else Classes(())

    @property
    def names(self) -> tuple[str, ...]:
        """Classes, findings, or the quantity's name."""
        return self.task.names

    @property
    def primary(self) -> str:
        """The key of the curve that matters most, ``""`` where none does."""
        return self.evaluation.primary

    def called(self, of: str) -> str:
        """A class, a finding or the positive group in words."""
        return words.group(of, self.names)

    @property
    def size(self) -> str:
        """How many images of how many patients were judged."""
        counts = self.evaluation.counts
        return words.size(counts.images, counts.patients) if self.judged else words.size(None, None)

    @property
    def level(self) -> float:
        """The level of the intervals, such as 0.95."""
        return self.evaluation.about.level

    @property
    def curve(self) -> Curves:
        """The primary curve, or an empty one."""
        return self.evaluation.curves.get(self.primary, Curves())

    def chosen(self, part: str) -> list[tuple[str, Curves]]:
        """What a figure of ``part`` shows: the primary curve alone, or every one in which it is defined."""
        found = {self.primary: self.curve} if self.primary else self.evaluation.curves
        return [(of, curve) for of, curve in found.items() if getattr(curve, part)]

    @cached_property
    def conformal(self) -> ConformalCoverage:
        """What sets or intervals of answers hold, where they were made."""
        return from_file_form(ConformalCoverage, self.evaluation.more.get("conformal", {}), where="curves.json")  # type: ignore[no-any-return]

    @cached_property
    def abstention(self) -> dict[str, AbstentionCurve]:
        """The curves of errors among the cases answered, by class or finding; those that are undefined are left out."""
        held = self.evaluation.more.get("abstention", {})
        held = {} if "undefined" in held else held
        found = {of: from_file_form(AbstentionCurve, curve, where="curves.json") for of, curve in held.items()}
        return {of: curve for of, curve in found.items() if curve}

    @cached_property
    def readers(self) -> tuple[ReaderPoint, ...]:
        """Readers who were added to the evaluation, beside the model on its ROC curve."""
        held = self.evaluation.more.get("readers", [])
        return tuple(from_file_form(ReaderPoint, reader, where="curves.json") for reader in held)


@checked
def shown_metrics(run: Run) -> list[tuple[str, str]]:
    """The (metric, of) pairs that stand for the run, at most four."""
    if run.task.dense:
        return [(m.name, "") for m in shown("outlines top") if run.estimate(m.name)]
    if run.primary and run.estimate("auc", run.primary):
        return [(m.name, run.primary) for m in shown("subgroups", ("question",)) if run.estimate(m.name, run.primary)]
    names = [m.name for m in shown("subgroups", ("all", "quantity"))]
    return [(m, of) for m in names for of in ("", *run.names[:1]) if run.estimate(m, of)][:3]


@checked
def subgroups(run: Run) -> list[tuple[str, str]]:
    """(column, value) of every subgroup for which something is stored, in the order of the file."""
    found = [next(iter(e.where.items())) for e in run.estimates
             if len(e.where) == 1 and AT_POINT not in e.where and not e.metric.endswith(" gap")]  # fmt: skip
    return list(dict.fromkeys(found))


@checked
def compared_metrics(run: Run) -> list[tuple[str, str]]:
    """The (metric, of) pairs by which subgroups were set against each other: those that are shown, else any; at most three."""
    found = dict.fromkeys((gap.metric, gap.of) for gap in run.evaluation.gaps)
    return ([pair for pair in shown_metrics(run) if pair in found] or list(found))[:3]


# -- reading ------------------------------------------------------------------------------------------------------


@checked
def read_evaluation(folder: str | os.PathLike[str], target: Target) -> Run:
    """Read a folder with ``metrics.json``, ``operating.json`` and ``curves.json`` alone, of a ``target``.

    Raises InputError if one of them is damaged.
    """
    folder = Path(folder)
    return Run(folder, target, _evaluation(folder))


@checked
def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run folder. Raises InputError if it does not exist or one of its files is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("there is no such run folder", given=str(folder), todo="check the path")
    model = _typed(ModelFile, folder / "model/model.json")
    cases = _table(folder / "cases.target.json")
    target = build(Target, cases["target"], where="the target of the run") if "target" in cases else model.target
    audit = _typed(AuditFile, folder / "audit.json")
    ledger, looks, broken = _looks(folder / "ledger.jsonl")
    outlines = _outlines(folder / "evaluation")
    return Run(
        folder, target, _judged_outlines(outlines) if outlines else _evaluation(folder / "evaluation"), _study(folder / "study.toml"),
        _typed(RecordFile, folder / "record.json"), tuple(map(str, cases.get("notes", ()))), audit,
        _excluded(folder / "excluded.csv", audit), _typed(SplitFile, folder / "split.proof.json"),
        _characteristics(folder / "characteristics.json"), _typed(AgreementFile, folder / "agreement.json"), model,
        _rows(TrainingRow, folder / "model/history.json"), _rows(RungRow, folder / "model/ladder.json"),
        _evaluation(folder / "evaluation/folds").estimates, _partition(folder / "partition.json"), _levels(folder / "evaluation/levels"), _rows(GalleryEntry, folder / "explanations/gallery.json"),
        _rows(MapEntry, folder / LIST), _rows(Criterion, folder / "explanations/methods.json"),
        _rows(RegionShare, folder / "explanations/regions.json"),
        _rows(NeighbourRow, folder / "index/neighbours.json"), _rows(AuditPicture, folder / "explanations/audit.json"),
        ledger, looks, broken, outlines, _rows(OverlayEntry, folder / "overlays/overlays.json"), _rows(SizeRow, folder / "overlays/sizes.json"),
    )  # fmt: skip


def _outlines(folder: Path) -> InstanceEvaluation | None:
    """What is there of an evaluation of outlines."""
    return InstanceEvaluation.load(folder) if (folder / InstanceEvaluation.file).exists() else None


def _judged_outlines(found: InstanceEvaluation) -> Evaluation:
    """What an evaluation of outlines shares with every other."""
    about, counts = found.about, found.counts
    return Evaluation(
        found.estimates, counts=Cohort(images=counts.images, patients=counts.patients, sources=counts.sources), looks=found.looks,
        about=Provenance(about.ledger, about.model, about.predictions, about.level, about.seed, about.resamples, seen=about.seen, notes=about.notes),
        gaps=found.gaps, heterogeneity=found.heterogeneity,
    )  # fmt: skip


def _evaluation(folder: Path) -> Evaluation:
    """What is there of an evaluation: any of its files may be missing."""
    path, points = folder / "metrics.json", folder / "operating.json"
    metrics = _list(path)
    found = Evaluation.restored(_table(folder / "curves.json"), metrics)
    return found.at(load_frozen(points)) if points.exists() else found


def _levels(home: Path) -> tuple[tuple[str, Run], ...]:
    """The evaluations at levels of a tree; those of many classes first."""
    files = [(_typed(LevelFile, path), path.parent) for path in sorted(home.glob("*/level.json"))]
    found = [(file.level, read_evaluation(folder, file.target)) for file, folder in files if file.target]
    return tuple(sorted(found, key=lambda each: (-len(each[1].names), each[0])))


def _partition(path: Path) -> Partition | None:
    return from_file_form(Partition, _table(path), where=path.name) if path.exists() else None


def _typed(kind: type, path: Path) -> Any:
    return from_file_form(kind, _table(path), where=path.name)


def _rows(kind: type, path: Path) -> tuple[Any, ...]:
    return read_rows(kind, path, by=from_file_form)


def _table(path: Path) -> dict[str, Any]:
    return read_fields(path) if path.exists() else {}


def _list(path: Path) -> list[Any]:
    value = read_json(path) if path.exists() else []
    if not isinstance(value, list):
        raise InputError(f"{path.name} does not hold a list of tables", given=type(value).__name__)
    return value


def _study(path: Path) -> StudyFile:
    """The fields of a study file by their names, out of the groups that they stand in; no two groups share a name."""
    held = _table(path)
    groups = [name for name, value in held.items() if isinstance(value, dict) and name != "recipe"]
    flat = {k: v for k, v in held.items() if k not in groups} | {k: v for name in groups for k, v in held[name].items()}
    return from_file_form(StudyFile, {**flat, "fields": flat}, where=path.name)  # type: ignore[no-any-return]


def _characteristics(path: Path) -> tuple[PatientGroup, ...]:
    try:
        return _rows(PatientGroup, path)
    except InputError as error:
        raise InputError("characteristics.json is damaged", todo="run `overread split` again") from error


def _excluded(path: Path, audit: AuditFile) -> tuple[tuple[str, int], ...]:
    """Reasons with their numbers of cases. What stands after a colon differs from case to case and is dropped."""
    if path.exists():
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reasons = [row.get("reason") or "no reason given" for row in csv.DictReader(handle)]
    else:
        reasons = [reason for _, reason in audit.excluded]
    return tuple(Counter(reason.split(":")[0].strip() for reason in reasons).most_common())


def _looks(path: Path) -> tuple[tuple[LedgerEntry, ...], int | None, str]:
    """The entries of a ledger, how many of them are looks, and why it cannot be trusted."""
    if not path.exists():
        return (), None, ""
    try:
        entries = verify(path)
    except UnsoundError as error:
        lines = path.read_text("utf-8", "replace").splitlines()
        return (), sum(map(bool, map(str.strip, lines))), str(error)
    held = tuple(from_file_form(LedgerEntry, entry, where=path.name) for entry in entries)
    return held, sum(not is_declaration(entry) for entry in entries), ""
