"""Several models as one, and the probabilities of a model put right.

An ensemble is a network whose members are networks: it takes images as its own preprocessing makes them, gives each
member the normalisation and the size that it was trained with, and averages their outputs. So it is saved, predicts and
is explained like any other model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

from overread.core.errors import checked, require
from overread.images.preprocess import Preprocess
from overread.networks.fusion import Fused
from overread.networks.numeric_inputs import extra_of
from overread.tasks.task import Task

#: Fewer held-out cases than these say nothing of how sure a model may be.
FEWEST_TO_CALIBRATE = 20
#: The temperatures that are looked at.
COLDEST, HOTTEST = 0.05, 20.0
#: How far the offset of an output is expected to lie from 0, in log odds.
OFFSETS = 1.0


class Member(nn.Module):
    """A network among others: ``whole`` is how the ensemble's images are prepared, ``own`` how this network's were."""

    def __init__(self, network: nn.Module, own: Preprocess, whole: Preprocess) -> None:
        super().__init__()
        self.network, self.size, self.other_size = network, own.size, own.size != whole.size
        scale, shift = _between(whole, own)
        self.same = bool((scale == 1).all() and (shift == 0).all())
        self.register_buffer("scale", torch.from_numpy(scale), persistent=False)
        self.register_buffer("shift", torch.from_numpy(shift), persistent=False)

    def prepared(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), or cases of several (B, V, C, H, W), of the ensemble as this network was trained on them."""
        sides = len(self.size)
        if self.other_size:
            images = x.reshape(-1, *x.shape[-sides - 1 :])
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
            x = images.reshape(*x.shape[:-sides], *self.size)
        if self.same:
            return x
        shape = (-1, *([1] * sides))
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        planes = extra_of(self.network)  # the numbers beside the pixels are as the table has them
        scale, shift = torch.cat([scale, scale.new_ones(planes)]), torch.cat([shift, shift.new_zeros(planes)])
        return x * scale.view(shape) + shift.view(shape)

    def features(self, x: Tensor) -> Tensor:
        """The pooled features (B, F) that its head sees."""
        return self.network.features(self.prepared(x))  # type: ignore[operator, no-any-return, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (B, K)."""
        return self.network(self.prepared(x))  # type: ignore[no-any-return]


