"""The model card: what the model is, what it is for, how well it did, in Markdown beside the model."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from overread.core.errors import checked
from overread.core.files import write_text
from overread.reporting import advice, main_results, sections, words
from overread.reporting.facts import found
from overread.reporting.run import Run, gather
from overread.reporting.sections import people


@checked
def card(folder: str | os.PathLike[str]) -> Path:
    """Write ``model_card.md`` into a run folder, from its files only, and give its path.

    After Mitchell et al. 2019, "Model cards for model reporting". What only the authors can know is marked "to be
    completed by the authors". Raises InputError if the folder does not exist or one of its files is damaged.
    """
    run = gather(folder)
    parts = (_head, _details, _use, _data, _training, _results, _groups, _ethics, _limits)
    return write_text(run.folder / "model_card.md", "\n\n".join(part(run) for part in parts) + "\n")


@checked
def safe(text: object, limit: int = 1500) -> str:
    """Text from the data, in one line, with what Markdown or HTML would act on escaped."""
    one_line = words.name(str(text).replace("\n", " "), limit)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


@checked
def rows(pairs: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """A Markdown table of texts."""
    lines = [f"| {' | '.join(map(safe, head))} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(safe(cell) for cell in row)} |" for row in pairs]
    return "\n".join(lines)


def _head(run: Run) -> str:
    return f"# {safe(sections.title(run))}\n\n{_safe_paragraph(advice.summary(run))}"


def _safe_paragraph(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")


def _details(run: Run) -> str:
    held = [
        ("Made", str(run.record.get("started") or "")[:10]),
        *(("", said) for said in found(run, ["technology", "model", "output", "initial", "availability"])),
    ]
    lines = [f"- {safe(f'{name}: {said}' if name else said)}" for name, said in held if said]
    predict = f"`overread predict {safe(run.place)} TABLE` applies it to new images; preprocessing and threshold are those of the model."
    return "## Model\n\n" + "\n".join(lines) + f"\n\n{predict}"


def _groups(run: Run) -> str:
    table = main_results.by_subgroup(run)
    said = [safe(line) for line in found(run, ["subgroups", "heterogeneity"])]
    if not table:
        return "## Groups\n\nNo groups of patients were declared: `--subgroup sex --subgroup age` reports them."
    return "\n\n".join(["## Groups", *said, rows(table.rows, table.head)])


def _ethics(run: Run) -> str:
    said = " ".join(safe(line) for line in found(run, ["codes", "audit"]))
    return (
        f"## Ethics and privacy\n\n{said} Approval, consent, risks and harms: to be completed by the authors.".replace(
            "\n\n ", "\n\n"
        )
    )


def _use(run: Run) -> str:
    return (
        "## Use\n\nResearch. **Not a medical device**: it must not guide the care of a patient. Intended users, setting and "
        "patients: to be completed by the authors."
    )


def _characteristics(run: Run) -> str:
    table = people(run)
    return f"\n\n{rows(table.rows, table.head)}" if table else ""


def _data(run: Run) -> str:
    table = sections.split_table(run)
    body = rows(table.rows, table.head) if table else "Not split yet."
    shared = (run.split.get("proof") or {}).get("patients shared")
    return f"## Data\n\n{body}\n\nPatients in more than one part: {sections.whole(shared)}.{_characteristics(run)}"


def _training(run: Run) -> str:
    facts = sections.training_facts(run)
    if not facts:
        return "## Training\n\nNot trained yet."
    chosen = sections.decisions(run)
    why = "\n\n" + rows(chosen, ("Decision", "Choice", "Why")) if chosen else ""
    return f"## Training\n\n{rows(facts, ('', ''))}{why}"


def _results(run: Run) -> str:
    tables = main_results.overall(run)
    if not tables:
        return "## Results\n\nNot evaluated yet."
    text = [
        f"**{safe(table.caption)}**\n\n" + rows(tuple(row[:3] for row in table.rows), table.head[:3])
        for table in tables
    ]
    said = [safe(point) for point in main_results.points(run)]
    return "\n\n".join(["## Results", *said, *text, main_results.looks(run)])


def _limits(run: Run) -> str:
    lines = [*advice.cautions(run), "The result holds for patients, devices and prevalence like those of the test set."]
    return "## Limits\n\n" + "\n".join(f"- {safe(line)}" for line in lines)
