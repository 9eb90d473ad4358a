"""Tables of lesions: the places that stand out on slides, the true lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, outline_paths, paths
from overread.core.errors import ImageError, InputError, checked
from overread.core.files import fingerprint, unguarded, write_csv
from overread.core.phrases import count
from overread.core.progress import Say, unheard
from overread.images.slides.lesion_outlines import Lesions, read_lesions
from overread.images.slides.slide import slide_at, slide_digest
from overread.slides.heat_map import HeatMap
from overread.slides.lesions import UNJUDGED, found_lesions

#: In ``predictions/``: heat maps; the places found, and the true lesions, of each part.
MAPS, PLACES, TRUTH = "maps", "places", "lesions"
#: The lowest score of a place that is listed of a new slide, and of the cells that its area holds; of how many places of a slide a search is
#: judged: the highest, whatever their scores, for a model may give tumour low probabilities.
LEAST, MOST = 0.02, 500
#: Files of outlines up to so many bytes are hashed whole; of larger label images parts all over the file.
_READ_WHOLE = 1 << 26
#: Where a place lies, in the table of the places found.
FOUND = ("case", "patient", "source", "x", "y", "score", "area", "region")
#: What is known of a lesion.
TRUE = ("case", "patient", "source", "region", "x", "y", "longest", "area", "group", "judged")


@checked
def refuse_unfit_slides(cases: Cases, recipe: Any = None) -> None:
    """Raise :class:`InputError` where slides are asked for what no heat map tells, anything but one of two classes, and for a ``recipe`` (a :class:`.Recipe`, or
    None) that does not go with tiles."""
    if not cases.target.task.binary:
        raise InputError("slides are told with disease from without, one of two classes", given=cases.target.task.summary,
                         todo="name a column of two classes with --label, or choose two with --where")  # fmt: skip
    if recipe is not None:
        from overread.slides.tile_recipe import refuse_unfit_recipe

        refuse_unfit_recipe(recipe)


@checked
def lesions_of(cases: Cases, say: Say = unheard) -> list[Lesions | None]:
    """The true lesions of each slide: those of its outlines; none where it has no outlines and its label says that it has no
    disease; None where they are not known: the label says disease and there are no outlines, outlines and label contradict each
    other (such slides teach nothing either), the file cannot be read."""
    labels = cases.table[cases.target.columns[0]].to_numpy()
    ill = np.isin(labels, list(cases.target.positive))
    healthy = np.isin(labels, [name for name in cases.target.names if name not in cases.target.positive])
    found: list[Lesions | None] = []
    why: dict[str, int] = {}
    for row, (address, file) in enumerate(zip(paths(cases), outline_paths(cases), strict=True)):
        made, reason = _known_lesions(address, file, bool(ill[row]), bool(healthy[row]), cases.planes.tumour)
        found.append(made)
        if reason:
            why[reason] = why.get(reason, 0) + 1
    for reason, many in why.items():
        say(f"  {count(many, 'slide')} {reason}: lesions are not known there, and not judged")
    return found


def _known_lesions(
    address: str, file: str, ill: bool, healthy: bool, tumour: Sequence[str]
) -> tuple[Lesions | None, str]:
    """The lesions of a slide, or None and why they are not known."""
    if not file:
        return (Lesions(), "") if healthy else (None, "with disease, or of unknown label, without outlines")
    try:
        made = read_lesions(file, slide_at(address), tumour=tumour)
    except (ImageError, InputError) as error:
        why = error.reason if isinstance(error, ImageError) and error.reason else error.what
        return None, f"whose outlines cannot be read ({why.replace(Path(file).name, 'the file')})"
    held = any(not each.ignored for each in made.lesions)
    if ill and not held:
        return None, "with disease by their label, whose outlines hold none"
    return (None, "without disease by their label, whose outlines hold some") if healthy and held else (made, "")


@checked
def found_places(
    cases: Cases,
    maps: Mapping[int, HeatMap],
    lesions: Sequence[Lesions | None],
    radius: float,
    least: float = 0.0,
    window: int = 1,
) -> pd.DataFrame:
    """The places that stand out on each slide, the highest :data:`MOST` of at least ``least``, in the columns :data:`FOUND`: ``x``, ``y`` in µm;
    ``score`` the mean over a square of ``window`` cells a side (:func:`.windowed`);
    ``area``, µm², of the connected cells around it that reach the map's threshold, :data:`LEAST` of a map without one, or of its own cell alone.

    ``region``: the number of the true lesion that a place lies on, :data:`.NO_LESION`, or :data:`.UNJUDGED` where it lies on isolated tumour cells
    or another area that is not judged; where the lesions of a slide are not known, all are so.
    """
    parts = [
        pd.DataFrame(
            {name: pd.Series(dtype=float if name in ("x", "y", "score", "area") else object) for name in FOUND}
        )
    ]
    for row, found in maps.items():
        truth, places = lesions[row], _places_of(found, radius, least, window)
        who = {name: cases.table[name].iloc[row] for name in ("case", "patient", "source")}
        parts.append(places.assign(**who, region=regions_at(truth, places))[list(FOUND)])
    filled = [part for part in parts[1:] if len(part)] or parts[:1]
    return pd.concat(filled, ignore_index=True).astype({"region": np.int64})


def _places_of(found: HeatMap, radius: float, least: float, window: int) -> pd.DataFrame:
    threshold = found.about.threshold if np.isfinite(found.about.threshold) else LEAST
    return found_lesions(found.means(window), cell=found.mpp, radius=radius, least=least, origin=found.origin, most=MOST, region_least=threshold)  # fmt: skip


@checked
def regions_at(truth: Lesions | None, places: pd.DataFrame) -> NDArray[np.int64]:
    """The ``region`` of each place (N,), as in :func:`found_places`."""
    if truth is None:
        return np.full(len(places), UNJUDGED)
    at = truth.region_at(places["x"].to_numpy(np.float64), places["y"].to_numpy(np.float64))
    excluded = np.append(np.asarray(truth.regions_excluded, bool), False)
    return np.where(excluded[at], UNJUDGED, at)


@checked
def true_lesions(cases: Cases, lesions: Sequence[Lesions | None]) -> pd.DataFrame:
    """The true lesions of each slide in the columns :data:`TRUE`: the middle and the longer axis in µm, the outlined area in µm²;
    ``judged``: 0 for isolated tumour cells and other areas that are not. An outline in several regions is measured in each."""
    rows = []
    for row, truth in enumerate(lesions):
        who = {name: cases.table[name].iloc[row] for name in ("case", "patient", "source")}
        for number, (region, left_out) in enumerate(
            zip(truth.regions, truth.regions_excluded, strict=True) if truth else ()
        ):
            mine = [truth.lesions[at] for at in region.outlines]  # type: ignore[union-attr]
            x, y = region.centre
            rows.append({**who, "region": number, "x": x, "y": y, "longest": max(one.longest for one in mine),
                         "area": sum(one.area for one in mine), "group": mine[0].group, "judged": int(not left_out)})  # fmt: skip
    return pd.DataFrame(rows, columns=list(TRUE))


@checked
def save_places(table: pd.DataFrame, path: Path) -> Path:
    """Write a table of places to nine digits, which tell all codes of a heat map apart."""
    return write_csv(path, table, float_format="%.9g")


@checked
def read_places(path: Path) -> pd.DataFrame:
    """Read what :func:`save_places` wrote, or another table of a part's slides: names as text, the rest as numbers."""
    if not path.exists():
        raise InputError(
            "the run has no places on its slides yet", given=path.name, todo="predict first: overread predict RUN"
        )
    table = unguarded(pd.read_csv(path, dtype=str, keep_default_na=False))
    return table.assign(
        **{
            name: pd.to_numeric(table[name])
            for name in table
            if name not in ("case", "patient", "source", "group", "name")
        }
    )


@checked
def outlines_digest(cases: Cases) -> str:
    """A hash of what the files of outlines hold, which columns of paths do not tell; blank where there are none."""
    held = []
    for file in outline_paths(cases):
        try:
            whole = not file or Path(file).stat().st_size <= _READ_WHOLE
            held.append(
                slide_digest(file) if not whole else sha256(Path(file).read_bytes()).hexdigest() if file else ""
            )
        except OSError:
            held.append("unreadable")
    return fingerprint([held, list(cases.planes.tumour)]) if any(held) else ""
