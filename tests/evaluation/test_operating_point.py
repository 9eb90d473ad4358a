"""Thresholds: the rules, the memory of patients, and what cannot be chosen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.core.identifiers import counted, marks
from overread.evaluation.comparison.compare import compare
from overread.evaluation.evaluate import evaluate
from overread.evaluation.operating_point import (
    OperatingPoint,
    choose_threshold,
    choose_thresholds,
    refuse_seen,
    refuse_shared,
    threshold_uncertainty,
)
from overread.predictions import PredictedBy, Predictions
from overread.stats.agreement.mrmc import reader_points
from overread.stats.resample import draws
from overread.tasks.target import Target


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


def drawn(n: int, *, moved: float = 0.0, seed: int = 0) -> Predictions:
    """Two images a patient with log odds of the truth, then ``moved``."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(1, 2, n)
    truth = rng.random(n) < 1 / (1 + np.exp(-log_odds))
    score = 1 / (1 + np.exp(-log_odds - moved))
    table = pd.DataFrame({"case": [f"c{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)], "label": np.where(truth, "ill", "well"),
                          "p:well": 1 - score, "p:ill": score})  # fmt: skip
    return Predictions.from_frame(table, ("ill",))


def test_the_highest_accuracy_is_that_of_the_more_probable_class_unless_another_is_better_by_a_standard_error():
    kept = choose_threshold(drawn(400), rule="accuracy")
    assert kept.threshold == 0.5
    assert rates(drawn(400), kept) == pytest.approx((kept.sensitivity, kept.specificity))
    assert kept.rule == "highest accuracy, to within a standard error"
    for seed in range(12):
        tuning = drawn(300, moved=1.0, seed=seed)
        truth, score = tuning.truth == 1, tuning.scores[:, 1]
        right = {t: (score >= t) == truth for t in [*score, 2.0]}
        best = max(right, key=lambda t: right[t].mean())
        each = ((right[best] + 0.0) - ((score >= 0.5) == truth)).reshape(-1, 2).sum(axis=1)  # of a patient
        better = each.sum() > np.sqrt(len(each)) * each.std(ddof=1)
        point = choose_threshold(tuning, rule="accuracy")
        assert (point.threshold != 0.5) == better
        wanted = right[best].mean() if better else ((score >= 0.5) == truth).mean()
        assert ((score >= point.threshold) == truth).mean() == pytest.approx(wanted)
    far = choose_threshold(drawn(4000, moved=2.0), rule="accuracy")
    assert far.threshold == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.06)  # where the odds are even again


def test_a_threshold_within_noise_of_the_more_probable_class_calls_more_of_new_cases_right():
    """What is lost against .5, which is best of these, over sixty small tuning parts; the lowest of the best loses more."""
    new, lost, lost_by_the_lowest = drawn(40_000, seed=99), [], []
    truth, score = new.truth == 1, new.scores[:, 1]
    best = ((score >= 0.5) == truth).mean()
    for seed in range(60):
        tuning = drawn(120, seed=seed)
        own, labels = tuning.scores[:, 1], tuning.truth == 1
        lowest = max(np.sort(own), key=lambda t: ((own >= t) == labels).mean())
        lost.append(best - ((score >= choose_threshold(tuning, rule="accuracy").threshold) == truth).mean())
        lost_by_the_lowest.append(best - ((score >= lowest) == truth).mean())
    spared = np.subtract(lost_by_the_lowest, lost)
    assert spared.mean() > 2 * spared.std(ddof=1) / np.sqrt(len(spared))


def test_the_threshold_of_the_more_probable_class_is_as_uncertain_as_the_choice():
    tuning = drawn(400)
    point = choose_threshold(tuning, rule="accuracy")
    cut, *_ = threshold_uncertainty(tuning, point, resamples=200)
    best, *_ = threshold_uncertainty(tuning, replace(point, criterion=("slope", point.criterion[1])), resamples=200)
    assert cut.value == 0.5
    assert cut.low <= 0.5 <= cut.high
    assert cut.high - cut.low < best.high - best.low  # of the best of all, wherever it lies


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
    assert counted(point.seen) == 60
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


