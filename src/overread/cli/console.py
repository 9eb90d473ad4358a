"""How the commands speak: lines and bars to standard error, results to standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from overread.core.progress import Progress

if TYPE_CHECKING:
    from overread.cases.cases import Cases
    from overread.study.steps import RunContext, Study


_DRAW = 0.05  # seconds between two changes of a bar


def say(line: str) -> None:
    typer.echo(line, err=True)


def end(files: list[Path], then: str) -> None:
    typer.echo("wrote " + ", ".join(str(f) for f in files), err=True)
    if then:
        typer.echo(f"next: {then}", err=True)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        typer.echo("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
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
    began: dict[str, float] = {}
    said: dict[str, float] = {}

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = began.setdefault(what, now)
        if done >= total or now - said.get(what, start) < every:
            said.setdefault(what, now)
            return
        said[what] = now
        speed = done / (now - start)
        rate = _rate(what, speed)
        left = (total - done) / speed if done else 0.0
        say(f"  {what}: {done:,} of {total:,}{f', {rate}' if rate else ''}, about {left:.0f} s left")

    return progress


# -- what commands on a run's folder share ------------------------------------------------------------------------


@contextmanager
def open_run(
    study: Study,
    folder: Path,
    cache: str = "",
    *,
    offline: bool = False,
    quiet: bool = False,
    table: Cases | None = None,
) -> Iterator[RunContext]:
    """The context of one stage on a run's folder, which is locked meanwhile."""
    from overread.core.files import folder_lock
    from overread.core.progress import Clock
    from overread.study.steps import RunContext, seconds

    with folder_lock(folder), bars() as progress:
        yield RunContext(study, folder, Path(cache) if cache else None, not offline, Clock(seconds(study.resources.budget)), progress,
                         (lambda line: None) if quiet else say, table)  # fmt: skip


# -- values that options hold as text -----------------------------------------------------------------------------


def number(text: str, option: str) -> float | None:
    """The number that ``option`` was given; None where it is blank. Raises :class:`InputError` for anything else."""
    import math

    from overread.core.errors import InputError

    try:
        value = float(text) if text.strip() else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(f"{option} is not a number", given=repr(text), todo=f"give one, such as {option} 2.5")
    return value


def output_folder(output: str, otherwise: Path) -> Path:
    """The folder for what is written, made before anything is judged: an error after a look at a test set costs the look.

    Raises :class:`InputError` if it cannot be made.
    """
    from overread.core.errors import InputError

    folder = Path(output) if output else otherwise
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("the folder for what is written cannot be made", given=f"{folder}: {error.strerror}",
                         todo="choose another: -o FOLDER") from error  # fmt: skip
    return folder
