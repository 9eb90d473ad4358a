"""The map of cases: a panel each by label, prediction and source, whose points say which case they are."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import COLOURS, SOFT, Figure, label

_SIDE, _GAP, _TOP, _ROW = 300, 20, 26, 16
#: Kinds that have a colour of their own; the rest are grey.
_MOST = len(COLOURS) - 1
_PANELS = (("label", "By label"), ("predicted", "By prediction"), ("source", "By source"))
#: What the columns of classes at a level of a tree begin with.
AT_LEVEL = "at:"


@checked
def cases_map(table: pd.DataFrame, x: str, y: str, name: str, title: str, caption: str) -> Figure | None:
    """The points of ``index/map.csv`` by two of its columns; None where these hold nothing.

    Each point has a title that says case, label, prediction and source: a browser shows it under the pointer, without a
    script.
    """
    places = table[[x, y]].to_numpy(float)
    known = np.isfinite(places).all(axis=1)
    if known.sum() < 2:
        return None
    table, places = table[known].reset_index(drop=True), places[known]
    low, high = places.min(axis=0), places.max(axis=0)
    at = (places - low) / np.maximum(high - low, 1e-9) * (_SIDE - 12) + 6
    at[:, 1] = _SIDE - at[:, 1]
    levels = [
        (column, f"By {words.name(column.removeprefix(AT_LEVEL), 30)}")
        for column in map(str, table)
        if column.startswith(AT_LEVEL)
    ]
    panels = [
        (column, head) for column, head in (_PANELS[0], *levels, *_PANELS[1:]) if table[column].astype(str).ne("").any()
    ]
    told = [escape("; ".join(f"{what}: {row[key]}" for key, what in (("label", "label"), ("predicted", "predicted"), ("source", "source"))
                             if str(row[key])) + f" ({row['case']})") for row in table.to_dict("records")]  # fmt: skip
    drawn, tallest = [], 0
    for place, (column, head) in enumerate(panels):
        values = table[column].astype(str)
        kinds = [str(kind) for kind in values.value_counts().index[:_MOST]]
        colour = {kind: COLOURS[i] for i, kind in enumerate(sorted(kinds))}
        points = "".join(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="2.6" fill="{colour.get(value, SOFT)}"><title>{text}</title></circle>'
                         for (cx, cy), value, text in zip(at, values, told, strict=True))  # fmt: skip
        more = ["others"] if values.nunique() > len(kinds) else []
        keys = "".join(f'<circle cx="8" cy="{_SIDE + 14 + _ROW * i}" r="4" fill="{colour.get(kind, SOFT)}"/><text x="18" y="{_SIDE + 18 + _ROW * i}">{escape(words.name(kind, 34) or "unknown")}</text>'
                       for i, kind in enumerate([*sorted(kinds), *more]))  # fmt: skip
        tallest = max(tallest, _TOP + _SIDE + 20 + _ROW * (len(kinds) + len(more)))
        frame = f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="{SOFT}" stroke-width="0.6"/>'
        drawn.append(
            f'<g transform="translate({place * (_SIDE + _GAP) + 1},{_TOP})"><text x="0" y="-9" font-weight="600">{head}</text>{frame}<g fill-opacity="0.7">{points}</g>{keys}</g>'
        )
    width = len(panels) * (_SIDE + _GAP) - _GAP + 2
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tallest}" font-size="12" font-family="Helvetica Neue, Arial, sans-serif" fill="currentColor">{"".join(drawn)}</svg>'
    alt = f"{words.count(len(table), 'case')} as points, coloured " + ", ".join(head.lower() for _, head in panels)
    return Figure(name, title, alt, f"N = {len(table):,} cases. {caption}", label(svg, name, title, alt), True)
