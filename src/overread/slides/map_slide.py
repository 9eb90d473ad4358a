"""The heat map of a slide of any size: read in blocks ahead of the network, in bounded memory, kept row by row.

Beside the map that is made lies a folder ``<name>.part``: ``codes.bin`` and a journal with a line for each row of blocks that is
done, with its checksum; a killed process goes on there. Answers do not depend on how many threads read and how many
compute: each batch is of one block, and on a processor one thread of torch calculates it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, require
from overread.core.files import cores, fingerprint, folder_lock, read_json, sha256, write_json
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.slides.slide import Slide, slide_digest
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import Tissue, find_tissue
from overread.learning.device import pick_device
from overread.learning.model import Model
from overread.slides.heat_map import HeatMap, MapAbout, write_map
from overread.slides.map_grid import Block, Grid, Pixels, blocks_of, grid_of, looked_at, places_of, read_block
from overread.slides.tile_answers import TileAnswers, largest_batch
from overread.slides.unread_tiles import MOST_UNREAD

#: Rectangles of unreadable cells that the description of a map lists.
_LISTED = 64
#: Threads that compute at most where nobody says how many: each holds a batch in memory.
MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class MapJob:
    """A map that is to be made: of which slide, by what, where it looks.

    ``wanted``: cells that are looked at, in all; counted before anything is read.
    """

    slide: Slide
    tissue: Tissue
    tiles: Tiles
    grid: Grid
    about: MapAbout
    wanted: int

    @property
    def tiles_to_read(self) -> int:
        """Tiles of all magnifications."""
        return self.wanted * len(self.tiles.mpp)


@checked
def map_job(model: Model, slide: Slide, tissue: Tissue | None = None) -> MapJob:
    """What the heat map of a slide by a model takes; ``tissue`` is found where it is not given.

    Raises :class:`ImageError` where the slide's overview cannot be read, :class:`InputError` of a model that was not taught
    on tiles of slides.
    """
    tiles = tiles_of(model)
    tissue = find_tissue(slide, tiles.tissue) if tissue is None else tissue
    grid = grid_of(slide, tiles)
    wanted = sum(int(looked_at(grid, tissue, tiles, band).sum()) for band in range(grid.bands))
    about = MapAbout(
        grid.cell, (grid.rows, grid.columns), slide.size, tiles.bits, tiles.stride, tiles.mpp, tiles.size, tiles.centre,
        tiles.least_tissue, max(1, model.about.recipe.views), model.digest, slide_digest(slide.path),
        sha256(np.ascontiguousarray(tissue.kinds).tobytes() + f"{tissue.kinds.shape} {tissue.mpp!r}".encode())[:16],
    )  # fmt: skip
    return MapJob(slide, tissue, tiles, grid, about, wanted)


@checked
def tiles_of(model: Model) -> Tiles:
    """How a model's tiles are read. Raises :class:`InputError` of one that was not taught on tiles of slides, or that is shown numbers
    beside them."""
    about = model.about
    if not model.target.task.exclusive or not model.target.positive:
        raise InputError("a heat map shows the probability of a positive class, and the model has none", given=", ".join(model.target.names[:5]),
                         todo="train with --positive CLASS")  # fmt: skip
    if about.extra_inputs:
        raise InputError("a heat map is made of pixels alone", given=f"extra inputs: {', '.join(each.column for each in about.extra_inputs)}",
                         todo="train without extra inputs")  # fmt: skip
    return about.recipe.tiles


@checked
def map_slide(
    model: Model, slide: Slide, path: Path, *, tissue: Tissue | None = None, job: MapJob | None = None, threshold: float = math.nan,
    device: str = "", threads: int = 0, workers: int = 0, wait: float = -1.0, progress: Progress = silent, say: Say = unheard,
) -> HeatMap:  # fmt: skip
    """The heat map of ``slide`` by ``model``, written to ``path``; one that is there of the same slide, model and tissue is kept.

    ``job``: as :func:`map_job` gave it. ``threshold`` stands in the description. ``threads`` read ahead (0: two) and ``workers``
    compute at once (0: one a core; one on a graphics card); the bytes of the map are the same for any number. Where another process makes
    this map, it is waited for, ``wait`` seconds at most (−1: until it is done). ``say`` hears what cannot be read.

    Raises :class:`ImageError` where there is no tissue or more than :data:`MOST_UNREAD` of it cannot be read,
    :class:`UnavailableError` where another process took longer.
    """
    require(threads >= 0 and workers >= 0, "threads and workers must not be negative", given=(threads, workers))
    job = map_job(model, slide, tissue) if job is None else job
    device, part = pick_device(device), path.with_name(f"{path.name}.part")
    try:
        with folder_lock(part, wait=wait):
            try:
                found = _there(path, job, threshold)
                if found is None:
                    if not job.wanted:
                        raise ImageError("no tissue was found on the slide", given=f"{job.grid.rows:,} × {job.grid.columns:,} places",
                                         todo="look at its overview; --set tiles.tissue… decides what is tissue")  # fmt: skip
                    found = _made(model, job, path, part, threshold, device, threads or 2, workers, progress, say)
            except ImageError:  # refused: nothing is left to be gone on with
                shutil.rmtree(part, ignore_errors=True)
                raise
            shutil.rmtree(part, ignore_errors=True)  # while it is ours: who waits for it makes a folder of its own
    finally:
        if os.name == "nt":  # which keeps the file of a lock that is held
            with suppress(OSError):
                (part / ".lock").unlink()
                part.rmdir()
    return found


@checked
def is_mapped(path: Path, job: MapJob) -> bool:
    """Whether the heat map of a job is there already, with whatever threshold in its description."""
    try:
        about = HeatMap.load(path).about if path.exists() else None
        return about is not None and _fresh(about) == job.about and not (about.unread and _newer(job.slide.path, path))
    except InputError:  # damaged: made again
        return False


def _there(path: Path, job: MapJob, threshold: float) -> HeatMap | None:
    """The map that is there already, where it is the same; with another threshold it is written anew, with its own where none is known."""
    if not is_mapped(path, job):
        return None
    found = HeatMap.load(path)
    return found if math.isnan(threshold) else found.with_threshold(threshold)


def _newer(slide: str, path: Path) -> bool:
    """Whether a slide has changed since its map was made, also where its digest, which is of samples, is the same: restored, say."""
    about = os.stat(slide)
    return max(about.st_mtime_ns, about.st_ctime_ns) > path.stat().st_mtime_ns


def _fresh(about: MapAbout) -> MapAbout:
    """A description without what is known only when the map is made."""
    return replace(about, looked=0, unread=0, unread_places=(), threshold=math.nan)


def _made(
    model: Model, job: MapJob, path: Path, part: Path, threshold: float, device: str, threads: int, workers: int,
    progress: Progress, say: Say,
) -> HeatMap:  # fmt: skip
    kind = device.partition(":")[0]
    answers = TileAnswers.of(model, job.slide, device, largest_batch(device, job.tiles.size))
    workers = workers or min(cores(), MOST_WORKERS)
    with _rows(part, job, f"{kind} {answers.cells}") as kept:
        _read_all(job, answers, kept, threads, workers if kind == "cpu" else 1, progress, say)
        unread = kept.unread
        _refuse_unread(job, unread, kept.reason)
        about = replace(
            job.about,
            looked=job.wanted - unread,
            unread=unread,
            unread_places=kept.places[:_LISTED],
            threshold=threshold,
        )
        if unread:
            say(
                f"  {count(unread, 'place')} of {job.wanted:,} cannot be read and {'is' if unread == 1 else 'are'} not looked at: {kept.reason}"
            )
        return write_map(path, kept.codes, about)


# -- rows of blocks on disk ----------------------------------------------------------------------------------------


class _Kept:
    """The rows of blocks that are done: codes on disk, and a journal of them."""

    def __init__(self, codes: NDArray[Any], journal: Any, grid: Grid, done: dict[int, dict[str, Any]]) -> None:
        self.codes, self._journal, self._grid, self.done = codes, journal, grid, done

    @property
    def unread(self) -> int:
        """Cells that cannot be read."""
        return sum(int(line["unread"]) for line in self.done.values())

    @property
    def places(self) -> tuple[tuple[float, float, float, float], ...]:
        """The rectangles that they lie in."""
        return tuple(tuple(place) for band in sorted(self.done) for place in self.done[band]["places"])

    @property
    def reason(self) -> str:
        """Why the first of them cannot be read."""
        return next((str(self.done[band]["reason"]) for band in sorted(self.done) if self.done[band]["reason"]), "")

    def put(self, band: int, codes: NDArray[Any], unread: int, places: list[Any], reason: str) -> None:
        """Keep a row of blocks."""
        first, last = self._grid.band(band)
        self.codes[first:last] = codes
        line = {
            "band": band,
            "crc": zlib.crc32(np.ascontiguousarray(codes).data),
            "unread": unread,
            "places": places,
            "reason": reason,
        }
        text = json.dumps(line).encode()
        self._journal.write(f"{zlib.crc32(text):08x} ".encode() + text + b"\n")
        self.done[band] = line


@contextmanager
def _rows(part: Path, job: MapJob, kind: str) -> Iterator[_Kept]:
    """What a killed process has kept of the same map, open to be gone on with; else nothing."""
    of, path, journal = part / "job.json", part / "codes.bin", part / "journal.txt"
    key, grid = fingerprint([job.about, kind]), job.grid
    size = grid.rows * grid.columns * job.about.dtype.itemsize
    if not (of.exists() and _key(of) == key and path.exists() and path.stat().st_size == size):
        journal.unlink(missing_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
        write_json(of, {"of": key})
    codes = np.memmap(path, job.about.dtype, "r+", shape=(grid.rows, grid.columns))
    done = {band: line for band, line in _lines(journal, grid) if zlib.crc32(np.ascontiguousarray(codes[slice(*grid.band(band))]).data) == line["crc"]}  # fmt: skip
    text = [json.dumps(line).encode() for line in done.values()]
    journal.write_bytes(
        b"".join(f"{zlib.crc32(line):08x} ".encode() + line + b"\n" for line in text)
    )  # without a torn end
    with open(journal, "ab", buffering=0) as file:
        yield _Kept(codes, file, grid, done)


def _key(of: Path) -> str:
    try:
        return str(read_json(of)["of"])
    except (InputError, KeyError, TypeError):
        return ""


def _lines(journal: Path, grid: Grid) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in journal.read_bytes().splitlines() if journal.exists() else ():
        check, _, text = line.partition(b" ")
        if check == f"{zlib.crc32(text):08x}".encode():
            held = json.loads(text)
            if 0 <= held["band"] < grid.bands:
                yield int(held["band"]), held


# -- reading ahead and computing ------------------------------------------------------------------------------------


def _read_all(
    job: MapJob, answers: TileAnswers, kept: _Kept, threads: int, workers: int, progress: Progress, say: Say
) -> None:
    """Every row of blocks that is not there yet: blocks are read by ``threads`` ahead of ``workers`` that compute."""
    if kept.done:
        say(
            f"  {len(kept.done)} of {count(job.grid.bands, 'row')} of the heat map {'is' if len(kept.done) == 1 else 'are'} there already"
        )
    done, held = 0, list[tuple[Block, NDArray[np.float64], str]]()
    stop = Event()
    with pools(threads, workers, stop) as (reading, computing):
        for number, block, cells, answer in _ahead(job, answers, kept, reading, computing, threads, workers, stop):
            if block is not None:
                held.append((block, *_together(answer)))
                progress(
                    "reading the slide", min(done + sum(len(each[0]) for each in held), job.wanted - 1), job.wanted
                )
                continue
            if number not in kept.done:
                _keep(job, kept, number, held)
            done, held = done + cells, []
    progress("reading the slide", job.wanted, job.wanted)


def _ahead(
    job: MapJob,
    answers: TileAnswers,
    kept: _Kept,
    reading: ThreadPoolExecutor,
    computing: ThreadPoolExecutor,
    threads: int,
    workers: int,
    stop: Event,
) -> Iterator[tuple[int, Block | None, int, list[Future[_Said]]]]:
    """``(row of blocks, block, 0, shares of its answers)`` in order, ``threads`` and ``workers`` of them under way; after each row's last ``(row, None,
    its cells, [])``. A block is answered by all workers at once: a small slide has few of them."""
    under_way: deque[Any] = deque()
    for number, block, cells in _planned(job, kept):
        shares: list[Future[_Said]] = []
        if block is not None:
            pixels = reading.submit(read_block, job.slide, job.grid, job.tiles, block)
            shares = [computing.submit(_answered, answers, pixels, stop, share, workers) for share in range(workers)]
        under_way.append((number, block, cells, shares))
        if len(under_way) > threads + workers:
            yield under_way.popleft()
    yield from under_way


def _planned(job: MapJob, kept: _Kept) -> Iterator[tuple[int, Block | None, int]]:
    """``(row of blocks, block, 0)`` of what is left to be looked at, after the last of each row ``(row, None, its cells)``."""
    for number in range(job.grid.bands):
        wanted = looked_at(job.grid, job.tissue, job.tiles, number)
        if number not in kept.done:
            for block in blocks_of(job.grid, wanted, number):
                yield number, block, 0
        yield number, None, int(wanted.sum())


def _keep(job: MapJob, kept: _Kept, number: int, held: Sequence[tuple[Block, NDArray[np.float64], str]]) -> None:
    """Keep a row of blocks of which there is all."""
    first, last = job.grid.band(number)
    codes = np.zeros((last - first, job.grid.columns), job.about.dtype)
    unread, places, why, full = 0, list[Any](), "", 2**job.about.bits - 2
    for block, said, reason in held:
        lost = np.isnan(said)
        unread, why = unread + int(lost.sum()), why or reason
        places += places_of(job.grid, block, lost)
        here = ~lost
        codes[block.rows[here] - first, block.columns[here]] = 1 + np.rint(np.clip(said[here], 0, 1) * full).astype(
            np.int64
        )
    _refuse_unread(job, kept.unread + unread, kept.reason or why)  # before it counts as done
    kept.put(number, codes, unread, places, why)


def _refuse_unread(job: MapJob, unread: int, reason: str) -> None:
    if unread > MOST_UNREAD * job.wanted:
        raise ImageError(f"more than {MOST_UNREAD:.0%} of the slide's tissue cannot be read", given=f"{unread:,} of {job.wanted:,} places; {reason}",
                         todo="copy the slide anew from its scanner")  # fmt: skip


#: The probability (n,) of each cell of a block, NaN of one that was not asked or cannot be read, and why that is.
_Said = tuple[NDArray[np.float64], str]


def _answered(answers: TileAnswers, pixels: Future[Pixels], stop: Event, share: int, shares: int) -> _Said:
    """What is said of every ``shares``-th batch of cells, from that with the number ``share`` on; nothing of use after ``stop``."""
    held = pixels.result()
    said, which = np.full(len(held.read), np.nan), np.flatnonzero(held.read)
    for start in range(share * answers.cells, len(which), shares * answers.cells):
        if stop.is_set():  # Ctrl-C: a block may take minutes
            break
        some = which[start : start + answers.cells]
        said[some] = answers(held.tiles(some))
    return said, held.reason


def _together(shares: Sequence[Future[_Said]]) -> _Said:
    found = [share.result() for share in shares]
    return np.fmax.reduce([said for said, _ in found]), found[0][1]


@contextmanager
def pools(
    threads: int, workers: int, stop: Event | None = None
) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Threads that read, and threads that compute with one thread of torch each; what was not begun is dropped at an error, and ``stop``
    tells what was."""
    before = torch.get_num_threads()
    reading = ThreadPoolExecutor(threads, thread_name_prefix="slide-read")
    computing = ThreadPoolExecutor(workers, thread_name_prefix="slide-map", initializer=_one_thread)
    try:
        yield reading, computing
    finally:
        if stop is not None:
            stop.set()
        for pool in (computing, reading):
            pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def _one_thread() -> None:
    torch.set_num_threads(1)
