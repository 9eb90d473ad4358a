"""Every public function of the statistics, over scores as they come: a value with its interval, or a reason.

Ties, NaN, ±∞, one class, one patient, constant scores, float32, nothing at all, plain lists. A function of arrays that
is missing from the table below fails the last test, so a new one is under law from its first day.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import overread.stats
from overread.core.errors import ArgumentError
from overread.stats import classification, decision, froc, power, regression
from overread.stats import proportions as mcnemar
from overread.stats.agreement import consensus, mrmc, pairs, panel
from overread.stats.calibration import abstention, conformal, recalibration, reliability, smooth_curve
from overread.stats.discrimination import delong, partial_auc, stratified
from overread.stats.discrimination import roc as concordance
from overread.stats.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Case:
    """``y`` and ``z`` 0/1, ``s`` and ``u`` any scores, ``p`` and ``q`` in 0 … 1 or not a number, ``g`` patients."""

    y: object
    z: object
    s: object
    u: object
    p: object
    q: object
    g: object

    @property
    def images(self) -> int:
        return len(self.g)  # type: ignore[arg-type]

    @property
    def k(self) -> np.ndarray:
        """(N,) three grades."""
        return np.asarray(self.y, int) + np.asarray(self.z, int)

    @property
    def r(self) -> np.ndarray:
        """(N, 3) grades of three readers; where ``s`` is not finite, the third gives none."""
        third = np.where(np.isfinite(np.asarray(self.s, float)), np.asarray(self.z, float), math.nan)
        return np.column_stack([np.asarray(self.y, float), np.asarray(self.z, float), third])

    @property
    def two(self) -> np.ndarray:
        """(N, 2) probabilities of two classes."""
        p = np.asarray(self.p, float)
        return np.column_stack([1 - p, p])

    @property
    def pair(self) -> np.ndarray:
        """(2, N) scores of two readers."""
        return np.stack([np.asarray(self.s, float), np.asarray(self.u, float)])


def board(c: Case) -> np.ndarray:
    """(N, 2, 2) of two modalities and two readers."""
    return np.stack([c.pair.T, c.pair[::-1].T], axis=1)


SMALL = {"resamples": 20}
CALLS: dict[Callable, Callable[[Case], object]] = {
    abstention.risk_curve: lambda c: abstention.risk_curve(c.y, c.s, c.g),
    pairs.percent_agreement: lambda c: pairs.percent_agreement(c.r, c.g, **SMALL),
    pairs.specific_agreement: lambda c: pairs.specific_agreement(c.r, c.g, **SMALL),
    pairs.cohen_kappa: lambda c: pairs.cohen_kappa(c.y, c.z, c.g),
    pairs.intraclass_correlation: lambda c: pairs.intraclass_correlation(
        c.pair.T, c.g, **SMALL
    ),
    panel.fleiss_kappa: lambda c: panel.fleiss_kappa(c.r[:, :2], c.g, **SMALL),
    panel.krippendorff_alpha: lambda c: panel.krippendorff_alpha(c.r, c.g, **SMALL),
    panel.ceiling: lambda c: panel.ceiling(c.r, c.g, **SMALL),
    reliability.reliability: lambda c: reliability.reliability(c.y, c.p, c.g, **SMALL),
    reliability.intercept_and_slope: lambda c: reliability.intercept_and_slope(c.y, c.p, c.g),
    reliability.observed_to_expected: lambda c: reliability.observed_to_expected(c.y, c.p, c.g),
    smooth_curve.smooth_curve: lambda c: smooth_curve.smooth_curve(c.y, c.p, c.g),
    reliability.brier_uncertainty: lambda c: reliability.brier_uncertainty(c.y, c.g),
    classification.confusion: lambda c: classification.confusion(c.y, c.z, 2),
    classification.at_threshold: lambda c: classification.at_threshold(c.y, c.z, c.g),
    concordance.concordance: lambda c: concordance.concordance(c.s, c.u, c.g),
    conformal.fit_sets: lambda c: conformal.fit_sets(np.asarray(c.y, int), c.two, c.g),
    conformal.set_coverage: lambda c: conformal.set_coverage(
        np.asarray(c.y, int), np.nan_to_num(c.two) > 0.4, c.g, **SMALL
    ),
    conformal.fit_intervals: lambda c: conformal.fit_intervals(c.s, c.u, c.g),
    conformal.interval_coverage: lambda c: conformal.interval_coverage(
        c.s, c.u, np.ones(c.images), c.g
    ),
    consensus.majority: lambda c: consensus.majority(c.r),
    consensus.median_label: lambda c: consensus.median_label(c.r),
    consensus.dawid_skene: lambda c: consensus.dawid_skene(c.r, rounds=20),
    decision.decision_curve: lambda c: decision.decision_curve(c.y, c.p, c.g),
    decision.decision_difference: lambda c: decision.decision_difference(c.y, c.p, c.q, c.g),
    froc.froc_curve: lambda c: froc.froc_curve([], np.arange(c.images), c.s, np.full(c.images, -1), c.images),
    froc.froc: lambda c: froc.froc(
        np.flatnonzero(c.y), np.arange(c.images), c.s, np.full(c.images, -1), c.images, c.g, **SMALL
    ),
    froc.afroc_area: lambda c: froc.afroc_area(
        np.flatnonzero(c.y), np.arange(c.images), c.s, np.full(c.images, -1), c.images, c.g, **SMALL
    ),
    froc.froc_difference: lambda c: froc.froc_difference(
        np.flatnonzero(c.y), *((np.arange(c.images), s, np.full(c.images, -1)) for s in (c.s, c.u)), c.images, c.g, **SMALL
    ),
    mcnemar.mcnemar: lambda c: mcnemar.mcnemar(c.y, c.z, c.g),
    mcnemar.paired_proportions: lambda c: mcnemar.paired_proportions(c.y, c.z, c.g),
    mcnemar.threshold_differences: lambda c: mcnemar.threshold_differences(c.y, c.z, np.asarray(c.s) > 0, c.g),
    regression.mean_over_images: lambda c: regression.mean_over_images("dice", c.p, c.g, **SMALL),
    delong.auc_difference: lambda c: delong.auc_difference(c.y, c.s, c.u, c.g),
    delong.compare_aucs: lambda c: delong.compare_aucs(c.y, [c.s, c.u, c.p], c.g),
    partial_auc.partial_auc: lambda c: partial_auc.partial_auc(c.y, c.s, c.g, specificity=(0.5, 1)),
    stratified.stratified_auc: lambda c: stratified.stratified_auc(c.y, c.s, np.arange(len(c.y)) % 2, c.g),
    partial_auc.partial_auc_difference: lambda c: partial_auc.partial_auc_difference(
        c.y, c.s, c.u, c.g, sensitivity=(0.5, 1)
    ),
    power.power_laws: lambda c: power.power_laws(1 + np.arange(c.images), np.c_[c.p, c.p].T),
    concordance.precision_recall_curve: lambda c: concordance.precision_recall_curve(c.y, c.s),
    classification.likelihood_ratios: lambda c: classification.likelihood_ratios(c.y, c.z, c.g),
    classification.at_prevalence: lambda c: classification.at_prevalence(c.y, c.z, 0.1, c.g),
    mcnemar.proportion: lambda c: mcnemar.proportion(c.y, c.g),
    mrmc.compare_modalities: lambda c: mrmc.compare_modalities(c.y, board(c), c.g),
    mrmc.compare_with_readers: lambda c: mrmc.compare_with_readers(c.y, c.p, c.pair.T, c.g),
    mrmc.reader_points: lambda c: mrmc.reader_points(c.y, np.column_stack([c.z, c.y]), c.g),
    mrmc.compare_with_reader: lambda c: mrmc.compare_with_reader(c.y, c.s, c.z, c.g, **SMALL),
    recalibration.fit_temperature: lambda c: recalibration.fit_temperature(c.y, c.p),
    recalibration.fit_platt: lambda c: recalibration.fit_platt(c.y, c.p),
    recalibration.fit_isotonic: lambda c: recalibration.fit_isotonic(c.y, c.p),
    recalibration.estimate_prior: lambda c: recalibration.estimate_prior(c.p, 0.3, rounds=20),
    concordance.auc: lambda c: concordance.auc(c.y, c.s, c.g),
    concordance.roc_curve: lambda c: concordance.roc_curve(c.y, c.s),
}  # fmt: skip
#: Functions of arrays that are no truth and no score of cases: each has tests of its own on awkward input.
OTHERS = {
    "arrays.patient_codes",
    "arrays.zero_one",
    "arrays.numbers",
    "arrays.real_numbers",
    "arrays.class_numbers",
    "proportions.tango",
    "mrmc.variance_components",
    "hypotheses.holm",
    "image_error.image_error",
    "image_error.mean_image_error",
    *(f"overlap.{n}" for n in ("dice", "jaccard", "hausdorff", "average_precision_over_iou", "panoptic_quality",
                               "merges_and_splits", "overlap", "mean_overlap")),
}  # fmt: skip

odd = st.sampled_from([0.0, 0.5, 1.0, 1.0, -2.0, 1e-300, 3e38, math.nan, math.inf, -math.inf])
whole = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.9, 1.0])
fine = st.floats(0, 1, width=32)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to 14 images: scores clean, tied, constant or odd; of one class or two, of one patient or several."""
    n = draw(st.integers(0, 14))
    scores = draw(st.sampled_from([odd, whole, fine, st.just(0.5)]))
    chances = draw(st.sampled_from([whole, fine, st.just(0.5), st.sampled_from([0.2, math.nan])]))
    truth = draw(st.sampled_from([st.booleans(), st.booleans(), st.just(True), st.just(False)]))
    patient = draw(st.sampled_from([st.integers(0, 30), st.integers(0, 3), st.just(7)]))
    columns = [draw(st.lists(kind, min_size=n, max_size=n)) for kind in
               (truth, st.booleans(), scores, scores, chances, chances, patient)]  # fmt: skip
    how = draw(st.sampled_from(["list", "float64", "float32"]))
    if how != "list":
        columns[2:6] = [np.array(column, how) for column in columns[2:6]]
    return Case(*columns)


