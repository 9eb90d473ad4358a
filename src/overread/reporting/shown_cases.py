"""The cases that the report shows: errors beside correct ones, where the model looked, what is alike, and copies."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from overread.core.errors import checked
from overread.core.files import fingerprint, read_json, write_json
from overread.core.phrases import command_of
from overread.explanation.checks.regions import RegionShare
from overread.explanation.map_files import MapEntry
from overread.explanation.methods import METHODS
from overread.explanation.verdict import Criterion
from overread.reporting import words
from overread.reporting.case_rows import AuditPicture, GalleryEntry, Neighbour
from overread.reporting.run import Run
from overread.reporting.words import Table
from overread.stats.estimate import Estimate

_PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_LARGEST = 512 * 1024  # bytes of a picture
_MAPS, _NEAREST = 2, 5  # of a case


@dataclass(frozen=True)
class ShownMap:
    """A map as a page shows it: ``seen`` is what the network saw, ``alt`` and ``words`` say what it is and is worth."""

    picture: str
    seen: str
    title: str
    alt: str
    words: str


@dataclass(frozen=True)
class ShownNeighbour:
    """A known case beside one."""

    picture: str
    alt: str
    label: str
    source: str
    distance: str
    name: str


@dataclass(frozen=True)
class ShownCase:
    """A case of the test part with all that is known of it."""

    name: str
    truth: str
    predicted: str
    probability: str
    picture: str
    correct: bool
    withheld: bool
    maps: tuple[ShownMap, ...] = ()
    neighbours: tuple[ShownNeighbour, ...] = ()


@dataclass(frozen=True)
class ShownFinding:
    """A finding of the audit in pictures: (picture, alt, name, label) of each of its cases."""

    kind: str
    words: str
    pictures: tuple[tuple[str, str, str, str], ...]


@runtime_checkable
class Chosen(Protocol):
    """A case that is shown, ``why``, and where it comes from."""

    @property
    def case(self) -> str: ...

    @property
    def why(self) -> str: ...

    @property
    def source(self) -> str: ...


Shown = TypeVar("Shown", bound=Chosen)
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Names:
    """How cases are called: by their names, or by short keys that ``explanations/keys.json`` resolves."""

    plain: bool
    salt: str

    @classmethod
    def of(cls, run: Run, case_names: bool) -> Names:
        return cls(case_names, run.model.salt or fingerprint(run.split))

    def __getitem__(self, case: str) -> str:
        return words.name(case) if self.plain else words.case_key(case, self.salt)

    def with_source(self, entry: Chosen) -> str:
        """What a case is called, and its source where it has one."""
        return f"{self[entry.case]}, {words.name(entry.source, 30)}" if entry.source else self[entry.case]

    def keep(self, folder: Path, cases: Iterable[str]) -> None:
        """Add these cases to the list of a run's folder that resolves keys; nothing where names are plain."""
        path, added = folder / "explanations" / "keys.json", {self[case]: case for case in cases if case}
        if added and not self.plain:
            known = read_json(path) if path.exists() else {}
            write_json(path, {**known, **added})


def cases_shown(run: Run) -> Iterator[str]:
    """Every case that the report shows."""
    yield from (entry.case for entry in run.gallery)
    yield from (entry.case for entry in run.overlays)
    yield from (case for entry in run.audit_pictures for case in entry.cases)
    yield from (near.case for row in run.neighbours for near in row.neighbours[:_NEAREST])


@checked
def by_reason(
    entries: Sequence[Shown], reasons: Mapping[str, str], key: str, draw: Callable[[Shown, str], Drawn]
) -> list[tuple[str, list[Drawn]]]:  # fmt: skip
    """A title and what ``draw(entry, key)`` makes of each of the entries that are shown for a reason, in the order of the ``reasons``
    (titles by reason); none for a reason without any."""
    made = []
    for why, title in reasons.items():
        some = [entry for entry in entries if entry.why == why]
        if some:
            drawn = [draw(entry, f"{key}-{why}-{number}") for number, entry in enumerate(some, start=1)]
            made.append((f"{title} ({len(drawn)})", drawn))
    return made


def errors_and_correct(run: Run, names: Names) -> tuple[tuple[ShownCase, ShownCase | None], ...]:
    """Each error with the correct case of the same truth that stands beside it."""
    beside = {entry.beside: entry for entry in run.gallery if entry.correct}
    errors = [entry for entry in run.gallery if not entry.correct]
    return tuple(
        (_case(run, e, names), _case(run, beside[e.case], names) if e.case in beside else None) for e in errors
    )


def _case(run: Run, entry: GalleryEntry, names: Names) -> ShownCase:
    hidden = entry.withheld  # then only maps on grey are shown, which have no image
    maps = [row for row in run.maps if row.case == entry.case and not (hidden and row.image)][:_MAPS]
    nearest = next((row.neighbours for row in run.neighbours if row.case == entry.case), ())[:_NEAREST]
    return ShownCase(
        names[entry.case], words.name(entry.truth), words.name(entry.predicted), words.number(entry.probability, 2),
        picture(run.folder, entry.thumbnail), entry.correct, hidden,
        tuple(_map(run, row, names[entry.case]) for row in maps), tuple(_neighbour(run, near, names) for near in nearest),
    )  # fmt: skip


