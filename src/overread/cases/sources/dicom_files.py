"""The files of an export: regular files below a folder, and nothing that links or pipes lead to."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from overread.core.errors import ImageError, InputError
from overread.core.progress import Progress
from overread.images.address import Address, parse
from overread.images.dicom.elements import items, open_regular, read_elements

#: Files of one export that are looked at, and entries of a DICOMDIR that are read.
MAX_FILES = 2_000_000
#: Bytes of a DICOMDIR that are read.
MAX_DIRECTORY = 256 << 20
_RECORDS, _FILE = 0x00041220, 0x00041500
_PROBED, _PROBED_EACH = 400, 20


@dataclass(frozen=True)
class Walk:
    """Names of files relative to a folder, sorted, and how much else there was.

    ``outside``: links that lead out of the folder; ``special``: devices, pipes and sockets; ``unnamed``: files whose
    names a table cannot hold; ``closed``: folders that may not be read.
    """

    names: tuple[str, ...]
    outside: int = 0
    special: int = 0
    unnamed: int = 0
    closed: int = 0


def walk(folder: Path, progress: Progress) -> Walk:
    """Every regular file below ``folder``; hidden ones left out.

    A link is followed if what it leads to lies in the folder and was not met otherwise, so a loop ends. Raises
    :class:`InputError` where the folder cannot be read or holds too many files.
    """
    walker = _Walker(os.path.realpath(folder), progress)
    walker.below("")
    for link in walker.links:
        walker.follow(link)
    names = sorted(walker.names)
    fine = [name for name in names if _nameable(name)]
    count = walker.count
    return Walk(tuple(fine), count["outside"], count["special"], len(names) - len(fine), count["closed"])


class _Walker:
    """One walk: what was met so far."""

    def __init__(self, root: str, progress: Progress) -> None:
        self.root, self._progress = root, progress
        self.names: list[str] = []
        self.links: deque[str] = deque()
        self.count: Counter[str] = Counter()
        self._met: set[tuple[int, int]] = set()  # files and folders, by their number in the system

    def below(self, prefix: str) -> None:
        """Note the files below a folder, links apart."""
        folders = deque([prefix])
        while folders:
            here = folders.popleft()
            if self._is_new(os.path.join(self.root, here)):
                folders.extend(self._list(here))
            self._progress("looking for files", len(self.names), 0)
            if len(self.names) > MAX_FILES:
                raise InputError("the folder holds too many files", given=f"more than {MAX_FILES:,}", todo="choose a folder further down")  # fmt: skip

    def follow(self, link: str) -> None:
        """Note what a link leads to, if that lies in the folder and is new."""
        path = os.path.join(self.root, link)
        target = os.path.realpath(path)
        if not _within(target, self.root):
            self.count["outside"] += 1
        elif os.path.isdir(target):
            self.below(link + "/")
        elif os.path.isfile(target) and self._is_new(path):
            self.names.append(link)

    def _list(self, prefix: str) -> list[str]:
        """The folders within one; its files, links and other things are noted."""
        try:
            entries = sorted(os.scandir(os.path.join(self.root, prefix)), key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise InputError("the folder cannot be read", given=error.strerror) from error
            self.count["closed"] += 1
            return []
        folders = []
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                self.links.append(name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name + "/")
            elif entry.is_file(follow_symlinks=False):
                self._is_new(entry.path)
                self.names.append(name)
            else:
                self.count["special"] += 1
        return folders

    def _is_new(self, path: str) -> bool:
        about = os.stat(path)
        met = (about.st_dev, about.st_ino)
        new = met not in self._met
        self._met.add(met)
        return new


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _nameable(name: str) -> bool:
    """Whether a name is printable, without backslashes, and no address of something within a file."""
    if not name.isprintable() or "\\" in name:
        return False
    if "#" not in name:
        return True
    try:
        return parse(name) == Address(name)
    except (ImageError, InputError):
        return False


def probe(folder: Path) -> Iterator[Path]:
    """A few hundred files below ``folder``, some of each folder, those at the top first."""
    folders, seen = deque([folder]), 0
    while folders and seen < _PROBED:
        try:
            entries = sorted(os.scandir(folders.popleft()), key=lambda entry: (entry.name != "DICOMDIR", entry.name))
        except OSError:
            continue
        visible = [e for e in entries if not e.name.startswith(".") and not e.is_symlink()]
        files = [Path(e.path) for e in visible if e.is_file(follow_symlinks=False)][:_PROBED_EACH]
        seen += len(files) + 1
        yield from files
        folders.extend(Path(e.path) for e in visible if e.is_dir(follow_symlinks=False))


# -- DICOMDIR (PS3.10 §8, PS3.3 F.3) -------------------------------------------------------------------------------


def listed(directory: Path, found: Walk) -> tuple[list[str], int]:
    """Which of the files found beside a DICOMDIR it lists, and how many that it lists are not there.

    Its names are only compared with those found, without case and ending, never opened. Raises :class:`ImageError`
    where one leads out of its folder: then none of it is to be trusted.
    """
    wanted = _references(directory)
    outside = sum(_leads_out(directory.parent, parts) for parts in wanted)
    if outside:
        raise ImageError("the DICOMDIR names files outside of its folder", given=f"{outside:,} of {len(wanted):,}",
                         todo="ask its sender for another copy, or read the folder instead")  # fmt: skip
    by_name = {_folded(name): name for name in reversed(found.names)}
    names = {by_name[key] for key in (_folded("/".join(parts)) for parts in wanted) if key in by_name}
    return sorted(names), len({"/".join(parts).lower() for parts in wanted}) - len(names)


def _folded(name: str) -> str:
    folder, slash, last = name.lower().rpartition("/")
    return folder + slash + last.partition(".")[0]


def _references(directory: Path) -> list[tuple[str, ...]]:
    """The components of every ReferencedFileID."""
    with open_regular(directory) as handle:
        elements = read_elements(handle, frozenset({_RECORDS}), limit=MAX_DIRECTORY)
    records = items(elements.values.get(_RECORDS, b""), elements.form, frozenset({_FILE}), MAX_FILES)
    texts = (record[_FILE].decode("latin-1") for record in records if record.get(_FILE, b"").strip(b" \0"))
    return [tuple(part.strip(" \0") for part in text.split("\\")) for text in texts]


def _leads_out(folder: Path, parts: tuple[str, ...]) -> bool:
    """Whether a reference is not a plain path below the folder, or a link leads from it elsewhere."""
    odd = any(p in ("", ".", "..") or "/" in p or ":" in p or not p.isprintable() for p in parts)
    if odd:
        return True
    root, path = os.path.realpath(folder), os.path.join(folder, *parts)
    return os.path.lexists(path) and not _within(os.path.realpath(path), root)


def is_directory(path: Path) -> bool:
    """Whether a file is a DICOMDIR by its content."""
    from overread.images.dicom.header import read_header

    try:
        return stat.S_ISREG(os.stat(path).st_mode) and read_header(path).is_directory
    except (ImageError, OSError):
        return False
