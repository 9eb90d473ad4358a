"""Which layer is looked at, by one rule for every network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from overread.core.errors import ArgumentError, UnavailableError
from overread.explanation.attribute import attributions
from overread.explanation.layers import as_maps, default_layer, tapped
from overread.images.preprocess import Preprocess
from overread.networks.backbones import BACKBONES
from overread.networks.fusion import Fused
from overread.networks.own import OwnNetwork
from overread.networks.taps import Tapped

SMALL = [name for name, row in BACKBONES.items() if row.parameters < 3e6]


@pytest.mark.parametrize("name", SMALL)
def test_the_layer_of_the_table_where_it_has_places(network, images, name) -> None:
    row = BACKBONES[name]
    side = 28 if row.size == 28 else max(64, row.minimum)
    net, x = network(name), images(2, 3, *[side] * row.dimensions)
    assert default_layer(net, x) == row.default_tap.removeprefix("trunk.")
    assert attributions(net, x, 1).shape == (2, *x.shape[2:])


def test_of_images_that_are_too_small_an_earlier_one(network, images) -> None:
    net = network("mobilenet_v2")
    assert default_layer(net, images(1, 3, 64, 64)) == "bn2"
    chosen = default_layer(net, images(1, 3, 32, 32))  # 1 × 1 at the end
    assert chosen == "blocks.4.2"
    assert tapped(net, images(1, 3, 32, 32), torch.tensor([0]), chosen).activations.shape[2:] == (2, 2)
    with pytest.raises(UnavailableError, match="occlusion"):
        default_layer(OwnNetwork(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))), images(1, 3, 2, 2))


def test_cam_looks_at_the_last_maps_of_all(network, images) -> None:
    net, x = network("cnn_small"), images(1, 3, 28, 28)
    assert (default_layer(net, x), default_layer(net, x, last=True)) == ("relu3", "pool3")


def test_of_frozen_features_the_last_layer_that_the_head_sees(network, images) -> None:
    body, preprocess = network("resnet_tiny"), Preprocess((28, 28), 3, mean=(0,) * 3, std=(1,) * 3)
    net = Tapped(body, ("block1", "block2"), preprocess, 3, descriptors=("colour",)).eval()
    assert default_layer(net, images(1, 3, 28, 28)) == "block2"
    found = tapped(net, images(2, 3, 28, 28), torch.tensor([2, 1]), "block2")
    weight = net.head.weight[[2, 1]][:, 16:48] / 14**2  # a linear head on means: its weight at every place
    torch.testing.assert_close(found.gradient, weight[:, :, None, None].expand(2, 32, 14, 14), atol=1e-7, rtol=1e-4)
    assert default_layer(Fused(net, "mean", outputs=2).eval(), images(1, 2, 3, 28, 28)) == "block2"
    bare = Tapped(None, (), preprocess, 3, descriptors=("colour",)).eval()
    with pytest.raises(UnavailableError, match="descriptors.*occlusion"):
        default_layer(bare, images(1, 3, 28, 28))


class Tokens(nn.Module):
    """Somebody's network of tokens, which answers by its class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 7, 7)
        self.token = nn.Parameter(torch.ones(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x):
        tokens = torch.cat([self.token.expand(len(x), 1, 8), self.patch(x).flatten(2).mT], dim=1)
        return self.out(self.norm(self.block(tokens))[:, 0])


def test_of_ones_own_network_the_last_one_whose_places_move_the_answer(images) -> None:
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert default_layer(OwnNetwork(conv), images(1, 3, 28, 28)) == "1"
    torch.manual_seed(0)
    tokens = OwnNetwork(Tokens()).eval()
    chosen = default_layer(tokens, images(1, 3, 28, 28))
    assert chosen not in ("norm", "block"), "there the patches no longer move the answer"
    assert attributions(tokens, images(2, 3, 28, 28), 1, "token-gradients").abs().amax() > 0


def test_what_has_no_places_or_does_not_run_is_refused(network, images) -> None:
    net, x, target = network("cnn_small"), images(1, 3, 28, 28), torch.tensor([0])
    with pytest.raises(ArgumentError, match="no such layer"):
        tapped(net, x, target, "relu9")
    with pytest.raises(ArgumentError, match="no places"):
        tapped(net, x, target, "neck.flatten")
    with pytest.raises(ArgumentError, match="grid"):
        as_maps(net, net.head, torch.zeros(1, 3, 4), (28, 28))
    net.add_module("idle", nn.ReLU())
    with pytest.raises(ArgumentError, match="does not run"):
        tapped(net, x, target, "idle")
