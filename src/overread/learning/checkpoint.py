"""Checkpoints: one safetensors file with the loop's state in its header; the old or the new one always loads."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from overread.core.errors import UnavailableError, checked
from overread.core.files import publish

_LAST, _PREVIOUS = "last.safetensors", "previous.safetensors"


@checked
def save_checkpoint(folder: str | Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write ``folder/last.safetensors``; the one before it becomes ``previous.safetensors``."""
    path = Path(folder) / _LAST
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"state": json.dumps(state), "digest": digest_of(flat)}
    with publish(path) as beside:
        safetensors.torch.save_file(flat, beside, metadata=header)
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
    """Remove the checkpoints of a folder."""
    for name in (_LAST, _PREVIOUS):
        (Path(folder) / name).unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):
        return None
    if header.get("digest") != digest_of(tensors):
        return None
    return tensors, json.loads(header["state"])


def digest_of(tensors: dict[str, Tensor]) -> str:
    """A hash of named tensors: names, bytes, in the order of the names."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        flat = tensors[name].detach().contiguous().flatten()
        total.update(name.encode())
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
