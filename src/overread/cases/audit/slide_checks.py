"""Are the slides sound? What a table of slides and outlines can have wrong, found before anything is trained."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.described_rows import DescribedRows, Found, Severity, file_state, found_in
from overread.cases.cases import Cases, outline_paths, paths
from overread.core.errors import checked, require
from overread.core.phrases import count as counted
from overread.core.progress import Progress, silent
from overread.core.sandbox import TOO_LONG
from overread.images.address import file_of
from overread.images.slides.slide import slide_seconds
from overread.images.slides.slide_description import NO_SLIDE, describe_slide
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import KINDS
from overread.stats.estimate import rounded

#: mm² of tissue below which a slide has almost none.
LITTLE = 0.1
#: From this share of what is not glass on, artefacts of a slide are worth a warning.
SPOILT = 0.25
#: Degrees between the stains of two sources, and a factor between the microns of two slides, that are told.
STAINS_APART, MICRONS_APART = 5.0, 1.1
#: What is no tissue, and no glass.
_ARTEFACTS = KINDS[2:]


@dataclass(frozen=True, eq=False)
class SlideRows:
    """Cases of slides, with what was seen of each, row by row (:data:`~.slide_description.NO_SLIDE`)."""

    cases: Cases
    rows: pd.DataFrame

    @cached_property
    def read(self) -> NDArray[np.bool_]:
        """(N,) which slides could be read."""
        return (self.rows["error"].eq("") & self.rows["width"].gt(0)).to_numpy()

    @cached_property
    def drawn(self) -> NDArray[np.bool_]:
        """(N,) which slides have outlines that could be read."""
        return self.read & (self.rows["outlined"] & self.rows["outline_error"].eq("")).to_numpy()

    @cached_property
    def disease(self) -> NDArray[np.float64]:
        """(N,) 1 of a slide whose label is a positive class, 0 of another, NaN where that is not known."""
        task, labels = self.cases.target.task, self.cases.table.get("label")
        if not task.exclusive or labels is None or not self.cases.target.positive:
            return np.full(len(self.rows), np.nan)
        positive = labels.isin(self.cases.target.positive).to_numpy(np.float64)
        return np.where(self.cases.labelled, positive, np.nan)


@checked
def describe_slides(
    cases: Cases, readable: NDArray[np.bool_], *, threads: int = 0, progress: Progress = silent,
    cache: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row a slide of ``cases``, in their order: what it is (:func:`~.slide_description.describe_slide`).

    Slides that are not ``readable`` (N,) have a row of nothing; one that cannot be read through has its reason in ``error``.
    ``threads``: processes, 0 for as many as there are cores. ``cache``: a folder that keeps rows by path, size and time of
    change of the slide and of its outlines, and the tissue of slides by their content.
    """
    require(len(readable) == len(cases), "each slide is readable or not", given=f"{len(readable)} for {len(cases)}")
    slides, outlines, tumour = paths(cases), outline_paths(cases), list(cases.planes.tumour)
    masks = "" if cache is None else str(Path(cache) / "slides")
    tasks = [(slide, file, tumour, masks) for slide, file in zip(slides, outlines, strict=True)]
    return _KEPT.describe(describe_slide, tasks, _keys(slides, outlines, tumour, readable), what="looking at slides", threads=threads,
                          seconds=slide_seconds(slides), progress=progress, cache=cache)  # fmt: skip


_KEPT = DescribedRows("slides", 3, NO_SLIDE, {})


def _keys(slides: list[str], outlines: list[str], tumour: list[str], readable: NDArray[np.bool_]) -> list[str]:
    """A key for each slide and its outlines from their paths, sizes and times of change; blank where there is nothing to be read."""
    state = functools.cache(file_state)

    def key(slide: str, file: str) -> str:
        return _KEPT.key(
            tumour, os.path.abspath(slide), state(file_of(slide)), file and os.path.abspath(file), state(file)
        )

    return [key(slide, file) if there else "" for slide, file, there in zip(slides, outlines, readable, strict=True)]


@checked
def check_slides(slides: SlideRows) -> list[Found]:
    """Everything that is wrong with slides and outlines."""
    return [found for check in CHECKS for found in check(slides) if found[5]]


@checked
def unusable_slides(slides: SlideRows) -> dict[str, str]:
    """The reason of each case whose slide could not be read to its end."""
    names, errors = slides.cases.table["case"], slides.rows["error"]
    return {
        names[row]: f"{'took too long' if slow else 'unreadable'}: {errors[row]}"
        for row, slow in zip(np.flatnonzero(errors != ""), _slow(errors)[errors != ""], strict=True)
    }


