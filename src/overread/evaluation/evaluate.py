"""How good a table of predictions is, with intervals that know the patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.errors import InputError, checked, nearest
from overread.evaluation.curves import counts_of, curves_of
from overread.evaluation.judge import LARGEST, Question, Terms, judge, largest, questions
from overread.evaluation.ledger import record_look, verify
from overread.evaluation.operating import OperatingPoint, refuse_seen
from overread.evaluation.subgroups import FEWEST, subgroups
from overread.predictions import Predictions
from overread.record import build, fingerprint, plain, read_json, sha256, write_json
from overread.stats.arrays import normal_quantile, patient_codes
from overread.stats.calibration import null_estimate, reliability, why_uncalibrated
from overread.stats.classification import confusion
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import resamples_for


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Estimates, and the numbers that figures are drawn from.

    ``curves``: per class, finding or group of classes (the ``of`` of its estimates); ``primary`` names the
    one that matters most. ``confusion``: counts with rows for the truth. ``looks``: how often this test set
    was looked at before. ``about``: hashes and terms.
    """

    estimates: tuple[Estimate, ...]
    curves: dict[str, Any] = field(default_factory=dict)
    confusion: dict[str, Any] = field(default_factory=dict)
    operating: tuple[OperatingPoint, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    looks: int = 0
    primary: str = ""
    scatter: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, ...]) -> Estimate:
        """``result["auc", "mel"]``, or ``result["auc"]``: over all classes, else of the primary one."""
        metric, *rest = (key,) if isinstance(key, str) else key
        wanted = rest[0] if rest else None
        found = {e.of: e for e in self.estimates if e.metric == metric and not e.where}
        for of in ("", self.primary, *found) if wanted is None else (wanted,):
            if of in found:
                return found[of]
        if not found:
            raise InputError(
                f"there is no metric {metric!r}",
                todo=nearest(metric, dict.fromkeys(e.metric for e in self.estimates)),
            )
        raise InputError(f"there is no {metric} of {wanted!r}", todo=nearest(str(wanted), found))

    def where(self, column: str) -> tuple[Estimate, ...]:
        """The estimates of the subgroups of a column."""
        return tuple(e for e in self.estimates if column in e.where)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"evaluation of {self.counts.get('images', 0):,} images, {len(self.estimates):,} estimates"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluation) and self.digest == other.digest

    def __hash__(self) -> int:
        return int(self.digest, 16)

    @property
    def digest(self) -> str:
        """Hash of the content, in hexadecimal."""
        return fingerprint(self)

    def table(self) -> str:
        """The results as aligned text for a terminal; subgroups by their main metrics."""
        from overread.evaluation.table import as_text

        return as_text(self.estimates, self.primary, self.counts, self.looks)

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``operating.json`` and ``curves.json`` into ``folder``."""
        folder = Path(folder)
        write_json(
            folder / "curves.json",
            {
                "primary": self.primary,
                "counts": self.counts,
                "looks": self.looks,
                **self.about,
                "confusion": self.confusion,
                "scatter": self.scatter,
                "curves": self.curves,
            },
        )
        write_json(folder / "operating.json", list(self.operating))
        write_json(folder / "metrics.json", list(self.estimates))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        folder = Path(folder)
        metrics, points, rest = (read_json(folder / f"{n}.json") for n in ("metrics", "operating", "curves"))
        if not (isinstance(metrics, list) and isinstance(points, list) and isinstance(rest, dict)):
            raise InputError("the evaluation is damaged", given=str(folder), todo="evaluate again")
        estimates = tuple(build(Estimate, _with_nan(e), where="metrics.json") for e in metrics)
        operating = tuple(build(OperatingPoint, _with_nan(p), where="operating.json") for p in points)
        named = {
            n: rest.pop(n)
            for n in ("curves", "confusion", "counts", "looks", "primary", "scatter")
            if n in rest
        }
        return cls(estimates=estimates, operating=operating, about=rest, **named)


def _with_nan(entry: object) -> object:
    """JSON has no NaN: the numbers of an estimate or a point that are null."""
    if not isinstance(entry, dict):
        return entry
    numbers = ("value", "low", "high", "sensitivity", "specificity", "threshold")
    return {
        k: math.nan if v is None and k in numbers else tuple(v) if isinstance(v, list) else v
        for k, v in entry.items()
    }


@checked
def evaluate(
    test: Predictions,
    *,
    at: OperatingPoint | Sequence[OperatingPoint] | None = None,
    by: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    ledger: str | Path | None = None,
    model: str = "",
    resamples: int | None = None,
) -> Evaluation:
    """Judge predictions whose truth is known, with intervals by patient.

    ``at``: operating points frozen on tuning data; without one, .5 is used and said. ``by``: columns to
    report by, besides the source where there are several. ``level`` of the intervals, ``seed`` and number of
    the bootstrap ``resamples`` (by default from the number of images, see :func:`resamples_for`). ``ledger``:
    where the look at this test set is written down, under the hash ``model``. Raises :class:`UnsoundError` if
    a patient was seen when a threshold was chosen, or the ledger was cut; :class:`InputError` for an empty
    table, an unknown class or column.
    """
    points = (at,) if isinstance(at, OperatingPoint) else tuple(at or ())
    normal_quantile(level)
    _require_known(test)
    for point in points:
        refuse_seen(test, point.seen, point.salt, "to choose the threshold")
    asked = questions(test, points)
    groups = list(subgroups(test, _columns(test, by)))
    looks, entry = _look(test, points, ledger, model)
    terms = Terms(level, seed, resamples or 0)
    codes = patient_codes(test.patients, len(test))
    everything = np.ones(len(test), bool)
    found = judge(test, asked, codes, everything, terms)
    curves, nulls = _curves(test, asked, codes, terms)
    found = _beside_ece(found, nulls)
    for where, rows in groups:
        found += _within(test, asked, codes, rows, terms, where, found)
    return Evaluation(
        tuple(found),
        plain(curves),
        plain(_confusion(test, asked)),
        points,
        _counts(test, asked),
        looks,
        _primary(test, asked),
        plain(_scatter(test)),
        {
            **entry,
            "model": model,
            "predictions": test.digest,
            "level": level,
            "seed": seed,
            "resamples": resamples or resamples_for(len(test)),
        },
    )


def _require_known(test: Predictions) -> None:
    known = _known(test)
    if not len(test):
        raise InputError("there are no predictions to judge", given="an empty table")
    if not known.any():
        raise InputError(
            "no prediction has a known truth",
            given=f"{len(test):,} cases",
            todo="the label column must hold the names of the p: columns",
        )


def _known(test: Predictions) -> NDArray[np.bool_]:
    """(N,) whether any answer is known."""
    truth = test.truth
    if test.target.kind in ("binary", "classes"):
        return truth >= 0
    return ~np.isnan(truth) if truth.ndim == 1 else ~np.isnan(truth).all(axis=1)


def _columns(test: Predictions, by: Sequence[str]) -> list[str]:
    several = ["source"] if test.table["source"].nunique() > 1 else []
    return list(dict.fromkeys((*by, *several)))


def _look(
    test: Predictions, points: Sequence[OperatingPoint], ledger: str | Path | None, model: str
) -> tuple[int, dict[str, Any]]:
    if ledger is None:
        return 0, {"ledger": {}}
    truth = test.table.loc[:, ["case", *test.target.columns]].sort_values("case")
    same = sha256(truth.to_csv(index=False, lineterminator="\n").encode())[:16]
    looks = record_look(ledger, model, [p.threshold for p in points], test.digest, test=same)
    last = verify(ledger)[-1]
    return looks, {"ledger": {"entry": last["entry"], "hash": last["hash"]}}


def _within(
    test: Predictions,
    asked: list[Question],
    codes: NDArray[np.int64],
    rows: NDArray[np.bool_],
    terms: Terms,
    where: dict[str, str],
    overall: list[Estimate],
) -> list[Estimate]:
    """The estimates of one subgroup; without judging it where it has too few patients."""
    rows = rows & _known(test)
    patients = int(np.unique(codes[rows]).size)
    if patients >= FEWEST:
        return [replace(e, where=where) for e in judge(test, asked, codes, rows, terms)]
    why, images = f"fewer than {FEWEST} patients", int(rows.sum())
    names = ((e.metric, e.of) for e in overall if not e.where and e.metric != "ece if calibrated")
    return [
        replace(undefined(m, why, of=of, images=images, patients=patients), where=where) for m, of in names
    ]


def _curves(
    test: Predictions, asked: list[Question], codes: NDArray[np.int64], terms: Terms
) -> tuple[dict[str, Any], dict[str, Estimate]]:
    curves, nulls = {}, {}
    for q in asked:
        curves[q.of], diagram = curves_of(q, codes, terms)
        if diagram is not None and q.full:
            people = int(np.unique(codes[q.rows]).size)
            nulls[q.of] = null_estimate(diagram, terms.level, q.of, len(q.rows), people)
    if test.target.kind == "classes":
        nulls |= _confidence(test, codes, terms)
    return curves, nulls


def _confidence(test: Predictions, codes: NDArray[np.int64], terms: Terms) -> dict[str, Estimate]:
    """The null ECE of the most probable class's confidence."""
    rows = np.flatnonzero(_known(test))
    right, confidence = largest(test)[rows] == test.truth[rows], test.scores[rows].max(axis=1)
    if why_uncalibrated(right, confidence):
        return {}
    diagram = reliability(
        right, confidence, codes[rows], level=terms.level, seed=terms.seed, resamples=terms.resamples or None
    )
    return {"": null_estimate(diagram, terms.level, "", len(rows), int(np.unique(codes[rows]).size))}


