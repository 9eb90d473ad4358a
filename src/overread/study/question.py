"""The question of a study: what ``study.toml`` holds, and the table that it asks about."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.cases import Cases, Planes
from overread.cases.grades import RULES
from overread.cases.pseudonyms import codes
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import InputError, checked, one_of, require
from overread.core.files import build, load, save
from overread.core.progress import Progress, silent
from overread.evaluation.comparison.claims import Declaration, declare
from overread.evaluation.operating_point import OperatingPoint, choose_thresholds
from overread.predictions import Predictions


@dataclass(frozen=True)
class Study:
    """The question, with every default filled in: what ``study.toml`` holds.

    ``table``: CSV, TSV, Parquet, ``.npz`` or a folder of class folders. Columns by name; empty means guessed.
    ``labels``: columns of several findings. ``positive``: classes that count as disease. ``test`` and ``tuning``:
    shares of the patients. ``budget``: wall-clock time of the whole run, such as ``15m``. ``rule``: how the operating
    point is chosen on tuning data; ``sensitivity``/``specificity`` fix it instead (0: not fixed). ``names``: ``hash``
    puts codes, made with ``salt``, in the place of cases and patients; ``keep`` leaves names that identify nobody.
    ``where``: a query for
    the rows to take. ``labels_from`` and ``key``: labels for DICOM files. ``volumes``, ``point`` and ``side``: what is looked at in volumes.
    ``cost``: how much worse a missed case is than a false alarm (0: not used). ``prevalence`` where the model will be used
    (0: that of the test set). ``graders``: a table of several readers' answers, or two columns or more of ``table``,
    separated by commas, made one label by ``consensus``. ``margin`` of non-inferiority in ``margin_of`` (auc, sensitivity
    or specificity; of one class: ``sensitivity:melanoma``), written to the ledger before the test set is opened.
    """

    table: str
    image: str = ""
    label: str = ""
    labels: tuple[str, ...] = ()
    value: str = ""
    patient: str = ""
    case: str = ""
    source: str = ""
    view: str = ""
    time: str = ""
    split: str = ""
    subgroups: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    test: float = 0.2
    tuning: float = 0.1
    deploy_to: str = ""
    leave_out: str = ""
    by_time: bool = False
    keep_given: bool = True
    rule: str = "youden"
    sensitivity: float = 0.0
    specificity: float = 0.0
    weights: str = ""
    budget: str = ""
    device: str = ""
    threads: int = 0
    seed: int = 0
    names: str = "hash"
    salt: str = ""
    where: str = ""
    labels_from: str = ""
    key: str = ""
    volumes: str = "whole"
    point: tuple[str, ...] = ()
    side: float = 0.0
    cost: float = 0.0
    prevalence: float = 0.0
    graders: str = ""
    consensus: str = "majority"
    margin: float = 0.0
    margin_of: str = "auc"
    recipe: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        require(0 < self.test < 1 and 0 < self.tuning < 1 and self.test + self.tuning < 1,
                "test and tuning must be shares that leave something to train on", given=f"{self.test} and {self.tuning}")  # fmt: skip
        require(self.seed >= 0, "seed must not be negative", given=self.seed)
        require(self.threads >= 0, "threads must not be negative", given=self.threads)
        seconds(self.budget)
        self._require_asked()
        _ = self.planes

    def _require_asked(self) -> None:
        """Refuse numbers out of range, and two ways of choosing the operating point at once, before anything is read."""
        for name in ("sensitivity", "specificity", "prevalence", "margin"):
            value = getattr(self, name)
            most = value <= 1 if name in ("sensitivity", "specificity") else value < 1
            require(value >= 0 and most, f"{name} must lie between 0 and 1", given=value)
        require(
            0 <= self.cost < float("inf"),
            "cost says how much worse a missed case is than a false alarm: a positive number",
            given=self.cost,
        )
        fixed = [name for name in ("sensitivity", "specificity", "cost") if getattr(self, name)]
        require(
            len(fixed) < 2,
            "the operating point is chosen in one way",
            given=" and ".join(fixed),
            todo="give one of sensitivity, specificity and cost",
        )
        one_of(self.consensus, RULES, "consensus")
        Declaration.read(self.margin or 0.1, self.margin_of)
        labels = [name for name in ("label", "labels", "value", "graders") if getattr(self, name)]
        require(len(labels) < 2, "labels come from one place", given=" and ".join(labels), todo="give one of label, labels, value and graders")  # fmt: skip

    @property
    def planes(self) -> Planes:
        """What is looked at in volumes."""
        return Planes(self.volumes, self.point, self.side)

    def save(self, path: str | Path) -> Path:
        """Write as TOML."""
        return save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study file; unknown keys are refused, the nearest named."""
        return load(cls, path)


