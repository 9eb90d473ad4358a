"""What lies where on a phantom slide, in microns: tissue, tumour islands and their lookalikes, fat, and what went wrong.

A plan is a pure function of the seed, the slide's number and what is asked of it. It holds curves, not pixels, so that it is
small for a slide of any size; :mod:`overread.synthetic.slides.slide_pixels` draws any tile of it.

Two things tell tissue apart, and neither is colour. *Chromatin* is fine or coarse, with the same mean: grains of about a
micron, which half a micron a pixel shows and two microns a pixel do not. *Arrangement* is scattered, a sheet, straight cords
or rings of a radius of about 100 µm: the bands of cords and rings are equally wide and dense, so that a field of 30 µm looks
alike in both, and one of 200 µm does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, one_of, require

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """How cells of a region look: ``coarse`` chromatin or fine, ``large`` or not, and their ``arrangement``."""

    coarse: bool
    large: bool
    arrangement: str


#: Islands of tumour: seen in the detail alone, in the context alone, or in both and the size of nuclei too.
ISLANDS = {
    "detail": Look(True, False, "scattered"),
    "context": Look(False, False, "rings"),
    "plain": Look(True, True, "sheet"),
}
#: Harmless tissue that shares one trait with a tumour: ducts, reactive tissue, follicles.
LOOKALIKES = {
    "ducts": Look(False, False, "cords"),
    "reactive": Look(True, False, "cords"),
    "follicle": Look(False, False, "sheet"),
}
#: Rings need this radius of an island to show one of them.
RING_ROOM = 140.0
#: Islands up to this length are isolated tumour cells (AJCC; Camelyon16 leaves them out of its FROC).
ISOLATED = 200.0


@dataclass(frozen=True)
class Blob:
    """A closed curve, in microns: ``radius`` about a centre, with waves of these ``heights`` (shares of the radius) and ``turns``."""

    x: float
    y: float
    radius: float
    heights: tuple[float, ...] = ()
    turns: tuple[float, ...] = ()

    @property
    def reach(self) -> float:
        """No point of the curve is farther from its centre."""
        return self.radius * (1 + sum(map(abs, self.heights)))

    def edge(self, angle: NDArray[np.floating]) -> Floats:
        """The distance of the curve from its centre in directions (…,) in radians."""
        waves = [
            h * np.cos(k * angle + t) for k, (h, t) in enumerate(zip(self.heights, self.turns, strict=True), start=2)
        ]
        return np.asarray(self.radius * (1 + sum(waves)) + 0 * angle)

    def depth(self, x: Floats, y: Floats) -> Floats:
        """How far inside of the curve points lie, along the ray from its centre; negative outside."""
        across, down = x - self.x, y - self.y
        return np.asarray(self.edge(np.arctan2(down, across)) - np.hypot(across, down))

    def outline(self, points: int = 0) -> Floats:
        """Points (n, 2) of the curve, about 8 µm apart."""
        many = points or int(np.clip(2 * np.pi * self.radius / 8, 24, 720))
        angle = np.arange(many) * (2 * np.pi / many)
        return np.column_stack((self.x + self.edge(angle) * np.cos(angle), self.y + self.edge(angle) * np.sin(angle)))


@dataclass(frozen=True)
class Region:
    """Cells of one look within a curve; ``kind`` is one of the islands or lookalikes, ``turn`` the direction of cords in radians."""

    blob: Blob
    kind: str
    turn: float = 0.0

    @property
    def look(self) -> Look:
        return (ISLANDS | LOOKALIKES)[self.kind]

    @property
    def tumour(self) -> bool:
        return self.kind in ISLANDS

    @property
    def longest(self) -> float:
        """The greatest extent of the outline in microns."""
        points = self.blob.outline()
        return float(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max())

    @property
    def isolated(self) -> bool:
        """Tumour cells too few to count as a metastasis."""
        return self.longest < ISOLATED


@dataclass(frozen=True)
class Stroke:
    """A line of a pen through ``points`` (n, 2), so ``wide``, in microns; ``ink`` absorbs red, green and blue."""

    points: tuple[tuple[float, float], ...]
    wide: float
    ink: tuple[float, float, float]


@dataclass(frozen=True)
class SlidePlan:
    """Everything on a slide of ``width`` × ``height`` microns; ``key`` names it among the slides of its seed."""

    seed: int
    key: int
    width: float
    height: float
    tissue: tuple[Blob, ...]
    regions: tuple[Region, ...] = ()
    fat: tuple[Blob, ...] = ()
    pen: tuple[Stroke, ...] = ()
    blurred: tuple[Blob, ...] = ()
    bubbles: tuple[Blob, ...] = ()
    coverslip: float = 0.0  # x of its edge in microns; 0: not in the picture

    @property
    def islands(self) -> tuple[Region, ...]:
        """The tumour on it."""
        return tuple(region for region in self.regions if region.tumour)


@checked
def plan_slide(
    seed: int, key: int, *, width: float, height: float, tissue_share: float = 0.4, tumour: str = "no",
    islands: tuple[str, ...] = tuple(ISLANDS), artefacts: bool = True,
) -> SlidePlan:  # fmt: skip
    """What lies where on slide ``key`` of a ``seed``.

    ``width`` and ``height`` in microns, of which about a share ``tissue_share`` is tissue. ``tumour``: "no", "isolated" (only
    islands shorter than 200 µm) or "yes" (one to four islands up to 2 mm as there is room, and isolated cells beside them),
    of the kinds ``islands``, drawn with equal chance. Lookalikes, fat and artefacts know nothing of the tumour. Raises ArgumentError
    for a slide smaller than 400 µm, for unknown kinds, and for shares outside (0, 0.7].
    """
    require(min(width, height) >= 400, "a slide measures at least 400 µm", given=(width, height))
    require(0 < tissue_share <= 0.7, "tissue_share lies in (0, 0.7]", given=tissue_share)
    one_of(tumour, ("no", "isolated", "yes"), "tumour")
    require(len(islands) > 0, "islands names a kind or more", given=islands, todo=f"some of {', '.join(ISLANDS)}")
    for kind in islands:
        one_of(kind, ISLANDS, "the kind of an island")
    tissue = _tissue(seed, key, width, height, tissue_share)
    large, small = _sites(
        seed, key, tissue, islands
    )  # on every slide, so that the rest lies alike with and without tumour
    taken = {"no": [], "isolated": small, "yes": [*large, *small]}[tumour]
    fat = _fat(seed, key, tissue, [site.blob for site in (*large, *small)])
    harmless = _lookalikes(seed, key, tissue, [*fat, *(site.blob for site in (*large, *small))])
    plan = SlidePlan(seed, key, width, height, tissue, (*harmless, *taken), fat)
    return _with_artefacts(plan) if artefacts else plan


def _drawn(seed: int, key: int, count: int, name: str) -> Floats:
    return random.uniform(seed, key, np.arange(count), f"slide/{name}")


def _blob(x: float, y: float, radius: float, u: Floats, uneven: float) -> Blob:
    """A curve whose waves are given by 8 numbers from 0 to 1."""
    heights = tuple(float(uneven * (2 * a - 1) / np.sqrt(k)) for k, a in enumerate(u[:4], start=2))
    return Blob(float(x), float(y), float(radius), heights, tuple(float(2 * np.pi * t) for t in u[4:8]))


def _tissue(seed: int, key: int, width: float, height: float, share: float) -> tuple[Blob, ...]:
    """Pieces of tissue, one to three side by side along the longer axis, that cover the share."""
    u = _drawn(seed, key, 40, "tissue")
    long, short = max(width, height), min(width, height)
    most = max(1, min(3, int(long / short + 0.5 + u[0] * (1 if share < 0.3 else 0.6))))
    radius = min(np.sqrt(share * width * height / (np.pi * most)), 0.44 * short, 0.44 * long / most)
    pieces = []
    for piece in range(most):
        own = u[1 + 12 * piece : 13 + 12 * piece]
        slack = max(0.0, 0.5 * long / most - 1.1 * radius), max(0.0, 0.5 * short - 1.1 * radius)
        along = long * (piece + 0.5) / most + (2 * own[8] - 1) * slack[0] * 0.8
        across = short / 2 + (2 * own[9] - 1) * slack[1] * 0.8
        x, y = (along, across) if width >= height else (across, along)
        pieces.append(_blob(x, y, radius * (0.92 + 0.12 * own[10]), own, 0.16))
    return tuple(pieces)


def _room(tissue: tuple[Blob, ...], taken: list[Blob], blob: Blob, apart: float) -> bool:
    """Whether the curve lies within tissue and clear of others."""
    x, y = blob.outline(24).T
    inside = any(bool((piece.depth(x, y) > 12).all()) for piece in tissue)
    return inside and all(np.hypot(blob.x - t.x, blob.y - t.y) > 1.08 * (blob.radius + t.radius) + apart for t in taken)


def _placed(
    tissue: tuple[Blob, ...], taken: list[Blob], radius: float, u: Floats, *, uneven: float, least: float, apart: float = 20.0
) -> Blob | None:  # fmt: skip
    """A curve of about this radius where there is room; it shrinks while there is none, down to the least."""
    tries = (len(u) - 8) // 3
    sizes = np.cumsum([piece.radius**2 for piece in tissue])
    for t in range(tries):
        a, b, c = u[8 + 3 * t : 11 + 3 * t]
        piece = tissue[int(np.searchsorted(sizes, a * sizes[-1], side="right").clip(0, len(tissue) - 1))]
        away, angle = piece.radius * np.sqrt(b) * 0.95, 2 * np.pi * c
        size = max(least, radius * 0.975**t)
        blob = _blob(piece.x + away * np.cos(angle), piece.y + away * np.sin(angle), size, u, uneven)
        if _room(tissue, taken, blob, apart):
            return blob
    return None


def _sites(seed: int, key: int, tissue: tuple[Blob, ...], kinds: tuple[str, ...]) -> tuple[list[Region], list[Region]]:
    """Where tumour would lie: one to four metastases from 240 µm to 2 mm, evenly on a logarithmic axis as room allows, and
    isolated cells; one of each at least, and where there is no room the smaller."""
    u = _drawn(seed, key, 2, "tumour")
    found: tuple[list[Region], list[Region]] = ([], [])
    largest = 0.42 * max(piece.radius for piece in tissue)
    many, few = 1 + int(u[0] * 4), 1 + int(u[1] * 3)
    for number in range(many + few):
        own = _drawn(seed, key, 8 + 3 * 80 + 3, f"island/{number}")
        kind, small = kinds[int(own[-1] * len(kinds))], number >= many
        if small and kind == "context":  # rings have no room in a few cells
            kind = "detail" if "detail" in kinds else "plain"
        least = 10.0 if small else RING_ROOM if kind == "context" else 120.0
        top = 75.0 if small else min(1000.0, max(largest, least * 1.05))
        taken = [region.blob for region in (*found[0], *found[1])]
        blob = _placed(tissue, taken, least * (top / least) ** float(own[-2]), own[:-3], uneven=0.1, least=least)
        if blob is None and not found[small]:
            piece = max(tissue, key=lambda piece: piece.radius)
            blob = _blob(piece.x, piece.y, min(least, 0.6 * piece.radius), own[:8], 0.1)
        if blob is not None:
            found[small].append(Region(blob, kind, float(2 * np.pi * own[-3])))
    return found


def _lookalikes(seed: int, key: int, tissue: tuple[Blob, ...], taken: list[Blob]) -> list[Region]:
    """Harmless regions that share a trait with tumour, on every slide."""
    largest = 0.28 * max(piece.radius for piece in tissue)
    first = _drawn(seed, key, 2, "lookalikes")
    many = 3 + int(first[0] * 3)
    found: list[Region] = []
    for number in range(many):
        own = _drawn(seed, key, 8 + 3 * 40 + 3, f"lookalike/{number}")
        kind = tuple(LOOKALIKES)[(number + int(3 * first[1])) % len(LOOKALIKES)]
        radius = 110.0 * (max(largest, 140.0) / 110.0) ** float(own[-2])
        held = [*taken, *(r.blob for r in found)]
        blob = _placed(tissue, held, min(radius, 700.0), own[:-3], uneven=0.1, least=70.0)
        if blob is not None:
            found.append(Region(blob, kind, float(np.pi * own[-3])))
    return found


def _fat(seed: int, key: int, tissue: tuple[Blob, ...], taken: list[Blob]) -> tuple[Blob, ...]:
    """Where tissue is fat: near the rim, clear of where tumour would lie."""
    found: list[Blob] = []
    for number in range(1 + int(_drawn(seed, key, 1, "fat")[0] * 3)):
        u = _drawn(seed, key, 12, f"fat/{number}")
        piece = tissue[int(u[8] * len(tissue))]
        angle, radius = 2 * np.pi * u[9], piece.radius * (0.22 + 0.15 * u[10])
        blob = _blob(
            piece.x + 0.85 * piece.radius * np.cos(angle), piece.y + 0.85 * piece.radius * np.sin(angle), radius, u, 0.2
        )
        if all(np.hypot(blob.x - t.x, blob.y - t.y) > blob.reach + t.reach + 40 for t in taken):
            found.append(blob)
    return tuple(found)


#: What pens absorb of red, green and blue: blue, green, black.
INKS = ((1.9, 1.1, 0.25), (1.8, 0.5, 1.2), (1.7, 1.7, 1.6))


def _with_artefacts(plan: SlidePlan) -> SlidePlan:
    """Pen marks on a third of the slides, a blurred place on half, a bubble on a quarter, the edge of the coverslip on a fifth."""
    u, side = _drawn(plan.seed, plan.key, 64, "artefacts"), min(plan.width, plan.height)
    pen = (_stroke(plan, u[4:20], side),) if u[0] < 0.35 else ()
    blurred = (_somewhere(plan, u[20:32], side * (0.05 + 0.05 * u[31])),) if u[1] < 0.5 else ()
    bubbles = (_somewhere(plan, u[32:44], side * (0.04 + 0.05 * u[43])),) if u[2] < 0.25 else ()
    right = u[44] < 0.5
    inset = plan.width * (0.02 + 0.02 * u[45])
    coverslip = (plan.width - inset if right else inset) if u[3] < 0.2 else 0.0
    return replace(plan, pen=pen, blurred=blurred, bubbles=bubbles, coverslip=float(coverslip))


def _somewhere(plan: SlidePlan, u: Floats, radius: float) -> Blob:
    """A curve in or near tissue."""
    piece = plan.tissue[int(u[8] * len(plan.tissue))]
    angle, away = 2 * np.pi * u[9], piece.radius * (0.2 + u[10])
    return _blob(piece.x + away * np.cos(angle), piece.y + away * np.sin(angle), radius, u, 0.12)


def _stroke(plan: SlidePlan, u: Floats, side: float) -> Stroke:
    """A line beside a piece of tissue, a quarter around it."""
    piece = plan.tissue[int(u[0] * len(plan.tissue))]
    start, ink = 2 * np.pi * u[1], INKS[int(u[2] * len(INKS))]
    angles = start + np.linspace(0, 0.9 + 0.8 * u[3], 7)
    away = piece.reach * (0.92 + 0.12 * u[4:11])
    points = tuple(
        (float(piece.x + r * np.cos(a)), float(piece.y + r * np.sin(a))) for r, a in zip(away, angles, strict=True)
    )
    return Stroke(points, float(side * (0.012 + 0.012 * u[12])), ink)
