"""A run of slides, opened to be looked at: only what did not teach the model, under its codes, and where it lies."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_slides import MPP, SIDE, draw_study
from served import client_of

from overread.cases.cases import paths
from overread.cases.split import Split
from overread.core.errors import InputError
from overread.images.address import parse
from overread.images.preprocess import Preprocess
from overread.images.slides.slide import slide_digest
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.serving.slides.slide_reader import _slides, open_slide_reader
from overread.slides.heat_map import MapAbout, write_map
from overread.study import steps
from overread.study.context import reads_slides
from overread.study.outline_steps import file_names
from overread.study.question import Study
from overread.study.slides.lesion_tables import FOUND, save_places


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A run with a split and a model; of one slide with disease of its test part a heat map."""
    home = tmp_path_factory.mktemp("study")
    table = draw_study(home / "data", patients=8)
    study = Study.from_flat(table=str(table), image="slide", label="tumour", patient="patient", source="scanner", outlines=str(home / "data" / "outlines"),
                            positive=("tumour",))  # fmt: skip
    study, cases = steps.open_study(study, home / "run")
    context = steps.RunContext(study, home / "run", cache=home / "cache", table=cases)
    steps.begin(context, cases)
    rows = cases.table[["case", "patient"]].assign(
        part=["test", "test", "test", "tuning", "tuning", "train", "train", "train"]
    )
    parts = Split(rows.sort_values("case", ignore_index=True), "given", 0)
    parts = Split(parts.table, "given", 0, {"digest": parts.digest})
    parts.save(home / "run" / "split.csv")
    about = About(Recipe(method="scratch", backbone="lenet5", image_size=28, views=1), Preprocess(size=(28, 28), channels=3, mean=(0.5,) * 3, std=(0.2,) * 3),
                  cases.target, Origin("lenet5", 1), salt=cases.salt)  # fmt: skip
    Model(make_network(about).eval(), about).save(home / "run" / "model")
    (home / "run" / "model" / "slides.json").write_text(
        json.dumps(
            {
                "score": "maximum",
                "score_why": "",
                "threshold": 0.7,
                "threshold_why": "",
                "areas": {},
                "window": 3,
                "window_why": "",
            }
        )
    )
    test = cases.only(parts, "test")
    row = int(np.flatnonzero(test.table["label"] == "tumour")[0])
    who = dict(zip(FOUND[:3], test.table[list(FOUND[:3])].iloc[row], strict=True))
    held = pd.DataFrame([{**who, "x": x, "y": 250.0, "score": score, "area": 5e4, "region": -1} for x, score in ((60.0, 0.5), (80.0, 0.9), (40.0, 0.05))])  # fmt: skip
    (home / "run" / "predictions" / "places").mkdir(parents=True)
    save_places(held, home / "run" / "predictions" / "places" / "test.csv")
    codes = np.full((20, 20), 20, np.uint8)
    codes[6:8, 6:8] = 240
    side = SIDE * MPP / 20
    write_map(home / "run" / "predictions" / "maps" / f"{file_names(test)[row]}.tif", codes,
              MapAbout(side, (20, 20), (SIDE * MPP,) * 2, 8, 32, (MPP,), 64, 32, 0.25, 1, "m", slide_digest(parse(paths(test)[row]).path), "t"))  # fmt: skip
    return home


@pytest.fixture
def home(drawn, tmp_path) -> Path:
    """A copy whose files may be moved."""
    shutil.copytree(drawn, tmp_path / "copy")
    made = tmp_path / "copy" / "run" / "study.toml"
    made.write_text(made.read_text("utf-8").replace(str(drawn), str(tmp_path / "copy")), "utf-8")
    return tmp_path / "copy"


