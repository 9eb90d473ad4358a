"""``overread doctor``: the machine, and a study on it."""

from __future__ import annotations

import importlib
import json

import pytest

from overread.cli import main
from overread.networks import weights


@pytest.fixture
def overread(monkeypatch, capsys, tmp_path):
    """``overread("doctor", …)`` → (exit code, standard output, standard error), with an empty store."""
    monkeypatch.setattr(weights, "where", lambda: tmp_path / "store")
    monkeypatch.delenv("OVERREAD_WEIGHTS", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["overread", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


def test_doctor_says_that_the_libraries_fit(overread) -> None:
    code, out, _ = overread("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert "fit each other" in found["networks"]
    assert "JPEG 2000" in found["decoders"]
    assert "OME-TIFF" in found["slides"]
    assert {"threads", "memory free", "cache, space free"} <= found.keys()


def test_doctor_names_libraries_that_do_not_fit_with_the_fix(overread, monkeypatch) -> None:
    real = importlib.import_module

    def failing(name: str, package: str | None = None):
        if name.startswith(("torchvision", "timm")):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", failing)
    code, out, _ = overread("doctor")
    (line,) = (line for line in out.splitlines() if line.startswith("networks"))
    assert code == 1
    assert "nms does not exist" in line
    assert "pip install --upgrade torch torchvision" in line


def study(phantom, *more: str) -> tuple[str, ...]:
    roles = ("--image", "image", "--label", "diagnosis", "--patient", "patient", "--source", "microscope")
    return ("doctor", str(phantom), *roles, "--recipe", "scratch", "--backbone", "cnn_small", "--image-size", "24", "--offline", *more)  # fmt: skip


def test_doctor_looks_at_a_study_and_leaves_nothing_behind(overread, phantom, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = overread(*study(phantom, "--cache", str(tmp_path / "cache")))
    assert code == 0
    assert "go: nothing stands against training" in out
    assert "one batch" in out
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "store"}


def test_doctor_stops_at_what_would_waste_an_hour(overread, phantom, tmp_path) -> None:
    code, out, _ = overread(*study(phantom, "--cache", str(tmp_path / "cache"), "--set", "learning_rate=1e-7"))
    assert code == 1
    assert "far too small" in out
    assert "stop" in out.splitlines()[-1]
    code, out, _ = overread(*study(phantom, "--cache", str(tmp_path / "cache"), "--epochs", "5000", "--set", "learning_rate=1e-7", "--json"))  # fmt: skip
    assert code == 1
    assert json.loads(out)["faults"][0]["kind"] == "learning-rate"
