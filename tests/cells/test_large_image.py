"""Files larger than memory: the same objects as of the image in memory, from every way that a TIFF may lie on disk."""

from dataclasses import replace
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

import overread as ov
from overread.cells import segment as segment_room
from overread.cells.large_image import opened, segment_file
from overread.cells.segment import segment, segment_image
from overread.core.errors import ImageError
from overread.images.preprocess import Preprocess
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.networks.instance_heads import Cutting, Segmentation
from overread.tasks.target import Target


@pytest.fixture(scope="module")
def model():
    asked = Segmentation(head="sigmoid", tile=64, depth=2, zoom=1, margin=32, largest=128)
    recipe = Recipe(method="scratch", backbone="unet_small", views=1, precision="float32", segmentation=asked)
    preprocess = Preprocess((64, 64), 3, mean=(0.5,) * 3, std=(0.3,) * 3)
    about = About(
        recipe,
        preprocess,
        Target("segmentation", ("object",)),
        Origin("unet_small", 1),
        cutting=Cutting(foreground=0.5, minimum=4),
    )
    torch.manual_seed(3)
    return Model(make_network(about).eval(), about)


def image(kind, channels, seed=0):
    rng = np.random.default_rng(seed)
    rough = cv2.resize(rng.random((30, 35, channels)).astype(np.float32), (350, 300), interpolation=cv2.INTER_CUBIC)
    return (np.clip(rough, 0, 1).reshape(300, 350, channels) * (60_000 if kind == np.uint16 else 255)).astype(kind)


WAYS = {
    "plain": {}, "tiled": {"tile": (64, 96)}, "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles and zlib": {"tile": (64, 64), "compression": "zlib", "predictor": True}, "big endian": {"byteorder": ">"},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "channels"), [(np.uint16, 1), (np.uint8, 3)])
def test_rows_of_a_tiff_are_its_pixels(way, kind, channels, tmp_path):
    pixels = image(kind, channels)
    tifffile.imwrite(
        tmp_path / "i.tif",
        pixels if channels == 3 else pixels[..., 0],
        photometric="rgb" if channels == 3 else "minisblack",
        **WAYS[way],
    )
    with opened(str(tmp_path / "i.tif"), tmp_path) as source:
        assert source.size == (300, 350)
        read = np.concatenate([source.rows(top, min(top + 77, 300)) for top in range(0, 300, 77)])
    assert read.dtype == kind
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_file_has_the_objects_of_the_image_in_memory(model, ending, tmp_path):
    pixels = image(np.uint16, 1)
    path = tmp_path / f"i.{ending}"
    tifffile.imwrite(path, pixels[..., 0]) if ending == "tif" else cv2.imwrite(str(path), pixels)
    made, held = segment_file(model, path, tmp_path / "labels.tif"), segment_image(model, pixels)
    labels = tifffile.imread(made.path)
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, held.labels)
    assert made.objects == len(held) > 0
    assert made.size == (300, 350)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_what_is_no_image_is_refused(model, tmp_path):
    (tmp_path / "i.tif").write_bytes(b"II*\x00nothing")
    with pytest.raises(ImageError):
        segment_file(model, tmp_path / "i.tif", tmp_path / "labels.tif")


def test_an_image_of_small_objects_is_enlarged_and_its_labels_come_back_at_its_size(model, tmp_path):
    """Blobs of about 12 pixels, told by grey levels: from memory and from a file, at twice the size and more, and said."""
    pixels = image(np.uint16, 1)
    recipe = model.about.recipe
    asked = replace(recipe.segmentation, enlarge=3.0)
    larger = replace(model, about=replace(model.about, recipe=recipe.changed(segmentation=asked)))
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, pixels[..., 0])
    held, as_it_is = segment_image(larger, pixels), segment_image(model, pixels)
    assert held.labels.shape == as_it_is.labels.shape == (300, 350)
    assert sorted(np.unique(held.labels)) == list(range(len(held) + 1))
    assert not np.array_equal(held.labels > 0, as_it_is.labels > 0)
    assert np.array_equal(tifffile.imread(segment_file(larger, path, tmp_path / "labels.tif").path), held.labels)
    tifffile.imwrite(tmp_path / "m.tif", as_it_is.labels.astype(np.uint16))
    pd.DataFrame({"image": ["i.tif"], "mask": ["m.tif"], "patient": ["p"]}).to_csv(tmp_path / "index.csv", index=False)
    cases, said = ov.read_cases(tmp_path / "index.csv", image="image", mask="mask", patient="patient"), []
    ((_, outlines),) = segment(larger, cases, threads=1, say=said.append)
    assert outlines == held
    assert any("enlarged since their objects are small: 1 of 1" in line for line in said)


def test_the_norms_of_a_model_are_folded_once_however_many_images_it_sees(model, monkeypatch):
    folded, held = [], segment_room.for_inference
    monkeypatch.setattr(segment_room, "_KNOWN", WeakKeyDictionary())
    monkeypatch.setattr(segment_room, "for_inference", lambda *given: folded.append(1) or held(*given))
    for seed in (1, 2, 3):
        segment_image(model, image(np.uint8, 3, seed))
    assert len(folded) == 1
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in segment_room._KNOWN[model.network]["cpu"].modules())  # fmt: skip
