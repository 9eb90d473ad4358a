"""Random numbers as a pure function of (seed, epoch, sample, operation).

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): no state, so the order of
calls, the number of workers and a crash in between cannot change what is drawn. The mixing function is the finaliser of
SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), applied once per coordinate.

All functions broadcast ``epoch`` and ``sample`` and return arrays of their shape.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: a bijection of 64 bits with full avalanche."""
    z = (z ^ (z >> np.uint64(30))) * _M1
    z = (z ^ (z >> np.uint64(27))) * _M2
    return z ^ (z >> np.uint64(31))


@checked
def bits(seed: int, epoch: ArrayLike, sample: ArrayLike, operation: str) -> NDArray[np.uint64]:
    """64 random bits for each (epoch, sample), shape of their broadcast.

    >>> bool(bits(7, 0, 3, "flip") == bits(7, 0, [1, 2, 3], "flip")[2])
    True
    """
    require(seed >= 0, "seed must not be negative", given=seed)
    with np.errstate(over="ignore"):
        key = _mix(np.asarray(seed, dtype=np.uint64) + _GOLDEN) ^ np.uint64(_digest(operation))
        key = _mix(key + _GOLDEN * (np.asarray(epoch).astype(np.uint64) + np.uint64(1)))
        return np.asarray(_mix(key + _GOLDEN * (np.asarray(sample).astype(np.uint64) + np.uint64(1))))


@checked
def uniform(
    seed: int, epoch: ArrayLike, sample: ArrayLike, operation: str, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    """Uniform numbers in [low, high), 53 bits.

    >>> bool(0 <= uniform(1, 0, 0, "x") < 1)
    True
    """
    unit = (bits(seed, epoch, sample, operation) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.asarray(low + (high - low) * unit)


@checked
def normal(seed: int, epoch: ArrayLike, sample: ArrayLike, operation: str) -> NDArray[np.float64]:
    """Standard normal numbers (Box & Muller 1958).

    >>> float(abs(normal(1, 0, np.arange(10_000), "x").mean())) < 0.05
    True
    """
    u = 1.0 - uniform(seed, epoch, sample, operation + "/r")  # (0, 1]: the logarithm is finite
    v = uniform(seed, epoch, sample, operation + "/angle")
    return np.asarray(np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v))


@checked
def integers(seed: int, epoch: ArrayLike, sample: ArrayLike, operation: str, high: int) -> NDArray[np.int64]:
    """Whole numbers in 0 … high−1.

    >>> sorted(set(integers(1, 0, np.arange(100), "x", 3).tolist()))
    [0, 1, 2]
    """
    require(high >= 1, "high must be at least 1", given=high)
    drawn = np.floor(uniform(seed, epoch, sample, operation) * high).astype(np.int64)
    return np.asarray(np.minimum(drawn, high - 1))


@checked
def permutation(seed: int, epoch: int, count: int, operation: str = "order") -> NDArray[np.int64]:
    """A permutation of 0 … count−1: samples sorted by their random bits.

    >>> sorted(permutation(1, 0, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    require(count >= 0, "count must not be negative", given=count)
    return np.argsort(bits(seed, epoch, np.arange(count), operation), kind="stable")


@checked
def by_name(seed: int, names: ArrayLike, operation: str) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that belong to names, whatever their order or company.

    ``names``: array-like of strings (patients, cases). The same name always draws the same number.

    >>> bool(by_name(1, ["b", "a"], "split")[1] == by_name(1, ["a"], "split")[0])
    True
    """
    flat = np.asarray(names, dtype=object).ravel()
    counters = np.fromiter((_digest(str(name)) for name in flat), dtype=np.uint64, count=flat.size)
    return uniform(seed, 0, counters, operation).reshape(np.shape(names))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
