"""Images with labels, from tensors, a loader or a data set: whether they belong together, and who is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from overread.core.phrases import count
from overread.learning.preflight.faults import Attempt, Fault, shape_of
from overread.learning.preflight.trial import FEW_IMAGES, Bench, of_judge


class KeptGenerator:
    """A loader's own generator stands afterwards where it stood."""

    def __init__(self, source: Any) -> None:
        found = getattr(source, "generator", None)
        self.generator = found if isinstance(found, torch.Generator) else None

    def __enter__(self) -> None:
        self.state = None if self.generator is None else self.generator.get_state()

    def __exit__(self, *_: object) -> None:
        if self.generator is not None and self.state is not None:
            self.generator.set_state(self.state)


def _is_pair(source: Any) -> bool:
    return isinstance(source, (tuple, list)) and len(source) == 2 and hasattr(source[0], "shape") and hasattr(source[0], "ndim")  # fmt: skip


def drawn_from(source: Any, name: str) -> tuple[tuple[Tensor, Tensor] | None, list[Fault]]:
    """The first images and labels of a source; None with the reason where there are none."""
    with Attempt() as tried:
        if isinstance(source, Dataset):
            made = default_collate([source[i] for i in range(min(2 * FEW_IMAGES, len(source)))])  # type: ignore[arg-type]
        else:
            made = source if _is_pair(source) else next(iter(source))
        x, y = (torch.as_tensor(part) for part in made[:2])
        if x.ndim < 1 or y.ndim < 1 or not len(x):
            raise ValueError("no images")
    if tried.error is not None:
        shown = type(source).__name__ if isinstance(source, (Dataset, tuple, list)) or not hasattr(source, "__iter__") else f"{type(source).__name__}: {tried.said}"  # fmt: skip
        return None, [Fault("batch", "error", f"the {name} is no pair of images and labels", shown,
                            "give (images, labels) as tensors or arrays, or a loader or data set of such pairs")]  # fmt: skip
    if len(x) != len(y):
        return None, [Fault("alignment", "error", f"the {name} has not one label for each image",
                            f"images {shape_of(x)}, labels {shape_of(y)}", "give as many labels as images, in the same order")]  # fmt: skip
    return (x, y), []


def prints_of(x: Tensor) -> list[bytes]:
    return [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in x.detach().cpu().contiguous()]  # fmt: skip


def of_pairs(source: Any) -> Iterator[Fault]:
    """Whether an image has the same label in the batch, in the next pass, and in the data set."""
    seen: dict[bytes, Tensor] = {}
    torn = same = 0

    def note(x: Tensor, y: Tensor) -> None:
        nonlocal torn, same
        for key, label in zip(prints_of(x), y.cpu()):
            if key in seen:
                same += 1
                torn += not torch.equal(seen[key], label)
            seen.setdefault(key, label)

    with Attempt():
        if _is_pair(source):
            note(*(torch.as_tensor(part) for part in source))
        else:
            data: Any = source if isinstance(source, Dataset) else getattr(source, "dataset", None)
            if data is not None:
                for i in range(min(len(data), 2000)):
                    x, y = data[i][:2]
                    note(torch.as_tensor(x)[None], torch.as_tensor(y)[None])
            passes = 0 if isinstance(source, Dataset) else 2
            for _ in range(passes):
                for x, y, *_rest in islice(iter(source), 8):
                    note(torch.as_tensor(x), torch.as_tensor(y))
    if torn:
        yield Fault("alignment", "error", "the same image comes with different labels: labels are not aligned with images",
                    f"{torn} of {same} images seen again", "shuffle images and labels by one and the same permutation")  # fmt: skip
    size, rows = getattr(source, "batch_size", None), len(getattr(source, "dataset", ()) or ())
    if size and size > 1 and rows % size == 1 and not getattr(source, "drop_last", True):
        yield Fault("batch-of-one", "warning", "the last batch of each pass has one image, which batch normalisation cannot use",
                    f"{rows} images in batches of {size}", "drop_last=True, or another batch size")  # fmt: skip


def of_patients(training: Sequence[object], validation: Sequence[object]) -> list[Fault]:
    shared = set(training) & set(validation)
    if not shared:
        return []
    return [Fault("same-patient", "error", "the same patients are in training and in validation",
                  f"{len(shared)} of {count(len(set(validation)), 'patient')} of the validation",
                  "split by patient, not by image: ov.split(cases) does")]  # fmt: skip


def of_validation(bench: Bench, source: Any) -> Iterator[Fault]:
    """Whether judging is the same twice, and on other images than those that teach."""
    if source is None:
        return
    if callable(source) and not hasattr(source, "__iter__") and not isinstance(source, Dataset):
        yield from of_judge(bench, source)
        return
    (first, faults), (again, _) = drawn_from(source, "validation"), drawn_from(source, "validation")
    yield from faults
    if first is None or again is None:
        return
    same = first[0].shape == again[0].shape and torch.equal(first[0], again[0])
    if not same:
        moved = sorted(prints_of(first[0])) == sorted(prints_of(again[0]))
        what = (
            "the validation images come in another order each time"
            if moved
            else "the validation images differ from pass to pass: they are augmented or shuffled"
        )
        yield Fault(
            "validation",
            "warning" if moved else "error",
            what,
            f"{shape_of(first[0])}, drawn twice",
            "no random transform and shuffle=False for validation",
        )
    if shared := len(set(prints_of(bench.x)) & set(prints_of(first[0]))):
        yield Fault(
            "same-images",
            "error",
            "the same images teach and validate",
            f"{shared} of {len(first[0])}",
            "split by patient before anything else",
        )
