"""Inverse power laws against planted numbers and scipy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from overread.core.errors import ArgumentError
from overread.stats.power import power_laws

SIZES = np.array([20.0, 50, 100, 250, 600])


@pytest.mark.parametrize(("a", "b", "c"), [(0.95, 1.2, 0.6), (0.85, 0.4, 0.25), (0.9, 5.0, 1.4)])
def test_planted_numbers_are_found(a: float, b: float, c: float) -> None:
    laws = power_laws(SIZES, a - b * SIZES**-c)
    assert laws.asymptote[0] == pytest.approx(a, abs=2e-3)
    assert laws.exponent[0] == pytest.approx(c, rel=1e-2)
    assert laws.scale[0] == pytest.approx(b, rel=5e-2)
    assert laws.at([1200.0])[0, 0] == pytest.approx(a - b * 1200**-c, abs=1e-3)


def test_a_falling_loss_is_the_mirror_of_a_rising_score() -> None:
    up = power_laws(SIZES, 0.9 - 0.8 * SIZES**-0.5)
    down = power_laws(SIZES, 0.1 + 0.8 * SIZES**-0.5, rising=False, limit=0.0)
    assert down.asymptote[0] == pytest.approx(1 - up.asymptote[0], abs=1e-9)
    assert down.scale[0] == pytest.approx(-up.scale[0])


def test_least_squares_as_scipy_finds_them() -> None:
    rng = np.random.default_rng(3)
    curves = 0.9 - 0.9 * SIZES**-0.5 + rng.normal(0, 0.005, (20, 5))
    laws = power_laws(SIZES, curves)
    for i, curve in enumerate(curves):

        def law(n, a, b, c):
            return a - b * n**-c

        (a, b, c), _ = curve_fit(
            law, SIZES, curve, p0=(0.9, 0.9, 0.5), bounds=([-5, 0, 0.05], [5, 100, 3.0]), maxfev=20_000
        )
        theirs = float(((curve - law(SIZES, a, b, c)) ** 2).sum())
        assert laws.loss[i] <= theirs * (1 + 1e-3) + 1e-12
        assert laws.at(2 * SIZES[-1:])[i, 0] == pytest.approx(law(2 * SIZES[-1], a, b, c), abs=2e-3)


def test_the_limit_is_kept_and_a_curve_that_falls_gives_a_flat_line() -> None:
    steep = power_laws(SIZES, np.array([0.5, 0.6, 0.7, 0.85, 0.99]), limit=1.0)
    assert steep.asymptote[0] <= 1.0
    assert (steep.at(np.geomspace(20, 1e9, 50)) <= 1.0).all()
    flat = power_laws(SIZES, np.array([0.9, 0.85, 0.8, 0.75, 0.7]))
    assert flat.scale[0] == 0
    assert flat.asymptote[0] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("sizes", "values"),
    [([1, 2, 3], [0.1, 0.2, 0.3]), ([0, 1, 2, 3], [0.1] * 4), ([1, 2, 3, 4], [0.1, np.nan, 0.2, 0.3]), ([1, 2, 3, 4], [0.1] * 3)],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(sizes: list[float], values: list[float]) -> None:
    with pytest.raises(ArgumentError):
        power_laws(sizes, values)
