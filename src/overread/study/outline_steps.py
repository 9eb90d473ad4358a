"""The steps of a study whose answer is an image with its objects outlined: prediction, judging, and what is shown.

They stand in the place of those of :mod:`overread.study.image_steps` that ask for one answer a case; the others are the same, but
for maps of where a network looked and an index of similar cases, which have no meaning here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from overread.cases.cases import ROLES, Cases, mask_paths, paths
from overread.cases.split import Split
from overread.core.errors import ImageError, InputError, checked
from overread.core.files import fingerprint, read_json, sha256, unguarded, write_csv, write_json
from overread.core.phrases import count
from overread.evaluation.instances.predicted_outlines import PredictedOutlines, read_labels
from overread.evaluation.ledger import require_entry_of, settle
from overread.evaluation.subgroups import FEWEST
from overread.export.object_files import OutlinedImage
from overread.images.outlines.outlines import Outlines, read_masks, write_labels
from overread.study.context import RunContext, cases_of, refuse_seen
from overread.study.image_steps import closing_seconds
from overread.study.question import OperatingRule

if TYPE_CHECKING:
    from overread.learning.model import Model

#: Folder of a run's predictions: ``test.csv``, its label images in ``test/``, the true ones of all parts in ``truth/``.
PREDICTIONS, TRUTH = "predictions", "truth"
#: Of which model and cases the label images are that are there.
_OF = "of.json"
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")


@checked
def refuse_points(rule: OperatingRule) -> None:
    """Raise :class:`InputError` for a rule of operating points or calls: an object is outlined or not, and nothing is chosen."""
    usual = OperatingRule()
    asked = [f"--{f.name.replace('_', '-')}" for f in fields(rule) if getattr(rule, f.name) != getattr(usual, f.name)]
    if asked:
        raise InputError("outlines of objects have no operating point and no calls to decide", given=" ".join(asked), todo="leave it out; the thresholds that cut objects are tuned on tuning images")  # fmt: skip


# -- training ---------------------------------------------------------------------------------------------------------


@checked
def beside(context: RunContext, cases: Cases) -> tuple[str, ...]:
    """A hash of what the masks hold, in which the labels lie."""
    return (context.mask_digest(cases),)


@checked
def teach(context: RunContext, cases: Cases, parts: Split, recipe: Any, how: dict[str, Any]) -> Any:
    """A model that outlines objects; ``how``: the arguments that every training has."""
    from overread.cells.segmenter import train_segmenter

    return train_segmenter(cases, parts, recipe, reserve=closing_seconds(context, cases, parts), **how)


# -- predictions ------------------------------------------------------------------------------------------------------


@checked
def predict(context: RunContext) -> None:
    """``predictions/tuning.csv`` and ``test.csv`` with a label image for each of their images, beside the true ones.

    A run that was stopped goes on with the images that have none yet.
    """
    from overread.learning.predict import load_model

    cases, parts = context.usable(), Split.load(context.folder / "split.csv")
    model, home = load_model(context.folder), context.folder / PREDICTIONS
    key = fingerprint([model.digest, cases.digest, context.mask_digest(cases)])
    if context.done("predictions", key, "predictions/tuning.csv", "predictions/test.csv"):
        return
    began = context.clock.elapsed
    refuse_seen(model, cases.only(parts, "test"))
    if not (home / _OF).exists() or read_json(home / _OF) != {"of": key}:
        _empty(home)
        write_json(home / _OF, {"of": key})
    for part in ("tuning", "test"):
        predict_part(context, cases.only(parts, part), part)
    context.note("predictions", key, context.clock.elapsed - began)


def _empty(home: Path) -> None:
    """Remove the label images of another model."""
    for folder in ("tuning", "test", TRUTH):
        for path in (home / folder).glob("*"):
            path.unlink()


@checked
def predict_part(context: RunContext, cases: Cases, part: str) -> None:
    """What the model in the context's folder outlines in a part, in ``predictions/`` there: the label images that are not
    there yet, the true ones, and the table."""
    from overread.cells.segment import segment
    from overread.learning.predict import load_model

    model = load_model(context.folder)
    home, names, resources = context.folder / PREDICTIONS, file_names(cases), context.study.resources
    left = np.array([row for row, name in enumerate(names) if not _there(home / part, name)], np.int64)
    if len(left) < len(names):
        context.say(f"  {count(len(names) - len(left), 'image')} of the {part} part {'is' if len(names) - len(left) == 1 else 'are'} outlined already")  # fmt: skip
    found = segment(model, cases.take(left), device=resources.device, threads=resources.threads, progress=context.progress, say=context.say)  # fmt: skip
    for row, outlines in found if len(left) else ():
        name = names[int(left[row])]
        if any(outlines.classes):  # first: the label image says that all is there
            write_csv(home / part / f"{name}.csv", _class_rows(outlines))
        write_labels(home / part / f"{name}.png", outlines.labels)
    _write_truth(context, cases, names, part)
    _table(model, cases, names, home, part).save(home / f"{part}.csv")


@checked
def file_names(cases: Cases) -> list[str]:
    """Of each image the name of its files in the run: its case where that is one a file can have, else a hash of it; of
    several images of a case numbered.

    The number stands behind a character that the name of no case has here, so that images of different cases never share a
    name, also of different parts, which are named each by itself and lie in one folder.
    """
    made: list[str] = []
    taken: dict[str, int] = {}
    for case in cases.table["case"].astype(str):
        name = case if _SAFE.fullmatch(case) else sha256(case.encode())[:16]
        taken[name.casefold()] = taken.get(name.casefold(), 0) + 1
        made.append(name if taken[name.casefold()] == 1 else f"{name}@{taken[name.casefold()]}")
    return made


def _there(folder: Path, name: str) -> str:
    """The file of a label image, blank where there is none."""
    return next((f"{folder.name}/{name}{ending}" for ending in (".png", ".tif") if (folder / f"{name}{ending}").exists()), "")  # fmt: skip


def _class_rows(outlines: Outlines) -> pd.DataFrame:
    return pd.DataFrame({"object": np.arange(1, len(outlines) + 1), "class": list(outlines.classes)})


def _write_truth(context: RunContext, cases: Cases, names: Sequence[str], part: str) -> None:
    """The true outlines of the images that have predicted ones, as label images beside these, and of their size."""
    home = context.folder / PREDICTIONS / TRUTH
    masks, drawn = mask_paths(cases), {name: _there(home.parent / part, name) for name in names}
    left = [row for row, name in enumerate(names) if masks[row] and drawn[name] and not _there(home, name)]
    sizes = [
        read_labels(home.parent / drawn[names[row]]).size for row in left
    ]  # a box says nothing of its image's size
    names_of = (
        cases.target.names if len(cases.target.names) > 1 else ()
    )  # of one, whatever class a mask gives its objects
    read = read_masks([masks[row] for row in left], sizes=sizes, classes=names_of, workers=context.study.resources.threads)  # fmt: skip
    unread = 0
    for place, (row, found) in enumerate(zip(left, read, strict=True), start=1):
        context.progress("reading masks", place, len(left))
        if isinstance(found, ImageError):
            unread += 1
            continue
        if names_of and any(found.classes):
            write_csv(home / f"{names[row]}.csv", _class_rows(found))
        write_labels(home / f"{names[row]}.png", found.labels)
    if unread:
        context.say(f"  {count(unread, 'mask')} cannot be read: {'its image is' if unread == 1 else 'their images are'} not judged")  # fmt: skip


def _table(model: Model, cases: Cases, names: Sequence[str], home: Path, part: str) -> PredictedOutlines:
    """The table of a part: who its images are, and where the label images lie; images that could not be read are left out."""
    known = {*ROLES, *cases.target.columns}
    table = pd.DataFrame({"case": image_keys(cases), "patient": cases.table["patient"], "split": part, "source": cases.table["source"]})  # fmt: skip
    table = pd.concat([table, cases.table[[c for c in cases.table.columns if c not in known]]], axis=1)
    table = table.assign(predicted=[_there(home / part, name) for name in names], truth=[_there(home / TRUTH, name) for name in names])  # fmt: skip
    objects = [
        unguarded(pd.read_csv(path, dtype=str, keep_default_na=False)).assign(case=case, side=side, score=np.nan)
        for case, name in zip(table["case"], names, strict=True)
        for side, folder in (("predicted", part), ("truth", TRUTH))
        if (path := home / folder / f"{name}.csv").exists()
    ]
    held = {"objects": pd.concat(objects, ignore_index=True)} if objects else {}
    return PredictedOutlines(table[table["predicted"] != ""], str(home), by=model.facts, identifiers=cases.identifiers, **held)  # fmt: skip


# -- judging ------------------------------------------------------------------------------------------------------------


@checked
def evaluate(context: RunContext) -> None:
    """``evaluation/``: the outlines of the test part through its one door, by source and subgroup."""
    from overread.evaluation.instances.evaluate_outlines import evaluate_outlines

    study, home, ledger = context.study, context.folder / "evaluation", context.folder / "ledger.jsonl"
    test = predicted_of(context.folder, "test")
    if (patients := int(test.table["patient"][test.known].nunique())) < FEWEST:
        context.say(f"not judged: the test part has {count(patients, 'patient')} with a mask, and nothing is judged below {FEWEST}")  # fmt: skip
        return
    key = fingerprint([test.digest, study.columns.subgroups])
    if context.done("evaluation", key, "evaluation/metrics.json"):
        return
    began = context.clock.elapsed
    require_entry_of(home, ledger)
    trained = context.record().get("steps", {}).get("model", {}).get("key", "")
    found = evaluate_outlines(test, by=list(study.columns.subgroups), seed=study.training.seed, ledger=ledger, model=trained,
                              pending=True, workers=study.resources.threads or 1, progress=context.progress)  # fmt: skip
    found.save(home)
    context.note("evaluation", key, context.clock.elapsed - began)
    settle(ledger)


@checked
def carry(context: RunContext, columns: Sequence[str]) -> None:
    """Put columns of the study's table into the tables of outlines, for judging by them; nothing is outlined anew.

    Raises :class:`InputError` for a column that is not there, and where the table itself is gone.
    """
    parts = {part: predicted_of(context.folder, part) for part in ("tuning", "test")}
    wanted = [name for name in columns if any(name not in made.table for made in parts.values())]
    if not wanted:
        return
    cases = replace(context, table=cases_of(context.study, context.progress)).usable()
    split = Split.load(context.folder / "split.csv")
    for part, made in parts.items():
        held = cases.only(split, part)
        told = held.table[wanted].set_axis(image_keys(held), axis="index").reindex(made.table["case"])
        replace(made, table=made.table.assign(**{name: told[name].to_numpy() for name in wanted})).save(context.folder / PREDICTIONS / f"{part}.csv")  # fmt: skip


@checked
def predicted_of(folder: Path, part: str) -> PredictedOutlines:
    """The outlines of a part of a run. Raises :class:`InputError` where it has none yet."""
    path = folder / PREDICTIONS / f"{part}.csv"
    if not (folder / "cases.csv").exists():
        raise InputError("this folder is no run: it has no cases.csv", given=str(folder), todo="give a run's folder")
    if not path.exists():
        raise InputError(f"the run has no outlines of its {part} part yet", given=str(folder), todo=f"overread predict {folder}")  # fmt: skip
    return PredictedOutlines.read(path)


# -- what is shown ------------------------------------------------------------------------------------------------------


@checked
def show_outlines(context: RunContext) -> None:
    """``overlays/``: the images that were outlined worst, and a few at random, with what became of each object."""
    from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
    from overread.reporting.outlined.shown_images import write_overlays

    if not (context.folder / "evaluation" / "instances.json").exists():
        return
    parts, test = Split.load(context.folder / "split.csv"), predicted_of(context.folder, "test")
    cases, judged = context.usable().only(parts, "test"), InstanceEvaluation.load(context.folder / "evaluation")
    keys, hidden = image_keys(cases), context.written(cases)
    withheld = {key for key, case in zip(keys, cases.table["case"], strict=True) if case in hidden}
    write_overlays(context.folder, dict(zip(keys, paths(cases), strict=True)), test, judged, withheld=withheld,
                   seed=context.study.training.seed, progress=context.progress)  # fmt: skip


@checked
def image_keys(cases: Cases) -> list[str]:
    """What an image of a part stands under in its table: its case, or of several images of a case the name of its files."""
    every = cases.table["case"].astype(str)
    return file_names(cases) if every.duplicated().any() else every.tolist()


# -- for other programs -------------------------------------------------------------------------------------------------


@checked
def exported_images(folder: Path, part: str = "test") -> Iterator[OutlinedImage]:
    """What was outlined in each image of a part of a run, under the names that its files have there.

    Raises :class:`InputError` where there is none yet.
    """
    held = predicted_of(folder, part)
    return (_exported(held, row) for row in range(len(held)) if held.table["predicted"].iloc[row])


def _exported(held: PredictedOutlines, row: int) -> OutlinedImage:
    outlines, size = held.labels(row), float(held.pixel_sizes[row])
    objects = pd.DataFrame(
        {"object": np.arange(1, len(outlines) + 1), "class": list(outlines.classes), "area": outlines.areas}
    )
    return OutlinedImage(
        Path(held.table["predicted"].iloc[row]).stem, outlines, objects, size if np.isfinite(size) else 0.0
    )
