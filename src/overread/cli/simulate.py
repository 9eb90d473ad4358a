"""What a model would change in the reading room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import bars, coded_for, end, output_folder, pair_of, say, table
from overread.cli.options import AsJson, PredictionTable, given_options, listed
from overread.core.errors import InputError

if TYPE_CHECKING:
    from overread.evaluation.readers.single_reader_truth import SingleReaderTruth
    from overread.evaluation.workflow import Simulation

#: The heading of the calculator's options; options of cases, which mean nothing to it, and its own, which mean nothing to cases.
CALCULATOR = "99 % against 97 %: what an accuracy against one reader can mean (--single-reader-truth)"
OF_CASES = ("readers", "tuning", "sensitivity", "specificity", "finding", "modality", "costs", "reader_threshold", "seed",
            "positive", "rename_label", "identifiers", "derive", "derive_by", "taxonomy", "judge_at")  # fmt: skip
OF_CALCULATOR = ("accuracy", "other", "cases", "reader_accuracy", "reader_sensitivity", "reader_specificity", "panel", "readers_alike", "shared_errors")  # fmt: skip


def simulate(
    context: typer.Context,
    form: PredictionTable,
    predictions: Annotated[Path | None, typer.Argument(help="predictions of the test part (.csv), or a run's folder; none with --single-reader-truth")] = None,
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
    single_reader: Annotated[bool, typer.Option("--single-reader-truth", help="what an accuracy against one reader's labels can mean: a calculator, without cases", rich_help_panel=CALCULATOR)] = False,
    accuracy: Annotated[float, typer.Option(help="that the first model showed against the labels", min=0, max=1, rich_help_panel=CALCULATOR)] = 0.99,
    other: Annotated[float, typer.Option(help="that the second model showed", min=0, max=1, rich_help_panel=CALCULATOR)] = 0.97,
    cases: Annotated[int, typer.Option(help="on which both were measured", min=1, rich_help_panel=CALCULATOR)] = 1000,
    reader_accuracy: Annotated[float | None, typer.Option(help="how often such a reader is right", min=0, max=1, rich_help_panel=CALCULATOR)] = None,
    reader_sensitivity: Annotated[float | None, typer.Option(help="of such a reader, with --reader-specificity in place of --reader-accuracy", min=0, max=1, rich_help_panel=CALCULATOR)] = None,
    reader_specificity: Annotated[float | None, typer.Option(help="of such a reader", min=0, max=1, rich_help_panel=CALCULATOR)] = None,
    panel: Annotated[int, typer.Option(help="readers whose majority is looked at as well, an odd number", min=1, max=101, rich_help_panel=CALCULATOR)] = 3,
    readers_alike: Annotated[float, typer.Option(help="correlation of the readers' errors on a case, from 0 up to 1", min=0, max=0.99, rich_help_panel=CALCULATOR)] = 0.0,
    shared_errors: Annotated[float, typer.Option(help="how many errors a model shares with the labels: 0 by chance alone, 1 as many as can be", min=0, max=1, rich_help_panel=CALCULATOR)] = 0.0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Double reading, triage, disagreements to a reader: what would have happened on these cases. Or what an accuracy
    against one reader can mean."""
    said = given_options(context)
    strange = [f"--{name.replace('_', '-')}" for name in (OF_CASES if single_reader else OF_CALCULATOR) if name in said]
    if single_reader:
        if predictions is not None or strange:
            raise InputError("--single-reader-truth is a calculator: it looks at no cases", given=", ".join(strange) or "predictions",
                             todo="leave them out, and say what was measured with --accuracy, --other and --cases")  # fmt: skip
        from overread.evaluation.readers.single_reader_truth import single_reader_truth

        truth = single_reader_truth(accuracy=accuracy, other=other, cases=cases, reader_accuracy=reader_accuracy, reader_sensitivity=reader_sensitivity,
                                    reader_specificity=reader_specificity, prevalence=0.5 if prevalence is None else prevalence, panel=panel,
                                    alike=readers_alike, shared=shared_errors)  # fmt: skip
        return _calculate(truth, output, as_json=as_json)
    if predictions is None:
        raise InputError(
            "there are no predictions to simulate with",
            todo="give a table of predictions or a run's folder; or --single-reader-truth",
        )
    if strange:
        raise InputError("cases are simulated without this", given=", ".join(strange), todo="leave it out: it is of the calculator, --single-reader-truth, without predictions")  # fmt: skip
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


def _calculate(found: SingleReaderTruth, output: str, *, as_json: bool) -> None:
    from overread.reporting.pages.single_reader import reader_rows, single_reader_page

    folder = found.save(output_folder(output, Path("single-reader")))
    files = single_reader_page(found, folder)
    if as_json:
        typer.echo((folder / "single_reader.json").read_text("utf-8"))
        return
    typer.echo(f"{found}\n")
    shown = reader_rows(found)
    table(shown.head, shown.rows)
    typer.echo("\n" + "\n".join(found.cautions))
    end([folder / "single_reader.json", folder / "metrics.json", files[0]], ["open", files[0]])


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
