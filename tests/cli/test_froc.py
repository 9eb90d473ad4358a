"""``overread froc``: the command, its files, its page."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError
from overread.core.files import read_rows
from overread.evaluation.results import from_file_form
from overread.reporting import words
from overread.stats.estimate import Estimate


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "marks.csv").write_text("image,score,lesion\nMRN-a,.9,1\nMRN-b,.4,1\nMRN-b,.5,\n")
    (tmp_path / "lesions.csv").write_text("image,lesion\nMRN-a,1\nMRN-b,1\n")
    (tmp_path / "images.csv").write_text("image,patient\nMRN-a,p\nMRN-b,q\nMRN-c,r\n")
    return tmp_path


def run(folder, *words):
    return CliRunner().invoke(app, ["froc", str(folder / "marks.csv"), str(folder / "lesions.csv"), *map(str, words)])


def test_the_published_pitfall(folder):
    """True positives .9 and .4, a false positive .5, two images: .9167, where two public scripts say .50."""
    found = run(folder, "--images", 2, "--json")
    assert found.exit_code == 0, found.output
    metrics = {e["metric"]: e for e in json.loads(found.stdout)}
    assert round(metrics["mean sensitivity"]["value"], 4) == 0.9167


def test_files_and_page(folder):
    found = run(folder, "--images", folder / "images.csv", "--rates", "luna16")
    assert found.exit_code == 0, found.output
    made = folder / "froc"
    names = {p.name for p in made.rglob("*") if p.is_file()}
    assert {"metrics.json", "froc.json", "froc.html", "froc.svg", "froc.png"} <= names
    page = (made / "froc.html").read_text()
    assert (folder / "evaluation" / "ledger.jsonl").exists()  # beside the marks
    assert "LUNA16" in page
    assert "3 images of 3 patients" in page
    drawn = (made / "figures" / "froc.svg").read_text()
    assert "MRN-" not in found.output + page + drawn + (made / "froc.json").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give --images"),
        (("--images", "1"), "more images than that"),
        (("--images", "2", "--rates", "luna"), "rates are not known"),
        (("--images", "2", "--tolerance", "wide"), "--tolerance is not a number"),
        (("--images", "2", "--rates", "0,1"), "must be numbers above 0"),
        (("--images", "2", "--names", "a,b"), "--names is of two tables of marks"),
        (("--images", "2", "--primary", "mean sensitivity"), "--primary is of two tables of marks"),
    ],
)
def test_faults_are_told(folder, words, told):
    found = run(folder, *words)
    assert told.lower() in (found.output + str(found.exception)).lower()
    assert found.exit_code != 0
    assert not (folder / "evaluation" / "ledger.jsonl").exists()


def test_against_other_marks(folder):
    (folder / "reader.csv").write_text("image,score,lesion\nMRN-a,.9,1\nMRN-c,.95,\n")
    found = run(
        folder, "--images", folder / "images.csv", "--against", folder / "reader.csv", "--primary", "mean sensitivity"
    )
    assert found.exit_code == 0, found.output
    assert "mean sensitivity" in found.stdout
    held = json.loads((folder / "froc-against" / "comparison.json").read_text())
    assert held["names"] == ["marks", "reader"]
    metrics = {
        (e["metric"], *e["where"].values()): e["value"]
        for e in json.loads((folder / "froc-against" / "metrics.json").read_text())
    }
    sides = [value for (metric, *side), value in metrics.items() if metric == "mean sensitivity" and side]
    gap = next(
        value for (metric, *side), value in metrics.items() if metric.startswith("mean sensitivity") and not side
    )
    assert gap == pytest.approx(sides[0] - sides[1])
    assert "MRN" not in found.output
    assert (folder / "evaluation" / "ledger.jsonl").read_text().count("marks against reader") == 1
    page = (folder / "froc-against" / "comparison.html").read_text("utf-8")
    assert f"difference {words.in_sentence(gap_of(folder))}".replace("&", "&amp;") in page
    assert {"froc.svg", "differences.svg"} <= {path.name for path in (folder / "froc-against" / "figures").iterdir()}
    assert "MRN" not in page


def gap_of(folder) -> Estimate:
    """The difference that is told first."""
    held = read_rows(Estimate, folder / "froc-against" / "metrics.json", by=from_file_form)
    return next(e for e in held if e.metric.startswith("mean sensitivity") and not e.where)


def test_against_marks_of_other_images(folder):
    (folder / "reader.csv").write_text("image,score,lesion\nMRN-a,.9,1\nMRN-z,.95,\n")
    for given, why in (
        (("--images", folder / "images.csv", "--against", folder / "reader.csv"), "not in the table of images"),
        (("--images", 3, "--against", folder / "reader.csv"), "same images and lesions"),
        (("--images", 3, "--against", folder / "marks.csv", "--names", "a"), "--names"),
    ):
        found = run(folder, *given)
        assert isinstance(found.exception, InputError)
        assert why in str(found.exception)


def test_other_marks_are_told_as_two_tables_are_compared(folder):
    """As JSON like `overread compare`: the metrics and the comparison; two files of one name are called by their folders."""
    (folder / "reader").mkdir()
    (folder / "reader" / "marks.csv").write_text("image,score,lesion\nMRN-a,.9,1\nMRN-c,.95,\n")
    found = run(folder, "--images", folder / "images.csv", "--against", folder / "reader" / "marks.csv", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["names"] == [folder.name, "reader"]
    assert told["metrics"] == json.loads((folder / "froc-against" / "metrics.json").read_text())
    stored = json.loads((folder / "froc-against" / "comparison.json").read_text())
    assert {name: told[name] for name in stored if name != "curves"} == {name: value for name, value in stored.items() if name != "curves"}  # fmt: skip
    assert "curves" not in told
