"""One opinion beside a bare forward pass of the same network, and the same asked of the server: what sandbox, checks and words cost.

``python -m benchmarks.opinion``: a 1024² picture, networks with random weights, two threads. Prints the seconds of the
opinion (the median of several, the reader open), of the bare forward pass on the prepared picture, their ratio, and those
of a picture that is dropped on ``overread serve``: without an index, and with one of 4,000 known cases, whose nearest are
asked for too. Ends with 1 where an answer takes longer than its bar.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pandas as pd
import torch

from overread.cases.audit.image_checks import TrainingImages
from overread.evaluation.decision.single_case import Standards
from overread.images.preprocess import Preprocess, load
from overread.learning.device import seeded, to_tensor
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.retrieval.copies import LIKENESS
from overread.retrieval.index import AboutIndex, Index
from overread.retrieval.neighbours import unit
from overread.retrieval.novelty import Limit
from overread.study.opinion import Reader
from overread.tasks.target import Target

#: The bars: seconds of an answer, by network.
BARS = {"mobilenet_v2": 2.0, "resnet50": 5.0}
#: Known cases of the index.
KNOWN = 4000


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--side", type=int, default=1024)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    with tempfile.TemporaryDirectory() as folder:
        good = [_timed(name, bar, wanted, Path(folder)) for name, bar in BARS.items()]
    raise SystemExit(0 if all(good) else 1)


def _timed(name: str, bar: float, wanted: argparse.Namespace, folder: Path) -> bool:
    picture, model = _picture(folder / "opinion.png", wanted.side), _model(name)
    reader = Reader(model, Standards(model.target), TrainingImages(), (), "", threads=wanted.threads)
    reader.opinion(picture)  # the sandbox has its process from here on
    whole = _median(lambda: reader.opinion(picture), wanted.times)
    x = to_tensor(load(picture, model.about.preprocess)[None], model.about.preprocess)
    bare = _median(lambda: _forward(model, x), wanted.times)
    print(f"{name}: opinion {whole:.3f} s, bare forward {bare:.3f} s, ratio {whole / bare:.1f}")
    run = folder / name
    model.save(run / "model")
    plain = _served(run, picture, wanted, ("predict",))
    _index(model).save(run / "index")
    known = _served(run, picture, wanted, ("predict", "similar"))
    shutil.rmtree(run)
    print(
        f"{name}: dropped on the server {plain:.3f} s, with the nearest of {KNOWN:,} known cases {known:.3f} s (bar {bar:g} s)"
    )
    return max(whole, plain, known) <= bar


def _served(run: Path, picture: Path, wanted: argparse.Namespace, asked: tuple[str, ...]) -> float:
    """Median seconds until all that is asked of a picture is answered."""
    data = picture.read_bytes()
    with _server(run, wanted.threads) as url, httpx.Client(timeout=120) as client:

        def drop() -> None:
            for what in asked:
                client.post(url + what, files={"file": ("image.png", data)}).raise_for_status()

        drop()
        return _median(drop, wanted.times)


@contextmanager
def _server(run: Path, threads: int) -> Iterator[str]:
    """``overread serve`` on a free port of loopback."""
    command = [sys.executable, "-m", "overread.cli.main", "serve", str(run), "--port", "0", "--rate", "0", "--threads", str(threads)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"is open: (\S+)", line):
                yield found[1]
                break
        else:
            raise SystemExit(said)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _index(model: Model) -> Index:
    """Known cases of a patient each at random places."""
    width = model.network.width
    vectors = np.random.default_rng(1).normal(size=(KNOWN, width)).astype(np.float32)
    rows = pd.DataFrame({"case": [f"c{i}" for i in range(KNOWN)], "patient": [f"h{i}" for i in range(KNOWN)], "source": "", "split": "train",
                         "label": ["no", "yes"] * (KNOWN // 2)}, dtype=object)  # fmt: skip
    about = AboutIndex(model.digest, "features", "cosine", width, KNOWN, KNOWN, novelty=Limit(distance=0.4))
    return Index(model, about, unit(vectors), rows, np.zeros(KNOWN, LIKENESS))


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
