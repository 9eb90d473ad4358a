"""The lesions of a part of a run of slides, for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked
from overread.export.lesion_files import SlideLesions
from overread.slides.heat_map import HeatMap
from overread.slides.lesions import regions_above
from overread.study.slides.lesion_tables import MAPS, PLACES, read_places
from overread.study.slides.slide_rule import SlideReading


@checked
def exported_lesions(folder: Path, part: str = "test") -> Iterator[SlideLesions]:
    """What was found on each slide of a part of a run, from the threshold of tuning slides on, under the names that its maps have there.

    Raises :class:`InputError` where there is none yet.
    """
    home, table = folder / "predictions", folder / "predictions" / f"slides-{part}.csv"
    if not table.exists():
        raise InputError(
            f"the run has no heat maps of its {part} part yet", given=str(folder), todo=f"overread predict {folder}"
        )
    reading, places = SlideReading.load(folder / "model"), read_places(home / PLACES / f"{part}.csv")
    places = places[places["score"] >= reading.threshold]
    return _each_slide(
        home / MAPS, read_places(table), reading, places, Cases.load(folder / "cases.csv").target.positive[0]
    )


def _each_slide(maps: Path, held: pd.DataFrame, reading: SlideReading, places: pd.DataFrame, group: str) -> Iterator[SlideLesions]:  # fmt: skip
    for case, name, mpp in held[["case", "name", "mpp"]].itertuples(index=False):
        found = HeatMap.load(maps / f"{name}.tif")
        codes = found.means(reading.window)
        regions = regions_above(codes, reading.threshold)
        many = int(regions.max(initial=0))
        top = np.asarray(ndimage.maximum(codes, regions, np.arange(1, many + 1)), np.float64) if many else np.empty(0)
        yield SlideLesions(name, group, places.loc[places["case"] == case, ["x", "y", "score", "area"]].reset_index(drop=True), regions,
                           (top - 1) / (2**found.about.bits - 2), found.mpp, float(mpp), found.origin)  # fmt: skip
