"""Agreement of readers against statsmodels, scikit-learn, published tables and slow restatements."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from statsmodels.stats import inter_rater

from overread.core.errors import ArgumentError
from overread.stats.agreement.pairs import cohen_kappa, intraclass_correlation, percent_agreement, specific_agreement
from overread.stats.agreement.panel import ceiling, fleiss_kappa, krippendorff_alpha
from overread.stats.proportions import wilson

NAN = math.nan

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units.
KRIPPENDORFF = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]).T  # fmt: skip
# Shrout & Fleiss 1979, Table 2: six targets, four judges.
SHROUT = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def panel(rng, patients, readers, prevalence, accuracy, images=1, share=0.0):
    """Readers right with one chance, else any other class; truth, luck and errors of a patient's images agree."""
    count, classes, patient = patients * images, len(prevalence), np.repeat(np.arange(patients), images)

    def alike(own, every):
        return np.where((rng.random(patients) < share)[patient], own[patient], every)

    truth = alike(rng.choice(classes, patients, p=prevalence), rng.choice(classes, count, p=prevalence))
    luck = np.array([alike(rng.random(patients), rng.random(count)) for _ in range(readers)]).T
    step = 1 + ((luck - accuracy) / (1 - accuracy) * (classes - 1)).astype(int)
    return np.where(luck < accuracy, truth[:, None], (truth[:, None] + step) % classes).astype(float), patient


def population(prevalence, accuracy):
    """Of the panel: the joint chances of two readers, kappa by weights, and the ordinal alpha."""
    classes = len(prevalence)
    errors = np.full((classes, classes), (1 - accuracy) / (classes - 1))
    np.fill_diagonal(errors, accuracy)
    joint = np.einsum("t,ti,tj->ij", prevalence, errors, errors)
    share = joint.sum(axis=0)
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
    middle = np.cumsum(share) - share / 2
    distances = {
        "none": apart > 0,
        "linear": apart,
        "quadratic": apart**2,
        "ordinal": np.subtract.outer(middle, middle) ** 2,
    }
    return joint, {k: 1 - (joint * d).sum() / (np.outer(share, share) * d).sum() for k, d in distances.items()}


def table_of(first, second, classes):
    return metrics.confusion_matrix(first, second, labels=range(classes))


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_and_its_error_are_those_of_statsmodels(weights):
    ratings, _ = panel(np.random.default_rng(0), 90, 2, (0.4, 0.3, 0.2, 0.1), 0.7)
    first, second = ratings.T.astype(int)
    found = cohen_kappa(first, second, weights=weights, method="plain")
    known = inter_rater.cohens_kappa(table_of(first, second, 4), wt=None if weights == "none" else weights)
    assert found.value == pytest.approx(known.kappa)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * math.sqrt(known.var_kappa), rel=1e-6)
    expected = metrics.cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
    assert found.value == pytest.approx(expected)


def test_clustered_kappa_of_copies_is_that_of_the_patients():
    ratings, _ = panel(np.random.default_rng(1), 60, 2, (0.5, 0.5), 0.85)
    once = cohen_kappa(*ratings.T)
    thrice = cohen_kappa(*np.repeat(ratings, 3, axis=0).T, np.repeat(np.arange(60), 3))
    assert thrice.value == pytest.approx(once.value)
    assert thrice.low == pytest.approx(once.low, abs=0.01)
    assert thrice.high == pytest.approx(once.high, abs=0.01)
    assert (thrice.images, thrice.patients) == (180, 60)


def test_readers_who_never_disagree_keep_a_width():
    truth = np.arange(40) % 2
    found = cohen_kappa(truth, truth)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx((wilson(1.0, 40, 1.959964)[0] - 0.5) / 0.5)
    assert cohen_kappa(truth, 1 - truth).value == -1


