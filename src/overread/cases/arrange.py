"""Which images of a case a network sees together, and in which place: by view, by time, or in the order of the table.

A row of an arrangement is a case, a column a place. What a place means depends on the fusion: for ``late``, ``concat``
and ``stacked`` it is a view, the same for all cases; for ``recurrent`` the places run in the order of time; for ``mean`` and
``attention`` (``gated-attention``) the order says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, times
from overread.core.errors import InputError, checked, nearest, one_of, require
from overread.core.phrases import count

#: How the images of a case are seen: each on its own, or together (see :mod:`overread.networks.fusion`).
FUSIONS = ("single", "mean", "late", "concat", "stacked", "recurrent", "attention", "gated-attention")
#: Those with a place of its own for each view.
BY_VIEW = ("late", "concat", "stacked")
#: Those for which the order in time counts.
BY_TIME = ("recurrent",)
#: Views that are told apart at most: more are slices, which have no place of their own.
MOST_VIEWS = 32


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The images of M cases in V places.

    ``rows`` (M, V): rows of the table, −1 where a case has no image; the cases stand in the order of the table.
    ``per_case`` (M,): images of each case before the limit. ``views``: what the places are called, () where they have no
    names. ``left_out``: images beyond the limit, and in how many cases.
    """

    rows: NDArray[np.int64]
    per_case: NDArray[np.int64]
    views: tuple[str, ...] = ()
    left_out: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(M, V) where there is an image."""
        return self.rows >= 0

    @property
    def first(self) -> NDArray[np.int64]:
        """(M,) the first row of each case, which stands for it: its label, its patient, its chance."""
        return np.where(self.present, self.rows, np.iinfo(np.int64).max).min(axis=1)

    @property
    def shown(self) -> str:
        """How many images a case has, in words: ``2 to 4 images``."""
        if not len(self):
            return "no images"
        low, high = int(self.per_case.min()), int(self.per_case.max())
        return count(high, "image") if low == high else f"{low} to {high} images"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing or left out, a line each; nothing where each case shows all that it has, and that is whole."""
        lines = []
        if self.views and (lacking := int((~self.present).any(axis=1).sum())):
            each = ", ".join(f"{view} {n:,}" for view, n in zip(self.views, (~self.present).sum(axis=0)) if n)
            lines.append(f"{lacking:,} of {count(len(self), 'case')} lack views, which count as missing: {each}")
        images, cases = self.left_out
        if images:
            lines.append(f"{count(images, 'image')} of {count(cases, 'case')} left out, evenly spaced, since a case shows at most {self.rows.shape[1]} "
                         "(--set images_per_case=0 shows all)")  # fmt: skip
        return tuple(lines)


@checked
def arrange(cases: Cases, fusion: str, *, views: Sequence[str] = (), most: int = 0) -> Arrangement:
    """The images of each case in their places, for a ``fusion`` other than ``single``.

    ``views``: those that a model knows, in its order; () where they are to be found. ``most``: images of a case at most,
    evenly spaced, 0 for all; where views have their places it changes nothing. Raises :class:`InputError` where images
    cannot be told apart as the fusion needs: no view, a view that is not known, two images of one view, no time, two
    images of one time.
    """
    one_of(fusion, FUSIONS[1:], "fusion")
    require(most >= 0, "images_per_case must not be negative", given=most)
    require(len(cases) > 0, "there are no images to arrange")
    code = np.asarray(pd.factorize(cases.table["case"])[0], np.int64)
    per_case: NDArray[np.int64] = np.bincount(code)
    if fusion in BY_VIEW:
        place, names = _views(cases, fusion, tuple(views))
        _refuse_two_of_a_view(cases, code, place, names)
        return Arrangement(_placed(code, place, len(names)), per_case, names)
    order = _by_time(cases, code) if fusion in BY_TIME else pd.Series(code).groupby(code).cumcount()
    rows = _placed(code, np.asarray(order, np.int64), int(per_case.max()))
    if not most or per_case.max() <= most:
        return Arrangement(rows, per_case)
    beyond = np.maximum(per_case - most, 0)
    return Arrangement(_evenly(rows, per_case, most), per_case, (), (int(beyond.sum()), int((beyond > 0).sum())))


