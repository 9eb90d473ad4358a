import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC, LinearSVR

from overread.core.errors import InputError
from overread.networks import heads as solver
from overread.networks.backbones import HEADS
from overread.networks.heads import calibrate, fit_heads
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
    monkeypatch.setattr(solver, "_CELLS", 3 * 70)
    parts = _fit(features, labels, Target("classes", ("a", "b", "c")).task, [1e-2])
    assert torch.allclose(whole.weight, parts.weight, atol=1e-3)


def test_a_class_without_cases_and_a_constant_feature_do_no_harm() -> None:
    features = np.c_[np.ones(20), np.r_[np.zeros(10), np.ones(10)]].astype(np.float32)
    labels = np.r_[np.zeros(10), np.ones(10)].astype(np.int64)
    heads = _fit(
        features, labels, Target("classes", ("a", "b", "never")).task, [1e-2], weights=np.array([1, 1, 0], np.float32)
    )
    assert torch.isfinite(heads.weight).all()
    assert ((torch.from_numpy(features) @ heads.weight[0] + heads.bias[0]).argmax(1).numpy() == labels).all()


def _standardised(features, rows):
    return (features - features[rows].mean(0)) / (features[rows].std(0) + 1e-4)


def _said(heads, features, k=0):
    return (torch.from_numpy(features) @ heads.weight[k] + heads.bias[k]).numpy()


def test_the_svm_equals_liblinear(cloud) -> None:
    features, labels = cloud
    masks = np.ones((2, 300), np.float32)
    masks[1, ::4] = 0
    heads = _fit(
        features, labels, Target("classes", ("a", "b", "c")).task, [1e-2, 1e-1], masks, head="svm", tolerance=1e-8
    )
    for k, penalty in enumerate((1e-2, 1e-1)):
        rows = masks[k] > 0
        z = _standardised(features, rows)
        # liblinear: |w|²/2 + C Σ; a large scale of the intercept frees it of its penalty
        oracle = LinearSVC(C=1 / (penalty * rows.sum()), intercept_scaling=100, max_iter=20_000, tol=1e-6).fit(
            z[rows], labels[rows]
        )
        assert np.abs(_said(heads, features, k) - oracle.decision_function(z)).max() < 0.01


def test_the_svm_of_a_quantity_equals_liblinear(cloud) -> None:
    features, labels = cloud
    value = (features[:, 0] * 0.1 + labels).astype(np.float32)
    heads = _fit(features, value, Target("quantity", ("v",)).task, [1e-2], head="svm", tolerance=1e-8)
    z = _standardised(features, np.ones(300, bool))
    oracle = LinearSVR(C=1 / (1e-2 * 300), loss="squared_epsilon_insensitive", epsilon=0.1, dual=False, intercept_scaling=100,
                       max_iter=20_000, tol=1e-6).fit(z, value)  # fmt: skip
    assert np.abs(_said(heads, features)[:, 0] - oracle.predict(z)).max() < 0.01


@pytest.mark.parametrize("balance", [(1.0, 1.0, 1.0), (3.0, 0.5, 1.0)])
def test_ridge_equals_scikit_learn_with_class_weights(cloud, balance) -> None:
    features, labels = cloud
    masks = np.ones((3, 300), np.float32)
    masks[1, :100], masks[2, 100:] = 0, 0  # more and fewer than half of the rows
    penalties = [1e-5, 1e-2, 1e-1]
    heads = _fit(
        features,
        labels,
        Target("classes", ("a", "b", "c")).task,
        penalties,
        masks,
        np.array(balance, np.float32),
        head="ridge",
    )
    aims = 2.0 * np.eye(3)[labels] - 1
    for k, penalty in enumerate(penalties):
        rows = masks[k] > 0
        z = _standardised(features.astype(np.float64), rows)
        oracle = Ridge(alpha=penalty * rows.sum()).fit(
            z[rows], aims[rows], sample_weight=np.array(balance)[labels[rows]]
        )
        assert np.abs(_said(heads, features, k) - oracle.predict(z)).max() < 1e-3


def test_ridge_of_findings_leaves_the_unknown_out(cloud) -> None:
    features, labels = cloud
    findings = np.stack([labels == 1, labels == 2], 1).astype(np.float32)
    findings[:60, 1] = np.nan
    heads = _fit(features, findings, Target("findings", ("x", "y")).task, [1e-2], head="ridge")
    z, known = _standardised(features, np.ones(300, bool)), ~np.isnan(findings[:, 1])
    oracle = Ridge(alpha=1e-2 * 300).fit(z[known], 2 * findings[known, 1] - 1)
    assert np.abs(_said(heads, features)[:, 1] - oracle.predict(z)).max() < 1e-3


def test_with_a_strong_penalty_the_nearest_mean_is_scikit_learns(cloud) -> None:
    features, labels = cloud
    heads = _fit(features, labels, Target("classes", ("a", "b", "c")).task, [1e6], head="nearest-mean")
    z = _standardised(features, np.ones(300, bool))
    assert (_said(heads, features).argmax(1) == NearestCentroid().fit(z, labels).predict(z)).all()


