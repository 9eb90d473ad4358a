"""Figures and pages of learning curves and shifts say what their JSON holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread.evaluation.generalisation.learning_curve import LearningCurve, Size, learning_curve
from overread.evaluation.generalisation.site_transfer import Shift, shift_matrix
from overread.predictions import Predictions
from overread.reporting import words
from overread.reporting.pages.curve_shift import curve_figure, curve_page, gaps_figure, matrix_figure, shift_page
from overread.tasks.target import Target

TARGET = Target("binary", ("well", "ill"), ("ill",))


def scored(skill: float, seed: int, *, source: str = "a", patients: int = 40) -> Predictions:
    rng = np.random.default_rng(seed)
    ill = np.arange(patients) % 2 == 0
    p = 1 / (1 + np.exp(-(rng.normal(size=patients) + skill * (ill - 0.5))))
    names = [f"{source}{i}" for i in range(patients)]
    table = pd.DataFrame({"case": names, "patient": names, "split": "", "source": source, "label": np.where(ill, "ill", "well"),
                          "p:well": 1 - p, "p:ill": p})  # fmt: skip
    return Predictions(table, TARGET)


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    steps = [(Size(float(n), n, n // 2), scored(s, seed)) for n, s in ((50, 0.5), (100, 1.5), (200, 2.2), (400, 2.5))
             for seed in (1, 2)]  # fmt: skip
    return learning_curve(steps, resamples=200, part="tuning")


@pytest.fixture(scope="module")
def shift() -> Shift:
    results = {
        (t, s): scored(3 if t == s else 1, i + 2 * j, source=s) for i, t in enumerate("ab") for j, s in enumerate("ab")
    }
    results["a", "few"], results["b", "few"] = (scored(1, k, source="few", patients=6) for k in (7, 8))
    return shift_matrix(results)


def texts(svg: str) -> str:
    return " ".join(re.findall(r"<(?:text|tspan)[^>]*>([^<]*)<", svg))


def test_a_curve_shows_sizes_patients_and_where_it_is_a_guess(curve) -> None:
    figure = curve_figure(curve)
    shown = texts(figure.svg)
    for text in (
        "50",
        "400",
        "25 patients",
        "800",
        "not tried",
        "extrapolated",
        "Training images",
        "Tested on 40 images of 40 patients",
    ):
        assert text in shown, text
    assert all(words.in_sentence(s.estimate) in figure.alt for s in curve.steps)
    assert "no further" in figure.caption


def test_a_curve_without_a_law_and_over_grades(curve) -> None:
    steps = [(float(k), scored(s, k)) for k, s in ((1, 1.0), (2, 1.2), (3, 1.5))]
    figure = curve_figure(learning_curve(steps, unit="grades per image", resamples=100))
    shown = texts(figure.svg)
    assert "Grades per training image" in shown
    assert "extrapolated" not in shown


def test_the_pages_hold_every_number(curve, shift, tmp_path: Path) -> None:
    pages = curve_page(tmp_path / "c", curve, notes=["A note."], cautions=["Beware."])
    assert {p.name for p in pages} == {"learning-curve.svg", "learning-curve.png", "curve.html"}
    html = pages[-1].read_text("utf-8")
    for text in ("A note.", "Beware.", "Doubling the images", *(words.value(s.estimate) for s in curve.steps)):
        assert text in html
    pages = shift_page(tmp_path / "s", shift)
    assert {p.name for p in pages} == {
        "shift-matrix.svg",
        "shift-matrix.png",
        "shift-gaps.svg",
        "shift-gaps.png",
        "shift.html",
    }
    html = pages[-1].read_text("utf-8")
    assert all(words.value(c.estimate) in html for c in shift.cells if not c.estimate.undefined)
    assert "fewer than 10 patients" in html
    assert "nan" not in html.lower().replace("dominant", "")


def test_pages_drawn_again_from_what_was_stored_are_the_same(curve, shift, tmp_path: Path) -> None:
    curve.save(tmp_path)
    shift.save(tmp_path)
    assert curve_figure(LearningCurve.load(tmp_path)).svg == curve_figure(curve).svg
    again = Shift.load(tmp_path)
    assert matrix_figure(again).svg == matrix_figure(shift).svg
    assert gaps_figure(again).svg == gaps_figure(shift).svg


def test_every_field_of_the_matrix_has_its_number_and_patients(shift) -> None:
    figure = matrix_figure(shift)
    shown = texts(figure.svg)
    for c in shift.cells:
        assert f"n = {c.estimate.patients}" in shown
        assert (words.value(c.estimate) if not c.estimate.undefined else "not judged") in shown
    assert "Tested at" in shown
    assert "n = 40 and 46" in texts(gaps_figure(shift).svg)


def test_nothing_to_judge_is_drawn_all_the_same(tmp_path: Path) -> None:
    found = shift_matrix({("a", "a"): scored(1, 0, patients=4), ("a", "b"): scored(1, 1, source="b", patients=4)})
    assert len(shift_page(tmp_path, found)) == 5
    steps = [(n, scored(1, n).take(np.arange(40) % 2 == 0)) for n in (10, 20)]
    assert len(curve_page(tmp_path, learning_curve(steps, resamples=50))) == 3
