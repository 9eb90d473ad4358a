"""Tiles of a whole slide: our reading against the bare call of OpenSlide.

    python benchmarks/slide_tiles.py ../shared/data/slides/small_HE.svs [--tiles 2000] [--threads 2] [--repeats 5]

The same places, drawn once, of 256 pixels at the slide's own pixel size, through as many threads, each with a handle of its own and a
cache of the same size. Bare is `read_region` of openslide-python and nothing else: its picture with four channels is not
even turned into an array. Ours is the array of three channels, with its place in microns, the checks, and what lies beyond the slide; "as
an image" is `read_image` of the tile's address, what training and the store call. The two take turns, the median of the ratios counts. On a shared
machine only that of processor time means anything, which leaves out the work of other processes.
"""

from __future__ import annotations

import argparse
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", nargs="?", default="../shared/data/slides/small_HE.svs", type=Path)
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if not asked.slide.exists():
        print(f"{asked.slide} is not there: name a slide")
        return
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
    worst = min(float(processor) for processor, _ in medians.values())
    print(f"bar {BAR}: {'met' if worst >= BAR else 'MISSED'}")
    if worst < BAR:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
