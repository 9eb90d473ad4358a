"""Resizing policies and the five normalisations, against slow restatements."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from overread.core.errors import ArgumentError, ImageError
from overread.images.preprocess import (
    NORMALISATIONS,
    Preprocess,
    fit_normalisation,
    geometry,
    load,
    load_mask,
    normalise,
    resize,
)

RNG = np.random.default_rng(2)
RAMP = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (48, 64, 1)).copy()


@dataclass(frozen=True, eq=False)
class Fake:
    images: np.ndarray
    failed: dict[int, str]


@given(
    st.sampled_from(["squash", "crop", "pad"]), st.integers(1, 70), st.integers(1, 70), st.integers(1, 40),
    st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from([1, 3]), st.sampled_from([8, 16]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_every_size_and_policy_gives_the_shape(
    fit: str, h: int, w: int, height: int, width: int, have: int, want: int, bits: int
) -> None:
    preprocess = Preprocess((height, width), want, fit, bits=bits)
    made = resize(np.full((h, w, have), 200, np.uint8), preprocess)
    assert made.shape == preprocess.shape
    assert made.dtype == preprocess.dtype
    inside = made[made > 0]  # a constant stays the constant, up to rounding
    assert np.abs(inside.astype(int) - 200 * (257 if bits == 16 else 1)).max() <= (257 if bits == 16 else 1)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_whole_factor_is_the_box_average(factor: int) -> None:
    pixels = RNG.integers(0, 256, (24 * factor, 20 * factor, 3), dtype=np.uint8)
    box = pixels.reshape(24, factor, 20, factor, 3).mean(axis=(1, 3))
    assert np.abs(resize(pixels, Preprocess((24, 20))) - box).max() <= 0.51


@pytest.mark.parametrize("size", [(450, 600), (333, 517), (1000, 301)])
def test_shrinking_is_close_to_an_antialiased_resize(size: tuple[int, int]) -> None:
    coarse = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = np.asarray(Pillow.fromarray(coarse).resize(size[::-1], Pillow.Resampling.BICUBIC))
    mine = resize(pixels, Preprocess((128, 128))).astype(float)
    theirs = np.asarray(Pillow.fromarray(pixels).resize((128, 128), Pillow.Resampling.BOX), float)
    assert np.abs(mine - theirs).mean() < 1.5


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (300, 150))[..., None]  # finest pattern there is
    assert resize(stripes, Preprocess((64, 64), 1)).std() < 20


def test_squash_crop_and_pad() -> None:
    crop = resize(RAMP, Preprocess((48, 48), 1, "crop"))
    assert np.array_equal(crop, RAMP[:, 8:56])
    pad = resize(RAMP, Preprocess((64, 64), 1, "pad"))
    assert np.array_equal(pad[8:56], RAMP)
    assert not pad[:8].any()
    assert not pad[56:].any()
    assert resize(RAMP, Preprocess((64, 64), 1)).min(axis=0).max() > 0


def test_channels() -> None:
    colour = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    grey = resize(colour, Preprocess((8, 8), 1))
    assert np.abs(grey[..., 0] - colour @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
    assert np.array_equal(resize(grey, Preprocess((8, 8), 3)), np.repeat(grey, 3, -1))


def test_bits_map_full_scale_to_full_scale() -> None:
    deep = RNG.integers(0, 65536, (8, 8, 1), dtype=np.uint16)
    deep[0, 0], deep[0, 1] = 0, 65535
    assert np.array_equal(resize(deep, Preprocess((8, 8), 1)), np.rint(deep / 257).astype(np.uint8))
    assert np.array_equal(resize(resize(deep, Preprocess((8, 8), 1)), Preprocess((8, 8), 1, bits=16)) % 257, deep * 0)
    unit = RNG.random((8, 8, 1)).astype(np.float32)
    assert np.array_equal(resize(unit, Preprocess((8, 8), 1)), np.rint(unit * 255).astype(np.uint8))
    far = unit * 4000 - 1000
    assert (resize(far, Preprocess((8, 8), 1)).min(), resize(far, Preprocess((8, 8), 1)).max()) == (0, 255)


def test_volumes() -> None:
    volume = RNG.integers(0, 256, (12, 16, 20, 1), dtype=np.uint8)
    half = resize(volume, Preprocess((6, 8, 10), 1))
    box = volume.reshape(6, 2, 8, 2, 10, 2, 1).mean(axis=(1, 3, 5))
    assert np.abs(half - box).max() <= 1
    assert resize(volume, Preprocess((24, 16, 20), 1)).shape == (24, 16, 20, 1)
    assert np.array_equal(resize(volume, Preprocess((12, 16, 20), 1)), volume)
    flat = np.full((5, 4, 4, 1), 77, np.uint8)
    assert (resize(flat, Preprocess((9, 4, 4), 1)) == 77).all()
    assert (resize(flat, Preprocess((2, 4, 4), 1)) == 77).all()
    with pytest.raises(ImageError, match="depth"):
        resize(volume, Preprocess((8, 8), 1))
    with pytest.raises(ImageError, match="flat"):
        resize(RAMP, Preprocess((8, 8, 8), 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_five_normalisations(channels: int, bits: int) -> None:
    full = 2**bits - 1
    images = RNG.integers(full // 10, full // 2, (20, 6, 5, channels)).astype(f"uint{bits}")
    images[3], images[15] = 0, full  # one that failed, one outside the training rows
    rows, failed = np.r_[0:10], {3: "damaged"}
    x = images[[r for r in rows if r != 3]] / full
    axes = (0, 1, 2)
    expected = {
        "channel mean and std": (x.mean(axes), x.std(axes)),
        "channel mean": (x.mean(axes), np.ones(channels)),
        "z-score": (np.full(channels, x.mean()), np.full(channels, x.std())),
        "min-max": (np.full(channels, x.min()), np.full(channels, x.max() - x.min())),
        "mean image": (np.zeros(channels), np.ones(channels)),
    }
    assert set(expected) == set(NORMALISATIONS)
    for name, (mean, std) in expected.items():
        start = Preprocess((6, 5), channels, normalise=name, bits=bits)
        fitted, image = fit_normalisation(Fake(images, failed), rows, start)
        assert np.allclose(fitted.mean, mean, atol=1e-6)
        assert np.allclose(fitted.std, std, atol=1e-6)
        shift = mean if image is None else image
        wanted = (images / full - shift) / std
        made = normalise(images, fitted, image)
        assert made.dtype == np.float32
        assert np.allclose(made, wanted, atol=1e-4)
        assert geometry(fitted) == geometry(start)


def test_a_constant_set_does_not_divide_by_nothing() -> None:
    images = np.full((4, 3, 3, 1), 9, np.uint8)
    for name in NORMALISATIONS:
        fitted, image = fit_normalisation(Fake(images, {}), [0, 1, 2, 3], Preprocess((3, 3), 1, normalise=name))
        assert np.isfinite(normalise(images, fitted, image)).all()


def test_arguments() -> None:
    for bad in ({"size": (3,)}, {"channels": 0}, {"channels": 65}, {"fit": "stretch"}, {"normalise": "none"}, {"bits": 12},
                {"mean": (0.5,)}, {"size": (4, 4, 4)}):  # fmt: skip
        with pytest.raises(ArgumentError):
            Preprocess(**{"size": (8, 8), "channels": 3, **bad})  # type: ignore[arg-type]
    start, fake = Preprocess((3, 3), 1), Fake(np.zeros((4, 3, 3, 1), np.uint8), {1: "damaged"})
    for rows in ([], [4], [-1], [1]):
        with pytest.raises(ArgumentError):
            fit_normalisation(fake, rows, start)
    with pytest.raises(ArgumentError, match="fitted"):
        normalise(fake.images, start)
    with pytest.raises(ArgumentError, match="bits"):
        normalise(fake.images, replace(start, bits=16))


class TestMasks:
    """A mask goes where its image goes: cropped, padded, resized."""

    def saved(self, folder, name, pixels):
        Pillow.fromarray(pixels).save(folder / name)
        return folder / name

    def test_lies_over_the_image_whatever_is_done_to_it(self, tmp_path):
        pixels = np.zeros((120, 200), np.uint8)
        pixels[10:110, 40:170] = 90
        pixels[30:60, 60:100] = 250
        image, mask = (
            self.saved(tmp_path, "i.png", pixels),
            self.saved(tmp_path, "m.png", (pixels > 200).astype(np.uint8)),
        )
        for fit in ("squash", "crop", "pad"):
            for cut in ("none", "border"):
                preprocess = Preprocess((64, 64), 1, fit, crop=cut)
                seen, where = load(image, preprocess)[..., 0], load_mask(mask, image, preprocess)
                assert (where != (seen > 170)).mean() < 0.01
                assert where.any()

    def test_of_a_round_field_is_cut_as_the_field_is(self, tmp_path):
        rows, columns = np.ogrid[:200, :260]
        pixels = np.where((rows - 100) ** 2 + (columns - 120) ** 2 < 80**2, 120, 0).astype(np.uint8)
        pixels[80:100, 130:150] = 250
        image, mask = (
            self.saved(tmp_path, "i.png", pixels),
            self.saved(tmp_path, "m.png", (pixels > 200).astype(np.uint8)),
        )
        preprocess = Preprocess((80, 80), 1, crop="field")
        assert (load_mask(mask, image, preprocess) != (load(image, preprocess)[..., 0] > 185)).mean() < 0.01

    def test_of_another_size_covers_the_whole(self, tmp_path):
        image = self.saved(tmp_path, "i.png", np.full((100, 100), 90, np.uint8))
        small = np.zeros((10, 10), np.uint8)
        small[:, 5:] = 1
        found = load_mask(self.saved(tmp_path, "m.png", small), image, Preprocess((20, 20), 1))
        assert found[:, 10:].all()
        assert not found[:, :10].any()
