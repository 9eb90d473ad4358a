"""Marks on images against lesions: how many were found at so many false alarms per image, with intervals."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.sources.labels import natural
from overread.cases.sources.tables import find, guess, known, read_table
from overread.core.display import Shown
from overread.core.errors import InputError, checked, require
from overread.core.files import fingerprint, plain, sha256
from overread.core.identifiers import identifiers
from overread.core.phrases import count
from overread.evaluation.ledger import looked, verify, write_look
from overread.evaluation.results import Result, drawn, lookup
from overread.evaluation.subgroups import FEWEST
from overread.stats.arrays import distinct, patient_codes
from overread.stats.estimate import Estimate
from overread.stats.froc import CAMELYON16, LUNA16, afroc_area, froc, froc_curve

__all__ = ["BAND", "RATES", "Localisation", "Marks", "judge_marks", "judge_marks_by", "read_marks"]

#: Whose rates of false positives per image the mean sensitivity is taken over.
RATES = {"camelyon16": CAMELYON16, "luna16": LUNA16}
#: Points of the band of a stored curve.
BAND = 25


@dataclass(frozen=True, eq=False)
class Localisation(Result):
    """What marks on images found: estimates by reader (``where["reader"]``), the FROC curve of each, and counts."""

    file: ClassVar[str] = "froc.json"

    estimates: tuple[Estimate, ...]
    curves: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    looks: int = 0
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """``result["mean sensitivity"]``, or ``result["mean sensitivity", "reader 2"]``."""
        return lookup(((e.metric, e.where.get("reader", ""), e) for e in self.estimates), key)

    def __repr__(self) -> str:
        return (
            f"localisation on {count(self.counts.get('images', 0), 'image')}, {count(len(self.estimates), 'estimate')}"
        )

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        from overread.core.phrases import aligned
        from overread.evaluation.comparison.compare import counted

        c = self.counts
        head = (
            f"{counted(c['images'], 'image')} of {counted(c['patients'], 'patient')}, {counted(c['lesions'], 'lesion')}"
        )
        lines = [head + looked(self.looks), *(f"caution: {text}" for text in self.cautions)]
        rows = [
            ("reader", "metric", "value (interval)"),
            *((e.where.get("reader", ""), e.metric, str(e)) for e in self.estimates),
        ]
        start = 0 if any(row[0] for row in rows[1:]) else 1
        return "\n".join([*lines, *aligned([row[start:] for row in rows])])


@checked
def judge_marks(
    marks: Marks, *, rates: str | Sequence[float] = "camelyon16", level: float = 0.95, seed: int = 0,
    resamples: int | None = None, ledger: str | Path | None = None, pending: bool = False,
) -> Localisation:  # fmt: skip
    """FROC of every reader: the sensitivity at ``rates`` of false positives per image, its mean, and the AFROC area.

    ``rates``: ``camelyon16`` (¼, ½, 1, 2, 4, 8), ``luna16`` (⅛ too), or numbers. A lesion counts once, with its highest
    mark; further marks on it are neither hits nor false positives. Intervals: patient bootstrap
    (:mod:`overread.stats.froc`). ``ledger``: where this look at the lesions is written down; ``pending``: it has shown nothing
    until :func:`.settle` says so.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"reader": "", "image": [0, 1, 1], "score": [0.9, 0.4, 0.5], "hit": [0, 1, -1]})
    >>> found = judge_marks(Marks(2, np.arange(2), np.arange(2), table, "given", ""))
    >>> round(found["mean sensitivity"].value, 4)
    0.9167
    """
    at = rates_of(rates)
    if ledger is not None:
        verify(ledger)
    parts = {reader: _judged(marks, reader, at, level, seed, resamples) for reader in marks.readers}
    extra = {reader: _extra(marks.marks[marks.marks["reader"] == reader]) for reader in marks.readers}
    cautions = [f"{sum(extra.values()):,} further marks on lesions that were hit already are ignored"] if any(extra.values()) else []  # fmt: skip
    counts = {"images": marks.images, "patients": distinct(marks.patients), "lesions": len(marks.lesion_image),
              "images with lesions": len(np.unique(marks.lesion_image)),
              "marks": {r: int((marks.marks["reader"] == r).sum()) for r in marks.readers}, "ignored marks": extra}  # fmt: skip
    about = {"level": level, "seed": seed, "rates": list(at), "rates of": rates if isinstance(rates, str) else "given",
             "hits": marks.rule, "test": marks.digest}  # fmt: skip
    estimates = tuple(replace(e, where={"reader": r} if r else {}) for r, (found, _) in parts.items() for e in found)
    # what could not be computed is no look
    looks = 0
    if ledger is not None:
        held = fingerprint(marks.marks.to_dict("list"))
        looks = int(write_look(ledger, "marks", None, held, test=marks.digest, pending=pending)["looks before"])
    return Localisation(
        estimates, plain({r: curve for r, (_, curve) in parts.items()}), counts, tuple(cautions), looks, about
    )


@checked
def judge_marks_by(
    marks: Marks, groups: pd.DataFrame, *, rates: str | Sequence[float] = "camelyon16", level: float = 0.95, seed: int = 0,
    resamples: int | None = None,
) -> tuple[Estimate, ...]:  # fmt: skip
    """The sensitivities of :func:`judge_marks` of each group: ``groups`` has a row for each image (N,), a column for each question.

    ``where`` of an estimate names column and value, and the reader where there are several. Images without a value, and groups
    of fewer than ten patients or without a lesion, are left out.
    """
    require(len(groups) == marks.images, "groups have a row for each image", given=f"{len(groups)} for {marks.images}")
    found: list[Estimate] = []
    for column in groups:
        values = groups[column].fillna("").astype(str)
        for value in sorted(set(values) - {""}, key=natural):
            part = marks.only((values == value).to_numpy())
            if distinct(part.patients) < FEWEST or not len(part.lesion_image):
                continue
            judged = judge_marks(part, rates=rates, level=level, seed=seed, resamples=resamples).estimates
            found += [replace(e, where={str(column): value, **e.where}) for e in judged if "sensitivity" in e.metric]
    return tuple(found)


@checked
def rates_of(rates: str | Sequence[float]) -> tuple[float, ...]:
    """Rates of false positives per image: of a name in :data:`RATES`, or as given. Raises ArgumentError for others.

    >>> rates_of("camelyon16")
    (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    """
    if isinstance(rates, str):
        todo = f"choose {' or '.join(RATES)}, or give numbers"
        require(rates in RATES, "rates are not known", given=rates, todo=todo)
        return RATES[rates]
    given = tuple(float(rate) for rate in rates)
    good = bool(given) and all(1e-6 <= rate <= 1e6 for rate in given)
    require(good, "rates of false positives per image must be numbers above 0", given=given, todo="give some, such as 0.5, 1, 2")  # fmt: skip
    return given


def _extra(marks: pd.DataFrame) -> int:
    hits = marks["hit"][marks["hit"] >= 0]
    return int(len(hits) - hits.nunique())


def _judged(
    marks: Marks, reader: str, rates: tuple[float, ...], level: float, seed: int, resamples: int | None
) -> tuple[list[Estimate], dict[str, Any]]:
    own = marks.marks[marks.marks["reader"] == reader]
    given = (marks.lesion_image, own["image"].to_numpy(), own["score"].to_numpy(), own["hit"].to_numpy(), marks.images)
    grid = _grid(rates)
    found = froc(*given, marks.patients, rates=rates, level=level, resamples=resamples, seed=seed)
    band = froc(*given, marks.patients, rates=grid, level=level, resamples=resamples, seed=seed)[1:]
    areas = [
        afroc_area(*given, marks.patients, weighted=weighted, level=level, resamples=resamples, seed=seed)
        for weighted in (True, False)
    ]
    mean = replace(found[0], metric="mean sensitivity")
    across, up, threshold = froc_curve(*given)
    if not len(across):
        return [mean, *found[1:], *areas], {"undefined": mean.undefined}
    step = drawn(across, up)
    curve = {"false positives per image": across[step], "sensitivity": up[step], "threshold": threshold[step],
             "band": {"false positives per image": grid, "value": [e.value for e in band], "low": [e.low for e in band], "high": [e.high for e in band]}}  # fmt: skip
    return [mean, *found[1:], *areas], curve


def _grid(rates: tuple[float, ...]) -> tuple[float, ...]:
    """Where the band is drawn: evenly on a logarithmic axis, and at the rates themselves."""
    low, high = min(rates) / 2, max(rates)
    return tuple(sorted({*rates, *(float(x) for x in np.geomspace(low, high, BAND))}))


# -- marks and lesions from tables: which mark hit which lesion, and how many images there were -------------------


_AXES = ("x", "y", "z")


@dataclass(frozen=True, eq=False)
class Marks(Shown):
    """Marks and lesions on N images, ready to be counted.

    ``lesion_image`` (L,), ``patients`` (N,) numbers; ``marks``: a row for each mark, with the columns ``reader``,
    ``image`` (0 … N−1), ``score`` and ``hit`` (the lesion 0 … L−1, or −1). ``rule`` says how hits were found,
    ``digest`` is the hash of images and lesions.
    """

    images: int
    lesion_image: NDArray[np.int64]
    patients: NDArray[np.int64]
    marks: pd.DataFrame
    rule: str
    digest: str

    def only(self, images: NDArray[np.bool_]) -> Marks:
        """The marks and lesions on some of the images, a boolean mask (N,)."""
        image, lesion = np.cumsum(images) - 1, images[self.lesion_image]
        number = np.append(np.cumsum(lesion) - 1, -1)  # of a lesion that stays; the last: of none
        own = self.marks[images[self.marks["image"].to_numpy()]]
        own = own.assign(image=image[own["image"].to_numpy()], hit=number[own["hit"].to_numpy()])
        people = patient_codes(self.patients[images], int(images.sum()))
        return replace(self, images=int(images.sum()), lesion_image=image[self.lesion_image[lesion]], patients=people, marks=own.reset_index(drop=True))  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """A row a mark: ``reader``, ``image``, ``score``, ``hit``."""
        return self.marks.copy()

    @property
    def readers(self) -> tuple[str, ...]:
        """Who marked, in natural order; one blank where the table does not say."""
        return tuple(sorted(self.marks["reader"].unique(), key=natural)) or ("",)

    def __str__(self) -> str:
        return f"{count(len(self.marks), 'mark')} on {count(self.images, 'image')} with {count(len(self.lesion_image), 'lesion')}"

    __repr__ = __str__


@checked
def read_marks(
    marks: str | os.PathLike[str], lesions: str | os.PathLike[str], images: int | str | os.PathLike[str] | None = None,
    *, tolerance: float | None = None,
) -> Marks:  # fmt: skip
    """Marks and lesions from tables.

    ``marks``: ``image`` (or ``case``), ``score``, and ``lesion`` (the id of the lesion that is hit, blank for none) or
    ``x, y`` (and ``z``); optional ``reader`` or ``model``, and ``patient``. ``lesions``: ``image`` and ``lesion``, and
    for places ``x, y`` (``z``) with ``radius`` in the same unit. ``images``: their number, or a table of ``image``
    (and ``patient``), because images with neither marks nor lesions count. ``tolerance``: the radius of lesions that
    have none. A mark hits the nearest lesion centre among those within whose radius it lies.

    Raises :class:`InputError` for missing tables or columns, unknown lesions or images, a lesion that stands twice,
    numbers that are none, or where ``images`` is missing or too small.
    """
    require(tolerance is None or (tolerance >= 0 and math.isfinite(tolerance)), "tolerance must not be negative", given=tolerance)  # fmt: skip
    said, true = _table(marks), _table(lesions)
    names, people = _images(images, said, true)
    said["image"], true["image"] = (_place(names, t["image"], which) for t, which in ((said, "marks"), (true, "lesions")))  # fmt: skip
    true = _once(true)
    said["score"] = _numbers(said, "score", "marks")
    if "lesion" in said:
        rule, hit = "the lesion that each mark names", _by_name(said, true)
    else:
        rule, hit = _by_place(said, true, tolerance)
    made = said.assign(hit=hit)[["reader", "image", "score", "hit"]].reset_index(drop=True)
    held = pd.DataFrame({"image": true["image"].map(dict(enumerate(names))), "lesion": true["lesion"]})
    text = "\n".join(names) + held.sort_values(["image", "lesion"]).to_csv(index=False, lineterminator="\n")
    return Marks(len(people), true["image"].to_numpy(np.int64), people, made, rule, sha256(text.encode())[:16])


def _table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """With the columns ``image`` and ``reader``, as text."""
    table = _empty(Path(path))
    table = read_table(Path(path)) if table is None else table
    columns = [str(c) for c in table.columns]
    image = "image" if "image" in columns else guess("image", columns) or guess("case", columns)
    table = table.rename(columns={image or find(columns, "image", "image"): "image"})
    reader = next((c for c in ("reader", "model") if c in columns), None)
    table["image"] = identifiers(table["image"])
    blank = int((table["image"] == "").sum())
    if blank:
        raise InputError(
            "a row names no image", given=f"{count(blank, 'row')} of {Path(path).name}", todo="complete the table"
        )
    return table.assign(reader=table[reader] if reader else "")


def _empty(path: Path) -> pd.DataFrame | None:
    """A table with a header and no rows: nothing was marked, or there are no lesions. None for any other."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file() or path.stat().st_size > 1 << 16:
        return None
    lines = path.read_text(encoding="utf-8-sig", errors="replace").strip().splitlines()
    cut = "\t" if path.suffix.lower() == ".tsv" else ","
    return pd.DataFrame({c.strip(): pd.Series(dtype=str) for c in lines[0].split(cut)}) if len(lines) == 1 else None


def _images(
    images: int | str | os.PathLike[str] | None, marks: pd.DataFrame, lesions: pd.DataFrame
) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the images that a table names, and the patient of every image (N,)."""
    if images is None:
        raise InputError("the number of images is not known: those with neither marks nor lesions count too",
                         given=f"{len({*marks['image'], *lesions['image']}):,} images with marks or lesions",
                         todo="give --images with their number, or a table with a column image")  # fmt: skip
    if not isinstance(images, int):
        table = _table(images).drop_duplicates("image")
        return list(table["image"]), _patients(list(table["image"]), table, marks, lesions)
    names = list(dict.fromkeys([*lesions["image"], *marks["image"]]))
    if images < len(names):
        raise InputError("there are more images than that", given=f"{count(images, 'image')}, {len(names):,} with marks or lesions", todo="correct --images")  # fmt: skip
    named = _patients(names, marks, lesions)
    rest = np.arange(images - len(names)) + (named.max() + 1 if len(named) else 0)
    return names, np.concatenate((named, rest)).astype(np.int64)


def _patients(names: list[str], *tables: pd.DataFrame) -> NDArray[np.int64]:
    """Each image its own patient, but where a table names one; refuses an image of two patients."""
    person: dict[str, str] = {}
    for table in tables:
        if "patient" not in table:
            continue
        who = table[["image"]].assign(patient=identifiers(table["patient"]))
        pairs = who[who["patient"] != ""].drop_duplicates()
        torn = sum(person.setdefault(i, p) != p for i, p in pairs.itertuples(index=False))
        if torn:
            raise InputError(
                "an image belongs to two patients", given=f"{count(torn, 'image')}", todo="correct the tables"
            )
    codes = patient_codes(np.array([person.get(name, f"image {name}") for name in names], dtype=object), len(names))
    return codes


def _place(names: list[str], images: pd.Series, which: str) -> NDArray[np.int64]:
    place = pd.Index(names).get_indexer(pd.Index(images))
    lost = int((place < 0).sum())
    if lost:
        raise InputError(f"{which} lie on images that are not in the table of images", given=f"{lost:,} of {len(images):,} {which}",
                         todo="list every image, named alike in all tables")  # fmt: skip
    return place.astype(np.int64)


def _once(lesions: pd.DataFrame) -> pd.DataFrame:
    if "lesion" not in lesions:
        lesions = lesions.assign(lesion=lesions.groupby("image").cumcount().astype(str))
    twice = int(lesions.duplicated(["image", "lesion"]).sum())
    if twice:
        raise InputError("a lesion stands more than once", given=f"{count(twice, 'row')} too many", todo="give each lesion of an image its own id")  # fmt: skip
    return lesions.reset_index(drop=True)


def _numbers(table: pd.DataFrame, name: str, which: str, *, blank: bool = False) -> NDArray[np.float64]:
    text = known(table[find([str(c) for c in table.columns], name, name)].astype(str))
    number = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    wrong = ~np.isfinite(number) & ~(blank & (text == "").to_numpy())
    if wrong.any():
        raise InputError(f"{name} is not a finite number in the table of {which}", given=f"{int(wrong.sum()):,} of {count(len(text), 'row')}",
                         todo="correct these rows, or leave out marks without a score")  # fmt: skip
    return number


def _by_name(marks: pd.DataFrame, lesions: pd.DataFrame) -> NDArray[np.int64]:
    named = known(marks["lesion"])
    keys = pd.MultiIndex.from_frame(lesions[["image", "lesion"]])
    hit = keys.get_indexer(pd.MultiIndex.from_arrays([marks["image"], named]))
    strange = int(((hit < 0) & (named != "").to_numpy()).sum())
    if strange:
        raise InputError("marks hit lesions that are not in the table of lesions of their image", given=f"{count(strange, 'mark')}",
                         todo="leave lesion blank for a false positive")  # fmt: skip
    return np.where(named == "", -1, hit).astype(np.int64)


def _by_place(marks: pd.DataFrame, lesions: pd.DataFrame, tolerance: float | None) -> tuple[str, NDArray[np.int64]]:
    """The nearest lesion centre of the mark's image within whose radius it lies, or −1."""
    axes = [a for a in _AXES if a != "z" or ("z" in marks and "z" in lesions)]
    here, there = (np.column_stack([_numbers(t, a, which) for a in axes]) for t, which in ((marks, "marks"), (lesions, "lesions")))  # fmt: skip
    radius = _numbers(lesions, "radius", "lesions", blank=True) if "radius" in lesions else np.full(len(lesions), math.nan)  # fmt: skip
    lost = int(np.isnan(radius).sum())
    if lost and tolerance is None:
        raise InputError("lesions have no radius, so it is not known what hits them", given=f"{lost:,} of {count(len(lesions), 'lesion')}",
                         todo="add a column radius, or give --tolerance")  # fmt: skip
    radius = np.where(np.isnan(radius), tolerance or 0.0, radius)
    of_image = lesions.groupby("image").indices
    hit = np.full(len(marks), -1)
    for image, rows in marks.groupby("image").indices.items():
        if image in of_image:
            candidates = of_image[image]
            apart = np.sqrt(((here[rows, None] - there[None, candidates]) ** 2).sum(axis=2))
            apart[apart > radius[None, candidates] * (1 + 1e-12)] = math.inf
            near = apart.argmin(axis=1)
            hit[rows] = np.where(np.isfinite(apart[np.arange(len(rows)), near]), candidates[near], -1)
    within = f"a radius of {tolerance:g}" if lost == len(lesions) and lost else "the lesion's radius"
    return f"the nearest lesion centre within {within}", hit.astype(np.int64)
