"""The report: one HTML file from the files of a run, without a network, for people."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import overread
from overread.core.errors import checked
from overread.core.files import plain, write_text
from overread.core.phrases import command_of
from overread.reporting import advice, main_results, sections, words
from overread.reporting.checklist import answered
from overread.reporting.figures.calibration import abstention, calibration, conformal, decision, scores
from overread.reporting.figures.canvas import Figure, renamed, save_figures, themed
from overread.reporting.figures.cohort import confusion, confusions, flow
from overread.reporting.figures.curves import ladder, precision_recall, roc, scatter, training
from overread.reporting.figures.groups import forest, gaps
from overread.reporting.main_results import KeyNumber
from overread.reporting.outlined import outline_results
from overread.reporting.run import Run, read_evaluation, read_run
from overread.reporting.shown_cases import (
    Names,
    audit_pictures,
    cases_shown,
    errors_and_correct,
    methods,
    region_findings,
    regions,
    who,
)
from overread.reporting.slides import slide_results
from overread.reporting.threshold import as_json, sliders
from overread.reporting.words import Table
from overread.tasks.target import Target

#: The sections of the report in a reader's order: what came out and why to believe it, then how it was made.
SECTIONS = {
    "results": "Results on the test set",
    "subgroups": "Subgroups and sources",
    "errors": "Errors beside correct cases",
    "audit": "Audit of the data",
    "limits": "Limits",
    "next": "What to do next",
    "question": "The question",
    "cases": "Flow of cases",
    "training": "How it was trained",
    "split": "The split and its proof",
    "ledger": "Looks at the test set",
    "record": "Checklists and record",
}


#: The headings that another task has.
OUTLINED = {"errors": "Images with their outlines"}


@checked
def report(folder: str | os.PathLike[str], *, case_names: bool = False, files: bool = False) -> Path:
    """Write ``report.html`` into a run folder, from its files only, and give its path.

    Stages that have not run are left out with the command that makes them. Cases stand under short keys, which
    ``explanations/keys.json`` resolves; ``case_names`` shows their names instead, where these identify nobody.
    ``files``: the figures are written as :func:`draw_all` does too, from the same drawing, as SVG and PNG.
    Raises InputError if the folder does not exist or one of its files is damaged.
    """
    run = read_run(folder)
    drawn = figures(run)
    if files:
        replace_figures(drawn, run.folder / "evaluation" / "figures")
    page = environment().get_template("report.html.j2").render(**content(run, drawn, case_names=case_names))
    return write_text(run.folder / "report.html", page)


def content(run: Run, drawn: dict[str, Figure | None], *, case_names: bool = False) -> dict[str, Any]:
    """Everything the template sets."""
    results, trust, names, tried = main_results, advice.trust(run), Names.of(run, case_names), sliders(run)
    slides = slide_results.read_slide_results(run.folder)
    names.keep(run.folder, [*cases_shown(run), *(slide.case for slide in slides.slides)])
    headings = SECTIONS | (OUTLINED if run.task.dense else {})
    return {
        "run": run, "place": command_of([run.place]), "title": sections.title(run), "started": _date(run),
        "parts": {id: (number, text) for number, (id, text) in enumerate(headings.items(), start=1)},
        "summary": advice.summary(run), "key_numbers": results.key_numbers(run), "trust": trust, "trust_numbers": results.trust_numbers(trust.numbers),
        "figures": drawn, "question": sections.question(run), "study_file": sections.study_file(run), "soundness": advice.soundness(run),
        "points_table": results.points_table(run), "tested_points": results.tested_points(run), "reading": _reading(run), "cases": sections.cases(run), "sliders": tried, "sliders_json": as_json(tried),
        "findings": sections.findings(run), "pictures": audit_pictures(run, names), "shortcut": sections.shortcut(run), "shortcut_words": sections.shortcut_words(run),
        "split_table": sections.split_table(run), "proof": sections.proof(run), "decisions": Table("Decisions taken for this study, and why", ("Decision", "Choice", "Why"), sections.decisions(run), 3), "rungs": sections.rungs(run), "folds": results.folds(run),
        "levels": results.levels(run), "level_figures": _level_figures(run), "training_classes": results.training_classes(run),
        "training_facts": Table("The model", ("", ""), sections.training_facts(run), 2), "recipe": sections.recipe(run), "overall": results.overall(run), "rest": results.rest(run),
        "each": results.each(run), "points": results.points(run), "looks": results.looks(run), "ledger": sections.ledger(run),
        "by_subgroup": results.by_subgroup(run), "gaps": results.gaps_table(run), "heterogeneity": results.heterogeneity(run),
        "graders": results.graders_words(run), "graders_table": results.graders_table(run), "unsure": results.unsure(run), "beside": _beside(run),
        "elsewhere": advice.elsewhere(run), "gallery": errors_and_correct(run, names), "who": who(run, names), "methods": methods(run), "regions": regions(run.regions), "region_findings": region_findings(run.regions), "checklists": None if run.task.dense else answered(run),
        "outcome": outline_results.outcome(run), "object_classes": outline_results.classes(run), "confused": outline_results.confused(run),
        "shown_images": outline_results.shown_images(run, names), "shown_words": outline_results.shown_words(run), "legend": outline_results.outline_legend(run),
        "search_words": slide_results.search_words(slides), "search_tables": slide_results.search_tables(slides), "search_figure": slide_results.search_figure(slides),
        "of_slides": bool(slides), "shown_slides": slide_results.shown_slides(run, slides, names), "slide_words": slide_results.slide_words(slides), "skipped": slide_results.skipped_table(slides),
        "many_classes": len(run.names) > 4, "next_steps": advice.next_steps(run), "provenance": sections.provenance(run), "names": words.name, "sentence": words.sentence,
    }  # fmt: skip


#: How figures are to be read, for somebody who sees such a one for the first time.
READING = {
    "roc": ("ROC curve", "Each point is a threshold: how many are found against how many healthy are alarmed. Further up and left is better."),
    "precision-recall": ("Precision and recall", "How many of the flagged are right. It depends on how common the disease is among these cases."),
    "scores": ("Distribution of the score", "Where the two groups overlap, no threshold can tell them apart."),
    "calibration": ("Calibration", "Points on the diagonal mean what they say. Points within the band cannot be told from a calibrated model."),
}  # fmt: skip


def _reading(run: Run) -> list[tuple[str, str]]:
    """How to read the figures: what fills the grid beside an odd number of them."""
    if run.task.dense:
        return outline_results.reading(run)
    if not run.primary:
        return []
    rows = [
        *READING.values(),
        *([("Decision curve", "For someone who acts from a given risk on: above the other lines, the model does more good than harm.")] if run.curve else []),
        ("Confusion matrix", _called_by(run)),
        *([("Errors when it may stay silent", "To the left it answers only where it is surest. A curve that falls to the left: its confidence is worth something.")] if run.evaluation.more.get("abstention") else []),
    ]  # fmt: skip
    return [(f"{name}.", how) for name, how in rows]


def _level_figures(run: Run) -> list[Figure]:
    """The ROC curves at each level of a tree."""
    drawn = ((level, roc(at)) for level, at in run.levels)
    return [renamed(figure, f"roc-level-{place}", f"{figure.title} at the level {words.name(level, 40)}") for place, (level, figure) in enumerate(drawn, 1) if figure]  # fmt: skip


def _called_by(run: Run) -> str:
    rule = run.evaluation.confusion.rule
    return f"What was called what; called by {rule}." if rule else "What was called what, each at its own threshold."


def _beside(run: Run) -> list[tuple[str, str]]:
    """Pages that lie beside this one, and what they are."""
    known = {
        "published/published.html": "the table of the paper that this recipe follows, with this run's numbers beside it",
        "curve/curve.html": "what more images would gain",
        "shift/shift.html": "what is lost at another site",
        "readers/readers.html": "the readers, and the model beside them",
        "simulation/simulation.html": "what would have happened with the model in the reading room",
        "checklists/checklists.html": "the reporting checklists CLAIM, STARD-AI and TRIPOD+AI, filled in as far as the run knows",
        "model_card.md": "the model card",
    }
    return [(path, what) for path, what in known.items() if (run.folder / path).exists()]


def _date(run: Run) -> str:
    return words.name(run.record.started, 40).replace("T", " ").split(".")[0].split("+")[0][:16]


# -- figures from stored numbers: each takes what a file of the run holds and computes nothing of its own ---------


#: What is drawn from an evaluation alone, in the order of the page.
DRAWN = {
    "roc": roc,
    "precision-recall": precision_recall,
    "scores": scores,
    "calibration": calibration,
    "decision": decision,
    "confusion": lambda run: confusion(run) or confusions(run),
    "scatter": scatter,
    "abstention": abstention,
    "conformal": conformal,
    "forest": forest,
    "gaps": gaps,
}


@checked
def draw_all(folder: str | os.PathLike[str], *, png: bool = False) -> list[Path]:
    """Draw every figure that the run's stored numbers allow, as ``evaluation/figures/*.svg``; gives their paths.

    ``png``: for print as well. Figures of an earlier state of the run that its numbers no longer allow are removed.
    Raises InputError if the folder does not exist or one of its files is damaged.
    """
    run = read_run(folder)
    return replace_figures(figures(run), run.folder / "evaluation" / "figures", png=png)


@checked
def draw_evaluation(folder: str | os.PathLike[str], target: Target) -> tuple[Figure, ...]:
    """Draw ``folder/metrics.json`` and ``curves.json`` of a ``target`` into ``folder/figures`` as SVG and PNG."""
    run = read_evaluation(folder, target)
    drawn = {name: draw(run) for name, draw in DRAWN.items()}
    replace_figures(drawn, run.folder / "figures")
    return tuple(figure for figure in drawn.values() if figure)


@checked
def replace_figures(drawn: dict[str, Figure | None], home: Path, *, png: bool = True) -> list[Path]:
    """Write the figures into ``home``, and remove there what is of an earlier state: missing ones, and old PNG."""
    for name, figure in drawn.items():
        for ending in (".svg", ".png"):
            if figure is None or (ending == ".png" and not png):
                (home / f"{name}{ending}").unlink(missing_ok=True)
    return save_figures([figure for figure in drawn.values() if figure], home, png=png)


@checked
def figures(run: Run) -> dict[str, Figure | None]:
    """Every figure of a run by its name; None where its numbers are not there yet."""
    return {
        "flow": flow(run),
        "training": training(run),
        "ladder": ladder(run),
        **{name: draw(run) for name, draw in DRAWN.items()},
        **outline_results.outline_figures(run),
    }


# -- a page of its own: what a command on a table writes for people, in the style of the report -------------------


@dataclass(frozen=True)
class Picture:
    """A small picture: its data address, what it shows in words, the lines under it, and how many stand side by side in it."""

    address: str
    alt: str
    lines: tuple[str, ...] = ()
    across: int = 1


@dataclass(frozen=True)
class Calculator:
    """What a reader of a page can move: the ``name`` of its template and of its script, and the data that both are given.

    The script is the only one that the page may run; without it the page shows the numbers that it was written with.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def json(self) -> str:
        """The data for the script."""
        return json.dumps(plain(self.data), separators=(",", ":"))


