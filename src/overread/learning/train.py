"""Training: from cases, a split and a recipe to a model.

It looks at the data once, plans, and climbs the ladder of :mod:`overread.learning.ladder` on images that are decoded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.arrange import MOST_VIEWS
from overread.cases.cases import Cases
from overread.cases.extra_inputs import taught_with
from overread.cases.split import Split
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import build, cache_folder, cores, fingerprint, plain, read_fields, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.descriptors import DESCRIPTORS, describe
from overread.images.preprocess import Preprocess
from overread.learning import auto
from overread.learning.checkpoint import digest_of, forget
from overread.learning.device import choose_threads, pick_device
from overread.learning.ladder import Candidate, Climb, Means, climb
from overread.learning.linear_probe import search_features
from overread.learning.loader import TrainingData, arranged, decode
from overread.learning.model import Decision, Model
from overread.learning.predict import tabulate
from overread.learning.preflight.faults import Preflight
from overread.learning.preflight.range_test import RangeTest, range_test
from overread.learning.preflight.rehearsal import rehearse
from overread.learning.recipe import AUTO, Recipe, refuse_unfit
from overread.networks.backbones import HEADS
from overread.networks.own import own_name
from overread.predictions import Predictions

#: The share of the time for training in which frozen features are searched, and how many of them climb on.
SEARCHED, MOST_HEADS = 0.12, 3
#: With a budget so many networks are looked at, and from so many seconds of search on all kinds of heads.
MOST_NETWORKS, UNHURRIED = 3, 600.0


@checked
def train(
    cases: Cases,
    split: Split,
    recipe: Recipe = AUTO,
    *,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    digests: dict[str, str] | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    device: str = "",
    threads: int = 0,
    network: nn.Module | bool = True,
    predicted: int = 0,
    pairs: Sequence[tuple[str, str, str]] = (),
    progress: Progress = silent,
    say: Say = unheard,
) -> Model:
    """Train a model on the training and the tuning part; the test part is not touched.

    By an open recipe (``auto``) the ladder of :mod:`overread.learning.ladder` is climbed; by a recipe that names its
    method, one network is fitted, or as many as it has ``members``. ``weights``: folder of pretrained weights.
    ``folder``: for checkpoints; training resumes from what it finds there. ``digests``: SHA-256 of the image files by
    address, where an audit has read them already; a file that has changed since is refused. ``clock``: bounds the
    seconds, of which ``reserve`` are left for what follows. ``network``: one's own, any module that maps images
    (B, C, H, W) to (B, outputs), of which a copy is trained from the weights that it brings; or whether weights may be
    fetched. ``predicted``: images that the model will be asked about within the same ``clock``. ``pairs``: cases that an
    audit found alike (:attr:`Audit.pairs`), which stay in one fold. ``say`` hears what is decided, before anything is
    trained. Raises :class:`UnsoundError` if a class has no training case, :class:`UnavailableError` without weights.
    """
    cases, training, tuning, shown = _shown(*_rows(cases, split), recipe)
    refuse_unfit(cases, recipe)
    checkpoints, cache = Path(folder) if folder else None, Path(cache) if cache else cache_folder()
    clock, device = clock or Clock(), pick_device(device)
    if threads:
        torch.set_num_threads(threads)
    workers, own = threads or cores(), None if isinstance(network, bool) else network

    @lru_cache
    def decoded(preprocess: Preprocess) -> TrainingData:
        return decode(
            cases, training, tuning, preprocess, cache, digests=digests, threads=workers, progress=progress, say=say
        )

    key = _plan_key(cases, training, recipe, clock, weights, pairs, own)
    kept = _resumed_plan(checkpoints, key, clock)
    facts = kept.facts if kept else auto.look(cases, training)
    pace = _Pace(facts, device, workers, clock.limit is not None and own is None, not threads, say)

    def seen_by(recipe: Recipe) -> TrainingData:
        return decoded(auto.preprocess_of(recipe, facts))

    if kept:
        settled = kept
    elif own is not None:
        made, decisions = auto.plan_own(recipe, facts, own)
        settled = SettledPlan(facts, (Candidate("network", made),), 1, (*shown, *decisions))
    else:
        small = auto.usual_small(facts.volume, facts.side)
        pace.prepare(AUTO.changed(method="scratch", backbone=small, image_size=32))
        seconds = None if clock.limit is None else clock.left - reserve
        settled = _settle(recipe, facts, decoded, weights, device, seconds, bool(network), shown, cache, progress, say)
    if checkpoints and not kept:
        _keep_plan(checkpoints, key, settled, clock.elapsed)
    for decision in settled.decisions:
        say(decision.line)
    means = Means(folder=checkpoints, cache=cache, clock=clock, reserve=reserve, most_epochs=recipe.epochs, device=device, threads=workers, network=own, prepare=pace.prepare,
                  passing=lambda recipe: pace.passing(recipe, seen_by), predicted=predicted, progress=progress, say=say)  # fmt: skip
    _say_time(settled, means, recipe)
    if not kept:
        _rehearsed(settled, seen_by, means)
    found = climb(settled.candidates, seen_by, means, folds=settled.folds, decisions=settled.decisions, pairs=pairs)
    return found.model if settled.folds == 1 else replace(found.model, held_out=_held_out(cases, found))


class _Pace:
    """How quick this machine is at a network at present: in how many threads, and in how many seconds an image; asked only where
    time is ``bounded``, and for threads only where none were asked for (``adapts``) and it is the processor that works."""

    def __init__(self, facts: auto.Facts, device: str, workers: int, bounded: bool, adapts: bool, say: Say) -> None:
        self._facts, self._device, self._workers, self._bounded, self._say = facts, device, workers, bounded, say
        self._adapts = bounded and adapts and device == "cpu"
        self._used = workers

    def prepare(self, recipe: Recipe) -> None:
        """As many threads as are quickest while the machine does what else it does."""
        if not self._adapts or not recipe.backbone:
            return
        probe = auto.make_probe(self._facts, self._device, recipe.filters)
        before, workers = self._used, self._workers
        self._used = choose_threads(lambda: probe(recipe.backbone, recipe.image_size, 8, "float32"), workers)
        if self._used != before:
            why = "the machine does other work, too" if self._used < workers else "the machine is free again"
            self._say(f"  threads: {self._used} of {workers} — the quicker at present: {why}")

    def passing(self, recipe: Recipe, seen_by: Callable[[Recipe], TrainingData]) -> float:
        """Seconds that an image takes through a network in all of its orientations; 0 where time does not matter."""
        if not self._bounded:
            return 0.0
        if recipe.described:
            some, began = seen_by(recipe).images[:8], time.monotonic()
            describe(some, recipe.descriptors)
            return (time.monotonic() - began) / max(len(some), 1) * max(recipe.views, 1)
        step = auto.make_probe(self._facts, self._device, recipe.filters)(recipe.backbone, recipe.image_size, 8, "float32")  # fmt: skip
        return step / 8 / 3 * max(recipe.views, 1)  # forwards alone is a third of a step of training


def _say_time(settled: SettledPlan, means: Means, recipe: Recipe) -> None:
    """Say how long training is expected to take, where somebody listens and a network of ours moves."""
    if means.say is unheard or means.network is not None or not settled.moving:
        return
    probe = auto.make_probe(settled.facts, means.device, recipe.filters)
    expected = settled.folds * sum(auto.expected_seconds(each.recipe, settled.facts, probe) for each in settled.moving)
    means.say(f"  time: about {auto.duration(expected)} for training")


def _rehearsed(settled: SettledPlan, seen_by: Callable[[Recipe], TrainingData], means: Means) -> None:
    """Look at what is to be fitted before anything is. Raises :class:`UnsoundError` where it cannot go well."""
    for candidate in settled.moving or settled.candidates[:1]:
        data, left = seen_by(candidate.recipe), (means.clock.left - means.reserve) / settled.folds
        looked = rehearse(data, candidate.recipe, weights=candidate.weights, network=means.network, device=means.device, threads=means.threads, left=left)  # fmt: skip
        for line in looked.lines:
            means.say(line)
        looked.require_sound()


def _held_out(cases: Cases, found: Climb) -> Predictions:
    """What the networks of folds say of the cases of the jury, none of a patient that it has seen."""
    task, jury = cases.target.task, found.jury
    values = np.full((len(cases), task.outputs), np.nan, np.float32)
    values[jury.rows] = task.probabilities(torch.from_numpy(found.outputs)).numpy()
    table = cases.table.assign(fold=(jury.fold + 1).astype(str))
    return tabulate(
        task.unscaled(values, found.model.about.scale), replace(cases, table=table), cases.target, "held-out"
    )


@checked
def rehearse_training(
    cases: Cases,
    split: Split,
    recipe: Recipe = AUTO,
    *,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    digests: dict[str, str] | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    progress: Progress = silent,
    say: Say = unheard,
) -> Preflight:
    """What :func:`train` would do with these arguments, looked at: nothing is trained, and the test part stays closed."""
    clock, device, threads = clock or Clock(), pick_device(device), threads or cores()
    seconds = None if clock.limit is None else clock.left - reserve
    data, candidate = _planned(
        cases, split, recipe, weights, cache, digests, device, threads, seconds, network, progress, say
    )
    return rehearse(
        data, candidate.recipe, weights=candidate.weights, device=device, threads=threads, left=clock.left - reserve
    )


@checked
def find_rate(
    cases: Cases,
    split: Split,
    recipe: Recipe = AUTO,
    *,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    progress: Progress = silent,
    say: Say = unheard,
) -> RangeTest:
    """The range test of the learning rate for the network that :func:`train` would train; nothing is kept.

    The arguments are those of :func:`train`; raises what :func:`.range_test` does.
    """
    device, threads = pick_device(device), threads or cores()
    data, candidate = _planned(
        cases, split, recipe, weights, cache, None, device, threads, None, network, progress, say
    )
    return range_test(data, candidate.recipe, weights=candidate.weights or None, device=device, threads=threads, progress=progress)  # fmt: skip


def _planned(
    cases: Cases, split: Split, recipe: Recipe, weights: str | Path | None, cache: str | Path | None, digests: dict[str, str] | None,
    device: str, threads: int, seconds: float | None, network: bool, progress: Progress, say: Say,
) -> tuple[TrainingData, Candidate]:  # fmt: skip
    """The one network that a recipe would train, and its images; without what a ladder tries besides."""
    cases, training, tuning, shown = _shown(*_rows(cases, split), recipe)
    refuse_unfit(cases, recipe)
    facts = auto.look(cases, training)
    found = auto.weights_at_hand(recipe, facts, folder=weights, device=device, network=network)
    made, decisions = auto.plan(recipe, facts, pretrained=tuple(found), device=device, seconds=seconds, probe=auto.make_probe(facts, device, recipe.filters))  # fmt: skip
    for decision in (*shown, *decisions):
        say(decision.line)
    data = decode(cases, training, tuning, auto.preprocess_of(made, facts), Path(cache) if cache else cache_folder(),
                  digests=digests, threads=threads, progress=progress, say=say)  # fmt: skip
    file = found.get(made.backbone, "") if made.method in ("features", "finetune") else ""
    return data, Candidate(made.method, made, file)


# -- what is settled before anything is fitted ----------------------------------------------------------------------


@dataclass(frozen=True)
class SettledPlan:
    """The facts, the ways to learn that are to be tried, on how many folds, and the decisions."""

    facts: auto.Facts
    candidates: tuple[Candidate, ...]
    folds: int
    decisions: tuple[Decision, ...]

    @property
    def moving(self) -> tuple[Candidate, ...]:
        """Those whose network is trained."""
        return tuple(candidate for candidate in self.candidates if candidate.recipe.method != "features")


def _settle(
    recipe: Recipe, facts: auto.Facts, decoded: Callable[[Preprocess], TrainingData], weights: str | Path | None, device: str,
    seconds: float | None, network: bool, shown: tuple[Decision, ...], cache: Path, progress: Progress, say: Say,
) -> SettledPlan:  # fmt: skip
    found = auto.weights_at_hand(recipe, facts, folder=weights, device=device, network=network)
    probe, names = auto.make_probe(facts, device, recipe.filters), tuple(found)
    if recipe.filters != 1 and recipe.method == "auto":  # one network, which no published weights fit
        recipe = recipe.changed(method="scratch")
    if recipe.method != "auto" or recipe.fusion != "single" or recipe.extra_inputs:  # the first rungs see images alone
        folds = max(recipe.members, 1)
        fits = folds * (recipe.folds + 1 if recipe.fusion == "stacked" and recipe.method != "features" else 1)
        made, decisions = auto.plan(
            recipe,
            facts,
            pretrained=names,
            device=device,
            seconds=None if seconds is None else seconds / fits,
            probe=probe,
        )
        file = found.get(made.backbone, "") if made.method in ("features", "finetune") else ""
        return SettledPlan(facts, (Candidate(made.method, made, file),), folds, (*shown, *decisions))
    began = time.monotonic()
    heads = _frozen(recipe, facts, found, decoded, device, seconds, probe, cache, progress, say)
    best = next((each.recipe.backbone for each in heads if each.recipe.backbone), "")
    left = None if seconds is None else seconds - (time.monotonic() - began)
    try:
        moving, folds, decisions = auto.network_rung(
            recipe, facts, names, best, device=device, seconds=left, probe=probe
        )
    except InputError as error:  # the time does not suffice for a network; what is frozen stands
        say(f"  network: none — {error}")
        moving, folds, decisions = None, max(recipe.members, 1), [Decision("method", "features", str(error))]
    if moving is None:
        return SettledPlan(facts, tuple(reversed(heads)), folds, (*shown, *decisions))
    file = found.get(moving.backbone, "") if moving.method == "finetune" else ""
    return SettledPlan(facts, (*reversed(heads), Candidate("network", moving, file)), folds, (*shown, *decisions))


def _frozen(
    recipe: Recipe, facts: auto.Facts, pretrained: dict[str, str], decoded: Callable[[Preprocess], TrainingData], device: str,
    seconds: float | None, probe: auto.Probe, cache: Path, progress: Progress, say: Say,
) -> list[Candidate]:  # fmt: skip
    """The best ways to read frozen features, one a network and one of descriptors, the best first."""
    clock = Clock(None if seconds is None else SEARCHED * seconds)
    heads = HEADS if clock.left > UNHURRIED else ("logistic",)  # besides ridge, by which layers are chosen
    some = () if facts.volume else tuple(pretrained)[: MOST_NETWORKS if seconds is not None else None]
    asked = recipe.changed(method="features", backbone="", descriptors=tuple(DESCRIPTORS))
    if some:
        base, _ = auto.plan(recipe.changed(method="features", backbone=some[0]), facts, pretrained=some, device=device, probe=probe)  # fmt: skip
        base = auto.within_seconds(base, recipe, facts, clock.left / 2, probe)
        if facts.side > auto.SMALL_SIDE:  # of the size that those are judged at which they may answer with
            asked = asked.changed(image_size=base.image_size)
    described, _ = auto.plan(asked, facts, device=device, probe=probe)
    data = decoded(auto.preprocess_of(described, facts))
    search = partial(search_features, heads=heads, cache=cache, device=device, progress=progress, say=say)
    rungs = search(data, described, {}, seconds=clock.left / 2 if some else clock.left)  # networks tell more
    if some:
        rungs += search(decoded(auto.preprocess_of(base, facts)), base, {name: pretrained[name] for name in some}, descriptors=False, seconds=clock.left)  # fmt: skip
        rungs.sort(key=lambda rung: (-len(rung.rows), -rung.score))
    each: dict[str, Candidate] = {}
    for rung in rungs:  # the best first; what was tried on a part of the patients has all of its time still before it
        name = f"frozen {rung.recipe.backbone}" if rung.recipe.backbone else "descriptors"
        if len(rung.rows) == len(data.training) or (seconds is None and name not in each):
            each.setdefault(name, Candidate(name, rung.recipe, rung.weights))
    if not each:
        return [Candidate("frozen features", rungs[0].recipe, rungs[0].weights)]
    return list(each.values())[:MOST_HEADS]


def _rows(cases: Cases, split: Split) -> tuple[Cases, NDArray[np.int64], NDArray[np.int64]]:
    """The labelled cases of training and tuning, in the order of the table, and the rows of each."""
    rows = {name: split.rows(cases, name) for name in ("train", "tuning")}
    if not len(rows["train"]) or not len(rows["tuning"]):
        given = f"{len(rows['train'])} and {len(rows['tuning'])}"
        raise UnsoundError("the split leaves no images for training or for tuning", given=given)
    used = np.sort(np.concatenate(list(rows.values())))
    used = used[cases.labelled[used]]
    tuned = np.isin(used, rows["tuning"])
    return cases.take(used), np.flatnonzero(~tuned), np.flatnonzero(tuned)


def _shown(
    cases: Cases, training: NDArray[np.int64], tuning: NDArray[np.int64], recipe: Recipe
) -> tuple[Cases, NDArray[np.int64], NDArray[np.int64], tuple[Decision, ...]]:
    """The rows that a recipe shows of these cases, and how the images of a case are seen, in words.

    Raises :class:`InputError` where its fusion cannot be had of them, before anything is decoded.
    """
    if recipe.fusion == "single":
        return cases, training, tuning, _each_on_its_own(cases)
    teaching, choosing = arranged(cases, training, tuning, recipe)
    rows = np.sort(np.concatenate([training[teaching.rows[teaching.present]], tuning[choosing.rows[choosing.present]]]))
    places = f", in places by view: {', '.join(teaching.views)}" if teaching.views else ""
    told = [Decision("fusion", recipe.fusion, f"asked for; a case has {teaching.shown}{places}")]
    for part, each in (("training", teaching), ("tuning", choosing)):
        told += [Decision(f"images of {part} cases", "fewer", note) for note in each.notes]
    teaches = np.isin(rows, training)
    return cases.take(rows), np.flatnonzero(teaches), np.flatnonzero(~teaches), tuple(told)


def _each_on_its_own(cases: Cases) -> tuple[Decision, ...]:
    """That cases have several images and these are not seen together, and which field would have it otherwise."""
    many = int(cases.table["case"].value_counts().max())
    if many == 1:
        return ()
    named = {role: bool((cases.table[role].astype(str).str.strip() != "").all()) for role in ("view", "time")}
    few = cases.table["view"].nunique() <= MOST_VIEWS
    other = "concat" if named["view"] and few else "recurrent" if named["time"] else "attention"
    why = f"a case has up to {count(many, 'image')}: each is seen on its own and a case gets the mean of their probabilities; --fusion {other} sees them together"
    return (Decision("fusion", "single", why),)


def _plan_key(
    cases: Cases, training: NDArray[np.int64], recipe: Recipe, clock: Clock, weights: str | Path | None, pairs: Sequence[tuple[str, str, str]],
    own: nn.Module | None,
) -> str:  # fmt: skip
    """What a plan, and the checkpoints beside it, are of."""
    taught = taught_with(cases, recipe.extra_inputs)
    key = fingerprint([recipe, taught, training.tolist(), clock.limit, str(weights), pairs])
    return key if own is None else fingerprint([key, own_name(own), digest_of(own.state_dict())])


def _keep_plan(folder: Path, key: str, settled: SettledPlan, seconds: float) -> None:
    held = {"key": key, "plan": plain(settled), "seconds": seconds}
    write_json(folder / "plan.json", held | {"digest": fingerprint(held)})


def _resumed_plan(folder: Path | None, key: str, clock: Clock) -> SettledPlan | None:
    """The plan that an interrupted training kept; None, and no checkpoint, where another was trained here.

    Raises :class:`InputError` for a plan that is damaged: its checkpoints would go on by another.
    """
    if folder is None:
        return None
    path = folder / "plan.json"
    if path.exists():
        held = _whole_plan(path)
        if held["key"] == key:
            clock.credit(held["seconds"])
            return build(SettledPlan, held["plan"], where="plan.json")
    forget(folder)  # checkpoints of other cases, another split or recipe must not teach this model
    return None


def _whole_plan(path: Path) -> dict[str, Any]:
    try:
        held = read_fields(path)
        whole = held.pop("digest", "") == fingerprint(held) and {"key", "plan", "seconds"} <= held.keys()
        reason = "its checksum differs"
    except InputError as error:
        whole, reason = False, str(error)
    if not whole:
        raise InputError("the plan of an interrupted training is damaged", given=f"{path}: {reason}",
                         todo=f"delete the folder {path.parent} to train again from the start")  # fmt: skip
    return held
