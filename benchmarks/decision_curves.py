"""Decision curves against dcurves: `python benchmarks/decision_curves.py [--quick]`.

Bar: 100 times as fast at N = 10⁵, 100 thresholds, one model, on one thread; the two net benefits are checked to agree.
Unlike parts: ours gives intervals and checks its arguments, dcurves gives neither intervals nor patients but also
"interventions avoided". dcurves comes from the environment that runs this: `pip install dcurves` into one of its own.
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

from overread.stats.decision import decision_curve, decision_difference


def seconds(call: Callable[[], object], repeats: int) -> float:
    """The median processor time."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return statistics.median(found)


def main() -> None:
    """Print each ratio."""
    import pandas as pd

    try:
        from dcurves import dca
    except ImportError:
        sys.exit("dcurves is not installed here: pip install dcurves, in an environment of its own")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, N = 10⁴")
    quick = parser.parse_args().quick
    count = 10_000 if quick else 100_000
    rng = np.random.default_rng(0)
    truth = rng.random(count) < 0.2
    risk, other = (1 / (1 + np.exp(1.5 - rng.normal(size=count) - 1.5 * truth)) for _ in range(2))
    table, at = pd.DataFrame({"y": truth.astype(int), "m": risk}), np.arange(100) / 100
    theirs = dca(data=table, outcome="y", modelnames=["m"], thresholds=at)
    known = theirs[theirs["model"] == "m"]["net_benefit"].to_numpy()
    assert np.allclose(known, decision_curve(truth, risk, thresholds=at).net_benefit), "the two do not agree"
    peer = seconds(lambda: dca(data=table, outcome="y", modelnames=["m"], thresholds=at), 3 if quick else 5)
    pairs = np.arange(count) // 2
    for name, call in {
        "one model": lambda: decision_curve(truth, risk, thresholds=at),
        "one model, 2 images a patient": lambda: decision_curve(truth, risk, pairs, thresholds=at),
        "difference of two models": lambda: decision_difference(truth, risk, other, thresholds=at),
    }.items():
        ours = seconds(call, 5 if quick else 15)
        print(
            f"N = {count:>7,}  {name:30}  ours {ours * 1000:6.1f} ms  dcurves, one model {peer * 1000:7.1f} ms  {peer / ours:6.0f}×"
        )


if __name__ == "__main__":
    main()
