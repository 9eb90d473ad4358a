"""What each section of the report says, as plain tables and sentences; the template only sets them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from overread.core.errors import InputError
from overread.core.files import read_json
from overread.reporting import words
from overread.reporting.run import Run

PARTS = {"train": "Training", "tuning": "Tuning", "test": "Test"}


@dataclass(frozen=True)
class Table:
    """A table of texts. The columns from ``numbers_from`` on are set as numbers, to the right.

    ``kind``: ``"results"`` (measure, value, interval, then words), ``"pairs"`` (what and which), or ``""``.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1
    kind: str = ""


# -- question and cases --------------------------------------------------------------------------------------------


def title(run: Run) -> str:
    """The study's own title, or one made of its target."""
    given = str(run.study.get("title") or "")
    if given:
        return words.name(given, 120)
    names = [words.name(name) for name in run.names]
    if run.continuous:
        return f"Estimating {names[0]} from images"
    if run.multilabel:
        return f"Detecting {words.count(len(names), 'finding')} on images"
    if run.target.get("positive"):
        return f"Telling {run.called('+'.join(run.target['positive']))} from {_others(run)}"
    return (
        f"Telling {words.count(len(names), 'class', 'classes')} apart on images" if names else "Study of medical images"
    )


def _others(run: Run) -> str:
    rest = [name for name in run.names if name not in run.target["positive"]]
    return run.called("+".join(rest)) if 1 <= len(rest) <= 4 else "the rest"


def question(run: Run) -> Table:
    """The question in rows of what and which."""
    positive = [words.name(name) for name in run.target.get("positive") or ()]
    rows = [
        ("What is told", run.task.question if run.task else words.NOTHING),
        ("Names", ", ".join(words.name(name) for name in run.names) or words.NOTHING),
        ("Counts as disease", ", ".join(positive) or words.NOTHING),
        ("Independent unit", _unit(run)),
        *(
            (label, _plain(_shown(key, run.study[key])))
            for key, label in _STUDY.items()
            if run.study.get(key) and (key != "consensus" or run.study.get("graders"))
        ),
        ("Operating point", _rule(run.study)),
        ("Claim", claim(run.study)),
    ]
    return Table("What the study asks", ("", ""), tuple(row for row in rows if row[1] != words.NOTHING), 2)


def by_patient(run: Run) -> bool:
    """Whether the table says who the patients are; otherwise each image counts as a patient of its own."""
    return not any(note.startswith("patient: no column") for note in run.notes)


def _unit(run: Run) -> str:
    if by_patient(run):
        return "the patient: the split and the intervals are by patient"
    return "the image, because no column says who the patient is: images of one patient may stand on both sides of the split"


def claim(study: dict[str, Any]) -> str:
    """The margin that was declared; nothing where none was."""
    if not study.get("margin"):
        return words.NOTHING
    named = words.metric(str(study.get("margin_of") or "auc"))
    size = f"{100 * study['margin']:.3g} percentage points" if named.percent else f"{study['margin']:.3g}"
    return f"non-inferiority in {named.name} by a margin of {size}, declared in the study and its ledger; `overread compare` judges it"


def study_file(run: Run) -> Table | None:
    """Every field of the study file, defaults filled in."""
    rows = tuple((_readable(k), _plain(_shown(k, v))) for k, v in flatten(run.study))
    return Table("study.toml, defaults filled in", ("Field", "Value"), rows, 2) if rows else None


_STUDY = {
    "table": "Table of cases", "label": "Label column", "labels": "Columns of findings", "value": "Column of the quantity",
    "patient": "Patient column", "source": "Source column", "subgroups": "Judged by", "deploy_to": "Will be used where",
    "leave_out": "Source kept for the test", "by_time": "Tested on the latest", "test": "Share for the test",
    "tuning": "Share for tuning", "budget": "Time allowed", "where": "Rows taken", "labels_from": "Labels from",
    "graders": "Columns of the readers", "consensus": "Label of several readers", "cost": "A missed case costs, in false alarms",
    "prevalence": "Prevalence where it will be used",
}  # fmt: skip


