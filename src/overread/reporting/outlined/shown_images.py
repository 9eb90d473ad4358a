"""The test images that the report shows: those outlined worst, and a few at random, each with what became of its objects."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked
from overread.core.files import write_bytes, write_rows, write_text
from overread.core.phrases import count
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
from overread.evaluation.instances.instance_match import InstanceMatch, match_instances
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.image import Image
from overread.images.outlines.outlines import Outlines
from overread.images.read import read_image
from overread.reporting.case_rows import OverlayEntry, SizeRow
from overread.reporting.figures.outlines import counted, overlay_svg
from overread.reporting.outlined.overlay_entries import Outlined, overlay_entry
from overread.reporting.shown_cases import as_address
from overread.reporting.thumbnails import flat

#: Where they are kept in a run, and under which name their list.
FOLDER, LIST = "overlays", "overlays/overlays.json"
#: Images that are shown because they are the worst, and others that are drawn at random.
WORST, RANDOM = 8, 4


@checked
def chosen_images(
    images: pd.DataFrame, *, worst: int = WORST, others: int = RANDOM, seed: int = 0
) -> list[tuple[str, str]]:
    """(case, why) of the images to show: ``worst`` by the mean AP, the lowest first, then ``random`` ones of the rest.

    ``images``: the rows of an evaluation. Images without an object on either side have no AP and are not shown.
    """
    ranked = images[images["ap"].notna()].sort_values(["ap", "case"], kind="stable")["case"].astype(str).tolist()
    first, rest = ranked[:worst], sorted(ranked[worst:])
    draw = random.uniform(seed, 0, np.arange(len(rest)), "shown images")
    drawn = [rest[place] for place in np.argsort(draw, kind="stable")[:others]]
    return [*((case, "worst") for case in first), *((case, "random") for case in drawn)]


@checked
def write_overlays(
    folder: str | os.PathLike[str], addresses: Mapping[str, str], test: PredictedOutlines, judged: InstanceEvaluation, *,
    withheld: Collection[str] = (), seed: int = 0, worst: int = WORST, others: int = RANDOM, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Write ``overlays/overlays.json``, its pictures, each also as an SVG with its outlines, and ``sizes.json``, in the place
    of earlier ones; gives the path of the list.

    ``addresses``: where each image lies. Of ``withheld`` images, whose pixels may name a patient, no picture is kept, and
    neither of one that cannot be read; their outlines are.
    """
    home, shown = Path(folder), chosen_images(judged.images, worst=worst, others=others, seed=seed)
    for old in (home / FOLDER).glob("*"):
        old.unlink()
    row_of = {case: row for row, case in enumerate(test.table["case"].astype(str))}
    ap = dict(zip(judged.images["case"].astype(str), judged.images["ap"], strict=True))
    entries = []
    pictures = _pictures([addresses.get(case, "") for case, _ in shown])
    for number, ((case, why), pixels) in enumerate(zip(shown, pictures, strict=True), start=1):
        progress("drawing outlines on images", number, len(shown))
        truth, predicted = test.pair(row_of[case])
        hide = case in withheld or pixels is None or pixels.shape[:2] != truth.size
        seen = np.full(truth.size, 128, np.uint8) if hide or pixels is None else pixels
        source = str(test.table["source"].iloc[row_of[case]])
        entry, picture = judged_entry(case, seen, truth, predicted, why=why, source=source, ap=float(ap[case]))
        if hide:
            entry = replace(entry, withheld=case in withheld)
        else:
            relative = f"{FOLDER}/{number:02d}.jpg"
            write_bytes(home / relative, picture)
            entry = replace(entry, picture=relative)
            alone = overlay_svg(entry, as_address(picture), "overlay", why, counted(entry.counts))
            write_text(home / FOLDER / f"{number:02d}.svg", alone + "\n")
        entries.append(entry)
    write_rows(home / FOLDER / "sizes.json", size_rows(test))
    write_rows(home / LIST, entries)
    return home / LIST


