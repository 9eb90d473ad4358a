"""New images with the objects that a model outlined in them, as a page: nobody knows the truth here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.phrases import count
from overread.core.sandbox import contained
from overread.evaluation.decision.single_case import PURPOSE
from overread.images.image import Image
from overread.images.outlines.outlines import Outlines
from overread.images.read import read_image
from overread.reporting import words
from overread.reporting.case_rows import OverlayEntry
from overread.reporting.figures.canvas import Figure
from overread.reporting.figures.outlines import legend, overlay
from overread.reporting.outlined.overlay_entries import Outlined, overlay_entry
from overread.reporting.page import Section, write_page
from overread.reporting.shown_cases import as_address
from overread.reporting.thumbnails import flat


@checked
def found_page(
    path: str | os.PathLike[str], found: Mapping[str, Outlines], places: Mapping[str, str], *, images: int, objects: int,
    set_aside: int = 0, threads: int = 0,
) -> Path:  # fmt: skip
    """Write one HTML file with each image of ``found`` and its outlines, and give its path.

    ``found`` and ``places``: outlines and addresses by the names of images. ``images`` and ``objects``: how many there are
    in all. ``set_aside``: images that could not be read.
    """
    figures = list(_drawn(found, places, threads))
    more = images - len(figures)
    told = ["Press on an image to see it without outlines; a pointer that rests on an object is told of its size.",
            *([f"{count(more, 'further image')} stand{'s' * (more == 1)} in the table beside this page."] if more else [])]  # fmt: skip
    summary = [f"{count(objects, 'object')} in {count(images, 'image')}."]
    if set_aside:
        summary.append(f"{count(set_aside, 'image')} set aside: they cannot be read.")
    section = Section("Images", tuple(told), figures=(legend(["found"]), *figures))
    return write_page(path, "Outlined objects", summary, [section], cautions=(words.sentence(PURPOSE),), names="names the images as they were given")  # fmt: skip


@checked
def found_entry(case: str, pixels: NDArray[np.uint8], outlines: Outlines) -> tuple[OverlayEntry, bytes]:
    """An image (H, W) or (H, W, 3) with the objects that were found in it, and the JPEG of its picture."""
    areas = outlines.areas.tolist()
    said = tuple(f"{kind or 'object'} {number}: {count(area, 'pixel')}" for number, (kind, area) in enumerate(zip(outlines.classes, areas, strict=True), 1))  # fmt: skip
    drawn = Outlined(outlines.labels, ("found",) * len(said), said)
    return overlay_entry(case, pixels, [drawn], {"found": len(outlines)})


def _drawn(found: Mapping[str, Outlines], places: Mapping[str, str], threads: int) -> Iterator[Figure]:
    addresses: Sequence[str] = [places[case] for case in found]
    with closing(contained(read_image, ((address,) for address in addresses), workers=threads)) as read:
        for number, ((case, outlines), image) in enumerate(zip(found.items(), read, strict=True), start=1):
            if not isinstance(image, Image):
                continue
            entry, picture = found_entry(case, flat(image), outlines)
            title = f"{words.name(case, 60)}: {_classes(outlines)}"
            yield overlay(entry, as_address(picture), title, f"found-{number}")


def _classes(outlines: Outlines) -> str:
    many = Counter(kind or "object" for kind in outlines.classes)
    return ", ".join(f"{number:,} {words.name(kind, 24)}{'' if kind != 'object' or number == 1 else 's'}" for kind, number in many.most_common(6)) or "no object"  # fmt: skip
