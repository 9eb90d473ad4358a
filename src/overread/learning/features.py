"""Frozen features: one pass over the images through a pretrained network, cached by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.errors import checked
from overread.images.prepare import Preprocess
from overread.learning.device import to_tensor
from overread.progress import Progress, silent
from overread.record import fingerprint, publish

_BATCH = 16


@checked
def extract(
    network: nn.Module,
    images: NDArray[Any],
    preprocess: Preprocess,
    *,
    key: object,
    views: int = 1,
    cache: Path | None = None,
    device: str = "cpu",
    mean_image: NDArray | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Pooled features (N, F) float32 of packed images, the mean over ``views``.

    ``key``: plain data that names weights, layers and images; equal keys share a cache entry.
    """
    path = cache / "features" / f"{fingerprint([key, preprocess, views])}.safetensors" if cache else None
    if path is not None and (found := _cached(path, len(images))) is not None:
        return found
    features = _forward(network.eval(), images, preprocess, views, device, mean_image, progress)
    if path is not None:
        with publish(path) as beside:
            safetensors.torch.save_file({"features": features}, beside)
    return features


def _cached(path: Path, count: int) -> Tensor | None:
    try:
        found = safetensors.torch.load_file(path)["features"]
    except (OSError, KeyError, safetensors.SafetensorError):
        return None  # absent or damaged: made anew
    return found if len(found) == count else None


@torch.inference_mode()
def _forward(
    network: Any,
    images: NDArray[Any],
    preprocess: Preprocess,
    views: int,
    device: str,
    mean_image: Any,
    progress: Progress,
) -> Tensor:
    parts = []
    for start in range(0, len(images), _BATCH):
        x = to_tensor(images[start : start + _BATCH], preprocess, mean_image, device)
        f = network.features(x).float()
        parts.append(((f + network.features(x.flip(-1)).float()) / 2 if views == 2 else f).cpu())
        progress("extracting features", min(start + _BATCH, len(images)), len(images))
    return torch.cat(parts)
