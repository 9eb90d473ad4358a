"""A small training for the loop: bright squares against dark ones under noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from overread.core.progress import Clock
from overread.images.augment import Augmentation
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.loader import Batches
from overread.learning.predict import judge_on
from overread.learning.recipe import Recipe
from overread.tasks.target import Target

TARGET = Target("binary", ("dark", "bright"), ("bright",))


class Tiny(nn.Module):
    """Convolution, batch norm, dropout, head: everything that could have a hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.body(x)))


@pytest.fixture
def make_training() -> Callable[..., dict[str, Any]]:
    """``make_training(folder=None, epochs=3, **changes of the recipe)``: the arguments of ``optimise``."""

    def make(folder: Path | None = None, clock: Clock | None = None, **fields: object) -> dict[str, Any]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        labels = np.arange(96) % 2
        images = (rng.normal(100, 40, (96, 12, 12, 1)) + 25 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)
        recipe = Recipe(method="scratch", seed=3, precision="float32").changed(
            **{"epochs": 3, "batch_size": 16, "learning_rate": 5e-3, **fields}
        )
        preprocess = Preprocess(size=(12, 12), channels=1, mean=(0.4,), std=(0.2,))
        truth, training = torch.from_numpy(labels), np.arange(64)
        batches = Batches(images, training, truth, recipe.batch_size, preprocess, Augmentation(rotate=10, noise=0.02),
                          seed=3, threads=1)  # fmt: skip
        with seeded(3, 0, 0, "initial weights"):
            network = Tiny()
        judge = judge_on(images, np.arange(64, 96), truth, TARGET.task, preprocess)
        loss = TARGET.task.loss(np.ones(2, np.float32), recipe.label_smoothing)
        return {"network": network, "batches": batches, "loss": loss, "judge": judge, "recipe": recipe,
                "clock": clock or Clock(), "folder": folder}  # fmt: skip

    return make
