"""Ceiling analysis: each stage of a chain is replaced by the truth in turn, and what the whole gains is what the stage costs.

After A. Ng's course on machine learning (2011, "Ceiling analysis: what part of the pipeline to work on next"): the stages
before are right once they are replaced, so the gain at each step is that of its stage alone, and what is left at the end is
the last stage's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.phrases import aligned
from overread.evaluation.results import Result
from overread.predictions import Predictions
from overread.stats.arrays import distinct, patient_codes
from overread.stats.discrimination.delong import auc_difference
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import Estimate, p_text
from overread.stats.resample import Column, bootstrap, of_sums, per_patient


@dataclass(frozen=True)
class CeilingStep:
    """A stage of a chain, and what it costs.

    ``stage``: its name. ``before``: the metric with all earlier stages replaced by the truth; ``after``: with this one
    replaced besides (1 where the last stage would be right). ``cost``: ``after`` − ``before``, paired, with its interval;
    ``p`` of no cost.
    """

    stage: str
    before: Estimate
    after: Estimate
    cost: Estimate
    p: float = math.nan


@dataclass(frozen=True, eq=False)
class Ceiling(Result):
    """What each stage of a chain costs, in ``metric`` (``of`` a class), on the cases of ``part``.

    ``steps`` in the order of the chain. ``notes``: what was chosen anew, and on which cases.
    """

    file: ClassVar[str] = "ceiling.json"

    metric: str
    of: str
    part: str
    steps: tuple[CeilingStep, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The metric as it is and after each step, and the cost of each stage."""
        return tuple(each for step in self.steps for each in (step.before, step.cost))

    @property
    def dearest(self) -> str:
        """The stage that costs most, blank where no interval of a cost lies above 0."""
        sure = [step for step in self.steps if step.cost.low > 0]
        return max(sure, key=lambda step: step.cost.value).stage if sure else ""

    @property
    def verdict(self) -> str:
        """One sentence: what to work on."""
        whole = self.steps[0].before
        if not self.dearest:
            return f"{self.metric} {whole}: no stage's cost is told from 0 on these cases."
        step = next(step for step in self.steps if step.stage == self.dearest)
        return f"Most is lost in {step.stage}: with the truth in its place {self.metric} rises by {step.cost} from {step.before.value:.3f} to {step.after.value:.3f}."

    def __repr__(self) -> str:
        return f"ceiling analysis of {len(self.steps)} stages by {self.metric}"

    def table(self) -> str:
        """A line a stage, then the verdict and the notes."""
        head = ("stage", f"{self.metric} before", "with the truth in its place", "cost", "p")
        rows = [(s.stage, str(s.before), str(s.after), str(s.cost), p_text(s.p)) for s in self.steps]
        return "\n".join([*aligned([head, *rows]), self.verdict, *self.notes])


@checked
def ceiling(
    systems: Sequence[Predictions], stages: Sequence[str], *, part: str = "", level: float = 0.95, notes: Sequence[str] = ()
) -> Ceiling:  # fmt: skip
    """What each of ``stages`` costs in AUC: ``systems[0]`` is the chain as it is, ``systems[i]`` has the first i stages right.

    One stage more than replaced systems, since the last stage's ceiling is an AUC of 1; or as many, where the last system
    has all stages replaced. Predictions of the same cases in any order. Paired by case and clustered by patient (DeLong,
    see :func:`.auc_difference`). Raises :class:`InputError` where the systems do not hold the same cases.
    """
    require(len(systems) >= 1 and len(stages) == len(systems), "each system has its next stage", given=f"{len(systems)} systems, {len(stages)} stages")  # fmt: skip
    first = systems[0]
    names = first.target.positive
    require(first.target.task.exclusive and bool(names), "a ceiling analysis needs a positive class", given=", ".join(first.target.names), todo="say which: --positive CLASS")  # fmt: skip
    rows, truth, score = _question(first)
    cases = first.table["case"].iloc[rows].tolist()
    scores = [score, *(_of_the_same(each, cases) for each in systems[1:])]
    patients, of = first.patients[rows], ", ".join(names)
    values = [_named(auc(truth, each, patients, level=level, of=of), "auc", stages, i) for i, each in enumerate(scores)]
    steps = []
    for i, stage in enumerate(stages):
        if i + 1 < len(scores):
            found = auc_difference(truth, scores[i + 1], scores[i], patients, level=level, of=of)
            cost, p, after = found.difference, found.p, values[i + 1]
        else:
            cost, p, after = _left(values[i]), math.nan, _right(values[i])
        steps.append(CeilingStep(stage, values[i], after, _named(cost, "cost", (stage,), 1), p))
    return Ceiling("auc", of, part, tuple(steps), tuple(notes))


