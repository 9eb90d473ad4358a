"""``overread shift`` where objects are outlined: a segmenter of each microscope, judged at every one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError
from overread.images.outlines.outlines import write_labels
from overread.synthetic.cells.microscopes import draw_microscopes


def overread(*words: object):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    table = draw_microscopes(folder / "cells", images=(48, 48, 0), cells=(3, 6), size=64)
    done = overread("run", table, "--image", "image", "--mask", "mask", "--source", "microscope", "--patient", "patient", "--test", "0.45",
                    "--tuning", "0.05", "-o", folder / "run", "--cache", folder / "cache", "--recipe", "scratch", "--epochs", "1",
                    "--set", "segmentation.tile=64", "--set", "segmentation.tiles=8")  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    return folder / "run"


@pytest.mark.slow
def test_each_microscope_teaches_a_segmenter_that_is_judged_at_every_one(run):
    looks = (run / "ledger.jsonl").read_text("utf-8").count('"look"')
    done = overread("shift", run, "--part", "test", "--cache", run.parent / "cache", "--offline")
    assert done.exit_code == 0, done.output + repr(done.exception)
    found = json.loads((run / "shift" / "shift.json").read_text("utf-8"))
    assert found["metric"] == "ap@0.5"
    assert [(c["trained_on"], c["source"], c["inside"]) for c in found["cells"]] == [
        ("A", "A", True), ("A", "B", False), ("B", "A", False), ("B", "B", True)]  # fmt: skip
    assert (run / "ledger.jsonl").read_text("utf-8").count('"look"') == looks + 2, "each segmenter is a look"
    assert (run / "shift" / "shift.html").exists()
    patients = pd.read_csv(run / "split.csv").set_index("case")["part"]
    for steps in (run / "shift" / "steps").iterdir():
        outlined = pd.read_csv(steps / "predictions" / "test.csv")
        assert set(patients.loc[outlined["case"]]) == {"test"}
    again = overread("shift", run, "--part", "test", "--cache", run.parent / "cache", "--offline")
    assert again.exit_code == 0
    assert again.output.count("kept from before") == 2


def test_a_table_says_who_was_trained_on_what(tmp_path):
    labels = np.zeros((24, 24), np.int32)
    labels[2:9, 2:9], labels[12:20, 12:20] = 1, 2
    rows = []
    for taught in "AB":
        for place in range(24):
            source = "AB"[place % 2]
            drawn = labels if source == taught else np.where(labels == 1, 1, 0)
            name = f"{taught}{place}"
            write_labels(tmp_path / "p" / f"{name}.png", drawn)
            write_labels(tmp_path / "t" / f"{name}.png", labels)
            rows.append((f"image {place}", f"p{place}", source, taught, f"p/{name}.png", f"t/{name}.png"))
    pd.DataFrame(rows, columns=["case", "patient", "source", "trained_on", "predicted", "truth"]).to_csv(
        tmp_path / "all.csv", index=False
    )
    done = overread("shift", tmp_path / "all.csv")
    assert done.exit_code == 0, done.output + repr(done.exception)
    cells = json.loads((tmp_path / "shift" / "shift.json").read_text("utf-8"))["cells"]
    assert {(c["trained_on"], c["source"]): c["estimate"]["value"] for c in cells} == {
        ("A", "A"): 1.0, ("A", "B"): 0.5, ("B", "A"): 0.5, ("B", "B"): 1.0}  # fmt: skip
    one = tmp_path / "one.csv"
    pd.read_csv(tmp_path / "all.csv").query("trained_on == 'A'").drop(columns="trained_on").to_csv(one, index=False)
    done = overread("shift", one, "--trained-on", "all but B", "--output", tmp_path / "one")
    assert done.exit_code == 0, done.output + repr(done.exception)
    cells = json.loads((tmp_path / "one" / "shift.json").read_text("utf-8"))["cells"]
    assert [(c["source"], c["inside"]) for c in cells] == [("A", True), ("B", False)]
    wrong = overread("shift", tmp_path / "all.csv", "--trained-on", "hospital")
    assert isinstance(wrong.exception, InputError)
    assert "no column 'hospital'" in str(wrong.exception)
