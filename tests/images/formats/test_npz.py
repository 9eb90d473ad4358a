"""Rows of arrays: the right ones, in any order, from any thread, without the whole array."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from overread.core.errors import ImageError
from overread.images.formats import npz
from overread.images.read import content_digest, read_image

RNG = np.random.default_rng(3)


@pytest.fixture(params=["stored", "deflated"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray]:
    rows = RNG.integers(0, 256, (3000, 28, 28), dtype=np.uint8)
    save = np.savez if request.param == "stored" else np.savez_compressed
    save(tmp_path / "a.npz", labels=np.zeros((3000, 1)), images=rows)
    return tmp_path / "a.npz", rows


@pytest.mark.parametrize("order", ["forward", "backward", "random"])
def test_rows_in_any_order(archive: tuple[Path, np.ndarray], order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "_BLOCK", 10_000)
    monkeypatch.setattr(npz, "_STRETCH", 300_000)
    path, rows = archive
    wanted = {"forward": range(3000), "backward": range(2999, -1, -1), "random": RNG.permutation(3000)[:500]}[order]
    for row in wanted:
        assert np.array_equal(read_image(f"{path}#images/{row}").pixels[..., 0], rows[row])


def test_rows_from_many_threads(archive: tuple[Path, np.ndarray]) -> None:
    path, rows = archive
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: read_image(f"{path}#images/{row}").pixels[..., 0], range(3000)))
    assert np.array_equal(np.stack(found), rows)


def test_shapes_of_rows(tmp_path: Path) -> None:
    npz = {
        "colour": RNG.integers(0, 256, (3, 8, 9, 3), dtype=np.uint8),
        "volume": RNG.integers(0, 256, (3, 5, 8, 9), dtype=np.uint8),
        "deep": RNG.integers(0, 65536, (3, 8, 9), dtype=np.uint16),
        "bits": np.ones((3, 8, 9), bool),
        "real": np.full((3, 8, 9), np.nan),
    }
    np.savez_compressed(tmp_path / "b.npz", **npz)
    at = lambda name: read_image(f"{tmp_path / 'b.npz'}#{name}/2")
    assert (at("colour").mode, at("colour").pixels.shape) == ("colour", (8, 9, 3))
    assert (at("volume").mode, at("volume").pixels.shape) == ("volume", (5, 8, 9, 1))
    assert (at("deep").bits, at("bits").pixels.max(), at("deep").format) == (16, 255, "array")
    assert content_digest(f"{tmp_path / 'b.npz'}#deep/2") == at("deep").digest
    with pytest.raises(ImageError, match="NaN"):
        at("real")


def test_what_is_not_a_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, flat=np.zeros((4, 4)), named=np.array([object()] * 3, dtype=object), images=np.zeros((2, 4, 4)))
    for address in ("flat/0", "named/0", "image/0", "images/2"):
        with pytest.raises(ImageError):
            read_image(f"{path}#{address}")
    with pytest.raises(ImageError, match="Did you mean 'images'"):
        read_image(f"{path}#image/0")
    with pytest.raises(ImageError, match="does not exist"):
        read_image(f"{tmp_path / 'd.npz'}#images/0")


def test_a_damaged_archive_is_an_error_and_not_other_pixels(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    np.savez_compressed(path, images=np.repeat(RNG.integers(0, 256, (50, 8, 8), dtype=np.uint8), 4, axis=0))
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0x55
    for data in (bytes(middle), whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ImageError):
            [read_image(f"{path}#images/{row}") for row in range(200)]


def test_the_array_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez_compressed(path, images=np.zeros((64, 1024, 1024), np.uint8))
    tracemalloc.start()
    for row in range(0, 64, 7):
        read_image(f"{path}#images/{row}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000  # of 67 MB
