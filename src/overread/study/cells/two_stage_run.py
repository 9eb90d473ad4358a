"""Two stages against one: segment the cells, tell them apart, pool them; and one network that sees the whole image.

With a label for each image the answer is that of the case, and the one stage is an ordinary run. Without one the cells
themselves are the answer, each with its class, and the one stage is a run that outlines every class. Split, patients, ledger
and budget are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases, paths
from overread.cases.split import Split
from overread.cells.ceiling import Ceiling, ceiling, ceiling_of_counts
from overread.cells.cell_crops import IMAGE_CASE, OBJECT, CutImage, Window, cells_of_cases, window_side
from overread.cells.count_rule import CountRule, case_scores, choose_rule, counted_classes
from overread.cells.marked_images import marked_images, truly_marked
from overread.cells.two_stages import POOLS, TwoStages, shares_of
from overread.core.errors import InputError, UnsoundError, checked, one_of
from overread.core.files import folder_lock, read_json, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.comparison.compare import compare
from overread.evaluation.evaluate import evaluate
from overread.evaluation.instances.instance_match import match_instances
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import Outlines, write_labels
from overread.learning.predict import tabulate
from overread.learning.recipe import Recipe
from overread.predictions import Predictions
from overread.study import steps
from overread.study.cells.cell_stages import (
    PREDICTED,
    TRUE,
    StageTools,
    cut_part,
    cut_true,
    same_classes,
    teach_cells,
    teach_pool,
    told_cells,
    true_answers,
)
from overread.study.context import RunContext, predictions_of
from overread.study.question import Study
from overread.tasks.segmentation import OBJECT as ONE_CLASS
from overread.tasks.target import Target

#: Where the parts of such a study lie in its folder.
ONE_STAGE, SEGMENTATION, ANSWERS, CHOICE = "one-stage", "segmentation", "two-stages", "choice.json"
#: The stages of a chain whose answer is the case, or the cells.
OF_CASES, OF_CELLS = ("segmentation", "classification", "pooling"), ("segmentation", "classification")


@dataclass(frozen=True)
class StageChoice:
    """What is asked of two stages.

    ``segmenter``: a run that outlines objects, or blank to train one here. ``window``: of a cell; its side is that of most
    training cells where nobody says. ``pool``: ``rule``, ``mean``, ``attention``, or blank: the rule where cells have
    classes and cases are of two. ``count``: the classes of cells that count for the rule. ``cells`` and ``pooled``: fields of
    the recipes of the networks that tell cells apart and that pool them, ``outlined`` of that which outlines them.
    """

    segmenter: str = ""
    window: Window = Window()  # noqa: RUF009
    pool: str = ""
    count: tuple[str, ...] = ()
    cells: dict[str, Any] = field(default_factory=dict, hash=False)
    pooled: dict[str, Any] = field(default_factory=dict, hash=False)
    outlined: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.pool:
            one_of(self.pool, POOLS, "pool")


@checked
def two_stages(
    study: Study, asked: StageChoice, folder: str | Path, *, cache: str | Path | None = None, network: bool = True,
    progress: Progress = silent, say: Say = unheard,
) -> TwoStages:  # fmt: skip
    """Train and judge both, in ``folder``; called again, it goes on where it was stopped.

    Leaves ``one-stage/`` and ``segmentation/`` (whole runs), ``cells/`` (crops, networks, what is told of each cell),
    ``two-stages/`` (predictions and their evaluation), ``ceiling/``, ``two_stages.json`` and ``metrics.json``. Raises
    :class:`InputError` for a table without masks, and what the steps of a run raise.
    """
    folder, clock = Path(folder), Clock(study.resources.limit)
    run = _Run(study, asked, folder, Path(cache) if cache else None, network, progress, say, clock, {})
    with folder_lock(folder):
        write_json(folder / CHOICE, asked)
        cases = run.opened()
        dense = cases.target.task.dense
        run.timed("one stage", lambda share: run.runs(study, cases, ONE_STAGE, share))
        parts = Split.load(folder / ONE_STAGE / "split.csv")
        images = _one_image_each(cases.drop(set(cases.table["case"]) - set(parts.table["case"])))
        run.timed("segmentation", lambda share: run.segments(images, parts, share))
        tools = run.tools(images, parts)
        found = run.timed("cells", lambda share: (_of_cells if dense else _of_cases)(run, tools, Clock(share or None)))
        found = replace(found, seconds={name: round(took, 1) for name, took in run.seconds.items()}, budget=study.resources.limit or 0.0)  # fmt: skip
        found.save(folder)
    return found


def _one_image_each(cases: Cases) -> Cases:
    if cases.table["case"].duplicated().any():
        raise InputError("two stages take one image of each case", given=f"{len(cases)} images of {cases.table['case'].nunique()} cases",
                         todo="leave --case out, so that each image is a case; its patient still keeps them together")  # fmt: skip
    return cases


@dataclass(frozen=True, eq=False)
class _Run:
    """What the stages of one study share."""

    study: Study
    asked: StageChoice
    folder: Path
    cache: Path | None
    network: bool
    progress: Progress
    say: Say
    clock: Clock
    seconds: dict[str, float]

    def opened(self) -> Cases:
        """The table with its masks, under the codes that a given segmenter knows."""
        study = self.study
        if not study.columns.mask:
            raise InputError("two stages need outlines to learn from", given=study.table, todo="name the masks: --mask COLUMN, FILE or FOLDER")  # fmt: skip
        if self.asked.segmenter and not study.columns.salt:
            study = study.changed(salt=_model_in(self.asked.segmenter).about.names_salt)
        opened, cases = steps.open_study(study, self.folder / ONE_STAGE, self.progress)
        for line in (str(cases), *(f"  {note}" for note in cases.notes)):
            self.say(line)
        return cases

    def timed(self, stage: str, work: Callable[[float], Any]) -> Any:
        """Do the work of a stage within its share of the budget, and say what that is."""
        limit = self.study.resources.limit
        share = 0.0
        if limit is not None:
            share = max(1.0, min(shares_of(limit, [stage])[stage], self.clock.left))
            self.say(f"{stage}: {share:.0f} s of the budget of {limit:.0f} s")
        began = self.clock.elapsed
        made = work(share)
        self.seconds[stage] = self.clock.elapsed - began
        return made

    def runs(self, study: Study, cases: Cases, name: str, share: float) -> None:
        """A whole run in a folder of its own, on this table, within its share of the budget."""
        study = study.changed(salt=cases.salt, budget=f"{share:.0f}s" if share else "", preset="")
        with folder_lock(self.folder / name):
            context = RunContext(study, self.folder / name, self.cache, self.network, Clock(study.resources.limit), self.progress, self.say, cases)  # fmt: skip
            steps.sweep(context)
            steps.begin(context, cases)
            for step in steps.STEPS:
                step(context)
            steps.close_record(context)

    def segments(self, images: Cases, parts: Split, share: float) -> None:
        """The run that outlines cells of whatever class, on the same split; nothing where a trained one was given."""
        if self.asked.segmenter:
            model = _model_in(self.asked.segmenter)
            seen = model.has_seen(images.only(parts, "test").table["patient"].tolist())
            if seen:
                raise UnsoundError(f"the segmenter has seen {count(seen, 'patient')} of the test part", given=Path(self.asked.segmenter).name,
                                   todo="train it on the training patients of this split: leave --segmenter out")  # fmt: skip
            return
        part = dict(zip(parts.table["case"], parts.table["part"], strict=True))
        table = images.table.assign(split=images.table["case"].map(part)).drop(columns=[c for c in images.target.columns if c != "mask"])  # fmt: skip
        cases = Cases(table, Target("segmentation", (ONE_CLASS,)), images.root, salt=images.salt, identifiers=images.identifiers)
        study = self.study.changed(label="", split="", deploy_to="", leave_out="", by_time=False, keep_given=True, recipe=self.asked.outlined,
                                   subgroups=self.study.columns.subgroups)  # fmt: skip
        self.runs(study, cases, SEGMENTATION, share)
        held = Split.load(self.folder / SEGMENTATION / "split.csv").table
        moved = int((held["case"].map(part) != held["part"]).sum())
        if moved:
            raise UnsoundError("the segmentation has another split than the one stage", given=count(moved, "image"))

    def tools(self, images: Cases, parts: Split) -> StageTools:
        """What the stages of cells work with."""
        sizes = images.table["pixel_size"].to_numpy(np.float64) if "pixel_size" in images.table else np.full(len(images), np.nan)  # fmt: skip
        resources, window = self.study.resources, self.asked.window
        tools = StageTools(images, parts, self.folder, window, sizes, self.study.training.seed, resources.device, resources.threads, self.cache,
                           self.study.training.weights, self.network, self.progress, self.say)  # fmt: skip
        if not (window.side or window.microns):
            side = window_side(outlines for *_, outlines in truly_marked(tools.part("train"), pixels=False, threads=resources.threads))
            self.say(f"  window of a cell: {side:.0f} pixels of a side hold 95 % of the training cells with room around them; another: --window")  # fmt: skip
            tools = replace(tools, window=replace(window, side=side))
        return tools

    @property
    def segmenter(self) -> Path:
        """The run or model that outlines cells."""
        return Path(self.asked.segmenter) if self.asked.segmenter else self.folder / SEGMENTATION

    def recipe(self, fields: dict[str, Any]) -> Recipe:
        """A recipe with the study's seed."""
        return Recipe(**{"seed": self.study.training.seed, **fields})


