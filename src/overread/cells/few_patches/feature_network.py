"""One small network a feature, from about ten squares with it and ten without, and what it mistook for it.

Chen et al. 2017 (doi:10.1038/nmeth.4405) train a network of a few layers for each feature on hand-marked patches. Here as well: half of
the steps on what was marked; then the network looks through everything that is known to be free of the feature, and where it
answers most strongly is learned as well (hard negatives), in the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from overread.cells.few_patches.marked_patches import MIDDLE, MarkedPatch, MarkedPatches, framed, painted
from overread.cells.few_patches.pixel_source import PixelSource
from overread.core import random
from overread.core.errors import checked, require
from overread.core.progress import Progress, silent
from overread.learning.device import seeded
from overread.networks.small import initialise

#: Side of the square that answers are learned for, and rim of the image around it that the network sees.
SIDE, RIM = 64, 16
#: Beyond so many pixels nothing moves an answer: what a tile sees around it.
REACH = 40
#: Steps of training, images of a step, learning rate.
STEPS, BATCH, RATE = 200, 8, 4e-3
#: Hard negatives at most, how strong an answer must be, and how far apart they lie.
HARD, STRONG, APART = 24, 0.3, 24


class FeatureNetwork(nn.Module):
    """Images (B, 1, H, W), H and W even → answers (B, 1, H, W) on the logit scale: convolutions that widen at half the side."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.wide = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=step, dilation=step, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            for step in (1, 2, 4, 8, 1)
        )
        self.fine = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, padding=1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        )
        self.last = nn.Sequential(
            nn.Conv2d(width + width // 2, width // 2, 3, padding=1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        )
        self.answer = nn.Conv2d(width // 2, 1, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        for step in self.wide:
            y = y + step(y)
        y = functional.interpolate(y, scale_factor=2, mode="nearest")
        return self.answer(self.last(torch.cat([y, self.fine(x)], 1)))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is known of a square of an image: ``pixels`` with a rim around it, float32; ``aim`` and ``known`` without, bool."""

    pixels: NDArray[np.float32]
    aim: NDArray[np.bool_]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Learned:
    """A trained network of a feature: how many patches ``with_it`` and ``without`` it learned from, the ``hard`` negatives
    that were found, how strongly it had answered there (``mistaken``), and the mean loss of the last steps."""

    network: FeatureNetwork
    with_it: int
    without: int
    hard: int
    mistaken: float
    loss: float


@checked
def train_feature(
    marked: MarkedPatches, feature: str, sources: Mapping[str, PixelSource], *, exclusive: bool = True, steps: int = STEPS, seed: int = 0,
    device: str = "cpu", progress: Progress = silent,
) -> Learned:  # fmt: skip
    """Train the network of one feature on its marked patches.

    ``sources``: the images of the table by their addresses. ``exclusive``: what is painted as another feature is none of
    this. The same seed gives the same network. Raises :class:`ImageError` for a mask that does not fit its patch.
    """
    require(steps >= 2, "training takes steps", given=steps)
    yes = [lesson for patch in marked.of(feature, present=True) for lesson in _lessons(marked, patch, sources)]
    free = [lesson for patch in marked.of(feature, present=False) for lesson in _lessons(marked, patch, sources)]
    others = [lesson for other in marked.features if exclusive and other != feature for patch in marked.of(other, present=True)
              for lesson in _lessons(marked, patch, sources, mistaken=True)]  # fmt: skip
    no = free + others
    with seeded(seed, 0, 0, f"network of {feature}"):
        network = FeatureNetwork().to(device)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    hard: list[Lesson] = []
    strength, losses = 0.0, list[float]()
    for step in range(steps):
        if step == steps // 2:
            hard, strength = mined(network, no, device)
        batch = _batch(yes, no, hard, seed, step, feature)
        network.train()
        loss = _loss(network(batch[0].to(device)), batch[1].to(device), batch[2].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress(f"learning {feature}", step + 1, steps)
    network.eval()
    return Learned(network, len(yes), len(no), len(hard), strength, float(np.mean(losses[-20:])))


def _lessons(
    marked: MarkedPatches, patch: MarkedPatch, sources: Mapping[str, PixelSource], *, mistaken: bool = False
) -> list[Lesson]:
    """The squares of a patch, :data:`SIDE` pixels wide, with what is known of them. ``mistaken``: of another feature, whose
    painted pixels are none of this one."""
    source = sources[patch.image]
    side = patch.side
    if patch.mask:
        aim = painted(patch, marked.address(patch.mask), source.size)
        known = aim.copy() if mistaken else np.ones_like(aim)
    elif patch.present:
        y, x = np.mgrid[:side, :side]
        aim = np.hypot(y - side // 2, x - side // 2) <= MIDDLE
        known = aim.copy()
    else:
        aim, known = np.zeros((side, side), bool), np.ones((side, side), bool)
    if mistaken:
        aim = np.zeros_like(aim)
    inside = (
        framed(np.ones(source.size, bool), patch.top, patch.left, side, side) if _sticks_out(patch, source) else None
    )
    known = known if inside is None else known & inside
    starts = [0] if side <= SIDE else [*range(0, side - SIDE, SIDE), side - SIDE]
    found = []
    for down in starts:
        for right in starts:
            part = (down, right, SIDE, SIDE)
            pixels = source.window(patch.top + down - RIM, patch.left + right - RIM, SIDE + 2 * RIM, SIDE + 2 * RIM)
            lesson = Lesson(pixels, framed(aim, *part), framed(known, *part))
            if lesson.known.any():
                found.append(lesson)
    return found


def _sticks_out(patch: MarkedPatch, source: PixelSource) -> bool:
    return (
        patch.top < 0
        or patch.left < 0
        or patch.top + patch.side > source.size[0]
        or patch.left + patch.side > source.size[1]
    )


@checked
def mined(network: FeatureNetwork, no: Sequence[Lesson], device: str = "cpu") -> tuple[list[Lesson], float]:
    """Of squares without the feature those where a network answers most strongly, and how strongly on average.

    Of each square known pixels alone count, once around the strongest answer; at most :data:`HARD`, those above :data:`STRONG`.
    """
    network.eval()
    found: list[tuple[float, Lesson]] = []
    for lesson in no:
        with torch.no_grad():
            answer = (
                network(torch.from_numpy(lesson.pixels)[None, None].to(device))
                .sigmoid()[0, 0, RIM:-RIM, RIM:-RIM]
                .cpu()
                .numpy()
            )
        answer = np.where(lesson.known, answer, 0)
        while float(answer.max()) >= STRONG:
            y, x = np.unravel_index(int(answer.argmax()), answer.shape)
            near = np.zeros_like(lesson.known)
            near[max(0, y - APART) : y + APART + 1, max(0, x - APART) : x + APART + 1] = True
            found.append((float(answer[y, x]), Lesson(lesson.pixels, np.zeros_like(lesson.aim), lesson.known & near)))
            answer = np.where(near, 0, answer)
    found.sort(key=lambda pair: -pair[0])
    kept = found[:HARD]
    return [lesson for _, lesson in kept], float(np.mean([strength for strength, _ in kept])) if kept else 0.0


def _batch(yes: list[Lesson], no: list[Lesson], hard: list[Lesson], seed: int, step: int, feature: str) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Half of the squares with the feature; of the others half hard ones, once there are some; each turned and recoloured."""
    drawn = random.uniform(seed, step, np.arange(BATCH * 5), f"squares of {feature}").reshape(BATCH, 5)
    made = []
    for place, u in enumerate(drawn):
        pool = yes if place < BATCH // 2 else hard if hard and place % 2 else no
        lesson = pool[int(u[0] * len(pool))]
        turn = int(u[1] * 8)
        pixels, aim, known = (_turned(part, turn) for part in (lesson.pixels, lesson.aim, lesson.known))
        pixels = pixels * np.float32(0.8 + 0.4 * u[2]) + np.float32(0.4 * (u[3] - 0.5))
        noise = random.normal(seed, step, np.arange(pixels.size) + place * pixels.size, f"noise of {feature}")
        made.append((pixels + np.float32(0.15 * u[4]) * noise.reshape(pixels.shape).astype(np.float32), aim, known))
    x, aims, knowns = zip(*made, strict=True)
    return (torch.from_numpy(np.stack(x))[:, None], torch.from_numpy(np.stack(aims).astype(np.float32))[:, None],
            torch.from_numpy(np.stack(knowns).astype(np.float32))[:, None])  # fmt: skip


def _turned(pixels: NDArray, turn: int) -> NDArray:
    """One of the eight orientations of a square."""
    pixels = pixels.T if turn & 4 else pixels
    return np.ascontiguousarray(pixels[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1])


def _loss(outputs: Tensor, aim: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of known pixels, and one minus their Dice over the batch (Milletari 2016)."""
    inner = outputs[..., RIM:-RIM, RIM:-RIM]
    each = functional.binary_cross_entropy_with_logits(inner, aim, reduction="none") * known
    said = inner.sigmoid() * known
    overlap = 2 * (said * aim).sum() / ((said + aim * known).sum() + 1.0)
    return each.sum() / known.sum().clamp(min=1) + 1 - overlap
