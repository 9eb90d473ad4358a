"""The map of one answer, with everything that says of what it is a map; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, checked, require
from overread.core.files import EqualByDigest, build, fingerprint, publish, read_json, sha256, write_bytes, write_json
from overread.explanation.methods import Method, method_of
from overread.explanation.overlay import grey_or_colour, overlay, picture, strongest
from overread.explanation.verdict import Checks

#: What a map is that has no value above 0.
NOTHING = "All values are 0 or below: this map says nothing for the target."


@dataclass(frozen=True, eq=False)
class Explanation(EqualByDigest, Shown):
    """Where a model looked when it answered, by one method.

    ``maps`` (V, H, W) or of volumes (V, D, H, W), float32 at the size of what the network sees, NaN for an image that the
    case lacks; ``images`` (V, …, C) those images before normalisation. ``views``: what each of the V is called, blank where
    it stands alone. ``target``: the class, finding or quantity; ``probability``: the model's, of a quantity the value.
    ``layer``: blank where the method looks at none. ``notes``: what was chosen or left out. ``checks``: whether the map
    is worth anything (:mod:`overread.explanation.sanity`), None where that was not asked.
    """

    case: str
    target: str
    method: str
    layer: str
    maps: NDArray[np.float32]
    images: NDArray[Any]
    probability: float
    views: tuple[str, ...] = ("",)
    notes: tuple[str, ...] = ()
    checks: Checks | None = None

    def __post_init__(self) -> None:
        method_of(self.method)
        require(self.maps.ndim in (3, 4) and self.maps.shape == self.images.shape[:-1], "a map has the size of its image",
                given=f"{self.maps.shape} and {self.images.shape}")  # fmt: skip
        require(len(self.views) == len(self.maps), "each image of the case has a name", given=self.views)

    @property
    def about(self) -> Method:
        """The method's row in the table."""
        return method_of(self.method)

    @property
    def map(self) -> NDArray[np.float32]:
        """The map of a single image (H, W) or (D, H, W); of several all of them (V, …)."""
        return self.maps[0] if len(self.maps) == 1 else self.maps

    @property
    def image(self) -> NDArray[Any]:
        """The image that belongs to :attr:`map`, with its channels last."""
        return self.images[0] if len(self.images) == 1 else self.images

    @property
    def nothing(self) -> bool:
        """Whether no value is above 0, so that nothing is shown that speaks for the target."""
        return not bool((np.nan_to_num(self.maps) > 0).any())

    @property
    def digest(self) -> str:
        """Hash of the map, the image and what is said of them."""
        return fingerprint([self._words(), *(sha256(np.ascontiguousarray(each).data) for each in (self.maps, self.images))])  # fmt: skip

    def _words(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("maps", "images")}

    @property
    def title(self) -> str:
        """Method, layer and target in one line, as every figure says them."""
        layer = f" at {self.layer}" if self.layer else ""
        return f"{self.about.title}{layer}, for {self.target}"

    @property
    def said(self) -> tuple[str, ...]:
        """What a reader must know before believing the map: that it says nothing, and the verdict on it."""
        return (*([NOTHING] if self.nothing else []), *([self.verdict] if self.verdict else []))

    def __str__(self) -> str:
        return "\n  ".join([f"{self.case}: {self.title} ({self.probability:.3g})", *self.notes, *self.said])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        """What the checks come to, in a sentence; blank where there are none."""
        return self.checks.verdict if self.checks else ""

    def judged(self, checks: Checks) -> Self:
        """The same with its checks."""
        return replace(self, checks=checks)

    def on_grey(self) -> Self:
        """The same with grey in the place of the images: for those whose pixels may name a patient."""
        return replace(self, images=np.full_like(self.images, np.iinfo(self.images.dtype).max // 2))

    # -- to look at ---------------------------------------------------------------------------------------------------

    @property
    def panels(self) -> tuple[tuple[str, NDArray[Any], NDArray[np.float32]], ...]:
        """What a person is shown: ``(name, image (H, W, C), map (H, W))``; missing images are left out.

        Of a volume three slices at right angles, through the place where the map is strongest.
        """
        shown = []
        for view, values, image in zip(self.views, self.maps, self.images, strict=True):
            if np.isnan(values).all():
                continue
            if values.ndim == 2:
                shown.append((view, image, values))
                continue
            peak = np.unravel_index(int(np.argmax(np.nan_to_num(values))), values.shape)
            for axis, name in enumerate(("slice", "row", "column")):
                at = int(peak[axis])
                label = f"{view} {name} {at + 1} of {values.shape[axis]}".strip()
                shown.append((label, image.take(at, axis=axis), values.take(at, axis=axis)))
        return tuple(shown)

    @property
    def scale(self) -> float:
        """The value of the strongest colour, the same in all panels."""
        return strongest(self.maps)

    def picture(self, *, mapped: bool = True) -> bytes:
        """A PNG of the panels side by side, with the map over them, or without."""
        signed = self.about.signed
        drawn = [overlay(image, values, signed=signed, scale=self.scale) if mapped else grey_or_colour(image)
                 for _, image, values in self.panels]  # fmt: skip
        return picture(_side_by_side(drawn))

    def to_frame(self) -> pd.DataFrame:
        """A row an image of the case: ``strongest`` the largest value, its place from 0 (``slice`` of a volume, ``row``,
        ``column``), ``above`` the share of the image where the map is above 0, then the numbers of the checks.

        Of an image that the case lacks these are NaN. The values themselves are in :attr:`map`.
        """
        axes = ("slice", "row", "column")[-(self.maps.ndim - 1) :]
        said = {"case": self.case, "target": self.target, "probability": self.probability, "method": self.method, "layer": self.layer}  # fmt: skip
        checked = self.checks.numbers if self.checks else {}
        rows = []
        for view, values in zip(self.views, self.maps, strict=True):
            found: dict[str, Any] = dict.fromkeys(("strongest", *axes, "above"), np.nan)
            if not np.isnan(values).all():
                place = np.unravel_index(int(np.nanargmax(values)), values.shape)
                found = {"strongest": float(values[place]), **dict(zip(axes, map(int, place), strict=True)), "above": float((values > 0).mean())}  # fmt: skip
            rows.append({"case": self.case, "view": view, **said, **found, **checked})
        return pd.DataFrame(rows)

    def overview(self) -> Overview:
        """What it is a map of, where it is strongest, and what its checks found."""
        frame = self.to_frame()
        checked = self.checks.numbers if self.checks else {}
        shown = [name for name in ("view", "strongest", "slice", "row", "column", "above") if name in frame and not (frame[name] == "").all()]  # fmt: skip
        where = Panel(tuple(shown), tuple(frame[shown].astype(object).itertuples(index=False, name=None)), "The strongest place of each image")  # fmt: skip
        panels = (where, Panel(("check", "value"), tuple(checked.items()), "Checks of the map"))
        return Overview(f"{self.case}: {self.title} ({self.probability:.3g})", panels, (*self.said, *self.notes))

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, name: str = "") -> Path:
        """Write ``<name>.json``, ``<name>.maps.npy``, ``<name>.images.npy`` and ``<name>.png``; gives the first.

        ``name``: that of :func:`stem_of` where blank.
        """
        folder, name = Path(folder), name or stem_of(self)
        for kind, array in (("maps", self.maps), ("images", self.images)):
            with publish(folder / f"{name}.{kind}.npy") as beside, beside.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        write_bytes(folder / f"{name}.png", self.picture())
        return write_json(folder / f"{name}.json", self._words())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, by its ``.json``. Raises :class:`InputError` where a file is missing or damaged."""
        path = Path(path)
        stem = path.name.removesuffix(".json")
        try:
            maps, images = (np.load(path.with_name(f"{stem}.{kind}.npy"), allow_pickle=False) for kind in ("maps", "images"))  # fmt: skip
        except (OSError, ValueError, EOFError) as error:
            raise InputError("the arrays beside an explanation cannot be read", given=f"{path.name}: {error}") from error  # fmt: skip
        words = build(_Words, read_json(path), where=path.name, null_is_nan=True)
        return cls(**{each.name: getattr(words, each.name) for each in fields(words)}, maps=maps, images=images)


@dataclass(frozen=True)
class _Words:
    """An explanation without its arrays, as its file holds it."""

    case: str
    target: str
    method: str
    layer: str
    probability: float
    views: tuple[str, ...]
    notes: tuple[str, ...]
    checks: Checks | None


def _side_by_side(drawn: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures (h, w, 3) of any height in one row, white between them."""
    if not drawn:
        return np.full((8, 8, 3), 255, np.uint8)
    height, gap = max(len(each) for each in drawn), max(1, drawn[0].shape[1] // 32)
    parts: list[NDArray[np.uint8]] = []
    for each in drawn:
        parts += [np.full((height, gap, 3), 255, np.uint8)] * bool(parts)
        parts.append(np.pad(each, ((0, height - len(each)), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(parts, axis=1)


@checked
def stem_of(found: Explanation) -> str:
    """The name of an explanation's files: letters and digits of the case, the method, and a hash that tells them apart."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in found.case)[:32].strip("-")
    told = fingerprint([found.case, found.target, found.method, found.layer, found.views])[:8]
    return f"{plain or 'case'}-{found.method.replace('+', 'p')}-{told}"
