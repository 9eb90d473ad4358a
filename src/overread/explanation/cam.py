"""Class activation maps in closed form: one forward pass, and the gradient of the layers after the tap alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from overread.core.errors import UnavailableError, checked, one_of
from overread.explanation.layers import Tap, tapped

#: By how much, of the largest slope, the slopes of an averaged map may differ from place to place.
_UNEVEN = 1e-3
#: By how much, of what all places add or take, the sum over them may miss the change of the output.
_GAP = 1e-3


@checked
def activation_map(network: nn.Module, x: Tensor, target: Tensor, name: str, method: str = "grad-cam") -> Tensor:
    """Maps of a layer at its own resolution, (n, h, w) or (n, d, h, w), one for each image that is there.

    ``x``, ``target`` and ``name`` as in :func:`overread.explanation.layers.tapped`; ``method``: ``grad-cam``,
    ``grad-cam++`` or ``cam``. The first two are 0 or above. Raises :class:`UnavailableError` for ``cam`` where the network
    does not average the layer's maps before a linear head: then there is no such map.

    >>> from overread.networks.backbones import build
    >>> activation_map(build("cnn_small", outputs=2), torch.zeros(4, 3, 28, 28), torch.ones(4, dtype=torch.int64), "relu3").shape
    torch.Size([4, 7, 7])
    """
    found = tapped(network, x, target, name)
    made = {"grad-cam": _grad_cam, "grad-cam++": _grad_cam_plus_plus, "cam": _cam}[
        one_of(method, ("grad-cam", "grad-cam++", "cam"), "the method")
    ](found)
    if method == "cam":
        _require_averaged(network, x, target, name, found)
    return made


def _weighted(weights: Tensor, maps: Tensor) -> Tensor:
    """Σ_k w_k A_k of weights (n, C) and maps (n, C, …)."""
    return torch.einsum("nc,nc...->n...", weights, maps)


def _space(maps: Tensor) -> tuple[int, ...]:
    return tuple(range(2, maps.ndim))


def _grad_cam(found: Tap) -> Tensor:
    """ReLU of Σ_k α_k A_k, α_k the mean gradient of map k (Selvaraju 2017, equations 1 and 2)."""
    return functional.relu(_weighted(found.gradient.mean(dim=_space(found.gradient)), found.activations))


def _grad_cam_plus_plus(found: Tap) -> Tensor:
    """ReLU of Σ_k w_k A_k with w_k = Σ_ij α_kij ReLU(g_kij) (Chattopadhay 2018, equations 11 and 19).

    Of exp(output), as the paper takes it, all derivatives hold the factor exp(output), which goes out:
    α = g² / (2 g² + g³ Σ A) = 1 / (2 + g Σ A). Activations that are not rectified may add up to less than 0, where the
    paper's have no such case: there Σ A counts as 0.
    """
    space = _space(found.gradient)
    slope = functional.relu(found.gradient)  # α of any other place is multiplied by 0
    total = found.activations.sum(dim=space, keepdim=True).clamp(min=0)
    weights = (slope / (2 + slope * total)).sum(dim=space)
    return functional.relu(_weighted(weights, found.activations))


def _cam(found: Tap) -> Tensor:
    """Σ_k w_k A_k (Zhou 2016, equation 2); the mean of the map over its places, with the head's offset, is the output."""
    return _weighted(found.gradient.sum(dim=_space(found.gradient)), found.activations)


def _require_averaged(network: nn.Module, x: Tensor, target: Tensor, name: str, found: Tap) -> None:
    """Raise unless the slopes are the same at every place and the map adds up: a linear head on the means of the maps."""
    mean = found.gradient.mean(dim=_space(found.gradient), keepdim=True)
    even = bool((found.gradient - mean).abs().max() <= _UNEVEN * found.gradient.abs().max())
    blank = tapped(network, x, target, name, scale=0.0)
    moved = (found.outputs - blank.outputs).gather(1, target[:, None]).sum()
    added = (found.gradient * found.activations).sum()
    size = (found.outputs - blank.outputs).abs().sum() + (found.gradient * found.activations).abs().sum()
    if not even or (moved - added).abs() > _GAP * size:
        raise UnavailableError("the network does not take the mean of this layer's maps before a linear head, so that there is no CAM",
                               given=name, todo="ask for grad-cam, which needs no such head")  # fmt: skip
