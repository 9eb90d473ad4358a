"""A study of slides from its table to its report on drawn slides: resumable, judged, read again for new slides."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from tests.fixtures.drawn_slides import draw_study

from overread.core.errors import InputError
from overread.core.files import read_json
from overread.evaluation.detection import Localisation
from overread.evaluation.evaluate import Evaluation
from overread.evaluation.ledger import verify
from overread.learning.predict import load_model
from overread.predictions import Predictions
from overread.reporting.slides.slide_results import read_slide_results
from overread.slides.heat_map import HeatMap
from overread.study import steps
from overread.study.context import reads_slides, require_images
from overread.study.question import Study
from overread.study.slides.lesion_tables import read_places
from overread.study.slides.new_slides import read_new_slides
from overread.study.slides.slide_rule import SlideReading

TILES = {"size": 32, "mpp": [8.0], "centre": 16, "stride": 16, "number": 600, "jitter": 2}
RECIPE = {"method": "scratch", "backbone": "lenet5", "epochs": 6, "views": 1, "learning_rate": 3e-3, "members": 1, "precision": "float32", "tiles": TILES}  # fmt: skip


def study_of(table, **more):
    fields = {"image": "slide", "label": "tumour", "patient": "patient", "source": "scanner", "outlines": "outlines", "test": 0.45, "tuning": 0.25,
              "despite": ("shortcut",), "recipe": RECIPE, "threads": 1}  # fmt: skip
    return Study.from_flat(table=str(table), **fields | more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The drawn slides, a run of them, and what it said."""
    home = tmp_path_factory.mktemp("study")
    table, said = draw_study(home / "drawn", patients=26, small=2), []
    page = steps.run(study_of(table), home / "run", cache=home / "cache", say=said.append)
    assert page.exists()
    return table, home / "run", said


def test_the_run_answers_for_each_slide(made):
    _, run, said = made
    test = Predictions.read(run / "predictions" / "test.csv")
    assert len(test) == 12
    assert "outlines" not in test.table
    found = Evaluation.load(run / "evaluation")
    assert found["auc", "tumour"].value > 0.8
    reading = SlideReading.load(run / "model")
    assert any(line == reading.lines[0] for line in said)
    for row in test.table.itertuples():
        assert (run / "predictions" / "maps" / f"{row.case}.tif").exists()


def test_the_search_for_lesions_is_a_look_of_its_own(made):
    _, run, _ = made
    found = Localisation.load(run / "evaluation" / "lesions")
    assert found["mean sensitivity"].value > 0.6
    assert found["sensitivity at 8 false positives per image"].value > 0.8
    truth = read_places(run / "predictions" / "lesions" / "test.csv")
    assert found.counts["lesions"] == int(truth["judged"].sum()) > 0
    assert [entry["threshold"] is None for entry in verify(run / "ledger.jsonl")][-1]
    assert len(verify(run / "ledger.jsonl")) == 2


def test_isolated_tumour_cells_are_neither_found_nor_missed(made):
    _, run, _ = made
    found = Localisation.load(run / "evaluation" / "lesions")
    truth, places = (read_places(run / "predictions" / name / "test.csv") for name in ("lesions", "places"))
    left = truth[truth["judged"] == 0]
    assert len(left) > 0
    assert found.counts["not judged"]["lesions"] == len(left)
    # each mark that is left out lies within 37.5 µm of an outline that is left out: counted by distance from its middle
    on_them = places.merge(left, on="case", suffixes=("", " of lesion"))
    away = np.hypot(on_them["x"] - on_them["x of lesion"], on_them["y"] - on_them["y of lesion"])
    near = int((away <= on_them["longest"] / 2 + 37.5).sum())
    assert found.counts["not judged"]["marks"] == near > 0
    assert any("neither found nor false" in line for line in found.cautions)
    assert not {"not known", "not looked at"} & set(found.counts)
    marks = pd.read_csv(run / "evaluation" / "lesions" / "marks.csv")
    assert len(marks) == int((places["region"] != -2).sum())


