"""Phantoms of touching cells and of cancer cells: what is planted can be measured in the pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops_table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from overread.cases.audit.audit import audit
from overread.cases.cases import mask_paths
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import ArgumentError
from overread.images.outlines.outlines import read_outlines
from overread.synthetic.draw import draw


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.relative_to(folder).as_posix().encode() + path.read_bytes() for path in files)).hexdigest()  # fmt: skip


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("fields"), "microscopes", {"images": [14, 10, 8], "size": 112}, seed=4)


@pytest.fixture(scope="module")
def cancer(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("cancer"), "cancer cells", {"patients": 24, "size": 112}, seed=4)


@pytest.mark.parametrize(
    ("kind", "options"), [("microscopes", {"images": [2, 2, 2]}), ("cancer cells", {"patients": 4})]
)
def test_the_same_seed_gives_the_same_bytes(tmp_path, kind, options) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw(tmp_path / name, kind, options | {"size": 64, "cells": [4, 8]}, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    with pytest.raises(ArgumentError):
        draw(tmp_path / "d", kind, {"cells": [9, 2]})
    with pytest.raises(ArgumentError, match="48 pixels"):
        draw(tmp_path / "d", kind, options | {"size": 20})


def test_labels_are_the_cells_that_are_seen(fields) -> None:
    table = pd.read_csv(fields)
    assert table["microscope"].value_counts().to_dict() == {"A": 14, "B": 10, "C": 8}
    for row in table[table["cells"] > 0].itertuples():
        labels = cv2.imread(str(fields.parent / row.mask), cv2.IMREAD_UNCHANGED)
        grey = cv2.imread(str(fields.parent / row.image), cv2.IMREAD_GRAYSCALE).astype(float)
        assert labels.dtype == np.uint16
        assert len(np.unique(labels)) - 1 == labels.max() == row.cells
        assert label(labels, background=0, connectivity=1).max() == row.cells  # each in one piece
        deep = ndimage.binary_erosion(labels > 0, iterations=2)
        far = ~ndimage.binary_dilation(labels > 0, iterations=2)
        sign = -1 if row.microscope == "C" else 1  # dark on bright where stained
        if far.any():
            assert roc_auc_score(np.r_[np.ones(deep.sum()), np.zeros(far.sum())], sign * np.r_[grey[deep], grey[far]]) > 0.97  # fmt: skip


def test_most_cells_touch_and_no_threshold_tells_them_apart(fields) -> None:
    table = pd.read_csv(fields).query("cells > 4")
    cells = components = 0
    for row in table.itertuples():
        labels = cv2.imread(str(fields.parent / row.mask), cv2.IMREAD_UNCHANGED)
        cells, components = cells + row.cells, components + label(labels > 0, connectivity=2).max()
    assert components < 0.6 * cells


def test_the_microscopes_differ_in_scale_and_contrast_and_the_pixel_size_says_so(fields) -> None:
    cases = read_cases(fields, mask="mask", source="microscope", pixel_size="pixel_size", names="keep")
    found = audit(cases, threads=1)
    held = found.counts["objects"]
    assert held["B"]["pixels"]["median"] > 1.5 * held["A"]["pixels"]["median"]
    square = [held[name]["square microns"]["median"] for name in "ABC"]
    assert max(square) < 1.25 * min(square)
    bad = {"unreadable-mask", "mask-size", "conflicting-mask", "mask-copied", "mask-elsewhere", "interpolated-mask", "split-object",
           "hollow-object", "overlaps"}  # fmt: skip
    assert not bad & {finding.kind for finding in found.findings}
    assert not found.excluded
    spread = {}
    for row in pd.read_csv(fields).query("cells > 4").itertuples():
        inside = cv2.imread(str(fields.parent / row.mask), cv2.IMREAD_UNCHANGED) > 0
        grey = cv2.imread(str(fields.parent / row.image), cv2.IMREAD_GRAYSCALE).astype(float)
        spread.setdefault(row.microscope, []).append(abs(grey[inside].mean() - grey[~inside].mean()) / grey.std())
    assert np.mean(spread["B"]) < np.mean(spread["A"])


def test_planted_cells_are_cancerous_in_the_pixels_and_the_stain_of_the_image_is_not(cancer) -> None:
    table, objects = pd.read_csv(cancer), pd.read_csv(cancer.parent / "objects.csv")
    measured = []
    for row in table.itertuples():
        labels = cv2.imread(str(cancer.parent / row.labels), cv2.IMREAD_UNCHANGED)
        grey = cv2.imread(str(cancer.parent / row.image), cv2.IMREAD_GRAYSCALE)
        one = pd.DataFrame(regionprops_table(labels, grey, ("label", "area", "mean_intensity", "solidity", "centroid"), extra_properties=(spread,)))  # fmt: skip
        one["relative"] = one["mean_intensity"] / one["mean_intensity"].median()
        measured.append(one.assign(case=row.case, patient=row.patient, brightness=grey.mean()))
    every = pd.concat(measured).merge(
        objects, left_on=["case", "label"], right_on=["case", "object"], suffixes=("", " told")
    )
    assert len(every) == len(objects) == table["cells"].sum()
    assert (every["area"] == every["area told"]).all()
    assert np.hypot(every["centroid-0"] - every["row"], every["centroid-1"] - every["column"]).median() < 1
    sick = every["class"] == "cancerous"
    features = every[["area", "relative", "solidity", "spread"]]
    features = (features - features.mean()) / features.std()
    told = cross_val_predict(LogisticRegression(), features, sick, groups=every["patient"], cv=GroupKFold(4), method="predict_proba")[:, 1]  # fmt: skip
    assert roc_auc_score(sick, told) > 0.9
    counted = every[sick].groupby("case").size().reindex(table["case"], fill_value=0)
    assert counted.tolist() == table["cancerous"].tolist()
    assert ((counted > 0).to_numpy() == (table["cancer"] == "yes")).all()
    brightness = every.groupby("case")["brightness"].first().reindex(table["case"])
    assert abs(roc_auc_score(table["cancer"] == "yes", brightness) - 0.5) < 0.25


def spread(mask: np.ndarray, values: np.ndarray) -> float:
    return float(values[mask].std())


def test_masks_with_classes_are_the_labels_of_the_cells(cancer) -> None:
    cases = read_cases(cancer, mask="mask", patient="patient", names="keep")
    assert cases.target.names == ("cancerous", "healthy")
    objects = pd.read_csv(cancer.parent / "objects.csv")
    for row in (0, 7, 30):
        found = read_outlines(mask_paths(cases)[row], size=(112, 112), classes=cases.target.names)
        labels = cv2.imread(str(cancer.parent / cases.table["labels"][row]), cv2.IMREAD_UNCHANGED)
        assert (found.labels == labels).all()
        assert list(found.classes) == objects[objects["case"] == cases.table["case"][row]]["class"].tolist()
    both = read_cases(cancer, mask="mask", label="cancer", patient="patient", names="keep")
    assert both.target.task.binary
    assert mask_paths(both) == mask_paths(cases)
    assert len(json.loads((cancer.parent / "cells.json").read_text())["images"]) == len(cases)
