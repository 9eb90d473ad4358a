"""`--frames`: stacks of frames as single images of cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile

from overread.cases.cases import Planes, paths
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import ArgumentError, InputError
from overread.images.read import read_image
from overread.study.question import Images


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    home = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    rows = []
    for film in range(4):
        frames = rng.integers(0, 60000, (12, 16, 16)).astype(np.uint16)
        tifffile.imwrite(home / f"{film}.tif", frames, photometric="minisblack", metadata=None)
        (home / f"m{film}").mkdir()
        for number in range(12):
            tifffile.imwrite(home / f"m{film}/{number}.tif", frames[number], photometric="minisblack", metadata=None)
            rows.append([f"m{film}/{number}.tif", f"c{film}", 0.1 * number, "ab"[film % 2]])
    pd.DataFrame({"image": [f"{film}.tif" for film in range(4)], "label": list("abab")}).to_csv(
        home / "films.csv", index=False
    )
    pd.DataFrame({"image": [f"m{film}" for film in range(4)], "label": list("abab")}).to_csv(
        home / "folders.csv", index=False
    )
    pd.DataFrame(rows, columns=["image", "case", "time", "label"]).sample(frac=1, random_state=0).to_csv(
        home / "rows.csv", index=False
    )
    return home


VIEW = Planes(frames="channels:4")


def test_a_film_a_folder_and_the_rows_of_a_case_are_one_image(films):
    one = read_cases(films / "films.csv", image="image", label="label", names="keep", positive=["b"], planes=VIEW)
    assert list(one.table["image"]) == [f"{film}.tif#frames=channels:4" for film in range(4)]
    rows = read_cases(
        films / "rows.csv",
        image="image",
        label="label",
        case="case",
        time="time",
        names="keep",
        positive=["b"],
        planes=VIEW,
    )
    assert sorted(rows.table["image"]) == [f"m{film}#frames=channels:4" for film in range(4)]
    assert "48 rows of cases in time" in rows.notes[-1]
    folders = read_cases(films / "folders.csv", image="image", label="label", names="keep", positive=["b"], planes=VIEW)
    for cases in (one, rows, folders):
        assert cases.planes == VIEW
        pixels = [read_image(path).pixels for path in sorted(paths(cases))]
        for film, seen in enumerate(pixels):
            assert np.array_equal(seen, read_image(str(films / f"{film}.tif#frames=channels:4")).pixels)


def test_the_view_is_kept_with_the_cases(films, tmp_path):
    cases = read_cases(films / "films.csv", image="image", label="label", names="keep", positive=["b"], planes=VIEW)
    assert type(cases).load(cases.save(tmp_path / "cases.csv")).planes == VIEW


def test_frames_without_an_order_or_a_folder_are_refused(films, tmp_path):
    table = pd.read_csv(films / "rows.csv")
    asked = {
        "image": "image",
        "label": "label",
        "case": "case",
        "time": "time",
        "names": "keep",
        "positive": ["b"],
        "planes": VIEW,
    }
    moved = table.copy()
    moved.loc[moved["image"] == "m2/0.tif", ["case", "time"]] = ["c0", -1.0]
    moved = moved[moved["case"] != "c2"]
    for change, said in (
        (table.assign(time=table["time"].rank().astype(int).astype(str) + "th"), "no order in time"),
        (table.assign(time=-table["time"]), "another order"),
        (table.iloc[:-1], "11 rows"),
        (moved, "several places"),
    ):
        path = films / "changed.csv"
        change.to_csv(path, index=False)
        with pytest.raises(InputError, match="frames of a case") as found:
            read_cases(path, **asked)
        assert said in str(found.value)


def test_without_a_stack_there_is_nothing_to_see_otherwise(phantom):
    with pytest.raises(InputError, match="no stacks of frames"):
        read_cases(phantom, image="image", label="diagnosis", planes=VIEW)
    with pytest.raises(ArgumentError, match="one of two ways"):
        Images(frames="median")
    with pytest.raises(ArgumentError, match="in one way"):
        Images(frames="projections", volumes="slices")


def test_new_films_are_seen_as_a_model_did(films):
    from overread.cases.sources.new_images import image_cases
    from overread.tasks.target import Target

    for given in ([str(films / "0.tif"), str(films / "1.tif")], [str(films / "0.tif")]):
        found = image_cases(given, Target("segmentation", ("object",)), planes=VIEW)
        assert [image.partition("#")[2] for image in found.table["image"]] == ["frames=channels:4"] * len(given)
