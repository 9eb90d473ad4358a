"""Several readers, and a model beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cli.console import PointChoice, System, bars, end, json_with_metrics, number, output_folder, say
from overread.cli.options import AsJson, BootstrapSeed, Level, Margin, PredictionTable, listed
from overread.core.errors import InputError, one_of
from overread.core.phrases import count

if TYPE_CHECKING:
    from overread.cases.annotators import Grades

Named = Annotated[str, typer.Option(help="column of that name", rich_help_panel="Columns of the readers' table")]
_UNDER_NUMBERS = "{} under numbers, in the order of the table (--names keep: by name)"


def readers(
    readers: Annotated[Path, typer.Argument(help="the readers' answers: case, reader, label or score; or a column for each")],
    form: PredictionTable,
    predictions: Annotated[Path | None, typer.Argument(help="a model's predictions .csv of the same cases, or a run's folder")] = None,
    truth: Annotated[str, typer.Option(help="table of case and label, where the predictions do not hold it")] = "",
    tuning: Annotated[str, typer.Option(help="predictions of the tuning part, to choose the model's operating point on")] = "",
    reference: Annotated[str, typer.Option(help="truth, consensus (of the other readers), or auto: the truth where one is known")] = "auto",
    consensus: Annotated[str, typer.Option("--consensus", help="of the other readers: majority, median or dawid-skene")] = "majority",
    cut: Annotated[str, typer.Option(help="readers' scores from here on are calls: gives them sensitivity and specificity")] = "",
    sensitivity: Annotated[float, typer.Option(min=0, max=1, help="of the model on tuning data; Youden's point if not given")] = 0.0,
    specificity: Annotated[float, typer.Option(min=0, max=1, help="of the model on tuning data, in place of a sensitivity")] = 0.0,
    margin: Margin = 0.0,
    margin_of: Annotated[str, typer.Option(help="auc (of scores), sensitivity or specificity; of the model minus the mean reader")] = "",
    leave_out: Annotated[str, typer.Option(help="readers who are not among those that are judged, separated by commas: a consensus, say")] = "",
    names: Annotated[str, typer.Option(help="hash: numbers in place of the readers' names; keep: as they stand", rich_help_panel="Columns of the readers' table")] = "hash",
    case: Named = "case", reader: Named = "reader", label: Named = "label",
    score: Named = "score", modality: Named = "modality",
    questions: Annotated[str, typer.Option(help="of a table with several questions those that are findings, separated by commas; all if not given", rich_help_panel="Columns of the readers' table")] = "",
    level: Level = 0.95, seed: BootstrapSeed = 0,
    ledger: Annotated[str, typer.Option(help="file of looks at the test set; else the run's own, or evaluation/ledger.jsonl beside the predictions (the readers' table)")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="folder for what is written; readers/ beside the table")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Readers among themselves, and a model beside them: agreement, MRMC, every reader on the ROC. Needs no torch.

    Of outlines (columns case, reader, predicted: a label image beside the table): how far they agree, each and the model
    against the consensus of the others, and the consensus of all, as masks.
    """
    from overread.cases.annotators import RULES, nameless, read_grades, reader_numbers
    from overread.cases.privacy import NAMES
    from overread.cases.several_questions import read_questions
    from overread.evaluation.instances.predicted_outlines import are_outlines
    from overread.evaluation.ledger import ledger_beside
    from overread.evaluation.readers.answers import read_truth
    from overread.evaluation.readers.findings_study import judge_findings
    from overread.evaluation.readers.reader_study import judge_readers
    from overread.reporting.pages.readers import findings_page, readers_page

    one_of(consensus, RULES, "--consensus")
    one_of(names, NAMES, "--names")
    against: Any = one_of(reference, ("auto", "truth", "consensus"), "--reference")
    if are_outlines(readers):
        unfit = {"--truth": truth, "--tuning": tuning, "--cut": cut, "--sensitivity": sensitivity, "--specificity": specificity, "--margin": margin,
                 "--margin-of": margin_of, "--questions": questions, "--positive": form.positive, "--consensus": consensus != "majority",
                 "--case": case != "case", "--reader": reader != "reader", "--label": label != "label", "--score": score != "score", "--modality": modality != "modality",
                 "--rename-label": form.rename_label, "--derive": form.derive, "--taxonomy": form.taxonomy, "--judge-at": form.judge_at}  # fmt: skip
        if refused := [flag for flag, given in unfit.items() if given]:
            raise InputError("outlines are judged without this", given=" ".join(refused), todo="leave it out; the columns are case, reader and predicted, and a truth stands in the column truth of the predictions")  # fmt: skip
        _judge_outlines(
            readers, predictions, reference, form.identifiers, listed(leave_out), names == "keep", level, seed, ledger, output, as_json
        )  # fmt: skip
        return
    wanted = PointChoice(form, sensitivity, specificity)
    wanted.require_tuning(tuning)
    side = wanted.system(predictions, tuning, "") if predictions else None
    if _several(readers, side, questions, case, reader, modality):
        brought = {"--truth": truth, "--cut": cut, "--margin": margin}
        if refused := [flag for flag, given in brought.items() if given]:
            raise InputError("several findings are judged without this", given=", ".join(refused), todo="leave it out; truths stand in the columns label:<finding> of the predictions")  # fmt: skip
        asked = read_questions(
            readers, listed(questions), case=case, reader=reader, modality=modality, rename=form.how["rename"]
        )
        asked = {name: _without(held, listed(leave_out)) for name, held in asked.items()}
        numbers = None if names == "keep" else reader_numbers(asked.values())  # the same in all questions
        asked = {name: _coded(nameless(held, numbers) if numbers else held, side) for name, held in asked.items()}
        if numbers:
            say(_UNDER_NUMBERS.format(count(len(numbers), "reader")))
        folder = output_folder(output, readers.parent / "readers")
        seen = Path(ledger) if ledger else ledger_beside(predictions or readers)
        several = judge_findings(asked, side.test if side else None, at=side.points if side else None, rule=consensus,
                                 reference="consensus" if reference == "auto" else against, level=level, seed=seed, ledger=seen,
                                 model=str(predictions.name) if predictions else "")  # fmt: skip
        several.save(folder)
        written = findings_page(several, folder)
        if as_json:
            typer.echo(json_with_metrics(folder / "readers.json", "estimates"))
            return
        typer.echo(several.table())
        end([folder / "metrics.json", folder / "readers.json", written[0]], f"open {written[0]}")
        return
    grades = read_grades(
        readers, case=case, reader=reader, label=label, score=score, modality=modality, rename=form.how["rename"]
    )
    grades = _without(grades, listed(leave_out))
    grades = _coded(grades if names == "keep" else nameless(grades), side)
    if names != "keep":
        say(_UNDER_NUMBERS.format(count(len(grades.readers), "reader")))
    folder = output_folder(output, readers.parent / "readers")
    if len(grades) > 100_000:
        say(f"judging {len(grades):,} answers")
    found = judge_readers(
        grades, side.test if side else None, truth=read_truth(truth) if truth else None,
        at=side.points if side else None, positive=form.positive,
        reference=against, rule=consensus, cut=number(cut, "--cut"), margin=margin or None, margin_of=margin_of, level=level, seed=seed,
        ledger=Path(ledger) if ledger else ledger_beside(predictions or readers), model=str(predictions.name) if predictions else "",
    )  # fmt: skip
    found.save(folder)
    pages = readers_page(found, folder)
    if as_json:
        typer.echo(json_with_metrics(folder / "readers.json", "curves", "estimates"))
        return
    typer.echo(found.table())
    end([folder / "metrics.json", folder / "readers.json", pages[0]], f"open {pages[0]}")


