"""How the heat maps of a model are read: the rule of a slide's score and the threshold of its lesions, chosen on tuning slides."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.files import build, read_fields, write_json
from overread.core.phrases import count
from overread.learning.recipe import Recipe
from overread.slides.heat_map import SlideMaps
from overread.slides.slide_score import SCORES, ScoreChoice, choose_score

#: The score of a slide that no rule makes of its map.
ATTENTION = "attention over its tiles"
#: Beside ``model.json``: how its heat maps are read.
FILE = "slides.json"
#: False positives a tuning slide, on the mean, that the threshold of lesions lets pass.
FALSE_ALLOWED = 1.0
#: The threshold where no tuning slide has outlines: that of Liu 2017 (arXiv:1703.02442, section 3).
USUAL_THRESHOLD = 0.5


@dataclass(frozen=True)
class SlideReading:
    """``score``: the rule of a slide's score; ``threshold``: the probability from which a place is called a lesion; why each;
    ``areas``: the area under the ROC curve of each rule on the tuning slides."""

    score: str
    score_why: str
    threshold: float
    threshold_why: str
    areas: dict[str, float] = field(default_factory=dict, hash=False)

    @property
    def lines(self) -> tuple[str, str]:
        """As the terminal tells it."""
        return (f"  score of a slide: {self.score} — {self.score_why}", f"  lesions: from {self.threshold:.3f} on — {self.threshold_why}")  # fmt: skip

    def save(self, model: str | Path) -> Path:
        """Write into the folder of the model, which is returned."""
        write_json(Path(model) / FILE, self)
        return Path(model)

    @classmethod
    def load(cls, model: str | Path) -> SlideReading:
        """Read what :meth:`save` wrote. Raises :class:`InputError` where it is missing or damaged."""
        return build(cls, read_fields(Path(model) / FILE), where=FILE)


@checked
def choose_reading(recipe: Recipe, mapped: SlideMaps, truth: NDArray[np.int64], marks: pd.DataFrame, outlined: int) -> SlideReading:  # fmt: skip
    """How to read the maps of a model, by those of tuning slides.

    ``mapped``: the maps by row; ``truth`` (slides,) 1 with a lesion, 0 without, −1 not
    known. ``marks``: the places found on them, with ``score`` and ``region`` (0 … a lesion, −1 none, below: not judged);
    ``outlined``: slides whose lesions are known, among which false positives are counted.
    """
    asked = recipe.tiles.score
    known = [(found, int(truth[row])) for row, found in mapped.maps.items() if truth[row] >= 0]
    if recipe.tiles.pooling == "attention":
        threshold, why = _threshold(marks, outlined)
        return SlideReading(ATTENTION, "the model answers for a slide by all of its tiles", threshold, why)
    if asked == "auto":
        scores = [[found.score(rule) for found, _ in known] for rule in SCORES]
        choice = choose_score(scores, [label for _, label in known])
    else:
        choice = ScoreChoice(asked, "the recipe says so")
    threshold, why = _threshold(marks, outlined)
    return SlideReading(choice.rule, choice.why, threshold, why, choice.areas)


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
    return float(best.min()), f"the most lesions found, {len(best):,}, with {told}"