@checked
def ceiling_of_counts(
    systems: Sequence[NDArray[np.float64]], stages: Sequence[str], patients: NDArray[Any], *, metric: str = "f1@0.5", of: str = "",
    part: str = "", level: float = 0.95, seed: int = 0, notes: Sequence[str] = (),
) -> Ceiling:  # fmt: skip
    """The same of a metric of counts: the mean over classes of F1 = 2 TP / (2 TP + FP + FN), pooled over images.

    ``systems``: of each (N, C, 3) true positives, false positives and false negatives of the C classes in the N images;
    ``patients`` (N,). Differences by one bootstrap of patients for all of them. A class without any object in truth or
    answer is left out of a resample.
    """
    require(len(systems) >= 1 and len(stages) == len(systems), "each system has its next stage", given=f"{len(systems)} systems, {len(stages)} stages")  # fmt: skip
    codes = patient_codes(patients, len(systems[0]))
    count, classes = int(codes.max()) + 1, systems[0].shape[1]
    flat = np.concatenate([each.reshape(len(codes), -1) for each in systems], axis=1)
    cells = per_patient(codes, count, *flat.T)
    columns = [Column("", of, len(codes), distinct(codes), "share", count, reason="no objects") for _ in systems]
    columns += [Column("", of, len(codes), distinct(codes), "plain", reason="no objects") for _ in systems[1:]]

    def made(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        true, wrong, missed = np.moveaxis(sums.reshape(len(sums), len(systems), classes, 3), -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = 2 * true / (2 * true + wrong + missed)  # (B, systems, classes)
            mean = np.nansum(f1, axis=2) / np.isfinite(f1).sum(axis=2)
        return np.concatenate([mean, np.diff(mean, axis=1)], axis=1)

    found = bootstrap([of_sums(tuple(columns), cells, made)], count, images=len(codes), level=level, seed=seed)
    values = [_named(e, metric, stages, i) for i, e in enumerate(found[: len(systems)])]
    steps = []
    for i, stage in enumerate(stages):
        last = i + 1 == len(systems)
        cost = _left(values[i]) if last else found[len(systems) + i]
        after = _right(values[i]) if last else values[i + 1]
        steps.append(CeilingStep(stage, values[i], after, _named(cost, "cost", (stage,), 1)))
    return Ceiling(metric, of, part, tuple(steps), tuple(notes))


def _right(value: Estimate) -> Estimate:
    """What a chain reaches that has nothing wrong."""
    return replace(value, value=1.0, low=1.0, high=1.0, method="by definition", where={"right": "everything"})


def _left(value: Estimate) -> Estimate:
    """What is missing to 1."""
    return Estimate("cost", 1 - value.value, 1 - value.high, 1 - value.low, value.level, value.method, value.images, value.patients, value.of)  # fmt: skip


def _named(found: Estimate, metric: str, stages: Sequence[str], right: int) -> Estimate:
    """Under which stages are right, so that no two estimates have one name."""
    where = {"stage": stages[0]} if metric == "cost" else {"right": ", ".join(stages[:right]) or "nothing"}
    return replace(found, metric=metric, where=where)


def _of_the_same(system: Predictions, cases: Sequence[str]) -> NDArray[np.float64]:
    rows, _, score = _question(system)
    held = dict(zip(system.table["case"].iloc[rows], score, strict=True))
    if set(held) != set(cases):
        raise InputError("the systems of a ceiling analysis were asked about different cases", given=f"{len(held)} and {len(cases)} cases")  # fmt: skip
    return np.array([held[case] for case in cases])


def _question(system: Predictions) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Rows whose class is known, whether it is a positive one, and the sum of the probabilities of these."""
    positive = [system.target.names.index(name) for name in system.target.positive]
    rows = np.flatnonzero(system.truth >= 0)
    return rows, np.isin(system.truth[rows], positive), system.scores[rows][:, positive].sum(axis=1)
