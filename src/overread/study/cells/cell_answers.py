"""Two stages whose answer is the cells: each is outlined, then gets a class by its crop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from overread.cases.cases import ROLES
from overread.cells.stages.cell_crops import IMAGE_CASE, OBJECT
from overread.cells.stages.stage_costs import Ceiling, ceiling_of_counts
from overread.cells.stages.two_stages import TwoStages
from overread.core.errors import InputError, checked
from overread.core.progress import Clock
from overread.evaluation.instances.instance_match import match_instances
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import Outlines, write_labels
from overread.predictions import Predictions
from overread.study.cells.cell_stages import PREDICTED, TRUE, StageTools, cut_true, teach_cells, told_cells
from overread.study.cells.stage_run import (
    ANSWERS,
    ONE_STAGE,
    StageRun,
    cells_in,
    labels_of,
    outlined_cells,
    proof_words,
    true_outlines,
    window_words,
)
from overread.tasks.target import Target

# -- where the answer is the cells ----------------------------------------------------------------------------------------


#: The stages of a chain that ends in the class of each cell.
OF_CELLS = ("segmentation", "classification")


@checked
def answers_of_cells(run: StageRun, tools: StageTools, clock: Clock) -> TwoStages:
    """Each cell gets a class by its crop; compared with the run that outlines every class."""
    from overread.evaluation.instances.compare_outlines import compare_outlines
    from overread.evaluation.instances.evaluate_outlines import evaluate_outlines

    told = told_of_cells(run, tools, clock)
    test, found = told(PREDICTED, "test"), ceiling_of_cells(run, tools, told, "tuning")
    found.save(run.folder / "ceiling")
    made = _with_classes(run, tools, "test", test)
    ledger, subgroups, seed = run.folder / "ledger.jsonl", list(run.study.columns.subgroups), run.study.training.seed
    judged = evaluate_outlines(made, by=subgroups, seed=seed, ledger=ledger, model="two stages")
    judged.save(run.folder / ANSWERS / "evaluation")
    one = PredictedOutlines.read(run.folder / ONE_STAGE / "predictions" / "test.csv")
    compared = compare_outlines(made, one, seed=seed, names=("two stages", "one stage"), ledger=ledger)
    compared.save(run.folder / "comparison")
    differences = tuple(d for d in compared.differences if not d.first.where)
    return TwoStages(("two stages", "one stage"), differences, "", window_words(tools), cells_in(run.folder), proof_words(run.folder), ceiling=found, looks=judged.looks)  # fmt: skip


@checked
def told_of_cells(run: StageRun, tools: StageTools, clock: Clock) -> Callable[[str, str], Predictions]:
    """What is told of the cells of a kind of outlines in a part."""
    names = tools.images.target.names
    if len(names) < 2:
        raise InputError("there is nothing to tell cells apart by: the masks have no classes, and images no label", given=", ".join(names),
                         todo="name the label of the images: --label COLUMN; or give masks with classes")  # fmt: skip
    target = Target("binary" if len(names) == 2 else "classes", names)
    true = {part: cut_true(tools, part, names) for part in ("train", "tuning")}
    model = teach_cells(tools, true, target, run.recipe(run.asked.cells), clock)

    def told(kind: str, part: str) -> Predictions:
        cut = (
            outlined_cells(run, tools, part, names)
            if kind == PREDICTED
            else true.get(part) or cut_true(tools, part, names)
        )
        return told_cells(tools, model, cut, target, kind, part)

    return told


def _with_classes(run: StageRun, tools: StageTools, part: str, told: Predictions) -> PredictedOutlines:
    """The segmenter's outlines with the most probable class of each cell, beside the true ones, as files."""
    home, names = run.folder / ANSWERS / "predictions", tools.images.target.names
    called = told.scores.argmax(axis=1) if len(told) else np.zeros(0, np.int64)
    score = told.scores.max(axis=1) if len(told) else np.zeros(0)
    rows = told.table[[IMAGE_CASE, OBJECT]].assign(name=[names[i] for i in called], score=score) if len(told) else None
    images, truth = tools.part(part), dict(true_outlines(tools, part, names))
    more = [
        name for name in images.table.columns if name not in {*ROLES, *images.target.columns}
    ]  # subgroups, pixel size
    objects, table = [], []
    for row, outlines in labels_of(run, tools, part):
        case = str(images.table["case"].iloc[row])
        if row not in truth:
            continue
        place = {}
        for side, held in (("predicted", outlines), ("truth", truth[row])):
            path = write_labels(home / (part if side == "predicted" else "truth") / f"{row:06d}.png", held.labels)
            place[side] = str(path.relative_to(home))
        about = images.table.iloc[row]
        table.append({"case": case, "patient": about["patient"], "split": part, "source": about["source"], **{name: about[name] for name in more}, **place})  # fmt: skip
        objects += [{"case": case, "side": "truth", "object": k, "class": name, "score": np.nan} for k, name in enumerate(truth[row].classes, 1)]  # fmt: skip
    if rows is not None:
        kept = rows[rows[IMAGE_CASE].isin({each["case"] for each in table})]
        objects += [{"case": str(case), "side": "predicted", "object": int(k), "class": name, "score": p} for case, k, name, p in kept.itertuples(index=False)]  # fmt: skip
    found = PredictedOutlines(pd.DataFrame(table), str(home), pd.DataFrame(objects), identifiers=images.identifiers)
    found.save(home / f"{part}.csv")
    return found


@checked
def ceiling_of_cells(run: StageRun, tools: StageTools, told: Callable[[str, str], Predictions], part: str) -> Ceiling:
    """Mean F1 over the classes: as it is, and with the true outlines in the place of those of the segmenter."""
    names, right = tools.images.target.names, told(TRUE, part)
    made = _with_classes(run, tools, part, told(PREDICTED, part))
    known = [row for row in range(len(made)) if made.known[row]]
    cells = zip(right.table[IMAGE_CASE].astype(str), right.table[OBJECT].astype(int), strict=True)
    called = dict(zip(cells, (names[i] for i in right.scores.argmax(axis=1)), strict=True))
    first, second = [], []
    for row in known:
        truth, predicted = made.pair(row)
        case = str(made.table["case"].iloc[row])
        first.append([_counts(truth, predicted, name) for name in names])
        said = [called.get((case, k), "") for k in range(1, len(truth) + 1)]
        second.append([[sum(a == b == name for a, b in zip(truth.classes, said)), sum(b == name != a for a, b in zip(truth.classes, said)),
                        sum(a == name != b for a, b in zip(truth.classes, said))] for name in names])  # fmt: skip
    systems = [np.array(each, np.float64) for each in (first, second)]
    tuned = ["On tuning images, by which thresholds were chosen too."] if part == "tuning" else []
    return ceiling_of_counts(systems, OF_CELLS, made.patients[known], of="mean of classes", part=part, seed=tools.seed,
                             notes=["Mean over classes of F1 at an overlap above .5.", *tuned])  # fmt: skip


def _counts(truth: Outlines, predicted: Outlines, name: str) -> list[int]:
    match = match_instances(truth, predicted, of=name)
    return [match.hits, match.false, match.missed]
