"""What a run folder holds, read once; a stage that has not run leaves its part empty."""

from __future__ import annotations

import csv
import os
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import build, read_json
from overread.reporting import words
from overread.stats.estimate import Estimate
from overread.tasks.target import Target
from overread.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Run:
    """The stored numbers of a run, as its files hold them; empty where a file is missing."""

    folder: Path
    study: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    audit: dict[str, Any] = field(default_factory=dict)
    excluded: tuple[tuple[str, int], ...] = ()  # reason, cases
    split: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, Any] = field(default_factory=dict)  # of the readers who made the labels
    model: dict[str, Any] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    estimates: tuple[Estimate, ...] = ()
    operating: tuple[dict[str, Any], ...] = ()
    evaluation: dict[str, Any] = field(default_factory=dict)
    gallery: tuple[dict[str, Any], ...] = ()
    looks: int | None = None  # entries of the ledger
    broken_ledger: str = ""  # why it cannot be trusted

    def estimate(self, metric: str, of: str = "", where: dict[str, str] | None = None) -> Estimate | None:
        """The stored estimate, or None."""
        for found in self.estimates:
            if (found.metric, found.of, found.where) == (metric, of, where or {}):
                return found
        return None

    @property
    def place(self) -> str:
        """The folder as a command would name it."""
        return str(self.folder if not self.folder.is_absolute() else self.folder.name)

    @cached_property
    def task(self) -> Task | None:
        """What is asked of an image; None before there is a table of cases."""
        return build(Target, self.target, where="the target of the run").task if self.target else None

    @property
    def continuous(self) -> bool:
        """Whether a quantity is estimated."""
        return self.task is not None and self.task.continuous

    @property
    def multilabel(self) -> bool:
        """Whether several findings are told."""
        return self.task is not None and self.task.multilabel

    @property
    def binary(self) -> bool:
        """Whether two classes are told apart."""
        return self.task is not None and self.task.binary

    @property
    def names(self) -> tuple[str, ...]:
        """Classes, findings, or the quantity's name."""
        return tuple(map(str, self.target.get("names", ())))

    @property
    def primary(self) -> str:
        """The key of the curve that matters most, ``""`` where none does."""
        return str(self.evaluation.get("primary", ""))

    def called(self, of: str) -> str:
        """A class, a finding or the positive group in words."""
        return words.group(of, self.names)

    @property
    def size(self) -> str:
        """How many images of how many patients were judged."""
        counts = self.evaluation.get("counts") or {}
        return words.size(counts.get("images"), counts.get("patients"))

    @property
    def level(self) -> float:
        """The level of the intervals, such as 0.95."""
        return float(self.evaluation.get("level") or 0.95)

    @property
    def more(self) -> dict[str, Any]:
        """What other stages added to the evaluation."""
        return dict(self.evaluation.get("more") or {})

    @property
    def curves(self) -> dict[str, Any]:
        """Per class, finding or positive group: what the figures draw."""
        return dict(self.evaluation.get("curves") or {})

    @property
    def curve(self) -> dict[str, Any]:
        """The primary curve, or an empty table."""
        found = self.curves.get(self.primary) or {}
        return {} if "undefined" in found else dict(found)

    def chosen(self, part: str) -> list[tuple[str, dict[str, Any]]]:
        """What a figure of ``part`` shows: the primary curve alone, or every one in which it is defined."""
        found = {self.primary: self.curve} if self.primary else self.curves
        return [(of, curve) for of, curve in found.items() if curve.get(part) and "undefined" not in curve[part]]


#: What is shown of subgroups, in order of preference, for a group that is detected and for everything else.
DETECTION = ("auc", "sensitivity", "specificity")
OVERALL = ("macro auc", "balanced accuracy", "accuracy", "mae", "r2")


@checked
def shown(run: Run) -> list[tuple[str, str]]:
    """The (metric, of) pairs that stand for the run, at most three."""
    if run.primary and run.estimate("auc", run.primary):
        return [(m, run.primary) for m in DETECTION if run.estimate(m, run.primary)]
    every = [(m, of) for m in OVERALL for of in ("", *run.names[:1]) if run.estimate(m, of)]
    return every[:3]


@checked
def subgroups(run: Run) -> list[tuple[str, str]]:
    """(column, value) of every subgroup for which something is stored, in the order of the file."""
    found = [next(iter(e.where.items())) for e in run.estimates if len(e.where) == 1 and not e.metric.endswith(" gap")]
    return list(dict.fromkeys(found))


