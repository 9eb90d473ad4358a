"""What the report says about the results: key numbers, tables of measures, operating points, looks, subgroups."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from overread.core.errors import checked
from overread.evaluation.curves import AbstentionCurve, SetCoverage
from overread.evaluation.decision.class_decision import ClassDecision
from overread.evaluation.metrics import metric_named, shown
from overread.evaluation.operating_point import AT_POINT, OperatingPoint
from overread.evaluation.questions import Subject
from overread.evaluation.subgroups import GroupTest
from overread.reporting import words
from overread.reporting.run import AgreementFile, Run, compared_metrics, shown_metrics, subgroups
from overread.reporting.sections import whole
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_said, p_text


@dataclass(frozen=True)
class KeyNumber:
    """A number at the top of the report."""

    name: str
    value: str
    interval: str
    note: str


def key_numbers(run: Run) -> tuple[KeyNumber, ...]:
    """At most four numbers for the top."""
    if run.task.dense:
        return tuple(_key_number(e) for m in shown("outlines top") if (e := run.estimate(m.name)))
    subject: Subject = "question" if run.primary else "quantity" if run.task.continuous else "all"
    of = run.primary or (run.names[0] if run.task.continuous else "")
    found = [run.estimate(metric.name, of) for metric in shown("top", (subject,))]
    if held := run.evaluation.endpoint:
        found = [main := run.estimate(*held.key), *(e for e in found if e is not main)][:4]
    return tuple(_key_number(e) for e in found if e is not None)


def trust_numbers(found: Iterable[Estimate]) -> tuple[KeyNumber, ...]:
    """The AUCs that the verdict rests on, side by side, under names that tell them apart."""
    return tuple(replace(_key_number(e), name=_beside(e)) for e in found)


def _beside(e: Estimate) -> str:
    what = "mean AUC" if not e.of else "AUC"
    if e.metric == "shortcut auc":
        return f"{what} without looking: source, size, brightness and frame alone"
    return f"{what} of the model among cases of one source" if "within" in e.metric else f"{what} of the model"


def _key_number(e: Estimate) -> KeyNumber:
    between = words.interval(e, 2)
    interval = f"{words.percent(e.level)} interval {between}{words.unit(e)}" if between else e.undefined
    return KeyNumber(words.label(e.metric), words.value(e, 2), interval, words.size(e.images, e.patients))


def overall(run: Run) -> list[Table]:
    """The tables of the main results."""
    if run.task.dense:
        tables = [_results("Outlines of objects", run, "outlines", "other", ("",))]
        return [table for table in tables if table.rows]
    primary, several = f"Telling {run.called(run.primary)} from the rest", f"All {run.task.plural} together"
    names = (run.primary, "") if run.task.binary else (run.primary,)
    told = (
        ("quantity", _results("Prediction of the quantity", run, "main", "quantity", run.names[:1])),
        *([("question", _results(primary, run, "main", "question", names))] if run.primary else []),
        ("all", _results(several, run, "main", "all", ("",))),
    )
    tables = [table for of, table in told if of in run.task.subjects]
    return [table for table in tables if table.rows]


@checked
def folds(run: Run) -> Table | None:
    """Cross-validation: the metrics of the held-out predictions of all folds as one test, and fold by fold.

    Those of learning curves: a threshold is chosen on these very predictions, and none is frozen for them.
    """
    whole = {(e.metric, e.of): e for e in run.folds if not e.where}
    names = sorted({e.where["fold"] for e in run.folds if set(e.where) == {"fold"}}, key=lambda name: (len(name), name))
    each = {(e.metric, e.of, e.where["fold"]): e for e in run.folds if set(e.where) == {"fold"}}
    first = run.names[0] if run.task.continuous and run.names else run.primary
    rows = []
    for metric in dict.fromkeys(m.name for m in shown("curve")):
        of = next((of for of in (first, "") if (metric, of) in whole), None)
        if of is not None:
            found = [each.get((metric, of, name)) for name in names]
            rows.append(
                (
                    words.label(metric),
                    words.cell(whole[metric, of]),
                    *(words.cell(e) if e else words.NOTHING for e in found),
                )
            )
    if not rows:
        return None
    caption = "Cross-validation: each patient by networks that have not seen him; all folds as one test, and each alone"
    return Table(caption, ("", "All folds", *(f"Fold {name}" for name in names)), tuple(rows))


@checked
def levels(run: Run) -> Table | None:
    """The same predictions at the levels of a tree, the classes that were learned first; None where no level was asked for."""
    rows = [
        (name, f"{len(at.names):,}", *(words.cell(e) if e else words.NOTHING for e in (at.estimate("accuracy"), at.estimate("balanced accuracy"), _area(at))))
        for name, at in (("the classes that were learned", run), *((words.name(level, 40), at) for level, at in run.levels))
    ]  # fmt: skip
    caption = (
        f"At levels of the tree: the probability of a class is the sum over those below it; {run.size} of the test set"
    )
    head = ("Level", "Classes", "Accuracy", "Balanced accuracy", "AUC (mean of more than two classes)")
    return Table(caption, head, tuple(rows)) if run.levels else None


def _area(run: Run) -> Estimate | None:
    return run.estimate("auc", run.primary) if run.task.binary else run.estimate("macro auc")


@checked
def training_classes(run: Run) -> Table | None:
    """The training classes that were cut from a tree; None where labels were learned as they stand."""
    if not run.partition:
        return None
    rows = [(c.name, ", ".join(words.name(label, 40) for label in c.labels), f"{c.images:,}", f"{c.patients:,}") for c in run.partition.classes]  # fmt: skip
    rows += [(f"no class: {c.name}", "labelled above every training class", f"{c.images:,}", f"{c.patients:,}") for c in run.partition.inner]  # fmt: skip
    rows += [(f"no class: {name}", "no training image", "0", "0") for name in run.partition.absent]
    how = (
        f"at most {run.partition.limit:,} training images a class"
        if run.partition.limit
        else f"the level {run.partition.level}"
    )
    named = tuple((words.name(name, 60), *rest) for name, *rest in rows)
    return Table(
        f"Training classes out of the tree: {how}", ("Class", "Labels", "Training images", "Patients"), named, 2
    )


@checked
def rest(run: Run) -> Table | None:
    """Further measures of telling the primary group; None where there is no such group."""
    table = _results("Further measures", run, "further", "question", (run.primary, "")) if run.primary else None
    return table if table and table.rows else None


def _results(caption: str, run: Run, place: str, subject: Subject, of: Iterable[str]) -> Table:
    """The metrics that are shown at a ``place``, one a row: of the first of ``of`` that has it."""
    found = [
        (m, e)
        for m in shown(place, (subject,))
        if (e := next(filter(None, (run.estimate(m.name, n) for n in of)), None))
    ]
    rows = tuple((m.label, *_cells(e), m.definition, _method(run, e)) for m, e in found)
    level = words.percent(found[0][1].level) if found else ""
    head = ("Measure", "Value", f"{level} interval", "What it says", "Method")
    return Table(f"{caption}: {run.size} of the test set", head, rows, kind="results")


def _method(run: Run, e: Estimate) -> str:
    """The method; the frozen point is told once, above the table."""
    steps = [step for step in e.method.split("; ") if not (run.evaluation.frozen and "frozen on tuning data" in step)]
    return words.name("; ".join(steps), 200)


def _cells(e: Estimate) -> tuple[str, str]:
    if e.undefined:
        return "undefined", e.undefined
    share = "" if e.count is None else f" ({e.count:,}/{e.images:,})"
    return words.value(e) + share, (words.interval(e) + words.unit(e) if words.interval(e) else words.NOTHING)


def each(run: Run) -> Table | None:
    """One row per class or finding, where there are several."""
    several = not (run.task.binary or run.task.continuous)
    names = [name for name in run.names if several and run.estimate("auc", name)]
    metrics = [m for m in shown("each class") if any(run.estimate(m.name, name) for name in names)]
    if not metrics:
        return None
    counts = run.evaluation.counts.per_class
    rows = tuple(
        (words.name(name, 32), whole(counts[name].images if name in counts else None), *(words.cell(run.estimate(m.name, name)) for m in metrics))
        for name in names
    )  # fmt: skip
    head = ("Against the rest", "Cases", *("PPV" if m.name == "ppv" else m.label for m in metrics))
    return Table("Each class or finding against the rest", head, rows)


@checked
def calls_table(run: Run) -> Table | None:
    """What was called what, one row a class or finding; None where nothing was called."""
    metrics = shown("calls")
    names = [of for of in dict.fromkeys(e.of for e in run.estimates) if run.known(metrics[1].name, of)]
    rows = tuple((run.called(of), *(_called(run.known(m.name, of)) for m in metrics)) for of in names)
    if not rows:
        return None
    rules = dict.fromkeys(e.method.partition("; ")[0] for of in names if (e := run.known(metrics[1].name, of)))
    return Table(f"Calls, in images: {words.name('; '.join(rules), 120)}", ("Of", *(m.label for m in metrics)), rows)


def _called(e: Estimate | None) -> str:
    if e is None:
        return words.NOTHING
    return f"{e.value:,.0f}" if metric_named(e.metric).unit == "images" else words.number(e.value)


@checked
def endpoint(run: Run) -> list[str]:
    """The primary endpoint in a sentence; nothing where none was named."""
    held = run.evaluation.endpoint
    if not held:
        return []
    e = run.estimate(*held.key)
    of = f" of {run.called(held.of)}" if held.of else ""
    return [f"The primary endpoint, {held.named}: {words.label(held.metric)}{of}, {words.in_sentence(e)}. Everything else is secondary."]  # fmt: skip


def points(run: Run) -> list[str]:
    """The frozen operating point in a sentence, not where each class has its own, see :func:`points_table`; and what
    the classes are called by."""
    point = [_point(run, point) for point in run.operating] if len(run.operating) == 1 else []
    return [*point, *([_decision(run, held)] if (held := run.evaluation.decision) else [])]


def _decision(run: Run, held: ClassDecision) -> str:
    rule = words.name(held.said, 80)
    given = "the calls below" if not held.moves else "what the most probable class would give stands beside them"
    return (f"Each case is called by {rule}, as one of {len(held.names)} classes: the rule was chosen on {words.name(held.chosen_on, 120)}{when_chosen(run)}. "
            f"Why: {words.name(held.why, 400)}." + (f" Accuracy, sensitivities and the rest are those of its calls; {given}." if held.moves else ""))  # fmt: skip


def points_table(run: Run) -> Table | None:
    """Several frozen operating points, one a row."""
    head = ("Label", "Threshold", "Rule", "Sensitivity on tuning data", "Specificity on tuning data")
    caption = f"Operating points, chosen on tuning data{when_chosen(run)}"
    names = [run.called(point.of) + (f", {point.name}" if point.name else "") for point in run.operating]
    return words.points_table(run.operating, names, head, caption, digits=0) if len(names) > 1 else None


@checked
def tested_points(run: Run) -> Table | None:
    """What each of several points of the same label reached on the test part; None where each label has one."""
    metrics = ("sensitivity", "specificity", "ppv", "npv")
    rows = tuple(
        (f"{run.called(point.of)}, {point.name}", *(words.cell(e) if (e := run.estimate(m, point.of, {AT_POINT: point.name})) else words.NOTHING for m in metrics))
        for point in run.operating if point.name
    )  # fmt: skip
    caption = "At each operating point, on the test part; cases are called by the first of each label"
    return Table(caption, ("Label and point", *map(words.label, metrics)), rows) if rows else None


@checked
def when_chosen(run: Run) -> str:
    """When the thresholds were chosen, to stand behind that they were: before the test set was opened only where the
    ledger shows it."""
    looks = run.evaluation.looks
    if looks:
        return f", when the test set had been looked at {words.times(looks)} before"
    return " and frozen before the test set was opened" if run.evaluation.about.ledger.entry else ""


def _point(run: Run, point: OperatingPoint) -> str:
    return (
        f"A case is flagged as {run.called(point.of)} at a score of {words.number(point.threshold, 3)} or more. The threshold was chosen "
        f"by the rule “{words.name(point.rule, 60)}” on {words.name(point.chosen_on, 120)}"
        f"{when_chosen(run)}. On the tuning data it had a sensitivity of {words.percent(point.sensitivity)} "
        f"and a specificity of {words.percent(point.specificity)}."
    )


def looks(run: Run) -> str:
    """How many times the test set has been looked at, in words."""
    if run.broken_ledger:
        return f"The ledger of looks at the test set cannot be trusted: {run.broken_ledger}"
    if run.looks is None and not run.judged:
        return ""
    before = run.evaluation.looks
    if before == 0:
        return "This was the first look at this test set."
    return (
        f"This test set had been looked at {words.times(before)} before. Every further look makes the result more "
        "optimistic: choices made after seeing it are fitted to it."
    )


def by_subgroup(run: Run) -> Table | None:
    """Every subgroup and source with the metrics of the forest plot."""
    groups, metrics = subgroups(run), shown_metrics(run)
    if run.task.dense:  # merges, splits and counts too, which have no gaps
        metrics = [(m.name, "") for m in shown("outlines subgroups") if run.estimate(m.name)]
    if not groups or not metrics:
        return None
    rows = []
    for column, value in groups:
        found = [run.estimate(metric, of, {column: value}) for metric, of in metrics]
        first = next((e for e in found if e), None)
        sizes = (f"{first.images:,}", f"{first.patients:,}") if first else (words.NOTHING, words.NOTHING)
        rows.append((_group({column: value}), *sizes, *map(words.cell, found)))
    head = ("Group", "Images", "Patients", *(words.label(metric) for metric, _ in metrics))
    return Table(f"Results by subgroup and source ({words.percent(run.level)} intervals)", head, tuple(rows))


_GAPS = 40  # rows of the table; all are in curves.json


@checked
def gaps_table(run: Run) -> Table | None:
    """What every subgroup is above or below its reference, with its test after Holm's correction."""
    metrics = compared_metrics(run)
    gaps = [gap for gap in run.evaluation.gaps if (gap.metric, gap.of) in metrics]
    rows = tuple(
        (_group(gap.where), words.label(gap.metric), words.name(gap.reference, 40), words.cell(gap.estimate),
         p_text(gap.p), p_text(gap.adjusted))
        for gap in gaps[:_GAPS]
    )  # fmt: skip
    head = ("Group", "Measure", "Against", "Difference (interval)", "p", "p after Holm")
    return Table("How far every subgroup is from the others", head, rows, 3) if rows else None


