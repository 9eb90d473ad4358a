"""The whole path in named steps. Each step reads the files of the one before it, so a person, a program or another
team's tool can take over anywhere; each is skipped when its files are there and its inputs have not changed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from overread.cases.audit.audit import Audit, audit
from overread.cases.audit.fingerprint import fingerprint as fingerprint_images
from overread.cases.cases import Cases, paths
from overread.cases.graded_cases import GradedCases, panel_of, spoken
from overread.cases.split import Split, leaked, split, without
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import (
    cache_folder,
    fingerprint,
    folder_lock,
    hardware,
    plain,
    read_json,
    unguarded,
    versions,
    write_csv,
    write_json,
)
from overread.core.progress import Clock, Progress, silent
from overread.evaluation.evaluate import Evaluation, evaluate
from overread.evaluation.subgroups import characteristics
from overread.evaluation.uncertainty import uncertainty
from overread.predictions import Predictions
from overread.study.question import (
    Study,
    command_line,
    declare_margin,
    opened,
    operating_points,
    recipe_of,
    seconds,
    table_of,
)

if TYPE_CHECKING:
    from overread.learning.model import Model

#: Says one line to the person who waits.
Say = Callable[[str], None]
#: What may change when a model is there: how it is judged.
JUDGING = frozenset({"rule", "sensitivity", "specificity", "cost", "prevalence", "margin", "margin_of"})
#: Seconds kept at the end of a budget for evaluation and report.
CLOSING_SECONDS = 25.0


@checked
def run(
    study: Study, folder: str | Path, *, cache: str | Path | None = None, network: bool = True, progress: Progress = silent,
    say: Callable = lambda line: None,
) -> Path:  # fmt: skip
    """Take a study from its table to its report, in ``folder``; called again, it goes on where it was stopped.

    Returns the path of ``report.html``. Raises :class:`InputError` for a wrong input, :class:`UnsoundError` where the
    study cannot be trusted, :class:`UnavailableError` if another process works in the folder.
    """
    folder, clock = Path(folder), Clock(seconds(study.budget))
    study, cases = opened(study, folder, progress)  # a wrong table leaves nothing behind
    with folder_lock(folder):
        desk = Desk(
            study,
            folder,
            cache=Path(cache) if cache else None,
            network=network,
            clock=clock,
            progress=progress,
            say=say,
            table=cases,
        )
        begin(desk, cases)
        for step in STEPS:
            step(desk)
        _close_record(desk)
    return folder / "report.html"


@dataclass(frozen=True, eq=False)
class Desk:
    """What each step works with: the question, the folder, and ways to speak."""

    study: Study
    folder: Path
    cache: Path | None = None
    network: bool = True
    clock: Clock = field(default_factory=Clock)
    progress: Progress = silent
    say: Say = lambda line: None
    table: Cases | None = None

    def cases(self) -> Cases:
        """All cases of the table. Where ``cases.csv`` does not say all of it, the table is read again."""
        return self.table or self._cases

    @cached_property
    def _cases(self) -> Cases:
        saved = Cases.load(self.folder / "cases.csv")
        if not saved.salt and not self.study.graders:  # the readers' answers are in no file of the run
            return saved
        cases = table_of(self.study, self.progress)
        if list(cases.table["case"]) != list(saved.table["case"]):
            raise InputError("the table has changed since the study began", given=self.study.table,
                             todo="start again from `overread audit`, in this folder or another")  # fmt: skip
        return cases

    def usable(self) -> Cases:
        """The cases without those that the audit or the split set aside."""
        excluded = unguarded(pd.read_csv(self.folder / "excluded.csv", dtype=str, keep_default_na=False))
        return self.cases().drop(excluded["case"])

    def predictions(self, part: str) -> Predictions:
        """The predictions of one part."""
        path = self.folder / "predictions" / f"{part}.csv"
        return replace(Predictions.read(path), target=Cases.load(self.folder / "cases.csv").target)

    def done(self, step: str, key: str, *files: str) -> bool:
        """Whether this step was done with these inputs and its files are still there."""
        return self.record().get("steps", {}).get(step, {}).get("key") == key and all(
            (self.folder / f).exists() for f in files
        )

    def record(self) -> dict[str, Any]:
        """What ``record.json`` holds; an empty dict before the first step."""
        path = self.folder / "record.json"
        return read_json(path) if path.exists() else {}

    def note(self, step: str, key: str, took: float) -> None:
        """Write down that a step was done."""
        record = self.record()
        steps = {**record.get("steps", {}), step: {"key": key, "seconds": round(took, 1)}}
        write_json(self.folder / "record.json", {**record, "steps": steps})


@checked
def begin(desk: Desk, cases: Cases) -> None:
    """Write ``study.toml``, ``cases.csv`` and ``record.json``; refuse a folder where another study has trained."""
    path, folder = desk.folder / "study.toml", desk.folder
    before = plain(Study.load(path) if path.exists() else desk.study)
    names = [k for k, v in plain(desk.study).items() if v != before[k] and k not in JUDGING]
    if names and (folder / "checkpoints" / "plan.json").exists():
        raise InputError("the folder holds the training of another study", given=f"{folder}; different: {', '.join(names)}",
                         todo="choose another folder with -o, or delete this one")  # fmt: skip
    desk.study.save(path)
    cases.save(folder / "cases.csv")
    if not (folder / "record.json").exists():
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        write_json(folder / "record.json", {"started": started, "seed": desk.study.seed, "versions": versions(), "hardware": hardware(),
                                            "cases digest": cases.digest, "command": command_line(), "steps": {}})  # fmt: skip
    declare_margin(desk.study, desk.folder / "ledger.jsonl")
    for line in (str(cases), *(f"  {note}" for note in cases.notes)):
        desk.say(line)


def _close_record(desk: Desk) -> None:
    record = desk.record()
    if "seconds" not in record:
        write_json(desk.folder / "record.json", {**record, "seconds": round(desk.clock.elapsed, 1)})


# -- the steps ----------------------------------------------------------------------------------------------------


@checked
def inspect(desk: Desk) -> None:
    """``audit.json`` and ``excluded.csv``: what is wrong with the images and the table."""
    began, cases = desk.clock.elapsed, desk.cases()
    prints = _prints(desk, cases)
    found = audit(cases, fingerprints=prints, threads=desk.study.threads, progress=desk.progress)
    if isinstance(cases, GradedCases):
        undecided = cases.undecided()
        told = tuple((case, undecided.get(case, why) if why == "no label" else why) for case, why in found.excluded)  # fmt: skip
        found = replace(found, excluded=told)
        _write_agreement(desk, cases)
    found.save(desk.folder / "audit.json")
    _write_excluded(desk, list(found.excluded))
    for finding in found.findings:
        desk.say(f"  {finding.severity}: {finding.message}")
    desk.note("audit", cases.digest, desk.clock.elapsed - began)


def _write_agreement(desk: Desk, cases: GradedCases) -> None:
    """``graders.csv`` and ``agreement.json``: the readers' answers, under codes, and how far they agree."""
    if cases.grades is None:
        return
    found = panel_of(cases.grades, rule=cases.rule, seed=desk.study.seed)
    write_csv(desk.folder / "graders.csv", cases.grades.table)
    write_json(desk.folder / "agreement.json", found)
    for line in spoken(found):
        desk.say(f"  {line}")


