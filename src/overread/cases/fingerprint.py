"""What every image is, in one pass over the files: hashes, a small likeness, sizes, brightness, or why it failed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, paths
from overread.errors import ImageError, checked, require
from overread.images.read import Image, read_image
from overread.progress import Progress, silent
from overread.record import cores, folder_lock, publish

#: Side of the likeness that near-duplicates are confirmed on.
THUMB = 32
_VERSION = 1  # of the cache: raise it when a column changes its meaning
_CHUNK = 64  # images per task
_EMPTY: dict[str, Any] = {
    "error": "", "digest": "", "pixels": "", "phash": 0, "height": 0, "width": 0, "depth": 0, "channels": 0,
    "bits": 0, "mode": "", "format": "", "mean": float("nan"), "std": float("nan"), "notes": "", "thumb": b"",
}  # fmt: skip
_TYPES = {"phash": np.uint64, "height": np.int64, "width": np.int64, "depth": np.int64, "channels": np.int64,
          "bits": np.int64, "mean": np.float64, "std": np.float64, "thumb": object,
          **dict.fromkeys(("error", "digest", "pixels", "mode", "format", "notes"), str)}  # fmt: skip


@checked
def fingerprint(
    cases: Cases,
    *,
    threads: int = 0,
    progress: Progress = silent,
    cache: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """One row per image of ``cases``, in their order; an image that cannot be read has its reason in ``error``.

    Columns: ``error``, ``digest`` (SHA-256 of the file's bytes), ``pixels`` (hash of what was decoded: equal for equal
    images in different files), ``phash`` (perceptual hash, uint64), ``height``, ``width``, ``depth`` (1 for an image),
    ``channels``, ``bits``, ``mode``, ``format``, ``mean`` and ``std`` (of the full scale, 0 to 1), ``notes``,
    ``thumb`` (a likeness of 32 × 32 bytes). ``cache``: a folder that keeps results by path, size and time of change.
    ``threads`` 0: as many as there are cores. No image stays in memory.
    """
    require(threads >= 0, "threads must not be negative", given=threads)
    addresses = paths(cases)
    keys = _keys(addresses)
    kept = _load(cache)
    fresh = [i for i, key in enumerate(keys) if key not in kept.index]
    made = _all([addresses[i] for i in fresh], threads or cores(), progress)
    made.index = pd.Index([keys[i] for i in fresh])
    if cache is not None and len(made):
        _store(cache, made[made["error"] == ""])
    both = pd.concat([kept, made]) if len(kept) else made
    return both[~both.index.duplicated()].loc[keys].reset_index(drop=True)


def _all(addresses: Sequence[str], threads: int, progress: Progress) -> pd.DataFrame:
    """Rows for all addresses. A few chunks at a time are under way, so that 10⁵ images queue no 10⁵ tasks."""
    rows: list[dict[str, Any]] = []
    chunks = iter([addresses[i : i + _CHUNK] for i in range(0, len(addresses), _CHUNK)])
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(chunks, 2 * threads)):
            for found in pool.map(_some, batch):
                rows.extend(found)
                progress("reading images", len(rows), len(addresses))
    return _typed(pd.DataFrame(rows, columns=list(_EMPTY)))


def _some(addresses: Sequence[str]) -> list[dict[str, Any]]:
    return [describe(address) for address in addresses]


def describe(address: str) -> dict[str, Any]:
    """The row of :func:`fingerprint` for one image."""
    try:
        image = read_image(address)
    except ImageError as error:
        return _EMPTY | {"error": str(error)}
    pixels = image.pixels
    scale = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    grey = flat(pixels)
    small = _likeness(grey)
    return {
        "error": "", "digest": image.digest, "pixels": pixel_hash(pixels), "phash": perceptual_hash(small),
        "height": pixels.shape[-3], "width": pixels.shape[-2], "depth": pixels.shape[0] if pixels.ndim == 4 else 1,
        "channels": pixels.shape[-1], "bits": image.bits, "mode": image.mode, "format": image.format,
        "mean": float(grey.mean(dtype=np.float64)) / scale, "std": _spread(image) / scale, "notes": "; ".join(image.notes),
        "thumb": _stretched(small).tobytes(),
    }  # fmt: skip


def _spread(image: Image) -> float:
    import cv2

    flat_pixels = image.pixels.reshape(-1, 1, image.pixels.shape[-1])
    return float(np.mean(cv2.meanStdDev(flat_pixels)[1]))


def flat(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """One grey plane (H, W): the luminance of a colour image, the mean over the depth of a volume."""
    import cv2

    if pixels.ndim == 4:
        return pixels[..., 0].mean(0, dtype=np.float32)
    plane = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[-1] == 3 else pixels[..., 0]
    return plane.astype(np.float32)


def pixel_hash(pixels: NDArray[Any]) -> str:
    """Hash of decoded pixels; grey stored as three equal channels counts as grey."""
    if _is_grey(pixels[::16, ::16]) and _is_grey(pixels):  # most colour images are told by a few pixels
        pixels = pixels[..., :1]
    head = f"{pixels.shape} {pixels.dtype}".encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, key=head[:64], digest_size=16).hexdigest()


def _is_grey(pixels: NDArray[Any]) -> bool:
    return pixels.shape[-1] == 3 and bool((pixels[..., :1] == pixels[..., 1:]).all())


def _likeness(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    return cv2.resize(np.ascontiguousarray(grey), (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )


def _stretched(small: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The likeness on 0 to 255 from its darkest to its brightest; all zero if there is nothing to see."""
    low, high = float(small.min()), float(small.max())
    if high <= low:
        return np.zeros(small.shape, np.uint8)
    return np.round((small - low) * (255.0 / (high - low))).astype(np.uint8)


