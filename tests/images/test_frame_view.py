"""Stacks of frames seen as one image, against numbers made of the whole stack at once."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from overread.core.errors import ArgumentError, ImageError
from overread.images.frame_view import folder_frames, frame_view
from overread.images.perceptual_hash import describe
from overread.images.preprocess import Preprocess, load
from overread.images.read import content_digest, read_image
from overread.reporting.thumbnails import flat


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """30 frames of 20 × 24 pixels, as a TIFF of pages and as a folder of images."""
    home = tmp_path_factory.mktemp("film")
    rng = np.random.default_rng(0)
    slow = np.sin(np.arange(30) / 3)[:, None, None] * rng.random((20, 24))
    frames = np.rint(2000 + 800 * slow + 200 * rng.normal(size=(30, 20, 24))).clip(0, 65535).astype(np.uint16)
    frames[:, 3, 4] = 1234  # a pixel that never changes
    tifffile.imwrite(home / "film.tif", frames, photometric="minisblack", compression="zlib", metadata=None)
    (home / "frames").mkdir()
    for number, frame in enumerate(frames, 1):
        tifffile.imwrite(home / "frames" / f"f{number}.tif", frame, photometric="minisblack", metadata=None)
    return home, frames


def correlation(frames):
    """The mean correlation over time with the eight neighbours, pixel by pixel."""
    height, width = frames.shape[1:]
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            near = [
                (y + i, x + j)
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if (i or j) and 0 <= y + i < height and 0 <= x + j < width
            ]
            with np.errstate(invalid="ignore", divide="ignore"):
                each = [np.corrcoef(frames[:, y, x], frames[:, i, j])[0, 1] for i, j in near]
            found[y, x] = np.nan_to_num(each).mean()
    return found


@pytest.mark.parametrize("name", ["film.tif", "frames"])
def test_projections_are_those_of_the_whole_stack(film, name):
    home, frames = film
    image = read_image(str(home / f"{name}#frames=projections"))
    assert (image.mode, image.pixels.dtype, image.pixels.shape) == ("colour", np.uint16, (20, 24, 3))
    values = frames.astype(float)
    for channel, projection in enumerate((values.mean(0), values.max(0))):
        low, high = np.percentile(projection, (0.1, 99.9))
        wanted = np.clip((projection - low) / (high - low), 0, 1)
        assert np.abs(image.pixels[..., channel] / 65535 - wanted).max() < 1e-4
    assert np.abs(image.pixels[..., 2] / 65535 - correlation(values).clip(0, 1)).max() < 1e-4
    assert image.notes == ("30 frames as mean, maximum, correlation with neighbours",)


def test_channels_are_equal_spans_of_time(film):
    home, frames = film
    image = read_image(str(home / "film.tif#frames=channels:5"))
    assert (image.mode, image.pixels.shape) == ("frames", (20, 24, 5))
    wanted = np.stack([part.astype(float).mean(0) for part in np.split(frames, 5)], -1)
    low, high = np.percentile(wanted, (0.1, 99.9))
    assert np.abs(image.pixels / 65535 - np.clip((wanted - low) / (high - low), 0, 1)).max() < 1e-4
    assert np.array_equal(read_image(str(home / "frames#frames=channels:5")).pixels, image.pixels)
    uneven = read_image(str(home / "film.tif#frames=channels:7")).pixels
    spans = [np.flatnonzero(np.arange(30) * 7 // 30 == span) for span in range(7)]
    means = np.stack([frames[span].astype(float).mean(0) for span in spans], -1)
    low, high = np.percentile(means, (0.1, 99.9))
    assert np.abs(uneven / 65535 - np.clip((means - low) / (high - low), 0, 1)).max() < 1e-4


def test_two_ways_to_see_a_stack_are_two_images(film):
    home, _ = film
    addresses = [str(home / f"film.tif#frames={how}") for how in ("projections", "channels:4", "channels:5")]
    digests = [content_digest(address) for address in addresses]
    assert len(set(digests)) == 3
    assert digests == [read_image(address).digest for address in addresses]
    assert content_digest(str(home / "film.tif#frames=channels")) == content_digest(
        str(home / "film.tif#frames=channels:8")
    )


def test_who_wants_grey_or_colour_is_given_it(film):
    home, _ = film
    address = str(home / "film.tif#frames=channels:6")
    image = read_image(address)
    assert flat(image).shape == (20, 24)
    assert load(address, Preprocess((10, 12))).shape == (10, 12, 3)
    assert load(address, Preprocess((10, 12), channels=1)).shape == (10, 12, 1)
    told = describe(address)
    assert (told["error"], told["channels"], told["mode"]) == ("", 6, "frames")


def test_numbers_in_names_give_the_order(film):
    home, _ = film
    assert [path.rsplit("/", 1)[1] for path in folder_frames(home / "frames")][:11][-2:] == ["f10.tif", "f11.tif"]


@pytest.mark.parametrize(("address", "said"), [
    ("one.tif#frames=projections", "several frames"), ("film.tif#frames=channels:31", "fewer frames"), ("empty#frames=projections", "holds no images"),
    ("unlike#frames=projections", "one size"), ("colour#frames=projections", "grey"), ("none.tif#frames=projections", "does not exist"),
    ("film.tif#frames=median", "does not exist"), ("film.tif#frame=2&frames=channels", "made of all"), ("film.tif#frames=channels:0", "1 to 64 channels"),
])  # fmt: skip
def test_what_is_no_stack_is_refused(film, address, said):
    home, frames = film
    tifffile.imwrite(home / "one.tif", frames[0], photometric="minisblack", metadata=None)
    for name, parts in {
        "empty": [],
        "unlike": [frames[0], frames[0][:10]],
        "colour": [np.zeros((8, 8, 3), np.uint8)] * 2,
    }.items():
        (home / name).mkdir(exist_ok=True)
        for number, part in enumerate(parts):
            tifffile.imwrite(home / name / f"{number}.tif", part, metadata=None)
    with pytest.raises(ImageError, match=said):
        read_image(str(home / address))


def test_views_have_names():
    with pytest.raises(ArgumentError):
        frame_view("channels:0")
    with pytest.raises(ArgumentError):
        frame_view("projections:3")
