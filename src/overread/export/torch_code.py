"""A traced network as a page of Python: one call of torch's own operators a line, and no class, pickle or library.

``torch.export`` writes what a network does as a list of operators of ``torch.ops.aten``; its own file is loaded by
pickle, so the list is written as source instead, which can be read, and the weights as safetensors.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import OverreadError, UnavailableError, checked

#: What a line of the page may call beside the operators of torch.ops.aten: arithmetic of whole numbers.
_ARITHMETIC = {operator.getitem: "{}[{}]", operator.add: "{} + {}", operator.mul: "{} * {}", operator.sub: "{} - {}",
               operator.floordiv: "{} // {}"}  # fmt: skip


@checked
def written(network: nn.Module, example: Tensor, head: str) -> tuple[str, dict[str, Tensor]]:
    """The page, under ``head`` (lines of comment), and the tensors that it takes by name.

    The batch of ``example`` may be any; raises :class:`UnavailableError` where torch cannot trace the network.
    """
    with failing_as("torch cannot write this network as a list of operators", "try --onnx"):
        traced = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    held = {**traced.state_dict, **traced.constants}
    signature = traced.graph_signature
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {target: held[target].detach().contiguous() for target in named.values()}
    lines = "\n".join(f"    {line}" for line in _lines(traced.graph, named))
    body = f'def predict(pixels, weights):\n    """Probabilities (batch, classes) of pixels from 0 to 1."""\n{lines}\n'
    return f"{head}\nimport torch\n\n\n{body}", _apart(tensors)


class failing_as(AbstractContextManager[None]):
    """What another library raises becomes an :class:`UnavailableError` that says ``what``: tracers and exporters raise
    errors of a dozen kinds, and what they could not do is all that a person needs."""

    def __init__(self, what: str, todo: str = "") -> None:
        self._what, self._todo = what, todo

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, OverreadError):
            raise UnavailableError(self._what, given=" ".join(str(error).split())[:200], todo=self._todo) from error


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without shared memory, which safetensors does not write."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _lines(graph: torch.fx.Graph, named: dict[str, str]) -> Iterator[str]:
    last = {use: node for node in graph.nodes for use in node.all_input_nodes}
    for node in graph.nodes:
        if node.op == "placeholder":
            yield f"{node.name} = weights[{named[node.name]!r}]" if node.name in named else f"{node.name} = pixels"
        elif node.op == "call_function" and not _is_check(node):
            yield f"{node.name} = {_call(node)}"
        elif node.op == "output":
            yield f"return {_text(node.args[0][0])}"
        gone = [use.name for use in node.all_input_nodes if last[use] is node and use.op == "call_function"]
        if gone and node.op == "call_function":
            yield f"del {', '.join(dict.fromkeys(gone))}"


def _is_check(node: torch.fx.Node) -> bool:
    """Whether a node only checks what the tracer assumed of sizes."""
    return "assert" in str(node.target) or "sym_constrain" in str(node.target)


def _call(node: torch.fx.Node) -> str:
    if node.target in _ARITHMETIC:
        return _ARITHMETIC[node.target].format(*map(_text, node.args))
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        raise UnavailableError(
            "the network uses an operator that is not torch's own", given=str(node.target)[:80], todo="try --onnx"
        )
    options = [f"{name}={_text(value)}" for name, value in node.kwargs.items()]
    return f"torch.ops.{node.target}({', '.join([*map(_text, node.args), *options])})"


def _text(value: Any) -> str:
    """A node, number, text, list or constant of torch as it stands in the source."""
    if isinstance(value, torch.fx.Node):
        return value.name
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, torch.device):
        return "torch.device('cpu')"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f"float('{value}')"
    return repr(value) if value is None or isinstance(value, (bool, int, float, str)) else str(value)
