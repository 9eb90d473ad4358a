"""Slides as images of cases: which images are slides, and the address of the overview of each.

The image of a slide is its overview (``nodes/a.svs#slide``), so that sizes, brightness and near-duplicates are those of
slides; its tiles are other addresses of the same file. Beside it stands the file of its lesions' outlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from overread.cases.cases import OUTLINES, Cases
from overread.cases.sources.tables import numbered
from overread.core.errors import InputError, checked, one_of
from overread.core.phrases import count
from overread.images.address import file_of, parse
from overread.images.slides.files.handles import SLIDE_ENDINGS
from overread.images.slides.slide import is_slide

#: Whether a table's images are slides: found out by their content, or said.
WAYS = ("auto", "yes", "no")
#: Endings of files that may be a slide or an ordinary image, which their content tells.
_EITHER = (".tif", ".tiff", ".dcm", ".dicom")
#: Of so many such files the content is looked at before it is decided that a table has no slides.
_LOOKED_AT = 24


@checked
def are_slides(images: Sequence[str], root: str | Path, how: str = "auto") -> bool:
    """Whether the images of a table (addresses as seen from ``root``) are slides.

    ``how``: ``yes`` and ``no`` say so; ``auto`` finds out by the names of the files and, of TIFF and DICOM, by the content of a few: at
    least half of those that are there must be slides, for one may be damaged. Raises :class:`InputError` where fewer are, and where some are
    slides and others are images that no slide can be.
    """
    if one_of(how, WAYS, "slides") == "no":
        return False
    files = pd.Series([file_of(image) for image in images], dtype=object)
    names = files.str.lower()
    sure = names.str.endswith(SLIDE_ENDINGS).to_numpy(bool)
    either = np.flatnonzero(names.str.endswith(_EITHER).to_numpy(bool))
    if how == "auto" and not sure.any() and not _are_mostly_slides(files.iloc[either], Path(root)):
        return False
    other = (names != "").to_numpy(bool) & ~sure
    other[either] = False  # what is no slide among these is told by the audit, and set aside
    if other.any():
        what = f"{count(int(other.sum()), 'image')} of {len(files):,} {'is no slide' if other.sum() == 1 else 'are no slides'}"
        if how == "yes":
            raise InputError("slides are asked for, and some of the images are none", given=f"{what}, first {numbered(pd.Series(other))}",
                             todo="give slides alone")  # fmt: skip
        raise InputError("a table holds slides or images, not both", given=f"{what}, first {numbered(pd.Series(other))}",
                         todo="take some of its rows with --where, or say --slides no to read each slide as one image")  # fmt: skip
    return True


def _are_mostly_slides(files: pd.Series, root: Path) -> bool:
    """Whether files that may be slides or images are slides, by a few of them that are there; raises :class:`InputError` where a minority is."""
    few = files.iloc[np.linspace(0, len(files) - 1, min(_LOOKED_AT, len(files))).astype(np.int64)]
    few = few[[(root / file).is_file() for file in few]]
    slides = few.map(lambda file: is_slide(root / file)).astype(bool)
    if slides.any() and slides.mean() < 0.5:
        raise InputError("some images look like slides, most do not", given=f"{slides.sum()} of {len(slides)} that were looked at, first {numbered(slides)}",
                         todo="say --slides yes, or --slides no to read each as one image")  # fmt: skip
    return bool(slides.any())


@checked
def as_slides(cases: Cases, *, sized: bool = False) -> Cases:
    """``cases`` whose images are the overviews of slides, with a column ``outlines``, blank where none was there.

    ``sized``: the column ``pixel_size`` holds microns of a pixel of level 0, NaN where the file of the slide says it; it goes
    into the addresses. Raises :class:`InputError` for an address that is a part of a file: a slide is a whole one.
    """
    table = cases.table
    part = table["image"].map(lambda image: parse(image).path != image)
    if part.any():
        raise InputError("a slide is a whole file, and some addresses name a part of one", given=numbered(part), todo="write the file alone into the column of the slides")  # fmt: skip
    sizes = table["pixel_size"].fillna(0.0) if sized else pd.Series(0.0, index=table.index)
    made = [overview_of(image, float(size)) if image else "" for image, size in zip(table["image"], sizes, strict=True)]
    table = table.drop(columns=["pixel_size"] if sized else []).assign(image=made)
    if OUTLINES not in table:
        table = table.assign(**{OUTLINES: ""})
    return replace(cases, table=table, planes=replace(cases.planes, slides=True))


@checked
def overview_of(path: str, mpp: float = 0.0) -> str:
    """The address of the overview of a slide; ``mpp``: microns of a pixel of level 0 where its file does not say.

    >>> overview_of("nodes/a.svs"), overview_of("b.tif", 0.25)
    ('nodes/a.svs#slide', 'b.tif#slide&mpp=0.25')
    """
    return f"{path}#slide{f'&mpp={mpp:.8g}' if mpp else ''}"


@checked
def refuse_overviews(cases: Cases) -> None:
    """Raise :class:`InputError` for slides as whole images: a network sees their tiles, and not their overviews."""
    if cases.slides and any(parse(image).slide for image in cases.table["image"].head(1)):
        raise InputError("slides are learned and read tile by tile, and this asks for whole images", given=str(cases),
                         todo="of slides there are: overread run, predict, evaluate, compare, readers, froc, grid, report, export --geojson and serve; --slides no reads each as one image")  # fmt: skip
