"""A study whose labels come from several readers: the whole path, what it leaves, and what it never says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from phantom_readers import draw_readings

from overread.core.errors import InputError
from overread.evaluation.evaluate import Evaluation
from overread.evaluation.ledger import verify
from overread.study.context import RunContext
from overread.study.question import Study
from overread.study.steps import audit, begin, evaluate, open_study, predict, run, split, train
from overread.synthetic.cohort import draw_cohort

RECIPE = {"method": "scratch", "backbone": "cnn_small", "epochs": 1, "image_size": 32, "batch_size": 16}
#: What must come out nowhere where names are hashed.
READERS = ("Dr. KANARIENVOGEL", "Dr. PRIVATGELB", "Dr. ROTKEHLCHEN")
CASE = "ZAUNKOENIG"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A phantom cohort under names, and three readers' answers, one of them wrong often; the first case is tied."""
    home = tmp_path_factory.mktemp("graded")
    table = pd.read_csv(draw_cohort(home, patients=40, images_per_patient=(1, 1), size=32, seed=7), dtype=str)
    names = sorted(table["diagnosis"].unique())
    table["case"] = [f"{CASE}{i}" for i in range(len(table))]
    drawn = draw_readings((table["diagnosis"] == names[1]).to_numpy(), readers=3, sensitivity=[0.95, 0.9, 0.8], specificity=0.9,
                          names=(names[0], names[1]), cases=list(table["case"]), seed=2)  # fmt: skip
    drawn["reader"] = drawn["reader"].map({f"reader {i + 1}": name for i, name in enumerate(READERS)})
    first = drawn["case"] == f"{CASE}0"
    drawn.loc[first, "label"] = [names[0], names[1], ""]
    drawn = drawn[drawn["case"] != f"{CASE}1"]  # nobody read it
    drawn.to_csv(home / "answers.csv", index=False)
    wide = drawn.pivot(index="case", columns="reader", values="label").reset_index()
    wide.columns = ["case", "a", "b", "c"]
    table.drop(columns="diagnosis").to_csv(home / "metadata.csv", index=False)
    table.drop(columns="diagnosis").merge(wide, how="left").to_csv(home / "wide.csv", index=False)
    return home


def _study(home: Path, **fields: object) -> Study:
    plain = Study.from_flat(table=str(home / "metadata.csv"), image="image", case="case", patient="patient", source="microscope", tuning=0.25, test=0.3,
                  graders=str(home / "answers.csv"), seed=3, threads=1, recipe=RECIPE)  # fmt: skip
    return plain.changed(**fields)


def _again(study: Study, folder: Path) -> None:
    """A second run, without its report, which takes most of the time."""
    study, cases = open_study(study, folder)
    context = RunContext(study, folder, network=False, table=cases)
    begin(context, cases)
    for step in (audit, split, train, predict, evaluate):
        step(context)


@pytest.fixture(scope="module")
def done(home, tmp_path_factory) -> tuple[Path, list[str]]:
    folder, said = tmp_path_factory.mktemp("runs") / "done", []
    run(_study(home, margin=0.05, cost=3.0), folder, network=False, say=said.append)
    return folder, said


def test_the_labels_are_those_of_the_majority(home, done) -> None:
    answers = pd.read_csv(home / "answers.csv", keep_default_na=False)
    cases = pd.read_csv(done[0] / "cases.csv", dtype=str, keep_default_na=False)
    for i, label, share in zip(range(len(cases)), cases["label"], cases["agreement"], strict=True):
        given = [a for a in answers["label"][answers["case"] == f"{CASE}{i}"] if a]
        most = max(set(given), key=given.count) if len(given) > 2 else ""
        assert label == most
        assert (float(share) if share else None) == (round(given.count(most) / 3, 4) if most else None)


def test_undecided_cases_are_set_aside_with_the_reason(done) -> None:
    cases = pd.read_csv(done[0] / "cases.csv", dtype=str)["case"]
    excluded = pd.read_csv(done[0] / "excluded.csv", dtype=str)
    why = dict(zip(excluded["case"], excluded["reason"], strict=True))
    assert why == {cases[0]: "the readers are tied", cases[1]: "no reader answered"}


