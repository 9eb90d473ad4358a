"""What a frozen network says of an image: layers pooled over space, beside classical descriptors, under a linear head."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.core.errors import checked, one_of, require
from overread.core.files import cores
from overread.images.descriptors import describe
from overread.images.preprocess import Preprocess
from overread.networks.backbones import POOLINGS, layer
from overread.networks.codes import CodedLinear

#: A network with fewer resolutions than the first is cut into as many parts as the second says.
_FEWEST_RESOLUTIONS, _PARTS = 3, 4


#: Hooks of one pass would keep what another thread's pass says, as where workers share a network.
_ONE_AT_A_TIME = threading.RLock()


@checked
def tap(network: nn.Module, layers: Sequence[str], x: Tensor, *, pooling: str = "mean") -> Tensor:
    """The activations of named layers, pooled over space and concatenated, (B, sum of their channels).

    ``both`` gives a layer's means and then its largest; ``flat`` all of its values, each in its place. Tokens (B, N, C) are pooled over all N. Where a layer runs more
    than once, its last activation counts. Hooks live inside the call only; training mode and gradients are the caller's.
    Raises :class:`ArgumentError` for an unknown layer. After Bar 2015 (layers 5, 6, 7).

    >>> from overread.networks.backbones import build
    >>> tap(build("lenet5", outputs=2), ["c1", "f6"], torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 90])
    """
    return torch.cat(taps(network, layers, x, pooling=pooling), dim=1)


@checked
def taps(network: nn.Module, layers: Sequence[str], x: Tensor, *, pooling: str = "mean") -> list[Tensor]:
    """The same, of each layer on its own: (B, its channels), from one forward pass."""
    require(len(layers) > 0, "name at least one layer")
    one_of(pooling, POOLINGS, "the pooling")
    found = [layer(network, name) for name in layers]
    kept: dict[int, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        kept[id(module)] = _pooled(output, pooling, channels_last=channels_last(network, module, output.ndim))

    with _ONE_AT_A_TIME:
        hooks = [module.register_forward_hook(keep) for module in dict.fromkeys(found)]
        try:
            network(x)
        finally:
            for hook in hooks:
                hook.remove()
    return [kept[id(module)] for module in found]


def _pooled(output: Tensor, pooling: str, *, channels_last: bool) -> Tensor:
    if output.ndim <= 2:
        return output.clone()
    if pooling == "flat":
        return output.flatten(1).clone()
    space = tuple(range(1, output.ndim - 1) if channels_last else range(2, output.ndim))
    parts = ([output.mean(dim=space)] if pooling != "max" else []) + (
        [output.amax(dim=space)] if pooling != "mean" else []
    )
    return torch.cat(parts, dim=1)


@checked
def channels_last(network: nn.Module, module: nn.Module, dimensions: int) -> bool:
    """Whether a layer of ``network`` gives (B, …, C): tokens, dense layers over maps, and all of Swin's but convolutions."""
    if dimensions == 3 or type(module) in (nn.Linear, nn.LayerNorm):
        return True
    return dimensions == 4 and getattr(network, "channels_last", False) and not isinstance(module, nn.Conv2d)