def _model_in(folder: str | Path) -> Any:
    from overread.learning.predict import load_model

    model = load_model(folder)
    if not model.target.task.dense:
        raise InputError("the segmenter outlines nothing", given=Path(folder).name, todo="give a run that was made with --mask")
    return model


# -- the cells of every part ----------------------------------------------------------------------------------------------


def _outlined(run: _Run, tools: StageTools, part: str, names: tuple[str, ...]) -> list[CutImage]:
    """The cells of a part's images as the segmenter outlines them, each with the class of the true cell that it is."""
    model, addresses = _model_in(run.segmenter), paths(tools.part(part))
    truth = dict(_truth(tools, part, names)) if names else {}

    def made() -> Iterator[tuple[int, NDArray[Any] | None, Outlines]]:
        for row, outlines in _labels_of(run, tools, part):
            (_, pixels, _), *_ = marked_images([addresses[row]], [""], threads=1)
            yield row, pixels, same_classes(truth[row], outlines) if row in truth else Outlines(outlines.labels, ("",) * len(outlines))

    return cut_part(tools, PREDICTED, part, made(), model.digest, names)


def _labels_of(run: _Run, tools: StageTools, part: str) -> Iterator[tuple[int, Outlines]]:
    """``(row, outlines)`` of a part's images: from the files of the segmentation, or outlined now where it has none."""
    from overread.cells.segment import segment

    images, path = tools.part(part), run.folder / SEGMENTATION / "predictions" / f"{part}.csv"
    if run.asked.segmenter or not path.exists():
        yield from segment(_model_in(run.segmenter), images, device=tools.device, threads=tools.threads, progress=tools.progress, say=tools.say)  # fmt: skip
        return
    held, place = PredictedOutlines.read(path), {case: row for row, case in enumerate(images.table["case"])}
    for row, case in enumerate(held.table["case"]):
        if case in place:
            yield place[case], held.labels(row)


