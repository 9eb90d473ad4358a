"""Every metric against a slow restatement, SimpleITK and torchmetrics; classes, groups, empty images, the ledger."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from drawn_outlines import written
from scipy.ndimage import binary_erosion, distance_transform_edt
from torchmetrics.functional.detection import panoptic_quality

from overread.core.errors import InputError, UnsoundError
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation, evaluate_outlines
from overread.evaluation.instances.instance_match import match_centres
from overread.evaluation.instances.outline_counts import AT, FIELDS, counted_outlines
from overread.evaluation.instances.outline_statistics import judge_centres, outline_statistic
from overread.evaluation.ledger import verify
from overread.evaluation.metrics import metric_named, shown
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.resample import bootstrapped


@pytest.fixture(scope="module")
def judged(images, tmp_path_factory):
    table = written(tmp_path_factory.mktemp("outlines"), images, pixel_size=0.5)
    return table, evaluate_outlines(table, resamples=200)


def objects_of(labels):
    return [labels == k for k in np.unique(labels) if k]


def restated(images):
    """Every pooled number, object by object."""
    hits, sums, errors, own = np.zeros(10), dict.fromkeys(("t", "p", "iou", "both", "tp", "pp", "m", "s"), 0.0), [], []
    sizes, near, far = [], [], []
    for truth, drawn in images:
        t, p = objects_of(truth), objects_of(drawn)
        iou = np.array([[(a & b).sum() / (a | b).sum() for b in p] for a in t]).reshape(len(t), len(p))
        here = np.array([(iou > k / 20 + 1e-12).sum() for k in range(10, 20)])
        hits += here
        sums["t"], sums["p"] = sums["t"] + len(t), sums["p"] + len(p)
        if len(t) + len(p):
            own.append(np.mean(here / (len(t) + len(p) - here)))
        sums["both"] += ((truth > 0) & (drawn > 0)).sum()
        sums["tp"], sums["pp"] = sums["tp"] + (truth > 0).sum(), sums["pp"] + (drawn > 0).sum()
        sums["m"] += sum(max(0, sum((a & b).sum() > a.sum() / 2 for a in t) - 1) for b in p)
        sums["s"] += sum(max(0, sum((a & b).sum() > b.sum() / 2 for b in p) - 1) for a in t)
        errors.append(len(p) - len(t))
        for i, j in np.argwhere(iou > 0.5 + 1e-12):
            sums["iou"] += iou[i, j]
            sizes.append(math.log(p[j].sum() / t[i].sum()))
            edges = [mask & ~binary_erosion(mask) for mask in (t[i], p[j])]
            apart = [distance_transform_edt(~other)[one] for one, other in (edges, edges[::-1])]
            near.append(np.concatenate(apart).mean())
            far.append(max(np.quantile(d, 0.95) for d in apart))
    hit, every = hits[0], sums["t"] + sums["p"]
    spread = 1.96 * np.std(errors, ddof=1) if len(errors) > 1 else math.nan
    return {
        "ap@0.5": hit / (every - hit), "ap": np.mean(hits / (every - hits)), "ap per image": np.mean(own),
        "f1@0.5": 2 * hit / every, "precision@0.5": hit / sums["p"], "recall@0.5": hit / sums["t"],
        "pq": sums["iou"] / (every / 2), "sq": sums["iou"] / hit, "dice": 2 * sums["both"] / (sums["tp"] + sums["pp"]),
        "jaccard": sums["both"] / (sums["tp"] + sums["pp"] - sums["both"]),
        "merges": 100 * sums["m"] / sums["t"], "splits": 100 * sums["s"] / sums["t"], "count error": np.mean(errors),
        "count error, lower limit": np.mean(errors) - spread, "count error, upper limit": np.mean(errors) + spread,
        "size bias": math.exp(np.mean(sizes)), "boundary distance": np.mean(near), "boundary distance 95 %": np.mean(far),
        "boundary distance µm": np.mean(near) / 2, "boundary distance 95 % µm": np.mean(far) / 2,
    }  # fmt: skip


def test_every_metric_is_that_of_its_definition(images, judged):
    _, found = judged
    known = restated(images)
    for name, value in known.items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name
    told = {e.metric for e in found.estimates}
    assert told - {*known, "left empty"} == set()
    assert told <= {m.name for m in shown("outlines")}, "each has its record in the table of metrics"
    assert all(metric_named(name).definition for name in told)
    assert {*known, "left empty", "class agreement", "centre precision", "centre recall", "centre f1"} == {
        m.name for m in shown("outlines")
    }


def test_dice_and_jaccard_are_those_of_simpleitk(images, judged):
    """Of all images as one, since the pooled numbers are."""
    whole = [
        sitk.GetImageFromArray(np.concatenate([pair[side] > 0 for pair in images]).astype(np.uint8)) for side in (0, 1)
    ]
    both = sitk.LabelOverlapMeasuresImageFilter()
    both.Execute(*whole)
    assert judged[1]["dice"].value == pytest.approx(both.GetDiceCoefficient(), abs=1e-12)
    assert judged[1]["jaccard"].value == pytest.approx(both.GetJaccardCoefficient(), abs=1e-12)


def test_panoptic_quality_is_that_of_torchmetrics(images, judged):
    """Objects are things of category 1, the background is stuff of category 0."""
    sides = [torch.tensor(np.stack([np.stack((pair[side] > 0, pair[side]), axis=-1) for pair in images]).astype(np.int64))
             for side in (0, 1)]  # fmt: skip
    known = panoptic_quality(sides[1], sides[0], things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    pq, sq, rq = known.numpy().reshape(2, 3)[0]
    assert judged[1]["pq"].value == pytest.approx(float(pq), abs=1e-6)
    assert judged[1]["sq"].value == pytest.approx(float(sq), abs=1e-6)
    assert judged[1]["f1@0.5"].value == pytest.approx(float(rq), abs=1e-6)


def test_a_row_an_image_adds_up_to_the_whole(images, judged):
    _, found = judged
    table = found.images
    assert len(table) == len(images)
    hit, every = table["hits"].sum(), table["true"].sum() + table["predicted"].sum()
    assert hit / (every - hit) == pytest.approx(found["ap@0.5"].value)
    assert table["ap"].mean() == pytest.approx(found["ap per image"].value)
    assert table["count error"].mean() == pytest.approx(found["count error"].value)
    assert (table["missed"].sum(), table["false"].sum()) == (found.counts.missed, found.counts.false)
    alone = restated([images[5]])
    for name in ("ap", "f1@0.5", "pq", "dice", "size bias", "boundary distance 95 %"):
        assert table[name][5] == pytest.approx(alone[name]), name


def test_the_curve_falls_from_ap_at_one_half(judged):
    curve = judged[1].curves[""]
    assert curve.ap[0] == judged[1]["ap@0.5"].value
    assert np.mean(curve.ap) == pytest.approx(judged[1]["ap"].value)
    assert list(curve.ap) == sorted(curve.ap, reverse=True)
    assert all(low <= value <= high for low, value, high in zip(curve.low, curve.ap, curve.high))


# -- empty images -----------------------------------------------------------------------------------------------------


def test_empty_images_add_nothing_to_pooled_numbers(tmp_path, images):
    whole = [pair for pair in images if pair[0].any() and pair[1].any()][:6]
    empty = np.zeros((64, 80), int)
    plain = evaluate_outlines(written(tmp_path / "a", whole), resamples=50)
    more = evaluate_outlines(written(tmp_path / "b", [*whole, (empty, empty)]), resamples=50)
    for name in ("ap@0.5", "ap", "ap per image", "f1@0.5", "pq", "dice", "merges"):
        assert more[name].value == plain[name].value, name
    assert more["left empty"].value == 1
    assert math.isnan(more.images["ap"].iloc[-1])
    assert "1 image without a true object" in "; ".join(more.cautions)


def test_what_is_drawn_in_an_empty_image_is_false(tmp_path, images):
    whole = [pair for pair in images if pair[0].any() and pair[1].any()][:6]
    one = np.zeros((64, 80), int)
    one[3:9, 3:9] = 1
    plain = evaluate_outlines(written(tmp_path / "a", whole), resamples=50)
    more = evaluate_outlines(written(tmp_path / "b", [*whole, (0 * one, one)]), resamples=50)
    assert more["recall@0.5"].value == plain["recall@0.5"].value
    assert more["precision@0.5"].value < plain["precision@0.5"].value
    assert more["left empty"].value == 0
    assert more.images["ap"].iloc[-1] == 0


def test_nothing_anywhere_is_undefined_and_says_why(tmp_path):
    empty = np.zeros((8, 8), int)
    found = evaluate_outlines(written(tmp_path, [(empty, empty)] * 12), resamples=50)
    for name, reason in (
        ("ap@0.5", "no object, true or predicted"),
        ("recall@0.5", "no true object"),
        ("size bias", "no hit"),
    ):
        assert math.isnan(found[name].value)
        assert found[name].undefined == reason
    assert found["count error"].value == 0
    assert found["left empty"].value == 1


def test_perfect_outlines_have_bounds(tmp_path, images):
    found = evaluate_outlines(written(tmp_path, [(truth, truth) for truth, _ in images]), resamples=50)
    assert found["ap"].value == 1
    assert 0.7 < found["ap"].low < 1
    assert found["merges"].value == 0
    assert 0 < found["merges"].high < 10
    assert found["boundary distance"].value == 0
    assert found["size bias"].value == 1
    assert math.isnan(found["size bias"].low), "no resample differs: no interval rather than one without width"


# -- classes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classed(images, tmp_path_factory):
    """Objects of even numbers are red, of odd ones white; every fifth is called the other."""
    rows = []
    for number, pair in enumerate(images):
        for side, labels in zip(("truth", "predicted"), pair):
            for k in np.unique(labels)[1:]:
                red = (k % 2 == 0) != (side == "predicted" and k % 5 == 0)
                rows.append({"case": f"c{number}", "side": side, "object": k, "class": "red" if red else "white"})
    return written(tmp_path_factory.mktemp("classed"), images, objects=pd.DataFrame(rows))


def of_class(pair, name):
    """The pair with the objects of a class alone."""
    found = []
    for side, labels in enumerate(pair):
        kept = [k for k in np.unique(labels)[1:] if ((k % 2 == 0) != (side == 1 and k % 5 == 0)) == (name == "red")]
        found.append(np.where(np.isin(labels, kept), labels, 0))
    return tuple(found)


@pytest.mark.parametrize("name", ["red", "white"])
def test_the_numbers_of_a_class_are_those_of_its_objects_alone(classed, images, name):
    found = evaluate_outlines(classed, resamples=50)
    known = restated([of_class(pair, name) for pair in images])
    for metric in (
        "ap@0.5",
        "ap",
        "ap per image",
        "pq",
        "dice",
        "merges",
        "splits",
        "size bias",
        "boundary distance",
        "count error",
    ):
        assert found[metric, name].value == pytest.approx(known[metric], rel=1e-9), metric
    assert found.curves[name].ap[0] == found["ap@0.5", name].value


def test_the_confusion_holds_every_object(classed, images):
    found = evaluate_outlines(classed, resamples=50)
    table = np.array(found.confusion.counts)
    assert found.confusion.names == ("red", "white", "none")
    assert table[:2].sum() == found.counts.true
    assert table[:, :2].sum() == found.counts.predicted
    assert table[:2, :2].sum() == found.counts.hits
    assert np.trace(table[:2, :2]) / found.counts.hits == pytest.approx(found["class agreement"].value)


def test_objects_are_matched_by_their_centres_where_that_is_asked(classed, images):
    """As sums of :func:`match_centres` of the pixels' means, and as its own estimates."""
    found = evaluate_outlines(classed, resamples=2000, centre_distance=2.5)
    for name in ("", "red"):
        pairs = images if not name else [of_class(pair, name) for pair in images]
        means = [
            [np.array([np.argwhere(m).mean(axis=0) for m in objects_of(side)]).reshape(-1, 2) for side in pair]
            for pair in pairs
        ]
        known = judge_centres([match_centres(*both, 2.5) for both in means], resamples=2000)
        for e in known:
            assert found[e.metric, name].value == pytest.approx(e.value), (e.metric, name)
            assert found[e.metric, name].low == pytest.approx(e.low, abs=0.02)
    assert "centres at most 2.5 pixels apart" in found["centre f1"].method
    assert "centre f1" not in {e.metric for e in evaluate_outlines(classed, resamples=20).estimates}


