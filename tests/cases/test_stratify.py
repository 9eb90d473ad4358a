from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.cases.stratify import stratify


def names(count):
    return np.array([f"p{i}" for i in range(count)], object)


def one_hot(codes):
    codes = np.asarray(codes)
    return codes[:, None] == np.arange(codes.max() + 1)


@given(counts=st.lists(st.integers(3, 60), min_size=2, max_size=5), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_every_class_is_divided_to_within_one(counts, seed):
    codes = np.repeat(np.arange(len(counts)), counts)
    part = stratify(one_hot(codes), (0.7, 0.1, 0.2), names(len(codes)), seed=seed)
    for k, count in enumerate(counts):
        mine = np.bincount(part[codes == k], minlength=3)
        assert mine.min() >= 1
        if count >= 20:
            np.testing.assert_allclose(mine, np.array([0.7, 0.1, 0.2]) * count, atol=1.0)


@given(seed=st.integers(0, 30), data=st.data())
@settings(max_examples=40, deadline=None)
def test_several_findings_reach_every_part(seed, data):
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=30, max_size=80))
    labels = np.array(rows)
    part = stratify(labels, (0.6, 0.2, 0.2), names(len(labels)), seed=seed)
    for k in range(4):
        if labels[:, k].sum() >= 9:  # below, other findings of the same patients can stand in the way
            assert set(part[labels[:, k]]) == {0, 1, 2}


def test_sources_are_divided_alike():
    source = np.repeat([0, 1, 2], [100, 50, 10])
    part = stratify(one_hot(np.zeros(160, int)), (0.7, 0.1, 0.2), names(160), seed=3, source=source)
    for s, count in ((0, 100), (1, 50), (2, 10)):
        np.testing.assert_allclose(
            np.bincount(part[source == s], minlength=3), np.array([0.7, 0.1, 0.2]) * count, atol=1.01
        )


def test_the_order_of_the_groups_does_not_matter():
    rng = np.random.default_rng(0)
    codes, who = rng.integers(0, 3, 100), names(100)
    part = stratify(one_hot(codes), (0.7, 0.1, 0.2), who, seed=1)
    order = rng.permutation(100)
    np.testing.assert_array_equal(stratify(one_hot(codes)[order], (0.7, 0.1, 0.2), who[order], seed=1), part[order])


def test_the_seed_matters_also_for_a_rare_class():
    codes = np.repeat([0, 1], [40, 3])
    drawn = {tuple(stratify(one_hot(codes), (0.7, 0.1, 0.2), names(43), seed=s)[codes == 1]) for s in range(40)}
    assert len(drawn) > 3


@pytest.mark.parametrize(("count", "parts"), [(1, [0]), (2, [0, 2])])
def test_the_first_part_is_served_first(count, parts):
    codes = np.repeat([0, 1], [30, count])
    part = stratify(one_hot(codes), (0.7, 0.1, 0.2), names(30 + count), seed=0)
    assert sorted(part[codes == 1]) == parts
