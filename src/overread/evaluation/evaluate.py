"""How good a table of predictions is, with intervals that know the patients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.files import plain, write_json
from overread.evaluation.curves import Curves, Numbers, counts_of, curves_of
from overread.evaluation.estimators import Intervals
from overread.evaluation.ledger import record_look, truth_hash, verify
from overread.evaluation.metrics import judge, shown
from overread.evaluation.operating_point import OperatingPoint, load_operating_points, refuse_seen
from overread.evaluation.questions import LARGEST, Question, ScoredCases, largest, questions
from overread.evaluation.results import Content, Result, lookup, to_file_form
from overread.evaluation.subgroups import FEWEST, GroupGap, GroupTest, gap_estimates, gaps_of, subgroups
from overread.predictions import Predictions
from overread.stats.arrays import distinct, normal_quantile, not_finite
from overread.stats.calibration.reliability import PARTS, null_estimate, reliability
from overread.stats.classification import confusion
from overread.stats.discrimination.stratified import UNKNOWN, mean_stratified_auc, strata_of, stratified_auc
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import resamples_for


@dataclass(frozen=True)
class Tally:
    """How many images of how many patients."""

    images: int = 0
    patients: int = 0


@dataclass(frozen=True)
class Cohort(Tally):
    """Who was judged: images and patients, all, by class (or with the finding); images by source."""

    unlabelled: int = 0
    patients_with_several_images: int = 0
    per_class: dict[str, Tally] = field(default_factory=dict, hash=False)
    sources: dict[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Confusion:
    """``counts`` of calls, a row for each true label; ``rule``: what made them."""

    labels: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    rows: str = "truth"
    rule: str = ""


@dataclass(frozen=True)
class Scatter(Content):
    """Pairs of a quantity, (N,) each."""

    truth: Numbers = ()
    predicted: Numbers = ()


@dataclass(frozen=True)
class LedgerEntry(Content):
    """Which entry of the ledger a look at the test set is, and its hash."""

    entry: int = 0
    hash: str = ""


@dataclass(frozen=True)
class Provenance:
    """What was judged and how: hashes of model and predictions, level of the intervals, seed and resamples."""

    ledger: LedgerEntry = LedgerEntry()
    model: str = ""
    predictions: str = ""
    level: float = 0.95
    seed: int = 0
    resamples: int = 0
    prevalence: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Estimates, and the numbers that figures are drawn from.

    ``curves``: per class, finding or group of classes (the ``of`` of its estimates); ``primary`` names the
    one that matters most. ``confusion``: counts with rows for the truth. ``looks``: how often this test set
    was looked at before. ``gaps`` and ``heterogeneity`` of the subgroups: see
    :func:`overread.evaluation.subgroups.gaps_of`. ``more``: what other stages add, see :meth:`extended`.
    """

    file: ClassVar[str] = "curves.json"

    estimates: tuple[Estimate, ...]
    curves: dict[str, Curves] = field(default_factory=dict)
    confusion: Confusion = Confusion()
    operating: tuple[OperatingPoint, ...] = ()
    counts: Cohort = Cohort()
    looks: int = 0
    primary: str = ""
    scatter: Scatter = Scatter()
    about: Provenance = Provenance()
    gaps: tuple[GroupGap, ...] = ()
    heterogeneity: tuple[GroupTest, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, ...]) -> Estimate:
        """``result["auc", "mel"]``, or ``result["auc"]``: over all classes, else of the primary one."""
        return lookup(((e.metric, e.of, e) for e in self.estimates if not e.where), key, ("", self.primary))

    def extended(self, estimates: Iterable[Estimate] = (), more: Mapping[str, Any] | None = None) -> Evaluation:
        """With more estimates, and more under ``more`` by name; raises :class:`InputError` for a name that is taken."""
        added = plain(dict(more or {}))
        taken = sorted(set(added) & set(self.more))
        if taken:
            raise InputError("the evaluation has this already", given=", ".join(taken), todo="evaluate again")
        return replace(self, estimates=(*self.estimates, *estimates), more={**self.more, **added})

    def where(self, column: str) -> tuple[Estimate, ...]:
        """The estimates of the subgroups of a column."""
        return tuple(e for e in self.estimates if column in e.where)

    def __repr__(self) -> str:
        return f"evaluation of {self.counts.images:,} images, {len(self.estimates):,} estimates"

    def table(self) -> str:
        """The results as aligned text for a terminal; subgroups by their main metrics."""

        return as_text(self.estimates, self.primary, self.counts, self.looks, self.gaps)

    def held(self) -> dict[str, Any]:
        """Everything but the estimates and the operating points; what was asked stands at the top."""
        named = {name: getattr(self, name) for name in _NAMED}
        typed = {name: to_file_form(named[name]) for name in ("counts", "confusion", "scatter", "curves")}
        return {**to_file_form(self.about), **named, **typed}

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``operating.json`` and ``curves.json`` into ``folder``."""
        write_json(Path(folder) / "operating.json", list(self.operating))
        return super().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        return replace(super().load(folder), operating=load_operating_points(Path(folder) / "operating.json"))

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> Evaluation:
        """The evaluation, without its operating points, from what two of its files hold."""
        named = {name: held[name] for name in _NAMED if name in held}
        about = {name: value for name, value in held.items() if name not in _NAMED}
        return super().restored({**named, "about": about}, metrics)


#: What ``curves.json`` holds under its own name; everything else in it is ``about``.
_NAMED = ("primary", "counts", "looks", "confusion", "scatter", "curves", "gaps", "heterogeneity", "more")


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
    prevalence: float | None = None,
) -> Evaluation:
    """Judge predictions whose truth is known, with intervals by patient.

    ``at``: operating points frozen on tuning data; without one, .5 is used and said. ``by``: columns to report by,
    besides the source where there are several. ``level`` of the intervals, ``seed`` and number of the bootstrap
    ``resamples`` (by default from the number of images, see :func:`resamples_for`). ``ledger``: where the look at this
    test set is written down, under the hash ``model``. ``prevalence``: how common disease is in the clinic, for
    predictive values and net benefit there. Raises :class:`UnsoundError` if a patient was seen when a threshold was
    chosen, or the ledger was cut; :class:`InputError` for an empty table, an unknown class or column.
    """
    points = (at,) if isinstance(at, OperatingPoint) else tuple(at or ())
    normal_quantile(level)
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    facts = _known_facts(test)
    for point in points:
        refuse_seen(test, point.seen, point.salt, "to choose the threshold")
    asked, codes, digest = questions(facts, points), test.codes, test.digest
    groups = list(subgroups(test, _columns(test, by)))
    looks, entry = _look(test, points, ledger, model, digest)
    how = Intervals(level, seed, resamples or 0, prevalence)
    found = judge(facts, asked, codes, np.ones(len(test), bool), how)
    curves, nulls = _curves(facts, asked, codes, how)
    found = _beside(_beside(found, nulls, "ece"), within_sources(test, asked, codes, level), "auc", "macro auc")
    for where, rows in groups:
        found += _within(facts, asked, codes, rows, how, where, found)
    gaps, mixed = gaps_of(facts, asked, codes, groups, how)
    return Evaluation(
        (*found, *gap_estimates(gaps)),
        curves,
        confusion_of(facts, asked),
        points,
        cohort_of(test, facts, asked, codes),
        looks,
        primary_of(test, asked),
        scatter_of(facts),
        Provenance(entry, model, digest, level, seed, how.resamples or resamples_for(len(test)), prevalence),
        tuple(gaps),
        tuple(mixed),
    )


def _known_facts(test: Predictions) -> ScoredCases:
    if not len(test):
        raise InputError("there are no predictions to judge", given="an empty table")
    facts = ScoredCases.of(test)
    if not facts.known.any():
        todo = "the label column must hold the names of the p: columns"
        raise InputError("no prediction has a known truth", given=f"{len(test):,} cases", todo=todo)
    return facts


def _columns(test: Predictions, by: Sequence[str]) -> list[str]:
    several = ["source"] if test.table["source"].nunique() > 1 else []
    return list(dict.fromkeys((*by, *several)))


def _look(
    test: Predictions, points: Sequence[OperatingPoint], ledger: str | Path | None, model: str, digest: str
) -> tuple[int, LedgerEntry]:
    if ledger is None:
        return 0, LedgerEntry()
    looks = record_look(ledger, model, [p.threshold for p in points], digest, test=truth_hash(test))
    last = verify(ledger)[-1]
    return looks, LedgerEntry(last["entry"], last["hash"])


#: What is told of all cases together only.
_WHOLE = ("auc within sources", "macro auc within sources")


def _within(
    test: ScoredCases,
    asked: list[Question],
    codes: NDArray[np.int64],
    rows: NDArray[np.bool_],
    how: Intervals,
    where: dict[str, str],
    overall: list[Estimate],
) -> list[Estimate]:
    """The estimates of one subgroup; without judging it where it has too few patients.

    Neither the band of a calibrated model nor the parts of the Brier score: a subgroup has too few cases to a bin.
    """
    rows = rows & test.known
    patients = patients_of(codes[rows])
    if patients >= FEWEST:
        found = judge(test, asked, codes, rows, replace(how, decompose=False))
        return [replace(e, where=where) for e in found]
    why, images = f"fewer than {FEWEST} patients", int(rows.sum())
    names = (
        (e.metric, e.of) for e in overall if not e.where and e.metric not in (*PARTS, "ece if calibrated", *_WHOLE)
    )
    return [replace(undefined(m, why, of=of, images=images, patients=patients), where=where) for m, of in names]


def _curves(
    test: ScoredCases, asked: list[Question], codes: NDArray[np.int64], how: Intervals
) -> tuple[dict[str, Curves], dict[str, Estimate]]:
    curves, nulls = {}, {}
    for q in asked:
        curves[q.of], diagram = curves_of(q, codes, how)
        if diagram is not None and q.full:
            patients = patients_of(codes[q.rows])
            nulls[q.of] = null_estimate(diagram, how.level, q.of, len(q.rows), patients)
    if test.target.task.multiclass:
        nulls |= _confidence(test, codes, how)
    return curves, nulls


def _confidence(test: ScoredCases, codes: NDArray[np.int64], how: Intervals) -> dict[str, Estimate]:
    """The null ECE of the most probable class's confidence."""
    rows = np.flatnonzero(test.known)
    right, confidence = largest(test)[rows] == test.truth[rows], test.scores[rows].max(axis=1)
    if not_finite(confidence) or test.no_chances:
        return {}
    diagram = reliability(
        right, confidence, codes[rows], level=how.level, seed=how.seed, resamples=how.resamples or None
    )
    return {"": null_estimate(diagram, how.level, "", len(rows), patients_of(codes[rows]))}


