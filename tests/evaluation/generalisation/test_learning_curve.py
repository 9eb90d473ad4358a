"""Learning curves against slow restatements; the coverage of what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from overread.core.errors import InputError
from overread.evaluation.generalisation.learning_curve import LearningCurve, Size, learning_curve, said
from overread.evaluation.ledger import verify
from overread.predictions import Predictions
from overread.stats.discrimination.delong import auc_difference, compare_aucs
from overread.tasks.target import Target

TARGET = Target("binary", ("well", "ill"), ("ill",))
A, B, C = 0.92, 0.9, 0.5


def law(n: float) -> float:
    return A - B * n**-C


def steps_of(seed=0, *, patients=80, images=2, sizes=(25, 50, 100, 200), repeats=2, chance=0.0):
    """Binormal scores whose AUC follows the law, plus the chance of who teaches; the same cases at every size."""
    rng = np.random.default_rng(seed)
    ill = np.repeat(rng.random(patients) < 0.4, images)
    who = np.repeat(np.arange(patients), images)
    hard = np.sqrt(0.5) * np.repeat(rng.normal(size=patients), images) + np.sqrt(0.5) * rng.normal(size=len(ill))
    found = []
    for n in sizes:
        for _ in range(repeats):
            area = np.clip(law(n) + chance * rng.normal(), 0.5, 0.995)
            score = np.sqrt(0.7) * hard + np.sqrt(0.3) * rng.normal(size=len(ill)) + norm.ppf(area) * np.sqrt(2) * ill
            p = norm.cdf(score)
            table = pd.DataFrame({"case": [f"c{i:04d}" for i in range(len(ill))], "patient": [f"p{i}" for i in who], "split": "",
                                  "source": "", "label": np.where(ill, "ill", "well"), "p:well": 1 - p, "p:ill": p})  # fmt: skip
            found.append((n, Predictions(table, TARGET)))
    return found


def truth_and_score(p: Predictions):
    return p.truth == 1, p.scores[:, 1]


def test_single_models_are_delongs_areas_and_paired_differences() -> None:
    steps = steps_of(repeats=1)
    curve = learning_curve(steps, resamples=200)
    for step, (n, p) in zip(curve.steps, steps, strict=True):
        assert step.size.value == n
        assert step.estimate.value == pytest.approx(roc_auc_score(*truth_and_score(p)), abs=1e-12)
        assert math.isnan(step.spread)
    for gain, (_, a), (_, b) in zip(curve.gains, steps, steps[1:], strict=False):
        wanted = auc_difference(*truth_and_score(b), a.scores[:, 1], b.patients).difference
        assert (gain.difference.value, gain.difference.low, gain.difference.high) == pytest.approx(
            (wanted.value, wanted.low, wanted.high), abs=1e-12
        )
        assert gain.anew.undefined.startswith("no size was repeated")
        assert gain.adjusted >= gain.p


def test_the_mean_of_repeats_has_the_variance_of_a_mean_of_correlated_areas() -> None:
    """Var(mean) = Σ cov / R², from the covariance of the single models."""
    steps = steps_of(repeats=3, chance=0.02)
    curve = learning_curve(steps, resamples=200)
    mine = [p for n, p in steps if n == 50]
    together = compare_aucs(mine[0].truth == 1, [p.scores[:, 1] for p in mine], mine[0].patients)
    step = curve.steps[1]
    areas = [a.value for a in together.areas]
    assert step.values == pytest.approx(areas, abs=1e-12)
    assert step.estimate.value == pytest.approx(np.mean(areas), abs=1e-12)
    assert step.spread == pytest.approx(np.std(areas, ddof=1))
    v = step.estimate.value
    error = math.sqrt(together.covariance.sum()) / 3 / (v * (1 - v))
    middle = math.log(v / (1 - v))
    ill = [mine[0].table["patient"][mine[0].truth == k].nunique() for k in (0, 1)]
    wide = student.ppf(0.975, min(ill) - 1)  # two images of every patient: as many to tell as there are patients
    wanted = [1 / (1 + math.exp(-(middle + side * wide * error))) for side in (-1, 1)]
    assert (step.estimate.low, step.estimate.high) == pytest.approx(wanted, abs=1e-6)


def test_another_metric_is_the_mean_over_the_repeats() -> None:
    steps = steps_of(repeats=2)
    curve = learning_curve(steps, metric="brier", resamples=200)
    mine = [np.mean((p.scores[:, 1] - p.truth) ** 2) for n, p in steps if n == 100]
    assert curve.steps[2].estimate.value == pytest.approx(np.mean(mine))
    first, second = (s.estimate.value for s in curve.steps[:2])
    assert curve.gains[0].difference.value == pytest.approx(second - first)
    assert curve.law.undefined or curve.law.more.value <= 0, "a loss can only fall"


def test_the_order_of_steps_and_rows_changes_nothing() -> None:
    steps = steps_of()
    rng = np.random.default_rng(1)
    mixed = [(n, p.take(rng.permutation(len(p)))) for n, p in steps]
    a, b = learning_curve(steps, resamples=200), learning_curve(mixed[::-1], resamples=200)
    assert [s.estimate for s in a.steps] == pytest.approx([s.estimate for s in b.steps]) or all(
        x.estimate.value == pytest.approx(y.estimate.value) for x, y in zip(a.steps, b.steps, strict=True)
    )
    assert a.law.ahead.value == pytest.approx(b.law.ahead.value)


def test_the_law_leads_to_twice_the_largest_size_and_no_further(tmp_path) -> None:
    curve = learning_curve(steps_of(sizes=(25, 50, 100, 200, 400)), resamples=300)
    one = curve.law
    assert max(one.sizes) == pytest.approx(800)
    assert one.largest == 400
    assert all(a <= b + 1e-12 for a, b in zip(one.values, one.values[1:], strict=False))
    assert all(a <= b <= c for a, b, c in zip(one.low, one.values, one.high, strict=True))
    assert one.ahead.value - one.more.value == pytest.approx(float(np.interp(400, one.sizes, one.values)), abs=2e-3)
    assert "an extrapolation" in said(curve)[-1]
    assert said(curve)[0].startswith("Doubling the images (from 200 to 400)")
    curve.save(tmp_path)
    again = LearningCurve.load(tmp_path)
    assert str(again) == str(curve)
    assert again.law == curve.law
    assert len(curve.estimates) == 5 + 4 + 4 + 4


def test_without_repeats_the_method_says_what_is_missing() -> None:
    curve = learning_curve(steps_of(repeats=1), resamples=200)
    assert "no size was repeated" in curve.law.ahead.method or curve.law.undefined


def test_what_cannot_be_fitted_says_why() -> None:
    three = learning_curve(steps_of(sizes=(25, 50, 100)), resamples=100)
    assert "4 sizes" in three.law.undefined
    assert three.law.ahead.undefined == three.law.undefined
    backwards = [({25: 200, 50: 100, 100: 50, 200: 25}[n], p) for n, p in steps_of(repeats=1, patients=300)]
    assert "flat line" in learning_curve(backwards, resamples=100).law.undefined
    assert "No law is fitted" in str(three)


def test_one_class_and_wild_scores_are_told() -> None:
    steps = steps_of(repeats=1)
    sick = [(n, p.take(p.truth == 1)) for n, p in steps]
    curve = learning_curve(sick, resamples=50)
    assert all(s.estimate.undefined for s in curve.steps)
    assert all(g.difference.undefined for g in curve.gains)
    assert "undefined at 4 of 4" in curve.law.undefined
    n, p = steps[1]
    wild = replace(p, table=p.table.assign(**{"p:ill": p.table["p:ill"].where(p.table.index != 3)}))
    curve = learning_curve([steps[0], (n, wild), *steps[2:]], resamples=50)
    assert [bool(s.estimate.undefined) for s in curve.steps] == [False, True, False, False]
    assert [bool(g.difference.undefined) for g in curve.gains] == [True, True, False]


def test_one_patient_and_equal_models() -> None:
    steps = steps_of(repeats=1)
    same = [(n, steps[0][1]) for n, _ in steps]
    curve = learning_curve(same, resamples=50)
    assert all(g.difference.value == 0 == g.difference.low == g.difference.high for g in curve.gains)
    assert "flat line" in curve.law.undefined
    lone = [(n, replace(p, table=p.table.assign(patient="one"))) for n, p in steps]
    assert learning_curve(lone, resamples=50).law.undefined


def test_other_cases_are_refused() -> None:
    steps = steps_of(repeats=1)
    n, p = steps[1]
    with pytest.raises(InputError, match="same cases"):
        learning_curve([steps[0], (n, p.take(np.arange(50)))])
    turned = replace(p, table=p.table.assign(label=np.where(p.truth == 1, "well", "ill")))
    with pytest.raises(InputError, match="same cases"):
        learning_curve([steps[0], (n, turned)])
    with pytest.raises(InputError, match="two sizes"):
        learning_curve([steps[0], steps[0]])
    with pytest.raises(InputError):
        learning_curve(steps, unit="miles")


def test_each_model_looks_at_the_test_set(tmp_path) -> None:
    steps = [(Size(float(n), n, n // 2), p) for n, p in steps_of(repeats=1)]
    curve = learning_curve(steps, ledger=tmp_path / "l.jsonl", models=["a", "b", "c", "d"], part="test", resamples=50)
    assert [e["model"] for e in verify(tmp_path / "l.jsonl")] == ["a", "b", "c", "d"]
    assert curve.looks == 0
    assert learning_curve(steps, ledger=tmp_path / "l.jsonl", resamples=50).looks == 4
    assert curve.steps[0].size.patients == 12


def coverage(runs: int, resamples: int = 200, **how) -> dict[str, float]:
    hits: dict[str, list[bool]] = {}
    for seed in range(runs):
        curve = learning_curve(steps_of(seed, **how), resamples=resamples)
        last = curve.steps[-1].size.value
        told = {
            "gain": (
                curve.gains[-1].anew if how.get("repeats", 2) > 1 else curve.gains[-1].difference,
                law(last) - law(last / 2),
            )
        }
        if not curve.law.undefined:
            told |= {"ahead": (curve.law.ahead, law(2 * last)), "more": (curve.law.more, law(2 * last) - law(last)),
                     "exponent": (curve.law.exponent, C)}  # fmt: skip
        for name, (e, value) in told.items():
            hits.setdefault(name, []).append(e.low <= value <= e.high)
    return {name: float(np.mean(found)) for name, found in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize("how", [
    {"patients": 150, "chance": 0.02, "sizes": (25, 50, 100, 200, 400)},
    {"patients": 150, "repeats": 1, "sizes": (25, 50, 100, 200, 400)},
    {"patients": 40, "images": 1, "repeats": 1, "sizes": (25, 50, 100, 200, 400)},
])  # fmt: skip
def test_intervals_hold_what_they_say(how) -> None:
    found = coverage(400, **how)
    assert all(0.925 <= share <= 0.975 for share in found.values()), found


def test_one_score_that_is_no_number_is_the_reason_everywhere(tmp_path) -> None:
    steps = steps_of()
    broken = steps[0][1].table.copy()
    broken.loc[3, [c for c in broken if c.startswith("p:")]] = np.nan
    curve = learning_curve([(steps[0][0], replace(steps[0][1], table=broken)), *steps[1:]], resamples=20)
    assert "not finite" in curve.steps[0].estimate.undefined
    assert "not finite" in curve.gains[0].difference.undefined
    assert "not finite" in curve.gains[0].anew.undefined
    curve.save(tmp_path)
    assert str(LearningCurve.load(tmp_path)) == str(curve)
