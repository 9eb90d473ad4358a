"""What tiles settle of a recipe: method, network, size, fusion, orientations and augmentation."""

from __future__ import annotations

from pathlib import Path

from overread.core.errors import InputError, checked
from overread.images.augment import Augmentation
from overread.images.slides.tile_settings import Tiles
from overread.learning.auto import Facts, usual_views, weights_at_hand
from overread.learning.model import Decision
from overread.learning.recipe import LEARNED_FUSIONS, Recipe
from overread.networks import weights as stores
from overread.networks.backbones import preferred

__all__ = ["TURNED_AND_STAINED", "refuse_unfit_recipe", "settle_bags", "settle_recipe", "settle_tiles", "tile_facts"]

#: What Liu 2017 (arXiv:1703.02442, section 3, "augmentation") does to tiles: all eight orientations alike, brightness by up to
#: 64 / 255, saturation by up to .25, hue by up to .04 and contrast by up to .75 of theirs. Contrast is about mid-grey here.
TURNED_AND_STAINED = Augmentation(flip_horizontal=0.5, turn=0.75, brightness=64 / 255, saturation=0.25, hue=0.04, contrast=0.75)  # fmt: skip
#: Our own network that begins at half the side: tiles are large.
FROM_SCRATCH = "unet_small"
#: Tiles that a network which is not frozen learns from at a time: all of a slide's, or of as many slides as have so many.
AT_A_TIME = 64


@checked
def refuse_unfit_recipe(recipe: Recipe) -> None:
    """Raise :class:`InputError` for what goes with no tiles of slides: a size, a fusion, a score, members; before any is read."""
    (refuse_unfit_bags if recipe.tiles.pooling == "attention" else refuse_unfit_tiles)(recipe)


@checked
def refuse_unfit_tiles(recipe: Recipe) -> None:
    """The same of tiles that are taught by their own labels."""
    _refuse_size_and_members(recipe)
    if len(recipe.tiles.mpp) == 1 and recipe.fusion != "single":
        raise InputError("tiles of one magnification have nothing to be fused", given=f"fusion {recipe.fusion}",
                         todo="name several: --set tiles.mpp=[0.5,1,2]; or leave fusion out")  # fmt: skip


@checked
def refuse_unfit_bags(recipe: Recipe) -> None:
    """The same of bags of tiles, which are taught by the label of their slide."""
    tiles = recipe.tiles
    if len(tiles.mpp) > 1:
        raise InputError("bags are of tiles of one magnification", given=f"tiles.mpp={', '.join(tiles.views)}", todo="name one, or leave tiles.pooling out")  # fmt: skip
    _refuse_size_and_members(recipe)
    if tiles.score != "auto":
        raise InputError("attention answers for a slide by itself, and no score of its heat map is used", given=f"tiles.score={tiles.score}",
                         todo="leave tiles.score out, or tiles.pooling")  # fmt: skip
    if recipe.fusion not in ("single", *LEARNED_FUSIONS[1:], "mean"):
        raise InputError("the tiles of a slide have no views and no order", given=f"fusion {recipe.fusion}", todo="choose gated-attention, attention or mean")  # fmt: skip


def _refuse_size_and_members(recipe: Recipe) -> None:
    if recipe.image_size not in (0, recipe.tiles.size):
        raise InputError("tiles are shown as they are", given=f"image_size={recipe.image_size}, tiles.size={recipe.tiles.size}", todo="leave out image_size, or set tiles.size")  # fmt: skip
    if recipe.members > 1:
        raise InputError("one network is taught on tiles", given=f"members={recipe.members}", todo="leave members out, and compare or average runs")  # fmt: skip


@checked
def settle_recipe(
    recipe: Recipe, *, weights: str | Path | None = None, device: str = "cpu"
) -> tuple[Recipe, tuple[Decision, ...]]:  # fmt: skip
    """The recipe with what slides settle of it, as tiles or as bags of them are taught; and why: what training, the forecast of its maps
    and the contact sheet all ask.

    Raises :class:`InputError` as :func:`settle_tiles` and :func:`settle_bags` do.
    """
    return (settle_bags if recipe.tiles.pooling == "attention" else settle_tiles)(recipe, weights=weights, device=device)  # fmt: skip


