"""Arrays are judged as predictions are, and what cannot be told of them is asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from examples import some_classes, some_findings, some_predictions
from sklearn.metrics import roc_auc_score

import overread as ov
from overread.core.errors import ArgumentError
from overread.given_arrays import predictions_of


def numbers(result):
    return [(e.metric, e.of, e.value, e.low, e.high, e.images, e.patients) for e in result.estimates]


def same(one, other):
    assert [n[:2] for n in numbers(one)] == [n[:2] for n in numbers(other)]
    np.testing.assert_array_equal([n[2:] for n in numbers(one)], [n[2:] for n in numbers(other)])


@pytest.fixture(scope="module")
def two():
    test = some_predictions()
    return test, (test.table["label"] == "yes").to_numpy(int), test.table["p:yes"].to_numpy(), test.patients


def test_two_classes_give_the_numbers_of_the_table(two):
    test, y, p, who = two
    table = ov.evaluate(test, resamples=50)
    found = ov.evaluate(
        test.table["label"], p, patient=who, positive="yes", by={"source": test.table["source"]}, resamples=50
    )
    same(found, table)
    plain = ov.evaluate(y, p, patient=who, resamples=50)
    assert plain["auc"].interval == table["auc"].interval
    assert (
        ov.evaluate(
            y.astype(bool),
            np.column_stack([1 - p, p]),
            patient=who,
            classes=("False", "True"),
            positive="True",
            resamples=50,
        )["auc"]
        == ov.evaluate(y.astype(bool), p, patient=who, positive="True", resamples=50)["auc"]
    )


def test_the_score_is_of_the_second_of_the_classes_that_were_named(two):
    _, y, p, who = two
    usual = ov.evaluate(y, p, patient=who, resamples=50)["auc"].value
    turned = ov.evaluate(y, 1 - p, patient=who, classes=["1", "0"], resamples=50)["auc"].value
    assert turned == pytest.approx(usual)


def test_several_classes_give_the_numbers_of_the_table_whatever_the_order_of_columns():
    test = some_classes()
    table = ov.evaluate(test, resamples=50)
    frame = pd.DataFrame(test.scores, columns=["a", "b", "c"])
    y = test.table["label"]
    same(ov.evaluate(y, frame, patient=test.patients, resamples=50), table)
    turned = ov.evaluate(y, frame[["c", "a", "b"]], patient=test.patients, resamples=50)
    assert turned["auc", "b"] == table["auc", "b"]
    same(ov.evaluate(y.tolist(), test.scores, classes=["a", "b", "c"], patient=test.patients, resamples=50), table)
    hot = (y.to_numpy()[:, None] == np.array(["a", "b", "c"])).astype(int)
    same(ov.evaluate(hot, test.scores, classes=["a", "b", "c"], patient=test.patients, resamples=50), table)


def test_findings_and_quantities_are_told_by_their_shape():
    y = np.array([[1, 0], [0, np.nan], [1, 1], [0, 0]])
    found = predictions_of(y, np.full((4, 2), 0.4), classes=["mass", "oedema"])
    assert found.target.kind == some_findings().target.kind
    assert np.isnan(found.truth[1, 1])
    assert predictions_of([1.5, 2.25, 3.0], [1.0, 2.0, 4.0]).target.kind == "quantity"


def test_who_the_patient_is_not_is_said(two):
    _, y, p, who = two
    alone = ov.evaluate(y, p, resamples=50)
    assert alone.counts.patients == len(y)
    assert any("each case counts as a patient of its own" in note for note in alone.about.notes)
    assert "each case counts as a patient of its own" in alone._repr_html_()
    assert ov.evaluate(y, p, patient=who, resamples=50).about.notes == ()


def test_an_unknown_truth_is_counted_and_not_judged():
    found = ov.evaluate(pd.Series(["mel", "nv", None, "mel", "nv"]), [0.9, 0.2, 0.5, 0.7, 0.8], positive="mel")
    assert found.counts.unlabelled == 1
    assert found["auc", "mel"].value == 0.75


@pytest.mark.parametrize(
    ("arguments", "named", "said"),
    [
        (([0, 1, 1], [0.1, 0.2]), {}, "truth 3, scores 2"),
        (([0, 1, 1], np.full((2, 3), 1 / 3)), {}, "give p.T"),
        (([0, 1], [0.1, np.nan]), {}, "1 of 2 cases with NaN"),
        (([0, 1], [-3.0, 2.5]), {}, "logits: give scipy.special.expit"),
        (([0, 1], [[-3.0, 2.5], [1.0, 4.0]]), {}, "softmax"),
        (([0, 1], [20.0, 80.0]), {}, "give p / 100"),
        ((["a", "b"], [[0.6, 0.4], [0.5, 0.5]]), {}, "classes=\\['a', 'b'\\]"),
        ((["x", "y"], [0.6, 0.4]), {}, "say positive='x' or positive='y'"),
        (([0, 1, 2], [0.6, 0.4, 0.1]), {}, "two classes"),
        (([0.1, 0.7], [0, 1]), {}, "the truth comes first"),
        (([0, 1], ["mel", "nv"]), {}, "must be numbers"),
        ((["mel", "nx"], pd.DataFrame({"mel": [0.5, 0.5], "nv": [0.5, 0.5]})), {}, "have no column of scores.*choose from mel, nv"),
        (([0, 1], pd.DataFrame({"b": [0.5, 0.5], "a": [0.5, 0.5]})), {"classes": ["a", "b"]}, "another order"),
        (([0, 1], [[0.5, 0.9], [0.5, 0.5]]), {}, "must add up to 1 \\(given: 1 of 2"),
        (([0, 1], [0.5, 0.9]), {"patient": ["a"]}, "patient must have one value a case \\(given: 1 for 2"),
        (([0, 1],), {}, "evaluate\\(y, p, patient=…\\)"),
        ((some_predictions(),), {"patient": ["a"]}, "predictions know their"),
        ((pd.Series([0, 1], ["a", "b"]), pd.Series([0.1, 0.2], ["b", "a"])), {}, "scores.loc\\[truth.index\\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_asked_with_the_call_that_says_it(arguments, named, said):
    with pytest.raises(ArgumentError, match=f"(?is){said}"):
        ov.evaluate(*arguments, **named)


def test_a_frame_of_predictions_comes_back(two):
    test, *_ = two
    back = ov.Predictions.from_frame(test.to_frame(), positive=("yes",))
    assert back == test
    same(ov.evaluate(test.to_frame(), positive="yes", resamples=50), ov.evaluate(test, resamples=50))
    bare = ov.Predictions.from_frame(pd.DataFrame({"label": ["mel", "nv"], "p:mel": [0.5, 0.2]}))
    assert bare.table["case"].tolist() == ["case 1", "case 2"]


def test_two_models_scores_compare_as_their_tables_do(two) -> None:
    _, y, p, who = two
    q = np.clip(p + np.random.default_rng(9).normal(0, 0.3, len(p)), 0, 1)
    groups = {"sex": np.where(np.arange(len(y)) % 2, "m", "f")}
    given = ov.compare(y, p, q, patient=who, by=groups, resamples=50)
    tables = [predictions_of(y, each, patient=who, groups=groups) for each in (p, q)]
    table = ov.compare(*tables, by=["sex"], resamples=50)
    assert given.to_frame().equals(table.to_frame())
    assert given.paired
    frames = ov.compare(*(each.to_frame() for each in tables), by=["sex"], resamples=50)
    assert frames["auc"].first.value == given["auc"].first.value == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert frames["auc"].second.value == pytest.approx(roc_auc_score(y, q), abs=1e-12)
    alone = ov.compare(y, p, q, resamples=50)
    assert any("each case counts as a patient of its own" in caution for caution in alone.cautions)


@pytest.mark.parametrize(
    ("arguments", "named", "told"),
    [
        (([0, 1], [0.2, 0.7]), {}, "nothing to compare"),
        (([0, 1, 1], [0.2, 0.7, 0.6], [0.2, 0.7]), {}, "different cases"),
        (([0, 1], [0.2, 0.7], [-2.0, 7.0]), {}, "logits"),
        ((predictions_of([0, 1], [0.2, 0.7]), [0.2, 0.7], [0.2, 0.7]), {}, "not compared with one another"),
        ((predictions_of([0, 1], [0.2, 0.7]),) * 2, {"patient": ["a", "b"]}, "know their truth"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_compared(arguments, named, told) -> None:
    with pytest.raises(ArgumentError, match=told):
        ov.compare(*arguments, **named)
