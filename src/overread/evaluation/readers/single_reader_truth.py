"""99 % against 97 %: what an accuracy against one reader's labels can mean, and what a panel would tell instead.

A model that learned a reader's labels can agree with her more often than she is right. Which true accuracies fit what was
measured, what a perfect model would have shown, how two models stand, and how many readers settle it, is computed here from
the readers' own error rates; no case is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from overread.core.errors import InputError, checked, require
from overread.core.files import plain
from overread.core.phrases import count
from overread.evaluation.results import Result
from overread.stats.agreement.imperfect_truth import (
    MOST_READERS,
    CallRates,
    difference_bounds,
    majority,
    measured_accuracy,
    order_is_certain,
    readers_needed,
    repeated_errors,
    true_accuracies,
    true_accuracy_bounds,
)
from overread.stats.arrays import normal_quantile
from overread.stats.estimate import Estimate
from overread.stats.power import patients_for_paired_proportions
from overread.stats.proportions import wilson

#: The panels that are told of, beside the one that was asked for.
PANELS = (1, 3, 5, 7, 9)
#: Whose numbers they are.
MODELS = ("first model", "second model")


@dataclass(frozen=True)
class LabelTerms:
    """What was measured, on how many cases, and against whom.

    ``accuracy`` and ``other``: what the models showed against the labels. ``sensitivity`` and ``specificity`` of every
    reader, ``prevalence`` of the disease; ``panel``: the readers whose majority may stand in her place; ``alike``: the
    correlation of readers' errors on a case; ``shared``: the errors that a model shares with the labels, from 0 (no more
    than by chance) to 1 (as many as can be).
    """

    accuracy: float
    other: float
    cases: int
    sensitivity: float
    specificity: float
    prevalence: float
    panel: int
    alike: float
    shared: float
    level: float

    @property
    def reader(self) -> CallRates:
        """One reader."""
        return CallRates(self.sensitivity, self.specificity)

    @property
    def measured(self) -> tuple[float, float]:
        """Of the first model and of the second."""
        return self.accuracy, self.other


@dataclass(frozen=True)
class CompatibleTruth:
    """The true accuracies that fit what one model showed against labels that are wrong now and then.

    ``low`` and ``high``: whatever errors it shares with the labels; ``sampled_low`` and ``sampled_high``: and whatever the
    cases at hand were by chance, at the level asked for. ``independent``: where it shares none but by chance (empty: no
    such model would show that much), ``shared``: where it shares as many as was said. ``repeated``: the least share of the
    labels' errors that it must repeat. ``by_perfect``: the chance that a perfect model shows as much or more.
    """

    measured: float
    low: float
    high: float
    sampled_low: float
    sampled_high: float
    independent: tuple[float, ...] = ()
    shared: tuple[float, ...] = ()
    repeated: float = 0.0
    by_perfect: float = 0.0


@dataclass(frozen=True)
class LabelPanel:
    """What is known where the majority of so many ``readers`` is the truth: 1 is one reader.

    ``accuracy`` of their labels, which is the most that a perfect model would show on average, and from ``shown_low`` to
    ``shown_high`` on the cases at hand. ``models``: of each what fits what it showed. ``gap_low`` … ``gap_high``: the
    first model's true accuracy minus the second's. ``certain``: whether their order is. ``would_show``: what models of
    these true accuracies would show, and ``needed``: the cases that it takes to tell them apart, None where there is no
    telling.
    """

    readers: int
    sensitivity: float
    specificity: float
    accuracy: float
    shown_low: float
    shown_high: float
    models: tuple[CompatibleTruth, ...]
    gap_low: float
    gap_high: float
    certain: bool
    would_show: tuple[float, float]
    needed: int | None

    @property
    def name(self) -> str:
        """In words.

        >>> LabelPanel(3, 1, 1, 1, 1, 1, (), 0, 0, True, (1, 1), None).name
        'majority of 3 readers'
        """
        return "one reader" if self.readers == 1 else f"majority of {self.readers} readers"


@dataclass(frozen=True, eq=False)
class SingleReaderTruth(Result):
    """What two accuracies against one reader's labels can mean, and against panels of more.

    ``panels``: from one reader on. ``settles``: the smallest panel that makes the order of the two certain, None where
    not even one of 101 readers does, or both showed the same.
    """

    file: ClassVar[str] = "single_reader.json"

    terms: LabelTerms
    panels: tuple[LabelPanel, ...]
    settles: int | None = None

    def __getitem__(self, readers: int) -> LabelPanel:
        """``truth[1]``: one reader; ``truth[5]``: the majority of five."""
        found = {panel.readers: panel for panel in self.panels}
        if readers not in found:
            raise InputError(
                "there is no panel of that many", given=readers, todo=f"choose from {', '.join(map(str, found))}"
            )
        return found[readers]

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Of each panel the ceiling, and the lowest and highest true accuracy of each model."""
        t = self.terms
        found = []
        for panel in self.panels:
            where = {"labels": panel.name}
            how = f"binomial range of a perfect model on {count(t.cases, 'case')}"
            found.append(
                Estimate(
                    "ceiling", panel.accuracy, panel.shown_low, panel.shown_high, t.level, how, t.cases, where=where
                )
            )
            for of, model in zip(MODELS, panel.models, strict=True):
                for end in ("lowest", "highest"):
                    value = getattr(model, "low" if end == "lowest" else "high")
                    found.append(Estimate(f"{end} true accuracy", value, level=t.level, method="bound, whatever errors are shared",
                                          images=t.cases, of=of, where=where))  # fmt: skip
        return tuple(found)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        lines = ["The readers' sensitivity and specificity are taken as given: they come from a truth better than the readers, "
                 "such as pathology or follow-up, or they are a guess.",
                 "The same two accuracies are looked at against every panel. Measured anew against a panel, they would be others."]  # fmt: skip
        if not self.terms.alike:
            lines.append("Readers of a panel are taken to err independently of each other. Where a case deceives everybody, "
                         "a panel helps less: say --readers-alike.")  # fmt: skip
        return tuple(lines)

    def __repr__(self) -> str:
        one = self.panels[0]
        return f"{_percent(self.terms.accuracy)} and {_percent(self.terms.other)} against one reader who is right in {_percent(one.accuracy)}"

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> SingleReaderTruth:
        """The result from what its two files hold."""
        found = super().restored(held, metrics)
        if not found.panels or plain(found.estimates) != metrics:
            raise cls.damaged(cls.file)
        return found

    def table(self) -> str:
        """The answer as text for a terminal."""
        return "\n".join(said(self))


