"""The lesions of a slide as outlines in microns, from the files of ASAP, QuPath and ImageScope, or from a label image.

Microns count from the upper left corner of level 0. What a group of outlines means is read from its name; a name that says
nothing is told, never guessed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, require
from overread.core.files import read_json, require_file
from overread.core.phrases import count
from overread.images.address import file_of
from overread.images.outlines.annotation_xml import parse_xml, read_xml
from overread.images.outlines.outline_shapes import Polygons
from overread.images.outlines.polygons import ring_area
from overread.images.outlines.raster import Patch
from overread.images.slides.files.handles import SLIDE_ENDINGS
from overread.images.slides.judged_regions import JudgedRegion, judged_regions, refuse_too_wide
from overread.images.slides.lesion_files.asap_xml import read_asap
from overread.images.slides.lesion_files.drawn_outlines import (
    DrawnOutline,
    DrawnOutlines,
    centroid,
    clipped,
    crosses_itself,
    inside,
    longest_chord,
    meet,
    overlap,
)
from overread.images.slides.lesion_files.label_slide import read_label_slide
from overread.images.slides.lesion_files.qupath_geojson import read_geojson
from overread.images.slides.square_shares import shares, summed

__all__ = ["Lesion", "Lesions", "outlines_named_like", "read_lesions"]

#: Bytes that a file of outlines of one slide may have, a label image aside; read, it takes about six times as much.
MOST_BYTES = 2**28
#: Endings of files of outlines, in the order in which a folder is asked for them.
ENDINGS = (".xml", ".geojson", ".json", ".tif", ".tiff")
#: Names of groups that are lesions, in small letters; ``_0`` and ``_1`` as CAMELYON16 writes them.
TUMOUR = ("_0", "_1", "tumor", "tumour", "metastasis", "metastases", "macrometastasis", "macro-metastasis", "micrometastasis",
          "micro-metastasis", "itc", "isolated tumor cells", "isolated tumour cells", "lesion", "lesions", "cancer", "carcinoma", "invasive tumor")  # fmt: skip
#: … that are cut out of the lesions around them: ``_2`` of CAMELYON16, ``normal`` of CAMELYON17.
NORMAL = ("_2", "normal", "exclusion", "non-tumor", "non-tumour", "hole")
#: … and that are not judged, neither found nor missed.
NOT_JUDGED = ("ignore", "ignored", "not judged", "uncertain", "unsure")
#: Cells of the raster that one lesion's share of squares is measured by.
_MOST_CELLS = 4_000_000


@runtime_checkable
class SlideExtent(Protocol):
    """What is asked of a slide here: pixels of level 0, and microns of a pixel."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def mpp(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Lesion:
    """One outline: ``polygon`` (N, 2) as x and y and its ``holes``, in microns, and the name of its ``group``.

    ``ignored``: an area that is not judged, by the name of its group.
    """

    polygon: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()
    group: str = ""
    ignored: bool = False

    @property
    def centre(self) -> tuple[float, float]:
        """The centre of gravity (x, y) of what the outline encloses, µm."""
        return centroid(self.polygon)

    @cached_property
    def area(self) -> float:
        """What the outline encloses, without its holes, µm²; of one that crosses itself, or is partly cut, or cut twice, by
        small cells."""
        plain = not crosses_itself(self.polygon) and all(inside(hole, self.polygon).all() for hole in self.holes)
        plain = plain and not any(meet(one, other) for one, other in combinations(self.holes, 2))
        if plain:
            return abs(ring_area(self.polygon)) - sum(abs(ring_area(hole)) for hole in self.holes)
        patch, cell = self._patch(0.0)
        return float(patch.pixels.sum()) * cell**2

    @cached_property
    def longest(self) -> float:
        """The greatest distance between two of its corners, µm."""
        return longest_chord(self.polygon)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, µm."""
        (left, top), (right, bottom) = self.polygon.min(axis=0).tolist(), self.polygon.max(axis=0).tolist()
        return left, top, right, bottom

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (N, 2) lie in it and in none of its holes: (N,)."""
        found = inside(points, self.polygon)
        for hole in self.holes:
            if found.any():
                found[found] = ~inside(points[found], hole)
        return found

    def _patch(self, cell: float) -> tuple[Patch, float]:
        """Its cells, from its own corner on, and their side: ``cell`` microns, or more where they were too many."""
        left, top, right, bottom = self.box
        cell = max(cell, ((right - left) * (bottom - top) / _MOST_CELLS) ** 0.5, 1e-3)
        corner = np.array([left, top])
        rings = tuple((ring - corner) / cell for ring in (self.polygon, *self.holes))
        size = int((bottom - top) / cell) + 1, int((right - left) / cell) + 1
        return Polygons(rings[:1], rings[1:]).patch(size, ""), cell


