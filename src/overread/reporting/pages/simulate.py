"""Workflows of a reading room, drawn and told from their stored numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, checked
from overread.core.files import read_json
from overread.reporting import words
from overread.reporting.figures.canvas import INK, SOFT, VERMILION, Figure, finish, quiet_grid, save_figures, sheet
from overread.reporting.figures.drawing import THIN, ForestRow, curve_with_band, forest_rows
from overread.reporting.page import Part, leaflet
from overread.reporting.sections import Table
from overread.stats.estimate import Estimate

HEADS = {"sensitivity": "Sensitivity", "specificity": "Specificity", "reads per case": "Reads per case", "called positive": "Called positive",
         "cost per case": "Cost per case"}  # fmt: skip
_SHARES = ("sensitivity", "specificity", "called positive")


@checked
def tell_simulation(folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``simulation.html`` from the ``simulation.json`` in ``folder``."""
    folder = Path(folder)
    held = read_json(folder / "simulation.json")
    if not isinstance(held, dict) or not {"workflows", "triage", "counts", "worklist"} <= held.keys():
        raise InputError("the simulation is damaged", given=str(folder), todo="simulate again")
    points = read_json(folder / "operating.json") if (folder / "operating.json").exists() else []
    figures = draw_simulation(held)
    drawn = save_figures(figures, folder / "figures")
    return [_page(held, points, figures, folder / "simulation.html"), *drawn]


@checked
def draw_simulation(held: dict[str, Any]) -> list[Figure]:
    """Sensitivity and specificity of every workflow, what each changes, and the triage curve."""
    found = [_rates(held), _changes(held), _triage(held)]
    return [figure for figure in found if figure is not None]


def _estimate(entry: Mapping[str, Any], metric: str = "") -> Estimate:
    numbers = (float("nan") if entry.get(k) is None else float(entry[k]) for k in ("value", "low", "high"))
    value, low, high = numbers
    return Estimate(metric or str(entry["metric"]), value, low, high, float(entry.get("level") or 0.95), str(entry.get("method") or ""),
                    int(entry.get("images") or 0), int(entry.get("patients") or 0), undefined=str(entry.get("undefined") or ""))  # fmt: skip


def _of(way: dict[str, Any], metric: str) -> Estimate | None:
    return next((_estimate(e) for e in way["estimates"] if e["metric"] == metric), None)


def _size(held: dict[str, Any]) -> str:
    counts = held["counts"]
    read = f", {words.count(counts['readers'], 'reader')}" if counts.get("readers") else ""
    return words.size(counts["images"], counts["patients"]) + read


def _rates(held: dict[str, Any]) -> Figure:
    rows = []
    for metric in ("sensitivity", "specificity"):
        rows.append(ForestRow(HEADS[metric]))
        rows += [
            ForestRow(w["name"], e, whole=w["name"] == "reader alone")
            for w in held["workflows"]
            if (e := _of(w, metric))
        ]
    return forest_rows(
        rows, name="workflows", title="Sensitivity and specificity of each workflow", across="Share of the cases with (without) the disease called rightly",
        size=_size(held), caption="Diamond: without a model. Units: readings of cases.",
    )  # fmt: skip


def _changes(held: dict[str, Any]) -> Figure | None:
    rows = []
    for metric in ("sensitivity", "specificity"):
        found = [(w["name"], d) for w in held["workflows"] for d in w["differences"]
                 if d["against"] == "reader alone" and d["metric"] == f"{metric} difference"]  # fmt: skip
        if found:
            rows.append(ForestRow(HEADS[metric]))
        rows += [ForestRow(name, _estimate(d), note=_p(d.get("p"))) for name, d in found]
    if not rows:
        return None
    return forest_rows(
        rows, name="workflow-changes", title="What each workflow changes against a reader alone", across="Difference, workflow minus reader alone",
        size=_size(held), line=0.0, caption="p: McNemar, two-sided, not corrected for the number of workflows.",
    )  # fmt: skip


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def _triage(held: dict[str, Any]) -> Figure | None:
    t = held["triage"]
    if "read" not in t:
        return None
    with sheet(6.4, 4.4) as drawing:
        axes = drawing.subplots()
        curve_with_band(axes, t["read"], t["sensitivity"], low=t["low"], high=t["high"], label="model, then reader")
        axes.axhline(t["reader"]["sensitivity"], color=SOFT, linewidth=0.9, linestyle=THIN)
        axes.annotate(
            "reader alone",
            (1, t["reader"]["sensitivity"]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            color=INK,
        )
        p = t["point"]
        axes.plot(
            p["read"], p["sensitivity"], "o", color=VERMILION, markersize=7, zorder=5, label="frozen triage threshold"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda tick, _: f"{100 * tick:.0f}{words.PERCENT}")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel=f"Cases that are read, at a prevalence of {words.percent(t['prevalence'], 1)}",
                 ylabel="Sensitivity of the whole path", title=_size(held))  # fmt: skip
        quiet_grid(axes)
        axes.legend(loc="lower right")
        said = f"{words.percent(p['read'], 1)} of the cases read, sensitivity {words.percent(p['sensitivity'], 1)}"
        return finish(drawing, "triage", "Workload against sensitivity of triage", f"At the frozen threshold {said}.",
                      f"Band: {words.percent(t['level'])} interval at each threshold. Only the dot was chosen before: {said}.")  # fmt: skip


