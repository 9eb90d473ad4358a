"""Fault 12: a decoder that crashes. The audit and the run survive, and the file is set aside."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.audit.audit import audit
from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.sources.read_cases import read_cases
from overread.core import sandbox
from overread.core.sandbox import Lost, contained_call
from overread.learning.model import Model
from overread.learning.predict import predict_images
from overread.study.question import Study
from overread.study.steps import run

#: Patches the reader in the processes that decode, and in no other: files of some names are traps.
TRAPS = """
    import ctypes, os, sys, time

    if "overread.core.sandbox_worker" in sys.orig_argv:
        from overread.images import read
        whole = read._read

        def trapped(text, *others):
            name = os.path.basename(text)
            if name.startswith("crash"):
                ctypes.string_at(0)
            if name.startswith("hang"):
                time.sleep(600)
            while name.startswith("spin"):
                pass
            if name.startswith("hog"):
                bytearray(64 << 30)
            return whole(text, *others)

        read._read = trapped
"""
RECIPE = {"method": "scratch", "backbone": "cnn_small", "epochs": 1, "image_size": 32, "batch_size": 16}


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "traps").mkdir()
    (tmp_path / "traps/sitecustomize.py").write_text(textwrap.dedent(TRAPS), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "traps")
    monkeypatch.setenv("OVERREAD_DECODE_SECONDS", "1")  # of the processor; by the clock five
    sandbox.close()  # processes that started without the traps
    yield
    sandbox.close()


def trapped(phantom: Path, folder: Path, *names: str) -> Path:
    """A copy of the phantom cohort with three traps in it."""
    shutil.copytree(phantom.parent, folder / "cohort")
    path = folder / "cohort" / phantom.name
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    for row, name in zip((3, 20, 41), names, strict=True):
        old = Path(rows.loc[row, "image"])
        new = old.with_name(f"{name}{old.suffix}")
        (path.parent / old).rename(path.parent / new)
        rows.loc[row, "image"] = str(new)
    rows.to_csv(path, index=False)
    return path


def test_the_audit_sets_aside_what_crashes(phantom: Path, tmp_path: Path, traps: None) -> None:
    cases = read_cases(trapped(phantom, tmp_path, "crash", "hang", "hog"), label="diagnosis", patient="patient")
    prints = take_fingerprints(cases, threads=2)
    bad = prints["error"][prints["error"] != ""]
    assert list(bad.index) == [3, 20, 41]
    assert "crashed" in bad[3]
    assert "did not end within 1 s" in bad[20]
    assert "memory" in bad[41].lower()
    found = audit(cases, fingerprints=prints)
    assert len([reason for _, reason in found.excluded if reason.startswith("unreadable: ")]) == 3


def test_the_run_goes_on_without_what_crashes(phantom: Path, tmp_path: Path, traps: None) -> None:
    table = trapped(phantom, tmp_path, "crash", "spin", "hog")
    study = Study.from_flat(
        table=str(table), image="image", label="diagnosis", patient="patient", seed=3, tuning=0.2, recipe=RECIPE
    )
    run(study, tmp_path / "run", network=False)
    assert (tmp_path / "run/report.html").exists()
    assert (tmp_path / "run/evaluation/metrics.json").exists()
    excluded = pd.read_csv(tmp_path / "run/excluded.csv", dtype=str)
    assert excluded["reason"].str.startswith("unreadable").sum() == 3
    cases = read_cases(table, label="diagnosis", patient="patient")
    model = Model.load(tmp_path / "run/model")
    values, errors = predict_images(model, cases)
    assert sorted(errors) == [3, 20, 41]
    assert np.isnan(values[[3, 20, 41]]).all()
    assert np.isfinite(np.delete(values, [3, 20, 41], axis=0)).all()
    told = [*errors.values(), *excluded["reason"]]
    assert not [text for text in told for name in ("crash.", "spin.", "hog.") if name in text]


def test_a_bomb_that_no_limit_foresees_stays_within_the_memory(
    survived: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image beyond the memory that decoding may take: the process that decodes feels it, and this one does not."""
    from overread.images.perceptual_hash import describe

    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not hold a process to its memory")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6000, 6000, 3), np.uint8))
    monkeypatch.setenv("OVERREAD_DECODE_MEMORY", "50")
    made = survived(contained_call, describe, str(tmp_path / "a.png"))
    assert isinstance(made, Lost) or made["error"]
