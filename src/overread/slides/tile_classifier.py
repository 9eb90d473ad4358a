"""Training on slides: tiles are drawn, a network learns them, and rounds of hard negatives show it what it took for tumour."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import UnavailableError, UnsoundError, checked
from overread.core.files import build, cache_folder, fingerprint, plain, read_json, write_json
from overread.core.identifiers import marks
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.slides.tile_settings import Tiles
from overread.learning.auto import make_probe
from overread.learning.device import pick_device
from overread.learning.model import Decision, Model
from overread.learning.predict import predict_images
from overread.learning.recipe import AUTO, Recipe
from overread.learning.train import train
from overread.slides.drawn_tiles import (
    PlacesOfSlides,
    TileTable,
    case_names,
    draw_tiles,
    find_places,
    tile_cases,
    tumour_of,
)
from overread.slides.slide_attention import train_on_bags
from overread.slides.tile_recipe import settle_recipe, tile_facts
from overread.slides.unread_tiles import teach_what_is_read, torn_slides

__all__ = ["train_on_slides"]

#: Tiles where neither number nor budget says how many; the fewest and the most that a budget asks for; and for each so many tiles
#: for training one for tuning, within bounds, of which the lower is as many as for training where these are fewer.
USUAL, FEWEST, MOST, TUNING, TUNING_BOUNDS = 8192, 1024, 32_768, 4, (256, 4096)
#: A budget should suffice for so many epochs, by method, of the share of the time that steps may fill: other tiles teach more than the
#: same ones again. A frozen network is passed once in each orientation that is averaged, forwards, which takes a third of a step. And the share of the free disk that tiles may take.
EPOCHS, FILLED, DISK = {"scratch": 8.0, "finetune": 4.0, "features": 1 / 3}, 0.7, 0.25
#: How long a look for hard negatives takes, in trainings.
LOOK = 0.25

#: Seconds that a training leaves of its clock, and a line about them, by the recipe as it is settled.
ReserveOf = Callable[[Recipe], tuple[float, str]]


@checked
def train_on_slides(
    cases: Cases, split: Split, recipe: Recipe = AUTO, *, weights: str | Path | None = None, folder: str | Path | None = None,
    cache: str | Path | None = None, digests: dict[str, str] | None = None, clock: Clock | None = None, reserve: float | ReserveOf = 0.0,
    device: str = "", threads: int = 0, network: bool = True, progress: Progress = silent, say: Say = unheard,
) -> Model:  # fmt: skip
    """Train a model on tiles of the slides of the training part, its snapshot chosen on tiles of the tuning part.

    The arguments are those of :func:`overread.learning.train.train`; ``cases``: a row a slide, with the files of their outlines
    in the column ``outlines``; ``reserve`` may depend on the recipe, as heat maps in eight orientations take longer than in two: then
    it tells the seconds for one that is settled, and in a line for what they are. What the recipe and its ``tiles`` leave open is planned by the time, the disk and the weights at
    hand. After the first fit, each of ``tiles.hard_negatives`` rounds adds the normal tiles that the model takes for tumour
    most, to both parts, and fits anew; of all fits the one stays that tells the tiles of tuning apart best that were drawn before
    the first round (those added are hard for the earlier fits, whatever they are for the last). With the same
    ``folder`` it goes on where it was stopped. With ``tiles.pooling`` = ``attention`` slides are learned from their labels alone
    (:func:`.slide_attention.train_on_bags`). Raises :class:`UnsoundError` where a part has no slide with outlined tumour or
    none with normal tissue, :class:`InputError` for slides that cannot be read. Single tiles that cannot be read are
    left out, and slides set aside of which more cannot be read than :data:`.unread_tiles.MOST_UNREAD`; ``say`` hears of both.
    """
    clock, device, kept = clock or Clock(), pick_device(device), _by_recipe(reserve)
    if recipe.tiles.pooling == "attention":
        seconds = _heard(kept, settle_recipe(recipe, weights=weights, device=device)[0], say)
        return train_on_bags(cases, split, recipe, weights=weights, folder=folder, cache=cache, digests=digests, clock=clock, reserve=seconds,
                             device=device, threads=threads, network=network, progress=progress, say=say)  # fmt: skip
    cache = Path(cache) if cache else cache_folder()
    rows = _rows(cases, split)
    asked = recipe
    recipe, told = settle_recipe(asked, weights=weights, device=device)
    look = partial(find_places, cases, tiles=recipe.tiles, cache=cache, digests=digests, threads=threads, progress=progress, say=say)  # fmt: skip
    places = {part: look(rows=own, part="training" if part == "train" else part) for part, own in rows.items()}
    checkpoints = Path(folder) if folder else None
    key = fingerprint([cases.taught, recipe, asked.method, str(weights), clock.limit, {part: [*own.tolist(), *(g.name for g in places[part].grids)] for part, own in rows.items()}])  # fmt: skip
    plan = _kept_plan(checkpoints, key)
    frozen = settle_recipe(asked.changed(method="features", backbone=recipe.backbone), weights=weights, device=device) if asked.method == "auto" and recipe.method == "finetune" else None  # fmt: skip
    if plan is None:
        plan = _planned(recipe, frozen and frozen[0], cache, device, clock, lambda recipe: kept(recipe)[0])
        if checkpoints:
            write_json(checkpoints / "tiles.json", {"key": key, "plan": plain(plan)})
    if frozen and plan.method == "features":
        recipe, told = frozen
    seconds = _heard(kept, recipe, say)
    recipe = recipe.changed(tiles=replace(recipe.tiles, number=plan.number))
    told = (*told, *plan.decisions)
    for decision in told:
        say(decision.line)
    job = SlideTraining(cases, places, recipe, checkpoints, key, clock, seconds, threads, device, progress, say,
                        {"weights": weights, "cache": cache, "network": network})  # fmt: skip
    model, drawn = job.in_rounds()
    seen = marks(cases.table["patient"].iloc[np.union1d(*rows.values())], model.about.salt)
    about = replace(model.about, seen=seen, decisions=(*told, *drawn, *model.about.decisions))
    return replace(model, about=about, held_out=None)


def _rows(cases: Cases, split: Split) -> dict[str, NDArray[np.int64]]:
    """The labelled slides of training and tuning."""
    tumour_of(cases.target)
    rows = {part: split.rows(cases, part) for part in ("train", "tuning")}
    rows = {part: own[cases.labelled[own]] for part, own in rows.items()}
    if not all(len(own) for own in rows.values()):
        raise UnsoundError("the split leaves no slides for training or for tuning",
                           given=" and ".join(str(len(own)) for own in rows.values()))  # fmt: skip
    return rows


# -- the plan ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedTiles:
    """How many tiles a training draws, by which method it learns them, and why."""

    number: int
    method: str
    decisions: tuple[Decision, ...]


def _by_recipe(reserve: float | ReserveOf) -> ReserveOf:
    """The seconds to be left and a line about them, of a recipe; each is found out once."""
    found: dict[tuple[str, int], tuple[float, str]] = {}

    def kept(recipe: Recipe) -> tuple[float, str]:
        if not callable(reserve):
            return reserve, ""
        key = recipe.method, recipe.views
        if key not in found:
            found[key] = reserve(recipe)
        return found[key]

    return kept


def _heard(kept: ReserveOf, recipe: Recipe, say: Say) -> float:
    """The seconds to be left of a recipe that is settled; what they are for is said."""
    seconds, line = kept(recipe)
    if line:
        say(line)
    return seconds


def _planned(
    recipe: Recipe, frozen: Recipe | None, cache: Path, device: str, clock: Clock, reserve: Callable[[Recipe], float]
) -> PlannedTiles:  # fmt: skip
    """As many tiles as are asked for, or as the time and the disk allow; where the time that the reserve of ``recipe`` leaves is too
    short to fine-tune on a few of them, for the ``frozen`` recipe and by its reserve (None: the method is not open)."""
    tiles = recipe.tiles
    each = len(tiles.mpp) * tiles.size**2 * 3 * (1 + 1 / TUNING) * (1 + tiles.hard_negatives / 4)  # bytes
    free = shutil.disk_usage(cache if cache.exists() else cache.parent).free
    number, why, told = tiles.number, "asked for", list[Decision]()
    if clock.limit is not None and recipe.backbone and recipe.method in EPOCHS and (frozen or not number):
        step = make_probe(tile_facts(tiles), device, recipe.filters)(recipe.backbone, tiles.size, 8, "float32") / 8 * len(tiles.mpp)  # fmt: skip
        share = FILLED / (1 + tiles.hard_negatives * (1 + LOOK))
        kept = reserve(recipe)  # which takes of the clock
        seconds = share * max(0.0, clock.left - kept)
        takes = f"a tile takes about {step * 1000:.0f} ms a pass"
        if frozen and recipe.method == "finetune" and seconds < _epochs(recipe) * step * (number or FEWEST):
            short = f"{takes}, and {_epochs(recipe):g} of each of {number or FEWEST:,} to fine-tune on do not fit into {seconds:.0f} s"  # fmt: skip
            recipe, kept = frozen, reserve(frozen)
            seconds = share * max(0.0, clock.left - kept)
            told.append(Decision("method", f"features, {recipe.backbone}", f"{short}: the network is frozen, and passed once"))  # fmt: skip
        if not number:
            epochs = _epochs(recipe)
            number = int(np.clip(seconds / (epochs * step), FEWEST, MOST))
            fits = "should fit" if seconds >= epochs * step * FEWEST else f"do not fit with the fewest, {FEWEST:,},"
            why = f"{takes}, and {'one forwards in each orientation' if recipe.method == 'features' else f'{epochs:g} of each'} {fits} into {seconds:.0f} s"
    elif not number:
        number, why = USUAL, "usual; give --budget to use a given time, or --set tiles.number=…"
    if not tiles.number and number * each > DISK * free:
        number = max(FEWEST, int(DISK * free / each))
        why = f"{why}; but they take no more than a quarter of the free disk, {free / 1e9:.1f} GB"
    if number * each > free:
        raise UnavailableError("the disk is too small for the tiles", given=f"{number * each / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free",
                               todo="free some space, choose another cache, or fewer tiles: --set tiles.number=…")  # fmt: skip
    size = f"{number * each / 1e9:.1f} GB" if number * each >= 5e7 else f"{number * each / 1e6:.1f} MB"
    told.append(Decision("tiles", f"{number:,}", f"{why}; decoded once, {size} of the cache"))
    return PlannedTiles(number, recipe.method, tuple(told))


def _epochs(recipe: Recipe) -> float:
    """Passes of each tile that a plan counts with: those asked for, where a network moves; of a frozen one those of its orientations."""
    return EPOCHS["features"] * recipe.views if recipe.method == "features" else recipe.epochs or EPOCHS[recipe.method]


def _kept_plan(folder: Path | None, key: str) -> PlannedTiles | None:
    """The plan that an interrupted training kept; None, and no round, where another was trained here."""
    if folder is None or not (path := folder / "tiles.json").exists():
        return None
    held = read_json(path)
    if isinstance(held, dict) and held.get("key") == key:
        return build(PlannedTiles, held["plan"], where=path.name)
    for old in folder.glob("round-*"):
        shutil.rmtree(old)
    return None


# -- rounds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SlideTraining:
    """What the rounds of a training share; ``how``: what each fit is given besides."""

    cases: Cases
    places: dict[str, PlacesOfSlides]
    recipe: Recipe
    folder: Path | None
    key: str
    clock: Clock
    reserve: float
    threads: int
    device: str
    progress: Progress
    say: Say
    how: dict[str, Any]

    @property
    def tiles(self) -> Tiles:
        """How slides are cut."""
        return self.recipe.tiles

    def in_rounds(self) -> tuple[Model, tuple[Decision, ...]]:
        """The model of the round that tells the tiles of tuning apart best, and what was decided."""
        held, told, models = self.first(), list[Decision](), list[Model]()
        first = held
        rounds = self.tiles.hard_negatives
        for done in range(rounds + 1):
            began = time.monotonic()
            model, held = self.fit(held, done)
            told += self.told(held, done)
            models.append(model)
            first = first if done else held
            spent = time.monotonic() - began
            if done == rounds:
                break
            if self.clock.limit is not None and self.clock.left - self.reserve < (0.3 + LOOK) * spent:
                told.append(self.heard(Decision("hard negatives", f"{count(done, 'round')} of {rounds}", "the budget is used up")))  # fmt: skip
                break
            held = self.harder(models[-1], held, done + 1)
        if len(models) == 1:
            return models[0], tuple(told)
        scores = [
            self.score(model, first["tuning"]) for model in models
        ]  # hard ones were chosen against the earlier models
        best = max(range(len(models)), key=lambda at: (round(scores[at], 6), at))
        why = "tells the tiles of tuning slides that were drawn before the first round apart best: " + ", ".join(f"{score:.3f}" for score in scores)  # fmt: skip
        return models[best], (
            *told,
            self.heard(Decision("round of hard negatives", f"{best} of {len(models) - 1}", why)),
        )

    def heard(self, decision: Decision) -> Decision:
        """A decision, said at once."""
        self.say(decision.line)
        return decision

    def first(self) -> dict[str, TileTable]:
        """The tiles of the first fit."""
        number = {"train": self.tiles.number, "tuning": self.fewer(self.tiles.number)}
        return {part: draw_tiles(places, number[part], self.tiles, seed=self.recipe.seed, operation=part, threads=self.threads, progress=self.progress)
                for part, places in self.places.items()}  # fmt: skip

    def fewer(self, number: int) -> int:
        """Tiles of tuning beside so many for training."""
        least, most = TUNING_BOUNDS
        return int(np.clip(number // TUNING, min(number, least), most))

    def told(self, held: dict[str, TileTable], done: int) -> list[Decision]:
        """The tiles of a fit, counted."""
        what = "tiles" if not done else f"tiles after round {done}"
        return [self.heard(Decision(f"{what} of {part}", f"{len(table):,}", table.told(self.cases))) for part, table in held.items()]  # fmt: skip

    def fit(self, held: dict[str, TileTable], done: int) -> tuple[Model, dict[str, TileTable]]:
        """A model of these tiles, in its share of the time that is left; and those of them that can be read, with others for the tiles of
        slides that were set aside."""
        later = self.tiles.hard_negatives - done
        left = self.clock.left - self.reserve
        kept = left * (1 - 1 / (1 + later * (1 + LOOK) + (LOOK if self.tiles.hard_negatives else 0))) if math.isfinite(left) and left > 0 else 0.0  # fmt: skip
        folder = self.folder / f"round-{done}" if self.folder and self.tiles.hard_negatives else self.folder

        def taught(held: dict[str, TileTable]) -> Model:
            drawn, split = tile_cases(self.cases, held, self.tiles)
            return train(drawn, split, self.recipe, folder=folder, clock=self.clock, reserve=self.reserve + kept, threads=self.threads,
                         device=self.device, progress=self.progress, say=self.say if not done else unheard, **self.how)  # fmt: skip

        return teach_what_is_read(held, cases_of=lambda held: tile_cases(self.cases, held, self.tiles)[0], without=self.readable, teach=taught, folder=folder)  # fmt: skip

    def readable(self, held: dict[str, TileTable], unread: NDArray[np.int64]) -> dict[str, TileTable]:
        """The tiles without those in rows of their cases that cannot be read; others in place of those of slides that are set aside."""
        names, made = tile_cases(self.cases, held, self.tiles)[0].table["case"].iloc[unread], dict[str, TileTable]()
        for part, table in held.items():
            slides = table.table["slide"].to_numpy(np.int64)
            lost = np.isin(case_names(self.cases, table, part), names)
            torn = torn_slides(slides, lost, self.say, part)
            gone = np.isin(slides, torn)
            made[part] = table.only(~lost & ~gone)
            if len(torn):
                self.places[part] = self.places[part].without(torn)
                which = f"other {'-'.join(str(row) for row in torn.tolist())}-"
                others = draw_tiles(self.places[part], int(gone.sum()), self.tiles, seed=self.recipe.seed, operation=f"{part} {which}", threads=self.threads,
                                    progress=self.progress)  # fmt: skip
                made[part] = made[part].joined(TileTable(others.table.assign(round=which)))
        return made

    def harder(self, model: Model, held: dict[str, TileTable], done: int) -> dict[str, TileTable]:
        """The tiles and, of further normal ones, those that the model takes for tumour most."""
        path = self.folder / f"round-{done}" / "tiles.json" if self.folder else None
        if path and path.exists() and (kept := read_json(path)).get("key") == fingerprint([self.key, model.digest]):
            found = {part: TileTable.of(table) for part, table in kept["tiles"].items()}
        else:
            found = {part: self.hardest(model, part, held[part], done) for part in held}
            if path:
                write_json(path, {"key": fingerprint([self.key, model.digest]), "tiles": {part: table.table.to_dict("list") for part, table in found.items()}})  # fmt: skip
        self.say(f"  round {done} of hard negatives: {', '.join(f'{len(table):,} in {part}' for part, table in found.items())} normal tiles that the model takes for tumour most")  # fmt: skip
        return {part: held[part].joined(found[part]) for part in held}

    def hardest(self, model: Model, part: str, held: TileTable, done: int) -> TileTable:
        """Of as many normal tiles of one part as are looked at, those with the highest score."""
        looked, added = self.tiles.hard_looked or self.tiles.number, self.tiles.hard_added or max(1, self.tiles.number // 4)  # fmt: skip
        if part == "tuning":
            looked, added = self.fewer(looked), max(1, added // TUNING)
        table = draw_tiles(self.places[part], looked, self.tiles, seed=self.recipe.seed, operation=f"round {done} {part}", normal=True,
                           threads=self.threads, progress=self.progress).table  # fmt: skip
        known = set(zip(held.table["slide"], held.table["place"], strict=True))
        fresh = [(slide, place) not in known for slide, place in zip(table["slide"], table["place"], strict=True)]
        table = table[np.array(fresh, bool)].drop_duplicates(["slide", "place"]).reset_index(drop=True)
        table = table.assign(round=f"{done}-")
        if table.empty:
            return TileTable(table)
        scores = self.answers(model, TileTable(table), part)[
            :, self.cases.target.names.index(tumour_of(self.cases.target))
        ]
        order = np.argsort(-scores, kind="stable")[
            : min(added, int((~np.isnan(scores)).sum()))
        ]  # unread ones come last
        return TileTable(table.iloc[np.sort(order)].reset_index(drop=True))

    def answers(self, model: Model, table: TileTable, part: str) -> NDArray[np.float64]:
        """What a model says of tiles, (N, 2), each seen in one orientation; NaN of those that cannot be read."""
        quick = replace(model, about=replace(model.about, recipe=model.about.recipe.changed(views=1)))
        drawn, _ = tile_cases(self.cases, {part: table}, self.tiles)
        values, errors = predict_images(quick, drawn, device=self.device, threads=self.threads, progress=self.progress)
        torn = np.isin(drawn.table["case"], drawn.table["case"].iloc[sorted(errors)])
        values[torn] = np.nan  # also where another magnification can be read
        known = ~np.isnan(values).any(axis=1)  # of tiles of several magnifications the first row has the answer
        by_case = pd.DataFrame(values[known].astype(np.float64), index=drawn.table["case"].to_numpy()[known])
        return by_case.reindex(case_names(self.cases, table, part)).to_numpy()

    def score(self, model: Model, table: TileTable) -> float:
        """How well a model tells the tiles of tuning apart: what chooses a snapshot."""
        target = self.cases.target
        yes = target.names.index(tumour_of(target))
        labels = np.where(table.table["tumour"], yes, 1 - yes)
        answers = self.answers(model, table, "tuning")
        known = ~np.isnan(answers).any(axis=1)
        return float(target.task.answer_score(answers[known], labels[known]))
