"""Two readers' marks on the same lesions: which differ, which are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.evaluation.comparison.compare import Comparison
from overread.evaluation.comparison.compare_marks import MarkComparison, compare_marks
from overread.evaluation.detection import Marks, judge_marks


def marks(score, hit, *, image=None, patients=None, reader="", digest="d") -> Marks:
    hit = np.asarray(hit)
    image = np.where(hit >= 0, hit, np.arange(len(hit)) % 30) if image is None else image
    table = pd.DataFrame({"reader": reader, "image": image, "score": score, "hit": hit})
    return Marks(30, np.arange(20), np.arange(30) if patients is None else patients, table, "named", digest)


def both(shift: float = 0.8) -> tuple[Marks, Marks]:
    rng = np.random.default_rng(0)
    hit, easy = np.r_[np.arange(20), np.full(40, -1)], rng.normal(size=20)
    return tuple(marks(np.r_[2 - d + easy + 0.3 * rng.normal(size=20), rng.normal(size=40)], hit) for d in (0.0, shift))


def test_differences_are_those_of_each_alone() -> None:
    first, second = both()
    found = compare_marks(first, second, names=("model", "reader"), primary="mean sensitivity")
    alone = [judge_marks(side) for side in (first, second)]
    for metric in ("mean sensitivity", "sensitivity at 1 false positives per image"):
        d = found[metric]
        assert (d.first.value, d.second.value) == tuple(a[metric].value for a in alone)
        assert d.difference.value == d.first.value - d.second.value
        assert (d.p < 0.05) == (d.difference.low > 0 or d.difference.high < 0)
    assert found["mean sensitivity"].difference.value > 0
    assert len(found.differences) == 7
    assert str(found.endpoint) == "mean sensitivity"
    turned = compare_marks(second, first)
    assert turned["mean sensitivity"].difference.value == -found["mean sensitivity"].difference.value


def test_it_is_saved_as_a_comparison(tmp_path) -> None:
    found = compare_marks(*both())
    assert MarkComparison.load(found.save(tmp_path)) == found
    assert isinstance(found, Comparison)
    assert "mean sensitivity" in found.table()


def test_what_cannot_be_compared_is_refused() -> None:
    first, _ = both()
    for other, why in (
        (marks([0.5], [0], digest="e"), "same images and lesions"),
        (marks([0.5, 0.6], [0, 1], reader=["a", "b"]), "several readers"),
    ):
        with pytest.raises(InputError, match=why):
            compare_marks(first, other)
    halves, thirds = np.arange(30) // 2, np.arange(30) // 3
    with pytest.raises(InputError, match="whose images"):
        compare_marks(marks([0.5], [0], patients=halves), marks([0.5], [0], patients=thirds))
    assert compare_marks(first, marks([0.5], [0], patients=halves)).counts["patients"] == 15
    assert "both tables hold the same marks" in compare_marks(first, first).cautions
