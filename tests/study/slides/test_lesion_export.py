"""Lesions of a run for other programs: names as they were written."""

from __future__ import annotations

import numpy as np
import pandas as pd
from tests.fixtures.drawn_slides import slide_pixels, write_slide

from overread.cases.sources.read_cases import read_cases
from overread.core.files import write_csv
from overread.slides.heat_map import MapAbout, write_map
from overread.study.slides.lesion_export import exported_lesions
from overread.study.slides.lesion_tables import save_places
from overread.study.slides.slide_rule import SlideReading


def test_cases_of_any_name_are_exported_with_their_places(tmp_path):
    """A case called NA, and one that a spreadsheet would take for a formula."""
    names, home = ["NA", "=1"], tmp_path / "predictions"
    write_slide(tmp_path / "s.tif", slide_pixels([]))
    pd.DataFrame({"slide": "s.tif", "case": names, "tumour": ["yes", "no"], "patient": ["a", "b"]}).to_csv(tmp_path / "t.csv", index=False)  # fmt: skip
    read_cases(tmp_path / "t.csv", image="slide", case="case", label="tumour", positive=["yes"], patient="patient", names="keep").save(tmp_path / "cases.csv")  # fmt: skip
    SlideReading("maximum", "so", 0.5, "so").save(tmp_path / "model")
    codes = np.ones((40, 40), np.uint8)
    codes[10, 20] = 255
    about = MapAbout(cell=32.0, shape=(40, 40), size=(1280.0, 1280.0), bits=8, stride=16, mpp=(2.0,), tile=32, centre=16, least_tissue=0.25, views=1,
                     model="m", slide="s", tissue="t", looked=1600)  # fmt: skip
    for name in ("NA", "hash"):
        write_map(home / "maps" / f"{name}.tif", codes, about)
    write_csv(home / "slides-test.csv", pd.DataFrame({"case": names, "name": ["NA", "hash"], "mpp": 2.0}))
    save_places(pd.DataFrame({"case": names, "x": [656.0, 657.0], "y": 336.0, "score": 1.0, "area": 1024.0}), home / "places" / "test.csv")  # fmt: skip
    made = list(exported_lesions(tmp_path))
    assert [one.name for one in made] == ["NA", "hash"]
    assert [one.lesions["x"].tolist() for one in made] == [[656.0], [657.0]]
