"""One forward pass, layer by layer: what each got against what it takes, and what came out at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.phrases import count
from overread.learning.preflight.faults import Attempt, Fault, shape_of
from overread.learning.preflight.trial import Bench


@dataclass(frozen=True, eq=False)
class Trace:
    """One forward pass in training mode: the layers that ran, in order, with the shapes that they got."""

    layers: tuple[tuple[str, nn.Module, tuple[int, ...]], ...]
    outputs: Any
    error: Exception | None
    said: str = ""


def trace_of(bench: Bench) -> Trace:
    network, layers, hooks = bench.network, [], []
    for name, module in network.named_modules():
        if next(module.children(), None) is None:

            def note(module: nn.Module, taken: Any, name: str = name) -> None:
                if taken and isinstance(taken[0], Tensor):
                    layers.append((name, module, tuple(taken[0].shape)))

            hooks.append(module.register_forward_pre_hook(note))
    outputs = None
    with Attempt() as tried:
        outputs = network.train()(bench.x)
    for hook in hooks:
        hook.remove()
    return Trace(tuple(layers), outputs, tried.error, tried.said if tried.error is not None else "")


_CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


def of_trace(trace: Trace, bench: Bench) -> Iterator[Fault]:
    """Shapes: what a layer got against what it takes, and what came out at the end."""
    x, outputs = bench.x, trace.outputs
    found = list(_of_layers(trace, x))
    yield from found
    if trace.error is not None:
        if not found:
            where = _called(trace.layers[-1]) if trace.layers else "the network"
            yield Fault("forward", "error", f"the network does not take this batch: {where} raised an error",
                        f"images {shape_of(x)}; {trace.said}", "see which shape the layer wants, and give it")  # fmt: skip
    elif not isinstance(outputs, Tensor):
        yield Fault("outputs", "error", "the network does not return one tensor", type(outputs).__name__,
                    "return the outputs (B, classes) alone, or wrap it in a module that does")  # fmt: skip
    elif not outputs.ndim or len(outputs) != len(x):
        yield Fault("outputs", "error", "the network does not return one row for each image", f"images {shape_of(x)}, outputs {shape_of(outputs)}",
                    "flatten by x.flatten(1), which keeps images apart; view(-1, n) mixes them where n is wrong")  # fmt: skip
    elif outputs.ndim > max(2, bench.y.ndim):
        yield Fault("no-flatten", "error", "nothing flattens or pools the maps before the last layer", f"outputs {shape_of(outputs)}, labels {shape_of(bench.y)}",
                    "put nn.AdaptiveAvgPool2d(1) and nn.Flatten() before the dense layer")  # fmt: skip
    elif not bool(outputs.isfinite().all()):
        yield Fault("output-values", "error", "the outputs are not finite numbers", f"{int((~outputs.isfinite()).sum())} of {outputs.numel()}",
                    "look for a division by 0, a log of 0, or images that are not normalised")  # fmt: skip
    elif outputs.ndim == 2:
        yield from _of_width(outputs.shape[1], bench)


def _called(layer: tuple[str, nn.Module, tuple[int, ...]]) -> str:
    return f"layer {layer[0] or 'itself'} ({type(layer[1]).__name__})"


def _of_layers(trace: Trace, x: Tensor) -> Iterator[Fault]:
    weighted = 0
    for layer in trace.layers:
        _, module, shape = layer
        failed = trace.error is not None and layer is trace.layers[-1]
        found = f"{_called(layer)} gets {shape}"
        sides = next((k for kind, k in _CONVOLUTIONS.items() if isinstance(module, kind)), 0)
        if sides:
            wanted: Any = module.in_channels
            shrunk = (
                not weighted and len(shape) == sides + 2 and math.prod(shape[2:]) == 1 < math.prod(x.shape[2:] or (1,))
            )
            if len(shape) == 2 or shrunk:
                yield Fault("flattened", "error", "the images are flattened before a convolution", found,
                            f"take out what flattens them: it wants (B, {wanted}{', side' * sides})")  # fmt: skip
            elif len(shape) < sides + 2:
                yield Fault("channels", "error", "the images have no channel axis", found,
                            f"images.unsqueeze(1), for (B, {wanted}{', side' * sides})")  # fmt: skip
            elif failed and shape[1] != wanted:
                last = shape[-1] == wanted
                fix = f"images.permute(0, {sides + 1}, {', '.join(map(str, range(1, sides + 1)))}): channels come first" if last else f"give images of {count(wanted, 'channel')}, or a first layer for {shape[1]}"  # fmt: skip
                yield Fault(
                    "channels",
                    "error",
                    "the convolution wants another number of channels",
                    f"{found}, wants {wanted}",
                    fix,
                )
        elif failed and isinstance(module, nn.Linear) and shape[-1] != module.in_features:
            if len(shape) > 2:
                yield Fault("no-flatten", "error", "nothing flattens or pools the maps before a dense layer", f"{found}, wants (B, {module.in_features})",
                            f"put nn.Flatten() before it and make it nn.Linear({math.prod(shape[1:])}, …), or nn.AdaptiveAvgPool2d(1) and nn.Flatten() and nn.Linear({shape[1]}, …)")  # fmt: skip
            else:
                yield Fault("dense-size", "error", "a dense layer wants another number of inputs", f"{found}, wants (B, {module.in_features}), of images {shape_of(x)}",
                            f"nn.Linear({shape[-1]}, …), or images of the size that it was made for")  # fmt: skip
        weighted += any(True for _ in module.parameters())


def _of_width(width: int, bench: Bench) -> Iterator[Fault]:
    """One output unit for ten classes, or a head that was left from ImageNet."""
    y = bench.y
    numbers = y.ndim == 1 and not y.is_floating_point() and y.dtype != torch.bool
    told = bench.outputs or (int(y.max()) + 1 if numbers and len(y) else 0)
    if (bench.outputs and width != bench.outputs) or (numbers and width < told and (width > 1 or told > 2)):
        units = "one output unit" if width == 1 else f"{width} outputs"
        yield Fault("outputs", "error", f"the network has {units} for {count(told, 'class', 'classes')}" if told > 1 else f"the network has {units} where one is wanted",
                    f"outputs (B, {width}), labels {int(y.min()) if numbers else ''}{' … ' if numbers else ''}{int(y.max()) if numbers else shape_of(y)}",
                    f"make the last layer nn.Linear(…, {told})" + ("; labels have to start at 0" if numbers and int(y.min()) == 1 else ""))  # fmt: skip
    elif numbers and len(y) and int(y.min()) < 0 and int(y.min()) != -100:
        yield Fault(
            "label-range",
            "error",
            "a class number is negative",
            f"{int(y.min())} … {int(y.max())}",
            "number the classes from 0",
        )
    elif numbers and width >= 10 * max(told, 2):
        yield Fault("outputs", "warning", "the network has far more outputs than the labels have classes", f"outputs (B, {width}), labels up to {told - 1}",
                    f"replace the last layer by nn.Linear(…, {told}), or say outputs={width}")  # fmt: skip
