"""Class activation maps against captum, against autograd of the definitions, and against what a linear head adds up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional

from overread.core.errors import UnavailableError
from overread.explanation.cam import activation_map
from overread.explanation.layers import tapped
from overread.networks.backbones import layer

NETWORKS = [
    ("cnn_small", "relu3", 28),
    ("resnet_tiny", "block3", 28),
    ("lenet5", "tanh3", 32),
    ("squeezenet1_1", "features", 40),
]


@pytest.mark.parametrize(("name", "at", "side"), NETWORKS)
def test_grad_cam_is_captums(network, images, name, at, side) -> None:
    net, x, target = network(name), images(3, 3, side, side), torch.tensor([0, 2, 1])
    made = activation_map(net, x, target, at)
    wanted = LayerGradCam(net, layer(net, at)).attribute(x, target=target, relu_attributions=True)[:, 0]
    assert wanted.max() > 0
    torch.testing.assert_close(made, wanted.detach(), atol=1e-5 * float(wanted.detach().max()), rtol=1e-4)


def test_grad_cam_of_volumes_is_captums(network, images) -> None:
    net, x = network("cnn3d_small", channels=1), images(2, 1, 28, 28, 28)
    made = activation_map(net, x, torch.tensor([1, 1]), "relu4")
    wanted = LayerGradCam(net, layer(net, "relu4")).attribute(x, target=1, relu_attributions=True)[:, 0]
    assert made.shape == (2, 3, 3, 3)
    torch.testing.assert_close(made, wanted.detach(), atol=1e-6, rtol=1e-4)


def test_grad_cam_plus_plus_is_the_definition_with_its_three_derivatives(network, images) -> None:
    """Equation 19 as it stands: derivatives of exp(output) with respect to the maps, each by autograd of the head alone."""
    net, x = network("resnet_tiny"), images(1, 3, 28, 28)
    maps = net.maps(x).detach().double().requires_grad_()  # (1, C, h, w)
    head = net.head.double()

    def y(a):
        return torch.exp(head(a.mean(dim=(2, 3)))[0, 1])

    first = torch.autograd.grad(y(maps), maps)[0]
    bend = head.weight[1] / maps[0, 0].numel()  # of a linear head on means, d/dA of exp(s) is exp(s) times this
    second, third = (first * bend[None, :, None, None] ** power for power in (1, 2))
    alpha = second / (2 * second + maps.sum(dim=(2, 3), keepdim=True) * third)
    weights = (alpha * functional.relu(first / y(maps))).sum(dim=(2, 3))
    wanted = functional.relu((weights[:, :, None, None] * maps).sum(dim=1)).detach().float()
    net.head.float()
    made = activation_map(net, x, torch.tensor([1]), "block3", "grad-cam++")
    assert wanted.max() > 0
    torch.testing.assert_close(made, wanted, atol=1e-6, rtol=1e-3)


def test_a_cam_adds_up_to_the_output(network, images) -> None:
    net, x = network("resnet_tiny"), images(4, 3, 28, 28)
    made = activation_map(net, x, torch.tensor([2] * 4), "block3", "cam")
    torch.testing.assert_close(made.mean(dim=(1, 2)) + net.head.bias[2], net(x)[:, 2], atol=1e-5, rtol=1e-4)
    assert (made < 0).any(), "it is signed"


@pytest.mark.parametrize(("name", "at"), [("lenet5", "tanh3"), ("cnn_small", "relu3"), ("bent", "0")])
def test_there_is_no_cam_without_a_linear_head_on_the_mean(network, images, name, at) -> None:
    bent = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)
    )
    nn.init.normal_(bent[3].weight, std=20.0)
    net = bent if name == "bent" else network(name)
    with pytest.raises(UnavailableError, match="there is no CAM.*grad-cam"):
        activation_map(net, images(2, 3, 32, 32), torch.tensor([0, 1]), at, "cam")


def test_the_trunk_is_never_differentiated_and_nothing_is_left_behind(network, images) -> None:
    net, x = network("resnet_tiny"), images(2, 3, 28, 28)
    seen = []
    hook = net.trunk.block2.register_forward_hook(lambda module, given, output: seen.append(output.requires_grad))
    activation_map(net, x, torch.tensor([0, 0]), "block3")
    hook.remove()
    assert seen == [False]
    assert torch.is_grad_enabled()
    assert all(not part._forward_hooks for part in net.modules())
    assert all(weight.grad is None for weight in net.parameters())


def test_a_layer_that_works_in_place_is_kept_as_it_was(network, images) -> None:
    """Before an in-place ReLU the map must not see what the ReLU made of it."""
    net, x = network("squeezenet1_1"), images(2, 3, 64, 64)
    found = tapped(net, x, torch.tensor([0, 1]), "features.0")
    with torch.no_grad():
        wanted = layer(net, "features.0")(x)
    np.testing.assert_allclose(found.activations, wanted, atol=1e-5)
    assert (found.activations < 0).any()
