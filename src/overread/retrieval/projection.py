"""A map of vectors in the plane: their first two principal components, and t-SNE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.random import permutation

#: Points of a map, at most: more take minutes and lie on top of each other.
MOST = 5000
#: Components that t-SNE starts from (van der Maaten and Hinton 2008, section 4.2, take 30), and its perplexity.
_COMPONENTS, _PERPLEXITY = 50, 30.0
#: Seconds that t-SNE takes for each point, roughly, on one core.
SECONDS_A_POINT = 0.02
#: Decimals of a map: more say nothing.
_DECIMALS = 4


@dataclass(frozen=True, eq=False)
class Plane:
    """A map of some of N vectors: ``rows`` (M,) which; ``components`` (M, 2) by principal components, ``explained`` their
    share of the variance; ``neighbourhoods`` (M, 2) by t-SNE, NaN where it was not made, and ``why`` not."""

    rows: NDArray[np.int64]
    components: NDArray[np.float64]
    explained: float
    neighbourhoods: NDArray[np.float64]
    why: str = ""


@checked
def project(vectors: NDArray[np.float32], *, seed: int = 0, seconds: float = math.inf) -> Plane:
    """The map of vectors (N, F): of 5,000 drawn by ``seed`` where there are more; t-SNE only if it fits into ``seconds``."""
    count = len(vectors)
    rows = np.arange(count) if count <= MOST else np.sort(permutation(seed, 0, count, "points of a map")[:MOST])
    centred = vectors[rows].astype(np.float64)
    centred -= centred.mean(axis=0, keepdims=True) if len(rows) else 0.0
    if len(rows) < 5 or not np.any(centred):
        nothing = np.full((len(rows), 2), np.nan)
        return Plane(rows, nothing, math.nan, nothing, "fewer than five cases differ")
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])  # the same way round everywhere
    scores = left * spread * np.where(signs == 0, 1, signs)
    plane = np.zeros((len(rows), 2))
    plane[:, : min(2, scores.shape[1])] = scores[:, :2]
    explained = float((spread[:2] ** 2).sum() / (spread**2).sum())
    needed = SECONDS_A_POINT * len(rows)
    if needed > seconds:
        why = f"t-SNE would take some {needed:.0f} s, and {max(seconds, 0):.0f} s are left"
        return Plane(rows, plane.round(_DECIMALS), explained, np.full_like(plane, np.nan), why)
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(
        np.ascontiguousarray(scores[:, :_COMPONENTS], np.float32)
    )
    return Plane(rows, plane.round(_DECIMALS), explained, np.asarray(found, np.float64).round(_DECIMALS))
