"""State dicts: opened without unpickling, checked by name and shape, loaded wholly or not at all."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overread.core.errors import InputError, checked
from overread.core.files import require_file
from overread.networks.backbones import torchvision_names

if TYPE_CHECKING:
    import torch

    import overread.networks.small

#: Longest header of a safetensors file, in bytes, and most tensors; real ones have some thousands.
MAX_HEADER = 25_000_000
MAX_TENSORS = 20_000


@dataclass(frozen=True)
class Plan:
    """Which tensor of a file goes where."""

    moves: dict[str, str]  # name in the network → name in the file
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@checked
def fill(network: overread.networks.small.Network, path: Path) -> tuple[Plan, dict[str, str]]:
    """Load a file of weights into a network in place; the plan that was followed, and the file's metadata.

    Every tensor of trunk and neck must be there with the network's shape and finite values. The head stays fresh where
    the file has none or one for other classes. A first convolution for other channels is adapted: its kernels are
    summed over the channels and shared out equally, so that a grey image gives what its RGB copy gave. Raises
    :class:`InputError` and leaves the network as it was if the file is broken or of another network.
    """
    import torch

    with Tensors(path) as tensors:
        plan = plan_for(network, tensors.shapes, path.name)
        state = network.state_dict()
        ready = {to: _fitted(tensors[key], state[to], key) for to, key in plan.moves.items()}
        metadata = dict(tensors.metadata)
    with torch.no_grad():
        for to, tensor in ready.items():
            state[to].copy_(tensor)
    return plan, metadata


def _fitted(tensor: torch.Tensor, like: torch.Tensor, key: str) -> torch.Tensor:
    """A tensor of the file in the network's type and, for a first convolution, with its channels."""
    import torch

    if tensor.is_floating_point() != like.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise InputError("the weights hold values that are not finite numbers", given=key)
    if tensor.numel() == like.numel():
        tensor = tensor.reshape(like.shape)  # a dense layer of torchvision is a convolution in timm
    else:
        tensor = (tensor.float().sum(dim=1, keepdim=True) / like.shape[1]).expand_as(like)
    return tensor.to(like.dtype)


@checked
def plan_for(network: overread.networks.small.Network, shapes: Mapping[str, tuple[int, ...]], file: str) -> Plan:
    """Which tensor goes where, from names and shapes alone; raises :class:`InputError` if they do not fit."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    first = _first_convolution(network)
    moves: dict[str, str] = {}
    left_out: list[str] = []
    wrong: list[tuple[str, str]] = []
    notes: list[str] = []
    for key, shape in shapes.items():
        to = _target(key, wanted, network)
        if wanted.get(to) == shape or (to in wanted and to not in _HEAD and math.prod(shape) == math.prod(wanted[to])):
            moves[to] = key
        elif to == first and _adaptable(shape, wanted[to]):
            moves[to] = key
            notes.append(f"first layer adapted from {shape[1]} to {wanted[to][1]} input channels")
        elif to in _HEAD or key.startswith(_AUXILIARY):
            left_out.append(key)
        else:
            wrong.append((key, to))
    if not all(key in moves for key in _HEAD):  # both or none
        left_out += [moves.pop(key) for key in _HEAD if key in moves]
    fresh = [key for key in wanted if key not in moves]
    missing = [key for key in fresh if not key.startswith(_FRESH) and not key.endswith(_COUNT)]
    if wrong or missing:
        raise _refusal(network.name, file, [_misfit(*w, shapes, wanted) for w in wrong[:3]], len(wrong), missing)
    notes += _said(fresh, left_out)
    return Plan(moves, tuple(fresh), tuple(left_out), tuple(notes))


@checked
def renamed(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a model that an earlier overread saved, under the names that its network has today.

    Until overread 0.1 most networks were torchvision's, which names layers otherwise; GoogLeNet and Inception
    multiplied and shifted their images first, which their network goes on doing. What fits is returned as it is.
    """
    wanted = network.state_dict()
    if set(tensors) == set(wanted):
        return dict(tensors)
    body = "body." if any(key.startswith("body.") for key in wanted) else ""  # under a head on several layers
    inner = network.get_submodule(body.rstrip("."))
    scale, shift = tensors.get(f"{body}input_scale"), tensors.get(f"{body}input_shift")
    if scale is not None and shift is not None and scale.shape == shift.shape == (inner.channels,):
        inner.recentre(scale, shift)  # type: ignore[operator]
    shapes = {key: value.shape for key, value in inner.state_dict().items()}
    found = {}
    for key, tensor in tensors.items():
        to = _target(key.removeprefix(body), shapes, inner) if key.startswith(body) else ""
        fits = to in shapes and tensor.numel() == shapes[to].numel()
        found[body + to if fits else key] = tensor.reshape(shapes[to]) if fits else tensor
    return found