def test_objects_without_a_class_are_told(tmp_path, images):
    rows = pd.DataFrame([{"case": "c1", "side": "truth", "object": 1, "class": "red"}])
    found = evaluate_outlines(written(tmp_path, images, objects=rows), resamples=50)
    assert found.counts.unclassed == found.counts.true + found.counts.predicted - 1
    assert "of no known class" in "; ".join(found.cautions)


# -- groups, patients, the ledger -------------------------------------------------------------------------------------


def test_subgroups_are_their_rows_alone_and_gaps_are_their_differences(images, tmp_path):
    source = ["A" if i % 2 else "B" for i in range(len(images))]
    table = written(tmp_path, images, source=source, stain=["h", "e", "x"] * 8)
    found = evaluate_outlines(table, by=("stain",), resamples=100)
    rows = np.array([s == "A" for s in source])
    alone = evaluate_outlines(table.only(rows), resamples=100)
    part = {e.metric: e for e in found.where("source") if e.where["source"] == "A"}
    for name in ("ap@0.5", "pq", "merges", "count error"):
        assert part[name].value == alone[name].value
        assert part[name].low == pytest.approx(alone[name].low, nan_ok=True)
    other = evaluate_outlines(table.only(~rows), resamples=100)
    gap = next(g for g in found.gaps if g.metric == "ap@0.5" and g.where == {"source": "A"})
    assert gap.reference == "B"
    assert gap.value == pytest.approx(alone["ap@0.5"].value - other["ap@0.5"].value)
    assert {e.undefined for e in found.where("stain") if e.metric == "ap"} == {"fewer than 10 patients"}
    assert set(found.curves) == {"", "source A", "source B"}


