"""Gradients of the image against captum, and what they add up to."""

from __future__ import annotations

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency

from overread.explanation import gradients
from overread.explanation.gradients import gradient_map


@pytest.fixture
def asked(network, images):
    return network("resnet_tiny"), images(3, 3, 12, 12), torch.tensor([0, 2, 1])


def test_the_gradient_is_captums_saliency(asked) -> None:
    net, x, target = asked
    wanted = Saliency(net).attribute(x.clone().requires_grad_(), target=target).amax(dim=1)
    torch.testing.assert_close(gradient_map(net, x, target), wanted)


def test_gradient_times_input_is_captums(asked) -> None:
    net, x, target = asked
    wanted = InputXGradient(net).attribute(x.clone().requires_grad_(), target=target).sum(dim=1).detach()
    torch.testing.assert_close(gradient_map(net, x, target, "gradient-x-input"), wanted)


def test_integrated_gradients_add_up_and_are_a_sum_of_gradients_on_the_way(asked) -> None:
    net, x, target = asked
    made = gradient_map(net, x, target, "integrated-gradients")
    with torch.no_grad():
        moved = (net(x) - net(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(made.sum(dim=(1, 2)), moved, rtol=0.03, atol=0.02)
    fine = 64
    slow = sum(gradients.slope(net, x * (step + 0.5) / fine, target) for step in range(fine)) / fine * x
    assert (made - slow.sum(dim=1)).abs().max() < 0.1 * made.abs().max()
    half = IntegratedGradients(net).attribute(x, baselines=x / 2, target=target).sum(dim=(1, 2, 3))
    assert (half - moved).abs().max() > 0.1, "of half the way they do not"


def test_smoothgrad_is_the_mean_gradient_under_noise(asked, monkeypatch) -> None:
    net, x, target = asked
    made = gradient_map(net, x, target, "smoothgrad")
    torch.manual_seed(5)
    width = float((x.amax() - x.amin()) * gradients.NOISE)
    tunnel = NoiseTunnel(Saliency(net))
    wanted = tunnel.attribute(x.clone().requires_grad_(), nt_type="smoothgrad", nt_samples=40, stdevs=width, target=target, abs=False)  # fmt: skip
    wanted = wanted.abs().amax(dim=1)
    assert torch.corrcoef(torch.stack([made.flatten(), wanted.flatten()]))[0, 1] > 0.8
    monkeypatch.setattr(gradients, "NOISE", 0.0)
    torch.testing.assert_close(gradient_map(net, x, target, "smoothgrad"), gradient_map(net, x, target))


def test_noise_depends_on_the_seed_alone_and_not_on_the_company(asked) -> None:
    net, x, target = asked
    together = gradient_map(net, x, target, "smoothgrad", seed=3)
    alone = gradient_map(net, x[1:2], target[1:2], "smoothgrad", seed=3)
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=1e-4)
    assert not torch.equal(together, gradient_map(net, x, target, "smoothgrad", seed=4))
