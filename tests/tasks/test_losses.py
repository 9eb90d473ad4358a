"""Every loss against torch's own functions, torchvision's, or a slow restatement."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from overread.core.errors import ArgumentError
from overread.tasks.target import Target

CLASSES = Target("classes", ("a", "b", "c", "d")).task
FINDINGS = Target("findings", ("x", "y", "z")).task
QUANTITY = Target("quantity", ("v",)).task
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS = 3 * torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 3])
WEIGHTS = np.array([0.5, 1.0, 2.0, 3.0])
PRESENT = torch.tensor([[1.0, 0.0, math.nan], [math.nan, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
ONES = np.ones(4)


def _softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(each) for each in z)
    return [math.exp(each) / total for each in z]


def _cumulative(z: list[float], label: int) -> float:
    share, cost = _softmax(z), 0.0
    for step in range(len(z) - 1):
        above = sum(share[step + 1 :])
        cost -= math.log(above if label > step else 1 - above)
    return cost


SLOW = {
    "cross-entropy": lambda z, label, gamma: -math.log(_softmax(z)[label]),
    "focal": lambda z, label, gamma: -((1 - _softmax(z)[label]) ** gamma) * math.log(_softmax(z)[label]),
    "mse": lambda z, label, gamma: sum((p - (k == label)) ** 2 for k, p in enumerate(_softmax(z))) / len(z),
    "hinge": lambda z, label, gamma: sum(max(0, 1 - z[label] + z[k]) for k in range(len(z)) if k != label) / len(z),
    "cumulative": lambda z, label, gamma: _cumulative(z, label),
}


@pytest.mark.parametrize("name", CLASSES.losses)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_losses_of_classes_against_a_slow_restatement(name, smoothing, gamma) -> None:
    wanted = 0.0
    for z, label in zip(OUTPUTS.tolist(), LABELS.tolist(), strict=True):
        smooth = sum(SLOW[name](z, k, gamma) for k in range(4)) / 4
        wanted += WEIGHTS[label] * ((1 - smoothing) * SLOW[name](z, label, gamma) + smoothing * smooth) / len(LABELS)
    loss = CLASSES.loss(WEIGHTS, smoothing, name=name, gamma=gamma)
    assert float(loss(OUTPUTS, LABELS)) == pytest.approx(wanted, rel=1e-9)


def test_losses_of_classes_against_torch() -> None:
    hot = functional.one_hot(LABELS, 4).double()
    given = {
        "cross-entropy": functional.cross_entropy(OUTPUTS, LABELS),
        "mse": functional.mse_loss(OUTPUTS.softmax(1), hot),
        "hinge": functional.multi_margin_loss(OUTPUTS, LABELS),
    }
    for name, wanted in given.items():
        assert torch.allclose(CLASSES.loss(ONES, 0.0, name=name)(OUTPUTS, LABELS), wanted)
    focal = CLASSES.loss(ONES, 0.1, name="focal", gamma=0.0)(OUTPUTS, LABELS)
    assert torch.allclose(focal, functional.cross_entropy(OUTPUTS, LABELS, label_smoothing=0.1))


@pytest.mark.parametrize("name", CLASSES.losses)
def test_losses_of_classes_stay_finite_where_a_network_is_sure(name) -> None:
    outputs = torch.tensor([[60.0, -60.0, 0.0, 0.0], [-60.0, 60.0, 0.0, 0.0]], requires_grad=True)
    loss = CLASSES.loss(ONES, 0.1, name=name, gamma=0.5)(outputs, torch.tensor([0, 0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("name", ["cross-entropy", "mse", "cumulative"])
def test_a_proper_loss_is_least_at_the_shares_that_are_drawn(name) -> None:
    """And with weights of classes at shares that the prior shift gives back."""
    labels = np.repeat(np.arange(4), [50, 30, 15, 5])
    weights = CLASSES.class_weights(labels, 0.7).astype(np.float64)
    outputs = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe")  # fmt: skip
    loss = CLASSES.loss(weights, 0.0, name=name)

    def closure():
        optimizer.zero_grad()
        value = loss(outputs.expand(100, 4), torch.from_numpy(labels))
        value.backward()
        return value

    optimizer.step(closure)
    shares = CLASSES.probabilities(outputs.detach() + torch.from_numpy(CLASSES.prior_shift(labels, 0.7)))
    assert shares[0].tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-3)


def test_wrong_by_two_grades_costs_more_than_wrong_by_one() -> None:
    outputs = torch.tensor([[6.0, 0.0, 0.0, 0.0]])
    costs = [float(CLASSES.loss(ONES, 0.0, name="cumulative")(outputs, torch.tensor([k]))) for k in range(4)]
    assert costs == sorted(costs)
    plain = [float(CLASSES.loss(ONES, 0.0)(outputs, torch.tensor([k]))) for k in (1, 3)]
    assert plain[0] == pytest.approx(plain[1])  # cross-entropy does not know of any order


def test_focal_loss_of_findings_against_torchvision() -> None:
    from torchvision.ops import sigmoid_focal_loss

    outputs = OUTPUTS[:3, :3]
    known = ~torch.isnan(PRESENT)
    each = sigmoid_focal_loss(outputs, PRESENT.nan_to_num(), alpha=-1, gamma=1.5, reduction="none")
    loss = FINDINGS.loss(np.ones(3), 0.0, name="focal", gamma=1.5)
    assert torch.allclose(loss(outputs, PRESENT), each[known].mean())
    plain = FINDINGS.loss(np.array([1.0, 2.0, 3.0]), 0.1, name="focal", gamma=0.0)
    assert torch.allclose(plain(outputs, PRESENT), FINDINGS.loss(np.array([1.0, 2.0, 3.0]), 0.1)(outputs, PRESENT))


@pytest.mark.parametrize("name", FINDINGS.losses)
def test_heads_count_by_their_weights(name) -> None:
    """The weights 1, 3 and 2 have the mean 2, so that their loss is that of .5, 1.5 and 1."""
    outputs, alone = OUTPUTS[:3, :3], []
    for k in range(3):
        one = torch.full_like(PRESENT, math.nan)
        one[:, k] = PRESENT[:, k]
        loss = FINDINGS.loss(np.ones(3), 0.1, name=name)
        alone.append(float(loss(outputs, one)) * int((~torch.isnan(one)).sum()))
    wanted = (0.5 * alone[0] + 1.5 * alone[1] + 1.0 * alone[2]) / int((~torch.isnan(PRESENT)).sum())
    weighted = FINDINGS.loss(np.ones(3), 0.1, name=name, heads={"y": 3.0, "z": 2.0})
    assert float(weighted(outputs, PRESENT)) == pytest.approx(wanted)


def test_losses_of_a_quantity_against_torch() -> None:
    outputs, labels = OUTPUTS[:, :1], OUTPUTS[:, 1]
    assert torch.equal(QUANTITY.loss(ONES, 0.0)(outputs, labels), functional.mse_loss(outputs[:, 0], labels))
    huber = QUANTITY.loss(ONES, 0.0, name="huber")(outputs, labels)
    assert torch.equal(huber, functional.huber_loss(outputs[:, 0], labels, delta=1.0))


@pytest.mark.parametrize(
    ("task", "outputs", "labels"),
    [(CLASSES, OUTPUTS, LABELS), (FINDINGS, OUTPUTS[:3, :3], PRESENT), (QUANTITY, OUTPUTS[:, :1], OUTPUTS[:, 1])],
    ids=["classes", "findings", "quantity"],
)
def test_a_share_of_two_is_the_row_twice_and_of_nought_not_at_all(task, outputs, labels) -> None:
    """In every loss; the sum over rows, for which the means are undone."""
    for name in task.losses:
        loss = task.loss(np.ones(task.outputs), 0.1, name=name)
        known = [max(1, int((~torch.isnan(labels[i : i + 1])).sum())) for i in range(len(labels))]
        rows = [float(loss(outputs[i : i + 1], labels[i : i + 1])) * known[i] for i in range(len(labels))]
        shares = torch.arange(len(labels), dtype=torch.float64) % 3
        wanted = sum(share * row for share, row in zip(shares.tolist(), rows, strict=True)) / sum(known)
        assert float(loss(outputs, labels, shares)) == pytest.approx(wanted), name


def test_a_loss_of_another_task_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"huber.*cross-entropy"):
        CLASSES.loss(ONES, 0.0, name="huber")
    with pytest.raises(ArgumentError, match="hinge"):
        FINDINGS.loss(np.ones(3), 0.0, name="hinge")
    with pytest.raises(ArgumentError, match=r"one answer.*finding_weights"):
        CLASSES.loss(ONES, 0.0, heads={"a": 2.0})
    with pytest.raises(ArgumentError, match="'q'|q"):
        FINDINGS.loss(np.ones(3), 0.0, heads={"q": 2.0})
    with pytest.raises(ArgumentError, match="negative"):
        FINDINGS.loss(np.ones(3), 0.0, heads={"x": -1.0})


def test_balanced_cross_entropy_of_findings_by_the_papers_formula() -> None:
    """Rajpurkar 2017, section 2.1: −w₊ y log p − w₋ (1 − y) log (1 − p), w₊ = N/(P + N), w₋ = P/(P + N)."""
    torch.manual_seed(0)
    labels = (torch.rand(60, 3) < torch.tensor([0.05, 0.3, 0.5])).float()
    labels[:1] = 1
    labels[5:9, 1] = torch.nan
    outputs, task = torch.randn(60, 3), Target("findings", ("a", "b", "c")).task
    loss = task.loss(task.class_weights(labels.numpy(), 1.0), 0.0, name="balanced cross-entropy")(outputs, labels)
    total, many = 0.0, 0
    for k in range(3):
        known = ~torch.isnan(labels[:, k])
        y, p = labels[known, k], outputs[known, k].sigmoid()
        positive, negative = float((y == 1).sum()), float((y == 0).sum())
        first, second = negative / (positive + negative), positive / (positive + negative)
        total += float((-first * y * p.log() - second * (1 - y) * (1 - p).log()).sum())
        many += int(known.sum())
    assert float(loss) == pytest.approx(total / many, rel=1e-5)
