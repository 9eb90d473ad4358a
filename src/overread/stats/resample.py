"""The patient bootstrap, vectorised: a matrix of how often each resample drew each patient.

A statistic is a function from weights (B, P) to values (B, S). Weights of one give its value, weights drawn
with replacement its spread; so no loop ever calls a metric, and the value and its interval cannot drift
apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from overread.chance import bits
from overread.errors import checked, require
from overread.stats.arrays import TINY, distinct, expit, normal_quantile, t_quantile
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import wilson

#: Numbers in one chunk of a (resamples, images) matrix: memory stays bounded, whatever N is.
CHUNK = 1 << 18
#: Numbers drawn at once: they stay in the processor's nearest cache.
CACHED = 1 << 14

Weights = NDArray[np.uint16]
Scale = Literal["share", "positive", "below one", "correlation", "plain"]


@dataclass(frozen=True)
class Column:
    """One metric of a :class:`Statistic`: what it is called and how its interval is made.

    ``scale``: ``share`` for values in 0 … 1, ``positive`` from 0 on, ``below one`` up to 1, ``correlation``
    −1 … 1, ``plain`` for any. ``effective``: the patients that bound a perfect share. ``freedom``: degrees of
    freedom of Student's t where few patients carry the metric, 0 for the normal quantile. ``why``: the reason
    of a NaN.
    """

    metric: str
    of: str = ""
    images: int = 0
    patients: int = 0
    scale: Scale = "share"
    effective: int = 1
    freedom: int = 0
    why: str = "no cases of one class"
    note: str = ""


@dataclass(frozen=True, eq=False)
class Statistic:
    """Metrics computed together: ``compute`` takes weights (B, P) to (B, len(columns)), NaN where undefined."""

    columns: tuple[Column, ...]
    compute: Callable[[Weights], NDArray[np.float64]]


def per_patient(codes: NDArray[np.int64], patients: int, *columns: NDArray[Any]) -> NDArray[np.float64]:
    """Sums of each column over the images of each patient: (P, columns)."""
    return np.column_stack([np.bincount(codes, column, patients) for column in columns])


@checked
def mean_statistic(
    metric: str,
    values: NDArray[np.float64],
    codes: NDArray[np.int64],
    patients: int,
    *,
    of: str = "",
    note: str = "",
) -> Statistic:
    """The mean of ``values`` (N,) ≥ 0 over images, such as the Brier score."""
    cells = per_patient(codes, patients, np.ones(len(values)), values)
    column = Column(metric, of, len(values), distinct(codes), "positive", note=note, why="no cases")

    def compute(weights: Weights) -> NDArray[np.float64]:
        many, total = (weights @ cells).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total / many)[:, None]

    return Statistic((column,), compute)


@checked
def resamples_for(images: int) -> int:
    """How many resamples: 2,000 up to 10,000 images, then fewer, down to 400 from 50,000 images on.

    So 100,000 images take seconds. The interval uses the spread of the resamples, not their tails; with 400 its width is uncertain by 3.5 %.

    >>> resamples_for(1000), resamples_for(100_000)
    (2000, 400)
    """
    return int(min(2000, max(400, 20_000_000 // max(images, 1))))


@checked
def draws(patients: int, resamples: int, seed: int = 0, *, width: int | None = None) -> Iterator[Weights]:
    """How often each of ``resamples`` draws each patient, in chunks (B, P) of at most ``CHUNK`` numbers.

    ``width``: images, if more than patients. Counter-based (Philox: Salmon et al. 2011), keyed by ``seed``:
    the same weights whatever the chunks.

    >>> next(draws(5, 3)).sum(axis=1).tolist()
    [5, 5, 5]
    """
    require(patients >= 1, "there must be at least one patient", given=patients)
    generator = np.random.Philox(key=bits(seed, 0, np.arange(2), "bootstrap"))
    at_once = max(1, CHUNK // max(patients, width or 0))
    for start in range(0, resamples, at_once):
        yield _draw(generator, min(at_once, resamples - start), patients)


def _draw(generator: np.random.Philox, count: int, patients: int) -> Weights:
    counts = np.empty((count, patients), np.uint16)
    block = max(1, CACHED // patients)
    for start in range(0, count, block):
        counts[start : start + block] = _draw_block(generator, min(block, count - start), patients)
    return counts


def _draw_block(generator: np.random.Philox, count: int, patients: int) -> NDArray[np.int64]:
    words = (patients + 1) // 2  # two draws of 32 bits from each word of 64
    raw = generator.random_raw(count * words).view(np.uint32).reshape(count, 2 * words)[:, :patients]
    who = np.multiply(raw, np.uint64(patients), dtype=np.uint64)
    who >>= np.uint64(32)
    who += (np.arange(count, dtype=np.uint64) * np.uint64(patients))[:, None]
    return np.bincount(who.ravel().view(np.int64), minlength=count * patients).reshape(count, patients)


def replicate(
    statistics: Sequence[Statistic], patients: int, *, resamples: int, seed: int = 0, images: int = 0
) -> list[NDArray[np.float64]]:
    """The values of each statistic in each resample: arrays (resamples, columns)."""
    chunks = [
        [s.compute(weights) for s in statistics] for weights in draws(patients, resamples, seed, width=images)
    ]
    return [np.concatenate(parts) for parts in zip(*chunks)]


@checked
def bootstrap(
    statistics: Sequence[Statistic],
    patients: int,
    *,
    images: int = 0,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """An estimate of every column of every statistic, all from the same resamples of the patients 0 … P−1.

    The interval is value ± z standard deviations of the resamples, on the logit scale for shares (Boyd, Eng &
    Page 2013 find it better than percentiles for average precision), on that of the logarithm for positive
    numbers and of Fisher's z for correlations, so that it stays in range. A share of 0 or 1 takes Wilson's
    bound for ``effective`` patients instead. With one patient there is no interval.
    """
    require(patients >= 1, "there must be at least one patient", given=patients)
    z = normal_quantile(level)
    many = resamples or resamples_for(max(images, patients))
    ones = np.ones((1, patients), np.uint16)
    values = [s.compute(ones)[0] for s in statistics]
    if patients > 1:
        spreads = replicate(statistics, patients, resamples=many, seed=seed, images=images)
    else:
        spreads = [np.full((1, len(s.columns)), math.nan) for s in statistics]
    return [
        _estimate(column, float(value[i]), spread[:, i], level, z)
        for s, value, spread in zip(statistics, values, spreads)
        for i, column in enumerate(s.columns)
    ]


def _estimate(c: Column, value: float, spread: NDArray[np.float64], level: float, z: float) -> Estimate:
    if not math.isfinite(value):
        return undefined(c.metric, c.why, of=c.of, images=c.images, patients=c.patients)
    low, high, how = _interval(c, value, spread, level, z)
    how = f"{c.note}; {how}" if c.note else how
    return Estimate(c.metric, value, low, high, level, how, c.images, c.patients, c.of)


def _interval(
    c: Column, value: float, spread: NDArray[np.float64], level: float, z: float
) -> tuple[float, float, str]:
    known = spread[np.isfinite(spread)]  # a resample without positives has no sensitivity
    if len(known) < 2 or len(known) < len(spread) / 2:
        return math.nan, math.nan, "no interval: too few patients to resample"
    if c.scale == "share" and not TINY < value < 1 - TINY:
        return *wilson(
            min(max(value, 0.0), 1.0), max(c.effective, 1), z
        ), f"Wilson bound for {c.effective} patients"
    if c.scale == "share":
        known = _off_the_ends(known, value, c.effective)
    to, back, name = _SCALES[c.scale]
    wide = t_quantile(level, c.freedom) if c.freedom > 0 else z
    half, centre = wide * float(np.std(to(known), ddof=1)), float(to(np.array([value]))[0])
    ends = sorted((back(centre - half), back(centre + half)))
    return ends[0], ends[1], f"patient bootstrap, {len(spread):,} resamples{name}"


def _off_the_ends(known: NDArray[np.float64], value: float, effective: int) -> NDArray[np.float64]:
    """A resample of 0 or 1 has no logit: put it half a patient inside, or four times nearer the end than the value."""
    step = 0.5 / (effective + 1)
    return np.clip(known, min(step, value / 4), 1 - min(step, (1 - value) / 4))


def _logit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(x / (1 - x))


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(x, 1e-12))


_Change = tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], Callable[[float], float], str]
_SCALES: dict[str, _Change] = {
    "share": (_logit, expit, ", logit"),
    "positive": (_log, lambda x: math.exp(min(x, 700)), ", logarithm"),
    "below one": (lambda x: _log(1 - x), lambda x: 1 - math.exp(min(x, 700)), ", logarithm"),
    "correlation": (lambda x: np.arctanh(np.clip(x, -1 + 1e-9, 1 - 1e-9)), math.tanh, ", Fisher's z"),
    "plain": (lambda x: x, lambda x: x, ""),
}
