"""New slides that a model has read, as a page: those of the highest scores beside their heat maps, and a table of all."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from overread.core.errors import checked
from overread.core.phrases import count
from overread.core.progress import Progress, silent
from overread.evaluation.decision.single_case import PURPOSE
from overread.reporting import words
from overread.reporting.page import Section, write_page
from overread.reporting.shown_cases import as_address
from overread.reporting.slides.slide_pictures import SlideToShow, drawn_slides
from overread.reporting.slides.slide_results import HOW_TO_READ, slide_figure
from overread.reporting.words import Table

#: Slides that are drawn, those of the highest scores; and rows of the table of all.
DRAWN, ROWS = 24, 1000


@checked
def new_slides_page(
    path: str | os.PathLike[str], shown: Sequence[SlideToShow], told: pd.DataFrame, *, threshold: float, facts: Sequence[str] = (),
    set_aside: Sequence[str] = (), withheld: Collection[str] = (), coded: bool = False, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Write one HTML file that needs no network, and give its path.

    ``shown``: the slides to draw, the first ones first, with their places from the ``threshold`` of tuning slides on; of ``withheld`` ones, whose
    pixels may name a patient, no picture. ``told``: a row for each slide that was read, in the same order: ``case``, ``score``,
    ``places`` from the threshold on, their largest ``area`` in µm² (NaN: none), ``map``. ``set_aside``: why others could not be read;
    ``facts``: what is said of the model; ``coded``: codes stand in place of names.
    """
    figures = []
    for number, one in enumerate(drawn_slides([(slide, "new") for slide in shown], withheld=withheld, progress=progress), start=1):  # fmt: skip
        title = f"{words.name(one.slide.case, 60)}: score {words.number(one.slide.score, 3)}"
        figures.append(slide_figure(one.slide, as_address(one.overview), as_address(one.heat), f"slide-{number}", title))  # fmt: skip
    summary = [f"{count(len(told), 'slide')}, {count(int(told['places'].sum()), 'place')} from {words.number(threshold, 3)} on, the threshold of tuning slides, on {int((told['places'] > 0).sum()):,} of them."]  # fmt: skip
    if set_aside:
        summary.append(f"{count(len(set_aside), 'slide')} set aside, first: {words.sentence(set_aside[0], 200)}")
    more = len(told) - len(figures)
    how = [f"Each slide {HOW_TO_READ}", *([f"{count(more, 'further slide')} of lower scores {'stand' if more > 1 else 'stands'} in the table alone."] if more else [])]  # fmt: skip
    sections = [
        Section("Slides, the highest scores first", tuple(how), figures=tuple(figures)),
        Section.of("All slides", (), _table(told)),
        Section("The model", tuple(words.sentence(fact, 400) for fact in facts)),
    ]
    return write_page(
        path,
        "Slides",
        summary,
        sections,
        cautions=(words.sentence(PURPOSE),),
        names="names nobody: codes stand in place of names" if coded else "names the slides as they were given",
    )


def _table(told: pd.DataFrame) -> Table:
    columns = [told[name].head(ROWS).tolist() for name in ("case", "score", "places", "area", "map")]
    rows = tuple((words.name(str(case), 80), words.number(score, 3), f"{places:,}", words.number(area / 1e6, 3) if area > 0 else words.NOTHING, place)
                 for case, score, places, area, place in zip(*columns, strict=True))  # fmt: skip
    cut = (
        f"; the first {ROWS:,} of {len(told):,}, the others' maps and places lie beside this page"
        if len(told) > ROWS
        else ""
    )
    return Table(f"Scores, places from the threshold on, and heat maps{cut}", ("Slide", "Score", "Places", "Largest, mm²", "Heat map"), rows)  # fmt: skip
