"""Tiled segmentation against the bare network, and the memory of an image that does not fit: `python benchmarks/tiles.py MODEL`.

Bars: as many tiles a second as .85 of what the network alone passes, of tiles of the same size, in the same precision,
one at a time; an image of 20,000 × 20,000 pixels (16 bits, grey) in at most 2 GB. `MODEL`: a folder with a model that
outlines objects (`overread run … --mask mask` leaves one); without it a small one with random weights. The rate is by
processor time, so that other work on the machine counts for neither side; `--side 20000` is the image of the bar, which
is made of repeated phantom cells on disk.
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
import tifffile
import torch
from torch.nn import functional

from overread.cells.large_image import segment_file
from overread.cells.segment import reading_of, segment_image
from overread.images.preprocess import Preprocess
from overread.learning.device import autocast
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.predict import load_model
from overread.learning.recipe import Recipe
from overread.networks.instance_heads import Cutting, Segmentation
from overread.tasks.target import Target

RATE_BAR, MEMORY_BAR = 0.85, 2e9


class Bright(torch.nn.Module):
    """A network with random weights that is told of what is bright: foreground, and a centre in the middle of each disc."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.coarsest = network, network.coarsest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = functional.avg_pool2d(x.mean(dim=1, keepdim=True), 2) - 0.75
        centres = functional.avg_pool2d(bright, 9, 1, 4)
        told = torch.cat([bright.expand(-1, 4, -1, -1), centres, torch.zeros_like(bright).expand(-1, 2, -1, -1)], dim=1)
        return self.network(x) + 8 * told


def small_model() -> Model:
    """A network with random weights that finds what is bright."""
    recipe = Recipe(
        method="scratch",
        backbone="unet_small",
        views=1,
        precision="float32",
        segmentation=Segmentation(head="offsets", zoom=1),
    )
    preprocess = Preprocess((256, 256), 3, mean=(0.3,) * 3, std=(0.3,) * 3)
    about = About(
        recipe, preprocess, Target("segmentation", ("object",)), Origin("unet_small", 1), cutting=Cutting(apart=4)
    )
    torch.manual_seed(0)
    return Model(Bright(make_network(about)).eval(), about)


def cells(side: int) -> np.ndarray:
    """Bright discs of 20 pixels on a noisy ground, uint16."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    disc = ((y % 40 - 20) ** 2 + (x % 40 - 20) ** 2) < (8 + 3 * ((y // 40 + x // 40) % 3)) ** 2
    return (2000 + 9000 * disc + rng.normal(0, 300, (side, side))).clip(0, 65535).astype(np.uint16)


def rates(model: Model, side: int) -> tuple[float, float]:
    """Tiles a second of processor time: of the whole path, and of the network alone."""
    torch.set_num_threads(1)
    pixels, asked = cells(side)[..., None], model.about.recipe.segmentation
    core = (asked.largest - 2 * asked.margin) * asked.zoom
    reading, count = reading_of(model.network, model.about, "cpu"), (-(-side // core)) ** 2
    edges = [
        (max(0, at - asked.margin * asked.zoom), min(side, at + core + asked.margin * asked.zoom))
        for at in range(0, side, core)
    ]
    sides = [(bottom - top, right - left) for top, bottom in edges for left, right in edges]
    tiles = [
        torch.rand(1, 3, h // asked.zoom, w // asked.zoom).contiguous(memory_format=torch.channels_last)
        for h, w in sides
    ]

    def bare() -> None:
        with torch.inference_mode():
            for x in tiles:
                with autocast("cpu", reading.precision):
                    reading.network(x)

    found = []
    for work in (lambda: segment_image(model, pixels, threads=1), bare):
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        found.append(count / best)
    return found[0], found[1]


def _peak(folder: str, path: str, out: str, result: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    model = load_model(folder) if folder else small_model()
    start = time.process_time()
    made = segment_file(model, path, out)
    result.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.process_time() - start, made.objects))


def memory(folder: str, side: int) -> tuple[float, float, int]:
    """Peak bytes of a fresh process, its processor seconds, and the objects found, of an image of side × side."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "large.tif"
        block = cells(1000)
        held = tifffile.memmap(path, shape=(side, side), dtype=np.uint16, photometric="minisblack")
        for top in range(0, side, 1000):
            row = np.tile(block[: min(1000, side - top)], (1, -(-side // 1000)))[:, :side]
            held[top : top + len(row)] = row
        held.flush()
        del held
        context = multiprocessing.get_context("spawn")
        result = context.Queue()
        process = context.Process(target=_peak, args=(folder, str(path), str(Path(scratch) / "labels.tif"), result))
        process.start()
        found = result.get()
        process.join()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--rate-side", type=int, default=2048)
    given = parser.parse_args()
    model = load_model(given.model) if given.model else small_model()
    whole, bare = rates(model, given.rate_side)
    print(
        f"{model}: {whole:.2f} tiles a second, the network alone {bare:.2f}: {whole / bare:.2f} (bar {RATE_BAR})",
        flush=True,
    )
    peak, seconds, objects = memory(given.model, given.side)
    print(
        f"{given.side:,} × {given.side:,}: {peak / 1e9:.2f} GB (bar {MEMORY_BAR / 1e9:g}), {seconds:.0f} s of processor time, {objects:,} objects"
    )


if __name__ == "__main__":
    main()
