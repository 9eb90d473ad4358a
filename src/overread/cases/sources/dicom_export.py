"""An export of DICOM files as a table of cases, from the headers alone: a folder, a DICOMDIR, or a zip of a study."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.sources.dicom_files import Walk, is_directory, listed, probe, walk
from overread.core.errors import ImageError, InputError, OverreadError, checked, require
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.address import Address
from overread.images.dicom import header as dicom_header
from overread.images.dicom.header import DicomHeader
from overread.images.dicom.series import normal, order, stacks
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
    problems += [*doubts, *_doubtful(table, sum(not header.study for _, header in images))]
    return Tree(table, tuple(notes), tuple(problems), str(root), unreadable)


# -- what there is -------------------------------------------------------------------------------------------------


def _places(path: Path, progress: Progress) -> tuple[list[Place], list[str], list[str]]:
    """Where images may lie, with notes and problems."""
    if _is_zip(path):
        return [Place(path.name, name) for name in archives.members(path)], [], []
    if not path.exists():
        raise InputError("the folder or file does not exist", todo="check the path")
    if path.is_dir():
        found = walk(path, progress)
        return _opened(path, found, list(found.names), [])
    if not is_directory(path):
        raise InputError("this is no export of DICOM files", todo="give a folder, a DICOMDIR or a zip archive")
    found = walk(path.parent, progress)
    names, absent = listed(path, found)
    problems = [f"{absent:,} files that the DICOMDIR lists are not there"] if absent else []
    if not names:
        problems.append("the DICOMDIR lists no file that is there: its folder was read instead")
    return _opened(path.parent, found, names or list(found.names), problems)


def _opened(root: Path, found: Walk, names: list[str], problems: list[str]) -> tuple[list[Place], list[str], list[str]]:
    """Files, and the members of those that are zip archives; one that is refused is a problem."""
    places: list[Place] = []
    refused: Counter[str] = Counter()
    for name in names:
        if not (name.lower().endswith(".zip") and archives.is_archive(root / name)):
            places.append(Place(name))
            continue
        try:
            places += [Place(name, member) for member in archives.members(root / name)]
        except ImageError as error:
            refused[error.what] += 1
    problems += [f"{_s(count, 'zip archive')} left out: {what}" for what, count in refused.items()]
    return places, _left(found), problems


def _left(found: Walk) -> list[str]:
    counts = (
        (found.outside, "links lead out of the folder and are not followed"),
        (found.special, "devices or pipes are left alone"),
        (found.closed, "folders may not be read"),
        (found.unnamed, "files are left out: a table cannot hold their names (control characters, backslashes, #)"),
    )
    return [f"{count:,} {what}" for count, what in counts if count]


def _headers_of(root: Path, places: Sequence[Place], progress: Progress, threads: int) -> Iterator[list[Any] | str]:
    """What :func:`overread.images.dicom.header.scan` says of every place, in order."""
    tasks = list(_tasks(os.fspath(root.absolute()), places))
    here = threads == 1 or len(places) < _FEW
    scan, done = dicom_header.scan, 0
    answers = (scan(*task) for task in tasks) if here else contained(scan, tasks, workers=threads)
    for (_, _, names), answer in zip(tasks, answers, strict=True):
        done += len(names)
        progress("reading headers", done, len(places))
        yield from [answer.what] * len(names) if isinstance(answer, OverreadError) else answer


def _tasks(root: str, places: Sequence[Place]) -> Iterator[tuple[str, str, list[str]]]:
    """The places in portions, each of one archive or of files."""
    for archive, group in groupby(places, key=lambda place: place.path if place.entry else ""):
        names = [place.entry or place.path for place in group]
        for at in range(0, len(names), _CHUNK):
            yield root, archive, names[at : at + _CHUNK]


# -- what becomes of it --------------------------------------------------------------------------------------------


def _sorted_out(seen: list[tuple[Place, list[Any] | str]]) -> tuple[Images, list[str], list[str], Unreadable]:
    """Images with their headers, notes and problems about the rest, and what cannot be read."""
    headers = [(place, dicom_header.header_from(found)) for place, found in seen if not isinstance(found, str)]
    images = [(place, header) for place, header in headers if header.has_pixels]
    if not images:
        raise InputError("there are no DICOM images here", given=f"{_s(len(seen), 'file')}, {len(headers):,} of them DICOM without pixels",
                         todo="give the folder, DICOMDIR or zip archive of an export")  # fmt: skip
    bare = Counter(
        header.modality if header.modality in _WITHOUT_PIXELS else "other"  # text from a header could be anything
        for _, header in headers
        if not (header.has_pixels or header.is_directory)
    )
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(bare.items()))
    others = sum(found == "" for _, found in seen)
    notes = [f"{_s(bare.total(), 'DICOM file')} without pixels left out ({kinds})"] if bare else []
    notes += [f"{_s(others, 'file')} of another kind left out"] if others else []
    unreadable = tuple((place.address(), found) for place, found in seen if isinstance(found, str) and found)
    reasons = Counter(reason for _, reason in unreadable)
    problems = [f"{_s(count, 'file')} cannot be read: {reason}" for reason, count in reasons.most_common()]
    return images, notes, problems, unreadable


def _counted(images: Images, table: pd.DataFrame) -> list[str]:
    studies = len({case_of(header) for _, header in images})
    patients = len({header.patient for _, header in images} - {""})
    notes = [f"{_s(len(images), 'DICOM image')} in {_s(studies, 'study', 'studies')} of {_s(patients, 'patient')}"]
    volumes = table["slices"][table["slices"] > 1]
    return notes + ([f"{volumes.sum():,} slices are {_s(len(volumes), 'volume')}, a row each"] if len(volumes) else [])


def _doubtful(table: pd.DataFrame, without_study: int) -> list[str]:
    """What a reader of the table should know before using it."""
    named = table["instance"][table["instance"] != ""]
    checks = (
        (table["patient"] == "", "do not say whose they are"),
        (table["burned_in"] == "YES", "have text burned into their pixels, by their headers"),
        (named.duplicated(), "repeat the identifier of another"),
        (table["problems"] != "", "have gaps, mixed or repeated slices: see the column problems"),
    )
    problems = [f"{mask.sum():,} of {len(table):,} rows {what}" for mask, what in checks if mask.any()]
    known = table[table["patient"] != ""]
    torn = int((known.groupby("case")["patient"].nunique() > 1).sum())
    if without_study:
        problems.append(f"{_s(without_study, 'image')} without a study, counted as cases of their own")
    if torn:
        problems.append(f"{_s(torn, 'study', 'studies')} with images of more than one patient")
    return problems


def _s(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


# -- headers to rows: a series of slices is one row, any other image one, and no two rows of a study look the same ---


#: Modalities of which slices make volumes, and slices that do.
CROSS_SECTIONAL = ("CT", "MR", "PT")
FEWEST_SLICES = 3
#: Columns of the table of an export.
COLUMNS = ("image", "patient", "case", "series", "instance", "accession", "source", "site", "device", "modality", "view",
           "laterality", "age", "sex", "date", "body_part", "frames", "slices", "spacing", "step", "burned_in",
           "problems")  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where an image lies: a file relative to the root, or a member (``entry``) of an archive there."""

    path: str
    entry: str = ""

    @property
    def folder(self) -> tuple[str, str]:
        """What slices of one volume share: the folder, and within an archive the folder there."""
        if self.entry:
            return self.path, self.entry.rpartition("/")[0]
        return self.path.rpartition("/")[0], ""

    def address(self, series: bool = False) -> str:
        """The address of the image, or of the whole series it begins."""
        return str(Address(self.path, entry=self.entry, series=series))