def _group(where: dict[str, str]) -> str:
    return ", ".join(f"{words.name(column)}: {words.name(value) or 'unknown'}" for column, value in where.items())


@checked
def heterogeneity(run: Run) -> list[str]:
    """A sentence for each column: do its groups differ at all?"""
    metrics = compared_metrics(run)[:1]
    return [_differ(test) for test in run.evaluation.heterogeneity if (test.metric, test.of) in metrics]


def _differ(test: GroupTest) -> str:
    column, name = words.name(test.column), words.label(test.metric)
    if test.undefined or math.isnan(test.p):
        return (
            f"Whether {name} differs by {column} could not be tested: {words.name(test.undefined or 'no test', 120)}."
        )
    if math.isfinite(test.adjusted):  # two groups: the test of their gap, as it stands in the table
        found = "differs" if test.adjusted < 0.05 else "was not shown to differ"
        return f"{name} {found} between the two groups of {column} ({p_said(test.p)}, {p_text(test.adjusted)} after Holm’s correction)."
    found = "differs" if test.p < 0.05 else "was not shown to differ"
    return f"{name} {found} between the {test.groups} groups of {column} that could be judged ({p_said(test.p)}, test of all groups at once, not corrected for the number of columns)."


@checked
def everything(run: Run, limit: int = 400) -> Table:
    """Every stored estimate, one a row, as far as a page can hold them."""
    rows = tuple(
        (words.label(e.metric), words.name(run.called(e.of) if e.of else words.NOTHING, 40), _group(e.where) or "all",
         words.cell(e), f"{e.images:,}", f"{e.patients:,}", words.name(e.method, 160))
        for e in run.estimates[:limit]
    )  # fmt: skip
    many = len(run.estimates)
    left = f"; the first {limit:,} of {many:,}, all are in metrics.json" if many > limit else ""
    head = ("Measure", "Of", "Among", "Value (interval)", "Images", "Patients", "Method")
    return Table(f"Every estimate{left}", head, rows, 3, "all")


