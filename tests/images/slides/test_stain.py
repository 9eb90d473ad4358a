"""Stains: measured, normalised and varied, against slow restatements of the papers' equations and another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import combine_stains, separate_stains

from overread.core.errors import InputError
from overread.images.augment import Augmentation, apply, draw
from overread.images.preprocess import Preprocess, geometry, load, prepared
from overread.images.read import read_image
from overread.images.slides.stain import (
    GLASS,
    LEAST,
    RUIFROK,
    TARGET,
    TARGET_COLOURS,
    StainColours,
    StainMatrix,
    macenko,
    measure_stain,
    normalise,
    perturb,
    reinhard,
    stain_maps,
    with_stain,
)

HAEMATOXYLIN, EOSIN = (np.array(each) / np.linalg.norm(each) for each in ((0.60, 0.72, 0.35), (0.10, 0.95, 0.30)))


def stained(haematoxylin=HAEMATOXYLIN, eosin=EOSIN, shape=(128, 128), seed=1, gain=1.0):
    """Tissue of known stains in known amounts, with glass in a corner."""
    random = np.random.default_rng(seed)
    amounts = np.stack([random.gamma(1.2, 0.35, shape) * (random.uniform(size=shape) < 0.5), random.gamma(2.0, 0.25, shape)], axis=2)  # fmt: skip
    amounts[random.uniform(size=shape) < 0.1, 1] = 0
    amounts[:32, :32] = 0
    dense = gain * amounts @ np.stack([haematoxylin, eosin])
    return np.clip(np.rint(GLASS * 10**-dense), 0, 255).astype(np.uint8)


def restated(pixels):
    """Macenko 2009, pixel by pixel where it can be: singular vectors instead of the covariance, one angle at a time."""
    dense = [[max(0.0, -math.log10(max(v, 1) / 245)) for v in pixel] for pixel in pixels.reshape(-1, 3).tolist()]
    dense = np.array([each for each in dense if math.hypot(*each) >= 0.15])
    vectors = np.linalg.svd(dense - dense.mean(axis=0), full_matrices=False)[2][:2]
    vectors = [v if v.sum() > 0 else -v for v in vectors]
    angles = sorted(math.atan2(each @ vectors[1], each @ vectors[0]) for each in dense)
    low, high = (np.quantile(angles, q) for q in (0.01, 0.99))
    stains = [vectors[0] * math.cos(a) + vectors[1] * math.sin(a) for a in (low, high)]
    stains = sorted((each / math.hypot(*each) for each in stains), key=lambda each: -each[0])
    gram = np.array([[a @ b for b in stains] for a in stains])
    amounts = np.array([np.linalg.solve(gram, [each @ a for a in stains]) for each in dense])
    return stains, np.quantile(amounts, 0.99, axis=0)


def test_macenko_is_its_restatement_and_finds_what_was_mixed():
    pixels = stained()
    found = macenko(pixels)
    stains, amounts = restated(pixels)
    np.testing.assert_allclose([found.haematoxylin, found.eosin], stains, atol=1e-6)
    np.testing.assert_allclose(found.amounts, amounts, rtol=1e-6)
    for mine, true in ((found.haematoxylin, HAEMATOXYLIN), (found.eosin, EOSIN)):
        assert np.degrees(np.arccos(np.clip(np.dot(mine, true), -1, 1))) < 3


def test_two_scanners_look_alike_after_it():
    one = stained(gain=0.8)
    other = stained((0.49, 0.77, 0.41) / np.linalg.norm((0.49, 0.77, 0.41)), (0.20, 0.90, 0.39), gain=1.3)
    before = np.abs(one.astype(float) - other).mean()
    for how, better in (("macenko", 0.15), ("reinhard", 0.6)):
        made = [normalise(each, measure_stain(each, how)).astype(float) for each in (one, other)]
        assert np.abs(made[0] - made[1]).mean() < better * before


def test_macenko_gives_the_target_back_what_it_has():
    target = stained(np.array(TARGET.haematoxylin), np.array(TARGET.eosin))
    measured = StainMatrix(TARGET.haematoxylin, TARGET.eosin, TARGET.amounts)
    apart = np.abs(normalise(target, measured).astype(int) - target)
    assert apart[target.min(axis=2) > 20].max() <= 1  # the dark ones are rounded more coarsely


def test_macenko_by_least_squares_a_pixel_at_a_time():
    pixels = stained(shape=(48, 48))
    measured = macenko(pixels)
    own = np.stack([measured.haematoxylin, measured.eosin], axis=1)
    wanted = np.stack([TARGET.haematoxylin, TARGET.eosin], axis=1)
    for row, column in [(5, 40), (40, 5), (20, 33), (47, 47), (33, 12)]:
        dense = np.maximum(-np.log10(np.maximum(pixels[row, column].astype(float), 1) / GLASS), 0)
        amounts = np.linalg.lstsq(own, dense, rcond=None)[0] * TARGET.amounts / measured.amounts
        made = GLASS * 10 ** -np.maximum(wanted @ amounts, 0)
        share = min(1.0, np.linalg.norm(dense) / LEAST)
        made = np.clip(np.rint(share * made + (1 - share) * pixels[row, column]), 0, 255)
        assert np.abs(normalise(pixels, measured)[row, column] - made).max() <= 1


def test_reinhard_is_its_equations():
    """Equations 4 to 8 of the paper, written out for each pixel."""
    pixels = stained(shape=(48, 48))

    def lab(red, green, blue):
        long, middle, short = (math.log10(v) for v in (
            0.3811 * red + 0.5783 * green + 0.0402 * blue, 0.1967 * red + 0.7244 * green + 0.0782 * blue, 0.0241 * red + 0.1288 * green + 0.8444 * blue))  # fmt: skip
        return (
            (long + middle + short) / math.sqrt(3),
            (long + middle - 2 * short) / math.sqrt(6),
            (long - middle) / math.sqrt(2),
        )

    dense = np.linalg.norm(np.maximum(-np.log10(np.maximum(pixels.astype(float), 1) / GLASS), 0), axis=2)
    values = np.array([lab(*(max(v, 1) / 255 for v in pixel)) for pixel in pixels[dense >= LEAST].tolist()])
    found = reinhard(pixels)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.std, values.std(axis=0), rtol=1e-9)
    again = reinhard(normalise(pixels, found))
    np.testing.assert_allclose(again.mean, TARGET_COLOURS.mean, atol=0.02)
    np.testing.assert_allclose(again.std, TARGET_COLOURS.std, rtol=0.15)


def pixel_by_hand(pixel, measured):
    """One pixel of tissue with the look of the target, by the equations of the papers."""
    values = [max(float(v), 1.0) for v in pixel]
    if isinstance(measured, StainMatrix):
        dense = [max(0.0, -math.log10(v / 245)) for v in values]
        own = np.stack([measured.haematoxylin, measured.eosin], axis=1)
        amounts = np.linalg.lstsq(own, dense, rcond=None)[0]
        made = [0.0] * 3
        for amount, mine, theirs, stain in zip(amounts, measured.amounts, TARGET.amounts, (TARGET.haematoxylin, TARGET.eosin), strict=True):  # fmt: skip
            made = [each + amount * theirs / mine * part for each, part in zip(made, stain, strict=True)]
        return [min(255.0, 245 * 10 ** -max(0.0, each)) for each in made]
    lms = [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
    cones = [math.log10(sum(a * v / 255 for a, v in zip(row, values, strict=True))) for row in lms]
    lab = [sum(cones) / 3**0.5, (cones[0] + cones[1] - 2 * cones[2]) / 6**0.5, (cones[0] - cones[1]) / 2**0.5]
    moved = [(v - m) / s * ts + tm for v, m, s, tm, ts in zip(lab, measured.mean, measured.std, TARGET_COLOURS.mean, TARGET_COLOURS.std, strict=True)]  # fmt: skip
    x, y, z = moved[0] / 3**0.5, moved[1] / 6**0.5, moved[2] / 2**0.5
    back = np.linalg.solve(np.array(lms), [10 ** (x + y + z), 10 ** (x + y - z), 10 ** (x - 2 * y)])
    return [255 * min(1.0, max(0.0, each)) for each in back]


@pytest.mark.parametrize("how", ["macenko", "reinhard"])
@pytest.mark.parametrize("value", [255, 245, 128, 0])
def test_a_tile_of_one_value_stays_as_it_is(how, value):
    flat = np.full((64, 64, 3), value, np.uint8)
    assert measure_stain(flat, how).undefined
    assert (with_stain(flat, how) == flat).all()
    if value >= 245:  # glass, by the stain of its slide
        assert (normalise(flat, measure_stain(stained(), how)) == flat).all()
    else:
        measured = measure_stain(stained(), how)
        made = normalise(flat, measured)
        assert made.dtype == np.uint8
        assert np.abs(made - np.array(pixel_by_hand([value] * 3, measured))).max() <= 0.5 + 1e-6  # rounded


def test_one_stain_alone_and_grey_are_undefined_and_stay():
    eosin = stained(EOSIN, EOSIN)
    assert macenko(eosin).undefined == "one stain alone"
    assert (with_stain(eosin, "macenko") == eosin).all()
    grey = np.repeat(stained()[..., :1], 3, axis=2)
    assert macenko(grey).undefined
    assert with_stain(grey[..., :1], "macenko").shape == (128, 128, 1)
    assert macenko(np.full((10, 10, 3), 100, np.uint8)).undefined == "100 pixels of tissue"


def test_no_input_makes_a_number_that_is_none():
    random = np.random.default_rng(3)
    for made in (random.integers(0, 256, (64, 64, 3)), random.integers(0, 3, (64, 64, 3)), random.integers(250, 256, (64, 64, 3))):  # fmt: skip
        pixels = made.astype(np.uint8)
        for how in ("macenko", "reinhard"):
            with np.errstate(all="raise"):
                assert with_stain(pixels, how).shape == pixels.shape


# -- variation ----------------------------------------------------------------------------------------------------


def test_perturb_is_that_of_another_library():
    """skimage's colour deconvolution in the same three stains, on amounts of its own scale."""
    pixels = np.maximum(stained(shape=(40, 40)), 3)
    scale, shift = np.array([1.1, 0.9, 1.05]), np.array([0.04, -0.03, 0.02])
    matrix = np.stack([np.array(each) / np.linalg.norm(each) for each in RUIFROK])
    unit = np.log(1e-6) * -1  # skimage's amounts are logarithms to the base of 1e-6
    amounts = separate_stains(pixels / 255, np.linalg.inv(matrix))
    raw = (-np.log(pixels / 255)) @ np.linalg.inv(matrix)
    kept = (amounts > 0).all(axis=2)  # it cuts negative amounts off
    np.testing.assert_allclose(amounts[kept] * unit, raw[kept], rtol=1e-6)
    wanted = combine_stains((raw * scale + shift) / unit, matrix) * 255
    assert np.abs(perturb(pixels, scale, shift) - np.clip(wanted, 0, 255)).max() <= 1


