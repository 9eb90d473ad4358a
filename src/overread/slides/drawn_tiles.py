"""Tiles for training: where they may lie in each slide, and those that are drawn, by class, then by slide, then by tile.

After Liu 2017 (arXiv:1703.02442, section 3, "patch sampling"): a class with equal chance, then a slide that has it, each
alike, then one of its tiles, each alike, so that slides with much tissue do not outweigh the others. A tile is tumour where
an outline meets its middle square. Tiles are addresses, read when they are needed. What a draw holds is a pure function of
the seed, the slides and their outlines, whatever the order of the table and the number of processes; and no more than the
places of one slide is held at a time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, outline_paths, paths
from overread.cases.split import Split
from overread.core import random
from overread.core.errors import ImageError, InputError, UnsoundError, checked, require
from overread.core.files import cores, fingerprint, publish, read_json, sha256_file, write_json
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.images.address import Address, parse
from overread.images.read import content_digest
from overread.images.slides.lesion_outlines import Lesion, Lesions, read_lesions
from overread.images.slides.slide import Slide, slide_at, slide_seconds
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import Tissue, cached_tissue, tissue_key
from overread.slides.map_grid import NO_SHARE, enough_tissue, grid_of, middles
from overread.tasks.target import Target

__all__ = [
    "PlacesOfSlides",
    "TileTable",
    "classify",
    "draw_tiles",
    "find_places",
    "find_tissue_places",
    "tile_address",
    "tile_cases",
    "tumour_of",
]

#: What a place of a slide is: nothing to be looked at, normal tissue, tumour, or tissue that teaches nothing.
NOTHING, NORMAL, TUMOUR, ASIDE = 0, 1, 2, 3
#: How often the jitter of a tile is drawn anew where it would change its label; then it stays where it is.
_TRIES = 8
#: Places that are classified at a time.
_AT_A_TIME = 1 << 16
_FORMAT = 3
#: Outlines by what they teach.
Marked = tuple[tuple[int, Lesions], ...]


@checked
def tumour_of(target: Target) -> str:
    """The class of two that counts as disease. Raises :class:`InputError` where it is not a question of two classes."""
    if not (target.task.exclusive and len(target.names) == 2 and len(target.positive) == 1):
        raise InputError("slides are asked for one of two classes, tumour or not", given=", ".join(target.names[:6]),
                         todo="join the classes in two, and say with --positive which is disease")  # fmt: skip
    return target.positive[0]


# -- the places of one slide -------------------------------------------------------------------------------------------


@checked
def classify(slide: Slide, tissue: Tissue, lesions: Lesions, tiles: Tiles) -> NDArray[np.uint8]:
    """What each place of a slide (:func:`.map_grid.grid_of`) is: (rows, columns) of ``NOTHING``, ``NORMAL``, ``TUMOUR`` or ``ASIDE``.

    Tissue: as a heat map has it (:func:`.map_grid.enough_tissue`). Tumour: any of its middle square lies in an outline; aside: any of it lies
    in an area that is not judged. Isolated tumour cells teach, though a search is not judged by them.
    """
    grid = grid_of(slide, tiles)
    codes = np.zeros((grid.rows, grid.columns), np.uint8)
    flat, marked = codes.reshape(-1), _marked(lesions)
    for start in range(0, flat.size, _AT_A_TIME):
        places = np.arange(start, min(start + _AT_A_TIME, flat.size))
        x, y = grid.centre(places % grid.columns), grid.centre(places // grid.columns)
        there = enough_tissue(tissue, x, y, tiles)
        flat[places[there]] = _labels(marked, x[there], y[there], tiles)
    return codes


def _marked(lesions: Lesions) -> Marked:
    """The outlines that teach tumour, and those of areas that are not judged, which teach nothing."""
    parts: dict[int, list[Any]] = {TUMOUR: [], ASIDE: []}
    for each in lesions.lesions:
        parts[ASIDE if each.ignored else TUMOUR].append(each)
    return tuple((code, Lesions(tuple(some))) for code, some in parts.items() if some)


def _labels(marked: Marked, x: NDArray[np.float64], y: NDArray[np.float64], tiles: Tiles) -> NDArray[np.uint8]:
    """What tiles of tissue around points (N,), µm, are by their middle square: (N,)."""
    codes = np.full(len(x), NORMAL, np.uint8)
    for code, some in marked:  # what is both tumour and not judged is not judged
        codes[some.share(x, y, tiles.middle) > NO_SHARE] = code
    return codes


# -- the places of many slides -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PlacesOfSlides:
    """Where tiles may be drawn. ``cases``: a row a slide; ``rows`` (n,): those that teach; ``counts`` (n, 2): their places of
    normal tissue and of tumour; ``grids``: the files of :func:`classify`; ``outlines``: of each slide the file of what its
    outlines teach (:func:`_keep_marked`), None for none."""

    cases: Cases
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    grids: tuple[Path, ...]
    outlines: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def without(self, rows: NDArray[np.int64]) -> PlacesOfSlides:
        """The same places, of which none is drawn of the slides in these rows of the table."""
        return replace(self, counts=np.where(np.isin(self.rows, rows)[:, None], 0, self.counts))

    def of(self, place: int, code: int) -> tuple[NDArray[np.int64], int]:
        """Places of one slide that are of a kind, counted along the rows of its grid, and how many columns that has."""
        grid = cv2.imread(str(self.grids[place]), cv2.IMREAD_GRAYSCALE)
        if grid is None:
            raise InputError("a grid of places is gone from the cache", given=self.grids[place].name, todo="run again")
        return np.flatnonzero(grid == code), grid.shape[1]


@checked
def find_places(
    cases: Cases, rows: NDArray[np.int64], tiles: Tiles, cache: Path, *, digests: dict[str, str] | None = None, threads: int = 0,
    part: str = "training", progress: Progress = silent, say: Say = unheard,
) -> PlacesOfSlides:  # fmt: skip
    """The places of the slides in these rows; each is looked at once, and what was found is kept in the ``cache``.

    A slide of tumour teaches only where it has outlines: without them nobody knows which of its tissue is normal; nor does one
    whose outlines cannot be read. ``say`` hears which slides teach nothing, and why. Raises :class:`InputError` for slides that
    cannot be read, or have changed since their ``digests`` were taken.
    """
    tumour = cases.table["label"].to_numpy() == tumour_of(cases.target)
    outlines, told, kept = outline_paths(cases), dict[str, int](), list[tuple[int, dict[str, Any]]]()
    for row, made in _surveyed(cases, rows, outlines, tiles, cache, digests, threads, progress, failed := list[str]()):
        why = _why_not(bool(tumour[row]), bool(outlines[row]), made)
        if why:
            told[why] = told.get(why, 0) + 1
        else:
            kept.append((row, made))
    _refuse(failed)
    for why, many in told.items():
        say(f"  slides that teach nothing: {many} of {len(rows)} in {part} — {why}")
    return _places(cases, kept, cache)


@checked
def find_tissue_places(
    cases: Cases, tiles: Tiles, cache: Path, *, digests: dict[str, str] | None = None, threads: int = 0, strict: bool = True,
    progress: Progress = silent, say: Say = unheard,
) -> PlacesOfSlides:  # fmt: skip
    """The places of all slides that have tissue, whatever their labels and outlines; ``say`` hears how many have none.

    Raises :class:`InputError` as :func:`find_places` does; where it is not ``strict``, slides that cannot be read are left out, and
    ``say`` hears of them.
    """
    outlines = [""] * len(cases)
    found = list(_surveyed(cases, np.arange(len(cases)), outlines, tiles, cache, digests, threads, progress, failed := list[str]()))  # fmt: skip
    if strict:
        _refuse(failed)
    elif failed:
        say(f"  slides that cannot be read, left out: {len(failed)} of {len(cases)}: {failed[0]}")
    kept = [(row, made) for row, made in found if made["normal"]]
    if len(kept) < len(found):
        say(f"  slides without tissue, left out: {len(found) - len(kept)} of {len(found)}")
    return _places(cases, kept, cache)


def _places(cases: Cases, kept: list[tuple[int, dict[str, Any]]], cache: Path) -> PlacesOfSlides:
    counts = np.array([(made["normal"], made["tumour"]) for _, made in kept], np.int64).reshape(-1, 2)
    grids = [cache / "slides" / made["grid"] for _, made in kept]
    marked = [grid.with_suffix(".npz") if made["marked"] else None for grid, (_, made) in zip(grids, kept, strict=True)]
    return PlacesOfSlides(cases, np.array([row for row, _ in kept], np.int64), counts, tuple(grids), tuple(marked))


def _surveyed(
    cases: Cases, rows: NDArray[np.int64], outlines: list[str], tiles: Tiles, cache: Path, digests: dict[str, str] | None,
    threads: int, progress: Progress, failed: list[str],
) -> Iterator[tuple[int, dict[str, Any]]]:  # fmt: skip
    """What :func:`_survey` tells of the slide in each row; why others ``failed`` is added there."""
    addresses, folder = paths(cases), cache / "slides"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = ((addresses[row], outlines[row], (digests or {}).get(addresses[row], "")) for row in rows)
    common = (tiles, list(cases.planes.tumour), str(folder))
    with closing(
        contained(_survey, tasks, common=common, workers=threads or cores(), seconds=slide_seconds(addresses))
    ) as found:
        for done, (row, made) in enumerate(zip(rows.tolist(), found, strict=True), 1):
            progress("looking for places of tiles", done, len(rows))
            if isinstance(made, ImageError):
                failed.append(made.reason or str(made))
            else:
                yield row, made


def _refuse(failed: list[str]) -> None:
    if failed:
        raise InputError(f"{count(len(failed), 'slide')} cannot be read", given=failed[0], todo="run `overread audit`, which sets them aside")  # fmt: skip


def _why_not(tumour: bool, outlined: bool, made: dict[str, Any]) -> str:
    """Why a slide teaches nothing; blank where it does."""
    if "unread" in made:
        return f"their outlines cannot be read ({made['unread']}): `overread audit` names them"
    if tumour and not outlined:
        return "labelled tumour and without outlines, so nobody knows where it lies (tiles.pooling=attention learns from labels alone)"  # fmt: skip
    if tumour and not made["outlined"]:
        return "labelled tumour, but their outlines hold none"
    if not tumour and made["outlined"]:
        return "labelled as without tumour, but outlines hold some: correct the label or the outlines"
    return "" if made["normal"] or made["tumour"] else "no tissue was found on them"


def _survey(address: str, outlines: str, digest: str, tiles: Tiles, tumour: list[str], folder: str) -> dict[str, Any]:
    """In a process of its own: the places of a slide, counted, or why its outlines are ``unread``; their grid is in the folder, where
    it may have been before, and beside it what the outlines teach, which later draws ask, and these counts."""
    found = content_digest(address)
    if digest not in ("", found):
        raise InputError("a slide has changed since it was audited", todo="run again")
    slide = slide_at(address)
    of = [_FORMAT, tissue_key(slide, tiles.tissue), tumour, tiles.mpp[0], tiles.centre, tiles.stride, tiles.least_tissue]  # fmt: skip
    try:
        path = Path(folder) / f"places-{fingerprint([*of, sha256_file(outlines) if outlines else ''])}.png"
        if (kept := _kept_counts(path)) is not None:
            return kept
        lesions = read_lesions(outlines, slide, tumour=tumour) if outlines else Lesions()
    except InputError as error:
        why = getattr(error, "reason", "") or error.in_general
        return {"unread": why.replace(Path(outlines).name, "the file").rstrip(".")}
    codes, marked = classify(slide, cached_tissue(slide, tiles.tissue, folder), lesions, tiles), _marked(lesions)
    with publish(path) as beside:
        beside.write_bytes(cv2.imencode(".png", codes)[1].tobytes())
    _keep_marked(path.with_suffix(".npz"), marked)
    normal, teaches = (int((codes == code).sum()) for code in (NORMAL, TUMOUR))
    files = [path, *([path.with_suffix(".npz")] if marked else [])]
    made = {
        "grid": path.name,
        "normal": normal,
        "tumour": teaches,
        "outlined": TUMOUR in dict(marked),
        "marked": bool(marked),
        "digests": {file.name: sha256_file(file) for file in files},
    }
    write_json(path.with_suffix(".json"), made)  # the last: where it is, all is
    return made


def _kept_counts(path: Path) -> dict[str, Any] | None:
    """What :func:`_survey` told of a slide before; None where something of it is gone or damaged."""
    try:
        made = read_json(path.with_suffix(".json"))
        return made if all(sha256_file(path.parent / name) == held for name, held in made["digests"].items()) else None
    except (InputError, KeyError, TypeError, AttributeError):
        return None


def _keep_marked(path: Path, marked: Marked) -> None:
    """Write what outlines teach, in microns: reading their file again for every draw would take longer than the draw."""
    if not marked:
        return
    held = [(code, each) for code, some in marked for each in some.lesions]
    rings = [ring for _, each in held for ring in (each.polygon, *each.holes)]
    with publish(path) as beside, open(beside, "wb") as file:
        np.savez(file, points=np.concatenate(rings), sizes=[len(ring) for ring in rings], rings=[1 + len(each.holes) for _, each in held],
                 codes=[code for code, _ in held])  # fmt: skip


def _kept_marked(path: Path) -> Marked:
    """What :func:`_keep_marked` wrote. Raises :class:`InputError` where it is gone or damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            rings = np.split(held["points"], np.cumsum(held["sizes"])[:-1])
            codes, ends = held["codes"], np.cumsum(held["rings"]).tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("outlines are gone from the cache", given=path.name, todo="run again") from error
    parts: dict[int, list[Lesion]] = {}
    for code, start, end in zip(codes.tolist(), [0, *ends], ends):
        parts.setdefault(code, []).append(Lesion(rings[start], tuple(rings[start + 1 : end])))
    return tuple((code, Lesions(tuple(some))) for code, some in parts.items())


