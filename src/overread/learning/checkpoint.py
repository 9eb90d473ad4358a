"""Checkpoints: one safetensors file with the loop's state in its header; the old or the new one always loads.

A checksum covers the tensors and the state, so that one flipped bit in either makes the file count as damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from overread.core.errors import InputError, UnavailableError, checked
from overread.core.files import publish
from overread.networks.state_dict import read_tensors, write_tensors

_LAST, _PREVIOUS = "last.safetensors", "previous.safetensors"


@checked
def save_checkpoint(folder: str | Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write ``folder/last.safetensors``; the one before it becomes ``previous.safetensors``."""
    path = Path(folder) / _LAST
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state)
    with publish(path) as beside:
        write_tensors(flat, beside, {"state": text, "digest": _checksum(flat, text)})
        if path.exists():
            os.replace(path, path.with_name(_PREVIOUS))
    return path


@checked
def load_checkpoint(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint that is whole, or None where there is none.

    Raises :class:`UnavailableError` if there are files but none is whole.
    """
    files = [path for name in (_LAST, _PREVIOUS) if (path := Path(folder) / name).exists()]
    for path in files:
        found = _read(path)
        if found is not None:
            return found
    if files:
        todo = "delete the folder and train again"
        raise UnavailableError("no checkpoint in the folder is whole", given=str(folder), todo=todo)
    return None


@checked
def forget(folder: str | Path) -> None:
    """Remove the checkpoints of a folder, and of the folders in it: folds of the same training."""
    for name in (_LAST, _PREVIOUS):
        for path in Path(folder).rglob(name):
            path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        tensors, header = read_tensors(path)
    except InputError:
        return None
    state = header.get("state", "")
    return (tensors, json.loads(state)) if header.get("digest") == _checksum(tensors, state) else None


def _checksum(tensors: dict[str, Tensor], state: str) -> str:
    """A hash of all that a checkpoint holds: tensors with their types and shapes, and the loop's state."""
    shapes = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in sorted(tensors.items())]
    return hashlib.blake2b(json.dumps([state, shapes, digest_of(tensors)]).encode(), digest_size=16).hexdigest()


def digest_of(tensors: dict[str, Tensor]) -> str:
    """A hash of named tensors: names, bytes, in the order of the names."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        flat = tensors[name].detach().contiguous().flatten()
        total.update(name.encode())
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
