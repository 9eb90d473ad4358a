"""From a table with masks to a model that outlines objects: planned, resumed byte for byte, saved, loaded, asked."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cells.segment import segment, segment_image
from overread.cells.segmenter import initial_unet, train_segmenter
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.core.progress import Clock
from overread.images.preprocess import Preprocess
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.networks.instance_heads import Segmentation


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:96, :112]
    for number in range(8):
        labels = np.zeros((96, 112), np.uint16)
        for name in range(1, 9):
            cy, cx, r = rng.uniform(0, 96), rng.uniform(0, 112), rng.uniform(6, 12)
            labels[((y - cy) ** 2 + (x - cx) ** 2 < r**2) & (labels == 0)] = name
        pixels = np.clip((labels > 0) * 120 + 60 + rng.normal(0, 10, labels.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"i{number}.png"), pixels)
        cv2.imwrite(str(folder / f"m{number}.png"), labels)
        rows.append({"image": f"i{number}.png", "mask": f"m{number}.png", "patient": f"p{number}"})
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)
    cases = ov.read_cases(folder / "index.csv", image="image", mask="mask", patient="patient")
    return cases, ov.split(cases, test=0.25, tuning=0.25, seed=0), folder


def quick(**fields):
    asked = Segmentation(head="offsets", tile=64, tiles=16, depth=3, zoom=1, **fields)
    return Recipe(
        method="scratch", backbone="unet_small", epochs=2, batch_size=4, precision="float32", segmentation=asked
    )


def trained(study, folder, recipe=None, **others):
    cases, split, home = study
    return train_segmenter(cases, split, recipe or quick(), folder=folder, cache=home / "cache", threads=1, **others)


@pytest.fixture(scope="module")
def model(study, tmp_path_factory):
    return trained(study, tmp_path_factory.mktemp("unbroken"))


def test_a_training_that_was_broken_off_goes_on_byte_for_byte(study, model, tmp_path):
    def stop(what, done, total):
        if what == "training" and done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(study, tmp_path, progress=stop)
    assert trained(study, tmp_path).digest == model.digest


def test_a_stopped_training_does_not_go_on_with_other_masks(study, tmp_path):
    """The table is the same, the files are not: what was learned of the old masks must not teach the new model."""
    _, split, folder = study
    there = tmp_path / "study"
    shutil.copytree(folder, there)
    moved = ov.read_cases(there / "index.csv", image="image", mask="mask", patient="patient")

    def stop(what, done, total):
        if what == "training" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained((moved, split, there), tmp_path / "a", progress=stop)
    before = json.loads((tmp_path / "a" / "segmentation.json").read_text("utf-8"))["key"]
    for path in there.glob("m*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1])
    with pytest.raises(KeyboardInterrupt):
        trained((moved, split, there), tmp_path / "a", progress=stop)
    after = json.loads((tmp_path / "a" / "segmentation.json").read_text("utf-8"))["key"]
    assert before != after


def test_a_model_is_saved_without_pickle_and_loaded_whole(model, study, tmp_path):
    again = Model.load(model.save(tmp_path / "model"))
    assert again.digest == model.digest
    assert again.about.cutting == model.about.cutting
    image = np.asarray(cv2.imread(str(study[2] / "i0.png"), cv2.IMREAD_UNCHANGED))[..., None]
    assert segment_image(again, image) == segment_image(model, image)
    data = bytearray((tmp_path / "model" / "model.safetensors").read_bytes())
    data[-3] ^= 64
    (tmp_path / "model" / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError):
        Model.load(tmp_path / "model")


def test_every_image_of_the_cases_is_outlined(model, study):
    cases, split, _ = study
    found = dict(segment(model, cases.only(split, "test"), threads=1))
    assert sorted(found) == [0, 1]
    assert all(each.labels.shape == (96, 112) for each in found.values())


def test_what_was_decided_is_said(study, tmp_path):
    said = []
    trained(
        study,
        tmp_path,
        Recipe(method="scratch", epochs=1, segmentation=Segmentation(head="sigmoid", tile=64, tiles=8)),
        say=said.append,
    )
    told = "\n".join(said)
    for word in (
        "network: U-Net on unet_small",
        "zoom: 1",
        "label smoothing: none",
        "layers: all 5 stages",
        "cutting: foreground",
    ):
        assert word in told


def test_a_budget_plans_and_ends_the_training(study, tmp_path):
    clock, said = Clock(6.0), []
    made = trained(
        study,
        tmp_path,
        Recipe(method="scratch", precision="float32", segmentation=Segmentation(tile=64)),
        clock=clock,
        say=said.append,
    )
    assert len(made.history) >= 1
    assert "s for training" in "\n".join(said)


def test_fields_of_whole_images_are_refused(study, tmp_path):
    with pytest.raises(InputError, match="mix=mixup"):
        trained(study, tmp_path, quick().changed(mix="mixup"))
    _cases, split, home = study
    blank = pd.read_csv(home / "index.csv").assign(mask="")
    blank.loc[0, "mask"] = "m0.png"
    blank.to_csv(home / "blank.csv", index=False)
    few = ov.read_cases(home / "blank.csv", image="image", mask="mask", patient="patient")
    with pytest.raises(UnsoundError, match="no image with a mask"):
        train_segmenter(few, split, quick(), cache=home / "cache")


def test_a_classifier_outlines_nothing(model):
    with pytest.raises(ArgumentError, match="an image is"):
        segment_image(model, np.zeros((8, 8, 2), np.uint8))


def test_fresh_stages_are_drawn_anew_and_the_others_copied(shared):
    from overread.networks import weights as stores

    found = stores.find("mobilenet_v2", folder=shared / "weights")
    recipe = Recipe(method="finetune", backbone="mobilenet_v2", segmentation=Segmentation(head="offsets"))
    preprocess = Preprocess((64, 64), 3)
    one, origin, told = initial_unet(recipe, preprocess, 1, weights=found)
    other, _, _ = initial_unet(recipe.changed(fresh=2, frozen=1), preprocess, 1, weights=found)
    drawn, _, _ = initial_unet(recipe.changed(method="scratch"), preprocess, 1)
    states = [each.state_dict() for each in (one, other, drawn)]
    assert origin.pretrained
    assert "6 stages of the encoder copied, 0 of them frozen" in told.line
    same = {
        name
        for name in states[0]
        if states[0][name].equal(states[1][name]) and not states[0][name].equal(states[2][name])
    }
    assert any(name.startswith("trunk.blocks.2") for name in same)
    assert not any(name.startswith(("trunk.blocks.3", "trunk.blocks.4")) for name in same)
    assert states[1]["trunk.blocks.4.0.conv_pw.weight"].equal(states[2]["trunk.blocks.4.0.conv_pw.weight"])
