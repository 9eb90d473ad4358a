"""Slides that have a label and no outlines: all tiles of a slide are the images of one case, weighed by attention.

Ilse 2018 (arXiv:1802.04712), "attention-based deep multiple instance learning": equation 8 is the fusion ``attention``,
equation 9 ``gated-attention`` (:mod:`overread.networks.fusion`). The body may be frozen, so that the features of each tile are
made once and kept. The answer for a slide is that for its bag of tiles. A heat map of such a model shows at each place the
answer for a bag of that one tile: unlike the weights of attention, which add up to 1 over a slide, it means the same on every
slide. The weights are had from :func:`attention_of`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from overread.cases.cases import Cases, paths
from overread.cases.split import Split
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import cache_folder
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.address import parse
from overread.images.slides.tile_settings import Tiles
from overread.learning.device import layout, pick_device
from overread.learning.inputs import inputs
from overread.learning.model import Decision, Model
from overread.learning.predict import predict
from overread.learning.recipe import AUTO, Recipe
from overread.learning.train import train
from overread.networks.fusion import Attention, Fused
from overread.predictions import Predictions
from overread.slides.drawn_tiles import NORMAL, find_tissue_places, tile_address, tumour_of
from overread.slides.map_grid import middles
from overread.slides.tile_recipe import settle_bags
from overread.slides.unread_tiles import teach_what_is_read, torn_slides

__all__ = ["answer_slides", "attention_of", "bags_of", "train_on_bags"]


@checked
def train_on_bags(
    cases: Cases, split: Split, recipe: Recipe = AUTO, *, weights: str | Path | None = None, folder: str | Path | None = None,
    cache: str | Path | None = None, digests: dict[str, str] | None = None, clock: Clock | None = None, reserve: float = 0.0,
    device: str = "", threads: int = 0, network: bool = True, progress: Progress = silent, say: Say = unheard,
) -> Model:  # fmt: skip
    """Train a model that answers for a slide by all of its tiles, from the labels of slides alone; outlines are not looked at.

    The arguments are those of :func:`overread.learning.train.train`. Raises :class:`InputError` for several magnifications and
    for slides that cannot be read, :class:`UnsoundError` where a part has no slide with tissue.
    """
    tumour_of(cases.target)
    recipe, told = settle_bags(recipe, weights=weights, device=pick_device(device))
    rows = np.sort(np.concatenate([split.rows(cases, part) for part in ("train", "tuning")]))
    labelled = cases.take(rows[cases.labelled[rows]])
    bags = bags_of(labelled, recipe.tiles, cache=cache, digests=digests, threads=threads, progress=progress, say=say)
    many = bags.table["case"].nunique()
    told = (*told, Decision("tiles", f"{len(bags):,} of {count(many, 'slide')}", f"at most {recipe.tiles.bag} of each, evenly spread over its tissue"))  # fmt: skip
    for decision in told:
        say(decision.line)

    def taught(bags: Cases) -> Model:
        return train(bags, split, recipe, weights=weights, folder=folder, cache=cache, clock=clock, reserve=reserve, device=device,
                     threads=threads, network=network, progress=progress, say=say)  # fmt: skip

    def without(bags: Cases, unread: NDArray[np.int64]) -> Cases:
        place = {parse(address).path: row for row, address in enumerate(cases.table["image"])}
        slides = np.array([place[parse(address).path] for address in bags.table["image"]], np.int64)
        lost = np.isin(np.arange(len(bags)), unread)
        return bags.take(np.flatnonzero(~lost & ~np.isin(slides, torn_slides(slides, lost, say, "training and tuning"))))  # fmt: skip

    model, _ = teach_what_is_read(bags, cases_of=lambda bags: bags, without=without, teach=taught, folder=Path(folder) if folder else None)  # fmt: skip
    return replace(model, about=replace(model.about, decisions=(*told, *model.about.decisions)), held_out=None)


@checked
def bags_of(
    cases: Cases, tiles: Tiles, *, cache: str | Path | None = None, digests: dict[str, str] | None = None, threads: int = 0,
    strict: bool = True, progress: Progress = silent, say: Say = unheard,
) -> Cases:  # fmt: skip
    """The tiles of slides as the images of their cases: at most ``tiles.bag`` of each, evenly spread over its tissue.

    ``say`` hears of slides without tissue, which are left out, and of those that cannot be read where it is not ``strict``. Raises
    :class:`InputError` for slides that cannot be read where it is, and :class:`UnsoundError` where none has tissue.
    """
    cache = Path(cache) if cache else cache_folder()
    places = find_tissue_places(
        cases, tiles, cache, digests=digests, threads=threads, strict=strict, progress=progress, say=say
    )
    parts = []
    for at, row in enumerate(places.rows.tolist()):
        there, columns = places.of(at, NORMAL)
        if len(there) > tiles.bag:
            there = there[((np.arange(tiles.bag) + 0.5) * len(there) / tiles.bag).astype(np.int64)]
        slide = cases.table.iloc[[row] * len(there)]
        x, y = middles(there % columns, tiles.step), middles(there // columns, tiles.step)
        image = [tile_address(str(slide["image"].iloc[0]), *centre, tiles.size, tiles.mpp[0]) for centre in zip(x.tolist(), y.tolist(), strict=True)]  # fmt: skip
        parts.append(slide.assign(image=image, view="", time=""))
    if not parts:
        raise UnsoundError("no tissue was found on any slide", given=count(len(cases), "slide"), todo="look at their overviews; --set tiles.tissue… decides what is tissue")  # fmt: skip
    return replace(cases, table=pd.concat(parts, ignore_index=True))


# -- answers -----------------------------------------------------------------------------------------------------------


@checked
def answer_slides(
    model: Model, cases: Cases, *, cache: str | Path | None = None, device: str = "", threads: int = 0, part: str = "",
    progress: Progress = silent, say: Say = unheard,
) -> Predictions:  # fmt: skip
    """One answer a slide by attention over its tiles; slides without tissue and those that cannot be read have none, and are told. Raises
    :class:`UnsoundError` where no slide is left."""
    bags = bags_of(
        cases, model.about.recipe.tiles, cache=cache, threads=threads, strict=False, progress=progress, say=say
    )
    return predict(model, bags, device=device, threads=threads, part=part, progress=progress, say=say)


@checked
def attention_of(
    model: Model, cases: Cases, *, cache: str | Path | None = None, device: str = "", threads: int = 0, progress: Progress = silent,
    say: Say = unheard,
) -> pd.DataFrame:  # fmt: skip
    """What each tile of slides weighs, a row a tile: ``case``, ``x`` and ``y`` of its centre (µm), ``weight`` (the share of attention,
    which adds up to 1 over a case) and ``score`` (the probability of tumour of a bag of that tile alone).

    Raises :class:`InputError` for a model without attention, :class:`UnsoundError` where no slide is left.
    """
    fused = model.network
    if not isinstance(fused, Fused) or not isinstance(fused.fuse, Attention):
        raise InputError("the model weighs no tiles", given=f"fusion {model.about.recipe.fusion}", todo="train with --set tiles.pooling=attention")  # fmt: skip
    device = pick_device(device)
    network: Any = layout(fused, device).eval()
    task, yes = model.target.task, model.target.names.index(tumour_of(model.target))
    bags = bags_of(
        cases, model.about.recipe.tiles, cache=cache, threads=threads, strict=False, progress=progress, say=say
    )
    addresses, found = paths(bags), []
    for batch in inputs(
        model, bags, device=device, threads=threads, progress=progress, say=say, doing="weighing tiles"
    ):
        with torch.inference_mode():
            features, mask = network.each(batch.x), network.present(batch.x)
            weights = network.fuse.weights(features, mask).cpu().numpy()
            alone = network.head(network.dropout(features.flatten(0, 1)))  # attention over one tile is that tile
            scores = task.probabilities(alone).cpu().numpy()[:, yes].reshape(weights.shape)
        found += [_told(bags, addresses, batch.rows, weights, scores)]
    return pd.concat(found, ignore_index=True)


def _told(bags: Cases, addresses: list[str], rows: NDArray[np.int64], weights: NDArray[Any], scores: NDArray[Any]) -> pd.DataFrame:  # fmt: skip
    there = rows >= 0
    centres = [(parse(addresses[row]).tile or (0.0, 0.0))[:2] for row in rows[there].tolist()]
    x, y = np.array(centres, np.float64).reshape(-1, 2).T
    case = bags.table["case"].to_numpy()[rows[there]]
    return pd.DataFrame({"case": case, "x": x, "y": y, "weight": weights[there].astype(np.float64), "score": scores[there].astype(np.float64)})  # fmt: skip
