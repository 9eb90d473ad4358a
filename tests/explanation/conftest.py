"""A small network that has learned to find a planted lesion, another training of it, and Grad-CAM by captum.

And models with random weights: what a map is does not depend on how good the network is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerGradCam
from PIL import Image
from torch import Tensor, nn

from overread.cases.cases import Cases
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.networks.backbones import build
from overread.tasks.target import Target

SIDE = 28


@dataclass(frozen=True)
class Planted:
    """Images (N, 1, 28, 28), whether they hold a lesion, and where, (N, 28, 28)."""

    x: Tensor
    label: Tensor
    mask: np.ndarray


@dataclass(frozen=True)
class World:
    """Two trainings on one question, and images that they have not seen, all with a lesion."""

    network: nn.Module
    other: nn.Module
    cases: Planted


def draw(count: int, seed: int, lesions: float = 0.5) -> Planted:
    """Noise with bars, which are edges and no news; and in some a bright disc, which is the lesion."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, SIDE, SIDE, generator=generator) * 0.15
    label = (torch.rand(count, generator=generator) < lesions).long()
    mask = np.zeros((count, SIDE, SIDE), bool)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    for i in range(count):
        bar = int(torch.randint(2, SIDE - 4, (), generator=generator))
        x[i, 0, bar : bar + 2] += 0.8
        row, column = (int(each) for each in torch.randint(5, SIDE - 5, (2,), generator=generator))
        if label[i]:
            mask[i] = (rows - row) ** 2 + (columns - column) ** 2 <= 9
            x[i, 0][torch.from_numpy(mask[i])] += 1.0
    return Planted(x, label, mask)


def untrained(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(OrderedDict(
            c1=nn.Conv2d(1, 6, 5, padding=2), b1=nn.BatchNorm2d(6), r1=nn.ReLU(), p1=nn.MaxPool2d(2),
            c2=nn.Conv2d(6, 12, 5, padding=2), r2=nn.ReLU(), pool=nn.AdaptiveMaxPool2d(1), flat=nn.Flatten(),
            head=nn.Linear(12, 2),
        )).eval()  # fmt: skip


def trained(seed: int) -> nn.Sequential:
    network, data = untrained(seed).train(), draw(256, 100 + seed)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(60):
        some = torch.arange(32) + 32 * (step % 8)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(data.x[some]), data.label[some]).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="session")
def world() -> World:
    return World(trained(1), trained(2), draw(12, 7, lesions=1.0))


def grad_cam(network: nn.Module, x: Tensor) -> Tensor:
    """Grad-CAM of the lesion, by captum, enlarged to the image."""
    found = LayerGradCam(network, network.c2).attribute(x, target=1, relu_attributions=True)
    return nn.functional.interpolate(found, size=x.shape[-2:], mode="bilinear")[:, 0].detach()


# -- random weights ----------------------------------------------------------------------------------------------------

TARGET = Target("binary", ("n", "p"), ("p",))


def _livelier(network: nn.Module) -> nn.Module:
    """Heads of any size, so that nothing is near 0 by chance."""
    for part in network.modules():
        if isinstance(head := getattr(part, "head", None), nn.Linear):
            nn.init.normal_(head.weight, std=0.5)
    return network.eval()


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """``network(name, outputs=3, channels=3)`` with random weights."""

    def make(name: str, outputs: int = 3, channels: int = 3) -> nn.Module:
        with seeded(0, 0, 0, "test"):
            return _livelier(build(name, outputs=outputs, channels=channels))

    return make


@pytest.fixture
def images() -> Callable[..., torch.Tensor]:
    """``images(4, 3, 28, 28)``: reproducible noise."""

    def make(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))

    return make


@pytest.fixture
def model() -> Callable[..., Model]:
    """``model(backbone="cnn_small", target=…, **recipe)``: a model of images of 28 pixels with random weights."""

    def make(backbone: str = "cnn_small", target: Target = TARGET, channels: int = 1, **recipe: object) -> Model:
        views = ("left", "right") if recipe.get("fusion") in ("concat", "stacked") else ()
        filled = Recipe(**{"method": "scratch", "backbone": backbone, "views": 1, **recipe})
        preprocess = Preprocess((28, 28), channels, mean=(0.4,) * channels, std=(0.2,) * channels)
        about = About(filled, preprocess, target, Origin(backbone or "descriptors", 1), views=views)
        with seeded(0, 0, 0, "test"):
            return Model(_livelier(make_network(about)), about)

    return make


@pytest.fixture
def cases(tmp_path: Path) -> Cases:
    """Three cases: of two views, of the right one alone, and of two of which the second cannot be read."""
    for i in range(5):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 30), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "4.png").write_bytes(b"broken")
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(5)], "case": list("aabcc"), "patient": list("ppqrr"), "source": "x",
                          "view": ["left", "right", "right", "left", "right"], "time": "", "split": "", "label": list("nnppp")})  # fmt: skip
    return Cases(table, TARGET, str(tmp_path))


TARGET = Target("binary", ("n", "p"), ("p",))


def model_of(**recipe: object) -> Model:
    views = ("left", "right") if recipe.get("fusion") == "concat" else ()
    about = About(
        Recipe(method="scratch", backbone="lenet5", **recipe), Preprocess((28, 28), 1, mean=(0.4,), std=(0.2,)), TARGET,
        Origin("lenet5", 1), views=views,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = make_network(about).eval()
        torch.nn.init.normal_(network.head.weight, std=1.0)
    return Model(network, about)


@pytest.fixture
def masked(tmp_path) -> Cases:
    """Six images of four patients, with masks of three."""
    generator = np.random.Generator(np.random.Philox(key=18))
    for i in range(6):
        pixels = generator.integers(0, 120, (40, 30)).astype(np.uint8)
        pixels[8:20, 5:15] = 250
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        Image.fromarray((pixels == 250).astype(np.uint8) * 255).save(tmp_path / f"m{i}.png")
    masks = ["m0.png", "m1.png", "m2.png", "", "nowhere.png", ""]
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(6)], "case": list("abcdef"), "patient": list("ppqrrs"), "source": "x",
                          "view": ["left", "right"] * 3, "time": "", "split": "", "label": list("npnpnp"), "mask": masks})  # fmt: skip
    return Cases(table, TARGET, str(tmp_path))
