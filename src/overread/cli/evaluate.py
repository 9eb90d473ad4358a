"""Judging a table of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from overread.cli.console import bars, end, open_run, output_folder, say
from overread.cli.options import (
    AllowSeen,
    AsJson,
    BootstrapSeed,
    Level,
    Only,
    PredictionTable,
    Subgroups,
    given_options,
    listed,
)
from overread.core.errors import InputError, UnsoundError
from overread.core.phrases import command_of, count
from overread.study.question import OperatingRule

if TYPE_CHECKING:
    from overread.evaluation.evaluate import Evaluation
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines
    from overread.predictions import Predictions
    from overread.study.question import Study

#: A table of predictions in one form or the other.
Judged = TypeVar("Judged", "Predictions", "PredictedOutlines")

#: What of its rule a run may be judged by anew.
RULE = (
    "sensitivity",
    "specificity",
    "cost",
    "rule",
    "decide",
    "cost_matrix",
    "prevalence",
    "net_benefit_at",
    "fixed",
    "primary",
)

#: Of these the ones that are given stand in place of all that the study says, of these too.
POINT, CALLS = ("sensitivity", "specificity", "cost", "rule"), ("decide", "cost_matrix")


def evaluate(
    context: typer.Context,
    predictions: Annotated[Path, typer.Argument(help="a run's folder, or any predictions .csv")],
    rule: Annotated[OperatingRule, Only(RULE)],
    form: PredictionTable,
    tuning: Annotated[str, typer.Option(help="predictions of the tuning part, to choose the operating point on")] = "",
    subgroup: Subgroups = [],
    level: Level = 0.95, seed: BootstrapSeed = 0,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="draw figures and write the page")] = True,
    ledger: Annotated[str, typer.Option(help="file of looks at the test set; else evaluation/ledger.jsonl beside the table")] = "",
    model: Annotated[str, typer.Option(help="the run (its folder) whose model made these predictions: its training patients are refused, as in a table that `overread predict` wrote")] = "",
    allow_seen: AllowSeen = False,
    centre_distance: Annotated[float, typer.Option(min=0, help="of outlines: match objects also by their centres, at most so many pixels apart")] = 0.0,
    allow_few: Annotated[bool, typer.Option("--allow-few", help="judge a table of fewer than ten patients all the same")] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for metrics.json, figures and evaluation.html; beside the predictions if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Judge predictions: every number with its interval, at a point frozen on tuning data. Needs no torch.

    Writes metrics.json, operating.json, curves.json, figures (SVG and PNG) and evaluation.html. Of a table of outlines
    (columns predicted and truth: label images beside it) metrics.json, instances.json and images.csv.
    """
    from overread.evaluation.instances.predicted_outlines import are_outlines
    from overread.study.context import outlines_objects

    typed = given_options(context)
    asked = [name for name in RULE if name in typed]
    if not predictions.is_dir():
        if are_outlines(predictions):
            unfit = [
                *asked,
                *(["tuning"] if tuning else []),
                *(n for n in OF_SCORES if getattr(form, n) and n in typed),
            ]
            return _judge_outlines(
                predictions, unfit, form.identifiers, subgroup, level, seed, ledger, model, (allow_seen, allow_few), centre_distance, figures, output, as_json
            )  # fmt: skip
        if centre_distance:
            raise InputError("centres are those of outlined objects", given=f"--centre-distance {centre_distance:g}", todo="leave it out, or give a table of outlines")  # fmt: skip
        return _judge_table(
            predictions, rule, form, asked, tuning, subgroup, level, seed, ledger, model, (allow_seen, allow_few), figures, output, as_json
        )  # fmt: skip
    brought = {"--tuning": tuning, "--positive": form.positive, "--rename-label": form.rename_label, "--identifiers": form.identifiers, "--derive": form.derive,
               "--model": model, "--allow-seen": allow_seen, "--allow-few": allow_few, "--centre-distance": centre_distance, "--ledger": ledger, "-o": output,
               "--level": level != 0.95, "--seed": seed}  # fmt: skip
    refused = [flag for flag, given in brought.items() if given]
    if outlines_objects(predictions):
        unfit = [*asked, *refused, *(["--judge-at"] if form.judge_at else [])]
        return _outlined_run(predictions, unfit, subgroup, centre_distance, figures, as_json)
    test = _run(predictions, rule, asked, subgroup, refused, form)
    _told(predictions / "evaluation", test, predictions.name, figures, as_json, f"overread report {predictions}")


