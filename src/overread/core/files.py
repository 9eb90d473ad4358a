"""Frozen dataclass to file and back; atomic writes; locks; versions, hardware, hashes.

A file is written beside its place, flushed, synced, renamed, and its folder synced: after a power cut the old or the
new file is there, never half of one. Reading checks every field's type and refuses unknown ones by name.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import stat
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from overread.core.errors import InputError, UnavailableError, checked, nearest

T = TypeVar("T")

#: Version of the files a run leaves; a reader refuses files of a later one.
FORMAT = 1


@checked
@contextmanager
def publish(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path``; on a clean exit it is synced and renamed to ``path``, otherwise removed.

    Raises :class:`UnavailableError` if the folder cannot be written or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{threading.get_ident()}.part")  # see _STRAY
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        os.replace(beside, path)
        _sync(path.parent)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not beside.exists() and path.parent.exists():
            raise
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # the error on its way says more
            beside.unlink(missing_ok=True)


@checked
def unwritable(path: Path, error: OSError) -> UnavailableError:
    """The error that tells a person why ``path`` cannot be written: a full disk, a folder that is not theirs."""
    given, todo = f"{path}: {error.strerror or error}", "free some space or choose another folder"
    return UnavailableError(f"{path.name or path} cannot be written", given=given, todo=todo)


_STRAY = re.compile(r"\..+\.([0-9a-f]{6})-(\d+)-\d+\.part")


@cache
def _machine() -> str:
    """Six digits that tell machines apart which write into one folder; not their name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


@checked
def remove_strays(folder: str | os.PathLike[str], *, shared: bool = False) -> list[Path]:
    """Remove what killed processes left half-written below ``folder`` (see :func:`publish`), and tell which files.

    Call it while the folder is locked, so that nobody else writes there. ``shared``: others may write there all the
    same; then only what a process of this machine left that is gone, and what is older than a day.
    """
    strays = [path for path in Path(folder).rglob(".*.part") if (found := _STRAY.fullmatch(path.name)) and path.is_file()
              and not (shared and _in_use(path, found[1], int(found[2])))]  # fmt: skip
    for path in strays:
        path.unlink(missing_ok=True)
    return strays


def _in_use(path: Path, machine: str, process: int) -> bool:
    if machine == _machine() and os.name != "nt":  # where signal 0 would end the process
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it lives, and is another user's
            return True
        return True
    with suppress(OSError):
        return time.time() - path.stat().st_mtime < 86_400
    return True


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@checked
def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path`` atomically."""
    with publish(path) as beside:
        beside.write_bytes(data)
    return Path(path)


@checked
def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path`` atomically, as UTF-8 with ``\\n``."""
    return write_bytes(path, text.encode("utf-8"))


@checked
def write_json(path: str | os.PathLike[str], value: object) -> Path:
    """Write ``value`` as JSON (NaN becomes null), atomically. Dataclasses become objects."""
    return write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


#: Where a spreadsheet would compute the cell instead of showing it, with the apostrophes that stand before it.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@checked
def write_csv(path: str | os.PathLike[str], table: Any, *, float_format: str | None = None) -> Path:
    """Write a pandas table as CSV, atomically, without the index; see :func:`guarded` for cells like ``=1+1``."""
    table = guarded(table)
    texts = [table[name] for name in table.columns if table[name].dtype.kind == "O"]
    torn = any("\r" in cell for column in texts for cell in column if isinstance(cell, str))
    how = csv.QUOTE_NONNUMERIC if torn else csv.QUOTE_MINIMAL  # which knows no other line end than its own
    with publish(path) as beside:
        table.to_csv(beside, index=False, float_format=float_format, lineterminator="\n", quoting=how)
    return Path(path)


@checked
def guarded(table: Any) -> Any:
    """A pandas table whose texts and column names are safe in a spreadsheet: an apostrophe before = + - @ and controls.

    Numbers stay as they are, also as text. :func:`unguarded` takes the apostrophes away again. After OWASP, "CSV
    injection".

    >>> import pandas as pd
    >>> list(guarded(pd.DataFrame({"a": ["=1+1", "-1.5", "it's", "'=x"]}))["a"])
    ["'=1+1", '-1.5', "it's", "''=x"]
    """
    return _cells(table, lambda text: f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text)


@checked
def unguarded(table: Any) -> Any:
    """The table before :func:`guarded`, from a file that :func:`write_csv` wrote."""
    return _cells(table, lambda text: text[1:] if text[:1] == "'" and _FORMULA.match(text) else text)


