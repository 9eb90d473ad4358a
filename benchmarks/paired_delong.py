"""Paired DeLong against MLstatkit: `python benchmarks/paired_delong.py [--quick]`.

Bar: 15 times as fast at N = 10⁴ and 10⁵. Both compare two scores on the same cases, on one thread, and give both areas
with intervals, z and p; the two z are checked to agree. Unlike parts: MLstatkit counts ties and classes first, ours
checks its arguments' types and also tests whether all models are equal. MLstatkit (and scipy) come from the environment
that runs this: `pip install MLstatkit` into one of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from overread.stats.discrimination.delong import auc_difference


def seconds(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Medians of interleaved repeats, in processor time: other work on the machine hardly shows."""
    found: list[list[float]] = [[], []]
    for call, times in [(ours, found[0]), (peer, found[1])] * repeats:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(found[0]), statistics.median(found[1])


def draw(count: int, digits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth with a prevalence of .2 and two scores that correlate, rounded to ``digits``."""
    rng = np.random.default_rng(0)
    truth = rng.random(count) < 0.2
    score = rng.normal(size=count) + truth
    return truth, np.round(score, digits), np.round(score + 0.5 * rng.normal(size=count), digits)


def main() -> None:
    """Print each ratio."""
    try:
        from MLstatkit.delong import Delong_test
    except ImportError:
        sys.exit("MLstatkit is not installed here: pip install MLstatkit, in an environment of its own")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, no N = 10⁵")
    quick = parser.parse_args().quick
    for count in (10_000,) if quick else (10_000, 100_000):
        for digits, name in ((12, "no ties"), (2, "many ties")):
            truth, score, other = draw(count, digits)
            mine, theirs = auc_difference(truth, score, other), Delong_test(truth, score, other)
            assert abs(mine.statistic + theirs[0]) < 1e-6 * abs(theirs[0]), "the two do not agree"
            ours, peer = seconds(
                lambda t=truth, s=score, o=other: auc_difference(t, s, o),
                lambda t=truth, s=score, o=other: Delong_test(t, s, o),
                5 if quick else 15,
            )
            print(
                f"N = {count:>7,}  {name:9}  ours {ours * 1000:6.1f} ms  MLstatkit {peer * 1000:7.1f} ms  {peer / ours:5.1f}×"
            )


if __name__ == "__main__":
    main()
