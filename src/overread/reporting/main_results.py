"""What the report says about the results: key numbers, tables of measures, operating points, looks, subgroups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.run import Run, compared, gap_of, read_estimate, shown, subgroups
from overread.reporting.sections import Table, whole
from overread.stats.estimate import Estimate


@dataclass(frozen=True)
class KeyNumber:
    """A number at the top of the report."""

    name: str
    value: str
    interval: str
    note: str


_DETECTION = ("auc", "average precision", "sensitivity", "specificity", "ppv", "npv", "ppv at prevalence", "npv at prevalence", "accuracy",
              "brier", "calibration slope", "calibration intercept", "ece", "ece if calibrated")  # fmt: skip
#: What few ask for: folded up.
_REST = ("standardised partial auc", "partial auc", "f1", "mcc", "top accuracy", "balanced accuracy", "brier reliability", "brier resolution",
         "brier uncertainty")  # fmt: skip
_TOGETHER = (
    "macro auc",
    "accuracy",
    "balanced accuracy",
    "macro f1",
    "mcc",
    "kappa",
    "quadratic kappa",
    "brier",
    "ece",
    "ece if calibrated",
)
_QUANTITY = ("mae", "rmse", "bias", "r2", "pearson", "concordance", "c-index")
_SHORT = {"ppv": "PPV"}
_EACH = ("auc", "average precision", "sensitivity", "specificity", "ppv", "f1")


def key_numbers(run: Run) -> tuple[KeyNumber, ...]:
    """At most four numbers for the top."""
    if run.primary:
        wanted = [(m, run.primary) for m in ("auc", "sensitivity", "specificity", "ppv")]
    elif run.continuous:
        wanted = [(m, run.names[0]) for m in ("mae", "rmse", "r2", "pearson")]
    else:
        wanted = [(m, "") for m in ("macro auc", "balanced accuracy", "accuracy", "macro f1")]
    found = [run.estimate(metric, of) for metric, of in wanted]
    return tuple(_key_number(e) for e in found if e is not None)


def _key_number(e: Estimate) -> KeyNumber:
    between = words.interval(e, 2)
    interval = f"{words.percent(e.level)} interval {between}{words.unit(e)}" if between else e.undefined
    return KeyNumber(words.metric(e.metric).name, words.value(e, 2), interval, words.size(e.images, e.patients))


def overall(run: Run) -> list[Table]:
    """The tables of the main results."""
    if run.continuous:
        tables = [_results("Prediction of the quantity", run, _QUANTITY, run.names[:1])]
    elif run.binary:
        tables = [_results(f"Telling {run.called(run.primary)} from the rest", run, _DETECTION, (run.primary, ""))]
    else:
        told = (
            [_results(f"Telling {run.called(run.primary)} from the rest", run, _DETECTION, (run.primary,))]
            if run.primary
            else []
        )
        tables = [*told, _results(f"All {'findings' if run.multilabel else 'classes'} together", run, _TOGETHER, ("",))]
    return [table for table in tables if table.rows]


@checked
def rest(run: Run) -> Table | None:
    """Further measures of telling the primary group; None where there is no such group."""
    table = _results("Further measures", run, _REST, (run.primary, "")) if run.primary else None
    return table if table and table.rows else None


def _results(caption: str, run: Run, metrics: Sequence[str], of: Sequence[str]) -> Table:
    found = [e for metric in metrics if (e := next(filter(None, (run.estimate(metric, name) for name in of)), None))]
    rows = tuple((words.metric(e.metric).name, *_cells(e), words.metric(e.metric).says, _method(run, e)) for e in found)
    counts = run.evaluation.get("counts") or {}
    about = words.size(counts.get("images"), counts.get("patients"))
    level = words.percent(found[0].level) if found else ""
    return Table(
        f"{caption}: {about} of the test set",
        ("Measure", "Value", f"{level} interval", "What it says", "Method"),
        rows,
        kind="results",
    )


def _method(run: Run, e: Estimate) -> str:
    """The method; the frozen point is told once, above the table."""
    told = [part for part in e.method.split("; ") if not (run.operating and "frozen on tuning data" in part)]
    return words.name("; ".join(told), 200)


def _cells(e: Estimate) -> tuple[str, str]:
    if e.undefined:
        return "undefined", e.undefined
    return words.value(e), (words.interval(e) + words.unit(e) if words.interval(e) else words.NOTHING)


def each(run: Run) -> Table | None:
    """One row per class or finding, where there are several."""
    names = (
        [name for name in run.names if run.estimate("auc", name)]
        if run.task and not run.binary and not run.continuous
        else []
    )
    metrics = [m for m in _EACH if any(run.estimate(m, name) for name in names)]
    if not metrics:
        return None
    rows = tuple(
        (words.name(name, 32), _positives(run, name), *(short(run.estimate(m, name)) for m in metrics))
        for name in names
    )
    head = ("Against the rest", "Cases", *(_SHORT.get(m, words.metric(m).name) for m in metrics))
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
    """The frozen operating point in a sentence; nothing where each class has its own, see :func:`points_table`."""
    return [_point(run, point) for point in run.operating] if len(run.operating) == 1 else []


def points_table(run: Run) -> Table | None:
    """Several frozen operating points, one a row."""
    rows = tuple(
        (run.called("+".join(map(str, p.get("positive") or ()))), words.number(p.get("threshold")), words.name(p.get("rule", ""), 60),
         words.percent(p.get("sensitivity")), words.percent(p.get("specificity")))
        for p in run.operating
    )  # fmt: skip
    head = ("Label", "Threshold", "Rule", "Sensitivity on tuning data", "Specificity on tuning data")
    caption = "Operating points, chosen on tuning data and frozen before the test set was opened"
    return Table(caption, head, rows) if len(rows) > 1 else None


def _point(run: Run, point: dict[str, Any]) -> str:
    group = run.called("+".join(map(str, point.get("positive") or ())))
    return (
        f"A case is flagged as {group} at a score of {words.number(point.get('threshold'), 3)} or more. The threshold was chosen "
        f"by the rule “{words.name(point.get('rule', ''), 60)}” on {words.name(point.get('chosen_on', 'tuning data'), 120)}, and "
        f"frozen before the test set was opened. On the tuning data it had a sensitivity of {words.percent(point.get('sensitivity'))} "
        f"and a specificity of {words.percent(point.get('specificity'))}."
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
        f"This test set had been looked at {words.times(before)} before. Every further look makes the result more "
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
    return Table(f"Results by subgroup and source ({words.percent(run.level)} intervals)", head, tuple(rows))


_GAPS = 40  # rows of the table; all are in curves.json


@checked
def gaps_table(run: Run) -> Table | None:
    """What every subgroup is above or below its reference, with its test after Holm's correction."""
    metrics = compared(run)
    held = [gap for gap in run.evaluation.get("gaps") or [] if (gap.get("metric"), gap.get("of")) in metrics]
    rows = tuple(
        (_where(gap), words.metric(str(gap.get("metric"))).name, words.name(gap.get("reference") or "the others", 40),
         short(gap_of(gap, run.level)), *(_p(gap.get(k)) for k in ("p", "adjusted")))
        for gap in held[:_GAPS]
    )  # fmt: skip
    head = ("Group", "Measure", "Against", "Difference (interval)", "p", "p after Holm")
    return Table("How far every subgroup is from the others", head, rows, 3) if rows else None


