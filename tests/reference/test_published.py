"""Numbers that stand in print."""

import numpy as np
import pytest

from overread.stats.discrimination.roc import auc
from overread.stats.proportions import clopper_pearson, proportion

# R. G. Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven methods",
# Statistics in Medicine 17 (1998) 857–872, table I: methods 3 (Wilson) and 5 (Clopper–Pearson).
NEWCOMBE_1998 = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("k", "n", "wilson", "exact"), NEWCOMBE_1998)
def test_proportions_of_newcombe_1998(k, n, wilson, exact):
    found = proportion([1] * k + [0] * (n - k))
    assert (found.low, found.high) == pytest.approx(wilson, abs=5e-5)
    assert clopper_pearson(k, n) == pytest.approx(exact, abs=5e-5)


def test_computed_tomography_ratings_of_hanley_and_mcneil_1982():
    """J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143 (1982) 29–36, table I: 109 computed tomograms rated 1–5, area .893, standard error .032."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    truth = np.repeat([0, 1], [sum(normal), sum(abnormal)])
    rating = np.concatenate([np.repeat(np.arange(1, 6), counts) for counts in (normal, abnormal)])
    found = auc(truth, rating)
    assert found.value == pytest.approx(0.893, abs=5e-4)
    logit = lambda p: np.log(p / (1 - p))
    error = (logit(found.high) - logit(found.low)) / (2 * 1.959964) * found.value * (1 - found.value)
    assert error == pytest.approx(0.032, abs=2e-3)
