"""The pixels of a phantom slide, tile by tile: any tile is drawn alone, and tiles beside each other fit.

Light is absorbed by two dyes (Beer & Lambert; stain vectors after Ruifrok & Johnston 2001). Everything is a function of the
place on the slide, so that what crosses the border of a tile is drawn on both sides of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.synthetic.slides.slide_plan import Blob, Region, SlidePlan, Stroke
from overread.synthetic.slides.slide_scanners import CONTRAST, REACH, SHAPES, Scanner, nuclei_stamps, surface

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: Microns between places where a nucleus may lie, and between knots of the fields that change slowly.
SPACING, KNOTS = 10.0, 8.0
#: How many of the places hold a nucleus: scattered, within and beside bands, in a sheet.
SCATTERED, DENSE, SPARSE, SHEET = 0.5, 0.9, 0.22, 0.9
#: Scattered nuclei are as sparse and as crowded here and there as beside and within bands, in bumps of so many microns: no field
#: of a few nuclei tells a band.
UNEVEN, CROWDS = 0.55, 90.0
#: Cords: their distance in microns and the share that is dense. Rings: where they are dense, and their distance.
CORDS, FILLED = 112.0, 0.54
RING, RINGS = (70.0, 130.0), 275.0
#: Fat cells: their distance in microns.
FAT = 62.0
#: Blur of what is out of focus, in microns.
DEFOCUS = 2.2
_MARGIN = 8.0  # microns that are drawn around a tile, so that blur finds its neighbours
_SURFACE = 768
_PLACES = 1 << 22  # more than there are lattice places along a side


@dataclass(frozen=True)
class _Frame:
    """The part of a slide that is drawn: from pixel (``top``, ``left``), ``high`` × ``wide`` pixels of ``mpp`` microns."""

    top: int
    left: int
    high: int
    wide: int
    mpp: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in microns."""
        return (
            self.left * self.mpp,
            self.top * self.mpp,
            (self.left + self.wide) * self.mpp,
            (self.top + self.high) * self.mpp,
        )

    def near(self, blob: Blob, more: float = 0.0) -> bool:
        left, top, right, bottom = self.box
        across, down = max(left - blob.x, blob.x - right, 0.0), max(top - blob.y, blob.y - bottom, 0.0)
        return across * across + down * down <= (blob.reach + more) ** 2


@checked
def draw_tile(
    plan: SlidePlan, scanner: Scanner, row: int, column: int, *, mpp: float, tile: int = 256
) -> NDArray[np.uint8]:
    """Tile (``row``, ``column``) of level 0 of a slide, uint8 (tile, tile, 3), at ``mpp`` microns a pixel.

    Each tile is a pure function of its arguments. Bare glass comes as one read-only array, so that a writer may know it by
    identity.
    """
    require(
        row >= 0 and column >= 0 and tile >= 16, "a tile has a place and 16 pixels or more", given=(row, column, tile)
    )
    margin = math.ceil(_MARGIN / mpp)
    frame = _Frame(row * tile - margin, column * tile - margin, tile + 2 * margin, tile + 2 * margin, mpp)
    tissue = [piece for piece in plan.tissue if frame.near(piece, 10)]
    marks = _marks_near(plan, frame)
    if not tissue and not marks:
        return _glass(scanner, tile)
    light = np.ones((3, frame.high, frame.wide), np.float32)  # red, green, blue: the share that gets through
    if tissue:
        light *= _tissue_light(plan, scanner, frame, tissue)
    light = _marked(plan, frame, light) if marks else light
    light = _in_focus(plan, scanner, frame, light)[:, margin:-margin, margin:-margin]
    if scanner.gamma != 1:
        light = np.maximum(light, 1e-4) ** np.float32(scanner.gamma)
    coat = np.clip(5 * (0.95 - light[1]), 0, 1)  # bare glass has no grain, as after a scanner's own clean-up
    grain = _surface_at("noise", frame, plan, 0.0, margin) * np.float32(scanner.noise) * coat
    planes = [
        np.clip(plane * np.float32(level) + grain, 0, 255) for plane, level in zip(light, scanner.glass, strict=True)
    ]
    return np.rint(cv2.merge(planes)).astype(np.uint8)