_LOW = [(i, j) for s in range(1, 12) for i in range(s + 1) for j in [s - i]][
    :64
]  # lowest frequencies, no mean


def perceptual_hash(small: NDArray[np.float32]) -> int:
    """64 signs of the lowest cosine coefficients of a 32 × 32 likeness, without the mean.

    Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", section 3.2.1, with a zigzag of
    64 coefficients in place of a block, and the sign in place of the median: brightness and contrast do not matter.
    """
    import cv2

    spectrum = cv2.dct(small)
    signs = np.array([spectrum[i, j] > 0 for i, j in _LOW])
    return int(np.packbits(signs).view(">u8")[0])


# -- the cache ---------------------------------------------------------------------------------------------------


def _keys(addresses: Sequence[str]) -> list[str]:
    """A key per image from its path, size and time of change, hashed: file names may hold what must not be copied."""
    stats: dict[str, str] = {}
    for address in addresses:
        file = address.split("#", 1)[0]
        if file not in stats:
            stats[file] = _stat(file)
    text = (f"{_VERSION}|{os.path.abspath(a)}|{stats[a.split('#', 1)[0]]}" for a in addresses)
    return [hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for t in text]


def _stat(file: str) -> str:
    try:
        about = os.stat(file)
    except (OSError, ValueError):
        return "absent"
    return f"{about.st_size}|{about.st_mtime_ns}"


def _load(cache: str | os.PathLike[str] | None) -> pd.DataFrame:
    """What the cache holds; a damaged file counts as empty and is written anew."""
    import pyarrow

    empty = _typed(pd.DataFrame(columns=list(_EMPTY)))
    if cache is None or not (file := _file(cache)).exists():
        return empty
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError, pyarrow.ArrowException):
        return empty
    return _typed(table) if list(table.columns) == list(_EMPTY) else empty


def _store(cache: str | os.PathLike[str], made: pd.DataFrame) -> None:
    with folder_lock(cache, wait=60.0, name=".fingerprints.lock"):
        kept = _load(cache)
        both = pd.concat([kept[~kept.index.isin(made.index)], made]) if len(kept) else made
        with publish(_file(cache)) as beside:
            both.to_parquet(beside)


def _file(cache: str | os.PathLike[str]) -> Path:
    return Path(cache) / "fingerprints.parquet"


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    # Before tables are joined: int64 beside uint64 would become float64, and hashes would lose bits.
    return table.astype(_TYPES)
