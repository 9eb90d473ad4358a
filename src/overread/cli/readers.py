"""Several readers, and a model beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cli.console import PointChoice, System, bars, end_judged, number, output_folder, say
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
    from overread.cases.annotators import RULES
    from overread.cases.privacy import NAMES
    from overread.evaluation.instances.predicted_outlines import are_outlines

    one_of(consensus, RULES, "--consensus")
    one_of(names, NAMES, "--names")
    one_of(reference, ("auto", "truth", "consensus"), "--reference")
    columns = {"case": case, "reader": reader, "label": label, "score": score, "modality": modality}
    asked = _Asked(readers, predictions, columns, listed(leave_out), names == "keep", reference, consensus, level, seed, ledger, output, as_json)  # fmt: skip
    if are_outlines(readers):
        unfit = {"--truth": truth, "--tuning": tuning, "--cut": cut, "--sensitivity": sensitivity, "--specificity": specificity, "--margin": margin,
                 "--margin-of": margin_of, "--questions": questions, "--positive": form.positive, "--consensus": consensus != "majority",
                 "--case": case != "case", "--reader": reader != "reader", "--label": label != "label", "--score": score != "score", "--modality": modality != "modality",
                 "--rename-label": form.rename_label, "--derive": form.derive, "--taxonomy": form.taxonomy, "--judge-at": form.judge_at}  # fmt: skip
        if refused := [flag for flag, given in unfit.items() if given]:
            raise InputError("outlines are judged without this", given=" ".join(refused), todo="leave it out; the columns are case, reader and predicted, and a truth stands in the column truth of the predictions")  # fmt: skip
        return _judge_outlines(asked, form.identifiers)
    wanted = PointChoice(form, sensitivity, specificity)
    wanted.require_tuning(tuning)
    side = wanted.system(predictions, tuning, "") if predictions else None
    if _several(asked, side, questions):
        brought = {"--truth": truth, "--cut": cut, "--margin": margin}
        if refused := [flag for flag, given in brought.items() if given]:
            raise InputError("several findings are judged without this", given=", ".join(refused), todo="leave it out; truths stand in the columns label:<finding> of the predictions")  # fmt: skip
        return _judge_several(asked, form, side, questions)
    _judge_one(asked, form, side, truth, cut, margin, margin_of)


@dataclass(frozen=True)
class _Asked:
    """What is asked of readers: their ``table`` and its ``columns``, who is left out and whether names are kept, the ``predictions`` of
    a model beside them, against what they are judged, and where it is written."""

    table: Path
    predictions: Path | None
    columns: dict[str, Any]
    leave_out: tuple[str, ...]
    keep: bool
    reference: Any
    consensus: str
    level: float
    seed: int
    ledger: str
    output: str
    as_json: bool

    def make_folder(self) -> Path:
        """The folder for what is written, made."""
        return output_folder(self.output, self.table.parent / "readers")

    @property
    def looks(self) -> Path:
        from overread.evaluation.ledger import ledger_beside

        return Path(self.ledger) if self.ledger else ledger_beside(self.predictions or self.table)

    @property
    def model(self) -> str:
        return self.predictions.name if self.predictions else ""

    def named(self, *roles: str) -> dict[str, Any]:
        """The columns of these roles."""
        return {role: self.columns[role] for role in roles}

    def say_numbered(self, readers: int) -> None:
        if not self.keep:
            say(_UNDER_NUMBERS.format(count(readers, "reader")))


def _judge_one(
    asked: _Asked, form: PredictionTable, side: System | None, truth: str, cut: str, margin: float, margin_of: str
) -> None:  # fmt: skip
    """Readers who answered one question."""
    from overread.cases.annotators import nameless, read_grades
    from overread.evaluation.readers.answers import read_truth
    from overread.evaluation.readers.reader_study import judge_readers
    from overread.reporting.pages.readers import readers_page

    grades = _without(read_grades(asked.table, **asked.columns, rename=form.how["rename"]), asked.leave_out)
    grades = _coded(grades if asked.keep else nameless(grades), side)
    asked.say_numbered(len(grades.readers))
    folder = asked.make_folder()
    if len(grades) > 100_000:
        say(f"judging {len(grades):,} answers")
    found = judge_readers(
        grades, side.test if side else None, truth=read_truth(truth) if truth else None,
        at=side.points if side else None, positive=form.positive, reference=asked.reference, rule=asked.consensus, cut=number(cut, "--cut"),
        margin=margin or None, margin_of=margin_of, level=asked.level, seed=asked.seed, ledger=asked.looks, model=asked.model,
    )  # fmt: skip
    found.save(folder)
    end_judged(found, folder / "readers.json", readers_page(found, folder)[:1], asked.as_json, "curves", "estimates")


def _judge_several(asked: _Asked, form: PredictionTable, side: System | None, questions: str) -> None:
    """Readers who answered several questions: each is a finding."""
    from overread.cases.annotators import nameless, reader_numbers
    from overread.cases.several_questions import read_questions
    from overread.evaluation.readers.findings_study import judge_findings
    from overread.reporting.pages.readers import findings_page

    columns = asked.named("case", "reader", "modality")
    held = read_questions(asked.table, listed(questions), **columns, rename=form.how["rename"])
    held = {name: _without(grades, asked.leave_out) for name, grades in held.items()}
    numbers = None if asked.keep else reader_numbers(held.values())  # the same in all questions
    held = {name: _coded(nameless(grades, numbers) if numbers else grades, side) for name, grades in held.items()}
    asked.say_numbered(len(numbers or ()))
    folder = asked.make_folder()
    against: Any = "consensus" if asked.reference == "auto" else asked.reference
    found = judge_findings(held, side.test if side else None, at=side.points if side else None, rule=asked.consensus, reference=against,
                           level=asked.level, seed=asked.seed, ledger=asked.looks, model=asked.model)  # fmt: skip
    found.save(folder)
    end_judged(found, folder / "readers.json", findings_page(found, folder)[:1], asked.as_json, "estimates")


def _judge_outlines(asked: _Asked, identifiers: str) -> None:
    """Readers who outlined, and the outlines of a model (a table, or a run) beside them."""
    from overread.cases.sources.labels import natural
    from overread.evaluation.instances.outline_readers import read_readings, study_outlines, write_consensus
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines
    from overread.reporting.pages.cells.judged_outlines import outline_readers_page

    readings = read_readings(asked.table, identifiers=identifiers or "ask")
    unknown = [name for name in asked.leave_out if name not in readings]
    if unknown:
        raise InputError(
            "there is no such reader to leave out", given=", ".join(unknown), todo=f"choose from {', '.join(readings)}"
        )
    told = sorted((name for name in readings if name not in asked.leave_out), key=natural)
    readings = {name if asked.keep else f"reader {number}": readings[name] for number, name in enumerate(told, 1)}
    asked.say_numbered(len(readings))
    path = asked.predictions
    table = path / "predictions" / "test.csv" if path and path.is_dir() else path
    folder, looks = asked.make_folder(), asked.looks
    drawn = PredictedOutlines.read(table, identifiers=identifiers) if table else None
    with bars() as progress:
        found = study_outlines(readings, drawn, reference=asked.reference, level=asked.level, seed=asked.seed, ledger=looks,
                               name=asked.model, workers=0, progress=progress)  # fmt: skip
    found.save(folder)
    written = [write_consensus(readings, folder), *outline_readers_page(found, folder)[:1]]
    end_judged(found, folder / "readers.json", written, asked.as_json, "estimates")


def _several(asked: _Asked, side: System | None, questions: str) -> bool:
    """Whether the readers answered several questions: so many were named, or the table and the model have findings."""
    from overread.cases.several_questions import asks_several

    if questions:
        return True
    return (side is None or side.test.target.task.multilabel) and asks_several(
        asked.table, **asked.named("case", "reader", "modality")
    )


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
