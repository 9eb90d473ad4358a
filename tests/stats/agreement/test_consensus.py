"""Consensus of readers: rules by hand, Dawid & Skene against their paper, a slow restatement and planted errors."""

import math
from collections import Counter
from statistics import median_high, median_low

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError
from overread.stats.agreement.consensus import dawid_skene, majority, median_label

# Dawid & Skene 1979, Table 1: five anaesthetists rate 45 patients from 1 to 4; the first did so three times, which
# are the first three digits.
ANAESTHETISTS = [
    "1111111",
    "3334334",
    "1122122",
    "2223121",
    "2223222",
    "2223322",
    "1222111",
    "3333433",
    "2222223",
    "2322223",
    "4444444",
    "2223343",
    "1111111",
    "2223212",
    "1211111",
    "1112111",
    "1111111",
    "1111111",
    "2222221",
    "2221322",
    "2222222",
    "2222221",
    "2223222",
    "2212222",
    "1111111",
    "1111111",
    "2322222",
    "1111111",
    "1111111",
    "1121121",
    "1111111",
    "3333233",
    "1111111",
    "2222222",
    "2223232",
    "4334343",
    "2212232",
    "2323233",
    "3333432",
    "1111111",
    "1111111",
    "1212111",
    "2322222",
    "1211111",
    "2222222",
]


def anaesthetists():
    return np.array([[int(digit) - 1 for digit in row] for row in ANAESTHETISTS], float)


def slow_em(counts, rounds):
    """Dawid & Skene 1979, equations 2.3–2.5, in loops; ``counts`` (patients, observers, classes)."""
    patients, observers, classes = counts.shape
    belief = counts.sum(axis=1) / counts.sum(axis=(1, 2))[:, None]
    for _ in range(rounds):
        prevalence, confusion = belief.mean(axis=0), np.zeros((observers, classes, classes))
        for k in range(observers):
            for j in range(classes):
                row = [sum(belief[i, j] * counts[i, k, l] for i in range(patients)) for l in range(classes)]  # noqa: E741
                confusion[k, j] = np.array(row) / sum(row)
        for i in range(patients):
            chance = [prevalence[j] * np.prod(confusion[:, j] ** counts[i]) for j in range(classes)]
            belief[i] = np.array(chance) / sum(chance)
    return belief, prevalence, confusion


def test_the_anaesthetists_are_those_of_dawid_and_skene():
    found = dawid_skene(anaesthetists(), readers=[0, 0, 0, 1, 2, 3, 4], smoothing=0.0, tolerance=1e-13)
    assert found.converged
    assert found.doubt == ""
    np.testing.assert_allclose(found.prevalence, [0.40, 0.42, 0.11, 0.07], atol=0.005)  # Table 2 of the paper
    counts = np.zeros((45, 5, 4))
    for column, observer in enumerate([0, 0, 0, 1, 2, 3, 4]):
        np.add.at(counts, (np.arange(45), observer, anaesthetists()[:, column].astype(int)), 1)
    belief, prevalence, confusion = slow_em(counts, 200)
    np.testing.assert_allclose(found.prevalence, prevalence, atol=1e-6)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-5)
    np.testing.assert_allclose(found.posterior, belief, atol=1e-5)


def planted(rng, cases=4000, classes=3, missing=0.0):
    prevalence = np.array([0.5, 0.3, 0.2])[:classes]
    truth = rng.choice(classes, cases, p=prevalence / prevalence.sum())
    confusion = np.array([
        [[0.9, 0.08, 0.02], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]],
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]],
        [[0.95, 0.04, 0.01], [0.4, 0.55, 0.05], [0.1, 0.3, 0.6]],
        [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]],
        [[0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]],
    ])  # fmt: skip
    ratings = np.array([(rng.random((cases, 1)) > c[truth].cumsum(axis=1)).sum(axis=1) for c in confusion]).T
    return truth, np.where(rng.random(ratings.shape) < missing, np.nan, ratings), confusion


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_planted_confusions_are_recovered_and_beat_the_majority(missing):
    truth, ratings, confusion = planted(np.random.default_rng(0), 12_000, missing=missing)
    found = dawid_skene(ratings)
    assert found.converged
    np.testing.assert_allclose(found.confusion, confusion, atol=0.04)
    np.testing.assert_allclose(found.prevalence, [0.5, 0.3, 0.2], atol=0.03)
    voted = majority(ratings, ties="lowest").label
    assert (found.label == truth).mean() > (voted == truth).mean()
    surest = found.posterior.max(axis=1)
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.0)):  # a posterior of 80 % is right four times in five
        rows = (surest >= low) & (surest < high)
        assert (found.label == truth)[rows].mean() == pytest.approx(surest[rows].mean(), abs=0.05)


