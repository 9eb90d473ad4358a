"""The patient bootstrap, vectorised: a matrix of how often each resample drew each patient.

A statistic is a function from weights (B, P) to values (B, S). Weights of one give its value, weights drawn with
replacement its spread; so no loop ever calls a metric, and the value and its interval cannot drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.core.random import bits
from overread.stats.arrays import TINY, Floats, Integers, distinct, expit, normal_quantile, t_quantile
from overread.stats.estimate import Estimate, Moved, undefined
from overread.stats.proportions import wilson

#: Numbers in one chunk of a (resamples, images) matrix: memory stays bounded, whatever N is. What is made of a chunk
#: stays so small that it is taken from memory that the process holds already: four times as much takes twice the time.
CHUNK = 1 << 16
#: Numbers drawn at once: they stay in the processor's nearest cache.
CACHED = 1 << 14

#: Resamples in a chunk, at least: what they are multiplied with is read once for all of them.
TOGETHER = 8
#: From so many patients on, so many resamples are made of one draw, by exchanging who is who.
MANY, REUSED = 2000, 4

#: More kinds of patients than this are not worth counting.
KINDS = 256
#: Irrational, so that no two rows of small whole numbers meet.
MIXING = math.sqrt(2) + math.pi

Weights = NDArray[np.uint16]
Scale = Literal["share", "positive", "distance", "below one", "correlation", "plain"]


@dataclass(frozen=True)
class Column:
    """One metric of a :class:`Statistic`: what it is called and how its interval is made.

    ``scale``: ``share`` for values in 0 … 1, ``positive`` from 0 on, ``distance`` from 0 on where chance alone leads
    away from 0 (so the value is biased upwards), ``below one`` up to 1, ``correlation`` −1 … 1, ``plain`` for any.
    ``effective``: the patients that bound a perfect value, where it has a bound (fewer than two: none). ``freedom``:
    degrees of freedom of Student's t where few patients carry the metric, 0 for the normal quantile. ``reason`` of a
    NaN. ``unit``: what a share wholly wrong takes from a value ``below one``. ``closed``: from the level, the interval
    where one is known without resamples, which do not see what happens to be perfect.
    """

    metric: str
    of: str = ""
    images: int = 0
    patients: int = 0
    scale: Scale = "share"
    effective: int = 1
    freedom: int = 0
    reason: str = "no cases of one class"
    note: str = ""
    unit: float = 2.0
    closed: Callable[[float], Moved] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Statistic:
    """Metrics computed together: ``compute`` takes weights (B, P) to (B, len(columns)), NaN where undefined.

    ``sums``: for metrics that hang on sums over patients alone, what is summed. Patients with equal summands are
    of one kind, and to draw how many of each kind is quicker than to draw patients.
    """

    columns: tuple[Column, ...]
    compute: Callable[[Weights], Floats]
    sums: Sums | None = None

    @property
    def closed(self) -> bool:
        """Whether no interval needs resamples."""
        return all(column.closed for column in self.columns)

    def only(self, places: Sequence[int]) -> Statistic:
        """Of the columns at these places alone."""
        if len(places) == len(self.columns):
            return self
        columns, of = tuple(self.columns[i] for i in places), self.sums.of if self.sums else None
        sums = Sums(self.sums.cells, lambda totals: of(totals)[:, places]) if self.sums and of else None
        return Statistic(columns, lambda weights: self.compute(weights)[:, places], sums)


@dataclass(frozen=True, eq=False)
class Sums:
    """``cells`` (P, K) of each patient, and the metrics ``of`` their sums: (B, K) → (B, columns)."""

    cells: Floats
    of: Callable[[Floats], Floats]


@checked
def of_sums(columns: tuple[Column, ...], cells: Floats, of: Callable[[Floats], Floats]) -> Statistic:
    """The statistic of metrics that hang on sums of ``cells`` (P, K) over patients alone."""
    return Statistic(columns, lambda weights: of(weights @ cells), Sums(cells, of))


@checked
def influence(sums: Sums, column: int) -> Floats:
    """(P,) how far each patient moves a metric of ``sums``, to first order: along its gradient at the sums of all."""
    total = sums.cells.sum(axis=0)
    step = 1e-5 * np.maximum(np.abs(total), 1.0)
    ends = (sums.of(total + sign * np.diag(step))[:, column] for sign in (1, -1))
    one, other = ends
    return np.asarray(sums.cells @ ((one - other) / (2 * step)), np.float64)


@checked
def per_patient(codes: Integers, patients: int, *columns: NDArray[Any]) -> Floats:
    """Sums of each column over the images of each patient: (P, columns)."""
    return np.column_stack([np.bincount(codes, column, patients) for column in columns])


@checked
def mean_statistic(
    metric: str,
    values: Floats,
    codes: Integers,
    patients: int,
    *,
    of: str = "",
    note: str = "",
    scale: Scale = "positive",
    effective: int = 1,
    freedom: int = 0,
) -> Statistic:
    """The mean of ``values`` (N,) over images, such as the Brier score; ``scale`` and so on as :class:`Column` says."""
    cells = per_patient(codes, patients, np.ones(len(values)), values)
    column = Column(metric, of, len(values), distinct(codes), scale, effective, freedom, "no cases", note)

    def mean(sums: Floats) -> Floats:
        many, total = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total / many)[:, None]

    return of_sums((column,), cells, mean)


@checked
def resamples_for(images: int) -> int:
    """How many resamples: 2,000 up to 10,000 images, then fewer, down to 400 from 50,000 images on.

    So 100,000 images take seconds. The interval uses the spread of the resamples, not their tails; with 400 its width
    is uncertain by 3.5 %.

    >>> resamples_for(1000), resamples_for(100_000)
    (2000, 400)
    """
    return int(min(2000, max(400, 20_000_000 // max(images, 1))))


@checked
def draws(patients: int, resamples: int, seed: int = 0, *, width: int | None = None) -> Iterator[Weights]:
    """How often each of ``resamples`` draws each patient, in chunks (B, P) of some ``CHUNK`` numbers.

    ``width``: images, if more than patients. Counter-based (Philox: Salmon et al. 2011), keyed by ``seed``:
    the same weights whatever the chunks. From ``MANY`` patients on, the counts of a draw are given to the patients in
    ``REUSED`` orders: each is a draw with replacement as good as any, for in a draw nobody has a place of his own,
    and two of them are as good as independent (what a patient adds to a metric is correlated with what a patient at
    random adds by some 1/√P). Drawing takes most of the time.

    >>> next(draws(5, 3)).sum(axis=1).tolist()
    [5, 5, 5]
    """
    require(patients >= 1, "there must be at least one patient", given=patients)
    generator = np.random.Philox(key=bits(seed, 0, np.arange(2), "bootstrap"))
    at_once = max(TOGETHER, CHUNK // max(patients, width or 0))
    counts = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    if patients < MANY:
        yield from (_draw(generator, count, patients) for count in counts)
        return
    reordered = _reordered(generator, patients, seed)
    for count in counts:
        weights = np.empty((count, patients), np.uint16)
        for row in weights:
            drawn, order = next(reordered)
            np.take(drawn, order, out=row, mode="clip")
        yield weights


def _reordered(generator: np.random.Philox, patients: int, seed: int) -> Iterator[tuple[NDArray[np.uint16], Integers]]:
    """Without end: the counts (P,) of a draw, and in which order the patients get them."""
    shuffle = np.random.Generator(np.random.Philox(key=bits(seed, 0, np.arange(2), "who is who")))
    orders = [np.arange(patients), *(shuffle.permutation(patients) for _ in range(REUSED - 1))]
    while True:
        drawn = _draw_block(generator, 1, patients)[0].astype(np.uint16)
        yield from ((drawn, order) for order in orders)


def _draw(generator: np.random.Philox, count: int, patients: int) -> Weights:
    counts = np.empty((count, patients), np.uint16)
    block = max(1, CACHED // patients)
    for start in range(0, count, block):
        counts[start : start + block] = _draw_block(generator, min(block, count - start), patients)
    return counts


def _draw_block(generator: np.random.Philox, count: int, patients: int) -> Integers:
    words = (patients + 1) // 2  # two draws of 32 bits from each word of 64
    raw = generator.random_raw(count * words).view(np.uint32).reshape(count, 2 * words)[:, :patients]
    who = np.multiply(raw, np.uint64(patients), dtype=np.uint64)
    who >>= np.uint64(32)
    if count > 1:
        who += (np.arange(count, dtype=np.uint64) * np.uint64(patients))[:, None]
    return np.bincount(who.ravel().view(np.int64), minlength=count * patients).reshape(count, patients)


@checked
def replicate(
    statistics: Sequence[Statistic], patients: int, *, resamples: int, seed: int = 0, images: int = 0
) -> list[Floats]:
    """The values of each statistic in each resample: arrays (resamples, columns)."""
    quick = [_by_kind(s.sums, resamples, seed) for s in statistics]
    rest = [s for s, found in zip(statistics, quick) if found is None]
    drawn = draws(patients, resamples, seed, width=images) if rest else iter(())
    chunks = [[s.compute(weights) for s in rest] for weights in drawn]
    slow = iter([np.concatenate(parts) for parts in zip(*chunks)])
    return [next(slow) if found is None else found for found in quick]


def _by_kind(sums: Sums | None, resamples: int, seed: int) -> Floats | None:
    """The values (resamples, columns) where the patients are of few kinds, else None."""
    found = None if sums is None else kinds(sums.cells)
    if sums is None or found is None:
        return None
    cells, share = found
    generator = np.random.Generator(np.random.Philox(key=bits(seed, 0, np.arange(2), "kinds of patients")))
    return sums.of(generator.multinomial(len(sums.cells), share, resamples) @ cells)


def kinds(cells: Floats) -> tuple[Floats, Floats] | None:
    """The distinct rows of ``cells`` (P, K) and the share of patients with each; None if there are many."""
    if len(np.unique(cells[:: max(1, len(cells) // 1000)], axis=0)) > KINDS:
        return None
    mixed = np.zeros(len(cells))
    for column in cells.T:  # distinct rows get distinct numbers, but for chance: that is looked at below
        mixed = mixed * MIXING + column
    _, first, which, counts = np.unique(mixed, return_index=True, return_inverse=True, return_counts=True)
    if len(first) > KINDS or not (cells == cells[first][which]).all():
        return None
    return cells[first], counts / len(cells)


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

    The interval is value ± z standard deviations of the resamples, on the logit scale for shares (Boyd, Eng & Page 2013
    find it better than percentiles for average precision), on that of the logarithm for positive numbers and of
    Fisher's z for correlations, so that it stays in range. There a resample counts as no more than four times nearer to
    an end than the value: one without any error would lie infinitely far. A share of 0 or 1, a correlation of ±1 and a
    positive number of 0 take Wilson's bound for ``effective`` patients instead, where a column states them. A column
    with a ``closed`` interval keeps that one, and a statistic of such columns is not resampled. A ``distance`` keeps
    its own scale, and its lower end makes up twice for the resamples' bias. With one patient there is no interval, nor
    where the resamples differ by orders of magnitude, since single patients decide the value then.
    """
    require(patients >= 1, "there must be at least one patient", given=patients)
    z = normal_quantile(level)
    many = resamples or resamples_for(max(images, patients))
    ones = np.ones((1, patients), np.uint16)
    values = [s.compute(ones)[0] for s in statistics]
    spreads = [np.full((1, len(s.columns)), math.nan) for s in statistics]
    if drawn := [i for i, s in enumerate(statistics) if patients > 1 and not s.closed]:
        found = replicate([statistics[i] for i in drawn], patients, resamples=many, seed=seed, images=images)
        for i, spread in zip(drawn, found):
            spreads[i] = spread
    return [
        _estimate(column, float(value[i]), spread[:, i], level, z)
        for s, value, spread in zip(statistics, values, spreads)
        for i, column in enumerate(s.columns)
    ]


