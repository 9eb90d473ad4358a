"""Search: fields of a recipe chosen by trying them, each judged on patients of the training part who did not teach it.

The tuning and the test part are never touched, so what was chosen here is judged on data that the search did not see.
Each trial is stopped early by successive halving (Jamieson & Talwalkar 2016; asynchronous, Li 2020): it is trained for
a ninth, a third and all of its epochs, each time with a whole schedule, and goes on only among the best third.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.cases.split import folds as folds_of
from overread.core import random
from overread.core.display import Overview, Panel, Shown, panel_of
from overread.core.errors import InputError, OverreadError, UnavailableError, UnsoundError, checked, nearest, require
from overread.core.files import cache_folder, cores, fingerprint, folder_lock, plain, read_fields, write_csv, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning import auto
from overread.learning.device import pick_device
from overread.learning.fit import fit
from overread.learning.loader import TrainingData, decode
from overread.learning.predict import judge_on
from overread.learning.recipe import AUTO, Recipe, override

#: Of three trials that reach a rung one goes on, to three times the epochs; without folds a quarter of the patients judges.
REDUCTION, RUNGS, QUARTERS = 3, 3, 4
#: Trials from which on it is told how much each field mattered.
FEWEST = 6
#: The states of a trial, in words.
STATES = {
    "COMPLETE": "finished",
    "PRUNED": "stopped early",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
#: Fields that are no choice: a seed is luck, and a name or a paper's result teaches nothing.
NO_CHOICE = ("seed", "name", "published")


@dataclass(frozen=True)
class Dimension:
    """One field that is searched: one of ``choices``, or from ``low`` to ``high``, by ``step`` or on a ``log`` scale."""

    field: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    whole: bool = False

    @property
    def edges(self) -> tuple[Any, ...]:
        """Values that a recipe must take: all choices, or the ends."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def suggest(self, trial: Any) -> Any:
        """The value that a trial of Optuna proposes."""
        if self.choices:  # Optuna keeps plain values only
            return json.loads(trial.suggest_categorical(self.field, [json.dumps(choice) for choice in self.choices]))
        if self.whole:
            return trial.suggest_int(self.field, int(self.low), int(self.high), log=self.log, step=int(self.step) or 1)
        return trial.suggest_float(self.field, self.low, self.high, log=self.log, step=self.step or None)


@dataclass(frozen=True, eq=False)
class Search(Shown):
    """What a search found. ``trials``: a row each, the best first; ``recipe``: that of the best finished one.

    Its ``score`` is the best of many on the same patients, so it is too good; ``importance``: of each field, if told.
    """

    trials: pd.DataFrame
    recipe: Recipe
    score: float
    importance: dict[str, float]
    folder: Path

    def to_frame(self) -> pd.DataFrame:
        """A row a trial, the best first: ``trial``, ``state``, ``score``, ``trained epochs``, ``seconds``, then the fields."""
        return self.trials.copy()

    def overview(self) -> Overview:
        """The best trials, and how much each field mattered."""
        mattered = tuple(sorted(self.importance.items(), key=lambda item: -item[1]))
        note = "the best of many on the same patients is too good: judge the trained model on the test part"
        panels = (
            panel_of(self.trials, "Trials, the best first"),
            Panel(("field", "importance"), mattered, "Which fields mattered"),
        )
        return Overview(str(self), panels, (note,))

    def __str__(self) -> str:
        states = ", ".join(f"{n} {state}" for state, n in self.trials["state"].value_counts().items())
        return f"{count(len(self.trials), 'trial')} ({states}); best {self.score:.3f} on held-out training patients"

    __repr__ = __str__


@checked
def read_space(space: str | Path | dict[str, Any], recipe: Recipe = AUTO) -> tuple[Dimension, ...]:
    """The declared space: a TOML file or a dict of ``field = [choices]`` or ``{low, high, log, step}``, groups nested.

    Raises :class:`InputError` for an unknown field, an empty or impossible range, or a value that no recipe takes.

    >>> read_space({"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "augmentation": {"rotate": [0, 15]}})[1].field
    'augmentation.rotate'
    """
    held = space if isinstance(space, dict) else read_fields(space)
    found = tuple(_dimensions(held, plain(Recipe())))
    require(bool(found), "the space names no field", todo="write learning_rate = {low = 1e-4, high = 1e-2, log = true}")
    for dimension in found:
        for value in dimension.edges:
            _with(recipe, {dimension.field: value})
    return found


