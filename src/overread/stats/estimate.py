"""An estimate: a value with its interval, how it was made, and from how many patients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, checked, nearest, require
from overread.stats.arrays import TINY, normal_quantile, t_quantile


@dataclass(frozen=True)
class Estimate(Shown):
    """One number of a report.

    ``value``, ``low``, ``high`` are NaN where undefined, and then ``undefined`` says why. ``level`` is the confidence
    of the interval. ``of`` is the class or finding, ``where`` the subgroup. ``count``: where the value is the share of
    ``images`` that are so, how many are, the n of n/N; else None. ``float(estimate)`` is its value; ``<`` and ``>``
    compare values, with those of others or with numbers, ``==`` everything; ``f"{estimate:.3f}"`` writes the value
    alone, ``f"{estimate}"`` the value with its interval.
    """

    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = 0.95
    method: str = ""
    images: int = 0
    patients: int = 0
    of: str = ""
    where: dict[str, str] = field(default_factory=dict, hash=False)
    undefined: str = ""
    count: int | None = None

    def __float__(self) -> float:
        return float(self.value)

    def __lt__(self, other: Estimate | float) -> bool:
        return float(self) < float(other)

    def __le__(self, other: Estimate | float) -> bool:
        return float(self) <= float(other)

    def __gt__(self, other: Estimate | float) -> bool:
        return float(self) > float(other)

    def __ge__(self, other: Estimate | float) -> bool:
        return float(self) >= float(other)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high), NaN where there is none."""
        return self.low, self.high

    @property
    def name(self) -> str:
        """What it is an estimate of, in words: ``auc of mel where sex female``."""
        where = ", ".join(f"{column} {value}" for column, value in self.where.items())
        return " ".join(filter(None, (self.metric, self.of and f"of {self.of}", where and f"where {where}")))

    def to_frame(self) -> pd.DataFrame:
        """One row, in the columns of :func:`estimates_frame`."""
        return estimates_frame([self])

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> tuple[Estimate, ...]:
        """The estimates of a DataFrame that ``to_frame`` made, in order. Raises :class:`InputError` for other columns."""
        return _from_frame(frame)

    def overview(self) -> Overview:
        """The value with its interval, how it was made, and from how many."""
        return Overview(f"{self.name}: {self}", (Panel(("value", level_text((self,)), "images", "patients", "method"), ((
            rounded(self.value) if not self.undefined else "–", interval_text(self), self.images, self.patients, self.method),)),))  # fmt: skip

    def __str__(self) -> str:
        if self.undefined:
            return f"undefined ({self.undefined})"
        if math.isnan(self.low):
            return f"{rounded(self.value)} (no interval)"
        return f"{rounded(self.value)} ({interval_text(self)})"


@checked
def undefined(metric: str, reason: str, *, of: str = "", images: int = 0, patients: int = 0) -> Estimate:
    """An estimate without a value, and its reason.

    >>> print(undefined("auc", "0 positives"))
    undefined (0 positives)
    """
    require(bool(reason), "an undefined estimate needs its reason")
    return Estimate(metric, math.nan, of=of, images=images, patients=patients, undefined=reason)


#: The columns of an estimate in a DataFrame; between ``of`` and ``value`` one more, ``where:<column>``, for each column
#: of subgroups.
FRAME = ("metric", "of", "value", "low", "high", "level", "method", "images", "patients", "count", "undefined")


@checked
def estimates_frame(estimates: Iterable[Estimate]) -> pd.DataFrame:
    """A row an estimate: :data:`FRAME`, and a column ``where:<column>`` for each column of subgroups, blank outside."""
    held = list(estimates)
    groups = dict.fromkeys(column for e in held for column in e.where)
    columns = [*FRAME[:2], *(f"where:{column}" for column in groups), *FRAME[2:]]
    rows = [{**{f.name: getattr(e, f.name) for f in fields(e) if f.name != "where"},
             **{f"where:{column}": e.where.get(column, "") for column in groups}} for e in held]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"count": "Int64"})


def _from_frame(frame: pd.DataFrame) -> tuple[Estimate, ...]:
    strange = [str(c) for c in frame.columns if c not in FRAME and not str(c).startswith("where:")]
    lacking = [name for name in FRAME[:3] if name not in frame]
    if strange or lacking:
        raise InputError("the DataFrame is not one of estimates", given=f"columns {', '.join(map(str, frame.columns))}",
                         todo=nearest((strange or lacking)[0], FRAME))  # fmt: skip

    def estimate(row: dict[str, Any]) -> Estimate:
        where = {name[6:]: str(row.pop(name)) for name in list(row) if name.startswith("where:")}
        numbers: dict[str, Any] = {name: int(row.pop(name)) for name in ("images", "patients") if name in row}
        number = row.pop("count", None)
        known = None if pd.isna(number) else int(number)
        return Estimate(**row, **numbers, where={k: v for k, v in where.items() if v}, count=known)

    return tuple(estimate({str(name): value for name, value in row.items()}) for row in frame.to_dict("records"))


