"""Networks with fewer filters, or more: the same layers, each convolution with a share of its own.

Liu 2017 (arXiv:1703.02442, section 4) got the accuracy of Inception-v3 from one with a tenth of the filters. After the
``depth_multiplier`` of TF-Slim's Inception (Silberman and Guadarrama 2016): a convolution of w filters gets the whole part of
f · w, though at least 16 or all that it has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import ArgumentError, checked, require
from overread.networks.small import Network, TimmNetwork, initialise

#: The fewest filters that a convolution is left with, unless it has fewer.
FEWEST = 16
_NORMS = nn.modules.batchnorm._BatchNorm
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


@checked
def fewer(width: int, filters: float) -> int:
    """How many filters a convolution of ``width`` has with ``filters`` times as many.

    >>> [fewer(width, 0.1) for width in (8, 64, 320)]
    [8, 16, 32]
    """
    return max(min(width, FEWEST), int(filters * width + 1e-9))


@checked
def with_filters(network: Network, filters: float, *, side: int) -> Network:
    """``network`` itself, each of its convolutions with ``filters`` times its filters, newly initialised; (0.01 … 8).

    The widths of what follows are those that images of ``side`` pixels are found to have on their way through. Raises
    :class:`ArgumentError` for a network with other layers than convolutions and batch norms before its head: their widths
    are tied to one another in ways that are not known here.
    """
    require(0.01 <= filters <= 8, "filters must lie within 0.01 … 8", given=filters)
    strange = sorted({type(part).__name__ for part in network.modules() if _own(part) and not isinstance(part, (*_CONVOLUTIONS, _NORMS))
                      and part is not network.head})  # fmt: skip
    if strange:
        raise ArgumentError(f"the filters of {network.name} cannot be changed", given=f"filters={filters:g}; it has layers {', '.join(strange)}",
                            todo="leave filters out, or choose a network of convolutions: resnet18, inception_v3, unet_small")  # fmt: skip
    hooks = [part.register_forward_pre_hook(_rebuild(filters)) for part in network.modules() if isinstance(part, (*_CONVOLUTIONS, _NORMS))]  # fmt: skip
    training = network.training
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            found = network.eval().features(
                torch.zeros(2, network.channels, *(side,) * network.dimensions, device=device)
            )
    finally:
        for hook in hooks:
            hook.remove()
    network.train(training)
    width = int(found.shape[1])
    network.head = nn.Linear(width, network.outputs, device=device)
    network.width = width
    if isinstance(network, TimmNetwork):
        network.trunk.head_hidden_size = network.trunk.num_features = width  # type: ignore[assignment]
    initialise(network.trunk)
    nn.init.normal_(network.head.weight, std=0.01)
    nn.init.zeros_(network.head.bias)
    return network


def _own(part: nn.Module) -> bool:
    """Whether a module has weights of its own, apart from those of its parts."""
    return next(part.parameters(recurse=False), None) is not None


def _rebuild(filters: float) -> Any:
    """What gives a layer the widths of what reaches it, just before it is used."""

    def hook(part: Any, inputs: tuple[Tensor, ...]) -> None:
        width, device = int(inputs[0].shape[1]), inputs[0].device
        if isinstance(part, _NORMS):
            part.num_features = width
            for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
                held = getattr(part, name)
                if held is not None:
                    filled = torch.full((width,), value, device=device)
                    setattr(part, name, nn.Parameter(filled) if isinstance(held, nn.Parameter) else filled)
            return
        deep = part.groups > 1
        if deep and part.groups != part.in_channels:
            raise ArgumentError("the filters of a network of grouped convolutions cannot be changed", given=f"{part.groups} groups")  # fmt: skip
        made = width * (part.out_channels // part.in_channels) if deep else fewer(part.out_channels, filters)
        part.in_channels, part.out_channels, part.groups = width, made, width if deep else 1
        part.weight = nn.Parameter(torch.empty(made, width // part.groups, *part.kernel_size, device=device))
        if part.bias is not None:
            part.bias = nn.Parameter(torch.empty(made, device=device))

    return hook
