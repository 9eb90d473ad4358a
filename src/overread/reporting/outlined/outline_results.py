"""What the report tells of outlined objects: the result in words a pathologist uses, tables, figures, and images with their outlines."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from overread.core.errors import checked
from overread.core.phrases import count
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
from overread.evaluation.metrics import metric_named, shown
from overread.reporting import words
from overread.reporting.case_rows import OverlayEntry
from overread.reporting.figures.canvas import Figure
from overread.reporting.figures.instances import IouCurve, ap_over_iou, counts_against_counts, object_sizes
from overread.reporting.figures.outlines import legend, overlay
from overread.reporting.run import Run
from overread.reporting.shown_cases import Names, by_reason, picture
from overread.reporting.words import Table
from overread.stats.estimate import Estimate

#: What the images that are shown are shown for, and how they are called.
REASONS = {"worst": "The images that were outlined worst", "random": "Images drawn at random from the others"}
#: The figures of this task, in the order of the page.
FIGURES = ("ap-over-iou", "counts", "object-sizes")


# -- in words -------------------------------------------------------------------------------------------------------


@checked
def in_words(run: Run) -> str:
    """What was found, missed, merged and cut, in sentences, each with its interval."""
    ap, recall, precision = (run.known(name) for name in ("ap@0.5", "recall@0.5", "precision@0.5"))
    say, lines = words.in_sentence, []
    if recall and precision:
        lines.append(f"Of the objects that are there it found {say(recall)}; of the outlines that it drew {say(precision)} were an object.")  # fmt: skip
    if ap:
        lines.append(
            f"Both in one number, found over all that are there or were drawn, is AP at an IoU of 0.5: {say(ap)}; 1 is perfect."
        )
    return "".join(f"{line} " for line in (*lines, *_touching(run), *_counting(run)))


def _touching(run: Run) -> Iterator[str]:
    merges, splits = run.known("merges"), run.known("splits")
    if merges and splits:
        yield f"Of 100 objects {_tenths(merges)} were lost in the outline of a neighbour (merges), and {_tenths(splits)} outlines too many were pieces of one object (splits)."  # fmt: skip


def _counting(run: Run) -> Iterator[str]:
    bias, low, high = (run.known(f"count error{end}") for end in ("", ", lower limit", ", upper limit"))
    if bias and low and high:
        way = "too many" if bias.value > 0 else "too few"
        yield (f"It counts {words.number(abs(bias.value), 1)} objects an image {way} on average ({words.percent(bias.level)} interval of the difference "
               f"{words.interval(bias, 1, ' to ')}), and in 95 % of images between {_signed(low.value)} and {_signed(high.value)}.")  # fmt: skip


@checked
def lost_objects(run: Run) -> Iterator[str]:
    """Where fewer than half of the true objects were found: over all images, or under a source of its own."""
    held = run.outlines
    if held is None:
        return
    for where, images in _by_source(held):
        true, found = (int(images[column].sum()) for column in ("true", "hits"))
        if true and 2 * found < true:
            told = f"none of the {true:,}" if not found else f"{found:,} of {true:,}"
            yield f"{where} it found {told} objects{': fewer than half' if found else ''}."


def _by_source(held: InstanceEvaluation) -> Iterator[tuple[str, pd.DataFrame]]:
    """All images together, then those of each source, where there are several."""
    yield "Over all images", held.images
    sources = held.images["source"].astype(str)
    for name in sorted(sources.unique()) if sources.nunique() > 1 else ():
        yield f"In images of {words.name(name or 'no source', 40)}", held.images[sources == name]


def _tenths(found: Estimate) -> str:
    return f"{words.number(found.value, 1)} ({words.percent(found.level)} interval {words.interval(found, 1, ' to ')})"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{words.number(value, 1)}"


# -- tables ---------------------------------------------------------------------------------------------------------


@checked
def outcome(run: Run) -> Table | None:
    """How many objects were found, missed, joined and cut, of all and of each source."""
    held = run.outlines
    if held is None:
        return None
    columns = ("true", "predicted", "hits", "missed", "false", "merges", "splits")
    groups = [("All images", held.images)]
    sources = held.images["source"].astype(str)
    if sources.nunique() > 1:
        groups += [
            (words.name(name or "no source", 40), held.images[sources == name]) for name in sorted(sources.unique())
        ]
    rows = tuple((name, f"{len(table):,}", *(f"{int(table[column].sum()):,}" for column in columns)) for name, table in groups)  # fmt: skip
    head = ("Images of", "Images", "True objects", "Outlines drawn", "Found", "Missed", "No object", "Merges", "Splits")
    return Table("What became of the objects, at an IoU above 0.5", head, rows)


@checked
def classes(run: Run) -> Table | None:
    """One row a class of objects, where there are several."""
    held = run.outlines
    metrics = [
        m for m in shown("outlines subgroups") if held and any(e.of and e.metric == m.name for e in held.estimates)
    ]
    if held is None or not metrics:
        return None
    rows = tuple(
        (words.name(of, 32), *(f"{n:,}" for n in held.counts.per_class.get(of, (0, 0))), *(words.cell(run.estimate(m.name, of)) for m in metrics[:6]))
        for of in dict.fromkeys(e.of for e in held.estimates if e.of)
    )  # fmt: skip
    return Table("Each class of objects", ("Class", "True", "Drawn", *(m.label for m in metrics[:6])), rows)


@checked
def confused(run: Run) -> Table | None:
    """True classes against those that were drawn, in objects; None where there are none."""
    held = run.outlines.confusion if run.outlines else None
    if held is None or not held.names:
        return None
    names = [words.name(name, 24) for name in held.names]
    rows = tuple((("not drawn" if name == "none" else name) if place < len(names) - 1 else "no object", *(f"{n:,}" for n in row)) for place, (name, row) in enumerate(zip(names, held.counts, strict=True)))  # fmt: skip
    return Table("True classes (rows) against those that were drawn", ("", *names[:-1], "not found"), rows)


# -- figures --------------------------------------------------------------------------------------------------------


@checked
def outline_figures(run: Run) -> dict[str, Figure | None]:
    """Every figure of outlined objects; None where its numbers are not there."""
    held = run.outlines
    if held is None:
        return dict.fromkeys(FIGURES)
    drawn = (ap_over_iou(_curves(held), run.size, run.level), _counts(run, held), object_sizes(run.sizes))
    return dict(zip(FIGURES, drawn, strict=True))


def _curves(held: InstanceEvaluation) -> list[IouCurve]:
    """All images, then each source."""
    drawn = [(name, curve) for name, curve in held.curves.items() if name == "" or name.startswith("source ")]
    return [IouCurve(name.removeprefix("source ") or "all images", curve.iou, curve.ap, curve.low, curve.high) for name, curve in drawn]  # fmt: skip


def _counts(run: Run, held: InstanceEvaluation) -> Figure | None:
    bias, low, high = (run.known(f"count error{end}") for end in ("", ", lower limit", ", upper limit"))
    limits = (low.value, high.value) if low and high else None
    table = held.images
    return counts_against_counts(table["true"].to_numpy(), table["predicted"].to_numpy(), table["source"].astype(str).tolist(), bias, limits)  # fmt: skip


@checked
def reading(run: Run) -> list[tuple[str, str]]:
    """How the figures are to be read."""
    if run.outlines is None:
        return []
    return [
        ("IoU.", "How well two outlines agree: the area they share over the area of both together. Above 0.5 an outline can be one object's only."),
        ("AP over the overlap.", "How many are found when closer agreement is asked for. AP here is TP / (TP + FP + FN), as the Data Science Bowl 2018 defined it; other papers call other numbers AP."),
        ("Counts.", "Each point is an image: above 0 too many objects were counted, below too few. What grows to the right is lost in crowds."),
    ]  # fmt: skip


# -- images with their outlines -------------------------------------------------------------------------------------


@checked
def shown_images(run: Run, names: Names) -> list[tuple[str, list[Figure]]]:
    """A title and its images, with the outlines on them: the worst first, then those that were drawn at random."""
    return by_reason(run.overlays, REASONS, "overlay", lambda entry, key: _drawn(run, entry, names, key))


@checked
def outline_legend(run: Run) -> Figure | None:
    """What the outlines of the images that are shown say; None where none is shown."""
    statuses = [
        status
        for status in ("hit", "miss", "false", "merge", "split")
        if any(s.status == status for e in run.overlays for s in e.shapes)
    ]
    return legend(statuses) if statuses else None


def _drawn(run: Run, entry: OverlayEntry, names: Names, key: str) -> Figure:
    title = f"{names.with_source(entry)}: {metric_named('ap').label} {words.number(entry.ap, 2)}"
    return overlay(entry, picture(run.folder, entry.picture), title, key)


@checked
def shown_words(run: Run) -> str:
    """How the images that are shown were chosen, in a sentence."""
    chosen = [(why, sum(entry.why == why for entry in run.overlays)) for why in REASONS]
    (_, worst), (_, drawn) = chosen
    if not worst + drawn:
        return ""
    more = f", then {count(drawn, 'image')} drawn at random from the others" if drawn else ""
    return (f"Of the test part the {count(worst, 'image')} with the lowest mean AP{more}. Press on an image to see it without outlines; a pointer that rests on an "
            "outline is told what became of the object. Look for true outlines that are wrong, for focus and stain, and for a common cause.")  # fmt: skip
