"""A map over its images, and what the colours of maps stand for."""

from __future__ import annotations

from textwrap import fill

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from overread.core.errors import checked
from overread.explanation.explanation import Explanation
from overread.explanation.overlay import DIVERGING, EVEN, grey_or_colour, overlay
from overread.reporting import words
from overread.reporting.figures.canvas import Figure, finish, sheet

_WORDS = {
    False: ("Maps that are 0 or above", ("0: nothing", "the map's largest value")),
    True: ("Signed maps", ("against the target", "0", "for the target")),
}


@checked
def colours_figure(*, signed: bool, unsigned: bool) -> Figure:
    """A bar of colours for each kind of map on the page, in words; numbers stand under each map."""
    kinds = [kind for kind, there in ((False, unsigned), (True, signed)) if there]
    with sheet(6.0, 0.55 * len(kinds) + 0.1) as drawing:
        axes = drawing.subplots(len(kinds), 1, squeeze=False)[:, 0]
        for each, kind in zip(axes, kinds, strict=True):
            title, ends = _WORDS[kind]
            each.imshow(
                np.linspace(0, 1, 256)[None], aspect="auto", cmap=DIVERGING if kind else EVEN, extent=(0, 1, 0, 1)
            )
            each.set_title(title)
            each.set_yticks([])
            each.set_xticks(np.linspace(0, 1, len(ends)), ends)
            for label, side in zip(
                each.get_xticklabels(), ("left", *["center"] * (len(ends) - 2), "right"), strict=True
            ):
                label.set_horizontalalignment(side)
        alt = " ".join(f"{_WORDS[kind][0]}: from {_WORDS[kind][1][0]} to {_WORDS[kind][1][-1]}." for kind in kinds)
        return finish(
            drawing,
            "colours",
            "Colours",
            alt,
            "The stronger a value, the less of the image is seen through its colour.",
        )


@checked
def map_figure(found: Explanation) -> Figure | None:
    """The images of a case, the map over them, a bar of colours with its numbers, and what it is a map of; None where the
    case has no image."""
    panels, signed, scale = found.panels, found.about.signed, found.scale or 1.0
    if not panels:
        return None
    wide = max(4.2, 2.4 * len(panels) + 1.4)
    title = [words.name(found.case), words.name(found.title, 120), *found.said]
    with sheet(wide, 6.0) as drawing:
        axes = drawing.subplots(2, len(panels), squeeze=False)
        for (above, below), (name, image, values) in zip(axes.T, panels, strict=True):
            above.imshow(grey_or_colour(image))
            above.set_title(words.name(name))
            below.imshow(overlay(image, values, signed=signed, scale=scale))
        for each in axes.flat:
            each.set_axis_off()
        colours = ScalarMappable(Normalize(-scale if signed else 0, scale), DIVERGING if signed else EVEN)
        bar = drawing.colorbar(colours, ax=axes.ravel().tolist(), shrink=0.6)
        bar.set_label("against the target … for it" if signed else "for the target" if found.about.kind == "cam" else "strength")  # fmt: skip
        drawing.suptitle("\n".join(fill(line, round(15 * wide)) for line in title), fontsize=8.5)
        return finish(drawing, "map", found.title, " ".join(map(words.sentence, title)), " ".join(found.notes))
