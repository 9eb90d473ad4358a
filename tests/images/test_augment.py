"""Augmentation: drawn as a pure function, applied as defined, the same in any company."""

from __future__ import annotations

import colorsys
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage, stats
from skimage import exposure

from overread.core.errors import ArgumentError
from overread.images.augment import LUMINANCE, Augmentation, apply, draw

RNG = np.random.default_rng(8)
STANDARD = Augmentation(flip_horizontal=0.5, rotate=15.0, scale=(0.9, 1.1), shift=0.05, brightness=0.1, contrast=0.1)
ALL = Augmentation(0.5, 0.5, 30.0, (0.8, 1.25), 0.1, 0.2, 0.3, 0.3, 0.1, 0.05, 1.5, 0.5)
NOISE = RNG.integers(0, 256, (40, 24, 32, 3), dtype=np.uint8)
SMOOTH = np.stack([ndimage.gaussian_filter(image, (2, 2, 0)) for image in NOISE])


def drawn_for(augmentation: Augmentation, images: np.ndarray, samples: object = None, **at: int):
    rows = np.arange(len(images)) if samples is None else samples
    where = {"seed": 3, "epoch": 1, **at}
    return draw(augmentation, **where, samples=rows, size=images.shape[-3:-1], channels=images.shape[-1])


def test_nothing_drawn_changes_nothing() -> None:
    drawn = drawn_for(Augmentation(), NOISE)
    assert np.array_equal(apply(NOISE, drawn), NOISE)


def test_flips_are_exact() -> None:
    assert np.array_equal(apply(NOISE, drawn_for(Augmentation(flip_horizontal=1.0), NOISE)), NOISE[:, :, ::-1])
    assert np.array_equal(apply(NOISE, drawn_for(Augmentation(flip_vertical=1.0), NOISE)), NOISE[:, ::-1])
    half = drawn_for(Augmentation(flip_horizontal=0.5), NOISE)
    assert 8 < half.flip_horizontal.sum() < 32


@pytest.mark.parametrize("border", ["reflect", "zero"])
def test_the_warp_is_that_of_scipy(border: str) -> None:
    augmentation = Augmentation(0.5, 0.5, 40.0, (0.7, 1.4), 0.2, border=border)
    drawn = drawn_for(augmentation, SMOOTH)
    made = apply(SMOOTH, drawn)
    for i in range(10):
        linear, offset = drawn.matrices[i, ::-1, 1::-1], drawn.matrices[i, ::-1, 2]  # (x, y) to (row, column)
        for c in range(3):
            wanted = ndimage.affine_transform(
                SMOOTH[i, ..., c].astype(float), linear, offset, order=1,
                mode="mirror" if border == "reflect" else "grid-constant",
            )  # fmt: skip
            # cv2 places samples on a grid of 1/32 pixel
            assert np.abs(made[i, ..., c] - wanted).max() <= 6


def test_the_matrix_means_what_its_parameters_say() -> None:
    images = np.zeros((200, 41, 61, 1), np.uint8)
    drawn = drawn_for(Augmentation(rotate=90.0, scale=(0.5, 2.0), shift=0.2), images)
    assert (np.abs(drawn.rotate) <= 90).all()
    assert (drawn.scale >= 0.5).all()
    assert (drawn.scale <= 2).all()
    # the centre of the input lands where the shift says
    centre = np.array([30.0, 20.0])
    out = centre + drawn.shift * np.array([61, 41])
    back = np.einsum("bij,bj->bi", drawn.matrices[:, :, :2], out) + drawn.matrices[:, :, 2]
    assert np.allclose(back, centre)
    # areas grow by the square of the scale, angles are kept
    linear = drawn.matrices[:, :, :2]
    assert np.allclose(np.linalg.det(linear), drawn.scale**-2.0)
    assert np.allclose(np.degrees(np.arctan2(linear[:, 0, 1], linear[:, 0, 0])), drawn.rotate)


def test_brightness_and_contrast() -> None:
    drawn = drawn_for(Augmentation(brightness=0.3, contrast=0.5), NOISE)
    x, gain = NOISE / 255, 1 + drawn.contrast[:, None, None, None]
    wanted = np.clip((x - 0.5) * gain + 0.5 + drawn.brightness[:, None, None, None], 0, 1) * 255
    assert np.abs(apply(NOISE, drawn) - wanted).max() <= 0.51


