"""Marked patches: what a table of them says, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from overread.cells.few_patches.marked_patches import MarkedPatch, framed, painted, read_patches
from overread.core.errors import ImageError, InputError, OverreadError

HEAD = "image,x,y,feature,present\n"


def read(tmp_path, text, **more):
    path = tmp_path / "patches.csv"
    path.write_text(text)
    return read_patches(path, **more)


def test_a_table_of_patches(tmp_path):
    marked = read(tmp_path, HEAD + "a.tif,10,20,rib,1\na.tif,90,20,rib,no\nb.tif,5,6,mem,YES\nb.tif,50,60,mem,0\n")
    assert (marked.features, marked.images) == (("rib", "mem"), ("a.tif", "b.tif"))
    first = marked.of("rib", present=True)[0]
    assert (first.x, first.y, first.side, first.top, first.left) == (10, 20, 64, -12, -22)
    assert "rib 1 with, 1 without" in str(marked)
    assert read(tmp_path, HEAD + "a.tif,1,2,rib,1\na.tif,1,2,rib,0\na.tif,1,2,mem,1\n", features=["rib"]).features == (
        "rib",
    )


@pytest.mark.parametrize(("text", "said"), [
    ("image,x,feature,present\na,1,r,1\n", "no column 'y'"), (HEAD + "a,q,2,r,1\na,1,2,r,0\n", "x is not a number"),
    (HEAD + "a,1,2,r,perhaps\n", "neither yes nor no"), (HEAD + "a,1,2,r,1\n", "no patch without"), (HEAD + "a,1,2,r,0\n", "no patch with the"),
    ("image,x,y,feature,present,mask\na,1,2,r,0,m.png\na,1,2,r,1,\n", "without the feature are painted"),
    ("image,x,y,feature,present,side\na,1,2,r,0,4\na,1,2,r,1,64\n", "at least 8"), (HEAD + ",1,2,r,0\na,1,2,r,1\n", "need an image"),
])  # fmt: skip
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, said):
    with pytest.raises(OverreadError, match=said):
        read(tmp_path, text)


def test_a_feature_that_nobody_marked_is_named(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'rib'"):
        read(tmp_path, HEAD + "a,1,2,rib,1\na,1,2,rib,0\n", features=["ribs"])


def test_what_is_painted_may_be_a_patch_or_the_whole_image(tmp_path):
    whole = np.zeros((100, 120), np.uint8)
    whole[30:40, 50:70] = 255
    patch = MarkedPatch("a", 60, 35, 32, "rib", True, "m.png")
    cv2.imwrite(str(tmp_path / "whole.png"), whole)
    cv2.imwrite(str(tmp_path / "part.png"), whole[19:51, 44:76])
    each = [painted(patch, str(tmp_path / name), (100, 120)) for name in ("whole.png", "part.png")]
    assert np.array_equal(each[0], each[1])
    assert each[0].sum() == 200
    cv2.imwrite(str(tmp_path / "other.png"), whole[:7])
    with pytest.raises(ImageError, match="neither the size"):
        painted(patch, str(tmp_path / "other.png"), (100, 120))


def test_a_window_beyond_an_image_is_blank():
    rng = np.random.default_rng(0)
    image = rng.integers(1, 9, (7, 9))
    padded = np.pad(image, 20)
    for top, left, height, width in ((-3, 2, 6, 9), (5, -4, 9, 5), (0, 0, 7, 9), (10, 3, 4, 4), (-9, -9, 30, 30)):
        assert np.array_equal(
            framed(image, top, left, height, width), padded[top + 20 : top + 20 + height, left + 20 : left + 20 + width]
        )
