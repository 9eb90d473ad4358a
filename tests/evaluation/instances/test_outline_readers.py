"""Readers who outline: consensus against SimpleITK and by hand, agreement and the model beside them against evaluations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from drawn_outlines import disks, written
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.outline_consensus import consensus_outlines, foreground_consensus
from overread.evaluation.instances.outline_readers import (
    METRICS,
    OutlineReading,
    read_readings,
    study_outlines,
    write_consensus,
)
from overread.evaluation.instances.predicted_outlines import read_labels
from overread.evaluation.ledger import verify
from overread.images.outlines.outlines import write_labels


def drawn_by(rng, truth, wobble, missed):
    """What a reader makes of a truth: objects moved by a pixel or so, some left out."""
    found = np.zeros_like(truth)
    for k in np.unique(truth)[1:]:
        if rng.random() >= missed:
            step = rng.integers(-wobble, wobble + 1, 2)
            found[np.roll(truth == k, step, (0, 1))] = k
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The table of three readers of 16 images (one of them has read twelve), and a model's of the same with their truth."""
    rng, folder = np.random.default_rng(4), tmp_path_factory.mktemp("readers")
    truths = [disks(rng, int(rng.integers(2, 8)))[0] for _ in range(16)]
    rows = []
    for reader, wobble, missed, many in (("anna", 1, 0.0, 16), ("ben", 1, 0.1, 16), ("eva", 2, 0.2, 12)):
        for number, truth in enumerate(truths[:many]):
            write_labels(folder / reader / f"{number}.png", drawn_by(rng, truth, wobble, missed))
            rows.append({"case": f"c{number}", "reader": reader, "predicted": f"{reader}/{number}.png"})
    pd.DataFrame(rows).to_csv(folder / "readers.csv", index=False)
    model = written(folder / "model", [(truth, drawn_by(rng, truth, 1, 0.05)) for truth in truths])
    return folder / "readers.csv", model


# -- the consensus ----------------------------------------------------------------------------------------------------


def test_the_foreground_is_that_of_simpleitk():
    rng = np.random.default_rng(0)
    truth = disks(rng, 5)[0]
    marks = [drawn_by(rng, truth, 2, 0.1) for _ in range(3)]
    found = foreground_consensus(marks)
    known = sitk.STAPLE([sitk.GetImageFromArray((m > 0).astype(np.uint8)) for m in marks], 1.0)
    assert found.mask.tolist() == (sitk.GetArrayFromImage(known) >= 0.5).tolist()
    assert all(0.5 < share <= 1 for share in (*found.sensitivity, *found.specificity))


def test_objects_are_those_of_more_than_half_of_the_readers():
    square = np.zeros((20, 40), int)
    square[4:12, 4:12] = 1
    other = square.copy()
    other[4:12, 20:28] = 2
    assert len(consensus_outlines([other, square, other])) == 2
    one = consensus_outlines([other, square, square])
    assert len(one) == 1
    assert one.notes == ("1 object that half of the readers or fewer drew is left out",)
    assert len(consensus_outlines([other, square])) == 1, "of two readers both"
    assert (consensus_outlines([other]).labels == other).all(), "of one what he drew"
    assert len(consensus_outlines([0 * square] * 3)) == 0


def test_touching_objects_stay_apart():
    """The foreground alone would be one object."""
    truth = np.zeros((16, 30), int)
    truth[3:13, 3:14], truth[3:13, 14:26] = 1, 2
    found = consensus_outlines([truth, np.roll(truth, 1, axis=1), np.roll(truth, -1, axis=0)])
    assert len(found) == 2
    assert found.areas.tolist() == pytest.approx([110, 120], abs=12)


@pytest.mark.parametrize("shape", ["staple", "average"])
def test_a_shape_lies_between_those_that_were_drawn(shape):
    y, x = np.mgrid[:40, :40]
    disk = lambda r: ((y - 20) ** 2 + (x - 20) ** 2 < r * r).astype(int)
    found = consensus_outlines([disk(8), disk(10), disk(12)], shape=shape).labels > 0
    assert (found >= disk(8)).all()
    assert (found <= disk(12)).all()
    assert abs(int(found.sum()) - disk(10).sum()) < 30