def test_saturation_goes_from_grey_to_more_colour() -> None:
    drawn = drawn_for(Augmentation(saturation=1.0), NOISE)
    grey = (NOISE @ LUMINANCE)[..., None]
    wanted = np.clip(grey + (NOISE - grey) * (1 + drawn.saturation[:, None, None, None]), 0, 255)
    assert np.abs(apply(NOISE, drawn) - wanted).max() <= 1.5  # YIQ's luminance has rounded constants


def test_hue_keeps_greys_and_luminance_and_turns_colours() -> None:
    greys = np.repeat(NOISE[..., :1], 3, -1)
    drawn = drawn_for(Augmentation(hue=0.5), greys)
    assert np.abs(apply(greys, drawn).astype(int) - greys).max() <= 1
    pale = (128 + (NOISE.astype(int) - 128) // 4).astype(np.uint8)  # no clipping
    turned = apply(pale, drawn)
    assert np.abs(turned @ LUMINANCE - pale @ LUMINANCE).max() < 1.5
    third = replace(drawn_for(Augmentation(), pale[:1]), hue=np.array([1 / 3]))
    before, after = (colorsys.rgb_to_hsv(*rgb)[0] for rgb in ((0.6, 0.4, 0.4), _turn((0.6, 0.4, 0.4), third)))
    assert 0.2 < (after - before) % 1 < 0.47 or 0.53 < (after - before) % 1 < 0.8


def _turn(rgb: tuple[float, float, float], drawn: object) -> tuple[float, ...]:
    from overread.images import augment

    values = {"hue": drawn.hue, "saturation": drawn.saturation, "contrast": drawn.contrast,
              "brightness": drawn.brightness}  # fmt: skip
    return tuple(augment._colours(values, 3)[0, :, :3] @ np.array(rgb))


def test_noise_is_gaussian_of_the_drawn_size() -> None:
    flat = np.full((6, 64, 64, 3), 128, np.uint8)
    drawn = drawn_for(Augmentation(noise=0.1), flat)
    made = apply(flat, drawn).astype(float) - 128
    for image, sigma in zip(made, drawn.noise):
        assert abs(image.mean()) < 4 * 255 * sigma / np.sqrt(image.size) + 0.05
        assert abs(image.std() - 255 * sigma) < 0.05 * 255 * sigma + 0.3
        if sigma * 255 > 8:  # rounding does not show
            assert stats.kstest((image / image.std()).ravel(), "norm").statistic < 0.05


def test_blur_is_gaussian() -> None:
    drawn = drawn_for(Augmentation(blur=2.0), SMOOTH)
    made = apply(SMOOTH, drawn)
    for i in range(8):
        if drawn.blur[i] > 0.05:
            wanted = ndimage.gaussian_filter(SMOOTH[i].astype(float), (drawn.blur[i], drawn.blur[i], 0), mode="mirror")
            assert np.abs(made[i] - wanted).max() < 3


def test_clahe_raises_local_contrast() -> None:
    dull = (100 + SMOOTH // 16).astype(np.uint8)
    for images in (dull, dull[..., :1].copy()):
        made = apply(images, drawn_for(Augmentation(clahe=1.0), images))
        assert made.std() > 1.5 * images.std()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("volume", [False, True])
def test_an_image_is_the_same_in_any_company(
    dtype: type, channels: int, volume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overread.images.augment._SMALL", 1)  # threads also for a few
    shape = (24, 3, 20, 22, 1) if volume else (24, 20, 22, channels)
    images = RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    together = apply(images, drawn_for(ALL, images), threads=1)
    assert together.dtype == dtype
    for threads in (2, 5):
        assert np.array_equal(apply(images, drawn_for(ALL, images), threads=threads), together)
    order = RNG.permutation(24)[:7]
    few = drawn_for(ALL, images[:1], order)
    assert np.array_equal(apply(images[order], few), together[order])
    assert np.array_equal(apply(images, few, rows=order), together[order])
    for i in range(24):
        assert np.array_equal(apply(images[i : i + 1], drawn_for(ALL, images, [i])), together[i : i + 1])


def test_what_is_drawn_does_not_depend_on_the_batch() -> None:
    images = np.zeros((5000, 8, 8, 3), np.uint8)
    whole = drawn_for(ALL, images)
    for rows in (np.arange(4999, -1, -1), np.arange(1234, 1300), np.array([77])):
        part = drawn_for(ALL, images, rows)
        for name in ("matrices", "colours", "noise", "blur", "clahe"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[rows]), name
    assert not np.array_equal(drawn_for(ALL, images, epoch=2).matrices, whole.matrices)
    assert not np.array_equal(drawn_for(ALL, images, seed=4).matrices, whole.matrices)


def test_another_process_makes_the_same_pixels() -> None:
    code = (
        "import sys, zlib, numpy as np\n"
        "from overread.images.augment import *\n"
        "a = Augmentation(.5, .5, 30., (.8, 1.25), .1, .2, .3, .3, .1, .05, 1.5, .5)\n"
        "x = (np.arange(6 * 24 * 32 * 3) * 7919 % 256).astype(np.uint8).reshape(6, 24, 32, 3)\n"
        "d = draw(a, seed=3, epoch=1, samples=np.arange(6), size=(24, 32), channels=3)\n"
        "sys.stdout.write(str(zlib.crc32(apply(x, d))))\n"
    )
    answers = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(answers) == 1
    assert answers != {""}


def test_planes_of_a_volume_move_together() -> None:
    plane = SMOOTH[:4, :, :, :1]
    volume = np.repeat(plane[:, None], 5, axis=1)
    augmentation = replace(ALL, noise=0.0, saturation=0.0, hue=0.0)
    made = apply(volume, drawn_for(augmentation, volume))
    assert (made == made[:, :1]).all()
    assert np.array_equal(made[:, 0], apply(plane, drawn_for(augmentation, plane)))


def test_drawn_values_are_uniform() -> None:
    images = np.zeros((20_000, 8, 8, 3), np.uint8)
    drawn = drawn_for(ALL, images)
    for values, low, high in (
        (drawn.rotate, -30, 30), (drawn.brightness, -0.2, 0.2), (drawn.hue, -0.1, 0.1), (drawn.blur, 0, 1.5),
        (np.log(drawn.scale), np.log(0.8), np.log(1.25)), (drawn.shift[:, 0], -0.1, 0.1),
    ):  # fmt: skip
        assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(drawn.shift.T)[0, 1]) < 0.03


def test_out_and_arguments() -> None:
    drawn = drawn_for(STANDARD, NOISE)
    out = np.empty_like(NOISE)
    assert apply(NOISE, drawn, out=out) is out
    assert np.array_equal(out, apply(NOISE, drawn))
    for bad in (
        {"images": NOISE[:3]},
        {"images": NOISE.astype(np.float32)},
        {"images": NOISE[0]},
        {"out": out[:, ::2]},
    ):
        with pytest.raises(ArgumentError):
            apply(**{"images": NOISE, "drawn": drawn, **bad})  # type: ignore[arg-type]
    for bad in ({"rotate": -1.0}, {"scale": (1.2, 1.0)}, {"border": "wrap"}, {"hue": 0.6}, {"noise": float("nan")}):
        with pytest.raises(ArgumentError):
            Augmentation(**bad)  # type: ignore[arg-type]


# -- turns, erasing, gamma --------------------------------------------------------------------------------------------


def _drawn(augmentation: Augmentation, count: int, size: tuple[int, int], channels: int = 1):
    return draw(augmentation, seed=3, epoch=1, samples=np.arange(count), size=size, channels=channels)


def test_quarter_turns_are_numpys() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 1)).astype(np.uint8)
    drawn = _drawn(Augmentation(turn=0.8), 40, (9, 9))
    assert set(drawn.turn.tolist()) == {0, 1, 2, 3}
    made = apply(images, drawn)
    for image, result, quarters in zip(images, made, drawn.turn, strict=True):
        assert (result == np.rot90(image, -quarters)).all()