def _shown(key: str, value: object) -> object:
    """Folders are nobody's business: they may hold names."""
    if key in ("test", "tuning", "prevalence") and isinstance(value, float):
        return words.share(value)
    if key == "salt":  # who holds it and the codes can test a guess
        return "in study.toml" if value else ""
    return PurePath(str(value)).name if key in ("table", "weights", "labels_from") else value


def _rule(study: dict[str, Any]) -> str:
    for name in ("sensitivity", "specificity"):
        if study.get(name):
            return f"{name} of {words.percent(study[name])} on tuning data"
    rules = {"youden": "largest sum of sensitivity and specificity on tuning data (Youden)"}
    return rules.get(str(study.get("rule", "")), words.name(study.get("rule") or words.NOTHING))


def flatten(table: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """A nested table as (dotted key, value)."""
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        rows += flatten(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return rows


def _readable(key: str) -> str:
    text = words.name(key.replace("_", " "))
    return text[:1].upper() + text[1:]


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value) or words.NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return words.name(words.NOTHING if value in (None, "") else value, 160)


def cases(run: Run) -> list[Table]:
    """Exclusions by reason, classes, sources."""
    counts = run.audit.get("counts") or {}
    tables = [
        Table(
            "Excluded cases by reason",
            ("Reason", "Cases"),
            tuple((words.name(r, 90), f"{n:,}") for r, n in run.excluded),
        ),
        Table("Labels in the whole table", ("Label", "Images", "Patients"), _image_rows(counts.get("classes"))),
        Table("Sources", ("Source", "Images", "Patients"), _image_rows(counts.get("sources"))),
    ]
    return [table for table in tables if table.rows]


def _image_rows(counts: dict[str, Any] | None) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (words.name(k) or "unknown", whole(v.get("images")), whole(v.get("patients")))
        for k, v in (counts or {}).items()
    )


def whole(number: Any) -> str:
    """A count, or a dash."""
    return words.NOTHING if number is None else f"{int(number):,}"


# -- audit and split -----------------------------------------------------------------------------------------------


def shortcut(run: Run) -> Table:
    """How well the label can be told without looking."""
    held = run.audit.get("shortcut") or {}
    rows = [("All together", _range(held))] if held.get("auc") is not None else []
    rows += [(words.name(k).capitalize(), _range(v)) for k, v in (held.get("by feature") or {}).items()]
    return Table(
        "AUC of the label from what is not anatomy (0.5: no risk)", ("Told from", "AUC (interval)"), tuple(rows)
    )


def _range(held: dict[str, Any]) -> str:
    value, low, high = (held.get(k) for k in ("auc", "low", "high"))
    return f"{words.number(value, 2)} ({words.number(low, 2)} – {words.number(high, 2)})"


def shortcut_words(run: Run) -> str:
    """The shortcut risk in a sentence."""
    held = run.audit.get("shortcut") or {}
    if held.get("undefined"):
        return f"The risk of shortcuts could not be judged: {held['undefined']}."
    said = {"low": "The label can hardly be told without looking: the risk of a shortcut through these features is low.",
            "moderate": "The label can partly be told from these features alone: a model may use them as a shortcut.",
            "high": "The label can be told from these features alone: a model may score well without looking at the disease."}  # fmt: skip
    return said.get(str(held.get("verdict")), "")


def split_table(run: Run) -> Table | None:
    """The parts with their images, patients and classes."""
    parts = (run.split.get("proof") or {}).get("parts") or {}
    if not parts:
        return None
    classes = list(dict.fromkeys(name for part in parts.values() for name in part.get("class images") or {}))[:12]
    head = ("Part", "Images", "Patients", *(words.name(name, 24) for name in classes))
    rows = tuple(
        (PARTS.get(key, words.name(key)), whole(part.get("images")), whole(part.get("patients")),
         *(whole((part.get("class images") or {}).get(name, 0)) for name in classes))
        for key, part in parts.items()
    )  # fmt: skip
    return Table("Parts of the split; classes in images", head, rows)


