"""The model card: what the model is, what it is for, how well it did, in Markdown beside the model."""

from __future__ import annotations

import os
import re
from pathlib import Path

from overread.errors import checked
from overread.record import write_text
from overread.reporting import advice, results, sections, words
from overread.reporting.gather import Run, gather


@checked
def card(folder: str | os.PathLike[str]) -> Path:
    """Write ``model_card.md`` into a run folder, from its files only, and give its path.

    After Mitchell et al. 2019, "Model cards for model reporting". What only the authors can know is marked "to be
    completed by the authors". Raises InputError if the folder does not exist or one of its files is damaged.
    """
    run = gather(folder)
    parts = (_head, _use, _data, _training, _results, _limits)
    return write_text(run.folder / "model_card.md", "\n\n".join(part(run) for part in parts) + "\n")


def _safe(text: object) -> str:
    """Text from the data, in one line, with what Markdown or HTML would act on escaped."""
    one_line = words.name(str(text).replace("\n", " "), 400)
    return re.sub(
        r"([\\`*_\[\]|])", r"\\\1", one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def _rows(pairs: tuple[tuple[str, ...], ...], head: tuple[str, ...]) -> str:
    lines = [f"| {' | '.join(map(_safe, head))} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_safe(cell) for cell in row)} |" for row in pairs]
    return "\n".join(lines)


def _head(run: Run) -> str:
    return f"# {_safe(sections.title(run))}\n\n{_safe_paragraph(advice.summary(run))}"


def _safe_paragraph(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")


def _use(run: Run) -> str:
    return (
        "## Use\n\nResearch. **Not a medical device**: it must not guide the care of a patient. Intended users, setting and "
        "patients: to be completed by the authors."
    )


def _data(run: Run) -> str:
    table = sections.split_table(run)
    body = _rows(table.rows, table.head) if table else "Not split yet."
    shared = (run.split.get("proof") or {}).get("patients shared")
    return f"## Data\n\n{body}\n\nPatients in more than one part: {sections.whole(shared)}."


def _training(run: Run) -> str:
    facts = sections.training_facts(run)
    if not facts:
        return "## Training\n\nNot trained yet."
    chosen = sections.decisions(run)
    why = "\n\n" + _rows(chosen, ("Decision", "Choice", "Why")) if chosen else ""
    return f"## Training\n\n{_rows(facts, ('', ''))}{why}"


def _results(run: Run) -> str:
    tables = results.overall(run)
    if not tables:
        return "## Results\n\nNot evaluated yet."
    text = [
        f"**{_safe(table.caption)}**\n\n" + _rows(tuple(row[:3] for row in table.rows), table.head[:3])
        for table in tables
    ]
    said = [_safe(point) for point in results.points(run)]
    return "\n\n".join(["## Results", *said, *text, results.looks(run)])


def _limits(run: Run) -> str:
    lines = [
        *advice.cautions(run),
        "The result holds for patients, devices and prevalence like those of the test set.",
    ]
    return "## Limits\n\n" + "\n".join(f"- {_safe(line)}" for line in lines)
