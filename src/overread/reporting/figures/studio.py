"""Figures drawn in another process, which loads matplotlib while the numbers are still being computed.

On a thousand rows most of the time would pass in loading matplotlib and laying out text. The other process gets a
folder of stored numbers, draws from them alone, and tells what it drew.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from overread.core.errors import checked
from overread.core.files import cores, plain
from overread.reporting.figures.canvas import Figure
from overread.reporting.run import Run, gather_evaluation

_CHILD = "from overread.reporting.figures.studio import serve; serve()"
_HANDS = 2  # processes that draw
_SLOW = ("forest", "calibration", "decision", "gaps")  # these are begun first


class Studio:
    """A process that waits for a folder of numbers to draw."""

    def __init__(self, child: subprocess.Popen[str] | None) -> None:
        self._child = child
        self._order: tuple[Path, dict[str, Any]] | None = None

    @property
    def returned(self) -> int | None:
        """0 once it has drawn; None while it works, or where there is none."""
        return self._child.returncode if self._child else None

    def order(self, folder: Path, target: dict[str, Any]) -> None:
        """Have the figures of ``folder/metrics.json`` and ``curves.json`` drawn, without waiting for them.

        ``target``: kind and names.
        """
        self._order = folder, target
        if self._child is None or self._child.stdin is None:
            return
        with suppress(OSError):  # it has died: its pipes are closed
            self._child.stdin.write(json.dumps({"folder": str(folder.absolute()), "target": target}) + "\n")
            self._child.stdin.flush()

    def drawn(self) -> Iterator[Figure]:
        """The figures that were ordered, once they lie in ``folder/figures`` as SVG and PNG.

        Draws here if the other process cannot.
        """
        assert self._order is not None, "nothing was ordered"
        told = self._told() if self._child else ""
        entries = json.loads(told) if self.returned == 0 else _drawn(*self._order, hands=1)
        yield from (_read(self._order[0], entry) for entry in entries)

    def draw(self, folder: Path, target: dict[str, Any]) -> list[Figure]:
        """Order the figures and wait for them."""
        self.order(folder, target)
        return list(self.drawn())

    def _told(self) -> str:
        assert self._child is not None
        try:
            return self._child.communicate()[0]
        except OSError:
            return ""


@checked
@contextmanager
def studio(wanted: bool = True) -> Iterator[Studio]:
    """Start the other process, if figures are wanted at all; it ends with the block."""
    child = _started() if wanted else None
    try:
        yield Studio(child)
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.communicate()


def _started() -> subprocess.Popen[str] | None:
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **one, "PYTHONPATH": path}, encoding="utf-8", creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except OSError:
        return None


@checked
def serve() -> None:
    """What the other process does: load, wait for a folder, draw, tell."""
    _warm()  # while the other side computes
    asked = sys.stdin.readline()
    if asked:
        order = json.loads(asked)
        entries = _drawn(Path(order["folder"]), order["target"], hands=min(_HANDS, cores()))
        json.dump(entries, sys.stdout)  # a pipe to the process that asked


def _warm() -> None:
    """Draw for nobody: what comes first loads fonts, the writers of files and the readers of numbers."""
    from overread.core.files import build
    from overread.reporting.figures.canvas import finish, png_of, sheet
    from overread.reporting.figures.drawing import curve_with_band, roc_axes
    from overread.reporting.page import DRAWN  # noqa: F401  # loads what draws
    from overread.stats.estimate import Estimate, undefined

    build(Estimate, plain(undefined("auc", "nothing", of="")) | dict.fromkeys(("value", "low", "high"), 0.5))
    with sheet(3, 3) as drawing:
        axes = drawing.subplots()
        roc_axes(axes, "N")
        curve_with_band(axes, [0, 1], [0, 1], low=[0, 1], high=[0, 1], label="0")
        axes.legend()
        png_of(finish(drawing, "none", "", "", "").drawing)


def _drawn(folder: Path, target: dict[str, Any], hands: int) -> list[dict[str, Any]]:
    """Draw every figure in its turn, or in several processes where these cost nothing to start; told in the order of the page."""
    from overread.reporting.page import DRAWN

    draw = partial(_one, gather_evaluation(folder, target))
    if hands > 1 and sys.platform == "linux":
        names = sorted(DRAWN, key=lambda name: name not in _SLOW)  # so that nobody waits for the last
        with multiprocessing.get_context("fork").Pool(hands) as pool:
            found = dict(zip(names, pool.map(draw, names, chunksize=1)))
        return [entry for name in DRAWN if (entry := found[name])]
    return [entry for entry in map(draw, DRAWN) if entry]


def _one(run: Run, name: str) -> dict[str, Any] | None:
    from overread.reporting.page import DRAWN, replace_figures

    figure = DRAWN[name](run)
    replace_figures({name: figure}, run.folder / "figures")
    if figure is None:
        return None
    return {key: getattr(figure, key) for key in ("name", "title", "alt", "caption", "wide")}


def _read(folder: Path, entry: dict[str, Any]) -> Figure:
    text = (folder / "figures" / f"{entry['name']}.svg").read_text(encoding="utf-8")
    return Figure(svg=text.split("\n", 1)[1].rstrip("\n"), **entry)
