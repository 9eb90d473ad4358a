"""What the commands share: how they speak, and the runs and tables that they open.

Lines and bars go to standard error, results to standard output.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from overread.core.errors import InputError
from overread.core.phrases import command_of
from overread.core.progress import Progress

if TYPE_CHECKING:
    from overread.cases.annotators import Grades
    from overread.cases.cases import Cases
    from overread.cli.options import PredictionTable
    from overread.evaluation.decision.class_decision import Frozen
    from overread.predictions import Predictions
    from overread.study.context import RunContext
    from overread.study.question import Study

_DRAW = 0.05  # seconds between two changes of a bar


def say(line: str) -> None:
    typer.echo(line, err=True)


def end(files: list[Path], then: str | Sequence[object]) -> None:
    """Name the files that were written, and what to do next: a sentence, or the words of a command, quoted for the shell."""
    say("wrote " + ", ".join(map(str, files)))
    if then:
        say(f"next: {then if isinstance(then, str) else command_of(then)}")


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(str(cell)) for cell in column) for column in zip(heads, *rows, strict=True)]
    for row in [heads, *rows]:
        typer.echo("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextlib.contextmanager
def bars() -> Iterator[Progress]:
    """A progress bar with the rate and the time left; a line now and then where the output is no terminal."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(), console=Console(stderr=True), transient=True)  # fmt: skip
    tasks: dict[str, TaskID] = {}
    drawn = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal drawn
        if what in tasks and 0 < done < total and time.monotonic() - drawn < _DRAW:
            return
        drawn = time.monotonic()
        if what not in tasks or bars.tasks[tasks[what]].finished:
            tasks[what] = bars.add_task(what, total=total, rate="")
        task = tasks[what]
        rate = _rate(what, bars.tasks[task].speed or 0.0)
        bars.update(task, completed=done, total=total, visible=done < total, rate=rate)

    with bars:
        yield progress


def _rate(what: str, speed: float) -> str:
    """How quick a step is that counts images or files: the last word of its name says which."""
    thing = what.rpartition(" ")[2]
    if speed <= 0 or thing not in ("images", "files", "headers"):
        return ""
    return f"{speed:,.0f} {thing}/s" if speed >= 10 else f"{speed:.1f} {thing}/s"


def _lines(every: float = 20.0) -> Progress:
    """Progress as plain lines for a log: one per step at its start, then one in ``every`` seconds."""
    began: dict[str, tuple[float, int]] = {}
    told: dict[str, float] = {}

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total:  # the next of this name begins anew
            began.pop(what, None)
            told.pop(what, None)
            return
        start, first = began.setdefault(what, (now, done))
        if now - told.setdefault(what, start) < every:
            return
        told[what] = now
        speed = (done - first) / (now - start)
        rate = _rate(what, speed)
        left = (total - done) / speed if speed else 0.0
        say(f"  {what}: {done:,} of {total:,}{f', {rate}' if rate else ''}, about {left:.0f} s left")

    return progress


# -- a run's folder --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_run(
    study: Study, folder: Path, cache: str = "", *, offline: bool = False, quiet: bool = False, table: Cases | None = None,
    wait: float = 0.0,
) -> Iterator[RunContext]:  # fmt: skip
    """The context of one stage on a run's folder, which is locked meanwhile; ``wait``: seconds for another to leave it."""
    from overread.core.files import folder_lock
    from overread.core.progress import Clock
    from overread.study.context import RunContext
    from overread.study.steps import sweep

    with folder_lock(folder, wait=wait), bars() as progress:
        context = RunContext(study, folder, Path(cache) if cache else None, not offline, Clock(study.resources.limit), progress,
                             (lambda line: None) if quiet else say, table)  # fmt: skip
        sweep(context)
        yield context


# -- values that options hold as text -----------------------------------------------------------------------------


def number(text: str, option: str) -> float | None:
    """The number that ``option`` was given; None where it is blank. Raises :class:`InputError` for anything else."""
    try:
        value = float(text) if text.strip() else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(f"{option} is not a number", given=repr(text), todo=f"give one, such as {option} 2.5")
    return value


_made: ContextVar[list[Path]] = ContextVar("folders that this command made", default=[])  # noqa: B039 (set anew by each command)


