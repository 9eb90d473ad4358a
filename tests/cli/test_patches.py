"""`overread patches`: from marked patches to maps, on small phantom slices."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import OverreadError
from overread.synthetic.cells.tomogram import draw_tomogram


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    return draw_tomogram(tmp_path_factory.mktemp("slices"), slices=3, annotated=1, size=192, patches=2, seed=0)


def run(*words):
    return CliRunner().invoke(app, ["patches", *map(str, words)])


def test_from_patches_to_maps(slices, tmp_path):
    result = run(slices, "--steps", 6, "-o", tmp_path / "o", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "1 image with marked patches mapped, not judged" in result.output
    for name in ("S001", "S002", "S003"):
        each = np.stack(
            [
                tifffile.imread(tmp_path / f"o/maps/{name}.{feature}.tif")
                for feature in ("membrane", "vesicle", "ribosome")
            ]
        )
        labels = tifffile.imread(tmp_path / f"o/maps/{name}.labels.tif")
        assert labels.shape == each.shape[1:] == (192, 192)
        assert set(np.unique(labels)) <= {0, 1, 2, 3}
        assert (each.max(0)[labels == 0] <= 128).all()
    assert json.loads((tmp_path / "o/labels.json").read_text())["2"] == "vesicle"
    metrics = json.loads((tmp_path / "o/evaluation/metrics.json").read_text())
    assert {(m["metric"], m["of"]) for m in metrics} >= {("dice", "membrane"), ("average precision", "ribosome")}
    dice = next(m for m in metrics if (m["metric"], m["of"]) == ("dice", "vesicle"))
    labels = np.concatenate([tifffile.imread(tmp_path / f"o/maps/{name}.labels.tif") == 2 for name in ("S002", "S003")])
    truth = np.concatenate(
        [cv2.imread(str(slices.parent / f"truth/vesicle/{name}.png"), -1) > 0 for name in ("S002", "S003")]
    )
    assert dice["value"] == pytest.approx(2 * (labels & truth).sum() / (labels.sum() + truth.sum()))
    assert dice["patients"] == 2
    page = (tmp_path / "o/patches.html").read_text()
    assert "data:image/png" in page
    assert "ribosome" in page
    before = (tmp_path / "o/networks/membrane.safetensors").read_bytes()
    again = run(slices, "--steps", 6, "-o", tmp_path / "o", "--threads", 1, "--json")
    assert "the network that is there" in again.output
    assert (tmp_path / "o/networks/membrane.safetensors").read_bytes() == before
    assert json.loads(again.stdout)["mapped"] == 3


def test_without_a_table_of_images_those_of_the_patches_are_mapped(slices, tmp_path):
    for path in (slices, *slices.parent.glob("marked")):
        assert path.exists()
    text = (
        slices.read_text().replace("slices/", f"{slices.parent}/slices/").replace("marked/", f"{slices.parent}/marked/")
    )
    (tmp_path / "patches.csv").write_text(text)
    result = run(tmp_path / "patches.csv", "--feature", "ribosome", "--steps", 2, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "patches/maps").iterdir()) == ["S001.labels.tif", "S001.ribosome.tif"]
    assert "no image is judged" in result.output


def test_what_is_refused(slices, tmp_path):
    result = run(slices, "--feature", "nucleus", "-o", tmp_path / "o")
    assert isinstance(result.exception, OverreadError)
    assert "nucleus" in str(result.exception)
