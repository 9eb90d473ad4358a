"""What the report reads of a study of slides."""

from __future__ import annotations

import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.core.files import write_csv
from overread.reporting.slides.slide_results import read_slide_results


def test_names_are_read_as_they_were_written(tmp_path):
    """A case called NA is no gap, and one that a spreadsheet would take for a formula loses the guard that it was written with."""
    names = ["NA", "=1", "007"]
    table = pd.DataFrame({"case": names, "name": ["NA", "a", "007"], "width": 1280.0, "height": 640.0, "looked": 3, "unread": 0, "share tissue": 0.5})  # fmt: skip
    path = write_csv(tmp_path / "predictions" / "slides-test.csv", table)
    assert "'=1" in path.read_text("utf-8")
    looked = read_slide_results(tmp_path).looked
    assert looked["case"].tolist() == names
    assert looked["name"].tolist() == ["NA", "a", "007"]
    assert looked["width"].sum() == 3840.0
    assert looked["looked"].sum() == 9


def test_a_damaged_table_is_told(tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "slides-test.csv").write_text("case,name,width\nc,c,wide\n")
    with pytest.raises(InputError, match="the table of slides is damaged"):
        read_slide_results(tmp_path)
