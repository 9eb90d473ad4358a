"""The machine: device, threads, precision, seeds; pixels to tensors and the same augmentation on a GPU."""

from __future__ import annotations

import copy
import gc
import math
import re
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overread.core import random
from overread.core.errors import InputError, OverreadError, UnavailableError, checked
from overread.images.preprocess import Preprocess


@checked
def pick_device(wanted: str = "") -> str:
    """``wanted``, or the best that is here: ``cuda``, ``mps`` or ``cpu``.

    Raises :class:`InputError` for a word that names no kind of device, :class:`UnavailableError` where it is not here.
    """
    here = {"cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            "mps": int(torch.backends.mps.is_available()), "cpu": 1}  # fmt: skip
    best = next(kind for kind, count in here.items() if count)
    if not wanted:
        return best
    kind, colon, number = wanted.partition(":")
    if kind not in here or bool(colon) != number.isdecimal():
        todo = "choose from cuda (a graphics card of NVIDIA or AMD), cuda:1 (the second), mps (Apple) and cpu"
        raise InputError("there is no such kind of device", given=f"--device {wanted}", todo=todo)
    if int(number or 0) >= here[kind]:
        given = f"--device {wanted}; here: {', '.join(f'{count} {each}' for each, count in here.items() if count)}"
        raise UnavailableError("this machine has no such device, or torch does not find it", given=given,
                               todo=f"leave --device out: the best that is here is {best}")  # fmt: skip
    return wanted


@checked
@contextmanager
def seeded(seed: int, epoch: int, step: int, what: str) -> Iterator[None]:
    """torch's generator set from the counter for what torch draws itself (dropout, initial weights), then restored."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(random.bits(seed, epoch, step, what) >> np.uint64(1)))
        yield


# CUDA, MPS and XPU; the allocator of the CPU on Linux and on Windows; cuDNN and cuBLAS, which say it in their own words
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|_ALLOC_FAILED")


@checked
def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left on the device, or on this machine.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    """
    named = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return named or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


@checked
def memory_left(device: str = "cpu") -> float:
    """Bytes that may still be taken on a device; infinite where the system does not say. A container's limit counts."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    found = [math.inf]
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError, StopIteration):  # "max" is no number: no limit
        most, taken = (float((_CONTAINER / f"memory.{name}").read_text("ascii")) for name in ("max", "current"))
        lines = (_CONTAINER / "memory.stat").read_text("ascii").splitlines()
        cached = next(float(line.split()[1]) for line in lines if line.startswith("inactive_file "))  # is given back
        found.append(max(0.0, most - taken + cached))
    return min(found)


_CONTAINER = Path("/sys/fs/cgroup")


@checked
def free_memory() -> None:
    """Give back what torch keeps of a device's memory for itself, after an error that left it full."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


@checked
def halved(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``forward(x)`` of a batch, or of its halves where the memory does not suffice. Not for training, which has a state.

    Raises :class:`UnavailableError` where it does not suffice for one image.
    """
    try:
        return forward(x)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if len(x) == 1:
            raise no_memory(error, 1) from None
    free_memory()
    return torch.cat([halved(forward, part) for part in x.tensor_split(2)])


@checked
def no_memory(error: BaseException, images: int = 0) -> UnavailableError:
    """The error of a network that does not fit into the memory, even with ``images`` at a time."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    given = f"{images} images at a time; {reason}" if images else reason
    todo = "choose a smaller --image-size or --backbone, or --device cpu"
    return UnavailableError("the memory does not suffice for the network and its images", given=given, todo=todo)


@checked
def oriented(x: Tensor, views: int, sides: int = 0) -> Iterator[Tensor]:
    """``views`` (0 as 1) orientations of images (B, C, H, W) or volumes (B, C, D, H, W), the first as they are.

    ``sides``: 2 of images, 3 of volumes; needed for cases of several (B, V, C, …), whose images are turned alike.

    2: and mirrored left to right. 4: each also upside down. 8: each also with rows and columns exchanged, so that all
    eight orientations of a square are there; of volumes, each also along the depth.
    """
    return _orientations(x, views, sides)


def _orientations(x: Tensor, views: int, sides: int) -> Iterator[Tensor]:
    for mirrored in (x, x.flip(-1))[: 2 if views >= 2 else 1]:
        for turned in (mirrored, mirrored.flip(-2))[: 2 if views >= 4 else 1]:
            yield turned
            if views == 8:
                yield turned.flip(-3) if (sides or x.ndim - 2) == 3 else turned.transpose(-1, -2)


@checked
def mean_over(forward: Callable[[Tensor], Tensor], x: Tensor, views: int, sides: int = 0) -> Tensor:
    """The mean of ``forward`` over the orientations of :func:`oriented`, in float32."""
    memory = torch.contiguous_format if sides else _memory(x)  # the images of cases are laid out when taken apart
    outputs = [halved(forward, view.contiguous(memory_format=memory)).float() for view in oriented(x, views, sides)]
    return torch.stack(outputs).mean(dim=0) if views > 1 else outputs[0]


def _memory(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.ndim == 5 else torch.channels_last


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
def choose_precision(
    wanted: str, device: str, seconds: Callable[[str], float], *, timed: bool = True
) -> tuple[str, str]:
    """The precision of the forward pass and the reason: ``wanted``, or what ``seconds(precision)`` finds quicker.

    A CPU without native bfloat16 is 9 to 14 times slower with it, so nothing is assumed. ``timed``: whether a clock may decide, as
    it does where there is a budget; elsewhere a CPU that does other work, too, would give a study other bytes than one that is idle.
    """
    if wanted != "auto":
        return wanted, "asked for"
    if device == "cpu" and not timed:
        return "float32", "without a budget no clock decides, so that the same seed gives the same bytes; --set precision=bfloat16 may be quicker"  # fmt: skip
    if device == "cpu" and not _cpu_bfloat16():
        return "float32", "this CPU does not calculate in bfloat16"
    return min(("float32", "bfloat16"), key=seconds), "the quicker in a probe on this machine"


def _cpu_bfloat16() -> bool:
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(capability())


@checked
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


@checked
def compile_in_place(network: torch.nn.Module) -> None:
    """Let :func:`torch.compile` make the network's passes; its weights and their names stay what they are.

    Raises :class:`UnavailableError` where nothing can be compiled on this machine.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=next(network.parameters()).device))
    except (RuntimeError, ImportError, OSError) as error:
        raise UnavailableError("torch cannot compile on this machine", given=str(error).partition("\n")[0][:200],
                               todo="install a C++ compiler (gcc or clang; Triton for a graphics card), or leave out --set compile=true") from error  # fmt: skip
    network.compile()


@checked
def choose_threads(seconds: Callable[[], float], most: int) -> int:
    """Set torch to as many threads as take the fewest ``seconds()``: all of ``most``, half of them …, one; gives it.

    On a machine that does other work, threads wait for one another: two on two busy cores were seen seven times slower
    than one.
    """
    tried = {}
    count = most
    while count >= 1:
        torch.set_num_threads(count)
        tried[count] = seconds()
        count //= 2
    best = min(tried, key=lambda each: (tried[each], -each))
    torch.set_num_threads(best)
    return best


@checked
def autocast(device: str, precision: str) -> torch.autocast:
    """The context of a forward pass in ``precision``."""
    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, precision), enabled=precision != "float32")


@checked
def layout(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """The network on its device, channels last in memory."""
    solid = any(isinstance(part, torch.nn.Conv3d) for part in network.modules())
    memory = torch.channels_last_3d if solid else torch.channels_last
    return network.to(device).to(memory_format=memory)  # type: ignore[call-overload]


@checked
def for_inference(network: torch.nn.Module, device: str, sample: torch.Tensor) -> torch.nn.Module:
    """A copy of the network that only predicts, on its device, channels last: batch norms are folded into the convolutions before them.

    A norm that no longer moves is one more factor and offset of each filter (the weights of a convolution are scaled by γ / √(σ² + ε)), so that
    the outputs are the same but for rounding, in .6 to .95 of the time. ``sample``, any input, of which one image is looked at: by it the norms are
    found that take a convolution's output, and the copy is held to the network's own outputs; where it does not run, or they differ by more than
    rounding, the network as it is. Raises :class:`UnavailableError` where the memory does not suffice for one image.
    """
    placed, sample = layout(network, device).eval(), sample[:1].to(device)
    exact = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, allow_tf32=False
    )  # its rounding would hide a gap
    with torch.inference_mode(), exact:
        wanted = halved(placed, sample)
        made = _folded(placed, sample, device)
        try:
            gap = float((made(sample) - wanted).abs().max()) if made is not placed else 0.0
        except (AttributeError, TypeError, ValueError, OverreadError):  # it asks its norms for what their fold has not
            return placed
        except RuntimeError as error:
            if not out_of_memory(error):
                return placed
            raise no_memory(error, 1) from None
    return made if gap <= _ROUNDING * max(1.0, float(wanted.abs().max())) else placed


#: A gap between the outputs of a network and of its folded copy, of the largest output, that is rounding.
_ROUNDING = 1e-4


def _folded(network: torch.nn.Module, sample: torch.Tensor, device: str) -> torch.nn.Module:
    """A copy with the norms folded that can be; the network itself where none can."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    made = copy.deepcopy(network)
    pairs = _normed_convolutions(made, sample)
    parents = {id(child): (parent, name) for parent in made.modules() for name, child in parent.named_children()}
    for convolution, norm in pairs:
        rest = torch.nn.Sequential(OrderedDict(norm.named_children()))  # timm's norms hold their activation
        for part, new in ((convolution, fuse_conv_bn_eval(convolution, norm)), (norm, rest)):
            parent, name = parents[id(part)]
            setattr(parent, name, new)
    return layout(made, device).eval() if pairs else network


def _normed_convolutions(network: torch.nn.Module, sample: torch.Tensor) -> list[tuple[Any, Any]]:
    """Convolutions whose output one batch norm takes, each time they run, and that norm."""
    made: dict[int, tuple[torch.nn.Module, weakref.ref[torch.Tensor]]] = {}
    taken, calls = dict[tuple[Any, Any], int](), Counter[Any]()

    def left(part: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
        calls[part] += 1
        made[id(output)] = part, weakref.ref(output)  # not held: those of a large image take memory

    def given(norm: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls[norm] += 1
        found = made.get(id(inputs[0])) if inputs else None
        if found is not None and found[1]() is inputs[0]:
            taken[found[0], norm] = taken.get((found[0], norm), 0) + 1

    hooks = [
        part.register_forward_hook(left)
        for part in network.modules()
        if type(part) in (torch.nn.Conv2d, torch.nn.Conv3d)
    ]
    hooks += [part.register_forward_pre_hook(given) for part in network.modules()
              if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d) and part.running_mean is not None]  # fmt: skip
    try:
        network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (convolution, norm) for (convolution, norm), many in taken.items() if many == calls[convolution] == calls[norm]
    ]