def _truth(tools: StageTools, part: str, names: tuple[str, ...]) -> Iterator[tuple[int, Outlines]]:
    """``(row, outlines)`` of the images of a part that have a mask."""
    known = names if len(names) > 1 else ()
    return ((row, outlines) for row, _, outlines in truly_marked(tools.part(part), names=known, pixels=False, threads=tools.threads))


def _class_names(tools: StageTools) -> tuple[str, ...]:
    """The classes that the masks of the training images name; () where cells have none, or one."""
    found = sorted({name for _, outlines in _truth(tools, "train", ()) for name in outlines.classes} - {""})
    return tuple(found) if len(found) > 1 else ()


# -- where the answer is the case -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Chains:
    """The chain of stages as it is and with its first stages right: ``at`` a part gives what each says of its cases."""

    stages: tuple[str, ...]
    told: str
    systems: tuple[Callable[[str], Predictions], ...]

    def at(self, part: str) -> list[Predictions]:
        """What each chain says, the one as it is first."""
        return [system(part) for system in self.systems]


def _of_cases(run: _Run, tools: StageTools, clock: Clock) -> TwoStages:
    """Cells are told apart and counted, or weighed by a network; the answer is compared with that of the one stage."""
    chains = _chains(run, tools, clock)
    answers = {part: chains.systems[0](part) for part in ("tuning", "test")}
    found = _ceiling_of_cases(chains, "tuning")
    found.save(run.folder / "ceiling")
    return _against(run, tools, answers, chains.told, found)


