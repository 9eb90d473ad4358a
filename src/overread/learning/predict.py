"""Prediction: images in, one row of probabilities per case out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import Cases
from overread.cases.extra_inputs import extra_missing
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning.device import autocast, for_inference, layout, mean_over, pick_device, to_tensor
from overread.learning.ensemble import Committee, sides_of
from overread.learning.inputs import inputs
from overread.learning.loader import side_by_side
from overread.learning.loop import Judge
from overread.learning.model import Model
from overread.networks.numeric_inputs import with_planes
from overread.predictions import Predictions
from overread.tasks.target import Target
from overread.tasks.task import Task


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
    if lacking := extra_missing(cases, [each.column for each in model.about.extra_inputs]):
        say(f"  numbers beside the pixels that are missing, and masked: {lacking}")
    values, errors = predict_images(model, cases, device=device, threads=threads, progress=progress, say=say)
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
    model: Model, cases: Cases, *, device: str = "", threads: int = 0, progress: Progress = silent, say: Say = unheard
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Probabilities (N, outputs) of the N images of a table, and by its row why one cannot be read.

    Of a model that sees the images of a case together its answer stands in the first row of the case. NaN elsewhere.
    """
    device, together = pick_device(device), model.about.recipe.fusion != "single"
    network: nn.Module | None = None
    names = cases.table["case"].astype(str)
    first = dict(zip(names[::-1], range(len(names))[::-1], strict=True))
    values, errors = np.full((len(cases.table), model.target.outputs), np.nan, np.float32), dict[int, str]()
    for batch in inputs(model, cases, device=device, threads=threads, errors=errors, progress=progress, say=say, doing="predicting"):  # fmt: skip
        network = for_inference(model.network, device, batch.x) if network is None else network
        outputs = outputs_of(network, batch.x, model.about.recipe.views, batch.x.device.type)
        made = model.target.task.probabilities(outputs).cpu().numpy()
        rows = np.array([first[case] for case in batch.cases]) if together else batch.rows[:, 0]
        _require_finite(made, rows)
        values[rows] = made
    return model.target.task.unscaled(values, model.about.scale), errors


@checked
def answers(model: Model, x: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a model says of its input x, probabilities or a quantity (B, K); and what each member of an ensemble says,
    (M, B, K), with M = 0 of a single network. See :class:`~overread.learning.inputs.Inputs`.
    """
    network, task, views = layout(model.network, str(x.device)).eval(), model.target.task, model.about.recipe.views
    members = list(network.members) if isinstance(network, Committee) else []
    with torch.inference_mode():
        each = [mean_over(member, x, views, sides_of(network)) for member in members]
        whole = Committee.pooled(each, network.shares) if isinstance(network, Committee) else outputs_of(network, x, views, x.device.type)  # fmt: skip
        told = [task.probabilities(outputs).cpu().numpy() for outputs in (whole, *each)]
    _require_finite(told[0], np.arange(len(x)))
    told = [task.unscaled(one, model.about.scale) for one in told]
    return told[0], np.stack(told[1:]) if members else np.empty((0, *told[0].shape), np.float32)


def _require_finite(values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """A number that is none would look like an image that cannot be read, and its case would be missing."""
    wrong = rows[~np.isfinite(values).all(axis=1)]
    if len(wrong):
        given = f"{len(wrong)} of {len(rows)} images, first image {wrong[0] + 1}"
        raise UnsoundError("the model's answers are not finite numbers", given=given, todo="train it again")


@checked
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
    numbers: NDArray[np.float32] | None = None,
) -> Judge:  # fmt: skip
    """A function that judges a network on these rows of a pack, without augmentation or mirror images.

    ``cases`` and ``numbers``: as in :class:`~overread.learning.loader.Batches`; with ``cases``,
    ``rows`` and ``labels`` are of cases.
    """
    truth = labels[torch.from_numpy(rows)]
    loss = task.loss(np.ones(task.outputs, np.float32), 0.0)
    size = _TUNING_BATCH if cases is None else max(1, _TUNING_BATCH // cases.shape[1])

    def judge(network: nn.Module) -> dict[str, float]:
        network.eval()
        batches = (
            pixels_of(images, rows[i : i + size], preprocess, mean_image, device, cases, numbers)
            for i in range(0, len(rows), size)
        )
        outputs = torch.cat([outputs_of(network, x, 1, device).cpu() for x in batches])
        value = float(loss(outputs, truth))
        return {"score": task.snapshot_score(outputs.numpy(), truth.numpy(), value), "loss": value}

    return judge


@checked
def pixels_of(
    images: NDArray[Any], rows: NDArray[np.int64], preprocess: Preprocess, mean_image: NDArray | None, device: str,
    cases: NDArray[np.int64] | None = None, numbers: NDArray[np.float32] | None = None,
) -> Tensor:  # fmt: skip
    """What a network sees of these rows of a pack: images (B, C, H, W), or of ``cases`` (M, V) theirs together; with the
    ``numbers`` (N, E) of each image beside its pixels."""
    members = rows[:, None] if cases is None else cases[rows]
    shown = members[members >= 0]
    x = to_tensor(images[shown], preprocess, mean_image, device)
    x = with_planes(x, None if numbers is None else numbers[shown])
    return x if cases is None else side_by_side(x, members >= 0)
