"""How many patients a study needs, and how far the answer moves with what was assumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from overread.core.errors import InputError, checked, require
from overread.core.files import plain
from overread.core.phrases import count
from overread.evaluation.results import Result
from overread.stats.estimate import Estimate
from overread.stats.power import (
    Design,
    SampleSize,
    patients_for_auc,
    patients_for_auc_difference,
    patients_for_paired_proportions,
    patients_for_proportion,
)

#: Half-way and more of what was asked, for the neighbours of an answer.
NEAR = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
#: Shares of the width, and powers, at which the curve of a figure is drawn.
WIDTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)
POWERS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99)
#: Whose share each metric is.
AMONG = {"sensitivity": "positives", "specificity": "negatives", "accuracy": "all"}


@dataclass(frozen=True)
class Goal:
    """What a study wants of one metric: an interval of a ``width``, or ``power`` against another value.

    ``value`` is expected; ``against``: that of the other on the same cases. ``margin`` > 0: not inferior by it.
    """

    metric: str
    value: float
    width: float = 0.0
    against: float = 0.0
    margin: float = 0.0
    power: float = 0.8

    def __str__(self) -> str:
        if not self.against:
            return f"{self.metric} {self.value:g}, interval no wider than {self.width:g}"
        how = f"not inferior by {self.margin:g}" if self.margin else "different"
        return f"{self.metric} {self.value:g} against {self.against:g}: {how}, power {self.power:g}"


@dataclass(frozen=True)
class Assumptions:
    """What a size rests on besides the goal: the patients, the level, and how alike two models are."""

    design: Design = field(default_factory=Design)
    level: float = 0.95
    alike: float = 0.5
    discordant: float | None = None
    variance: str = "hanley"

    @property
    def alpha(self) -> float:
        """The one-sided alpha that fits the level of the interval."""
        return round((1 - self.level) / 2, 12)


@dataclass(frozen=True, eq=False)
class Plan(Result):
    """The patients that every goal needs, and for each goal its own size, neighbours and curve.

    ``neighbours``: rows of ``goal``, ``changed``, ``value``, ``patients``. ``curves``: per goal the ``patients``
    for widths or powers ``at``.
    """

    file: ClassVar[str] = "plan.json"

    goals: tuple[Goal, ...]
    sizes: tuple[SampleSize, ...]
    terms: Assumptions
    neighbours: tuple[dict[str, Any], ...] = ()
    curves: tuple[dict[str, Any], ...] = field(default_factory=tuple)

    @property
    def needed(self) -> SampleSize:
        """The size that is enough for every goal."""
        return max(self.sizes, key=lambda size: size.patients)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The numbers needed, which are exact and have no interval."""
        need = self.needed
        return tuple(
            Estimate(f"{name} needed", float(getattr(need, name)), level=self.terms.level, method=need.method,
                     images=need.images, patients=need.patients)
            for name in ("patients", "positives", "negatives", "images")
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"plan of {count(self.needed.patients, 'patient')} for {count(len(self.goals), 'goal')}"

    def table(self) -> str:
        """The sizes as text for a terminal."""
        need, design = self.needed, self.terms.design
        lines = [f"{count(need.patients, 'patient')}: {need.positives:,} with and {need.negatives:,} without the disease"
                 + (f", {count(need.images, 'image')}" if design.images > 1 else "")]  # fmt: skip
        lines += [
            f"  {goal}: {count(size.patients, 'patient')} ({size.method})" for goal, size in zip(self.goals, self.sizes)
        ]
        return "\n".join([*lines, f"  {about(self.terms)}"])

    def held(self) -> dict[str, Any]:
        """The fields, and the size that is enough for every goal."""
        return {**super().held(), "needed": self.needed}

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> Plan:
        """The plan from what its two files hold."""
        found = super().restored(held, metrics)
        if not found.sizes or len(found.sizes) != len(found.goals) or plain(found.estimates) != metrics:
            raise cls.damaged(cls.file)
        return found


@checked
def about(terms: Assumptions) -> str:
    """What the sizes rest on, in words."""
    design = terms.design
    said = f"prevalence {100 * design.prevalence:g} %, {100 * terms.level:g} % interval (one-sided α {terms.alpha:g})"
    if design.images > 1:
        said += (f", {design.images:g} images of each patient correlated by {design.correlation:g} "
                 f"(design effect {design.effect:.3g})")  # fmt: skip
    return said


@checked
def plan(
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
    auc: float | None = None,
    accuracy: float | None = None,
    width: float | None = None,
    against: float | None = None,
    margin: float = 0.0,
    power: float = 0.8,
    prevalence: float = 0.5,
    images: float = 1.0,
    correlation: float = 0.5,
    alike: float = 0.5,
    discordant: float | None = None,
    level: float = 0.95,
    variance: str = "hanley",
) -> Plan:
    """How many patients are needed, for each metric given, and for all of them together.

    With ``width``: an interval no wider. With ``against``: to show a difference from that value on the same cases
    with ``power``, or with ``margin`` > 0 that it is not inferior. ``prevalence`` of the disease among patients;
    ``images`` of each, correlated by ``correlation``; ``alike``: how two AUCs on the same cases correlate;
    ``discordant``: the share of cases on which two models disagree (without it independent errors). Methods as in
    :mod:`overread.stats.power`. Raises :class:`ArgumentError` for numbers out of range, or nothing asked.

    >>> plan(sensitivity=0.9, width=0.1, prevalence=0.2).needed.patients
    705
    """
    given = {"sensitivity": sensitivity, "specificity": specificity, "auc": auc, "accuracy": accuracy}
    expected = {metric: value for metric, value in given.items() if value is not None}
    todo = "give a sensitivity, a specificity, an AUC or an accuracy that you expect"
    require(bool(expected), "nothing is asked", todo=todo)
    require((width is None) != (against is None), "say how wide the interval may be, or what to compare with",
            given=f"width {width}, against {against}", todo="give one of width and against")  # fmt: skip
    require(not margin or against is not None, "a margin needs something to compare with", given=margin,
            todo="give against: what the other reaches on the same cases")  # fmt: skip
    require(against is None or len(expected) == 1, "one comparison at a time", given=", ".join(expected),
            todo="plan each by itself; the largest number is enough for all")  # fmt: skip
    _refuse(expected, width, against, margin, power, prevalence, images)
    design = Design(float(prevalence), float(images), float(correlation))
    terms = Assumptions(design, float(level), float(alike), discordant, variance)
    asked = [float(x or 0.0) for x in (width, against, margin, power)]
    goals = tuple(Goal(m, float(v), *asked) for m, v in expected.items())
    return Plan(
        goals,
        tuple(size_for(goal, terms) for goal in goals),
        terms,
        tuple(row for goal in goals for row in neighbours(goal, terms)),
        tuple(curve(goal, terms) for goal in goals),
    )


def _refuse(
    expected: dict[str, float], width: float | None, against: float | None, margin: float, power: float,
    prevalence: float, images: float,
) -> None:  # fmt: skip
    """Numbers that no study can be planned with, each by its name."""
    shares = {**{f"the expected {metric}": value for metric, value in expected.items()}, "the width of the interval": width,
              "what the other reaches": against}  # fmt: skip
    for name, share in shares.items():
        require(share is None or 0 < share < 1, f"{name} must lie between 0 and 1, without these two", given=share)
    require(0.5 < power < 1, "the power must lie between .5 and 1", given=power, todo="usual are 0.8 and 0.9")
    require(1 <= images < math.inf, "there must be at least 1 image per patient", given=images)
    require(0 < prevalence <= 1, "the prevalence must lie between 0 and 1", given=prevalence)
    for metric, value in expected.items() if against is not None else ():
        effect = value - (against or 0) + margin if margin else abs(value - (against or 0))
        why = "lies below the other's by the margin or more" if margin else "is that of the other"
        require(effect > 0, f"no number of patients would show it: the expected {metric} {why}",
                given=f"{value:g} against {against:g}, margin {margin:g}", todo="give a larger margin, or another value")  # fmt: skip


@checked
def size_for(goal: Goal, terms: Assumptions) -> SampleSize:
    """The patients that one goal needs; with and without the disease add up to them."""
    size = _size(goal, terms)
    if AMONG.get(goal.metric) == "negatives":
        return replace(size, positives=size.patients - size.negatives)
    return replace(size, negatives=size.patients - size.positives)


def _size(goal: Goal, terms: Assumptions) -> SampleSize:
    design, level = terms.design, terms.level
    if not goal.against:
        if goal.metric == "auc":
            return patients_for_auc(goal.value, goal.width, design, variance=terms.variance, level=level)
        return patients_for_proportion(goal.value, goal.width, design, of=AMONG[goal.metric], level=level)
    claim = {"margin": goal.margin, "power": goal.power, "alpha": terms.alpha}
    if goal.metric == "auc":
        return patients_for_auc_difference(goal.value, goal.against, design, alike=terms.alike,
                                           variance=terms.variance, **claim)  # fmt: skip
    return patients_for_paired_proportions(goal.value, goal.against, design, discordant=terms.discordant,
                                           of=AMONG[goal.metric], **claim)  # fmt: skip


@checked
def neighbours(goal: Goal, terms: Assumptions) -> list[dict[str, Any]]:
    """The answers next to the one asked for: other widths or powers, prevalences, expected values, correlations."""
    rows: list[dict[str, Any]] = []

    def add(changed: str, values: list[float], change: Callable[[float], tuple[Goal, Assumptions]]) -> None:
        for value in values:
            size = _tried(change, value)
            if size:
                rows.append({"goal": str(goal), "changed": changed, "value": value, **_counts(size)})

    if goal.against:
        add("power", [0.7, 0.8, 0.9, 0.95], lambda x: (replace(goal, power=x), terms))
        if goal.margin:
            add("margin", _near(goal.margin, 0.5), lambda x: (replace(goal, margin=x), terms))
    else:
        add("width", _near(goal.width, 0.99), lambda x: (replace(goal, width=x), terms))
    add(goal.metric, _around(goal.value), lambda x: (replace(goal, value=x), terms))
    if goal.metric != "accuracy":
        add("prevalence", _near(terms.design.prevalence, 0.95), lambda x: (goal, _designed(terms, prevalence=x)))
    if terms.design.images > 1:
        add("correlation", [0.0, 0.25, 0.5, 0.75, 1.0], lambda x: (goal, _designed(terms, correlation=x)))
    if goal.against and goal.metric == "auc":
        add("correlation of the two AUCs", [0.0, 0.3, 0.5, 0.7], lambda x: (goal, replace(terms, alike=x)))
    return rows


@checked
def curve(goal: Goal, terms: Assumptions) -> dict[str, Any]:
    """Patients against the width of the interval, or against the power."""
    powered = bool(goal.against)
    at = list(POWERS) if powered else [goal.width * x for x in WIDTHS if goal.width * x < 0.95]
    what = "power" if powered else "width"
    change = (lambda x: replace(goal, power=x)) if powered else (lambda x: replace(goal, width=x))
    sizes = [_tried(lambda x: (change(x), terms), x) for x in at]
    known = [(x, s.patients) for x, s in zip(at, sizes) if s]
    return {"goal": str(goal), "metric": goal.metric, "what": what, "at": [x for x, _ in known],
            "patients": [n for _, n in known], "asked": goal.power if powered else goal.width,
            "needed": size_for(goal, terms).patients}  # fmt: skip


def _tried(change: Callable[[float], tuple[Goal, Assumptions]], value: float) -> SampleSize | None:
    """None where a neighbour has no answer, such as a difference that there would not be."""
    try:
        return size_for(*change(value))
    except InputError:
        return None


def _designed(terms: Assumptions, **changes: float) -> Assumptions:
    return replace(terms, design=replace(terms.design, **changes))


def _counts(size: SampleSize) -> dict[str, int]:
    return {n: getattr(size, n) for n in ("patients", "positives", "negatives", "images")}


def _near(value: float, most: float) -> list[float]:
    return [round(value * x, 6) for x in NEAR if value * x < most]


def _around(value: float) -> list[float]:
    return [x for x in (round(value + step, 6) for step in (-0.05, -0.025, 0.0, 0.025, 0.05)) if 0.5 <= x < 1]
