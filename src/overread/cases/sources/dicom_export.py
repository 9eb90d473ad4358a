"""An export of DICOM files as a table of cases, from the headers alone: a folder, a DICOMDIR, or a zip of a study."""

from __future__ import annotations

import math
import os
import re
import stat
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from overread.core.errors import ImageError, InputError, OverreadError, checked, require
from overread.core.phrases import count as counted
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.address import Address, parse
from overread.images.dicom import header as dicom_header
from overread.images.dicom.elements import items, open_regular, read_elements
from overread.images.dicom.header import OLDEST, RAW, DicomHeader
from overread.images.dicom.series import normal, order
from overread.images.dicom.stacks import Stack, stacks
from overread.images.formats import archives

#: Files whose headers one process reads at a time, and fewer of which are read in this one.
_CHUNK, _FEW = 128, 400
#: Members of an archive that are looked at to find out whether it holds DICOM.
_PROBED = 64
#: Modalities whose objects have no pixels (PS3.3 C.7.3.1.1.1).
_DOCUMENTS = ("SR", "KO", "PR", "REG", "FID", "DOC", "SMR", "STAIN", "TEXTUREMAP")
_PLANS_AND_SIGNALS = ("RTSTRUCT", "RTPLAN", "RTRECORD", "PLAN", "ECG", "EPS", "HD", "RESP", "AU")
_WITHOUT_PIXELS = frozenset((*_DOCUMENTS, *_PLANS_AND_SIGNALS))


@dataclass(frozen=True, eq=False)
class Tree:
    """What an export holds.

    ``table``: a row per image, or per series of slices, with raw identifiers: never write it as it is. ``image`` is
    an address relative to ``root``, ``patient``, ``case`` (the study), ``series``, ``instance`` and ``accession`` are
    the header's; ``age`` in years, ``spacing`` (in the plane) and ``step`` (between slices) in mm. All are text,
    blank where unknown, but ``frames`` and ``slices``. ``notes`` and ``problems`` are texts without names and
    identifiers. ``unreadable``: address and reason of what looks like DICOM and cannot be read; holds names of files.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    root: str = "."
    unreadable: tuple[tuple[str, str], ...] = ()


@checked
def is_tree(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder that holds DICOM files, a DICOMDIR, or a zip archive with DICOM files.

    Of a folder the first few hundred files are looked at, by content. Raises :class:`ImageError` for a zip archive
    that is refused.
    """
    path = Path(path)
    if path.is_dir():
        return any(dicom_header.is_dicom_file(file) or _is_study(file) for file in probe(path))
    return _is_study(path, refuse=True) or is_directory(path)


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and archives.is_archive(path)


def _is_study(path: Path, *, refuse: bool = False) -> bool:
    """Whether a file is a zip archive with DICOM files; one that is refused is none, or the error."""
    try:
        return _is_zip(path) and dicom_header.any_dicom(path, archives.members(path)[:_PROBED])
    except ImageError:
        if refuse:
            raise
        return False


@checked
def read_tree(
    path: str | os.PathLike[str], *, progress: Progress = silent, threads: int = 0, slices: bool = False
) -> Tree:
    """The table of an export: a folder with all folders below it, what a DICOMDIR lists, or a zip archive.

    Three or more slices of a CT, MR or PET series in one folder are one row, with the address of the series; every
    other image has a row, and so has every slice with ``slices``. ``threads``: processes that read headers, 0 for as
    many as there are cores. Pixels are not read. Within a folder, zip archives are looked into as well; links that
    lead out of it, devices and pipes are left alone.

    Raises :class:`InputError` where there is nothing to read, and :class:`ImageError` for a zip archive or a DICOMDIR
    that is refused.
    """
    require(threads >= 0, "threads must not be negative", given=threads)
    path = Path(path)
    root = path if path.is_dir() else path.parent
    places, notes, problems = _places(path, progress)
    seen = list(zip(places, _headers_of(root, places, progress, threads), strict=True))
    images, more, doubts, unreadable = _sorted_out(seen)
    table = rows(images, slices)
    notes = [*_counted(images, table), *notes, *more]
    problems += [*doubts, *_doubtful(table, [header for _, header in images])]
    return Tree(table, tuple(notes), tuple(problems), str(root), unreadable)


