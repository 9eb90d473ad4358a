"""The statistics against a scikit-learn loop over resamples: `python benchmarks/intervals.py [--quick]`.

Bars: the patient bootstrap at N = 10⁴ at least 50 times as fast as a loop that calls scikit-learn once per resample;
AUC with an interval at N = 10⁴ and 10⁵ against scikit-learn with 2,000 resamples. Both sides draw the same number of
resamples of the same cases, on one thread; the loop's time is extrapolated from as many resamples as named. Unlike
parts: the loop yields percentiles, ours a spread on the logit scale; the AUC's interval is DeLong's and needs none.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn import metrics

from overread.evaluation.evaluate import evaluate
from overread.predictions import Predictions
from overread.stats.classification import threshold_statistic
from overread.stats.precision_recall import areas_statistic
from overread.stats.resample import bootstrap
from overread.stats.roc import auc

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


def bootstraps(count: int, tried: int) -> None:
    """Each metric alone, and all of them from the same resamples."""
    truth, score = draw(count)
    flagged, patients = score > 0.75, np.arange(count)
    areas = areas_statistic([truth], [score], [patients], ("",), macro=True)  # AUC and average precision
    cells = threshold_statistic(truth, flagged, patients, count)  # F1 and balanced accuracy
    theirs = {
        "f1": loop(metrics.f1_score, truth, flagged, tried),
        "balanced accuracy": loop(metrics.balanced_accuracy_score, truth, flagged, tried),
        "auc": loop(metrics.roc_auc_score, truth, score, tried),
        "average precision": loop(metrics.average_precision_score, truth, score, tried),
    }
    for name, statistics in (("f1 + balanced accuracy", [cells]), ("auc + average precision", [areas]),
                             ("all four", [cells, areas])):  # fmt: skip
        ours = seconds(lambda s=statistics: bootstrap(s, count, images=count, resamples=RESAMPLES))
        peers = sum(theirs[m] for m in theirs if m in name or name == "all four")
        print(
            f"N = {count:>7,}  bootstrap of {name:24} ours {ours:7.3f} s  loop {peers:8.1f} s  {peers / ours:6.0f}×"
        )


def delong(count: int, tried: int) -> None:
    """AUC with its interval."""
    truth, score = draw(count)
    ours, peer = seconds(lambda: auc(truth, score)), loop(metrics.roc_auc_score, truth, score, tried)
    print(
        f"N = {count:>7,}  AUC with interval  ours {ours * 1000:7.1f} ms  loop {peer:8.1f} s  {peer / ours:8,.0f}×"
    )


def whole(count: int) -> None:
    """Everything that `overread evaluate` computes, seven classes."""
    import pandas as pd

    from overread.cases.cases import Target

    rng = np.random.default_rng(0)
    names = tuple("abcdefg")
    truth = rng.integers(0, 7, count)
    score = np.exp(rng.normal(size=(count, 7)) + 1.5 * np.eye(7)[truth])
    table = pd.DataFrame(score / score.sum(axis=1, keepdims=True), columns=[f"p:{n}" for n in names])
    table = table.assign(case=np.arange(count).astype(str), patient=(np.arange(count) // 2).astype(str), split="test",
                         source="", label=np.array(names)[truth])  # fmt: skip
    predictions = Predictions(table, Target("classes", names, ("a", "b")))
    print(f"N = {count:>7,}  evaluate, 7 classes {seconds(lambda: evaluate(predictions), 1):6.2f} s")


def main() -> None:
    """Print each ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer resamples of the loop, no N = 10⁵")
    quick = parser.parse_args().quick
    bootstraps(10_000, 20 if quick else 200)
    for count in (10_000,) if quick else (10_000, 100_000):
        delong(count, 10 if quick else 40)
    for count in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
        whole(count)


if __name__ == "__main__":
    main()
