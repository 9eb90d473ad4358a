"""What one case is called where a label has two frozen points."""

from __future__ import annotations

import numpy as np

from overread.evaluation.decision.single_case import Standards
from overread.evaluation.operating_point import BOTH, OperatingPoint
from overread.stats.estimate import Estimate
from overread.tasks.target import Target


def _point(of: str, name: str, threshold: float, kind: str) -> OperatingPoint:
    return OperatingPoint(threshold, (of,), f"{kind} ≥ 0.9", "", 0.9, 0.9, criterion=(kind, 0.9), name=name)


def _both(of: str) -> tuple[OperatingPoint, OperatingPoint]:
    return _point(of, BOTH[0], 0.2, "sensitivity"), _point(of, BOTH[1], 0.7, "specificity")


def test_both_points_are_told_and_the_first_calls() -> None:
    at = {name: Estimate("sensitivity", value, 0.1, 0.95, 0.95, "", 10, 10, "ill", where={"operating point": name}) for name, value in zip(BOTH, (0.9, 0.5), strict=True)}  # fmt: skip
    standards = Standards(Target("binary", ("ill", "well"), ("ill",)), _both("ill"), None, tuple(at.values()))
    calls = standards.calls(np.array([0.4, 0.6]))
    assert [(call.positive, call.at) for call in calls] == [
        (True, "at 90 % sensitivity"),
        (False, "at 90 % specificity"),
    ]
    assert [call.sensitivity.value for call in calls if call.sensitivity] == [0.9, 0.5]
    assert standards.called(np.array([0.4, 0.6]), calls) == ("ill", "score ≥ 0.2, frozen on tuning data")


def test_findings_are_called_by_the_first_of_their_points() -> None:
    standards = Standards(Target("findings", ("a", "b")), (*_both("a"), *_both("b")))
    scores = np.array([0.1, 0.4])
    assert standards.called(scores, standards.calls(scores)) == ("b", "each at its first point, at 90 % sensitivity")