@dataclass(frozen=True, eq=False)
class Lesions:
    """The outlines of a slide, and what was ``said`` of their file when it was read."""

    lesions: tuple[Lesion, ...] = ()
    said: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lesions)

    @cached_property
    def excluded(self) -> tuple[bool, ...]:
        """Of each outline whether it is left out of the judgement: as an area that is ignored, or as isolated tumour cells
        (see :mod:`.judged_regions`). Regions are drawn for it, which takes a while, so that it is found when it is asked for."""
        judged = {at for region in self._of_tumour if not region.isolated for at in region.outlines}
        return tuple(lesion.ignored or at not in judged for at, lesion in enumerate(self.lesions))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the outlines: of their file, and how many of them are not judged as isolated tumour cells."""
        few = sum(self.excluded) - sum(lesion.ignored for lesion in self.lesions)
        told = f"{count(few, 'outline')} of isolated tumour cells (a longest axis below 200 µm) not judged, as CAMELYON16 does"
        return (*self.said, told) if few else self.said

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
        """The lesion on which each point (N,), µm, lies, −1 for none: (N,). Of several a judged one, then the smallest."""
        points = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=1)
        found = np.full(len(points), -1)
        for number in self._upwards:
            found[self.lesions[number].holds(points)] = number
        return found

    def region_at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
        """The region of :attr:`regions` that a mark at each point (N,), µm, finds, −1 for none: (N,). Judged ones first."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        found = np.full(len(x), -1)
        for excluded in (True, False):
            for number, (region, left_out) in enumerate(zip(self.regions, self.regions_excluded, strict=True)):
                if left_out == excluded:
                    found[region.holds(x, y)] = number
        return found

    @cached_property
    def regions(self) -> tuple[JudgedRegion, ...]:
        """What counts as one lesion each when a search is judged: first those of tumour, then the areas not judged."""
        return (*self._of_tumour, *self._regions(True))

    @property
    def regions_excluded(self) -> tuple[bool, ...]:
        """Of each region whether it is left out of the judgement: one of isolated tumour cells also where its outline has a
        larger one beside it."""
        return tuple(region.isolated or self.lesions[region.outlines[0]].ignored for region in self.regions)

    def share(self, x: NDArray[np.float64], y: NDArray[np.float64], side: float, *, excluded: bool = True) -> NDArray[np.float64]:  # fmt: skip
        """The share of squares of ``side`` microns, centred at points (N,), that lesions cover: (N,), by cells of side / 16.

        ``excluded``: those left out of the judgement too. Large lesions are measured by cells of up to 1/2000 of their size.
        """
        require(side > 0, "the side of a square must be above 0", given=side)
        x, y, half = np.asarray(x, np.float64), np.asarray(y, np.float64), side / 2
        total = np.zeros(len(x))
        for at, lesion in enumerate(self.lesions):
            left, top, right, bottom = lesion.box
            near = (x > left - half) & (x < right + half) & (y > top - half) & (y < bottom + half)
            if not near.any() or (not excluded and self.excluded[at]):
                continue
            patch, cell = lesion._patch(side / 16)
            table = summed(patch.pixels)
            column, row = (x[near] - left) / cell - patch.left, (y[near] - top) / cell - patch.top
            total[near] += shares(table, column, row, side / cell) if patch.pixels.size else 0.0
        return np.clip(total, 0.0, 1.0)

    def raster(self, slide_size: tuple[float, float], mpp: float) -> NDArray[np.int32]:
        """Cells (H, W) of ``mpp`` microns over a slide of ``slide_size`` (width, height) microns: the number of the lesion
        at the centre of each plus 1, else 0; where several lie as in :meth:`at`."""
        require(mpp > 0, "the microns of a cell must be above 0", given=mpp)
        width, height = (max(1, int(np.ceil(side / mpp - 1e-6))) for side in slide_size)
        require(width * height <= 400_000_000, "the raster would hold too many cells", given=f"{width:,} × {height:,}")
        found = np.zeros((height, width), np.int32)
        for number in self._upwards:
            lesion = self.lesions[number]
            rings = tuple(ring / mpp for ring in (lesion.polygon, *lesion.holes))
            patch = Polygons(rings[:1], rings[1:]).patch((height, width), "")
            found[patch.slices][patch.pixels] = number + 1
        return found

    @property
    def _upwards(self) -> list[int]:
        """Lesions so that what counts comes last: the judged ones after the others, small ones after large ones."""
        return sorted(range(len(self)), key=lambda at: (not self.excluded[at], -abs(ring_area(self.lesions[at].polygon))))  # fmt: skip

    @cached_property
    def _of_tumour(self) -> tuple[JudgedRegion, ...]:
        return tuple(self._regions(False))

    def _regions(self, ignored: bool) -> list[JudgedRegion]:
        mine = [at for at, lesion in enumerate(self.lesions) if lesion.ignored == ignored]
        found = judged_regions([(self.lesions[at].polygon, self.lesions[at].holes) for at in mine])
        return [replace(region, outlines=tuple(mine[at] for at in region.outlines)) for region in found]