# -- cost, reader, uncertainty --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "prevalence"), [(1, None), (5, None), (10, 0.02), (0.2, 0.3)])
def test_a_cost_maximises_the_expected_utility(predictions, cost, prevalence):
    tuning = predictions()
    point = choose_threshold(tuning, cost=cost, prevalence=prevalence)
    chance = (tuning.truth == 1).mean() if prevalence is None else prevalence

    def loss(sensitivity, specificity):
        return chance * cost * (1 - sensitivity) + (1 - chance) * (1 - specificity)

    best = min(loss(*pair) for pair in all_rates(tuning))
    assert loss(*rates(tuning, point)) == pytest.approx(best)
    slope = (1 - chance) / (chance * cost)
    assert point.rule.endswith(f"ROC slope {slope:.3g}")
    assert point.criterion == ("slope", pytest.approx(slope))


def test_of_equal_costs_the_lowest_threshold(predictions):
    tuning = predictions(patients=2, images=2)
    tuning.table["label"] = ["melanoma", "benign", "melanoma", "benign"]
    tuning.table["p:melanoma"] = [0.9, 0.8, 0.7, 0.6]  # at a slope of 1, above .9 or from .7 on are as good
    assert choose_threshold(tuning, cost=1.0).threshold == pytest.approx(0.65)
    assert choose_threshold(tuning, cost=1.0) != choose_threshold(tuning, cost=0.1)


def test_a_threshold_matched_to_a_reader(predictions):
    tuning = predictions()
    by_specificity = choose_threshold(tuning, reader=(0.7, 0.85))
    assert by_specificity.threshold == choose_threshold(tuning, specificity=0.85).threshold
    assert by_specificity.rule == "reader's specificity ≥ 0.85"
    point = reader_points([1, 1, 0, 0], [[1], [0], [0], [0]])[0]
    found = choose_threshold(tuning, reader=point, match="sensitivity")
    assert found.threshold == choose_threshold(tuning, sensitivity=0.5).threshold


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "cost"}, "must be positive"),
        ({"cost": 0.0}, "must be positive"),
        ({"cost": float("inf")}, "must be positive"),
        ({"cost": 2.0, "sensitivity": 0.9}, "not both"),
        ({"prevalence": 0.1}, "with a cost only"),
        ({"cost": 2.0, "prevalence": 1.0}, "prevalence must lie"),
        ({"rule": "reader"}, "no reader was given"),
        ({"reader": (0.9, 0.0)}, "reader's specificity"),
        ({"reader": (0.9, 0.9), "match": "sensitvity"}, "Did you mean"),
    ],
)
def test_bad_costs_and_readers_are_refused(predictions, options, message):
    with pytest.raises(ArgumentError, match=message):
        choose_threshold(predictions(), **options)


def test_costs_for_all_findings(predictions):
    points = choose_thresholds(predictions("findings"), cost=4.0, prevalence=0.1)
    assert len(points) == 4
    assert all(p.criterion == ("slope", pytest.approx(2.25)) for p in points)


@pytest.mark.parametrize("options", [{}, {"sensitivity": 0.9}, {"specificity": 0.8}, {"cost": 3.0}])
def test_the_uncertainty_of_a_threshold_is_that_of_choosing_again(predictions, options):
    tuning = predictions(patients=40)
    point = choose_threshold(tuning, **options)
    cut, sensitivity, specificity = threshold_uncertainty(tuning, point, resamples=400)
    assert (sensitivity.value, specificity.value) == pytest.approx((point.sensitivity, point.specificity))
    assert cut.low <= point.threshold <= cut.high
    truth, score, codes = tuning.truth == 1, tuning.scores[:, 1], np.repeat(np.arange(40), 2)
    kind, goal = point.criterion
    ranked = np.unique(score)[::-1]
    cuts = np.r_[ranked[0] + 1e-6, (ranked[:-1] + ranked[1:]) / 2, ranked[-1] - 1e-6]
    again = []
    for weights in next(draws(40, 60, 0)):
        own = weights[codes].astype(float)
        tpr = np.array([own[truth & (score >= c)].sum() / own[truth].sum() for c in cuts])
        fpr = np.array([own[~truth & (score >= c)].sum() / own[~truth].sum() for c in cuts])
        good = {"sensitivity": tpr >= goal - 1e-12, "specificity": 1 - fpr >= goal - 1e-12}.get(kind)
        gain = tpr - goal * fpr
        good = gain >= gain.max() - 1e-12 if good is None else good
        again.append(cuts[np.flatnonzero(good)[0 if kind == "sensitivity" else -1]])
    quick = threshold_uncertainty(tuning, point, resamples=60)[0]
    assert (quick.low, quick.high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])), abs=2e-6)


