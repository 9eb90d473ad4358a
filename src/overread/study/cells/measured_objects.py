"""The objects of a run, of a table of outlines, of a folder of masks, or of a table with masks, measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, mask_paths, paths
from overread.cases.sources.folders import images_below
from overread.cases.sources.layout import Layout
from overread.cases.split import Split
from overread.cells.marked_images import marked_images
from overread.cells.measure import REACH
from overread.cells.object_summary import MarkedImage, ObjectSummary, write_objects
from overread.core.errors import ImageError, InputError, checked, nearest, one_of
from overread.core.files import unguarded
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.evaluation.instances.predicted_outlines import PredictedOutlines, read_labels
from overread.images.outlines.outlines import Outlines
from overread.study.context import cases_of
from overread.study.outline_steps import image_keys
from overread.study.question import Study

_ALL = Layout(masks="keep")
#: What says behind a name that it is that of a mask.
_MASK = re.compile(r"[_\- ](masks?|labels?|seg|segmentation|gt|outlines)\Z", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Marked:
    """Images and their outlines by address, blank where there is none; ``sizes``: microns a pixel, NaN where unknown.

    ``table`` has the columns ``case``, ``patient``, ``source`` and ``split``, a row an image. ``outlined``: the outlines
    that were read already, by row, in place of masks.
    """

    table: pd.DataFrame
    images: Sequence[str]
    masks: Sequence[str]
    sizes: NDArray[np.float64]
    outlined: PredictedOutlines | None = None
    truth: bool = False

    def __len__(self) -> int:
        return len(self.table)


@checked
def measure_marked(
    marked: Marked, folder: str | Path, *, names: Sequence[str] = (), reach: float = REACH, texture: bool = True, level: float = 0.95,
    seed: int = 0, threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> ObjectSummary:  # fmt: skip
    """Write ``objects.csv``, ``objects_by_image.csv``, ``measures.json`` and ``metrics.json`` into ``folder``.

    Images that cannot be read are left out, and said. Raises :class:`InputError` where none can.
    """
    errors: dict[int, str] = {}
    known = np.isfinite(marked.sizes)
    if known.any() and not known.all():
        say(
            f"  {count(int((~known).sum()), 'image')} of {len(marked):,} without a pixel size: their lengths in microns are blank"
        )
    if not known.any():
        say("  lengths are in pixels: nobody says how large a pixel is (--pixel-size MICRONS)")
    if not any(marked.images):
        say("  intensity and texture are not told: there are no images (--image)")
    found = write_objects(folder, _images(marked, names, threads, errors), len(marked), reach=reach, texture=texture, microns=bool(known.any()),
                          level=level, seed=seed, progress=progress)  # fmt: skip
    found.save(folder)
    if errors:
        say(f"  {count(len(errors), 'image')} left out: {next(iter(errors.values()))}")
    return found


def _images(marked: Marked, names: Sequence[str], threads: int, errors: dict[int, str]) -> Iterator[MarkedImage]:
    masks = [""] * len(marked) if marked.outlined is not None else marked.masks
    with closing(contained(labels_at, _label_files(marked), workers=threads)) as read:
        drawn = enumerate(read)
        for row, pixels, outlines in marked_images(marked.images, masks, names=names, threads=threads, errors=errors):
            if marked.outlined is not None:
                outlines = next(found for place, found in drawn if place == row)
                if isinstance(outlines, ImageError):
                    errors[row] = outlines.reason or str(outlines)
                    continue
            about = marked.table.iloc[row]
            size = float(marked.sizes[row])
            yield MarkedImage(str(about["case"]), str(about["patient"]), str(about["source"]), outlines, pixels, size if math.isfinite(size) else 0.0, str(about["split"]))  # fmt: skip


@checked
def labels_at(path: str, classes: Sequence[Sequence[Any]]) -> Outlines:
    """:func:`.read_labels`, as a process of its own is asked: ``classes`` are pairs of an object's number and its class."""
    return read_labels(path, {int(number): str(name) for number, name in classes})


def _label_files(marked: Marked) -> list[tuple[str, list[tuple[int, str]]]]:
    """Of each row of a table of outlines the label image, and the classes of its objects by their numbers."""
    held, side = marked.outlined, "truth" if marked.truth else "predicted"
    if held is None:
        return []
    rows = zip(held.table["case"], held.table[side], strict=True)
    return [(str(Path(held.folder) / path), list(held.classes_of(case, side).items())) for case, path in rows]


# -- where the outlines come from -------------------------------------------------------------------------------------


@checked
def marked_cases(cases: Cases) -> Marked:
    """The images of a table that have a mask. Raises :class:`InputError` where none has."""
    held = cases.take(np.array([mask != "" for mask in mask_paths(cases)]))
    if not len(held):
        raise InputError("no image of the table has a mask", todo="name their column or folder: --mask")
    return Marked(held.table, paths(held), mask_paths(held), _sizes(held.table))


def _sizes(table: pd.DataFrame) -> NDArray[np.float64]:
    if "pixel_size" not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table["pixel_size"], errors="coerce").to_numpy(np.float64)


