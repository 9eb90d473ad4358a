"""What the numbers mean and what to beware of: rules over stored findings, no judgement of its own."""

from __future__ import annotations

import math

from overread.errors import checked
from overread.reporting import words
from overread.reporting.gather import Run, shown, subgroups
from overread.stats.estimate import Estimate

FEW_POSITIVES = 50  # patients; below it, the interval of a sensitivity of .9 is wider than ± .08
RISKY = ("error",)


# -- the paragraph at the top ----------------------------------------------------------------------------------------


def summary(run: Run) -> str:
    """The result in a paragraph of plain words, with intervals."""
    if not run.estimates:
        return "The model has not been judged on a test set yet; this report shows what is there so far."
    counts = run.evaluation.get("counts") or {}
    opening = (
        f"The model was tested on {words.size(counts.get('images'), counts.get('patients'))}{_apart(run)}. "
    )
    body = _detection(run) if run.primary else _quantity(run) if run.kind == "quantity" else _together(run)
    return opening + body + _calibrated(run) + _weakest(run)


def _apart(run: Run) -> str:
    """Said only where the proof of the split says so."""
    shared = (run.split.get("proof") or {}).get("patients shared")
    if shared:
        return f", but {words.count(int(shared), 'patient')} stand on both sides of the split"
    return " that took no part in its training or in the choice of its threshold" if shared == 0 else ""


def _detection(run: Run) -> str:
    of, name = run.primary, run.called(run.primary)
    auc, sensitivity, specificity, ppv = (
        run.estimate(m, of) for m in ("auc", "sensitivity", "specificity", "ppv")
    )
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
    things = "findings" if run.kind == "findings" else "classes"
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
    found = [
        words.sentence(f["message"]) for f in run.audit.get("findings", ()) if f.get("severity") in RISKY
    ]
    proof = run.split.get("proof") or {}
    for key, what in (("patients shared", "patient"), ("duplicate groups shared", "group of duplicates")):
        if proof.get(key):
            words_ = words.count(int(proof[key]), what, "groups of duplicates" if "group" in what else "")
            found.append(f"The split shares {words_} between its parts: the result is too good to be true.")
    if (run.audit.get("shortcut") or {}).get("verdict") == "high":
        found.append(
            "The label can be told from source, image size or brightness alone; the model may have used that."
        )
    if run.broken_ledger:
        found.append(words.sentence(run.broken_ledger))
    if int(run.evaluation.get("looks") or 0) > 0:
        found.append(
            f"The test set had been looked at {words.times(int(run.evaluation['looks']))} before this result."
        )
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
    parts = (
        [run.primary] if run.primary in held else [name for name in run.primary.split("+") if name in held]
    )
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