def test_nothing_drawn_changes_nothing_and_white_stays_within_its_shift():
    pixels = stained()
    one, none = np.ones(3), np.zeros(3)
    assert np.abs(perturb(pixels, one, none).astype(int) - pixels).max() <= 1
    white = np.full((4, 4, 3), 255, np.uint8)
    assert (perturb(white, 1.2 * one, none) == 255).all()
    assert (perturb(white, one, 0.05 * one) >= 255 * np.exp(-0.15)).all()
    assert (perturb(np.zeros((4, 4, 3), np.uint8), 1.5 * one, none) <= 1).all()
    sixteen = pixels.astype(np.uint16) * 257
    assert np.abs(perturb(sixteen, 1.1 * one, none) / 257 - perturb(pixels, 1.1 * one, none)).max() < 1


def test_drawn_by_seed_epoch_and_row_and_within_its_strength():
    images = np.stack([stained(seed=at) for at in range(4)])
    how = Augmentation(stain=0.1)
    drawn = draw(how, seed=1, epoch=0, samples=np.arange(2000), size=(128, 128), channels=3)
    assert drawn.stain.shape == (2000, 2, 3)
    for at, middle in ((0, 1.0), (1, 0.0)):
        assert np.abs(drawn.stain[:, at] - middle).max() <= 0.1
        assert drawn.stain[:, at].std(axis=0) == pytest.approx([0.1 / 3**0.5] * 3, rel=0.05)
    assert np.abs(np.corrcoef(drawn.stain.reshape(2000, 6).T) - np.eye(6)).max() < 0.08
    few = draw(how, seed=1, epoch=0, samples=np.arange(4), size=(128, 128), channels=3)
    made = apply(images, few)
    assert (made[2] == perturb(images[2], *few.stain[2])).all()
    assert (apply(images[2:3], draw(how, seed=1, epoch=0, samples=[2], size=(128, 128), channels=3))[0] == made[2]).all()  # fmt: skip
    grey = draw(how, seed=1, epoch=0, samples=np.arange(4), size=(8, 8), channels=1)
    assert (grey.stain == [[1.0], [0.0]]).all()
    assert stain_maps(few.stain).shape == (4, 3, 4)


