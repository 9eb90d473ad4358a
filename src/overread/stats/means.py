"""A number of each image, and its mean over images with an interval that knows the patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.arrays import distinct, numbers, patient_codes
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import (
    Column,
    Scale,
    Statistic,
    bootstrapped,
    of_sums,
    per_patient,
    ratio_of_sums,
)


@checked
def mean_over_images(
    metric: str,
    values: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    scale: Scale = "share",
    level: float = 0.95,
    of: str = "",
    why: str = "undefined for every image",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The mean of ``values`` (N,) over the images where it is a number, by patient bootstrap.

    ``values`` NaN or infinite where an image has none: those are left out and counted in the method.
    ``patients`` (N,) or None. ``scale`` as :class:`overread.stats.resample.Column` says: ``share`` for values
    in 0 … 1, ``positive`` from 0 on, ``plain`` for any. Student's t for few patients. ``why``: the reason
    where no image has a value.

    >>> print(mean_over_images("dice", [0.8, 0.9, 0.7, 0.95, float("nan")]))
    0.838 (0.608–0.945)
    """
    given = numbers(values, name="values")
    codes, known = patient_codes(patients, len(given)), np.isfinite(given)
    if not known.any():
        why = why if len(given) else "no images"
        return undefined(metric, why, of=of, images=len(given), patients=distinct(codes))
    codes, left_out = patient_codes(codes[known], int(known.sum())), int((~known).sum())
    note = "mean over images" + (f", {left_out} without a value left out" if left_out else "")
    statistic = _mean(metric, given[known], codes, scale, of, note)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


def _mean(
    metric: str, values: NDArray[np.float64], codes: NDArray[np.int64], scale: Scale, of: str, note: str
) -> Statistic:
    people = distinct(codes)
    cells = per_patient(codes, people, np.ones(len(values)), values)
    few = max(people - 1, 1)
    bounded = people if scale == "share" else 1
    column = Column(metric, of, len(values), people, scale, effective=bounded, freedom=few, note=note)
    return of_sums((column,), cells, ratio_of_sums)
