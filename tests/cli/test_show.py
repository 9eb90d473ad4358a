"""``overread show``: a page of a table's images before any training, from the command line."""

from __future__ import annotations

import base64
import re

import pandas as pd
from typer.testing import CliRunner

from overread.cli.main import app


def test_a_table_is_shown_as_the_network_will_see_it(phantom, tmp_path):
    words = ["show", str(phantom), "--image", "image", "--label", "diagnosis", "--patient", "patient", "--source", "microscope", "--recipe", "scratch",
             "--backbone", "lenet5", "--image-size", "28", "--threads", "1", "--per-class", "3", "--most", "20", "--seed", "1"]  # fmt: skip
    found = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "looked")])
    assert found.exit_code == 0, found.output
    page = (tmp_path / "looked" / "show.html").read_text("utf-8")
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) >= 6
    assert all(base64.b64decode(each).startswith(b"\x89PNG") for each in pictures)
    table = pd.read_csv(phantom)
    assert all(name in page for name in table["diagnosis"].unique())
    assert f"{len(table)} images" in found.output
    assert "overread run" in found.output
    again = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "again.html")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.html").read_text("utf-8") == page, "the same seed, the same page"


def test_a_column_that_is_not_there_is_named(phantom, tmp_path):
    found = CliRunner().invoke(app, ["show", str(phantom), "--label", "diagnsis", "-o", str(tmp_path / "show.html")])
    assert found.exit_code != 0
    assert "diagnosis" in f"{found.output}{found.exception}"
    assert not (tmp_path / "show.html").exists()
