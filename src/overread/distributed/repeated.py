"""Many small trainings on one split: with fewer patients, fewer grades, one site; judged on patients none was trained on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.annotators import Grades
from overread.cases.cases import Cases
from overread.cases.derived import Rule
from overread.cases.graded_cases import fewer_grades, graded, regraded
from overread.cases.split import Split
from overread.cases.stratify import beginning, nested_order
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import fingerprint, read_json, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, silent
from overread.evaluation.generalisation.learning_curve import Size
from overread.evaluation.generalisation.site_transfer import ALL_BUT
from overread.evaluation.subgroups import FEWEST
from overread.learning.predict import predict
from overread.learning.recipe import LEARNED_FUSIONS, Recipe
from overread.learning.train import train
from overread.predictions import Predictions

#: From fewer training patients than this nothing is learned that is worth a point on a curve.
FEWEST_TRAINING_PATIENTS = 10
#: Share of a site's training patients who choose the snapshot of its model: tuning patients stay unseen.
STOPPING = 0.1


@dataclass(frozen=True, eq=False)
class Training:
    """One model to train: on the cases ``train``, its snapshot chosen on ``tuning``, for the cases ``judged``.

    ``name`` says what it is; ``size`` its place on a curve; ``sources`` it is trained on, for shifts. ``tuned``: among
    the judged cases are those of ``tuning``, on which a threshold will be chosen for the others.
    """

    name: str
    train: Cases
    tuning: Cases
    judged: Cases
    part: str = "tuning"
    repeat: int = 0
    size: Size = field(default_factory=lambda: Size(1.0))
    sources: tuple[str, ...] = ()
    tuned: bool = False

    @property
    def digest(self) -> str:
        """Hash of everything the model can learn from, and of whom it is asked about."""
        return fingerprint([self.train.digest, self.tuning.digest, self.judged.digest, self.repeat])


@dataclass(frozen=True, eq=False)
class Trainings:
    """What is to be trained, and what was left out with its reason."""

    all: tuple[Training, ...]
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Training images of all models together: what the cost is in proportion to."""
        return sum(len(training.train) for training in self.all)


@checked
def trainings_by_size(
    cases: Cases, split: Split, sizes: Sequence[str], *, repeats: int = 3, part: str = "tuning", seed: int = 0
) -> Trainings:
    """A training for each size and repeat, on nested beginnings of the training patients.

    ``sizes``: shares of the training patients (``20%``) or numbers of images (``200``). The tuning patients stay as
    they are. Sizes of fewer than ten patients are left out, with a note. Raises :class:`InputError` for a size that is
    neither, or fewer than two that are left.
    """
    pool, tuning, judged = (_part(cases, split, p) for p in ("train", "tuning", part))
    found: list[Training] = []
    notes: list[str] = []
    for text in sizes:
        share, images = _size(text)
        orders = [nested_order(pool, seed=seed, repeat=r) for r in range(repeats)]
        drawn = [beginning(pool, order, share=share, images=images) for order in orders]
        fewest = min(cases.patients for cases in drawn)
        if fewest < FEWEST_TRAINING_PATIENTS:
            few = f"{fewest} patients are fewer than {FEWEST_TRAINING_PATIENTS}"
            notes.append(f"{text} of the training set is left out: {few}")
            continue
        images = round(np.mean([len(cases) for cases in drawn]))
        size = Size(float(images), images, drawn[0].patients)
        found += [Training(f"{text}, repeat {r + 1}", c, tuning, judged, part, r, size) for r, c in enumerate(drawn)]
    if len({training.size.value for training in found}) < 2:
        raise InputError("a learning curve needs two sizes at least", given="; ".join(notes) or ", ".join(sizes),
                         todo=f"the training part has {count(pool.patients, 'patient')}: give larger --sizes")  # fmt: skip
    return Trainings(tuple(found), tuple(notes))


def _part(cases: Cases, split: Split, part: str) -> Cases:
    found = cases.only(split, part)
    return found.take(found.labelled)


