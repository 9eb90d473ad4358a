"""Train on each, test on each: fields and gaps are those of evaluations of their rows."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_outlines import disks, written

from overread.core.errors import InputError
from overread.evaluation.generalisation.site_transfer import Shift
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.outline_matrix import outline_matrix
from overread.evaluation.ledger import verify


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Twelve images of each of two microscopes; a segmenter misses more at the other."""
    folder = tmp_path_factory.mktemp("matrix")
    rng = np.random.default_rng(2)
    source = ["A"] * 12 + ["B"] * 12
    truth = [disks(rng, 6)[0] for _ in source]
    found = {}
    for home in ("A", "B"):
        drawn = [np.where(rng.random(20)[t] < (0.9 if s == home else 0.5), t, 0) for t, s in zip(truth, source)]
        found[home] = written(folder, list(zip(truth, drawn)), home, source=source)
    return found


def test_fields_and_gaps_are_those_of_their_rows(results, tmp_path):
    found = outline_matrix(results, metric="ap", resamples=200, part="test")
    for name, table in results.items():
        rows = (table.table["source"] == "B").to_numpy()
        alone = {s: evaluate_outlines(table.only(r), resamples=200)["ap"] for s, r in (("B", rows), ("A", ~rows))}
        for s in ("A", "B"):
            e = found.cell(name, s)
            assert (e.value, e.low, e.high) == pytest.approx((alone[s].value, alone[s].low, alone[s].high))
        gap = next(g for g in found.gaps if g.trained_on == name)
        other = "B" if name == "A" else "A"
        assert gap.gap.value == pytest.approx(alone[name].value - alone[other].value)
        assert gap.gap.low < gap.gap.value < gap.gap.high
    assert "Worse elsewhere than at home, by more than chance: trained on A, B." in str(found)
    assert Shift.load(found.save(tmp_path)) == found


def test_a_set_of_several_sources_and_the_ledger(results, tmp_path):
    ledger = tmp_path / "l.jsonl"
    trained = {"both": ("A", "B"), "A": ("A",)}
    found = outline_matrix({"both": results["A"], "A": results["A"]}, trained=trained, resamples=50, ledger=ledger)
    assert "external: fewer than 10 patients" in found.gaps[0].gap.undefined
    assert len(verify(ledger)) == 2
    assert outline_matrix(results, resamples=20, ledger=ledger).looks == 2


def test_what_cannot_be_compared(results, tmp_path):
    with pytest.raises(InputError, match=r"no metric 'ap@0\.6' of outlines"):
        outline_matrix(results, metric="ap@0.6")
    with pytest.raises(InputError, match="no class 'red'"):
        outline_matrix(results, of="red")
    with pytest.raises(InputError, match="every image says its source"):
        outline_matrix({"A": type(results["A"])(results["A"].table.assign(source=""), results["A"].folder)})
    with pytest.raises(InputError, match="no outlines to compare sites by"):
        outline_matrix({})
