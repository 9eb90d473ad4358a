"""Annotation files of every form, of sound content and of bad intent."""

from __future__ import annotations

import json
import tracemalloc

import cv2
import numpy as np
import pytest

from overread.core.errors import ImageError, InputError
from overread.images.image import Limits
from overread.images.outlines.annotation_file import open_annotations
from overread.images.outlines.outlines import read_outlines

SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def coco(path, **changes):
    held = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}, {"id": 2, "file_name": "b.png", "height": 40, "width": 60}],
        "categories": [{"id": 3, "name": "red"}, {"id": 4, "name": "white"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [SQUARE], "bbox": [10, 10, 10, 10]},
            {"id": 2, "image_id": 1, "category_id": 4, "segmentation": {"size": [40, 60], "counts": [0, 80, 2320]}},
            {"id": 3, "image_id": 1, "category_id": 4, "segmentation": [], "bbox": [30, 20, 20, 10]},
            {"id": 4, "image_id": 1, "category_id": 4, "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [2400]}},
        ],
    } | changes  # fmt: skip
    path.write_text(json.dumps(held))
    return path


def test_coco_polygons_run_lengths_and_boxes_are_read(tmp_path) -> None:
    found = read_outlines(f"{coco(tmp_path / 'c.json')}#image=a.png", size=(40, 60))
    assert found.classes == ("red", "white", "white")
    assert found.areas[:2].tolist() == [100, 80]
    assert found.areas[2] == pytest.approx(np.pi * 10 * 5, rel=0.03)
    assert (found.labels[10:20, 10:20] == 1).all()
    assert (found.labels[:, :2] == 2).all()  # down the columns
    assert any("iscrowd" in note for note in found.notes)
    assert any("1 box stands for the ellipse" in note for note in found.notes)
    assert (
        len(read_outlines(f"{tmp_path / 'c.json'}#image=b.png")) == 0
    )  # listed, without an object: looked at, and empty
    assert open_annotations(tmp_path / "c.json").classes == ("red", "white")


def test_an_image_is_found_by_its_last_part_or_without_an_ending(tmp_path) -> None:
    coco(tmp_path / "c.json", images=[{"id": 1, "file_name": "x/A.tif", "height": 40, "width": 60}], annotations=[])
    for name in ("x/A.tif", "A.tif", "folder/a.TIF", "a", "a.png"):
        assert read_outlines(f"{tmp_path / 'c.json'}#image={name}").size == (40, 60)
    assert read_outlines(tmp_path / "c.json").size == (40, 60)  # the only one
    with pytest.raises(ImageError, match="does not hold this image"):
        read_outlines(f"{tmp_path / 'c.json'}#image=b")
    twice = [{"id": i, "file_name": f"{i}/a.png", "height": 4, "width": 6} for i in (1, 2)]
    coco(tmp_path / "d.json", images=twice, annotations=[])
    with pytest.raises(ImageError, match="two images of an annotation file fit"):
        read_outlines(f"{tmp_path / 'd.json'}#image=a.png")


def test_a_file_that_changes_is_read_again(tmp_path) -> None:
    coco(tmp_path / "c.json")
    assert len(read_outlines(f"{tmp_path / 'c.json'}#image=a.png")) == 3
    coco(tmp_path / "c.json", annotations=[])
    assert len(read_outlines(f"{tmp_path / 'c.json'}#image=a.png")) == 0


def test_polygons_beyond_the_image_are_cut_and_counted(tmp_path) -> None:
    far, half = [100, 100, 120, 100, 120, 120], [50, 30, 90, 30, 90, 90, 50, 90]
    rows = [{"id": i, "image_id": 1, "category_id": 3, "segmentation": [ring]} for i, ring in enumerate((SQUARE, far, half))]  # fmt: skip
    found = read_outlines(f"{coco(tmp_path / 'c.json', annotations=rows)}#image=a.png")
    assert found.areas.tolist() == [100, 100]
    assert any("1 object reaching beyond the image, cut at its border" in note for note in found.notes)
    assert any("1 object without a pixel" in note for note in found.notes)


