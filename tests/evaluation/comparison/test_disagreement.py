"""Cases in dispute go to a reader: counted again by hand, case by case."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.annotators import Grades, read_grades
from overread.core.errors import InputError
from overread.evaluation.comparison.disagreement import READER, ROUTED, Disagreement, disagreement
from overread.evaluation.comparison.grid_result import Called
from overread.predictions import Predictions

N = 120
RNG = np.random.default_rng(3)
ILL = RNG.random(N) < 0.5
CASES = [f"c{i}" for i in range(N)]


def system(errors: float, seed: int) -> tuple[Predictions, Called]:
    calls = ILL ^ (np.random.default_rng(seed).random(N) < errors)
    frame = pd.DataFrame({"case": CASES, "label": np.where(ILL, "ill", "well"), "p:ill": calls * 0.8 + 0.1})
    return Predictions.from_frame(frame, ("ill",)), Called(("ill",), dict(zip(CASES, calls.tolist(), strict=True)), "")


SYSTEMS = {"one": system(0.15, 1), "other": system(0.2, 2)}
TABLES, CALLED = ({name: pair[k] for name, pair in SYSTEMS.items()} for k in (0, 1))
FIRST, SECOND = (np.array([c.flagged[case] for case in CASES]) for c in CALLED.values())


def grades(tmp_path, readers: int = 2, skip: int = 0) -> tuple[Grades, np.ndarray]:
    said = np.stack([ILL ^ (np.random.default_rng(9 + r).random(N) < 0.1) for r in range(readers)], 1)
    rows = [(case, f"r{r}", int(said[i, r])) for r in range(readers) for i, case in enumerate(CASES) if not (r == 1 and i < skip)]  # fmt: skip
    pd.DataFrame(rows, columns=["case", "reader", "label"]).to_csv(tmp_path / "readers.csv", index=False)
    return read_grades(tmp_path / "readers.csv"), said


def test_the_combined_rates_are_those_of_a_loop(tmp_path):
    readers, said = grades(tmp_path)
    found = disagreement(TABLES, CALLED, readers, resamples=200)
    hits, positives, right, negatives, reads = 0, 0, 0, 0, 0
    for reader in range(2):
        for i in range(N):
            disputed = FIRST[i] != SECOND[i]
            call = said[i, reader] if disputed else FIRST[i]
            reads += disputed
            hits, positives = hits + (call and ILL[i]), positives + ILL[i]
            right, negatives = right + (not call and not ILL[i]), negatives + (not ILL[i])
    assert found.value(ROUTED, "sensitivity").value == pytest.approx(hits / positives)
    assert found.value(ROUTED, "specificity").value == pytest.approx(right / negatives)
    assert found.value(ROUTED, "reads per case").value == pytest.approx(reads / (2 * N))
    assert found.value(READER, "sensitivity").value == pytest.approx(said[ILL].mean())
    assert found.value("one", "specificity").value == pytest.approx((~FIRST)[~ILL].mean())
    gap = found.difference("one", "sensitivity")
    assert gap.value == pytest.approx(hits / positives - FIRST[ILL].mean())
    assert gap.low < gap.value < gap.high


def test_who_is_never_wrong_is_an_upper_bound_and_that_is_said():
    found = disagreement(TABLES, CALLED, resamples=200)
    both_wrong = (FIRST == SECOND) & (FIRST != ILL)
    assert found.value(ROUTED, "sensitivity").value == pytest.approx(1 - both_wrong[ILL].mean())
    assert found.value(ROUTED, "sensitivity").value > max(found.value(n, "sensitivity").value for n in TABLES)
    assert found.perfect
    assert "upper bound" in " ".join(found.cautions)
    assert READER not in found.ways


def test_disputed_cases_that_nobody_read_are_counted(tmp_path):
    readers, _ = grades(tmp_path, skip=40)
    found = disagreement(TABLES, CALLED, readers, resamples=200)
    assert found.counts["disputed and not read"] == int((FIRST != SECOND)[:40].sum())
    assert "left out" in " ".join(found.cautions)


def test_readers_of_other_cases_are_refused_and_the_result_comes_back(tmp_path):
    pd.DataFrame({"case": ["x"], "reader": ["r"], "label": [1]}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match="no reader has read"):
        disagreement(TABLES, CALLED, read_grades(tmp_path / "x.csv"))
    found = disagreement(TABLES, CALLED, resamples=200)
    found.save(tmp_path)
    assert Disagreement.load(tmp_path).table() == found.table()