def _beside(found: list[Estimate], beside: dict[str, Estimate], *metrics: str) -> list[Estimate]:
    """With each of ``beside``, by what it is of, after the first of ``metrics`` of the same."""
    return [
        e for one in found for e in ([one, beside[one.of]] if one.metric in metrics and one.of in beside else [one])
    ]


def within_sources(
    test: Predictions, asked: Sequence[Question], codes: NDArray[np.int64], level: float
) -> dict[str, Estimate]:
    """The AUC among pairs of cases of one source, of each question, and the mean over those that are no groups.

    Nothing where there are not two sources: there it would be the AUC itself.
    """
    strata = strata_of(test.table["source"].to_numpy())
    if len(set(strata[strata != UNKNOWN])) < 2:
        return {}
    found = {
        q.of: stratified_auc(q.truth, q.score, strata[q.rows], codes[q.rows], level=level, of=q.of,
                             metric="auc within sources", called="sources") for q in asked
    }  # fmt: skip
    each = [q for q in asked if not q.group]
    if len(each) > 1:
        found[""] = mean_stratified_auc(
            [q.truth for q in each], [q.score for q in each], [strata[q.rows] for q in each], [codes[q.rows] for q in each],
            level=level, metric="macro auc within sources", called="sources",
        )  # fmt: skip
    return found


