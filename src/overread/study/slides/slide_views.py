"""The slides that the report of a study shows beside their heat maps."""

from __future__ import annotations

import math
from dataclasses import fields

from overread.cases.cases import paths
from overread.cases.split import Split
from overread.core.errors import checked
from overread.core.files import fingerprint
from overread.reporting.slides.slide_pictures import LIST, ShownSlide, SlideToShow, chosen_slides, write_slides
from overread.slides.heat_map import HeatMap
from overread.study.context import RunContext
from overread.study.outline_steps import file_names, image_keys
from overread.study.slides.lesion_tables import MAPS, PLACES, lesions_of, outlines_digest, read_places
from overread.study.slides.slide_rule import SlideReading


@checked
def show_slides(context: RunContext) -> None:
    """``overlays/``: slides of the test part beside their heat maps: those missed, those falsely alarmed, a few at random."""
    folder, home = context.folder, context.folder / "predictions"
    if not (folder / "evaluation" / "metrics.json").exists():
        return
    reading, places, seed = (
        SlideReading.load(folder / "model"),
        read_places(home / PLACES / "test.csv"),
        context.study.training.seed,
    )
    cases = context.usable().only(Split.load(folder / "split.csv"), "test")
    entry = [field.name for field in fields(ShownSlide)]  # a list that tells less is made again
    key = fingerprint([cases.digest, places.to_csv(), reading, seed, outlines_digest(cases), entry])
    if context.done("slides shown", key, LIST):
        return
    began, keys = context.clock.elapsed, image_keys(cases)
    maps = {
        row: HeatMap.load(path)
        for row, name in enumerate(file_names(cases))
        if (path := home / MAPS / f"{name}.tif").exists()
    }
    labels = cases.table[cases.target.columns[0]].to_numpy()
    ill = {keys[row] for row in maps if labels[row] in cases.target.positive}
    test = context.predictions("test")
    told = dict(
        zip(test.table["case"].astype(str), test.table[f"p:{cases.target.positive[0]}"].astype(float), strict=True)
    )
    score = {keys[row]: told.get(str(cases.table["case"].iloc[row]), math.nan) for row in maps}
    chosen = chosen_slides(score, ill, seed=seed)
    row_of = {keys[row]: row for row in maps}
    rows = [row_of[case] for case, _ in chosen]
    lesions, over = (
        lesions_of(cases.take(rows), lambda line: context.say(f"{line} (of the slides that are shown)")),
        places[places["score"] >= reading.threshold],
    )
    shown = [
        (SlideToShow(case, str(cases.table["source"].iloc[row]), str(labels[row]), score[case], paths(cases)[row], maps[row], lesions[number],
                     over[over["case"] == case]), why)
        for number, (row, (case, why)) in enumerate(zip(rows, chosen, strict=True))
    ]  # fmt: skip
    hidden = context.written(cases)
    withheld = {key for key, case in zip(keys, cases.table["case"], strict=True) if case in hidden}
    write_slides(folder, shown, withheld=withheld, progress=context.progress)
    context.note("slides shown", key, context.clock.elapsed - began)
