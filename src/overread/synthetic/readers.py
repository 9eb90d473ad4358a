"""Readers with a known truth: answers with planted errors, and scores with planted components of variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from overread.core import random
from overread.core.errors import ArgumentError, checked, require


@dataclass(frozen=True)
class Variances:
    """Variances of a reading study's scores, in units of the latent scale (Roe & Metz 1997, equation 1).

    ``reader`` and ``modality_reader`` shift all of a reader's scores of one truth (in one modality); ``case`` and
    ``modality_case`` are what all readers see in a case; ``reader_case`` is one reader's view of one case in every
    modality; ``error`` is the rest. By custom the last four sum to 1.
    """

    reader: float = 0.0055
    modality_reader: float = 0.0055
    case: float = 0.3
    modality_case: float = 0.3
    reader_case: float = 0.2
    error: float = 0.2

    def __post_init__(self) -> None:
        for name, value in self.items():
            require(0 <= value < math.inf, f"the variance {name} must not be negative", given=value)
        require(self.total > 0, "one variance at least must be above 0")

    def items(self) -> list[tuple[str, float]]:
        """Names and values."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    @property
    def total(self) -> float:
        """The variance of one score, given the truth."""
        return sum(value for _, value in self.items())


@checked
def draw_readings(
    truth: ArrayLike,
    *,
    readers: int = 5,
    sensitivity: float | Sequence[float] = 0.85,
    specificity: float | Sequence[float] = 0.9,
    correlation: float = 0.0,
    missing: float = 0.0,
    names: tuple[str, str] = ("0", "1"),
    cases: Sequence[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """A long table of answers: the columns ``case``, ``reader`` and ``label``.

    ``truth`` (N,) 0 or 1. ``sensitivity`` and ``specificity`` of every reader, or of each (R,). ``correlation`` in 0 …
    1 of the normal variables behind two readers' errors on one case (a Gaussian copula: their shares stay as
    planted). ``missing``: share of answers that are not given. ``names`` of the two classes; ``cases`` (N,), else
    ``case 0`` …. Answers of a reader do not depend on how many others there are.

    >>> draw_readings([1, 0], readers=1, sensitivity=1.0, specificity=1.0)["label"].tolist()
    ['1', '0']
    """
    sick = _truth(truth)
    require(0 <= correlation <= 1, "correlation must lie between 0 and 1", given=correlation)
    errors = np.stack([1 - _each(value, readers, name) for value, name in ((specificity, "specificity"), (sensitivity, "sensitivity"))])  # fmt: skip
    who, case = np.arange(readers)[:, None], np.arange(len(sick))[None, :]
    shared = random.normal(seed, 0, case, "readings/case")
    own = random.normal(seed, who, case, "readings/own")
    latent = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    wrong = latent < _quantiles(errors)[sick.astype(int)[None, :], who]
    label = np.where(wrong ^ sick, names[1], names[0])
    return _table(label, "label", cases, missing, seed)


@checked
def draw_scores(
    truth: ArrayLike,
    *,
    readers: int = 5,
    modalities: Sequence[str] = ("",),
    separation: float | Sequence[float] = 1.5,
    variances: Variances = Variances(),
    missing: float = 0.0,
    cases: Sequence[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """A long table of a multi-reader study: the columns ``case``, ``reader``, ``modality`` and ``score``.

    ``truth`` (N,) 0 or 1, ``separation`` of the two in each modality. The model is that of Roe & Metz 1997 (Academic
    Radiology 4:298–303): score = separation · truth + reader + case + their interactions with the modality + reader ×
    case + error, all normal; the reader's terms are drawn apart for each truth. See :func:`expected_auc`.

    >>> draw_scores([1, 0], readers=2, modalities=("ct", "mr")).shape
    (8, 4)
    """
    sick = _truth(truth)
    apart = _each(separation, len(modalities), "separation", most=math.inf)
    made = [
        _table(_scores(sick, readers, i, apart[i], variances, seed), "score", cases, missing, seed, name)
        for i, name in enumerate(modalities)
    ]
    return pd.concat(made, ignore_index=True)[["case", "reader", "modality", "score"]]


@checked
def expected_auc(separation: float, variances: Variances = Variances()) -> float:
    """The AUC of the mean reader of :func:`draw_scores`: Φ(separation / √(2 · total variance)).

    >>> round(expected_auc(1.5), 3)
    0.854
    """
    return 0.5 * math.erfc(-separation / math.sqrt(2 * variances.total) / math.sqrt(2))


def _scores(
    sick: NDArray[np.bool_], readers: int, modality: int, apart: float, of: Variances, seed: int
) -> NDArray[np.float64]:
    """(R, N) scores of one modality."""
    who, case, state = np.arange(readers)[:, None], np.arange(len(sick))[None, :], sick.astype(int)[None, :]
    drawn = {
        "reader": random.normal(seed, state, who, "scores/reader"),
        "modality_reader": random.normal(seed, state, who, f"scores/reader/{modality}"),
        "case": random.normal(seed, 0, case, "scores/case"),
        "modality_case": random.normal(seed, 0, case, f"scores/case/{modality}"),
        "reader_case": random.normal(seed, who, case, "scores/reader and case"),
        "error": random.normal(seed, who, case, f"scores/error/{modality}"),
    }
    return apart * state + sum(math.sqrt(value) * drawn[name] for name, value in of.items())


def _truth(truth: ArrayLike) -> NDArray[np.bool_]:
    values = np.asarray(truth)
    require(values.ndim == 1 and bool(np.isin(values, (0, 1)).all()), "truth must hold 0 or 1 for each case",
            given=f"{values.dtype} of shape {values.shape}")  # fmt: skip
    return values.astype(bool)


def _each(value: float | Sequence[float], count: int, name: str, most: float = 1.0) -> NDArray[np.float64]:
    """One number for each of ``count``."""
    require(count >= 1, "there must be one reader and one modality at least", given=count)
    values = np.asarray(value, np.float64)
    if values.ndim and values.shape != (count,):
        raise ArgumentError(f"{name} must be one number, or one for each", given=f"{values.shape}, {count} wanted")  # fmt: skip
    require(bool(((values >= 0) & (values <= most)).all()), f"{name} must not lie outside 0 and {most:g}", given=value)  # fmt: skip
    return np.broadcast_to(values, (count,))


def _quantiles(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import ndtri

    return np.asarray(ndtri(shares))


def _table(
    values: NDArray[np.generic], column: str, cases: Sequence[str], missing: float, seed: int, modality: str = ""
) -> pd.DataFrame:  # fmt: skip
    """A row for each answer that is given, by case and then by reader."""
    readers, count = values.shape
    require(0 <= missing < 1, "missing must lie between 0 and 1", given=missing)
    named = list(cases) or [f"case {i}" for i in range(count)]
    require(len(named) == count, "cases must name each case", given=f"{len(named)} names of {count}")
    who, case = np.tile(np.arange(readers), count), np.repeat(np.arange(count), readers)
    given = random.uniform(seed, who, case, f"readers/missing/{modality}") >= missing
    table = pd.DataFrame({"case": np.asarray(named, object)[case], "reader": [f"reader {j + 1}" for j in who],
                          "modality": modality, column: values.T.ravel()})  # fmt: skip
    kept = table[given].reset_index(drop=True)
    return kept if column == "score" else kept.drop(columns="modality")
