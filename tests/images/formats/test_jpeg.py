"""A JPEG whose middle or end is lost is found out; one that is whole, however odd, is not accused."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from overread.core.errors import ImageError
from overread.images.formats.jpeg import BASELINE, PROGRESSIVE, jpeg_header
from overread.images.read import read_image

RNG = np.random.default_rng(13)
TEXTURE = cv2.normalize(
    cv2.GaussianBlur(RNG.random((200, 296, 3), np.float32), (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX
).astype(np.uint8)
END = b"\xff\xd9"
KINDS: dict[str, dict[str, object]] = {
    "4:2:0": {}, "4:4:4": {"subsampling": 0}, "optimised": {"optimize": True}, "grey": {}, "CMYK": {},
    "restart rows": {"restart_marker_rows": 1}, "restart blocks": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
}  # fmt: skip


def encoded(kind: str, pixels: np.ndarray = TEXTURE, quality: int = 90) -> bytes:
    image = Pillow.fromarray(pixels).convert({"grey": "L", "CMYK": "CMYK"}.get(kind, "RGB"))
    handle = io.BytesIO()
    image.save(handle, "JPEG", quality=quality, **KINDS[kind])
    return handle.getvalue()


def places(data: bytes) -> list[int]:
    """Bytes in the coded data of the first scan, from a tenth to nine tenths of the file."""
    start = data.index(b"\xff\xda") + 14
    return [start + int((len(data) - start) * part) for part in (0.1, 0.3, 0.5, 0.7, 0.9)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_jpeg_is_read(kind: str) -> None:
    assert read_image(encoded(kind)).pixels.shape[:2] == (200, 296)


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_marker_after_a_cut_hides_nothing(kind: str) -> None:
    data = encoded(kind)
    for at in places(data)[:-1]:  # a progressive one may end within its last scan, of the finest detail
        with pytest.raises(ImageError, match="damaged"):
            read_image(data[:at] + END)
        with pytest.raises(ImageError, match="cut off"):
            read_image(data[:at])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "progressive"])
def test_a_lost_or_overwritten_sector_is_found(kind: str) -> None:
    data = encoded(kind)
    for at in places(data)[:-1]:
        # noise may by chance hold as many blocks as were there
        for sector in (bytes(512), b"\xff" * 512, b""):
            with pytest.raises(ImageError, match="damaged"):
                read_image(data[:at] + sector + data[at + 512 :])


@pytest.mark.parametrize("kind", ["4:2:0", "grey"])
def test_it_is_found_at_a_fraction_of_the_size_too(kind: str) -> None:
    data = encoded(kind)
    at = places(data)[2]
    with pytest.raises(ImageError, match="damaged"):
        read_image(data[:at] + data[at + 512 :], at_least=(25, 37))


def test_restart_markers_out_of_order_are_found() -> None:
    data = encoded("restart rows")
    first, second = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")
    for broken in (data[:first] + data[second:], data.replace(b"\xff\xd1", b"\xff\xd2", 1)):
        with pytest.raises(ImageError, match="restart markers"):
            read_image(broken)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_and_grey_corners_are_not_accused(kind: str, level: int) -> None:
    """The grey of the filling, and long runs of zeros in the coded data, also stand in whole images."""
    flat = np.full((240, 320, 3), level, np.uint8)
    corner = TEXTURE.copy()
    corner[100:, 150:] = level
    for pixels in (flat, corner):
        assert read_image(encoded(kind, pixels)).pixels.shape[:2] == pixels.shape[:2]
    big = np.full((1600, 1600, 3), level, np.uint8)
    big[:64, :64] = TEXTURE[:64, :64]
    read_image(encoded(kind, big))


def scans(count: int, *, size: int = 64) -> bytes:
    """A progressive JPEG whose last scan is there ``count`` times."""
    data = encoded("progressive", np.resize(TEXTURE, (size, size, 3)))
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + END


def test_a_film_of_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    read_image(scans(20))
    monkeypatch.setattr(cv2, "imdecode", lambda *data: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=r"too many scans .given: 3,0\d\d of 64 x 64 pixels"):
        read_image(scans(3000))
    monkeypatch.setattr("overread.images.formats.jpeg.WORK", 64 * 64 * 20)
    with pytest.raises(ImageError, match="too many scans"):
        read_image(scans(20))


def test_scans_behind_the_end_are_those_of_another_picture() -> None:
    assert read_image(encoded("progressive") + b"".join([encoded("grey")] * 100)).pixels.shape[:2] == (200, 296)


def test_what_follows_the_end_does_not_matter() -> None:
    data = encoded("4:2:0")
    assert np.array_equal(read_image(data + bytes(100)).pixels, read_image(data).pixels)
    assert np.array_equal(read_image(data + encoded("grey")).pixels, read_image(data).pixels)


@pytest.mark.parametrize(
    ("options", "process"), [({}, BASELINE), ({"progressive": True}, PROGRESSIVE), ({"subsampling": 0}, BASELINE)]
)
def test_a_jpeg_header_is_that_of_pillow(options: dict[str, object], process: int) -> None:
    handle = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(3).integers(0, 256, (37, 53, 3), np.uint8)).save(handle, "JPEG", **options)
    data = handle.getvalue()
    header = jpeg_header(data)
    assert (header.height, header.width, header.samples, header.bits) == (37, 53, 3, 8)
    assert header.process == process
    assert data[header.scan : header.scan + 2] == b"\xff\xda"
    assert data[header.frame + 1] == process
