"""``prepare.py`` makes the same pixels as overread, to the whole number."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from overread.export.prepare import prepare
from overread.images.preprocess import Preprocess, load


@pytest.mark.parametrize(("fit", "channels"), list(product(("squash", "crop", "pad"), (1, 3))))
@pytest.mark.parametrize("have", [(64, 64), (192, 128), (90, 70), (43, 90), (200, 300), (28, 32)])
def test_files_of_any_size_become_the_same_numbers(tmp_path, fit, channels, have) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*have, channels), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    made = prepare(tmp_path / "a.png", {"size": [28, 32], "channels": 3, "fit": fit})
    truth = load(str(tmp_path / "a.png"), Preprocess((28, 32), 3, fit))
    assert (made.shape, made.dtype) == ((3, 28, 32), np.float32)
    apart = np.rint(np.abs(made * 255 - truth.transpose(2, 0, 1)))
    assert (apart.max(), apart.mean()) <= (1, 5e-3)  # OpenCV adds areas in single precision


def test_colour_becomes_luminance_and_16_bits_become_8(tmp_path) -> None:
    rng = np.random.default_rng(1)
    cv2.imwrite(str(tmp_path / "colour.png"), rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), rng.integers(0, 65536, (50, 60), dtype=np.uint16))
    for name, allowed in (("colour.png", 1.001), ("deep.png", 1e-3)):  # two libraries round the luminance
        made = prepare(tmp_path / name, {"size": [28, 28], "channels": 1, "fit": "squash"})
        truth = load(str(tmp_path / name), Preprocess((28, 28), 1))
        assert np.abs(made * 255 - truth.transpose(2, 0, 1)).max() < allowed


def test_a_turned_photograph_is_turned(tmp_path) -> None:
    picture = Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    made = prepare(tmp_path / "a.png", {"size": [64, 48], "channels": 3, "fit": "squash"})
    assert np.abs(made * 255 - load(str(tmp_path / "a.png"), Preprocess((64, 48))).transpose(2, 0, 1)).max() < 1e-3


def test_real_photographs(shared: Path) -> None:
    files = sorted((shared / "data" / "ham10000").rglob("*.jpg"))[:8]
    assert files
    for file in files:
        made = prepare(file, {"size": [224, 224], "channels": 3, "fit": "squash"})
        apart = np.abs(made * 255 - load(str(file), Preprocess((224, 224))).transpose(2, 0, 1))
        assert (apart.mean() < 1, apart.max() < 40) == (True, True)  # decoded at a part of the size
