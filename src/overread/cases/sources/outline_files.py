"""Where the outlines of lesions of a table's slides lie: a column, a folder of files named like the slides, or one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from overread.cases.cases import OUTLINES, ROLES, Cases, Planes
from overread.cases.sources.slides import are_slides, as_slides
from overread.cases.sources.tables import here_or_beside, numbered, passed_over
from overread.core.errors import ImageError, InputError, checked, require
from overread.core.phrases import count
from overread.images.address import file_of
from overread.images.slides.lesion_outlines import ENDINGS, outlines_named_like, read_lesions
from overread.images.slides.slide import open_slide

#: What a slide shows where its outlines alone say it.
TUMOUR, NORMAL = "tumour", "normal"


@dataclass(frozen=True, eq=False)
class FoundOutlines:
    """Files as seen from the root, blank where a slide has none, and what was found out."""

    files: pd.Series
    notes: tuple[str, ...] = ()


@checked
def find_outlines(asked: str, table: pd.DataFrame, images: pd.Series, root: Path) -> FoundOutlines:
    """The outlines of each of the slides ``images`` (paths as seen from ``root``, with the index of ``table``).

    ``asked``: a column of the table, whose cells are files as seen from the table, blank where there is none; a folder of
    files named like the slides, with any ending, or with *_mask*, *_annotations* and the like behind; or one file, of a table
    with one slide. Raises :class:`InputError` for what is none of these, for two files that fit one slide, and where more than
    half of the files that a column names are not there.
    """
    if asked in table.columns:
        cells = pd.Series(table.loc[images.index, asked].to_numpy(str), images.index)
        return _of_column(cells.str.strip().str.replace("\\", "/", regex=False), root)
    path = here_or_beside(asked, Path(), root)
    if path is None:
        raise InputError("the outlines are no file or folder that is there, and no column of the table", given=asked,
                         todo="check the path, as seen from here or from the table, or name a column")  # fmt: skip
    if path.is_dir():
        made = _of_folder(path, images, root)
        return replace(made, notes=(*passed_over(path, table, "outlines"), *made.notes))
    if images.nunique() > 1:
        raise InputError("one file of outlines is that of one slide", given=f"{path.name} for {count(images.nunique(), 'slide')}",
                         todo="give a column of the table, or a folder of files named like the slides")  # fmt: skip
    return FoundOutlines(pd.Series(_seen_from(path, root), index=images.index))


@checked
def slides_among(cases: Cases, how: str, outlines: str | None, planes: Planes, sized: bool) -> Cases:
    """``cases`` with the overviews of slides in the place of their files, and their outlines beside, where the images are slides
    as ``how`` says (see :func:`.are_slides`); ``sized``: the column ``pixel_size`` was asked for.

    ``planes``: what was asked of volumes and stacks, of which there are none then. Raises :class:`InputError` for outlines of
    images that are no slides, :class:`ArgumentError` where slides are to be seen in planes or as frames.
    """
    if not are_slides(list(cases.table["image"]), cases.root, how):
        require(not planes.tumour, "groups of outlines are those of slides, and no image is one", given=", ".join(planes.tumour), todo="leave --tumour-group out")  # fmt: skip
        require(outlines is None, "outlines of lesions are those of slides, and no image is one", given=outlines, todo="leave --outlines out, say --slides yes, or outline objects with --mask")  # fmt: skip
        return cases
    if cases.slides:  # saved as such
        return cases
    planes = replace(planes, slides=True)  # says where they do not fit
    said = "slides: the images are slides by their content (--slides no reads each as one image)"
    found = replace(cases, notes=(*cases.notes, said)) if how == "auto" else cases
    return replace(
        as_slides(found if outlines is None else _with_outlines(found, outlines), sized=sized), planes=planes
    )


def _with_outlines(cases: Cases, asked: str) -> Cases:
    """With the column ``outlines``; a column of another name that held it is gone."""
    found = find_outlines(asked, cases.table, cases.table["image"], Path(cases.root))
    table = cases.table.drop(
        columns=[asked] if asked in cases.table and asked not in (*ROLES, *cases.target.columns) else []
    )
    return replace(cases, table=table.assign(**{OUTLINES: found.files}), notes=(*cases.notes, *found.notes))


@checked
def labels_by_outlines(
    files: pd.Series, images: pd.Series, root: Path, mpp: pd.Series | None = None, tumour: Sequence[str] = ()
) -> tuple[pd.Series, list[str]]:
    """What each slide shows by its outlines, ``tumour`` where a lesion is outlined, else ``normal``; and what was taken for
    granted. Blank where the slide or its outlines cannot be read, which the audit tells.

    ``mpp``: microns of a pixel of level 0, NaN where the file of the slide says it; ``tumour``: see :func:`.read_lesions`.
    """
    sizes = [0.0] * len(files) if mpp is None else mpp.fillna(0.0).tolist()
    told = [
        _label(root, file, image, size, tumour)
        for file, image, size in zip(files, images.astype(str), sizes, strict=True)
    ]
    labels = pd.Series(told, index=files.index, dtype=object)
    ill, bare = told.count(TUMOUR), int((files == "").sum())
    note = f"label: no column says it, so the outlines do: {ill:,} of {count(len(labels), 'slide')} show {TUMOUR}"
    return labels, [
        note + (f", and {bare:,} without outlines count as {NORMAL}" if bare else "") + " (--label names a column)"
    ]


def _label(root: Path, file: str, image: str, mpp: float, tumour: Sequence[str]) -> str:
    if not file:
        return NORMAL
    try:
        found = read_lesions(root / file, open_slide(root / image, mpp=mpp), tumour=tumour).lesions
        return TUMOUR if any(not each.ignored for each in found) else NORMAL
    except (ImageError, InputError):
        return ""


def _of_column(cells: pd.Series, root: Path) -> FoundOutlines:
    filled = cells != ""
    absent = cells.map(lambda cell: cell != "" and not (root / cell).exists())
    if not filled.any() or absent.sum() * 2 > filled.sum():
        what = f"{int(absent.sum()):,} of {count(int(filled.sum()), 'file')} of outlines are not there" if filled.any() else "the column of outlines is blank"  # fmt: skip
        raise InputError(what, given=f"first that of {numbered(absent)}" if filled.any() else count(len(cells), "slide"),
                         todo="write paths as seen from the table, or name a folder of files named like the slides")  # fmt: skip
    notes = _said(cells)
    if absent.any():
        notes = (*notes, f"outlines: {int(absent.sum()):,} of {int(filled.sum()):,} files are not there, first that of {numbered(absent)}")  # fmt: skip
    return FoundOutlines(cells, notes)


def _of_folder(folder: Path, images: pd.Series, root: Path) -> FoundOutlines:
    found = outlines_named_like([str(root / image) for image in images], folder)
    made = pd.Series([_seen_from(Path(file), root) if file else "" for file in found], index=images.index, dtype=object)
    here = made[made != ""]
    files = [file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file()]
    if here.empty:
        raise InputError("nothing in the folder of outlines is named like a slide", given=f"{count(len(files), 'file')} in {folder.name}",
                         todo="name outlines like their slides, or write them into a column")  # fmt: skip
    shared = made.map(lambda file: file != "" and images[made == file].nunique() > 1)
    if shared.any():
        raise InputError("one file of outlines fits two slides", given=numbered(shared), todo="write the files into a column of the table, and name it with --outlines")  # fmt: skip
    own = {(root / file_of(str(image))).resolve() for image in images}
    unused = len({file.resolve() for file in files} - own - {(root / file).resolve() for file in here})
    notes = [f"outlines: {count(here.nunique(), 'file')} of {folder.name} {'is' if here.nunique() == 1 else 'are'} named like slides"]  # fmt: skip
    notes += [f"outlines: {count(unused, 'file')} of {folder.name} {'is' if unused == 1 else 'are'} named like no slide, and not used"] if unused else []  # fmt: skip
    return FoundOutlines(made, (*notes, *_said(made)))


def _said(files: pd.Series) -> tuple[str, ...]:
    blank = int((files == "").sum())
    return (f"outlines: {count(blank, 'slide')} without any {'has' if blank == 1 else 'have'} no outlined lesion",) if blank else ()  # fmt: skip


def _seen_from(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
