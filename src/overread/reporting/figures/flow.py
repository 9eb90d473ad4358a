"""The flow of cases from the table to the result, as STARD and CONSORT draw it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from overread.reporting import words
from overread.reporting.figures.canvas import Figure, label
from overread.reporting.gather import Run

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
    return (
        f"Excluded: {words.count(sum(reasons.values()), 'case')}",
        *lines[:8],
        *(("…",) if len(lines) > 8 else ()),
    )


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
    flagged = (
        f"Flagged: {fp + tp:,}  (score ≥ {threshold})",
        f"{tp:,}  are {name}",
        f"{fp:,}  are not: false alarms",
    )
    cleared = (
        f"Cleared: {fn + tn:,}  (score < {threshold})",
        f"{tn:,}  are free of it",
        f"{fn:,}  are {name}: missed",
    )
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
    return (
        f'<path d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}" fill="none" stroke="{_RULE}"/>'
    )


def _elbow(given: Box, side: Box) -> str:
    x, y = given.bottom[0], side.y + side.height / 2
    return _path(f"M{x:.1f} {y:.1f}L{side.x - 1:.1f} {y:.1f}", side.x - 1, y, down=False)


def _fan(x: float, y: float, boxes: list[Box]) -> str:
    return "".join(
        _path(
            f"M{x:.1f} {y:.1f}L{box.top[0]:.1f} {y:.1f}L{box.top[0]:.1f} {box.y - 1:.1f}",
            box.top[0],
            box.y - 1,
        )
        for box in boxes
    )


def _down(above: Box, below: Box) -> str:
    (x, y), (to, end) = above.bottom, below.top
    middle = below.y - 17
    return _path(
        f"M{x:.1f} {y:.1f}L{x:.1f} {middle:.1f}L{to:.1f} {middle:.1f}L{to:.1f} {end - 1:.1f}", to, end - 1
    )


def _alt(run: Run, counts: dict[str, Any]) -> str:
    parts = (run.split.get("proof") or {}).get("parts") or {}
    said = [f"{words.size(counts.get('images'), counts.get('patients'))} in the table"]
    said.append("; ".join(_excluded_lines(run)))
    said += [
        f"{_PARTS[k]}: {words.size(p.get('images'), p.get('patients'))}"
        for k, p in parts.items()
        if k in _PARTS
    ]
    return ". ".join(said) + "."
