"""Targets against slow restatements of what they are."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from overread.cells.targets import border_weights, places_of, rays, rims, targets
from overread.core.errors import ArgumentError
from overread.networks.instance_heads import Layout


def test_rays_end_where_the_object_does(make_discs):
    labels = make_discs(60, 70, count=5)
    found = rays(labels, 8)
    for y, x in np.argwhere(labels > 0)[::37]:
        for k in range(8):
            down, right, far = np.sin(2 * np.pi * k / 8), np.cos(2 * np.pi * k / 8), 0.0
            while True:
                far += 0.1
                v, u = round(y + far * down), round(x + far * right)
                if not (0 <= v < 60 and 0 <= u < 70) or labels[v, u] != labels[y, x]:
                    break
            assert abs(found[k, y, x] - far) <= 1.1
    assert not found[:, labels == 0].any()


def test_rays_of_a_disc_are_its_radius():
    y, x = np.mgrid[:101, :101]
    labels = ((y - 50) ** 2 + (x - 50) ** 2 < 30.5**2).astype(np.int32)
    assert np.abs(rays(labels, 32)[:, 50, 50] - 30.5).max() < 1


def test_border_weights_are_equation_2_of_ronneberger(make_discs):
    labels = make_discs(50, 50, seed=3, count=6, radii=(3, 6))
    each = np.sort([distance_transform_edt(labels != name) for name in np.unique(labels)[1:]], axis=0)
    slow = 1 + 10 * np.exp(-((each[0] + each[1]) ** 2) / (2 * 5.0**2))
    slow[(labels > 0) | (each[1] > 19)] = 1
    close = np.abs(border_weights(labels) - slow)
    assert close[each[1] < 18].max() < 0.01


def test_rims_are_the_pixels_beside_something_else():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0]], np.int32)
    assert rims(labels).astype(int).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_offsets_point_at_the_centre_of_gravity(make_discs):
    labels = make_discs(64, 64, seed=1)
    layout = Layout("offsets", 2, 32, 1)
    made, places = targets(labels, layout), places_of(layout)
    y, x = np.mgrid[:64:2, :64:2] + 0.5
    for name in np.unique(labels)[1:]:
        own = labels[::2, ::2] == name
        rows, columns = np.nonzero(labels == name)
        assert np.allclose((y + made[places.geometry][0])[own], rows.mean(), atol=1e-4)
        assert np.allclose((x + made[places.geometry][1])[own], columns.mean(), atol=1e-4)
        assert np.allclose(made[places.radius][0][own], max(2, np.sqrt(len(rows) / np.pi)), atol=1e-4)


def test_pixels_are_folded_as_torch_unfolds_them(make_discs):
    labels = make_discs(32, 48)
    layout = Layout("boundary", 4, 32, 1)
    made = targets(labels, layout)
    back = torch.pixel_shuffle(torch.from_numpy(made[:32])[None], 4)[0].numpy()
    assert (back[0] == (labels > 0)).all()
    assert (back[1] == rims(labels)).all()


def test_classes_are_those_of_the_objects():
    labels = np.zeros((8, 8), np.int32)
    labels[:4, :4], labels[4:, 4:] = 3, 7
    layout = Layout("sigmoid", 2, 32, 2)
    made = targets(labels, layout, kinds=[0, 0, 1, 0, 0, 0, -1])[places_of(layout).kind][0]
    assert made[0, 0] == 1
    assert made[3, 3] == -1
    assert made[0, 3] == -1


def test_sides_that_are_no_multiples_are_refused():
    with pytest.raises(ArgumentError, match="multiples"):
        targets(np.zeros((5, 8), np.int32), Layout("sigmoid", 2, 32, 1))