def _map(run: Run, row: MapEntry, name: str) -> ShownMap:
    target = words.name(row.target) or "the call"
    layer = f", layer {words.name(row.layer)}" if row.layer else ""
    said = f"This map says nothing: no part of the image speaks for {target}." if row.nothing else words.sentence(row.verdict) or "Not checked: it may be no better than an edge detector."  # fmt: skip
    return ShownMap(picture(run.folder, row.map), picture(run.folder, row.image), f"{words.name(row.method)} for {target}{layer}",
                    f"Map of case {name}: {words.name(row.method)} for {target}", said)  # fmt: skip


def _neighbour(run: Run, near: Neighbour, names: Names) -> ShownNeighbour:
    label, source = words.name(near.label) or "no label", words.name(near.source)
    return ShownNeighbour(picture(run.folder, near.thumbnail), f"Known case {names[near.case]}: {label}", label, source,
                          f"{near.distance:.3g}", names[near.case])  # fmt: skip


def methods(run: Run) -> Table | None:
    """What the methods of the maps are worth, by the criteria that they were held against."""
    rows = tuple(_method(row) for row in run.methods)
    head = ("Method", "Criterion", "Value (interval)", "Without a model", "Cases", "What it says")
    return Table("What the maps are worth, over a sample of cases", head, rows, 2, "all") if rows else None


def _method(row: Criterion) -> tuple[str, ...]:
    held = Estimate(row.criterion, row.value, row.low, row.high)
    said = words.sentence(row.words) or ("Passed." if row.passed else "Not passed.")
    return (words.name(row.method), words.name(row.criterion), words.cell(held), words.number(row.baseline, 2),
            f"{row.cases:,}", said)  # fmt: skip


def regions(rows: Sequence[RegionShare]) -> Table | None:
    """How much of the maps lies where no finding can be, beside the share of the area there."""
    head = ("Method", "Where", "Of the attribution (interval)", "Of the area", "Cases", "Patients")
    held = tuple(
        (_method_called(row), words.name(row.region), _between(row), words.percent(row.area, 1), f"{row.cases:,}", f"{row.patients:,}")
        for row in rows
    )  # fmt: skip
    return (
        Table("How much of the maps lies where no finding can be, over a sample of cases", head, held, 2)
        if held
        else None
    )


def region_findings(rows: Sequence[RegionShare]) -> tuple[str, ...]:
    """A sentence of each share that lies above that of the area with its whole interval, or one that none does."""
    found = tuple(f"{_method_called(row)}: {words.sentence(row.finding)}" for row in rows if row.finding)
    none = "In none of these places is more of the attribution shown to lie than by chance."
    return found or ((none,) if rows else ())


def _method_called(row: RegionShare) -> str:
    return METHODS[row.method].title if row.method in METHODS else words.name(row.method)


def _between(row: RegionShare) -> str:
    ends = f" ({words.percent(row.low, 1)} to {words.percent(row.high, 1)})" if math.isfinite(row.low) else ""
    return f"{words.percent(row.share, 1)}{ends}"


def audit_pictures(run: Run, names: Names) -> tuple[ShownFinding, ...]:
    """What the audit found, in pictures."""
    return tuple(_finding(run, entry, names) for entry in run.audit_pictures)


def _finding(run: Run, entry: AuditPicture, names: Names) -> ShownFinding:
    rows = zip(entry.cases, entry.labels, entry.thumbnails, strict=False)
    pictures = [(picture(run.folder, path), f"{words.sentence(entry.words)} Case {names[case]}", names[case], words.name(label)) for case, label, path in rows]  # fmt: skip
    return ShownFinding(words.name(entry.kind).replace("-", " "), words.sentence(entry.words), tuple(pictures))


def who(run: Run, names: Names) -> str:
    """Where to look up which case stands under a name."""
    if not names.plain:
        return "Each stands under a key that explanations/keys.json in the run folder resolves."
    if run.study.names == "keep":
        return ""
    return f"Each stands under its code; `{command_of(['overread', 'key', run.place])}` tells who still has the table which case that is."


def picture(folder: Path, relative: str) -> str:
    """A picture as a data address; ``""`` if it lies outside the run folder, is too large, or is no PNG or JPEG."""
    path = (folder / relative).resolve()
    inside = relative and path.is_relative_to(folder.resolve()) and path.is_file()
    return "" if not inside or path.stat().st_size > _LARGEST else as_address(path.read_bytes())


@checked
def as_address(data: bytes) -> str:
    """The bytes of a PNG or JPEG as a data address; ``""`` of anything else."""
    kind = next((kind for start, kind in _PICTURES.items() if data.startswith(start)), "")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind else ""
