"""Excel workbooks: what a spreadsheet shows is what is read."""

from __future__ import annotations

import datetime
import zipfile

import openpyxl
import pytest

from overread.cases.sources.layout import Layout
from overread.cases.sources.tables import open_table, read_table
from overread.core.errors import InputError


def book(path, rows, **sheets):
    made = openpyxl.Workbook()
    made.active.title = "first"
    for title, content in {"first": rows, **sheets}.items():
        sheet = made[title] if title in made.sheetnames else made.create_sheet(title)
        for row in content:
            sheet.append(row)
    made.save(path)
    return made


ROWS = [["image", "label", "patient"], ["a.png", "benign", 7], ["b.png", None, 8.0]]


def test_cells_are_text_without_points_behind_whole_numbers(tmp_path):
    made = book(tmp_path / "t.xlsx", [*ROWS, ["c.png", True, datetime.datetime(2024, 3, 1)], ["d.png", 0.25, "007"]])
    made["first"]["C2"].number_format = "00000"
    made.save(tmp_path / "t.xlsx")
    table, notes = open_table(tmp_path / "t.xlsx")
    assert table["patient"].tolist() == ["00007", "8", "2024-03-01", "007"]
    assert table["label"].tolist() == ["benign", "", "True", "0.25"]
    assert notes == []


def test_the_sheet_is_said_and_can_be_chosen(tmp_path):
    book(tmp_path / "t.xlsx", ROWS, legend=[["code", "meaning"], ["1", "x"]])
    table, notes = open_table(tmp_path / "t.xlsx")
    assert list(table) == ["image", "label", "patient"]
    assert "first sheet, 'first', of 2" in notes[0]
    assert "--sheet" in notes[0]
    assert list(read_table(tmp_path / "t.xlsx", Layout(sheet="legend"))) == ["code", "meaning"]
    with pytest.raises(InputError, match="id you mean 'legend'"):
        read_table(tmp_path / "t.xlsx", Layout(sheet="Legende"))


def test_a_workbook_is_known_by_its_content(tmp_path):
    book(tmp_path / "t.xlsx", ROWS)
    (tmp_path / "t.xlsx").rename(tmp_path / "t.csv")
    table, notes = open_table(tmp_path / "t.csv")
    assert len(table) == 2
    assert "workbook by its content" in notes[0]


def test_formulas_without_results_and_titles_are_refused(tmp_path):
    book(tmp_path / "f.xlsx", [*ROWS, ["c.png", "=A1", 9]])
    with pytest.raises(InputError, match="1 cells of the sheet 'first' are formulas"):
        read_table(tmp_path / "f.xlsx")
    book(tmp_path / "t.xlsx", [["Study of 2024"], *ROWS])
    with pytest.raises(InputError, match="names no columns"):
        read_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(200), bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500)])
def test_broken_and_old_workbooks_are_refused(tmp_path, content):
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(InputError, match="xls|workbook|text|CSV"):
        read_table(tmp_path / "t.xlsx")


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path):
    book(tmp_path / "t.xlsx", ROWS)
    with zipfile.ZipFile(tmp_path / "t.xlsx", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet9.xml", bytes(300_000_000))
    with pytest.raises(InputError):
        read_table(tmp_path / "t.xlsx")
