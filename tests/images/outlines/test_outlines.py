"""Outlines of objects: label images as they are stored, numbered without gaps, written and read again."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from overread.core.errors import ArgumentError, ImageError
from overread.images.image import Limits
from overread.images.outlines.outlines import Outlines, consecutive, outlines_of, read_outlines, write_labels


@pytest.fixture
def labels() -> np.ndarray:
    """40 squares, 5 × 5, that touch each other, of the numbers 1 … 40."""
    return np.kron(np.arange(1, 41).reshape(5, 8), np.ones((5, 5), int))


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label images have the same objects, whatever their numbers: a slow restatement."""
    sets = [{tuple(np.flatnonzero(x.ravel() == n)) for n in np.unique(x) if n} for x in (a, b)]
    return sets[0] == sets[1]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int32", "float32"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_numbers_are_read_as_they_are_stored(tmp_path, labels, kind, ending) -> None:
    if ending == ".png" and kind not in ("uint8", "uint16"):
        pytest.skip("PNG holds 8 or 16 bits")
    path = tmp_path / f"x{ending}"
    values = (labels * 3 % 241).astype(kind)  # distinct, with gaps
    cv2.imwrite(str(path), values) if ending == ".png" else tifffile.imwrite(path, values)
    found = read_outlines(path, size=labels.shape)
    assert len(found) == 40
    assert same_objects(found.labels, labels)
    assert sorted(set(found.labels.ravel())) == list(range(1, 41))
    assert any("leave gaps" in note for note in found.notes)
    assert found.labels.dtype == np.int32


def test_a_32_bit_page_keeps_numbers_beyond_those_of_float32(tmp_path) -> None:
    values = np.zeros((8, 8), np.uint32)
    values[:4], values[4:] = 2**24, 2**24 + 1  # one number as float32
    tifffile.imwrite(tmp_path / "x.tif", values)
    assert len(read_outlines(tmp_path / "x.tif")) == 2


def test_indices_of_a_palette_are_the_numbers_and_not_its_colours(tmp_path, labels) -> None:
    image = Image.fromarray(labels.astype(np.uint8), "P")
    image.putpalette([7, 7, 7] * 256)  # all numbers have one colour
    image.save(tmp_path / "x.png")
    assert same_objects(read_outlines(tmp_path / "x.png").labels, labels)


def test_samples_of_four_bits_are_not_stretched(tmp_path) -> None:
    values = np.kron(np.arange(16).reshape(4, 4), np.ones((3, 3), int)).astype(np.uint8)
    image = Image.fromarray(values, "P")
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "x.png", bits=4)
    assert read_outlines(tmp_path / "x.png").labels.tolist() == values.tolist()


@pytest.mark.parametrize("inside", [1, 255])
def test_one_mask_has_an_object_for_each_connected_component(tmp_path, inside) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 80)), 3) > 0.51
    cv2.imwrite(str(tmp_path / "x.png"), mask.astype(np.uint8) * inside)
    found = read_outlines(tmp_path / "x.png")
    expected, many = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[::-1]
    assert len(found) == many - 1 > 3
    assert same_objects(found.labels, expected)
    assert "connected components count as the objects" in found.notes[0]


def test_one_bit_a_pixel_is_one_mask_in_png_and_tiff(tmp_path) -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:5, 2:5], mask[10:15, 20:22] = True, True
    Image.fromarray(mask).save(tmp_path / "x.png")
    tifffile.imwrite(tmp_path / "x.tif", mask)
    for name in ("x.png", "x.tif"):
        assert read_outlines(tmp_path / name).areas.tolist() == [9, 10]


def test_colours_are_objects_and_black_is_none(tmp_path, labels) -> None:
    colours = np.zeros((*labels.shape, 3), np.uint8)
    colours[..., 0], colours[..., 1] = labels % 7 * 30, labels * 5
    colours[:5] = 0
    Image.fromarray(colours).save(tmp_path / "x.png")
    assert same_objects(read_outlines(tmp_path / "x.png").labels, np.where(np.arange(25)[:, None] < 5, 0, labels))


