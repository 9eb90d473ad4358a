"""Readers of several findings, and a model beside them: F1 against the other readers, each finding and their mean.

Each reader is judged against the consensus of the *other* readers, and the model against the same references on the same
cases (Rajpurkar 2017, "CheXNet", section 3, where the others' labels are the truth), or both against a known truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.cases.annotators import Grades, consensus
from overread.cases.several_questions import yes_or_no
from overread.core.errors import InputError, checked, nearest, require
from overread.core.files import plain, sha256
from overread.core.phrases import aligned, count
from overread.evaluation.comparison.claims import look
from overread.evaluation.decision.class_decision import Frozen, parted, refuse_tuned
from overread.evaluation.ledger import looked, verify
from overread.evaluation.operating_point import refuse_training
from overread.evaluation.readers.answers import FEWEST_CASES, Reference
from overread.evaluation.readers.contrasts import MEAN, MODEL, Contrast, OfReaders
from overread.evaluation.results import lookup
from overread.predictions import Predictions
from overread.stats.agreement.panel import fleiss_kappa
from overread.stats.arrays import distinct, normal_quantile, patient_codes
from overread.stats.estimate import Estimate, implied, p_text
from overread.stats.hypotheses import holm
from overread.stats.resample import Column, bootstrapped, of_sums, per_patient

Floats = NDArray[np.float64]
#: What is told of each, the first first. An F1, a sensitivity without a present finding, is undefined.
METRICS = ("f1", "sensitivity", "specificity")
#: Counts of a reader and of the model beside: present and called, absent and called, present and missed, absent and passed.
_CELLS = 4


@dataclass(frozen=True, eq=False)
class FindingsReading(OfReaders):
    """What a reader study of several findings found.

    ``estimates``: Fleiss' kappa of each finding; then every metric of each reader, of the readers' mean and of the model, of
    each finding and (``of`` blank) their mean; ``where["reader"]`` says whose. ``contrasts``: the model minus the readers'
    mean, and, of the mean over findings, minus each reader. ``findings`` in the order of the model, those that are ``judged``.
    """

    file: ClassVar[str] = "readers.json"

    estimates: tuple[Estimate, ...]
    contrasts: tuple[Contrast, ...] = ()
    findings: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    looks: int = 0
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, ...]) -> Estimate:
        """``result["f1", "model"]``, ``result["f1", "reader 2"]``: the mean over findings; ``result["f1", "model", "Mass"]``."""
        given = (key,) if isinstance(key, str) else key
        metric, who, of = (*given, *(MODEL, "")[len(given) - 1 :])
        return lookup(
            ((e.metric, f"{e.where.get('reader', '')}|{e.of}", e) for e in self.estimates), (metric, f"{who}|{of}")
        )

    def contrast(self, metric: str = "f1", of: str = "", who: str = MEAN) -> Contrast:
        """The model minus the mean reader in a metric of one finding, or of their mean."""
        for c in self.contrasts:
            if (c.gap.first.metric, c.gap.first.of, c.reader) == (metric, of, who):
                return c
        raise InputError(
            f"there is no difference in {metric} of {of or 'the mean over findings'} to {who}",
            todo=nearest(of, self.findings),
        )

    def __repr__(self) -> str:
        return f"reading of {count(len(self.findings), 'finding')} in {count(self.counts.get('images', 0), 'case')}"

    def table(self) -> str:
        """The paper's table as text: F1 of each reader, their mean, the model, and the difference, a row a finding."""
        return "\n".join(as_text(self))


@dataclass(frozen=True, eq=False)
class _Tables:
    """N cases, F findings, R readers: ``ratings`` (F, N, R) and ``called`` (F, N) 1, 0 or NaN; ``truth`` (F, N) likewise."""

    cases: tuple[str, ...]
    findings: tuple[str, ...]
    readers: tuple[str, ...]
    ratings: Floats
    called: Floats | None
    truth: Floats
    codes: NDArray[np.int64]