def _size(text: str) -> tuple[float, int]:
    """A share, or a number of images."""
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError as error:
        given = repr(text)
        raise InputError("a size is a share or a number of images", given=given, todo="write 20% or 200") from error
    percent = text.strip().endswith("%")
    if not (0 < number <= 100 if percent else number >= 1 and number == int(number)):
        raise InputError("a size lies above 0 % and up to 100 %, or is a whole number of images", given=repr(text))
    return (number / 100, 0) if percent else (0.0, int(number))


@checked
def trainings_by_grades(
    cases: Cases, split: Split, grades: Grades | Mapping[str, Grades], per_image: Sequence[int], *, repeats: int = 3,
    part: str = "tuning", seed: int = 0, rules: Sequence[Rule] = (), rule: str = "majority",
) -> Trainings:  # fmt: skip
    """A training for each number of grades per image, whose majority labels the training images.

    ``grades``: of one label, or of each of several questions, from which ``rules`` derive findings. The labels of tuning and test stay as they are. Raises :class:`InputError` where cases have no grade, or fewer
    than two different numbers are asked for.
    """
    pool, tuning, judged = (_part(cases, split, p) for p in ("train", "tuning", part))
    if len(set(per_image)) < 2:
        raise InputError("a curve over grades needs two numbers of grades", given=list(per_image), todo="--per-image 1,3")  # fmt: skip
    own = {name: _of(held, pool) for name, held in (grades.items() if isinstance(grades, Mapping) else [("", grades)])}
    first = next(iter(own.values())).table
    answered = first[first["label"] != ""].groupby("case").size()
    found, notes = [], []
    for k in sorted(set(per_image)):
        short = int((answered < k).sum())
        if short:
            few = f"{short:,} of {len(answered):,} training cases have fewer than {k} grades"
            notes.append(f"{few}: they keep all they have")
        for r in range(repeats):
            labelled, ties = with_fewer_grades(pool, own, k, rules, seed=seed, repeat=r, rule=rule)
            size = Size(float(k), len(labelled), labelled.patients)
            found.append(Training(f"{k} grades, repeat {r + 1}", labelled, tuning, judged, part, r, size))
            if ties and not r:
                notes.append(f"{k} grades per image: {ties:,} ties, which go to the grader who was drawn first")
    return Trainings(tuple(found), tuple(notes))


def _of(grades: Grades, cases: Cases) -> Grades:
    mine = grades.table["case"].isin(set(cases.table["case"]))
    return replace(grades, table=grades.table[mine].reset_index(drop=True))


@checked
def with_fewer_grades(
    cases: Cases,
    grades: Mapping[str, Grades],
    many: int,
    rules: Sequence[Rule] = (),
    *,
    seed: int = 0,
    repeat: int = 0,
    rule: str = "majority",
) -> tuple[Cases, int]:
    """Cases with the labels that ``many`` of their graders would have given, the same for every question; and the ties.

    ``grades`` by question, of which the consensus is by ``rule``, or one under a blank name for a label with classes, by majority."""
    fewer = {name: fewer_grades(held, many, seed=seed, repeat=repeat) for name, held in grades.items()}
    return graded(cases, fewer[""]) if set(fewer) == {""} else regraded(cases, fewer, rules, rule)


