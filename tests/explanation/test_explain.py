"""Maps of cases: what they say of themselves, what is shown, and that they save themselves."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import overread as ov
from overread.core.errors import ArgumentError, InputError, UnavailableError
from overread.explanation.attribute import attributions
from overread.explanation.explain import explain, explanations
from overread.explanation.explanation import NOTHING, Explanation, stem_of
from overread.explanation.overlay import MOST_BYTES, grey_or_colour, overlay, picture
from overread.explanation.verdict import Checks
from overread.learning.inputs import inputs
from overread.learning.predict import predict, predict_images
from overread.tasks.target import Target


def test_one_case_gives_one_map_with_what_it_is_a_map_of(model, cases) -> None:
    made = ov.explain(model(), cases["b"], target="p", checks=False)
    assert (made.case, made.target, made.method, made.layer) == ("b", "p", "grad-cam", "relu3")
    assert made.map.shape == (28, 28)
    assert made.image.shape == (28, 28, 1)
    assert made.notes == ()
    assert made.title == "Grad-CAM at relu3, for p"
    (batch,) = inputs(model(), cases["b"])
    np.testing.assert_allclose(made.map, attributions(model().network, batch.x, 1)[0], rtol=1e-5)
    assert made.probability == pytest.approx(predict(model(), cases["b"]).scores[0, 1], abs=1e-6)


def test_several_images_that_are_seen_one_by_one_get_a_map_each(model, cases) -> None:
    errors: dict[int, str] = {}
    made = list(explanations(model(), cases, methods=("grad-cam", "gradient"), checks=False, errors=errors))
    assert [(each.case, each.views, each.method) for each in made[::2]] == [
        ("a", ("left",), "grad-cam"), ("a", ("right",), "grad-cam"), ("b", ("",), "grad-cam"), ("c", ("left",), "grad-cam")]  # fmt: skip
    assert {each.method for each in made[1::2]} == {"gradient"}
    assert list(errors) == [4]
    assert len({stem_of(each) for each in made}) == 8
    assert all("most probable class" in each.notes[0] for each in made)


@pytest.mark.parametrize("towards", [-0.3, 0.3])
@pytest.mark.parametrize("together", [1, 8])
def test_images_of_a_case_are_explained_for_the_class_of_the_case(model, cases, monkeypatch, towards, together) -> None:
    """Each by itself is of another class, and they may lie in other batches."""
    monkeypatch.setattr("overread.explanation.explain.BATCH", together)
    torn, case = model(), cases["a"]
    said, _ = predict_images(torn, case)
    odds = np.log(said[:, 1] / said[:, 0])
    with torch.no_grad():
        torn.network.head.bias[1] -= odds.mean() + towards * np.ptp(odds)
    alone, _ = predict_images(torn, case)
    assert set(alone.argmax(1)) == {0, 1}
    wanted = predict(torn, case).scores[0].argmax()
    for made in (explain(torn, case, checks=False), explain(torn, case, target={"a": ""}, checks=False)):
        assert [each.target for each in made] == [torn.target.names[wanted]] * 2
        assert [each.probability for each in made] == pytest.approx(alone[:, wanted], abs=1e-6)
        assert all("most probable class" in each.notes[0] for each in made)


def test_images_that_are_seen_together_get_one_map_over_all(model, cases) -> None:
    together = model(fusion="concat")
    made = explain(together, cases, target={"a": "n", "b": "p"}, checks=False)
    assert [each.target for each in made[:2]] == ["n", "p"]
    assert made[2].notes[0].startswith("Target: the most probable class")
    assert made[0].maps.shape == (2, 28, 28)
    assert made[0].views == ("left", "right")
    assert np.isnan(made[1].map[0]).all()
    assert not made[1].image[0].any()
    assert [name for name, *_ in made[1].panels] == ["right"]


def test_what_a_map_leaves_out_is_said(model, cases) -> None:
    one = cases["b"]
    assert "8 orientations of the image; the map is of the image as it lies" in explain(model(views=8), one, target="p", checks=False).notes[0]  # fmt: skip
    assert explain(model(views=8), one, target="p", views=8, checks=False).notes == ("Mean of the maps of 8 orientations of the image.",)  # fmt: skip
    tapped = model(method="features", layers=("relu1", "relu2"), descriptors=("lbp",))
    notes = " ".join(explain(tapped, one, target="p", checks=False).notes)
    assert "several layers" in notes
    assert "descriptors of the whole image" in notes
    assert "descriptors" not in " ".join(explain(tapped, one, target="p", method="occlusion", checks=False).notes)
    bare = model(backbone="", method="features", descriptors=("lbp",))
    with pytest.raises(UnavailableError, match="occlusion"):
        explain(bare, one, checks=False)
    assert explain(bare, one, method="occlusion", checks=False).layer == ""
    single = model()
    group = type(single).of_members([single, model("resnet_tiny")], (0.5, 0.5), single.about)
    made = explain(group, one, target="p", checks=False)
    assert "2 networks by their shares, each divided by its largest value" in made.notes[0]
    assert made.layer == "relu3 + block3"


def test_a_quantity_is_explained_by_its_value_in_its_unit(model, cases) -> None:
    target = Target("quantity", ("age",))
    measured = model(target=target)
    measured = type(measured)(measured.network, replace(measured.about, scale=(50.0, 10.0)))
    aged = replace(cases, target=target, table=cases.table.drop(columns="label").assign(value=1.0))
    made = explain(measured, aged["b"], checks=False)
    assert made.target == "age"
    assert made.notes == ()
    assert made.probability == pytest.approx(predict(measured, aged["b"]).scores[0, 0], abs=1e-4)


def test_wrong_wishes_are_refused_before_an_image_is_read(model, cases) -> None:
    gone = replace(cases, root="nowhere")
    for wish, answer in ({"target": "q"}, "q"), ({"method": "gradcam"}, "grad-cam"):
        with pytest.raises(ArgumentError, match=answer):
            explain(model(), gone, **wish, checks=False)
    with pytest.raises(InputError, match="none of the images can be read"):
        explain(model(), gone, checks=False)


def test_a_map_without_a_value_above_0_says_nothing(model, cases) -> None:
    dark = model()
    with torch.no_grad():
        dark.network.head.weight.zero_()
    made = explain(dark, cases["b"], target="p", checks=False)
    assert made.nothing
    assert NOTHING in str(made)
    assert not explain(model(), cases["b"], target="p", method="gradient", checks=False).nothing


def test_an_explanation_comes_back_from_its_files(model, cases, tmp_path) -> None:
    made = explain(model(fusion="mean"), cases["a"], checks=False).judged(Checks(rank=0.9, ssim=0.9, edges=0.8))
    path = made.save(tmp_path / "maps", "one")
    found = Explanation.load(path)
    assert found == made
    assert hash(found) == hash(made)
    assert found.verdict.startswith("This map is no better than an edge detector")
    other = replace(made, maps=made.maps + 1)
    assert other != made
    assert cv2.imread(str(path.with_suffix(".png"))).shape[0] >= 200
    path.with_name("one.maps.npy").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        Explanation.load(path)


def test_the_figure_names_target_layer_and_verdict(model, cases) -> None:
    made = explain(model(), cases["b"], target="p", checks=False).judged(Checks(blank=True))
    drawn = made.plot()
    title = drawn.get_suptitle()
    assert "b\nGrad-CAM at relu3, for p" in title
    assert "it is the same everywhere" in title
    drawn.canvas.draw()


def test_a_volume_is_shown_by_three_slices_through_its_strongest_place() -> None:
    maps, images = np.zeros((1, 6, 7, 8), np.float32), np.arange(336, dtype=np.uint16).reshape(1, 6, 7, 8, 1)
    maps[0, 4, 2, 5] = 3
    made = Explanation("v", "p", "grad-cam", "relu4", maps, images, 0.5)
    assert [name for name, *_ in made.panels] == ["slice 5 of 6", "row 3 of 7", "column 6 of 8"]
    for (_, image, values), axis, at in zip(made.panels, range(3), (4, 2, 5), strict=True):
        np.testing.assert_array_equal(image, images[0].take(at, axis=axis))
        assert values.max() == 3
    assert made.picture().startswith(b"\x89PNG")
    assert made.plot().axes


def test_colours_stand_for_values() -> None:
    image = np.full((2, 3, 1), 128, np.uint8)
    values = np.array([[0, 1, -1], [np.nan, 0.5, 0]])
    signed = overlay(image, values, signed=True).astype(int)
    assert (signed[0, 0] == 128).all()
    assert (signed[1, 0] == 128).all()
    assert signed[0, 1][0] > signed[0, 1][2], "red for the target"
    assert signed[0, 2][2] > signed[0, 2][0], "blue against it"
    assert (overlay(image, -np.ones((2, 3))) == 128).all(), "of maps that are 0 or above nothing below 0 is drawn"
    half = overlay(image, values, scale=2.0).astype(int)
    assert np.abs(half[0, 1] - 128).sum() < np.abs(overlay(image, values).astype(int)[0, 1] - 128).sum()
    deep = grey_or_colour(np.linspace(0, 60000, 64).reshape(8, 8, 1).astype(np.uint16))
    assert (deep.min(), deep.max()) == (0, 255)


def test_a_picture_is_never_too_large_for_a_page() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 900, 3), np.uint8)
    data = picture(noise)
    assert len(data) <= MOST_BYTES
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back.shape[0] / back.shape[1] == pytest.approx(1500 / 900, rel=0.02)
    assert cv2.imdecode(np.frombuffer(picture(noise[:28, :28]), np.uint8), 1).shape == (224, 224, 3)


def test_every_map_carries_its_checks(model, cases) -> None:
    made = ov.explain(model(), cases["b"], target="p", method="integrated-gradients")
    assert made.checks.completeness < 0.05
    assert np.isfinite([made.checks.rank, made.checks.ssim, made.checks.edges, made.checks.insertion]).all()
    assert made.verdict in str(made)
    assert made.verdict.startswith(("This map", "Of this map"))
    again = ov.explain(model(), cases["b"], target="p", method="integrated-gradients")
    assert again == made, "same seed, same numbers"


def test_members_of_an_ensemble_are_compared_with_one_another(model, cases) -> None:
    one = model("resnet_tiny")
    group = type(one).of_members([one, model("resnet_tiny"), model()], (0.4, 0.3, 0.3), one.about)
    made = explain(group, cases["a"], target="p", method="gradient")[0]
    assert made.checks.repeated == pytest.approx(1), "two equal networks"
    assert made.checks.reproduced < 1
    layered = explain(group, cases["b"], target="p")
    assert layered.layer == "block3 + block3 + relu3"
    assert layered.checks.repeated == pytest.approx(1)