def test_the_size_comes_from_the_image(tmp_path) -> None:
    coco(tmp_path / "c.json")
    with pytest.raises(ImageError, match="another size than the image"):
        read_outlines(f"{tmp_path / 'c.json'}#image=a.png", size=(60, 40))
    (tmp_path / "b.csv").write_text("image,xmin,ymin,xmax,ymax\na.png,1,1,9,9\n")
    with pytest.raises(ImageError, match="whose size is known"):
        read_outlines(f"{tmp_path / 'b.csv'}#image=a.png")
    with pytest.raises(ImageError, match="larger than the limit"):
        read_outlines(f"{tmp_path / 'c.json'}#image=a.png", limits=Limits(pixels=1000))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 3}]}, "belongs to no image"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 9}]}, "has no category"),
        ({"annotations": [{"id": 1, "image_id": [1], "category_id": 3}]}, "belongs to no image"),
        ({"annotations": ["x"]}, "belongs to no image"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "an id stands twice"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}]}, "one file_name"),
        ({"images": [{"id": 1}]}, "needs an id and a file_name"),
        ({"images": {}}, "no COCO file"),
    ],
)
def test_a_coco_file_that_contradicts_itself_is_refused(tmp_path, changes, words) -> None:
    with pytest.raises(ImageError, match=words):
        read_outlines(f"{coco(tmp_path / 'c.json', **changes)}#image=a.png")


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        ({"segmentation": [[1, 2, 3]]}, "x and a y"),
        ({"segmentation": [[1, 2, 3, 4, 5, "a"]]}, "are numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "are numbers|no number"),
        ({"segmentation": {"size": [50_000, 50_000], "counts": "x" * 100}}, "another size than its image"),
        ({"segmentation": {"size": "big", "counts": []}}, "has no size"),
        ({"segmentation": {"size": [40, 60], "counts": [5]}}, "do not add up"),
        ({"segmentation": {"size": [40, 60], "counts": {"a": 1}}}, "whole numbers"),
        ({}, "no segmentation and no box"),
        ({"bbox": [1, 1, -5, 5]}, "before it begins"),
        ({"bbox": [[], 1, 5, 5]}, "cannot be read"),
    ],
)
def test_a_damaged_outline_spoils_its_image_and_no_other(tmp_path, outline, words) -> None:
    rows = [{"id": 1, "image_id": 1, "category_id": 3, **outline}]
    coco(tmp_path / "c.json", annotations=rows)
    with pytest.raises(ImageError, match=words):
        read_outlines(f"{tmp_path / 'c.json'}#image=a.png")
    assert len(read_outlines(f"{tmp_path / 'c.json'}#image=b.png")) == 0


def test_a_huge_run_length_is_refused_from_its_header(tmp_path) -> None:
    images = [{"id": 1, "file_name": "a.png", "height": 2_000_000, "width": 2_000_000}]
    rows = [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": {"size": [2_000_000, 2_000_000], "counts": [4 * 10**12]}}]  # fmt: skip
    coco(tmp_path / "c.json", images=images, annotations=rows)
    tracemalloc.start()
    with pytest.raises(ImageError, match="larger than the limit"):
        read_outlines(f"{tmp_path / 'c.json'}#image=a.png")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["", "[", '{"images": [], "images": []}', '{"a": NaN}', "[" * 100_000, "\0", '"x"', "{}"]
)
def test_broken_json_is_refused(tmp_path, text) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ImageError):
        read_outlines(f"{tmp_path / 'c.json'}#image=a.png")


def test_a_cut_off_annotation_file_is_refused_at_every_length(tmp_path) -> None:
    data = coco(tmp_path / "c.json").read_bytes()
    for stop in range(0, len(data), len(data) // 16):
        (tmp_path / "d.json").write_bytes(data[:stop])
        with pytest.raises(ImageError, match=r"d\.json"):
            read_outlines(f"{tmp_path / 'd.json'}#image=a.png")


# -- XML


VOC = """<annotation><folder>x</folder><filename>a.jpg</filename><size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>WBC</name><bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object>
<object><name>RBC</name><polygon><x1>40</x1><y1>10</y1><x2>50</x2><y2>10</y2><x3>50</x3><y3>20</y3><x4>40</x4><y4>20</y4></polygon>
<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>60</xmax><ymax>40</ymax></bndbox></object>
<object><name>RBC</name><polygon><pt><x>0</x><y>30</y></pt><pt><x>5</x><y>30</y></pt><pt><x>5</x><y>35</y></pt><pt><x>0</x><y>35</y></pt></polygon></object>
</annotation>"""  # fmt: skip


def test_pascal_boxes_and_polygons_are_read(tmp_path) -> None:
    (tmp_path / "a.xml").write_text(VOC)
    found = read_outlines(tmp_path / "a.xml", size=(40, 60))
    assert found.classes == ("WBC", "RBC", "RBC")
    assert found.areas[0] == pytest.approx(np.pi * 100, rel=0.03)
    assert found.areas[1:].tolist() == [100, 25]
    with pytest.raises(ImageError, match="another size"):
        read_outlines(tmp_path / "a.xml", size=(41, 60))


def test_regions_of_imagescope_are_read(tmp_path) -> None:
    (tmp_path / "a.xml").write_text('<Annotations><Annotation Name="nucleus"><Regions><Region><Vertices><Vertex X="10" Y="10"/>'
                                    '<Vertex X="20" Y="10"/><Vertex X="20" Y="20"/><Vertex X="10" Y="20"/></Vertices></Region></Regions></Annotation></Annotations>')  # fmt: skip
    found = read_outlines(tmp_path / "a.xml", size=(40, 60))
    assert found.areas.tolist() == [100]
    assert found.classes == ("nucleus",)


def region(*boxes, **attributes):
    corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in boxes)
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<Region{said}><Vertices>{corners}</Vertices></Region>"


