"""Judging a table of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cli.console import end, open_run, say
from overread.cli.options import (
    AsJson,
    BootstrapSeed,
    Cost,
    Level,
    Positive,
    Prevalence,
    Sensitivity,
    Specificity,
    Subgroups,
    listed,
)

if TYPE_CHECKING:
    from overread.evaluation.evaluate import Evaluation
    from overread.predictions import Predictions

NO_TUNING = "no --tuning: the threshold was not chosen on other patients, so that of .5 is used; it may suit nobody"


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="a run's folder, or any predictions .csv")],
    tuning: Annotated[str, typer.Option(help="predictions of the tuning part, to choose the operating point on")] = "",
    subgroup: Subgroups = [], positive: Positive = "",
    sensitivity: Sensitivity = 0.0, specificity: Specificity = 0.0, cost: Cost = 0.0, prevalence: Prevalence = 0.0,
    level: Level = 0.95, seed: BootstrapSeed = 0,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="draw figures and write the page")] = True,
    ledger: Annotated[str, typer.Option(help="file of looks at the test set; else evaluation/ledger.jsonl beside the table")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="folder for metrics.json, figures and evaluation.html; beside the predictions if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Judge predictions: every number with its interval, at a point frozen on tuning data. Needs no torch.

    Writes metrics.json, operating.json, curves.json, figures (SVG and PNG) and evaluation.html.
    """
    from overread.evaluation.ledger import ledger_beside

    if predictions.is_dir():
        folder, test = predictions / "evaluation", _run(predictions)
    else:
        folder = Path(output) if output else predictions.parent / "evaluation"
        rule = _Rule(sensitivity or None, specificity or None, cost or None, prevalence or None)
        test = _read(predictions, positive)
        looks = Path(ledger) if ledger else ledger_beside(predictions)
        _judge(test, tuning, rule, subgroup, level, seed, looks).save(folder)
    written = [folder / "metrics.json"]
    _show(folder, as_json)
    if figures:
        written += _page(folder, test, predictions.name)
    if not as_json:
        end(written, f"overread report {predictions}" if predictions.is_dir() else "")


@dataclass(frozen=True)
class _Rule:
    """How the operating point is chosen, and where the model will be used."""

    sensitivity: float | None
    specificity: float | None
    cost: float | None
    prevalence: float | None


def _run(folder: Path) -> Predictions:
    """Judge the test part of a run, and give it."""
    from overread.study.question import Study
    from overread.study.steps import evaluate as judge

    with open_run(Study.load(folder / "study.toml"), folder) as context:
        judge(context)
        return context.predictions("test")


def _read(path: Path, positive: str) -> Predictions:
    from overread.predictions import Predictions

    return Predictions.read(path, listed(positive))


def _judge(
    test: Predictions, tuning: str, rule: _Rule, by: list[str], level: float, seed: int, looks: Path
) -> Evaluation:
    from overread.evaluation.evaluate import evaluate as judge
    from overread.evaluation.operating_point import choose_thresholds

    learnt = _read(Path(tuning), ",".join(test.target.positive)) if tuning else None
    points = choose_thresholds(
        learnt, sensitivity=rule.sensitivity, specificity=rule.specificity, cost=rule.cost,
        prevalence=rule.prevalence if rule.cost else None,
    ) if learnt else ()  # fmt: skip
    if not tuning and (test.target.task.binary or test.target.task.multilabel or test.target.positive):
        say(NO_TUNING)
    result = judge(test, at=points or None, by=by, level=level, seed=seed, ledger=looks, prevalence=rule.prevalence)  # fmt: skip
    if learnt is None:
        return result
    from overread.evaluation.uncertainty import uncertainty

    found = uncertainty(learnt, test, confidence=level, seed=seed)
    return result.extended(found.estimates, found.more)


def _show(folder: Path, as_json: bool) -> None:
    from overread.evaluation.evaluate import Evaluation

    typer.echo((folder / "metrics.json").read_text("utf-8") if as_json else Evaluation.load(folder).table())


def _page(folder: Path, test: Predictions, name: str) -> list[Path]:
    from overread.reporting.page import draw_evaluation
    from overread.reporting.pages.evaluate import evaluation_page

    target = _target(test)
    title = f"How good are the predictions of {name}?"
    return [folder / "figures", evaluation_page(folder, target, draw_evaluation(folder, target), title)]


def _target(test: Predictions) -> dict[str, Any]:
    return {"kind": test.target.kind, "names": list(test.target.names), "positive": list(test.target.positive)}
