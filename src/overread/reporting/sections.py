"""What the report says about question, cases, audit, split, training and provenance: texts and tables; the template sets them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from overread.core.identifiers import counted
from overread.core.phrases import without_folders
from overread.evaluation.results import Tally
from overread.reporting import words
from overread.reporting.run import Run, ShortcutArea, StudyFile
from overread.reporting.words import Table

PARTS = {"train": "Training", "tuning": "Tuning", "test": "Test"}


def part_name(part: str) -> str:
    """A part of the split as pages call it."""
    return PARTS.get(part, words.name(part))


# -- question and cases --------------------------------------------------------------------------------------------


def title(run: Run) -> str:
    """What the study is about, by its target."""
    names = [words.name(name) for name in run.names]
    return run.task.title(names, run.called)


def question(run: Run) -> Table:
    """The question in rows of what and which."""
    held = run.study.fields
    rows = [
        ("What is told", run.task.question if run.target else words.NOTHING),
        ("Names", ", ".join(map(words.name, run.names)) or words.NOTHING),
        ("Counts as disease", ", ".join(map(words.name, run.task.positive)) or words.NOTHING),
        ("Independent unit", _unit(run)),
        *(
            (label, _plain(_shareable(key, held[key])))
            for key, label in _STUDY.items()
            if held.get(key) and key not in _unused(run)
        ),
        ("Parts", "as the table says: its split was kept" if run.split.proof.given else words.NOTHING),
        ("Operating point", words.NOTHING if run.task.dense else _rule(run.study)),
        ("Classes are called by", _called_by(run)),
        ("Claim", claim(run.study)),
    ]
    return Table("What the study asks", ("", ""), _known(rows), 2)


def _unused(run: Run) -> set[str]:
    """Fields of the study that decided nothing: a share where the parts were given, a rule where one reader answered."""
    given, study = run.split.proof.given, run.study
    found = {"consensus": not study.graders, "test": given or bool(study.leave_out), "tuning": given}
    return {name for name, unused in found.items() if unused}


def _known(rows: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(row for row in rows if row[1] != words.NOTHING)


def by_patient(run: Run) -> bool:
    """Whether the table says who the patients are; otherwise each image counts as a patient of its own."""
    return not any(note.startswith("patient: no column") for note in run.notes)


def _unit(run: Run) -> str:
    if by_patient(run):
        return "the patient: the split and the intervals are by patient"
    return "the image, because no column says who the patient is: images of one patient may stand on both sides of the split"


def claim(study: StudyFile) -> str:
    """The margin that was declared; nothing where none was."""
    if not study.margin:
        return words.NOTHING
    metrics = [part.strip() for part in study.margin_of.split(",")]
    shares = words.is_percentage(metrics[0])
    size = f"{100 * study.margin:.3g} percentage points" if shares else f"{study.margin:.3g}"
    judge = "`overread compare` judges it" if len(metrics) == 1 else "`overread second-reader` judges both"
    metric = " and ".join(map(words.label, metrics))
    return f"non-inferiority in {metric} by a margin of {size}, declared in the study and its ledger; {judge}"


def study_file(run: Run) -> Table | None:
    """Every field of the study file, defaults filled in."""
    rows = tuple((_readable(k), _plain(_shareable(k, v))) for k, v in flatten(run.study.fields))
    return Table("study.toml, defaults filled in", ("Field", "Value"), rows, 2) if rows else None


_STUDY = {
    "table": "Table of cases", "label": "Label column", "labels": "Columns of findings", "value": "Column of the quantity",
    "mask": "Masks", "pixel_size": "Microns a pixel",
    "patient": "Patient column", "source": "Source column", "subgroups": "Judged by", "deploy_to": "Will be used where",
    "leave_out": "Source kept for the test", "by_time": "Tested on the latest", "test": "Share for the test",
    "tuning": "Share for tuning", "budget": "Time allowed", "where": "Rows taken", "labels_from": "Labels from",
    "graders": "Columns of the readers", "consensus": "Label of several readers", "cost": "A missed case costs, in false alarms",
    "prevalence": "Prevalence where it will be used",
}  # fmt: skip


def _shareable(key: str, value: object) -> object:
    """Folders are nobody's business: they may hold names."""
    if key in ("test", "tuning", "prevalence") and isinstance(value, float):
        return words.share(value)
    if key == "salt":  # who holds it and the codes can test a guess
        return "in study.toml" if value else ""
    return PurePath(str(value)).name if key in ("table", "weights", "labels_from", "graders", "mask") else value


def _rule(study: StudyFile) -> str:
    for name, share in (("sensitivity", study.sensitivity), ("specificity", study.specificity)):
        if share:
            return f"{name} of {words.percent(share)} on tuning data"
    if study.rule == "youden":
        return "largest sum of sensitivity and specificity on tuning data (Youden)"
    if study.rule == "accuracy":
        return "highest accuracy on tuning data"
    return words.name(study.rule or words.NOTHING)


