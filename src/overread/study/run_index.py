"""The index of a run: the known cases that are nearest to others, how far they can be trusted, and a map of the test part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.cases import Cases, paths
from overread.core.errors import checked
from overread.core.files import cache_folder, fingerprint, read_json, write_bytes, write_csv, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.ledger import record_look, verify
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.reporting.thumbnails import thumbnails
from overread.retrieval.index import Asked, Index, Neighbours, label_words
from overread.retrieval.projection import project
from overread.study.context import TAXONOMY
from overread.study.question import Study
from overread.tasks.taxonomy import TABLE_LABEL, read_taxonomy

#: Seconds that a map may always take, and the share of what is left of a budget.
_MAP_SHARE = 0.3


@checked
def build_index(
    model: Model, parts: Mapping[str, Cases], folder: str | Path, *, layer: str = "", distance: str = "", clock: Clock | None = None,
    cache: str | Path | None = None, device: str = "", threads: int = 0, seed: int = 0, look: bool = True,
    progress: Progress = silent, say: Say = unheard,
) -> Index:  # fmt: skip
    """Every file of ``folder/index``: the index of the ``train`` cases, chosen and judged on ``tuning``, the map, and the
    neighbours of the cases that the report shows.

    The ``test`` cases are judged only where the run has been evaluated and ``look`` allows it; then this is a look, written
    into the ledger unless the same one stands there. Of a run that was not evaluated the map is of the tuning part. Raises as :meth:`Index.build` does.
    """
    folder, clock = Path(folder), clock or Clock()
    work: dict[str, Any] = {"device": device, "threads": threads, "cache": cache, "progress": progress, "say": say}
    train = parts["train"]
    train = replace(train, table=train.table.assign(split="train"))
    index = Index.build(model, train, layer=layer, distance=distance, tuning=parts.get("tuning"), seed=seed, **work)
    predictions, part = _opened(folder), "test"
    shown = parts.get("test") if predictions is not None else None
    if shown is None:
        shown, part, predictions = parts.get("tuning"), "tuning", None
        say(
            "  the test part stays closed, since the run has not been evaluated: neighbours are judged on tuning patients only"
        )
    asked = index.ask(shown, **work) if shown is not None and len(shown) else None
    if asked is not None and predictions is not None and look:
        judged = index.judge(asked, "test", seed=seed)
        _write_look(folder, index, predictions, judged)
        index = replace(index, about=replace(index.about, precision=(*index.about.precision, *judged)))
    index.save(folder / "index")
    if asked is not None and shown is not None:
        write_map(
            index,
            asked,
            shown,
            predictions,
            folder / "index" / "map.csv",
            levels=_classes_at(folder),
            seconds=_MAP_SHARE * clock.left,
            seed=seed,
            say=say,
        )
        wanted = _shown_in_report(folder)
        some = np.flatnonzero(np.isin(asked.cases, sorted(wanted)))
        write_neighbours(
            folder,
            index,
            index.search_asked(asked.take(some)),
            train,
            shown,
            asked.cases[some].tolist(),
            cache=cache,
            threads=threads,
        )
    for note in index.about.notes:
        say(f"  {note}")
    say(f"  index: {index}, tried on {part if look else 'tuning'} patients")
    return index


@checked
def open_index(folder: str | Path, model: Model) -> Index:
    """The index of a run's folder; see :meth:`Index.load` for what it refuses."""
    return Index.load(Path(folder) / "index", model)


def _opened(folder: Path) -> Predictions | None:
    """The run's test predictions, where somebody has looked at the test part."""
    path = folder / "predictions" / "test.csv"
    return Predictions.read(path) if path.exists() and (folder / "evaluation" / "metrics.json").exists() else None


def _write_look(folder: Path, index: Index, test: Predictions, judged: Sequence[Any]) -> None:
    """One line for each different result; the same result again shows nothing new."""
    ledger, digest = folder / "ledger.jsonl", fingerprint([judged])
    asked = {"precision of neighbours": index.about.layer, "distance": index.about.distance}
    known = any(entry.get("asked") == asked and entry.get("predictions") == digest for entry in verify(ledger))
    if not known:
        record_look(ledger, index.about.model, None, digest, test=test, asked=asked)


def _shown_in_report(folder: Path) -> set[str]:
    """The cases that the report shows pictures of."""
    found: set[str] = set()
    for name in ("gallery.json", "maps.json"):
        path = folder / "explanations" / name
        rows = read_json(path) if path.exists() else []
        found |= {str(row["case"]) for row in rows if isinstance(row, dict) and "case" in row}
    return found


def _classes_at(folder: Path) -> dict[str, dict[str, str]]:
    """Of each level that the run is judged at the class of each node of its tree."""
    asked = Study.load(folder / "study.toml").class_tree.judge_at if (folder / TAXONOMY).exists() else ()
    return {level: read_taxonomy(folder / TAXONOMY).at(level) for level in asked}


# -- the map ----------------------------------------------------------------------------------------------------------


