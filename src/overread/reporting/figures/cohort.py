"""The flow of cases from the table to the result, as STARD and CONSORT draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import INK, SOFT, Figure, finish, label, percent_axis, sheet
from overread.reporting.run import Run

_WIDTH, _LINE, _PAD = 960, 19, 13
_INK, _SOFT, _RULE = "#1f2933", "#5b6770", "#8895a1"
_PARTS = {"train": "Training", "tuning": "Tuning", "test": "Test"}


@dataclass(frozen=True)
class Box:
    """A box of text: its place, width in pixels, and lines; the first line is bold."""

    x: float
    y: float
    width: float
    lines: tuple[str, ...]
    fill: str = "#ffffff"

    @property
    def height(self) -> float:
        return 2 * _PAD + _LINE * len(self.lines) - 4

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height

    @property
    def top(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y


def flow(run: Run) -> Figure | None:
    """Cases given, excluded with reasons, analysed, split, tested, called. None before the audit."""
    counts = run.audit.get("counts")
    if not counts:
        return None
    drawing, height = _draw(run, counts)
    svg = f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" xmlns="http://www.w3.org/2000/svg">{drawing}</svg>'
    alt = _alt(run, counts)
    return Figure("flow", "Flow of cases", alt, "", label(svg, "flow", "Flow of cases", alt))


def _draw(run: Run, counts: dict[str, Any]) -> tuple[str, float]:
    given = Box(290, 6, 380, ("Images in the table", *_numbers(counts)))
    side = Box(620, given.y + given.height + 26, 334, _excluded_lines(run), "#f6f7f9")
    parts = (run.split.get("proof") or {}).get("parts") or {}
    after = side.y + side.height + 26
    art = [_arrow(given.bottom, (given.bottom[0], after)), _elbow(given, side), _box(given), _box(side)]
    if not parts:
        return "".join(art), after + 6
    boxes = {key: Box(6 + i * 322, after + 22, 304, _part_lines(_PARTS[key], parts.get(key) or {}))
             for i, key in enumerate(_PARTS)}  # fmt: skip
    art += [_fan(given.bottom[0], after, list(boxes.values())), *map(_box, boxes.values())]
    bottom = max(box.y + box.height for box in boxes.values())
    calls = _call_boxes(run, boxes["test"], bottom)
    art += [_down(boxes["test"], box) + _box(box) for box in calls]
    return "".join(art), max([bottom, *(box.y + box.height for box in calls)]) + 8


def _numbers(counts: dict[str, Any]) -> tuple[str, ...]:
    first = words.size(counts.get("images"), counts.get("patients"))
    sources = counts.get("sources") or {}
    return (first, words.count(len(sources), "source")) if len(sources) > 1 else (first,)


def _excluded_lines(run: Run) -> tuple[str, ...]:
    left_out = (run.split.get("proof") or {}).get("left out") or {}
    reasons = {**dict(run.excluded)}
    for reason, cases in left_out.items():
        reasons.setdefault(str(reason).split(":")[0].strip(), int(cases))
    if not reasons:
        return ("Excluded: none",)
    lines = [f"{number:,}  {words.name(reason, 44)}" for reason, number in reasons.items()]
    return (f"Excluded: {words.count(sum(reasons.values()), 'case')}", *lines[:8], *(("…",) if len(lines) > 8 else ()))


def _part_lines(title: str, part: dict[str, Any]) -> tuple[str, ...]:
    lines = [title, words.size(part.get("images"), part.get("patients"))]
    classes = part.get("class images") or {}
    lines += [f"{number:,}  {words.name(name, 30)}" for name, number in list(classes.items())[:10]]
    return tuple(lines)


def _call_boxes(run: Run, test: Box, bottom: float) -> list[Box]:
    """Under the test box: what was flagged and cleared at the operating point, with the truth."""
    point = run.curve.get("point") or {}
    table = point.get("confusion")
    if not table or not run.primary:
        return []
    (tn, fp), (fn, tp) = ((int(a), int(b)) for a, b in table)
    name, threshold = words.name(run.called(run.primary), 26), words.number(point.get("threshold"))
    flagged = (f"Flagged: {fp + tp:,}  (score ≥ {threshold})", f"{tp:,}  are {name}", f"{fp:,}  are not: false alarms")
    cleared = (f"Cleared: {fn + tn:,}  (score < {threshold})", f"{tn:,}  are free of it", f"{fn:,}  are {name}: missed")
    return [Box(328, bottom + 34, 304, flagged, "#fdf3ec"), Box(650, bottom + 34, 304, cleared, "#edf5fa")]


def _box(box: Box) -> str:
    rows = "".join(
        f'<text x="{box.x + _PAD:.0f}" y="{box.y + _PAD + 11 + i * _LINE:.0f}" font-weight="{"600" if i == 0 else "400"}" '
        f'fill="{_INK}">{escape(line)}</text>'
        for i, line in enumerate(box.lines)
    )
    return (
        f'<g font-size="14" font-family="Helvetica Neue, Arial, Liberation Sans, sans-serif"><rect x="{box.x:.0f}" '
        f'y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="3" fill="{box.fill}" stroke="{_RULE}"/>{rows}</g>'
    )


def _path(points: str, x: float, y: float, down: bool = True) -> str:
    head = (
        f"M{x - 4:.1f} {y - 7:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y - 7:.1f}Z"
        if down
        else f"M{x - 7:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 4:.1f}Z"
    )
    return f'<path d="{points}" fill="none" stroke="{_RULE}"/><path d="{head}" fill="{_RULE}"/>'


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<path d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}" fill="none" stroke="{_RULE}"/>'


def _elbow(given: Box, side: Box) -> str:
    x, y = given.bottom[0], side.y + side.height / 2
    return _path(f"M{x:.1f} {y:.1f}L{side.x - 1:.1f} {y:.1f}", side.x - 1, y, down=False)


def _fan(x: float, y: float, boxes: list[Box]) -> str:
    return "".join(
        _path(f"M{x:.1f} {y:.1f}L{box.top[0]:.1f} {y:.1f}L{box.top[0]:.1f} {box.y - 1:.1f}", box.top[0], box.y - 1)
        for box in boxes
    )


def _down(above: Box, below: Box) -> str:
    (x, y), (to, end) = above.bottom, below.top
    middle = below.y - 17
    return _path(f"M{x:.1f} {y:.1f}L{x:.1f} {middle:.1f}L{to:.1f} {middle:.1f}L{to:.1f} {end - 1:.1f}", to, end - 1)


def _alt(run: Run, counts: dict[str, Any]) -> str:
    parts = (run.split.get("proof") or {}).get("parts") or {}
    said = [f"{words.size(counts.get('images'), counts.get('patients'))} in the table"]
    said.append("; ".join(_excluded_lines(run)))
    said += [f"{_PARTS[k]}: {words.size(p.get('images'), p.get('patients'))}" for k, p in parts.items() if k in _PARTS]
    return ". ".join(said) + "."


# -- figures of counts: what was called what ----------------------------------------------------------------------


_CELLS = 15  # classes of a confusion matrix whose numbers can still be read
_PANELS = 8


@checked
def confusion(run: Run) -> Figure | None:
    """Counts of truth against call, shaded by the share of the true class."""
    held = run.evaluation.get("confusion") or {}
    if not held.get("labels"):
        return None
    labels = [words.name(label, 18) for label in held["labels"]]
    counts = np.asarray(held["counts"], float)
    side = max(3.6, min(8.0, 1.6 + 0.62 * len(labels)))
    with sheet(side + 0.5 + (0.9 if len(labels) > _CELLS else 0), side) as drawing:
        axes = drawing.subplots()
        _matrix(axes, counts, labels, 10 if len(counts) <= 4 else 8 if len(counts) <= 8 else 6.5)
        axes.set(xlabel="Called", ylabel="Truth", title=run.size)
        if len(labels) > _CELLS:
            _scale(drawing, axes)
        return finish(drawing, "confusion", "Confusion matrix", _said(held["labels"], counts),
                      f"Images; rows add up to the true class. Called by {held.get('rule', 'largest probability')}.")  # fmt: skip


@checked
def confusions(run: Run) -> Figure | None:
    """A small matrix for each finding, at its own threshold; None for other questions."""
    found = [(of, c["point"]) for of, c in run.chosen("point") if c["point"].get("confusion")]
    if not run.multilabel or not found:
        return None
    some = found[:_PANELS]
    across = min(4, len(some))
    down = -(-len(some) // across)
    with sheet(2.3 * across, 0.3 + 2.25 * down) as drawing:
        grid = drawing.subplots(down, across, squeeze=False)
        for axes, (of, point) in zip(grid.ravel(), some, strict=False):
            _matrix(axes, np.asarray(point["confusion"], float), ["absent", "present"], 8.5)
            axes.set_title(words.name(run.called(of), 26))
        for axes in grid.ravel()[len(some) :]:
            axes.set_visible(False)
        drawing.suptitle(run.size, fontsize=9, color=SOFT, x=0.01, ha="left")
        drawing.supxlabel("Called", fontsize=9)
        drawing.supylabel("Truth", fontsize=9)
        said = " ".join(f"{run.called(of)}: {_said(('absent', 'present'), np.asarray(p['confusion'], float))}" for of, p in some)  # fmt: skip
        left = f" The first {_PANELS} of {len(found)} are drawn." if len(found) > _PANELS else ""
        return finish(drawing, "confusion", "Confusion matrices", said,
                      f"Images; rows add up to the truth. Each at its own threshold.{left}", wide=True)  # fmt: skip


def _scale(drawing: Sheet, axes: Axes) -> None:
    """What the shades mean, where there are too many fields to hold numbers."""
    bar = drawing.colorbar(axes.collections[0], ax=axes, label="Share of the true class", shrink=0.6, boundaries=np.linspace(0, 1, 101))  # fmt: skip
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(bar.ax.yaxis)
    bar.outline.set_visible(False)


def _matrix(axes: Axes, counts: np.ndarray, labels: Sequence[str], size: float) -> None:
    many = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, many, out=np.full(counts.shape, np.nan), where=many > 0)
    axes.pcolormesh(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=1.15)  # vectors, where imshow would make a bitmap
    axes.set(aspect="equal", ylim=(len(labels), 0))
    _cells(axes, counts, share, size)
    crowded = len(labels) > 3
    middle = np.arange(len(labels)) + 0.5
    axes.set_xticks(middle, labels, rotation=35 if crowded else 0, ha="right" if crowded else "center")
    axes.set_yticks(middle, labels)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _cells(axes: Axes, counts: np.ndarray, share: np.ndarray, size: float) -> None:
    """Counts and shares of the row, as long as they can be read."""
    if len(counts) > _CELLS:
        return
    for (i, j), number in np.ndenumerate(counts):
        colour, shares = "white" if share[i, j] > 0.75 else INK, len(counts) <= 8
        how: dict[str, Any] = {"ha": "center", "fontsize": size, "color": colour}
        # two texts of one line each: only these stay centred in the reader's own font
        axes.text(j + 0.5, i + 0.5, f"{int(number):,}", va="bottom" if shares else "center", **how)
        if shares:
            axes.text(j + 0.5, i + 0.54, words.percent(float(share[i, j])), va="top", **how)


def _said(labels: Sequence[object], counts: np.ndarray) -> str:
    rows = (
        f"of {int(row.sum())} {words.name(label)}, {int(row[i])} called so"
        for i, (label, row) in enumerate(zip(labels, counts, strict=True))
    )
    return "; ".join(rows) + "."
