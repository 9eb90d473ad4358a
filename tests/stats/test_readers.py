"""Multi-reader analyses against published results, slow restatements, and the model they are made for."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from overread.errors import ArgumentError
from overread.stats import readers
from overread.stats.readers import compare_modalities, compare_with_readers
from overread.stats.readers_variance import merit_covariance, variance_components

LONG = pytest.param(True, marks=pytest.mark.slow, id="long")
SHORT = pytest.param(False, id="short")

# Van Dyke et al. 1993 (RSNA): 5 readers rated 69 patients without and 45 with aortic dissection on spin-echo MRI
# (first digit of each pair) and cine MRI (second digit). Ratings as distributed by the University of Iowa with
# OR-DBM MRMC 2.51; a reader is four lines.
VAN_DYKE = [
    # without dissection, then with
    "13 23 23 12 52 12 12 12 13 12 11 13 41 12 12 12 12 12 12 11 11 11 31 11 34 12 11 23 11 42 12 11 14 13 12 "
    "33 11 22 13 21 12 12 22 33 33 11 31 11 13 33 33 11 11 13 14 11 12 24 22 11 12 14 11 34 34 22 11 11 11 "
    "55 53 55 55 45 55 55 55 44 55 55 55 45 34 44 23 43 55 55 55 55 55 55 "
    "55 13 55 45 43 55 45 55 55 34 54 55 55 15 13 55 55 55 45 45 55 11",
    "23 32 22 22 22 22 22 22 23 32 22 22 52 22 22 21 32 22 22 22 21 22 22 22 43 22 22 22 22 32 22 21 22 22 21 "
    "22 22 22 22 22 23 21 22 22 23 22 22 22 22 22 22 22 22 22 23 22 22 43 32 22 22 32 22 22 22 22 21 22 22 "
    "55 33 55 55 55 55 55 45 22 55 55 55 43 44 24 22 24 55 54 55 55 55 54 "
    "55 22 45 32 33 55 45 55 53 22 44 22 55 25 22 55 55 55 55 35 55 22",
    "22 24 22 22 32 52 13 12 22 22 41 21 41 23 22 22 32 22 21 22 11 21 32 21 44 11 11 35 21 22 11 11 22 21 22 "
    "42 12 21 12 42 12 21 11 13 22 21 21 21 22 23 33 21 11 13 22 12 11 22 23 12 13 54 11 42 24 12 21 12 21 "
    "55 42 55 55 55 55 55 55 55 55 55 55 53 45 24 31 54 55 55 55 55 55 55 "
    "55 22 55 23 23 55 55 55 54 23 55 55 55 25 23 54 55 55 55 55 55 21",
    "12 12 11 11 11 11 33 11 12 11 11 11 11 12 12 11 11 11 12 11 21 11 11 11 23 12 11 12 11 22 11 11 11 11 12 "
    "12 11 11 12 11 11 11 11 11 12 11 12 11 32 31 12 12 11 11 11 11 11 12 11 12 11 11 11 33 12 13 12 11 11 "
    "55 54 55 55 55 55 55 55 54 55 55 55 54 55 55 15 55 55 55 55 55 55 55 "
    "55 54 55 45 54 44 45 55 55 35 55 55 55 15 23 55 55 55 55 55 55 55",
    "32 52 13 21 12 12 12 12 21 22 22 12 21 11 11 12 22 22 11 12 32 22 21 12 13 12 12 23 12 11 22 11 12 22 32 "
    "12 21 21 12 11 12 31 31 33 22 11 12 12 23 13 12 11 12 12 12 12 11 32 42 12 22 33 11 22 13 23 11 11 31 "
    "55 22 55 24 55 55 55 55 15 54 45 55 43 54 23 23 33 55 55 55 55 55 55 "
    "45 12 45 41 33 23 22 15 53 12 55 14 55 15 13 53 55 55 35 55 55 23",
]


def van_dyke():
    """Truth (114,) and ratings (114, 5, 2)."""
    table = np.array([[[int(digit) for digit in pair] for pair in line.split()] for line in VAN_DYKE], float)
    return np.arange(114) >= 69, table.transpose(1, 0, 2)


def slow_auc(truth, score):
    ill, well = score[truth], score[~truth]
    return np.mean((ill[:, None] > well) + 0.5 * (ill[:, None] == well))


def slow_covariance(truth, scores, patients):
    """Obuchowski 1997 pair by pair of curves; without repeats it is DeLong's."""
    kernels = [(s[truth][:, None] > s[~truth]) + 0.5 * (s[truth][:, None] == s[~truth]) for s in scores.T]
    areas = [k.mean() for k in kernels]
    m, n, names = truth.sum(), (~truth).sum(), np.unique(patients)
    ill, well = patients[truth], patients[~truth]

    def total(part, owner, name):
        return part[owner == name].sum()

    above = [[total(k.mean(axis=1) - a, ill, p) for p in names] for k, a in zip(kernels, areas)]
    below = [[total(k.mean(axis=0) - a, well, p) for p in names] for k, a in zip(kernels, areas)]
    i10, i01, i = len(set(ill)), len(set(well)), len(names)
    covariance = np.empty((len(areas),) * 2)
    for a, b in product(range(len(areas)), repeat=2):
        covariance[a, b] = (
            i10 / (i10 - 1) * np.dot(above[a], above[b]) / m**2
            + i01 / (i01 - 1) * np.dot(below[a], below[b]) / n**2
            + i / (i - 1) * (np.dot(above[a], below[b]) + np.dot(below[a], above[b])) / (m * n)
        )
    return np.array(areas), covariance


