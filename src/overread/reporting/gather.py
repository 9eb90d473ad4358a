"""What a run folder holds, read once; a stage that has not run leaves its part empty."""

from __future__ import annotations

import csv
import os
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overread.errors import InputError, UnsoundError, checked
from overread.evaluation import ledger
from overread.record import build, read_json
from overread.reporting import words
from overread.stats.estimate import Estimate


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

    @property
    def kind(self) -> str:
        """``binary``, ``classes``, ``findings``, ``quantity``, or ``""`` before there is a table of cases."""
        return str(self.target.get("kind", ""))

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
    def curves(self) -> dict[str, Any]:
        """Per class, finding or positive group: what the figures draw."""
        return dict(self.evaluation.get("curves") or {})

    @property
    def curve(self) -> dict[str, Any]:
        """The primary curve, or an empty table."""
        found = self.curves.get(self.primary) or {}
        return {} if "undefined" in found else dict(found)


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
        folder=folder, study=_toml(folder / "study.toml"), record=_json(folder / "record.json"),
        target=cases.get("target") or model.get("target") or {}, notes=tuple(map(str, cases.get("notes", ()))),
        audit=audit, excluded=_excluded(folder / "excluded.csv", audit), split=split, model=model,
        history=tuple(_list(folder / "model/history.json")),
        estimates=tuple(_estimate(row) for row in _list(folder / "evaluation/metrics.json")),
        operating=tuple(_list(folder / "evaluation/operating.json")),
        evaluation=_json(folder / "evaluation/curves.json"),
        gallery=tuple(_list(folder / "explanations/gallery.json")), looks=looks, broken_ledger=broken,
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


def _toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} is not valid TOML", given=str(error)) from error


def _estimate(row: dict[str, Any]) -> Estimate:
    numbers = {k: float("nan") for k in ("value", "low", "high") if row.get(k) is None}
    return build(Estimate, {**row, **numbers}, where="metrics.json")


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
    try:
        ledger.verify(path)
    except UnsoundError as error:
        return entries, str(error)
    return entries, ""
