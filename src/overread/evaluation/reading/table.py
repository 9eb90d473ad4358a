"""A reader study as aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from overread.errors import checked
from overread.evaluation.comparing.table import aligned, counted, p_text
from overread.evaluation.ledger import looked
from overread.evaluation.reading.parts import MEAN, MODEL, Contrast
from overread.stats.estimate import Estimate

if TYPE_CHECKING:
    from overread.evaluation.reading.reading import Reading

#: Columns of the table of people, in this order.
SHOWN = ("sensitivity", "specificity", "balanced accuracy", "accuracy", "auc")


def as_text(found: Reading) -> str:
    """Counts, cautions, agreement, a line per reader, and a line per difference."""
    counts = found.counts
    lines = [f"{counted(counts['readers'], 'reader')} of {counted(counts['images'], 'case')} of {counted(counts['patients'], 'patient')}, reference: {found.about['reference']}"
             + looked(found.looks)]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    for modality in found.about["modalities"]:
        lines += ["", *_modality(found, modality)]
    between = [c for c in found.contrasts if "−" in c.where.get("modality", "") and "reader" not in c.where]
    lines += ["", *_contrasts(between, "modalities", found)] if between else []
    return "\n".join([*lines, *(["", str(found.verdict)] if found.verdict else [])])


def _modality(found: Reading, modality: str) -> Iterator[str]:
    mine = [e for e in found.estimates if e.where.get("modality", "") == modality and "cases" not in e.where]
    if modality:
        yield f"modality {modality}"
    level = f"value ({found.about['level']:.0%} interval)"
    agreeing = [e for e in mine if "reader" not in e.where]
    yield from aligned([("agreement", "of", level), *((e.metric, e.of, str(e)) for e in agreeing)])
    people = [e for e in mine if "reader" in e.where and "design" not in e.where and "beside" not in e.where]
    if people:
        yield ""
        yield from aligned(_people(people))
    against = [c for c in found.contrasts if c.where.get("modality", "") == modality and "reader" in c.where]
    if against:
        yield ""
        yield from _contrasts(against, "model minus", found)


def _people(estimates: Sequence[Estimate]) -> list[tuple[str, ...]]:
    """A row for each reader, the mean and the model; a column for each metric."""
    cells = {(e.where["reader"], e.metric): str(e) for e in estimates}
    metrics = [m for m in SHOWN if any(metric == m for _, metric in cells)]
    names = dict.fromkeys(name for name, _ in cells)
    rows = [name for name in names if name not in (MODEL, MEAN)] + [n for n in (MEAN, MODEL) if n in names]
    return [("reader", *metrics), *((name, *(cells.get((name, m), "") for m in metrics)) for name in rows)]


def _contrasts(contrasts: Sequence[Contrast], first: str, found: Reading) -> list[str]:
    head = (first, "metric", f"difference ({found.about['level']:.0%} interval)", "p", "p (Holm)", "how")
    return aligned([head, *map(_row, shown(contrasts))])


@checked
def shown(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Of the designs of a multi-reader analysis the most general that has a result; everything is in the files."""
    kept: dict[tuple[str, ...], Contrast] = {}
    for c in contrasts:
        key = (c.gap.difference.metric, *(f"{k} {v}" for k, v in c.where.items() if k != "design"))
        if key not in kept or (kept[key].gap.difference.undefined and not c.gap.difference.undefined):
            kept[key] = c
    return list(kept.values())


def _row(c: Contrast) -> tuple[str, ...]:
    who = c.where.get("reader") or c.where["modality"]
    how = (
        c.where.get("at") or c.where.get("design") or ("readers random, cases random" if _sampled(c) else "")
    )
    return who, c.gap.difference.metric, str(c.gap.difference), p_text(c.gap.p), p_text(c.adjusted), how


def _sampled(c: Contrast) -> bool:
    return "Obuchowski" in c.gap.difference.method