def _judge_outlines(
    path: Path, predictions: Path | None, reference: str, identifiers: str, leave_out: Sequence[str], keep: bool, level: float, seed: int, ledger: str,
    output: str, as_json: bool,
) -> None:  # fmt: skip
    """Readers who outlined, and the outlines of a model (a table, or a run) beside them."""
    from overread.cases.sources.labels import natural
    from overread.evaluation.instances.outline_readers import read_readings, study_outlines, write_consensus
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines
    from overread.evaluation.ledger import ledger_beside
    from overread.reporting.pages.cells.judged_outlines import outline_readers_page

    readings = read_readings(path, identifiers=identifiers or "ask")
    unknown = [name for name in leave_out if name not in readings]
    if unknown:
        raise InputError(
            "there is no such reader to leave out", given=", ".join(unknown), todo=f"choose from {', '.join(readings)}"
        )
    told = sorted((name for name in readings if name not in leave_out), key=natural)
    readings = {name if keep else f"reader {number}": readings[name] for number, name in enumerate(told, 1)}
    if not keep:
        say(_UNDER_NUMBERS.format(count(len(readings), "reader")))
    table = predictions / "predictions" / "test.csv" if predictions and predictions.is_dir() else predictions
    folder = output_folder(output, path.parent / "readers")
    looks = Path(ledger) if ledger else ledger_beside(predictions or path)
    drawn = PredictedOutlines.read(table, identifiers=identifiers) if table else None
    with bars() as progress:
        found = study_outlines(readings, drawn, reference=reference, level=level, seed=seed,
                               ledger=looks, name=str(predictions.name) if predictions else "", workers=0, progress=progress)  # fmt: skip
    found.save(folder)
    consensus = write_consensus(readings, folder)
    pages = outline_readers_page(found, folder)[:1]
    if as_json:
        typer.echo(json_with_metrics(folder / "readers.json", "estimates"))
        return
    typer.echo(found.table())
    end([folder / "metrics.json", folder / "readers.json", consensus, *pages], f"open {pages[0]}")


def _several(readers: Path, side: System | None, questions: str, case: str, reader: str, modality: str) -> bool:
    """Whether the readers answered several questions: so many were named, or the table and the model have findings."""
    from overread.cases.several_questions import asks_several

    if questions:
        return True
    return (side is None or side.test.target.task.multilabel) and asks_several(readers, case, reader, modality)


def _without(grades: Grades, names: tuple[str, ...]) -> Grades:
    """The answers of all readers but these; how many stay is said."""
    for name in names:
        one_of(name, grades.readers, "the reader of --leave-out")
    if not names:
        return grades
    left = replace(grades, table=grades.table[~grades.table["reader"].isin(names)].reset_index(drop=True))
    say(f"left out: {count(len(names), 'reader')}; {count(len(left.readers), 'reader')} stay")
    return left


def _coded(grades: Grades, side: System | None) -> Grades:
    """Readers' answers by the names of cases, under the codes that a run gave them."""
    from overread.cases.privacy import codes

    if side is None or not side.salt or set(grades.cases) & set(side.test.table["case"]):
        return grades
    return replace(grades, table=grades.table.assign(case=codes(grades.table["case"], side.salt)))
