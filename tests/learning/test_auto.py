from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from overread.cases.cases import Cases
from overread.core.errors import InputError, UnavailableError
from overread.images.augment import Augmentation
from overread.learning.auto import (
    Facts,
    look,
    make_probe,
    network_rung,
    plan,
    standard,
    weights_at_hand,
    within_seconds,
)
from overread.learning.recipe import AUTO, MOST_EPOCHS, Recipe
from overread.tasks.target import Target

FACTS = Facts(images=4000, patients=3000, fewest=60, side=224, colour=True)


def _plan(recipe=AUTO, *, pretrained=("squeezenet1_0",), seconds=None, **changes):
    return plan(recipe, replace(FACTS, **changes), pretrained=pretrained, seconds=seconds,
                probe=lambda backbone, side, batch, precision: batch * side**2 * 4e-7)  # fmt: skip


def _why(decisions, what):
    return next(d.why for d in decisions if d.what == what)


@pytest.mark.parametrize(
    ("changes", "method", "words"),
    [({}, "finetune", "60 patients"), ({"fewest": 8}, "features", "8 patients"), ({"pretrained": ()}, "scratch", "--weights"),
     ({"side": 28, "colour": False}, "scratch", "28 pixels"), ({"volume": True, "side": 28}, "scratch", "volumes")],
)  # fmt: skip
def test_auto_decides_by_patients_weights_and_size_and_says_why(changes, method, words) -> None:
    recipe, decisions = _plan(**changes)
    assert recipe.method == method
    assert words in _why(decisions, "method")
    assert recipe.backbone
    assert recipe.batch_size > 0
    assert recipe.learning_rate > 0


def test_a_budget_shrinks_the_images_until_enough_epochs_fit() -> None:
    rich, _ = _plan(seconds=10_000.0)
    poor, decisions = _plan(seconds=300.0)
    assert rich.image_size == 224
    assert poor.image_size < 224
    assert poor.epochs >= 10
    assert "300 s" in _why(decisions, "epochs")
    assert _plan(seconds=1e9)[0].epochs == MOST_EPOCHS["finetune"]


def test_a_budget_below_one_epoch_is_told_before_anything_is_trained() -> None:
    with pytest.raises(InputError, match=r"one epoch.*left for training: 5 s.*--budget"):
        _plan(Recipe(method="scratch", backbone="resnet_small", image_size=224), seconds=5.0)
    with pytest.raises(InputError, match="left for training: 0 s"):
        _plan(Recipe(method="scratch"), seconds=-12.0)
    recipe, decisions = _plan(seconds=1.0)  # a linear head is fitted before: there is something to judge
    assert (recipe.method, recipe.epochs) == ("finetune", 1)
    assert "less than one epoch" in _why(decisions, "epochs")


@pytest.mark.parametrize("method", ["auto", "features", "finetune"])
@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny_patch16_224", "alexnet"])
def test_a_published_backbone_without_weights_is_never_trained_from_random_ones_unasked(method, backbone) -> None:
    with pytest.raises(UnavailableError, match=f"{backbone}.*--recipe scratch"):
        _plan(Recipe(method=method, backbone=backbone))
    assert _plan(Recipe(method="scratch", backbone=backbone))[0].backbone == backbone
    assert _plan(Recipe(backbone="resnet_small"))[0].method == "scratch"  # ours, of which there are none


def test_small_images_train_what_was_named_from_random_weights_and_say_so() -> None:
    """With weights at hand or without them the plan is the same, so nothing takes their place."""
    for pretrained in ((), ("resnet18",)):
        recipe, decisions = _plan(Recipe(backbone="resnet18"), side=28, pretrained=pretrained)
        assert (recipe.method, recipe.backbone) == ("scratch", "resnet18")
        assert "--recipe finetune" in _why(decisions, "method")


@pytest.mark.parametrize(("backbone", "volume"), [("resnet18", True), ("resnet3d_small", False)])
def test_a_backbone_for_other_images_is_refused(backbone, volume) -> None:
    with pytest.raises(InputError, match=f"{backbone} does not take"):
        _plan(Recipe(method="scratch", backbone=backbone), volume=volume)


