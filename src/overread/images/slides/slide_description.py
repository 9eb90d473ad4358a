"""What a slide is, in numbers: its microns, its tissue and what lies beside it, its stain, and its outlines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked
from overread.images.address import parse
from overread.images.read import naming
from overread.images.slides.lesion_outlines import Lesions, read_lesions
from overread.images.slides.slide import Slide, open_slide
from overread.images.slides.stain import StainMatrix, slide_stain
from overread.images.slides.tissue import KINDS, Tissue, TissueSettings, cached_tissue, find_tissue

#: The description of a slide of which nothing is known. ``pen``, ``edge``, ``blur``, ``bubble``: shares of all that is not
#: glass; ``tissue``, ``lesion_area``: mm²; ``outlines``: those of lesions, not of areas to be ignored;
#: ``astray``: of them those that lie for more than half on glass; ``judged`` and ``aside``: regions that are judged and that are not; ``haematoxylin`` and ``eosin``: red, green and blue of their densities.
NO_SLIDE: dict[str, Any] = {
    "error": "", "mpp": float("nan"), "width": 0, "height": 0, "levels": 0, "objective": 0.0, "format": "", "notes": "",
    "tissue": float("nan"), **dict.fromkeys(KINDS[2:], 0.0), "stain": "", "haematoxylin": "", "eosin": "",
    "outlined": False, "outline_error": "", "outline_notes": "", "outlines": 0, "judged": 0, "aside": 0, "astray": 0, "lesion_area": 0.0,
}  # fmt: skip


@checked
def describe_slide(address: str, outlines: str, tumour: list[str], cache: str = "") -> dict[str, Any]:
    """The keys of :data:`NO_SLIDE` for one slide and the file of its outlines (blank: none). ``cache``: a folder that keeps
    the tissue, blank for none.

    Outlines that cannot be read have their reason in ``outline_error``. Raises :class:`ImageError` where the slide cannot
    be read. Made to be run by :func:`overread.core.sandbox.contained`.
    """
    with naming(address):
        where = parse(address)
        slide = open_slide(where.path, mpp=where.mpp)
        tissue = cached_tissue(slide, TissueSettings(), cache) if cache else find_tissue(slide)
        found = NO_SLIDE | _tissue(slide, tissue) | _stain(slide_stain(where, "macenko"))
    if outlines:
        found |= {"outlined": True} | _outlines(outlines, slide, tissue, tumour)
    return found


def _tissue(slide: Slide, tissue: Tissue) -> dict[str, Any]:
    full = 1.0 - tissue.shares["background"]
    shares = {name: tissue.shares[name] / full if full else 0.0 for name in KINDS[2:]}
    return {"mpp": slide.mpp, "width": slide.width, "height": slide.height, "levels": len(slide.levels), "objective": slide.objective,
            "format": slide.format, "notes": "; ".join(slide.notes), "tissue": tissue.area, **shares}  # fmt: skip


def _stain(measured: Any) -> dict[str, str]:
    if not isinstance(measured, StainMatrix) or measured.undefined:
        return {"stain": getattr(measured, "undefined", "")}
    return {name: " ".join(f"{v:.4f}" for v in getattr(measured, name)) for name in ("haematoxylin", "eosin")}


def _outlines(file: str, slide: Slide, tissue: Tissue, tumour: list[str]) -> dict[str, Any]:
    try:
        lesions = read_lesions(file, slide, tumour=tumour)
    except (ImageError, InputError) as error:
        return {"outline_error": getattr(error, "reason", "") or error.in_general}
    excluded, shown = lesions.regions_excluded, np.array([not each.ignored for each in lesions.lesions], bool)
    return {
        "outline_notes": "; ".join(lesions.notes), "outlines": int(shown.sum()), "judged": len(excluded) - sum(excluded), "aside": sum(excluded),
        "astray": int((shown & (_on_glass(lesions, slide, tissue) > 0.5)).sum()),
        "lesion_area": sum(each.area for each in lesions.lesions if not each.ignored) / 1e6,
    }  # fmt: skip


def _on_glass(lesions: Lesions, slide: Slide, tissue: Tissue) -> NDArray[np.float64]:
    """The share of each outline that lies on glass, by cells; of one that is smaller than a cell, by its centre."""
    if not len(lesions):
        return np.zeros(0)
    number = lesions.raster(slide.size, tissue.mpp)[: tissue.kinds.shape[0], : tissue.kinds.shape[1]]
    glass = tissue.kinds[: number.shape[0], : number.shape[1]] == 0
    cells = np.bincount(number.ravel(), minlength=len(lesions) + 1)[1:]
    empty = np.bincount(number[glass].ravel(), minlength=len(lesions) + 1)[1:]
    share = empty / np.maximum(cells, 1)
    for at in np.flatnonzero(cells == 0):
        x, y = lesions.lesions[at].centre
        row, column = (
            int(np.clip(v / tissue.mpp, 0, top - 1)) for v, top in zip((y, x), tissue.kinds.shape, strict=True)
        )
        share[at] = float(tissue.kinds[row, column] == 0)
    return np.asarray(share)