Images = list[tuple[Place, DicomHeader]]
Unreadable = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Row:
    """One row in the making: where, the header that speaks for it, slices, step between them in mm, and problems."""

    address: str
    header: DicomHeader
    slices: int = 1
    step: float = math.nan
    problems: tuple[str, ...] = ()


def rows(found: Images, slices: bool) -> pd.DataFrame:
    """The table of images with the columns :data:`COLUMNS`: text, blank where unknown, and two counts."""
    groups: dict[tuple[object, ...], Images] = defaultdict(list)
    for place, header in found:
        groups[(place.folder, header.study, header.series or place)].append((place, header))
    made = [row for group in groups.values() for row in _series(group, slices)]
    made.sort(key=lambda row: row.address)
    views = _views(made)
    issuers = _ambiguous(made)
    table = pd.DataFrame([_cells(row, view, issuers) for row, view in zip(made, views, strict=True)], columns=COLUMNS)
    return table.astype({name: object for name in COLUMNS if name not in ("frames", "slices")})


def _series(group: Images, slices: bool) -> list[_Row]:
    """Rows of one series in one folder: a volume for each stack that is one, else every image."""
    made, headers = [], [header for _, header in group]
    for stack in stacks(headers):
        volume = None if slices else _volume([group[i] for i in stack])
        made += [volume] if volume else [_Row(group[i][0].address(), headers[i]) for i in stack]
    return made


