"""A page of sections: what it is given, escaped, without a network, in equal bytes."""

from __future__ import annotations

import re
from pathlib import Path

from overread.reporting.figures.canvas import Figure
from overread.reporting.main_results import KeyNumber
from overread.reporting.page import Section, write_page
from overread.reporting.words import Table

NASTY = "<script>alert('x')</script> & {{ 1 }}"


def made(path: Path) -> str:
    figure = Figure("roc", NASTY, NASTY, NASTY, '<svg role="img"></svg>', wide=True)
    table = Table(NASTY, (NASTY, "b"), ((NASTY, "2"),))
    parts = [Section(NASTY, (NASTY,), (table,), (figure,)), Section("Empty"), Section("Last", ("x",))]
    write_page(path, NASTY, [NASTY, "second"], parts, cautions=[NASTY], keys=[KeyNumber("AUC", "0.91", NASTY, "n")])
    return path.read_text(encoding="utf-8")


def test_everything_is_escaped_but_the_drawing(tmp_path):
    page = made(tmp_path / "page.html")
    assert "<script" not in page
    assert "alert" in page
    assert '<svg role="img"></svg>' in page
    assert 'class="wide"' in page
    assert "{{ 1 }}" in page  # no template within a template


def test_parts_without_content_are_left_out_and_numbered(tmp_path):
    page = made(tmp_path / "page.html")
    assert "Empty" not in page
    assert re.findall(r'<span class="no">(\d+)</span>', page) == ["1", "2"]


def test_no_network(tmp_path):
    page = made(tmp_path / "page.html")
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "default-src 'none'" in page
    assert "url(" not in page.replace("url(#", "")


def test_equal_bytes(tmp_path):
    assert made(tmp_path / "a.html") == made(tmp_path / "b.html")
