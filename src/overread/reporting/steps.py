"""What to do next: concrete steps from stored findings, the most urgent first; no judgement of its own."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

from overread.reporting import words
from overread.reporting.advice import calibration_verdict, weakest
from overread.reporting.gather import Run, shown

WIDE = 0.10  # of an AUC's interval
RISING = 0.005  # of a tuning score over a quarter of the epochs


@dataclass(frozen=True)
class Advice:
    """One thing to do: what, why, and the command that does it (``""`` where a person must)."""

    what: str
    why: str
    command: str = ""


def next_steps(run: Run) -> list[Advice]:
    """Concrete steps, the most urgent first."""
    rules = (
        _missing,
        _audit,
        _shortcut,
        _more_patients,
        _training,
        _calibration,
        _subgroup,
        _labels,
        _purpose,
        _outside,
    )
    return [advice for rule in rules for advice in rule(run)]


def _missing(run: Run) -> list[Advice]:
    if run.estimates:
        return []
    return [Advice("Finish the run.", "Some stages have not run yet; the same command goes on where it stopped.",
                   f"overread run {run.place}/study.toml -o {run.place}")]  # fmt: skip


def _audit(run: Run) -> list[Advice]:
    order = {"error": 0, "warning": 1}
    found = [f for f in run.audit.get("findings", ()) if f.get("severity") in order and f.get("advice")]
    found = [f for f in found if f.get("kind") != "shortcut"]
    found.sort(key=lambda f: order[f["severity"]])
    return [Advice(words.sentence(f["message"]), words.sentence(f["advice"])) for f in found[:6]]


def _shortcut(run: Run) -> list[Advice]:
    held = run.audit.get("shortcut") or {}
    if held.get("verdict") not in ("moderate", "high"):
        return []
    sources = list((run.audit.get("counts") or {}).get("sources") or {})
    command = (
        f"overread run TABLE … --leave-out {shlex.quote(words.name(sources[-1]))} -o {run.place}-elsewhere"
        if len(sources) > 1
        else ""
    )
    return [Advice("Rule out the shortcut: test on a source the model has not seen, and look at what it attends to.",
                   f"Source, size and brightness alone tell the label with an AUC of {words.number(held.get('auc'), 2)}.", command)]  # fmt: skip


def _more_patients(run: Run) -> list[Advice]:
    metric, of = (shown(run) or [("auc", run.primary)])[0]
    estimate = run.estimate(metric, of)
    if (
        "auc" not in metric
        or estimate is None
        or estimate.undefined
        or not estimate.high - estimate.low > WIDE
    ):
        return []
    width = estimate.high - estimate.low
    wanted = math.ceil(estimate.patients * (width / 0.06) ** 2 / 10) * 10
    return [Advice(f"Test on more patients: about {wanted:,} for an interval of ± 0.03.",
                   f"The interval of the {words.metric(metric).name} is {words.number(width, 2)} wide with {words.count(estimate.patients, 'patient')}; "
                   "its width falls with the square root of their number.")]  # fmt: skip


def _training(run: Run) -> list[Advice]:
    rows = [row for row in run.history if row.get("tuning score") is not None and "epoch" in row]
    if rows and _out_of_time(run):
        return [Advice("Give it more time.", f"The budget ended training after {words.count(len(rows), 'epoch')}.",
                       f"{_command(run)} --budget {_longer(run)} -o {run.place}-longer")]  # fmt: skip
    if len(rows) < 4:
        return []
    if rows[-1]["tuning score"] - rows[len(rows) * 3 // 4 - 1]["tuning score"] > RISING:
        return [Advice("Train for longer.", "The tuning score was still rising in the last quarter of the epochs.",
                       f"overread run TABLE … --epochs {2 * len(rows)} -o {run.place}-longer")]  # fmt: skip
    train, tuning = rows[-1].get("train loss"), rows[-1].get("tuning loss")
    if train and tuning and tuning > 2 * train:
        return [Advice("Add patients or stronger augmentation.", f"The training loss ended at {words.number(train, 2)}, the tuning loss at "
                       f"{words.number(tuning, 2)}: the network remembers its training images.")]  # fmt: skip
    return []


def _command(run: Run) -> str:
    return (
        "overread demo"
        if str(run.record.get("command", "")).startswith("overread demo")
        else "overread run TABLE …"
    )


def _out_of_time(run: Run) -> bool:
    return any("budget was used up" in str(d.get("why", "")) for d in run.model.get("decisions") or ())


def _longer(run: Run) -> str:
    """Four times the budget of the study, in whole minutes; 30 minutes where it cannot be read."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", str(run.study.get("budget", "")))
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    return f"{math.ceil(4 * (3600 * hours + 60 * minutes + seconds) / 60) or 30}m"


def _calibration(run: Run) -> list[Advice]:
    if calibration_verdict(run) != "poor":
        return []
    slope = run.estimate("calibration slope", run.primary)
    return [Advice("Do not show the probabilities as risks before recalibrating them on tuning data.",
                   f"They differ from the observed frequencies by more than chance would make them; calibration slope {words.spoken(slope)}.")]  # fmt: skip


def _subgroup(run: Run) -> list[Advice]:
    worst = weakest(run)
    if worst is None:
        return []
    column, value, estimate = worst
    name = f"{words.name(column)} = {words.name(value) or 'unknown'}"
    return [Advice(f"Look at the errors where {name}, and gather more such patients for training.",
                   f"There the {words.metric(estimate.metric).name} is {words.spoken(estimate)}, its whole interval below the overall value. With many "
                   "subgroups one such finding can be chance: confirm it on new data.")]  # fmt: skip


def _labels(run: Run) -> list[Advice]:
    if not run.gallery:
        return []
    return [Advice("Have a second reader look at the most confident errors of section 8, without the model’s call.",
                   "Among confident errors, wrong labels and unusable images are common; correcting them is often worth more than tuning.")]  # fmt: skip


def _purpose(run: Run) -> list[Advice]:
    if not run.primary or [p.get("rule") for p in run.operating] != ["youden"]:
        return []
    return [Advice("Decide what the model is for, and fix the sensitivity or specificity that this use needs.",
                   "Youden’s rule weighs a missed case and a false alarm alike; few uses do. The other point needs another test set, or "
                   "its figures are too good.", f"overread run TABLE … --sensitivity 0.95 -o {run.place}-sensitive")]  # fmt: skip


def _outside(run: Run) -> list[Advice]:
    if not run.estimates:
        return []
    sources = len((run.audit.get("counts") or {}).get("sources") or {})
    why = (
        "All images come from one source."
        if sources <= 1
        else f"Unless the split says otherwise, the test patients come from the same {sources} sources as the training patients."
    )
    return [Advice("Test the frozen model, with its threshold, on patients of another hospital before any use.", why,
                   f"overread predict {run.place} NEW.csv -o new.csv && overread evaluate new.csv --tuning {run.place}/predictions/tuning.csv")]  # fmt: skip