def test_planes_of_a_volume_come_in_reverse() -> None:
    volumes = np.random.default_rng(0).integers(0, 256, (12, 4, 6, 6, 1)).astype(np.uint8)
    drawn = _drawn(Augmentation(flip_depth=0.5), 12, (6, 6))
    assert 0 < drawn.flip_depth.sum() < 12
    for volume, result, reverse in zip(volumes, apply(volumes, drawn), drawn.flip_depth, strict=True):
        assert (result == (volume[::-1] if reverse else volume)).all()
    flat = volumes[:, 0]
    assert (apply(flat, drawn) == flat).all()  # an image has no depth


def test_planes_of_a_cubic_volume_are_laid_across_its_rows_or_columns() -> None:
    volumes = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 6, 1)).astype(np.uint8)
    drawn = _drawn(Augmentation(turn_depth=0.7), 30, (6, 6))
    assert set(drawn.turn_depth.tolist()) == {0, 1, 2}
    for volume, result, axis in zip(volumes, apply(volumes, drawn), drawn.turn_depth, strict=True):
        expected = {0: volume, 1: volume.transpose(1, 0, 2, 3)[::-1], 2: volume.transpose(2, 1, 0, 3)[::-1]}[axis]
        assert (result == expected).all()  # a turn: transposed and mirrored
    flat, long = volumes[:, 0], volumes[:, :4]
    assert (apply(flat, drawn) == flat).all()
    assert (apply(long, drawn) == long).all()