@checked
def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Every tensor of a safetensors file, and its metadata. Raises :class:`InputError` as :class:`Tensors` does."""
    with Tensors(Path(path)) as tensors:
        return {name: tensors[name] for name in tensors.shapes}, tensors.metadata


@checked
def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; a full disk raises OSError, as it does in any other write, so call it within ``publish``."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, dict(metadata))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _refusal(name: str, file: str, misfits: list[str], wrong: int, missing: list[str]) -> InputError:
    first = [*misfits, *(f"{key!r} is missing" for key in missing[:3])][:3]
    more = wrong + len(missing) - len(first)
    given = f"{file}: {'; '.join(first)}" + (f"; and {more} more" if more else "")
    todo = "choose the backbone that they belong to, or other weights"
    return InputError(f"the weights do not fit {name}", given=given, todo=todo)


_HEAD = ("head.weight", "head.bias")
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # of Inception and GoogLeNet
_FRESH = (*_HEAD, "input_scale", "input_shift")
_COUNT = "num_batches_tracked"  # absent from old files
# torchvision's DenseNet files have names that modules may not have any more (torchvision/models/densenet.py)
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def _target(key: str, wanted: Mapping[str, object], network: Any) -> str:
    """The network's name for a tensor of a file, which has our names, today's or earlier, or a library's."""
    if key in wanted:
        return key
    key = _OLD_DENSENET.sub(r"\1\2", key.removeprefix("module.").removeprefix("trunk.").removeprefix("neck."))
    if f"trunk.{key}" not in wanted:
        key = torchvision_names(network.name).get(key, key)
    layer, _, last = key.rpartition(".")
    if layer and layer == network.original:
        return f"head.{last}"
    return next((name for name in (key, f"trunk.{key}", f"neck.{key}") if name in wanted), key)


def _misfit(key: str, to: str, shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    if to in wanted:
        return f"{key!r} has shape {list(shapes[key])}, the network wants {list(wanted[to])}"
    close = difflib.get_close_matches(to, wanted, n=1, cutoff=0.8) if len(to) < 200 else []
    return f"{key[:80]!r} is not in the network" + (f" (did you mean {close[0]!r}?)" if close else "")


def _said(fresh: list[str], left_out: list[str]) -> Iterator[str]:
    if _HEAD[0] in fresh:
        yield "the head is fresh"
    if left_out:
        layers = list(dict.fromkeys(key.rpartition(".")[0] for key in left_out))
        shown = ", ".join(layers[:3]) + (" …" if len(layers) > 3 else "")
        yield f"left out of the file: {shown} ({len(left_out)} tensors of its own classes or auxiliary heads)"


def _adaptable(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Kernels that differ in their input channels alone."""
    return len(shape) > 2 and shape[1] >= 1 and shape[:1] + shape[2:] == wanted[:1] + wanted[2:]


def _first_convolution(network: torch.nn.Module) -> str:
    import torch

    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    return next((f"{name}.weight" for name, part in network.named_modules() if isinstance(part, kinds)), "")


class Tensors:
    """A file of weights, open: names, shapes, metadata, and one tensor at a time. Use in a ``with``.

    Raises :class:`InputError` for a file that is broken, holds no tensors, or would have to be unpickled.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tensors: Any = None
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __enter__(self) -> Tensors:
        (self._open_safetensors if self._path.suffix == ".safetensors" else self._open_pickle)()
        if not self.shapes:
            raise InputError("the file of weights holds no tensors", given=self._path.name)
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors = None

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._tensors[key] if isinstance(self._tensors, dict) else self._tensors.get_tensor(key)

    def _open_safetensors(self) -> None:
        from safetensors import SafetensorError, safe_open

        check_header(self._path)
        try:
            self._tensors = opened = safe_open(self._path, framework="pt")
            self.metadata = dict(opened.metadata() or {})
            self.shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError("the file of weights is broken", given=f"{self._path.name}: {error}") from error

    def _open_pickle(self) -> None:
        import torch

        value = _plain_pickle(self._path)
        for inner in ("state_dict", "model"):
            if isinstance(value, dict) and isinstance(value.get(inner), dict):
                value = value[inner]
        items = value.items() if isinstance(value, dict) else ()
        self._tensors = {str(key): tensor for key, tensor in items if torch.is_tensor(tensor)}
        self.shapes = {key: tuple(tensor.shape) for key, tensor in self._tensors.items()}


def _plain_pickle(path: Path) -> Any:
    """What torch reads without running any code of the file."""
    import pickle
    import warnings

    import torch

    require_file(path)
    refusals = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, LookupError, OSError,
                AttributeError, ImportError, AssertionError)  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except refusals as error:
        todo = "save the state dict alone, as .safetensors or with torch.save"
        raise InputError("the file is not plain weights, so it is not opened", given=path.name, todo=todo) from error


@checked
def check_header(path: Path) -> None:
    """Refuse a header that is too long or names too many tensors, before anything parses it."""
    try:
        size = require_file(path).stat().st_size
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            fits = size > 8 and length <= min(MAX_HEADER, size - 8)
            header = handle.read(length) if fits else b""
    except OSError as error:
        raise InputError("the file of weights cannot be read", given=f"{path.name}: {error.strerror}") from error
    if not fits:
        given = f"{path.name}: {length} bytes of {size}"
        raise InputError("the file of weights is broken or refused: its header does not fit", given=given)
    if header.count(b'"dtype"') > MAX_TENSORS:
        raise InputError("the file of weights is refused: too many tensors", given=path.name)
