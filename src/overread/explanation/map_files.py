"""Maps as a run keeps them: ``explanations/maps.json`` with a picture of each; needs no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from overread.core.errors import InputError, checked
from overread.core.files import publish, read_rows, sha256, write_bytes, write_rows
from overread.explanation.explanation import Explanation, stem_of

#: Where the pictures lie, in the run's folder, and the list of them.
FOLDER, LIST = "explanations/maps", "explanations/maps.json"


@dataclass(frozen=True)
class MapEntry:
    """A map of a run: ``image`` is the picture that the network saw, ``map`` the same with the map over it, both PNG, as
    paths in the run's folder; ``nothing``: no value is above 0. ``checks``: number by name, see ``verdict``.

    The values lie beside the picture, as ``.npy`` of float32, (V, [D,] H, W).
    """

    case: str
    target: str
    method: str
    layer: str = ""
    image: str = ""
    map: str = ""
    probability: float = math.nan
    verdict: str = ""
    nothing: bool = False
    checks: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other maps."""
        return (self.case, self.target, self.method, self.layer, self.map)


@checked
def keep_map(found: Explanation, folder: str | os.PathLike[str], *, withheld: bool = False) -> MapEntry:
    """Write the pictures and the values of a map into a run's ``folder``.

    ``withheld``: the image is shown nowhere, since its pixels may name a patient; the map stands on grey.
    """
    home, stem = Path(folder) / FOLDER, stem_of(found)
    if withheld:
        found = found.on_grey()
    seen = found.picture(mapped=False)
    image = f"seen-{sha256(seen)[:16]}.png"  # one file for all methods
    if not withheld:
        write_bytes(home / image, seen)
    write_bytes(home / f"{stem}.png", found.picture())
    with publish(home / f"{stem}.npy") as beside, beside.open("wb") as file:
        np.save(file, found.maps, allow_pickle=False)
    return MapEntry(
        found.case, found.target, found.method, found.layer, "" if withheld else f"{FOLDER}/{image}", f"{FOLDER}/{stem}.png",
        found.probability, found.verdict, found.nothing, found.checks.numbers if found.checks else {},
    )  # fmt: skip


@checked
def write_entries(folder: str | os.PathLike[str], entries: Sequence[MapEntry]) -> Path:
    """Write the list of a run's maps, and remove the pictures that it no longer names."""
    home = Path(folder)
    path = write_rows(home / LIST, entries)
    named = {Path(each).stem for entry in entries for each in (entry.image, entry.map)}
    for old in (home / FOLDER).glob("*"):
        if old.suffix in (".png", ".npy") and old.stem not in named:
            with suppress(FileNotFoundError):
                old.unlink()
    return path


@checked
def read_entries(folder: str | os.PathLike[str]) -> tuple[MapEntry, ...]:
    """The maps of a run; none where it has no such list. Raises :class:`InputError` where it is damaged."""
    try:
        return read_rows(MapEntry, Path(folder) / LIST)
    except InputError as error:
        raise InputError("maps.json does not hold a list of maps", given=f"{Path(folder) / LIST}: {error.what}",
                         todo="make them again: overread explain") from error  # fmt: skip
