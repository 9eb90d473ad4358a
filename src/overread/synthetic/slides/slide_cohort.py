"""A cohort of phantom slides: pyramidal TIFF, a table, the outlines of tumour, and the truth about each island."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import publish, write_csv, write_json
from overread.core.progress import Progress, silent
from overread.images.slides.pyramid import write_pyramid
from overread.synthetic.slides.slide_pixels import draw_tile
from overread.synthetic.slides.slide_plan import ISLANDS, SlidePlan, plan_slide
from overread.synthetic.slides.slide_scanners import SCANNERS, Scanner

#: A patient with tumour shows it on so many of the slides, and on one at least.
SHOWN = 0.7


@checked
def draw_slides(
    folder: str | os.PathLike[str], *, slides: int = 60, patients: int = 30, side: float = 2000.0, mpp: float = 0.5, scanners: int = 2,
    prevalence: float = 0.5, isolated: float = 0.1, islands: tuple[str, ...] = tuple(ISLANDS), tissue_share: float = 0.35,
    artefacts: bool = True, shortcut: float = 0.0, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw phantom slides into ``folder`` and give the path of their table.

    ``side``: of each slide, in microns; ``mpp``: microns of a pixel of the first scanner (the others differ by up to a
    tenth). ``scanners``: 1 to 3 laboratories with a stain, tint and sharpness of their own. A share ``prevalence`` of the
    patients has tumour, on most of their slides; on a share ``isolated`` of the slides with tumour there are isolated tumour
    cells alone (islands shorter than 200 µm). ``islands``: the kinds of tumour, drawn with equal chance: "detail" (seen in the
    grain of nuclei alone), "context" (in their arrangement alone), "plain" (in everything). ``shortcut``: this share of the
    patients with tumour comes from the first scanner and of those without from the others, where 0 tells nothing.

    Writes ``slides/*.tif``, ``outlines/*.xml`` (ASAP, pixels of level 0, of slides with tumour), ``islands.csv`` (slide,
    island, kind, x, y, longest in microns, isolated), ``truth.json`` and ``metadata.csv``: slide, tumour (yes or no), patient,
    scanner, outlines, isolated (yes where isolated cells are all there is). The same seed gives the same bytes. Raises
    ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pd.read_csv(draw_slides(folder, slides=4, patients=4, side=400, mpp=1))
    >>> sorted(table["scanner"])
    ['north', 'north', 'south', 'south']
    """
    require(
        patients >= 4 and slides >= patients,
        "a cohort has 4 patients and a slide or more of each",
        given=(patients, slides),
    )
    require(0.2 <= mpp <= 2, "mpp lies between 0.2 and 2 µm", given=mpp)
    require(1 <= scanners <= len(SCANNERS), f"there are 1 to {len(SCANNERS)} scanners", given=scanners)
    require(
        0 < prevalence < 1 and 0 <= isolated <= 1 and 0 <= shortcut <= 1,
        "shares lie between 0 and 1",
        given=(prevalence, isolated, shortcut),
    )
    home, rows, known = Path(folder), list[tuple[str, ...]](), list[tuple[object, ...]]()
    ill = _ill(seed, patients, prevalence)
    scanner_of = _scanners(seed, ill, scanners, shortcut)
    for key in range(slides):
        patient, name = key % patients, f"s{key + 1:03d}"
        scanner = SCANNERS[scanner_of[patient]]
        tumour = _tumour(seed, key, bool(ill[patient]), key < patients, isolated)
        plan = plan_slide(seed, key, width=side, height=side, tissue_share=tissue_share, tumour=tumour, islands=islands, artefacts=artefacts)  # fmt: skip
        pixel = round(mpp * scanner.pixel, 4)
        write_slide(home / "slides" / f"{name}.tif", plan, scanner, mpp=pixel)
        outlines = f"outlines/{name}.xml" if plan.islands else ""
        if outlines:
            write_outlines(home / outlines, plan, mpp=pixel)
        known += [(f"slides/{name}.tif", number, i.kind, round(i.blob.x, 1), round(i.blob.y, 1), round(i.longest, 1), "yes" if i.isolated else "no")
                  for number, i in enumerate(plan.islands)]  # fmt: skip
        rows.append((f"slides/{name}.tif", "yes" if plan.islands else "no", f"P{patient + 1:03d}", scanner.name, outlines,
                     "yes" if plan.islands and all(i.isolated for i in plan.islands) else "no"))  # fmt: skip
        progress("drawing slides", key + 1, slides)
    columns = ["slide", "island", "kind", "x", "y", "longest", "isolated"]
    write_csv(home / "islands.csv", pd.DataFrame(known, columns=columns))
    write_json(home / "truth.json", {"kind": "slides", "seed": seed, "side": side, "mpp": mpp, "islands": list(islands), "shortcut": shortcut})  # fmt: skip
    return write_csv(home / "metadata.csv", pd.DataFrame(rows, columns=["slide", "tumour", "patient", "scanner", "outlines", "isolated"]))  # fmt: skip


