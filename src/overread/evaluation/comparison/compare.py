"""Two models on the same cases, or on different patients: every difference with its interval and its p value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.core.files import plain
from overread.evaluation.comparison.claims import Declaration, Ledgers, Verdict, look, met, paths_of, subject
from overread.evaluation.comparison.comparison import Comparison
from overread.evaluation.comparison.differences import contrast, paired_differences, unpaired_differences
from overread.evaluation.comparison.pairing import Asked, Pair, asked_of, half_and_chosen, pair
from overread.evaluation.estimators import Intervals, missing_difference, relabelled
from overread.evaluation.ledger import truth_hash, verify
from overread.evaluation.operating_point import OperatingPoint, positives, refuse_seen
from overread.evaluation.subgroups import FEWEST, subgroups
from overread.predictions import Predictions
from overread.stats.arrays import normal_quantile, patient_codes
from overread.stats.estimate import Difference
from overread.stats.hypotheses import holm

#: Rows (N,) of the first and of the second table.
Sides = tuple[NDArray[np.bool_], NDArray[np.bool_]]


@checked
def compare(
    first: Predictions,
    second: Predictions,
    *,
    at: OperatingPoint | Sequence[OperatingPoint] | None = None,
    other_at: OperatingPoint | Sequence[OperatingPoint] | None = None,
    by: Sequence[str] = (),
    margin: float | None = None,
    margin_of: str = "auc",
    claim: str = "non-inferiority",
    level: float = 0.95,
    seed: int = 0,
    ledger: Ledgers = None,
    names: tuple[str, str] = ("first", "second"),
    resamples: int | None = None,
) -> Comparison:
    """Compare two models whose predictions have a known truth; differences are ``first`` − ``second``.

    Paired by case where cases are shared, whatever their order; else the two hold different patients. ``at`` and
    ``other_at``: operating points frozen on tuning data, of the first and of the second; without one, .5 is used
    and said. ``by``: columns to report by. ``margin`` > 0 of ``margin_of`` (auc, sensitivity, specificity, macro
    auc; or ``auc:mel``) for a ``claim`` of non-inferiority, equivalence or superiority of the first, one-sided at
    (1 − ``level``)/2; it counts as pre-declared only if it stands in the ``ledger`` before the first look. Of several
    ledgers the first is the study's own, and each gets the look, once everything is computed.
    Methods: DeLong's paired AUCs (by patient), McNemar and Tango at thresholds, patient bootstrap with the same
    resamples for both; for different patients the two intervals squared and added (Zou & Donner 2008).
    Raises :class:`InputError` where the tables do not fit, :class:`UnsoundError` where patients are shared
    without cases, were seen when a threshold was chosen, or the ledger was cut.
    """
    normal_quantile(level)
    require(names[0] != names[1], "the two models need different names", given=names)
    empty = [name for name, test in zip(names, (first, second)) if not len(test)]
    require(not empty, "a table of predictions holds no case", given=", ".join(empty), todo="check the file")
    points, others = _points(at), _points(other_at)
    for test, chosen in ((first, points), (second, others)):
        for point in chosen:
            refuse_seen(test, point.seen, point.salt, "to choose the threshold")
    joined = _aimed(pair(first, second), [*points, *others])
    asked, how = asked_of(joined, points, others), Intervals(level, seed, resamples or 0)
    require(
        _any_known(joined),
        "no case has a known truth in both tables",
        given=f"{len(joined.first):,} cases",
        todo="complete the column of labels",
    )
    wanted = None if margin is None else Declaration.read(margin, margin_of, claim, level)
    primary = _primary(joined, asked)
    about = subject(wanted, [q.of for q in asked], primary) if wanted else ("", "")
    groups = _groups(joined, by)
    for path in paths_of(ledger):
        verify(path)
    differences = _differences(joined, asked, groups, how)
    codes = patient_codes(joined.first.patients, len(joined.first))
    kept = plain({q.of: contrast(q, joined.paired, codes, level) for q in asked})
    tests = dict.fromkeys((truth_hash(first), truth_hash(second)))
    looks, stands = look(ledger, list(tests), wanted, model=" against ".join(names),
                         threshold=[p.threshold for p in (*points, *others)],
                         predictions=f"{first.digest} {second.digest}")  # fmt: skip
    found = Comparison(
        tuple(differences), _adjusted(differences), names, joined.paired, None, kept, _counts(joined, asked), looks,
        primary, _cautions(joined, asked, names),
        {"level": level, "seed": seed, "predictions": [first.digest, second.digest],
         "kind": first.target.kind, "points": plain([points, others])},
    )  # fmt: skip
    if not wanted:
        return found
    return replace(found, verdict=Verdict(met(found[about].difference, wanted), *stands))


def _points(at: OperatingPoint | Sequence[OperatingPoint] | None) -> tuple[OperatingPoint, ...]:
    return (at,) if isinstance(at, OperatingPoint) else tuple(at or ())


def _aimed(joined: Pair, points: Sequence[OperatingPoint]) -> Pair:
    """Of two classes, the one that the operating points are for counts as disease in both tables."""
    if not joined.first.target.task.binary or not points:
        return joined
    target = replace(joined.first.target, positive=positives(joined.first, points[0].positive, None))
    first, second = (replace(p, target=target) for p in (joined.first, joined.second))
    return replace(joined, first=first, second=second)


def _any_known(joined: Pair) -> bool:
    tables = (joined.first,) if joined.paired else (joined.first, joined.second)
    return all(len(p) > 0 and bool(_known(p).any()) for p in tables)


def _known(test: Predictions) -> NDArray[np.bool_]:
    return test.target.task.known(test.truth)


def _groups(joined: Pair, by: Sequence[str]) -> list[tuple[dict[str, str], Sides]]:
    """The subgroups of both tables, cut alike; of the cases whose truth is known."""
    both = joined.first if joined.paired else _stacked(joined)
    many, known = len(joined.first), (_known(joined.first), _known(joined.second))
    found = []
    for where, rows in subgroups(both, list(dict.fromkeys(by))):
        first, second = (rows, rows) if joined.paired else (rows[:many], rows[many:])
        found.append((where, (first & known[0], second & known[1])))
    return found


def _differences(
    joined: Pair, asked: Sequence[Asked], groups: Sequence[tuple[dict[str, str], Sides]], how: Intervals
) -> list[Difference]:
    """Over all cases, then in every subgroup of every column."""
    tables = joined.first, joined.second
    found = _within(joined, asked, (np.ones(len(tables[0]), bool), np.ones(len(tables[1]), bool)), how)
    overall = list(found)
    for where, sides in groups:
        people = min(int(p.table["patient"][r].nunique()) for p, r in zip(tables, sides))
        images = int(sides[0].sum())
        if people < FEWEST:
            few = f"fewer than {FEWEST} patients"
            part = [
                missing_difference(d.first.metric, few, of=d.first.of, images=images, patients=people) for d in overall
            ]
        else:
            part = _within(joined, asked, sides, how)
        found += [relabelled(d, where=where) for d in part]
    return found


def _within(joined: Pair, asked: Sequence[Asked], sides: Sides, how: Intervals) -> list[Difference]:
    if joined.paired:
        return paired_differences(joined, asked, sides[0], how)
    return unpaired_differences(joined, asked, sides, how)


def _stacked(joined: Pair) -> Predictions:
    """Both tables as one, so that bands of a number are cut alike."""
    return replace(joined.first, table=pd.concat([joined.first.table, joined.second.table], ignore_index=True))


def _adjusted(differences: Sequence[Difference]) -> tuple[float, ...]:
    families = [next(iter(d.first.where), "") for d in differences]
    adjusted = np.full(len(differences), math.nan)
    for family in dict.fromkeys(families):
        rows = [i for i, name in enumerate(families) if name == family]
        adjusted[rows] = holm([differences[i].p for i in rows])
    return tuple(float(p) for p in adjusted)


def _primary(joined: Pair, asked: Sequence[Asked]) -> str:
    target = joined.first.target
    if target.task.continuous:
        return target.names[0]
    full = [q.of for q in asked if q.first.full]
    return full[0] if target.task.exclusive and full else ""


def _counts(joined: Pair, asked: Sequence[Asked]) -> dict[str, Any]:
    def of(test: Predictions, which: str) -> dict[str, Any]:
        sides = [getattr(q, which) for q in asked]
        return {
            "images": len(test),
            "patients": int(test.table["patient"].nunique()),
            "unlabelled": int((~_known(test)).sum()),
            "positives": {q.of: int(q.truth.sum()) for q in sides},
            "negatives": {q.of: int((~q.truth).sum()) for q in sides},
        }

    first, second = of(joined.first, "first"), of(joined.second, "second")
    whole = {"images": first["images"], "patients": first["patients"]}
    if not joined.paired:
        whole = {key: first[key] + second[key] for key in whole}
    left = dict(zip(("only in first", "only in second"), joined.left_out))
    return {**whole, **left, "first": first, "second": second}


def _cautions(joined: Pair, asked: Sequence[Asked], names: tuple[str, str]) -> tuple[str, ...]:
    found = list(joined.notes)
    if joined.first.digest == joined.second.digest:
        found.append("both tables hold the same predictions")
    for count, name in zip(joined.left_out, names):
        if count:
            found.append(f"{count:,} cases stand in {name} only and are left out")
    if half_and_chosen(asked):
        found.append("the threshold of one model was chosen on tuning data, that of the other is .5: "
                     "sensitivity and specificity compare these two choices")  # fmt: skip
    return tuple(found)
