"""The risk–coverage curve with its band: every point is the proportion of errors among the cases answered."""

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.stats.calibration.abstention import risk_curve
from overread.stats.proportions import proportion


@pytest.mark.parametrize(("images", "seed"), [(1, 0), (4, 1), (4, 2), (9, 3)])
def test_every_point_is_the_proportion_and_its_interval(images, seed):
    rng = np.random.default_rng(seed)
    who = rng.integers(0, 40, 40 * images) if images > 1 else np.arange(200)
    sure = rng.random(len(who)).round(2)
    wrong = rng.random(len(who)) < 0.5 - 0.4 * sure
    found = risk_curve(wrong, sure, who, points=50)
    assert 10 < len(found.risk) <= 50
    for threshold, coverage, risk, low, high in zip(found.threshold, found.coverage, found.risk, found.low, found.high):
        rows = sure >= threshold
        slow = proportion(wrong[rows], who[rows])
        assert coverage == pytest.approx(rows.mean())
        assert (risk, low, high) == pytest.approx((slow.value, slow.low, slow.high), abs=1e-9)


def test_all_points_of_a_short_curve_and_its_ends():
    found = risk_curve([0, 1, 0, 1, 1], [0.9, 0.8, 0.7, 0.7, 0.1])
    assert found.coverage.tolist() == pytest.approx([0.2, 0.4, 0.8, 1.0])
    assert found.risk.tolist() == pytest.approx([0, 1 / 2, 2 / 4, 3 / 5])
    assert found.threshold.tolist() == [0.9, 0.8, 0.7, 0.1]


def test_what_has_no_curve():
    assert "not finite" in risk_curve([0, 1], [np.nan, 1.0]).undefined
    assert risk_curve([], []).undefined == "no cases"
    assert len(risk_curve([0], [0.5], [7]).risk) == 1
    with pytest.raises(ArgumentError, match="points"):
        risk_curve([0], [0.5], points=1)