@checked
def seconds(text: str) -> float | None:
    """Seconds of ``90s``, ``15m``, ``1h30m`` or a bare number of seconds; None for an empty text.

    >>> seconds("1h30m")
    5400.0
    """
    if not text:
        return None
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    total = sum(float(n or 0) * unit for n, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0.0
    if total <= 0:
        raise InputError("the budget is not a length of time", given=repr(text), todo="write 90s, 15m or 1h30m")
    return total


@checked
def opened(study: Study, folder: Path, progress: Progress = silent) -> tuple[Study, Cases]:
    """The study and its table. The salt is the one that the folder knows, else that of the table: rows that are added
    later leave the codes of the others as they are."""
    path = folder / "study.toml"
    if not study.salt and path.exists():
        study = replace(study, salt=Study.load(path).salt)
    cases = table_of(study, progress)
    return replace(study, salt=cases.salt), cases


@checked
def table_of(study: Study, progress: Progress = silent) -> Cases:
    """The table of a study as cases. Raises :class:`InputError` naming what is wrong with it."""
    return read_cases(
        study.table, image=study.image or None, label=study.label or None, labels=list(study.labels) or None,
        value=study.value or None, patient=study.patient or None, case=study.case or None, source=study.source or None,
        view=study.view or None, time=study.time or None, split=study.split or None, positive=list(study.positive),
        subgroups=list(study.subgroups), names=study.names, salt=study.salt,
        where=study.where, labels_from=study.labels_from or None, key=study.key, planes=study.planes, progress=progress,
        graders=graders_of(study), consensus=study.consensus,
    )  # fmt: skip


@checked
def graders_of(study: Study) -> str | tuple[str, ...] | None:
    """The path of the table of answers, or the columns of the study's table that readers answered in.

    >>> graders_of(Study("t.csv", graders="first, second"))
    ('first', 'second')
    """
    if "," not in study.graders or Path(study.graders).exists():
        return study.graders or None
    return tuple(name.strip() for name in study.graders.split(",") if name.strip())


@checked
def operating_points(tuning: Predictions, study: Study) -> tuple[OperatingPoint, ...]:
    """The points at which sensitivity and specificity are told, by the study's rule."""
    return choose_thresholds(tuning, rule=study.rule, sensitivity=study.sensitivity or None, specificity=study.specificity or None,
                             cost=study.cost or None, prevalence=study.prevalence or None if study.cost else None)  # fmt: skip


@checked
def declare_margin(study: Study, ledger: Path) -> None:
    """Write the study's margin to the ledger, once; nothing where it has none."""
    if study.margin:
        declare(ledger, Declaration.read(study.margin, study.margin_of))


@checked
def recipe_of(study: Study) -> Any:
    """The recipe of a study: its fields over the defaults, with the study's seed."""
    from overread.learning.recipe import Recipe

    return build(Recipe, {**study.recipe, "seed": study.seed}, where="the study's recipe")


@checked
def command_line() -> str:
    """How the program was called; ``Python`` where it was not by its command."""
    if "overread" not in Path(sys.argv[0]).name:
        return "Python"
    return " ".join(["overread", *(f'"{a}"' if " " in a else a for a in sys.argv[1:])])


@checked
def key_of(study: Study, progress: Progress = silent) -> pd.DataFrame:
    """Who is behind the codes of a study: ``code`` and ``patient code`` beside case, patient and image as named.

    Raises :class:`InputError` where names were kept.
    """
    if not study.salt:
        raise InputError("the run has no codes: its names were kept", given=f"names = {study.names!r}")
    named = table_of(replace(study, names="keep", volumes="whole", point=(), side=0.0), progress).table
    made = {"code": codes(named["case"], study.salt), "patient code": codes(named["patient"], study.salt)}
    return pd.DataFrame({**made, **{name: named[name].to_numpy() for name in ("case", "patient", "image")}})