def _first(texts: pd.Series, rows: NDArray[Any]) -> str:
    return str(texts.iloc[rows[0]]).rstrip(".") if len(rows) else ""


# -- slides that cannot be used ------------------------------------------------------------------------------------


def _damaged(slides: SlideRows) -> list[Found]:
    errors = slides.rows["error"].where(~_slow(slides.rows["error"]), "")
    rows = np.flatnonzero(errors != "")
    severity: Severity = "error" if len(rows) * 20 > max(len(errors), 1) else "warning"
    return found_in("damaged-slide", severity, f"{counted(len(rows), 'slide')} cannot be read to {'its' if len(rows) == 1 else 'their'} end and {'is' if len(rows) == 1 else 'are'} set aside, first: {_first(errors, rows)}",
                    "Restore these files: their overviews can be read, and places within them cannot.", rows)  # fmt: skip


def _too_long(slides: SlideRows) -> list[Found]:
    rows = np.flatnonzero(_slow(slides.rows["error"]))
    return found_in("slow-slide", "warning", f"{counted(len(rows), 'slide')} took too long to read through and {'is' if len(rows) == 1 else 'are'} set aside, first: {_first(slides.rows['error'], rows)}",
                    "They need not be damaged: convert slides without a pyramid to pyramidal TIFF, or run this where disks are faster.", rows)  # fmt: skip


def _slow(errors: pd.Series) -> NDArray[np.bool_]:
    """(N,) which were given up for their time: whether they are depends on the machine."""
    return errors.str.contains(TOO_LONG, regex=False).to_numpy(bool)


def _little(slides: SlideRows) -> list[Found]:
    tissue = slides.rows["tissue"].to_numpy(np.float64)
    rows = np.flatnonzero(slides.read & (tissue < LITTLE))
    return found_in("little-tissue", "warning", f"{counted(len(rows), 'slide has', 'slides have')} almost no tissue: less than {LITTLE:g} mm²",
                    "Look at them: an empty slide, a stain that is hardly seen, or microns of a pixel that are wrong.", rows)  # fmt: skip


def _artefacts(slides: SlideRows) -> list[Found]:
    shares = slides.rows[list(_ARTEFACTS)].sum(axis=1).to_numpy(np.float64)
    means = slides.rows.loc[slides.read, list(_ARTEFACTS)].mean() if slides.read.any() else pd.Series(0.0, index=list(_ARTEFACTS))  # fmt: skip
    listed = ", ".join(f"{name} {means[name]:.1%}" for name in _ARTEFACTS if means[name] >= 0.0005)
    spoilt, some = np.flatnonzero(slides.read & (shares > SPOILT)), np.flatnonzero(slides.read & (shares > 0))
    found = found_in("artefacts", "note", f"of what is not glass {means.sum():.1%} is no tissue that can be read, on the mean of {counted(int(slides.read.sum()), 'slide')} ({listed})",
                     "It is skipped: no tile is drawn there and no lesion found.", some if means.sum() >= 0.0005 else some[:0])  # fmt: skip
    return found + found_in("spoilt-slide", "warning", f"{counted(len(spoilt), 'slide has', 'slides have')} pen, edges, bubbles or blur on more than {SPOILT:.0%} of what is not glass, up to {float(shares[spoilt].max(initial=0)):.0%}",
                            "Look at them, scan them again, or leave them out: what lies there is not looked at.", spoilt)  # fmt: skip


# -- microns and pyramids ------------------------------------------------------------------------------------------


def _microns(slides: SlideRows) -> list[Found]:
    mpp = slides.rows["mpp"].to_numpy(np.float64)
    if not slides.read.any() or mpp[slides.read].max() < MICRONS_APART * mpp[slides.read].min():
        return []
    sizes = pd.Series(np.round(mpp[slides.read], 3)).value_counts()
    listed = ", ".join(f"{size:g} µm ({many:,})" for size, many in sizes.head(6).items())
    coarse = mpp > Tiles().mpp[0] * 1.01
    found = found_in("mixed-microns", "note", f"pixels of slides come in {len(sizes)} sizes: {listed}",
                     "Tiles are cut in microns, so that they show alike; what a scanner did not resolve stays blurred.", np.flatnonzero(slides.read), len(sizes))  # fmt: skip
    rows = np.flatnonzero(slides.read & coarse)
    return found + found_in("coarse-slide", "note", f"{counted(len(rows), 'slide has', 'slides have')} pixels larger than the {Tiles().mpp[0]:g} µm of a usual tile, up to {float(mpp[rows].max(initial=0)):g} µm",
                            "Their tiles are enlarged: ask for coarser ones (tiles.mpp), or leave them out.", rows)  # fmt: skip


