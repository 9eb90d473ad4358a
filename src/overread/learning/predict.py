"""Prediction: images in, one row of probabilities per case out. Images are decoded once, in order, where they can do no harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, InputError, UnsoundError, checked
from overread.core.files import cores
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.preprocess import Preprocess, geometry, load
from overread.learning.device import autocast, layout, mean_over, pick_device, to_tensor
from overread.learning.loader import ahead
from overread.learning.loop import Judge
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.tasks.target import Target
from overread.tasks.task import Task

_BATCH = 32


@checked
def predict(
    model: Model, cases: Cases, *, device: str = "", threads: int = 0, part: str = "", progress: Progress = silent
) -> Predictions:
    """Predict every case: the mean over its images of the class probabilities.

    ``part`` fills the column ``split``; where it is blank, ``seen`` marks cases whose patients the model was trained or
    tuned on, and with them goes what the model says of itself: who judges them is told. Images that cannot be read are
    left out; raises :class:`InputError` if none can. Columns that are no roles are carried along as subgroups.
    """
    values, errors = predict_images(model, paths(cases), device=device, threads=threads, progress=progress)
    if len(errors) == len(cases):
        raise InputError("none of the images can be read", given=next(iter(errors.values()), "an empty table"))
    made = tabulate(values, cases, model.target, part)
    table = made.table
    seen = (table["split"] == "") & model.saw(table["patient"].tolist())
    return replace(
        made, table=table.assign(split=table["split"].mask(seen, "seen")), by=model.facts, identifiers=cases.identifiers
    )


@checked
def predict_images(
    model: Model, addresses: Sequence[str], *, device: str = "", threads: int = 0, progress: Progress = silent
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Probabilities (N, outputs) of images, NaN where one cannot be read, and the errors by position."""
    device = pick_device(device)
    about, task, network = model.about, model.target.task, layout(model.network, device).eval()
    values = np.full((len(addresses), about.target.outputs), np.nan, np.float32)
    errors: dict[int, str] = {}
    for rows, pixels in ahead(_decoded(addresses, about.preprocess, threads or cores(), errors)):
        if len(rows):
            x = to_tensor(pixels, about.preprocess, model.mean_image, device)
            made = task.probabilities(outputs_of(network, x, about.recipe.views, device)).cpu().numpy()
            _require_finite(made, rows)
            values[rows] = made
        progress("predicting", min(len(addresses), int(rows[-1]) + 1 if len(rows) else 0), len(addresses))
    progress("predicting", len(addresses), len(addresses))
    return task.unscaled(values, about.scale), errors


def _require_finite(values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """A number that is none would look like an image that cannot be read, and its case would be missing."""
    wrong = rows[~np.isfinite(values).all(axis=1)]
    if len(wrong):
        given = f"{len(wrong)} of {len(rows)} images, first image {wrong[0] + 1}"
        raise UnsoundError("the model's answers are not finite numbers", given=given, todo="train it again")


def _decoded(
    addresses: Sequence[str], preprocess: Preprocess, workers: int, errors: dict[int, str]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """``(rows, images)`` batch by batch; what cannot be read goes to ``errors``, without the name of its file."""
    tasks = ((address,) for address in addresses)
    with closing(contained(load, tasks, common=(geometry(preprocess),), workers=workers)) as found:
        for start in range(0, len(addresses), _BATCH):
            made = list(islice(found, _BATCH))
            wrong = {i: item.reason or str(item) for i, item in enumerate(made) if isinstance(item, ImageError)}
            errors.update({start + i: reason for i, reason in wrong.items()})
            good = [i for i in range(len(made)) if i not in wrong]
            images = np.stack([made[i] for i in good]) if good else np.empty(0)
            yield np.array([start + i for i in good], np.int64), images


@torch.inference_mode()
def outputs_of(network: nn.Module, x: Tensor, views: int, device: str = "cpu", precision: str = "float32") -> Tensor:
    """Outputs (B, K) in float32, the mean over ``views`` orientations of the images."""
    with autocast(device, precision):
        return mean_over(network, x, views)


@checked
def tabulate(values: NDArray, cases: Cases, target: Target, part: str = "") -> Predictions:
    """The table of predictions from probabilities (images, outputs): the mean over each case's readable images."""
    outputs = list(target.task.prediction_columns)
    skip = ("image", "view", "time", "split")
    table = cases.table.drop(columns=[c for c in skip if c in cases.table])
    first = [c for c in ("case", "patient", "source", *target.columns) if c in table]
    rest = [c for c in table.columns if c not in first]
    readable = ~np.isnan(values).any(axis=1)
    table, scores = table[readable], pd.DataFrame(values[readable].astype(np.float64), columns=outputs)
    means = scores.groupby(table["case"].to_numpy(), sort=False).mean()
    one = table.drop_duplicates("case").reset_index(drop=True)
    one.insert(2, "split", part)
    one = one[["case", "patient", "split", "source", *rest, *target.columns]]
    return Predictions(pd.concat([one, means.loc[one["case"]].reset_index(drop=True)], axis=1), target)


@checked
def load_model(folder: str | Path) -> Model:
    """A model from its folder, or from a run's folder that holds ``model/``."""
    folder = Path(folder)
    return Model.load(folder / "model" if (folder / "model" / "model.json").exists() else folder)


# -- how good a network is on tuning images: the score that picks a snapshot --------------------------------------


_TUNING_BATCH = 64


def judge_on(
    images: NDArray[Any], rows: NDArray[np.int64], labels: Tensor, task: Task, preprocess: Preprocess,
    *, mean_image: NDArray | None = None, device: str = "cpu",
) -> Judge:  # fmt: skip
    """A function that judges a network on these rows of a pack, without augmentation or mirror images."""
    truth = labels[torch.from_numpy(rows)]
    loss = task.loss(np.ones(task.outputs, np.float32), 0.0)

    def judge(network: nn.Module) -> dict[str, float]:
        network.eval()
        batches = (to_tensor(images[rows[i : i + _TUNING_BATCH]], preprocess, mean_image, device)
                   for i in range(0, len(rows), _TUNING_BATCH))  # fmt: skip
        outputs = torch.cat([outputs_of(network, x, 1, device).cpu() for x in batches])
        value = float(loss(outputs, truth))
        return {"score": task.snapshot_score(outputs.numpy(), truth.numpy(), value), "loss": value}

    return judge
