"""Readers among themselves, and a model beside them: agreement, points, and every difference with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.graders import Grades, in_order
from overread.errors import InputError, checked, nearest, require
from overread.evaluation.comparing.claims import NOT_ASKED, Declaration, Standing, Verdict, look
from overread.evaluation.judging.judge import Terms
from overread.evaluation.ledger import truth_hash, verify
from overread.evaluation.operating import OperatingPoint, refuse_seen
from overread.evaluation.reading.board import Answers, Board, Reference, answers_of, board_of, with_truth
from overread.evaluation.reading.others import against_others
from overread.evaluation.reading.parts import (
    MEAN,
    MODEL,
    Contrast,
    against_each,
    against_mean,
    agreed,
    between_modalities,
    each,
)
from overread.evaluation.reading.stored import cautions, counts, curves
from overread.evaluation.stored import (
    Alike,
    claim_again,
    damaged,
    difference_again,
    estimates,
    read_results,
    with_nan,
)
from overread.predictions import Predictions
from overread.record import build, plain, sha256, write_json
from overread.stats.arrays import normal_quantile
from overread.stats.estimate import Estimate, undefined
from overread.stats.margins import non_inferiority


@dataclass(frozen=True, eq=False)
class Reading(Alike):
    """What a reader study found.

    ``estimates``: agreement, then each reader's and the model's numbers; ``where["reader"]`` says whose (``model``,
    ``mean of readers``, or a reader). ``contrasts``: differences with their tests. ``curves``: ROC and points of each
    modality, ``matrix``: the agreement of every pair. ``verdict``: the claim at a margin. ``cautions``: what a reader
    of the report must know. ``looks``: how often this test set was looked at before.
    """

    estimates: tuple[Estimate, ...]
    contrasts: tuple[Contrast, ...] = ()
    curves: dict[str, Any] = field(default_factory=dict)
    matrix: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    cautions: tuple[str, ...] = ()
    looks: int = 0
    of: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """``result["fleiss kappa"]``; ``result["auc", "reader 2"]``, ``result["auc", "model"]``."""
        metric, who = (key, "") if isinstance(key, str) else key
        same = [e for e in self.estimates if e.metric == metric]
        if not same:
            raise InputError(f"there is no metric {metric!r}", todo=nearest(metric, dict.fromkeys(e.metric for e in self.estimates)))  # fmt: skip
        people = [e.where.get("reader", "") for e in same]
        if who not in people:
            raise InputError(
                f"there is no {metric} of {who or 'all readers'!r}", todo=nearest(who, dict.fromkeys(people))
            )
        return same[people.index(who)]

    def contrast(self, metric: str, who: str = MEAN, **where: str) -> Contrast:
        """The model minus a reader, or minus the readers' mean (for random readers and cases)."""
        wanted = {"reader": who, **where}
        found = [
            c for c in self.contrasts if c.gap.first.metric == metric and wanted.items() <= c.where.items()
        ]
        if not found:
            raise InputError(f"there is no difference in {metric} of {who!r}", given=", ".join(dict.fromkeys(c.gap.first.metric for c in self.contrasts)) or "no differences")  # fmt: skip
        return min(found, key=lambda c: len(c.where))

    @property
    def all(self) -> tuple[Estimate, ...]:
        """Every estimate: those of people, then the differences."""
        return (*self.estimates, *(c.estimate for c in self.contrasts))

    def __repr__(self) -> str:
        return f"reading of {self.counts.get('images', 0):,} cases, {len(self.all):,} estimates"

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        from overread.evaluation.reading.table import as_text

        return as_text(self)

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json`` (every estimate) and ``readers.json`` (all that figures and pages need)."""
        folder = Path(folder)
        held = {name: getattr(self, name) for name in _KEPT}
        write_json(
            folder / "readers.json",
            {**held, "estimates": len(self.estimates), "contrasts": list(self.contrasts)},
        )
        write_json(folder / "metrics.json", list(self.all))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Reading:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        metrics, held = read_results(folder, "readers", (*_KEPT, "estimates", "contrasts"), "reading")
        fixed = build(_Held, {n: with_nan(held[n]) for n in ("estimates", "contrasts", "verdict", "cautions")},
                      where="readers.json")  # fmt: skip
        if len(metrics) != fixed.estimates + len(fixed.contrasts):
            raise damaged("reading", folder)
        kept = {n: held[n] for n in ("curves", "matrix", "counts", "looks", "of", "about")}
        verdict = replace(fixed.verdict, claim=claim_again(fixed.verdict.claim)) if fixed.verdict else None
        return cls(
            estimates(metrics[: fixed.estimates]), tuple(map(_contrast, fixed.contrasts)), verdict=verdict,
            cautions=fixed.cautions, **kept,
        )  # fmt: skip


_KEPT = ("curves", "matrix", "counts", "verdict", "cautions", "looks", "of", "about")


@dataclass(frozen=True)
class _Held:
    """What ``readers.json`` holds of fixed types."""

    estimates: int
    contrasts: tuple[Contrast, ...]
    verdict: Verdict | None
    cautions: tuple[str, ...]


def _contrast(held: Contrast) -> Contrast:
    """With the infinities that JSON has not."""
    lost = math.isnan(held.freedom) and not held.gap.difference.undefined
    return replace(held, gap=difference_again(held.gap), freedom=math.inf if lost else held.freedom)


@checked
def judge_readers(
    grades: Grades,
    predictions: Predictions | None = None,
    *,
    truth: pd.DataFrame | None = None,
    at: OperatingPoint | None = None,
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
    model's operating point, frozen on tuning data; without one, .5 is used and said. ``positive``: classes that count
    as disease. ``reference``: the ``truth``, the ``consensus`` of the other readers by ``rule`` (no reader is part of
    his own reference), or the truth where it is known (``auto``). ``cut``: scores of readers from there on are calls.
    ``margin`` of ``margin_of`` (auc, sensitivity, specificity) for non-inferiority to the mean reader, one-sided at
    (1 − ``level``)/2. ``ledger``: where the look at this test set is written down, once, under ``model``.

    Methods: agreement as :func:`overread.cases.graders_agreement.agreement`; model against the readers' mean, and two
    modalities, by Obuchowski & Rockette 1995 with Hillis's degrees of freedom, on the cases that all have read; against
    each reader at the reader's own specificity and sensitivity, and by DeLong for scores. Raises :class:`InputError`
    where tables do not fit, :class:`UnsoundError` where patients were seen when the threshold was chosen.
    """
    normal_quantile(level)
    require(
        margin is None or predictions is not None, "a margin needs a model beside the readers", given=margin
    )
    if predictions is not None and truth is not None:
        predictions, truth = with_truth(predictions, truth), None
    if at is not None and predictions is not None:
        refuse_seen(predictions, at.seen, at.salt, "to choose the threshold")
    board = board_of(grades, predictions, truth, at=at, positive=positive)
    if reference == "truth" and not board.known.any():
        raise InputError("no case that was read has a known truth", given=f"{len(board.cases):,} cases", todo="give --truth, or choose the consensus")  # fmt: skip
    judged = reference != "consensus" and bool(board.known.any())
    board = board if judged else replace(board, truth=np.full(len(board.cases), -1))
    several = [answers_of(grades, board, modality, cut) for modality in grades.modalities]
    wanted = None if margin is None else _declaration(margin, margin_of, level, board, several)
    _require_rule(board, several, judged, rule)
    if ledger is not None:
        verify(ledger)
    terms = Terms(level, seed, resamples or 0)
    parts = [_of_modality(grades, board, answers, rule, terms) for answers in several]
    means, changes = between_modalities(board, several, terms) if len(several) > 1 else ([], [])
    estimates = [e for part in parts for e in part[0]] + means
    contrasts = [c for part in parts for c in part[1]] + changes
    kept = plain({a.modality: curves(board, a, estimates) for a in several})
    looks, stands = _look(grades, predictions, board, truth, wanted, ledger, model)
    return Reading(
        tuple(estimates), tuple(contrasts), kept, plain({a.modality: p[2] for a, p in zip(several, parts, strict=True)}),
        plain(counts(board, several)), _claim(wanted, contrasts, stands) if wanted else None, cautions(board, several, judged, rule),
        looks, board.of,
        plain({"level": level, "seed": seed, "names": board.names, "kind": grades.kind, "model": model, "threshold": board.rule,
               "reference": "truth" if judged else f"consensus of the other readers ({rule})", "modalities": grades.modalities,
               "predictions": predictions.digest if predictions is not None else ""}),
    )  # fmt: skip


