"""Occlusion against captum and against what one window does."""

from __future__ import annotations

import pytest
import torch
from captum.attr import Occlusion
from torch import nn

from overread.core.errors import ArgumentError
from overread.explanation.occlusion import occlusion_map


def test_occlusion_is_captums(network, images) -> None:
    net, x, target = network("resnet_tiny"), images(3, 3, 28, 28), torch.tensor([0, 2, 1])
    made = occlusion_map(net, x, target, window=0.25, stride=0.25)  # 7 pixels: no window is cut at the edge
    with torch.no_grad():
        wanted = Occlusion(net).attribute(x, (3, 7, 7), strides=(3, 7, 7), target=target)[:, 0]
    torch.testing.assert_close(made, wanted.float(), atol=1e-5, rtol=1e-4)


def test_a_pixel_gets_the_mean_fall_of_the_windows_over_it(images) -> None:
    """Of a network that adds up one row's pixels, the fall of each window is what it holds of that row."""

    class Row(nn.Module):
        def forward(self, x):
            return x[:, 0, 3].sum(dim=1, keepdim=True)

    x = images(1, 1, 8, 8)
    made = occlusion_map(Row(), x, torch.tensor([0]), window=0.25, stride=0.125)[0]  # 2 pixels, one on
    falls = [float(x[0, 0, 3, i : i + 2].sum()) for i in range(7)]
    assert made[0].abs().max() == 0
    assert made[3, 0] == pytest.approx(falls[0], abs=1e-5)
    assert made[3, 4] == pytest.approx((falls[3] + falls[4]) / 2, abs=1e-5)
    assert made[2, 4] == pytest.approx((falls[3] + falls[4]) / 4, abs=1e-5), "half of its windows lie above"


def test_every_pixel_is_covered_at_any_size(network, images) -> None:
    net = network("cnn_small")
    for side in (28, 29, 31):
        assert occlusion_map(net, images(1, 3, side, side), torch.tensor([0])).isfinite().all()
    with pytest.raises(ArgumentError, match="a step no larger"):
        occlusion_map(net, images(1, 3, 28, 28), torch.tensor([0]), window=0.1, stride=0.5)