def _prints(desk: Desk, cases: Cases) -> pd.DataFrame:
    """Fingerprints of the images; each file is read once, then known by path, size and time of change."""
    cache = desk.cache or cache_folder()
    return fingerprint_images(cases, threads=desk.study.threads, progress=desk.progress, cache=cache)


@checked
def divide(desk: Desk) -> None:
    """``split.csv`` with its proof: who trains, who tunes, who tests."""
    study, found = desk.study, Audit.load(desk.folder / "audit.json")
    _write_excluded(desk, list(found.excluded))
    usable = desk.usable()
    usable = usable.take(usable.labelled)
    parts = split(usable, test=study.test, tuning=study.tuning, deploy_to=study.deploy_to or None, leave_out=study.leave_out or None,
                  by_time=study.by_time, seed=study.seed, audit=found, keep_given=study.keep_given)  # fmt: skip
    dropped = leaked(usable, parts, found)
    if dropped:
        parts = without(usable, parts, dropped, found)
        reason = "the same patient or image is in a later part of the given split"
        _write_excluded(desk, [*found.excluded, *((case, reason) for case in sorted(dropped))])
        desk.say(f"  {len(dropped)} cases leave training or tuning: {reason}")
    parts.save(desk.folder / "split.csv")
    write_json(desk.folder / "characteristics.json", characteristics(usable, parts, study.subgroups))
    desk.say(str(parts))


def _write_excluded(desk: Desk, rows: list[tuple[str, str]]) -> None:
    write_csv(desk.folder / "excluded.csv", pd.DataFrame(rows, columns=["case", "reason"]))


