"""The free-response curve and its areas against slow restatements, a known trap, and known populations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.froc import CAMELYON16, LUNA16, afroc_area, froc, froc_curve, froc_difference
from overread.stats.proportions import wilson

#: True positives .9 and .4, a false positive .5, two images: the lowest threshold finds the second lesion.
TRAP = ([0, 1], [0, 1, 1], [0.9, 0.4, 0.5], [0, 1, -1], 2)


def search(rng, patients, images=1, share=0.0, false=1.0, distance=2.0, digits=None):
    """Half of the patients have lesions, one or more an image; a lesion is marked nine times in ten."""
    count, patient = patients * images, np.repeat(np.arange(patients), images)
    lesions = np.where(np.repeat(rng.random(patients) < 0.5, images), 1 + rng.poisson(0.7, count), 0)
    where = np.repeat(np.arange(count), lesions)
    own = math.sqrt(share) * np.repeat(rng.normal(size=patients), images)[where]
    seen = rng.random(len(where)) < 0.9
    found = (distance + own + math.sqrt(1 - share) * rng.normal(size=len(where)))[seen]
    wrong = np.repeat(np.arange(count), rng.poisson(false, count))
    score = np.concatenate((found, rng.normal(size=len(wrong))))
    hit = np.concatenate((np.flatnonzero(seen), np.full(len(wrong), -1)))
    score = score if digits is None else np.round(score, digits)
    return where, np.concatenate((where[seen], wrong)), score, hit, count, patient


def slow_curve(lesion_image, mark_image, score, hit, images):
    """Threshold by threshold: which lesions have a mark at or above it, how many false marks are."""
    score, hit = np.asarray(score), np.asarray(hit)
    points = []
    for t in [math.inf, *sorted(set(score.tolist()), reverse=True)]:
        kept = score >= t
        points.append(
            ((kept & (hit < 0)).sum() / images, len(set(hit[kept & (hit >= 0)].tolist())) / len(lesion_image))
        )
    return np.array(points).T


def slow_height(false, true, rate):
    """The highest point on the polygon at ``rate``."""
    best = 0.0
    for (x0, y0), (x1, y1) in zip(zip(false, true), [*zip(false[1:], true[1:]), (math.inf, true[-1])]):
        if x0 <= rate:
            best = max(best, y0 if x1 in (x0, math.inf) or rate >= x1 else y0 + (y1 - y0) * (rate - x0) / (x1 - x0))
            best = max(best, y1) if x1 == x0 else best
    return best


def slow_area(lesion_image, mark_image, score, hit, images, weighted, all_images):
    """Chakraborty & Zhai 2016, equation for the empirical weighted AFROC: lesion by lesion, image by image."""
    marks = list(zip(mark_image, score, hit))
    worst = [max((s for i, s, h in marks if i == k and h < 0), default=-math.inf) for k in range(images)]
    clear = [k for k in range(images) if all_images or k not in set(lesion_image)]
    total = weight = 0.0
    for lesion, image in enumerate(lesion_image):
        best = max((s for _, s, h in marks if h == lesion), default=-math.inf)
        w = 1 / list(lesion_image).count(image) if weighted else 1.0
        total += w * np.mean([(best > worst[k]) + 0.5 * (best == worst[k]) for k in clear])
        weight += w
    return total / weight


def test_the_lowest_threshold_is_kept_where_every_lesion_is_hit():
    """Two public scripts for CAMELYON16 drop it and give .50."""
    found = froc(*TRAP)
    assert found[0].value == pytest.approx(0.91666667)
    assert [e.value for e in found[1:]] == [0.5, 1, 1, 1, 1, 1]
    assert found[1].metric == "sensitivity at 0.25 false positives per image"
    assert froc(*TRAP, rates=LUNA16)[0].value == pytest.approx(6 / 7)


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_curve_is_that_of_the_definition(digits):
    *marks, _ = search(np.random.default_rng(0), 40, digits=digits)
    false, true, threshold = froc_curve(*marks)
    np.testing.assert_allclose((false, true), slow_curve(*marks))
    assert threshold[0] == math.inf
    assert (np.diff(threshold) < 0).all()


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_sensitivities_are_read_off_the_curve(digits):
    *marks, patients = search(np.random.default_rng(1), 30, images=2, false=3.0, digits=digits)
    curve = slow_curve(*marks)
    expected = [slow_height(*curve, rate) for rate in CAMELYON16]
    found = froc(*marks, patients, resamples=50)
    assert [e.value for e in found[1:]] == pytest.approx(expected)
    assert found[0].value == pytest.approx(np.mean(expected))
    assert (found[0].images, found[0].patients) == (60, 30)


def test_several_marks_on_a_lesion_count_once_with_the_highest():
    one = froc_curve([0], [0, 1], [0.8, 0.5], [0, -1], 2)
    several = froc_curve([0], [0, 0, 1, 0], [0.3, 0.8, 0.5, 0.6], [0, 0, -1, 0], 2)
    for a, b in zip(one, several):
        np.testing.assert_array_equal(a, b)


def test_images_without_lesions_or_marks_count():
    marks = [0], [0, 0], [0.9, 0.5], [0, -1]
    assert froc_curve(*marks, 1)[0].tolist() == [0, 0, 1]
    assert froc_curve(*marks, 4)[0].tolist() == [0, 0, 0.25]
    silent = froc([0, 1], [], [], [], 3)
    assert (silent[0].value, silent[0].low) == (0, 0)
    assert 0 < silent[0].high < 1
    assert afroc_area([0, 1], [], [], [], 3).value == 0.5


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("all_images", [True, False])
@pytest.mark.parametrize("digits", [None, 0])
def test_area_is_that_of_the_definition(weighted, all_images, digits):
    *marks, patients = search(np.random.default_rng(2), 25, images=2, digits=digits)
    found = afroc_area(*marks, patients, weighted=weighted, all_images=all_images, resamples=50)
    assert found.value == pytest.approx(slow_area(*marks, weighted, all_images))


def test_area_with_one_lesion_and_one_mark_an_image_is_that_under_the_roc_curve():
    rng = np.random.default_rng(3)
    truth, score = np.arange(80) < 30, np.round(rng.normal(size=80) + (np.arange(80) < 30), 1)
    hit = np.where(truth, np.arange(80), -1)
    found = afroc_area(np.arange(30), np.arange(80), score, hit, 80)
    assert found.value == pytest.approx(metrics.roc_auc_score(truth, score))


def slow_bootstrap(marks, patients, statistic, resamples, rng):
    """Patients drawn, their images, lesions and marks copied, and the statistic computed anew."""
    lesion_image, mark_image, score, hit = (np.asarray(part) for part in marks[:4])
    values = []
    for _ in range(resamples):
        lesions, places, scores, hits, at = [], [], [], [], 0
        for p in rng.integers(0, patients.max() + 1, patients.max() + 1):
            for image in np.flatnonzero(patients == p):
                mine = np.flatnonzero(lesion_image == image)
                number = {-1: -1, **{old: len(lesions) + k for k, old in enumerate(mine)}}
                lesions += [at] * len(mine)
                rows = np.flatnonzero(mark_image == image)
                places += [at] * len(rows)
                scores += score[rows].tolist()
                hits += [number[h] for h in hit[rows]]
                at += 1
        values.append(statistic(lesions, places, scores, hits, at))
    return np.std(values, ddof=1)


def test_intervals_are_those_of_a_slow_bootstrap():
    *marks, patients = search(np.random.default_rng(5), 40, images=2, share=0.5)
    logit = lambda p: np.log(p / (1 - p))
    sensitivity = lambda *m: logit(slow_height(*froc_curve(*m)[:2], 0.5))
    area = lambda *m: logit(slow_area(*m, True, False))
    for found, statistic in ((froc(*marks, patients)[2], sensitivity), (afroc_area(*marks, patients), area)):
        spread = slow_bootstrap(marks, patients, statistic, 200, np.random.default_rng(0))
        assert (logit(found.high) - logit(found.low)) / 2 / 1.96 == pytest.approx(spread, rel=0.15)


def test_nothing_missed_keeps_a_width():
    found = froc(np.arange(20), np.arange(20), np.ones(20), np.arange(20), 40)
    assert found[0].value == 1
    assert (found[0].low, found[0].high) == pytest.approx(wilson(1.0, 20, 1.959964))
    assert afroc_area(np.arange(20), np.arange(20), np.ones(20), np.arange(20), 40).low < 0.9


@pytest.mark.parametrize(
    ("marks", "why", "area"),
    [
        (([], [0], [0.5], [-1], 2), "0 lesions", "0 lesions"),
        (([], [], [], [], 0), "no images", "no images"),
        (([0], [0], [math.nan], [0], 2), "1 of 1 scores are not finite", "1 of 1 scores are not finite"),
        (([0], [0], [-math.inf], [-1], 2), "1 of 1 scores are not finite", "1 of 1 scores are not finite"),
        (([0], [0], [0.5], [0], 1), "", "0 images without lesions"),
    ],
)
def test_undefined_says_why(marks, why, area):
    assert {e.undefined for e in froc(*marks)} == {why}
    assert afroc_area(*marks).undefined == area
    assert (len(froc_curve(*marks)[0]) == 0) == bool(why)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_search_has_an_answer(data):
    images, lesions, marks = (data.draw(st.integers(a, b)) for a, b in ((1, 5), (0, 5), (0, 8)))
    many = lambda kind, size: data.draw(st.lists(kind, min_size=size, max_size=size))
    where, hit = many(st.integers(0, images - 1), lesions), many(st.integers(-1, lesions - 1), marks)
    free = many(st.integers(0, images - 1), marks)
    place = [where[h] if h >= 0 else image for h, image in zip(hit, free)]
    score = many(st.sampled_from([0.0, 0.5, 1.0] + data.draw(st.sampled_from([[], [math.nan, math.inf]]))), marks)
    patients = many(st.integers(0, 2), images)
    given = where, place, score, hit, images
    found = [*froc(*given, patients, resamples=30), afroc_area(*given, patients, resamples=30)]
    found.append(afroc_area(*given, patients, resamples=30, weighted=False, all_images=True))
    for e in found:
        assert math.isnan(e.value) == bool(e.undefined)
        if not e.undefined and math.isnan(e.low):
            assert "no interval" in e.method
        elif not e.undefined:
            assert 0 <= e.low <= e.value + 1e-12
            assert e.value - 1e-12 <= e.high <= 1
    if not found[0].undefined:
        curve = slow_curve(*given)
        assert found[1].value == pytest.approx(slow_height(*curve, 0.25))
        assert found[-1].value == pytest.approx(slow_area(*given, False, True))


def test_bad_arguments_are_refused():
    for call in (
        lambda: froc([2], [0], [0.5], [0], 2),
        lambda: froc([0], [1], [0.5], [0], 2),
        lambda: froc([0], [0], [0.5], [1], 2),
        lambda: froc([0], [0], [0.5, 0.6], [0], 2),
        lambda: froc([0.5], [0], [0.5], [0], 2),
        lambda: froc(*TRAP, rates=()),
        lambda: froc(*TRAP, rates=(0.0,)),
        lambda: froc(*TRAP, ["a"]),
        lambda: froc_curve([0], [0], [0.5], [0], -1),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(("patients", "images", "share"), [(100, 1, 0.0), (60, 3, 0.5), (40, 1, 0.0)])
@pytest.mark.parametrize(("false", "distance"), [(1.0, 2.0), (3.0, 1.5)])
def test_sensitivity_and_area_are_covered(patients, images, share, false, distance):
    *big, _ = search(np.random.default_rng(99), 200_000, false=false, distance=distance)
    known = [froc(*big, rates=(0.25, 1.0), resamples=2)[k].value for k in range(3)]
    known.append(afroc_area(*big, resamples=2).value)
    repeats, held = 2000, np.zeros(4)
    for seed in range(repeats):
        one = search(np.random.default_rng(seed), patients, images, share, false, distance)
        found = [*froc(*one, rates=(0.25, 1.0), resamples=300), afroc_area(*one, resamples=300)]
        held += [e.low <= truth <= e.high for e, truth in zip(found, known)]
    # twenty patients with lesions: the interval errs on the wide side
    high = 0.995 if patients == 40 else 0.975
    assert (held / repeats >= 0.925).all(), held / repeats
    assert (held / repeats <= high).all(), held / repeats


def two_searches(rng, patients, *, apart=0.0, shared=0.8, images=1):
    """Two readers of the same lesions, who find what is easy alike; the second sees less by ``apart``."""
    count, patient = patients * images, np.repeat(np.arange(patients), images)
    lesions = np.where(np.repeat(rng.random(patients) < 0.6, images), 1 + rng.poisson(0.7, count), 0)
    where = np.repeat(np.arange(count), lesions)
    easy = rng.normal(size=len(where))
    sides = []
    for distance in (2.0, 2.0 - apart):
        score = distance + math.sqrt(shared) * easy + math.sqrt(1 - shared) * rng.normal(size=len(where))
        seen = rng.random(len(where)) < 0.9
        wrong = np.repeat(np.arange(count), rng.poisson(1.5, count))
        sides.append((np.concatenate((where[seen], wrong)), np.concatenate((score[seen], rng.normal(size=len(wrong)))),
                      np.concatenate((np.flatnonzero(seen), np.full(len(wrong), -1)))))  # fmt: skip
    return where, sides[0], sides[1], count, patient


def test_a_difference_is_that_of_a_slow_paired_bootstrap():
    rng = np.random.default_rng(3)
    where, first, second, images, patient = two_searches(rng, 40, apart=0.5)
    found = froc_difference(where, first, second, images, patient)
    alone = [froc(where, *marks, images, patient)[0] for marks in (first, second)]
    assert found[0].difference.value == pytest.approx(alone[0].value - alone[1].value)
    values = []
    for _ in range(300):
        drawn = np.random.default_rng(rng.integers(2**32)).integers(0, images, images)
        sides = []
        for place, score, hit in (first, second):
            lesions, places, scores, hits = [], [], [], []
            for at, image in enumerate(drawn):
                mine = np.flatnonzero(where == image)
                number = {-1: -1, **{old: len(lesions) + k for k, old in enumerate(mine)}}
                lesions += [at] * len(mine)
                rows = np.flatnonzero(place == image)
                places, scores = places + [at] * len(rows), scores + score[rows].tolist()
                hits += [number[h] for h in hit[rows]]
            curve = froc_curve(lesions, places, scores, hits, images)
            sides.append(np.mean([slow_height(*curve[:2], rate) for rate in CAMELYON16]))
        values.append(sides[0] - sides[1])
    d = found[0].difference
    assert (d.high - d.low) / 2 / 1.96 == pytest.approx(np.std(values, ddof=1), rel=0.15)
    unpaired = math.hypot(*((e.high - e.low) / 2 for e in alone))
    assert (d.high - d.low) / 2 < 0.85 * unpaired  # what is hard for both cancels


def test_equal_readers_do_not_differ_and_an_undefined_one_is_said():
    where, first, _, images, patient = two_searches(np.random.default_rng(0), 20)
    same = froc_difference(where, first, first, images, patient)
    assert all(d.difference.value == 0 for d in same)
    broken = first[0], np.full(len(first[1]), math.nan), first[2]
    lost = froc_difference(where, first, broken, images, patient)
    assert "scores are not finite" in lost[0].second.undefined
    assert lost[0].difference.undefined
    assert math.isnan(lost[0].p)
    assert {d.difference.undefined for d in froc_difference([], ([], [], []), ([], [], []), 3)} == {"0 lesions"}


@pytest.mark.simulation
@pytest.mark.parametrize("patients", [pytest.param(40), pytest.param(120, marks=pytest.mark.slow)])
def test_the_interval_of_a_difference_covers(patients):
    """Truth: the mean over many large cohorts, of readers whose marks are as alike as two networks' are."""
    truth = np.mean([
        _mean_sensitivities(two_searches(np.random.default_rng([9, k]), 4000, apart=0.6)) for k in range(4)
    ])  # fmt: skip
    runs = 100 if patients == 40 else 800
    inside = 0
    for k in range(runs):
        where, first, second, images, patient = two_searches(np.random.default_rng([1, k]), patients, apart=0.6)
        d = froc_difference(where, first, second, images, patient, resamples=200, seed=k)[0].difference
        inside += d.low <= truth <= d.high
    low, high = (0.88, 1.0) if patients == 40 else (0.93, 0.985)
    assert low <= inside / runs <= high


def _mean_sensitivities(searched):
    where, first, second, images, _ = searched
    heights = []
    for marks in (first, second):
        false, true, _ = froc_curve(where, *marks, images)
        heights.append(np.mean([true[false <= rate].max() for rate in CAMELYON16]))
    return heights[0] - heights[1]
