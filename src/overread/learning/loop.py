"""The training loop, on one page, without callbacks. Resumes byte for byte: nothing random has a state."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import UnsoundError
from overread.core.progress import Clock, Progress, silent
from overread.learning.checkpoint import load_checkpoint, save_checkpoint
from overread.learning.device import autocast, seeded
from overread.learning.loader import Batches
from overread.learning.losses import Loss
from overread.learning.recipe import Recipe

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


@dataclass(frozen=True, eq=False)
class Held:
    """The tensors that move with a job: average weights, the optimiser's slots, the best snapshot."""

    average: nn.Module
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]


def fit(job: Job) -> tuple[nn.Module, State]:
    """Train, and return the network with the best snapshot on tuning data, and the history.

    Raises :class:`UnsoundError` if the loss is not finite, naming the rows of the batch.
    """
    average = copy.deepcopy(job.network).eval()
    held = Held(average, make_optimizer(job.network, job.recipe), _copied(average))
    state = State(epochs=job.recipe.epochs)
    if not _resume(job, state, held):
        if job.fitted:
            _remember(state, job.judge(average), held, epoch=-1)
        _save(job, state, held)
    began, first = time.monotonic(), state.epoch
    with board(job.folder, state.epoch) as write:
        while state.epoch < state.epochs and not state.stopped:
            _epoch(job, state, held)
            judged = job.judge(average)
            _remember(state, judged, held, epoch=state.epoch)
            state.history.append(_row(job, state, judged))
            write(state.history[-1])
            state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0
            _replan(job, state, (time.monotonic() - began) / (state.epoch - first))
            _save(job, state, held)
    job.progress("training", 1, 1)
    average.load_state_dict(held.best)
    return average, state


def _epoch(job: Job, state: State, held: Held) -> None:
    """The steps that are left of this epoch."""
    saved, steps = time.monotonic(), len(job.batches)
    job.network.train()
    for rows, x, y in job.batches.epoch(state.epoch, state.step):
        value = _step(job, state, held, x, y)
        if not math.isfinite(value):
            raise _not_finite(value, rows, state)
        state.step, state.total = state.step + 1, state.total + value
        job.progress("training", state.epoch * steps + state.step, state.epochs * steps)
        if job.clock.left < job.reserve:
            state.stopped = "the budget was used up"
            return
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = _save(job, state, held)


def _step(job: Job, state: State, held: Held, x: Tensor, y: Tensor) -> float:
    """One step of the optimiser; nothing moves if the loss is not finite."""
    recipe, steps = job.recipe, len(job.batches)
    _set_rate(held.optimizer, _rate(recipe, state, steps))
    with seeded(recipe.seed, state.epoch, state.step, "dropout"), autocast(job.batches.device, job.precision):
        outputs = job.network(x)
    loss = job.loss(outputs.float(), y)
    value = loss.item()
    if math.isfinite(value):
        held.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(job.network.parameters(), recipe.gradient_clip)
        held.optimizer.step()
        update_average(held.average, job.network, recipe.average, state.epoch * steps + state.step, steps)
    return value


def _row(job: Job, state: State, judged: dict[str, float]) -> dict[str, Any]:
    return {
        "epoch": state.epoch + 1,
        "train loss": state.total / max(state.step, 1),
        "tuning loss": judged["loss"],
        "tuning score": judged["score"],
        "learning rate": _rate(job.recipe, state, len(job.batches)),
        "seconds": round(job.clock.elapsed, 1),
    }


@contextmanager
def board(folder: Path | None, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write rows of the history as TensorBoard scalars beside the checkpoints, from epoch ``done`` on."""
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder.parent / "tensorboard"), purge_step=done + 1) as writer:

        def write(row: dict[str, Any]) -> None:
            for name in ("train loss", "tuning loss", "tuning score", "learning rate"):
                writer.add_scalar(name.replace(" ", "/"), row[name], row["epoch"])
            writer.flush()

        yield write


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); no decay on biases and norms; a pretrained body learns more slowly."""
    head = {id(p) for p in network.get_submodule("head").parameters()}
    slow = recipe.body_rate if recipe.method == "finetune" else 1.0
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in network.parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((1.0 if id(parameter) in head else slow, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "weight_decay": d, "share": s} for (s, d), p in groups.items()], lr=recipe.learning_rate
    )


def schedule(done: float, warmup: float) -> float:
    """Share of the learning rate after a fraction ``done`` of all steps: linear warm-up, then half a cosine to 0.

    >>> round(schedule(0.55, 0.1), 2)
    0.5
    """
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def _rate(recipe: Recipe, state: State, steps: int) -> float:
    return recipe.learning_rate * schedule((state.epoch + (state.step + 0.5) / steps) / state.epochs, recipe.warmup)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, span: float, step: int, steps: int) -> None:
    """Exponential average of weights and buffers over ``span`` epochs; quicker in the first steps, as in Adam."""
    decay = min(1 - 1 / max(span * steps, 1.0), (1 + step) / (10 + step)) if span > 0 else 0.0
    for mean, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


def _remember(state: State, judged: dict[str, float], held: Held, *, epoch: int) -> None:
    """Keep the snapshot with the best tuning score; the lower loss where scores tie."""
    gain = judged["score"] - state.best
    if gain > 1e-4 or (gain > -1e-4 and judged["loss"] < state.best_loss):
        state.best, state.best_loss, state.best_epoch = judged["score"], judged["loss"], epoch
        for name, tensor in held.average.state_dict().items():
            held.best[name].copy_(tensor)


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
            {"what": "epochs", "choice": str(epochs), "why": f"after epoch {state.epoch} an epoch took {seconds:.1f} s"}
        )
        state.epochs = epochs


def _not_finite(value: float, rows: Any, state: State) -> UnsoundError:
    return UnsoundError(
        f"the loss became {value} in epoch {state.epoch + 1}, step {state.step + 1}",
        given="rows " + ", ".join(map(str, rows[:8])) + " of the training pack",
        todo="lower learning_rate (--set learning_rate=…) or look at these images; the last checkpoint is finite",
    )


def _save(job: Job, state: State, held: Held) -> float:
    """Write a checkpoint, if there is a folder for it; gives the time."""
    if job.folder is not None:
        state.seconds = job.clock.elapsed
        parts = {"network": job.network.state_dict(), "average": held.average.state_dict(), "best": held.best}
        tensors = {f"{part}/{name}": t for part, group in parts.items() for name, t in group.items()}
        for index, slots in held.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{index}/{slot}": value for slot, value in slots.items()})
        save_checkpoint(job.folder, tensors, asdict(state))
    return time.monotonic()


def _resume(job: Job, state: State, held: Held) -> bool:
    """Take over the newest checkpoint; False where there is none."""
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
    held.average.load_state_dict(parts["average"])
    for name, tensor in parts["best"].items():
        held.best[name].copy_(tensor)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, slot = name.partition("/")
        slots.setdefault(int(index), {})[slot] = tensor
    groups = held.optimizer.state_dict()["param_groups"]
    held.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return True
