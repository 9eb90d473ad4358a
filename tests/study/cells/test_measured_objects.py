"""``overread measure``: of a table with masks, of a folder, of predictions and of a run; what it asks for and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk
from typer.testing import CliRunner

from overread.cases.split import Split
from overread.cells.object_summary import IMAGES, OBJECTS, ObjectSummary
from overread.cli.main import app
from overread.core.errors import InputError
from overread.core.files import write_csv
from overread.evaluation.instances import predicted_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.study.cells.measured_objects import marked_files, marked_run
from overread.study.context import cases_of
from overread.study.outline_steps import image_keys
from overread.study.question import Study


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six images of three patients from two microscopes, with masks of discs of known size."""
    home = tmp_path_factory.mktemp("smears")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(6):
        labels = np.zeros((80, 100), np.uint16)
        for k, (y, x) in enumerate(((20, 20), (20, 60), (55, 40)), 1):
            labels[disk((y, x), 6 + 2 * (number % 2))] = k
        (home / "images").mkdir(exist_ok=True)
        (home / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(home / "images" / f"s{number}.png"), rng.integers(0, 255, (80, 100, 3), dtype=np.uint8))
        cv2.imwrite(str(home / "masks" / f"s{number}_mask.png"), labels)
        rows.append(
            (
                f"images/s{number}.png",
                f"masks/s{number}_mask.png",
                f"p{number // 2}",
                "AB"[number % 2],
                0.25 if number < 4 else "",
            )
        )
    pd.DataFrame(rows, columns=["image", "mask", "patient", "microscope", "um"]).to_csv(home / "index.csv", index=False)
    return home


