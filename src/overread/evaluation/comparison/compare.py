"""Two models on the same cases, or on different patients: every difference with its interval and its p value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel
from overread.core.errors import checked, require
from overread.core.files import build, plain
from overread.core.phrases import aligned
from overread.evaluation.comparison.claims import Declaration, Ledgers, Verdict, look, met, paths_of, subject
from overread.evaluation.comparison.differences import contrast, paired_differences, unpaired_differences
from overread.evaluation.comparison.paired_cases import Pair, PairedQuestion, half_and_chosen, pair, paired_questions
from overread.evaluation.decision.class_decision import Frozen, parted, refuse_tuned, thresholds_of
from overread.evaluation.estimators import Intervals, missing_difference, relabelled
from overread.evaluation.evaluate import FEW_EVENTS
from overread.evaluation.ledger import looked, truth_hash, verify
from overread.evaluation.metrics import Endpoint, defined, endpoint_of, shown
from overread.evaluation.operating_point import OperatingPoint, positives, refuse_training
from overread.evaluation.results import Result, estimates, from_file_form, groups_panel, lookup, to_file_form
from overread.evaluation.subgroups import FEWEST, subgroups
from overread.given_arrays import Values, compared_by
from overread.predictions import Predictions
from overread.stats.arrays import normal_quantile, patient_codes
from overread.stats.estimate import Difference, Estimate, differences_frame, p_text, rounded
from overread.stats.hypotheses import holm

#: Rows (N,) of the first and of the second table.
Sides = tuple[NDArray[np.bool_], NDArray[np.bool_]]


@checked
def compare(
    first: Predictions | Values,
    second: Predictions | Values,
    scores: Values | None = None,
    *,
    patient: Values | None = None,
    classes: Sequence[str] = (),
    positive: str | Sequence[str] = (),
    at: Frozen | Sequence[Frozen] | None = None,
    other_at: Frozen | Sequence[Frozen] | None = None,
    by: Sequence[str] | Mapping[str, Values] = (),
    margin: float | None = None,
    margin_of: str = "auc",
    claim: str = "non-inferiority",
    level: float = 0.95,
    seed: int = 0,
    ledger: Ledgers = None,
    names: tuple[str, str] = ("first", "second"),
    resamples: int | None = None,
    primary: str = "",
    net_benefit_at: float | None = None,
    allow_seen: bool = False,
) -> Comparison:
    """Compare two models whose predictions have a known truth; differences are ``first`` − ``second``. Or arrays: ``compare(y, p, q,
    patient=…)``, the truth and the scores of two models for the same cases.

    Of arrays ``first`` is the truth, ``second`` the scores of the first model and ``scores`` those of the second;
    ``patient``, ``classes`` and ``positive`` are as in :func:`.predictions_of`; there ``by`` may hold the columns themselves,
    ``{"sex": sex}``.
    Paired by case where cases are shared, whatever their order; else the two hold different patients. ``at`` and
    ``other_at``: operating points frozen on tuning data, and the decision rule of several classes, of the first and of
    the second; without one, .5 and the largest probability are used and said. ``by``: columns to report by. ``margin``
    > 0 of ``margin_of`` (auc, sensitivity, specificity, macro auc; or ``auc:mel``) for a ``claim`` of non-inferiority,
    equivalence or superiority of the first, one-sided at (1 − ``level``)/2. ``primary``: the primary endpoint,
    ``metric`` or ``metric:class``, which is not corrected beside the secondary ones; recorded with when it was named.
    ``net_benefit_at``: the risk at which net benefit is compared, for the same cases. A margin counts as pre-declared
    only if it stands in the ``ledger`` before the first look. Of several ledgers the first is the study's own, and each
    gets the look, once everything is computed. ``allow_seen``: compare on patients that a model has seen, and say so.
    Methods: DeLong's paired AUCs (by patient), McNemar and Tango at thresholds, patient bootstrap with the same
    resamples for both; for different patients the two intervals squared and added (Zou & Donner 2008). Raises
    :class:`InputError` where the tables do not fit, :class:`UnsoundError` where patients are shared without cases, were
    seen when a threshold was chosen, or the ledger was cut.
    """
    normal_quantile(level)
    groups_given = by if isinstance(by, Mapping) else {}
    first, second = compared_by(
        first, second, scores, patient=patient, classes=classes, positive=positive, groups=groups_given
    )
    require(names[0] != names[1], "the two models need different names", given=names)
    empty = [name for name, test in zip(names, (first, second)) if not len(test)]
    require(not empty, "a table of predictions holds no case", given=", ".join(empty), todo="check the file")
    (points, mine), (others, theirs) = parted(at), parted(other_at)
    seen = [refuse_training(test, allow_seen) for test in (first, second)]
    for test, chosen in ((first, (*points, mine)), (second, (*others, theirs))):
        refuse_tuned(test, filter(None, chosen))
    joined = replace(_aimed(pair(first, second), [*points, *others]), decisions=(mine, theirs))
    asked = paired_questions(joined, points, others)
    how = Intervals(level, seed, resamples or 0, net_benefit_at=net_benefit_at)
    given, todo = f"{len(joined.first):,} cases", "complete the column of labels"
    require(_any_known(joined), "no case has a known truth in both tables", given=given, todo=todo)
    wanted = None if margin is None else Declaration.read(margin, margin_of, claim, level)
    matters = _primary(joined, asked)
    about = subject(wanted, [q.of for q in asked], matters) if wanted else ("", "")
    groups = _groups(joined, list(by))
    for path in paths_of(ledger):
        verify(path)
    differences = _differences(joined, asked, groups, how)
    endpoint = endpoint_of(primary, ((d.first.metric, d.first.of) for d in differences if not d.first.where), matters)
    codes = patient_codes(joined.first.patients, len(joined.first))
    kept = plain({q.of: contrast(q, joined.paired, codes, level) for q in asked})
    tests = (
        [max(first, second, key=len)] if joined.paired else list({truth_hash(p): p for p in (first, second)}.values())
    )
    looks, stands = look(ledger, tests, wanted, model=" against ".join(names),
                         threshold=thresholds_of([*points, *others, *filter(None, (mine, theirs))]),
                         predictions=f"{first.digest} {second.digest}")  # fmt: skip
    found = Comparison(
        tuple(differences), adjusted_p(differences, endpoint), names, joined.paired, None, kept, _counts(joined, asked), looks,
        matters, (*_cautions(joined, asked, names, differences, seen), *_first_of_several(names, points, others), *dict.fromkeys((*first.notes, *second.notes))),
        {"level": level, "seed": seed, "predictions": [first.digest, second.digest],
         "kind": first.target.kind, "points": plain([points, others]), "called by": [side.rule for side in joined.facts] if joined.first.target.task.multiclass else []},
        endpoint.after(looks, kept=bool(paths_of(ledger))) if endpoint else endpoint,
    )  # fmt: skip
    if not wanted:
        return found
    return replace(found, verdict=Verdict(met(found[about].difference, wanted), *stands))


def _aimed(joined: Pair, points: Sequence[OperatingPoint]) -> Pair:
    """Of two classes, the one that the operating points are for counts as disease in both tables."""
    if not joined.first.target.task.binary or not points:
        return joined
    target = replace(joined.first.target, positive=positives(joined.first, points[0].positive, None))
    first, second = (replace(p, target=target) for p in (joined.first, joined.second))
    return replace(joined, first=first, second=second)


def _any_known(joined: Pair) -> bool:
    tables = (joined.first,) if joined.paired else (joined.first, joined.second)
    return all(len(p) > 0 and bool(p.known.any()) for p in tables)


def _groups(joined: Pair, by: Sequence[str]) -> list[tuple[dict[str, str], Sides]]:
    """The subgroups of both tables, cut alike; of the cases whose truth is known."""
    both = joined.first if joined.paired else _stacked(joined)
    many, known = len(joined.first), (joined.first.known, joined.second.known)
    found = []
    for where, rows in subgroups(both, list(dict.fromkeys(by))):
        first, second = (rows, rows) if joined.paired else (rows[:many], rows[many:])
        found.append((where, (first & known[0], second & known[1])))
    return found


def _differences(
    joined: Pair, asked: Sequence[PairedQuestion], groups: Sequence[tuple[dict[str, str], Sides]], how: Intervals
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


def _within(joined: Pair, asked: Sequence[PairedQuestion], sides: Sides, how: Intervals) -> list[Difference]:
    if joined.paired:
        return paired_differences(joined, asked, sides[0], how)
    return unpaired_differences(joined, asked, sides, how)


def _stacked(joined: Pair) -> Predictions:
    """Both tables as one, so that bands of a number are cut alike."""
    return replace(joined.first, table=pd.concat([joined.first.table, joined.second.table], ignore_index=True))


@checked
def adjusted_p(differences: Sequence[Difference], endpoint: Endpoint) -> tuple[float, ...]:
    """After Holm's correction within each family; the primary endpoint is a family of its own."""
    families = [
        next(iter(d.first.where), endpoint if endpoint and (d.first.metric, d.first.of) == endpoint.key else "")
        for d in differences
    ]
    adjusted = np.full(len(differences), math.nan)
    for family in dict.fromkeys(families):
        rows = [i for i, name in enumerate(families) if name == family]
        adjusted[rows] = holm([differences[i].p for i in rows])
    return tuple(float(p) for p in adjusted)


