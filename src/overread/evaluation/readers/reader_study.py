"""Readers among themselves, and a model beside them: agreement, points, and every difference with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from overread.cases.annotators import Grades, in_order
from overread.core.errors import InputError, checked, require
from overread.core.files import plain, sha256
from overread.core.phrases import aligned, count
from overread.evaluation.comparison.claims import NOT_ASKED, Declaration, Standing, Verdict, look
from overread.evaluation.comparison.compare import counted
from overread.evaluation.curves import Range, ReaderPoint, RocCurve
from overread.evaluation.decision.class_decision import Frozen, parted, refuse_tuned
from overread.evaluation.estimators import Intervals
from overread.evaluation.ledger import looked, verify
from overread.evaluation.operating_point import refuse_training
from overread.evaluation.readers.answers import Answers, CommonCases, Reference, answers_of, common_cases, with_truth
from overread.evaluation.readers.contrasts import (
    MEAN,
    MODEL,
    AgreementMatrix,
    Contrast,
    OfReaders,
    against_each,
    against_mean,
    against_others,
    agreed,
    between_modalities,
    crossed,
    each,
)
from overread.evaluation.results import Content, drawn, lookup
from overread.predictions import Predictions
from overread.stats.arrays import normal_quantile
from overread.stats.discrimination.roc import roc_curve
from overread.stats.estimate import Estimate, p_text, undefined
from overread.stats.hypotheses import non_inferiority


@dataclass(frozen=True)
class ModelCurve(Content):
    """The model's ROC curve on the cases that were read, and where it stands at its threshold."""

    roc: RocCurve = RocCurve()  # noqa: RUF009
    point: ReaderPoint = ReaderPoint()  # noqa: RUF009


@dataclass(frozen=True)
class ReaderCurves(Content):
    """Readers and model on the ROC curve: points of who called, ``lines`` of readers who gave scores."""

    model: ModelCurve = ModelCurve()
    readers: tuple[ReaderPoint, ...] = ()
    lines: dict[str, RocCurve] = field(default_factory=dict, hash=False)
    rule: str = ""


@dataclass(frozen=True, eq=False)
class Reading(OfReaders):
    """What a reader study found.

    ``estimates``: agreement, then each reader's and the model's numbers; ``where["reader"]`` says whose (``model``,
    ``mean of readers``, or a reader). ``contrasts``: differences with their tests. ``curves``: ROC and points of each
    modality, ``matrix``: the agreement of every pair. ``verdict``: the claim at a margin. ``cautions``: what a reader
    of the report must know. ``looks``: how often this test set was looked at before.
    """

    file: ClassVar[str] = "readers.json"
    in_words: ClassVar[tuple[str, ...]] = ("curves", "matrix")

    estimates: tuple[Estimate, ...]
    contrasts: tuple[Contrast, ...] = ()
    curves: dict[str, ReaderCurves] = field(default_factory=dict)
    matrix: dict[str, AgreementMatrix] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    cautions: tuple[str, ...] = ()
    looks: int = 0
    of: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """``result["fleiss kappa"]``; ``result["auc", "reader 2"]``, ``result["auc", "model"]``."""
        return lookup(((e.metric, e.where.get("reader", ""), e) for e in self.estimates), key)

    def contrast(self, metric: str, who: str = MEAN, **where: str) -> Contrast:
        """The model minus a reader, or minus the readers' mean (for random readers and cases)."""
        wanted = {"reader": who, **where}
        found = [c for c in self.contrasts if c.gap.first.metric == metric and wanted.items() <= c.where.items()]
        if not found:
            raise InputError(f"there is no difference in {metric} of {who!r}", given=", ".join(dict.fromkeys(c.gap.first.metric for c in self.contrasts)) or "no differences")  # fmt: skip
        return min(found, key=lambda c: len(c.where))

    def __repr__(self) -> str:
        return f"reading of {count(self.counts.get('images', 0), 'case')}, {count(len(self.all), 'estimate')}"

    def table(self) -> str:
        """The results as aligned text for a terminal."""

        return as_text(self)


