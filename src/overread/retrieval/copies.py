"""Copies: images that are the same as one in the index, or nearly, told by what the audit tells duplicates by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.fingerprints import BLANK, UNEXPLAINED, near_pairs, unexplained
from overread.core.errors import checked
from overread.images.perceptual_hash import THUMB

#: What is kept of each image: ``row`` of its case among the vectors, the hash of its pixels, its perceptual hash, and the
#: likeness on which a near-duplicate is confirmed.
LIKENESS = np.dtype([("row", "<i8"), ("pixels", "S32"), ("phash", "<u8"), ("thumb", "u1", (THUMB * THUMB,))])


@checked
def likenesses(prints: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[Any]:
    """The :data:`LIKENESS` of fingerprints (M rows) of images whose cases are ``rows`` (M,), −1 for none.

    Images that cannot be read or are blank are left out: there is nothing in them to be the same.
    """
    some = np.flatnonzero((prints["error"] == "").to_numpy() & (prints["std"] > BLANK).to_numpy() & (rows >= 0))
    made = np.zeros(len(some), LIKENESS)
    made["row"], made["phash"] = rows[some], prints["phash"].to_numpy(np.uint64)[some]
    made["pixels"] = prints["pixels"].to_numpy(str)[some].astype("S32")
    for place, thumb in enumerate(prints["thumb"].to_numpy()[some]):
        made["thumb"][place] = np.frombuffer(thumb, np.uint8)
    return made


@checked
def copies(asked: NDArray[Any], held: NDArray[Any], *, distance: int = 12, threads: int = 0) -> NDArray[np.int64]:
    """Pairs (P, 2) of rows, of the queries and of the index, whose images are the same or nearly (see
    :mod:`overread.cases.audit.fingerprints`): each pair once, in order.
    """
    if not len(asked) or not len(held):
        return np.empty((0, 2), np.int64)
    same = _same(asked["pixels"], held["pixels"])
    near = near_pairs(
        np.ascontiguousarray(asked["phash"]), np.ascontiguousarray(held["phash"]), distance=distance, threads=threads
    )
    mine, theirs = np.unique(near[:, 0]), np.unique(near[:, 1])
    thumbs = np.array([thumb.tobytes() for thumb in (*asked["thumb"][mine], *held["thumb"][theirs])], dtype=object)
    places = np.stack([np.searchsorted(mine, near[:, 0]), len(mine) + np.searchsorted(theirs, near[:, 1])], 1)
    close = near[unexplained(thumbs, places, threads=threads) <= UNEXPLAINED]
    found = np.concatenate([same, close])
    return np.unique(np.stack([asked["row"][found[:, 0]], held["row"][found[:, 1]]], 1), axis=0)


def _same(asked: NDArray[np.bytes_], held: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Pairs (P, 2) of positions with equal hashes."""
    left = pd.DataFrame({"hash": asked, "asked": np.arange(len(asked))})
    right = pd.DataFrame({"hash": held, "held": np.arange(len(held))})
    return left.merge(right, on="hash")[["asked", "held"]].to_numpy(np.int64)
