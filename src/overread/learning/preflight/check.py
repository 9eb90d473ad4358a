"""Before an hour is wasted: can this network, with this batch, loss and optimiser, learn at all?

Everything is tried on a copy, with a generator of its own: what is looked at never notices it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import checked
from overread.core.phrases import count
from overread.learning.device import seeded
from overread.learning.preflight.faults import Fault, Preflight, shape_of, worst_first
from overread.learning.preflight.labelled_images import KeptGenerator, drawn_from, of_pairs, of_patients, of_validation
from overread.learning.preflight.losses import of_first_loss, of_labels, of_last_activation, usual_loss
from overread.learning.preflight.shapes import of_trace, trace_of
from overread.learning.preflight.trial import FEW_IMAGES, Bench, moved_to, of_eval, of_learning, rate_of, twin_of
from overread.networks.numeric_inputs import extra_of

#: Optimisers whose steps do not grow with the gradient, so that a rate of 1 moves every weight by about 1.
_OF_UNIT_STEPS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
                  torch.optim.RMSprop, torch.optim.Adagrad)  # fmt: skip


@checked
def check(
    network: nn.Module,
    batch: Any,
    *,
    loss: Callable[..., Any] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    validation: Any = None,
    patients: tuple[Sequence[object], Sequence[object]] | None = None,
    outputs: int = 0,
    seconds: float = 10.0,
    seed: int = 0,
) -> Preflight:
    """Look for the bugs that cost an hour, in anybody's torch code; nothing of it is changed.

    ``batch``: images (B, C, H, W) with labels, or a loader or data set of such pairs (then also: does each image keep
    its label when it is shuffled?). ``loss``: ``(outputs, labels) -> scalar``; cross-entropy of class numbers, binary
    cross-entropy of a matrix of 0 and 1, or else the squared error, if not given. ``optimizer``: over the parameters of
    ``network``. ``validation``: images with labels, a loader or data set, or a function that judges a network.
    ``patients``: of training and of validation. ``outputs``: how many the network must have; 0: told from the labels.
    ``seconds``: about as long as it may take. Never raises for what the network does.

    >>> network = nn.Sequential(nn.Flatten(), nn.Conv2d(1, 4, 3))
    >>> print(check(network, (torch.zeros(8, 1, 28, 28), torch.zeros(8, dtype=torch.long))).of("flattened").found)
    layer 1 (Conv2d) gets (8, 784)
    """
    measured: dict[str, str] = {}
    with seeded(seed, 0, 0, "pre-flight"), KeptGenerator(batch), KeptGenerator(validation):
        drawn, faults = drawn_from(batch, "batch")
        if drawn is not None:
            place = next((p.device for p in network.parameters()), torch.device("cpu"))
            x, y = (tensor.to(place) for tensor in drawn)
            bench = Bench(network, x, y, loss or usual_loss(y), optimizer, outputs, time.monotonic() + seconds)
            faults += [*of_pairs(batch), *of_bench(bench, measured), *of_validation(bench, validation)]
    faults += of_patients(*patients) if patients else []
    return Preflight(worst_first(faults), measured)


def of_bench(bench: Bench, measured: dict[str, str]) -> Iterator[Fault]:
    """All that is found with one batch; ends where nothing further can be said."""
    extra = extra_of(bench.network)  # numbers beside the pixels, which have any scale
    pixels = bench.x[:, :-extra] if extra else bench.x
    faults = [*of_images(pixels), *_of_answers(bench.y), *_of_weights(bench), *_of_optimizer(bench)]
    yield from faults
    twin = twin_of(bench.network)
    if twin is None:
        yield Fault("no-copy", "note", "the network cannot be copied, so nothing that moves its weights was tried")
        return
    kind = next((p.dtype for p in twin.parameters() if p.is_floating_point()), torch.float32)
    few = _few(bench.y)
    bench = replace(
        bench,
        network=twin,
        x=bench.x[few].to(kind),
        y=bench.y[few],
        optimizer=moved_to(bench.optimizer, bench.network, twin),
    )
    trace = trace_of(bench)
    shapes = list(of_trace(trace, bench))
    yield from shapes
    if trace.error is not None or any(fault.severity == "error" for fault in shapes):
        return
    labels = list(of_labels(trace.outputs, bench))
    yield from labels
    yield from of_eval(bench)
    if any(fault.severity == "error" for fault in labels):
        return
    known = {fault.kind for fault in faults}
    yield from of_last_activation(trace, bench)
    yield from of_first_loss(trace.outputs, bench, measured)
    yield from of_learning(bench, measured, known)


def _few(y: Tensor) -> Tensor:
    """Rows of a few images, of as many classes as there are; of class numbers the least and the largest are among them."""
    order = y.argsort(stable=True) if y.ndim == 1 else torch.arange(len(y), device=y.device)
    places = torch.linspace(0, len(y) - 1, min(len(y), FEW_IMAGES)).round().long()
    return order[places.to(order.device)]


def _of_answers(y: Tensor) -> Iterator[Fault]:
    if len(y) >= 2 * FEW_IMAGES and bool((y == y[0]).all()):
        shown = f", all {y[0].item():g}" if y.ndim == 1 else ""
        yield Fault("one-class", "warning", "all labels of the batch are the same", f"{len(y)} labels{shown}",
                    "shuffle: a table sorted by class gives batches of one class")  # fmt: skip


def of_images(x: Tensor) -> Iterator[Fault]:
    if not x.is_floating_point():
        yield Fault("image-type", "error", "the images are whole numbers", f"{shape_of(x)} of {x.dtype}",
                    "images.float() / 255, then subtract the mean and divide by the deviation")  # fmt: skip
        x = x.float()
    x = x.detach().double()
    if not bool(x.isfinite().all()):
        yield Fault("image-values", "error", "the images hold values that are not finite numbers",
                    f"{int((~x.isfinite()).sum()):,} of {x.numel():,} values", "look at how they are read and normalised")  # fmt: skip
        return
    mean, deviation = float(x.mean()), float(x.std(correction=0))
    flat = x.reshape(len(x), -1)
    blank = int((flat.amax(1) == flat.amin(1)).sum())
    if deviation == 0 or blank > len(x) / 2:
        yield Fault("constant", "error", "the images are all of one value", f"{blank} of {count(len(x), 'image')}, mean {mean:.3g}, deviation {deviation:.3g}",
                    "look at how they are read: a wrong path, window or normalisation gives black images")  # fmt: skip
    elif len(x) > 1 and bool((flat == flat[0]).all()):
        yield Fault("constant", "error", "all images of the batch are the same image", shape_of(x),
                    "look at the index of the data set: it gives one image for every row")  # fmt: skip
    elif abs(mean) > 3 or not 0.05 < deviation < 5:
        yield Fault("normalisation", "warning", "the images are far from mean 0 and deviation 1", f"mean {mean:.3g}, deviation {deviation:.3g}",
                    "subtract the mean of the training images and divide by their deviation")  # fmt: skip


def _of_weights(bench: Bench) -> Iterator[Fault]:
    network = bench.network
    parameters = [p for p in network.parameters() if not isinstance(p, nn.UninitializedParameter)]
    frozen = sum(not p.requires_grad for p in parameters)
    if parameters and frozen == len(parameters):
        yield Fault("frozen", "error", "every parameter is frozen: nothing can be learned", f"{frozen} of {len(parameters)} without requires_grad",
                    "network.requires_grad_(True), at least for the last layer")  # fmt: skip
    elif frozen:
        last = next(
            (name for name, module in reversed(list(network.named_modules())) if isinstance(module, nn.Linear)), ""
        )
        head = last and not any(p.requires_grad for p in network.get_submodule(last).parameters())
        what = f"the last dense layer {last} is frozen" if head else "some of the parameters are frozen"
        yield Fault("frozen", "warning" if head else "note", what, f"{frozen} of {len(parameters)} tensors",
                    "the layer for the new classes has to learn: requires_grad_(True)" if head else "")  # fmt: skip
    types = {p.dtype for p in parameters if p.is_floating_point()}
    if bench.x.is_floating_point() and types and bench.x.dtype not in types:
        yield Fault("image-type", "error", "images and weights are of different types", f"{bench.x.dtype} and {', '.join(map(str, types))}",
                    "images.float()")  # fmt: skip
    if bench.optimizer is not None and not network.training:
        yield Fault("eval-mode", "warning", "the network is in evaluation mode: dropout is off and batch normalisation learns no statistics",
                    "network.training is False", "call network.train() before each epoch, network.eval() before judging")  # fmt: skip
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms and len(bench.x) == 1:
        yield Fault("batch-of-one", "error", "batch normalisation with a batch of one image", f"{shape_of(bench.x)}; {count(len(norms), 'layer')}, first {norms[0]}",
                    "take at least two images a batch (better 16), or GroupNorm")  # fmt: skip


def _of_optimizer(bench: Bench) -> Iterator[Fault]:
    optimizer = bench.optimizer
    if optimizer is None:
        return
    named = {id(p): name for name, p in bench.network.named_parameters() if p.requires_grad}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if strange := len(held - {id(p) for p in bench.network.parameters()}):
        yield Fault("optimizer", "error", "the optimiser holds parameters that are not of this network", f"{strange} of {len(held)}",
                    "make it after the network has its last form: optimizer = torch.optim.AdamW(network.parameters())")  # fmt: skip
    elif left := [name for key, name in named.items() if key not in held]:
        yield Fault("optimizer", "error", "the optimiser does not hold all parameters that should learn", f"{len(left)} of {len(named)} are missing, first {left[0]}",
                    "give it network.parameters(), or freeze the others with requires_grad_(False)")  # fmt: skip
    rate = max(map(rate_of, optimizer.param_groups))
    unit = isinstance(optimizer, _OF_UNIT_STEPS)
    most, usual = (1.0, "1e-4 to 1e-2") if unit else (10.0, "1e-3 to 1e-1")
    if rate < 1e-6 or rate > most:
        size = "small: nothing will be learned" if rate < 1e-6 else "large: the weights will explode"
        yield Fault("learning-rate", "error", f"the learning rate is far too {size}", f"{rate:g} with {type(optimizer).__name__}",
                    f"usual are {usual}")  # fmt: skip