@checked
def said(found: SingleReaderTruth) -> list[str]:
    """The answer in sentences: what was measured, what a perfect model would show, what fits, and who settles it."""
    t, one = found.terms, found.panels[0]
    lines = [f"Measured against one reader who is right in {_percent(one.accuracy)} of the cases: {_percent(t.accuracy)} and {_percent(t.other)}, on {count(t.cases, 'case')}.",
             f"A perfect model would show {_percent(one.accuracy)} against this reader on average, "
             f"and between {_percent(one.shown_low)} and {_percent(one.shown_high)} on so many cases ({_percent(t.level, 0)} of the time)."]  # fmt: skip
    for of, model in zip(MODELS, one.models, strict=True):
        fits = f"The {of}, which showed {_percent(model.measured)}, is right in {_percent(model.low)} to {_percent(model.high)} of the cases"
        fits += (
            f" ({_percent(model.sampled_low)} to {_percent(model.sampled_high)} with what chance did to these cases)."
        )
        if model.repeated > 0:
            fits += f" It repeats at least {_percent(model.repeated, 0)} of the reader's errors."
        elif model.independent:
            fits += f" If it shares no errors with the reader but by chance: {_either(model.independent)}."
        lines.append(fits)
    order = "is certain" if one.certain else "is open"
    lines.append(
        f"Which of the two is better {order}: the first is better than the second by {_points(one.gap_low)} to {_points(one.gap_high)} points."
    )
    if t.accuracy == t.other:
        return lines
    if found.settles is None:
        lines.append(f"No panel of up to {MOST_READERS} such readers settles the order.")
    elif found.settles > 1:
        lines.append(f"The majority of {found.settles} such readers would settle it: labels that are wrong in less than half of the difference, {_points(abs(t.accuracy - t.other) / 2)} points.")  # fmt: skip
    return lines


def _either(values: tuple[float, ...]) -> str:
    return " or ".join(f"{_percent(value)}" for value in values)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-", "−")