def _primary(joined: Pair, asked: Sequence[PairedQuestion]) -> str:
    task, full = joined.first.target.task, [q.of for q in asked if q.first.full]
    return full[0] if task.exclusive and full else task.only_name


def _counts(joined: Pair, asked: Sequence[PairedQuestion]) -> dict[str, Any]:
    def of(test: Predictions, which: str) -> dict[str, Any]:
        sides = [getattr(q, which) for q in asked]
        return {
            "images": len(test),
            "patients": int(test.table["patient"].nunique()),
            "unlabelled": int((~test.known).sum()),
            "positives": {q.of: int(q.truth.sum()) for q in sides},
            "negatives": {q.of: int((~q.truth).sum()) for q in sides},
        }

    first, second = of(joined.first, "first"), of(joined.second, "second")
    whole = {"images": first["images"], "patients": first["patients"]}
    if not joined.paired:
        whole = {key: first[key] + second[key] for key in whole}
    left = dict(zip(("only in first", "only in second"), joined.left_out))
    return {**whole, **left, "first": first, "second": second}


def _first_of_several(names: tuple[str, str], *points: Sequence[OperatingPoint]) -> list[str]:
    """That of several points of the same classes the first is compared."""
    first = [next((p.name for p in held if p.name), "") for held in points]
    return [
        f"{name} has several operating points, and is compared at the first: {point}"
        for name, point in zip(names, first)
        if point
    ]


