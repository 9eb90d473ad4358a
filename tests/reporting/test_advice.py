"""The rules behind the summary, the cautions and the next steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from overread.reporting import advice
from overread.reporting.run import RecipeDecision, Run, Shortcut, StudyFile, TrainingRow, read_run
from overread.stats.estimate import Estimate


@pytest.fixture
def run(finished) -> Run:
    return read_run(finished("binary"))


def changed(run: Run, metric: str, of: str = "malignant", where=None, **numbers) -> Run:
    """The run with other numbers for one estimate."""
    where = where or {}
    kept = tuple(e for e in run.estimates if (e.metric, e.of, e.where) != (metric, of, where))
    return judged(run, *kept, Estimate(metric, of=of, where=where, **numbers))


def judged(run: Run, *estimates: Estimate) -> Run:
    """The run with these estimates alone."""
    return replace(run, evaluation=replace(run.evaluation, estimates=estimates))


def said(run: Run) -> str:
    return " ".join(f"{a.what} {a.reason} {a.command}" for a in advice.next_steps(run))


def test_a_wide_interval_asks_for_patients_by_the_square_root_law(run):
    wide = changed(run, "auc", value=0.8, low=0.7, high=0.82, patients=100)
    assert f"about {100 * 4} for" in said(wide)  # half the width, four times the patients
    narrow = changed(run, "auc", value=0.8, low=0.78, high=0.82, patients=100)
    assert "Test on more patients" not in said(narrow)


def test_calibration_is_judged_against_chance_and_by_its_slope(run):
    good = changed(changed(changed(run, "ece", value=0.05), "ece if calibrated", value=0.05, low=0.03, high=0.07),
                   "calibration slope", value=1.1, low=0.8, high=1.4)  # fmt: skip
    assert advice.calibration_verdict(good) == "good"
    assert advice.calibration_verdict(changed(good, "ece", value=0.08)) == "poor"
    tilted = changed(good, "calibration slope", value=0.5, low=0.3, high=0.7)
    assert advice.calibration_verdict(tilted) == "poor"
    assert "recalibrat" in said(tilted)
    assert advice.calibration_verdict(judged(run)) == ""


def test_a_subgroup_is_named_only_when_its_interval_lies_below(run):
    run = changed(run, "auc", value=0.9, low=0.85, high=0.94, patients=60)
    run = judged(run, *(e for e in run.estimates if not e.where))
    assert advice.weakest(run) is None
    low = changed(run, "auc", where={"sex": "female"}, value=0.7, low=0.6, high=0.8, patients=30)
    assert advice.weakest(low)[:2] == ("sex", "female")
    assert "sex = female" in said(low)
    assert advice.weakest(changed(run, "auc", where={"sex": "female"}, value=0.7, low=0.5, high=0.91)) is None


def test_training_that_was_still_rising_asks_for_more_epochs(run):
    rising = tuple(TrainingRow(e, 1.0, 1.0, 0.5 + e / 100) for e in range(1, 11))
    assert "--epochs 20" in said(replace(run, history=rising))
    over = tuple(TrainingRow(e, 1 / e, 1.0, 0.9 - e / 100) for e in range(1, 11))
    assert "remembers its training images" in said(replace(run, history=over))


def test_training_cut_short_by_the_budget_asks_for_time(run):
    rows = (TrainingRow(1, 1.0, 1.0, 0.7),)
    decision = RecipeDecision("snapshot", "epoch 1", "stopped because the budget was used up")
    cut = replace(run.model, decisions=(decision,))
    cut_short = replace(run, history=rows, model=cut)
    assert "--budget 6m" in said(replace(cut_short, study=StudyFile(budget="90s")))
    assert "--budget 30m" in said(replace(cut_short, study=StudyFile()))


def test_few_positive_patients_are_a_caution(run):
    assert any("malignant" in line for line in advice.cautions(run)) == (
        advice.positive_patients(run) < advice.FEW_POSITIVES
    )
    assert advice.soundness(run)[0] == "The audit found no error."


def test_a_shortcut_asks_for_another_source(run):
    risky = replace(run, audit=replace(run.audit, shortcut=Shortcut(auc=0.9, verdict="high")))
    assert "--leave-out C" in said(risky)
    assert any("brightness" in line for line in advice.cautions(risky))


def test_an_unfinished_run_is_asked_to_go_on(run):
    assert "overread run" in said(judged(run))
    assert "not been judged" in advice.summary(judged(run))