def _called_by(run: Run) -> str:
    """The decision rule of several classes; nothing where none was frozen."""
    held = run.evaluation.decision
    return words.name(f"{held.said}: {held.why}", 300) if held else words.NOTHING


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
    counts = run.audit.counts
    excluded = tuple((words.name(reason, 90), f"{number:,}") for reason, number in run.excluded)
    tables = [
        Table("Excluded cases by reason", ("Reason", "Cases"), excluded),
        Table("Labels in the whole table", ("Label", "Images", "Patients"), _tally_rows(counts.classes)),
        Table("Sources", ("Source", "Images", "Patients"), _tally_rows(counts.sources)),
    ]
    return [table for table in tables if table.rows]


def _tally_rows(counts: dict[str, Tally]) -> tuple[tuple[str, ...], ...]:
    return tuple((words.name(k) or "unknown", f"{v.images:,}", f"{v.patients:,}") for k, v in counts.items())


def whole(number: int | None) -> str:
    """A count, or a dash."""
    return words.NOTHING if number is None else f"{number:,}"


# -- audit and split -----------------------------------------------------------------------------------------------


_WORST_FIRST = {"error": 0, "warning": 1, "note": 2}


def findings(run: Run) -> Table | None:
    """What the audit found, the most serious first; None where it found nothing."""
    found = sorted(run.audit.findings, key=lambda f: _WORST_FIRST.get(f.severity, 3))
    rows = tuple(
        (f.severity if f.severity in _WORST_FIRST else "note", f"{words.sentence(f.message)} {words.sentence(f.advice)}".strip(), whole(f.count))
        for f in found
    )  # fmt: skip
    caption = "What was found before training, the most serious first; the cases concerned are listed in audit.json"
    return Table(caption, ("Severity", "Finding", "Count"), rows, 2, marks=0) if rows else None


def shortcut(run: Run) -> Table:
    """How well the label can be told without looking."""
    held = run.audit.shortcut
    rows = [("All together", _area(held))] if math.isfinite(held.auc) else []
    doubt = dict.fromkeys(held.may_be_the_disease, ", which the disease may change")
    rows += [(words.name(k).capitalize() + doubt.get(k, ""), _area(v)) for k, v in held.by_feature.items()]
    return Table(
        "AUC of the label from what is not anatomy (0.5: no risk)", ("Told from", "AUC (interval)"), tuple(rows)
    )


def _area(held: ShortcutArea) -> str:
    return f"{words.number(held.auc, 2)} ({words.number(held.low, 2)} – {words.number(held.high, 2)})"


_VERDICTS = {
    "low": "The label can hardly be told without looking: the risk of a shortcut through these features is low.",
    "moderate": "The label can partly be told from these features alone: a model may use them as a shortcut.",
    "high": "The label can be told from these features alone: a model may score well without looking at the disease.",
}


def shortcut_words(run: Run) -> str:
    """The shortcut risk in a sentence."""
    held = run.audit.shortcut
    if held.undefined:
        said = f"The risk of shortcuts could not be judged: {held.undefined}."
    else:
        said = _VERDICTS.get(held.verdict, "")
    if any(name in held.may_be_the_disease for name in held.by_feature):
        said += " Of slides this is judged by source, size, file and glass: the colour and brightness of tissue may tell the label because they show the disease."
    return said.strip()


def split_table(run: Run) -> Table | None:
    """The parts with their images, patients and classes."""
    parts = run.split.proof.parts
    if not parts:
        return None
    classes = list(dict.fromkeys(name for part in parts.values() for name in part.class_images))[:12]
    head = ("Part", "Images", "Patients", *(words.name(name, 24) for name in classes))
    rows = tuple(
        (part_name(key), *(f"{n:,}" for n in (part.images, part.patients, *(part.class_images.get(c, 0) for c in classes))))
        for key, part in parts.items()
    )  # fmt: skip
    return Table("Parts of the split; classes in images", head, rows)


def proof(run: Run) -> Table:
    """What was checked about the split, what was found, and whether that is sound."""
    held = run.split.proof
    patients, groups = held.patients_shared, held.duplicate_groups_shared
    rows = (
        ("Patients in more than one part", whole(patients), _sound(patients)),
        ("Groups of duplicates or near-duplicates in more than one part", whole(groups), _sound(groups)),
        ("Groups that must stay together (patients joined by duplicates)", whole(held.groups), ""),
        ("Images in the largest group", whole(held.largest_group), ""),
        ("How it was checked", words.name(held.checked or words.NOTHING, 300), ""),
        ("Digest of the split", words.name(held.digest or words.NOTHING), ""),
    )
    caption = "Proof that the parts are disjoint, computed from the written split"
    return Table(caption, ("", "", ""), rows, 3, marks=2)


def _sound(shared: int | None) -> str:
    return "sound" if shared == 0 else "not sound"


# -- training ------------------------------------------------------------------------------------------------------


def decisions(run: Run) -> tuple[tuple[str, str, str], ...]:
    """What was decided for the recipe, and why."""
    return tuple((words.name(d.what, 400), words.name(d.choice, 400), words.name(d.why, 400)) for d in run.model.decisions)  # fmt: skip


