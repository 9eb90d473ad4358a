"""Precision among the first k against a slow restatement and scikit-learn, its intervals by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from overread.retrieval.choice import choose
from overread.retrieval.embed import FEATURES, layers_of
from overread.retrieval.neighbours import nearest
from overread.retrieval.novelty import limit_of
from overread.retrieval.precision import macro, precision
from overread.retrieval.projection import MOST, project
from overread.tasks.target import Target

CLASSES = Target("classes", ("a", "b", "c"), ()).task
FINDINGS = Target("findings", ("x", "y"), ()).task
QUANTITY = Target("quantity", ("age",), ()).task


def drawn(seed: int = 0):
    rng = np.random.default_rng(seed)
    held, asked = rng.integers(-1, 3, 90), rng.integers(0, 3, 40)
    rows, _ = nearest((rng.normal(0, 1, (40, 3)) + asked[:, None]).astype(np.float32),
                      (rng.normal(0, 1, (90, 3)) + held[:, None]).astype(np.float32), 10)  # fmt: skip
    return rows, asked, held, [f"p{i // 2}" for i in range(40)]


def test_against_a_slow_restatement() -> None:
    rows, asked, held, patients = drawn()
    rows[3, 4:] = -1  # few neighbours
    found = {(e.metric, e.of): e for e in precision(rows, asked, held, patients, CLASSES, resamples=50)}
    for k in (1, 5, 10):
        means = []
        for code, name in enumerate("abc"):
            shares = []
            for q in np.flatnonzero(asked == code):
                known = [held[i] for i in rows[q, :k] if i >= 0 and held[i] >= 0]
                shares += [np.mean([label == code for label in known])] if known else []
            assert found[f"precision@{k}", name].value == pytest.approx(np.mean(shares))
            means.append(np.mean(shares))
        assert found[f"macro precision@{k}", ""].value == pytest.approx(np.mean(means))
        if k == 5:
            assert macro(rows, asked, held, CLASSES) == pytest.approx(np.mean(means))
    assert found["prevalence", "b"].value == pytest.approx((held == 1).sum() / (held >= 0).sum())
    assert found["shuffled macro precision@10", ""].value == pytest.approx(1 / 3, abs=0.1)


def test_against_scikit_learn() -> None:
    """All neighbours of all classes together are the accuracy of single votes."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 80)
    held = (rng.normal(0, 1, (80, 4)) + labels[:, None]).astype(np.float32)
    places = NearestNeighbors(n_neighbors=10).fit(held).kneighbors(held[:30] + 0.01, return_distance=False)
    rows, _ = nearest(held[:30] + np.float32(0.01), held, 10)
    found = precision(
        rows, labels[:30], labels, list(map(str, range(30))), Target("binary", ("n", "y"), ("y",)).task, resamples=20
    )
    one = next(e for e in found if (e.metric, e.of) == ("precision@5", "y"))
    assert one.value == pytest.approx(labels[places[labels[:30] == 1, :5]].mean())


def test_findings_and_quantities_have_their_own_question() -> None:
    rows = np.array([[0, 1], [1, 2]])
    held = np.array([[1, 0], [np.nan, 1], [0, 1]], float)
    found = {
        (e.metric, e.of): e.value
        for e in precision(rows, np.array([[1, 0], [1, 1.0]]), held, ["p", "q"], FINDINGS, ks=(2,), resamples=20)
    }
    assert found["precision@2", "x"] == pytest.approx((1 + 0) / 2)  # what is unknown does not count
    assert found["precision@2", "y"] == pytest.approx(1.0)
    off = {
        e.metric: e.value
        for e in precision(
            rows, np.array([10.0, 20]), np.array([10.0, 14, np.nan]), ["p", "q"], QUANTITY, ks=(2,), resamples=20
        )
    }
    assert off["neighbour error@2"] == pytest.approx((2 + 6) / 2)
    assert macro(rows, np.array([10.0, 20]), np.array([10.0, 14, np.nan]), QUANTITY, 2) == pytest.approx(-4)


@pytest.mark.slow
def test_intervals_hold_what_they_say() -> None:
    """300 studies of 60 patients with one to three cases, whose precision varies by patient: 95 % of the intervals hold."""
    held, hits = np.array([1] * 50 + [0] * 50), []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(60), rng.integers(1, 4, 60))
        chance = rng.beta(4, 2, 60)[patients]
        same = rng.random((len(patients), 5)) < chance[:, None]
        rows = np.where(same, rng.integers(0, 50, same.shape), rng.integers(50, 100, same.shape))
        found = precision(
            rows,
            np.ones(len(patients), int),
            held,
            list(map(str, patients)),
            Target("binary", ("n", "y"), ("y",)).task,
            ks=(5,),
            resamples=400,
        )
        one = next(e for e in found if (e.metric, e.of) == ("precision@5", "y"))
        hits.append(one.low <= 4 / 6 <= one.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_the_limit_counts_each_patient_once() -> None:
    far = np.r_[np.full(100, 9.0), np.arange(99) / 100][:, None]  # one patient with a hundred far images
    assert limit_of(far, ["many"] * 100 + [str(i) for i in range(99)]).distance < 1
    assert limit_of(np.array([[1.0], [2.0]]), ["a", "b"]).distance == 2.0  # too few: the largest
    assert np.isnan(limit_of(np.full((3, 2), np.inf), ["a", "b", "c"]).distance)


def test_layers_of_a_network(model, cohort) -> None:
    assert layers_of(model)[0] == FEATURES
    assert len(layers_of(model)) >= 3
    assert choose(model, cohort[0], None).layer == FEATURES


def test_a_map_is_the_same_twice_and_says_what_it_leaves_out() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3) * 20, 15, axis=0) + rng.normal(0, 1, (45, 3))
    one, other = (project(groups.astype(np.float32), seed=3) for _ in range(2))
    assert (one.neighbourhoods == other.neighbourhoods).all()
    assert (one.components == other.components).all()
    own = np.linalg.norm(one.neighbourhoods[:, None] - one.neighbourhoods[None], axis=2)
    np.fill_diagonal(own, np.inf)
    assert (own.argmin(axis=1) // 15 == np.arange(45) // 15).all()
    short = project(groups.astype(np.float32), seconds=0.01)
    assert np.isnan(short.neighbourhoods).all()
    assert "t-SNE" in short.why
    assert len(project(rng.normal(0, 1, (MOST + 10, 2)).astype(np.float32), seconds=0).rows) == MOST
