"""Segmenters of each site, or microscope, judged at every one: what ``overread shift`` does where objects are outlined."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from overread.core.errors import InputError, checked
from overread.core.files import fingerprint, read_json, write_json
from overread.core.phrases import count
from overread.distributed.repeated import Training, Trainings, refuse_overlap, with_split
from overread.evaluation.generalisation.site_transfer import Shift
from overread.evaluation.instances.outline_matrix import outline_matrix
from overread.evaluation.instances.predicted_outlines import PredictedOutlines, table_of
from overread.study.context import RunContext
from overread.study.outline_steps import predict_part, predicted_of


@checked
def matrix_of_sites(
    context: RunContext, trainings: Trainings, folder: Path, *, part: str, metric: str = "", seed: int = 0
) -> Shift:
    """Train a segmenter on each training set as the run's own was, outline the judged images, and judge every source.

    What was trained and outlined is kept in ``folder``: called again, only what is missing is made. On the test part each
    segmenter is a look, which the run's ledger writes down. Raises :class:`InputError` for a metric that outlines have not.
    """
    results, trained, models = {}, {}, {}
    for place, training in enumerate(trainings.all):
        context.progress("training segmenters", place, len(trainings.all))
        outlined, digest = _outlined(context, training, folder)
        results[training.name], trained[training.name], models[training.name] = outlined, training.sources, digest
    return outline_matrix(results, trained=trained, metric=metric or "ap@0.5", seed=seed, part=part, models=models,
                          ledger=context.folder / "ledger.jsonl" if part == "test" else None,
                          workers=context.study.resources.threads or 1, progress=context.progress)  # fmt: skip


def _outlined(context: RunContext, training: Training, folder: Path) -> tuple[PredictedOutlines, str]:
    """The judged images as a segmenter outlined them that learned from one training set, and the hash of its model."""
    from overread.cells.segmenter import train_segmenter
    from overread.learning.predict import load_model

    study, recipe = context.study, load_model(context.folder).about.recipe
    seen = [context.mask_digest(cases) for cases in (training.train, training.tuning, training.judged)]
    own = folder / fingerprint([training.digest, *seen, recipe, study.training.weights])
    many = f"{count(len(training.train), 'training image')} of {count(training.train.patients, 'patient')}"
    if (own / "done.json").exists():
        context.say(f"  {training.name}: {many}, kept from before")
        return predicted_of(own, training.part), str(read_json(own / "done.json")["model"])
    context.say(f"  {training.name}: {many}")
    refuse_overlap(training)
    if not (own / "model" / "model.json").exists():
        model = train_segmenter(
            *with_split(training), recipe, weights=study.training.weights or None, folder=own / "checkpoints", cache=context.cache,
            device=study.resources.device, threads=study.resources.threads, network=context.network, progress=context.progress,
        )  # fmt: skip
        model.save(own / "model")
        shutil.rmtree(own / "checkpoints", ignore_errors=True)
    predict_part(replace(context, folder=own), training.judged, training.part)
    digest = load_model(own).digest
    write_json(own / "done.json", {"name": training.name, "model": digest})
    return predicted_of(own, training.part), digest


@checked
def by_training(path: Path, column: str) -> dict[str, PredictedOutlines]:
    """The outlines in a table by who was trained on what, as its ``column`` says; an image may stand in it once for each.

    Raises :class:`InputError` where there is no such column.
    """
    table = table_of(path, (column,))
    if column not in table:
        raise InputError(f"there is no column {column!r}", given=", ".join(map(str, table.columns))[:200],
                         todo="--trained-on COLUMN, or --trained-on SITE for one segmenter")  # fmt: skip
    return {name: PredictedOutlines.read(path, only=(column, name)) for name in sorted(table[column].unique())}