def _cells(table: Any, change: Callable[[str], str]) -> Any:
    """``table`` with every text in it, and every column's name, changed."""

    def changed(cell: Any) -> Any:
        return change(cell) if isinstance(cell, str) else cell

    table = table.rename(columns=changed)  # a copy
    for name in table.columns[[kind.kind == "O" for kind in table.dtypes]]:
        table[name] = table[name].map(changed)
    return table


@checked
def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file. Duplicate keys, NaN, infinity and broken files raise :class:`InputError`."""
    text = _read_text(Path(path))
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{Path(path).name} is not valid JSON", given=str(error)) from error


@checked
def require_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that can be read to its end. Raises :class:`InputError` for none, a folder, a FIFO, a device."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError("the file does not exist", given=str(path), todo="check the path") from error
    except (OSError, ValueError) as error:
        raise InputError("the file cannot be read", given=f"{path}: {error}") from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe (FIFO)", stat.S_IFSOCK: "a socket"}
        given = f"{path}: {kinds.get(stat.S_IFMT(mode), 'a device')}"
        raise InputError(f"{path.name} is no file", given=given, todo="put the file itself there")
    return path


def _read_text(path: Path) -> str:
    try:
        return require_file(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the file cannot be read", given=f"{path}: {error}") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def plain(value: Any) -> Any:
    """``value`` as what JSON knows: dict, list, str, int, float, bool, None. NaN and infinity become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


@checked
def save(value: object, path: str | os.PathLike[str]) -> Path:
    """Save a dataclass of plain fields as ``.json`` or ``.toml`` (by the path's ending), atomically."""
    path = Path(path)
    if path.suffix == ".toml":
        import tomli_w

        return write_text(path, tomli_w.dumps(_without_none(plain(value))))
    if path.suffix == ".json":
        return write_json(path, value)
    raise InputError("only .json and .toml can be written here", given=path.name)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


@checked
def load(kind: type, path: str | os.PathLike[str]) -> Any:
    """Read a dataclass ``kind`` from ``.json`` or ``.toml``; types are checked, unknown keys refused by name."""
    return build(kind, read_fields(path), where=Path(path).name)


