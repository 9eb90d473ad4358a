"""Borders, circles and writing that were drawn are found where they were drawn, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.images.crop import Box, Circle, black_border, circular_field, crop, text_boxes

RNG = np.random.default_rng(8)


def tissue(height: int, width: int, low: int = 90, high: int = 200) -> np.ndarray:
    """A smooth random texture (H, W, 3)."""
    noise = cv2.GaussianBlur(RNG.random((height, width, 3), np.float32), (0, 0), 15)
    return cv2.normalize(noise, None, low, high, cv2.NORM_MINMAX).astype(np.uint8)


def noisy(pixels: np.ndarray, quality: int = 85) -> np.ndarray:
    """Sensor noise, and a JPEG."""
    noise = RNG.normal(0, 2, pixels.shape)
    loud = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", loud, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def fundus(height: int, width: int, circle: Circle) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    inside = (rows - circle.row) ** 2 + (columns - circle.column) ** 2 <= circle.radius**2
    return tissue(height, width) * inside[..., None].astype(np.uint8)


# -- borders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "box", [Box(40, 0, 400, 640), Box(0, 120, 480, 520), Box(33, 57, 431, 603), Box(0, 0, 455, 640)]
)
def test_a_black_border_is_found_to_a_pixel_or_two(box: Box) -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[box.slices] = tissue(480, 640)[box.slices]
    found = black_border(noisy(pixels))
    assert found is not None
    assert max(abs(a - b) for a, b in zip(vars(found).values(), vars(box).values())) <= 2
    assert black_border((pixels * np.uint16(16)).astype(np.uint16)) == black_border(pixels)


def test_a_label_in_the_border_is_no_picture() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[60:420, 100:540] = tissue(360, 440)
    cv2.putText(pixels, "L 2021-05-11", (5, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    found = black_border(noisy(pixels))
    assert found is not None
    assert abs(found.top - 60) <= 2
    assert abs(found.left - 100) <= 2


@pytest.mark.parametrize("pixels", [tissue(300, 400), np.zeros((50, 60, 1), np.uint8), np.full((9, 9, 3), 7, np.uint8)])
def test_no_border_is_none(pixels: np.ndarray) -> None:
    assert black_border(pixels) is None
    assert circular_field(pixels) is None


def test_cells_on_a_dark_ground_have_no_border() -> None:
    pixels = np.full((256, 256), 6, np.uint8)
    for row, column in RNG.integers(40, 216, (25, 2)).tolist():
        cv2.circle(pixels, (column, row), 8, 120, -1)
    assert black_border(pixels[..., None]) is None


# -- circles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "circle"),
    [((600, 800), Circle(300, 400, 280)), ((600, 800), Circle(300, 410, 350)), ((584, 565), Circle(290, 282, 265)),
     ((1500, 2000), Circle(760, 990, 820)), ((600, 600), Circle(300, 300, 340))],
)  # fmt: skip
def test_a_circular_field_is_found_whole_or_cut(size: tuple[int, int], circle: Circle) -> None:
    found = circular_field(noisy(fundus(*size, circle)))
    assert found is not None
    tolerance = 0.01 * max(size)
    assert abs(found.row - circle.row) < tolerance
    assert abs(found.column - circle.column) < tolerance
    assert abs(found.radius - circle.radius) < tolerance


def test_a_notch_and_a_label_do_not_move_the_circle() -> None:
    pixels = fundus(600, 800, Circle(300, 400, 280))
    cv2.rectangle(pixels, (665, 270), (700, 300), (150, 150, 150), -1)  # the notch of many cameras
    cv2.putText(pixels, "OD", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
    found = circular_field(noisy(pixels))
    assert found is not None
    assert abs(found.radius - 280) < 5


def test_what_is_not_round_is_no_field() -> None:
    canvas = np.zeros((480, 640), np.uint8)
    shapes = []
    for _ in range(4):
        shapes.append(canvas.copy())
    cv2.rectangle(shapes[0], (100, 60), (540, 420), 180, -1)
    cv2.ellipse(shapes[1], (320, 240), (280, 180), 0, 0, 360, 180, -1)
    cv2.fillPoly(shapes[2], [np.int32([(320, 20), (620, 460), (20, 460)])], 180)
    cv2.ellipse(shapes[3], (320, 20), (430, 430), 0, 45, 135, 180, -1)  # the sector of an ultrasound probe
    for shape in shapes:
        assert circular_field(shape[..., None]) is None


def test_the_crop_keeps_the_circle_and_blackens_the_rest() -> None:
    pixels = fundus(600, 800, Circle(300, 400, 280))
    pixels[10:40, 10:200] = 255
    cropped, note = crop(pixels, "field")
    assert "circular field" in note
    assert abs(cropped.shape[0] - 561) <= 4
    assert abs(cropped.shape[1] - 561) <= 4
    assert cropped[:30, :30].max() == 0
    assert crop(pixels, "none")[0] is pixels


def test_without_a_circle_the_border_is_cropped() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[40:440, 100:540] = tissue(400, 440)
    for how in ("border", "field"):
        cropped, note = crop(pixels, how)
        assert "black border" in note
        assert abs(cropped.shape[0] - 400) <= 4
    assert crop(tissue(60, 60), "border")[1] == "no black border"
    with pytest.raises(ArgumentError, match="crop"):
        crop(pixels, "feild")


# -- writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.6, 0.8, 1.2, 2.0])
@pytest.mark.parametrize("ink", [255, 0])
@pytest.mark.parametrize("ground", ["black", "tissue"])
def test_writing_is_found_where_it_was_drawn(ground: str, ink: int, scale: float) -> None:
    pixels = tissue(512, 512) if ground == "tissue" else np.full((512, 512, 3), 255 - ink, np.uint8)
    text, thick = "DOE JOHN 1958", max(1, round(scale * 1.5))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    cv2.putText(pixels, text, (12, 60), cv2.FONT_HERSHEY_SIMPLEX, scale, (ink,) * 3, thick, cv2.LINE_AA)
    for seen in (pixels, noisy(pixels, 90), pixels[..., :1].astype(np.uint16) * 257):
        boxes = text_boxes(seen)
        assert boxes
        inside = sum(max(0, min(b.right, 12 + width) - max(b.left, 12)) for b in boxes)
        assert inside > 0.5 * width
        assert all(b.bottom > 60 - height - 8 and b.top < 70 for b in boxes)


def test_writing_in_a_large_image_is_found_after_shrinking() -> None:
    pixels = tissue(2400, 3000)
    cv2.putText(pixels, "St. Mary Hospital", (1700, 2350), cv2.FONT_HERSHEY_DUPLEX, 2, (255, 255, 255), 3)
    boxes = text_boxes(pixels)
    assert boxes
    assert min(box.left for box in boxes) < 1900
    assert all(box.left > 1650 and 2250 < box.top < 2350 for box in boxes)


def test_what_is_not_writing_is_left_alone() -> None:
    drawn = tissue(480, 480)
    for i in range(12):  # a ruler
        cv2.line(drawn, (40 + 30 * i, 440), (40 + 30 * i, 460), (255, 255, 255), 1)
    for row, column in RNG.integers(20, 400, (40, 2)).tolist():  # cells
        cv2.circle(drawn, (column, row), 9, (60, 40, 120), -1)
    for _ in range(30):  # hairs
        points = RNG.integers(0, 480, 4).tolist()
        cv2.line(drawn, tuple(points[:2]), tuple(points[2:]), (30, 20, 20), 2, cv2.LINE_AA)
    drawn = cv2.GaussianBlur(drawn, (0, 0), 1)  # a lens
    cv2.putText(drawn, "L", (430, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 2)  # a side marker
    assert text_boxes(drawn) == ()
    assert text_boxes(RNG.integers(0, 256, (300, 300, 3), dtype=np.uint8)) == ()


def test_phantoms_hold_no_writing(phantom) -> None:  # type: ignore[no-untyped-def]
    from overread.images.read import read_image

    paths = sorted(phantom.parent.rglob("*.png"))[:40]
    assert paths
    assert not any(text_boxes(read_image(path).pixels) for path in paths)
