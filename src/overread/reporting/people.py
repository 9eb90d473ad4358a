"""Who the patients of each part are, as a table: from ``characteristics.json`` of a run."""

from __future__ import annotations

from overread.errors import InputError
from overread.record import read_json
from overread.reporting import words
from overread.reporting.gather import Run
from overread.reporting.sections import PARTS, Table


def people(run: Run) -> Table | None:
    """Patients and images of each part by label, source and declared column; None before the split."""
    path = run.folder / "characteristics.json"
    rows = read_json(path) if path.exists() else []
    if not (isinstance(rows, list) and all(isinstance(row, dict) and "parts" in row for row in rows)):
        raise InputError("characteristics.json is damaged", todo="run `overread split` again")
    parts = list(dict.fromkeys(part for row in rows for part in row["parts"]))
    if not parts:
        return None
    body = tuple(
        (words.name(row.get("column"), 40), words.name(row.get("group"), 40), *(_both(row["parts"].get(part)) for part in parts))
        for row in rows
    )  # fmt: skip
    head = ("Column", "Group", *(PARTS.get(part, words.name(part)) for part in parts))
    return Table("Patients (images) of each part", head, body, 2)


def _both(held: dict[str, int] | None) -> str:
    return f"{held['patients']:,} ({held['images']:,})" if held else words.NOTHING
