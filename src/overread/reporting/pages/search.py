"""The trials of a search as a page: which fields mattered, and what each trial took and reached."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, FAINT, INK, SOFT, Figure
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table

#: Trials in the table of the page; all of them are in trials.csv.
SHOWN = 20
#: Columns of the trials that are no field of a recipe.
ABOUT = ("trial", "state", "score", "trained epochs", "seconds")


@checked
def search_page(trials: pd.DataFrame, importance: dict[str, float], folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``search.html`` into ``folder``; gives the paths, the page first.

    ``trials``: a row each, the best first; ``importance``: the share of the scores' variance by field.
    """
    finished = trials[trials["state"] == "finished"]
    summary = [f"{words.count(len(trials), 'trial')}, of which {len(finished)} went through all epochs; the best reached {finished['score'].iloc[0]:.3f}."]  # fmt: skip
    cautions = ["Each score is of training patients who did not teach that trial. The best of many is too good: judge the model that is trained by the chosen recipe on the tuning and the test part, which no trial has seen."]  # fmt: skip
    sections = [
        Section.of("What was chosen", (), _chosen(finished), coordinates(trials)),
        Section.of("Which fields mattered", (), importance_bars(importance)),
        Section.of("The trials", (), _table(trials)),
    ]
    return write_page_and_figures(Path(folder) / "search.html", "Search of a recipe", summary, sections, cautions=cautions)  # fmt: skip


def _fields(trials: pd.DataFrame) -> list[str]:
    return [column for column in trials.columns if column not in ABOUT]


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else words.name(value)


def _chosen(finished: pd.DataFrame) -> Table:
    best = finished.iloc[0]
    return Table("The best trial", ("Field", "Value"), tuple((field, _said(best[field])) for field in _fields(finished)))  # fmt: skip


def _table(trials: pd.DataFrame) -> Table:
    fields = _fields(trials)
    rows = tuple((str(row["trial"]), str(row["state"]), words.number(float(row["score"])), str(row["trained epochs"]), *(_said(row[field]) for field in fields))
                 for _, row in trials.head(SHOWN).iterrows())  # fmt: skip
    more = f"; {len(trials) - SHOWN} more are in trials.csv" if len(trials) > SHOWN else ""
    return Table(f"Trials, the best first{more}", ("Trial", "State", "Score", "Trained epochs", *fields), rows, 2)


@checked
def importance_bars(importance: dict[str, float]) -> Figure | None:
    """How much of the scores' variance each field explains; None where that was not told."""
    if not importance:
        return None
    names = sorted(importance, key=lambda name: importance[name])
    with canvas.sheet(5.2, 0.8 + 0.32 * len(names)) as drawing:
        axes = drawing.subplots()
        axes.barh(range(len(names)), [importance[name] for name in names], color=BLUE, height=0.55)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(0, 1)
        axes.set_xlabel("Share of the scores' variance (fANOVA)")
        canvas.percent_axis(axes.xaxis)
        alt = ", ".join(f"{name} {importance[name]:.0%}" for name in reversed(names))
        return canvas.finish(drawing, "importance", "Which fields mattered", alt, "Of the scores after the first rung, which all trials reached alike (fANOVA, Hutter 2014).")  # fmt: skip


@checked
def coordinates(trials: pd.DataFrame) -> Figure | None:
    """Parallel coordinates: a line a trial, an axis a field, the score last; the best is drawn on top."""
    scored = trials[trials["score"].notna()]
    if len(scored) < 2:
        return None
    columns = [*_fields(trials), "score"]
    placed = {column: _places(scored[column]) for column in columns}
    order = np.argsort(scored["score"].to_numpy(), kind="stable")
    finished = (scored["state"] == "finished").to_numpy()
    best = order[finished[order]][-1] if finished.any() else order[-1]
    with canvas.sheet(max(5.2, 1.25 * len(columns)), 3.4) as drawing:
        axes = drawing.subplots()
        lines = np.stack([placed[column][0] for column in columns], axis=1)
        for row in order:
            axes.plot(
                lines[row],
                color=SOFT if finished[row] else FAINT,
                linewidth=0.9,
                linestyle="-" if finished[row] else (0, (3, 2)),
            )
        axes.plot(lines[best], color=BLUE, linewidth=2.4)
        for place, column in enumerate(columns):
            axes.axvline(place, color=FAINT, linewidth=0.7, zorder=0)
            for height, text in placed[column][1]:
                axes.annotate(
                    text, (place, height), (3, 0), textcoords="offset points", fontsize=7.5, color=INK, va="center"
                )
        axes.set_xticks(range(len(columns)), [column.replace("augmentation.", "") for column in columns])
        axes.set_yticks([])
        axes.set_xlim(-0.2, len(columns) - 0.4)
        for spine in axes.spines.values():
            spine.set_visible(False)
        alt = f"{len(scored)} trials over {', '.join(columns)}; the best scored {scored['score'].iloc[best]:.3f}"
        caption = f"N = {len(scored)} trials. Blue: the best that went through all epochs; dashed: stopped early. Numbers over more than two decades are on a logarithmic scale."  # fmt: skip
        return canvas.finish(drawing, "trials", "What each trial took and reached", alt, caption, wide=True)


def _places(values: pd.Series) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Heights 0 … 1 of a column's values, and the marks of its axis: ends of numbers, every choice of others."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        names = sorted(set(map(str, values)))
        height = {name: place / max(len(names) - 1, 1) for place, name in enumerate(names)}
        return np.array([height[str(value)] for value in values]), [
            (height[name], words.name(name, 16)) for name in names
        ]
    x = numbers.to_numpy(float)
    low, high = float(x.min()), float(x.max())
    if low > 0 and high / low >= 100:
        x = np.log10(x)
    span = float(x.max() - x.min())
    marks = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")] if span and math.isfinite(span) else [(0.5, f"{low:.3g}")]
    return ((x - x.min()) / span if span else np.full(len(x), 0.5)), marks
