"""What every image is, in one pass over the files: hashes, a small likeness, sizes, brightness, or the reason why it failed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.cases import Cases, paths
from overread.core.errors import InputError, checked, require
from overread.core.files import cores, folder_lock, publish
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.address import file_of
from overread.images.perceptual_hash import NOTHING, describe

_VERSION = 2  # of the cache: raise it when a column changes its meaning
_TYPES = {"phash": np.uint64, "height": np.int64, "width": np.int64, "depth": np.int64, "channels": np.int64,
          "bits": np.int64, "mean": np.float64, "std": np.float64, "thumb": object, "border": np.float64, "circle": bool, "text": np.int64,
          **dict.fromkeys(("error", "digest", "pixels", "mode", "format", "notes"), str)}  # fmt: skip


@checked
def take_fingerprints(
    cases: Cases, *, threads: int = 0, progress: Progress = silent, cache: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """One row per image of ``cases``, in their order; an image that cannot be read has its reason in ``error``.

    Columns: ``error``, ``digest`` (SHA-256 of the file's bytes), ``pixels`` (hash of what was decoded: equal for equal
    images in different files), ``phash`` (perceptual hash, uint64), ``height``, ``width``, ``depth`` (1 for an image),
    ``channels``, ``bits``, ``mode``, ``format``, ``mean`` and ``std`` (of the full scale, 0 to 1), ``notes``,
    ``thumb`` (a likeness of 32 × 32 bytes), ``border`` (the part of a flat image that is black border, 0 to 1),
    ``circle`` (whether it is a circular field), ``text`` (burned-in text boxes). ``cache``: a folder that keeps results
    by path, size and time of change. ``threads``: processes that decode, 0 for as many as there are cores; a file that
    crashes one is a row with an ``error`` (see :mod:`overread.core.sandbox`). No image stays in memory.
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


def _all(addresses: Sequence[str], workers: int, progress: Progress) -> pd.DataFrame:
    """Rows for all addresses, decoded where a malicious file can do no harm."""
    rows: list[dict[str, Any]] = []
    with closing(contained(describe, ((address,) for address in addresses), workers=workers)) as found:
        for row in found:
            rows.append(row if isinstance(row, dict) else NOTHING | {"error": row.reason or str(row)})
            progress("reading images", len(rows), len(addresses))
    return _typed(pd.DataFrame(rows, columns=list(NOTHING)))


# -- the cache ---------------------------------------------------------------------------------------------------


def _keys(addresses: Sequence[str]) -> list[str]:
    """A key per image from its path, size and time of change, hashed: file names may hold what must not be copied."""
    stats: dict[str, str] = {}
    for address in addresses:
        file = _file_of(address)
        if file not in stats:
            stats[file] = _stat(file)
    text = (f"{_VERSION}|{os.path.abspath(a)}|{stats[_file_of(a)]}{_beside(a, stats)}" for a in addresses)
    return [hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for t in text]


def _file_of(address: str) -> str:
    try:
        return file_of(address)
    except InputError:  # an address with numbers that are none: reading it says so
        return address


def _beside(address: str, stats: dict[str, str]) -> str:
    """A series changes when a file comes into its folder, or goes."""
    if not address.endswith("#series") and "#series&" not in address:
        return ""
    folder = os.path.dirname(_file_of(address)) or "."
    if folder not in stats:
        stats[folder] = _stat(folder)
    return f"|{stats[folder]}"


def _stat(file: str) -> str:
    try:
        about = os.stat(file)
    except (OSError, ValueError):
        return "absent"
    return f"{about.st_size}|{about.st_mtime_ns}"


def _load(cache: str | os.PathLike[str] | None) -> pd.DataFrame:
    """What the cache holds; a damaged file counts as empty and is written anew."""
    import pyarrow

    empty = _typed(pd.DataFrame(columns=list(NOTHING)))
    if cache is None or not (file := _file(cache)).exists():
        return empty
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError, pyarrow.ArrowException):
        return empty
    return _typed(table) if list(table.columns) == list(NOTHING) else empty


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