@checked
def marked_files(masks: str | Path, images: str = "", *, pixel_size: float = math.nan) -> Marked:
    """The masks of a folder, each with the image of the folder ``images`` that is named like it, if one is given.

    A mask's case is its name without what says that it is a mask; each counts as a patient of its own, since nobody says
    otherwise. Raises :class:`InputError` for an empty folder and for a mask without its image.
    """
    folder = Path(masks)
    files = images_below(folder, _ALL)[0]
    if not files:
        raise InputError("the folder holds no masks", given=folder.name, todo="give a folder of label images")
    names = [_stem(file) for file in files]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise InputError("two masks of the folder belong to one image", given=twice, todo="give one mask for each image, with a number for each object")  # fmt: skip
    found = _named_like(names, images) if images else [""] * len(files)
    table = pd.DataFrame({"case": names, "patient": names, "source": "", "split": ""})
    return Marked(table, found, [str(folder / file) for file in files], np.full(len(files), pixel_size))


def _stem(file: str) -> str:
    return _MASK.sub("", str(Path(file).with_suffix("")))


def _named_like(names: Sequence[str], folder: str) -> list[str]:
    """The image of each name, with any ending."""
    if not Path(folder).is_dir():
        raise InputError(
            "there is no such folder of images", given=Path(folder).name, todo="name the folder: --image FOLDER"
        )
    by_name = {str(Path(file).with_suffix("")).lower(): str(Path(folder) / file) for file in images_below(Path(folder), _ALL)[0]}  # fmt: skip
    lacking = [name for name in names if name.lower() not in by_name]
    if lacking:
        raise InputError(f"{count(len(lacking), 'image')} of {len(names):,} are not in the folder of images", given=f"first that of {lacking[0]}",
                         todo=nearest(lacking[0], list(by_name)))  # fmt: skip
    return [by_name[name.lower()] for name in names]


@checked
def marked_outlines(
    held: PredictedOutlines, images: dict[str, str], *, truth: bool = False, sizes: dict[str, float] | None = None
) -> Marked:  # fmt: skip
    """What was predicted in images, or what is true of them (``truth``); ``images`` by case, blank for none.

    ``sizes``: microns a pixel by case, where the table of outlines does not say. Rows without such outlines are left out.
    """
    side = "truth" if truth else "predicted"
    held = held.only((held.table[side] != "").to_numpy())
    if not len(held):
        raise InputError(f"the table holds no {'true' if truth else 'predicted'} outlines", todo="leave --truth out, or give it" if truth else "measure the true ones: --truth")  # fmt: skip
    cases = held.table["case"].tolist()
    own, more = held.pixel_sizes, sizes or {}
    known = np.array([size if math.isfinite(size) else more.get(case, math.nan) for size, case in zip(own, cases, strict=True)], np.float64)  # fmt: skip
    return Marked(held.table, [images.get(case, "") for case in cases], [""] * len(cases), known, held, truth)


@checked
def images_of(held: PredictedOutlines, asked: str, folder: Path) -> dict[str, str]:
    """Where the images of a table of outlines lie, by case: its column ``asked``, or a folder of files named like the cases."""
    cases = held.table["case"].tolist()
    if not asked:
        return {}
    if asked in held.table:
        return {case: str(folder / str(image)) for case, image in zip(cases, held.table[asked], strict=True)}
    return dict(zip(cases, _named_like(cases, asked), strict=True))


@checked
def marked_run(run: str | Path, part: str = "test", *, truth: bool = False, pixel_size: str = "", progress: Progress = silent) -> Marked:  # fmt: skip
    """The outlines that a run has predicted in a part, or the true ones, in the images of its table.

    ``pixel_size``: microns a pixel where the run does not know them. Raises :class:`InputError` where the run has none.
    """
    run = Path(run)
    one_of(part, ("tuning", "test"), "part")
    path = run / "predictions" / f"{part}.csv"
    study = Study.load(run / "study.toml")
    if not study.columns.mask or study.columns.label:
        raise InputError("the run outlines no objects", given=run.name, todo="give a run that was made with --mask, or a table with --mask")  # fmt: skip
    if not path.exists():
        raise InputError(
            f"the run has no predictions of its {part} part yet", given=run.name, todo=f"overread predict {run}"
        )
    if pixel_size and not study.columns.pixel_size:
        study = study.changed(pixel_size=pixel_size)
    cases = cases_of(study, progress)
    if cases.table["case"].duplicated().any():  # keys number the images of a case, and are those of the part alone
        left_out = unguarded(pd.read_csv(run / "excluded.csv", dtype=str, keep_default_na=False))["case"].tolist()
        cases = cases.drop(left_out).only(Split.load(run / "split.csv"), part)
    names, sizes = image_keys(cases), _sizes(cases.table)
    return marked_outlines(PredictedOutlines.read(path), dict(zip(names, paths(cases), strict=True)), truth=truth, sizes=dict(zip(names, sizes.tolist(), strict=True)))  # fmt: skip
