"""Outlines in a browser: their colours and strokes, what is hovered, and nothing that a page could not hold."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest

from overread.core.errors import ArgumentError
from overread.reporting.case_rows import OutlineShape, OverlayEntry
from overread.reporting.figures.canvas import themed
from overread.reporting.figures.outlines import STROKES, counted, legend, overlay

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = tuple(OutlineShape(status, f"M{place} 0L{place} 9L0 9Z", f"object {place} <b>") for place, status in enumerate(STROKES, 1))  # fmt: skip
ENTRY = OverlayEntry("c", "worst", "A", 0.4, {"hit": 3, "miss": 1}, "", 20, 10, 0, 0, (20, 10), 1.0, False, SHAPES)


def lightness(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def test_every_object_is_drawn_once_under_its_status_and_tells_what_it_is():
    made = overlay(ENTRY, "data:image/jpeg;base64,AAAA", "case 1", "overlay-1")
    root = ElementTree.fromstring(made.svg)
    groups = [group for group in root.iter(f"{SVG}g") if group.get("class") == "objects"]
    assert [group.get("id") for group in groups] == [f"overlay-1-{status}" for status in STROKES]
    assert [path.find(f"{SVG}title").text for group in groups for path in group] == [shape.said for shape in SHAPES]
    assert {use.get("href") for use in root.iter(f"{SVG}use")} == {f"#{group.get('id')}" for group in groups}
    assert root.get("viewBox") == "0 0 20 10"
    assert root.find(f"{SVG}image").get("href").startswith("data:image/jpeg")


def test_strokes_differ_without_colour_and_stay_themselves_on_a_dark_page():
    told = [(stroke.dashes, stroke.width) for status, stroke in STROKES.items() if status != "found"]
    assert all(a[0] != b[0] for a, b in itertools.combinations(told, 2)), "two with the same dashes"
    made = overlay(ENTRY, "", "case 1", "overlay-1").svg
    for stroke in STROKES.values():
        assert stroke.colour in themed(made)
        assert lightness(stroke.colour) > 0.15, "too dark for a dark image"


def test_the_caption_says_window_and_brightness():
    large = OverlayEntry("c", full=(900, 300), width=128, height=128, counts={"hit": 1, "miss": 2}, brighter=3.5)
    said = overlay(large, "", "case 1", "x").caption
    assert "128 × 128 pixels of 900 × 300" in said
    assert "3.5 times brighter" in said
    assert "kept back" in overlay(OverlayEntry("c", withheld=True, width=2, height=2), "", "case 1", "x").caption
    assert overlay(ENTRY, "", "case 1", "x").caption == "3 found, 1 missed; 0 false, 0 merges, 0 pieces."


def test_the_legend_tells_what_is_drawn_and_refuses_what_is_not_known():
    made = legend(["miss", "hit"])
    root = ElementTree.fromstring(made.svg)
    assert [text.text for text in root.iter(f"{SVG}text")] == [STROKES["hit"].meaning, STROKES["miss"].meaning]
    with pytest.raises(ArgumentError, match="merge"):
        legend(["merged"])
    assert counted({"found": 1}) == "1 object found"
