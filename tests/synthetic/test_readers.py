"""Drawn readers err as they were told to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import ArgumentError
from overread.synthetic.readers import Variances, draw_readings, draw_scores, expected_auc

TRUTH = (np.arange(20_000) % 5 == 0).astype(int)


def _matrix(table: pd.DataFrame, column: str) -> np.ndarray:
    return table.pivot(index="case", columns="reader", values=column).loc[[f"case {i}" for i in range(len(TRUTH))]].to_numpy()  # fmt: skip


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_shares_of_errors_are_as_planted(correlation):
    table = draw_readings(TRUTH, readers=3, sensitivity=[0.7, 0.8, 0.9], specificity=0.95, correlation=correlation, seed=1)  # fmt: skip
    said = _matrix(table, "label") == "1"
    np.testing.assert_allclose(said[TRUTH == 1].mean(axis=0), [0.7, 0.8, 0.9], atol=0.03)
    np.testing.assert_allclose(1 - said[TRUTH == 0].mean(axis=0), 0.95, atol=0.01)
    wrong = said[TRUTH == 1] == 0
    both = (wrong[:, 0] & wrong[:, 1]).mean()
    assert (both > 0.09) == bool(correlation)  # apart: 0.3 · 0.2 = 0.06
    assert correlation or both == pytest.approx(0.06, abs=0.01)


def test_all_errors_are_shared_at_full_correlation():
    said = _matrix(draw_readings(TRUTH, readers=2, correlation=1.0), "label")
    assert (said[:, 0] == said[:, 1]).all()


def test_a_draw_belongs_to_its_seed_and_reader():
    few, many = (draw_readings(TRUTH[:50], readers=n, seed=3) for n in (2, 5))
    pd.testing.assert_frame_equal(few, many[many["reader"].isin(["reader 1", "reader 2"])].reset_index(drop=True))  # fmt: skip
    assert not few.equals(draw_readings(TRUTH[:50], readers=2, seed=4))


def test_answers_can_be_missing():
    table = draw_readings(TRUTH, readers=2, missing=0.25)
    assert len(table) == pytest.approx(0.75 * 2 * len(TRUTH), rel=0.02)


def test_scores_have_the_planted_variances():
    of = Variances(reader=0.2, modality_reader=0.1, case=0.4, modality_case=0.1, reader_case=0.3, error=0.2)
    table = draw_scores(TRUTH, readers=16, modalities=("a", "b"), separation=2.0, variances=of, seed=2)
    a, b = (_matrix(table[table["modality"] == name], "score") for name in "ab")
    well = TRUTH == 0
    a, b = a[well], b[well]
    within = np.cov(a[:, :2].T)  # over cases, so without what shifts a reader
    assert within[0, 0] == pytest.approx(0.4 + 0.1 + 0.3 + 0.2, rel=0.06)
    assert within[0, 1] == pytest.approx(0.4 + 0.1, rel=0.06)
    assert np.cov(a[:, 0], b[:, 0])[0, 1] == pytest.approx(0.4 + 0.3, rel=0.06)
    assert np.cov(a[:, 0], b[:, 1])[0, 1] == pytest.approx(0.4, rel=0.08)
    assert a.mean(axis=0).var(ddof=1) == pytest.approx(0.3, rel=0.8)  # 16 readers


def test_the_mean_reader_has_the_expected_auc():
    from scipy.stats import mannwhitneyu

    truth = np.arange(1000) % 2
    of = Variances(reader=0.03, modality_reader=0.03)
    table = draw_scores(truth, readers=40, separation=1.5, variances=of, seed=6)
    scores = table.pivot(index="reader", columns="case", values="score")[[f"case {i}" for i in range(1000)]].to_numpy()  # fmt: skip
    found = [mannwhitneyu(s[truth == 1], s[truth == 0]).statistic / 500**2 for s in scores]
    assert np.mean(found) == pytest.approx(expected_auc(1.5, of), abs=0.02)


@pytest.mark.parametrize(
    "call",
    [lambda: draw_readings([0, 2]), lambda: draw_readings([0, 1], sensitivity=1.2), lambda: draw_readings([0, 1], sensitivity=[0.5]),
     lambda: draw_readings([0, 1], missing=1.0), lambda: draw_readings([0, 1], correlation=-0.1), lambda: draw_readings([0, 1], cases=["a"]),
     lambda: draw_readings([0, 1], readers=0), lambda: Variances(case=-1.0), lambda: draw_scores([[0, 1]])],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(call):
    with pytest.raises(ArgumentError):
        call()