def estimates(found: object) -> Iterator[Estimate]:
    """Every estimate within tuples, lists, dictionaries and dataclasses."""
    if isinstance(found, Estimate):
        yield found
    elif isinstance(found, (tuple, list)):
        for part in found:
            yield from estimates(part)
    elif isinstance(found, dict):
        yield from estimates(list(found.values()))
    elif dataclasses.is_dataclass(found):
        yield from estimates([getattr(found, field.name) for field in dataclasses.fields(found)])


def assert_sound(e: Estimate) -> None:
    assert bool(e.undefined) == math.isnan(e.value), e
    assert math.isnan(e.low) == math.isnan(e.high), e
    slack = 1e-9 * max(1.0, abs(e.value))
    assert math.isnan(e.low) or e.low - slack <= e.value <= e.high + slack, e


@pytest.mark.parametrize("statistic", CALLS, ids=lambda f: f.__name__)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(case=cases())
def test_any_input_has_a_value_or_a_reason(statistic, case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = CALLS[statistic](case)
        except ArgumentError:  # malformed input; any other error is a fault of the function
            return
    for e in estimates(found):
        assert_sound(e)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases())
def test_an_area_always_answers_and_is_never_flipped(case):
    found = concordance.auc(case.y, case.s, case.g)
    assert_sound(found)
    back = concordance.auc(case.y, -np.asarray(case.s, float), case.g)
    assert bool(found.undefined) == bool(back.undefined)
    if not found.undefined:
        assert found.high > found.low
        assert (back.value, back.low, back.high) == pytest.approx((1 - found.value, 1 - found.high, 1 - found.low))