def test_the_test_and_the_tuning_part_are_listed_under_their_codes(home, tmp_path):
    reader = open_slide_reader(home / "run", device="cpu", threads=1)
    split = Split.load(home / "run" / "split.csv").table
    wanted = split[split["part"] != "train"]
    assert {(slide.name, slide.part) for slide in reader.slides.slides} == set(
        zip(wanted["case"], wanted["part"], strict=True)
    )
    parts = [slide.part for slide in reader.slides.slides]
    assert parts == sorted(parts), "those of the test part first"
    assert reader.slides.positive == "tumour"
    with client_of(reader, tmp_path) as client:
        lines = client.get("/slides").json()["slides"]
        assert not any(line["missing"] for line in lines)
        assert {line["label"] for line in lines} == {"tumour", "normal"}
        (mapped,) = (line for line in lines if line["heat_map"])
        told = client.get("/slide", params={"slide": mapped["key"]}).json()
        assert (told["width"], told["height"], told["mpp"], told["threshold"]) == (SIDE * MPP, SIDE * MPP, MPP, 0.7)
        assert told["outlines"]
        found = [[each[name] for name in ("number", "x", "y", "score", "area")] for each in told["lesions"]]
        assert found == [[1, 80.0, 250.0, 0.9, 0.05], [2, 60.0, 250.0, 0.5, None]], "as the run judged them"
        assert client.get("/slides").json()["facts"] == [
            "scores of places are means over 3 × 3 cells of the heat map, as tuning slides chose"
        ]
        everything = client.get("/slides").text + "".join(
            client.get("/slide", params={"slide": line["key"]}).text for line in lines
        )
    for word in (str(home), ".tif", "slides/", *(f'"p{number:02d}"' for number in range(8))):
        assert word not in everything
    assert client.get("/").text.count("OpenSeadragon") == 1


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("case,x\n1,2\n")], ids=["gone", "cut"])
def test_without_the_places_of_the_run_a_slide_says_so(damage, home, tmp_path):
    damage(home / "run" / "predictions" / "places" / "test.csv")
    with client_of(open_slide_reader(home / "run", device="cpu", threads=1), tmp_path) as client:
        (mapped,) = (line for line in client.get("/slides").json()["slides"] if line["heat_map"])
        told = client.get("/slide", params={"slide": mapped["key"]}).json()
    assert told["lesions"] == []
    assert any("the places found on it cannot be read" in fact for fact in told["facts"])
    assert {layer["name"] for layer in told["layers"]} == {"slide", "heat-map"}


def test_where_slides_have_moved_the_page_says_so(home, tmp_path):
    """One, which is told by its line; then all of them."""
    (home / "data" / "slides" / "s00.tif").rename(tmp_path / "s00.tif")
    with client_of(open_slide_reader(home / "run", device="cpu", threads=1), tmp_path) as client:
        lines = client.get("/slides").json()["slides"]
        assert sum("not where the run's table says" in line["missing"] for line in lines) == 1
        assert [client.get("/slide", params={"slide": line["key"]}).status_code for line in lines] == [
            404 if line["missing"] else 200 for line in lines
        ]
    (home / "data" / "slides").rename(tmp_path / "elsewhere")
    with client_of(open_slide_reader(home / "run", device="cpu", threads=1), tmp_path) as client:
        assert all(line["missing"] for line in client.get("/slides").json()["slides"])


def test_without_its_table_they_are_listed_and_none_is_shown(home, tmp_path):
    (home / "data" / "slides.csv").unlink()
    with client_of(open_slide_reader(home / "run", device="cpu", threads=1), tmp_path) as client:
        answer = client.get("/slides").json()
        assert answer["facts"][:1] == [
            "the run's table is not where it was, or has changed, so that no slide can be shown"
        ]
        assert len(answer["slides"]) > 2
        assert all(line["missing"] for line in answer["slides"])


def test_another_run_is_refused(home):
    assert reads_slides(home / "run")
    assert not reads_slides(home / "data")
    with pytest.raises(InputError, match="not of whole slides"):
        open_slide_reader(home / "data")


def test_every_slide_of_a_case_is_shown_under_a_name_of_its_own(home):
    study = Study.load(home / "run" / "study.toml")
    cases = steps.RunContext(study, home / "run").cases()
    several = replace(cases, table=cases.table.assign(case="C1"))
    shown = list(_slides(several, "test", home / "run", {"C1": 0.5}, True))
    assert len({slide.name for slide in shown}) == len(cases)
    assert {slide.score for slide in shown} == {0.5}
