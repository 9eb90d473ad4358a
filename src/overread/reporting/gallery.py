"""The most confident errors, with small pictures: where a reader's eye is worth most."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, checked, require
from overread.core.files import write_bytes, write_json
from overread.core.sandbox import contained_call
from overread.evaluation.decision.class_decision import ClassDecision
from overread.evaluation.questions import ScoredCases
from overread.images.read import Image, read_image
from overread.predictions import Predictions

THUMBNAIL = 176  # pixels, the longer side


@checked
def confident_errors(predictions: Predictions, *, count: int = 12, positive: tuple[str, ...] = (),
                     threshold: float | None = None, decision: ClassDecision | None = None) -> pd.DataFrame:  # fmt: skip
    """The cases on which the model was most surely wrong, one row each: case, truth, predicted, probability.

    With ``positive`` classes and a ``threshold`` an error is a case on the wrong side of it; otherwise a class other
    than the one called (by ``decision``, else the most probable), a finding on the wrong side of 0.5, or the largest
    distance of a quantity. Unlabelled cases are left out. Raises ArgumentError for a count below 1.
    """
    require(count >= 1, "count must be at least 1", given=count)
    task = predictions.target.task
    if task.multilabel:
        rows = _findings(predictions)
    elif task.continuous:
        rows = _quantity(predictions)
    elif positive and threshold is not None:
        rows = _detection(predictions, positive, threshold)
    else:
        rows = _classes(predictions, decision)
    order = rows.sort_values(["surprise", "case"], ascending=[False, True], kind="stable")
    return order.drop_duplicates("case").head(count).drop(columns="surprise").reset_index(drop=True)


def _rows(predictions: Predictions, chosen: NDArray[np.bool_], truth: Any, predicted: Any, probability: NDArray[Any],
          surprise: NDArray[Any] | None = None) -> pd.DataFrame:  # fmt: skip
    table = pd.DataFrame({"case": predictions.table["case"].to_numpy(), "truth": truth, "predicted": predicted,
                          "probability": probability, "surprise": probability if surprise is None else surprise})  # fmt: skip
    return table[chosen]


def _classes(predictions: Predictions, decision: ClassDecision | None) -> pd.DataFrame:
    names, facts = np.array(predictions.target.names, dtype=object), ScoredCases.of(predictions, decision)
    truth, predicted = facts.truth, facts.called
    chance = np.take_along_axis(predictions.scores, predicted[:, None], axis=1)[:, 0]
    return _rows(predictions, (truth >= 0) & (predicted != truth), names[truth], names[predicted], chance)


def _detection(predictions: Predictions, positive: tuple[str, ...], threshold: float) -> pd.DataFrame:
    names = list(predictions.target.names)
    positives = [names.index(name) for name in positive]
    score, truth = predictions.scores[:, positives].sum(axis=1), predictions.truth
    flagged, diseased = score >= threshold, np.isin(truth, positives)
    group = " or ".join(positive)
    predicted = np.where(flagged, group, f"not {group}")
    surprise = np.where(flagged, score - threshold, threshold - score)
    wrong = (truth >= 0) & (flagged != diseased)
    return _rows(predictions, wrong, np.array(names, dtype=object)[truth], predicted, score, surprise)


def _findings(predictions: Predictions) -> pd.DataFrame:
    truth, score = predictions.truth, predictions.scores
    tables = [
        _rows(predictions, ~np.isnan(truth[:, i]) & ((score[:, i] >= 0.5) != (truth[:, i] == 1)),
              np.where(truth[:, i] == 1, name, f"no {name}"), np.where(score[:, i] >= 0.5, name, f"no {name}"),
              score[:, i], np.abs(score[:, i] - np.nan_to_num(truth[:, i])))
        for i, name in enumerate(predictions.target.names)
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _quantity(predictions: Predictions) -> pd.DataFrame:
    truth, predicted = predictions.truth, predictions.scores[:, 0]
    text = [[f"{v:.4g}" for v in column] for column in (truth, predicted)]
    nothing = np.full(len(predicted), np.nan)
    return _rows(predictions, ~np.isnan(truth), text[0], text[1], nothing, np.abs(predicted - truth))


@checked
def write_gallery(folder: str | os.PathLike[str], cases: Cases, predictions: Predictions, *, count: int = 12,
                  positive: tuple[str, ...] = (), threshold: float | None = None, decision: ClassDecision | None = None, unseen: Collection[str] = ()) -> Path:  # fmt: skip
    """Write ``gallery.json`` and its thumbnails under ``folder/explanations``; gives the path of the list.

    See :func:`confident_errors` for what counts as an error. An image that cannot be read gets no thumbnail, and neither
    do the ``unseen`` cases, whose pixels may name a patient.
    """
    home = Path(folder)
    errors = confident_errors(predictions, count=count, positive=positive, threshold=threshold, decision=decision)
    images = dict(zip(cases.table["case"][::-1], paths(cases)[::-1], strict=True))  # a case's first image
    entries = []
    for number, error in enumerate(errors.to_dict("records"), start=1):
        address = None if error["case"] in unseen else images.get(error["case"])
        thumbnail = _thumbnail(address, home, f"explanations/errors/{number:02d}.png")
        entries.append({**error, "thumbnail": thumbnail})
    return write_json(home / "explanations" / "gallery.json", entries)


def _thumbnail(address: str | None, home: Path, relative: str) -> str:
    if address is None:
        return ""
    try:
        pixels = _small(contained_call(read_image, address))
    except ImageError:
        return ""
    done, data = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    if done:
        write_bytes(home / relative, data.tobytes())
    return relative if done else ""


def _small(image: Image) -> NDArray[np.uint8]:
    """(h, w) or (h, w, 3) uint8 of at most :data:`THUMBNAIL` pixels; a volume by its middle slice."""
    pixels = image.pixels[len(image.pixels) // 2] if image.mode == "volume" else image.pixels
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]
    if pixels.dtype != np.uint8:
        low, high = np.percentile(pixels, (0.5, 99.5))
        pixels = np.clip((pixels - low) / max(float(high - low), 1e-6) * 255, 0, 255).astype(np.uint8)
    scale = THUMBNAIL / max(pixels.shape[:2])
    shape = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale > 3 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), shape, interpolation=how), np.uint8)
