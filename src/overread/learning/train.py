"""Training: from cases, a split and a recipe to a model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import Cases, paths
from overread.cases.split import Split, folds
from overread.core.errors import InputError, OverreadError, UnsoundError, checked
from overread.core.files import build, cache_folder, cores, fingerprint, hashed, plain, read_json, sha256, write_json
from overread.core.progress import Clock, Progress, silent
from overread.core.sandbox import contained_call
from overread.images.preprocess import Preprocess, fit_normalisation
from overread.images.read import read_image
from overread.images.store import Pack, pack
from overread.learning import auto
from overread.learning import device as devices
from overread.learning.checkpoint import forget
from overread.learning.linear_probe import choose_penalty, extract
from overread.learning.loader import Batches
from overread.learning.loop import Job, State, fit
from overread.learning.losses import class_weights, make_loss
from overread.learning.model import About, Decision, Model, Origin, with_taps
from overread.learning.predict import judge_on
from overread.learning.recipe import AUTO, Recipe
from overread.networks import backbones
from overread.networks import weights as stores

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PROBED = 50  # images looked at for their size


@dataclass(frozen=True, eq=False)
class Bench:
    """What every step of a training works with: the training and tuning images and the places for files."""

    cases: Cases
    tuning: NDArray[np.bool_]  # which rows of ``cases`` are for tuning
    folder: Path | None
    cache: Path
    digests: dict[str, str]  # of image files, by address, as far as they are known
    weights: Path | None
    device: str
    threads: int
    network: bool
    clock: Clock
    reserve: float
    progress: Progress

    @property
    def training(self) -> Cases:
        """The rows that teach."""
        return self.cases.take(~self.tuning)


@checked
def train(
    cases: Cases,
    split: Split,
    recipe: Recipe = AUTO,
    *,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    digests: dict[str, str] | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    progress: Progress = silent,
) -> Model:
    """Train a model on the training part, choose its snapshot on the tuning part; the test part is not touched.

    ``weights``: folder of pretrained weights. ``folder``: for checkpoints; training resumes from what it finds there.
    ``digests``: SHA-256 of the image files by address, where an audit has read them already; a file that has changed
    since is refused. ``clock``: bounds the seconds, of which ``reserve`` are left for what follows. ``network``: whether weights may be
    fetched. Raises :class:`UnsoundError` if a class has no training case, :class:`UnavailableError` without weights.
    """
    bench = _bench(cases, split, weights, folder, cache, digests, clock, reserve, device, threads, network, progress)
    recipe, decisions, origin_file = _settle(recipe, bench)
    if threads:
        torch.set_num_threads(threads)
    preprocess = _preprocess(recipe, bench)
    store = _pack(bench, preprocess)
    preprocess, mean_image = _normalisation(store, bench, preprocess, recipe)
    about = _about(recipe, preprocess, bench, decisions)
    body, about = _body(about, bench, origin_file)
    history: tuple[dict[str, Any], ...] = ()
    if about.backbone.pretrained:
        body, history = _linear_head(body, about, store, bench, mean_image)
    if recipe.method != "features":
        body, about, history = _loop(body, about, store, bench, mean_image)
    return Model(body.to("cpu").eval(), about, mean_image, history)


def _bench(cases, split, weights, folder, cache, digests, clock, reserve, device, threads, network, progress):  # type: ignore[no-untyped-def]
    rows = {part: split.rows(cases, part) for part in ("train", "tuning")}
    used = np.sort(np.concatenate(list(rows.values())))
    if not len(rows["train"]) or not len(rows["tuning"]):
        raise UnsoundError(
            "the split leaves no images for training or for tuning",
            given=f"{len(rows['train'])} and {len(rows['tuning'])}",
        )
    used = used[cases.labelled[used]]
    part = cases.take(used)
    bench = Bench(part, np.isin(used, rows["tuning"]), Path(folder) if folder else None, Path(cache) if cache else cache_folder(),
                  digests or {}, Path(weights) if weights else None, devices.pick_device(device), threads or cores(), network,
                  clock or Clock(), reserve, progress)  # fmt: skip
    _refuse_missing_classes(bench.training)
    return bench


def _refuse_missing_classes(training: Cases) -> None:
    if training.target.kind not in ("binary", "classes"):
        return
    counts = np.bincount(training.labels, minlength=len(training.target.names))
    if (counts > 0).sum() < 2:
        raise UnsoundError(
            "the training part has one class only",
            given=", ".join(training.target.names),
            todo="check the label column and the split",
        )


# -- what to do ---------------------------------------------------------------------------------------------------


def _settle(recipe: Recipe, bench: Bench) -> tuple[Recipe, list[Decision], str]:
    """The recipe without open fields. What was decided is written down, and kept when the run is resumed."""
    key = fingerprint([plain(recipe), bench.cases.digest, bench.tuning.tolist(), bench.clock.limit, str(bench.weights)])
    path = bench.folder / "plan.json" if bench.folder else None
    if path is not None and path.exists() and (kept := read_json(path))["key"] == key:
        bench.clock.credit(kept["seconds"])
        return (
            build(Recipe, kept["recipe"], where="plan.json"),
            [build(Decision, d) for d in kept["decisions"]],
            kept["weights"],
        )
    if bench.folder is not None:
        forget(bench.folder)  # checkpoints of other cases, another split or recipe must not teach this model
    found = _weights_at_hand(recipe, bench)
    settled, decisions = auto.decide(recipe, _situation(bench, tuple(found)), _probe(bench))
    file = found.get(settled.backbone, "") if settled.method in ("features", "finetune") else ""
    if path is not None:
        write_json(
            path,
            {"key": key, "recipe": settled, "decisions": decisions, "weights": file, "seconds": bench.clock.elapsed},
        )
    return settled, decisions, file


def _weights_at_hand(recipe: Recipe, bench: Bench) -> dict[str, str]:
    """Backbones with weights in the store, best first, and their files; else what the hub gives in a few seconds."""
    if recipe.method == "scratch":
        return {}
    names = (recipe.backbone,) if recipe.backbone else (*auto.preferred(bench.device), *backbones.BACKBONES)
    found = {
        n: str(f.path)
        for n in names
        if n in backbones.BACKBONES and (f := stores.find(n, folder=bench.weights)) is not None
    }
    small = _image_facts(bench)[0] <= auto.SMALL_SIDE
    if found or not bench.network or (recipe.method == "auto" and small):
        return found
    name = recipe.backbone or auto.preferred(bench.device)[0]
    try:
        return {name: str(stores.get(name, folder=bench.weights, network=True).path)}
    except OverreadError:
        if recipe.method == "auto":
            return {}
        raise


def _image_facts(bench: Bench) -> tuple[int, bool, bool]:
    """Median smaller side, whether volumes, whether colour: from a few images spread over the table."""
    addresses = paths(bench.cases)
    picked = [
        contained_call(read_image, addresses[i])
        for i in np.unique(np.linspace(0, len(addresses) - 1, _PROBED).astype(int))
    ]
    volume = picked[0].mode == "volume"
    side = int(np.median([min(i.pixels.shape[:-1]) for i in picked]))
    return side, volume, any(i.mode == "colour" for i in picked)


def _situation(bench: Bench, pretrained: tuple[str, ...]) -> auto.Situation:
    side, volume, colour = _image_facts(bench)
    training = bench.training
    seconds = None if bench.clock.limit is None else max(1.0, bench.clock.left - bench.reserve)
    return auto.Situation(len(training), training.patients, auto.fewest_patients(training), side, volume, colour,
                          pretrained, bench.device, bench.threads, seconds)  # fmt: skip


def _probe(bench: Bench) -> auto.Probe:
    """Seconds of one training step on this machine: the quicker of two after a warm-up."""
    _, volume, colour = _image_facts(bench)

    def seconds(backbone: str, size: int, batch: int) -> float:
        shape = (size,) * (3 if volume else 2)
        channels = _channels(backbone, colour, volume)
        network = devices.layout(backbones.build(backbone, outputs=2, channels=channels), bench.device).train()
        x = torch.zeros(batch, channels, *shape, device=bench.device)
        x = x if volume else x.contiguous(memory_format=torch.channels_last)
        return min(_timed_step(network, x) for _ in range(3))

    return seconds


def _timed_step(network: nn.Module, x: Tensor) -> float:
    start = time.monotonic()
    network(x).square().mean().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.monotonic() - start


# -- steps --------------------------------------------------------------------------------------------------------


def _channels(backbone: str, colour: bool, volume: bool) -> int:
    if volume:
        return 1
    return 3 if colour or backbones.BACKBONES[backbone].library != "overread" else 1


def _preprocess(recipe: Recipe, bench: Bench) -> Preprocess:
    _, volume, colour = _image_facts(bench)
    bits = max(contained_call(read_image, a).bits for a in paths(bench.cases.take(np.arange(min(5, len(bench.cases))))))
    return Preprocess(size=(recipe.image_size,) * (3 if volume else 2), channels=_channels(recipe.backbone, colour, volume),
                      fit=recipe.fit, normalise=recipe.normalise, bits=8 if bits <= 8 else 16, window=recipe.window, crop=recipe.crop)  # fmt: skip


def _pack(bench: Bench, preprocess: Preprocess) -> Pack:
    addresses = paths(bench.cases)
    known = [bench.digests.get(address, "") for address in addresses]
    store = pack(addresses, preprocess, bench.cache, digests=known, threads=bench.threads, progress=bench.progress)
    if store.failed:
        raise InputError(f"{len(store.failed)} images cannot be read", given=next(iter(store.failed.values())),
                         todo="run `overread audit`, which sets them aside")  # fmt: skip
    return store


def _normalisation(
    store: Pack, bench: Bench, preprocess: Preprocess, recipe: Recipe
) -> tuple[Preprocess, NDArray | None]:
    if (
        recipe.method in ("features", "finetune")
        and preprocess.normalise == "channel mean and std"
        and preprocess.channels == 3
    ):
        return replace(
            preprocess, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
        ), None  # what the pretrained weights were trained with
    return fit_normalisation(store, np.flatnonzero(~bench.tuning), preprocess)


def _about(recipe: Recipe, preprocess: Preprocess, bench: Bench, decisions: list[Decision]) -> About:
    salt = sha256(f"{bench.cases.digest}/{recipe.seed}".encode())[:32]
    seen = tuple(sorted(hashed(sorted(set(bench.cases.table["patient"])), salt)))
    labels = bench.training.labels
    scale = (
        (float(np.mean(labels)), max(float(np.std(labels)), 1e-8))
        if bench.cases.target.kind == "quantity"
        else (0.0, 1.0)
    )
    return About(
        recipe,
        preprocess,
        bench.cases.target,
        Origin(recipe.backbone, 0),
        seen,
        salt,
        bench.cases.salt,
        bench.cases.planes,
        scale,
        tuple(decisions),
    )


def _body(about: About, bench: Bench, file: str) -> tuple[nn.Module, About]:
    """The network with its initial weights, pretrained where there is a file."""
    recipe, outputs = about.recipe, about.target.outputs
    with devices.seeded(recipe.seed, 0, 0, "initial weights"):
        network = backbones.build(
            recipe.backbone, outputs=outputs, channels=about.preprocess.channels, dropout=recipe.dropout
        )
    origin = Origin(recipe.backbone, sum(p.numel() for p in network.parameters()))
    found = stores.find(recipe.backbone, folder=Path(file)) if file else None
    if found is not None:
        told = stores.load_into(network, found)
        origin = Origin(
            recipe.backbone, origin.parameters, True, told.licence, told.source, told.sha256, tuple(told.notes)
        )
    tapped = recipe.layers and recipe.method == "features"
    body = with_taps(network, recipe.layers, about.preprocess, outputs) if tapped else network
    return devices.layout(body, bench.device), replace(about, backbone=origin)


def _tensor_labels(bench: Bench, about: About) -> Tensor:
    labels = bench.cases.labels
    if about.target.kind == "quantity":
        labels = (labels - np.float32(about.scale[0])) / np.float32(about.scale[1])
    return torch.from_numpy(np.array(labels))


def _linear_head(
    network: nn.Module, about: About, store: Pack, bench: Bench, mean_image: Any
) -> tuple[nn.Module, tuple[dict[str, Any], ...]]:
    """Fit the head on frozen features of the training rows; the penalty by folds of patients within them."""
    recipe, training = about.recipe, bench.training
    views = recipe.views if recipe.method == "features" else 1
    key = [about.backbone, recipe.layers, store.digests]
    features = extract(network, store.images, about.preprocess, key=key, views=views, cache=bench.cache, device=bench.device,
                       mean_image=mean_image, progress=bench.progress)  # fmt: skip
    rows = torch.from_numpy(np.flatnonzero(~bench.tuning))
    labels = _tensor_labels(bench, about)[rows]
    heads, penalty, table = choose_penalty(
        features[rows], labels, about.target, weights=torch.from_numpy(class_weights(training.labels, about.target, recipe.balance)),
        folds=folds(training, k=recipe.folds, seed=recipe.seed), penalties=recipe.penalties, progress=bench.progress,
    )  # fmt: skip
    head = network.get_submodule("head")
    with torch.no_grad():
        head.weight.copy_(heads.weight[0].T)  # type: ignore[operator, union-attr]
        head.bias.copy_(heads.bias[0])  # type: ignore[operator, union-attr]
    return network, tuple({**row, "chosen": row["penalty"] == penalty} for row in table)


def _loop(
    network: nn.Module, about: About, store: Pack, bench: Bench, mean_image: Any
) -> tuple[nn.Module, About, tuple[dict[str, Any], ...]]:
    recipe, labels = about.recipe, _tensor_labels(bench, about)
    batches = Batches(store.images, np.flatnonzero(~bench.tuning), labels, recipe.batch_size, about.preprocess, recipe.augmentation,
                      mean_image, recipe.seed, bench.device, bench.threads)  # fmt: skip
    judge = judge_on(store.images, np.flatnonzero(bench.tuning), labels, about, mean_image, bench.device)
    loss = make_loss(
        about.target,
        class_weights(bench.training.labels, about.target, recipe.balance),
        recipe.label_smoothing,
        bench.device,
    )
    precision = _precision(network, about, bench)
    most = auto.MOST_EPOCHS[recipe.method] if bench.clock.limit is not None else 0
    job = Job(
        network,
        batches,
        loss,
        judge,
        recipe,
        bench.clock,
        bench.folder,
        precision,
        about.backbone.pretrained,
        most,
        bench.reserve,
        bench.progress,
    )
    trained, state = fit(job)
    about = replace(about, decisions=(*about.decisions, *_told(state, precision)))
    return trained, about, tuple(state.history)


def _precision(network: nn.Module, about: About, bench: Bench) -> str:
    """The precision of the forward passes; a probe's answer is written down, and kept when the run is resumed."""
    path = bench.folder / "plan.json" if bench.folder else None
    plan_kept = read_json(path) if path is not None else {}
    if "precision" in plan_kept:
        return plan_kept["precision"]
    chosen = devices.choose_precision(
        about.recipe.precision, bench.device, lambda dtype: _probe_precision(network, about, bench, dtype)
    )
    if path is not None:
        write_json(path, {**plan_kept, "precision": chosen})
    return chosen


def _probe_precision(network: nn.Module, about: About, bench: Bench, dtype: torch.dtype) -> None:
    x = torch.zeros(8, about.preprocess.channels, *about.preprocess.size, device=bench.device)
    with torch.inference_mode(), torch.autocast(bench.device, dtype=dtype, enabled=dtype != torch.float32):
        network(x)


def _told(state: State, precision: str) -> list[Decision]:
    told = [Decision(**d) for d in state.decisions]
    told.append(Decision("precision", precision, "asked for or quicker in a probe on this machine"))
    kept = f"epoch {state.best_epoch + 1}" if state.best_epoch >= 0 else "the linear head before fine-tuning"
    told.append(
        Decision(
            "snapshot",
            kept,
            f"the best tuning score ({state.best:.3f})"
            + (f"; stopped because {state.stopped}" if state.stopped else ""),
        )
    )
    return told
