"""Published weights from a folder, the user's store, or the hub: checked by name and shape, never half loaded.

A file belongs to the backbone whose name it begins with (``squeezenet1_0_imagenet.safetensors``). Beside it may lie a
side-car of the same stem, ``.json``, with name, licence, source and SHA-256, which :func:`add` writes. Nothing is
unpickled: ``.pth`` goes through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overread.errors import InputError, UnavailableError, checked, nearest, one_of, require
from overread.learning.backbones import BACKBONES, Backbone, build
from overread.progress import Progress, silent
from overread.record import publish, read_json, sha256_file, write_json

if TYPE_CHECKING:
    import torch

    import overread.learning.networks

#: Largest header of a safetensors file and most tensors in it; the largest real networks have some thousands.
MAX_HEADER = 25_000_000
MAX_TENSORS = 100_000
#: Largest file that is fetched.
MAX_BYTES = 2_000_000_000

_ENDINGS = (".safetensors", ".pth", ".pt")
_WAYS = (
    "point --weights at a folder that holds them, add a file with `overread weights add FILE`, "
    "or do without: `--recipe scratch`"
)


@dataclass(frozen=True)
class Place:
    """A folder that is searched for weights, in the order of :func:`where`."""

    label: str
    path: Path
    exists: bool


@dataclass(frozen=True)
class Found:
    """A file of weights for the backbone ``name``: where it lies and what its side-car says, '' where it does not."""

    name: str
    path: Path
    place: str
    licence: str = ""
    source: str = ""
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Report:
    """What :func:`load_into` did: tensors loaded, left fresh, and left out of the file, and where they came from."""

    name: str
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    licence: str
    source: str
    sha256: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {len(self.loaded)} tensors from {self.source}; " + "; ".join(self.notes)


def store() -> Path:
    """The user's own folder of weights; it need not exist yet."""
    import platformdirs

    return platformdirs.user_data_path("overread") / "weights"


@checked
def where(*, folder: str | os.PathLike[str] | None = None) -> tuple[Place, ...]:
    """The places that are searched, first to last: ``--weights``, ``OVERREAD_WEIGHTS``, the user's store.

    >>> [place.label for place in where(folder=".")][0]
    '--weights'
    """
    places = [("--weights", Path(folder))] if folder is not None else []
    if os.environ.get("OVERREAD_WEIGHTS"):
        places.append(("OVERREAD_WEIGHTS", Path(os.environ["OVERREAD_WEIGHTS"])))
    places.append(("store", store()))
    return tuple(Place(label, path.expanduser(), path.expanduser().exists()) for label, path in places)


def belongs_to(filename: str) -> str | None:
    """The backbone that a file name begins with, the longest if several do, or None.

    >>> belongs_to("mobilenet_v3_small-047dcff4.pth"), belongs_to("vgg16_bn-6c64b313.pth"), belongs_to("notes.pth")
    ('mobilenet_v3_small', None, None)
    """
    stem = Path(filename).name.lower()
    fits = [name for name in BACKBONES if re.match(rf"{name}(?![a-z0-9]|_bn)", stem)]
    return max(fits, key=len, default=None)


@checked
def find(name: str, *, folder: str | os.PathLike[str] | None = None) -> Found | None:
    """The first file of weights of a backbone in the places of :func:`where`; None if there is none.

    ``folder`` may be one file, which is then taken whatever its name. Raises :class:`InputError` if it is missing.
    """
    one_of(name, BACKBONES, "the backbone")
    if folder is not None and not Path(folder).expanduser().exists():
        raise InputError("the folder of weights does not exist", given=str(folder), todo="check --weights")
    for place in where(folder=folder):
        if place.label == "--weights" and place.path.is_file():
            return _found(name, place.path, place.label)
        for path in _files(place.path):
            if belongs_to(path.name) == name:
                return _found(name, path, place.label)
    return None


@checked
def listing(*, folder: str | os.PathLike[str] | None = None) -> tuple[Found, ...]:
    """Every file of weights at hand, place by place."""
    found = []
    for place in where(folder=folder):
        for path in _files(place.path):
            name = belongs_to(path.name)
            if name is not None:
                found.append(_found(name, path, place.label))
    return tuple(found)


