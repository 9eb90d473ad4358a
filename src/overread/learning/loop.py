"""The training loop, on one page, without callbacks. Resumes byte for byte: nothing random has a state."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import UnsoundError, checked
from overread.core.progress import Clock, Progress, silent
from overread.learning.checkpoint import load_checkpoint, save_checkpoint
from overread.learning.device import autocast, compile_in_place, free_memory, no_memory, out_of_memory, seeded
from overread.learning.loader import BatchSource, Mixture
from overread.learning.recipe import MOST_EPOCHS, Recipe
from overread.networks.stages import stage_of, stages
from overread.tasks.task import Loss

#: ``(network) -> {"score": higher is better, "loss": …}`` on the tuning images.
Judge = Callable[[nn.Module], dict[str, float]]
#: Seconds between two checkpoints inside an epoch.
CHECKPOINT_SECONDS = 30.0
#: How much the last step counts in the pace that is expected of those to come.
_LATEST = 0.1
#: A step takes another time where it is so many times longer or shorter, after so many steps that are looked at.
_FACTOR, _SETTLING = 1.5, 10
#: ``(network, loss, recipe, state, x, answers)`` to the loss of a batch; its gradients are left in the network.
Gradients = Callable[[nn.Module, Loss, Recipe, "LoopState", Tensor, "list[Answer]"], float]
#: Labels of a batch, and how much each row of it counts by them (None: 1).
Answer = tuple[Tensor, Tensor | None]


@dataclass
class LoopState:
    """Where the loop stands; with the tensors, all that a checkpoint needs."""

    epochs: int
    epoch: int = 0
    step: int = 0
    parts: int = 1  # that a batch is taken in, where the memory does not suffice for the whole
    total: float = 0.0  # of the training loss in this epoch
    end: float = math.inf  # of the schedule, in epochs: before the last where the time will not suffice for that
    reductions: int = 0  # of the rate on a plateau
    plateau: int = 0  # epochs since the best tuning score or the last reduction
    plateau_score: float = -math.inf
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


@checked
def optimise(
    network: nn.Module,
    batches: BatchSource,
    loss: Loss,
    judge: Judge,
    recipe: Recipe,
    *,
    clock: Clock,
    reserve: float = 0.0,
    folder: Path | None = None,
    fitted: bool = False,
    shares: Tensor | None = None,
    gradients: Gradients | None = None,
    most_epochs: int = 0,
    retune: Callable[[], None] = lambda: None,
    progress: Progress = silent,
) -> tuple[nn.Module, LoopState]:
    """Train, and return the network with the best snapshot on tuning data, and where the loop ended.

    ``clock`` bounds the seconds, of which ``reserve`` are kept for what follows. ``folder``: for checkpoints, from
    which it resumes. ``fitted``: the network can predict already, so that it is the first snapshot. ``shares`` (N,): how
    much each row of the pack counts in the loss. ``gradients`` in place of :func:`backward`. ``most_epochs``: as many as
    were asked for, however much time is left; 0 where nobody asked. ``retune`` is called where a
    step takes much longer or shorter than it did, under a clock that ends. Raises :class:`UnsoundError` if the loss is
    not finite, naming the rows of the batch, and if the time ends within the first
    epoch of a network that cannot; :class:`UnavailableError` if the memory does not suffice for two images.
    """
    average = copy.deepcopy(network).eval()
    best = {name: tensor.detach().clone() for name, tensor in average.state_dict().items()}
    if recipe.compile:
        compile_in_place(network)
    learner = Learner(network, average, make_optimizer(network, recipe), best)
    state, steps = LoopState(epochs=recipe.epochs), len(batches)
    if not _resume(folder, learner, state, clock):
        if fitted:
            _remember(learner, state, judge(average), epoch=-1)
        _save(folder, learner, state, clock)
    saved, pace = time.monotonic(), Pace(clock, steps)
    with scalars(folder, state.epoch) as write:
        while state.epoch < state.epochs and not state.stopped:
            network.train()
            hold_still(network, recipe, state.epoch)
            pace.begin()
            for rows, x, y in batches.epoch(state.epoch, state.step):
                parts = state.parts
                answers = answers_of(y, rows, batches.mixture(rows, state.epoch), shares)
                value = _step(learner, loss, recipe, state, steps, x, answers, gradients or backward)
                if not math.isfinite(value):
                    raise _not_finite(value, rows, state)
                state.step, state.total = state.step + 1, state.total + value
                progress("training", state.epoch * steps + state.step, state.epochs * steps)
                pace.step()
                if clock.limit is not None and pace.changed():
                    retune()
                    pace.rest()
                state.end = pace.end(state, clock.left - reserve)
                if clock.left < reserve or state.epoch * steps + state.step >= state.end * steps:
                    _refuse_fragment(state, steps, fitted)
                    state.stopped = "the budget was used up"
                    break
                if state.parts > parts or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    saved = _save(folder, learner, state, clock)
            judged = judge(average)
            pace.judged()
            _remember(learner, state, judged, epoch=state.epoch, always=recipe.snapshot == "last")
            state.history.append(_row(recipe, state, steps, judged, clock))
            write(state.history[-1])
            state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0
            _notice_plateau(recipe, state, judged["score"])
            _stop_early(recipe, state)
            _fit_budget(recipe, state, clock.left - reserve, pace.epoch, most_epochs)
            state.end = pace.end(state, clock.left - reserve)
            if state.end * steps < state.epoch * steps + 1 and state.epoch < state.epochs:
                state.epochs = state.epoch  # there is time for judging, but for no step
            saved = _save(folder, learner, state, clock)
    progress("training", 1, 1)
    average.load_state_dict(learner.best)
    return average, state


@checked
def answers_of(y: Tensor, rows: Any, mixture: Mixture | None, shares: Tensor | None) -> list[Answer]:
    """The labels of a batch, and those of the images that are mixed into it; rows count by their shares."""
    counted = None if shares is None else shares[torch.from_numpy(rows)].to(y.device)
    if mixture is None:
        return [(y, counted)]
    own = torch.as_tensor(mixture.own, dtype=torch.float32, device=y.device)
    partner = torch.from_numpy(mixture.partner).to(y.device)
    return [(y, own if counted is None else own * counted),
            (y[partner], 1 - own if counted is None else (1 - own) * counted[partner])]  # fmt: skip


def _step(
    learner: Learner, loss: Loss, recipe: Recipe, state: LoopState, steps: int, x: Tensor, answers: list[Answer],
    gradients: Gradients,
) -> float:  # fmt: skip
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
            value = gradients(network, loss, recipe, state, x, answers)
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


@checked
def backward(
    network: nn.Module, loss: Loss, recipe: Recipe, state: LoopState, x: Tensor, answers: list[Answer], known: int = 0,
    part: int = 0,
) -> float:  # fmt: skip
    """The loss of a batch; its gradients are added up over the parts that it is taken in.

    A loss is the mean over the known labels, so each part counts by its share of them: of those of the batch, or of as
    many as are ``known`` of a larger one that this is a ``part`` of, with a dropout of its own.
    """
    value, known = 0.0, known or known_labels(answers[0][0])
    parts = max(1, min(state.parts, len(x) // 2))
    with seeded(recipe.seed, state.epoch, state.step, f"dropout of part {part}" if part else "dropout"):
        for place in torch.arange(len(x), device=x.device).tensor_split(parts):
            rows = slice(int(place[0]), int(place[-1]) + 1)
            with autocast(x.device.type, recipe.precision):
                outputs = network(x[rows]).float()
            means = []
            for labels, shares in answers:
                one = loss(outputs, labels[rows]) if shares is None else loss(outputs, labels[rows], shares[rows])
                means.append(one * (known_labels(labels[rows]) / max(known, 1)))
            mean = functools.reduce(torch.add, means)
            value += mean.item()
            if not math.isfinite(value):
                break
            mean.backward()
    return value


def known_labels(labels: Tensor) -> int:
    """How many labels of a batch are known."""
    return int((~torch.isnan(labels)).sum())


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

    top = next((each for each in (folder, *folder.parents) if each.name == "checkpoints"), folder)
    own = top.parent / "tensorboard" / folder.relative_to(top)  # of each network of a ladder its own
    with SummaryWriter(str(own), purge_step=done + 1) as writer:

        def write(row: dict[str, Any]) -> None:
            for name in ("train loss", "tuning loss", "tuning score", "learning rate"):
                writer.add_scalar(name.replace(" ", "/"), row[name], row["epoch"])
            writer.flush()

        yield write


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; no decay on biases and norms; a pretrained body learns more slowly, by its stages.

    AdamW (Loshchilov & Hutter 2019), whose decay is apart from the gradient; in the others it is a part of it. A stage
    learns at ``layer_decay`` times the rate of the one nearer to the head (Howard & Ruder 2018, section 3.2).
    """
    found = stages(network)
    slow = recipe.body_rate if recipe.method == "finetune" else 1.0
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        depth = len(found) - stage_of(name, found)  # 0: the head
        groups.setdefault((slow * recipe.layer_decay**depth if depth else 1.0, decay), []).append(parameter)
    shares = [{"params": p, "weight_decay": d, "share": s} for (s, d), p in groups.items()]
    return _OPTIMIZERS[recipe.optimizer](shares, recipe)