@pytest.mark.parametrize("size", [(40, 40), (30, 50), (50, 30), (299, 299)])
@pytest.mark.parametrize("turn", [0.0, 1.0])
def test_nothing_comes_in_from_outside_of_the_inscribed_rectangle_which_is_the_largest(size, turn) -> None:
    """White images under a black border stay white to their last pixel; magnified by less they would not."""
    white = np.full((60, *size, 1), 255, np.uint8)
    drawn = _drawn(Augmentation(rotate=180, flip_vertical=0.5, turn=turn, inscribed=True, border="zero"), 60, size)
    assert (apply(white, drawn) == 255).all()
    corners = np.array([[x, y, 1] for x in (0, size[1] - 1) for y in (0, size[0] - 1)], float)
    reached = np.einsum("bij,kj->bki", drawn.matrices, corners)  # where the corners look into the image
    limits = np.array([size[1] - 1, size[0] - 1])
    beyond = np.maximum(-reached, reached - limits).max(axis=(1, 2))
    assert np.abs(beyond).max() < 1e-9, "the edge is reached, and none looks over it"
    without = _drawn(Augmentation(rotate=180, border="zero"), 60, size)
    assert (apply(white, without) == 0).any(), "without it the corners are black"


def _largest_upright_area(width: float, height: float, angle: float) -> float:
    """Of a rectangle that was turned: the area of the largest upright one in it, by its two cases."""
    sine, cosine = abs(np.sin(angle)), abs(np.cos(angle))
    long, short = max(width, height), min(width, height)
    if short <= 2 * sine * cosine * long or abs(sine - cosine) < 1e-12:  # two corners touch the longer sides
        half = 0.5 * short
        return half / sine * half / cosine
    double = cosine**2 - sine**2
    return (width * cosine - height * sine) / double * (height * cosine - width * sine) / double


def test_of_a_square_the_inscribed_part_is_the_largest_upright_rectangle_of_all() -> None:
    drawn = _drawn(Augmentation(rotate=180, inscribed=True), 200, (101, 101))
    linear = drawn.matrices[:, :, :2]
    shown = 100.0**2 * np.abs(np.linalg.det(linear))  # what of the image the output covers
    wanted = [_largest_upright_area(100, 100, np.deg2rad(angle)) for angle in drawn.rotate]
    np.testing.assert_allclose(shown, wanted, rtol=1e-9)
    assert shown.min() == pytest.approx(100**2 / 2, rel=0.01), "half of the area at 45°"
    assert np.ptp(drawn.rotate) > 350, "every angle"


