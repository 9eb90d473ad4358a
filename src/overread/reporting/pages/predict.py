"""What a model says of many new images, as a page with their pictures: the most urgent first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from overread.core.errors import checked
from overread.core.phrases import count
from overread.evaluation.decision.single_case import PURPOSE, Opinion
from overread.reporting import words
from overread.reporting.page import Picture, Section, write_page
from overread.reporting.shown_cases import as_address
from overread.reporting.thumbnails import thumbnails

#: Cases on the page, the most urgent; the others stand in the table beside it.
SHOWN = 300
#: Pixels of the longer side of a picture.
SIDE = 176
#: Answers of a case that are written under its picture.
MOST_ANSWERS = 4


@checked
def predictions_page(
    path: str | os.PathLike[str], found: Sequence[Opinion], places: Mapping[str, str], *, set_aside: int = 0
) -> Path:
    """Write one HTML file that needs no network, and give its path.

    ``places``: the address of an image of each case by the case's name; of images with writing in them a small picture is
    shown with the writing covered. ``set_aside``: cases whose images could not be read.
    """
    ordered = by_urgency(found)
    shown = ordered[:SHOWN]
    pictures = _pictures(shown, places)
    more = len(ordered) - len(shown)
    order = [
        _order(found),
        f"{count(more, 'further case')} stand{'s' * (more == 1)} in the table beside this page." if more else "",
    ]
    facts = (
        [*found[0].facts, found[0].calibration, *(f"Not checked: {line}" for line in found[0].unchecked)]
        if found
        else []
    )
    told = "A picture with writing in it is small and the writing covered: it may name the patient."
    sections = [Section("Cases", tuple(filter(None, order)), pictures=tuple(_picture(one, pictures) for one in shown)),
                Section("The model", tuple(words.sentence(line, 400) for line in (*filter(None, facts), told)))]  # fmt: skip
    return write_page(
        path,
        "Predictions",
        _summary(found, set_aside),
        sections,
        cautions=(words.sentence(PURPOSE),),
        names="names the files as they were given",
    )


@checked
def by_urgency(found: Sequence[Opinion]) -> list[Opinion]:
    """The most urgent first; of equals in the order given. See :attr:`Opinion.urgency`."""
    return sorted(found, key=lambda opinion: -opinion.urgency)


def _pictures(shown: Sequence[Opinion], places: Mapping[str, str]) -> dict[str, bytes]:
    """A PNG of each case by its name, nothing of an image that cannot be read."""
    made: dict[str, bytes] = {}
    for covered in (False, True):
        some = [opinion.case for opinion in shown if any(f.kind == "burned-in" for f in opinion.findings) == covered]
        made |= dict(zip(some, thumbnails([places[case] for case in some], side=SIDE, covered=covered), strict=True))
    return made


def _picture(opinion: Opinion, pictures: Mapping[str, bytes]) -> Picture:
    """A case: its picture, what it was called and how sure, its answers and calls, and what speaks against relying on them."""
    address = as_address(pictures.get(opinion.case, b""))
    name, called = words.name(opinion.case, 80), words.name(opinion.called, 60)
    ordered = sorted(opinion.answers, key=lambda answer: -answer.value)[:MOST_ANSWERS]
    answers = (f"{words.name(answer.name)} {opinion.task.number_words(answer.value)}" for answer in ordered)
    calls = (f"{call.at}: {'positive' if call.positive else 'negative'}{', near the threshold' if call.near else ''}" for call in opinion.calls)  # fmt: skip
    certain = f" ({opinion.certainty.word})" if opinion.certainty.word else ""
    head = (f"{called}{certain}",) if called else ()
    against = (words.sentence(f"Look first: {line}", 300) for line in opinion.warnings)
    return Picture(
        address, f"{name}{f', called {called}' if called else ''}", (name, *head, *answers, *calls, *against)
    )


def _summary(found: Sequence[Opinion], set_aside: int) -> list[str]:
    lines = [f"{count(len(found), 'case')}."]
    if doubtful := sum(not opinion.trusted for opinion in found):
        lines.append(
            f"{count(doubtful, 'case')} with a warning: do not rely on the answer before you have looked at why."
        )
    if set_aside:
        lines.append(f"{count(set_aside, 'case')} set aside: the images cannot be read.")
    return lines


def _order(found: Sequence[Opinion]) -> str:
    """By what the cases are sorted, in a sentence."""
    if not found:
        return ""
    one = found[0]
    if one.calls or one.positive:
        of = " or ".join(dict.fromkeys(call.of for call in one.calls)) or " or ".join(one.positive)
        return f"Sorted by the probability of {words.name(of, 120)}, the largest first."
    return one.task.order_words([words.name(answer.name) for answer in one.answers])
