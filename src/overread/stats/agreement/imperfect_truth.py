"""What a share measured against fallible readers can mean: closed forms for one reader, and for a panel's majority.

Whoever is judged against labels that are wrong in a share of the cases is measured by agreement, not by accuracy. With two
answers, a model is wrong where either the reader is wrong or the two disagree, not both: from this alone the bounds follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from overread.core.errors import checked, require

#: Panels beyond this many readers are not looked for.
MOST_READERS = 101


@dataclass(frozen=True)
class CallRates:
    """How often somebody calls cases with the disease (``sensitivity``) and without it (``specificity``) rightly, 0 … 1.

    Raises :class:`ArgumentError` for numbers out of range.
    """

    sensitivity: float
    specificity: float

    def __post_init__(self) -> None:
        for name, value in (("sensitivity", self.sensitivity), ("specificity", self.specificity)):
            require(0 <= value <= 1, f"a {name} must lie between 0 and 1", given=value)

    def accuracy(self, prevalence: float) -> float:
        """The share called rightly where ``prevalence`` of the cases have the disease.

        >>> CallRates(0.9, 1.0).accuracy(0.5)
        0.95
        """
        return prevalence * self.sensitivity + (1 - prevalence) * self.specificity


@checked
def majority_right(right: float, readers: int, *, alike: float = 0.0) -> float:
    """How often the majority of ``readers``, each right with a chance ``right``, is right; an odd number of them.

    ``alike``: the correlation of their errors on a case, 0 ≤ alike < 1, by a beta-binomial law (Williams 1975): some cases
    deceive everybody. At 0 it is Condorcet's theorem.

    >>> round(majority_right(0.9, 3), 3), round(majority_right(0.9, 3, alike=0.3), 3)
    (0.972, 0.927)
    """
    require(0 <= right <= 1, "a share of right calls must lie between 0 and 1", given=right)
    require(
        readers >= 1 and readers % 2 == 1,
        "a panel that decides by majority has an odd number of readers",
        given=readers,
    )
    require(0 <= alike < 1, "the correlation of errors must lie in 0 ≤ alike < 1", given=alike)
    found = 0.0
    for votes in range(readers // 2 + 1, readers + 1):
        chance = float(math.comb(readers, votes))
        # Each reader in turn, given those before: (mean · (1 − ρ) + earlier ones alike · ρ) / (1 − ρ + earlier ones · ρ).
        for place in range(readers):
            hit, base = place < votes, right if place < votes else 1 - right
            before = place if hit else place - votes
            chance *= (base * (1 - alike) + before * alike) / (1 - alike + place * alike)
        found += chance
    return min(1.0, found)


@checked
def majority(rates: CallRates, readers: int, *, alike: float = 0.0) -> CallRates:
    """Sensitivity and specificity of the majority of so many readers, each with these ``rates``."""
    return CallRates(*(majority_right(rate, readers, alike=alike) for rate in (rates.sensitivity, rates.specificity)))


@checked
def readers_needed(rates: CallRates, prevalence: float, accuracy: float, *, alike: float = 0.0) -> int | None:
    """The smallest odd panel whose majority is right in more than ``accuracy`` of the cases; None: not even 101 are enough.

    >>> readers_needed(CallRates(0.9, 0.9), 0.5, 0.99)
    5
    """
    _shares(prevalence=prevalence, accuracy=accuracy)
    for readers in range(1, MOST_READERS + 1, 2):
        if majority(rates, readers, alike=alike).accuracy(prevalence) > accuracy:
            return readers
    return None


@checked
def measured_accuracy(model: CallRates, reference: CallRates, prevalence: float, *, shared: float = 0.0) -> float:
    """The accuracy that a ``model`` shows against the labels of a ``reference``.

    Among cases of one truth, e and f the shares that the two get wrong, they are wrong together in a share
    e·f + ``shared`` · (min(e, f) − e·f): 0 where errors are independent given the truth, 1 where as many are shared as can
    be (D' of Lewontin 1964). They agree where both are right or both are wrong.

    >>> round(measured_accuracy(CallRates(1, 1), CallRates(0.97, 0.97), 0.5), 3)
    0.97
    """
    _shares(prevalence=prevalence, shared=shared)
    pairs = ((model.sensitivity, reference.sensitivity), (model.specificity, reference.specificity))
    ill, well = (_agreement(1 - ours, 1 - theirs, shared) for ours, theirs in pairs)
    return prevalence * ill + (1 - prevalence) * well


def _agreement(error: float, other: float, shared: float) -> float:
    both = error * other + shared * (min(error, other) - error * other)
    return 1 - error - other + 2 * both


@checked
def true_accuracies(
    measured: float, reference: CallRates, prevalence: float, *, shared: float = 0.0
) -> tuple[float, ...]:
    """The accuracies of a model that would show just ``measured`` against a ``reference``, highest first; none may.

    The model is taken to err as often with the disease as without it; ``shared`` as :func:`measured_accuracy`. What it
    shows is a line between the errors of the reference, so there may be two answers; of a line that is level its ends.

    >>> [round(x, 3) for x in true_accuracies(0.95, CallRates(0.97, 0.97), 0.5)]
    [0.979]
    >>> true_accuracies(0.99, CallRates(0.97, 0.97), 0.5)
    ()
    """
    _shares(measured=measured, prevalence=prevalence, shared=shared)
    knots = sorted({0.0, 1 - reference.sensitivity, 1 - reference.specificity, 1.0})
    shown = [measured_accuracy(CallRates(1 - e, 1 - e), reference, prevalence, shared=shared) for e in knots]
    found: set[float] = set()
    for left, right, here, there in zip(knots, knots[1:], shown, shown[1:]):
        if abs(there - here) < 1e-15:
            found |= {left, right} if abs(here - measured) < 1e-12 else set()
        elif -1e-12 <= (share := (measured - here) / (there - here)) <= 1 + 1e-12:
            found.add(left + min(max(share, 0.0), 1.0) * (right - left))
    errors = sorted(found)
    kept = [error for at, error in enumerate(errors) if not at or error - errors[at - 1] > 1e-9]
    return tuple(1 - error for error in kept)


@checked
def true_accuracy_bounds(measured: float, reference: float, *, least: float | None = None, most: float | None = None) -> tuple[float, float]:  # fmt: skip
    """The lowest and highest accuracy of a model that showed ``measured`` against labels of accuracy ``reference``.

    Whatever its errors share with those of the labels: with x the share of disagreements and f that of wrong labels, the
    model's errors lie in |f − x| … min(f + x, 2 − f − x), and each of them can be. ``least`` and ``most``: the interval of
    ``measured``, over which the widest bounds are taken. Two answers.

    >>> [round(x, 3) for x in true_accuracy_bounds(0.99, 0.97)], [round(x, 3) for x in true_accuracy_bounds(0.97, 0.97)]
    ([0.96, 0.98], [0.94, 1.0])
    """
    low, high = measured if least is None else least, measured if most is None else most
    _shares(measured=measured, reference=reference, least=low, most=high)
    require(low <= measured <= high, "the interval must hold what was measured", given=(low, measured, high))
    wrong, few, many = 1 - reference, 1 - high, 1 - low
    at = min(max(1 - wrong, few), many)  # where f + x is 1, as wrong as can be
    closest = min(max(wrong, few), many)
    return max(0.0, 1 - min(wrong + at, 2 - wrong - at)), 1 - abs(wrong - closest)


@checked
def repeated_errors(measured: float, reference: float) -> float:
    """The least share of the reference's errors that a model must repeat to show ``measured`` against it; 0 … 1.

    Wrong together are at least f − x of the cases. NaN where the reference has no errors.

    >>> round(repeated_errors(0.99, 0.97), 3), repeated_errors(0.96, 0.97)
    (0.667, 0.0)
    """
    _shares(measured=measured, reference=reference)
    wrong, apart = 1 - reference, 1 - measured
    return max(0.0, wrong - apart) / wrong if wrong > 0 else math.nan


@checked
def difference_bounds(first: float, second: float, reference: float) -> tuple[float, float]:
    """The least and the most by which the first model's accuracy is above the second's, in truth.

    ``first`` and ``second`` were measured against the same labels of accuracy ``reference`` on the same cases. Where only
    one of them disagrees with the label, a wrong label turns the difference round: it lies in first − second −
    2·min(f, 1 − second) … first − second + 2·min(f, 1 − first) (less where f is large).

    >>> [round(x, 3) for x in difference_bounds(0.99, 0.97, 0.97)]
    [-0.04, 0.04]
    """
    _shares(first=first, second=second, reference=reference)
    wrong, apart, other = 1 - reference, 1 - first, 1 - second

    def turned(x: float) -> tuple[float, float]:  # the least and the most of the cases that are disagreed on rightly
        return max(0.0, wrong + x - 1), min(wrong, x)

    (our_least, our_most), (their_least, their_most) = turned(apart), turned(other)
    gap = other - apart
    return gap + 2 * (our_least - their_most), gap + 2 * (our_most - their_least)


@checked
def order_is_certain(first: float, second: float, reference: float) -> bool:
    """Whether the model that showed more must be the better one: where less than half of the difference is wrong labels.

    >>> order_is_certain(0.99, 0.97, 0.97), order_is_certain(0.99, 0.97, 0.995)
    (False, True)
    """
    low, high = difference_bounds(first, second, reference)
    return low > 1e-12 or high < -1e-12


def _shares(**shares: float) -> None:
    for name, value in shares.items():
        require(0 <= value <= 1, f"{name} must lie between 0 and 1", given=value)