def test_a_probe_leaves_no_trace_and_a_full_memory_is_halved(monkeypatch) -> None:
    batches = []

    def step(network, x, precision):
        batches.append(len(x))
        network.train()(x)  # alexnet drops out, from the generator of everybody
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr("overread.learning.auto.time_step", step)
    before = torch.random.get_rng_state()
    assert make_probe(FACTS, "cpu")("alexnet", 64, 16, "float32") == 4.0
    assert batches == [16, 8, 4]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_was_asked_for_is_kept() -> None:
    asked = Recipe(
        method="finetune",
        backbone="resnet18",
        image_size=96,
        epochs=2,
        batch_size=7,
        learning_rate=0.5,
        normalise="z-score",
    )
    recipe, decisions = _plan(asked, seconds=1e6, pretrained=("squeezenet1_0", "resnet18"))
    for name in ("method", "backbone", "image_size", "epochs", "batch_size", "learning_rate", "normalise"):
        assert getattr(recipe, name) == getattr(asked, name)
    assert _why(decisions, "method") == "asked for"


def test_no_weights_and_no_such_backbone() -> None:
    with pytest.raises(UnavailableError, match="--recipe scratch"):
        _plan(Recipe(method="features"), pretrained=())
    with pytest.raises(InputError, match="resnet18"):
        _plan(Recipe(backbone="resnet81"))


@pytest.mark.parametrize("method", ["features", "finetune"])
@pytest.mark.parametrize("pretrained", [(), ("squeezenet1_0",)])
def test_a_backbone_without_weights_is_refused_and_never_replaced_by_a_random_one(method, pretrained) -> None:
    with pytest.raises(UnavailableError, match=f"--recipe {method} needs pretrained weights of resnet18"):
        _plan(Recipe(method=method, backbone="resnet18"), pretrained=pretrained)
    assert _plan(Recipe(method="scratch", backbone="resnet18"), pretrained=pretrained)[0].backbone == "resnet18"


def test_weights_are_fetched_where_that_is_allowed(monkeypatch) -> None:
    """An asked backbone of which nothing is at hand: one try of the network, and none without it."""
    asked = []

    def get(name, folder=None, network=True):
        asked.append((name, network))
        raise UnavailableError("no weights", todo="none")

    monkeypatch.setattr("overread.learning.auto.stores.find", lambda name, folder=None: None)
    monkeypatch.setattr("overread.learning.auto.stores.get", get)
    recipe = Recipe(method="finetune", backbone="resnet18")
    assert weights_at_hand(recipe, FACTS) == {}
    assert asked == []
    with pytest.raises(UnavailableError):
        weights_at_hand(recipe, FACTS, network=True)
    assert asked == [("resnet18", True)]


def test_augmentation_is_for_training_by_kind_and_can_be_given_or_left_out() -> None:
    assert _plan()[0].augmentation == standard(True)
    small, large = (_plan(volume=True, side=side, colour=False)[0].augmentation for side in (28, 96))
    assert small == replace(small, rotate=0.0, scale=(1.0, 1.0), shift=0.0)  # nothing is interpolated
    assert small.flip_depth
    assert large.rotate
    flat = Recipe(method="scratch", augment="given", augmentation=Augmentation(flip_horizontal=0.5, flip_vertical=0.5))
    for asked, views in ((Recipe(method="scratch"), 8), (flat, 4)):  # what is not turned in training is not when asked
        assert [_plan(asked, volume=True, side=side, colour=False)[0].views for side in (28, 96)] == [views, views]
    assert [_plan(Recipe(method="scratch", augment=how))[0].views for how in ("standard", "none")] == [4, 1]
    given = Recipe(method="scratch", augment="given", augmentation=Augmentation(flip_horizontal=0.5))
    assert _plan(given)[0].views == 2
    assert _plan(colour=False)[0].augmentation.flip_horizontal == 0  # a heart has a side
    assert _plan(Recipe(augment="none"))[0].augmentation == Recipe().augmentation