def proof(run: Run) -> tuple[tuple[str, str, bool | None], ...]:
    """What was checked about the split: (what, found, sound or not)."""
    held = run.split.get("proof") or {}
    if not held:
        return ()
    patients, groups = held.get("patients shared"), held.get("duplicate groups shared")
    return (
        ("Patients in more than one part", whole(patients), patients == 0),
        ("Groups of duplicates or near-duplicates in more than one part", whole(groups), groups == 0),
        ("Groups that must stay together (patients joined by duplicates)", whole(held.get("groups")), None),
        ("Images in the largest group", whole(held.get("largest group")), None),
        ("How it was checked", words.name(held.get("checked") or words.NOTHING, 300), None),
        ("Digest of the split", words.name(held.get("digest") or words.NOTHING), None),
    )


# -- training ------------------------------------------------------------------------------------------------------


def decisions(run: Run) -> tuple[tuple[str, str, str], ...]:
    """What was decided for the recipe, and why."""
    held = run.model.get("decisions") or ()
    return tuple(tuple(words.name(d.get(k, ""), 400) for k in ("what", "choice", "why")) for d in held)  # type: ignore[misc]


def training_facts(run: Run) -> tuple[tuple[str, str], ...]:
    """Backbone, weights and time in a few rows."""
    backbone = run.model.get("backbone") or {}
    if not run.model:
        return ()
    weights = backbone.get("weights_source") or (
        "pretrained" if backbone.get("pretrained") else "none: trained from scratch"
    )
    rows = [
        ("Network", words.name(backbone.get("name", words.NOTHING), 80)),
        ("Parameters", whole(backbone.get("parameters"))),
        ("Initial weights", words.name(weights, 120)),
        ("Licence of the weights", words.name(backbone.get("licence") or words.NOTHING, 80)),
        (
            "Patients seen in training or tuning",
            whole(len(run.model.get("seen") or ())) + " (kept as hashes; evaluation on them is refused)",
        ),
        ("Time of the whole run", words.duration(run.record.get("seconds"))),
    ]
    return tuple(row for row in rows if row[1] != words.NOTHING)


def recipe(run: Run) -> Table | None:
    """Every field of the recipe and of the preprocessing."""
    rows = [(_readable(k), _plain(v)) for k, v in flatten(run.model.get("recipe") or {})]
    rows += [(f"image: {_readable(k)}", _plain(v)) for k, v in flatten(run.model.get("preprocess") or {})]
    return Table("The recipe, every field", ("Field", "Value"), tuple(rows), 2) if rows else None


# -- provenance ----------------------------------------------------------------------------------------------------


def provenance(run: Run) -> Table:
    """Seeds, hashes, versions, hardware."""
    held = run.record
    steps = held.get("steps") or {}
    rows = [("Command", without_folders(str(held["command"])))] if held.get("command") else []
    rows += [(_readable(k), _plain(held.get(k))) for k in ("started", "seed", "cases digest") if k in held]
    rows += [(f"Digest of the {_STEPS.get(k, words.name(k))}", _plain(v.get("key"))) for k, v in steps.items()]
    rows += [(_readable(k), _plain(v)) for k, v in held.items() if k.startswith(("sha256", "digest", "hash"))]
    rows += [("Digest of the split", _plain((run.split.get("proof") or {}).get("digest")))] if run.split else []
    rows += [("Digest of the predictions judged", _plain(run.evaluation.get("predictions")))] if run.evaluation else []
    rows += [("Model", _plain(str(run.evaluation["model"])[:16]))] if run.evaluation.get("model") else []
    rows += [(f"Hardware: {words.name(k)}", _plain(v)) for k, v in flatten(held.get("hardware") or {})]
    rows += [(words.name(k), _plain(v)) for k, v in (held.get("versions") or {}).items()]
    return Table("What it takes to run this again", ("", ""), tuple(rows), 2)


_STEPS = {"cases": "table of cases", "audit": "audit’s input", "model": "model and its inputs", "predictions": "predictions’ inputs",
          "evaluation": "evaluation’s inputs"}  # fmt: skip


def without_folders(command: str) -> str:
    """A command whose paths have lost their folders: these may hold names.

    >>> without_folders("overread run /home/anna/skin/metadata.csv -o runs/skin --set a=1")
    'overread run …/metadata.csv -o …/skin --set a=1'
    """
    return words.name(" ".join(re.sub(r"^(.*[/\\\\])([^/\\\\]*)$", r"…/\2", word) for word in command.split(" ")), 500)


# -- who the patients of each part are, as a table: from ``characteristics.json`` of a run ------------------------


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
