"""One label a case, out of two or more classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.tasks.task import Loss, Task, mean_auc

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classes(Task):
    """Exactly one class of several: softmax, cross-entropy."""

    exclusive: ClassVar[bool] = True
    unknown: ClassVar[Any] = ""
    plural: ClassVar[str] = "classes"
    metrics_of: ClassVar[tuple[str, ...]] = ("classes",)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """``label``."""
        return ("label",)

    def read_labels(self, table: pd.DataFrame) -> NDArray[Any]:
        """int64 (N,), the index in ``names``, −1 where unknown."""
        return pd.Index(self.names).get_indexer(pd.Index(table["label"])).astype(np.int64)

    def known(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) where the class is known."""
        return np.asarray(labels >= 0)

    def distinct(self, labels: NDArray[Any]) -> int:
        """How many classes there are."""
        return len(np.unique(labels[labels >= 0]))

    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The class."""
        return labels

    def presence(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N, classes) one-hot; no True where unknown."""
        return labels[:, None] == np.arange(len(self.names))

    def yes_or_no(self, labels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Each class against the others; of two the positive one."""
        asked = self.positive if self.binary else self.names
        return np.stack([(labels == self.names.index(name)).astype(np.float64) for name in asked], 1), tuple(asked)

    def count(self, labels: NDArray[Any], patient: pd.Series) -> dict[str, Any]:
        """By class."""
        return {"classes": {name: {"images": int((labels == i).sum()), "patients": int(patient[labels == i].nunique())}
                            for i, name in enumerate(self.names)}}  # fmt: skip

    def fewest_patients(self, labels: NDArray[Any], patient: NDArray[Any]) -> int:
        """Patients of the rarest class."""
        return min(len(np.unique(patient[labels == k])) for k in range(len(self.names)))

    def class_weights(self, labels: NDArray[Any], balance: float) -> NDArray[np.float32]:
        """(classes,)."""
        counts = np.bincount(labels[labels >= 0], minlength=len(self.names)).astype(np.float64)
        weights = np.where(counts > 0, np.maximum(counts, 1) ** -balance, 0.0)
        return np.asarray(weights * counts.sum() / max((weights * counts).sum(), 1e-12), np.float32)

    def loss(self, weights: NDArray[Any], smoothing: float, device: str = "cpu") -> Loss:
        """Cross-entropy with class weights and label smoothing (Szegedy 2016, section 7)."""
        import torch
        from torch.nn.functional import cross_entropy

        scale = torch.as_tensor(weights, device=device)

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            each = cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")
            return (each * scale[labels]).mean()  # the weights average 1 over the training set, not over each batch

        return loss

    def loss_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy."""
        from torch.nn.functional import one_hot

        row = weights[labels]
        log = outputs.log_softmax(-1)
        each = -log.gather(-1, labels.expand(len(outputs), -1)[..., None])[..., 0] * row
        hot = one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
        return each, (log.exp() - hot) * row[:, None]

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Softmax over the classes."""
        return outputs.softmax(dim=1)

    def snapshot_score(self, outputs: NDArray[Any], labels: NDArray[Any], loss: float) -> float:
        """The mean AUC of the classes, each against the others."""
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        auc = mean_auc([(labels == k, shares[:, k]) for k in range(outputs.shape[1])])
        return -loss if auc is None else auc


@dataclass(frozen=True)
class Binary(Classes):
    """One class of two: one question, asked of the positive class."""

    binary: ClassVar[bool] = True
    metrics_of: ClassVar[tuple[str, ...]] = ("binary",)

    @property
    def summary(self) -> str:
        """``binary label``."""
        return "binary label"

    @property
    def question(self) -> str:
        """``two classes``."""
        return "two classes"

    @property
    def answer(self) -> str:
        """Of two classes, in a word."""
        return "a probability for each of two classes"
