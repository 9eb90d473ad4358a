"""Real images: photographs, stained cells, DICOM of many kinds, volumes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from overread.core.errors import ImageError
from overread.images.augment import Augmentation, apply, draw
from overread.images.crop import black_border, circular_field, text_boxes
from overread.images.preprocess import Preprocess, fit_normalisation, normalise
from overread.images.read import Image, read_image
from overread.images.store import pack


def test_photographs_are_what_pillow_decodes(shared: Path) -> None:
    folders = ("ham10000", "bccd/JPEGImages", "dsb2018")
    for folder in folders:
        paths = sorted(p for p in (shared / "data" / folder).rglob("*") if p.suffix in (".jpg", ".png"))[:400:40]
        assert paths
        for path in paths:
            with Pillow.open(path) as theirs:
                wanted = np.asarray(theirs.convert("RGB") if theirs.mode != "L" else theirs)
            mine = read_image(path).pixels
            assert mine.shape[:2] == wanted.shape[:2]
            if path.suffix == ".png" and mine.dtype == np.uint8:
                assert np.array_equal(mine, wanted.reshape(mine.shape))
            elif path.suffix == ".jpg":
                assert np.abs(mine.astype(int) - wanted.reshape(mine.shape)).max() <= 2


def test_a_real_jpeg_and_png_cut_at_every_sixteenth(shared: Path) -> None:
    jpeg = next(iter(sorted((shared / "data/ham10000").rglob("*.jpg"))))
    png = next(iter(sorted((shared / "data/dsb2018").rglob("*.png"))))
    for path in (jpeg, png):
        data = path.read_bytes()
        for part in range(16):
            with pytest.raises(ImageError):
                read_image(data[: len(data) * part // 16])


def attempt(path: Path) -> tuple[Image | None, str]:
    try:
        return read_image(path), ""
    except ImageError as error:
        return None, str(error)


def test_every_dicom_is_pixels_or_one_clear_error(shared: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((shared / "data/dicom/index.csv").read_text(encoding="utf-8"))))
    read = 0
    for row in rows:
        image, message = attempt(shared / "data/dicom" / row["file"])
        assert image is not None or message.startswith(row["file"])
        if image is not None:
            read += 1
            assert image.format == "DICOM"
            assert image.pixels.dtype in (np.uint8, np.uint16)
    assert read >= 50


def test_ct_and_mr_keep_their_order_of_values(shared: Path) -> None:
    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "explicit_VR-UN.dcm"):
        stored = pydicom.dcmread(shared / "data/dicom" / name).pixel_array.astype(float).ravel()
        mine = read_image(shared / "data/dicom" / name).pixels.astype(float).ravel()
        order = np.argsort(stored, kind="stable")
        assert (np.diff(mine[order]) >= 0).all()
    little, big = (read_image(shared / "data/dicom" / f"MR_small{n}.dcm").pixels for n in ("", "_bigendian"))
    assert np.array_equal(little, big)


def test_a_truncated_dicom_is_an_error(shared: Path) -> None:
    with pytest.raises(ImageError):
        read_image(shared / "data/dicom/MR_truncated.dcm")


def test_volumes_and_small_images_from_archives(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data/adrenalmnist3d/adrenalmnist3d.npz"
    with np.load(archive) as arrays:
        wanted = arrays["test_images"][:40]
    rows = [f"{archive}#test_images/{i}" for i in range(40)]
    made = pack(rows, Preprocess((28, 28, 28), 1), tmp_path)
    assert np.array_equal(made.images[..., 0], wanted)
    drawn = draw(
        Augmentation(flip_horizontal=0.5, rotate=15.0, scale=(0.9, 1.1), shift=0.05, brightness=0.1, contrast=0.1),
        seed=1,
        epoch=0,
        samples=np.arange(40),
        size=(28, 28),
        channels=1,
    )
    assert apply(made.images, drawn).shape == made.images.shape


def test_pneumonia_from_archive_to_normalised_batch(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data/pneumoniamnist/pneumoniamnist.npz"
    rows = [f"{archive}#{part}_images/{i}" for part in ("train", "test") for i in range(600)]
    plan = Preprocess((28, 28), 1)
    made = pack(rows, plan, tmp_path)
    assert made.failed == {}
    fitted, image = fit_normalisation(made, np.arange(600), plan)
    batch = normalise(made.images[:600], fitted, image)
    assert abs(float(batch.mean())) < 1e-3
    assert abs(float(batch.std()) - 1) < 1e-3


def test_a_folder_of_photographs_is_packed(shared: Path, tmp_path: Path) -> None:
    paths = [str(p) for p in sorted((shared / "data/ham10000").rglob("*.jpg"))[:100]]
    made = pack(paths, Preprocess((96, 96)), tmp_path)
    assert made.failed == {}
    assert made.images.std() > 10
    mean = np.stack([read_image(p).pixels.mean(axis=(0, 1)) for p in paths])
    assert np.abs(np.asarray(made.images).mean(axis=(1, 2)) - mean).max() < 2


def test_real_jpegs_that_lost_their_middle_are_found(shared: Path) -> None:
    paths = sorted((shared / "data/bccd/JPEGImages").glob("*.jpg"))[:40:4]
    for path in paths:
        data = path.read_bytes()
        scan = data.index(b"\xff\xda") + 14
        at = (scan + len(data)) // 2
        for broken in (
            data[:at] + b"\xff\xd9",
            data[:at] + bytes(512) + data[at + 512 :],
            data[:at] + data[at + 512 :],
        ):
            with pytest.raises(ImageError, match="damaged"):
                read_image(broken)
        read_image(data)


#: Files in data/dicom with a person's or a device's words in their pixels, found and not found; and without any.
WRITTEN = (
    "OBXXXX1A.dcm",
    "examples_jpeg2k.dcm",
    "examples_palette.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "examples_rgb_color.dcm",
)
PLAIN = (
    "examples_overlay.dcm",
    "JPEG-LL.dcm",
    "CT_small.dcm",
    "MR_small.dcm",
    "explicit_VR-UN.dcm",
    "SC_rgb_jpeg.dcm",
    "liver_1frame.dcm",
)


def test_writing_in_real_images_is_found_and_little_else(shared: Path) -> None:
    for name in WRITTEN:
        assert len(text_boxes(read_image(shared / "data/dicom" / name).pixels)) >= 4, name
    for name in PLAIN:
        assert not text_boxes(read_image(shared / "data/dicom" / name).pixels), name
    alarms = looked = 0
    for folder in ("ham10000/images", "ham10000/lesions600x450", "bccd/JPEGImages", "dsb2018/images"):
        for path in sorted(p for p in (shared / "data" / folder).rglob("*") if p.suffix in (".jpg", ".png"))[::12]:
            looked += 1
            alarms += bool(text_boxes(read_image(path).pixels))
    assert looked > 100
    assert alarms <= 0.02 * looked


def test_photographs_have_no_circle_and_hardly_a_border(shared: Path) -> None:
    paths = sorted(p for p in (shared / "data").rglob("*.jpg"))[::20]
    pixels = [read_image(path).pixels for path in paths]
    assert sum(circular_field(p) is not None for p in pixels) <= 0.02 * len(paths)
    assert sum(black_border(p) is not None for p in pixels) <= 0.02 * len(paths)