# -- how far the readers agree who made the labels, and what that means for the model: from ``agreement.json`` ----


_RULES = {
    "majority": "the answer that most of them gave",
    "median": "the answer in the middle of theirs",
    "dawid-skene": "the most probable answer, given how often each of them is right (Dawid and Skene 1979)",
}
_ROWS = 40


@checked
def graders_table(run: Run) -> Table | None:
    """Every measure of agreement, one a row; None where the labels are not of several readers."""
    found = run.agreement.estimates
    rows = tuple(
        (words.label(e.metric), words.name(e.of, 40) or "all", words.cell(e), f"{e.images:,}", metric_named(e.metric).definition)
        for e in found[:_ROWS]
    )  # fmt: skip
    left = f"; the first {_ROWS} of {len(found)}, all are in agreement.json" if len(found) > _ROWS else ""
    value = f"Value ({words.percent(found[0].level) if found else ''} interval)"
    head = ("Measure", "Of", value, "Cases", "What it says")
    return Table(f"Agreement of the readers{left}", head, rows, 2, "agreement") if rows else None


@checked
def graders_words(run: Run) -> list[str]:
    """Who made the labels, how far they agree, and the most that any model could reach against one of them."""
    held, every = run.agreement, {e.metric: e for e in run.agreement.estimates if not (e.of or e.undefined)}
    if not held.readers:
        return []
    rule = _RULES.get(held.rule, words.name(held.rule or "a consensus", 40))
    answers, cases = words.count(held.answers, "answer"), words.count(held.cases, "case")
    asked = f" to {words.count(len(held.questions), 'question')}" if held.questions else ""
    readers = f"{words.count(len(held.readers), 'reader')} gave {answers}{asked} on {cases}; the label is {rule}."
    return [f"{readers}{_undecided(held)}{_agreement(every)}", *_ceiling(every)]


