"""Marks on images against lesions, as a page with its figure."""

from __future__ import annotations

import os
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.comparison.compare_marks import MarkComparison
from overread.evaluation.detection import Localisation
from overread.reporting import words
from overread.reporting.figures.comparison import forest
from overread.reporting.figures.froc_curve import froc_figure, lesion_table, rates_words, size_words
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.pages.compare import difference_table
from overread.stats.estimate import p_said


@checked
def froc_page(found: Localisation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/froc.svg`` and ``.png`` and ``froc.html`` into ``folder``; gives the paths, the page first."""
    sections = [
        Section.of("Sensitivity and false positives", (), lesion_table(found), froc_figure(found)),
        Section("How it was computed", _methods(found)),
    ]
    cautions = [words.sentence(caution) for caution in found.cautions]
    return write_page_and_figures(Path(folder) / "froc.html", "Marks against lesions", _summary(found), sections, cautions=cautions)  # fmt: skip


@checked
def marks_comparison_page(found: MarkComparison, curves: Localisation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*`` and ``comparison.html`` into ``folder``; gives the paths, the page first. ``curves``: both tables of marks judged as
    the readers that the comparison names."""
    first, second = (words.name(name, 60) for name in found.names)
    main = found[found.endpoint.key] if found.endpoint else found.differences[0]
    asked = ", the primary endpoint, not corrected" if found.endpoint else ""
    lines = [f"{first} is compared with {second} on the same images: {size_words(curves)}. Each difference is the first minus the second.",
             f"{words.label(main.first.metric)}{asked}: {words.in_sentence(main.first)} against {words.in_sentence(main.second)}; difference {words.in_sentence(main.difference)}, {p_said(main.p)}."]  # fmt: skip
    sections = [
        Section.of("Differences", (), difference_table(found, groups=False), forest(found)),
        Section.of("Curves", (), froc_figure(curves)),
        Section("How it was computed", (f"{found.correction}; intervals are not corrected.", *_methods(curves)[:2],
                "Intervals: patient bootstrap, both on the same resamples of the patients. Every number stands in metrics.json.")),
    ]  # fmt: skip
    cautions = [words.sentence(caution) for caution in found.cautions]
    cautions += [f"These lesions had been looked at {words.times(found.looks)} before."] if found.looks else []
    return write_page_and_figures(Path(folder) / "comparison.html", f"{first} against {second}", lines, sections, cautions=cautions)  # fmt: skip


def _summary(found: Localisation) -> list[str]:
    c = found.counts
    lines = [f"{size_words(found)}; {words.count(c['images with lesions'], 'image')} with lesions."]
    for e in found.estimates:
        if e.metric == "mean sensitivity":
            who = f" of {words.name(e.where['reader'])}" if "reader" in e.where else ""
            lines.append(f"Mean sensitivity{who} at {rates_words(found)}: {e.undefined or words.in_sentence(e)}.")
    return [*lines, *([f"These lesions were looked at {words.times(found.looks)} before."] if found.looks else [])]


def _methods(found: Localisation) -> tuple[str, ...]:
    return (
        f"A mark hits {found.about['hits']}. A lesion counts once, with its highest mark; further marks on it are neither hits nor false positives. All other marks are false positives, on images with lesions too.",
        f"The mean sensitivity is taken over {rates_words(found)}; between two steps the curve is read on the line that joins them, and beyond its last mark it stays level. The lowest score is a threshold too.",
        "AFROC area: the chance that a lesion scores higher than the worst false positive of an image without lesions; weighted: each image with lesions counts the same (Chakraborty and Zhai 2016).",
        "Intervals: patient bootstrap. Every number stands in metrics.json; the figure is drawn from froc.json.",
    )  # fmt: skip