_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Recipe], torch.optim.Optimizer]] = {
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, lr=recipe.learning_rate),
    "adam": lambda groups, recipe: torch.optim.Adam(groups, lr=recipe.learning_rate),
    "rmsprop": lambda groups, recipe: torch.optim.RMSprop(groups, lr=recipe.learning_rate),
    "momentum": lambda groups, recipe: torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum),
    "sgd": lambda groups, recipe: torch.optim.SGD(groups, lr=recipe.learning_rate),
}


@checked
def hold_still(network: nn.Module, recipe: Recipe, epoch: int) -> None:
    """Let the stages learn that move in this epoch, and no others; theirs are neither weights nor statistics of norms.

    A network in training mode; a function of the epoch, so that a resumed run holds still what an unbroken one did.
    """
    found = stages(network)
    begun = sum(epoch >= when for when in recipe.unfreeze)  # stages that move, the last first
    waiting = len(found) - begun if begun < len(recipe.unfreeze) else 0
    still = max(recipe.frozen, waiting)
    for name, module in network.named_modules():
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        held = bool(name) and stage_of(name, found) < still and any(stage.holds(name) for stage in found)
        if norm and (recipe.frozen_norms or held):
            module.eval()
        for inner, parameter in module.named_parameters(recurse=False):
            path = f"{name}.{inner}" if name else inner
            parameter.requires_grad_(stage_of(path, found) >= still and not (norm and recipe.frozen_norms))


