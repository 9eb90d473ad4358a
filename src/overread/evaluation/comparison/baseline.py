"""A model beside a baseline that has looked at no image: how much of the result the two can share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from overread.core.errors import checked, require
from overread.evaluation.metrics import estimate_of, group_of, metric_for, statistic_of
from overread.evaluation.operating_point import positives, question
from overread.predictions import Predictions
from overread.stats.arrays import distinct
from overread.stats.discrimination.delong import auc_difference, bootstrap_difference
from overread.stats.estimate import Difference, Estimate, undefined

BASELINE, BEYOND = "shortcut auc", "auc beyond shortcut"


@checked
def beside_baseline(
    test: Predictions, baseline: Predictions, *, level: float = 0.95, seed: int = 0, resamples: int | None = None
) -> tuple[Estimate, ...]:
    """``shortcut auc`` of the ``baseline`` and ``auc beyond shortcut``: how far ``test`` is above it, case by case.

    Both of the positive class, or the mean over classes or findings where there is none. ``baseline``: of the same
    cases in the same order, as :func:`overread.cases.audit.shortcut.shortcut_scores` makes it. The difference is DeLong's, clustered
    by patient; of a mean a bootstrap over patients. Nothing of a quantity, which has no AUC.
    """
    require(
        list(test.table["case"]) == list(baseline.table["case"]),
        "the baseline must be of the same cases in the same order",
    )
    if test.target.task.continuous:
        return ()
    metric = metric_for(test)
    of = group_of(test, metric)
    if not np.isfinite(baseline.scores).all():
        why = "training shows a class or finding one way only"
        return tuple(undefined(name, why, of=of, images=len(test)) for name in (BASELINE, BEYOND))
    found = _difference(test, baseline, metric, level, seed, resamples)
    alone = estimate_of(baseline, metric, level=level, seed=seed, resamples=resamples)
    return replace(alone, metric=BASELINE, of=of), replace(found.difference, metric=BEYOND, of=of)


def _difference(
    test: Predictions, baseline: Predictions, metric: str, level: float, seed: int, resamples: int | None
) -> Difference:
    if metric == "auc":
        names = positives(test, None, None)
        rows, truth, score = question(test, names)
        return auc_difference(truth, score, question(baseline, names)[2], test.codes[rows], level=level)
    codes = test.codes
    patients = max(distinct(codes), 1)
    first, second = (statistic_of(each, metric, codes, patients) for each in (test, baseline))
    return bootstrap_difference(first, second, patients, images=len(test), level=level, seed=seed, resamples=resamples)[
        0
    ]
