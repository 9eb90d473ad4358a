"""Blood cells outlined, told apart and counted, in two stages and in one: `python benchmarks/blood_cells.py --data data/bccd -o runs/blood`.

BCCD: 364 smears with boxes around red cells, white cells and platelets; a box stands for the ellipse within it, so that what is
judged are objects by overlap, classes and counts. Two stages (outline any cell, then a class for each crop) against one network
that outlines every class, on one split, paired by image; what each stage costs; and the error of the counts. Each image counts as
a patient, since the set does not say who is who: crops of one image are never on two sides, smears of one person may be.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd

from overread.core.files import write_csv
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
from overread.study.cells.stage_run import StageChoice
from overread.study.cells.two_stage_run import ceiling_of_run, two_stages
from overread.study.question import Study

#: What is told of both.
TOLD = ("f1@0.5", "ap@0.5", "count error")


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of BCCD: JPEGImages and boxes.csv")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/blood"))
    parser.add_argument("--budget", default="30m", help="of both stages, the one stage and what comes after")
    parser.add_argument("--images", type=int, default=0, help="so many images alone, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", action="append", default=[], help="a field of the recipe of both segmenters: key=value"
    )
    options = parser.parse_args()
    from overread.learning.recipe import AUTO, differing, override

    fields = differing(override(AUTO, options.set))
    files = sorted((options.data / "JPEGImages").glob("*.jpg"))[: options.images or None]
    table = write_csv(options.output / "index.csv", pd.DataFrame({"image": [str(path.absolute()) for path in files]}))
    study = Study.from_flat(table=str(table.absolute()), image="image", mask=str((options.data / "boxes.csv").absolute()), budget=options.budget, seed=options.seed,
                            recipe=fields, despite=("leak", "near-leak"), threads=1)  # fmt: skip
    found = two_stages(study, StageChoice(outlined=fields), options.output / "study", network=False, say=say)
    print(found)
    for name, folder in (("two stages", "two-stages"), ("one stage", "one-stage")):
        judged = InstanceEvaluation.load(options.output / "study" / folder / "evaluation")
        for e in judged.estimates:
            if e.metric in TOLD and not e.where:
                print(f"{name:12}{e.metric:14}{e.of or 'all':12}{e}")
    print(ceiling_of_run(options.output / "study", "test"))


if __name__ == "__main__":
    main()
