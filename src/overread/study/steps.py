"""The whole path in named steps. Each step reads the files of the one before it, so a person, a program or another
team's tool can take over anywhere; each is skipped when its files are there and its inputs have not changed."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.audit.audit import Audit
from overread.cases.audit.audit import audit as audit_cases
from overread.cases.audit.image_checks import TrainingImages
from overread.cases.audit.shortcut import shortcut_scores
from overread.cases.cases import Cases, paths
from overread.cases.extra_inputs import taught_with
from overread.cases.graded_cases import GradedCases, agreement_in_words, panel_of, panels_of
from overread.cases.split import Split, leaked, without
from overread.cases.split import split as split_cases
from overread.core.errors import InputError, UnavailableError, UnsoundError, checked
from overread.core.files import (
    build,
    cache_folder,
    fingerprint,
    folder_lock,
    hardware,
    plain,
    read_json,
    remove_strays,
    versions,
    write_csv,
    write_json,
)
from overread.core.phrases import command_of, count, without_folders
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.comparison.claims import Declaration, declare
from overread.evaluation.comparison.paired_cases import beside_baseline
from overread.evaluation.decision.choose_decision import choose_decision, read_costs, require_decidable
from overread.evaluation.decision.class_decision import Frozen
from overread.evaluation.evaluate import Evaluation
from overread.evaluation.evaluate import evaluate as evaluate_predictions
from overread.evaluation.ledger import require_entry_of, settle
from overread.evaluation.operating_point import OperatingPoint, choose_thresholds
from overread.evaluation.subgroups import FEWEST, characteristics
from overread.evaluation.uncertainty import uncertainty
from overread.learning.preflight.faults import Preflight
from overread.predictions import Predictions
from overread.study import outline_steps
from overread.study.class_levels import NO_CLASS, cut_classes, judge_levels, tree_judged_by
from overread.study.context import RunContext, cases_of, predictions_at, predictions_of, refuse_seen
from overread.study.question import DESPITE, OperatingRule, Study
from overread.study.slides import lesion_search, lesion_tables, map_budget, slide_views

#: What may change when a model is there: how it is judged, and with what means it is computed.
JUDGING = frozenset({"rule", "sensitivity", "specificity", "cost", "decide", "cost_matrix", "prevalence", "margin", "margin_of", "net_benefit_at", "fixed", "primary", "subgroups", "despite", "judge_at",
                     "device", "threads"})  # fmt: skip
#: What a model made of folds says of training and tuning patients, each by networks that have not seen him.
HELD_OUT = "predictions/held-out.csv"
#: Of a budget the seconds without which what a report may show beside its numbers is left to commands of their own.
SHOWING_SECONDS = 15.0
#: Of the maps that a report shows those that are held against their checks, which take some hundred passes each; and the
#: seconds that a budget must have left for them.
CHECKED, CHECKING_SECONDS = 4, 60.0
#: How much longer an index takes than predicting the same images, at most: layers are chosen, and a map is drawn.
INDEX_TIMES = 1.5


@checked
def run(
    study: Study, folder: str | Path, *, cache: str | Path | None = None, network: bool = True, progress: Progress = silent,
    say: Say = unheard, verbose: bool = False,
) -> Path:  # fmt: skip
    """Take a study from its table to its report, in ``folder``; called again, it goes on where it was stopped.

    Returns the path of ``report.html``. Raises :class:`InputError` for a wrong input, :class:`UnsoundError` where the
    study cannot be trusted, :class:`UnavailableError` if another process works in the folder.
    """
    folder, clock = Path(folder), Clock(study.resources.limit)
    if not (folder / "model" / "model.json").exists():
        require_trainable(study, network)
    study, cases = open_study(study, folder, progress)  # a wrong table leaves nothing behind
    with folder_lock(folder):
        context = RunContext(study, folder, Path(cache) if cache else None, network, clock, progress, say, cases, verbose)  # fmt: skip
        sweep(context)
        begin(context, cases)
        for step in STEPS:
            step(context)
        close_record(context)
    return folder / "report.html"


@checked
def require_trainable(study: Study, network: bool = True) -> None:
    """Refuse what is wrong with the flags of a training before anything is read: device, weights, the recipe's fields."""
    from overread.learning.auto import require_weights
    from overread.learning.device import pick_device

    pick_device(study.resources.device)
    require_weights(recipe_of(study), folder=study.training.weights or None, network=network)


