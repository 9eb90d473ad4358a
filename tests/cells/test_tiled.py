"""Tiles, orientations and zoom: the same maps as of the whole image."""

import numpy as np
import pytest
import torch
from torch import nn

from overread.cells.cut_search import STARTS
from overread.cells.instance_cut import cut
from overread.cells.targets import places_of, targets
from overread.cells.tiled import Held, Reading, read_bands, read_tile
from overread.images.preprocess import Preprocess
from overread.networks.instance_heads import UNIT, Layout, Segmentation
from overread.networks.unet import build_unet
from overread.stats.overlap import Instances

LEVELS = np.array([[0.0, 255.0]], np.float32)


class Sees(nn.Module):
    """Says the truth of images whose grey levels are labels."""

    coarsest = 4

    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x):
        labels = (x[0, 0].float() * 255).round().int().numpy()
        made, places = targets(labels, self.layout), places_of(self.layout)
        pixels = torch.from_numpy(made[places.pixels]).logit(1e-4)
        parts = [pixels]
        if self.layout.geometry:
            parts += [torch.from_numpy(made[places.heat]).logit(1e-4), torch.from_numpy(made[places.geometry]) / UNIT]
        return torch.cat(parts)[None]


def reading(layout, network, views=1, **fields):
    asked = Segmentation(
        head=layout.head, stride=layout.stride, zoom=1, tile=64, **{"margin": 32, "largest": 128} | fields
    )
    return Reading(network.eval(), layout, asked, Preprocess((64, 64), 3, mean=(0.0,) * 3, std=(1.0,) * 3), views)


@pytest.mark.parametrize("head", ["boundary", "offsets", "stars"])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_said_of_turned_images_is_turned_back(head, stride, make_discs):
    labels, layout = make_discs(64, 96, count=7), Layout(head, stride, 32, 1)
    pixels = labels.astype(np.uint8)[..., None]
    once = read_tile(reading(layout, Sees(layout)), pixels, LEVELS)
    for views in (2, 4, 8):
        many = read_tile(reading(layout, Sees(layout), views), pixels, LEVELS)
        assert np.array_equal(many.pixels, once.pixels)
        if head == "boundary":
            continue
        there = (many.places[0] > 0.3) & (
            once.places[0] > 0.3
        )  # of a place it is the first pixel that counts, which turns
        assert np.abs(many.places.astype(float) - once.places)[1:, there].mean() < 0.6
        assert np.abs(many.places.astype(float) - once.places)[1:, there].max() < 12 * stride


@pytest.mark.parametrize("head", ["sigmoid", "boundary", "offsets", "stars"])
def test_tiles_say_what_the_whole_image_says(head):
    layout = Layout(head, 2, 8, 1)
    torch.manual_seed(0)
    network = build_unet("unet_small", outputs=layout.channels, depth=3)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 420, 1), np.uint8)
    whole = read_tile(reading(layout, network), pixels, LEVELS)
    bands = list(read_bands(reading(layout, network, margin=64, largest=192), Held(pixels), LEVELS))
    assert [top for top, _ in bands] == [0, 64, 128, 192, 256]
    stitched = np.concatenate([maps.places for _, maps in bands], axis=1)
    assert stitched.shape == whole.places.shape
    assert np.allclose(stitched, whole.places, atol=2e-2)
    said = np.concatenate([maps.pixels for _, maps in bands], axis=1)
    assert np.abs(said.astype(int) - whole.pixels).max() <= 1


@pytest.mark.parametrize("head", ["offsets", "stars", "sigmoid", "boundary"])
def test_no_seams_the_same_objects_as_in_one_pass(head, make_discs):
    labels, layout = make_discs(250, 330, count=60), Layout(head, 2, 32, 1)
    pixels = (labels % 256).astype(np.uint8)[..., None]
    one = read_tile(reading(layout, Sees(layout)), pixels, LEVELS)
    bands = [
        maps for _, maps in read_bands(reading(layout, Sees(layout), margin=32, largest=160), Held(pixels), LEVELS)
    ]
    said = type(one)(
        *(np.concatenate([getattr(band, part) for band in bands], axis=1) for part in ("pixels", "places"))
    )
    pair = Instances.of(cut(one, layout, STARTS[head]), cut(said, layout, STARTS[head]))
    assert pair.matched(18).sum() == len(pair.true) == len(pair.predicted) > 20


def test_the_memory_not_sufficing_tiles_become_smaller(make_discs):
    layout = Layout("sigmoid", 2, 8, 1)

    class Small(Sees):
        def forward(self, x):
            if x.shape[-1] > 128:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().forward(x)

    pixels = make_discs(200, 300).astype(np.uint8)[..., None]
    bands = list(read_bands(reading(layout, Small(layout), margin=32, largest=256), Held(pixels), LEVELS))
    assert [top for top, _ in bands] == [0, 64, 128, 192]
    assert (np.concatenate([maps.pixels for _, maps in bands], axis=1)[0] > 127).sum() == (pixels > 0).sum()


def test_zoom_shows_the_network_less_and_says_it_of_every_pixel(make_discs):
    labels, layout = make_discs(128, 160, count=6, radii=(20, 30)), Layout("offsets", 2, 32, 1)
    small = np.repeat(np.repeat(labels[::2, ::2], 2, axis=0), 2, axis=1)
    asked = reading(layout, Sees(layout))
    asked = type(asked)(asked.network, layout, Segmentation(head="offsets", zoom=2, tile=64), asked.preprocess)
    maps = read_tile(asked, small.astype(np.uint8)[..., None], LEVELS)
    assert maps.size == (128, 160)
    assert maps.places.shape == (3, 32, 40)
    assert asked.shown.stride == 4
    pair = Instances.of(small, cut(maps, asked.shown, STARTS["offsets"]))
    assert pair.matched(16).sum() == len(pair.true)
