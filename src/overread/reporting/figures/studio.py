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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from overread.errors import checked
from overread.record import cores
from overread.reporting.figures.picture import Figure
from overread.reporting.gather import Run, gather_evaluation

_CHILD = "from overread.reporting.figures.studio import serve; serve()"
_HANDS = 2  # processes that draw


class Studio:
    """A process that waits for a folder of numbers to draw."""

    def __init__(self, child: subprocess.Popen[str] | None) -> None:
        self._child = child

    @property
    def returned(self) -> int | None:
        """0 once it has drawn; None while it works, or where there is none."""
        return self._child.returncode if self._child else None

    def draw(self, folder: Path, target: dict[str, Any]) -> list[Figure]:
        """The figures of ``folder/metrics.json`` and ``curves.json``, written to ``folder/figures`` as SVG and PNG.

        ``target``: kind and names. Draws here if the other process cannot.
        """
        order = json.dumps({"folder": str(folder.absolute()), "target": target})
        told = self._told(order) if self._child else ""
        entries = json.loads(told) if self.returned == 0 else _drawn(folder, target, hands=1)
        return [_read(folder, entry) for entry in entries]

    def _told(self, order: str) -> str:
        assert self._child is not None
        try:
            return self._child.communicate(order + "\n")[0]
        except OSError:  # it has died: its pipes are closed
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
    import overread.reporting.figures.all  # noqa: F401  # while the other side computes

    asked = sys.stdin.readline()
    if asked:
        order = json.loads(asked)
        entries = _drawn(Path(order["folder"]), order["target"], hands=min(_HANDS, cores()))
        json.dump(entries, sys.stdout)  # a pipe to the process that asked


def _drawn(folder: Path, target: dict[str, Any], hands: int) -> list[dict[str, Any]]:
    """Draw every figure in its turn, or in several processes where these cost nothing to start."""
    from overread.reporting.figures.all import DRAWN

    draw = partial(_one, gather_evaluation(folder, target))
    if hands > 1 and sys.platform == "linux":
        with multiprocessing.get_context("fork").Pool(hands) as pool:
            return [entry for entry in pool.map(draw, DRAWN, chunksize=1) if entry]
    return [entry for entry in map(draw, DRAWN) if entry]


def _one(run: Run, name: str) -> dict[str, Any] | None:
    from overread.reporting.figures.all import DRAWN, replace_figures

    figure = DRAWN[name](run)
    replace_figures({name: figure}, run.folder / "figures")
    if figure is None:
        return None
    return {key: getattr(figure, key) for key in ("name", "title", "alt", "caption", "wide")}


def _read(folder: Path, entry: dict[str, Any]) -> Figure:
    text = (folder / "figures" / f"{entry['name']}.svg").read_text(encoding="utf-8")
    return Figure(svg=text.split("\n", 1)[1].rstrip("\n"), **entry)
