"""How many there are: images and patients of each label and source, the parts of a split, what an audit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from overread.cases.audit.audit import Audit
from overread.cases.cases import PARTS, Cases
from overread.cases.split import Split
from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, ORANGE, SKY, VERMILION, Figure

#: Rows of one figure, at most.
MOST = 30
#: Bars of one row, at most, with what tells them apart without colour.
_BARS = ((BLUE, ""), (ORANGE, "////"), (SKY, ".."))


@checked
def labels(cases: Cases) -> Figure | None:
    """Images and patients of each class or finding; of a quantity the histogram."""
    if cases.target.task.continuous:
        return _histogram(cases)
    panel = next(panel for panel in cases.overview().panels)
    held = {str(name): (int(str(images)), int(str(patients))) for name, images, patients, *_ in panel.rows}
    return _bars(held, ("images", "patients"), "labels", "Labels", str(cases), panel.of)


@checked
def sources(cases: Cases) -> Figure | None:
    """Images and patients of each source, the largest first; None where there are fewer than two."""
    table = cases.table[cases.table["source"] != ""]
    each = table.groupby("source")["patient"].agg(["size", "nunique"]).sort_values("size", ascending=False)
    held = {str(name): (int(row["size"]), int(row["nunique"])) for name, row in each.iterrows()}
    return _bars(held, ("images", "patients"), "sources", "Sources", str(cases), len(held)) if len(held) > 1 else None


@checked
def parts(split: Split) -> Figure | None:
    """Patients of each class in train, tuning and test; where the proof does not tell the classes, of each part."""
    told = split.proof.get("parts", {})
    names = list(dict.fromkeys(name for part in PARTS for name in told.get(part, {}).get("classes", {})))
    held = {name: tuple(told.get(part, {}).get("classes", {}).get(name, 0) for part in PARTS) for name in names}
    if not held:
        return _bars(
            {part: (n["patients"],) for part, n in split.counts().items()},
            ("patients",),
            "parts",
            "Parts",
            str(split),
            3,
        )
    return _bars(held, PARTS, "parts", "Patients of each class", str(split), len(held))


@checked
def findings(audit: Audit) -> Figure | None:
    """How often each fault was found, worst first; None where nothing was."""
    held = {f"{f.severity}: {f.kind}": (f.count,) for f in audit.findings if f.count}
    size = words.size(audit.counts.get("images"), audit.counts.get("patients"))
    return _bars(held, ("found",), "findings", "What the audit found", size, len(held)) if held else None


def _bars(
    held: Mapping[str, tuple[int, ...]], names: Sequence[str], name: str, title: str, size: str, of: int
) -> Figure | None:
    """A row a key, in it a bar a name with its number."""
    rows = list(held.items())[:MOST]
    if not rows:
        return None
    with canvas.sheet(6.4, 0.9 + 0.16 * len(rows) * (len(names) + 1)) as drawing:
        axes, thick = drawing.subplots(), 0.8 / len(names)
        most = max(1, *(number for _, numbers in rows for number in numbers))
        for place, (label, (colour, hatch)) in enumerate(zip(names, _BARS, strict=False)):
            at = np.arange(len(rows)) + (place - (len(names) - 1) / 2) * thick
            numbers = [row[place] for _, row in rows]
            axes.barh(at, numbers, thick * 0.92, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=label)
            for y, number in zip(at, numbers, strict=True):
                axes.annotate(f"{number:,}", (number, y), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
        canvas.plain_rows(axes, [words.name(key, 34) for key, _ in rows], [False] * len(rows))
        axes.set(xlim=(0, 1.14 * most), xlabel=names[0].capitalize() if len(names) == 1 else "")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(words.name(size, 90))
        if len(names) > 1:
            drawing.legend(loc="outside lower center", ncols=len(names))
        told = "; ".join(f"{key}: {', '.join(f'{n:,} {what}' for n, what in zip(row, names))}" for key, row in rows)
        more = f" The first {len(rows)} of {of:,}." if of > len(rows) else ""
        return canvas.finish(drawing, name, title, f"{title}. {words.sentence(told)}", f"{words.name(size, 90)}.{more}")


def _histogram(cases: Cases) -> Figure:
    values = cases.labels[cases.labelled]
    name = words.name(cases.target.names[0])
    with canvas.sheet(5.2, 3.2) as drawing:
        axes = drawing.subplots()
        axes.hist(values, bins=min(40, max(8, int(len(values) ** 0.5))), color=BLUE, edgecolor="white", linewidth=0.5)
        axes.axvline(float(np.median(values)), color=VERMILION, linestyle=canvas.THIN, linewidth=1)
        axes.set(xlabel=name, ylabel="Images", title=words.name(str(cases), 90))
        canvas.quiet_grid(axes)
        alt = f"{name} from {values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"
        return canvas.finish(drawing, "labels", f"Distribution of {name}", alt, "Dashed: the median.")
