"""Images and masks of any size, kept as they are."""

import cv2
import numpy as np
import pytest

from overread.cells.native_store import histograms, levels_of, pack_native
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


def test_levels_are_numpys_percentiles():
    pixels = np.random.default_rng(0).integers(0, 300, (50, 41, 1)).astype(np.uint16)
    for low, high in ((0, 100), (1, 99.8), (33, 66)):
        assert np.allclose(levels_of(histograms(pixels), low, high)[0], np.percentile(pixels, (low, high)), atol=1e-3)
    assert levels_of(histograms(np.zeros((3, 3, 1), np.uint8)), 1, 99)[0].tolist() == [0, 1]