@checked
def judge_findings(
    answers: Mapping[str, Grades],
    predictions: Predictions | None = None,
    *,
    at: Frozen | Sequence[Frozen] | None = None,
    reference: Reference = "consensus",
    rule: str = "majority",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    model: str = "",
) -> FindingsReading:
    """Judge readers of several findings, and a model beside them: F1, sensitivity and specificity with patient bootstrap.

    ``answers``: to each finding, yes or no (:func:`.read_questions`); a blank is masked, for this reader and finding.
    ``reference``: the ``consensus`` of the other readers by ``rule`` (no reader is part of his own; cases on which the others
    are tied do not count for him), or the ``truth`` of the predictions' label columns (``auto``: the truth where any is known).
    The model is judged against each reader's reference on that reader's cases, and its number is the mean. ``at``: its frozen
    points, the first of each finding; .5 without one, which is said. The mean over findings is that of the findings whose
    metric is defined, in every resample. Raises :class:`InputError` where findings or cases do not fit,
    :class:`UnsoundError` where patients were seen.
    """
    normal_quantile(level)
    points, _ = parted(at)
    if predictions is not None:
        refuse_training(predictions)
        refuse_tuned(predictions, points)
    if ledger is not None:
        verify(ledger)
    names = _findings(answers, predictions)
    grades = {name: yes_or_no(answers[name], name) for name in names}
    tables, cautions = _tables(grades, predictions, points)
    known = reference != "consensus" and bool(np.isfinite(tables.truth).any())
    if reference == "truth" and not known:
        raise InputError(
            "no case that was read has a known truth",
            todo="give it in the columns label:<finding> of the predictions, or choose the consensus",
        )
    require(
        known or len(tables.readers) > 1,
        "one reader has no other readers to be judged against",
        given=", ".join(tables.readers),
    )
    targets = _truths(tables) if known else _of_others(grades, tables, rule)
    cells, kept = _cells(tables, targets)
    judged = kept.any(axis=0).sum(axis=0) >= FEWEST_CASES  # (R,) readers of enough cases, in any finding
    found, contrasts, lost = _measured(tables, cells, kept, judged, level, resamples, seed)
    kappas = [_named(fleiss_kappa(tables.ratings[f], tables.codes, level=level, resamples=resamples, seed=seed), name)
              for f, name in enumerate(names)]  # fmt: skip
    said = f"the truth of {predictions}" if known else f"consensus of the other readers ({rule})"
    looks = _look(grades, predictions, points, ledger, model)
    return FindingsReading(
        (*kappas, *found), tuple(contrasts), names, tuple(n for n, good in zip(tables.readers, judged, strict=True) if good),
        plain({"images": len(tables.cases), "patients": distinct(tables.codes), "readers": len(tables.readers),
               "answers": {name: int(np.isfinite(tables.ratings[f]).sum()) for f, name in enumerate(names)}}),
        (*cautions, *_cautions(tables, targets, judged, lost, known, rule)), looks,
        plain({"level": level, "seed": seed, "reference": said, "model": model, "predictions": predictions.digest if predictions else "",
               "points": [str(point) for point in points]}),
    )  # fmt: skip


def _findings(answers: Mapping[str, Grades], predictions: Predictions | None) -> tuple[str, ...]:
    if predictions is None:
        return tuple(answers)
    if not predictions.target.task.multilabel:
        raise InputError("answers to several questions are judged beside predictions of findings",
                         given=predictions.target.task.summary, todo="give a table with the columns p:<finding>")  # fmt: skip
    both = tuple(name for name in predictions.target.names if name in answers)
    if not both:
        raise InputError("the readers and the model share no finding", given=f"{', '.join(answers)}; {', '.join(predictions.target.names)}",
                         todo="name findings in both tables alike")  # fmt: skip
    return both


