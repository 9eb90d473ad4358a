"""What REST answers of slides, as types. Places are microns from the upper left corner of the slide."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SlideLine:
    """A slide in the list: the ``key`` by which its tiles are asked for, good until the server ends, and how the run calls it.

    ``part``: tuning or test. ``label``: blank where unknown; ``score``: null where it was not read. ``missing``: why it cannot
    be shown, blank where it can. ``heat_map``: whether there is one.
    """

    key: str
    name: str
    part: str
    label: str = ""
    score: float | None = None
    missing: str = ""
    heat_map: bool = False


@dataclass(frozen=True)
class SlidesAnswer:
    """The slides of the run, those of the test part first. ``threshold``: of the score of a slide, frozen on tuning data."""

    slides: list[SlideLine]
    positive: str = ""
    threshold: float | None = None
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LayerOf:
    """A picture in tiles: ``slide``, ``heat-map`` or ``skipped``; where it lies and how it is cut.

    ``left``, ``top``, ``right``, ``bottom`` in microns. ``width`` × ``height``: pixels of level ``most``; each level below it
    halves them, down to ``least``. ``tile``: pixels of the side of a tile.
    """

    name: str
    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    tile: int
    least: int
    most: int


@dataclass(frozen=True)
class FoundLesion:
    """A lesion that was found: where its strongest place is, its score, and the area in square millimetres of the places around it
    that reach the threshold, null where unknown. ``outlined``: whether it finds a lesion outlined by people, by lying on it or as
    close as counts as the same (75 µm); null where there are none.
    """

    number: int
    x: float
    y: float
    score: float | None
    area: float | None = None
    outlined: bool | None = None


@dataclass(frozen=True)
class OutlinedLesion:
    """A lesion that was outlined by a person: ``rings`` of ``[x, y]``, the outer one first, then holes.

    ``excluded``: it is not judged. ``longest``: its longest axis in microns.
    """

    group: str
    rings: list[list[list[float]]]
    excluded: bool = False
    longest: float | None = None


@dataclass(frozen=True)
class Skipped:
    """A kind of place that was not looked at, in words, its share of the slide, and its colour (red, green, blue)."""

    what: str
    share: float | None
    colour: list[int]


@dataclass(frozen=True)
class SkippedAnswer:
    """What was not looked at on a slide: the layer ``skipped``, and the kinds of places in it."""

    layer: LayerOf
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class SlideAnswer:
    """All that a viewer needs of one slide. ``width``, ``height`` and ``mpp`` (of a pixel of its finest level) in microns.

    ``threshold``: the probability from which a place of the heat map is shown at first, from tuning data; null where none was
    frozen. ``cell``: the side of a place of the heat map in microns.
    """

    key: str
    name: str
    part: str
    label: str
    score: float | None
    width: float
    height: float
    mpp: float
    objective: float | None
    layers: list[LayerOf]
    threshold: float | None = None
    cell: float | None = None
    lesions: list[FoundLesion] = field(default_factory=list)
    outlines: list[OutlinedLesion] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