# -- what there is -------------------------------------------------------------------------------------------------


def _places(path: Path, progress: Progress) -> tuple[list[Address], list[str], list[str]]:
    """Where images may lie, with notes and problems."""
    if _is_zip(path):
        return [Address(path.name, name) for name in archives.members(path)], [], []
    if not path.exists():
        raise InputError("the folder or file does not exist", todo="check the path")
    if path.is_dir():
        return _opened(path, *walk(path, progress), [])
    if not is_directory(path):
        raise InputError("this is no export of DICOM files", todo="give a folder, a DICOMDIR or a zip archive")
    found, notes = walk(path.parent, progress)
    names, absent = listed(path, found)
    problems = [f"{absent:,} files that the DICOMDIR lists are not there"] if absent else []
    if not names:
        problems.append("the DICOMDIR lists no file that is there: its folder was read instead")
    return _opened(path.parent, names or found, notes, problems)


def _opened(
    root: Path, names: list[str], notes: list[str], problems: list[str]
) -> tuple[list[Address], list[str], list[str]]:
    """Files, and the members of those that are zip archives; one that is refused is a problem."""
    places: list[Address] = []
    refused: Counter[str] = Counter()
    for name in names:
        if not (name.lower().endswith(".zip") and archives.is_archive(root / name)):
            places.append(Address(name))
            continue
        try:
            places += [Address(name, member) for member in archives.members(root / name)]
        except ImageError as error:
            refused[error.what] += 1
    problems += [f"{counted(count, 'zip archive')} left out: {what}" for what, count in refused.items()]
    return places, notes, problems


def _headers_of(root: Path, places: Sequence[Address], progress: Progress, threads: int) -> Iterator[list[Any] | str]:
    """What :func:`overread.images.dicom.header.scan` says of every place, in order."""
    tasks = list(_tasks(os.fspath(root.absolute()), places))
    here = threads == 1 or len(places) < _FEW
    scan, done = dicom_header.scan, 0
    answers = (scan(*task) for task in tasks) if here else contained(scan, tasks, workers=threads)
    for (_, _, names), answer in zip(tasks, answers, strict=True):
        done += len(names)
        progress("reading headers", done, len(places))
        yield from [answer.what] * len(names) if isinstance(answer, OverreadError) else answer


def _tasks(root: str, places: Sequence[Address]) -> Iterator[tuple[str, str, list[str]]]:
    """The places in portions, each of one archive or of files."""
    for archive, group in groupby(places, key=lambda place: place.path if place.entry else ""):
        names = [place.entry or place.path for place in group]
        for at in range(0, len(names), _CHUNK):
            yield root, archive, names[at : at + _CHUNK]


# -- what becomes of it --------------------------------------------------------------------------------------------


def _sorted_out(seen: list[tuple[Address, list[Any] | str]]) -> tuple[Images, list[str], list[str], Unreadable]:
    """Images with their headers, notes and problems about the rest, and what cannot be read."""
    headers = [(place, dicom_header.header_from(found)) for place, found in seen if not isinstance(found, str)]
    images = [(place, header) for place, header in headers if header.has_pixels]
    if not images:
        raise InputError("there are no DICOM images here", given=f"{counted(len(seen), 'file')}, {len(headers):,} of them DICOM without pixels",
                         todo="give the folder, DICOMDIR or zip archive of an export")  # fmt: skip
    bare = Counter(
        header.modality if header.modality in _WITHOUT_PIXELS else "other"  # text from a header could be anything
        for _, header in headers
        if not (header.has_pixels or header.is_directory)
    )
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(bare.items()))
    others = sum(found == "" for _, found in seen)
    notes = [f"{counted(bare.total(), 'DICOM file')} without pixels left out ({kinds})"] if bare else []
    notes += [f"{counted(others, 'file')} of another kind left out"] if others else []
    unreadable = tuple((str(place), found) for place, found in seen if isinstance(found, str) and found)
    reasons = Counter(reason for _, reason in unreadable)
    problems = [f"{counted(count, 'file')} cannot be read: {reason}" for reason, count in reasons.most_common()]
    return images, notes, problems, unreadable