# -- reading --------------------------------------------------------------------------------------------------------


@checked
def read_lesions(path: str | os.PathLike[str], slide: SlideExtent, *, tumour: Sequence[str] = ()) -> Lesions:
    """The lesions of a slide from a file of outlines, told by its content: the XML of ASAP and CAMELYON or of ImageScope,
    the GeoJSON of QuPath (all in pixels of level 0), or a label image (TIFF) of the same extent.

    Groups whose names are known to mean tumour are lesions, or those that ``tumour`` names, in any case; groups of normal
    tissue are cut out of them; groups that are not judged are ``ignored``. A file whose outlines
    have no names at all is taken for lesions, and that is said. Raises :class:`InputError` for a file of another kind,
    too large, or without a group that is known; :class:`ImageError` for outlines that cannot be read, or lie beyond the
    slide.
    """
    drawn = _drawn(require_file(path), slide)
    sides = np.array([slide.width, slide.height], np.float64)
    within = [_within(each, sides) for each in drawn.outlines]
    if outside := within.count(None):
        raise ImageError("outlines lie beyond the slide", given=f"{outside} of {count(len(drawn.outlines), 'outline')}, for more than half",
                         todo="see that they belong to this slide, in pixels of its finest level")  # fmt: skip
    wanted = tuple(_plain(name) for name in tumour)
    by_role: dict[str, list[DrawnOutline]] = {}
    for each in (one for one in within if one is not None):
        by_role.setdefault(_role(each.groups, wanted), []).append(each)
    notes = [*drawn.notes, *_geometry_notes(drawn.outlines, sides)]
    if by_role.get("tumour") or wanted:
        notes += _left_out(by_role)
    elif by_role.get("unknown"):
        names = sorted({each.groups[0] for each in by_role["unknown"]})
        raise InputError("no group of the outlines is known to mean tumour", given=", ".join(names)[:200],
                         todo="name the groups that do (--tumour-group NAME)")  # fmt: skip
    elif unnamed := by_role.pop("", []):
        by_role["tumour"] = unnamed
        notes.append(f"{count(len(unnamed), 'outline')} without a group taken for tumour")
    return _judged(by_role, slide.mpp, notes)