def _cautions(
    joined: Pair,
    asked: Sequence[PairedQuestion],
    names: tuple[str, str],
    differences: Sequence[Difference],
    seen: Sequence[int],
) -> tuple[str, ...]:
    found = list(joined.notes)
    found += [f"this is no test of {name}: it has seen {many:,} of these patients in training or tuning"
              for name, many in zip(names, seen) if many]  # fmt: skip
    for name, sides in ((n, [getattr(q, w) for q in asked]) for n, w in zip(names, ("first", "second"))):
        if reasons := list(dict.fromkeys(q.no_chances for q in sides if q.no_chances)):
            found.append(f"the scores of {name} are compared by their ranks alone: {'; '.join(reasons)}")
    found += _few_events(differences, asked)
    if joined.first.digest == joined.second.digest:
        found.append("both tables hold the same predictions")
    for count, name in zip(joined.left_out, names):
        if count:
            found.append(f"{count:,} cases stand in {name} only and are left out")
    if half_and_chosen(asked):
        found.append("the threshold of one model was chosen on tuning data, that of the other is .5: "
                     "sensitivity and specificity compare these two choices")  # fmt: skip
    rules = [side.rule for side in joined.facts]
    if joined.first.target.task.multiclass and (joined.decisions[0] is None) != (joined.decisions[1] is None):
        found.append(f"the rule that classes are called by was chosen on tuning data for one model only ({rules[0]} against {rules[1]}): "
                     "what is made of the calls compares these two choices")  # fmt: skip
    return tuple(found)