def test_a_plan_leaves_no_field_open_and_is_kept_when_planned_again() -> None:
    for changes in ({}, {"fewest": 8}, {"side": 28, "colour": False}, {"volume": True, "side": 28}):
        recipe, _ = _plan(**changes)
        assert recipe.open_fields == ()
        assert _plan(recipe, **changes)[0] == recipe
    assert set(AUTO.open_fields) == {"method", "backbone", "image_size", "normalise", "epochs", "batch_size",
                                     "learning_rate", "precision"}  # fmt: skip


def test_looking_decodes_each_image_once_and_counts_the_teachers(tmp_path, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr(
        "overread.learning.auto.contained_call", lambda read, path: (opened.append(path), read(path))[1]
    )
    for k in range(60):
        Image.new("RGB" if k == 59 else "L", (40 + k % 3, 30)).save(tmp_path / f"{k}.png")
    table = pd.DataFrame({"image": [f"{k}.png" for k in range(60)], "case": [f"c{k}" for k in range(60)],
                          "patient": [f"p{k // 2}" for k in range(60)], "source": "", "view": "", "time": "", "split": "",
                          "label": ["x", "y", "y"] * 20})  # fmt: skip
    facts = look(Cases(table, Target("binary", ("x", "y"), ("y",)), tmp_path), np.arange(40))
    assert len(opened) == len(set(opened)) == 50
    assert facts == Facts(
        images=40, patients=20, fewest=14, side=30, bits=8, volume=False, colour=True, cases=40, held=20
    )


@pytest.mark.parametrize("changes", [{}, {"volume": True, "side": 28, "colour": False}, {"side": 600}])
def test_descriptors_need_no_weights_and_no_network(changes) -> None:
    recipe, decisions = _plan(Recipe(method="features", descriptors=("lbp",)), pretrained=(), **changes)
    assert (recipe.open_fields, recipe.backbone) == ((), "")
    assert recipe.image_size == min(changes.get("side", 224), 128)
    assert "without a network" in _why(decisions, "backbone")
    assert weights_at_hand(recipe, FACTS, network=True) == {}


@pytest.mark.parametrize(("step", "wanted"), [(0.01, 5), (0.09, 5), (0.11, 3), (0.16, 3), (0.17, 1)])
def test_folds_of_a_network_where_each_gets_enough_steps(step, wanted) -> None:
    """6,000 images in batches of 128: five folds need 600 steps each, .1 s a step would be the limit within 330 s."""
    facts = Facts(4800, 1200, 300, 28, held=1200)

    def probe(backbone: str, side: int, batch: int, precision: str) -> float:
        return step

    made, folds, _ = network_rung(AUTO, facts, (), "", device="cpu", seconds=330.0, probe=probe)
    assert (folds, made.backbone) == (wanted, "resnet_small")
    assert network_rung(Recipe(members=4), facts, (), "", device="cpu", seconds=330.0, probe=probe)[1] == 4
    _, longer, _ = network_rung(Recipe(epochs=40), facts, (), "", device="cpu", seconds=330.0, probe=probe)
    assert longer <= wanted
    small = Facts(40, 40, 20, 28, held=10)  # not 600 steps of five images: the most epochs that ever helped
    assert network_rung(AUTO, small, (), "", device="cpu", seconds=330.0, probe=lambda *_: 0.05)[1] == 5


def test_frozen_features_are_made_smaller_until_they_fit_into_the_time() -> None:
    facts = Facts(1000, 1000, 100, 224, colour=True)
    base = Recipe(method="features", backbone="squeezenet1_0", image_size=224, views=2)

    def probe(backbone: str, side: int, batch: int, precision: str) -> float:
        return 24e-3 * (side / 224) ** 2 * batch / 8  # 1 ms an image forwards at 224

    fitted = [within_seconds(base, AUTO, facts, seconds, probe) for seconds in (np.inf, 2.1, 1.1, 0.6, 0.01)]
    assert [(recipe.image_size, recipe.views) for recipe in fitted] == [(224, 2), (224, 2), (224, 1), (160, 1), (96, 1)]
    asked = within_seconds(base, Recipe(image_size=224, views=2), facts, 0.01, probe)
    assert (asked.image_size, asked.views) == (224, 2)
