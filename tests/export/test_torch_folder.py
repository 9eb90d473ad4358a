"""The folder of plain torch: its own lines, run where overread cannot be imported, say what the model says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overread.core.errors import UnsoundError
from overread.export.specimens import Specimens, specimens
from overread.export.torch_folder import LIMIT, _tried, export_torch

_ALONE = "import sys; sys.modules.update(overread=None, timm=None); sys.path.insert(0, '.')\n"


def lines_of(folder: Path) -> str:
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def made(make_model, cases, tmp_path_factory) -> tuple[Specimens, Path, list[Path]]:
    model, folder = make_model("resnet_tiny", views=2), tmp_path_factory.mktemp("export") / "out"
    held = specimens(model, cases, threads=1)
    return held, folder, export_torch(model, held, folder)


def test_the_ten_lines_say_what_the_model_says(made) -> None:
    held, folder, _ = made
    lines = lines_of(folder)
    assert len([line for line in lines.splitlines() if line.strip()]) <= 10
    here = _ALONE + "\n".join(lines.replace("image.png", held.addresses[row]) for row in (0, 1))
    done = subprocess.run([sys.executable, "-I", "-c", here], cwd=folder, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    answers = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    for row, said in zip((0, 1), answers, strict=True):
        assert list(said) == ["benign", "malignant"]
        assert np.abs(np.array(list(said.values())) - held.probabilities[row]).max() < 1e-5


def test_nothing_in_the_folder_is_pickled_and_the_page_imports_torch_alone(made) -> None:
    _, folder, written = made
    tree = ast.parse((folder / "network.py").read_text())
    assert [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names] == ["torch"]
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert all(name.startswith("torch.ops.aten.") or name in ("torch.device", "float") for name in called), called
    assert not any(path.read_bytes()[:2] in (b"\x80\x02", b"PK") for path in written)
    sums = json.loads((folder / "export.json").read_text())["files"]
    assert set(sums) == {path.name for path in written} - {"export.json"}


def test_a_probability_that_differs_is_found(made, make_model, tmp_path, monkeypatch) -> None:
    held, folder, _ = made
    files = {name: (folder / name).read_bytes() for name in ("network.py", "model.safetensors")}
    off = replace(held, probabilities=held.probabilities + np.float32(2e-5))  # as they were, the fixture has tried them
    assert LIMIT < _tried(files, off) == pytest.approx(2e-5, abs=1e-5)
    with pytest.raises(UnsoundError, match="does not run by itself"):
        _tried({**files, "network.py": b"import overread"}, held)
    monkeypatch.setattr("overread.export.torch_folder._tried", lambda *_: 1.1 * LIMIT)
    with pytest.raises(UnsoundError, match=r"network\.py"):
        export_torch(make_model("resnet_tiny", views=2), held, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fields", [
    {"fusion": "mean"}, {"fusion": "attention"}, {"fusion": "recurrent"}, {"fusion": "concat", "places": ("left", "right")},
])  # fmt: skip
def test_cases_of_several_images(make_model, pairs, tmp_path, fields) -> None:
    model = make_model(**fields)
    export_torch(model, specimens(model, pairs, threads=1), tmp_path / "out")  # raises where it differs by 1e-5
    assert (tmp_path / "out" / "network.py").is_file()