def test_the_nearest_mean_by_its_definition(cloud) -> None:
    features, labels = cloud
    heads = _fit(features, labels, Target("classes", ("a", "b", "c")).task, [0.3], head="nearest-mean")
    z = _standardised(features.astype(np.float64), np.ones(300, bool))
    means = np.stack([z[labels == k].mean(0) for k in range(3)])
    spread = (z - means[labels]).T @ (z - means[labels]) / 300 + 0.3 * np.eye(12)
    distance = np.stack([np.einsum("nf,nf->n", z - m, np.linalg.solve(spread, (z - m).T).T) for m in means], 1)
    ours = _said(heads, features)
    assert np.abs((ours - ours[:, :1]) - (distance[:, :1] - distance) / 2).max() < 1e-3


def test_the_nearest_mean_of_findings_tells_present_from_absent(cloud) -> None:
    features, labels = cloud
    findings = np.stack([labels == 1, labels == 2], 1).astype(np.float32)
    findings[:60, 1] = np.nan
    heads = _fit(features, findings, Target("findings", ("x", "y")).task, [1e5], head="nearest-mean")
    z, known = _standardised(features, np.ones(300, bool)), ~np.isnan(findings[:, 1])
    oracle = NearestCentroid().fit(z[known], findings[known, 1])
    assert ((_said(heads, features)[:, 1] > 0) == (oracle.predict(z) == 1)).all()


def test_a_quantity_has_no_nearest_mean(cloud) -> None:
    features, labels = cloud
    with pytest.raises(InputError, match=r"no classes.*logistic, svm or ridge"):
        _fit(features, labels.astype(np.float32), Target("quantity", ("v",)).task, [1e-2], head="nearest-mean")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", ["a constant", "a class of three", "more features than rows", "two alike"])
def test_every_head_bears_poor_features(head, case) -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 5)).astype(np.float32), rng.integers(0, 2, 60)
    if case == "a constant":
        features[:, 2] = 7.0
    elif case == "a class of three":
        labels[:3] = 2
    elif case == "two alike":
        features[:, 1] = features[:, 0]
    else:
        features = rng.normal(size=(60, 200)).astype(np.float32)
    masks = np.ones((4, 60), np.float32)
    masks[1, :3], masks[2, 3:20], masks[3, 20:] = 0, 0, 0  # without the class of three; without some; only some
    heads = _fit(features, labels, Target("classes", ("a", "b", "c")).task, [1e-5, 1e-3, 1e-3, 1e-1], masks, head=head)
    assert torch.isfinite(heads.weight).all()
    assert torch.isfinite(heads.bias).all()
    if head == "nearest-mean":  # a class that was never seen is never the nearest
        assert not (_said(heads, features, 1).argmax(1) == 2).any()


def test_calibrated_outputs_are_log_odds(cloud) -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(4000, 3))
    labels = np.array([rng.choice(3, p=np.exp(z) / np.exp(z).sum()) for z in truth])
    task = Target("classes", ("a", "b", "c")).task
    outputs = torch.tensor(truth * 0.05 + [0.3, 0.0, -0.2], dtype=torch.float32)[None]
    scale, shift, loss = calibrate(outputs, torch.from_numpy(labels), task, torch.ones(3))
    assert (scale - 20).abs().max() < 2
    best = -np.log(np.exp(truth)[np.arange(4000), labels] / np.exp(truth).sum(1)).mean()
    assert abs(float(loss[0]) - best) < 2e-3
    assert shift.shape == (1, 3)


@pytest.mark.parametrize("head", ["ridge", "nearest-mean"])
@pytest.mark.parametrize("kind", ["classes", "findings"])
def test_wide_features_are_solved_by_rows_to_the_same_heads(head, kind) -> None:
    """More features than rows: copies of a few columns, divided so that both ways have the same answer."""
    rng = np.random.default_rng(4)
    features, labels = rng.normal(size=(60, 20)).astype(np.float32), rng.integers(0, 3, 60)
    answers = labels if kind == "classes" else np.stack([labels == 1, labels == 2], 1).astype(np.float32)
    if kind == "findings":
        answers[:9, 1] = np.nan
    task = Target(kind, ("a", "b", "c") if kind == "classes" else ("x", "y")).task
    masks = np.ones((2, 60), np.float32)
    masks[1, ::3] = 0
    narrow = _fit(features, answers, task, [1e-1, 1e-2], masks, head=head)
    # ten copies of each column: the weights are shared out, as if the penalty were a tenth
    wide = _fit(np.tile(features, 10), answers, task, [1.0, 1e-1], masks, head=head)
    for k in range(2):
        assert np.abs(_said(narrow, features, k) - _said(wide, np.tile(features, 10), k)).max() < 2e-3
