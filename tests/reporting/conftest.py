"""Runs of every kind, made once."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from overread.reporting import report
from overread.tasks.target import Target


def _beside(name: str):
    spec = importlib.util.spec_from_file_location(f"reporting_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runs = _beside("runs")
TARGETS = {
    "binary": Target("binary", ("benign", "malignant"), ("malignant",)),
    "group": Target("classes", ("akiec", "bcc", "mel", "nv", "vasc"), ("bcc", "mel")),
    "classes": Target("classes", ("benign", "atypical", "malignant")),
    "findings": Target("findings", ("effusion", "nodule")),
    "quantity": Target("quantity", ("age",)),
    "nasty": Target("binary", ("b\x00<img src=x onerror=alert(1)>", runs.NASTY), (runs.NASTY,)),
}


@pytest.fixture
def make():
    """``make(folder, target, …)``: a finished run."""
    return runs.make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """``finished(kind)``: the folder of a finished, reported run; made once, not to be changed."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = runs.make_run(tmp_path_factory.mktemp("runs") / kind, TARGETS[kind], patients=60)
            report(made[kind], files=True)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def drawn(finished):
    """``drawn(kind)``: the figures of a finished run by name; drawn once."""
    made: dict[str, dict[str, str]] = {}

    def get(kind: str) -> dict[str, str]:
        if kind not in made:
            home = finished(kind) / "evaluation" / "figures"
            made[kind] = {path.stem: path.read_text(encoding="utf-8") for path in sorted(home.glob("*.svg"))}
        return made[kind]

    return get


@pytest.fixture(params=sorted(TARGETS))
def kind(request) -> str:
    """Each kind in turn."""
    return request.param


@pytest.fixture
def each(kind, finished) -> Path:
    """A finished run of each kind in turn."""
    return finished(kind)
