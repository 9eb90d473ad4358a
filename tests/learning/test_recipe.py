import pytest

from overread.core.errors import ArgumentError, InputError
from overread.core.files import fingerprint
from overread.images.preprocess import Preprocess
from overread.learning.model import About, Origin
from overread.learning.recipe import Recipe, bundled, override
from overread.tasks.target import Target


def test_every_bundled_recipe_loads_and_bears_its_name() -> None:
    for name in bundled():
        assert Recipe.load(name).name == name
    assert {"auto", "features", "finetune", "scratch"} <= set(bundled())


@pytest.mark.parametrize("ending", [".toml", ".json"])
def test_round_trip(tmp_path, ending) -> None:
    recipe = override(Recipe(method="scratch", epochs=3, penalties=(1e-3,)), ["augmentation.rotate=12"])
    assert Recipe.load(recipe.save(tmp_path / f"mine{ending}")) == recipe


def test_override_reaches_inside_and_says_the_augmentation_is_given() -> None:
    recipe = override(Recipe(), ["label_smoothing=0.2", "augmentation.scale=[0.9, 1.1]", "fit=crop"])
    assert (recipe.label_smoothing, recipe.augmentation.scale, recipe.fit, recipe.augment) == (
        0.2,
        (0.9, 1.1),
        "crop",
        "given",
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [("epoch=3", "epochs"), ("augmentation.rotation=3", "rotate"), ("epochs", "key=value"), ("epochs=three", "epochs"),
     ("learning_rate=1e7", "far too high"), ("method=finetun", "finetune"), ("dropout=1.5", "dropout")],
)  # fmt: skip
def test_a_wrong_setting_is_named(setting, words) -> None:
    with pytest.raises((InputError, ArgumentError), match=words):
        override(Recipe(), [setting])


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match="scratch"):
        Recipe.load("scrach")


def test_text_in_a_recipe_stays_text(tmp_path) -> None:
    (tmp_path / "evil.toml").write_text('name = "${__import__}"\n')
    assert Recipe.load(tmp_path / "evil.toml").name == "${__import__}"
    (tmp_path / "evil.toml").write_text('backbone = "$expr"\n')
    with pytest.raises(InputError, match=r"\$expr"):
        Recipe.load(tmp_path / "evil.toml")


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"backbone": "resnet5"}, "did you mean 'resnet50'"), ({"backbone": "ResNet-18"}, "did you mean 'resnet18'"),
     ({"backbone": "alexnet", "image_size": 32}, "it needs 63"), ({"layers": ("a", "b", "a")}, "twice")],
)  # fmt: skip
def test_what_no_network_can_be_is_refused_when_it_is_written(fields, words) -> None:
    with pytest.raises(InputError, match=f"(?i){words}"):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"head": "lda"}, "head"), ({"pooling": "median"}, "pooling"), ({"descriptors": ("lpb",)}, "lbp"),
     ({"descriptors": ("lbp", "lbp")}, "twice"), ({"method": "scratch", "descriptors": ("lbp",)}, "--recipe features"),
     ({"descriptors": ("lbp",), "normalise": "mean image"}, "mean image")],
)  # fmt: skip
def test_what_is_read_of_frozen_features_is_checked(fields, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        Recipe(**{"method": "features", **fields})


def test_recipes_and_models_of_before_are_still_the_same() -> None:
    """A new field of a recipe or of a model's contract is `later`, else every model is trained again, and no index fits."""
    blank = About(Recipe(), Preprocess((8, 8), 3, mean=(0.5,) * 3, std=(0.5,) * 3), Target("binary", ("n", "p"), ("p",)), Origin("lenet5", 1))  # fmt: skip
    assert (fingerprint(Recipe()), fingerprint(blank)) == ("32eb19236b645628", "63873a97e42227d1")
