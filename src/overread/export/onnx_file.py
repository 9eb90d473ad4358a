"""A model as one ONNX file, compared with the model before it is written."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from overread.core.errors import OverreadError, UnsoundError, checked
from overread.core.progress import Progress, Say, silent, unheard
from overread.evaluation.decision.class_decision import Frozen
from overread.export.contract import contract, require_installed, require_place, write_folder
from overread.export.graph import Whole, whole
from overread.export.specimens import Specimens, judge_preparation, largest_difference, require_equal
from overread.export.torch_code import failing_as
from overread.learning.model import Model

Exporter = Callable[[Whole, torch.Tensor], bytes]
#: The largest difference in a probability at which a file is written.
LIMIT = 1e-4
#: The oldest set of operators that has all that is used here (onnxruntime 1.12, 2022).
OPSET = 17
LINES = """
import json, numpy, onnxruntime
from prepare import prepare

about = json.load(open("export.json"))
session = onnxruntime.InferenceSession("model.onnx")
pixels = numpy.stack([prepare(path, about["preprocessing"]) for path in ["image.png"]])
probabilities = session.run(None, {"pixels": pixels})[0]
print(dict(zip(about["outputs"], probabilities[0].tolist())))
"""


@checked
def export_onnx(
    model: Model, held: Specimens, folder: str | Path, *, frozen: Sequence[Frozen] = (), card: str = "", progress: Progress = silent,
    say: Say = unheard,
) -> list[Path]:  # fmt: skip
    """Write ``model.onnx`` with its contract into ``folder``, and give the files.

    Two exporters of torch are tried, the tracer first, and the file of the first that gives the model's probabilities on
    the specimens, to :data:`LIMIT` at batch sizes 1 and 7 by onnxruntime, is written. Raises :class:`UnsoundError` where
    neither does, :class:`InputError` where a part has no counterpart, :class:`UnavailableError` without ``onnx`` and
    ``onnxruntime``; then nothing is written.
    """
    folder = Path(folder)
    require_libraries()
    require_place(folder)
    graph, told = whole(model), []
    for done, (name, export) in enumerate(_EXPORTERS.items()):
        progress("exporting", done, len(_EXPORTERS))
        try:
            data, worst = _attempt(name, export, graph, held)
        except OverreadError as error:
            told.append(f"{error.what}: {error.given}")
            say(f"  {told[-1]}")
            continue
        progress("exporting", len(_EXPORTERS), len(_EXPORTERS))
        how = f"Written by torch {torch.__version__}'s exporter `{name}`" + (
            f", as the other failed: {told[0]}." if told else ", the first of two that is tried."
        )
        made = contract(model, "onnx", held, worst, LIMIT, judge_preparation(model, held), frozen, how)
        return write_folder(folder, made, {"model.onnx": _with_metadata(data, made.metadata)}, LINES, card)
    raise UnsoundError("neither exporter of torch gives an ONNX file that says what the model says, so nothing was written",
                       given="; ".join(told), todo="try --torch, or another network")  # fmt: skip


def _attempt(name: str, export: Exporter, graph: Whole, held: Specimens) -> tuple[bytes, float]:
    """The file of one exporter and its largest difference; raises where there is none, or it says something else."""
    with failing_as(f"the exporter {name} failed"):
        data = export(graph, held.pixels[:2])
        worst = largest_difference(session_of(data), held)
    require_equal(worst, LIMIT, held, f"the file of the exporter {name}")
    return data, worst


@checked
def require_libraries() -> None:
    """Raise :class:`UnavailableError` unless ``onnx`` and ``onnxruntime`` are installed."""
    require_installed("onnx", "onnxruntime")


@checked
def session_of(data: bytes) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """An ONNX file as a function of pixels, by onnxruntime on the CPU."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def _with_metadata(data: bytes, metadata: dict[str, str]) -> bytes:
    import onnx

    made = onnx.load_from_string(data)
    onnx.helper.set_model_props(made, metadata)
    made.producer_name, made.doc_string = "overread", metadata["use"]
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


# -- the two exporters: (module, example of two) → the bytes of a file ---------------------------------------------------


def _by_tracing(graph: Whole, example: torch.Tensor) -> bytes:
    """By running the network once and noting what it does: seconds, and the fewest surprises."""
    out = io.BytesIO()
    axes = {"pixels": {0: "batch"}, "probabilities": {0: "batch"}}
    with _quiet():
        torch.onnx.export(graph, (example,), cast("Any", out), dynamo=False, opset_version=OPSET, input_names=["pixels"],
                          output_names=["probabilities"], dynamic_axes=axes)  # fmt: skip
    return out.getvalue()


def _by_export(graph: Whole, example: torch.Tensor) -> bytes:
    """By ``torch.export``, which replaces the other in torch: minutes for large networks."""
    shapes = ({0: torch.export.Dim("batch")},)
    with _quiet():
        program: Any = torch.onnx.export(graph, (example,), dynamo=True, input_names=["pixels"], output_names=["probabilities"],
                                         dynamic_shapes=shapes, external_data=False, verbose=False)  # fmt: skip
    return bytes(program.model_proto.SerializeToString())


_EXPORTERS: dict[str, Exporter] = {"torchscript": _by_tracing, "dynamo": _by_export}


class _quiet(warnings.catch_warnings):
    """Without the exporters' warnings: what they warn of is compared."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        self._logger = logging.getLogger("torch.onnx")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)
        return entered

    def __exit__(self, *error: Any) -> None:
        self._logger.setLevel(self._level)
        super().__exit__(*error)
