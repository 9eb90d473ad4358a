"""`overread predict` for people: one case in words, several as a table and a page, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.data import get_testdata_file
from trained_run import first_images, make_run
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import OverreadError
from overread.predictions import Predictions
from overread.study.opinion import open_reader

CANARY = "ZZCANARY^ANNA"


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom):
    return make_run(tmp_path_factory.mktemp("predict") / "run", phantom, image="image", label="diagnosis", patient="patient",
                    source="microscope", names="keep", sensitivity=0.9)  # fmt: skip


@pytest.fixture(scope="module")
def folder(run, phantom, tmp_path_factory):
    """Four images of the test, one of training, one that is cut off, and a DICOM file with a patient's name."""
    home = tmp_path_factory.mktemp("new")
    for name in (*first_images(run, "test")[:4], first_images(run, "train")[0]):
        shutil.copy(phantom.parent / name, home)
    (home / "cut.png").write_bytes(next(home.glob("*.png")).read_bytes()[:150])
    held = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    held.PatientName, held.PatientID = CANARY, "ZZCANARY-7"
    held.save_as(home / "scan.dcm")
    return home


@pytest.fixture
def overread(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if isinstance(result.exception, OverreadError):
            return result.exception.exit_code, result.stdout, str(result.exception)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return call


def test_one_image_is_answered_in_words_and_as_json(run, folder, overread, tmp_path):
    image = folder / first_images(run, "test")[0].rpartition("/")[2]
    code, said, _ = overread("predict", run, image)
    assert code == 0
    opinion = open_reader(run).opinion(image)
    assert said.strip() == str(opinion)
    for words in ("at 90 % sensitivity: ", "margin", "calibrated in training", "not a medical device", "trained on"):
        assert words in said
    code, said, _ = overread("predict", run, image, "--json")
    assert json.loads(said) == json.loads(opinion.to_json())
    assert list(tmp_path.iterdir()) == [], "nothing is written unasked"


def test_a_folder_becomes_a_table_that_names_its_files_and_a_page(run, folder, overread, tmp_path):
    code, _, said = overread("predict", run, folder)
    assert code == 0, said
    table = pd.read_csv(tmp_path / "predictions.csv").set_index("case")
    assert set(table.index) == {path.name for path in folder.iterdir()} - {"cut.png"}
    assert "1 case set aside" in said
    assert "cut.png" in said
    reader = open_reader(run)
    for name, row in table.iterrows():
        opinion = reader.opinion(folder / name)
        assert [row[f"p:{answer.name}"] for answer in opinion.answers] == pytest.approx(
            [a.value for a in opinion.answers], abs=1e-6
        )
        assert (row["called"], row["call:malignant"]) == (
            opinion.called,
            "positive" if opinion.calls[0].positive else "negative",
        )
    seen = first_images(run, "train")[0].rpartition("/")[2]
    assert table.loc[seen, "split"] == "seen"
    assert "colour" in table.loc["scan.dcm", "failed_checks"]
    assert len(Predictions.read(tmp_path / "predictions.csv")) == 6, "whoever judges can read it"
    page = (tmp_path / "predictions.html").read_text()
    names = re.findall(r"<figcaption><span>(.*?)</span>", page)
    assert names == list(table.sort_values("p:malignant", ascending=False, kind="stable").index)
    assert page.count("data:image/png;base64,") == 6
    assert "http://" not in page
    assert "those of training are in colour" in page


def test_predictions_may_stand_beside_the_images_and_never_over_their_table(run, phantom, folder, overread, tmp_path):
    home = tmp_path / "images"
    shutil.copytree(folder, home)
    many = [overread("predict", run, home, "-o", home / "predictions.csv") and len(pd.read_csv(home / "predictions.csv")) for _ in range(2)]  # fmt: skip
    assert many == [6, 6]
    before = Path(phantom).read_bytes()
    code, _, said = overread("predict", run, phantom, "--label", "diagnosis", "-o", phantom)
    assert (code, "over the table" in said) == (2, True), said
    assert Path(phantom).read_bytes() == before


def test_no_identifier_of_a_dicom_file_is_in_any_output(run, folder, overread, tmp_path):
    said = "".join(overread("predict", run, folder)[1:]) + "".join(
        overread("predict", run, folder / "scan.dcm", "--json", "-o", "one.csv")[1:]
    )
    for path in tmp_path.iterdir():
        said += path.read_text()
    assert "scan.dcm" in said
    assert "ZZCANARY" not in said


def test_hashed_names_name_no_file(run, folder, overread, tmp_path):
    code, out, said = overread("predict", run, folder, "--names", "hash", "--json")
    assert code == 0
    every = out + said + "".join(path.read_text() for path in tmp_path.iterdir())
    for path in folder.iterdir():
        assert path.name not in every, path.name
    assert re.fullmatch(r"k[0-9a-f]{12}", pd.read_csv(tmp_path / "predictions.csv")["case"][0])


def test_a_zip_a_pattern_and_several_files_are_cases_each(run, folder, overread, tmp_path):
    files = sorted(folder.glob("c0*.png"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in files:
            archive.write(file, f"inner/{file.name}")
    for number, given in enumerate(([tmp_path / "all.zip"], [folder / "c0*.png"], files)):
        code, _, said = overread("predict", run, *given, "-o", f"{number}.csv")
        assert code == 0, said
    tables = [pd.read_csv(f"{number}.csv").set_index("case") for number in range(3)]
    assert list(tables[1].index) == [file.name for file in files]
    for table in tables:
        assert sorted(table["p:malignant"]) == pytest.approx(sorted(tables[1]["p:malignant"]), abs=1e-6)


def test_several_files_of_one_case_are_one_opinion_if_that_is_said(run, folder, overread):
    files = sorted(folder.glob("c0*.png"))[:2]
    _, said, _ = overread("predict", run, *files, "--one-case", "--case", "Monday", "--json")
    held = json.loads(said)
    assert (held["case"], held["images"]) == ("Monday", [file.name for file in files])


def test_a_patient_of_training_is_known_again(run, phantom, folder, overread):
    patient = first_images(run, "train", "patient")[0]
    image = folder / first_images(run, "test")[0].rpartition("/")[2]
    assert "this case was in the training: the patient" in overread("predict", run, image, "--patient", patient)[1]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(("cut.png",), "cut off"), (("nothing.png",), "does not exist"), (("*.gif",), "no file fits"), ((".", "--label", "x"), "label"),
     (("c0*.png", "--source", "x"), "names a column"), (("scan.dcm", "--view", "CC"), "apart by their view"),
     (("scan.dcm", "--time", "1"), "apart by their time"), (("scan.dcm", "--device", "abacus"), "device")],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_paragraph(words, wanted, run, folder, overread):
    code, out, said = overread("predict", run, folder / words[0], *words[1:])
    assert code == 2
    assert wanted in said
    assert "\n" not in said.strip()
    assert out == ""


def test_what_means_nothing_for_a_table_or_the_own_parts_is_refused(run, phantom, overread):
    before = (run / "predictions" / "test.csv").read_bytes()
    for words in (["-o", "x.csv"], ["--as-trained"], ["--json"], ["--names", "hash"], ["--label", "x"], ["--threads", "1"]):  # fmt: skip
        code, _, said = overread("predict", run, *words)
        assert (code, "means nothing there" in said) == (2, True), words
    for words in (["--json"], ["--one-case"]):
        code, _, said = overread("predict", run, phantom, "--label", "diagnosis", *words)
        assert (code, words[0] in said) == (2, True), words
    assert (run / "predictions" / "test.csv").read_bytes() == before


def test_a_table_is_told_to_have_the_models_own_probabilities(run, phantom, overread):
    code, _, said = overread("predict", run, phantom, "--label", "diagnosis", "--patient", "patient")
    assert code == 0, said
    assert "probabilities are the model's own" in said


def test_a_blank_path_is_not_the_folder_where_one_stands(run, overread):
    code, _, said = overread("predict", run, "")
    assert (code, "a path is blank" in said) == (2, True)


def test_images_of_which_none_can_be_read_are_an_error(run, folder, overread, tmp_path):
    (tmp_path / "bad").mkdir()
    shutil.copy(folder / "cut.png", tmp_path / "bad")
    code, _, said = overread("predict", run, tmp_path / "bad")
    assert (code, "none of the images can be read" in said) == (2, True)
    assert not (tmp_path / "predictions.csv").exists()


# -- a model of several views -------------------------------------------------------------------------------------


def test_a_model_of_several_views_asks_which_images_belong_together(phantom, tmp_path, overread):
    table = pd.read_csv(phantom)
    table = table[table.groupby("patient")["image"].transform("size") == 2]
    table = table.assign(
        view=np.where(table.groupby("patient").cumcount() == 0, "CC", "MLO"),
        image=[str(phantom.parent / i) for i in table["image"]],
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    run = make_run(tmp_path / "run", tmp_path / "t.csv", fusion="concat", views=("CC", "MLO"), image="image", label="diagnosis",
                   patient="patient", case="patient", view="view", names="keep", test=0.4, despite=("few-patients",))  # fmt: skip
    two = table["image"].tolist()[:2]
    code, _, said = overread("predict", run, *two)
    assert code == 2
    assert "--one-case" in said
    code, said, _ = overread("predict", run, *two, "--view", "CC,MLO", "--json")
    there = json.loads(said)
    assert len(there["images"]) == 2
    code, said, _ = overread("predict", run, *reversed(two), "--view", "MLO,CC", "--json")
    again = json.loads(said)
    assert [a["value"] for a in again["answers"]] == pytest.approx([a["value"] for a in there["answers"]], abs=1e-6)
    code, _, said = overread("predict", run, two[0])
    assert code == 2
    assert "--view" in said
