"""What a model says of many new images, as a page with their pictures: the most urgent first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from overread.core.errors import checked
from overread.core.files import write_text
from overread.core.phrases import count
from overread.evaluation.decision.single_case import PURPOSE, Opinion
from overread.reporting import words
from overread.reporting.page import environment
from overread.reporting.shown_cases import as_address
from overread.reporting.thumbnails import thumbnails
from overread.stats.estimate import rounded

#: Cases on the page, the most urgent; the others stand in the table beside it.
SHOWN = 300
#: Pixels of the longer side of a picture.
SIDE = 176
#: Answers of a case that are written under its picture.
MOST_ANSWERS = 4


@dataclass(frozen=True)
class _Card:
    """A case on the page."""

    name: str
    picture: str
    called: str
    answers: tuple[str, ...]
    calls: tuple[str, ...]
    certainty: str
    warnings: tuple[str, ...]
    unlike: bool


@checked
def predictions_page(
    path: str | os.PathLike[str], found: Sequence[Opinion], places: Mapping[str, str], *, set_aside: int = 0
) -> Path:
    """Write one HTML file that needs no network, and give its path.

    ``places``: the address of an image of each case by the case's name; of images with writing in them a small picture is
    shown with the writing covered. ``set_aside``: cases whose images could not be read.
    """
    ordered = by_urgency(found)
    pictures = _pictures(ordered[:SHOWN], places)
    cards = [_card(opinion, pictures) for opinion in ordered[:SHOWN]]
    page = environment().get_template("predictions.html.j2")
    shown = {"cards": cards, "summary": _summary(found, set_aside), "more": len(ordered) - len(cards), "order": _order(found),
             "facts": [*found[0].facts, found[0].calibration] if found else [], "unchecked": found[0].unchecked if found else (), "purpose": PURPOSE}  # fmt: skip
    return write_text(path, page.render(title="Predictions", **shown))


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


def _card(opinion: Opinion, pictures: Mapping[str, bytes]) -> _Card:
    picture = as_address(pictures.get(opinion.case, b""))
    ordered = sorted(opinion.answers, key=lambda answer: -answer.value)[:MOST_ANSWERS]
    number = (lambda value: f"{value:.4g}") if opinion.task.continuous else rounded
    answers = tuple(f"{words.name(answer.name)} {number(answer.value)}" for answer in ordered)
    calls = tuple(f"{call.at}: {'positive' if call.positive else 'negative'}{', near the threshold' if call.near else ''}" for call in opinion.calls)  # fmt: skip
    return _Card(words.name(opinion.case, 80), picture, words.name(opinion.called, 60), answers, calls, opinion.certainty.word,
                 tuple(words.sentence(line, 300) for line in opinion.warnings), opinion.novelty.unlike is True)  # fmt: skip


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
    if one.task.continuous:
        return f"Sorted by {words.name(one.answers[0].name)}, the largest first."
    if one.task.multilabel:
        return "Sorted by the largest probability of a finding."
    return "No class counts as disease here, so the least certain stand first (--positive says in training which one does)."