class Committee(nn.Module):
    """Members whose outputs (before softmax or sigmoid) are averaged, each by its share; the shares add up to 1.

    The mean of log-odds is a logarithmic opinion pool (Genest & Zidek 1986, eq. 3.11).
    """

    def __init__(self, members: Sequence[Member], shares: Sequence[float]) -> None:
        super().__init__()
        require(len(members) == len(shares) > 0, "each member needs a share", given=f"{len(shares)} of {len(members)}")
        self.members, self.shares = nn.ModuleList(members), tuple(shares)

    @property
    def sides(self) -> int:
        """2 or 3 where its members see cases of several images or volumes, else 0."""
        return sides_of(self.members[0].network)  # type: ignore[arg-type]

    def features(self, x: Tensor) -> Tensor:
        """The features of all members side by side (B, sum of F)."""
        return torch.cat([member.features(x) for member in self.members], dim=1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """The mean outputs (B, K)."""
        return self.pooled([member(x).float() for member in self.members], self.shares)

    @staticmethod
    def pooled(outputs: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
        """The mean of the members' outputs (B, K), each by its share."""
        return torch.stack([share * each for share, each in zip(shares, outputs, strict=True)]).sum(dim=0)


@checked
def sides_of(network: nn.Module) -> int:
    """2 of a network that sees cases of several images together, 3 of one that sees several volumes, else 0."""
    if isinstance(network, Committee):
        return network.sides
    return network.dimensions if isinstance(network, Fused) else 0


def _between(whole: Preprocess, own: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factor and addend of each channel from one normalisation to another."""
    a, m = (np.asarray(each, np.float64) for each in (whole.std, whole.mean))
    b, n = (np.asarray(each, np.float64) for each in (own.std, own.mean))
    return (a / b).astype(np.float32), ((m - n) / b).astype(np.float32)


@checked
def shared_preprocess(each: Sequence[Preprocess]) -> Preprocess:
    """The preprocessing of an ensemble: that of its member with the largest images.

    Raises :class:`ArgumentError` where the members' images differ in more than size, mean and standard deviation: then
    they cannot be made of one another.
    """
    whole = max(each, key=lambda one: one.size)
    alike = {replace(one, size=whole.size, mean=(), std=()) for one in each}
    require(len(alike) == 1 and whole.normalise != "mean image", "the members' images are prepared in different ways")
    sized = {one.size for one in each}
    require(len(sized) == 1 or len(whole.size) == 2, "volumes of different sizes cannot be shared", given=sorted(sized))
    return whole


@checked
def mean_loss(task: Task, outputs: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """The mean loss of outputs (N, K) on labels, unweighted: the negative log-likelihood of classes and findings."""
    loss = task.loss(np.ones(task.outputs, np.float32), 0.0)
    return float(loss(torch.from_numpy(np.asarray(outputs, np.float32)), torch.from_numpy(np.asarray(labels))))


# -- calibrated outputs ---------------------------------------------------------------------------------------------


@checked
def calibration_of(
    task: Task, outputs: NDArray[np.float64], labels: NDArray[Any], shift: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """The T and b (K,) at which softmax or sigmoid of ``outputs / T + shift + b`` has the least loss on held-out cases.

    ``outputs`` (N, K); ``shift`` (K,) is added to every case. One temperature (Guo 2017, "On calibration of modern neural
    networks", section 4.2) and, as a network that is trained under weights is seldom sure of how common a class is, an
    offset for each output, under a normal prior with the standard deviation :data:`OFFSETS` log odds: the few cases of a
    rare class hardly move theirs. (1, 0) where fewer than 20 cases or fewer
    than two answers are known.
    """
    known = task.known(labels)
    if task.continuous or known.sum() < FEWEST_TO_CALIBRATE or task.distinct(labels) < 2:
        return 1.0, np.zeros(task.outputs)
    loss = task.loss(np.ones(task.outputs, np.float32), 0.0)
    given, truth = torch.from_numpy(outputs[known] + 0.0), torch.from_numpy(np.asarray(labels[known]))
    moved, many = torch.from_numpy(shift + 0.0), int((~torch.isnan(truth)).sum())

    def penalised(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        t = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
        value = loss(given * torch.exp(-t[0]) + moved + t[1:], truth) + (t[1:] ** 2).sum() / (2 * OFFSETS**2 * many)
        value.backward()
        return value.item(), cast("Tensor", t.grad).numpy()

    limits = [tuple(np.log([COLDEST, HOTTEST])), *[(None, None)] * task.outputs]
    found = minimize(penalised, np.zeros(1 + task.outputs), jac=True, method="L-BFGS-B", bounds=limits)
    return float(np.exp(found.x[0])), np.asarray(found.x[1:])


@checked
def rescale(network: nn.Module, temperature: float, shift: NDArray[np.float64]) -> None:
    """Make a network say ``outputs / temperature + shift``, in place: in its linear head, or in those of its members.

    Raises :class:`ArgumentError` for a network without a linear head.
    """
    members = [member.network for member in network.members] if isinstance(network, Committee) else [network]  # type: ignore[union-attr]
    for each in members:
        head = getattr(each, "head", None)
        require(
            isinstance(head, nn.Linear), "the network has no linear head to be calibrated", given=type(each).__name__
        )
        with torch.no_grad():
            head.weight.div_(temperature)  # type: ignore[union-attr]
            head.bias.div_(temperature).add_(torch.from_numpy(shift.astype(np.float32)).to(head.bias.device))  # type: ignore[union-attr]
