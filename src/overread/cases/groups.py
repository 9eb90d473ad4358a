"""Groups of images that must stay together: a patient's, and those that duplicates tie to each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.duplicates import components


def longest(patients: int) -> int:
    """Patients of so many that near-duplicates may tie together: 1 %, at least 20.

    A longer chain says that the images are alike rather than the same, and would make one group of the whole set.
    """
    return max(20, patients // 100)


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
    long = _distinct(whole, tied) > longest(len(patients))
    loose = long[whole[near[:, 0]]]
    final = _joined(tied, near[~loose])
    firsts = np.unique(final, return_index=True)[
        1
    ]  # patients are sorted: the first of a group is its smallest
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


def _links(
    case: pd.Series, owner: NDArray, pairs: Iterable[tuple[str, str, str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Links between owners (n, 2) by exact and by near duplicates; cases that are not in the table have none."""
    known = pd.DataFrame(list(pairs), columns=["first", "second", "kind"], dtype=object)
    first = ~case.duplicated().to_numpy()
    place = pd.Index(case[first])
    ends = np.stack([place.get_indexer(known["first"]), place.get_indexer(known["second"])], 1)
    here, exact = (ends >= 0).all(1), (known["kind"] == "exact").to_numpy(bool)
    owners = owner[first]
    return owners[ends[here & exact]], owners[ends[here & ~exact]]
