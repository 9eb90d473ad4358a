"""What a network's outputs cost: of each class if it were the answer, and of each finding as it is.

A loss over classes is a table of costs (B, K), of which a label picks one, a smoothed label a mean (Szegedy 2016, section
7), and a mixed image two: so weights, smoothing and mixing are written once for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def class_costs(name: str, outputs: Tensor, gamma: float) -> Tensor:
    """What outputs (B, K) cost for each class that may be the answer, (B, K).

    ``cross-entropy``: −log p. ``focal``: (1 − p)^γ times it (Lin 2017, equation 4). ``mse``: the mean squared distance
    of the softmax from the one-hot label. ``hinge``: the mean over classes of max(0, 1 − z_label + z) (Weston & Watkins
    1999; torch's ``multi_margin_loss``). ``cumulative``: of ordered classes, the sum over the K − 1 steps of the binary
    cross-entropy of "higher than this" (the likelihood of Frank & Hall 2001, here of one softmax, so that the shares
    of the steps never cross).
    """
    return _COSTS[name](outputs, gamma)


def _cross_entropy(outputs: Tensor, gamma: float) -> Tensor:
    return -outputs.log_softmax(1)


def _focal(outputs: Tensor, gamma: float) -> Tensor:
    log = outputs.log_softmax(1)
    return -(_other(outputs) ** gamma) * log


def _other(outputs: Tensor) -> Tensor:
    """1 − p, kept off the 0 at which a root has no slope."""
    return (1 - outputs.softmax(1)).clamp(min=1e-12)


def _squared(outputs: Tensor, gamma: float) -> Tensor:
    """|p − e_j|² = |p|² − 2 p_j + 1."""
    share = outputs.softmax(1)
    return (share.square().sum(1, keepdim=True) - 2 * share + 1) / share.shape[1]


def _hinge(outputs: Tensor, gamma: float) -> Tensor:
    beyond = (1 - outputs[:, :, None] + outputs[:, None, :]).clamp(min=0).sum(2)  # (B, K): over all classes
    return (beyond - 1) / outputs.shape[1]  # the label's own term is 1


def _cumulative(outputs: Tensor, gamma: float) -> Tensor:
    import torch

    log = outputs.log_softmax(1)
    below, above = log.logcumsumexp(1)[:, :-1], log.flip(1).logcumsumexp(1).flip(1)[:, 1:]  # of the K − 1 steps
    higher = -above.cumsum(1)  # that the answer lies above the first 1, 2, … steps
    lower = -below.flip(1).cumsum(1).flip(1)
    none = outputs.new_zeros(len(outputs), 1)
    return torch.cat([none, higher], 1) + torch.cat([lower, none], 1)


_COSTS = {"cross-entropy": _cross_entropy, "focal": _focal, "mse": _squared, "hinge": _hinge, "cumulative": _cumulative}