@checked
def sweep(context: RunContext) -> None:
    """Remove the half-written files of a process that was killed, in the run's folder and in the cache, and say so."""
    strays = [*remove_strays(context.folder), *remove_strays(context.cache or cache_folder(), shared=True)]
    if strays:
        shown = ", ".join(path.name for path in strays[:3]) + (" …" if len(strays) > 3 else "")
        context.say(f"  removed {len(strays)} half-written file{'s' * (len(strays) > 1)} of a killed process: {shown}")


@checked
def begin(context: RunContext, cases: Cases) -> None:
    """Write ``study.toml``, ``cases.csv`` and ``record.json``; refuse a folder where another study has trained."""
    path, folder = context.folder / "study.toml", context.folder
    before = plain((Study.load(path, context.say) if path.exists() else context.study).flat())
    judging = JUDGING if context.study.class_tree.cuts else JUDGING | {"taxonomy"}
    names = [k for k, v in plain(context.study.flat()).items() if v != before[k] and k not in judging]
    trained = any((folder / "checkpoints" / name).exists() for name in ("plan.json", "segmentation.json", "tiles.json"))
    if names and trained:
        raise InputError("the folder holds the training of another study", given=f"{folder}; different: {', '.join(names)}",
                         todo="choose another folder with -o, or delete this one")  # fmt: skip
    context.study.save(path)
    context.cases().save(folder / "cases.csv")
    if not (folder / "record.json").exists():
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        write_json(folder / "record.json", {"started": started, "seed": context.study.training.seed, "versions": versions(), "hardware": hardware(),
                                            "cases digest": cases.digest, "command": command_line(), "steps": {}})  # fmt: skip
    declare_margin(context.study, context.folder / "ledger.jsonl")
    for line in (str(cases), *(f"  {note}" for note in cases.notes)):
        context.say(line)


@checked
def close_record(context: RunContext) -> None:
    """Write down in ``record.json`` how long the whole run took, once."""
    record = context.record()
    if "seconds" not in record:
        write_json(context.folder / "record.json", {**record, "seconds": round(context.clock.elapsed, 1)})


# -- the steps ----------------------------------------------------------------------------------------------------


@checked
def audit(context: RunContext) -> None:
    """``audit.json`` and ``excluded.csv``: what is wrong with the images and the table."""
    from overread.reporting.gallery import write_audit_pictures

    began, cases = context.clock.elapsed, context.labelled()
    found = audit_cases(cases, fingerprints=context.prints(cases), threads=context.study.resources.threads, progress=context.progress,
                        merged=context.study.class_tree.cuts, cache=context.cache or cache_folder())  # fmt: skip
    if isinstance(cases, GradedCases):
        undecided = cases.undecided()
        found = replace(found, excluded=tuple(
            (case, undecided.get(case, reason) if reason == "no label" else reason) for case, reason in found.excluded))  # fmt: skip
        _write_agreement(context, cases)
    found.save(context.folder / "audit.json")
    write_audit_pictures(context.folder, cases, found, written=context.written(cases))
    _write_excluded(context, list(found.excluded))
    context.note("audit", cases.digest, context.clock.elapsed - began)


@checked
def tell_findings(context: RunContext) -> None:
    """Say the errors and warnings of the audit, and how many notes there are; with ``verbose`` these too."""
    found = Audit.load(context.folder / "audit.json").findings
    told = [f for f in found if context.verbose or f.severity != "note"]
    for finding in told:
        context.say(f"  {finding.severity}: {finding.message}")
    if len(told) < len(found):
        context.say(f"  {count(len(found) - len(told), 'note')} of the audit: in the report, or --verbose")


def _write_agreement(context: RunContext, cases: GradedCases) -> None:
    """``graders.csv`` and ``agreement.json``: the readers' answers, under codes, and how far they agree."""
    seed = context.study.training.seed
    if cases.questions:
        found = panels_of(cases.questions, rule=cases.rule, seed=seed)
        answers = pd.concat([held.table.assign(question=name) for name, held in cases.questions.items()], ignore_index=True)  # fmt: skip
    elif cases.grades is not None:
        found, answers = panel_of(cases.grades, rule=cases.rule, seed=seed), cases.grades.table
    else:
        return
    write_csv(context.folder / "graders.csv", answers)
    write_json(context.folder / "agreement.json", found)
    for line in agreement_in_words(found):
        context.say(f"  {line}")


