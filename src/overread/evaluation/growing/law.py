"""The law through a learning curve: where it leads, with an interval, and to twice the largest size at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked
from overread.stats.estimate import Estimate, undefined
from overread.stats.power_law import FEWEST_SIZES, power_laws

#: Never further than this times the largest size.
AHEAD = 2.0
_DRAWN = 60  # sizes at which the line is stored


@dataclass(frozen=True)
class Law:
    """The fitted law a − b · n^(−c). ``undefined`` says why there is none.

    ``sizes``, ``values``, ``low``, ``high``: the line and its band; ``largest``: the last size that was tried, beyond
    which the line is an extrapolation. ``ahead``: the metric at twice that size, ``more``: what that would gain.
    """

    asymptote: Estimate
    scale: Estimate
    exponent: Estimate
    ahead: Estimate
    more: Estimate
    largest: float
    sizes: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    undefined: str = ""


@checked
def why_no_law(estimates: Sequence[Estimate]) -> str:
    """The reason why no law can be fitted to a metric at several sizes; empty if one can."""
    if len(estimates) < FEWEST_SIZES:
        return f"a law needs {FEWEST_SIZES} sizes or more, and there are {len(estimates)}"
    lost = sum(bool(e.undefined) for e in estimates)
    return f"the metric is undefined at {lost} of {len(estimates)} sizes" if lost else ""


@checked
def law_through(
    sizes: Sequence[float],
    estimates: Sequence[Estimate],
    curves: NDArray,
    *,
    rising: bool = True,
    note: str = "",
    why: str = "",
) -> Law:
    """The inverse power law through ``estimates`` at ``sizes``, with percentile intervals over ``curves`` (B, sizes).

    ``curves``: the same metric in resamples of the test patients. ``rising``: larger is better; then the law ends at 1
    at most, else at 0 at least. ``note`` ends the method. ``why``: the reason why there is none, if that is known.
    Undefined also where no law that improves with the size fits better than a flat line.
    """
    n, limit = np.asarray(sizes, np.float64), 1.0 if rising else 0.0
    if why:
        return _none(n, estimates[0], why)
    fitted = power_laws(n, [e.value for e in estimates], rising=rising, limit=limit)
    if abs(float(fitted.at(n)[0, -1] - fitted.at(n)[0, 0])) < 1e-9:
        return _none(n, estimates[0], "no law that improves with the size fits better than a flat line")
    laws = power_laws(n, curves, rising=rising, limit=limit)
    first, tails = estimates[0], _tails(estimates[0].level)
    how = f"least squares, patient bootstrap, {len(curves):,} resamples{note}"

    def told(metric: str, one: float, many: NDArray[np.float64]) -> Estimate:
        low, high = np.percentile(many, tails)
        return Estimate(metric, one, min(one, float(low)), max(one, float(high)), first.level, how,
                        first.images, first.patients, first.of)  # fmt: skip

    grid, ends = np.geomspace(n.min(), AHEAD * n.max(), _DRAWN), np.array([n.max(), AHEAD * n.max()])
    (here, there), (now, then) = fitted.at(ends)[0], laws.at(ends).T
    metrics = _metrics(first.metric)
    pairs = ((fitted.asymptote[0], laws.asymptote), (fitted.scale[0], laws.scale), (fitted.exponent[0], laws.exponent),
             (there, then), (there - here, then - now))  # fmt: skip
    numbers = [told(m, float(one), many) for m, (one, many) in zip(metrics, pairs, strict=True)]
    lines = (grid, fitted.at(grid)[0], *np.percentile(laws.at(grid), tails, axis=0))
    drawn = [tuple(map(float, line)) for line in lines]
    a, b, c, ahead, more = numbers
    return Law(a, b, c, ahead, more, float(n.max()), drawn[0], drawn[1], drawn[2], drawn[3])


def _tails(level: float) -> list[float]:
    return [50 * (1 - level), 50 * (1 + level)]


def _metrics(metric: str) -> tuple[str, ...]:
    return (
        f"{metric} asymptote",
        "learning scale",
        "learning exponent",
        f"{metric} extrapolated",
        f"{metric} gain extrapolated",
    )


def _none(n: NDArray[np.float64], first: Estimate, why: str) -> Law:
    a, b, c, ahead, more = (
        undefined(m, why, of=first.of, images=first.images, patients=first.patients)
        for m in _metrics(first.metric)
    )
    return Law(a, b, c, ahead, more, float(n.max()), undefined=why)