def _declaration(
    margin: float, margin_of: str, level: float, board: Board, several: list[Answers]
) -> Declaration:
    """What is claimed; refused before anybody looks if nothing is compared so."""
    there = [name for name, table in (("auc", several[0].scores), ("sensitivity", several[0].calls), ("specificity", several[0].calls))
             if table is not None and board.positive]  # fmt: skip
    made = Declaration.read(margin, margin_of or "auc", "non-inferiority", level)
    if made.metric not in there:
        raise InputError("the margin is of nothing that is compared", given=f"{made.metric}, compared: {', '.join(there) or 'none'}",
                         todo="say --margin-of sensitivity or specificity for readers' labels, auc for their scores")  # fmt: skip
    if len(several) != 1:
        raise InputError(
            "a margin needs one modality",
            given=f"{len(several)} modalities",
            todo="give the answers in one of them",
        )
    return replace(made, of=made.of or board.of)


def _look(
    grades: Grades, predictions: Predictions | None, board: Board, truth: pd.DataFrame | None,
    wanted: Declaration | None, ledger: str | Path | None, model: str,
) -> tuple[int, Standing]:  # fmt: skip
    """One line in the ledger where a truth, or readers in its place, judge somebody; how the claim stands."""
    if predictions is None and truth is None:
        return 0, NOT_ASKED
    if predictions is not None and board.known.any():
        test = truth_hash(predictions)
    else:
        kept = (
            grades.table.sort_values(["case", "reader", "modality"])
            if truth is None
            else truth.sort_values("case")
        )
        test = sha256(kept.to_csv(index=False, lineterminator="\n").encode())[:16]
    threshold = None if predictions is None else board.threshold
    digest = predictions.digest if predictions is not None else test
    who = model or (MODEL if predictions is not None else "readers")
    return look(ledger, [test], wanted, model=who, threshold=threshold, predictions=digest)


def _require_rule(board: Board, several: list[Answers], judged: bool, rule: str) -> None:
    """The consensus of the other readers exists by this rule."""
    fewest = min(len(answers.readers) for answers in several)
    if judged or any(answers.ratings is None for answers in several):
        return
    if rule == "dawid-skene" and 1 < fewest < 4:
        raise InputError("Dawid and Skene's model of the other readers needs three of them, so four in all",
                         given=f"{fewest:,} readers", todo="choose --consensus majority")  # fmt: skip
    if rule == "median" and not in_order(board.names):
        raise InputError("a median needs classes in order, and these are names without numbers",
                         given=", ".join(board.names[:10]), todo="choose --consensus majority, or number the classes")  # fmt: skip


def _of_modality(
    grades: Grades, board: Board, answers: Answers, rule: str, terms: Terms
) -> tuple[list[Estimate], list[Contrast], dict[str, Any]]:
    """Estimates, contrasts and the matrix of agreement of one modality."""
    among, matrix = agreed(grades, board, answers, terms)
    if board.known.any():
        alone = each(board, answers, terms)
        means, against = against_mean(board, answers, terms)
        means, against = alone + means, against + against_each(board, answers, terms)
    else:
        means, against = against_others(grades, board, answers, rule, terms)
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
