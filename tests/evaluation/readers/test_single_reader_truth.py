"""99 % against 97 %: the numbers of the calculator, against studies that are drawn and counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from overread.core.errors import ArgumentError, InputError
from overread.evaluation.readers.single_reader_truth import at_least, binomial_range, said, single_reader_truth
from overread.stats.proportions import mcnemar, proportion


def test_the_answer_of_the_case_study():
    found = single_reader_truth(reader_accuracy=0.97)
    one = found[1]
    assert one.accuracy == pytest.approx(0.97)
    assert [(m.low, m.high) for m in one.models] == [pytest.approx((0.96, 0.98)), pytest.approx((0.94, 1.0))]
    assert not one.certain
    assert found.settles == 3
    assert found[3].certain
    text = "\n".join(said(found))
    assert "repeats at least 67 % of the reader's errors" in text
    assert "97.0 % against this reader" in text


def test_what_a_perfect_model_shows_is_what_it_shows():
    rng = np.random.default_rng(0)
    shown = (rng.random((20_000, 300)) < 0.93).mean(1)
    low, high = binomial_range(0.93, 300, 0.95)
    assert ((shown >= low) & (shown <= high)).mean() >= 0.95
    assert ((shown > low) & (shown < high)).mean() < 0.96
    assert at_least(0.93, 300, 0.95) == pytest.approx((shown >= 0.95 - 1e-9).mean(), abs=0.01)


def test_what_was_measured_by_chance_widens_what_fits():
    found = single_reader_truth(reader_accuracy=0.95, cases=100, accuracy=0.9, other=0.8)
    for model in found[1].models:
        interval = proportion(np.arange(100) < round(100 * model.measured))
        low, high = 1 - (1 - interval.low) - 0.05, 1 - max(0, (1 - interval.high) - 0.05)
        assert (model.sampled_low, model.sampled_high) == pytest.approx((low, high), abs=1e-9)
        assert model.sampled_low < model.low < model.high <= model.sampled_high


@pytest.mark.slow
@pytest.mark.parametrize("readers", [1, 3])
def test_so_many_cases_tell_two_models_apart(readers):
    """Two models right in 95 and 88 %, errors of their own, against readers right in 85 %: McNemar finds it in 80 of 100."""
    found = single_reader_truth(accuracy=0.95, other=0.88, reader_accuracy=0.85)
    cases, rng, hits = found[readers].needed, np.random.default_rng(readers), 0
    for _ in range(600):
        label = rng.binomial(readers, 0.85, cases) > readers // 2  # right or wrong
        agree = [(rng.random(cases) < a) == label for a in (0.95, 0.88)]
        hits += mcnemar(*agree).p < 0.05
    assert hits / 600 == pytest.approx(0.8, abs=0.05)


def test_more_cases_are_needed_against_one_reader_than_against_a_panel():
    found = single_reader_truth(accuracy=0.95, other=0.88, reader_accuracy=0.85)
    needed = [panel.needed for panel in found.panels]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] / needed[-1] == pytest.approx(
        (2 * found[found.panels[-1].readers].accuracy - 1) ** 2 / (2 * 0.85 - 1) ** 2, rel=0.1
    )


def test_readers_who_err_together_help_less():
    alone, together = (single_reader_truth(reader_accuracy=0.97, alike=a) for a in (0.0, 0.3))
    assert together[3].accuracy < alone[3].accuracy
    assert together.settles is None
    assert "No panel" in str(together)
    assert any("independently" in line for line in alone.cautions)
    assert not any("independently" in line for line in together.cautions)


def test_errors_that_are_shared_explain_what_no_independent_model_shows():
    found = single_reader_truth(reader_accuracy=0.97, shared=0.9)
    first = found[1].models[0]
    assert first.independent == ()
    assert first.shared
    assert first.by_perfect == pytest.approx(stats.binom.sf(989, 1000, 0.97))


def test_equal_models_have_no_order_to_settle():
    assert single_reader_truth(accuracy=0.9, other=0.9, reader_accuracy=0.97).settles is None


@pytest.mark.parametrize("given", [
    {}, {"reader_accuracy": 0.5}, {"reader_accuracy": 0.9, "reader_sensitivity": 0.9}, {"reader_sensitivity": 0.9},
    {"reader_accuracy": 0.9, "panel": 2}, {"reader_accuracy": 0.9, "accuracy": 0.0}, {"reader_accuracy": 0.9, "prevalence": 1.0},
    {"reader_accuracy": 0.9, "cases": 0},
])  # fmt: skip
def test_what_is_refused(given):
    with pytest.raises(ArgumentError):
        single_reader_truth(**given)
    with pytest.raises(InputError, match="panel of that many"):
        single_reader_truth(reader_accuracy=0.9)[2]