# -- what is counted beside the estimates: the confusion matrix, cases and patients, the scatter of a quantity ----


def confusion_of(test: ScoredCases, asked: list[Question]) -> Confusion:
    """Counts with rows for the truth, of the most probable class or at the threshold; empty for other targets."""
    names = test.target.names
    if test.target.task.multiclass:
        rows = np.flatnonzero(test.known)
        counts = confusion(test.truth[rows], largest(test)[rows], len(names)).tolist()
        return Confusion(names, tuple(map(tuple, counts)), rule=LARGEST)
    if test.target.task.binary:
        q = asked[0]
        last = tuple(sorted(names, key=lambda name: name == q.of))  # the positive one
        return Confusion() if q.no_calls else Confusion(last, counts_of(q), rule=q.rule)
    return Confusion()


def cohort_of(test: Predictions, facts: ScoredCases, asked: list[Question], codes: NDArray[np.int64]) -> Cohort:
    """Images and patients: all, by class (or with the finding) and by source."""
    target, per = test.target, np.bincount(codes)
    if target.task.exclusive:
        rows = {name: np.flatnonzero(facts.truth == i) for i, name in enumerate(target.names)}
    else:
        rows = {q.of: q.rows[q.truth] for q in asked}
    classes = {name: Tally(len(r), patients_of(codes[r])) for name, r in rows.items()}
    sources = {str(name): int(k) for name, k in sorted(test.table["source"].value_counts().items())}
    return Cohort(len(test), len(per), int((~facts.known).sum()), int((per > 1).sum()), classes, sources)