@checked
def read_fields(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a ``.toml`` or ``.json`` file holds by name. Raises :class:`InputError` for a broken file, or another thing than fields."""
    path = Path(path)
    try:
        value = tomllib.loads(_read_text(path)) if path.suffix == ".toml" else read_json(path)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} is not valid TOML", given=str(error)) from error
    if not isinstance(value, dict):
        raise InputError(f"{path.name} does not hold a table of fields", given=type(value).__name__)
    return value


@checked
def build(kind: type, value: Any, *, where: str = "input", null_is_nan: bool = False) -> Any:
    """A dataclass ``kind`` from a dict: the inverse of :func:`plain`.

    With ``null_is_nan`` None in a field of type ``float`` is NaN, as :func:`plain` writes it. Raises
    :class:`InputError` naming the field, for a wrong type, a missing field or an unknown key.
    """
    from pydantic import ValidationError

    if not isinstance(value, dict):
        raise InputError(f"{where} does not hold a table of fields", given=type(value).__name__)
    _refuse_unknown(kind, value, where)
    if null_is_nan:
        value = _with_nan(kind, value)
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise InputError(
            f"{where}: {field} is wrong: {first['msg'].lower()}", given=repr(first.get("input"))[:80]
        ) from error


@checked
def write_rows(path: str | os.PathLike[str], rows: Sequence[object]) -> Path:
    """Write dataclasses of one kind as a JSON list of objects, atomically; :func:`read_rows` reads it."""
    return write_json(path, list(rows))


@checked
def read_rows(kind: type, path: str | os.PathLike[str], *, by: Callable[..., Any] | None = None) -> tuple[Any, ...]:
    """Dataclasses ``kind`` from a JSON list of objects, where null in a number is NaN; none where there is no such file.

    ``by``: what makes one of an object, called as ``by(kind, object, where=name)``; by default :func:`build`, which
    refuses unknown keys. Raises :class:`InputError` for what is no list, and for a row that does not fit.
    """
    path = Path(path)
    held = read_json(path) if path.exists() else []
    if not isinstance(held, list):
        raise InputError(f"{path.name} does not hold a list of tables", given=type(held).__name__)
    made = by or partial(build, null_is_nan=True)
    return tuple(made(kind, row, where=path.name) for row in held)


@cache
def _adapter(kind: type) -> Any:
    """What checks values of ``kind``; making one takes a millisecond, and a table of results has hundreds."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@cache
def field_types(kind: Any) -> dict[str, Any]:
    """The annotation of each field of a dataclass by its name."""
    return get_type_hints(kind)


def _with_nan(hint: Any, value: Any) -> Any:
    """``value`` with NaN for None wherever the annotation ``hint`` says that a number stands there."""
    if value is None:
        return math.nan if hint is float else None
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        known = field_types(cast("Any", hint))
        return {key: _with_nan(known.get(key), item) for key, item in value.items()}
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inside = tuple(each for each in inside if each is not type(None))
        return _with_nan(inside[0], value) if len(inside) == 1 else value
    if origin is dict and isinstance(value, dict):
        return {key: _with_nan(inside[1], item) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        each = inside[:1] * len(value) if origin is list or inside[-1] is Ellipsis else inside
        return [_with_nan(of, item) for of, item in zip(each, value)] if len(each) == len(value) else value
    return value


def _refuse_unknown(kind: type, value: dict[str, Any], where: str) -> None:
    """Unknown keys by name, also in dataclasses inside, in lists and tables of them."""
    hints = field_types(kind)
    for key, item in value.items():
        if key not in hints:
            raise InputError(f"{where} has an unknown key {key!r}", todo=nearest(key, hints))
        each = next((hint for hint in (hints[key], *get_args(hints[key])) if dataclasses.is_dataclass(hint)), None)
        table = get_origin(hints[key]) is dict and isinstance(item, dict)
        for inside in item.values() if table else item if isinstance(item, (list, tuple)) else (item,):
            if each is not None and isinstance(inside, dict):
                _refuse_unknown(cast("Any", each), inside, f"{where}: {key}")


@checked
@contextmanager
def folder_lock(folder: str | os.PathLike[str], *, wait: float = 0.0, name: str = ".lock") -> Iterator[None]:
    """Hold ``folder`` for this process. The operating system frees the lock of a killed process.

    Raises :class:`UnavailableError` if another process holds it for longer than ``wait`` seconds.
    """
    import filelock

    folder = Path(folder)
    lock = filelock.FileLock(folder / name, timeout=wait)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        what, todo = "another overread process is working in this folder", "wait for it, or choose another folder"
        raise UnavailableError(what, given=str(folder), todo=todo) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@checked
def sha256(data: bytes | memoryview) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@checked
def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, read in blocks."""
    try:
        with open(require_file(path), "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError("the file cannot be read", given=f"{path}: {error.strerror}") from error


@checked
def fingerprint(value: object) -> str:
    """A short hash (16 hexadecimal digits) of plain data or a dataclass, equal for equal content.

    A field that is :func:`later` counts only where it differs from its default, so that what was made before there was
    such a field is still the same.
    """
    return sha256(json.dumps(_counted(value), sort_keys=True, ensure_ascii=False).encode())[:16]


def later(default: Any) -> Any:
    """The default of a dataclass's field that came after files of its kind had been written; see :func:`fingerprint`."""
    return dataclasses.field(default=default, metadata={"later": True})


def _counted(value: Any) -> Any:
    """``value`` as :func:`plain` makes it, without the later fields that are at their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {f: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {f.name: _counted(v) for f, v in held.items() if not ("later" in f.metadata and v == f.default)}
    if isinstance(value, dict):
        return {str(key): _counted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_counted(item) for item in value]
    return plain(value)


class EqualByDigest:
    """Two objects of a class are equal where their ``digest``, a hash of the content in hexadecimal, is."""

    def __eq__(self, other: object) -> bool:
        alike = isinstance(other, type(self)) or isinstance(self, type(other))
        return alike and isinstance(other, EqualByDigest) and self.digest == other.digest

    def __hash__(self) -> int:
        return int(self.digest, 16)

    @property
    def digest(self) -> str:
        """The hash."""
        return fingerprint(self)


@checked
def hashed(names: list[str], salt: str) -> list[str]:
    """Identifiers as salted hashes (16 hexadecimal digits), for what must not hold the identifiers themselves."""
    return [hashlib.blake2b(n.encode(), key=salt.encode()[:64], digest_size=8).hexdigest() for n in names]


_PACKAGES = ("overread", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "scikit-learn",
             "opencv-python-headless", "pillow", "pydicom")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str]:
    """The machine in words: system, processor, cores this process may use. No host name, no user name."""
    return {"system": f"{platform.system()} {platform.machine()}", "cores": str(cores())}


def cache_folder() -> Path:
    """Where packs, features and fingerprints are kept: ``$OVERREAD_CACHE``, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("OVERREAD_CACHE") or platformdirs.user_cache_dir("overread"))


def cores() -> int:
    """Cores this process may use: the affinity mask and a container's quota, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        if quota != "max":
            count = min(count, max(1, int(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return count