@lru_cache(64)
def _glass(scanner: Scanner, tile: int) -> NDArray[np.uint8]:
    made = np.empty((tile, tile, 3), np.uint8)
    made[:] = scanner.glass
    made.setflags(write=False)
    return made


# -- tissue -------------------------------------------------------------------------------------------------------


def _tissue_light(plan: SlidePlan, scanner: Scanner, frame: _Frame, tissue: list[Blob]) -> Floats:
    """The share of light (3, H, W) that tissue lets through."""
    x, y, weigh = _knots(frame)
    depth = np.max([piece.depth(x, y) for piece in tissue], axis=0)
    fat = [blob for blob in plan.fat if frame.near(blob, 60)]
    there = np.clip(weigh(depth) / 3 + 0.5, 0, 1)  # (H, W)
    thick, hue = (weigh(_value_noise(plan, x, y, cell, name)) for cell, name in ((90.0, "thick"), (240.0, "hue")))
    stain = random.uniform(plan.seed, plan.key, np.arange(4), "slide/stain")
    fibres = _surface_at("fibres", frame, plan, 3.0)
    eosin = (0.42 + 0.16 * thick + 0.07 * fibres) * np.float32(0.85 + 0.3 * stain[0])
    nuclei, grains = _nuclei(plan, frame, tissue, fat)
    dye = nuclei * np.float32(1.05 * (0.88 + 0.24 * stain[1])) + np.float32(0.05) * np.maximum(hue, 0)
    cover = there * (1 - _fat_cells(plan, frame, fat)) if fat else there
    eosin, dye = np.maximum(eosin * cover, 0.02 * there), dye * cover
    light = np.empty((3, frame.high, frame.wide), np.float32)
    for plane, blue, pink in zip(light, scanner.haematoxylin, scanner.eosin, strict=True):
        np.exp(np.float32(-1.35 * blue) * dye - np.float32(1.35 * pink) * eosin, out=plane)
        if grains is not None:
            plane *= 1 + np.float32(CONTRAST * min(1.0, blue / scanner.haematoxylin[1])) * grains
    return light


def _nuclei(plan: SlidePlan, frame: _Frame, tissue: list[Blob], fat: list[Blob]) -> tuple[Floats, Floats | None]:
    """What nuclei absorb (H, W) and their grains, if any: stamps at places of a lattice, jittered, as dense as their region is."""
    dye, grain = nuclei_stamps(frame.mpp)
    side, half = dye.shape[-1], dye.shape[-1] // 2
    x, y, own = _lattice(plan, frame, SPACING, REACH + SPACING, "nuclei")
    x, y = x + (own[0] - 0.5) * 0.8 * SPACING, y + (own[1] - 0.5) * 0.8 * SPACING
    crowded = _value_noise(plan, x, y, CROWDS, "crowded")
    scattered = np.clip(SCATTERED + UNEVEN * crowded, SPARSE - 0.1, DENSE)
    share = scattered.copy()
    coarse, large = np.zeros(len(x), bool), np.zeros(len(x), np.int64)
    for region in plan.regions:
        if not frame.near(region.blob, REACH + SPACING):
            continue
        within = np.flatnonzero(region.blob.depth(x, y) > 0)
        if region.look.arrangement == "scattered":
            share[within] = scattered[within]
        else:
            share[within] = _share_of_places(region, x[within], y[within])
        coarse[within], large[within] = region.look.coarse, region.look.large
    there = np.max([piece.depth(x, y) for piece in tissue], axis=0) > 2
    if fat:
        there &= np.max([blob.depth(x, y) for blob in fat], axis=0) < -4
    some = np.flatnonzero(there & (own[2] < share))
    rows = np.floor(y[some] / frame.mpp).astype(np.int64) - frame.top + half
    columns = np.floor(x[some] / frame.mpp).astype(np.int64) - frame.left + half
    seen = (rows >= 0) & (rows < frame.high + 2 * half) & (columns >= 0) & (columns < frame.wide + 2 * half)
    some, rows, columns = some[seen], rows[seen], columns[seen]
    canvas = np.zeros((2 if coarse[some].any() else 1, frame.high + 4 * half, frame.wide + 4 * half), np.float32)
    shapes = (own[3, some] * SHAPES).astype(np.int64)
    every = zip(
        rows.tolist(), columns.tolist(), large[some].tolist(), shapes.tolist(), coarse[some].tolist(), strict=True
    )
    for r, c, size, shape, grainy in every:
        part = canvas[0, r : r + side, c : c + side]
        np.maximum(part, dye[size, shape], out=part)
        if grainy:
            canvas[1, r : r + side, c : c + side] += grain[size, shape]
    inner = canvas[:, 2 * half : 2 * half + frame.high, 2 * half : 2 * half + frame.wide]
    return inner[0], np.clip(inner[1], -1, 1) if len(inner) > 1 else None


