"""Scores that are no probabilities: they rank, but .5 is no threshold for them and nothing is calibrated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.cases.annotators import Grades
from overread.core.errors import InputError
from overread.evaluation.comparison.compare import Comparison, compare
from overread.evaluation.evaluate import Evaluation, evaluate
from overread.evaluation.operating_point import choose_threshold
from overread.evaluation.readers.reader_study import judge_readers
from overread.evaluation.uncertainty import uncertainty
from overread.predictions import Predictions

RANKED = {"auc", "standardised partial auc", "average precision", "macro auc"}
CUT = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "balanced accuracy", "f1", "mcc")
RISKS = ("brier", "ece", "calibration slope", "calibration intercept", "brier reliability")


def rescored(given: Predictions, change) -> Predictions:
    """The same predictions with other outputs: ``change`` of the scores (N, C)."""
    table, columns = given.table.copy(), list(given.outputs)
    table[columns] = change(given.scores)
    return replace(given, table=table)


def logits(p):
    return np.log(p / (1 - p))


def twice(p):  # what independent outputs add up to
    return p * np.array([0.9, 0.6, 0.8, 0.7])[: p.shape[1]]


CHANGES = {
    "per cent": lambda p: 100 * p,
    "logits": logits,
    "a column of logits and one minus it": lambda p: np.column_stack([1 - logits(p)[:, 1], logits(p)[:, 1]]),
    "one case of many": lambda p: np.vstack([p[:1] * 3, p[1:]]),
    "rows that miss 1": twice,
    "0 to 10": lambda p: (10 * p).round(1),
    "−1 to 1": lambda p: 2 * p - 1,
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_needs_a_probability_is_undefined_and_what_ranks_stays(predictions, how, tmp_path):
    good, bad = predictions(), rescored(predictions(), CHANGES[how])
    before, after = evaluate(good, resamples=50, by=("sex",)), evaluate(bad, resamples=50, by=("sex",))
    for metric in (*CUT, *RISKS):
        assert "not probabilities" in after[metric].undefined, metric
        assert not before[metric].undefined
    for metric in CUT:
        assert "no threshold was chosen" in after[metric].undefined, metric
    if how != "one case of many":
        assert after["auc"].value == pytest.approx(
            before["auc"].value, abs=0.01 if how in ("rows that miss 1", "0 to 10") else 1e-9
        )
    assert not {e.metric for e in after.estimates if not e.undefined} & {*CUT, *RISKS}, "nor in a subgroup"
    assert all(g.undefined for g in after.gaps if g.metric in CUT)
    assert after.curves["melanoma"].roc
    assert not after.curves["melanoma"].point
    assert not after.confusion.labels
    assert "not probabilities" in after.table()
    assert Evaluation.load(after.save(tmp_path)) == after


def test_a_case_out_of_range_counts_for_the_subgroup_without_it_too(predictions):
    bad = rescored(predictions(), lambda p: np.where(np.arange(len(p))[:, None] < 2, 100 * p, p))
    found = evaluate(bad, resamples=50, by=("sex",))
    assert all("not probabilities" in e.undefined for e in found.where("sex") if e.metric in ("brier", "sensitivity"))


def test_a_frozen_threshold_cuts_any_score(predictions):
    good, bad = predictions(prefix="tune", seed=1), rescored(predictions(prefix="tune", seed=1), logits)
    at, raw = choose_threshold(good), choose_threshold(bad)
    one, two = (
        evaluate(predictions(), at=at, resamples=50),
        evaluate(rescored(predictions(), logits), at=raw, resamples=50),
    )
    for metric in CUT:
        assert two[metric].value == pytest.approx(one[metric].value), metric
    assert "not probabilities" in two["brier"].undefined
    assert "not probabilities" in two.curves["melanoma"].decision.undefined


def test_the_more_probable_of_two_needs_two_columns(predictions):
    both = evaluate(rescored(predictions(), logits), resamples=50)
    assert both["top accuracy"].value == evaluate(predictions(), resamples=50)["top accuracy"].value
    one = evaluate(rescored(predictions(), CHANGES["a column of logits and one minus it"]), resamples=50)
    assert "not probabilities" in one["top accuracy"].undefined


@pytest.mark.parametrize("how", ["per cent", "logits", "rows that miss 1"])
def test_of_several_classes_the_largest_still_counts(predictions, how):
    good, bad = predictions("classes"), rescored(predictions("classes"), CHANGES[how])
    before, after = evaluate(good, resamples=50), evaluate(bad, resamples=50)
    for metric in ("accuracy", "balanced accuracy", "macro f1", "macro auc"):
        assert not after[metric, ""].undefined, metric
        if how != "rows that miss 1":
            assert after[metric, ""].value == pytest.approx(before[metric, ""].value), metric
    for key in (("brier", ""), ("ece", ""), ("sensitivity", "melanoma+other"), ("brier", "melanoma+other")):
        assert "not probabilities" in after[key].undefined, key
    assert not after["sensitivity", "benign"].undefined, "called by the largest"
    assert "ece if calibrated" not in {e.metric for e in after.estimates}


def test_a_finding_is_judged_by_its_own_scores(predictions):
    found = evaluate(
        rescored(predictions("findings"), lambda p: np.column_stack([100 * p[:, 0], p[:, 1:]])), resamples=50
    )
    assert "not probabilities" in found["sensitivity", "benign"].undefined
    assert "not probabilities" in found["brier", "benign"].undefined
    assert not found["sensitivity", "melanoma"].undefined
    assert not found["brier", "melanoma"].undefined
    assert not found["macro auc"].undefined


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.round(2),
        lambda p: np.column_stack([p[:, :-1].round(1), 1 - p[:, :-1].round(1).sum(axis=1)]).clip(0, 1),
        lambda p: p.astype(np.float16).astype(float),
        lambda p: p.astype(np.float32).astype(float) * (1 + 3e-8),
        lambda p: p * 0.9995,
        lambda p: np.eye(p.shape[1])[p.argmax(axis=1)],
        lambda p: np.full_like(p, 1 / p.shape[1]).round(3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_rounded_probabilities_are_probabilities(predictions, kind, change):
    found = evaluate(rescored(predictions(kind), change), resamples=20)
    whole = [e for e in found.estimates if e.metric in ("brier", "ece", "sensitivity") and not e.where]
    assert whole
    assert not any("probabilities" in e.undefined for e in whole)


def test_unlabelled_cases_do_not_count(predictions):
    given = predictions()
    given.table.loc[:3, "label"] = ""
    found = evaluate(rescored(given, lambda p: np.where(np.arange(len(p))[:, None] < 4, 9.0, p)), resamples=20)
    assert not found["brier"].undefined


# -- two models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "findings"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_model_against_itself_in_per_cent(predictions, kind, swapped, tmp_path):
    pair = [predictions(kind), rescored(predictions(kind), lambda p: 100 * p)]
    found = compare(*(reversed(pair) if swapped else pair), resamples=50, names=("one", "two"))
    for d in found.differences:
        if d.first.metric in RANKED:
            assert d.difference.value == pytest.approx(0, abs=1e-12), d.first.metric
        else:
            assert "not probabilities" in d.difference.undefined, d.first.metric
            assert np.isnan(d.p)
    assert "not probabilities" in found.table()
    told = [line for line in found.cautions if "compared by their ranks alone" in line]
    assert len(told) == 1
    assert ("scores of one" if swapped else "scores of two") in told[0]
    assert Comparison.load(found.save(tmp_path)).table() == found.table()


def test_two_tables_of_different_patients(predictions):
    found = compare(predictions(), rescored(predictions(prefix="else", seed=3), logits), resamples=50)
    assert "not probabilities" in found["accuracy"].difference.undefined
    assert not found["auc"].difference.undefined


def test_errors_when_silent_are_undefined(predictions):
    tuning, test = predictions(prefix="tune"), rescored(predictions(), CHANGES["a column of logits and one minus it"])
    assert "not probabilities" in uncertainty(tuning, test).more["abstention"][""]["undefined"]


def test_beside_readers_a_threshold_is_asked_for(predictions):
    given = predictions()
    answers = given.table[["case", "label"]]
    grades = Grades(
        pd.concat([answers.assign(reader=name) for name in ("first", "second")], ignore_index=True), "label"
    )
    with pytest.raises(InputError, match=r"cannot be called positive from \.5 on.*--tuning"):
        judge_readers(grades, rescored(given, logits))
