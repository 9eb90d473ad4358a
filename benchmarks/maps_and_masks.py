"""Do maps point at the lesion? AUPRC and the pointing game against lesion masks, beside a random map and a spot in the centre.

python benchmarks/maps_and_masks.py runs/skin --data data/ham10000
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from overread.cases.cases import Cases
from overread.explanation.attribute import attributions
from overread.explanation.checks.criteria import sample_cases
from overread.explanation.sanity import check
from overread.explanation.verdict import Checks, judge_method
from overread.learning.model import Model
from overread.learning.predict import load_model


def lesions(model: Model, data: Path) -> tuple[Cases, np.ndarray]:
    """The images with masks, and which of them the model is not known to have seen."""
    folder = data / "lesions600x450"
    names = sorted(path.stem for path in (folder / "masks").glob("*.png"))
    lesion = pd.read_csv(data / "metadata.csv").set_index("image_id")["lesion_id"]
    patients = [str(lesion.get(name, name)) for name in names]
    table = pd.DataFrame({"image": [f"images/{name}.jpg" for name in names], "case": names, "patient": patients,
                          "mask": [f"masks/{name}.png" for name in names]})  # fmt: skip
    table = table.assign(source="", view="", time="", split="", label="")
    return Cases(table, model.target, str(folder)), ~np.asarray(model.saw(patients))


def _held(made: torch.Tensor, *_: object) -> torch.Tensor:
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder of HAM10000, with lesions600x450")
    parser.add_argument("--methods", default="grad-cam,cam,gradient,gradient-x-input,integrated-gradients")
    parser.add_argument("--most", type=int, default=150)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.run)
    cases, unseen = lesions(model, options.data)
    new = dict(zip(cases.table["case"], unseen, strict=True))
    found: dict[str, list[Checks]] = {name: [] for name in options.methods.split(",")}
    who: list[tuple[str, bool]] = []
    for case in sample_cases(model, cases, masks="mask", most=options.most, threads=1):
        who.append((case.patient, bool(new[case.case])))
        for name, checks in found.items():
            made = attributions(model.network, case.x, case.target, name)
            held = partial(_held, made)
            checks.append(check(held, model.network, case.x, made=made, mask=case.mask, steps=0, insertion_steps=0))
    print(f"{'':<24}{'AUPRC':>8}{'random':>8}{'spot':>8}   above the better of both{'hits':>14}")
    for title, kept in (("all", [True] * len(who)), ("not known to be seen", [is_new for _, is_new in who])):
        print(f"{title}: {sum(kept)} images")
        for name, checks in found.items():
            some = [each for each, keep in zip(checks, kept) if keep]
            row = judge_method(name, some, [patient for (patient, _), keep in zip(who, kept) if keep])[0]
            means = (
                np.nanmean([getattr(c, field) for c in some]) for field in ("auprc", "auprc_random", "auprc_centre")
            )
            print(f"  {name:<22}" + "".join(f"{mean:>8.3f}" for mean in means) + f"   {row.value:+.3f} ({row.low:+.3f} to "
                  f"{row.high:+.3f}){sum(c.hit for c in some):>8.0f} of {len(some)}")  # fmt: skip


if __name__ == "__main__":
    main()
