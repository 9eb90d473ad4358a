from dataclasses import replace

import pandas as pd
import pytest

from overread.cases.cases import Cases, Target
from overread.core.errors import InputError, UnavailableError
from overread.learning.auto import MOST_EPOCHS, Situation, decide, fewest_patients, standard
from overread.learning.recipe import AUTO, Recipe

HERE = Situation(images=4000, patients=3000, fewest=60, side=224, volume=False, colour=True, pretrained=("squeezenet1_0",),
                 device="cpu", cores=2)  # fmt: skip


def _decide(recipe=AUTO, **changes):
    return decide(recipe, replace(HERE, **changes), lambda backbone, side, batch: batch * side**2 * 4e-7)


def _why(decisions, what):
    return next(d.why for d in decisions if d.what == what)


@pytest.mark.parametrize(
    ("changes", "method", "words"),
    [({}, "finetune", "60 patients"), ({"fewest": 8}, "features", "8 patients"), ({"pretrained": ()}, "scratch", "--weights"),
     ({"side": 28, "colour": False}, "scratch", "28 pixels"), ({"volume": True, "side": 28}, "scratch", "volumes")],
)  # fmt: skip
def test_auto_decides_by_patients_weights_and_size_and_says_why(changes, method, words) -> None:
    recipe, decisions = _decide(**changes)
    assert recipe.method == method
    assert words in _why(decisions, "method")
    assert recipe.backbone
    assert recipe.batch_size > 0
    assert recipe.learning_rate > 0


def test_a_budget_shrinks_the_images_until_enough_epochs_fit() -> None:
    rich, _ = _decide(seconds=10_000.0)
    poor, decisions = _decide(seconds=300.0)
    assert rich.image_size == 224
    assert poor.image_size < 224
    assert poor.epochs >= 10
    assert "300 s" in _why(decisions, "epochs")
    assert _decide(seconds=1e9)[0].epochs == MOST_EPOCHS["finetune"]


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
    recipe, decisions = _decide(asked, seconds=1e6)
    for name in ("method", "backbone", "image_size", "epochs", "batch_size", "learning_rate", "normalise"):
        assert getattr(recipe, name) == getattr(asked, name)
    assert _why(decisions, "method") == "asked for"


def test_no_weights_and_no_such_backbone() -> None:
    with pytest.raises(UnavailableError, match="--recipe scratch"):
        _decide(Recipe(method="features"), pretrained=())
    with pytest.raises(InputError, match="resnet18"):
        _decide(Recipe(backbone="resnet81"))


def test_augmentation_is_for_training_by_kind_and_can_be_given_or_left_out() -> None:
    assert _decide()[0].augmentation == standard(True)
    assert _decide(colour=False)[0].augmentation.flip_horizontal == 0  # a heart has a side
    assert _decide(Recipe(augment="none"))[0].augmentation == Recipe().augmentation


def test_fewest_patients_counts_patients_not_images() -> None:
    table = pd.DataFrame({"image": list("abcdef"), "case": list("abcdef"), "patient": list("ppqrst"), "source": "", "view": "", "time": "",
                          "split": "", "label": ["x", "x", "x", "y", "y", "y"]})  # fmt: skip
    assert fewest_patients(Cases(table, Target("binary", ("x", "y"), ("y",)))) == 2