def patients_of(codes: NDArray[np.int64]) -> int:
    """How many patients there are, also among no cases."""
    return distinct(codes) if len(codes) else 0


def primary_of(test: Predictions, asked: list[Question]) -> str:
    """The class or group of classes that matters most; empty if none is declared."""
    if test.target.task.binary:
        return asked[0].of
    full = [q.of for q in asked if q.full]
    return full[0] if test.target.task.exclusive and full else ""


def scatter_of(test: ScoredCases) -> Scatter:
    """Up to 2,000 pairs of a quantity."""
    if not test.target.task.continuous:
        return Scatter()
    rows = np.flatnonzero(test.known)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(int))]
    return Scatter(tuple(test.truth[rows].tolist()), tuple(test.scores[rows, 0].tolist()))


# -- estimates as aligned text for a terminal ---------------------------------------------------------------------


def as_text(
    estimates: Sequence[Estimate], primary: str, counts: Cohort, looks: int, gaps: Sequence[GroupGap] = ()
) -> str:
    """A line per estimate: metric, class, value with interval, images, patients; then the subgroups and their gaps."""
    overall = [e for e in estimates if not e.where]
    level = next((f"{e.level:.0%} interval" for e in estimates if not e.undefined), "interval")
    lines = [
        f"{counts.images:,} images of {counts.patients:,} patients"
        + (f", looked at {looks:,} times before" if looks else "")
    ]
    lines += _aligned([("metric", "of", f"value ({level})", "images", "patients"), *map(_row, overall)])
    brief = {m.name for m in shown("brief")}
    groups = [e for e in estimates if e.where and e.of in ("", primary) and e.metric in brief]
    head: tuple[str, ...]
    if groups:
        head = ("subgroup", "metric", "of", f"value ({level})", "images", "patients")
        rows = [(", ".join(f"{k} {v}" for k, v in e.where.items()), *_row(e)) for e in groups]
        lines += ["", *_aligned([head, *rows])]
    largest = _largest_gaps([g for g in gaps if g.of in ("", primary)])
    if largest:
        head = ("largest gap", "subgroup", "minus", f"value ({level})", "p after Holm")
        lines += ["", *_aligned([head, *largest])]
    return "\n".join(lines)


def _largest_gaps(gaps: Sequence[GroupGap]) -> list[tuple[str, ...]]:
    """Of each metric the gap with the smallest p, of equals the widest."""
    found: dict[str, GroupGap] = {}
    for gap in sorted((gap for gap in gaps if not math.isnan(gap.p)), key=lambda gap: (gap.p, -abs(gap.value))):
        found.setdefault(gap.metric, gap)
    order = dict.fromkeys(gap.metric for gap in gaps if gap.metric in found)
    return [_gap_row(found[metric]) for metric in order]


def _gap_row(gap: GroupGap) -> tuple[str, ...]:
    groups = ", ".join(f"{k} {v}" for k, v in gap.where.items())
    p = "<.001" if gap.adjusted < 0.001 else f"{gap.adjusted:.3f}"
    return f"{gap.metric} gap", groups, gap.reference, f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})", p


def _row(e: Estimate) -> tuple[str, ...]:
    return e.metric, e.of, str(e), f"{e.images:,}", f"{e.patients:,}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    last = len(widths) - 2  # the counts stand to the right
    return [
        "  ".join(
            cell.rjust(w) if i >= last else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
