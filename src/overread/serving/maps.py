"""Maps of answers as they are served: pictures and bytes, with what the method was found to be worth on this run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked
from overread.core.files import plain, read_rows
from overread.explanation.explanation import Explanation
from overread.explanation.methods import METHODS
from overread.explanation.overlay import grey_or_colour, overlay, picture, strongest
from overread.explanation.verdict import Criterion
from overread.reporting.shown_cases import as_address
from overread.serving.rest import CriterionOf, ExplainAnswer, MethodOf, Panel, picked


@checked
def methods_of(run: Path | None, digits: int) -> list[MethodOf]:
    """Every method, with the criteria that ``explanations/methods.json`` of the run holds."""
    rows: Sequence[Criterion] = ()
    if run is not None:
        try:
            rows = read_rows(Criterion, run / "explanations" / "methods.json")
        except InputError:  # of another version: the maps are served without it
            rows = ()
    return [
        MethodOf(each.name, each.title, each.words, each.source, each.signed,
                 [picked(CriterionOf, plain(row), digits) for row in rows if row.method == each.name])
        for each in METHODS.values()
    ]  # fmt: skip


@checked
def explain_answer(found: Sequence[Explanation], method: MethodOf, digits: int) -> ExplainAnswer:
    """The maps of one case: of a network that sees images one by one there is an explanation for each image."""
    first = found[0]
    several = len(found) > 1
    panels = [
        _panel(name or (f"image {number}" if several else ""), image, values, method.signed, digits)
        for number, each in enumerate(found, start=1) for name, image, values in each.panels
    ]  # fmt: skip
    notes = list(dict.fromkeys(note for each in found for note in each.notes))
    probability = float(np.mean([each.probability for each in found]))
    return ExplainAnswer(first.target, round(probability, digits), method, first.layer, first.title, all(each.nothing for each in found),
                         _verdict(found), notes, panels)  # fmt: skip


def _verdict(found: Sequence[Explanation]) -> str:
    """What is said of the maps: once where it is the same of all, else of each image by its name."""
    said = [each.verdict for each in found]
    if len(set(said)) == 1:
        return said[0]
    return " ".join(
        f"{each.views[0] or f'image {number}'}: {each.verdict}"
        for number, each in enumerate(found, start=1)
        if each.verdict
    )


def _panel(name: str, image: NDArray[Any], values: NDArray[np.float32], signed: bool, digits: int) -> Panel:
    most = strongest(values)
    return Panel(name, values.shape[1], values.shape[0], as_address(picture(grey_or_colour(image))), as_address(picture(overlay(image, values, signed=signed))),
                 base64.b64encode(as_bytes(values, signed=signed).tobytes()).decode(), round(most, max(digits, 6)))  # fmt: skip


@checked
def as_bytes(values: NDArray[Any], *, signed: bool) -> NDArray[np.uint8]:
    """A map (H, W) in bytes: see :class:`overread.serving.rest.Panel`.

    >>> as_bytes(np.array([[0.0, 2.0]]), signed=False).tolist(), as_bytes(np.array([[-2.0, 0.0, 2.0]]), signed=True).tolist()
    ([[0, 255]], [[1, 128, 255]])
    """
    share = np.nan_to_num(values.astype(np.float64)) / (strongest(values) or 1.0)
    scaled = 128 + 127 * np.clip(share, -1, 1) if signed else 255 * np.clip(share, 0, 1)
    return np.asarray(scaled.round(), np.uint8)
