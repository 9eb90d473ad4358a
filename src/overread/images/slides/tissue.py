"""Where a slide has tissue, at a stated size of cells in microns, and what else lies on it.

Glass takes no colour away: what is tissue is told by the spread of the three optical densities, with a threshold after Otsu
(1979) that is held within bounds, so that an empty slide has no tissue and a full one no background. Fat, which is clear, is
background within its cells.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, UnavailableError, checked, one_of, require
from overread.core.files import build, fingerprint, publish, read_json, require_file, write_json
from overread.core.progress import Progress, silent
from overread.images.slides.artefacts import PENS, glass_marks, large_pieces, out_of_focus, pen_marks
from overread.images.slides.slide import Slide, read_region, slide_digest
from overread.images.slides.square_shares import shares, summed

__all__ = ["KINDS", "Tissue", "TissueSettings", "cached_tissue", "find_tissue", "glass_colour", "tissue_key"]

#: What a cell is, by its code.
KINDS = ("background", "tissue", "pen", "edge", "blur", "bubble")
#: Of what is kept: raised when tissue is found in another way.
_FOUND = 1
#: Rows of cells that are read at once.
_STRIP = 512
#: Cells that a mask may have, some 30 bytes each: at 16 µm a slide of 92 × 92 mm.
_MOST_CELLS = 2**25
#: Glass is at least so bright, and its channels differ by no more.
_BRIGHT, _PLAIN = 185, 24
#: The colour of glass where a slide shows none.
_USUAL = (245.0, 245.0, 245.0)


@dataclass(frozen=True)
class TissueSettings:
    """How tissue is told; lengths in microns (µm), areas in mm².

    ``mpp``: of a cell. ``least`` and ``most``: bounds of the threshold on the spread of the optical densities. ``smallest``:
    pieces that are kept; ``holes``: those that are filled. ``pens``: colours of ink that are looked for (``red`` also finds the brown
    of DAB). ``sharpness``: below it tissue is out of focus (0: not looked for), seen at ``sharp_mpp``.
    """

    mpp: float = 16.0
    least: float = 0.05
    most: float = 0.12
    smallest: float = 0.01
    holes: float = 0.004
    pens: tuple[str, ...] = PENS
    sharpness: float = 0.1
    sharp_mpp: float = 2.0

    def __post_init__(self) -> None:
        require(1 <= self.mpp <= 128, "tissue.mpp must lie within 1 … 128 µm", given=self.mpp)
        require(0 < self.least <= self.most <= 2, "tissue.least and tissue.most must lie within 0 … 2, in this order", given=(self.least, self.most))  # fmt: skip
        require(0 <= self.smallest <= 100, "tissue.smallest must lie within 0 … 100 mm²", given=self.smallest)
        require(0 <= self.holes <= 100, "tissue.holes must lie within 0 … 100 mm²", given=self.holes)
        require(0 <= self.sharpness < 1, "tissue.sharpness must lie within 0 … 1", given=self.sharpness)
        require(0.2 <= self.sharp_mpp <= 4, "tissue.sharp_mpp must lie within 0.2 … 4 µm", given=self.sharp_mpp)
        for name in self.pens:
            one_of(name, PENS, "tissue.pens")

    def cells(self, area: float) -> int:
        """How many cells make an area of so many mm²; at least 1."""
        return max(1, round(area * 1e6 / self.mpp**2))


@dataclass(frozen=True, eq=False)
class Tissue:
    """What each cell of a slide is: codes ``kinds`` (H, W) as in :data:`KINDS`, cells of ``mpp`` microns; and the
    ``settings`` and the ``threshold`` that told tissue from glass."""

    kinds: NDArray[np.uint8]
    mpp: float
    threshold: float = 0.0
    settings: TissueSettings = field(default_factory=TissueSettings)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Cells (H, W) that are tissue and can be read."""
        return self.kinds == KINDS.index("tissue")

    @cached_property
    def shares(self) -> dict[str, float]:
        """The share of the slide's area that each kind has; they sum to 1."""
        many = np.bincount(self.kinds.ravel(), minlength=len(KINDS)) / max(1, self.kinds.size)
        return dict(zip(KINDS, many.tolist(), strict=True))

    @property
    def area(self) -> float:
        """The area of tissue, mm²."""
        return float(self.mask.sum()) * self.mpp**2 / 1e6

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        return summed(self.mask)

    @checked
    def covered(self, x: NDArray[np.float64], y: NDArray[np.float64], side: float) -> NDArray[np.float64]:
        """The share of tissue in squares of ``side`` microns centred at ``x`` and ``y`` (N,), µm: (N,)."""
        return shares(self._sums, np.asarray(x, np.float64) / self.mpp, np.asarray(y, np.float64) / self.mpp, side / self.mpp)  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the codes as a PNG, and beside it a JSON with what they mean."""
        path = Path(path).with_suffix(".png")
        done, data = cv2.imencode(".png", self.kinds)
        require(done, "the mask of tissue cannot be written", given=self.kinds.shape)
        with publish(path) as beside:
            beside.write_bytes(data.tobytes())
        about = {"kinds": list(KINDS), "mpp": self.mpp, "threshold": self.threshold, "shares": self.shares, "settings": asdict(self.settings)}  # fmt: skip
        write_json(path.with_suffix(".json"), about)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tissue:
        """Read what :meth:`save` wrote. Raises :class:`InputError` for what is missing or damaged."""
        path = Path(path).with_suffix(".png")
        about = read_json(path.with_suffix(".json"))
        data = np.frombuffer(require_file(path).read_bytes(), np.uint8)
        codes = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
        if codes is None or codes.ndim != 2 or codes.dtype != np.uint8 or codes.max(initial=0) >= len(KINDS):
            raise InputError("the mask of tissue is damaged", given=path.name, todo="make it again")
        try:
            settings = build(TissueSettings, about["settings"], where=path.name)
            return cls(codes.astype(np.uint8), float(about["mpp"]), float(about["threshold"]), settings)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("the mask of tissue is damaged", given=path.name, todo="make it again") from error


@checked
def find_tissue(slide: Slide, settings: TissueSettings = TissueSettings(), *, progress: Progress = silent) -> Tissue:
    """Where a slide has tissue: each cell's kind, read strip by strip at ``settings.mpp`` and, for its sharpness, where there
    is tissue at ``settings.sharp_mpp``.

    Memory depends on the number of cells only, and the result on nothing but the slide and the settings. Raises
    :class:`ImageError` where the slide cannot be read.
    """
    density = _densities(slide, settings.mpp, progress)
    ink = pen_marks(density, settings.pens, settings.cells(settings.smallest))
    edges, bubbles = glass_marks(density, ink, settings.mpp)
    spread = density.max(axis=2) - density.min(axis=2)
    del density
    threshold = _threshold(spread[~ink], settings)
    tissue = _cleaned((spread > threshold) & ~ink, settings) & ~ink & ~bubbles
    blur = np.zeros(tissue.shape, bool)
    if settings.sharpness:

        def read(x: float, y: float, width: int, height: int, mpp: float) -> NDArray[np.uint8]:
            return read_region(slide, x, y, width, height, mpp)

        blur = out_of_focus(
            read, tissue, settings.mpp, settings.sharp_mpp, settings.sharpness,
            lambda done, of: progress("looking for what is out of focus", done, of),
        )  # fmt: skip
    kinds = np.zeros(tissue.shape, np.uint8)
    for name, cells in (("tissue", tissue), ("blur", blur), ("bubble", bubbles), ("edge", edges), ("pen", ink)):
        kinds[cells] = KINDS.index(name)
    return Tissue(kinds, settings.mpp, threshold, settings)


@checked
def tissue_key(slide: Slide, settings: TissueSettings) -> str:
    """What the tissue of a slide depends on: its content, its microns and the settings, hashed."""
    return fingerprint([_FOUND, slide_digest(slide.path), slide.mpp, settings])


@checked
def cached_tissue(slide: Slide, settings: TissueSettings, folder: str | os.PathLike[str]) -> Tissue:
    """As :func:`find_tissue`, kept in ``folder``: audit, training and heat maps ask for that of the same slides.

    What is damaged there is found again, and what cannot be written is not kept. Raises :class:`ImageError`.
    """
    path = Path(folder) / f"tissue-{tissue_key(slide, settings)}.png"
    with suppress(InputError):  # none, or one that a full disk left
        return Tissue.load(path)
    found = find_tissue(slide, settings)
    with suppress(UnavailableError):
        found.save(path)
    return found


def _densities(slide: Slide, mpp: float, progress: Progress) -> NDArray[np.float32]:
    """Optical densities (H, W, 3) against the glass, of the whole slide."""
    width, height = (max(1, int(np.ceil(side / mpp - 1e-6))) for side in slide.size)
    if width * height > _MOST_CELLS:
        raise ImageError("the slide is too large for a mask of its tissue", given=f"{width:,} × {height:,} cells", todo="see that its microns a pixel are right, or ask for larger cells: --set tiles.tissue.mpp=32")  # fmt: skip
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        progress("looking for tissue", top, height)
        rows = min(_STRIP, height - top)
        pixels[top : top + rows] = read_region(slide, 0.0, top * mpp, width, rows, mpp)
    progress("looking for tissue", height, height)
    glass = glass_colour(pixels, slide.background) or _USUAL
    table = np.stack([-np.log10(np.maximum(np.arange(256), 1) / each) for each in glass], axis=1)
    table = np.maximum(table, 0).astype(np.float32)
    unscanned = (pixels == np.array(slide.background, np.uint8)).all(axis=2)
    density = np.stack([table[:, c][pixels[..., c]] for c in range(3)], axis=2)
    density[unscanned] = 0
    return density


@checked
def glass_colour(pixels: NDArray[np.uint8], background: tuple[int, int, int]) -> tuple[float, float, float] | None:
    """The colour of empty glass in pixels (H, W, 3) of a slide: the median of what is bright, has little colour and was scanned;
    of what was not scanned (``background``) where there is no other, None where hardly anything is bright."""
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    bright = (low >= _BRIGHT) & (high - low <= _PLAIN)
    scanned = bright & ~(pixels == np.array(background, np.uint8)).all(axis=2)
    for cells in (scanned, bright):
        if cells.sum() >= max(16, 0.002 * cells.size):
            red, green, blue = np.median(pixels[cells], axis=0).tolist()
            return red, green, blue
    return None


def _threshold(spread: NDArray[np.float32], settings: TissueSettings) -> float:
    """Otsu's threshold of the spread, within its bounds."""
    from skimage.filters import threshold_otsu

    if not spread.size or float(spread.max()) <= settings.least:
        return settings.least
    counts, edges = np.histogram(spread, 256, (0.0, 1.0))
    found = float(threshold_otsu(hist=(counts.astype(np.float64), (edges[:-1] + edges[1:]) / 2)))
    return float(np.clip(found, settings.least, settings.most))


def _cleaned(tissue: NDArray[np.bool_], settings: TissueSettings) -> NDArray[np.bool_]:
    """With gaps of a cell closed, small holes filled and small pieces dropped."""
    closed = cv2.morphologyEx(tissue.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    filled = ~large_pieces(~closed, settings.cells(settings.holes), corners=False, border=True)
    return large_pieces(filled, settings.cells(settings.smallest))
