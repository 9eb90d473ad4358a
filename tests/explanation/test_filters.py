"""First filters, and the patches that excite a unit, against what a hand-made network must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.explanation.checks.test_randomisation import committee_of
from tests.explanation.conftest import model_of, untrained
from torch import nn

from overread.core.errors import ArgumentError, InputError, UnavailableError
from overread.core.files import read_json
from overread.explanation.filters import (
    Batch,
    contact_sheet,
    exciting_patches,
    first_filters,
    show_filters,
    strongest_units,
)
from overread.networks.backbones import build


def detector() -> nn.Sequential:
    """Unit 0 answers to bright 3 x 3 squares, unit 1 to dark ones; a second layer joins 3 x 3 places of them."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1, bias=False)
    ).eval()
    with torch.no_grad():
        network[0].weight[0], network[0].weight[1] = 1.0, -1.0
        network[2].weight.zero_()
        for unit in (0, 1):
            network[2].weight[unit, unit] = 1.0
    return network


def batch(spots, patients, side=20, start=0):
    pixels = np.full((len(spots), side, side, 1), 10, np.uint8)
    for i, (row, column, value) in enumerate(spots):
        pixels[i, row - 1 : row + 2, column - 1 : column + 2] = value
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float() - 10
    return Batch(
        x, list(pixels), [f"c{start + i}" for i in range(len(spots))], patients, range(start, start + len(spots))
    )


def test_the_patch_is_where_the_spot_is_and_one_a_patient():
    batches = [
        batch([(5, 6, 100), (12, 9, 200), (8, 8, 150)], ["a", "a", "b"]),
        batch([(4, 15, 250), (10, 10, 120)], ["c", "d"], start=3),
    ]
    found = exciting_patches(detector(), "0", [0], batches, top=3)[0]
    assert [(patch.patient, patch.case) for patch in found] == [("c", "c3"), ("a", "c1"), ("b", "c2")]
    assert [patch.value for patch in found] == [9 * 240, 9 * 190, 9 * 140]
    assert (found[1].box.top, found[1].box.left, found[1].box.bottom, found[1].box.right) == (11, 8, 14, 11)
    assert (found[1].pixels == 200).all()
    assert found[1].pixels.shape == (3, 3, 1)


def test_the_receptive_field_grows_with_depth_and_ends_with_the_image():
    corner = exciting_patches(detector(), "2", [0], [batch([(1, 1, 99)], ["a"])])[0][0].box
    inside = exciting_patches(detector(), "2", [0], [batch([(9, 9, 99)], ["a"])])[0][0].box
    assert (inside.bottom - inside.top, inside.right - inside.left) == (5, 5)
    assert (corner.top, corner.left) == (0, 0)


def test_a_better_image_of_a_patient_takes_the_place_of_a_worse_one():
    found = exciting_patches(detector(), "0", [0], [batch([(5, 5, 50), (6, 6, 90)], ["a", "a"])], top=2)[0]
    assert [patch.case for patch in found] == ["c1"]


def test_a_unit_that_nothing_excites_has_no_patches():
    found = exciting_patches(detector(), "1", [0, 1], [batch([(5, 5, 50)], ["a"])])
    assert len(found[0]) == 1
    assert found[1] == ()


@pytest.mark.parametrize(
    ("name", "units", "says"), [("0", [7], "no such unit"), ("0", [], "at least one unit"), ("9", [0], "layer")]
)
def test_what_is_not_there_is_refused(name, units, says):
    with pytest.raises(ArgumentError, match=says):
        exciting_patches(detector(), name, units, [batch([(5, 5, 50)], ["a"])])


def test_no_images_are_an_error_and_a_layer_without_places_too():
    with pytest.raises(InputError, match="no images"):
        exciting_patches(detector(), "0", [0], [])
    network = untrained()
    with pytest.raises(ArgumentError, match="no units with a place"):
        exciting_patches(network, "head", [0], [batch([(5, 5, 50)], ["a"], side=28)])


def test_the_units_that_vary_come_first():
    x = torch.cat([batch([(5, 5, value)], ["a"]).x for value in (20, 90, 250)])
    assert strongest_units(detector(), "0", x, 2) == (0, 1)
    assert strongest_units(detector(), "0", -x, 1) == (1,)


def test_first_filters_are_the_weights_also_of_an_ensemble():
    network = build("lenet5", outputs=2, channels=3)
    name, filters = first_filters(network)
    weight = network.get_submodule(name).weight.detach().numpy()
    assert np.array_equal(filters, weight.transpose(0, 2, 3, 1))
    assert np.array_equal(first_filters(committee_of(network, network))[1], filters)
    with pytest.raises(UnavailableError, match="no convolution"):
        first_filters(nn.Linear(2, 2))


def test_a_sheet_shows_every_tile():
    tiles = [[np.full((5, 5, 3), 40 * i, np.uint8) for i in range(4)], [np.full((9, 7, 1), 200, np.uint8)]]
    sheet = contact_sheet(tiles)
    assert sheet.shape == (2 * 58 + 2, 4 * 58 + 2, 3)
    assert [int(sheet[20, 20 + 58 * i, 0]) for i in range(4)] == [0, 40, 80, 120]
    assert sheet[80, 20].tolist() == [200, 200, 200]
    assert sheet[80, 100].tolist() == [255, 255, 255]


def test_filters_are_stretched_each_for_itself_and_deep_images_shown_by_their_upper_bits():
    sheet = contact_sheet([[np.linspace(-0.1, 0.1, 9).reshape(3, 3, 1), np.zeros((3, 3, 5))]], alone=True)
    assert (sheet[2, 2, 0], sheet[57, 57, 0], sheet[20, 80, 0]) == (0, 255, 127)
    assert contact_sheet([[np.full((4, 4, 1), 0x8123, np.uint16)]])[9, 9, 0] == 0x81


@pytest.mark.parametrize("fusion", ["single", "concat"])
def test_of_a_model_the_sheets_and_the_list_are_written(masked, tmp_path, fusion):
    said = []
    if fusion == "concat":
        masked = replace(masked, table=masked.table.assign(case=list("aabbcc"), patient=list("ppqqrr")))
    made = show_filters(model_of(fusion=fusion), masked, tmp_path / "filters", layer="c1", top=2, say=said.append)
    assert [path.name for path in made] == ["first.png", "patches.png", "patches.json"]
    assert Image.open(made[0]).size[0] > 100
    told = read_json(made[2])
    assert told["layer"] == "c1"
    assert 1 <= max(len(unit["patches"]) for unit in told["units"]) <= 2
    assert said[0] == "  6 filters of trunk.c1"


def test_of_a_model_units_are_refused_that_are_not_there(masked, tmp_path):
    with pytest.raises(ArgumentError, match="no such unit"):
        show_filters(model_of(), masked, tmp_path, layer="c1", units=(99,))
