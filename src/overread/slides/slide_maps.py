"""The heat maps of many slides, one after the other: what they take is told before the first, and the time left over all of them.

Several processes, on one machine or several, may map the same slides into the same folder: each takes those that no other
is at work on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, InputError, UnavailableError, checked, require
from overread.core.files import cache_folder, read_json, write_json
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.slides.slide import Slide, slide_at
from overread.images.slides.tissue import Tissue, cached_tissue, tissue_key
from overread.learning.model import Model
from overread.slides.heat_map import HeatMap, SlideMaps
from overread.slides.map_forecast import forecast_maps
from overread.slides.map_slide import MapJob, is_mapped, map_job, map_slide, tiles_of

__all__ = ["kept_tissue", "map_slides"]


@checked
def map_slides(
    model: Model, cases: Cases, folder: str | os.PathLike[str], names: Sequence[str], *, threshold: float = math.nan, device: str = "",
    threads: int = 0, workers: int = 0, cache: str | os.PathLike[str] | None = None, progress: Progress = silent, say: Say = unheard,
) -> SlideMaps:  # fmt: skip
    """The heat map of each slide of ``cases``: ``NAME.tif`` in ``folder``, and beside it the tissue that was found, ``NAME.tissue.png``.

    ``names`` of the files, one a row, without an ending; the rest as in :func:`overread.slides.map_slide.map_slide`. Slides that
    cannot be read, or show no tissue, are set aside with their reason. ``say`` hears how many tiles will be read and about how
    long that takes. What is there of an earlier call is kept; tissue that training or the audit found is taken from the ``cache``
    (None: :func:`.cache_folder`).
    """
    require(len(names) == len(cases), "there is a name for each slide", given=f"{len(names)} for {len(cases)}")
    alike = len(names) - len({name.casefold() for name in names})
    require(not alike, "two slides cannot have one file", given=f"{count(alike, 'name')} twice")
    home, addresses, errors = Path(folder), paths(cases), dict[int, str]()
    kept_in = Path(cache) if cache else cache_folder()
    wanted, there = _wanted(model, addresses, home, names, kept_in, errors, progress)
    rows = [row for row, places in wanted.items() if places]
    errors |= {row: "no tissue was found on the slide" for row, places in wanted.items() if not places}
    total, done, maps, later = sum(wanted.values()), 0, dict[int, HeatMap](), list[int]()
    if kept := len(there.intersection(rows)):
        say(f"  {count(kept, 'heat map')} {'is' if kept == 1 else 'are'} there already")
    if left := [row for row in rows if row not in there]:
        job, places = _job(model, addresses[left[0]], home, names[left[0]], kept_in), sum(wanted[row] for row in left)
        say(
            forecast_maps(
                model, job, places=places, slides=len(left), device=device, threads=threads, workers=workers
            ).line
        )
    for wait, todo in ((0.0, rows), (-1.0, later)):
        for row in todo:
            try:
                job = _job(model, addresses[row], home, names[row], kept_in)
                maps[row] = map_slide(model, job.slide, home / f"{names[row]}.tif", job=job, threshold=threshold, device=device, threads=threads,
                                      workers=workers, wait=wait, progress=_from(progress, done, total), say=say)  # fmt: skip
            except ImageError as error:
                errors[row] = error.reason or error.what
            except UnavailableError:
                if wait:
                    raise
                later.append(row)  # another process is at it: looked at again when all others are done
                continue
            done += wanted[row]
    progress("mapping slides", total, total)
    if errors:
        say(
            f"  {count(len(errors), 'slide')} of {len(cases):,} {'is' if len(errors) == 1 else 'are'} set aside: {next(iter(errors.values()))}"
        )
    return SlideMaps(dict(sorted(maps.items())), dict(sorted(errors.items())))


def _from(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one slide as of all."""

    def tell(what: str, done: int, of: int) -> None:
        if before + done < total:  # the last call is the driver's own
            progress("mapping slides", before + done, total)

    return tell


def _wanted(
    model: Model, addresses: Sequence[str], home: Path, names: Sequence[str], cache: Path, errors: dict[int, str], progress: Progress
) -> tuple[dict[int, int], set[int]]:  # fmt: skip
    """Of each slide that can be read how many places are looked at, and which have their map; its tissue lies in the folder then."""
    found, there = dict[int, int](), set[int]()
    for row, address in enumerate(addresses):
        try:
            job = _job(model, address, home, names[row], cache)
            found[row] = job.wanted
            if is_mapped(home / f"{names[row]}.tif", job):
                there.add(row)
        except ImageError as error:
            errors[row] = error.reason or error.what
        progress("finding tissue", row + 1, len(addresses))
    return found, there


def _job(model: Model, address: str, home: Path, name: str, cache: Path) -> MapJob:
    slide = slide_at(address)
    return map_job(model, slide, kept_tissue(model, slide, home / f"{name}.tissue.png", cache))


@checked
def kept_tissue(model: Model, slide: Slide, path: Path, cache: Path) -> Tissue:
    """The tissue of a slide as it lies in ``path``; found, or taken from the ``cache``, and put there where it is that of another slide, other settings, damaged, or none."""
    of, settings = path.with_suffix(".of.json"), tiles_of(model).tissue
    key = tissue_key(slide, settings)
    try:
        if path.exists() and of.exists() and read_json(of) == {"of": key}:
            return Tissue.load(path)
    except InputError:  # what a full disk or a stopped copy left
        pass
    found = cached_tissue(slide, settings, cache / "slides")
    found.save(path)
    write_json(of, {"of": key})
    return found
