"""Published weights from a folder, the user's store, or the hub: checked, and never half loaded.

A file belongs to the backbone whose name it begins with (``squeezenet1_0_imagenet.safetensors``). Beside it
may lie a side-car of the same stem, ``.json``, with name, licence, source and SHA-256, which :func:`add`
writes. Nothing is unpickled: ``.pth`` goes through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overread.core.errors import InputError, UnavailableError, checked, one_of, require
from overread.core.files import publish, read_json, sha256_file, write_json
from overread.core.progress import Progress, silent
from overread.networks.backbones import BACKBONES, Backbone, build
from overread.networks.state_dict import Tensors, fill, plan_for

if TYPE_CHECKING:
    import overread.networks.small

#: Largest file that is fetched.
MAX_BYTES = 2_000_000_000

_ENDINGS = (".safetensors", ".pth", ".pt")
_WAYS = (
    "point --weights at a folder that holds them, add a file with `overread weights add FILE`, "
    "or do without: `--recipe scratch`"
)


@dataclass(frozen=True)
class Place:
    """A folder that is searched for weights, in the order of :func:`places`."""

    label: str
    path: Path
    exists: bool


@dataclass(frozen=True)
class Found:
    """A file of weights for the backbone ``name``; what its side-car does not say is ''."""

    name: str
    path: Path
    place: str
    licence: str = ""
    source: str = ""
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Report:
    """What :func:`load_into` did: tensors loaded, left fresh, left out of the file, and where from."""

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


def where() -> Path:
    """The store: the user's own folder of weights, which need not exist yet."""
    import platformdirs

    return platformdirs.user_data_path("overread") / "weights"


@checked
def places(*, folder: str | os.PathLike[str] | None = None) -> tuple[Place, ...]:
    """The places that are searched, first to last: ``--weights``, ``OVERREAD_WEIGHTS``, the user's store.

    >>> [place.label for place in places(folder=".")][0]
    '--weights'
    """
    found = [("--weights", Path(folder))] if folder is not None else []
    if os.environ.get("OVERREAD_WEIGHTS"):
        found.append(("OVERREAD_WEIGHTS", Path(os.environ["OVERREAD_WEIGHTS"])))
    found.append(("store", where()))
    return tuple(Place(label, path.expanduser(), path.expanduser().exists()) for label, path in found)


@checked
def belongs_to(filename: str) -> str | None:
    """The backbone that a file name begins with, the longest if several do, or None.

    >>> belongs_to("mobilenet_v3_small-047dcff4.pth"), belongs_to("vgg16_bn-6c64b313.pth")
    ('mobilenet_v3_small', None)
    """
    stem = Path(filename).name.lower()
    fits = [name for name in BACKBONES if re.match(rf"{name}(?![a-z0-9]|_bn)", stem)]
    return max(fits, key=len, default=None)


@checked
def find(name: str, *, folder: str | os.PathLike[str] | None = None) -> Found | None:
    """The first file of weights of a backbone in the places of :func:`places`; None if there is none.

    ``folder`` may be one file. Raises :class:`InputError` if it is missing, or a file that no backbone's
    name begins.
    """
    one_of(name, BACKBONES, "the backbone")
    _check_folder(folder)
    for place in places(folder=folder):
        for path in _files(place.path):
            if belongs_to(path.name) == name:
                return _found(name, path, place.label)
    return None


@checked
def listing(*, folder: str | os.PathLike[str] | None = None) -> tuple[Found, ...]:
    """Every file of weights at hand, place by place."""
    found = []
    for place in places(folder=folder):
        for path in _files(place.path):
            name = belongs_to(path.name)
            if name is not None:
                found.append(_found(name, path, place.label))
    return tuple(found)


def _check_folder(folder: str | os.PathLike[str] | None) -> None:
    path = Path(folder or ".").expanduser()
    if not path.exists():
        raise InputError("the folder of weights does not exist", given=str(folder), todo="check --weights")
    if path.is_file() and (path.suffix not in _ENDINGS or belongs_to(path.name) is None):
        raise _nameless(path)


def _nameless(path: Path) -> InputError:
    return InputError(
        "the file's name does not begin with a backbone's, as in resnet50_mine.safetensors", given=path.name,
        todo="rename it, or `overread weights add FILE --name BACKBONE` (`overread recipes` lists them)",
    )  # fmt: skip


