"""Batches of training images: order, augmentation and normalisation as pure functions of (seed, epoch, row)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overread import chance
from overread.images.augment import Augmentation, Drawn, apply, draw
from overread.images.prepare import Preprocess
from overread.learning.augmentation import augment
from overread.learning.device import standardise, to_unit

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batches:
    """The training images of a pack, batch by batch.

    ``images`` (N, H, W, C) memory-mapped, ``rows`` the training rows, ``labels`` for all N rows.
    """

    images: NDArray[Any]
    rows: NDArray[np.int64]
    labels: Tensor
    size: int
    preprocess: Preprocess
    augmentation: Augmentation
    mean_image: NDArray[np.float32] | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 0

    def __len__(self) -> int:
        """Steps in an epoch. Batches differ by at most one image, so none is too small for batch normalisation."""
        return max(1, round(len(self.rows) / self.size))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """``(rows, images (B, C, H, W), labels)`` from step ``start`` on, one batch prepared ahead."""
        order = self.rows[chance.permutation(self.seed, epoch, len(self.rows))]
        parts = np.array_split(order, len(self))[start:]
        yield from ahead(self._load(rows, epoch) for rows in parts)

    def _load(self, rows: NDArray[np.int64], epoch: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        height, width, channels = self.images.shape[-3:]
        drawn = draw(
            self.augmentation,
            seed=self.seed,
            epoch=epoch,
            samples=rows,
            size=(height, width),
            channels=channels,
        )
        labels = self.labels[torch.from_numpy(rows)].to(self.device)
        return rows, standardise(self._augmented(rows, drawn), self.preprocess, self.mean_image), labels

    def _augmented(self, rows: NDArray[np.int64], drawn: Drawn) -> Tensor:
        """On the CPU by OpenCV, four to ten times quicker there; on another device by torch, but for CLAHE."""
        if self.device == "cpu" or drawn.clahe.any():
            return to_unit(apply(self.images, drawn, rows=rows, threads=self.threads), self.device)
        return augment(to_unit(self.images[rows], self.device), drawn)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield ``items``, the next one made in a thread while the present one is used."""
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]