@checked
def judged_entry(
    case: str, pixels: NDArray[np.uint8], truth: Outlines, predicted: Outlines, *, why: str = "", source: str = "", ap: float = math.nan
) -> tuple[OverlayEntry, bytes]:  # fmt: skip
    """An image (H, W) or (H, W, 3) with its objects by what became of them at an IoU of one half, and the JPEG of its picture.

    Predicted objects are drawn, and the true ones without a match: missed, or not told apart from others.
    """
    found = match_instances(truth, predicted)
    mine = [(status, words) for status, words in zip(found.predicted_status, _said_of_predicted(found), strict=True)]
    theirs = [("" if status == "hit" else "miss", words) for status, words in zip(found.true_status, _said_of_true(found), strict=True)]  # fmt: skip
    counts = Counter(status for status, _ in [*mine, *theirs] if status)
    drawn = [
        Outlined(outlines.labels, *(tuple(each) for each in zip(*said, strict=True))) if said else Outlined(outlines.labels, (), ())
        for outlines, said in ((truth, theirs), (predicted, mine))
    ]  # fmt: skip
    return overlay_entry(case, pixels, drawn, counts, why=why, source=source, ap=ap)


def _said_of_predicted(found: InstanceMatch) -> Iterator[str]:
    partner = {int(b): (int(a), float(iou)) for (a, b), iou in zip(found.pairs, found.iou, strict=True)}
    held = found.instances.held[0]
    for place, (status, area) in enumerate(
        zip(found.predicted_status, found.instances.predicted.tolist(), strict=True)
    ):
        kind = found.predicted_classes[place] if found.predicted_classes else ""
        words = f"{kind or 'object'}, {count(area, 'pixel')}"
        if place in partner:
            true, iou = partner[place]
            truly = found.true_classes[true] if found.true_classes else ""
            other = f", truly {truly}" if truly and truly != kind else ""
            yield f"found: {words}; true {count(int(found.instances.true[true]), 'pixel')}, IoU {iou:.2f}{other}"
        elif status == "merge":
            yield f"merge of {count(int(held[place]), 'true object')}: {words}"
        else:
            yield f"{'a piece of a true object' if status == 'split' else 'false'}: {words}"


def _said_of_true(found: InstanceMatch) -> Iterator[str]:
    for place, (status, area) in enumerate(zip(found.true_status, found.instances.true.tolist(), strict=True)):
        kind = found.true_classes[place] if found.true_classes else ""
        how = {"merged": "not told apart", "split": "cut into pieces"}.get(status, "missed")
        yield f"{how}: true {kind or 'object'}, {count(area, 'pixel')}"


def _pictures(addresses: list[str]) -> Iterator[NDArray[np.uint8] | None]:
    """The pixels of each image for the eye; None of one that cannot be read."""
    with closing(contained(read_image, ((address,) for address in addresses), workers=1)) as found:
        for image in found:
            yield flat(image) if isinstance(image, Image) else None


@checked
def size_rows(outlines: PredictedOutlines) -> list[SizeRow]:
    """The areas of the true objects of each source: in µm² where the size of a pixel of every image is known."""
    microns = bool(np.isfinite(outlines.pixel_sizes).all()) and len(outlines) > 0
    areas: dict[str, list[NDArray[Any]]] = {}
    for row in np.flatnonzero(outlines.table["truth"] != ""):
        scale = float(outlines.pixel_sizes[row]) ** 2 if microns else 1.0
        source = str(outlines.table["source"].iloc[row])
        areas.setdefault(source, []).append(outlines.truth(int(row)).areas * scale)
    made = []
    for source, held in sorted(areas.items()):
        every = np.concatenate(held)
        points = np.percentile(every, (2.5, 25, 50, 75, 97.5)) if every.size else np.full(5, math.nan)
        low, first, middle, third, high = map(float, points)
        made.append(SizeRow(source, int(every.size), low, first, middle, third, high, "µm²" if microns else "pixels"))
    return made
