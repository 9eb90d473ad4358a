"""Groups of images that must stay together: a patient's, and those that duplicates tie to each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.duplicates import components

#: Patients that near-duplicates may tie together; a longer chain says that the images are alike, not the same.
LONGEST = 20


@dataclass(frozen=True, eq=False)
class Groups:
    """``of`` (N,): the group of each image; ``names`` (G,): its first patient; ``loosened``: near links left out."""

    of: NDArray[np.int64]
    names: NDArray
    loosened: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images in each group, shape (G,)."""
        return np.bincount(self.of, minlength=len(self.names))


def group(table: pd.DataFrame, by: str, pairs: Iterable[tuple[str, str, str]] = ()) -> Groups:
    """Groups of the rows of a table of cases by patient, tied together by the column ``by`` and by duplicates.

    ``pairs``: (case, case, "exact" or "near"). Numbers and names do not depend on the order of the rows.
    """
    owner, patients = pd.factorize(table["patient"].astype(str), sort=True)
    exact, near = _links(table["case"], owner, pairs)
    tied = components(len(patients), np.concatenate([exact, _same(table[by], owner)]))
    whole = _joined(tied, near)
    long = _distinct(whole, tied) > LONGEST
    loose = long[whole[near[:, 0]]]
    final = _joined(tied, near[~loose])
    firsts = np.unique(final, return_index=True)[1]  # patients are sorted: the first of a group is its smallest
    return Groups(final[owner], np.asarray(patients, dtype=object)[firsts], int(loose.sum()))


def _joined(tied: NDArray[np.int64], near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Components of items that are in one group of ``tied`` or linked by ``near``."""
    return components(int(tied.max(initial=-1)) + 1, tied[near])[tied]


def _distinct(whole: NDArray[np.int64], tied: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many groups of ``tied`` each group of ``whole`` holds."""
    both = np.unique(np.stack([whole, tied]), axis=1)
    return np.bincount(both[0], minlength=int(whole.max(initial=-1)) + 1)


def _same(values: pd.Series, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Links (n, 2) from the first owner of each value to its others; blanks tie nobody."""
    text = values.fillna("").astype(str).to_numpy(object)
    code = pd.factorize(text)[0]
    first = owner[np.unique(code, return_index=True)[1]]
    return np.stack([first[code], owner], 1)[text != ""]


def _links(case: pd.Series, owner: NDArray, pairs: Iterable[tuple[str, str, str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Links between owners (n, 2) by exact and by near duplicates; cases that are not in the table have none."""
    place = dict(zip(case, owner))
    kinds: dict[str, list[tuple[int, int]]] = {"exact": [], "near": []}
    for first, second, kind in pairs:
        if first in place and second in place:
            kinds[kind].append((int(place[first]), int(place[second])))
    exact, near = (np.array(kinds[kind], np.int64).reshape(-1, 2) for kind in ("exact", "near"))
    return exact, near
