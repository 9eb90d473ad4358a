"""Thresholds: the rules, the memory of patients, and what cannot be chosen."""

import numpy as np
import pytest

from overread.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.operating import OperatingPoint, choose_threshold, choose_thresholds, refuse_seen


def rates(predictions, point):
    columns = [predictions.target.names.index(n) for n in point.positive]
    truth, flagged = (
        np.isin(predictions.truth, columns),
        predictions.scores[:, columns].sum(axis=1) >= point.threshold,
    )
    return flagged[truth].mean(), (~flagged[~truth]).mean()


def all_rates(predictions):
    truth, score = predictions.truth == 1, predictions.scores[:, 1]
    return [((score >= t)[truth].mean(), (score < t)[~truth].mean()) for t in np.append(score, 2.0)]


def test_youden_is_the_best_of_all_thresholds(predictions):
    tuning = predictions()
    point = choose_threshold(tuning)
    assert sum(rates(tuning, point)) == pytest.approx(max(map(sum, all_rates(tuning))))
    assert rates(tuning, point) == pytest.approx((point.sensitivity, point.specificity))
    assert point.rule == "youden"


@pytest.mark.parametrize("goal", [0.5, 0.8, 0.95, 1.0])
def test_a_wanted_sensitivity_costs_the_least_specificity_and_the_other_way_round(predictions, goal):
    tuning = predictions()
    point = choose_threshold(tuning, sensitivity=goal)
    assert rates(tuning, point) == pytest.approx((point.sensitivity, point.specificity))
    assert point.sensitivity >= goal
    assert point.specificity == pytest.approx(max(sp for se, sp in all_rates(tuning) if se >= goal))
    point = choose_threshold(tuning, specificity=goal)
    assert rates(tuning, point) == pytest.approx((point.sensitivity, point.specificity))
    assert point.sensitivity == pytest.approx(max(se for se, sp in all_rates(tuning) if sp >= goal))
    assert point.rule == f"specificity ≥ {goal:g}"


def test_rounding_in_a_file_moves_no_case_across(predictions, tmp_path):
    tuning = predictions()
    again = type(tuning).read(tuning.save(tmp_path / "p.csv"))
    point = choose_threshold(tuning)
    assert rates(again, point) == rates(tuning, point)
    assert OperatingPoint.load(point.save(tmp_path / "point.json")) == point


def test_the_score_of_several_classes_is_their_sum(predictions):
    tuning = predictions("classes")
    point = choose_threshold(tuning)
    assert point.positive == ("melanoma", "other")
    assert point.of == "melanoma+other"
    assert rates(tuning, point) == pytest.approx((point.sensitivity, point.specificity))
    assert choose_threshold(tuning, positive="nevus").positive == ("nevus",)


def test_it_remembers_its_patients_but_not_their_names(predictions):
    tuning = predictions()
    point = choose_threshold(tuning)
    assert len(point.seen) == 60
    assert not set(point.seen) & set(tuning.table["patient"])
    with pytest.raises(UnsoundError, match="60 patients"):
        refuse_seen(tuning, point.seen, point.salt, "to train the model")
    refuse_seen(predictions(prefix="other"), point.seen, point.salt, "to train the model")
    refuse_seen(tuning, (), "", "to train the model")


def test_one_point_per_finding_that_has_both_answers(predictions):
    tuning = predictions("findings")
    tuning.table["label:nevus"] = 0.0
    points = choose_thresholds(tuning, sensitivity=0.9)
    assert [p.of for p in points] == ["benign", "melanoma", "other"]
    assert choose_threshold(tuning, finding="other") == choose_threshold(tuning, positive="other")
    assert len(choose_thresholds(predictions())) == len(choose_thresholds(predictions("classes"))) == 1
    assert choose_thresholds(predictions("quantity")) == ()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rule": "yuden"}, ArgumentError, "Did you mean 'youden'"),
        ({"rule": "sensitivity"}, ArgumentError, "wanted sensitivity"),
        ({"sensitivity": 1.2}, ArgumentError, "between 0 and 1"),
        ({"sensitivity": 0.9, "specificity": 0.9}, ArgumentError, "not both"),
        ({"positive": "melanom"}, InputError, "Did you mean 'melanoma'"),
        ({"positive": ("melanoma", "melanoma")}, ArgumentError, "twice"),
        ({"positive": ()}, ArgumentError, "positive class"),
    ],
)
def test_bad_arguments_are_refused(predictions, options, error, message):
    with pytest.raises(error, match=message):
        choose_threshold(predictions("classes"), **options)


def test_what_cannot_be_chosen_is_an_error(predictions):
    tuning = predictions()
    ill = tuning.take(tuning.truth == 1)
    with pytest.raises(UnsoundError, match="positive and negative"):
        choose_threshold(ill)
    tuning.table.loc[0, "p:melanoma"] = np.nan
    with pytest.raises(InputError, match="not finite"):
        choose_threshold(tuning)
    with pytest.raises(ArgumentError, match="no operating point"):
        choose_threshold(predictions("quantity"))
    with pytest.raises(ArgumentError, match="one operating point each"):
        choose_threshold(predictions("findings"), positive=("benign", "nevus"))


def test_constant_scores_call_everybody_positive(predictions):
    tuning = predictions()
    tuning.table["p:melanoma"] = 0.5
    point = choose_threshold(tuning)
    assert (point.sensitivity, point.specificity) == (1, 0)
    assert rates(tuning, point) == (1, 0)
    nobody = choose_threshold(tuning, specificity=0.9)
    assert rates(tuning, nobody) == (nobody.sensitivity, nobody.specificity) == (0, 1)
