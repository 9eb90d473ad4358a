"""The audit of slides: every finding has a slide that causes it, and a sound table has none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.drawn_slides import MPP, slide_pixels, write_outlines, write_slide

import overread as ov
from overread.cases.audit.audit import audit, shortcut_risk
from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.audit.shortcut import shortcut, shortcut_scores
from overread.cases.audit.slide_checks import SlideRows, check_slides, describe_slides, unusable_slides
from overread.cases.cases import outline_paths, paths
from overread.images.slides.slide import slide_at
from overread.images.slides.slide_description import NO_SLIDE, describe_slide
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import tissue_key

SPOT = (640.0, 640.0, 220.0)


def table(folder, rows):
    """A study: rows of (name, label, patient, source)."""
    path = folder / "slides.csv"
    pd.DataFrame(rows, columns=["slide", "tumour", "patient", "scanner"]).to_csv(path, index=False)
    return ov.read_cases(
        path,
        image="slide",
        label="tumour",
        patient="patient",
        source="scanner",
        positive=["tumour"],
        outlines="outlines" if (folder / "outlines").exists() else None,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    rows = []

    def add(name, label, spots=(), source="A", outlined=None, **how):
        pixels = how.pop("pixels", None)
        write_slide(
            folder / f"{name}.tif",
            slide_pixels(spots, seed=len(rows), tint=how.pop("tint", 0.0)) if pixels is None else pixels,
            **how,
        )
        if outlined is not None:
            write_outlines(folder / "outlines" / f"{name}.xml", outlined)
        rows.append((f"{name}.tif", label, f"p{len(rows)}", source))

    add("sound", "tumour", [SPOT], outlined=[SPOT])
    add("normal", "normal")
    add("marked", "normal", [SPOT], outlined=[SPOT])
    add("elsewhere", "tumour", [SPOT], outlined=[(125.0, 125.0, 115.0)])
    add("bare", "tumour", [SPOT], outlined=[])
    add("missing", "tumour", [SPOT])
    add("isolated", "tumour", [(640.0, 640.0, 60.0)], outlined=[(640.0, 640.0, 60.0)])
    add("empty", "normal", pixels=np.full((640, 640, 3), 244, np.uint8))
    inked = slide_pixels((), seed=9)
    inked[150:450, 250:330] = (40, 60, 190)
    inked[200:300, 150:500] = (40, 60, 190)
    add("inked", "normal", pixels=inked)
    add("flat", "normal", levels=1)
    add("coarse", "normal", source="B", mpp=4.0)
    add("unread", "tumour", [SPOT])
    (folder / "outlines" / "unread.xml").write_text("<ASAP_Annotations>")
    return folder, table(folder, rows)


@pytest.fixture(scope="module")
def seen(study):
    folder, cases = study
    return audit(cases, threads=1, cache=folder / "cache")


def names(found, cases):
    """The files of the slides that a finding is about."""
    files = dict(zip(cases.table["case"], cases.table["image"], strict=True))
    return {files[name].partition(".")[0].rpartition("/")[2] for name in found.cases}


@pytest.mark.parametrize(("kind", "about"), [
    ("lesions-on-normal", {"marked"}), ("outlines-elsewhere", {"elsewhere"}), ("disease-without-lesion", {"bare"}),
    ("no-outlines", {"missing"}), ("isolated-only", {"isolated"}), ("little-tissue", {"empty"}),
    ("spoilt-slide", {"inked"}), ("no-pyramid", {"flat"}), ("unreadable-outlines", {"unread"}),
])  # fmt: skip
def test_each_finding_names_its_slides(study, seen, kind, about):
    found = seen.of(kind)
    assert found is not None, seen
    assert names(found, study[1]) == about


def test_what_is_told_of_all(study, seen):
    assert "2 µm" in seen.of("mixed-microns").message
    assert "4 µm" in seen.of("mixed-microns").message
    assert "isolated tumour cells" in seen.of("outline-notes").message
    assert "pen" in seen.of("artefacts").message
    assert "mm² of tissue" in seen.of("tissue").message
    short = seen.counts["slides"]
    assert short["slides"] == 12
    assert short["microns"] == {"2": 11, "4": 1}
    assert short["outlined"] == 5
    assert short["regions"] == 3
    assert short["not judged"] == 1
    lesion = np.pi * 0.22**2
    assert short["tiles"]["within lesions"]["tiles"] == pytest.approx(
        (2 * lesion + np.pi * (0.06**2 + 0.115**2)) / 0.128**2, rel=0.05
    )
    assert sum(short["tiles"][name]["patients"] for name in ("normal", "tumour")) == 12


def test_a_sound_table_is_told_nothing_bad(tmp_path):
    for at in range(4):
        spots = [SPOT] if at % 2 else []
        write_slide(tmp_path / f"{at}.tif", slide_pixels(spots, seed=at))
        write_outlines(tmp_path / "outlines" / f"{at}.xml", spots)
    cases = table(tmp_path, [(f"{at}.tif", ("normal", "tumour")[at % 2], f"p{at}", "A") for at in range(4)])
    rows = describe_slides(cases, np.ones(4, bool), threads=1)
    assert {found[0] for found in check_slides(SlideRows(cases, rows)) if found[1] != "note"} == set()


def test_rows_are_kept_until_slide_or_outlines_change(study, seen, monkeypatch):
    folder, cases = study
    known = describe_slides(cases, np.ones(len(cases), bool), threads=1, cache=folder / "cache")
    asked: list[object] = []

    def looked_at(function, tasks, **how):
        for task in tasks:
            asked.append(task)
            yield NO_SLIDE

    monkeypatch.setattr("overread.cases.audit.described_rows.contained", looked_at)
    again = describe_slides(cases, np.ones(len(cases), bool), threads=1, cache=folder / "cache")
    assert not asked
    pd.testing.assert_frame_equal(known, again)
    file = Path(outline_paths(cases)[0])
    before = file.read_text()
    write_outlines(file, [SPOT, (800.0, 800.0, 100.0)])
    describe_slides(cases, np.ones(len(cases), bool), threads=1)
    assert len(asked) == len(cases)
    asked.clear()
    describe_slides(cases, np.ones(len(cases), bool), threads=1, cache=folder / "cache")
    assert len(asked) == 1
    file.write_text(before)


def test_tissue_that_the_audit_found_waits_for_training_and_for_maps(study, seen):
    folder, cases = study
    kept = {path.name for path in (folder / "cache" / "slides").glob("*.png")}
    assert kept == {f"tissue-{tissue_key(slide_at(one), Tiles().tissue)}.png" for one in paths(cases)}


def test_a_description_against_what_was_drawn(tmp_path):
    pixels = slide_pixels([SPOT], seed=1)
    path = write_slide(tmp_path / "a.tif", pixels)
    found = describe_slide(f"{path}#slide", str(write_outlines(tmp_path / "a.xml", [SPOT])), [])
    drawn = float((pixels.max(axis=2) - pixels.min(axis=2) > 40).sum()) * MPP**2 / 1e6
    assert found["tissue"] == pytest.approx(drawn, rel=0.03)
    assert found["lesion_area"] == pytest.approx(np.pi * 0.22**2, rel=0.01)
    assert (found["outlines"], found["judged"], found["astray"]) == (1, 1, 0)
    assert set(found) == set(NO_SLIDE)


def test_an_area_to_be_ignored_is_no_lesion(tmp_path):
    path = write_slide(tmp_path / "a.tif", slide_pixels([], seed=1))
    found = describe_slide(f"{path}#slide", str(write_outlines(tmp_path / "a.xml", [SPOT], group="ignore")), [])
    assert (found["outlined"], found["outlines"], found["aside"], found["lesion_area"]) == (True, 0, 1, 0)


def test_stain_tells_the_label_where_the_scanner_is_not_named(tmp_path):
    """The shortcut: tumour from one scanner, normal from another, and no column that says so."""
    for at in range(24):
        write_slide(tmp_path / f"{at}.tif", slide_pixels((), seed=at, tint=float(at % 2)))
    rows = [(f"{at}.tif", ("normal", "tumour")[at % 2], f"p{at}", "") for at in range(24)]
    cases = table(tmp_path, rows)
    prints = take_fingerprints(cases, threads=1)
    found = shortcut(cases, prints)
    assert found["by feature"]["stain"]["auc"] > 0.95
    mixed = table(
        tmp_path,
        [(name, ("normal", "tumour")[(at // 2) % 2], patient, "") for at, (name, _, patient, _) in enumerate(rows)],
    )
    assert shortcut(mixed, prints)["by feature"]["stain"]["auc"] < 0.9


def test_slides_alike_are_found(tmp_path):
    """One slide scanned twice: another compression of its pixels, and a small shift."""
    for at in range(5):
        write_slide(tmp_path / f"{at}.tif", slide_pixels([SPOT] if at == 2 else (), seed=at))
    again = np.roll(slide_pixels([SPOT], seed=2), (6, 4), axis=(0, 1)) // 2 * 2
    write_slide(tmp_path / "again.tif", again)
    rows = [(f"{name}.tif", "normal", f"p{name}", "A") for name in (0, 1, 2, 3, 4, "again")]
    rows[0] = (rows[0][0], "tumour", *rows[0][2:])
    found = audit(table(tmp_path, rows), threads=1)
    assert len(found.pairs) == 1
    assert "different patients" in found.of("near-duplicate").message


def told_apart(folder, **tumour):
    """What can be told of 24 slides without looking; those of tumour show a lesion, and are written as ``tumour`` says."""
    folder.mkdir()
    glass = np.array(tumour.pop("glass", (245, 245, 245)), np.uint8)
    for at in range(24):
        pixels = slide_pixels([SPOT] if at % 2 else (), seed=at)
        if at % 2:
            pixels[(pixels == 245).all(axis=2)] = glass
        write_slide(folder / f"{at}.tif", pixels, **(tumour if at % 2 else {}))
    cases = table(folder, [(f"{at}.tif", ("normal", "tumour")[at % 2], f"p{at}", "") for at in range(24)])
    prints = take_fingerprints(cases, threads=1)
    told = shortcut(cases, prints)
    return cases, prints, told, {found.kind: found for found in shortcut_risk(told)}


def test_disease_that_colours_the_overview_is_no_error(tmp_path):
    """Lesions are seen from afar: that is the disease, or a laboratory, and never a reason to stop."""
    cases, prints, told, found = told_apart(tmp_path / "honest")
    assert told["by feature"]["stain"]["auc"] > 0.97
    assert list(found) == ["shortcut-tissue"]
    assert found["shortcut-tissue"].severity == "warning"
    assert "the disease itself may cause" in found["shortcut-tissue"].message
    rows = np.arange(24)
    assert np.ptp(shortcut_scores(cases, prints, rows, rows)) == 0  # nor does the baseline know it


@pytest.mark.parametrize(("feature", "tumour"), [("glass", {"glass": (238, 240, 244)}), ("file", {"mpp": MPP * 1.1})])
def test_what_cannot_be_the_disease_is_an_error(tmp_path, feature, tumour):
    _, _, told, found = told_apart(tmp_path / "lured", **tumour)
    assert told["by feature"][feature]["auc"] > 0.97
    assert told["verdict"] == "high"
    assert found["shortcut"].severity == "error"


def test_what_took_too_long_is_not_called_damaged(study):
    _, cases = study
    rows = pd.DataFrame([NO_SLIDE | {"width": 9, "height": 9, "mpp": 0.5, "tissue": 1.0}] * len(cases))
    rows.loc[0, "error"] = "the decoder did not end within 3600 s"
    slow = SlideRows(cases, rows)
    kinds = {found[0]: found[4].tolist() for found in check_slides(slow)}
    assert kinds["slow-slide"] == [0]
    assert "damaged-slide" not in kinds
    assert next(iter(unusable_slides(slow).values())).startswith("took too long")
