"""What a model says when it is not sure, in sentences: its sets of answers, and the cases on which it stays silent."""

from __future__ import annotations

import math
from typing import Any

from overread.errors import checked
from overread.reporting import words
from overread.reporting.gather import Run
from overread.stats.estimate import Estimate

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
    what = "an interval" if run.kind == "quantity" else "a set of answers"
    told = "; ".join(_held(run, group) for group in every[:_MOST])
    left = f"; {len(every) - _MOST} more are in the figure" if len(every) > _MOST else ""
    return [f"Where it may answer with {what}, made on tuning data to hold the truth of {words.percent(held.get('level', 0.9))} of new images, "
            f"the truth was in {told}{left}."]  # fmt: skip


def _held(run: Run, group: dict[str, Any]) -> str:
    value, low, high = (_number((group.get("coverage") or {}).get(k)) for k in ("value", "low", "high"))
    if not math.isfinite(value):
        return f"an unknown share ({words.name(group.get('undefined') or 'undefined', 80)})"
    said = words.spoken(Estimate("set coverage", value, low, high, run.level))
    size = "with a mean width of" if run.kind == "quantity" else "with a mean of"
    rest = f", {size} {words.number(_number(group.get('size')), 2)}" if group.get("size") is not None else ""
    unit = "" if not rest else " in the unit of the table" if run.kind == "quantity" else " answers"
    of = str(group.get("of") or "")
    return f"{said}{f' for {run.called(of)}' if of and run.kind != 'quantity' else ''}{rest}{unit}"


def _silence(run: Run) -> list[str]:
    found = silence_curves(run)
    if not found:
        return []
    told = []
    for of, curve in found[:_MOST]:
        every, half = (words.percent(share, 1) for share in surest_half(curve))
        told.append(
            f"{run.called(of) + ': ' if of else ''}{every} of all cases, {half} of the half it is surest of"
        )
    falls = all(half < every for every, half in (surest_half(curve) for _, curve in found))
    rest = " Its confidence tells where a reader is needed most." if falls else ""
    return [f"By its most probable answer it is wrong on {'; '.join(told)}.{rest}"]


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
