"""Addresses: which image within a file, as text that fits into a cell of a table.

``scan.dcm#frame=3``, ``study.zip#entry=IM/0001``, ``series/first.dcm#series``, ``lung.nii.gz#plane=axial&at=40``,
``lung.nii.gz#plane=coronal&point=12.5,-40,88&side=60``, ``brain.nii.gz#nan=lowest``, ``film.tif#frames=projections``, and ``file.npz#array/row`` (see :mod:`.npz`).
Of a whole slide: ``node.svs#slide``, its overview, and ``node.svs#tile=1250.5,880,256,0.5``, 256 x 256 pixels of 0.5 µm around x 1250.5 µm, y 880 µm from the
upper left corner; ``&mpp=0.25`` where the file does not say how many microns a pixel of its finest level has. Text
behind a ``#`` that is none of these belongs to the file's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from overread.core.errors import ImageError, checked, one_of, require

#: The planes through a volume.
PLANES = ("axial", "coronal", "sagittal")

_PART = r"(?:series|slide|frames=(?:projections|channels(?::\d{1,3})?)|(?:entry|frame|plane|at|point|side|pixel|nan|tile|mpp)=[^&#]*)"
_FRAGMENT = re.compile(rf"(?s)(.+)#({_PART}(?:&{_PART})*)\Z")


@dataclass(frozen=True)
class Address:
    """A file and which image of it.

    ``entry``: member of a zip archive. ``frame``: of a film, from 0. ``series``: the file and all of its series in
    the same folder, as a volume. ``plane`` of a volume: the middle one, or the one numbered ``at`` (from the
    inferior, posterior or left side, from 0), or the one through ``point`` (x, y, z in mm, RAS), there cut to a
    square with a ``side`` in mm where that is above 0, its pixels of ``pixel`` mm (0: the finest spacing). ``nan``: ``lowest`` takes voxels of a volume that are NaN for its
    lowest value; blank refuses them. ``frames``: how a stack is seen as one image (see :mod:`.frame_view`). ``slide``: the overview of a whole slide; ``tile``: of a slide, the square around
    x, y (µm) with so many pixels a side of so many µm; ``mpp``: µm of a pixel of its finest level (0: as the file says).
    """

    path: str
    entry: str = ""
    frame: int | None = None
    series: bool = False
    plane: str = ""
    at: int | None = None
    point: tuple[float, float, float] | None = None
    side: float = 0.0
    pixel: float = 0.0
    nan: str = ""
    frames: str = ""
    slide: bool = False
    tile: tuple[float, float, int, float] | None = None
    mpp: float = 0.0

    def __post_init__(self) -> None:
        if self.plane:
            one_of(self.plane, PLANES, "plane")
        one_of(self.nan, ("", "lowest"), "nan")
        alone = self.at is None and self.point is None
        require(self.plane != "" or alone, "at and point need a plane", given=self.at)
        require(self.at is None or self.point is None, "give at or point, not both", given=self.at)
        require(self.side >= 0, "side must not be negative", given=self.side)
        require(self.side == 0 or self.point is not None, "side needs a point", given=self.side)
        require(self.pixel >= 0, "pixel must not be negative", given=self.pixel)
        require(
            not self.frames or self.frame is None,
            "an image is one frame, or made of all",
            given=f"frame {self.frame} and frames {self.frames}",
        )
        require(self.pixel == 0 or self.side > 0, "pixel needs a side", given=self.pixel)
        require(not (self.slide and self.tile), "an image is the overview of a slide or a tile of it", given=self.tile)
        require(0 <= self.mpp < 1e6, "mpp must not be negative", given=self.mpp)
        require(self.mpp == 0 or self.whole_slide, "mpp needs slide or tile", given=self.mpp)
        if self.tile is not None:
            x, y, size, mpp = self.tile
            require(max(abs(x), abs(y)) < 1e9, "a tile lies within its slide", given=f"{x:g}, {y:g} µm")
            require(
                1 <= size <= 16_384 and 0 < mpp < 1e6,
                "a tile has 1 to 16384 pixels of some microns",
                given=f"{size}, {mpp:g}",
            )

    @property
    def whole_slide(self) -> bool:
        """Whether it is of a whole slide: its overview or a tile of it."""
        return self.slide or self.tile is not None

    def __str__(self) -> str:
        parts = [f"entry={quote(self.entry, safe='/')}"] if self.entry else []
        parts += ["series"] if self.series else []
        parts += [f"frame={self.frame}"] if self.frame is not None else []
        parts += [f"plane={self.plane}"] if self.plane else []
        parts += [f"at={self.at}"] if self.at is not None else []
        parts += ["point=" + ",".join(f"{x:.6g}" for x in self.point)] if self.point is not None else []
        parts += [f"side={self.side:.6g}"] if self.side else []
        parts += [f"pixel={self.pixel:.6g}"] if self.pixel else []
        parts += [f"nan={self.nan}"] if self.nan else []
        parts += [f"frames={self.frames}"] if self.frames else []
        parts += ["slide"] if self.slide else []
        parts += ["tile=" + ",".join(f"{number:.10g}" for number in self.tile)] if self.tile is not None else []
        parts += [f"mpp={self.mpp:.10g}"] if self.mpp else []
        return f"{self.path}#{'&'.join(parts)}" if parts else self.path


@checked
def parse(text: str) -> Address:
    """The address that ``text`` is. Raises :class:`ImageError` for numbers that are none.

    >>> parse("lung.nii.gz#plane=axial&at=40")
    Address(path='lung.nii.gz', entry='', frame=None, series=False, plane='axial', at=40, point=None, side=0.0, pixel=0.0, nan='', frames='', slide=False, tile=None, mpp=0.0)
    >>> parse("node.svs#tile=1250.5,880,256,0.5").tile
    (1250.5, 880.0, 256, 0.5)
    >>> parse("film.tif#frames=channels:8").frames
    'channels:8'
    >>> parse("a#b.png").path
    'a#b.png'
    """
    match = _FRAGMENT.match(text)
    if match is None:
        return Address(text)
    values = dict((part.split("=", 1) + [""])[:2] for part in match[2].split("&"))
    try:
        point = tuple(float(x) for x in values["point"].split(",")) if "point" in values else None
        if point is not None and len(point) != 3:
            raise ValueError("a point has three numbers")
        return Address(
            match[1], unquote(values.get("entry", "")), _whole(values, "frame"), "series" in values,
            values.get("plane", ""), _whole(values, "at"), point, float(values.get("side", 0)),
            float(values.get("pixel", 0)), values.get("nan", ""), values.get("frames", ""),
            "slide" in values, _square(values.get("tile")), float(values.get("mpp", 0)),
        )  # fmt: skip
    except ValueError as error:
        raise ImageError("the address of the image cannot be read", given=match[2][:80], todo=str(error)) from error


def _square(text: str | None) -> tuple[float, float, int, float] | None:
    if text is None:
        return None
    numbers = text.split(",")
    if len(numbers) != 4:
        raise ValueError("a tile has four numbers: x, y, pixels, microns of a pixel")
    return float(numbers[0]), float(numbers[1]), int(numbers[2]), float(numbers[3])


def _whole(values: dict[str, str], name: str) -> int | None:
    return int(values[name]) if name in values else None


@checked
def file_of(text: str) -> str:
    """The file in an address, of whatever kind.

    >>> file_of("lungs.npz#train/12#plane=axial"), file_of("scan.dcm#frame=3"), file_of("a#b.png")
    ('lungs.npz', 'scan.dcm', 'a#b.png')
    """
    whole = parse(text).path
    array = re.match(r"(?s)(.+\.npz)#[^#/]+/\d{1,15}\Z", whole, re.IGNORECASE)
    return array[1] if array else whole
