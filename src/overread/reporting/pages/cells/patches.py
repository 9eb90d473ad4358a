"""Maps of features learned from few marked patches, as a page: scores, what was learned from, and the maps beside their images."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.cells.few_patches.feature_scores import METRICS, FeatureScores
from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import COLOURS
from overread.reporting.page import Picture, Section, write_page
from overread.reporting.words import Table


@checked
def patches_page(
    found: FeatureScores,
    shown: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]],
    folder: str | os.PathLike[str],
) -> Path:
    """Write ``patches.html`` into ``folder`` and give its path. ``shown``: name, grey picture and merged labels of some images."""
    names = [each.feature for each in found.learned]
    learned = tuple(
        (
            words.name(e.feature),
            str(e.with_it),
            str(e.without),
            str(e.hard),
            words.number(e.mistaken, 2),
            words.number(e.loss, 3, 9),
        )
        for e in found.learned
    )
    scores = (
        tuple((words.name(name), *(words.cell(found[metric, name]) for metric in METRICS)) for name in names)
        if found.estimates
        else ()
    )
    pictures = tuple(
        Picture(_address(_painted(grey, labels)), f"{name}: merged map beside the image", (words.name(name),), across=2)
        for name, grey, labels in shown
    )
    legend = "; ".join(
        f"{words.name(name)} {_COLOUR_NAMES[place % len(_COLOUR_NAMES)]}" for place, name in enumerate(names)
    )
    sections = [
        Section.of("Against what is known", (), Table(f"Pixels of {words.count(found.judged, 'image')}, {words.count(found.independent, 'independent one')}; Dice, precision and recall of the merged map at {found.threshold:g}", ("Feature", *map(words.label, METRICS)), scores)),
        Section("The maps", (f"Left the image, right what was found: {legend}.",), pictures=pictures),
        Section.of("What was learned from", (), Table("Squares of 64 pixels; hard negatives are where the network had answered most strongly without the feature, after half of the steps", ("Feature", "With it", "Without", "Hard negatives", "Answer there, mean", "Loss at the end"), learned)),
    ]  # fmt: skip
    summary = [f"{words.count(len(names), 'feature')}, a network each, mapped in {words.count(found.mapped, 'image')}."]
    return write_page(Path(folder) / "patches.html", "Features from few marked patches", summary, sections, cautions=[words.sentence(note) for note in found.notes],
                      names="shows parts of the images")  # fmt: skip


_COLOUR_NAMES = ("blue", "vermilion", "green", "purple", "orange", "sky blue", "black", "grey")


def _painted(grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, 2w, 3) BGR: the picture, and beside it with every feature in its colour."""
    plain = np.repeat(grey[..., None], 3, axis=-1)
    painted = plain.astype(np.float64)
    for place in np.unique(labels[labels > 0]).tolist():
        colour = COLOURS[(place - 1) % len(COLOURS)].lstrip("#")
        painted[labels == place] = 0.45 * painted[labels == place] + 0.55 * np.array(
            [int(colour[at : at + 2], 16) for at in (4, 2, 0)]
        )
    return np.concatenate([plain, np.rint(painted).astype(np.uint8)], axis=1)


def _address(picture: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
