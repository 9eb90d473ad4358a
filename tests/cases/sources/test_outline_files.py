"""Tables of slides: what they are, where their outlines lie, and what these say where nothing else does."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.drawn_slides import MPP, SIDE, draw_study, slide_pixels, write_outlines, write_slide

from overread.cases.cases import Cases, Planes, outline_paths, paths
from overread.cases.sources.outline_files import find_outlines
from overread.cases.sources.read_cases import read_cases, read_images
from overread.cases.sources.slides import are_slides, as_slides, refuse_overviews
from overread.core.errors import ArgumentError, InputError
from overread.images.address import parse
from overread.images.slides.slide import OVERVIEW_MPP


def slides_of(cases):
    """The file of each slide, and the microns that its address says."""
    return [(each.path, each.mpp) for each in map(parse, paths(cases))]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return draw_study(tmp_path_factory.mktemp("slides"), patients=6, small=1)


def named(table, **more):
    return read_cases(table, **{"image": "slide", "label": "tumour", "patient": "patient", "source": "scanner", **more})


def test_a_table_of_slides_is_one_by_its_content(study):
    cases = named(study, outlines="outlines")
    assert cases.slides
    assert cases.planes == Planes(slides=True)
    assert paths(cases)[1] == str(study.parent / "slides" / "s01.tif#slide")
    assert outline_paths(cases)[:2] == ["", str(study.parent / "outlines" / "s01.xml")]
    assert slides_of(cases)[1] == (str(study.parent / "slides" / "s01.tif"), 0.0)
    told = " ".join(cases.notes)
    assert "slides by their content (--slides no" in told
    assert "3 files of outlines are named like slides" in told
    assert "3 slides without any have no outlined lesion" in told


def test_a_folder_named_like_a_column_is_read_and_said(study):
    table = pd.read_csv(study, dtype=str)
    table.assign(outlines=["", "outlines/s01.xml", *[""] * (len(table) - 2)]).to_csv(
        study.parent / "named.csv", index=False
    )
    assert sum(map(bool, outline_paths(named(study.parent / "named.csv", outlines="outlines")))) == 1, (
        "a column comes first"
    )
    cases = named(study.parent / "named.csv", outlines=str(study.parent / "outlines"))
    assert sum(map(bool, outline_paths(cases))) == 3
    assert "outlines is read as a path, not as the column of that name" in " ".join(cases.notes)


def test_slides_no_reads_each_as_an_image(study):
    cases = named(study, slides="no")
    assert not cases.slides
    assert "outlines" not in cases.table
    assert paths(cases)[0].endswith("s00.tif")
    with pytest.raises(InputError, match="these cases are no slides"):
        outline_paths(cases)
    with pytest.raises(ArgumentError, match="outlines of lesions are those of slides"):
        named(study, slides="no", outlines="outlines")


def test_slides_and_images_are_not_mixed(study, tmp_path):
    shutil.copytree(study.parent, tmp_path / "s")
    (tmp_path / "s" / "slides" / "s02.tif").rename(tmp_path / "s" / "slides" / "s02.png")
    table = pd.read_csv(tmp_path / "s" / "slides.csv", dtype=str)
    table.loc[2, "slide"] = "slides/s02.png"
    table.to_csv(tmp_path / "s" / "slides.csv", index=False)
    with pytest.raises(InputError, match="slides or images, not both.*1 image of 6 is no slide, first row 3"):
        named(tmp_path / "s" / "slides.csv")
    with pytest.raises(
        InputError, match="slides are asked for, and some of the images are none.*first row 3.*Give slides alone"
    ):
        are_slides(table["slide"].tolist(), tmp_path / "s", "yes")  # as of new slides, of which there is no --slides no


def test_a_broken_slide_is_one_all_the_same(study, tmp_path):
    """The audit tells it and sets it aside; it makes no image of the table's slides."""
    shutil.copytree(study.parent, tmp_path / "s")
    (tmp_path / "s" / "slides" / "s02.tif").write_bytes(b"II*\0" + bytes(40))
    assert paths(named(tmp_path / "s" / "slides.csv"))[2].endswith("s02.tif#slide")