def _few_events(differences: Sequence[Difference], asked: Sequence[PairedQuestion]) -> list[str]:
    """Of the questions that are judged in full."""
    full, few = {q.of for q in asked if q.first.full}, []
    patients = {(d.first.metric, d.first.of): d.first.patients for d in differences if not d.first.where}
    for of in full:
        ill, well = (patients.get((metric, of), 0) for metric in ("sensitivity", "specificity"))
        if 0 < min(ill, well) < FEW_EVENTS:
            few.append(f"{of}: {ill:,} patients with it, {well:,} without")
    told = "; ".join(few[:3])
    return [f"few events ({told}): below {FEW_EVENTS} of either, the intervals and not the values are the result"] if few else []  # fmt: skip


#: Under this key ``where`` says whose estimate it is, for the estimates of one side.
SIDE = "model compared"
CORRECTED = "Holm's correction over the p values of all metrics and classes; subgroups of a column by themselves"
APART = "; the primary endpoint by itself, not corrected"


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Differences, first minus second, and the numbers that figures are drawn from.

    ``adjusted``: the p values of ``differences`` after Holm's correction. ``verdict``: the claim at its margin,
    None where no margin was given. ``curves`` per class, finding or group; ``primary`` names the one that
    matters most. ``cautions``: what a reader must know. ``endpoint``: the primary one, false where none was named.
    """

    file: ClassVar[str] = "comparison.json"

    differences: tuple[Difference, ...]
    adjusted: tuple[float, ...]
    names: tuple[str, str]
    paired: bool
    verdict: Verdict | None = None
    curves: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    looks: int = 0
    primary: str = ""
    cautions: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    endpoint: Endpoint = Endpoint()  # noqa: RUF009

    def __getitem__(self, key: str | tuple[str, ...]) -> Difference:
        """``result["auc", "mel"]``, or ``result["auc"]``: over all classes, else of the primary one."""
        whole = ((d.first.metric, d.first.of, d) for d in self.differences if not d.first.where)
        return lookup(whole, key, ("", self.primary))

    def where(self, column: str) -> tuple[Difference, ...]:
        """The differences in the subgroups of a column."""
        return tuple(d for d in self.differences if column in d.first.where)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Each difference, then that metric of the first and of the second model."""
        return tuple(
            e
            for d in self.differences
            for e in (d.difference, *(_of_side(e, n) for e, n in zip((d.first, d.second), self.names)))
        )

    @property
    def correction(self) -> str:
        """What the p values after correction are corrected for."""
        return CORRECTED + (APART if self.endpoint else "")

    def __repr__(self) -> str:
        return f"comparison of {' with '.join(self.names)}, {len(self.differences):,} differences"

    def to_frame(self) -> pd.DataFrame:
        """A row a difference, in the columns of :func:`overread.stats.estimate.differences_frame`."""
        return differences_frame(self.differences, self.adjusted)

    def overview(self) -> Overview:
        """Both values, their difference and its p, over all cases; then in subgroups."""
        level = f"difference ({100 * self.about.get('level', 0.95):g} % interval)"
        head = ("metric", "of", *self.names, level, "p", "p (Holm)")
        told = [(d.first, _row(d, p)) for d, p in zip(self.differences, self.adjusted)]
        groups = tuple((", ".join(f"{k} {v}" for k, v in e.where.items()), *row) for e, row in told if e.where)
        whole = Panel(head, tuple(row for e, row in told if not e.where))
        panels = (whole, *([Panel(("subgroup", *head), groups, "In subgroups")] if groups else []))
        said = (*([str(self.verdict)] if self.verdict else []), *self.cautions)
        return Overview(f"{' minus '.join(self.names)}: {len(self.differences):,} differences on {counted(self.counts['images'], 'image')} of {counted(self.counts['patients'], 'patient')}", panels, said)  # fmt: skip

    def asked(self) -> tuple[Panel, ...]:
        """The metrics that are compared, with their definitions, and the groups."""
        return defined(d.first for d in self.differences), groups_panel(d.first for d in self.differences)

    def table(self) -> str:
        """The results as aligned text for a terminal."""

        return as_text(self)

    def held(self) -> dict[str, Any]:
        """Everything but the estimates; tests lie apart from their differences, and the correction is told."""
        tests = [
            {"metric": d.first.metric, "of": d.first.of, "where": d.first.where, "error": d.error,
             "statistic": d.statistic, "p": d.p, "adjusted": adjusted}
            for d, adjusted in zip(self.differences, self.adjusted)
        ]  # fmt: skip
        rest = {name: getattr(self, name) for name in _KEPT}
        return {**rest, "endpoint": to_file_form(self.endpoint), "correction": self.correction, "tests": tests, "about": self.about}  # fmt: skip

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> Comparison:
        """The comparison from what its two files hold."""
        if not {*_KEPT, "about", "tests"} <= {*held}:
            raise cls.damaged(cls.file)
        rest = build(_Held, {name: held[name] for name in (*_KEPT, "about", "tests")}, where=cls.file, null_is_nan=True)
        whole = estimates(metrics)
        if len(whole) != 3 * len(rest.tests):
            raise cls.damaged(cls.file)
        differences = tuple(_difference(whole[3 * i : 3 * i + 3], test) for i, test in enumerate(rest.tests))
        kept = {name: getattr(rest, name) for name in (*_KEPT, "about")}
        endpoint = from_file_form(Endpoint, held.get("endpoint", {}), where=cls.file)
        return cls(differences, tuple(test.adjusted for test in rest.tests), **kept, endpoint=endpoint)


