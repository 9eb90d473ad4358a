"""A model beside a baseline that has seen no image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError
from overread.evaluation.comparison.compare import compare
from overread.evaluation.comparison.paired_cases import beside_baseline
from overread.predictions import Predictions
from overread.tasks.target import Target

COUNT = 240


def table(names, positive=()) -> Predictions:
    rng = np.random.default_rng(0)
    who = np.arange(COUNT) // 2
    truth = rng.integers(0, len(names), COUNT // 2)[who]
    score = np.exp(rng.normal(size=(COUNT, len(names))) + 1.3 * np.eye(len(names))[truth])
    rows = pd.DataFrame({"case": [f"c{i}" for i in range(COUNT)], "patient": [f"p{i}" for i in who], "split": "test", "source": "",
                         "label": np.array(names)[truth]})  # fmt: skip
    rows[[f"p:{name}" for name in names]] = score / score.sum(axis=1, keepdims=True)
    return Predictions(rows, Target("binary" if len(names) == 2 else "classes", names, positive))


def baseline_of(test: Predictions) -> Predictions:
    rng = np.random.default_rng(1)
    if test.target.task.binary:
        return test.with_scores(rng.random((COUNT, 1)))
    return test.with_scores(rng.dirichlet(np.ones(len(test.target.names)), COUNT))


@pytest.mark.parametrize(("names", "positive"), [(("no", "yes"), ("yes",)), (("a", "b", "c"), ("b",)), (("a", "b", "c"), ("b", "c"))])  # fmt: skip
def test_both_are_of_the_positive_class_and_differ_as_a_comparison_says(names, positive) -> None:
    test = table(names, positive)
    baseline = baseline_of(test)
    alone, beyond = beside_baseline(test, baseline)
    ill = np.isin(test.table["label"], positive)
    score = baseline.table[[f"p:{name}" for name in positive]].sum(axis=1)
    assert alone.value == pytest.approx(roc_auc_score(ill, score))
    other = compare(test, baseline)["auc", "+".join(positive)].difference
    assert [beyond.value, beyond.low, beyond.high] == pytest.approx([other.value, other.low, other.high])
    assert (alone.metric, beyond.metric, alone.of) == ("shortcut auc", "auc beyond shortcut", "+".join(positive))


def test_without_a_positive_class_it_is_the_mean_over_the_classes() -> None:
    test = table(("a", "b", "c"))
    alone, beyond = beside_baseline(test, baseline_of(test), resamples=200)
    wanted = [roc_auc_score(t.truth, t.scores, multi_class="ovr") for t in (test, baseline_of(test))]
    assert [alone.value, beyond.value] == pytest.approx([wanted[1], wanted[0] - wanted[1]])
    assert beyond.low < beyond.value < beyond.high


def test_scores_of_two_classes_can_be_given_by_the_positive_one() -> None:
    test = table(("no", "yes"), ("yes",))
    made = test.with_scores(np.full((COUNT, 1), 0.2))
    assert made.table[["p:no", "p:yes"]].iloc[0].tolist() == pytest.approx([0.8, 0.2])
    assert table(("no", "yes"), ("no",)).with_scores(np.full((COUNT, 1), 0.2)).table["p:no"][0] == pytest.approx(0.2)


def test_a_baseline_that_training_could_not_make_is_undefined() -> None:
    test = table(("a", "b", "c"))
    blind = test.with_scores(np.full((COUNT, 3), np.nan))
    assert all("one way only" in e.undefined for e in beside_baseline(test, blind))


def test_other_cases_are_refused() -> None:
    test = table(("no", "yes"), ("yes",))
    with pytest.raises(ArgumentError, match="the same cases"):
        beside_baseline(test, test.take(np.arange(10)))
