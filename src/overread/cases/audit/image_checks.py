"""Is a new image like those that a model was trained on? What these were in a few numbers, and what is checked of one.

The checks are those of the audit that make sense of one image, and further ones that compare it with the training part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.audit import BORDER, Finding, modes, sizes
from overread.cases.audit.described_rows import Severity
from overread.cases.audit.fingerprints import BLANK
from overread.core.errors import InputError, checked
from overread.core.files import FORMAT, build, fingerprint, hashed, read_json, write_json
from overread.core.phrases import count
from overread.images.image import DOUBT
from overread.images.perceptual_hash import THUMB

#: Beside the weights of a run: what its training images were.
FILE = "training_images.json"
#: A side so many times smaller or larger than any of training is much smaller or larger.
SIZE_FACTOR = 2.0
#: A shape (width over height) so many times beyond any of training is another shape.
SHAPE_FACTOR = 1.25
#: Brightness, from 0 to 1, so far beyond any of training is another brightness.
BRIGHTNESS = 0.05
#: A negative is told only where 19 of 20 training images are laid out so alike: correlation with their mean likeness.
ALIKE = 0.2
#: What is so rare in training (a share) is not what the model was trained on.
RARE = 0.01

Range = tuple[float, float]


@dataclass(frozen=True)
class TrainingImages:
    """What the images were that a model was trained on.

    ``images``: how many; 0 where only the audit's counts are known. ``short`` and ``long``: the smallest and the
    largest shorter and longer side in pixels, ``depth`` of volumes in slices, ``shape`` width over height, ``mean`` the
    brightness from 0 to 1, ``border`` the largest part that is black border. ``modes``, ``modalities`` and
    ``body_parts``: how many images of each. ``text`` and ``circle``: images with burned-in text, with a circular field.
    ``likeness``: their mean picture, 32 × 32 bytes in rows; ``layout``: the correlation with it that 19 of 20 images
    reach. ``seen``: hashes, by ``salt``, of the pixels of every image of training and tuning.
    """

    images: int = 0
    short: Range = (0.0, math.inf)
    long: Range = (0.0, math.inf)
    depth: Range = (0.0, math.inf)
    shape: Range = (0.0, math.inf)
    mean: Range = (0.0, 1.0)
    border: float = 1.0
    modes: dict[str, int] = field(default_factory=dict, hash=False)
    modalities: dict[str, int] = field(default_factory=dict, hash=False)
    body_parts: dict[str, int] = field(default_factory=dict, hash=False)
    text: int = 0
    circle: int = 0
    likeness: tuple[int, ...] = ()
    layout: float = -1.0
    seen: tuple[str, ...] = ()
    salt: str = ""
    format: int = FORMAT

    @classmethod
    def of(cls, prints: pd.DataFrame, table: pd.DataFrame, train: NDArray[np.int64], tuning: NDArray[np.int64]) -> TrainingImages:  # fmt: skip
        """Those at the positions ``train`` of fingerprints and of their table of cases; with ``tuning`` they were seen."""
        readable = (prints["error"] == "").to_numpy()
        train, seen = train[readable[train]], np.concatenate([train, tuning])
        rows, described, known = prints.iloc[train], table.iloc[train], prints.iloc[seen[readable[seen]]]
        pixels = sorted(set(known["pixels"]))
        salt = fingerprint(pixels)
        likeness, layout = _likeness(rows)
        both = rows[["height", "width"]]
        return cls(
            len(rows), _range(both.min(axis=1)), _range(both.max(axis=1)), _range(rows["depth"]), _range(rows["width"] / rows["height"]),
            _range(rows["mean"]), float(rows["border"].max()) if len(rows) else 1.0, _counts(modes(rows)), _counts(described.get("modality")), _counts(described.get("body_part")),
            int((rows["text"] > 0).sum()), int(rows["circle"].sum()), likeness, layout, tuple(sorted(hashed(pixels, salt))), salt,
        )  # fmt: skip

    @classmethod
    def of_counts(cls, counts: Mapping[str, Any]) -> TrainingImages:
        """What the ``counts`` of an audit tell of the whole table: the ranges of the sizes, and the modes.

        >>> TrainingImages.of_counts({"sizes": {"64×32": 3, "10×20": 1}}).short == (10, 32)
        True
        """
        listed = dict(counts.get("sizes") or {})
        if not listed or "other" in listed:
            return cls(modes=_plain(counts.get("modes")))
        sides = [[float(side) for side in name.split("×")] for name in listed]
        flat = np.array([each[-2:] for each in sides])
        depth = [each[0] if len(each) == 3 else 1.0 for each in sides]
        short, long = flat.min(axis=1), flat.max(axis=1)
        return cls(0, (short.min(), short.max()), (long.min(), long.max()), (min(depth), max(depth)),
                   (float((flat[:, 1] / flat[:, 0]).min()), float((flat[:, 1] / flat[:, 0]).max())), modes=_plain(counts.get("modes")))  # fmt: skip

    def has_seen(self, pixels: str) -> bool:
        """Whether an image with this hash of its decoded pixels was in training or tuning."""
        return bool(self.seen) and hashed([pixels], self.salt)[0] in self._every

    @cached_property
    def _every(self) -> frozenset[str]:
        return frozenset(self.seen)

    def save(self, folder: str | Path) -> Path:
        """Write :data:`FILE` into ``folder``, and give the folder."""
        write_json(Path(folder) / FILE, self)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> TrainingImages:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing or damaged."""
        held = read_json(Path(folder) / FILE)
        if not isinstance(held, dict):
            raise InputError(f"{FILE} is damaged", given=type(held).__name__, todo="train the model again")
        free = {name: (0.0, math.inf) for name in ("short", "long", "depth", "shape") if None in (held.get(name) or ())}
        return build(cls, {**held, **free}, where=FILE)