@checked
def search(
    cases: Cases,
    split: Split,
    space: str | Path | dict[str, Any],
    *,
    folder: str | Path,
    recipe: Recipe = AUTO,
    trials: int = 30,
    folds: int = 1,
    seed: int = 0,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    digests: dict[str, str] | None = None,
    clock: Clock | None = None,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    progress: Progress = silent,
    say: Say = unheard,
) -> Search:
    """Choose fields of ``recipe`` from a declared ``space`` by ``trials``, each judged within the training part.

    ``folds``: 1 holds out a quarter of the training patients; more are grouped folds, whose scores are averaged.
    ``folder`` keeps ``search.db``, from which it goes on after a kill; several processes may work in it at once.
    ``clock``: no trial begins that would not end in its time. ``network``: whether weights may be fetched. Raises
    :class:`UnavailableError` without Optuna, :class:`InputError` for a wrong space or a folder of another search,
    :class:`UnsoundError` where no trial could be finished.
    """
    optuna, folder, clock = _optuna(), Path(folder), clock or Clock()
    require(trials >= 1 and folds >= 1, "trials and folds must be at least 1", given=f"{trials} and {folds}")
    dimensions = read_space(space, recipe)
    some = cases.take(np.sort(split.rows(cases, "train")))
    some = some.take(some.labelled)
    if threads:
        torch.set_num_threads(threads)
    study = _open(optuna, folder, fingerprint([recipe, dimensions, some.taught, folds, seed]), seed)
    fold = folds_of(some, k=folds if folds > 1 else QUARTERS, seed=seed)
    trainer = Trainer(some, auto.look(some, np.flatnonzero(fold != 0)), recipe, fold, folds, folder, weights,
                      Path(cache) if cache else cache_folder(), digests or {}, pick_device(device), threads or cores(), network, progress)  # fmt: skip
    longest = 0.0
    while True:
        if clock.left < longest:
            say(f"  search: the time ends; a trial takes up to {auto.duration(longest)}")
            break
        with ExitStack() as held:
            trial = _ask(optuna, study, dimensions, folder, trials, seed, held, say)
            if trial is None:
                break
            began = clock.elapsed
            _try(optuna, study, trial, trainer, dimensions, say)
            longest = max(longest, clock.elapsed - began)
        progress("searching", len(_counted(study)), trials)
    progress("searching", trials, trials)
    return _found(optuna, study, recipe, dimensions, folder, seed)


# -- the space --------------------------------------------------------------------------------------------------------


def _dimensions(held: dict[str, Any], usual: dict[str, Any], prefix: str = "") -> Iterator[Dimension]:
    for name, value in held.items():
        field = prefix + name
        inside, _, rest = name.partition(".")
        if rest:
            yield from _dimensions({inside: {rest: value}}, usual, prefix)
            continue
        if name not in usual or field in NO_CHOICE:
            what = "is no choice" if field in NO_CHOICE else "is no field of a recipe"
            raise InputError(
                f"{field} {what}", given="the space", todo=nearest(name, [n for n in usual if n not in NO_CHOICE])
            )
        if isinstance(value, dict) and isinstance(usual[name], dict):
            yield from _dimensions(value, usual[name], f"{field}.")
        else:
            yield _dimension(field, value, usual[name])


def _dimension(field: str, value: Any, usual: Any) -> Dimension:
    todo = f"write {field} = [a, b, c], or {field} = {{low = 1, high = 9}} with log = true or step = 2 if wanted"
    if isinstance(value, list):
        if not value or len({json.dumps(each) for each in value}) < len(value):
            raise InputError(f"{field} needs choices that differ", given=value, todo=todo)
        return Dimension(field, tuple(value))
    numbers = isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log", "step"}
    if not numbers or isinstance(usual, (bool, str, list)) or usual is None:
        raise InputError(f"{field} has neither choices nor a range", given=value, todo=todo)
    made = Dimension(
        field,
        low=value["low"],
        high=value["high"],
        log=value.get("log", False),
        step=value.get("step", 0),
        whole=isinstance(usual, int),
    )
    wrong = not made.low < made.high or (made.log and (made.low <= 0 or made.step)) or made.step < 0
    if wrong or (made.whole and any(float(part) % 1 for part in (made.low, made.high, made.step))):
        raise InputError(f"{field} has an impossible range", given=value,
                         todo="low below high, above 0 with log = true, no step with log, whole numbers where the field holds them")  # fmt: skip
    return made


