"""Training: from cases, a split and a recipe to a model.

It looks at the data once, plans, decodes, and calls :func:`overread.learning.fit.fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.arrange import MOST_VIEWS
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import build, cache_folder, cores, fingerprint, plain, read_fields, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.learning import auto
from overread.learning.checkpoint import digest_of, forget
from overread.learning.device import pick_device
from overread.learning.fit import fit, refuse_unfit
from overread.learning.loader import arranged, decode
from overread.learning.model import Decision, Model
from overread.learning.preflight.faults import Preflight
from overread.learning.preflight.rehearsal import rehearse
from overread.learning.recipe import AUTO, Recipe
from overread.networks.own import own_name


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
    progress: Progress = silent,
    say: Say = unheard,
) -> Model:
    """Train a model on the training part, choose its snapshot on the tuning part; the test part is not touched.

    ``weights``: folder of pretrained weights. ``folder``: for checkpoints; training resumes from what it finds there.
    ``digests``: SHA-256 of the image files by address, where an audit has read them already; a file that has changed
    since is refused. ``clock``: bounds the seconds, of which ``reserve`` are left for what follows. ``network``:
    one's own, any module that maps images (B, C, H, W) to (B, outputs), of which a copy is trained from the weights that
    it brings; or whether weights may be fetched. ``say`` hears what is decided, before anything is trained. Raises
    :class:`UnsoundError` if a class has no training case, :class:`UnavailableError` without weights.
    """
    cases, training, tuning, shown = _shown(*_rows(cases, split), recipe)
    refuse_unfit(cases, recipe)
    checkpoints, cache = Path(folder) if folder else None, Path(cache) if cache else cache_folder()
    clock, device = clock or Clock(), pick_device(device)
    if threads:
        torch.set_num_threads(threads)
    key = fingerprint([plain(recipe), cases.taught, training.tolist(), clock.limit, str(weights)])
    own = None if isinstance(network, bool) else network
    if own is not None:
        key = fingerprint([key, own_name(own), digest_of(own.state_dict())])
    settled = _resumed_plan(checkpoints, key, clock)
    fresh = settled is None
    if settled is None:
        facts = auto.look(cases, training)
        if own is not None:
            settled = SettledPlan(facts, *auto.plan_own(recipe, facts, own))
        else:
            settled = _plan(recipe, facts, weights, device, clock, reserve, bool(network), shown)
        if checkpoints:
            _keep_plan(checkpoints, key, settled, clock.elapsed)
    for decision in settled.decisions:
        say(decision.line)
    if say is not unheard and own is None:
        probe = auto.make_probe(settled.facts, device)
        say(f"  time: about {auto.duration(auto.expected_seconds(settled.recipe, settled.facts, probe))} for training")
    data = decode(cases, training, tuning, auto.preprocess_of(settled.recipe, settled.facts), cache, digests=digests,
                  threads=threads or cores(), progress=progress, say=say)  # fmt: skip
    if fresh:
        found = rehearse(
            data,
            settled.recipe,
            weights=settled.weights,
            network=own,
            device=device,
            threads=threads or cores(),
            left=clock.left - reserve,
        )
        for line in found.lines:
            say(line)
        found.require_sound()
    return fit(data, settled.recipe, weights=settled.weights, network=own, decisions=settled.decisions, folder=checkpoints, cache=cache, clock=clock,
               reserve=reserve, device=device, threads=threads or cores(), progress=progress, say=say)  # fmt: skip


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
    cases, training, tuning, shown = _shown(*_rows(cases, split), recipe)
    refuse_unfit(cases, recipe)
    clock, device, folder = clock or Clock(), pick_device(device), Path(cache) if cache else cache_folder()
    facts = auto.look(cases, training)
    settled = _plan(recipe, facts, weights, device, clock, reserve, network, shown)
    for decision in settled.decisions:
        say(decision.line)
    data = decode(cases, training, tuning, auto.preprocess_of(settled.recipe, facts), folder, digests=digests,
                  threads=threads or cores(), progress=progress, say=say)  # fmt: skip
    return rehearse(
        data,
        settled.recipe,
        weights=settled.weights,
        device=device,
        threads=threads or cores(),
        left=clock.left - reserve,
    )


# -- what is settled before anything is fitted ----------------------------------------------------------------------


@dataclass(frozen=True)
class SettledPlan:
    """The facts, the recipe without open fields, the decisions, and the file of the initial weights ("": random)."""

    facts: auto.Facts
    recipe: Recipe
    decisions: tuple[Decision, ...]
    weights: str = ""


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


def _plan(
    recipe: Recipe, facts: auto.Facts, weights: str | Path | None, device: str, clock: Clock, reserve: float,
    network: bool, shown: tuple[Decision, ...] = (),
) -> SettledPlan:  # fmt: skip
    found = auto.weights_at_hand(recipe, facts, folder=weights, device=device, network=network)
    fits = recipe.folds + 1 if recipe.fusion == "stacked" and recipe.method != "features" else 1
    seconds = None if clock.limit is None else (clock.left - reserve) / fits
    recipe, decisions = auto.plan(recipe, facts, pretrained=tuple(found), device=device, seconds=seconds,
                                  probe=auto.make_probe(facts, device))  # fmt: skip
    file = found.get(recipe.backbone, "") if recipe.method in ("features", "finetune") else ""
    return SettledPlan(facts, recipe, (*shown, *decisions), file)


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
