"""Fixtures for every test: shared real data, a phantom cohort, and a home that is not the user's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a simulation, one quick setting runs with every change; the others, and the long ones, are slow."""
    kept: set[str] = set()
    for item in items:
        if item.get_closest_marker("simulation") and not item.get_closest_marker("slow"):
            function = item.nodeid.partition("[")[0]
            if function in kept:
                item.add_marker("slow")
            kept.add(function)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and weights: $OVERREAD_SHARED, or ``shared`` beside the project."""
    folder = Path(os.environ.get("OVERREAD_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}; set OVERREAD_SHARED to the folder that holds data/ and weights/")
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``metadata.csv`` of a small phantom cohort, 32 pixels, three microscopes. To read, never to write."""
    cohort = pytest.importorskip("overread.synthetic.cohort")
    folder = tmp_path_factory.mktemp("phantom")
    return Path(cohort.draw_cohort(folder, patients=60, images_per_patient=(1, 2), size=32, seed=11))


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches and stores of the user stay untouched, and cannot help a test to pass."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("OVERREAD_CACHE", str(home / "overread"))
        patch.setenv("MPLBACKEND", "Agg")
        patch.setattr(os, "fsync", lambda handle: None)  # the power stays on: a run waits for the disk 400 times
        patch.delenv("OVERREAD_WEIGHTS", raising=False)
        yield


#: A white pixel.
BLANK = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63f80f0001010100b138f6140000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """A network that a test makes without a seed has the same weights each time: one in forty others may be an odd one."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def print_form() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Figures are drawn once, as SVG: their PNG takes as long again and is a blank, but within ``with print_form():``.

    The first of each kind, made of the same artists, is drawn for print all the same, and must show something.
    """
    with pytest.MonkeyPatch.context() as patch:
        canvas = pytest.importorskip("overread.reporting.figures.canvas")
        real, known = canvas.png_of, set()

        @contextmanager
        def drawn() -> Iterator[None]:
            with pytest.MonkeyPatch.context() as again:
                again.setattr(canvas, "png_of", real)
                yield

        def blank(drawing: Any) -> bytes:
            kind = frozenset(type(artist) for artist in drawing.findobj())
            if kind not in known:
                known.add(kind)
                shown = cv2.imdecode(np.frombuffer(real(drawing), np.uint8), cv2.IMREAD_GRAYSCALE)
                assert shown.max() == 255, "the paper is not white"
                assert shown.std() > 1, "nothing is drawn"
            return BLANK

        patch.setattr(canvas, "png_of", blank)
        yield drawn
