"""What figures are made of: axes, bands, forests; each shows what it was given, in SVG and in PNG."""

from __future__ import annotations

import io
import math
import re
import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from overread.evaluation.curves import Range, ReaderPoint
from overread.reporting import words
from overread.reporting.figures.canvas import (
    DPI,
    STROKES,
    ForestRow,
    curve_with_band,
    finish,
    forest_rows,
    percent_axis,
    reader_points,
    roc_axes,
    save_figures,
    sheet,
)
from overread.stats.estimate import Estimate, undefined


def text_of(svg: str) -> str:
    found = ElementTree.fromstring(svg).iter()
    said = " ".join("".join(e.itertext()) for e in found if e.tag.endswith("text"))
    return said.replace("\u00a0", " ")


def rows():
    return [
        ForestRow("All test cases", Estimate("auc difference", 0.01, -0.03, 0.06), "500", whole=True),
        ForestRow("sex"),
        ForestRow("<female & co>", Estimate("auc difference", -0.06, -0.1, -0.01), "200", note="p = 0.030"),
        ForestRow("unknown", undefined("auc difference", "fewer than 10 patients"), "3"),
    ]


def forest(**changes):
    terms = {
        "name": "gaps",
        "title": "Gaps",
        "across": "Difference of AUC",
        "size": "9 images of 3 patients",
        "line": 0.0,
    }
    return forest_rows(rows(), **{**terms, **changes})


def test_a_forest_has_names_n_and_numbers():
    said = text_of(forest().svg)
    for text in ("All test cases, n = 500", "0.01 (−0.03 to 0.06)", "<female & co>, n = 200",
                 "−0.06 (−0.10 to −0.01); p = 0.030", "unknown, n = 3", "fewer than 10 patients", "Difference of AUC",
                 "9 images of 3 patients"):  # fmt: skip
        assert text in said, text
    assert "95 % intervals" in forest().caption.replace("\u00a0", " ")
    assert "margin" in forest(margin=-0.05).caption
    assert "margin" not in forest().caption


def test_a_forest_of_shares_is_in_percent():
    figure = forest_rows(
        [ForestRow("a", Estimate("set coverage", 0.91, 0.85, 0.95), "9")], name="x", title="X", across="Share"
    )
    assert "91.0 % (85.0 – 95.0)" in text_of(figure.svg)
    assert re.search(r"\d %", text_of(figure.svg).replace("91.0 %", ""))


def test_a_forest_of_nothing_defined_is_drawn():
    empty = [ForestRow("a", undefined("auc", "0 positives"), "0"), ForestRow("b", Estimate("auc", math.nan))]
    assert "0 positives" in text_of(forest_rows(empty, name="x", title="X", across="AUC").svg)


def one(**changes):
    terms = {"low": [0, 0.5, 1], "high": [0.1, 0.8, math.nan], "label": "a model", "rank": 1, **changes}
    with sheet(4.3, 4.1) as drawing:
        axes = drawing.subplots()
        roc_axes(axes, "9 images of 3 patients")
        curve_with_band(axes, [0, 0.5, 1], [0, math.nan, 1], **terms)
        readers = [ReaderPoint("A", Range(0.8, 0.7, 0.9), Range(0.7)), ReaderPoint("B", Range(), Range(0.7))]
        reader_points(axes, readers)
        axes.legend()
        return finish(drawing, "roc", "ROC", "alt", "caption")


def test_a_curve_has_a_stroke_of_its_own_and_readers_stand_on_it():
    figure = one()
    said = text_of(figure.svg)
    assert "a model" in said
    assert "Readers (2)" in said
    assert "1 − specificity" in said
    assert "stroke-dasharray" in one(rank=1).svg
    assert len({str(stroke) for stroke in STROKES}) == len(STROKES)


def test_the_figure_tells_whether_it_is_wide():
    assert forest().wide is True
    assert one().wide is False


def test_png_is_white_printable_and_equal(tmp_path, print_form):
    figures = [one(), forest()]
    with print_form():
        written = save_figures(figures, tmp_path / "a")
    assert [p.name for p in written] == ["roc.svg", "roc.png", "gaps.svg", "gaps.png"]
    data = (tmp_path / "a/roc.png").read_bytes()
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (round(4.3 * DPI), round(4.1 * DPI))
    assert DPI >= 200
    assert picture.mode == "RGB"
    assert picture.getpixel((1, 1)) == (255, 255, 255)
    assert np.asarray(picture).std() > 10  # something is drawn
    at = data.index(b"pHYs") + 4
    assert struct.unpack(">II", data[at : at + 8])[0] == pytest.approx(DPI / 0.0254, abs=1)
    with print_form():
        again = save_figures([one(), forest()], tmp_path / "b")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written]


def test_png_only_where_it_is_wanted(tmp_path):
    assert [p.suffix for p in save_figures([one()], tmp_path, png=False)] == [".svg"]


def test_percent_ticks_have_the_digits_they_need():
    with sheet(3, 3) as drawing:
        axes = drawing.subplots()
        percent_axis(axes.xaxis)
        axes.set_xticks([-0.025, 0, 0.1])
        said = text_of(finish(drawing, "x", "x", "x", "").svg)
    assert "−2.5 %" in said
    assert "10 %" in said


def test_words_of_what_is_new():
    assert words.label("auc gap") == "AUC, gap"
    assert words.is_percentage("sensitivity difference")
    assert words.label("own gap") == "own, gap"
    assert words.label("gap") == "gap"
    assert words.percent(-0.07).replace("\u00a0", " ") == "−7 %"
    assert words.number(-0.0001) == "−0.0001"
    assert words.number(-1e-12) == "0.000"
    assert words.interval(Estimate("auc gap", 0, -0.1, 0.1)) == "−0.100 to 0.100"
    assert words.interval(Estimate("auc", 0.5, 0.4, 0.6), 2) == "0.40 – 0.60"