def _chains(run: _Run, tools: StageTools, clock: Clock) -> _Chains:
    names = _class_names(tools)
    pool = run.asked.pool or ("rule" if names and tools.images.target.task.binary else "attention")
    return _counted(run, tools, names, clock) if pool == "rule" else _pooled(run, tools, pool, clock)


def _ceiling_of_cases(chains: _Chains, part: str) -> Ceiling:
    notes = [f"The rule or network that pools is as it was; what it counts was chosen anew on tuning cases for each chain ({chains.told})."] if chains.stages == OF_CASES else []  # fmt: skip
    tuned = ["On tuning images, by which thresholds and rules were chosen too: what a stage costs elsewhere may be more."] if part == "tuning" else []  # fmt: skip
    return ceiling(chains.at(part), chains.stages, part=part, notes=[*notes, *tuned])


def _counted(run: _Run, tools: StageTools, names: tuple[str, ...], clock: Clock) -> _Chains:
    """The rule of counted cells, and the chains in which stages are right."""
    if not names:
        raise InputError("the rule counts cells of a class, and the masks name none", todo="pool by a learned network: --pool attention")
    target = Target("binary" if len(names) == 2 else "classes", names)
    classes = counted_classes(tools.images.target, target, run.asked.count)
    true = {part: cut_true(tools, part, names) for part in ("train", "tuning")}
    model = teach_cells(tools, true, target, run.recipe(run.asked.cells), clock)

    def as_it_is(part: str) -> Predictions:
        return told_cells(tools, model, _outlined(run, tools, part, names), target, PREDICTED, part)

    def outlined_right(part: str) -> Predictions:
        return told_cells(tools, model, true.get(part) or cut_true(tools, part, names), target, TRUE, part)

    def told_right(part: str) -> Predictions:
        return true_answers(outlined_right(part))

    def counted(cells: Callable[[str], Predictions]) -> Callable[[str], Predictions]:
        def at(part: str) -> Predictions:
            held = cells(part)
            rule = _rule_of(tools, cells("tuning"), classes)
            return _answered(tools, part, case_scores(rule, held, _owners(held), tools.part(part)))

        return at

    rule = _rule_of(tools, as_it_is("tuning"), classes)
    write_json(run.folder / "cells" / "rule.json", rule)
    told = f"{rule}; the number has the largest AUC on tuning cases ({rule.tried[str(rule.cells)]:.3f})"
    return _Chains(OF_CASES, told, tuple(map(counted, (as_it_is, outlined_right, told_right))))


def _rule_of(tools: StageTools, cells: Predictions, classes: tuple[str, ...]) -> CountRule:
    """The rule that is best on these tuning cells."""
    return choose_rule(cells, _owners(cells), tools.part("tuning"), classes)


def _owners(cells: Predictions) -> list[str]:
    return [str(case) for case in cells.table[IMAGE_CASE]]


def _answered(tools: StageTools, part: str, scores: NDArray[np.float64]) -> Predictions:
    """Scores of the cases of a part (those of its images, one each) as predictions."""
    images = tools.part(part)
    names, positive = images.target.names, images.target.positive
    values = np.stack([scores if name in positive else 1 - scores for name in names], axis=1)
    return tabulate(values, _plain(images), images.target, part)