def _counted(images: Images, table: pd.DataFrame) -> list[str]:
    studies = len({case_of(header) for _, header in images})
    patients = len({header.patient for _, header in images} - {""})
    notes = [
        f"{counted(len(images), 'DICOM image')} in {counted(studies, 'study', 'studies')} of {counted(patients, 'patient')}"
    ]
    volumes = table["slices"][table["slices"] > 1]
    return notes + (
        [f"{volumes.sum():,} slices are {counted(len(volumes), 'volume')}, a row each"] if len(volumes) else []
    )


def _doubtful(table: pd.DataFrame, headers: Sequence[DicomHeader]) -> list[str]:
    """What a reader of the table should know before using it."""
    without_study = sum(not header.study for header in headers)
    ages = Counter(header.age_doubt for header in headers)
    parted = table["problems"].str.startswith(_PARTED)
    named = table["instance"][table["instance"] != ""]
    checks = (
        (table["patient"] == "", "do not say whose they are"),
        (table["burned_in"] == "YES", "have text burned into their pixels, by their headers"),
        (named.duplicated(), "repeat the identifier of another"),
        (parted, "are one of several stacks of a series, each a volume of its own: see the column problems"),
        ((table["problems"] != "") & ~parted, "have gaps, mixed or repeated slices: see the column problems"),
    )
    problems = [f"{mask.sum():,} of {len(table):,} rows {what}" for mask, what in checks if mask.any()]
    known = table[table["patient"] != ""]
    torn = int((known.groupby("case")["patient"].nunique() > 1).sum())
    if ages["bound"]:
        problems.append(
            f"{counted(ages['bound'], 'image')} with an age that is a bound, such as 90+, taken as the number"
        )
    if ages["unreadable"]:
        problems.append(
            f"{counted(ages['unreadable'], 'image')} with an age that is none in years, weeks, months or days up to {OLDEST} years, left blank or taken from the date of birth"
        )
    if without_study:
        problems.append(f"{counted(without_study, 'image')} without a study, counted as cases of their own")
    if torn:
        problems.append(f"{counted(torn, 'study', 'studies')} with images of more than one patient")
    return problems


# -- headers to rows: a series of slices is one row, any other image one, and no two rows of a study look the same ---


#: Modalities of which slices make volumes, and slices that do.
CROSS_SECTIONAL = ("CT", "MR", "PT")
FEWEST_SLICES = 3
_CODE = re.compile(r"[A-Z0-9 _]{1,16}")  # a code string (PS3.5 6.2)
_ALONE, _PARTED = Stack(()), "one of"
#: Columns of the table of an export.
COLUMNS = ("image", "patient", "case", "series", "instance", "accession", "source", "site", "device", "modality", "view",
           "laterality", "age", "sex", "date", "body_part", "frames", "slices", "spacing", "step", "burned_in",
           "intent", "image_type", "secondary_capture", "problems")  # fmt: skip


#: Images below the root, files or members of archives there, with their headers.
Images = list[tuple[Address, DicomHeader]]
#: Address and reason.
Unreadable = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Row:
    """One row in the making: where, the header that speaks for it, slices, step between them in mm, and problems."""

    address: str
    header: DicomHeader
    slices: int = 1
    step: float = math.nan
    problems: tuple[str, ...] = ()
    stack: Stack = _ALONE


def rows(found: Images, slices: bool) -> pd.DataFrame:
    """The table of images with the columns :data:`COLUMNS`: text, blank where unknown, and two counts."""
    groups: dict[tuple[object, ...], Images] = defaultdict(list)
    for place, header in found:
        groups[(_folder(place), header.study, header.series or place)].append((place, header))
    made = [row for group in groups.values() for row in _series(group, slices)]
    made.sort(key=lambda row: row.address)
    views = _views(made)
    issuers = _ambiguous(made)
    table = pd.DataFrame([_cells(row, view, issuers) for row, view in zip(made, views, strict=True)], columns=COLUMNS)
    return table.astype({name: object for name in COLUMNS if name not in ("frames", "slices")})


