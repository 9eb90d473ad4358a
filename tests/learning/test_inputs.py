"""What a model sees of cases: the same pixels one by one and together, what is missing, what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from overread.cases.cases import Cases
from overread.images.preprocess import Preprocess, load, normalise
from overread.learning.inputs import inputs
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.tasks.target import Target

TARGET = Target("binary", ("n", "p"), ("p",))
PREPROCESS = Preprocess((28, 28), 1, mean=(0.4,), std=(0.2,))


def model_of(**recipe: object) -> Model:
    views = ("left", "right") if recipe.get("fusion") == "concat" else ()
    about = About(
        Recipe(method="scratch", backbone="lenet5", **recipe), PREPROCESS, TARGET, Origin("lenet5", 1), views=views
    )
    return Model(make_network(about).eval(), about)


@pytest.fixture
def cases(tmp_path) -> Cases:
    """Three cases: two views, one view, and one whose second image is broken."""
    for i in range(5):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 30), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "4.png").write_bytes(b"broken")
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(5)], "case": list("aabcc"), "patient": list("ppqrr"), "source": "x",
                          "view": ["left", "right", "right", "left", "right"], "time": "", "split": "", "label": list("nnppp")})  # fmt: skip
    return Cases(table, TARGET, str(tmp_path))


def test_images_one_by_one_are_those_of_the_preprocessing(cases, tmp_path) -> None:
    errors: dict[int, str] = {}
    found = list(inputs(model_of(), cases, batch=2, errors=errors))
    assert [batch.cases for batch in found] == [("a", "a"), ("b", "c")]
    assert [batch.rows.tolist() for batch in found] == [[[0], [1]], [[2], [3]]]
    for batch in found:
        for x, (pixels,), (row,) in zip(batch.x, batch.pixels, batch.rows, strict=True):
            wanted = load(tmp_path / f"{row}.png", PREPROCESS)
            np.testing.assert_array_equal(pixels, wanted)
            np.testing.assert_allclose(x.numpy(), np.moveaxis(normalise(wanted[None], PREPROCESS)[0], -1, 0), atol=1e-5)
    assert list(errors) == [4]
    assert str(tmp_path) not in errors[4]


def test_images_of_a_case_stand_in_their_places(cases) -> None:
    said: list[str] = []
    (found,) = inputs(model_of(fusion="concat"), cases, say=said.append)
    assert found.cases == ("a", "b", "c")
    assert found.rows.tolist() == [[0, 1], [-1, 2], [3, -1]]
    assert found.x.shape == (3, 2, 1, 28, 28)
    assert torch.isnan(found.x).all(dim=(2, 3, 4)).tolist() == [[False, False], [True, False], [False, True]]
    assert [[image is None for image in case] for case in found.pixels] == [
        [False, False],
        [True, False],
        [False, True],
    ]
    (single,) = inputs(model_of(), cases)
    assert torch.equal(found.x[found.rows >= 0], single.x)
    assert any("1 image of 1 case cannot be read" in line for line in said)


def test_a_case_of_which_nothing_can_be_read_is_left_out(cases) -> None:
    table = cases.table[cases.table["image"] != "3.png"].reset_index(drop=True)
    (found,) = inputs(model_of(fusion="concat"), replace(cases, table=table))
    assert found.cases == ("a", "b")
    assert len(found) == len(found.x) == 2


def test_no_cases_are_no_batches(cases) -> None:
    assert list(inputs(model_of(), replace(cases, table=cases.table.iloc[:0]))) == []