@checked
def split(context: RunContext) -> None:
    """``split.csv`` with its proof: who trains, who tunes, who tests."""
    study, rule, found = context.study, context.study.split, Audit.load(context.folder / "audit.json")
    refuse_errors(found, rule.despite)
    _write_excluded(context, list(found.excluded))
    usable = context.usable_as_labelled()
    usable = usable.take(usable.labelled)
    parts = split_cases(usable, test=rule.test, tuning=rule.tuning, deploy_to=rule.deploy_to or None, leave_out=rule.leave_out or None,
                        by_time=rule.by_time, seed=study.training.seed, audit=found, keep_given=rule.keep_given)  # fmt: skip
    dropped, excluded = leaked(usable, parts, found), list(found.excluded)
    if dropped:
        parts = without(usable, parts, dropped, found)
        reason = "the same patient or image is in a later part of the given split"
        excluded += [(case, reason) for case in sorted(dropped)]
        context.say(f"  {count(len(dropped), 'case')} left out of training or tuning: {reason}")
    if cut := cut_classes(context, usable, parts):
        parts = without(usable, parts, cut, found, NO_CLASS)
        excluded += [(case, NO_CLASS) for case in sorted(cut)]
    _write_excluded(context, excluded)
    if "few-patients" not in rule.despite:
        _refuse_few(parts)
    parts.save(context.folder / "split.csv")
    write_json(context.folder / "characteristics.json", characteristics(usable, parts, study.columns.subgroups))
    context.say(str(parts))


@checked
def refuse_errors(found: Audit, despite: tuple[str, ...]) -> None:
    """Stop at an error of the audit, unless it is of a kind that was named: nothing that follows could be trusted."""
    errors = [f for f in found.findings if f.severity == "error"]
    left = [f for f in errors if f.kind not in despite]
    if left:
        kinds = dict.fromkeys(f.kind for f in left)
        flags = " ".join(f"--despite {kind}" for kind in kinds)
        despite_it = f" {flags} goes on all the same, and the report says so" if set(kinds) <= set(DESPITE) else ""
        advice = " ".join(dict.fromkeys(f.advice for f in left if f.advice))
        raise UnsoundError(f"the audit found {count(len(left), 'error')}: " + "; ".join(f.message for f in left),
                           todo=f"{advice}{despite_it}")  # fmt: skip


def _refuse_few(parts: Split) -> None:
    """Stop before training where nothing of the test part would be judged."""
    patients = parts.counts()["test"]["patients"]
    if patients < FEWEST:
        raise UnsoundError(f"the test part has {count(patients, 'patient')}, and nothing is judged below {FEWEST}",
                           given=parts.method, todo="add patients, give the test a larger share (--test 0.4), or train without a judgement: --despite few-patients")  # fmt: skip


def _write_excluded(context: RunContext, rows: list[tuple[str, str]]) -> None:
    write_csv(context.folder / "excluded.csv", pd.DataFrame(rows, columns=["case", "reason"]))