def schedule(done: float, warmup: float, recipe: Recipe | None = None, reductions: int = 0) -> float:
    """Share of the learning rate after a fraction ``done`` of all steps: linear warm-up, then half a cosine to 0.

    Or another schedule of ``recipe``: ``one-cycle`` rises along half a cosine from a 25th, and falls along another to a
    250,000th (Smith & Topin 2018, with the ends of fastai's); ``plateau`` is lower by ``reductions`` factors.

    >>> round(schedule(0.55, 0.1), 2)
    0.5
    """
    name = recipe.schedule if recipe else "cosine"
    after = min(1.0, (done - warmup) / (1 - warmup))
    if name == "one-cycle":
        low, part = (1 / 25, 1 - done / warmup) if done < warmup else (1 / 250_000, after)
        return low + (1 - low) * _half_cosine(part)
    if done < warmup:
        return done / warmup
    if recipe is None or name == "cosine":
        return _half_cosine(after)
    passed = {"steps": sum(done >= milestone for milestone in recipe.milestones), "plateau": reductions, "constant": 0}
    return recipe.factor ** passed[name]


def _half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def _rate(recipe: Recipe, state: LoopState, steps: int) -> float:
    done = (state.epoch + (state.step + 0.5) / steps) / min(state.epochs, state.end)
    return recipe.learning_rate * schedule(min(done, 1.0), recipe.warmup, recipe, state.reductions)


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
    learner: Learner, state: LoopState, judged: dict[str, float], *, epoch: int, always: bool = False
) -> None:
    """Keep the snapshot with the best tuning score; the lower loss where scores tie. ``always``: whatever it scores."""
    gain = judged["score"] - state.best
    if always or gain > 1e-4 or (gain > -1e-4 and judged["loss"] < state.best_loss):
        state.best, state.best_loss, state.best_epoch = judged["score"], judged["loss"], epoch
        for name, tensor in learner.average.state_dict().items():
            learner.best[name].copy_(tensor)


