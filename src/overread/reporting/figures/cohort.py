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
from overread.reporting.figures.canvas import ON_DARK, ON_LIGHT, SOFT, Figure, finish, label, percent_axis, sheet
from overread.reporting.run import AuditCounts, PartCounts, Run
from overread.reporting.sections import PARTS

_WIDTH, _LINE, _PAD = 960, 19, 13
_INK, _SOFT, _RULE = "#1f2933", "#5b6770", "#8895a1"


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
    if not run.audit.counts:
        return None
    drawing, height = _draw(run)
    svg = f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" xmlns="http://www.w3.org/2000/svg">{drawing}</svg>'
    alt = _alt(run)
    return Figure("flow", "Flow of cases", alt, "", label(svg, "flow", "Flow of cases", alt))


def _draw(run: Run) -> tuple[str, float]:
    given = Box(290, 6, 380, ("Images in the table", *_numbers(run.audit.counts)))
    side = Box(620, given.y + given.height + 26, 334, _excluded_lines(run), "#f6f7f9")
    parts = run.split.proof.parts
    after = side.y + side.height + 26
    art = [_line(given.bottom, (given.bottom[0], after)), _elbow(given, side), _box(given), _box(side)]
    if not parts:
        return "".join(art), after + 6
    boxes = {key: Box(6 + i * 322, after + 22, 304, _part_lines(title, parts.get(key)))
             for i, (key, title) in enumerate(PARTS.items())}  # fmt: skip
    art += [_fan(given.bottom[0], after, list(boxes.values())), *map(_box, boxes.values())]
    bottom = max(box.y + box.height for box in boxes.values())
    calls = _call_boxes(run, boxes["test"], bottom)
    art += [_down(boxes["test"], box) + _box(box) for box in calls]
    return "".join(art), max([bottom, *(box.y + box.height for box in calls)]) + 8


def _numbers(counts: AuditCounts) -> tuple[str, ...]:
    first, sources = words.size(counts.images, counts.patients), len(counts.sources)
    return (first, words.count(sources, "source")) if sources > 1 else (first,)


def _excluded_lines(run: Run) -> tuple[str, ...]:
    reasons = dict(run.excluded)
    for reason, cases in run.split.proof.left_out.items():
        reasons.setdefault(reason.split(":")[0].strip(), cases)
    if not reasons:
        return ("Excluded: none",)
    lines = [f"{number:,}  {words.name(reason, 44)}" for reason, number in reasons.items()]
    return (f"Excluded: {words.count(sum(reasons.values()), 'case')}", *lines[:8], *(("…",) if len(lines) > 8 else ()))


def _part_lines(title: str, part: PartCounts | None) -> tuple[str, ...]:
    if part is None:
        return title, words.size(None, None)
    classes = [f"{number:,}  {words.name(name, 30)}" for name, number in list(part.class_images.items())[:10]]
    return title, words.size(part.images, part.patients), *classes


def _call_boxes(run: Run, test: Box, bottom: float) -> list[Box]:
    """Under the test box: what was flagged and cleared at the operating point, with the truth."""
    point = run.curve.point
    if not point or not run.primary:
        return []
    (tn, fp), (fn, tp) = point.confusion
    name, threshold = words.name(run.called(run.primary), 26), words.number(point.threshold)
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


def _line(*points: tuple[float, float]) -> str:
    way = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{way}" fill="none" stroke="{_RULE}"/>'


def _arrow(*points: tuple[float, float]) -> str:
    """A line through the points with its head at the last, which points down, or right after a level line."""
    (_, before), (x, y) = points[-2:]
    ends = ((-7, -4), (-7, 4)) if before == y else ((-4, -7), (4, -7))
    (a, b), (c, d) = ((x + right, y + down) for right, down in ends)
    return f'{_line(*points)}<path d="M{a:.1f} {b:.1f}L{x:.1f} {y:.1f}L{c:.1f} {d:.1f}Z" fill="{_RULE}"/>'


def _elbow(given: Box, side: Box) -> str:
    y = side.y + side.height / 2
    return _arrow((given.bottom[0], y), (side.x - 1, y))


