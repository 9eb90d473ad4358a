"""Outlines for QuPath, napari and Fiji, read back by what these read with."""

from __future__ import annotations

import itertools
import json
import uuid

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from overread.core.errors import ArgumentError
from overread.export.object_files import OutlinedImage, geojson_of, write_geojson, write_label_folder
from overread.images.outlines.outlines import outlines_of


@pytest.fixture
def image() -> OutlinedImage:
    labels = np.zeros((30, 40), np.int32)
    labels[2:12, 3:15], labels[5:8, 6:9] = 1, 0  # with a hole
    labels[15:20, 20:30], labels[22:25, 20:30] = 2, 2  # of two pieces
    labels[10, 35] = 3
    found = outlines_of(labels, classes=("lymphocyte", "tumour", "lymphocyte"))
    table = pd.DataFrame({"case": "c1", "object": [1, 2, 3], "class": found.classes, "area": [111, 80, 1],
                          "solidity": [0.9, np.nan, 1.0], "touches border": [0, 0, 1]})  # fmt: skip
    return OutlinedImage("c1", found, table, 0.25)


def rfc7946(collection: dict) -> None:
    """The rules of RFC 7946 that a polygon must keep: section 3.1.6 (closed rings, right-hand rule), 3.2 and 3.3."""
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        assert isinstance(feature["properties"], dict)
        shape = feature["geometry"]
        polygons = {"Polygon": lambda c: [c], "MultiPolygon": lambda c: c}[shape["type"]](shape["coordinates"])
        for polygon in polygons:
            for place, ring in enumerate(polygon):
                assert len(ring) >= 4
                assert ring[0] == ring[-1]
                assert all(len(position) == 2 for position in ring)
                area = sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) / 2
                assert (area > 0) == (place == 0), "the outer ring turns anticlockwise, holes clockwise"


def drawn(shape: dict, size) -> np.ndarray:
    """The pixels of a geometry by OpenCV, which fills with the edge included: shifted by half a pixel it is exact."""
    polygons = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        one = np.zeros((size[0] * 4, size[1] * 4), np.uint8)
        cv2.fillPoly(one, [np.array(ring) * 4 for ring in polygon], 1)
        mask |= one[2::4, 2::4]
    return mask > 0


def test_geojson_keeps_the_rfc_and_draws_the_same_pixels(image, tmp_path):
    (path,) = write_geojson(tmp_path, [image])
    collection = json.loads(path.read_text("utf-8"))
    rfc7946(collection)
    assert [feature["geometry"]["type"] for feature in collection["features"]] == ["Polygon", "MultiPolygon", "Polygon"]
    assert len(collection["features"][0]["geometry"]["coordinates"]) == 2, "the hole"
    for number, feature in enumerate(collection["features"], start=1):
        assert np.array_equal(drawn(feature["geometry"], image.outlines.size), image.outlines.labels == number)


def test_qupath_is_told_class_colour_measurements_and_an_identity(image):
    first, second, third = geojson_of(image)["features"]
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"]["name"] == "lymphocyte"
    assert first["properties"]["classification"]["color"] == third["properties"]["classification"]["color"]
    assert first["properties"]["classification"]["color"] != second["properties"]["classification"]["color"]
    assert first["properties"]["measurements"] == {"area": 111.0, "solidity": 0.9, "touches border": 0.0}
    assert "solidity" not in second["properties"]["measurements"], "NaN is no JSON"
    assert len({str(uuid.UUID(feature["id"])) for feature in (first, second, third)}) == 3
    assert geojson_of(image) == geojson_of(image)


def test_an_object_without_a_class_has_none(image):
    plain = OutlinedImage("c2", outlines_of(image.outlines.labels), image.objects[["object"]])
    for feature in geojson_of(plain)["features"]:
        assert "classification" not in feature["properties"]


def test_labels_come_back_with_their_size_and_table(image, tmp_path):
    written = write_label_folder(tmp_path, [image])
    assert [path.name for path in written] == ["c1.tif", "c1.csv", "README.md"]
    assert np.array_equal(tifffile.imread(written[0]), image.outlines.labels)
    with tifffile.TiffFile(written[0]) as file:
        page = file.pages[0]
        assert page.dtype == np.uint16
        across, unit = page.tags["XResolution"].value, page.tags["ResolutionUnit"].value
        assert (across[0] / across[1], int(unit)) == (10_000 / 0.25, 3)
    table = pd.read_csv(written[1])
    assert list(table["index"]) == [1, 2, 3]
    assert list(table["class"]) == ["lymphocyte", "tumour", "lymphocyte"]
    assert "napari --layer-type labels c1.tif" in written[2].read_text("utf-8")


def test_a_name_that_leaves_the_folder_is_refused(image):
    for name in ("../c1", "a/b", "", ".."):
        with pytest.raises(ArgumentError, match="no name of a file"):
            OutlinedImage(name, image.outlines, image.objects)
