"""Tables of objects, a row each: boxes, or run lengths as Kaggle writes them; an image on a row without either has no objects."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from overread.core.errors import ImageError, InputError, checked
from overread.images.outlines.outline_shapes import MOST_RUNS, ImageShapes, Shape, box_of, runs_of_pairs

#: Names that tables in the field use, folded: of the image, the run length, the class, and the sides of a box.
IMAGE = ("image", "imageid", "file", "filename", "id", "img", "imgid", "name", "imagefile", "imagepath", "path")
RUNS = ("encodedpixels", "rle", "rlemask", "annotation", "mask", "segmentation", "runs")
CLASS = ("class", "label", "cell", "celltype", "classname", "classid", "category", "type", "object")
#: Of a box: left, top, right and bottom; or left, top, width and height.
SIDES = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
CORNERS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"),
           ("xmin", "ymin", "width", "height"))  # fmt: skip
_MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class _Columns:
    """Which column holds what, as positions; ``box`` with its two last as sides or, if ``wide``, as width and height."""

    image: int
    name: int | None
    runs: int | None
    box: tuple[int, ...]
    wide: bool
    size: tuple[int, int] | None

    @classmethod
    def of(cls, names: list[str], path: Path) -> _Columns:
        image, runs = _first(names, IMAGE), _first(names, RUNS)
        words = next((words for words in (*SIDES, *CORNERS) if set(words) <= set(names)), ())
        if image is None or (runs is None and not words):
            raise InputError(f"{path.name} is no table of outlines", given=f"columns {', '.join(names[:20])}",
                             todo="it needs a column of images, and run lengths (rle) or boxes (xmin,ymin,xmax,ymax)")  # fmt: skip
        wide = runs is None and words in CORNERS
        sized = not wide and {"height", "width"} <= set(names)
        size = (names.index("height"), names.index("width")) if sized else None
        box = tuple(map(names.index, words)) if runs is None else ()
        return cls(image, _first(names, CLASS), runs, box, wide, size)

    def shape(self, row: list[str]) -> Shape | ImageError | None:
        """The shape on a row; None where nothing stands there, its error where it cannot be read."""
        try:
            if self.runs is not None:
                text = row[self.runs].strip()
                return None if text in ("", "-1") else runs_of_pairs(text)
            if not any(row[place].strip() for place in self.box):
                return None
            left, top, right, bottom = (float(row[place]) for place in self.box)
            return box_of(left, top, left + right, top + bottom) if self.wide else box_of(left, top, right, bottom)
        except ImageError as error:
            return error
        except ValueError as error:
            return ImageError("the sides of a box are numbers", given=str(error)[:80])

    def sides(self, row: list[str]) -> tuple[int, int] | None:
        """Height and width of the image, where the table says them."""
        cells = [row[place].strip() for place in self.size or ()]
        good = len(cells) == 2 and all(cell.isdecimal() and 0 < int(cell) < 2**31 for cell in cells)
        return (int(cells[0]), int(cells[1])) if good else None


@checked
def read_outline_table(path: Path) -> dict[str, ImageShapes]:
    """The shapes of each image by its name. Raises :class:`InputError` for a table without the columns, or a damaged one."""
    csv.field_size_limit(16 * MOST_RUNS)
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            head = handle.readline(1 << 20)
            if head.count(",") > _MOST_COLUMNS:
                raise InputError("the table has too many columns", given=f"{head.count(','):,}")
            handle.seek(0)
            return _read(handle, max(",\t;", key=head.count), path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("the table of outlines cannot be read", given=f"{path.name}: {error}"[:120]) from error


def _read(handle: TextIO, separator: str, path: Path) -> dict[str, ImageShapes]:
    table = csv.reader(handle, delimiter=separator)
    names = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in next(table, [])]
    columns = _Columns.of(names, path)
    shapes: dict[str, list[tuple[Shape | ImageError, str]]] = defaultdict(list)
    sizes: dict[str, tuple[int, int] | None] = {}
    for row in table:
        if not any(row):
            continue
        image = row[columns.image].strip() if len(row) == len(names) else ""
        if not image:
            what = "names no image" if len(row) == len(names) else "has another number of cells than the header"
            raise InputError(f"{path.name}: a row {what}", given=f"line {table.line_num:,}")
        sizes.setdefault(image, columns.sides(row))
        held, shape = shapes[image], columns.shape(row)
        if shape is not None:
            held.append((shape, row[columns.name].strip() if columns.name is not None else ""))
    return {image: ImageShapes(tuple(held), sizes[image]) for image, held in shapes.items()}


def _first(names: list[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(word) for word in wanted if word in names), None)
