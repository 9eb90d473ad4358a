"""How long heat maps will take: counted by the tissue that was found, timed on one block of a slide.

Before a network is trained one of the same layout and random weights stands in for it, so that a budget keeps the time that
the maps of its slides need.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, checked
from overread.core.files import cache_folder, cores
from overread.core.phrases import count
from overread.core.progress import Progress, silent
from overread.images.slides.slide import slide_at
from overread.images.slides.tissue import cached_tissue
from overread.learning.auto import duration, preprocess_of
from overread.learning.device import pick_device, seeded
from overread.learning.model import NO_BACKBONE, About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.slides.map_grid import Block, blocks_of, looked_at, read_block
from overread.slides.map_slide import MOST_WORKERS, MapJob, map_job, pools
from overread.slides.tile_answers import TileAnswers, largest_batch
from overread.slides.tile_recipe import settle_recipe, tile_facts

__all__ = ["MapForecast", "forecast_maps", "forecast_recipe", "seconds_a_place"]

#: Seconds that a network is timed at least, and calls of it at most: the first ones of a busy machine tell little.
_TIMED, _CALLS = 0.3, 16

T = TypeVar("T")


@dataclass(frozen=True)
class MapForecast:
    """What the heat maps of ``slides`` take: their ``places``, each with a tile of ``magnifications`` in ``views`` orientations, and the
    ``seconds`` of all; NaN where the block that was tried cannot be read. ``bagged``: tiles that are read once more, of the bags by which
    attention answers."""

    slides: int
    places: int
    magnifications: int
    views: int
    seconds: float
    bagged: int = 0

    @property
    def tiles(self) -> int:
        """Tiles of all magnifications, and of bags."""
        return self.places * self.magnifications + self.bagged

    @property
    def line(self) -> str:
        """What is said before the first map."""
        head = f"  {count(self.tiles, 'tile')} of {count(self.slides, 'slide')} will be read"
        return head if math.isnan(self.seconds) else f"{head} at {self.places:,} places, about {duration(self.seconds)}"


@checked
def forecast_maps(
    model: Model, job: MapJob, *, places: int, slides: int, bagged: int = 0, device: str = "", threads: int = 0, workers: int = 0
) -> MapForecast:  # fmt: skip
    """What mapping ``slides`` with so many ``places`` in all takes, and ``bagged`` tiles besides, by a block of the slide of one ``job``;
    ``threads`` and ``workers`` as in :func:`.map_slide`."""
    each = seconds_a_place(model, job, device=device, threads=threads, workers=workers)
    return MapForecast(slides, places, len(job.tiles.mpp), job.about.views, (places + bagged) * each, bagged)


@checked
def forecast_recipe(
    cases: Cases, recipe: Recipe, *, weights: str | Path | None = None, cache: str | Path | None = None, device: str = "",
    threads: int = 0, workers: int = 0, progress: Progress = silent,
) -> MapForecast:  # fmt: skip
    """What mapping all slides of ``cases`` takes with a network that ``recipe`` will train, before it is trained; with attention the tiles
    of their bags besides, which :func:`.slide_attention.answer_slides` reads.

    Tissue is found where neither the audit nor training did. Slides that cannot be read or have none are left out.
    """
    device = pick_device(device)
    model, kept_in, addresses = _stand_in(cases, recipe, weights, device), (Path(cache) if cache else cache_folder()) / "slides", paths(cases)  # fmt: skip
    slides, places, bagged, most, tiles = 0, 0, 0, None, recipe.tiles
    for row, address in enumerate(addresses):
        try:
            slide = slide_at(address)
            job = map_job(model, slide, cached_tissue(slide, model.about.recipe.tiles.tissue, kept_in))
        except ImageError:  # told by what reads it next
            continue
        finally:
            progress("finding tissue", row + 1, len(addresses))
        slides, places = slides + bool(job.wanted), places + job.wanted
        bagged += min(job.wanted, tiles.bag) if tiles.pooling == "attention" else 0
        most = job if job.wanted and (most is None or job.wanted > most.wanted) else most
    if most is None:
        return MapForecast(0, 0, len(tiles.mpp), max(1, model.about.recipe.views), 0.0)
    return forecast_maps(model, most, places=places, slides=slides, bagged=bagged, device=device, threads=threads, workers=workers)  # fmt: skip


def _stand_in(cases: Cases, recipe: Recipe, weights: str | Path | None, device: str) -> Model:
    """A model as ``recipe`` will make it, but for its weights."""
    settled, _ = settle_recipe(recipe, weights=weights, device=device)
    looks = preprocess_of(settled.changed(normalise="channel mean and std"), tile_facts(settled.tiles))
    looks = replace(
        looks, mean=(0.0,) * looks.channels, std=(1.0,) * looks.channels
    )  # fitted later, and as quick with any
    views = settled.tiles.views if len(settled.tiles.mpp) > 1 else ()
    about = About(settled, looks, cases.target, Origin(settled.backbone or NO_BACKBONE, 0), views=views)
    with seeded(settled.seed, 0, 0, "stand-in for the network of maps"):
        return Model(make_network(about), about)


@checked
def seconds_a_place(model: Model, job: MapJob, *, device: str = "", threads: int = 0, workers: int = 0) -> float:
    """Seconds that a place of a map takes, of a block of the slide: read, and answered by as many threads at once as will be; NaN where
    that block cannot be read."""
    device, threads = pick_device(device), threads or 2
    computes = device.partition(":")[0] == "cpu"
    workers = (workers or min(cores(), MOST_WORKERS)) if computes else 1
    block = _fullest(job)
    try:
        reading, pixels = _timed(lambda: read_block(job.slide, job.grid, job.tiles, block))
    except ImageError:
        return math.nan
    which = np.flatnonzero(pixels.read)
    if not len(which):
        return math.nan
    answers = TileAnswers.of(model, job.slide, device, largest_batch(device, job.tiles.size))
    some = pixels.tiles(which[: answers.cells])
    with pools(threads, workers) as (_, computing):

        def asked() -> Sequence[object]:
            return list(computing.map(lambda _: answers(some), range(workers)))

        asked()  # the first pass of a network is slower
        spent, calls = 0.0, 0
        while not calls or (spent < _TIMED and calls < _CALLS):
            spent, calls = spent + _timed(asked)[0], calls + 1
    reads, answered = reading / len(block), spent / (calls * workers * len(some))
    # on a processor those that read and those that compute share its cores
    return reads / min(threads, cores()) + answered if computes else max(reads / threads, answered)


def _fullest(job: MapJob) -> Block:
    """The block with the most places of the row of blocks with the most."""
    wanted = [looked_at(job.grid, job.tissue, job.tiles, band) for band in range(job.grid.bands)]
    band = max(range(job.grid.bands), key=lambda each: int(wanted[each].sum()))
    return max(blocks_of(job.grid, wanted[band], band), key=len)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found
