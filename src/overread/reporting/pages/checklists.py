"""The reporting checklists of a run: a page of all, and of each a Markdown file and a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from overread.core.errors import InputError, checked
from overread.core.files import write_csv, write_text
from overread.reporting import sections, words
from overread.reporting.checklist import HEAD, STANDARDS, Answer, Standard, fill_in, standard
from overread.reporting.page import Section, write_page
from overread.reporting.run import Run, read_run
from overread.reporting.words import Table


@checked
def write_checklists(folder: str | os.PathLike[str], names: Sequence[str] = STANDARDS) -> list[Path]:
    """Write ``checklists/<standard>.md`` and ``.csv``, and ``checklists/checklists.html``, into a run folder.

    The CSV has the columns item, section, what is asked, what the run says and ``page``, which stays empty for the
    authors. Raises InputError if the folder holds no study or one of its files is damaged.
    """
    run = read_run(folder)
    if not (run.study or run.audit or run.estimates):
        raise InputError(
            "the folder holds no run to report", given=run.place, todo="start with `overread run TABLE -o FOLDER`"
        )
    home, filled = run.folder / "checklists", [(each, fill_in(run, each)) for each in map(standard, names)]
    written = []
    for each, answers in filled:
        stem = each.name.lower().replace("+", "_").replace("-", "_")
        table = pd.DataFrame([(*a.row, "") for a in answers], columns=["item", "section", "asks", "found in the run", "page"])  # fmt: skip
        written += [write_text(home / f"{stem}.md", _markdown(run, each, answers)), write_csv(home / f"{stem}.csv", table)]  # fmt: skip
    lines = [f"{each.name}: {_count(answers)}." for each, answers in filled]
    page = write_page(home / "checklists.html", f"Reporting checklists: {sections.title(run)}", lines, [_section(*both) for both in filled],
                      cautions=["A filled-in item is a beginning of an answer: read it, correct it, and add the page of the paper."])  # fmt: skip
    return [*written, page]


def _count(answers: Sequence[Answer]) -> str:
    known = sum(bool(a.found) for a in answers)
    return f"the run answers {known} of {len(answers)} items, at least in part; {len(answers) - known} only the authors can"


def _section(of: Standard, answers: Sequence[Answer]) -> Section:
    table = Table(of.edition, HEAD, tuple(a.row for a in answers), 4)
    return Section(of.name, (of.about, _count(answers).capitalize() + "."), (table,))


def _markdown(run: Run, of: Standard, answers: Sequence[Answer]) -> str:
    table, safe = words.markdown_table(HEAD, [a.row for a in answers]), words.markdown
    return f"# {of.name}: {safe(sections.title(run))}\n\n{safe(of.about)}\n\n{_count(answers).capitalize()}.\n\n{table}\n"  # fmt: skip
