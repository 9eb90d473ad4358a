"""Does an exported file say what the network says? Every network of the table as ONNX, at a small image, with random weights.

python benchmarks/exported_networks.py [--only resnet18,lenet5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from overread.core.errors import OverreadError
from overread.export.onnx_file import export_onnx
from overread.export.specimens import Specimens
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.networks.backbones import BACKBONES
from overread.tasks.target import Target

#: Networks whose weights are made for one size of image, and the least side of the others.
FIXED, LEAST = ("vit", "deit", "swin"), {2: 64, 3: 16}
#: Answers of which the standard deviation is less say little: a constant would be equal, too.
FLAT = 1e-4


def size_of(name: str) -> tuple[int, ...]:
    """A small image that the network takes."""
    row = BACKBONES[name]
    fixed = name.startswith(FIXED)
    return (row.size if fixed else max(row.minimum, LEAST[row.dimensions]),) * row.dimensions


def model_of(name: str) -> Model:
    """The network with random weights, for two classes."""
    size, channels = size_of(name), 3 if BACKBONES[name].dimensions == 2 else 1
    preprocess = Preprocess(size, channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    about = About(Recipe(method="scratch", backbone=name), preprocess, Target("binary", ("benign", "malignant"), ("malignant",)),
                  Origin(name, 1))  # fmt: skip
    with seeded(0, 0, 0, "weights"):
        return Model(make_network(about).eval(), about)


def answers(model: Model, pixels: torch.Tensor) -> torch.Tensor:
    """What the network says before softmax, (N, 2)."""
    with torch.inference_mode():
        return model.network((pixels - 0.5) / 0.25)


def sharpen(model: Model, pixels: torch.Tensor) -> None:
    """Enlarge and centre the last layer until the classes are apart by 1 ± 1 of these images: deep random networks answer
    nearly the same to all."""
    apart = answers(model, pixels).diff(dim=1).double()
    if apart.std() > 0:
        head = [part for part in model.network.modules() if isinstance(part, nn.Linear) and part.out_features == 2][-1]
        factor = float(1 / apart.std())
        with torch.no_grad():
            head.weight *= factor
            head.bias *= factor
            head.bias[1] -= float(apart.mean()) * factor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(BACKBONES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| network | image | exporter | largest difference | spread | seconds |\n|---|---|---|---|---|---|", flush=True
    )
    for name in options.only.split(","):
        model, size, began = model_of(name), size_of(name), time.monotonic()
        pixels = torch.rand(8, model.about.preprocess.channels, *size, generator=torch.Generator().manual_seed(0))
        pixels *= torch.linspace(0.2, 1, 8).reshape(-1, 1, *[1] * len(size))  # of different brightness: they differ
        if answers(model, pixels).softmax(1)[:, 0].std() < FLAT:
            sharpen(model, pixels)
        truth = answers(model, pixels).softmax(1).numpy()
        shown = "×".join(map(str, size))
        with tempfile.TemporaryDirectory() as folder:
            try:
                export_onnx(model, Specimens(pixels, truth, ()), Path(folder) / "out")
            except OverreadError as error:
                print(f"| `{name}` | {shown} | none: {error.given} | | | {time.monotonic() - began:.0f} |", flush=True)
                continue
            told = json.loads((Path(folder) / "out" / "export.json").read_text("utf-8"))
        exporter, worst = told["how"].split("`")[1], told["compared"]["largest difference"]
        print(
            f"| `{name}` | {shown} | `{exporter}` | {worst:.0e} | {float(truth[:, 0].std()):.0e} | {time.monotonic() - began:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