# -- the draw ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TileTable:
    """Tiles that were drawn of slides, a row each: ``slide`` (row of the table of slides), ``x`` and ``y`` of the centre in µm,
    ``tumour`` (whether it is), ``place`` (of the grid) and ``draw`` (its number)."""

    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def counts(self, cases: Cases) -> dict[str, dict[str, int]]:
        """Tiles, slides and patients of each class."""
        patients = self.table["slide"].map(cases.table["patient"])
        rows = {"normal": ~self.table["tumour"], "tumour": self.table["tumour"]}
        return {name: {"tiles": int(some.sum()), "slides": int(self.table["slide"][some].nunique()), "patients": int(patients[some].nunique())}
                for name, some in rows.items()}  # fmt: skip

    def told(self, cases: Cases) -> str:
        """How many of what, in words."""
        return "; ".join(f"{name} {count(held['tiles'], 'tile')} of {count(held['slides'], 'slide')} of {count(held['patients'], 'patient')}"
                         for name, held in self.counts(cases).items())  # fmt: skip

    @classmethod
    def of(cls, columns: dict[str, list[Any]]) -> TileTable:
        """Tiles from columns as JSON keeps them, also of none."""
        kinds = {
            "slide": np.int64,
            "x": np.float64,
            "y": np.float64,
            "tumour": bool,
            "place": np.int64,
            "draw": np.int64,
        }
        return cls(pd.DataFrame(columns).astype({name: kind for name, kind in kinds.items() if name in columns}))

    def only(self, which: NDArray[np.bool_]) -> TileTable:
        """Some of them, by a mask (N,)."""
        return TileTable(self.table[which].reset_index(drop=True))

    def joined(self, other: TileTable) -> TileTable:
        """These, and then others."""
        return TileTable(pd.concat([self.table, other.table], ignore_index=True))