@checked
def bootstrapped(
    statistic: Statistic, codes: Integers, *, level: float = 0.95, resamples: int | None = None, seed: int = 0
) -> list[Estimate]:
    """:func:`bootstrap` of one statistic of images whose patients are ``codes`` (N,), N ≥ 1."""
    count = int(codes.max()) + 1
    return bootstrap([statistic], count, images=len(codes), level=level, resamples=resamples, seed=seed)


def _estimate(c: Column, value: float, spread: Floats, level: float, z: float) -> Estimate:
    if not math.isfinite(value):
        return undefined(c.metric, c.reason, of=c.of, images=c.images, patients=c.patients)
    if c.closed:
        ends = c.closed(level)
        low, high, how = ends.low, ends.high, ends.method
    else:
        low, high, how = _interval(c, value, spread, level, z)
    how = f"{c.note}; {how}" if c.note else how
    return Estimate(c.metric, value, low, high, level, how, c.images, c.patients, c.of)


def _interval(c: Column, value: float, spread: Floats, level: float, z: float) -> tuple[float, float, str]:
    known = spread[np.isfinite(spread)]  # a resample without positives has no sensitivity
    if len(known) < 2 or len(known) < len(spread) / 2:
        return math.nan, math.nan, "no interval: too few patients to resample"
    wide, how = t_quantile(level, c.freedom) if c.freedom > 0 else z, f"patient bootstrap, {len(spread):,} resamples"
    if c.scale == "distance" and np.ptp(known) > TINY:
        return *_above_zero(value, known, wide), f"{how}, lower end less twice its bias"
    if (side := _at_an_end(c.scale, value)) is not None:
        return _bound(c, side, z)
    to, back, name = _SCALES[c.scale]
    error = float(np.std(to(_off_the_ends(c, known, value)), ddof=1))
    if c.scale in _OPEN and error > LARGEST_ERROR:
        return math.nan, math.nan, "no interval: single patients decide it"
    half, centre = wide * error, float(to(np.array([value]))[0])
    ends = sorted((back(centre - half), back(centre + half)))
    return ends[0], ends[1], f"{how}{name}"


