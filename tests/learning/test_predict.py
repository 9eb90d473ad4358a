from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from overread.cases.cases import Cases
from overread.core.errors import InputError
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.linear_probe import extract
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.predict import predict, predict_images, tabulate
from overread.learning.recipe import Recipe
from overread.tasks.target import Target

TARGET = Target("binary", ("n", "p"), ("p",))


@pytest.fixture
def model() -> Model:
    about = About(
        Recipe(method="scratch", views=1),
        Preprocess(size=(28, 28), channels=1, mean=(0.4,), std=(0.2,)),
        TARGET,
        Origin("resnet_small", 1),
    )
    with seeded(0, 0, 0, "test"):
        return Model(make_network(about).eval(), about)


@pytest.fixture
def cases(tmp_path) -> Cases:
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 255, (40, 30), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(5)], "case": list("aabcd"), "patient": list("ppqrs"), "source": "x", "view": "",
                          "time": "", "split": "", "label": ["n", "n", "p", "p", ""], "sex": list("ffmmm")})  # fmt: skip
    return Cases(table, TARGET, str(tmp_path))


def test_a_case_gets_the_mean_of_its_images(model, cases) -> None:
    values, errors = predict_images(model, cases)
    assert not errors
    assert np.allclose(values.sum(axis=1), 1, atol=1e-6)
    made = predict(model, cases, part="test")
    assert list(made.table["case"]) == list("abcd")
    assert made.scores[0] == pytest.approx(values[:2].mean(axis=0), abs=1e-6)
    assert list(made.table["split"]) == ["test"] * 4
    assert made.subgroups == ("sex",)


def test_threads_and_company_change_nothing(model, cases) -> None:
    one = predict(model, cases, threads=1)
    assert predict(model, cases, threads=3) == one
    alone = predict(model, cases["c"])
    assert alone.scores[0] == pytest.approx(one.scores[2], abs=1e-6)


@pytest.mark.parametrize("views", [1, 2])
def test_a_memory_for_two_images_gives_the_same_answers(model, cases, views, monkeypatch) -> None:
    model = replace(model, about=replace(model.about, recipe=model.about.recipe.changed(views=views)))
    network = type(model.network)
    images = np.stack([np.full((28, 28, 1), 40 * i, np.uint8) for i in range(5)])

    def answers():
        features = extract(model.network, images, model.about.preprocess, key="", views=views)
        return predict_images(model, cases)[0], features.numpy()

    def short(whole):
        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(self, x)

        return forward

    whole = answers()
    for name in ("forward", "features"):
        monkeypatch.setattr(network, name, short(getattr(network, name)))
    for found, wanted in zip(answers(), whole, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_unreadable_image_is_left_out_and_counted(model, cases, tmp_path) -> None:
    (tmp_path / "2.png").write_bytes(b"broken")
    values, errors = predict_images(model, cases)
    assert list(errors) == [2]
    assert np.isnan(values[2]).all()
    assert list(predict(model, cases).table["case"]) == ["a", "c", "d"]
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="none of the images"):
        predict(model, cases)


def test_two_views_are_the_mean_over_the_mirror_image(model, cases, tmp_path) -> None:
    both = replace(model, about=replace(model.about, recipe=Recipe(method="scratch", views=2)))
    for i in range(5):
        with Image.open(tmp_path / f"{i}.png") as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / f"mirrored{i}.png")
    here, _ = predict_images(both, cases)
    there, _ = predict_images(
        both, replace(cases, table=cases.table.assign(image=[f"mirrored{i}.png" for i in range(5)]))
    )
    assert np.allclose(here, there, atol=1e-4)


def test_a_quantity_comes_back_in_its_own_unit(cases) -> None:
    table = cases.table.drop(columns="label").assign(value=1.5)
    target = Target("quantity", ("volume",))
    made = tabulate(np.arange(5, dtype=np.float32)[:, None], Cases(table, target, cases.root), target)
    assert list(made.table["predicted"]) == [0.5, 2, 3, 4]
