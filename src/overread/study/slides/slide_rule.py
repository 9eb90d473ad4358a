"""How the heat maps of a model are read: the rule of a slide's score and the threshold of its lesions, chosen on tuning slides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.files import build, read_fields, write_json
from overread.core.phrases import count
from overread.learning.recipe import Recipe
from overread.slides.heat_map import SlideMaps
from overread.slides.slide_score import SCORES, choose_score
from overread.stats.froc import CAMELYON16, froc_curve, height_at

#: The score of a slide that no rule makes of its map.
ATTENTION = "attention over its tiles"
#: Beside ``model.json``: how its heat maps are read.
FILE = "slides.json"
#: False positives a tuning slide, on the mean, that the threshold of lesions lets pass.
FALSE_ALLOWED = 1.0
#: Windows that are tried, in places a side; and lesions of the tuning part without which none is chosen.
WINDOWS, FEWEST = (1, 3, 5, 7), 3
#: Digits to which tables of places are written: a threshold is rounded down to them, so that the place that it was chosen by reaches it.
_TO_NINE = Context(prec=9, rounding=ROUND_FLOOR)
#: The threshold where no tuning slide has outlines: that of Liu 2017 (arXiv:1703.02442, section 3).
USUAL_THRESHOLD = 0.5


@dataclass(frozen=True)
class SlideReading:
    """``score``: the rule of a slide's score; ``threshold``: the probability from which a place is called a lesion; why each;
    ``areas``: the area under the ROC curve of each rule on the tuning slides. ``window``: the score of a place is the mean over a square of
    so many places a side."""

    score: str
    score_why: str
    threshold: float
    threshold_why: str
    areas: dict[str, float] = field(default_factory=dict, hash=False)
    window: int = 1
    window_why: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """As the terminal tells it."""
        scored = "single places" if self.window == 1 else f"means over {self.window} × {self.window} places"
        return (f"  score of a slide: {self.score} — {self.score_why}", *([f"  places: {scored} — {self.window_why}"] if self.window_why else []),
                f"  lesions: from {self.threshold:.3f} on — {self.threshold_why}")  # fmt: skip

    def save(self, model: str | Path) -> Path:
        """Write into the folder of the model, which is returned."""
        write_json(Path(model) / FILE, self)
        return Path(model)

    @classmethod
    def load(cls, model: str | Path) -> SlideReading:
        """Read what :meth:`save` wrote. Raises :class:`InputError` where it is missing or damaged."""
        return build(cls, read_fields(Path(model) / FILE), where=FILE)


@checked
def choose_reading(
    recipe: Recipe, mapped: SlideMaps, truth: NDArray[np.int64], marks: Mapping[int, pd.DataFrame], outlined: int, lesions: int
) -> SlideReading:  # fmt: skip
    """How to read the maps of a model, by those of tuning slides.

    ``mapped``: the maps by row; ``truth`` (slides,) 1 with a lesion, 0 without, −1 not
    known. ``marks``: by window the places found on them, with ``score`` and ``region`` (0 … a lesion, −1 none, below: not judged);
    ``outlined``: slides whose lesions are known, among which false positives are counted; ``lesions``: those to find there.
    """
    asked = recipe.tiles.score
    known = [(found, int(truth[row])) for row, found in mapped.maps.items() if truth[row] >= 0]
    window, window_why = _window(recipe.tiles.window, marks, outlined, lesions)
    threshold, why = _threshold(marks[window], outlined)
    score, score_why, areas = asked, "the recipe says so", dict[str, float]()
    if recipe.tiles.pooling == "attention":
        score, score_why = ATTENTION, "the model answers for a slide by all of its tiles"
    elif asked == "auto":
        scores = [[found.score(rule) for found, _ in known] for rule in SCORES]
        choice = choose_score(scores, [label for _, label in known])
        score, score_why, areas = choice.rule, choice.why, choice.areas
    return SlideReading(score, score_why, threshold, why, areas, window, window_why)


@checked
def windows(recipe: Recipe) -> tuple[int, ...]:
    """The windows that tuning slides choose among, in places a side: that of the recipe, or :data:`WINDOWS`."""
    return (recipe.tiles.window,) if recipe.tiles.window else WINDOWS


def _window(asked: int, marks: Mapping[int, pd.DataFrame], outlined: int, lesions: int) -> tuple[int, str]:
    """The window with the highest mean sensitivity over :data:`.CAMELYON16`'s false positives a tuning slide; of equal ones the smallest."""
    if asked:
        return asked, "the recipe says so"
    if lesions < FEWEST or not outlined:
        return min(marks), f"the tuning part has {count(lesions, 'known lesion')}, too few to choose by"
    found = {window: _mean_sensitivity(table, outlined, lesions) for window, table in marks.items()}
    best = max(found, key=lambda window: (round(found[window], 9), -window))
    others = ", ".join(f"{window} {value:.3f}" for window, value in found.items() if window != best)
    return best, f"the most lesions found over ¼ to 8 false alarms a slide on {count(outlined, 'tuning slide')}, {found[best]:.3f} (places a side: {others})"  # fmt: skip


def _mean_sensitivity(marks: pd.DataFrame, outlined: int, lesions: int) -> float:
    """Of so many lesions on so many slides; which slide a mark lies on does not matter, for rates are of all together."""
    judged = marks[marks["region"] >= -1]
    hit = np.full(len(judged), -1)
    on = judged["region"].to_numpy() >= 0
    hit[on] = judged[on].groupby(["case", "region"]).ngroup()
    none = np.zeros(len(judged), np.int64)
    false, true, _ = froc_curve(np.zeros(lesions, np.int64), none, judged["score"].to_numpy(np.float64), hit, outlined)
    return float(np.mean([height_at(false[None], true[None], np.array([rate])) for rate in CAMELYON16]))


def _threshold(marks: pd.DataFrame, outlined: int) -> tuple[float, str]:
    """The highest threshold with the most lesions found while tuning slides have at most :data:`FALSE_ALLOWED` false positives each."""
    if not outlined:
        return USUAL_THRESHOLD, "no tuning slide has known lesions to choose by"
    allowed = math.floor(FALSE_ALLOWED * outlined)
    false = np.sort(marks["score"][marks["region"] == -1].to_numpy(np.float64))[::-1]
    bound = false[allowed] if len(false) > allowed else -1.0  # above it no more than are allowed
    hits = marks[marks["region"] >= 0]
    best = hits.groupby(["case", "region"])["score"].max().to_numpy(np.float64)
    best = best[best > bound]
    told = f"at most {FALSE_ALLOWED:g} false positive a slide on {count(outlined, 'tuning slide')}"
    if not len(best):
        return max(float(np.nextafter(bound, 2.0)), USUAL_THRESHOLD), f"{told}, where no lesion was found"
    return _floor(float(best.min())), f"the most lesions found, {len(best):,}, with {told}"


def _floor(score: float) -> float:
    return float(_TO_NINE.create_decimal_from_float(score))
