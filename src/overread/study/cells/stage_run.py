"""What the stages of a two-stage study share: the runs it is made of, its split and budget, and its cells by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.cases.cases import PARTS, Cases, paths
from overread.cases.privacy import patient_codes
from overread.cases.split import Split
from overread.cells.marked_images import PixelsInTurn, truly_marked
from overread.cells.stages.cell_crops import CutImage, Window, window_side
from overread.cells.stages.two_stages import POOLS, share_of
from overread.core.errors import InputError, UnsoundError, checked, one_of
from overread.core.files import build, fingerprint, folder_lock, read_json, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import Outlines
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.study import steps
from overread.study.cells.cell_stages import PREDICTED, StageTools, cut_part, same_classes
from overread.study.context import CLOSING_SECONDS, RunContext
from overread.study.question import Study
from overread.tasks.segmentation import OBJECT as ONE_CLASS
from overread.tasks.target import Target

#: Where the parts of such a study lie in its folder.
ONE_STAGE, SEGMENTATION, ANSWERS, CHOICE = "one-stage", "segmentation", "two-stages", "choice.json"
#: What each stage got of the budget; and the share of it that a run keeps for what comes after its predictions, at most.
BUDGET, CLOSING = "budget.json", 0.15


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
def one_image_each(cases: Cases) -> Cases:
    """The same cases. Raises :class:`InputError` where a case has several images."""
    if cases.table["case"].duplicated().any():
        raise InputError("two stages take one image of each case", given=f"{len(cases)} images of {cases.table['case'].nunique()} cases",
                         todo="leave --case out, so that each image is a case; its patient still keeps them together")  # fmt: skip
    return cases


@dataclass(frozen=True, eq=False)
class StageRun:
    """What the stages of one study share: the question, what is asked of the stages, the folder, and the clock of the budget.

    ``seconds``: what each stage took, filled in as they are done.
    """

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
            study = study.changed(salt=model_in(self.asked.segmenter).about.names_salt)
        _, cases = steps.open_study(study, self.folder / ONE_STAGE, self.progress)
        return cases

    def held(self, cases: Cases) -> str:
        """A hash of what the images of these cases and their masks hold, whatever their files are called."""
        context = RunContext(self.study, self.folder / ONE_STAGE, self.cache, progress=self.progress)
        return fingerprint([context.prints(cases)["digest"].tolist(), context.mask_digest(cases)])

    def timed(self, stage: str, work: Callable[[float], Any]) -> Any:
        """Do the work of a stage within its share of the budget, and say what that is."""
        share = self._share(stage)
        if share:
            self.say(f"{stage}: {share:.0f} s of the budget of {self.study.resources.limit:.0f} s")
        began = self.clock.elapsed
        made = work(share)
        self.seconds[stage] = self.clock.elapsed - began
        return made

    def _share(self, stage: str) -> float:
        """Seconds for a stage, 0 without a budget; the same where it was begun before, or its training would be another."""
        if self.study.resources.limit is None:
            return 0.0
        path = self.folder / BUDGET
        held: dict[str, float] = read_json(path) if path.exists() else {}
        if stage not in held:
            write_json(path, held := {**held, stage: float(round(share_of(stage, self.clock.left)))})
        return held[stage]

    def runs(self, study: Study, cases: Cases, name: str, share: float) -> None:
        """A whole run in a folder of its own, on this table, within its share of the budget."""
        study = study.changed(salt=cases.salt, budget=f"{share:.0f}s" if share else "", preset="")
        with folder_lock(self.folder / name):
            closing = min(CLOSING_SECONDS, CLOSING * share) if share else CLOSING_SECONDS
            context = RunContext(study, self.folder / name, self.cache, self.network, Clock(study.resources.limit), self.progress, self.say, cases, closing=closing)  # fmt: skip
            steps.sweep(context)
            steps.begin(context, cases)
            for step in steps.STEPS:
                step(context)
            steps.close_record(context)

    def segments(self, images: Cases, parts: Split, share: float) -> None:
        """The run that outlines cells of whatever class, on the same split; nothing where a trained one was given."""
        if self.asked.segmenter:
            model = model_in(self.asked.segmenter)
            patients, about = images.only(parts, "test").table["patient"].tolist(), model.about
            if (
                about.names_salt and not images.salt
            ):  # it knows patients by codes, and here they stand under their names
                patients = patient_codes(patients, about.names_salt, about.identifiers)
            seen = model.has_seen(patients)
            if seen:
                raise UnsoundError(f"the segmenter has seen {count(seen, 'patient')} of the test part", given=Path(self.asked.segmenter).name,
                                   todo="train it on the training patients of this split: leave --segmenter out")  # fmt: skip
            return
        part = dict(zip(parts.table["case"], parts.table["part"], strict=True))
        table = images.table.assign(split=images.table["case"].map(part)).drop(columns=[c for c in images.target.columns if c != "mask"])  # fmt: skip
        cases = Cases(
            table, Target("segmentation", (ONE_CLASS,)), images.root, salt=images.salt, identifiers=images.identifiers
        )
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
        tools = replace(
            tools, held={part: self.held(tools.part(part)) for part in PARTS if (parts.table["part"] == part).any()}
        )
        if not (window.side or window.microns):
            side = window_side(
                outlines for *_, outlines in truly_marked(tools.part("train"), pixels=False, threads=resources.threads)
            )
            self.say(f"  window of a cell: {side:.0f} pixels of a side hold 95 % of the training cells with room around them; another: --cell-window")  # fmt: skip
            tools = replace(tools, window=replace(window, side=side))
        return tools

    @property
    def segmenter(self) -> Path:
        """The run or model that outlines cells."""
        return Path(self.asked.segmenter) if self.asked.segmenter else self.folder / SEGMENTATION

    def recipe(self, fields: dict[str, Any]) -> Recipe:
        """A recipe with the study's seed."""
        made: Recipe = build(Recipe, {**fields, "seed": self.study.training.seed}, where="the recipe of a stage")
        return made


