"""Cases: one row an image; the noun that flows through the program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.privacy import IDENTIFIERS, NAMES, codes, identifying, patient_codes, salt_of
from overread.core.display import Overview, Panel, Shown, panel_of
from overread.core.errors import InputError, checked, nearest, one_of, require
from overread.core.files import EqualByDigest, fingerprint, later, read_json, sha256, unguarded, write_csv, write_json
from overread.core.phrases import count
from overread.images.frame_view import frame_view
from overread.images.outlines.mask_address import several
from overread.tasks.target import Target

#: Columns with a meaning. Every other column is carried along and can be a subgroup.
ROLES = ("image", "case", "patient", "source", "view", "time", "split")
PARTS = ("train", "tuning", "test")
#: The column of the files of the outlines of slides.
OUTLINES = "outlines"
#: What stands for the address of a mask in cases that are saved without paths.
HIDDEN = "there is one"


@dataclass(frozen=True)
class Planes:
    """What is looked at in a volume: the ``whole``, three orthogonal planes (``views``), or its axial ``slices``.

    The three planes go through the middle, or through the ``point``: the names of three columns (x, y, z in mm, RAS),
    or of the one column of a mask. ``side`` in mm of the square around a point that is cut out; 0 for the whole plane.
    ``pixel`` in mm of that square's pixels; 0 for the finest spacing of each volume.
    ``nan``: what voxels are that are NaN, ``refuse`` or ``lowest`` (the lowest value of the volume). ``frames``: how stacks of
    frames are seen as single images (see :mod:`overread.images.frame_view`); blank leaves them volumes. ``slides``: whether
    the images are slides, of which overviews and tiles are looked at (see :mod:`overread.cases.sources.slides`); ``tumour``: the groups of
    their outlines that are lesions, where their names do not tell.
    """

    how: str = "whole"
    point: tuple[str, ...] = ()
    side: float = 0.0
    nan: str = "refuse"
    pixel: float = later(0.0)
    frames: str = later("")
    slides: bool = later(False)
    tumour: tuple[str, ...] = later(())

    def __post_init__(self) -> None:
        require(not self.slides or (self.how == "whole" and not self.frames), "a slide is seen in one way",
                given=f"slides, volumes {self.how}{self.frames and f', frames {self.frames}'}",
                todo="leave --volumes and --frames out, or say --slides no")  # fmt: skip
        if self.frames:
            frame_view(self.frames)
            require(self.how == "whole", "a stack is seen in one way", given=f"volumes {self.how} and frames {self.frames}",
                    todo="leave out one of them")  # fmt: skip
        one_of(self.nan, ("refuse", "lowest"), "nan")
        one_of(self.how, ("whole", "views", "slices"), "volumes")
        require(len(self.point) in (0, 1, 3), "a point is three columns, or one of masks", given=", ".join(self.point))
        require(not self.point or self.how == "views", "only three planes go through a point", given=self.how,
                todo="say --volumes views")  # fmt: skip
        require(self.side == 0 or bool(self.point), "the side of a square needs a point", given=self.side)
        require(self.pixel == 0 or self.side > 0, "pixels in mm need the side of a square", given=self.pixel,
                todo="say --side")  # fmt: skip


WHOLE = Planes()


@dataclass(frozen=True, eq=False)
class Cases(EqualByDigest, Shown):
    """A table of images with roles.

    ``table`` has a row per image and the columns ``image`` (path relative to ``root``, or ``file.npz#array/row``),
    ``case`` (what gets one prediction), ``patient`` (what is independent), ``source`` (site, scanner, microscope;
    ``""`` where unknown), ``view``, ``time``, ``split`` (as given by the data's makers, ``""`` otherwise), then the
    label columns of ``target`` (``label``: a class name, ``""`` where unknown; ``label:<finding>``: 1, 0 or NaN;
    ``value``: a number or NaN; ``mask``: the address of the objects' outlines, ``""`` where there are none), then any others as they were read. ``notes`` says what was guessed. ``salt``: where
    cases and patients are codes, what the codes were made with (see :mod:`.privacy`); then :meth:`save` leaves out
    where the images lie, since paths hold names. ``planes``: what the rows show of volumes.
    ``identifiers``: whether patients are one who differ in writing only (see :mod:`overread.core.identifiers`).
    ``masks``: whether the column ``mask`` holds the addresses of masks, as it does where outlines are to be learned.
    Where the images are :attr:`slides`, the column ``outlines`` holds the files of their lesions' outlines.
    """

    table: pd.DataFrame
    target: Target
    root: str = "."
    notes: tuple[str, ...] = field(default=())
    salt: str = ""
    planes: Planes = WHOLE
    identifiers: str = "ask"
    masks: bool = False

    def __post_init__(self) -> None:
        if self.target.task.dense:
            object.__setattr__(self, "masks", True)
        wanted = [*ROLES, *self.target.columns]
        for column in wanted:
            require(column in self.table.columns, f"the table of cases lacks the column {column!r}",
                    given=", ".join(map(str, self.table.columns)))  # fmt: skip
        ordered = [*wanted, *(c for c in self.table.columns if c not in wanted)]
        object.__setattr__(self, "table", self.table.loc[:, ordered].reset_index(drop=True))

    # -- a frozen noun: prints, compares, hashes, saves itself ------------------------------------------------

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return f"{count(len(self), 'image')} of {count(self.patients, 'patient')}, {self.target.task.summary}"

    __repr__ = __str__

    @property
    def digest(self) -> str:
        """Hash of the content, in hexadecimal; equal for equal tables."""
        body = self.table.to_csv(index=False, lineterminator="\n").encode()
        return sha256(body + fingerprint(self.target).encode())[:16]

    @property
    def taught(self) -> str:
        """Hash of what a model is taught from, roles and labels; other columns, which only judges read, do not change it."""
        columns = [*ROLES, *self.target.columns]
        return sha256(
            self.table[columns].to_csv(index=False, lineterminator="\n").encode() + fingerprint(self.target).encode()
        )[:16]

    def to_frame(self) -> pd.DataFrame:
        """A row an image, as :attr:`table`, with full paths of the images where they are known: ``read_cases`` takes it."""
        if (self.table["image"] == "").all():
            return self.table.copy()
        table = self.table.assign(image=paths(self))
        if self.slides:
            table = table.assign(**{OUTLINES: outline_paths(self)})
        return table.assign(mask=mask_paths(self)) if self.masks else table

    def overview(self) -> Overview:
        """Images and patients of every class, of every source, and the first rows without patients and paths."""
        table, labels = self.table, labels_panel(self.target, self.labels, self.table["patient"])
        by = table[table["source"] != ""].groupby("source")["patient"]
        sources = Panel(("source", "images", "patients"), tuple((n, len(p), p.nunique()) for n, p in by), "Sources")
        hidden = {"image", "mask", *self._addresses, "patient", "split"} if self.salt else {"patient"}
        filled = [c for c in table.columns if c not in hidden and not (table[c].astype(str) == "").all()]
        panels = [
            labels,
            *([sources] if len(sources.rows) > 1 else []),
            panel_of(table[filled], "The first rows", most=5),
        ]
        return Overview(str(self), tuple(panels), self.notes)

    def __getitem__(self, case: str) -> Cases:
        """The case of that name, or of that code: ``cases["ISIC_0027419"]``."""
        rows = self.table["case"] == case
        if not rows.any() and self.salt:
            rows = self.table["case"] == codes([case], self.salt)[0]
        if not rows.any():
            todo = nearest(case, self.table["case"].iloc[:2000])
            raise InputError("there is no such case", given=repr(case), todo=todo)
        return self.take(np.flatnonzero(rows))

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (CSV) and, beside it, ``<name>.target.json``."""
        path = Path(path)
        table = self.table.assign(image="") if self.salt else self.table
        for name in self._addresses if self.salt else ():
            table = table.assign(**{name: table[name].where(table[name] == "", HIDDEN)})
        write_csv(path, table)
        root = "" if self.salt else str(self.root)
        about = {"target": self.target, "root": root, "notes": self.notes, "salt": self.salt, "planes": self.planes,
                 "identifiers": self.identifiers} | ({"masks": True} if self.masks else {})  # fmt: skip
        write_json(path.with_suffix(".target.json"), about)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Cases:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing or damaged."""
        from overread.core.files import build

        path = Path(path)
        about = read_json(path.with_suffix(".target.json"))
        target = build(Target, about["target"], where=path.name)
        try:
            table = unguarded(pd.read_csv(path, dtype=str, keep_default_na=False))
        except (OSError, ValueError) as error:
            raise InputError("the table of cases cannot be read", given=f"{path}: {error}") from error
        text = {
            *ROLES,
            *(target.columns if target.task.unknown == "" else ()),
            *(["mask"] if about.get("masks") else []),
        }
        planes = build(Planes, about.get("planes", {}), where=path.name)
        text |= {OUTLINES} if planes.slides else set()
        table = table.apply(lambda column: column if column.name in text else typed(column))
        return cls(table, target, about["root"], tuple(about["notes"]), about.get("salt", ""), planes,
                   about.get("identifiers", "ask"), bool(about.get("masks", False)))  # fmt: skip

    # -- questions --------------------------------------------------------------------------------------------

    @property
    def slides(self) -> bool:
        """Whether the images are overviews or tiles of slides."""
        return self.planes.slides

    @property
    def _addresses(self) -> tuple[str, ...]:
        """The columns beside ``image`` that hold places of files."""
        return tuple(
            name for name, there in (("mask", self.masks), (OUTLINES, self.slides)) if there and name in self.table
        )

    @property
    def patients(self) -> int:
        """The number of independent patients."""
        return int(self.table["patient"].nunique())

    @property
    def labels(self) -> NDArray[Any]:
        """What is to be learned, one row an image.

        ``binary``/``classes``: int64 (N,), the index in ``target.names``, −1 where unknown. ``findings``: float32
        (N, findings), NaN where unknown. ``quantity``: float32 (N,), NaN where unknown. ``segmentation``: float32
        (N,), 1 where there is a mask, else NaN.
        """
        labels = self.target.task.read_labels(self.table)
        return labels if labels.dtype == np.int64 else labels.astype(np.float32)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label (for findings: at least one known), shape (N,)."""
        return self.target.task.known(self.labels)

    @property
    def strata(self) -> NDArray[np.int64]:
        """A class number per row for stratified splitting: the class, or the rarest finding present, or a quintile."""
        return self.target.task.strata(self.labels)

    # -- parts ------------------------------------------------------------------------------------------------

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Cases:
        """The rows at these positions (or where a boolean mask is true), in that order."""
        rows = np.asarray(rows)
        table = self.table.loc[rows] if rows.dtype == bool else self.table.iloc[rows]
        return replace(self, table=table)

    def only(self, split: Any, part: str) -> Cases:
        """The images of one part (``train``, ``tuning`` or ``test``) of a split."""
        return self.take(split.rows(self, part))

    def hidden(
        self, *, names: str = "hash", salt: str = "", keep: Sequence[str] = (), known: Sequence[str] = ()
    ) -> Self:
        """With codes for cases and patients, and without the columns that nobody named.

        What stands in a column that nobody knows may be a doctor's name or a remark in one row of a hundred: only those
        to ``keep`` stay, and of the ``known`` ones, whose meaning is settled, those that do not look as if they said
        who a patient is. ``salt``: that of the study where there is one already. With ``names="keep"`` nothing changes.
        Raises :class:`ArgumentError` for another word.
        """
        if one_of(names, NAMES, "names") == "keep" or self.salt:
            return self
        salt = salt or salt_of(self.table)
        table = self.table.assign(
            case=codes(self.table["case"], salt), patient=patient_codes(self.table["patient"], salt, self.identifiers)
        )
        extra = table.drop(columns=[c for c in (*ROLES, *self.target.columns, *self._addresses, *keep) if c in table])
        left = [
            str(c) for c in extra if c not in known or c in IDENTIFIERS or c in identifying(extra[[c]], self.patients)
        ]
        shown = ", ".join(left[:12]) + (f" and {len(left) - 12} more" if len(left) > 12 else "")
        note = "names: cases and patients are codes (--names keep: as they stand)"
        note += (
            f"; left out, since nobody asked for them: {shown} (--subgroup or --keep-column takes one along)"
            if left
            else ""
        )
        return replace(self, table=table.drop(columns=left), salt=salt, notes=(*self.notes, note))

    def drop(self, cases: Iterable[str]) -> Cases:
        """Without the images of these cases."""
        return self.take(~self.table["case"].isin(list(cases)).to_numpy())


@checked
def labels_panel(target: Target, labels: NDArray[Any], patient: pd.Series) -> Panel:
    """Images and patients of each class or finding (N,), or the range of a quantity."""
    (told,) = target.task.count(labels, patient).values()
    by_name = told if all(isinstance(held, dict) for held in told.values()) else {target.names[0]: told}
    head = next(iter(by_name.values()))
    return Panel(("label", *head), tuple((name, *held.values()) for name, held in by_name.items()), most=20)


def typed(column: pd.Series) -> pd.Series:
    """A text column as numbers, NaN where blank, if every filled cell is a plain number (``007`` is a name)."""
    filled = column[column != ""]
    plain = filled.str.fullmatch(r"[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?") & (filled != ".")
    if filled.empty or not plain.all():
        return column
    number = pd.to_numeric(column.mask(column == ""), errors="coerce")
    return column if number[column != ""].isna().any() else number.astype(float)


@checked
def times(values: pd.Series) -> NDArray[np.float64]:
    """The column ``time`` as numbers that grow with time, NaN where a cell is blank or no time.

    Numbers stay as they are; where not all are, cells are dates (ISO 8601).

    >>> times(pd.Series(["2", "10", ""])).tolist()
    [2.0, 10.0, nan]
    """
    number = pd.to_numeric(values, errors="coerce")
    if number[values.astype(str).str.strip() != ""].isna().any():
        dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
        number = dates.astype("int64").astype(float).where(dates.notna())
    return number.to_numpy(np.float64)


@checked
def paths(cases: Cases) -> list[str]:
    """Full addresses of the images: ``root`` joined to relative paths, ``file.npz#array/row`` kept as it is.

    Raises :class:`InputError` for cases that were saved without their paths.
    """
    root = Path(cases.root)
    if cases.salt and (cases.table["image"] == "").all() and len(cases):
        raise InputError("these cases were saved without the paths of their images",
                         todo="read the table again, or keep names that identify nobody with --names keep")  # fmt: skip
    return [str(root / image) for image in cases.table["image"]]


@checked
def mask_paths(cases: Cases) -> list[str]:
    """Full addresses of the masks, as :func:`paths` gives them of images; blank where an image has none.

    Raises :class:`InputError` for cases without a column of masks, and for those that were saved without their paths.
    """
    if not cases.masks:
        raise InputError("these cases have no masks", given=str(cases), todo="name their column, file or folder with --mask")  # fmt: skip
    root, masks = Path(cases.root), cases.table["mask"]
    if (masks == HIDDEN).any():
        raise InputError("these cases were saved without the paths of their masks",
                         todo="read the table again, or keep names that identify nobody with --names keep")  # fmt: skip
    return ["|".join(str(root / one) for one in several(mask)) for mask in masks]


@checked
def outline_paths(cases: Cases) -> list[str]:
    """Full paths of the outlines of slides, as :func:`paths` gives them of images; blank where a slide has none.

    Raises :class:`InputError` for cases that are no slides, and for those that were saved without their paths.
    """
    if not cases.slides:
        raise InputError("these cases are no slides", given=str(cases), todo="outlines of lesions are those of slides; objects in images are outlined by --mask")  # fmt: skip
    if OUTLINES not in cases.table:
        return [""] * len(cases)
    root, files = Path(cases.root), cases.table[OUTLINES]
    if (files == HIDDEN).any():
        raise InputError("these cases were saved without the paths of their outlines",
                         todo="read the table again, or keep names that identify nobody with --names keep")  # fmt: skip
    return [str(root / file) if file else "" for file in files]