def _placed(code: NDArray[np.int64], place: NDArray[np.int64], places: int) -> NDArray[np.int64]:
    rows = np.full((code.max() + 1, places), -1, np.int64)
    rows[code, place] = np.arange(len(code))
    return rows


def _evenly(rows: NDArray[np.int64], per_case: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """``most`` of the images of each case that has more, from its first to its last."""
    kept = np.full((len(rows), most), -1, np.int64)
    for case, many in enumerate(per_case):
        places = np.arange(many) if many <= most else np.rint(np.linspace(0, many - 1, most)).astype(int)
        if most == 1 and many > 1:
            places = np.array([many // 2])  # the middle one, rather than the first
        kept[case, : len(places)] = rows[case, places]
    return kept


# -- by view ------------------------------------------------------------------------------------------------------


def _key(view: str) -> str:
    """What makes two views the same: not capitals, nor spaces."""
    return " ".join(view.split()).casefold()


def _views(cases: Cases, fusion: str, known: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The place of each image by its view, and the names of the places."""
    written = cases.table["view"].astype(str)
    keys = written.map(_key)
    other = "fuse in another way that needs no views: mean or attention"
    if blank := int((keys == "").sum()):
        raise InputError(f"the fusion {fusion} needs the view of every image", given=f"{blank:,} of {count(len(keys), 'image')} have none",
                         todo=f"name the column with --view, take three planes of volumes with --volumes views, or {other}")  # fmt: skip
    if not known:
        known = tuple(written[~keys.duplicated()].iloc[np.argsort(keys[~keys.duplicated()], kind="stable")])
        if len(known) < 2 or len(known) > MOST_VIEWS:
            raise InputError(f"the fusion {fusion} needs two to {MOST_VIEWS} views", given=f"{len(known)}, first {known[0]!r}",
                             todo=f"name another column with --view, or {other}")  # fmt: skip
    places = {_key(view): place for place, view in enumerate(known)}
    strange = ~keys.isin(list(places))
    if strange.any():
        first = written[strange].iloc[0]
        raise InputError("the model does not know a view of these images, since its training had none of it",
                         given=f"{first!r}, {count(int(strange.sum()), 'image')}; known: {', '.join(known)}",
                         todo=f"{nearest(first, known)} or leave these images out with --where")  # fmt: skip
    return np.asarray(keys.map(places), np.int64), known


def _refuse_two_of_a_view(
    cases: Cases, code: NDArray[np.int64], place: NDArray[np.int64], names: tuple[str, ...]
) -> None:
    twice = pd.DataFrame({"case": code, "place": place}).duplicated(keep="first").to_numpy()
    if twice.any():
        what = f"{count(len(np.unique(code[twice])), 'case')}, first view {names[place[twice][0]]!r}"
        raise InputError("a case has more than one image of one view", given=what,
                         todo="give each image its own view, each visit its own case (--case), or fuse any number of images: mean or attention")  # fmt: skip


# -- by time ------------------------------------------------------------------------------------------------------


def _by_time(cases: Cases, code: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank in time of each image within its case."""
    when = times(cases.table["time"])
    if blank := int(np.isnan(when).sum()):
        raise InputError("the fusion recurrent needs the time of every image", given=f"{blank:,} of {count(len(when), 'image')} have none, or none that can be read",
                         todo="name the column with --time; write dates as 2024-05-31 or numbers")  # fmt: skip
    table = pd.DataFrame({"case": code, "time": when})
    tied = table.duplicated(keep=False).to_numpy()
    if tied.any():
        raise InputError("two images of one case have the same time, so they have no order",
                         given=f"{count(len(np.unique(code[tied])), 'case')} of {count(int(code.max()) + 1, 'case')}",
                         todo="give --time a column that tells them apart, or fuse without an order: mean or attention")  # fmt: skip
    return table.groupby("case")["time"].rank(method="first").to_numpy(np.int64) - 1