def test_two_readers_are_averaged_and_neither_is_favoured():
    y, x = np.mgrid[:40, :40]
    small, large = (((y - 20) ** 2 + (x - 20) ** 2 < r * r).astype(int) for r in (9, 11))
    found = int((consensus_outlines([small, large]).labels > 0).sum())
    assert small.sum() < found < large.sum()
    assert found == (consensus_outlines([large, small]).labels > 0).sum()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(3)))
def test_the_order_of_readers_and_the_numbers_of_objects_change_nothing(seed, order):
    rng = np.random.default_rng(seed)
    truth = disks(rng, 4, shape=(40, 40))[0]
    marks = [drawn_by(rng, truth, 1, 0.1) for _ in range(3)]
    one, other = consensus_outlines(marks), consensus_outlines([marks[i] * 7 for i in order])
    assert len(one) == len(other)
    assert ((one.labels > 0) == (other.labels > 0)).mean() > 0.99  # a pixel of two objects may go to either


def test_same_outlines_are_their_own_consensus():
    truth = disks(np.random.default_rng(1), 6)[0]
    found = consensus_outlines([truth] * 3).labels
    assert ((found > 0) == (truth > 0)).all()
    with pytest.raises(ArgumentError, match="one size"):
        consensus_outlines([truth, truth[1:]])
    with pytest.raises(ArgumentError):
        foreground_consensus([truth])


# -- the study --------------------------------------------------------------------------------------------------------


def test_agreement_is_that_of_an_evaluation_of_one_by_the_other(study, tmp_path):
    readings = read_readings(study[0])
    found = study_outlines(readings, resamples=100)
    tables = {}
    for a, b in itertools.combinations(("anna", "ben", "eva"), 2):
        both = range(12 if "eva" in (a, b) else 16)
        pairs = [(readings[a].labels(i).labels, readings[b].labels(i).labels) for i in both]
        tables[a, b] = evaluate_outlines(written(tmp_path / f"{a}{b}", pairs), resamples=100)
        for name in ("ap@0.5", "f1@0.5", "dice", "boundary distance"):
            e = next(e for e in found.estimates if e.metric == name and e.where.get("pair") == f"{a} and {b}")
            assert e.value == pytest.approx(tables[a, b][name].value), (a, b, name)
            assert e.low <= e.value <= e.high
    rows = pd.concat([t.images for t in tables.values()])
    hits, every = rows["hits"].sum(), rows["true"].sum() + rows["predicted"].sum()
    assert found["f1@0.5"].value == pytest.approx(2 * hits / every), "of all pairs together"
    assert found.matrix.value[0][1] == found.matrix.value[1][0] == tables["anna", "ben"]["ap@0.5"].value


def test_each_is_judged_against_the_consensus_of_the_others(study, tmp_path):
    readings, model = read_readings(study[0]), study[1]
    found = study_outlines(readings, model, reference="consensus", resamples=100)
    values = []
    for who in readings:
        rows = range(len(readings[who]))
        references = [consensus_outlines([readings[o].labels(i).labels for o in readings if o != who and i < len(readings[o])]).labels
                      for i in rows]  # fmt: skip
        own = evaluate_outlines(
            written(tmp_path / who, [(t, readings[who].labels(i).labels) for i, t in enumerate(references)]),
            resamples=50,
        )
        beside = evaluate_outlines(
            written(tmp_path / f"{who}-m", [(t, model.labels(i).labels) for i, t in enumerate(references)]),
            resamples=50,
        )
        values.append(beside["ap@0.5"].value)
        for name in METRICS:
            assert found[name, who].value == pytest.approx(own[name].value), (who, name)
        gap = found.contrast("ap@0.5", who).gap.difference
        assert gap.value == pytest.approx(beside["ap@0.5"].value - own["ap@0.5"].value)
    assert found["ap@0.5", "model"].value == pytest.approx(np.mean(values))
    mean = found["ap@0.5", "mean of readers"].value
    assert found.contrast().gap.difference.value == pytest.approx(found["ap@0.5", "model"].value - mean)
    assert found.within() in ("within", "above", "below")
    assert found.spread["ap@0.5"] == (
        min(found["ap@0.5", w].value for w in readings),
        max(found["ap@0.5", w].value for w in readings),
    )


def test_a_model_that_is_a_reader_differs_from_him_by_nothing(study):
    readings = read_readings(study[0])
    found = study_outlines(readings, readings["anna"], reference="consensus", resamples=100)
    for name in METRICS:
        assert found.contrast(name, "anna").gap.difference.value == 0, name