def test_a_mask_that_a_resize_made_smooth_is_cut_at_half_and_that_is_said(tmp_path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 255
    smooth = cv2.resize(mask, (70, 70), interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(tmp_path / "x.png"), smooth)
    found = read_outlines(tmp_path / "x.png")
    assert len(found) == 1
    assert found.areas[0] == pytest.approx(35 * 35, rel=0.06)
    assert any("grey values between" in note for note in found.notes)


def test_numbers_do_not_survive_jpeg_but_a_mask_does(tmp_path, labels) -> None:
    Image.fromarray((labels * 6).astype(np.uint8)).save(tmp_path / "x.jpg", quality=95)
    with pytest.raises(ImageError, match="do not survive JPEG"):
        read_outlines(tmp_path / "x.jpg")
    mask = np.zeros((64, 64), np.uint8)
    mask[16:40, 8:40] = 255
    Image.fromarray(mask).save(tmp_path / "y.jpg", quality=80)
    assert read_outlines(tmp_path / "y.jpg").areas.tolist() == [24 * 32]


def test_a_mask_of_another_size_than_its_image_is_refused_without_its_folder(tmp_path, labels) -> None:
    (tmp_path / "anna").mkdir()
    cv2.imwrite(str(tmp_path / "anna" / "x.png"), labels.astype(np.uint8))
    with pytest.raises(ImageError, match=r"x\.png: the mask has another size") as error:
        read_outlines(tmp_path / "anna" / "x.png", size=(26, 40))
    assert "anna" not in str(error.value)
    tifffile.imwrite(tmp_path / "y.tif", labels.astype(np.float32) / 2)
    with pytest.raises(ImageError, match="whole numbers"):
        read_outlines(tmp_path / "y.tif")


def test_a_damaged_or_huge_label_image_is_refused(tmp_path, labels) -> None:
    buffer = BytesIO()
    Image.fromarray(labels.astype(np.uint16)).save(buffer, "PNG")
    data = buffer.getvalue()
    for stop in range(0, len(data), max(1, len(data) // 16)):
        (tmp_path / "x.png").write_bytes(data[:stop])
        with pytest.raises(ImageError):
            read_outlines(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match="larger than the limit"):
        read_outlines(tmp_path / "x.png", limits=Limits(pixels=900))
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((3, 20, 20), np.uint16), photometric="minisblack")
    with pytest.raises(ImageError, match="one page"):
        read_outlines(tmp_path / "x.tif")


@pytest.mark.parametrize("many", [3, 70_000])
def test_what_is_written_is_read_again(tmp_path, many) -> None:
    values = np.arange(400 * 400).reshape(400, 400) % (many + 1)
    path = write_labels(tmp_path / "x.png", values)
    assert path.suffix == (".png" if many < 65_536 else ".tif")
    assert (read_outlines(path).labels == values).all()
    first = path.read_bytes()
    assert write_labels(tmp_path / "x.png", values).read_bytes() == first


def test_labels_are_numbered_without_gaps() -> None:
    values = np.array([[0, 5, 5], [2**40, -3, 0]])
    made, names = consecutive(values)
    assert made.tolist() == [[0, 1, 1], [2, 0, 0]]
    assert names.tolist() == [5, 2**40]
    assert consecutive(np.array([[2**40, 3]]))[0].tolist() == [[2, 1]]
    assert outlines_of(np.array([[0, 3, 1]]), classes=("a", "b", "c")).classes == ("a", "c")


def test_outlines_compare_by_content_and_refuse_what_does_not_fit() -> None:
    one, two = outlines_of(np.array([[0, 1]])), outlines_of(np.array([[0, 1]]))
    assert one == two
    assert len({one, two, outlines_of(np.array([[1, 0]]))}) == 2
    assert one.of_class("x").tolist() == [[0, 0]]
    with pytest.raises(ArgumentError, match="needs a class"):
        Outlines(np.ones((2, 2), np.int32), ())
    with pytest.raises(ArgumentError, match="int32"):
        Outlines(np.ones((2, 2), np.int64), ("",))
    with pytest.raises(ArgumentError, match="negative"):
        write_labels("x.png", np.array([[-1]]))