@checked
def learn(desk: Desk) -> None:
    """``model/``: train by the recipe, within the budget."""
    from overread.learning.train import train

    study, cases, parts = desk.study, desk.usable(), Split.load(desk.folder / "split.csv")
    recipe = recipe_of(study)
    key = fingerprint([cases.digest, parts.table.to_csv(), recipe, study.weights, study.budget])
    if desk.done("model", key, "model/model.json"):
        desk.say("the model is there already")
        return
    began = desk.clock.elapsed
    prints = _prints(desk, cases)  # from the cache of the audit
    model = train(cases, parts, recipe, weights=study.weights or None, folder=desk.folder / "checkpoints", cache=desk.cache,
                  digests=dict(zip(paths(cases), prints["digest"], strict=True)), clock=desk.clock, reserve=_closing(desk, cases, parts), device=study.device, threads=study.threads,
                  network=desk.network, progress=desk.progress)  # fmt: skip
    model.save(desk.folder / "model")
    for decision in model.about.decisions:
        desk.say(f"  {decision.what}: {decision.choice} — {decision.why}")
    desk.note("model", key, desk.clock.elapsed - began)


def _closing(desk: Desk, cases: Cases, parts: Split) -> float:
    """Seconds for predicting, judging and reporting: a share of the budget that grows with the images to predict."""
    share = 1 - len(parts.rows(cases, "train")) / max(len(cases), 1)
    return CLOSING_SECONDS + 0.1 * share * (desk.clock.limit or 0.0)


@checked
def foresee(desk: Desk) -> None:
    """``predictions/tuning.csv`` and ``test.csv``."""
    from overread.learning.predict import load_model, predict

    cases, parts = desk.usable(), Split.load(desk.folder / "split.csv")
    model = load_model(desk.folder)
    key = fingerprint([model.digest, cases.digest])
    if desk.done("predictions", key, "predictions/tuning.csv", "predictions/test.csv"):
        return
    began = desk.clock.elapsed
    _refuse_seen(model, cases.only(parts, "test"))
    for part in ("tuning", "test"):
        predictions = predict(
            model,
            cases.only(parts, part),
            device=desk.study.device,
            threads=desk.study.threads,
            part=part,
            progress=desk.progress,
        )
        predictions.save(desk.folder / "predictions" / f"{part}.csv")
    desk.note("predictions", key, desk.clock.elapsed - began)


def _refuse_seen(model: Model, test: Cases) -> None:
    seen = model.has_seen(list(test.table["patient"].unique()))
    if seen:
        raise UnsoundError(f"the model has seen {seen} patients of the test part", todo="split again and train again")


@checked
def judge(desk: Desk) -> None:
    """``evaluation/``: operating points frozen on tuning data, then the test set through its one door."""
    study, tuning, test = desk.study, desk.predictions("tuning"), desk.predictions("test")
    declare_margin(study, desk.folder / "ledger.jsonl")  # before the test set is opened
    path = desk.folder / "agreement.json"
    agreed = {"agreement": read_json(path)} if study.graders and path.exists() else {}
    asked = [study.rule, study.sensitivity, study.specificity, study.cost, study.prevalence, study.subgroups]
    key = fingerprint([tuning.digest, test.digest, *asked, agreed])
    if desk.done("evaluation", key, "evaluation/metrics.json"):
        return
    began = desk.clock.elapsed
    points = operating_points(tuning, study)
    result = evaluate(test, at=points or None, by=[s for s in study.subgroups if s in test.table], seed=study.seed, ledger=desk.folder / "ledger.jsonl",
                      model=desk.record()["steps"]["model"]["key"] if "model" in desk.record().get("steps", {}) else "", prevalence=study.prevalence or None)  # fmt: skip
    doubt = uncertainty(tuning, test, seed=study.seed)
    result.extended(estimates=doubt.estimates, more={**doubt.more, **agreed}).save(desk.folder / "evaluation")
    desk.note("evaluation", key, desk.clock.elapsed - began)


@checked
def show_errors(desk: Desk) -> None:
    """``explanations/gallery.json``: the most confident errors with a small picture of each."""
    from overread.reporting.gallery import write_gallery

    points = list(Evaluation.load(desk.folder / "evaluation").operating)
    single = points[0] if len(points) == 1 else None
    cases = desk.usable()
    written = frozenset(cases.table["case"][(_prints(desk, cases)["text"] > 0).to_numpy()])
    write_gallery(desk.folder, cases, desk.predictions("test"), positive=single.positive if single else (),
                  threshold=single.threshold if single else None, unseen=written)  # fmt: skip


@checked
def tell(desk: Desk) -> None:
    """``report.html``, ``model_card.md``, the figures and the checklists."""
    from overread.reporting import card, draw_all, report, write_checklists

    _close_record(desk)
    draw_all(desk.folder, png=True)
    card(desk.folder)
    write_checklists(desk.folder)
    report(desk.folder, case_names=bool(desk.study.salt))  # codes name nobody, and `overread key` knows them


STEPS: tuple[Callable[[Desk], None], ...] = (inspect, divide, learn, foresee, judge, show_errors, tell)
