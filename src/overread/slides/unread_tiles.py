"""Tiles that cannot be read though the overview of their slide was: they are left out of a training, and it is told how many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, paths
from overread.core.errors import checked
from overread.core.files import fingerprint, read_json, write_json
from overread.core.phrases import count
from overread.core.progress import Say
from overread.learning.loader import UnreadImagesError
from overread.learning.model import Model

__all__ = ["MOST_UNREAD", "teach_what_is_read", "torn_slides"]

T = TypeVar("T")

#: A slide of which more of the tiles, or of the places of a heat map, than this cannot be read is set aside.
MOST_UNREAD = 0.1


@checked
def torn_slides(slides: NDArray[np.int64], lost: NDArray[np.bool_], say: Say, where: str) -> NDArray[np.int64]:
    """The slides that are set aside, of the slide of each tile (N,) and whether it is lost (N,): those that lose more than
    :data:`MOST_UNREAD` of their tiles, and more than one. ``say`` hears how many tiles and slides there are."""
    each = pd.Series(lost).groupby(slides).agg(["sum", "size"])
    torn = each.index[(each["sum"] > 1) & (each["sum"] > MOST_UNREAD * each["size"])].to_numpy(np.int64)
    if lost.any():
        say(f"  tiles that cannot be read, left out: {int(lost.sum()):,} of {len(lost):,} in {where}, of {count(int((each['sum'] > 0).sum()), 'slide')}")  # fmt: skip
    if len(torn):
        rows = ", ".join(str(row + 1) for row in torn[:5].tolist()) + (", …" if len(torn) > 5 else "")
        say(f"  slides set aside, as more than {MOST_UNREAD:.0%} of their tiles cannot be read: {len(torn)} of {len(each)} in {where}: "
            f"number {rows} of the table; copy them anew from the scanner")  # fmt: skip
    return torn


def teach_what_is_read(
    drawn: T, *, cases_of: Callable[[T], Cases], without: Callable[[T, NDArray[np.int64]], T], teach: Callable[[T], Model], folder: Path | None
) -> tuple[Model, T]:  # fmt: skip
    """A model of tiles, taught again ``without`` the rows of ``cases_of(drawn)`` that cannot be read; and what is left of them.

    Nothing is read twice where all can be read. What was left out is kept in ``folder``, so that a training that was stopped goes
    on with the same tiles.
    """
    path = folder / "unread.json" if folder else None
    key = fingerprint(cases_of(drawn).table["image"].tolist())
    kept = read_json(path) if path and path.exists() else {}
    failures: list[list[int]] = kept["rows"] if kept.get("key") == key else []
    for rows in failures:
        drawn = without(drawn, np.array(rows, np.int64))
    while True:
        try:
            return teach(drawn), drawn
        except UnreadImagesError as error:
            found = np.flatnonzero(np.isin(paths(cases_of(drawn)), error.addresses))
            if not len(found):
                raise
            failures = [*failures, found.tolist()]
            if path:
                write_json(path, {"key": key, "rows": failures})
            drawn = without(drawn, found)
