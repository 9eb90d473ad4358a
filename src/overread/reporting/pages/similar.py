"""What is alike, as a page: the nearest known cases with their pictures, how far they can be trusted, and the map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from overread.core.errors import InputError, checked
from overread.core.files import read_json, unguarded
from overread.evaluation.results import estimates
from overread.reporting import words
from overread.reporting.figures.cases_map import cases_map
from overread.reporting.page import Picture, Section, write_page
from overread.reporting.run import read_run
from overread.reporting.shown_cases import Names, picture
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, rounded

#: Queries on the page.
SHOWN = 24


@checked
def similar_page(folder: str | os.PathLike[str], cases: Sequence[str] = ()) -> Path:
    """Write ``index/similar.html`` into a run's folder, from the files of its index, and give its path.

    ``cases``: those that were asked about, in this order; without any, the first that the file of neighbours holds. Raises
    :class:`InputError` where there is no index.
    """
    home = Path(folder) / "index"
    about, rows = read_json(home / "index.json"), _rows(home / "neighbours.json")
    if not isinstance(about, dict):
        raise InputError("index.json does not hold a table of fields", given=type(about).__name__)
    found, run = estimates(about.get("precision", []), "index.json"), read_run(folder)
    names = Names.of(run, run.study.names != "keep")
    by_case = {row["case"]: row for row in rows}
    wanted = [by_case[case] for case in cases if case in by_case] or rows[:SHOWN]
    summary = [f"{about['cases']:,} cases of {about['patients']:,} patients of the training part, by the layer {words.name(str(about['layer']))} "
               f"({about['width']:,} numbers, {about['distance']} distance). Never the same patient, never a copy."]  # fmt: skip
    cautions = ["Neighbours show what the model has seen, not what a case is. Read the probability first.", *map(words.sentence, about.get("notes", []))]  # fmt: skip
    sections = [
        *(_asked(Path(folder), row, names) for row in wanted[:SHOWN]),
        _trust(found),
        _tried(about.get("tried", [])),
        _maps(home / "map.csv", names),
    ]
    names.keep(Path(folder), (each["case"] for row in wanted[:SHOWN] for each in (row, *row.get("neighbours", []))))
    return write_page(home / "similar.html", "What is alike", summary, sections, cautions=cautions)


def _rows(path: Path) -> list[dict[str, Any]]:
    held = read_json(path) if path.exists() else []
    return [row for row in held if isinstance(row, dict) and "case" in row]


def _asked(folder: Path, row: dict[str, Any], names: Names) -> Section:
    """One case: its picture, then its neighbours, nearest first."""
    name = names[str(row["case"])]
    near = row.get("neighbours", [])
    pictures = [Picture(picture(folder, row.get("thumbnail", "")), f"the case {name}", ("asked about", name)), *(
        Picture(picture(folder, each["thumbnail"]), f"{rank}. {each['label']}", (f"{rank}. {words.name(each['label'], 40)}", f"distance {rounded(each['distance'])}", words.name(each["source"], 40), names[each["case"]]))
        for rank, each in enumerate(near, 1))]  # fmt: skip
    shown = tuple(each for each in pictures if each.address)
    lines = () if near else ("Nothing known may answer.",)
    rows = tuple((str(rank), words.name(each["label"], 60), rounded(each["distance"]), words.name(each["source"], 40), names[each["case"]]) for rank, each in enumerate(near, 1))  # fmt: skip
    table = (
        (Table("", ("", "Label", "Distance", "Source", "Case"), rows, 1),) if rows and len(shown) <= len(rows) else ()
    )
    return Section(f"Nearest to {name}", lines, table, (), shown)


def _trust(found: Sequence[Estimate]) -> Section:
    """A table a part: precision of each class beside a shuffled index and the prevalence."""
    tables = []
    for part, title in (
        ("test", "Test part, which chose nothing"),
        ("tuning", "Tuning part, by which layer and distance were chosen"),
    ):
        by = {(each.metric, each.of): each for each in found if each.where.get("part") == part}
        names = list(dict.fromkeys(of for metric, of in by if metric == "precision@5"))
        rows = [(words.name(of, 40), *(_cell(by.get((f"precision@{k}", of))) for k in (1, 5, 10)), _cell(by.get(("shuffled precision@5", of))),
                 _cell(by.get(("prevalence", of))), str(by["precision@5", of].patients)) for of in names]  # fmt: skip
        if ("macro precision@5", "") in by:
            mean = [_cell(by.get((f"macro precision@{k}", ""))) for k in (1, 5, 10)]
            rows.append(("mean over classes", *mean, _cell(by.get(("shuffled macro precision@5", ""))), words.NOTHING, str(by["macro precision@5", ""].patients)))  # fmt: skip
        head = ("Class", "P@1", "P@5", "P@10", "P@5, shuffled index", "Share of the index", "Patients")
        tables.append(Table(title, head, tuple(rows), 1))
        errors = [(f"{k} nearest", _cell(by.get((f"neighbour error@{k}", ""))), _cell(by.get((f"shuffled neighbour error@{k}", "")))) for k in (1, 5, 10) if (f"neighbour error@{k}", "") in by]  # fmt: skip
        tables.append(Table(title, ("", "Mean difference", "Shuffled index"), tuple(errors), 1))
    how = "P@k: of the k nearest known cases to a case of the class, the share that are of the class, with 95 % intervals by patient. A search that sees nothing reaches the share of the index."
    return Section.of("How far neighbours can be trusted", (how,), *tables)


def _cell(estimate: Estimate | None) -> str:
    return (
        words.NOTHING
        if estimate is None
        else words.value(estimate, 3) + (f" ({between})" if (between := words.interval(estimate, 3)) else "")
    )


def _tried(held: Sequence[dict[str, Any]]) -> Section:
    """The layers and distances that were compared, the best first."""
    ordered = sorted((row for row in held if row.get("score") is not None), key=lambda row: -row["score"])
    rows = tuple((words.name(str(row["layer"]), 60), str(row["distance"]), f"{row['width']:,}", rounded(row["score"]), "chosen" if row["chosen"] else "") for row in ordered)  # fmt: skip
    return Section.of("How the layer was chosen", (), Table("By the mean P@5 over classes on tuning patients", ("Layer", "Distance", "Numbers", "Mean P@5", ""), rows, 2))  # fmt: skip


def _maps(path: Path, names: Names) -> Section:
    if not path.exists():
        return Section("Map")
    text = dict.fromkeys(("case", "label", "predicted", "source"), str)
    table = unguarded(pd.read_csv(path, dtype=text, keep_default_na=False, na_values={each: [""] for each in ("x", "y", "pca_x", "pca_y")}))  # fmt: skip
    table = table.assign(case=table["case"].map(names.__getitem__))
    near = cases_map(table, "x", "y", "map-tsne", "Map by neighbourhood (t-SNE)", "Near points are alike; how far apart groups lie means nothing. Hold the pointer over a point to read it.")  # fmt: skip
    flat = cases_map(table, "pca_x", "pca_y", "map-pca", "Map by principal components", "The two directions in which the vectors differ most.")  # fmt: skip
    return Section.of("Map", ("Judge nothing by a map: it is drawn without looking at the labels, and shows neighbourhoods only.",), near, flat)  # fmt: skip