def _where(held: dict[str, Any]) -> str:
    return ", ".join(f"{words.name(c)}: {words.name(v) or 'unknown'}" for c, v in (held.get("where") or {}).items())  # fmt: skip


def _p(value: object) -> str:
    if not isinstance(value, (int, float)):
        return words.NOTHING
    return words.probability(float(value)).removeprefix("p = ").removeprefix("p ")


@checked
def heterogeneity(run: Run) -> list[str]:
    """A sentence for each column: do its groups differ at all?"""
    metrics = compared(run)[:1]
    held = [h for h in run.evaluation.get("heterogeneity") or [] if (h.get("metric"), h.get("of")) in metrics]
    return [_differ(h) for h in held]


def _differ(h: dict[str, Any]) -> str:
    column, name = words.name(h.get("column")), words.metric(str(h.get("metric"))).name
    if h.get("undefined") or h.get("p") is None:
        return f"Whether {name} differs by {column} could not be tested: {words.name(h.get('undefined') or 'no test', 120)}."
    groups = h.get("groups")
    many = len(groups) if isinstance(groups, list) else int(groups or 0)
    found = "differs" if float(h["p"]) < 0.05 else "was not shown to differ"
    return f"{name} {found} between the {many} groups of {column} that could be judged ({words.probability(float(h['p']))}, test of all groups at once)."