def _volume(stack: Images) -> _Row | None:
    """One row for slices that stand side by side, None where they are too few or of another kind."""
    header = stack[0][1]
    several = len(stack) >= FEWEST_SLICES and header.series != "" and header.modality in CROSS_SECTIONAL
    placed = header.position is not None and header.orientation is not None and not header.is_localizer
    if not several or not placed or any(h.frames > 1 for _, h in stack):
        return None
    found = order([h for _, h in stack])
    if len(found.indices) < FEWEST_SLICES:
        return None
    place, first = stack[found.indices[0]]
    return _Row(place.address(series=True), first, len(found.indices), found.spacing, found.problems)


def _cells(row: _Row, view: str, issuers: frozenset[str]) -> tuple[object, ...]:
    h = row.header
    patient = f"{h.patient}^^^{h.issuer}" if h.patient in issuers and h.issuer else h.patient
    device = " ".join(part for part in (h.manufacturer, h.device) if part)
    spacing = f"{h.spacing[0]:.4g}" if h.spacing else ""
    return (row.address, patient, case_of(h) or row.address, h.series, h.instance, h.accession, h.site or device, h.site, device,
            h.modality, view, h.laterality, _plain(h.age), h.sex, h.date, h.body_part, h.frames, row.slices,
            spacing, _plain(row.step), h.burned_in, "; ".join(row.problems))  # fmt: skip


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


# -- views ---------------------------------------------------------------------------------------------------------


def _views(made: Sequence[_Row]) -> list[str]:
    """A name for each row that no other row of its case has: the view, numbered from the second one on."""
    views = [_view(row.header) for row in made]
    several = Counter((case_of(row.header), view) for row, view in zip(made, views, strict=True))
    counts: Counter[tuple[str, str]] = Counter()
    for i in sorted(range(len(made)), key=lambda i: _sequence(made[i])):
        key = (case_of(made[i].header), views[i])
        counts[key] += 1
        if key[0] and several[key] > 1:
            views[i] = (views[i] or "image") + (f" {counts[key]}" if counts[key] > 1 else "")
    return views


def _sequence(row: _Row) -> tuple[float, float, str]:
    series, number = row.header.series_number, row.header.number
    return (math.inf if series is None else series, math.inf if number is None else number, row.address)


def _view(header: DicomHeader) -> str:
    """Side and projection (L-MLO, PA), or the plane of a slice; blank where the header says neither."""
    if header.is_localizer:
        return "localizer"
    if header.modality in CROSS_SECTIONAL and header.orientation is not None:
        return plane(header)
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
