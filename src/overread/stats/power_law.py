"""How a metric grows with the size of the training set: an inverse power law, value = a − b · size^(−c)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import numbers

#: Fewer sizes than this do not fix three numbers and leave anything to judge them by.
FEWEST_SIZES = 4
#: Exponents that are looked at; outside, the law is a straight line or a step within any range of sizes.
EXPONENTS = (0.05, 3.0)
_COARSE, _FINE = 97, 33


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """B laws: ``asymptote`` a, ``scale`` b and ``exponent`` c, each (B,), and the sum of squares ``loss`` (B,)."""

    asymptote: NDArray[np.float64]
    scale: NDArray[np.float64]
    exponent: NDArray[np.float64]
    loss: NDArray[np.float64]

    def at(self, sizes: ArrayLike) -> NDArray[np.float64]:
        """The laws at ``sizes`` (K,): values (B, K)."""
        n = np.asarray(sizes, np.float64)
        return self.asymptote[:, None] - self.scale[:, None] * n[None, :] ** -self.exponent[:, None]


@checked
def power_laws(sizes: ArrayLike, values: ArrayLike, *, rising: bool = True, limit: float = math.inf) -> PowerLaws:
    """Least-squares fits of a − b · n^(−c) to B curves over the same sizes.

    ``sizes`` (S,) above 0, at least :data:`FEWEST_SIZES` different; ``values`` (B, S) or (S,) finite. b ≥ 0 where
    the metric is ``rising``, else b ≤ 0; a is at most ``limit`` (at least −``limit`` where it falls); c lies in
    :data:`EXPONENTS`. For a given c the law is linear in a and b, so c is searched on a grid, twice (variable
    projection: Golub & Pereyra 1973). The law is that of Cortes et al. 1993 ("Learning curves: asymptotic values
    and rate of convergence"), used for medical images by Figueroa et al. 2012.

    >>> laws = power_laws([25, 50, 100, 200], [0.9 - 0.8 * n**-0.5 for n in (25, 50, 100, 200)])
    >>> round(float(laws.asymptote[0]), 3), round(float(laws.exponent[0]), 2)
    (0.9, 0.5)
    """
    n = numbers(sizes, name="sizes")
    curves = np.atleast_2d(np.asarray(values, np.float64))
    require(bool((n > 0).all()), "sizes must be above 0", given=n.min(initial=0))
    require(len(np.unique(n)) >= FEWEST_SIZES, f"a power law needs {FEWEST_SIZES} sizes", given=len(np.unique(n)))
    require(curves.shape[1] == len(n), "there must be a value for every size", given=(curves.shape, len(n)))
    require(bool(np.isfinite(curves).all()), "the values must be finite")
    sign = 1.0 if rising else -1.0
    coarse = np.geomspace(*EXPONENTS, _COARSE)
    step = coarse[1] / coarse[0]
    best = coarse[_fits(n, sign * curves, coarse[None, :], limit)[2].argmin(axis=1)]
    fine = np.clip(best[:, None] * np.geomspace(1 / step, step, _FINE), *EXPONENTS)
    a, b, loss = _fits(n, sign * curves, fine, limit)
    rows, at = np.arange(len(curves)), loss.argmin(axis=1)
    scale = b[rows, at] * float(n.max()) ** fine[rows, at]
    return PowerLaws(sign * a[rows, at], sign * scale, fine[rows, at], loss[rows, at])


def _fits(
    n: NDArray[np.float64], y: NDArray[np.float64], c: NDArray[np.float64], limit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """a, b (of n over its largest) and the loss, (B, C) each, for every curve (B, S) and exponent (1 or B, C)."""
    x = (n / n.max()) ** -c[:, :, None]  # (1 or B, C, S)
    mean_x, mean_y = x.mean(axis=2), y.mean(axis=1)[:, None]
    apart = x - mean_x[:, :, None]
    down = y[:, None, :] - mean_y[:, :, None]
    b = np.maximum(-(apart * down).sum(axis=2) / (apart**2).sum(axis=2), 0.0)
    a = mean_y + b * mean_x
    if math.isfinite(limit):  # at its limit, the line must pass through it
        room = limit - y[:, None, :]
        bound = np.maximum((x * room).sum(axis=2) / (x**2).sum(axis=2), 0.0)
        over = a > limit
        a, b = np.where(over, limit, a), np.where(over, bound, b)
    loss = ((y[:, None, :] - a[:, :, None] + b[:, :, None] * x) ** 2).sum(axis=2)
    return a, b, loss
