"""One door to all methods: the map of a network's answer, at the size of the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from overread.core.errors import checked, require
from overread.explanation.cam import activation_map
from overread.explanation.gradients import gradient_map
from overread.explanation.layers import default_layer
from overread.explanation.methods import Method, method_of
from overread.explanation.occlusion import occlusion_map
from overread.explanation.tokens import attention_rollout, token_map
from overread.learning.device import oriented
from overread.learning.ensemble import Committee, Member, sides_of
from overread.networks.fusion import Fused, Recurrent, spread
from overread.networks.numeric_inputs import require_pixels_alone

#: Images whose whole graph is held at a time, and such of which the end is enough.
_GRAPHS, _ENDS = 8, 32


@checked
def attributions(
    network: nn.Module, x: Tensor, target: int | Tensor, method: str = "grad-cam", layer: str = "",
    *, views: int = 1, seed: int = 0,
) -> Tensor:  # fmt: skip
    """What each pixel has to do with one output of a network, before softmax or sigmoid, in log odds or their like.

    ``x``: normalised images (B, C, H, W), volumes (B, C, D, H, W), or of a network that sees cases of several images
    (B, V, C, …) with NaN for missing ones. Gives (B, H, W), (B, D, H, W) or (B, V, …), float32, NaN for a missing image;
    the maps of a layer are interpolated linearly. ``target``: the output, or one for each row (B,). ``layer``: chosen
    where blank, see :func:`overread.explanation.layers.default_layer`. ``views``: 2, 4 or 8 orientations of the image,
    over which the maps are averaged. ``seed``: of the noise of SmoothGrad.

    Of an ensemble the methods that look at a layer make a map of each member, each divided by its largest magnitude, and
    average them by the members' shares; the others look at the answer of the ensemble. Raises :class:`ArgumentError` for
    what does not fit, :class:`UnavailableError` for a method that the network has nothing for.

    >>> from overread.networks.backbones import build
    >>> attributions(build("lenet5", outputs=2), torch.zeros(4, 3, 32, 32), 1, "gradient").shape
    torch.Size([4, 32, 32])
    """
    about, sides = method_of(method), _sides(network, x)
    if isinstance(network, Member):
        own = attributions(network.network, network.prepared(x), target, method, layer, views=views, seed=seed)
        return _resized(own.reshape(len(x), -1, *own.shape[-sides:]), x.shape[-sides:]).reshape(len(x), *x.shape[1 : x.ndim - sides - 1], *x.shape[-sides:])  # fmt: skip
    wanted = torch.as_tensor(target, device=x.device).expand(len(x)) if len(x) else x.new_zeros(0, dtype=torch.int64)
    network.eval()
    size = _ENDS if about.kind in ("cam", "tokens") else _GRAPHS
    size = max(1, size // (x.shape[1] if x.ndim == sides + 3 else 1))
    layer = layer or layer_of(network, x, method)
    parts = []
    for rows in torch.arange(len(x), device=x.device).split(size):
        made = [
            _turned_back(_attributed(network, turned, wanted[rows], about, layer, sides, seed), x[rows], views, number, sides)
            for number, turned in enumerate(oriented(x[rows], views, sides))
        ]  # fmt: skip
        parts.append(made[0] if len(made) == 1 else torch.stack(made).mean(dim=0))
    return torch.cat(parts) if parts else x.new_zeros(0, *x.shape[2:])


@checked
def layer_of(network: nn.Module, x: Tensor, method: str, layer: str = "") -> str:
    """The layer that a method looks at, ``layer`` or the one that is chosen; blank for a method that looks at none.

    Of an ensemble, those of its members, separated by `` + ``: the form in which :func:`attributions` takes them.
    """
    if not method_of(method).layered:
        return ""
    last = method == "cam"
    if isinstance(network, Member):
        return layer_of(network.network, network.prepared(x[:1]), method, layer)
    if not isinstance(network, Committee):
        return layer or default_layer(network, x, last=last)
    own = [(_member(each).network, _member(each).prepared(x[:1])) for each in network.members]
    return " + ".join(layer or default_layer(*each, last=last) for each in own)


def _member(module: nn.Module) -> Member:
    assert isinstance(module, Member)
    return module


def _sides(network: nn.Module, x: Tensor) -> int:
    """2 of images, 3 of volumes."""
    sides = sides_of(network.network if isinstance(network, Member) else network) or x.ndim - 2
    require(sides in (2, 3) and x.ndim - sides in (2, 3), "these are no images, volumes or cases of several", given=tuple(x.shape))  # fmt: skip
    return sides


def _attributed(
    network: nn.Module, x: Tensor, target: Tensor, method: Method, layer: str, sides: int, seed: int
) -> Tensor:
    if method.kind in ("occlusion", "gradients"):
        require_pixels_alone(
            network, f"a map by {method.name}", "ask for a method that looks at a layer: --method grad-cam"
        )
    if method.kind == "occlusion":
        return occlusion_map(network, x, target, sides=sides)
    if method.kind == "gradients":
        with torch.backends.cudnn.flags(enabled=not _recurrent(network)):
            return gradient_map(network, x, target, method.name, sides=sides, seed=seed)
    if not isinstance(network, Committee):
        return _of_layer(network, x, target, method, layer, sides)
    names = layer.split(" + ") if " + " in layer else [layer] * len(network.members)
    total = torch.zeros(())
    for member, share, name in zip(network.members, network.shares, names, strict=True):
        own = _member(member).prepared(x)
        made = _of_layer(_member(member).network, own, target, method, name, sides)
        largest = made.nan_to_num().abs().flatten(1).amax(dim=1).clamp(min=torch.finfo(made.dtype).tiny)
        scaled = made / largest.reshape(-1, *[1] * (made.ndim - 1))
        total = total + share * _resized(scaled.reshape(len(x), -1, *made.shape[-sides:]), x.shape[-sides:])
    return total.reshape(len(x), *x.shape[1 : x.ndim - sides - 1], *x.shape[-sides:])


def _of_layer(network: nn.Module, x: Tensor, target: Tensor, method: Method, layer: str, sides: int) -> Tensor:
    """A map of one network's layer, at the size of its images: (B, H, W), or (B, V, H, W) with NaN for missing ones."""
    with torch.backends.cudnn.flags(enabled=not _recurrent(network)):
        if method.name == "attention-rollout":
            made = attention_rollout(network, x)
        elif method.name == "token-gradients":
            made = token_map(network, x, target, layer)
        else:
            made = activation_map(network, x, target, layer, method.name)
    made = _resized(made[:, None], x.shape[-sides:])[:, 0]
    if not isinstance(network, Fused):
        return made
    there = network.present(x)
    placed = spread(made.flatten(1), there).unflatten(2, made.shape[1:])
    return placed.masked_fill(~there.reshape(*there.shape, *[1] * sides), torch.nan)


def _recurrent(network: nn.Module) -> bool:
    """Whether it holds a recurrent layer on a graphics card, whose gradient cuDNN gives in training alone."""
    return any(isinstance(part, Recurrent) and part.gru.weight_ih_l0.is_cuda for part in network.modules())


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (B, V, …) at another size, linearly between the middles of their places."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, tuple(size), mode="bilinear" if len(size) == 2 else "trilinear", align_corners=False)  # fmt: skip


def _turned_back(made: Tensor, x: Tensor, views: int, number: int, sides: int) -> Tensor:
    """A map of the orientation ``number`` of :func:`oriented`, as the image itself lies."""
    if number == 0:
        return made
    shape = x.shape[-sides:]
    places = torch.arange(shape.numel(), device=x.device).reshape(1, 1, *shape)
    turned = list(oriented(places, views, sides))[number].flatten()
    back = torch.empty_like(turned)
    back[turned] = torch.arange(len(turned), device=x.device)
    return made.flatten(-sides)[..., back].unflatten(-1, shape)