def _share_of_places(region: Region, x: Doubles, y: Doubles) -> Doubles:
    """How many of the places hold a nucleus, by the arrangement of the region."""
    arrangement = region.look.arrangement
    if arrangement == "sheet":
        return np.full(len(x), SHEET)
    across, down = x - region.blob.x, y - region.blob.y
    along = across * math.cos(region.turn) + down * math.sin(region.turn)
    aside = down * math.cos(region.turn) - across * math.sin(region.turn)
    if arrangement == "cords":
        dense = np.mod(aside / CORDS + 0.06 * np.sin(along / 60), 1) < FILLED
    else:  # rings on a hexagonal lattice
        line = np.rint(aside / (RINGS * 0.866))
        shifted = along - RINGS * 0.5 * np.mod(line, 2)
        away = np.hypot(shifted - RINGS * np.rint(shifted / RINGS), aside - line * RINGS * 0.866)
        dense = (away >= RING[0]) & (away < RING[1])
    return np.where(dense, DENSE, SPARSE)


def _fat_cells(plan: SlidePlan, frame: _Frame, fat: list[Blob]) -> Floats:
    """Round holes (H, W), 1 within."""
    x, y, own = _lattice(plan, frame, FAT, FAT, "fat")
    x, y = x + (own[0] - 0.5) * 0.25 * FAT, y + (own[1] - 0.5) * 0.25 * FAT
    some = np.flatnonzero(np.max([blob.depth(x, y) for blob in fat], axis=0) > 0)
    holes = np.zeros((frame.high, frame.wide), np.float32)
    for at in some:
        radius = FAT * (0.36 + 0.1 * own[2, at]) / frame.mpp
        row, column = y[at] / frame.mpp - frame.top, x[at] / frame.mpp - frame.left
        reach = int(radius + 3)
        rows, columns = (slice(max(0, int(v) - reach), max(0, int(v) + reach + 1)) for v in (row, column))
        part = holes[rows, columns]
        if part.size:
            r = np.arange(rows.start, rows.start + part.shape[0])[:, None] + 0.5 - row
            c = np.arange(columns.start, columns.start + part.shape[1])[None, :] + 0.5 - column
            np.maximum(part, np.clip(radius - np.hypot(r, c) + 0.5, 0, 1).astype(np.float32), out=part)
    return holes


# -- what a technician and a scanner add --------------------------------------------------------------------------