def _tables(
    grades: Mapping[str, Grades], predictions: Predictions | None, points: Sequence[Any]
) -> tuple[_Tables, list[str]]:
    names, notes = tuple(grades), []
    every = list(dict.fromkeys(case for held in grades.values() for case in held.cases))
    readers = tuple(dict.fromkeys(name for held in grades.values() for name in held.readers))
    where = {case: row for row, case in enumerate(predictions.table["case"])} if predictions else {}
    cases = [case for case in every if predictions is None or case in where]
    if not cases:
        raise InputError("the readers and the model share no case", given=f"{len(every):,} cases read, {len(where):,} predicted",
                         todo="name cases in both tables alike; a run's predictions hold codes unless it kept the names")  # fmt: skip
    if lost := len(every) - len(cases):
        notes.append(f"{lost:,} cases were read, not predicted and are left out")
    if predictions is not None and (more := len(where) - len(cases)):
        notes.append(f"{more:,} cases were predicted, not read and are left out")
    ratings = np.full((len(names), len(cases), len(readers)), math.nan)
    for f, held in enumerate(grades.values()):
        ratings[f][:, [readers.index(name) for name in held.readers]] = held.ratings(cases, ["0", "1"])
    truth, called, people = np.full(ratings.shape[:2], math.nan), None, None
    if predictions is not None:
        rows = np.array([where[case] for case in cases])
        columns = [predictions.target.names.index(name) for name in names]
        truth, people = predictions.truth[rows][:, columns].T, predictions.patients[rows]
        called, open_ = _called(predictions.scores[rows][:, columns].T, names, points)
        if open_:
            notes.append(
                f"called present from .5 on, a threshold that was not chosen on tuning data: {', '.join(open_[:6])}{' …' * (len(open_) > 6)}"
            )
    else:
        people = next((held.patients(cases) for held in grades.values() if "patient" in held.table), None)
    return _Tables(tuple(cases), names, readers, ratings, called, truth, patient_codes(people, len(cases))), notes


def _called(scores: Floats, names: tuple[str, ...], points: Sequence[Any]) -> tuple[Floats, list[str]]:
    """(F, N) calls, NaN where there is no score, and the findings without a frozen point."""
    first = {point.of: point.threshold for point in reversed(points)}
    cuts = np.array([first.get(name, 0.5) for name in names])[:, None]
    return np.where(np.isfinite(scores), scores >= cuts, math.nan), [name for name in names if name not in first]


def _truths(tables: _Tables) -> Floats:
    return np.repeat(tables.truth[:, :, None], len(tables.readers), axis=2)


def _of_others(grades: Mapping[str, Grades], tables: _Tables, rule: str) -> Floats:
    """(F, N, R) what the other readers say of each case, NaN where they are tied or silent."""
    found = np.full(tables.ratings.shape, math.nan)
    for f, held in enumerate(grades.values()):
        for r, name in enumerate(tables.readers):
            others = held.table[
                (held.table["reader"] != name) & held.table["case"].isin(tables.cases) & (held.table["label"] != "")
            ]
            if len(others):
                made = consensus(replace(held, table=others), rule=rule, classes=("0", "1")).set_index("case")["label"]
                found[f, :, r] = np.array(
                    [{"1": 1.0, "0": 0.0}.get(made.get(case, ""), math.nan) for case in tables.cases]
                )
    return found


