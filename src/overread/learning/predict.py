"""Prediction: images in, one row of probabilities per case out. Images are decoded once, in order, where they can do no harm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.arrange import arrange
from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, InputError, UnsoundError, checked
from overread.core.files import cores
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.images.preprocess import Preprocess, geometry, load
from overread.learning.device import autocast, layout, mean_over, pick_device, to_tensor
from overread.learning.ensemble import sides_of
from overread.learning.loader import ahead, side_by_side
from overread.learning.loop import Judge
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.tasks.target import Target
from overread.tasks.task import Task

_BATCH = 32


@checked
def predict(
    model: Model, cases: Cases, *, device: str = "", threads: int = 0, part: str = "", progress: Progress = silent,
    say: Say = unheard,
) -> Predictions:  # fmt: skip
    """Predict every case: from all of its images together, or the mean over them of the class probabilities, as the
    model's recipe fuses them.

    Of a model that sees the images of a case together, images that cannot be read count as missing, as those do that a
    case lacks; ``say`` hears how many there are, and what a limit leaves out. Raises :class:`InputError` where images
    cannot be told apart as the fusion needs, or show a view that the training had none of.

    ``part`` fills the column ``split``; where it is blank, ``seen`` marks cases whose patients the model was trained or
    tuned on, and with them goes what the model says of itself: who judges them is told. Images that cannot be read are
    left out; raises :class:`InputError` if none can. Columns that are no roles are carried along as subgroups.
    """
    if model.about.recipe.fusion == "single" or not len(cases):
        values, errors = predict_images(model, paths(cases), device=device, threads=threads, progress=progress)
    else:
        cases, values, errors = _predict_together(model, cases, device, threads, progress, say)
    if np.isnan(values).any(axis=1).all():
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
    network = layout(model.network, device).eval()
    values = np.full((len(addresses), model.target.outputs), np.nan, np.float32)
    errors: dict[int, str] = {}
    sizes = repeat(_BATCH, -(-len(addresses) // _BATCH))
    for rows, pixels in ahead(_decoded(addresses, sizes, model.about.preprocess, threads or cores(), errors)):
        if len(rows):
            x = to_tensor(pixels, model.about.preprocess, model.mean_image, device)
            values[rows] = _answers(model, network, x, rows)
        progress("predicting", min(len(addresses), int(rows[-1]) + 1 if len(rows) else 0), len(addresses))
    progress("predicting", len(addresses), len(addresses))
    return model.target.task.unscaled(values, model.about.scale), errors


def _answers(model: Model, network: nn.Module, x: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Probabilities (B, outputs) of what a network sees; ``rows`` (B,) say in an error which they are."""
    outputs = outputs_of(network, x, model.about.recipe.views, x.device.type)
    made = model.target.task.probabilities(outputs).cpu().numpy()
    _require_finite(made, rows)
    return made


