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
from overread.learning.device import autocast, free_memory, no_memory, out_of_memory, seeded
from overread.learning.loader import Batches
from overread.learning.recipe import MOST_EPOCHS, Recipe
from overread.tasks.task import Loss

#: ``(network) -> {"score": higher is better, "loss": …}`` on the tuning images.
Judge = Callable[[nn.Module], dict[str, float]]
#: Seconds between two checkpoints inside an epoch.
CHECKPOINT_SECONDS = 30.0


@dataclass
class LoopState:
    """Where the loop stands; with the tensors, all that a checkpoint needs."""

    epochs: int
    epoch: int = 0
    step: int = 0
    parts: int = 1  # that a batch is taken in, where the memory does not suffice for the whole
    total: float = 0.0  # of the training loss in this epoch
    best: float = -math.inf
    best_loss: float = math.inf
    best_epoch: int = -1
    seconds: float = 0.0
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Learner:
    """The tensors that move: the network, the average of its weights, the optimiser's slots, the best snapshot."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]


def optimise(
    network: nn.Module,
    batches: Batches,
    loss: Loss,
    judge: Judge,
    recipe: Recipe,
    *,
    clock: Clock,
    reserve: float = 0.0,
    folder: Path | None = None,
    fitted: bool = False,
    progress: Progress = silent,
) -> tuple[nn.Module, LoopState]:
    """Train, and return the network with the best snapshot on tuning data, and where the loop ended.

    ``clock`` bounds the seconds, of which ``reserve`` are kept for what follows. ``folder``: for checkpoints, from
    which it resumes. ``fitted``: the network can predict already, so that it is the first snapshot. Raises
    :class:`UnsoundError` if the loss is not finite, naming the rows of the batch, and if the time ends within the first
    epoch of a network that cannot; :class:`UnavailableError` if the memory does not suffice for two images.
    """
    average = copy.deepcopy(network).eval()
    best = {name: tensor.detach().clone() for name, tensor in average.state_dict().items()}
    learner = Learner(network, average, make_optimizer(network, recipe), best)
    state, steps = LoopState(epochs=recipe.epochs), len(batches)
    if not _resume(folder, learner, state, clock):
        if fitted:
            _remember(learner, state, judge(average), epoch=-1)
        _save(folder, learner, state, clock)
    began = saved = time.monotonic()
    first = state.epoch
    with scalars(folder, state.epoch) as write:
        while state.epoch < state.epochs and not state.stopped:
            network.train()
            for rows, x, y in batches.epoch(state.epoch, state.step):
                parts = state.parts
                value = _step(learner, loss, recipe, state, steps, x, y)
                if not math.isfinite(value):
                    raise _not_finite(value, rows, state)
                state.step, state.total = state.step + 1, state.total + value
                progress("training", state.epoch * steps + state.step, state.epochs * steps)
                if clock.left < reserve:
                    _refuse_fragment(state, steps, fitted)
                    state.stopped = "the budget was used up"
                    break
                if state.parts > parts or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    saved = _save(folder, learner, state, clock)
            judged = judge(average)
            _remember(learner, state, judged, epoch=state.epoch)
            state.history.append(_row(recipe, state, steps, judged, clock))
            write(state.history[-1])
            state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0
            _stop_early(recipe, state)
            _fit_budget(recipe, state, clock.left - reserve, (time.monotonic() - began) / (state.epoch - first))
            saved = _save(folder, learner, state, clock)
    progress("training", 1, 1)
    average.load_state_dict(learner.best)
    return average, state


def _step(learner: Learner, loss: Loss, recipe: Recipe, state: LoopState, steps: int, x: Tensor, y: Tensor) -> float:
    """One step of the optimiser; nothing moves if the loss is not finite.

    Where the memory does not suffice for the batch, it is taken in twice as many parts and the step is made again, as
    if nothing had happened: the buffers that a forward pass moves are put back.
    """
    network, optimizer = learner.network, learner.optimizer
    for group in optimizer.param_groups:
        group["lr"] = _rate(recipe, state, steps) * group["share"]
    before = [buffer.clone() for buffer in network.buffers()]
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            value = _backward(network, loss, recipe, state, x, y)
            break
        except (RuntimeError, MemoryError) as error:
            _take_in_more_parts(error, network, state, len(x))
        free_memory()  # after the error, which holds on to what it was calculating
        for buffer, kept in zip(network.buffers(), before, strict=True):
            buffer.copy_(kept)
    if math.isfinite(value):
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        optimizer.step()
        update_average(learner.average, network, recipe.average, state.epoch * steps + state.step, steps)
    return value


def _backward(network: nn.Module, loss: Loss, recipe: Recipe, state: LoopState, x: Tensor, y: Tensor) -> float:
    """The loss of a batch; its gradients are added up over the parts that it is taken in.

    A loss is the mean over the known labels, so each part counts by its share of them.
    """
    value, known = 0.0, int((~torch.isnan(y)).sum())
    parts = max(1, min(state.parts, len(x) // 2))
    with seeded(recipe.seed, state.epoch, state.step, "dropout"):
        for images, labels in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            with autocast(x.device.type, recipe.precision):
                outputs = network(images)
            mean = loss(outputs.float(), labels) * (int((~torch.isnan(labels)).sum()) / max(known, 1))
            value += mean.item()
            if not math.isfinite(value):
                break
            mean.backward()
    return value


def _take_in_more_parts(error: BaseException, network: nn.Module, state: LoopState, images: int) -> None:
    """Twice as many parts of a batch after an error for want of memory; any other error goes on its way."""
    if not out_of_memory(error):
        raise error
    if images // (2 * state.parts) < 2:
        raise no_memory(error, -(-images // state.parts)) from None
    state.parts *= 2
    reason = f"the memory did not suffice in epoch {state.epoch + 1}, step {state.step + 1}; the gradients of the parts are added up, so the batch stays {images}"  # fmt: skip
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()):
        reason += "; but batch normalisation sees one part at a time, so the result is not that of a machine with more memory"  # fmt: skip
    decision = {"what": "images at a time", "choice": f"{-(-images // state.parts)} of {images}", "why": reason}
    state.decisions[:] = [*(held for held in state.decisions if held["what"] != decision["what"]), decision]


def _refuse_fragment(state: LoopState, steps: int, fitted: bool) -> None:
    """Raise :class:`UnsoundError` where the time ends within the first epoch and nothing was there before it."""
    if state.epoch == 0 and state.step < steps and not fitted:
        raise UnsoundError("the budget ended within the first epoch, so there is no model to be judged",
                           given=f"{state.step} of {steps} steps", todo="raise --budget, or choose a smaller --image-size or --backbone")  # fmt: skip


def _row(recipe: Recipe, state: LoopState, steps: int, judged: dict[str, float], clock: Clock) -> dict[str, Any]:
    return {
        "epoch": state.epoch + 1,
        "train loss": state.total / max(state.step, 1),
        "tuning loss": judged["loss"],
        "tuning score": judged["score"],
        "learning rate": _rate(recipe, state, steps),
        "seconds": round(clock.elapsed, 1),
    }


@contextmanager
def scalars(folder: Path | None, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
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
    shares = [{"params": p, "weight_decay": d, "share": s} for (s, d), p in groups.items()]
    return torch.optim.AdamW(shares, lr=recipe.learning_rate)


def schedule(done: float, warmup: float) -> float:
    """Share of the learning rate after a fraction ``done`` of all steps: linear warm-up, then half a cosine to 0.

    >>> round(schedule(0.55, 0.1), 2)
    0.5
    """
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def _rate(recipe: Recipe, state: LoopState, steps: int) -> float:
    return recipe.learning_rate * schedule((state.epoch + (state.step + 0.5) / steps) / state.epochs, recipe.warmup)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, span: float, step: int, steps: int) -> None:
    """Exponential average of weights and buffers over ``span`` epochs; quicker in the first steps, as in Adam."""
    decay = min(1 - 1 / max(span * steps, 1.0), (1 + step) / (10 + step)) if span > 0 else 0.0
    for mean, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


def _remember(learner: Learner, state: LoopState, judged: dict[str, float], *, epoch: int) -> None:
    """Keep the snapshot with the best tuning score; the lower loss where scores tie."""
    gain = judged["score"] - state.best
    if gain > 1e-4 or (gain > -1e-4 and judged["loss"] < state.best_loss):
        state.best, state.best_loss, state.best_epoch = judged["score"], judged["loss"], epoch
        for name, tensor in learner.average.state_dict().items():
            learner.best[name].copy_(tensor)


def _stop_early(recipe: Recipe, state: LoopState) -> None:
    """Stop where no epoch of the last ``patience`` has a better tuning score."""
    since = state.epoch - 1 - max(state.best_epoch, 0)
    if not state.stopped and since >= max(5, math.ceil(recipe.patience * state.epochs)):
        state.stopped = f"no better tuning score since epoch {state.best_epoch + 1}"


def _fit_budget(recipe: Recipe, state: LoopState, left: float, seconds: float) -> None:
    """Under a budget, as many epochs as still fit into the seconds ``left``; written down where that changes."""
    if state.stopped or math.isinf(left):
        return
    epochs = max(state.epoch, min(state.epoch + int(max(0.0, left) / seconds), MOST_EPOCHS[recipe.method]))
    if epochs != state.epochs:
        others = [decision for decision in state.decisions if decision["what"] != "epochs"]
        reason = f"what the budget allows: an epoch took {seconds:.1f} s when last looked at, after epoch {state.epoch}"
        state.decisions = [*others, {"what": "epochs", "choice": str(epochs), "why": reason}]
        state.epochs = epochs


def _not_finite(value: float, rows: Any, state: LoopState) -> UnsoundError:
    return UnsoundError(
        f"the loss became {value} in epoch {state.epoch + 1}, step {state.step + 1}",
        given="rows " + ", ".join(map(str, rows[:8])) + " of the training pack",
        todo="lower learning_rate (--set learning_rate=…) or look at these images; the last checkpoint is finite",
    )


def _save(folder: Path | None, learner: Learner, state: LoopState, clock: Clock) -> float:
    """Write a checkpoint, if there is a folder for it; gives the time."""
    if folder is not None:
        state.seconds = clock.elapsed
        groups = {
            "network": learner.network.state_dict(),
            "average": learner.average.state_dict(),
            "best": learner.best,
            "optimizer": _flat(learner.optimizer.state_dict()["state"]),
        }
        save_checkpoint(folder, _flat(groups), asdict(state))
    return time.monotonic()


def _flat(groups: dict[Any, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{group}/{name}": tensor for group, held in groups.items() for name, tensor in held.items()}


def _grouped(flat: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    return groups


def _resume(folder: Path | None, learner: Learner, state: LoopState, clock: Clock) -> bool:
    """Take over the newest checkpoint; False where there is none."""
    found = load_checkpoint(folder) if folder is not None else None
    if found is None:
        return False
    tensors, saved = found
    vars(state).update(saved)
    clock.credit(state.seconds)
    groups = _grouped(tensors)
    learner.network.load_state_dict(groups["network"])
    learner.average.load_state_dict(groups["average"])
    for name, tensor in groups["best"].items():
        learner.best[name].copy_(tensor)
    slots = {int(index): held for index, held in _grouped(groups.get("optimizer", {})).items()}
    learner.optimizer.load_state_dict({"state": slots, "param_groups": learner.optimizer.state_dict()["param_groups"]})
    return True
