"""Neurons outlined in films: frames as channels from the table to the mask; what does not fit is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overread.cases.cases import Planes, paths
from overread.cases.sources.read_cases import read_cases
from overread.cases.split import split
from overread.cells.segment import segment_image
from overread.cells.segmenter import train_segmenter
from overread.cells.tiles import scaled
from overread.core.errors import ImageError, InputError
from overread.images.augment import Augmentation, draw
from overread.images.preprocess import Preprocess
from overread.images.read import read_image
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.networks.instance_heads import Segmentation
from overread.synthetic.cells.calcium import draw_calcium

RECIPE = Recipe(method="scratch", backbone="unet_small", epochs=1, batch_size=4, precision="float32",
                segmentation=Segmentation(head="offsets", tile=64, tiles=4, depth=2, zoom=1, grey=0.0, invert=0.0))  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return draw_calcium(
        tmp_path_factory.mktemp("films"), movies=6, films_each=1, frames=16, size=64, neurons=5, specks=2
    )


def read(films, frames):
    return read_cases(
        films,
        image="image",
        mask="mask",
        patient="animal",
        source="microscope",
        names="keep",
        planes=Planes(frames=frames),
    )


def trained(films, frames, recipe=RECIPE):
    cases = read(films, frames)
    return train_segmenter(
        cases, split(cases, test=0.34, tuning=0.17, seed=0), recipe, cache=films.parent / "cache", threads=1
    ), cases


@pytest.mark.parametrize(("frames", "channels"), [("channels:8", 8), ("projections", 3)])
def test_a_network_sees_the_frames_as_its_channels(films, frames, channels, tmp_path):
    model, cases = trained(films, frames)
    assert model.about.preprocess.channels == channels
    assert len(model.about.preprocess.mean) == channels
    assert model.about.planes == Planes(frames=frames)
    pixels = read_image(paths(cases)[0]).pixels
    found = segment_image(Model.load(model.save(tmp_path / "model")), pixels)
    assert found.size == (64, 64)
    with pytest.raises(InputError, match="as many channels as were learned from"):
        segment_image(model, np.zeros((48, 48, 5), np.uint16))


def test_pretrained_weights_are_not_for_channels_that_they_never_saw(films):
    with pytest.raises(InputError, match="pretrained weights see grey or colour"):
        trained(films, "channels:8", replace(RECIPE, method="finetune", backbone="mobilenet_v2"))


def test_channels_are_scaled_each_by_itself():
    pixels = np.arange(2 * 3 * 5, dtype=np.uint16).reshape(2, 3, 5)
    levels = np.stack([pixels.reshape(-1, 5).min(0), pixels.reshape(-1, 5).max(0)], axis=1).astype(np.float32)
    made = scaled(pixels, levels, 5)
    assert made.reshape(-1, 5).min(0).tolist() == [0] * 5
    assert made.reshape(-1, 5).max(0).tolist() == [1] * 5
    for channels in (3, 1, 8):
        with pytest.raises(ImageError, match="another number of channels"):
            scaled(pixels, levels, channels)


def test_colours_of_frames_keep_their_order():
    drawn = draw(
        Augmentation(brightness=0.3, contrast=0.3, hue=0.2, saturation=0.5),
        seed=0,
        epoch=0,
        samples=[1, 2],
        size=(8, 8),
        channels=7,
    )
    linear = drawn.colours[:, :, :-1]
    assert linear.shape == (2, 7, 7)
    assert (linear[:, ~np.eye(7, dtype=bool)] == 0).all(), "channels are not mixed"
    assert Preprocess((8, 8), channels=7, mean=(0.5,) * 7, std=(0.1,) * 7).shape == (8, 8, 7)