@checked
def model_in(folder: str | Path) -> Model:
    """The model of a run that outlines objects. Raises :class:`InputError` for another."""
    from overread.learning.predict import load_model

    model = load_model(folder)
    if not model.target.task.dense:
        raise InputError(
            "the segmenter outlines nothing", given=Path(folder).name, todo="give a run that was made with --mask"
        )
    return model


# -- the cells of every part ----------------------------------------------------------------------------------------------


@checked
def outlined_cells(run: StageRun, tools: StageTools, part: str, names: tuple[str, ...]) -> list[CutImage]:
    """The cells of a part's images as the segmenter outlines them, each with the class of the true cell that it is."""
    model, pixels = model_in(run.segmenter), PixelsInTurn(paths(tools.part(part)), tools.threads)
    truth = dict(true_outlines(tools, part, names)) if names else {}

    def made() -> Iterator[tuple[int, NDArray[Any] | None, Outlines]]:
        for row, outlines in labels_of(run, tools, part):
            same = same_classes(truth[row], outlines) if row in truth else Outlines(outlines.labels, ("",) * len(outlines))  # fmt: skip
            yield row, pixels.at(row), same

    return cut_part(tools, PREDICTED, part, made(), model.digest, names)


@checked
def labels_of(run: StageRun, tools: StageTools, part: str) -> Iterator[tuple[int, Outlines]]:
    """``(row, outlines)`` of a part's images: from the files of the segmentation, or outlined now where it has none."""
    from overread.cells.segment import segment

    images, path = tools.part(part), run.folder / SEGMENTATION / "predictions" / f"{part}.csv"
    if run.asked.segmenter or not path.exists():
        yield from segment(model_in(run.segmenter), images, device=tools.device, threads=tools.threads, progress=tools.progress, say=tools.say)  # fmt: skip
        return
    held, place = PredictedOutlines.read(path), {case: row for row, case in enumerate(images.table["case"])}
    for case in sorted(set(held.table["case"]) & set(place), key=lambda name: place[name]):
        yield place[case], held.labels(int(np.flatnonzero(held.table["case"] == case)[0]))


@checked
def true_outlines(tools: StageTools, part: str, names: tuple[str, ...]) -> Iterator[tuple[int, Outlines]]:
    """``(row, outlines)`` of the images of a part that have a mask."""
    return _read_masks(tools, part, names if len(names) > 1 else ())


def _read_masks(tools: StageTools, part: str, known: tuple[str, ...]) -> Iterator[tuple[int, Outlines]]:
    errors: dict[int, str] = {}
    for row, _, outlines in truly_marked(tools.part(part), names=known, pixels=False, threads=tools.threads, errors=errors):  # fmt: skip
        yield row, outlines
    if errors:
        tools.say(f"  {count(len(errors), 'mask')} of the {part} part cannot be read: {next(iter(errors.values()))}")


@checked
def class_names(tools: StageTools) -> tuple[str, ...]:
    """The classes that the masks of the training images name; () where cells have none, or one."""
    found = sorted({name for _, outlines in true_outlines(tools, "train", ()) for name in outlines.classes} - {""})
    return tuple(found) if len(found) > 1 else ()


@checked
def window_words(tools: StageTools) -> str:
    """What is cut out of a cell, in words."""
    window = tools.window
    side = f"{window.microns:g} microns" if window.microns else f"{window.side:g} pixels"
    return f"a cell is seen in a window of {side}, stored as {window.size} × {window.size}{', the rest masked' if window.masked else ''}"


@checked
def cells_in(folder: Path) -> dict[str, int]:
    """Cells by kind and part."""
    found = {}
    for path in sorted((folder / "cells").glob("*-*/cut.json")):
        found[path.parent.name] = sum(len(each["classes"]) for each in read_json(path))
    return found


@checked
def proof_words(folder: Path) -> str:
    """That no cells of one patient are in two parts, by the proofs of the splits that were carried over."""
    proofs = [read_json(path)["proof"] for path in sorted((folder / "cells").glob("*/split.proof.json"))]
    shared = sum(proof["patients shared"] for proof in proofs)
    return (
        f"cells in two parts of the split: {shared} patients shared; each cell is where its image is" if proofs else ""
    )
