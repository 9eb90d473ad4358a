"""How many lesions a study of slides found: the places of its test part against the true lesions, in the ledger."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from overread.cases.split import Split
from overread.core.errors import checked
from overread.core.files import fingerprint, write_csv, write_json
from overread.core.phrases import count
from overread.evaluation.detection import judge_marks, judge_marks_by, read_marks
from overread.evaluation.ledger import settle
from overread.evaluation.subgroups import FEWEST
from overread.slides.lesions import UNJUDGED
from overread.study.context import RunContext
from overread.study.outline_steps import image_keys
from overread.study.slides.lesion_tables import PLACES, TRUTH, read_places

#: What the search for lesions is judged into.
SEARCH = "evaluation/lesions"


@checked
def judge_lesions(context: RunContext) -> None:
    """``evaluation/lesions/``: how many of the true lesions of the test part were found, at so many false alarms a slide, also by source
    and subgroup; the tables beside are what `overread froc` takes. It is a look of its own in the ledger."""
    home, ledger = context.folder / "predictions", context.folder / "ledger.jsonl"
    if not context.slides or not (context.folder / "evaluation" / "metrics.json").exists():
        return
    places, truth, test = (
        read_places(home / PLACES / "test.csv"),
        read_places(home / TRUTH / "test.csv"),
        context.predictions("test"),
    )
    groups = list(dict.fromkeys(["source", *context.study.columns.subgroups]))
    seed = context.study.training.seed
    key = fingerprint([places.to_csv(), truth.to_csv(), test.digest, groups, seed, _test_slides(context).to_csv()])
    if context.done("lesions", key, f"{SEARCH}/froc.json"):
        return
    shutil.rmtree(context.folder / SEARCH, ignore_errors=True)  # of other places, lesions or slides
    images, left = judged_slides(context), _left_out(context, places, truth)
    judged = truth[(truth["judged"] == 1) & truth["case"].isin(images["image"])]
    if not len(judged) or images["patient"].nunique() < FEWEST:
        why = f"{count(len(judged), 'lesion')} to find" if not len(judged) else f"{count(images['patient'].nunique(), 'patient')} with known lesions, and nothing is judged below {FEWEST}"  # fmt: skip
        context.say(f"  the search for lesions is not judged: the test part has {why}")
        return
    began, folder = context.clock.elapsed, context.folder / SEARCH
    marks = read_marks(*search_tables(folder, places, judged, images))
    found = judge_marks(marks, seed=seed, ledger=ledger, pending=True)
    found = replace(found, cautions=(*found.cautions, *left.told), counts={**found.counts, **left.counts})
    found.save(folder)
    write_json(
        folder / "groups.json", judge_marks_by(marks, images[[name for name in groups if name in images]], seed=seed)
    )
    context.note("lesions", key, context.clock.elapsed - began)
    settle(ledger)


@checked
def judged_slides(context: RunContext) -> pd.DataFrame:
    """A row for each slide of the test part whose lesions are known and that was looked at: ``image``, ``patient``, ``source``, and the subgroups."""
    table = _test_slides(context)
    return table[table["known"] == 1].drop(columns="known").reset_index(drop=True)


def _test_slides(context: RunContext) -> pd.DataFrame:
    """The slides of the test part, and ``known``: 1 where lesions are known, 0 where not, NaN where there is no map."""
    cases = context.usable().only(Split.load(context.folder / "split.csv"), "test")
    looked = read_places(context.folder / "predictions" / "slides-test.csv")
    table = cases.table.assign(image=image_keys(cases))[
        ["image", "patient", "source", *context.study.columns.subgroups]
    ]
    return table.assign(known=table["image"].map(dict(zip(looked["case"], looked["known"], strict=True))))


@checked
def search_tables(
    folder: Path, places: pd.DataFrame, lesions: pd.DataFrame, images: pd.DataFrame
) -> tuple[Path, Path, Path]:
    """Write ``marks.csv``, ``lesions.csv`` and ``images.csv`` as `overread froc` takes them: what is not judged is in none of them."""
    marks = places[places["region"] != UNJUDGED]
    marks = marks.assign(lesion=[str(region) if region >= 0 else "" for region in marks["region"]])
    marks = marks[marks["case"].isin(images["image"])]
    made = {
        "marks": marks.rename(columns={"case": "image"})[["image", "score", "lesion", "x", "y", "area"]],
        "lesions": lesions.rename(columns={"case": "image", "region": "lesion"})[
            ["image", "lesion", "x", "y", "longest", "area", "group"]
        ],
        "images": images,
    }
    paths = {name: write_csv(folder / f"{name}.csv", table, float_format="%.9g") for name, table in made.items()}
    return paths["marks"], paths["lesions"], paths["images"]


@dataclass(frozen=True)
class _LeftOut:
    """What is left out of the judgement, in words and in counts."""

    told: tuple[str, ...]
    counts: dict[str, dict[str, int]]


def _left_out(context: RunContext, places: pd.DataFrame, truth: pd.DataFrame) -> _LeftOut:
    """Areas that are not judged on slides that are; slides whose lesions are not known; slides without a map, and the lesions there."""
    slides, told, counts = _test_slides(context), list[str](), dict[str, dict[str, int]]()
    judged, bare = (set(slides["image"][some]) for some in (slides["known"] == 1, slides["known"].isna()))
    areas = int((truth["case"].isin(judged) & (truth["judged"] == 0)).sum())
    marks = int((places["case"].isin(judged) & (places["region"] == UNJUDGED)).sum())
    if areas or marks:
        told.append(f"{count(areas, 'area')} of isolated tumour cells, or otherwise not judged, {'is' if areas == 1 else 'are'} left out, and {count(marks, 'mark')} on {'it' if areas == 1 else 'them'} {'is' if marks == 1 else 'are'} neither found nor false")  # fmt: skip
        counts["not judged"] = {"lesions": areas, "marks": marks}
    if unknown := int((slides["known"] == 0).sum()):
        told.append(f"{count(unknown, 'slide')} whose lesions are not known {'is' if unknown == 1 else 'are'} left out")
        counts["not known"] = {"slides": unknown}
    if bare:
        lost = int((truth["case"].isin(bare) & (truth["judged"] == 1)).sum())
        told.append(f"{count(len(bare), 'slide')} without a heat map {'is' if len(bare) == 1 else 'are'} left out, with {count(lost, 'lesion')} that nobody looked for there")  # fmt: skip
        counts["not looked at"] = {"slides": len(bare), "lesions": lost}
    return _LeftOut(tuple(told), counts)