def _undecided(held: AgreementFile) -> str:
    tied, silent = held.undecided.tied, held.undecided.no_answer
    if not tied + silent:
        return ""
    what = "answer" if held.questions else "case"
    return f" {words.count(tied + silent, what)} got no label: {tied:,} tied, {silent:,} without an answer."


def _agreement(every: dict[str, Estimate]) -> str:
    if "agreement" not in every:
        return ""
    kappa = f"; Fleiss’ kappa, the agreement beyond chance, is {words.in_sentence(every['fleiss kappa'])}" if "fleiss kappa" in every else ""  # fmt: skip
    return f" Two readers of a case give the same answer in {words.in_sentence(every['agreement'])} of the cases{kappa}."  # fmt: skip


def _ceiling(every: dict[str, Estimate]) -> list[str]:
    if "ceiling" not in every:
        return []
    panel = f" The majority of the other readers reaches {words.in_sentence(every['panel accuracy'])}." if "panel accuracy" in every else ""  # fmt: skip
    return [f"Against the answers of a single reader no model, however good, could be right in more than {words.in_sentence(every['ceiling'])} of the cases, "
            f"because the readers differ among themselves.{panel} An accuracy near that number says that the model is as "
            "good as the labels allow to see, not that it errs in the rest. Here it is judged against the one label made of all their answers."]  # fmt: skip


