"""The FROC figure and page, from stored numbers only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.evaluation.detection import Localisation, Marks, judge_marks
from overread.reporting.figures.froc_curve import froc_figure
from overread.reporting.pages.froc import froc_page


@pytest.fixture
def found():
    rows = [(who, i, 3 - i / 10 + (who == "b"), i if i < 12 else -1) for who in "ab" for i in range(20)]
    table = pd.DataFrame(rows, columns=["reader", "image", "score", "hit"])
    return judge_marks(
        Marks(30, np.arange(12), np.arange(30), table, "the lesion that each mark names", ""), resamples=100
    )


def test_the_figure_says_n_rates_and_means(found):
    figure = froc_figure(found)
    assert "30 images of 30 patients, 12 lesions" in figure.svg
    assert "CAMELYON16" in figure.caption
    assert figure.svg.count("mean 100") == 2
    assert "⅛" not in figure.svg


def test_the_page_states_the_rules(found, tmp_path):
    page, *drawn = froc_page(found, tmp_path)
    text = page.read_text()
    assert "A lesion counts once, with its highest mark" in text
    assert "The lowest score is a threshold too" in text
    assert [p.name for p in drawn] == ["froc.svg", "froc.png"]


def test_no_curve_no_figure(tmp_path):
    counts = {"images": 3, "patients": 3, "lesions": 0, "images with lesions": 0}
    about = {"level": 0.95, "rates": [1.0], "rates of": "given", "hits": "the lesion that each mark names"}
    empty = Localisation((), {"": {"undefined": "0 lesions"}}, counts, about=about)
    assert froc_figure(empty) is None
    assert froc_page(empty, tmp_path)[0].exists()