def test_agreement_is_written_and_said(done) -> None:
    folder, said = done
    found = json.loads((folder / "agreement.json").read_text())
    assert found["readers"] == ["reader 1", "reader 2", "reader 3"]
    assert found["undecided"] == {"tied": 1, "no answer": 0}
    by_name = {(e["metric"], e["of"]): e for e in found["estimates"]}
    assert {m for m, _ in by_name} >= {"agreement", "fleiss kappa", "nominal alpha", "kappa", "ceiling", "panel accuracy"}  # fmt: skip
    assert by_name["agreement", ""]["low"] < by_name["agreement", ""]["value"] < by_name["agreement", ""]["high"]
    assert any("Fleiss' kappa" in line for line in said)
    assert any("no accuracy can pass" in line for line in said)


def test_nobody_can_read_off_who_answered_or_who_it_was(done) -> None:
    folder, said = done
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert folder / "graders.csv" in files
    for word in (*READERS, *(name.split()[1] for name in READERS), CASE):
        assert not any(word in line for line in said)
        assert not [path for path in files if word.encode() in path.read_bytes() or word in path.name]


def test_the_answers_under_codes_fit_the_predictions(done) -> None:
    graders = pd.read_csv(done[0] / "graders.csv", dtype=str, keep_default_na=False)
    test = pd.read_csv(done[0] / "predictions" / "test.csv", dtype=str)
    assert set(test["case"]) <= set(graders["case"])
    assert set(graders["reader"]) == {"reader 1", "reader 2", "reader 3"}


def test_a_second_run_leaves_the_same_bytes(home, done, tmp_path) -> None:
    folder, _ = done
    names = ("cases.csv", "excluded.csv", "agreement.json", "graders.csv", "evaluation/metrics.json", "predictions/test.csv", "ledger.jsonl")  # fmt: skip
    before = {name: (folder / name).read_bytes() for name in names}
    _again(_study(home, margin=0.05, cost=3.0), folder)
    assert before == {name: (folder / name).read_bytes() for name in names}


def test_the_margin_stands_in_the_ledger_before_the_first_look(done) -> None:
    entries = verify(done[0] / "ledger.jsonl")
    assert [entry["kind"] for entry in entries] == ["declaration", "look"]
    assert entries[0]["declaration"]["margin"] == 0.05


def test_another_cost_is_judged_anew_and_nothing_is_trained_anew(home, done, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done[0], folder)
    model = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    before = Evaluation.load(folder / "evaluation").operating[0]
    _again(_study(home, margin=0.05, cost=30.0, prevalence=0.2), folder)
    result = Evaluation.load(folder / "evaluation")
    after = result.operating[0]
    assert result["ppv at prevalence"].metric == "ppv at prevalence"
    assert {"conformal", "abstention", "agreement"} <= set(result.more)
    assert result.more["agreement"]["readers"] == ["reader 1", "reader 2", "reader 3"]
    assert before.rule.startswith("cost 3:1")
    assert after.rule.startswith("cost 30:1 at prevalence 0.2")
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == model
    assert Evaluation.load(folder / "evaluation").looks == 1


def test_other_labels_need_another_folder(home, done, tmp_path) -> None:
    shutil.copytree(done[0], tmp_path / "run")
    with pytest.raises(InputError, match="different: consensus"):
        run(_study(home, margin=0.05, cost=3.0, consensus="dawid-skene"), tmp_path / "run", network=False)


def test_the_command_takes_columns_and_files(home, tmp_path) -> None:
    from typer.testing import CliRunner

    from overread.cli.main import app

    columns = ["--image", "image", "--case", "case", "--patient", "patient"]
    for number, (table, graders, rule) in enumerate(
        [("wide.csv", "a,b,c", "majority"), ("metadata.csv", str(home / "answers.csv"), "dawid-skene")]
    ):
        asked = [str(home / table), *columns, "--graders", graders, "--consensus", rule, "-o", str(tmp_path / str(number))]  # fmt: skip
        done = CliRunner().invoke(app, ["audit", *asked])
        assert "readers of" in done.output, (done.output, done.exception)
        found = json.loads((tmp_path / str(number) / "agreement.json").read_text())
        assert found["rule"] == rule
        assert ("model" in found) == (rule == "dawid-skene")
        assert Study.load(tmp_path / str(number) / "study.toml").columns.graders == graders
