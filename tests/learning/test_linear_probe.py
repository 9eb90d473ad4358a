import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from overread.learning import linear_probe
from overread.learning.linear_probe import choose_penalty, fit_heads
from overread.tasks.target import Target


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    features = (rng.normal(size=(300, 12)) * rng.uniform(0.5, 20, 12) + labels[:, None] * rng.normal(size=12)).astype(
        np.float32
    )
    return features, labels


def _fit(features, labels, target, penalties, masks=None, weights=None, **options):
    masks = np.ones((len(penalties), len(features)), np.float32) if masks is None else masks
    weights = np.ones(target.outputs, np.float32) if weights is None else weights
    return fit_heads(torch.from_numpy(features), torch.from_numpy(labels), target, weights=torch.from_numpy(weights),
                     masks=torch.from_numpy(masks), penalties=torch.tensor(penalties, dtype=torch.float32), steps=500, **options)  # fmt: skip


def test_every_problem_equals_scikit_learn(cloud) -> None:
    features, labels = cloud
    target, penalties = Target("classes", ("a", "b", "c")).task, [1e-3, 1e-2, 1e-1]
    masks = np.ones((3, 300), np.float32)
    masks[1, :100] = 0
    heads = _fit(features, labels, target, penalties, masks)
    for k, penalty in enumerate(penalties):
        rows = masks[k] > 0
        mean, std = features[rows].mean(0), features[rows].std(0) + 1e-4
        oracle = LogisticRegression(C=1 / (penalty * rows.sum()), max_iter=5000, tol=1e-8).fit(
            (features[rows] - mean) / std, labels[rows]
        )
        wanted = oracle.predict_proba((features - mean) / std)
        ours = (torch.from_numpy(features) @ heads.weight[k] + heads.bias[k]).softmax(1).numpy()
        assert np.abs(ours - wanted).max() < 5e-3


def test_findings_with_unknowns_equal_separate_regressions(cloud) -> None:
    features, labels = cloud
    findings = np.stack([labels == 1, labels == 2], 1).astype(np.float32)
    findings[:60, 1] = np.nan
    heads = _fit(features, findings, Target("findings", ("x", "y")).task, [1e-2])
    mean, std = features.mean(0), features.std(0) + 1e-4
    known = ~np.isnan(findings[:, 1])
    oracle = LogisticRegression(C=1 / (1e-2 * 300), max_iter=5000, tol=1e-8).fit(
        ((features - mean) / std)[known], findings[known, 1]
    )
    ours = torch.from_numpy(features) @ heads.weight[0] + heads.bias[0]
    assert np.abs(ours[:, 1].sigmoid().numpy() - oracle.predict_proba((features - mean) / std)[:, 1]).max() < 5e-3


def test_a_quantity_equals_ridge_regression(cloud) -> None:
    features, labels = cloud
    value = (features[:, 0] * 0.3 + labels).astype(np.float32)
    heads = _fit(features, value, Target("quantity", ("v",)).task, [1e-2])
    mean, std = features.mean(0), features.std(0) + 1e-4
    oracle = Ridge(alpha=1e-2 * 300).fit((features - mean) / std, value)
    ours = (torch.from_numpy(features) @ heads.weight[0] + heads.bias[0])[:, 0].numpy()
    assert np.abs(ours - oracle.predict((features - mean) / std)).max() < 1e-2


def test_rows_in_chunks_change_nothing(cloud, monkeypatch) -> None:
    features, labels = cloud
    whole = _fit(features, labels, Target("classes", ("a", "b", "c")).task, [1e-2])
    monkeypatch.setattr(linear_probe, "_CELLS", 3 * 70)
    parts = _fit(features, labels, Target("classes", ("a", "b", "c")).task, [1e-2])
    assert torch.allclose(whole.weight, parts.weight, atol=1e-3)


def test_a_strong_penalty_wins_on_noise() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(80, 60)).astype(np.float32), rng.integers(0, 2, 80)
    _, penalty, table = choose_penalty(torch.from_numpy(features), torch.from_numpy(labels), Target("binary", ("n", "p"), ("p",)).task,
                                       weights=torch.ones(2), folds=np.arange(80) % 5, penalties=(1e-4, 1e-2, 10.0))  # fmt: skip
    assert penalty == 10.0
    assert len(table) == 3


def test_a_class_without_cases_and_a_constant_feature_do_no_harm() -> None:
    features = np.c_[np.ones(20), np.r_[np.zeros(10), np.ones(10)]].astype(np.float32)
    labels = np.r_[np.zeros(10), np.ones(10)].astype(np.int64)
    heads = _fit(
        features, labels, Target("classes", ("a", "b", "never")).task, [1e-2], weights=np.array([1, 1, 0], np.float32)
    )
    assert torch.isfinite(heads.weight).all()
    assert ((torch.from_numpy(features) @ heads.weight[0] + heads.bias[0]).argmax(1).numpy() == labels).all()
