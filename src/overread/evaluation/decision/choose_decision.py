"""Choosing the decision rule of several classes on tuning predictions, by cross-validation over their patients."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import ArgumentError, InputError, UnsoundError, checked, nearest, one_of, require
from overread.core.identifiers import marks
from overread.core.phrases import count
from overread.evaluation.decision.class_decision import LARGEST, ClassDecision, TriedRule
from overread.evaluation.questions import ScoredCases
from overread.predictions import Predictions
from overread.stats.arrays import distinct, not_finite, patient_codes, t_quantile
from overread.stats.estimate import Estimate, rounded
from overread.stats.multiclass_rules import (
    ENOUGH,
    FOLDS,
    Fit,
    Gain,
    balanced,
    balanced_gain,
    calls,
    fit_strength,
    fit_weights,
    out_of_fold_hits,
    smallest_change,
)
from overread.stats.proportions import patient_freedom
from overread.tasks.target import Target

DECISIONS = ("auto", "argmax", "prior", "thresholds", "cost")
#: A table of costs in the forms that it may be given in.
Costs = str | Path | pd.DataFrame | Mapping[str, Mapping[str, Any]]


@checked
def choose_decision(
    tuning: Predictions, *, rule: str = "auto", costs: Costs | None = None, level: float = 0.95, seed: int = 0
) -> ClassDecision:
    """Choose how several classes are called, on tuning predictions; it remembers (hashed) the patients it has seen.

    ``rule="argmax"``: the most probable class. ``"prior"``: the argmax of log p_k − τ log π_k, π the shares of the
    classes in the tuning data, τ that of 0 … 1.25 with the best balanced accuracy (logit adjustment, Menon 2020;
    https://arxiv.org/abs/2007.07314). ``"thresholds"``: a weight for each class, by coordinate ascent, shrunk; it needs
    :data:`~overread.stats.multiclass_rules.ENOUGH` patients of every class. ``"cost"``: the smallest expected cost, by
    the table ``costs`` (rows the truth, columns the call; a path, a data frame or {truth: {call: cost}}), which needs
    calibrated probabilities. ``"auto"``: the costs where they are given; else that of the first three whose balanced
    accuracy is best on tuning patients that it was not fitted on, and of rules within noise of the best the one that
    changes least. Where nothing can be chosen (one class, one patient, scores that are no probabilities), ``auto`` stays
    with argmax and says why.

    Raises :class:`InputError` for a target that is not of several classes, for costs that do not fit its classes, and
    for scores that a rule other than argmax cannot weigh; :class:`UnsoundError` where the tuning data are too few for it.
    """
    one_of(rule, DECISIONS, "rule")
    _require_several(tuning.target)
    if rule == "cost" and costs is None:
        raise ArgumentError("the smallest expected cost needs the costs", todo="give a table: --cost-matrix costs.csv, in Python costs=…")  # fmt: skip
    if costs is not None and rule not in ("auto", "cost"):
        raise ArgumentError(f"costs have no part in the rule {rule!r}", todo="leave out the costs, or choose --decide cost")  # fmt: skip
    facts = _Tuning.of(tuning, level, seed)
    if costs is not None:
        return facts.frozen(tuning, _by_cost(facts, read_costs(costs, tuning.target.names)))
    if rule == "argmax":
        return facts.frozen(tuning, _Chosen("argmax", LARGEST, np.eye(facts.classes), "asked for"))
    reason = facts.unfit or (facts.too_few if rule == "thresholds" else "")
    if reason and rule != "auto":
        kind = InputError if facts.no_chances else UnsoundError
        raise kind(f"the rule {rule!r} cannot be chosen on these tuning data", given=reason, todo="choose --decide argmax, or auto, which takes what can be chosen")  # fmt: skip
    if reason:
        return facts.frozen(tuning, _Chosen("argmax", LARGEST, np.eye(facts.classes), f"nothing else can be chosen: {reason}"))  # fmt: skip
    return facts.frozen(tuning, _chosen(facts, rule))


@checked
def require_decidable(target: Target, *, rule: str = "auto", costs: Costs | None = None) -> None:
    """Refuse, before anything is trained, a ``rule`` or ``costs`` that this target cannot be called by.

    Raises what :func:`choose_decision` would raise of them later.
    """
    if rule != "auto" or costs is not None:
        _require_several(target)
    if costs is not None:
        read_costs(costs, target.names)


def _require_several(target: Target) -> None:
    task = target.task
    if not task.multiclass:
        todo = "choose its threshold: --sensitivity, --specificity or --cost, in Python ov.choose_threshold"
        raise InputError("a decision rule is for one label of several classes", given=task.question,
                         todo=todo if task.plural else "")  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Tuning:
    """Tuning cases whose truth is known: chances (N, K), truths and numbers of patients (N,), and what forbids a choice."""

    names: tuple[str, ...]
    chances: NDArray[np.float64]
    truth: NDArray[np.int64]
    codes: NDArray[np.int64]
    no_chances: str
    level: float
    seed: int

    @classmethod
    def of(cls, tuning: Predictions, level: float, seed: int) -> _Tuning:
        facts = ScoredCases.of(tuning)
        rows = np.flatnonzero(facts.known)
        rows = rows[np.argsort(tuning.table["case"].to_numpy()[rows], kind="stable")]  # folds whatever the rows' order
        codes = patient_codes(tuning.patients[rows], len(rows))
        why = not_finite(facts.scores[rows], name="scores") if len(rows) else ""
        return cls(facts.target.names, facts.scores[rows], facts.truth[rows], codes, why or facts.no_chances, level, seed)  # fmt: skip

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def people(self) -> NDArray[np.int64]:
        """(K,) patients of each class."""
        rows = (self.truth == k for k in range(self.classes))
        return np.array([distinct(self.codes[r]) if r.any() else 0 for r in rows])

    @property
    def unfit(self) -> str:
        """Why no rule can be fitted."""
        present = int((self.people > 0).sum())
        if present < 2:
            return f"the tuning data hold {count(present, 'class', 'classes')}"
        if distinct(self.codes) < 2:
            return "the tuning data hold one patient"
        return self.no_chances

    @property
    def too_few(self) -> str:
        """Why no class gets a weight of its own."""
        few = [f"{name} {many}" for name, many in zip(self.names, self.people) if many < ENOUGH]
        return f"fewer than {ENOUGH} tuning patients have {', '.join(few[:5])}{' …' if len(few) > 5 else ''}" if few else ""  # fmt: skip

    @property
    def absent(self) -> str:
        lost = [name for name, many in zip(self.names, self.people) if not many]
        return f"; no tuning case is {', '.join(lost[:5])}: weighed as the rarest class that is there" if lost else ""

    def estimate(self, metric: str, value: float, gain: Gain | None, how: str) -> Estimate:
        """A number on the tuning data; with the interval of a ``gain``."""
        people = distinct(self.codes) if len(self.codes) else 0
        if gain is None or people < 2:
            return Estimate(metric, value, level=self.level, method=how, images=len(self.truth), patients=people)
        half = t_quantile(self.level, patient_freedom(self.codes)) * gain.error
        return Estimate(metric, value, value - half, value + half, self.level, how, len(self.truth), people)

    def frozen(self, tuning: Predictions, chosen: _Chosen) -> ClassDecision:
        """With what it must remember of the tuning table."""
        salt = tuning.digest
        rows = tuning.take(tuning.known)
        patients = sorted(set(rows.patients))
        chosen_on = f"{count(len(rows), 'image')} of {count(len(patients), 'patient')}, predictions {salt}"
        gains = tuple(tuple(row) for row in chosen.gains.tolist())
        return ClassDecision(self.names, gains, chosen.rule, chosen.said, chosen.why, chosen_on, chosen.tried,
                             marks(patients, salt), salt, rows.case_marks(salt))  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Chosen:
    rule: str
    said: str
    gains: NDArray[np.float64]
    why: str
    tried: tuple[TriedRule, ...] = ()


# -- by balanced accuracy -------------------------------------------------------------------------------------------


def _strongest(chances: NDArray[np.float64], truth: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    return fit_strength(chances, truth, codes)[1]


_FITS: dict[str, Fit] = {"prior": _strongest, "thresholds": fit_weights}


def _chosen(facts: _Tuning, rule: str) -> _Chosen:
    """The rule that was asked for, or of ``auto`` the best; both beside argmax on patients they were not fitted on."""
    offered = ["prior", *([] if facts.too_few else ["thresholds"])] if rule == "auto" else [rule]
    data = facts.chances, facts.truth, facts.codes
    hits = {"argmax": (calls(facts.chances, np.eye(facts.classes)) == facts.truth).astype(np.float64)}
    hits |= {name: out_of_fold_hits(*data, _FITS[name], facts.seed) for name in offered}
    fitted = {name: _fitted(name, facts) for name in offered}
    tried = tuple(_tried(facts, name, hits, fitted[name][0] if name in fitted else LARGEST) for name in hits)
    wins = list(hits)[smallest_change(facts.truth, facts.codes, list(hits.values()))] if rule == "auto" else rule
    gain = {t.rule: t.gain for t in tried}
    why = _reason(rule, wins, gain) + facts.absent
    if rule == "auto" and facts.too_few:
        why += f"; thresholds per class were not tried: {facts.too_few}"
    said, gains = fitted.get(wins, (LARGEST, np.eye(facts.classes)))
    if (gains == np.eye(facts.classes)).all() and wins != "argmax":
        wins, said, why = "argmax", LARGEST, f"{why}; fitted on all of them it changes nothing"
    return _Chosen(wins, said, gains, why, tried)


def _fitted(name: str, facts: _Tuning) -> tuple[str, NDArray[np.float64]]:
    if name == "thresholds":
        return f"weights of the {facts.classes} classes", fit_weights(facts.chances, facts.truth, facts.codes)
    strength, gains = fit_strength(facts.chances, facts.truth, facts.codes)
    return f"prior-adjusted argmax (τ = {strength:g})", gains


def _tried(facts: _Tuning, name: str, hits: dict[str, NDArray[np.float64]], said: str) -> TriedRule:
    gain = balanced_gain(facts.truth, facts.codes, hits[name], hits["argmax"])
    many = min(FOLDS, distinct(facts.codes))
    how = "on tuning data" if name == "argmax" else f"on tuning patients that it was not fitted on, {many} folds"
    score = facts.estimate("balanced accuracy", balanced(facts.truth, hits[name]), None, how)
    return TriedRule(name, said, score, facts.estimate("balanced accuracy gain", gain.value, gain, f"{how}, by patient"))  # fmt: skip


def _reason(rule: str, wins: str, gains: dict[str, Estimate]) -> str:
    others = [f"{name} {_signed(e)}" for name, e in gains.items() if name not in ("argmax", wins)]
    if wins == "argmax":
        return f"nothing adds to its balanced accuracy on tuning patients beyond noise: {', '.join(others)}"
    beside = f" ({', '.join(others)})" if others else ""
    return f"{'asked for; it adds' if rule != 'auto' else 'the best: it adds'} {_signed(gains[wins])} to the balanced accuracy of argmax on tuning patients that it was not fitted on{beside}"  # fmt: skip


def _signed(e: Estimate) -> str:
    value, low, high = (f"{'' if x < 0 else '+'}{rounded(x)}" for x in (e.value, e.low, e.high))
    return value if math.isnan(e.low) else f"{value} ({low} to {high})"


# -- by cost --------------------------------------------------------------------------------------------------------


def _by_cost(facts: _Tuning, costs: NDArray[np.float64]) -> _Chosen:
    if facts.no_chances:
        raise InputError("costs can be weighed by probabilities only", given=facts.no_chances,
                         todo="divide per cent by 100, put logits through a softmax, or recalibrate: overread calibrate")  # fmt: skip
    said, why = "the smallest expected cost", "a table of costs was given"
    if not len(facts.truth):
        return _Chosen("cost", said, -costs, f"{why}; there are no tuning cases to tell what it saves")
    paid = {
        name: costs[facts.truth, calls(facts.chances, gains)]
        for name, gains in (("argmax", np.eye(facts.classes)), ("cost", -costs))
    }
    saved = paid["argmax"] - paid["cost"]
    error = float(np.linalg.norm(np.bincount(facts.codes, saved - saved.mean()))) / len(saved)
    people = distinct(facts.codes)
    gain = Gain(float(saved.mean()), error * math.sqrt(people / max(people - 1, 1)))
    how = "on tuning data"
    tried = tuple(
        TriedRule(name, text, facts.estimate("mean cost", float(paid[name].mean()), None, how),
                  facts.estimate("mean cost gain", found.value, found, f"{how}, by patient"))
        for name, text, found in (("argmax", LARGEST, Gain(0.0, 0.0)), ("cost", said, gain))
    )  # fmt: skip
    why = f"{why}: it costs {rounded(paid['cost'].mean())} a tuning case, argmax {rounded(paid['argmax'].mean())}; saved {_signed(tried[1].gain)}"  # fmt: skip
    return _Chosen("cost", said, -costs, why, tried)


@checked
def read_costs(costs: Costs, names: tuple[str, ...]) -> NDArray[np.float64]:
    """(K, K) the cost of each call (columns) for each truth (rows), in the order of ``names``.

    A file or frame has the true classes in its first column (or as its index) and the called ones as its header.
    Raises :class:`InputError` naming what is missing, unknown, twice, or no number.
    """
    table = _cost_table(costs)
    for side, found in (("rows", list(table.index)), ("columns", list(table.columns))):
        twice = sorted({name for name in found if found.count(name) > 1})
        unknown, missing = [n for n in found if n not in names], [n for n in names if n not in found]
        if twice or unknown or missing:
            what = "is twice" if twice else "is no class" if unknown else "is missing"
            which = (twice or unknown or missing)[0]
            raise InputError(f"{which!r} {what} among the {side} of the costs", given=", ".join(found)[:200],
                             todo=nearest(which, names) if unknown else f"give one row and one column for each of {', '.join(names)[:200]}")  # fmt: skip
    values = table.loc[list(names), list(names)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise InputError("a cost is no number", given=f"truth {names[row]}, call {names[column]}: {table.loc[names[row], names[column]]!r}",
                         todo="give every cell a number, 0 where a call costs nothing")  # fmt: skip
    dearer = [i for i in range(len(names)) if (values[i] < values[i, i]).any()]
    require(not dearer, "a wrong call costs less than the right one", given=names[dearer[0]] if dearer else "",
            todo="rows are the truth and columns the call; costs, not gains")  # fmt: skip
    return np.asarray(values)


def _cost_table(costs: Costs) -> pd.DataFrame:
    if isinstance(costs, (str, Path)):
        table = _cost_file(Path(costs))
    else:
        table = costs if isinstance(costs, pd.DataFrame) else pd.DataFrame(costs).T
        if isinstance(table.index, pd.RangeIndex) and len(table.columns) == len(table) + 1:
            table = table.set_index(table.columns[0])
    return table.set_axis([str(n).strip() for n in table.index], axis=0).set_axis([str(n).strip() for n in table.columns], axis=1)  # fmt: skip


def _cost_file(path: Path) -> pd.DataFrame:
    """Cells as text; separated by commas, or by semicolons or tabs, where a comma may stand in a number."""
    todo = "give a CSV with the true classes in its first column and the called ones in its first line"
    if not path.is_file():
        raise InputError("there is no table of costs here", given=str(path), todo=todo)
    try:
        text = path.read_text("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        table = pd.read_csv(io.StringIO(text), dtype=str, index_col=0, keep_default_na=False, sep=separator)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own are kinds of ValueError
        raise InputError("the table of costs cannot be read", given=path.name, todo=todo) from error
    return table if separator == "," else table.map(lambda cell: str(cell).replace(",", "."))
