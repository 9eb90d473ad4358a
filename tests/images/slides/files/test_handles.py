"""Open slides: few at a time, memory flat over many, a changed file opened anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from overread.images.slides.files.handles import HANDLES, SlideHeader, borrowed, dropped
from overread.images.slides.pyramid import write_pyramid
from overread.images.slides.slide import open_slide, read_tile


class Held:
    """A slide that only counts."""

    closed = 0

    def __init__(self, path: str) -> None:
        self.header, self.path = SlideHeader("none", ((1, 1),)), path

    def read(self, level, left, top, width, height):
        return np.zeros((height, width, 3), np.uint8)

    def close(self) -> None:
        Held.closed += 1


def test_the_slide_that_was_not_asked_for_the_longest_is_closed():
    Held.closed = 0
    first = borrowed(("held", 0), "0", Held)
    for number in range(1, HANDLES):
        borrowed(("held", number), str(number), Held)
    assert borrowed(("held", 0), "0", Held) is first  # now the last one asked for
    borrowed(("held", HANDLES), "one more", Held)
    assert borrowed(("held", 0), "0", Held) is first
    before = Held.closed
    assert borrowed(("held", 1), "1", Held).path == "1"
    assert Held.closed == before + 1
    dropped(first)
    assert borrowed(("held", 0), "0", Held) is not first


def test_a_file_that_changed_is_opened_anew(tmp_path):
    path = tmp_path / "node.tif"
    for value in (10, 200):
        write_pyramid(
            path, lambda r, c, v=value: np.full((64, 64, 3), v, np.uint8), width=64, height=64, tile=64, mpp=0.5
        )
        os.utime(path, ns=(value, value))
        assert (read_tile(open_slide(path), 16.0, 16.0, 8, 0.5) == value).all()


@pytest.mark.slow
def test_memory_is_flat_over_many_slides(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    first = write_pyramid(tmp_path / "0.tif", lambda r, c: noise, width=2048, height=2048, mpp=0.5)
    for number in range(1, 1000):
        os.link(first, tmp_path / f"{number}.tif")
    code = """
import sys
from pathlib import Path
from overread.images.slides.slide import open_slide, read_tile
for number in range(1000):
    slide = open_slide(Path(sys.argv[1]) / f"{number}.tif")
    for place in range(8):
        read_tile(slide, 100.0 + 100 * place, 500.0, 256, 0.5)
    if number in (49, 999):
        print(int(open("/proc/self/statm").read().split()[1]) * 4096)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is told by Linux")
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split()
    few, many = map(int, told)
    assert many < 1.2 * few
    assert many < 200e6