def _files(folder: Path) -> list[Path]:
    """Weight files of a folder, safetensors first, then by name."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.suffix in _ENDINGS and path.is_file()]
    return sorted((f for f in files if not f.name.startswith(".")), key=lambda f: (_ENDINGS.index(f.suffix), f.name))


def _found(name: str, path: Path, place: str) -> Found:
    beside = path.with_suffix(".json")
    says = read_json(beside) if beside.is_file() else {}
    if not isinstance(says, dict):
        raise InputError("the side-car of the weights does not hold a table of fields", given=beside.name)
    text = {key: str(says.get(key) or "") for key in ("licence", "source", "sha256")}
    return Found(name, path, place, bytes=path.stat().st_size, **text)


@checked
def get(
    name: str, *, folder: str | os.PathLike[str] | None = None, network: bool = True, timeout: float = 5.0,
    progress: Progress = silent,
) -> Found:  # fmt: skip
    """Weights of a backbone: from the places of :func:`where`, else fetched once into the store.

    The hub gets one try; ``timeout`` in seconds bounds the wait for its answer and for each block. Raises
    :class:`UnavailableError`, one line with the ways around, if there are none.
    """
    require(timeout > 0, "timeout must be positive seconds", given=timeout)
    found = find(name, folder=folder)
    if found is not None:
        return found
    row = BACKBONES[name]
    if not row.url:
        raise UnavailableError(
            f"there are no published weights of {name}: it is trained from scratch",
            todo="use `--recipe scratch`, choose another --backbone, or point --weights at a file of yours",
        )
    searched = ", ".join(f"{place.label} {place.path}" for place in where(folder=folder))
    if not network:
        raise UnavailableError(f"no weights of {name} at hand", given=f"searched {searched}", todo=_WAYS)
    try:
        return _fetch(row, timeout=timeout, progress=progress)
    except (OSError, _Refused) as error:
        raise UnavailableError(
            f"no weights of {name} at hand, and they cannot be fetched", given=f"searched {searched}; {_why(error)}",
            todo=_WAYS,
        ) from error  # fmt: skip


class _Refused(Exception):
    """What came from the hub is not what was asked for."""


def _why(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split()) or type(reason).__name__


def _fetch(row: Backbone, *, timeout: float, progress: Progress) -> Found:
    """Download, check, convert and publish into the store."""
    folder = store()
    folder.mkdir(parents=True, exist_ok=True)
    response = _open(row.url, timeout)
    with response, tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        path = Path(scratch) / Path(row.url).name
        _download(response, path, f"fetching {row.name}", progress)
        said = re.search(r"-([0-9a-f]{8})\.pth$", row.url)
        if said and not sha256_file(path).startswith(said[1]):
            raise _Refused("the file that came is damaged: its SHA-256 is another")
        return _adopt(path, row.name, f"{row.name}_imagenet", licence=row.licence, source=row.url)


def _open(url: str, timeout: float) -> Any:
    """The hub's answer, or TimeoutError: in a thread, since no time-out covers looking up a name."""
    import queue
    import threading
    import urllib.request

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=timeout))
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    if isinstance(answer, ValueError):
        raise _Refused(str(answer)) from answer
    if isinstance(answer, OSError):
        raise answer
    return answer


def _download(response: Any, path: Path, what: str, progress: Progress) -> None:
    import http.client

    total = int(response.headers.get("Content-Length") or 0)
    done = 0
    try:
        with open(path, "wb") as out:
            while block := response.read(1 << 20):
                done += len(block)
                if max(done, total) > MAX_BYTES:
                    raise _Refused(f"the file is larger than {MAX_BYTES // 10**9} GB")
                out.write(block)
                progress(what, done, max(done, total))
    except http.client.HTTPException as error:
        raise _Refused(f"the connection broke: {_why(error)}") from error
    if total and done != total:
        raise _Refused(f"the connection broke after {done} of {total} bytes")


@checked
def add(path: str | os.PathLike[str], name: str | None = None, licence: str = "", source: str = "") -> Found:
    """Copy a file of weights into the user's store, as safetensors with a side-car, after checking that it fits.

    ``name`` is the backbone, by default read from the file's name. Raises :class:`InputError` if the file is broken
    or does not fit the backbone by name and shape; then the store is as before.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError("the file of weights does not exist", given=str(path), todo="check the path")
    name = name or belongs_to(path.name)
    if name is None:
        raise InputError(
            "the file's name does not begin with a backbone's", given=path.name,
            todo="say which it is with --name; `overread weights list` knows the names",
        )  # fmt: skip
    one_of(name, BACKBONES, "the backbone")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)
    stem = stem if belongs_to(stem) == name else f"{name}_{stem}"
    return _adopt(path, name, stem, licence=licence, source=source or path.name)


def _adopt(path: Path, name: str, stem: str, *, licence: str, source: str) -> Found:
    """Check weights against their backbone and publish them in the store with their side-car."""
    import torch
    from safetensors.torch import save_file

    with _Tensors(path) as tensors:
        outputs = 1000
        with torch.device("meta"):
            network = build(name, outputs=outputs, channels=_channels(name, tensors.shapes))
        _plan(network, tensors.shapes, path.name)
        kept = {key: tensors[key].contiguous().clone() for key in tensors.shapes}
        licence = licence or tensors.metadata.get("licence") or tensors.metadata.get("license") or ""
    target = store() / f"{stem}.safetensors"
    with publish(target) as beside:
        save_file(kept, beside, metadata={"backbone": name, "licence": licence, "source": source})
    write_json(target.with_suffix(".json"), {
        "name": name, "licence": licence, "source": source, "sha256": sha256_file(target), "original": sha256_file(path),
    })  # fmt: skip
    return _found(name, target, "store")


def _channels(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Input channels of the file's first convolution, 3 if it cannot be told."""
    import torch

    with torch.device("meta"):
        network = build(name, outputs=1)
    first = _first_convolution(network)
    shape = next((s for key, s in shapes.items() if _target(key, network) == first and len(s) > 2), ())
    return shape[1] if shape and shape[1] >= 1 else 3


