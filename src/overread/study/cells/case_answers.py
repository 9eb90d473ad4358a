"""Two stages whose answer is the case: its cells are told apart and counted, or weighed by a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cells.stages.cell_crops import IMAGE_CASE, CutImage, cells_of_cases
from overread.cells.stages.count_rule import CountRule, case_scores, choose_rule, counted_classes
from overread.cells.stages.stage_costs import Ceiling, ceiling
from overread.cells.stages.two_stages import TwoStages
from overread.core.errors import InputError, checked
from overread.core.files import write_json
from overread.core.phrases import count
from overread.core.progress import Clock
from overread.evaluation.comparison.compare import compare
from overread.evaluation.evaluate import evaluate
from overread.learning.predict import tabulate
from overread.predictions import Predictions
from overread.study.cells.cell_stages import (
    PREDICTED,
    TRUE,
    StageTools,
    cut_true,
    teach_cells,
    teach_pool,
    told_cells,
    true_answers,
)
from overread.study.cells.stage_run import (
    ANSWERS,
    ONE_STAGE,
    StageRun,
    cells_in,
    class_names,
    outlined_cells,
    proof_words,
    window_words,
)
from overread.study.context import predictions_of
from overread.study.image_steps import frozen_by
from overread.tasks.target import Target

# -- where the answer is the case -----------------------------------------------------------------------------------------


#: The stages of a chain that ends in the answer for the case.
OF_CASES = ("segmentation", "classification", "pooling")


@dataclass(frozen=True, eq=False)
class Chains:
    """The chain of stages as it is and with its first stages right: ``at`` a part gives what each says of its cases."""

    stages: tuple[str, ...]
    told: str
    systems: tuple[Callable[[str], Predictions], ...]

    def at(self, part: str) -> list[Predictions]:
        """What each chain says, the one as it is first."""
        return [system(part) for system in self.systems]


@checked
def answers_of_cases(run: StageRun, tools: StageTools, clock: Clock) -> TwoStages:
    """Cells are told apart and counted, or weighed by a network; the answer is compared with that of the one stage."""
    chains = chains_of(run, tools, clock)
    answers = {part: chains.systems[0](part) for part in ("tuning", "test")}
    found = ceiling_of_cases(chains, "tuning")
    found.save(run.folder / "ceiling")
    return _against(run, tools, answers, chains.told, found)


@checked
def chains_of(run: StageRun, tools: StageTools, clock: Clock) -> Chains:
    """The chain that was asked for, its networks trained where they are not there yet."""
    names = class_names(tools)
    pool = run.asked.pool or ("rule" if names and tools.images.target.task.binary else "attention")
    return _counted(run, tools, names, clock) if pool == "rule" else _pooled(run, tools, pool, clock)


@checked
def ceiling_of_cases(chains: Chains, part: str) -> Ceiling:
    """What each stage costs on the cases of a part."""
    notes = [f"How many cells the rule counts was chosen anew on tuning cases for each chain; as it is: {chains.told}."] if chains.stages == OF_CASES else []  # fmt: skip
    tuned = ["On tuning images, by which thresholds and rules were chosen too: what a stage costs elsewhere may be more."] if part == "tuning" else []  # fmt: skip
    return ceiling(chains.at(part), chains.stages, part=part, notes=[*notes, *tuned])


def _counted(run: StageRun, tools: StageTools, names: tuple[str, ...], clock: Clock) -> Chains:
    """The rule of counted cells, and the chains in which stages are right."""
    if not names:
        raise InputError(
            "the rule counts cells of a class, and the masks name none",
            todo="pool by a learned network: --pool attention",
        )
    target = Target("binary" if len(names) == 2 else "classes", names)
    classes = counted_classes(tools.images.target, target, run.asked.count)
    true = {part: cut_true(tools, part, names) for part in ("train", "tuning")}
    model = teach_cells(tools, true, target, run.recipe(run.asked.cells), clock)

    def as_it_is(part: str) -> Predictions:
        return told_cells(tools, model, outlined_cells(run, tools, part, names), target, PREDICTED, part)

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
    return Chains(OF_CASES, told, tuple(map(counted, (as_it_is, outlined_right, told_right))))


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


def _pooled(run: StageRun, tools: StageTools, pool: str, clock: Clock) -> Chains:
    """A network weighs the cells of a case; and the chain in which the outlines are right."""
    from overread.learning.predict import predict

    cut = {part: outlined_cells(run, tools, part, ()) for part in ("train", "tuning")}
    model = teach_pool(
        tools, cut, run.recipe({"fusion": pool, "image_size": tools.window.size, **run.asked.pooled}), clock
    )

    def weighed(cells: Callable[[str], list[CutImage]]) -> Callable[[str], Predictions]:
        def at(part: str) -> Predictions:
            bags = cells_of_cases(tools.images, cells(part))
            if not len(bags):
                return _whole(tools, part, None)
            return _whole(tools, part, predict(model, bags, device=tools.device, threads=tools.threads, part=part, progress=tools.progress, say=tools.say))  # fmt: skip

        return at

    weighs = (
        "weighs what each cell shows (attention, Ilse 2018)"
        if pool == "attention"
        else "takes the mean of what the cells show"
    )
    systems = (weighed(lambda part: outlined_cells(run, tools, part, ())), weighed(lambda part: cut_true(tools, part)))
    return Chains(("segmentation", "classification and pooling"), f"pooled by a network that {weighs}", systems)


def _whole(tools: StageTools, part: str, found: Predictions | None) -> Predictions:
    """With the cases in which no cell was outlined: of these nothing is known but how common the classes are in training."""
    images = tools.part(part)
    lacking = images if found is None else images.take(~images.table["case"].isin(found.table["case"]).to_numpy())
    if found is not None and not len(lacking):
        return found
    training = tools.part("train").labels
    share = np.bincount(training[training >= 0], minlength=images.target.outputs) / max(1, int((training >= 0).sum()))
    tools.say(
        f"  {count(len(lacking), 'case')} of the {part} part without any cell: they get the shares of the training cases"
    )
    more = tabulate(np.tile(share, (len(lacking), 1)), _plain(lacking), images.target, part)
    if found is None:
        return more
    columns = [c for c in more.table.columns if c in found.table.columns]
    return replace(found, table=pd.concat([found.table[columns], more.table[columns]], ignore_index=True))


def _against(
    run: StageRun, tools: StageTools, answers: dict[str, Predictions], told: str, found: Ceiling | None
) -> TwoStages:
    """Both judged on the test part at points frozen on tuning cases, and compared."""
    home, ledger, study = run.folder / ANSWERS, run.folder / "ledger.jsonl", run.study
    for part, each in answers.items():
        each.save(home / "predictions" / f"{part}.csv")
    one = {part: predictions_of(run.folder / ONE_STAGE, part) for part in ("tuning", "test")}
    rule, seed = study.operating_point, study.training.seed
    points, others = frozen_by(rule, answers["tuning"], seed), frozen_by(rule, one["tuning"], seed)
    judged = evaluate(
        answers["test"], at=points, by=list(study.columns.subgroups), seed=seed, ledger=ledger, model="two stages"
    )
    judged.save(home / "evaluation")
    names = ("two stages", "one stage")
    compared = compare(answers["test"], one["test"], at=points, other_at=others, by=list(study.columns.subgroups), seed=seed, ledger=ledger, names=names)  # fmt: skip
    compared.save(run.folder / "comparison")
    return TwoStages(names, tuple(d for d in compared.differences if not d.first.where), told, window_words(tools), cells_in(run.folder), proof_words(run.folder),
                     ceiling=found, looks=judged.looks, notes=compared.cautions)  # fmt: skip
