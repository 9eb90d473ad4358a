"""Who the patients of each part are: the table that every reporting standard asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.errors import checked
from overread.evaluation.subgroups import MOST_GROUPS, bands, by_size


@checked
def characteristics(cases: Cases, parts: Split, by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Images and patients of each part in every group of the columns ``by``, of the source and of the label.

    A list of ``{"column", "group", "parts": {part: {"images", "patients"}}}``. A patient counts in each group that one
    of the images is in, so groups may add up to more than all. Columns with one group, with more than fifty, or that
    are not there, are left out.

    >>> table = pd.DataFrame({"sex": ["f", "f", "m"], "patient": ["a", "a", "b"], "part": ["train", "train", "test"]})
    >>> [(row["group"], row["parts"]) for row in counted(table, "sex")]  # doctest: +NORMALIZE_WHITESPACE
    [('f', {'train': {'images': 2, 'patients': 1}, 'test': {'images': 0, 'patients': 0}}),
     ('m', {'train': {'images': 0, 'patients': 0}, 'test': {'images': 1, 'patients': 1}})]
    """
    of = parts.table.drop_duplicates("case").set_index("case")["part"]
    table = cases.table.assign(part=cases.table["case"].map(of)).dropna(subset=["part"])
    wanted = [c for c in dict.fromkeys(("label", "source", *by)) if c in table.columns]
    return [row for column in wanted for row in counted(table, column)]


def counted(table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """The rows of one column; none where it tells nothing."""
    group = bands(table[column])
    names = [name for name in group.unique() if name != ""]
    if not 1 < len(names) <= MOST_GROUPS:
        return []
    parts = [part for part in ("train", "tuning", "test") if (table["part"] == part).any()]
    return [
        {
            "column": column,
            "group": name,
            "parts": {part: _numbers(table[(group == name) & (table["part"] == part)]) for part in parts},
        }
        for name in sorted(map(str, names), key=by_size)
    ]


def _numbers(rows: pd.DataFrame) -> dict[str, int]:
    return {"images": len(rows), "patients": int(rows["patient"].nunique())}
