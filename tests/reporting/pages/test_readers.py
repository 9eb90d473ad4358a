"""Figures and the page of a reader study, from stored numbers only."""

from __future__ import annotations

import math

import pytest

from overread.evaluation.curves import Range, ReaderPoint, RocCurve
from overread.evaluation.readers.contrasts import MEAN, MODEL, AgreementMatrix, Contrast
from overread.evaluation.readers.reader_study import ModelCurve, ReaderCurves, Reading
from overread.reporting.figures.readers import agreement_figure, called, difference_figure, roc_figure
from overread.reporting.pages.readers import readers_page
from overread.stats.estimate import Difference, Estimate


def estimate(metric, value, **where):
    return Estimate(
        metric, value, value - 0.05, value + 0.05, images=90, patients=80, method="Wilson", of="mel", where=where
    )


def point(who, sensitivity, specificity):
    return ReaderPoint(who, *(Range(v, v - 0.05, v + 0.05) for v in (sensitivity, specificity)))


def contrast(metric, who, value, p, **where):
    gap = estimate(f"{metric} difference", value)
    made = Difference(estimate(metric, 0.8), estimate(metric, 0.8 - value), gap, 0.02, value / 0.02, p)
    return Contrast(made, {"reader": who, **where}, 7.0)


@pytest.fixture
def reading():
    people = [
        estimate(m, v, reader=r)
        for r in ("Dr <A>", "b", "c", MEAN, MODEL)
        for m, v in (("sensitivity", 0.8), ("specificity", 0.9))
    ]
    none = math.nan
    pairs = AgreementMatrix("kappa", ("Dr <A>", "b", "c"), ((none, 0.61, 0.2), (0.61, none, 0.9), (0.2, 0.9, none)))
    model = ModelCurve(RocCurve((0.0, 0.2, 1.0), (0.0, 0.9, 1.0)), point(MODEL, 0.8, 0.9))
    curves = ReaderCurves(model, (point("Dr <A>", 0.7, 0.8), point("b", 0.9, 0.7), point(MEAN, 0.8, 0.75)))
    contrasts = (contrast("sensitivity", MEAN, 0.031, 0.04), contrast("auc", "b", 0.012, 0.5),
                 contrast("sensitivity", "b", -0.07, 0.2, at="the reader's specificity"))  # fmt: skip
    counts = {"images": 90, "patients": 80, "positives": 30, "negatives": 60, "readers": 3,
              "modalities": {"": {"readers": {"Dr <A>": 90, "b": 88, "c": 87}}}}  # fmt: skip
    about = {"level": 0.95, "modalities": [""], "reference": "truth"}
    ceiling = estimate("ceiling", 0.87)
    return Reading(
        (ceiling, *people), contrasts, {"": curves}, {"": pairs}, counts, None, ("five < six",), 2, "mel", about
    )


def test_the_page_tells_the_main_result_first(reading, tmp_path):
    page, *drawn = readers_page(reading, tmp_path)
    text = page.read_text()
    assert "Sensitivity of the model minus that of the mean reader: 3" in text.replace("\u00a0", " ")
    assert "no accuracy can pass 87" in text
    assert "looked at 2 times before" in text
    assert "Dr <A>" not in text
    assert "Dr &lt;A&gt;" in text
    assert "five &lt; six" in text.lower()
    assert {p.suffix for p in drawn} == {".svg", ".png"}


def test_roc_holds_every_reader_and_the_size(reading):
    figure = roc_figure(reading)
    assert "30 cases with, 60 cases without" in figure.svg
    assert "Readers (2)" in figure.svg
    assert "Mean reader" in figure.svg
    assert "Dr <A>: sensitivity 70" in figure.alt.replace("\u00a0", " ")


def test_differences_are_on_one_scale(reading):
    figure = difference_figure(reading)
    assert "Sensitivity at the same specificity" in figure.svg
    assert "0.03 (" in figure.svg  # beside an area, a share is a number too


def test_agreement_names_cohen_and_every_pair(reading):
    figure = agreement_figure(reading)
    assert "Cohen’s kappa" in figure.alt
    assert figure.svg.count(">0.61<") == 2
    assert agreement_figure(Reading((), matrix={"": AgreementMatrix()}, about={"modalities": [""]})) is None


def test_words():
    assert called("fleiss kappa") == "Fleiss’ kappa"
