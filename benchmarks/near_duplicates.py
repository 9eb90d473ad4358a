"""Near-duplicate search over 100,000 hashes: `python benchmarks/near_duplicates.py [--count N]`.

Bar: 60 s on two cores, no quadratic table in memory. Two kinds of hashes: drawn at random, where hardly any are near,
and a crowd of look-alikes (6,000 bases with up to eight bits flipped), where the distance has to be lowered. Peer: a
plain numpy loop over rows (what a script does), extrapolated from as many rows as named.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from numpy.typing import NDArray

from overread.cases.audit.fingerprints import near_duplicates
from overread.core.files import cores
from overread.core.random import bits, integers, uniform


def drawn(count: int) -> NDArray[np.uint64]:
    return bits(0, 0, np.arange(count), "hash")


def alike(count: int) -> NDArray[np.uint64]:
    found = drawn(6000)[integers(0, 0, np.arange(count), "base", 6000)]
    for flip in range(8):
        bit = integers(0, flip, np.arange(count), "bit", 64).astype(np.uint64)
        found ^= np.where(uniform(0, flip, np.arange(count), "flip") < 0.6, np.uint64(1) << bit, np.uint64(0))
    return found


def loop(phash: NDArray[np.uint64], rows: int) -> float:
    """Seconds that a loop over rows would need, from so many rows spread over all."""
    chosen = np.linspace(0, len(phash) - 1, rows).astype(int)
    table = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)
    start = time.perf_counter()
    for i in chosen:
        apart = table[(phash[i + 1 :] ^ phash[i]).view(np.uint16)].reshape(-1, 4).sum(1)
        np.flatnonzero(apart <= 12)
    return (time.perf_counter() - start) * len(phash) / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    count = parser.parse_args().count
    for name, make in (("random", drawn), ("look-alikes", alike)):
        phash = make(count)
        start, work = time.perf_counter(), time.process_time()
        pairs = near_duplicates(phash)
        wall, work = time.perf_counter() - start, time.process_time() - work
        print(f"{name}: {count:,} hashes, {len(pairs):,} pairs in {wall:.1f} s on {cores()} cores ({work:.1f} s of work); "
              f"a loop over rows {loop(phash, 200):.0f} s (from 200 rows)")  # fmt: skip
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
