"""The real SqueezeNet weights on real skin lesions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from overread.networks import weights
from overread.networks.backbones import build, library

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def store(shared: Path) -> Path:
    return shared / "weights"


def lesions(shared: Path, count: int, side: int) -> tuple[torch.Tensor, np.ndarray]:
    """``count`` images, half melanoma or basal cell carcinoma, half naevi, as the network wants them."""
    folder = shared / "data" / "ham10000"
    table = pd.read_csv(folder / "metadata.csv")
    cancer, naevi = table[table["dx"].isin(["mel", "bcc"])], table[table["dx"] == "nv"]
    rows = pd.concat([part.sample(count // 2, random_state=4) for part in (cancer, naevi)])
    images = [cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB) for name in rows["file"]]
    images = [
        (cv2.resize(i, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255) - MEAN) / STD for i in images
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), (rows["dx"] != "nv").to_numpy()


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_features_are_those_of_torchvisions_own_network(name: str, store: Path, shared: Path) -> None:
    theirs = library("torchvision.models").get_model(name, weights=None).eval()
    found = weights.find(name, folder=store)
    theirs.load_state_dict(load_file(found.path), strict=name == "squeezenet1_0")
    ours = build(name, outputs=2).eval()
    report = weights.load_into(ours, found)
    assert set(report.fresh) == {"head.weight", "head.bias"}
    x, _ = lesions(shared, 2, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours.maps(x), theirs.features(x))
        torch.testing.assert_close(ours.features(x), theirs.features(x).mean((2, 3)))


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_features_tell_cancer_from_naevi(channels: int, store: Path, shared: Path) -> None:
    """A linear probe on 160 lesions judges 80 others: far from chance with the weights, also in grey."""
    x, truth = lesions(shared, 240, 112)
    x = x.mean(1, keepdim=True) if channels == 1 else x
    network = build("squeezenet1_1", outputs=2, channels=channels).eval()
    weights.load_into(network, weights.find("squeezenet1_1", folder=store))
    with torch.inference_mode():
        features = network.to(memory_format=torch.channels_last).features(x).numpy()
    test = np.arange(240) % 3 == 0
    scaler = StandardScaler().fit(features[~test])
    probe = LogisticRegression(C=0.01, max_iter=500).fit(scaler.transform(features[~test]), truth[~test])
    assert roc_auc_score(truth[test], probe.decision_function(scaler.transform(features[test]))) > 0.75


def test_files_are_listed_with_their_backbone(store: Path) -> None:
    """The file called efficientnet_lite0 holds the weights ported from TensorFlow, which its first layer tells."""
    names = [found.name for found in weights.listing(folder=store) if found.place == "--weights"]
    assert names == ["tf_efficientnet_lite0", "mobilenet_v2", "squeezenet1_0", "squeezenet1_1"]


@pytest.mark.parametrize(("name", "file"), [
    ("mobilenet_v2", "mobilenet_v2_imagenet"), ("tf_efficientnet_lite0", "efficientnet_lite0_imagenet"),
])  # fmt: skip
def test_weights_of_the_installed_packages_are_the_converted_ones(
    name: str, file: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERREAD_CACHE", str(tmp_path))
    monkeypatch.delenv("OVERREAD_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "where", lambda: tmp_path / "store")
    found = weights.find(name)
    assert found is not None, "install the extra `weights`"
    ours, theirs = load_file(found.path), load_file(store / f"{file}.safetensors")
    compared = [key for key in theirs if not key.endswith("num_batches_tracked")]
    assert len(compared) > 200
    assert all(torch.equal(ours[key], theirs[key]) for key in compared)


def test_mobilenet_of_timm_answers_as_torchvisions_on_lesions(store: Path, shared: Path) -> None:
    theirs = library("torchvision.models").mobilenet_v2(weights=None).eval()
    found = weights.find("mobilenet_v2", folder=store)
    theirs.load_state_dict(load_file(found.path))
    ours = build("mobilenet_v2", outputs=1000).eval()
    weights.load_into(ours, found)
    x, _ = lesions(shared, 2, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