def _plain(images: Cases) -> Cases:
    """Without what says where masks lie."""
    return replace(images, table=images.table.drop(columns=[c for c in ("mask",) if c in images.table]), masks=False)


def _pooled(run: _Run, tools: StageTools, pool: str, clock: Clock) -> _Chains:
    """A network weighs the cells of a case; and the chain in which the outlines are right."""
    from overread.learning.predict import predict

    cut = {part: _outlined(run, tools, part, ()) for part in ("train", "tuning")}
    model = teach_pool(tools, cut, run.recipe({"fusion": pool, "image_size": tools.window.size, **run.asked.pooled}), clock)

    def weighed(cells: Callable[[str], list[CutImage]]) -> Callable[[str], Predictions]:
        def at(part: str) -> Predictions:
            bags = cells_of_cases(tools.images, cells(part))
            if not len(bags):
                return _whole(tools, part, None)
            return _whole(tools, part, predict(model, bags, device=tools.device, threads=tools.threads, part=part, progress=tools.progress, say=tools.say))  # fmt: skip

        return at

    weighs = "weighs what each cell shows (attention, Ilse 2018)" if pool == "attention" else "takes the mean of what the cells show"
    systems = (weighed(lambda part: _outlined(run, tools, part, ())), weighed(lambda part: cut_true(tools, part)))
    return _Chains(("segmentation", "classification and pooling"), f"pooled by a network that {weighs}", systems)


def _whole(tools: StageTools, part: str, found: Predictions | None) -> Predictions:
    """With the cases in which no cell was outlined: of these nothing is known but how common the classes are in training."""
    images = tools.part(part)
    lacking = images if found is None else images.take(~images.table["case"].isin(found.table["case"]).to_numpy())
    if found is not None and not len(lacking):
        return found
    training = tools.part("train").labels
    share = np.bincount(training[training >= 0], minlength=images.target.outputs) / max(1, int((training >= 0).sum()))
    tools.say(f"  {count(len(lacking), 'case')} of the {part} part without any cell: they get the shares of the training cases")
    more = tabulate(np.tile(share, (len(lacking), 1)), _plain(lacking), images.target, part)
    if found is None:
        return more
    columns = [c for c in more.table.columns if c in found.table.columns]
    return replace(found, table=pd.concat([found.table[columns], more.table[columns]], ignore_index=True))


def _against(run: _Run, tools: StageTools, answers: dict[str, Predictions], told: str, found: Ceiling | None) -> TwoStages:
    """Both judged on the test part at points frozen on tuning cases, and compared."""
    home, ledger, study = run.folder / ANSWERS, run.folder / "ledger.jsonl", run.study
    for part, each in answers.items():
        each.save(home / "predictions" / f"{part}.csv")
    one = {part: predictions_of(run.folder / ONE_STAGE, part) for part in ("tuning", "test")}
    rule, seed = study.operating_point, study.training.seed
    points, others = steps.frozen_by(rule, answers["tuning"], seed), steps.frozen_by(rule, one["tuning"], seed)
    judged = evaluate(answers["test"], at=points, by=list(study.columns.subgroups), seed=seed, ledger=ledger, model="two stages")
    judged.save(home / "evaluation")
    names = ("two stages", "one stage")
    compared = compare(answers["test"], one["test"], at=points, other_at=others, by=list(study.columns.subgroups), seed=seed, ledger=ledger, names=names)  # fmt: skip
    compared.save(run.folder / "comparison")
    return TwoStages(names, tuple(d for d in compared.differences if not d.first.where), told, _window(tools), _cells_in(run.folder), _proof(run.folder),
                     ceiling=found, looks=judged.looks, notes=compared.cautions)  # fmt: skip


def _window(tools: StageTools) -> str:
    window = tools.window
    side = f"{window.microns:g} microns" if window.microns else f"{window.side:g} pixels"
    return f"a cell is seen in a window of {side}, stored as {window.size} × {window.size}{', the rest masked' if window.masked else ''}"


def _cells_in(folder: Path) -> dict[str, int]:
    """Cells by kind and part."""
    found = {}
    for path in sorted((folder / "cells").glob("*-*/cut.json")):
        found[path.parent.name] = sum(len(each["classes"]) for each in read_json(path))
    return found