def test_the_report_shows_slides_beside_their_maps(made):
    _, run, _ = made
    page, results = (run / "report.html").read_text("utf-8"), read_slide_results(run)
    assert "The search for lesions" in page
    assert "Slides beside their heat maps" in page
    assert "What was looked at: tissue alone" in page
    assert "overread explain" not in page
    assert len(results.slides) >= 6
    assert all((run / slide.heat).exists() and (run / slide.picture).exists() for slide in results.slides)
    assert len(results.looked) == 12 + read_slide_results(run).looked["part"].eq("tuning").sum()
    for text in (page, (run / "overlays" / "slides.json").read_text("utf-8"), (run / "cases.csv").read_text("utf-8")):
        assert "s01.tif" not in text
        assert "p01" not in re.sub(r"data:image/[^\"]*", "", text)


def test_a_slide_that_cannot_be_mapped_is_left_out_with_its_lesions(made, tmp_path, monkeypatch):
    """One of the test part with a lesion fails, of another nobody knows the lesions: both are told, the rest is judged."""
    from overread.study.slides import slide_predictions

    table, run, _ = made
    copy, said, lost = tmp_path / "run", list[str](), list[tuple[str, str]]()
    shutil.copytree(run, copy)
    (copy / "predictions" / "test.csv").unlink()
    (copy / "evaluation" / "lesions" / "old.csv").write_text("x")
    before = read_places(copy / "predictions" / "lesions" / "test.csv")
    ill = before[before["judged"] == 1]["case"].drop_duplicates().tolist()[:2]
    mapped, known = slide_predictions.map_slides, slide_predictions.lesions_of

    def failing(model, cases, *given, **named):
        made = mapped(model, cases, *given, **named)
        rows = [row for row in made.maps if cases.table["case"].iloc[row] == ill[0]]
        for path in [made.maps[row].path for row in rows]:
            path.unlink()
        lost.extend((ill[0], "damaged") for _ in rows)
        return type(made)({row: one for row, one in made.maps.items() if row not in rows}, dict.fromkeys(rows, "damaged"))  # fmt: skip

    def unknown(cases, say):
        return [None if case == ill[1] else one for case, one in zip(cases.table["case"], known(cases, say), strict=True)]  # fmt: skip

    monkeypatch.setattr(slide_predictions, "map_slides", failing)
    monkeypatch.setattr(slide_predictions, "lesions_of", unknown)
    steps.run(study_of(table), copy, cache=run.parent / "cache", say=said.append)
    assert lost == [(ill[0], "damaged")]
    found = Localisation.load(copy / "evaluation" / "lesions")
    gone = before[(before["judged"] == 1) & before["case"].isin(ill)]
    assert found.counts["lesions"] == before["judged"].sum() - len(gone)
    assert found.counts["images"] == 10
    assert found.counts["not looked at"] == {"slides": 1, "lesions": int((gone["case"] == ill[0]).sum())}
    assert found.counts["not known"] == {"slides": 1}
    assert found.counts["not judged"] == Localisation.load(run / "evaluation" / "lesions").counts["not judged"]
    assert any("1 slide without a heat map is left out, with" in line for line in found.cautions)
    assert any("1 slide whose lesions are not known is left out" in line for line in found.cautions)
    assert not (copy / "evaluation" / "lesions" / "old.csv").exists()
    assert (copy / "report.html").exists()


def test_places_of_both_parts_are_read_as_the_tuning_slides_chose(made):
    """Window and threshold of ``slides.json``: scores are means over it, areas those of the regions from the threshold on, on both parts alike."""
    _, run, _ = made
    reading, found = SlideReading.load(run / "model"), 0
    assert reading.window in (1, 3, 5, 7)
    for part in ("tuning", "test"):
        places = read_places(run / "predictions" / "places" / f"{part}.csv")
        for row in read_places(run / "predictions" / f"slides-{part}.csv").itertuples():
            heat = HeatMap.load(run / "predictions" / "maps" / f"{row.name}.tif")
            assert heat.about.threshold == reading.threshold
            single = heat.values().astype(float)
            there, size = np.isfinite(single), (reading.window, reading.window)
            sums = ndimage.convolve(np.where(there, single, 0), np.ones(size), mode="constant")
            means = np.where(
                there, sums / np.maximum(ndimage.convolve(there.astype(float), np.ones(size), mode="constant"), 1), -1
            )
            region, _ = ndimage.label(means >= reading.threshold - 1e-5, np.ones((3, 3)))
            for place in places[places["case"] == row.case].itertuples():
                at = int(place.y / heat.mpp), int(place.x / heat.mpp)
                assert place.score == pytest.approx(means[at], abs=2e-5)
                if place.score >= reading.threshold:
                    found += 1
                    assert place.area == pytest.approx((region == region[at]).sum() * heat.mpp**2)
    assert found


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_called_again_it_does_nothing_and_stopped_it_goes_on(made, tmp_path):
    table, run, _ = made
    before = digests(run)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "predictions" / "test.csv").unlink()
    maps = sorted((copy / "predictions" / "maps").glob("*.tif"))
    for path in maps[::2]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in maps[1::2]}
    said = []
    steps.run(study_of(table), copy, cache=run.parent / "cache", say=said.append)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    after = digests(copy)
    same = [name for name in before if name.startswith(("predictions/", "model/", "evaluation/", "overlays/")) and name.endswith((".csv", ".tif", ".json", ".png", ".jpg"))]  # fmt: skip
    assert not [name for name in same if after.get(name) != before[name]]
    assert "the model is there already" in " ".join(said)
    assert len(verify(copy / "ledger.jsonl")) == 2