# -- how numbers are written: what is not exactly none or all is not told as if it were ----------------------------


#: What is nearer to a bound than this is the bound.
EXACT = 1e-9
#: So many digits more are given before a bound is told with a sign.
MORE = 3


@checked
def rounded(value: float, digits: int = 3, most: float = 1.0) -> str:
    """A number with fixed digits, and with more where these would show a 0 or ``most`` that it is not.

    ``most``: the other bound of the scale, 100 for percentages; −``most`` counts as well.

    >>> rounded(0.9127), rounded(1.0), rounded(0.99988), rounded(99.88, 0, 100), rounded(0.0004, 2), rounded(1 - 1e-8)
    ('0.913', '1.000', '0.9999', '99.9', '0.0004', '>0.999999')
    """
    near = min((0.0, most, -most), key=lambda bound: abs(value - bound)) if math.isfinite(value) else value
    if abs(value - near) <= EXACT * most or not math.isfinite(value):
        return f"{near:,.{digits}f}"
    for places in range(digits, digits + MORE + 1):
        text = f"{value:,.{places}f}"
        if float(text.replace(",", "")) != near:
            return text
    step = 10.0 ** -(digits + MORE)
    inside = near + math.copysign(step, value - near)
    return f"{'<' if value < inside else '>'}{inside:,.{digits + MORE}f}"


@checked
def interval_text(estimate: Estimate) -> str:
    """The ends of an interval; ``"–"`` where there is none.

    >>> interval_text(Estimate("auc", 0.9, 0.85, 0.94)), interval_text(Estimate("change", 0.1, -0.1, 0.3))
    ('0.850–0.940', '-0.100 to 0.300')
    """
    if math.isnan(estimate.low):
        return "–"
    joint = "–" if estimate.low >= 0 else " to "  # no dash before a minus
    return f"{rounded(estimate.low)}{joint}{rounded(estimate.high)}"


@checked
def level_text(estimates: Iterable[Estimate]) -> str:
    """What the intervals are: ``95 % interval``; without their level where there are several."""
    levels = {e.level for e in estimates if not e.undefined}
    return f"{100 * levels.pop():g} % interval" if len(levels) == 1 else "interval"


@checked
def p_text(p: float) -> str:
    """A p value as journals write it: two or three digits, beyond .001 and .99 as a bound, and never .050 below .05.

    >>> p_text(0.0312), p_text(2.59e-95), p_text(0.9999), p_text(0.04996), p_text(float("nan"))
    ('0.031', '<0.001', '>0.99', '0.04996', '–')
    """
    if math.isnan(p):
        return "–"
    if p < 0.001 or 0.99 < p < 1:
        return "<0.001" if p < 0.001 else ">0.99"
    digits = 3 if p < 0.0995 else 2
    while p < 0.05 <= round(p, digits):
        digits += 1
    return f"{p:.{digits}f}"


@checked
def p_said(p: float) -> str:
    """The same within a sentence.

    >>> p_said(0.0312), p_said(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    text = p_text(p)
    return f"p {text[0]} {text[1:]}" if text[0] in "<>" else f"p = {text}"


# -- A difference of two numbers: its interval, its standard error, and the chance of a larger one ----------------


@dataclass(frozen=True)
class Difference(Shown):
    """``first`` − ``second``, with the test of no difference.

    ``error`` is the standard error (for an interval that is not symmetric, that of its side towards 0),
    ``statistic`` the difference over it, ``p`` two-sided. All three are NaN where undefined.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    error: float
    statistic: float
    p: float

    def __post_init__(self) -> None:
        if self.p == 0 and math.isnan(self.statistic):  # from a file: JSON has no infinity
            object.__setattr__(self, "statistic", math.copysign(math.inf, self.difference.value))

    def __float__(self) -> float:
        return float(self.difference.value)

    def to_frame(self) -> pd.DataFrame:
        """One row, in the columns of :func:`differences_frame`."""
        return differences_frame([self])

    def overview(self) -> Overview:
        """Both values, their difference with its interval, and p."""
        return Overview(f"{self.difference.name}: {self}", (Panel(("first", "second", "difference", "p"), ((
            str(self.first), str(self.second), str(self.difference), p_text(self.p)),)),))  # fmt: skip

    def __str__(self) -> str:
        return str(self.difference) if math.isnan(self.p) else f"{self.difference}, {p_said(self.p)}"


