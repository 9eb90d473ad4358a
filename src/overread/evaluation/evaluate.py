"""How good a table of predictions is, with intervals that know the patients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.display import Overview, Panel
from overread.core.errors import InputError, checked
from overread.core.files import plain, write_json
from overread.core.phrases import aligned, count
from overread.evaluation.curves import Confusion, Curves, Scatter, confusion_of, curves_of, scatter_of
from overread.evaluation.decision.class_decision import (  # fmt: skip
    LARGEST,
    ClassDecision,
    Frozen,
    load_frozen,
    parted,
    refuse_tuned,
    thresholds_of,
)
from overread.evaluation.estimators import Intervals
from overread.evaluation.ledger import verify, write_look
from overread.evaluation.metrics import Endpoint, defined, endpoint_of, judge, metric_named, shown
from overread.evaluation.operating_point import AT_POINT, OperatingPoint, refuse_training
from overread.evaluation.questions import Question, ScoredCases, at_each_point, largest, questions
from overread.evaluation.results import (
    Cohort,
    LedgerEntry,
    Result,
    Tally,
    estimates_panel,
    groups_panel,
    lookup,
    to_file_form,
)
from overread.evaluation.subgroups import FEWEST, GroupGap, GroupTest, gap_estimates, gaps_of, largest_gaps, subgroups
from overread.given_arrays import Values, judged_by
from overread.predictions import Predictions
from overread.stats.arrays import distinct, not_finite
from overread.stats.calibration.reliability import PARTS, null_estimate, reliability
from overread.stats.discrimination.stratified import UNKNOWN, mean_stratified_auc, strata_of, stratified_auc
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import resamples_for


@dataclass(frozen=True)
class Provenance:
    """What was judged and how: hashes of model and predictions, level of the intervals, seed and resamples; what was
    asked.

    ``seen``: patients that the model had seen and that were judged all the same; ``notes``: what was changed or guessed
    in reading.
    """

    ledger: LedgerEntry = LedgerEntry()  # noqa: RUF009
    model: str = ""
    predictions: str = ""
    level: float = 0.95
    seed: int = 0
    resamples: int = 0
    prevalence: float | None = None
    fixed: float = 0.9
    net_benefit_at: float | None = None
    endpoint: Endpoint = Endpoint()  # noqa: RUF009
    seen: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Estimates, and the numbers that figures are drawn from.

    ``curves``: per class, finding or group of classes (the ``of`` of its estimates); ``primary`` names the one that
    matters most. ``operating`` and ``decision``: what was frozen on tuning data. ``confusion``: counts with rows for
    the truth. ``looks``: how often this test set was looked at before. ``gaps`` and ``heterogeneity`` of the subgroups:
    see :func:`overread.evaluation.subgroups.gaps_of`. ``more``: what other stages add, see :meth:`extended`.
    """

    file: ClassVar[str] = "curves.json"

    estimates: tuple[Estimate, ...]
    curves: dict[str, Curves] = field(default_factory=dict)
    confusion: Confusion = Confusion()  # noqa: RUF009
    operating: tuple[OperatingPoint, ...] = ()
    decision: ClassDecision | None = None
    counts: Cohort = Cohort()  # noqa: RUF009
    looks: int = 0
    primary: str = ""
    scatter: Scatter = Scatter()  # noqa: RUF009
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

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """The operating points, then the decision rule if there is one: what ``operating.json`` holds."""
        return (*self.operating, *([self.decision] if self.decision else []))

    def at(self, frozen: Sequence[Frozen]) -> Evaluation:
        """With what was frozen, as a file of its own holds it."""
        points, decision = parted(frozen)
        return replace(self, operating=points, decision=decision)

    @property
    def endpoint(self) -> Endpoint:
        """The primary endpoint, false where none was named."""
        return self.about.endpoint

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader must know before believing the numbers."""
        return cautions_of(self)

    @property
    def calibration(self) -> str:
        """``poor``, ``not shown`` to be so, or ``""``: the calibration error against what chance gives a calibrated model."""
        known = {e.metric: e for e in self.estimates if e.of == self.primary and not (e.where or e.undefined)}
        ece, null, slope = (known.get(m) for m in ("ece", "ece if calibrated", "calibration slope"))
        if ece is None or null is None or not math.isfinite(null.high):
            return ""
        tilted = slope is not None and not slope.low <= 1 <= slope.high
        return "poor" if tilted or ece.value > null.high else "not shown"

    def __repr__(self) -> str:
        return f"evaluation of {count(self.counts.images, 'image')}, {count(len(self.estimates), 'estimate')}"

    def overview(self) -> Overview:
        """The main numbers over all cases, then a row for each number of a class, and of a subgroup."""
        calls = {m.name for m in shown("calls")}
        whole = [e for e in self.estimates if not e.where and e.metric not in calls]
        main, brief = ({m.name for place in places for m in shown(place)} for places in (("top", "main"), ("brief",)))
        about = ("", self.primary)
        groups = [
            e for e in self.estimates if e.where and AT_POINT not in e.where and e.of in about and e.metric in brief
        ]
        panels = (
            estimates_panel([e for e in whole if e.of in about and e.metric in main]),
            estimates_panel([e for e in whole if e.of not in about and e.metric in brief], "By class"),
            estimates_panel(groups, "In subgroups"),
            estimates_panel([e for e in self.estimates if AT_POINT in e.where], "At each operating point"),
        )
        said = (
            *self.cautions,
            *([str(self.decision)] if self.decision else map(str, self.operating)),
            *self.about.notes,
        )
        return Overview(
            f"Evaluation of {count(self.counts.images, 'image')} of {count(self.counts.patients, 'patient')}",
            panels,
            said,
        )

    def asked(self) -> tuple[Panel, ...]:
        """Its metrics with their definitions, and its groups."""
        return defined(self.estimates), groups_panel(self.estimates)

    def table(self) -> str:
        """The results as aligned text for a terminal; subgroups by their main metrics."""

        return as_text(self)

    def held(self) -> dict[str, Any]:
        """Everything but the estimates and the operating points; what was asked stands at the top."""
        named = {name: getattr(self, name) for name in _NAMED}
        typed = {name: to_file_form(named[name]) for name in ("counts", "confusion", "scatter", "curves")}
        return {**to_file_form(self.about), **named, **typed}

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``operating.json`` and ``curves.json`` into ``folder``."""
        write_json(Path(folder) / "operating.json", list(self.frozen))
        return super().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        return super().load(folder).at(load_frozen(Path(folder) / "operating.json"))

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
    test: Predictions | Values,
    scores: Values | None = None,
    *,
    patient: Values | None = None,
    classes: Sequence[str] = (),
    positive: str | Sequence[str] = (),
    at: Frozen | Sequence[Frozen] | None = None,
    by: Sequence[str] | Mapping[str, Values] = (),
    level: float = 0.95,
    seed: int = 0,
    ledger: str | Path | None = None,
    model: str = "",
    resamples: int | None = None,
    prevalence: float | None = None,
    fixed: float = 0.9,
    net_benefit_at: float | None = None,
    primary: str = "",
    allow_seen: bool = False,
    pending: bool = False,
) -> Evaluation:
    """Judge predictions whose truth is known, with intervals by patient; or arrays: ``evaluate(y, p, patient=…)``.

    Of arrays ``test`` is the truth, and ``scores``, ``patient``, ``classes`` and ``positive`` are as in
    :func:`.predictions_of`; there ``by`` may hold the columns themselves, ``{"sex": sex}``.
    ``at``: operating points frozen on tuning data, and the decision rule of several classes; without one, .5 and the
    largest probability are used, and that is said. ``by``: columns to report by, besides the source where there are
    several. ``level`` of the intervals, ``seed`` and number of the bootstrap ``resamples`` (by default from the number
    of images, see :func:`resamples_for`). ``ledger``: where the look at this test set is written down, under the hash
    ``model``. ``prevalence``: how common disease is in the clinic, for predictive values and net benefit there.
    ``fixed``: the sensitivity at which specificity is told, and the specificity at which sensitivity is;
    ``net_benefit_at``: the risk from which one acts, for net benefit there. ``primary``: the primary endpoint,
    ``metric`` or ``metric:class``, recorded with when it was named. ``allow_seen``: judge patients that the model has
    seen, and say so. The look is written down when everything has been computed: what cannot be judged is no look;
    ``pending``: it counts anew once :func:`.settle` says that its results are written. Raises :class:`UnsoundError` if
    a patient was seen by the model or when a threshold was chosen, or the ledger was cut; :class:`InputError` for an
    empty table, an unknown class or column.
    """
    test = judged_by(
        test, scores, patient=patient, classes=classes, positive=positive, groups=by if isinstance(by, Mapping) else {}
    )
    by = list(by)
    points, decision = parted(at)
    how = Intervals(level, seed, resamples or 0, prevalence, fixed, net_benefit_at)
    facts = _known_facts(test, decision)
    seen_by_model = refuse_training(test, allow_seen)
    refuse_tuned(test, (*points, *filter(None, [decision])))
    if ledger is not None:
        verify(ledger)
    asked, codes, digest = questions(facts, points), test.codes, test.digest
    groups = list(subgroups(test, _columns(test, by)))
    found = judge(facts, asked, codes, np.ones(len(test), bool), how)
    curves, nulls = _curves(facts, asked, codes, how)
    found = _beside(_beside(found, nulls, "ece"), within_sources(test, asked, codes, level), "auc", "macro auc")
    for where, rows in groups:
        found += _within(facts, asked, codes, rows, how, where, found)
    found += at_each_point(facts, points, codes, level)
    gaps, mixed = gaps_of(facts, asked, codes, groups, how)
    matters = primary_of(test, asked)
    endpoint = endpoint_of(primary, ((e.metric, e.of) for e in found if not e.where), matters)
    endpoint = endpoint.after(0, kept=False) if endpoint else endpoint
    model, many = model or (test.by.model if test.by else ""), how.resamples or resamples_for(len(test))
    result = Evaluation(
        (*found, *gap_estimates(gaps)),
        curves,
        confusion_of(facts, asked),
        points,
        decision,
        cohort_of(test, facts, asked, codes),
        0,
        matters,
        scatter_of(facts),
        Provenance(LedgerEntry(), model, digest, level, seed, many, prevalence, fixed, net_benefit_at, endpoint,
                   seen_by_model, test.notes),
        tuple(gaps),
        tuple(mixed),
    )  # fmt: skip
    return result if ledger is None else _looked(result, test, ledger, by, pending)