def _pyramids(slides: SlideRows) -> list[Found]:
    rows = np.flatnonzero(slides.read & (slides.rows["levels"] == 1).to_numpy())
    return found_in("no-pyramid", "note", f"{counted(len(rows), 'slide has', 'slides have')} one level only: what is seen from afar is made from all pixels, which takes long",
                    "Convert them once to pyramidal TIFF.", rows)  # fmt: skip


# -- outlines ------------------------------------------------------------------------------------------------------


def _unread(slides: SlideRows) -> list[Found]:
    errors = slides.rows["outline_error"]
    rows = np.flatnonzero(errors != "")
    severity: Severity = "error" if len(rows) * 20 > max(int(slides.rows["outlined"].sum()), 1) else "warning"
    return found_in("unreadable-outlines", severity, f"{counted(len(rows), 'file')} of outlines cannot be read, first: {_first(errors, rows)}",
                    "Export these files again, or name the groups that are tumour (--tumour-group).", rows)  # fmt: skip


def _astray(slides: SlideRows) -> list[Found]:
    many = slides.rows["astray"].to_numpy(np.int64)
    rows, total = np.flatnonzero(many), int(slides.rows["outlines"].sum())
    severity: Severity = "error" if many.sum() * 2 > max(total, 1) else "warning"
    return found_in("outlines-elsewhere", severity, f"{counted(int(many.sum()), 'outline')} of {total:,} {'lies' if many.sum() == 1 else 'lie'} for more than half outside of tissue, on {counted(len(rows), 'slide')}",
                    "Look at them: outlines of another slide, in other pixels than those of level 0, or shifted.", rows)  # fmt: skip


def _against_labels(slides: SlideRows) -> list[Found]:
    judged, disease = slides.rows["judged"].to_numpy(np.int64), slides.disease
    anything = slides.rows["outlines"].to_numpy(np.int64) > 0
    wrong = np.flatnonzero(slides.drawn & (disease == 0) & anything)
    found = found_in("lesions-on-normal", "error", f"{counted(len(wrong), 'slide')} whose label says no disease {'has' if len(wrong) == 1 else 'have'} outlined lesions",
                     "Find out which is right: the label, the outlines, or their file's name.", wrong)  # fmt: skip
    bare = np.flatnonzero(slides.drawn & (disease == 1) & ~anything)
    found += found_in("disease-without-lesion", "warning", f"{counted(len(bare), 'slide')} whose label says disease {'has' if len(bare) == 1 else 'have'} a file of outlines without a lesion",
                      "Outline its lesions, or leave the slide out: where they are is unknown.", bare)  # fmt: skip
    few = np.flatnonzero(slides.drawn & anything & (judged == 0))
    found += found_in("isolated-only", "note", f"all lesions of {counted(len(few), 'slide')} are isolated tumour cells, or areas that were set aside",
                      "They count neither as found nor as missed, as in CAMELYON16.", few)  # fmt: skip
    if not slides.rows["outlined"].any():
        return found
    missing = np.flatnonzero(slides.read & (disease == 1) & ~slides.rows["outlined"].to_numpy(bool))
    return found + found_in("no-outlines", "warning", f"{counted(len(missing), 'slide')} whose label says disease {'has' if len(missing) == 1 else 'have'} no file of outlines",
                            "Add the files: without them training cannot tell where disease is, and FROC has no lesion to find.", missing)  # fmt: skip


def _said(slides: SlideRows) -> list[Found]:
    """What files of outlines told of themselves, the commonest first."""
    notes = slides.rows["outline_notes"].str.split("; ").explode()
    notes = notes[notes.ne("") & notes.notna()]
    kinds = notes.str.replace(r"\A\d[\d,]* outlines? ", "outlines ", regex=True).value_counts()
    listed = "; ".join(f"{kind} ({counted(many, 'slide')})" for kind, many in kinds.head(8).items())
    return found_in("outline-notes", "note", f"of outlines was told: {listed}",
                    "See that this is what they mean.", np.unique(notes.index.to_numpy(np.int64)))  # fmt: skip


# -- stain and amounts ---------------------------------------------------------------------------------------------


