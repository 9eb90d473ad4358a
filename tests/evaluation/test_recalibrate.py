"""Mended probabilities: what is fitted, what stays, who is refused, and the change on test data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.comparison.calibration_change import judge_calibration
from overread.evaluation.ledger import verify
from overread.evaluation.operating_point import choose_threshold
from overread.evaluation.recalibrate import Recalibration, fit_recalibration, recalibrate
from overread.stats.calibration.recalibration import PriorShift, fit_isotonic, fit_platt, fit_temperature
from overread.stats.calibration.reliability import intercept_and_slope
from overread.stats.discrimination.roc import auc


def of(result, metric, which, label=None):
    found = [e for e in result.estimates if e.metric == metric and e.where.get("probabilities", "") == which]
    return next(e for e in found if label is None or e.of == label)


def test_a_binary_label_is_mended_by_the_pure_functions(predictions):
    tuning, test = predictions(prefix="tune", patients=600, seed=1), predictions()
    truth, given = tuning.truth, tuning.scores[:, 1]
    for method, pure in (("temperature", fit_temperature), ("platt", fit_platt), ("isotonic", fit_isotonic)):
        made = recalibrate(test, fit_recalibration(tuning, method=method)).scores
        assert made[:, 1] == pytest.approx(pure(truth, given).apply(test.scores[:, 1]))
        assert made.sum(axis=1) == pytest.approx(1)
    assert (recalibrate(test, fit_recalibration(tuning, method="none")).scores == test.scores).all()


def test_a_positive_class_that_stands_first(predictions):
    tuning, test = predictions(prefix="tune"), predictions()
    turned = [type(p)(p.table, type(p.target)("binary", ("melanoma", "benign"), ("melanoma",))) for p in (tuning, test)]
    plain, other = (recalibrate(b, fit_recalibration(a, method="platt")).table for a, b in ((tuning, test), turned))
    assert plain["p:melanoma"].to_numpy() == pytest.approx(other["p:melanoma"].to_numpy())


def test_classes_by_one_temperature_or_each_against_the_rest(predictions):
    tuning, test = predictions("classes", prefix="tune", patients=300), predictions("classes")
    warm = fit_temperature(tuning.truth, tuning.scores)
    assert recalibrate(test, fit_recalibration(tuning)).scores == pytest.approx(warm.apply(test.scores))
    made = recalibrate(test, fit_recalibration(tuning, method="platt")).scores
    each = np.column_stack(
        [fit_platt(tuning.truth == k, tuning.scores[:, k]).apply(test.scores[:, k]) for k in range(4)]
    )
    assert made == pytest.approx(each / each.sum(axis=1, keepdims=True))


def test_findings_are_mended_one_by_one_and_those_without_both_answers_stay(predictions):
    tuning, test = predictions("findings", prefix="tune"), predictions("findings")
    tuning.table["label:nevus"] = 0.0
    made = recalibrate(test, fit_recalibration(tuning, method="platt"))
    assert (made.table["p:nevus"] == test.table["p:nevus"]).all()
    known = ~np.isnan(tuning.truth[:, 3])
    line = fit_platt(tuning.truth[known, 3], tuning.scores[known, 3])
    assert made.table["p:other"].to_numpy() == pytest.approx(line.apply(test.scores[:, 3]))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000), method=st.sampled_from(["temperature", "platt"]), sharp=st.sampled_from([0.3, 1, 4])
)
def test_probabilities_stay_within_bounds_and_the_ranking_stays(seed, method, sharp):
    rng = np.random.default_rng(seed)
    import pandas as pd

    from overread.predictions import Predictions
    from overread.tasks.target import Target

    def table(prefix, count):
        truth = np.r_[0, 1, rng.integers(0, 2, count - 2)]
        p = (1 / (1 + np.exp(-sharp * (rng.normal(size=count).round(1) + truth)))).round(12)
        p[rng.random(count) < 0.1] = rng.integers(0, 2)
        names = [f"{prefix}{i}" for i in range(count)]
        return Predictions(pd.DataFrame({"case": names, "patient": names, "split": "", "source": "", "label": np.array(["n", "y"])[truth],
                                         "p:n": 1 - p, "p:y": p}), Target("binary", ("n", "y"), ("y",)))  # fmt: skip

    tuning, test = table("a", 60), table("b", 40)
    slope = fit_platt(tuning.truth, tuning.scores[:, 1]).slope if method == "platt" else 1
    if slope <= 0:
        with pytest.raises(UnsoundError, match="turn the score round"):
            fit_recalibration(tuning, method=method)
        return
    made = recalibrate(test, fit_recalibration(tuning, method=method, seed=seed)).scores
    assert ((made >= 0) & (made <= 1)).all()
    before, after = np.clip(test.scores[:, 1], 1e-6, 1 - 1e-6), made[:, 1]  # beyond, logits are held
    assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()
    if slope > 0.01 and after.max() < 1 - 1e-9:  # nearer to 1, floats run out
        assert auc(test.truth, after).value == pytest.approx(auc(test.truth, before).value, abs=1e-12)


def test_the_patients_of_the_fit_are_refused_unless_to_choose_a_threshold(predictions, tmp_path):
    tuning, test = predictions(prefix="tune"), predictions()
    fitted = fit_recalibration(tuning, method="platt", prevalence=0.1)
    assert Recalibration.load(fitted.save(tmp_path / "r.json")) == fitted
    assert not set(fitted.seen) & set(tuning.table["patient"])
    with pytest.raises(UnsoundError, match="60 patients of this test set were used to recalibrate"):
        recalibrate(tuning, fitted)
    mended = recalibrate(tuning, fitted, tuning=True)
    assert choose_threshold(mended).sensitivity == choose_threshold(tuning).sensitivity
    blank = type(tuning)(tuning.table.assign(label=""), tuning.target)
    assert len(recalibrate(blank, fitted)) == 120  # without a truth there is nothing to judge
    with pytest.raises(InputError, match="other classes"):
        recalibrate(predictions("classes"), fitted)
    assert len(recalibrate(test, fitted)) == 120


def test_a_prior_is_shifted_after_the_method(predictions):
    tuning, test = predictions(prefix="tune", patients=200), predictions()
    share = (tuning.truth == 1).mean()
    shift = PriorShift((1 - share, share), (0.95, 0.05))
    made = recalibrate(test, fit_recalibration(tuning, method="prior", prevalence=0.05)).scores[:, 1]
    assert made == pytest.approx(shift.apply(test.scores[:, 1]))
    warm = fit_temperature(tuning.truth, tuning.scores[:, 1]).apply(test.scores[:, 1])
    made = recalibrate(test, fit_recalibration(tuning, prevalence=0.05)).scores[:, 1]
    assert made == pytest.approx(shift.apply(warm))


def test_a_prevalence_of_several_classes_keeps_the_mix_within_them(predictions):
    held = fit_recalibration(predictions("classes", prefix="tune"), method="prior", prevalence=0.2).shift[""]
    before, after = np.array(held["training"]), np.array(held["deployment"])
    assert after[[1, 3]].sum() == pytest.approx(0.2)
    assert after[1] / after[3] == pytest.approx(before[1] / before[3])


def test_the_prevalence_is_found_without_labels(predictions):
    tuning, clinic = (predictions(prefix="tune", patients=3000, images=1), predictions(patients=4000, images=1, seed=5))
    rare = clinic.take(np.flatnonzero((clinic.truth == 0) | (np.arange(4000) % 8 == 0)))
    truth = (rare.truth == 1).mean()
    rare = type(rare)(rare.table.assign(label=""), rare.target)
    held = fit_recalibration(tuning, method="temperature", unlabelled=rare).shift[""]
    assert held["deployment"][1] == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "isotonic"}, UnsoundError, "by heart"),
        ({"method": "plat"}, ArgumentError, "Did you mean"),
        ({"method": "prior"}, ArgumentError, "needs the prevalence"),
        ({"prevalence": 1.0}, ArgumentError, "between 0 and 1"),
        ({"prevalence": {"melanoma": 0.1}}, ArgumentError, "for findings"),
    ],
)
def test_what_is_refused(predictions, options, error, message):
    with pytest.raises(error, match=message):
        fit_recalibration(predictions(prefix="tune"), **options)


def test_what_cannot_be_mended(predictions):
    tuning = predictions(prefix="tune")
    with pytest.raises(UnsoundError, match="two classes"):
        fit_recalibration(tuning.take(tuning.truth == 1))
    backwards = type(tuning)(tuning.table.assign(**{"p:melanoma": 1 - tuning.table["p:melanoma"]}), tuning.target)
    with pytest.raises(UnsoundError, match="turn the score round"):
        fit_recalibration(backwards, method="platt")
    assert fit_recalibration(backwards, method="auto").method in ("none", "temperature")
    fitted, test = fit_recalibration(tuning), predictions()
    test.table.loc[3, "p:melanoma"] = np.nan
    made = recalibrate(test, fitted).table["p:melanoma"]
    assert np.flatnonzero(made.isna()).tolist() == [3]
    test.table.loc[3, "p:melanoma"] = 4.0
    with pytest.raises(InputError, match="probabilities in 0 … 1"):
        recalibrate(test, fitted)
    with pytest.raises(InputError, match="probabilities"):
        fit_recalibration(type(test)(test.table, test.target))
    with pytest.raises(ArgumentError, match="no probabilities"):
        fit_recalibration(predictions("quantity"))
    with pytest.raises(ArgumentError, match="prevalence of its own"):
        fit_recalibration(predictions("findings"), prevalence=0.1)


def test_auto_takes_the_lowest_loss_on_patients_left_out(predictions):
    good = predictions(prefix="tune", patients=400, images=1)
    bent = type(good)(good.table.copy(), good.target)
    logit = np.log(bent.table["p:melanoma"] / (1 - bent.table["p:melanoma"])) * 1.5
    for method, shift, scale in (("temperature", 0.0, 2.5), ("platt", 2.0, 1.0)):
        bent.table["p:melanoma"] = chance = 1 / (1 + np.exp(-(shift + scale * logit)))
        if method == "temperature":  # labels drawn so that the temperature is right
            drawn = np.random.default_rng(0).random(400) < 1 / (1 + np.exp(-logit))
            bent.table["label"] = np.where(drawn, "melanoma", "benign")
        assert chance.between(0, 1).all()
        fitted = fit_recalibration(bent, method="auto")
        assert fitted.method == method
        assert "5 folds" in fitted.why


def test_before_and_after_on_the_same_cases(predictions, tmp_path):
    tuning, test = predictions(prefix="tune", patients=300), predictions()
    made = recalibrate(test, fit_recalibration(tuning))
    found = judge_calibration(test, made, ledger=tmp_path / "ledger.jsonl", resamples=500)
    truth, before, after = test.truth == 1, test.scores[:, 1], made.scores[:, 1]
    assert of(found, "brier", "as given").value == pytest.approx(np.mean((before - truth) ** 2))
    assert of(found, "brier", "recalibrated").value == pytest.approx(np.mean((after - truth) ** 2))
    loss = -np.log(np.where(truth, after, 1 - after)).mean() + np.log(np.where(truth, before, 1 - before)).mean()
    assert of(found, "log loss difference", "").value == pytest.approx(loss)
    slope = [intercept_and_slope(truth, p, test.patients)[1] for p in (before, after)]
    apart = of(found, "calibration slope difference", "")
    assert apart.value == pytest.approx(slope[1].value - slope[0].value)
    assert apart.low < apart.value < apart.high
    assert len(verify(tmp_path / "ledger.jsonl")) == 1
    again = judge_calibration(test, made, ledger=tmp_path / "ledger.jsonl", resamples=50)
    assert again.looks == 1
    assert found.save(tmp_path).joinpath("calibration.json").exists()


def test_nothing_changed_differs_by_nothing(predictions):
    test = predictions()
    found = judge_calibration(test, test, resamples=100)
    for e in found.estimates:
        if e.metric.endswith("difference"):
            assert (e.value, e.low, e.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_what_has_no_calibration_says_why(predictions):
    test = predictions()
    ill = test.take(test.truth == 1)
    found = judge_calibration(ill, ill, resamples=50)
    assert of(found, "calibration slope", "as given").undefined
    test.table.loc[0, "p:melanoma"] = np.nan
    found = judge_calibration(test, test, resamples=50)
    assert all("not finite" in e.undefined for e in found.estimates)
    with pytest.raises(InputError, match="same cases"):
        judge_calibration(test, predictions(prefix="other"))
    blank = type(test)(test.table.assign(label=""), test.target)
    with pytest.raises(InputError, match="no prediction has a known truth"):
        judge_calibration(blank, blank)


def slope_covered(predictions, runs, people):
    """The slope after a temperature T is T times that before: how often the interval of the difference holds the truth."""
    everyone = predictions(patients=40_000, images=1, seed=999)
    fitted = fit_recalibration(predictions(prefix="tune", seed=1000, patients=100))
    made = recalibrate(everyone, fitted)
    true = [intercept_and_slope(everyone.truth == 1, p.scores[:, 1])[1].value for p in (everyone, made)]
    brier = [np.mean((p.scores[:, 1] - everyone.truth) ** 2) for p in (everyone, made)]
    held = np.zeros(2)
    for seed in range(runs):
        test = predictions(patients=people, images=2, seed=seed)
        found = judge_calibration(test, recalibrate(test, fitted), resamples=200)
        for k, (metric, value) in enumerate((("calibration slope", true), ("brier", brier))):
            e = of(found, f"{metric} difference", "")
            held[k] += e.low <= value[1] - value[0] <= e.high
    return held / runs


@pytest.mark.slow
def test_coverage_of_the_change(predictions):
    held = slope_covered(predictions, 1500, 100)
    assert ((held >= 0.925) & (held <= 0.975)).all()


def test_a_method_is_chosen_on_some_of_very_many_patients(predictions, monkeypatch):
    from overread.evaluation import recalibrate as steps

    tuning = predictions(prefix="tune", patients=500)
    whole = fit_recalibration(tuning, method="auto")
    monkeypatch.setattr(steps, "ENOUGH_TO_CHOOSE", 400)
    some = fit_recalibration(tuning, method="auto")
    assert some.why != whole.why
    assert some.steps == fit_recalibration(tuning, method=some.method).steps  # fitted on all of them


def test_it_is_said_whether_the_mending_helped():
    from overread.evaluation.comparison.calibration_change import said
    from overread.stats.estimate import Estimate, undefined

    def told(low: float, high: float, of: str = "mass") -> str:
        return " ".join(said([Estimate("log loss difference", (low + high) / 2, low, high, of=of)]))

    assert told(-0.2, -0.1) == "Better on these patients: the log loss of mass fell by 0.150 (−0.200 to −0.100)."
    assert told(0.1, 0.2).startswith("Worse on these patients, by more than chance: the log loss of mass rose by 0.150")
    assert told(-0.1, 0.2).startswith("No change is shown")
    assert told(0.0, 0.0, "").startswith("The probabilities stay as they were")
    assert said([undefined("log loss difference", "0 positives")]) == ()
