"""The rule of counted cells: its score is the k-th largest, and the number is the one with the largest AUC on tuning cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.cases.cases import Cases
from overread.cells.stages.count_rule import CountRule, case_scores, choose_rule, counted_classes, kth_largest
from overread.core.errors import InputError, UnsoundError
from overread.predictions import Predictions
from overread.tasks.target import Target

CASE, CELL = Target("binary", ("healthy", "cancer"), ("cancer",)), Target("classes", ("normal", "cancer", "debris"))


def smears(many: int = 40, needed: int = 3, seed: int = 0) -> tuple[Cases, Predictions, list[str], np.ndarray]:
    """Cases of which the ill have ``needed`` cancer cells or more, and the healthy fewer, false ones."""
    rng = np.random.default_rng(seed)
    ill = np.arange(many) % 2 == 1
    rows, owners = [], []
    for case in range(many):
        cancer = int(rng.integers(needed, needed + 3)) if ill[case] else int(rng.integers(0, needed))
        for cell in range(20):
            p = rng.uniform(0.8, 0.98) if cell < cancer else rng.uniform(0.01, 0.2)
            rows.append((f"c{case}/0/{cell}", f"p{case}", "", "", "normal", 0.9 - 0.9 * p, p, 0.1 - 0.1 * p))
            owners.append(f"c{case}")
    cells = Predictions(pd.DataFrame(rows, columns=["case", "patient", "split", "source", "label", "p:normal", "p:cancer", "p:debris"]), CELL)  # fmt: skip
    table = pd.DataFrame({"image": "", "case": [f"c{i}" for i in range(many)], "patient": [f"p{i}" for i in range(many)], "source": "", "view": "", "time": "",
                          "split": "", "label": np.where(ill, "cancer", "healthy")})  # fmt: skip
    return Cases(table, CASE), cells, owners, ill


def test_the_kth_largest_by_sorting_each_case() -> None:
    rng = np.random.default_rng(1)
    codes, scores = rng.integers(0, 7, 200), rng.random(200)
    for k in (1, 2, 9, 60):
        expected = [
            sorted(scores[codes == case], reverse=True)[k - 1] if (codes == case).sum() >= k else 0 for case in range(8)
        ]
        assert kth_largest(scores, codes, 8, k).tolist() == expected


def test_the_number_that_tells_the_cases_apart_is_found() -> None:
    cases, cells, owners, ill = smears(needed=3)
    rule = choose_rule(cells, owners, cases, ("cancer",))
    assert rule.cells == 3
    assert rule.tried["3"] == 1.0
    assert "at least 3 cells are called cancer" in str(rule)
    scores = case_scores(rule, cells, owners, cases)
    assert roc_auc_score(ill, scores) == 1
    one = CountRule("cancer", ("cancer",), 1)
    assert rule.tried["1"] == pytest.approx(roc_auc_score(ill, case_scores(one, cells, owners, cases)))


def test_a_score_reaches_a_threshold_where_so_many_cells_do() -> None:
    cases, cells, owners, _ = smears()
    rule = CountRule("cancer", ("cancer", "debris"), 4)
    scores = case_scores(rule, cells, owners, cases)
    p = cells.table["p:cancer"] + cells.table["p:debris"]
    for threshold in (0.1, 0.5, 0.9):
        reached = (p >= threshold).groupby(owners, sort=False).sum() >= 4
        assert (scores >= threshold).tolist() == reached.tolist()


def test_which_cells_count_is_asked_where_no_name_says_so() -> None:
    assert counted_classes(CASE, CELL) == ("cancer",)
    assert counted_classes(CASE, CELL, ["debris"]) == ("debris",)
    with pytest.raises(InputError, match="nobody says"):
        counted_classes(Target("binary", ("no", "yes"), ("yes",)), CELL)
    with pytest.raises(InputError, match="no such class"):
        counted_classes(CASE, CELL, ["mast"])
    with pytest.raises(InputError, match="two classes"):
        counted_classes(CELL, CELL)


def test_tuning_cases_of_one_class_are_refused() -> None:
    cases, cells, owners, ill = smears()
    some = cases.take(np.flatnonzero(ill))
    kept = np.array([owner in set(some.table["case"]) for owner in owners])
    with pytest.raises(UnsoundError, match="one class"):
        choose_rule(cells.take(kept), [o for o, k in zip(owners, kept, strict=True) if k], some, ("cancer",))
