"""Small slides with known pixels, and networks whose answer of a tile is known too."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from torch import Tensor, nn

from overread.cases.cases import Cases, Planes
from overread.cases.split import Split
from overread.images.preprocess import Preprocess
from overread.images.slides.slide import Slide, read_region
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import Tissue
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.networks import weights as stores
from overread.synthetic.slides.slide_cohort import draw_slides
from overread.tasks.target import Target

TUMOUR = Target("binary", ("normal", "tumour"), ("tumour",))


class Redness(nn.Module):
    """Says how red the middle of a tile is: a logit of 8 times (red − green) there, the mean over the images of a case."""

    head = nn.Identity()

    def __init__(self, middle: int = 8):
        super().__init__()
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        side, half = x.shape[-1], self.middle // 2
        inner = x[..., side // 2 - half : side // 2 + half, side // 2 - half : side // 2 + half].mean((-1, -2))
        logit = 8 * (inner[..., 0] - inner[..., 1])
        logit = logit.mean(1) if logit.ndim == 2 else logit
        return torch.stack([-logit / 2, logit / 2], -1)


@pytest.fixture(scope="session")
def slide_model() -> Callable[..., Model]:
    """``slide_model(network=None, tiles=Tiles(…), **fields of the recipe)``; without a network a small one of random weights."""

    def make(
        network: nn.Module | None = None,
        tiles: Tiles | None = None,
        seed: int = 0,
        stain: str = "none",
        **fields: object,
    ) -> Model:
        tiles = tiles or Tiles(size=32, centre=16, stride=16, mpp=(1.0,))
        several = len(tiles.mpp) > 1
        recipe = Recipe(method="scratch", backbone="lenet5", views=1).changed(
            **{"tiles": tiles, "fusion": "concat" if several else "single", **fields}
        )
        preprocess = Preprocess((tiles.size, tiles.size), mean=(0.0,) * 3, std=(1.0,) * 3, stain=stain)
        views = tiles.views if several else ()
        about = About(recipe, preprocess, TUMOUR, Origin("lenet5", 1, licence="Apache-2.0"), views=views)
        if network is None:
            torch.manual_seed(seed)
            network = make_network(about)
            for part in network.modules():
                if isinstance(part, nn.Linear) and part is network.head:
                    nn.init.normal_(part.weight, std=0.5)  # answers that differ from place to place
        return Model(network.eval(), about)

    return make


def tissue_of(slide: Slide, mpp: float = 2.0) -> Tissue:
    """What is pink on a drawn slide."""
    width, height = (math.ceil(side / mpp) for side in slide.size)
    pixels = read_region(slide, 0.0, 0.0, width, height, mpp).astype(int)
    return Tissue((pixels.max(-1) - pixels.min(-1) > 30).astype(np.uint8), mpp)


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Pixels (H, W, 3) of pale glass with pink tissue and red spots in it."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 240, np.uint8)
    top, left, bottom, right = height // 8, width // 8, height * 7 // 8, width * 7 // 8
    pixels[top:bottom, left:right] = (225, 160, 190)
    for _ in range(4):
        row, column = rng.integers(top, bottom - 60), rng.integers(left, right - 60)
        pixels[row : row + 50, column : column + 50] = (230, 40, 60)
    noise = rng.integers(-10, 11, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_slide(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``make_slide(height, width, mpp=1.0, levels=3, seed=0, damaged=())``: a pyramidal TIFF; of ``damaged`` tiles (row, column)
    of level 0 the bytes are overwritten."""

    def make(height: int = 600, width: int = 800, mpp: float = 1.0, levels: int = 3, seed: int = 0,
             damaged: tuple[tuple[int, int], ...] = (), side: int = 64, glass: bool = False) -> Path:  # fmt: skip
        path = tmp_path_factory.mktemp("slide") / f"s{seed}.tif"
        level = np.full((height, width, 3), 240, np.uint8) if glass else drawn(height, width, seed)
        with tifffile.TiffWriter(path) as file:
            for number in range(levels):
                size = 1e4 / (mpp * 2**number)
                file.write(level, tile=(side, side), photometric="rgb", compression="zlib", resolution=(size, size), metadata=None,
                           resolutionunit="CENTIMETER", subfiletype=int(number > 0))  # fmt: skip
                level = level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2]
                level = (
                    level.reshape(level.shape[0] // 2, 2, level.shape[1] // 2, 2, 3)
                    .mean((1, 3))
                    .round()
                    .astype(np.uint8)
                )
        if damaged:
            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                across = -(-width // side)
                places = [(page.dataoffsets[r * across + c], page.databytecounts[r * across + c]) for r, c in damaged]
            with open(path, "r+b") as file:
                for offset, size in places:
                    file.seek(offset)
                    file.write(b"\xff" * size)
        return path

    return make


# -- a cohort of phantom slides: eight of .8 mm, half of them with outlined tumour ---------------------------------------


@pytest.fixture(scope="session")
def tiny_slides(tmp_path_factory) -> Cases:
    """A row a slide; of eight patients, at 2 µm a pixel."""
    table = draw_slides(tmp_path_factory.mktemp("slides"), slides=8, patients=8, side=800, mpp=2.0, islands=("plain",),
                        isolated=0.0, artefacts=False, seed=3)  # fmt: skip
    drawn = pd.read_csv(table, keep_default_na=False)
    held = pd.DataFrame({
        "image": drawn["slide"] + "#slide", "case": [Path(name).stem for name in drawn["slide"]], "patient": drawn["patient"],
        "source": drawn["scanner"], "view": "", "time": "", "split": "", "label": drawn["tumour"], "outlines": drawn["outlines"],
    })  # fmt: skip
    return Cases(held, Target("binary", ("no", "yes"), ("yes",)), str(table.parent), planes=Planes(slides=True))


@pytest.fixture(scope="session")
def tiny_split(tiny_slides) -> Split:
    """The first of each class tunes, the second is tested, the others train."""
    order = tiny_slides.table.groupby("label").cumcount()
    part = order.map({0: "tuning", 1: "test"}).fillna("train")
    return Split(tiny_slides.table[["case", "patient"]].assign(part=part), "by hand", 0)


@pytest.fixture(scope="session")
def slide_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of files of weights named so, and no others are at hand; for a plan none is opened."""
    monkeypatch.setattr(stores, "PACKAGES", ())

    def make(*names: str):
        for name in names:
            (tmp_path / f"{name}_x.safetensors").touch()
        return tmp_path

    return make