@checked
def train(context: RunContext) -> None:
    """``model/``: train by the recipe, within the budget."""
    study, cases, parts = context.study, context.usable(), Split.load(context.folder / "split.csv")
    recipe = recipe_of(study)
    taught = taught_with(cases, recipe.extra_inputs)
    masks = [context.mask_digest(cases)] if cases.target.task.dense else []  # the labels lie in their files
    masks += [lesion_tables.outlines_digest(cases)] if context.slides else []
    key = fingerprint([taught, parts.table.to_csv(), recipe, study.training.weights, study.resources.limit, *masks])
    if context.done("model", key, "model/model.json"):
        context.say("the model is there already")
        return
    began = context.clock.elapsed
    prints = context.prints(cases)  # from the cache of the audit
    how: dict[str, Any] = {
        "weights": study.training.weights or None, "folder": context.folder / "checkpoints", "cache": context.cache,
        "digests": dict(zip(paths(cases), prints["digest"], strict=True)), "clock": context.clock, "reserve": (map_budget.reserve_for_maps if context.slides else _closing)(context, cases, parts),
        "device": study.resources.device, "threads": study.resources.threads, "network": context.network, "progress": context.progress, "say": context.say,
    }  # fmt: skip
    if context.dense:
        from overread.cells.segmenter import train_segmenter

        model = train_segmenter(cases, parts, recipe, **how)
    elif context.slides:
        from overread.slides.tile_classifier import train_on_slides

        model = train_on_slides(cases, parts, recipe, **how)
    else:
        from overread.learning.train import train as train_model

        asked = len(cases) - len(parts.rows(cases, "train"))
        model = train_model(cases, parts, recipe, pairs=Audit.load(context.folder / "audit.json").pairs, predicted=asked, **how)  # fmt: skip
    (held_out := context.folder / HELD_OUT).unlink(missing_ok=True)
    if model.held_out is not None:
        model.held_out.save(held_out)
    model.save(context.folder / "model")
    TrainingImages.of(prints, cases.table, *(parts.rows(cases, part) for part in ("train", "tuning"))).save(context.folder / "model")  # fmt: skip
    context.note("model", key, context.clock.elapsed - began)


@checked
def rehearse(context: RunContext) -> Preflight:
    """What training would do, looked at in seconds: nothing is trained and the test part stays closed."""
    from overread.learning.train import rehearse_training

    if context.dense or context.slides:
        what, given = ("that outlines objects", "--mask") if context.dense else ("on tiles of slides", "a table of slides")  # fmt: skip
        raise InputError(f"a training {what} is not rehearsed", given=given, todo="train for a short while: overread run TABLE … --budget 3m")  # fmt: skip
    study, cases, parts = context.study, context.usable(), Split.load(context.folder / "split.csv")
    digests = dict(zip(paths(cases), context.prints(cases)["digest"], strict=True))
    return rehearse_training(cases, parts, recipe_of(study), weights=study.training.weights or None, cache=context.cache, digests=digests,
                             clock=context.clock, reserve=_closing(context, cases, parts), device=study.resources.device,
                             threads=study.resources.threads, network=context.network, progress=context.progress, say=context.say)  # fmt: skip


def _closing(context: RunContext, cases: Cases, parts: Split) -> float:
    """Seconds for predicting, judging and reporting: a share of the budget that grows with the images to predict."""
    share = 1 - len(parts.rows(cases, "train")) / max(len(cases), 1)
    return context.closing + 0.1 * share * (context.clock.limit or 0.0)


@checked
def predict(context: RunContext) -> None:
    """``predictions/tuning.csv`` and ``test.csv``, and ``shortcut.csv``: what is told of the test without looking."""
    if context.dense:
        return outline_steps.predict(context)
    from overread.learning.predict import load_model
    from overread.learning.predict import predict as predict_cases

    cases, parts, resources = context.usable(), Split.load(context.folder / "split.csv"), context.study.resources
    model = load_model(context.folder)
    outlines = [lesion_tables.outlines_digest(cases)] if context.slides else []
    key = fingerprint([model.digest, cases.digest, *outlines])
    if context.done("predictions", key, "predictions/tuning.csv", "predictions/test.csv"):
        return
    began = context.clock.elapsed
    refuse_seen(model, cases.only(parts, "test"))
    held_out = context.folder / HELD_OUT
    if context.slides:
        from overread.study.slides.slide_steps import predict_slides

        answers = predict_slides(context, model, cases, parts)
    for part in ("tuning", "test"):
        if context.slides:
            predictions = answers[part]
        elif part == "tuning" and held_out.exists():  # of networks that have not seen the patient
            predictions = predictions_at(context.folder, held_out)
        else:
            predictions = predict_cases(model, cases.only(parts, part), device=resources.device, threads=resources.threads,
                                        part=part, progress=context.progress, say=context.say)  # fmt: skip
        predictions.save(context.folder / "predictions" / f"{part}.csv")
    if not cases.target.task.continuous:
        _baseline(context, cases, parts).save(context.folder / "predictions" / "shortcut.csv")
    context.note("predictions", key, context.clock.elapsed - began)


