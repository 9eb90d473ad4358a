"""Training a network that outlines objects: look, plan, fit, choose how objects are cut out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.cases import Cases, mask_paths, paths
from overread.cases.split import Split
from overread.cells.cut_search import snapshot_precision, tune
from overread.cells.dense_losses import dense_loss
from overread.cells.enlarged import ACROSS, MOST, enlarged, enlarged_labels, magnification, median_across
from overread.cells.instance_cut import Maps
from overread.cells.native_store import NativeStore, pack_native
from overread.cells.segment import reading_of, times_of
from overread.cells.tiled import Held, Reading, Source, read_bands
from overread.cells.tiles import STANDARD, Tiles, pieces, scaled
from overread.core.errors import InputError, UnavailableError, UnsoundError, checked, require
from overread.core.files import build as build_fields
from overread.core.files import cache_folder, cores, fingerprint, plain, read_json, sha256, write_json
from overread.core.identifiers import marks
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning.checkpoint import forget
from overread.learning.device import choose_precision, choose_threads, layout, pick_device, seeded, time_step
from overread.learning.loop import Judge, LoopState, optimise
from overread.learning.model import About, Decision, Model, Origin, make_unet
from overread.learning.recipe import AUTO, Recipe
from overread.networks import weights as stores
from overread.networks.backbones import BACKBONES, build
from overread.networks.instance_heads import STRONGEST, Cutting, Segmentation, layout_of
from overread.networks.stages import stage_of, stages
from overread.networks.unet import UNet, copied_from

__all__ = ["initial_unet", "train_segmenter"]

#: Encoders with published weights, the preferred first; the last learns from scratch.
ENCODERS = ("mobilenet_v2", "tf_efficientnet_lite0", "resnet18")
FROM_SCRATCH = "unet_small"
#: Where nothing is asked for: epochs, tiles of an epoch, tiles of a step and their side.
EPOCHS, TILES, BATCH, TILE = 25, 800, 8, 256
#: Under a budget: at least so many epochs where there is time for as many steps, and no more than so many.
FEWEST_EPOCHS, MOST_EPOCHS = 6, 60
#: The share of the time for training that the probed steps may fill; the rest is for judging each epoch, and for a
#: machine that others use too.
CERTAIN = 0.7
#: The share of a budget that training gets; the rest is for cutting objects out of the tuning images.
TRAINING = 0.9
#: Objects are seen such that the median one has at most so many pixels across.
SEEN = 48
#: Pixels of tuning images by which cutting is chosen; more are not looked at.
TUNED = 48_000_000


@checked
def train_segmenter(
    cases: Cases, split: Split, recipe: Recipe = AUTO, *, weights: str | Path | None = None, folder: str | Path | None = None,
    cache: str | Path | None = None, digests: dict[str, str] | None = None, clock: Clock | None = None, reserve: float = 0.0,
    device: str = "", threads: int = 0, network: bool = True, progress: Progress = silent, say: Say = unheard,
) -> Model:  # fmt: skip
    """Train a U-Net that outlines objects on the training part, its snapshot and its thresholds chosen on the tuning part.

    The arguments are those of :func:`overread.learning.train.train`; what :class:`Recipe` and its ``segmentation`` leave
    open is planned by the images, the time and the weights at hand. Images without a mask teach nothing and are left out,
    which is said. Raises :class:`UnsoundError` where a part has no image with a mask, or none of the masks for training
    an object; :class:`InputError` for images or masks that cannot be read; :class:`UnavailableError` without weights.
    """
    require(
        cases.target.task.dense,
        "outlines of objects are not what is asked of these cases",
        given=cases.target.task.summary,
    )
    clock, device = clock or Clock(), pick_device(device)
    data = _data(cases, split, recipe, cache, digests, threads, progress, say)
    if threads:
        torch.set_num_threads(threads)
    checkpoints = Path(folder) if folder else None
    key = fingerprint(
        [
            data.cases.taught,
            data.store.folder.name,  # named by what images and masks hold
            data.training.tolist(),
            recipe,
            str(weights),
            clock.limit,
        ]
    )
    plan = _kept_plan(checkpoints, key)
    if plan is None:
        plan = SettledSegmentation(*_planned(data, recipe, weights, network, device, clock, reserve, threads))
        if checkpoints is not None:
            write_json(checkpoints / "segmentation.json", {"key": key, "plan": plain(plan)})
    most_epochs, recipe, decisions = recipe.epochs, plan.recipe, plan.decisions
    found = stores.find(recipe.backbone, folder=weights) if recipe.method == "finetune" else None
    for decision in decisions:
        say(decision.line)
    net, origin, copied = initial_unet(recipe, _preprocess(recipe, data), cases.target.outputs, weights=found)
    say(copied.line)
    about = _about(data, recipe, origin, [*decisions, copied])
    placed = layout(net, device)
    shown = layout_of(recipe.segmentation, cases.target.outputs)
    weighted = recipe.loss == "boundary-weighted"
    boundary = (recipe.segmentation.boundary_weight, recipe.segmentation.boundary_sigma) if weighted else None
    times = _magnifications(data, recipe.segmentation)
    rows = pieces(data.store, data.training, recipe.segmentation.tile * recipe.segmentation.zoom, recipe.segmentation.tiles, times)  # fmt: skip
    batches = Tiles(data.store, rows, recipe.batch_size, recipe.segmentation, shown, about.preprocess, recipe.augmentation, data.kinds,
                    boundary, recipe.seed, device, times)  # fmt: skip
    loss = dense_loss(shown, recipe.loss, smoothing=recipe.label_smoothing)
    shares = _source_shares(data, recipe)
    judge = _judge(data, about, boundary, device)
    kept = reserve + (1 - TRAINING) * max(0.0, clock.left - reserve) if clock.limit is not None else reserve
    trained, state = optimise(placed, batches, loss, judge, recipe, clock=clock, reserve=kept, folder=checkpoints, fitted=False, shares=shares, most_epochs=most_epochs,
                              progress=progress)  # fmt: skip
    about, told = _tuned(trained, data, about, device, progress)
    for decision in (*_snapshot(state), told):
        say(decision.line)
    about = replace(about, decisions=(*about.decisions, *_snapshot(state), told))
    return Model(trained.to("cpu").eval(), about, None, tuple(state.history))


@dataclass(frozen=True)
class SettledSegmentation:
    """The plan of a training, which a resumed one goes on by."""

    recipe: Recipe
    decisions: tuple[Decision, ...]


def _kept_plan(folder: Path | None, key: str) -> SettledSegmentation | None:
    """The plan that an interrupted training kept; None, and no checkpoint, where another was trained here."""
    if folder is None or not folder.exists():
        return None
    path = folder / "segmentation.json"
    if path.exists():
        held = read_json(path)
        if isinstance(held, dict) and held.get("key") == key:
            return build_fields(SettledSegmentation, held["plan"], where=path.name)
    forget(folder)
    return None


# -- the data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Images with outlines, which of them teach and which tune; ``kinds``: the class of each object, −1 unknown."""

    cases: Cases
    store: NativeStore
    training: NDArray[np.int64]
    tuning: NDArray[np.int64]
    kinds: tuple[NDArray[np.int64], ...]

    @property
    def sources(self) -> list[str]:
        """Of each image."""
        return self.cases.table["source"].astype(str).tolist()


