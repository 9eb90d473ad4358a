"""Rules by which a threshold is chosen: what is searched for on a ROC curve, and which of its steps it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.errors import ArgumentError, checked, one_of, require
from overread.stats.readers_points import ReaderPoint

RULES = ("youden", "sensitivity", "specificity", "cost", "reader")


@dataclass(frozen=True)
class Wish:
    """What is asked of a threshold: a rule and its number; ``said`` if the rule is to be told in other words."""

    rule: str
    goal: float = 1.0
    prevalence: float | None = None
    said: str = ""


@checked
def wish_of(
    rule: str,
    sensitivity: float | None,
    specificity: float | None,
    cost: float | None,
    prevalence: float | None,
    reader: ReaderPoint | tuple[float, float] | None,
    match: str,
) -> Wish:
    """The rule and its number from the arguments of :func:`~overread.evaluation.operating.choose_threshold`."""
    wanted = {"sensitivity": sensitivity, "specificity": specificity, "cost": cost, "reader": reader}
    given = [name for name, value in wanted.items() if value is not None]
    require(
        len(given) < 2,
        "give a sensitivity, a specificity, a cost or a reader, not both",
        given=", ".join(given),
    )
    rule = given[0] if given else one_of(rule, RULES, "rule")
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    require(
        prevalence is None or rule == "cost", "a prevalence says something with a cost only", given=rule,
        todo="give cost=…, or leave it out",
    )  # fmt: skip
    if rule == "reader":
        return _matched(reader, one_of(match, ("sensitivity", "specificity"), "match"))
    if rule == "cost":
        if cost is None or not 0 < cost < math.inf:
            raise ArgumentError(
                "the cost of a missed case over that of a false alarm must be positive", given=cost
            )
        return Wish(rule, cost, prevalence)
    goal = {"sensitivity": sensitivity, "specificity": specificity}.get(rule)
    if rule != "youden" and (goal is None or not 0 < goal <= 1):
        raise ArgumentError(f"the wanted {rule} must lie between 0 and 1", given=goal)
    return Wish(rule, 1.0 if goal is None else goal)


def _matched(reader: ReaderPoint | tuple[float, float] | None, match: str) -> Wish:
    if reader is None:
        raise ArgumentError("no reader was given to match", todo="give reader=(sensitivity, specificity)")
    rates = reader if isinstance(reader, tuple) else (reader.sensitivity.value, reader.specificity.value)
    goal = dict(zip(("sensitivity", "specificity"), rates))[match]
    if not 0 < goal <= 1:
        raise ArgumentError(f"the reader's {match} must lie between 0 and 1", given=goal)
    return Wish(match, goal, said=f"reader's {match}")


@checked
def criterion_of(wish: Wish, share: float) -> tuple[str, float, str]:
    """What the curve is searched for (a slope, a sensitivity or a specificity), its number, and the rule in words."""
    if wish.rule == "youden":
        return "slope", 1.0, "youden"
    if wish.rule != "cost":
        return wish.rule, wish.goal, f"{wish.said or wish.rule} ≥ {wish.goal:.4g}"
    chance = share if wish.prevalence is None else wish.prevalence
    slope = (1 - chance) / (chance * wish.goal)
    where = "of the tuning data" if wish.prevalence is None else "of the clinic"
    return "slope", slope, f"cost {wish.goal:g}:1 at prevalence {chance:.3g} {where}, ROC slope {slope:.3g}"


@checked
def pick(fpr: NDArray[np.float64], tpr: NDArray[np.float64], kind: str, goal: float) -> NDArray[np.int64]:
    """(B,) the step chosen on each of B curves (B, G): the first that reaches a sensitivity, the last that keeps a
    specificity, the last of the best at a slope."""
    if kind == "sensitivity":
        return (tpr >= goal - 1e-12).argmax(axis=1)
    if kind == "specificity":
        good = 1 - fpr >= goal - 1e-12
    else:
        gain = tpr - goal * fpr
        good = gain >= gain.max(axis=1, keepdims=True) - 1e-12 * max(1.0, goal)
    return good.shape[1] - 1 - good[:, ::-1].argmax(axis=1)


@checked
def cuts_of(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) between the last score called positive and the next; just above all scores at 0, below them at the end."""
    top, bottom = float(thresholds[1]), float(thresholds[-1])
    above = math.nextafter(top, math.inf) + 1e-6 * max(1.0, abs(top))
    below = bottom - 1e-6 * max(1.0, abs(bottom))
    return np.concatenate(([above], (thresholds[1:-1] + thresholds[2:]) / 2, [below]))
