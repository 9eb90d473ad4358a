"""Tiles of an image are read from the part that they see."""

import cv2
import numpy as np
import pytest

from overread.cells import tiles
from overread.cells.native_store import Native
from overread.cells.tiles import scaled, shrunk
from overread.images.augment import Augmentation, draw
from overread.images.slides.stain import perturb
from overread.networks.instance_heads import Segmentation


def of_the_whole_image(native, matrix, tile, zoom, channels):
    """The slow way: all of the image is scaled, and what is beyond it is left to the library."""
    pixels, labels, moved = scaled(native.pixels, native.levels, channels), native.labels, matrix.copy()
    if zoom > 1:
        pixels, labels = shrunk(pixels, zoom), labels[zoom // 2 :: zoom, zoom // 2 :: zoom]
        pixels = pixels[: labels.shape[0], : labels.shape[1]]
        moved /= zoom
        moved[:, 2] -= (zoom - 1) / 2 / zoom
    given = {"borderMode": cv2.BORDER_REFLECT_101}
    image = cv2.warpAffine(pixels, moved, (tile, tile), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **given)
    names = cv2.warpAffine(
        labels.astype(np.float32), moved, (tile, tile), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, **given
    )
    return image.reshape(tile, tile, channels), names.astype(np.int32)


def drawn(rng, height, width, channels):
    pixels = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    levels = np.tile(np.float32([0, 255]), (channels, 1))
    return Native(pixels, rng.integers(0, 9, (height, width)).astype(np.uint16), (), levels, "")


@pytest.mark.parametrize("zoom", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tile_over_the_border_is_the_same_of_the_part_that_it_sees(zoom, channels, monkeypatch):
    rng = np.random.default_rng(zoom)
    for height, width in ((400, 300), (97, 41), (20, 11), (5, 200)):
        native = drawn(rng, height, width, channels)
        for _ in range(8):
            turn, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.8) * zoom
            matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]]) * scale
            matrix[:, 2] = rng.uniform(0, [width, height]) - matrix[:, :2] @ [31.5, 31.5]
            slow, numbers = of_the_whole_image(native, matrix, 64, zoom, channels)
            for whole in (tiles.WHOLE, 0):
                with monkeypatch.context() as patch:
                    patch.setattr(tiles, "WHOLE", whole)
                    image, names = tiles._warped(native, matrix, Segmentation(tile=64, zoom=zoom), channels)
                assert np.allclose(image, slow, atol=1e-3)
                assert (names != numbers).mean() < 0.002, "places between two pixels, but for rounding"
                if whole and width < 50:  # no tile lies within
                    assert np.array_equal(image, slow)
                    assert np.array_equal(names, numbers)


def test_a_tile_over_the_border_of_a_large_image_reads_only_what_it_sees(monkeypatch):
    read = []

    class Held(np.ndarray):
        def __getitem__(self, box):
            found = np.asarray(self)[box]
            read.append(found.shape)
            return found

    native = drawn(np.random.default_rng(0), 400, 500, 1)
    object.__setattr__(native, "pixels", native.pixels.view(Held))
    monkeypatch.setattr(tiles, "WHOLE", 0, raising=False)
    tiles._warped(native, np.array([[1.0, 0, -9], [0, 1, 380]]), Segmentation(tile=64, zoom=1), 1)
    assert read
    assert max(map(max, read)) < 72


def test_stains_vary_in_what_was_scanned_and_not_in_its_negative_or_its_grey():
    """Stain is varied as elsewhere (:func:`.stain.perturb`), before a tile is turned into its negative or loses its colours."""
    rng = np.random.default_rng(0)
    held = np.round(rng.uniform(40, 200, (64, 64, 3))).astype(np.float32) / 255
    how = draw(Augmentation(stain=0.2), seed=0, epoch=0, samples=[0], size=(64, 64), channels=3)

    def shown(**asked):
        asked = Segmentation(**{"invert": 0.0, "grey": 0.0} | asked)
        made = tiles.Tiles(None, np.array([0]), 1, asked, None, None, Augmentation(stain=0.2), None)
        return made._recoloured(held, 0, 0, how, 0)

    varied = shown()
    restated = perturb((held * 255).astype(np.uint8), *how.stain[0]) / 255
    assert np.abs(varied - held).max() > 0.05
    assert np.abs(np.minimum(varied, 1) - restated).max() < 0.003
    assert np.allclose(shown(invert=1.0), 1 - varied, atol=1e-6)
    assert np.ptp(shown(grey=1.0), axis=-1).max() < 1e-6