def _notice_plateau(recipe: Recipe, state: LoopState, score: float) -> None:
    """Lower the rate after ``plateau`` epochs without a better tuning score; patience then begins anew."""
    better = score > state.plateau_score + 1e-4
    state.plateau_score = max(score, state.plateau_score) if better else state.plateau_score
    state.plateau = 0 if better else state.plateau + 1
    if recipe.schedule == "plateau" and state.plateau >= recipe.plateau:
        state.reductions, state.plateau = state.reductions + 1, 0


def _stop_early(recipe: Recipe, state: LoopState) -> None:
    """Stop where no epoch of the last ``patience`` has a better tuning score."""
    since = state.epoch - 1 - max(state.best_epoch, 0)
    if recipe.snapshot == "best" and not state.stopped and since >= max(5, math.ceil(recipe.patience * state.epochs)):
        state.stopped = f"no better tuning score since epoch {state.best_epoch + 1}"


def _fit_budget(recipe: Recipe, state: LoopState, left: float, seconds: float, most: int = 0) -> None:
    """Under a budget, as many epochs as still fit into the seconds ``left``, the last in part, and no more than were asked for, or
    were planned where a network is frozen; written down where that changes.
    """
    if state.stopped or math.isinf(left):
        return
    epochs = max(
        state.epoch,
        min(state.epoch + math.ceil(max(0.0, left) / seconds), most or max(recipe.epochs, MOST_EPOCHS[recipe.method])),
    )
    if epochs != state.epochs:
        others = [decision for decision in state.decisions if decision["what"] != "epochs"]
        reason = f"what the budget allows: an epoch took {seconds:.1f} s when last looked at, after epoch {state.epoch}"
        state.decisions = [*others, {"what": "epochs", "choice": str(epochs), "why": reason}]
        state.epochs = epochs


class Pace:
    """How quick the machine is, as its clock shows: seconds of a step, the latest counting most, and of judging."""

    def __init__(self, clock: Clock, steps: int) -> None:
        self.clock, self.steps, self.seen = clock, steps, 0
        self.noted, self.settled = 0.0, _SETTLING  # seconds of a step to compare with, and the step from which on
        self.begin()
        self.seconds = self.judging = self.epoch = 0.0  # of a step, of judging, of a whole epoch at the last one's pace

    def begin(self) -> None:
        """An epoch begins."""
        self.began = self.last = self.clock.elapsed
        self.done = 0

    def step(self) -> None:
        """A step was made."""
        now, latest = self.clock.elapsed, max(_LATEST, 1 / max(self.seen, 1))  # the very first is slow: not counted
        self.seconds += latest * (now - self.last - self.seconds)
        self.last, self.done, self.seen = now, self.done + 1, self.seen + 1

    def rest(self) -> None:
        """What happened since the last step belongs to no step and no epoch."""
        now = self.clock.elapsed
        self.began, self.last = self.began + now - self.last, now

    def changed(self) -> bool:
        """Whether a step takes half as long again, or two thirds of, what it took when this was last true."""
        if self.seen < self.settled:
            return False
        self.noted = self.noted or self.seconds
        if self.noted / _FACTOR < self.seconds < self.noted * _FACTOR:
            return False
        self.noted, self.settled = 0.0, self.seen + _SETTLING
        return True

    def judged(self) -> None:
        """The network was judged; what is written after it counts with the next step."""
        now = self.clock.elapsed
        self.judging = now - self.last
        self.epoch = (self.last - self.began) * self.steps / max(self.done, 1) + self.judging

    def end(self, state: LoopState, left: float) -> float:
        """Where the schedule has to end, in epochs, so that it is whole when the seconds ``left`` are over; or inf."""
        ahead = state.epochs * self.steps - state.epoch * self.steps - state.step
        judgements = state.epochs - state.epoch
        if math.isinf(left) or self.seen < 2 or ahead * self.seconds + judgements * self.judging <= left:
            return math.inf
        epoch = self.seconds * self.steps + self.judging
        whole = max(0.0, left - self.judging) / max(epoch, 1e-9)  # the last part of an epoch is judged too
        return min(state.epochs, state.epoch + state.step / self.steps + whole)


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
    return {
        f"{group}/{name}": tensor
        for group, held in groups.items()
        for name, tensor in held.items()
        if tensor is not None
    }


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