@checked
def single_reader_truth(
    *,
    accuracy: float = 0.99,
    other: float = 0.97,
    cases: int = 1000,
    reader_accuracy: float | None = None,
    reader_sensitivity: float | None = None,
    reader_specificity: float | None = None,
    prevalence: float = 0.5,
    panel: int = 3,
    alike: float = 0.0,
    shared: float = 0.0,
    level: float = 0.95,
) -> SingleReaderTruth:
    """What two accuracies against one reader's labels can mean, given how often such a reader is right.

    ``accuracy`` and ``other``: measured on ``cases`` independent cases. ``reader_accuracy``, or her sensitivity and
    specificity at a ``prevalence``. ``panel``: an odd number of readers whose majority is looked at as well; ``alike`` and
    ``shared`` as :class:`LabelTerms`. Forms as in :mod:`overread.stats.agreement.imperfect_truth`, the interval of what was
    measured Wilson's. Raises :class:`ArgumentError` for numbers out of range, and for a reader no better than a coin.

    >>> found = single_reader_truth(reader_accuracy=0.97)
    >>> [round(x, 2) for m in found[1].models for x in (m.low, m.high)]
    [0.96, 0.98, 0.94, 1.0]
    >>> found.settles
    3
    """
    rates = _reader(reader_accuracy, reader_sensitivity, reader_specificity)
    for name, share in (("what the first model showed", accuracy), ("what the second model showed", other)):
        require(0 < share <= 1, f"{name} must lie between 0 and 1", given=share)
    require(0 < prevalence < 1, "the prevalence must lie between 0 and 1, without these two", given=prevalence)
    require(cases >= 1, "there must be at least one case", given=cases)
    require(0 <= shared <= 1, "the share of errors that are shared must lie between 0 and 1", given=shared)
    require(0.5 <= level < 1, "the level must lie between .5 and 1", given=level)
    require(1 <= panel <= MOST_READERS, f"a panel has 1 to {MOST_READERS} readers", given=panel)
    require(rates.accuracy(prevalence) > 0.5, "such a reader is no better than a coin", given=f"{rates.accuracy(prevalence):.3g} of the cases right",
            todo="give a reader who is right in more than half of the cases")  # fmt: skip
    terms = LabelTerms(float(accuracy), float(other), cases, rates.sensitivity, rates.specificity, float(prevalence), panel,
                       float(alike), float(shared), float(level))  # fmt: skip
    gap = abs(accuracy - other)
    settles = readers_needed(rates, prevalence, 1 - gap / 2, alike=alike) if gap else None
    sizes = sorted({*PANELS, panel, *([settles] if settles else [])})
    return SingleReaderTruth(terms, tuple(_panel(terms, readers) for readers in sizes), settles)


def _reader(accuracy: float | None, sensitivity: float | None, specificity: float | None) -> CallRates:
    both = sensitivity is not None and specificity is not None
    either = sensitivity is not None or specificity is not None
    require((accuracy is None) == both and either == both, "it depends on how often such a reader is right",
            given=f"accuracy {accuracy}, sensitivity {sensitivity}, specificity {specificity}",
            todo="give --reader-accuracy, or --reader-sensitivity and --reader-specificity")  # fmt: skip
    return CallRates(float(sensitivity), float(specificity)) if sensitivity is not None and specificity is not None else CallRates(float(accuracy or 0), float(accuracy or 0))  # fmt: skip


def _panel(terms: LabelTerms, readers: int) -> LabelPanel:
    labels = majority(terms.reader, readers, alike=terms.alike)
    right = labels.accuracy(terms.prevalence)
    low, high = binomial_range(right, terms.cases, terms.level)
    would = tuple(measured_accuracy(CallRates(a, a), labels, terms.prevalence) for a in terms.measured)
    gaps = difference_bounds(*terms.measured, right)
    return LabelPanel(readers, labels.sensitivity, labels.specificity, right, low, high,
                      tuple(_compatible(measured, labels, right, terms) for measured in terms.measured),
                      *gaps, order_is_certain(*terms.measured, right), (would[0], would[1]), _cases_needed(terms, would))  # fmt: skip


def _compatible(measured: float, labels: CallRates, right: float, terms: LabelTerms) -> CompatibleTruth:
    least, most = wilson(measured, terms.cases, normal_quantile(terms.level))
    bounds = true_accuracy_bounds(measured, right)
    sampled = true_accuracy_bounds(measured, right, least=min(least, measured), most=max(most, measured))
    independent, shared = (true_accuracies(measured, labels, terms.prevalence, shared=s) for s in (0.0, terms.shared))
    repeated = repeated_errors(measured, right)
    return CompatibleTruth(measured, *bounds, *sampled, independent, shared, 0.0 if math.isnan(repeated) else repeated,
                           at_least(right, terms.cases, measured))  # fmt: skip


def _cases_needed(terms: LabelTerms, would: tuple[float, ...]) -> int | None:
    """To tell two models of these true accuracies apart, by McNemar's test with a power of 80 %, whose errors are their own.

    They differ on as many cases whoever gives the labels; only how often the better is the one that agrees changes.
    """
    first, second = terms.measured
    if would[0] == would[1] or not all(0 < x < 1 for x in would):
        return None
    apart = first * (1 - second) + second * (1 - first)
    return patients_for_paired_proportions(would[0], would[1], discordant=apart, of="all").patients


@checked
def binomial_range(share: float, cases: int, level: float) -> tuple[float, float]:
    """The shares between which a proportion of ``share`` lies on ``cases`` cases, but for (1 − level)/2 at each side.

    >>> binomial_range(0.97, 1000, 0.95)
    (0.959, 0.98)
    """
    from scipy.stats import binom

    tail = (1 - level) / 2
    return float(binom.ppf(tail, cases, share)) / cases, float(binom.ppf(1 - tail, cases, share)) / cases


@checked
def at_least(share: float, cases: int, measured: float) -> float:
    """The chance that a proportion of ``share`` comes out at ``measured`` or more on ``cases`` cases.

    >>> round(at_least(0.97, 100, 0.99), 3)
    0.195
    """
    from scipy.stats import binom

    return float(binom.sf(math.ceil(measured * cases - 1e-9) - 1, cases, share))
