"""Marks against lesions: which hits, what counts, and the curve, restated slowly."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.evaluation.detection import Localisation, judge_marks, judge_marks_by, read_marks
from overread.evaluation.ledger import settle, verify


def write(folder, **tables):
    paths = []
    for name, text in tables.items():
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text(text.replace(" ", ""))
    return paths


PITFALL = {"marks": "image,score,lesion\na,.9,1\nb,.4,1\nb,.5,\n", "lesions": "image,lesion\na,1\nb,1\n"}


def test_the_lowest_threshold_is_not_dropped(tmp_path):
    """Two public scripts drop it when every lesion is hit, and say .50."""
    found = judge_marks(read_marks(*write(tmp_path, **PITFALL), 2))
    assert found["mean sensitivity"].value == pytest.approx(11 / 12)
    assert found["sensitivity at 0.25 false positives per image"].value == 0.5
    assert found["sensitivity at 0.5 false positives per image"].value == 1.0


def test_luna16_has_one_rate_more(tmp_path):
    found = judge_marks(read_marks(*write(tmp_path, **PITFALL), 2), rates="luna16")
    assert found["mean sensitivity"].value == pytest.approx((2 * 0.5 + 5) / 7)
    assert found.about["rates"][0] == 0.125


def slow_froc(lesions, marks, images, rates):
    """By loops over thresholds; marks: (score, lesion or None); no ties between a hit and a false positive."""
    found = []
    for rate in rates:
        best = 0.0
        for threshold in {score for score, _ in marks}:
            shown = [(s, hit) for s, hit in marks if s >= threshold]
            false = sum(hit is None for _, hit in shown)
            if false / images <= rate + 1e-12:
                best = max(best, len({hit for _, hit in shown} - {None}) / lesions)
        found.append(best)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_places_find_the_same_as_loops(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth, said = [], []
    for image in range(20):
        for k in range(rng.integers(0, 4)):
            truth.append((f"i{image}", f"l{k}", *rng.uniform(0, 100, 2), rng.uniform(3, 15)))
        for _ in range(rng.integers(0, 6)):
            said.append((f"i{image}", rng.normal(), *rng.uniform(0, 100, 2)))
    said += [(i, rng.normal(), x + 1, y) for i, _, x, y, _ in truth for _ in range(2) if rng.random() < 0.6]
    pd.DataFrame(truth, columns=["image", "lesion", "x", "y", "radius"]).to_csv(tmp_path / "l.csv", index=False)
    pd.DataFrame(said, columns=["image", "score", "x", "y"]).to_csv(tmp_path / "m.csv", index=False)
    marks = []
    for image, score, x, y in said:
        near = [
            (math.hypot(x - a, y - b), (i, k))
            for i, k, a, b, r in truth
            if i == image and math.hypot(x - a, y - b) <= r
        ]
        marks.append((score, min(near)[1] if near else None))
    found = judge_marks(read_marks(tmp_path / "m.csv", tmp_path / "l.csv", 25), resamples=50)
    rates = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    slow = slow_froc(len(truth), marks, 25, rates)
    assert [found[f"sensitivity at {r:g} false positives per image"].value for r in rates] == pytest.approx(slow)
    assert found["mean sensitivity"].value == pytest.approx(np.mean(slow))
    hits = [hit for _, hit in marks if hit]
    assert found.counts["ignored marks"][""] == len(hits) - len(set(hits))
    assert sum("ignored" in c for c in found.cautions) == (len(hits) > len(set(hits)))


def test_a_second_mark_on_a_lesion_is_no_false_positive(tmp_path):
    once = read_marks(*write(tmp_path, marks="image,score,lesion\na,.9,1\nb,.5,", lesions="image,lesion\na,1"), 2)
    twice = read_marks(*write(tmp_path, marks="image,score,lesion\na,.9,1\na,.95,1\na,.1,1\nb,.5,", lesions="image,lesion\na,1"), 2)  # fmt: skip
    one, two = judge_marks(once), judge_marks(twice)
    assert [e.value for e in one.estimates] == [e.value for e in two.estimates]
    assert two.counts["ignored marks"] == {"": 2}


def test_tolerance_is_the_radius_of_lesions_without_one(tmp_path):
    tables = {"marks": "image,score,x,y\na,1,0,0\nb,1,0,0", "lesions": "image,lesion,x,y,radius\na,1,3,4,\nb,1,3,4,4.9"}
    paths = write(tmp_path, **tables)
    assert read_marks(*paths, 2, tolerance=5).marks["hit"].tolist() == [0, -1]
    with pytest.raises(InputError, match=r"no radius.*1 of 2"):
        read_marks(*paths, 2)


def test_readers_are_apart_and_images_without_anything_count(tmp_path):
    paths = write(tmp_path, marks="image,score,lesion,reader\na,1,1,x\na,1,,y\na,2,1,y", lesions="image,lesion\na,1")
    few, many = judge_marks(read_marks(*paths, 1)), judge_marks(read_marks(*paths, 40))
    assert few["sensitivity at 0.25 false positives per image", "y"].value == 1.0
    assert list(many.counts["marks"]) == ["x", "y"]
    assert many["afroc area", "y"].value == 1.0
    assert few["afroc area", "y"].undefined == "0 images without lesions"


def test_patients_are_resampled_together(tmp_path):
    rng = np.random.default_rng(0)
    marks = "image,score,lesion\n" + "\n".join(f"i{k},{rng.random()},{1 if k // 4 % 2 else ''}" for k in range(80))
    paths = write(tmp_path, marks=marks, lesions="image,lesion\n" + "\n".join(f"i{k},1" for k in range(80)))
    (tmp_path / "images.csv").write_text("image,patient\n" + "\n".join(f"i{k},p{k // 4}" for k in range(80)))
    alone, together = (judge_marks(read_marks(*paths, n))["mean sensitivity"] for n in (80, tmp_path / "images.csv"))
    assert alone.value == together.value
    assert (alone.patients, together.patients) == (80, 20)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def covers(seed):
    """Lesions found with probability .7 at any score, false positives everywhere: the limit is .7 from there on."""
    rng = np.random.default_rng(seed)
    lesions = np.repeat(np.arange(50), 2)
    skill = np.repeat(rng.beta(7, 3, 25), 2)  # a patient of two images
    found = rng.random(100) < skill[lesions]
    table = pd.DataFrame(
        {"reader": "", "image": lesions[found], "score": 1.0 + rng.random(found.sum()), "hit": np.flatnonzero(found)}
    )
    from overread.evaluation.detection import Marks

    given = Marks(50, lesions, np.arange(50) // 2, table, "given", "")
    e = judge_marks(given, rates=(1.0,), resamples=200)["mean sensitivity"]
    return e.low <= 0.7 <= e.high


@pytest.mark.simulation
@pytest.mark.parametrize("runs", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_interval_covers_by_patient(runs):
    share = np.mean([covers(seed) for seed in range(runs)])
    margin = 2.6 * math.sqrt(0.05 / runs)
    assert 0.925 - margin < share < 0.975 + margin


@pytest.mark.parametrize(
    ("marks", "lesions", "images", "match"),
    [
        ("image,score,lesion\na,1,1", "image,lesion\na,1", None, "images with neither|neither marks nor lesions"),
        ("image,score,lesion\na,1,1\nb,1,", "image,lesion\na,1", 1, "more images than that"),
        ("image,score,lesion\na,1,2", "image,lesion\na,1", 1, "not in the table of lesions"),
        ("image,score,lesion\na,1,1", "image,lesion\na,1\na,1", 1, "stands more than once"),
        ("image,score,lesion\na,nan,1", "image,lesion\na,1", 1, "score is not a finite number"),
        ("image,score,lesion\na,inf,1", "image,lesion\na,1", 1, "score is not a finite number"),
        ("image,score\na,1", "image,lesion\na,1", 1, "no column 'x'"),
    ],
)
def test_faults_are_told(tmp_path, marks, lesions, images, match):
    with pytest.raises(InputError, match=match):
        read_marks(*write(tmp_path, marks=marks, lesions=lesions), images)


def test_nothing_marked_and_nothing_to_find(tmp_path):
    silent = judge_marks(read_marks(*write(tmp_path, marks="image,score,lesion\n", lesions="image,lesion\na,1"), 2))
    assert silent["mean sensitivity"].value == 0
    clear = judge_marks(read_marks(*write(tmp_path, marks="image,score,lesion\na,1,", lesions="image,lesion\n"), 2))
    assert clear["mean sensitivity"].undefined == "0 lesions"
    assert clear.curves[""]["undefined"] == "0 lesions"


def test_to_files_and_back_with_one_line_in_the_ledger(tmp_path):
    given = read_marks(*write(tmp_path, **PITFALL), 2)
    found = judge_marks(given, ledger=tmp_path / "ledger.jsonl")
    assert Localisation.load(found.save(tmp_path)) == found
    assert judge_marks(given, ledger=tmp_path / "ledger.jsonl").looks == 1
    assert len(verify(tmp_path / "ledger.jsonl")) == 2
    assert '"a"' not in (tmp_path / "froc.json").read_text() + (tmp_path / "metrics.json").read_text()


# -- groups of images ---------------------------------------------------------------------------------------------------


def many(tmp_path, seed=0):
    """Forty images of thirty patients under two scanners, some with lesions; marks on both."""
    draw = np.random.default_rng(seed)
    images = pd.DataFrame({"image": [f"i{n}" for n in range(40)], "patient": [f"p{n % 30}" for n in range(40)], "scanner": ["A"] * 25 + ["B"] * 15})  # fmt: skip
    lesions = pd.DataFrame({"image": [f"i{n}" for n in range(0, 40, 3) for _ in range(2)], "lesion": ["0", "1"] * 14})
    rows = [(f"i{draw.integers(40)}", draw.random(), "") for _ in range(60)]
    rows += [(image, draw.random() + 0.3, lesion) for image, lesion in zip(lesions["image"], lesions["lesion"]) if draw.random() < 0.7]  # fmt: skip
    marks = pd.DataFrame(rows, columns=["image", "score", "lesion"])
    for name, table in {"images": images, "lesions": lesions, "marks": marks}.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return images, lesions, marks


def test_a_group_is_judged_as_if_it_were_all_there_is(tmp_path):
    images, lesions, marks = many(tmp_path)
    whole = read_marks(tmp_path / "marks.csv", tmp_path / "lesions.csv", tmp_path / "images.csv")
    found = judge_marks_by(whole, images[["scanner"]], resamples=50)
    for scanner in "AB":
        here = set(images["image"][images["scanner"] == scanner])
        for name, table in {"images": images, "lesions": lesions, "marks": marks}.items():
            table[table["image"].isin(here)].to_csv(tmp_path / f"{scanner}-{name}.csv", index=False)
        alone = judge_marks(read_marks(*(tmp_path / f"{scanner}-{n}.csv" for n in ("marks", "lesions", "images"))), resamples=50)  # fmt: skip
        of_group = [e for e in found if e.where == {"scanner": scanner}]
        assert [(e.metric, e.value, e.images, e.patients) for e in of_group] == [
            (e.metric, e.value, e.images, e.patients) for e in alone.estimates if "sensitivity" in e.metric
        ]
    assert len(found) == 14


def test_groups_too_small_to_judge_and_images_of_none_are_left_out(tmp_path):
    many(tmp_path)
    whole = read_marks(tmp_path / "marks.csv", tmp_path / "lesions.csv", tmp_path / "images.csv")
    column = pd.DataFrame({"site": ["few"] * 9 + [""] * 11 + ["many"] * 20})
    assert {e.where["site"] for e in judge_marks_by(whole, column, resamples=20)} == {"many"}
    with pytest.raises(InputError, match="a row for each image"):
        judge_marks_by(whole, column.head(3))


def test_a_pending_look_at_lesions_counts_once(tmp_path):
    given, ledger = read_marks(*write(tmp_path, **PITFALL), 2), tmp_path / "ledger.jsonl"
    for _ in range(2):  # the first was killed before it showed anything
        assert judge_marks(given, ledger=ledger, pending=True).looks == 0
    settle(ledger)
    assert judge_marks(given, ledger=ledger, pending=True).looks == 1
    assert len(verify(ledger)) == 2