@checked
def draw_tiles(
    places: PlacesOfSlides, number: int, tiles: Tiles, *, seed: int, operation: str, normal: bool = False, threads: int = 0,
    progress: Progress = silent,
) -> TileTable:  # fmt: skip
    """So many tiles: half of each class, each of a slide that has the class and of a place of that, all alike, moved by the jitter.

    ``operation`` tells apart the draws of one ``seed``. ``normal``: tiles of normal tissue alone. A place may be drawn twice, as
    in the paper. A tile is not moved where that would change its label. Raises :class:`UnsoundError` where no slide has a class.
    """
    require(number >= 1, "the number of tiles must be at least 1", given=number)
    draws = np.arange(number)
    tumour = np.zeros(number, bool) if normal else draws % 2 == 1
    names = places.cases.table.iloc[places.rows][["case", "image"]].astype(str)
    order = np.lexsort([names["image"].to_numpy(), names["case"].to_numpy()])
    chosen = np.zeros(number, np.int64)  # which of the slides, by a place among those that teach
    for which in (False, True):
        having = order[places.counts[order, int(which)] > 0]
        asked = tumour == which
        if asked.any() and not len(having):
            name = tumour_of(places.cases.target) if which else "normal tissue"
            raise UnsoundError("no slide has tiles of a class", given=f"{name}, in {count(len(places), 'slide')}",
                               todo="add slides, their outlines, or give their tumour another group of outlines")  # fmt: skip
        if len(having):
            chosen[asked] = having[random.integers(seed, 0, draws[asked], f"slide {operation}", len(having))]
    parts = _placed(places, draws, tumour, chosen, order, tiles, seed, operation, threads, progress)
    return TileTable(pd.concat(list(parts), ignore_index=True))


