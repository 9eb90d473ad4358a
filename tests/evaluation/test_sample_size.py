"""Sample sizes: published examples, and simulations of what was promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from overread.core.errors import InputError
from overread.evaluation.sample_size import Plan, plan
from overread.stats.discrimination.delong import auc_difference
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import two_sided
from overread.stats.proportions import wilson


def test_mcnemar_by_the_formula_of_connor():
    """Connor 1987, equation 3.2, restated: n = (z_a √ψ + z_b √(ψ − d²))² / d²."""
    found = plan(accuracy=0.9, against=0.8, discordant=0.2)
    psi, d = 0.2, 0.1
    wanted = (1.959964 * math.sqrt(psi) + 0.841621 * math.sqrt(psi - d * d)) ** 2 / d**2
    assert found.needed.patients == math.ceil(wanted)


def test_auc_by_the_formula_of_hanley():
    """Hanley & McNeil 1982, equation 1, restated: the first n of each kind whose difference is far enough from 0."""

    def variance(area, n):
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        return (area * (1 - area) + (n - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / n**2

    z = 1.959964 + 0.841621
    wanted = next(n for n in range(2, 999) if z * math.sqrt(variance(0.85, n) + variance(0.75, n)) <= 0.1)
    found = plan(auc=0.85, against=0.75, alike=0.0)
    assert found.needed.positives == pytest.approx(wanted, abs=1)


@pytest.mark.parametrize(("metric", "prevalence"), [("sensitivity", 0.2), ("specificity", 0.2), ("accuracy", 0.2)])
def test_the_width_is_reached_and_one_patient_fewer_in_a_class_is_too_few(metric, prevalence):
    found = plan(**{metric: 0.85}, width=0.1, prevalence=prevalence).needed
    count = {"sensitivity": found.positives, "specificity": found.negatives, "accuracy": found.patients}[metric]
    low, high = wilson(0.85, count, 1.959964)
    assert high - low <= 0.1
    low, high = wilson(0.85, count - 2, 1.959964)
    assert high - low > 0.1


def _scores(rng, ill, area):
    """Exponential scores of a known AUC, which Hanley's variance assumes: AUC = r / (1 + r)."""
    return np.where(ill, area / (1 - area), 1.0) * rng.exponential(size=len(ill))


def test_the_width_of_an_auc_is_reached_on_average():
    found, rng, widths = plan(auc=0.85, width=0.1, prevalence=0.3).needed, np.random.default_rng(1), []
    ill = np.arange(found.patients) < found.positives
    for _ in range(150):
        e = auc(ill, _scores(rng, ill, 0.85))
        widths.append(e.high - e.low)
    assert np.mean(widths) == pytest.approx(0.1, rel=0.05)


@pytest.mark.slow
def test_the_power_of_non_inferiority_is_reached():
    """Unpaired cases in each arm (correlation 0), so that Hanley's variance holds exactly."""
    found, rng, shown, runs = (
        plan(auc=0.85, against=0.85, margin=0.08, alike=0.0).needed,
        np.random.default_rng(2),
        0,
        1500,
    )
    ill = np.arange(found.patients) < found.positives
    for _ in range(runs):
        sides = [auc(ill, _scores(rng, ill, 0.85)) for _ in range(2)]
        errors = [_delong_error(ill, rng, e) for e in sides]
        shown += (sides[0].value - sides[1].value + 0.08) / math.hypot(*errors) > 1.959964
    assert shown / runs == pytest.approx(0.8, abs=0.04)


def _delong_error(ill, rng, e):
    """Back from the logit interval to the standard error."""
    logits = [math.log(x / (1 - x)) for x in (e.low, e.high)]
    return (logits[1] - logits[0]) / (2 * 1.959964) * e.value * (1 - e.value)


@pytest.mark.slow
def test_the_power_of_a_paired_difference_is_reached():
    """Scores of two models on the same cases; the correlation of their AUCs is measured, then planned with."""
    rng = np.random.default_rng(3)

    def draw(positives, negatives):
        ill = np.arange(positives + negatives) < positives
        common = rng.normal(size=len(ill))
        return ill, [k * ill + 0.7 * common + math.sqrt(0.51) * rng.normal(size=len(ill)) for k in (1.6, 1.25)]

    ill, (a, b) = draw(4000, 4000)
    d = auc_difference(ill, a, b)
    errors = [_delong_error(ill, rng, e) for e in (d.first, d.second)]
    alike = (errors[0] ** 2 + errors[1] ** 2 - d.error**2) / (2 * errors[0] * errors[1])
    found = plan(auc=d.first.value, against=d.second.value, alike=alike, variance="normal").needed
    runs = 1200
    shown = sum(auc_difference(*_pair(draw(found.positives, found.negatives))).p < 0.05 for _ in range(runs))
    assert shown / runs == pytest.approx(0.8, abs=0.06)