def test_the_uncertainty_of_a_threshold_chosen_elsewhere_is_refused(predictions):
    point = choose_threshold(predictions(seed=1))
    with pytest.raises(InputError, match="not chosen on these predictions"):
        threshold_uncertainty(predictions(), point)


def coverage_of_thresholds(predictions, runs, people):
    """How often the interval holds the threshold that has sensitivity .8 among all patients."""
    everyone = predictions(patients=40_000, images=1, seed=99)
    true = choose_threshold(everyone, sensitivity=0.8).threshold
    held = 0
    for seed in range(runs):
        tuning = predictions(patients=people, images=2, seed=seed)
        cut = threshold_uncertainty(tuning, choose_threshold(tuning, sensitivity=0.8), resamples=300)[0]
        held += cut.low <= true <= cut.high
    return held / runs


@pytest.mark.slow
def test_coverage_of_the_interval_of_a_threshold(predictions):
    assert 0.925 <= coverage_of_thresholds(predictions, 2000, 150) <= 0.975


def test_patients_in_both_tables_are_refused(predictions):
    refuse_shared(predictions(), predictions(prefix="other"), "to fit the sets")
    with pytest.raises(UnsoundError, match="60 patients of this test set were used to fit the sets"):
        refuse_shared(predictions(), predictions(), "to fit the sets")


# -- nobody is judged by what was learned from him ------------------------------------------------------------------


@pytest.mark.parametrize("change", [lambda p: p + ".0", lambda p: " " + p, lambda p: p])
def test_tuning_patients_are_known_in_any_form_of_their_number(predictions, change):
    tuning, test = (numbered(predictions(prefix=name)) for name in ("tuning", "test"))
    test = replace(test, table=test.table.assign(patient=[change(str(p)) for p in test.patients]))
    with pytest.raises(UnsoundError, match="60 patients of this test set were used"):
        refuse_shared(tuning, test, "to choose the threshold")
    with pytest.raises(UnsoundError, match="60 patients"):
        evaluate(test, at=choose_threshold(tuning), resamples=20)


def test_patients_who_may_be_the_tuning_patients_are_asked_about(predictions):
    tuning, test = (numbered(predictions(prefix=name)) for name in ("tuning", "test"))
    test = replace(test, table=test.table.assign(patient=[f"00{p}" for p in test.patients]))
    with pytest.raises(UnsoundError, match="60 patients differ from these only in .* --identifiers as-written"):
        evaluate(test, at=choose_threshold(tuning), resamples=20)
    evaluate(replace(test, identifiers="as-written"), at=choose_threshold(tuning), resamples=20)


def numbered(table):
    return replace(table, table=table.table.assign(patient=[p.split("-p")[1] for p in table.patients], split=""))


def test_the_same_cases_under_other_patients_are_refused(predictions):
    tuning = predictions()
    renamed = replace(tuning, table=tuning.table.assign(patient=["q" + p for p in tuning.patients]))
    with pytest.raises(UnsoundError, match="120 cases of this test set were used"):
        evaluate(renamed, at=choose_threshold(tuning), resamples=20)
    both = replace(renamed, table=renamed.table.assign(case=["q" + c for c in tuning.table["case"]]))
    with pytest.raises(UnsoundError, match="120 of 120 cases .* under other names"):
        refuse_shared(tuning, both, "to choose the threshold")
    with pytest.raises(UnsoundError, match="110 of 110 cases"):
        refuse_shared(tuning, both.take(np.arange(110)), "to choose the threshold")


def test_coarse_scores_are_not_taken_for_the_same_cases(predictions):
    tuning, test = (predictions(prefix=name) for name in ("tuning", "test"))
    rounded = [replace(p, table=p.table.assign(**{n: p.table[n].round(1) for n in p.outputs})) for p in (tuning, test)]
    refuse_shared(*rounded, "to choose the threshold")


