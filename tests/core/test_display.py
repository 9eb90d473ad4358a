"""What a notebook shows: bounded, escaped, legible on any ground; and what can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from overread.core.display import CELL, COLUMNS, NOTES, ROWS, Overview, Panel, Shown, first_sentence, panel_of, written

HOSTILE = "<script>alert('x')</script>&amp;\"' \x1b[31m\n"


class Reader(HTMLParser):
    """The tags and the text of a page; a tag that is not closed is found."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.open, self.cells, self.text = [], [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(shown) -> Reader:
    found = Reader(shown._repr_html_())
    assert not found.open
    return found


def test_what_the_data_say_is_text_and_never_a_tag():
    page = read(Overview(HOSTILE, (Panel((HOSTILE,), ((HOSTILE,),), HOSTILE),), (HOSTILE,)))
    assert "script" not in page.tags
    assert page.text.count("<script>alert('x')</script>&amp;\"'") == 5
    assert "\x1b" not in page.text


def test_what_is_long_is_cut_and_says_of_how_many():
    many = Panel(("n",), tuple((i,) for i in range(1000)))
    page = read(Overview("numbers", (many,), tuple(f"note {i}" for i in range(50))))
    assert page.tags.count("tr") == ROWS + 1
    assert f"… {ROWS} of 1,000" in page.text
    assert f"… {NOTES} of 50 notes" in page.text
    assert f"… {ROWS} of 1,000" in str(Overview("numbers", (many,)))
    long = read(Overview("x", (Panel(("a",), (("y" * 10_000,),)),)))
    assert max(map(len, long.cells)) <= CELL + 2


def test_wide_frames_are_cut_and_keep_their_numbers():
    frame = pd.DataFrame(np.arange(300.0).reshape(5, 60), columns=[f"c{i}" for i in range(60)])
    panel = panel_of(frame, "All")
    assert panel.head == tuple(f"c{i}" for i in range(COLUMNS))
    assert panel.caption == f"All, {COLUMNS} of 60 columns"
    assert panel.rows[4][3] == 243.0
    assert panel_of(pd.DataFrame({"n": [np.int64(7)], "x": [np.float32(0.5)]})).rows == ((7, 0.5),)


def test_no_colour_of_the_ground_is_taken_for_granted():
    page = Overview("x", (Panel(("a",), ((1,),)),))._repr_html_()
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "color:inherit" in style
    assert "#" not in style
    assert "url(" not in style


@pytest.mark.parametrize(
    ("cell", "said"),
    [(None, "–"), (np.nan, "–"), (pd.NA, "–"), (pd.NaT, "–"), (0.123456, "0.1235"), (12345, "12,345"), (False, "no"), ("a", "a"), ((1, 2), "(1, 2)")],
)  # fmt: skip
def test_a_cell_is_written_in_few_characters(cell, said):
    assert written(cell) == said


@dataclass(frozen=True)
class Thing(Shown):
    """A thing. It has a size.

    ``size``: how large it is.
    """

    size: int = 3
    name: str = "<b>"

    @property
    def twice(self) -> int:
        """Two times the size, always."""
        return 2 * self.size

    def grown(self, by: int) -> Thing:
        """The thing, larger. Raises nothing."""
        return Thing(self.size + by)


def test_a_class_gets_everything_by_inheriting():
    thing = Thing()
    assert thing.to_frame().to_dict("records") == [{"size": 3, "name": "<b>"}]
    assert read(thing).cells[2:] == ["size", "3", "name", "<b>"]


def test_help_is_made_from_the_fields_and_docstrings():
    told = str(Thing().help())
    assert told.startswith("Thing: A thing. It has a size.")
    for line in (
        ".size",
        ".twice       ",
        "Two times the size, always.",
        ".grown(by)",
        "The thing, larger.",
        "note: size: how large it is.",
    ):
        assert line in told, line
    assert "Raises nothing" not in told
    assert "grown(by)" in read(Thing().help()).text


def test_a_wrong_name_names_the_nearest():
    with pytest.raises(AttributeError, match=r"Thing has no 'twise'; did you mean 'twice'\?"):
        _ = Thing().twise
    assert not hasattr(Thing(), "_ipython_display_")
    assert getattr(Thing(), "undefined", "") == ""


def test_the_first_sentence_ends_with_a_full_stop_and_not_within_a_number():
    assert first_sentence("About .5 of :class:`.Thing`, e.g. more; then. Rest") == "About .5 of Thing, e.g."
    assert first_sentence("") == ""
