"""One number for a slide, of its heat map: by which of a few rules is chosen on tuning slides."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.phrases import count
from overread.stats.discrimination.roc import auc

__all__ = ["SCORES", "ScoreChoice", "choose_score", "parted", "slide_score"]

#: The rules that are tried, the simplest first: the highest cell (Liu 2017), and the mean of the highest few.
SCORES = ("maximum", "mean of 3", "mean of 10", "mean of 30", "mean of 100")
#: Slides of either class without which nothing is chosen.
FEWEST = 3
#: Probabilities nearer to 0 or 1 are not told apart, whatever the bits of a map: with 8 there is nothing between them. And the least
#: spread of log odds, so that slides which are all alike part no classes infinitely.
_LEAST, _SPREAD = 1 / 512, 0.1
_MEAN = re.compile(r"mean of ([1-9]\d{0,4})")


@dataclass(frozen=True)
class ScoreChoice:
    """The rule of a slide's score, why it was taken, and the area under the ROC curve of each rule on the tuning slides."""

    rule: str
    why: str
    areas: dict[str, float] = field(default_factory=dict, hash=False)
    slides: int = 0

    def __post_init__(self) -> None:
        highest(self.rule)

    @property
    def line(self) -> str:
        """As the terminal tells it."""
        return f"  score of a slide: {self.rule} — {self.why}"


@checked
def highest(rule: str) -> int:
    """How many of the highest cells a rule takes the mean of. Raises :class:`InputError` for what is no rule.

    >>> highest("maximum"), highest("mean of 10")
    (1, 10)
    """
    if rule == "maximum":
        return 1
    if (found := _MEAN.fullmatch(rule)) is None:
        raise InputError("there is no such score of a slide", given=rule[:40], todo=f"say {', '.join(SCORES)}, or mean of another number")  # fmt: skip
    return int(found[1])


@checked
def slide_score(codes: NDArray[np.unsignedinteger], rule: str) -> float:
    """The score 0 … 1 of a slide by its heat map's ``codes`` (H, W): the mean over the highest cells that the ``rule`` names,
    over all of them where there are fewer; NaN where nobody looked at any.

    >>> slide_score(np.array([[0, 255], [128, 1]], np.uint8), "maximum")
    1.0
    """
    number, full = highest(rule), 2 ** (8 * codes.dtype.itemsize) - 2
    levels = np.bincount(codes.ravel(), minlength=full + 2)[1:][::-1]  # cells of each code, the highest first
    taken = np.diff(np.minimum(np.cumsum(levels), number), prepend=0)
    there = int(taken.sum())
    return float((taken * np.arange(full, -1, -1)).sum() / full / there) if there else math.nan


@checked
def choose_score(scores: Sequence[Sequence[float]], truth: Sequence[int], rules: Sequence[str] = SCORES) -> ScoreChoice:
    """The rule whose scores order the tuning slides best, by the area under the ROC curve; of equal ones that which parts the
    classes most (:func:`parted`), for a few tuning slides are soon ordered without a fault; of these the first.

    ``scores`` (rules, slides), NaN of slides that have none; ``truth`` (slides,) 0 or 1. Where either class has fewer than
    :data:`FEWEST` slides the first rule stands, for nothing can be chosen.
    """
    require(
        len(scores) == len(rules) > 0, "there is a row of scores for each rule", given=f"{len(scores)} for {len(rules)}"
    )
    held, known = np.asarray(scores, np.float64).reshape(len(rules), -1), np.asarray(truth)
    require(held.shape[1] == len(known), "there is a score for each slide", given=f"{held.shape[1]} for {len(known)}")
    there = np.isfinite(held).all(axis=0)
    held, known = held[:, there], known[there]
    classes = int((known == 1).sum()), int((known == 0).sum())
    if min(classes) < FEWEST:
        why = f"the tuning part has {count(classes[0], 'slide')} with and {classes[1]} without, too few to choose by"
        return ScoreChoice(rules[0], why, {}, len(known))
    areas = {rule: float(auc(known, each).value) for rule, each in zip(rules, held, strict=True)}
    first = [rule for rule in rules if round(areas[rule], 9) == round(max(areas.values()), 9)]
    apart = {rule: parted(known, each) for rule, each in zip(rules, held, strict=True)}
    best = max(first, key=lambda rule: round(apart[rule], 9))
    others = ", ".join(f"{rule} {area:.3f}" for rule, area in areas.items() if rule not in first)
    why = f"on {len(known)} tuning slides the best area under the ROC curve, {areas[best]:.3f}" + (f" ({others})" if others else "")  # fmt: skip
    if len(first) > 1:
        rest = ", ".join(f"{rule} {apart[rule]:.1f}" for rule in first if rule != best)
        some = "all" if len(first) == len(rules) else len(first)
        most = f"it parts the classes most, by {apart[best]:.1f} standard deviations ({rest})"
        why += f"; of {some} rules with this area {most if len({round(apart[rule], 9) for rule in first}) > 1 else 'all part the classes alike, and it is the first'}"  # fmt: skip
    return ScoreChoice(best, why, areas, len(known))


@checked
def parted(truth: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """How far apart the log odds of the ``scores`` 0 … 1 (slides,) of the two classes lie: the difference of their means over
    their pooled standard deviation (Cohen 1988, d), which counts as :data:`_SPREAD` at least. Probabilities nearer to 0 or 1 than
    :data:`_LEAST` count as that.

    >>> round(parted(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.9, 0.8])), 2)
    6.25
    """
    kept = np.clip(scores, _LEAST, 1 - _LEAST)
    odds = np.log(kept / (1 - kept))
    yes, no = odds[truth == 1], odds[truth == 0]
    spread = math.sqrt((((yes - yes.mean()) ** 2).sum() + ((no - no.mean()) ** 2).sum()) / max(1, len(odds) - 2))
    return float((yes.mean() - no.mean()) / max(spread, _SPREAD))
