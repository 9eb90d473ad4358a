"""What lies on a slide and is not tissue, or is no longer to be read: pen, edges of the coverslip, bubbles, what is out of focus.

All rules stand on optical density, −log10(pixel / glass) of each channel: pigments that mix add up there (Ruifrok and Johnston
2001, "Quantification of histochemical staining by color deconvolution", Anal Quant Cytol Histol 23:291).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked

#: The colours of pens that are looked for.
PENS = ("blue", "green", "red", "black")
#: Mean density above which a cell is dark enough for ink, and above which for a line or ring on the glass.
_INK, _LINE = 0.15, 0.05
#: Spread of the three densities, as a share of their mean, below which something has no colour.
_GREY = 0.3
#: A line is at least so long and at most so thick (µm); a ring is at least so wide.
_LONG, _THICK, _WIDE = 2000.0, 200.0, 120.0
#: How far the rim of a bubble rises above what is around it in the lowest density; how round a bubble is, of a disc 1.
_RIM, _ROUND = 0.1, 0.65
#: Sharpness is measured from what a blur of the first width (µm) takes away against what one of the second takes further …
_FINE, _COARSE = 2.0, 8.0
#: … as means over squares of this side (µm); where the second is below so many grey levels², there is nothing to tell by.
_AROUND, _TEXTURE = 144.0, 1.0
#: Side of the blocks in which a slide is read for its sharpness, in cells; cells of glass by which its noise is told.
_BLOCK, _SEEN = 64, 100


@checked
def large_pieces(mask: NDArray[np.bool_], least: int, *, corners: bool = True, border: bool = False) -> NDArray[np.bool_]:  # fmt: skip
    """A mask (H, W) without pieces of fewer than ``least`` cells. ``corners``: cells that meet at one are one piece;
    ``border``: pieces at the border of the mask stay, whatever their size."""
    _, labels, about, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8 if corners else 4)
    kept = about[:, cv2.CC_STAT_AREA] >= least
    if border:
        kept[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    kept[0] = False
    return np.asarray(kept[labels])


@checked
def pen_marks(density: NDArray[np.float32], pens: Sequence[str], least: int) -> NDArray[np.bool_]:
    """Cells (H, W) of ink, from densities (H, W, 3): of pieces of at least ``least`` cells, and the halo around them.

    Haematoxylin and eosin take more of green than of red and blue. Blue ink takes most of red, green ink least of green, red
    ink as much of blue as of green and little of red, black ink much of all three alike. The brown of DAB looks like red ink:
    leave ``red`` out of ``pens`` for it.
    """
    red, green, blue = (density[..., c] for c in range(3))
    mean = density.mean(axis=2)
    spread = density.max(axis=2) - density.min(axis=2)
    rules = {
        "blue": (red > (1.05 + 0.35 * np.clip(blue / np.maximum(green, 1e-6) - 0.3, 0, 1)) * green)
        & (red > 1.4 * blue),
        "green": (red > 1.15 * green) & (blue > 0.9 * green) & (spread > 0.1),
        "red": (blue > 0.85 * green) & (red < 0.35 * green),
        "black": (mean > 0.5) & (spread < _GREY * mean),
    }
    ink = np.zeros(mean.shape, bool)
    for name in pens:
        ink |= large_pieces(rules[name] & (mean > _INK), least)
    halo = cv2.dilate(ink.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.asarray(ink | (halo & (mean > 0.03)))


@checked
def glass_marks(density: NDArray[np.float32], ink: NDArray[np.bool_], mpp: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:  # fmt: skip
    """Cells (H, W) of edges (of a coverslip; hairs), and of bubbles with what they enclose, by cells of ``mpp`` microns.

    Both are lines without colour: an edge is long and thin; a bubble is a round piece within a closed line, on glass or over
    tissue, where the line adds to all three densities alike.
    """
    from skimage.measure import label, regionprops

    mean, low = density.mean(axis=2), density.min(axis=2)
    spread = density.max(axis=2) - low
    kernel = np.ones((2 * round(_THICK / mpp) + 1,) * 2, np.uint8)
    rise, colour = (cv2.morphologyEx(each, cv2.MORPH_TOPHAT, kernel).astype(np.float32) for each in (low, spread))
    bubbles = _bubbles(rise, colour, mpp) & ~ink
    thin = cv2.morphologyEx(mean, cv2.MORPH_TOPHAT, kernel)  # not where the light falls off
    grey = (thin > _LINE) & (spread < _GREY * mean) & ~ink & ~bubbles
    grey = cv2.morphologyEx(grey.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    edges = np.zeros(grey.shape, bool)
    for piece in regionprops(label(grey, connectivity=2)):
        top, left, bottom, right = piece.bbox
        if max(bottom - top, right - left) * mpp >= _LONG and 2 * _depth(piece.image) * mpp <= _THICK:
            edges[top:bottom, left:right] |= piece.image
    return edges & ~bubbles, bubbles


def _bubbles(low: NDArray[np.float32], colour: NDArray[np.float32], mpp: float) -> NDArray[np.bool_]:
    """Round pieces within closed lines, with the lines: by how far lines rise above what is around them in the lowest density,
    and in the spread of the three."""
    from scipy import ndimage

    lines = cv2.morphologyEx((low > _RIM).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels, about, _ = cv2.connectedComponentsWithStats(1 - lines, connectivity=4)
    found = np.zeros(low.shape, bool)
    height, width = low.shape
    for number, (left, top, across, down, area) in enumerate(about[:, :5].tolist()):
        inside = left > 1 and top > 1 and left + across < width - 1 and top + down < height - 1
        if number == 0 or not inside or min(across, down) * mpp < _WIDE or area < 0.4 * across * down:
            continue
        place = slice(top - 2, top + down + 2), slice(left - 2, left + across + 2)
        whole = ndimage.binary_fill_holes(labels[place] == number)
        rim = cv2.dilate(whole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        edge = rim & ~whole & (lines[place] > 0)
        if _roundness(whole) > _ROUND and lines[place][whole].mean() < 0.1 and colour[place][edge].mean() < 0.6 * low[place][edge].mean():  # fmt: skip
            found[place] |= rim
    return found


@checked
def out_of_focus(
    read: Callable[[float, float, int, int, float], NDArray[np.uint8]], tissue: NDArray[np.bool_], mpp: float, fine: float, least: float,
    progress: Callable[[int, int], None],
) -> NDArray[np.bool_]:  # fmt: skip
    """Cells (H, W) of ``mpp`` microns that are tissue and out of focus: whose sharpness is below ``least``.

    ``read``: as :func:`.read_region` of the slide, asked for pixels of ``fine`` microns wherever there is tissue. Sharpness is the
    variance that a blur of 2 µm takes away, over that which one of 8 µm takes further: about 1 where nuclei have edges, .2
    behind a blur of 2 µm, .05 behind one of 3 µm. The noise of the camera, as on glass, is taken off; cells without texture are
    taken as sharp.
    """
    step = max(1, round(mpp / fine))
    fine = mpp / step
    taken = np.zeros((2, *tissue.shape), np.float32)
    noise: list[NDArray[np.float32]] = []
    blocks = [(top, left) for top in range(0, tissue.shape[0], _BLOCK) for left in range(0, tissue.shape[1], _BLOCK) if tissue[top : top + _BLOCK, left : left + _BLOCK].any()]  # fmt: skip
    for done, (top, left) in enumerate(blocks):
        progress(done, len(blocks))
        here = tissue[top : top + _BLOCK, left : left + _BLOCK]
        rows, columns = here.shape[0] + 2, here.shape[1] + 2  # a cell more on each side
        pixels = read((left - 1) * mpp, (top - 1) * mpp, columns * step, rows * step, fine)
        both = _detail(pixels, fine, (columns, rows))[:, 1:-1, 1:-1]
        taken[:, top : top + _BLOCK, left : left + _BLOCK] = both
        noise.append(both[0][~here])
    glass = np.concatenate(noise) if noise else np.zeros(0, np.float32)
    floor = float(np.median(glass)) if len(glass) >= _SEEN else 0.0
    whole = cv2.erode(tissue.astype(np.float32), np.ones((5, 5), np.uint8))  # not the rim, where glass begins
    weight = whole + np.float32(1e-3) * tissue
    side = max(1, round(_AROUND / mpp)) | 1
    around = np.maximum(cv2.blur(weight, (side, side)), 1e-9)
    first, second = (cv2.blur(part * weight, (side, side)) / around for part in taken)
    return np.asarray(tissue & (second >= _TEXTURE) & (first - floor < least * second))


def _detail(pixels: NDArray[np.uint8], fine: float, size: tuple[int, int]) -> NDArray[np.float32]:
    """(2, h, w) the mean square, in each cell, of what the finer blur takes away and of what the coarser takes further."""
    grey = pixels.mean(axis=2, dtype=np.float32)
    once, twice = (cv2.GaussianBlur(grey, (0, 0), width / fine) for width in (_FINE, _COARSE))
    parts = [cv2.resize(part * part, size, interpolation=cv2.INTER_AREA) for part in (grey - once, once - twice)]
    return np.stack(parts).astype(np.float32)


def _depth(mask: NDArray[np.bool_]) -> float:
    """The greatest distance of a cell from the border of its piece, in cells."""
    return float(cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3).max())


def _roundness(mask: NDArray[np.bool_]) -> float:
    """The area of a piece over that of the circle around its widest extent: 1 for a disc."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    _, radius = cv2.minEnclosingCircle(np.concatenate(contours))
    return float(mask.sum()) / (np.pi * (radius + 0.5) ** 2)