def test_images_of_one_patient_are_drawn_together(tmp_path, images):
    alone = evaluate_outlines(written(tmp_path, images * 2), resamples=400)
    paired = evaluate_outlines(written(tmp_path, images * 2, patient=[f"p{i % 24}" for i in range(48)]), resamples=400)
    assert paired["pq"].value == alone["pq"].value
    wide, narrow = (e.high - e.low for e in (paired["pq"], alone["pq"]))
    assert 1.2 < wide / narrow < 1.7  # twice the same: the root of two


def test_looks_are_counted_and_told(tmp_path, images):
    table, ledger = written(tmp_path / "a", images), tmp_path / "ledger.jsonl"
    assert evaluate_outlines(table, resamples=20, ledger=ledger).looks == 0
    again = evaluate_outlines(table, resamples=20, ledger=ledger)
    assert again.looks == 1
    assert "looked at once before" in again.cautions[0]
    moved = [(truth, np.roll(drawn, 1, axis=0)) for truth, drawn in images]
    assert evaluate_outlines(written(tmp_path / "b", moved), resamples=20, ledger=ledger).looks == 2, "another model"
    few = written(tmp_path / "c", images).only(np.arange(20))
    assert evaluate_outlines(few, resamples=20, ledger=ledger).looks == 3, "the same images, without four"
    other = [(np.roll(truth, 1, axis=0), drawn) for truth, drawn in images]
    assert evaluate_outlines(written(tmp_path / "d", other), resamples=20, ledger=ledger).looks == 0, "another truth"
    assert len(verify(ledger)) == 5