def test_all_are_judged_against_a_known_truth(study, tmp_path):
    readings, model = read_readings(study[0]), study[1]
    found = study_outlines(readings, model, resamples=50)
    assert found.about["reference"] == "the truth of the predictions"
    known = evaluate_outlines(
        written(tmp_path, [(model.truth(i).labels, readings["ben"].labels(i).labels) for i in range(16)]), resamples=50
    )
    assert found["pq", "ben"].value == pytest.approx(known["pq"].value)
    alone = study_outlines({"ben": readings["ben"]}, model, resamples=50)
    assert alone["pq", "ben"].value == found["pq", "ben"].value


@pytest.mark.parametrize("classes", [(), ("red",)])
def test_readers_and_an_evaluation_look_at_one_test_set(study, tmp_path, classes):
    """The truth is the same, whoever is judged against it; a consensus is another."""
    readings, ledger = read_readings(study[0]), tmp_path / "l.jsonl"
    rows = [{"case": "c0", "side": "truth", "object": 1, "class": name} for name in classes]
    model = replace(study[1], objects=pd.DataFrame(rows)) if rows else study[1]
    assert study_outlines(readings, model, resamples=20, ledger=ledger).looks == 0
    assert evaluate_outlines(model, resamples=20, ledger=ledger).looks == 1
    few = {name: held.only(np.arange(11)) for name, held in readings.items()}
    assert study_outlines(few, model, resamples=20, ledger=ledger).looks == 2
    assert study_outlines(readings, model, reference="consensus", resamples=20, ledger=ledger).looks == 0
    assert len({line["test"] for line in verify(ledger)[:2]}) == 1


def test_what_is_counted_told_and_written_down(study, tmp_path):
    readings, model = read_readings(study[0]), study[1]
    ledger = tmp_path / "l.jsonl"
    found = study_outlines(readings, model.only(np.arange(14)), reference="consensus", resamples=20, ledger=ledger)
    assert found.counts["images"] == 14
    assert "2 images read, but not predicted, and left out" in found.cautions
    assert (
        study_outlines(readings, model.only(np.arange(14)), resamples=20, ledger=ledger, reference="consensus").looks
        == 1
    )
    assert len(verify(ledger)) == 2
    few = {**readings, "eva": readings["eva"].only(np.arange(5))}
    assert study_outlines(few, resamples=20).readers == ("anna", "ben")
    back = OutlineReading.load(found.save(tmp_path / "out"))
    assert back == found
    assert str(back) == str(found)


def test_the_consensus_is_written_as_masks(study, tmp_path):
    readings = read_readings(study[0])
    table = pd.read_csv(write_consensus(readings, tmp_path))
    assert table["readers"].tolist() == [3] * 12 + [2] * 4
    for row in (0, 14):
        known = consensus_outlines([r.labels(row).labels for r in readings.values() if row < len(r)])
        assert (read_labels(tmp_path / table["mask"][row]).labels == known.labels).all()


def test_child_processes_count_the_same_and_what_differs_in_size_is_refused(study, tmp_path):
    readings, model = read_readings(study[0]), study[1]
    one = study_outlines(readings, model, resamples=20)
    assert study_outlines(readings, model, resamples=20, workers=2) == one
    cut = [(t, t[:-1]) for t in (model.truth(i).labels for i in range(12))]
    with pytest.raises(InputError, match=r"image 1 of those read.*differ in size"):
        study_outlines({**readings, "zed": written(tmp_path, cut)})


def test_what_cannot_be_studied(study, tmp_path):
    readings, model = read_readings(study[0]), study[1]
    with pytest.raises(ArgumentError, match="no other readers"):
        study_outlines({"anna": readings["anna"]})
    with pytest.raises(InputError, match="no known truth|has a known truth"):
        study_outlines(readings, reference="truth")
    with pytest.raises(UnsoundError, match="used to train"):
        study_outlines(readings, type(model)(model.table.assign(split="train"), model.folder))
    pd.DataFrame({"case": ["1"], "reader": [""], "predicted": ["x.png"]}).to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(InputError, match="names no reader"):
        read_readings(tmp_path / "r.csv")
    pd.DataFrame({"case": ["1"], "predicted": ["x.png"]}).to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(InputError, match="lacks the column 'reader'"):
        read_readings(tmp_path / "r.csv")
