"""A model that outlines objects behind the server: its polygons are the pixels, and what it cannot give is refused."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from served import a_model

from overread.cells.measure import measure
from overread.core.errors import InputError
from overread.images.outlines.outlines import outlines_of
from overread.images.read import read_image
from overread.study.cells.outline_reader import FoundObjects, numbers_of


@dataclass(frozen=True)
class Outlining:
    """A reader that outlines what is bright."""

    model: object
    device: str = "cpu"
    threads: int = 1
    facts: tuple[str, ...] = ("it found 90 % of the objects",)

    def outline(self, image):
        pixels = read_image(image).pixels
        labels = cv2.connectedComponents((pixels[..., 0] > 100).astype(np.uint8), connectivity=4)[1]
        found = outlines_of(labels, classes=["lymphocyte"] * int(labels.max()))
        return FoundObjects(found, measure(found, pixels, texture=False))

    def opinion(self, images, *, case=""):
        raise InputError("no answer")


@pytest.fixture
def client(opened):
    return opened(reader=Outlining(a_model()))


def picture() -> tuple[np.ndarray, bytes]:
    grey = np.zeros((40, 56), np.uint8)
    grey[4:14, 6:20], grey[8:10, 10:12], grey[20:35, 30:50] = 200, 0, 180
    return grey, bytes(cv2.imencode(".png", grey)[1])


def asked(client, path, *files):
    return client.post(path, files=[("file", ("patient-7.png", data, "image/png")) for data in files])


def test_the_polygons_are_the_pixels_and_the_measures_those_of_measure(client):
    grey, data = picture()
    answer = asked(client, "/outline", data)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["width"], found["height"], len(found["objects"])) == (56, 40, 2)
    for one in found["objects"]:
        mask = np.zeros((160, 224), np.uint8)
        cv2.fillPoly(mask, [np.array(ring) * 4 for piece in one["pieces"] for ring in piece], 1)
        inside = mask[2::4, 2::4] > 0
        assert one["measures"]["area"] == inside.sum() == (inside & (grey > 100)).sum()
        assert one["of"] == "lymphocyte"
        rows, columns = np.nonzero(inside)
        assert one["x"] == pytest.approx(columns.mean(), abs=0.6)
        assert one["y"] == pytest.approx(rows.mean(), abs=0.6)
    assert len(found["objects"][0]["pieces"][0]) == 2, "the hole"
    assert found["facts"] == ["it found 90 % of the objects"]
    assert "patient-7" not in answer.text


def test_an_image_without_objects_has_none(client):
    found = asked(client, "/outline", bytes(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1])).json()
    assert found["objects"] == []


def test_what_is_of_one_answer_a_case_is_refused_in_one_sentence(client):
    _, data = picture()
    for path in ("/predict", "/explain", "/similar", "/batch"):
        answer = asked(client, path, data)
        assert answer.status_code == 404, path
        assert answer.json()["error"] == "outlines"
        assert "outlines objects" in answer.json()["what"]
    assert client.get("/about").json()["outlines"] is True
    assert client.get("/about").json()["methods"] == []


def test_one_image_at_a_time_and_none_of_another_model(client, opened):
    _, data = picture()
    assert asked(client, "/outline", data, data).status_code == 422
    answer = asked(opened(), "/outline", data)
    assert (answer.status_code, answer.json()["error"]) == (404, "no-outlines")
    assert opened().get("/about").json()["outlines"] is False
    assert asked(client, "/outline", b"no image").status_code in (400, 415, 422)


def test_measures_are_the_finite_numbers():
    assert numbers_of({"object": 3, "class": "a", "area": np.int64(5), "nearest": np.nan, "name": "x"}) == {"area": 5.0}
