"""Multi-reader analyses against published results, slow restatements, and the model they are made for."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from overread.core.errors import ArgumentError
from overread.stats.agreement import mrmc
from overread.stats.agreement.mrmc import (
    compare_modalities,
    compare_with_readers,
    merits,
    readings,
    variance_components,
)


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
    values, covariance = merits(readings(truth, scores.reshape(80, 8), patients, 2))
    slow = slow_covariance(truth, scores.reshape(80, 8), patients)
    np.testing.assert_allclose(values, slow[0], atol=1e-12)
    np.testing.assert_allclose(covariance, slow[1], atol=1e-10)
    if images == 1:  # the textbook form of DeLong, DeLong & Clarke-Pearson 1988
        kernels = [s[truth][:, None] > s[~truth] for s in scores.reshape(80, 8).T + 0.0]
        kernels = [k + 0.5 * (s[truth][:, None] == s[~truth]) for k, s in zip(kernels, scores.reshape(80, 8).T)]
        textbook = np.cov([k.mean(axis=1) for k in kernels]) / truth.sum()
        textbook += np.cov([k.mean(axis=0) for k in kernels]) / (~truth).sum()
        np.testing.assert_allclose(covariance, textbook, atol=1e-10)


def test_covariance_of_shares_is_that_of_a_sample_mean():
    truth, scores, _ = draw()
    calls = scores.reshape(80, 8) > 0.5
    values, covariance = merits(readings(truth, calls, None, 2, merit="sensitivity"))
    np.testing.assert_allclose(values, calls[truth].mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(calls[truth].T.astype(float)) / truth.sum())
    values, _ = merits(readings(truth, calls, None, 2, merit="specificity"))
    np.testing.assert_allclose(values, (~calls[~truth]).mean(axis=0))


@dataclass(frozen=True)
class Printed:
    """A published analysis of readers × modalities: its summary numbers, and what was made of them.

    ``variance`` and ``same_modality`` of each modality or of all; ``expected`` per design F, p, low and high of the
    first modality − the second.
    """

    areas: tuple[tuple[float, ...], ...]  # one row per reader
    variance: tuple[float, ...]
    same_reader: float
    same_modality: tuple[float, ...]
    neither: float
    expected: dict[tuple[str, str], tuple[float, float, float, float]]
    freedom: float  # of the error, where readers and cases are random

    def errors(self):
        """(R·M, R·M) the covariance that has these means."""
        count, modalities = np.shape(self.areas)
        own, shared = (np.broadcast_to(x, modalities) for x in (self.variance, self.same_modality))
        errors = np.full((count * modalities,) * 2, self.neither)
        for a, b in product(product(range(count), range(modalities)), repeat=2):
            at = a[0] * modalities + a[1], b[0] * modalities + b[1]
            if a[1] == b[1]:
                errors[at] = own[a[1]] if a == b else shared[a[1]]
            elif a[0] == b[0]:
                errors[at] = self.same_reader
        return errors


#: D. P. Chakraborty, book on RJafroc, chapter "Obuchowski Rockette applications", data sets 02 (Van Dyke et al. 1993:
#: spin echo and cine MRI of the aorta) and 04 (Zanca et al. 2009: five ways to process mammograms; highest rating):
#: only the summary numbers printed there. Readers and cases random, cases random, readers random.
PUBLISHED = {
    "two modalities": Printed(
        ((0.91964573, 0.94782609), (0.85877617, 0.90531401), (0.90386473, 0.92173913), (0.97310789, 0.99935588),
         (0.82979066, 0.92995169)),
        (0.00101410277, 0.00059047376), 0.00034661371, (0.00048396180, 0.00020418785), 0.00023902837,
        {("random", "random"): (4.4563187, 0.051665686, -0.087959499, 0.00035885444),
         ("fixed", "random"): (5.4759532, 0.019279843, -0.080485914, -0.0071147303),
         ("random", "fixed"): (8.704, 0.041958752, -0.085020224, -0.0025804202)},
        15.259675,
    ),
    "five modalities": Printed(
        ((0.90425, 0.86425, 0.81295, 0.90235, 0.84140), (0.79820, 0.84470, 0.81635, 0.83150, 0.77300),
         (0.81175, 0.82050, 0.75275, 0.78865, 0.77115), (0.86645, 0.87160, 0.85730, 0.87980, 0.84800)),
        (7.8911924e-04,), 2.9480096e-04, (2.3331406e-04,), 2.1212789e-04,
        {("random", "random"): (3.4682364, 0.030544556, -0.04002130451, 0.0298213045),
         ("fixed", "random"): (13.601264 / 4, 0.0086826618, -0.0378342386, 0.0276342386),
         ("random", "fixed"): (4.1041306, 0.025328308, -0.0382225014, 0.0280225014)},
        16.803749,
    ),
}  # fmt: skip
DESIGNS = [("random", "random"), ("fixed", "random"), ("random", "fixed")]


def as_printed(printed, monkeypatch, **design):
    """The analysis of the printed areas and covariances; the scores themselves play no part."""
    values = np.ravel(printed.areas)
    monkeypatch.setattr(mrmc, "merits", lambda given: (values, printed.errors()))
    truth = np.arange(8) % 2
    return compare_modalities(truth, np.zeros((8, *np.shape(printed.areas))) + truth[:, None, None], **design)


@pytest.mark.parametrize("design", DESIGNS, ids="-".join)
@pytest.mark.parametrize("example", PUBLISHED)
def test_analyses_are_as_published(example, design, monkeypatch):
    printed = PUBLISHED[example]
    found = as_printed(printed, monkeypatch, readers=design[0], cases=design[1])
    statistic, p, low, high = printed.expected[design]
    areas = np.array(printed.areas).mean(axis=0)
    gap = found.differences[0].difference
    assert found.statistic == pytest.approx(statistic, rel=2e-6)  # what 8 printed digits leave
    assert found.p == pytest.approx(p, rel=2e-6)
    assert (gap.value, gap.low, gap.high) == pytest.approx((areas[0] - areas[1], low, high), abs=2e-8)
    assert [m.value for m in found.means] == pytest.approx(areas, abs=1e-12)
    if design == ("random", "random"):
        assert found.freedom == pytest.approx((len(areas) - 1, printed.freedom), rel=2e-6)


def test_means_are_as_published(monkeypatch):
    """Chakraborty as above, data set 02: half the interval of each modality's mean, which stands on its own data."""
    for design, halves in {
        ("random", "random"): (0.96885048 - 0.89703704, 0.98753689 - 0.94083736),
        ("fixed", "random"): (0.89703704 - 0.84943008, 0.94083736 - 0.90795637),
    }.items():
        found = as_printed(PUBLISHED["two modalities"], monkeypatch, readers=design[0], cases=design[1])
        for mean, half in zip(found.means, halves):
            ends = [math.log(x / (1 - x)) for x in (mean.low, mean.high)]  # ours is on the logit scale
            assert (ends[1] - ends[0]) / 2 * mean.value * (1 - mean.value) == pytest.approx(half, abs=3e-8)


