"""The decision rule of several classes: chosen on tuning predictions, frozen, refused on its patients, and used
everywhere."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    recall_score,
)

import overread as ov
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.decision.choose_decision import choose_decision, read_costs
from overread.evaluation.decision.class_decision import ClassDecision, load_frozen, load_operating_points, parted
from overread.evaluation.operating_point import choose_threshold
from overread.predictions import Predictions
from overread.reporting.gallery import confident_errors
from overread.tasks.target import Target

NAMES = ("0", "1", "2", "3")
RARE = np.array([0.8, 0.1, 0.06, 0.04])


def draw(count=400, prior=RARE, *, prefix="t", seed=0, each=1, names=NAMES):
    """Calibrated predictions of ``count`` cases, ``each`` of a patient."""
    rng, classes = np.random.default_rng([seed, *prefix.encode()]), len(prior)
    truth = rng.choice(classes, count // each + 1, p=prior / prior.sum()).repeat(each)[:count]
    x = rng.normal(size=(count, classes)) + 1.4 * np.eye(classes)[truth]
    chance = np.exp(1.4 * x + np.log(prior))
    chance /= chance.sum(axis=1, keepdims=True)
    table = pd.DataFrame({
        "case": [f"{prefix}{i}" for i in range(count)],
        "patient": [f"{prefix}p{i // each}" for i in range(count)],
        "split": "", "source": "a", "sex": rng.choice(["female", "male"], count),
        "label": np.array(names, dtype=object)[truth],
    })  # fmt: skip
    scores = pd.DataFrame(chance, columns=[f"p:{name}" for name in names])
    return Predictions(pd.concat([table, scores], axis=1), Target("classes", names))


@pytest.fixture(scope="module")
def pair():
    return draw(each=2), draw(600, prefix="e")


@pytest.fixture(scope="module")
def judged(pair):
    decision = choose_decision(pair[0])
    return decision, ov.evaluate(pair[1], at=decision, by=("sex",), resamples=50)


def test_rare_classes_are_called_more_often_and_why_is_said(judged):
    decision, found = judged
    assert decision.rule == "prior"
    assert "τ" in decision.said
    assert "the best: it adds" in decision.why
    assert decision.tried[1].gain.low > 0
    assert [t.rule for t in decision.tried] == ["argmax", "prior"]
    assert "fewer than 30 tuning patients have" in decision.why
    assert found["balanced accuracy"].value > found["top balanced accuracy"].value


def test_every_metric_of_the_calls_is_that_of_scikit_learn(pair, judged):
    decision, found = judged
    test = pair[1]
    truth = test.truth
    weights = np.diag(np.array(decision.gains))
    called = (test.scores * weights).argmax(axis=1)
    top = test.scores.argmax(axis=1)
    assert (called != top).any()
    expected = {
        "accuracy": accuracy_score(truth, called), "balanced accuracy": balanced_accuracy_score(truth, called),
        "macro f1": f1_score(truth, called, average="macro"), "mcc": matthews_corrcoef(truth, called),
        "quadratic kappa": cohen_kappa_score(truth, called, weights="quadratic"),
        "top accuracy": accuracy_score(truth, top), "top balanced accuracy": balanced_accuracy_score(truth, top),
    }  # fmt: skip
    for metric, value in expected.items():
        assert found[metric, ""].value == pytest.approx(value), metric
        assert decision.called_by in found[metric, ""].method or metric.startswith("top")
    assert np.array(found.confusion.counts).tolist() == confusion_matrix(truth, called).tolist()
    assert found.confusion.rule == decision.called_by
    for i, name in enumerate(NAMES):
        assert found["sensitivity", name].value == pytest.approx(recall_score(truth == i, called == i))
        assert found["specificity", name].value == pytest.approx(recall_score(truth != i, called != i))
        assert found["f1", name].value == pytest.approx(f1_score(truth == i, called == i))
    for sex in ("female", "male"):
        rows = (test.table["sex"] == sex).to_numpy()
        group = {e.metric: e.value for e in found.where("sex") if e.where == {"sex": sex} and not e.of}
        assert group["balanced accuracy"] == pytest.approx(balanced_accuracy_score(truth[rows], called[rows]))
        assert group["accuracy"] == pytest.approx(accuracy_score(truth[rows], called[rows]))


def test_what_is_made_of_probabilities_does_not_change(pair, judged):
    plain = ov.evaluate(pair[1], resamples=50)
    for metric in ("macro auc", "brier", "ece"):
        assert judged[1][metric, ""].value == plain[metric, ""].value
    assert any("no decision rule was frozen on tuning data (--tuning)" in c for c in plain.cautions)
    assert not any("no decision rule" in c for c in judged[1].cautions)


def test_it_comes_back_from_a_file_beside_the_points(pair, judged, tmp_path):
    decision, found = judged
    point = choose_threshold(pair[0], positive=("1", "2"), sensitivity=0.8)
    both = ov.evaluate(pair[1], at=(point, decision), resamples=50)
    both.save(tmp_path)
    assert load_frozen(tmp_path / "operating.json") == (point, decision)
    assert load_operating_points(tmp_path / "operating.json") == (point,)
    back = type(found).load(tmp_path)
    assert back.operating == (point,)
    assert back.decision == decision
    assert "called by prior-adjusted argmax" in back.table()
    assert ClassDecision.load(decision.save(tmp_path / "one.json")) == decision
    assert both["sensitivity", "1+2"].value != found["sensitivity", "1"].value
    with pytest.raises(InputError, match="holds no decision rule"):
        ClassDecision.load(point.save(tmp_path / "point.json"))


def test_it_refuses_the_patients_it_was_chosen_on(pair, judged):
    tuning, _test = pair
    with pytest.raises(UnsoundError, match="used to choose the decision rule"):
        ov.evaluate(tuning, at=judged[0])
    renamed = replace(tuning, table=tuning.table.assign(patient=[f"new{i}" for i in range(len(tuning))]))
    with pytest.raises(UnsoundError, match="under other patients"):
        ov.evaluate(renamed, at=judged[0])
    with pytest.raises(UnsoundError, match="used to choose the decision rule"):
        ov.compare(tuning, tuning, at=judged[0])


def test_the_order_of_the_classes_does_not_matter(pair, judged):
    test = pair[1]
    turned = replace(test, target=Target("classes", NAMES[::-1]))
    found = ov.evaluate(turned, at=judged[0], resamples=50)
    assert found["accuracy", ""].value == judged[1]["accuracy", ""].value
    other = draw(60, names=("a", "b", "c", "d"), prefix="x")
    with pytest.raises(InputError, match="chosen for other classes"):
        ov.evaluate(other, at=judged[0])


def test_a_comparison_of_calls_uses_the_rule_of_each(pair, judged):
    decision, found = judged
    test = pair[1]
    other = test.with_scores(test.scores)
    gap = ov.compare(test, other, at=decision, names=("ruled", "plain"), resamples=50)
    plain = ov.evaluate(test, resamples=50)
    for metric in ("accuracy", "balanced accuracy", "mcc"):
        one = gap[metric, ""]
        assert (one.first.value, one.second.value) == pytest.approx((found[metric, ""].value, plain[metric, ""].value))
    assert decision.called_by in gap["accuracy", ""].difference.method
    assert any("for one model only" in caution for caution in gap.cautions)
    both = ov.compare(test, other, at=decision, other_at=decision, resamples=50)
    assert both["accuracy", ""].difference.value == 0
    assert not any("for one model only" in caution for caution in both.cautions)


def test_the_gallery_shows_errors_of_the_calls(pair, judged):
    decision, test = judged[0], pair[1]
    shown = confident_errors(test, decision=decision, count=600)
    called = decision.calls(test.scores, NAMES)
    assert len(shown) == (called != test.truth).sum()
    first = shown.iloc[0]
    row = test.table.set_index("case").loc[first["case"]]
    assert first["probability"] == pytest.approx(row[f"p:{first['predicted']}"])


@pytest.mark.parametrize("rule", ["argmax", "prior", "thresholds"])
def test_a_rule_may_be_asked_for(rule):
    tuning = draw(1200, seed=5)
    found = choose_decision(tuning, rule=rule)
    assert found.rule == rule
    assert "asked for" in found.why
    assert found.moves == (rule != "argmax")
    if rule == "argmax":
        test = draw(300, prefix="e")
        ruled, plain = ov.evaluate(test, at=found, resamples=50), ov.evaluate(test, resamples=50)
        assert [(e.metric, e.value) for e in ruled.estimates] == [(e.metric, e.value) for e in plain.estimates]


def test_where_every_class_suffices_weights_are_tried_too():
    found = choose_decision(draw(1500, seed=6))
    assert [t.rule for t in found.tried] == ["argmax", "prior", "thresholds"]


def test_balanced_classes_stay_as_they_are():
    found = choose_decision(draw(400, np.ones(4), seed=7))
    assert found.rule == "argmax"
    assert "beyond noise" in found.why


def some(tuning, rows):
    return tuning.take(np.asarray(rows))


def cases_where_nothing_can_be_chosen():
    tuning = draw(200, each=2)
    yield "one class", some(tuning, tuning.truth == 0), "hold 1 class"
    one = replace(tuning, table=tuning.table.assign(patient="p"))
    yield "one patient", one, "hold one patient"
    yield "nothing known", replace(tuning, table=tuning.table.assign(label="")), "hold 0 classes"
    bad = tuning.scores.copy()
    bad[3, 1] = np.nan
    yield "NaN", tuning.with_scores(bad), "not finite"
    yield "logits", tuning.with_scores(np.log(tuning.scores)), "not probabilities"
    yield "per cent", tuning.with_scores(100 * tuning.scores), "not probabilities"


@pytest.mark.parametrize(("tuning", "reason"), [c[1:] for c in cases_where_nothing_can_be_chosen()],
                         ids=[c[0] for c in cases_where_nothing_can_be_chosen()])  # fmt: skip
def test_where_nothing_can_be_chosen_auto_stays_with_argmax_and_others_are_refused(tuning, reason):
    found = choose_decision(tuning)
    assert found.rule == "argmax"
    assert reason in found.why
    assert choose_decision(tuning, rule="argmax").rule == "argmax"
    for rule in ("prior", "thresholds"):
        with pytest.raises((UnsoundError, InputError), match="cannot be chosen on these tuning data"):
            choose_decision(tuning, rule=rule)


def test_a_class_that_no_tuning_case_has_is_named():
    tuning = draw(500, seed=8)
    found = choose_decision(some(tuning, tuning.truth != 3), rule="prior")
    weights = np.diag(np.array(found.gains))
    assert "no tuning case is 3" in found.why
    assert weights[3] == weights[:3].max()


def test_a_class_of_three_does_not_move_the_rule_by_itself():
    tuning = draw(300, np.ones(4), seed=9)
    kept = np.r_[np.flatnonzero(tuning.truth != 3), np.flatnonzero(tuning.truth == 3)[:3]]
    found = choose_decision(some(tuning, kept))
    assert np.isfinite(np.array(found.gains)).all()
    assert found.tried[0].score.images == len(kept)


def test_the_same_table_gives_the_same_rule(pair):
    assert choose_decision(pair[0]) == choose_decision(pair[0])
    mixed = choose_decision(pair[0].take(np.random.default_rng(0).permutation(len(pair[0]))))
    assert (mixed.gains, mixed.why) == (choose_decision(pair[0]).gains, choose_decision(pair[0]).why)
    assert mixed.tried == choose_decision(pair[0]).tried
    half = pair[0].with_scores(pair[0].scores.astype(np.float16).astype(float))
    assert choose_decision(half).rule == "prior"


@pytest.mark.parametrize("kind", ["binary", "findings", "quantity"])
def test_other_targets_have_no_such_rule(predictions, kind):
    with pytest.raises(InputError, match="one label of several classes"):
        choose_decision(predictions(kind))


def test_two_rules_for_one_table_are_refused(judged):
    with pytest.raises(ArgumentError, match="one rule"):
        parted([judged[0], judged[0]])


# -- costs ----------------------------------------------------------------------------------------------------------

COSTS = pd.DataFrame([[0, 1, 1, 1], [5, 0, 1, 1], [20, 5, 0, 2], [3, 3, 3, 0]], index=NAMES, columns=NAMES)


def test_the_smallest_expected_cost(pair, tmp_path):
    tuning, test = pair
    found = choose_decision(tuning, costs=COSTS)
    matrix = COSTS.to_numpy(float)
    called = (test.scores @ matrix).argmin(axis=1)
    assert found.calls(test.scores, NAMES).tolist() == called.tolist()
    result = ov.evaluate(test, at=found, resamples=50)
    paid, plain = (matrix[test.truth, c].mean() for c in (called, test.scores.argmax(axis=1)))
    assert result["mean cost"].value == pytest.approx(paid)
    assert paid < plain
    assert result["mean cost by argmax"].value == pytest.approx(plain)
    assert found.rule == "cost"
    assert "saved +" in found.why
    assert found.tried[1].gain.value == pytest.approx(found.tried[0].score.value - found.tried[1].score.value)


def test_costs_come_from_files_frames_and_mappings_in_any_order(tmp_path):
    turned = COSTS.loc[["2", "0", "3", "1"], ["3", "1", "0", "2"]]
    path = tmp_path / "costs.csv"
    expected = COSTS.to_numpy(float).tolist()
    for separator in (",", ";", "\t"):
        turned.to_csv(path, sep=separator, index_label="truth")
        assert read_costs(path, NAMES).tolist() == expected
    path.write_text("truth;" + ";".join(NAMES) + "\n" + "\n".join(f"{n};0,5;0,5;0,5;0,5" for n in NAMES), "utf-8")
    assert (read_costs(path, NAMES) == 0.5).all()
    spaced = pd.DataFrame(
        [[0, 2], [1, 0]], index=["basal cell", "no lesion, sure"], columns=["basal cell", "no lesion, sure"]
    )
    spaced.to_csv(path)
    assert read_costs(path, ("no lesion, sure", "basal cell")).tolist() == [[0, 1], [2, 0]]
    assert read_costs(turned.rename_axis("truth").reset_index(), NAMES).tolist() == expected
    assert read_costs({t: dict(COSTS.loc[t]) for t in NAMES}, NAMES).tolist() == expected


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.drop(index="2"), "'2' is missing among the rows"),
    (lambda t: t.drop(columns="2"), "'2' is missing among the columns"),
    (lambda t: t.rename(index={"2": "x"}), "'x' is no class among the rows"),
    (lambda t: t.rename(columns={"2": "1"}), "'1' is twice among the columns"),
    (lambda t: t.astype(object).replace(20, "much"), "a cost is no number"),
    (lambda t: 10 - t, "a wrong call costs less than the right one"),
])  # fmt: skip
def test_costs_that_do_not_fit_are_refused(change, message):
    with pytest.raises((InputError, ArgumentError), match=message):
        read_costs(change(COSTS), NAMES)


def test_costs_need_probabilities_and_a_file(pair, tmp_path):
    with pytest.raises(InputError, match="costs can be weighed by probabilities only"):
        choose_decision(pair[0].with_scores(np.log(pair[0].scores)), costs=COSTS)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "picture.csv").write_bytes(bytes(range(256)))
    for name in ("empty.csv", "picture.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            choose_decision(pair[0], costs=tmp_path / name)
    with pytest.raises(InputError, match="no table of costs"):
        choose_decision(pair[0], costs=tmp_path / "none.csv")
    with pytest.raises(ArgumentError, match="needs the costs"):
        choose_decision(pair[0], rule="cost")
    with pytest.raises(ArgumentError, match="costs have no part"):
        choose_decision(pair[0], rule="prior", costs=COSTS)
