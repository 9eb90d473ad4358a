"""A training of ours, looked at in seconds before it begins: its images, batches, network and loss; its time and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.core.errors import checked
from overread.core.phrases import count
from overread.images.augment import Augmentation
from overread.learning.device import autocast, layout, memory_left, out_of_memory, seeded, to_tensor
from overread.learning.fit import loss_of
from overread.learning.loader import Batches, TrainingData, normalisation
from overread.learning.loop import make_optimizer
from overread.learning.model import initial_network
from overread.learning.predict import judge_on, pixels_of
from overread.learning.preflight.check import of_bench, of_images, of_patients
from overread.learning.preflight.faults import Attempt, Fault, Forecast, Preflight, bytes_in_words, worst_first
from overread.learning.preflight.trial import FEW_IMAGES, Bench
from overread.learning.recipe import Recipe
from overread.networks.own import OwnNetwork

#: Images of a sample on which the normalisation is fitted for the rehearsal.
SAMPLE = 256
#: A forecast is uncertain: from this multiple of what is left on, it is a doubt.
CLEARLY_MORE = 1.25
#: Copies of the weights that a training holds: network, average, best snapshot, gradients, two slots of the optimiser.
COPIES = 6


@checked
def rehearse(
    data: TrainingData,
    recipe: Recipe,
    *,
    weights: str | Path | None = None,
    network: nn.Module | None = None,
    device: str = "cpu",
    threads: int = 0,
    left: float = math.inf,
    seconds: float = 5.0,
) -> Preflight:
    """Look at what :func:`overread.learning.fit.fit` would do with these arguments; nothing is trained or kept.

    ``network``: one's own in place of the recipe's. ``left``: seconds that the training may take. ``seconds``: about as
    long as learning a few images by heart may take.
    """
    with seeded(recipe.seed, 0, 0, "pre-flight"):
        stage = _prepare(data, recipe, weights, network, device, threads)
        measured: dict[str, str] = {}
        patients = data.cases.table["patient"].to_numpy()
        faults = [*of_patients(patients[data.training].tolist(), patients[data.tuning].tolist()), *_of_order(stage)]
        if not _steps(recipe):
            return Preflight(worst_first([*faults, *of_images(stage.bench.x)]), measured)
        bench = replace(stage.bench, until=time.monotonic() + seconds)
        found = of_bench(bench, measured)
        if recipe.method == "finetune":  # whose head is fitted before the first step, and here it is not
            found = (fault for fault in found if fault.kind != "first-loss")
        faults += [*found, *_of_batch_size(stage)]
        forecast = None
        if not any(fault.severity == "error" for fault in faults):
            forecast, more = _forecast(stage, left)
            faults += [*_of_judge(stage), *more]
    return Preflight(worst_first(faults), measured, forecast)


@dataclass(frozen=True, eq=False)
class Stage:
    """All that a fit works with, made as it makes it; ``bench`` holds a few training images without augmentation."""

    data: TrainingData
    recipe: Recipe
    batches: Batches
    labels: Tensor
    judge: Any
    bench: Bench
    device: str
    threads: int


def _prepare(
    data: TrainingData, recipe: Recipe, weights: str | Path | None, own: nn.Module | None, device: str, threads: int
) -> Stage:
    some = data.training[np.unique(np.linspace(0, len(data.training) - 1, SAMPLE).astype(int))]
    preprocess, mean_image = normalisation(data.on(some, data.tuning), recipe)
    task = data.cases.target.task
    stepping = _steps(recipe)
    made: nn.Module = nn.Identity()
    if stepping:
        made = (
            OwnNetwork(own)
            if own is not None
            else initial_network(recipe, preprocess, task.outputs, weights=weights, extra=data.extra(recipe))[0]
        )
    network = layout(made, device).train()
    scale = task.label_scale(data.cases.labels[data.training])
    labels = torch.from_numpy(np.array(task.scaled(data.cases.labels, scale)))
    rows = _few_rows(data)
    numbers = data.numbers(recipe)
    x = pixels_of(data.images, rows, preprocess, mean_image, device, numbers=numbers if stepping else None)
    y = labels[torch.from_numpy(rows)].to(device)
    batches = Batches(data.images, data.training, labels, recipe.batch_size if stepping else FEW_IMAGES, preprocess, recipe.augmentation, mean_image,
                      recipe.seed, device, threads, numbers=numbers)  # fmt: skip
    bench = Bench(network, x, y, loss_of(recipe, task, data.cases.labels[data.training], device), make_optimizer(network, recipe) if stepping else None,
                  task.outputs, precision=recipe.precision if stepping else "float32")  # fmt: skip
    tuning = data.tuning[:FEW_IMAGES]
    judge = judge_on(
        data.images, tuning, labels, task, preprocess, mean_image=mean_image, device=device, numbers=numbers
    )
    return Stage(data, recipe, batches, labels, judge, bench, device, threads)


def _steps(recipe: Recipe) -> bool:
    """Whether a network is trained whose steps can be tried: no head on a frozen one, and no fusion of several images."""
    return recipe.method != "features" and recipe.fusion == "single"


def _few_rows(data: TrainingData) -> NDArray[np.int64]:
    """A few training rows of as many classes as there are."""
    order = data.training[np.argsort(data.cases.target.task.strata(data.cases.labels[data.training]), kind="stable")]
    return order[np.unique(np.linspace(0, len(order) - 1, FEW_IMAGES).round().astype(int))]


def _of_order(stage: Stage) -> Iterator[Fault]:
    """Whether a shuffled batch has the images and the labels of its rows."""
    batches = replace(stage.batches, augmentation=Augmentation(), mix="none", size=FEW_IMAGES, threads=1)
    rows, x, y = next(batches.epoch(0))
    images = to_tensor(stage.data.images[rows], batches.preprocess, batches.mean_image, stage.device)
    apart = (x[:, : images.shape[1]] - images).abs().flatten(1).mean(1) > 0.1
    labels = stage.labels[torch.from_numpy(rows)].to(y)
    wrong = int(apart.sum()), int((~torch.isclose(labels, y, equal_nan=True)).sum())
    if any(wrong):
        yield Fault("alignment", "error", "labels are not aligned with images after shuffling", f"{wrong[0]} images and {wrong[1]} labels of {len(rows)} are of other rows",
                    "delete the cache of decoded images and try again")  # fmt: skip


def _of_batch_size(stage: Stage) -> Iterator[Fault]:
    least = len(stage.batches.rows) // len(stage.batches)
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in stage.bench.network.modules())
    if least < 2 and norms:
        yield Fault("batch-of-one", "error", "batch normalisation with a batch of one image", f"{count(len(stage.batches.rows), 'image')} in {count(len(stage.batches), 'batch', 'batches')}; {count(norms, 'layer')}",
                    "a larger --batch-size, or --backbone lenet5, which has no batch normalisation")  # fmt: skip


def _of_judge(stage: Stage) -> Iterator[Fault]:
    """Whether the tuning images are judged alike twice: neither augmented nor by a network in training mode."""
    network = stage.bench.network
    with Attempt() as tried:
        first, again = stage.judge(network)["loss"], stage.judge(network)["loss"]
    network.train()
    if tried.error is not None:
        yield Fault(
            "validation",
            "error",
            "the tuning images cannot be judged",
            tried.said,
            "see that the network takes them in evaluation mode",
        )
    elif not math.isclose(first, again, rel_tol=1e-4, abs_tol=1e-6):
        yield Fault("validation", "error", "the same tuning images are judged differently twice", f"loss {first:.4g}, then {again:.4g}",
                    "nothing random may happen in evaluation mode")  # fmt: skip


# -- time and memory ------------------------------------------------------------------------------------------------


def _forecast(stage: Stage, left: float) -> tuple[Forecast | None, list[Fault]]:
    """One step measured and multiplied; a doubt where memory or time will not suffice."""
    bench, recipe = stage.bench, stage.recipe
    with Attempt() as tried:
        kept, _ = _step(bench)
        _, each = _step(bench)
    if tried.error is not None:
        fix = "a smaller --image-size or --backbone"
        what = (
            "a few images do not fit into the memory"
            if out_of_memory(tried.error)
            else "a step of training raised an error"
        )
        return None, [Fault("memory", "error", what, tried.said, fix)]
    began = time.monotonic()
    drawn = stage.batches.epoch(0)
    next(drawn)
    load = time.monotonic() - began
    size, steps = len(stage.batches.rows) / len(stage.batches), len(stage.batches)
    each, kept = each / len(bench.x), kept / len(bench.x)
    step = each * size
    together = max(load, step) if stage.threads > 1 or stage.device != "cpu" else load + step
    total = recipe.epochs * (steps * together + len(stage.data.tuning) * each / 3)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in bench.network.state_dict().values())
    forecast = Forecast(load, step, total, COPIES * weights + kept * size, memory_left(stage.device))
    return forecast, list(_of_forecast(forecast, stage, left, kept))


def _of_forecast(forecast: Forecast, stage: Stage, left: float, kept: float) -> Iterator[Fault]:
    if forecast.memory > forecast.available:
        fitting = max(2, int((forecast.available - (forecast.memory - kept * stage.recipe.batch_size)) / max(kept, 1)))
        yield Fault("memory", "warning", "the memory will not suffice for a whole batch, which will be taken in parts", f"{bytes_in_words(forecast.memory)} for {stage.recipe.batch_size} images, {bytes_in_words(forecast.available)} at hand",
                    f"--batch-size {fitting}, or a smaller --image-size or --backbone")  # fmt: skip
    if forecast.total > CLEARLY_MORE * left:
        yield Fault("time", "warning", "the time will not suffice for all epochs", f"about {forecast.total:.0f} s for {count(stage.recipe.epochs, 'epoch')}, {max(left, 0):.0f} s left; most goes into {forecast.bottleneck}",
                    "a longer --budget, fewer --epochs, or a smaller --image-size")  # fmt: skip


def _step(bench: Bench) -> tuple[float, float]:
    """Bytes that one step keeps for its way back, and its seconds."""
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.data_ptr() for p in bench.network.parameters()}
    began = time.monotonic()
    bench.network.zero_grad(set_to_none=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with autocast(bench.x.device.type, bench.precision):
            outputs = bench.network(bench.x)
        bench.loss(outputs.float(), bench.y).backward()
    if bench.x.is_cuda:
        torch.cuda.synchronize()
    return float(sum(size for place, size in held.items() if place not in weights)), time.monotonic() - began
