"""The table of a grid against counts by hand, scikit-learn, and itself read back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.evaluation.comparison.grid_result import FOLDS, Called, Grid, called_at, joined_calls, judge_grid
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
