"""The page of an evaluation of its own: what a table of predictions is worth, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.metrics import metric_named
from overread.reporting import advice, main_results, words
from overread.reporting.figures.canvas import Figure
from overread.reporting.page import READING, Section, write_page
from overread.reporting.run import Run, read_evaluation
from overread.reporting.words import Table
from overread.tasks.target import Target

_RANK = ("roc", "precision-recall", "scores", "confusion", "scatter")
_RISK = ("calibration", "decision")
_GROUPS = ("forest", "gaps")
_UNSURE = ("abstention", "conformal")


@checked
def evaluation_page(folder: Path, target: Target, figures: Iterable[Figure], title: str) -> Path:
    """Write ``folder/evaluation.html`` from the numbers in ``folder``, and give its path.

    ``figures``: what was drawn of them, asked for when the rest is there. Raises InputError if a file is damaged.
    """
    run, results = read_evaluation(folder, target), main_results
    first = (results.points_table(run), *results.overall(run), results.calls_table(run), results.rest(run))
    each, everything = results.each(run), results.everything(run)
    drawn = {figure.name: figure for figure in figures}
    sections = [
        Section.of("Results", (results.looks(run), *results.points(run), *results.endpoint(run)), *first, *_of(drawn, _RANK)),
        Section.of("Each class or finding", (), each),
        Section.of("The score as a risk", _risk(run), *_of(drawn, _RISK)),
        Section.of("Subgroups and sources", results.heterogeneity(run), results.by_subgroup(run), results.gaps_table(run), *_of(drawn, _GROUPS)),
        Section.of("When the model may say that it is not sure", _sets(run), *_of(drawn, _UNSURE)),
        Section.of("How to read this", (), _reading(drawn)),
        Section.of("Every number", (), everything),
        Section.of("What it takes to run this again", (), _provenance(run)),
    ]  # fmt: skip
    summary = [line for line in (advice.summary(run).strip(), advice.elsewhere(run)) if line]
    keys = results.key_numbers(run)
    return write_page(folder / "evaluation.html", title, summary, sections, cautions=cautions(run), keys=keys)


def _of(drawn: dict[str, Figure], names: Sequence[str]) -> list[Figure]:
    """Those that are there; the narrow ones first, so that the rows are full."""
    return sorted((drawn[name] for name in names if name in drawn), key=lambda figure: figure.wide)


@checked
def cautions(run: Run) -> list[str]:
    """What a reader must know before believing the numbers of a table of predictions."""
    return [words.sentence(caution) for caution in run.evaluation.cautions]


def _risk(run: Run) -> tuple[str, ...]:
    slope = run.known("calibration slope", run.primary)
    if slope is None:
        return ()
    return (f"The calibration slope is {words.in_sentence(slope)}: {metric_named(slope.metric).definition}.",)


def _sets(run: Run) -> tuple[str, ...]:
    coverage, size = run.known("set coverage"), run.estimate("set size")
    if not run.conformal or coverage is None:
        return ()
    line = f"Sets made on the tuning data to hold the truth of {words.percent(run.conformal.level)} of new images held that of {words.in_sentence(coverage)}"
    return (f"{line}, with {words.in_sentence(size)} answers on average." if size else f"{line}.",)


_READING = READING | {
    "decision": ("Decision curve", "For someone who acts from a given risk on: a curve above the others does more good than harm; at 0 it does no better than nobody treated."),
    "confusion": ("Confusion matrix", "What was called what at the threshold."),
    "forest": ("Subgroups", "Intervals that cross the dashed line do not differ visibly from all test cases."),
    "gaps": ("Gaps", "Intervals that cross the line at 0 show no difference beyond chance. p is corrected for the number of gaps judged."),
    "abstention": ("Errors when it may stay silent", "To the left the model answers only where it is surest. A curve that falls to the left: its confidence is worth something."),
    "conformal": ("Sets that hold the truth", "Rows left of the line hold the truth less often than promised."),
    "scatter": ("Predicted against true", "Points on the dashed line are right."),
}  # fmt: skip


def _reading(drawn: dict[str, Figure]) -> Table:
    rows = [row for key, row in _READING.items() if key in drawn]
    rows.append(("Interval", "The values that are compatible with these patients. It covers the chance of sampling, not wrong labels or a biased choice of cases."))  # fmt: skip
    rows.append(("Undefined", "A number that these cases cannot give, with the reason."))
    return Table("", ("", ""), tuple(rows), 2, "pairs")


def _provenance(run: Run) -> Table:
    about, ledger = run.evaluation.about, run.evaluation.about.ledger
    rows = {
        "Digest of the predictions": about.predictions, "Seed": about.seed, "Level of the intervals": words.percent(about.level),
        "Resamples of the bootstrap": about.resamples, "Looks at this test set before": run.evaluation.looks,
        "Entry in the ledger": f"{ledger.entry}, {ledger.hash[:16]}" if ledger.entry else "",
    }  # fmt: skip
    return Table("", ("", ""), tuple((what, words.name(value, 80)) for what, value in rows.items() if value != ""), 2, "pairs")  # fmt: skip
