"""Real images on which an exported model is held against the model itself, at two batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, InputError, UnsoundError, checked
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.export.graph import whole
from overread.export.prepare import prepare
from overread.images.preprocess import Preprocess
from overread.learning.inputs import inputs
from overread.learning.model import Model
from overread.learning.predict import outputs_of

#: Fewer real images than these prove nothing.
FEWEST = 32
#: As many cases are asked for, so that some may be unreadable.
_ASKED = 40
#: Images at a time: one, which exporters like to freeze, and a number that nothing is a multiple of.
BATCHES = (1, 7)

#: Pixels (B, C, [D,] H, W) or (B, V, C, …) from 0 to 1 → probabilities (B, K), by another program.
Other = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Specimens:
    """``pixels`` from 0 to 1 as the exported model takes them, NaN where an image is missing; ``probabilities`` (N, K) that
    overread itself gives, of a quantity its value; ``addresses``: of the image of each row, where a row is one image.
    ``scale``: what a difference is divided by before it is judged: of a quantity the deviation in training."""

    pixels: Tensor
    probabilities: NDArray[np.float32]
    addresses: tuple[str, ...]
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.pixels)


@checked
def specimens(
    model: Model, cases: Cases, *, fewest: int = FEWEST, threads: int = 0, progress: Progress = silent, say: Say = unheard
) -> Specimens:  # fmt: skip
    """What the model sees and says of some of the ``cases``, spread evenly over the table.

    Raises :class:`InputError` where fewer than ``fewest`` images can be read.
    """
    names = cases.table["case"].astype(str)
    found = names.drop_duplicates().to_numpy()
    some = (
        found[np.unique(np.linspace(0, len(found) - 1, min(_ASKED, len(found))).astype(int))] if len(found) else found
    )
    chosen = cases.take(names.isin(some).to_numpy())
    pixels, answers, addresses = [], [], list[str]()
    network, about, where = model.network.cpu().eval(), model.about, paths(chosen)
    single = about.recipe.fusion == "single"
    for batch in inputs(
        model, chosen, device="cpu", threads=threads, progress=progress, say=say, doing="reading images"
    ):
        outputs = outputs_of(network, batch.x, about.recipe.views)
        made = about.target.task.probabilities(outputs).numpy()
        answers.append(about.target.task.unscaled(made, about.scale))
        pixels.append(_unit(batch.pixels, batch.x, about.preprocess))
        addresses += [where[row] for row in batch.rows[:, 0]] if single else []
    many = sum(map(len, pixels))
    if many < fewest:
        raise InputError("too few images can be read to compare the exported model with the model itself",
                         given=f"{many}, at least {fewest} are needed", todo="name more: --images FOLDER, or --fewest for a smaller number")  # fmt: skip
    return Specimens(torch.cat(pixels), np.concatenate(answers), tuple(addresses), about.scale[1])


def _unit(pixels: tuple[tuple[NDArray | None, ...], ...], x: Tensor, preprocess: Preprocess) -> Tensor:
    """The prepared images of a batch on the scale from 0 to 1, in the shape of ``x``."""
    made = np.full((len(pixels), len(pixels[0]), *preprocess.shape), np.nan, np.float32)
    for row, images in enumerate(pixels):
        for place, image in enumerate(images):
            if image is not None:
                made[row, place] = image / np.float32(preprocess.full)
    return torch.from_numpy(np.moveaxis(made, -1, 2).reshape(x.shape).copy())


@checked
def largest_difference(other: Other, held: Specimens) -> float:
    """The largest difference in any probability that another program gives, at each of the batch sizes."""
    return max(
        difference(np.concatenate([other(part.numpy()) for part in held.pixels.split(size)]), held) for size in BATCHES
    )


@checked
def difference(said: NDArray[np.float32], held: Specimens) -> float:
    """The largest difference of probabilities (N, K), of a quantity in its deviations; what is no number differs by infinity."""
    apart = np.abs(said - held.probabilities) / held.scale
    return float(np.where(np.isnan(apart), np.inf, apart).max())


@checked
def require_equal(apart: float, limit: float, held: Specimens, what: str) -> None:
    """Raise :class:`UnsoundError`, so that nothing is written, where the exported model says something else."""
    if not apart <= limit:
        raise UnsoundError(f"{what} does not give the probabilities of the model, so nothing was written",
                           given=f"{apart:.1e} apart on {count(len(held), 'image')}, allowed {limit:g}")  # fmt: skip


@dataclass(frozen=True)
class Preparation:
    """How far the few lines of numpy and Pillow are from overread's own preparation: ``images`` compared, the largest
    difference in ``grey_levels`` and, through the model, in ``probability``. No image: files that Pillow does not open."""

    images: int
    grey_levels: float
    probability: float


@checked
def judge_preparation(model: Model, held: Specimens) -> Preparation:
    """Prepare the specimens once more from their files, as another program would, and compare."""
    preprocess = model.about.preprocess
    if (
        len(preprocess.size) != 2
        or preprocess.crop != "none"
        or preprocess.bits != 8
        or preprocess.stain != "none"
        or not held.addresses
    ):
        return Preparation(0, 0.0, 0.0)
    about = {"size": preprocess.size, "channels": preprocess.channels, "fit": preprocess.fit}
    kept, made = [], []
    for row, address in enumerate(held.addresses):
        try:
            made.append(torch.from_numpy(prepare(address, about)))
            kept.append(row)
        except (OSError, ValueError, SyntaxError, ImageError):  # a DICOM file, a row of an array
            continue
    if not kept:
        return Preparation(0, 0.0, 0.0)
    pixels = torch.stack(made)
    levels = (pixels - held.pixels[kept]).abs().max().item() * preprocess.full
    with torch.inference_mode():
        said = torch.cat([whole(model)(part) for part in pixels.split(8)]).numpy()
    return Preparation(len(kept), round(levels, 3), float(np.abs(said - held.probabilities[kept]).max() / held.scale))
