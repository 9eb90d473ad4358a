"""Outlines of nuclei under three microscopes against what people use: `python benchmarks/segmentation.py --data DSB2018`.

Bars, on a held-out part grouped by image: fluorescence AP at IoU .5, TP / (TP + FP + FN) pooled over images, of at least
.83 after at most 30 minutes on two cores (StarDist's own notebook on the like: .835); the mean over microscopes of AP
over IoU .5–.95 at least .10 above Otsu's threshold with a watershed, whose parameters are tuned on the tuning images of
each microscope; merged nuclei at most half of those of the sigmoid baseline, which is the same encoder, time and data.

`--data`: a folder with `index.csv` (image, mask, microscope, image_id), as the 2018 Data Science Bowl is laid out in tests.
`--minutes` of training on two cores; with `--processor` by the processor's time, half of it a minute, which other work on
the machine does not touch. `--models FOLDER` keeps each trained model, and uses one that is there. Parameters of all
methods are chosen on tuning images; test images are looked at once, at the end.

`--peer stardist` trains StarDist (Schmidt 2018) from scratch beside it, on the same training images and for the same minutes, with the settings of its
own example for coloured images and thresholds that it optimises on the tuning images; it needs `pip install stardist tensorflow`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

import overread as ov
from overread.cells.cut_search import pooled_precision
from overread.cells.segment import segment_image
from overread.cells.segmenter import train_segmenter
from overread.core.progress import Clock
from overread.images.read import read_image
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.networks.instance_heads import Segmentation
from overread.stats.overlap import TWENTIETHS, Instances

AP_BAR, GAIN_BAR, MERGES_BAR = 0.83, 0.10, 0.5
OTSU = {"sigma": (0.5, 1.0, 2.0), "factor": (0.8, 1.0, 1.2), "apart": (3, 6, 10, 15), "minimum": (20, 60)}


class ProcessorClock(Clock):
    """Minutes of two cores by the processor time that this process and its children took."""

    @property
    def elapsed(self) -> float:
        return time.process_time() / 2


def otsu(pixels: np.ndarray, sigma: float, factor: float, apart: int, minimum: int) -> np.ndarray:
    """Otsu's threshold on the smoothed grey levels, the smaller part being objects; a watershed on the distance to its rim."""
    grey = ndimage.gaussian_filter(pixels.astype(np.float32).mean(axis=-1), sigma)
    bright = grey > threshold_otsu(grey) * factor
    there = bright if bright.mean() < 0.5 else grey < threshold_otsu(grey) / factor
    there = ndimage.binary_fill_holes(there)
    away = ndimage.gaussian_filter(ndimage.distance_transform_edt(there), 1)
    peaks = peak_local_max(away, min_distance=apart, labels=there.astype(int), exclude_border=False)
    seeds = np.zeros(grey.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-away, seeds, mask=there)
    small = np.bincount(labels.ravel()) < minimum
    small[0] = True
    return np.where(small[labels], 0, labels)