@checked
def judge_readers(
    grades: Grades,
    predictions: Predictions | None = None,
    *,
    truth: pd.DataFrame | None = None,
    at: Frozen | Sequence[Frozen] | None = None,
    positive: tuple[str, ...] = (),
    reference: Reference = "auto",
    rule: str = "majority",
    cut: float | None = None,
    margin: float | None = None,
    margin_of: str = "",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    model: str = "",
) -> Reading:
    """Judge readers among themselves, and a model beside them on the same cases.

    ``predictions`` hold the truth in their label, unless ``truth`` does (columns ``case`` and ``label``). ``at``: the
    model's operating point, frozen on tuning data, and of several classes its decision rule; without them, .5 and the
    largest probability are used and said. ``positive``: classes that count as disease. ``reference``: the ``truth``,
    the ``consensus`` of the other readers by ``rule`` (no reader is part of his own reference), or the truth where it
    is known (``auto``). ``cut``: scores of readers from there on are calls. ``margin`` of ``margin_of`` (auc,
    sensitivity, specificity) for non-inferiority to the mean reader, one-sided at (1 − ``level``)/2. ``ledger``: where
    the look at this test set is written down, once, under ``model``.

    Methods: agreement as :func:`overread.cases.graded_cases.agreement`; model against the readers' mean, and two
    modalities, by Obuchowski & Rockette 1995 with Hillis's degrees of freedom, on the cases that all have read; against
    each reader at the reader's own specificity and sensitivity, and by DeLong for scores. Raises :class:`InputError`
    where tables do not fit, :class:`UnsoundError` where patients were seen when the threshold was chosen.
    """
    normal_quantile(level)
    require(margin is None or predictions is not None, "a margin needs a model beside the readers", given=margin)
    if predictions is not None and truth is not None:
        predictions, truth = with_truth(predictions, truth), None
    if predictions is not None:
        refuse_training(predictions)
    points, decision = parted(at)
    point = next(iter(points), None)
    if predictions is not None:
        refuse_tuned(predictions, filter(None, (point, decision)))
    common = common_cases(grades, predictions, truth, at=point, decision=decision, positive=positive)
    if reference == "truth" and not common.known.any():
        raise InputError("no case that was read has a known truth", given=f"{count(len(common.cases), 'case')}", todo="give --truth, or choose the consensus")  # fmt: skip
    judged = reference != "consensus" and bool(common.known.any())
    common = common if judged else replace(common, truth=np.full(len(common.cases), -1))
    several = [answers_of(grades, common, modality, cut) for modality in grades.modalities]
    wanted = None if margin is None else _declaration(margin, margin_of, level, common, several)
    _require_rule(common, several, judged, rule)
    if ledger is not None:
        verify(ledger)
    terms = Intervals(level, seed, resamples or 0)
    parts = [_of_modality(grades, common, answers, rule, terms) for answers in several]
    means, changes = between_modalities(common, several, terms) if len(several) > 1 else ([], [])
    estimates = [e for part in parts for e in part[0]] + means
    contrasts = [c for part in parts for c in part[1]] + changes
    kept = {a.modality: curves(common, a, estimates) for a in several}
    looks, stands = _look(grades, predictions, common, truth, wanted, ledger, model)
    return Reading(
        tuple(estimates), tuple(contrasts), kept, {a.modality: p[2] for a, p in zip(several, parts, strict=True)},
        plain(counts(common, several)), _claim(wanted, contrasts, stands) if wanted else None, cautions(common, several, judged, rule),
        looks, common.of,
        plain({"level": level, "seed": seed, "names": common.names, "kind": grades.kind, "model": model, "threshold": common.rule,
               "reference": "truth" if judged else f"consensus of the other readers ({rule})", "modalities": grades.modalities,
               "predictions": predictions.digest if predictions is not None else ""}),
    )  # fmt: skip