def _known_facts(test: Predictions, decision: ClassDecision | None) -> ScoredCases:
    if not len(test):
        raise InputError("there are no predictions to judge", given="an empty table")
    facts = ScoredCases.of(test, decision)
    if not facts.known.any():
        todo = "the label column must hold the names of the p: columns"
        raise InputError("no prediction has a known truth", given=f"{count(len(test), 'case')}", todo=todo)
    return facts


def _columns(test: Predictions, by: Sequence[str]) -> list[str]:
    several = ["source"] if test.table["source"].nunique() > 1 else []
    return list(dict.fromkeys((*by, *several)))


def _looked(result: Evaluation, test: Predictions, ledger: str | Path, by: Sequence[str], pending: bool) -> Evaluation:
    """With the look at the test set, written down now."""
    about = result.about
    line = write_look(
        ledger, about.model, thresholds_of(result.frozen), about.predictions, test=test, by=by, pending=pending
    )
    looks, entry = line["looks before"], LedgerEntry(line["entry"], line["hash"])
    endpoint = about.endpoint.after(looks, kept=True) if about.endpoint else about.endpoint
    return replace(result, looks=looks, about=replace(about, ledger=entry, endpoint=endpoint))


#: What is told of all cases together only.
_WHOLE = ("auc within sources", "macro auc within sources", "specificity at sensitivity", "sensitivity at specificity")


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
        found = judge(test, asked, codes, rows, replace(how, whole=False))
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


