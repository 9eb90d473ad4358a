"""A model against the readers of a double reading, and in the place of the second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import bars, coded_for, end, output_folder, pair_of, say, table
from overread.cli.options import AsJson, BootstrapSeed, Level, PredictionTable
from overread.core.errors import InputError, one_of

if TYPE_CHECKING:
    from overread.cases.annotators import Grades
    from overread.cli.console import Pair
    from overread.evaluation.operating_point import OperatingPoint
    from overread.evaluation.readers.second_reader import DoubleReading


def second_reader(
    predictions: Annotated[Path, typer.Argument(help="predictions of the test part (.csv), or a run's folder")],
    form: PredictionTable,
    readers: Annotated[str, typer.Option(help="table of readers' calls: case, reader, label (or score)")] = "",
    first: Annotated[str, typer.Option(help="name of the first reader in that table")] = "first",
    second: Annotated[str, typer.Option(help="name of the second reader")] = "second",
    consensus: Annotated[str, typer.Option(help="name under which stands what was decided in the end")] = "consensus",
    tuning: Annotated[str, typer.Option(help="predictions of the tuning part, on which the point is chosen")] = "",
    sensitivity: Annotated[float, typer.Option(help="choose the model's point for this sensitivity on tuning data", min=0, max=1)] = 0.0,
    specificity: Annotated[float, typer.Option(help="choose it for this specificity; by Youden's rule if neither is given", min=0, max=1)] = 0.0,
    match: Annotated[str, typer.Option(help="choose it for the specificity that first, second or consensus has on tuning data")] = "",
    margin: Annotated[float, typer.Option(help="by which sensitivity and specificity must not be worse", min=0, max=1)] = 0.05,
    declare: Annotated[bool, typer.Option("--declare", help="only write the margin into the ledger, before the test set is opened")] = False,
    prevalence: Annotated[float | None, typer.Option(help="of the clinic, for workload; that of the cases if not given", min=0, max=1)] = None,
    reader_threshold: Annotated[float | None, typer.Option(help="least score of a reader that counts as positive")] = None,
    level: Level = 0.95, seed: BootstrapSeed = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for the results; second-reader/ beside the predictions if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """By how much a model lowers the errors of each reader; what is kept and saved where it reads second."""
    from overread.cases.annotators import read_grades
    from overread.evaluation.readers.second_reader import judge_second_reader
    from overread.reporting.pages.readers import second_reader_page

    if declare:
        _declare(predictions, margin)
        return
    if not readers:
        raise InputError("there are no readers' calls", given=str(predictions), todo="give their table: --readers readers.csv")  # fmt: skip
    pair, roles = pair_of(predictions, tuning, form, "second-reader", output), (first, second, consensus)
    grades = coded_for(predictions, read_grades(readers, rename=form.how["rename"]), pair.test)
    at = _point(pair, grades, sensitivity, specificity, match, roles, reader_threshold)
    folder = output_folder(str(pair.folder), pair.folder)
    with bars() as progress:
        progress("judging the double reading", 0, 1)
        found = judge_second_reader(pair.test, grades, at=at, roles=roles, margin=margin, prevalence=prevalence, reader_threshold=reader_threshold,
                                     level=level, seed=seed, ledger=pair.ledger, model=pair.model)  # fmt: skip
        progress("judging the double reading", 1, 1)
    found.save(folder)
    page = second_reader_page(found, folder)[0]
    if as_json:
        typer.echo((folder / "second_reader.json").read_text("utf-8"))
        return
    say(f"the model: {at}")
    _show(found)
    end([folder / "second_reader.json", folder / "second_reader.csv", folder / "metrics.json", page], f"open {page}")


def _declare(predictions: Path, margin: float) -> None:
    from overread.evaluation.comparison.claims import declare
    from overread.evaluation.ledger import ledger_beside
    from overread.evaluation.readers.second_reader import declarations

    folder = predictions if predictions.suffix != ".csv" else predictions.parent
    folder.mkdir(parents=True, exist_ok=True)
    ledger = ledger_beside(predictions) if predictions.suffix == ".csv" else predictions / "ledger.jsonl"
    for declaration in declarations(margin):
        new = declare(ledger, declaration)
        say(f"{'declared' if new else 'stood there already'}: {declaration}")
    end([ledger], "overread run, then overread second-reader without --declare")


def _point(
    pair: Pair, grades: Grades, sensitivity: float, specificity: float, match: str, roles: tuple[str, str, str],
    threshold: float | None,
) -> OperatingPoint:  # fmt: skip
    """The model's operating point on tuning data, by one rule."""
    from overread.evaluation.operating_point import choose_threshold
    from overread.evaluation.readers.second_reader import ROLES, specificity_on

    if sum(map(bool, (sensitivity, specificity, match))) > 1:
        raise InputError("the point is chosen in one way", given="several of --sensitivity, --specificity and --match",
                         todo="give one of them")  # fmt: skip
    if match:
        name = roles[ROLES.index(one_of(match, ROLES, "--match"))]
        specificity = specificity_on(pair.tuning, grades, name, reader_threshold=threshold)
        say(f"the {match} reader's specificity on tuning data: {specificity:.3f}")
    return choose_threshold(pair.tuning, sensitivity=sensitivity or None, specificity=specificity or None)


def _show(found: DoubleReading) -> None:
    from overread.reporting.pages.readers import claims_table, contrasts_table, workflow_table

    for made in (contrasts_table(found), claims_table(found), workflow_table(found)):
        if made:
            say(made.caption)
            table(made.head, made.rows)
    if found.saved:
        say(f"second reads saved: {found.saved}")
    for line in found.cautions:
        say(f"  {line}")