def _within(drawn: DrawnOutline, sides: NDArray[np.float64]) -> DrawnOutline | None:
    """An outline without what reaches beyond the slide; None for one of which less than half lies on it."""
    if (drawn.ring >= 0).all() and (drawn.ring <= sides).all():
        return drawn
    ring = clipped(drawn.ring, sides)
    if len(ring) < 3 or 2 * abs(ring_area(ring)) < abs(ring_area(drawn.ring)):
        return None
    holes = (clipped(hole, sides) for hole in drawn.holes)
    return replace(drawn, ring=ring, holes=tuple(hole for hole in holes if len(hole) >= 3))


def _drawn(path: Path, slide: SlideExtent) -> DrawnOutlines:
    """The outlines of a file by what it begins with."""
    with path.open("rb") as file:
        head = file.read(64)
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return read_label_slide(path, slide.width, slide.height, slide.mpp)
    if (many := path.stat().st_size) > MOST_BYTES:
        raise InputError("the file of outlines is too large", given=f"{many:,} bytes; at most {MOST_BYTES:,}", todo="split it, or export a label image")  # fmt: skip
    if begin in (b"{", b"["):
        value = read_json(path)
        return read_geojson(value)
    if begin != b"<" and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path.name} is no file of outlines", given="no XML, GeoJSON or TIFF", todo="export it from ASAP, QuPath or ImageScope, or as a label image")  # fmt: skip
    root = parse_xml(path.read_bytes(), path.name)
    if root.name == "ASAP_Annotations":
        return read_asap(root)
    if root.name != "Annotations":
        raise InputError(f"{path.name} is no XML of ASAP or ImageScope", given=f"<{root.name[:40]}>")
    return _from_imagescope(path)


def _from_imagescope(path: Path) -> DrawnOutlines:
    """The regions of ImageScope; the name of a layer is the group."""
    (held,) = read_xml(path).values()
    found: list[DrawnOutline] = []
    for shape, name in held.shapes:
        if isinstance(shape, ImageError):
            raise shape
        if isinstance(shape, Polygons):
            found += [DrawnOutline(ring, (name,) if name else (), shape.holes) for ring in shape.rings]
    return DrawnOutlines(tuple(found), held.notes)


def _plain(name: str) -> str:
    """A name as it is looked up: QuPath ends those of classes that it does not measure in an asterisk."""
    return re.sub(r"\s+", " ", name).strip().rstrip("*").strip().lower()


def _role(groups: Sequence[str], wanted: Sequence[str]) -> str:
    """What an outline is by its groups, the inner first: tumour, normal, not judged, unknown, or blank without a group."""
    names = [_plain(name) for name in groups if name.strip()]
    for name in names:
        if name in wanted or (not wanted and name in TUMOUR):
            return "tumour"
        if name in NORMAL:
            return "normal"
        if name in NOT_JUDGED:
            return "not judged"
    return "unknown" if names else ""


def _left_out(by_role: dict[str, list[DrawnOutline]]) -> list[str]:
    """Words for the outlines of groups that say nothing."""
    unknown = Counter(each.groups[0] for each in by_role.get("unknown", []))
    notes = [
        f"{count(many, 'outline')} of the group {name!r} left out: it is not known to mean tumour (--tumour-group)"
        for name, many in sorted(unknown.items())
    ]
    unnamed = len(by_role.get("", []))
    return [*notes, *([f"{count(unnamed, 'outline')} without a group left out"] if unnamed else [])]


def _geometry_notes(outlines: Sequence[DrawnOutline], sides: NDArray[np.float64]) -> list[str]:
    """Words for rings that cross themselves, and for those that reach beyond the slide."""
    crossing = [crosses_itself(each.ring) for each in outlines]
    cut = sum(bool((each.ring < 0).any() or (each.ring > sides).any()) for each in outlines)
    notes = []
    if any(crossing):
        notes.append(f"{count(sum(map(bool, crossing)), 'outline')} crossing {'itself' if sum(map(bool, crossing)) == 1 else 'themselves'}, taken by the even-odd rule")  # fmt: skip
    if unknown := sum(each is None for each in crossing):
        notes.append(f"{count(unknown, 'outline')} too long to tell whether {'it crosses itself' if unknown == 1 else 'they cross themselves'}")  # fmt: skip
    return [*notes, *([f"{count(cut, 'outline')} reaching beyond the slide, cut at its edge"] if cut else [])]