# -- what is counted beside the estimates: cases and patients ------------------------------------------------------


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
    full = [q.of for q in asked if q.full]
    return full[0] if test.target.task.exclusive and full else ""


# -- what to beware of ----------------------------------------------------------------------------------------------


#: Patients with the disease, and without, below which a model is hardly judged (Collins, Ogundimu & Altman 2016).
FEW_EVENTS = 100
#: Images of a class below which what is said of it is hardly more than chance.
FEW_IMAGES = 10


def cautions_of(found: Evaluation) -> tuple[str, ...]:
    """In the order of harm."""
    return tuple(filter(None, (_trained_on(found), _seen(found), *_unranked(found), _few_events(found), _unchosen(found), _off(found), _few_images(found),
                               _left_out(found), *(f"in reading the table: {note}" for note in found.about.notes), _lost(found))))  # fmt: skip


def _trained_on(found: Evaluation) -> str:
    many = found.about.seen
    return f"this is no test of the model: it has seen {many:,} of these patients in training or tuning" if many else ""


def _seen(found: Evaluation) -> str:
    times = "once" if found.looks == 1 else f"{found.looks:,} times"
    return f"this test set had been looked at {times} before this result" if found.looks else ""


def _unranked(found: Evaluation) -> list[str]:
    reasons = dict.fromkeys(e.undefined for e in found.estimates if e.metric == "brier" and not e.where)
    return [
        f"{reason}: they are judged by their ranks alone. Divide per cent by 100, put logits through a sigmoid or softmax; "
        "to cut them as they are, choose a threshold on tuning data"
        for reason in reasons if "not probabilities" in reason
    ]  # fmt: skip


