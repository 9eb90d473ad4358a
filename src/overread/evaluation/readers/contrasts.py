"""What is computed of readers: how they agree, how each does, and a model against them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.annotators import Grades, consensus
from overread.cases.graded_cases import MOST_PAIRED, agreement
from overread.core.errors import checked
from overread.evaluation.estimators import Intervals
from overread.evaluation.readers.answers import FEWEST_CASES, Answers, CommonCases, Floats
from overread.evaluation.results import Content, Result, to_file_form
from overread.stats.agreement.mrmc import Modalities, compare_modalities, compare_with_reader, compare_with_readers
from overread.stats.agreement.pairs import intraclass_correlation
from overread.stats.agreement.panel import krippendorff_alpha
from overread.stats.arrays import distinct
from overread.stats.classification import at_threshold
from overread.stats.discrimination.delong import auc_difference
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import Difference, Estimate, implied, undefined
from overread.stats.hypotheses import holm
from overread.stats.proportions import proportion
from overread.stats.resample import Column, bootstrapped, of_sums, per_patient

#: Names under which ``where["reader"]`` says whose number it is, besides the readers' own.
MODEL, MEAN = "model", "mean of readers"
#: Who is a sample of others: readers and cases. The first is what is concluded from.
DESIGNS: tuple[tuple[Literal["random", "fixed"], Literal["random", "fixed"]], ...] = (
    ("random", "random"), ("fixed", "random"), ("random", "fixed"),
)  # fmt: skip
EVERY = "read in every modality"
FEW = f"fewer than {FEWEST_CASES} cases"


@dataclass(frozen=True)
class Contrast:
    """A difference with its test: of the model and a reader or the readers' mean, or of two modalities.

    ``where`` says of whom; ``freedom`` are the degrees of freedom of its Student's t (∞: normal), ``adjusted`` is p
    after Holm's correction over the readers, where there are several.
    """

    gap: Difference
    where: dict[str, str]
    freedom: float = math.inf
    adjusted: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.freedom) and not self.gap.difference.undefined:  # from a file: JSON has no infinity
            object.__setattr__(self, "freedom", math.inf)

    @property
    def reader(self) -> str:
        """Whom the model is compared with; empty for a difference of modalities."""
        return self.where.get("reader", "")

    @property
    def modality(self) -> str:
        """In which modality, or of which two."""
        return self.where.get("modality", "")

    @property
    def at(self) -> str:
        """What is alike for both, such as ``the reader's specificity``."""
        return self.where.get("at", "")

    @property
    def estimate(self) -> Estimate:
        """The difference with its ``where``."""
        return replace(self.gap.difference, where=self.where)


class OfReaders(Result):
    """A result with ``estimates`` of readers and ``contrasts`` between them, which stand in :attr:`file` with their tests
    and, as estimates, behind the others in ``metrics.json``."""

    #: Fields that stand in the file in the words of their names.
    in_words: ClassVar[tuple[str, ...]] = ()
    if TYPE_CHECKING:
        contrasts: tuple[Contrast, ...]

    @property
    def all(self) -> tuple[Estimate, ...]:
        """Every estimate: those of people, then the differences."""
        return (*self.estimates, *(c.estimate for c in self.contrasts))

    def held(self) -> dict[str, Any]:
        """Everything but the estimates, of which it says how many are not of differences."""
        held = super().held()
        held |= {name: to_file_form(held[name]) for name in self.in_words}
        return {**held, "estimates": len(self.estimates), "contrasts": list(self.contrasts)}

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> Self:
        """The reading from what its two files hold."""
        own, contrasts = held.get("estimates"), held.get("contrasts")
        if not isinstance(own, int) or not isinstance(contrasts, list) or len(metrics) != own + len(contrasts):
            raise cls.damaged(cls.file)
        return super().restored(held, metrics[:own])


@dataclass(frozen=True, eq=False)
class _Merit:
    """A merit: the truth it is judged by, what the model and the readers (N, R) said, and the cases that count."""

    metric: str
    merit: Literal["auc", "sensitivity", "specificity"]
    truth: NDArray[np.bool_]
    model: Floats | None
    table: Floats
    rows: NDArray[np.bool_]


