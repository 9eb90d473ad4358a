"""What a long step says of itself: how far, how quick, how long still."""

from __future__ import annotations

import sys

import pytest
import typer
from typer.testing import CliRunner

from overread.cli import console
from overread.cli.options import HelpWithHeadings
from overread.core.errors import InputError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines_tell_the_rate_and_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with console.bars() as progress:
        for what in ("reading images", "training"):
            progress(what, 0, 1000)
            clock[0] += 25.0
            progress(what, 500, 1000)
            clock[0] += 1.0
            progress(what, 510, 1000)  # too soon
            progress(what, 1000, 1000)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "  reading images: 500 of 1,000, 20 images/s, about 25 s left",
        "  training: 500 of 1,000, about 25 s left",
    ]


def test_what_is_done_twice_is_timed_anew_and_from_where_it_goes_on(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.bars() as progress:
        progress("judging", 0, 100)
        clock[0] += 5.0
        progress("judging", 100, 100)
        clock[0] += 900.0
        progress("judging", 50, 100)  # it goes on where it was stopped
        clock[0] += 25.0
        progress("judging", 75, 100)
    assert capsys.readouterr().err.splitlines() == ["  judging: 75 of 100, about 25 s left"]


def test_bars_tell_the_rate_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(console, "_DRAW", 0.0)
    with console.bars() as progress:
        for done in range(0, 60):
            console.time.sleep(0.01)
            progress("packing images", done, 60)
        progress("packing images", 60, 60)
    assert "packing images" in shown.getvalue()
    assert " images/s" in shown.getvalue()
    assert "0:00:0" in shown.getvalue()


@pytest.mark.parametrize(
    ("what", "speed", "text"),
    [("packing images", 1234.4, "1,234 images/s"), ("cleaning files", 2.34, "2.3 files/s"), ("training", 9.0, ""),
     ("reading images", 0.0, "")],
)  # fmt: skip
def test_only_what_is_counted_has_a_rate(what: str, speed: float, text: str) -> None:
    assert console._rate(what, speed) == text


@pytest.mark.parametrize("made", [False, True])
def test_a_refused_command_leaves_no_folder_behind(made, tmp_path):
    app, here = typer.Typer(), tmp_path / "new" / "results"

    @app.command(cls=HelpWithHeadings)
    def work() -> None:
        console.output_folder("", here)
        if made:
            (here / "table.csv").write_text("a")
        raise InputError("refused after the folder was made")

    assert isinstance(CliRunner().invoke(app).exception, InputError)
    assert here.exists() == here.parent.exists() == made
    assert tmp_path.exists(), "it was there before"
    here.mkdir(parents=True, exist_ok=True)
    CliRunner().invoke(app)
    assert here.exists(), "one that was there stays"
