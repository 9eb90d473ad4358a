"""Prediction: images in, one row of probabilities per case out. Images are decoded once, in order, where they can do no harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, InputError, checked
from overread.core.files import cores
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.preprocess import Preprocess, geometry, load
from overread.learning.device import autocast, layout, pick_device, to_tensor
from overread.learning.loader import ahead
from overread.learning.loop import Judge
from overread.learning.losses import make_loss, probabilities
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.tasks.target import Target

_BATCH = 32


@checked
def predict(
    model: Model, cases: Cases, *, device: str = "", threads: int = 0, part: str = "", progress: Progress = silent
) -> Predictions:
    """Predict every case: the mean over its images of the class probabilities.

    ``part`` fills the column ``split``. Images that cannot be read are left out; raises :class:`InputError` if none
    can. Columns that are no roles are carried along as subgroups.
    """
    values, errors = predict_images(model, paths(cases), device=device, threads=threads, progress=progress)
    if len(errors) == len(cases):
        raise InputError("none of the images can be read", given=next(iter(errors.values()), "an empty table"))
    return tabulate(values, cases, model.target, part)


@checked
def predict_images(
    model: Model, addresses: Sequence[str], *, device: str = "", threads: int = 0, progress: Progress = silent
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Probabilities (N, outputs) of images, NaN where one cannot be read, and the errors by position."""
    device = pick_device(device)
    about, network = model.about, layout(model.network, device).eval()
    values = np.full((len(addresses), about.target.outputs), np.nan, np.float32)
    errors: dict[int, str] = {}
    for rows, pixels in ahead(_decoded(addresses, about.preprocess, threads or cores(), errors)):
        if len(rows):
            x = to_tensor(pixels, about.preprocess, model.mean_image, device)
            values[rows] = probabilities(outputs_of(network, x, about.recipe.views, device), about.target).cpu().numpy()
        progress("predicting", min(len(addresses), int(rows[-1]) + 1 if len(rows) else 0), len(addresses))
    progress("predicting", len(addresses), len(addresses))
    if about.target.kind == "quantity":
        values = values * about.scale[1] + about.scale[0]
    return values, errors


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
            yield (
                np.array([start + i for i in good], np.int64),
                np.stack([made[i] for i in good]) if good else np.empty(0),
            )


@torch.inference_mode()
def outputs_of(network: nn.Module, x: Tensor, views: int, device: str = "cpu", precision: str = "float32") -> Tensor:
    """Outputs (B, K) in float32, the mean over the image and, for two views, its mirror image."""
    with autocast(device, precision):
        outputs = network(x).float()
        return (outputs + network(x.flip(-1)).float()) / 2 if views == 2 else outputs


@checked
def tabulate(values: NDArray, cases: Cases, target: Target, part: str = "") -> Predictions:
    """The table of predictions from probabilities (images, outputs): the mean over each case's readable images."""
    outputs = ["predicted"] if target.kind == "quantity" else [f"p:{name}" for name in target.names]
    skip = ("image", "view", "time", "split")
    table = cases.table.drop(columns=[c for c in skip if c in cases.table])
    first = [c for c in ("case", "patient", "source", *target.columns) if c in table]
    rest = [c for c in table.columns if c not in first]
    readable = ~np.isnan(values).any(axis=1)
    table, scores = table[readable], pd.DataFrame(values[readable].astype(np.float64), columns=outputs)
    means = scores.groupby(table["case"].to_numpy(), sort=False).mean()
    one = table.drop_duplicates("case").reset_index(drop=True)
    one.insert(2, "split", part)
    parts = [
        one[["case", "patient", "split", "source", *rest, *target.columns]],
        means.loc[one["case"]].reset_index(drop=True),
    ]
    return Predictions(pd.concat(parts, axis=1), target)


@checked
def load_model(folder: str | Path) -> Model:
    """A model from its folder, or from a run's folder that holds ``model/``."""
    folder = Path(folder)
    return Model.load(folder / "model" if (folder / "model" / "model.json").exists() else folder)


# -- how good a network is on tuning images: the score that picks a snapshot --------------------------------------


_TUNING_BATCH = 64


def judge_on(
    images: NDArray[Any], rows: NDArray[np.int64], labels: Tensor, target: Target, preprocess: Preprocess,
    *, mean_image: NDArray | None = None, device: str = "cpu",
) -> Judge:  # fmt: skip
    """A function that judges a network on these rows of a pack, without augmentation or mirror images."""
    truth = labels[torch.from_numpy(rows)]
    loss = make_loss(target, np.ones(target.outputs, np.float32), 0.0)

    def judge(network: nn.Module) -> dict[str, float]:
        network.eval()
        batches = (to_tensor(images[rows[i : i + _TUNING_BATCH]], preprocess, mean_image, device)
                   for i in range(0, len(rows), _TUNING_BATCH))  # fmt: skip
        outputs = torch.cat([outputs_of(network, x, 1, device).cpu() for x in batches])
        value = float(loss(outputs, truth))
        return {"score": score(outputs.numpy(), truth.numpy(), target, value), "loss": value}

    return judge


@checked
def score(outputs: NDArray, truth: NDArray, target: Target, loss: float) -> float:
    """The mean AUC over classes or findings with both answers present; minus the loss where there is none.

    Monotone per class in the outputs' rank; for a quantity minus the squared error.
    """
    if target.kind == "quantity":
        return -loss
    if target.kind == "findings":
        pairs = [
            (truth[:, k][known] == 1, outputs[:, k][known])
            for k in range(truth.shape[1])
            if (known := ~np.isnan(truth[:, k])).any()
        ]
    else:
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        pairs = [(truth == k, shares[:, k]) for k in range(outputs.shape[1])]
    areas = [_auc(positive, value) for positive, value in pairs if 0 < positive.sum() < len(positive)]
    return float(np.mean(areas)) if areas else -loss


def _auc(positive: NDArray[np.bool_], value: NDArray[Any]) -> float:
    """Mann and Whitney's statistic with midranks; ``scipy.stats.rankdata`` without its import of 1.5 s."""
    _, place, counts = np.unique(value, return_inverse=True, return_counts=True)
    midrank = np.cumsum(counts) - (counts - 1) / 2
    n = int(positive.sum())
    return float((midrank[place][positive].sum() - n * (n + 1) / 2) / (n * (len(value) - n)))
