"""Pages and figures of a comparison, drawn from its files alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.evaluation.comparison.compare import Comparison, compare
from overread.predictions import Predictions
from overread.reporting.figures.comparison import draw_comparison
from overread.reporting.pages.compare import comparison_page
from overread.tasks.target import Target


def table(kind, seed=0, prefix="c", name="<b>mel</b>"):
    rng, ill = np.random.default_rng(seed), np.random.default_rng(7).random(120) < 0.4
    frame = pd.DataFrame({"case": [f"{prefix}{i}" for i in range(120)], "patient": [f"{prefix}p{i // 2}" for i in range(120)],
                          "split": "", "source": "", "sex": np.where(np.arange(120) % 4 < 2, "f", "m")})  # fmt: skip
    if kind == "quantity":
        return Predictions(
            frame.assign(value=ill + 1.0, predicted=ill + rng.normal(size=120)), Target("quantity", ("value",))
        )
    score = 1 / (1 + np.exp(-(1.5 * ill + rng.normal(size=120))))
    if kind == "findings":
        names = (name, "nodule")
        more = {f"label:{n}": ill.astype(float) for n in names} | {f"p:{n}": score for n in names}
        return Predictions(frame.assign(**more), Target("findings", names))
    made = frame.assign(**{"label": np.where(ill, name, "nv"), "p:nv": 1 - score, f"p:{name}": score})
    return Predictions(made, Target("binary", ("nv", name), (name,)))


@pytest.fixture
def unsaved(monkeypatch):
    """Without files of figures: the page holds them."""
    monkeypatch.setattr("overread.reporting.page.save_figures", lambda figures, folder: [])


@pytest.mark.parametrize(("kind", "wanted"), [
    ("binary", {"claim", "differences", "subgroups", "roc", "net-benefit", "scores"}),
    pytest.param("findings", {"differences", "subgroups", "roc-1", "roc-2", "net-benefit-1", "net-benefit-2", "scores-1", "scores-2"},
                 marks=pytest.mark.slow),
    ("quantity", {"differences", "subgroups"}),
])  # fmt: skip
def test_figures_of_every_kind(kind, wanted, tmp_path):
    margin = 0.05 if kind == "binary" else None
    found = compare(
        table(kind, 1), table(kind, 2), by=["sex"], margin=margin, resamples=50, ledger=tmp_path / "l.jsonl"
    )
    figures = draw_comparison(Comparison.load(found.save(tmp_path)))
    assert {f.name for f in figures} == wanted
    for figure in figures:
        assert figure.alt
        assert figure.caption
        assert "images of" in figure.svg or "n =" in figure.svg


def test_a_name_from_the_data_cannot_enter_the_page(tmp_path, unsaved):
    found = compare(table("binary", 1), table("binary", 2), resamples=50, names=("<script>1</script>", "b"))
    comparison_page(found, tmp_path)
    page = (tmp_path / "comparison.html").read_text()
    assert "<script>1" not in page
    assert "<b>mel" not in page


def test_what_is_undefined_is_told(tmp_path, unsaved):
    first = table("binary", 1)
    hurt = replace(first, table=first.table.assign(**{"p:<b>mel</b>": np.nan}))
    found = compare(first, hurt, margin=0.05, claim="equivalence", resamples=50)
    comparison_page(found, tmp_path)
    page = (tmp_path / "comparison.html").read_text()
    assert "not finite" in page
    assert "post hoc" in page
    assert "cannot be judged" in page


def test_different_patients(tmp_path, unsaved):
    found = compare(table("binary", 1), table("binary", 2, prefix="d"), resamples=50)
    comparison_page(found, tmp_path)
    assert "on different patients" in (tmp_path / "comparison.html").read_text()
    assert {f.name for f in draw_comparison(found)} == {"differences", "roc"}