def test_negative_regions_of_imagescope_are_holes_and_lines_are_none(tmp_path) -> None:
    box = lambda a, b: [(a, a), (b, a), (b, b), (a, b)]
    regions = [
        region(*box(0, 40), Type=0), region(*box(10, 30), Type=1),
        region(*box(15, 20), Type=0, NegativeROA=1), region(*box(2, 6), NegativeROA=1), region(*box(36, 44), NegativeROA=1),
        region((1, 1), (9, 9), Type=4), region(*box(1, 9), Type=3), region((1, 1)),
    ]  # fmt: skip
    layers = f"<Annotation><Regions>{''.join(regions)}</Regions></Annotation>"
    (tmp_path / "a.xml").write_text(f"<Annotations>{layers}</Annotations>")
    shapes = open_annotations(tmp_path / "a.xml").shapes("a")
    outer, inner = (patch.pixels for patch in shapes.patches((50, 60)))
    assert (outer.sum(), inner.sum()) == (1600 - 16, 400 - 25)
    assert not inner[5:10, 5:10].any()
    assert not outer[2:6, 2:6].any()
    told = read_outlines(tmp_path / "a.xml", size=(50, 60)).notes
    assert "3 regions without an area (rulers, arrows, fewer than 3 corners) left out" in told
    assert "1 negative region that no region encloses left out" in told


@pytest.mark.parametrize("encoding", ["GBK", "unheard-of", "utf-7", "base64"])
def test_xml_of_an_encoding_that_is_not_read_is_refused(tmp_path, encoding) -> None:
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>{VOC}')
    with pytest.raises(ImageError, match=r"a\.xml is not valid XML"):
        read_outlines(tmp_path / "a.xml", size=(40, 60))


@pytest.mark.parametrize("row", [{"segmentation": [[*SQUARE[:-1], 10**400]]}, {"bbox": [1, 1, 10**400, 4]}, {"segmentation": {"size": [40, 60], "counts": [10**400]}}])  # fmt: skip
def test_a_number_of_hundreds_of_digits_is_refused_in_its_image_alone(tmp_path, row) -> None:
    coco(tmp_path / "c.json", annotations=[{"id": 1, "image_id": 1, "category_id": 3, **row}])
    with pytest.raises(ImageError, match=r"c\.json"):
        read_outlines(f"{tmp_path / 'c.json'}#image=a.png", size=(40, 60))
    assert len(read_outlines(f"{tmp_path / 'c.json'}#image=b.png", size=(40, 60))) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities_is_refused(tmp_path, encoding) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("WBC")
    lol = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    for head in (f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>', f'<!DOCTYPE a [<!ENTITY l0 "lol">{lol}]>'):
        (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>{head}{VOC.replace("WBC", "&l9;")}', encoding=encoding)  # fmt: skip
        with pytest.raises(ImageError, match="document type"):
            read_outlines(tmp_path / "a.xml", size=(40, 60))


@pytest.mark.parametrize("text", ["", "<a>", "<a></a>", "<a>" * 1000, VOC[:200], VOC.replace("<x1>40</x1>", ""), VOC.replace("<xmin>10", "<xmin>nan"), VOC.replace("<xmin>10", "<xmin>ten"), VOC.replace("<x>0</x>", "<x></x>")])  # fmt: skip
def test_broken_xml_is_refused(tmp_path, text) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ImageError, match=r"a\.xml"):
        read_outlines(tmp_path / "a.xml", size=(40, 60))


# -- tables


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("file,cell,xmin,ymin,xmax,ymax", "a.png,WBC,10,5,30,25"),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.png,60,40,WBC,10,5,30,25"),
        ("image_id;label;x;y;w;h", "a.png;WBC;10;5;20;20"),
        ("Image\tClass\tLeft\tTop\tWidth\tHeight", "a.png\tWBC\t10\t5\t20\t20"),
    ],
)
def test_tables_of_boxes_are_read_by_the_names_of_their_columns(tmp_path, head, row) -> None:
    (tmp_path / "b.csv").write_text(f"\ufeff{head}\n{row}\n")
    found = read_outlines(f"{tmp_path / 'b.csv'}#image=a.png", size=(40, 60))
    assert found.classes == ("WBC",)
    assert found.areas[0] == pytest.approx(np.pi * 100, rel=0.03)


