"""What every task says of labels and outputs, against slow restatements, numpy and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError
from overread.tasks.target import Target

CLASSES = Target("classes", ("a", "b", "c")).task
BINARY = Target("binary", ("n", "p"), ("p",)).task
FINDINGS = Target("findings", ("x", "y")).task
QUANTITY = Target("quantity", ("v",)).task


def test_class_weights_average_one_over_the_images() -> None:
    labels = np.array([0] * 70 + [1] * 20 + [2] * 10 + [-1] * 5)
    weights = CLASSES.class_weights(labels, 1.0)
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx(3.5)
    assert np.allclose(CLASSES.class_weights(labels, 0.0), 1.0)
    assert CLASSES.class_weights(np.array([0, 0, 1]), 1.0)[2] == 0  # nobody has it
    findings = np.array([[1, 0], [0, 0], [0, np.nan], [0, 0]], np.float32)
    assert FINDINGS.class_weights(findings, 1.0).tolist() == [3.0, 1.0]  # of y nothing is known to be present
    assert QUANTITY.class_weights(np.zeros(3), 1.0).tolist() == [1.0]


def _fitted(task, labels, groups, weights) -> torch.Tensor:
    """Outputs (groups, K) of a table, one row for each value of a covariate, fitted to the end by LBFGS."""
    outputs = torch.zeros(groups.max() + 1, task.outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")
    loss = task.loss(weights.astype(np.float64), 0.0)

    def closure():
        optimizer.zero_grad()
        value = loss(outputs[torch.from_numpy(groups)], torch.from_numpy(labels))
        value.backward()
        return value

    optimizer.step(closure)
    return outputs.detach()


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_prior_shift_gives_back_the_frequencies_of_the_training_part(balance) -> None:
    """A saturated model learns frequencies, whatever the loss is weighted by: those are counted here."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 3000)
    labels = np.array([rng.choice(3, p=p) for p in np.array([[0.8, 0.15, 0.05], [0.6, 0.1, 0.3], [0.9, 0.07, 0.03], [0.3, 0.6, 0.1]])[groups]])  # fmt: skip
    outputs = _fitted(CLASSES, labels, groups, CLASSES.class_weights(labels, balance))
    shares = CLASSES.probabilities(outputs + torch.from_numpy(CLASSES.prior_shift(labels, balance))).numpy()
    counted = np.stack([np.bincount(labels[groups == g], minlength=3) / (groups == g).sum() for g in range(4)])
    assert np.allclose(shares, counted, atol=1e-4)
    findings = np.stack([labels == 2, rng.random(3000) < 0.2], axis=1).astype(np.float64)
    findings[rng.random((3000, 2)) < 0.3] = np.nan
    outputs = _fitted(FINDINGS, findings, groups, FINDINGS.class_weights(findings, balance))
    shares = FINDINGS.probabilities(outputs + torch.from_numpy(FINDINGS.prior_shift(findings, balance))).numpy()
    assert np.allclose(shares, [np.nanmean(findings[groups == g], axis=0) for g in range(4)], atol=1e-4)


