"""How far an answer falls when a part of the image is blanked out: it needs no gradient, and works for every model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import checked, require
from overread.learning.device import halved

#: The side of a window and of a step, as parts of the side of the image.
WINDOW, STRIDE = 1 / 6, 1 / 12
#: The same of volumes, where there are so many more places.
WINDOW_3D, STRIDE_3D = 1 / 4, 1 / 8
#: Images that are blanked out and looked at together.
_AT_A_TIME = 32


@checked
def occlusion_map(
    network: nn.Module, x: Tensor, target: Tensor, *, sides: int = 2, window: float = 0.0, stride: float = 0.0
) -> Tensor:
    """The mean fall of the target's output over the windows that cover a pixel: (B, H, W), or (B, V, …) of cases.

    ``x`` and ``target`` as in :func:`overread.explanation.gradients.gradient_map`; ``window`` and ``stride`` as parts of a
    side, 0: the defaults. Of a case of several images one is blanked out at a time; a missing one is NaN. Blank is the mean
    of the training images.
    """
    window = window or (WINDOW if sides == 2 else WINDOW_3D)
    stride = stride or (STRIDE if sides == 2 else STRIDE_3D)
    require(0 < stride <= window <= 1, "a window is a part of the image, and a step no larger", given=(window, stride))
    with torch.inference_mode():
        if x.ndim == sides + 2:
            return _of_images(network, x, target, x.shape[2:], window, stride, None)
        made = [_of_images(network, x, target, x.shape[3:], window, stride, v) for v in range(x.shape[1])]
        return torch.stack(made, dim=1).masked_fill(x.isnan().any(dim=2), torch.nan)


def _of_images(
    network: nn.Module, x: Tensor, target: Tensor, shape: torch.Size, window: float, stride: float, view: int | None
) -> Tensor:
    """(B, H, W): what windows over all images, or over the one in place ``view`` of each case, change."""
    whole = _score(network, x, target)
    fall, covered = x.new_zeros(len(x), *shape), x.new_zeros(shape)
    places, many = list(_windows(shape, window, stride)), max(1, _AT_A_TIME // len(x))
    for some in (places[i : i + many] for i in range(0, len(places), many)):
        blanked = x.repeat(len(some), *[1] * (x.ndim - 1))  # windows, then images
        for number, place in enumerate(some):
            rows = slice(number * len(x), (number + 1) * len(x))
            index: Any = (rows, slice(None), *place) if view is None else (rows, view, slice(None), *place)
            blanked[index] *= 0  # a missing image stays NaN
        scores = _score(network, blanked, target.repeat(len(some))).reshape(len(some), len(x))
        for number, place in enumerate(some):
            fall[(slice(None), *place)] += (whole - scores[number]).reshape(-1, *[1] * len(shape))
            covered[place] += 1
    return fall / covered


def _score(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    outputs = halved(network, x).float()
    return outputs.gather(1, target[:, None])[:, 0]


def _windows(shape: torch.Size, window: float, stride: float) -> Iterator[tuple[slice, ...]]:
    """Windows that lie within the image and cover all of it."""
    along = []
    for side in shape:
        width = max(1, round(side * window))
        starts = [*range(0, side - width, max(1, round(side * stride))), side - width]
        along.append([slice(start, start + width) for start in starts])
    return itertools.product(*along)
