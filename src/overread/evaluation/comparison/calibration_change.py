"""What mending the probabilities did to them: calibration before and after on the same test cases, paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked
from overread.evaluation.curves import ReliabilityDiagram
from overread.evaluation.ledger import record_look, verify
from overread.evaluation.recalibrate import Floats, chances, log_loss, part_of, two_columns
from overread.evaluation.results import Content, Result, to_file_form
from overread.predictions import Predictions
from overread.stats.arrays import distinct, no_ranking, patient_codes
from overread.stats.calibration.reliability import (
    EDGE,
    ece_statistic,
    intercept_and_slope,
    not_probabilities,
    null_estimate,
    reliability,
)
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import Column, Statistic, Weights, mean_statistic, resamples_for

BEFORE, AFTER = "as given", "recalibrated"
#: From this many images on fewer resamples are drawn: the intervals are narrow anyway.
LARGE, RESAMPLES = 200_000, 100


@dataclass(frozen=True)
class DiagramPair(Content):
    """The reliability diagrams of one label as given and recalibrated."""

    before: ReliabilityDiagram = ReliabilityDiagram()  # noqa: RUF009
    after: ReliabilityDiagram = ReliabilityDiagram()  # noqa: RUF009


@dataclass(frozen=True, eq=False)
class CalibrationChange(Result):
    """Each metric as given and recalibrated (``where["probabilities"]``), and the difference, after − before.

    ``curves``: per label the reliability diagrams ``before`` and ``after``; ``looks`` at the test set before this one.
    """

    file: ClassVar[str] = "calibration.json"

    estimates: tuple[Estimate, ...]
    counts: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    curves: dict[str, DiagramPair] = field(default_factory=dict)

    def held(self) -> dict[str, Any]:
        """Everything but the estimates."""
        return {**super().held(), "curves": to_file_form(self.curves)}

    def table(self) -> str:
        """A line per estimate."""
        return "\n".join(f"{e.metric:30} {e.of:16} {e}" for e in self.estimates)


@dataclass(frozen=True, eq=False)
class _BinaryLabel:
    """A yes or no with its two probabilities: truth (K,), before and after (K,), patients (K,)."""

    of: str
    truth: NDArray[np.bool_]
    before: Floats
    after: Floats
    codes: NDArray[np.int64]


@checked
def judge_calibration(
    before: Predictions,
    after: Predictions,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    model: str = "",
) -> CalibrationChange:
    """Brier score, log loss, ECE, intercept and slope of both, and what they differ by on the same patients.

    ``after``: the same cases in the same order, from :func:`overread.evaluation.recalibrate.recalibrate`. A binary
    label and findings are asked for their positives; classes for each class, and all together (Brier score and log
    loss). Intervals of differences are a paired bootstrap by patient; those of intercept and slope linearise the
    regression. Raises :class:`InputError` for other cases or an unknown truth; undefined for scores that are no
    probabilities.
    """
    same = len(before) == len(after) and bool((before.table["case"].to_numpy() == after.table["case"].to_numpy()).all())
    if not same or before.target != after.target:
        raise InputError("before and after must hold the same cases in the same order", given=f"{before}; {after}")
    asked = _asked(before, after)
    if not any(len(ask.truth) for ask in asked):
        raise InputError("no prediction has a known truth", given=str(before), todo="leave the comparison out")
    if ledger:
        verify(ledger)
    found: list[Estimate] = []
    curves: dict[str, DiagramPair] = {}
    many = resamples or (RESAMPLES if len(before) > LARGE else resamples_for(len(before)))
    if before.target.task.multiclass:
        found += _together(before, after, level, many, seed)
    for ask in asked:
        estimates, curves[ask.of] = _judged(ask, level, many, seed)
        found += estimates
    counts = {"images": len(before), "patients": int(before.table["patient"].nunique())}
    # what could not be computed is no look
    looks = record_look(ledger, model, None, after.digest, test=after) if ledger else 0
    return CalibrationChange(tuple(found), counts, looks, curves)


@checked
def said(found: Sequence[Estimate]) -> tuple[str, ...]:
    """Whether the mending helped on the judged patients, in sentences: by the log loss of all classes, or of each
    label.

    ``found``: the estimates of a :class:`CalibrationChange`.
    """
    gaps = [e for e in found if e.metric == "log loss difference" and not e.undefined and math.isfinite(e.low)]
    told = []
    for e in [e for e in gaps if not e.of] or gaps:
        of = f"the log loss of {e.of}" if e.of else "the log loss"
        size = f"{abs(e.value):.3f} ({_signed(e.low)} to {_signed(e.high)})"
        if e.low == e.high == 0:
            told.append(f"The probabilities stay as they were: {of} does not change.")
        elif e.high < 0:
            told.append(f"Better on these patients: {of} fell by {size}.")
        elif e.low > 0:
            told.append(f"Worse on these patients, by more than chance: {of} rose by {size}. The tuning patients "
                        "were too few or unlike these: what was learned on them does not hold here.")  # fmt: skip
        else:
            told.append(f"No change is shown on these patients: {of} changed by {_signed(e.value)} "
                        f"({_signed(e.low)} to {_signed(e.high)}).")  # fmt: skip
    return tuple(told)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _asked(before: Predictions, after: Predictions) -> list[_BinaryLabel]:
    found = []
    for of in before.target.task.separate_names:
        part = part_of(before, of)
        changed = chances(after, of)[part.rows]
        if before.target.task.multiclass:
            names = enumerate(before.target.names)
            found += [_BinaryLabel(n, part.truth == k, part.chance[:, k], changed[:, k], part.codes) for k, n in names]
        else:
            name = of or (before.target.positive or before.target.names[1:])[0]
            found.append(_BinaryLabel(name, part.truth == 1, part.chance[:, 1], changed[:, 1], part.codes))
    return found


def _judged(ask: _BinaryLabel, level: float, resamples: int, seed: int) -> tuple[list[Estimate], DiagramPair]:
    """The estimates of one yes or no, and its two diagrams."""
    names = ("brier", "log loss", "ece", "calibration intercept", "calibration slope")
    why = not_probabilities(ask.before) or not_probabilities(ask.after)
    if why:
        people = distinct(ask.codes)
        lost = [undefined(n, why, of=ask.of, images=len(ask.truth), patients=people) for n in names]
        return [replace(e, where=_where(w)) for e in lost for w in (BEFORE, AFTER)], DiagramPair(undefined=why)
    pair = (ask.before, ask.after)
    lines = [intercept_and_slope(ask.truth, p, ask.codes, level=level, of=ask.of) for p in pair]
    first, second = ([*_losses(ask, p), *_regressions(ask, p, line)] for p, line in zip(pair, lines))
    shared = [i for i, (a, b) in enumerate(zip(first, second)) if a is not None and b is not None]
    before, after = (_joined([s for i in shared if (s := side[i]) is not None]) for side in (first, second))
    people = int(ask.codes.max()) + 1
    many = len(ask.truth)
    pairs = bootstrap_difference(after, before, people, images=many, level=level, resamples=resamples, seed=seed)
    found: list[Estimate] = []
    for apart in pairs:
        told = apart.second, apart.first
        if apart.first.metric.startswith("calibration "):  # their own intervals are those of the report
            k = ("calibration intercept", "calibration slope").index(apart.first.metric)
            told = lines[0][k], lines[1][k]
        found += [replace(e, where=_where(w)) for e, w in zip(told, (BEFORE, AFTER))]
        found.append(apart.difference)
    found += [replace(line[k], where=_where(w)) for k in (0, 1) if k + 3 not in shared
              for line, w in zip(lines, (BEFORE, AFTER))]  # fmt: skip
    diagrams = [reliability(ask.truth, p, ask.codes, level=level, seed=seed) for p in pair]
    nulls = [null_estimate(d, level, ask.of, many, distinct(ask.codes)) for d in diagrams]
    found += [replace(e, where=_where(w)) for e, w in zip(nulls, (BEFORE, AFTER))]
    return found, DiagramPair(*map(ReliabilityDiagram.from_found, diagrams))


def _where(which: str) -> dict[str, str]:
    return {"probabilities": which}


def _losses(ask: _BinaryLabel, chance: Floats) -> list[Statistic | None]:
    people = int(ask.codes.max()) + 1
    loss = log_loss(ask.truth.astype(np.int64), two_columns(chance))
    return [
        mean_statistic("brier", (chance - ask.truth) ** 2, ask.codes, people, of=ask.of),
        mean_statistic("log loss", loss, ask.codes, people, of=ask.of),
        ece_statistic(ask.truth, chance, ask.codes, people, of=ask.of),
    ]


def _regressions(ask: _BinaryLabel, chance: Floats, line: tuple[Estimate, Estimate]) -> list[Statistic | None]:
    """Intercept and slope under weights, linear in them: the influence of each patient."""
    inside = np.clip(chance, EDGE, 1 - EDGE)
    logit = np.log(inside / (1 - inside))
    one = np.ones((len(logit), 1))
    if no_ranking(ask.truth, chance):
        return [None, None]
    return [
        None if line[0].undefined else _linear(ask, one, logit, line[0]),
        None if line[1].undefined else _linear(ask, np.column_stack([one, logit]), 0 * logit, line[1]),
    ]


def _linear(ask: _BinaryLabel, columns: Floats, offset: Floats, fitted: Estimate) -> Statistic:
    """The last coefficient, ``fitted``, as a function of the patients' weights (one Newton step from it)."""
    base = offset + columns[:, -1] * fitted.value
    start = 0.0
    for _ in range(50 if columns.shape[1] == 2 else 0):  # the other coefficient, given the last
        chance = 1 / (1 + np.exp(-np.clip(base + start, -500, 500)))
        move = float((ask.truth - chance).sum() / max(float((chance * (1 - chance)).sum()), 1e-12))
        start += min(max(move, -2.0), 2.0)
        if abs(move) < 1e-10:
            break
    chance = 1 / (1 + np.exp(-np.clip(base + start, -500, 500)))
    hessian = columns.T @ (columns * (chance * (1 - chance))[:, None])
    influence = (columns * (ask.truth - chance)[:, None]) @ np.linalg.inv(hessian)[:, -1]
    per = np.bincount(ask.codes, influence)
    column = Column(fitted.metric, ask.of, len(chance), distinct(ask.codes), "plain", note="linearised")

    def compute(weights: Weights) -> NDArray[np.float64]:
        return (fitted.value + weights @ per - per.sum())[:, None]

    return Statistic((column,), compute)


