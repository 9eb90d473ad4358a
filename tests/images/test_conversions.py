"""Windows: names, numbers, and the functions of the standard."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from overread.core.errors import ArgumentError, InputError
from overread.images.conversions import FULL, PRESETS, Window, between, parse_window, spanning, windowed

VALUES = np.random.default_rng(3).integers(-1024, 3072, 2000).astype(np.float64)


@pytest.mark.parametrize(("name", "window"), PRESETS.items())
def test_presets_by_any_spelling(name: str, window: Window) -> None:
    for text in (name, name.upper(), name.replace(" ", "_"), f" {name.replace(' ', '-')} "):
        assert parse_window(text) == window


def test_presets_hold_what_they_are_named_for() -> None:
    """Typical Hounsfield units lie within the window, and neither black nor white."""
    typical = {"lung": -800, "mediastinum": 40, "bone": 700, "brain": 35, "stroke": 30, "liver": 55, "angio": 350}
    for name, value in typical.items():
        assert 0.05 < windowed(np.array([float(value)]), PRESETS[name])[0] < 0.95


def test_numbers() -> None:
    assert parse_window("-600/1500") == Window(-600, 1500)
    assert parse_window(" 40.5 / 1e2") == Window(40.5, 100)
    assert parse_window("") is None
    assert parse_window("Stored") is None
    assert parse_window("FULL") is FULL


@pytest.mark.parametrize("text", ["lungs", "40", "40/0", "40/-1", "nan/3", "40/inf", "1/2/3", "a/b", "40/400/", "/"])
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_window(text)
    assert text.strip() in str(error.value)


def test_the_nearest_preset_is_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'mediastinum'"):
        parse_window("mediastinal")


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (0, 1), (100.5, 33)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_functions_are_those_of_pydicom(centre: float, width: float, function: str) -> None:
    head = Dataset()
    head.PhotometricInterpretation, head.PixelRepresentation, head.BitsStored = "MONOCHROME2", 0, 16
    head.WindowCenter, head.WindowWidth, head.VOILUTFunction = centre, width, function
    theirs = apply_windowing(VALUES.astype(np.int32) + 2048, head) / 65535
    assert np.abs(windowed(VALUES + 2048, Window(centre, width), function) - theirs).max() < 1e-4


def test_full_and_between() -> None:
    assert np.array_equal(windowed(VALUES, FULL), between(VALUES, VALUES.min(), VALUES.max()))
    assert spanning(np.array([np.nan, 2.0, np.inf, 5.0])) == (2.0, 5.0)
    assert spanning(np.array([np.nan])) == (0.0, 0.0)
    assert not between(np.ones(3), 1, 1).any()


def test_windows_that_cannot_be() -> None:
    for centre, width in ((0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("nan"))):
        with pytest.raises(ArgumentError):
            Window(centre, width)
