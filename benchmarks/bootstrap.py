"""The patient bootstrap against a scikit-learn loop over resamples: `python benchmarks/bootstrap.py [--quick]`.

Bar: any metric at N = 10⁴ at least 50 times as fast as a loop that calls scikit-learn once per resample. Both sides
draw the same number of resamples of the same cases, on one thread; the loop's time is extrapolated from as many
resamples as are named, and the two values and standard deviations are checked to agree within their Monte Carlo error.
Unlike parts: the loop yields percentiles, ours a spread on the metric's own scale; ours checks its arguments.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn import metrics

from overread.stats.classification import threshold_statistic
from overread.stats.discrimination.roc import areas_statistic
from overread.stats.regression import kappa_statistic, mcc_statistic
from overread.stats.resample import Statistic, bootstrap, replicate

RESAMPLES = 2000
#: Of both sides the quickest of so many runs counts; the loop's resamples are shared out among them.
PARTS = 5


@dataclass(frozen=True, eq=False)
class Work:
    """A metric: ours for the bootstrap (its first column), and what scikit-learn is called with."""

    name: str
    ours: Callable[[], Statistic]
    column: int
    theirs: Callable[..., float]
    arrays: tuple[np.ndarray, ...]


def seconds(call: Callable[[], object], repeats: int) -> float:
    """The least processor time of some repeats: other work on the machine cannot make it smaller."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def works(count: int) -> list[Work]:
    """Truth with a prevalence of .2 and scores at an AUC of about .86; four classes; five grades."""
    rng, own = np.random.default_rng(0), np.arange(count)
    truth = rng.random(count) < 0.2
    score = (rng.normal(size=count) + 1.5 * truth).astype(np.float32).astype(np.float64)
    flagged = score > 0.75
    several = rng.integers(0, 4, count)
    each = np.exp(rng.normal(size=(count, 4)) + 1.3 * np.eye(4)[several])
    each /= each.sum(axis=1, keepdims=True)
    grade = rng.integers(0, 5, count)
    said = np.clip(grade + rng.integers(-1, 2, count), 0, 4)

    def macro() -> Statistic:
        columns = [np.ascontiguousarray(each[:, k]) for k in range(4)]
        truths = [several == k for k in range(4)]
        return areas_statistic(truths, columns, [own] * 4, ("",) * 4, macro=True, each=False)

    return [
        Work("F1", lambda: threshold_statistic(truth, flagged, own, count), 0, metrics.f1_score, (truth, flagged)),
        Work("balanced accuracy", lambda: threshold_statistic(truth, flagged, own, count), 1,
             metrics.balanced_accuracy_score, (truth, flagged)),
        Work("MCC", lambda: mcc_statistic(truth.astype(np.int64), flagged.astype(np.int64), own, count), 0,
             metrics.matthews_corrcoef, (truth, flagged)),
        Work("quadratic kappa", lambda: kappa_statistic(grade.astype(float), said.astype(float), own, count), 0,
             lambda a, b: metrics.cohen_kappa_score(a, b, weights="quadratic"), (grade, said)),
        Work("average precision", lambda: areas_statistic([truth], [score], [own], ("",), macro=False), 0,
             metrics.average_precision_score, (truth, score)),
        Work("macro AUC, 4 classes", macro, 0,
             lambda a, b: metrics.roc_auc_score(a, b, multi_class="ovr"), (several, each)),
    ]  # fmt: skip


def compare(work: Work, count: int, tried: int) -> None:
    """Print one metric's ratio, after a look that both sides say the same."""
    rng, loop = np.random.default_rng(1), np.empty(tried)

    parts = iter(np.array_split(np.arange(tried), PARTS))

    def resample() -> None:
        for i in next(parts):
            rows = rng.integers(0, count, count)
            loop[i] = work.theirs(*(array[rows] for array in work.arrays))

    peer = seconds(resample, PARTS) * RESAMPLES * PARTS / tried
    ours = seconds(lambda: bootstrap([work.ours()], count, images=count, resamples=RESAMPLES), PARTS)
    statistic = work.ours()
    value = statistic.compute(np.ones((1, count), np.uint16))[0, work.column]
    spread = replicate([statistic], count, resamples=RESAMPLES)[0][:, work.column].std()
    assert np.isclose(value, work.theirs(*work.arrays), rtol=1e-9), "the two values do not agree"
    assert abs(spread / loop.std() - 1) < 4 / np.sqrt(2 * tried), "the two spreads do not agree"
    print(f"N = {count:>7,}  {work.name:22} ours {ours:7.3f} s  loop {peer:7.1f} s  {peer / ours:7,.0f}×")


def main() -> None:
    """Print each ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer resamples of the loop")
    tried = 40 if parser.parse_args().quick else 200
    for work in works(10_000):
        compare(work, 10_000, tried)


if __name__ == "__main__":
    main()
