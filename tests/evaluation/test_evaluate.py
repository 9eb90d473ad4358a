"""The whole evaluation: its numbers against scikit-learn, its refusals, its files, awkward predictions."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.core.files import plain
from overread.evaluation.evaluate import Evaluation, evaluate
from overread.evaluation.operating_point import choose_threshold, choose_thresholds
from overread.evaluation.results import to_file_form
from overread.predictions import Predictions
from overread.stats.estimate import Estimate
from overread.tasks.target import Target

KINDS = ("binary", "classes", "findings", "quantity")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded(predictions, kind, tmp_path):
    tuning = predictions(kind, prefix="tuning", seed=1)
    result = evaluate(predictions(kind), at=choose_thresholds(tuning), by=("sex", "age"), resamples=50)
    assert Evaluation.load(result.save(tmp_path)) == result
    assert hash(Evaluation.load(tmp_path)) == hash(result)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.json", "metrics.json", "operating.json"]
    listed = json.loads((tmp_path / "metrics.json").read_text())
    assert set(listed[0]) == {
        "metric", "value", "low", "high", "level", "method", "images", "patients", "of", "where", "undefined", "count",
    }  # fmt: skip
    assert all((e["value"] is None) == bool(e["undefined"]) for e in listed)
    assert all(e["method"] for e in listed if not e["undefined"])


def test_binary_numbers_are_those_of_scikit_learn(predictions):
    test, tuning = predictions(), predictions(prefix="tuning", seed=1)
    point = choose_threshold(tuning)
    result = evaluate(test, at=point, resamples=100)
    truth, score = test.truth == 1, test.scores[:, 1]
    flagged = score >= point.threshold
    expected = {
        "auc": metrics.roc_auc_score(truth, score),
        "average precision": metrics.average_precision_score(truth, score),
        "sensitivity": metrics.recall_score(truth, flagged),
        "specificity": metrics.recall_score(~truth, ~flagged),
        "ppv": metrics.precision_score(truth, flagged),
        "npv": metrics.precision_score(~truth, ~flagged),
        "f1": metrics.f1_score(truth, flagged),
        "brier": metrics.brier_score_loss(truth, score),
    }
    assert {m: result[m, "melanoma"].value for m in expected} == pytest.approx(expected)
    assert result["accuracy"].value == pytest.approx(metrics.accuracy_score(truth, flagged))
    assert result["balanced accuracy", ""].value == pytest.approx(metrics.balanced_accuracy_score(truth, flagged))
    assert result["auc"] == result["auc", "melanoma"]
    assert "frozen on tuning data" in result["sensitivity"].method
    assert result["auc"].images == 120
    assert result["auc"].patients == 60
    assert result.confusion.labels == ("benign", "melanoma")
    np.testing.assert_array_equal(result.confusion.counts, metrics.confusion_matrix(truth, flagged))
    assert np.array(result.curves["melanoma"].point.confusion).sum() == 120


def test_numbers_of_several_classes_are_those_of_scikit_learn(predictions):
    test, tuning = predictions("classes"), predictions("classes", prefix="tuning", seed=1)
    point = choose_threshold(tuning, sensitivity=0.9)
    result = evaluate(test, at=point, resamples=100)
    truth, scores = test.truth, test.scores
    said = scores.argmax(axis=1)
    assert result["macro auc"].value == pytest.approx(
        np.mean([metrics.roc_auc_score(truth == k, scores[:, k]) for k in range(4)])
    )
    assert result["balanced accuracy"].value == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    assert result["macro f1"].value == pytest.approx(metrics.f1_score(truth, said, average="macro"))
    assert result["accuracy"].value == pytest.approx((truth == said).mean())
    assert result["brier"].value == pytest.approx(((scores - np.eye(4)[truth]) ** 2).sum(axis=1).mean())
    for k, name in enumerate(test.target.names):
        assert result["auc", name].value == pytest.approx(metrics.roc_auc_score(truth == k, scores[:, k]))
        assert result["f1", name].value == pytest.approx(metrics.f1_score(truth == k, said == k))
        assert result["sensitivity", name].value == pytest.approx(metrics.recall_score(truth == k, said == k))
    group, flagged = np.isin(truth, (1, 3)), scores[:, [1, 3]].sum(axis=1) >= point.threshold
    assert result.primary == "melanoma+other"
    assert result["f1", "melanoma+other"].value == pytest.approx(metrics.f1_score(group, flagged))
    assert result["specificity", "melanoma+other"].value == pytest.approx(metrics.recall_score(~group, ~flagged))
    assert result["auc"] == result["auc", "melanoma+other"]
    np.testing.assert_array_equal(result.confusion.counts, metrics.confusion_matrix(truth, said))


def test_a_point_for_one_class_judges_that_class(predictions):
    test, tuning = predictions("classes"), predictions("classes", prefix="tuning", seed=1)
    points = [choose_threshold(tuning), choose_threshold(tuning, positive="nevus")]
    result = evaluate(test, at=points, resamples=50)
    flagged = test.scores[:, 2] >= points[1].threshold
    assert result["sensitivity", "nevus"].value == pytest.approx(metrics.recall_score(test.truth == 2, flagged))
    names = [(e.metric, e.of) for e in result.estimates if not e.where]
    assert len(names) == len(set(names))


def test_findings_leave_out_the_unknown_and_those_with_one_answer(predictions):
    test = predictions("findings")
    test.table["label:other"] = np.where(test.table["label:other"].isna(), np.nan, 0.0)
    result = evaluate(test, resamples=50)
    aucs = [result["auc", name] for name in ("benign", "melanoma", "nevus")]
    assert result["macro auc"].value == pytest.approx(np.mean([e.value for e in aucs]))
    assert "without other" in result["macro auc"].method
    assert result["auc", "other"].undefined == "0 positives"
    known = test.table["label:melanoma"].notna()
    assert result["auc", "melanoma"].images == known.sum() < len(test)
    assert result.curves["other"].undefined == "0 positives"


def test_a_quantity(predictions):
    test = predictions("quantity")
    result = evaluate(test)
    assert result["mae", "value"].value == pytest.approx(metrics.mean_absolute_error(test.truth, test.scores[:, 0]))
    assert len(result.scatter.truth) == len(test)
    with pytest.raises(ArgumentError, match="no operating point"):
        evaluate(test, at=choose_threshold(predictions(prefix="tuning")))


def test_patients_seen_when_the_threshold_was_chosen_are_refused(predictions):
    tuning = predictions()
    point = choose_threshold(tuning)
    with pytest.raises(UnsoundError, match="60 patients of this test set were used to choose the threshold"):
        evaluate(tuning, at=point)
    one = predictions(prefix="new", seed=2)
    one.table.loc[0, "patient"] = tuning.table.loc[5, "patient"]
    with pytest.raises(UnsoundError, match="^1 patient ") as caught:
        evaluate(one, at=point)
    assert tuning.table.loc[5, "patient"] not in str(caught.value)


def test_subgroups_are_judged_by_themselves(predictions):
    test = predictions(patients=90)
    result = evaluate(test, by=("sex", "age"), resamples=50)
    women = test.take((test.table["sex"] == "female").to_numpy())
    alone = evaluate(women, resamples=50)
    (found,) = [e for e in result.where("sex") if e.metric == "auc" and e.where == {"sex": "female"}]
    assert (found.value, found.low, found.patients) == pytest.approx(
        (alone["auc"].value, alone["auc"].low, alone["auc"].patients)
    )
    (f1,) = [e for e in result.where("sex") if e.metric == "f1" and e.where == {"sex": "female"}]
    assert (f1.value, f1.low) == pytest.approx((alone["f1"].value, alone["f1"].low))
    assert {next(iter(e.where.items())) for e in result.where("age")} == {
        ("age", "<40"), ("age", "40–59"), ("age", "≥60"),
    }  # fmt: skip
    assert {e.where["source"] for e in result.where("source")} == {"north", "south"}
    assert "source north" in result.table()


def test_small_subgroups_are_counted_not_judged(predictions):
    test = predictions(patients=30)
    test.table["site"] = np.where(test.table.index < 18, "small", "large")
    result = evaluate(test, by=("site",), resamples=50)
    small = [e for e in result.where("site") if e.where["site"] == "small"]
    assert {e.undefined for e in small} == {"fewer than 10 patients"}
    assert {(e.images, e.patients) for e in small} == {(18, 9)}


def test_the_ledger_counts_the_looks(predictions, tmp_path):
    test = predictions()
    looks = [evaluate(test, ledger=tmp_path / "ledger.jsonl", model=f"m{i}", resamples=10).looks for i in range(3)]
    assert looks == [0, 1, 2]
    assert evaluate(predictions(seed=5, prefix="x"), ledger=tmp_path / "ledger.jsonl", resamples=10).looks == 0
    result = evaluate(test, ledger=tmp_path / "ledger.jsonl", resamples=10)
    assert "looked at 3 times before" in result.table()
    assert result.about.ledger.entry == 5


def test_without_a_point_the_threshold_is_said_to_be_unchosen(predictions):
    assert "0.5, not chosen on tuning data" in evaluate(predictions(), resamples=10)["ppv"].method


def test_the_same_whatever_the_order_of_rows_up_to_the_draw(predictions):
    test = predictions()
    mixed = test.take(np.random.default_rng(0).permutation(len(test)))
    one, two = (evaluate(t, resamples=200) for t in (test, mixed))
    for e in one.estimates:
        other = next(o for o in two.estimates if (o.metric, o.of, o.where) == (e.metric, e.of, e.where))
        assert other.value == pytest.approx(e.value, abs=0.01 if "if calibrated" in e.metric else 1e-9)


def awkward(**columns):
    table = pd.DataFrame({"case": list("abcdef"), "patient": list("uvwxyz"), "split": "", "source": ""})
    table["label"] = ["no", "yes"] * 3
    table["p:yes"] = [0.1, 0.9, 0.4, 0.6, 0.7, 0.3]
    table = table.assign(**columns)
    table.insert(5, "p:no", 1 - table["p:yes"])
    return Predictions(table, Target("binary", ("no", "yes"), ("yes",)))


@pytest.mark.parametrize(
    ("columns", "metric", "why"),
    [
        ({"label": "yes"}, "auc", "0 negatives"),
        ({"label": "no"}, "sensitivity", "0 positives"),
        ({"p:yes": [0.1, np.nan, 0.4, 0.6, 0.7, 0.3]}, "auc", "1 of 6 scores are not finite"),
        ({"p:yes": [0.1, np.nan, 0.4, 0.6, 0.7, 0.3]}, "f1", "1 of 6 scores are not finite"),
        ({"p:yes": [0.1, np.inf, 0.4, 0.6, -np.inf, 0.3]}, "average precision", "2 of 6 scores are not finite"),
        ({"p:yes": [-2.0, 3.0, 0.4, 0.6, 0.7, 0.3]}, "brier", "2 of 6 scores are not probabilities"),
        ({"p:yes": 0.2}, "ppv", "none called positive"),
        ({"p:yes": 0.2}, "calibration slope", "the scores are all equal"),
    ],
)
def test_what_has_no_value_says_why(columns, metric, why, tmp_path):
    result = evaluate(awkward(**columns), resamples=50)
    assert result[metric].undefined == why
    assert why in result.table()
    assert Evaluation.load(result.save(tmp_path)) == result


@pytest.mark.parametrize(
    "columns",
    [{}, {"patient": "one"}, {"p:yes": 0.5}, {"p:yes": np.float32([0, 1, 0, 1, 0, 1])}, {"label": ["yes"] + ["no"] * 5},
     {"label": ["yes", "no", "", "", "", "nan"]}],
)  # fmt: skip
def test_awkward_but_defined(columns):
    result = evaluate(awkward(**columns), resamples=50)
    assert not result["auc"].undefined
    assert result["auc"].low < result["auc"].high
    assert not result["accuracy"].undefined


def test_unlabelled_rows_are_counted():
    result = evaluate(awkward(label=["yes", "no", "", "", "no", None]), resamples=50)
    assert result.counts.unlabelled == 3
    assert result["auc"].images == 3
    assert "6 images of 6 patients, 3 of them without a label and not judged" in result.table()


def test_what_cannot_be_judged_is_an_error(predictions):
    test = predictions()
    with pytest.raises(InputError, match="no predictions to judge"):
        evaluate(test.take(np.zeros(len(test), bool)))
    with pytest.raises(InputError, match="known truth"):
        evaluate(awkward(label=""))
    with pytest.raises(InputError, match="Did you mean 'sex'"):
        evaluate(test, by=("sexx",))
    with pytest.raises(InputError, match="too many groups"):
        evaluate(test, by=("patient",))
    with pytest.raises(ArgumentError, match="level"):
        evaluate(test, level=95.0)
    with pytest.raises(InputError, match="there is no class 'nevus'"):
        evaluate(test, at=choose_threshold(predictions("classes", prefix="t"), positive="nevus"))
    result = evaluate(test, resamples=10)
    with pytest.raises(InputError, match="no metric 'aucc'"):
        result["aucc"]
    with pytest.raises(InputError, match="Did you mean 'melanoma'"):
        result["auc", "melanom"]


def test_stored_curves_are_thin_and_whole(predictions):
    result = evaluate(predictions(patients=4000, images=1), resamples=50)
    curve = result.curves["melanoma"]
    assert len(curve.roc.fpr) <= 500
    assert (curve.roc.fpr[0], curve.roc.tpr[0]) == (0, 0)
    assert math.isnan(curve.roc.threshold[0])
    assert (curve.roc.fpr[-1], curve.roc.tpr[-1]) == (1, 1)
    area = np.trapezoid(curve.roc.tpr, curve.roc.fpr)
    assert area == pytest.approx(result["auc"].value, abs=2e-3)
    assert len(curve.pr.recall) <= 500
    assert curve.pr.recall[-1] == 1
    assert sum(curve.scores.positive) + sum(curve.scores.negative) == 4000
    assert sum(curve.calibration.count) == 4000


def test_the_door_is_light():
    """Neither torch, nor scipy.stats, nor scikit-learn: `overread evaluate` has 2.5 seconds."""
    code = "import sys, overread.evaluation.evaluate; print([m for m in ('torch', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_hundred_thousand_rows(predictions):
    """How long they take is measured in benchmarks/."""
    test = predictions("classes", patients=50_000)
    assert evaluate(test)["accuracy"].images == len(test.table)


def test_the_accuracy_without_a_threshold_equals_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score

    rng = np.random.default_rng(4)
    truth, score = rng.integers(0, 2, 80), rng.random(80)
    table = pd.DataFrame({"case": [str(i) for i in range(80)], "patient": [str(i) for i in range(80)], "split": "test", "source": "",
                          "label": np.array(["n", "p"])[truth], "p:n": 1 - score, "p:p": score})  # fmt: skip
    made = evaluate(Predictions(table, Target("binary", ("n", "p"), ("p",))))
    assert made["top accuracy", ""].value == pytest.approx(accuracy_score(truth, score > 0.5))


def test_every_row_of_the_table_of_statistics_is_there(predictions):
    test = predictions(patients=100)
    result = evaluate(test, resamples=100, prevalence=0.05)
    truth, score = test.truth == 1, test.scores[:, 1]
    flagged = score >= 0.5
    assert result["mcc"].value == pytest.approx(metrics.matthews_corrcoef(truth, flagged))
    assert result["mcc"].of == ""
    assert result["standardised partial auc"].value == pytest.approx(metrics.roc_auc_score(truth, score, max_fpr=0.2))
    parts = {p: result[f"brier {p}"].value for p in ("reliability", "resolution", "uncertainty")}
    assert parts["reliability"] - parts["resolution"] + parts["uncertainty"] == pytest.approx(result["brier"].value)
    sensitivity, specificity = result["sensitivity"].value, result["specificity"].value
    alarm = 0.95 * (1 - specificity)
    assert result["ppv at prevalence"].value == pytest.approx(0.05 * sensitivity / (0.05 * sensitivity + alarm))
    assert "at prevalence 0.05" in result["npv at prevalence"].method
    assert "0.5, not chosen" in result["npv at prevalence"].method
    assert result.about.prevalence == 0.05
    with pytest.raises(InputError, match="no metric"):
        evaluate(test, resamples=20)["ppv at prevalence"]
    with pytest.raises(ArgumentError, match="prevalence"):
        evaluate(test, prevalence=5.0)


def test_classes_that_are_grades_have_a_quadratic_kappa(predictions):
    test = predictions("classes")
    with pytest.raises(InputError, match="no metric 'quadratic kappa'"):
        evaluate(test, resamples=20)["quadratic kappa"]
    names = dict(zip(test.target.names, ("10", "2", "1", "0")))  # their order is that of their numbers
    table = test.table.rename(columns={f"p:{old}": f"p:{new}" for old, new in names.items()})
    table["label"] = table["label"].map(names)
    graded = Predictions(table, Target("classes", tuple(names.values())))
    result = evaluate(graded, resamples=100)
    truth, said = 3 - graded.truth, 3 - graded.scores.argmax(axis=1)
    expected = metrics.cohen_kappa_score(truth, said, weights="quadratic")
    assert result["quadratic kappa"].value == pytest.approx(expected)
    assert "names are numbers" in result["quadratic kappa"].method
    assert result["mcc"].value == pytest.approx(metrics.matthews_corrcoef(truth, said))


def test_a_quantity_has_its_concordance(predictions):
    test = predictions("quantity", patients=30)
    truth, said = test.truth, test.scores[:, 0]
    above = np.sign(truth[:, None] - truth) * np.sign(said[:, None] - said)
    pairs = np.sign(truth[:, None] - truth) != 0
    assert evaluate(test)["concordance"].value == pytest.approx((above[pairs].mean() + 1) / 2)
    test.table.loc[0, "predicted"] = 1e200
    result = evaluate(test)
    assert "beyond" in result["rmse"].undefined
    assert not result["concordance"].undefined


@pytest.mark.parametrize("flip", [False, True])
def test_an_mcc_without_spread_has_a_width(flip):
    right = np.array([0.1, 0.9] * 3)
    result = evaluate(awkward(**{"p:yes": 1 - right if flip else right}), resamples=20)
    assert result["mcc"].value == (-1 if flip else 1)
    assert 0.1 < result["mcc"].high - result["mcc"].low < 1.9


def test_unlabelled_patients_at_the_end_do_not_disturb(predictions):
    """Sums per patient count up to the last patient with an answer; the bootstrap draws them all."""
    for kind in ("binary", "classes"):
        test = predictions(kind)
        test.table.loc[100:, "label"] = ""
        short = test.take(np.arange(100))
        one, two = evaluate(test, resamples=50), evaluate(short, resamples=50)
        assert one["mcc"].value == pytest.approx(two["mcc"].value)
        assert one["mcc"].patients == 50


def test_decision_curves_and_regions_are_stored(predictions):
    test = predictions(patients=100)
    curve = evaluate(test, resamples=20).curves["melanoma"]
    decision, truth, score = curve.decision, test.truth == 1, test.scores[:, 1]
    at = decision.threshold.index(0.3)
    hit, alarm = (score >= 0.3) & truth, (score >= 0.3) & ~truth
    assert decision.net_benefit[at] == pytest.approx(hit.mean() - alarm.mean() * 0.3 / 0.7)
    assert decision.treat_all[at] == pytest.approx(truth.mean() - (1 - truth.mean()) * 0.3 / 0.7)
    assert decision.low[at] < decision.net_benefit[at] < decision.high[at]
    assert len({len(v) for v in vars(decision).values() if isinstance(v, tuple)}) == 1
    assert "prevalence" not in to_file_form(decision)
    assert len(curve.point.region.fpr) == len(curve.point.region.tpr) > 50
    elsewhere = evaluate(test, resamples=20, prevalence=0.02).curves["melanoma"].decision
    assert elsewhere.prevalence == 0.02
    assert elsewhere.treat_all[at] == pytest.approx(0.02 - 0.98 * 0.3 / 0.7)
    risky = evaluate(awkward(**{"p:yes": [-2.0, 3.0, 0.4, 0.6, 0.7, 0.3]}), resamples=20).curves["yes"]
    assert "not probabilities" in risky.decision.undefined


def test_an_evaluation_can_be_extended(predictions, tmp_path):
    result = evaluate(predictions(), by=("sex",), resamples=20, prevalence=0.1)
    extra = Estimate("coverage", 0.9, 0.8, 0.95, method="Wilson", images=120, patients=60)
    longer = result.extended([extra], {"conformal": {"sets": [1, 2], "why": None}})
    assert longer["coverage"] == extra
    assert longer.more["conformal"]["sets"] == [1, 2]
    assert "coverage" not in {e.metric for e in result.estimates}
    assert Evaluation.load(longer.save(tmp_path)) == longer
    assert longer.extended(more={"agreement": 1}).more.keys() == {"conformal", "agreement"}
    with pytest.raises(InputError, match="conformal"):
        longer.extended(more={"conformal": {}})
    assert json.loads((tmp_path / "curves.json").read_text())["gaps"] == plain(longer.gaps)


def test_an_unknown_key_in_a_file_is_refused(predictions, tmp_path):
    evaluate(predictions(), resamples=10).save(tmp_path)
    listed = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "metrics.json").write_text(json.dumps([{**listed[0], "vallue": 1.0}]))
    with pytest.raises(InputError, match="Did you mean 'value'"):
        Evaluation.load(tmp_path)


SHARES = (
    "auc", "macro auc", "average precision", "accuracy", "top accuracy", "balanced accuracy", "sensitivity",
    "specificity", "ppv", "npv", "f1", "macro f1", "ece", "ece if calibrated", "brier uncertainty",
)  # fmt: skip


@pytest.mark.parametrize("digits", [1, 6])
def test_shares_stay_between_0_and_1_also_among_many_patients(digits):
    rng = np.random.default_rng(digits)
    rows = 5000
    truth = rng.random(rows) < 0.2
    risk = np.round(1 / (1 + np.exp(2 - 1.5 * truth - rng.normal(size=rows))), digits)
    columns = {"case": [f"c{i}" for i in range(rows)], "patient": [f"p{i // 2}" for i in range(rows)]}
    table = pd.DataFrame(columns | {"split": "test", "source": "", "label": np.where(truth, "ill", "well")})
    table = table.assign(sex=rng.choice(["f", "m"], rows), **{"p:well": 1 - risk, "p:ill": risk})
    result = evaluate(Predictions(table, Target("binary", ("well", "ill"), ("ill",))), by=["sex"])
    told = [e for e in result.estimates if e.metric in SHARES and not e.undefined]
    assert {"average precision", "auc", "ece"} <= {e.metric for e in told if e.where}
    for e in told:
        assert 0 <= e.low <= e.value <= e.high <= 1, e
    known = metrics.average_precision_score(truth, risk)
    assert result["average precision"].value == pytest.approx(known, abs=1e-12)


def test_macro_auc_of_findings_counts_every_case_that_any_finding_is_asked_of(predictions):
    given = predictions("findings", patients=200, images=1)
    given.table.loc[:149, "label:nevus"] = np.nan  # asked of few
    given.table.loc[100:, "label:other"] = np.nan
    given.table.loc[150:, "label:melanoma"] = np.nan
    result = evaluate(given, by=("sex",), resamples=20)
    known = {name: given.table[f"label:{name}"].notna().to_numpy() for name in given.target.names}
    macro = result["macro auc"]
    assert (
        macro.images
        == macro.patients
        == np.logical_or.reduce(list(known.values())).sum()
        > max(map(sum, known.values()))
    )
    assert f"each of {min(map(sum, known.values()))} to {max(map(sum, known.values()))} cases" in macro.method
    women = (given.table["sex"] == "female").to_numpy()
    (among,) = [e for e in result.where("sex") if e.metric == "macro auc" and e.where["sex"] == "female"]
    assert among.images == (np.logical_or.reduce(list(known.values())) & women).sum()
    assert "each of" not in evaluate(predictions("classes"), resamples=20)["macro auc"].method
