"""Who the patients of each part are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from overread.cases.cases import Cases
from overread.cases.split import split
from overread.evaluation.subgroups import characteristics
from overread.tasks.target import Target


def cohort(patients: int = 60) -> Cases:
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    n = len(who)
    table = pd.DataFrame({
        "image": [f"{i}.png" for i in range(n)], "case": [f"c{i}" for i in range(n)], "patient": [f"p{w}" for w in who],
        "source": np.array(["A", "B"])[who % 2], "view": "", "time": "", "split": "",
        "label": np.array(["well", "ill"])[(who % 3 == 0).astype(int)], "sex": np.array(["f", "m"])[(who % 5 < 2).astype(int)],
        "age": rng.integers(20, 90, n), "site": "only",
    })  # fmt: skip
    return Cases(table, Target("binary", ("well", "ill"), ("ill",)))


def test_counts_are_those_of_a_loop_over_the_rows():
    cases = cohort()
    parts = split(cases, seed=1)
    rows = characteristics(cases, parts, ["sex", "age", "site", "nowhere"])
    part = dict(zip(parts.table["case"], parts.table["part"], strict=True))
    assert {row["column"] for row in rows} == {"label", "source", "sex", "age"}
    for row in rows:
        if row["column"] == "age":
            continue
        for name, held in row["parts"].items():
            inside = [r for r in cases.table.to_dict("records") if part[r["case"]] == name and r[row["column"]] == row["group"]]  # fmt: skip
            assert held == {"images": len(inside), "patients": len({r["patient"] for r in inside})}


def test_the_images_of_a_column_add_up_to_its_part():
    cases = cohort()
    parts = split(cases, seed=1)
    sizes = parts.table["part"].value_counts()
    rows = characteristics(cases, parts, ["age"])
    for column in ("label", "source", "age"):
        for part, size in sizes.items():
            assert sum(row["parts"][part]["images"] for row in rows if row["column"] == column) == size
