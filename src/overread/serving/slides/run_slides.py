"""The slides of a run that may be looked at: what is told of each, and the tiles of its layers.

Each slide has a key made by chance for this server; a path is never asked for, and never answered. A picture of the label of
the glass, which may show a name, is in no layer.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread import __version__
from overread.core.errors import ImageError, OverreadError, require
from overread.core.files import hashed
from overread.core.progress import Progress, silent
from overread.images.address import parse
from overread.images.image import file_key
from overread.images.slides.lesion_outlines import Lesion, Lesions, read_lesions
from overread.images.slides.slide import Slide, open_slide, slide_digest
from overread.images.slides.tissue import Tissue, TissueSettings, find_tissue
from overread.serving.admission.refusal import Refusal, without_paths
from overread.serving.rest import rounded
from overread.serving.slides.slide_answers import (
    FoundLesion,
    LayerOf,
    OutlinedLesion,
    Skipped,
    SkippedAnswer,
    SlideAnswer,
    SlideLine,
    SlidesAnswer,
)
from overread.serving.slides.tile_grid import TILE, TileGrid
from overread.serving.slides.tile_pictures import (
    SKIPPED_COLOURS,
    cells_of,
    map_tile,
    overlay_grid,
    skipped_tile,
    slide_grid,
    slide_tile,
)
from overread.slides.heat_map import HeatMap

#: What a tile may show.
LAYERS = ("slide", "heat-map", "skipped")
#: What kinds of places are called in words, where their names do not say it all.
_WORDS = {"edge": "edge of the coverslip", "blur": "out of focus"}
#: Said of a slide whose file is not where the run's table says.
MOVED = "its file is not where the run's table says; move it back, or serve the run where its slides lie"
#: Masks that are kept, of the slides looked at last.
_MASKS = 4
#: Heat maps that are kept, and cells of one that are shown at most.
_MAPS, _CELLS = 4, 2**24
#: The score of the faintest places that are told as lesions.
_FAINTEST = 0.1
#: Outlines that are told of a slide (the largest), and rings of these with their holes.
_OUTLINES, _RINGS = 2000, 6000
#: Corners of outlines that are told of a slide; beyond, every second corner is left out, and so on.
_CORNERS = 50_000
#: What is told of slides that is kept, of those looked at last.
_TOLD = 4


@dataclass(frozen=True)
class RunSlide:
    """A slide of a run: how the run calls it, the ``address`` of its overview, and its files; blank or None for what is not there.
    ``places`` that stand out on its heat map, as the run judged them: ``x`` and ``y``, µm, ``score`` and ``area``, µm²."""

    name: str
    part: str
    address: str
    label: str = ""
    score: float = math.nan
    outlines: str = ""
    heat_map: Path | None = None
    tissue: Path | None = None
    places: pd.DataFrame | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SlidesOfRun:
    """The slides that are shown, and what they share: the class ``positive``, the frozen ``threshold`` of a slide's score and that
    of the heat map (NaN where none was frozen), the settings of the tissue mask, groups of outlines that are ``tumour``."""

    slides: tuple[RunSlide, ...]
    positive: str = ""
    threshold: float = math.nan
    map_threshold: float = math.nan
    tissue: TissueSettings = field(default_factory=TissueSettings)
    tumour: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


class RunSlides:
    """The slides of a run under keys that ``salt`` makes; numbers rounded to ``digits``."""

    def __init__(self, of: SlidesOfRun, salt: str, digits: int) -> None:
        keys = hashed([f"{slide.part}\n{slide.name}" for slide in of.slides], salt)
        require(
            len(set(keys)) == len(keys),
            "slides that are shown have names of their own",
            given=f"{len(set(keys))} names of {len(keys)}",
        )
        self._slides = {f"k{key[:12]}": slide for key, slide in zip(keys, of.slides, strict=True)}
        self._of, self._salt, self._digits = of, salt, digits
        self._masks: OrderedDict[str, Tissue] = OrderedDict()
        self._maps: OrderedDict[Hashable, tuple[NDArray[Any], float, tuple[float, float]]] = OrderedDict()
        self._told: OrderedDict[Hashable, SlideAnswer] = OrderedDict()
        self._of_masks, self._of_maps = threading.Lock(), threading.Lock()

    def listed(self) -> SlidesAnswer:
        """The slides in their order; nothing is opened."""
        lines = [SlideLine(key, one.name, one.part, one.label, self._number(one.score), _missing(one.address), one.heat_map is not None)
                 for key, one in self._slides.items()]  # fmt: skip
        return SlidesAnswer(lines, self._of.positive, self._number(self._of.threshold), list(self._of.facts))

    def about(self, key: str) -> SlideAnswer:
        """What is told of a slide. Raises :class:`Refusal` for an unknown key, and where the slide cannot be opened."""
        one = self._known(key)
        slide = _opened(one)
        state = (key, file_key(parse(one.address).path), _state(one.outlines), _state(one.heat_map))
        with self._of_maps:
            if state in self._told:
                self._told.move_to_end(state)
                return self._told[state]
        told, sound = self._about(key, one, slide)
        with self._of_maps:
            if sound:  # what could not be read may be read the next time
                self._told[state] = told
            while len(self._told) > _TOLD:
                self._told.popitem(last=False)
        return told

    def _about(self, key: str, one: RunSlide, slide: Slide) -> tuple[SlideAnswer, bool]:
        """What is told of a slide, and whether everything that belongs to it could be read."""
        width, height = slide.size
        layers, facts = [_layer("slide", (0.0, 0.0, width, height), slide_grid(slide))], list(slide.notes)
        outlines, known = self._outlined(one, slide, facts)
        lesions: list[FoundLesion] = []
        cell = None
        sound = known is not None or not one.outlines
        if one.heat_map is not None:
            try:
                codes, cell, (left, top) = self._cells(one)
                rows, columns = codes.shape
                lesions = self._lesions(one, known, facts)
                layers.append(
                    _layer(
                        "heat-map", (left, top, left + columns * cell, top + rows * cell), overlay_grid(rows, columns)
                    )
                )
            except OverreadError as error:
                cell, sound = None, False
                facts.append(f"the heat map cannot be shown: {without_paths(error.what)}")
        told = SlideAnswer(key, one.name, one.part, one.label, self._number(one.score), width, height, slide.mpp, slide.objective or None,
                           layers, self._number(self._of.map_threshold), cell, lesions, outlines,
                           [without_paths(fact) for fact in facts])  # fmt: skip
        return told, sound

    def skipped(self, key: str, progress: Progress = silent) -> SkippedAnswer:
        """What was not looked at on a slide; its mask takes a moment, which ``progress`` may end. Raises as :meth:`about`."""
        mask = self._mask(key, _opened(self._known(key)), progress)
        rows, columns = mask.kinds.shape
        layer = _layer("skipped", (0.0, 0.0, columns * mask.mpp, rows * mask.mpp), overlay_grid(rows, columns))
        return SkippedAnswer(layer, [Skipped(_WORDS.get(kind, kind), rounded(share, 4), list(SKIPPED_COLOURS[code][:3]))
                                     for code, (kind, share) in enumerate(mask.shares.items()) if kind != "tissue" and share > 0])  # fmt: skip

    def tag(self, key: str, layer: str, level: int, column: int, row: int, least: int) -> str:
        """What changes when a tile does, as an entity tag (RFC 9110, 8.8.3). Raises :class:`Refusal` where there is no such slide or layer."""
        one = self._known(key)
        path = parse(one.address).path
        _opened(one)
        held = {"slide": lambda: slide_digest(path), "skipped": lambda: f"{slide_digest(path)} {self._of.tissue} {one.tissue and file_key(one.tissue)}",
                "heat-map": lambda: str(file_key(_there(one.heat_map)))}[layer]()  # fmt: skip
        return f'"{hashed([f"{__version__} {held} {layer} {level} {column} {row} {least}"], self._salt)[0]}"'

    def tile(self, key: str, layer: str, level: int, column: int, row: int, least: int, progress: Progress = silent) -> tuple[bytes, str]:  # fmt: skip
        """A tile and its media type. Raises :class:`Refusal`, 404, for one that there is not."""
        one = self._known(key)
        slide = _opened(one)
        place = level, column, row
        if layer == "slide":
            return slide_tile(slide, _held(slide_grid(slide), place), *place), "image/jpeg"
        if layer == "heat-map":
            codes, _, _ = self._cells(one)
            grid = _held(overlay_grid(*codes.shape), place)
            return map_tile(codes[cells_of(grid, *place)], grid, *place, least), "image/png"
        kinds = self._mask(key, slide, progress).kinds
        grid = _held(overlay_grid(*kinds.shape), place)
        return skipped_tile(kinds[cells_of(grid, *place)], grid, *place), "image/png"

    def _known(self, key: str) -> RunSlide:
        if key not in self._slides:
            raise Refusal(404, "there is nothing here")
        return self._slides[key]

    def _number(self, value: float) -> float | None:
        return rounded(value, self._digits) if math.isfinite(value) else None

    def _mask(self, key: str, slide: Slide, progress: Progress) -> Tissue:
        with self._of_masks:  # one is made at a time: it takes seconds, and whoever asks next wants the same one
            if key not in self._masks:
                kept = self._slides[key].tissue
                self._masks[key] = (
                    Tissue.load(kept) if kept is not None else find_tissue(slide, self._of.tissue, progress=progress)
                )
                while len(self._masks) > _MASKS:
                    self._masks.popitem(last=False)
            self._masks.move_to_end(key)
            return self._masks[key]

    def _cells(self, one: RunSlide) -> tuple[NDArray[Any], float, tuple[float, float]]:
        """The codes of a heat map, microns of a side of its cells, and its upper left corner; of a very large one a level of
        fewer cells, each the highest of those it covers. Raises where it is damaged, or a map of another file than the slide."""
        path = _there(one.heat_map)
        digest = slide_digest(parse(one.address).path)
        key = (file_key(path, "heat map"), digest)
        with self._of_maps:
            if key not in self._maps:
                held = HeatMap.load(path)
                if held.about.slide != digest:
                    raise ImageError(
                        "it was made of another file than the slide that lies there now", todo="run the study again"
                    )
                level = next(at for at, size in enumerate(held.levels) if math.prod(size) <= _CELLS)
                self._maps[key] = held.cells(level), held.mpp * 2**level, held.origin
                while len(self._maps) > _MAPS:
                    self._maps.popitem(last=False)
            self._maps.move_to_end(key)
            return self._maps[key]

    def _lesions(self, one: RunSlide, known: Lesions | None, facts: list[str]) -> list[FoundLesion]:
        """What was found, the highest score first; a person may look below the threshold, where areas tell nothing."""
        if one.places is None:
            facts.append("the places found on it cannot be read in the run's folder: predict again")
            return []
        threshold = self._of.map_threshold if math.isfinite(self._of.map_threshold) else 0.5
        found = one.places[one.places["score"] >= min(threshold, _FAINTEST)]
        found = found.sort_values("score", ascending=False, kind="stable")
        inside = None if known is None else known.region_at(found["x"].to_numpy(), found["y"].to_numpy()) >= 0
        return [FoundLesion(number + 1, round(x, 1), round(y, 1), self._number(score), rounded(area / 1e6, 4) if score >= threshold else None, None if inside is None else bool(inside[number]))
                for number, (x, y, score, area) in enumerate(found[["x", "y", "score", "area"]].itertuples(index=False))]  # fmt: skip

    def _outlined(self, one: RunSlide, slide: Slide, facts: list[str]) -> tuple[list[OutlinedLesion], Lesions | None]:
        if not one.outlines:
            return [], None
        try:
            held = read_lesions(one.outlines, slide, tumour=self._of.tumour)
        except OverreadError as error:
            facts.append(f"the outlines cannot be shown: {without_paths(error.what)}")
            return [], None
        found, excluded = list(held.lesions), list(held.excluded)
        facts += held.notes
        if len(found) > _OUTLINES:
            largest = np.argsort([-float(np.prod(np.ptp(lesion.polygon, axis=0))) for lesion in found], kind="stable")
            facts.append(f"of {len(found):,} outlines the {_OUTLINES:,} largest are shown")
            kept = sorted(largest[:_OUTLINES].tolist())
            found, excluded = [found[at] for at in kept], [excluded[at] for at in kept]
        room = _RINGS - len(found)
        holes = [
            min(len(lesion.holes), max(0, room - before)) for lesion, before in zip(found, _before(found), strict=True)
        ]
        if any(many < len(lesion.holes) for many, lesion in zip(holes, found, strict=True)):
            facts.append(f"of the holes of the outlines the first {room:,} are shown")
        corners = sum(
            len(ring)
            for lesion, many in zip(found, holes, strict=True)
            for ring in (lesion.polygon, *lesion.holes[:many])
        )
        step = max(1, math.ceil(corners / _CORNERS))
        if step > 1:
            facts.append(f"of the corners of the outlines every {step}th is shown")
        return [_outlined(*one, step) for one in zip(found, holes, excluded, strict=True)], held


def _before(found: list[Lesion]) -> list[int]:
    """How many holes there are in the outlines before each."""
    return [0, *np.cumsum([len(lesion.holes) for lesion in found])[:-1].tolist()] if found else []


def _outlined(lesion: Lesion, holes: int, excluded: bool, step: int) -> OutlinedLesion:
    """An outline with its first ``holes``, every ``step``-th corner; of each ring three corners at least."""
    rings = [
        np.round(ring[:: min(step, len(ring) // 3)], 1).tolist()
        for ring in (lesion.polygon, *lesion.holes[:holes])
        if len(ring) >= 3
    ]
    return OutlinedLesion(lesion.group, rings, excluded, round(float(lesion.longest), 1))


def _missing(address: str) -> str:
    """Why a slide is not there; a folder that nobody may enter, or that does not answer, is one reason among others."""
    return "" if address and os.path.exists(parse(address).path) else MOVED


def _state(path: str | Path | None) -> Hashable:
    """What changes when a file does, comes or goes."""
    try:
        return file_key(path) if path else ""
    except ImageError:
        return "absent"


def _opened(one: RunSlide) -> Slide:
    if missing := _missing(one.address):
        raise Refusal(404, "the slide cannot be shown", missing, code="moved")
    where = parse(one.address)
    return open_slide(where.path, mpp=where.mpp)


def _there(path: Path | None) -> Path:
    if path is None:
        raise Refusal(404, "there is nothing here")
    return path


def _held(grid: TileGrid, place: tuple[int, int, int]) -> TileGrid:
    if not grid.has(*place):
        raise Refusal(404, "there is nothing here")
    return grid


def _layer(name: str, box: tuple[float, float, float, float], grid: TileGrid) -> LayerOf:
    return LayerOf(name, *box, grid.width, grid.height, TILE, grid.least, grid.most)
