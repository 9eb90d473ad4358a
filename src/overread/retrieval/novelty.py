"""How far a case is from everything the model was trained on, and from where on that is unusual."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked

#: Neighbours whose mean distance is taken, and the share of tuning patients that stay below the limit.
K, SHARE = 5, 0.95


@dataclass(frozen=True)
class Limit:
    """The ``distance`` (mean over the ``k`` nearest) that a ``share`` of ``patients`` of tuning stay below; NaN without any."""

    distance: float = math.nan
    k: int = K
    share: float = SHARE
    patients: int = 0
    cases: int = 0


@checked
def novelty(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Q,) the mean of the distances (Q, k) to the nearest; of fewer than k neighbours those that there are, else NaN."""
    there = np.isfinite(distances)
    many = there.sum(axis=1)
    return np.divide(
        np.where(there, distances, 0).sum(axis=1), many, out=np.full(len(distances), np.nan), where=many > 0
    )


@checked
def limit_of(
    distances: NDArray[np.float64], patients: Sequence[str] | NDArray[np.object_], share: float = SHARE
) -> Limit:
    """The limit from tuning cases: distances (Q, k) to their nearest of the training part, and whose they are (Q,).

    Each patient counts once, shared among his cases. Rounded up as in conformal prediction, so that the next patient
    stays below with at least that chance (Vovk 2005, "Algorithmic learning in a random world", section 2.2); with too few
    patients for that it is the largest distance seen.

    >>> limit_of(np.arange(100.0)[:, None], [str(i) for i in range(100)]).distance
    95.0
    """
    far = novelty(distances)
    known = np.isfinite(far)
    if not known.any():
        return Limit(share=share, k=distances.shape[1])
    codes = pd.factorize(np.asarray(list(patients), dtype=object)[known])[0]
    weight = 1 / np.bincount(codes)[codes]
    order = np.argsort(far[known], kind="stable")
    reached = np.cumsum(weight[order])
    many = int(codes.max()) + 1
    place = int(np.searchsorted(reached, min(share * (many + 1), reached[-1]) - 1e-9))
    return Limit(
        float(far[known][order][min(place, len(order) - 1)]), distances.shape[1], share, many, int(known.sum())
    )
