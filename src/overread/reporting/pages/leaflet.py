"""A short page of its own: what a command on a table writes for people, in the style of the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overread.errors import checked
from overread.record import write_text
from overread.reporting.figures.picture import Figure
from overread.reporting.pages.paper import environment
from overread.reporting.results import KeyNumber
from overread.reporting.sections import Table


@dataclass(frozen=True)
class Part:
    """A section of a page: its title, then sentences, tables and figures in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@checked
def leaflet(
    path: str | os.PathLike[str],
    title: str,
    summary: Sequence[str],
    parts: Sequence[Part],
    *,
    cautions: Sequence[str] = (),
    keys: Sequence[KeyNumber] = (),
) -> Path:
    """Write one HTML file that needs no network, and give its path.

    ``summary``: paragraphs at the top. ``cautions``: what a reader must know before believing the numbers. ``keys``: at most four
    numbers in large type.
    Parts without content are left out. All texts are escaped; figures stand in the page as SVG, the wide ones
    in a row of their own. Equal input gives equal bytes.
    """
    shown = [part for part in parts if part.paragraphs or part.tables or part.figures]
    page = environment().get_template("leaflet.html.j2")
    return write_text(
        path, page.render(title=title, summary=summary, cautions=cautions, parts=shown, keys=keys)
    )