# -- as fields -------------------------------------------------------------------------------------------------------


def test_a_tile_is_changed_as_the_whole_of_its_slide(tmp_path):
    import tifffile

    # squares of 96 pixels, wherever they lie, have the stain of one period of 32; one place is paler than the rest of its slide
    period, paler = (stained(shape=(64, 64), gain=gain)[32:, 32:] for gain in (1.0, 0.6))
    pixels = np.tile(period, (16, 16, 1))
    pixels[224:288, 268:332] = np.tile(paler, (2, 2, 1))
    pixels[:, :32] = 255
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(128, 128), photometric="rgb")
        file.write(np.ascontiguousarray(pixels[::4, ::4]), tile=(128, 128), photometric="rgb", subfiletype=1)
    how = Preprocess((64, 64), stain="macenko")
    glass, tissue = (f"{path}#tile={x},512,64,2&mpp=2" for x in (16, 600))
    made = load(tissue, how)
    assert (made == prepared(read_image(tissue), how, tissue)).all()
    assert (load(glass, how)[:, :56] == 255).all()  # 24 columns beyond the slide, and 32 of glass
    (haematoxylin, eosin), amounts = restated(period)
    slide, tile = pixels[224:288, 268:332], restated(paler)
    dense = np.linalg.norm(-np.log10(np.maximum(slide, 1) / 245.0), axis=2)

    def away(stains, amounts):
        """The mean difference over tissue that is not glass in part."""
        measured = StainMatrix(*(tuple(each.tolist()) for each in stains), tuple(amounts.tolist()))
        some = np.argwhere(dense >= LEAST)[::5]
        return np.mean([np.abs(made[row, column] - pixel_by_hand(slide[row, column], measured)).mean() for row, column in some])  # fmt: skip

    assert away((haematoxylin, eosin), amounts) < 2
    assert away(*tile) > 15  # by its own stain it would have the look of the rest