# -- agreement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AgreementMatrix(Content):
    """The agreement of every pair of readers, (R, R), symmetric; NaN on the diagonal and where undefined."""

    metric: str = ""
    readers: tuple[str, ...] = ()
    value: tuple[tuple[float, ...], ...] = ()


@checked
def agreed(
    grades: Grades, common: CommonCases, answers: Answers, terms: Intervals
) -> tuple[list[Estimate], AgreementMatrix]:
    """How far readers agree, and the matrix of every pair (ten readers at most) for a figure."""
    how: dict[str, Any] = {"level": terms.level, "resamples": terms.resamples or None, "seed": terms.seed}
    if answers.ratings is not None:
        kept = _of_patients(grades, common)
        found = agreement(kept, classes=common.names, modality=answers.modality, **how)
        by = "quadratic kappa" if any(e.metric == "quadratic kappa" for e in found) else "kappa"
        return found, _matrix(answers.readers, [e for e in found if e.metric == by], by)
    if answers.scores is None:
        return [], AgreementMatrix()
    pairs = _score_pairs(answers, common, how)
    alike = [intraclass_correlation(answers.scores, common.codes, kind=kind, **how) for kind in ("agreement", "consistency")]  # fmt: skip
    alpha = krippendorff_alpha(answers.scores, common.codes, scale="interval", **how)
    return [*alike, alpha, *pairs], _matrix(answers.readers, pairs, "icc(2,1)")


def _of_patients(grades: Grades, common: CommonCases) -> Grades:
    """The answers to the cases in common, under its patients."""
    person = dict(zip(common.cases, common.codes.astype(str), strict=True))
    table = grades.table[grades.table["case"].isin(common.cases)]
    return replace(grades, table=table.assign(patient=table["case"].map(person)))


def _score_pairs(answers: Answers, common: CommonCases, how: dict[str, Any]) -> list[Estimate]:
    assert answers.scores is not None
    if not 1 < len(answers.readers) <= MOST_PAIRED:
        return []
    return [
        replace(intraclass_correlation(answers.scores[:, [i, j]], common.codes, readers="fixed", **how),
                of=f"{answers.readers[i]} and {answers.readers[j]}")
        for i, j in combinations(range(len(answers.readers)), 2)
    ]  # fmt: skip


def _matrix(readers: Sequence[str], pairs: Sequence[Estimate], metric: str) -> AgreementMatrix:
    if not pairs:
        return AgreementMatrix()
    value = np.full((len(readers), len(readers)), np.nan)
    for (i, j), pair in zip(combinations(range(len(readers)), 2), pairs, strict=True):
        value[i, j] = value[j, i] = pair.value
    return AgreementMatrix(metric, tuple(readers), tuple(map(tuple, value.tolist())))


# -- each alone -------------------------------------------------------------------------------------------------------


@checked
def each(common: CommonCases, answers: Answers, terms: Intervals) -> list[Estimate]:
    """Every reader's and the model's sensitivity, specificity, accuracy and AUC where the truth is known."""
    found: list[Estimate] = []
    for r, name in enumerate(answers.readers):
        calls, scores, ratings = (t[:, r] if t is not None else None for t in (answers.calls, answers.scores, answers.ratings))  # fmt: skip
        own = _alone(common, calls, scores, ratings, terms)
        if not answers.judged[r]:
            own = [undefined(e.metric, FEW, of=e.of, images=e.images, patients=e.patients) for e in own]
        found += [replace(e, where={"reader": name}) for e in own]
    read = answers.read.any(axis=1)
    flagged, score, chosen = (
        None if t is None else np.where(read, t, math.nan) for t in (common.flagged, common.score, common.chosen)
    )
    return found + [replace(e, where={"reader": MODEL}) for e in _alone(common, flagged, score, chosen, terms)]