@checked
def load_into(network: overread.learning.networks.Network, found: Found) -> Report:
    """Load weights into a network in place: everything is checked first, so that it is loaded wholly or not at all.

    Every tensor of trunk and neck must be there with the network's shape and finite values. The head stays fresh
    where the file has none or one for other classes. A first convolution for other channels is adapted: its kernels
    are summed over the channels and shared out equally, so that a grey image gives what its RGB copy gave.
    Raises :class:`InputError` and leaves the network as it was if the file is broken, of another network, or not
    what its side-car says.
    """
    import torch

    digest = sha256_file(found.path)
    if found.sha256 and found.sha256 != digest:
        raise InputError(
            "the weights are not those that their side-car describes: the SHA-256 differs", given=found.path.name,
            todo="fetch or add the file again",
        )  # fmt: skip
    with _Tensors(found.path) as tensors:
        plan = _plan(network, tensors.shapes, found.path.name)
        state = network.state_dict()
        ready = {to: _fitted(tensors[key], state[to], key) for to, key in plan.moves.items()}
        metadata = dict(tensors.metadata)
    with torch.no_grad():
        for to, tensor in ready.items():
            state[to].copy_(tensor)
    if plan.published:
        _recentre(network)
    return Report(
        name=network.name, loaded=tuple(plan.moves), fresh=plan.fresh, left_out=plan.left_out,
        licence=found.licence or metadata.get("licence", "") or f"not stated with {found.path.name}",
        source=found.source or found.path.name, sha256=digest, notes=plan.notes,
    )  # fmt: skip


def _fitted(tensor: torch.Tensor, like: torch.Tensor, key: str) -> torch.Tensor:
    """A tensor of the file in the network's type and, for a first convolution, with its channels."""
    import torch

    if tensor.is_floating_point() != like.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise InputError("the weights hold values that are not finite numbers", given=key)
    if tensor.shape != like.shape:
        tensor = (tensor.float().sum(dim=1, keepdim=True) / like.shape[1]).expand_as(like)
    return tensor.to(like.dtype)


def _recentre(network: overread.learning.networks.Network) -> None:
    """GoogLeNet and Inception were trained with mean and deviation .5: translate from ImageNet's, per channel."""
    import torch

    if not hasattr(network, "input_scale"):
        return
    scale = torch.tensor([0.229, 0.224, 0.225]) / 0.5  # torchvision/models/inception.py, _transform_input
    shift = (torch.tensor([0.485, 0.456, 0.406]) - 0.5) / 0.5
    three = network.channels == 3
    with torch.no_grad():
        network.get_buffer("input_scale").copy_(scale if three else scale.mean())
        network.get_buffer("input_shift").copy_(shift if three else shift.mean())


@dataclass(frozen=True)
class _Plan:
    moves: dict[str, str]  # name in the network → name in the file
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    published: bool  # names are the library's, not ours
    wrong: tuple[str, ...] = field(default=())