def test_patients_that_a_model_has_seen_are_refused(tmp_path, images):
    table = written(tmp_path, images, split=["train"] + ["test"] * 23)
    with pytest.raises(UnsoundError, match="1 patient of this test set was used to train"):
        evaluate_outlines(table)
    assert "no test of the model" in evaluate_outlines(table, allow_seen=True, resamples=20).cautions[0]


def test_saved_and_loaded_is_equal(judged, tmp_path):
    _, found = judged
    back = InstanceEvaluation.load(found.save(tmp_path))
    assert back == found
    assert str(back) == str(found)
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.json", "instances.json", "images.csv"}


# -- reading ----------------------------------------------------------------------------------------------------------


def test_child_processes_count_the_same(images, tmp_path):
    classes = [{"case": "c1", "side": side, "object": 1, "class": "red"} for side in ("truth", "predicted")]
    table = written(tmp_path, images[:6], objects=pd.DataFrame(classes))
    one, other = counted_outlines(table), counted_outlines(table, workers=2)
    assert (one.cells == other.cells).all()
    assert "/" in one.truths[1], "the classes are part of a truth"
    assert one.truths == other.truths


def test_images_without_a_truth_are_left_out_and_said(tmp_path, images):
    table = written(tmp_path, images)
    table = type(table)(table.table.assign(truth=[*table.table["truth"][:20], "", "", "", ""]), table.folder)
    found = evaluate_outlines(table, resamples=20)
    assert found.counts.images == 20
    assert "4 images without a prediction or a truth were left out" in found.cautions


def test_another_size_than_the_truth_is_refused(tmp_path, images):
    table = written(tmp_path, [*images[:2], (images[2][0], images[2][1][:-1])])
    with pytest.raises(InputError, match=r"row 3 of the table.*different sizes.*truth 80 × 64, predicted 80 × 63"):
        evaluate_outlines(table)


def test_no_truth_at_all(tmp_path, images):
    table = written(tmp_path, images[:2])
    with pytest.raises(InputError, match="no image has both"):
        evaluate_outlines(type(table)(table.table.assign(truth=""), table.folder))


