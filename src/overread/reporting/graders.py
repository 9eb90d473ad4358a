"""How far the readers agree who made the labels, and what that means for the model: from ``agreement.json``."""

from __future__ import annotations

from typing import Any

from overread.errors import checked
from overread.reporting import words
from overread.reporting.gather import Run, read_estimate
from overread.reporting.results import short
from overread.reporting.sections import Table
from overread.stats.estimate import Estimate

_RULES = {
    "majority": "the answer that most of them gave",
    "median": "the answer in the middle of theirs",
    "dawid-skene": "the most probable answer, given how often each of them is right (Dawid and Skene 1979)",
}
_ROWS = 40


@checked
def graders_table(run: Run) -> Table | None:
    """Every measure of agreement, one a row; None where the labels are not of several readers."""
    found = _estimates(run)
    rows = tuple((words.metric(e.metric).name, words.name(e.of, 40) or "all", short(e), f"{e.images:,}", words.metric(e.metric).says)
                 for e in found[:_ROWS])  # fmt: skip
    left = f"; the first {_ROWS} of {len(found)}, all are in agreement.json" if len(found) > _ROWS else ""
    head = (
        "Measure",
        "Of",
        f"Value ({words.percent(found[0].level) if found else ''} interval)",
        "Cases",
        "What it says",
    )
    return Table(f"Agreement of the readers{left}", head, rows, 2, "agreement") if rows else None


@checked
def graders_words(run: Run) -> list[str]:
    """Who made the labels, how far they agree, and the most that any model could reach against one of them."""
    held = run.agreement
    readers, every = held.get("readers") or [], {e.metric: e for e in _estimates(run) if not e.of}
    if not readers:
        return []
    rule = _RULES.get(str(held.get("rule")), words.name(held.get("rule") or "a consensus", 40))
    said = f"{words.count(len(readers), 'reader')} gave {words.count(held.get('answers'), 'answer')} on {words.count(held.get('cases'), 'case')}; the label is {rule}."
    return [f"{said}{_undecided(held)}{_agree(every)}", *_ceiling(every)]


def _estimates(run: Run) -> list[Estimate]:
    return [
        read_estimate(row, "agreement.json")
        for row in run.agreement.get("estimates") or ()
        if isinstance(row, dict)
    ]


def _undecided(held: dict[str, Any]) -> str:
    left = held.get("undecided") or {}
    tied, silent = (int(left.get(key) or 0) for key in ("tied", "no answer"))
    return (
        f" {words.count(tied + silent, 'case')} got no label: {tied:,} tied, {silent:,} without an answer."
        if tied + silent
        else ""
    )


def _agree(every: dict[str, Estimate]) -> str:
    share, kappa = every.get("agreement"), every.get("fleiss kappa")
    if share is None or share.undefined:
        return ""
    beyond = (
        f"; Fleiss’ kappa, the agreement beyond chance, is {words.spoken(kappa)}"
        if kappa and not kappa.undefined
        else ""
    )
    return f" Two readers of a case give the same answer in {words.spoken(share)} of the cases{beyond}."


def _ceiling(every: dict[str, Estimate]) -> list[str]:
    best, panel = every.get("ceiling"), every.get("panel accuracy")
    if best is None or best.undefined:
        return []
    others = (
        f" The majority of the other readers reaches {words.spoken(panel)}."
        if panel and not panel.undefined
        else ""
    )
    return [f"Against the answers of a single reader no model, however good, could be right in more than {words.spoken(best)} of the cases, "
            f"because the readers differ among themselves.{others} An accuracy near that number says that the model is as "
            "good as the labels allow to see, not that it errs in the rest. Here it is judged against the one label made of all their answers."]  # fmt: skip
