"""Paired shares against statsmodels, published values, and Tango's definition solved by scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from statsmodels.stats import contingency_tables

from overread.core.errors import ArgumentError
from overread.stats.proportions import mcnemar, paired_proportions, tango, threshold_differences

Z = 1.959963984540054


def table(both, first, second, neither):
    cells = np.repeat([0, 1, 2, 3], [both, first, second, neither])
    return np.isin(cells, [0, 1]), np.isin(cells, [0, 2])


@pytest.mark.parametrize("cells", [(10, 3, 9, 5), (50, 0, 6, 2), (5, 1, 1, 5), (4, 0, 0, 4), (20, 12, 12, 0)])
def test_few_discordant_pairs_are_exact_as_in_statsmodels(cells):
    found = mcnemar(*table(*cells))
    known = contingency_tables.mcnemar(np.reshape(cells, (2, 2)), exact=True)
    assert found.p == pytest.approx(min(1.0, known.pvalue), rel=1e-12)
    assert (found.first_only, found.second_only) == cells[1:3]
    assert found.method == "exact McNemar"


@pytest.mark.parametrize("cells", [(100, 20, 40, 30), (10, 25, 0, 3), (800, 300, 200, 100)])
def test_many_discordant_pairs_are_chi_squared_as_in_statsmodels(cells):
    found = mcnemar(*table(*cells))
    known = contingency_tables.mcnemar(np.reshape(cells, (2, 2)), exact=False, correction=False)
    assert (found.statistic, found.p) == pytest.approx((known.statistic, known.pvalue), rel=1e-9)


def clusters(imbalance, sizes):
    """Images of patients with so many more right by the first (negative: the second); both right elsewhere."""
    first, second, patients = [], [], []
    for p, (d, n) in enumerate(zip(imbalance, sizes)):
        k = np.arange(n)
        first += (k >= max(-d, 0)).tolist()
        second += (k >= max(d, 0)).tolist()
        patients += [p] * n
    return first, second, patients


def test_clustered_statistics_are_the_published_ones():
    """Thyroid glands of 21 patients by PET and SPECT (Obuchowski 1998): McNemar 4.5, Obuchowski 2.86.

    Both as reported by Durkalski et al. 2003 (after the tests of the R package clust.bin.pair). The data are not
    theirs, but imbalances worked back from the two values: Σd = −6, Σd² = 12, eight discordant glands.
    """
    imbalance = [-2, -2, -1, -1, -1, 1] + [0] * 15
    first, second, patients = clusters(imbalance, [4] * 21)
    assert mcnemar(first, second).statistic == pytest.approx(4.5)
    assert round(mcnemar(first, second, patients).statistic, 2) == 2.86


def test_clustered_statistics_and_sign_flips_are_those_of_the_definitions():
    rng = np.random.default_rng(4)
    imbalance, sizes = rng.integers(-2, 3, 12), rng.integers(2, 6, 12)
    first, second, patients = clusters(imbalance, sizes)
    d, k = imbalance, 12
    found = mcnemar(first, second, patients)
    assert found.statistic == pytest.approx((k - 1) / k * d.sum() ** 2 / (d**2).sum())
    share = mcnemar(first, second, patients, method="durkalski").statistic
    assert share == pytest.approx((d / sizes).sum() ** 2 / ((d / sizes) ** 2).sum())
    flips = [abs(sum(s * x for s, x in zip(signs, d))) for signs in itertools.product((1, -1), repeat=k)]
    assert found.p == pytest.approx(np.mean(np.array(flips) >= abs(d.sum())), rel=1e-12)


def test_one_image_a_patient_is_the_plain_test():
    first, second = table(10, 3, 9, 5)
    assert mcnemar(first, second, np.arange(27) + 3) == mcnemar(first, second)


def slow_score(b, c, n, delta):
    """Tango's statistic, its nuisance parameter by maximum likelihood."""

    def loss(q):
        inside = [(b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta)]
        return -sum(k * math.log(p) for k, p in inside if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(loss, bounds=(low + 1e-12, high - 1e-12), method="bounded", options={"xatol": 1e-13}).x
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 4, 50), (3, 9, 27), (1, 5, 30), (20, 20, 60)])
def test_tango_ends_lie_z_of_their_own_errors_away(b, c, n):
    low, high = tango(b, c, n, Z)
    assert slow_score(b, c, n, low) == pytest.approx(Z, rel=1e-3)
    assert slow_score(b, c, n, high) == pytest.approx(-Z, rel=1e-3)
    np.testing.assert_allclose(tango(c, b, n, Z), [-high, -low], atol=1e-12)


def test_tango_without_discordant_pairs_has_a_width_and_takes_arrays():
    low, high = tango(0, 0, 50, Z)
    assert -low == pytest.approx(high) == pytest.approx(Z**2 / (50 + Z**2))
    both = tango([0, 12], [0, 4], [50, 50], Z)
    np.testing.assert_allclose(both[:, 1], tango(12, 4, 50, Z))


def test_shares_intervals_and_p_stand_together():
    first, second = table(60, 12, 4, 24)
    found = paired_proportions(first, second, metric="sensitivity")
    assert found.difference.value == pytest.approx(0.08)
    assert (found.first.value, found.second.value) == (0.72, 0.64)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(tango(12, 4, 100, Z)))
    assert found.p == mcnemar(first, second).p
    assert found.difference.metric == "sensitivity difference"


