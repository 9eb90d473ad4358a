"""The index of a model: what a layer of it says of each case of a training part, saved beside it, and searched exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.cases import Cases
from overread.cases.privacy import patient_codes
from overread.core.display import Overview, Shown, panel_of
from overread.core.errors import InputError, checked, one_of, require
from overread.core.files import (
    FORMAT,
    build,
    cache_folder,
    hashed,
    publish,
    read_fields,
    require_file,
    sha256_file,
    unguarded,
    write_csv,
    write_json,
)
from overread.core.identifiers import alike
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.learning.model import Model
from overread.retrieval.choice import Tried, choose
from overread.retrieval.copies import LIKENESS, copies, likenesses
from overread.retrieval.embed import embed
from overread.retrieval.neighbours import DISTANCES, Barred, codes_of, nearest, unit
from overread.retrieval.novelty import K, Limit, limit_of, novelty
from overread.retrieval.precision import KS, in_part, precision
from overread.stats.estimate import Estimate

#: The files of an index.
FILES = ("index.json", "vectors.npy", "copies.npy", "rows.csv")


@dataclass(frozen=True)
class AboutIndex:
    """What ``index.json`` holds.

    ``model``: the digest of the model whose ``layer`` the vectors are of. ``distance``: ``cosine`` (the vectors are at
    length 1) or ``euclidean``. ``tried``: the layers and distances it was chosen among, on tuning patients. ``precision``:
    how far neighbours are of the same class (see :mod:`overread.retrieval.precision`), by ``part``. ``files``: the SHA-256
    of the files beside it. ``notes``: what was left out or could not be chosen.
    """

    model: str
    layer: str
    distance: str
    width: int = 0
    cases: int = 0
    patients: int = 0
    tried: tuple[Tried, ...] = ()
    precision: tuple[Estimate, ...] = ()
    novelty: Limit = field(default_factory=Limit)
    files: dict[str, str] = field(default_factory=dict, compare=False)  # of where it lies, not of what it is
    notes: tuple[str, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class Neighbours(Shown):
    """The nearest known cases of each query, nearest first.

    ``table``: a row each with ``case`` (the query), ``rank``, ``neighbour``, ``label``, ``source``, ``distance``.
    ``rows`` and ``distances`` (Q, k): of the vectors; −1 and infinite where there are fewer.
    """

    table: pd.DataFrame
    rows: NDArray[np.int64]
    distances: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return self.table.to_string(index=False, float_format=lambda value: f"{value:.3f}")

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row a neighbour, as in ``table``."""
        return self.table.copy()

    def overview(self) -> Overview:
        """The first queries with what is nearest to them."""
        fewer = sum(int((row < 0).any()) for row in self.rows)
        notes = (f"{count(fewer, 'query', 'queries')} with fewer neighbours than asked for",) if fewer else ()
        title = f"the nearest known cases of {count(len(self), 'query', 'queries')}"
        return Overview(title, (panel_of(self.table, "Nearest first"),), notes)

    def of(self, case: str) -> pd.DataFrame:
        """The neighbours of one query. Raises :class:`InputError` for one that was not asked about."""
        found = self.table[self.table["case"] == case]
        if found.empty:
            raise InputError("nothing was asked about this case, or nothing known may answer", given=repr(case))
        return found.reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class Index(Shown):
    """Vectors (N, F) of known cases, searched for what is alike: exactly, and never the same patient nor a copy.

    ``rows``: a row a vector, with ``case``, ``patient`` (hashed as in the model), ``source``, ``split`` and the label
    columns. ``likeness``: what copies are known by (:mod:`overread.retrieval.copies`).

    Make one with :meth:`build`, save it with :meth:`save`, open it with :meth:`load`.
    """

    model: Model
    about: AboutIndex
    vectors: NDArray[np.float32]
    rows: pd.DataFrame
    likeness: NDArray[Any]

    def __len__(self) -> int:
        return len(self.vectors)

    def __str__(self) -> str:
        about = self.about
        return f"{count(len(self), 'case')} of {count(about.patients, 'patient')} by {about.layer} ({about.width} numbers, {about.distance} distance)"

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row a case of the index: its name, patient (hashed), source, split and labels; the vectors are in ``vectors``."""
        return self.rows.copy()

    def overview(self) -> Overview:
        """What is indexed by which layer, how far neighbours are of the case's class, and the first rows without patients."""
        shown = [name for name in self.rows if name != "patient" and not (self.rows[name].astype(str) == "").all()]
        judged = pd.DataFrame(
            [{"measure": e.metric, "of": e.of, **e.where, "estimate": str(e)} for e in self.precision]
        )
        tried = pd.DataFrame([{"layer": t.layer, "distance": t.distance, "precision@5": t.score, "chosen": t.chosen} for t in self.about.tried])  # fmt: skip
        panels = (panel_of(judged, "Whether neighbours are of the same class"), panel_of(tried, "Layers tried on tuning cases"),
                  panel_of(self.rows[shown], "The first cases", most=5))  # fmt: skip
        return Overview(str(self), tuple(panel for panel in panels if panel.rows), self.about.notes)

    @property
    def precision(self) -> tuple[Estimate, ...]:
        """How far the neighbours of tuning cases were of their class; none of an index that was built without them."""
        return self.about.precision

    # -- made, saved and opened -------------------------------------------------------------------------------

    @classmethod
    @checked
    def build(
        cls, model: Model, cases: Cases, *, layer: str = "", distance: str = "", tuning: Cases | None = None, device: str = "",
        threads: int = 0, cache: str | Path | None = None, seed: int = 0, progress: Progress = silent, say: Say = unheard,
    ) -> Index:  # fmt: skip
        """The index of what ``model`` says of the labelled ``cases``, as a rule those of the training part.

        With ``tuning`` cases the ``layer`` and the ``distance`` that are not given are those whose five nearest neighbours
        are most often of the case's class (mean over the classes); their precision and the limit of novelty are kept.
        Without, they are ``features`` and ``cosine``. ``cache``: the folder of fingerprints, by which copies are known.
        Raises :class:`InputError` if no case has a label or no image can be read, :class:`ArgumentError` for an unknown
        layer or distance.
        """
        if distance:
            one_of(distance, DISTANCES, "distance")
        known = cases.take(cases.labelled)
        notes = (
            [] if len(known) == len(cases) else [f"{count(len(cases) - len(known), 'image')} without a label left out"]
        )
        if not len(known):
            raise InputError("no case has a label, and neighbours without one say nothing", given=str(cases))
        judged = None if tuning is None else tuning.take(tuning.labelled)
        work: dict[str, Any] = {"device": device, "threads": threads, "progress": progress, "say": say}
        chosen = choose(model, known, judged, layer=layer, distance=distance, seed=seed, **work)
        layer, distance, tried = chosen.layer, chosen.distance, chosen.tried
        made = (
            chosen.embedded
            if chosen.embedded is not None and layer in chosen.embedded.vectors
            else embed(model, known, [layer], **work)
        )
        table = known.table.iloc[made.rows].reset_index(drop=True)
        rows = pd.DataFrame({"case": table["case"], "patient": patient_hashes(model, known.take(made.rows)), "source": table["source"],
                             "split": table["split"], **{name: table[name] for name in cases.target.columns}})  # fmt: skip
        rows = _as_objects(rows)
        prints = take_fingerprints(known, threads=threads, progress=progress, cache=cache or cache_folder())
        place = pd.Index(rows["case"]).get_indexer(pd.Index(known.table["case"])).astype(np.int64)
        vectors = made.vectors[layer]
        about = AboutIndex(model.digest, layer, distance, vectors.shape[1], len(rows), int(rows["patient"].nunique()), tried=tried,
                           notes=(*notes, *chosen.notes))  # fmt: skip
        index = cls(model, about, unit(vectors) if distance == "cosine" else vectors, rows, likenesses(prints, place))
        if judged is None or not len(judged):
            return index
        return index._with_tuning(
            judged, device=device, threads=threads, cache=cache, seed=seed, progress=progress, say=say
        )

    def _with_tuning(self, tuning: Cases, *, seed: int, **work: Any) -> Index:
        """With the precision on tuning cases and the limit of novelty."""
        asked = self.ask(tuning, **work)
        limit = limit_of(self._nearest(asked, K)[1], asked.patients)
        about = replace(self.about, precision=self.judge(asked, "tuning", seed=seed), novelty=limit)
        return replace(self, about=about)

    @checked
    def save(self, folder: str | Path) -> Path:
        """Write ``vectors.npy``, ``copies.npy``, ``rows.csv`` and, last, ``index.json`` with their checksums.

        Each file is whole or not there; between two files the old ``index.json`` refuses what is new, so that an index is
        the old one, the new one, or none. Raises :class:`UnavailableError` if the folder cannot be written.
        """
        folder = Path(folder)
        for name, array in (("vectors.npy", self.vectors), ("copies.npy", self.likeness)):
            with publish(folder / name) as beside, open(beside, "wb") as handle:
                np.save(handle, array, allow_pickle=False)
        write_csv(folder / "rows.csv", self.rows)
        files = {name: sha256_file(folder / name) for name in FILES[1:]}
        write_json(folder / "index.json", replace(self.about, files=files))
        return folder

    @classmethod
    @checked
    def load(cls, folder: str | Path, model: Model) -> Index:
        """Open what :meth:`save` wrote; the vectors stay on the disk and are mapped into memory.

        Their checksums are compared once, here. Raises :class:`InputError` where a file is missing, damaged or of
        another index, and where the index is of another model.
        """
        folder, again = Path(folder), "build it again: overread similar RUN --build-only"
        held = read_fields(folder / "index.json")
        if isinstance(saved := held.get("format"), int) and saved > FORMAT:
            raise InputError(
                "the index was saved by a later overread", given=f"format {saved}", todo="upgrade overread"
            )
        about = build(AboutIndex, held, where="index.json", null_is_nan=True)
        if about.model != model.digest:
            raise InputError(
                "the index is of another model", given=f"{about.model}, this model: {model.digest}", todo=again
            )
        for name in FILES[1:]:
            if sha256_file(require_file(folder / name)) != about.files.get(name):
                raise InputError(
                    f"{name} is not what the index was saved with, or it is damaged", given=str(folder), todo=again
                )
        vectors, likeness = (_mapped(folder / name) for name in FILES[1:3])
        text = {"case": str, "patient": str, "source": str, "split": str, **dict.fromkeys(_texts(model), str)}
        held_rows = pd.read_csv(folder / "rows.csv", dtype=text, keep_default_na=False, na_values=_blanks(model))
        rows = _as_objects(unguarded(held_rows))
        sound = vectors.dtype == np.float32 and vectors.shape == (len(rows), about.width) and likeness.dtype == LIKENESS
        if not sound or about.distance not in DISTANCES:
            raise InputError(
                "the files of the index do not fit each other",
                given=f"vectors {vectors.shape}, {len(rows)} rows",
                todo=again,
            )
        return cls(model, about, vectors, rows, likeness)

    # -- searched ---------------------------------------------------------------------------------------------

    @checked
    def search(
        self, query: Cases | NDArray[Any], k: int = 5, *, other_source: bool = False, engine: str = "", device: str = "",
        threads: int = 0, cache: str | Path | None = None, progress: Progress = silent, say: Say = unheard,
    ) -> Neighbours:  # fmt: skip
        """The ``k`` nearest known cases of each query, nearest first; equal distances in the order of the index.

        Of ``Cases`` never one of the same patient, nor one with a copy of one of its images; with ``other_source`` none of
        the same source. A query may also be vectors (Q, F) of the index's layer, of which nobody knows whose they are.
        Raises :class:`InputError` if no image can be read, or a source is asked for and none is known.
        """
        if isinstance(query, Cases):
            asked = self.ask(query, device=device, threads=threads, cache=cache, progress=progress, say=say)
        else:
            require(query.ndim == 2 and query.shape[1] == self.about.width, "vectors must be (Q, F) of the index's layer",
                    given=f"{query.shape}, F {self.about.width}")  # fmt: skip
            require(
                not other_source, "of vectors nobody knows the source", todo="ask by cases, or leave out other_source"
            )
            asked = Asked.of_vectors(self._scaled(query))
        return self.search_asked(asked, k, other_source=other_source, engine=engine)

    @checked
    def search_asked(self, asked: Asked, k: int = 5, *, other_source: bool = False, engine: str = "") -> Neighbours:
        """The same, of queries that are embedded already."""
        require(k >= 1, "k must be at least 1", given=k)
        if other_source and (asked.sources == "").all():
            raise InputError(
                "the source of the queries is not known, so none can be left out",
                todo="name the column: --source, or leave out --other-source",
            )
        rows, distances = self._nearest(asked, k, other_source=other_source, engine=engine)
        query, rank = np.nonzero(rows >= 0)
        found = self.rows.iloc[rows[query, rank]]
        table = pd.DataFrame({"case": asked.cases[query], "rank": rank + 1, "neighbour": found["case"].to_numpy(), "label": self.words[rows[query, rank]],
                              "source": found["source"].to_numpy(), "distance": distances[query, rank]})  # fmt: skip
        return Neighbours(table, rows, distances)

    @checked
    def ask(
        self, cases: Cases, *, device: str = "", threads: int = 0, cache: str | Path | None = None, progress: Progress = silent,
        say: Say = unheard,
    ) -> Asked:  # fmt: skip
        """Cases as queries: embedded once, with whose they are and what would be a copy of them."""
        made = embed(self.model, cases, [self.about.layer], device=device, threads=threads, progress=progress, say=say)
        one = cases.take(made.rows)
        names = one.table["case"].astype(str).to_numpy(object)
        prints = take_fingerprints(cases, threads=threads, progress=progress, cache=cache or cache_folder())
        place = pd.Index(names).get_indexer(pd.Index(cases.table["case"].astype(str))).astype(np.int64)
        pairs = copies(likenesses(prints, place), self.likeness, threads=threads)
        return Asked(self._scaled(made.vectors[self.about.layer]), names, np.array(patient_hashes(self.model, one), object),
                     one.table["source"].astype(str).to_numpy(object), pairs, one.labels)  # fmt: skip

    @checked
    def judge(self, asked: Asked, part: str, *, seed: int = 0, level: float = 0.95) -> tuple[Estimate, ...]:
        """How far the neighbours of these cases are of their class; see :func:`overread.retrieval.precision.precision`."""
        if asked.labels is None:
            raise InputError("only labelled cases can be judged", given=f"{len(asked.vectors)} vectors")
        rows, _ = self._nearest(asked, max(KS))
        task = self.model.target.task
        found = precision(
            rows, asked.labels, task.read_labels(self.rows), asked.patients.tolist(), task, level=level, seed=seed
        )
        return in_part(found, part)

    # -- unlike anything known --------------------------------------------------------------------------------

    @property
    def novelty_limit(self) -> float:
        """The distance below which 95 % of tuning patients stay; NaN where there were none."""
        return self.about.novelty.distance

    @checked
    def novelty(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """(Q,) how far vectors (Q, F) of the index's layer are from what was trained on: the mean distance to the five nearest."""
        return self.novelty_of(Asked.of_vectors(self._scaled(vectors)))

    @checked
    def novelty_of(self, asked: Asked) -> NDArray[np.float64]:
        """The same, of queries whose patients and copies are left out."""
        return novelty(self._nearest(asked, K)[1])

    @cached_property
    def words(self) -> NDArray[np.object_]:
        """(N,) the label of each case as people read it: the class, the findings that are there, the number."""
        return label_words(self.rows, self.model)

    def _nearest(
        self, asked: Asked, k: int, *, other_source: bool = False, engine: str = ""
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        codes = [codes_of(asked.patients.tolist(), self.rows["patient"].tolist())]
        if other_source:
            codes.append(codes_of(asked.sources.tolist(), self.rows["source"].tolist()))
        return nearest(
            asked.vectors,
            self.vectors,
            k,
            distance=self.about.distance,
            barred=Barred(tuple(codes), asked.copies),
            engine=engine,
        )

    def _scaled(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        vectors = vectors.astype(np.float32)
        return unit(vectors) if self.about.distance == "cosine" else vectors


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries: vectors (Q, F), and of each its case, its patient's hash and its source (blank where unknown);
    ``copies`` (P, 2): which row of the index is a copy of which query; ``labels`` where they are known."""

    vectors: NDArray[np.float32]
    cases: NDArray[np.object_]
    patients: NDArray[np.object_]
    sources: NDArray[np.object_]
    copies: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    labels: NDArray[Any] | None = None

    @classmethod
    def of_vectors(cls, vectors: NDArray[np.float32]) -> Asked:
        """Of vectors alone, named by their number, from 1 on."""
        blank = np.full(len(vectors), "", object)
        return cls(vectors, np.array([str(i + 1) for i in range(len(vectors))], object), blank, blank)

    def take(self, some: NDArray[np.int64]) -> Asked:
        """The queries at these positions, in that order."""
        place = np.full(len(self.vectors), -1)
        place[some] = np.arange(len(some))
        held = self.copies[place[self.copies[:, 0]] >= 0]
        pairs = np.stack([place[held[:, 0]], held[:, 1]], 1)
        labels = None if self.labels is None else self.labels[some]
        return Asked(self.vectors[some], self.cases[some], self.patients[some], self.sources[some], pairs, labels)


@checked
def patient_hashes(model: Model, cases: Cases) -> list[str]:
    """(N,) patients as the model's contract knows them, by salted hashes; two forms of one name have one hash.

    Raises :class:`InputError` for codes that were made with another salt than the model's: nobody could be known again.
    """
    about = model.about
    names = cases.table["patient"].astype(str)
    if about.names_salt and cases.salt not in ("", about.names_salt):
        raise InputError(
            "the patients of these cases are codes of another study",
            todo="read the table with the salt of the model's study",
        )
    if about.names_salt and not cases.salt:
        names = pd.Series(patient_codes(names, about.names_salt, about.identifiers), dtype=object)
    loose = names if about.names_salt or about.identifiers == "as-written" else alike(names)
    found = hashed([str(name) for name in loose], about.salt or about.names_salt)
    return [code if name else "" for code, name in zip(found, names, strict=True)]


@checked
def label_words(table: pd.DataFrame, model: Model) -> NDArray[np.object_]:
    """(N,) labels as people read them: the class, the findings that are there (``none``), the number; blank where unknown."""
    task = model.target.task
    return np.array(task.label_words(task.read_labels(table)), dtype=object)


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a file, mapped into memory and never unpickled."""
    try:
        return open_memmap(path, mode="r")
    except (ValueError, OSError) as error:
        raise InputError(f"{path.name} is no array", given=str(error)[:200]) from error


def _as_objects(table: pd.DataFrame) -> pd.DataFrame:
    """With texts as objects, whatever the version of pandas makes of them."""
    return table.astype({name: object for name in table if not pd.api.types.is_numeric_dtype(table[name])})


def _texts(model: Model) -> list[str]:
    return list(model.target.columns) if model.target.task.exclusive else []


def _blanks(model: Model) -> Mapping[str, Sequence[str]]:
    return {} if model.target.task.exclusive else {name: [""] for name in model.target.columns}
