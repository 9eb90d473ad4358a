"""Images and masks of any size, kept as they are."""

import hashlib

import cv2
import numpy as np
import pytest

from overread.cells.native_store import _mask_digest, histograms, levels_of, pack_native
from overread.core.errors import InputError


def written(folder, seed=0):
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for row, (size, kind) in enumerate([((40, 30), np.uint8), ((25, 60), np.uint16), ((33, 33), np.uint8)]):
        pixels = rng.integers(0, 60_000 if kind == np.uint16 else 256, (*size, 3) if row == 2 else size).astype(kind)
        labels = rng.integers(0, 4, size).astype(np.uint16)
        for name, held, found in (("image", pixels, images), ("mask", labels, masks)):
            path = folder / f"{name}{row}.png"
            cv2.imwrite(str(path), held)
            found.append(str(path))
    return images, masks


def test_pixels_and_labels_are_kept_as_they_are(tmp_path):
    images, masks = written(tmp_path)
    store = pack_native(images, [*masks[:2], ""], tmp_path / "cache", threads=1)
    for row, image in enumerate(images):
        pixels = cv2.imread(image, cv2.IMREAD_UNCHANGED)
        pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels[..., None]
        assert store.rows[row].pixels.dtype == pixels.dtype
        assert (store.rows[row].pixels == pixels).all()
        slow = np.percentile(pixels.reshape(-1, pixels.shape[2]), (1, 99.8), axis=0).T
        assert np.allclose(store.rows[row].levels, slow, atol=1e-2)
    assert (store.rows[1].labels == cv2.imread(masks[1], cv2.IMREAD_UNCHANGED)).all()
    assert not store.rows[2].labels.any()
    assert isinstance(store.rows[0].pixels, np.memmap)


def test_a_damaged_row_is_decoded_again_and_a_whole_one_is_not(tmp_path):
    images, masks = written(tmp_path)
    first = pack_native(images, masks, tmp_path / "cache", threads=1)
    path, held = first.folder / "000001.row", [np.array(row.labels) for row in first.rows]
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    (first.folder / "000002.row").unlink()
    again = pack_native(images, masks, tmp_path / "cache", threads=1)
    assert again.rebuilt == 1
    assert again.folder == first.folder
    assert all((labels == row.labels).all() for labels, row in zip(held, again.rows, strict=True))


def test_what_cannot_be_read_is_counted_and_other_masks_are_another_store(tmp_path):
    images, masks = written(tmp_path)
    one = pack_native(images, masks, tmp_path / "cache", threads=1)
    assert pack_native(images, ["", *masks[1:]], tmp_path / "cache", threads=1).folder != one.folder
    (tmp_path / "image1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 image or mask cannot be read"):
        pack_native(images, masks, tmp_path / "cache", threads=1)


def test_several_masks_of_an_image_and_a_hash_in_a_name_are_read_as_the_audit_reads_them(tmp_path):
    images, masks = written(tmp_path)
    odd = tmp_path / "a#b.png"
    odd.write_bytes((tmp_path / "mask1.png").read_bytes())
    ones = [tmp_path / "one.png", tmp_path / "two.png"]
    for place, path in enumerate(ones):
        held = np.zeros((40, 30), np.uint8)
        held[5 + 10 * place : 12 + 10 * place, 3:9] = 255
        cv2.imwrite(str(path), held)
    given = ["|".join(map(str, ones)), str(odd), ""]
    store = pack_native(images, given, tmp_path / "cache", threads=1)
    assert np.bincount(store.rows[0].labels.ravel()).tolist() == [40 * 30 - 84, 42, 42]
    assert (store.rows[1].labels == cv2.imread(masks[1], cv2.IMREAD_UNCHANGED)).all()
    cv2.imwrite(str(ones[1]), np.full((40, 30), 255, np.uint8))
    assert pack_native(images, given, tmp_path / "cache", threads=1).folder != store.folder


def test_a_file_of_many_images_is_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "coco.json"
    path.write_text("{}")
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(1) or real(*given))
    found = {_mask_digest(f"{path}#image={row}.png") for row in range(5)}
    assert (len(found), len(hashed)) == (5, 1)
    path.write_text("{ }")
    assert _mask_digest(f"{path}#image=0.png") not in found
    assert len(hashed) == 2


def test_levels_are_numpys_percentiles():
    pixels = np.random.default_rng(0).integers(0, 300, (50, 41, 1)).astype(np.uint16)
    for low, high in ((0, 100), (1, 99.8), (33, 66)):
        assert np.allclose(levels_of(histograms(pixels), low, high)[0], np.percentile(pixels, (low, high)), atol=1e-3)
    assert levels_of(histograms(np.zeros((3, 3, 1), np.uint8)), 1, 99)[0].tolist() == [0, 1]
