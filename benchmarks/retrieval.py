"""Exact search against the bare matrix product: `python benchmarks/retrieval.py [--count 100000] [--width 512] [--queries 1000]`.

Bar: .9 of the speed of the product of all queries with all vectors, in the same run, the two interleaved; what the product
does not do is to find the nearest. Told in processor time, which a busy machine changes less, and by the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from overread.retrieval.neighbours import engine_for, nearest, unit


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("count", 100_000), ("width", 512), ("queries", 1000), ("repeats", 5), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    generator = torch.Generator().manual_seed(0)
    right, left = (torch.randn(many, asked.width, generator=generator) for many in (asked.count, asked.queries))
    vectors, queries = right.numpy(), left.numpy()
    of_length_1 = unit(queries), unit(vectors)
    works: dict[str, Callable[[], object]] = {
        "product": lambda: left @ right.T,
        "euclidean": lambda: nearest(queries, vectors, 10, engine="exact"),
        "cosine": lambda: nearest(*of_length_1, 10, distance="cosine", engine="exact"),
    }
    if engine_for(2_000_000) == "faiss":
        works["faiss"] = lambda: nearest(queries, vectors, 10, engine="faiss")
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(asked.repeats):
        for name, work in works.items():
            took[name].append(timed(work))
    for name, times in took.items():
        wall, busy = (statistics.median(each) for each in zip(*times, strict=True))
        ratios = [statistics.median(p[i] / t[i] for p, t in zip(took["product"], times, strict=True)) for i in (0, 1)]
        print(f"{name}: {asked.queries / wall:,.0f} queries/s by the clock ({ratios[0]:.2f} of the product), {busy:.2f} s of work ({ratios[1]:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