def _files(folder: Path) -> list[Path]:
    """Weight files of a folder (or the file itself), safetensors first, then by name."""
    if folder.is_file():
        return [folder]
    files = [path for path in folder.iterdir() if path.suffix in _ENDINGS] if folder.is_dir() else []
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    return sorted(files, key=lambda path: (_ENDINGS.index(path.suffix), path.name))


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
    """Weights of a backbone: from the places of :func:`places`, else fetched once into the store.

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
    searched = ", ".join(f"{place.label} {place.path}" for place in places(folder=folder))
    if not network:
        raise UnavailableError(f"no weights of {name} at hand", given=f"searched {searched}", todo=_WAYS)
    try:
        return _fetch(row, timeout=timeout, progress=progress)
    except (OSError, _Refused) as error:
        raise UnavailableError(
            f"no weights of {name} at hand, and they cannot be fetched",
            given=f"searched {searched}; {_why(error)}", todo=_WAYS,
        ) from error  # fmt: skip


class _Refused(Exception):
    """What came from the hub is not what was asked for."""


def _why(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split()) or type(reason).__name__


def _fetch(row: Backbone, *, timeout: float, progress: Progress) -> Found:
    """Download, check, convert and publish into the store."""
    folder = where()
    response = _open(row.url, timeout)
    folder.mkdir(parents=True, exist_ok=True)
    with response, tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        path = Path(scratch) / Path(row.url).name
        _download(response, path, f"fetching {row.name}", progress)
        said = re.search(r"-([0-9a-f]{8})\.pth$", row.url)
        if said and not sha256_file(path).startswith(said[1]):
            raise _Refused("the file that came is damaged: its SHA-256 is another")
        return _adopt(path, row.name, f"{row.name}_imagenet", licence=row.licence, source=row.url)


def _open(url: str, timeout: float) -> Any:
    """The hub's answer, or TimeoutError: in a thread, since no time-out covers looking up a name."""
    import http.client
    import queue
    import threading
    import urllib.request

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=timeout))
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    if isinstance(answer, Exception):
        raise _Refused(_why(answer)) from answer
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
    """Copy a file of weights into the user's store, as safetensors with a side-car, if it fits.

    ``name`` is the backbone, by default read from the file's name. Raises :class:`InputError` if the file
    is broken or does not fit the backbone by name and shape; then the store is as before.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError("the file of weights does not exist", given=str(path), todo="check the path")
    name = name or belongs_to(path.name)
    if name is None:
        raise _nameless(path)
    one_of(name, BACKBONES, "the backbone")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)
    stem = stem if belongs_to(stem) == name else f"{name}_{stem}"
    return _adopt(path, name, stem, licence=licence, source=source or path.name)


def _adopt(path: Path, name: str, stem: str, *, licence: str, source: str) -> Found:
    """Check weights against their backbone and publish them in the store with their side-car."""
    import torch
    from safetensors.torch import save_file

    with torch.device("meta"):
        network = build(name, outputs=1000)
    with Tensors(path) as tensors:
        plan_for(network, tensors.shapes, path.name)
        kept = {key: tensors[key].contiguous().clone() for key in tensors.shapes}
        licence = licence or tensors.metadata.get("licence", "")
    target = where() / f"{stem}.safetensors"
    with publish(target) as beside:
        save_file(kept, beside, metadata={"backbone": name, "licence": licence, "source": source})
    side_car = {
        "name": name, "licence": licence, "source": source,
        "sha256": sha256_file(target), "original": sha256_file(path),
    }  # fmt: skip
    write_json(target.with_suffix(".json"), side_car)
    return _found(name, target, "store")


@checked
def load_into(network: overread.networks.small.Network, found: Found) -> Report:
    """Load weights into a network in place, wholly or not at all; see :func:`.statedict.fill`.

    Raises :class:`InputError` and leaves the network as it was if the file is broken, of another network,
    or not the one that its side-car describes (SHA-256).
    """
    digest = sha256_file(found.path)
    if found.sha256 and found.sha256 != digest:
        raise InputError(
            "the weights are not those that their side-car describes: the SHA-256 differs",
            given=found.path.name, todo="fetch or add the file again",
        )  # fmt: skip
    plan, metadata = fill(network, found.path)
    return Report(
        name=network.name, loaded=tuple(plan.moves), fresh=plan.fresh, left_out=plan.left_out,
        licence=found.licence or metadata.get("licence", "") or f"not stated with {found.path.name}",
        source=found.source or found.path.name, sha256=digest, notes=plan.notes,
    )  # fmt: skip
