"""Where a model looked, as a page: what it saw beside its maps, with what each map is worth."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from overread.core.errors import checked
from overread.explanation.checks.regions import RegionShare
from overread.explanation.explanation import NOTHING
from overread.explanation.map_files import MapEntry
from overread.explanation.methods import method_of
from overread.explanation.overlay import strongest
from overread.explanation.verdict import Criterion
from overread.reporting import words
from overread.reporting.figures.explain import colours_figure
from overread.reporting.page import Picture, Section, write_page
from overread.reporting.shown_cases import picture, region_findings, regions
from overread.reporting.words import Table

#: A picture of a map is as wide as so many of a contact sheet.
_ACROSS = 2
_UNCHECKED = "Not checked: it may be no better than an edge detector."


@checked
def explanations_page(
    folder: str | os.PathLike[str],
    entries: Sequence[MapEntry],
    criteria: Sequence[Criterion] = (),
    shares: Sequence[RegionShare] = (),
    *,
    names: Mapping[str, str],
    facts: Mapping[str, str],
) -> Path:
    """Write ``explanations.html`` into ``folder``, where the pictures of ``entries`` lie; gives its path.

    ``criteria`` and ``shares``: what the methods were found to be worth, and how much of their maps lies where no finding can be.
    ``names``: how each case is called on the page. ``facts``: what is known of some of them, a sentence each.
    """
    home = Path(folder)
    cases = [list(group) for _, group in groupby(entries, key=lambda entry: entry.case)]
    kinds = {method_of(entry.method).signed for entry in entries}
    sections = [
        *(_case(home, maps, names, facts) for maps in cases),
        Section.of("What the methods are worth", _judged(criteria), _criteria(criteria)),
        Section.of("Whether the maps lie where no finding can be", region_findings(shares), regions(shares)),
        Section.of("How to read the maps", _how(entries), colours_figure(signed=True in kinds, unsigned=False in kinds)),
    ]  # fmt: skip
    summary = [
        f"{words.count(len(entries), 'map')} of {words.count(len(cases), 'case')}.",
        "A map shows where the output of the model is sensitive, by one method. It does not show that the model is right, nor why.",
    ]
    empty = sum(entry.nothing for entry in entries)
    cautions = [f"{words.count(empty, 'map')} of {len(entries)} say nothing: no value is above 0."] if empty else []
    if not any(entry.verdict for entry in entries):
        cautions.append(_UNCHECKED.replace("it may", "the maps may"))
    return write_page(home / "explanations.html", "Where the model looked", summary, sections, cautions=cautions)


def _case(home: Path, maps: Sequence[MapEntry], names: Mapping[str, str], facts: Mapping[str, str]) -> Section:
    case = maps[0].case
    name = words.name(names.get(case, case))
    seen = [Picture(address, f"What the model saw of case {name}", ("What the model saw",), _ACROSS)
            for image in dict.fromkeys(entry.image for entry in maps) if (address := picture(home, image))]  # fmt: skip
    said = [facts[case]] if case in facts else []
    if not seen:
        said.append("The image is withheld: writing in its pixels may name a patient.")
    drawn = [shown for entry in maps if (shown := _map(home, entry, name)).address]
    return Section(f"Case {name}", tuple(said), pictures=(*seen, *drawn))


def _map(home: Path, entry: MapEntry, name: str) -> Picture:
    about = method_of(entry.method)
    layer = f", layer {words.name(entry.layer, 60)}" if entry.layer else ""
    answer = f"{words.name(entry.target)}: {words.number(entry.probability, 2)}" if math.isfinite(entry.probability) else words.name(entry.target)  # fmt: skip
    said = NOTHING if entry.nothing else entry.verdict or _UNCHECKED
    lines = (f"{about.title} for {answer}{layer}", f"Strongest colour: {_largest(home, entry)}", said)
    alt = f"{about.title} of case {name} for {words.name(entry.target)}. {said}"
    return Picture(picture(home, entry.map), alt, lines, _ACROSS)


def _largest(home: Path, entry: MapEntry) -> str:
    path = (home / entry.map).with_suffix(".npy")
    if not path.exists():
        return "unknown"
    value = strongest(np.load(path, allow_pickle=False))
    return f"± {value:.2g}" if method_of(entry.method).signed else f"{value:.2g}"


def _how(entries: Sequence[MapEntry]) -> tuple[str, ...]:
    methods = [method_of(name) for name in dict.fromkeys(entry.method for entry in entries)]
    return tuple(f"{each.title}: {each.words} ({each.source})." for each in methods)


def _judged(criteria: Sequence[Criterion]) -> tuple[str, ...]:
    if not criteria:
        return ()
    return ("The four criteria of Arun 2021 (localisation, weight randomisation, repeatability, reproducibility), and what the map does to the output. A criterion is passed where its whole interval lies on the good side of the baseline.",)  # fmt: skip


def _criteria(criteria: Sequence[Criterion]) -> Table | None:
    rows = tuple(
        (method_of(row.method).title, row.criterion, _number(row.value), f"{_number(row.low)} – {_number(row.high)}" if math.isfinite(row.low) else words.NOTHING,
         _number(row.baseline), "passed" if row.passed else "not passed" if math.isfinite(row.value) else words.NOTHING, row.words)
        for row in criteria
    )  # fmt: skip
    many = max((row.cases for row in criteria), default=0)
    return Table(f"On {words.count(many, 'case')}", ("Method", "Criterion", "Value", "95 % interval", "Against", "", ""), rows, 2) if rows else None  # fmt: skip


def _number(value: float) -> str:
    return words.number(value, 2) if math.isfinite(value) else words.NOTHING
