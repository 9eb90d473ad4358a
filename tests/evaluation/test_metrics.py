"""One number of a table against scikit-learn, and what happens where it is undefined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from overread.core.errors import InputError, UnsoundError
from overread.evaluation.evaluate import evaluate
from overread.evaluation.ledger import look_at, verify
from overread.evaluation.metrics import estimate_of, metric_for, statistic_of
from overread.stats.arrays import patient_codes
from overread.tasks.target import Target


def test_every_metric_as_scikit_learn_tells_it(predictions) -> None:
    p = predictions("binary", seed=4)
    truth, score = p.truth, p.scores[:, 1]
    wanted = {
        "auc": sk.roc_auc_score(truth, score),
        "macro auc": sk.roc_auc_score(truth, score),
        "average precision": sk.average_precision_score(truth, score),
        "accuracy": sk.accuracy_score(truth, p.scores.argmax(axis=1)),
        "brier": sk.brier_score_loss(truth, score),
    }
    for metric, value in wanted.items():
        found = estimate_of(p, metric, resamples=200)
        assert found.value == pytest.approx(value, abs=1e-12), metric
        assert found.low < found.value < found.high
        assert (found.images, found.patients) == (120, 60)
    q = predictions("quantity")
    assert estimate_of(q, "mae", resamples=200).value == pytest.approx(sk.mean_absolute_error(q.truth, q.scores[:, 0]))
    assert estimate_of(q, "r2", resamples=200).value == pytest.approx(sk.r2_score(q.truth, q.scores[:, 0]))


def test_the_same_as_evaluate_for_classes_and_findings(predictions) -> None:
    for kind in ("classes", "findings"):
        p = predictions(kind)
        assert estimate_of(p, "macro auc", resamples=200).value == pytest.approx(
            evaluate(p, resamples=200)["macro auc"].value, abs=1e-12
        )


def test_the_statistic_is_the_estimate(predictions) -> None:
    p = predictions("classes")
    codes = patient_codes(p.patients, len(p))
    for metric in ("auc", "macro auc", "accuracy", "brier", "average precision"):
        found = statistic_of(p, metric, codes, 60).compute(np.ones((1, 60), np.uint16))
        assert found.shape == (1, 1)
        assert found[0, 0] == pytest.approx(estimate_of(p, metric, resamples=50).value, abs=1e-12)


def test_the_first_choice_follows_the_target(predictions) -> None:
    assert metric_for(predictions("binary")) == "auc"
    assert metric_for(predictions("findings")) == "macro auc"
    assert metric_for(predictions("quantity")) == "mae"
    p = predictions("classes")
    assert metric_for(p) == "auc"
    assert metric_for(replace(p, target=Target("classes", p.target.names))) == "macro auc"
    with pytest.raises(InputError, match="is not known"):
        metric_for(p, "aucc")
    with pytest.raises(InputError, match="cannot be told"):
        metric_for(predictions("quantity"), "brier")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_told(predictions, bad: float) -> None:
    for kind, metric in (("binary", "auc"), ("binary", "brier"), ("binary", "accuracy"), ("quantity", "rmse"),
                         ("classes", "macro auc")):  # fmt: skip
        p = predictions(kind)
        table = p.table.copy()
        table.loc[3, list(p.outputs)] = bad
        found = estimate_of(replace(p, table=table), metric, resamples=50)
        assert found.undefined
        assert np.isnan(found.value)


def test_one_class_and_no_rows(predictions) -> None:
    p = predictions("binary")
    one = p.take((p.table["label"] == "melanoma").to_numpy())
    assert "0 negatives" in estimate_of(one, "auc").undefined or estimate_of(one, "auc").undefined
    assert estimate_of(one, "macro auc", resamples=50).undefined
    none = p.take(np.zeros(len(p), bool))
    for metric in ("auc", "macro auc", "accuracy", "brier", "average precision"):
        assert estimate_of(none, metric, resamples=50).undefined, metric


def test_every_model_is_written_into_the_ledger(predictions, tmp_path) -> None:
    p = predictions("binary")
    evaluate(p, ledger=tmp_path / "ledger.jsonl", resamples=50)
    assert look_at(p, tmp_path / "ledger.jsonl", [("m1", "a"), ("m2", "b")]) == 1
    entries = verify(tmp_path / "ledger.jsonl")
    assert [e["model"] for e in entries[1:]] == ["m1", "m2"]
    assert len({e["test"] for e in entries}) == 1, "one test set, however it is looked at"
    assert look_at(p, None, [("m", "a")]) == 0
    (tmp_path / "ledger.jsonl").write_text("", "utf-8")
    with pytest.raises(UnsoundError):
        look_at(p, tmp_path / "ledger.jsonl", [("m", "a")])