def test_of_another_shape_it_is_the_largest_of_that_shape_by_search() -> None:
    size = (31, 61)
    drawn = _drawn(Augmentation(rotate=180, inscribed=True), 40, size)
    for angle, linear in zip(np.deg2rad(drawn.rotate), drawn.matrices[:, :, :2], strict=True):
        low, high = 0.0, 1.0
        for _ in range(50):
            share = (low + high) / 2
            corners = np.array([[x, y] for x in (-30, 30) for y in (-15, 15)]) * share
            turned = corners @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            inside = (np.abs(turned) <= np.array([30, 15]) + 1e-12).all()
            low, high = (share, high) if inside else (low, share)
        assert np.sqrt(abs(np.linalg.det(linear))) == pytest.approx(low, rel=1e-6)


def test_gamma_against_numpy() -> None:
    for kind, full in ((np.uint8, 255), (np.uint16, 65535)):
        images = np.random.default_rng(0).integers(0, full, (20, 8, 8, 1)).astype(kind)
        drawn = _drawn(Augmentation(gamma=1.0), 20, (8, 8))
        assert 0.5 <= drawn.gamma.min() < 0.8 < 1.2 < drawn.gamma.max() <= 2.0
        wanted = full * (images / full) ** drawn.gamma[:, None, None, None]
        assert np.abs(apply(images, drawn) - wanted).max() <= 0.5 + 1e-6


def test_erased_rectangles_are_grey_and_as_large_as_they_are_said_to_be() -> None:
    black = np.zeros((400, 32, 48, 3), np.uint8)
    drawn = _drawn(Augmentation(erase=0.5), 400, (32, 48), 3)
    made = apply(black, drawn)
    share = (made == 128).all(axis=-1).mean(axis=(1, 2))
    assert set(np.unique(made)) == {0, 128}
    assert np.mean(share > 0) == pytest.approx(0.5, abs=0.08)
    assert share[share > 0].min() > 0.01
    assert share.max() < 0.22
    top, bottom, left, right = drawn.erased[share > 0].T
    assert ((bottom - top) * (right - left) / (32 * 48)).tolist() == pytest.approx(share[share > 0].tolist())


def test_what_is_off_draws_what_was_drawn_before() -> None:
    plain = Augmentation(flip_horizontal=0.5, rotate=20, scale=(0.9, 1.1), contrast=0.2)
    before, after = _drawn(plain, 30, (20, 20)), _drawn(replace(plain, turn=0.5, erase=0.5, gamma=0.3), 30, (20, 20))
    assert (before.rotate == after.rotate).all()
    assert (before.matrices[after.turn == 0] == after.matrices[after.turn == 0]).all()


@pytest.mark.parametrize(("clip", "tiles"), [(2.0, 8), (4.0, 4)])
def test_clahe_is_opencvs_and_looks_like_scikit_images(clip: float, tiles: int) -> None:
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.normal(size=(64, 64)), (0, 0), 4)
    plane = np.uint8(110 + 30 * (smooth - smooth.min()) / np.ptp(smooth))
    images = plane[None, ..., None]
    found = apply(images, drawn_for(Augmentation(clahe=1.0, clahe_clip=clip, clahe_tiles=tiles), images))[0, ..., 0]
    assert np.array_equal(found, cv2.createCLAHE(clip, (tiles, tiles)).apply(plane))
    theirs = exposure.equalize_adapthist(plane, kernel_size=64 // tiles, clip_limit=clip / 256)
    assert np.corrcoef(found.ravel().astype(float), theirs.ravel())[0, 1] > 0.8
    assert found.std() > 1.3 * plane.std()


def test_a_random_crop_is_a_part_of_the_image_enlarged_and_lies_anywhere() -> None:
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))[None, ..., None].repeat(300, 0)
    found = apply(ramp, drawn_for(Augmentation(random_crop=0.5), ramp)).astype(float)[..., 0]
    step = np.diff(found[:, 50], axis=1)[:, 20:80].mean()
    assert step == pytest.approx(1.0, abs=0.02), "half of the side on the whole of it"
    left, right = found[:, 50, 0] / 2, found[:, 50, -1] / 2
    assert left.min() >= 0
    assert right.max() <= 99
    assert left.min() < 3
    assert left.max() > 46, "from one edge to the other"
    assert np.allclose(right - left, 49.5, atol=1)