def _beside_ece(found: list[Estimate], nulls: dict[str, Estimate]) -> list[Estimate]:
    return [
        e
        for one in found
        for e in ([one, nulls[one.of]] if one.metric == "ece" and one.of in nulls else [one])
    ]


def _confusion(test: Predictions, asked: list[Question]) -> dict[str, Any]:
    names = test.target.names
    if test.target.kind == "classes":
        rows = np.flatnonzero(_known(test))
        counts = confusion(test.truth[rows], largest(test)[rows], len(names)).tolist()
        return {"labels": list(names), "counts": counts, "rows": "truth", "rule": LARGEST}
    if test.target.kind == "binary":
        q = asked[0]
        labels = sorted(names, key=lambda name: name == q.of)  # the positive class last
        return {"labels": labels, "counts": counts_of(q), "rows": "truth", "rule": q.rule}
    return {"labels": [], "counts": [], "rows": "truth", "rule": ""}


def _counts(test: Predictions, asked: list[Question]) -> dict[str, Any]:
    table, target = test.table, test.target
    per = table["patient"].value_counts()
    if target.kind in ("binary", "classes"):
        rows = {name: table["label"] == name for name in target.names}
    else:
        rows = {q.of: pd.Series(table.index.isin(q.rows[q.truth])) for q in asked}
    return {
        "images": len(test),
        "patients": len(per),
        "unlabelled": int((~_known(test)).sum()),
        "patients with several images": int((per > 1).sum()),
        "per class": {
            n: {"images": int(r.sum()), "patients": int(table["patient"][r].nunique())}
            for n, r in rows.items()
        },
        "sources": {str(n): int(k) for n, k in sorted(table["source"].value_counts().items())},
    }


def _primary(test: Predictions, asked: list[Question]) -> str:
    if test.target.kind == "binary":
        return asked[0].of
    full = [q.of for q in asked if q.full]
    return full[0] if test.target.kind == "classes" and full else ""


def _scatter(test: Predictions) -> dict[str, Any]:
    if test.target.kind != "quantity":
        return {}
    rows = np.flatnonzero(_known(test))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(int))]
    return {"truth": test.truth[rows], "predicted": test.scores[rows, 0]}