def asked(*words: object) -> str:
    done = CliRunner().invoke(app, ["measure", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, ["measure", *map(str, words)])
    assert done.exit_code != 0
    return " ".join(str(done.exception or done.output).split())


def test_a_table_with_masks(folder, tmp_path) -> None:
    said = asked(folder / "index.csv", "--mask", "mask", "--source", "microscope", "--pixel-size", "um", "-o", tmp_path)
    table, found = pd.read_csv(tmp_path / OBJECTS), ObjectSummary.load(tmp_path)
    assert len(table) == found.objects == 18
    assert found.patients == 3
    assert "2 images of 6 without a pixel size" in said
    assert table["area um2"].isna().sum() == 6
    assert not set(table["case"]) & {f"s{i}" for i in range(6)}, "names are codes"
    areas = {e.where.get("source"): e for e in found.estimates if e.metric == "mean equivalent diameter"}
    assert areas["A"].value == pytest.approx(12 * 0.25, rel=0.03)
    assert areas["B"].value == pytest.approx(16 * 0.25, rel=0.03)
    assert {"intensity mean 1", "texture contrast"} <= set(table)
    assert len(pd.read_csv(tmp_path / IMAGES)) == 6


def test_a_folder_of_masks_with_and_without_its_images(folder, tmp_path) -> None:
    said = asked(folder / "masks", "-o", tmp_path / "a")
    assert "--pixel-size" in said
    assert "--image" in said
    assert "intensity mean 1" not in pd.read_csv(tmp_path / "a" / OBJECTS)
    asked(folder / "masks", "--image", folder / "images", "--no-texture", "-o", tmp_path / "b")
    table = pd.read_csv(tmp_path / "b" / OBJECTS)
    assert {"intensity mean 1"} <= set(table)
    assert "texture contrast" not in table
    assert set(table["case"]) == {f"s{i}" for i in range(6)}
    done = CliRunner().invoke(app, ["measure", str(folder / "masks"), "--json", "-o", str(tmp_path / "a")])
    assert json.loads(done.stdout)["objects"] == 18
    assert "not in the folder" in refused(folder / "masks", "--image", folder / "masks" / "..", "-o", tmp_path)
    assert "no such folder" in refused(folder / "masks", "--image", folder / "nowhere", "-o", tmp_path)


def predictions(folder: Path) -> Path:
    table = pd.DataFrame({"case": [f"s{i}" for i in range(6)], "patient": [f"p{i // 2}" for i in range(6)], "split": "test", "source": "",
                          "predicted": [f"masks/s{i}_mask.png" for i in range(6)], "truth": [f"masks/s{i}_mask.png" if i < 4 else "" for i in range(6)]})  # fmt: skip
    objects = pd.DataFrame(
        {
            "case": "s0",
            "side": ["predicted", "predicted", "truth"],
            "object": [1, 2, 1],
            "class": ["red", "white", "red"],
        }
    )
    return PredictedOutlines(table, str(folder), objects).save(folder / "test.csv")


def test_predictions_and_their_truth(folder, tmp_path) -> None:
    path = predictions(folder)
    asked(path, "--image", folder / "images", "--pixel-size", 0.5, "-o", tmp_path / "a")
    table = pd.read_csv(tmp_path / "a" / OBJECTS)
    assert len(table) == 18
    assert table.loc[table["case"] == "s0", "class"].fillna("").tolist() == ["red", "white", ""]
    assert np.allclose(table["area um2"], table["area"] / 4)
    asked(path, "--truth", "-o", tmp_path / "b")
    assert len(pd.read_csv(tmp_path / "b" / OBJECTS)) == 12


def test_a_damaged_label_image_is_left_out_and_no_file_of_strangers_is_decoded_here(
    folder, tmp_path, monkeypatch
) -> None:
    held = PredictedOutlines.read(predictions(folder))
    path = held.save(tmp_path / "theirs" / "test.csv")
    broken = path.parent / "masks" / "s2_mask.png"
    broken.write_bytes(broken.read_bytes()[:60])
    monkeypatch.setattr(predicted_outlines, "read_labels", None)  # of this process alone
    monkeypatch.setattr(predicted_outlines, "numbers", None)
    said = asked(path, "--image", folder / "images", "-o", tmp_path / "a")
    assert "1 image left out" in said
    table = pd.read_csv(tmp_path / "a" / OBJECTS)
    assert sorted(set(table["case"])) == ["s0", "s1", "s3", "s4", "s5"]
    assert table.loc[table["case"] == "s0", "class"].fillna("").tolist() == ["red", "white", ""]


def test_a_run_is_measured_in_the_images_of_its_table(folder, tmp_path) -> None:
    run = tmp_path / "run"
    study = Study.from_flat(
        table=str(folder / "index.csv"),
        image="image",
        mask="mask",
        patient="patient",
        source="microscope",
        names="keep",
    )
    study.save(run / "study.toml")
    assert "no predictions" in refused(run)
    held = PredictedOutlines.read(predictions(folder))
    held.save(run / "predictions" / "test.csv")
    marked = marked_run(run, pixel_size="0.5")
    assert len(marked) == 6
    assert all(Path(image).exists() for image in marked.images)
    asked(run, "--pixel-size", 0.5)
    assert len(pd.read_csv(run / "measures" / OBJECTS)) == 18


def test_several_images_of_a_case_are_measured_each_in_its_own(folder, tmp_path) -> None:
    run = tmp_path / "run"
    study = Study.from_flat(table=str(folder / "index.csv"), image="image", mask="mask", patient="patient", case="patient", view="microscope", names="keep")  # fmt: skip
    study.save(run / "study.toml")
    cases = cases_of(study)
    parts = pd.DataFrame({"case": ["p0", "p1", "p2"], "patient": ["p0", "p1", "p2"], "part": ["test", "test", "train"]})
    split = Split(parts, "patients", 0)
    replace(split, proof={"digest": split.digest}).save(run / "split.csv")
    write_csv(run / "excluded.csv", pd.DataFrame({"case": ["p1"], "reason": ["blurred"]}))
    held = cases.drop(["p1"]).only(split, "test")
    keys = image_keys(held)
    table = pd.DataFrame({"case": keys, "patient": held.table["patient"], "split": "test", "source": "", "predicted": held.table["mask"], "truth": ""})  # fmt: skip
    PredictedOutlines(table, str(folder)).save(run / "predictions" / "test.csv")
    marked = marked_run(run)
    assert keys == ["p0", "p0@2"]
    assert [Path(image).name for image in marked.images] == ["s0.png", "s1.png"]


def test_what_is_wrong_is_said(folder, tmp_path) -> None:
    assert "neither outlines nor masks" in refused(folder / "index.csv", "--image", "image")
    assert "above 0" in refused(folder / "masks", "--pixel-size", "-1", "-o", tmp_path)
    assert "not a number" in refused(folder / "masks", "--pixel-size", "small", "-o", tmp_path)
    assert "one kind" in refused(folder / "masks", "--truth", "-o", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no masks" in refused(tmp_path / "empty", "-o", tmp_path)
    assert marked_files(folder / "masks").table["case"].tolist() == [f"s{i}" for i in range(6)]


def test_a_path_that_is_not_there_is_told_and_nothing_is_left(tmp_path):
    done = CliRunner().invoke(app, ["measure", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, InputError)
    assert "does not exist" in str(done.exception)
    assert not list(tmp_path.iterdir())
