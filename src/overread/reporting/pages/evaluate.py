"""The page of an evaluation of its own: what a table of predictions is worth, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from overread.core.errors import checked
from overread.reporting import advice, main_results, words
from overread.reporting.figures.canvas import Figure
from overread.reporting.page import Part, leaflet
from overread.reporting.run import Run, gather_evaluation
from overread.reporting.sections import Table

_RANK = ("roc", "precision-recall", "scores", "confusion", "scatter")
_RISK = ("calibration", "decision")
_GROUPS = ("forest", "gaps")
_SILENT = ("abstention", "conformal")
FEW = 10  # cases of a class that cannot be judged apart from chance


@checked
def evaluation_page(folder: Path, target: dict[str, Any], figures: Iterable[Figure], title: str) -> Path:
    """Write ``folder/evaluation.html`` from the numbers in ``folder``, and give its path.

    ``target``: kind and names; ``figures``: what was drawn of them, asked for when the rest is there. Raises InputError if a file is damaged.
    """
    run = gather_evaluation(folder, target)
    tables = (
        _tables(main_results.points_table(run), *main_results.overall(run)),
        _tables(main_results.each(run)),
        (main_results.everything(run),),
    )
    drawn = {figure.name: figure for figure in figures}
    parts = [
        Part("Results", (main_results.looks(run), *main_results.points(run)), tables[0], _of(drawn, _RANK)),
        Part("Each class or finding", (), tables[1]),
        Part("The score as a risk", _risk(run), (), _of(drawn, _RISK)),
        Part("Subgroups and sources", (*main_results.heterogeneity(run),), _tables(main_results.by_subgroup(run), main_results.gaps_table(run)), _of(drawn, _GROUPS)),
        Part("When the model may say that it is not sure", _sets(run), (), _of(drawn, _SILENT)),
        Part("How to read this", (), (_reading(drawn),)),
        Part("Every number", (), tables[2]),
        Part("What it takes to run this again", (), (_provenance(run),)),
    ]  # fmt: skip
    return leaflet(folder / "evaluation.html", title, _summary(run), parts, cautions=cautions(run), keys=main_results.key_numbers(run))  # fmt: skip


def _tables(*found: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in found if table)


def _of(drawn: dict[str, Figure], names: Sequence[str]) -> tuple[Figure, ...]:
    """Those that are there; the narrow ones first, so that the rows are full."""
    found = [drawn[name] for name in names if name in drawn]
    return tuple(sorted(found, key=lambda figure: figure.wide))


def _summary(run: Run) -> list[str]:
    return [line for line in (advice.summary(run).strip(), advice.elsewhere(run)) if line]


@checked
def cautions(run: Run) -> list[str]:
    """What a reader must know before believing the numbers of a table of predictions."""
    counts = run.evaluation.get("counts") or {}
    found = advice.cautions(run)
    if advice.calibration_verdict(run) == "poor":
        found.append(
            "The probabilities are off by more than chance: do not read them as risks before recalibrating them."
        )
    few = [name for name, held in (counts.get("per class") or {}).items() if int(held.get("images") or 0) < FEW]
    if few:
        names = ", ".join(words.name(name, 30) for name in few[:6])
        found.append(f"Fewer than {FEW} images have {names}{' and others' if len(few) > 6 else ''}: what is said of them is hardly more than chance.")  # fmt: skip
    if counts.get("unlabelled"):
        found.append(f"{words.count(int(counts['unlabelled']), 'image')} without a known truth were left out.")
    lost = {e.undefined for e in run.estimates if e.undefined and not e.where}
    if lost:
        found.append(f"Some numbers are undefined: {words.name('; '.join(sorted(lost)), 300)}.")
    return found


def _risk(run: Run) -> tuple[str, ...]:
    slope = run.estimate("calibration slope", run.primary)
    if slope is None or slope.undefined:
        return ()
    return (f"The calibration slope is {words.spoken(slope)}: {words.metric(slope.metric).says}.",)


def _sets(run: Run) -> tuple[str, ...]:
    held = run.more.get("conformal")
    coverage, size = run.estimate("set coverage"), run.estimate("set size")
    if not isinstance(held, dict) or coverage is None or coverage.undefined:
        return ()
    said = f"Sets made on the tuning data to hold the truth of {words.percent(held.get('level'))} of new images held that of {words.spoken(coverage)}"
    return (f"{said}, with {words.spoken(size)} answers on average." if size else f"{said}.",)


_READ = {
    "roc": ("ROC curve", "Each point is a threshold: how many are found against how many healthy are alarmed. Further up and left is better."),
    "precision-recall": ("Precision and recall", "How many of the flagged are right. It depends on how common the disease is among these cases."),
    "scores": ("Distribution of the score", "Where the two groups overlap, no threshold can tell them apart."),
    "calibration": ("Calibration", "Points on the diagonal mean what they say. Points within the band cannot be told from a calibrated model."),
    "decision": ("Decision curve", "For someone who acts from a given risk on: a curve above the others does more good than harm; at 0 it does no better than nobody treated."),
    "confusion": ("Confusion matrix", "What was called what at the threshold."),
    "forest": ("Subgroups", "Intervals that cross the dashed line do not differ visibly from all test cases."),
    "gaps": ("Gaps", "Intervals that cross the line at 0 show no difference beyond chance. p is corrected for the number of gaps judged."),
    "abstention": ("Errors when it may stay silent", "To the left the model answers only where it is surest. A curve that falls to the left: its confidence is worth something."),
    "conformal": ("Sets that hold the truth", "Rows left of the line hold the truth less often than promised."),
    "scatter": ("Predicted against true", "Points on the dashed line are right."),
}  # fmt: skip


def _reading(drawn: dict[str, Figure]) -> Table:
    rows = [(name, how) for key, (name, how) in _READ.items() if key in drawn]
    rows.append(("Interval", "The values that are compatible with these patients. It covers the chance of sampling, not wrong labels or a biased choice of cases."))  # fmt: skip
    rows.append(("Undefined", "A number that these cases cannot give, with the reason."))
    return Table("", ("", ""), tuple(rows), 2, "pairs")


def _provenance(run: Run) -> Table:
    held = run.evaluation
    ledger = held.get("ledger") or {}
    rows = [("Digest of the predictions", held.get("predictions")), ("Seed", held.get("seed")), ("Level of the intervals", words.percent(held.get("level"))),
            ("Resamples of the bootstrap", held.get("resamples")), ("Looks at this test set before", held.get("looks")),
            ("Entry in the ledger", f"{ledger.get('entry')}, {str(ledger.get('hash'))[:16]}" if ledger else None)]  # fmt: skip
    shown = tuple((what, words.name(found, 80)) for what, found in rows if found not in (None, ""))
    return Table("", ("", ""), shown, 2, "pairs")
