"""Real nuclei under two microscopes: the command of the study from table to page."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.sources.read_cases import read_cases
from overread.core.files import read_json
from overread.images.outlines.outlines import read_outlines
from overread.study.question import Study
from overread.study.steps import run

SETTINGS = {
    "method": "scratch",
    "backbone": "unet_small",
    "epochs": 1,
    "segmentation": {"tile": 128, "tiles": 8, "head": "sigmoid"},
}


@pytest.mark.slow
def test_nuclei_of_two_microscopes_from_table_to_page(shared, tmp_path) -> None:
    home, index = shared / "data/dsb2018", pd.read_csv(shared / "data/dsb2018/index.csv")
    few = pd.concat(
        [part.sort_values("width").head(22) for _, part in index[index["width"] <= 360].groupby("microscope")]
    )
    few.assign(image=[str(home / p) for p in few["image"]], mask=[str(home / p) for p in few["mask"]]).to_csv(tmp_path / "index.csv", index=False)  # fmt: skip
    study = Study.from_flat(
        table=str(tmp_path / "index.csv"), image="image", mask="mask", source="microscope", test=0.4, recipe=SETTINGS
    )
    page = run(study, tmp_path / "run", cache=tmp_path / "cache", network=False)
    test = pd.read_csv(tmp_path / "run/predictions/test.csv")
    cases = read_cases(
        tmp_path / "index.csv",
        image="image",
        mask="mask",
        source="microscope",
        salt=Study.load(tmp_path / "run/study.toml").columns.salt,
    )
    masks = dict(zip(cases.table["case"], cases.table["mask"], strict=True))
    for row in test.to_dict("records"):
        truth = read_outlines(home / masks[row["case"]])
        assert np.array_equal(cv2.imread(str(tmp_path / "run/predictions" / row["truth"]), -1), truth.labels)
        assert cv2.imread(str(tmp_path / "run/predictions" / row["predicted"]), -1).shape == truth.size
    held = pd.read_csv(tmp_path / "run/evaluation/images.csv")
    nuclei = {str(path): many for path, many in zip(few["mask"], few["n_nuclei"], strict=True)}
    told = {case: nuclei[str(masks[case]).replace(f"{home}/", "")] for case in held["case"]}
    assert held["true"].tolist() == [told[case] for case in held["case"]], (
        "the nuclei that the makers of the data counted"
    )
    metrics = read_json(tmp_path / "run/evaluation/metrics.json")
    assert {e["where"].get("source") for e in metrics} >= {"fluorescence", "stained"}
    assert "Images with their outlines" in page.read_text("utf-8")