def _folder(place: Address) -> tuple[str, str]:
    """What slices of one volume share: the folder, and within an archive the folder there."""
    return (place.path, place.entry.rpartition("/")[0]) if place.entry else (place.path.rpartition("/")[0], "")


def _series(group: Images, slices: bool) -> list[_Row]:
    """Rows of one series in one folder: a volume for each stack that is one, else every image."""
    made, headers = [], [header for _, header in group]
    for stack in stacks(headers):
        images = [group[i] for i in stack.indices]
        volume, problems = None, list[str]()
        try:
            volume = None if slices else _volume(images, stack)
        except ImageError as error:
            problems.append(error.what)
        made += [volume] if volume else [_Row(str(place), header, problems=tuple(problems)) for place, header in images]
    return made


def _volume(stack: Images, of: Stack) -> _Row | None:
    """One row for slices that stand side by side, None where they are too few or of another kind.

    Raises :class:`ImageError` where it cannot be told which of them belong together.
    """
    header = stack[0][1]
    several = len(stack) >= FEWEST_SLICES and header.series != "" and header.modality in CROSS_SECTIONAL
    placed = header.position is not None and header.orientation is not None and not header.is_localizer
    if not several or not placed or any(h.frames > 1 for _, h in stack):
        return None
    found = order([h for _, h in stack])
    if len(found.indices) < FEWEST_SLICES:
        return None
    place, first = stack[found.indices[0]]
    apart = (f"{_PARTED} {of.of} stacks of its series, told apart by {of.apart}",) if of.apart else ()
    return _Row(
        str(replace(place, series=True)), first, len(found.indices), found.spacing, (*apart, *found.problems), of
    )


def _cells(row: _Row, view: str, issuers: frozenset[str]) -> tuple[object, ...]:
    h = row.header
    patient = f"{h.patient}^^^{h.issuer}" if h.patient in issuers and h.issuer else h.patient
    device = " ".join(part for part in (h.manufacturer, h.device) if part)
    spacing = f"{h.spacing[0]:.4g}" if h.spacing else ""
    return (row.address, patient, case_of(h) or row.address, h.series, h.instance, h.accession, h.site or device, h.site, device,
            h.modality, view, h.laterality, _plain(h.age), h.sex, h.date, h.body_part, h.frames, row.slices,
            spacing, _plain(row.step), h.burned_in, h.intent, "/".join(filter(_CODE.fullmatch, h.image_type)), "YES" if h.is_capture else "",
            "; ".join(row.problems))  # fmt: skip


def case_of(header: DicomHeader) -> str:
    """The study, else the series, else the image itself."""
    return header.study or header.series or header.instance


def _plain(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.4g}"


def _ambiguous(made: Sequence[_Row]) -> frozenset[str]:
    """Identifiers that several issuers have given: these need the issuer's name to say who is meant."""
    issuers: dict[str, set[str]] = defaultdict(set)
    for row in made:
        if row.header.issuer:
            issuers[row.header.patient].add(row.header.issuer)
    return frozenset(patient for patient, names in issuers.items() if len(names) > 1)


def _views(made: Sequence[_Row]) -> list[str]:
    """A name for each row that no other row of its case has: the view, numbered from the second one on."""
    views = [_view(row) for row in made]
    several = Counter((case_of(row.header), view) for row, view in zip(made, views, strict=True))
    counts: Counter[tuple[str, str]] = Counter()
    for i in sorted(range(len(made)), key=lambda i: _sequence(made[i])):
        key = (case_of(made[i].header), views[i])
        counts[key] += 1
        if key[0] and several[key] > 1:
            views[i] = (views[i] or "image") + (f" {counts[key]}" if counts[key] > 1 else "")
    return views


