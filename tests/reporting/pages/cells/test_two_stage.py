"""The pages of two stages and of explained cells: every number of the result, and hostile names as text."""

from __future__ import annotations

from examples import EXAMPLES, HOSTILE

from overread.reporting.pages.cells.two_stage import explained_cells_page, two_stage_page


def test_the_page_of_two_stages(tmp_path) -> None:
    (found,) = (make() for make in EXAMPLES["TwoStages"])
    page, *figures = two_stage_page(found, tmp_path)
    text = page.read_text("utf-8")
    assert "What each stage costs" in text
    assert "0.900" in text
    assert "0.150" in text
    assert "Most is lost in segmentation" in text
    assert "900" in text
    assert HOSTILE not in text
    assert {path.name for path in figures} >= {"two-stages.svg", "ceiling.svg"}


def test_the_page_of_explained_cells(tmp_path) -> None:
    (found,) = (make() for make in EXAMPLES["ExplainedCells"])
    page, *figures = explained_cells_page(found, tmp_path, ("c1: cell 3 40% of 12 cells",))
    text = page.read_text("utf-8")
    assert "finds the cells that matter" in text
    assert "better than random weights" in text
    assert "cell 3 40% of 12 cells" in text
    assert HOSTILE not in text
    assert {path.name for path in figures} >= {"explained-cells.svg"}