def test_components_are_as_published():
    """Chakraborty as above: mean squares of readers, modalities and their interaction, Var and Cov1 … Cov3."""
    squares = {
        "two modalities": (0.00479617053, 0.00383619999, 0.00055103062),
        "five modalities": (0.00189695737, 0.00729417750, 0.00046220687),
    }
    for example, printed in PUBLISHED.items():
        c = variance_components(np.array(printed.areas), printed.errors())
        assert (c.modality, c.reader, c.interaction) == pytest.approx(squares[example], rel=1e-6)
        shared = (np.mean(printed.variance), printed.same_reader, np.mean(printed.same_modality), printed.neither)
        assert (c.variance, c.same_reader, c.same_modality, c.neither) == pytest.approx(shared, rel=1e-12)


def test_modalities_have_their_names():
    truth, scores, _ = draw()
    found = compare_modalities(truth, scores, names=("spin echo", "cine"))
    assert found.differences[0].difference.of == "spin echo − cine"
    assert [e.of for e in found.each[0]] == ["spin echo", "cine"]


def exactly(value):
    """The bar of the specification: 10⁻¹⁰."""
    return pytest.approx(value, rel=1e-10, abs=1e-10)


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
    assert found.statistic == exactly(ms_t / below)
    assert found.freedom == exactly((t - 1, freedom))
    assert found.p == exactly(stats.f.sf(ms_t / below, t - 1, freedom))
    gap, error = table[:, 0].mean() - table[:, 2].mean(), math.sqrt(2 / r * below)
    assert found.differences[1].difference.value == exactly(gap)
    assert found.differences[1].error == exactly(error)
    half = stats.t.ppf(0.975, freedom) * error
    assert found.differences[1].difference.high == exactly(gap + half)
    fixed = compare_modalities(truth, scores, patients, cases="fixed")
    assert fixed.statistic == exactly(ms_t / ms_tr)