@checked
def everything(run: Run, limit: int = 400) -> Table:
    """Every stored estimate, one a row, as far as a page can hold them."""
    rows = tuple(
        (words.metric(e.metric).name, words.name(run.called(e.of) if e.of else words.NOTHING, 40), _where({"where": e.where}) or "all",
         short(e), f"{e.images:,}", f"{e.patients:,}", words.name(e.method, 160))
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
    found = _estimates(run)
    rows = tuple((words.metric(e.metric).name, words.name(e.of, 40) or "all", short(e), f"{e.images:,}", words.metric(e.metric).says)
                 for e in found[:_ROWS])  # fmt: skip
    left = f"; the first {_ROWS} of {len(found)}, all are in agreement.json" if len(found) > _ROWS else ""
    head = (
        "Measure",
        "Of",
        f"Value ({words.percent(found[0].level) if found else ''} interval)",
        "Cases",
        "What it says",
    )
    return Table(f"Agreement of the readers{left}", head, rows, 2, "agreement") if rows else None


@checked
def graders_words(run: Run) -> list[str]:
    """Who made the labels, how far they agree, and the most that any model could reach against one of them."""
    held = run.agreement
    readers, every = held.get("readers") or [], {e.metric: e for e in _estimates(run) if not e.of}
    if not readers:
        return []
    rule = _RULES.get(str(held.get("rule")), words.name(held.get("rule") or "a consensus", 40))
    said = f"{words.count(len(readers), 'reader')} gave {words.count(held.get('answers'), 'answer')} on {words.count(held.get('cases'), 'case')}; the label is {rule}."
    return [f"{said}{_undecided(held)}{_agree(every)}", *_ceiling(every)]


def _estimates(run: Run) -> list[Estimate]:
    return [
        read_estimate(row, "agreement.json") for row in run.agreement.get("estimates") or () if isinstance(row, dict)
    ]


def _undecided(held: dict[str, Any]) -> str:
    left = held.get("undecided") or {}
    tied, silent = (int(left.get(key) or 0) for key in ("tied", "no answer"))
    return (
        f" {words.count(tied + silent, 'case')} got no label: {tied:,} tied, {silent:,} without an answer."
        if tied + silent
        else ""
    )


def _agree(every: dict[str, Estimate]) -> str:
    share, kappa = every.get("agreement"), every.get("fleiss kappa")
    if share is None or share.undefined:
        return ""
    beyond = (
        f"; Fleiss’ kappa, the agreement beyond chance, is {words.spoken(kappa)}"
        if kappa and not kappa.undefined
        else ""
    )
    return f" Two readers of a case give the same answer in {words.spoken(share)} of the cases{beyond}."


def _ceiling(every: dict[str, Estimate]) -> list[str]:
    best, panel = every.get("ceiling"), every.get("panel accuracy")
    if best is None or best.undefined:
        return []
    others = (
        f" The majority of the other readers reaches {words.spoken(panel)}." if panel and not panel.undefined else ""
    )
    return [f"Against the answers of a single reader no model, however good, could be right in more than {words.spoken(best)} of the cases, "
            f"because the readers differ among themselves.{others} An accuracy near that number says that the model is as "
            "good as the labels allow to see, not that it errs in the rest. Here it is judged against the one label made of all their answers."]  # fmt: skip


# -- what a model says when it is not sure, in sentences: its sets of answers, and the cases on which it stays silent ---


_MOST = 8  # findings that are told one by one


@checked
def unsure(run: Run) -> list[str]:
    """How often the sets or intervals held the truth, and how wrong the model is on the cases it is surest of."""
    return [*_sets(run), *_silence(run)]


@checked
def surest_half(curve: dict[str, Any]) -> tuple[float, float]:
    """The share of errors among all cases, and among the half of which the model is surest.

    >>> surest_half({"coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    (0.3, 0.1)
    """
    coverage = [float(share) for share in curve["coverage"]]
    nearest = min(range(len(coverage)), key=lambda i: abs(coverage[i] - 0.5))
    last = max(range(len(coverage)), key=lambda i: coverage[i])
    return _number(curve["risk"][last]), _number(curve["risk"][nearest])


@checked
def silence_curves(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The curves of errors among the cases answered, by class or finding; those that are undefined are left out."""
    held = run.more.get("abstention")
    pairs = held.items() if isinstance(held, dict) else ()
    return [(of, curve) for of, curve in pairs if isinstance(curve, dict) and curve.get("coverage")]


def _sets(run: Run) -> list[str]:
    held = run.more.get("conformal")
    groups = (held.get("groups") or []) if isinstance(held, dict) else []
    every = [group for group in groups if str(group.get("group")) == "all"]
    if not isinstance(held, dict) or not every:
        return []
    what = "an interval" if run.continuous else "a set of answers"
    told = "; ".join(_held(run, group) for group in every[:_MOST])
    left = f"; {len(every) - _MOST} more are in the figure" if len(every) > _MOST else ""
    return [f"Where it may answer with {what}, made on tuning data to hold the truth of {words.percent(held.get('level', 0.9))} of new images, "
            f"the truth was in {told}{left}."]  # fmt: skip


def _held(run: Run, group: dict[str, Any]) -> str:
    value, low, high = (_number((group.get("coverage") or {}).get(k)) for k in ("value", "low", "high"))
    if not math.isfinite(value):
        return f"an unknown share ({words.name(group.get('undefined') or 'undefined', 80)})"
    said = words.spoken(Estimate("set coverage", value, low, high, run.level))
    size = "with a mean width of" if run.continuous else "with a mean of"
    rest = f", {size} {words.number(_number(group.get('size')), 2)}" if group.get("size") is not None else ""
    unit = "" if not rest else " in the unit of the table" if run.continuous else " answers"
    of = str(group.get("of") or "")
    return f"{said}{f' for {run.called(of)}' if of and not run.continuous else ''}{rest}{unit}"


def _silence(run: Run) -> list[str]:
    found = silence_curves(run)
    if not found:
        return []
    told = []
    for of, curve in found[:_MOST]:
        every, half = (words.percent(share, 1) for share in surest_half(curve))
        told.append(f"{run.called(of) + ': ' if of else ''}{every} of all cases, {half} of the half it is surest of")
    falls = all(half < every for every, half in (surest_half(curve) for _, curve in found))
    rest = " Its confidence tells where a reader is needed most." if falls else ""
    return [f"By its most probable answer it is wrong on {'; '.join(told)}.{rest}"]


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