def draw(seed=0, cases=80, count=4, modalities=2, images=1):
    rng = np.random.default_rng(seed)
    patients = np.arange(cases) // images
    truth = rng.random(cases) < 0.4
    scores = rng.normal(size=(cases, count, modalities)) + truth[:, None, None]
    scores += rng.normal(size=cases // images + 1)[patients][:, None, None]
    return truth, np.round(scores, 1), patients


@pytest.mark.parametrize("images", [1, 3])
def test_covariance_is_that_of_the_definition(images):
    truth, scores, patients = draw(images=images)
    values, covariance = merit_covariance(truth, scores.reshape(80, 8), patients)
    slow = slow_covariance(truth, scores.reshape(80, 8), patients)
    np.testing.assert_allclose(values, slow[0], atol=1e-12)
    np.testing.assert_allclose(covariance, slow[1], atol=1e-10)
    if images == 1:  # the textbook form of DeLong, DeLong & Clarke-Pearson 1988
        kernels = [s[truth][:, None] > s[~truth] for s in scores.reshape(80, 8).T + 0.0]
        kernels = [
            k + 0.5 * (s[truth][:, None] == s[~truth]) for k, s in zip(kernels, scores.reshape(80, 8).T)
        ]
        textbook = np.cov([k.mean(axis=1) for k in kernels]) / truth.sum()
        textbook += np.cov([k.mean(axis=0) for k in kernels]) / (~truth).sum()
        np.testing.assert_allclose(covariance, textbook, atol=1e-10)


def test_covariance_of_shares_is_that_of_a_sample_mean():
    truth, scores, _ = draw()
    calls = scores.reshape(80, 8) > 0.5
    values, covariance = merit_covariance(truth, calls, merit="sensitivity")
    np.testing.assert_allclose(values, calls[truth].mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(calls[truth].T.astype(float)) / truth.sum())
    values, _ = merit_covariance(truth, calls, merit="specificity")
    np.testing.assert_allclose(values, (~calls[~truth]).mean(axis=0))


def jackknifed(truth, scores):
    """Merits, and their covariance by leaving out each case (Quenouille; as OR-DBM MRMC does)."""
    flat = scores.reshape(len(truth), -1)
    values = np.array([slow_auc(truth, s) for s in flat.T])
    keep = ~np.eye(len(truth), dtype=bool)
    without = np.array([[slow_auc(truth[k], s[k]) for s in flat.T] for k in keep])
    spread = without - without.mean(axis=0)
    return values, (len(truth) - 1) / len(truth) * spread.T @ spread


#: RJafroc 2.0.1 (Chakraborty), book chapter "Obuchowski Rockette applications", and MRMCaov 0.1.8 (Smith, Hillis &
#: Pesce), README: both analyse these ratings with the jackknife covariance, and agree. F, p, low and high of spin
#: echo − cine, then error and freedom of each mean (MRMCaov; OR-DBM MRMC 2.51 where readers are fixed).
PUBLISHED = {
    ("random", "random"): (4.4563187, 0.051665686, -0.087959499, 0.00035885444, (0.03317360, 12.74465), (0.02156637, 12.71019)),
    ("fixed", "random"): (5.4759532, 0.019279843, -0.080485914, -0.0071147303, (0.02428971, math.inf), (0.01677632, math.inf)),
    ("random", "fixed"): (8.704, 0.041958752, -0.085020224, -0.0025804202, None, None),
}  # fmt: skip


@pytest.mark.parametrize("design", PUBLISHED)
def test_van_dyke_is_as_published(design, monkeypatch):
    truth, scores = van_dyke()
    values, errors = jackknifed(truth, scores)
    monkeypatch.setattr(readers, "merits", lambda given: (values, errors))
    found = compare_modalities(truth, scores, readers=design[0], cases=design[1])
    statistic, p, low, high, *means = PUBLISHED[design]
    gap = found.differences[0].difference
    assert found.statistic == pytest.approx(statistic, rel=1e-6)
    assert found.p == pytest.approx(p, rel=1e-6)
    assert found.differences[0].p == pytest.approx(p, rel=1e-6)
    assert (gap.value, gap.low, gap.high) == pytest.approx((-0.043800322, low, high), rel=1e-6)
    for mean, expected in zip(found.means, means):
        if expected:
            assert error_of(mean, expected[1]) == pytest.approx(expected[0], rel=1e-6)
    assert [m.value for m in found.means] == pytest.approx([0.89703704, 0.94083736], abs=1e-8)


def error_of(estimate, freedom):
    """The standard error that an interval on the logit scale was made of."""
    logit = lambda p: np.log(p / (1 - p))
    wide = stats.t.ppf(0.975, freedom) if math.isfinite(freedom) else stats.norm.ppf(0.975)
    half = (logit(estimate.high) - logit(estimate.low)) / 2
    return half / wide * estimate.value * (1 - estimate.value)


def test_van_dyke_components_are_as_published():
    """RJafroc and MRMCaov as above: mean squares, Var and Cov1 … Cov3 of the jackknife."""
    truth, scores = van_dyke()
    values, errors = jackknifed(truth, scores)
    expected = [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066]
    np.testing.assert_allclose(values.reshape(5, 2)[:, 0], expected, atol=1e-8)
    c = variance_components(values.reshape(5, 2), errors)
    assert (c.modality, c.reader, c.interaction) == pytest.approx(
        (0.00479617053, 0.0038362, 0.00055103062), rel=1e-6
    )
    assert (c.variance, c.same_reader) == pytest.approx((0.00080228827, 0.00034661371), rel=1e-6)
    assert (c.same_modality, c.neither) == pytest.approx((0.00034407483, 0.00023902837), rel=1e-6)


def test_van_dyke_by_delong_is_near_the_jackknife():
    found = compare_modalities(*van_dyke(), names=("spin echo", "cine"))
    assert found.statistic == pytest.approx(4.456, rel=0.01)
    assert found.freedom == pytest.approx((1, 15.26), rel=0.02)
    assert found.differences[0].difference.of == "spin echo − cine"
    assert [e.of for e in found.each[0]] == ["spin echo", "cine"]


@pytest.mark.parametrize("images", [1, 2])
def test_three_modalities_are_those_of_a_slow_restatement(images):
    """Hillis 2007, equations 10–15, with loops over readers and modalities."""
    truth, scores, patients = draw(modalities=3, images=images)
    areas, cov = slow_covariance(truth, scores.reshape(80, 12), patients)
    table, r, t = areas.reshape(4, 3), 4, 3
    index = {(j, i): j * t + i for j in range(r) for i in range(t)}
    groups = {"own": [], "cov1": [], "cov2": [], "cov3": []}
    for a, b in product(index, repeat=2):
        kind = "own" if a == b else "cov1" if a[0] == b[0] else "cov2" if a[1] == b[1] else "cov3"
        groups[kind].append(cov[index[a], index[b]])
    mean = {kind: np.mean(values) for kind, values in groups.items()}
    ms_t = r * sum((table[:, i].mean() - table.mean()) ** 2 for i in range(t)) / (t - 1)
    rest = [table[j, i] - table[j].mean() - table[:, i].mean() + table.mean() for j, i in index]
    ms_tr = sum(x**2 for x in rest) / ((t - 1) * (r - 1))
    below = ms_tr + r * max(mean["cov2"] - mean["cov3"], 0)
    freedom = below**2 / (ms_tr**2 / ((t - 1) * (r - 1)))
    found = compare_modalities(truth, scores, patients)
    assert found.statistic == pytest.approx(ms_t / below)
    assert found.freedom == pytest.approx((t - 1, freedom))
    assert found.p == pytest.approx(stats.f.sf(ms_t / below, t - 1, freedom))
    gap, error = table[:, 0].mean() - table[:, 2].mean(), math.sqrt(2 / r * below)
    assert found.differences[1].difference.value == pytest.approx(gap)
    assert found.differences[1].error == pytest.approx(error)
    half = stats.t.ppf(0.975, freedom) * error
    assert found.differences[1].difference.high == pytest.approx(gap + half)
    fixed = compare_modalities(truth, scores, patients, cases="fixed")
    assert fixed.statistic == pytest.approx(ms_t / ms_tr)


def test_a_model_against_readers_on_these_cases_is_a_t_test():
    truth, scores, _ = draw(modalities=1, count=6)
    others, model = scores[:, :, 0], scores[:, 0, 0] + truth
    found = compare_with_readers(truth, model, others, cases="fixed")
    gaps = [slow_auc(truth, model) - slow_auc(truth, s) for s in others.T]
    expected = stats.ttest_1samp(gaps, 0)
    assert found.difference.statistic == pytest.approx(expected.statistic)
    assert found.difference.p == pytest.approx(expected.pvalue)
    assert found.freedom == 5
    assert found.model.value == pytest.approx(slow_auc(truth, model))


@pytest.mark.parametrize("images", [1, 2])
def test_a_model_against_readers_is_a_slow_restatement(images):
    truth, scores, patients = draw(modalities=1, count=5, images=images, seed=3)
    table = np.column_stack((scores[:, 0, 0] + 0.3 * truth, scores[:, :, 0]))
    areas, cov = slow_covariance(truth, table, patients)
    gaps = areas[0] - areas[1:]
    one = [[cov[0, 0] - cov[0, j] - cov[0, k] + cov[j, k] for k in range(1, 6)] for j in range(1, 6)]
    shared = np.mean([one[j][k] for j, k in product(range(5), repeat=2) if j != k])
    spread = np.var(gaps, ddof=1)
    error = math.sqrt(spread / 5 + max(shared, 0))
    freedom = (spread + 5 * max(shared, 0)) ** 2 / (spread**2 / 4)
    found = compare_with_readers(truth, table[:, 0], table[:, 1:], patients)
    assert found.difference.difference.value == pytest.approx(gaps.mean())
    assert found.difference.error == pytest.approx(error)
    assert found.freedom == pytest.approx(freedom)
    assert found.difference.p == pytest.approx(2 * stats.t.sf(abs(gaps.mean()) / error, freedom))
    fixed = compare_with_readers(truth, table[:, 0], table[:, 1:], patients, readers="fixed")
    weights = np.array([1, *[-1 / 5] * 5])
    assert fixed.difference.error == pytest.approx(math.sqrt(weights @ cov @ weights))


def test_the_same_readings_twice_differ_by_nothing_and_perfect_readers_have_no_variance():
    truth, scores, _ = draw()
    same = compare_modalities(truth, np.repeat(scores[:, :, :1], 2, axis=2)).differences[0]
    assert (same.difference.value, same.difference.low, same.difference.high, same.p) == (0, 0, 0, 1)
    perfect = compare_modalities(truth, truth[:, None, None] + 0.1 * np.zeros((80, 3, 2)))
    assert [m.value for m in perfect.means] == [1, 1]
    assert all(0.8 < m.low < 1 and m.high == 1 for m in perfect.means)
    assert "no interval" in perfect.differences[0].difference.method
    assert math.isnan(perfect.differences[0].p)
    assert math.isnan(perfect.p)


@pytest.mark.parametrize(
    ("truth", "scores", "why"),
    [
        ([1, 1, 1], np.zeros((3, 2, 2)), "0 negatives"),
        ([0, 0, 0], np.zeros((3, 2, 2)), "0 positives"),
        ([0, 1, 1], np.full((3, 2, 2), np.nan), "12 of 12 scores are not finite"),
        ([0, 1, 1], np.full((3, 2, 2), np.inf), "12 of 12 scores are not finite"),
        ([], np.zeros((0, 2, 2)), "no cases"),
        ([0, 1, 1], np.zeros((3, 1, 2)), "one reader cannot stand for others"),
    ],
)
def test_undefined_says_why(truth, scores, why):
    found = compare_modalities(truth, scores)
    assert {e.undefined for e in found.means} == {why}
    assert found.differences[0].difference.undefined == why
    assert math.isnan(found.p)
    against = compare_with_readers(truth, scores[:, 0, 0], scores[:, :, 0])
    assert (
        against.difference.difference.undefined == against.mean.undefined == why.replace("12 of 12", "9 of 9")
    )


def test_one_reader_is_delongs_test_of_two_curves():
    truth, scores, _ = draw(count=1)
    found = compare_modalities(truth, scores, readers="fixed").differences[0]
    _, cov = slow_covariance(truth, scores[:, 0], np.arange(80))
    assert found.error == pytest.approx(math.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_study_has_an_answer(data):
    cases, count, modalities = (data.draw(st.integers(1, n)) for n in (8, 3, 3))
    merit = data.draw(st.sampled_from(["auc", "sensitivity", "specificity"]))
    number = st.sampled_from(
        [0.0, 1.0, np.nan, np.inf] if merit != "auc" else [0.0, 0.5, 1.0, 2.0, np.nan, -np.inf]
    )
    truth = data.draw(st.lists(st.booleans(), min_size=cases, max_size=cases))
    patients = data.draw(st.lists(st.integers(0, 3), min_size=cases, max_size=cases))
    clean = data.draw(st.booleans())
    size = cases * count * modalities
    flat = data.draw(st.lists(st.sampled_from([0.0, 1.0]) if clean else number, min_size=size, max_size=size))
    scores = np.reshape(flat, (cases, count, modalities))
    design = data.draw(st.sampled_from(list(PUBLISHED)))
    options = {"merit": merit, "readers": design[0], "cases": design[1]}
    found = compare_modalities(truth, scores, patients, **options)
    against = compare_with_readers(truth, scores[:, 0, 0], scores[:, :, 0], patients, **options)
    gaps = [d.difference for d in (*found.differences, against.difference)]
    for e in (*found.means, *(e for row in found.each for e in row), against.mean, against.model, *gaps):
        assert math.isnan(e.value) == bool(e.undefined)
        if not e.undefined and math.isnan(e.low):
            assert "no interval" in e.method
        elif not e.undefined:
            assert -1 <= e.low <= e.value + 1e-12
            assert e.value - 1e-12 <= e.high <= 1


def test_bad_arguments_are_refused():
    truth, scores, _ = draw()
    for call in (
        lambda: compare_modalities(truth, scores[:, :, 0]),
        lambda: compare_modalities(truth, scores[1:]),
        lambda: compare_modalities(truth, scores, readers="fixed", cases="fixed"),
        lambda: compare_modalities(truth, scores, merit="sensitivity"),
        lambda: compare_modalities(truth, scores, names=["one"]),
        lambda: compare_modalities(truth, scores, level=2.0),
        lambda: compare_with_readers(truth, scores[:, 0, 0], scores[1:, :, 0]),
        lambda: compare_with_readers(truth, scores[:, :, 0], scores[:, :, 0]),
        lambda: merit_covariance(truth, np.full((80, 2), np.nan)),
        lambda: variance_components([[1.0, 2.0]], np.eye(3)),
    ):
        with pytest.raises(ArgumentError):
            call()


def roe_metz(rng, well, ill, count, distance, case, reader):
    """Roe & Metz 1997: normal scores with effects of case, reader and modality, and no difference between two."""
    truth = np.arange(well + ill) >= well
    side, n = truth.astype(int), well + ill
    scores = distance * truth[:, None, None] + math.sqrt(0.8 - 2 * case) * rng.normal(size=(n, count, 2))
    scores += math.sqrt(case) * (rng.normal(size=(n, 1, 1)) + rng.normal(size=(n, 1, 2)))
    scores += math.sqrt(0.2) * rng.normal(size=(n, count, 1))
    scores += math.sqrt(reader) * (rng.normal(size=(2, count, 1)) + rng.normal(size=(2, count, 2)))[side]
    return truth, scores


@pytest.mark.parametrize("long", [SHORT, LONG])
@pytest.mark.parametrize(("well", "ill", "count"), [(50, 50, 5), (100, 25, 4), (25, 25, 3)])
@pytest.mark.parametrize(("case", "reader"), [(0.3, 0.011), (0.1, 0.0553)])
def test_two_equal_modalities_are_told_apart_as_rarely_as_promised(well, ill, count, case, reader, long):
    repeats = 3000 if long else 400
    draws = (roe_metz(np.random.default_rng(s), well, ill, count, 1.5, case, reader) for s in range(repeats))
    rejected = np.mean([compare_modalities(*one).p < 0.05 for one in draws])
    slack = 0.0 if long else 0.02  # 400 repeats have a standard error of 1.1 %
    assert 0.025 - slack <= rejected <= 0.075 + slack


def clinic(rng, well, ill, count, distance, images):
    """A model as good as the mean of the readers; cases are harder or easier for all of them."""
    truth = np.repeat(np.arange(well + ill) >= well, images)
    hard = math.sqrt(0.4) * np.repeat(rng.normal(size=well + ill), images)
    skill = math.sqrt(0.03) * rng.normal(size=(2, count))[truth.astype(int)]
    noise = math.sqrt(0.6) * rng.normal(size=(len(truth), count + 1))
    scores = distance * truth[:, None] + hard[:, None] + noise
    scores[:, 1:] += skill
    scores[:, 0] += (1 / math.sqrt(1.03) - 1) * distance * truth  # readers' skill blurs their mean AUC
    return truth, scores, np.repeat(np.arange(well + ill), images)


@pytest.mark.parametrize("long", [SHORT, LONG])
@pytest.mark.parametrize(
    ("well", "ill", "count", "distance", "images"),
    [(50, 50, 5, 1.5, 1), (80, 20, 4, 2.6, 1), (60, 60, 10, 1.0, 1), (40, 40, 4, 1.5, 3)],
)
def test_model_minus_readers_and_the_readers_mean_are_covered(well, ill, count, distance, images, long):
    area, repeats, held = stats.norm.cdf(distance / math.sqrt(2 * 1.03)), 3000 if long else 300, np.zeros(2)
    for seed in range(repeats):
        truth, scores, patients = clinic(np.random.default_rng(seed), well, ill, count, distance, images)
        found = compare_with_readers(truth, scores[:, 0], scores[:, 1:], patients)
        gap = found.difference.difference
        held += (gap.low <= 0 <= gap.high, found.mean.low <= area <= found.mean.high)
    slack = 0.0 if long else 0.025
    assert (0.925 - slack <= held / repeats).all(), held / repeats
    assert (held / repeats <= 0.975 + slack).all(), held / repeats
