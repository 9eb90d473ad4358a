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


def size_of(name: str) -> tuple[int, ...]:
    """A small image that the network takes."""
    row = BACKBONES[name]
    fixed = name.startswith(FIXED)
    return (row.size if fixed else max(row.minimum, LEAST[row.dimensions]),) * row.dimensions


def model_of(name: str) -> Model:
    """The network with random weights and a head wide enough for its answers to differ."""
    size, channels = size_of(name), 3 if BACKBONES[name].dimensions == 2 else 1
    preprocess = Preprocess(size, channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    about = About(Recipe(method="scratch", backbone=name), preprocess, Target("binary", ("benign", "malignant"), ("malignant",)),
                  Origin(name, 1))  # fmt: skip
    with seeded(0, 0, 0, "weights"):
        return Model(make_network(about).eval(), about)


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
        with torch.inference_mode():
            truth = model.network((pixels - 0.5) / 0.25).softmax(1).numpy()
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
