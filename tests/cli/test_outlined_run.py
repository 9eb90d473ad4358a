"""A run that outlines objects, from the command to its pages, on phantoms: small, and with a training of seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError
from overread.synthetic.cells.microscopes import draw_microscopes

RECIPE = ["--recipe", "scratch", "--set", "segmentation.tile=64", "--set", "segmentation.tiles=8", "--epochs", "1"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return draw_microscopes(tmp_path_factory.mktemp("cells"), images=(14, 12, 12), cells=(3, 6), size=64)


def overread(*words: object):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


def command(table: Path, home: Path) -> list[str]:
    return ["run", str(table), "--image", "image", "--mask", "mask", "--source", "microscope", "--patient", "patient", "--pixel-size", "pixel_size",
            "--test", "0.6", "--tuning", "0.15", "-o", str(home), *RECIPE]  # fmt: skip


@pytest.fixture(scope="module")
def run(table, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("run") / "nuclei"
    done = overread(*command(table, home))
    assert done.exit_code == 0, done.output + repr(done.exception)
    return home


def test_new_images_are_never_outlined_into_their_own_folder(table, run):
    """A second call would take the label images of the first for images."""
    images = next(path for path in table.parent.iterdir() if path.is_dir())
    for home in (images, images / "new"):
        done = overread("predict", run, images, "-o", home)
        assert isinstance(done.exception, InputError), done.output
        assert "would lie in the folder of the images" in str(done.exception)
    assert not (images / "new").exists()


def test_the_command_of_the_issue_leaves_what_it_promises(run):
    metrics = {
        (e["metric"], e["of"]): e
        for e in json.loads((run / "evaluation/metrics.json").read_text("utf-8"))
        if not e["where"]
    }
    for name in ("ap@0.5", "ap", "f1@0.5", "pq", "merges", "splits"):
        assert {"value", "low", "high", "method", "patients"} <= set(metrics[name, ""]), name
    test = pd.read_csv(run / "predictions/test.csv")
    for row in test.to_dict("records"):
        labels = cv2.imread(str(run / "predictions" / row["predicted"]), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint16
        assert labels.shape == (64, 64)
        assert row["predicted"] == f"test/{row['case']}.png"
    for name in ("cases.csv", "split.proof.json", "audit.json", "model/model.safetensors", "predictions/tuning.csv", "evaluation/instances.json",
                 "evaluation/images.csv", "overlays/overlays.json", "report.html", "model_card.md"):  # fmt: skip
        assert (run / name).exists(), name
    assert {e["where"].get("source") for e in json.loads((run / "evaluation/metrics.json").read_text("utf-8"))} >= {
        "A",
        "B",
        "C",
    }


def test_a_network_that_no_u_net_is_made_of_is_refused_before_anything_is_read(table, tmp_path):
    done = overread(*command(table, tmp_path / "run"), "--backbone", "vit_tiny_patch16_224")
    assert "gives no maps" in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_no_name_and_no_path_is_in_the_run(run, table):
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".jsonl", ".html", ".md", ".svg"):
            text = path.read_text("utf-8")
            assert str(table.parent) not in text, path.name
            assert "A0001" not in text, path.name


def test_each_stage_is_a_command_and_a_second_look_is_none(run):
    looks = (run / "ledger.jsonl").read_text("utf-8")
    for words in (["predict", run], ["evaluate", run], ["report", run]):
        done = overread(*words)
        assert done.exit_code == 0, done.output + repr(done.exception)
    assert (run / "ledger.jsonl").read_text("utf-8") == looks
    assert "ap@0.5" in overread("evaluate", run).output


def test_what_the_run_cannot_give_is_refused_in_one_sentence(run, table):
    wrong = (["similar", run], ["explain", run], ["calibrate", run], ["curve", run], ["checklist", run], ["lr-find", run],
             ["export", run, "--onnx"], ["evaluate", run, "--sensitivity", "0.9"], [*command(table, run.parent / "x"), "--sensitivity", "0.9"])  # fmt: skip
    for words in wrong:
        done = overread(*words)
        assert isinstance(done.exception, InputError), (words, done.output, done.exception)
        said = str(done.exception)
        assert "outlines" in said, said
    assert not (run.parent / "x" / "model").exists()


def test_a_table_of_new_images_stands_under_the_codes_of_the_run(run, table, tmp_path):
    """Its patients are known again, its names in no file, and microns go along without masks too."""
    few = table.parent / "few.csv"
    pd.read_csv(table, dtype=str)[::6].to_csv(few, index=False)
    done = overread("predict", run, few, "--image", "image", "--patient", "patient", "--pixel-size", "pixel_size", "-o", tmp_path / "new")  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    found, parts = pd.read_csv(tmp_path / "new" / "outlines.csv"), pd.read_csv(run / "split.csv")
    learned = set(parts["patient"][parts["part"] != "test"])
    assert set(found["patient"]) <= set(parts["patient"])
    assert list(found["split"] == "seen") == [who in learned for who in found["patient"]]
    assert 0 < (found["split"] == "seen").sum() < len(found) == 7
    assert found["pixel_size"].tolist() == pd.read_csv(few)["pixel_size"].tolist()
    for path in (tmp_path / "new").rglob("*"):
        assert "A0001" not in path.name
        assert path.suffix not in (".csv", ".html", ".json") or "A0001" not in path.read_text("utf-8")
    one = next((table.parent / "images").iterdir())
    done = overread("predict", run, one, "--pixel-size", "0.5", "-o", tmp_path / "one")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert pd.read_csv(tmp_path / "one" / "outlines.csv")["pixel_size"].tolist() == [0.5]
    for option in ("--patient", "--case"):
        assert f"{option} names a column" in str(overread("predict", run, one, option, "anna").exception)


def test_new_images_are_outlined_and_objects_leave_for_other_programs(run, table, tmp_path):
    done = overread("predict", run, table.parent / "images", "-o", tmp_path / "new")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert len(pd.read_csv(tmp_path / "new" / "outlines.csv")) == 38
    done = overread("predict", run, table, "--mask", "mask", "-o", tmp_path / "judged")
    assert done.exit_code == 0, done.output + repr(done.exception)
    for kind, ending in (("--labels", ".tif"), ("--geojson", ".geojson")):
        done = overread("export", run, kind, "-o", tmp_path / kind)
        assert done.exit_code == 0, done.output + repr(done.exception)
        files = sorted((tmp_path / kind).glob(f"*{ending}"))
        test = pd.read_csv(run / "predictions/test.csv")
        assert [file.stem for file in files] == sorted(test["case"])
        for file, case in zip(files, sorted(test["case"]), strict=True):
            labels = cv2.imread(str(run / "predictions/test" / f"{case}.png"), cv2.IMREAD_UNCHANGED)
            if ending == ".tif":
                assert np.array_equal(tifffile.imread(file), labels)
                assert list(pd.read_csv(file.with_suffix(".csv"))["index"]) == list(range(1, labels.max() + 1))
            else:
                assert len(json.loads(file.read_text("utf-8"))["features"]) == labels.max()


@pytest.mark.skipif(sys.platform == "win32", reason="a process is killed by a signal")
@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_result(run, table, tmp_path):
    """spec/faults: kill -9 at times all over the run; the files are those of a run that was never stopped."""
    home, waits = tmp_path / "killed", iter((4.0, 6.0, 8.0, 10.0, 12.0))
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-m", "overread.cli.main", *command(table, home)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        wait = next(waits, None)
        if wait is None:
            assert process.wait(300) == 0
            break
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    salted = {
        name: pd.read_csv(folder / "predictions/test.csv")["case"].tolist()
        for name, folder in (("a", run), ("b", home))
    }
    assert salted["a"] == salted["b"]
    for case in salted["a"]:
        files = [(folder / "predictions/test" / f"{case}.png").read_bytes() for folder in (run, home)]
        assert files[0] == files[1], "another outline after a kill"
    assert (run / "evaluation/metrics.json").read_bytes() == (home / "evaluation/metrics.json").read_bytes()
