"""Reporting checklists: every item is there, says what the run's files hold, and never more."""

from __future__ import annotations

import csv
import json

import pytest

from overread.core.errors import InputError, OverreadError
from overread.core.files import write_json
from overread.reporting.checklist import FACTS, OPEN, STANDARDS, facts, fill_in, standard
from overread.reporting.pages.checklists import write_checklists
from overread.reporting.run import read_run
from overread.stats.estimate import rounded
from overread.tasks.target import Target

BINARY = Target("binary", ("benign", "malignant"), ("malignant",))
#: How many rows each has: items with their parts.
ROWS = {"claim": 44, "stard_ai": 48, "tripod_ai": 52}


def answers(run, name):
    return {answer.item.number: answer.text for answer in fill_in(run, standard(name))}


@pytest.mark.parametrize("name", STANDARDS)
def test_every_standard_is_whole(name):
    held = standard(name)
    numbers = [item.number for item in held.items]
    assert len(numbers) == len(set(numbers)) == ROWS[name]
    top = sorted({int("".join(filter(str.isdigit, n))) for n in numbers})
    assert top == list(range(1, {"claim": 44, "stard_ai": 40, "tripod_ai": 27}[name] + 1))
    assert all(item.asks and item.section for item in held.items)
    assert held.source.count("doi:10.") == 1
    assert "words are ours" in held.origin


def test_every_fact_is_asked_for_and_every_question_is_known():
    asked = {fact for name in STANDARDS for item in standard(name).items for fact in item.facts}
    assert asked == set(FACTS)


def test_an_unknown_question_is_refused(tmp_path):
    with pytest.raises(InputError, match="not known"):
        facts(read_run(tmp_path), ["horoscope"])


def test_an_unknown_standard_names_the_nearest():
    with pytest.raises(OverreadError, match="claim"):
        standard("klaim")


@pytest.mark.parametrize("name", STANDARDS)
def test_a_run_that_has_done_nothing_answers_nothing(tmp_path, name):
    assert set(answers(read_run(tmp_path), name).values()) == {OPEN}


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run"):
        write_checklists(tmp_path)


@pytest.fixture
def study(tmp_path, make):
    folder = make(tmp_path / "skin", BINARY, patients=60)
    rows = [{"column": "sex", "group": g, "parts": {"train": {"images": 9, "patients": 7}, "test": {"images": 5, "patients": 4}}}
            for g in ("female", "male")]  # fmt: skip
    write_json(folder / "characteristics.json", rows)
    return folder


def test_what_the_run_knows_is_what_its_files_hold(study):
    run, said = read_run(study), answers(read_run(study), "stard_ai")
    area = run.estimate("auc", "malignant")
    assert all(rounded(end, 2) in said["31"] for end in (area.value, area.low, area.high))
    for row in run.evaluation.confusion.counts:
        assert all(f"{number:,}" in said["30"] for number in row)
    assert f"{run.evaluation.counts.images:,} images" in said["22"]
    assert "1 look" in said["40b"]
    assert "sex" in said["25"]
    claim = answers(run, "claim")
    assert "frozen" in claim["28"] or "tuning" in claim["28"]
    assert claim["44"] == OPEN
    assert claim["2"] == OPEN


def test_a_ledger_that_was_cut_is_said(tmp_path, make):
    folder = make(tmp_path / "run", BINARY, patients=60)
    (folder / "ledger.jsonl").write_text("", encoding="utf-8")
    assert "tampered" in answers(read_run(folder), "stard_ai")["40b"]


def test_files_have_a_row_for_every_item_and_a_page_for_people(study):
    written = write_checklists(study)
    assert {path.name for path in written} == {f"{n}.{end}" for n in STANDARDS for end in ("md", "csv")} | {"checklists.html"}  # fmt: skip
    for name, rows in ROWS.items():
        with open(study / "checklists" / f"{name}.csv", newline="", encoding="utf-8") as handle:
            table = list(csv.DictReader(handle))
        assert len(table) == rows
        assert {row["page"] for row in table} == {""}
        text = (study / "checklists" / f"{name}.md").read_text("utf-8")
        assert text.count("\n| ") == rows + 1
    page = (study / "checklists" / "checklists.html").read_text("utf-8")
    assert all(standard(name).edition in page for name in STANDARDS)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_same_run_gives_the_same_bytes(study):
    first = [path.read_bytes() for path in write_checklists(study)]
    assert first == [path.read_bytes() for path in write_checklists(study)]


def test_text_from_the_data_cannot_break_the_page(tmp_path, make):
    nasty = "<script>alert('x')</script>|"
    folder = make(tmp_path / "run", Target("binary", ("well", nasty), (nasty,)), patients=60)
    write_checklists(folder)
    for path in (folder / "checklists").iterdir():
        if path.suffix in (".md", ".html"):
            assert "<script>alert" not in path.read_text("utf-8")
    rows = [line for line in (folder / "checklists" / "claim.md").read_text("utf-8").splitlines() if line.startswith("| ")]  # fmt: skip
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}


def test_a_damaged_table_of_patients_is_an_error_in_our_words(tmp_path, make):
    folder = make(tmp_path / "run", BINARY, patients=60)
    (folder / "characteristics.json").write_text(json.dumps([{"column": "sex"}]), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        fill_in(read_run(folder), standard("claim"))