def _with(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """The recipe with these fields; Optuna's numbers are JSON, which TOML reads."""
    return override(recipe, [f"{field}={json.dumps(value)}" for field, value in values.items()])


# -- the storage --------------------------------------------------------------------------------------------------------


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UnavailableError(
            "a search needs Optuna, which is not installed", todo="run: pip install 'overread[search]'"
        ) from error
    return optuna


def _open(optuna: Any, folder: Path, question: str, seed: int) -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    with folder_lock(folder, wait=60, name=".search.lock"):
        study = optuna.create_study(storage=f"sqlite:///{(folder / 'search.db').absolute()}", study_name="search", direction="maximize",
                                    load_if_exists=True, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=seed))  # fmt: skip
        if study.user_attrs.setdefault("question", question) != question:
            raise InputError("the folder holds another search", given=f"{folder}: another space, recipe, table, split, folds or seed",
                             todo="choose another folder with -o")  # fmt: skip
        study.set_user_attr("question", question)
    return study


def _counted(study: Any) -> list[Any]:
    """Trials that count towards those asked for: all but those of killed processes, which are tried again."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name != "FAIL" or "reason" in trial.user_attrs
    ]


def _ask(
    optuna: Any,
    study: Any,
    dimensions: Sequence[Dimension],
    folder: Path,
    trials: int,
    seed: int,
    held: ExitStack,
    say: Say,
) -> Any:
    """The next trial, under a lock that ends with this process; None where there are enough.

    What a killed process left is tried again first, with the same values, from its checkpoints. The sampler is made anew
    from the number of the trial, so a search that was interrupted goes on as if it had not been.
    """
    with folder_lock(folder, wait=60, name=".search.lock"):
        for left in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            _revive(optuna, study, left, dimensions, folder, say)
        waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
        number = len(_counted(study)) - len(waiting)
        if number >= trials:
            return None
        bits = int(random.bits(seed, 0, number, "search") >> np.uint64(33))
        study.sampler = optuna.samplers.TPESampler(seed=bits, n_startup_trials=max(5, min(10, trials // 3)))
        trial = study.ask()
        for dimension in dimensions:
            dimension.suggest(trial)
        held.enter_context(folder_lock(folder / "trials", name=f".{trial.number}.lock"))
    return trial


def _revive(optuna: Any, study: Any, left: Any, dimensions: Sequence[Dimension], folder: Path, say: Say) -> None:
    """Queue a trial again whose process is gone: its lock is free. It fails without a reason, and so does not count."""
    try:
        with folder_lock(folder / "trials", name=f".{left.number}.lock"):
            pass
    except UnavailableError:
        return  # another process works on it
    study.tell(left.number, state=optuna.trial.TrialState.FAIL)
    if len(left.params) == len(dimensions):
        study.enqueue_trial(left.params, user_attrs={"origin": left.user_attrs.get("origin", left.number)})
        say(f"  search: trial {left.number} was interrupted and is taken up again")


# -- one trial --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trainer:
    """What every trial works with; ``cases`` are the training part alone, ``fold`` (N,) of each of its images."""

    cases: Cases
    facts: auto.Facts
    recipe: Recipe
    fold: NDArray[np.int64]
    folds: int
    folder: Path
    weights: str | Path | None
    cache: Path
    digests: dict[str, str]
    device: str
    threads: int
    network: bool
    progress: Progress

    def settle(self, values: dict[str, Any]) -> tuple[Recipe, str, TrainingData]:
        """The recipe of a trial without open fields, the file of its initial weights, and the images for it."""
        teach, held = np.flatnonzero(self.fold != 0), np.flatnonzero(self.fold == 0)
        recipe, facts = _with(self.recipe, values), self.facts
        found = auto.weights_at_hand(recipe, facts, folder=self.weights, device=self.device, network=self.network)
        settled, _ = auto.plan(
            recipe, facts, pretrained=tuple(found), device=self.device, probe=auto.make_probe(facts, self.device)
        )
        file = found.get(settled.backbone, "") if settled.method in ("features", "finetune") else ""
        return settled, file, self._decoded(auto.preprocess_of(settled, facts), teach, held)

    def _decoded(self, preprocess: Preprocess, teach: NDArray[np.int64], held: NDArray[np.int64]) -> TrainingData:
        return decode(
            self.cases,
            teach,
            held,
            preprocess,
            self.cache,
            digests=self.digests,
            threads=self.threads,
            progress=self.progress,
        )

    def score(self, recipe: Recipe, file: str, data: TrainingData, place: Path) -> float:
        """The mean snapshot score over the folds, each on patients that did not teach it."""
        scores = []
        for fold in range(self.folds):
            part = data.on(np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold))
            model = fit(part, recipe, weights=file or None, folder=place / f"{recipe.epochs}-{fold}", cache=self.cache, device=self.device,
                        threads=self.threads, progress=self.progress)  # fmt: skip
            task = part.cases.target.task
            labels = torch.from_numpy(np.array(task.scaled(part.cases.labels, model.about.scale)))
            judge = judge_on(
                part.images, part.tuning, labels, task, model.about.preprocess, mean_image=model.mean_image
            )
            scores.append(judge(model.network)["score"])
        return float(np.mean(scores))


def rungs(epochs: int) -> list[int]:
    """Epochs of each rung: a ninth, a third, all.

    >>> rungs(30), rungs(2), rungs(0)
    ([3, 10, 30], [1, 2], [0])
    """
    return sorted({max(1, round(epochs / REDUCTION**step)) for step in range(RUNGS)}) if epochs else [0]


def _try(optuna: Any, study: Any, trial: Any, trainer: Trainer, dimensions: Sequence[Dimension], say: Say) -> None:
    """Train and judge one trial, rung by rung, and write down how it went."""
    states = optuna.trial.TrialState
    values = {dimension.field: dimension.suggest(trial) for dimension in dimensions}
    place = trainer.folder / "trials" / str(trial.user_attrs.get("origin", trial.number))
    state, score, epochs = states.COMPLETE, None, 0
    try:
        recipe, file, data = trainer.settle(values)
        steps = rungs(recipe.epochs)
        for step, epochs in enumerate(steps):
            score = trainer.score(recipe.changed(epochs=epochs), file, data, place)
            trial.report(score, REDUCTION**step)
            if step < len(steps) - 1 and trial.should_prune():
                state = states.PRUNED
                break
    except OverreadError as error:
        state, score = states.FAIL, None
        trial.set_user_attr("reason", str(error)[:300])
        say(f"  search: trial {trial.number} failed: {error.what}")
    trial.set_user_attr("epochs", epochs)
    study.tell(trial, score if state == states.COMPLETE else None, state=state)
    shutil.rmtree(place, ignore_errors=True)
    if score is not None:
        shown = ", ".join(
            f"{field} {value:g}" if isinstance(value, float) else f"{field} {value}" for field, value in values.items()
        )
        say(
            f"  trial {trial.number}: {score:.3f} after {count(epochs, 'epoch')}{', stopped early' if state == states.PRUNED else ''} — {shown}"
        )


# -- what was found -----------------------------------------------------------------------------------------------------


def _found(optuna: Any, study: Any, recipe: Recipe, dimensions: Sequence[Dimension], folder: Path, seed: int) -> Search:
    held = [trial for trial in _counted(study) if trial.state.is_finished()]
    read: dict[str, Callable[[Any], Any]] = {
        d.field: json.loads if d.choices else lambda value: value for d in dimensions
    }
    rows = [{"trial": trial.number, "state": STATES[trial.state.name], "score": trial.value if trial.value is not None else np.nan,
             "trained epochs": trial.user_attrs.get("epochs", 0), "seconds": round(trial.duration.total_seconds(), 1),
             **{field: read[field](trial.params[field]) for field in read}} for trial in held]  # fmt: skip
    table = pd.DataFrame(rows)
    finished = [trial for trial in held if trial.state.name == "COMPLETE"]
    if not finished:
        reasons = "; ".join(
            dict.fromkeys(trial.user_attrs.get("reason", "") for trial in held if "reason" in trial.user_attrs)
        )
        raise UnsoundError(
            "no trial of the search could be finished",
            given=reasons[:500] or None,
            todo="narrow the space, or give it more time",
        )
    table = table.sort_values(
        ["state", "score", "trial"],
        ascending=[True, False, True],
        key=lambda c: c != "finished" if c.name == "state" else c,
        ignore_index=True,
    )
    best = max(finished, key=lambda trial: (trial.value, -trial.number))
    chosen = _with(recipe, {field: read[field](best.params[field]) for field in read})
    importance = _importance(optuna, held, seed)
    write_csv(folder / "trials.csv", table)
    write_json(folder / "importance.json", importance)
    chosen.save(folder / "recipe.toml")
    return Search(table, chosen, float(best.value), importance, folder)


def _importance(optuna: Any, held: Sequence[Any], seed: int) -> dict[str, float]:
    """The share of the variance that each field explains (fANOVA, Hutter 2014) of the scores after the first rung.

    All trials were trained alike up to there, also those that were stopped. Empty where it cannot be told.
    """
    first = [trial for trial in held if 1 in trial.intermediate_values]
    if len(first) < FEWEST or len({trial.intermediate_values[1] for trial in first}) < 2:
        return {}
    alike = optuna.create_study(direction="maximize")
    for trial in first:
        alike.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=trial.intermediate_values[1]))  # fmt: skip
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return {field: float(share) for field, share in optuna.importance.get_param_importances(alike, evaluator=evaluator).items()}  # fmt: skip