def _proof(folder: Path) -> str:
    proofs = [read_json(path)["proof"] for path in sorted((folder / "cells").glob("*/split.proof.json"))]
    shared = sum(proof["patients shared"] for proof in proofs)
    return f"cells in two parts of the split: {shared} patients shared; each cell is where its image is" if proofs else ""


# -- where the answer is the cells ----------------------------------------------------------------------------------------


def _of_cells(run: _Run, tools: StageTools, clock: Clock) -> TwoStages:
    """Each cell gets a class by its crop; compared with the run that outlines every class."""
    from overread.evaluation.instances.compare_outlines import compare_outlines
    from overread.evaluation.instances.evaluate_outlines import evaluate_outlines

    told = _cell_answers(run, tools, clock)
    test, found = told(PREDICTED, "test"), _ceiling_of_cells(run, tools, told, "tuning")
    found.save(run.folder / "ceiling")
    made = _with_classes(run, tools, "test", test)
    ledger, subgroups, seed = run.folder / "ledger.jsonl", list(run.study.columns.subgroups), run.study.training.seed
    judged = evaluate_outlines(made, by=subgroups, seed=seed, ledger=ledger, model="two stages")
    judged.save(run.folder / ANSWERS / "evaluation")
    one = PredictedOutlines.read(run.folder / ONE_STAGE / "predictions" / "test.csv")
    compared = compare_outlines(made, one, seed=seed, names=("two stages", "one stage"), ledger=ledger)
    compared.save(run.folder / "comparison")
    differences = tuple(d for d in compared.differences if not d.first.where)
    return TwoStages(("two stages", "one stage"), differences, "", _window(tools), _cells_in(run.folder), _proof(run.folder), ceiling=found, looks=judged.looks)  # fmt: skip


def _cell_answers(run: _Run, tools: StageTools, clock: Clock) -> Callable[[str, str], Predictions]:
    """What is told of the cells of a kind of outlines in a part."""
    names = tools.images.target.names
    if len(names) < 2:
        raise InputError("there is nothing to tell cells apart by: the masks have no classes, and images no label", given=", ".join(names),
                         todo="name the label of the images: --label COLUMN; or give masks with classes")  # fmt: skip
    target = Target("binary" if len(names) == 2 else "classes", names)
    true = {part: cut_true(tools, part, names) for part in ("train", "tuning")}
    model = teach_cells(tools, true, target, run.recipe(run.asked.cells), clock)

    def told(kind: str, part: str) -> Predictions:
        cut = _outlined(run, tools, part, names) if kind == PREDICTED else true.get(part) or cut_true(tools, part, names)
        return told_cells(tools, model, cut, target, kind, part)

    return told


def _with_classes(run: _Run, tools: StageTools, part: str, told: Predictions) -> PredictedOutlines:
    """The segmenter's outlines with the most probable class of each cell, beside the true ones, as files."""
    home, names = run.folder / ANSWERS / "predictions", tools.images.target.names
    called = told.scores.argmax(axis=1) if len(told) else np.zeros(0, np.int64)
    score = told.scores.max(axis=1) if len(told) else np.zeros(0)
    rows = told.table[[IMAGE_CASE, OBJECT]].assign(name=[names[i] for i in called], score=score) if len(told) else None
    images, truth = tools.part(part), dict(_truth(tools, part, names))
    objects, table = [], []
    for row, outlines in _labels_of(run, tools, part):
        case = str(images.table["case"].iloc[row])
        if row not in truth:
            continue
        place = {}
        for side, held in (("predicted", outlines), ("truth", truth[row])):
            path = write_labels(home / (part if side == "predicted" else "truth") / f"{row:06d}.png", held.labels)
            place[side] = str(path.relative_to(home))
        about = images.table.iloc[row]
        table.append({"case": case, "patient": about["patient"], "split": part, "source": about["source"], **place})
        objects += [{"case": case, "side": "truth", "object": k, "class": name, "score": np.nan} for k, name in enumerate(truth[row].classes, 1)]  # fmt: skip
    if rows is not None:
        kept = rows[rows[IMAGE_CASE].isin({each["case"] for each in table})]
        objects += [{"case": str(case), "side": "predicted", "object": int(k), "class": name, "score": p} for case, k, name, p in kept.itertuples(index=False)]  # fmt: skip
    found = PredictedOutlines(pd.DataFrame(table), str(home), pd.DataFrame(objects))
    found.save(home / f"{part}.csv")
    return found