def test_tables_of_run_lengths_are_read_down_columns_or_along_rows(tmp_path) -> None:
    (tmp_path / "r.csv").write_text("ImageId,EncodedPixels\na,1 80\na,161 40\nb,\n")
    found = read_outlines(f"{tmp_path / 'r.csv'}#image=a.png", size=(40, 60))
    assert found.areas.tolist() == [80, 40]
    assert (found.labels[:, :2] == 1).all()
    assert len(read_outlines(f"{tmp_path / 'r.csv'}#image=b.png", size=(40, 60))) == 0
    (tmp_path / "s.csv").write_text("id,annotation,width,height,cell_type\na,1 120,60,40,x\n")
    along = read_outlines(f"{tmp_path / 's.csv'}#image=a&order=rows", size=(40, 60))
    assert (along.labels[:2] == 1).all()
    assert along.classes == ("x",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label\na,b\n", "no table of outlines"),
        ("image,rle\na\n", "another number of cells"),
        ("image,rle\n,1 2\n", "names no image"),
        ("image,rle\na,1 x\n", "pairs of a start"),
        ("image,xmin,ymin,xmax,ymax\na,1,2,x,4\n", "sides of a box are numbers"),
        ("image,xmin,ymin,xmax,ymax\na,1,2,,4\n", "sides of a box are numbers"),
        (",".join("c" * 20_000), "too many columns"),
        ("", "no table of outlines"),
        ("image,rle\na,\0\n", "pairs of a start|cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, words) -> None:
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(ImageError, match=words):
        read_outlines(f"{tmp_path / 'b.csv'}#image=a", size=(40, 60))


def test_no_file_a_folder_and_another_kind_are_told(tmp_path) -> None:
    with pytest.raises(InputError, match="no file of annotations"):
        open_annotations(coco(tmp_path / "c.txt"))
    with pytest.raises(ImageError, match="does not exist"):
        read_outlines(f"{tmp_path / 'none.json'}#image=a")
    (tmp_path / "x.json").mkdir()
    with pytest.raises(ImageError, match="holds no masks"):
        read_outlines(tmp_path / "x.json")


# -- a folder with a mask for each object, and several masks


def test_a_folder_has_a_mask_for_each_object(tmp_path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for place, (top, left) in enumerate(((5, 5), (5, 15), (20, 30), (22, 32))):
        mask = np.zeros((40, 60), np.uint8)
        mask[top : top + 10, left : left + 10] = 255
        cv2.imwrite(str(folder / f"{place}.png"), mask)
    (folder / "notes.txt").write_text("x")
    found = read_outlines(folder, size=(40, 60))
    assert len(found) == 4
    assert found.overlapped == 64
    assert found.areas[:2].tolist() == [100, 100]  # they touch, and stay two
    assert any("1 file in the folder" in note for note in found.notes)
    first = found.digest
    cv2.imwrite(str(folder / "9.png"), np.zeros((40, 60), np.uint8))
    again = read_outlines(folder)
    assert again.digest != first
    assert any("without a pixel" in note for note in again.notes)
    cv2.imwrite(str(folder / "a.png"), np.zeros((40, 61), np.uint8))
    with pytest.raises(ImageError, match="masks: the masks of one image differ in size"):
        read_outlines(folder)


def test_several_masks_of_one_image_are_joined(tmp_path) -> None:
    for name, rows in (("a_mask.png", slice(2, 10)), ("a_mask_1.png", slice(8, 30))):
        mask = np.zeros((40, 60), np.uint8)
        mask[rows, 5:15] = 255
        cv2.imwrite(str(tmp_path / name), mask)
    found = read_outlines(f"{tmp_path / 'a_mask.png'}|{tmp_path / 'a_mask_1.png'}")
    assert len(found) == 2
    assert found.overlapped == 20
    assert found.areas.tolist() == [80, 200]


def test_a_class_mask_has_components_of_each_value(tmp_path) -> None:
    values = np.zeros((20, 30), np.uint8)
    values[2:6, 2:6], values[2:6, 6:10], values[10:14, 2:6], values[16:18, 20:22] = 1, 2, 2, 7
    cv2.imwrite(str(tmp_path / "x.png"), values)
    found = read_outlines(f"{tmp_path / 'x.png'}#classes=1:red,2:white cell")
    assert found.classes == ("red", "white cell", "white cell")
    assert found.areas.tolist() == [16, 16, 16]
    assert any("4 pixels of the values 7" in note for note in found.notes)
    with pytest.raises(ImageError, match="a class that is not asked for"):
        read_outlines(f"{tmp_path / 'x.png'}#classes=1:red,2:white", classes=("red",))
    for wrong in ("classes=0:a", "classes=1:", "classes=1:a,1:b", "classes=red", "order=up"):
        with pytest.raises(ImageError):
            read_outlines(f"{tmp_path / 'x.png'}#{wrong}")
