"""What a model would change in the reading room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import bars, coded_for, end, pair_of, say, table
from overread.cli.options import AsJson, PredictionTable, listed
from overread.core.errors import InputError

if TYPE_CHECKING:
    from overread.evaluation.workflow import Simulation


def simulate(
    predictions: Annotated[Path, typer.Argument(help="predictions of the test part (.csv), or a run's folder")],
    form: PredictionTable,
    readers: Annotated[str, typer.Option(help="table of readers' calls: case, reader, label (or score); without it reading is perfect")] = "",
    tuning: Annotated[str, typer.Option(help="predictions of the tuning part, on which both thresholds are chosen")] = "",
    sensitivity: Annotated[float, typer.Option(help="of the triage threshold, on tuning data", min=0, max=1)] = 0.95,
    specificity: Annotated[float, typer.Option(help="at which the model acts as a reader; by Youden's rule if not given", min=0, max=1)] = 0.0,
    finding: Annotated[str, typer.Option(help="which of several findings")] = "",
    reader_threshold: Annotated[float | None, typer.Option(help="least score of a reader that counts as positive")] = None,
    modality: Annotated[str, typer.Option(help="which modality of the readers' table")] = "",
    prevalence: Annotated[float | None, typer.Option(help="of the clinic, for workload and costs; that of the cases if not given", min=0, max=1)] = None,
    costs: Annotated[str, typer.Option(help="of a read, a miss and a false alarm, such as read=1,miss=50,alarm=2")] = "",
    seed: Annotated[int, typer.Option(help="of the resamples", min=0)] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for the results; beside the predictions if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Double reading, triage, disagreements to a reader: what would have happened on these cases."""
    from overread.cases.annotators import read_grades
    from overread.evaluation.operating_point import choose_threshold
    from overread.evaluation.workflow import simulate as simulated
    from overread.reporting.pages.simulate import simulation_page

    pair = pair_of(predictions, tuning, form, "simulation", output)
    which = finding or None
    triage = choose_threshold(pair.tuning, sensitivity=sensitivity, finding=which)
    at = choose_threshold(pair.tuning, specificity=specificity or None, finding=which)
    grades = coded_for(predictions, read_grades(readers, rename=form.how["rename"]), pair.test) if readers else None
    with bars() as progress:
        progress("simulating workflows", 0, 1)
        found = simulated(pair.test, grades, at=at, triage=triage, reader_threshold=reader_threshold,
                                  modality=modality, prevalence=prevalence, costs=_costs(costs), seed=seed, ledger=pair.ledger, model=pair.model)  # fmt: skip
        progress("simulating workflows", 1, 1)
    folder = found.save(pair.folder)
    files = simulation_page(found, folder)
    if as_json:
        typer.echo((folder / "simulation.json").read_text("utf-8"))
        return
    say(f"as a reader: {at}")
    say(f"triage: {triage}")
    _show(found)
    end([folder / "metrics.json", folder / "simulation.json", files[0]], "")


def _costs(text: str) -> dict[str, float] | None:
    found = {}
    for part in listed(text):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            todo = "write --costs read=1,miss=50,alarm=2"
            raise InputError("a cost is not understood", given=part, todo=todo) from error
    return found or None


def _show(found: Simulation) -> None:
    metrics = list(dict.fromkeys(e.metric for w in found.workflows for e in w.estimates))
    rows = [(w.name, *(str(e) if not e.undefined else "–" for e in w.estimates)) for w in found.workflows]
    table(("workflow", *metrics), rows)
    for w in found.workflows:
        if w.estimates and w.estimates[0].undefined:
            say(f"{w.name}: {w.estimates[0].undefined}")