@checked
def image_findings(
    image: Mapping[str, Any], header: Mapping[str, str], training: TrainingImages
) -> tuple[Finding, ...]:
    """What is wrong with one image for a model with this training, worst first.

    ``image``: as :func:`overread.images.perceptual_hash.description` tells; ``header``: ``modality``, ``body_part`` and
    ``burned_in`` of DICOM, or nothing.
    """
    looked = _Look(image, header, training)
    found = [finding for check in CHECKS if (finding := check(looked)) is not None]
    return tuple(sorted(found, key=lambda one: ("error", "warning", "note").index(one.severity)))


@checked
def unchecked(training: TrainingImages) -> tuple[str, ...]:
    """What cannot be checked of an image, each with the reason."""
    if not training.images:
        return ("brightness, layout and whether the very image was in training: the run does not say what its training images were, since it was trained by an older overread",)  # fmt: skip
    return () if training.modalities else ("modality: the run does not say which one its training images have",)


# -- the checks, one function each ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    image: Mapping[str, Any]
    header: Mapping[str, str]
    training: TrainingImages

    @property
    def sides(self) -> tuple[int, int]:
        """The shorter and the longer side."""
        height, width = int(self.image["height"]), int(self.image["width"])
        return min(height, width), max(height, width)

    @property
    def size(self) -> str:
        return str(sizes(pd.DataFrame([dict(self.image)])).iloc[0])


def _found(kind: str, severity: Severity, message: str, advice: str) -> Finding:
    return Finding(kind, severity, message, advice, 1)


def _blank(look: _Look) -> Finding | None:
    if look.image["std"] > BLANK:
        return None
    return _found("blank", "error", "the image is blank or nearly constant", "What is said of it means nothing.")


def _size(look: _Look) -> Finding | None:
    (short, long), training = look.sides, look.training
    small, large = short * SIZE_FACTOR < training.short[0], long > training.long[1] * SIZE_FACTOR
    if not (small or large):
        return None
    most = f"{training.short[0]:g} to {training.long[1]:g} pixels a side"
    return _found("size", "warning", f"the image is much {'smaller' if small else 'larger'} than those of training: {look.size}, there {most}",
                  "Give it in its original size: what a thumbnail or an enlargement shows is not what the model learned.")  # fmt: skip


def _slices(look: _Look) -> Finding | None:
    depth, (low, high) = int(look.image["depth"]), look.training.depth
    if depth <= 1 or (low <= depth * SIZE_FACTOR and depth <= high * SIZE_FACTOR):
        return None
    return _found("slices", "warning", f"the volume has {count(depth, 'slice')}, those of training {low:g} to {high:g}",
                  "See that the series is whole, and the right one.")  # fmt: skip


def _shape(look: _Look) -> Finding | None:
    shape, (low, high) = int(look.image["width"]) / int(look.image["height"]), look.training.shape
    if low / SHAPE_FACTOR <= shape <= high * SHAPE_FACTOR:
        return None
    ranged = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return _found("shape", "warning", f"the image has another shape than those of training: width over height {shape:.2f}, there {ranged}",
                  "Do not stretch it; see that nothing was cut off or put beside it.")  # fmt: skip


def _colour(look: _Look) -> Finding | None:
    every, mode = look.training.modes, str(look.image["mode"])
    if not every or mode not in ("grey", "colour"):
        return None
    same = sum(many for name, many in every.items() if name.startswith(mode))
    if same > RARE * sum(every.values()):
        return None
    other = "grey" if mode == "colour" else "in colour"
    this = "in colour" if mode == "colour" else "grey"
    return _found("colour", "warning", f"the image is {this}, those of training are {other}", "See that it is the kind of image that the model is for.")  # fmt: skip


def _brightness(look: _Look) -> Finding | None:
    mean, (low, high) = float(look.image["mean"]), look.training.mean
    if low - BRIGHTNESS <= mean <= high + BRIGHTNESS:
        return None
    return _found("brightness", "warning", f"the image is {'darker' if mean < low else 'brighter'} than any of training: mean {mean:.2f} of 0 to 1, there {low:.2f} to {high:.2f}",
                  "See that its window is right, and that it is no negative.")  # fmt: skip


