"""The model card: what the model is, what it is for, how well it did, in Markdown beside the model."""

from __future__ import annotations

import os
from pathlib import Path

from overread.core.errors import checked
from overread.core.files import write_text
from overread.reporting import advice, main_results, sections
from overread.reporting.checklist import facts
from overread.reporting.run import Run, read_run
from overread.reporting.words import Table, markdown, markdown_table


@checked
def card(folder: str | os.PathLike[str]) -> Path:
    """Write ``model_card.md`` into a run folder, from its files only, and give its path.

    After Mitchell et al. 2019, "Model cards for model reporting". What only the authors can know is marked "to be
    completed by the authors". Raises InputError if the folder does not exist or one of its files is damaged.
    """
    run = read_run(folder)
    parts = (_head, _details, _use, _data, _training, _results, _groups, _ethics, _limits)
    return write_text(run.folder / "model_card.md", "\n\n".join(part(run) for part in parts) + "\n")


def _head(run: Run) -> str:
    summary = advice.summary(run).replace("&", "&amp;").replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")
    return f"# {markdown(sections.title(run))}\n\n{summary}"


def _details(run: Run) -> str:
    made = [f"Made: {run.record.started[:10]}"] if run.record.started else []
    lines = [*made, *facts(run, ["technology", "model", "output", "initial", "availability"])]
    predict = f"`overread predict {markdown(run.place)} TABLE` applies it to new images; preprocessing and threshold are those of the model."
    return "## Model\n\n" + "\n".join(f"- {markdown(line)}" for line in lines) + f"\n\n{predict}"


def _use(run: Run) -> str:
    return (
        "## Use\n\nResearch. **Not a medical device**: it must not guide the care of a patient. Intended users, setting and "
        "patients: to be completed by the authors."
    )


def _data(run: Run) -> str:
    parts, patients = sections.split_table(run), sections.characteristics(run)
    body = _table(parts) if parts else "Not split yet."
    shared = sections.whole(run.split.proof.patients_shared)
    groups = f"\n\n{_table(patients)}" if patients else ""
    return f"## Data\n\n{body}\n\nPatients in more than one part: {shared}.{groups}"


def _table(table: Table, columns: int | None = None) -> str:
    return markdown_table(table.head[:columns], [row[:columns] for row in table.rows])


def _training(run: Run) -> str:
    rows, chosen = sections.training_facts(run), sections.decisions(run)
    if not rows:
        return "## Training\n\nNot trained yet."
    reasons = "\n\n" + markdown_table(("Decision", "Choice", "Why"), chosen) if chosen else ""
    return f"## Training\n\n{markdown_table(('', ''), rows)}{reasons}"


def _results(run: Run) -> str:
    tables = main_results.overall(run)
    if not tables:
        return "## Results\n\nNot evaluated yet."
    text = [f"**{markdown(table.caption)}**\n\n{_table(table, 3)}" for table in tables]
    return "\n\n".join(["## Results", *map(markdown, main_results.points(run)), *text, main_results.looks(run)])


def _groups(run: Run) -> str:
    table = main_results.by_subgroup(run)
    if not table:
        return "## Groups\n\nNo groups of patients were declared: `--subgroup sex --subgroup age` reports them."
    lines = map(markdown, facts(run, ["subgroups", "heterogeneity"]))
    return "\n\n".join(["## Groups", *lines, _table(table)])


def _ethics(run: Run) -> str:
    text = " ".join(map(markdown, facts(run, ["codes", "audit"])))
    authors = "Approval, consent, risks and harms: to be completed by the authors."
    return f"## Ethics and privacy\n\n{text} {authors}".replace("\n\n ", "\n\n")


def _limits(run: Run) -> str:
    lines = [*advice.cautions(run), "The result holds for patients, devices and prevalence like those of the test set."]
    return "## Limits\n\n" + "\n".join(f"- {markdown(line)}" for line in lines)
