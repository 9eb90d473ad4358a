"""Which cells decided: the map of a run's answer summed over the cells of its images, held against what knows nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from overread.cases.cases import Cases, mask_paths, paths
from overread.cases.split import Split
from overread.cells.marked_images import PixelsInTurn, truly_marked
from overread.core.errors import InputError, checked, one_of, require
from overread.core.files import write_csv
from overread.core.phrases import count
from overread.explanation.attribute import attributions
from overread.explanation.cell_shares import (
    EDGES,
    INTENSITY,
    MAP,
    RANDOM,
    SIZE,
    ExplainedCells,
    cell_sums,
    judge_cells,
    labels_seen,
    on_image,
)
from overread.explanation.checks.randomisation import depths_of, edges, redrawn
from overread.explanation.explain import index_of
from overread.explanation.methods import method_of
from overread.explanation.sanity import check
from overread.explanation.verdict import Checks
from overread.images.outlines.outlines import Outlines
from overread.images.preprocess import Preprocess
from overread.learning.device import layout, pick_device
from overread.learning.inputs import Inputs, inputs
from overread.learning.model import Model
from overread.learning.predict import load_model
from overread.study.context import RunContext

#: The table of cells, ranked, in the folder of an explanation.
RANKED = "cells.csv"
#: The outlines that the table itself has.
TRUE = "masks"
#: Of so many images the maps are held against their checks, which take some hundred passes each.
CHECKED = 8


@dataclass(frozen=True)
class CellWish:
    """What is asked of the cells of a run.

    ``cells``: ``masks``, the outlines of the run's table, or a run that outlines objects. ``method``: of the map.
    ``target``: the class that is explained, blank for the positive one. ``planted``: the classes of cells that are known to
    matter. ``part`` and ``most`` images of it; of all of them, or of those of the class ``target`` alone (``present``).
    """

    cells: str = TRUE
    method: str = "gradient"
    target: str = ""
    planted: tuple[str, ...] = ()
    part: str = "test"
    most: int = 0
    present: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        one_of(self.part, ("tuning", "test"), "part")
        method_of(self.method)
        require(self.most >= 0, "so many images at most; 0 for all", given=self.most)


@checked
def explain_cells(context: RunContext, wish: CellWish, home: Path | None = None) -> ExplainedCells:
    """Rank the cells of each image by their share of the map, and judge the ranking; writes ``cells.csv`` and its summary.

    The share of a cell is the sum of the map's magnitude over it, by that over the whole image. Beside it stand the same of
    a network with random weights and of the edges of the image, the cell's size, and how far its mean is from the image's.
    Where cells are known to matter (``planted``), each is held against them within images. The test part is looked at only
    once it was judged, as maps are. Raises :class:`InputError` where the run's images have no outlines.
    """
    model, home = load_model(context.folder), home or context.folder
    require(model.about.recipe.fusion == "single", "cells are ranked in single images", given=model.about.recipe.fusion, todo="explain a run without --fusion")  # fmt: skip
    if wish.part == "test" and not (context.folder / "evaluation" / "metrics.json").exists():
        raise InputError("the test part was not judged yet, and stays closed", given=context.folder.name, todo="overread evaluate RUN, or --part tuning")  # fmt: skip
    target = index_of(model.target, wish.target or next(iter(model.target.positive), ""))
    cases = _chosen(context, wish, target)
    outlined = dict(_outlined(context, cases, wish))
    if not outlined:
        raise InputError(
            "there are no outlines of cells in these images",
            given=wish.cells,
            todo="name a run that outlines them: --cells RUN",
        )
    found = _ranked(context, model, cases, outlined, wish, target)
    write_csv(home / "explanations" / RANKED, found.table)
    planted = [np.isin(each, list(wish.planted)) for each in found.classes]
    scores = judge_cells(found.scores, planted, found.patients, seed=wish.seed)
    notes = [_checked_words(found.checks)]
    if not wish.planted:
        notes.append(
            "No class of cells was named as the one that matters (--planted CLASS): the ranking is not judged, only checked."
        )
    result = ExplainedCells(scores, wish.method, model.target.names[target], "true" if wish.cells == TRUE else "predicted", len(found.table),
                            int(sum(each.sum() for each in planted)), len(planted), len(set(found.patients)), tuple(notes))  # fmt: skip
    result.save(home / "explanations" / "cells")
    return result


def _chosen(context: RunContext, wish: CellWish, target: int) -> Cases:
    cases = context.usable().only(Split.load(context.folder / "split.csv"), wish.part)
    if wish.present:
        cases = cases.take(cases.labels == target)
    if not len(cases):
        raise InputError(
            "there is no image of this class in this part",
            given=wish.part,
            todo="choose another --target or --part, or --all",
        )
    return cases.take(np.arange(min(wish.most or len(cases), len(cases))))


def _outlined(context: RunContext, cases: Cases, wish: CellWish) -> Iterator[tuple[int, Outlines]]:
    """``(row, outlines)``: the true ones, with their classes, or those of a run, with the classes of the true ones they are."""
    threads = context.study.resources.threads
    if wish.cells == TRUE:
        if not cases.masks:
            raise InputError(
                "the run's table has no masks",
                given=context.folder.name,
                todo="name a run that outlines cells: --cells RUN",
            )
        yield from (
            (row, outlines) for row, _, outlines in truly_marked(cases, pixels=False, threads=threads) if len(outlines)
        )
        return
    from overread.cells.segment import segment
    from overread.study.cells.cell_stages import same_classes
    from overread.study.cells.stage_run import model_in

    known = cases.masks and any(mask_paths(cases))
    truth = {row: outlines for row, _, outlines in truly_marked(cases, pixels=False, threads=threads)} if known else {}
    for row, outlines in segment(model_in(wish.cells), cases, device=context.study.resources.device, threads=threads, progress=context.progress, say=context.say):  # fmt: skip
        if len(outlines):
            yield row, same_classes(truth[row], outlines) if row in truth else Outlines(outlines.labels, ("",) * len(outlines))  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Ranked:
    """The cells of N images: a table of all, and of each image the scores by name, the classes, the patient."""

    table: pd.DataFrame
    scores: dict[str, list[NDArray[np.float64]]]
    classes: list[NDArray[Any]]
    patients: list[str]
    checks: list[Checks]


def _ranked(context: RunContext, model: Model, cases: Cases, outlined: dict[int, Outlines], wish: CellWish, target: int) -> _Ranked:  # fmt: skip
    device = pick_device(context.study.resources.device)
    network = layout(model.network, device).eval()
    rows, found = (
        sorted(outlined),
        _Ranked(pd.DataFrame(), {name: [] for name in (MAP, RANDOM, EDGES, SIZE, INTENSITY)}, [], [], []),
    )
    kept, tables = cases.take(np.array(rows, np.int64)), []
    random: torch.nn.Module | None = None
    pixels = PixelsInTurn(paths(kept), context.study.resources.threads)
    for batch in inputs(model, kept, device=device, threads=context.study.resources.threads, batch=8, progress=context.progress, say=context.say, doing="explaining"):  # fmt: skip
        if random is None:
            random = redrawn(network, depths_of(network, batch.x[:1], 1), wish.seed)
        maps = attributions(network, batch.x, target, wish.method, seed=wish.seed)
        blind = attributions(random, batch.x, target, wish.method, seed=wish.seed)
        for place in range(len(batch)):
            row = int(batch.rows[place, 0])
            image, outlines = pixels.at(row), outlined[rows[row]]
            if image is None or outlines.size != image.shape[:2]:
                continue
            shown = {
                MAP: maps[place],
                RANDOM: blind[place],
                EDGES: torch.from_numpy(edges(batch.x[place].cpu().numpy(), 2)),
            }
            scores = _scores(shown, outlines, image, model.about.preprocess)
            tables.append(_rows(kept, row, outlines, scores))
            for name, values in scores.items():
                found.scores[name].append(values)
            found.classes.append(np.array(outlines.classes, object))
            found.patients.append(str(kept.table["patient"].iloc[row]))
            if len(found.checks) < CHECKED:
                found.checks.append(_checks(network, batch, place, target, wish, model))
    if not tables:
        raise InputError("none of the images can be read", todo="see the audit for the reasons")
    return _Ranked(pd.concat(tables, ignore_index=True), found.scores, found.classes, found.patients, found.checks)


def _scores(shown: dict[str, torch.Tensor], outlines: Outlines, image: NDArray[Any], preprocess: Preprocess) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Of each cell: the share of each map, its pixels, and how far its mean lies from the image's."""
    labels, many = labels_seen(outlines, image, preprocess), len(outlines)
    made: dict[str, NDArray[np.float64]] = {}
    for name, values in shown.items():
        laid = on_image(np.abs(values.detach().cpu().numpy()), (labels.shape[0], labels.shape[1]), preprocess)
        total = float(laid.sum())
        made[name] = cell_sums(labels, laid, many) / (total if total > 0 else 1.0)
    area = outlines.areas.astype(np.float64)
    grey = image.mean(axis=2, dtype=np.float64)
    mean = cell_sums(outlines.labels, grey, many) / np.maximum(area, 1)
    return made | {SIZE: area, INTENSITY: np.abs(mean - float(grey.mean()))}


