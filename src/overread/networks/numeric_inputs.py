"""Numbers beside the pixels: a network whose images bring them along as planes that are the same everywhere.

An image with E numbers is a tensor (C + E, H, W): so it can be batched, moved, turned and averaged over its orientations
like any image. The numbers stand there as the table has them, NaN where one is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.core.errors import UnavailableError, checked, require


class WithNumbers(nn.Module):
    """A body that sees the pixels, whose features the numbers stand beside, and a linear head on both.

    ``body``: a :class:`~overread.networks.small.Network`, or anything with ``features`` (n, F), ``width`` and ``head``; its
    own head is taken away. ``scales``: mean and standard deviation of each of the E numbers. A number enters the head as
    its distance from the mean in standard deviations, 0 where it is missing, and, beside it, as 1 where it is missing.
    """

    def __init__(
        self, body: Any, scales: Sequence[tuple[float, float]], *, outputs: int, dropout: float = 0.0
    ) -> None:  # fmt: skip
        super().__init__()
        require(len(scales) > 0, "there are no numbers to stand beside the pixels")
        self.body, self.outputs, self.dimensions = body, outputs, getattr(body, "dimensions", 2)
        body.head = nn.Identity()
        self.extra, self.width = len(scales), body.width + 2 * len(scales)
        mean, std = torch.tensor(scales, dtype=torch.float32).T
        self.register_buffer("mean", mean, persistent=False)  # they stand in the model's contract
        self.register_buffer("std", std, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Module = nn.Linear(self.width, outputs)
        nn.init.normal_(self.head.weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def encoded(self, numbers: Tensor) -> Tensor:
        """(n, 2 E) what the head sees of numbers (n, E): standardised, then which are missing."""
        return encode_numbers(numbers, self.get_buffer("mean"), self.get_buffer("std"))

    def features(self, x: Tensor) -> Tensor:
        """The features (n, F + 2 E) that the head sees, of images (n, C + E, H, W)."""
        pixels, planes = x[:, : -self.extra], x[:, -self.extra :]
        layout = torch.channels_last_3d if self.dimensions == 3 else torch.channels_last
        seen = self.body.features(pixels.contiguous(memory_format=layout))
        return torch.cat([seen.float(), self.encoded(planes.flatten(2)[..., 0])], 1)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs before softmax or sigmoid, (n, outputs)."""
        return self.head(self.dropout(self.features(x)))


@checked
def encode_numbers(numbers: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(n, 2 E) what a head sees of numbers (n, E): in standard deviations from the mean, 0 where NaN; then 1 where NaN.

    >>> encode_numbers(torch.tensor([[7.0, torch.nan]]), torch.tensor([5.0, 0.0]), torch.tensor([2.0, 1.0])).tolist()
    [[1.0, 0.0, 0.0, 1.0]]
    """
    missing = numbers.isnan()
    return torch.cat([((numbers.float() - mean) / std).masked_fill(missing, 0.0), missing.float()], 1)


@checked
def with_planes(images: Tensor, numbers: NDArray[np.float32] | None) -> Tensor:
    """Images (n, C, H, W) or volumes with a plane for each of their numbers (n, E); as they are where there are none.

    >>> with_planes(torch.zeros(1, 3, 2, 2), np.array([[7.0]], np.float32))[0, :, 0, 0].tolist()
    [0.0, 0.0, 0.0, 7.0]
    """
    if numbers is None or not numbers.shape[1]:
        return images
    require(len(numbers) == len(images), "each image needs its numbers", given=f"{len(numbers)} for {len(images)}")
    planes = torch.from_numpy(np.ascontiguousarray(numbers, np.float32)).to(images.device)
    planes = planes.reshape(*numbers.shape, *[1] * (images.ndim - 2)).expand(*numbers.shape, *images.shape[2:])
    return torch.cat([images, planes.to(images.dtype)], 1)


@checked
def require_pixels_alone(network: nn.Module, what: str, todo: str) -> None:
    """Raise :class:`UnavailableError` for a network that sees numbers beside the pixels: ``what`` is had of pixels alone."""
    if many := extra_of(network):
        raise UnavailableError(f"{what} is made of models that see the pixels alone", given=f"{many} numbers beside them (--inputs)", todo=todo)  # fmt: skip


@checked
def extra_of(network: nn.Module) -> int:
    """How many numbers a network sees beside the pixels of an image; 0: none."""
    return next((module.extra for module in network.modules() if isinstance(module, WithNumbers)), 0)
