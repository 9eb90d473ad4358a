"""AUC with its interval against scikit-learn with resamples, and MLstatkit: `python benchmarks/intervals.py [--quick]`.

Bar: AUC with an interval at N = 10⁵ in about .03 s. The peers: scikit-learn with 2,000 resamples (extrapolated from as
many as are named), and MLstatkit's DeLong, which compares two scores and so is halved; it is left out where it is not
installed. On one thread, in processor time. Unlike parts: the resamples yield percentiles, ours is DeLong's interval on
the logit scale and checks its arguments. The bootstrap has a script of its own, bootstrap.py; the command evaluate.py.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn import metrics

from overread.stats.discrimination.roc import auc

RESAMPLES = 2000


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The least processor time of some repeats: other work on the machine cannot make it smaller."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def draw(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth with a prevalence of .2 and scores at an AUC of about .86, rounded as a float32 is."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.2
    return truth, (rng.normal(size=count) + 1.5 * truth).astype(np.float32).astype(np.float64)


def loop(metric: Callable, truth: np.ndarray, score: np.ndarray, tried: int) -> float:
    """Seconds that ``RESAMPLES`` calls of a scikit-learn metric take, from ``tried`` of them."""
    rng = np.random.default_rng(0)

    def resample() -> None:
        for _ in range(tried):
            rows = rng.integers(0, len(truth), len(truth))
            metric(truth[rows], score[rows])

    return seconds(resample, 2) * RESAMPLES / tried


def delong(count: int, tried: int) -> None:
    """AUC with its interval."""
    truth, score = draw(count)
    ours, peer = seconds(lambda: auc(truth, score)), loop(metrics.roc_auc_score, truth, score, tried)
    print(f"N = {count:>7,}  AUC with interval  ours {ours * 1000:7.1f} ms  loop {peer:8.1f} s  {peer / ours:8,.0f}×")
    try:
        from MLstatkit.delong import Delong_test
    except ImportError:
        print("MLstatkit is not installed here and left out")
        return
    other = score + 0.1 * np.random.default_rng(1).normal(size=count)
    half = seconds(lambda: Delong_test(truth, score, other)) / 2
    print(f"N = {count:>7,}  the same, MLstatkit's half of two scores {half * 1000:7.1f} ms  {half / ours:6.1f}×")


def main() -> None:
    """Print each ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer resamples of the loop, no N = 10⁵")
    quick = parser.parse_args().quick
    for count in (10_000,) if quick else (10_000, 100_000):
        delong(count, 10 if quick else 40)


if __name__ == "__main__":
    main()
