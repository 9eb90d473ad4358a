"""What a model sees of cases: their images as its preprocessing makes them, in batches, in the order of the table.

Everything that asks a trained network, a prediction, a saliency map, an embedding, asks it by these batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from overread.cases.arrange import arrange
from overread.cases.cases import Cases, paths
from overread.cases.extra_inputs import extra_values
from overread.cases.sources.layout import Layout
from overread.cases.sources.read_cases import read_images
from overread.cases.sources.tables import PLAIN
from overread.core.errors import ImageError, checked
from overread.core.files import cores
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.images.examine import examine
from overread.images.preprocess import Preprocess, geometry, load
from overread.learning.device import pick_device, to_tensor
from overread.learning.loader import ahead, side_by_side
from overread.learning.model import Model
from overread.networks.numeric_inputs import with_planes

_BATCH = 32

#: Hears of an image: its row, its description, and its header.
Note: TypeAlias = Callable[[int, Mapping[str, Any], Mapping[str, str]], None]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a model sees of B cases.

    ``x``: normalised, (B, C, [D,] H, W) of a model that sees images one by one, (B, V, C, [D,] H, W) with NaN for missing
    images of one that sees those of a case together; after the channels a plane for each number that the model is shown
    beside the pixels. ``rows`` (B, V): the rows of the table that the images stand in, −1
    where one is missing or cannot be read; V = 1 of images one by one, of which a case may have several. ``cases``: their
    names, (B,). ``pixels``: the images of each before normalisation, ([D,] H, W, C), None where one is missing.
    """

    cases: tuple[str, ...]
    rows: NDArray[np.int64]
    x: Tensor
    pixels: tuple[tuple[NDArray[Any] | None, ...], ...]

    def __len__(self) -> int:
        return len(self.cases)


@checked
def new_cases(
    model: Model, path: str | os.PathLike[str], *, names: str = "", roles: Mapping[str, str | None] | None = None,
    layout: Layout = PLAIN, keep: Sequence[str] = (), progress: Progress = silent, learned: Callable[[Cases], Cases] | None = None,
) -> Cases:  # fmt: skip
    """An image, a folder, an export of DICOM files or a table, as cases of what the model was taught: in its planes, under
    its codes, so that its patients are known again.

    ``names``: ``hash`` or ``keep``, as the model was made if blank. ``roles``: columns of a table by what they hold
    (``image``, ``patient``, ``label`` …). ``learned``: labels under the classes that the model learned. Raises as :func:`overread.cases.sources.read_cases.read_images`.
    """
    about = model.about
    given = {role: column for role, column in (roles or {}).items() if column}
    return read_images(path, model.target, names=names or ("hash" if about.names_salt else "keep"), salt=about.names_salt, planes=about.planes,
                       progress=progress, layout=layout, keep=keep, learned=learned, **given)  # fmt: skip


@checked
def inputs(
    model: Model, cases: Cases, *, device: str = "", threads: int = 0, batch: int = _BATCH, errors: dict[int, str] | None = None,
    progress: Progress = silent, say: Say = unheard, doing: str = "reading", sources: Sequence[str | bytes] = (),
    note: Note | None = None,
) -> Iterator[Inputs]:  # fmt: skip
    """Batches of what the model sees of ``cases``, on its device; cases of which nothing can be read are left out.

    ``errors`` takes the reason for each row of the table that cannot be read, without the name of its file. ``batch``:
    images at a time, at most. ``say`` hears what a limit leaves out or a case lacks; ``progress`` what is done of all.
    ``sources``: the address or the bytes of each row, in place of the table's addresses. ``note`` hears of each image
    that was read its row, its description and its header, see :func:`overread.images.examine.examine`.
    Raises :class:`InputError` where images cannot be told apart as the model's fusion needs, or where the table lacks a
    number that the model is shown beside the pixels.
    """
    about, found = model.about, np.arange(len(cases.table))[:, None]
    extra = [each.column for each in about.extra_inputs]
    numbers = extra_values(cases, extra) if extra else None
    if about.recipe.fusion != "single" and len(found):
        arranged = arrange(cases, about.recipe.fusion, views=about.views, most=about.recipe.images_per_case)
        found = arranged.rows
        for line in arranged.notes:
            say(f"  {line}")
    wrong = {} if errors is None else errors
    return _batches(
        model, cases, found, pick_device(device), threads or cores(), batch, wrong, progress, say, doing,
        sources or paths(cases), note, numbers,
    )  # fmt: skip


def _batches(
    model: Model, cases: Cases, found: NDArray[np.int64], device: str, threads: int, batch: int, errors: dict[int, str],
    progress: Progress, say: Say, doing: str, sources: Sequence[str | bytes], note: Note | None,
    numbers: NDArray[np.float32] | None,
) -> Iterator[Inputs]:  # fmt: skip
    """The batches of cases whose images stand in the rows ``found`` (M, V) of the table, −1 where there is none."""
    together, names = model.about.recipe.fusion != "single", cases.table["case"].to_numpy()
    size = max(1, batch // found.shape[1])
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    wanted = [int(row) for part in parts for row in part[part >= 0]]
    counts = [int((part >= 0).sum()) for part in parts]
    done, wrong = 0, dict[int, str]()
    heard = None if note is None else (lambda i, image, header: note(wanted[i], image, header))
    decoded = _decoded([sources[row] for row in wanted], counts, model.about.preprocess, threads, wrong, heard)
    for part, (which, pixels) in zip(parts, ahead(decoded), strict=True):
        read = np.array([wanted[i] for i in which], np.int64)
        rows = np.where(np.isin(part, read), part, -1)
        some = (rows >= 0).any(axis=1)
        if len(read):
            rows = rows[some]
            place = {int(row): i for i, row in enumerate(read)}
            x = to_tensor(pixels, model.about.preprocess, model.mean_image, device)
            x = with_planes(x, None if numbers is None else numbers[read])
            x = side_by_side(x, rows >= 0) if together else x
            images = tuple(tuple(pixels[place[int(row)]] if row >= 0 else None for row in case) for case in rows)
            yield Inputs(tuple(map(str, names[rows.max(axis=1)])), rows, x, images)
        done += len(part)
        progress(doing, done, len(found))
    progress(doing, len(found), len(found))
    errors.update({wanted[i]: reason for i, reason in wrong.items()})
    if wrong and together:
        dark = count(len({names[wanted[i]] for i in wrong}), "case")
        say(f"  {count(len(wrong), 'image')} of {dark} cannot be read and count as missing")


def _decoded(
    sources: Sequence[str | bytes],
    sizes: Iterable[int],
    preprocess: Preprocess,
    workers: int,
    errors: dict[int, str],
    note: Note | None = None,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """``(rows, images)`` in batches of these sizes; what cannot be read goes to ``errors``, without the name of its file."""
    tasks, function = ((source,) for source in sources), load if note is None else examine
    with closing(contained(function, tasks, common=(geometry(preprocess),), workers=workers)) as found:
        start = 0
        for size in sizes:
            made = list(islice(found, size))
            wrong = {i: item.reason or str(item) for i, item in enumerate(made) if isinstance(item, ImageError)}
            errors.update({start + i: reason for i, reason in wrong.items()})
            good = [i for i in range(len(made)) if i not in wrong]
            if note is not None:
                for i in good:
                    made[i], image, header = made[i]
                    note(start + i, image, header)
            images = np.stack([made[i] for i in good]) if good else np.empty(0)
            yield np.array([start + i for i in good], np.int64), images
            start += size
