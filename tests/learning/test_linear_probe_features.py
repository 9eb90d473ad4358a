import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from overread.images.preprocess import Preprocess
from overread.learning.checkpoint import digest_of
from overread.learning.linear_probe import cross_validate, extract
from overread.networks import backbones
from overread.tasks.target import Target

PREPROCESS = Preprocess(size=(28, 28), channels=1, mean=(0.4,), std=(0.2,))


def test_features_are_the_networks_own_and_are_cached_by_content(tmp_path) -> None:
    network = backbones.build("resnet_small", outputs=2, channels=1).eval()
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28, 1), dtype=np.uint8)
    first = extract(network, images, PREPROCESS, key="a", cache=tmp_path)
    x = torch.from_numpy(images).movedim(-1, 1).float().div(255).sub(0.4).div(0.2)
    with torch.inference_mode():
        assert torch.allclose(first, network.features(x), atol=1e-4)
    other = backbones.build("resnet_small", outputs=2, channels=1)
    assert torch.equal(extract(other, images, PREPROCESS, key="a", cache=tmp_path), first)  # from the cache
    assert not torch.equal(extract(other, images, PREPROCESS, key="b", cache=tmp_path), first)


@pytest.mark.parametrize("damage", ["garbage", "one bit", "cut", "without a checksum", "fewer"])
def test_a_damaged_cache_is_made_anew_and_counted(tmp_path, damage) -> None:
    network = backbones.build("resnet_small", outputs=2, channels=1).eval()
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28, 1), dtype=np.uint8)
    said: list[str] = []
    first = extract(network, images, PREPROCESS, key="a", cache=tmp_path, say=said.append)
    (path,) = (tmp_path / "features").iterdir()
    whole = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"damaged")
    elif damage == "one bit":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        kept = {"features": first if damage == "without a checksum" else first[:2].clone()}
        save_file(kept, path, {} if damage == "without a checksum" else {"digest": digest_of(kept)})
    assert said == []
    assert torch.equal(extract(network, images, PREPROCESS, key="a", cache=tmp_path, say=said.append), first)
    assert len(said) == 1
    assert "3 images" in said[0]
    assert path.read_bytes() == whole


def test_two_views_average_the_mirror_image() -> None:
    network = backbones.build("resnet_small", outputs=2, channels=1).eval()
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28, 1), dtype=np.uint8)
    both = extract(network, images, PREPROCESS, key="a", views=2)
    mirrored = extract(network, images[:, :, ::-1].copy(), PREPROCESS, key="a", views=2)
    assert torch.allclose(both, mirrored, atol=1e-4)


def test_a_strong_penalty_wins_on_noise() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(80, 60)).astype(np.float32), rng.integers(0, 2, 80)
    probe = cross_validate(torch.from_numpy(features), torch.from_numpy(labels), Target("binary", ("n", "p"), ("p",)).task,
                                       weights=torch.ones(2), folds=np.arange(80) % 5, penalties=(1e-4, 1e-2, 10.0))  # fmt: skip
    assert probe.penalty == 10.0
    assert len(probe.losses) == 3