def _few_events(found: Evaluation) -> str:
    """Of the label that matters most, else of each."""
    patients, few = {e.of: e.patients for e in found.estimates if e.metric == "auc" and not e.where}, []
    for of in [found.primary] if found.primary in patients else patients:
        counts = found.counts.per_class
        names = [of] if of in counts else [name for name in of.split("+") if name in counts]
        ill = sum(counts[name].patients for name in names)
        well = patients[of] - ill
        if names and min(ill, well) < FEW_EVENTS:
            few.append(f"{ill:,} patients with {' or '.join(names)}, {well:,} without")
    if not few:
        return ""
    more = f", and {len(few) - 3} more" if len(few) > 3 else ""
    return (f"few events ({'; '.join(few[:3])}{more}): below {FEW_EVENTS} of either, the intervals and not the values are the "
            "result, and calibration can hardly be judged")  # fmt: skip


def _unchosen(found: Evaluation) -> str:
    cut = any(
        curve.point and not curve.point.frozen and math.isfinite(curve.point.threshold)
        for curve in found.curves.values()
    )
    if not cut and found.confusion.rule == LARGEST and found.decision is None:
        return ("no decision rule was frozen on tuning data (--tuning): each case is called its most probable class, which calls "
                "rare classes seldom")  # fmt: skip
    return ("no threshold was frozen on tuning data (--tuning): sensitivity, specificity and what is made of them hold at .5, which may suit "
            "nobody") if cut else ""  # fmt: skip


def _off(found: Evaluation) -> str:
    poor = "the probabilities are off by more than chance: do not read them as risks before recalibrating them"
    return poor if found.calibration == "poor" else ""


def _few_images(found: Evaluation) -> str:
    few = [name[:30] for name, tally in found.counts.per_class.items() if tally.images < FEW_IMAGES]
    others = " and others" if len(few) > 6 else ""
    return f"fewer than {FEW_IMAGES} images have {', '.join(few[:6])}{others}: what is said of them is hardly more than chance" if few else ""  # fmt: skip


def _left_out(found: Evaluation) -> str:
    many = found.counts.unlabelled
    return f"{many:,} {'image' if many == 1 else 'images'} without a known truth were left out" if many else ""


def _lost(found: Evaluation) -> str:
    lost = sorted(
        {e.undefined for e in found.estimates if e.undefined and not e.where and "not probabilities" not in e.undefined}
    )
    return f"some numbers are undefined: {'; '.join(lost)[:300]}" if lost else ""


# -- estimates as aligned text for a terminal ---------------------------------------------------------------------


