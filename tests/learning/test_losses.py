import numpy as np
import pytest
import torch

from overread.learning.losses import class_weights, make_loss, probabilities
from overread.tasks.target import Target

CLASSES = Target("classes", ("a", "b", "c"))
FINDINGS = Target("findings", ("x", "y"))


def test_class_weights_average_one_over_the_images() -> None:
    labels = np.array([0] * 70 + [1] * 20 + [2] * 10 + [-1] * 5)
    weights = class_weights(labels, CLASSES, 1.0)
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx(3.5)
    assert np.allclose(class_weights(labels, CLASSES, 0.0), 1.0)
    assert class_weights(np.array([0, 0, 1]), CLASSES, 1.0)[2] == 0  # nobody has it


def test_smoothed_cross_entropy_against_its_definition() -> None:
    outputs, labels = (torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2]))
    weights = np.array([1.0, 2.0, 3.0], np.float32)
    log = np.log(np.exp(outputs.numpy()) / np.exp(outputs.numpy()).sum(1, keepdims=True))
    aim = np.eye(3)[labels.numpy()] * 0.9 + 0.1 / 3
    wanted = np.mean(weights[labels.numpy()] * -(aim * log).sum(1))
    assert float(make_loss(CLASSES, weights, 0.1)(outputs, labels)) == pytest.approx(wanted, rel=1e-5)


def test_unknown_findings_do_not_count() -> None:
    outputs = torch.tensor([[0.3, -2.0], [1.0, 5.0]])
    known = torch.tensor([[1.0, float("nan")], [0.0, float("nan")]])
    wanted = np.mean([np.log1p(np.exp(-0.3)), np.log1p(np.exp(1.0))])
    assert float(make_loss(FINDINGS, np.ones(2, np.float32), 0.0)(outputs, known)) == pytest.approx(wanted, rel=1e-5)


def test_probabilities_by_kind() -> None:
    outputs = torch.tensor([[0.0, 0.0]])
    assert probabilities(outputs, Target("binary", ("n", "p"), ("p",))).tolist() == [[0.5, 0.5]]
    assert probabilities(outputs, FINDINGS).tolist() == [[0.5, 0.5]]
    assert probabilities(outputs[:, :1], Target("quantity", ("v",))).tolist() == [[0.0]]
