"""Comparing two systems."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.commands.desk import listed
from overread.commands.options import AsJson, Positive, Subgroups
from overread.commands.speaking import end, say

if TYPE_CHECKING:
    from overread.evaluation.operating import OperatingPoint
    from overread.predictions import Predictions
    from overread.question import Study

First = Annotated[Path, typer.Argument(help="a run's folder, or predictions .csv: the new one")]
Second = Annotated[Path, typer.Argument(help="a run's folder, or predictions .csv: what it is compared with")]
Tuning = Annotated[
    str, typer.Option(help="predictions of the tuning part, to choose the first one's operating point on")
]
OtherTuning = Annotated[str, typer.Option(help="the same for the second")]
At = Annotated[
    str, typer.Option("--at", help="the first one's operating points, frozen before: an operating.json")
]
OtherAt = Annotated[str, typer.Option(help="the same for the second")]
Sensitivity = Annotated[float, typer.Option(min=0, max=1, help="on tuning data; Youden's point if not given")]
Specificity = Annotated[float, typer.Option(min=0, max=1)]
Margin = Annotated[float, typer.Option(min=0, max=1, help="of the claim; a run's own if not given")]
MarginOf = Annotated[
    str, typer.Option(help="auc, sensitivity, specificity or macro auc; of one class: auc:melanoma")
]
Claim = Annotated[str, typer.Option(help="non-inferiority, equivalence or superiority of the first")]
Level = Annotated[float, typer.Option(help="of the intervals")]
Ledger = Annotated[
    str,
    typer.Option(
        help="file of looks at the test set; the run's own, or evaluation/ledger.jsonl beside the first"
    ),
]
Output = Annotated[
    str, typer.Option("-o", "--output", help="folder; comparison/ in the run, or beside the first")
]


def compare(
    first: First, second: Second, tuning: Tuning = "", other_tuning: OtherTuning = "", at: At = "", other_at: OtherAt = "",
    subgroup: Subgroups = [], positive: Positive = "", sensitivity: Sensitivity = 0.0, specificity: Specificity = 0.0,
    margin: Margin = 0.0, margin_of: MarginOf = "", claim: Claim = "non-inferiority", level: Level = 0.95,
    ledger: Ledger = "", output: Output = "", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Two tables of predictions on the same or on different patients: every difference with its interval."""
    from overread.evaluation.comparing.compare import compare as judge
    from overread.reporting.pages.comparison import tell_comparison

    wanted = _Wanted(listed(positive), sensitivity, specificity)
    mine, other = _side(first, tuning, at, wanted), _side(second, other_tuning, other_at, wanted)
    other = _coded(other, mine)
    study = mine.study
    margin, of = (
        margin or (study.margin if study else 0.0),
        margin_of or (study.margin_of if study else "auc"),
    )
    home = first if study else first.parent
    kept = Path(ledger) if ledger else home / ("ledger.jsonl" if study else "evaluation/ledger.jsonl")
    if len(mine.test) > 100_000:
        say(f"comparing {len(mine.test):,} cases")
    found = judge(mine.test, other.test, at=mine.points, other_at=other.points, by=subgroup, margin=margin or None,
                  margin_of=of, claim=claim, level=level, ledger=kept, names=_names(first, second))  # fmt: skip
    folder = Path(output) if output else home / "comparison"
    found.save(folder)
    pages = tell_comparison(found, folder)[:1]
    if as_json:
        typer.echo(_as_json(folder))
        return
    typer.echo(found.table())
    end([folder / "metrics.json", folder / "comparison.json", *pages], f"open {pages[0]}")


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two: its test predictions, its operating points, and its study where it is a run."""

    test: Predictions
    points: tuple[OperatingPoint, ...]
    study: Study | None = None


@dataclass(frozen=True)
class _Wanted:
    """What was asked of both."""

    positive: tuple[str, ...]
    sensitivity: float
    specificity: float


def _side(path: Path, tuning: str, at: str, wanted: _Wanted) -> _Side:
    from overread.evaluation.operating import choose_thresholds
    from overread.predictions import Predictions

    if path.is_dir():
        return _run(path, at)
    test = Predictions.read(path, wanted.positive)
    if at:
        return _Side(test, _frozen(Path(at)))
    if not tuning:
        return _Side(test, ())
    seen = Predictions.read(tuning, wanted.positive)
    points = choose_thresholds(
        seen, sensitivity=wanted.sensitivity or None, specificity=wanted.specificity or None
    )
    return _Side(test, points)


def _run(folder: Path, at: str) -> _Side:
    """A run's test predictions at the points that were frozen in it."""
    from dataclasses import replace

    from overread.cases.cases import Cases
    from overread.errors import InputError
    from overread.predictions import Predictions
    from overread.question import Study

    if not (folder / "predictions" / "test.csv").exists():
        raise InputError(
            "the run has no predictions of its test part",
            given=str(folder),
            todo=f"overread predict {folder}",
        )
    target = Cases.load(folder / "cases.csv").target
    test = replace(Predictions.read(folder / "predictions" / "test.csv"), target=target)
    frozen = Path(at) if at else folder / "evaluation" / "operating.json"
    study = Study.load(folder / "study.toml")
    if frozen.exists() or at:
        return _Side(test, _frozen(frozen), study)
    from overread.study import operating_points

    seen = replace(Predictions.read(folder / "predictions" / "tuning.csv"), target=target)
    return _Side(test, operating_points(seen, study), study)


def _frozen(path: Path) -> tuple[OperatingPoint, ...]:
    """The points of an ``operating.json``, or of one point's own file."""
    from overread.evaluation.operating import OperatingPoint
    from overread.record import build, read_json

    held = read_json(path)
    listing = held if isinstance(held, list) else [held]
    return tuple(build(OperatingPoint, _tuples(entry), where=path.name) for entry in listing)


def _tuples(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {
        k: tuple(v) if isinstance(v, list) else float("nan") if v is None else v for k, v in entry.items()
    }


def _coded(other: _Side, mine: _Side) -> _Side:
    """A table with names, beside a run with codes: its cases and patients under the run's codes."""
    from dataclasses import replace

    from overread.cases.codes import codes

    salt = mine.study.salt if mine.study else ""
    table = other.test.table
    if not salt or set(table["case"]) & set(mine.test.table["case"]):
        return other
    made = {name: codes(table[name].astype(str), salt) for name in ("case", "patient")}
    if not set(made["case"]) & set(mine.test.table["case"]):
        return other
    return replace(other, test=replace(other.test, table=table.assign(**made)))


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What tells the two apart: the file's name, else its folder's too, else both in order."""
    for short in (lambda p: p.stem, lambda p: f"{p.absolute().parent.name}/{p.stem}"):
        names = short(first), short(second)
        if names[0] != names[1]:
            return names
    return f"{first.stem} (first)", f"{second.stem} (second)"


def _as_json(folder: Path) -> str:
    import json

    from overread.record import read_json

    held = read_json(folder / "comparison.json")
    held.pop("curves")
    return json.dumps({"metrics": read_json(folder / "metrics.json"), **held}, indent=2, ensure_ascii=False)