@checked
def layers_to_tap(network: nn.Module, preprocess: Preprocess) -> dict[str, int]:
    """The layers worth tapping, first to last, and their channels: the last one of each resolution.

    A network of ours, torchvision's or timm's is a chain of parts: of each resolution the last part is one. Of a chain
    that keeps one resolution, as a ViT's, they are the last parts of its quarters. Found by one forward pass of zeros.
    """
    ran: list[tuple[str, tuple[int, ...], int]] = []
    names = {module: name for name, module in chain(network.get_submodule("trunk"), "trunk")}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim > 2:
            last = channels_last(network, module, output.ndim)
            shape = tuple(output.shape[1:-1] if last else output.shape[2:])
            ran.append((names[module], shape, output.shape[-1 if last else 1]))

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        with torch.inference_mode():
            blank = torch.zeros(1, preprocess.channels, *preprocess.size, device=next(network.parameters()).device)
            network.eval()(blank)
    finally:
        for hook in hooks:
            hook.remove()
    groups = [list(group) for _, group in groupby(ran, key=lambda each: each[1])]
    if len(groups) < _FEWEST_RESOLUTIONS:  # tokens: one resolution from the first block to the last
        longest = max(groups, key=len)
        groups = [longest[: len(longest) * part // _PARTS] for part in range(1, _PARTS + 1)]
    ends = [group[-1] for group in groups if group]
    return {name.removeprefix("trunk."): channels for name, _, channels in ends}


@checked
def chain(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """The parts that run one after the other: the children, and those of a child that is a mere sequence."""
    found: list[tuple[str, nn.Module]] = []
    for key, child in module.named_children():
        path = f"{name}.{key}"
        found += chain(child, path) if type(child) is nn.Sequential else [(path, child)]
    return found


class Tapped(nn.Module):
    """Pooled activations of a frozen network's layers, and descriptors of the image, under one linear head.

    ``body`` None: descriptors alone. Without ``layers``, what the body's own head would see. ``preprocess`` undoes the
    normalisation for the descriptors, which are calculated from the pixels that stood in the pack. With ``codes`` the
    head sees ``bits`` of the descriptors in their place (:mod:`overread.networks.codes`).
    """

    def __init__(
        self, body: nn.Module | None, layers: tuple[str, ...], preprocess: Preprocess, outputs: int,
        *, pooling: str = "mean", descriptors: tuple[str, ...] = (), codes: str = "none", bits: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.body, self.layers, self.pooling = body, layers, pooling
        self.preprocess, self.descriptors, self.dimensions = preprocess, descriptors, len(preprocess.size)
        plain, described = self._found_widths()
        self.width = plain + described
        self.head: nn.Linear = nn.Linear(self.width, outputs)
        if codes != "none" and described:
            self.head = CodedLinear(plain, described, outputs, bits=bits, kind=codes)

    def features(self, x: Tensor) -> Tensor:
        """Pooled activations and descriptors (B, F)."""
        parts = [] if self.body is None else [self._tapped(x)]
        return torch.cat([*parts, self._described(x)] if self.descriptors else parts, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, outputs)."""
        return self.head(self.features(x))

    def _tapped(self, x: Tensor) -> Tensor:
        if self.layers:
            return tap(self.body, self.layers, x, pooling=self.pooling)  # type: ignore[arg-type]
        if self.pooling == "mean":
            return self.body.features(x)  # type: ignore[operator, union-attr]
        return _pooled(self.body.maps(x), self.pooling, channels_last=False)  # type: ignore[operator, union-attr]

    def _found_widths(self) -> tuple[int, int]:
        """Of what is tapped, and of the descriptors: by one forward pass of zeros, which may be made on the device ``meta``; descriptors are made without torch."""
        self.eval()
        width, shape = 0, (1, *self.preprocess.size, self.preprocess.channels)
        if self.body is not None:
            with torch.inference_mode():
                width = self._tapped(torch.zeros(1, self.preprocess.channels, *self.preprocess.size)).shape[1]
        blank = np.zeros(shape, self.preprocess.dtype)
        return width, describe(blank, self.descriptors).shape[1] if self.descriptors else 0

    def _described(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.ndim - 2))
        preprocess = self.preprocess
        mean, std = (
            torch.tensor(numbers, device="cpu").reshape(shape) for numbers in (preprocess.mean, preprocess.std)
        )
        pixels = ((x.detach().float().cpu() * std + mean) * preprocess.full).round().clamp(0, preprocess.full)
        images = pixels.movedim(1, -1).numpy().astype(preprocess.dtype)
        make = _described_batch if images.nbytes <= _MOST_KEPT else _described_batch.__wrapped__
        found = make(images.tobytes(), images.shape, images.dtype.name, self.descriptors)
        return torch.from_numpy(found.copy()).to(x.device)


#: Bytes of a batch that are kept with its descriptors.
_MOST_KEPT = 32 << 20


@lru_cache(maxsize=1)  # the members of an ensemble are asked about the same images, one after the other
def _described_batch(pixels: bytes, shape: tuple[int, ...], kind: str, names: tuple[str, ...]) -> NDArray[np.float32]:
    return describe(np.frombuffer(pixels, kind).reshape(shape), names, threads=cores())
