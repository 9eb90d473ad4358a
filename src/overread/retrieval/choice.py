"""Which layer, and which distance: those whose neighbours are most often of the case's class, on tuning patients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.cases import Cases
from overread.core.errors import checked
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.random import by_name
from overread.learning.model import Model
from overread.retrieval.embed import FEATURES, Embedded, embed, layers_of
from overread.retrieval.neighbours import Barred, codes_of, nearest, unit
from overread.retrieval.precision import FIRST, macro

#: Cases of the training part that layers are compared on, at most; more tell no more.
MOST = 20_000
#: A layer that is better by less than this is not better: the first one stays.
_EQUAL = 1e-12


@dataclass(frozen=True)
class Tried:
    """A layer and a distance, and their macro precision@5 on tuning patients (of a quantity the mean difference, with a minus)."""

    layer: str
    distance: str
    score: float
    width: int = 0
    chosen: bool = False


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen among what was ``tried``; ``embedded``: what the layers say of the cases, where of all of them."""

    layer: str
    distance: str
    tried: tuple[Tried, ...] = ()
    embedded: Embedded | None = None
    notes: tuple[str, ...] = ()


@checked
def choose(
    model: Model, cases: Cases, tuning: Cases | None, *, layer: str = "", distance: str = "", seed: int = 0, device: str = "",
    threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> Choice:  # fmt: skip
    """The layer and the distance of an index of ``cases``; what is given stays.

    Judged by the five nearest of each ``tuning`` case, never of the same patient. Of more than 20,000 cases, some of the
    patients are compared with. Without tuning cases ``features`` and ``cosine``.
    """
    if layer and distance:
        return Choice(layer, distance)
    if tuning is None or not len(tuning):
        why = "layer and distance are not chosen: there are no tuning cases with a label"
        return Choice(layer or FEATURES, distance or "cosine", notes=(why,))
    layers = (layer,) if layer else layers_of(model)
    some, notes = _some(cases, seed)
    work: dict[str, Any] = {"device": device, "threads": threads, "progress": progress, "say": say}
    held, asked = embed(model, some, layers, **work), embed(model, tuning, layers, **work)
    task, known, queries = model.target.task, some.take(held.rows), tuning.take(asked.rows)
    barred = Barred((codes_of(queries.table["patient"].tolist(), known.table["patient"].tolist()),))
    tried: list[Tried] = []
    for name in _different(held, layers):
        for how in (distance,) if distance else ("cosine", "euclidean"):
            mine, theirs = asked.vectors[name], held.vectors[name]
            mine, theirs = (unit(mine), unit(theirs)) if how == "cosine" else (mine, theirs)
            rows, _ = nearest(mine, theirs, FIRST, distance=how, barred=barred)
            tried.append(Tried(name, how, macro(rows, queries.labels, known.labels, task), theirs.shape[1]))
    best = tried[0]
    for each in tried[1:]:
        best = each if each.score > best.score + _EQUAL or np.isnan(best.score) else best
    found = tuple(replace(each, chosen=each is best) for each in tried)
    return Choice(best.layer, best.distance, found, held if some is cases else None, notes)


def _some(cases: Cases, seed: int) -> tuple[Cases, tuple[str, ...]]:
    """All cases, or those of some patients where there are very many."""
    if len(cases) <= MOST:
        return cases, ()
    patients = cases.table["patient"].astype(str)
    known = np.asarray(pd.unique(patients), dtype=object)
    drawn = pd.Series(by_name(seed, known, "patients that layers are compared on"), index=known)
    kept = cases.take((patients.map(drawn) < MOST / len(cases)).to_numpy())
    return kept, (
        f"layer and distance were chosen with {count(len(kept), 'image')} of {len(cases):,} of the training part",
    )


def _different(held: Embedded, layers: tuple[str, ...]) -> list[str]:
    """The layers without those that say what one before them says: the last maps, averaged, are often the features."""
    kept: list[str] = []
    for name in layers:
        vectors = held.vectors[name]
        same = (held.vectors[other] for other in kept if held.vectors[other].shape == vectors.shape)
        if not any(np.allclose(vectors, other, rtol=1e-4, atol=1e-6) for other in same):
            kept.append(name)
    return kept
