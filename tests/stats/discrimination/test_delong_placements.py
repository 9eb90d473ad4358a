"""Placements against their definition: counted where scores repeat, sorted where they do not."""

import numpy as np
import pytest

from overread.stats.discrimination.delong import SAMPLE, placements


def by_definition(truth, score):
    ill, well = score[truth], score[~truth]
    below = (well < score[:, None]).mean(axis=1) + (well == score[:, None]).mean(axis=1) / 2
    above = (ill > score[:, None]).mean(axis=1) + (ill == score[:, None]).mean(axis=1) / 2
    return np.where(truth, below, above)


@pytest.mark.parametrize("digits", [0, 1, 2, 3, 15])
@pytest.mark.parametrize("count", [9, 2 * SAMPLE, 2500])
def test_placements_are_what_they_are_defined_as(digits, count):
    rng = np.random.default_rng(digits)
    truth = np.arange(count) % 3 == 0
    score = np.round(rng.normal(size=count) + truth, digits)
    np.testing.assert_allclose(placements(truth, score), by_definition(truth, score), rtol=0, atol=1e-12)


def test_a_negative_zero_is_a_zero_and_numbers_that_differ_by_a_bit_are_two():
    rng = np.random.default_rng(0)
    truth = rng.random(1000) < 0.4
    score = rng.choice([0.0, -0.0, np.nextafter(0, 1), 1e300, -1e300, 1.0, np.nextafter(1, 2)], 1000)
    np.testing.assert_allclose(placements(truth, score), by_definition(truth, score), rtol=0, atol=1e-12)
    assert (placements(truth, np.zeros(1000)) == 0.5).all()


def test_many_different_scores_of_which_the_sample_sees_few():
    rng = np.random.default_rng(1)
    score = rng.normal(size=20 * SAMPLE)
    score[::20] = 0.5  # what is looked at
    truth = rng.random(len(score)) < 0.3
    np.testing.assert_allclose(placements(truth, score), by_definition(truth, score), rtol=0, atol=1e-12)