@checked
def write_map(
    index: Index, asked: Asked, cases: Cases, predictions: Predictions | None, path: Path, *, seconds: float = math.inf, seed: int = 0,
    say: Say = unheard, levels: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Path:  # fmt: skip
    """``map.csv``: ``x, y`` by t-SNE, ``pca_x, pca_y`` by principal components, with label, prediction and source of each
    case; ``levels``: of each level of a tree the class of each label, a column ``at:<level>``."""
    plane = project(asked.vectors, seed=seed, seconds=seconds)
    if plane.why:
        say(f"  the map has no t-SNE: {plane.why}")
    if len(plane.rows) < len(asked.vectors):
        say(f"  the map shows {len(plane.rows):,} of {count(len(asked.vectors), 'case')}, drawn at random")
    one = cases.table.drop_duplicates("case").set_index("case").loc[asked.cases[plane.rows].tolist()].reset_index()
    predicted = (
        {}
        if predictions is None
        else dict(zip(predictions.table["case"], predictions.target.task.answer_words(predictions.scores), strict=True))
    )
    table = pd.DataFrame({
        "case": one["case"], "x": plane.neighbourhoods[:, 0], "y": plane.neighbourhoods[:, 1], "label": label_words(one, index.model),
        "predicted": [predicted.get(case, "") for case in one["case"]], "source": one["source"], "pca_x": plane.components[:, 0], "pca_y": plane.components[:, 1],
    })  # fmt: skip
    truth = one[TABLE_LABEL if TABLE_LABEL in one else "label"] if levels else one["case"]
    table = table.assign(**{f"at:{level}": truth.map(over).fillna("") for level, over in levels.items()})
    return write_csv(path, table)


# -- neighbours as files ----------------------------------------------------------------------------------------------


@checked
def write_neighbours(
    folder: str | Path, index: Index, found: Neighbours, known: Cases, asked: Cases, names: Sequence[str], *, cache: str | Path | None = None,
    threads: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Put the neighbours of some cases into ``index/neighbours.json``, with a small picture of each; gives a row for each.

    ``known`` are the cases of the index, ``asked`` those that were asked about, of which ``names`` have been answered. What the file says of other cases stays.
    Writing in a picture is covered.
    """
    folder = Path(folder)
    names = list(dict.fromkeys(map(str, names)))
    near = list(dict.fromkeys(map(str, found.table["neighbour"])))
    pictures = _pictures(folder, names, asked, cache, threads) | _pictures(folder, near, known, cache, threads)
    rows = [
        {"case": name, "thumbnail": pictures[name],
         "neighbours": [{"case": row["neighbour"], "label": row["label"], "source": row["source"], "distance": row["distance"],
                         "thumbnail": pictures[row["neighbour"]]} for row in found.table[found.table["case"] == name].to_dict("records")]}
        for name in names
    ]  # fmt: skip
    path = folder / "index" / "neighbours.json"
    before = read_json(path) if path.exists() else []
    write_json(path, [*(row for row in before if row.get("case") not in set(names)), *rows])
    return rows


def _pictures(
    folder: Path, names: Sequence[str], cases: Cases, cache: str | Path | None, threads: int
) -> dict[str, str]:
    """The paths of the cases' first images as small PNGs, relative to the run's folder; blank where one cannot be read."""
    first = cases.table["case"].astype(str).reset_index(drop=True).drop_duplicates()
    rows = first.index[first.isin(names)].to_numpy()
    found = dict.fromkeys(names, "")
    found |= {name: f"index/thumbnails/{fingerprint([name, [address]])}.png" for name, address in zip(first[rows], paths(cases.take(rows)), strict=True)}  # fmt: skip
    missing = rows[[not (folder / found[name]).exists() for name in first[rows]]]
    if not len(missing):
        return found
    written = (
        take_fingerprints(cases.take(missing), threads=threads, cache=cache or cache_folder())["text"].to_numpy() > 0
    )
    for covered in (False, True):
        some = missing[written == covered]
        for name, data in zip(first[some], thumbnails(paths(cases.take(some)), covered=covered), strict=True):
            if data:
                write_bytes(folder / found[name], data)
            else:
                found[name] = ""
    return found


@checked
def reliability(index: Index, labels: set[str] | None = None) -> list[str]:
    """How far neighbours can be trusted, a line a class: those of ``labels``, all where none is given.

    By the test part where it was judged, else by tuning patients; beside it the same of an index whose labels are dealt anew.
    """
    found = index.about.precision
    part = "test" if any(each.where.get("part") == "test" for each in found) else "tuning"
    mine = [each for each in found if each.where.get("part") == part]
    by = {(each.metric, each.of): each for each in mine}
    lines = [
        f"of the five nearest to a case of {of}, {each} are {of} ({part} part, {count(each.patients, 'patient')}; "
        f"of a shuffled index {by['shuffled precision@5', of].value:.3f}, of the whole index {by['prevalence', of].value:.3f})"
        for (metric, of), each in by.items()
        if metric == "precision@5" and (not labels or of in labels or not labels & set(index.model.target.names))
    ]
    error = by.get(("neighbour error@5", ""))
    if error is not None:
        dealt = by["shuffled neighbour error@5", ""].value
        lines.append(
            f"the five nearest are off by {error} on the mean ({part} part; of a shuffled index by {dealt:.4g})"
        )
    return lines
