"""The checks of one image against what a model was trained on."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.audit.image_checks import TrainingImages, image_findings, unchecked
from overread.images.perceptual_hash import describe

RNG = np.random.default_rng(0)


def picture(*, size: int = 64, ill: float = 0.0) -> np.ndarray:
    """A bright oval on black, as a chest on a radiograph, with noise."""
    grid = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    chest = 170 * np.exp(-((grid[0] / 0.7) ** 4) - (grid[1] / 0.6) ** 4)
    return np.clip(chest + 15 + RNG.normal(0, 6, chest.shape) + ill, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def prints(tmp_path_factory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("checks")
    rows = []
    for number in range(24):
        cv2.imwrite(str(folder / f"{number}.png"), picture())
        rows.append(describe(str(folder / f"{number}.png")))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def training(prints) -> TrainingImages:
    table = pd.DataFrame({"modality": ["CR"] * 12 + ["DX"] * 12, "body_part": "CHEST"})
    return TrainingImages.of(prints, table, np.arange(16), np.arange(16, 20))


def told(pixels: np.ndarray, training: TrainingImages, tmp_path, **header: str) -> list[str]:
    cv2.imwrite(str(tmp_path / "new.png"), pixels)
    return [finding.kind for finding in image_findings(describe(str(tmp_path / "new.png")), header, training)]


def test_an_image_like_those_of_training_passes(training, tmp_path):
    assert told(picture(), training, tmp_path, modality="DX", body_part="CHEST", burned_in="NO") == []
    assert unchecked(training) == ()


def test_a_negative_is_told_from_its_original(training, tmp_path):
    assert "negative" in told(255 - picture(), training, tmp_path)
    assert "negative" not in told(255 - picture(), replace(training, layout=0.1), tmp_path), (
        "no common layout, no telling"
    )


def test_another_modality_or_body_part_is_told(training, tmp_path):
    assert told(picture(), training, tmp_path, modality="MR", body_part="CHEST") == ["modality"]
    assert told(picture(), training, tmp_path, modality="CR", body_part="KNEE") == ["body-part"]
    assert told(picture(), replace(training, modalities={}, body_parts={}), tmp_path, modality="MR") == []


def test_text_is_told_by_sight_and_by_the_header(training, tmp_path):
    assert told(picture(), training, tmp_path, burned_in="YES") == ["burned-in"]
    written = cv2.resize(picture(), (512, 512))
    cv2.putText(written, "DOE JANE 1962", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 3)
    large = replace(training, long=(64.0, 512.0))
    assert "burned-in" in told(written, large, tmp_path)
    often = replace(large, text=8)
    found = [f for f in image_findings(describe(str(tmp_path / "new.png")), {}, often) if f.kind == "burned-in"]
    assert found[0].severity == "note"


@pytest.mark.parametrize(("scale", "wanted"), [(0.25, True), (0.6, False), (1.9, False), (2.5, True)])
def test_sizes_within_a_factor_of_two_pass(scale, wanted, training, tmp_path):
    pixels = cv2.resize(picture(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert ("size" in told(pixels, training, tmp_path)) is wanted


def test_pixels_of_training_and_tuning_are_known_again_and_no_others(training, prints):
    seen = [training.has_seen(pixels) for pixels in prints["pixels"]]
    assert seen == [True] * 20 + [False] * 4
    assert not set(prints["pixels"]) & set(training.seen), "hashed"


def test_the_counts_of_an_audit_say_sizes_and_colours_only():
    held = TrainingImages.of_counts({"sizes": {"64×64": 9, "128×96": 1}, "modes": {"grey, 8 bit": 10}})
    assert (held.short, held.long, held.shape) == ((64.0, 96.0), (64.0, 128.0), (0.75, 1.0))
    assert held.modes == {"grey, 8 bit": 10}
    assert not held.has_seen("anything")
    assert len(unchecked(held)) == 1
    many = TrainingImages.of_counts({"sizes": {"64×64": 9, "other": 1}})
    assert many.short == (0.0, float("inf"))
