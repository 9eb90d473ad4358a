"""Figures of outlined objects: what they draw of the numbers that they are given, and when there is nothing to draw."""

from __future__ import annotations

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.reporting.case_rows import SizeRow
from overread.reporting.figures.instances import IouCurve, ap_over_iou, counts_against_counts, object_sizes
from overread.stats.estimate import Estimate

IOU = (0.5, 0.7, 0.9)


def test_the_curve_holds_the_numbers_of_each_group():
    made = ap_over_iou([IouCurve("all", IOU, (0.9, 0.6, 0.1), (0.8, 0.5, 0.0), (0.95, 0.7, 0.2)), IouCurve("stained", IOU, (0.7, 0.4, 0.05))], "9 images")  # fmt: skip
    (axes,) = made.drawing.axes
    assert [line.get_label() for line in axes.lines] == ["all", "stained"]
    assert axes.lines[1].get_ydata().tolist() == [0.7, 0.4, 0.05]
    assert len(axes.collections) == 1, "the band of the first alone"
    assert "stained 0.70 at 0.5, 0.05 at 0.9" in made.alt
    assert ap_over_iou([IouCurve("all", IOU, (np.nan,) * 3)], "") is None


def test_sizes_show_quartiles_of_each_source_the_largest_first():
    rows = [
        SizeRow("A", 5, 10.0, 20.0, 30.0, 40.0, 50.0, "µm²"),
        SizeRow("B", 100, 3.0, 25.0, 50.0, 75.0, 98.0, "µm²"),
        SizeRow("C"),
    ]
    made = object_sizes(rows)
    (axes,) = made.drawing.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["B, n = 100", "A, n = 5"]
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches] == [(25.0, 75.0), (20.0, 40.0)]
    assert "105 true objects" in axes.get_title(loc="left")
    assert "µm²" in axes.get_xlabel()
    assert object_sizes([SizeRow("C")]) is None


def test_counts_lie_at_their_mean_and_difference_with_bias_and_limits():
    bias = Estimate("count error", -1.0, -2.0, 0.0)
    made = counts_against_counts([10, 20, 4], [8, 20, 3], ["A", "B", "A"], bias, (-3.5, 1.5))
    (axes,) = made.drawing.axes
    points = {line.get_label(): np.stack(line.get_data(), axis=1).tolist() for line in axes.lines if line.get_marker() in "os"}  # fmt: skip
    assert points == {"A, n = 2": [[9.0, -2.0], [3.5, -1.0]], "B, n = 1": [[20.0, 0.0]]}
    level = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "None"]
    assert level == [0, -1.0, -3.5, 1.5]
    assert counts_against_counts([], [], []) is None
    with pytest.raises(ArgumentError, match="two counts"):
        counts_against_counts([1], [1, 2], ["A"])


def test_many_sources_are_drawn_together_from_the_sixth_on():
    made = counts_against_counts(np.arange(9), np.arange(9), list("AABCDEFGH"))
    labels = [line.get_label() for line in made.drawing.axes[0].lines if line.get_marker() != "None"]
    assert labels[-1] == "3 other sources, n = 3"
    assert sum(int(label.rpartition("= ")[2]) for label in labels) == 9
