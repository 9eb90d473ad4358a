"""Outlines of lesions: every file that people have, in microns, against slow restatements and the challenge's own rule."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage import measure

from overread.core.errors import ImageError, InputError
from overread.images.slides import lesion_outlines
from overread.images.slides.judged_regions import judged_regions
from overread.images.slides.lesion_files.drawn_outlines import (
    centroid,
    clipped,
    crosses_itself,
    inside,
    longest_chord,
    overlap,
)
from overread.images.slides.lesion_files.label_slide import read_label_slide
from overread.images.slides.lesion_outlines import Lesion, Lesions, outlines_named_like, read_lesions
from overread.images.slides.square_shares import shares, summed


@dataclass(frozen=True)
class Extent:
    width: int = 20_000
    height: int = 16_000
    mpp: float = 0.25


SLIDE = Extent()


def square(left, top, side):
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]


def circle(x, y, radius, many=64):
    angle = np.arange(many) / many * 2 * np.pi
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def asap(path, outlines, groups=()):
    """``outlines``: (group, corners, type)."""
    rows = [
        f'<Annotation Name="A{at}" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(corners))
        + "</Coordinates></Annotation>"
        for at, (group, corners, kind) in enumerate(outlines)
    ]
    held = "".join(f'<Group Name="{name}" PartOfGroup="{parent}" Color="#000" />' for name, parent in groups)
    path.write_text(
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{"".join(rows)}</Annotations>'
        f"<AnnotationGroups>{held}</AnnotationGroups></ASAP_Annotations>"
    )
    return path


def feature(kind, coordinates, name=None, **about):
    about = {"objectType": "annotation"} | about
    if name is not None:
        about["classification"] = {"name": name, "colorRGB": -377282}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": about}


def qupath(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def closed(corners):
    return [*corners, corners[0]]


# -- the files ----------------------------------------------------------------------------------------------------


def test_camelyon16_tumours_lose_their_normal_islands(tmp_path):
    path = asap(tmp_path / "tumor_001.xml", [("_0", square(1000, 1000, 4000), "Polygon"), ("_1", square(9000, 9000, 2000), "Polygon"),
                                             ("_2", square(2000, 2000, 1000), "Polygon")])  # fmt: skip
    found = read_lesions(path, SLIDE)
    assert [lesion.group for lesion in found.lesions] == ["_0", "_1"]
    assert found.lesions[0].area == pytest.approx((4000**2 - 1000**2) * 0.25**2)
    assert found.lesions[1].area == pytest.approx((2000 * 0.25) ** 2)
    assert found.lesions[1].centre == pytest.approx((2500.0, 2500.0))
    assert found.lesions[1].longest == pytest.approx(500 * math.sqrt(2))
    where = found.at(np.array([300.0, 600.0, 2500.0, 3500.0]), np.array([300.0, 600.0, 2500.0, 100.0]))
    assert where.tolist() == [0, -1, 1, -1]  # 600, 600 lies in the normal island
    assert not found.notes
    assert not any(found.excluded)


def test_camelyon17_groups_and_groups_within_groups(tmp_path):
    path = asap(tmp_path / "a.xml", [("metastases", square(1000, 1000, 4000), "Polygon"), ("normal", square(9000, 9000, 2000), "Polygon"),
                                     ("mine", square(9000, 1000, 3000), "Spline"), ("metastases", [(5, 5)], "Dot")],
                [("mine", "Tumor"), ("Tumor", "None")])  # fmt: skip
    found = read_lesions(path, SLIDE)
    assert [lesion.group for lesion in found.lesions] == ["metastases", "mine"]
    assert any("1 outline of normal tissue cut out of no lesion" in note for note in found.notes)
    assert any("1 outline without an area" in note for note in found.notes)
    assert any("1 outline drawn as splines" in note for note in found.notes)


def test_corners_are_put_into_their_order(tmp_path):
    path = asap(tmp_path / "a.xml", [("Tumor", square(0, 0, 4000), "Polygon")])
    rows = path.read_text()
    for old, new in ((' Order="1" ', ' Order="9" '), (' Order="2" ', ' Order="1" '), (' Order="9" ', ' Order="2" ')):
        rows = rows.replace(old, new)
    path.write_text(rows)
    notes = read_lesions(path, SLIDE).notes
    assert any("crossing itself" in note for note in notes)  # the order of the file makes a figure of eight


def test_a_group_that_says_nothing_is_told_and_named_by_the_user(tmp_path):
    path = asap(tmp_path / "a.xml", [("Stroma", square(0, 0, 4000), "Polygon"), ("Grade 3", square(8000, 8000, 4000), "Polygon")])  # fmt: skip
    with pytest.raises(InputError, match="Grade 3, Stroma"):
        read_lesions(path, SLIDE)
    found = read_lesions(path, SLIDE, tumour=["grade 3"])
    assert [lesion.group for lesion in found.lesions] == ["Grade 3"]
    assert any("1 outline of the group 'Stroma' left out" in note for note in found.notes)


def test_outlines_without_any_name_are_taken_and_told(tmp_path):
    path = asap(tmp_path / "a.xml", [("None", square(0, 0, 4000), "Polygon")])
    found = read_lesions(path, SLIDE)
    assert len(found) == 1
    assert any("without a group taken for tumour" in note for note in found.notes)
    mixed = asap(tmp_path / "b.xml", [("None", square(0, 0, 4000), "Polygon"), ("Tumor", square(8000, 0, 4000), "Polygon")])  # fmt: skip
    found = read_lesions(mixed, SLIDE)
    assert len(found) == 1
    assert any("1 outline without a group left out" in note for note in found.notes)


def test_a_tumour_within_normal_tissue_is_left_out_and_told(tmp_path):
    path = asap(tmp_path / "a.xml", [("_0", square(0, 0, 8000), "Polygon"), ("_2", square(1000, 1000, 4000), "Polygon"), ("_0", square(2000, 2000, 1000), "Polygon")])  # fmt: skip
    found = read_lesions(path, SLIDE)
    assert len(found) == 1
    assert any("wholly within an outline of normal tissue" in note for note in found.notes)


def test_qupath_polygons_holes_several_and_classes(tmp_path):
    features = [
        feature("Polygon", [closed(square(1000, 1000, 4000)), closed(square(2000, 2000, 1000))], "Tumor"),
        feature("MultiPolygon", [[closed(square(8000, 1000, 2000))], [closed(square(12000, 1000, 2000))]], "Tumor: Positive"),
        feature("Polygon", [closed(square(8000, 8000, 4000))], "Ignore*"),
        feature("Polygon", [closed(square(1000, 8000, 4000))], "Region*"),
        feature("Point", [5, 5], "Tumor"),
        feature("Polygon", [closed(square(1000, 8000, 40))], "Tumor", objectType="cell"),
    ]  # fmt: skip
    found = read_lesions(qupath(tmp_path / "a.geojson", features), SLIDE)
    assert [lesion.group for lesion in found.lesions] == ["Tumor", "Tumor: Positive", "Tumor: Positive", "Ignore*"]
    assert list(found.excluded) == [False, False, False, True]
    assert found.lesions[0].area == pytest.approx((4000**2 - 1000**2) * 0.25**2)
    text = " · ".join(found.notes)
    assert "'Region*' left out" in text
    assert "1 object without an area" in text
    assert "1 cell or tile left out" in text
    assert found.at(np.array([2500.0]), np.array([2500.0])).tolist() == [3]  # excluded ones can be asked for too


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: f["geometry"]])
def test_qupath_writes_several_forms(tmp_path, wrap):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrap(feature("Polygon", [closed(square(0, 0, 4000))]))))
    assert len(read_lesions(path, SLIDE)) == 1


def test_newer_names_of_qupath(tmp_path):
    each = feature("Polygon", [closed(square(0, 0, 4000))])
    each["properties"]["classification"] = {"names": ["Tumor", "CD3"], "color": [1, 2, 3]}
    assert len(read_lesions(qupath(tmp_path / "a.geojson", [each]), SLIDE)) == 1


def test_imagescope_layers_and_negative_regions(tmp_path):
    def region(corners, negative):
        rows = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
        return f'<Region Type="0" NegativeROA="{negative}"><Vertices>{rows}</Vertices></Region>'

    path = tmp_path / "a.xml"
    path.write_text(
        f'<Annotations MicronsPerPixel="0.25"><Annotation Name="Tumor"><Regions>{region(square(0, 0, 4000), 0)}'
        f"{region(square(1000, 1000, 1000), 1)}</Regions></Annotation></Annotations>"
    )
    (lesion,) = read_lesions(path, SLIDE).lesions
    assert lesion.area == pytest.approx((4000**2 - 1000**2) * 0.25**2)


@pytest.mark.parametrize("scale", [1, 2, 16])
def test_label_images_of_any_resolution(tmp_path, scale):
    slide = Extent(4096, 2048, 0.5)
    labels = np.zeros((2048 // scale, 4096 // scale), np.uint8)
    labels[512 // scale : 1024 // scale, 1024 // scale : 2048 // scale] = 1
    labels[640 // scale : 768 // scale, 1280 // scale : 1536 // scale] = 0  # a hole
    labels[1536 // scale : 1792 // scale, 3072 // scale : 3328 // scale] = 2
    tifffile.imwrite(tmp_path / "a.tif", labels, tile=(128, 128) if scale < 16 else None, compression="zlib")
    found = read_lesions(tmp_path / "a.tif", slide)
    assert sorted(lesion.area for lesion in found.lesions) == pytest.approx([(256 * 0.5) ** 2, (1024 * 512 - 256 * 128) * 0.25], rel=0.001)  # fmt: skip
    assert any("values 1, 2" in note for note in found.notes)
    assert found.at(np.array([600.0, 700.0]), np.array([300.0, 350.0])).tolist()[1] == -1


def test_a_pyramid_of_labels_is_read_at_its_stated_level(tmp_path):
    labels = np.zeros((4096, 4096), np.uint8)
    labels[1000:2000, 1000:2000] = 255
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(labels, tile=(256, 256), subifds=2, compression="zlib")
        file.write(labels[::4, ::4], tile=(256, 256), subfiletype=1, compression="zlib")
        file.write(np.full((256, 256), 255, np.uint8), tile=(256, 256), subfiletype=1, compression="zlib")
    (outline,) = read_label_slide(tmp_path / "a.tif", 4096, 4096, 0.25).outlines  # 4 µm are the last level
    assert outline.ring.max() == 4096
    (outline,) = read_label_slide(tmp_path / "a.tif", 4096, 4096, 1.0).outlines  # 4 µm are the middle one
    assert outline.ring.min(axis=0).tolist() == [1000, 1000]
    assert outline.ring.max(axis=0).tolist() == [2000, 2000]


def test_label_images_of_another_slide_or_with_loss_are_refused(tmp_path):
    slide = Extent(4096, 2048, 0.5)
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2048, 2048), np.uint8))
    with pytest.raises(ImageError, match="another extent"):
        read_lesions(tmp_path / "a.tif", slide)
    tifffile.imwrite(tmp_path / "b.tif", np.ones((256, 512, 3), np.uint8), photometric="rgb")
    with pytest.raises(ImageError, match="one whole number"):
        read_lesions(tmp_path / "b.tif", slide)
    tifffile.imwrite(tmp_path / "c.tif", np.ones((256, 512), np.uint8), compression="jpeg", tile=(128, 128))
    with pytest.raises(ImageError, match="without loss"):
        read_lesions(tmp_path / "c.tif", slide)
    tifffile.imwrite(tmp_path / "d.tif", np.ones((1024, 2048), np.uint8), tile=(256, 256))
    (tmp_path / "d.tif").write_bytes((tmp_path / "d.tif").read_bytes()[:200_000])
    with pytest.raises(ImageError, match="cannot be read"):
        read_lesions(tmp_path / "d.tif", slide)


# -- what must not pass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><ASAP_Annotations>&b;</ASAP_Annotations>',
    "<ASAP_Annotations><Annotations>", "<other/>", "# no outlines", "", "{", '{"type": "Topology"}', "[1]", "<a>" * 100,
])  # fmt: skip
def test_what_is_no_outlines_is_refused(tmp_path, text):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(InputError):
        read_lesions(path, SLIDE)


@pytest.mark.parametrize("corners", [[(0, 0), (1, 0), ("NaN", 1)], [(0, 0), (1, 0), ("x", 1)], [(0, 0), (1, 0), (1e12, 1)]])  # fmt: skip
def test_corners_that_are_no_numbers_are_refused(tmp_path, corners):
    with pytest.raises(ImageError):
        read_lesions(asap(tmp_path / "a.xml", [("Tumor", corners, "Polygon")]), SLIDE)


def test_outlines_of_another_slide_are_refused_and_those_over_the_border_told(tmp_path):
    with pytest.raises(ImageError, match="beyond the slide"):
        read_lesions(asap(tmp_path / "a.xml", [("Tumor", square(30_000, 0, 4000), "Polygon")]), SLIDE)
    found = read_lesions(asap(tmp_path / "b.xml", [("Tumor", square(18_000, 0, 4000), "Polygon")]), SLIDE)
    assert any("1 outline reaching beyond the slide" in note for note in found.notes)
    assert found.lesions[0].area == pytest.approx(2000 * 4000 / 16)
    with pytest.raises(ImageError, match="beyond the slide.*more than half"):
        read_lesions(asap(tmp_path / "c.xml", [("Tumor", square(18_000, 0, 40_000), "Polygon")]), SLIDE)


def test_what_is_left_of_a_ring_within_the_slide():
    random, sides = np.random.default_rng(3), np.array([100.0, 60.0])
    turn = np.sort(random.uniform(0, 2 * np.pi, 30))
    ring = np.array([60.0, 40.0]) + random.uniform(20, 70, (30, 1)) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    kept = clipped(ring, sides)
    assert ((kept >= 0) & (kept <= sides)).all()
    points = random.uniform((-20, -20), (140, 120), (3000, 2))
    within = ((points > 0) & (points < sides)).all(axis=1)
    assert (inside(points, kept) == (inside(points, ring) & within)).all()
    assert len(clipped(ring - 1000, sides)) == 0


def test_exclusions_that_overlap_are_cut_out_once():
    outer, hole = np.array(square(0, 0, 100), float), np.array(square(10, 10, 80), float)
    assert Lesion(outer, (hole, hole)).area == pytest.approx(100**2 - 80**2, rel=0.02)
    across = (np.array([[40, 10], [60, 10], [60, 90], [40, 90]], float), np.array([[10, 40], [90, 40], [90, 60], [10, 60]], float))  # fmt: skip
    assert Lesion(outer, across).area == pytest.approx(100**2 - (2 * 1600 - 400), rel=0.02)


def test_groups_in_a_circle_are_refused(tmp_path):
    with pytest.raises(InputError, match="lie in each other"):
        read_lesions(asap(tmp_path / "a.xml", [("a", square(0, 0, 40), "Polygon")], [("a", "b"), ("b", "a")]), SLIDE)


def test_an_outline_that_crosses_itself_is_told(tmp_path):
    eight = [(0, 0), (4000, 4000), (4000, 0), (0, 4000)]
    found = read_lesions(asap(tmp_path / "a.xml", [("Tumor", eight, "Polygon")]), SLIDE)
    assert any("1 outline crossing itself" in note for note in found.notes)
    assert found.lesions[0].area == pytest.approx(1000**2 / 2, rel=0.01)


def test_a_classification_of_very_many_names(tmp_path):
    shape = feature("Polygon", [closed(square(1000, 1000, 4000))])
    shape["properties"]["classification"] = {"names": ["Tumor", *["a" * 20] * 20_000]}
    assert len(read_lesions(qupath(tmp_path / "a.geojson", [shape]), SLIDE).lesions) == 1


def test_a_label_image_whose_directories_go_round_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8), photometric="minisblack")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    at = int.from_bytes(data[4:8], "little")
    many = int.from_bytes(data[at : at + 2], "little")
    data[at + 2 + 12 * many : at + 6 + 12 * many] = at.to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="a cycle of them"):
        read_lesions(tmp_path / "a.tif", SLIDE)


# -- isolated tumour cells and regions --------------------------------------------------------------------------------


def restated(mask, mpp):
    """The challenge's two functions on a whole slide's mask at ``mpp``: labels, and which of them are isolated cells."""
    distance = ndimage.distance_transform_edt(1 - mask)
    filled = ndimage.binary_fill_holes(distance < 75 / (mpp * 2))
    labels = measure.label(filled, connectivity=2)
    few = [each.label for each in measure.regionprops(labels) if each.axis_major_length < 275 / mpp]
    return labels, few


def test_isolated_tumour_cells_are_those_of_camelyon16(tmp_path):
    random = np.random.default_rng(7)
    radii = np.array([30, 60, 90, 110, 150, 400, 50, 50, 50])  # µm
    spots = np.array([[400, 400], [900, 400], [1500, 500], [2200, 500], [3000, 600], [2500, 2500], [600, 3000], [740, 3000], [880, 3000]], float)  # fmt: skip
    spots += random.uniform(-20, 20, spots.shape)  # the last three touch once grown: one region, longer than 275 µm
    path = asap(tmp_path / "a.xml", [("_0", circle(x / 0.25, y / 0.25, r / 0.25), "Polygon") for (x, y), r in zip(spots, radii, strict=True)])  # fmt: skip
    found = read_lesions(path, SLIDE)
    mpp = 0.243 * 32
    mask = found.raster((5000.0, 4000.0), mpp) > 0
    labels, few = restated(mask.astype(int), mpp)
    at = [labels[int(y / mpp), int(x / mpp)] for x, y in spots]
    assert list(found.excluded) == [number in few for number in at]
    assert list(found.excluded) == [True, True, True] + [False] * 6
    assert len(found.regions) == len(set(at)) == 7
    assert any("3 outlines of isolated tumour cells" in note for note in found.notes)
    x, y = random.uniform(0, 5000, 2000), random.uniform(0, 4000, 2000)
    mine = found.region_at(x, y)
    theirs = labels[(y / mpp).astype(int), (x / mpp).astype(int)]
    assert ((mine >= 0) == (theirs > 0)).all()
    assert len(set(zip(mine.tolist(), theirs.tolist()))) == 8  # one to one, and none
    assert sum(found.regions_excluded) == 3


def test_every_outline_has_a_region_however_small():
    tiny = circle(1000.3, 1000.3, 0.5)
    (region,) = judged_regions([(tiny, ())])
    assert region.outlines == (0,)
    assert region.isolated
    assert 70 < region.major < 80  # a disc of 75 µm, in cells of 7.8 µm


def lobes(apart, *radii):
    """One outline of discs in a row, with necks of 2 µm between them."""
    top, bottom = [], []
    for at, radius in enumerate(radii):
        turn = np.linspace(np.pi - 1 / radius, 1 / radius, 60)
        x, y = 700 + apart * at + radius * np.cos(turn), radius * np.sin(turn)
        top.append(np.stack([x, 1003 + y], axis=1))
        bottom.append(np.stack([x, 1003 - y], axis=1)[::-1])
    return np.concatenate([*top, *bottom[::-1]])


@pytest.mark.parametrize(("radii", "left_out"), [((200, 200), (False, False)), ((60, 200), (False, True)), ((60, 60), (True, True))])  # fmt: skip
def test_an_outline_of_two_lobes_is_two_regions(tmp_path, radii, left_out):
    """As in the challenge, whose regions are those of the mask: each is isolated tumour cells or not by itself."""
    ring = lobes(900, *radii)
    found = read_lesions(asap(tmp_path / "a.xml", [("_0", (ring / 0.25).tolist(), "Polygon")]), SLIDE)
    labels, few = restated(found.raster((5000.0, 4000.0), 0.243 * 32) > 0, 0.243 * 32)
    assert labels.max() == 2
    assert [region.outlines for region in found.regions] == [(0,), (0,)]
    assert sorted(found.regions_excluded) == sorted(left_out) == sorted(number in few for number in (1, 2))
    assert found.excluded[0] == all(left_out)
    assert sorted(found.region_at(np.array([700.0, 1600.0]), np.array([1000.0, 1000.0]))) == [0, 1]


def test_outlines_over_more_than_a_slide_are_refused(tmp_path):
    with pytest.raises(ImageError, match="span more"):
        judged_regions([(np.array(square(0, 0, 1e6)), ())])
    path = asap(tmp_path / "a.xml", [("Tumor", square(100, 100, 19_000), "Polygon")])
    assert len(read_lesions(path, SLIDE)) == 1
    with pytest.raises(ImageError, match="span more"):  # already when they are read
        read_lesions(path, replace(SLIDE, mpp=4.0))


def test_no_region_is_drawn_until_somebody_asks_what_is_judged(tmp_path, monkeypatch):
    drawn: list[int] = []
    whole = lesion_outlines.judged_regions
    monkeypatch.setattr(lesion_outlines, "judged_regions", lambda some: drawn.append(len(some)) or whole(some))
    path = asap(tmp_path / "a.xml", [("_0", square(1000, 1000, 4000), "Polygon"), ("_0", square(9000, 9000, 100), "Polygon")])  # fmt: skip
    found = read_lesions(path, SLIDE)
    assert found.share(np.array([500.0]), np.array([500.0]), 64.0).tolist() == [1.0]
    assert drawn == []
    assert (found.excluded, found.regions_excluded) == ((False, True), (False, True))
    assert len(found.notes) == 1
    assert drawn == [2, 0]  # tumour once for all, and areas that are not judged


def test_areas_not_judged_are_regions_of_their_own(tmp_path):
    features = [feature("Polygon", [closed(square(1000, 1000, 4000))], "Tumor"), feature("Polygon", [closed(square(4000, 1000, 4000))], "Ignore*")]  # fmt: skip
    found = read_lesions(qupath(tmp_path / "a.geojson", features), SLIDE)
    assert found.regions_excluded == (False, True)
    assert found.region_at(np.array([500.0, 1100.0, 1800.0]), np.array([600.0] * 3)).tolist() == [0, 0, 1]


# -- places ---------------------------------------------------------------------------------------------------------


def test_of_nested_lesions_the_smallest_is_told():
    found = Lesions((Lesion(circle(500, 500, 100)), Lesion(circle(500, 500, 400)), Lesion(circle(500, 500, 50), ignored=True)))  # fmt: skip
    assert found.at(np.array([500.0, 700.0, 950.0]), np.array([500.0] * 3)).tolist() == [0, 1, -1]
    assert set(np.unique(found.raster((1000.0, 1000.0), 10.0)).tolist()) == {0, 1, 2}


def test_shares_of_squares_against_points():
    random = np.random.default_rng(7)
    found = Lesions((Lesion(circle(500, 500, 120), (circle(520, 500, 40),)), Lesion(np.array(square(800, 100, 100), float)), Lesion(circle(200, 800, 10))))  # fmt: skip
    x, y = random.uniform(0, 1000, 150), random.uniform(0, 1000, 150)
    grid = np.arange(64) + 0.5 - 32
    restated = [np.mean([lesion_hits(found, a + dx, b + grid) for dx in grid]) for a, b in zip(x.tolist(), y.tolist())]
    share = found.share(x, y, 64.0)
    assert (share > 0.2).sum() > 5
    assert ((share > 0) & (share < 0.1)).sum() > 3
    np.testing.assert_allclose(share, restated, atol=0.02)
    assert found.share(np.array([850.0]), np.array([150.0]), 64.0).tolist() == pytest.approx([1.0])


def lesion_hits(found, x, y):
    return found.at(np.full(len(y), x), y) >= 0


def test_shares_are_exact_within_cells():
    random = np.random.default_rng(7)
    mask = random.uniform(size=(9, 7)) < 0.5
    fine = np.kron(mask, np.ones((100, 100)))
    for x, y, side in ((3.0, 4.0, 2.0), (2.51, 3.37, 1.48), (0.2, 0.1, 3.0), (6.9, 8.9, 1.0)):
        left, top, right, bottom = (round(100 * v) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
        restated = fine[max(0, top) : max(0, bottom), max(0, left) : max(0, right)].sum() / ((right - left) * (bottom - top))  # fmt: skip
        assert shares(summed(mask), np.array([x]), np.array([y]), side)[0] == pytest.approx(restated, abs=1e-9)


def test_geometry_against_restatements():
    random = np.random.default_rng(7)
    for _ in range(20):
        ring = random.uniform(0, 100, (8, 2))
        pairs = [(i, j) for i in range(8) for j in range(i + 2, 8) if (i, j) != (0, 7)]
        assert crosses_itself(ring) == any(meet(ring[i], ring[(i + 1) % 8], ring[j], ring[(j + 1) % 8]) for i, j in pairs)  # fmt: skip
        assert longest_chord(ring) == pytest.approx(max(math.dist(a, b) for a in ring for b in ring), rel=1e-5)
    points = random.uniform(0, 100, (500, 2))
    assert inside(points, circle(50, 50, 30, 720)).sum() == (np.hypot(*(points - 50).T) < 30).sum()
    assert centroid(np.array([[0, 0], [3, 0], [0, 3.0]])) == pytest.approx((1.0, 1.0))
    assert overlap(circle(0, 0, 5), circle(0, 0, 1))
    assert not overlap(circle(0, 0, 5), circle(20, 0, 5))
    assert crosses_itself(circle(0, 0, 1000, 20_000)) is False


def meet(a, b, c, d):
    """Whether two lines a–b and c–d meet, by solving for where."""
    matrix = np.column_stack([b - a, c - d])
    s, t = np.linalg.solve(matrix, c - a)
    return bool(0 < s < 1 and 0 < t < 1)


# -- files of many slides ---------------------------------------------------------------------------------------------


def test_each_slide_finds_its_file(tmp_path):
    for name in ("one.xml", "Two.geojson", "three_mask.tif", "four.svs.xml", "sub/five.xml", "other/five.xml", "six.ome.json", "x.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    slides = ["s/one.svs#slide", "s/two.ndpi#slide&mpp=0.25", "s/three.tif#slide", "s/four.svs", "s/sub/five.svs", "s/six.ome.tiff", "s/seven.svs"]  # fmt: skip
    found = outlines_named_like(slides, tmp_path)
    assert [name[len(str(tmp_path)) + 1 :] for name in found] == ["one.xml", "Two.geojson", "three_mask.tif", "four.svs.xml", "sub/five.xml", "six.ome.json", ""]  # fmt: skip


def test_a_file_in_the_folder_of_other_slides_is_theirs(tmp_path):
    for name in ("c1/node_1.xml", "c1/node_2.xml", "marks/node_3.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = outlines_named_like(["s/c0/node_1.svs", "s/c1/node_1.svs", "s/c1/node_2.svs", "s/c0/node_3.svs"], tmp_path)
    assert [name[len(str(tmp_path)) + 1 :] for name in found] == ["", "c1/node_1.xml", "c1/node_2.xml", "marks/node_3.xml"]  # fmt: skip


def test_a_slide_is_not_its_own_label_image(tmp_path):
    (tmp_path / "a.tif").write_text("")
    (tmp_path / "a.xml").write_text("")
    assert outlines_named_like([str(tmp_path / "a.tif")], tmp_path) == (str(tmp_path / "a.xml"),)


def test_two_files_of_one_slide_are_refused(tmp_path):
    for name in ("a.xml", "a.geojson"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="two files"):
        outlines_named_like(["a.svs"], tmp_path)
    with pytest.raises(InputError, match="no folder"):
        outlines_named_like(["a.svs"], tmp_path / "none")
