"""Linear heads on frozen features: every fold and penalty by us against one scikit-learn fit per problem.

The bar: 5,387 × 1,280 features, 7 classes, 5 folds × 8 penalties, no slower than one ``LogisticRegression`` per problem
in the same run, with at most 1 GB of memory. Processor seconds, which other work on the machine cannot make fewer;
scikit-learn fits the problems of one fold and is counted five times.

    python benchmarks/linear_heads.py --head logistic --threads 2
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from overread.learning.linear_probe import cross_validate
from overread.learning.recipe import Recipe
from overread.networks.backbones import HEADS
from overread.tasks.target import Target

SHARES = (0.67, 0.11, 0.11, 0.05, 0.03, 0.015, 0.015)  # of HAM10000's classes


def drawn(rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features like those of a network: a few hundred directions matter, none below 0; classes overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(SHARES), rows, p=np.array(SHARES) / sum(SHARES))
    latent = rng.normal(size=(rows, 200)) * np.linspace(3, 0.3, 200) + rng.normal(size=(len(SHARES), 200))[labels] * 0.5
    mixed = latent @ rng.normal(size=(200, width)) / 14 + rng.normal(size=(rows, width)) * 0.3
    return np.maximum(mixed, 0).astype(np.float32), labels


def memory() -> float:
    """The most memory that the process has held, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5387)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--head", choices=HEADS, default="logistic")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--alone", action="store_true", help="without scikit-learn")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x, y = drawn(options.rows, options.width)
    folds, penalties = np.arange(options.rows) % 5, Recipe().penalties
    task = Target("classes", tuple("abcdefg")).task
    before, start = memory(), time.process_time()
    probe = cross_validate(torch.from_numpy(x), torch.from_numpy(y), task, head=options.head, weights=torch.ones(7), folds=folds,
                           penalties=penalties, refit=True)  # fmt: skip
    ours = time.process_time() - start
    print(f"overread, {options.head}: {ours:.1f} s for {len(penalties) * 6} problems, {memory():.2f} GB, of which "
          f"{before:.2f} before; penalty {probe.penalty:g}, held-out loss {min(probe.losses):.4f}")  # fmt: skip
    if options.alone:
        return
    losses, start = [], time.process_time()
    inside = folds != 0
    z = StandardScaler().fit(x[inside]).transform(x)
    for penalty in penalties:
        model = LogisticRegression(C=1 / (penalty * inside.sum()), max_iter=1000).fit(z[inside], y[inside])
        losses.append(-model.predict_log_proba(z[~inside])[np.arange((~inside).sum()), y[~inside]].mean())
    theirs = time.process_time() - start
    print(f"scikit-learn: {theirs:.1f} s for the 8 problems of one fold, so {5 * theirs:.1f} s for 40; losses "
          + " ".join(f"{loss:.4f}" for loss in losses))  # fmt: skip
    print("ours:         " + " ".join(f"{loss:.4f}" for loss in probe.losses))


if __name__ == "__main__":
    main()
