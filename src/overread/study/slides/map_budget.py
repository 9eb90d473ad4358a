"""What of a budget is kept for the heat maps of the tuning and the test slides, which may take longer than the training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import checked
from overread.core.phrases import count
from overread.study.context import RunContext

if TYPE_CHECKING:
    from overread.images.slides.tile_settings import Tiles
    from overread.learning.recipe import Recipe
    from overread.slides.map_forecast import MapForecast

__all__ = ["MapBudget", "reserve_for_maps"]

#: The share of the time left that training has whatever maps take: a map by what has learned nothing tells nothing.
LEAST_TRAINING = 0.25
#: Maps are kept so much more time than a block that was timed foretells: slides differ, and tables are written.
ROOM = 1.2


@dataclass(frozen=True)
class MapBudget:
    """How the seconds ``left`` of a budget are dealt between training, heat maps as ``found``, and ``closing`` what comes after them."""

    found: MapForecast
    left: float
    closing: float

    @property
    def maps(self) -> float:
        """Seconds that heat maps need; none where nothing could be timed."""
        return 0.0 if math.isnan(self.found.seconds) else ROOM * self.found.seconds

    @property
    def reserve(self) -> float:
        """Seconds that training leaves: what maps and closing need, but for what training has in any case."""
        return max(self.closing, min(self.maps + self.closing, (1 - LEAST_TRAINING) * self.left))

    @property
    def training(self) -> float:
        """Seconds that training has."""
        return max(0.0, self.left - self.reserve)

    @property
    def beyond(self) -> float:
        """Seconds by which the run will outlast its budget."""
        return self.maps + self.closing - min(self.reserve, self.left)

    def line(self, tiles: Tiles) -> str:
        """The plan in one line; where the budget is too short also what makes maps quicker than those of ``tiles``."""
        from overread.learning.auto import duration

        found = self.found
        what = f"the heat maps {'and bags ' * bool(found.bagged)}of {count(found.slides, 'slide')}, {found.tiles:,} tiles in {count(found.views, 'orientation')}"
        if math.isnan(found.seconds):
            return f"  time: how long {what}, take is not known: the place that was tried cannot be read"
        if not self.beyond:
            return f"  time: {duration(self.maps)} of the budget are kept for {what}"
        ways = self._quicker(tiles) if self.maps else []
        return (
            f"  time: {what}, take about {duration(self.maps)}, and {duration(max(0.0, self.left))} of the budget are left: training has "
            f"{duration(self.training)} of them, and the run will outlast its budget by about {duration(self.beyond)}. "
            f"{'Quicker: ' + ', '.join(ways) + '; or a' if ways else 'It needs a'} longer --budget"
        )

    def _quicker(self, tiles: Tiles) -> list[str]:
        """What makes maps quicker than those of ``tiles``, and how long they take then; a stride beyond the size is none, as places between
        would never be looked at."""
        from overread.learning.auto import duration

        found, wide = self.found, 2 * tiles.stride
        share = (found.places / 4 + found.bagged) / (found.places + found.bagged)
        ways = [f"--set views=1 (about {duration(self.maps / found.views)})"] if found.views > 1 else []
        return [*ways, f"--set tiles.stride={wide} (about {duration(self.maps * share)})"] if wide <= tiles.size else ways  # fmt: skip


@checked
def reserve_for_maps(context: RunContext, cases: Cases, parts: Split) -> float | Callable[..., tuple[float, str]]:
    """Seconds of the budget that training leaves for heat maps and what follows, by the recipe once it is settled, and the plan in a line;
    without a budget, where nothing is timed, the seconds alone."""
    if context.clock.limit is None:
        return context.closing

    def reserve(recipe: Recipe) -> tuple[float, str]:
        from overread.slides.map_forecast import forecast_recipe

        resources, threads = context.study.resources, context.study.resources.threads
        asked = cases.take(np.concatenate([parts.rows(cases, part) for part in ("tuning", "test")]))
        found = forecast_recipe(asked, recipe, weights=context.study.training.weights or None, cache=context.cache, device=resources.device,
                                threads=threads, workers=threads, progress=context.progress)  # fmt: skip
        planned = MapBudget(found, context.clock.left, context.closing)
        return planned.reserve, planned.line(recipe.tiles)

    return reserve