def test_where_a_few_tiffs_look_like_slides_it_is_asked(study, tmp_path):
    """A minority may be images that somebody saved in tiles: nobody guesses what the others are."""
    import tifffile

    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.full((40, 40, 3), 40 * number, np.uint8))
    shutil.copy(study.parent / "slides" / "s00.tif", tmp_path / "3.tif")
    names = [f"{number}.tif" for number in range(4)]
    with pytest.raises(InputError, match=r"1 of 4 that were looked at, first row 4\b.*--slides yes"):
        are_slides(names, tmp_path)
    assert are_slides(names, tmp_path, "yes")
    assert not are_slides(names, tmp_path, "no")
    assert are_slides(names[2:], tmp_path), "as many as not: damaged ones are slides all the same"
    assert are_slides([*names[2:], "gone.tif", "gone2.tif"], tmp_path), "what is not there says nothing"


def test_ordinary_images_stay_images(tmp_path):
    import tifffile

    for number in range(4):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.full((40, 40, 3), 40 * number, np.uint8))
    pd.DataFrame({"image": [f"{i}.tif" for i in range(4)], "label": ["normal", "tumour"] * 2}).to_csv(
        tmp_path / "t.csv", index=False
    )
    cases = read_cases(tmp_path / "t.csv")
    assert not cases.slides
    assert not any("slide" in note for note in cases.notes)


def test_hidden_names_leave_no_path_behind(study, tmp_path):
    cases = named(study, outlines="outlines")
    cases.save(tmp_path / "cases.csv")
    text = (tmp_path / "cases.csv").read_text() + (tmp_path / "cases.target.json").read_text()
    assert "s01" not in text
    assert str(study.parent) not in text
    assert "p01" not in text
    loaded = Cases.load(tmp_path / "cases.csv")
    assert loaded.slides
    assert (loaded.table["outlines"] != "").sum() == 3
    for lost in (paths, outline_paths, slides_of):
        with pytest.raises(InputError, match="saved without"):
            lost(loaded)


def test_kept_names_come_back_as_they_were(study, tmp_path):
    cases = named(study, outlines="outlines", names="keep")
    cases.save(tmp_path / "cases.csv")
    loaded = Cases.load(tmp_path / "cases.csv")
    assert loaded == cases
    assert loaded.planes == cases.planes
    assert outline_paths(loaded) == outline_paths(cases)
    assert set(cases.to_frame()["outlines"]) == set(outline_paths(cases))
    assert read_cases(tmp_path / "cases.csv") == cases


def test_microns_stand_in_the_address(study):
    assert slides_of(named(study, pixel_size="0.25"))[0][1] == 0.25
    table = pd.read_csv(study, dtype=str).assign(um=["0.5", "", "1", "1", "1", "1"])
    table.to_csv(study.with_name("sized.csv"), index=False)
    cases = named(study.with_name("sized.csv"), pixel_size="um")
    assert [mpp for _, mpp in slides_of(cases)][:3] == [0.5, 0.0, 1.0]
    assert "pixel_size" not in cases.table


def test_a_column_called_pixel_size_counts_where_it_is_asked_for_alone(study):
    table = pd.read_csv(study, dtype=str).assign(pixel_size="3")
    table.to_csv(study.with_name("other.csv"), index=False)
    assert slides_of(named(study.with_name("other.csv"), names="keep"))[0][1] == 0.0


def test_labels_come_from_outlines_where_no_column_says_them(study):
    table = pd.read_csv(study, dtype=str).drop(columns="tumour")
    table.to_csv(study.with_name("bare.csv"), index=False)
    cases = read_cases(study.with_name("bare.csv"), image="slide", patient="patient", outlines="outlines")
    assert cases.target.names == ("normal", "tumour")
    assert cases.target.positive == ("tumour",)
    assert cases.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert any("no column says it, so the outlines do: 3 of 6 slides show tumour" in note for note in cases.notes)


def test_outlines_without_a_lesion_say_normal(study, tmp_path):
    shutil.copytree(study.parent, tmp_path / "s")
    write_outlines(tmp_path / "s" / "outlines" / "s03.xml", [])
    pd.read_csv(study, dtype=str).drop(columns="tumour").to_csv(tmp_path / "s" / "bare.csv", index=False)
    cases = read_cases(tmp_path / "s" / "bare.csv", image="slide", outlines="outlines")
    assert cases.labels.tolist() == [0, 1, 0, 0, 0, 1]


def test_an_area_to_be_ignored_is_no_tumour(study, tmp_path):
    shutil.copytree(study.parent, tmp_path / "s")
    write_outlines(tmp_path / "s" / "outlines" / "s03.xml", [(500.0, 500.0, 200.0)], group="ignore")
    pd.read_csv(study, dtype=str).drop(columns="tumour").to_csv(tmp_path / "s" / "bare.csv", index=False)
    cases = read_cases(tmp_path / "s" / "bare.csv", image="slide", outlines="outlines")
    assert cases.labels.tolist() == [0, 1, 0, 0, 0, 1]


