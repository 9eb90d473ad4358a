"""Tables of outlines on the command line: evaluate and compare know them by their columns."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from drawn_outlines import disks, written
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError, UnsoundError
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
from overread.evaluation.instances.outline_readers import OutlineReading
from overread.evaluation.ledger import verify


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    rng = np.random.default_rng(5)
    good = [disks(rng, int(rng.integers(1, 9)), wobble=0.5) for _ in range(12)]
    poor = [(truth, np.roll(drawn, 2, axis=1)) for truth, drawn in good]
    folder = tmp_path_factory.mktemp("outlines")
    return [
        written(folder, images, name).save(folder / f"{name}.csv") for name, images in (("good", good), ("poor", poor))
    ]


def test_evaluate_judges_outlines_and_writes_down_the_look(tables):
    folder = tables[0].parent
    first = run("evaluate", tables[0])
    assert first.exit_code == 0, first.output
    assert "ap@0.5" in first.output
    found = InstanceEvaluation.load(folder / "evaluation")
    assert found.counts.images == 12
    page = (folder / "evaluation/evaluation.html").read_text("utf-8")
    assert "AP at IoU .5" in page
    assert f"{found['ap@0.5'].value:.3f}" in page
    assert ">c3<" not in page, "no names of images"
    assert (folder / "evaluation/figures/ap-over-iou.svg").exists()
    assert len(verify(folder / "evaluation/ledger.jsonl")) == 1
    again = run("evaluate", tables[0], "--json")
    assert {e["metric"] for e in json.loads(again.stdout)} >= {"ap", "pq", "merges", "boundary distance"}
    assert InstanceEvaluation.load(folder / "evaluation").looks == 1
    (folder / "evaluation/ledger.jsonl").unlink()
    (folder / "evaluation/ledger.head.json").unlink()
    cut = run("evaluate", tables[0])
    assert isinstance(cut.exception, UnsoundError)
    assert "was cut" in str(cut.exception)


def test_compare_compares_outlines(tables, tmp_path):
    found = run("compare", *tables, "-o", tmp_path / "c", "--ledger", tmp_path / "l.jsonl", "--primary", "ap@0.5")
    assert found.exit_code == 0, found.output
    assert "primary endpoint: ap@0.5" in found.output
    assert (tmp_path / "c/comparison.json").exists()
    assert "AP at IoU .5" in (tmp_path / "c/comparison.html").read_text("utf-8")
    assert (tmp_path / "c/figures/outline-differences.svg").exists()
    shown = json.loads(run("compare", *tables, "-o", tmp_path / "c", "--ledger", tmp_path / "l.jsonl", "--json").stdout)
    assert shown["looks"] == 1


def test_what_is_of_scores_is_refused(tables, tmp_path):
    for given, flag in (
        (("evaluate", tables[0], "--sensitivity", 0.9), "--sensitivity"),
        (("compare", *tables, "--margin", 0.1), "--margin"),
        (("compare", *tables, "--claim", "superiority"), "--claim"),
    ):
        refused = run(*given)
        assert isinstance(refused.exception, InputError)
        assert flag in str(refused.exception)
    (tmp_path / "scores.csv").write_text("case,label,p:a,p:b\n1,a,0.4,0.6\n")
    assert "outlines are compared with outlines" in str(run("compare", tables[0], tmp_path / "scores.csv").exception)


def test_readers_outline_beside_a_model(tmp_path):
    rng = np.random.default_rng(1)
    images = [disks(rng, 5, wobble=0.5) for _ in range(12)]
    model = written(tmp_path, images, "model").save(tmp_path / "model.csv")
    rows = []
    for name in ("zoe", "adam", "carl"):
        table = written(tmp_path, [(t, np.roll(t, rng.integers(-1, 2))) for t, _ in images], name).table
        rows.append(table.assign(reader=name)[["case", "reader", "predicted"]])
    pd.concat(rows).to_csv(tmp_path / "readers.csv", index=False)
    done = run("readers", tmp_path / "readers.csv", model, "--reference", "consensus")
    assert done.exit_code == 0, done.exception
    assert "reader 1 and reader 2" in done.output
    assert "zoe" not in done.output
    found = OutlineReading.load(tmp_path / "readers")
    assert found.within() in ("within", "above", "below")
    assert len(pd.read_csv(tmp_path / "readers/consensus.csv")) == 12
    assert "STAPLE" in (tmp_path / "readers/readers.html").read_text("utf-8")
    assert "--margin" in str(run("readers", tmp_path / "readers.csv", model, "--margin", 0.1).exception)
    for flag, given in (("--case", "image"), ("--reader", "who"), ("--rename-label", "a=b"), ("--derive", "x = a or b"), ("--taxonomy", "t.csv"), ("--judge-at", "top")):  # fmt: skip
        refused = run("readers", tmp_path / "readers.csv", model, flag, given).exception
        assert isinstance(refused, InputError)
        assert f"given: {flag})" in str(refused)
    kept = run(
        "readers", tmp_path / "readers.csv", "--names", "keep", "--leave-out", "carl", "-o", tmp_path / "two", "--json"
    )
    assert json.loads(kept.stdout)["readers"] == ["adam", "zoe"]


def test_readers_say_whether_patients_that_differ_in_zeros_are_the_same(tmp_path):
    rng = np.random.default_rng(2)
    images = [disks(rng, 4, wobble=0.5) for _ in range(10)]
    patients = ["7", "07", *map(str, range(20, 28))]
    rows = []
    for name in ("adam", "zoe"):
        table = written(tmp_path, images, name).table
        rows.append(table.assign(reader=name, patient=patients)[["case", "patient", "reader", "predicted"]])
    pd.concat(rows).to_csv(tmp_path / "readers.csv", index=False)
    model = written(tmp_path, images, "model")
    model.table.assign(patient=patients).to_csv(tmp_path / "model.csv", index=False)
    asked = run("readers", tmp_path / "readers.csv", tmp_path / "model.csv")
    assert "--identifiers" in str(asked.exception)
    done = run("readers", tmp_path / "readers.csv", tmp_path / "model.csv", "--identifiers", "same")
    assert done.exit_code == 0, done.exception
    assert OutlineReading.load(tmp_path / "readers").counts["images"] == 10