def _declaration(
    margin: float, margin_of: str, level: float, common: CommonCases, several: list[Answers]
) -> Declaration:
    """What is claimed; refused before anybody looks if nothing is compared so."""
    there = [name for name, table in (("auc", several[0].scores), ("sensitivity", several[0].calls), ("specificity", several[0].calls))
             if table is not None and common.positive]  # fmt: skip
    made = Declaration.read(margin, margin_of or "auc", "non-inferiority", level)
    if made.metric not in there:
        raise InputError("the margin is of nothing that is compared", given=f"{made.metric}, compared: {', '.join(there) or 'none'}",
                         todo="say --margin-of sensitivity or specificity for readers' labels, auc for their scores")  # fmt: skip
    if len(several) != 1:
        raise InputError(
            "a margin needs one modality", given=f"{len(several)} modalities", todo="give the answers in one of them"
        )
    return replace(made, of=made.of or common.of)


def _look(
    grades: Grades, predictions: Predictions | None, common: CommonCases, truth: pd.DataFrame | None,
    wanted: Declaration | None, ledger: str | Path | None, model: str,
) -> tuple[int, Standing]:  # fmt: skip
    """One line in the ledger where a truth, or readers in its place, judge somebody; how the claim stands."""
    if predictions is None and truth is None:
        return 0, NOT_ASKED
    if predictions is not None and common.known.any():
        test: str | Predictions = predictions
    else:
        kept = grades.table.sort_values(["case", "reader", "modality"]) if truth is None else truth.sort_values("case")
        test = sha256(kept.to_csv(index=False, lineterminator="\n").encode())[:16]
    threshold = None if predictions is None else common.threshold
    digest = predictions.digest if predictions is not None else str(test)
    who = model or (MODEL if predictions is not None else "readers")
    return look(ledger, [test], wanted, model=who, threshold=threshold, predictions=digest)


def _require_rule(common: CommonCases, several: list[Answers], judged: bool, rule: str) -> None:
    """The consensus of the other readers exists by this rule."""
    fewest = min(len(answers.readers) for answers in several)
    if judged or any(answers.ratings is None for answers in several):
        return
    if rule == "dawid-skene" and 1 < fewest < 4:
        raise InputError("Dawid and Skene's model of the other readers needs three of them, so four in all",
                         given=f"{count(fewest, 'reader')}", todo="choose --consensus majority")  # fmt: skip
    if rule == "median" and not in_order(common.names):
        raise InputError("a median needs classes in order, and these are names without numbers",
                         given=", ".join(common.names[:10]), todo="choose --consensus majority, or number the classes")  # fmt: skip


def _of_modality(
    grades: Grades, common: CommonCases, answers: Answers, rule: str, terms: Intervals
) -> tuple[list[Estimate], list[Contrast], AgreementMatrix]:
    """Estimates, contrasts and the matrix of agreement of one modality."""
    among, matrix = agreed(grades, common, answers, terms)
    if common.known.any():
        alone = each(common, answers, terms)
        means, against = against_mean(common, answers, terms)
        means, against = alone + means, against + against_each(common, answers, terms)
    else:
        means, against = against_others(grades, common, answers, rule, terms)
    mark = {"modality": answers.modality} if answers.modality else {}
    found = [replace(e, where={**e.where, **mark}) for e in among + means]
    return found, [replace(c, where={**c.where, **mark}) for c in against], matrix


def _claim(wanted: Declaration, contrasts: list[Contrast], stands: Standing) -> Verdict:
    """Non-inferiority to the mean reader at the exact, broken degrees of freedom."""
    found = [c for c in contrasts if c.gap.first.metric == wanted.metric and c.where.get("reader") == MEAN and "design" not in c.where]  # fmt: skip
    if not found:
        why = f"{wanted.metric} of the model and the mean reader was not compared"
        lost = undefined(f"{wanted.metric} difference", why, of=wanted.of)
        return Verdict(non_inferiority(lost, wanted.margin, alpha=wanted.alpha), *stands)
    gap, freedom = found[0].gap, found[0].freedom
    near = int(freedom) if math.isfinite(freedom) else 0
    claim = non_inferiority(gap.difference, wanted.margin, alpha=wanted.alpha, freedom=near)
    if not claim.undefined and gap.error > 0:
        statistic = (gap.difference.value + wanted.margin) / gap.error
        p = _tail(statistic, freedom)
        claim = replace(claim, statistic=statistic, p=p, shown=p < wanted.alpha)
    return Verdict(claim, *stands)