def test_outlines_in_a_column_and_in_another_folder(study, tmp_path):
    table = pd.read_csv(study, dtype=str).assign(drawn=["", "outlines/s01.xml", "", "outlines/s03.xml", "", "gone.xml"])
    table.to_csv(study.with_name("drawn.csv"), index=False)
    cases = named(study.with_name("drawn.csv"), outlines="drawn")
    assert [bool(file) for file in outline_paths(cases)] == [False, True, False, True, False, True]
    assert "drawn" not in cases.table
    assert any("1 of 3 files are not there, first that of row 6" in note for note in cases.notes)
    shutil.copytree(study.parent / "outlines", tmp_path / "elsewhere")
    far = named(study, outlines=str(tmp_path / "elsewhere"))
    assert outline_paths(far)[1] == str(tmp_path / "elsewhere" / "s01.xml")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("outline", "no file or folder that is there, and no column of the table .given: outline."),
        ("gone/", "no file or folder that is there, and no column of the table .given: gone/"),
        ("outlines/s01.xml", "one file of outlines is that of one slide"),
        ("slides.csv", "one file of outlines is that of one slide"),
        ("slides", "nothing in the folder of outlines is named like a slide"),
    ],
)
def test_outlines_that_are_none(study, asked, said):
    with pytest.raises(InputError, match=said):
        named(study, outlines=asked)


def test_two_files_that_fit_one_slide(study, tmp_path):
    shutil.copytree(study.parent / "outlines", tmp_path / "o")
    shutil.copy(tmp_path / "o" / "s01.xml", tmp_path / "o" / "s01_mask.xml")
    images = pd.Series(["slides/s01.tif"])
    found = find_outlines(str(tmp_path / "o"), pd.DataFrame({"slide": images}), images, study.parent)
    assert found.files[0].endswith("s01.xml")  # that of its very name comes first
    (tmp_path / "o" / "s01.xml").rename(tmp_path / "o" / "s01_outlines.xml")
    with pytest.raises(InputError, match="two files of outlines fit one slide"):
        find_outlines(str(tmp_path / "o"), pd.DataFrame({"slide": images}), images, study.parent)


def test_a_slide_is_a_whole_file(study):
    cases = named(study, names="keep", slides="no")
    part = Cases(cases.table.assign(image=cases.table["image"] + "#frame=1"), cases.target, cases.root)
    with pytest.raises(InputError, match="a slide is a whole file.*rows 1 and 2"):
        as_slides(part)


def test_slides_are_seen_in_one_way(study):
    with pytest.raises(ArgumentError, match="a slide is seen in one way"):
        named(study, planes=Planes("views"))


def test_an_overview_is_an_image_like_any_other(study):
    from overread.images.read import read_image

    image = read_image(paths(named(study))[0])
    side = int(np.ceil(SIDE * MPP / OVERVIEW_MPP))
    assert image.pixels.shape == (side, side, 3)


def test_whole_slides_are_no_images_of_a_training(study):
    with pytest.raises(InputError, match="tile by tile.*overread run"):
        refuse_overviews(named(study))
    refuse_overviews(named(study, slides="no"))


def test_new_slides_are_read_as_the_model_was_taught(study):
    known = named(study)
    new = read_images(study, known.target, image="slide", planes=known.planes, pixel_size="2", outlines="outlines")
    assert new.slides
    assert slides_of(new)[0][1] == 2.0
    assert outline_paths(new)[1].endswith("s01.xml")
    folder = read_images(study.parent / "slides", known.target, planes=known.planes)
    assert folder.slides
    assert len(folder) == 6
    assert slides_of(folder)[0][0].endswith("s00.tif")


def test_microns_that_no_file_says_are_asked_for(study, tmp_path):
    """The audit says it of each slide; with --mpp it is read."""
    from overread.images.read import read_image

    write_slide(tmp_path / "a.tif", slide_pixels([]), mpp=None)
    pd.DataFrame({"slide": ["a.tif"] * 2, "tumour": ["normal", "tumour"], "case": ["1", "2"]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    bare = read_cases(tmp_path / "t.csv", image="slide", label="tumour", case="case")
    with pytest.raises(Exception, match="--mpp"):
        read_image(paths(bare)[0])
    told = read_cases(tmp_path / "t.csv", image="slide", label="tumour", case="case", pixel_size="2")
    assert read_image(paths(told)[0]).pixels.shape[0] == 40
