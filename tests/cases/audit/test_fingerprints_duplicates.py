from __future__ import annotations

import cv2
import numpy as np
import pytest

from overread.cases.audit.fingerprints import (
    components,
    exact,
    near_duplicates,
    similar,
    take_fingerprints,
    unexplained,
)

from ..conftest import made, picture, write


def by_definition(phash: np.ndarray, distance: int) -> set[tuple[int, int]]:
    words = [int(h) for h in phash]
    return {
        (i, j)
        for i in range(len(words))
        for j in range(i + 1, len(words))
        if bin(words[i] ^ words[j]).count("1") <= distance
    }


@pytest.mark.parametrize(("count", "distance"), [(0, 3), (1, 3), (150, 0), (700, 4), (2500, 20)])
def test_every_pair_and_no_other(count, distance):
    rng = np.random.default_rng(count)
    phash = rng.integers(0, 1 << 63, count, dtype=np.uint64)
    for i in range(0, count - 1, 5):  # neighbours, also across tiles
        phash[rng.integers(count)] = phash[i] ^ np.uint64(0b111 << (i % 60))
    found = near_duplicates(phash, distance=distance)
    assert set(map(tuple, found.tolist())) == by_definition(phash, distance)
    assert len(found) == len(set(map(tuple, found.tolist())))


def test_without_numpy_2(monkeypatch):
    phash = np.random.default_rng(1).integers(0, 1 << 63, 100, dtype=np.uint64)
    there = near_duplicates(phash, distance=24)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_array_equal(near_duplicates(phash, distance=24), there)


def test_too_many_pairs_lower_the_distance():
    phash = np.array([0, 1, 3, 7, 15, 31, 63] + [0] * 20, np.uint64)
    found = near_duplicates(phash, distance=6, limit=250)
    assert len(found) <= 250
    assert {(0, 7), (7, 26)} <= set(map(tuple, found.tolist()))  # equal hashes stay


def test_threads_do_not_matter():
    phash = np.random.default_rng(2).integers(0, 1 << 63, 900, dtype=np.uint64)
    np.testing.assert_array_equal(
        near_duplicates(phash, distance=18, threads=1), near_duplicates(phash, distance=18, threads=4)
    )


def shifted(pixels, dx, dy=0, scale=1.0):
    side = pixels.shape[0]
    matrix = np.array([[scale, 0, (1 - scale) * side / 2 + dx], [0, scale, (1 - scale) * side / 2 + dy]])
    return cv2.warpAffine(pixels, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)


def resized(pixels, factor):
    return cv2.resize(
        pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )


def brighter(pixels, gain, offset):
    return np.clip(pixels.astype(np.float32) * gain + offset, 0, 255).astype(np.uint8)


CHANGES = {
    "shift of 1": lambda p: shifted(p, 1), "shift of 2": lambda p: shifted(p, -2, 1), "half": lambda p: resized(p, 0.5),
    "larger": lambda p: resized(p, 1.5), "brighter": lambda p: brighter(p, 1.08, 6), "darker": lambda p: brighter(p, 0.85, -4),
    "zoom": lambda p: shifted(p, 0, 0, 1.03),
}  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """20 images, a JPEG and a changed copy of each of the first, and what belongs together."""
    folder = tmp_path_factory.mktemp("planted")
    names, truth = [], set()
    for i in range(20):
        write(folder / f"{i}.png", picture(i, 96))
        names.append(f"{i}.png")
    for k, (name, change) in enumerate(CHANGES.items()):
        write(folder / f"{k} {name}.png", change(picture(k, 96)))
        names.append(f"{k} {name}.png")
        truth.add((k, len(names) - 1))
    write(folder / "9.jpg", picture(9, 96), cv2.IMWRITE_JPEG_QUALITY, 50)
    truth.add((9, len(names)))
    names.append("9.jpg")
    write(folder / "copy.png", picture(11, 96))
    names.append("copy.png")
    cases = made({"image": names, "label": ["yes", "no"] * (len(names) // 2) + ["no"] * (len(names) % 2)})
    object.__setattr__(cases, "root", str(folder))
    return take_fingerprints(cases), truth, names


def test_planted_near_duplicates_are_found_and_no_others(planted):
    prints, truth, _ = planted
    assert set(map(tuple, similar(prints).tolist())) == truth


def test_exact_copies_are_no_near_duplicates(planted):
    prints, _, names = planted
    assert exact(prints).tolist() == [[11, names.index("copy.png")]]


def test_blank_images_are_nobodys_copy(tmp_path):
    for i in range(4):
        write(tmp_path / f"{i}.png", np.full((16, 16), 20 * (i // 2), np.uint8))
    cases = made({"image": [f"{i}.png" for i in range(4)], "label": ["yes", "no"] * 2})
    object.__setattr__(cases, "root", str(tmp_path))
    prints = take_fingerprints(cases)
    assert len(exact(prints)) == 0
    assert len(similar(prints)) == 0


def test_unexplained_is_a_share_of_variance():
    rng = np.random.default_rng(0)
    thumbs = np.array([rng.integers(0, 256, 1024, dtype=np.uint8).tobytes() for _ in range(3)], object)
    pairs = np.array([[0, 0], [0, 1], [1, 2]])
    share = unexplained(thumbs, pairs)
    assert share[0] < 1e-3
    assert ((share[1:] > 0.8) & (share[1:] <= 1)).all()
    assert unexplained(thumbs, pairs[:0]).shape == (0,)


def test_components():
    found = components(6, np.array([[0, 3], [3, 5], [1, 2]]))
    assert found[0] == found[3] == found[5] != found[1]
    assert found[1] == found[2]
    assert len(set(found)) == 3
    assert components(2, np.empty((0, 2), np.int64)).tolist() == [0, 1]
