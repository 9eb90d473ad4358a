"""Risk against coverage, one case at a time."""

import math

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.stats.calibration.abstention import abstention_curve


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_curve_is_that_of_the_definition(digits):
    rng = np.random.default_rng(0)
    wrong = rng.random(200) < 0.25
    sure = np.round(rng.normal(size=200) - wrong, digits)
    coverage, risk, threshold = abstention_curve(wrong, sure)
    for c, r, t in zip(coverage, risk, threshold):
        assert (c, r) == pytest.approx(((sure >= t).mean(), wrong[sure >= t].mean()))
    assert coverage[-1] == 1


def test_no_curve_without_a_number_for_each_case():
    assert len(abstention_curve([0, 1], [0.1, math.nan])[0]) == 0
    with pytest.raises(ArgumentError):
        abstention_curve([0, 1], [0.1])