@checked
def differences_frame(differences: Iterable[Difference], adjusted: Sequence[float] = ()) -> pd.DataFrame:
    """A row a difference: ``metric``, ``of``, ``where:<column>``, ``first``, ``second``, ``difference``, ``low``, ``high``,
    ``level``, ``p``, and ``p holm`` where it is given as ``adjusted``."""
    held = list(differences)
    frame = estimates_frame([d.first for d in held]).drop(columns=[*FRAME[2:]])
    frame = frame.assign(
        first=[d.first.value for d in held], second=[d.second.value for d in held],
        **{name: [float(getattr(d.difference, name)) for d in held] for name in ("value", "low", "high", "level")},
        p=[float(d.p) for d in held],
    ).rename(columns={"value": "difference"})  # fmt: skip
    return frame.assign(**{"p holm": list(adjusted)}) if len(adjusted) else frame


@checked
def independent_difference(first: Estimate, second: Estimate, *, metric: str = "") -> Difference:
    """The difference of two estimates from different patients, from their two intervals.

    Each side of the interval is made of the sides of the two that face it, squared and added (Zou & Donner
    2008, "MOVER"; for Wilson intervals method 10 of Newcombe 1998), so each keeps the scale it was made on.
    Undefined where one of the two is, or has no interval. Raises :class:`ArgumentError` for unequal levels.

    >>> wilson = lambda x, lo, hi: Estimate("sensitivity", x, lo, hi, images=70, patients=70)
    >>> print(independent_difference(wilson(0.8, 0.6918, 0.8766), wilson(0.6, 0.4904, 0.7004)))
    0.200 (0.052–0.334), p = 0.008
    """
    require(first.level == second.level, "both intervals need one level", given=(first.level, second.level))
    name = metric or f"{first.metric} difference"
    images, patients = first.images + second.images, first.patients + second.patients
    if reason := _missing(first, "first") or _missing(second, "second"):
        return without(first, second, undefined(name, reason, of=first.of, images=images, patients=patients))
    low, high = square_and_add(first, second, 0.0)
    how = "unpaired, squared and added"
    value = first.value - second.value
    return implied(first, second, Estimate(name, value, low, high, first.level, how, images, patients, first.of))


def _missing(estimate: Estimate, which: str) -> str:
    if estimate.undefined:
        return f"the {which} is undefined: {estimate.undefined}"
    return "" if math.isfinite(estimate.high - estimate.low) else f"the {which} has no interval"


@checked
def square_and_add(first: Estimate | Moved, second: Estimate | Moved, correlation: float) -> tuple[float, float]:
    """Zou & Donner 2008: the interval of first − second from theirs.

    What correlates moves both to the same side, so there the sides of one name are held against each other, not those
    that face each other: two equal and wholly correlated numbers differ by nothing, however lopsided their intervals.
    For intervals with equal sides the two are one formula.
    """
    down, up = first.value - first.low, first.high - first.value
    below, above = second.value - second.low, second.high - second.value
    value, alike, unlike = first.value - second.value, max(0.0, correlation), min(0.0, correlation)
    shared = alike * max(abs(down - below), abs(up - above)) ** 2
    low = math.sqrt((1 - alike) * (down**2 + above**2) + shared - 2 * unlike * down * above)
    high = math.sqrt((1 - alike) * (up**2 + below**2) + shared - 2 * unlike * up * below)
    return value - low, value + high


@dataclass(frozen=True, eq=False)
class Moved:
    """A number with its interval, and how far each patient moves it: ``influence`` (P,), to first order.

    ``parts``: the numbers whose intervals made its own. ``least``: how far two such numbers of the same patients may
    lie apart though nobody was seen who moves them otherwise.
    """

    value: float
    low: float
    high: float
    influence: NDArray[np.float64]
    method: str = ""
    least: float = 0.0
    parts: tuple[Moved, ...] = ()

    def scaled(self, by: float) -> Moved:
        """The number times ``by`` > 0."""
        ends = (self.value * by, self.low * by, self.high * by, self.influence * by)
        return Moved(*ends, self.method, self.least * by, tuple(part.scaled(by) for part in self.parts))


@checked
def influence_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """That of two numbers, from how far each patient moves them; 0 where one is moved by nobody."""
    last = min(len(one), len(other))
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    found = float(one[:last] @ other[:last]) / size if size > TINY**2 else 0.0
    return (
        math.copysign(1.0, found) if abs(found) > 1 - 1e-12 else found
    )  # by rounding, one number's with itself is not 1


