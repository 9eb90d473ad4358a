"""What tuning data freeze of a study's rule: operating points, the decision among classes; and the margin that is declared before the test is opened."""

from __future__ import annotations

from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.comparison.claims import Declaration, declare
from overread.evaluation.decision.choose_decision import choose_decision
from overread.evaluation.decision.class_decision import Frozen
from overread.evaluation.operating_point import OperatingPoint, choose_thresholds
from overread.predictions import Predictions
from overread.study.question import OperatingRule, Study


@checked
def frozen_by(rule: OperatingRule, tuning: Predictions, seed: int = 0) -> tuple[Frozen, ...]:
    """The points at which sensitivity and specificity are told, and of several classes the decision rule, chosen on
    tuning predictions."""
    points = thresholds_by(rule, tuning)
    if not (tuning.target.task.multiclass or rule.decide != "auto" or rule.cost_matrix):
        return points
    return (*points, choose_decision(tuning, rule=rule.decide, costs=rule.cost_matrix or None, seed=seed))


@checked
def thresholds_by(rule: OperatingRule, tuning: Predictions) -> tuple[OperatingPoint, ...]:
    """The points at which sensitivity and specificity are told, chosen on tuning predictions."""
    return choose_thresholds(tuning, rule=rule.rule, sensitivity=rule.sensitivity or None, specificity=rule.specificity or None,
                             cost=rule.cost or None, prevalence=rule.prevalence or None if rule.cost else None)  # fmt: skip


@checked
def declare_margin(study: Study, ledger: Path) -> None:
    """Write the study's margin to the ledger, once for each metric that it is of; nothing where it has none."""
    rule = study.operating_point
    for metric in rule.margin_metrics if rule.margin else ():
        declare(ledger, Declaration.read(rule.margin, metric))