def _marks_near(plan: SlidePlan, frame: _Frame) -> bool:
    left, top, right, bottom = frame.box
    if plan.coverslip and left - 20 < plan.coverslip < right + 20:
        return True
    if any(frame.near(bubble, 12) for bubble in plan.bubbles):
        return True
    return any(
        left - stroke.wide < px < right + stroke.wide and top - stroke.wide < py < bottom + stroke.wide
        for stroke in plan.pen for px, py in _along(stroke)
    )  # fmt: skip


@lru_cache(64)
def _along(stroke: Stroke) -> tuple[tuple[float, float], ...]:
    """Points of a stroke half its width apart."""
    made = [stroke.points[0]]
    for (ax, ay), (bx, by) in zip(stroke.points, stroke.points[1:], strict=False):
        many = max(1, math.ceil(math.hypot(bx - ax, by - ay) / (stroke.wide / 2)))
        made += [(ax + (bx - ax) * t / many, ay + (by - ay) * t / many) for t in range(1, many + 1)]
    return tuple(made)


def _marked(plan: SlidePlan, frame: _Frame, light: Floats) -> Floats:
    """With pen, bubbles and the edge of the coverslip."""
    x, y, weigh = _knots(frame)
    for stroke in plan.pen:
        cover = np.clip(weigh(stroke.wide / 2 - _from_stroke(stroke, x, y)) / 4 + 0.5, 0, 1)
        if cover.any():
            streaks = 0.9 + 0.1 * _surface_at("fibres", frame, plan, 3.0)
            light = np.asarray(
                light * np.exp(-(cover * streaks) * np.asarray(stroke.ink, np.float32)[:, None, None]), np.float32
            )
    for bubble in plan.bubbles:
        depth = weigh(bubble.depth(x, y))
        rim, inside = np.exp(-((depth / 5) ** 2)), np.clip(depth / 6, 0, 1)
        light = np.asarray((light + 0.35 * inside * (0.97 - light)) * (1 - 0.55 * rim), np.float32)
    if plan.coverslip:
        away = (np.arange(frame.wide, dtype=np.float32) + frame.left + 0.5) * frame.mpp - np.float32(plan.coverslip)
        light = light * np.asarray(1 - 0.5 * np.exp(-((away / 4) ** 2)) - 0.08 * np.exp(-np.abs(away) / 25), np.float32)
    return light


def _from_stroke(stroke: Stroke, x: Doubles, y: Doubles) -> Doubles:
    """The distance of points from a line through points."""
    found = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf)
    for (ax, ay), (bx, by) in zip(stroke.points, stroke.points[1:], strict=False):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        found = np.minimum(found, np.hypot(x - ax - t * dx, y - ay - t * dy))
    return found


def _in_focus(plan: SlidePlan, scanner: Scanner, frame: _Frame, light: Floats) -> Floats:
    """As sharp as the scanner is, but for what lies out of focus."""
    sharp = _blurred(light, scanner.blur / frame.mpp) if scanner.blur > 0.2 * frame.mpp else light
    out = [blob for blob in plan.blurred if frame.near(blob, 20)]
    if not out:
        return sharp
    x, y, weigh = _knots(frame)
    amount = np.clip(weigh(np.max([blob.depth(x, y) for blob in out], axis=0)) / 30 + 0.5, 0, 1)
    return np.asarray(sharp + amount * (_blurred(light, DEFOCUS / frame.mpp) - sharp), np.float32)


def _blurred(light: Floats, pixels: float) -> Floats:
    return np.stack([cv2.GaussianBlur(plane, (0, 0), pixels) for plane in light]).astype(np.float32)


# -- fields and lattices ------------------------------------------------------------------------------------------


class _Weights:
    """Values at knots to pixels, between the knots on straight lines. No product of matrices: its threads cost more than they help."""

    def __init__(self, rows: tuple[Any, Floats], columns: tuple[Any, Floats]) -> None:
        self.rows, self.columns = rows, columns

    def __call__(self, values: Doubles) -> Floats:
        given, (row, down), (column, across) = values.astype(np.float32), self.rows, self.columns
        wide = given[:, column] + (given[:, column + 1] - given[:, column]) * across
        return np.asarray(wide[row] + (wide[row + 1] - wide[row]) * down[:, None])