def _plan(network: Any, shapes: Mapping[str, tuple[int, ...]], file: str) -> _Plan:
    """Which tensor goes where, from names and shapes alone; raises :class:`InputError` if they do not fit."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    first = _first_convolution(network)
    moves: dict[str, str] = {}
    left_out, wrong, notes = [], [], []
    for key, shape in shapes.items():
        to = _target(key, network)
        if to in wanted and wanted[to] == shape:
            moves[to] = key
        elif to == first and len(shape) == len(wanted[to]) and _but_channels(shape) == _but_channels(wanted[to]):
            moves[to] = key
            notes.append(f"first layer adapted from {shape[1]} to {wanted[to][1]} input channels")
        elif to.startswith("head.") or _may_be_left_out(key, network):
            left_out.append(key)
        elif to in wanted:
            wrong.append(f"{key!r} has shape {list(shape)}, the network wants {list(wanted[to])}")
        else:
            wrong.append(f"{key!r} is not in the network ({nearest(to, wanted)})")
    fresh = [key for key in wanted if key not in moves]
    if any(key.startswith("head.") for key in fresh):  # both or none
        left_out += [moves.pop(key) for key in list(moves) if key.startswith("head.")]
        fresh = [key for key in wanted if key not in moves]
    wrong += [f"{key!r} is missing" for key in fresh if not _may_stay_fresh(key)]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(
            f"the weights do not fit {network.name}", given=f"{file}: {'; '.join(wrong[:3])}{more}",
            todo="choose the backbone that they belong to, or other weights",
        )  # fmt: skip
    notes += _said(fresh, left_out)
    published = any(not key.startswith(("trunk.", "neck.")) for key in moves.values())
    return _Plan(moves, tuple(fresh), tuple(left_out), tuple(notes), published)


def _said(fresh: list[str], left_out: list[str]) -> Iterator[str]:
    if any(key.startswith("head.") for key in fresh):
        yield "the head is fresh"
    if left_out:
        roots = dict.fromkeys(key.rpartition(".")[0] for key in left_out)
        shown = ", ".join(list(roots)[:3]) + (" …" if len(roots) > 3 else "")
        yield f"left out of the file: {shown} ({len(left_out)} tensors: its own classes or auxiliary heads)"


def _but_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + shape[2:]


def _first_convolution(network: torch.nn.Module) -> str:
    import torch

    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    return next((f"{name}.weight" for name, m in network.named_modules() if isinstance(m, kinds)), "")


# torchvision's DenseNet files have names that modules may not have any more (torchvision/models/densenet.py)
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def _target(key: str, network: Any) -> str:
    """The network's name for a tensor of the file: its own names, or the library's."""
    key = _OLD_DENSENET.sub(r"\1\2", key.removeprefix("module."))
    part, _, last = key.rpartition(".")
    if part == network.original and part:
        return f"head.{last}"
    for prefix in ("", "trunk.", "neck."):
        root = (prefix + key).split(".")
        if len(root) > 1 and (root[0] == "head" and not prefix or _has(network, root[:2])):
            return prefix + key
    return key


def _has(network: torch.nn.Module, path: list[str]) -> bool:
    part: Any = network
    for name in path:
        part = getattr(part, "_modules", {}).get(name)
        if part is None:
            return False
    return True


def _may_be_left_out(key: str, network: Any) -> bool:
    """The file's classification layer and the auxiliary heads of GoogLeNet and Inception."""
    part = key.removeprefix("module.").rpartition(".")[0]
    return part == network.original or key.startswith(("AuxLogits.", "aux1.", "aux2."))


def _may_stay_fresh(key: str) -> bool:
    return key.startswith(("head.", "input_scale", "input_shift")) or key.endswith("num_batches_tracked")


class _Tensors:
    """A file of weights, open: names, shapes, metadata, and one tensor at a time. Use in a ``with``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __enter__(self) -> _Tensors:
        if self._path.suffix == ".safetensors":
            self._open_safetensors()
        else:
            self._open_pickle()
        require(bool(self.shapes), "the file of weights holds no tensors", given=self._path.name)
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors: Any = None

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._tensors[key] if isinstance(self._tensors, dict) else self._tensors.get_tensor(key)

    def _open_safetensors(self) -> None:
        from safetensors import SafetensorError, safe_open

        _check_header(self._path)
        try:
            self._tensors = safe_open(self._path, framework="pt")
            self.metadata = dict(self._tensors.metadata() or {})
            self.shapes = {key: tuple(self._tensors.get_slice(key).get_shape()) for key in self._tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError("the file of weights is broken", given=f"{self._path.name}: {error}") from error

    def _open_pickle(self) -> None:
        import pickle
        import warnings

        import torch

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = torch.load(self._path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, OSError,
                AttributeError, IndexError, ImportError) as error:  # fmt: skip
            raise InputError(
                "the file is not plain weights, so it is not opened", given=self._path.name,
                todo="save the state dict alone, as .safetensors or with torch.save",
            ) from error  # fmt: skip
        for inner in ("state_dict", "model"):
            if isinstance(value, dict) and isinstance(value.get(inner), dict):
                value = value[inner]
        self._tensors = {k: v for k, v in value.items() if torch.is_tensor(v)} if isinstance(value, dict) else {}
        self.shapes = {key: tuple(tensor.shape) for key, tensor in self._tensors.items()}


def _check_header(path: Path) -> None:
    """Refuse a header that is too long or names too many tensors, before anything else reads it."""
    import json

    size = path.stat().st_size
    with open(path, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise InputError(
                "the file of weights is broken or refused: its header does not fit", given=f"{path.name}: {length} bytes"
            )
        text = handle.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("the file of weights is broken: its header is not JSON", given=path.name) from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise InputError("the file of weights is refused: too many tensors", given=path.name)