def _data(
    cases: Cases, split: Split, recipe: Recipe, cache: str | Path | None, digests: dict[str, str] | None, threads: int,
    progress: Progress, say: Say,
) -> SegmentationData:  # fmt: skip
    parts = {name: split.rows(cases, name) for name in ("train", "tuning")}
    for name, rows in parts.items():
        blank = int((~cases.labelled[rows]).sum())
        if blank:
            say(
                f"  images without a mask: {blank} of {len(rows)} in {name} — they teach nothing and are left out; an image without objects needs a mask that is empty"
            )
        parts[name] = rows[cases.labelled[rows]]
        if not len(parts[name]):
            raise UnsoundError(
                "the split leaves no image with a mask for training or for tuning", given=f"{name}: {len(rows)} images"
            )
    used = np.sort(np.concatenate(list(parts.values())))
    own = cases.take(used)
    addresses = paths(own)
    store = pack_native(
        addresses, mask_paths(own), Path(cache) if cache else cache_folder(), window=recipe.window, threads=threads, progress=progress,
        percentiles=(recipe.segmentation.low, recipe.segmentation.high), digests=[(digests or {}).get(each, "") for each in addresses],
        classes=cases.target.names if cases.target.outputs > 1 else (),
    )  # fmt: skip
    if store.rebuilt:
        say(f"  {store.rebuilt} of {len(store)} decoded images were damaged in the cache: they were decoded again")
    tuned = np.isin(used, parts["tuning"])
    numbers = {name: place for place, name in enumerate(cases.target.names)}
    kinds = tuple(np.array([numbers.get(name, -1) for name in row.classes], np.int64) for row in store.rows)
    data = SegmentationData(own, store, np.flatnonzero(~tuned), np.flatnonzero(tuned), kinds)
    if not any(row.labels.any() for row in (store.rows[place] for place in data.training)):
        raise UnsoundError("none of the masks for training holds an object", given=count(len(data.training), "image"))
    strange = sum(int((own < 0).sum()) for own in kinds) if cases.target.outputs > 1 else 0
    if strange:
        say(f"  objects of no class that is asked for: {strange:,} — outlined, but they teach no class")
    return data


