"""The whole path in named steps. Each step reads the files of the one before it, so a person, a program or another
team's tool can take over anywhere; each is skipped when its files are there and its inputs have not changed."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.audit.audit import Audit
from overread.cases.audit.audit import audit as audit_cases
from overread.cases.audit.image_checks import TrainingImages
from overread.cases.cases import Cases, paths
from overread.cases.extra_inputs import taught_with
from overread.cases.graded_cases import GradedCases, agreement_in_words, panel_of, panels_of
from overread.cases.split import Split, leaked, require_rule, without
from overread.cases.split import split as split_cases
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import (
    cache_folder,
    fingerprint,
    folder_lock,
    hardware,
    plain,
    remove_strays,
    versions,
    write_csv,
    write_json,
)
from overread.core.phrases import count, without_folders
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.decision.choose_decision import require_decidable
from overread.evaluation.subgroups import FEWEST, characteristics
from overread.learning.preflight.faults import Preflight
from overread.study import image_steps, outline_steps
from overread.study.class_levels import NO_CLASS, cut_classes
from overread.study.context import RunContext, cases_of, recipe_of
from overread.study.image_steps import declare_margin
from overread.study.question import DESPITE, Study
from overread.study.slides import lesion_tables, slide_steps, slide_views

#: What may change when a model is there: how it is judged, and with what means it is computed.
JUDGING = frozenset({"rule", "sensitivity", "specificity", "cost", "decide", "cost_matrix", "prevalence", "margin", "margin_of", "net_benefit_at", "fixed", "primary", "subgroups", "despite", "judge_at",
                     "device", "threads"})  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """The steps of a study that differ by what is asked of its images.

    ``beside``: hashes of what files beside the images hold; ``teach``: a model of context, cases, split, recipe and the arguments that every
    training has; ``errors``: the pictures of a report, and ``more`` that it shows where the budget allows; ``unrehearsed``: why a training is not rehearsed, blank where it is.
    """

    beside: Callable[[RunContext, Cases], Sequence[str]]
    teach: Callable[[RunContext, Cases, Split, Any, dict[str, Any]], Any]
    predict: Callable[[RunContext], None]
    evaluate: Callable[[RunContext], None]
    errors: Callable[[RunContext], None]
    more: tuple[Callable[[RunContext], None], ...] = ()
    carry: Callable[[RunContext, Sequence[str]], None] = image_steps.carry
    unrehearsed: str = ""


#: The kinds: one answer a case; objects outlined in each image; lesions searched for on slides.
ANSWERS = Kind(lambda *_: (), image_steps.teach, image_steps.predict, image_steps.evaluate, image_steps.show_errors, (image_steps.explain, image_steps.index))  # fmt: skip
OUTLINES = Kind(outline_steps.beside, outline_steps.teach, outline_steps.predict, outline_steps.evaluate, outline_steps.show_outlines, carry=outline_steps.carry,
                unrehearsed="one that outlines objects (--mask)")  # fmt: skip
SLIDES = Kind(slide_steps.beside, slide_steps.teach, slide_steps.predict, slide_steps.evaluate, image_steps.show_errors, (slide_views.show_slides,), unrehearsed="one on tiles of slides")  # fmt: skip


@checked
def kind_of(context: RunContext) -> Kind:
    """The steps of what this study asks."""
    return OUTLINES if context.dense else SLIDES if context.slides else ANSWERS


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
    own = kind_of(context)
    key = fingerprint(
        [
            taught,
            parts.table.to_csv(),
            recipe,
            study.training.weights,
            study.resources.limit,
            *own.beside(context, cases),
        ]
    )
    if context.done("model", key, "model/model.json"):
        context.say("the model is there already")
        return
    began = context.clock.elapsed
    prints = context.prints(cases)  # from the cache of the audit
    how: dict[str, Any] = {
        "weights": study.training.weights or None, "folder": context.folder / "checkpoints", "cache": context.cache,
        "digests": dict(zip(paths(cases), prints["digest"], strict=True)), "clock": context.clock,
        "device": study.resources.device, "threads": study.resources.threads, "network": context.network, "progress": context.progress, "say": context.say,
    }  # fmt: skip
    model = own.teach(context, cases, parts, recipe, how)
    (held_out := context.folder / image_steps.HELD_OUT).unlink(missing_ok=True)
    if model.held_out is not None:
        model.held_out.save(held_out)
    model.save(context.folder / "model")
    TrainingImages.of(prints, cases.table, *(parts.rows(cases, part) for part in ("train", "tuning"))).save(context.folder / "model")  # fmt: skip
    context.note("model", key, context.clock.elapsed - began)


@checked
def rehearse(context: RunContext) -> Preflight:
    """What training would do, looked at in seconds: nothing is trained and the test part stays closed."""
    from overread.learning.train import rehearse_training

    if own := kind_of(context).unrehearsed:
        raise InputError("this training is not rehearsed", given=own, todo="train for a short while: overread run TABLE … --budget 3m")  # fmt: skip
    study, cases, parts = context.study, context.usable(), Split.load(context.folder / "split.csv")
    digests = dict(zip(paths(cases), context.prints(cases)["digest"], strict=True))
    return rehearse_training(cases, parts, recipe_of(study), weights=study.training.weights or None, cache=context.cache, digests=digests,
                             clock=context.clock, reserve=image_steps.closing_seconds(context, cases, parts), device=study.resources.device,
                             threads=study.resources.threads, network=context.network, progress=context.progress, say=context.say)  # fmt: skip


@checked
def predict(context: RunContext) -> None:
    """``predictions/tuning.csv`` and ``test.csv``."""
    kind_of(context).predict(context)


@checked
def evaluate(context: RunContext) -> None:
    """``evaluation/``: the test set through its one door, at what tuning data froze."""
    kind_of(context).evaluate(context)


@checked
def carry(context: RunContext, columns: Sequence[str]) -> None:
    """Put columns of the study's table into the run's predictions, for judging by them; nothing is predicted anew.

    Raises :class:`InputError` for a column that is not there, and where the table itself is gone.
    """
    kind_of(context).carry(context, columns)


@checked
def show_errors(context: RunContext) -> None:
    """The pictures of a report: errors beside correct cases, or outlines."""
    kind_of(context).errors(context)


@checked
def show_more(context: RunContext) -> None:
    """What it shows besides: where the model looked and the nearest known cases, or slides beside their heat maps."""
    for step in kind_of(context).more:
        step(context)


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


STEPS: tuple[Callable[[RunContext], None], ...] = (
    audit,
    tell_findings,
    split,
    train,
    predict,
    evaluate,
    show_errors,
    show_more,
    report,
)


# -- the table and the answers of a study -------------------------------------------------------------------------


@checked
def open_study(study: Study, folder: Path, progress: Progress = silent) -> tuple[Study, Cases]:
    """The study and its table. The salt is the one that the folder knows, else that of the table: rows that are added
    later leave the codes of the others as they are. Raises :class:`InputError` for a table that is wrong, and for a
    rule of splitting, of calling or a recipe that it does not fit."""
    path, rule = folder / "study.toml", study.operating_point
    if not study.columns.salt and path.exists():
        study = study.changed(salt=Study.load(path).columns.salt)
    cases = cases_of(study, progress)
    require_rule(cases, deploy_to=study.split.deploy_to or None, leave_out=study.split.leave_out or None)
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
def command_line() -> str:
    """How the program was called, without the folders of its paths, which may hold names; ``Python`` where it was not by its command."""
    if "overread" not in Path(sys.argv[0]).name:
        return "Python"
    words = ["overread", *map(without_folders, sys.argv[1:])]
    return " ".join(f'"{word}"' if " " in word else word for word in words)