def _pair(drawn):
    return drawn[0], *drawn[1]


@pytest.mark.slow
def test_the_power_of_a_paired_sensitivity_is_reached():
    from overread.stats.proportions import mcnemar

    found, rng, runs = (plan(sensitivity=0.9, against=0.85, prevalence=0.5).needed, np.random.default_rng(4), 1500)
    n = found.positives
    shown = sum(mcnemar(rng.random(n) < 0.9, rng.random(n) < 0.85).p < 0.05 for _ in range(runs))
    assert shown / runs == pytest.approx(0.8, abs=0.04)


def test_several_images_of_a_patient_need_more_images_and_fewer_patients():
    one, three = plan(auc=0.85, width=0.1).needed, plan(auc=0.85, width=0.1, images=3, correlation=0.4).needed
    assert three.patients == pytest.approx(one.patients * 1.8 / 3, abs=1)
    assert three.images == 3 * three.patients


def test_two_goals_need_the_larger_of_both():
    found = plan(sensitivity=0.9, specificity=0.85, width=0.05, prevalence=0.1)
    alone = [plan(sensitivity=0.9, width=0.05, prevalence=0.1), plan(specificity=0.85, width=0.05, prevalence=0.1)]
    assert [s.patients for s in found.sizes] == [a.needed.patients for a in alone]
    assert found.needed.patients == max(s.patients for s in found.sizes)


def test_neighbours_and_curves_hold_the_answer_and_move_the_right_way():
    found = plan(sensitivity=0.9, width=0.05, prevalence=0.1)
    widths = [row for row in found.neighbours if row["changed"] == "width"]
    assert [r["patients"] for r in widths] == sorted((r["patients"] for r in widths), reverse=True)
    assert any(r["value"] == 0.05 and r["patients"] == found.needed.patients for r in widths)
    powered = plan(auc=0.9, against=0.88, margin=0.05)
    assert powered.curves[0]["patients"] == sorted(powered.curves[0]["patients"])
    assert two_sided(1.959964) == pytest.approx(2 * powered.terms.alpha, abs=1e-6)


@pytest.mark.parametrize("asked", [
    {"sensitivity": 0.9, "width": 0.05}, {"auc": 0.9, "against": 0.88, "margin": 0.05, "images": 2},
    {"sensitivity": 0.9, "specificity": 0.8, "width": 0.1}, {"accuracy": 0.9, "against": 0.8},
])  # fmt: skip
def test_saved_is_loaded(asked, tmp_path):
    found = plan(**asked)
    assert Plan.load(found.save(tmp_path)) == found
    assert next(e.metric for e in found.estimates) == "patients needed"


@pytest.mark.parametrize("asked", [
    {}, {"sensitivity": 0.9}, {"sensitivity": 0.9, "width": 0.05, "against": 0.8}, {"sensitivity": 0.9, "width": 0.0},
    {"sensitivity": 1.0, "width": 0.1}, {"auc": 0.9, "width": 0.1, "margin": 0.05}, {"auc": 0.9, "against": 0.9},
    {"auc": 0.9, "specificity": 0.9, "against": 0.8}, {"auc": 0.9, "width": 0.1, "prevalence": 0.0},
    {"auc": 0.9, "width": 0.1, "prevalence": 1.0}, {"auc": 0.8, "against": 0.9, "margin": 0.05},
    {"auc": 0.9, "width": 0.1, "images": 0.5}, {"auc": 0.9, "width": 0.1, "level": 1.0}, {"auc": math.nan, "width": 0.1},
    {"auc": 0.9, "width": 0.1, "variance": "delong"},
])  # fmt: skip
def test_nonsense_is_refused(asked):
    with pytest.raises(InputError):
        plan(**asked)


@pytest.mark.parametrize(("asked", "said"), [
    ({"sensitivity": 1.0, "width": 0.05}, "the expected sensitivity must lie between"),
    ({"sensitivity": 0.8, "against": 0.9, "margin": 0.05}, "no number of patients would show it"),
    ({"sensitivity": 0.9, "against": 0.8, "power": 1.0}, "the power must lie between"),
    ({"auc": 0.9, "width": 0.1, "images": math.inf}, "at least 1 image"),
])  # fmt: skip
def test_nonsense_is_called_by_its_name(asked, said):
    with pytest.raises(InputError, match=said):
        plan(**asked)


@pytest.mark.parametrize("prevalence", [0.1, 0.37, 0.5])
def test_with_and_without_the_disease_add_up(prevalence):
    found = plan(sensitivity=0.9, specificity=0.85, auc=0.8, accuracy=0.9, width=0.05, prevalence=prevalence)
    assert all(size.positives + size.negatives == size.patients for size in (*found.sizes, found.needed))
    assert all(row["positives"] + row["negatives"] == row["patients"] for row in found.neighbours)
