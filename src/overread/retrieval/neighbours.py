"""Exact nearest neighbours: matrix products over chunks, then the few that may be among the nearest measured anew.

A product in float32 is quick and not quite right. How wrong it can be is known (Higham 2002, "Accuracy and stability of
numerical algorithms", section 3.1), so every vector whose product may hide a nearer one is measured in float64. The answer
is that of the definition, whatever the chunks and the threads; equal distances stand in the order of the vectors.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from overread.core.errors import ArgumentError, UnavailableError, checked, one_of, require

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]

DISTANCES = ("euclidean", "cosine")
ENGINES = ("", "exact", "faiss")
#: Above so many vectors faiss is used where it is installed.
MANY = 1_000_000
#: Queries and vectors that are multiplied at once: their products (16 MiB) stay in the processor's cache.
QUERIES, CHUNK = 1024, 4096
#: Numbers in float64 that are measured at once (32 MiB).
_MEASURED = 1 << 22
#: Half the distance from 1 to the next number in float32.
_UNIT = 2.0**-24
#: A length that was added up in float32 can be too small by less than this, of vectors of up to a million numbers.
_LONGER = 1.1


@dataclass(frozen=True, eq=False)
class Barred:
    """Which vectors must not be an answer to which query.

    ``codes``: pairs (of the queries (Q,), of the vectors (N,)): those with the query's own code; −1 is nobody's. ``pairs``
    (P, 2): single (query, vector).
    """

    codes: tuple[tuple[Codes, Codes], ...] = ()
    pairs: Codes = field(default_factory=lambda: np.empty((0, 2), np.int64))

    def of(self, queries: slice) -> Barred:
        """Of some of the queries alone, counted from the first of them."""
        mine = (self.pairs[:, 0] >= queries.start) & (self.pairs[:, 0] < queries.stop)
        return Barred(tuple((q[queries], v) for q, v in self.codes), self.pairs[mine] - [queries.start, 0])

    @property
    def some(self) -> bool:
        """Whether anything may be barred at all."""
        return bool(self.codes) or len(self.pairs) > 0

    def block(self, queries: Codes, start: int, width: int) -> NDArray[np.bool_]:
        """(n, width) the same for each of these queries with each of the vectors from ``start`` on."""
        barred = np.zeros((len(queries), width), bool)
        for asks, holds in self.codes:
            mine = asks[queries][:, None]
            barred |= (mine == holds[None, start : start + width]) & (mine >= 0)
        place = np.full(1 + int(max(queries.max(initial=0), self.pairs[:, 0].max(initial=0))), -1)
        place[queries] = np.arange(len(queries))
        row, column = place[self.pairs[:, 0]], self.pairs[:, 1] - start
        inside = (row >= 0) & (column >= 0) & (column < width)
        barred[row[inside], column[inside]] = True
        return barred

    def hits(self, query: Codes, vector: Codes) -> NDArray[np.bool_]:
        """(n,) whether these vectors are barred from these queries."""
        barred = np.zeros(len(query), bool)
        for asks, holds in self.codes:
            barred |= (asks[query] == holds[vector]) & (asks[query] >= 0)
        if len(self.pairs):
            span = 1 + max(int(vector.max(initial=0)), int(self.pairs[:, 1].max()))
            barred |= np.isin(query * span + vector, self.pairs[:, 0] * span + self.pairs[:, 1])
        return barred


@checked
def nearest(
    queries: Vectors,
    vectors: Vectors,
    k: int,
    *,
    distance: str = "euclidean",
    barred: Barred | None = None,
    engine: str = "",
    chunk: int = CHUNK,
) -> tuple[Codes, NDArray[np.float64]]:
    """The ``k`` nearest of ``vectors`` (N, F) to each of ``queries`` (Q, F): their rows (Q, k) and distances (Q, k).

    Where fewer than ``k`` may answer, the rest are −1 and infinite. ``cosine``: 1 − cosine, of vectors of length 1 (see
    :func:`unit`); one of length 0 is 1 away from everything. ``vectors`` may be a memory map: a chunk of it is read at a
    time. ``engine``: ``faiss``, ``exact``, or what suits the number of vectors. Raises :class:`ArgumentError` where a query or a
    vector is not of finite numbers, :class:`UnavailableError` where faiss is wanted and not installed.

    >>> nearest(np.array([[0.9]], np.float32), np.array([[3], [1], [0], [1]], np.float32), 2)[0].tolist()
    [[1, 3]]
    """
    one_of(distance, DISTANCES, "distance")
    require(k >= 1 and chunk >= 1, "k and chunk must be at least 1", given=f"k {k}, chunk {chunk}")
    require(queries.ndim == vectors.ndim == 2 and queries.shape[1] == vectors.shape[1],
            "queries and vectors must be (Q, F) and (N, F)", given=f"{queries.shape} and {vectors.shape}")  # fmt: skip
    require(bool(np.isfinite(queries).all()), "a query holds a number that is none")
    longest = float(_lengths(queries).max(initial=0)) if distance == "cosine" else 0
    require(longest < 1.001, "of cosine distance vectors are of length 1", given=f"{longest:.3g}", todo="unit(vectors)")
    search = _by_faiss if engine_for(len(vectors), engine) == "faiss" else _by_products
    found = [_Nearest.none(min(QUERIES, len(queries) - start), k) for start in range(0, len(queries), QUERIES)]
    for part, start in zip(found, range(0, len(queries), QUERIES), strict=True):
        some = slice(start, start + len(part.rows))
        search(part, queries[some], vectors, (barred or Barred()).of(some), distance, chunk)
    if not found:
        return np.empty((0, k), np.int64), np.empty((0, k))
    return np.concatenate([part.rows for part in found]), np.concatenate([part.distances for part in found])


@checked
def engine_for(many: int, engine: str = "") -> str:
    """The engine that searches ``many`` vectors. Raises :class:`UnavailableError` where faiss is wanted and not there."""
    one_of(engine, ENGINES, "engine")
    there = importlib.util.find_spec("faiss") is not None
    if engine == "faiss" and not there:
        raise UnavailableError(
            "faiss is not installed",
            todo="pip install 'overread[index]', or leave out --faiss: the search is exact without it",
        )
    return engine or ("faiss" if many > MANY and there else "exact")


@checked
def unit(vectors: Vectors) -> Vectors:
    """Vectors (N, F) at length 1, in float32; those of length 0 stay so."""
    length = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0).astype(np.float32)


# -- what has been found, and what is measured ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Nearest:
    """The best so far of each query: rows (Q, k), −1 for none, and distances (Q, k), ascending."""

    rows: Codes
    distances: NDArray[np.float64]

    @classmethod
    def none(cls, queries: int, k: int) -> _Nearest:
        return cls(np.full((queries, k), -1), np.full((queries, k), np.inf))

    def take(self, query: Codes, row: Codes, distance: NDArray[np.float64]) -> None:
        """Put candidates (n,) in their places; of equal distances the first row counts as nearer."""
        k = self.rows.shape[1]
        touched, place = np.unique(query, return_inverse=True)
        owner = np.concatenate([np.repeat(np.arange(len(touched)), k), place])
        rows = np.concatenate([self.rows[touched].ravel(), row])
        distances = np.concatenate([self.distances[touched].ravel(), distance])
        order = np.lexsort((rows, distances, owner))
        rank = np.arange(len(order)) - np.searchsorted(owner[order], np.arange(len(touched)))[owner[order]]
        kept = order[rank < k]
        self.rows[touched], self.distances[touched] = rows[kept].reshape(-1, k), distances[kept].reshape(-1, k)


def _measured(queries: Vectors, vectors: Vectors, query: Codes, row: Codes, distance: str) -> NDArray[np.float64]:
    """(n,) the distances of pairs, by their definition, in float64."""
    made, size = np.empty(len(query)), max(1, _MEASURED // queries.shape[1])
    for some in (slice(start, start + size) for start in range(0, len(query), size)):
        q, v = queries[query[some]].astype(np.float64), vectors[row[some]]
        if distance == "cosine":
            q *= v
            made[some] = np.maximum(1 - q.sum(axis=1), 0)
        else:
            q -= v
            made[some] = np.sqrt(np.square(q, out=q).sum(axis=1))
    return made


def _lengths(vectors: Vectors) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("nf,nf->n", vectors, vectors, dtype=np.float64))


def _largest(sizes: NDArray[np.floating], vectors: Vectors, start: int) -> float:
    """The largest of the sizes (n,) of ``vectors`` (n, F), the first of which is row ``start`` of all.

    Raises :class:`ArgumentError` where a vector is not of finite numbers, which would make every limit none, and hide the others.
    """
    largest = float(sizes.max())
    if not math.isfinite(largest):  # or too long for a float32, which the limits bear
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ArgumentError("a vector holds a number that is none", given=f"{len(bad):,} of {len(vectors):,}, first row {start + bad[0]:,}", todo="make the vectors again")  # fmt: skip
    return largest


# -- by matrix products ---------------------------------------------------------------------------------------------


def _by_products(
    found: _Nearest, queries: Vectors, vectors: Vectors, barred: Barred, distance: str, chunk: int
) -> None:
    """Fill ``found``. A score is half the squared distance less what hangs on the query alone: |v|²/2 − q·v, or −q·v.

    Scores are kept with how wrong they can be, and only what may be among the nearest of all chunks is measured, once.
    """
    asked, lengths = torch.from_numpy(np.require(queries, requirements=["C", "W"])), _lengths(queries)
    buffer, zero = torch.empty(len(queries), min(chunk, len(vectors))), torch.zeros(1)
    best, kept = _Nearest.none(*found.rows.shape), _Kept()  # distances of ``best``: the most that scores can be
    for start in range(0, len(vectors), chunk):
        held = torch.from_numpy(np.require(vectors[start : start + chunk], requirements=["C", "W"]))  # of a map a copy
        square, scores = torch.linalg.vecdot(held, held), buffer[:, : len(held)]
        if distance == "cosine":
            torch.addmm(zero, asked, held.T, beta=0, alpha=-1, out=scores)
        else:
            torch.addmm(square / 2, asked, held.T, alpha=-1, out=scores)
        error = _error(lengths, math.sqrt(_largest(square.numpy(), held.numpy(), start)) * _LONGER, held.shape[1])
        most = best.distances[:, -1].copy()
        hungry = np.flatnonzero(np.isinf(most))
        if len(hungry):
            most[hungry] = _first_most(scores, hungry, barred, start, best.rows.shape[1]) + error[hungry]
        for query, row in _below(scores, most + error):
            score = scores.numpy()[query, row].astype(np.float64)
            allowed = ~barred.hits(query, row + start)
            query, row, score = query[allowed], row[allowed] + start, score[allowed]
            best.take(query, row, score + error[query])
            kept.add(query, row, score - error[query])
            if kept.many > _MEASURED:
                kept.measure(found, best, queries, vectors, distance)
    kept.measure(found, best, queries, vectors, distance)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Candidates that are not measured yet: (query, row, the least that the score can be)."""

    parts: list[tuple[Codes, Codes, NDArray[np.float64]]] = field(default_factory=list)

    @property
    def many(self) -> int:
        return sum(len(query) for query, _, _ in self.parts)

    def add(self, query: Codes, row: Codes, least: NDArray[np.float64]) -> None:
        self.parts.append((query, row, least))

    def measure(self, found: _Nearest, best: _Nearest, queries: Vectors, vectors: Vectors, distance: str) -> None:
        """Put those into ``found`` that may be among the nearest, and forget all."""
        if self.parts:
            query, row, least = (np.concatenate(each) for each in zip(*self.parts, strict=True))
            near = least <= best.distances[query, -1]
            query, row = query[near], row[near]
            found.take(query, row, _measured(queries, vectors, query, row, distance))
        self.parts.clear()


