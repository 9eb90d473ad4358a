"""Many small trainings on one split: with less, with fewer grades, with one site; judged on patients nobody taught."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.cases import Cases
from overread.cases.grades import Grades
from overread.cases.split import Split
from overread.cases.strategies import beginning, fewer_grades, graded, nested_order
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import fingerprint, read_json, write_json
from overread.core.progress import Progress, silent
from overread.evaluation.generalisation.learning_curve import Size
from overread.evaluation.generalisation.site_transfer import ALL_BUT
from overread.evaluation.subgroups import FEWEST
from overread.learning.predict import predict
from overread.learning.recipe import Recipe
from overread.learning.train import train
from overread.predictions import Predictions

#: Fewer training patients than this teach nothing worth a point on a curve.
FEWEST_TEACHERS = 10
#: Share of a site's training patients who choose the snapshot of its model: tuning patients stay unseen.
STOPPING = 0.1


@dataclass(frozen=True, eq=False)
class Lesson:
    """One model to train: who ``teach``, whose images choose the snapshot (``stop``), who are ``judged``.

    ``name`` says what it is; ``size`` its place on a curve; ``sources`` of the teachers, for shifts.
    """

    name: str
    teach: Cases
    stop: Cases
    judged: Cases
    part: str = "tuning"
    repeat: int = 0
    size: Size = field(default_factory=lambda: Size(1.0))
    sources: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of everything the model can learn from, and of whom it is asked about."""
        return fingerprint([self.teach.digest, self.stop.digest, self.judged.digest, self.repeat])


