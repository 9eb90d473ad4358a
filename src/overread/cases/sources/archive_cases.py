"""Cases from a MedMNIST archive (Yang et al. 2023), whose rows have numbers and no names: ``train_images``, ``train_labels`` and so on
in one ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.sources.catalogue import CATALOGUE
from overread.cases.sources.labels import one_label, several_findings
from overread.cases.sources.tables import NO_PATIENT, PART_NAMES, missing
from overread.core.errors import InputError, checked, one_of
from overread.tasks.target import TASKS
from overread.tasks.task import Task

_MAGIC = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@checked
def cases_of_archive(path: Path, positive: Sequence[str], task: type[Task] | None = None) -> Cases:
    """The rows of an archive under its labels. ``task``: what to take the labels for, classes or findings.

    Raises :class:`InputError` for labels that cannot be read, or not as that.
    """
    if task is not None:
        kind = next(word for word, asked in TASKS.items() if asked is task)
        one_of(kind, [k for k, asked in TASKS.items() if not asked.continuous], "the kind of an archive's labels")
    table, labels = _read_archive(path)
    notes: list[str] = []
    names = _class_names(path, labels)
    if names:
        notes.append("label: the names of the classes are those of the MedMNIST catalogue")
    made = table.assign(patient=table["case"], source="", view="", time="")
    if labels.shape[1] > 1:
        columns = names or [f"finding {i}" for i in range(labels.shape[1])]
        wanted, target, more = several_findings(pd.DataFrame(labels.astype(str), columns=columns), columns, positive)
    else:
        text = pd.Series(labels[:, 0]).astype(str)
        named_text = text.map({str(i): name for i, name in enumerate(names)}) if names else text
        wanted, target, more = one_label(named_text, positive, task, "labels", names or ())
    return Cases(pd.concat([made, wanted], axis=1), target, str(path.parent), (*notes, NO_PATIENT, *more))


def _read_archive(path: Path) -> tuple[pd.DataFrame, NDArray]:
    """A row per image (``image``, ``case``, ``split``) and the labels, shape (N, K); images are not loaded.

    Raises :class:`InputError` for a file that is not such an archive, or whose images and labels do not match.
    """
    shapes = _shapes(path)
    prefixes = [name.removesuffix("images") for name in shapes if name.endswith("images")]
    if not prefixes:
        raise InputError("the archive holds no images", given=f"{path}: {', '.join(shapes) or 'nothing'}",
                         todo="arrays must be called <part>_images and <part>_labels")  # fmt: skip
    rows, labels = [], []
    for prefix in prefixes:
        count = shapes[f"{prefix}images"][0]
        labels.append(_labels(path, f"{prefix}labels", count))
        rows.append(_rows(path.name, prefix, count))
    table = pd.concat(rows, ignore_index=True)
    if table.empty:
        raise InputError("the archive holds no images", given=str(path))
    return table, np.concatenate(labels)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {n.removesuffix(".npy"): _shape(archive, n) for n in archive.namelist() if n.endswith(".npy")}
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError("the archive cannot be read", given=f"{path}: {error}", todo="fetch the file again") from error


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(name) as member:
        shape, _, dtype = _MAGIC[np.lib.format.read_magic(member)](member)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded")
    return shape or (0,)


def _labels(path: Path, name: str, count: int) -> NDArray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels = archive[name]
    except KeyError as error:
        raise InputError(f"the archive holds no {name!r}", given=str(path)) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("the archive cannot be read", given=f"{path}: {error}", todo="fetch the file again") from error
    labels = labels.reshape(len(labels), -1) if labels.ndim else labels.reshape(0, 1)
    if len(labels) != count or labels.shape[1] == 0:
        raise InputError(f"{count:,} images but {len(labels):,} labels in {name!r}", given=str(path))
    return labels


def _rows(file: str, prefix: str, count: int) -> pd.DataFrame:
    part, number = prefix.rstrip("_"), np.arange(count).astype(str).astype(object)
    return pd.DataFrame({"image": f"{file}#{prefix}images/" + number, "case": (f"{part}-" if part else "image-") + number,
                         "split": PART_NAMES.get(part, part)})  # fmt: skip


def _class_names(path: Path, labels: NDArray) -> list[str] | None:
    """The names of the classes where the file is called like a set of the catalogue and its labels fit."""
    stem = path.stem.lower()
    entry = CATALOGUE.get(stem) or CATALOGUE.get(stem.rsplit("_", 1)[0])
    if entry is None:
        return None
    top = labels.shape[1] if labels.shape[1] > 1 else int(labels.max(initial=0)) + 1
    fits = top == len(entry.classes) or (labels.shape[1] == 1 and top < len(entry.classes))
    return list(entry.classes) if fits else None
