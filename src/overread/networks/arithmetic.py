"""The arithmetic of networks that courses teach: how large the output of a layer is, and how many numbers it learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from overread.core.errors import checked, nearest, require
from overread.networks.backbones import BACKBONES, build


@checked
def conv_output(
    size: int | Sequence[int], filter: int | Sequence[int], padding: int | Sequence[int] = 0, stride: int | Sequence[int] = 1
) -> int | tuple[int, ...]:  # fmt: skip
    """The side of what a convolution or a pooling gives: ⌊(W − F + 2 P) / S⌋ + 1.

    ``size`` W in pixels, ``filter`` F, ``padding`` P on each side and ``stride`` S: whole numbers, or one for each side of
    an image or a volume, then the answer has as many. Raises :class:`ArgumentError` for what is no size, and where the
    filter is larger than the padded image.

    >>> conv_output(227, 11, stride=4), conv_output(28, 5), conv_output((32, 48), 3, padding=1, stride=2)
    (55, 24, (16, 24))
    """
    lists = {"size": size, "filter": filter, "padding": padding, "stride": stride}
    many = {len(tuple(value)) for value in lists.values() if not isinstance(value, int)}  # type: ignore[arg-type]
    require(len(many) < 2, "size, filter, padding and stride are of as many sides", given=sorted(many),
            todo="give one number for all sides, or one for each")  # fmt: skip
    sides = many.pop() if many else 0
    require(bool(sides) or not any(not isinstance(value, int) for value in lists.values()), "there are no sides", given=lists)  # fmt: skip
    each = {name: (value,) * (sides or 1) if isinstance(value, int) else tuple(value) for name, value in lists.items()}  # type: ignore[arg-type]
    for name, values in each.items():
        least = 0 if name == "padding" else 1
        require(all(isinstance(v, int) and v >= least for v in values), f"{name} must be whole numbers from {least} on", given=lists[name])  # fmt: skip
    made = []
    for w, f, p, s in zip(*each.values(), strict=True):
        require(f <= w + 2 * p, "the filter is larger than the image with its padding", given=f"a filter of {f} on {w} + 2 · {p}",
                todo="take a smaller filter, more padding, or a larger image")  # fmt: skip
        made.append((w - f + 2 * p) // s + 1)
    return tuple(made) if sides else made[0]


@checked
def conv_parameters(filter: int | Sequence[int], channels: int, filters: int, *, bias: bool = True) -> int:
    """How many numbers a convolution learns: each of its ``filters`` a weight for every pixel of every one of the
    ``channels`` that it looks at, and a bias. ``filter``: its side, or its sides; an image has two.

    >>> conv_parameters(5, channels=3, filters=10), conv_parameters((3, 3, 3), channels=1, filters=8, bias=False)
    (760, 216)
    """
    sides = (filter, filter) if isinstance(filter, int) else tuple(filter)
    require(len(sides) > 0 and all(side >= 1 for side in sides), "a filter has sides of 1 or more", given=filter)
    require(channels >= 1 and filters >= 1, "a convolution has channels and filters", given=f"{channels} and {filters}")
    weights = channels
    for side in sides:
        weights *= side
    return filters * (weights + bias)


@checked
def dense_parameters(inputs: int, outputs: int, *, bias: bool = True) -> int:
    """How many numbers a dense layer learns: a weight for every pair of an input and an output, and a bias each.

    >>> dense_parameters(120, 84)
    10164
    """
    require(inputs >= 1 and outputs >= 1, "a dense layer has inputs and outputs", given=f"{inputs} and {outputs}")
    return outputs * (inputs + bias)


@checked
def count_parameters(network: str | nn.Module, *, outputs: int = 0, channels: int = 3) -> int:
    """How many numbers a network learns: any module's own, or a backbone's by its name.

    With its published head by default (1,000 classes; ten and one channel of our own); with ``outputs`` that of a head for
    so many and of ``channels`` in the image, counted on the network itself. Raises :class:`ArgumentError` for an unknown name.

    >>> count_parameters("lenet5"), count_parameters("resnet50")
    (61706, 25557032)
    """
    if not isinstance(network, str):
        return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    require(
        network in BACKBONES, "there is no network of this name", given=repr(network), todo=nearest(network, BACKBONES)
    )
    if not outputs:
        return BACKBONES[network].parameters
    with torch.device("meta"):  # without weights, whatever its size
        return count_parameters(build(network, outputs=outputs, channels=channels))