def _tail(statistic: float, freedom: float) -> float:
    from scipy.special import ndtr, stdtr

    return float(stdtr(freedom, -statistic) if math.isfinite(freedom) else ndtr(-statistic))


# -- what a reader study stores for its figures and pages: curves, points, counts, and what must be said ----------


@checked
def curves(common: CommonCases, answers: Answers, estimates: list[Estimate]) -> ReaderCurves:
    """The ROC of the model and of readers who gave scores, and every point with its intervals."""
    if not common.known.any() or not common.positive:
        return ReaderCurves()
    read = answers.read.any(axis=1) & common.known
    roc = RocCurve() if common.score is None else _roc(common, common.score, read)
    model = ModelCurve(roc, _point(MODEL, answers.modality, estimates)) if roc else ModelCurve()
    lines = {} if answers.scores is None else {
        name: _roc(common, answers.scores[:, r], read) for r, name in enumerate(answers.readers) if answers.judged[r]
    }  # fmt: skip
    points = [_point(name, answers.modality, estimates) for name in (*answers.readers, MEAN)] if answers.calls is not None else []  # fmt: skip
    lines = {name: line for name, line in lines.items() if line}
    return ReaderCurves(model, tuple(p for p in points if p), lines, answers.rule)


def _roc(common: CommonCases, score: Any, rows: Any) -> RocCurve:
    """Corners of the curve; empty with one class only."""
    rows = rows & ~np.isnan(score)
    across, up, _ = roc_curve(common.ill[rows], score[rows])
    if not len(across):
        return RocCurve()
    step = drawn(across, up)
    return RocCurve(tuple(across[step].tolist()), tuple(up[step].tolist()))


def _point(who: str, modality: str, estimates: list[Estimate]) -> ReaderPoint:
    """As figures take it: sensitivity and specificity with their intervals; empty where there is none."""
    where = {"reader": who} | ({"modality": modality} if modality else {})
    found = {e.metric: e for e in estimates if e.where == where and e.metric in ("sensitivity", "specificity")}
    if len(found) < 2 or any(e.undefined for e in found.values()):
        return ReaderPoint()
    sensitivity, specificity = (Range.from_found(found[metric]) for metric in ("sensitivity", "specificity"))
    return ReaderPoint(who, sensitivity, specificity)


@checked
def counts(common: CommonCases, several: list[Answers]) -> dict[str, Any]:
    per = {
        a.modality: {"readers": {n: int(k) for n, k in zip(a.readers, a.read.sum(axis=0), strict=True)}, "answers": int(a.read.sum()),
                     **crossed(common, a)}
        for a in several
    }  # fmt: skip
    known = common.known
    return common.counts | {"positives": int((common.ill & known).sum()), "negatives": int((~common.ill & known).sum()),
                           "readers": len(several[0].readers) if several else 0, "modalities": per}  # fmt: skip


@checked
def cautions(common: CommonCases, several: list[Answers], judged: bool, rule: str) -> tuple[str, ...]:
    found = list(common.cautions)
    if not judged and common.chosen is not None:
        others = any(a.ratings is not None and len(a.readers) > 1 for a in several)
        found.append(
            f"the model and each reader are judged against the consensus of the other readers ({rule}), not against a truth: "
            "no reader is part of his own reference, and the intervals are for these readers only"
            if others else "no truth is known and no other reader gave labels: the model is judged against nothing"
        )  # fmt: skip
    for answers in several:
        within = f" ({answers.modality})" if answers.modality else ""
        every = crossed(common, answers)
        if judged and every["read by some"]:
            found.append(f"{count(every['read by some'], 'case')} that not all readers have read are left out of the analysis of "
                         f"readers and cases{within}; {every['read by all']:,} stay")  # fmt: skip
        few = int((~answers.judged).sum())
        if few:
            found.append(
                f"counted, but not judged, because they read fewer than 10 cases{within}: {counted(few, 'reader')}"
            )
        if int(answers.judged.sum()) == 1:
            found.append(f"one reader cannot stand for other readers: no analysis of random readers{within}")
    return tuple(dict.fromkeys(found))


