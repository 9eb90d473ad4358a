"""Scripts of benchmarks/ say of a bar that it is met only where it was measured, and is."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from installed import program


def script(root: Path, name: str) -> ModuleType:
    """A script, imported from its file."""
    made = importlib.util.spec_from_file_location(f"script_{name}", root / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


def test_memory_that_grows_with_places_misses_and_one_size_tells_nothing(root):
    bars = script(root, "heat_map").missed_bars
    assert bars([1.0e9, 1.1e9], [100, 2000]) == []
    assert bars([1.0e9, 1.3e9], [100, 2000]) == ["a ratio of 1.300"]
    assert bars([1.9e9, 2.1e9], [100, 2000]) == ["a peak of 2.100 GB"]
    assert len(bars([math.nan, 1e9], [100, 2000])) == 2
    for places in ([100], [100, 100]):
        assert "not checked" in bars([1e9] * len(places), places)[0]


def test_what_is_not_a_number_misses_the_bars_of_slides(root):
    slides = script(root, "slides")
    assert slides.missed_bars(0.96, 0.8, 12.0) == []
    assert len(slides.missed_bars(math.nan, math.nan, math.nan)) == 3
    assert len(slides.missed_bars(0.94, 0.74, 20.1)) == 3


def test_arms_that_were_not_run_are_told(root):
    slides = script(root, "slides")
    assert slides.not_checked(["four", "0.5", "1", "2", "4"]) == []
    assert "0.5, 1, 2, 4" in slides.not_checked(["four"])[0]
    assert "1, 2, 4" in slides.not_checked(["four", "0.5"])[0]
    assert "AUC" in slides.not_checked(["1", "2"])[0]


def test_minutes_are_those_of_all_calls(root, tmp_path):
    slides, folder = script(root, "slides"), tmp_path / "arm-0.5"
    assert slides.spent(folder) == (0.0, False)
    kept = tmp_path / "arm-0.5.minutes.json"
    kept.write_text(json.dumps({"minutes": 18.0, "done": False}))
    with pytest.raises(subprocess.CalledProcessError):
        slides.timed([sys.executable, "-c", "import time; time.sleep(.3); raise SystemExit(1)"], folder, every=0.05)
    failed, done = slides.spent(folder)
    assert failed >= 18 + 0.3 / 60
    assert not done
    slides.timed([sys.executable, "-c", "import time; time.sleep(.3)"], folder)
    minutes, done = slides.spent(folder)
    assert minutes >= failed + 0.3 / 60
    assert done


def test_a_script_that_is_killed_has_been_counted(root, tmp_path):
    """What it has kept while its run goes on, without a word at the end."""
    code = (f"import sys; sys.path.insert(0, {str(root / 'benchmarks')!r}); import slides; from pathlib import Path; "
            f"slides.timed([sys.executable, '-c', 'import os, signal, time; time.sleep(.5); os.kill(os.getppid(), signal.SIGKILL)'], Path({str(tmp_path / 'arm')!r}), every=0.02)")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=False)
    minutes, done = script(root, "slides").spent(tmp_path / "arm")
    assert minutes >= 0.4 / 60
    assert not done


def test_a_run_that_nobody_timed_took_no_known_time(root, tmp_path):
    (tmp_path / "arm").mkdir()
    assert math.isnan(script(root, "slides").spent(tmp_path / "arm")[0])


def test_both_clocks_are_judged_of_tiles(root):
    bars = script(root, "slide_tiles").missed_bars
    assert bars({"read_tile": (0.9, 0.86)}) == []
    assert bars({"read_tile": (0.9, 0.5), "as an image": (math.nan, 1.0)}) == [
        "read_tile 0.50 by the clock",
        "as an image nan by processor time",
    ]


def test_no_slide_is_no_measurement(root, tmp_path):
    found = subprocess.run([sys.executable, str(root / "benchmarks" / "slide_tiles.py")], capture_output=True, text=True, cwd=tmp_path,
                           env={**os.environ, "OVERREAD_SHARED": str(tmp_path), "PYTHONPATH": str(root / "src")}, check=False)  # fmt: skip
    assert (found.returncode, "not measured" in found.stdout) == (2, True)


@pytest.fixture
def bench(root, tmp_path):
    """``make bench`` with a Python that fails at two scripts."""
    make = program("make", "make")
    (python := tmp_path / "python").write_text(
        '#!/bin/sh\necho "ran $1"\ncase "$1" in *heat_map*|*intervals*) exit 1;; esac\n'
    )
    python.chmod(0o755)
    (tmp_path / ".installed-run").touch()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([make, "-C", str(root), "bench", f"VENV={tmp_path}", f"PY={python}", *words], capture_output=True, text=True, check=False)  # fmt: skip

    return run


def test_a_miss_hides_no_script_behind_it(bench, root):
    found = bench()
    ran = re.findall(r"ran benchmarks/(\w+)\.py", found.stdout)
    assert found.returncode != 0
    assert "missed or not measured: intervals\n" in found.stderr
    assert ran.index("intervals") < ran.index("tiles")
    left = {path.stem for path in (root / "benchmarks").glob("*.py")} - set(ran)
    for name in left:  # each asks for something, or says that it takes long
        text = (root / "benchmarks" / f"{name}.py").read_text("utf-8")
        asks = re.search(r"required=True|nargs=\"\+\"\)|add_argument\(\"run\"", text)
        assert asks or name in ("slides", "heat_map", "recipes", "exported_networks")
    assert {"slides", "recipes"} <= left


def test_long_ones_are_called_by_name(bench):
    found = bench("BENCH=slides heat_map tiles")
    assert re.findall(r"ran benchmarks/(\w+)\.py", found.stdout) == ["slides", "heat_map", "tiles"]
    assert "missed or not measured: heat_map\n" in found.stderr
    assert bench("BENCH=slides").returncode == 0
