"""The command line as a person meets it: wrong inputs, one stage at a time, Ctrl-C."""

from __future__ import annotations

import errno
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

from overread.cli import main
from overread.study import steps

_NETWORK = ("--recipe", "scratch", "--backbone", "cnn_small", "--offline")
SMALL = (*_NETWORK, "--epochs", "1", "--image-size", "32", "--threads", "1")
COLUMNS = ("--image", "image", "--label", "diagnosis", "--patient", "patient")


@pytest.fixture
def overread(monkeypatch, capsys):
    """``overread("run", …)`` → (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["overread", *map(str, arguments)])
        before = signal.getsignal(signal.SIGINT)
        try:
            main.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            signal.signal(signal.SIGINT, before)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture
def cohort(phantom, tmp_path) -> Path:
    """A copy of the phantom cohort that a test may spoil."""
    shutil.copytree(phantom.parent, tmp_path / "cohort")
    return tmp_path / "cohort" / phantom.name


def _spoil(table: Path, **columns: object) -> Path:
    frame = pd.read_csv(table, dtype=str)
    frame.assign(**columns).to_csv(table, index=False)
    return table


def _one_paragraph(said: str) -> bool:
    return "Traceback" not in said and said.strip().splitlines()[-1].startswith("overread: ")


WRONG = {
    "missing file": (lambda t: t.with_name("absent.csv"), (), 2, "exist"),
    "wrong column": (lambda t: t, ("--label", "diagnosys"), 2, "Did you mean 'diagnosis'?"),
    "one class only": (lambda t: _spoil(t, diagnosis="benign"), (), (1, 2), "class"),
    "all one patient": (lambda t: _spoil(t, patient="p1"), (), 1, "patient"),
    "empty table": (lambda t: (t.write_text("image,diagnosis,patient\n"), t)[1], (), 2, "no rows"),
    "empty file": (lambda t: (t.write_text(""), t)[1], (), 2, "empty"),
    "no labels at all": (lambda t: _spoil(t, diagnosis="nan"), (), (1, 2), "label"),
    "a positive class that is not there": (lambda t: t, ("--positive", "malignent"), 2, "malignant"),
    "a budget that is no time": (lambda t: t, ("--budget", "soon"), 2, "length of time"),
    "an unknown recipe": (lambda t: t, ("--recipe", "finetun"), 2, "finetune"),
    "an unknown field": (lambda t: t, ("--set", "epoch=3"), 2, "epochs"),
    "an unknown backbone": (lambda t: t, ("--backbone", "resnet81"), 2, "resnet"),
    "features without weights": (lambda t: t, ("--recipe", "features", "--offline"), 1, "--recipe scratch"),
    "a network without weights": (
        lambda t: t,
        ("--recipe", "finetune", "--backbone", "resnet18", "--offline"),
        1,
        "resnet18",
    ),
    "an expression for deploy-to": (lambda t: t, ("--deploy-to", "__import__('os')"), 2, "source"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_input_is_one_clear_paragraph(name, overread, cohort, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("overread.networks.weights.PACKAGES", ())  # no weights at hand
    spoil, more, code, words = WRONG[name]
    table = spoil(cohort)
    label = () if "--label" in more else ("--label", "diagnosis")
    got, _, said = overread(
        "run", table, "--image", "image", *label, "--patient", "patient", *more, "-o", tmp_path / "run"
    )
    assert got in (code if isinstance(code, tuple) else (code,)), said
    assert _one_paragraph(said), said
    assert words in said.splitlines()[-1], said


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--device", "gpu"), "cuda"), (("--device", "cuda:9"), "Leave --device out"), (("--weights", "no/such/folder"), "does not exist"),
     (("--backbone", "resnet5"), "resnet50"), (("--backbone", "alexnet", "--image-size", "32"), "it needs 63"), (("--budget", "10"), "10m"),
     (("--recipe", "features", "--offline"), "--recipe scratch"), (("--recipe", "finetune", "--backbone", "vgg16", "--offline"), "vgg16")],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_flags_are_refused_before_anything_is_read(flags, words, overread, cohort, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("overread.networks.weights.PACKAGES", ())  # no weights at hand
    monkeypatch.setattr(steps, "open_study", lambda *_: pytest.fail("the table is read"))
    code, _, said = overread("run", cohort, *COLUMNS, *flags, "-o", tmp_path / "run")
    assert code in (1, 2), said
    assert _one_paragraph(said), said
    assert words in said, said
    assert not (tmp_path / "run").exists()


FAULTS = {
    "disk": OSError(errno.ENOSPC, "No space left on device", "r/x.csv"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "read-only": OSError(errno.EROFS, "Read-only file system", "r"),
    "memory": MemoryError(),
    "numpy": MemoryError("Unable to allocate 7.45 GiB for an array"),
    "torch": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_machine_is_one_paragraph_wherever_it_happens(
    fault, overread, cohort, tmp_path, monkeypatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FAULTS[fault]

    monkeypatch.setattr(steps, "run", fail)
    code, _, said = overread("run", cohort, *COLUMNS, "-o", tmp_path / "run")
    assert code == 1
    assert _one_paragraph(said), said
    assert ("free some space" if fault in ("disk", "quota", "read-only") else "--image-size") in said.lower()


def test_a_mistake_of_the_program_stays_a_traceback(overread, cohort, tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(steps, "run", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        overread("run", cohort, *COLUMNS, "-o", tmp_path / "run")


@pytest.fixture
def no_report(monkeypatch) -> None:
    """Runs end with the evaluation: the report takes half of the time, and is looked at elsewhere."""
    monkeypatch.setattr(steps, "STEPS", (steps.audit, steps.split, steps.train, steps.predict, steps.evaluate))


def test_after_a_mistake_the_same_folder_can_be_used(overread, cohort, tmp_path, no_report, monkeypatch) -> None:
    monkeypatch.setattr("overread.networks.weights.PACKAGES", ())  # no weights at hand
    run = ("run", cohort, *COLUMNS, "-o", tmp_path / "run", "--tuning", "0.2")
    assert overread(*run, "--recipe", "features", "--offline")[0] == 1
    assert overread(*run, *SMALL)[0] == 0


def test_unreadable_images_and_missing_labels_are_set_aside_and_counted(overread, cohort, tmp_path, no_report) -> None:
    frame = pd.read_csv(cohort, dtype=str)
    (cohort.parent / frame.image[0]).write_bytes(b"broken")
    frame.loc[1, "diagnosis"] = "NaN"
    frame.to_csv(cohort, index=False)
    code, _, said = overread("run", cohort, *COLUMNS, *SMALL, "--tuning", "0.2",
                             "-o", tmp_path / "run")  # fmt: skip
    assert code == 0, said
    excluded = pd.read_csv(tmp_path / "run" / "excluded.csv")
    assert len(excluded) == 2
    assert len(pd.read_csv(tmp_path / "run" / "split.csv")) == frame.image.nunique() - 2


#: The same as the options of the stages below say.
STUDY = """
table = "metadata.csv"