@checked
def summed(value: float, parts: Sequence[Moved], method: str = "") -> Moved:
    """``value`` and its interval, of which each of ``parts`` is one cause: how far the number lies from its ends
    matters.

    The parts' sides are squared and added, with the parts' correlations (Zou & Donner 2008): so a part that happens to
    be perfect still counts with the whole width of its own interval, where every resample of the patients finds it
    perfect.

    >>> half = [Moved(x / 2, lo / 2, hi / 2, np.zeros(2)) for x, lo, hi in ((1.0, 0.722, 1.0), (0.95, 0.935, 0.962))]
    >>> found = summed(0.975, half)
    >>> round(found.low, 3), round(found.high, 3)
    (0.836, 0.981)
    """
    influence = np.stack([part.influence for part in parts])  # (K, P)
    size = np.linalg.norm(influence, axis=1)
    scaled = influence / np.where(size > TINY, size, 1.0)[:, None]
    alike = scaled @ scaled.T
    np.fill_diagonal(alike, 1.0)
    down, up = (np.array([abs(getattr(part, end) - part.value) for part in parts]) for end in ("low", "high"))
    low, high = (math.sqrt(max(0.0, float(side @ alike @ side))) for side in (down, up))
    return Moved(value, value - low, value + high, influence.sum(axis=0), method, parts=tuple(parts))


@checked
def mean_of(parts: Sequence[Moved], method: str = "") -> Moved:
    """The mean of ``parts`` by :func:`summed`."""
    each = [part.scaled(1 / len(parts)) for part in parts]
    return summed(sum(part.value for part in each), each, method)


@checked
def moved_apart(first: Moved, second: Moved) -> Moved:
    """``first`` − ``second`` of the same patients: their intervals squared and added, with the correlation between
    them.

    Part by part where both are made of as many.
    """
    value, influence = first.value - second.value, first.influence - second.influence
    if first.parts and len(first.parts) == len(second.parts):
        return summed(value, [moved_apart(a, b) for a, b in zip(first.parts, second.parts)])
    low, high = square_and_add(first, second, influence_correlation(first.influence, second.influence))
    least = max(first.least, second.least)
    return Moved(value, min(low, value - least), max(high, value + least), influence)


@checked
def without(first: Estimate, second: Estimate, difference: Estimate) -> Difference:
    """A difference without a test."""
    return Difference(first, second, difference, math.nan, math.nan, math.nan)


@checked
def implied(first: Estimate, second: Estimate, difference: Estimate, *, freedom: float = 0) -> Difference:
    """The test that a confidence interval implies: p < 1 − level just where the interval excludes 0."""
    error = error_towards(difference, 0.0, freedom=freedom)
    if math.isnan(error):
        return without(first, second, difference)
    statistic = ratio(difference.value, error)
    return Difference(first, second, difference, error, statistic, two_sided(statistic, freedom))


@checked
def error_towards(estimate: Estimate, point: float, *, freedom: float = 0) -> float:
    """The standard error of ``estimate`` on the side that faces ``point``: half-interval over its quantile.

    For an interval value ± z·error it is that error. ``freedom``: the degrees of freedom of Student's t that
    the interval was made with, 0 for the normal quantile. NaN without an interval.

    >>> round(error_towards(Estimate("auc difference", 0.1, 0.002, 0.198), 0.0), 3)
    0.05
    """
    wide = t_quantile(estimate.level, freedom) if freedom else normal_quantile(estimate.level)
    side = estimate.value - estimate.low if estimate.value > point else estimate.high - estimate.value
    return side / wide


def ratio(value: float, error: float) -> float:
    """``value`` over ``error``: 0 for nothing over nothing, infinite for something over nothing."""
    if error > 0:
        return value / error
    return 0.0 if value == 0 else math.copysign(math.inf, value)


@checked
def upper_tail(statistic: float, freedom: float = 0) -> float:
    """The chance of more than ``statistic``: normal, or Student's t with ``freedom``.

    >>> round(upper_tail(1.959964), 4), round(upper_tail(2.228, 10), 4)
    (0.025, 0.025)
    """
    if freedom <= 0:
        return math.erfc(statistic / math.sqrt(2)) / 2
    from scipy.special import stdtr

    return float(stdtr(freedom, -statistic))


def two_sided(statistic: float, freedom: float = 0) -> float:
    """The chance of as much or more in either direction."""
    return min(1.0, 2 * upper_tail(abs(statistic), freedom))


@checked
def chi_square_tail(statistic: float, freedom: int) -> float:
    """The chance of more than ``statistic`` under χ² with ``freedom`` ≥ 1: a finite sum, as the freedom is whole.

    >>> round(chi_square_tail(3.841459, 1), 6), round(chi_square_tail(5.991465, 2), 6)
    (0.05, 0.05)
    """
    require(freedom >= 1, "freedom must be at least 1", given=freedom)
    if math.isnan(statistic):
        return math.nan
    if statistic <= 0 or math.isinf(statistic):
        return 1.0 if statistic <= 0 else 0.0
    half, odd = statistic / 2, freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    term = math.sqrt(half) * math.exp(-half) / math.gamma(1.5) if odd else math.exp(-half)
    for k in range(freedom // 2):
        total += term
        term *= half / (k + 1 + odd / 2)
    return total
