"""Objects out of maps that say the truth, band by band and in one pass."""

import numpy as np
import pytest

from overread.cells.cut_search import STARTS, pooled_precision, snapshot_precision, tune
from overread.cells.instance_cut import Maps, cut, kinds_of, surest
from overread.cells.targets import places_of, targets
from overread.cells.tiled import cut_bands
from overread.networks.instance_heads import INSTANCE_HEADS, Cutting, Layout
from overread.stats.overlap import Instances


def truth_as_maps(labels, layout, kinds=()):
    """What a perfect network would say."""
    made, places = targets(labels, layout, kinds=kinds), places_of(layout)
    step, (h, w) = layout.stride, labels.shape
    pixels = (
        made[places.pixels].reshape(-1, step, step, h // step, w // step).transpose(0, 3, 1, 4, 2).reshape(-1, h, w)
    )
    parts = [made[places.heat], made[places.geometry]]
    if layout.classes > 1:
        parts.append((made[places.kind] == np.arange(layout.classes)[:, None, None]) * 8.0)
    return Maps((pixels * 255).astype(np.uint8), np.concatenate(parts).astype(np.float16))


def touching(size=128):
    """Rows of discs that touch, and an empty corner."""
    labels = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    centres = [(cy, cx) for cy in range(14, size - 40, 20) for cx in range(12, size, 20)]
    for name, (cy, cx) in enumerate(centres, 1):
        labels[((y - cy) ** 2 + (x - cx) ** 2 < 10.4**2) & (labels == 0)] = name
    return labels


@pytest.mark.parametrize("head", INSTANCE_HEADS[1:])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_perfect_network_keeps_touching_objects_apart(head, stride):
    labels, layout = touching(), Layout(head, stride, 32, 1)
    found = cut(truth_as_maps(labels, layout), layout, STARTS[head])
    pair = Instances.of(labels, found)
    assert len(pair.predicted) == len(pair.true)
    assert pair.matched(15).sum() == len(pair.true)


def test_the_baseline_merges_them():
    labels, layout = touching(), Layout("sigmoid", 2, 32, 1)
    found = cut(truth_as_maps(labels, layout), layout, STARTS["sigmoid"])
    assert found.max() < labels.max() / 2


@pytest.mark.parametrize("head", INSTANCE_HEADS)
def test_bands_give_the_same_objects_as_one_pass(head, make_discs):
    labels, layout = make_discs(1200, 200, count=300), Layout(head, 2, 32, 1)
    maps, whole, made = truth_as_maps(labels, layout), STARTS[head], np.zeros(labels.shape, np.int32)
    bands = ((top, maps.rows(top, min(top + 64, 1200), 2)) for top in range(0, 1200, 64))

    def write(top, labels):
        made[top : top + len(labels)] = labels

    joined = cut_bands(bands, (1200, 200), layout, whole, write, rows=130)
    numbers, _ = joined.numbers()
    pair = Instances.of(cut(maps, layout, whole), numbers[made])
    same = int(pair.matched(19).sum())
    if head == "boundary":  # a watershed parts what is level by the order in which it came there
        assert same >= 0.97 * len(pair.true)
        assert same >= 0.97 * len(pair.predicted)
    else:
        assert same == len(pair.true) == len(pair.predicted)
        assert (numbers[made] == cut(maps, layout, whole)).all()


def test_an_object_longer_than_a_band_stays_one():
    labels, layout = np.zeros((1000, 64), np.int32), Layout("sigmoid", 2, 32, 1)
    labels[10:990, 20:30] = labels[10:990, 40:50] = 1
    labels[980:990, 20:50] = 1  # two arms that meet below
    maps, made = truth_as_maps(labels, layout), np.zeros(labels.shape, np.int32)

    def write(top, labels):
        made[top : top + len(labels)] = labels

    joined = cut_bands(
        ((top, maps.rows(top, top + 100, 2)) for top in range(0, 1000, 100)),
        labels.shape,
        layout,
        STARTS["sigmoid"],
        write,
        rows=100,
    )
    assert (joined.numbers()[0][made] == labels).all()


def test_an_object_is_one_piece_and_large_enough():
    labels, layout = np.zeros((40, 40), np.int32), Layout("sigmoid", 1, 32, 1)
    labels[2:10, 2:10], labels[20:22, 20:22] = 1, 1
    assert cut(truth_as_maps(labels, layout), layout, Cutting(minimum=5)).max() == 1
    assert cut(truth_as_maps(labels, layout), layout, Cutting(minimum=4)).max() == 2
    assert cut(truth_as_maps(np.zeros((40, 40), np.int32), layout), layout, Cutting()).max() == 0


def test_classes_are_voted_for_by_the_places_of_an_object():
    labels, layout = np.zeros((40, 40), np.int32), Layout("offsets", 2, 32, 3)
    labels[2:14, 2:14], labels[20:34, 20:34] = 1, 2
    maps = truth_as_maps(labels, layout, kinds=(2, 0))
    found = cut(maps, layout, STARTS["offsets"])
    assert kinds_of(found, maps, layout).argmax(axis=1).tolist() == [2, 0]


def test_a_surer_star_takes_those_within_it():
    y, x, heat = np.array([10.0, 12.0, 40.0]), np.array([10.0, 10.0, 10.0]), np.array([0.6, 0.9, 0.5], np.float32)
    assert surest(y, x, np.full((3, 8), 8, np.float32), heat, 0.7).tolist() == [False, True, True]


def test_the_cutting_is_chosen_by_the_tuning_images(make_discs):
    labels, layout = make_discs(96, 96, count=8), Layout("sigmoid", 1, 32, 1)
    maps = truth_as_maps(labels, layout)
    weak = Maps((maps.pixels * 0.4).astype(np.uint8), maps.places)  # never surer than .4
    chosen, score, before = tune([weak], [labels], layout)
    assert chosen.foreground < 0.4
    assert score > before == 0


def test_pooled_precision_is_by_hand():
    truth, found = np.array([[1, 1, 1, 1, 0, 2]]), np.array([[1, 1, 1, 0, 0, 0]])
    pair = Instances.of(truth, found)
    # IoU .75: found at the thresholds .50 … .70, for a match must exceed; one true object is missed
    assert pooled_precision([pair]) == pytest.approx(5 * (1 / 2) / 10)
    assert pooled_precision([pair, Instances.of(found, found)], ["a", "b"]) == pytest.approx((0.25 + 1) / 2)


def test_a_network_that_is_unsure_of_centres_is_judged_by_what_it_knows():
    labels, layout = touching(), Layout("offsets", 2, 32, 1)
    maps = truth_as_maps(labels, layout)
    unsure = Maps(maps.pixels, np.concatenate([maps.places[:1] * np.float16(0.3), maps.places[1:]]))
    assert snapshot_precision([unsure], [labels], layout) == snapshot_precision([maps], [labels], layout) > 0.8
