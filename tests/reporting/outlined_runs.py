"""A run that outlined objects, as its stages leave it: phantom images whose objects are discs, and predictions with known errors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from overread.core.files import read_json, write_json
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import write_labels
from overread.reporting.outlined.shown_images import write_overlays
from overread.tasks.target import Target

_SPEC = importlib.util.spec_from_file_location("reporting_runs_of_outlines", Path(__file__).with_name("runs.py"))
_RUNS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_RUNS)


def discs(number: int, size: int = 96) -> np.ndarray:
    """Touching discs of several sizes, others in each image."""
    rng = np.random.default_rng(number)
    labels = np.zeros((size, size), np.int32)
    yy, xx = np.mgrid[:size, :size]
    for label in range(1, 13):
        y, x, r = rng.uniform(6, size - 6), rng.uniform(6, size - 6), rng.uniform(4, 11)
        labels[((yy - y) ** 2 + (xx - x) ** 2 < r * r) & (labels == 0)] = label
    return labels


def drawn(labels: np.ndarray, number: int) -> np.ndarray:
    """The same with an object missed, two joined, one cut, and one where nothing is."""
    made = labels.copy()
    made[made == 1 + number % 3] = 0
    if number % 2:
        made[made == 5] = 4
    half = np.arange(made.shape[1]) < np.median(np.nonzero(made == 7)[1]) if (made == 7).any() else False
    made[(made == 7) & half] = 20
    if number % 4 == 3:
        made[:4, :4] = np.where(made[:4, :4] == 0, 21, made[:4, :4])
    return made


def make_outlined_run(folder: Path, *, images: int = 36, pixel_size: float = 0.0) -> Path:
    """A finished run, but for its report."""
    names = [f"k{n:04d}" for n in range(images)]
    home = folder / "predictions"
    for number, name in enumerate(names):
        labels = discs(number)
        bright = 25 if number % 3 == 0 else 170
        noise = np.random.default_rng(number).normal(0, 3, labels.shape)
        grey = np.clip(np.where(labels > 0, bright, 8) + noise, 0, 255).astype(np.uint8)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), grey)
        write_labels(home / "truth" / f"{name}.png", labels)
        write_labels(home / "test" / f"{name}.png", drawn(labels, number))
    table = pd.DataFrame({"case": names, "patient": names, "split": "test", "source": [("A", "B", "C")[n % 3] for n in range(images)],
                          "predicted": [f"test/{n}.png" for n in names], "truth": [f"truth/{n}.png" for n in names]})  # fmt: skip
    if pixel_size:
        table["pixel_size"] = pixel_size
    test = PredictedOutlines(table, str(home))
    test.save(home / "test.csv")
    judged = evaluate_outlines(test, ledger=folder / "ledger.jsonl", model="ab" * 32, resamples=120)
    judged.save(folder / "evaluation")
    target = Target("segmentation", ("object",))
    _RUNS._study(folder, target)
    _RUNS._audit(folder, Target("segmentation", ("object",)), True, ("A", "B", "C"))
    _RUNS._model(folder, target)
    write_json(
        folder / "audit.json",
        {name: held for name, held in read_json(folder / "audit.json").items() if name != "shortcut"},
    )
    addresses = {name: str(folder / "images" / f"{name}.png") for name in names}
    write_overlays(folder, addresses, test, judged, withheld={names[1]}, worst=4, others=2)
    return folder
