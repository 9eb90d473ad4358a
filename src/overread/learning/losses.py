"""Losses over a batch, one per kind of target; unknown labels are masked, classes weighted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from overread.core.errors import checked
from overread.tasks.target import Target

#: ``(outputs (B, K), labels (B,) or (B, K)) -> scalar``
Loss = Callable[[Tensor, Tensor], Tensor]


@checked
def class_weights(labels: NDArray, target: Target, balance: float) -> NDArray[np.float32]:
    """Weights (classes,) or, for findings, of the positives (findings,): frequency to the power −``balance``.

    Scaled so that the mean weight over the known labels is 1. A class without a case weighs 0.
    """
    if target.kind == "quantity":
        return np.ones(1, np.float32)
    if target.kind == "findings":
        positive, negative = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
        ratio = np.where(positive > 0, negative / np.maximum(positive, 1), 1.0)
        return np.asarray(ratio**balance, np.float32)
    counts = np.bincount(labels[labels >= 0], minlength=len(target.names)).astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -balance, 0.0)
    return np.asarray(weights * counts.sum() / max((weights * counts).sum(), 1e-12), np.float32)


@checked
def make_loss(target: Target, weights: NDArray, smoothing: float, device: str = "cpu") -> Loss:
    """The loss of a target.

    Classes: cross-entropy with class weights and label smoothing (Szegedy 2016, section 7). Findings: binary
    cross-entropy, unknowns masked, positives weighted. Quantity: squared error of the standardised value.
    """
    scale = torch.as_tensor(weights, device=device)

    def classes(outputs: Tensor, labels: Tensor) -> Tensor:
        return _weighted_mean(_smoothed(outputs, labels, smoothing), scale[labels])

    def findings(outputs: Tensor, labels: Tensor) -> Tensor:
        known = ~torch.isnan(labels)
        aim = torch.where(known, labels, 0.0) * (1 - smoothing) + smoothing / 2
        each = functional.binary_cross_entropy_with_logits(outputs, aim, pos_weight=scale, reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1)

    def quantity(outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.mse_loss(outputs[:, 0], labels)

    return {"binary": classes, "classes": classes, "findings": findings, "quantity": quantity}[target.kind]


def _smoothed(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return functional.cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")


def _weighted_mean(each: Tensor, weights: Tensor) -> Tensor:
    return (each * weights).mean()  # the weights average 1 over the training set, not over each batch


def probabilities(outputs: Tensor, target: Target) -> Tensor:
    """Outputs (B, K) as probabilities: softmax over classes, a sigmoid per finding; a quantity as it is."""
    if target.kind == "quantity":
        return outputs
    return outputs.sigmoid() if target.kind == "findings" else outputs.softmax(dim=1)
