"""The steps of a run that outlines objects: what they write, that they go on where they stopped, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cases.cases import Cases, mask_paths, paths
from overread.cli.main import app
from overread.core.errors import InputError
from overread.core.files import read_json
from overread.evaluation.ledger import verify
from overread.images.outlines.outlines import outlines_of, read_outlines, write_labels
from overread.learning import predict
from overread.predictions import PredictedBy
from overread.reporting.run import read_run
from overread.study import outline_steps, steps
from overread.study.context import key_of
from overread.study.question import Study
from overread.tasks.target import Target


def draw(folder: Path, images: int = 40) -> Path:
    """A table of images under two microscopes, with squares and their masks."""
    rows = []
    for number in range(images):
        rng = np.random.default_rng(number)
        labels = np.zeros((48, 64), np.int32)
        for label in range(1, 6):
            top, left = rng.integers(0, 38), rng.integers(0, 54)
            labels[top : top + 8, left : left + 8] = label
        grey = np.where(labels > 0, 190, 20 + number).astype(np.uint8)
        name = f"patient {number}"
        cv2.imwrite(str(folder / f"{name}.png"), grey)
        write_labels(folder / "masks" / f"{name}.png", outlines_of(labels).labels)
        rows.append(
            {"file": f"{name}.png", "outlines": f"masks/{name}.png", "who": name, "microscope": "AB"[number % 2]}
        )
    path = folder / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


class Stopped(RuntimeError):
    """The process is killed."""


class Fake:
    """A segmenter that finds what is bright, and can be stopped after some images."""

    digest, facts = "ab" * 32, PredictedBy("ab" * 32, Target("segmentation", ("object",)))

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.most = 10**6

    def has_seen(self, patients):
        return []

    def segment(self, model, cases, *, device="", threads=0, progress=None, say=None):
        for row, path in enumerate(paths(cases)):
            if len(self.asked) >= self.most:
                raise Stopped
            self.asked.append(Path(path).name)
            mask = (cv2.imread(path, 0) > 100).astype(np.uint8)
            yield row, outlines_of(cv2.connectedComponents(mask, connectivity=4)[1])


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    monkeypatch.setitem(sys.modules, "overread.cells.segment", SimpleNamespace(segment=made.segment))
    monkeypatch.setattr(predict, "load_model", lambda folder: made)
    return made


@pytest.fixture
def context(tmp_path, fake):
    table = draw(tmp_path / "data")
    study = Study.from_flat(
        table=str(table), image="file", mask="outlines", patient="who", source="microscope", test=0.4
    )
    study, cases = steps.open_study(study, tmp_path / "run")
    context = steps.RunContext(study, tmp_path / "run", cache=tmp_path / "cache", table=cases)
    steps.set_up(context, cases)
    return context


def label_files(context, part: str) -> list[Path]:
    return sorted((context.folder / "predictions" / part).glob("*.png"))


def test_a_folder_with_a_trained_segmenter_is_not_taken_by_another_study(context):
    (context.folder / "checkpoints").mkdir()
    (context.folder / "checkpoints" / "segmentation.json").write_text("{}")
    steps.begin(context, context.cases())
    other = steps.RunContext(
        context.study.changed(test=0.3), context.folder, cache=context.cache, table=context.cases()
    )
    with pytest.raises(InputError, match="the training of another study.*test"):
        steps.begin(other, context.cases())


def test_each_image_gets_a_label_image_under_its_code_beside_the_true_one(context, tmp_path):
    steps.predict(context)
    table = pd.read_csv(context.folder / "predictions" / "test.csv")
    cases = context.usable()
    assert set(table["case"]) <= set(cases.table["case"])
    assert len(label_files(context, "test")) == len(table) == 16
    where = dict(zip(cases.table["case"], cases.table["mask"], strict=True))
    for row in table.to_dict("records"):
        truth = read_outlines(tmp_path / "data" / where[row["case"]])
        assert np.array_equal(cv2.imread(str(context.folder / "predictions" / row["truth"]), -1), truth.labels)
        assert cv2.imread(str(context.folder / "predictions" / row["predicted"]), -1).dtype == np.uint16
    for path in context.folder.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".jsonl"):
            assert "patient 1" not in path.read_text("utf-8"), f"a name in {path.name}"


def test_a_prediction_that_was_stopped_goes_on_with_the_images_that_are_left(context, fake):
    fake.most = 9
    with pytest.raises(Stopped):
        steps.predict(context)
    first = list(fake.asked)
    there = {path.name: path.stat().st_mtime_ns for part in ("tuning", "test") for path in label_files(context, part)}
    assert len(there) == 9
    assert not (context.folder / "predictions" / "test.csv").exists()
    fake.most = 10**6
    steps.predict(context)
    assert len(fake.asked) == len(set(fake.asked)) == len(first) + len(fake.asked[9:]), "no image twice"
    again = {path.name: path.stat().st_mtime_ns for part in ("tuning", "test") for path in label_files(context, part)}
    assert {name: again[name] for name in there} == there, "what was there stays"
    asked = len(fake.asked)
    steps.predict(context)
    assert len(fake.asked) == asked, "done is done"


def test_another_model_outlines_every_image_anew(context, fake):
    steps.predict(context)
    asked = len(fake.asked)
    fake.digest = "cd" * 32
    steps.predict(context)
    assert len(fake.asked) == 2 * asked


def test_masks_that_were_changed_in_their_place_are_told_by_what_they_hold(context, fake, tmp_path):
    steps.predict(context)
    asked, before = len(fake.asked), context.mask_digest(context.usable())
    mask = next(iter(mask_paths(context.usable())))
    labels = read_outlines(mask).labels
    labels[0, 0] = labels.max() + 1
    write_labels(mask, labels)
    assert context.mask_digest(context.usable()) != before
    steps.predict(context)
    assert len(fake.asked) == 2 * asked


def test_boxes_are_drawn_into_images_of_their_own_size(context, tmp_path, fake):
    rows = [(Path(image).name, 5, 5, 25, 25) for image in paths(context.usable())]
    boxes = tmp_path / "data" / "boxes.csv"
    pd.DataFrame(rows, columns=["file", "xmin", "ymin", "xmax", "ymax"]).to_csv(boxes, index=False)
    study = context.study.changed(mask=str(boxes))
    study, cases = steps.open_study(study, tmp_path / "boxes")
    other = steps.RunContext(study, tmp_path / "boxes", cache=tmp_path / "cache", table=cases)
    steps.set_up(other, cases)
    steps.predict(other)
    truths = sorted((other.folder / "predictions" / "truth").glob("*.png"))
    assert len(truths) == len(label_files(other, "test")) + len(label_files(other, "tuning"))
    assert (cv2.imread(str(truths[0]), -1) > 0).sum() == pytest.approx(np.pi * 100, rel=0.03)


def test_the_test_part_is_judged_once_through_the_ledger_and_shown(context):
    for step in (steps.predict, steps.evaluate, steps.show_errors, steps.show_more, steps.report):
        step(context)
        step(context)
    looks = [entry for entry in verify(context.folder / "ledger.jsonl") if entry.get("kind", "look") == "look"]
    assert len(looks) == 1, "a second call is no second look"
    stored = {e["metric"] for e in read_json(context.folder / "evaluation" / "metrics.json")}
    assert {"ap@0.5", "ap", "f1@0.5", "pq", "merges", "splits", "count error"} <= stored
    run = read_run(context.folder)
    assert len(run.overlays) == 12
    assert [row.source for row in run.sizes] == ["A", "B"]
    assert (context.folder / "report.html").exists()
    assert not (context.folder / "index").exists()
    assert not (context.folder / "checklists").exists()
    assert "patient 1" not in (context.folder / "report.html").read_text("utf-8")


def test_outlines_are_judged_by_a_column_that_the_run_did_not_ask_for(context, tmp_path):
    steps.predict(context)
    table = pd.read_csv(tmp_path / "data" / "table.csv")
    stain = dict(zip(table["who"], np.where(np.arange(len(table)) % 3, "dark", "pale"), strict=True))
    table.assign(stain=table["who"].map(stain)).to_csv(tmp_path / "data" / "table.csv", index=False)
    assert "tint" in str(CliRunner().invoke(app, ["evaluate", str(context.folder), "--subgroup", "tint"]).exception)
    done = CliRunner().invoke(app, ["evaluate", str(context.folder), "--subgroup", "stain", "--no-figures"])
    assert done.exit_code == 0, repr(done.exception)
    stored = read_json(context.folder / "evaluation" / "metrics.json")
    assert {e["where"].get("stain") for e in stored} >= {"dark", "pale"}
    assert not (context.folder / "evaluation" / "evaluation.html").exists()
    held = pd.read_csv(context.folder / "predictions" / "test.csv").set_index("case")["stain"]
    patients = key_of(context.study).set_index("code")["patient"]
    assert all(held[case] == stain[patients[case]] for case in held.index)
    assert CliRunner().invoke(app, ["evaluate", str(context.folder), "--json"]).exit_code == 0
    assert (context.folder / "evaluation" / "evaluation.html").exists()


def test_names_of_files_are_safe_and_told_apart():
    names = ["a", "A", "../up", "x/y", "a b", "a", "." * 3, "ü"]
    table = pd.DataFrame(
        {
            "image": "i.png",
            "case": names,
            "patient": "p",
            "source": "",
            "view": "",
            "time": "",
            "split": "",
            "mask": "m.png",
        }
    )
    made = outline_steps.file_names(Cases(table, Target("segmentation", ("object",))))
    assert len({name.casefold() for name in made}) == len(names)
    assert all(Path(name).name == name and not name.startswith(".") and name.isascii() for name in made)
    assert made[0] == "a"
    parts = [names_of("1", "1"), names_of("1-2"), names_of("1", "1", "1-2")]
    assert parts == [["1", "1@2"], ["1-2"], ["1", "1@2", "1-2"]]  # parts lie in one folder
    assert not set(parts[0]) & set(parts[1])


def names_of(*cases):
    table = pd.DataFrame({"image": "i.png", "case": cases, "patient": "p", "source": "", "view": "", "time": "", "split": "", "mask": "m.png"})  # fmt: skip
    return outline_steps.file_names(Cases(table, Target("segmentation", ("object",))))


def test_a_run_without_outlines_says_what_makes_them(context):
    with pytest.raises(InputError, match="its test part yet.*predict"):
        outline_steps.predicted_of(context.folder, "test")
    with pytest.raises(InputError, match="no outlines of its tuning part"):
        outline_steps.exported_images(context.folder, "tuning")