def _sequence(row: _Row) -> tuple[bool, bool, float, float, str]:
    """What is for people first, then by number."""
    header, series, number = row.header, row.header.series_number, row.header.number
    return (
        header.is_capture,
        header.intent == RAW,
        math.inf if series is None else series,
        math.inf if number is None else number,
        row.address,
    )


def _view(row: _Row) -> str:
    """Side and projection (L-MLO, PA), or the plane of slices and which of the stacks there; blank where unknown."""
    header, stack = row.header, row.stack
    if header.is_localizer:
        return "localizer"
    if header.modality in CROSS_SECTIONAL and header.orientation is not None:
        return f"{plane(header)} {stack.apart} {stack.number}" if stack.apart else plane(header)
    side = header.laterality if header.laterality in ("L", "R", "B") else ""
    return "-".join(part for part in (side, header.view) if part)


def plane(header: DicomHeader) -> str:
    """Axial, coronal or sagittal if the plane is within 25 degrees of it, else oblique.

    >>> plane(DicomHeader(orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0)))
    'coronal'
    """
    try:
        across = [abs(x) for x in normal(header)]
    except ImageError:
        return ""
    name = ("sagittal", "coronal", "axial")[across.index(max(across))]
    return name if max(across) > math.cos(math.radians(25)) else "oblique"


# -- the files of an export: regular files below a folder, and nothing that links or pipes lead to ------------------


#: Files of one export that are looked at, and entries of a DICOMDIR that are read.
MAX_FILES = 2_000_000
#: Bytes of a DICOMDIR that are read.
MAX_DIRECTORY = 256 << 20
_RECORDS, _FILE = 0x00041220, 0x00041500
_FILES_PROBED, _PROBED_EACH = 400, 20


#: What else a walk meets, counted by kind: links out of the folder, devices and pipes, folders, files that a table
#: cannot hold.
_LEFT_ALONE = {
    "outside": "links lead out of the folder and are not followed",
    "special": "devices or pipes are left alone",
    "closed": "folders may not be read",
    "unnamed": "files are left out: a table cannot hold their names (control characters, backslashes, #)",
}


def walk(folder: Path, progress: Progress) -> tuple[list[str], list[str]]:
    """The names of all regular files below ``folder``, relative to it and sorted, and notes; hidden ones left out.

    A link is followed if what it leads to lies in the folder and was not met otherwise, so a loop ends. Raises
    :class:`InputError` where the folder cannot be read or holds too many files.
    """
    walker = _Walker(os.path.realpath(folder), progress)
    walker.below("")
    for link in walker.links:
        walker.follow(link)
    names = sorted(filter(_nameable, walker.names))
    walker.count["unnamed"] = len(walker.names) - len(names)
    return names, [f"{walker.count[kind]:,} {what}" for kind, what in _LEFT_ALONE.items() if walker.count[kind]]


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
    while folders and seen < _FILES_PROBED:
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


def listed(directory: Path, found: list[str]) -> tuple[list[str], int]:
    """Which of the files ``found`` beside a DICOMDIR it lists, and how many that it lists are not there.

    Its names are only compared with those found, without case and ending, never opened. Raises :class:`ImageError`
    where one leads out of its folder: then none of it is to be trusted.
    """
    wanted = _references(directory)
    outside = sum(_leads_out(directory.parent, parts) for parts in wanted)
    if outside:
        raise ImageError("the DICOMDIR names files outside of its folder", given=f"{outside:,} of {len(wanted):,}",
                         todo="ask its sender for another copy, or read the folder instead")  # fmt: skip
    by_name = {_folded(name): name for name in reversed(found)}
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


@checked
def is_directory(path: Path) -> bool:
    """Whether a file is a DICOMDIR by its content."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and dicom_header.read_header(path).is_directory
    except (ImageError, OSError):
        return False


@checked
def settled_columns(path: Path) -> tuple[str, ...]:
    """The columns whose meaning is settled: those made from the headers of DICOM files; of a table sex and age."""
    return COLUMNS if is_tree(path) else ("sex", "age")
