"""Networks of features: how far they see, that they learn, what they take for the feature, and that maps have no seams."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from overread.cells.few_patches.feature_maps import answered, write_maps
from overread.cells.few_patches.feature_network import REACH, RIM, SIDE, FeatureNetwork, Lesson, mined, train_feature
from overread.cells.few_patches.marked_patches import read_patches
from overread.cells.few_patches.pixel_source import PixelSource
from overread.learning.device import seeded


def source_of(pixels):
    return PixelSource(pixels, float(pixels.mean()), float(pixels.std()))


@pytest.fixture(scope="module")
def network():
    with seeded(0, 0, 0, "test"):
        made = FeatureNetwork().eval()
        for _, value in made.named_parameters():
            torch.nn.init.normal_(value, std=0.3)
    return made


def test_nothing_beyond_its_reach_moves_an_answer(network):
    x = torch.randn(1, 1, 200, 200, requires_grad=True)
    for place in (100, 101):
        x.grad = None
        network(x)[0, 0, place, place].backward()
        rows, columns = torch.nonzero(x.grad[0, 0], as_tuple=True)
        assert max((rows - place).abs().max(), (columns - place).abs().max()) <= REACH


@pytest.mark.parametrize("size", [(150, 131), (64, 64), (40, 300)])
def test_tiles_have_no_seams(network, size):
    source = source_of(np.random.default_rng(0).normal(size=size).astype(np.float32))
    (_, whole), *rest = answered(source, {"a": network}, tile=512)
    assert not rest
    joined = np.zeros(size, np.float32)
    for (top, left), part in answered(source, {"a": network}, tile=32):
        joined[top : top + part.shape[1], left : left + part.shape[2]] = part[0]
    assert np.abs(joined - whole[0]).max() < 1e-4


def test_the_strongest_answer_has_the_pixel(network, tmp_path):
    with seeded(1, 0, 0, "test"):
        other = FeatureNetwork().eval()
    source = source_of(np.random.default_rng(1).normal(size=(90, 70)))
    paths = {name: tmp_path / f"{name}.tif" for name in ("a", "b")}
    write_maps(source, {"a": network, "b": other}, paths, tmp_path / "merged.tif", threshold=0.6, tile=64)
    whole = np.concatenate([part for _, part in answered(source, {"a": network, "b": other}, tile=512)])
    merged = tifffile.imread(tmp_path / "merged.tif")
    for place, name in enumerate(paths):
        assert np.abs(tifffile.imread(paths[name]) / 255 - whole[place]).max() < 0.003
    sure = np.abs(whole[0] - whole[1]) > 1e-3
    sure &= np.abs(whole.max(0) - 0.6) > 1e-3
    assert np.array_equal(merged[sure], np.where(whole.max(0) >= 0.6, whole.argmax(0) + 1, 0)[sure])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "merged.tif"]


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Bright discs, and bright squares that nobody asked for, in noise; patches of both kinds."""
    home = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    pixels, truth = rng.normal(size=(400, 400)) * 0.5, np.zeros((400, 400), bool)
    y, x = np.mgrid[:400, :400]
    rows, squares = [], []
    for place in range(25):
        row, column = 40 + 80 * (place // 5), 40 + 80 * (place % 5)
        if place % 2:
            disc = np.hypot(y - row, x - column) <= 9
            pixels[disc] += 2
            truth |= disc
            rows.append(f"discs.tif,{column},{row},64,disc,1,truth.tif")
        else:
            pixels[row - 9 : row + 10, column - 9 : column + 10] += 2
            squares.append(f"discs.tif,{column},{row},64,disc,0,")
    tifffile.imwrite(home / "discs.tif", pixels.astype(np.float32))
    tifffile.imwrite(home / "truth.tif", truth.astype(np.uint8))
    (home / "patches.csv").write_text("\n".join(["image,x,y,side,feature,present,mask", *rows[:5], *squares[:5]]))
    return read_patches(home / "patches.csv"), pixels.astype(np.float32), truth


def test_it_learns_a_feature_and_what_is_none(discs):
    marked, pixels, truth = discs
    source = source_of(pixels)
    found = train_feature(marked, "disc", {"discs.tif": source}, steps=40)
    ((_, answers),) = answered(source, {"disc": found.network})
    called = answers[0, 200:] > 0.5  # rows without a patch that was learned from
    known = truth[200:]
    dice = 2 * (called & known).sum() / (called.sum() + known.sum())
    assert dice > 0.7
    assert (found.with_it, found.without) == (5, 5)
    assert found.hard > 0, "squares were taken for discs at first"
    found, again = (train_feature(marked, "disc", {"discs.tif": source}, steps=4) for _ in range(2))
    for one, other in zip(found.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_hard_negatives_are_where_it_answers_most(network):
    rng = np.random.default_rng(0)
    side = SIDE + 2 * RIM
    lessons = [
        Lesson(
            rng.normal(size=(side, side)).astype(np.float32), np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)
        )
        for _ in range(3)
    ]
    lessons.append(Lesson(lessons[0].pixels, lessons[0].aim, np.zeros((SIDE, SIDE), bool)))
    network = deepcopy(network)
    with torch.no_grad():  # so that the strongest answer is sure
        strongest = max(
            float(network(torch.from_numpy(each.pixels)[None, None])[0, 0, RIM:-RIM, RIM:-RIM].max())
            for each in lessons[:3]
        )
        network.answer.bias += 2 - strongest
    found, strength = mined(network, lessons)
    with torch.no_grad():
        answers = [
            network(torch.from_numpy(each.pixels)[None, None]).sigmoid()[0, 0, RIM:-RIM, RIM:-RIM].numpy()
            for each in lessons[:3]
        ]
    best = max(range(3), key=lambda at: answers[at].max())
    assert np.array_equal(found[0].pixels, lessons[best].pixels)
    assert found[0].known[np.unravel_index(answers[best].argmax(), (SIDE, SIDE))]
    assert strength <= max(answer.max() for answer in answers) + 1e-6
    assert all(not lesson.aim.any() and lesson.known.any() for lesson in found)


def test_what_is_painted_as_another_is_none_of_this_one(discs, tmp_path):
    marked, pixels, _ = discs
    lines = (
        Path(marked.root, "patches.csv").read_text() + "\ndiscs.tif,120,120,64,square,1,\ndiscs.tif,300,30,64,square,0,"
    ).replace("truth.tif", f"{marked.root}/truth.tif")
    (tmp_path / "patches.csv").write_text(lines)
    both = read_patches(tmp_path / "patches.csv")
    sources = {"discs.tif": source_of(pixels)}
    apart = train_feature(both, "square", sources, steps=2)
    over = train_feature(both, "square", sources, steps=2, exclusive=False)
    assert (apart.without, over.without) == (6, 1)