@pytest.mark.parametrize("word", ["train", "tuning", "seen"])
def test_what_the_split_says_was_seen_is_refused(predictions, word):
    test = predictions()
    test = replace(test, table=test.table.assign(split=np.where(test.table["patient"] == "test-p0", word, "test")))
    with pytest.raises(UnsoundError, match="1 patient of this test set was used to train .* --allow-seen"):
        evaluate(test, resamples=20)
    found = evaluate(test, resamples=20, allow_seen=True)
    assert found.about.seen == 1
    assert "it has seen 1 of these patients" in found.table()
    with pytest.raises(UnsoundError, match="to train"):
        compare(test, test, resamples=20)
    told = compare(test, test, resamples=20, allow_seen=True)
    assert any("has seen 1 of these patients" in line for line in told.cautions)


def test_what_the_model_says_it_has_seen_is_refused(predictions):
    test = predictions()
    by = PredictedBy("m", test.target, marks(["test-p3", "test-p4", "other"], "salt"), "salt")
    with pytest.raises(UnsoundError, match="2 patients of this test set were used to train"):
        evaluate(replace(test, by=by), resamples=20)
    others = PredictedBy("m", test.target, marks(["other"], "salt"), "salt")
    assert evaluate(replace(test, by=others), resamples=20).about.model == "m"


def test_who_may_be_a_training_patient_of_the_model_is_asked_about(predictions):
    test = predictions()
    by = PredictedBy("m", test.target, marks(["TEST-P3", "test p004"], "salt"), "salt")
    with pytest.raises(
        UnsoundError, match=r"may be those that were used to train.*2 patients.*--identifiers as-written"
    ):
        evaluate(replace(test, by=by), resamples=20)
    assert evaluate(replace(test, by=by, identifiers="as-written"), resamples=20).about.seen == 0


def test_of_two_classes_without_a_name_for_the_disease_the_positive_one_is_asked_for(predictions):
    test = predictions()
    table = test.table.replace({"benign": "nv", "melanoma": "bkl"}).rename(
        columns={"p:benign": "p:nv", "p:melanoma": "p:bkl"}
    )
    with pytest.raises(InputError, match="--positive nv or --positive bkl"):
        evaluate(Predictions(table, Target("binary", ("nv", "bkl"))), resamples=20)
    found = evaluate(Predictions(table, Target("binary", ("nv", "bkl"), ("nv",))), resamples=20)
    assert found.primary == "nv"


def test_a_sensitivity_and_a_specificity_are_two_points_and_both_are_told(predictions, tmp_path):
    from overread.evaluation.evaluate import Evaluation

    tuning, other = predictions(), predictions(seed=1)
    apart = {name: "t" + other.table[name] for name in ("case", "patient")}
    test = replace(other, table=other.table.assign(**apart))
    points = choose_thresholds(tuning, sensitivity=0.95, specificity=0.9)
    alone = (choose_threshold(tuning, sensitivity=0.95), choose_threshold(tuning, specificity=0.9))
    assert [p.name for p in points] == ["high sensitivity", "high specificity"]
    assert [replace(p, name="") for p in points] == list(alone)
    found = evaluate(test, at=points)
    for point in points:
        wanted = rates(test, point)
        at = {e.metric: e for e in found.estimates if e.where == {"operating point": point.name}}
        told = [at[metric] for metric in ("sensitivity", "specificity")]
        assert [e.value for e in told] == pytest.approx(wanted)
        assert all(e.low < e.value < e.high for e in told)
    assert found["sensitivity", points[0].of].value == pytest.approx(
        rates(test, points[0])[0]
    )  # calls are of the first
    assert "high specificity" in found.table()
    found.save(tmp_path)
    again = Evaluation.load(tmp_path)
    assert [p.name for p in again.operating] == ["high sensitivity", "high specificity"]
    with pytest.raises(ArgumentError, match="do not tell them apart"):
        evaluate(test, at=alone)
    compared = compare(test, test.with_scores(test.scores[:, ::-1]), at=points, other_at=alone[0])
    assert any("first: high sensitivity" in caution for caution in compared.cautions)


def test_every_finding_has_both_points(predictions):
    made = predictions()
    table = made.table.drop(columns=["label", *made.outputs])
    for name, column in (("a", 0), ("b", 1)):
        table[f"label:{name}"], table[f"p:{name}"] = (made.truth == column).astype(float), made.scores[:, column]
    findings = Predictions(table, Target("findings", ("a", "b")))
    points = choose_thresholds(findings, sensitivity=0.9, specificity=0.9)
    assert [(p.of, p.name) for p in points] == [("a", "high sensitivity"), ("a", "high specificity"), ("b", "high sensitivity"), ("b", "high specificity")]  # fmt: skip
