"""Two stages against one: segment the cells, tell them apart, pool them; and one network that sees the whole image.

With a label for each image the answer is that of the case, and the one stage is an ordinary run. Without one the cells
themselves are the answer, each with its class, and the one stage is a run that outlines every class. Split, patients, ledger
and budget are shared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from overread.cases.split import Split
from overread.cells.stages.stage_costs import Ceiling
from overread.cells.stages.two_stages import TwoStages
from overread.core.errors import InputError, checked, one_of
from overread.core.files import build, fingerprint, folder_lock, read_json, write_json
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.instances.outline_counts import counted_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.evaluation.ledger import record_look
from overread.predictions import KnownTruth
from overread.study.cells.case_answers import answers_of_cases, ceiling_of_cases, chains_of
from overread.study.cells.cell_answers import answers_of_cells, ceiling_of_cells, told_of_cells
from overread.study.cells.stage_run import CHOICE, ONE_STAGE, StageChoice, StageRun, one_image_each
from overread.study.context import RunContext, predictions_of
from overread.study.question import Resources, Study

#: Which question the result in a folder answers.
DONE = "done.json"


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
    run = StageRun(study, asked, folder, Path(cache) if cache else None, network, progress, say, clock, {})
    cases = one_image_each(run.opened())  # a wrong table leaves nothing behind
    with folder_lock(folder):
        write_json(folder / CHOICE, asked)
        asked_of = study.changed(salt=cases.salt, threads=0, device="").flat()
        key = {"key": fingerprint([asked, asked_of, cases.digest, run.held(cases)])}
        if (folder / DONE).exists() and read_json(
            folder / DONE
        ) == key:  # judged once: another look would be written down
            say("the two stages were judged already")
            return TwoStages.load(folder)
        dense = cases.target.task.dense
        run.timed("one stage", lambda share: run.runs(study, cases, ONE_STAGE, share))
        parts = Split.load(folder / ONE_STAGE / "split.csv")
        images = cases.drop(set(cases.table["case"]) - set(parts.table["case"]))
        run.timed("segmentation", lambda share: run.segments(images, parts, share))
        tools = run.tools(images, parts)
        found = run.timed(
            "cells", lambda share: (answers_of_cells if dense else answers_of_cases)(run, tools, Clock(share or None))
        )
        found = replace(found, seconds={name: round(took, 1) for name, took in run.seconds.items()}, budget=study.resources.limit or 0.0)  # fmt: skip
        found.save(folder)
        write_json(folder / DONE, key)
    return found


# -- the ceiling of a study that is there ---------------------------------------------------------------------------------


@checked
def ceiling_of_run(
    folder: str | Path, part: str = "tuning", *, resources: Resources | None = None, cache: str | Path | None = None, progress: Progress = silent,
    say: Say = unheard,
) -> Ceiling:  # fmt: skip
    """What each stage of two stages costs on a part; on the test part it is a look, which the ledger writes down.

    ``folder``: of :func:`two_stages`. Written into its ``ceiling/``. Raises :class:`InputError` where the study is not there.
    """
    folder = Path(folder)
    one_of(part, ("tuning", "test"), "part")
    if not (folder / CHOICE).exists() or not (folder / TwoStages.file).exists():
        raise InputError(
            "the folder holds no two stages that were run to their end",
            given=folder.name,
            todo="run them: overread two-stage TABLE -o FOLDER",
        )
    asked = build(StageChoice, read_json(folder / CHOICE), where=CHOICE)
    study = Study.load(folder / ONE_STAGE / "study.toml").changed(budget="", preset="")
    study = study.changed(device=resources.device, threads=resources.threads) if resources else study
    with folder_lock(folder):
        run = StageRun(study, asked, folder, Path(cache) if cache else None, False, progress, say, Clock(), {})
        context = RunContext(study, folder / ONE_STAGE, run.cache, False, progress=progress, say=say)
        cases, parts = context.cases(), Split.load(folder / ONE_STAGE / "split.csv")
        tools = run.tools(cases.drop(set(cases.table["case"]) - set(parts.table["case"])), parts)
        if part == "test":
            known = known_test(folder / ONE_STAGE, dense=cases.target.task.dense)
            record_look(folder / "ledger.jsonl", "ceiling analysis", None, part, test=known)
        if cases.target.task.dense:
            found = ceiling_of_cells(run, tools, told_of_cells(run, tools, Clock()), part)
        else:
            found = ceiling_of_cases(chains_of(run, tools, Clock()), part)
        found.save(folder / "ceiling" / part if part == "test" else folder / "ceiling")
    return found


@checked
def known_test(run: Path, *, dense: bool) -> KnownTruth:
    """What is known of a run's test part, as the ledger knows a test set again: its cases with labels, or with outlines."""
    if dense:
        return counted_outlines(PredictedOutlines.read(run / "predictions" / "test.csv"))
    return predictions_of(run, "test")
