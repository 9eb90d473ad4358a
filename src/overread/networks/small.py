"""Every network as trunk (image to maps), neck (maps to features) and linear head; and our own small ones.

Every backbone, ours or a library's, becomes a :class:`Network`, so that features, class activation maps and
a fresh head are the same lines for all of them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from overread.core.errors import checked, require

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_LARGEST = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class Network(nn.Module):
    """A trunk (image to maps), a neck (maps to F features), dropout, and a linear head (F to outputs).

    ``original`` names the library's classification layer, which the head stands for, in its published state dict.
    """

    channels_last = False  # whether the trunk's layers give (B, h, w, C)

    def __init__(
        self, name: str, trunk: nn.Module, neck: nn.Module, *, width: int, outputs: int, channels: int,
        dropout: float = 0.0, dimensions: int = 2, original: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        require(outputs >= 1, "a network needs at least one output", given=outputs)
        require(channels >= 1, "a network needs at least one input channel", given=channels)
        require(0 <= dropout < 1, "dropout must lie in [0, 1)", given=dropout)
        self.name, self.width, self.outputs, self.channels = name, width, outputs, channels
        self.dimensions, self.original = dimensions, original
        self.trunk, self.neck, self.dropout = trunk, neck, nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.head.weight, std=0.01)  # first loss close to log(outputs)
        nn.init.zeros_(self.head.bias)

    def encode(self, x: Tensor) -> Tensor:
        """What the trunk makes of images (B, channels, H, W): the last maps or tokens, laid out as the trunk has them."""
        return self.trunk(self._recentred(x))

    def grid(self, encoded: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """What :meth:`encode` returned, or a gradient of it, as maps (B, C, h, w) or (B, C, d, h, w).

        ``shape``: the sides of the image, of which tokens keep nothing but the product; square by default.
        """
        return encoded

    def maps(self, x: Tensor) -> Tensor:
        """The last maps before pooling, (B, C, h, w) or (B, C, d, h, w), of images (B, channels, H, W)."""
        return self.grid(self.encode(x), tuple(x.shape[2:]))

    def pooled(self, encoded: Tensor) -> Tensor:
        """The features (B, F) of what :meth:`encode` returned."""
        return self.neck(encoded)

    def features(self, x: Tensor) -> Tensor:
        """The pooled features (B, F) that the head sees, before dropout."""
        return self.pooled(self.encode(x))

    def forward(self, x: Tensor) -> Tensor:
        """The outputs before softmax or sigmoid, (B, outputs)."""
        return self.head(self.dropout(self.features(x)))

    def recentre(self, scale: Tensor, shift: Tensor) -> None:
        """Multiply and shift each channel of the images first, as GoogLeNet and Inception did in models of overread 0.1."""
        self.register_buffer("input_scale", scale.clone())
        self.register_buffer("input_shift", shift.clone())

    def _recentred(self, x: Tensor) -> Tensor:
        if "input_scale" not in self._buffers:
            return x
        shape = (1, -1) + (1,) * self.dimensions
        return x * self.get_buffer("input_scale").view(shape) + self.get_buffer("input_shift").view(shape)


class TimmNetwork(Network):
    """A network of timm's without its classifier: ``forward_features``, then ``forward_head(pre_logits=True)``."""

    def __init__(self, name: str, trunk: Any, *, outputs: int, channels: int, dropout: float = 0.0) -> None:
        super().__init__(
            name, trunk, nn.Identity(), width=trunk.head_hidden_size, outputs=outputs, channels=channels,
            dropout=dropout, original=trunk.pretrained_cfg["classifier"],
        )  # fmt: skip
        self.channels_last = getattr(trunk, "output_fmt", "") == "NHWC"
        self.prefix = getattr(trunk, "num_prefix_tokens", 0)  # class tokens and registers, which have no place

    def encode(self, x: Tensor) -> Tensor:
        """The last maps (B, C, h, w), Swin's (B, h, w, C), or a ViT's tokens (B, prefix + h·w, C)."""
        return self._timm.forward_features(self._recentred(x))

    def grid(self, encoded: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """As maps (B, C, h, w); class tokens are left out.

        Where a ViT pools its class token, the last patch tokens do not move the output: explain with an earlier tap.
        """
        if encoded.ndim == 4:
            return encoded.movedim(-1, 1) if self.channels_last else encoded
        tokens = encoded[:, self.prefix :]
        ratio = shape[0] / shape[1] if shape else 1.0
        height = max(1, round(math.sqrt(tokens.shape[1] * ratio)))
        require(tokens.shape[1] % height == 0, "the tokens do not lie on a grid", given=tuple(tokens.shape))
        return tokens.unflatten(1, (height, -1)).movedim(-1, 1)

    def pooled(self, encoded: Tensor) -> Tensor:
        """The embedding (B, F) of what :meth:`encode` returned."""
        return self.neck(self._timm.forward_head(encoded, pre_logits=True))

    @property
    def _timm(self) -> Any:
        return self.trunk


@checked
def initialise(module: nn.Module) -> None:
    """He's normal initialisation by fan-out, in place, from torch's generator.

    Batch norms become the identity, but the last one of a residual block starts at zero, so that the block does (He
    2015, arXiv:1502.01852; Goyal 2017, arXiv:1706.02677, section 5.1). Depthwise fans count one group only.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            fan_out = part.out_channels * math.prod(part.kernel_size) / part.groups
            nn.init.normal_(part.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=math.sqrt(2 / part.in_features))
        elif isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.ones_(part.weight)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, Residual):
            nn.init.zeros_(part.norm2.weight)


class Residual(nn.Module):
    """Two 3×3 (3×3×3) convolutions with batch norm, added to their input (He 2016, arXiv:1512.03385)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dimensions: int = 2) -> None:
        super().__init__()
        conv, norm = _CONV[dimensions], _NORM[dimensions]
        self.conv1 = conv(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.skip = (
            nn.Identity() if stride == 1 and inputs == outputs
            else nn.Sequential(conv(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.skip(x))


@checked
def residual(
    name: str, *, outputs: int, channels: int, dropout: float,
    widths: tuple[int, ...], dimensions: int = 2, stride: int = 1,
) -> Network:  # fmt: skip
    """A residual network for small images: a stem, then a block per width, all but the first halving the side."""
    inputs = widths[0]
    conv = _CONV[dimensions](channels, inputs, 3, stride=stride, padding=1, bias=False)
    stem = nn.Sequential(OrderedDict(conv=conv, norm=_NORM[dimensions](inputs), relu=nn.ReLU(inplace=True)))
    trunk = nn.Sequential(OrderedDict(stem=stem))
    for number, width in enumerate(widths, start=1):
        block = Residual(inputs, width, stride=1 if number == 1 else 2, dimensions=dimensions)
        trunk.add_module(f"block{number}", block)
        inputs = width
    network = Network(
        name, trunk, global_pool(dimensions), width=inputs, outputs=outputs, channels=channels,
        dropout=dropout, dimensions=dimensions,
    )  # fmt: skip
    initialise(network.trunk)
    return network


@checked
def global_pool(dimensions: int = 2) -> nn.Sequential:
    """Global average pooling, maps (B, C, …) to features (B, C)."""
    return nn.Sequential(OrderedDict(pool=_POOL[dimensions](1), flatten=nn.Flatten(1)))


@checked
def plain_cnn(
    name: str, *, outputs: int, channels: int, dropout: float, widths: tuple[int, ...], dimensions: int = 2
) -> Network:
    """A convolution for each width with batch norm and ReLU, each followed by max pooling, which halves the side."""
    trunk = nn.Sequential()
    inputs = channels
    for number, width in enumerate(widths, start=1):
        trunk.add_module(f"conv{number}", _CONV[dimensions](inputs, width, 3, padding=1, bias=False))
        trunk.add_module(f"norm{number}", _NORM[dimensions](width))
        trunk.add_module(f"relu{number}", nn.ReLU(inplace=True))
        trunk.add_module(f"pool{number}", _LARGEST[dimensions](2))
        inputs = width
    network = Network(
        name, trunk, global_pool(dimensions), width=inputs, outputs=outputs, channels=channels, dropout=dropout,
        dimensions=dimensions,
    )  # fmt: skip
    initialise(network.trunk)
    return network


@checked
def lenet5(*, outputs: int, channels: int, dropout: float) -> Network:
    """LeNet-5 (LeCun 1998, figure 2), 32×32 pixels: C1, S2, C3, S4, C5, F6, tanh and average pooling.

    C3 sees all six maps of S2 (the paper connects some, to save time) and the output layer is linear, hence
    61,706 parameters with one channel and ten outputs. Other sizes are pooled to the 5×5 that C5 wants.
    """
    trunk = nn.Sequential(OrderedDict(
        c1=nn.Conv2d(channels, 6, 5), tanh1=nn.Tanh(), s2=nn.AvgPool2d(2),
        c3=nn.Conv2d(6, 16, 5), tanh3=nn.Tanh(), s4=nn.AvgPool2d(2),
    ))  # fmt: skip
    neck = nn.Sequential(OrderedDict(
        pool=nn.AdaptiveAvgPool2d(5), flatten=nn.Flatten(1),
        c5=nn.Linear(400, 120), tanh5=nn.Tanh(), f6=nn.Linear(120, 84), tanh6=nn.Tanh(),
    ))  # fmt: skip
    for part in (*trunk, *neck):
        if isinstance(part, (nn.Conv2d, nn.Linear)) and part.bias is not None:  # tanh: Glorot 2010, not He
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    return Network("lenet5", trunk, neck, width=84, outputs=outputs, channels=channels, dropout=dropout)
