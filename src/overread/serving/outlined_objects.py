"""Outlined objects as REST answers them: polygons along the edges of pixels, and measures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from overread.core.errors import checked
from overread.images.outlines.outlines import Outlines
from overread.images.outlines.polygons import object_polygons
from overread.serving.rest import ObjectOf, OutlineAnswer, rounded
from overread.study.cells.outline_reader import numbers_of


@checked
def outline_answer(found: Outlines, measures: pd.DataFrame, facts: Sequence[str], digits: int) -> OutlineAnswer:
    """Every object of an image; measures rounded to ``digits``, corners are whole numbers."""
    rows = {int(row["object"]): row for row in measures.to_dict("records")}
    objects = []
    for number, pieces in object_polygons(found.labels):
        told = rounded(numbers_of(rows.get(number, {})), digits)
        corners = [[ring.tolist() for ring in piece] for piece in pieces]
        objects.append(
            ObjectOf(number, found.classes[number - 1], told.pop("x", None), told.pop("y", None), told, corners)
        )
    height, width = found.size
    return OutlineAnswer(width, height, objects, list(facts))
