"""The recipe: everything that decides how a model is trained, frozen before the first step.

A field that is 0 or "" is chosen by :mod:`overread.learning.auto` from the data, the hardware and the budget; what was
chosen and why stands in the saved model and the report.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from overread.cases.arrange import FUSIONS
from overread.cases.cases import Cases
from overread.cases.extra_inputs import extra_values
from overread.core.errors import InputError, checked, nearest, one_of, require
from overread.core.files import build, later, plain, read_fields, save
from overread.images.augment import Augmentation
from overread.images.conversions import parse_window
from overread.images.descriptors import DESCRIPTORS
from overread.images.preprocess import CROPS, FITS
from overread.images.slides.stain import STAINS
from overread.images.slides.tile_settings import Tiles
from overread.networks.backbones import BACKBONES, HEADS, POOLINGS
from overread.networks.instance_heads import Segmentation
from overread.tasks.target import TASKS

METHODS = ("auto", "features", "finetune", "scratch")
NORMALISATIONS = ("", "min-max", "z-score", "mean image", "channel mean", "channel mean and std")
LOSSES = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.losses))
OPTIMIZERS = ("adamw", "adam", "rmsprop", "momentum", "sgd")
SCHEDULES = ("cosine", "one-cycle", "steps", "plateau", "constant")
#: Fusions that learn more than a head, by steps; on frozen features, too.
LEARNED_FUSIONS = ("recurrent", "attention", "gated-attention")
#: Recurrent units, first to last or both ways.
UNITS = ("gru", "lstm", "bi-gru", "bi-lstm")
#: How descriptors may be coded (:data:`overread.networks.codes.MAKERS`), named here so that a recipe is read without torch.
CODES = ("none", "itq", "hyperplanes")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
#: What the file of a published system holds beside the fields of its recipe; see :mod:`overread.study.published`.
SYSTEM_SECTIONS = ("paper", "command", "study", "needs", "vary", "then", "published", "sections", "reduced")
#: More epochs than these were never seen to help; a larger budget is left unused.
MOST_EPOCHS = {"scratch": 80, "finetune": 25, "features": 0}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    ``method``: ``features`` (frozen network, linear head), ``finetune`` (from pretrained weights), ``scratch``, or
    ``auto``. ``image_size`` in pixels of a side. ``window`` (DICOM, volumes), ``crop`` and ``stain`` as in :class:`Preprocess`.
    ``epochs`` passes over the training images. ``learning_rate`` is that of the head; a pretrained body learns at
    ``body_rate`` times it. ``balance`` weighs a class by its frequency to the power −``balance`` (0 none, 1 every class
    alike). ``average`` is the span, in epochs, of the exponential average of the weights (0 none). ``warmup`` is the
    fraction of all steps with a rising rate. ``patience`` is the fraction of all epochs without a better tuning score
    after which training stops. ``views`` orientations of an image are averaged at prediction (1; 2 with its mirror image;
    4 also upside down; 8 also turned by 90°; 0: chosen by the plan). ``snapshot``: the epoch whose weights are kept, the
    ``best`` on tuning data or the ``last``. ``members``: how many networks answer together, each trained without one
    fold of the patients (0: chosen by the plan, 1: a single one). ``compile``: the network is compiled by
    ``torch.compile`` before it is trained, which takes a minute and a C++ compiler on a CPU.

    ``loss``: one of the task's own (:attr:`Task.losses`, blank: the first), ``gamma`` that of the focal loss;
    ``finding_weights``: how much each finding counts, ``source_weights``: each source, in training alone (1 where none is
    given). ``optimizer`` with ``momentum`` for ``momentum``; ``schedule`` of the rate, of which ``steps`` is multiplied
    by ``factor`` after these fractions (``milestones``) of all steps and ``plateau`` after ``plateau`` epochs without a
    better tuning score. ``sampling``: every image once an epoch, or ``balanced``, as many of each class. ``mix``: two
    images and their labels into one, ``mixup`` or ``cutmix``, by a share from Beta(``mix_alpha``, ``mix_alpha``).
    Of a pretrained network's stages (:mod:`overread.networks.stages`) the first ``frozen`` are held still, the last
    ``fresh`` are drawn anew and the others are copied; ``unfreeze``: the epochs after which the last stage, the one
    before it, … begin to move, with the last of them all those below; ``layer_decay``: the rate of a stage relative to
    that of the next nearer to the head; ``frozen_norms``: batch norms keep their statistics and weights.

    ``fusion`` says how the images of a case are seen: ``single`` each on its own, the case being the mean of their
    probabilities; ``mean`` and ``concat`` average their features or put those of each view in its place; ``late``
    teaches one classifier a view and takes the mean of their probabilities; ``stacked`` teaches one a view and a second one from their out-of-fold outputs; ``recurrent`` follows them in time;
    ``attention`` weighs them, ``gated-attention`` by a gate besides. ``augment_by`` draws augmentation once per ``case`` or anew for each ``image`` of it;
    ``images_per_case`` is the most that a case shows, evenly spaced (0 all). ``recurrent``: the units of that fusion,
    ``gru`` or ``lstm``, first to last, or both ways (``bi-gru``, ``bi-lstm``). ``extra_inputs``: numeric columns of the
    table that the network sees beside the pixels of each image, standardised on training rows.

    ``layers``, ``pooling`` (``mean``, ``max``, ``both`` over space, ``flat`` every value in its place),
    ``descriptors`` (classical ones beside the network, or alone where ``backbone`` is blank), ``codes`` (``bits`` in
    place of the descriptors: :mod:`overread.networks.codes`), ``head`` and ``penalties``
    belong to ``features``: layers to tap (empty: the last), the kind of linear head, and L2 penalties to choose from by
    ``folds``-fold cross-validation within the training patients. ``published`` is what the paper reached, for
    recipes of papers. ``segmentation``: how outlines of objects are learned, where these are asked for. ``tiles``: how
    slides are cut into tiles. ``filters``: each convolution of the network has so many times its filters
    (:mod:`overread.networks.fewer_filters`); only from random weights.
    """

    name: str = "auto"
    method: str = "auto"
    backbone: str = ""
    image_size: int = 0
    fit: str = "squash"
    normalise: str = ""
    window: str = ""
    crop: str = "none"
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    body_rate: float = 0.5
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    balance: float = 1.0
    dropout: float = 0.2
    gradient_clip: float = 1.0
    average: float = 1.0
    patience: float = 0.5
    views: int = 0
    snapshot: str = "best"
    members: int = 0
    fusion: str = "single"
    augment_by: str = "case"
    images_per_case: int = 0
    recurrent: str = later("gru")
    extra_inputs: tuple[str, ...] = later(())
    precision: str = "auto"
    compile: bool = False
    layers: tuple[str, ...] = ()
    pooling: str = "mean"
    descriptors: tuple[str, ...] = ()
    codes: str = later("none")
    bits: int = later(256)
    head: str = "logistic"
    penalties: tuple[float, ...] = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    folds: int = 5
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: str = ""
    gamma: float = 2.0
    finding_weights: dict[str, float] = field(default_factory=dict, hash=False)
    source_weights: dict[str, float] = field(default_factory=dict, hash=False)
    optimizer: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    plateau: int = 3
    sampling: str = "shuffle"
    mix: str = "none"
    mix_alpha: float = 0.2
    frozen: int = 0
    fresh: int = 0
    unfreeze: tuple[int, ...] = ()
    layer_decay: float = 1.0
    frozen_norms: bool = False
    augment: str = "standard"  # "standard": chosen by the plan · "none" · "given": `augmentation` as it stands
    published: dict[str, float] = field(default_factory=dict, hash=False)
    segmentation: Segmentation = later(Segmentation())  # noqa: RUF009
    tiles: Tiles = later(Tiles())  # noqa: RUF009
    filters: float = later(1.0)
    stain: str = later("none")

    def __post_init__(self) -> None:
        for name, options in _OPTIONS.items():
            one_of(getattr(self, name), options, name)
        for name in self.descriptors:
            one_of(name, DESCRIPTORS, "the descriptor")
        if self.backbone:
            row = BACKBONES[one_of(self.backbone, BACKBONES, "the backbone")]
            require(not self.image_size or self.image_size >= row.minimum, f"the images are too small for {row.name}",
                    given=f"{self.image_size} pixels; it needs {row.minimum}")  # fmt: skip
        parse_window(self.window)
        for names, holds, what in _BOUNDS:
            for name in names:
                require(holds(getattr(self, name)), f"{name} {what}", given=getattr(self, name))
        for fits, what, names, todo in _TOGETHER:
            given = ", ".join(f"{name}={value}" for name in names if (value := getattr(self, name)))
            require(fits(self), what, given=given, todo=todo)

    @property
    def described(self) -> bool:
        """Whether it reads classical descriptors and no network.

        >>> Recipe(method="features", descriptors=("lbp",)).described
        True
        """
        return self.method == "features" and bool(self.descriptors) and not self.backbone

    @property
    def taps(self) -> list[Any]:
        """What is read of a frozen network and of the image; the layers alone where nothing else was asked for."""
        more = [self.pooling, self.descriptors] if self.pooling != "mean" or self.descriptors else []
        return [self.layers, *more]

    @property
    def taps_more(self) -> bool:
        """Whether more is read than what the network's own head would see."""
        return bool(self.layers or self.descriptors) or self.pooling != "mean"

    @property
    def learns_above(self) -> bool:
        """Whether a fusion is learned by steps on frozen features.

        >>> Recipe(method="features", fusion="attention").learns_above
        True
        """
        return self.method == "features" and self.fusion in LEARNED_FUSIONS

    @property
    def head_balance(self) -> float:
        """``balance`` of a linear head, which sees all rows at once: 1 where a network would draw as many of each class.

        >>> Recipe(sampling="balanced", balance=0.5).head_balance
        1.0
        """
        return 1.0 if self.sampling == "balanced" else self.balance

    @property
    def open_fields(self) -> tuple[str, ...]:
        """Names of the fields that the plan has still to fill; empty: ready to be fitted.

        >>> Recipe(method="features", backbone="resnet18", normalise="z-score").open_fields
        ('image_size',)
        """
        steps = (
            ()
            if self.method == "features" and not self.learns_above
            else ("epochs", "batch_size", "learning_rate", "precision")
        )
        body = () if self.described else ("backbone",)
        names = ("method", *body, "image_size", "normalise", *steps)
        return tuple(name for name in names if getattr(self, name) in (0, "", "auto"))

    def save(self, path: str | Path) -> Path:
        """Write as TOML or JSON."""
        return save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe: a TOML or JSON file, or the name of one that comes with overread (``auto``, ``features`` …).

        Raises :class:`InputError` for an unknown name or key, naming the nearest.
        """
        held = read_fields(recipe_file(path))
        published = {number["what"]: float(number["value"]) for number in held.get("published", []) if number["value"] == number["value"]} if "paper" in held else held.get("published", {})  # fmt: skip
        fields = {name: value for name, value in held.items() if name not in SYSTEM_SECTIONS or "paper" not in held}
        return build(cls, {**fields, "published": published}, where=Path(path).name)

    def changed(self, **fields: Any) -> Recipe:
        """The same recipe with other values of some fields.

        >>> Recipe().changed(epochs=3).epochs
        3
        """
        return replace(self, **fields)


@checked
def refuse_unfit(cases: Cases, recipe: Recipe) -> None:
    """Refuse fields that do not go with what is asked of the cases, or that name a source or finding they do not have.

    Raises :class:`ArgumentError`, :class:`InputError`, so too for extra inputs that are not there or no numbers.
    """
    task = cases.target.task
    task.loss_name(recipe.loss)
    task.finding_weights(recipe.finding_weights)
    if task.dense and recipe.filters != 1:
        raise InputError("the filters of a network that outlines objects cannot be changed", given=f"filters={recipe.filters:g}",
                         todo="leave filters out, or choose another backbone")  # fmt: skip
    if recipe.extra_inputs:
        extra_values(cases, recipe.extra_inputs)
    if recipe.mix != "none" and task.unmixable:
        raise InputError(f"images of {task.summary} cannot be mixed", given=f"mix = {recipe.mix}: {task.unmixable}",
                         todo="leave mix out")  # fmt: skip
    sources = sorted(set(cases.table["source"].astype(str))) if "source" in cases.table else []
    for name in recipe.source_weights:
        one_of(name, sources, "the source of source_weights")


#: What the words of a field may be.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "method": METHODS, "fit": FITS, "crop": CROPS, "stain": STAINS, "normalise": NORMALISATIONS, "precision": PRECISIONS, "pooling": POOLINGS,
    "head": HEADS, "codes": CODES, "fusion": FUSIONS, "augment_by": ("case", "image"), "augment": ("standard", "none", "given"),
    "loss": ("", *LOSSES), "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "sampling": ("shuffle", "balanced"),
    "mix": ("none", "mixup", "cutmix"), "recurrent": UNITS, "snapshot": ("best", "last"),
}  # fmt: skip
#: Of which fields each value must satisfy what, and how that is said after the name.
_BOUNDS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("image_size", "epochs", "batch_size", "learning_rate", "weight_decay", "gradient_clip", "average", "balance", "seed",
      "body_rate", "images_per_case", "gamma", "frozen", "fresh"), lambda value: value >= 0, "must not be negative"),
    (("finding_weights", "source_weights"), lambda held: min(held.values(), default=0) >= 0, "must not be negative"),
    (("label_smoothing", "dropout", "warmup", "momentum"), lambda value: 0 <= value < 1, "must lie in 0 … 1"),
    (("patience", "mix_alpha"), lambda value: value > 0, "must be above 0"),
    (("penalties",), lambda values: bool(values) and min(values) > 0, "must be above 0"),
    (("filters",), lambda value: 0.01 <= value <= 8, "must lie within 0.01 … 8"),
    (("factor", "layer_decay"), lambda value: 0 < value <= 1, "must be above 0 and at most 1"),
    (("learning_rate",), lambda value: value <= 10, "is far too high; use between 1e-5 and 1e-1"),
    (("views",), lambda value: value in (0, 1, 2, 4, 8), "must be 1, 2, 4 or 8, or 0 for the plan to choose"),
    (("members",), lambda value: 0 <= value <= 50, "must lie in 0 … 50"),
    (("folds", "bits"), lambda value: value >= 2, "must be at least 2"),
    (("plateau",), lambda value: value >= 1, "must be at least 1 epoch"),
    (("milestones", "unfreeze"), lambda values: list(values) == sorted(set(values)), "must rise"),
    (("milestones",), lambda values: all(0 < done < 1 for done in values), "must lie between 0 and 1"),
    (("unfreeze",), lambda values: all(epoch >= 1 for epoch in values), "counts epochs from 1"),
    (("layers", "descriptors", "extra_inputs"), lambda names: len(set(names)) == len(names), "must name each thing once, not twice"),
)  # fmt: skip
#: What must hold of several fields together, how its lack is said, the fields to be shown, and what to do.
_TOGETHER: tuple[tuple[Callable[[Recipe], bool], str, tuple[str, ...], str], ...] = (
    (lambda r: not r.layers or r.method in ("features", "auto"), "layers are tapped of frozen features only",
     ("method", "layers"), "use --recipe features"),
    (lambda r: not r.descriptors or r.method == "features", "descriptors go with frozen features only",
     ("method", "descriptors"), "use --recipe features"),
    (lambda r: r.codes == "none" or bool(r.descriptors), "codes are made of descriptors", ("codes", "descriptors"),
     'name some: --set descriptors=["gist", "hog"]'),
    (lambda r: r.codes == "none" or r.fusion == "single", "codes are of single images", ("codes", "fusion"),
     "leave fusion out"),
    (lambda r: r.codes == "none" or r.views in (0, 1), "codes of one orientation cannot be averaged", ("codes", "views"),
     "leave views out"),
    (lambda r: not r.descriptors or r.normalise != "mean image", "descriptors do not go with a mean image",
     ("descriptors", "normalise"), "leave normalise out"),
    (lambda r: not (r.learns_above and r.extra_inputs), "a fusion that is learned on frozen features sees pixels alone",
     ("fusion", "extra_inputs"), "leave extra_inputs out, or choose the method finetune or scratch"),
    (lambda r: r.mix == "none" or r.fusion == "single", "cases of several images cannot be mixed", ("mix", "fusion"),
     "leave out mix or fusion"),
    (lambda r: r.mix == "none" or not r.extra_inputs, "images with numbers beside them cannot be mixed",
     ("mix", "extra_inputs"), "leave out mix or extra_inputs"),
    (lambda r: r.recurrent == "gru" or r.fusion == "recurrent", "recurrent units belong to the fusion recurrent",
     ("recurrent", "fusion"), "say --fusion recurrent"),
    (lambda r: r.method != "scratch" or not (r.frozen or r.fresh or r.unfreeze or r.frozen_norms),
     "a network from random weights has nothing to be held still or kept", ("frozen", "fresh", "unfreeze", "frozen_norms"),
     "use them with --recipe finetune"),
    (lambda r: r.filters == 1 or r.method in ("auto", "scratch"), "published weights are of the network's own filters",
     ("filters", "method"), "use --recipe scratch, or leave filters out"),
)  # fmt: skip

#: Everything left open.
AUTO = Recipe()


def bundled() -> list[str]:
    """Names of the recipes that come with overread.

    >>> "auto" in bundled()
    True
    """
    folder = importlib.resources.files("overread") / "recipes"
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml"))


@checked
def recipe_file(choice: str | Path) -> Path:
    """The file of a recipe: of one that comes with overread by its name, or any ``.toml`` or ``.json`` file.

    Raises :class:`InputError` for an unknown name, with the nearest.
    """
    if str(choice) in bundled():
        return Path(str(importlib.resources.files("overread") / "recipes" / f"{choice}.toml"))
    if Path(choice).suffix not in (".toml", ".json"):
        raise InputError("there is no such recipe", given=str(choice), todo=nearest(str(choice), bundled()) + " or give a .toml file")  # fmt: skip
    return Path(choice)


@checked
def override(recipe: Recipe, settings: list[str]) -> Recipe:
    """Apply ``key=value`` texts; ``augmentation.rotate=20`` reaches inside. Values are TOML.

    >>> override(Recipe(), ["epochs=3", "augmentation.rotate=20"]).augmentation.rotate
    20.0
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        require(bool(equals), "a setting must read key=value", given=setting)
        changes[key.strip()] = toml_value(text.strip())
    return amended(recipe, changes, where="--set")