def test_new_slides_are_read_as_tuning_slides_chose(made, tmp_path):
    from overread.learning.inputs import new_cases

    table, run, _ = made
    model, reading = load_model(run), SlideReading.load(run / "model")
    assert reads_slides(run)
    assert reads_slides(run / "model")
    cases = new_cases(model, table, roles={"image": "slide", "patient": "patient", "outlines": "outlines"})
    new = read_new_slides(model, reading, cases, tmp_path / "new", threads=1)
    answers, test = Predictions.read(new.answers), Predictions.read(run / "predictions" / "test.csv")
    own = answers.table.set_index("case").loc[test.table["case"], "p:tumour"].to_numpy(float)
    assert np.allclose(own, test.table["p:tumour"].to_numpy(float), atol=1e-8)
    assert new.seen == len(answers) - len(test) == int((answers.table["split"] == "seen").sum())
    assert read_places(tmp_path / "new" / "lesions.csv")["judged"].sum() > 0
    assert new.slides == 26
    page, over = new.page.read_text("utf-8"), read_places(new.answers.with_name("places.csv")).query(f"score >= {reading.threshold}")  # fmt: skip
    assert page.count('class="slide"') == 24
    assert f"26 slides, {new.places:,} places from" in page
    assert new.places == len(over)
    scores = [float(score) for score in re.findall(r'aria-label="[^"]*: score ([\d.]+)"', page)]
    assert len(scores) >= 24
    assert scores == sorted(scores, reverse=True)
    assert read_places(new.answers.with_name("places.csv"))["score"].min() >= 0.02
    # again, with outlines that cannot be read: that is said, and no true lesions of before stay
    said, broken = list[str](), tmp_path / "broken.xml"
    broken.write_text("<none/>")
    torn = replace(cases, table=cases.table.assign(outlines=str(broken)))
    read_new_slides(model, reading, torn.take(np.array([0, 1])), tmp_path / "new", threads=1, say=said.append)
    assert any(line.startswith("  2 slides whose outlines cannot be read (the file is no XML") for line in said)
    assert not (tmp_path / "new" / "lesions.csv").exists()


def test_the_page_of_new_slides_under_codes_names_nobody_and_keeps_slides_of_a_case_apart(made, tmp_path, monkeypatch):
    """Two slides of one case, of the first of which a name was found in the pixels."""
    from overread.cases.sources.read_cases import read_cases
    from overread.study.slides import new_slides

    table, run, _ = made
    model, reading = load_model(run), SlideReading.load(run / "model")
    who = {"examination": ["KANARIENVOGEL"] * 2 + ["other"], "patient": "KANARIENVOGEL", "block": ["I", "II", "I"]}
    rows = pd.read_csv(table, dtype=str).iloc[[1, 3, 0]].assign(**who)
    rows.to_csv(table.parent / "two.csv", index=False)
    cases = read_cases(table.parent / "two.csv", image="slide", label="tumour", positive=("tumour",), case="examination", patient="patient", view="block", names="keep")  # fmt: skip
    monkeypatch.setattr(new_slides, "take_fingerprints", lambda cases, **_: pd.DataFrame({"text": [3] + [0] * (len(cases) - 1)}))  # fmt: skip
    new = read_new_slides(model, reading, cases, tmp_path / "new", hide=True, threads=1)
    page, places = new.page.read_text("utf-8"), read_places(tmp_path / "new" / "places.csv")
    assert (page.count("data:image/jpeg"), page.count("data:image/png")) == (2, 3)
    assert "The picture is kept back" in page
    assert "codes stand in place of names" in page
    assert len(Predictions.read(new.answers)) == 2
    assert places["case"].nunique() == 3, "each slide has places of its own"
    for path in (tmp_path / "new").iterdir():
        assert path.is_dir() or "KANARIENVOGEL" not in path.read_text("utf-8"), path.name
    assert not [path for path in (tmp_path / "new").rglob("*") if "KANARIENVOGEL" in path.name]


