"""Two segmenters: differences are those of their evaluations, in the same resamples; what must agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from drawn_outlines import disks, written

from overread.core.errors import InputError, UnsoundError
from overread.evaluation.instances.compare_outlines import OutlineComparison, compare_outlines
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.ledger import verify


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same 24 images, outlined well, and less well."""
    rng = np.random.default_rng(5)
    good = [disks(rng, int(rng.integers(1, 9)), wobble=0.5) for _ in range(24)]
    poor = [(truth, np.roll(drawn, 2, axis=1) * (rng.random() > 0.2)) for truth, drawn in good]
    folder = tmp_path_factory.mktemp("pair")
    source = ["A", "B"] * 12
    return written(folder, good, "good", source=source), written(folder, poor, "poor", source=source)


@pytest.fixture(scope="module")
def found(pair):
    return compare_outlines(*pair, resamples=400, names=("good", "poor"))


def test_both_sides_are_their_evaluations(pair, found):
    alone = [evaluate_outlines(table, resamples=400) for table in pair]
    for name in (
        "ap@0.5",
        "ap",
        "ap per image",
        "pq",
        "dice",
        "merges",
        "size bias",
        "boundary distance",
        "count error",
    ):
        d = found[name]
        assert [d.first.value, d.second.value] == [e[name].value for e in alone], name
        assert d.difference.value == pytest.approx(alone[0][name].value - alone[1][name].value), name
    a = next(d for d in found.where("source") if d.first.metric == "pq" and d.first.where == {"source": "A"})
    assert a.first.value == next(
        e.value for e in alone[0].where("source") if e.metric == "pq" and e.where == {"source": "A"}
    )


def test_the_interval_is_that_of_paired_resamples(pair, found):
    """By hand: patients drawn again, both numbers computed of the images drawn, the spread of their difference."""
    rng = np.random.default_rng(0)
    rows = [evaluate_outlines(table, resamples=10).images for table in pair]
    hits, every = (np.column_stack([t[c] for t in rows]) for c in ("hits", "true"))
    every = every + np.column_stack([t["predicted"] for t in rows]) - hits
    spread = []
    for _ in range(4000):
        drawn = rng.integers(0, 24, 24)
        spread.append(np.subtract(*(hits[drawn].sum(0) / every[drawn].sum(0))))
    d = found["ap@0.5"].difference
    from scipy.stats import t

    assert (d.high - d.low) / 2 == pytest.approx(t.ppf(0.975, 23) * np.std(spread), rel=0.12)
    assert found["ap@0.5"].p < 0.01


def test_to_swap_the_two_turns_the_sign(pair, found):
    other = compare_outlines(*pair[::-1], resamples=400)
    for name in ("ap", "boundary distance", "recall@0.5"):
        a, b = found[name].difference, other[name].difference
        assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), rel=0.05)


def test_the_same_outlines_differ_by_nothing(pair):
    same = compare_outlines(pair[0], pair[0], resamples=50)
    assert {d.difference.value for d in same.differences if not d.difference.undefined} == {0.0}
    assert "both tables hold the same outlines" in same.cautions


def test_the_order_of_rows_is_of_no_matter_and_what_one_has_alone_is_told(pair, found):
    shuffled = pair[1].only(np.random.default_rng(1).permutation(24))
    assert compare_outlines(pair[0], shuffled, resamples=400)["ap"].difference.value == found["ap"].difference.value
    part = compare_outlines(pair[0].only(np.arange(20)), pair[1].only(np.arange(1, 24)), resamples=50, names=("a", "b"))
    assert (part.counts["images"], part.counts["only in first"], part.counts["only in second"]) == (19, 1, 4)
    assert "4 images stand in b only and are left out" in part.cautions


def test_what_does_not_fit_is_refused(pair, tmp_path):
    moved = [(np.roll(pair[0].truth(i).labels, 1), pair[0].labels(i).labels) for i in range(3)]
    with pytest.raises(InputError, match=r"disagree about the truth.*3 of 3 shared images"):
        compare_outlines(pair[0].only(np.arange(3)), written(tmp_path / "a", moved))
    same = [(pair[0].truth(i).labels, pair[0].labels(i).labels) for i in range(3)]
    with pytest.raises(InputError, match="share no image"):
        compare_outlines(pair[0], written(tmp_path / "b", same, case=["x", "y", "z"]))
    with pytest.raises(UnsoundError, match="disagree about who the patients are"):
        compare_outlines(pair[0], written(tmp_path / "c", same, patient=["x", "y", "y"]))
    nameless = written(tmp_path / "d", same, patient=["c0", "c1", "c2"])
    assert "the second table names no patients" in compare_outlines(pair[0], nameless, resamples=20).cautions[0]


def test_classes_that_one_table_has_alone_are_not_compared(pair):
    rows = pd.DataFrame([{"case": "c1", "side": side, "object": 1, "class": "red"} for side in ("truth", "predicted")])
    classed = [type(table)(table.table, table.folder, rows) for table in pair]
    assert {d.first.of for d in compare_outlines(*classed, resamples=20).differences} == {"", "red"}
    found = compare_outlines(classed[0], pair[1], resamples=20)
    assert {d.first.of for d in found.differences} == {""}
    assert "disagree about the classes" in "; ".join(found.cautions)


def test_a_look_is_written_down_once_in_each_ledger_and_the_endpoint_is_alone(pair, tmp_path):
    ledgers = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    first = compare_outlines(*pair, resamples=50, ledger=ledgers, primary="ap@0.5")
    again = compare_outlines(*pair, resamples=50, ledger=ledgers)
    assert (first.looks, again.looks) == (0, 1)
    assert [len(verify(path)) for path in ledgers] == [2, 2]
    row = [d.first.metric for d in first.differences].index("ap@0.5")
    assert first.adjusted[row] == pytest.approx(first.differences[row].p)
    assert again.adjusted[row] > again.differences[row].p


def test_saved_and_loaded_is_equal(found, tmp_path):
    back = OutlineComparison.load(found.save(tmp_path))
    assert back == found
    assert str(back) == str(found)
    assert back.curves[""]["difference"][0] == found["ap@0.5"].difference.value