def _predict_together(
    model: Model, cases: Cases, device: str, threads: int, progress: Progress, say: Say
) -> tuple[Cases, NDArray[np.float32], dict[int, str]]:
    """Each case once, probabilities (cases, outputs), NaN where none of its images can be read, and the errors."""
    about, device = model.about, pick_device(device)
    found = arrange(cases, about.recipe.fusion, views=about.views, most=about.recipe.images_per_case)
    network = layout(model.network, device).eval()
    values = np.full((len(found), model.target.outputs), np.nan, np.float32)
    parts = [
        np.arange(len(found))[i : i + size]
        for size in [max(1, _BATCH // found.rows.shape[1])]
        for i in range(0, len(found), size)
    ]
    place = np.full(found.rows.shape, -1)
    place[found.present] = np.arange(found.present.sum())  # in the order of decoding: case by case
    addresses, errors = paths(cases), dict[int, str]()
    wanted, sizes = (
        [addresses[row] for row in found.rows[found.present]],
        [int(found.present[part].sum()) for part in parts],
    )
    decoded = ahead(_decoded(wanted, sizes, about.preprocess, threads or cores(), errors))
    for part, (rows, pixels) in zip(parts, decoded, strict=True):
        there = np.isin(place[part], rows)
        readable = there.any(axis=1)
        if len(rows):
            x = side_by_side(to_tensor(pixels, about.preprocess, model.mean_image, device), there)
            values[part[readable]] = _answers(model, network, x[torch.from_numpy(readable).to(device)], part[readable])
        progress("predicting", int(part[-1]) + 1, len(found))
    for note in found.notes:
        say(f"  {note}")
    if errors:
        dark = count(len({int(np.flatnonzero((place == image).any(axis=1))[0]) for image in errors}), "case")
        say(f"  {count(len(errors), 'image')} of {dark} cannot be read and count as missing")
    return cases.take(found.first), model.target.task.unscaled(values, about.scale), errors


def _require_finite(values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """A number that is none would look like an image that cannot be read, and its case would be missing."""
    wrong = rows[~np.isfinite(values).all(axis=1)]
    if len(wrong):
        given = f"{len(wrong)} of {len(rows)} images, first image {wrong[0] + 1}"
        raise UnsoundError("the model's answers are not finite numbers", given=given, todo="train it again")


def _decoded(
    addresses: Sequence[str], sizes: Iterable[int], preprocess: Preprocess, workers: int, errors: dict[int, str]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """``(rows, images)`` in batches of these sizes; what cannot be read goes to ``errors``, without the name of its file."""
    tasks = ((address,) for address in addresses)
    with closing(contained(load, tasks, common=(geometry(preprocess),), workers=workers)) as found:
        start = 0
        for size in sizes:
            made = list(islice(found, size))
            wrong = {i: item.reason or str(item) for i, item in enumerate(made) if isinstance(item, ImageError)}
            errors.update({start + i: reason for i, reason in wrong.items()})
            good = [i for i in range(len(made)) if i not in wrong]
            images = np.stack([made[i] for i in good]) if good else np.empty(0)
            yield np.array([start + i for i in good], np.int64), images
            start += size


@torch.inference_mode()
def outputs_of(network: nn.Module, x: Tensor, views: int, device: str = "cpu", precision: str = "float32") -> Tensor:
    """Outputs (B, K) in float32, the mean over ``views`` orientations of the images."""
    with autocast(device, precision):
        return mean_over(network, x, views, sides_of(network))


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


@checked
def judge_on(
    images: NDArray[Any], rows: NDArray[np.int64], labels: Tensor, task: Task, preprocess: Preprocess,
    *, mean_image: NDArray | None = None, device: str = "cpu", cases: NDArray[np.int64] | None = None,
) -> Judge:  # fmt: skip
    """A function that judges a network on these rows of a pack, without augmentation or mirror images.

    ``cases``: as in :class:`~overread.learning.loader.Batches`; then ``rows`` and ``labels`` are of cases.
    """
    truth = labels[torch.from_numpy(rows)]
    loss = task.loss(np.ones(task.outputs, np.float32), 0.0)
    size = _TUNING_BATCH if cases is None else max(1, _TUNING_BATCH // cases.shape[1])

    def judge(network: nn.Module) -> dict[str, float]:
        network.eval()
        batches = (
            pixels_of(images, rows[i : i + size], preprocess, mean_image, device, cases)
            for i in range(0, len(rows), size)
        )
        outputs = torch.cat([outputs_of(network, x, 1, device).cpu() for x in batches])
        value = float(loss(outputs, truth))
        return {"score": task.snapshot_score(outputs.numpy(), truth.numpy(), value), "loss": value}

    return judge


@checked
def pixels_of(
    images: NDArray[Any], rows: NDArray[np.int64], preprocess: Preprocess, mean_image: NDArray | None, device: str,
    cases: NDArray[np.int64] | None = None,
) -> Tensor:  # fmt: skip
    """What a network sees of these rows of a pack: images (B, C, H, W), or of ``cases`` (M, V) theirs together."""
    if cases is None:
        return to_tensor(images[rows], preprocess, mean_image, device)
    members = cases[rows]
    return side_by_side(to_tensor(images[members[members >= 0]], preprocess, mean_image, device), members >= 0)
