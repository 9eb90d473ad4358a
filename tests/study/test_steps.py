"""The whole path on a phantom cohort: files, resuming, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tomli_w

from overread.cases.split import Split
from overread.core.errors import ArgumentError, InputError, OverreadError, UnavailableError, UnsoundError
from overread.core.files import folder_lock, read_json
from overread.core.progress import Clock
from overread.evaluation.evaluate import Evaluation
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.study import image_steps, steps
from overread.study.context import RunContext
from overread.study.question import Study
from overread.study.steps import predict, run, split

RECIPE = {"method": "scratch", "backbone": "cnn_small", "epochs": 2, "image_size": 32, "batch_size": 16}

#: What is the same, byte for byte, wherever and however often a study is run.
BYTES = (
    "split.csv",
    "predictions/test.csv",
    "predictions/tuning.csv",
    "model/model.safetensors",
    "evaluation/metrics.json",
)


def _study(table: Path, **fields: object) -> Study:
    plain = Study.from_flat(table=str(table), image="image", label="diagnosis", patient="patient", source="microscope", subgroups=("sex",),
                  seed=3, threads=1, recipe=RECIPE, tuning=0.2)  # fmt: skip
    return plain.changed(**fields)


@pytest.fixture(scope="module")
def done(phantom, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "done"
    run(_study(phantom), folder, network=False)
    return folder


def test_a_run_leaves_the_files_of_the_design(done) -> None:
    for name in ("study.toml", "record.json", "cases.csv", "excluded.csv", "audit.json", "split.csv", "split.proof.json",
                 "model/model.safetensors", "model/model.json", "checkpoints/last.safetensors", "predictions/tuning.csv",
                 "predictions/test.csv", "evaluation/metrics.json", "evaluation/operating.json", "ledger.jsonl", "report.html",
                 "model_card.md", "explanations/gallery.json", "explanations/maps.json"):  # fmt: skip
        assert (done / name).stat().st_size > 0, name
    assert list((done / "tensorboard").iterdir())
    assert list((done / "evaluation" / "figures").glob("*.svg"))
    assert not list(done.rglob("*.part"))
    assert Study.load(done / "study.toml").training.seed == 3


@pytest.mark.parametrize(
    ("rule", "told"),
    [({"deploy_to": "microscop == 'A'"}, "no column"), ({"deploy_to": "source == 'nowhere'"}, "no case fulfils"), ({"leave_out": "nowhere"}, "no such source")],
)  # fmt: skip
def test_a_rule_of_splitting_that_does_not_fit_is_told_before_an_image_is_read(rule, told, phantom, tmp_path, monkeypatch):  # fmt: skip
    monkeypatch.setattr(steps, "audit_cases", lambda *_, **__: pytest.fail("it was audited"))
    with pytest.raises(OverreadError, match=told):
        run(_study(phantom, **rule), tmp_path / "run", network=False)
    assert not (tmp_path / "run").exists()


def test_the_cases_that_the_report_shows_have_a_map(done) -> None:
    shown = [row["case"] for row in read_json(done / "explanations" / "gallery.json")]
    maps = {row["case"]: row for row in read_json(done / "explanations" / "maps.json")}
    assert set(shown) == set(maps)
    assert {(row["method"], row["nothing"]) for row in maps.values()} <= {("grad-cam", False), ("grad-cam", True)}
    assert sum(bool(row["verdict"]) for row in maps.values()) == min(image_steps.CHECKED, len(shown))
    for row in maps.values():
        assert not row["map"] or (done / row["map"]).stat().st_size > 0


def test_at_the_end_of_a_budget_maps_are_left_to_their_command(done, phantom, tmp_path) -> None:
    folder, said = tmp_path / "run", []
    shutil.copytree(done, folder)
    (folder / "explanations" / "maps.json").unlink()
    image_steps.explain(RunContext(_study(phantom), folder, clock=Clock(limit=1.0), say=said.append))
    assert not (folder / "explanations" / "maps.json").exists()
    assert "overread explain" in said[-1]


def test_the_parts_share_no_patient_and_the_model_knows_whom_it_saw(done) -> None:
    parts = Split.load(done / "split.csv").table
    assert not set(parts.patient[parts.part == "test"]) & set(parts.patient[parts.part != "test"])
    model = Model.load(done / "model")
    assert model.has_seen(list(parts.patient[parts.part == "test"])) == 0
    assert model.has_seen(list(parts.patient[parts.part == "train"])) == parts.patient[parts.part == "train"].nunique()
    tested = Predictions.read(done / "predictions" / "test.csv").table
    assert set(tested.case) == set(parts.case[parts.part == "test"])


@pytest.fixture
def no_report(monkeypatch) -> None:
    """Runs end with the evaluation: the report takes half of the time, and is looked at elsewhere."""
    monkeypatch.setattr(steps, "STEPS", (steps.audit, split, steps.train, predict, steps.evaluate))


def test_a_second_call_changes_nothing_and_does_not_look_again(done, phantom, no_report) -> None:
    kinds = (".csv", ".safetensors", ".jsonl")
    before = {p: p.read_bytes() for p in done.rglob("*") if p.is_file() and p.suffix in kinds}
    run(_study(phantom), done, network=False)
    assert {p: p.read_bytes() for p in before} == before


def test_the_same_study_elsewhere_gives_the_same_bytes(done, phantom, tmp_path, no_report) -> None:
    run(_study(phantom), tmp_path / "again", network=False)
    for name in BYTES:
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes(), name


def test_any_order_of_rows_gives_the_same_split(done, phantom, tmp_path, no_report) -> None:
    shuffled = pd.read_csv(phantom, dtype=str).sample(frac=1, random_state=5)
    shuffled.to_csv(phantom.parent / "shuffled.csv", index=False)
    run(_study(phantom.parent / "shuffled.csv", recipe={**RECIPE, "epochs": 1}), tmp_path / "s", network=False)
    assert (tmp_path / "s" / "split.csv").read_bytes() == (done / "split.csv").read_bytes()


_RUN = "import sys; from overread.cli.main import main; sys.argv[0] = 'overread'; main()"


def _command(table: Path, folder: Path) -> list[str]:
    """The study of this file, as a command."""
    return [sys.executable, "-c", _RUN, "run", str(table), "--image", "image", "--label", "diagnosis", "--patient", "patient", "--source",
            "microscope", "--subgroup", "sex", "--tuning", "0.2", "--recipe", "scratch", "--backbone", "cnn_small", "--image-size", "32",
            "--batch-size", "16", "--epochs", "2", "--seed", "3", "--threads", "1", "--offline", "-o", str(folder)]  # fmt: skip


def _killed_when(folder: Path, sign: str, command: list[str], env: dict[str, str]) -> None:
    """Start the command and kill it hard as soon as the file ``sign`` is there."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end and not list(folder.glob(sign)):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_stopped_within_the_second_epoch_a_run_ends_with_the_same_bytes(done, phantom, tmp_path, no_report) -> None:
    """A run stops after its first checkpoint; the same study goes on, and ends as if nothing had been."""

    class Stopped(BaseException):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if what == "training" and done > total / 2:
            raise Stopped

    with pytest.raises(Stopped):
        run(_study(phantom), tmp_path / "stopped", network=False, progress=stop)
    assert (tmp_path / "stopped" / "checkpoints" / "last.safetensors").exists()
    assert not (tmp_path / "stopped" / "model").exists()
    run(Study.load(tmp_path / "stopped" / "study.toml"), tmp_path / "stopped", network=False)
    for name in BYTES:
        assert (tmp_path / "stopped" / name).read_bytes() == (done / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_hard_at_several_moments_a_run_ends_with_the_same_bytes(done, phantom, tmp_path) -> None:
    """kill -9 at each stage, the same command again, the same bytes as of a run that nobody killed."""
    env = {**os.environ, "OVERREAD_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = _command(phantom, tmp_path / "killed")
    for sign in (
        "audit.json",
        "checkpoints/last.safetensors",
        "model/model.safetensors",
        "predictions/test.csv",
        "ledger.jsonl",
    ):
        _killed_when(tmp_path / "killed", sign, command, env)
    answer = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert answer.returncode == 0, answer.stderr
    for name in BYTES:
        assert (tmp_path / "killed" / name).read_bytes() == (done / name).read_bytes(), name


def test_two_runs_in_one_folder_are_refused(phantom, tmp_path) -> None:
    with folder_lock(tmp_path), pytest.raises(UnavailableError, match="another overread process"):
        run(_study(phantom), tmp_path)


def test_a_run_of_an_older_version_goes_on(done, phantom, tmp_path, no_report) -> None:
    """Its study file has no groups; nothing is trained or judged anew, and the file is written in groups."""
    shutil.copytree(done, tmp_path / "run")
    study = Study.load(done / "study.toml")
    old = {name: value for name, value in study.flat().items() if name != "recipe"}
    (tmp_path / "run" / "study.toml").write_text(tomli_w.dumps({**old, "recipe": study.training.recipe}))
    before = {
        p: p.stat().st_mtime_ns
        for p in (tmp_path / "run").rglob("*")
        if p.suffix == ".safetensors" or p.name == "metrics.json"
    }
    said: list[str] = []
    run(_study(phantom), tmp_path / "run", network=False, say=said.append)
    assert any("old form" in line for line in said)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (tmp_path / "run" / "study.toml").read_bytes() == (done / "study.toml").read_bytes()


def test_a_folder_where_another_study_has_trained_is_refused(done, phantom) -> None:
    with pytest.raises(InputError, match="seed"):
        run(_study(phantom, seed=4), done)


def test_a_model_that_has_seen_the_test_patients_is_refused(done, phantom, tmp_path) -> None:
    """Split again by another seed under a model that is there: its training patients are in the new test part."""
    shutil.copytree(done, tmp_path / "run")
    (tmp_path / "run" / "predictions" / "test.csv").unlink()
    context = RunContext(_study(phantom, seed=99), tmp_path / "run")
    split(context)
    with pytest.raises(UnsoundError, match="has seen"):
        predict(context)


def test_no_patient_reaches_what_should_not_hold_one(done) -> None:
    """Only the tables keyed by patient hold patients: cases, split and predictions."""
    patients = set(Split.load(done / "split.csv").table.patient)
    allowed = {"cases.csv", "split.csv", "tuning.csv", "test.csv", "shortcut.csv", "excluded.csv"}
    for path in done.rglob("*"):
        if (
            path.is_file()
            and path.name not in allowed
            and path.suffix in (".json", ".jsonl", ".html", ".md", ".toml", ".svg")
        ):
            text = path.read_text("utf-8")
            assert not [p for p in patients if f'"{p}"' in text or f">{p}<" in text], path


def test_the_ledger_counts_looks(done) -> None:
    entries = [json.loads(line) for line in (done / "ledger.jsonl").read_text().splitlines()]
    assert len(entries) == 1


@pytest.fixture(scope="module")
def many(phantom, tmp_path_factory) -> Path:
    """The phantom cohort with two findings (one with unknowns), a number, and two images of a case."""
    folder = tmp_path_factory.mktemp("many")
    table = pd.read_csv(phantom, dtype=str)
    sick = (table["diagnosis"] == "malignant").astype(int)
    table["mass"] = sick.astype(str)
    table["scar"] = [("", "0", "1")[i % 3] for i in range(len(table))]
    table["size"] = (10 + 5 * sick + table.index % 4).astype(str)
    table["exam"], table["eye"] = table["patient"], table.groupby("patient").cumcount().astype(str)
    table["image"] = [str(phantom.parent / name) for name in table["image"]]
    table.drop(columns=["diagnosis", "case"], errors="ignore").to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.parametrize(
    ("question", "metric"),
    [
        ({"labels": ("mass", "scar")}, ("auc", "mass")),
        ({"value": "size"}, ("mae", "size")),
        ({"label": "mass", "case": "exam", "view": "eye"}, ("auc", "1")),
    ],
    ids=["findings", "quantity", "several images a case"],
)
def test_every_kind_of_question_ends_with_a_report(many, tmp_path, question, metric) -> None:
    study = _study(many, **{"label": "", "subgroups": (), "recipe": {**RECIPE, "epochs": 1}, **question})
    run(study, tmp_path, network=False)
    assert not Evaluation.load(tmp_path / "evaluation")[metric].undefined
    assert "report" in (tmp_path / "report.html").read_text("utf-8")
    made = Predictions.read(tmp_path / "predictions" / "test.csv")
    assert made.table["case"].is_unique


# -- errors of the audit, and what may change when a model is there ------------------------------------------------


@pytest.fixture
def leaking(phantom, tmp_path) -> Study:
    """A study whose table brings a split in which three patients are in training and in the test."""
    table = pd.read_csv(phantom, dtype=str)
    names = sorted(table["patient"].unique())
    part = dict(zip(names, ["test"] * 15 + ["tuning"] * 10 + ["train"] * (len(names) - 25)))
    table["part"] = table["patient"].map(part)
    twice = table[table["patient"].isin(names[:3])].copy()
    twice["part"], twice["case"] = "train", [f"again-{i}" for i in range(len(twice))]
    made = pd.concat([table, twice], ignore_index=True)
    made["image"] = [str(phantom.parent / name) for name in made["image"]]
    made.to_csv(tmp_path / "leak.csv", index=False)
    return _study(tmp_path / "leak.csv", case="case", split="part")


def _split(study: Study, folder: Path) -> list[str]:
    said: list[str] = []
    study, cases = steps.open_study(study, folder)
    context = RunContext(study, folder, say=said.append, table=cases)
    steps.begin(context, cases)
    steps.audit(context)
    steps.tell_findings(context)
    split(context)
    return said


def test_an_error_of_the_audit_stops_a_study(leaking, tmp_path) -> None:
    with pytest.raises(UnsoundError, match=r"the given split leaks.*--despite leak goes on all the same"):
        run(leaking, tmp_path / "run", network=False)
    assert not (tmp_path / "run" / "split.csv").exists()


def test_despite_a_leak_a_study_goes_on_without_the_patients_that_leak(leaking, tmp_path) -> None:
    said = _split(leaking.changed(despite=("leak",)), tmp_path / "run")
    parts = Split.load(tmp_path / "run" / "split.csv").table
    assert not set(parts.patient[parts.part == "train"]) & set(parts.patient[parts.part == "test"])
    told = [line for line in said if "the given split leaks" in line]
    assert told
    assert len(told) == len(set(told))  # said once
    with pytest.raises(UnsoundError, match="given split leaks"):  # another error's name does not do
        _split(leaking.changed(despite=("shortcut",)), tmp_path / "run")


def test_a_rule_that_the_labels_do_not_fit_is_refused_before_anything_is_made(phantom, tmp_path) -> None:
    with pytest.raises(InputError, match="a decision rule is for one label of several classes"):
        run(_study(phantom, decide="prior"), tmp_path / "run", network=False)
    with pytest.raises(ArgumentError, match="the loss of binary label is not known"):
        run(_study(phantom, recipe={**RECIPE, "loss": "huber"}), tmp_path / "run", network=False)
    assert not (tmp_path / "run" / "audit.json").exists()


def test_an_unknown_error_cannot_be_passed_over(phantom) -> None:
    with pytest.raises(InputError, match="Did you mean 'leak'"):
        _study(phantom, despite=("leaks",))


def test_a_test_part_below_ten_patients_stops_before_training(phantom, tmp_path) -> None:
    study = _study(phantom, test=0.12)
    with pytest.raises(UnsoundError, match=r"nothing is judged below 10.*--test 0\.4"):
        _split(study, tmp_path / "run")
    _split(study.changed(despite=("few-patients",)), tmp_path / "run")
    assert (tmp_path / "run" / "split.csv").exists()


def test_a_column_of_groups_is_no_column_of_patients(phantom, tmp_path) -> None:
    with pytest.raises(UnsoundError, match="--patient names the column of the patient, and not one of groups"):
        _split(_study(phantom, patient="sex", source=""), tmp_path / "run")


def test_what_to_judge_by_may_change_and_nothing_is_trained_anew(done, phantom, tmp_path, no_report) -> None:
    shutil.copytree(done, tmp_path / "run")
    before = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    study = _study(phantom, subgroups=("age",), device="cpu", threads=2)
    run(study, tmp_path / "run", network=False)
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns == before
    found = Evaluation.load(tmp_path / "run" / "evaluation")
    assert found.where("age")
    assert found.looks == 1


def test_a_finished_run_is_judged_by_another_column_of_its_table(done, tmp_path) -> None:
    from typer.testing import CliRunner

    from overread.cli.main import app

    shutil.copytree(done, tmp_path / "run")
    Study.load(tmp_path / "run" / "study.toml").changed(fixed=0.8).save(tmp_path / "run" / "study.toml")
    answer = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--subgroup", "age", "--sensitivity", "0.9", "--no-figures"])  # fmt: skip
    assert answer.exit_code == 0, answer.output
    found = Evaluation.load(tmp_path / "run" / "evaluation")
    assert {"age", "sex", "source"} == {column for e in found.estimates for column in e.where}
    assert "sensitivity" in found.operating[0].rule
    study = Study.load(tmp_path / "run" / "study.toml")
    assert (study.columns.subgroups, study.operating_point.sensitivity) == (("sex", "age"), 0.9)
    assert study.operating_point.fixed == found.about.fixed == 0.8  # what was not asked for stays the study's
    wrong = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--level", "0.9"])
    assert "a run brings its own answer" in str(wrong.exception)


def test_the_record_holds_no_folder(done, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/overread", "run", "/home/anna smith/t.csv", "--weights=/home/anna/w", "-o", "runs/x", "--where", "a == 'b/c'"])  # fmt: skip
    assert steps.command_line() == "overread run …/t.csv --weights=…/w -o …/x --where \"a == 'b/c'\""


def test_a_run_keeps_what_can_be_told_without_looking(done) -> None:
    told, test = (Predictions.read(done / "predictions" / f"{name}.csv") for name in ("shortcut", "test"))
    assert list(told.table["case"]) == list(test.table["case"])
    found = Evaluation.load(done / "evaluation")
    assert not found["shortcut auc"].undefined
    gap = found["auc"].value - found["shortcut auc"].value
    assert found["auc beyond shortcut"].value == pytest.approx(gap)
    assert "Can it be trusted?" in (done / "report.html").read_text("utf-8")
