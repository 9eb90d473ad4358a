import numpy as np
import torch

from overread.images.preprocess import Preprocess
from overread.learning.linear_probe import extract
from overread.networks import backbones

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


def test_a_damaged_cache_is_made_anew(tmp_path) -> None:
    network = backbones.build("resnet_small", outputs=2, channels=1).eval()
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28, 1), dtype=np.uint8)
    first = extract(network, images, PREPROCESS, key="a", cache=tmp_path)
    for path in (tmp_path / "features").iterdir():
        path.write_bytes(b"damaged")
    assert torch.equal(extract(network, images, PREPROCESS, key="a", cache=tmp_path), first)


def test_two_views_average_the_mirror_image() -> None:
    network = backbones.build("resnet_small", outputs=2, channels=1).eval()
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28, 1), dtype=np.uint8)
    both = extract(network, images, PREPROCESS, key="a", views=2)
    mirrored = extract(network, images[:, :, ::-1].copy(), PREPROCESS, key="a", views=2)
    assert torch.allclose(both, mirrored, atol=1e-4)