def _cells(tables: _Tables, targets: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(F, N, R, 2, 4) in which cell a case is, of the reader and of the model; and (F, N, R) whether it counts."""
    beside = (
        tables.ratings if tables.called is None else np.repeat(tables.called[:, :, None], len(tables.readers), axis=2)
    )
    kept = np.isfinite(targets) & np.isfinite(tables.ratings) & np.isfinite(beside)
    who = np.stack((tables.ratings, beside), axis=-1) == 1  # (F, N, R, 2)
    ill = (targets == 1)[..., None]
    made = np.stack((ill & who, ~ill & who, ill & ~who, ~ill & ~who), axis=-1)
    return made & kept[..., None, None], kept


def _rates(cells: Floats) -> Floats:
    """(…, 4) → (…, 3): the metrics, NaN where undefined."""
    hit, false, missed, passed = np.moveaxis(cells, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            (2 * hit / (2 * hit + false + missed), hit / (hit + missed), passed / (passed + false)), axis=-1
        )


def _over(values: Floats, axis: int) -> Floats:
    """The mean of what is defined, NaN where nothing is."""
    known = np.isfinite(values)
    many = known.sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(axis=axis) / np.where(many, many, math.nan)


def _measured(
    tables: _Tables, cells: NDArray[np.bool_], kept: NDArray[np.bool_], judged: NDArray[np.bool_], level: float, resamples: int | None, seed: int
) -> tuple[list[Estimate], list[Contrast], list[str]]:  # fmt: skip
    """Every estimate and contrast from one bootstrap of the patients, and the findings that have no F1."""
    cells, kept = cells[:, :, judged], kept[:, :, judged]
    readers = [name for name, good in zip(tables.readers, judged, strict=True) if good]
    require(bool(readers), f"no reader has read {FEWEST_CASES} cases", given=f"{len(tables.cases):,} cases")
    findings, _, many = kept.shape
    patients, beside = int(tables.codes.max()) + 1, tables.called is not None
    flat = np.moveaxis(cells, 1, 0).reshape(len(tables.cases), -1).astype(np.float64)

    def compute(sums: Floats) -> Floats:
        """(B, K) → (B, F + 1, readers + 2 + (readers + 1), metrics): readers, mean, model, model minus mean and each."""
        rates = _rates(sums.reshape(-1, findings, many, 2, _CELLS))  # (B, F, R, 2, M)
        rates = np.concatenate((rates, _over(rates, 1)[:, None]), axis=1)  # the mean over findings last
        own, others = rates[:, :, :, 0], rates[:, :, :, 1]
        mean, model = _over(own, 2)[:, :, None], _over(others, 2)[:, :, None]
        return np.concatenate((own, mean, model, model - mean, others - own), axis=2).reshape(len(sums), -1)

    names = [*tables.findings, ""]
    columns: list[Column] = []
    for f, of in enumerate(names):
        rows = kept.any(axis=(0, 2)) if of == "" else kept[f].any(axis=1)
        size = distinct(tables.codes[rows]) if rows.any() else 0
        share = Column("", of, int(rows.sum()), size, effective=max(size, 1), freedom=max(size - 1, 0),
                       note=f"{many} readers, fixed", reason="the finding is present for nobody")  # fmt: skip
        gap = replace(share, scale="plain", effective=1)
        columns += [replace(share, metric=metric) for _ in range(many + 2) for metric in METRICS]
        columns += [replace(gap, metric=f"{metric} difference") for _ in range(many + 1) for metric in METRICS]
    statistic = of_sums(tuple(columns), per_patient(tables.codes, patients, *flat.T), compute)
    made = bootstrapped(statistic, tables.codes, level=level, resamples=resamples, seed=seed)
    told = np.array(made, dtype=object).reshape(len(names), 2 * many + 3, len(METRICS))
    lost = [of for f, of in enumerate(tables.findings) if told[f, many, 0].undefined]
    people = [*readers, MEAN, *([MODEL] if beside else [])]
    found = [
        replace(told[f, w, m], where={"reader": name})
        for f in range(len(names))
        for m in range(len(METRICS))
        for w, name in enumerate(people)
    ]
    return found, _contrasts(told, readers) if beside else [], lost


def _contrasts(told: NDArray[Any], readers: list[str]) -> list[Contrast]:
    """The model minus the mean reader of every finding and metric; of the mean over findings also minus each reader."""
    many, found = len(readers), []
    for f in (len(told) - 1, *range(len(told) - 1)):
        for m in range(len(METRICS)):
            model, mean = told[f, many + 1, m], told[f, many, m]
            found.append(_contrast(model, mean, told[f, many + 2, m], MEAN))
            if f == len(told) - 1:
                each = [
                    _contrast(model, told[f, r, m], told[f, many + 3 + r, m], name) for r, name in enumerate(readers)
                ]
                found += [
                    replace(c, adjusted=float(p)) for c, p in zip(each, holm([c.gap.p for c in each]), strict=True)
                ]
    return found


def _contrast(model: Estimate, reader: Estimate, gap: Estimate, who: str) -> Contrast:
    sides = replace(model, where={"reader": MODEL}), replace(reader, where={"reader": who})
    gap = replace(gap, low=max(gap.low, -1.0), high=min(gap.high, 1.0))
    freedom = max(gap.patients - 1, 0)
    return Contrast(implied(*sides, gap, freedom=freedom), {"reader": who}, float(freedom) or math.inf)


def _named(estimate: Estimate, of: str) -> Estimate:
    return replace(estimate, of=of)


def _cautions(
    tables: _Tables, targets: Floats, judged: NDArray[np.bool_], lost: list[str], known: bool, rule: str
) -> list[str]:
    found = []
    if not known:
        found.append(f"readers and model are judged against the consensus of the other readers ({rule}), not against a truth: no reader "
                     "is part of his own reference, and the intervals are for these readers only")  # fmt: skip
        answered = np.isfinite(tables.ratings).sum(axis=2, keepdims=True) - np.isfinite(tables.ratings) > 0
        tied = answered & np.isnan(targets) & np.isfinite(tables.ratings)
        if tied.any():
            each = ", ".join(
                f"{name} {int(tied[f].sum()):,}" for f, name in enumerate(tables.findings) if tied[f].any()
            )
            found.append(
                f"the others are tied in {int(tied.sum()):,} of {int(np.isfinite(tables.ratings).sum()):,} answers, which do not count ({each[:300]})"
            )
    if few := [name for name, good in zip(tables.readers, judged, strict=True) if not good]:
        found.append(
            f"counted, but not judged, because they read fewer than {FEWEST_CASES} cases: {count(len(few), 'reader')}"
        )
    if lost:
        found.append(
            f"without an F1, and left out of the mean over findings, since the finding is present for nobody: {', '.join(lost)}"
        )
    return found


def _look(
    grades: Mapping[str, Grades],
    predictions: Predictions | None,
    points: Sequence[Any],
    ledger: str | Path | None,
    model: str,
) -> int:
    """One line in the ledger where readers, or a truth, judge a model."""
    if predictions is None:
        return 0
    kept = "".join(
        name + held.table.sort_values(["case", "reader"]).to_csv(index=False, lineterminator="\n")
        for name, held in grades.items()
    )
    test = predictions if predictions.known.any() else sha256(kept.encode())[:16]
    looks, _ = look(
        ledger,
        [test],
        None,
        model=model or MODEL,
        threshold=[point.threshold for point in points],
        predictions=predictions.digest,
    )
    return looks


# -- as text ----------------------------------------------------------------------------------------------------------


def as_text(found: FindingsReading) -> list[str]:
    """Counts and cautions; F1 by finding; the mean over findings of every metric; how far readers agree."""
    counts = found.counts
    lines = [f"{count(counts['readers'], 'reader')} of {count(counts['images'], 'case')} of {count(counts['patients'], 'patient')}, "
             f"{count(len(found.findings), 'finding')}, reference: {found.about['reference']}{looked(found.looks)}"]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    head, rows = rows_of(found, "f1")
    lines += ["", *aligned([head, *rows])]
    for metric in METRICS[1:]:
        _, (last, *_) = rows_of(found, metric)
        lines += ["", *aligned([(metric, *head[1:]), last])]
    against = [c for c in found.contrasts if not c.gap.first.of and c.reader != MEAN and c.gap.first.metric == "f1"]
    if against:
        rows = [(c.reader, str(c.estimate), p_text(c.gap.p), p_text(c.adjusted)) for c in against]
        lines += [
            "",
            *aligned([("model minus", f"mean F1 ({100 * found.about['level']:g} % interval)", "p", "p (Holm)"), *rows]),
        ]
    return lines


@checked
def rows_of(found: FindingsReading, metric: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head and the rows of the table of one metric: the mean over findings first, then each finding."""
    model = any(e.where.get("reader") == MODEL for e in found.estimates)
    who = (*found.readers, MEAN, *((MODEL,) if model else ()))
    cells = {(e.of, e.where.get("reader")): str(e) for e in found.estimates if e.metric == metric}
    kappa = {e.of: str(e) for e in found.estimates if e.metric == "fleiss kappa"}
    gaps = {
        c.gap.first.of: (str(c.estimate), p_text(c.gap.p))
        for c in found.contrasts
        if c.gap.first.metric == metric and c.reader == MEAN
    }
    head = ("finding", *who, *(("model − mean reader", "p") if model else ()), "Fleiss' kappa")
    rows = [(of or "mean over findings", *(cells[of, name] for name in who), *(gaps[of] if model else ()), kappa.get(of, ""))
            for of in ("", *found.findings)]  # fmt: skip
    return head, rows