def _judge_table(
    path: Path, rule: OperatingRule, form: PredictionTable, asked: Sequence[str], tuning: str, by: list[str], level: float, seed: int, ledger: str,
    model: str, allow: tuple[bool, bool], figures: bool, output: str, as_json: bool,
) -> None:  # fmt: skip
    """Judge a table of scores; ``asked``: what of the rule was given; ``allow``: patients seen, and few of them."""
    from overread.evaluation.ledger import ledger_beside, require_entry_of, settle

    folder = output_folder(output, path.parent / "evaluation")
    test = _of_model(form.read(path), path, model)
    tuned = replace(form, positive=test.target.positive).read(tuning).in_order_of(test) if tuning else None
    for line in test.notes:
        say(f"  {line}")
    if not allow[1]:
        _require_patients(test)
    looks = Path(ledger) if ledger else ledger_beside(path)
    if not ledger:
        require_entry_of(folder, looks)
    how = {"by": by, "level": level, "seed": seed, "prevalence": rule.prevalence or None, "fixed": rule.fixed,
           "net_benefit_at": rule.net_benefit_at or None, "primary": rule.primary, "ledger": looks,
           "allow_seen": allow[0], "pending": True}  # fmt: skip
    if tuned is None:
        _require_tuning(rule, asked)
    _judge(test, tuned, rule, how).save(folder)
    settle(looks)
    _told(folder, test, path.name, figures, as_json, "")


def _told(folder: Path, test: Predictions, name: str, figures: bool, as_json: bool, then: str) -> None:
    """Tell what was found, draw it where that was asked for, and say what was written."""
    written = [folder / "metrics.json"]
    _show(folder, as_json)
    if figures:
        written += _page(folder, test, name)
    if not as_json:
        end(written, then)


def _require_patients(test: Predictions | PredictedOutlines) -> None:
    """Stop, before the look is written down, where too few patients have a known truth."""
    from overread.evaluation.subgroups import FEWEST

    patients = len(set(test.patients[test.known]))
    if 0 < patients < FEWEST:
        raise UnsoundError(
            f"the table has {count(patients, 'patient')} with a known truth, and nothing is judged below {FEWEST}",
            given=f"predictions for {count(len(test), 'case')}",
            todo="add patients; --allow-few judges them all the same",
        )


#: What of the form of predictions is of scores alone.
OF_SCORES = ("positive", "rename_label", "derive", "taxonomy", "judge_at")


def _judge_outlines(
    path: Path, unfit: list[str], identifiers: str, by: list[str], level: float, seed: int, ledger: str, model: str,
    allow: tuple[bool, bool], centre_distance: float, figures: bool, output: str, as_json: bool,
) -> None:  # fmt: skip
    """Judge a table of outlines; ``unfit``: what was given that is of scores; ``allow``: patients seen, and few of them."""
    from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines
    from overread.evaluation.ledger import ledger_beside, require_entry_of, settle
    from overread.reporting.pages.cells.judged_outlines import outlines_page

    if unfit:
        flags = " ".join("--" + name.replace("_", "-") for name in unfit)
        raise InputError("outlines are judged without this", given=flags, todo="leave it out: it is of scores")
    folder = output_folder(output, path.parent / "evaluation")
    test = _of_model(PredictedOutlines.read(path, identifiers=identifiers), path, model)
    if not allow[1]:
        _require_patients(test)
    for line in test.notes:
        say(f"  {line}")
    looks = Path(ledger) if ledger else ledger_beside(path)
    if not ledger:
        require_entry_of(folder, looks)
    with bars() as progress:
        found = evaluate_outlines(test, by=by, level=level, seed=seed, ledger=looks, allow_seen=allow[0], pending=True, centre_distance=centre_distance,
                                  workers=0, progress=progress)  # fmt: skip
    found.save(folder)
    settle(looks)
    pages = outlines_page(found, folder, f"How good are the outlines of {path.name}?")[:1] if figures else []
    if as_json:
        typer.echo((folder / "metrics.json").read_text("utf-8"))
        return
    typer.echo(found.table())
    end([*(folder / name for name in ("metrics.json", "instances.json", "images.csv")), *pages], "")


def _of_model(test: Judged, path: Path, model: str) -> Judged:
    """With what the model of a run says of itself, by the codes that it knows patients by: ``model``, or that of the
    run in whose ``predictions/`` the table lies."""
    from overread.cases.privacy import are_codes, patient_codes
    from overread.predictions import predicted_by

    run = Path(model) if model else path.absolute().parent.parent
    found = next((p for p in (run / "model" / "model.json", run / "model.json") if p.exists()), None)
    if model and found is None:
        raise InputError(
            "there is no model here", given=model, todo="give a run's folder, or a model's: --model runs/skin"
        )
    if found is None or not (model or (path.absolute().parent.name == "predictions" and test.by is None)):
        return test
    by, salt = predicted_by(found)
    if salt and not are_codes(test.patients):
        codes = patient_codes(test.patients, salt, by.identifiers)
        test = replace(test, table=test.table.assign(patient=codes))
    return replace(test, by=by)


