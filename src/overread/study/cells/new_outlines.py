"""Objects outlined in images that a model has not seen: a label image each, the table that judges and measures read, a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from overread.cases.cases import ROLES, Cases, mask_paths, paths
from overread.cases.privacy import codes, patient_codes, salt_of
from overread.cells.large_image import SegmentedFile
from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.evaluation.instances.predicted_outlines import PIXEL_SIZE, PredictedOutlines
from overread.images.outlines.outlines import Outlines, read_masks, write_labels
from overread.learning.model import Model
from overread.reporting.outlined.found_objects import found_page
from overread.study.outline_steps import file_names

#: The table of what was outlined, its page, and the folders of its label images.
TABLE, PAGE, FOUND, TRUE = "outlines.csv", "outlines.html", "labels", "truth"
#: Images on the page; the others stand in the table.
SHOWN = 60


@dataclass(frozen=True)
class NewOutlines:
    """What was written: ``table`` and ``page``, ``images`` that were outlined, ``objects`` in them; ``judged``: whether
    there are true outlines beside."""

    table: Path
    page: Path
    images: int
    objects: int
    judged: bool


@checked
def outline_new(
    model: Model, cases: Cases, folder: str | Path, *, hide: bool = False, keep: Sequence[str] = (), device: str = "", threads: int = 0,
    progress: Progress = silent, say: Say = unheard,
) -> NewOutlines:  # fmt: skip
    """Outline the objects of each image of ``cases`` and write ``outlines.csv``, its label images and ``outlines.html``.

    ``hide``: codes stand in place of the names of cases and patients, and of other columns only those to ``keep`` go along.
    Where the cases have masks, these are written beside, so that
    `overread evaluate` judges the table. Raises :class:`InputError` where no image can be read.
    """
    from overread.cells.segment import segment

    home, addresses, rows, written, many = Path(folder), paths(cases), list[int](), list[str](), 0
    table = _named(model, cases, hide, keep, say)
    files = file_names(Cases(cases.table.assign(case=table["case"]), cases.target, masks=cases.masks))
    shown, kinds, sizes = dict[str, Outlines](), list[pd.DataFrame](), dict[int, tuple[int, int]]()
    for row, outlines in segment(model, cases, device=device, threads=threads, progress=progress, say=say):
        path = write_labels(home / FOUND / f"{files[row]}.png", outlines.labels)
        rows.append(row)
        written.append(f"{FOUND}/{path.name}")
        many += len(outlines)
        sizes[row] = outlines.size
        kinds += _kinds(table["case"][row], "predicted", outlines.classes)
        if len(shown) < SHOWN:
            shown[str(table["case"][row])] = outlines
    for row, found in _large(
        model, addresses, rows, [home / FOUND / f"{name}.tif" for name in files], device, threads, progress, say
    ):
        rows.append(row)
        written.append(f"{FOUND}/{found.path.name}")
        many += found.objects
        sizes[row] = found.size
        kinds += _kinds(table["case"][row], "predicted", found.classes)
    if not rows:
        raise InputError("none of the images can be read", given=count(len(cases), "image"))
    classes = (
        model.target.names if len(model.target.names) > 1 else ()
    )  # of one, whatever class a mask gives its objects
    truth = _true(cases, sizes, classes, files, home, threads, say)
    for row, (_, true) in zip(rows, truth, strict=True):
        kinds += _kinds(table["case"][row], "truth", true.classes) if classes and true is not None else []
    made = table.iloc[rows].assign(predicted=written, truth=[path for path, _ in truth])
    saved = PredictedOutlines(made, str(home), by=model.facts, identifiers=cases.identifiers)
    (replace(saved, objects=pd.concat(kinds, ignore_index=True)) if kinds else saved).save(home / TABLE)
    where = {str(table["case"][row]): addresses[row] for row in rows}
    page = found_page(
        home / PAGE, shown, where, images=len(rows), objects=many, set_aside=len(cases) - len(rows), threads=threads
    )
    return NewOutlines(home / TABLE, page, len(rows), many, any(path for path, _ in truth))


def _named(model: Model, cases: Cases, hide: bool, keep: Sequence[str], say: Say) -> pd.DataFrame:
    """Who each image is, and the columns that go along; a patient that training has seen is marked as seen."""
    about, coded = model.about, bool(cases.salt)
    salt = cases.salt or about.names_salt or salt_of(cases.table)
    case, patient = cases.table["case"].astype(str).tolist(), cases.table["patient"].astype(str).tolist()
    several = len(set(case)) < len(case)
    named = cases.table["image"].astype(str).tolist() if several else case
    if (hide and not coded) or (several and coded):
        named = codes(named, salt)
    seen = model.saw(
        patient if coded or not about.names_salt else patient_codes(patient, about.names_salt, about.identifiers)
    )
    carried = cases
    if hide and not coded:
        patient = patient_codes(patient, salt, about.identifiers)
        carried = cases.hidden(salt=salt, keep=(*keep, PIXEL_SIZE))
        say(f"  {carried.notes[-1]}")
    whose = [who or name for who, name in zip(patient, named, strict=True)]
    table = pd.DataFrame({"case": named, "patient": whose, "split": np.where(seen, "seen", ""), "source": cases.table["source"].to_numpy()})  # fmt: skip
    more = [column for column in carried.table if column not in {*ROLES, *cases.target.columns}]
    return pd.concat([table, cases.table[more].reset_index(drop=True)], axis=1)


def _kinds(case: str, side: str, classes: Sequence[str]) -> list[pd.DataFrame]:
    if not any(classes):
        return []
    every = np.arange(1, len(classes) + 1)
    return [pd.DataFrame({"case": case, "side": side, "object": every, "class": list(classes), "score": np.nan})]


def _large(
    model: Model, addresses: Sequence[str], done: Sequence[int], places: Sequence[Path], device: str, threads: int, progress: Progress, say: Say
) -> Iterator[tuple[int, SegmentedFile]]:  # fmt: skip
    """The TIFF that were not read whole, which may be larger than the memory: band by band; what cannot be read is left out."""
    from overread.cells.large_image import segment_file

    for row in sorted(set(range(len(addresses))) - set(done)):
        if Path(addresses[row]).suffix.lower() in (".tif", ".tiff"):
            try:
                yield (
                    row,
                    segment_file(model, addresses[row], places[row], device=device, threads=threads, progress=progress),
                )
            except ImageError as error:
                say(f"  set aside: {error}")


def _true(
    cases: Cases, sizes: dict[int, tuple[int, int]], classes: Sequence[str], files: Sequence[str], home: Path, threads: int, say: Say
) -> list[tuple[str, Outlines | None]]:  # fmt: skip
    """Of each outlined image, by row with its size, the file of its true outlines and these; blank where there are none."""
    masks = mask_paths(cases) if cases.masks else [""] * len(cases)
    asked = [row for row in sizes if masks[row]]
    found: dict[int, tuple[str, Outlines | None]] = {}
    read = read_masks([masks[row] for row in asked], sizes=[sizes[row] for row in asked], classes=classes, workers=threads)  # fmt: skip
    wrong: list[ImageError] = []
    for row, one in zip(asked, read, strict=True):
        if isinstance(one, ImageError):
            wrong.append(one)
            continue
        found[row] = (f"{TRUE}/{write_labels(home / TRUE / f'{files[row]}.png', one.labels).name}", one)
    if wrong:
        say(f"  {count(len(wrong), 'mask')} of {len(asked):,} left out, and {'its image is' if len(wrong) == 1 else 'their images are'} not judged: {wrong[0].reason or wrong[0]}")  # fmt: skip
    return [found.get(row, ("", None)) for row in sizes]
