"""A number a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.tasks.task import Loss, Task, judged_rows

if TYPE_CHECKING:
    from torch import Tensor

#: Half the width of the tube in which a support vector machine counts no error, in deviations.
_TUBE = 0.1


@dataclass(frozen=True)
class Quantity(Task):
    """One number, learned standardised by squared error."""

    continuous: ClassVar[bool] = True
    subjects: ClassVar[tuple[str, ...]] = ("quantity",)
    metrics_of: ClassVar[tuple[str, ...]] = ("quantity",)
    losses: ClassVar[tuple[str, ...]] = ("mse", "huber")
    unmixable: ClassVar[str] = "the quantity of two images laid over each other is not the mean of their quantities"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """``value``."""
        return ("value",)

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        """``predicted``."""
        return ("predicted",)

    @property
    def outputs(self) -> int:
        """One."""
        return 1

    @property
    def summary(self) -> str:
        """``a quantity``."""
        return "a quantity"

    @property
    def answer(self) -> str:
        """``a number``."""
        return "a number"

    @property
    def only_name(self) -> str:
        """The quantity."""
        return self.names[0]

    @property
    def pointed(self) -> tuple[tuple[str, ...], ...]:
        """None."""
        return ()

    def asked(self, pointed: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], bool], ...]:
        """No question: a number is neither right nor wrong."""
        return ()

    def read_labels(self, table: pd.DataFrame) -> NDArray[Any]:
        """float64 (N,), NaN where unknown."""
        return table["value"].to_numpy(np.float64)

    def known(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) where the number is known."""
        return ~np.isnan(labels)

    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The fifth of the known numbers."""
        known = labels[~np.isnan(labels)]
        edges = np.unique(np.quantile(known, [0.2, 0.4, 0.6, 0.8])) if known.size else np.array([math.nan])
        return np.searchsorted(edges, labels).astype(np.int64)

    def yes_or_no(self, labels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Whether it lies above its median."""
        return (labels > np.nanmedian(labels)).astype(np.float64)[:, None], (f"{self.names[0]} above its median",)

    def count(self, labels: NDArray[Any], patient: pd.Series) -> dict[str, Any]:
        """Known images and the range of their numbers."""
        known = labels[~np.isnan(labels)]
        functions = (("min", np.min), ("median", np.median), ("max", np.max), ("mean", np.mean))
        described = {name: float(function(known)) for name, function in functions} if known.size else {}
        return {"value": {"images": int(known.size), **described}}

    def holds(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """(N, 0): a number has no names."""
        return np.empty((len(labels), 0))

    def label_words(self, labels: NDArray[Any]) -> list[str]:
        """The number."""
        return ["" if math.isnan(value) else self.number_words(value) for value in labels]

    def answer_words(self, scores: NDArray[Any]) -> list[str]:
        """The number."""
        return [self.number_words(value) for value in scores[:, 0]]

    def number_words(self, value: float) -> str:
        """With four digits, in the unit of the table."""
        return f"{value:.4g}"

    def asked_of(self, name: str) -> str:
        """The quantity itself."""
        return name

    def order_words(self, names: Sequence[str]) -> str:
        """By the number."""
        return f"Sorted by {names[0]}, the largest first."

    def title(self, names: Sequence[str], called: Callable[[str], str]) -> str:
        """``Estimating age from images``."""
        return f"Estimating {names[0]} from images"

    def alternatives(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """None."""
        return np.empty((0, 0))

    def judged(
        self, truth: NDArray[Any], scores: NDArray[Any], called: NDArray[np.int64] | None = None
    ) -> pd.DataFrame:
        """Each case as an error by how far it is off, and the nearer half as correct too."""
        predicted, nothing = scores[:, 0], np.full(len(truth), np.nan)
        off, known, every = np.abs(predicted - truth), ~np.isnan(truth), np.zeros(len(truth), bool)
        near = off <= np.median(off[known]) if known.any() else every
        said = {"truth": [self.number_words(v) for v in truth], "predicted": [self.number_words(v) for v in predicted]}
        wrong = judged_rows(known, {**said, "probability": nothing, "surprise": off, "correct": every})
        right = judged_rows(known & near, {**said, "probability": nothing, "surprise": -off, "correct": ~every})
        return pd.concat([wrong, right], ignore_index=True)

    def loss(
        self, weights: NDArray[Any], smoothing: float, device: str = "cpu", *, name: str = "", gamma: float = 2.0,
        heads: Mapping[str, float] | None = None,
    ) -> Loss:  # fmt: skip
        """The squared error of the standardised number; ``huber``: beyond one deviation linear (Huber 1964)."""
        from torch.nn.functional import huber_loss, mse_loss

        self.finding_weights(heads)
        error = huber_loss if self.loss_name(name) == "huber" else mse_loss

        def loss(outputs: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
            if shares is None:
                return error(outputs[:, 0], labels)
            return (error(outputs[:, 0], labels, reduction="none") * shares).mean()

        return loss

    def loss_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Half the squared error."""
        error = outputs[..., 0] - labels
        return error.square() / 2, error[..., None]

    def hinge_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The squared error beyond a tenth of a deviation (Vapnik's tube; Ho & Lin 2012, equation 2)."""
        error = outputs[..., 0] - labels
        beyond = error.sign() * (error.abs() - _TUBE).clamp(min=0)
        return beyond.square(), 2 * beyond[..., None]

    def aims(self, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The number, each of weight 1."""
        import torch

        return labels[:, None], torch.ones_like(labels)[:, None]

    def answer_score(self, answers: NDArray[np.float64], labels: NDArray[Any]) -> float:
        """Minus the mean squared error."""
        return -float(np.mean((answers[:, 0] - labels) ** 2))

    def snapshot_score(self, outputs: NDArray[Any], labels: NDArray[Any], loss: float) -> float:
        """Minus the squared error."""
        return -loss

    def label_scale(self, labels: NDArray[Any]) -> tuple[float, float]:
        """Mean and standard deviation."""
        return float(np.mean(labels)), max(float(np.std(labels)), 1e-8)

    def scaled(self, labels: NDArray[Any], scale: tuple[float, float]) -> NDArray[Any]:
        """(N,) standardised."""
        return (labels - np.float32(scale[0])) / np.float32(scale[1])

    def unscaled(self, values: NDArray[Any], scale: tuple[float, float]) -> NDArray[Any]:
        """(N, 1) in the unit of the labels."""
        return values * scale[1] + scale[0]
