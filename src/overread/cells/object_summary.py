"""The table of objects of many images, written image by image, and what it comes to for each source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cells.measure import AREA, REACH, measure
from overread.core.errors import InputError, checked
from overread.core.files import guarded, publish, write_csv
from overread.core.phrases import aligned, count
from overread.core.progress import Progress, silent
from overread.evaluation.results import Result, lookup
from overread.evaluation.subgroups import FEWEST
from overread.images.outlines.outlines import Outlines
from overread.stats.arrays import patient_codes
from overread.stats.estimate import Estimate, level_text
from overread.stats.resample import Column, Statistic, bootstrap, of_sums, per_patient

#: The table of objects, and that of images, as they lie in a folder.
OBJECTS, IMAGES = "objects.csv", "objects_by_image.csv"
#: The means that are told of whole objects, by the columns of :func:`.measure`; in microns where these are known.
TOLD = (AREA, "equivalent diameter", "eccentricity", "circularity", "solidity", "neighbours", "intensity mean")


@dataclass(frozen=True, eq=False)
class MarkedImage:
    """An image with its objects. ``pixels`` None where only the outlines are known; ``pixel_size`` 0 where unknown."""

    case: str
    patient: str
    source: str
    outlines: Outlines
    pixels: NDArray[Any] | None = None
    pixel_size: float = 0.0
    part: str = ""


@dataclass(frozen=True, eq=False)
class ObjectSummary(Result):
    """What the objects of many images are like: numbers and means, of all and by class, in all images and by source.

    ``objects per image`` counts all objects; the other means are over objects that do not touch the border, since the
    image cuts those off. Intervals by a bootstrap of patients. ``unit``: ``um`` or ``pixels``. ``touching``: objects at the
    border; ``notes``: what was made alike and what is not known.
    """

    file: ClassVar[str] = "measures.json"

    estimates: tuple[Estimate, ...]
    objects: int
    images: int
    patients: int
    touching: int = 0
    unit: str = "pixels"
    notes: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        return f"{count(self.objects, 'object')} in {count(self.images, 'image')} of {count(self.patients, 'patient')}"

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """``["mean area"]`` or ``["mean area", "red"]``, over all images."""
        return lookup([(e.metric, e.of, e) for e in self.estimates if not e.where], key)

    def table(self) -> str:
        """A line an estimate, then the notes."""
        head = ("where", "of", "mean", f"value ({level_text(self.estimates)})", "images")
        rows = [(", ".join(f"{k} {v}" for k, v in e.where.items()) or "all", e.of or "all", e.metric, str(e), str(e.images)) for e in self.estimates]  # fmt: skip
        return "\n".join([repr(self), *aligned([head, *rows]), *self.notes])


@checked
def write_objects(
    folder: str | Path, images: Iterable[MarkedImage], total: int, *, reach: float = REACH, texture: bool = True, microns: bool = False,
    level: float = 0.95, seed: int = 0, progress: Progress = silent,
) -> ObjectSummary:  # fmt: skip
    """Write ``objects.csv`` (a row an object) and ``objects_by_image.csv`` into ``folder``, and summarise them.

    Images come one at a time and only one is held, so that a million objects need the memory of one image. ``total``: how
    many images there are, for the bar. ``microns``: whether lengths are told in microns, blank where an image's pixel size
    is unknown. The first image decides whether there are channels; others are made like it, and ``notes`` count them.
    """
    rows: list[tuple[Any, ...]] = []
    adapter = _Adapter()
    with publish(Path(folder) / OBJECTS) as beside, open(beside, "w", encoding="utf-8", newline="") as handle:
        for done, image in enumerate(images):
            progress("measuring images", done, total)
            size = (image.pixel_size or math.nan) if microns else 0.0
            made = _measured(image, adapter.like_first(image), size, reach, texture)
            made.insert(0, "case", image.case)
            if done == 0:
                columns = list(made)
            guarded(made[columns]).to_csv(handle, index=False, header=done == 0, lineterminator="\n")
            rows += _sums(made, image, microns)
    progress("measuring images", total, total)
    if not rows:
        raise InputError("there is no image to measure", todo="check the table and the folder of masks")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_csv(Path(folder) / IMAGES, table.drop(columns=[name for name in COLUMNS if name.startswith("sum ")]))
    return _summary(table, microns, level, seed, adapter.notes)


def _measured(image: MarkedImage, pixels: NDArray[Any] | None, size: float, reach: float, texture: bool) -> pd.DataFrame:  # fmt: skip
    if not math.isnan(size):
        return measure(image.outlines, pixels, pixel_size=size, reach=reach, texture=texture)
    made = measure(image.outlines, pixels, pixel_size=1.0, reach=reach, texture=texture)
    return made.assign(**{name: np.nan for name in map(str, made) if name.endswith((" um", " um2"))})


class _Adapter:
    """Makes the channels of all images like those of the first, and counts which it changed."""

    def __init__(self) -> None:
        self.channels: int | None = None
        self.changed = self.without = 0
        self.seen = False

    def like_first(self, image: MarkedImage) -> NDArray[Any] | None:
        """The pixels (H, W, C) with as many channels as those of the first image."""
        pixels = None if image.pixels is None else image.pixels.reshape(*image.pixels.shape[:2], -1)
        if not self.seen:
            self.seen, self.channels = True, None if pixels is None else pixels.shape[2]
        if self.channels is None or pixels is None:
            self.without += (self.channels is None) != (pixels is None)
            return None if self.channels is None else np.zeros((*image.outlines.size, self.channels), np.uint8)
        if pixels.shape[2] == self.channels:
            return pixels
        self.changed += 1
        grey = pixels.mean(axis=2, keepdims=True).round().astype(pixels.dtype)
        return np.repeat(grey, self.channels, axis=2)

    @property
    def notes(self) -> tuple[str, ...]:
        told = f"{count(self.changed, 'image')} of other channels: their mean stands in the {count(self.channels, 'channel')} of the first image"  # fmt: skip
        return (told,) if self.changed else ()


# -- what it comes to ---------------------------------------------------------------------------------------------------


#: Of an image, and of each class in it.
COLUMNS = ("case", "patient", "source", "part", "class", "objects", "touching", *(f"mean {name}" for name in TOLD),
           *(f"sum {name}" for name in TOLD), *(f"sum n {name}" for name in TOLD))  # fmt: skip


def _sums(made: pd.DataFrame, image: MarkedImage, microns: bool) -> list[tuple[Any, ...]]:
    """A row of the image as a whole, and one a class: how many objects, and sums over those that are whole."""
    made = made.assign(**{"intensity mean": made[[name for name in map(str, made) if name.startswith("intensity mean")]].mean(axis=1)})  # fmt: skip
    found = []
    for name in ("", *sorted(set(made["class"]) - {""})):
        of = made if not name else made[made["class"] == name]
        whole = of.loc[of["touches border"] == 0, [_told(told, microns) for told in TOLD]].to_numpy(np.float64)
        known, total = np.isfinite(whole).sum(axis=0), np.nansum(whole, axis=0)
        mean = total / np.where(known > 0, known, np.nan)
        found.append((image.case, image.patient, image.source, image.part, name, len(of), len(of) - len(whole), *mean.tolist(),
                      *total.tolist(), *known.tolist()))  # fmt: skip
    return found


def _told(name: str, microns: bool) -> str:
    units = {AREA: "um2", "equivalent diameter": "um"}
    return f"{name} {units[name]}" if microns and name in units else name


def _summary(table: pd.DataFrame, microns: bool, level: float, seed: int, notes: tuple[str, ...]) -> ObjectSummary:
    whole = table[table["class"] == ""]
    names = [name for name in dict.fromkeys(table["class"]) if name]
    sources = sorted(set(whole["source"]) - {""})
    groups: list[tuple[dict[str, str], pd.DataFrame]] = [({}, table)]
    if len(sources) > 1:
        groups += [({"source": source}, table[table["source"] == source]) for source in sources]
    found: list[Estimate] = []
    for where, part in groups:
        for name in ["", *(names if len(names) > 1 else [])]:
            found += [replace(e, where=where) for e in _means(part, name, level, seed)]
    few = whole["patient"].nunique()
    cautions = (f"fewer than {FEWEST} patients: the intervals say little",) if few < FEWEST else ()
    touching = int(whole["touching"].sum())
    said = (f"{count(touching, 'object')} of {int(whole['objects'].sum()):,} touch the border: in the counts and in {OBJECTS}, not in the means",) if touching else ()  # fmt: skip
    return ObjectSummary(tuple(found), int(whole["objects"].sum()), len(whole), int(few), touching, "um" if microns else "pixels",
                         (*notes, *said, *cautions))  # fmt: skip


def _means(part: pd.DataFrame, name: str, level: float, seed: int) -> list[Estimate]:
    """Objects an image, and the means over whole objects, of one class (``""``: of all), clustered by patient."""
    every = part[part["class"] == ""].reset_index(drop=True)  # also images without an object of the class
    of = every if not name else part[part["class"] == name].set_index("case").reindex(every["case"]).fillna({"objects": 0})  # fmt: skip
    codes = patient_codes(every["patient"].astype(str).to_numpy(), len(every))
    patients = int(codes.max()) + 1
    pairs = [("objects per image", of["objects"].to_numpy(np.float64), np.ones(len(every)))]
    pairs += [(f"mean {told}", *(np.nan_to_num(of[f"sum {n}{told}"].to_numpy(np.float64)) for n in ("", "n "))) for told in TOLD]  # fmt: skip
    statistics = [_ratio(metric, name, top, below, codes, patients) for metric, top, below in pairs if below.sum()]
    return bootstrap(statistics, patients, images=len(every), level=level, seed=seed)


def _ratio(
    metric: str, of: str, top: NDArray[np.float64], below: NDArray[np.float64], codes: NDArray[np.int64], patients: int
) -> Statistic:
    cells = per_patient(codes, patients, top, below)
    column = Column(metric, of, int((below > 0).sum()), int((cells[:, 1] > 0).sum()), "positive", reason="no objects")

    def mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((sums[:, 0] / sums[:, 1])[:, None], np.float64)

    return of_sums((column,), cells, mean)
