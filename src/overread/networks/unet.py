"""A U-Net on the encoder of any backbone of the table that gives maps at halved sides (Ronneberger 2015, arXiv:1505.04597).

The encoder's stages are those of the backbone, so that they can be copied from its weights and held still; decoder and
answer are the ``head``: always new. Where sides are not whole multiples of the coarsest map's pixel, the image is
continued by its rim and the answer is cut back, so that any height and width will do.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from overread.core.errors import UnavailableError, checked, one_of, require
from overread.networks.backbones import BACKBONES, build, library
from overread.networks.small import initialise

#: Channels of the decoder after each doubling, from the one that ends at the finest.
WIDTHS = (32, 48, 64, 96, 128)


class UNet(nn.Module):
    """Images (B, channels, H, W) → answers (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉).

    ``trunk``: the encoder; ``head``: the decoder, which doubles the coarsest maps, lays those of the encoder beside
    them and convolves twice, until a place is ``stride`` pixels wide.
    """

    dimensions = 2

    def __init__(
        self, name: str, trunk: nn.Module, widths: tuple[int, ...], *, outputs: int, channels: int, stride: int
    ) -> None:
        super().__init__()
        self.name, self.outputs, self.channels, self.stride = name, outputs, channels, stride
        self.coarsest = 2 ** len(widths)
        self.trunk = trunk
        self.head = Decoder(widths, outputs=outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        down, right = -height % self.coarsest, -width % self.coarsest
        x = functional.pad(x, (0, right, 0, down), mode="replicate") if down or right else x
        made = self.head(self.trunk(x))
        return made[..., : -(-height // self.stride), : -(-width // self.stride)]


class Decoder(nn.Module):
    """Maps of an encoder, finest first, → answers; ``widths``: the channels of these maps, at sides 1/2, 1/4, …"""

    def __init__(self, widths: tuple[int, ...], *, outputs: int, stride: int) -> None:
        super().__init__()
        inputs, level = widths[-1], len(widths)
        self.ups = nn.ModuleList()
        while 2**level > stride:
            level -= 1
            beside = widths[level - 1] if level else 0
            self.ups.append(Up(inputs, beside, WIDTHS[level - 1] if level else WIDTHS[0] // 2))
            inputs = self.ups[-1].width  # type: ignore[assignment]
        self.answer = nn.Conv2d(int(inputs), outputs, 1)
        initialise(self)
        nn.init.normal_(self.answer.weight, std=0.01)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x, level = maps[-1], len(maps) - 1
        for up in self.ups:
            level -= 1
            x = up(x, maps[level] if level >= 0 else None)
        return self.answer(x)


class Up(nn.Module):
    """Maps of twice the side, with those of the encoder beside them, convolved twice."""

    def __init__(self, inputs: int, beside: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv1 = nn.Conv2d(inputs + beside, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, beside: Tensor | None) -> Tensor:
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = x if beside is None else torch.cat([x, beside], dim=1)
        x = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(x)), inplace=True)


class Steps(nn.Sequential):
    """The trunk of one of our own networks, of which the last maps of each side are given."""

    last: tuple[str, ...] = ()

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        maps = []
        for name, step in self._modules.items():
            x = step(x)  # type: ignore[misc]
            if name in self.last:
                maps.append(x)
        return maps


@checked
def build_unet(name: str, *, outputs: int, channels: int = 3, depth: int = 4, stride: int = 2) -> UNet:
    """A U-Net with fresh weights on the backbone ``name``, whose maps are halved ``depth`` times.

    Answers have ``outputs`` channels and a place in ``stride`` pixels. Weights are drawn from torch's generator: fork
    and seed it around the call. Raises :class:`ArgumentError` for an unknown name, :class:`UnavailableError` for a
    backbone that gives no maps at 1/2, 1/4, … of the sides.

    >>> build_unet("unet_small", outputs=2)(torch.zeros(1, 3, 50, 70)).shape
    torch.Size([1, 2, 25, 35])
    """
    one_of(name, BACKBONES, "the backbone")
    require(outputs >= 1 and channels >= 1, "a network needs outputs and channels", given=f"{outputs}, {channels}")
    require(
        stride in (1, 2, 4) and 2**depth > stride,
        "the stride must be 1, 2 or 4, and finer than the coarsest map",
        given=f"{stride}, depth {depth}",
    )
    trunk = _ours(name, channels, depth) if BACKBONES[name].library == "overread" else _of_timm(name, channels, depth)
    widths = _arithmetic(name, trunk, channels, depth)
    return UNet(name, trunk, widths, outputs=outputs, channels=channels, stride=stride)


@checked
def copied_from(backbone: nn.Module, network: UNet) -> dict[str, Tensor]:
    """The tensors of a backbone under the names that they have in the encoder of a U-Net on it: ``trunk.…``."""
    held = {name.replace(".", "_"): tensor for name, tensor in backbone.state_dict().items()}
    wanted = [name for name in network.state_dict() if name.startswith("trunk.")]
    lacking = [name for name in wanted if name.replace(".", "_") not in held]
    require(not lacking, "the encoder has layers that its backbone lacks", given=", ".join(lacking[:3]))
    return {name: held[name.replace(".", "_")] for name in wanted}


def _of_timm(name: str, channels: int, depth: int) -> nn.Module:
    row = BACKBONES[name]
    if row.library != "timm" or row.dimensions != 2:
        raise _unfit(name, "it has no interface for them")
    options = {key: value for key, value in row.options if key != "dynamic_img_size"}
    timm = library("timm")
    try:
        whole = timm.create_model(row.model or name, in_chans=channels, features_only=True, **options)
        sides = list(whole.feature_info.reduction())
        if 2 not in sides:
            raise _unfit(name, f"its first maps are 1/{sides[0]} of the sides")
        first = sides.index(2)
        trunk = timm.create_model(row.model or name, in_chans=channels, features_only=True,
                                  out_indices=tuple(range(first, first + depth)), **options)  # fmt: skip
        if ends := getattr(
            trunk, "_stage_out_idx", None
        ):  # an EfficientNet goes on after the last maps that are wanted
            trunk.blocks = trunk.blocks[: max(ends)]
        return trunk
    except (RuntimeError, AttributeError, IndexError, AssertionError, TypeError) as error:
        raise _unfit(name, " ".join(str(error).split())[:120]) from error


def _ours(name: str, channels: int, depth: int) -> nn.Module:
    row = BACKBONES[name]
    trunk = build(name, outputs=1, channels=channels).trunk
    if row.dimensions != 2 or not isinstance(trunk, nn.Sequential):
        raise _unfit(name, "it is of volumes" if row.dimensions != 2 else "it is no row of layers")
    parts = list(trunk.named_children())
    sides = _sides(trunk, channels)
    ends = [place for place, side in enumerate(sides) if side >= 2 and side != [*sides, 0.0][place + 1]][:depth]
    steps = Steps(OrderedDict(parts[: ends[-1] + 1] if ends else parts))
    steps.last = tuple(parts[place][0] for place in ends)
    return steps


def _sides(steps: nn.Sequential, channels: int) -> list[float]:
    """By what each step of a trunk divides the side."""
    found, x = list[float](), torch.zeros(1, channels, 64, 64, device=next(steps.parameters()).device)
    training = steps.training
    with torch.no_grad():
        for step in steps.eval():
            x = step(x)
            found.append(64 / x.shape[-1])
    steps.train(training)
    return found


def _arithmetic(name: str, trunk: nn.Module, channels: int, depth: int) -> tuple[int, ...]:
    """The channels of the encoder's maps, once their sides are seen to be 1/2, 1/4, … of the image's, ``depth`` of them."""
    side = 2 ** (depth + 1)
    x = torch.zeros(1, channels, side, 2 * side, device=next(trunk.parameters()).device)
    training = trunk.training
    try:
        with torch.no_grad():
            maps: Any = trunk.eval()(x)
    except RuntimeError as error:
        raise _unfit(name, " ".join(str(error).split())[:120]) from error
    trunk.train(training)
    found = [tuple(each.shape[2:]) for each in maps[:depth]]
    wanted = [(side >> level, 2 * side >> level) for level in range(1, depth + 1)]
    if found != wanted:
        raise _unfit(
            name, f"of {side} × {2 * side} pixels it makes {', '.join(' × '.join(map(str, each)) for each in found)}"
        )
    return tuple(each.shape[1] for each in maps)


def _unfit(name: str, why: str) -> UnavailableError:
    return UnavailableError(f"{name} gives no maps at 1/2, 1/4, … of the sides of an image, which a U-Net is made of", given=why,
                            todo="choose mobilenet_v2, tf_efficientnet_lite0, resnet18 or unet_small")  # fmt: skip
