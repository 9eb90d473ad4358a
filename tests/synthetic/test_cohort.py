"""Images, table and truth of a phantom cohort agree."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError
from overread.synthetic import draw_cohort

FAULTS = {"leaks": 3, "duplicates": 4, "near_duplicates": 4, "conflicts": 2,
          "unreadable": 2, "blank": 1, "unlabelled": 3}  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    return _load(draw_cohort(tmp_path_factory.mktemp("faulty"), patients=60, size=32, seed=5, readers=3,
                             label_noise=0.2, **FAULTS))  # fmt: skip


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return _load(draw_cohort(tmp_path_factory.mktemp("clean"), patients=400, images_per_patient=(1, 1), seed=3))


def _load(path: Path):
    table = pd.read_csv(path, keep_default_na=False)
    return path.parent, table, json.loads((path.parent / "truth.json").read_text())


def _pixels(folder, table, row):
    return cv2.imread(str(folder / table["image"][row]), cv2.IMREAD_UNCHANGED)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, second, other = (
        draw_cohort(tmp_path / name, patients=6, size=32, seed=seed, readers=2, label_noise=0.3).parent
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(files) >= 9
    assert all((first / f).read_bytes() == (second / f).read_bytes() for f in files)
    assert (first / "images/c00001.png").read_bytes() != (other / "images/c00001.png").read_bytes()


def test_table_and_images_agree(faulty):
    folder, table, truth = faulty
    assert sorted(table["image"]) == sorted(f"images/{p.name}" for p in (folder / "images").iterdir())
    assert truth["images"] == len(table) == len(truth["signal"]) == len(truth["true_diagnosis"])
    assert truth["patients"] == table["patient"].nunique()
    assert set(table["microscope"]) == {"A", "B", "C"}


def test_exact_duplicates_have_equal_pixels_and_other_bytes(faulty):
    folder, table, truth = faulty
    assert len(truth["exact_duplicates"]) == FAULTS["duplicates"]
    for one, two in truth["exact_duplicates"]:
        assert np.array_equal(_pixels(folder, table, one), _pixels(folder, table, two))
        assert (folder / table["image"][one]).read_bytes() != (folder / table["image"][two]).read_bytes()
        assert table["diagnosis"][one] == table["diagnosis"][two]


def test_near_duplicates_are_near_but_not_equal(faulty):
    folder, table, truth = faulty
    assert len(truth["near_duplicates"]) == FAULTS["near_duplicates"]
    for one, two in truth["near_duplicates"]:
        a, b = (_pixels(folder, table, row).astype(float).ravel() for row in (one, two))
        assert 0 < np.abs(a - b).mean() < 10
        assert np.corrcoef(a, b)[0, 1] > 0.99


def test_conflicts_are_equal_images_with_two_labels(faulty):
    folder, table, truth = faulty
    assert len(truth["conflicting_labels"]) == FAULTS["conflicts"]
    for one, two in truth["conflicting_labels"]:
        assert np.array_equal(_pixels(folder, table, one), _pixels(folder, table, two))
        assert table["diagnosis"][one] != table["diagnosis"][two]


def test_no_other_images_are_equal(faulty):
    folder, table, truth = faulty
    planted = {two for kind in ("exact_duplicates", "conflicting_labels") for _, two in truth[kind]}
    rows = [r for r in range(len(table)) if r not in planted and r not in truth["unreadable"]]
    assert len({_pixels(folder, table, r).tobytes() for r in rows}) == len(rows)


def test_leaks_are_exactly_those_of_the_truth(faulty):
    _, table, truth = faulty
    parts = table.groupby("patient")["split"].nunique()
    assert sorted(parts.index[parts > 1]) == truth["leaked_patients"]
    assert len(truth["leaked_patients"]) >= FAULTS["leaks"]
    for one, two in truth["leaked_pairs"]:
        assert table["split"][one] != table["split"][two]


def test_spoiled_images_and_labels(faulty):
    folder, table, truth = faulty
    assert [len(truth[k]) for k in ("unreadable", "blank", "unlabelled")] == [2, 1, 3]
    unreadable = [_pixels(folder, table, r) for r in truth["unreadable"]]
    assert all(p is None or (p == 0).any() for p in unreadable)
    assert all(np.ptp(_pixels(folder, table, r)) == 0 for r in truth["blank"])
    assert list(np.flatnonzero(table["diagnosis"] == "")) == truth["unlabelled"]


def test_label_noise_is_what_the_first_reader_said(faulty):
    folder, table, truth = faulty
    wrong = set(truth["label_noise"]["rows"])
    conflict = {two for _, two in truth["conflicting_labels"]}
    rows = [r for r in range(len(table)) if r not in conflict and r not in truth["unlabelled"]]
    assert {r for r in rows if table["diagnosis"][r] != truth["true_diagnosis"][r]} == wrong
    readers = pd.read_csv(folder / "readers.csv")
    first = readers[readers["reader"] == "R1"].set_index("case")["label"]
    kept = [r for r in rows if table["case"][r] in first.index]
    assert all(table["diagnosis"][r] == first[table["case"][r]] for r in kept)
    true = dict(zip(table["case"], truth["true_diagnosis"], strict=True))
    errors = (readers["label"] != readers["case"].map(true)).groupby(readers["reader"]).mean()
    assert errors["R1"] < errors["R3"]  # rates .1, .2, .3
    assert errors.mean() == pytest.approx(0.2, abs=0.07)


def test_the_signal_separates_as_the_truth_says(clean):
    _, table, truth = clean
    sick = table["diagnosis"] == truth["positive"]
    assert sick.mean() == pytest.approx(0.4, abs=0.001)
    assert roc_auc_score(sick, truth["signal"]) == pytest.approx(truth["ideal_auc"], abs=0.03)


def test_brightness_and_its_spread_say_nothing_but_the_size_of_nuclei_does(clean):
    """A blur keeps more of the contrast of large nuclei: one number already tells much of the diagnosis."""
    folder, table, truth = clean
    sick = table["diagnosis"] == truth["positive"]
    images = [_pixels(folder, table, r).astype(np.float32) for r in range(len(table))]
    assert abs(roc_auc_score(sick, [image.mean() for image in images]) - 0.5) < 0.08
    assert abs(roc_auc_score(sick, [image.mean(axis=2).std() for image in images]) - 0.5) < 0.08
    kept = [cv2.GaussianBlur(image, (0, 0), 3)[..., 2].std() / image[..., 2].std() for image in images]
    assert 0.75 < roc_auc_score(sick, kept) < 0.95


def test_a_shortcut_shows_in_brightness(tmp_path):
    folder, table, truth = _load(draw_cohort(tmp_path, patients=60, size=32, shortcut=0.9))
    brightness = [_pixels(folder, table, r).mean() for r in range(len(table))]
    assert roc_auc_score(table["diagnosis"] == truth["positive"], brightness) > 0.85
    assert len(truth["shortcut"]["rows"]) / len(table) == pytest.approx(0.9, abs=0.1)


def test_a_gap_weakens_the_signal_of_women(tmp_path):
    _, table, truth = _load(draw_cohort(tmp_path, patients=500, images_per_patient=(1, 1), size=24, gap=0.7))
    sick, women = table["diagnosis"] == truth["positive"], table["sex"] == truth["gap"]["value"]
    signal = np.array(truth["signal"])
    assert roc_auc_score(sick[~women], signal[~women]) - roc_auc_score(sick[women], signal[women]) > 0.1


def test_three_classes_chests_and_one_source(tmp_path):
    _, table, _ = _load(draw_cohort(tmp_path, patients=12, size=32, classes=3, kind="chest", sources=("X",)))
    assert set(table["diagnosis"]) == {"benign", "atypical", "malignant"}
    assert set(table["microscope"]) == {"X"}
    assert _pixels(tmp_path, table, 0).shape == (32, 32)


def test_volumes_have_the_layout_of_medmnist(tmp_path):
    path = draw_cohort(tmp_path, patients=40, size=16, kind="volume", images_per_patient=(1, 1))
    with np.load(path, allow_pickle=False) as arrays:
        assert {name.split("_")[0] for name in arrays} == {"train", "val", "test"}
        assert arrays["train_images"].shape[1:] == (16, 16, 16)
        assert arrays["train_images"].dtype == np.uint8
        assert sum(arrays[f"{p}_labels"].shape[0] for p in ("train", "val", "test")) == 40
        assert set(arrays["train_labels"].ravel()) == {0, 1}


@pytest.mark.parametrize(
    "wrong",
    [{"patients": 1}, {"images_per_patient": (2, 1)}, {"size": 4}, {"prevalence": 1.0}, {"shortcut": 2.0},
     {"leaks": -1}, {"sources": ()}, {"kind": "slide"}, {"leaks": 5, "images_per_patient": (1, 1)}],
)  # fmt: skip
def test_bad_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(ArgumentError):
        draw_cohort(tmp_path, **wrong)