@pytest.mark.parametrize("readers", [2, 5])
def test_percent_agreement_is_that_of_all_pairs(readers):
    ratings, _ = panel(np.random.default_rng(2), 50, readers, (0.5, 0.3, 0.2), 0.7)
    pairs = [ratings[:, a] == ratings[:, b] for a, b in combinations(range(readers), 2)]
    found = percent_agreement(ratings, resamples=100)
    assert found.value == pytest.approx(np.mean(pairs))
    if readers == 2:
        assert found.low == pytest.approx(wilson(found.value, 50, 1.959964)[0], abs=1e-6)


def test_specific_agreement_of_two_readers_is_the_f1_of_one_against_the_other():
    ratings, _ = panel(np.random.default_rng(3), 80, 2, (0.5, 0.3, 0.2), 0.7)
    found = specific_agreement(ratings, classes=4, resamples=100)
    assert [e.value for e in found[:3]] == pytest.approx(metrics.f1_score(*ratings.T, average=None))
    assert found[3].undefined == "nobody gave class 3"
    assert [e.of for e in found] == ["0", "1", "2", "3"]


def test_specific_agreement_of_a_panel_is_that_of_all_ordered_pairs():
    ratings = np.array([[0, 0, 1], [1, 1, 1], [0, NAN, 0], [0, 1, NAN]])
    hits, asked = np.zeros(2), np.zeros(2)
    for row in ratings:
        for a, b in permutations(row[~np.isnan(row)], 2):
            asked[int(a)] += 1
            hits[int(a)] += a == b
    assert [e.value for e in specific_agreement(ratings, resamples=20)] == pytest.approx(hits / asked)


