"""What each section of the report says, as plain tables and sentences; the template only sets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from overread.reporting import words
from overread.reporting.forest import shown, subgroups
from overread.reporting.gather import Run
from overread.stats.estimate import Estimate

PARTS = {"train": "Training", "tuning": "Tuning", "test": "Test"}


@dataclass(frozen=True)
class Table:
    """A table of texts. The columns from ``numbers_from`` on are set as numbers, to the right."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1


@dataclass(frozen=True)
class KeyNumber:
    """A number at the top of the report."""

    name: str
    value: str
    interval: str
    note: str


# -- question and cases --------------------------------------------------------------------------------------------


def title(run: Run) -> str:
    """The study's own title, or one made of its target."""
    given = str(run.study.get("title") or "")
    if given:
        return words.name(given, 120)
    names = [words.name(name) for name in run.names]
    if run.kind == "quantity":
        return f"Estimating {names[0]} from images"
    if run.kind == "findings":
        return f"Detecting {words.count(len(names), 'finding')} on images"
    if run.primary:
        return f"Detecting {run.called(run.primary)} on images"
    return f"Telling {words.count(len(names), 'class', 'classes')} apart on images" if names else "Study of medical images"


def question(run: Run) -> Table:
    """The question in rows of what and which."""
    kinds = {"binary": "two classes", "classes": f"{len(run.names)} classes", "findings": f"{len(run.names)} findings, each present or absent",
             "quantity": "a quantity"}  # fmt: skip
    positive = [words.name(name) for name in run.target.get("positive") or ()]
    rows = [
        ("What is told", kinds.get(run.kind, words.NOTHING)),
        ("Names", ", ".join(words.name(name) for name in run.names) or words.NOTHING),
        ("Counts as disease", ", ".join(positive) or words.NOTHING),
        ("Independent unit", "the patient: no patient stands on two sides, intervals are by patient"),
        *((_readable(key), _plain(value)) for key, value in flatten(run.study) if key != "title"),
    ]
    return Table("The question as the study file states it, defaults filled in", ("", ""), tuple(rows), 2)