def _negative(look: _Look) -> Finding | None:
    if look.training.layout < ALIKE:
        return None
    fit = _correlation(_thumbs([look.image["thumb"]]), np.array(look.training.likeness, np.float64))[0]
    if fit > -look.training.layout:
        return None
    return _found("negative", "warning", f"the image looks like a negative of those of training (correlation with their mean picture {fit:.2f}, theirs {look.training.layout:.2f} or more)",
                  "Invert it: the file says MONOCHROME2 of pixels that are MONOCHROME1, or the other way round.")  # fmt: skip


def _text(look: _Look) -> Finding | None:
    stated = look.header.get("burned_in") == "YES"
    if not (look.image["text"] or stated):
        return None
    many, training = int(look.image["text"]), look.training
    often = (
        f", as {training.text / training.images:.0%} of those of training do"
        if training.text > RARE * training.images > 0
        else ""
    )
    how = f"the image seems to hold burned-in text in {count(many, 'place')}" if many else "the header says that text is burned into the image"  # fmt: skip
    return _found("burned-in", "note" if often else "warning", how + often,
                  "Text can name the patient, and can tell a model where an image comes from: mask it or cut it off.")  # fmt: skip


def _modality(look: _Look) -> Finding | None:
    return _other(look, "modality", "modality", look.training.modalities)


def _body_part(look: _Look) -> Finding | None:
    return _other(look, "body-part", "body_part", look.training.body_parts)


def _other(look: _Look, kind: str, name: str, known: Mapping[str, int]) -> Finding | None:
    value = look.header.get(name, "").upper()
    if not value or not known or value in {each.upper() for each in known}:
        return None
    listed = ", ".join(sorted(known))[:80]
    return _found(kind, "error" if kind == "modality" else "warning", f"the {name.replace('_', ' ')} is {value[:20]}, that of training {listed}",
                  "The model was not made for it.")  # fmt: skip


def _frame(look: _Look) -> Finding | None:
    border, training = float(look.image["border"]), look.training
    if border <= max(BORDER, training.border) or not training.images:
        return None
    return _found("black-borders", "note", f"{border:.0%} of the image are black border, of those of training at most {training.border:.0%}",
                  "Cut it off, so that the picture fills the image as in training.")  # fmt: skip


def _doubtful(look: _Look) -> Finding | None:
    notes = [note.removeprefix(DOUBT) for note in str(look.image["notes"]).split("; ") if note.startswith(DOUBT)]
    if not notes:
        return None
    return _found("doubtful-pixels", "warning", f"the header contradicts the pixels: {'; '.join(notes)}", "See that it looks as it should.")  # fmt: skip


CHECKS: tuple[Callable[[_Look], Finding | None], ...] = (
    _blank, _modality, _body_part, _negative, _colour, _size, _slices, _shape, _brightness, _text, _frame, _doubtful,
)  # fmt: skip


# -- in numbers ---------------------------------------------------------------------------------------------------


def _range(values: pd.Series) -> Range:
    return (float(values.min()), float(values.max())) if len(values) else (0.0, math.inf)


def _counts(values: pd.Series | None) -> dict[str, int]:
    if values is None:
        return {}
    filled = values.astype(str).str.strip()
    return {str(name): int(many) for name, many in filled[filled != ""].value_counts().sort_index().items()}


def _plain(held: Any) -> dict[str, int]:
    return {str(name): int(many) for name, many in dict(held or {}).items() if name != "other"}


def _thumbs(held: Sequence[bytes]) -> NDArray[np.float64]:
    """(N, 1024) the likenesses, a little blurred."""
    pictures = [cv2.blur(np.frombuffer(one, np.uint8).reshape(THUMB, THUMB), (5, 5)) for one in held]
    return np.stack(pictures).reshape(len(pictures), -1).astype(np.float64)


def _correlation(rows: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) of each row with ``one``; 0 where one of them is constant."""
    a, b = rows - rows.mean(axis=1, keepdims=True), one - one.mean()
    length = np.sqrt((a**2).sum(axis=1) * (b**2).sum())
    return np.asarray(a @ b / np.where(length > 0, length, 1.0))


def _likeness(rows: pd.DataFrame) -> tuple[tuple[int, ...], float]:
    """The mean picture, and the correlation with it that 19 of 20 reach; of at most 5,000 evenly spaced images."""
    if not len(rows):
        return (), -1.0
    some = _thumbs(rows["thumb"].iloc[np.unique(np.linspace(0, len(rows) - 1, 5000).astype(int))].tolist())
    mean = np.rint(some.mean(axis=0))
    return tuple(mean.astype(int).tolist()), float(np.quantile(_correlation(some, mean), 0.05))