def _above_zero(value: float, known: Floats, wide: float) -> tuple[float, float]:
    """A sum of distances folds what lies beyond 0 back: how far resamples lie from the value tells more than their spread."""
    error = math.sqrt(float(np.mean((known - value) ** 2)))
    bias = max(0.0, float(np.mean(known)) - value)
    return max(0.0, value - 2 * bias - wide * error), value + wide * error


def _at_an_end(scale: Scale, value: float) -> float | None:
    """The end of the scale (0 or 1) that ``value`` lies on, where it has no transform and no resample differs."""
    low, high = _RANGES[scale]
    return 1.0 if value >= high - TINY else 0.0 if value <= low + TINY else None


def _bound(c: Column, side: float, z: float) -> tuple[float, float, str]:
    """Wilson's for ``effective`` patients; none for a number that has no other end, unless it has been given them."""
    if c.scale != "share" and c.effective < 2:
        return math.nan, math.nan, "no interval: no resample differs from the best or worst value"
    low, high = wilson(side, max(c.effective, 1), z)
    if c.scale == "correlation":
        low, high = 2 * low - 1, 2 * high - 1
    if c.scale == "below one":
        low = 1 - c.unit * (1 - low)
    return low, high, f"Wilson bound for {c.effective} patients"


def _off_the_ends(c: Column, known: Floats, value: float) -> Floats:
    """What has no transform is put four times nearer the end than the value; of a share, half a patient inside it at most."""
    step = 0.5 / (c.effective + 1) if c.scale == "share" else math.inf
    low, high = _RANGES[c.scale]
    least = low + min(step, (value - low) / 4) if math.isfinite(low) else low
    most = high - min(step, (high - value) / 4) if math.isfinite(high) else high
    return np.clip(known, least, most)


#: A standard error of the logarithm beyond this makes an interval of a factor of a thousand either way.
LARGEST_ERROR = 3.5
#: Scales without an end on one side.
_OPEN = ("positive", "below one")
_RANGES: dict[Scale, tuple[float, float]] = {
    "share": (0.0, 1.0),
    "positive": (0.0, math.inf),
    "distance": (0.0, math.inf),
    "below one": (-math.inf, 1.0),
    "correlation": (-1.0, 1.0),
    "plain": (-math.inf, math.inf),
}
_Change = tuple[Callable[[Floats], Floats], Callable[[float], float], str]
_SCALES: dict[Scale, _Change] = {
    "share": (lambda x: np.log(x / (1 - x)), expit, ", logit"),
    "positive": (np.log, lambda x: math.exp(min(x, 700)), ", logarithm"),
    "below one": (lambda x: np.log(1 - x), lambda x: 1 - math.exp(min(x, 700)), ", logarithm"),
    "correlation": (np.arctanh, math.tanh, ", Fisher's z"),
    "distance": (lambda x: x, lambda x: x, ""),
    "plain": (lambda x: x, lambda x: x, ""),
}
