"""COCO's JSON of instances: polygons, run lengths (compressed or not) and boxes of many images (cocodataset.org, "Data format")."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from overread.core.errors import ImageError, InputError, checked
from overread.core.files import read_json
from overread.core.phrases import count
from overread.images.outlines.outline_shapes import (
    ImageShapes,
    Polygons,
    Runs,
    Shape,
    box_of,
    counts_of,
    ring_of,
    runs_of_counts,
)

#: Objects that one file may hold.
MOST_OBJECTS = 20_000_000


@checked
def read_coco(path: Path) -> dict[str, ImageShapes]:
    """The shapes of each image by its ``file_name``; an image without annotations has none.

    Regions of many objects (``iscrowd``) are left out, and that is said. Raises :class:`InputError` for what is no COCO,
    an image or a category that stands twice, and objects of unknown images or categories.
    """
    held = read_json(path)
    if (
        not isinstance(held, dict)
        or not isinstance(held.get("images"), list)
        or not isinstance(held.get("annotations", []), list)
    ):
        raise InputError(f"{path.name} is no COCO file of instances", given=_kind(held), todo='its keys are "images", "annotations" and "categories"')  # fmt: skip
    images, names = _by_id(held["images"], "file_name", path), _by_id(held.get("categories") or [], "name", path)
    if len(set(images.values())) < len(images):
        raise InputError(
            f"two images of {path.name} have one file_name", given=f"{len(images) - len(set(images.values())):,}"
        )
    shapes: dict[Any, list[tuple[Shape | ImageError, str]]] = defaultdict(list)
    crowds: dict[Any, int] = defaultdict(int)
    sizes = {row["id"]: _size(row) for row in held["images"]}
    for row in held.get("annotations", []):
        image, category = (
            (row.get(key) for key in ("image_id", "category_id")) if isinstance(row, dict) else (None, None)
        )
        if not isinstance(image, int | str) or image not in images:
            raise InputError(f"an object of {path.name} belongs to no image", given=f"image_id {image!r}"[:80])
        if names and (not isinstance(category, int | str) or category not in names):
            raise InputError(f"an object of {path.name} has no category", given=f"category_id {category!r}"[:80])
        if row.get("iscrowd") in (1, True):
            crowds[image] += 1
        else:
            shapes[image].append((_shape(row, sizes[image]), names.get(category, "")))
    return {
        name: ImageShapes(tuple(shapes.get(key, ())), sizes[key], _crowded(crowds.get(key, 0)))
        for key, name in images.items()
    }


def _kind(held: Any) -> str:
    return f"keys {', '.join(map(str, list(held)[:8]))}" if isinstance(held, dict) else type(held).__name__


def _crowded(many: int) -> tuple[str, ...]:
    return (f"{count(many, 'region')} of many objects (iscrowd) left out",) if many else ()


def _by_id(rows: list[Any], key: str, path: Path) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for row in rows:
        number, name = (row.get(each) for each in ("id", key)) if isinstance(row, dict) else (None, None)
        if not isinstance(number, int | str) or not isinstance(name, str) or not name:
            raise InputError(f"{path.name}: each needs an id and a {key}", given=repr(row)[:80])
        if number in found:
            raise InputError(f"{path.name}: an id stands twice", given=f"{key} {name!r} and {found[number]!r}")
        found[number] = name
    return found


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    height, width = row.get("height"), row.get("width")
    good = all(isinstance(side, int) and 0 < side < 2**31 for side in (height, width))
    return (int(height), int(width)) if good else None  # type: ignore[arg-type]


def _shape(row: dict[str, Any], size: tuple[int, int] | None) -> Shape | ImageError:
    """The shape of one object; its error where it cannot be read, so that other images can."""
    try:
        held = row.get("segmentation")
        if isinstance(held, dict):
            return _runs(held, size)
        if isinstance(held, list) and held:
            return Polygons(tuple(map(ring_of, held)))
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise ImageError(
                "an object has no segmentation and no box", given=f"keys {', '.join(map(str, list(row)[:8]))}"
            )
        left, top, width, height = (float(value) for value in box)
        return box_of(left, top, left + width, top + height)
    except ImageError as error:
        return error
    except (TypeError, ValueError, OverflowError) as error:  # an integer may have more digits than a float holds
        return ImageError("an object's outline cannot be read", given=str(error)[:80])


def _runs(held: dict[str, Any], size: tuple[int, int] | None) -> Runs:
    sides, counts = held.get("size"), held.get("counts")
    if (
        not isinstance(sides, list)
        or len(sides) != 2
        or not all(isinstance(side, int) and 0 < side < 2**31 for side in sides)
    ):
        raise ImageError("a run length has no size", given=str(sides)[:80])
    shape = int(sides[0]), int(sides[1])
    if size is not None and shape != size:  # before a count is looked at
        raise ImageError(
            "a run length is of another size than its image",
            given=f"{shape[1]} × {shape[0]} for {size[1]} × {size[0]} pixels",
        )
    if not isinstance(counts, str | list):
        raise ImageError("the counts of a run length are whole numbers", given=type(counts).__name__)
    return runs_of_counts(counts_of(counts) if isinstance(counts, str) else counts, shape)
