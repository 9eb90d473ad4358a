"""One row for each image, mask or slide: described where a malicious file can do no harm, and kept until its files change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.core.files import cores, folder_lock, publish
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained

#: How grave a finding is.
Severity = Literal["error", "warning", "note"]
#: What is wrong with some rows: kind, severity, message, advice, the rows, and how many there are.
Found = tuple[str, Severity, str, str, NDArray[Any], int]


@checked
def found_in(kind: str, severity: Severity, message: str, advice: str, rows: NDArray[Any], many: int | None = None) -> list[Found]:  # fmt: skip
    """A finding in some ``rows``; ``many`` where another number than theirs counts."""
    return [(kind, severity, message, advice, rows, len(rows) if many is None else many)]


@dataclass(frozen=True)
class DescribedRows:
    """A kind of rows, and the cache of them.

    ``name`` of the file that keeps them; ``version``: raise it when a column changes its meaning; ``nothing``: the row of what was
    not looked at, whose keys are the columns, ``error`` among them; ``types`` of columns where those of ``nothing`` do not tell.
    """

    name: str
    version: int
    nothing: Mapping[str, Any]
    types: Mapping[str, Any]

    @checked
    def key(self, *parts: object) -> str:
        """What a row is kept by, hashed: names of files may hold what must not be copied."""
        text = "|".join(map(str, (self.version, *parts)))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @checked
    def describe(
        self, function: Callable[..., Any], tasks: Sequence[Sequence[Any]], keys: Sequence[str], *, what: str, threads: int = 0,
        seconds: float = 0.0, progress: Progress = silent, cache: str | os.PathLike[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """(N rows) of ``function(*task)`` for each of N ``tasks``, or what the folder ``cache`` kept by its key (:meth:`key`).

        A blank key is a row of ``nothing``. A task that fails has its reason in ``error``, and is tried again the next time.
        ``threads``: processes, 0 for as many as there are cores; ``seconds``: of one task (:func:`.contained`); ``what`` is
        being done, for ``progress``.
        """
        require(threads >= 0, "threads must not be negative", given=threads)
        kept = self._load(cache)
        fresh = [row for row, key in enumerate(keys) if key and key not in kept.index]
        rows: list[dict[str, Any]] = []
        asked = (tasks[row] for row in fresh)
        with closing(contained(function, asked, workers=threads or cores(), seconds=seconds)) as found:
            for each in found:
                rows.append(each if isinstance(each, dict) else {**self.nothing, "error": each.reason or str(each)})
                progress(what, len(rows), len(fresh))
        made = self._typed(rows, [keys[row] for row in fresh])
        if cache is not None and len(made):
            self._store(cache, made[made["error"] == ""])
        every = pd.concat([part for part in (self._typed([dict(self.nothing)], [""]), kept, made) if len(part)])
        return every[~every.index.duplicated()].loc[list(keys)].reset_index(drop=True)

    def _typed(self, rows: list[dict[str, Any]], index: Sequence[str]) -> pd.DataFrame:
        # Before tables are joined: int64 beside uint64 would become float64, and hashes would lose bits.
        return pd.DataFrame(rows, columns=list(self.nothing), index=list(index)).astype(self._types)

    @property
    def _types(self) -> dict[str, Any]:
        plain = {name: type(value) if isinstance(value, int | float | bool) else object for name, value in self.nothing.items()}  # fmt: skip
        return plain | dict(self.types)

    def _load(self, cache: str | os.PathLike[str] | None) -> pd.DataFrame:
        """What the cache holds; a damaged file counts as empty and is written anew."""
        import pyarrow

        empty = self._typed([], [])
        if cache is None or not (file := self._file(cache)).exists():
            return empty
        try:
            table = pd.read_parquet(file, page_checksum_verification=True)
        except (OSError, ValueError, pyarrow.ArrowException):
            return empty
        return table.astype(self._types) if list(table.columns) == list(self.nothing) else empty

    def _store(self, cache: str | os.PathLike[str], made: pd.DataFrame) -> None:
        with folder_lock(cache, wait=60.0, name=f".{self.name}.lock"):
            kept = self._load(cache)
            both = pd.concat([kept[~kept.index.isin(made.index)], made]) if len(kept) else made
            with publish(self._file(cache)) as beside:
                both[~both.index.duplicated()].to_parquet(beside, write_page_checksum=True)

    def _file(self, cache: str | os.PathLike[str]) -> Path:
        return Path(cache) / f"{self.name}.parquet"


@checked
def file_state(path: str) -> str:
    """Size and time of change of a file, of a folder also those of all in it; ``absent`` where there is none."""
    try:
        about = os.stat(path)
        inside = (
            sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(path))
            if os.path.isdir(path)
            else []
        )
    except (OSError, ValueError):
        return "absent"
    return f"{about.st_size}|{about.st_mtime_ns}|{inside}"