def _joined(statistics: Sequence[Statistic]) -> Statistic:
    """Several statistics as one, so that they share their resamples."""

    def compute(weights: Weights) -> NDArray[np.float64]:
        return np.column_stack([s.compute(weights) for s in statistics])

    return Statistic(tuple(c for s in statistics for c in s.columns), compute)


def _together(before: Predictions, after: Predictions, level: float, resamples: int, seed: int) -> list[Estimate]:
    """The Brier score summed over classes, and the log loss of the true class."""
    part = part_of(before, "")
    pair = part.chance, chances(after, "")[part.rows]
    why = next(filter(None, (not_probabilities(p.ravel()) for p in pair)), "")
    if why:
        return [replace(undefined(m, why, images=len(part.rows)), where=_where(w))
                for m in ("brier", "log loss") for w in (BEFORE, AFTER)]  # fmt: skip
    people = int(patient_codes(part.codes, len(part.codes)).max()) + 1

    def losses(chance: Floats) -> Statistic:
        square = ((chance - np.eye(chance.shape[1])[part.truth]) ** 2).sum(axis=1)
        note = "summed over the classes"
        return _joined([
            mean_statistic("brier", square, part.codes, people, note=note),
            mean_statistic("log loss", log_loss(part.truth, chance), part.codes, people),
        ])  # fmt: skip

    pairs = bootstrap_difference(
        losses(pair[1]), losses(pair[0]), people, images=len(part.rows), level=level, resamples=resamples, seed=seed
    )
    return [
        e
        for d in pairs
        for e in (replace(d.second, where=_where(BEFORE)), replace(d.first, where=_where(AFTER)), d.difference)
    ]
