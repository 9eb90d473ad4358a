"""What is tried with one batch on a copy of a network: learning it by heart, gradients, evaluation mode."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.phrases import count
from overread.learning.device import autocast
from overread.learning.preflight.faults import Attempt, Fault

#: Images of the batch that is to be learned by heart, and the most steps that it may take.
FEW_IMAGES, FEW_STEPS = 8, 40


#: The rate of the trial rises from the first to the second, step by step, so that one of them suits (Smith 2015).
RATES = (1e-3, 1e-2)
#: A batch counts as learned when its loss has fallen to this share; above the other one it is not learned at all.
LEARNED, STUCK = 0.5, 0.8


@dataclass(frozen=True, eq=False)
class Bench:
    """What is tried out: the network as it was given, a batch, and how it is to learn; ``until`` on the monotonic clock."""

    network: nn.Module
    x: Tensor
    y: Tensor
    loss: Callable[..., Any]
    optimizer: torch.optim.Optimizer | None = None
    outputs: int = 0
    until: float = math.inf
    precision: str = "float32"


def twin_of(network: nn.Module) -> nn.Module | None:
    with Attempt() as tried:
        twin = copy.deepcopy(network)
    return None if tried.error is not None else twin


def moved_to(
    optimizer: torch.optim.Optimizer | None, network: nn.Module, twin: nn.Module
) -> torch.optim.Optimizer | None:
    """The same kind of optimiser, with the same settings, over the parameters of the twin."""
    if optimizer is None:
        return None
    pairs = {id(old): new for old, new in zip(network.parameters(), twin.parameters(), strict=True)}
    made = None
    with Attempt():
        groups = [
            {**group, "lr": rate_of(group), "params": [pairs[id(p)] for p in group["params"] if id(p) in pairs]}
            for group in optimizer.param_groups
        ]
        made = type(optimizer)(groups, **optimizer.defaults)
    return made


def rate_of(group: dict[str, Any]) -> float:
    """The rate of a group of an optimiser; under a schedule that warms up, the one that it rises to."""
    return max(float(group.get(name, 0)) for name in ("lr", "initial_lr", "max_lr"))


@dataclass(frozen=True)
class Overfit:
    """How a few steps on one batch went: the first and the lowest loss, the steps, seconds a step, and gradients by name."""

    first: float
    best: float
    last: float
    steps: int
    seconds: float
    largest: dict[str, float]
    said: str = ""

    @property
    def learned(self) -> bool:
        """Whether the batch was learned, or known before."""
        return self.best <= LEARNED * self.first


def _overfit(bench: Bench, optimizer: torch.optim.Optimizer | None) -> Overfit:
    network = twin_of(bench.network) or bench.network
    moved = moved_to(optimizer, bench.network, network)
    moved = moved or torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], lr=RATES[0], weight_decay=0.0
    )
    x, y = bench.x, bench.y
    network.train()
    values: list[float] = []
    took: list[float] = []
    largest: dict[str, float] = {}
    with Attempt() as tried:
        while len(values) < FEW_STEPS and (len(values) < 2 or time.monotonic() < bench.until):
            start = time.monotonic()
            moved.zero_grad()
            with autocast(x.device.type, bench.precision):
                outputs = network(x)
            value = bench.loss(outputs.float(), y).mean()
            value.backward()
            values.append(value.item())
            for name, p in network.named_parameters():
                if p.requires_grad:
                    largest[name] = max(largest.get(name, -1.0), _gradient_size(p))
            if not math.isfinite(values[-1]) or (values[-1] < LEARNED * values[0] and len(values) >= 3):
                break
            if optimizer is None:
                moved.param_groups[0]["lr"] = RATES[0] * (RATES[1] / RATES[0]) ** (len(values) / FEW_STEPS)
            moved.step()
            took.append(time.monotonic() - start)
    values = values or [math.nan]
    finite = [v for v in values if math.isfinite(v)] or [math.inf]
    return Overfit(
        values[0],
        min(finite),
        values[-1],
        len(values),
        min(took, default=0.0),
        largest,
        tried.said if tried.error is not None else "",
    )


def _gradient_size(parameter: nn.Parameter) -> float:
    """The largest gradient; −1 without one, infinite where it is not a finite number."""
    if parameter.grad is None:
        return -1.0
    size = float(parameter.grad.abs().max()) if parameter.grad.numel() else 0.0
    return size if math.isfinite(size) else math.inf


def of_learning(bench: Bench, measured: dict[str, str], known: set[str]) -> Iterator[Fault]:
    """Whether a few images can be learned by heart, and which parameters no gradient reaches."""
    if "frozen" in known and not any(p.requires_grad for p in bench.network.parameters()):
        return
    own = None if known & {"learning-rate", "optimizer"} else bench.optimizer
    bench = replace(bench, until=min(bench.until, time.monotonic() + max(1.0, (bench.until - time.monotonic()) / 2)))
    tried = _overfit(bench, own)
    first = tried
    if own is not None and not tried.learned:
        tried = _overfit(replace(bench, until=bench.until + max(1.0, bench.until - time.monotonic())), None)
    if tried.said:
        yield Fault(
            "backward",
            "error",
            "a step of training raised an error",
            tried.said,
            "see that nothing is changed in place or detached",
        )
        return
    measured["one batch"] = f"{tried.first:.3g} → {tried.best:.3g} in {count(tried.steps, 'step')}"
    yield from _of_gradients(tried)
    if own is not None and (not math.isfinite(first.last) or first.last > 2 * first.first + 0.1):
        yield Fault("learning-rate", "warning", "with this optimiser the loss of one batch rises", f"{first.first:.3g} → {first.last:.3g} in {count(first.steps, 'step')}; with AdamW at {RATES[0]:g} … {RATES[1]:g} → {tried.best:.3g}",
                    "lower the learning rate by ten")  # fmt: skip
    elif own is not None and first.best > STUCK * first.first and tried.learned:
        yield Fault("learning-rate", "note", "with this optimiser one batch is learned slowly", f"{first.first:.3g} → {first.best:.3g} in {count(first.steps, 'step')}; with AdamW at {RATES[0]:g} … {RATES[1]:g} → {tried.best:.3g}",
                    "a larger learning rate may do better")  # fmt: skip
    full = tried.steps >= FEW_STEPS
    varied = len(bench.y) > 1 and not bool((bench.y == bench.y[0]).all())
    if full and varied and tried.best > STUCK * tried.first and tried.first > 1e-3:
        yield Fault("cannot-overfit", "error", f"{count(len(bench.x), 'image')} cannot be learned by heart", f"loss {tried.first:.3g} → {tried.best:.3g} in {tried.steps} steps",
                    "see that images differ, that labels belong to them, that nothing cuts the gradient, and that the last activation lets the outputs take any value")  # fmt: skip


def _of_gradients(tried: Overfit) -> Iterator[Fault]:
    sizes = tried.largest
    for kind, wanted, what, fix in (
        ("no-gradient", -1.0, "get no gradient: they take no part in the outputs, or something cuts them off", "look for detach(), no_grad(), .data, argmax or numpy in forward, and for layers that are never called"),
        ("gradient-values", math.inf, "get gradients that are not finite numbers", "lower the scale of the images, avoid sqrt and log of 0"),
        ("zero-gradient", 0.0, "get gradients of exactly 0 in every step", "look for a dead ReLU, a product with 0, or rounding"),
    ):  # fmt: skip
        names = [name for name, size in sizes.items() if size == wanted]
        if names and (wanted or tried.steps >= 3):
            worse = len(names) == len(sizes) or wanted == math.inf
            yield Fault(
                kind,
                "error" if worse else "warning",
                f"parameters that should learn {what}",
                f"{len(names)} of {len(sizes)}, first {names[0]}",
                fix,
            )


@torch.no_grad()
def of_eval(bench: Bench) -> Iterator[Fault]:
    """In evaluation mode an image has one answer, whoever stands beside it."""
    network, x = (twin_of(bench.network) or bench.network).eval(), bench.x
    if left := [name for name, module in network.named_modules() if module.training]:
        yield Fault(
            "eval-mode",
            "error",
            "network.eval() leaves layers in training mode",
            f"{len(left)}, first {left[0] or 'the network itself'}",
            "return to nn.Module.train, which sets all of them",
        )
        return
    with Attempt() as tried:
        first, again, alone = network(x), network(x), network(x[:1])
        away, apart = float((first - again).abs().max()), float((first[:1] - alone).abs().max())
        scale = 1 + float(first.abs().max())
    if tried.error is not None:
        yield Fault(
            "eval-mode",
            "error",
            "the network does not take the batch in evaluation mode",
            tried.said,
            "try network.eval()(images)",
        )
    elif away > 1e-4 * scale:
        yield Fault(
            "eval-mode",
            "error",
            "in evaluation mode the same image gets different answers",
            f"apart by {away:.3g}",
            "functional.dropout(x, training=self.training), or nn.Dropout",
        )
    elif apart > 1e-2 * scale:
        yield Fault("eval-mode", "error", "in evaluation mode the answer for an image depends on the other images of its batch", f"apart by {apart:.3g} alone and among {len(x)}",
                    "batch normalisation with track_running_stats=True; nothing may be averaged over the images")  # fmt: skip


def of_judge(bench: Bench, judge: Callable[[nn.Module], Any]) -> Iterator[Fault]:
    twin = twin_of(bench.network)
    if twin is None:
        return
    modes: list[bool] = []
    hook = twin.train().register_forward_pre_hook(lambda module, taken: modes.append(module.training))
    with Attempt() as tried:
        judge(twin)
    hook.remove()
    if tried.error is not None:
        yield Fault(
            "validation",
            "error",
            "the function that judges raised an error",
            tried.said,
            "it is called as validation(network)",
        )
    elif any(modes):
        yield Fault(
            "eval-mode",
            "error",
            "the network is judged in training mode",
            f"{sum(modes)} of {count(len(modes), 'batch', 'batches')}",
            "call network.eval() first, under torch.no_grad()",
        )
