"""Which layer a map is made of, and that layer's activations with their gradient by one forward pass.

One rule for every network: the last layer with more than one place along each side, whose places move the output. In
the backbones of the table the search begins at the layer that the table names, in features of frozen layers at the last
one that the head sees, in one's own network at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import ArgumentError, UnavailableError, checked
from overread.networks.backbones import BACKBONES, layer
from overread.networks.fusion import Fused
from overread.networks.numeric_inputs import WithNumbers
from overread.networks.own import OwnNetwork
from overread.networks.small import Network
from overread.networks.taps import Tapped, chain, channels_last

#: Tokens before the patches that are looked for where a network does not say how many it has.
_MOST_PREFIX = 8


@dataclass(frozen=True, eq=False)
class Tap:
    """What a layer gave, and how the outputs change with it.

    ``activations`` and ``gradient``: (n, C, h, w) or (n, C, d, h, w), one row for each image that is there; tokens stand
    on their grid, without those that have no place. ``outputs`` (B, K) of the network.
    """

    activations: Tensor
    gradient: Tensor
    outputs: Tensor


@checked
def tapped(network: nn.Module, x: Tensor, target: Tensor, name: str, *, scale: float = 1.0) -> Tap:
    """The activations of a layer and the gradient of the target's output with respect to them.

    What comes before the layer is calculated without a graph, and nothing is differentiated twice. ``x``: images
    (B, C, H, W), volumes (B, C, D, H, W), or cases of several (B, V, C, …) with NaN for missing ones; ``target`` (B,) the
    outputs to explain; ``name`` as :func:`overread.networks.backbones.layer` takes it. A layer that runs more than once
    counts with its last run. ``scale``: what its activations are multiplied by before they go on. Raises :class:`ArgumentError` where there is no such layer, it has no places, or the output
    does not depend on it.
    """
    module = layer(inner(network), name)
    with _cut(module, scale) as kept:
        outputs = network(x).float()
        if not kept:
            raise ArgumentError("the layer does not run when the network answers", given=name)
        made = _last_rows(kept, _images(network, x))
        score = outputs.gather(1, target[:, None]).sum()
        if not score.requires_grad:
            raise ArgumentError("the output does not depend on this layer", given=name, todo="choose another --layer")
        slopes = torch.autograd.grad(score, made, allow_unused=True)
    places = _places(network, x)
    activations = as_maps(network, module, torch.cat([each.detach() for each in made]), places)
    if any(slope is None for slope in slopes):
        raise ArgumentError("the output does not depend on this layer", given=name, todo="choose another --layer")
    gradient = as_maps(network, module, torch.cat([slope for slope in slopes if slope is not None]), places)
    return Tap(activations, gradient, outputs.detach())


@contextmanager
def _cut(module: nn.Module, scale: float) -> Iterator[list[Tensor]]:
    """Within, the graph of a forward pass begins at the output of ``module``; each of its outputs is kept, as a leaf."""
    kept: list[Tensor] = []

    def begin(_: nn.Module, __: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ArgumentError("the layer gives no single tensor", given=type(output).__name__, todo="choose another --layer")  # fmt: skip
        torch.set_grad_enabled(True)  # until the end of no_grad below
        kept.append(output.detach().requires_grad_())
        return kept[-1] * scale  # a copy: the next layer may work in place

    hook = module.register_forward_hook(begin)
    try:
        with torch.no_grad():
            yield kept
    finally:
        hook.remove()


def _last_rows(kept: list[Tensor], wanted: int) -> list[Tensor]:
    """The last outputs that hold ``wanted`` images together: a body takes many images in several parts."""
    made: list[Tensor] = []
    while kept and sum(map(len, made)) < wanted:
        made.insert(0, kept.pop())
    return made


def _images(network: nn.Module, x: Tensor) -> int:
    return int(network.present(x).sum()) if isinstance(network, Fused) else len(x)


def _places(network: nn.Module, x: Tensor) -> tuple[int, ...]:
    """The sides of one image, (H, W) or (D, H, W)."""
    return tuple(x.shape[3 if isinstance(network, Fused) else 2 :])


@checked
def inner(network: nn.Module) -> nn.Module:
    """The network inside a fusion, features of frozen layers, or the loop's copy of one's own.

    Raises :class:`UnavailableError` where there is none, and nothing but descriptors of the image.
    """
    while isinstance(network, (Fused, WithNumbers, Tapped, OwnNetwork)):
        if network.body is None:
            raise UnavailableError("the model sees descriptors of the whole image, and has no layer or gradient that a map could be made of",
                                   todo="ask for --method occlusion, which works for every model")  # fmt: skip
        network = network.body
    return network


@checked
def as_maps(network: nn.Module, module: nn.Module, output: Tensor, sides: tuple[int, ...]) -> Tensor:
    """What a layer gave for images with these ``sides``, or a gradient of it, as maps (n, C, h, w) or (n, C, d, h, w).

    Raises :class:`ArgumentError` where it has no places.
    """
    body = inner(network)
    if output.ndim == 3 and len(sides) == 2:
        return _grid(output, sides, getattr(body, "prefix", None))
    if output.ndim != len(sides) + 2:
        raise ArgumentError("the layer has no places in the image", given=f"an output of shape {tuple(output.shape)}",
                            todo="choose another --layer, or none: the last one with places is taken")  # fmt: skip
    return output.movedim(-1, 1) if channels_last(body, module, output.ndim) else output


def _grid(tokens: Tensor, sides: tuple[int, ...], prefix: int | None) -> Tensor:
    """Tokens (n, N, C) on their grid (n, C, h, w), without the ``prefix`` ones that have no place; None: the fewest that fit."""
    for first in range(_MOST_PREFIX) if prefix is None else (prefix,):
        many = tokens.shape[1] - first
        height = round(math.sqrt(max(many, 0) * sides[0] / sides[1]))
        fits = (
            height > (first > 0) and many % height == 0 and abs(many / height * sides[0] / sides[1] / height - 1) < 0.2
        )
        if fits:
            return tokens[:, first:].unflatten(1, (height, -1)).movedim(-1, 1)
    raise ArgumentError("the tokens of the layer do not lie on a grid", given=f"{tokens.shape[1]} tokens for an image of {sides}")  # fmt: skip


# -- the rule ---------------------------------------------------------------------------------------------------------


@checked
def default_layer(network: nn.Module, x: Tensor, *, last: bool = False) -> str:
    """The layer that a map is made of where nobody names one: see the rule at the top.

    ``last``: the last maps of all, also where the table of backbones names better ones.

    It depends on the network and on the shape of ``x`` alone, which is as for :func:`tapped`: a ramp of grey is looked
    at. Raises :class:`UnavailableError` where no layer has places.
    """
    ramp = torch.linspace(-2, 2, x[:1].numel(), device=x.device).reshape(1, *x.shape[1:])
    first, placed = torch.zeros(1, dtype=torch.int64, device=x.device), ""
    for name in _candidates(network, ramp, last=last):
        try:
            found = tapped(network, ramp, first, name)
        except ArgumentError:
            continue
        if min(found.gradient.shape[2:]) > 1:
            if bool((found.gradient != 0).any()):
                return name
            placed = placed or name
    if placed:  # nothing moves the output: any map says so
        return placed
    raise UnavailableError("no layer of the network has more than one place along each side of the image",
                           given=type(inner(network)).__name__, todo="ask for --method occlusion, or name a --layer")  # fmt: skip


def _candidates(network: nn.Module, x: Tensor, *, last: bool) -> Iterator[str]:
    """Names of layers, the likeliest first, then backwards from there."""
    body = inner(network)
    for part in (network, getattr(network, "body", None)):
        if isinstance(part, Tapped) and part.layers:
            yield from reversed(part.layers)
    if isinstance(body, Network) and body.name in BACKBONES and not last:
        yield BACKBONES[body.name].default_tap.removeprefix("trunk.")
    for name in reversed(_ran(network, body, x)):
        yield name.removeprefix("trunk.") if isinstance(body, Network) else name


def _ran(network: nn.Module, body: nn.Module, x: Tensor) -> list[str]:
    """Names of the body's modules in the order in which they finished, those alone whose output may have places.

    Of a network of ours or a library's they are the parts that run one after the other.
    """
    sides, done = _places(network, x), dict[str, None]()
    parts = chain(body.trunk, "trunk") if isinstance(body, Network) else list(body.named_modules())[1:]
    names = {module: name for name, module in parts}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in ({3, 4} if len(sides) == 2 else {5}):
            done.pop(names[module], None)
            done[names[module]] = None

    run_heard(network, x, names, note)
    return list(done)


def run_heard(network: nn.Module, x: Tensor, modules: Iterable[nn.Module], heard: Callable[..., None]) -> None:
    """Run a network on a batch ``x`` without gradients; ``heard(module, inputs, output)`` hears each of these modules."""
    hooks = [module.register_forward_hook(heard) for module in modules]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