@pytest.mark.parametrize("statistic", CALLS, ids=lambda f: f.__name__)
def test_good_input_is_taken(statistic):
    """So that the table above calls each as it is meant to be called."""
    rng, truth = np.random.default_rng(0), np.arange(40) < 20
    columns = [truth + 0.7 * rng.normal(size=40) for _ in range(2)]
    chances = [1 / (1 + np.exp(-c)) for c in columns]
    CALLS[statistic](Case(truth, rng.random(40) < 0.4, *columns, *chances, rng.integers(0, 15, 40)))


def test_every_function_of_arrays_is_in_the_table():
    known = {f"{f.__module__.rsplit('.', 1)[1]}.{f.__name__}" for f in CALLS} | OTHERS
    found = set()
    for module in pkgutil.walk_packages(overread.stats.__path__, "overread.stats."):
        whole = importlib.import_module(module.name)
        for name, function in vars(whole).items():
            own = inspect.isfunction(function) and function.__module__ == whole.__name__
            if own and hasattr(function, "__wrapped__") and not name.startswith("_"):
                kinds = inspect.signature(function.__wrapped__).parameters.values()
                if any("ArrayLike" in str(p.annotation) or "SupportsArray" in str(p.annotation) for p in kinds):
                    found.add(f"{module.name.rsplit('.', 1)[1]}.{name}")
    assert found - known == set(), "say in CALLS how to call it, or in OTHERS that it takes no cases"
    assert known - found == set(), "the table names what is not there"


#: Functions that promise an answer for any scores: these must not refuse a case of the right shape.
ANSWER = [concordance.auc, delong.auc_difference, delong.compare_aucs, mcnemar.proportion, mcnemar.mcnemar,
          mcnemar.paired_proportions, partial_auc.partial_auc, concordance.concordance, decision.decision_curve,
          pairs.cohen_kappa, classification.at_prevalence,
          mrmc.compare_with_readers, abstention.risk_curve, regression.mean_over_images]  # fmt: skip
#: Input that no function of truth and score can read.
MALFORMED = [([0, 1, 2], [0.1, 0.2, 0.3]), ([0, 1], [0.1, 0.2, 0.3]), ([[0, 1]], [0.1, 0.2]), ([0, 1], ["a", "b"]),
             ([0, 1, math.nan], [0.1, 0.2, 0.3])]  # fmt: skip


@pytest.mark.parametrize("statistic", ANSWER, ids=lambda f: f.__name__)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=cases())
def test_scores_of_any_kind_are_answered_not_refused(statistic, case):
    found = list(estimates(CALLS[statistic](case)))
    for e in found:
        assert_sound(e)


@pytest.mark.parametrize("statistic", [concordance.auc, concordance.roc_curve,
                                       concordance.precision_recall_curve, decision.decision_curve,
                                       reliability.reliability, abstention.risk_curve,
                                       recalibration.fit_platt], ids=lambda f: f.__name__)  # fmt: skip
@pytest.mark.parametrize(("truth", "score"), MALFORMED, ids=str)
def test_malformed_input_is_an_argument_error(statistic, truth, score):
    with pytest.raises(ArgumentError):
        statistic(truth, score)
    with pytest.raises(ArgumentError):
        statistic([0, 1, 1], None)  # type: ignore[arg-type]
