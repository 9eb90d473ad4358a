"""The score of a slide against sorting its cells; the choice among rules against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError, InputError
from overread.slides.slide_score import SCORES, ScoreChoice, choose_score, parted, slide_score


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("rule", [*SCORES, "mean of 5000"])
def test_a_score_is_the_mean_of_the_highest_cells(bits, rule):
    codes = np.random.default_rng(bits).integers(0, 2**bits, (40, 30)).astype(f"uint{bits}")
    values = np.sort((codes[codes > 0].astype(float) - 1) / (2**bits - 2))[::-1]
    number = 1 if rule == "maximum" else int(rule.split()[-1])
    assert slide_score(codes, rule) == pytest.approx(values[:number].mean(), abs=1e-12)


def test_a_slide_that_nobody_looked_at_has_no_score():
    assert math.isnan(slide_score(np.zeros((4, 4), np.uint8), "maximum"))
    assert slide_score(np.ones((4, 4), np.uint8), "maximum") == 0.0


def test_what_is_no_rule_is_refused():
    for rule in ("highest", "mean of 0", "mean of -3", ""):
        with pytest.raises(InputError, match="no such score"):
            slide_score(np.zeros((2, 2), np.uint8), rule)
        with pytest.raises(InputError, match="no such score"):
            ScoreChoice(rule, "")


def test_the_rule_with_the_best_area_is_chosen():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    scores = [rng.random(40) + strength * truth for strength in (0.1, 0.3, 1.5, 0.2, 0.4)]
    scores[0][3] = math.nan  # a slide that was set aside counts for no rule
    found = choose_score([each.tolist() for each in scores], truth.tolist())
    kept = np.arange(40) != 3
    areas = {rule: roc_auc_score(truth[kept], each[kept]) for rule, each in zip(SCORES, scores, strict=True)}
    assert found.rule == "mean of 10" == max(areas, key=lambda rule: areas[rule])
    assert found.areas == pytest.approx(areas)
    assert found.slides == 39
    assert "39 tuning slides" in found.line


def test_of_rules_with_the_same_area_the_one_that_parts_the_classes_most():
    truth, plain = [0, 0, 0, 1, 1, 1], [0.3, 0.4, 0.45, 0.5, 0.6, 0.7]
    far = [0.1, 0.12, 0.15, 0.8, 0.85, 0.9]
    found = choose_score([plain, plain, plain, far, [0.99, 0.4, 0.45, 0.5, 0.6, 0.7]], truth)
    assert found.rule == "mean of 30"
    log_odds = np.log(np.array(far) / (1 - np.array(far)))
    pooled = np.sqrt((log_odds[:3].var(ddof=1) + log_odds[3:].var(ddof=1)) / 2)
    apart = (log_odds[3:].mean() - log_odds[:3].mean()) / pooled
    assert f"of 4 rules with this area it parts the classes most, by {apart:.1f} standard deviations" in found.why
    assert "mean of 100 0.667" in found.why
    assert parted(np.array(truth), np.full(6, 0.5)) == 0
    sure = parted(np.array(truth), np.array([0, 0, 0, 1, 1, 1.0]))  # nothing varies within a class
    assert sure == pytest.approx(2 * np.log(511) / 0.1)


def test_of_equal_rules_the_first_and_of_few_slides_too():
    scores = [[0.1, 0.2, 0.3, 0.7, 0.8, 0.9]] * 5
    found = choose_score(scores, [0, 0, 0, 1, 1, 1])
    assert found.rule == "maximum"
    assert "all part the classes alike, and it is the first" in found.why
    assert choose_score(scores[:4] + [[0.9, 0.2, 0.3, 0.7, 0.8, 0.1]], [0, 0, 1, 1, 1, 1]).why.startswith("the tuning part has 4 slides with and 2 without")  # fmt: skip
    with pytest.raises(ArgumentError, match="a row of scores for each rule"):
        choose_score(scores[:2], [0, 0, 0, 1, 1, 1])
