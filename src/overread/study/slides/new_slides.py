"""Slides that a model has not seen: a heat map each, the places that stand out, and one answer a slide, as its tuning slides chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from overread.cases.cases import OUTLINES, Cases
from overread.cases.privacy import patient_codes
from overread.core.errors import checked
from overread.core.files import write_csv
from overread.core.progress import Progress, Say, silent, unheard
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.slides.slide_maps import map_slides
from overread.study.outline_steps import file_names
from overread.study.slides.lesion_tables import LEAST, found_places, lesions_of, save_places, true_lesions
from overread.study.slides.slide_rule import SlideReading
from overread.study.slides.slide_steps import looked_at, slide_answers

#: What is written into a folder: the answers, the places found, the true lesions where there are outlines, what was looked at, the maps.
ANSWERS, FOUND, TRUE, LOOKED, MAPS = "predictions.csv", "places.csv", "lesions.csv", "slides.csv", "maps"


@dataclass(frozen=True)
class NewSlides:
    """What was written: ``answers`` (a table of predictions), of ``slides`` that were read, on which ``places`` reach the threshold; patients that
    training has ``seen``."""

    answers: Path
    slides: int
    places: int
    seen: int


@checked
def read_new_slides(
    model: Model, reading: SlideReading, cases: Cases, folder: str | Path, *, hide: bool = False, keep: Sequence[str] = (), device: str = "",
    threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> NewSlides:  # fmt: skip
    """Map each slide of ``cases`` into ``folder`` and write what its map says; called again, it goes on where it was stopped.

    ``hide``: codes stand in place of the names of cases and patients, and of other columns only those to ``keep`` go along.
    Raises :class:`InputError` where no slide can be read.
    """
    home, named = Path(folder), _named(model, cases, hide, keep, say)
    names = file_names(named)
    mapped = map_slides(model, named, home / MAPS, names, threshold=reading.threshold, device=device, threads=threads, workers=threads, progress=progress, say=say)  # fmt: skip
    answers = _seen(
        model,
        named,
        slide_answers(model, named, mapped, reading, device=device, threads=threads, progress=progress, say=say),
    )
    lesions = lesions_of(named, say) if (named.table[OUTLINES] != "").any() else [None] * len(named)
    places = found_places(named, mapped.maps, lesions, model.about.recipe.tiles.radius, LEAST, reading.window)
    save_places(places, home / FOUND)
    (home / TRUE).unlink(missing_ok=True)  # of outlines that were given before
    if any(one is not None for one in lesions):
        save_places(true_lesions(named, lesions), home / TRUE)
    write_csv(home / LOOKED, looked_at(named, names, mapped, home / MAPS, lesions), float_format="%.7g")
    answers.save(home / ANSWERS)
    seen = int(answers.table["patient"][answers.table["split"] == "seen"].nunique())
    return NewSlides(home / ANSWERS, len(mapped.maps), int((places["score"] >= reading.threshold).sum()), seen)


def _named(model: Model, cases: Cases, hide: bool, keep: Sequence[str], say: Say) -> Cases:
    """Who each slide is of: a slide without a patient is its own; with codes in place of names where these are to be hidden."""
    table = cases.table
    alone = (
        cases
        if cases.salt
        else replace(cases, table=table.assign(patient=table["patient"].where(table["patient"] != "", table["case"])))
    )
    if not hide or cases.salt:
        return alone
    hidden = alone.hidden(salt=model.about.names_salt, keep=keep)
    say(f"  {hidden.notes[-1]}")
    return hidden


def _seen(model: Model, cases: Cases, answers: Predictions) -> Predictions:
    """With what training has seen marked, by the codes that the model knows patients by."""
    about, who = model.about, answers.table["patient"].astype(str).tolist()
    known = patient_codes(who, about.names_salt, about.identifiers) if about.names_salt and not cases.salt else who
    return replace(answers, table=answers.table.assign(split=np.where(model.saw(list(known)), "seen", "")))