def _rows(cases: Cases, row: int, outlines: Outlines, scores: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """The cells of an image, the one with the largest share first."""
    made = pd.DataFrame({"case": str(cases.table["case"].iloc[row]), "object": np.arange(1, len(outlines) + 1), "class": list(outlines.classes), **scores})  # fmt: skip
    made = made.sort_values(MAP, ascending=False, kind="stable", ignore_index=True)
    made.insert(1, "rank", np.arange(1, len(made) + 1))
    return made


def _checks(network: torch.nn.Module, batch: Inputs, place: int, target: int, wish: CellWish, model: Model) -> Checks:
    """The checks of the map itself, as ``explain`` makes them."""

    def method(other: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return attributions(other, x, target, wish.method, seed=wish.seed)

    def score(outputs: torch.Tensor) -> torch.Tensor:
        return model.target.task.probabilities(outputs)[:, target]

    return check(method, network, batch.x[place : place + 1], target=target, score=score, draws=1, seed=wish.seed)


def _checked_words(checks: Sequence[Checks]) -> str:
    """How many maps fail which of their checks."""
    failed = Counter(name for each in checks for name in each.failed)
    blank = sum(each.blank or each.nothing for each in checks)
    sound = sum(not each.failed and not (each.blank or each.nothing) for each in checks)
    told = [f"{many} failed {name}" for name, many in failed.most_common()]
    said = [f"{blank} said nothing"] if blank else []
    return f"Of {count(len(checks), 'map')} held against their checks (as overread explain does) {', '.join([*told, *said, f'{sound} failed none'])}."


@checked
def told_of(ranked: pd.DataFrame, most: int = 5) -> Sequence[str]:
    """The first images of a table of ranked cells, a line each: which cells have which share."""
    found = []
    for case, cells in list(ranked.groupby("case", sort=False))[:most]:
        shares = zip(cells["object"].tolist(), cells[MAP].tolist(), strict=True)
        first = ", ".join(f"cell {number} {share:.0%}" for number, share in list(shares)[:3])
        found.append(f"{case}: {first} of {count(len(cells), 'cell')}")
    return found