def test_ink_on_a_slide_says_nothing_of_its_stain(tmp_path):
    """Three phantoms' ink, on a slide of known stains: without care its red would be taken for that of haematoxylin."""
    import tifffile

    from overread.images.address import parse
    from overread.images.slides.stain import slide_stain

    pixels = stained(shape=(768, 768))
    found = []
    for name, ink in (("plain", None), ("inked", (40, 60, 190))):
        if ink:
            pixels[560:740, 20:300] = ink
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            file.write(pixels, tile=(128, 128), photometric="rgb")
            file.write(np.ascontiguousarray(pixels[::4, ::4]), tile=(128, 128), photometric="rgb", subfiletype=1)
        found.append(slide_stain(parse(f"{tmp_path / name}.tif#slide&mpp=2"), "macenko"))
    for one, other in zip(
        (found[0].haematoxylin, found[0].eosin), (found[1].haematoxylin, found[1].eosin), strict=True
    ):
        assert np.degrees(np.arccos(np.clip(np.dot(one, other), -1, 1))) < 2
    whole = macenko(pixels)  # with the ink
    assert np.degrees(np.arccos(np.dot(whole.haematoxylin, found[0].haematoxylin))) > 5


def test_old_packs_keep_their_names_and_a_stain_is_of_the_geometry():
    from overread.core.files import fingerprint

    assert fingerprint(Preprocess((8, 8), stain="none")) == fingerprint(Preprocess((8, 8)))
    assert fingerprint(Augmentation(stain=0.0)) == fingerprint(Augmentation())
    assert geometry(Preprocess((8, 8), stain="macenko")).stain == "macenko"
    for wrong in ({"stain": "vahadane"}, {"stain": "macenko", "channels": 1}, {"stain": "reinhard", "bits": 16}):
        with pytest.raises(InputError):
            Preprocess((8, 8), **wrong)
    assert StainColours().undefined == ""