@checked
def judged_by_grades(
    predictions: Predictions, cases: Cases, grades: Mapping[str, Grades], per_image: Sequence[int], *, repeats: int = 3,
    seed: int = 0, rules: Sequence[Rule] = (), rule: str = "majority",
) -> tuple[list[tuple[Size, Predictions]], list[str]]:  # fmt: skip
    """The same predictions under the labels of so many grades per judged image, for :func:`.learning_curve`; and notes.

    ``cases``: the study's, of which those that were predicted count: where networks were trained without a fold each, the tuning
    predictions are of all patients that some network has not seen. Raises :class:`InputError` where fewer than two different numbers are asked for.
    """
    if len(set(per_image)) < 2:
        raise InputError(
            "a curve over grades needs two numbers of grades", given=list(per_image), todo="--per-image 1,3"
        )
    told = cases.table["case"].isin(set(predictions.table["case"])) & ~cases.table["case"].duplicated()
    alone = cases.take(told.to_numpy())
    own = {name: _of(held, alone) for name, held in grades.items()}
    found, notes = [], []
    for k in sorted(set(per_image)):
        for r in range(repeats):
            labelled, ties = with_fewer_grades(alone, own, k, rules, seed=seed, repeat=r, rule=rule)
            columns = list(cases.target.columns)
            new = labelled.table.set_index("case").loc[predictions.table["case"], columns].reset_index(drop=True)
            table = predictions.table.assign(**{name: new[name].to_numpy() for name in columns})
            found.append(
                (Size(float(k), len(table), predictions.table["patient"].nunique()), replace(predictions, table=table))
            )
            if ties and not r:
                notes.append(f"{k} grades per judged image: {ties:,} ties, which go to the grader who was drawn first")
    return found, notes


@checked
def trainings_by_source(cases: Cases, split: Split, *, part: str = "tuning", seed: int = 0) -> Trainings:
    """A training for each source, and one for all sources but it.

    A tenth of the training patients choose the snapshot instead of tuning patients, who stay unseen. Sources with fewer
    than ten training patients, or one class, are left out, with a note. Raises :class:`InputError` for fewer than two
    sources, or where none of them has ten patients to be judged on: before anything is trained.
    """
    pool, judged = _part(cases, split, "train"), _part(cases, split, part)
    sources = sorted(set(cases.table["source"]) - {""})
    if len(sources) < 2:
        raise InputError("a shift between sites needs two sources or more", given=f"{len(sources)}",
                         todo="say which column names the site when the study is made: --source")  # fmt: skip
    notes = _few_judged(judged, sources, part)
    sets = {s: (s,) for s in sources}
    if len(sources) > 2:
        sets |= {ALL_BUT + s: tuple(o for o in sources if o != s) for s in sources}
    found = []
    for name, homes in sets.items():
        own, stopping = _hold_out(pool.take(pool.table["source"].isin(homes).to_numpy()), seed)
        if reason := _too_few(own, stopping):
            notes.append(f"no model is trained on {name}: {reason}")
            continue
        found.append(Training(name, own, stopping, judged, part, sources=homes))
    if not found:
        raise InputError("no source has enough training patients", given="; ".join(notes)[:300])
    return Trainings(tuple(found), tuple(notes))


def _few_judged(judged: Cases, sources: Sequence[str], part: str) -> list[str]:
    """What is said of sources with few patients to be judged on; refuses where all are such."""
    many = judged.table.groupby("source")["patient"].nunique()
    few = [s for s in sources if many.get(s, 0) < FEWEST]
    other = "open the test set with --part test if it has more, or " if part == "tuning" else ""
    if len(few) == len(sources):
        raise InputError(f"no source has {count(FEWEST, 'patient')} in the {part} part, so no site could be judged",
                         given=", ".join(f"{s} {many.get(s, 0):,}" for s in sources)[:200],
                         todo=other + "make a study with larger --tuning or --test shares, or more patients")  # fmt: skip
    return [f"{s} has {count(many.get(s, 0), 'patient')} in the {part} part: counted, not judged" for s in few]


def _hold_out(cases: Cases, seed: int) -> tuple[Cases, Cases]:
    """Those to train on, and the last patients of a nested order, to choose the snapshot on."""
    order = nested_order(cases, seed=seed) if cases.labelled.any() else ()
    many = max(1, round(STOPPING * len(order)))
    held_out = cases.table["patient"].isin(order[-many:]).to_numpy()
    return cases.take(~held_out), cases.take(held_out)