def _page(held: dict[str, Any], points: Sequence[dict[str, Any]], figures: list[Figure], path: Path) -> Path:
    by = {figure.name: figure for figure in figures}
    parts = [
        Part("Workflows side by side", (), (_table(held),), _some(by, "workflows")),
        Part("Against a reader alone", (), (_differences(held, "reader alone"),) if "workflow-changes" in by else (), _some(by, "workflow-changes")),
        Part("Against two readers", (), _against_two(held)),
        Part("Triage and the worklist", tuple(_triage_words(held)), (), _some(by, "triage")),
        Part("What happens on each", (), (_what(held),)),
        Part("Thresholds, frozen on tuning data", (), (_points(points),) if points else ()),
    ]  # fmt: skip
    return leaflet(path, "The model in the reading room", summary(held), parts, cautions=cautions(held))


def _some(by: dict[str, Figure], name: str) -> tuple[Figure, ...]:
    return (by[name],) if name in by else ()


@checked
def summary(held: dict[str, Any]) -> list[str]:
    """What was simulated, in a sentence or two."""
    counts = held["counts"]
    who = (f"{words.count(counts['readers'], 'reader')} with {words.count(counts['readings'], 'reading')}" if counts.get("readers")
           else "no readers were given: reading is taken as perfect")  # fmt: skip
    said = [f"{words.size(counts['images'], counts['patients'])}, {counts['positives']:,} with the disease; {who}."]
    triage = next((w for w in held["workflows"] if w["name"] == "triage"), None)
    if triage and (reads := _of(triage, "reads per case")) and not reads.undefined:
        said.append(f"Triage leaves {words.percent(1 - reads.value, 1)} of the cases unread; "
                    f"the sensitivity of the whole path is {words.spoken(_of(triage, 'sensitivity'))}.")  # fmt: skip
    looks = held.get("looks")
    said += [f"This test set was looked at {words.times(looks)} before."] if looks else []
    return said


@checked
def cautions(held: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    said = ["Simulated on recorded cases: readers are taken to call as they did without the model. People who see a model's call, "
            "or only the cases it leaves, read differently; only a prospective study tells how."]  # fmt: skip
    if held["counts"].get("readers"):
        said.append(
            "Numbers are those of the average of these readers; the intervals are for new patients, not for new readers."
        )
    else:
        said.append(
            "Without readers' calls reading is perfect here: sensitivity is the most that triage leaves, not what a clinic will see."
        )
    return said


def _table(held: dict[str, Any]) -> Table:
    metrics = [m for m in HEADS if any(_of(w, m) for w in held["workflows"])]
    rows = tuple((w["name"], *(_cell(_of(w, m)) for m in metrics)) for w in held["workflows"])
    prevalence = words.percent(held["counts"]["prevalence"], 1)
    return Table(f"Each with its interval; workload and share called positive at a prevalence of {prevalence}",
                 ("Workflow", *(HEADS[m] for m in metrics)), rows)  # fmt: skip


def _cell(e: Estimate | None) -> str:
    if e is None or e.undefined:
        return words.NOTHING if e is None else e.undefined
    share = e.metric.removesuffix(" difference") in _SHARES
    value, low, high = (words.number(100 * x, 1) if share else words.number(x, 2) for x in (e.value, e.low, e.high))
    sign = words.PERCENT if share else ""
    return value + sign if words.NOTHING in (low, high) else f"{value} ({low} to {high}){sign}"


def _differences(held: dict[str, Any], against: str) -> Table:
    """A row for each workflow, a column for each metric."""
    ways = {w["name"]: {d["metric"].removesuffix(" difference"): d for d in w["differences"] if d["against"] == against}
            for w in held["workflows"]}  # fmt: skip
    metrics = [m for m in HEADS if m != "called positive" and any(m in found for found in ways.values())]
    rows = tuple((name, *(_change(found.get(m)) for m in metrics)) for name, found in ways.items() if found)
    return Table(f"Workflow minus {against}, on the same readings; shares in percentage points",
                 ("Workflow", *(HEADS[m] for m in metrics)), rows)  # fmt: skip


def _change(d: dict[str, Any] | None) -> str:
    if d is None:
        return words.NOTHING
    p = _p(d.get("p")) if d["metric"].removesuffix(" difference") in ("sensitivity", "specificity") else ""
    return _cell(_estimate(d)).replace(words.PERCENT, "") + (f", {p}" if p else "")


def _against_two(held: dict[str, Any]) -> tuple[Table, ...]:
    table = _differences(held, "two readers")
    return (table,) if table.rows else ()


def _triage_words(held: dict[str, Any]) -> list[str]:
    counts, said = held["counts"], []
    if held["triage"].get("undefined"):
        said.append(f"Triage cannot be drawn: {held['triage']['undefined']}.")
    else:
        said.append(f"Below the frozen threshold lie {words.count(counts['not read by triage'], 'case')}, of which "
                    f"{counts['missed by triage']:,} have the disease.")  # fmt: skip
    for e in map(_estimate, held["worklist"]):
        if not e.undefined:
            said.append(f"In a list sorted by the score, {words.percent(e.value, 1)} of the list ({words.percent(e.level)} interval "
                        f"{words.number(100 * e.low, 1)} to {words.number(100 * e.high, 1)}) stand before a case with the disease on average, "
                        f"instead of {words.percent(0.5)} as cases come.")  # fmt: skip
    return said


def _what(held: dict[str, Any]) -> Table:
    rows = tuple((w["name"], words.sentence(w["says"])) for w in held["workflows"])
    return Table("The next readers of a case follow in the order of the table", ("Workflow", "What happens"), rows, 2)


def _points(points: Sequence[dict[str, Any]]) -> Table:
    names = ("reader and triage",) if len(points) == 1 else ("as a reader", "triage")
    rows = tuple((name, words.number(p["threshold"], 3), words.name(p["rule"], 120), words.percent(p["sensitivity"], 1), words.percent(p["specificity"], 1))
                 for name, p in zip(names, points))  # fmt: skip
    return Table(
        "Sensitivity and specificity on tuning data", ("Used", "Threshold", "Rule", "Sensitivity", "Specificity"), rows
    )
