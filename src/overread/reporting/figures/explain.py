"""What the colours of maps stand for."""

from __future__ import annotations

import numpy as np

from overread.core.errors import checked
from overread.explanation.overlay import DIVERGING, EVEN
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