def _alone(common: CommonCases, calls: Floats | None, scores: Floats | None, chosen: Floats | None, terms: Intervals) -> list[Estimate]:  # fmt: skip
    """``calls`` and ``scores`` against the positive classes, ``chosen`` against the truth itself; NaN is left out."""
    found: list[Estimate] = []
    if calls is not None:
        rows = common.known & ~np.isnan(calls)
        points = at_threshold(common.ill[rows], calls[rows], common.codes[rows], level=terms.level, of=common.of)
        half = auc(common.ill[rows], calls[rows], common.codes[rows], level=terms.level, of=common.of)
        # the area under the curve of a call is the mean of sensitivity and specificity
        found += [points[0], points[1], replace(half, metric="balanced accuracy"), *(points[4:] if chosen is None else ())]  # fmt: skip
    if chosen is not None:
        rows = common.known & ~np.isnan(chosen)
        right = chosen[rows] == common.truth[rows]
        found.append(proportion(right, common.codes[rows], level=terms.level, metric="accuracy", of=common.of))
    if scores is not None and common.positive:
        rows = common.known & ~np.isnan(scores)
        found.append(auc(common.ill[rows], scores[rows], common.codes[rows], level=terms.level, of=common.of))
    return found


# -- merits of a multi-reader analysis --------------------------------------------------------------------------------


def _asked(common: CommonCases, answers: Answers) -> list[_Merit]:
    """AUC of scores; sensitivity, specificity and their mean of calls; accuracy of classes. The readers judged only."""
    kept, known = answers.judged, common.known
    found = []
    if answers.scores is not None and common.positive:
        found.append(_Merit("auc", "auc", common.ill, common.score, answers.scores[:, kept], known))
    if answers.calls is not None:
        calls, mine = answers.calls[:, kept], common.flagged
        found += [
            _Merit("sensitivity", "sensitivity", common.ill, mine, calls, known),
            _Merit("specificity", "specificity", common.ill, mine, calls, known),
            # the area under the curve of a call is the mean of sensitivity and specificity
            _Merit("balanced accuracy", "auc", common.ill, mine, calls, known),
        ]
    if answers.ratings is not None:
        found.append(_right(common, answers.ratings[:, kept]))
    return found


def _right(common: CommonCases, ratings: Floats) -> _Merit:
    """Accuracy is the sensitivity of being right where being right is the truth."""
    right = np.where(np.isnan(ratings), math.nan, ratings == common.truth[:, None])
    mine = None if common.chosen is None else np.where(np.isnan(common.chosen), math.nan, common.chosen == common.truth)
    return _Merit("accuracy", "sensitivity", np.ones(len(right), bool), mine, right, common.known)


def _crossed(asked: _Merit) -> NDArray[np.bool_]:
    """(N,) the cases with a truth that all readers have read."""
    return np.asarray(asked.rows & ~np.isnan(asked.table).any(axis=1))


@checked
def crossed(common: CommonCases, answers: Answers) -> dict[str, int]:
    """How many cases with a truth all judged readers have read, and how many only some of them."""
    read = answers.read[:, answers.judged]
    some, every = (read[common.known].any(axis=1).sum(), read[common.known].all(axis=1).sum()) if read.size else (0, 0)
    return {"read by all": int(every), "read by some": int(some - every)}


def _named(estimate: Estimate, asked: _Merit, of: str, where: dict[str, str]) -> Estimate:
    metric = estimate.metric.replace(asked.merit, asked.metric, 1)
    return replace(estimate, metric=metric, of=of, where=where)


def _design(readers: str, cases: str) -> dict[str, str]:
    return {} if (readers, cases) == DESIGNS[0] else {"design": f"readers {readers}, cases {cases}"}


@checked
def against_mean(common: CommonCases, answers: Answers, terms: Intervals) -> tuple[list[Estimate], list[Contrast]]:
    """The readers' mean, and the model minus it, for readers and cases that are a sample and that are not.

    Obuchowski–Rockette; see :func:`overread.stats.agreement.mrmc.compare_with_readers`.
    """
    means: list[Estimate] = []
    contrasts: list[Contrast] = []
    for asked in _asked(common, answers) if answers.judged.any() and common.known.any() else ():
        rows = _crossed(asked)
        truth, table, people = asked.truth[rows], asked.table[rows], common.codes[rows]
        for readers, cases in DESIGNS:
            where = {"reader": MEAN, **_design(readers, cases)}
            how: dict[str, Any] = {"merit": asked.merit, "readers": readers, "cases": cases, "level": terms.level}
            if asked.model is None:
                one = compare_modalities(truth, table[:, :, None], people, **how)
                means.append(_named(one.means[0], asked, common.of, where))
                continue
            found = compare_with_readers(truth, asked.model[rows], table, people, **how)
            first, second = _named(found.model, asked, common.of, {"reader": MODEL}), _named(found.mean, asked, common.of, {"reader": MEAN})  # fmt: skip
            difference = _named(found.difference.difference, asked, common.of, {})
            gap = replace(found.difference, first=first, second=second, difference=difference)
            means.append(replace(second, where=where))
            contrasts.append(Contrast(gap, where, found.freedom))
    return means, contrasts