def test_a_model_against_readers_on_these_cases_is_a_t_test():
    truth, scores, _ = draw(modalities=1, count=6)
    others, model = scores[:, :, 0], scores[:, 0, 0] + truth
    found = compare_with_readers(truth, model, others, cases="fixed")
    gaps = [slow_auc(truth, model) - slow_auc(truth, s) for s in others.T]
    expected = stats.ttest_1samp(gaps, 0)
    assert found.difference.statistic == exactly(expected.statistic)
    assert found.difference.p == exactly(expected.pvalue)
    assert found.freedom == 5
    assert found.model.value == exactly(slow_auc(truth, model))


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
    assert found.difference.difference.value == exactly(gaps.mean())
    assert found.difference.error == exactly(error)
    assert found.freedom == exactly(freedom)
    assert found.difference.p == exactly(2 * stats.t.sf(abs(gaps.mean()) / error, freedom))
    fixed = compare_with_readers(truth, table[:, 0], table[:, 1:], patients, readers="fixed")
    weights = np.array([1, *[-1 / 5] * 5])
    assert fixed.difference.error == exactly(math.sqrt(weights @ cov @ weights))


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
    assert against.difference.difference.undefined == against.mean.undefined == why.replace("12 of 12", "9 of 9")


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
    number = st.sampled_from([0.0, 1.0, np.nan, np.inf] if merit != "auc" else [0.0, 0.5, 1.0, 2.0, np.nan, -np.inf])
    truth = data.draw(st.lists(st.booleans(), min_size=cases, max_size=cases))
    patients = data.draw(st.lists(st.integers(0, 3), min_size=cases, max_size=cases))
    clean = data.draw(st.booleans())
    size = cases * count * modalities
    flat = data.draw(st.lists(st.sampled_from([0.0, 1.0]) if clean else number, min_size=size, max_size=size))
    scores = np.reshape(flat, (cases, count, modalities))
    design = data.draw(st.sampled_from(DESIGNS))
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


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(("well", "ill", "count"), [(50, 50, 5), (100, 25, 4), (25, 25, 3)])
@pytest.mark.parametrize(("case", "reader"), [(0.3, 0.011), (0.1, 0.0553)])
def test_two_equal_modalities_are_told_apart_as_rarely_as_promised(well, ill, count, case, reader):
    repeats = 3000
    draws = (roe_metz(np.random.default_rng(s), well, ill, count, 1.5, case, reader) for s in range(repeats))
    rejected = np.mean([compare_modalities(*one).p < 0.05 for one in draws])
    assert 0.025 <= rejected <= 0.075


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


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(
    ("well", "ill", "count", "distance", "images"),
    [(50, 50, 5, 1.5, 1), (80, 20, 4, 2.6, 1), (60, 60, 10, 1.0, 1), (40, 40, 4, 1.5, 3)],
)
def test_model_minus_readers_and_the_readers_mean_are_covered(well, ill, count, distance, images):
    area, repeats, held = stats.norm.cdf(distance / math.sqrt(2 * 1.03)), 3000, np.zeros(2)
    for seed in range(repeats):
        truth, scores, patients = clinic(np.random.default_rng(seed), well, ill, count, distance, images)
        found = compare_with_readers(truth, scores[:, 0], scores[:, 1:], patients)
        gap = found.difference.difference
        held += (gap.low <= 0 <= gap.high, found.mean.low <= area <= found.mean.high)
    assert (held / repeats >= 0.925).all(), held / repeats
    assert (held / repeats <= 0.975).all(), held / repeats