_KEPT = ("names", "paired", "primary", "counts", "looks", "cautions", "verdict", "curves")


@dataclass(frozen=True)
class _Test:
    """A difference's test, beside its estimates."""

    metric: str
    of: str
    where: dict[str, str]
    error: float
    statistic: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class _Held:
    """What ``comparison.json`` holds."""

    names: tuple[str, str]
    paired: bool
    primary: str
    counts: dict[str, Any]
    looks: int
    cautions: tuple[str, ...]
    verdict: Verdict | None
    curves: dict[str, Any]
    about: dict[str, Any]
    tests: tuple[_Test, ...]


def _of_side(e: Estimate, name: str) -> Estimate:
    return replace(e, where={**e.where, SIDE: name})


def _difference(parts: Sequence[Estimate], test: _Test) -> Difference:
    gap, *sides = parts
    first, second = (replace(e, where={k: v for k, v in e.where.items() if k != SIDE}) for e in sides)
    return Difference(first, second, gap, test.error, test.statistic, test.p)


# -- differences as aligned text for a terminal -------------------------------------------------------------------


def as_text(found: Comparison) -> str:
    """A line per difference: metric, class, both values, difference with interval, p; then the subgroups."""
    counts = found.counts
    how = "the same cases" if found.paired else "different patients"
    lines = [f"{counted(counts['images'], 'image')} of {counted(counts['patients'], 'patient')}, {how}"
             + looked(found.looks)]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    if found.endpoint:
        main = found[found.endpoint.key]
        lines.append(f"primary endpoint: {found.endpoint}, {main}, not corrected; {found.endpoint.named}")
    rows = list(zip(found.differences, found.adjusted))
    level = f"difference ({100 * found.about.get('level', 0.95):g} % interval)"
    head = ("metric", "of", found.names[0], found.names[1], level, "p", "p (Holm)")
    lines += aligned([head, *(_row(d, p) for d, p in rows if not d.first.where)])
    brief = {m.name for m in shown("brief comparison")}
    groups = [(d, p) for d, p in rows if d.first.where and d.first.metric in brief
              and d.first.of in ("", found.primary)]  # fmt: skip
    if groups:
        told = [(", ".join(f"{k} {v}" for k, v in d.first.where.items()), *_row(d, p)) for d, p in groups]
        lines += ["", *aligned([("subgroup", *head), *told])]
    if found.verdict:
        lines += ["", str(found.verdict), *(f"also claimed: {other}" for other in found.verdict.others)]
    return "\n".join(lines)


def _row(d: Difference, adjusted: float) -> tuple[str, ...]:
    values = ("–" if math.isnan(e.value) else rounded(e.value) for e in (d.first, d.second))
    return d.first.metric, d.first.of, *values, str(d.difference), p_text(d.p), p_text(adjusted)


@checked
def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