@dataclass(frozen=True)
class Section:
    """A section of a page: its title, then sentences, tables, pictures and figures in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @classmethod
    def of(cls, title: str, paragraphs: Iterable[str] = (), *content: Table | Figure | None) -> Section:
        """A section of what there is: None is left out."""
        tables = tuple(item for item in content if isinstance(item, Table) and item.rows)
        return cls(title, tuple(paragraphs), tables, tuple(item for item in content if isinstance(item, Figure)))


@checked
def write_page(
    path: str | os.PathLike[str],
    title: str,
    summary: Sequence[str],
    sections: Sequence[Section],
    *,
    cautions: Sequence[str] = (),
    keys: Sequence[KeyNumber] = (),
    names: str = "holds no patient identifiers",
    calculator: Calculator | None = None,
) -> Path:
    """Write one HTML file that needs no network, and give its path.

    ``summary``: paragraphs at the top. ``cautions``: what a reader must know before believing the numbers. ``keys``: at
    most four numbers in large type. ``names``: what the foot says of names in the page. ``calculator``: stands before the
    sections. Sections without content are left out. All texts are escaped; figures stand in the page as SVG, the wide ones in a row of their own. Equal input
    gives equal bytes.
    """
    shown = [
        section for section in sections if any((section.paragraphs, section.tables, section.figures, section.pictures))
    ]
    page = environment().get_template("page.html.j2")
    return write_text(
        path,
        page.render(
            title=title,
            summary=summary,
            cautions=cautions,
            sections=shown,
            keys=keys,
            names=names,
            calculator=calculator,
        ),
    )


@checked
def write_page_and_figures(
    path: Path, title: str, summary: Sequence[str], sections: Sequence[Section], *, cautions: Sequence[str] = (),
    calculator: Calculator | None = None,
) -> list[Path]:  # fmt: skip
    """The same, and its figures as ``figures/*.svg`` and ``*.png`` beside it; gives the paths, the page first."""
    drawn = save_figures([figure for section in sections for figure in section.figures], path.parent / "figures")
    return [write_page(path, title, summary, sections, cautions=cautions, calculator=calculator), *drawn]


# -- what every page is printed on: the templates, which escape everything and refuse what is not there -----------


TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Templates with the style sheet; a figure's SVG and our own script are the only texts set as they stand."""
    found = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    found.globals["css"] = _as_it_stands("report.css")
    found.globals["script"] = _as_it_stands("threshold.js")
    found.globals["script_of"] = lambda name: _as_it_stands(f"{name}.js")
    found.filters["themed"] = lambda svg: Markup(themed(svg))
    found.filters["digest"] = _digest
    found.globals["version"] = overread.__version__
    return found


def _as_it_stands(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _digest(script: str) -> str:
    """What a content security policy calls a script by: the only one that a browser may run in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
