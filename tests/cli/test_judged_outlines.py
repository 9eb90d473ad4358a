"""Tables of outlines on the command line: evaluate and compare know them by their columns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_outlines import disks, written
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError, UnsoundError
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
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
    shown = json.loads(run("compare", *tables, "-o", tmp_path / "c", "--ledger", tmp_path / "l.jsonl", "--json").stdout)
    assert shown["looks"] == 1


def test_what_is_of_scores_is_refused(tables, tmp_path):
    for given, flag in (
        (("evaluate", tables[0], "--sensitivity", 0.9), "--sensitivity"),
        (("compare", *tables, "--margin", 0.1), "--margin"),
    ):
        refused = run(*given)
        assert isinstance(refused.exception, InputError)
        assert flag in str(refused.exception)
    (tmp_path / "scores.csv").write_text("case,label,p:a,p:b\n1,a,0.4,0.6\n")
    assert "outlines are compared with outlines" in str(run("compare", tables[0], tmp_path / "scores.csv").exception)