def _error(lengths: NDArray[np.float64], longest: float, width: int) -> NDArray[np.float64]:
    """(Q,) how far a score in float32 can lie from the true one: a sum of F products is wrong by (F + 4) u Σ|q v| at most."""
    return (width + 4) * _UNIT * (lengths * longest + longest * longest / 2)


def _score(distances: NDArray[np.float64], lengths: NDArray[np.float64], distance: str) -> NDArray[np.float64]:
    """(Q,) the score at a distance."""
    return distances - 1 if distance == "cosine" else (distances * distances - lengths * lengths) / 2


def _first_most(scores: torch.Tensor, queries: Codes, barred: Barred, start: int, k: int) -> NDArray[np.float64]:
    """(n,) the k-th smallest score that may answer, infinite where fewer than k may: for ``queries`` that have no k answers."""
    if scores.shape[1] < k:
        return np.full(len(queries), np.inf)
    some = scores if len(queries) == len(scores) else scores[torch.from_numpy(queries)]
    if barred.some:
        some = some.masked_fill(torch.from_numpy(barred.block(queries, start, scores.shape[1])), torch.inf)
    return some.topk(k, dim=1, largest=False).values[:, -1].numpy().astype(np.float64)


def _below(scores: torch.Tensor, limit: NDArray[np.float64]) -> Iterator[tuple[Codes, Codes]]:
    """(query, row) of the scores (Q, C) that reach up to the limit (Q,); the limit is rounded up to float32."""
    rounded = np.nextafter(limit.astype(np.float32), np.float32(np.inf))
    inside = (scores <= torch.from_numpy(rounded)[:, None]).numpy()
    at_once = max(1, _MEASURED // scores.shape[1])
    for start in range(0, len(inside), at_once):
        query, row = np.divmod(_places(inside[start : start + at_once].ravel()), scores.shape[1])
        if len(query):
            yield query + start, row


def _places(flags: NDArray[np.bool_]) -> Codes:
    """Where the few flags (n,) are, ascending: eight are looked at together, which takes an eighth of numpy's time."""
    whole = len(flags) // 8 * 8
    eights = np.flatnonzero(flags[:whole].view(np.uint64))
    some = np.concatenate([(eights[:, None] * 8 + np.arange(8)).ravel(), np.arange(whole, len(flags))])
    return some[flags[some]]


# -- by faiss --------------------------------------------------------------------------------------------------------


def _by_faiss(found: _Nearest, queries: Vectors, vectors: Vectors, barred: Barred, distance: str, chunk: int) -> None:
    """Fill ``found`` from faiss's flat index: more are asked for until no vector that it left out can be nearer."""
    index, lengths = _flat(vectors, distance), _lengths(queries)
    parts = ((start, vectors[start : start + chunk]) for start in range(0, len(vectors), chunk))
    longest = max((_largest(_lengths(part), part, start) for start, part in parts), default=0.0)
    error = _error(lengths, longest, queries.shape[1])
    open_ones, most = np.arange(len(queries)), 2 * found.rows.shape[1] + 16
    while len(open_ones):
        most = min(most, len(vectors))
        value, row = index.search(np.ascontiguousarray(queries[open_ones]), most)
        query, row = np.repeat(open_ones, most), row.ravel().astype(np.int64)
        allowed = ~barred.hits(query, row)
        query, row = query[allowed], row[allowed]
        found.rows[open_ones], found.distances[open_ones] = -1, np.inf
        found.take(query, row, _measured(queries, vectors, query, row, distance))
        last = value[:, -1].astype(np.float64)  # of the squared distance, or of the product: 2 scores apart from |q|²
        edge = -last if distance == "cosine" else (last - lengths[open_ones] ** 2) / 2
        sure = _score(found.distances[open_ones, -1], lengths[open_ones], distance) + 4 * error[open_ones] < edge
        open_ones, most = open_ones[~sure] if most < len(vectors) else open_ones[:0], 4 * most


def _flat(vectors: Vectors, distance: str) -> Any:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1]) if distance == "cosine" else faiss.IndexFlatL2(vectors.shape[1])
    for start in range(0, len(vectors), MANY // 10):
        index.add(np.ascontiguousarray(vectors[start : start + MANY // 10]))
    return index


@checked
def codes_of(asked: Sequence[Any], held: Sequence[Any]) -> tuple[Codes, Codes]:
    """Texts of queries and of vectors as numbers, equal for equal texts; −1 where a text is blank.

    >>> codes_of(["a", ""], ["b", "a"])[0].tolist()
    [0, -1]
    """
    known: dict[str, int] = {}
    made = [
        np.array([known.setdefault(str(t), len(known)) if str(t) else -1 for t in texts], np.int64)
        for texts in (asked, held)
    ]
    return made[0], made[1]
