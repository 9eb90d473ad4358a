"""What the report says about the results: key numbers, tables of measures, operating points, looks, subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from overread.errors import checked
from overread.reporting import words
from overread.reporting.gather import Run, compared, gap_of, shown, subgroups
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
    elif run.kind == "quantity":
        wanted = [(m, run.names[0]) for m in ("mae", "rmse", "r2", "pearson")]
    else:
        wanted = [(m, "") for m in ("macro auc", "balanced accuracy", "accuracy", "macro f1")]
    found = [run.estimate(metric, of) for metric, of in wanted]
    return tuple(_key_number(e) for e in found if e is not None)


def _key_number(e: Estimate) -> KeyNumber:
    between = words.interval(e, 2)
    interval = f"{words.percent(e.level)} interval {between}{words.unit(e)}" if between else e.undefined
    return KeyNumber(
        words.metric(e.metric).name, words.value(e, 2), interval, words.size(e.images, e.patients)
    )


def overall(run: Run) -> list[Table]:
    """The tables of the main results."""
    if run.kind == "quantity":
        tables = [_results("Prediction of the quantity", run, _QUANTITY, run.names[:1])]
    elif run.kind == "binary":
        tables = [
            _results(f"Telling {run.called(run.primary)} from the rest", run, _DETECTION, (run.primary, ""))
        ]
    else:
        told = (
            [_results(f"Telling {run.called(run.primary)} from the rest", run, _DETECTION, (run.primary,))]
            if run.primary
            else []
        )
        tables = [
            *told,
            _results(
                f"All {'findings' if run.kind == 'findings' else 'classes'} together", run, _TOGETHER, ("",)
            ),
        ]
    return [table for table in tables if table.rows]


@checked
def rest(run: Run) -> Table | None:
    """Further measures of telling the primary group; None where there is no such group."""
    table = _results("Further measures", run, _REST, (run.primary, "")) if run.primary else None
    return table if table and table.rows else None


def _results(caption: str, run: Run, metrics: Sequence[str], of: Sequence[str]) -> Table:
    found = [
        e
        for metric in metrics
        if (e := next(filter(None, (run.estimate(metric, name) for name in of)), None))
    ]
    rows = tuple(
        (words.metric(e.metric).name, *_cells(e), words.metric(e.metric).says, _method(run, e)) for e in found
    )
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
        if run.kind in ("classes", "findings")
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
    return whole(
        (((run.evaluation.get("counts") or {}).get("per class") or {}).get(name) or {}).get("images")
    )


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
