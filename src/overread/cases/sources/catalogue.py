"""Openly licensed public sets that ``overread data get`` fetches: the only place that ever downloads images.

Names, licences, classes and checksums of the MedMNIST family: Yang et al. 2023, "MedMNIST v2 – a large-scale
lightweight benchmark for 2D and 3D biomedical image classification", Scientific Data 10:41, and its release of 2024
with larger sizes.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from overread.core.errors import UnavailableError, checked, nearest, one_of, require
from overread.core.files import folder_lock
from overread.core.progress import Progress, silent

SERVER = "https://zenodo.org/records/10519652/files"
_BLOCK = 1 << 18


@dataclass(frozen=True)
class PublicSet:
    """A public data set: what it shows, its classes, images per part, licence, and an MD5 per size in pixels."""

    name: str
    shows: str
    task: str
    classes: tuple[str, ...]
    channels: int
    images: dict[str, int]
    licence: str
    md5: dict[int, str]

    @property
    def dimensions(self) -> int:
        """2 for images, 3 for volumes."""
        return 3 if self.name.endswith("3d") else 2

    def file(self, size: int = 28) -> str:
        """Name of the file for one size."""
        return f"{self.name}.npz" if size == 28 else f"{self.name}_{size}.npz"

    def bytes(self, size: int = 28) -> int:
        """Bytes of the images before compression: an upper bound of what is fetched."""
        return sum(self.images.values()) * size**self.dimensions * self.channels

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.md5))
        return f"{self.name}: {self.shows}; {sum(self.images.values()):,} images, {len(self.classes)} classes, {sizes} px, {self.licence}"


def _public_set(name: str, about: dict[str, Any]) -> PublicSet:
    md5 = {int(size): md5 for size, md5 in about["md5"].items()}
    return PublicSet(**{**about, "name": name, "classes": tuple(about["classes"]), "md5": md5})


_SETS = json.loads((files("overread.cases.sources") / "medmnist.json").read_text(encoding="utf-8"))
#: Every set that can be fetched, by name.
CATALOGUE: dict[str, PublicSet] = {name: _public_set(name, about) for name, about in _SETS.items()}


@checked
def fetch(
    name: str, folder: str | os.PathLike[str], *, size: int = 28, base_url: str | None = None, timeout: float = 10.0,
    progress: Progress = silent,
) -> Path:  # fmt: skip
    """Fetch a set of the catalogue into ``folder`` and return the file; a file that is there and whole is kept.

    An interrupted download goes on where it stopped. The MD5 is compared with the published one; a file that differs
    is removed. ``size``: side in pixels. ``base_url``: another server with the same files. ``timeout`` in seconds.
    Raises :class:`UnavailableError` without a network (with the way around), or for a wrong checksum.
    """
    one_of(name, CATALOGUE, "the name of the set")
    entry = CATALOGUE[name]
    sizes = ", ".join(map(str, entry.md5))
    require(size in entry.md5, f"{name} does not come in that size", given=size, todo=f"choose from {sizes}")
    require(timeout > 0, "timeout must be positive", given=timeout)
    target, url = Path(folder) / entry.file(size), f"{(base_url or SERVER).rstrip('/')}/{entry.file(size)}"
    with folder_lock(folder, wait=timeout, name=f".{entry.file(size)}.lock"):
        if not (target.exists() and _md5(target) == entry.md5[size]):
            _fetch(url, target, entry.md5[size], timeout, progress)
    return target


def _fetch(url: str, target: Path, md5: str, timeout: float, progress: Progress) -> None:
    part = target.with_name(f"{target.name}.part")
    try:
        _download(url, part, timeout, progress)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise UnavailableError(
            f"{target.name} cannot be fetched", given=_reason(error),
            todo=f"download {url} on a machine with a network, put it in {target.parent}, and run the command again",
        ) from error  # fmt: skip
    if _md5(part) != md5:
        part.unlink()
        what = f"{target.name} arrived damaged and was removed"
        raise UnavailableError(what, given=f"the MD5 is not {md5}", todo="fetch it again")
    os.replace(part, target)


def _download(url: str, part: Path, timeout: float, progress: Progress) -> None:
    require(urllib.parse.urlsplit(url).scheme in ("http", "https"), "only http and https are fetched", given=url)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            resumed = answer.status == 206
            total = int(answer.headers.get("Content-Length") or 0) + (have if resumed else 0)
            _copy(answer, part, have if resumed else 0, total, progress)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing left to send: the part is whole, or damaged, which the checksum tells
            raise


def _copy(answer: http.client.HTTPResponse, part: Path, done: int, total: int, progress: Progress) -> None:
    with open(part, "ab" if done else "wb") as handle:
        while block := answer.read(_BLOCK):
            handle.write(block)
            done += len(block)
            progress("fetching", done, max(done, total))
        handle.flush()
        os.fsync(handle.fileno())
    if total and done < total:  # the connection closed early without an error
        raise ConnectionResetError(f"the connection broke after {done:,} of {total:,} bytes; what arrived is kept")


def _md5(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:200] or type(error).__name__


@checked
def describe(name: str) -> str:
    """One line on a set of the catalogue.

    >>> describe("pneumoniamnist")
    'pneumoniamnist: paediatric chest X-ray; 5,856 images, 2 classes, 28, 64, 128, 224 px, CC BY 4.0'
    """
    require(name in CATALOGUE, "the set is not in the catalogue", given=repr(name), todo=nearest(name, CATALOGUE))
    return str(CATALOGUE[name])
