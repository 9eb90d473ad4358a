"""Tuning and test predictions that belong together: two tables, or a run's folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overread.predictions import Predictions


@dataclass(frozen=True)
class Pair:
    """Tuning and test predictions, the folder for what is made of them, and the ledger of looks at the test set."""

    tuning: Predictions
    test: Predictions
    folder: Path
    ledger: Path
    model: str = ""


def pair_of(first: Path, tuning: str, positive: tuple[str, ...], name: str, output: str) -> Pair:
    """The pair of a run's folder ``first``, or of the table ``first`` and its ``tuning`` table.

    ``name`` of the folder beside the table (in the run's folder) where no ``output`` is given.
    """
    from overread.cases.cases import Cases
    from overread.errors import InputError
    from overread.predictions import Predictions
    from overread.record import read_json

    if first.is_dir():
        parts = [first / "predictions" / f"{part}.csv" for part in ("tuning", "test")]
        for path in parts:
            if not path.exists():
                raise InputError(
                    "the run has no predictions yet", given=str(path), todo=f"overread predict {first}"
                )
        target = Cases.load(first / "cases.csv").target
        record = read_json(first / "record.json") if (first / "record.json").exists() else {}
        model = record.get("steps", {}).get("model", {}).get("key", "") if isinstance(record, dict) else ""
        held, test = (replace(Predictions.read(path), target=target) for path in parts)
        return Pair(held, test, Path(output) if output else first / name, first / "ledger.jsonl", model)
    if not tuning:
        raise InputError("there are no tuning predictions", given=str(first),
                         todo="give a table of other patients, on which thresholds are chosen: --tuning tuning.csv")  # fmt: skip
    folder = Path(output) if output else first.parent / name
    return Pair(
        Predictions.read(tuning, positive), Predictions.read(first, positive), folder, folder / "ledger.jsonl"
    )
