"""The cheap looks before the search lose no line that the search finds, and spare what holds no writing."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from overread.images import burned_in_text
from overread.images.burned_in_text import text_boxes
from overread.images.image import Box

WORDS = ("MUELLER HANS", "12.03.1987", "Pat 004711", "LEFT BREAST", "Dr Smith", "img-0042")
SIZES, CONTRASTS = (7, 8, 9, 10, 12, 14, 18, 24, 32, 40), (30, 40, 60, 80, 120, 200)


def ground(rng: np.random.Generator, side: int) -> np.ndarray:
    """Something like skin: soft blotches, fine noise, a few hairs."""
    soft = cv2.GaussianBlur(rng.random((side, side), np.float32), (0, 0), side / 12)
    soft = cv2.normalize(soft, None, 60, 190, cv2.NORM_MINMAX) + rng.normal(0, rng.uniform(0, 6), (side, side))
    picture = np.clip(soft, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 4)):
        ends = [tuple(rng.integers(0, side, 2).tolist()) for _ in range(2)]
        cv2.line(picture, *ends, int(rng.integers(20, 60)), 1, cv2.LINE_AA)
    return picture


def drawn(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, Box]]:
    """Writing of every size and contrast, anywhere, bright or dark, by two kinds of letters, plain, blurred or as a JPEG."""
    for size in SIZES:
        for contrast in CONTRASTS:
            side = int(rng.choice([224, 300, 640]))
            picture = ground(rng, side)
            word = WORDS[rng.integers(len(WORDS))]
            mask = Pillow.new("L", (side, side))
            font = ImageFont.load_default(size)
            _, _, right, bottom = (int(x) for x in ImageDraw.Draw(mask).textbbox((0, 0), word, font=font))
            if right >= side - 2:
                continue
            x, y = int(rng.integers(0, side - right)), int(rng.integers(0, side - bottom))
            if rng.random() < 0.5:
                ImageDraw.Draw(mask).text((x, y), word, font=font, fill=255)
                ink = np.asarray(mask).astype(np.float32) / 255
            else:
                paper = np.zeros((side, side), np.uint8)
                cv2.putText(
                    paper,
                    word,
                    (x, y + bottom),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    size / 30,
                    255,
                    max(1, size // 15),
                    cv2.LINE_AA,
                )
                ink = paper.astype(np.float32) / 255
            sign = 1 if picture[y : y + bottom, x : x + right].mean() < 128 else -1
            written = np.clip(picture + sign * contrast * ink, 0, 255).astype(np.uint8)
            if rng.random() < 0.3:
                written = cv2.GaussianBlur(written, (0, 0), float(rng.uniform(0.3, 1.0)))
            if rng.random() < 0.5:
                coded = cv2.imencode(".jpg", written, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 98))])[1]
                written = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
            yield written[..., None], Box(y, x, y + bottom + 2, x + right)


def is_found(pixels: np.ndarray, place: Box) -> bool:
    return any(
        box.left < place.right and place.left < box.right and box.top < place.bottom and place.top < box.bottom
        for box in text_boxes(pixels)
    )


def search_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for look in ("_has_steps", "_has_thin_pieces", "_has_pieces"):
        monkeypatch.setattr(burned_in_text, look, lambda *anything: True)
    monkeypatch.setattr(burned_in_text, "_FEW", -1)


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 12))])
def test_what_the_whole_search_finds_is_found_after_the_looks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = list(drawn(np.random.default_rng(seed)))
    quick = [is_found(*one) for one in pictures]
    search_all(monkeypatch)
    whole = [is_found(*one) for one in pictures]
    assert sum(whole) > 0.4 * len(whole)
    assert quick == whole


def test_a_photograph_without_writing_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*anything: object) -> None:
        pytest.fail("it was searched")

    monkeypatch.setattr(cv2, "morphologyEx", searched)
    rng = np.random.default_rng(7)
    for side in (224, 600):
        soft = cv2.GaussianBlur(rng.random((side, side, 3), np.float32), (0, 0), side / 5)
        smooth = cv2.normalize(soft, None, 80, 160, cv2.NORM_MINMAX).astype(np.uint8)
        assert text_boxes(smooth) == ()


def test_the_percentile_of_bytes_is_that_of_numpy() -> None:
    from overread.images.crop import _percentile_99

    rng = np.random.default_rng(3)
    for size in (1, 2, 50, 101, 9999):
        values = rng.integers(0, rng.integers(1, 256), size, dtype=np.uint8)
        assert _percentile_99(values) == pytest.approx(np.percentile(values, 99))
