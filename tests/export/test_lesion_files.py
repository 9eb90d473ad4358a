"""Lesions for QuPath, against the rules of RFC 7946 and the cells that they are drawn from."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from tests.export.test_object_files import rfc7946

from overread.core.errors import ArgumentError
from overread.export.lesion_files import SlideLesions, lesions_geojson, write_lesions


@pytest.fixture
def slide() -> SlideLesions:
    regions = np.zeros((12, 16), np.int32)
    regions[2:7, 3:9], regions[4, 5] = 1, 0  # with a hole
    regions[8, 12], regions[9, 13] = 2, 2  # that touch at a corner
    table = pd.DataFrame(
        {"x": [400.0, 800.0], "y": [320.0, 544.0], "score": [0.99, 0.6], "area": [29 * 4096.0, 2 * 4096.0]}
    )
    return SlideLesions("c1", "tumour", table, regions, np.array([0.99, 0.6]), 64.0, 0.5)


def test_points_and_regions_lie_in_pixels_of_level_0(slide, tmp_path):
    (path,) = write_lesions(tmp_path, [slide])
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held == lesions_geojson(slide)
    points, regions = held["features"][:2], held["features"][2:]
    assert [point["geometry"] for point in points] == [
        {"type": "Point", "coordinates": [800.0, 640.0]},
        {"type": "Point", "coordinates": [1600.0, 1088.0]},
    ]
    assert [each["properties"]["objectType"] for each in held["features"]] == ["annotation"] * 4
    assert {each["properties"]["classification"]["name"] for each in held["features"]} == {"tumour"}
    assert points[1]["properties"]["measurements"] == {"score": 0.6, "area µm^2": 8192.0}
    assert regions[0]["properties"]["measurements"] == {"highest score": 0.99, "area µm^2": 29 * 4096.0}
    rfc7946({"type": "FeatureCollection", "features": regions})
    for number, region in enumerate(regions, start=1):
        shape = region["geometry"]
        polygons = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        mask = np.zeros((12 * 128, 16 * 128), np.uint8)
        for polygon in polygons:
            one = np.zeros_like(mask)
            cv2.fillPoly(one, [np.array(ring, np.int64).astype(np.int32) for ring in polygon], 1)
            mask |= one
        assert np.array_equal(mask[64::128, 64::128] > 0, slide.regions == number)


def test_the_same_lesion_has_the_same_id(slide):
    ids = [[each["id"] for each in lesions_geojson(slide)["features"]] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


def test_a_slide_without_lesions_has_an_empty_collection(slide):
    none = SlideLesions("c2", "tumour", slide.lesions.iloc[:0], np.zeros((3, 3), np.int32), np.empty(0), 64.0, 0.5)
    assert lesions_geojson(none)["features"] == []


def test_what_does_not_fit_is_refused(slide):
    given = (slide.group, slide.lesions, slide.regions, slide.highest, 64.0, 0.5)
    with pytest.raises(ArgumentError, match="no name of a file"):
        SlideLesions("../c1", *given)
    with pytest.raises(ArgumentError, match="columns x, y, score and area"):
        SlideLesions("c1", "tumour", slide.lesions.drop(columns="area"), *given[2:])
    with pytest.raises(ArgumentError, match="highest score of each region"):
        SlideLesions("c1", *given[:3], np.zeros(3), 64.0, 0.5)
    with pytest.raises(ArgumentError, match="size in microns"):
        SlideLesions("c1", *given[:4], 64.0, 0.0)