def _too_few(train: Cases, tuning: Cases) -> str:
    """The reason against a training; empty where there is none."""
    if train.patients < FEWEST_TRAINING_PATIENTS:
        return f"{train.patients + tuning.patients} training patients are too few"
    if train.target.task.distinct(train.labels) < 2:
        return "its training patients are of one class"
    return ""


@checked
def recipe_again(asked: Recipe, settled: Recipe, pretrained: bool) -> Recipe:
    """The recipe for many trainings: what the run settled on; of an open recipe on pretrained weights, the quick way.

    A run whose recipe was left open (``auto``) and which fine-tuned is followed with frozen features and a linear
    head: minutes in the place of hours.
    """
    quick = pretrained and asked.method in ("auto", "features") and settled.fusion not in LEARNED_FUSIONS
    settled = settled.changed(precision=asked.precision)  # this machine may be another
    return settled.changed(method="features") if quick else settled


@checked
def train_each(
    trainings: Trainings,
    recipe: Recipe,
    folder: Path,
    *,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    seconds: float | None = None,
    progress: Progress = silent,
    done: Callable[[Training, bool], Any] = lambda training, new: None,
) -> list[tuple[Training, Predictions, str]]:
    """Train each model and predict its judged cases: the training, its predictions, and the hash of its model.

    Each is kept in ``folder`` under a key of its images, labels and recipe; called again, only what is missing is
    trained, a stopped training goes on. ``seconds``: what all of them together may take, each an equal part of what is
    left. ``done`` hears of each training, and whether it was new. Raises
    :class:`UnsoundError` should a judged patient be among those trained on.
    """
    found, whole = [], Clock(seconds)
    for i, training in enumerate(trainings.all):
        progress("training models", i, len(trainings.all))
        key = fingerprint([training.digest, recipe, str(weights or "")])
        table, about = folder / f"{key}.csv", folder / f"{key}.json"
        new = not (table.exists() and about.exists())
        if new:
            refuse_overlap(training)

            def heard(what: str, done: int, total: int, name: str = training.name) -> None:
                progress(f"{name}: {what}", done, total)

            model = train(*with_split(training), recipe.changed(seed=recipe.seed + training.repeat), weights=weights,
                          folder=folder / key / "checkpoints", cache=cache, device=device, threads=threads,
                          network=network, progress=heard, predicted=len(training.judged),
                          clock=None if seconds is None else Clock(whole.left / (len(trainings.all) - i)))  # fmt: skip
            predict(model, training.judged, device=device, threads=threads, part=training.part, progress=heard).save(
                table
            )
            write_json(about, {"name": training.name, "model": model.digest})
            shutil.rmtree(folder / key, ignore_errors=True)  # checkpoints: of no use once the predictions are there
        predictions = replace(Predictions.read(table), target=training.judged.target)
        found.append((training, predictions, read_json(about)["model"]))
        done(training, new)
    progress("training models", len(trainings.all), len(trainings.all))
    return found


@checked
def refuse_overlap(training: Training) -> None:
    """Raise :class:`UnsoundError` where patients who are judged are among those trained on."""
    tuned = training.tuned or training.tuning.digest == training.judged.digest  # they choose only, and may be judged
    known = [training.train.table["patient"], *([] if tuned else [training.tuning.table["patient"]])]
    seen = len(set().union(*known) & set(training.judged.table["patient"]))
    if seen:
        raise UnsoundError(f"{count(seen, 'patient')} would be trained on by a model that is judged on them", given=training.name,
                           todo="split again: overread split")  # fmt: skip


@checked
def with_split(training: Training) -> tuple[Cases, Split]:
    """The cases to train and to tune on as one table, with its split."""
    table = pd.concat([training.train.table, training.tuning.table], ignore_index=True)
    parts = {"train": training.train, "tuning": training.tuning}
    assigned = [cases.table[["case", "patient"]].assign(part=part) for part, cases in parts.items()]
    split = pd.concat(assigned).drop_duplicates("case").sort_values("case", ignore_index=True)
    return replace(training.train, table=table), Split(split, training.name, 0)
