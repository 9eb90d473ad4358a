"""Conformal sets and silence on tables: coverage, groups, refusals, every kind of target."""

import json
import math

import numpy as np
import pytest

from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.uncertainty import uncertainty


def slow_threshold(score, level):
    return np.sort(score)[math.ceil((len(score) + 1) * level) - 1]


def test_sets_and_coverage_against_a_slow_restatement(predictions):
    tuning, test = predictions("classes", prefix="tune", images=1, seed=1), predictions("classes")
    found = uncertainty(tuning, test, level=0.8)
    limit = slow_threshold(1 - tuning.scores[np.arange(60), tuning.truth], 0.8)
    sets = [[k for k in range(4) if 1 - row[k] <= limit + 1e-12] for row in test.scores]
    assert found["set coverage"].value == pytest.approx(np.mean([t in s for t, s in zip(test.truth, sets)]))
    assert found["set size"].value == pytest.approx(np.mean([len(s) for s in sets]))
    assert found["sets of one class"].value == pytest.approx(np.mean([len(s) == 1 for s in sets]))
    ill = test.truth == 1
    assert found["set coverage", "melanoma"].value == pytest.approx(np.mean([1 in s for s, i in zip(sets, ill) if i]))
    assert found.more["conformal"]["thresholds"][0]["score"]["nevus"] == pytest.approx(limit)


@pytest.mark.parametrize("kind", ["binary", "classes", "findings", "quantity"])
def test_every_kind_tells_its_groups_as_json(predictions, tmp_path, kind):
    found = uncertainty(predictions(kind, prefix="tune", seed=3), predictions(kind), group="sex", level=0.9)
    held = json.loads(found.save(tmp_path).read_text())
    groups = [g["group"] for g in held["conformal"]["groups"]]
    assert {"all", "female", "male"} <= set(groups)
    assert {e.where["sex"] for e in found.estimates if e.where} == {"female", "male"}
    for entry in held["conformal"]["groups"]:
        assert 0 <= entry["coverage"]["low"] <= entry["coverage"]["value"] <= entry["coverage"]["high"] <= 1
    for curve in held["abstention"].values():
        assert "undefined" in curve or len(curve["coverage"]) == len(curve["risk"]) == len(curve["low"]) <= 200
    assert str(found).count("coverage") >= 1


def test_silence_of_a_finding_is_the_error_of_the_more_probable_answer(predictions):
    test = predictions("findings")
    curve = uncertainty(predictions("findings", prefix="tune"), test).more["abstention"]["other"]
    truth, score = test.truth[:, 3], test.scores[:, 3]
    known = ~np.isnan(truth)
    assert curve["coverage"][-1] == 1
    assert curve["risk"][-1] == pytest.approx(np.mean((score[known] > 0.5) != (truth[known] == 1)))


def test_patients_of_the_tuning_data_are_refused(predictions):
    with pytest.raises(UnsoundError, match="60 patients of this test set were used to fit the sets"):
        uncertainty(predictions(), predictions())


def test_groups_without_tuning_data_leave_nothing_out_and_small_ones_are_not_judged(predictions):
    tuning, test = predictions(prefix="tune"), predictions()
    test.table["ward"] = np.where(np.arange(120) < 60, "new", np.where(np.arange(120) < 110, "old", "tiny"))
    tuning.table["ward"] = "old"
    found = uncertainty(tuning, test, group="ward")
    by = {(e.metric, e.where["ward"]): e for e in found.estimates if e.where}
    assert by["set size", "new"].value == 2
    assert by["set coverage", "tiny"].undefined == "fewer than 10 patients"
    with pytest.raises(InputError, match="no column 'wart'"):
        uncertainty(tuning, test, group="wart")


def test_what_is_no_probability_is_undefined_and_what_is_not_finite_holds_all(predictions):
    tuning, test = predictions(prefix="tune"), predictions()
    test.table.loc[0, ["p:benign", "p:melanoma"]] = np.nan
    assert uncertainty(tuning, test)["set coverage"].value > 0
    assert "not finite" in uncertainty(tuning, test).more["abstention"][""]["undefined"]
    tuning.table["p:melanoma"] *= 7
    found = uncertainty(tuning, predictions())
    assert "not probabilities" in found["set coverage"].undefined
    assert "not probabilities" in found.more["conformal"]["undefined"]
    with pytest.raises(InputError, match="different questions"):
        uncertainty(predictions("classes", prefix="tune"), test)
    with pytest.raises(ArgumentError, match="level"):
        uncertainty(predictions(prefix="tune"), test, level=1.0)


def test_one_patient_and_one_class(predictions):
    tuning, test = predictions(prefix="tune"), predictions(patients=1, images=3)
    assert uncertainty(tuning, test)["set coverage"].images == 3
    ill = tuning.take(tuning.truth == 1)
    assert uncertainty(ill, predictions())["set coverage"].value >= 0
    assert uncertainty(tuning.take(np.arange(2)), predictions())["set size"].value == 2  # nothing can be left out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_simulated_coverage_of_new_patients(predictions, kind):
    held = [
        uncertainty(
            predictions(kind, prefix="tune", seed=2 * s + 1, patients=50, images=1 + s % 3),
            predictions(kind, seed=2 * s, patients=60, images=1), level=0.8, resamples=2,
        )["set coverage"].value
        for s in range(60)
    ]  # fmt: skip
    assert 0.785 < np.mean(held) < 0.84
