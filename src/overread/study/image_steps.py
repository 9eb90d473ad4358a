"""The steps of a study that asks for one answer a case: prediction, judging, and what is shown of both.

Studies whose objects are outlined have steps of their own in their place (:mod:`.outline_steps`), those of slides in some
(:mod:`.slides.slide_steps`); :mod:`.steps` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.audit.audit import Audit
from overread.cases.audit.shortcut import shortcut_scores
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import UnavailableError, checked
from overread.core.files import fingerprint, read_json
from overread.core.phrases import command_of, count
from overread.evaluation.comparison.claims import Declaration, declare
from overread.evaluation.comparison.paired_cases import beside_baseline
from overread.evaluation.decision.choose_decision import choose_decision, read_costs
from overread.evaluation.decision.class_decision import Frozen
from overread.evaluation.evaluate import Evaluation
from overread.evaluation.evaluate import evaluate as evaluate_predictions
from overread.evaluation.ledger import require_entry_of, settle
from overread.evaluation.operating_point import OperatingPoint, choose_thresholds
from overread.evaluation.subgroups import FEWEST
from overread.evaluation.uncertainty import uncertainty
from overread.predictions import Predictions
from overread.study.class_levels import judge_levels, tree_judged_by
from overread.study.context import RunContext, cases_of, predictions_at, predictions_of, refuse_seen
from overread.study.question import OperatingRule, Study

#: What a model made of folds says of training and tuning patients, each by networks that have not seen him.
HELD_OUT = "predictions/held-out.csv"
#: Of a budget the seconds without which what a report may show beside its numbers is left to commands of their own.
SHOWING_SECONDS = 15.0
#: Of the maps that a report shows those that are held against their checks, which take some hundred passes each; and the
#: seconds that a budget must have left for them.
CHECKED, CHECKING_SECONDS = 4, 60.0
#: How much longer an index takes than predicting the same images, at most: layers are chosen, and a map is drawn.
INDEX_TIMES = 1.5

#: What a model says of the tuning and the test part, of a run's model, cases and split.
Answers = Callable[[RunContext, Any, Cases, Split], Mapping[str, Predictions]]


@checked
def teach(context: RunContext, cases: Cases, parts: Split, recipe: Any, how: dict[str, Any]) -> Any:
    """A model of the training part, ``how``: the arguments of :func:`overread.learning.train.train` that every training has."""
    from overread.learning.train import train

    asked = len(cases) - len(parts.rows(cases, "train"))
    pairs = Audit.load(context.folder / "audit.json").pairs
    return train(
        cases, parts, recipe, pairs=pairs, predicted=asked, reserve=closing_seconds(context, cases, parts), **how
    )


@checked
def closing_seconds(context: RunContext, cases: Cases, parts: Split) -> float:
    """Seconds for predicting, judging and reporting: a share of the budget that grows with the images to predict."""
    share = 1 - len(parts.rows(cases, "train")) / max(len(cases), 1)
    return context.closing + 0.1 * share * (context.clock.limit or 0.0)


@checked
def predict(context: RunContext) -> None:
    """``predictions/tuning.csv`` and ``test.csv``, and ``shortcut.csv``: what is told of the test without looking."""
    predict_by(context, _answers)


@checked
def predict_by(context: RunContext, answers: Answers, beside: Sequence[str] = ()) -> None:
    """The same, of what ``answers`` says; ``beside``: hashes of what files beside the images hold, by which it is made again."""
    from overread.learning.predict import load_model

    cases, parts = context.usable(), Split.load(context.folder / "split.csv")
    model = load_model(context.folder)
    key = fingerprint([model.digest, cases.digest, *beside])
    if context.done("predictions", key, "predictions/tuning.csv", "predictions/test.csv"):
        return
    began = context.clock.elapsed
    refuse_seen(model, cases.only(parts, "test"))
    for part, predictions in answers(context, model, cases, parts).items():
        predictions.save(context.folder / "predictions" / f"{part}.csv")
    if not cases.target.task.continuous:
        _baseline(context, cases, parts).save(context.folder / "predictions" / "shortcut.csv")
    context.note("predictions", key, context.clock.elapsed - began)


def _answers(context: RunContext, model: Any, cases: Cases, parts: Split) -> dict[str, Predictions]:
    from overread.learning.predict import predict as predict_cases

    resources, held_out, made = context.study.resources, context.folder / HELD_OUT, dict[str, Predictions]()
    for part in ("tuning", "test"):
        if part == "tuning" and held_out.exists():  # of networks that have not seen the patient
            made[part] = predictions_at(context.folder, held_out)
        else:
            made[part] = predict_cases(model, cases.only(parts, part), device=resources.device, threads=resources.threads,
                                       part=part, progress=context.progress, say=context.say)  # fmt: skip
    return made


def _baseline(context: RunContext, cases: Cases, parts: Split) -> Predictions:
    """The test predictions of a baseline that knows source, size, brightness and frame of the images, and no more."""
    test, rows = context.predictions("test"), parts.rows(cases, "test")
    told = shortcut_scores(cases, context.prints(cases), parts.rows(cases, "train"), rows)
    of_case = pd.DataFrame(told).groupby(cases.table["case"].iloc[rows].to_numpy()).mean().loc[test.table["case"]]
    return test.with_scores(of_case.to_numpy())


@checked
def evaluate(context: RunContext) -> None:
    """``evaluation/``: operating points frozen on tuning data, then the test set through its one door."""
    study, tuning, test = context.study, context.predictions("tuning"), context.predictions("test")
    if (patients := test.table["patient"].nunique()) < FEWEST:
        context.say(f"not judged: the test part has {count(patients, 'patient')}, and nothing is judged below {FEWEST}")
        return
    declare_margin(study, context.folder / "ledger.jsonl")  # before the test set is opened
    path = context.folder / "agreement.json"
    agreed = {"agreement": read_json(path)} if study.columns.graders and path.exists() else {}
    rule, subgroups = study.operating_point, study.columns.subgroups
    chosen = [rule.rule, rule.sensitivity, rule.specificity, rule.cost, rule.prevalence, rule.net_benefit_at, rule.fixed, rule.primary]  # fmt: skip
    if tuning.target.task.multiclass or rule.decide != "auto" or rule.cost_matrix:
        costs = read_costs(rule.cost_matrix, tuning.target.names).tolist() if rule.cost_matrix else []
        chosen += [rule.decide, costs]
    baseline = _shortcut(context.folder)
    chosen += [*study.class_tree.judge_at, tree_judged_by(context)] if study.class_tree.judge_at else []
    key = fingerprint([tuning.digest, test.digest, *chosen, subgroups, agreed, baseline.digest if baseline else ""])
    if context.done("evaluation", key, "evaluation/metrics.json"):
        return
    began = context.clock.elapsed
    require_entry_of(context.folder / "evaluation", context.folder / "ledger.jsonl")
    points = frozen_by(rule, tuning, seed=study.training.seed)
    trained = context.record().get("steps", {}).get("model", {})
    doubt = uncertainty(tuning, test, seed=study.training.seed)  # first: what cannot be judged is no look
    beside = beside_baseline(test, baseline, seed=study.training.seed) if baseline else ()
    result = evaluate_predictions(test, at=points or None, by=list(subgroups), seed=study.training.seed,
                                  ledger=context.folder / "ledger.jsonl", model=trained.get("key", ""), prevalence=rule.prevalence or None, fixed=rule.fixed,
                                  net_benefit_at=rule.net_benefit_at or None, primary=rule.primary, pending=True)  # fmt: skip
    whole = result.extended(estimates=(*beside, *doubt.estimates), more={**doubt.more, **agreed})
    whole.save(context.folder / "evaluation")
    judge_levels(context, tuning, test, result, frozen_by)
    _judge_folds(context)
    context.note("evaluation", key, context.clock.elapsed - began)
    settle(context.folder / "ledger.jsonl")


def _judge_folds(context: RunContext) -> None:
    """``evaluation/folds/``: what networks say of patients they have not seen, as one test and fold by fold; no look at the test set."""
    if (path := context.folder / HELD_OUT).exists():
        seed, fixed = context.study.training.seed, context.study.operating_point.fixed
        found = evaluate_predictions(predictions_at(context.folder, path), by=["fold"], seed=seed, fixed=fixed)
        found.save(context.folder / "evaluation" / "folds")


@checked
def carry(context: RunContext, columns: Sequence[str]) -> None:
    """Put columns of the study's table into the run's predictions, for judging by them; nothing is predicted anew.

    Raises :class:`InputError` for a column that is not there, and where the table itself is gone.
    """
    parts = {part: context.predictions(part) for part in ("tuning", "test")}
    wanted = [name for name in columns if any(name not in part.table for part in parts.values())]
    if not wanted:
        return
    cases = cases_of(context.study, context.progress).table.drop_duplicates("case").set_index("case")[wanted]
    for part, made in parts.items():
        found = made.table.drop(columns=[name for name in wanted if name in made.table])
        found = pd.concat([found, cases.reindex(found["case"]).reset_index(drop=True)], axis=1)
        replace(made, table=found).save(context.folder / "predictions" / f"{part}.csv")


@checked
def show_errors(context: RunContext) -> None:
    """``explanations/gallery.json``: the most confident errors with a small picture of each."""
    from overread.reporting.gallery import write_gallery

    if not (context.folder / "evaluation" / "metrics.json").exists():
        return
    judged = Evaluation.load(context.folder / "evaluation")
    points = list(judged.operating)
    single = points[0] if len({point.positive for point in points}) == 1 else None
    cases = context.usable()
    write_gallery(context.folder, cases, context.predictions("test"), positive=single.positive if single else (),
                  threshold=single.threshold if single else None, decision=judged.decision, unseen=context.written(cases))  # fmt: skip


@checked
def explain(context: RunContext) -> None:
    """``explanations/maps.json``: where the model looked in the cases that the report shows.

    It is said where there are none: a model without such maps, or a budget at its end.
    """
    from overread.explanation.map_files import LIST, read_entries
    from overread.learning.predict import load_model
    from overread.study.explained import Wish, explain_run

    folder = context.folder
    path = folder / "explanations" / "gallery.json"
    shown = {row["case"] for row in read_json(path)} if path.exists() else set()
    known = {entry.case for entry in read_entries(folder)}
    if not shown or (shown <= known and context.done("maps", load_model(folder).digest, LIST)):
        return
    if context.clock.left < SHOWING_SECONDS:
        context.say(f"  no maps of where the model looked: the budget is at its end ({_later('explain', folder)})")
        return
    try:
        time = context.clock.left >= CHECKING_SECONDS
        explain_run(context, Wish(methods=("grad-cam",), sample=len(shown), checks=time, checked=CHECKED))
    except UnavailableError as error:
        context.say(f"  no maps of where the model looked: {error}")


@checked
def index(context: RunContext) -> None:
    """``index/``: the training cases by what the model sees in them, and those nearest to the cases that the report shows.

    It takes as long as predicting every case; where the budget has no time for it, that is said.
    """
    from overread.learning.predict import load_model
    from overread.study.run_index import build_index

    folder, resources = context.folder, context.study.resources
    parts, model, cases = Split.load(folder / "split.csv"), load_model(folder), context.usable()
    key = fingerprint([model.digest, cases.digest])
    if context.done("index", key, "index/index.json"):
        return
    taken = context.record().get("steps", {}).get("predictions", {}).get("seconds", 0.0)
    predicted = sum(len(parts.rows(cases, part)) for part in ("tuning", "test"))
    needed = INDEX_TIMES * taken * len(cases.table) / max(1, predicted)
    if context.clock.left < SHOWING_SECONDS + needed:
        context.say(f"  no index of similar cases: the budget is at its end, and about {needed:.0f} s are needed ({_later('similar', folder)})")  # fmt: skip
        return
    began = context.clock.elapsed
    of_part = {part: cases.only(parts, part) for part in ("train", "tuning", "test")}
    build_index(model, of_part, folder, clock=context.clock, cache=context.cache, device=resources.device, threads=resources.threads,
                seed=context.study.training.seed, look=False, progress=context.progress, say=context.say)  # fmt: skip
    context.note("index", key, context.clock.elapsed - began)


def _later(command: str, folder: Path) -> str:
    return f"later: {command_of(['overread', command, folder])}"


def _shortcut(folder: Path) -> Predictions | None:
    return predictions_of(folder, "shortcut") if (folder / "predictions" / "shortcut.csv").exists() else None


# -- what tuning data freeze --------------------------------------------------------------------------------------------


@checked
def frozen_by(rule: OperatingRule, tuning: Predictions, seed: int = 0) -> tuple[Frozen, ...]:
    """The points at which sensitivity and specificity are told, and of several classes the decision rule, chosen on
    tuning predictions."""
    points = thresholds_by(rule, tuning)
    if not (tuning.target.task.multiclass or rule.decide != "auto" or rule.cost_matrix):
        return points
    return (*points, choose_decision(tuning, rule=rule.decide, costs=rule.cost_matrix or None, seed=seed))


@checked
def thresholds_by(rule: OperatingRule, tuning: Predictions) -> tuple[OperatingPoint, ...]:
    """The points at which sensitivity and specificity are told, chosen on tuning predictions."""
    return choose_thresholds(tuning, rule=rule.rule, sensitivity=rule.sensitivity or None, specificity=rule.specificity or None,
                             cost=rule.cost or None, prevalence=rule.prevalence or None if rule.cost else None)  # fmt: skip


@checked
def declare_margin(study: Study, ledger: Path) -> None:
    """Write the study's margin to the ledger, once for each metric that it is of; nothing where it has none."""
    rule = study.operating_point
    for metric in rule.margin_metrics if rule.margin else ():
        declare(ledger, Declaration.read(rule.margin, metric))
