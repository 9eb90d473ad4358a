"""A grid and a cross-validation on real images: radiographs of MedMNIST, and cells cut out of blood smears."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.evaluation.comparison.grid_result import FOLDS
from overread.study.factorial import Readers, grid
from overread.study.question import Study

#: Cells cut out, at most, of each kind.
MOST = 90


@pytest.fixture(scope="module")
def cells(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White cells and clusters of platelets, one crop each, the smear as the patient."""
    boxes = pd.read_csv(shared / "data/bccd/boxes.csv")
    home = tmp_path_factory.mktemp("cells")
    rows = []
    for label in ("WBC", "Platelets"):
        some = boxes[boxes["cell"] == label].drop_duplicates("file").iloc[:MOST]
        for number, row in enumerate(some.itertuples(index=False)):
            pixels = cv2.imread(str(shared / "data/bccd/JPEGImages" / row.file))
            crop = cv2.resize(pixels[max(row.ymin, 0) : row.ymax + 1, max(row.xmin, 0) : row.xmax + 1], (64, 64))
            name = f"{label}-{number:03}.png"
            cv2.imwrite(str(home / name), crop)
            rows.append((name, Path(row.file).stem, label.lower()))
    table = home / "cells.csv"
    pd.DataFrame(rows, columns=["image", "smear", "cell"]).to_csv(table, index=False)
    return table


def test_descriptors_and_a_layer_tell_cells_apart_by_cross_validation(
    cells: Path, shared: Path, tmp_path: Path
) -> None:
    vary = {"features": [{"name": "LBP", "descriptors": ["lbp"]}, {"name": "codes", "descriptors": ["gist", "hog"], "codes": "hyperplanes", "bits": 256},
                         {"name": "layer", "backbone": "squeezenet1_0", "layers": ["features.7"]}]}  # fmt: skip
    study = Study.from_flat(table=str(cells), image="image", label="cell", patient="smear", positive=("wbc",), threads=1, folds="5", names="keep",
                            weights=str(shared / "weights"), despite=("leak", "near-leak", "shortcut", "few-patients"),
                            recipe={"method": "features", "image_size": 64, "head": "svm", "penalties": [0.01], "views": 1})  # fmt: skip
    board = grid(study, vary, tmp_path / "grid", network=False)
    assert not board.left_out
    for name in ("LBP", "codes", "layer"):
        found = board.told(name, "auc", "wbc")
        assert found.value > 0.9, f"{name}: {found}"
        assert board.told(name, FOLDS, "wbc").value > 0.8
    assert board.told("layer", "auc", "wbc").value > 0.97


def test_pneumonia_by_two_networks_an_ensemble_and_a_reader(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data/pneumoniamnist/pneumoniamnist.npz"
    with np.load(archive) as held:
        rows = [(f"{archive}#{part}_images/{i}", ("normal", "pneumonia")[int(label[0])])
                for part in ("val", "test") for i, label in enumerate(held[f"{part}_labels"])]  # fmt: skip
    table = tmp_path / "films.csv"
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(table, index=False)
    study = Study.from_flat(table=str(table), image="image", label="label", threads=1, names="keep",
                            despite=("leak", "near-leak", "shortcut"), positive=("pneumonia",), tuning=0.2, test=0.3,
                            recipe={"method": "features", "image_size": 32, "penalties": [0.01], "head": "ridge"})  # fmt: skip
    vary = {"descriptors": [["lbp"], ["gist", "intensity"]]}
    board = grid(study, vary, tmp_path / "grid", part="test", readers=Readers(), network=False)
    assert board.told("gist + intensity", "auc", board.of).value > 0.9
    assert board.shares