@checked
def amended(recipe: Recipe, changes: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
    """The recipe with other plain values: ``augmentation.rotate``, or a table ``augmentation``, reaches inside.

    What is said of the augmentation holds as it stands, unless ``augment`` says otherwise. Raises :class:`InputError`
    for an unknown field, naming the nearest.

    >>> amended(Recipe(), {"augmentation": {"clahe": 0.5}}).augment
    'given'
    """
    values = plain(recipe)
    for key, value in changes.items():
        group = isinstance(value, Mapping) and key not in _TABLES and isinstance(values.get(key), dict)
        inside = {f"{key}.{name}": each for name, each in value.items()} if group else {key: value}
        for name, each in inside.items():
            _place(values, name, each)
            if name.startswith("augmentation.") and "augment" not in changes:
                values["augment"] = "given"
    return build(Recipe, values, where=where)


@checked
def differing(recipe: Recipe) -> dict[str, Any]:
    """The plain fields of a recipe that differ from the defaults, without the seed, which is the study's.

    >>> differing(Recipe(epochs=3, seed=7))
    {'epochs': 3}
    """
    usual = plain(AUTO)
    return {name: value for name, value in plain(recipe).items() if value != usual[name] and name != "seed"}


@checked
def toml_value(text: str) -> Any:
    """What a text says as a value of TOML; the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


#: Fields that are tables of names which the user chooses.
_TABLES = ("finding_weights", "source_weights", "published")


def _place(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        if not isinstance(values.get(part), dict):
            raise InputError(f"the recipe has no group {part!r}", todo=nearest(part, Recipe.__dataclass_fields__))
        values = values[part]
    if last not in values and ".".join(path) not in _TABLES:
        raise InputError(f"the recipe has no field {key!r}", todo=nearest(last, values))
    values[last] = value