def tuned_otsu(images: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    """The parameters with the best mean AP on these images."""
    grid = [dict(zip(OTSU, values, strict=True)) for values in itertools.product(*OTSU.values())]
    return max(
        grid,
        key=lambda p: pooled_precision([Instances.of(t, otsu(i, **p)) for i, t in zip(images, truths, strict=True)]),
    )


def judged(truths: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> dict[str, float]:
    """AP at .5, its mean over IoU .5–.95, F1, PQ, and merged and split objects in a hundred true ones, pooled over images."""
    pairs = [
        Instances.of(truth.astype(np.int64), labels.astype(np.int64))
        for truth, labels in zip(truths, found, strict=True)
    ]
    true, predicted = sum(len(p.true) for p in pairs), sum(len(p.predicted) for p in pairs)
    hits = np.array([sum(int(p.matched(t).sum()) for p in pairs) for t in TWENTIETHS])
    overlap = sum(float((p.shared / p.union)[p.matched()].sum()) for p in pairs)
    merges, splits = (sum(_several(p, way) for p in pairs) for way in ("merges", "splits"))
    return {"AP .5": hits[0] / (true + predicted - hits[0]), "AP": float((hits / (true + predicted - hits)).mean()),
            "F1": 2 * hits[0] / (true + predicted), "PQ": 2 * overlap / (true + predicted), "merges": 100 * merges / true,
            "splits": 100 * splits / true, "objects": true, "found": predicted}  # fmt: skip


def _several(pair: Instances, way: str) -> int:
    """How many objects too few or too many, where one holds more than half of each of several."""
    whole, part, name = (
        (pair.true[pair.rows], pair.shared, pair.columns)
        if way == "merges"
        else (pair.predicted[pair.columns], pair.shared, pair.rows)
    )
    held = np.bincount(name[2 * part > whole], minlength=1)
    return int(np.maximum(held - 1, 0).sum())


def table(
    name: str, truths: list[np.ndarray], found: list[np.ndarray], kinds: list[str]
) -> dict[str, dict[str, float]]:
    """Print and return what a method reaches under each microscope."""
    rows = {}
    for kind in sorted(set(kinds)):
        some = [place for place, own in enumerate(kinds) if own == kind]
        rows[kind] = judged([truths[i] for i in some], [found[i] for i in some])
    rows["mean"] = {key: float(np.mean([row[key] for row in rows.values()])) for key in next(iter(rows.values()))}
    for kind, row in rows.items():
        print(
            f"{name:22s} {kind:13s} "
            + "  ".join(f"{key} {value:.3f}" if value < 1 else f"{key} {value:.1f}" for key, value in row.items()),
            flush=True,
        )
    return rows


def trained(cases, split, head: str, seed: int, given: argparse.Namespace, folder: Path) -> Model:
    """A model of a head with this seed, from the folder or trained now."""
    home = folder / f"{head}-{seed}"
    if (home / "model" / "model.json").exists():
        return Model.load(home / "model")
    limit = 60 * given.minutes
    clock = ProcessorClock(limit + time.process_time() / 2) if given.processor else Clock(limit)
    recipe = Recipe(seed=seed, segmentation=Segmentation(head=head))
    start, used = time.monotonic(), time.process_time()
    model = train_segmenter(
        cases,
        split,
        recipe,
        weights=given.weights,
        folder=home / "checkpoints",
        clock=clock,
        threads=given.threads,
        say=print,
    )
    print(
        f"{head}, seed {seed}: {(time.monotonic() - start) / 60:.1f} min, {(time.process_time() - used) / 60:.1f} min of the processor",
        flush=True,
    )
    model.save(home / "model")
    return model


def coloured(image: np.ndarray) -> np.ndarray:
    """(H, W, 3), each channel between its percentiles 1 and 99.8, as StarDist's example has it."""
    from csbdeep.utils import normalize

    return normalize(np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32), 1, 99.8, axis=(0, 1))


def stardist_labels(taught: Held, tuned: Held, images: Sequence[np.ndarray], seed: int, given: argparse.Namespace, folder: Path) -> list[np.ndarray]:  # fmt: skip
    """What StarDist finds in the images, trained from scratch for as long as ours."""
    import keras
    from stardist.models import Config2D, StarDist2D

    clock = ProcessorClock(0) if given.processor else Clock(0)
    began, start = clock.elapsed, time.monotonic()

    class Stop(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None) -> None:
            Stop.steps += 1
            if clock.elapsed - began > 60 * given.minutes:
                self.model.stop_training = True

    def augmented(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flips, quarter turns and brightness, as its example."""
        turns, flip = np.random.randint(4), np.random.rand() < 0.5
        x, y = np.rot90(x, turns), np.rot90(y, turns)
        x, y = (x[:, ::-1], y[:, ::-1]) if flip else (x, y)
        return x * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2) + 0.02 * np.random.uniform(0, 1) * np.random.normal(0, 1, x.shape), y  # fmt: skip

    keras.utils.set_random_seed(seed)
    form = Config2D(
        n_rays=32, grid=(2, 2), n_channel_in=3, train_epochs=10_000, train_steps_per_epoch=50, train_tensorboard=False
    )
    model = StarDist2D(form, name=f"stardist-{seed}", basedir=str(folder))
    model.prepare_for_training()
    model.callbacks.append(Stop())
    validated = ([coloured(image) for image in tuned.images], [truth.astype(np.uint16) for truth in tuned.truths])
    model.train([coloured(image) for image in taught.images], [truth.astype(np.uint16) for truth in taught.truths], validation_data=validated, augmenter=augmented)  # fmt: skip
    model.optimize_thresholds(*validated)
    print(f"StarDist, seed {seed}: {Stop.steps:,} steps, {(time.monotonic() - start) / 60:.1f} min", flush=True)
    return [model.predict_instances(coloured(image))[0].astype(np.int64) for image in images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="*", default=["offsets", "sigmoid"])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--peer", choices=("", "stardist"), default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.models or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        index = pd.read_csv(given.data / "index.csv")
        for column in ("image", "mask"):
            index[column] = [str((given.data / each).resolve()) for each in index[column]]
        index.to_csv(folder / "index.csv", index=False)
        cases = ov.read_cases(folder / "index.csv", image="image", mask="mask", source="microscope", patient="image_id")
        missed = [line for seed in given.seeds for line in one_seed(cases, index, seed, given, folder)]
    sys.exit("missed: " + "; ".join(missed) if missed else 0)


@dataclass(frozen=True)
class Held:
    """The images of a part, their true labels, and their microscopes."""

    images: list[np.ndarray]
    truths: list[np.ndarray]
    kinds: list[str]


def one_seed(cases, index: pd.DataFrame, seed: int, given: argparse.Namespace, folder: Path) -> list[str]:
    """Train, tune and judge all methods; gives the bars that were missed."""
    split = ov.split(cases, test=0.25, tuning=0.15, seed=seed)

    def held(part: str) -> Held:
        rows = split.rows(cases, part)
        return Held([read_image(index["image"][row]).pixels for row in rows], [cv2.imread(index["mask"][row], cv2.IMREAD_UNCHANGED).astype(np.int64) for row in rows],
                    index["microscope"].iloc[rows].tolist())  # fmt: skip

    models = {head: trained(cases, split, head, seed, given, folder) for head in given.heads}
    tuned, test = held("tuning"), held("test")
    chosen = {kind: tuned_otsu([tuned.images[i] for i, own in enumerate(tuned.kinds) if own == kind], [tuned.truths[i] for i, own in enumerate(tuned.kinds) if own == kind])
              for kind in sorted(set(tuned.kinds))}  # fmt: skip
    classical = table("Otsu + watershed", test.truths, [otsu(image, **chosen[kind]) for image, kind in zip(test.images, test.kinds, strict=True)], test.kinds)  # fmt: skip
    if given.peer == "stardist":
        table("StarDist", test.truths, stardist_labels(held("train"), tuned, test.images, seed, given, folder), test.kinds)  # fmt: skip
    if not models:
        return ["overread was not trained"]
    found = {head: table(f"overread, {head}", test.truths, [segment_image(model, image).labels for image in test.images], test.kinds) for head, model in models.items()}  # fmt: skip
    best = found[given.heads[0]]
    reached, gain = best["fluorescence"]["AP .5"], best["mean"]["AP"] - classical["mean"]["AP"]
    print(f"seed {seed}: fluorescence AP .5 {reached:.3f} (bar {AP_BAR}); mean AP {gain:+.3f} to Otsu + watershed (bar +{GAIN_BAR})", flush=True)  # fmt: skip
    missed = [] if reached >= AP_BAR else [f"seed {seed}: fluorescence AP .5 {reached:.3f}"]
    missed += [] if gain >= GAIN_BAR else [f"seed {seed}: {gain:+.3f} to Otsu + watershed"]
    if "sigmoid" in found and given.heads[0] != "sigmoid":
        share = best["mean"]["merges"] / max(found["sigmoid"]["mean"]["merges"], 1e-9)
        print(f"seed {seed}: merges {share:.2f} of the sigmoid baseline's (bar {MERGES_BAR})", flush=True)
        missed += [] if share <= MERGES_BAR else [f"seed {seed}: merges {share:.2f} of the sigmoid baseline's"]
    return missed


if __name__ == "__main__":
    main()