# -- the intervals hold what they say ---------------------------------------------------------------------------------


def simulated(rng, people, each, skill=None, load=None, better=0.0):
    """Counts of images of patients who differ in difficulty and in the number of objects; the patient of each."""
    images = people * each
    skill = rng.normal(1.5, 0.7, people) if skill is None else skill
    skill = np.repeat(1 / (1 + np.exp(-(skill + better + rng.normal(0, 0.3, people)))), each)
    true = rng.poisson(np.repeat(rng.gamma(4, 5, people), each)) + 1 if load is None else load
    cells = np.zeros((images, 1, len(FIELDS)))
    left = true
    for t in range(10, 20):
        left = rng.binomial(left, skill if t == 10 else 0.6 + 0.4 * skill)
        cells[:, 0, AT[f"hits {t}"]] = left
    hit = cells[:, 0, AT["hits 10"]]
    cells[:, 0, AT["true"]], cells[:, 0, AT["predicted"]] = true, hit + rng.poisson(0.15 * true)
    cells[:, 0, AT["iou"]] = hit * np.clip(rng.normal(0.6 + 0.2 * skill, 0.03), 0.5, 1)
    cells[:, 0, AT["merges"]] = rng.binomial(true, 0.16 * (1 - skill))
    cells[:, 0, AT["log size"]] = rng.normal(0.05 * hit, 0.2 * np.sqrt(hit))
    cells[:, 0, AT["distance"]] = hit * np.exp(rng.normal(0, 0.2, images))
    cells[:, 0, AT["true pixels"]] = cells[:, 0, AT["predicted pixels"]] = 80 * true
    cells[:, 0, AT["shared"]] = 80 * true * skill * 0.9
    return cells, np.repeat(np.arange(people), each)


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "each"), [(15, 1), (40, 1), (25, 2)])
def test_intervals_hold_the_truth_as_often_as_they_say(patients, each):
    """The truth is that of 200,000 images."""

    def estimates(cells, codes, resamples):
        one = outline_statistic(cells[:, 0], codes.astype(np.int64), int(codes.max()) + 1)
        return {e.metric: e for e in bootstrapped(one, codes.astype(np.int64), resamples=resamples)}

    rng = np.random.default_rng(11)
    true = {name: e.value for name, e in estimates(*simulated(rng, 200_000 // each, each), 2).items()}
    names = ("ap@0.5", "ap", "ap per image", "f1@0.5", "precision@0.5", "recall@0.5", "pq", "dice", "merges", "count error",
             "count error, upper limit", "size bias", "boundary distance")  # fmt: skip
    held, studies = dict.fromkeys(names, 0), 600
    for _ in range(studies):
        found = estimates(*simulated(rng, patients, each), 300)
        for name in names:
            held[name] += found[name].low <= true[name] <= found[name].high
    shares = {name: many / studies for name, many in held.items()}
    assert all(0.90 <= share <= 0.99 for name, share in shares.items() if "limit" not in name), shares
    assert shares["count error, upper limit"] >= 0.85, shares


@pytest.mark.slow
@pytest.mark.parametrize("patients", [15, 40])
def test_intervals_of_differences_hold_the_truth_as_often_as_they_say(patients):
    """Two segmenters on the same images, as good on average: p below .05 in one study of twenty."""
    rng, names, studies = np.random.default_rng(3), ("ap@0.5", "ap", "pq", "merges"), 600
    held, small = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for _ in range(studies):
        skill = rng.normal(1.5, 0.7, patients)
        load = rng.poisson(rng.gamma(4, 5, patients)) + 1
        sides = [outline_statistic(simulated(rng, patients, 1, skill, load)[0][:, 0], np.arange(patients), patients, bounds=False)
                 for _ in range(2)]  # fmt: skip
        for d in bootstrap_difference(*sides, patients, images=patients, resamples=300):
            if d.first.metric in names:
                held[d.first.metric] += d.difference.low <= 0 <= d.difference.high
                small[d.first.metric] += d.p < 0.05
    shares = {name: many / studies for name, many in held.items()}
    assert all(0.91 <= share <= 0.985 for share in shares.values()), shares
    assert all(held[name] + small[name] == studies for name in names)


def test_a_column_that_is_not_there_is_said_before_images_are_read(judged, monkeypatch):
    monkeypatch.setattr("overread.evaluation.instances.evaluate_outlines.counted_outlines", None)
    with pytest.raises(InputError, match="no column 'stain'"):
        evaluate_outlines(judged[0], by=["stain"])