def _placed(
    places: PlacesOfSlides, draws: NDArray[np.int64], tumour: NDArray[np.bool_], chosen: NDArray[np.int64], order: NDArray[np.int64],
    tiles: Tiles, seed: int, operation: str, threads: int, progress: Progress,
) -> Iterator[pd.DataFrame]:  # fmt: skip
    """The tiles of each slide, slide by slide in the order of their names."""
    share = random.uniform(seed, 0, draws, f"place {operation}")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    ordered = np.argsort(rank[chosen], kind="stable")
    groups = np.split(ordered, np.flatnonzero(np.diff(rank[chosen][ordered])) + 1)
    addresses, made, used = paths(places.cases), [], [int(chosen[mine[0]]) for mine in groups]
    for slide, mine in zip(used, groups, strict=True):
        place, columns = np.zeros(len(mine), np.int64), 1
        for code, some in ((NORMAL, ~tumour[mine]), (TUMOUR, tumour[mine])):
            if some.any():
                there, columns = places.of(slide, code)
                place[some] = there[np.floor(share[mine[some]] * len(there)).astype(np.int64)]
        x, y = middles(place % columns, tiles.step), middles(place // columns, tiles.step)
        made.append(pd.DataFrame({"slide": places.rows[slide], "x": x, "y": y, "tumour": tumour[mine], "place": place, "draw": draws[mine]}))  # fmt: skip
    tasks = ((str(places.outlines[slide] or ""), table["x"].to_numpy(), table["y"].to_numpy(),
              table["tumour"].to_numpy().astype(np.uint8), _shifts(table["draw"].to_numpy(), tiles, seed, operation))
             for slide, table in zip(used, made, strict=True))  # fmt: skip
    with closing(
        contained(_moved, tasks, common=(tiles,), workers=threads or cores(), seconds=slide_seconds(addresses))
    ) as found:
        for done, (table, moved) in enumerate(zip(made, found, strict=True), 1):
            if isinstance(moved, ImageError):
                raise InputError(
                    "a slide cannot be read", given=moved.reason or str(moved), todo="run `overread audit`"
                )
            progress("drawing tiles", done, len(made))
            yield table.assign(x=np.round(moved[0], 3), y=np.round(moved[1], 3))


def _shifts(draws: NDArray[np.int64], tiles: Tiles, seed: int, operation: str) -> NDArray[np.float64]:
    """(tries, 2, N) microns by which tiles may be moved across and down: whole pixels of the finest magnification."""
    if not tiles.jitter:
        return np.zeros((0, 2, len(draws)))
    pixels = [[random.integers(seed, attempt, draws, f"jitter {axis} {operation}", 2 * tiles.jitter + 1) - tiles.jitter for axis in "xy"]
              for attempt in range(_TRIES)]  # fmt: skip
    return np.array(pixels, np.float64) * tiles.mpp[0]


def _moved(
    marked: str, x: NDArray[np.float64], y: NDArray[np.float64], tumour: NDArray[np.uint8], shifts: NDArray[np.float64], tiles: Tiles
) -> NDArray[np.float64]:  # fmt: skip
    """In a process of its own: where tiles end, (2, N) µm, by the first of their shifts that leaves them their label; ``marked``: the
    file of what the outlines of the slide teach, blank for none."""
    made = np.stack([x, y])
    if not len(shifts):
        return made
    held = _kept_marked(Path(marked)) if marked else ()
    there = made + shifts  # (tries, 2, N), of which all are looked at together: each outline is drawn once
    labels = _labels(held, there[:, 0].ravel(), there[:, 1].ravel(), tiles).reshape(len(shifts), -1)
    fits = labels == np.where(tumour > 0, TUMOUR, NORMAL)
    first = fits.argmax(axis=0)
    return np.where(fits.any(axis=0), there[first, :, np.arange(len(x))].T, made)


# -- as cases ----------------------------------------------------------------------------------------------------------


@checked
def tile_cases(slides: Cases, parts: dict[str, TileTable], tiles: Tiles) -> tuple[Cases, Split]:
    """Tiles as cases, each with a view a magnification, and the parts they are in: patients, sources and all other columns are
    those of their slides. Tiles of one slide stand together, so that it is opened once."""
    whole = pd.concat([table.table.assign(split=part) for part, table in parts.items()], ignore_index=True)
    held = slides.table.iloc[whole["slide"].to_numpy()].reset_index(drop=True)
    yes = tumour_of(slides.target)
    no = next(name for name in slides.target.names if name != yes)
    case = [name for part, table in parts.items() for name in case_names(slides, table, part)]
    held = held.assign(slide=held["case"], case=case, label=np.where(whole["tumour"], yes, no), time="", split="")
    each = [
        held.assign(view=view, image=[tile_address(image, x, y, tiles.size, mpp) for image, x, y in zip(held["image"], whole["x"], whole["y"])])
        for view, mpp in zip(tiles.views, tiles.mpp, strict=True)
    ]  # fmt: skip
    table = pd.concat(each).sort_values(["slide", "case", "view"], kind="stable").reset_index(drop=True)
    split = pd.DataFrame({"case": case, "patient": held["patient"], "part": whole["split"]}).sort_values(
        "case", ignore_index=True
    )
    return replace(slides, table=table.drop(columns=["outlines"], errors="ignore")), Split(
        split, "tiles of the slides of each part", 0
    )


@checked
def case_names(slides: Cases, table: TileTable, part: str) -> list[str]:
    """What each tile is called: its slide, its part, its round and its number."""
    of_round = table.table["round"].fillna("") if "round" in table.table else [""] * len(table)
    names = slides.table["case"].astype(str).to_numpy()[table.table["slide"].to_numpy(np.int64)]
    return [
        f"{name} {part} {which}{draw}" for name, which, draw in zip(names, of_round, table.table["draw"], strict=True)
    ]


@checked
def tile_address(slide: str, x: float, y: float, size: int, mpp: float) -> str:
    """The address of a tile around ``x``, ``y`` (µm) of the slide at an address, of ``size`` pixels of ``mpp`` µm.

    >>> tile_address("nodes/a.svs#slide", 1250.5, 880.0, 256, 0.5)
    'nodes/a.svs#tile=1250.5,880,256,0.5'
    """
    held = parse(slide)
    return str(Address(held.path, tile=(x, y, size, mpp), mpp=held.mpp))