def _knots(frame: _Frame) -> tuple[Doubles, Doubles, _Weights]:
    """Places x (1, w) and y (h, 1) of knots in microns, and how they reach the pixels."""
    y, rows = _axis(frame.top, frame.high, frame.mpp)
    x, columns = _axis(frame.left, frame.wide, frame.mpp)
    return x[None, :], y[:, None], _Weights(rows, columns)


@lru_cache(512)
def _axis(first: int, count: int, mpp: float) -> tuple[Doubles, tuple[NDArray[np.int64], Floats]]:
    """Knots along an axis in microns (n,); of each pixel the knot before it, and how far it lies beyond."""
    at = (first + np.arange(count) + 0.5) * mpp / KNOTS
    before = np.floor(at).astype(np.int64)
    knots = np.arange(before[0], before[-1] + 2)
    return knots * KNOTS, (before - before[0], (at - before).astype(np.float32))


def _value_noise(plan: SlidePlan, x: Doubles, y: Doubles, cell: float, name: str) -> Doubles:
    """A smooth random field at places x and y (of shapes that broadcast) with bumps of about ``cell`` microns, from −1 to 1."""
    columns, rows = np.floor(x / cell).astype(np.int64), np.floor(y / cell).astype(np.int64)
    u, v = (t / cell - np.floor(t / cell) for t in (x, y))
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    all_rows, all_columns = (np.arange(axis.min(), axis.max() + 2) + _PLACES // 2 for axis in (rows, columns))
    sample = all_rows[:, None] * _PLACES + all_columns
    corner = random.uniform(plan.seed, plan.key, sample, f"slide/{name}", -1.0, 1.0)
    r, c = rows - rows.min(), columns - columns.min()
    top, bottom = ((1 - u) * corner[r + i, c] + u * corner[r + i, c + 1] for i in (0, 1))
    return np.asarray((1 - v) * top + v * bottom)


def _lattice(
    plan: SlidePlan, frame: _Frame, spacing: float, more: float, name: str
) -> tuple[Doubles, Doubles, Doubles]:
    """Middles x, y (n,) of lattice cells in and around the frame, and four numbers from 0 to 1 of each (4, n)."""
    left, top, right, bottom = frame.box
    columns = np.arange(math.floor((left - more) / spacing), math.ceil((right + more) / spacing))
    rows = np.arange(math.floor((top - more) / spacing), math.ceil((bottom + more) / spacing))
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    drawn = random.bits(plan.seed, plan.key, (row + _PLACES // 2) * _PLACES + column + _PLACES // 2, f"slide/{name}")
    shifts = np.arange(4, dtype=np.uint64)[:, None] * np.uint64(16)
    own = ((drawn[None] >> shifts) & np.uint64(0xFFFF)).astype(np.float64) / 65536
    return np.asarray((column + 0.5) * spacing), np.asarray((row + 0.5) * spacing), own


def _surface_at(name: str, frame: _Frame, plan: SlidePlan, microns: float, margin: int = 0) -> Floats:
    """A periodic surface of the slide's own offset at the pixels of a frame, (H, W) without the margin."""
    whole = surface(name, _SURFACE, round(microns / frame.mpp * 0.5, 2))
    shift = (random.uniform(plan.seed, plan.key, np.arange(2), f"slide/{name}") * _SURFACE).astype(np.int64)
    top, left = (frame.top + margin + int(shift[0])) % _SURFACE, (frame.left + margin + int(shift[1])) % _SURFACE
    high, wide = frame.high - 2 * margin, frame.wide - 2 * margin
    if max(high, wide) <= _SURFACE:
        return whole[top : top + high, left : left + wide]
    return whole[((top + np.arange(high)) % _SURFACE)[:, None], (left + np.arange(wide)) % _SURFACE]
