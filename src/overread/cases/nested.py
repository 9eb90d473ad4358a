"""Less of a training set: patients who are drawn so that each larger part holds the smaller, and fewer graders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from overread.cases.cases import Cases
from overread.cases.graders import Grades, consensus
from overread.chance import by_name
from overread.errors import InputError, checked, require


@checked
def nested_order(cases: Cases, *, seed: int = 0, repeat: int = 0) -> tuple[str, ...]:
    """All patients in an order of which every beginning is a stratified sample of them.

    First one patient of every class, so that no beginning lacks one; then the classes in proportion, patients within
    a class by random numbers that belong to their names. The same for any order of the rows; another ``repeat`` is
    another order. A patient with several classes belongs to the rarest. Cases without a label are left out.
    """
    table = pd.DataFrame({"patient": cases.table["patient"], "stratum": cases.strata})[cases.labelled]
    many = table.groupby("stratum")["patient"].nunique()
    table["many"] = table["stratum"].map(many)
    of = table.sort_values(["many", "stratum"]).drop_duplicates("patient").sort_values("patient")
    names, stratum = of["patient"].to_numpy(str), of["stratum"].to_numpy()
    chance = by_name(seed, names, f"nested/{repeat}")
    place = np.empty(len(names))
    for one in np.unique(stratum):
        mine = np.flatnonzero(stratum == one)
        mine = mine[np.argsort(chance[mine], kind="stable")]
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
        place[mine[0]] = -1.0 + chance[mine[0]]
    return tuple(names[np.lexsort((chance, place))].tolist())


@checked
def beginning(cases: Cases, order: Sequence[str], *, share: float = 0.0, images: int = 0) -> Cases:
    """The images of the first patients of ``order``: a ``share`` of them, or as few as have ``images`` images.

    Raises :class:`InputError` for more images than there are.
    """
    require(
        (share > 0) != (images > 0),
        "say a share of the patients or a number of images",
        given=(share, images),
    )
    require(share <= 1, "a share is at most 1", given=share)
    per = cases.table["patient"].value_counts()
    total = np.cumsum([int(per.get(p, 0)) for p in order])
    if images > total[-1]:
        raise InputError("there are not so many images to train on", given=f"{images:,} of {total[-1]:,}",
                         todo="ask for fewer, or for shares such as 50%")  # fmt: skip
    many = int(np.searchsorted(total, images)) + 1 if images else max(1, round(share * len(order)))
    return cases.take(cases.table["patient"].isin(list(order)[:many]).to_numpy())


@checked
def fewer_grades(grades: Grades, many: int, *, seed: int = 0, repeat: int = 0) -> Grades:
    """The answers of ``many`` readers of each case, drawn at random from those who answered it.

    The draws of one ``repeat`` are nested: two readers are the one and another. Cases with fewer answers keep all.
    """
    require(many >= 1, "at least one grade per image is needed", given=many)
    table = grades.table[grades.table["label"] != ""]
    names = [f"{c}\n{r}" for c, r in zip(table["case"], table["reader"], strict=True)]
    drawn = table.assign(_chance=by_name(seed, names, f"grades/{repeat}")).sort_values(["case", "_chance"])
    kept = drawn[drawn.groupby("case").cumcount() < many]
    return replace(grades, table=kept.drop(columns="_chance").reset_index(drop=True))


@checked
def graded(cases: Cases, grades: Grades) -> tuple[Cases, int]:
    """Cases with the majority of their ``grades`` as label, and how many of them had a tie.

    A tie goes to the reader who was drawn first: none is left out, so that the number of images does not depend on
    how many graded them. Raises :class:`InputError` for a target without classes, an answer that is none of them, or
    cases without any grade.
    """
    if cases.target.kind not in ("binary", "classes"):
        raise InputError(
            "grades can teach one label with classes", given=f"a target of kind {cases.target.kind}"
        )
    found = consensus(grades, classes=cases.target.names)
    first = grades.table.drop_duplicates("case").set_index("case")["label"]
    label = found["label"].where(found["label"] != "", found["case"].map(first))
    known = dict(zip(found["case"], label, strict=True))
    new = cases.table["case"].map(known)
    missing = int(new.isna().sum())
    if missing:
        raise InputError("some training cases have no grade", given=f"{missing:,} of {len(cases):,} images",
                         todo="give at least one grade for each, under the names of the study's table")  # fmt: skip
    ties = int(found["tied"][found["case"].isin(set(cases.table["case"]))].sum())
    return replace(cases, table=cases.table.assign(label=new)), ties