@checked
def settle_tiles(
    recipe: Recipe, *, weights: str | Path | None = None, device: str = "cpu"
) -> tuple[Recipe, tuple[Decision, ...]]:  # fmt: skip
    """The recipe with what tiles settle: method, network, size, fusion, orientations, augmentation; and why.

    Raises :class:`InputError` for a size, a fusion or members that do not go with tiles.
    """
    refuse_unfit_tiles(recipe)
    tiles, told = recipe.tiles, list[Decision]()
    recipe = recipe.changed(image_size=tiles.size, members=1)
    if len(tiles.mpp) > 1 and recipe.fusion == "single":
        recipe = recipe.changed(fusion="concat")
        told.append(Decision("magnifications", ", ".join(tiles.views), "µm a pixel, centred on the same point: a dense layer on the features of all (fusion concat)"))  # fmt: skip
    if recipe.method == "auto":
        names = (recipe.backbone,) if recipe.backbone else preferred(device)
        found = next((name for name in names if stores.find(name, folder=weights) is not None), "")
        method, backbone = ("finetune", found) if found and recipe.filters == 1 else ("scratch", recipe.backbone or FROM_SCRATCH)  # fmt: skip
        why = "pretrained weights are at hand" if method == "finetune" else "its filters are not those of the pretrained weights" if found else "no pretrained weights are at hand"  # fmt: skip
        recipe = recipe.changed(method=method, backbone=backbone)
        told.append(Decision("method", f"{method}, {backbone}", why))
    recipe = _with_pretrained(recipe, weights, device, told)
    if recipe.method == "scratch" and not recipe.backbone:
        recipe = recipe.changed(backbone=FROM_SCRATCH)
        told.append(Decision("backbone", FROM_SCRATCH, "a small network that begins at half the side: tiles are large"))
    if recipe.augment == "standard":
        recipe = recipe.changed(augmentation=TURNED_AND_STAINED, augment="given")
        if recipe.method != "features":
            told.append(Decision("augmentation", "eight orientations, brightness, saturation, hue, contrast", "as Liu 2017; training tiles only"))  # fmt: skip
    if not recipe.views and recipe.method == "features":  # as the plan of a frozen network has it
        recipe = recipe.changed(views=usual_views(recipe, tile_facts(tiles)))
    if not recipe.views:
        recipe = recipe.changed(views=8)
        told.append(Decision("orientations", "8", "the mean of all is the answer, as tissue has no upright (--set views=1 is eight times quicker)"))  # fmt: skip
    return recipe, tuple(told)


@checked
def tile_facts(tiles: Tiles) -> Facts:
    """What a plan knows of tiles before any is drawn: they are in colour and as large as they are."""
    return Facts(images=1, patients=1, fewest=1, side=tiles.size, colour=True)


def _with_pretrained(recipe: Recipe, weights: str | Path | None, device: str, told: list[Decision]) -> Recipe:
    """The recipe with the network that training would take where pretrained weights are asked for, and none by name."""
    if recipe.method not in ("finetune", "features") or recipe.backbone or recipe.described:
        return recipe
    found = weights_at_hand(recipe, tile_facts(recipe.tiles), folder=weights, device=device)
    name = next(iter(found), preferred(device)[0])
    why = f"the first choice on a {device} among the weights at hand" if found else f"the first choice on a {device}; its weights are not at hand"  # fmt: skip
    told.append(Decision("backbone", name, why))
    return recipe.changed(backbone=name)


@checked
def settle_bags(
    recipe: Recipe, *, weights: str | Path | None = None, device: str = "cpu"
) -> tuple[Recipe, tuple[Decision, ...]]:  # fmt: skip
    """The recipe with what bags of tiles settle: method, network, size and fusion; and why.

    Raises :class:`InputError` for what does not go with them.
    """
    refuse_unfit_bags(recipe)
    tiles, told = recipe.tiles, list[Decision]()
    if recipe.fusion == "single":
        recipe = recipe.changed(fusion="gated-attention")
        told.append(Decision("fusion", "gated-attention", "a slide is tumour where any of its tiles is, and nobody said which (Ilse 2018)"))  # fmt: skip
    recipe = recipe.changed(image_size=tiles.size, members=1, views=recipe.views or 1)
    if recipe.method == "auto":
        names = (recipe.backbone,) if recipe.backbone else preferred(device)
        found = next((name for name in names if stores.find(name, folder=weights) is not None), "") if recipe.filters == 1 else ""  # fmt: skip
        recipe = recipe.changed(method="features" if found else "scratch", backbone=found or recipe.backbone)
        why = "pretrained weights are at hand: features of tiles are made once" if found else "no pretrained weights are at hand"  # fmt: skip
        told.append(Decision("method", f"{recipe.method} {recipe.backbone}".strip(), why))
    recipe = _with_pretrained(recipe, weights, device, told)
    if recipe.method != "features":
        if recipe.method == "scratch" and not recipe.backbone:
            recipe = recipe.changed(backbone=FROM_SCRATCH)
        if not recipe.batch_size:
            recipe = recipe.changed(batch_size=max(1, AT_A_TIME // tiles.bag))
            told.append(Decision("slides a step", str(recipe.batch_size), f"all of their tiles, up to {tiles.bag}, are held in memory at once"))  # fmt: skip
        if recipe.augment == "standard":
            recipe = recipe.changed(augmentation=TURNED_AND_STAINED, augment="given", augment_by="image")
    return recipe, tuple(told)