def _sizes(data: SegmentationData) -> NDArray[np.float64]:
    """Pixels across of the objects for training: the diameter of a disc of their area."""
    found = [np.bincount(np.asarray(data.store.rows[row].labels).ravel())[1:] for row in data.training]
    areas = np.concatenate(found)
    return np.sqrt(4 / np.pi * areas[areas > 0])


def _magnifications(data: SegmentationData, asked: Segmentation) -> NDArray[np.float64]:
    """How many times each image of the store is enlarged, by the size of its true objects."""
    across = [median_across(np.bincount(np.asarray(row.labels).ravel())[1:]) / asked.zoom for row in data.store.rows]
    return np.array([magnification(each, max(asked.enlarge, 1.0)) for each in across])


# -- the plan ----------------------------------------------------------------------------------------------------------


def _planned(
    data: SegmentationData, recipe: Recipe, weights: str | Path | None, network: bool, device: str, clock: Clock, reserve: float,
    threads: int,
) -> tuple[Recipe, tuple[Decision, ...]]:  # fmt: skip
    _refuse_unfit(recipe)
    told: list[Decision] = []

    def settle(what: str, choice: object, why: str) -> None:
        told.append(Decision(what, str(choice), why))

    recipe = _encoder(_seen_by(recipe, data, settle), weights, network, settle)
    asked = recipe.segmentation
    if not asked.head:
        asked = replace(asked, head=STRONGEST)
        settle("head", STRONGEST, "kept touching objects apart best on real images; docs/decisions/cells.md")
    if not asked.zoom:
        median = float(np.median(_sizes(data)))
        zoom = int(min(8, max(1, 2 ** math.ceil(math.log2(median / SEEN))))) if median > SEEN else 1
        asked = replace(asked, zoom=zoom)
        settle("zoom", f"1/{zoom}" if zoom > 1 else "1", f"the median object is {median:.0f} pixels across")
    if not asked.enlarge:
        asked = replace(asked, enlarge=MOST if asked.zoom == 1 else 1.0)
        small = int((_magnifications(data, asked)[data.training] > 1).sum())
        settle("enlarge", f"up to {asked.enlarge:g} times" if asked.enlarge > 1 else "never",
               f"the median object is brought to {ACROSS:.0f} pixels across where it is smaller, as in {small} of {count(len(data.training), 'training image')}")  # fmt: skip
    if not asked.tile:
        asked = replace(asked, tile=TILE)
        settle("tile", f"{TILE} pixels", "seven and more objects across")
    recipe = recipe.changed(segmentation=asked, loss=recipe.loss or "cross-entropy", batch_size=recipe.batch_size or BATCH,
                            views=recipe.views or 1, members=1)  # fmt: skip
    if not recipe.learning_rate:
        recipe = recipe.changed(learning_rate=2e-3)
    if recipe.augment == "standard":
        recipe = recipe.changed(augmentation=STANDARD)
        settle(
            "augmentation",
            "flips, turns, sizes, colours",
            f"objects have no upright position; {asked.invert:.0%} of tiles as negatives, {asked.grey:.0%} grey",
        )
    if recipe.label_smoothing:
        settle("label smoothing", "none", "a mask says of each pixel what it is; the field is of whole images")
        recipe = recipe.changed(label_smoothing=0.0)
    recipe = _paced(data, recipe, device, clock, reserve, threads, settle)
    recipe = recipe.changed(image_size=asked.tile, normalise="channel mean and std")
    return recipe, tuple(told)


