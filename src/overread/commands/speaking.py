"""How the commands speak: lines and bars to standard error, results to standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from overread.progress import Progress


def say(line: str) -> None:
    typer.echo(line, err=True)


def end(files: list[Path], then: str) -> None:
    typer.echo("wrote " + ", ".join(str(f) for f in files), err=True)
    if then:
        typer.echo(f"next: {then}", err=True)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        typer.echo(
            "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


@contextmanager
def bars() -> Iterator[Progress]:
    """A progress bar with the time left; a line now and then where the output is no terminal."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True),
                transient=True)  # fmt: skip
    tasks: dict[str, TaskID] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in tasks or bars.tasks[tasks[what]].finished:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total, visible=done < total)

    with bars:
        yield progress


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
        left = (now - start) * (total - done) / max(done, 1)
        say(f"  {what}: {done:,} of {total:,}, about {left:.0f} s left")

    return progress
