"""The table against the libraries and the literature; every network against its own shapes."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from overread.core.errors import ArgumentError
from overread.networks.backbones import BACKBONES, build, layer, tap, torchvision_models

LIBRARY = [name for name, row in BACKBONES.items() if row.url]
# Figures of the lecture notes and papers, in millions
PUBLISHED = {
    "alexnet": 61, "vgg16": 138, "vgg19": 144, "inception_v3": 23.8, "resnet50": 25.6, "mobilenet_v2": 3.5,
    "efficientnet_b0": 5.3, "squeezenet1_0": 1.25, "densenet121": 8.0, "resnet152": 60.2,
}  # fmt: skip


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def on_meta(name: str, *, outputs: int, channels: int) -> nn.Module:
    with torch.device("meta"):
        return build(name, outputs=outputs, channels=channels)


def blank(name: str, *, side: int, channels: int, device: str = "meta") -> torch.Tensor:
    return torch.zeros((2, channels) + (side,) * BACKBONES[name].dimensions, device=device)


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_are_those_of_the_table(name: str) -> None:
    outputs, channels = (1000, 3) if BACKBONES[name].url else (10, 1)
    assert count(on_meta(name, outputs=outputs, channels=channels)) == BACKBONES[name].parameters


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameters_are_the_published_ones(name: str, millions: float) -> None:
    assert BACKBONES[name].parameters / 1e6 == pytest.approx(millions, abs=0.51 if millions > 50 else 0.06)


def test_a_convolution_of_five_by_five_by_three_with_ten_filters_has_760_parameters() -> None:
    assert count(nn.Conv2d(3, 10, 5)) == (5 * 5 * 3 + 1) * 10 == 760


@pytest.mark.parametrize("name", [n for n in LIBRARY if BACKBONES[n].library == "torchvision"])
def test_table_agrees_with_torchvision(name: str) -> None:
    row = BACKBONES[name]
    published = torchvision_models().get_model_weights(name).IMAGENET1K_V1
    accuracy = published.meta["_metrics"]["ImageNet-1K"]
    assert (row.top1, row.top5) == (accuracy["acc@1"], accuracy["acc@5"])
    assert row.url == published.url
    assert row.input == published.transforms().crop_size[0]
    assert row.minimum >= max(published.meta["min_size"])
    if name != "inception_v3":  # counted there with its auxiliary head
        assert row.parameters == published.meta["num_params"]


@pytest.mark.parametrize("name", [n for n in LIBRARY if BACKBONES[n].library == "timm"])
def test_table_agrees_with_timm(name: str) -> None:
    torchvision_models()
    import timm

    published = timm.get_pretrained_cfg(name)
    assert published.hf_hub_id in BACKBONES[name].url
    assert published.license.lower() == BACKBONES[name].licence.lower()


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_takes_its_smallest_image_with_any_channels(name: str) -> None:
    channels = 1 + len(name) % 5
    network = on_meta(name, outputs=7, channels=channels).eval()
    x = blank(name, side=BACKBONES[name].minimum, channels=channels)
    maps = network.maps(x)
    assert maps.ndim == x.ndim
    assert network.pooled(maps).shape == network.features(x).shape == (2, network.width)
    assert network(x).shape == (2, 7)
    assert isinstance(network.head, nn.Linear)
    assert network.head.in_features == network.width
    assert tap(network, [BACKBONES[name].default_tap], x).ndim == 2


@pytest.mark.parametrize(("name", "side", "maps"), [
    ("alexnet", 224, (256, 6)), ("vgg16", 224, (512, 7)), ("googlenet", 224, (1024, 7)),
    ("inception_v3", 299, (2048, 8)), ("resnet50", 224, (2048, 7)), ("densenet121", 224, (1024, 7)),
    ("squeezenet1_0", 224, (512, 13)), ("mobilenet_v2", 224, (1280, 7)),
])  # fmt: skip
def test_last_maps_have_the_published_size(name: str, side: int, maps: tuple[int, int]) -> None:
    network = on_meta(name, outputs=2, channels=3).eval()
    assert tuple(network.maps(blank(name, side=side, channels=3)).shape) == (2, maps[0], maps[1], maps[1])


def test_size_of_an_output_follows_the_formula() -> None:
    """(W − F + 2P) / S + 1, for AlexNet's first convolution: (224 − 11 + 4) / 4 + 1 = 55."""
    first = on_meta("alexnet", outputs=2, channels=3).trunk.features[0]
    assert first(blank("alexnet", side=224, channels=3)).shape[-1] == (224 - 11 + 2 * 2) // 4 + 1 == 55


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_gradients_reach_every_parameter_and_nothing_is_nan(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build(name, outputs=2, channels=1)
        x = torch.randn(4, 1, 64, 64)
    network(x).square().sum().backward()
    without = [key for key, value in network.named_parameters() if value.grad is None]
    assert without == []
    assert all(bool(torch.isfinite(value.grad).all()) for value in network.parameters())


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.cat([p.flatten() for p in build("resnet_tiny", outputs=2).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    network = build("squeezenet1_1", outputs=3).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        plain = network(x)
        other = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-5)


def test_tap_averages_named_layers_and_leaves_no_hook() -> None:
    network = build("squeezenet1_1", outputs=3).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tapped = tap(network, ["features.0", "trunk.features.3", "neck"], x)
        first = network.trunk.features[0](x)
        third = network.trunk.features[:4](x)
        expected = torch.cat([first.mean((2, 3)), third.mean((2, 3)), network.features(x)], dim=1)
    torch.testing.assert_close(tapped, expected)
    assert not any(module._forward_hooks for module in network.modules())


def test_tap_of_alexnet_gives_layers_five_six_seven() -> None:
    """Bar 2015 used layers 5, 6 and 7: maps of the fifth convolution and the two dense layers."""
    network = on_meta("alexnet", outputs=2, channels=3).eval()
    x = blank("alexnet", side=224, channels=3)
    assert tap(network, ["features.11", "classifier.2", "classifier.5"], x).shape == (2, 256 + 4096 + 4096)


def test_hooks_go_away_when_the_network_fails() -> None:
    network = build("lenet5", outputs=2, channels=1)
    with pytest.raises(RuntimeError):
        tap(network, ["c1"], torch.zeros(1, 9, 32, 32))
    assert not any(module._forward_hooks for module in network.modules())


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="resnet50"):
        build("resnet_50", outputs=2)
    with pytest.raises(ArgumentError, match="layer4"):
        layer(on_meta("resnet18", outputs=2, channels=3), "layer_4")


@pytest.mark.parametrize("wrong", [{"outputs": 0}, {"outputs": 2, "channels": 0}, {"outputs": 2, "dropout": 1.0}])
def test_bad_arguments_are_refused(wrong: dict) -> None:
    with pytest.raises(ArgumentError):
        build("lenet5", **wrong)


def test_every_row_says_where_it_comes_from() -> None:
    for row in BACKBONES.values():
        assert row.licence
        assert row.source == "overread" or re.search(r"\d{4}, (arXiv|doi):", row.source)
        assert bool(row.url) == (row.top1 is not None) == (row.library != "overread")
        assert row.minimum <= row.input


def test_table_is_read_without_torch(root: Path) -> None:
    code = (
        "import sys, overread.networks.backbones as b, overread.networks.weights;"
        "assert len(b.BACKBONES) > 20; print('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
