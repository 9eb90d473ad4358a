"""The training loop, on one page, without callbacks. Resumes byte for byte: nothing random has a state."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from overread.errors import UnsoundError
from overread.learning.batches import Batches
from overread.learning.checkpoint import load_checkpoint, save_checkpoint
from overread.learning.device import autocast, seeded
from overread.learning.losses import Loss
from overread.learning.recipe import Recipe
from overread.progress import Clock, Progress, silent

#: ``(network) -> {"score": higher is better, "loss": …}`` on the tuning images.
Judge = Callable[[nn.Module], dict[str, float]]
#: Seconds between two checkpoints inside an epoch.
CHECKPOINT_SECONDS = 30.0


@dataclass
class State:
    """Where the loop stands; with the tensors, all that a checkpoint needs."""

    epochs: int
    epoch: int = 0
    step: int = 0
    total: float = 0.0  # of the training loss in this epoch
    best: float = -math.inf
    best_loss: float = math.inf
    best_epoch: int = -1
    seconds: float = 0.0
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Job:
    """What the loop needs. ``fitted``: the network can predict already, so that it is the first snapshot. ``most``
    bounds the epochs under a budget; ``reserve`` seconds are kept for what follows."""

    network: nn.Module
    batches: Batches
    loss: Loss
    judge: Judge
    recipe: Recipe
    clock: Clock
    folder: Path | None = None
    precision: str = "float32"
    fitted: bool = False
    most: int = 0
    reserve: float = 0.0
    progress: Progress = silent


def fit(job: Job) -> tuple[nn.Module, State]:
    """Train, and return the network with the best snapshot on tuning data, and the history.

    Raises :class:`UnsoundError` if the loss is not finite, naming the rows of the batch.
    """
    network, recipe = job.network, job.recipe
    average = copy.deepcopy(network).eval()
    optimizer = make_optimizer(network, recipe)
    best = _copied(average)
    state = State(epochs=recipe.epochs)
    if not _resume(job, state, average, optimizer, best):
        if job.fitted:
            _remember(state, job.judge(average), best, average, epoch=-1)
        _save(job, state, average, optimizer, best)
    saved = began = time.monotonic()
    first = state.epoch
    while state.epoch < state.epochs and not state.stopped:
        network.train()
        for rows, x, y in job.batches.epoch(state.epoch, state.step):
            rate = _set_rate(optimizer, recipe, state, len(job.batches))
            with (
                seeded(recipe.seed, state.epoch, state.step, "dropout"),
                autocast(job.batches.device, job.precision),
            ):
                outputs = network(x)
            value = job.loss(outputs.float(), y)
            if not math.isfinite(value.item()):
                raise _not_finite(value, rows, state)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if recipe.gradient_clip:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
            optimizer.step()
            update_average(
                average,
                network,
                recipe.average,
                state.epoch * len(job.batches) + state.step,
                len(job.batches),
            )
            state.step, state.total = state.step + 1, state.total + value.item()
            job.progress(
                "training", state.epoch * len(job.batches) + state.step, state.epochs * len(job.batches)
            )
            if job.clock.left < job.reserve:
                state.stopped = "the budget was used up"
                break
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                saved = _save(job, state, average, optimizer, best)
        judged = job.judge(average)
        _remember(state, judged, best, average, epoch=state.epoch)
        state.history.append({"epoch": state.epoch + 1, "train loss": state.total / max(state.step, 1), "tuning loss": judged["loss"],
                              "tuning score": judged["score"], "learning rate": rate, "seconds": round(job.clock.elapsed, 1)})  # fmt: skip
        state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0
        _replan(job, state, (time.monotonic() - began) / (state.epoch - first))
        saved = _save(job, state, average, optimizer, best)
    job.progress("training", 1, 1)
    average.load_state_dict(best)
    return average, state


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); no decay on biases and norms; a pretrained body learns more slowly."""
    head = {id(p) for p in network.get_submodule("head").parameters()}
    slow = recipe.body_rate if recipe.method == "finetune" else 1.0
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in network.parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((1.0 if id(parameter) in head else slow, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "weight_decay": d, "share": s} for (s, d), p in groups.items()],
        lr=recipe.learning_rate,
    )


def schedule(done: float, warmup: float) -> float:
    """Share of the learning rate after a fraction ``done`` of all steps: linear warm-up, then half a cosine to 0.

    >>> round(schedule(0.55, 0.1), 2)
    0.5
    """
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, state: State, steps: int) -> float:
    done = (state.epoch + (state.step + 0.5) / steps) / state.epochs
    rate = recipe.learning_rate * schedule(done, recipe.warmup)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, span: float, step: int, steps: int) -> None:
    """Exponential average of weights and buffers over ``span`` epochs; quicker in the first steps, as in Adam."""
    decay = min(1 - 1 / max(span * steps, 1.0), (1 + step) / (10 + step)) if span > 0 else 0.0
    for mean, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


def _remember(
    state: State, judged: dict[str, float], best: dict[str, Tensor], average: nn.Module, *, epoch: int
) -> None:
    """Keep the snapshot with the best tuning score; the lower loss where scores tie."""
    gain = judged["score"] - state.best
    if gain > 1e-4 or (gain > -1e-4 and judged["loss"] < state.best_loss):
        state.best, state.best_loss, state.best_epoch = judged["score"], judged["loss"], epoch
        for name, tensor in average.state_dict().items():
            best[name].copy_(tensor)


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _replan(job: Job, state: State, seconds: float) -> None:
    """After an epoch: stop if nothing improves; under a budget, as many epochs as still fit."""
    if state.stopped:
        return
    if state.epoch - 1 - max(state.best_epoch, 0) >= max(5, math.ceil(job.recipe.patience * state.epochs)):
        state.stopped = f"no better tuning score since epoch {state.best_epoch + 1}"
    if job.clock.limit is None or not job.most:
        return
    fitting = state.epoch + int(max(0.0, job.clock.left - job.reserve) / seconds)
    epochs = max(state.epoch, min(fitting, job.most))
    if epochs != state.epochs:
        state.decisions.append(
            {
                "what": "epochs",
                "choice": str(epochs),
                "why": f"after epoch {state.epoch} an epoch took {seconds:.1f} s",
            }
        )
        state.epochs = epochs


def _not_finite(value: Tensor, rows: Any, state: State) -> UnsoundError:
    return UnsoundError(
        f"the loss became {value.item()} in epoch {state.epoch + 1}, step {state.step + 1}",
        given="rows " + ", ".join(map(str, rows[:8])) + " of the training pack",
        todo="lower learning_rate (--set learning_rate=…) or look at these images; the last checkpoint is finite",
    )


def _save(
    job: Job, state: State, average: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> float:
    if job.folder is not None:
        state.seconds = job.clock.elapsed
        tensors = {f"{part}/{name}": tensor for part, group in (("network", job.network.state_dict()), ("average", average.state_dict()),
                                                               ("best", best)) for name, tensor in group.items()}  # fmt: skip
        for index, slots in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{index}/{slot}": value for slot, value in slots.items()})
        save_checkpoint(job.folder, tensors, asdict(state))
    return time.monotonic()


def _resume(
    job: Job, state: State, average: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> bool:
    found = load_checkpoint(job.folder) if job.folder is not None else None
    if found is None:
        return False
    tensors, saved = found
    for name, value in saved.items():
        setattr(state, name, value)
    job.clock.credit(state.seconds)
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    job.network.load_state_dict(parts["network"])
    average.load_state_dict(parts["average"])
    best.update({name: tensor.to(best[name].device) for name, tensor in parts["best"].items()})
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, slot = name.partition("/")
        slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return True