def _baseline(context: RunContext, cases: Cases, parts: Split) -> Predictions:
    """The test predictions of a baseline that knows source, size, brightness and frame of the images, and no more."""
    test, rows = context.predictions("test"), parts.rows(cases, "test")
    told = shortcut_scores(cases, context.prints(cases), parts.rows(cases, "train"), rows)
    of_case = pd.DataFrame(told).groupby(cases.table["case"].iloc[rows].to_numpy()).mean().loc[test.table["case"]]
    return test.with_scores(of_case.to_numpy())


@checked
def evaluate(context: RunContext) -> None:
    """``evaluation/``: operating points frozen on tuning data, then the test set through its one door; of slides the lesions too."""
    if context.dense:
        return outline_steps.evaluate(context)
    _evaluate(context)
    lesion_search.judge_lesions(context)


def _evaluate(context: RunContext) -> None:
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
    if context.dense:
        return outline_steps.carry(context, columns)
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
    if context.dense:
        return outline_steps.show_outlines(context)
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
    if context.slides:  # the heat map is the map
        return slide_views.show_slides(context)
    if context.dense:
        return
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
    if context.dense or context.slides:
        return
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


@checked
def report(context: RunContext) -> None:
    """``report.html``, ``model_card.md``, the figures and the checklists."""
    from overread.reporting import card, write_checklists
    from overread.reporting import report as write_report

    close_record(context)
    card(context.folder)
    if not context.dense:  # they ask for the accuracy of one answer a case
        write_checklists(context.folder)
    # codes name nobody, and `overread key` knows them
    write_report(context.folder, case_names=bool(context.study.columns.salt), files=True)


@checked
def set_up(context: RunContext, cases: Cases) -> None:
    """What comes before a training: the study written down, its table audited, and split."""
    begin(context, cases)
    for step in (audit, tell_findings, split):
        step(context)


STEPS: tuple[Callable[[RunContext], None], ...] = (audit, tell_findings, split, train, predict, evaluate, show_errors, explain, index, report)  # fmt: skip


# -- the table and the answers of a study -------------------------------------------------------------------------


@checked
def open_study(study: Study, folder: Path, progress: Progress = silent) -> tuple[Study, Cases]:
    """The study and its table. The salt is the one that the folder knows, else that of the table: rows that are added
    later leave the codes of the others as they are. Raises :class:`InputError` for a table that is wrong, and for a
    rule of calling or a recipe that its labels do not fit."""
    path, rule = folder / "study.toml", study.operating_point
    if not study.columns.salt and path.exists():
        study = study.changed(salt=Study.load(path).columns.salt)
    cases = cases_of(study, progress)
    if cases.target.task.dense:
        outline_steps.refuse_points(rule)
    if cases.slides:
        lesion_tables.refuse_unfit_slides(cases, recipe_of(study) if study.training.recipe else None)
    require_decidable(cases.target, rule=rule.decide, costs=rule.cost_matrix or None)
    if study.training.recipe:
        from overread.learning.recipe import refuse_unfit

        refuse_unfit(cases, recipe_of(study))
        if cases.target.task.dense and (backbone := recipe_of(study).backbone):
            from overread.networks.unet import build_unet

            build_unet(backbone, outputs=1)  # says at once where it has no maps to be made a U-Net of
    return study.changed(salt=cases.salt), cases


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


def _shortcut(folder: Path) -> Predictions | None:
    return predictions_of(folder, "shortcut") if (folder / "predictions" / "shortcut.csv").exists() else None


@checked
def declare_margin(study: Study, ledger: Path) -> None:
    """Write the study's margin to the ledger, once for each metric that it is of; nothing where it has none."""
    rule = study.operating_point
    for metric in rule.margin_metrics if rule.margin else ():
        declare(ledger, Declaration.read(rule.margin, metric))


@checked
def recipe_of(study: Study) -> Any:
    """The recipe of a study: its fields over the defaults, with the study's seed."""
    from overread.learning.recipe import Recipe

    return build(Recipe, {**study.training.recipe, "seed": study.training.seed}, where="the study's recipe")


@checked
def command_line() -> str:
    """How the program was called, without the folders of its paths, which may hold names; ``Python`` where it was not by its command."""
    if "overread" not in Path(sys.argv[0]).name:
        return "Python"
    words = ["overread", *map(without_folders, sys.argv[1:])]
    return " ".join(f'"{word}"' if " " in word else word for word in words)