def _stains(slides: SlideRows) -> list[Found]:
    """Sources whose stains are of another colour."""
    colours = stain_colours(slides.rows)
    known = slides.read & np.isfinite(colours).all(axis=1)
    sources = slides.cases.table["source"].to_numpy(object)
    middle = {str(name): np.median(colours[known & (sources == name)], axis=0) for name in sorted(set(sources[known]))}
    apart = [(max(_degrees(a[:3], b[:3]), _degrees(a[3:], b[3:])), one, other) for one, a in middle.items() for other, b in middle.items() if one < other]  # fmt: skip
    most = max(apart, default=(0.0, "", ""))
    if most[0] < STAINS_APART:
        return []
    return found_in("stain-apart", "note", f"the stains of {most[1] or 'no source'} and {most[2]} lie {most[0]:.0f}° apart",
                    "Bring them to one look (stain macenko or reinhard of the recipe), vary them in training (augmentation.stain), and judge each source by itself.", np.flatnonzero(known), 1)  # fmt: skip


def _amounts(slides: SlideRows) -> list[Found]:
    """How much tissue there is, as tiles by class."""
    held = tiles_by_class(slides)
    if not held:
        return []
    told = "; ".join(f"{name} {one['tiles']:,} of {counted(one['slides'], 'slide')} of {counted(one['patients'], 'patient')}" for name, one in held.items())  # fmt: skip
    tissue = slides.rows["tissue"].to_numpy(np.float64)[slides.read]
    return found_in("tissue", "note", f"{rounded(float(tissue.sum()))} mm² of tissue, {rounded(float(np.median(tissue)))} mm² of the median slide: about so many tiles of {Tiles().side:g} µm side by side: {told}",
                    "See that the area is what you know of these slides.", np.flatnonzero(slides.read), int(slides.read.sum()))  # fmt: skip


CHECKS: tuple[Callable[[SlideRows], list[Found]], ...] = (
    _damaged, _too_long, _unread, _astray, _against_labels, _little, _artefacts, _microns, _pyramids, _said, _stains, _amounts,
)  # fmt: skip


@checked
def stain_colours(rows: pd.DataFrame) -> NDArray[np.float64]:
    """(N, 6) densities of haematoxylin and eosin in red, green and blue of each slide; NaN where they could not be measured."""
    found = np.full((len(rows), 6), np.nan)
    for at, texts in enumerate(zip(rows["haematoxylin"], rows["eosin"], strict=True)):
        if all(texts):
            found[at] = [float(word) for text in texts for word in text.split()]
    return found


def _degrees(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    cosine = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@checked
def tiles_by_class(slides: SlideRows) -> dict[str, dict[str, int]]:
    """About how many tiles side by side there are: within lesions, and in the tissue of slides of each class."""
    if not slides.cases.target.task.exclusive or "label" not in slides.cases.table:
        return {}
    labels, patients = slides.cases.table["label"].to_numpy(object), slides.cases.table["patient"].to_numpy(object)
    area = slides.rows["tissue"].to_numpy(np.float64)
    lesion = np.where(slides.drawn, slides.rows["lesion_area"].to_numpy(np.float64), 0.0)
    each = (Tiles().side / 1000) ** 2
    groups = {str(name): (slides.read & (labels == name), np.maximum(area - lesion, 0)) for name in slides.cases.target.names}  # fmt: skip
    groups |= {"within lesions": (lesion > 0, lesion)}
    return {
        name: {"tiles": round(float(np.nansum(areas[some])) / each), "slides": int(some.sum()), "patients": len(set(patients[some]))}
        for name, (some, areas) in groups.items() if some.any()
    }  # fmt: skip


@checked
def slides_in_short(slides: SlideRows) -> dict[str, Any]:
    """What ``audit.json`` holds of slides: tissue, shares that are skipped, microns, outlines, and tiles by class."""
    rows = slides.rows[slides.read]
    return {
        "slides": len(rows), "tissue mm²": float(rows["tissue"].sum()),
        "skipped": {name: float(rows[name].mean()) if len(rows) else 0.0 for name in _ARTEFACTS},
        "microns": {f"{size:g}": int(many) for size, many in rows["mpp"].round(3).value_counts().sort_index().items()},
        "outlined": int(slides.drawn.sum()), "outlines": int(rows["outlines"].sum()), "regions": int(rows["judged"].sum()),
        "not judged": int(rows["aside"].sum()), "tiles": tiles_by_class(slides),
    }  # fmt: skip