def _encoder(
    recipe: Recipe, weights: str | Path | None, network: bool, settle: Callable[[str, object, str], None]
) -> Recipe:
    """The backbone and the method."""
    if recipe.method == "scratch":
        name = recipe.backbone or FROM_SCRATCH
        settle("network", f"U-Net on {name}", "from scratch, as asked for")
        return recipe.changed(backbone=name)
    if recipe.backbone:
        found = stores.get(recipe.backbone, folder=weights, network=network) if BACKBONES[recipe.backbone].url else None
        if found is None and recipe.method == "finetune":
            raise UnavailableError(f"there are no published weights of {recipe.backbone}", todo="use --recipe scratch")
        settle(
            "network",
            f"U-Net on {recipe.backbone}",
            "asked for" + (f"; its encoder from {found.source or found.path.name}" if found else ""),
        )
        return recipe.changed(method="finetune" if found else "scratch")
    for name in ENCODERS:
        if (found := stores.find(name, folder=weights)) is not None:
            settle(
                "network",
                f"U-Net on {name}",
                f"the preferred encoder with weights at hand: {found.source or found.path.name}",
            )
            return recipe.changed(method="finetune", backbone=name)
    if recipe.method == "finetune":
        found = stores.get(ENCODERS[0], folder=weights, network=network)
        settle("network", f"U-Net on {ENCODERS[0]}", f"asked for; its encoder from {found.source or found.path.name}")
        return recipe.changed(backbone=ENCODERS[0])
    settle(
        "network",
        f"U-Net on {FROM_SCRATCH}",
        f"from scratch: no weights of {', '.join(ENCODERS)} at hand; --weights FOLDER names others",
    )
    return recipe.changed(method="scratch", backbone=FROM_SCRATCH)


