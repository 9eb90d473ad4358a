"""Labels, outputs and loss: whether they fit, and what the first loss says.

What a loss wants is found by asking it, not by its name: whether it takes these labels or others, whether it applies a
softmax itself, and what it costs to know nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from overread.learning.preflight.faults import Attempt, Fault, shape_of
from overread.learning.preflight.shapes import Trace
from overread.learning.preflight.trial import Bench

#: From this multiple of what a network without knowledge pays, a first loss is far off (He 2015, section 2.2: an
#: initialisation that keeps variances gives outputs near 0).
FAR_OFF = 2.0


def usual_loss(y: Tensor) -> Callable[..., Any]:
    if not y.is_floating_point() and math.prod(y.shape[1:]) == 1:
        return functional.cross_entropy
    zero_one = y.ndim > 1 and bool(((y == 0) | (y == 1)).all())
    return functional.binary_cross_entropy_with_logits if zero_one else functional.mse_loss


def value_of(bench: Bench, outputs: Tensor, y: Tensor) -> tuple[float | None, str]:
    """The loss, and what torch said: of an error (then without a value), or of shapes that it stretched."""
    value = None
    with warnings.catch_warnings(record=True) as heard, Attempt() as tried:
        warnings.simplefilter("always")
        value = float(bench.loss(outputs.detach(), y).mean())
    if tried.error is not None:
        return None, tried.said
    stretched = [str(w.message) for w in heard if "broadcast" in str(w.message) or "target size" in str(w.message)]
    return value, stretched[0].split(".")[0] if stretched else ""


def of_labels(outputs: Tensor, bench: Bench) -> Iterator[Fault]:
    """Whether the loss takes these labels; if not, in which form it would."""
    y = bench.y
    value, said = value_of(bench, outputs, y)
    stretched = value is not None and (bool(said) or _ignores_order(bench, outputs))
    if value is None or stretched:
        for kind, what, fix, made in _forms(y, outputs):
            if value_of(bench, outputs, made)[0] is not None and not value_of(bench, outputs, made)[1]:
                yield Fault(kind, "error", what, f"outputs {shape_of(outputs)}, labels {shape_of(y)} of {y.dtype}", fix)
                return
        yield Fault("loss", "error", "the loss does not take these outputs and labels", f"outputs {shape_of(outputs)}, labels {shape_of(y)} of {y.dtype}; {said}",
                    "see which shapes and types the loss wants")  # fmt: skip
    elif not math.isfinite(value):
        yield Fault(
            "loss",
            "error",
            "the first loss is not a finite number",
            f"{value}",
            "look at the labels, the class weights and the scale of the images",
        )
    elif (
        y.shape == outputs.shape
        and y.is_floating_point()
        and _takes_logits(bench, outputs)
        and not bool(((y >= 0) & (y <= 1) | y.isnan()).all())
    ):
        yield Fault("label-range", "error", "the labels of a yes-or-no loss lie outside of 0 … 1", f"{float(y.min()):g} … {float(y.max()):g}, outputs {shape_of(outputs)}",
                    "for several classes give as many outputs and cross-entropy; for one question 0 and 1")  # fmt: skip


def _forms(y: Tensor, outputs: Tensor) -> Iterator[tuple[str, str, str, Tensor]]:
    """Other forms of the labels, each with what its need would mean."""
    whole = bool((y.detach().double() % 1 == 0).all())
    if y.ndim == 2 and y.shape == outputs.shape and y.shape[1] > 1:
        yield (
            "one-hot-labels",
            "the labels are one-hot and the loss wants class numbers",
            "labels.argmax(1)",
            y.argmax(1),
        )
        yield "label-type", "the labels are whole numbers and the loss wants decimals", "labels.float()", y.float()
    if y.ndim == 2 and y.shape[1] == 1:
        yield "label-shape", "the labels have an axis too many", "labels[:, 0].long()", y[:, 0].long()
        yield "label-shape", "the labels have an axis too many", "labels[:, 0].float()", y[:, 0].float()
        yield "label-type", "the labels are whole numbers and the loss wants decimals", "labels.float()", y.float()
    if (
        y.ndim == 1
        and whole
        and outputs.ndim == 2
        and outputs.shape[1] > 1
        and 0 <= int(y.min()) <= int(y.max()) < outputs.shape[1]
    ):
        hot = functional.one_hot(y.long(), outputs.shape[1])
        what = "the labels are class numbers and the loss wants one-hot rows"
        yield "label-type", "the class numbers are decimals and the loss wants whole numbers", "labels.long()", y.long()
        yield (
            "integer-labels",
            what,
            f"torch.nn.functional.one_hot(labels, {outputs.shape[1]}).float(), or nn.CrossEntropyLoss()",
            hot.to(outputs.dtype),
        )
    if y.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] == 1:
        yield (
            "label-shape",
            "outputs and labels have different shapes, which a loss would stretch over each other",
            "labels[:, None].float(), or outputs[:, 0]",
            y[:, None].to(outputs.dtype),
        )
    if y.ndim == 1 and outputs.ndim == 1:
        yield (
            "label-type",
            "the labels are whole numbers and the loss wants decimals",
            "labels.float()",
            y.to(outputs.dtype),
        )


def _random_like(outputs: Tensor, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (scale * torch.randn(outputs.shape, generator=generator)).to(outputs)


def _ignores_order(bench: Bench, outputs: Tensor) -> bool:
    """Whether the loss stays the same when labels change places: (B, 1) and (B,) were stretched to (B, B)."""
    some, y = _random_like(outputs).sigmoid(), bench.y
    if len(y) < 3 or bool((y == y[0]).all()):
        return False
    moved = [value_of(bench, some, y.roll(k, 0))[0] for k in range(3)]
    return None not in moved and max(moved) - min(moved) < 1e-6 * (1 + abs(moved[0]))  # type: ignore[operator, type-var, arg-type]


def _costs(bench: Bench, outputs: Tensor) -> tuple[float | None, float | None]:
    """What the loss takes for the right answers as probabilities, and for certain logits; None for a quantity."""
    y = bench.y
    if _are_numbers(y) and outputs.ndim == 2 and 0 <= int(y.min()) <= int(y.max()) < outputs.shape[1]:
        right = functional.one_hot(y.long(), outputs.shape[1]).to(outputs)
    elif y.shape == outputs.shape:
        y = right = (y > 0.5).to(outputs)
    else:
        return None, None
    return value_of(bench, right, y)[0], value_of(bench, 6 * right - 3, y)[0]


def _takes_logits(bench: Bench, outputs: Tensor) -> bool:
    """Whether the loss applies a softmax or sigmoid itself: certain logits cost less than the right probabilities."""
    exact, certain = _costs(bench, outputs)
    return exact is not None and certain is not None and 0 < certain < exact


def _takes_logarithms(bench: Bench, outputs: Tensor) -> bool:
    """Whether it is the loss of log-probabilities, such as ``nll_loss``: then the right answer as 1 pays."""
    exact, _ = _costs(bench, outputs)
    return exact is not None and exact < 0


def _are_numbers(y: Tensor) -> bool:
    """Whether labels are class numbers (B,)."""
    return y.ndim == 1 and not y.is_floating_point()


#: Names of the last operation in torch's graph, and the activations that they are.
_ACTIVATIONS = {"Relu": "ReLU", "ClampMin": "ReLU", "Hardtanh": "ReLU6", "Clamp": "clamp", "Softmax": "softmax",
                "Sigmoid": "sigmoid", "Tanh": "tanh", "LeakyRelu": "leaky ReLU", "Elu": "ELU", "Gelu": "GELU"}  # fmt: skip


_MILD = ("leaky ReLU", "ELU", "GELU")


_ONLY_SHAPES = (
    "View",
    "UnsafeView",
    "ReshapeAlias",
    "Squeeze",
    "Unsqueeze",
    "ToCopy",
    "Clone",
    "Alias",
    "T",
    "Transpose",
    "Permute",
)


def _last_operation(outputs: Tensor) -> str:
    step: Any = outputs.grad_fn
    name = ""
    while step is not None:
        name = step.name().partition("Backward")[0]
        if name not in _ONLY_SHAPES:
            break
        step = step.next_functions[0][0] if step.next_functions else None
    return name


def of_last_activation(trace: Trace, bench: Bench) -> Iterator[Fault]:
    outputs, last = trace.outputs.detach(), _ACTIVATIONS.get(_last_operation(trace.outputs), "")
    where = f"{last} makes the outputs, from {float(outputs.min()):.3g} to {float(outputs.max()):.3g}"
    if _takes_logarithms(bench, outputs):
        total = outputs.detach().exp().sum(-1)
        if not torch.allclose(total, torch.ones_like(total), atol=1e-3):
            yield Fault("last-activation", "error", "the loss wants log-probabilities and gets something else", f"{where if last else 'no log_softmax'}",
                        "end with log_softmax(outputs, 1), or use cross_entropy on the bare outputs")  # fmt: skip
    elif last and _takes_logits(bench, outputs):
        twice = last in ("softmax", "sigmoid")
        what = (
            f"{last} stands before a loss that applies it itself"
            if twice
            else f"{last} is the last activation, so the outputs cannot say no"
        )
        yield Fault(
            "last-activation",
            "warning" if last in _MILD else "error",
            what,
            where,
            f"leave out the last {last}: the loss wants bare outputs",
        )
    elif last in ("ReLU", "ReLU6") and bench.y.is_floating_point():
        below = float(bench.y.min()) < 0
        yield Fault("last-activation", "error" if below else "warning", f"{last} is the last activation of a quantity: it never falls below 0, and where it is 0 it learns nothing",
                    f"{where}; labels from {float(bench.y.min()):.3g}", f"leave out the last {last}")  # fmt: skip


def of_first_loss(outputs: Tensor, bench: Bench, measured: dict[str, str]) -> Iterator[Fault]:
    """The first loss against what a network pays that knows nothing: −log(1/classes), with the weights of the classes."""
    first = value_of(bench, outputs, bench.y)[0]
    width = outputs.shape[1] if outputs.ndim == 2 else 1
    if first is None:
        return
    if _takes_logarithms(bench, outputs):
        chance = value_of(bench, torch.full_like(outputs, -math.log(width)), bench.y)[0]
    else:
        chance = value_of(bench, torch.zeros_like(outputs), bench.y)[0] if _takes_logits(bench, outputs) else None
    measured["first loss"] = f"{first:.3g}" + (f" (knowing nothing {chance:.3g})" if chance is not None else "")
    if chance is not None and first > FAR_OFF * chance:
        many = f", −log(1/{width}) = {math.log(width):.3g}" if width > 1 and not bench.y.is_floating_point() else ""
        yield Fault("first-loss", "warning", "the first loss is far from that of a network that knows nothing", f"{first:.3g} against {chance:.3g}{many}",
                    "normalise the images, start the last layer with small weights, and see that the loss gets bare outputs")  # fmt: skip
