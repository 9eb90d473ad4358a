"""Learning curves, shifts between sites, and how early a model knows, as pages with their figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from overread.core.errors import checked
from overread.evaluation.generalisation import lead_time, learning_curve, site_transfer
from overread.evaluation.generalisation.lead_time import LeadTime
from overread.evaluation.generalisation.learning_curve import Gain, LearningCurve, Step
from overread.evaluation.generalisation.site_transfer import Shift, SiteGap
from overread.reporting import words
from overread.reporting.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    SOFT,
    VERMILION,
    Figure,
    finish,
    percent_axis,
    quiet_grid,
    sheet,
)
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_text

_PALE, _WHITE = (0.08, 0.8)  # shares of the colour: in the palest field of a matrix; from where letters are white


def _metric(metric: str, of: str) -> str:
    name = words.label(metric)
    return f"{name} of {words.group(of)}" if of else name


def _change(e: Estimate) -> tuple[str, str]:
    """A difference with its sign, and its interval."""
    if e.undefined:
        return words.NOTHING, e.undefined
    return _signed(e.value), f"{_signed(e.low)} to {_signed(e.high)}" if math.isfinite(e.low) else ""


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


# -- learning curves ------------------------------------------------------------------------------------------------


@checked
def curve_figure(curve: LearningCurve) -> Figure:
    """The metric at every size with its interval, each model, the law, and its extrapolation, dashed."""
    with sheet(6.6, 4.3) as drawing:
        axes = drawing.subplots()
        _law(axes, curve)
        _points(axes, curve.steps)
        _sizes(axes, curve)
        quiet_grid(axes)
        axes.set_ylabel(_metric(curve.metric, curve.of))
        rises = curve.steps[-1].estimate.value >= curve.steps[0].estimate.value
        axes.legend(loc="lower right" if rises else "upper right")
        one = curve.steps[0].estimate
        tested = words.size(one.images, one.patients)
        axes.set_title(f"Tested on {tested}")
        alt = "; ".join(f"{s.size.value:,.0f} {curve.unit} {words.in_sentence(s.estimate)}" for s in curve.steps)
        dashed = "" if curve.law.undefined else " Dashed: extrapolated, to twice the largest size and no further."
        return finish(drawing, "learning-curve", "Learning curve", f"{_metric(curve.metric, curve.of)}: {alt}.",
                      f"Bars: {words.percent(curve.level)} intervals over the test patients. Small dots: single models. "
                      f"All tested on the same {tested}{_named(curve.part)}.{dashed}", wide=True)  # fmt: skip


def _named(part: str) -> str:
    return f" ({part} part)" if part else ""


def _law(axes: Axes, curve: LearningCurve) -> None:
    law = curve.law
    if law.undefined:
        return
    cut = next((i for i, n in enumerate(law.sizes) if n > law.largest * (1 + 1e-9)), len(law.sizes))
    axes.fill_between(law.sizes, law.low, law.high, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot(law.sizes[:cut], law.values[:cut], color=BLUE, linewidth=1.5, label="fitted a − b · n⁻ᶜ with its band")
    axes.plot(law.sizes[max(cut - 1, 0) :], law.values[max(cut - 1, 0) :], color=BLUE, linewidth=1.5,
              linestyle=(0, (4, 3)), label="extrapolated")  # fmt: skip


def _points(axes: Axes, steps: Sequence[Step]) -> None:
    known = [s for s in steps if not s.estimate.undefined]
    sizes, values = [s.size.value for s in known], [s.estimate.value for s in known]
    around = [[s.estimate.value - s.estimate.low for s in known], [s.estimate.high - s.estimate.value for s in known]]
    axes.errorbar(sizes, values, yerr=around, fmt="s", color=INK, markersize=5.5, linewidth=1.3, capsize=3,
                  label="mean over models")  # fmt: skip
    single = [(s.size.value, v) for s in known if len(s.values) > 1 for v in s.values]
    if single:
        axes.plot(*zip(*single, strict=True), ".", color=VERMILION, markersize=5, zorder=5, label="single models")


def _sizes(axes: Axes, curve: LearningCurve) -> None:
    if curve.unit != "grades per image":
        axes.set_xscale("log")
    ticks = [s.size.value for s in curve.steps]
    names = [f"{s.size.value:,.0f}" + (f"\n{s.size.patients:,} patients" if s.size.patients and curve.unit == "images" else "")
             for s in curve.steps]  # fmt: skip
    if not curve.law.undefined:
        ticks.append(learning_curve.AHEAD * curve.law.largest)
        names.append(f"{ticks[-1]:,.0f}\nnot tried")
    axes.set_xticks(ticks, names)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(
        {"images": "Training images", "patients": "Training patients"}.get(curve.unit, "Grades per training image")
    )


@checked
def curve_page(
    folder: Path, curve: LearningCurve, *, notes: Sequence[str] = (), cautions: Sequence[str] = ()
) -> list[Path]:
    """Write ``figures/learning-curve.svg`` and ``.png`` and ``curve.html`` into ``folder``."""
    law = None if curve.law.undefined else _fitted(curve)
    sections = [
        Section.of("The curve", notes, _steps(curve), curve_figure(curve)),
        Section.of("What each step gained", ("Paired: every model was tested on the same patients.",), _gained(curve)),
        Section.of("What more would bring", _ahead(curve), law),
    ]
    pages = write_page_and_figures(folder / "curve.html", f"Would more {curve.unit} help?", learning_curve.said(curve), sections,
                                   cautions=(*cautions, *_looks(curve.part, curve.looks)))  # fmt: skip
    return [*pages[1:], pages[0]]


def _looks(part: str, looks: int) -> tuple[str, ...]:
    if part != "test":
        return ()
    before = f"; it was looked at {words.times(looks)} before" if looks else ""
    return (f"The test set was opened for this, as the ledger says{before}.",)


def _steps(curve: LearningCurve) -> Table:
    rows = [
        (f"{s.size.value:,.0f}", f"{s.size.patients:,}" if s.size.patients else words.NOTHING, words.value(s.estimate),
         words.interval(s.estimate) or s.estimate.undefined, f"{len(s.values)}", words.number(s.spread))
        for s in curve.steps
    ]  # fmt: skip
    head = (curve.unit.capitalize(), "Training patients", _metric(curve.metric, curve.of), "Interval", "Models",
            "Spread between models")  # fmt: skip
    one = curve.steps[0].estimate
    return Table(f"Tested on {words.size(one.images, one.patients)}{_named(curve.part)}. Spread: standard deviation.",
                 head, tuple(rows))  # fmt: skip


def _gained(curve: LearningCurve) -> Table:
    rows = [_gain(g) for g in curve.gains]
    head = ("From", "To", "Change", "Interval", "p", "p after Holm", "Interval had others taught")
    return Table(f"Change of {_metric(curve.metric, curve.of)}. The last column adds the chance of who teaches.",
                 head, tuple(rows))  # fmt: skip


def _gain(g: Gain) -> tuple[str, ...]:
    return (f"{g.first:,.0f}", f"{g.second:,.0f}", *_change(g.difference), p_text(g.p), p_text(g.adjusted),
            words.NOTHING if g.anew.undefined else _change(g.anew)[1])  # fmt: skip


def _ahead(curve: LearningCurve) -> tuple[str, ...]:
    if curve.law.undefined:
        return (f"No law is fitted: {curve.law.undefined}.",)
    return (
        "The line is an inverse power law, a − b · n^(−c), fitted by least squares; it can only improve with n. "
        f"Its interval: {curve.law.ahead.method}. Beyond {curve.law.largest:,.0f} it is an extrapolation, "
        "which holds only for more of the same patients.",
    )


def _fitted(curve: LearningCurve) -> Table:
    law, twice = curve.law, f"{learning_curve.AHEAD * curve.law.largest:,.0f}"
    name = _metric(curve.metric, curve.of)
    rows = [(f"{name} at {twice} (extrapolated)", words.number(law.ahead.value), words.interval(law.ahead)),
            ("Gain from the largest size to there", *_change(law.more)),
            ("Asymptote a", words.number(law.asymptote.value), words.interval(law.asymptote)),
            ("Exponent c", words.number(law.exponent.value, 2), words.interval(law.exponent, 2))]  # fmt: skip
    return Table("The fitted law.", ("Measure", "Value", "Interval"), tuple(rows))


# -- shifts between sites -------------------------------------------------------------------------------------------


@checked
def matrix_figure(found: Shift) -> Figure:
    """Training sets by tested sources: value, interval and patients in every field; own sources framed."""
    rows, columns = len(found.trained), len(found.sources)
    with sheet(2.2 + 1.5 * columns, 0.9 + 0.62 * rows) as drawing:
        axes = drawing.subplots()
        values = [c.estimate.value for c in found.cells if math.isfinite(c.estimate.value)]
        low, high = min(values, default=0.0), max(values, default=1.0)
        for cell in found.cells:
            place = found.sources.index(cell.source), found.trained.index(cell.trained_on)
            _field(axes, place, cell.estimate, cell.inside, (low, high))
        axes.set(xlim=(-0.52, columns - 0.48), ylim=(rows - 0.48, -0.52), xlabel="Tested at", ylabel="Trained on")
        axes.set_xticks(range(columns), [words.name(s, 18) for s in found.sources])
        axes.set_yticks(range(rows), [words.name(s, 24) for s in found.trained])
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        name = _metric(found.metric, found.of)
        alt = "; ".join(
            f"trained on {c.trained_on}, tested at {c.source}: {words.in_sentence(c.estimate)}" for c in found.cells
        )
        return finish(drawing, "shift-matrix", f"{name}: trained on, tested at", f"{alt}.",
                      f"{name}, with {words.percent(found.level)} intervals; n: tested patients. Framed: sources that taught the "
                      "model (other patients of them). Fewer than ten patients are counted, not judged.", wide=True)  # fmt: skip


def _field(axes: Axes, place: tuple[int, int], e: Estimate, inside: bool, span: tuple[float, float]) -> None:
    known = math.isfinite(e.value)
    share = (e.value - span[0]) / (span[1] - span[0]) if known and span[1] > span[0] else 0.5
    share = _PALE + (1 - _PALE) * share if known else 0.0
    colour = tuple(1 - share * (1 - c) for c in to_rgb(BLUE))
    x, y = place
    edge, width = (INK, 2.2) if inside else (FAINT, 0.6)
    axes.add_patch(
        Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, edgecolor=edge, linewidth=width, zorder=3 if inside else 2)
    )  # fmt: skip
    ink = "white" if share > _WHITE else INK
    axes.text(x, y - 0.2, words.value(e) if known else "not judged", ha="center", va="center", color=ink, zorder=4,
              fontsize=10.5 if known else 9, fontweight="bold" if known else "normal")  # fmt: skip
    axes.text(x, y + 0.07, words.interval(e), ha="center", va="center", color=ink, fontsize=7.5, zorder=4)
    axes.text(x, y + 0.3, f"n = {e.patients:,}", ha="center", va="center", color=ink, fontsize=7.5, zorder=4)


@checked
def gaps_figure(found: Shift) -> Figure:
    """Internal minus external of every training set, with its interval."""
    rows = found.gaps
    with sheet(7.2, 1.1 + 0.42 * len(rows)) as drawing:
        axes = drawing.subplots()
        axes.axvline(0, color=SOFT, linewidth=0.9)
        for i, g in enumerate(rows):
            if math.isfinite(g.gap.low):
                axes.plot([g.gap.low, g.gap.high], [i, i], color=BLUE, linewidth=1.6, solid_capstyle="butt")
                axes.plot(g.gap.value, i, "s", color=BLUE, markersize=6)
            else:
                axes.text(0.0, i, "  not judged", va="center", fontsize=8.5, color=SOFT)
        axes.set_yticks(range(len(rows)), [_gap_name(g) for g in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{_metric(found.metric, found.of)}: internal minus external")
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        alt = "; ".join(f"{g.trained_on} {' ('.join(_change(g.gap))})" for g in rows)
        return finish(drawing, "shift-gaps", "Internal minus external", f"{alt}.",
                      f"Squares: difference of the two estimates, with {words.percent(found.level)} intervals. n: tested patients "
                      "at the sources that taught the model, and elsewhere. Right of the line: better at home.", wide=True)  # fmt: skip


def _gap_name(g: SiteGap) -> str:
    return f"{words.name(g.trained_on, 24)}, n = {g.internal.patients:,} and {g.external.patients:,}"


@checked
def shift_page(folder: Path, found: Shift, *, notes: Sequence[str] = (), cautions: Sequence[str] = ()) -> list[Path]:
    """Write the figures as SVG and PNG and ``shift.html`` into ``folder``."""
    shared = sum(g.shared for g in found.gaps)
    left_out = f"{words.count(shared, 'patient')} of both kinds of sources are left out of the external ones."
    unpaired = ("Other patients on either side, so the comparison is unpaired.", *([left_out] if shared else []))
    sections = [
        Section.of("The matrix", notes, _cells(found), matrix_figure(found)),
        Section.of("Internal minus external", unpaired, _gaps(found), gaps_figure(found)),
    ]
    pages = write_page_and_figures(folder / "shift.html", "What is lost at another site?", site_transfer.said(found), sections,
                                   cautions=(*cautions, *_looks(found.part, found.looks)))  # fmt: skip
    return [*pages[1:], pages[0]]


def _cells(found: Shift) -> Table:
    rows = [
        (words.name(c.trained_on), words.name(c.source), "yes" if c.inside else "no", words.value(c.estimate),
         words.interval(c.estimate) or c.estimate.undefined, f"{c.estimate.images:,}", f"{c.estimate.patients:,}")
        for c in found.cells
    ]  # fmt: skip
    head = ("Trained on", "Tested at", "Own source", _metric(found.metric, found.of), "Interval", "Images", "Patients")
    return Table(f"{_metric(found.metric, found.of)}{_named(found.part)}.", head, tuple(rows), 3)


def _gaps(found: Shift) -> Table:
    rows = [(words.name(g.trained_on), words.value(g.internal), words.value(g.external), *_change(g.gap), p_text(g.p), p_text(g.adjusted))
            for g in found.gaps]  # fmt: skip
    head = ("Trained on", "Internal", "External", "Difference", "Interval", "p", "p after Holm")
    return Table("P values are corrected for the number of training sets (Holm).", head, tuple(rows))


# -- how early a model knows ---------------------------------------------------------------------------------------


@checked
def time_figure(found: LeadTime) -> Figure:
    """The AUC at each time before the event with its interval, towards the event; below it, how often the marker shows."""
    with sheet(6.6, 5.4 if found.marker else 4.3) as drawing:
        both = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if found.marker else [drawing.subplots()]
        axes = both[0]
        axes.axhline(found.above, color=SOFT, linewidth=0.9)
        shift = 0.008 * max(m.lead for m in found.moments)
        _along(axes, [(m.lead, m.auc) for m in found.moments], INK, "s", "all images up to then")
        if found.marker:
            _along(
                axes,
                [(m.lead + shift, m.unmarked) for m in found.moments],
                BLUE,
                "o",
                "cases whose marker does not show yet",
            )
        if found.against:
            _along(
                axes, [(m.lead - shift, m.other) for m in found.moments], VERMILION, "^", words.name(found.against, 40)
            )
        if not math.isnan(found.earliest):
            axes.axvline(found.earliest, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
        quiet_grid(axes)
        axes.set_ylabel("AUC" if not found.of else f"AUC of {words.group(found.of)}")
        axes.legend(loc="lower right" if found.moments[0].auc.value >= 0.75 else "upper left")
        axes.set_title(f"{words.size(found.cases, found.patients).replace('image', 'case')}{_named(found.part)}")
        if found.marker:
            known = [m for m in found.moments if not m.marked.undefined]
            both[1].plot(
                [m.lead for m in known], [m.marked.value for m in known], "o-", color=BLUE, markersize=4, linewidth=1.1
            )
            both[1].set(ylabel="Marker shown", ylim=(-0.03, 1.03))
            percent_axis(both[1].yaxis)
            quiet_grid(both[1])
        both[-1].set_xlabel(f"Time before the event{f' ({found.unit})' if found.unit else ''}")
        axes.invert_xaxis()  # time runs to the right, and the event is at its end
        alt = "; ".join(f"{m.lead:g} before the event {words.in_sentence(m.auc)}" for m in found.moments)
        reached = (
            ""
            if math.isnan(found.earliest)
            else f" Dashed: the longest time at which the interval lies above {found.above:g}."
        )
        return finish(drawing, "auc-before-event", "AUC over the time before the event", f"{alt}.",
                      f"Bars: {words.percent(found.level)} intervals by patient. Line: {found.above:g}.{reached}", wide=True)  # fmt: skip


def _along(axes: Axes, points: Sequence[tuple[float, Estimate]], colour: str, mark: str, label: str) -> None:
    known = [(x, e) for x, e in points if not e.undefined]
    around = [[e.value - e.low for _, e in known], [e.high - e.value for _, e in known]]
    axes.errorbar([x for x, _ in known], [e.value for _, e in known], yerr=around, fmt=f"{mark}-", color=colour, markersize=5,
                  linewidth=1.1, capsize=2.5, label=label)  # fmt: skip


@checked
def time_page(folder: Path, found: LeadTime, *, cautions: Sequence[str] = ()) -> list[Path]:
    """Write ``figures/auc-before-event.svg`` and ``.png`` and ``time.html`` into ``folder``."""
    opened = [] if found.part != "test" else [
        "The test set was opened for this, once for the whole curve, as the ledger says"
        + (f"; it was looked at {words.times(found.looks)} before." if found.looks else ".")
    ]  # fmt: skip
    sections = [
        Section.of("The curve", (), time_figure(found), _moments(found)),
        Section.of("The same cases at every time", (
            "Fewer cases have images so early, and those that do may be others: here are only those that have one at every time.",
        ), _same_cases(found)),
    ]  # fmt: skip
    if found.against:
        sections.append(Section.of(f"Compared with {words.name(found.against, 60)}", ("On the same cases; p after Holm's correction over the times.",), _against(found)))  # fmt: skip
    pages = write_page_and_figures(folder / "time.html", "How early does the model know?", lead_time.said(found), sections,
                                   cautions=(*cautions, *opened))  # fmt: skip
    return [*pages[1:], pages[0]]


def _moments(found: LeadTime) -> Table:
    marker = ("AUC before the marker", "Interval", "Cases", "Marker shown") if found.marker else ()
    head = (
        f"Before the event{f' ({found.unit})' if found.unit else ''}",
        "AUC",
        "Interval",
        "Cases",
        "Patients",
        *marker,
    )
    rows = tuple(
        (f"{m.lead:g}", *_two(m.auc), f"{m.auc.images:,}", f"{m.auc.patients:,}",
         *((*_two(m.unmarked), f"{m.unmarked.images:,}", words.percent(m.marked.value)) if found.marker else ()))
        for m in found.moments
    )  # fmt: skip
    return Table("Given only the images that were there by then.", head, rows, 1)


def _same_cases(found: LeadTime) -> Table:
    rows = tuple((f"{m.lead:g}", *_two(m.same), f"{m.same.images:,}") for m in found.moments)
    return Table("", ("Before the event", "AUC", "Interval", "Cases"), rows, 1)


def _against(found: LeadTime) -> Table:
    rows = tuple((f"{m.lead:g}", words.value(m.auc), words.value(m.other), *_two(m.difference), p_text(m.p), p_text(m.adjusted))
                 for m in found.moments)  # fmt: skip
    return Table(
        "",
        ("Before the event", "AUC", words.name(found.against, 40), "Difference", "Interval", "p", "p after Holm"),
        rows,
        1,
    )


def _two(e: Estimate) -> tuple[str, str]:
    return words.value(e), words.interval(e) or e.undefined
