"""The commands of slides on a small drawn run: a run, new slides, lesions for QuPath, marks judged again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.fixtures.drawn_slides import draw_study
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError

SMALL = ["--recipe", "scratch", "--backbone", "lenet5", "--epochs", "1", "--set", "views=1", "--set", "tiles.size=32", "--set", "tiles.mpp=[8.0]", "--set", "tiles.centre=16",
         "--set", "tiles.stride=16", "--set", "tiles.number=64", "--set", "tiles.jitter=2"]  # fmt: skip
COLUMNS = ["--image", "slide", "--label", "tumour", "--patient", "patient", "--source", "scanner", "--outlines", "outlines"]  # fmt: skip


def overread(*words: object):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


def refused(*words: object) -> str:
    """What a command says that it cannot do."""
    done = overread(*words)
    assert isinstance(done.exception, InputError), done.output + repr(done.exception)
    return str(done.exception)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return draw_study(tmp_path_factory.mktemp("slides"), patients=18, small=0)


@pytest.fixture(scope="module")
def run(table, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("run") / "nodes"
    done = overread("run", table, *COLUMNS, *SMALL, "--test", "0.56", "--tuning", "0.2", "--threads", 1, "--despite", "shortcut", "-o", home)  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "score of a slide: " in done.output
    return home


def test_a_run_judges_slides_and_the_search_for_lesions(run):
    """The lesions that the folder of outlines draws are those that are judged, and each slide has its map."""
    test = pd.read_csv(run / "predictions" / "test.csv", dtype={"case": str})
    assert len(test) == 10
    assert {f"{case}.tif" for case in test["case"]} <= {path.name for path in (run / "predictions" / "maps").iterdir()}
    lesions = pd.read_csv(run / "evaluation" / "lesions" / "lesions.csv", dtype=str)
    assert set(lesions["image"]) == set(test["case"][test["label"] == "tumour"])
    assert (run / "evaluation" / "lesions" / "froc.json").exists()


def test_the_tables_of_a_run_are_judged_again_to_the_same_numbers(run, tmp_path):
    home = run / "evaluation" / "lesions"
    done = overread("froc", home / "marks.csv", home / "lesions.csv", "--images", home / "images.csv", "-o", tmp_path / "froc")  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    again, before = (
        {e["metric"]: e["value"] for e in json.loads((folder / "metrics.json").read_text("utf-8"))}
        for folder in (tmp_path / "froc", home)
    )
    assert again["mean sensitivity"] == before["mean sensitivity"]


def test_new_slides_are_read_one_by_one_and_as_a_table(table, run, tmp_path):
    slides = sorted((table.parent / "slides").iterdir())[:2]
    done = overread("predict", run, *slides, "--outlines", table.parent / "outlines", "--threads", 1, "-o", tmp_path / "new")  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "2 slides; " in done.output
    assert (
        "slides.html: the slides beside their heat maps" in done.output.partition("next: ")[2]
    )  # the viewer shows a run's own slides
    found = pd.read_csv(tmp_path / "new" / "predictions.csv", dtype={"case": str})
    assert set(found["case"]) == {"s00.tif", "s01.tif"}
    assert set(pd.read_csv(tmp_path / "new" / "lesions.csv")["case"]) == {"s01.tif"}  # every second one has some
    pd.read_csv(table).iloc[:2].to_csv(table.parent / "new.csv", index=False)
    done = overread("predict", run, table.parent / "new.csv", *COLUMNS, "--names", "keep", "--threads", 1, "-o", tmp_path / "table")  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    told = pd.read_csv(tmp_path / "table" / "predictions.csv")
    assert told["label"].tolist() == ["normal", "tumour"]
    assert sorted(told["p:tumour"]) == sorted(found["p:tumour"])


def test_new_slides_are_never_mapped_into_their_own_folder(table, run, tmp_path):
    """A second call would take the maps of the first for slides; and a slide that lies among the maps would be written over."""
    slides, before = table.parent / "slides", sorted((table.parent / "slides").iterdir())
    for home in (slides, slides / "new", slides / ".." / "slides" / "new"):
        assert "would lie in the folder of the images" in refused("predict", run, slides, "-o", home)
    assert sorted(slides.iterdir()) == before
    maps = tmp_path / "new" / "maps"
    maps.mkdir(parents=True)
    held = maps / "s00.tif"
    held.write_bytes(before[0].read_bytes())
    pd.read_csv(table).iloc[:1].assign(slide=str(held), case="s00").to_csv(tmp_path / "new.csv", index=False)
    for given in ([held], [maps], [tmp_path / "new.csv", *COLUMNS[:2], "--case", "case", "--names", "keep"]):
        assert "lie in the folder that is written into" in refused("predict", run, *given, "-o", tmp_path / "new")
    assert held.read_bytes() == before[0].read_bytes()


def test_the_lesions_of_a_run_are_written_for_qupath(run, tmp_path):
    done = overread("export", run, "--geojson", "-o", tmp_path / "lesions")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "10 slides of the test part" in done.output
    written = sorted((tmp_path / "lesions").glob("*.geojson"))
    assert len(written) == 10
    assert all(json.loads(path.read_text("utf-8"))["type"] == "FeatureCollection" for path in written)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain", "RUN"), "reads slides tile by tile, and overread explain is of models that see whole images"),
        (("similar", "RUN"), "reads slides tile by tile"),
        (("export", "RUN", "--onnx"), "reads slides tile by tile"),
        (("export", "RUN", "--labels"), "ay --geojson"),
        (("measure", "RUN"), "outlines no objects"),
        (("predict", "RUN", "SLIDES", "--as-trained"), "a slide is read by its tiles"),
        (("predict", "RUN", "SLIDES", "--mask", "m"), "a slide is read by its tiles"),
        (("predict", "RUN", "SLIDES", "--label", "tumour"), "--label names a column, and there is no table"),
    ],
)
def test_what_is_not_of_slides_is_refused_in_a_sentence(table, run, words, said):
    given = {"RUN": run, "SLIDES": table.parent / "slides"}
    assert said in refused(*(given.get(word, word) for word in words))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--outlines", "drawn"), "outlines"),
        (("--outlines", "slides.csv"), "one file of outlines is that of one slide"),
        (("--slides", "no"), "outlines of lesions are those of slides"),
        (("--label", "patient"), "slides are told with disease from without"),
        (("--set", "tiles.mpp=[]"), "mpp"),
        (("--set", "tiles.stride=0"), "stride"),
        (("--set", "image_size=64"), "tiles are shown as they are"),
        (("--set", "members=3"), "one network is taught on tiles"),
        (("--fusion", "mean"), "nothing to be fused"),
        (("--set", "tiles.pooling=attention", "--set", "tiles.mpp=[4,8]"), "bags are of tiles of one magnification"),
    ],
)
def test_a_wrong_input_is_told_before_anything_is_written(table, tmp_path, more, said):
    words = [*COLUMNS, *SMALL, *more]  # of two of the same option the last counts
    assert said in refused("run", table, *words, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_slides_are_shown_by_their_overviews_and_the_plan_is_that_of_their_tiles(table, tmp_path):
    """Nothing is said of a network for the overviews, which are a few pixels wide and seen by none."""
    done = overread("show", table, *COLUMNS, *SMALL, "-o", tmp_path)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "image size" not in done.output
    page = (tmp_path / "show.html").read_text("utf-8")
    assert "Tiles of the slides, 32 × 32 pixels at 8 µm a pixel" in page
    assert "overviews of whole slides at 32 µm a pixel" in page
    assert "Augmented" not in page
    assert "small network" not in page


def test_slides_that_are_shown_for_attention_have_the_plan_of_bags(table, tmp_path):
    done = overread("show", table, *COLUMNS, *SMALL, "--set", "tiles.pooling=attention", "--fusion", "gated-attention", "-o", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "slides a step: 1" in done.output, "64 tiles at a time, and a bag of 128"
    assert "eight orientations" not in done.output, "which tiles of outlined lesions would learn from"
