"""Sizes and counts, against torch's own layers and the papers' figures."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import overread as ov
from overread.core.errors import ArgumentError
from overread.networks.arithmetic import conv_output, conv_parameters, count_parameters, dense_parameters
from overread.networks.backbones import BACKBONES, build


@pytest.mark.parametrize("size", [7, 28, 33])
def test_sizes_are_those_that_torch_makes(size) -> None:
    for f, p, s in itertools.product((1, 3, 5, 7), (0, 1, 3), (1, 2, 3)):
        made = nn.functional.conv2d(torch.zeros(1, 1, size, size), torch.zeros(1, 1, f, f), padding=p, stride=s)
        assert conv_output(size, f, p, s) == made.shape[-1]
    pooled = nn.functional.max_pool2d(torch.zeros(1, 1, size, size + 4), (3, 2), (2, 1))
    assert conv_output((size, size + 4), (3, 2), stride=(2, 1)) == tuple(pooled.shape[2:])
    assert conv_output((size, size, size), 3, 1) == (size, size, size)


def test_what_the_courses_write_on_the_board() -> None:
    assert ov.conv_output(227, 11, stride=4) == 55  # AlexNet, first layer
    assert ov.conv_output(7, 3, padding=1, stride=3) == 3  # 2.67 is cut down, not rounded
    assert ov.conv_parameters(5, channels=3, filters=10) == 760
    assert conv_parameters(11, 3, 96) == 34_944  # AlexNet, first layer, as first published
    assert dense_parameters(4096, 1000) == 4_097_000


def test_counts_are_those_of_torchs_layers() -> None:
    for bias in (True, False):
        layer = nn.Conv2d(6, 16, (5, 3), bias=bias)
        assert (
            conv_parameters((5, 3), 6, 16, bias=bias)
            == count_parameters(layer)
            == sum(p.numel() for p in layer.parameters())
        )
        assert dense_parameters(120, 84, bias=bias) == count_parameters(nn.Linear(120, 84, bias=bias))
    frozen = nn.Linear(3, 2)
    frozen.bias.requires_grad_(False)
    assert count_parameters(frozen) == 6  # what is held still is not learned


def test_lenet_is_the_sum_of_its_layers() -> None:
    by_hand = (conv_parameters(5, 1, 6) + conv_parameters(5, 6, 16) + conv_parameters(5, 16, 120)
               + dense_parameters(120, 84) + dense_parameters(84, 10))  # fmt: skip
    assert count_parameters("lenet5") == count_parameters("lenet5", outputs=10, channels=1) == by_hand


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "cnn_small"])
def test_a_head_of_ones_own_is_counted_on_the_network_itself(name) -> None:
    assert count_parameters(name, outputs=3, channels=1) == sum(
        p.numel() for p in build(name, outputs=3, channels=1).parameters()
    )
    assert count_parameters(name) == BACKBONES[name].parameters


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: conv_output(5, 7), "a filter of 7 on 5"),
        (lambda: conv_output(5, 3, stride=0), "stride must be whole numbers from 1"),
        (lambda: conv_output(5, 3, padding=-1), "padding must be whole numbers from 0"),
        (lambda: conv_output((5, 5), (3, 3, 3)), "as many sides"),
        (lambda: conv_output((), 3), "there are no sides"),
        (lambda: conv_parameters(0, 3, 4), "sides of 1 or more"),
        (lambda: conv_parameters(3, 0, 4), "channels and filters"),
        (lambda: dense_parameters(0, 4), "inputs and outputs"),
        (lambda: count_parameters("resnet5"), "resnet"),
    ],
)
def test_what_is_no_layer_is_refused(asked, said) -> None:
    with pytest.raises(ArgumentError, match=said):
        asked()
