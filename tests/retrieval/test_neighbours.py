"""Exact search against its definition and against scikit-learn, whatever the chunks; what is barred never comes."""

from __future__ import annotations

import importlib.util
import tracemalloc

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from overread.core.errors import ArgumentError, UnavailableError
from overread.retrieval import neighbours
from overread.retrieval.neighbours import MANY, Barred, codes_of, engine_for, nearest, unit


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slowly(queries, vectors, k, distance, barred):
    """The definition, one query after the other: sort by distance, then by place."""
    rows = []
    for q, query in enumerate(queries.astype(np.float64)):
        found = [
            (1 - query @ v if distance == "cosine" else np.sqrt(((query - v) ** 2).sum()), i)
            for i, v in enumerate(vectors.astype(np.float64))
            if not barred(q, i)
        ]
        rows.append([i for _, i in sorted(found)[:k]] + [-1] * max(0, k - len(found)))
    return np.array(rows)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 4096])
def test_the_answer_is_that_of_the_definition_whatever_the_chunks(distance, chunk) -> None:
    queries, vectors = drawn(9, 6), drawn(130, 6, seed=1)
    if distance == "cosine":
        queries, vectors = unit(queries), unit(vectors)
    barred = Barred(((np.arange(9) % 3, np.arange(130) % 4),), np.array([[0, 5], [8, 129]]))
    rows, distances = nearest(queries, vectors, 6, distance=distance, barred=barred, chunk=chunk)
    expected = slowly(queries, vectors, 6, distance, lambda q, i: q % 3 == i % 4 or (q, i) in ((0, 5), (8, 129)))
    assert (rows == expected).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    again = nearest(queries, vectors, 6, distance=distance, barred=barred)
    assert (again[0] == rows).all()
    assert (again[1] == distances).all()


def test_candidates_that_are_measured_early_change_nothing(monkeypatch) -> None:
    queries, vectors = (
        drawn(9, 6),
        np.sort(drawn(400, 6, seed=1), axis=0)[::-1].copy(),
    )  # nearer and nearer: many candidates
    barred = Barred(((np.arange(9) % 3, np.arange(400) % 4),))
    rows, distances = nearest(queries, vectors, 6, barred=barred, chunk=16)
    monkeypatch.setattr(neighbours, "_MEASURED", 32)
    early = nearest(queries, vectors, 6, barred=barred, chunk=16)
    assert (rows == slowly(queries, vectors, 6, "euclidean", lambda q, i: q % 3 == i % 4)).all()
    assert (early[0] == rows).all()
    assert (early[1] == distances).all()


def test_two_hundred_thousand_vectors_as_scikit_learn_finds_them_in_bounded_memory() -> None:
    queries, vectors = drawn(40, 64), drawn(200_000, 64, seed=1)
    tracemalloc.start()
    rows, distances = nearest(queries, vectors, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected, places = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(vectors).kneighbors(queries)
    assert (rows == places).all()
    assert np.abs(distances - expected).max() < 1e-5
    assert peak < vectors.nbytes / 4


def test_equal_vectors_come_in_their_order_and_far_from_zero_nothing_is_lost() -> None:
    same = np.ones((500, 4), np.float32)
    assert nearest(same[:2], same, 3, chunk=50)[0].tolist() == [[0, 1, 2]] * 2
    far = drawn(300, 16) * np.float32(1e-2) + np.float32(1000)  # products of 10⁷ leave nothing of such distances
    wide = far.astype(np.float64) - 1000
    expected = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(wide).kneighbors(wide[:20] + 1e-3)[0]
    found = nearest(far[:20], far, 4, chunk=64)
    assert (found[0][:, 0] == np.arange(20)).all()
    assert (found[1][:, 0] == 0).all()
    assert len(expected) == 20
    assert (found[0] == slowly(far[:20], far, 4, "euclidean", lambda q, i: False)).all()


def test_few_or_no_answers_are_said_to_be_none() -> None:
    vectors = drawn(5, 3)
    rows, distances = nearest(vectors[:2], vectors, 3, barred=Barred((codes_of(["a", ""], ["a", "a", "a", "a", "b"]),)))
    assert rows[0].tolist() == [4, -1, -1]
    assert np.isinf(distances[0, 1:]).all()
    assert rows[1, 0] == 1  # a blank is nobody
    assert nearest(vectors[:0], vectors, 3)[0].shape == (0, 3)
    assert (nearest(vectors, vectors[:0], 2)[0] == -1).all()


def test_a_vector_without_length_has_no_direction() -> None:
    nothing = unit(np.zeros((1, 2), np.float32))
    assert nearest(unit(np.eye(2, dtype=np.float32)), nothing, 1, distance="cosine")[1].tolist() == [[1], [1]]


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss-cpu is not installed (extra: index)")
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_faiss_finds_the_same(distance) -> None:
    queries, vectors = drawn(30, 12), drawn(2000, 12, seed=2)
    vectors[1000:1100] = vectors[0]  # many equal ones: none of them may be lost at the edge
    queries[0] = vectors[0]
    if distance == "cosine":
        queries, vectors = unit(queries), unit(vectors)
    barred = Barred(((np.arange(30) % 2, np.arange(2000) % 2),))
    one, other = (nearest(queries, vectors, 7, distance=distance, barred=barred, engine=e) for e in ("exact", "faiss"))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()


def test_the_engine_is_chosen_by_size_and_refused_where_it_is_missing(monkeypatch) -> None:
    there = importlib.util.find_spec("faiss") is not None
    assert engine_for(MANY) == "exact"
    assert engine_for(MANY + 1) == ("faiss" if there else "exact")
    monkeypatch.setattr(neighbours.importlib.util, "find_spec", lambda name: None)
    assert engine_for(MANY + 1) == "exact"
    with pytest.raises(UnavailableError, match=r"overread\[index\]"):
        engine_for(10, "faiss")


@pytest.mark.parametrize("engine", ["exact", *(["faiss"] if importlib.util.find_spec("faiss") else [])])
@pytest.mark.parametrize("none", [np.nan, np.inf])
def test_a_vector_that_is_none_is_refused_and_never_hides_those_of_its_chunk(none, engine) -> None:
    queries, vectors = drawn(2, 3), drawn(20, 3, seed=1)
    vectors[13, 1] = none
    with pytest.raises(ArgumentError, match=r"a vector holds a number that is none .given: 1 of \d, first row 13.\."):
        nearest(queries, vectors, 2, engine=engine, chunk=8)
    vectors[13, 1] = 1e30  # its square is too large for float32, and it is a number
    rows, _ = nearest(queries, vectors, 2, engine=engine, chunk=8)
    assert (rows == slowly(queries, vectors, 2, "euclidean", lambda q, i: False)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"distance": "cosin"},
        {"engine": "annoy"},
        {"queries": drawn(2, 4)},
        {"queries": np.full((1, 3), np.nan, np.float32)},
    ],
)
def test_wrong_arguments_are_refused(wrong) -> None:
    vectors = drawn(4, 3)
    with pytest.raises(ArgumentError):
        nearest(**{"queries": vectors, "vectors": vectors, "k": 1, **wrong})