# -- what a model says when it is not sure: its sets of answers, and the cases on which it stays silent -------------


_MOST = 8  # findings that are told one by one


@checked
def unsure(run: Run) -> list[str]:
    """How often the sets or intervals held the truth, and how wrong the model is on the cases it is surest of."""
    return [*_sets(run), *_abstention(run)]


@checked
def surest_half(curve: AbstentionCurve) -> tuple[float, float]:
    """The share of errors among all cases, and among the half of which the model is surest.

    >>> surest_half(AbstentionCurve(coverage=(0.5, 1.0), risk=(0.1, 0.3)))
    (0.3, 0.1)
    """
    every = range(len(curve.coverage))
    nearest = min(every, key=lambda i: abs(curve.coverage[i] - 0.5))
    last = max(every, key=lambda i: curve.coverage[i])
    return curve.risk[last], curve.risk[nearest]


def _sets(run: Run) -> list[str]:
    every = [group for group in run.conformal.groups if group.group == "all"]
    if not every:
        return []
    what = "an interval" if run.task.continuous else "a set of answers"
    shares = "; ".join(_coverage(run, group) for group in every[:_MOST])
    left = f"; {len(every) - _MOST} more are in the figure" if len(every) > _MOST else ""
    return [f"Where it may answer with {what}, made on tuning data to hold the truth of {words.percent(run.conformal.level)} of new images, "
            f"the truth was in {shares}{left}."]  # fmt: skip


def _coverage(run: Run, group: SetCoverage) -> str:
    found = group.coverage
    if not math.isfinite(found.value):
        return f"an unknown share ({words.name(group.undefined or 'undefined', 80)})"
    share = words.in_sentence(Estimate("set coverage", found.value, found.low, found.high, run.level))
    of = f" for {run.called(group.of)}" if group.of and not run.task.continuous else ""
    if math.isnan(group.size):
        return share + of
    size = words.number(group.size, 2)
    width = f"a mean width of {size} in the unit of the table" if run.task.continuous else f"a mean of {size} answers"
    return f"{share}{of}, with {width}"


def _abstention(run: Run) -> list[str]:
    if not run.abstention:
        return []
    halves = {of: surest_half(curve) for of, curve in run.abstention.items()}
    shares = [
        f"{run.called(of) + ': ' if of else ''}{words.percent(every, 1)} of all cases, {words.percent(half, 1)} of the half it is surest of"
        for of, (every, half) in list(halves.items())[:_MOST]
    ]
    falls = all(half < every for every, half in halves.values())
    rest = " Its confidence tells where a reader is needed most." if falls else ""
    return [f"By its most probable answer it is wrong on {'; '.join(shares)}.{rest}"]
