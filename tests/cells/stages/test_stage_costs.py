"""Ceiling analysis: it names the stage that was made bad on purpose, and its numbers are those of other functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from overread.cells.stages.stage_costs import Ceiling, ceiling, ceiling_of_counts
from overread.core.errors import InputError
from overread.predictions import Predictions
from overread.tasks.target import Target

STAGES = ("segmentation", "classification", "pooling")


def said(score: np.ndarray, truth: np.ndarray) -> Predictions:
    table = pd.DataFrame({"case": [f"c{i}" for i in range(len(truth))], "patient": [f"p{i // 2}" for i in range(len(truth))], "split": "test", "source": "",
                          "label": np.where(truth, "ill", "well"), "p:well": 1 - score, "p:ill": score})  # fmt: skip
    return Predictions(table, Target("binary", ("well", "ill"), ("ill",)))


def scored(gap: float, seed: int, truth: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-(rng.normal(size=len(truth)) + gap * truth)))


def test_each_stage_costs_what_the_truth_in_its_place_gains() -> None:
    truth = np.arange(200) % 4 < 2
    systems = [said(scored(gap, seed, truth), truth) for seed, gap in enumerate((0.6, 2.5, 2.9))]
    found = ceiling(systems, STAGES, part="tuning")
    values = [roc_auc_score(truth, each.table["p:ill"]) for each in systems]
    assert [s.before.value for s in found.steps] == pytest.approx(values)
    assert [s.cost.value for s in found.steps] == pytest.approx([values[1] - values[0], values[2] - values[1], 1 - values[2]])  # fmt: skip
    assert sum(s.cost.value for s in found.steps) == pytest.approx(1 - values[0])
    assert found.dearest == "segmentation"
    assert "Most is lost in segmentation" in found.verdict
    first = found.steps[0].cost
    assert first.low < first.value < first.high
    assert found.steps[0].p < 0.001


def test_the_bad_classifier_is_named() -> None:
    truth = np.arange(200) % 4 < 2
    systems = [said(scored(gap, 7, truth), truth) for gap in (0.2, 0.25, 3.5)]
    assert ceiling(systems, STAGES).dearest == "classification"


def test_no_stage_is_named_where_none_is_told_from_chance() -> None:
    truth = np.arange(12) % 4 < 2
    systems = [said(scored(3.0, seed, truth), truth) for seed in (2, 3, 4)]
    found = ceiling(systems, STAGES)
    if not any(s.cost.low > 0 for s in found.steps):
        assert found.dearest == ""
        assert "no stage" in found.verdict


def test_the_order_of_cases_does_not_matter_and_other_cases_are_refused() -> None:
    truth = np.arange(60) % 4 < 2
    systems = [said(scored(gap, 1, truth), truth) for gap in (1.0, 2.0, 3.0)]
    turned = systems[1].take(np.arange(60)[::-1])
    assert ceiling([systems[0], turned, systems[2]], STAGES).steps == ceiling(systems, STAGES).steps
    with pytest.raises(InputError, match="different cases"):
        ceiling([systems[0], systems[1].take(np.arange(50)), systems[2]], STAGES)


def test_counts_of_classes_give_the_mean_f1() -> None:
    rng = np.random.default_rng(0)
    truth, called = rng.integers(0, 3, (40, 30)), rng.integers(0, 3, (40, 30))
    called[:, ::2] = truth[:, ::2]

    def counts(answer: np.ndarray) -> np.ndarray:
        return np.stack([np.stack([((answer == k) & (truth == k)).sum(1), ((answer == k) & (truth != k)).sum(1),
                                   ((answer != k) & (truth == k)).sum(1)], axis=1) for k in range(3)], axis=1).astype(float)  # fmt: skip

    found = ceiling_of_counts([counts(called), counts(truth)], ("classification", "nothing"), np.arange(40) // 2)
    assert found.steps[0].before.value == pytest.approx(f1_score(truth.ravel(), called.ravel(), average="macro"))
    assert found.steps[0].after.value == 1
    assert found.dearest == "classification"


def test_it_comes_back_from_its_files(tmp_path) -> None:
    truth = np.arange(60) % 4 < 2
    found = ceiling([said(scored(gap, 1, truth), truth) for gap in (1.0, 2.0, 3.0)], STAGES, notes=["A note."])
    found.save(tmp_path)
    assert Ceiling.load(tmp_path) == found
    assert "A note." in str(found)
