"""What the numbers mean and what to beware of: rules over stored findings, no judgement of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from overread.core.errors import checked
from overread.core.phrases import command_of
from overread.evaluation.metrics import metric_named, shown
from overread.evaluation.questions import Subject
from overread.evaluation.subgroups import FEWEST
from overread.reporting import words
from overread.reporting.figures.curves import at_the_end
from overread.reporting.outlined.outline_results import in_words, lost_objects
from overread.reporting.run import Run, shown_metrics, subgroups
from overread.reporting.slides.slide_results import lesion_line
from overread.stats.estimate import Estimate

FEW_POSITIVES = 50  # patients; below it, the interval of a sensitivity of .9 is wider than ± .08
_WORST_FIRST = {"error": 0, "warning": 1}


# -- the paragraph at the top ----------------------------------------------------------------------------------------


def summary(run: Run) -> str:
    """The result in a paragraph of plain words, with intervals."""
    if not run.estimates:
        return "The model has not been judged on a test set yet; this report shows what is there so far."
    if run.task.dense:
        body = in_words(run)
    else:
        body = _detection(run) if run.primary else _quantity(run) if run.task.continuous else _several(run)
    return f"The model was tested on {run.size}{_apart(run)}. {body}{_calibrated(run)}{_weakest(run)}"


def _apart(run: Run) -> str:
    """Said only where the proof of the split says so."""
    shared = run.split.proof.patients_shared
    if shared:
        return f", but {words.count(shared, 'patient')} stand on both sides of the split"
    return " that took no part in its training or in the choice of its threshold" if shared == 0 else ""


def _detection(run: Run) -> str:
    name, say = run.called(run.primary), words.in_sentence
    auc, sensitivity, specificity, ppv = (run.known(m, run.primary) for m in ("auc", "sensitivity", "specificity", "ppv"))  # fmt: skip
    lines = []
    if auc:
        lines.append(
            f"It told {name} cases from the others with an AUC of {say(auc)}; 0.5 is the toss of a coin and 1 is perfect."
        )
    if sensitivity and specificity:
        lines.append(
            f"At its operating point it flagged {say(sensitivity)} of the {name} cases and cleared {say(specificity)} of the others."
        )
    if ppv and run.curve.pr:
        lines.append(f"Of the cases it flagged, {say(ppv)} were {name}; this holds where {words.percent(run.curve.pr.prevalence)} of all cases are, "
                     "as here, and is lower where fewer are.")  # fmt: skip
    return "".join(f"{line} " for line in lines)


def _several(run: Run) -> str:
    macro, balanced = run.estimate("macro auc"), run.estimate("balanced accuracy")
    things, many, lines = "findings" if run.task.multilabel else "classes", len(run.names), []
    if macro:
        lines.append(
            f"Over the {many} {things} the mean AUC was {words.in_sentence(macro)}; 0.5 is the toss of a coin and 1 is perfect."
        )
    if balanced:
        lines.append(f"It called {words.in_sentence(balanced)} of the cases of a class correctly, on average over the classes; "
                     f"guessing would reach {words.percent(1 / max(1, many))}.")  # fmt: skip
    return "".join(f"{line} " for line in lines)


def _quantity(run: Run) -> str:
    mae, r2 = run.estimate("mae", run.names[0]), run.estimate("r2", run.names[0])
    text = f"It missed the true value by {words.in_sentence(mae)} on average" if mae else ""
    return text + (f" and explained {words.in_sentence(r2)} of its variance. " if r2 else ". ")


def _calibrated(run: Run) -> str:
    verdict, slope = run.evaluation.calibration, run.known("calibration slope", run.primary)
    if verdict == "poor":
        return "Its probabilities should not be read as risks before they are recalibrated. "
    if verdict != "not shown":
        return ""
    within = f": the calibration slope is {words.in_sentence(slope)}, where 1 is ideal, and whatever lies in that interval remains possible" if slope else ""  # fmt: skip
    return f"These cases do not show that its probabilities are off, which does not show that they are right{within}. "


def _weakest(run: Run) -> str:
    low = below(run)
    if not low:
        return ""
    worst = min(_judged_groups(run), key=_value)
    others = "; ".join(f"where {_where(group)}, {words.in_sentence(group[2])}" for group in low[:4] if group != worst)
    also = "also " if worst in low else ""
    more = f"Its whole interval is below the value of all cases {also}{others}. " if others else ""
    return (
        f"It did least well where {_where(worst)}: {words.label(worst[2].metric)} {words.in_sentence(worst[2])}. {more}"
    )


Group = tuple[str, str, Estimate]


def _where(group: Group) -> str:
    column, value, _ = group
    return f"{words.name(column)} is {words.name(value) or 'unknown'}"


def _value(group: Group) -> float:
    return group[2].value


def _judged_groups(run: Run) -> list[Group]:
    """(column, value, estimate) of every judged subgroup in the first metric of which higher is better."""
    metrics = [pair for pair in shown_metrics(run) if metric_named(pair[0]).better == "higher"][:1]
    every = [(c, v, run.estimate(m, of, {c: v})) for m, of in metrics for c, v in subgroups(run)]
    return [(c, v, e) for c, v, e in every if e and not e.undefined]


def below(run: Run) -> list[Group]:
    """The judged subgroups whose whole interval lies below the overall value, the lowest first."""
    found = [(group, run.known(group[2].metric, group[2].of)) for group in _judged_groups(run)]
    return sorted((group for group, overall in found if overall and group[2].high < overall.value), key=_value)


@checked
def elsewhere(run: Run) -> str:
    """Predictive values where the model will be used, if that was asked."""
    ppv, npv = (run.known(f"{m} at prevalence", run.primary) for m in ("ppv", "npv"))
    if not (run.primary and ppv and npv):
        return ""
    prevalence = run.curve.decision.prevalence
    where = f"{words.share(prevalence)} of all cases are" if prevalence is not None else "it is as common as was asked,"
    return (
        f"Where {where} {run.called(run.primary)}, {words.in_sentence(ppv)} of the flagged cases would be, and "
        f"{words.in_sentence(npv)} of the cleared ones would not."
    )


# -- whether to trust it ---------------------------------------------------------------------------------------------

#: From this AUC on, what can be told without looking is worth a word; from this fall on, so is an AUC within sources.
TELLING, FALL = 0.7, 0.05
#: What the verdict begins with, by how bad the worst reason is.
VERDICTS = (
    "Nothing in this run speaks against the result.",
    "To be read with reservations.",
    "Do not rely on it yet.",
    "Not to be trusted: the study is unsound.",
)  # fmt: skip
RESERVED, DOUBTFUL, UNSOUND = 1, 2, 3


@dataclass(frozen=True)
class Trust:
    """Whether the result can be trusted: a ``verdict`` and the ``reasons`` for it, the worst first.

    ``grade``: the place of the verdict in :data:`VERDICTS`. ``numbers``: what it rests on, side by side: the model's
    AUC, what is told without looking, and the AUC within sources.
    """

    grade: int
    verdict: str
    reasons: tuple[str, ...]
    numbers: tuple[Estimate, ...]


@checked
def trust(run: Run) -> Trust:
    """The verdict of a judged run: what speaks against its result, from the audit, the split, the ledger and the numbers."""
    found = [*_unsound(run), *_by_shortcut(run), *_warned(run), *_weak_evidence(run)]
    found = sorted(dict.fromkeys(found), key=lambda reason: -reason[0])
    grade = max((grade for grade, _ in found), default=0)
    return Trust(grade, VERDICTS[grade], tuple(reason for _, reason in found), _side_by_side(run))


@checked
def brief(run: Run) -> list[str]:
    """The result in six lines for a terminal: what it was tested on, how good it is, whether to trust it, where the rest is."""
    if not run.estimates:
        return ["The model has not been judged on a test set."]
    found = trust(run)
    of = _main_area(run)[1]
    place: tuple[Subject, ...] = ("question",) if run.primary else ("quantity",) if run.task.continuous else ("all",)
    names = [m.name for m in (shown("outlines top") if run.task.dense else shown("top", place))]
    subject = run.names[0] if run.task.continuous else of
    top = [e for name in names if (e := run.known(name, subject))]
    tell = lambda many: "; ".join(f"{words.label(e.metric)} {words.in_sentence(e)}" for e in many)
    beside = [f"{'without looking' if e.metric == 'shortcut auc' else 'among cases of one source'} {words.in_sentence(e)}" for e in found.numbers[1:] if not e.undefined]  # fmt: skip
    reasons = [*found.reasons, *([] if found.reasons else soundness(run))]
    more = (
        f" (and {words.count(len(reasons) - 1, 'other reason')} in the report)"
        if len(reasons) > 1 and found.reasons
        else ""
    )
    lines = [
        f"Tested on {run.size}" + (f", looked at {words.times(run.evaluation.looks)} before" if run.evaluation.looks else ""),
        tell(top[:1]),
        tell(top[1:]),
        lesion_line(run.folder),
        f"AUC {'; '.join(beside)}" if beside else "",
        f"{found.verdict} {reasons[0] if reasons else ''}{more}".strip(),
        f"All numbers: {run.folder / 'evaluation' / 'metrics.json'}, or --verbose; for reading: {run.folder / 'report.html'}",
    ]  # fmt: skip
    return [line for line in lines if line]


def cautions(run: Run) -> list[str]:
    """What a reader must know before believing the numbers, the worst first; empty where nothing was found."""
    return list(trust(run).reasons)


def _main_area(run: Run) -> tuple[str, str]:
    """The metric and the ``of`` of the AUC that stands for the run."""
    return ("auc", run.primary) if run.primary else ("macro auc", "")


def _side_by_side(run: Run) -> tuple[Estimate, ...]:
    metric, of = _main_area(run)
    asked = ((metric, of), ("shortcut auc", of), (f"{metric} within sources", of))
    found = [run.estimate(name, of) for name, of in asked]
    return tuple(e for e in found if e) if found[0] and len(list(filter(None, found))) > 1 else ()


Reason = tuple[int, str]


def _unsound(run: Run) -> Iterator[Reason]:
    despite = f" The run went on despite it (--despite {', '.join(run.study.despite)})." if run.study.despite else ""
    for f in run.audit.findings:
        if f.severity == "error":
            yield UNSOUND, words.sentence(f.message) + (despite if f.kind in run.study.despite else "")
    proof = run.split.proof
    patients = words.count(proof.patients_shared or 0, "patient")
    groups = words.count(proof.duplicate_groups_shared or 0, "group of duplicates", "groups of duplicates")
    for shared, who in ((proof.patients_shared, patients), (proof.duplicate_groups_shared, groups)):
        if shared:
            yield UNSOUND, f"The split shares {who} between its parts: the result is too good to be true."
    if run.broken_ledger:
        yield UNSOUND, words.sentence(run.broken_ledger)


def _by_shortcut(run: Run) -> Iterator[Reason]:
    """What the result may owe to source, size, brightness and frame."""
    metric, of = _main_area(run)
    area, alone, beyond, within = (run.known(m, of) for m in (metric, "shortcut auc", "auc beyond shortcut", f"{metric} within sources"))  # fmt: skip
    say, name = words.in_sentence, words.label(metric)
    if alone and alone.value >= TELLING and alone.low > 0.5:
        what = (
            "Source, size, file and glass of the slides"
            if run.audit.shortcut.may_be_the_disease
            else "Source, size, brightness and frame of the images"
        )
        line = f"{what} alone reach an {name} of {say(alone)} on the same test cases"
        if beyond and beyond.low <= 0:
            yield DOUBTFUL, f"{line}; the model is not shown to be better: it differs by {say(beyond)}."
        else:
            yield DOUBTFUL, f"{line}: the model may have learnt them in place of the disease."
    elif not alone and run.audit.shortcut.verdict == "high":
        yield (
            DOUBTFUL,
            f"The label can be told from source, image size or {'file' if run.audit.shortcut.may_be_the_disease else 'brightness'} alone; the model may have used that.",
        )
    if area and within and within.low <= 0.5 < area.low:
        yield DOUBTFUL, f"Among cases of one source it is not shown to be better than a coin: {name} {say(within)}."
    elif area and within and (area.value - within.value >= FALL or within.high < area.value):
        yield DOUBTFUL, f"Among cases of one source its {name} is {say(within)}, over all {words.value(area, 2)}: part of the result comes from telling the sources apart."  # fmt: skip
    if area and run.audit and not run.audit.counts.sources:
        yield RESERVED, "No column says where an image comes from: whether the model tells sources apart in place of the disease could not be looked into (--source)."  # fmt: skip


def _warned(run: Run) -> Iterator[Reason]:
    """What the audit warned of, but for the shortcut, which is judged on the test cases where there are any."""
    judged = run.known("shortcut auc", _main_area(run)[1])
    for f in run.audit.findings:
        if f.severity == "warning" and not (f.kind == "shortcut" and judged):
            yield RESERVED, words.sentence(f.message)


def _weak_evidence(run: Run) -> Iterator[Reason]:
    yield from ((DOUBTFUL, line) for line in lost_objects(run))
    if run.evaluation.looks > 0:
        yield RESERVED, f"The test set had been looked at {words.times(run.evaluation.looks)} before this result."
    positives = positive_patients(run)
    if run.primary and positives is not None and positives < FEW_POSITIVES:
        yield (RESERVED, f"{'Only ' if positives else ''}{words.count(positives, 'patient')} of the test set had {run.called(run.primary)} images: the intervals are wide, "
               "and they, not the values, are the result.")  # fmt: skip
    if run.primary and run.curve and not run.operating:
        yield RESERVED, "No threshold was frozen on tuning data: sensitivity and specificity hold at the stated default only."  # fmt: skip


def positive_patients(run: Run) -> int | None:
    """Patients of the test set in the primary group."""
    counts = run.evaluation.counts.per_class
    names = [run.primary] if run.primary in counts else [name for name in run.primary.split("+") if name in counts]
    return sum(counts[name].patients for name in names) if names else None


def soundness(run: Run) -> list[str]:
    """What was checked and found sound."""
    sound = {
        "The audit found no error.": bool(run.audit) and not any(f.severity == "error" for f in run.audit.findings),
        "No patient stands on two sides of the split.": run.split.proof.patients_shared == 0,
        "This was the first look at the test set.": run.judged and run.looks is not None and not run.evaluation.looks,
    }
    return [line for line, holds in sound.items() if holds]


# -- what to do next: concrete steps from stored findings, the most urgent first; no judgement of its own ---------


WIDE = 0.10  # of an AUC's interval
RISING = 0.005  # of a tuning score over a quarter of the epochs


@dataclass(frozen=True)
class Advice:
    """One thing to do: what, the reason, and the command that does it (``""`` where a person must)."""

    what: str
    reason: str
    command: str = ""


def next_steps(run: Run) -> list[Advice]:
    """Concrete steps, the most urgent first."""
    return [*_for_the_data(run), *_for_the_model(run), *_for_its_use(run)]


def _for_the_data(run: Run) -> Iterator[Advice]:
    tested = run.split.proof.parts.get("test")
    if not run.estimates and tested and tested.patients < FEWEST:
        yield Advice(
            f"Add patients to the test part: it has {tested.patients}.", f"Nothing is judged below {FEWEST} patients."
        )
    elif not run.estimates:
        yield Advice("Finish the run.", "Some stages have not run yet; the same command goes on where it stopped.",
                     command_of(["overread", "run", f"{run.place}/study.toml", "-o", run.place]))  # fmt: skip
    found = [f for f in run.audit.findings if f.severity in _WORST_FIRST and f.advice and f.kind != "shortcut"]
    for f in sorted(found, key=lambda f: _WORST_FIRST[f.severity])[:6]:
        yield Advice(words.sentence(f.message), words.sentence(f.advice))
    shortcut, sources = run.audit.shortcut, list(run.audit.counts.sources)
    if shortcut.verdict in ("moderate", "high"):
        command = _again(run, "elsewhere", "--leave-out", words.name(sources[-1])) if len(sources) > 1 else ""  # fmt: skip
        yield Advice("Rule out the shortcut: test on a source the model has not seen, and look at what it attends to.",
                     f"Source, size and {'file' if shortcut.may_be_the_disease else 'brightness'} alone tell the label with an AUC of {words.number(shortcut.auc, 2)}.", command)  # fmt: skip
    metric, of = (shown_metrics(run) or [("auc", run.primary)])[0]
    estimate = run.known(metric, of)
    if "auc" in metric and estimate and (width := estimate.high - estimate.low) > WIDE:
        wanted = math.ceil(estimate.patients * (width / 0.06) ** 2 / 10) * 10
        yield Advice(f"Test on more patients: about {wanted:,} for an interval of ± 0.03.",
                     f"The interval of the {words.label(metric)} is {words.number(width, 2)} wide with {words.count(estimate.patients, 'patient')}; "
                     "its width falls with the square root of their number.")  # fmt: skip


def _for_the_model(run: Run) -> Iterator[Advice]:
    if advice := _training(run):
        yield advice
    if run.evaluation.calibration == "poor":
        slope = words.in_sentence(run.estimate("calibration slope", run.primary))
        yield Advice("Do not show the probabilities as risks before recalibrating them on tuning data.",
                     f"They differ from the observed frequencies by more than chance would make them; calibration slope {slope}.")  # fmt: skip
    for column, value, estimate in below(run)[:1]:
        yield Advice(f"Look at the errors where {words.name(column)} = {words.name(value) or 'unknown'}, and gather more such patients for training.",
                     f"There the {words.label(estimate.metric)} is {words.in_sentence(estimate)}, its whole interval below the overall value. With many "
                     "subgroups one such finding can be chance: confirm it on new data.")  # fmt: skip
    if run.overlays:
        yield Advice("Have a second reader look at the worst images of section 3, without the model’s outlines.",
                     "Among them true outlines that are wrong are common; correcting them is often worth more than tuning.")  # fmt: skip
    if run.gallery:
        yield Advice("Have a second reader look at the most confident errors of section 8, without the model’s call.",
                     "Among confident errors, wrong labels and unusable images are common; correcting them is often worth more than tuning.")  # fmt: skip


def _training(run: Run) -> Advice | None:
    if beyond := at_the_end(run.history):
        tried = sorted(row.penalty for row in run.history)
        further = (
            [tried[0] / 100, tried[0] / 10, *tried]
            if "smallest" in beyond
            else [*tried, tried[-1] * 10, tried[-1] * 100]
        )
        return Advice("Try penalties beyond the one that was chosen.", f"The penalty of the linear head is at the end of the grid. {beyond}",
                      _again(run, "penalties", "--set", f"penalties={[float(f'{p:g}') for p in further]}"))  # fmt: skip
    rows = [row for row in run.history if not math.isnan(row.tuning_score + row.epoch)]
    if rows and any("budget was used up" in decision.why for decision in run.model.decisions):
        program = "overread demo" if run.record.command.startswith("overread demo") else "overread run TABLE …"
        return Advice("Give it more time.", f"The budget ended training after {words.count(len(rows), 'epoch')}.",
                      _again(run, "longer", "--budget", _longer(run), program=program))  # fmt: skip
    if len(rows) < 4:
        return None
    last = rows[-1]
    if last.tuning_score - rows[len(rows) * 3 // 4 - 1].tuning_score > RISING:
        return Advice("Train for longer.", "The tuning score was still rising in the last quarter of the epochs.",
                      _again(run, "longer", "--epochs", 2 * len(rows)))  # fmt: skip
    if last.train_loss and last.tuning_loss > 2 * last.train_loss:
        return Advice("Add patients or stronger augmentation.", f"The training loss ended at {words.number(last.train_loss, 2)}, the tuning loss at "
                      f"{words.number(last.tuning_loss, 2)}: the network remembers its training images.")  # fmt: skip
    return None


def _again(run: Run, ending: str, *options: object, program: str = "overread run TABLE …") -> str:
    """The command that makes this study with other ``options``, in a folder beside it."""
    return f"{program} {command_of([*options, '-o', f'{run.place}-{ending}'])}"


def _longer(run: Run) -> str:
    """Four times the budget of the study, in whole minutes; 30 minutes where it cannot be read."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", run.study.budget)
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    return f"{math.ceil(4 * (3600 * hours + 60 * minutes + seconds) / 60) or 30}m"


def _for_its_use(run: Run) -> Iterator[Advice]:
    if run.primary and [point.rule for point in run.operating] == ["youden"]:
        yield Advice("Decide what the model is for, and fix the sensitivity or specificity that this use needs.",
                     "Youden’s rule weighs a missed case and a false alarm alike; few uses do. The other point needs another test set, or "
                     "its figures are too good.", _again(run, "sensitive", "--sensitivity", 0.95))  # fmt: skip
    if run.estimates:
        sources = len(run.audit.counts.sources)
        new = "NEW.csv", "--mask", "mask", "-o", "new"
        commands = (["overread", "predict", run.place, *new], ["overread", "evaluate", "new/outlines.csv"])
        several = f"Unless the split says otherwise, the test patients come from the same {sources} sources as the training patients."
        yield Advice("Test the frozen model, with its threshold, on patients of another hospital before any use.",
                     several if sources > 1 else "All images come from one source.",
                     " && ".join(map(command_of, commands)) if run.task.dense else command_of(["overread", "predict", run.place, "NEW.csv", "-o", "new.csv"]) + " && " + command_of(["overread", "evaluate", "new.csv", "--tuning", f"{run.place}/predictions/tuning.csv"]))  # fmt: skip