def rungs(run: Run) -> Table | None:
    """Each rung of the ladder: what it was, its score with interval, whether it was kept, and why."""
    rows = tuple(
        (words.name(r.name, 60), words.name(r.what, 200), f"{words.number(r.score)} ({words.number(r.low)} – {words.number(r.high)})",
         "kept" if r.taken else "not kept", words.name(r.why, 300)) for r in run.rungs
    )  # fmt: skip
    caption = "Ways to learn that were tried, in this order, on held-out cases of training and tuning"
    return Table(caption, ("Rung", "What", "Score", "", "Gain"), rows, numbers_from=9) if rows else None


def training_facts(run: Run) -> tuple[tuple[str, str], ...]:
    """Backbone, weights and time in a few rows."""
    if not run.model:
        return ()
    backbone, seen = run.model.backbone, counted(run.model.seen)
    default = "pretrained" if backbone.pretrained else "none: trained from scratch"
    return _known([
        ("Network", words.name(backbone.name or words.NOTHING, 80)),
        ("Parameters", whole(backbone.parameters)),
        ("Initial weights", words.name(backbone.weights_source or default, 120)),
        ("Licence of the weights", words.name(backbone.licence or words.NOTHING, 80)),
        ("Patients seen in training or tuning", f"{seen:,} (kept as hashes; evaluation on them is refused)"),
        ("Time of the whole run", words.duration(run.record.seconds)),
    ])  # fmt: skip


def recipe(run: Run) -> Table | None:
    """Every field of the recipe and of the preprocessing."""
    rows = [(_readable(k), _plain(v)) for k, v in flatten(run.model.recipe)]
    rows += [(f"image: {_readable(k)}", _plain(v)) for k, v in flatten(run.model.preprocess)]
    return Table("The recipe, every field", ("Field", "Value"), tuple(rows), 2) if rows else None


# -- the ledger, the checklists and provenance ----------------------------------------------------------------------------------------------------


def ledger(run: Run) -> Table | None:
    """Each look at the test set, and each declaration, as the ledger holds them; None where it cannot be trusted."""
    rows = tuple(
        (whole(e.entry), words.name(e.when).replace("T", " ")[:16], words.name(e.kind), words.name(e.model or words.NOTHING, 16), words.name(e.predictions or words.NOTHING, 16))
        for e in run.ledger[-_LOOKS:]
    )  # fmt: skip
    left = f", the last {_LOOKS} of {len(run.ledger):,}" if len(run.ledger) > _LOOKS else ""
    caption = f"The ledger, a chain of hashes in ledger.jsonl{left}"
    return Table(caption, ("Entry", "When (UTC)", "What", "Model", "Predictions"), rows, 9) if rows else None


_LOOKS = 20


def provenance(run: Run) -> Table:
    """Seeds, hashes, versions, hardware."""
    held, judged = run.record, run.evaluation.about
    rows = [
        ("Command", words.name(_without_folders(held.command), 500)), ("Started", _plain(held.started)), ("Seed", _plain(held.seed)),
        ("Cases digest", _plain(held.cases_digest)),
        *((f"Digest of the {_STEPS.get(k, words.name(k))}", _plain(step.key)) for k, step in held.steps.items()),
        ("Digest of the split", _plain(run.split.proof.digest)),
        ("Digest of the predictions judged", _plain(judged.predictions)), ("Model", _plain(judged.model[:16])),
        *((f"Hardware: {words.name(k)}", _plain(v)) for k, v in flatten(held.hardware)),
        *((words.name(k), _plain(v)) for k, v in held.versions.items()),
    ]  # fmt: skip
    return Table("What it takes to run this again", ("", ""), tuple(row for row in rows if row[1] not in ("", words.NOTHING)), 2)  # fmt: skip


_STEPS = {"cases": "table of cases", "audit": "audit’s input", "model": "model and its inputs", "predictions": "predictions’ inputs",
          "evaluation": "evaluation’s inputs"}  # fmt: skip


def _without_folders(command: str) -> str:
    """Of a run of an older version, whose record holds the paths as they were given."""
    try:
        return " ".join(without_folders(word.strip('"')) for word in shlex.split(command, posix=False))
    except ValueError:  # a quotation mark without its other
        return " ".join(map(without_folders, command.split(" ")))


# -- who the patients of each part are ----------------------------------------------------------------------------


def characteristics(run: Run) -> Table | None:
    """Patients and images of each part by label, source and declared column; None before the split."""
    parts = list(dict.fromkeys(part for row in run.characteristics for part in row.parts))
    if not parts:
        return None
    rows = tuple(
        (words.name(row.column, 40), words.name(row.group, 40), *(_patients_and_images(row.parts.get(part)) for part in parts))
        for row in run.characteristics
    )  # fmt: skip
    return Table("Patients (images) of each part", ("Column", "Group", *map(part_name, parts)), rows, 2)


def _patients_and_images(counted: Tally | None) -> str:
    return f"{counted.patients:,} ({counted.images:,})" if counted else words.NOTHING
