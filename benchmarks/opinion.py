"""One opinion beside a bare forward pass of the same network: what the sandbox, the checks and the words cost.

``python -m benchmarks.opinion``: a 1024² picture, networks with random weights, two threads. Prints the seconds of the
opinion (the median of several, the reader open), of the bare forward pass on the prepared picture, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from overread.cases.audit.image_checks import TrainingImages
from overread.evaluation.decision.single_case import Standards
from overread.images.preprocess import Preprocess, load
from overread.learning.device import seeded, to_tensor
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.study.opinion import Reader
from overread.tasks.target import Target

#: The bars: seconds of an answer, by network.
BARS = {"mobilenet_v2": 2.0, "resnet50": 5.0}


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=Path("."), help="where the picture is written")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    picture = _picture(wanted.folder / "opinion.png", wanted.side)
    for name, bar in BARS.items():
        model = _model(name)
        reader = Reader(model, Standards(model.target), TrainingImages(), (), "", threads=wanted.threads)
        reader.opinion(picture)  # the sandbox has its process from here on
        whole = _median(lambda reader=reader: reader.opinion(picture), wanted.times)
        x = to_tensor(load(picture, model.about.preprocess)[None], model.about.preprocess)
        bare = _median(lambda model=model, x=x: _forward(model, x), wanted.times)
        print(f"{name}: opinion {whole:.3f} s (bar {bar:g} s), bare forward {bare:.3f} s, ratio {whole / bare:.1f}")


def _picture(path: Path, side: int) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(noise, (0, 0), 5))
    return path


def _model(name: str) -> Model:
    about = About(Recipe(method="scratch", backbone=name, views=1), Preprocess((224, 224), 3, mean=(0.5,) * 3, std=(0.25,) * 3),
                  Target("binary", ("no", "yes"), ("yes",)), Origin(name, 1))  # fmt: skip
    with seeded(0, 0, 0, "benchmark"):
        return Model(make_network(about).eval(), about)


@torch.inference_mode()
def _forward(model: Model, x: torch.Tensor) -> torch.Tensor:
    return model.network(x)


def _median(call: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
