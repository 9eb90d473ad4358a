"""A paper's table with our numbers beside it, as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from overread.core.errors import checked
from overread.core.phrases import count
from overread.evaluation.comparison.beside_paper import BesidePaper, BesideRow
from overread.reporting import words
from overread.reporting.page import Section, write_page
from overread.reporting.words import Table
from overread.stats.estimate import level_text


@checked
def published_page(
    found: BesidePaper, folder: str | os.PathLike[str], *, title: str, source: str, sections: Mapping[str, str]
) -> Path:
    """Write ``published.html`` into ``folder``, and give its path.

    ``title`` and ``source`` are those of the paper; ``sections``: what it says of each field, and how this differs.
    """
    beside = sum(row.ours is not None for row in found.rows)
    summary = [words.sentence(f"The recipe {found.system} follows “{title}”. Of {count(len(found.rows), 'number')} in the paper's table "
                              f"{beside} {'has' if beside == 1 else 'have'} one of this run beside it. They come from other images: they show "
                              "whether the method does what the paper says, not who is better.")]  # fmt: skip
    head = ("", f"{found.paper}", f"This run ({level_text(found.estimates)})", "Where the paper says it")
    table = Table("The paper's numbers and this run's", head, tuple(map(_row, found.rows)), len(head))
    smaller = [f"{words.name(line, 300)}." for line in found.reduced]
    left_out = [words.sentence(f"Left out: {line}") for line in found.left_out]
    told = Table("What the paper says, and how this recipe differs", ("", ""), tuple((words.name(name, 60), words.sentence(text, 900)) for name, text in sections.items()), 2)  # fmt: skip
    parts = [Section.of("The table", left_out, table), Section.of("Reduced", smaller), Section.of("Line by line", (), told if sections else None)]  # fmt: skip
    cautions = [words.sentence("Run in a reduced form: its numbers are those of a smaller study.")] if smaller else []
    return write_page(Path(folder) / "published.html", f"{found.paper}, beside this run", [*summary, words.sentence(source)], parts, cautions=cautions)  # fmt: skip


def _row(row: BesideRow) -> tuple[str, str, str, str]:
    ours = words.cell(row.ours, 3) if row.ours is not None else words.name(f"– {row.missing}", 300)
    return words.name(row.published.what, 200), str(row.published), ours, words.name(row.published.where, 200)
