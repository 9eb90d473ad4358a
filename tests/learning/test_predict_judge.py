import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from overread.learning.predict import score
from overread.tasks.target import Target


def test_the_mean_auc_over_classes_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, outputs = rng.integers(0, 3, 200), rng.normal(size=(200, 3))
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    wanted = np.mean([roc_auc_score(truth == k, shares[:, k]) for k in range(3)])
    assert score(outputs, truth, Target("classes", ("a", "b", "c")), 1.0) == pytest.approx(wanted)


def test_unknown_findings_are_left_out() -> None:
    truth = np.array([[1, np.nan], [0, np.nan], [1, 1], [0, 1]], np.float32)
    outputs = np.array([[0.9, 5], [0.1, 5], [0.2, 5], [0.4, 5]])
    assert score(outputs, truth, Target("findings", ("x", "y")), 1.0) == pytest.approx(
        roc_auc_score(truth[:, 0], outputs[:, 0])
    )


def test_one_class_only_falls_back_on_the_loss() -> None:
    assert score(np.zeros((3, 2)), np.zeros(3, np.int64), Target("binary", ("n", "p"), ("p",)), 0.7) == -0.7
    assert score(np.zeros((3, 1)), np.zeros(3), Target("quantity", ("v",)), 0.3) == -0.3
