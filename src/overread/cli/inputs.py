"""Predictions that belong together: a test table and its tuning table or operating points, or a run's folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overread.evaluation.operating_point import OperatingPoint
    from overread.predictions import Predictions
    from overread.study.question import Study


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

    ``name`` of the folder beside the table (in the run's folder) where no ``output`` is given. The ledger lies beside
    the predictions, wherever the output goes.
    """
    from overread.core.errors import InputError
    from overread.core.files import read_json
    from overread.evaluation.ledger import ledger_beside

    ledger = ledger_beside(first)
    if first.is_dir():
        test, held = (_of_run(first, part) for part in ("test", "tuning"))
        record = read_json(first / "record.json") if (first / "record.json").exists() else {}
        model = record.get("steps", {}).get("model", {}).get("key", "") if isinstance(record, dict) else ""
        return Pair(held, test, Path(output) if output else first / name, ledger, model)
    if not tuning:
        raise InputError("there are no tuning predictions", given=str(first),
                         todo="give a table of other patients, on which thresholds are chosen: --tuning tuning.csv")  # fmt: skip
    folder = Path(output) if output else first.parent / name
    return Pair(_read(tuning, positive), _read(first, positive), folder, ledger)


def _read(path: str | Path, positive: tuple[str, ...]) -> Predictions:
    """Predictions from a table; of several tables an error says which."""
    from overread.core.errors import InputError
    from overread.predictions import Predictions

    try:
        return Predictions.read(path, positive)
    except InputError as error:
        name = Path(path).name
        what = error.what if name in str(error) else f"{name}: {error.what}"
        given = None if error.given is None else " ".join(str(error.given).split())
        raise InputError(what, given=given, todo=error.todo) from error


def _of_run(folder: Path, part: str) -> Predictions:
    """A run's predictions of one part, with the target that its table was prepared with."""
    from overread.cases.cases import Cases
    from overread.core.errors import InputError
    from overread.predictions import Predictions

    path = folder / "predictions" / f"{part}.csv"
    if not (folder / "cases.csv").exists():
        raise InputError("this folder is no run: it has no cases.csv", given=str(folder),
                         todo="give a run's folder, or a table of predictions")  # fmt: skip
    if not path.exists():
        raise InputError(f"the run has no predictions of its {part} part yet", given=str(folder),
                         todo=f"overread predict {folder}")  # fmt: skip
    return replace(Predictions.read(path), target=Cases.load(folder / "cases.csv").target)


@dataclass(frozen=True)
class PointChoice:
    """How operating points are chosen on tuning predictions, and which classes count as disease."""

    positive: tuple[str, ...] = ()
    sensitivity: float = 0.0
    specificity: float = 0.0


@dataclass(frozen=True, eq=False)
class System:
    """Test predictions, the operating points that were frozen for them, and the study where they are a run's."""

    test: Predictions
    points: tuple[OperatingPoint, ...]
    study: Study | None = None

    @property
    def salt(self) -> str:
        """Of the codes that a run gave to names; blank where names stand as they are."""
        return self.study.columns.salt if self.study else ""


def system_of(path: Path, tuning: str, at: str, wanted: PointChoice) -> System:
    """A run at the points frozen in it, or a table at the points of ``at``, or at points chosen on ``tuning``.

    Raises :class:`InputError` for both, and for ``tuning`` beside a run.
    """
    from overread.core.errors import InputError
    from overread.evaluation.operating_point import choose_thresholds, load_operating_points

    if tuning and (at or path.is_dir()):
        kept = "a file of operating points" if at else "a run, whose operating points are frozen"
        raise InputError(f"tuning predictions beside {kept}", given=tuning, todo="give one of them")
    if path.is_dir():
        return _run(path, at)
    test = _read(path, wanted.positive)
    if at or not tuning:
        return System(test, load_operating_points(at) if at else ())
    seen = _read(tuning, wanted.positive)
    return System(test, choose_thresholds(seen, sensitivity=wanted.sensitivity or None, specificity=wanted.specificity or None))  # fmt: skip


def require_tuning(wanted: PointChoice, *tuning: str) -> None:
    """Refuse a wanted sensitivity or specificity that nothing is chosen by."""
    from overread.core.errors import InputError

    if (wanted.sensitivity or wanted.specificity) and not any(tuning):
        raise InputError("a threshold for a wanted sensitivity or specificity is chosen on tuning data, and there are none",
                         given=f"sensitivity {wanted.sensitivity:g}, specificity {wanted.specificity:g}",
                         todo="give a table of other patients: --tuning tuning.csv; a run has frozen its own threshold")  # fmt: skip


def _run(folder: Path, at: str) -> System:
    from overread.evaluation.operating_point import load_operating_points
    from overread.study.question import Study

    test = _of_run(folder, "test")
    frozen = Path(at) if at else folder / "evaluation" / "operating.json"
    study = Study.load(folder / "study.toml")
    if frozen.exists() or at:
        return System(test, load_operating_points(frozen), study)
    from overread.study.steps import operating_points

    return System(test, operating_points(_of_run(folder, "tuning"), study), study)