def test_copies_of_an_image_add_little():
    first, second = table(60, 12, 4, 24)
    once = paired_proportions(first, second).difference
    four = paired_proportions(np.repeat(first, 4), np.repeat(second, 4), np.repeat(np.arange(100), 4)).difference
    assert (four.low, four.high) == pytest.approx((once.low, once.high), abs=0.01)
    assert (four.images, four.patients) == (400, 100)


def test_at_thresholds_each_is_among_its_own_cases():
    truth = np.array([1] * 10 + [0] * 30)
    a, b = truth.copy(), truth.copy()
    b[:3], a[20:22] = 0, 1
    found = {d.difference.metric: d.difference for d in threshold_differences(truth, a, b)}
    values = {m: round(e.value, 4) for m, e in found.items()}
    assert values == {"sensitivity difference": 0.3, "specificity difference": -0.0667, "accuracy difference": 0.025}
    assert found["sensitivity difference"].images == 10
    none = threshold_differences([1, 1], [1, 0], [1, 1])
    assert [d.difference.undefined for d in none] == ["", "0 negatives", ""]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 4)), max_size=30))
def test_any_input_has_a_value_or_a_reason(rows):
    truth, a, b, patients = ([row[k] for row in rows] for k in range(4))
    for found in threshold_differences(truth, a, b, patients):
        d = found.difference
        assert bool(d.undefined) == math.isnan(d.value)
        if not d.undefined:
            assert -1 <= d.low <= d.value <= d.high <= 1
            assert d.low < d.high
            assert 0 <= found.p <= 1
    test = mcnemar(a, b, patients)
    assert bool(test.undefined) == math.isnan(test.p)


def test_bad_arguments_are_refused():
    for call in (
        lambda: mcnemar([1, 0], [1]),
        lambda: mcnemar([1], [0.5]),
        lambda: mcnemar([1], [1], method="yates"),
        lambda: tango(1, 1, 0, Z),
        lambda: threshold_differences([1, 0], [1, 0], [1]),
    ):
        with pytest.raises(ArgumentError):
            call()


SETTINGS = [
    (60, 1, 0.9, 0.8, 0.2),
    (100, 1, 0.9, 0.9, 0.1),
    (40, 1, 0.95, 0.85, 0.1),
    (200, 4, 0.9, 0.85, 0.15),
    (40, 4, 0.9, 0.85, 0.15),
    (25, 3, 0.9, 0.8, 0.2),
]


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("repeats", "case"),
    [(250, SETTINGS[0]), (250, SETTINGS[4]), *(pytest.param(3000, s, marks=pytest.mark.slow) for s in SETTINGS)],
)
def test_coverage_and_the_size_of_the_test(repeats, case):
    """Images of a patient agree with correlation one half: each copies her own cell of the table half of the time."""
    patients, images, first, second, discordant = case
    b, c = (discordant + first - second) / 2, max(0.0, (discordant - first + second) / 2)
    cells = [first - b, b, c, max(0.0, 1 - first - c)]
    codes, held = np.repeat(np.arange(patients), images), 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        own = np.repeat(rng.choice(4, patients, p=cells), images)
        copied = np.repeat(rng.random(patients) < 0.5, images)
        cell = np.where(copied, own, rng.choice(4, len(codes), p=cells))
        d = paired_proportions(np.isin(cell, [0, 1]), np.isin(cell, [0, 2]), codes).difference
        held += d.low <= first - second <= d.high
    slack = 0.0 if repeats > 2000 else 0.02
    assert 0.925 - slack <= held / repeats <= 0.975 + slack, held / repeats


@pytest.mark.parametrize("repeats", [400, pytest.param(4000, marks=pytest.mark.slow)])
def test_the_clustered_test_keeps_its_size(repeats):
    rejected, codes = 0, np.repeat(np.arange(80), 3)
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        own = np.repeat(rng.choice(4, 80, p=[0.5, 0.2, 0.2, 0.1]), 3)
        copied = np.repeat(rng.random(80) < 0.7, 3)
        cell = np.where(copied, own, rng.choice(4, 240, p=[0.5, 0.2, 0.2, 0.1]))
        rejected += mcnemar(np.isin(cell, [0, 1]), np.isin(cell, [0, 2]), codes).p < 0.05
    assert 0.025 <= rejected / repeats <= 0.075


@pytest.mark.parametrize("method", ["obuchowski", "durkalski"])
def test_few_patients_are_flipped_one_by_one(method):
    """Every sign of every patient's imbalance; for Durkalski's test of her share of images."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        codes = rng.integers(0, 9, 40)
        right, other = rng.random(40) < 0.8, rng.random(40) < 0.6
        apart = np.bincount(codes, right.astype(float) - other, 9)
        if method == "durkalski":
            apart = apart / np.maximum(np.bincount(codes, minlength=9), 1)
        flips = [abs(np.dot(signs, apart)) for signs in itertools.product((-1, 1), repeat=9)]
        expected = np.mean(np.array(flips) >= abs(apart.sum()) - 1e-9)
        assert mcnemar(right, other, codes, method=method).p == pytest.approx(expected, abs=1e-12)
