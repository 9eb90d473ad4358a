"""The machine: device, threads, precision, seeds; pixels to tensors and the same augmentation on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overread.core import random
from overread.core.errors import checked
from overread.images.preprocess import Preprocess


@checked
def pick_device(wanted: str = "") -> str:
    """``wanted``, or the best that is here: ``cuda``, ``mps`` or ``cpu``."""
    if wanted:
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def seeded(seed: int, epoch: int, step: int, what: str) -> Iterator[None]:
    """torch's generator set from the counter for what torch draws itself (dropout, initial weights), then restored."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(random.bits(seed, epoch, step, what) >> np.uint64(1)))
        yield


@checked
def to_tensor(
    images: NDArray, preprocess: Preprocess, mean_image: NDArray | None = None, device: str = "cpu"
) -> Tensor:
    """Packed pixels (B, H, W, C) or (B, D, H, W, C) → normalised float32 (B, C, H, W), channels last in memory.

    The same numbers as :func:`overread.images.preprocess.normalise`, made on ``device``.
    """
    return standardise(to_unit(images, device), preprocess, mean_image)


@checked
def to_unit(images: NDArray, device: str = "cpu") -> Tensor:
    """Packed pixels (B, H, W, C) or (B, D, H, W, C) → float32 (B, C, H, W) on the scale 0 … 1."""
    x = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # a memory map is read-only: copied
    x = (x if images.dtype == np.uint8 else x.to(torch.int32)).to(device).movedim(-1, 1)
    return x.float() / np.iinfo(images.dtype).max


@checked
def standardise(x: Tensor, preprocess: Preprocess, mean_image: NDArray | None = None) -> Tensor:
    """(x − mean − mean image) / std of images (B, C, H, W) on the scale 0 … 1."""
    shape = (1, -1, *([1] * (x.ndim - 2)))
    mean = torch.tensor(preprocess.mean, device=x.device).reshape(shape)
    std = torch.tensor(preprocess.std, device=x.device).reshape(shape)
    if mean_image is not None:
        mean = mean + torch.as_tensor(mean_image, device=x.device).movedim(-1, 0)
    return (x - mean) / std


@checked
def choose_precision(wanted: str, device: str, seconds: Callable[[str], float]) -> tuple[str, str]:
    """The precision of the forward pass and the reason: ``wanted``, or what ``seconds(precision)`` finds quicker.

    A CPU without native bfloat16 is 9 to 14 times slower with it, so nothing is assumed.
    """
    if wanted != "auto":
        return wanted, "asked for"
    if device == "cpu" and not _cpu_bfloat16():
        return "float32", "this CPU does not calculate in bfloat16"
    return min(("float32", "bfloat16"), key=seconds), "the quicker in a probe on this machine"


def _cpu_bfloat16() -> bool:
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(capability())


def time_step(network: torch.nn.Module, x: Tensor, precision: str) -> float:
    """Seconds of one training step, forward and backward: the quickest of three, the first of which warms up."""

    def step() -> float:
        start = time.monotonic()
        with autocast(x.device.type, precision):
            outputs = network(x)
        outputs.float().square().mean().backward()
        if x.is_cuda:
            torch.cuda.synchronize()
        return time.monotonic() - start

    return min(step() for _ in range(3))


def autocast(device: str, precision: str) -> torch.autocast:
    """The context of a forward pass in ``precision``."""
    return torch.autocast(device, dtype=getattr(torch, precision), enabled=precision != "float32")


def layout(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """The network on its device, channels last in memory."""
    solid = any(isinstance(part, torch.nn.Conv3d) for part in network.modules())
    memory = torch.channels_last_3d if solid else torch.channels_last
    return network.to(device).to(memory_format=memory)  # type: ignore[call-overload]
