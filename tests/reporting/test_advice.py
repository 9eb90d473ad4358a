"""The rules behind the summary, the cautions and the next steps."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from overread.evaluation.results import Tally
from overread.reporting import advice, sections
from overread.reporting.run import (
    AuditFinding,
    RecipeDecision,
    Run,
    Shortcut,
    ShortcutArea,
    StudyFile,
    TrainingRow,
    read_run,
)
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
    assert good.evaluation.calibration == "not shown"
    assert changed(good, "ece", value=0.08).evaluation.calibration == "poor"
    tilted = changed(good, "calibration slope", value=0.5, low=0.3, high=0.7)
    assert tilted.evaluation.calibration == "poor"
    assert "recalibrat" in said(tilted)
    assert judged(run).evaluation.calibration == ""


def test_a_subgroup_is_named_only_when_an_interval_lies_below(run):
    run = changed(run, "auc", value=0.9, low=0.85, high=0.94, patients=60)
    run = judged(run, *(e for e in run.estimates if not e.where))
    assert "least well" not in advice.summary(run)
    low = changed(run, "auc", where={"sex": "female"}, value=0.7, low=0.6, high=0.8, patients=30)
    assert "least well where sex is female: AUC 0.70" in advice.summary(low)
    assert "sex = female" in said(low)
    chance = changed(run, "auc", where={"sex": "female"}, value=0.7, low=0.5, high=0.91)
    assert "least well" not in advice.summary(chance)


def test_least_well_is_the_lowest_of_all_and_those_below_are_told_beside_it(run):
    """Not the lowest of those below the value of all: a small group may be lower, with a wide interval."""
    run = judged(run, *(e for e in run.estimates if not e.where))
    run = changed(run, "auc", value=0.9, low=0.85, high=0.94, patients=60)
    run = changed(run, "auc", where={"source": "rosendahl"}, value=0.63, low=0.5, high=0.75)
    run = changed(run, "auc", where={"source": "dias"}, value=0.43, low=0.1, high=0.92)
    text = advice.summary(run)
    assert "least well where source is dias: AUC 0.43" in text
    assert "interval is below the value of all cases where source is rosendahl, 0.63" in text
    assert "source = rosendahl" in said(run)  # what to look at: a low value that chance hardly makes


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


def test_of_slides_the_words_say_what_may_be_the_disease(run):
    held = Shortcut(
        auc=0.5, verdict="low", may_be_the_disease=("stain",), by_feature={"stain": ShortcutArea(0.98, 0.9, 1)}
    )
    slides = replace(run, audit=replace(run.audit, shortcut=held))
    assert "they show the disease" in sections.shortcut_words(slides)
    assert "they show the disease" not in sections.shortcut_words(run)
    assert "Stain, which the disease may change" in [row[0] for row in sections.shortcut(slides).rows]


@pytest.fixture
def sound(run) -> Run:
    """A run that nothing speaks against: no finding, many positives, an AUC that holds within sources."""
    counts = replace(run.evaluation.counts, per_class={"malignant": Tally(90, 80)})
    run = replace(run, audit=replace(run.audit, findings=()), evaluation=replace(run.evaluation, counts=counts))
    run = changed(run, "auc", value=0.87, low=0.83, high=0.9)
    run = changed(run, "auc within sources", value=0.86, low=0.81, high=0.9)
    return changed(run, "shortcut auc", value=0.55, low=0.45, high=0.65)


def test_nothing_speaks_against_a_sound_run(sound):
    found = advice.trust(sound)
    assert (found.grade, found.reasons) == (0, ())
    assert [e.metric for e in found.numbers] == ["auc", "shortcut auc", "auc within sources"]


@pytest.mark.parametrize(
    ("metric", "numbers", "grade", "word"),
    [
        ("shortcut auc", (0.83, 0.79, 0.87), advice.DOUBTFUL, "may have learnt them"),
        ("shortcut auc", (0.75, 0.48, 0.9), 0, ""),  # may be chance
        ("auc within sources", (0.66, 0.58, 0.73), advice.DOUBTFUL, "telling the sources apart"),
        ("auc within sources", (0.83, 0.79, 0.86), advice.DOUBTFUL, "telling the sources apart"),
        ("auc within sources", (0.8, 0.45, 0.95), advice.DOUBTFUL, "not shown to be better than a coin"),
        ("auc within sources", (0.85, 0.8, 0.9), 0, ""),
    ],
)  # fmt: skip
def test_the_verdict_rests_on_the_shortcut_and_on_what_is_left_within_sources(sound, metric, numbers, grade, word):
    value, low, high = numbers
    found = advice.trust(changed(sound, metric, value=value, low=low, high=high))
    assert found.grade == grade
    assert word in " ".join(found.reasons)


def test_a_model_that_is_not_above_the_shortcut_is_said(sound):
    run = changed(sound, "shortcut auc", value=0.8, low=0.75, high=0.85)
    run = changed(run, "auc beyond shortcut", value=0.07, low=-0.01, high=0.15)
    assert "not shown to be better" in advice.trust(run).reasons[0]


@pytest.mark.parametrize(("severity", "grade"), [("error", advice.UNSOUND), ("warning", advice.RESERVED), ("note", 0)])
def test_what_the_audit_found_stands_beside_the_result(sound, severity, grade):
    finding = AuditFinding("8 images seem to hold burned-in text", "burned-in", severity)
    found = advice.trust(replace(sound, audit=replace(sound.audit, findings=(finding,))))
    assert found.grade == grade
    assert any("burned-in text" in line for line in found.reasons) == bool(grade)


def test_an_error_that_the_study_went_on_despite_is_told(sound):
    finding = AuditFinding("the given split leaks: 3 patients", "leak", "error")
    run = replace(sound, audit=replace(sound.audit, findings=(finding,)), study=replace(sound.study, despite=("leak",)))
    assert "went on despite it (--despite leak)" in advice.trust(run).reasons[0]


def test_an_unfinished_run_is_asked_to_go_on(run):
    assert "overread run" in said(judged(run))
    assert "not been judged" in advice.summary(judged(run))


def test_the_result_stands_in_six_lines(each):
    """Of any kind of question: what it was tested on, the numbers, the verdict, and where the rest is."""
    found = advice.brief(read_run(each))
    assert 3 <= len(found) <= 6
    assert found[0].startswith("Tested on")
    assert any(found[-2].startswith(verdict) for verdict in advice.VERDICTS)
    assert "--verbose" in found[-1]


def test_a_penalty_at_the_end_of_the_grid_is_said(run):
    rows = tuple(TrainingRow(penalty=p, held_out_loss=1 / p, chosen=p == 10) for p in (0.1, 1.0, 10.0))
    text = said(replace(run, history=rows))
    assert "the largest that was tried" in text
    assert "--set 'penalties=[0.1, 1.0, 10.0, 100.0, 1000.0]'" in text
    inside = tuple(replace(row, chosen=row.penalty == 1) for row in rows)
    assert "that was tried" not in said(replace(run, history=inside))


def test_commands_can_be_pasted(run):
    spaced = replace(run, folder=Path("my runs/it's"))
    command = next(a.command for a in advice.next_steps(spaced) if a.command.startswith("overread predict"))
    assert shlex.split(command)[2] == "my runs/it's"
