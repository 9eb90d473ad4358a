"""Reporting standards, filled in from a run: what it knows is written down, what only people know is marked."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from overread.core.errors import InputError, checked, one_of
from overread.core.files import build, write_csv, write_text
from overread.reporting.facts import found
from overread.reporting.page import Part, leaflet
from overread.reporting.run import Run, gather
from overread.reporting.sections import Table, title

#: The standards by the names of their files.
STANDARDS = ("claim", "stard_ai", "tripod_ai")
#: What stands where the run has no answer.
OPEN = "To be completed by the authors."
_HOME = Path(__file__).parent / "checklists"


@dataclass(frozen=True)
class Item:
    """One item: its number in the standard, its section, what it asks in our words, and the facts that answer it."""

    number: str
    section: str
    asks: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standard:
    """A reporting standard: its edition, the publication, and where the list of its items was taken from."""

    name: str
    title: str
    edition: str
    source: str
    origin: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Answer:
    """An item with what the run says to it; empty where only the authors can answer."""

    item: Item
    found: tuple[str, ...]

    @property
    def text(self) -> str:
        """The answer as one paragraph."""
        return " ".join(self.found) or OPEN


@checked
def standard(name: str) -> Standard:
    """A reporting standard: ``claim``, ``stard-ai`` or ``tripod-ai``.

    >>> len(standard("claim").items), standard("tripod-ai").edition
    (44, '2024, 27 items')
    """
    known = one_of(name.lower().replace("-", "_").replace("+", "_"), STANDARDS, "the standard")
    return build(Standard, tomllib.loads((_HOME / f"{known}.toml").read_text("utf-8")), where=f"{known}.toml")  # type: ignore[no-any-return]


@checked
def fill_in(run: Run, asked: Standard) -> tuple[Answer, ...]:
    """Every item of a standard with what the run's files say to it."""
    return tuple(Answer(item, found(run, item.facts)) for item in asked.items)


@checked
def write_checklists(folder: str | os.PathLike[str], names: Sequence[str] = STANDARDS) -> list[Path]:
    """Write ``checklists/<standard>.md`` and ``.csv``, and ``checklists/checklists.html``, into a run folder.

    The CSV has the columns item, section, what is asked, what the run says and ``page``, which stays empty for the
    authors. Raises InputError if the folder holds no study or one of its files is damaged.
    """
    run = gather(folder)
    if not (run.study or run.audit or run.estimates):
        raise InputError(
            "the folder holds no run to report", given=run.place, todo="start with `overread run TABLE -o FOLDER`"
        )
    home, filled = run.folder / "checklists", [(each, fill_in(run, each)) for each in map(standard, names)]
    written = []
    for asked, answers in filled:
        stem = asked.name.lower().replace("+", "_").replace("-", "_")
        written += [write_text(home / f"{stem}.md", _markdown(run, asked, answers)), write_csv(home / f"{stem}.csv", _frame(answers))]  # fmt: skip
    summary = [f"{each.name}: {_count(answers)}." for each, answers in filled]
    page = leaflet(home / "checklists.html", f"Reporting checklists: {title(run)}", summary, [_part(*both) for both in filled],
                   cautions=["A filled-in item is a beginning of an answer: read it, correct it, and add the page of the paper."])  # fmt: skip
    return [*written, page]


def _count(answers: Sequence[Answer]) -> str:
    known = sum(bool(a.found) for a in answers)
    return f"the run answers {known} of {len(answers)} items, at least in part; {len(answers) - known} only the authors can"


def _frame(answers: Sequence[Answer]) -> pd.DataFrame:
    rows = [(a.item.number, a.item.section, a.item.asks, a.text, "") for a in answers]
    return pd.DataFrame(rows, columns=["item", "section", "asks", "found in the run", "page"])


def _about(asked: Standard) -> str:
    return f"{asked.title}, {asked.edition}. {asked.source}. {asked.origin}"


def _part(asked: Standard, answers: Sequence[Answer]) -> Part:
    rows = tuple((a.item.number, a.item.section, a.item.asks, a.text) for a in answers)
    head = ("Item", "Section", "What it asks, in our words", "What the run says")
    return Part(asked.name, (_about(asked), _count(answers).capitalize() + "."), (Table(asked.edition, head, rows, 4),))  # fmt: skip


def _markdown(run: Run, asked: Standard, answers: Sequence[Answer]) -> str:
    from overread.reporting.card import rows, safe

    table = [(a.item.number, a.item.section, a.item.asks, a.text) for a in answers]
    head = ("Item", "Section", "What it asks, in our words", "What the run says")
    return f"# {asked.name}: {safe(title(run))}\n\n{safe(_about(asked))}\n\n{_count(answers).capitalize()}.\n\n{rows(table, head)}\n"
