"""Tiles of a whole slide: our reading against the bare call of OpenSlide.

    python benchmarks/slide_tiles.py [slide.svs] [--tiles 2000] [--threads 2] [--repeats 5]

The same places, drawn once, of 256 pixels at the slide's own pixel size, through as many threads, each with a handle of its own and a
cache of the same size. Bare is `read_region` of openslide-python and nothing else: its picture with four channels is not
even turned into an array. Ours is the array of three channels, with its place in microns, the checks, and what lies beyond the slide; "as
an image" is `read_image` of the tile's address, what training and the store call. The two take turns. Bar: .85 of the speed of the bare call by the median of the
ratios, of processor time, which leaves out the work of other processes, and by the clock, which knows of threads that wait for each
other. The slide is small_HE.svs of `$OVERREAD_SHARED`, or of `shared` beside the repository, if none is named; exits with 1 where
the bar is missed, with 2 where there is no slide.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from overread.images.read import read_image
from overread.images.slides.files.handles import CACHE
from overread.images.slides.slide import Slide, open_slide, read_tile

BAR, SIZE = 0.85, 256
ROOT = Path(__file__).resolve().parent.parent


def shared_slide() -> Path:
    """The slide that is read if none is named."""
    return Path(os.environ.get("OVERREAD_SHARED") or ROOT.parent / "shared") / "data" / "slides" / "small_HE.svs"


def bare_reader(path: str) -> Callable[[int, int], Any]:
    """OpenSlide's own call, with a handle for each thread."""
    import openslide

    local = threading.local()

    def read(left: int, top: int) -> Any:
        if not hasattr(local, "slide"):
            local.slide = openslide.OpenSlide(path)
            local.slide.set_cache(openslide.OpenSlideCache(CACHE))
        return local.slide.read_region((left, top), 0, (SIZE, SIZE))

    return read


def seconds(read: Callable[[int, int], Any], places: Sequence[tuple[int, int]], threads: int) -> tuple[float, float]:
    """Processor time and wall time to read all places; the first tile of each thread opens the slide and is not counted."""
    with ThreadPoolExecutor(threads) as pool:
        barrier = threading.Barrier(threads)
        list(pool.map(lambda place: (barrier.wait(), read(*place)), places[:threads]))
        start, begun = time.process_time(), time.perf_counter()
        list(pool.map(lambda place: read(*place), places))
        return time.process_time() - start, time.perf_counter() - begun


def readers(slide: Slide) -> dict[str, Callable[[int, int], Any]]:
    """Our two ways, of the same pixels: corner in pixels of level 0."""
    each, half = slide.mpp, SIZE / 2

    def tile(left: int, top: int) -> Any:
        return read_tile(slide, (left + half) * each, (top + half) * each, SIZE, each)

    def image(left: int, top: int) -> Any:
        return read_image(f"{slide.path}#tile={(left + half) * each:.10g},{(top + half) * each:.10g},{SIZE},{each:g}")

    return {"read_tile": tile, "as an image": image}


def missed_bars(medians: dict[str, tuple[float, float]]) -> list[str]:
    """Which of ours are too slow, by what; medians of processor time and of wall time."""
    return [
        f"{name} {value:.2f} by {by}"
        for name, each in medians.items()
        for by, value in zip(("processor time", "the clock"), each, strict=True)
        if not value >= BAR
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", nargs="?", default=shared_slide(), type=Path)
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if not asked.slide.exists():
        print(
            f"not measured: {asked.slide.name} is not there; name a slide, or set OVERREAD_SHARED to the folder that holds data/"
        )
        sys.exit(2)
    slide = open_slide(asked.slide)
    rng = np.random.default_rng(0)
    places = [
        (int(rng.integers(slide.width - SIZE)), int(rng.integers(slide.height - SIZE))) for _ in range(asked.tiles)
    ]
    bare, ours = bare_reader(slide.path), readers(slide)
    for place in places[:20]:
        np.testing.assert_array_equal(ours["read_tile"](*place), np.asarray(bare(*place))[..., :3])
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in ours}
    rates: list[float] = []
    for _ in range(asked.repeats):
        for name, read in ours.items():
            base, taken = seconds(bare, places, asked.threads), seconds(read, places, asked.threads)
            ratios[name].append((base[0] / taken[0], base[1] / taken[1]))
            rates.append(len(places) / base[1])
    print(f"{asked.tiles} tiles of {SIZE}, {asked.threads} threads; bare OpenSlide {np.median(rates):.0f} tiles/s")
    medians = {name: np.median(found, axis=0) for name, found in ratios.items()}
    for name, (processor, wall) in medians.items():
        least, most = min(ratios[name])[0], max(ratios[name])[0]
        print(f"{name:12} {processor:.2f} of the bare read ({least:.2f} to {most:.2f}); by the clock {wall:.2f}")
    missed = missed_bars({name: (float(processor), float(wall)) for name, (processor, wall) in medians.items()})
    print(f"bar {BAR}: {'MISSED: ' + ', '.join(missed) if missed else 'met'}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
