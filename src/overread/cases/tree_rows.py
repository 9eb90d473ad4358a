"""Headers to rows: a series of slices is one row, any other image one, and no two rows of a study look the same."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from overread.errors import ImageError
from overread.images.address import Address
from overread.images.dicom.header import Header
from overread.images.dicom.series import normal, order, stacks

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


@dataclass(frozen=True)
class _Row:
    """One row in the making: where, the header that speaks for it, slices, step between them in mm, and problems."""

    address: str
    header: Header
    slices: int = 1
    step: float = math.nan
    problems: tuple[str, ...] = ()


def rows(found: Sequence[tuple[Place, Header]], slices: bool) -> pd.DataFrame:
    """The table of images with the columns :data:`COLUMNS`: text, blank where unknown, and two counts."""
    groups: dict[tuple[object, ...], list[tuple[Place, Header]]] = defaultdict(list)
    for place, header in found:
        groups[(place.folder, header.study, header.series or place)].append((place, header))
    made = [row for group in groups.values() for row in _series(group, slices)]
    made.sort(key=lambda row: row.address)
    views = _views(made)
    issuers = _ambiguous(made)
    table = pd.DataFrame(
        [_cells(row, view, issuers) for row, view in zip(made, views, strict=True)], columns=COLUMNS
    )
    return table.astype({name: object for name in COLUMNS if name not in ("frames", "slices")})


def _series(group: list[tuple[Place, Header]], slices: bool) -> list[_Row]:
    """Rows of one series in one folder: a volume for each stack that is one, else every image."""
    made, headers = [], [header for _, header in group]
    for stack in stacks(headers):
        volume = None if slices else _volume([group[i] for i in stack])
        made += [volume] if volume else [_Row(group[i][0].address(), headers[i]) for i in stack]
    return made


def _volume(stack: list[tuple[Place, Header]]) -> _Row | None:
    """One row for slices that stand side by side, None where they are too few or of another kind."""
    header = stack[0][1]
    several = len(stack) >= FEWEST_SLICES and header.series != "" and header.modality in CROSS_SECTIONAL
    if not several or header.is_localizer or header.position is None or header.orientation is None:
        return None
    if any(h.frames > 1 for _, h in stack):
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


def case_of(header: Header) -> str:
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
            views[i] = _numbered(views[i], counts[key])
    return views


def _numbered(view: str, number: int) -> str:
    return (view or "image") if number == 1 else f"{view or 'image'} {number}"


def _sequence(row: _Row) -> tuple[float, float, str]:
    series, number = row.header.series_number, row.header.number
    return (math.inf if series is None else series, math.inf if number is None else number, row.address)


def _view(header: Header) -> str:
    """Side and projection (L-MLO, PA), or the plane of a slice; blank where the header says neither."""
    if header.is_localizer:
        return "localizer"
    if header.modality in CROSS_SECTIONAL and header.orientation is not None:
        return plane(header)
    side = header.laterality if header.laterality in ("L", "R", "B") else ""
    return "-".join(part for part in (side, header.view) if part)


def plane(header: Header) -> str:
    """Axial, coronal or sagittal if the plane is within 25 degrees of it, else oblique.

    >>> plane(Header(orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0)))
    'coronal'
    """
    try:
        across = [abs(x) for x in normal(header)]
    except ImageError:
        return ""
    largest = max(across)
    return (
        ("sagittal", "coronal", "axial")[across.index(largest)]
        if largest > math.cos(math.radians(25))
        else "oblique"
    )
