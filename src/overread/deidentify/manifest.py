"""Around a de-identified copy: which files there are, the salt, the table of what became of them, the key to the codes."""

from __future__ import annotations

import csv
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields
from io import StringIO
from pathlib import Path

from overread.core.errors import InputError, UnavailableError, checked
from overread.core.files import build, publish, write_text
from overread.deidentify.rules import SALT_AT_LEAST, SALT_BYTES

#: Files beside the images of a copy.
TABLE, RECORD, LOCK = "deidentified.csv", "deidentified.json", ".lock"
#: Bytes of a salt's file at most.
SALT_AT_MOST = 4096
_OURS = re.compile(r"(p-[0-9a-f]{16}/(s-[0-9a-f]{16}/)?)?[^/]*")
_IMAGE = re.compile(r"[0-9a-f]{16}\.dcm")
_KEY_COLUMNS = ("code", "file", "patient", "study", "patient identifier", "study UID", "path")


@dataclass(frozen=True)
class Row:
    """What became of one file, without anything that was in it.

    ``code``: the keyed hash of its bytes. ``outcome``: written, refused or left out, with the ``reason``. ``removed``:
    attributes that are gone, at any depth, of which ``private``. ``may_show_a_face``: CT, MR or PET of the head, or
    of a part that is not named. ``source``: the keyed hash of its path, size and time.
    """

    code: str
    outcome: str
    reason: str = ""
    file: str = ""
    patient: str = ""
    study: str = ""
    modality: str = ""
    attributes: int = 0
    removed: int = 0
    private: int = 0
    may_show_a_face: bool = False
    source: str = ""


@dataclass(frozen=True)
class Original(Row):
    """A row and what stands behind its codes: these three go into the key and nowhere else."""

    patient_identifier: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    path: str = field(default="", repr=False)

    @property
    def row(self) -> Row:
        """The row alone."""
        return Row(**{part.name: getattr(self, part.name) for part in fields(Row)})


# -- files ------------------------------------------------------------------------------------------------------


@checked
def files_of(source: Path) -> tuple[list[Path], int]:
    """All regular files in a folder (or the file itself), sorted, and the number of links, which are not followed."""
    if source.is_file():
        return [source], 0
    if not source.is_dir():
        raise InputError("there is no such file or folder to de-identify", todo="check the path")
    found: list[Path] = []
    links = 0
    for folder, folders, names in os.walk(source, followlinks=False):
        links += sum(os.path.islink(os.path.join(folder, name)) for name in (*folders, *names))
        found += [Path(folder, name) for name in names if _is_regular(os.path.join(folder, name))]
    return sorted(found), links


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


@checked
def require_apart(source: Path, output: Path, secret_files: Sequence[Path | None] = ()) -> None:
    """Raise :class:`InputError` if the copy lies in the source, the source in the copy, or a secret file in the copy."""
    here, there = source.resolve(), output.resolve()
    if there == here or here in there.parents or there in here.parents:
        raise InputError(
            "the source and the cleaned copy lie in each other", todo="choose an output folder outside the source"
        )
    for secret in secret_files:
        if secret is not None and there in (secret.resolve(), *secret.resolve().parents):
            raise InputError(
                "a secret file would lie inside the cleaned copy",
                todo="keep the salt and the key outside the output folder",
            )


@checked
def require_ours(output: Path) -> None:
    """Raise :class:`InputError` if the output holds anything that is not part of a cleaned copy."""
    if output.exists() and not output.is_dir():
        raise InputError("the output is a file, not a folder", todo="choose a folder")
    for folder, folders, names in os.walk(output):
        place = os.path.relpath(folder, output).replace(os.sep, "/")
        for name in (*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))):
            if not _is_ours("" if place == "." else f"{place}/", name):
                raise InputError(
                    "the output folder holds files that are not of a cleaned copy", todo="choose an empty folder"
                )


def _is_ours(place: str, name: str) -> bool:
    if name.endswith(".part"):  # left by a process that was killed
        name = name.removeprefix(".").rsplit(".", 2)[0]
    level = place.count("/")
    fits = name in (TABLE, RECORD, LOCK) if level == 0 else level == 2 and _IMAGE.fullmatch(name) is not None
    return fits and _OURS.fullmatch(f"{place}{name}") is not None


# -- the salt ---------------------------------------------------------------------------------------------------


@checked
def new_salt() -> bytes:
    """A salt of 32 random bytes, from the operating system."""
    return secrets.token_bytes(SALT_BYTES)


@checked
def read_salt(path: str | os.PathLike[str]) -> bytes:
    """The salt in a file; a file that is not there is made, with 32 random bytes, readable for its owner alone.

    Raises :class:`InputError` for one that is too short to be a secret, or far too long to be a salt.
    """
    path = Path(path)
    with suppress(FileExistsError):
        _create_secret(path, secrets.token_hex(SALT_BYTES) + "\n")
    try:
        with open(path, "rb") as handle:
            salt = handle.read(SALT_AT_MOST + 1).strip()
    except OSError as error:
        raise InputError("the file of the salt cannot be read", given=error.strerror) from None
    if not SALT_AT_LEAST <= len(salt) <= SALT_AT_MOST:
        raise InputError(
            "the file of the salt does not hold a salt",
            given=f"{len(salt)} bytes",
            todo=f"give a file of {SALT_AT_LEAST} to {SALT_AT_MOST} bytes, or the name of a new one",
        )
    return salt


def _create_secret(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise UnavailableError("a secret file cannot be written", given=error.strerror) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


# -- the table and the key --------------------------------------------------------------------------------------


@checked
def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier call; none if there is no table."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as handle:
        return [build(Row, row, where=path.name) for row in csv.DictReader(handle)]


@checked
def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write the table of what became of the files, atomically."""
    write_text(path, _as_csv([tuple(f.name for f in fields(Row)), *map(astuple, rows)]))


def _as_csv(rows: Iterable[tuple[object, ...]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@checked
def read_key(path: Path | None) -> dict[str, tuple[str, ...]]:
    """The lines of a key by code of file; none if there is no key yet. Raises :class:`InputError` for another table."""
    if path is None or not path.exists():
        return {}
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            heads, *lines = [tuple(line) for line in csv.reader(handle)] or [()]
    except (OSError, ValueError, csv.Error):
        heads, lines = (), []
    if heads != _KEY_COLUMNS:
        raise InputError("the file named for the key holds something else", todo="name a new file")
    return {line[0]: line for line in lines if len(line) == len(_KEY_COLUMNS)}


@checked
def key_line(made: Original) -> tuple[str, ...]:
    """A line of the key. Cells that a spreadsheet would take for a formula get an apostrophe in front."""
    row = (made.code, made.file, made.patient, made.study, made.patient_identifier, made.study_uid, made.path)
    cells = [cell.encode("utf-8", "replace").decode("utf-8") for cell in row]
    return tuple(f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells)


@checked
def write_key(path: Path, lines: Iterable[tuple[str, ...]]) -> None:
    """Write the key atomically, readable for its owner alone."""
    with publish(path) as beside:
        _create_secret(beside, _as_csv([_KEY_COLUMNS, *lines]))