def _ill(seed: int, patients: int, prevalence: float) -> np.ndarray:
    """Which patients have tumour: so many of them, drawn by chance."""
    many = min(patients - 1, max(1, round(prevalence * patients)))
    some = np.zeros(patients, bool)
    some[random.permutation(seed, 0, patients, "slides/ill")[:many]] = True
    return some


def _scanners(seed: int, ill: np.ndarray, scanners: int, shortcut: float) -> np.ndarray:
    """The scanner of each patient: in turn among the ill and among the others, so that it tells nothing, but for a shortcut."""
    of = np.zeros(len(ill), np.int64)
    for state in (False, True):
        some = np.flatnonzero(ill == state)
        of[some] = np.arange(len(some)) % scanners
        lured = some[random.uniform(seed, some, int(state), "slides/shortcut") < shortcut]
        of[lured] = 0 if state or scanners == 1 else 1 + np.arange(len(lured)) % (scanners - 1)
    return of


def _tumour(seed: int, key: int, ill: bool, first: bool, isolated: float) -> str:
    u = random.uniform(seed, key, np.arange(2), "slides/tumour")
    if not ill or (not first and u[0] >= SHOWN):
        return "no"
    return "isolated" if u[1] < isolated else "yes"


@checked
def write_slide(
    path: Path, plan: SlidePlan, scanner: Scanner, *, mpp: float, tile: int = 256, progress: Progress = silent
) -> Path:
    """Write a slide as pyramidal TIFF (JPEG), drawn tile by tile, so that memory does not grow with it; give its path."""
    width, height = max(1, round(plan.width / mpp)), max(1, round(plan.height / mpp))

    def tile_of(row: int, column: int) -> NDArray[np.uint8]:
        drawn = draw_tile(plan, scanner, row, column, mpp=mpp, tile=tile)
        return drawn[: height - row * tile, : width - column * tile]

    return write_pyramid(path, tile_of, width=width, height=height, mpp=mpp, tile=tile, compression="jpeg", progress=progress)  # fmt: skip


@checked
def write_outlines(path: Path, plan: SlidePlan, *, mpp: float) -> Path:
    """Write the outlines of tumour as ASAP writes them: polygons of the group Tumor in pixels of level 0."""
    root = ElementTree.Element("ASAP_Annotations")
    held = ElementTree.SubElement(root, "Annotations")
    for number, island in enumerate(plan.islands):
        shape = ElementTree.SubElement(
            held, "Annotation", Name=f"Annotation {number}", Type="Polygon", PartOfGroup="Tumor", Color="#F4FA58"
        )
        corners = ElementTree.SubElement(shape, "Coordinates")
        for order, (x, y) in enumerate(island.blob.outline() / mpp):
            ElementTree.SubElement(corners, "Coordinate", Order=str(order), X=f"{x:.2f}", Y=f"{y:.2f}")
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    group = ElementTree.SubElement(groups, "Group", Name="Tumor", PartOfGroup="None", Color="#00ff00")
    ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root)
    with publish(path) as temporary:
        temporary.write_bytes(b'<?xml version="1.0"?>\n' + ElementTree.tostring(root) + b"\n")
    return path