def flatten(table: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """A nested table as (dotted key, value)."""
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        rows += flatten(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return rows


def _readable(key: str) -> str:
    return words.name(key.replace("_", " "))


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
        Table("Excluded cases by reason", ("Reason", "Cases"), tuple((words.name(r, 90), f"{n:,}") for r, n in run.excluded)),
        Table("Labels in the whole table", ("Label", "Images", "Patients"), _image_rows(counts.get("classes"))),
        Table("Sources", ("Source", "Images", "Patients"), _image_rows(counts.get("sources"))),
    ]
    return [table for table in tables if table.rows]


def _image_rows(counts: dict[str, Any] | None) -> tuple[tuple[str, ...], ...]:
    return tuple((words.name(k) or "unknown", whole(v.get("images")), whole(v.get("patients"))) for k, v in (counts or {}).items())


def whole(number: Any) -> str:
    """A count, or a dash."""
    return words.NOTHING if number is None else f"{int(number):,}"


# -- audit and split -----------------------------------------------------------------------------------------------


def shortcut(run: Run) -> Table:
    """How well the label can be told without looking."""
    held = run.audit.get("shortcut") or {}
    rows = [("All together", _range(held))] if held.get("auc") is not None else []
    rows += [(words.name(k).capitalize(), _range(v)) for k, v in (held.get("by feature") or {}).items()]
    return Table("AUC of the label from what is not anatomy (0.5: no risk)", ("Told from", "AUC (interval)"), tuple(rows))


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
    weights = backbone.get("weights_source") or ("pretrained" if backbone.get("pretrained") else "none: trained from scratch")
    rows = [
        ("Network", words.name(backbone.get("name", words.NOTHING), 80)),
        ("Parameters", whole(backbone.get("parameters"))),
        ("Initial weights", words.name(weights, 120)),
        ("Licence of the weights", words.name(backbone.get("licence") or words.NOTHING, 80)),
        ("Patients seen in training", whole(len(run.model.get("seen") or ())) + " (kept as hashes; evaluation on them is refused)"),
        ("Time of the whole run", words.duration(run.record.get("seconds"))),
    ]
    return tuple(rows)


def recipe(run: Run) -> Table | None:
    """Every field of the recipe and of the preprocessing."""
    rows = [(_readable(k), _plain(v)) for k, v in flatten(run.model.get("recipe") or {})]
    rows += [(f"image: {_readable(k)}", _plain(v)) for k, v in flatten(run.model.get("preprocess") or {})]
    return Table("The recipe, every field", ("Field", "Value"), tuple(rows), 2) if rows else None


# -- results -------------------------------------------------------------------------------------------------------

_DETECTION = ("auc", "average precision", "sensitivity", "specificity", "ppv", "npv", "f1", "brier", "calibration slope",
              "calibration intercept", "ece", "ece if calibrated")  # fmt: skip
_TOGETHER = ("macro auc", "accuracy", "balanced accuracy", "macro f1", "kappa", "brier", "ece", "ece if calibrated")
_QUANTITY = ("mae", "rmse", "bias", "r2", "pearson")
_EACH = ("auc", "average precision", "sensitivity", "specificity", "ppv", "f1")


def key_numbers(run: Run) -> tuple[KeyNumber, ...]:
    """At most four numbers for the top."""
    if run.primary:
        wanted = [(m, run.primary) for m in ("auc", "sensitivity", "specificity", "ppv")]
    elif run.kind == "quantity":
        wanted = [(m, run.names[0]) for m in ("mae", "rmse", "r2", "pearson")]
    else:
        wanted = [(m, "") for m in ("macro auc", "balanced accuracy", "accuracy", "macro f1")]
    found = [run.estimate(metric, of) for metric, of in wanted]
    return tuple(_key_number(e) for e in found if e is not None)


def _key_number(e: Estimate) -> KeyNumber:
    unit = " %" if words.metric(e.metric).percent else ""
    between = words.interval(e, 2)
    interval = f"{words.percent(e.level)} interval {between}{unit}" if between else e.undefined
    return KeyNumber(words.metric(e.metric).name, words.value(e, 2), interval, words.size(e.images, e.patients))


def overall(run: Run) -> list[Table]:
    """The tables of the main results."""
    tables = [_results(f"Detection of {run.called(run.primary)}", run, _DETECTION, run.primary)] if run.primary else []
    if run.kind == "quantity":
        tables.append(_results("Prediction of the quantity", run, _QUANTITY, run.names[0]))
    else:
        tables.append(_results("All classes together", run, _TOGETHER, ""))
    return [table for table in tables if table.rows]


def _results(caption: str, run: Run, metrics: Sequence[str], of: str) -> Table:
    found = [e for e in (run.estimate(metric, of) for metric in metrics) if e is not None]
    rows = tuple((words.metric(e.metric).name, *_cells(e), words.metric(e.metric).says, e.method) for e in found)
    counts = run.evaluation.get("counts") or {}
    about = words.size(counts.get("images"), counts.get("patients"))
    return Table(f"{caption}: {about} of the test set", ("Measure", "Value", "95 % interval", "What it says", "Method"), rows)


def _cells(e: Estimate) -> tuple[str, str]:
    if e.undefined:
        return "undefined", e.undefined
    unit = " %" if words.metric(e.metric).percent else ""
    digits = 3 if unit else 3
    return words.value(e, digits), (words.interval(e, digits) + unit if words.interval(e) else words.NOTHING)


def each(run: Run) -> Table | None:
    """One row per class or finding, where there are several."""
    names = [name for name in run.names if run.estimate("auc", name)] if run.kind in ("classes", "findings") else []
    metrics = [m for m in _EACH if any(run.estimate(m, name) for name in names)]
    if not metrics:
        return None
    rows = tuple((words.name(name, 32), _positives(run, name), *(short(run.estimate(m, name)) for m in metrics)) for name in names)
    head = ("Against the rest", "Cases", *(words.metric(m).name for m in metrics))
    return Table("Each class or finding against the rest", head, rows)


def _positives(run: Run, name: str) -> str:
    return whole((((run.evaluation.get("counts") or {}).get("per class") or {}).get(name) or {}).get("images"))


def short(e: Estimate | None) -> str:
    """Value and interval in one cell."""
    if e is None:
        return words.NOTHING
    if e.undefined:
        return e.undefined
    between = words.interval(e, 2)
    return f"{words.value(e, 2)} ({between})" if between else words.value(e, 2)


def points(run: Run) -> list[str]:
    """Each frozen operating point in a sentence."""
    return [_point(run, point) for point in run.operating]


def _point(run: Run, point: dict[str, Any]) -> str:
    group = run.called("+".join(map(str, point.get("positive") or ())))
    return (
        f"For {group}: threshold {words.number(point.get('threshold'), 3)}, chosen by the rule “{words.name(point.get('rule', ''), 60)}” "
        f"on {words.name(point.get('chosen_on', 'tuning data'), 120)} and frozen before the test set was opened. On the tuning "
        f"data it had a sensitivity of {words.percent(point.get('sensitivity'))} and a specificity of "
        f"{words.percent(point.get('specificity'))}."
    )


def looks(run: Run) -> str:
    """How many times the test set has been looked at, in words."""
    if run.broken_ledger:
        return f"The ledger of looks at the test set cannot be trusted: {run.broken_ledger}"
    if run.looks is None and not run.evaluation:
        return ""
    before = int(run.evaluation.get("looks") or 0)
    if before == 0:
        return "This was the first look at this test set."
    return (
        f"This test set had been looked at {words.count(before, 'time')} before. Every further look makes the result more "
        "optimistic: choices made after seeing it are fitted to it."
    )


def by_subgroup(run: Run) -> Table | None:
    """Every subgroup and source with the metrics of the forest plot."""
    groups, metrics = subgroups(run), shown(run)
    if not groups or not metrics:
        return None
    rows = []
    for column, value in groups:
        found = [run.estimate(metric, of, {column: value}) for metric, of in metrics]
        first = next((e for e in found if e), None)
        rows.append((f"{words.name(column)}: {words.name(value) or 'unknown'}", whole(first.images if first else None),
                     whole(first.patients if first else None), *(short(e) for e in found)))  # fmt: skip
    head = ("Group", "Images", "Patients", *(words.metric(metric).name for metric, _ in metrics))
    return Table("Results by subgroup and source (95 % intervals)", head, tuple(rows))


# -- provenance ----------------------------------------------------------------------------------------------------


def provenance(run: Run) -> Table:
    """Seeds, hashes, versions, hardware."""
    held = run.record
    rows = [(_readable(k), _plain(held.get(k))) for k in ("command", "started", "seed", "cases digest") if k in held]
    rows += [(_readable(k), _plain(v)) for k, v in held.items() if k.startswith(("sha256", "digest", "hash"))]
    rows += [("digest of the split", _plain((run.split.get("proof") or {}).get("digest")))] if run.split else []
    rows += [("digest of the predictions", _plain(run.evaluation.get("predictions")))] if run.evaluation else []
    rows += [("model", _plain(run.evaluation.get("model")))] if run.evaluation.get("model") else []
    rows += [("hardware: " + _readable(k), _plain(v)) for k, v in flatten(held.get("hardware") or {})]
    rows += [(words.name(k), _plain(v)) for k, v in (held.get("versions") or {}).items()]
    return Table("What it takes to run this again", ("", ""), tuple(rows), 2)