@dataclass(frozen=True, eq=False)
class Lessons:
    """What is to be trained, and what was left out with its reason."""

    lessons: tuple[Lesson, ...]
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Training images of all models together: what the cost is in proportion to."""
        return sum(len(lesson.teach) for lesson in self.lessons)


@checked
def lessons_by_size(
    cases: Cases, split: Split, sizes: Sequence[str], *, repeats: int = 3, part: str = "tuning", seed: int = 0
) -> Lessons:
    """A lesson for each size and repeat, on nested beginnings of the training patients.

    ``sizes``: shares of the training patients (``20%``) or numbers of images (``200``). The tuning patients stay as
    they are. Sizes of fewer than ten patients are left out and told. Raises :class:`InputError` for a size that is
    neither, or fewer than two that are left.
    """
    training, stop, judged = (_part(cases, split, p) for p in ("train", "tuning", part))
    found: list[Lesson] = []
    notes: list[str] = []
    for text in sizes:
        share, images = _size(text)
        taught = [
            beginning(training, nested_order(training, seed=seed, repeat=r), share=share, images=images)
            for r in range(repeats)
        ]
        fewest = min(t.patients for t in taught)
        if fewest < FEWEST_TEACHERS:
            notes.append(f"{text} of the training set is left out: {fewest} patients are fewer than {FEWEST_TEACHERS}")
            continue
        value = Size(float(round(np.mean([len(t) for t in taught]))), round(np.mean([len(t) for t in taught])),
                     taught[0].patients)  # fmt: skip
        found += [Lesson(f"{text}, repeat {r + 1}", t, stop, judged, part, r, value) for r, t in enumerate(taught)]
    if len({lesson.size.value for lesson in found}) < 2:
        raise InputError("a learning curve needs two sizes at least", given="; ".join(notes) or ", ".join(sizes),
                         todo=f"the training part has {training.patients} patients: give larger --sizes")  # fmt: skip
    return Lessons(tuple(found), tuple(notes))


def _part(cases: Cases, split: Split, part: str) -> Cases:
    found = cases.only(split, part)
    return found.take(found.labelled)


def _size(text: str) -> tuple[float, int]:
    """A share, or a number of images."""
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise InputError(
            "a size is a share or a number of images", given=repr(text), todo="write 20% or 200"
        ) from error
    percent = text.strip().endswith("%")
    if not (0 < number <= 100 if percent else number >= 1 and number == int(number)):
        raise InputError("a size lies above 0 % and up to 100 %, or is a whole number of images", given=repr(text))
    return (number / 100, 0) if percent else (0.0, int(number))


@checked
def lessons_by_grades(
    cases: Cases, split: Split, grades: Grades, per_image: Sequence[int], *, repeats: int = 3, part: str = "tuning",
    seed: int = 0,
) -> Lessons:  # fmt: skip
    """A lesson for each number of grades per image, whose majority labels the training images.

    The labels of tuning and test stay as they are. Raises :class:`InputError` where cases have no grade, or fewer
    than two different numbers are asked for.
    """
    training, stop, judged = (_part(cases, split, p) for p in ("train", "tuning", part))
    if len(set(per_image)) < 2:
        raise InputError("a curve over grades needs two numbers of grades", given=list(per_image), todo="--per-image 1,3")  # fmt: skip
    mine = grades.table["case"].isin(set(training.table["case"]))
    own = replace(grades, table=grades.table[mine].reset_index(drop=True))
    answered = own.table[own.table["label"] != ""].groupby("case").size()
    found, notes = [], []
    for k in sorted(set(per_image)):
        short = int((answered < k).sum())
        if short:
            notes.append(
                f"{short:,} of {len(answered):,} training cases have fewer than {k} grades: they keep all they have"
            )
        for r in range(repeats):
            taught, ties = graded(training, fewer_grades(own, k, seed=seed, repeat=r))
            size = Size(float(k), len(taught), taught.patients)
            found.append(Lesson(f"{k} grades, repeat {r + 1}", taught, stop, judged, part, r, size))
            if ties and not r:
                notes.append(f"{k} grades per image: {ties:,} ties, which go to the grader who was drawn first")
    return Lessons(tuple(found), tuple(notes))


@checked
def lessons_by_source(cases: Cases, split: Split, *, part: str = "tuning", seed: int = 0) -> Lessons:
    """A lesson for each source, and one for all sources but it.

    A tenth of the teachers choose the snapshot instead of tuning patients, who stay unseen. Sources with fewer than
    ten training patients, or one class, are left out and told. Raises :class:`InputError` for fewer than two sources, or
    where none of them has ten patients to be judged on: before anything is trained.
    """
    training, judged = _part(cases, split, "train"), _part(cases, split, part)
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
        teach, stop = _halves(training.take(training.table["source"].isin(homes).to_numpy()), seed)
        if why := _why_not(teach, stop):
            notes.append(f"no model is trained on {name}: {why}")
            continue
        found.append(Lesson(name, teach, stop, judged, part, sources=homes))
    if not found:
        raise InputError("no source has enough training patients", given="; ".join(notes)[:300])
    return Lessons(tuple(found), tuple(notes))


def _few_judged(judged: Cases, sources: Sequence[str], part: str) -> list[str]:
    """What is said of sources with few patients to be judged on; refuses where all are such."""
    many = judged.table.groupby("source")["patient"].nunique()
    few = [s for s in sources if many.get(s, 0) < FEWEST]
    other = "open the test set with --part test if it has more, or " if part == "tuning" else ""
    if len(few) == len(sources):
        raise InputError(f"no source has {FEWEST} patients in the {part} part, so no site could be judged",
                         given=", ".join(f"{s} {many.get(s, 0):,}" for s in sources)[:200],
                         todo=other + "make a study with larger --tuning or --test shares, or more patients")  # fmt: skip
    return [f"{s} has {many.get(s, 0):,} patients in the {part} part: counted, not judged" for s in few]


def _halves(cases: Cases, seed: int) -> tuple[Cases, Cases]:
    """Those who teach, and the last of a nested order, who choose the snapshot."""
    order = nested_order(cases, seed=seed) if cases.labelled.any() else ()
    many = max(1, round(STOPPING * len(order))) if order else 0
    stop = cases.table["patient"].isin(order[len(order) - many :]).to_numpy()
    return cases.take(~stop), cases.take(stop)


def _why_not(teach: Cases, stop: Cases) -> str:
    if teach.patients < FEWEST_TEACHERS:
        return f"{teach.patients + stop.patients} training patients are too few"
    if len(np.unique(teach.strata)) < 2:
        return "its training patients are of one class"
    return ""


# -- the trainings --------------------------------------------------------------------------------------------------


@checked
def recipe_again(asked: Recipe, settled: Recipe, pretrained: bool) -> Recipe:
    """The recipe for many trainings: what the run settled on; of an open recipe on pretrained weights, the quick way.

    A run whose recipe was left open (``auto``) and which fine-tuned is followed with frozen features and a linear
    head: minutes in the place of hours.
    """
    quick = pretrained and asked.method in ("auto", "features")
    settled = settled.changed(precision=asked.precision)  # this machine may be another
    return settled.changed(method="features") if quick else settled


@checked
def taught(
    lessons: Lessons,
    recipe: Recipe,
    folder: Path,
    *,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    progress: Progress = silent,
    done: Callable[[Lesson, bool], Any] = lambda lesson, new: None,
) -> list[tuple[Lesson, Predictions, str]]:
    """Train every lesson and predict its judged cases: the lesson, its predictions, and the hash of its model.

    Each is kept in ``folder`` under a key of its images, labels and recipe; called again, only what is missing is
    trained, a stopped training goes on. ``done`` hears of each lesson, and whether it was new. Raises
    :class:`UnsoundError` should a judged patient have taught.
    """
    found = []
    for i, lesson in enumerate(lessons.lessons):
        progress("training models", i, len(lessons.lessons))
        key = fingerprint([lesson.digest, recipe, str(weights or "")])
        kept = _kept(folder, key, lesson)
        if kept is None:
            _learn(lesson, recipe.changed(seed=recipe.seed + lesson.repeat), folder, key, weights=weights,
                   cache=cache, device=device, threads=threads, network=network, progress=progress)  # fmt: skip
            again = _kept(folder, key, lesson)
            assert again is not None
            found.append((lesson, *again))
        else:
            found.append((lesson, *kept))
        done(lesson, kept is None)
    progress("training models", len(lessons.lessons), len(lessons.lessons))
    return found


def _kept(folder: Path, key: str, lesson: Lesson) -> tuple[Predictions, str] | None:
    path = folder / f"{key}.csv"
    if not path.exists() or not path.with_suffix(".json").exists():
        return None
    predictions = replace(Predictions.read(path), target=lesson.judged.target)
    return predictions, read_json(path.with_suffix(".json"))["model"]


def _learn(
    lesson: Lesson, recipe: Recipe, folder: Path, key: str, *, weights: Any, cache: Any, device: str, threads: int,
    network: bool, progress: Progress,
) -> None:  # fmt: skip
    _refuse_teachers(lesson)
    cases, split = _together(lesson)

    def heard(what: str, done: int, total: int) -> None:
        progress(f"{lesson.name}: {what}", done, total)

    model = train(cases, split, recipe, weights=weights, folder=folder / key / "checkpoints", cache=cache, device=device,
                  threads=threads, network=network, progress=heard)  # fmt: skip
    predictions = predict(model, lesson.judged, device=device, threads=threads, part=lesson.part, progress=heard)
    predictions.save(folder / f"{key}.csv")
    write_json(folder / f"{key}.json", {"name": lesson.name, "model": model.digest})
    shutil.rmtree(folder / key, ignore_errors=True)  # checkpoints: of no use once the predictions are there


def _refuse_teachers(lesson: Lesson) -> None:
    tuned = lesson.stop.digest == lesson.judged.digest  # tuning patients may be judged: they choose, and do not teach
    known = [lesson.teach.table["patient"], *([] if tuned else [lesson.stop.table["patient"]])]
    seen = len(set().union(*known) & set(lesson.judged.table["patient"]))
    if seen:
        raise UnsoundError(f"{seen:,} patients would teach a model that is judged on them", given=lesson.name,
                           todo="split again: overread split")  # fmt: skip


def _together(lesson: Lesson) -> tuple[Cases, Split]:
    """Teachers and those who choose the snapshot as one table with its split."""
    table = pd.concat([lesson.teach.table, lesson.stop.table], ignore_index=True)
    parts = [
        c.table[["case", "patient"]].assign(part=part) for part, c in (("train", lesson.teach), ("tuning", lesson.stop))
    ]
    split = pd.concat(parts).drop_duplicates("case").sort_values("case", ignore_index=True)
    return replace(lesson.teach, table=table), Split(split, lesson.name, 0)
