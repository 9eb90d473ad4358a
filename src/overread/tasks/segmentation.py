"""Objects outlined in an image, each of one of the classes in ``names``; ``object`` where there is one class only.

The label of a row is its mask, which lies in a file: here it counts only whether there is one. What is learned is an
answer for each pixel and name, so that the parts for linear heads see pixels as cases with findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.tasks.findings import Findings
from overread.tasks.task import Loss, Task

if TYPE_CHECKING:
    from torch import Tensor

#: The name of the objects where they have no classes.
OBJECT = "object"


@dataclass(frozen=True)
class Segmentation(Task):
    """Objects, outlined pixel by pixel."""

    dense: ClassVar[bool] = True
    subjects: ClassVar[tuple[str, ...]] = ()
    unknown: ClassVar[Any] = ""
    plural: ClassVar[str] = "classes of objects"
    metrics_of: ClassVar[tuple[str, ...]] = ("segmentation",)
    losses: ClassVar[tuple[str, ...]] = ("cross-entropy", "boundary-weighted", "dice", "focal-tversky")
    unmixable: ClassVar[str] = "the outlines of two images laid over each other are no outlines"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """``mask``: where the mask of an image lies; blank where there is none."""
        return ("mask",)

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        """``predicted``: where the label image of what was found lies."""
        return ("predicted",)

    @property
    def summary(self) -> str:
        """``outlines of objects``, or of which classes."""
        return "outlines of objects" if self.names == (OBJECT,) else f"outlines of {', '.join(self.names)}"

    @property
    def answer(self) -> str:
        """An image in which objects are outlined."""
        return "an image in which each object is outlined"

    def read_labels(self, table: pd.DataFrame) -> NDArray[Any]:
        """float64 (N,): 1 where there is a mask, else NaN."""
        return np.where(table["mask"].astype(str) != "", 1.0, np.nan)

    def known(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) where there is a mask."""
        return ~np.isnan(labels)

    def distinct(self, labels: NDArray[Any]) -> int:
        """How many masks there are: each is an answer of its own."""
        return int(self.known(labels).sum())

    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Zeros: the table does not say what a mask holds."""
        return np.zeros(len(labels), np.int64)

    def presence(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N, K) where there is a mask: which classes it holds the table does not say."""
        return np.repeat(self.known(labels)[:, None], len(self.names), axis=1)

    def yes_or_no(self, labels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """(N, 0): nothing is asked of the image as a whole."""
        return np.empty((len(labels), 0)), ()

    def count(self, labels: NDArray[Any], patient: pd.Series) -> dict[str, Any]:
        """Images with a mask, and their patients."""
        known = self.known(labels)
        return {"masks": {"images": int(known.sum()), "patients": int(patient[known].nunique())}}

    def holds(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """(N, 0): the table does not say what a mask holds."""
        return np.empty((len(labels), 0))

    def label_words(self, labels: NDArray[Any]) -> list[str]:
        """``outlined`` where there is a mask."""
        return ["outlined" if known else "" for known in self.known(labels)]

    def answer_words(self, scores: NDArray[Any]) -> list[str]:
        """``outlined``."""
        return ["outlined"] * len(scores)

    def order_words(self, names: Sequence[str]) -> str:
        """By how well they were outlined."""
        return "Sorted by how well the objects were outlined, the worst first."

    def title(self, names: Sequence[str], called: Callable[[str], str]) -> str:
        """``Outlining objects in images``."""
        return f"Outlining {'objects' if self.names == (OBJECT,) else ', '.join(names)} in images"

    def alternatives(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """None."""
        return np.empty((0, 0))

    def judged(
        self, truth: NDArray[Any], scores: NDArray[Any], called: NDArray[np.int64] | None = None
    ) -> pd.DataFrame:
        """No rows: outlines are judged object by object, not image by image."""
        return pd.DataFrame({name: [] for name in ("row", "truth", "predicted", "probability", "correct", "surprise")})

    def loss(
        self, weights: NDArray[Any], smoothing: float, device: str = "cpu", *, name: str = "", gamma: float = 2.0,
        heads: Mapping[str, float] | None = None,
    ) -> Loss:  # fmt: skip
        """Binary cross-entropy summed over the pixels (B, K, H, W) of each image, averaged over images.

        ``labels`` (B, K, H, W): 1 inside an object of the name, 0 outside, NaN where unknown.
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        self.finding_weights(heads)
        self.loss_name(name)
        scale = torch.as_tensor(weights, device=device)[:, None, None]

        def loss(outputs: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
            known = ~torch.isnan(labels)
            aim = torch.where(known, labels, 0.0) * (1 - smoothing) + smoothing / 2
            each = binary_cross_entropy_with_logits(outputs, aim, pos_weight=scale, reduction="none") * known
            whole = each.flatten(1).sum(1)
            return (whole if shares is None else whole * shares).mean()

        return loss

    @cached_property
    def _of_pixels(self) -> Findings:
        """Of a pixel each name is a finding: it lies in an object of that name or not."""
        return Findings(self.names)

    def loss_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels as rows: weighted binary cross-entropy, summed over the names."""
        return self._of_pixels.loss_and_slope(outputs, labels, weights)

    def hinge_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels as rows: the squared hinge, summed over the names."""
        return self._of_pixels.hinge_and_slope(outputs, labels, weights)

    def aims(self, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels as rows: 1 inside an object of the name, −1 outside."""
        return self._of_pixels.aims(labels, weights)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """A sigmoid a pixel and name."""
        return outputs.sigmoid()

    def snapshot_score(self, outputs: NDArray[Any], labels: NDArray[Any], loss: float) -> float:
        """Minus the loss."""
        return -loss
