"""Chance against a scalar restatement in Python's whole numbers, and against what random means."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from overread.core import random
from overread.core.errors import ArgumentError

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
FROZEN_BITS = 779326273904720072
FROZEN_ORDER = [5, 3, 2, 4, 1, 0]
FROZEN_NAME = 0.30951914900893696


def mix(z: int) -> int:
    """SplitMix64's finaliser as printed by Steele, Lea & Flood (2014), variant 13 of Stafford."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def bits(seed: int, epoch: int, sample: int, operation: str) -> int:
    key = mix((seed + GOLDEN) & MASK) ^ int.from_bytes(
        hashlib.blake2b(operation.encode(), digest_size=8).digest(), "little"
    )
    for coordinate in (epoch, sample):
        key = mix((key + GOLDEN * (coordinate + 1)) & MASK)
    return key


COUNT = st.integers(0, 2**62)


@given(COUNT, COUNT, COUNT, st.text(max_size=8))
def test_bits_equal_the_scalar_restatement(seed, epoch, sample, operation):
    assert int(random.bits(seed, epoch, sample, operation)) == bits(seed, epoch, sample, operation)


def test_the_finaliser_is_the_published_one():
    """First outputs of SplitMix64 seeded with 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")."""
    state, outputs = 1234567, []
    for _ in range(5):
        state = (state + GOLDEN) & MASK
        outputs.append(mix(state))
        assert int(random._mix(np.array([state], dtype=np.uint64))[0]) == outputs[-1]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_are_frozen():
    """A change of any of these changes every augmentation, split and resample of every study."""
    assert int(random.bits(7, 2, 5, "flip")) == bits(7, 2, 5, "flip") == FROZEN_BITS
    assert random.permutation(1, 0, 6).tolist() == FROZEN_ORDER
    assert random.by_name(1, ["anna"], "split")[0] == pytest.approx(FROZEN_NAME, abs=1e-15)


def test_order_and_company_do_not_matter():
    samples = np.arange(1000)
    whole = random.uniform(3, 4, samples, "rotate")
    back = random.uniform(3, 4, samples[::-1], "rotate")[::-1]
    parts = np.concatenate([random.uniform(3, 4, part, "rotate") for part in np.array_split(samples, 7)])
    assert np.array_equal(whole, back)
    assert np.array_equal(whole, parts)


def test_epoch_and_sample_broadcast():
    grid = random.uniform(1, np.arange(3)[:, None], np.arange(5), "x")
    assert grid.shape == (3, 5)
    assert grid[2, 4] == random.uniform(1, 2, 4, "x")
    assert len(np.unique(grid)) == 15


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**62])
def test_uniform_is_uniform(seed):
    drawn = random.uniform(seed, 0, np.arange(20_000), "x", low=-2, high=6)
    assert drawn.min() >= -2
    assert drawn.max() < 6
    assert stats.kstest((drawn + 2) / 8, "uniform").pvalue > 1e-3


def test_every_bit_is_fair():
    drawn = random.bits(0, 0, np.arange(40_000), "x")
    ones = ((drawn[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / math.sqrt(40_000)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 0, "x"), (2, 0, "x")), ((1, 0, "x"), (1, 1, "x")), ((1, 0, "x"), (1, 0, "y")), ((1, 0, "x"), (0, 1, "x"))],
)
def test_streams_are_not_correlated(one, other):
    samples = np.arange(20_000)
    a, b = (random.uniform(seed, epoch, samples, operation) for seed, epoch, operation in (one, other))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert not (a == b).any()


def test_neighbouring_samples_are_not_correlated():
    drawn = random.uniform(0, 0, np.arange(20_000), "x")
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_normal_is_normal_and_finite():
    drawn = random.normal(5, 0, np.arange(20_000), "noise")
    assert np.isfinite(drawn).all()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers_cover_their_range_evenly(high):
    drawn = random.integers(5, 0, np.arange(20 * high + 1000), "x", high)
    counts = np.bincount(drawn, minlength=high)
    assert len(counts) == high
    if high > 1:
        assert stats.chisquare(counts).pvalue > 1e-3


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(0, 300))
def test_a_permutation_is_one(seed, epoch, count):
    assert sorted(random.permutation(seed, epoch, count).tolist()) == list(range(count))


def test_epochs_are_shuffled_anew():
    assert random.permutation(1, 0, 50).tolist() != random.permutation(1, 1, 50).tolist()


def test_names_keep_their_number_in_any_company_and_type():
    alone = random.by_name(4, ["p7"], "split")[0]
    table = np.array([f"p{i}" for i in range(500)])
    assert random.by_name(4, table, "split")[7] == alone
    assert random.by_name(4, table.astype(object)[::-1], "split")[-8] == alone
    assert stats.kstest(random.by_name(4, table, "split"), "uniform").pvalue > 1e-3


def test_names_do_not_depend_on_the_process():
    """Python's own hash() does, which is why it is not used."""
    code = "from overread.core import random; print(random.by_name(4, ['p7'], 'split')[0].hex())"
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed}
        )
        assert done.stdout.strip() == random.by_name(4, ["p7"], "split")[0].hex()


def test_bad_arguments_are_refused():
    for call in (
        lambda: random.bits(-1, 0, 0, "x"),
        lambda: random.integers(1, 0, 0, "x", 0),
        lambda: random.permutation(1, 0, -1),
        lambda: random.bits(1.5, 0, 0, "x"),
        lambda: random.bits(1, 0, 0, None),
    ):
        with pytest.raises(ArgumentError):
            call()