def test_slides_are_shown_anew_where_their_outlines_change(made, tmp_path, monkeypatch):
    from overread.study.slides import slide_views

    table, run, _ = made
    copy, shown = tmp_path / "run", list[int]()
    shutil.copytree(run, copy)
    monkeypatch.setattr(slide_views, "write_slides", lambda folder, slides, **how: shown.append(len(slides)))
    monkeypatch.setattr(slide_views, "outlines_digest", lambda cases: "others")
    steps.run(study_of(table), copy, cache=run.parent / "cache")
    assert len(shown) == 1


def test_what_whole_images_are_asked_for_is_refused(made):
    _, run, _ = made
    with pytest.raises(
        InputError, match="reads slides tile by tile, and overread explain is of models that see whole images"
    ):
        require_images(run, "overread explain")


def test_a_model_is_known_by_the_group_of_its_recipe(made):
    _, run, _ = made
    assert read_json(run / "model" / "model.json")["planes"]["slides"] is True
    assert list(load_model(run).about.recipe.tiles.mpp) == TILES["mpp"]


def test_lesions_leave_for_qupath_in_pixels(made, tmp_path):
    import json

    from overread.export.lesion_files import write_lesions
    from overread.study.slides.lesion_export import exported_lesions

    _, run, _ = made
    paths = write_lesions(tmp_path, exported_lesions(run))
    assert len(paths) == 12
    places, least = read_places(run / "predictions" / "places" / "test.csv"), SlideReading.load(run / "model").threshold
    assert len(places[places["score"] >= least]) > 2  # empty tables would agree with everything
    shown = 0
    for path in paths:
        held = json.loads(path.read_text("utf-8"))["features"]
        mine = places[(places["case"] == path.stem) & (places["score"] >= least)]
        points = [each["geometry"]["coordinates"] for each in held if each["geometry"]["type"] == "Point"]
        assert len(points) == len(mine)
        shown += len(points)
        for (x, y), place in zip(points, mine.itertuples(), strict=True):
            assert (x, y) == (pytest.approx(place.x / 2.0, abs=0.01), pytest.approx(place.y / 2.0, abs=0.01))
    assert shown == (places["score"] >= least).sum()


def test_a_slide_stands_beside_its_map_with_outlines_on_both(made):
    from overread.reporting.slides.slide_pictures import read_slides
    from overread.reporting.slides.slide_results import slide_svg

    _, run, _ = made
    slide = next(one for one in read_slides(run) if one.why == "missed")
    drawn = slide_svg(slide, "data:a", "data:b", "key", "title")
    assert drawn.count('href="data:a"') == drawn.count('href="data:b"') == 1
    assert drawn.count("<path") == 2 * len(slide.outlines) > 0
    assert drawn.count("<circle") == 2 * len(slide.places)
    assert slide.covers[2] >= slide.width - 128.0
    hidden = slide_svg(slide, "", "data:b", "key", "title")
    assert 'href=""' not in hidden


@pytest.mark.slow
def test_a_model_says_the_same_of_slides_with_two_threads(made, tmp_path):
    """Training is the same for one number of threads; what a model says is the same for any."""
    table, run, _ = made
    shutil.copytree(run, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "predictions")
    steps.run(study_of(table, threads=2), tmp_path / "two", cache=run.parent / "cache")
    for name in ("tuning.csv", "test.csv", "places/test.csv", "lesions/test.csv"):
        assert (tmp_path / "two" / "predictions" / name).read_bytes() == (run / "predictions" / name).read_bytes(), name
    for path in (run / "predictions" / "maps").glob("*.tif"):
        assert (tmp_path / "two" / "predictions" / "maps" / path.name).read_bytes() == path.read_bytes()
