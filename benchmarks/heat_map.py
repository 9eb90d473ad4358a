"""Peak memory of the heat map of a slide of 1 and of 20 gigapixels, and the time a tile takes: `python benchmarks/heat_map.py`.

Bars: the two peaks within 1.2 times of each other, and both under 2 GB, of the whole process with its children: finding the
tissue, reading, network, writing. The slides are phantoms of .25 µm a pixel, glass with ten pieces of tissue of
1,024 pixels a side, drawn tile by tile; the network is a small one of random weights (`mobilenet_v3_small`), at two magnifications,
stride 128. `--gigapixels 1 20`; phantoms of 20 gigapixels take some minutes to write and half a gigabyte of disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

RATIO_BAR, MEMORY_BAR = 1.2, 2e9
MPP, PIECES, TILE = 0.25, 10, 512


def draw(path: str, gigapixels: float) -> None:
    """A square slide of glass with pieces of tissue that are spread over it."""
    from overread.images.slides.pyramid import write_pyramid

    side = int((gigapixels * 1e9) ** 0.5)
    rng = np.random.Generator(np.random.Philox(key=1))
    glass = np.full((TILE, TILE, 3), 244, np.uint8)
    tissue = np.clip(rng.normal((205, 130, 180), 22, (TILE, TILE, 3)), 0, 255).astype(np.uint8)
    across = side // TILE
    places = {
        (int(row) * 2 + i, int(column) * 2 + j)
        for row, column in rng.integers(1, across // 2 - 1, (PIECES, 2))
        for i in (0, 1)
        for j in (0, 1)
    }

    def tile_of(row: int, column: int) -> np.ndarray:
        held = tissue if (row, column) in places else glass
        return held[: min(TILE, side - row * TILE), : min(TILE, side - column * TILE)]

    write_pyramid(path, tile_of, width=side, height=side, mpp=MPP, tile=TILE)


def model(views: int):
    """A small network of random weights that sees two magnifications."""
    from overread.images.preprocess import Preprocess
    from overread.images.slides.tile_settings import Tiles
    from overread.learning.device import seeded
    from overread.learning.model import About, Model, Origin, make_network
    from overread.learning.recipe import Recipe
    from overread.tasks.target import Target

    tiles = Tiles(size=256, mpp=(MPP, 4 * MPP), stride=128)
    recipe = Recipe(method="scratch", backbone="mobilenet_v3_small", fusion="concat", views=views, tiles=tiles)
    preprocess = Preprocess((256, 256), mean=(0.7,) * 3, std=(0.2,) * 3)
    target = Target("binary", ("normal", "tumour"), ("tumour",))
    about = About(recipe, preprocess, target, Origin("mobilenet_v3_small", 1), views=tiles.views)
    with seeded(0, 0, 0, "weights"):
        return Model(make_network(about).eval(), about)


def measure(slide: str, out: str, views: int, workers: int, result: multiprocessing.Queue) -> None:
    """In a process of its own: bytes at the peak, bytes before anything was read, seconds, places."""
    from overread.images.slides.slide import open_slide
    from overread.slides.map_slide import map_slide

    net = model(views)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    made = map_slide(net, open_slide(slide), Path(out), workers=workers)
    seconds, processor = time.perf_counter() - began, time.process_time() - cpu
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    result.put((peak * 1024, before * 1024, seconds, processor, made.about.looked, made.shape))


def apart(work, *given):
    """What a function puts into a queue in a fresh process."""
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=work, args=(*given, result))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")
    return result.get()


def drawn_apart(path: str, gigapixels: float, result: multiprocessing.Queue) -> None:
    draw(path, gigapixels)
    result.put(os.stat(path).st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigapixels", type=float, nargs="+", default=[1.0, 20.0])
    parser.add_argument("--views", type=int, default=1, help="orientations of a tile")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", default="", help="where the phantoms lie, and stay")
    given = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in given.gigapixels:
            path = Path(given.folder or scratch) / f"phantom-{size:g}.tif"
            if not path.exists():
                began = time.perf_counter()
                written = apart(drawn_apart, str(path), size)
                print(
                    f"{size:g} gigapixels: drawn in {time.perf_counter() - began:.0f} s, {written / 1e6:.0f} MB",
                    flush=True,
                )
            peak, before, seconds, processor, places, shape = apart(
                measure, str(path), str(Path(scratch) / f"map-{size:g}.tif"), given.views, given.workers
            )
            peaks.append(peak)
            tiles = places * 2 * given.views
            print(f"{size:g} gigapixels, {shape[0]:,} × {shape[1]:,} cells: peak {peak / 1e9:.3f} GB ({before / 1e9:.3f} before the slide was opened; bar {MEMORY_BAR / 1e9:g}), "
                  f"{places:,} places in {seconds:.0f} s, {processor:.0f} s of processor time: {1e3 * processor / tiles:.2f} ms a tile and orientation", flush=True)  # fmt: skip
    print(f"largest over smallest peak: {max(peaks) / min(peaks):.3f} (bar {RATIO_BAR})")


if __name__ == "__main__":
    main()