def _paced(
    data: SegmentationData, recipe: Recipe, device: str, clock: Clock, reserve: float, threads: int,
    settle: Callable[[str, object, str], None],
) -> Recipe:  # fmt: skip
    """Precision, threads, epochs and tiles by how quick a step is on this machine at present."""
    asked = recipe.segmentation
    with seeded(recipe.seed, 0, 0, "probe"):
        probe = layout(make_unet(recipe, _size_only(recipe, data), data.cases.target.outputs), device).train()
    x = torch.zeros(recipe.batch_size, _channels(data), asked.tile, asked.tile, device=device).contiguous(
        memory_format=torch.channels_last
    )
    most = threads or cores()
    precision, why = choose_precision(recipe.precision, device, lambda each: time_step(probe, x, each), timed=clock.limit is not None)  # fmt: skip
    settle("precision", precision, why)
    recipe = recipe.changed(precision=precision)
    if clock.limit is not None and not threads and device == "cpu" and most > 1:
        used = choose_threads(lambda: time_step(probe, x, precision), most)
        if used < most:
            settle("threads", f"{used} of {most}", "the quicker at present: the machine does other work, too")
    epochs, tiles = recipe.epochs or EPOCHS, asked.tiles
    if clock.limit is None:
        if not recipe.epochs or not tiles:
            settle("epochs", f"{epochs} of {tiles or TILES} tiles", "without a budget")
        return recipe.changed(epochs=epochs, segmentation=replace(asked, tiles=tiles or TILES))
    step = time_step(probe, x, precision)
    left = TRAINING * (clock.left - reserve)
    possible = max(1.0, CERTAIN * left / max(step, 1e-6))
    if not tiles:  # several epochs, so that a machine that gets slower ends within one of them and not before the first
        tiles = int(min(TILES, max(recipe.batch_size, possible * recipe.batch_size / (recipe.epochs or FEWEST_EPOCHS))))
    if not recipe.epochs:
        epochs = int(max(1, min(MOST_EPOCHS, possible * recipe.batch_size // tiles)))
    settle(
        "epochs",
        f"{epochs} of {tiles} tiles",
        f"{recipe.batch_size / step:.1f} tiles a second, {left:.0f} s for training",
    )
    return recipe.changed(epochs=epochs, segmentation=replace(asked, tiles=tiles))


def _refuse_unfit(recipe: Recipe) -> None:
    """Fields that whole images have and outlines have not."""
    wrong = {"method": recipe.method == "features", "fusion": recipe.fusion != "single", "extra_inputs": bool(recipe.extra_inputs),
             "mix": recipe.mix != "none", "members": recipe.members > 1, "descriptors": bool(recipe.descriptors),
             "sampling": recipe.sampling != "shuffle", "crop": recipe.crop != "none"}  # fmt: skip
    names = [name for name, holds in wrong.items() if holds]
    if names:
        raise InputError("outlines of objects are not learned with these fields", given=", ".join(f"{name}={getattr(recipe, name)}" for name in names),
                         todo="leave them out")  # fmt: skip


def _channels(data: SegmentationData) -> int:
    """Three, grey or colour; or as many as all images have, of frames as channels."""
    held = {row.pixels.shape[-1] for row in data.store.rows}
    if held <= {1, 3}:
        return 3
    if len(held) > 1:
        raise InputError(
            "images have unlike numbers of channels",
            given=", ".join(map(str, sorted(held))),
            todo="see all stacks in one way: --frames channels:N",
        )
    return held.pop()


def _seen_by(recipe: Recipe, data: SegmentationData, settle: Callable[[str, object, str], None]) -> Recipe:
    """Images of other channels than grey or colour are learned from scratch: pretrained weights see neither."""
    channels = _channels(data)
    if channels == 3 or recipe.method == "scratch":
        return recipe
    if recipe.method == "finetune":
        raise InputError("pretrained weights see grey or colour", given=f"images of {channels} channels",
                         todo="say --frames projections, or --set method=scratch")  # fmt: skip
    settle("method", "scratch", f"images of {channels} channels, which pretrained weights do not see")
    return recipe.changed(method="scratch")


def _size_only(recipe: Recipe, data: SegmentationData) -> Preprocess:
    side = recipe.segmentation.tile
    return Preprocess((side, side), _channels(data), bits=8, window=recipe.window)


def _preprocess(recipe: Recipe, data: SegmentationData) -> Preprocess:
    """With the mean and deviation of each channel over the training images, on the scale of their levels."""
    channels = _channels(data)
    total, squares, pixels = np.zeros(channels), np.zeros(channels), 0
    for row in data.training:
        native = data.store.rows[row]
        some = (
            scaled(np.asarray(native.pixels[::2, ::2]), native.levels, channels)
            .reshape(-1, channels)
            .astype(np.float64)
        )
        total, squares, pixels = total + some.sum(0), squares + (some**2).sum(0), pixels + len(some)
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-4))
    return replace(_size_only(recipe, data), mean=tuple(mean.tolist()), std=tuple(std.tolist()))


@checked
def initial_unet(
    recipe: Recipe, preprocess: Preprocess, classes: int, *, weights: stores.Found | None = None
) -> tuple[UNet, Origin, Decision]:
    """The U-Net of a recipe with its initial weights, where they are from, and which layers are copied, held still and new.

    The stages of the encoder are copied from ``weights`` but for the last ``fresh``; the first ``frozen`` are held still
    in training. Decoder and head are always new.
    """
    with seeded(recipe.seed, 0, 0, "initial weights"):
        network = make_unet(recipe, preprocess, classes)
    parameters = sum(p.numel() for p in network.parameters())
    found = stages(network)
    require(recipe.frozen + recipe.fresh <= len(found), "the encoder has fewer stages than are to be held still and drawn anew",
            given=f"frozen={recipe.frozen}, fresh={recipe.fresh} of {len(found)}: " + ", ".join(stage.name for stage in found))  # fmt: skip
    if weights is None:
        choice = f"all {len(found)} stages of the encoder, decoder and head new"
        return network, Origin(recipe.backbone, parameters), Decision("layers", choice, "from scratch")
    with seeded(recipe.seed, 0, 0, "initial weights of the backbone"):
        backbone = build(recipe.backbone, outputs=1, channels=preprocess.channels)
    loaded = stores.load_into(backbone, weights)
    kept = len(found) - recipe.fresh
    state = network.state_dict()
    for name, tensor in copied_from(backbone, network).items():
        if stage_of(name, found) < kept:
            state[name].copy_(tensor)
    new = f", the last {recipe.fresh} of the encoder" if recipe.fresh else ""
    choice = f"{kept} stages of the encoder copied, {recipe.frozen} of them frozen; new: decoder, head{new}"
    why = f"weights of {recipe.backbone}, {loaded.source}; --set frozen=N and fresh=N choose others"
    return (
        network,
        Origin(recipe.backbone, parameters, True, loaded.licence, loaded.source, loaded.sha256, tuple(loaded.notes)),
        Decision("layers", choice, why),
    )


# -- steps of a training -------------------------------------------------------------------------------------------------


def _about(data: SegmentationData, recipe: Recipe, origin: Origin, decisions: Sequence[Decision]) -> About:
    cases = data.cases
    salt = sha256(f"{cases.taught}/{recipe.seed}".encode())[:32]
    patients = cases.table["patient"]
    return About(recipe, _preprocess(recipe, data), cases.target, origin, marks(patients, salt), salt, cases.salt, cases.planes,
                 decisions=tuple(decisions), identifiers=cases.identifiers)  # fmt: skip


def _source_shares(data: SegmentationData, recipe: Recipe) -> torch.Tensor | None:
    if not recipe.source_weights:
        return None
    shares = np.array([recipe.source_weights.get(source, 1.0) for source in data.sources])
    mean = shares[data.training].mean()
    require(mean > 0, "source_weights leave nothing to learn from", given=dict(recipe.source_weights))
    return torch.from_numpy((shares / mean).astype(np.float32))


def _some(data: SegmentationData, asked: Segmentation) -> list[int]:
    """Tuning images, the first of each source in turn, up to :data:`TUNED` pixels."""
    order: list[int] = []
    left = {
        source: [row for row in data.tuning.tolist() if data.sources[row] == source]
        for source in sorted(set(data.sources))
    }
    while any(left.values()):
        order += [rows.pop(0) for rows in left.values() if rows]
    times = _magnifications(data, asked)
    total = np.cumsum([math.prod(data.store.rows[row].size) * times[row] ** 2 for row in order])
    return [row for row, pixels in zip(order, total, strict=True) if pixels <= TUNED] or order[:1]


@checked
def whole_maps(reading: Reading, source: Source, levels: NDArray[np.float32]) -> Maps:
    """What the network says of an image in memory."""
    bands = [maps for _, maps in read_bands(reading, source, levels)]
    return Maps(
        np.concatenate([band.pixels for band in bands], axis=1), np.concatenate([band.places for band in bands], axis=1)
    )


def _maps_of(reading: Reading, data: SegmentationData, row: int, times: NDArray[np.float64]) -> Maps:
    """What the network says of an image, enlarged as the size of its true objects asks for."""
    native = data.store.rows[row]
    return whole_maps(reading, enlarged(Held(native.pixels), float(times[row])), native.levels)


def _truth_of(data: SegmentationData, row: int, times: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(enlarged_labels(np.asarray(data.store.rows[row].labels, np.int64), float(times[row])))


def _judge(data: SegmentationData, about: About, boundary: tuple[float, float] | None, device: str) -> Judge:
    """The mean AP over IoU .5–.95 and sources on tuning images, before any tuning; and the loss on their middles."""
    rows = _some(data, about.recipe.segmentation)
    asked, classes = about.recipe.segmentation, about.target.outputs
    shown = layout_of(asked, classes)
    loss = dense_loss(shown, about.recipe.loss)
    plain_ones = replace(asked, invert=0.0, grey=0.0, as_it_is=0.0)
    times = _magnifications(data, asked)
    tiles = Tiles(data.store, np.array(rows), len(rows), plain_ones, shown, about.preprocess, type(about.recipe.augmentation)(), data.kinds,
                  boundary, about.recipe.seed, device, times)  # fmt: skip
    held: list[tuple[torch.Tensor, torch.Tensor]] = []
    truths = [_truth_of(data, row, times) for row in rows]

    def judge(network: nn.Module) -> dict[str, float]:
        network.eval()
        reading = reading_of(network, replace(about, recipe=about.recipe.changed(views=1)), device)
        if not held:
            places = np.arange(len(rows))
            held.extend(
                (x, y) for _, x, y in (tiles._load(part, 0) for part in np.array_split(places, -(-len(rows) // 8)))
            )
        losses = []
        with torch.inference_mode():
            for x, y in held:
                losses.append(float(loss(network(x).float(), y)) * len(x))
        maps = [_maps_of(reading, data, row, times) for row in rows]
        score = snapshot_precision(maps, truths, reading.shown, groups=[data.sources[row] for row in rows])
        return {"score": score, "loss": sum(losses) / len(rows)}

    return judge


def _tuned(
    network: nn.Module, data: SegmentationData, about: About, device: str, progress: Progress
) -> tuple[About, Decision]:
    rows = _some(data, about.recipe.segmentation)
    reading = reading_of(network.eval(), about, device)

    def tuned(times: NDArray[np.float64]) -> tuple[Cutting, float, float]:
        maps = [_maps_of(reading, data, row, times) for row in rows]
        truths = [_truth_of(data, row, times) for row in rows]
        return tune(maps, truths, reading.shown, groups=[data.sources[row] for row in rows], progress=progress)

    times = _magnifications(data, about.recipe.segmentation)
    cutting, score, before = tuned(times)
    if (
        about.recipe.segmentation.enlarge > 1
    ):  # a new image has no mask to tell the size of its objects: the network does
        for row in rows:
            times[row] = times_of(reading, cutting, Held(data.store.rows[row].pixels), data.store.rows[row].levels)
        cutting, score, before = tuned(times)
    shown = ", ".join(
        f"{name} {getattr(cutting, name):g}" for name in ("foreground", "centre", "apart", "compactness", "minimum")
    )
    why = f"the best mean AP over IoU .5–.95 on {count(len(rows), 'tuning image')}: {score:.3f}, {before:.3f} with what stands for all"
    return replace(about, cutting=cutting), Decision("cutting", shown, why)


def _snapshot(state: LoopState) -> list[Decision]:
    stopped = f"; stopped because {state.stopped}" if state.stopped else ""
    return [*(Decision(**each) for each in state.decisions),
            Decision("snapshot", f"epoch {state.best_epoch + 1}", f"the best mean AP on tuning images ({state.best:.3f}){stopped}")]  # fmt: skip