def test_order_of_cases_and_copies_of_rows_do_not_matter():
    _, ratings, _ = planted(np.random.default_rng(1), 200)
    order = np.random.default_rng(2).permutation(200)
    one, other = dawid_skene(ratings), dawid_skene(ratings[order])
    np.testing.assert_allclose(one.posterior[order], other.posterior, atol=1e-9)
    assert one.likelihood == pytest.approx(other.likelihood)
    assert one.posterior.sum(axis=1) == pytest.approx(np.ones(200))


def test_many_readers_fall_back_to_whole_rows():
    _, ratings, _ = planted(np.random.default_rng(1), 50)
    wide = np.tile(ratings, (1, 8))  # 40 columns: a row no longer fits in one number
    found = dawid_skene(wide, readers=np.tile(np.arange(5), 8))
    assert found.confusion.shape == (5, 3, 3)
    assert (found.label >= 0).all()


def test_doubts_are_said():
    assert "2 readers" in dawid_skene([[0, 1], [1, 1]]).doubt
    assert dawid_skene(np.zeros((0, 3))).doubt == "no cases"
    assert "rounds ended" in dawid_skene(planted(np.random.default_rng(0), 100)[1], rounds=2).doubt
    unread = dawid_skene([[0, 0, 0], [1, 1, 1], [np.nan] * 3])
    assert unread.label.tolist() == [0, 1, -1]


@pytest.mark.parametrize(("ties", "expected"), [("undecided", -1), ("lowest", 0), ("highest", 2)])
def test_a_tie_follows_the_declared_rule(ties, expected):
    found = majority([[0, 2, 2, 0], [1, 1, 0, 2], [np.nan] * 4], ties=ties)
    assert found.label.tolist() == [expected, 1, -1]
    assert found.tied.tolist() == [True, False, False]
    assert found.answers.tolist() == [4, 4, 0]
    assert found.share[1] == 0.5
    assert math.isnan(found.share[2])
    assert ties in found.rule


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0, 1, 2, None]), min_size=4, max_size=4), min_size=0, max_size=12))
def test_labels_are_those_of_the_definition_and_always_there(rows):
    table = np.array([[np.nan if x is None else x for x in row] for row in rows], float).reshape(-1, 4)
    low, high = (median_label(table, ties=ties).label.tolist() for ties in ("lowest", "highest"))
    voted = majority(table, ties="lowest").label.tolist()
    for row, a, b, vote in zip(rows, low, high, voted):
        known = [x for x in row if x is not None]
        counts = Counter(known)
        assert (a, b) == ((median_low(known), median_high(known)) if known else (-1, -1))
        assert vote == (min(k for k in counts if counts[k] == max(counts.values())) if known else -1)
    for smoothing in (0.0, 0.01):
        found = dawid_skene(table, classes=3, smoothing=smoothing, rounds=50)
        assert np.isfinite(found.posterior).all()
        assert np.isfinite(found.confusion).all()
        assert math.isfinite(found.likelihood)
        assert ((found.label >= 0) == [any(x is not None for x in row) for row in rows]).all()


@pytest.mark.slow
def test_a_million_cases():
    truth, ratings, confusion = planted(np.random.default_rng(0), 1_000_000)
    found = dawid_skene(ratings)
    np.testing.assert_allclose(found.confusion, confusion, atol=0.01)
    assert majority(ratings).label.shape == truth.shape


def test_bad_arguments_are_refused():
    for call in (
        lambda: majority([[0.5, 1]]),
        lambda: majority([[-1, 1]]),
        lambda: majority([[np.inf, 1]]),
        lambda: majority([0, 1]),
        lambda: majority([[0, 2]], classes=2),
        lambda: majority([[0, 1]], ties="coin"),
        lambda: median_label([["a", "b"]]),
        lambda: dawid_skene([[0, 1]], readers=[0]),
        lambda: dawid_skene([[0, 1]], readers=[0, -1]),
        lambda: dawid_skene([[0, 1]], smoothing=-1.0),
        lambda: dawid_skene([[0, 1]], rounds=0),
    ):
        with pytest.raises(ArgumentError):
            call()
