"""A segmenter that stands in the place of a trained one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from drawn_smears import Threshold

from overread.cases.cases import paths
from overread.images.outlines.outlines import Outlines
from overread.images.read import read_image
from overread.tasks.segmentation import OBJECT
from overread.tasks.target import Target


@pytest.fixture
def segmenter(monkeypatch: pytest.MonkeyPatch):
    """``segmenter(Threshold())`` stands in the place of a trained one wherever the study asks for it."""

    def install(found: Threshold) -> None:
        def segment(model: Any, cases: Any, **_: Any) -> Iterator[tuple[int, Outlines]]:
            for row, address in enumerate(paths(cases)):
                yield row, found.outlines(read_image(address).pixels, row)

        model = SimpleNamespace(digest=str(found), about=SimpleNamespace(names_salt=""), target=Target("segmentation", (OBJECT,)), has_seen=lambda patients: 0)  # fmt: skip
        monkeypatch.setitem(sys.modules, "overread.cells.segment", SimpleNamespace(segment=segment))
        for module in ("stage_run", "explained_cells"):
            monkeypatch.setattr(f"overread.study.cells.{module}.model_in", lambda folder: model, raising=False)

    return install
