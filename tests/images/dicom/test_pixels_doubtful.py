"""Headers that contradict the pixels: one defined decision each, and a note that the audit reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import overread as ov
from overread.images.image import DOUBT
from overread.images.read import read_image

from .test_pixels import dataset, written

Y, X = np.mgrid[:32, :32]
DISC = (400 + 2500 * ((Y - 15) ** 2 + (X - 17) ** 2 < 50) + 2 * (X + Y)).astype(np.uint16)  # 12 bits, bright on dark
DARK = (4095 - DISC).astype(np.uint16)


def seen(
    pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int = 12, **tags: object
) -> tuple[bool, tuple[str, ...]]:
    """Whether the disc is brighter than the ground, and the notes."""
    image = read_image(written(dataset(pixels, photometric, bits, **tags)))
    return bool(image.pixels[15, 17, 0] > image.pixels[2, 2, 0]), image.notes


@pytest.mark.parametrize(
    ("pixels", "photometric", "shape", "doubtful"),
    [
        (DISC, "MONOCHROME2", "", False), (DISC, "MONOCHROME2", "IDENTITY", False), (DARK, "MONOCHROME1", "", False),
        (DARK, "MONOCHROME1", "INVERSE", False), (DARK, "MONOCHROME2", "INVERSE", True), (DISC, "MONOCHROME1", "IDENTITY", True),
        (DARK, "MONOCHROME1", "nonsense", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}])
def test_the_shape_of_presentation_has_the_last_word(
    pixels: np.ndarray, photometric: str, shape: str, doubtful: bool, window: dict[str, object]
) -> None:
    """As dcm4che has it; in 8 bits, 16 bits, and under a window."""
    tags = window | ({"PresentationLUTShape": shape} if shape else {})
    for some, bits in ((pixels, 12), ((pixels >> 4).astype(np.uint8), 8)):
        bright, notes = seen(some, photometric, bits, **tags)
        assert bright
        assert any(DOUBT in note and shape in note for note in notes) == doubtful


def test_windows_that_no_value_lies_in_are_passed_over() -> None:
    three = {"WindowCenter": ["60000", "1600", "1500"], "WindowWidth": ["100", "3000", "2000"]}
    _, notes = seen(DISC, **three)
    assert notes == ("window 1600/3000, number 2 of 3, as no value lies in those before",)
    alone = read_image(written(dataset(DISC, bits=12, WindowCenter="60000", WindowWidth="100")))
    plain = read_image(written(dataset(DISC, bits=12)))
    assert np.array_equal(alone.pixels, plain.pixels)
    assert alone.notes == (f"{DOUBT}smallest to largest value, as the window of the file lies off all of them",)
    _, first = seen(DISC, WindowCenter=["1600", "60000"], WindowWidth=["3000", "100"])
    assert first == ("window 1600/3000, the first of 2",)
    negative = {"WindowCenter": "-900", "WindowWidth": "50", "RescaleIntercept": "-1024", "RescaleSlope": "1"}
    assert DOUBT in seen(DISC, **negative)[1][0]


def test_padding_does_not_keep_a_window() -> None:
    padded = DISC.copy()
    padded[:4] = 4095
    _, notes = seen(padded, WindowCenter="4090", WindowWidth="20", PixelPaddingValue=4095)
    assert notes[0].startswith(DOUBT)


@pytest.mark.parametrize("width", [1, 0.5, 0.01])
@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_of_floats_a_window_of_one_is_no_threshold(width: float, keyword: str) -> None:
    """A parametric map: the ramp stays one within its window (LINEAR_EXACT, PS3.3 C.11.2.1.3.2)."""
    size, kind = (32, np.float32) if keyword == "FloatPixelData" else (64, np.float64)
    ramp = (0.3 + width * (X - 15.5) / 40).astype(kind)
    made = dataset(DISC, WindowCenter=0.3, WindowWidth=width)
    del made.PixelData
    del made.PixelRepresentation
    made.BitsAllocated = made.BitsStored = size
    made.HighBit = size - 1
    setattr(made, keyword, ramp.tobytes())
    image = read_image(written(made))
    wanted = np.clip((ramp - 0.3) / width + 0.5, 0, 1) * 65535
    assert np.abs(image.pixels[..., 0] - wanted).max() < 60
    assert image.notes == (f"window 0.3/{width:g} LINEAR_EXACT",)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_the_stored_ones_are_counted(signed: bool) -> None:
    beyond = DISC.copy()
    beyond[3, :5] |= 0x4000
    pixels = beyond.astype(np.int16) if signed else beyond
    _, notes = seen(pixels, bits=13)
    assert notes[-1] == f"{DOUBT}bits set beyond the 13 stored ones in 5 samples, left out"
    whole = (DISC.astype(np.int16) - 1000) if signed else DISC
    assert seen(whole, bits=13)[1] == ("smallest to largest value",)  # a sign that goes on is none


def test_padding_beyond_the_stored_bits_is_padding() -> None:
    """63536 in 16 allocated bits, 12 stored: once it was read as 2096, a mid grey."""
    padded = DISC.copy()
    padded[:6] = 63536
    padded[20, 3] = 2096
    image = read_image(written(dataset(padded, bits=12, PixelPaddingValue=63536)))
    assert not image.pixels[:6].any()
    assert image.pixels[20, 3] > 30_000
    assert image.notes == ("smallest to largest value",)


def test_the_audit_tells_them(tmp_path: Path) -> None:
    rows = []
    for n in range(6):
        tags = {"PresentationLUTShape": "INVERSE"} if n < 2 else {}
        (tmp_path / f"{n}.dcm").write_bytes(
            written(dataset(np.roll(DISC, 5 * n, 1), bits=10 if n == 1 else 12, **tags))
        )
        rows.append(f"{n}.dcm,p{n},{'yes' if n % 2 else 'no'}")
    (tmp_path / "t.csv").write_text("\n".join(["image,patient,label", *rows]), "utf-8")
    found = ov.audit(ov.read_cases(tmp_path / "t.csv")).of("doubtful-pixels")
    assert found is not None
    assert (found.severity, found.count) == ("warning", 2)
    assert "PresentationLUTShape INVERSE against MONOCHROME…: inverted, by the shape (2)" in found.message
    assert "bits set beyond the … stored ones in … samples, left out (1)" in found.message
