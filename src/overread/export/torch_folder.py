"""A model as a folder that plain torch loads: a page of torch's operators and safetensors, without overread or timm."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from overread.core.errors import UnsoundError, checked
from overread.core.progress import Progress, silent
from overread.evaluation.decision.class_decision import Frozen
from overread.export.contract import contract, require_place, write_folder
from overread.export.graph import whole
from overread.export.specimens import BATCHES, Specimens, difference, judge_preparation, require_equal
from overread.export.torch_code import written
from overread.learning.model import Model

#: The largest difference in a probability at which a folder is written.
LIMIT = 1e-5
LINES = """
import json, torch
from network import predict
from prepare import prepare
from safetensors.torch import load_file

about = json.load(open("export.json"))
pixels = torch.stack([torch.from_numpy(prepare(path, about["preprocessing"])) for path in ["image.png"]])
with torch.inference_mode():
    probabilities = predict(pixels, load_file("model.safetensors"))
print(dict(zip(about["outputs"], probabilities[0].tolist())))
"""
_HEAD = """# The network as torch's own operators, one a line, in order. Nothing here but arithmetic: read it, or compare it.
# Takes pixels from 0 to 1 (see export.json) and the tensors of model.safetensors.
# ruff: noqa
"""
#: What the other process does: the same lines, on pixels that are given, at the batch sizes that are asked for.
_TRIAL = """
import sys
sys.path.insert(0, "."); sys.modules["overread"] = None
import numpy, torch
from safetensors.torch import load_file
from network import predict
weights, pixels = load_file("model.safetensors"), torch.from_numpy(numpy.load("pixels.npy"))
for size in map(int, sys.argv[1:]):
    with torch.inference_mode():
        said = torch.cat([predict(part, weights) for part in pixels.split(size)])
    numpy.save(f"said{size}.npy", said.numpy())
"""


@checked
def export_torch(
    model: Model, held: Specimens, folder: str | Path, *, frozen: Sequence[Frozen] = (), card: str = "", progress: Progress = silent
) -> list[Path]:  # fmt: skip
    """Write ``network.py`` and ``model.safetensors`` with their contract into ``folder``, and give the files.

    They are run first in a process of their own that cannot import overread, on the specimens; raises
    :class:`UnsoundError` where a probability is more than :data:`LIMIT` apart, :class:`UnavailableError` where torch
    cannot list the operators of the network. Then nothing is written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    require_place(folder)
    progress("exporting", 0, 2)
    code, tensors = written(whole(model), held.pixels[:2], _HEAD)
    files = {"network.py": code.encode(), "model.safetensors": save(tensors, {"format": "pt"})}
    progress("exporting", 1, 2)
    worst = _tried(files, held)
    require_equal(worst, LIMIT, held, "network.py")
    progress("exporting", 2, 2)
    how = f"`network.py` was written by torch {torch.__version__}'s `torch.export`; nothing in this folder is pickled."
    made = contract(model, "torch", held, worst, LIMIT, judge_preparation(model, held), frozen, how)
    return write_folder(folder, made, files, LINES, card)


def _tried(files: dict[str, bytes], held: Specimens) -> float:
    """The largest difference of what the files say in a process of their own."""
    with tempfile.TemporaryDirectory(prefix="overread-") as place:
        for name, data in files.items():
            (Path(place) / name).write_bytes(data)
        np.save(Path(place) / "pixels.npy", held.pixels.numpy())
        done = subprocess.run(
            [sys.executable, "-I", "-c", _TRIAL, *map(str, BATCHES)], cwd=place, capture_output=True, text=True
        )
        if done.returncode:
            raise UnsoundError(
                "network.py does not run by itself, so nothing was written",
                given=done.stderr.strip().rpartition("\n")[2][:200],
            )
        return max(difference(np.load(Path(place) / f"said{size}.npy"), held) for size in BATCHES)