@checked
def compared(run: Run) -> list[tuple[str, str]]:
    """The (metric, of) pairs by which subgroups were set against each other: those that are shown, else any; at most three."""
    held = [gap for gap in run.evaluation.get("gaps") or [] if isinstance(gap, dict)]
    found = dict.fromkeys((str(gap.get("metric")), str(gap.get("of"))) for gap in held)
    return ([pair for pair in shown(run) if pair in found] or list(found))[:3]


@checked
def gather_evaluation(folder: str | os.PathLike[str], target: dict[str, Any]) -> Run:
    """Read a folder with ``metrics.json``, ``operating.json`` and ``curves.json`` alone; ``target``: kind and names.

    Raises InputError if one of them is damaged.
    """
    folder = Path(folder)
    return Run(folder=folder, target=target, **_judged(folder))


def _judged(folder: Path) -> dict[str, Any]:
    return {
        "estimates": tuple(read_estimate(row, "metrics.json") for row in _list(folder / "metrics.json")),
        "operating": tuple(_list(folder / "operating.json")),
        "evaluation": _json(folder / "curves.json"),
    }


@checked
def gather(folder: str | os.PathLike[str]) -> Run:
    """Read a run folder. Raises InputError if it does not exist or one of its files is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("there is no such run folder", given=str(folder), todo="check the path")
    model, cases, split = (
        _json(folder / name) for name in ("model/model.json", "cases.target.json", "split.proof.json")
    )
    audit = _json(folder / "audit.json")
    looks, broken = _looks(folder / "ledger.jsonl")
    return Run(
        folder=folder, study=_study(folder / "study.toml"), record=_json(folder / "record.json"),
        target=cases.get("target") or model.get("target") or {}, notes=tuple(map(str, cases.get("notes", ()))),
        audit=audit, excluded=_excluded(folder / "excluded.csv", audit), split=split, model=model,
        agreement=_json(folder / "agreement.json"),
        history=tuple(_list(folder / "model/history.json")),
        gallery=tuple(_list(folder / "explanations/gallery.json")), looks=looks, broken_ledger=broken,
        **_judged(folder / "evaluation"),
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise InputError(f"{path.name} does not hold a table of fields", given=type(value).__name__)
    return value


def _list(path: Path) -> list[dict[str, Any]]:
    value = read_json(path) if path.exists() else []
    if not (isinstance(value, list) and all(isinstance(row, dict) for row in value)):
        raise InputError(f"{path.name} does not hold a list of tables", given=type(value).__name__)
    return value


def _study(path: Path) -> dict[str, Any]:
    """The fields of a study file by their names, out of the groups that they stand in; no two groups share a name."""
    held = _toml(path)
    groups = [name for name, value in held.items() if isinstance(value, dict) and name != "recipe"]
    return {k: v for k, v in held.items() if k not in groups} | {k: v for name in groups for k, v in held[name].items()}


def _toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} is not valid TOML", given=str(error)) from error


@checked
def read_estimate(row: dict[str, Any], where: str) -> Estimate:
    """An estimate as a file holds it; null is NaN. Raises InputError, which names the file, if it is none."""
    numbers = {k: float("nan") for k in ("value", "low", "high") if row.get(k) is None}
    return build(Estimate, {**row, **numbers}, where=where)


@checked
def gap_of(gap: dict[str, Any], level: float) -> Estimate:
    """A gap of ``curves.json`` as an estimate of ``<metric> gap``."""
    value, low, high = (float("nan") if gap.get(k) is None else float(gap[k]) for k in ("value", "low", "high"))
    return Estimate(
        f"{gap.get('metric')} gap",
        value,
        low,
        high,
        float(gap.get("level") or level),
        undefined=str(gap.get("undefined") or ""),
    )


def _excluded(path: Path, audit: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Reasons with their numbers of cases. What stands after a colon differs from case to case and is dropped."""
    if path.exists():
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reasons = [row.get("reason") or "no reason given" for row in csv.DictReader(handle)]
    else:
        reasons = [str(reason) for _, reason in audit.get("excluded", ())]
    return tuple(Counter(reason.split(":")[0].strip() for reason in reasons).most_common())


def _looks(path: Path) -> tuple[int | None, str]:
    if not path.exists():
        return None, ""
    with open(path, encoding="utf-8", errors="replace") as handle:
        entries = sum(1 for line in handle if line.strip())
    from overread.evaluation import ledger  # loads pandas, which a figure has no need of

    try:
        return sum(not ledger.is_declaration(entry) for entry in ledger.verify(path)), ""
    except UnsoundError as error:
        return entries, str(error)
