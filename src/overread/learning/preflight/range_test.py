"""The range test of the learning rate (Smith 2017, arXiv:1506.01186, section 3.3): it trains a copy and keeps nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from overread.core.errors import UnsoundError, checked, require
from overread.core.progress import Progress, silent
from overread.learning.device import layout
from overread.learning.fit import batches_of, loss_of, source_shares
from overread.learning.loader import TrainingData, normalisation, samples_of
from overread.learning.loop import LoopState, answers_of, backward, hold_still, make_optimizer
from overread.learning.model import initial_network
from overread.learning.recipe import Recipe

#: How much the last loss counts in the smoothed one; a loss this many times the least ends the test.
_LATEST, _DIVERGED = 0.1, 4.0


@dataclass(frozen=True)
class RangeTest:
    """``losses``: of each step, ``smoothed``: their exponential average, at the ``rates``; ``suggested``: one of those."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float

    def __str__(self) -> str:
        return f"a learning rate of about {self.suggested:.1g}: there half of the fall of the loss is done"


@checked
def range_test(
    data: TrainingData,
    recipe: Recipe,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    threads: int = 0,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    progress: Progress = silent,
) -> RangeTest:
    """The loss of training batches while the rate grows from ``low`` to ``high``, geometrically, a step each.

    ``recipe`` without open fields, as in :func:`overread.learning.fit.fit`; a pretrained network begins with a fresh head.
    A pure function of its arguments; it ends where the loss has grown fourfold. Raises :class:`ArgumentError` for a
    recipe without steps, :class:`UnsoundError` where the loss falls at no rate.
    """
    require(not recipe.open_fields, "the recipe leaves fields open", given=", ".join(recipe.open_fields))
    require(recipe.method != "features", "a linear head on a frozen network is fitted without a learning rate",
            given="method features", todo="use --recipe finetune or scratch")  # fmt: skip
    require(0 < low < high and steps >= 10, "the rates must rise over at least 10 steps", given=f"{low:g} … {high:g} in {steps}")  # fmt: skip
    preprocess, mean_image = normalisation(data, recipe)
    samples = samples_of(data, recipe)
    samples = samples.one_by_one(samples.training) if recipe.fusion == "late" else samples
    network, _ = initial_network(
        recipe,
        preprocess,
        data.cases.target.outputs,
        weights=weights,
        places=len(samples.views),
        pool=data.cases.target.task.pooled,
        extra=data.extra(recipe),
    )
    network = layout(network, device).train()
    task = data.cases.target.task
    scale = task.label_scale(data.cases.labels[data.training])
    labels = torch.from_numpy(np.array(task.scaled(data.cases.labels, scale)[samples.first]))
    batches = batches_of(
        data, recipe, samples, preprocess, labels, mean_image=mean_image, device=device, threads=threads
    )
    loss, shares, optimizer = (
        loss_of(recipe, task, data.cases.labels[samples.first[samples.training]], device),
        source_shares(data, recipe, samples),
        make_optimizer(network, recipe),
    )
    hold_still(network, recipe, 0)
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    smoothed: list[float] = []
    taken = ((epoch, rows, x, y) for epoch in count() for rows, x, y in batches.epoch(epoch))
    for step, (rate, (epoch, rows, x, y)) in enumerate(zip(rates, taken)):
        progress("trying learning rates", step, steps)
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * group["share"]
        optimizer.zero_grad(set_to_none=True)
        answers = answers_of(y, rows, batches.mixture(rows, epoch), shares)
        value = backward(network, loss, recipe, LoopState(1, step=step), x, answers)
        if not math.isfinite(value):
            break
        losses.append(value)
        weight = 1 - (1 - _LATEST) ** (step + 1)  # as in Adam: the first steps are not drawn to 0
        smoothed.append((_LATEST * value + (1 - _LATEST) * (smoothed[-1] * (1 - (1 - _LATEST) ** step) if step else 0.0)) / weight)  # fmt: skip
        if smoothed[-1] > _DIVERGED * min(smoothed):
            break
        if recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        optimizer.step()
    progress("trying learning rates", steps, steps)
    tried = rates[: len(losses)]
    return RangeTest(tuple(tried.tolist()), tuple(losses), tuple(smoothed), half_fallen(tried, np.array(smoothed)))


@checked
def half_fallen(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """The last rate at which no more than half of the fall is done, from the first tenth of the losses to the least.

    Where a loss falls like a sigmoid over the logarithm of the rate, it falls most steeply there; single steps, which are
    noisy, do not decide. Raises :class:`UnsoundError` where it never falls.

    >>> rates = np.geomspace(1e-5, 1, 101)
    >>> round(half_fallen(rates, 1 / (1 + (rates / 1e-2) ** 2)), 2)
    0.01
    """
    first, least = float(np.mean(losses[: max(1, len(losses) // 10)])), int(np.argmin(losses))
    if losses[least] >= first - 1e-9 * abs(first):
        raise UnsoundError("the loss falls at no learning rate", given=f"{rates[0]:g} … {rates[-1]:g}",
                           todo="look at the images and labels, or at the loss")  # fmt: skip
    above = np.flatnonzero(losses[: least + 1] >= (first + losses[least]) / 2 - 1e-9)
    return float(rates[above[-1]])
