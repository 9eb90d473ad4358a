"""`overread grid` from the shell: flags, the table, the folder opened again."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.grid import _is_known
from overread.cli.main import app
from overread.core.errors import InputError, OverreadError
from overread.study.question import Study


def call(*words):
    found = CliRunner().invoke(app, ["grid", *map(str, words)])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def words(phantom, out):
    return (phantom, "--image", "image", "--label", "diagnosis", "--patient", "patient", "--source", "microscope", "--names", "keep", "--tuning", "0.2",
            "--recipe", "features", "--image-size", "32", "--set", "penalties=[0.01]", "--threads", "1", "--offline", "-o", out)  # fmt: skip


def test_a_grid_is_made_opened_again_and_asked_for_the_readers(phantom, tmp_path):
    out = tmp_path / "g"
    found = call(*words(phantom, out), "--vary", 'descriptors=[["lbp"],["intensity"]]', "--vary", "head=ridge")
    assert found.exit_code == 0, found.output
    assert "lbp, ridge" in found.stdout
    assert "weighted ensemble" in found.stdout
    assert "minus" in found.stdout
    cases = pd.read_csv(out / "cells" / "lbp-ridge" / "predictions" / "test.csv")
    cases[["case", "label"]].assign(reader="r1").to_csv(tmp_path / "readers.csv", index=False)
    again = call(
        out,
        "--part",
        "test",
        "--readers",
        tmp_path / "readers.csv",
        "--disagree",
        "lbp, ridge",
        "--disagree",
        "intensity, ridge",
        "--offline",
    )
    assert again.exit_code == 0, again.output
    assert "a reader decides" in again.stdout
    assert len((out / "ledger.jsonl").read_text().splitlines()) == 2
    told = json.loads(call(out, "--json", "--offline").stdout)
    assert told["part"] == "tuning"
    more = call(out, "--vary", "head=ridge,nearest-mean", "--offline")
    assert "lbp, nearest-mean" in more.stdout
    for typed, match in (("--seed", "--seed"), ("--set", "--settings"), ("-o", "--output")):
        with pytest.raises(InputError, match=match):
            call(out, typed, {"--seed": 4, "--set": "epochs=3", "-o": tmp_path / "other"}[typed], "--offline")
    known = call(out, "--vary", 'descriptors=[["lbp"]]', "--sensitivity", ".95", "--offline")
    assert Study.load(out / "study.toml").operating_point.sensitivity == 0.95
    assert known.stdout != more.stdout, "the point of a new rule"
    with pytest.raises(InputError, match="no more factors"):
        call(out, "--vary", "epochs=1,2")
    with pytest.raises(InputError, match="judged otherwise"):
        call(out, "--folds", "5")
    with pytest.raises(OverreadError, match="that may disagree"):
        call(out, "--disagree", "lbp", "--disagree", "intensity", "--offline")


def test_a_level_that_is_there_is_known_whatever_its_kind():
    kept = [{"name": "true", "f": True}, {"name": "lbp + hog", "f": ["lbp", "hog"]}, {"name": "f 3", "a": 1}]
    for value in (True, ["lbp", "hog"], {"a": 1}, {"name": "f 3", "a": 1}):
        assert _is_known("f", value, kept), value
    for value in (False, ["hog"], {"a": 2}, {"name": "f 3", "a": 2}):
        assert not _is_known("f", value, kept), value


def test_wrong_words_leave_nothing_behind(phantom, tmp_path):
    out = tmp_path / "g"
    for wrong, match in (
        (("--vary", "head"), "name=value"),
        (("--folds", "1"), "folds are a number"),
        (("--vary", "head=svn,ridge"), "svm"),
        (("--vary", "head=svm,ridge", "--readers", tmp_path / "none.csv"), "does not exist"),
        (("--vary", "head=svm,ridge", "--readers", "perfect", "--disagree", "svm", "--disagree", "ridg"), "ridge"),
    ):
        with pytest.raises(OverreadError, match=match):
            call(*words(phantom, out), *wrong)
    assert not out.exists() or not [path for path in out.rglob("*") if path.is_file()]
