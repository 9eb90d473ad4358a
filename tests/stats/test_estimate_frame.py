"""An estimate is a number with more to say: it compares, formats, and comes back from a DataFrame."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.stats.estimate import FRAME, Difference, Estimate, differences_frame, estimates_frame, undefined

AUC = Estimate("auc", 0.9127, 0.85, 0.94, 0.95, "DeLong", 100, 80, "mel")


def test_it_is_its_value_where_a_number_is_wanted():
    assert float(AUC) == 0.9127
    assert math.isnan(float(undefined("auc", "0 positives")))
    assert f"{AUC:.3f}" == "0.913"
    assert f"{AUC:8.1%}" == "   91.3%"
    assert f"{AUC}" == "0.913 (0.850–0.940)"
    assert AUC.interval == (0.85, 0.94)
    assert max([AUC, Estimate("auc", 0.95)]).value == 0.95


def test_it_compares_by_value_and_equals_by_everything():
    other = Estimate("auc", 0.9127, 0.8, 0.95)
    assert AUC > 0.9
    assert AUC < 0.95
    assert AUC <= other <= AUC
    assert other != AUC
    assert not undefined("auc", "x") < 1
    assert not undefined("auc", "x") >= 1


def test_estimates_come_back_from_a_frame():
    held = [AUC, Estimate("sensitivity", 0.5, 0.1, 0.9, images=8, patients=8, where={"sex": "f"}, count=4),
            Estimate("auc gap", 0.1, where={"sex": "f", "site": "A"})]  # fmt: skip
    frame = estimates_frame(held)
    assert list(frame.columns) == ["metric", "of", "where:sex", "where:site", *FRAME[2:]]
    assert frame["where:sex"].tolist() == ["", "f", "f"]
    back = Estimate.from_frame(frame)
    assert [str(e) for e in back] == [str(e) for e in held]
    assert back[:2] == tuple(held[:2])
    assert back[1].count == 4
    assert back[0].count is None


def test_another_frame_is_refused_with_its_nearest_column():
    with pytest.raises(InputError, match="Did you mean 'metric'"):
        Estimate.from_frame(pd.DataFrame({"metrics": ["auc"], "value": [1.0]}))


def test_differences_are_rows_too():
    gap = Difference(
        AUC, Estimate("auc", 0.8, of="mel"), Estimate("auc difference", 0.1127, 0.01, 0.2, of="mel"), 0.05, 2.2, 0.03
    )
    (row,) = differences_frame([gap], [0.06]).to_dict("records")
    assert (row["metric"], row["of"], row["first"], row["second"]) == ("auc", "mel", 0.9127, 0.8)
    assert (row["difference"], row["low"], row["high"], row["p"], row["p holm"]) == (0.1127, 0.01, 0.2, 0.03, 0.06)
    assert float(gap) == 0.1127
