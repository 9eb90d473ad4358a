from __future__ import annotations

import os

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.audit.fingerprints import _keys, take_fingerprints
from overread.images.perceptual_hash import perceptual_hash, pixel_hash

from ..conftest import made, picture, write


def cases_in(folder, names):
    cases = made({"image": names, "label": ["yes", "no"] * (len(names) // 2) + ["no"] * (len(names) % 2)})
    object.__setattr__(cases, "root", str(folder))
    return cases


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a.png", picture(1, 40))
    write(tmp_path / "b.png", picture(1, 40), cv2.IMWRITE_PNG_COMPRESSION, 1)
    write(tmp_path / "c.jpg", picture(2, 40))
    write(tmp_path / "grey.png", picture(3, 40)[..., 0])
    write(tmp_path / "as colour.png", np.repeat(picture(3, 40)[..., :1], 3, axis=2))
    write(tmp_path / "deep.png", picture(3, 40)[..., 0].astype(np.uint16) * 257)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    (tmp_path / "empty.png").touch()
    np.savez(tmp_path / "v.npz", train_images=np.arange(2 * 6 * 6 * 6, dtype=np.uint8).reshape(2, 6, 6, 6))
    return tmp_path


NAMES = [
    "a.png",
    "b.png",
    "c.jpg",
    "grey.png",
    "as colour.png",
    "deep.png",
    "cut.png",
    "empty.png",
    "gone.png",
    "v.npz#train_images/1",
]


def test_one_row_an_image_in_their_order(folder):
    prints = take_fingerprints(cases_in(folder, NAMES))
    assert (prints["error"] != "").tolist() == [False] * 6 + [True] * 3 + [False]
    assert prints["format"].tolist()[:3] == ["PNG", "PNG", "JPEG"]
    assert prints["mode"].tolist()[:4] == ["colour", "colour", "colour", "grey"]
    assert prints["bits"].tolist()[5] == 16
    assert prints["depth"].iloc[-1] == 6
    assert prints.loc[0, ["height", "width", "channels"]].tolist() == [40, 40, 3]
    np.testing.assert_allclose(prints["mean"].iloc[3], picture(3, 40)[..., 0].mean() / 255, atol=1e-6)
    np.testing.assert_allclose(prints["std"].iloc[5], picture(3, 40)[..., 0].std() / 255, atol=1e-6)


def test_reasons_name_no_files(folder):
    errors = take_fingerprints(cases_in(folder, NAMES))["error"]
    assert not errors.str.contains(r"cut\.png|empty\.png|gone\.png").any()
    assert (errors.iloc[6:9] != "").all()


def test_borders_circles_and_text_are_columns(folder):
    framed = np.zeros((100, 100, 3), np.uint8)
    framed[25:75] = picture(1, 100)[25:75]
    write(folder / "framed.png", framed)
    prints = take_fingerprints(cases_in(folder, ["framed.png", "a.png", "cut.png", "v.npz#train_images/0"]))
    assert prints["border"].dtype == np.float64
    assert prints["border"].tolist()[1:] == [0.0, 0.0, 0.0]
    assert prints["border"].iloc[0] == pytest.approx(0.5, abs=0.03)
    assert (prints["circle"].dtype, prints["text"].dtype) == (bool, np.int64)


def test_equal_pixels_in_different_files(folder):
    prints = take_fingerprints(cases_in(folder, NAMES))
    assert prints["digest"].iloc[0] != prints["digest"].iloc[1]
    assert prints["pixels"].iloc[0] == prints["pixels"].iloc[1]
    assert prints["pixels"].iloc[3] == prints["pixels"].iloc[4]  # grey stored as colour
    assert prints["pixels"].iloc[3] != prints["pixels"].iloc[5]


def _refuse(*arguments, **options):
    for address in arguments[1]:
        raise AssertionError(f"{address} is read although it is in the cache")
    yield from ()


def test_the_cache_gives_the_same_and_forgets_what_changed(folder, tmp_path, monkeypatch):
    cases, cache = cases_in(folder, NAMES), tmp_path / "cache"
    first = take_fingerprints(cases, cache=cache)
    monkeypatch.setattr("overread.cases.audit.described_rows.contained", _refuse)
    good = cases.take([0, 1, 2])
    assert take_fingerprints(good, cache=cache).equals(first.iloc[:3])
    monkeypatch.undo()
    write(folder / "c.jpg", picture(7, 40))
    os.utime(folder / "c.jpg", ns=(1, 1))
    again = take_fingerprints(cases, cache=cache)
    assert again["digest"].iloc[2] != first["digest"].iloc[2]
    pd.testing.assert_frame_equal(again.drop(2), first.drop(2))


def test_a_series_is_read_again_when_its_folder_changes(folder):
    one = _keys([f"{folder}/a.png#series", f"{folder}/a.png"])
    os.utime(folder, ns=(1, 1))
    two = _keys([f"{folder}/a.png#series", f"{folder}/a.png"])
    assert one[0] != two[0]
    assert one[1] == two[1]


def test_addresses_within_a_file_follow_the_file(folder):
    names = [f"{folder}/a.png#frame=1", f"{folder}/v.npz#train_images/0", f"{folder}/a.png#plane=axial&at=x"]
    one = _keys(names)
    os.utime(folder / "a.png", ns=(1, 1))
    two = _keys(names)
    assert [a == b for a, b in zip(one, two)] == [False, True, True]


def test_failures_are_tried_again(folder, tmp_path):
    cases = cases_in(folder, ["a.png", "cut.png"])
    take_fingerprints(cases, cache=tmp_path / "cache")
    write(folder / "cut.png", picture(1, 40))
    assert (take_fingerprints(cases, cache=tmp_path / "cache")["error"] == "").all()


def test_a_damaged_cache_counts_as_empty(folder, tmp_path):
    cases, cache = cases_in(folder, ["a.png"]), tmp_path / "cache"
    first = take_fingerprints(cases, cache=cache)
    (cache / "fingerprints.parquet").write_bytes(b"PAR1 damaged")
    assert take_fingerprints(cases, cache=cache).equals(first)
    assert take_fingerprints(cases, cache=cache).equals(first)


def test_the_cache_holds_no_names(folder, tmp_path):
    cache = tmp_path / "cache"
    write(folder / "Jane_Doe.png", picture(5, 20))
    take_fingerprints(cases_in(folder, ["Jane_Doe.png"]), cache=cache)
    assert b"Jane" not in (cache / "fingerprints.parquet").read_bytes()


def test_threads_do_not_matter(folder):
    names = NAMES * 20
    cases = made(
        {"image": names, "case": [str(i) for i in range(len(names))], "label": ["yes", "no"] * (len(names) // 2)}
    )
    object.__setattr__(cases, "root", str(folder))
    assert take_fingerprints(cases, threads=1).equals(take_fingerprints(cases, threads=3))


def test_the_perceptual_hash_ignores_brightness_and_contrast():
    small = cv2.resize(picture(4)[..., 0].astype(np.float32), (32, 32))
    assert perceptual_hash(small) == perceptual_hash(small * 0.5 + 20)
    other = cv2.resize(picture(5)[..., 0].astype(np.float32), (32, 32))
    assert bin(perceptual_hash(small) ^ perceptual_hash(other)).count("1") > 12


def test_the_hash_of_pixels_knows_shape_and_type():
    flat = np.zeros((4, 6, 1), np.uint8)
    assert len({pixel_hash(flat), pixel_hash(flat.reshape(6, 4, 1)), pixel_hash(flat[:2].astype(np.uint16))}) == 3