def _fan(x: float, y: float, boxes: list[Box]) -> str:
    return "".join(_arrow((x, y), (box.top[0], y), (box.top[0], box.y - 1)) for box in boxes)


def _down(above: Box, below: Box) -> str:
    (x, y), (to, end) = above.bottom, below.top
    return _arrow((x, y), (x, below.y - 17), (to, below.y - 17), (to, end - 1))


def _alt(run: Run) -> str:
    counts, parts = run.audit.counts, run.split.proof.parts
    lines = [f"{words.size(counts.images, counts.patients)} in the table", "; ".join(_excluded_lines(run))]
    lines += [f"{PARTS[k]}: {words.size(p.images, p.patients)}" for k, p in parts.items() if k in PARTS]
    return ". ".join(lines) + "."


_CELLS = 15  # classes of a confusion matrix whose numbers can still be read
_PANELS = 8


@checked
def confusion(run: Run) -> Figure | None:
    """Counts of truth against call, shaded by the share of the true class."""
    held = run.evaluation.confusion
    if not held.labels:
        return None
    labels = [words.name(label, 18) for label in held.labels]
    counts = np.array(held.counts)
    side = max(3.6, min(8.0, 1.6 + 0.62 * len(labels)))
    with sheet(side + 0.5 + (0.9 if len(labels) > _CELLS else 0), side) as drawing:
        axes = drawing.subplots()
        _matrix(axes, counts, labels, 10 if len(counts) <= 4 else 8 if len(counts) <= 8 else 6.5)
        axes.set(xlabel="Called", ylabel="Truth", title=run.size)
        if len(labels) > _CELLS:
            _scale(drawing, axes)
        return finish(drawing, "confusion", "Confusion matrix", _alt_of(held.labels, counts),
                      f"Images; rows add up to the true class. Called by {held.rule}.")  # fmt: skip


@checked
def confusions(run: Run) -> Figure | None:
    """A small matrix for each finding, at its own threshold; None for other questions."""
    found = [(of, np.array(curve.point.confusion)) for of, curve in run.chosen("point")]
    if not run.task.multilabel or not found:
        return None
    some = found[:_PANELS]
    across = min(4, len(some))
    down = -(-len(some) // across)
    with sheet(2.3 * across, 0.3 + 2.25 * down) as drawing:
        grid = drawing.subplots(down, across, squeeze=False)
        for axes, (of, counts) in zip(grid.ravel(), some, strict=False):
            _matrix(axes, counts, ["absent", "present"], 8.5)
            axes.set_title(words.name(run.called(of), 26))
        for axes in grid.ravel()[len(some) :]:
            axes.set_visible(False)
        drawing.suptitle(run.size, fontsize=9, color=SOFT, x=0.01, ha="left")
        drawing.supxlabel("Called", fontsize=9)
        drawing.supylabel("Truth", fontsize=9)
        alt = " ".join(f"{run.called(of)}: {_alt_of(('absent', 'present'), counts)}" for of, counts in some)
        return finish(drawing, "confusion", "Confusion matrices", alt,
                      f"Images; rows add up to the truth. Each at its own threshold.{words.first_of(found, _PANELS)}", wide=True)  # fmt: skip


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
        colour, shares = ON_DARK if share[i, j] > 0.75 else ON_LIGHT, len(counts) <= 8
        how: dict[str, Any] = {"ha": "center", "fontsize": size, "color": colour}
        # two texts of one line each: only these stay centred in the reader's own font
        axes.text(j + 0.5, i + 0.5, f"{int(number):,}", va="bottom" if shares else "center", **how)
        if shares:
            axes.text(j + 0.5, i + 0.54, words.percent(float(share[i, j])), va="top", **how)


def _alt_of(labels: Sequence[object], counts: np.ndarray) -> str:
    rows = (
        f"of {int(row.sum())} {words.name(label)}, {int(row[i])} called so"
        for i, (label, row) in enumerate(zip(labels, counts, strict=True))
    )
    return "; ".join(rows) + "."
