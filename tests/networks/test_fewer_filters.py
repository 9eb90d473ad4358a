"""Fewer filters: every convolution has its share, what follows fits, and what cannot have others is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from overread.core.errors import ArgumentError
from overread.images.preprocess import Preprocess
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.networks.backbones import BACKBONES, build
from overread.networks.fewer_filters import fewer
from overread.tasks.target import Target


def plain_widths(name: str) -> list[tuple[int, int]]:
    """Filters and group sizes of the convolutions of a network as published."""
    return [(part.out_channels, part.groups) for part in build(name, outputs=2).modules() if isinstance(part, nn.Conv2d)]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["unet_small", "cnn_small", "resnet18", "inception_v3", "mobilenet_v2", "squeezenet1_1"]
)
@pytest.mark.parametrize("filters", [0.1, 0.5])
def test_each_convolution_has_its_share(name, filters):
    network = build(name, outputs=2, filters=filters).eval()
    made = [part.out_channels for part in network.modules() if isinstance(part, nn.Conv2d)]
    assert made == [max(min(16, width), int(filters * width)) for width, _ in plain_widths(name)]
    side = max(BACKBONES[name].minimum, 64)
    assert network(torch.randn(2, 3, side, side)).shape == (2, 2)
    assert network.head.in_features == network.width == network.features(torch.randn(1, 3, side, side)).shape[1]


def test_as_many_filters_are_the_network_itself():
    plain, same = build("resnet18", outputs=2), build("resnet18", outputs=2, filters=1.0)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in same.state_dict().items()}


def test_half_of_a_small_network_by_hand():
    """The stem of 16 stays, blocks of 16, 32 and 64 have 16, 16 and 32: convolutions, norms and skips counted one by one."""
    stem = 3 * 16 * 9 + 2 * 16
    block1 = 2 * (16 * 16 * 9 + 2 * 16)
    block2 = 2 * (16 * 16 * 9 + 2 * 16) + 16 * 16 + 2 * 16
    block3 = 16 * 32 * 9 + 32 * 32 * 9 + 4 * 32 + 16 * 32 + 2 * 32
    network = build("resnet_tiny", outputs=2, filters=0.5)
    assert sum(p.numel() for p in network.parameters()) == stem + block1 + block2 + block3 + 32 * 2 + 2


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "lenet5"])
def test_what_is_not_of_convolutions_is_refused(name):
    with pytest.raises(ArgumentError, match="cannot be changed"):
        build(name, outputs=2, filters=0.5)


def test_the_number_of_filters():
    assert [fewer(width, 0.1) for width in (1, 16, 160, 170, 2048)] == [1, 16, 16, 17, 204]
    assert fewer(32, 2.0) == 64


def test_a_recipe_refuses_them_beside_published_weights():
    with pytest.raises(ArgumentError, match="published weights"):
        Recipe(method="finetune", filters=0.5)
    with pytest.raises(ArgumentError, match="filters"):
        Recipe(method="scratch", filters=0.0)


def test_a_model_with_fewer_filters_comes_back(tmp_path):
    recipe = Recipe(method="scratch", backbone="resnet_tiny", filters=0.5, image_size=32)
    about = About(
        recipe,
        Preprocess((32, 32), mean=(0.5,) * 3, std=(0.2,) * 3),
        Target("binary", ("no", "yes"), ("yes",)),
        Origin("resnet_tiny", 1),
    )
    model = Model(make_network(about).eval(), about)
    again = Model.load(model.save(tmp_path / "model"))
    x = torch.randn(2, 3, 32, 32)
    assert again.digest == model.digest
    assert torch.equal(again.network(x), model.network(x))