def test_fleiss_kappa_is_as_published_and_that_of_statsmodels():
    """Wikipedia, "Fleiss' kappa" (after Fleiss 1971): fourteen raters, ten subjects, five categories: .210."""
    table = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
             [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip
    ratings = [np.repeat(np.arange(5), row) for row in table]
    found = fleiss_kappa(ratings)
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.value == pytest.approx(inter_rater.fleiss_kappa(np.array(table)))
    assert found.low < found.value < found.high


@pytest.mark.parametrize(("scale", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_as_published(scale, value):
    """Krippendorff 2011, sections C and E."""
    found = krippendorff_alpha(KRIPPENDORFF, scale=scale, resamples=100)
    assert found.value == pytest.approx(value, abs=5e-4)
    assert found.images == 11  # the twelfth unit has one answer
    assert "1 cases with fewer than two answers left out" in found.method


def slow_alpha(ratings, scale):
    """Pair by pair: differences within cases over differences between any two answers."""
    rows = [row[~np.isnan(row)] for row in ratings]
    rows = [row for row in rows if len(row) > 1]
    every = np.concatenate(rows)
    counts = {v: (every == v).sum() for v in every}

    def apart(a, b):
        if scale == "ordinal":
            low, high = min(a, b), max(a, b)
            between = sum(n for v, n in counts.items() if low <= v <= high)
            return (between - (counts[a] + counts[b]) / 2) ** 2 if a != b else 0.0
        return float(a != b) if scale == "nominal" else (a - b) ** 2

    within = sum(apart(a, b) / (len(row) - 1) for row in rows for a, b in permutations(row, 2)) / len(every)
    between = sum(apart(a, b) for a, b in permutations(every, 2)) / (len(every) * (len(every) - 1))
    return 1 - within / between


@pytest.mark.parametrize("scale", ["nominal", pytest.param("ordinal", marks=pytest.mark.slow), "interval"])
def test_alpha_and_its_bootstrap_are_those_of_the_definition(scale):
    rng = np.random.default_rng(4)
    ratings, patients = panel(rng, 15, 3, (0.4, 0.3, 0.2, 0.1), 0.7, images=2, share=0.5)
    ratings[rng.random(ratings.shape) < 0.2] = NAN
    ratings *= 1.5
    found = krippendorff_alpha(ratings, patients, scale=scale)
    assert found.value == pytest.approx(slow_alpha(ratings, scale))
    rows = [np.flatnonzero(patients == p) for p in range(15)]
    values = [
        slow_alpha(ratings[np.concatenate([rows[p] for p in rng.integers(0, 15, 15)])], scale) for _ in range(300)
    ]
    spread = np.std(np.log(1 - np.array(values)))
    wide = stats.t.ppf(0.975, 14)
    assert math.log((1 - found.low) / (1 - found.high)) / 2 / wide == pytest.approx(spread, rel=0.15)


def test_intraclass_correlations_do_not_depend_on_the_unit():
    found, shifted = intraclass_correlation(SHROUT), intraclass_correlation(1e6 * SHROUT + 1e9)
    assert (shifted.value, shifted.low) == pytest.approx((found.value, found.low), abs=1e-6)


def test_the_interval_of_agreement_is_that_of_drawn_pivots():
    """Mean squares of Table 3 of Shrout & Fleiss 1979, each over a random χ² / freedom."""
    n, k, rng = 6, 4, np.random.default_rng(0)
    between, judge, error = 11.2417, 32.4861, 1.0194
    draws = [m / (rng.chisquare(f, 400_000) / f) for m, f in ((between, n - 1), (judge, k - 1), (error, 15))]
    b, j, e = draws
    low, high = np.quantile((b - e) / (b + (k - 1) * e + k * (j - e) / n), (0.025, 0.975))
    found = intraclass_correlation(SHROUT)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.003)


def test_clustered_intraclass_correlation_is_wider_and_drops_missing():
    rng = np.random.default_rng(5)
    cases = np.repeat(rng.normal(size=40), 3)
    ratings = cases[:, None] + 0.5 * rng.normal(size=(120, 3))
    ratings[7, 1] = NAN
    alone = intraclass_correlation(ratings, kind="consistency")
    together = intraclass_correlation(ratings, np.repeat(np.arange(40), 3), kind="consistency")
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 1.2 * (alone.high - alone.low)
    assert (together.images, together.patients) == (119, 40)


def test_no_classifier_passes_the_ceiling():
    """Cases of unequal hardness: the best classifier, who knows every reader's chances, stays below the bound."""
    rng = np.random.default_rng(6)
    for classes in (2, 3, 6):
        chances = rng.dirichlet(np.full(classes, 0.4), 40_000)
        ladder = chances.cumsum(axis=1)[:, None, :]
        draws = (rng.random((40_000, 5, 1)) > ladder).sum(axis=2)
        reached = (chances.argmax(axis=1)[:, None] == draws).mean()
        found = ceiling(draws, classes=classes, resamples=20)
        assert found.agreement.value < found.panel.value < reached < found.best.value
        three = ceiling(draws[:, :3], classes=classes, resamples=20)  # two others: a vote that is always tied
        assert three.panel.value == pytest.approx(three.agreement.value)


def test_the_ceiling_is_reached_where_all_cases_are_equally_hard():
    for prevalence in ((0.5, 0.5), (0.4, 0.3, 0.2, 0.1)):
        ratings, _ = panel(np.random.default_rng(7), 40_000, 3, prevalence, 0.85)
        found = ceiling(ratings, resamples=50)
        assert found.best.value == pytest.approx(0.85, abs=0.005)
        assert found.best.low < 0.85 < found.best.high
    two = ceiling(ratings[:, :2], resamples=50)
    assert two.panel.undefined == "no case with three answers"


def test_the_panel_against_one_reader_is_a_vote_of_the_others():
    ratings, _ = panel(np.random.default_rng(8), 60, 4, (0.5, 0.3, 0.2), 0.7)
    credit = []
    for row in ratings.astype(int):
        for r, answer in enumerate(row):
            votes = np.bincount(np.delete(row, r), minlength=3)
            winners = np.flatnonzero(votes == votes.max())
            credit.append((answer in winners) / len(winners))
    assert ceiling(ratings, resamples=20).panel.value == pytest.approx(np.mean(credit))


def every_estimate(ratings, patients):
    """Each number of this module, for one table."""
    whole = np.where(np.isin(ratings, [0, 1, 2]) | ~np.isfinite(ratings), ratings, 0.0)
    top = ceiling(whole, patients, resamples=20)
    found = [percent_agreement(whole, patients, resamples=20), fleiss_kappa(whole, patients, resamples=20)]
    found += [top.agreement, top.best, top.panel, *specific_agreement(whole, patients, resamples=20)]
    found += [intraclass_correlation(ratings, patients, kind=k, resamples=20) for k in ("agreement", "consistency")]
    found += [krippendorff_alpha(ratings, patients, scale=s, resamples=20) for s in ("nominal", "ordinal", "interval")]
    if ratings.shape[1] > 1:
        for method in ("wilson", "plain"):
            found += [cohen_kappa(*whole.T[:2], patients, weights=w, method=method) for w in ("none", "quadratic")]
    return found


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_table_has_an_answer(data):
    cases, readers = data.draw(st.integers(0, 7)), data.draw(st.integers(1, 4))
    values = data.draw(
        st.sampled_from([[0.0, 1.0, 2.0], [0.0, 1.0, NAN], [1.0], [0.0, 2.0, NAN, math.inf], [0.5, 1.0]])
    )
    flat = data.draw(st.lists(st.sampled_from(values), min_size=cases * readers, max_size=cases * readers))
    patients = data.draw(st.lists(st.integers(0, 3), min_size=cases, max_size=cases))
    ratings = np.array(flat, float).reshape(cases, readers)
    for one in (patients, None):
        for e in every_estimate(ratings, one):
            assert math.isnan(e.value) == bool(e.undefined), e
            if not e.undefined and math.isnan(e.low):
                assert "no interval" in e.method
            elif not e.undefined:
                assert e.low <= e.value + 1e-9, e
                assert e.value - 1e-9 <= e.high <= 1 + 1e-9, e


@pytest.mark.parametrize(
    ("ratings", "why"),
    [
        (np.zeros((0, 2)), "no case with two answers"),
        ([[0, NAN], [NAN, 1]], "no case with two answers"),
        ([[0, math.inf]], "1 of 2 ratings are not finite"),
    ],
)
def test_undefined_says_why(ratings, why):
    for found in (
        percent_agreement(ratings),
        fleiss_kappa(ratings),
        krippendorff_alpha(ratings),
        ceiling(ratings).best,
    ):
        assert found.undefined == why
    assert cohen_kappa(*np.transpose(ratings)).undefined == why


def test_constant_answers_and_single_readers_say_why():
    assert cohen_kappa([1, 1], [1, 1]).undefined == "both readers give one class only"
    assert fleiss_kappa([[1, 1]] * 3).undefined == "all answers are alike"
    assert krippendorff_alpha([[1, 1]] * 3, scale="interval").undefined == "all answers are alike"
    assert intraclass_correlation([[1.0], [2.0]]).undefined == "one reader"
    assert intraclass_correlation([[1, 1], [1, 1]]).undefined == "all answers are alike"
    assert intraclass_correlation([[1.0, 2.0]]).undefined.startswith("fewer than two cases")
    assert "never differ" in intraclass_correlation([[1, 1], [2, 2]]).method
    assert "one patient" in cohen_kappa([0, 1, 1], [0, 1, 0], ["a"] * 3).method


def test_bad_arguments_are_refused():
    for call in (
        lambda: cohen_kappa([0, 1], [0]),
        lambda: cohen_kappa([0.5, 1], [0, 1]),
        lambda: cohen_kappa([-1, 1], [0, 1]),
        lambda: cohen_kappa([0, 2], [0, 1], classes=2),
        lambda: cohen_kappa([0, 1], [0, 1], weights="cubic"),
        lambda: cohen_kappa([0, 500], [0, 1]),
        lambda: percent_agreement([0, 1]),
        lambda: fleiss_kappa([["a", "b"]]),
        lambda: krippendorff_alpha(np.random.default_rng(0).normal(size=(300, 2)), scale="ordinal"),
        lambda: specific_agreement([[0, 2]], classes=2),
        lambda: ceiling([[0, 2]], classes=2),
        lambda: intraclass_correlation([[0, 1]], level=1.0),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.slow
def test_a_million_cases():
    ratings, _ = panel(np.random.default_rng(0), 1_000_000, 2, (0.7, 0.3), 0.9)
    assert cohen_kappa(*ratings.T).images == 1_000_000
    assert intraclass_correlation(ratings).high <= 1


def assert_covered(draw, known, repeats, low, high):
    held = np.zeros(len(known))
    for seed in range(repeats):
        found = draw(np.random.default_rng(seed))
        held += [e.low <= truth <= e.high for e, truth in zip(found, known)]
    assert (low <= held / repeats).all(), held / repeats
    assert (held / repeats <= high).all(), held / repeats


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "images", "prevalence", "accuracy"),
    [
        (60, 1, (0.5, 0.5), 0.9),
        (60, 1, (0.9, 0.1), 0.95),
        (150, 1, (0.25, 0.25, 0.25, 0.25), 0.95),
        (60, 1, (0.4, 0.3, 0.2, 0.1), 0.8),
        (30, 1, (0.5, 0.5), 0.9),
        (40, 4, (0.4, 0.3, 0.2, 0.1), 0.8),
    ],
)
def test_kappas_are_covered(patients, images, prevalence, accuracy):
    _, known = population(np.array(prevalence), accuracy)
    kinds = ("none", "linear", "quadratic")

    def draw(rng):
        ratings, patient = panel(rng, patients, 2, prevalence, accuracy, images, 0.5 if images > 1 else 0.0)
        return [cohen_kappa(*ratings.T, patient, weights=w) for w in kinds]

    assert_covered(draw, [known[k] for k in kinds], 6000, 0.925, 0.975)


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "images", "prevalence", "accuracy"),
    [(60, 1, (0.5, 0.5), 0.9), (100, 1, (0.4, 0.3, 0.2, 0.1), 0.8), (40, 4, (0.4, 0.3, 0.2, 0.1), 0.8)],
)
def test_panels_are_covered(patients, images, prevalence, accuracy):
    joint, known = population(np.array(prevalence), accuracy)
    agreed, specific = np.trace(joint), joint[0, 0] / joint[0].sum()
    truths = [known["none"], known["none"], known["ordinal"], known["quadratic"], agreed, accuracy, specific]

    def draw(rng):
        ratings, patient = panel(rng, patients, 4, prevalence, accuracy, images, 0.5 if images > 1 else 0.0)
        alphas = [
            krippendorff_alpha(ratings, patient, scale=s, resamples=300) for s in ("nominal", "ordinal", "interval")
        ]
        top = ceiling(ratings, patient, resamples=300)
        return [
            fleiss_kappa(ratings, patient, resamples=300), *alphas, top.agreement, top.best,
            specific_agreement(ratings, patient, resamples=300)[0],
        ]  # fmt: skip

    assert_covered(draw, truths, 2000, 0.925, 0.975)


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(("cases", "readers", "judge"), [(15, 3, 0.2), (40, 4, 0.2), (100, 3, 0.5), (30, 2, 0.05)])
def test_intraclass_correlations_are_covered(cases, readers, judge):
    """Few readers who differ much: the interval of Shrout & Fleiss 1979 covers 85 % (100 cases, 3 readers)."""

    def draw(rng):
        ratings = rng.normal(size=(cases, 1)) + math.sqrt(judge) * rng.normal(size=readers)
        ratings = ratings + math.sqrt(0.3) * rng.normal(size=(cases, readers))
        return [intraclass_correlation(ratings, kind=k) for k in ("agreement", "consistency")]

    truths = [1 / (1.3 + judge), 1 / 1.3]
    assert_covered(draw, truths, 2000, 0.925, 0.975)


@pytest.mark.simulation
@pytest.mark.slow
def test_clustered_intraclass_correlation_is_covered():
    def draw(rng):
        cases = math.sqrt(0.5) * (np.repeat(rng.normal(size=60), 3) + rng.normal(size=180))
        ratings = cases[:, None] + math.sqrt(0.3) * rng.normal(size=(180, 3))
        return [intraclass_correlation(ratings, np.repeat(np.arange(60), 3), kind="consistency", resamples=300)]

    assert_covered(draw, [1 / 1.3], 3000, 0.925, 0.975)