def _run(
    folder: Path, rule: OperatingRule, named: Iterable[str], subgroup: list[str], brought: list[str], form: PredictionTable
) -> Predictions:  # fmt: skip
    """Judge the test part of a run, and give it; by what was ``named`` here in place of what its study asked for."""
    from overread.study.question import Study
    from overread.study.steps import carry
    from overread.study.steps import evaluate as judge

    if brought:
        raise InputError("a run brings its own answer to this", given=" ".join(brought),
                         todo=f"judge its table: {command_of(['overread', 'evaluate', folder / 'predictions/test.csv', '--tuning', folder / 'predictions/tuning.csv'])} with {' and '.join(brought)}")  # fmt: skip
    study = Study.load(folder / "study.toml")
    usual = OperatingRule()
    asked = {name: getattr(rule, name) for name in named}
    for together in (POINT, CALLS):
        if set(asked) & set(together):
            asked = {name: getattr(usual, name) for name in together} | asked
    if "cost_matrix" in asked:
        asked["cost_matrix"] = str(Path(rule.cost_matrix).absolute()) if rule.cost_matrix else ""
    if form.judge_at:
        asked["judge_at"] = listed(form.judge_at)
    if form.taxonomy:
        asked["taxonomy"] = _tree_for(study, form.taxonomy)
    by = tuple(dict.fromkeys((*study.columns.subgroups, *subgroup)))
    study = study.changed(subgroups=by, **asked)
    with open_run(study, folder) as context:
        carry(context, by)
        judge(context)
        study.save(folder / "study.toml")  # it is the question now
        return context.predictions("test")


def _outlined_run(
    folder: Path, unfit: Sequence[str], subgroup: list[str], centre_distance: float, figures: bool, as_json: bool
) -> None:
    """Judge the outlines of the test part of a run."""
    from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
    from overread.reporting.pages.cells.judged_outlines import outlines_page
    from overread.study.question import Study
    from overread.study.steps import carry
    from overread.study.steps import evaluate as judge

    if unfit or centre_distance:
        told = [*unfit, *(["--centre-distance"] if centre_distance else [])]
        raise InputError("outlines of a run are judged as its study says", given=" ".join(told),
                         todo=f"judge its table: {command_of(['overread', 'evaluate', folder / 'predictions/test.csv'])}; outlines have no operating point")  # fmt: skip
    study = Study.load(folder / "study.toml")
    by = tuple(dict.fromkeys((*study.columns.subgroups, *subgroup)))
    study = study.changed(subgroups=by)
    with open_run(study, folder) as context:
        carry(context, by)
        judge(context)
    home = folder / "evaluation"
    if not (home / "instances.json").exists():
        return
    study.save(folder / "study.toml")  # it is the question now
    found = InstanceEvaluation.load(home)
    pages = outlines_page(found, home, f"How good are the outlines of {folder.name}?")[:1] if figures else []
    if as_json:
        return typer.echo((home / "metrics.json").read_text("utf-8"))
    typer.echo(found.table())
    end([home / "metrics.json", home / "instances.json", home / "images.csv", *pages], ["overread", "report", folder])


def _tree_for(study: Study, taxonomy: str) -> str:
    """The path of a tree for a run that has none; its training classes were not cut from another."""
    if study.class_tree.taxonomy:
        raise InputError("the run's classes stand in a tree of their own", given=f"--taxonomy {taxonomy}", todo="leave it out")  # fmt: skip
    return str(Path(taxonomy).absolute())


def _judge(test: Predictions, tuned: Predictions | None, rule: OperatingRule, how: dict[str, Any]) -> Evaluation:
    """Judge a table at points that ``rule`` chooses on tuning predictions, where there are any."""
    from overread.evaluation.evaluate import evaluate as judge

    if tuned is None:
        return judge(test, **how)
    from overread.evaluation.uncertainty import uncertainty  # these bring half of the package along
    from overread.study.image_steps import frozen_by

    points = frozen_by(rule, tuned, how["seed"])
    found = uncertainty(tuned, test, confidence=how["level"], seed=how["seed"])
    return judge(test, at=points or None, **how).extended(found.estimates, found.more)


def _require_tuning(rule: OperatingRule, asked: Iterable[str]) -> None:
    """Refuse a rule that nothing is chosen by; argmax needs no choice."""
    chosen = [n for n in asked if n in (*POINT, *CALLS) and not (n == "decide" and rule.decide in ("auto", "argmax"))]
    if chosen:
        flags = " ".join("--" + name.replace("_", "-") for name in chosen)
        raise InputError("thresholds and the rule that classes are called by are chosen on tuning data, and there are none",
                         given=flags, todo="give a table of other patients: --tuning tuning.csv")  # fmt: skip


def _show(folder: Path, as_json: bool) -> None:
    from overread.evaluation.evaluate import Evaluation

    found = Evaluation.load(folder)
    if not as_json:
        typer.echo(found.table())
        return
    typer.echo((folder / "metrics.json").read_text("utf-8"))
    for caution in found.cautions:  # not for the program that reads the JSON
        say(f"caution: {caution}")


def _page(folder: Path, test: Predictions, name: str) -> list[Path]:
    from overread.reporting.page import draw_evaluation
    from overread.reporting.pages.evaluate import evaluation_page

    title = f"How good are the predictions of {name}?"
    return [folder / "figures", evaluation_page(folder, test.target, draw_evaluation(folder, test.target), title)]
