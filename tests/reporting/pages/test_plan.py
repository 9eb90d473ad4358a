"""The page and the figures of a plan."""

from __future__ import annotations

from overread.evaluation.sample_size import Plan, plan
from overread.reporting.pages.plan import cautions, draw_plan, plan_page


def test_a_figure_for_each_goal(tmp_path):
    found = plan(sensitivity=0.9, specificity=0.85, width=0.05, prevalence=0.1)
    paths = plan_page(Plan.load(found.save(tmp_path)), tmp_path)
    assert [p.name for p in paths if p.suffix == ".svg"] == ["patients-1.svg", "patients-2.svg"]
    page = paths[0].read_text()
    assert f"{found.needed.patients:,}" in page
    assert "varies around prevalence" in page
    for figure, size in zip(draw_plan(found), found.sizes):
        assert f"{size.patients:,}" in figure.caption


def test_the_power_figure_ends_where_it_was_asked():
    found = plan(auc=0.9, against=0.88, margin=0.05, images=2)
    (figure,) = draw_plan(found)
    assert "Power" in figure.svg
    assert any("correlation within patients" in said for said in cautions(found))
