"""What the numbers mean and what to beware of: rules over stored findings, no judgement of its own."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.run import Run, shown, subgroups
from overread.stats.estimate import Estimate

FEW_POSITIVES = 50  # patients; below it, the interval of a sensitivity of .9 is wider than ± .08
RISKY = ("error",)


# -- the paragraph at the top ----------------------------------------------------------------------------------------


def summary(run: Run) -> str:
    """The result in a paragraph of plain words, with intervals."""
    if not run.estimates:
        return "The model has not been judged on a test set yet; this report shows what is there so far."
    counts = run.evaluation.get("counts") or {}
    opening = f"The model was tested on {words.size(counts.get('images'), counts.get('patients'))}{_apart(run)}. "
    body = _detection(run) if run.primary else _quantity(run) if run.continuous else _together(run)
    return opening + body + _calibrated(run) + _weakest(run)


def _apart(run: Run) -> str:
    """Said only where the proof of the split says so."""
    shared = (run.split.get("proof") or {}).get("patients shared")
    if shared:
        return f", but {words.count(int(shared), 'patient')} stand on both sides of the split"
    return " that took no part in its training or in the choice of its threshold" if shared == 0 else ""


def _detection(run: Run) -> str:
    of, name = run.primary, run.called(run.primary)
    auc, sensitivity, specificity, ppv = (run.estimate(m, of) for m in ("auc", "sensitivity", "specificity", "ppv"))
    text = (
        f"It told {name} cases from the others with an AUC of {words.spoken(auc)}; 0.5 is the toss of a coin and 1 is perfect. "
        if auc and not auc.undefined
        else ""
    )
    if sensitivity and specificity and not sensitivity.undefined and not specificity.undefined:
        text += (
            f"At its operating point it flagged {words.spoken(sensitivity)} of the {name} cases and cleared "
            f"{words.spoken(specificity)} of the others. "
        )
    prevalence = (run.curve.get("pr") or {}).get("prevalence")
    if ppv and not ppv.undefined and prevalence is not None:
        text += (
            f"Of the cases it flagged, {words.spoken(ppv)} were {name}; this holds where {words.percent(prevalence)} of all "
            "cases are, as here, and is lower where fewer are. "
        )
    return text


def _together(run: Run) -> str:
    macro, balanced = run.estimate("macro auc"), run.estimate("balanced accuracy")
    things = "findings" if run.multilabel else "classes"
    text = (
        f"Over the {len(run.names)} {things} the mean AUC was {words.spoken(macro)}; 0.5 is the toss of a coin and 1 is perfect. "
        if macro
        else ""
    )
    if balanced:
        text += (
            f"It called {words.spoken(balanced)} of the cases of a class correctly, on average over the classes; "
            f"guessing would reach {words.percent(1 / max(1, len(run.names)))}. "
        )
    return text


def _quantity(run: Run) -> str:
    mae, r2 = run.estimate("mae", run.names[0]), run.estimate("r2", run.names[0])
    text = f"It missed the true value by {words.spoken(mae)} on average" if mae else ""
    return text + (f" and explained {words.spoken(r2)} of its variance. " if r2 else ". ")


def _calibrated(run: Run) -> str:
    verdict = calibration_verdict(run)
    said = {"good": "Its probabilities agree with the observed frequencies as well as those of a calibrated model would. ",
            "poor": "Its probabilities should not be read as risks before they are recalibrated. "}  # fmt: skip
    return said.get(verdict, "")


def calibration_verdict(run: Run) -> str:
    """``good``, ``poor``, or ``""``: the calibration error against what chance gives a calibrated model."""
    ece, null = run.estimate("ece", run.primary), run.estimate("ece if calibrated", run.primary)
    if ece is None or null is None or ece.undefined or null.undefined or not math.isfinite(null.high):
        return ""
    slope = run.estimate("calibration slope", run.primary)
    tilted = slope is not None and not slope.undefined and not slope.low <= 1 <= slope.high
    return "poor" if tilted or ece.value > null.high else "good"


def _weakest(run: Run) -> str:
    worst = weakest(run)
    if worst is None:
        return ""
    column, value, estimate = worst
    return (
        f"It did least well where {words.name(column)} is {words.name(value) or 'unknown'}: {words.metric(estimate.metric).name} "
        f"{words.spoken(estimate)}. "
    )


def weakest(run: Run) -> tuple[str, str, Estimate] | None:
    """The judged subgroup whose whole interval lies below the overall value of the first metric; None if none does."""
    metrics = [pair for pair in shown(run) if pair[0] not in ("mae",)]
    if not metrics:
        return None
    metric, of = metrics[0]
    overall = run.estimate(metric, of)
    found = [(c, v, run.estimate(metric, of, {c: v})) for c, v in subgroups(run)]
    low = [(c, v, e) for c, v, e in found if e and overall and not e.undefined and e.high < overall.value]
    return min(low, key=lambda row: row[2].value, default=None)


@checked
def elsewhere(run: Run) -> str:
    """Predictive values where the model will be used, if that was asked."""
    ppv, npv = (run.estimate(f"{m} at prevalence", run.primary) for m in ("ppv", "npv"))
    if not (run.primary and ppv and npv) or ppv.undefined or npv.undefined:
        return ""
    asked = (run.curve.get("decision") or {}).get("prevalence")
    where = f"{words.share(asked)} of all cases are" if asked is not None else "it is as common as was asked,"
    return (
        f"Where {where} {run.called(run.primary)}, {words.spoken(ppv)} of the flagged cases would be, and "
        f"{words.spoken(npv)} of the cleared ones would not."
    )


# -- before relying on it ---------------------------------------------------------------------------------------------


def cautions(run: Run) -> list[str]:
    """What a reader must know before believing the numbers; empty where nothing was found."""
    found = [words.sentence(f["message"]) for f in run.audit.get("findings", ()) if f.get("severity") in RISKY]
    proof = run.split.get("proof") or {}
    for key, what in (("patients shared", "patient"), ("duplicate groups shared", "group of duplicates")):
        if proof.get(key):
            words_ = words.count(int(proof[key]), what, "groups of duplicates" if "group" in what else "")
            found.append(f"The split shares {words_} between its parts: the result is too good to be true.")
    if (run.audit.get("shortcut") or {}).get("verdict") == "high":
        found.append("The label can be told from source, image size or brightness alone; the model may have used that.")
    if run.broken_ledger:
        found.append(words.sentence(run.broken_ledger))
    if int(run.evaluation.get("looks") or 0) > 0:
        found.append(f"The test set had been looked at {words.times(int(run.evaluation['looks']))} before this result.")
    return list(dict.fromkeys([*found, *_weak_evidence(run)]))


def _weak_evidence(run: Run) -> list[str]:
    found = []
    positives = positive_patients(run)
    if run.primary and positives is not None and positives < FEW_POSITIVES:
        found.append(
            f"{'Only ' if positives else ''}{words.count(positives, 'patient')} of the test set had {run.called(run.primary)} images: the intervals are wide, "
            "and they, not the values, are the result."
        )
    if run.primary and run.curve and not run.operating:
        found.append(
            "No threshold was frozen on tuning data: sensitivity and specificity hold at the stated default only."
        )
    return found


def positive_patients(run: Run) -> int | None:
    """Patients of the test set in the primary group."""
    held = (run.evaluation.get("counts") or {}).get("per class") or {}
    parts = [run.primary] if run.primary in held else [name for name in run.primary.split("+") if name in held]
    return sum(int(held[name].get("patients") or 0) for name in parts) if parts else None


def soundness(run: Run) -> list[str]:
    """What was checked and found sound, for a run without cautions."""
    said = []
    if run.audit:
        said.append("The audit found no error.")
    if (run.split.get("proof") or {}).get("patients shared") == 0:
        said.append("No patient stands on two sides of the split.")
    if run.evaluation and run.looks is not None:
        said.append("This was the first look at the test set.")
    return said


# -- what to do next: concrete steps from stored findings, the most urgent first; no judgement of its own ---------


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
    if "auc" not in metric or estimate is None or estimate.undefined or not estimate.high - estimate.low > WIDE:
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
    return "overread demo" if str(run.record.get("command", "")).startswith("overread demo") else "overread run TABLE …"


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