[columns]
image = "image"
label = "diagnosis"
patient = "patient"
source = "microscope"
subgroups = ["sex"]

[split]
tuning = 0.2

[training]
seed = 3

[training.recipe]
method = "scratch"
backbone = "cnn_small"
epochs = 1
image_size = 32

[resources]
threads = 1
"""


def test_one_stage_at_a_time_gives_the_files_of_the_whole(overread, cohort, tmp_path, no_report) -> None:
    columns = (*COLUMNS, "--source", "microscope", "--subgroup", "sex")
    stages, whole = tmp_path / "stages", tmp_path / "whole"
    assert overread("audit", cohort, *columns, "-o", stages)[0] in (0, 1)
    for command in (("split", stages, "--tuning", "0.2", "--seed", "3"), ("train", stages, *SMALL), ("predict", stages),
                    ("evaluate", stages, "--no-figures"), ("report", stages)):  # fmt: skip
        code, _, said = overread(*command)
        assert code == 0, said
        assert "wrote" in said
    (cohort.parent / "study.toml").write_text(STUDY)
    code, _, said = overread("run", cohort.parent / "study.toml", "--offline", "-o", whole)
    assert code == 0, said
    assert (stages / "report.html").exists()
    assert (whole / "report.html").exists() is False, "the fixture leaves it out"
    for name in ("cases.csv", "audit.json", "split.csv", "predictions/test.csv", "evaluation/metrics.json"):
        assert (stages / name).read_bytes() == (whole / name).read_bytes(), name

    code, out, _ = overread("evaluate", whole, "--json", "--no-figures")
    assert code == 0
    assert any(e["metric"] == "auc" for e in json.loads(out))

    code, _, said = overread(
        "predict", whole, cohort, "--label", "diagnosis", "--patient", "patient", "-o", tmp_path / "new.csv"
    )
    assert code == 0, said
    code, out, said = overread("evaluate", tmp_path / "new.csv", "--tuning", whole / "predictions" / "tuning.csv")
    assert code == 1, "its tuning patients are among the cases: refused"
    code, out, said = overread("evaluate", tmp_path / "new.csv", "--no-figures", "-o", tmp_path / "judged")
    assert code == 1, "its training patients are among the cases: refused"
    assert "48 patients" in said
    assert _one_paragraph(said.splitlines()[-1]), said
    code, out, said = overread(
        "evaluate", tmp_path / "new.csv", "--allow-seen", "--no-figures", "-o", tmp_path / "judged"
    )
    assert code == 0, said
    assert "it has seen 48 of these patients" in out
    assert "auc" in out
    pd.read_csv(tmp_path / "new.csv").drop(columns="split").to_csv(tmp_path / "bare.csv", index=False)
    assert overread("evaluate", tmp_path / "bare.csv", "--no-figures", "--positive", "malignant")[0] == 0, (
        "it knows of no model"
    )
    code, _, said = overread(
        "evaluate", tmp_path / "bare.csv", "--model", whole, "--no-figures", "--positive", "malignant"
    )
    assert code == 1, said


def test_stages_out_of_order_say_which_comes_first(overread, tmp_path) -> None:
    for command in ("split", "train", "predict", "evaluate", "report"):
        code, _, said = overread(command, tmp_path)
        assert code == 2, (command, said)
        assert _one_paragraph(said), said


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_says_how_to_go_on_and_the_next_call_does(cohort, tmp_path) -> None:
    command = [sys.executable, "-c", "import sys; from overread.cli.main import main; sys.argv[0] = 'overread'; main()", "run", str(cohort),
               *COLUMNS, "--tuning", "0.2", *SMALL, "--epochs", "60", "-o", str(tmp_path / "r")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (tmp_path / "r" / "checkpoints" / "last.safetensors").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert not (tmp_path / "r" / "report.html").exists()
