"""Gradients of an answer with respect to the image itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from overread.core.errors import checked, one_of, require

#: Points on the way from the blank image to this one: at first, and at most where the map does not add up within the gap.
STEPS, MOST_STEPS, GAP = 32, 128, 0.05
#: Noisy copies of an image.
COPIES = 24
#: Standard deviation of the noise, as a share of the image's range (Smilkov 2017, section 3.2: 10 to 20 %).
NOISE = 0.15


@checked
def gradient_map(
    network: nn.Module, x: Tensor, target: Tensor, method: str = "gradient", *, sides: int = 2, seed: int = 0
) -> Tensor:
    """A map of the image's own resolution: of images (B, C, H, W) it is (B, H, W), of cases (B, V, C, …) it is (B, V, …).

    ``target`` (B,): the outputs to explain; ``sides``: 2 of images, 3 of volumes. A missing image is NaN, as in ``x``.
    ``gradient`` and ``smoothgrad`` take the largest magnitude over the channels, ``gradient-x-input`` and
    ``integrated-gradients`` the sum. The blank image is 0 in ``x``: the mean of the training images in every channel.
    """
    channel = x.ndim - sides - 1
    if one_of(method, _MAKERS, "the method") in ("gradient", "smoothgrad"):
        made = _MAKERS[method](network, x, target, seed).abs().amax(dim=channel)
    else:
        made = _MAKERS[method](network, x, target, seed).sum(dim=channel)
    return made.masked_fill(x.isnan().any(dim=channel), torch.nan).detach()


def slope(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of each row's target with respect to ``x``, in its shape; 0 at missing images."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        score = network(leaf).float().gather(1, target[:, None]).sum()
        require(score.requires_grad, "the output does not change with the pixels of the image by any gradient", todo="ask for --method occlusion")  # fmt: skip
        (made,) = torch.autograd.grad(score, leaf, allow_unused=True)
    require(made is not None, "the output does not change with the pixels of the image by any gradient", todo="ask for --method occlusion")  # fmt: skip
    return made


def _times_input(network: nn.Module, x: Tensor, target: Tensor, _: int) -> Tensor:
    return slope(network, x, target) * x


def _integrated(network: nn.Module, x: Tensor, target: Tensor, _: int) -> Tensor:
    """By captum, with the points and weights of Gauss and Legendre: twice as many, until what is added up is what changed."""
    slope(network, x[:1], target[:1])  # says what captum's error would not
    made, left, steps = torch.zeros_like(x), torch.arange(len(x), device=x.device), STEPS
    with torch.no_grad():
        ends = (network(x).float() - network(x * 0).float()).gather(1, target[:, None])[:, 0]
    while len(left):
        leaf = x[left].detach().requires_grad_()
        with torch.enable_grad():
            found = IntegratedGradients(network).attribute(
                leaf, baselines=leaf * 0, target=target[left], n_steps=steps, internal_batch_size=max(16, len(left))
            )
        made[left] = cast("Tensor", found).detach().to(made.dtype)
        gap = (made[left].nan_to_num().flatten(1).sum(dim=1) - ends[left]).abs()
        left, steps = left[gap > GAP * ends[left].abs()], 2 * steps
        if steps > MOST_STEPS:
            break
    return made


def _smooth(network: nn.Module, x: Tensor, target: Tensor, seed: int) -> Tensor:
    """The mean gradient of noisy copies; every image of a batch gets the same noise, at the size of its own range."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    known = x.nan_to_num()
    flat = known.flatten(1)
    width = (flat.amax(dim=1) - flat.amin(dim=1)).reshape(-1, *[1] * (x.ndim - 1)) * NOISE
    total = torch.zeros_like(x)
    for _ in range(COPIES):
        noise = torch.randn(x.shape[1:], generator=generator).to(x.device)
        total += slope(network, x + width * noise, target)
    return total / COPIES


_MAKERS: dict[str, Any] = {
    "gradient": lambda network, x, target, _: slope(network, x, target),
    "gradient-x-input": _times_input,
    "integrated-gradients": _integrated,
    "smoothgrad": _smooth,
}