@checked
def against_each(common: CommonCases, answers: Answers, terms: Intervals) -> list[Contrast]:
    """The model against each reader on that reader's own cases, Holm's correction over the readers.

    Calls: at the reader's own specificity, and at the reader's own sensitivity; scores: AUC (DeLong).
    """
    if common.score is None or not common.positive or not common.known.any():
        return []
    made = [
        Contrast(_of(gap, common.of), {"reader": name, **at})
        for r, name in enumerate(answers.readers)
        if answers.judged[r]
        for gap, at in _against_one(common, answers, r, terms)
    ]
    kinds = [(c.gap.difference.metric, c.where.get("at", "")) for c in made]
    adjusted = np.full(len(made), math.nan)
    for kind in dict.fromkeys(kinds):
        same = [i for i, k in enumerate(kinds) if k == kind]
        adjusted[same] = holm([made[i].gap.p for i in same])
    return [replace(c, adjusted=float(p)) for c, p in zip(made, adjusted, strict=True)]


def _of(gap: Difference, of: str) -> Difference:
    first, second, difference = (replace(e, of=of) for e in (gap.first, gap.second, gap.difference))
    return replace(gap, first=first, second=second, difference=difference)


def _against_one(
    common: CommonCases, answers: Answers, r: int, terms: Intervals
) -> Iterator[tuple[Difference, dict[str, str]]]:
    assert common.score is not None
    if answers.scores is not None:
        rows = common.known & ~np.isnan(answers.scores[:, r])
        yield auc_difference(common.ill[rows], common.score[rows], answers.scores[rows, r], common.codes[rows], level=terms.level), {}  # fmt: skip
    if answers.calls is not None:
        rows = common.known & ~np.isnan(answers.calls[:, r])
        found = compare_with_reader(common.ill[rows], common.score[rows], answers.calls[rows, r], common.codes[rows],
                                    level=terms.level, resamples=terms.resamples or None, seed=terms.seed)  # fmt: skip
        yield found.sensitivity, {"at": "the reader's specificity"}
        yield found.specificity, {"at": "the reader's sensitivity"}


@checked
def between_modalities(
    common: CommonCases, several: Sequence[Answers], terms: Intervals
) -> tuple[list[Estimate], list[Contrast]]:
    """The readers' mean in each modality and every difference of two, on cases that all have read in all of them."""
    several, means, contrasts = _same_judged(several), [], []
    if not several or not common.known.any():
        return [], []
    names = tuple(answers.modality for answers in several)
    for group in zip(*(_asked(common, answers) for answers in several), strict=True):
        rows = np.logical_and.reduce([_crossed(asked) for asked in group])
        table = np.stack([asked.table[rows] for asked in group], axis=2)  # (N, R, M)
        for readers, cases in DESIGNS:
            made = compare_modalities(group[0].truth[rows], table, common.codes[rows], merit=group[0].merit,
                                      readers=readers, cases=cases, level=terms.level, names=names)  # fmt: skip
            wheres = [{"reader": MEAN, "modality": m, "cases": EVERY, **_design(readers, cases)} for m in names]
            means += [_named(e, group[0], common.of, w) for e, w in zip(made.means, wheres, strict=True)]
            contrasts += _changes(made, group[0], common.of, names, _design(readers, cases))
    return means, contrasts


