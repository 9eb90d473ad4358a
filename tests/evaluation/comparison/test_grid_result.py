"""The table of a grid against counts by hand, scikit-learn, and itself read back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.evaluation.comparison.grid_result import FOLDS, Called, Grid, called_at, joined_calls, judge_grid
from overread.evaluation.evaluate import evaluate
from overread.evaluation.operating_point import choose_thresholds
from overread.predictions import Predictions
from overread.stats.proportions import paired_proportions

N = 200
ILL = np.random.default_rng(7).random(N) < 0.4


def table(skill: float, seed: int) -> Predictions:
    score = skill * ILL + np.random.default_rng(seed).normal(size=N)
    frame = pd.DataFrame({"case": [f"c{i}" for i in range(N)], "patient": [f"p{i // 2}" for i in range(N)], "label": np.where(ILL, "ill", "well"),
                          "p:ill": 1 / (1 + np.exp(-score)), "fold": [str(1 + i // 40) for i in range(N)]})  # fmt: skip
    return Predictions.from_frame(frame, ("ill",))


TABLES = {"a": table(0.8, 1), "b": table(2.5, 2)}


@pytest.fixture(scope="module")
def board() -> Grid:
    called = {name: called_at(each, choose_thresholds(each), "by hand") for name, each in TABLES.items()}
    return judge_grid(TABLES, called=called, resamples=200)


def test_sensitivity_and_specificity_are_those_of_the_calls(board):
    for name, each in TABLES.items():
        point = choose_thresholds(each)[0]
        flagged = each.table["p:ill"].to_numpy() >= point.threshold
        assert board.value(name, "sensitivity", "ill").value == pytest.approx(flagged[ILL].mean())
        assert board.value(name, "specificity", "ill").value == pytest.approx((~flagged)[~ILL].mean())
    a, b = ((t.table["p:ill"].to_numpy() >= choose_thresholds(t)[0].threshold) for t in TABLES.values())
    wanted = paired_proportions(a[ILL], b[ILL], (np.arange(N) // 2)[ILL])
    found = board.difference("a", "sensitivity", "ill")
    assert (found.value, found.low, found.high) == pytest.approx((wanted.difference.value, wanted.difference.low, wanted.difference.high))  # fmt: skip


def test_the_auc_within_folds_is_the_mean_of_the_folds_weighed_by_their_pairs(board):
    score, fold = TABLES["a"].table["p:ill"].to_numpy(), TABLES["a"].table["fold"].to_numpy()
    each = [
        (roc_auc_score(ILL[fold == k], score[fold == k]), ILL[fold == k].sum() * (~ILL[fold == k]).sum())
        for k in np.unique(fold)
    ]
    wanted = sum(auc * pairs for auc, pairs in each) / sum(pairs for _, pairs in each)
    assert board.value("a", FOLDS, "ill").value == pytest.approx(wanted)


def test_every_difference_is_corrected_together_and_nothing_at_half_is_left(board):
    told = {(s.system, s.metric) for s in board.standings}
    assert {("a", "auc"), ("a", "sensitivity"), ("a", "specificity")} <= told
    assert not {metric for _, metric in told} & {"accuracy", "mcc", "f1", "balanced accuracy"}
    assert all(s.adjusted >= s.p for s in board.standings)


def test_it_comes_back_from_its_files(board, tmp_path):
    board.save(tmp_path)
    again = Grid.load(tmp_path)
    assert again.table() == board.table()
    assert again.to_frame().equals(board.to_frame())


def test_one_system_alone_has_a_table_without_differences():
    one = {"a": TABLES["a"]}
    found = judge_grid(one, called={"a": called_at(TABLES["a"], choose_thresholds(TABLES["a"]), "")}, resamples=200)
    assert found.told("a", "auc", "ill").value == pytest.approx(roc_auc_score(ILL, TABLES["a"].table["p:ill"]))
    assert found.told("a", "sensitivity", "ill") is not None
    assert "minus" not in found.table()


def test_calls_of_folds_are_joined_where_every_fold_has_its_point():
    first, second = Called(("ill",), {"c1": True}, ""), Called(("ill",), {"c2": False}, "")
    assert joined_calls([[first], [second]], "n")[0].flagged == {"c1": True, "c2": False}
    assert joined_calls([[first], []], "n") == ()


def test_the_first_of_two_points_is_the_one_of_the_calls_and_the_other_is_named():
    both = {name: choose_thresholds(each, sensitivity=0.95, specificity=0.95) for name, each in TABLES.items()}
    called = {name: called_at(TABLES[name], points, "") for name, points in both.items()}
    found = judge_grid(TABLES, called=called, resamples=50)
    flagged = TABLES["a"].table["p:ill"].to_numpy() >= both["a"][0].threshold
    assert found.value("a", "sensitivity", "ill").value == pytest.approx(flagged[ILL].mean())
    assert "high specificity" in " ".join(found.cautions)
    assert sum(e.metric == "sensitivity" and e.where == {"system": "a"} for e in found.estimates) == 1
    folds = [called_at(TABLES["a"].take(np.arange(k, N, 2)), both["a"], "") for k in (0, 1)]
    joined = joined_calls(folds, "n")
    assert [(c.name, len(c.flagged)) for c in joined] == [("high sensitivity", N), ("high specificity", N)]
    assert judge_grid({"a": TABLES["a"]}, called={"a": joined}, resamples=50).told("a", "sensitivity", "ill").value == pytest.approx(flagged[ILL].mean())  # fmt: skip


GRADES = ("none", "mild", "severe")


def graded(seed: int, positive=("mild", "severe")) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(5).integers(0, 3, N)
    raw = np.exp(rng.normal(size=(N, 3)) + 1.2 * np.eye(3)[truth])
    p = raw / raw.sum(axis=1, keepdims=True)
    frame = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(N)],
            "label": np.array(GRADES)[truth],
            **{f"p:{g}": p[:, k] for k, g in enumerate(GRADES)},
        }
    )
    return Predictions.from_frame(frame, positive)


def test_of_several_classes_with_a_positive_group_the_rates_are_those_of_the_calls_alone():
    tables = {"a": graded(1), "b": graded(2)}
    called = {name: called_at(t, choose_thresholds(t, sensitivity=0.98), "by hand") for name, t in tables.items()}
    found = judge_grid(tables, called=called, resamples=50)
    for name, each in tables.items():
        ill = each.table["label"].to_numpy() != "none"
        score = each.table["p:mild"].to_numpy() + each.table["p:severe"].to_numpy()
        flagged = score >= choose_thresholds(each, sensitivity=0.98)[0].threshold
        assert (flagged != (score >= 0.5)).any()
        for metric, wanted in (("sensitivity", flagged[ill].mean()), ("specificity", (~flagged)[~ill].mean())):
            own = [
                e.value
                for e in found.estimates
                if (e.metric, e.of, e.where) == (metric, "mild+severe", {"system": name})
            ]
            assert own == [pytest.approx(wanted)], "one number, that of the calls"
    assert len({(s.system, s.metric, s.of) for s in found.standings}) == len(found.standings)


def test_every_finding_has_its_auc_within_folds():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, (N, 2))
    frame = pd.DataFrame({"case": [f"c{i}" for i in range(N)], "fold": [str(i % 4) for i in range(N)]})
    for k, name in enumerate(("mass", "fluid")):
        frame[f"label:{name}"], frame[f"p:{name}"] = truth[:, k], 1 / (1 + np.exp(-rng.normal(size=N) - truth[:, k]))
    table = Predictions.from_frame(frame)
    found = judge_grid({"a": table}, called={"a": called_at(table, choose_thresholds(table), "")}, resamples=50)
    assert {e.of for e in found.estimates if e.metric == FOLDS} == {"mass", "fluid"}


def test_a_single_system_keeps_the_cautions_and_the_looks_before(tmp_path):
    few = TABLES["a"].take(np.r_[np.flatnonzero(ILL)[:4], np.flatnonzero(~ILL)[:5]])
    for _ in range(2):
        found = judge_grid({"a": few}, ledgers={"a": tmp_path / "ledger.jsonl"}, resamples=50)
    assert "looks at these test cases before: 1" in found.cautions[0]
    assert set(evaluate(few, resamples=50).cautions) <= set(found.cautions)
    assert evaluate(few, resamples=50).cautions