def test_the_prior_shift_undoes_balanced_weights_of_a_logistic_model() -> None:
    """Simulated: log odds −3 + 1.5 x; fitted with weights, the intercept is wrong by log(w1 / w0), the slope is not."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=40_000)
    labels = (rng.random(len(x)) < 1 / (1 + np.exp(3 - 1.5 * x))).astype(np.int64)
    line = torch.nn.Linear(1, 2, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(line.parameters(), max_iter=100, line_search_fn="strong_wolfe")
    loss = BINARY.loss(BINARY.class_weights(labels, 1.0).astype(np.float64), 0.0)

    def closure():
        optimizer.zero_grad()
        value = loss(line(torch.from_numpy(x)[:, None]), torch.from_numpy(labels))
        value.backward()
        return value

    optimizer.step(closure)
    at = line(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).detach() + torch.from_numpy(
        BINARY.prior_shift(labels, 1.0)
    )
    log_odds = (at[:, 1] - at[:, 0]).numpy()
    assert log_odds == pytest.approx([-3.0, -1.5], abs=0.1)


def test_classes_drawn_alike_are_shifted_like_classes_weighed_alike() -> None:
    labels = np.array([0] * 70 + [1] * 20 + [2] * 10)
    drawn = np.concatenate([np.full(100, k) for k in range(3)])  # what balanced sampling shows a network
    outputs = _fitted(CLASSES, drawn, np.zeros(300, np.int64), np.ones(3))
    shares = CLASSES.probabilities(outputs + torch.from_numpy(CLASSES.prior_shift(labels, 0.3, "balanced")))
    assert np.allclose(shares, [[0.7, 0.2, 0.1]], atol=1e-6)
    findings = np.array([[1.0]] * 10 + [[0.0]] * 90)
    one = Target("findings", ("x",)).task
    assert one.prior_shift(findings, 0.3, "balanced") == pytest.approx([np.log(10 / 90)])
    assert one.prior_shift(np.ones((4, 1)), 1.0, "balanced").tolist() == [0.0]
    assert np.isfinite(CLASSES.prior_shift(np.array([0, 0, 1]), 1.0)).all()  # nobody has the third
    assert QUANTITY.prior_shift(np.zeros(3), 1.0).tolist() == [0.0]


@pytest.mark.parametrize("loss", ["focal", "hinge"])
def test_a_loss_that_is_not_proper_has_no_shift(loss) -> None:
    labels = np.array([0] * 70 + [1] * 20 + [2] * 10)
    assert CLASSES.prior_shift(labels, 1.0, loss=loss).tolist() == [0.0] * 3
    assert CLASSES.prior_shift(labels, 1.0, loss="cumulative").tolist() == CLASSES.prior_shift(labels, 1.0).tolist()
    assert (CLASSES.prior_shift(labels, 1.0) != 0).all()
    with pytest.raises(ArgumentError, match="hinge"):
        FINDINGS.prior_shift(np.eye(2), 1.0, loss="hinge")


def test_a_finding_that_all_or_none_have_is_neither_weighed_nor_shifted() -> None:
    labels = np.array([[1.0, 0.0], [1.0, 0.0], [np.nan, 0.0]])
    assert FINDINGS.class_weights(labels, 1.0).tolist() == [1.0, 1.0]
    assert FINDINGS.prior_shift(labels, 1.0).tolist() == [0.0, 0.0]


def test_smoothed_cross_entropy_against_its_definition() -> None:
    outputs, labels = (torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2]))
    weights = np.array([1.0, 2.0, 3.0], np.float32)
    log = np.log(np.exp(outputs.numpy()) / np.exp(outputs.numpy()).sum(1, keepdims=True))
    aim = np.eye(3)[labels.numpy()] * 0.9 + 0.1 / 3
    wanted = np.mean(weights[labels.numpy()] * -(aim * log).sum(1))
    assert float(CLASSES.loss(weights, 0.1)(outputs, labels)) == pytest.approx(wanted, rel=1e-5)


def test_unknown_findings_do_not_count_in_the_loss() -> None:
    outputs = torch.tensor([[0.3, -2.0], [1.0, 5.0]])
    known = torch.tensor([[1.0, float("nan")], [0.0, float("nan")]])
    wanted = np.mean([np.log1p(np.exp(-0.3)), np.log1p(np.exp(1.0))])
    assert float(FINDINGS.loss(np.ones(2, np.float32), 0.0)(outputs, known)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "labels"),
    [(CLASSES, np.array([0, 2, 1, 1])), (FINDINGS, np.array([[1, 0], [np.nan, 1], [0, 0], [1, np.nan]], np.float32)),
     (QUANTITY, np.array([0.5, -1, 2, 0], np.float32))],
    ids=["classes", "findings", "quantity"],
)  # fmt: skip
def test_the_slope_of_a_linear_heads_loss_is_its_derivative(task, labels) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 4, task.outputs, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor(task.class_weights(labels, 0.5), dtype=torch.float64)
    each, slope = task.loss_and_slope(outputs, torch.from_numpy(labels), weights)
    assert each.shape == (2, 4)
    assert torch.allclose(torch.autograd.grad(each.sum(), outputs)[0], slope)


def test_probabilities_of_outputs() -> None:
    outputs = torch.tensor([[0.0, 0.0]])
    assert BINARY.probabilities(outputs).tolist() == [[0.5, 0.5]]
    assert FINDINGS.probabilities(outputs).tolist() == [[0.5, 0.5]]
    assert QUANTITY.probabilities(outputs[:, :1]).tolist() == [[0.0]]


def test_a_quantity_is_standardised_and_comes_back() -> None:
    values = np.array([1.0, 2.0, 6.0], np.float32)
    scale = QUANTITY.label_scale(values)
    assert QUANTITY.scaled(values, scale).mean() == pytest.approx(0, abs=1e-6)
    assert QUANTITY.unscaled(QUANTITY.scaled(values, scale), scale) == pytest.approx(values)
    assert QUANTITY.label_scale(np.ones(3))[1] > 0  # everybody alike
    assert CLASSES.scaled(np.array([0, 1]), CLASSES.label_scale(np.array([0, 1]))).tolist() == [0, 1]


# -- what chooses a snapshot ---------------------------------------------------------------------------------------


def test_the_mean_auc_over_classes_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, outputs = rng.integers(0, 3, 200), rng.normal(size=(200, 3))
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    wanted = np.mean([roc_auc_score(truth == k, shares[:, k]) for k in range(3)])
    assert CLASSES.snapshot_score(outputs, truth, 1.0) == pytest.approx(wanted)


def test_unknown_findings_are_left_out_of_the_score() -> None:
    truth = np.array([[1, np.nan], [0, np.nan], [1, 1], [0, 1]], np.float32)
    outputs = np.array([[0.9, 5], [0.1, 5], [0.2, 5], [0.4, 5]])
    assert FINDINGS.snapshot_score(outputs, truth, 1.0) == pytest.approx(roc_auc_score(truth[:, 0], outputs[:, 0]))


def test_one_class_only_falls_back_on_the_loss() -> None:
    assert BINARY.snapshot_score(np.zeros((3, 2)), np.zeros(3, np.int64), 0.7) == -0.7
    assert QUANTITY.snapshot_score(np.zeros((3, 1)), np.zeros(3), 0.3) == -0.3


# -- tables --------------------------------------------------------------------------------------------------------


def test_fewest_patients_counts_patients_not_images() -> None:
    patient = np.array(list("ppqrst"))
    assert BINARY.fewest_patients(np.array([0, 0, 0, 1, 1, 1]), patient) == 2
    findings = np.array([[1, 0], [1, 1], [0, 1], [0, np.nan], [0, 1], [0, 0]], np.float32)
    assert FINDINGS.fewest_patients(findings, patient) == 1  # x is present in p alone
    assert QUANTITY.fewest_patients(np.zeros(6), patient) == 5


def test_strata_against_slow_restatements() -> None:
    labels = np.array([2, 0, -1, 1])
    assert CLASSES.strata(labels).tolist() == labels.tolist()
    findings = np.array([[1, 1], [1, 0], [1, np.nan], [0, 0], [np.nan, 1], [1, 0]])
    common, rare = 1, 2  # x is present four times, y twice: who has both belongs to y
    assert FINDINGS.strata(findings).tolist() == [rare, common, common, 0, rare, common]
    values = np.random.default_rng(0).normal(size=101)
    edges = [np.quantile(values, share) for share in (0.2, 0.4, 0.6, 0.8)]
    assert QUANTITY.strata(values).tolist() == [sum(value > edge for edge in edges) for value in values]


def test_presence_and_questions_of_each_task() -> None:
    labels = np.array([2, -1, 0])
    assert CLASSES.presence(labels).tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert BINARY.yes_or_no(np.array([0, 1]))[1] == ("p",)  # one question of two classes
    assert BINARY.yes_or_no(np.array([0, 1]))[0].tolist() == [[0.0], [1.0]]
    asked, names = QUANTITY.yes_or_no(np.array([1.0, 5.0, 2.0]))
    assert asked.ravel().tolist() == [0.0, 1.0, 0.0]
    assert names == ("v above its median",)


def test_labels_are_read_off_columns_and_known_or_not() -> None:
    table = pd.DataFrame(
        {"label": ["b", "", "z"], "label:x": [1, 0, None], "label:y": [None] * 3, "value": [2, None, 3]}
    )
    table = table.astype({"label:x": float, "label:y": float})
    assert CLASSES.read_labels(table).tolist() == [1, -1, -1]
    assert CLASSES.known(CLASSES.read_labels(table)).tolist() == [True, False, False]
    assert FINDINGS.known(FINDINGS.read_labels(table)).tolist() == [True, True, False]
    assert QUANTITY.known(QUANTITY.read_labels(table)).tolist() == [True, False, True]
    assert [t.distinct(t.read_labels(table)) for t in (CLASSES, FINDINGS, QUANTITY)] == [1, 2, 2]


def test_columns_and_words_of_each_task() -> None:
    assert FINDINGS.label_columns == ("label:x", "label:y")
    assert [t.label_columns for t in (CLASSES, BINARY, QUANTITY)] == [("label",), ("label",), ("value",)]
    assert CLASSES.prediction_columns == ("p:a", "p:b", "p:c")
    assert QUANTITY.prediction_columns == ("predicted",)
    assert [t.summary for t in (BINARY, CLASSES, FINDINGS, QUANTITY)] == ["binary label", "3 classes", "2 findings", "a quantity"]  # fmt: skip


@pytest.mark.parametrize("task", [CLASSES, BINARY, FINDINGS, QUANTITY])
def test_pooled_outputs_have_the_mean_probabilities_of_the_views_that_are_there(task) -> None:
    outputs = torch.randn(5, 4, task.outputs, generator=torch.Generator().manual_seed(0)) * 20
    there = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]).bool()
    made = task.probabilities(task.pooled(outputs, there)).numpy()
    for case in (0, 1, 2, 4):
        alone = [task.probabilities(outputs[case, view][None])[0].numpy() for view in range(4) if there[case, view]]
        assert np.allclose(made[case], np.mean(alone, axis=0), atol=1e-5)
    assert np.isfinite(made[3]).all()  # nobody says anything
    assert np.ptp(made[3]) == 0


def test_labels_and_answers_are_told_as_people_read_them() -> None:
    assert CLASSES.label_words(np.array([2, -1])) == ["c", ""]
    assert BINARY.answer_words(np.array([[0.4, 0.6], [0.5, 0.5]])) == ["p", "n"]
    findings = np.array([[1, 0], [1, 1], [0, 0], [np.nan, 0], [np.nan, np.nan]])
    assert FINDINGS.label_words(findings) == ["x", "x, y", "none", "none", ""]
    assert FINDINGS.answer_words(np.array([[0.5, 0.4], [0.1, 0.2]])) == ["x", "none"]
    assert QUANTITY.label_words(np.array([61.23456, np.nan])) == ["61.23", ""]
    assert QUANTITY.answer_words(np.array([[0.5]])) == ["0.5"]
    assert [task.number_words(0.12345) for task in (CLASSES, QUANTITY)] == ["0.123", "0.1235"]
    assert [task.asked_of("v") for task in (FINDINGS, QUANTITY)] == ["Probability of v", "v"]
    assert [task.most_probable for task in (BINARY, FINDINGS, QUANTITY)] == [
        "the most probable class",
        "the most probable finding",
        "",
    ]


def test_what_a_case_has_and_what_excludes_each_other() -> None:
    np.testing.assert_array_equal(CLASSES.holds(np.array([1, -1])), [[0, 1, 0], [np.nan] * 3])
    np.testing.assert_array_equal(FINDINGS.holds(np.array([[1, np.nan]])), [[1, np.nan]])
    assert QUANTITY.holds(np.zeros(4)).shape == (4, 0)
    scores = np.array([0.2, 0.8])
    assert BINARY.alternatives(scores).tolist() == [[0.2, 0.8]]
    np.testing.assert_allclose(FINDINGS.alternatives(scores), [[0.8, 0.2], [0.2, 0.8]])
    assert len(QUANTITY.alternatives(scores[:1])) == 0


def test_answers_are_right_or_wrong_and_how_surely() -> None:
    """By hand: the surprise of an error is how surely it was said."""
    scores = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.3, 0.3, 0.4]])
    found = CLASSES.judged(np.array([2, 1, -1]), scores)
    assert found[["row", "truth", "predicted", "correct"]].values.tolist() == [
        [0, "c", "c", True],
        [1, "b", "a", False],
    ]
    assert found["surprise"].tolist() == [0.7, 0.6]
    assert CLASSES.judged(np.array([2, 1, -1]), scores, np.array([1, 1, 0]))["correct"].tolist() == [False, True]
    found = FINDINGS.judged(np.array([[1, np.nan], [0, 1]]), np.array([[0.9, 0.9], [0.7, 0.2]]))
    assert found[["row", "truth", "predicted"]].values.tolist() == [[0, "x", "x"], [1, "no x", "x"], [1, "y", "no y"]]
    np.testing.assert_allclose(found["surprise"], [0.9, 0.7, 0.8])
    found = QUANTITY.judged(np.array([10.0, np.nan, 20.0, 30.0]), np.array([[11.0], [5.0], [20.5], [36.0]]))
    assert found[~found["correct"]]["row"].tolist() == [0, 2, 3]
    assert found[found["correct"]]["row"].tolist() == [0, 2]  # the nearer half