def _same_judged(several: Sequence[Answers]) -> list[Answers]:
    """The modalities with the readers that are judged in each of them."""
    both = np.logical_and.reduce([answers.judged for answers in several])

    def kept(table: Floats | None) -> Floats | None:
        return None if table is None else table[:, both]

    readers = tuple(np.array(several[0].readers, dtype=object)[both])
    return [replace(a, readers=readers, ratings=kept(a.ratings), calls=kept(a.calls), scores=kept(a.scores)) for a in several] if both.any() else []  # fmt: skip


def _changes(made: Modalities, asked: _Merit, of: str, names: Sequence[str], design: dict[str, str]) -> list[Contrast]:
    found = []
    for (a, b), gap in zip(combinations(names, 2), made.differences, strict=True):
        first, second, difference = (_named(e, asked, of, {}) for e in (gap.first, gap.second, gap.difference))
        named = replace(gap, first=first, second=second, difference=difference)
        freedom = made.freedom[1] if not gap.difference.undefined else math.nan
        found.append(Contrast(named, {"modality": f"{a} − {b}", **design}, freedom))
    return found


# -- where nobody knows the truth: every reader, and the model, against the consensus of the other readers --------


METRICS = ("accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """One reader left out: the cases that this reader read and the others decided, and who was right of them."""

    reader: str
    rows: NDArray[np.bool_]  # (N,)
    among: dict[str, NDArray[np.bool_]]  # (N,) by metric: the cases that count
    right: NDArray[np.bool_]  # (N,) the reader; of sensitivity and specificity by positive class
    model: NDArray[np.bool_] | None
    flag: NDArray[np.bool_]
    model_flag: NDArray[np.bool_] | None

    def good(self, metric: str, who: str) -> NDArray[np.bool_]:
        """(N,) whether the reader or the model was right, in the sense of the metric."""
        right, flag = (self.right, self.flag) if who == self.reader else (self.model, self.model_flag)
        assert right is not None
        assert flag is not None
        return {"accuracy": right, "sensitivity": flag, "specificity": ~flag}[metric]


@checked
def against_others(
    grades: Grades, common: CommonCases, answers: Answers, rule: str, terms: Intervals
) -> tuple[list[Estimate], list[Contrast]]:
    """Each reader's accuracy (and sensitivity, specificity) against the consensus of the other readers, by ``rule``.

    A reader is never part of his own reference. The model is judged against the same references on the same cases, and
    its mean minus the readers' mean, over these readers, has a patient bootstrap. Cases on which the others are tied
    are left out. Empty without labels or with one reader.
    """
    if answers.ratings is None or len(answers.readers) < 2:
        return [], []
    left = [_leave(grades, common, answers, r, rule) for r in range(len(answers.readers))]
    about = {"reference": f"consensus of the other readers ({rule})"}
    found, judged = [], [one for r, one in enumerate(left) if answers.judged[r]]
    for one, good in zip(left, answers.judged, strict=True):
        found += [replace(e, where={**e.where, **about}) for e in _shares(one, common, bool(good), terms)]
    means, contrasts = _together(judged, common, terms, about) if judged else ([], [])
    return found + means, contrasts


def _leave(grades: Grades, common: CommonCases, answers: Answers, r: int, rule: str) -> _LeftOut:
    assert answers.ratings is not None
    table = grades.table
    others = (table["reader"] != answers.readers[r]) & (table["modality"] == answers.modality) & table["case"].isin(common.cases)  # fmt: skip
    made = consensus(replace(grades, table=table[others]), rule=rule, classes=common.names) if others.any() else None
    labels = {} if made is None else dict(zip(made["case"], made["label"], strict=True))
    reference = pd.Index(common.names).get_indexer(pd.Index([labels.get(c, "") for c in common.cases], dtype=object))
    own = answers.ratings[:, r]
    rows = (reference >= 0) & ~np.isnan(own)
    if common.chosen is not None:
        rows &= ~np.isnan(common.chosen)
    ill = np.isin(reference, common.places)
    among = {"accuracy": rows} | ({"sensitivity": rows & ill, "specificity": rows & ~ill} if common.positive else {})
    chosen, flagged = common.chosen, common.flagged
    return _LeftOut(answers.readers[r], rows, among, own == reference, None if chosen is None else chosen == reference,
                  np.isin(own, common.places), (None if chosen is None else np.zeros(len(rows), bool)) if flagged is None else flagged == 1)  # fmt: skip


def _shares(one: _LeftOut, common: CommonCases, judged: bool, terms: Intervals) -> Iterator[Estimate]:
    """The reader's shares, and the model's against the same reference."""
    for who in (one.reader, *((MODEL,) if one.model is not None else ())):
        where = {"reader": who} if who == one.reader else {"reader": MODEL, "beside": one.reader}
        for metric, rows in one.among.items():
            images, patients = int(rows.sum()), distinct(common.codes[rows])
            if not judged:
                yield replace(undefined(metric, FEW, of=common.of, images=images, patients=patients), where=where)
                continue
            good = one.good(metric, who)[rows]
            yield replace(
                proportion(good, common.codes[rows], level=terms.level, metric=metric, of=common.of), where=where
            )


def _together(
    judged: list[_LeftOut], common: CommonCases, terms: Intervals, about: dict[str, str]
) -> tuple[list[Estimate], list[Contrast]]:
    means: list[Estimate] = []
    contrasts: list[Contrast] = []
    for metric in judged[0].among:
        made = _resampled(judged, common, metric, terms)
        who = (MEAN, MODEL) if judged[0].model is not None else (MEAN,)
        means += [replace(e, where={"reader": name, **about}) for e, name in zip(made, who)]
        if len(who) < 2:
            continue
        names = (MEAN, *(one.reader for one in judged))
        gaps = [_contrast(made[3 * k : 3 * k + 3], name, about) for k, name in enumerate(names)]
        adjusted = holm([c.gap.p for c in gaps[1:]])
        contrasts += [gaps[0], *(replace(c, adjusted=float(p)) for c, p in zip(gaps[1:], adjusted, strict=True))]
    return means, contrasts


def _contrast(trio: list[Estimate], who: str, about: dict[str, str]) -> Contrast:
    """Of the reader, the model and the difference, as :func:`_resampled` gives them."""
    reader, model, gap = trio
    sides = replace(model, where={"reader": MODEL}), replace(reader, where={"reader": who})
    gap = replace(gap, metric=f"{gap.metric} difference", low=max(gap.low, -1.0), high=min(gap.high, 1.0))
    freedom = max(gap.patients - 1, 0)
    return Contrast(implied(*sides, gap, freedom=freedom), {"reader": who, **about}, float(freedom) or math.inf)


def _resampled(judged: list[_LeftOut], common: CommonCases, metric: str, terms: Intervals) -> list[Estimate]:
    """Of the mean, then of every reader: the reader's share, the model's against the same reference, the difference."""
    beside, count = judged[0].model is not None, len(judged)
    people, patients = common.codes, int(common.codes.max()) + 1
    cells = [
        column
        for one in judged
        for column in (one.among[metric], one.among[metric] & one.good(metric, one.reader),
                       one.among[metric] & one.good(metric, MODEL) if beside else one.among[metric] & False)
    ]  # fmt: skip
    every = np.logical_or.reduce([one.among[metric] for one in judged])
    columns = [
        c for rows in (every, *(one.among[metric] for one in judged)) for c in _trio(rows, common, metric, count)
    ]

    def compute(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = sums.reshape(-1, count, 3)[:, :, 1:] / sums.reshape(-1, count, 3)[:, :, :1]  # (B, R, 2)
        both = np.concatenate((each.mean(axis=1, keepdims=True), each), axis=1)  # the mean first
        return np.dstack((both, both[:, :, 1] - both[:, :, 0])).reshape(len(sums), -1)

    statistic = of_sums(tuple(columns), per_patient(people, patients, *cells), compute)
    return bootstrapped(statistic, people, level=terms.level, resamples=terms.resamples or None, seed=terms.seed)


def _trio(rows: NDArray[np.bool_], common: CommonCases, metric: str, readers: int) -> tuple[Column, Column, Column]:
    """The reader's share, the model's and the difference, on these cases."""
    size = distinct(common.codes[rows])
    share = Column(metric, common.of, int(rows.sum()), size, effective=max(size, 1), freedom=max(size - 1, 0),
                   note=f"{readers} readers, fixed", reason=f"a reader without cases for {metric}")  # fmt: skip
    return share, share, replace(share, scale="plain", effective=1)