# -- A reader study as aligned text for a terminal ----------------------------------------------------------------


#: Columns of the table of people, in this order.
SHOWN = ("sensitivity", "specificity", "balanced accuracy", "accuracy", "auc")


def as_text(found: Reading) -> str:
    """Counts, cautions, agreement, a line per reader, and a line per difference."""
    counts = found.counts
    lines = [f"{counted(counts['readers'], 'reader')} of {counted(counts['images'], 'case')} of {counted(counts['patients'], 'patient')}, reference: {found.about['reference']}"
             + looked(found.looks)]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    for modality in found.about["modalities"]:
        lines += ["", *_modality(found, modality)]
    between = [c for c in found.contrasts if "−" in c.where.get("modality", "") and "reader" not in c.where]
    lines += ["", *_contrasts(between, "modalities", found)] if between else []
    return "\n".join([*lines, *(["", str(found.verdict)] if found.verdict else [])])


def _modality(found: Reading, modality: str) -> Iterator[str]:
    mine = [e for e in found.estimates if e.where.get("modality", "") == modality and "cases" not in e.where]
    if modality:
        yield f"modality {modality}"
    level = f"value ({100 * found.about['level']:g} % interval)"
    agreeing = [e for e in mine if "reader" not in e.where]
    yield from aligned([("agreement", "of", level), *((e.metric, e.of, str(e)) for e in agreeing)])
    people = [e for e in mine if "reader" in e.where and "design" not in e.where and "beside" not in e.where]
    if people:
        yield ""
        yield from aligned(_people(people))
    against = [c for c in found.contrasts if c.where.get("modality", "") == modality and "reader" in c.where]
    if against:
        yield ""
        yield from _contrasts(against, "model minus", found)


def _people(estimates: Sequence[Estimate]) -> list[tuple[str, ...]]:
    """A row for each reader, the mean and the model; a column for each metric."""
    cells = {(e.where["reader"], e.metric): str(e) for e in estimates}
    metrics = [m for m in SHOWN if any(metric == m for _, metric in cells)]
    names = dict.fromkeys(name for name, _ in cells)
    rows = [name for name in names if name not in (MODEL, MEAN)] + [n for n in (MEAN, MODEL) if n in names]
    return [("reader", *metrics), *((name, *(cells.get((name, m), "") for m in metrics)) for name in rows)]


def _contrasts(contrasts: Sequence[Contrast], first: str, found: Reading) -> list[str]:
    head = (first, "metric", f"difference ({100 * found.about['level']:g} % interval)", "p", "p (Holm)", "how")
    return aligned([head, *map(_row, shown(contrasts))])


@checked
def shown(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Of the designs of a multi-reader analysis the most general that has a result; everything is in the files."""
    kept: dict[tuple[str, ...], Contrast] = {}
    for c in contrasts:
        key = (c.gap.difference.metric, *(f"{k} {v}" for k, v in c.where.items() if k != "design"))
        if key not in kept or (kept[key].gap.difference.undefined and not c.gap.difference.undefined):
            kept[key] = c
    return list(kept.values())


def _row(c: Contrast) -> tuple[str, ...]:
    who = c.where.get("reader") or c.where["modality"]
    how = c.where.get("at") or c.where.get("design") or ("readers random, cases random" if _sampled(c) else "")
    return who, c.gap.difference.metric, str(c.gap.difference), p_text(c.gap.p), p_text(c.adjusted), how


def _sampled(c: Contrast) -> bool:
    return "Obuchowski" in c.gap.difference.method