def _ceiling_of_cells(run: _Run, tools: StageTools, told: Callable[[str, str], Predictions], part: str) -> Ceiling:
    """Mean F1 over the classes: as it is, and with the true outlines in the place of those of the segmenter."""
    names, right = tools.images.target.names, told(TRUE, part)
    made = _with_classes(run, tools, part, told(PREDICTED, part))
    known = [row for row in range(len(made)) if made.known[row]]
    called = dict(zip(zip(right.table[IMAGE_CASE].astype(str), right.table[OBJECT].astype(int)), (names[i] for i in right.scores.argmax(axis=1)), strict=True))  # fmt: skip
    first, second = [], []
    for row in known:
        truth, predicted = made.pair(row)
        case = str(made.table["case"].iloc[row])
        first.append([_counts(truth, predicted, name) for name in names])
        told = [called.get((case, k), "") for k in range(1, len(truth) + 1)]
        second.append([[sum(a == b == name for a, b in zip(truth.classes, told)), sum(b == name != a for a, b in zip(truth.classes, told)),
                        sum(a == name != b for a, b in zip(truth.classes, told))] for name in names])  # fmt: skip
    systems = [np.array(each, np.float64) for each in (first, second)]
    tuned = ["On tuning images, by which thresholds were chosen too."] if part == "tuning" else []
    return ceiling_of_counts(systems, OF_CELLS, made.patients[known], of="mean of classes", part=part, seed=tools.seed,
                             notes=["Mean over classes of F1 at an overlap above .5.", *tuned])  # fmt: skip


def _counts(truth: Outlines, predicted: Outlines, name: str) -> list[int]:
    match = match_instances(truth, predicted, of=name)
    return [match.hits, match.false, match.missed]


# -- the ceiling of a study that is there ---------------------------------------------------------------------------------


@checked
def ceiling_of_run(
    folder: str | Path, part: str = "tuning", *, cache: str | Path | None = None, progress: Progress = silent, say: Say = unheard
) -> Ceiling:  # fmt: skip
    """What each stage of two stages costs on a part; on the test part it is a look, which the ledger writes down.

    ``folder``: of :func:`two_stages`. Written into its ``ceiling/``. Raises :class:`InputError` where the study is not there.
    """
    folder = Path(folder)
    one_of(part, ("tuning", "test"), "part")
    if not (folder / CHOICE).exists() or not (folder / TwoStages.file).exists():
        raise InputError("the folder holds no two stages that were run to their end", given=folder.name, todo="overread two-stage TABLE -o FOLDER")
    asked = build(StageChoice, read_json(folder / CHOICE), where=CHOICE)
    study = Study.load(folder / ONE_STAGE / "study.toml").changed(budget="")
    with folder_lock(folder):
        run = _Run(study, asked, folder, Path(cache) if cache else None, False, progress, say, Clock(), {})
        context = RunContext(study, folder / ONE_STAGE, run.cache, False, progress=progress, say=say)
        cases, parts = context.cases(), Split.load(folder / ONE_STAGE / "split.csv")
        tools = run.tools(cases.drop(set(cases.table["case"]) - set(parts.table["case"])), parts)
        if part == "test":
            whole = predictions_of(folder / ONE_STAGE, "test") if not cases.target.task.dense else None
            record_look(folder / "ledger.jsonl", "ceiling analysis", None, part, test=whole) if whole else None
        if cases.target.task.dense:
            found = _ceiling_of_cells(run, tools, _cell_answers(run, tools, Clock()), part)
        else:
            found = _ceiling_of_cases(_chains(run, tools, Clock()), part)
        found.save(folder / "ceiling" / part if part == "test" else folder / "ceiling")
    return found