def output_folder(output: str, otherwise: Path) -> Path:
    """The folder for what is written, made before anything is judged: an error after a look at a test set costs the
    look.

    One that was made here, with the folders above it, and in which the command wrote nothing, since it was refused, is gone
    when it ends. Raises
    :class:`InputError` if it cannot be made, :class:`UnavailableError` if nothing can be written in it.
    """
    folder = Path(output) if output else otherwise
    _made.get().extend(each for each in (folder, *folder.parents) if not each.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("the folder for what is written cannot be made", given=f"{folder}: {error.strerror}",
                         todo="choose another: -o FOLDER") from error  # fmt: skip
    require_room(folder)
    return folder


def require_apart(output: Path, images: Iterable[str], written: Iterable[str] = ()) -> None:
    """Raise :class:`InputError` where what is written into the folder ``output`` would be taken for more of the ``images`` the next
    time, since one of these is a folder around it, or would be written over them, which lie in one of its folders ``written``."""
    from overread.images.address import file_of

    home = output.resolve()
    for text in dict.fromkeys(images):
        place = (Path(text) if Path(text).exists() else Path(file_of(text))).resolve()
        if place.is_dir() and home.is_relative_to(place):
            raise InputError("what is written would lie in the folder of the images, and be taken for more of them the next time", given=f"-o {output}",
                             todo="choose a folder outside of it with -o")  # fmt: skip
        if any(place.is_relative_to(home / name) for name in written):
            raise InputError("the images lie in the folder that is written into", given=f"-o {output}", todo="choose another folder with -o")  # fmt: skip


@contextlib.contextmanager
def without_empty_folders() -> Iterator[None]:
    """A command, at whose end the folders that :func:`output_folder` made are gone where nothing was written into them."""
    before = _made.set([])
    try:
        yield
    finally:
        for folder in sorted(_made.get(), key=lambda made: len(made.parts), reverse=True):  # the deepest first
            with contextlib.suppress(OSError):  # not empty, or gone
                folder.rmdir()
        _made.reset(before)


def require_room(folder: Path) -> None:
    """Raise :class:`UnavailableError` unless files can be written in ``folder``: tried with one of a megabyte."""
    from overread.core.files import write_bytes

    write_bytes(folder / ".room", bytes(1 << 20)).unlink()


class Judged(Protocol):
    """A result that prints as a table."""

    def table(self) -> str: ...


def names_of(first: Path, second: Path) -> tuple[str, str]:
    """What tells two tables or runs apart: the files' names, or the last folders that differ; else both in order."""
    a, b = ([*reversed(p.resolve().parts[:-1]), p.resolve().name if p.is_dir() else p.stem] for p in (first, second))
    for one, other in zip((a[-1], *a), (b[-1], *b)):
        if one != other:
            return one, other
    return f"{a[-1]} (first)", f"{b[-1]} (second)"


def end_judged(found: Judged, file: Path, written: Sequence[Path], as_json: bool, *without: str) -> None:
    """Tell what was found, and what was ``written`` beside ``file``, the page last; or as JSON, but for the fields ``without``."""
    if as_json:
        typer.echo(json_with_metrics(file, *without))
        return
    typer.echo(found.table())
    end([file.with_name("metrics.json"), file, *written], f"open {written[-1]}")


def json_with_metrics(file: Path, *without: str) -> str:
    """What ``file`` and the ``metrics.json`` beside it hold, but for some fields of ``file``, as JSON."""
    from overread.core.files import read_json

    held = {name: value for name, value in read_json(file).items() if name not in without}
    metrics = read_json(file.with_name("metrics.json"))
    return json.dumps({"metrics": metrics, **held}, indent=2, ensure_ascii=False)


# -- predictions that belong together -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Tuning and test predictions, the folder for what is made of them, and the ledger of looks at the test set."""

    tuning: Predictions
    test: Predictions
    folder: Path
    ledger: Path
    model: str = ""


def pair_of(first: Path, tuning: str, form: PredictionTable, name: str, output: str) -> Pair:
    """The pair of a run's folder ``first``, or of the table ``first`` and its ``tuning`` table.

    ``name`` of the folder beside the table (in the run's folder) where no ``output`` is given. The ledger lies beside
    the predictions, wherever the output goes.
    """
    from overread.core.files import read_json
    from overread.evaluation.ledger import ledger_beside

    folder, ledger = (
        Path(output) if output else (first if first.is_dir() else first.parent) / name,
        ledger_beside(first),
    )
    if first.is_dir():
        from overread.study.context import predictions_of

        _refuse_derived(first, form)
        test, tuned = (at_level(first, predictions_of(first, part), form) for part in ("test", "tuning"))
        record = read_json(first / "record.json") if (first / "record.json").exists() else {}
        model = record.get("steps", {}).get("model", {}).get("key", "") if isinstance(record, dict) else ""
        return Pair(tuned, test, folder, ledger, model)
    if not tuning:
        raise InputError("there are no tuning predictions", given=str(first),
                         todo="give a table of other patients, on which thresholds are chosen: --tuning tuning.csv")  # fmt: skip
    test = form.read(first)
    return Pair(form.read(tuning).in_order_of(test), test, folder, ledger)


def coded_for(run: Path, grades: Grades, test: Predictions) -> Grades:
    """Readers' answers by the names of cases, under the codes that a run gave them; as they are beside a table."""
    from overread.cases.privacy import codes
    from overread.study.question import Study

    if not run.is_dir() or set(grades.cases) & set(test.table["case"]):
        return grades
    salt = Study.load(run / "study.toml").columns.salt
    return replace(grades, table=grades.table.assign(case=codes(grades.table["case"], salt))) if salt else grades


@dataclass(frozen=True, eq=False)
class System:
    """Test predictions, the operating points that were frozen for them, and the study where they are a run's."""

    test: Predictions
    points: tuple[Frozen, ...]
    study: Study | None = None
    identifiers: str = ""  # whether two forms of one are the same patient, in the codes of a run

    @property
    def salt(self) -> str:
        """Of the codes that a run gave to names; blank where names stand as they are."""
        return self.study.columns.salt if self.study else ""


@dataclass(frozen=True)
class PointChoice:
    """How operating points are chosen on tuning predictions, and how tables are read."""

    form: PredictionTable
    sensitivity: float = 0.0
    specificity: float = 0.0

    def require_tuning(self, *tuning: str) -> None:
        """Refuse a wanted sensitivity or specificity that nothing is chosen by."""
        if (self.sensitivity or self.specificity) and not any(tuning):
            raise InputError("a threshold for a wanted sensitivity or specificity is chosen on tuning data, and there are none",
                             given=f"sensitivity {self.sensitivity:g}, specificity {self.specificity:g}",
                             todo="give a table of other patients: --tuning tuning.csv; a run has frozen its own threshold")  # fmt: skip

    def system(self, path: Path, tuning: str, at: str) -> System:
        """A run at the points frozen in it, or a table at the points of ``at``, or at points chosen on ``tuning``.

        Raises :class:`InputError` for both, and for ``tuning`` beside a run.
        """
        from overread.evaluation.decision.class_decision import load_frozen

        if tuning and (at or path.is_dir()):
            kept = "a file of operating points" if at else "a run, whose operating points are frozen"
            raise InputError(f"tuning predictions beside {kept}", given=tuning, todo="give one of them")
        if path.is_dir():
            _refuse_derived(path, self.form)
            return _run(path, at, self.form)
        test = self.form.read(path)
        if at or not tuning:
            return System(test, load_frozen(at) if at else ())
        from overread.study.image_steps import frozen_by
        from overread.study.question import OperatingRule

        rule = OperatingRule(sensitivity=self.sensitivity, specificity=self.specificity)
        return System(test, frozen_by(rule, self.form.read(tuning).in_order_of(test)))


def _refuse_derived(folder: Path, form: PredictionTable) -> None:
    if form.derive:
        raise InputError("a run has frozen its points for the findings that it has", given=f"--derive and {folder}",
                         todo=f"give its tables: {folder}/predictions/test.csv with --tuning {folder}/predictions/tuning.csv")  # fmt: skip


def at_level(folder: Path, part: Predictions, form: PredictionTable) -> Predictions:
    """A run's predictions, at the level that was asked for if one was."""
    if not form.judge_at:
        if form.taxonomy:
            form.coarse(part)  # says what is missing
        return part
    from overread.study.class_levels import coarse_run
    from overread.study.question import Study

    positive = form.positive or Study.load(folder / "study.toml").columns.positive
    return coarse_run(folder, part, form.judge_at, form.taxonomy, positive)


def _run(folder: Path, at: str, form: PredictionTable) -> System:
    from overread.cases.cases import Cases
    from overread.evaluation.decision.class_decision import load_frozen
    from overread.study.class_levels import LEVELS
    from overread.study.context import predictions_of
    from overread.study.image_steps import frozen_by
    from overread.study.question import Study, level_folder

    test, study = at_level(folder, predictions_of(folder, "test"), form), Study.load(folder / "study.toml")
    answer = Cases.load(folder / "cases.csv").identifiers
    home = folder / LEVELS / level_folder(form.judge_at) if form.judge_at else folder / "evaluation"
    frozen = Path(at) if at else home / "operating.json"
    if frozen.exists() or at:
        return System(test, load_frozen(frozen), study, answer)
    tuned = at_level(folder, predictions_of(folder, "tuning"), form)
    return System(test, frozen_by(study.operating_point, tuned, study.training.seed), study, answer)