def _judged(by_role: dict[str, list[DrawnOutline]], mpp: float, notes: list[str]) -> Lesions:
    """Lesions in microns, normal islands cut out."""
    tumour, islands = by_role.get("tumour", []), by_role.get("normal", [])
    cut: list[Lesion] = []
    gone, used = 0, set[int]()
    for each in tumour:
        over = [at for at, island in enumerate(islands) if overlap(island.ring, each.ring)]
        used.update(over)
        if any(inside(each.ring, islands[at].ring).all() for at in over):  # CAMELYON16 paints islands last
            gone += 1
            continue
        holes = (*each.holes, *(islands[at].ring for at in over))
        cut.append(Lesion(each.ring * mpp, tuple(hole * mpp for hole in holes), next(iter(each.groups), "")))
    if gone:
        notes.append(f"{count(gone, 'outline')} of tumour wholly within an outline of normal tissue left out")
    if lonely := len(islands) - len(used):
        notes.append(f"{count(lonely, 'outline')} of normal tissue cut out of no lesion")
    aside = [Lesion(each.ring * mpp, tuple(hole * mpp for hole in each.holes), each.groups[0], ignored=True) for each in by_role.get("not judged", [])]  # fmt: skip
    for some in (cut, aside):  # told here, and not when regions are asked for
        refuse_too_wide([(lesion.polygon, lesion.holes) for lesion in some])
    return Lesions((*cut, *aside), tuple(notes))


# -- files of many slides --------------------------------------------------------------------------------------------


@checked
def outlines_named_like(slides: Sequence[str], folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The file of outlines of each slide in a folder, blank where there is none: of the same name but for its ending.

    ``slides``: paths or addresses. A file in the same subfolder as the slide comes before one of the same name elsewhere, and
    one in a subfolder that is that of other slides is theirs;
    ``NAME_mask.tif`` is one too. Raises :class:`InputError` for a folder that is none, and where two files fit one slide.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError("there is no folder of outlines", given=str(folder), todo="check the path")
    held: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            for name in dict.fromkeys((_stem(path.name), re.sub(r"[ _-](mask|annotations?|outlines?)\Z", "", _stem(path.name)))):  # fmt: skip
                held.setdefault(name, []).append(path)
    files = [Path(file_of(slide)) for slide in slides]
    folders = {file.parent.parts for file in files}
    return tuple(_of_slide(held, file, root, folders) for file in files)


def _of_slide(held: dict[str, list[Path]], file: Path, root: Path, folders: set[tuple[str, ...]]) -> str:
    def mirrored(path: Path) -> tuple[str, ...]:
        return path.parent.relative_to(root).parts

    fits = [path for path in held.get(_stem(file.name), []) if path.absolute() != file.absolute()]
    own = [path for path in fits if _ends(file.parent.parts, mirrored(path))]
    fits = [path for path in fits if path in own or not any(_ends(each, mirrored(path)) for each in folders)]
    if len(fits) > 1:
        fits = [path for path in fits if mirrored(path)[-1:] == file.parent.parts[-1:]] or fits
    if len(fits) > 1:
        exact = [path for path in fits if _stem(path.name) == _stem(file.name)]
        fits = exact or fits
    if len(fits) > 1:
        raise InputError("two files of outlines fit one slide", given=f"{fits[0].name} and {fits[1].name}", todo="keep one of them, or name them in a column")  # fmt: skip
    return str(fits[0]) if fits else ""


def _ends(folder: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether the path of a folder ends in these parts."""
    return not parts or folder[-len(parts) :] == parts


def _stem(name: str) -> str:
    """A name without its ending, in small letters: also ``.ome.tiff``, and the slide's own before that of the outlines."""
    plain = re.sub(r"\.(xml|geojson|json)\Z", "", name.lower())
    return re.sub(
        rf"(\.ome)?(\.(tiff?|{'|'.join(SLIDE_ENDINGS).replace('.', '')}|czi|zvi|dcm|zarr))?\Z", "", plain, count=1
    )