def as_text(found: Evaluation) -> str:
    """What to beware of, a line per estimate with n/N, the calls at the threshold; then the subgroups and their gaps."""
    counts, primary = found.counts, found.primary
    calls = {m.name for m in shown("calls")}
    overall = [e for e in found.estimates if not e.where and e.metric not in calls]
    level = next((f"{100 * e.level:g} % interval" for e in overall if not e.undefined), "interval")
    unknown = f", {counts.unlabelled:,} of them without a label and not judged" if counts.unlabelled else ""
    lines = [f"{count(counts.images, 'image')} of {count(counts.patients, 'patient')}{unknown}"]
    if found.endpoint:
        lines.append(f"primary endpoint: {found.endpoint}, {found[found.endpoint.key]}; {found.endpoint.named}")
    lines += [f"caution: {caution}" for caution in found.cautions]
    if found.decision:
        lines.append(str(found.decision))
    lines += aligned(
        [("metric", "of", f"value ({level})", "n/N", "patients"), *(_row(e, found.about) for e in overall)], 2
    )
    lines += [f"undefined ({reason}): {names}" for reason, names in _reasons(overall).items()]
    if told := _calls(found):
        lines += ["", *aligned(told, 2)]
    brief = {m.name for m in shown("brief")}
    groups = [
        e
        for e in found.estimates
        if e.where and AT_POINT not in e.where and e.of in ("", primary) and e.metric in brief
    ]
    head: tuple[str, ...]
    if at := [e for e in found.estimates if AT_POINT in e.where]:
        head = (AT_POINT, "metric", "of", f"value ({level})", "n/N", "patients")
        lines += ["", *aligned([head, *((e.where[AT_POINT], *_row(e, found.about)) for e in at)], 2)]
    if groups:
        head = ("subgroup", "metric", "of", f"value ({level})", "n/N", "patients")
        rows = [(", ".join(f"{k} {v}" for k, v in e.where.items()), *_row(e, found.about)) for e in groups]
        lines += ["", *aligned([head, *rows], 2)]
        lines += [f"undefined ({reason}): {names}" for reason, names in _reasons(groups).items()]
    largest = largest_gaps([g for g in found.gaps if g.of in ("", primary)])
    if largest:
        head = ("largest gap", "subgroup", "minus", f"value ({level})", "p after Holm")
        lines += ["", *aligned([head, *largest], 2)]
    return "\n".join(lines)


def _reasons(rows: Sequence[Estimate]) -> dict[str, str]:
    """Of every reason the metrics, with their class and group, that have no value for it."""
    found: dict[str, list[str]] = {}
    for e in rows:
        if e.undefined:
            where = ", ".join(f"{k} {v}" for k, v in e.where.items())
            found.setdefault(e.undefined, []).append(" ".join(filter(None, (e.metric, e.of and f"of {e.of}", where and f"where {where}"))))  # fmt: skip
    return {reason: ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") for reason, names in found.items()}  # fmt: skip


def _calls(found: Evaluation) -> list[tuple[str, ...]]:
    """What was called what, a row a class or finding; nothing where nothing was called."""
    names = [m.name for m in shown("calls")]
    held = {(e.metric, e.of): e for e in found.estimates if not (e.where or e.undefined) and e.metric in names}
    rows = [
        (of, held[names[1], of].method.partition("; ")[0], *(_number(held.get((name, of))) for name in names))
        for of in dict.fromkeys(of for metric, of in held if metric == names[1])
    ]
    return [("calls", "by", *names), *rows] if rows else []


def _number(e: Estimate | None) -> str:
    if e is None:
        return "–"
    return f"{e.value:,.0f}" if metric_named(e.metric).unit == "images" else f"{e.value:.4g}"


#: Which number that was asked for a metric is told at, by its name in :class:`Provenance`.
_ASKED = {"specificity at sensitivity": "fixed", "sensitivity at specificity": "fixed", "net benefit": "net_benefit_at",
          "ppv at prevalence": "prevalence", "npv at prevalence": "prevalence"}  # fmt: skip


def _row(e: Estimate, about: Provenance) -> tuple[str, ...]:
    name = f"{e.metric} {getattr(about, _ASKED[e.metric]):g}" if e.metric in _ASKED else e.metric
    value = "undefined" if e.undefined else str(e)
    share = f"{e.images:,}" if e.count is None or e.undefined else f"{e.count:,}/{e.images:,}"
    return name, e.of, value, share, f"{e.patients:,}"
