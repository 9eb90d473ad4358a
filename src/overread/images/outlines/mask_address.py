"""Addresses of masks, as text that fits into a cell of a table.

``labels.png``, a label image or one mask; ``masks/``, a folder with a mask for each object; ``a.png|b.png``, several
masks of one image; ``cells.png#classes=1:red,2:white``, a class mask; ``coco.json#image=a.png``, ``boxes.csv#image=a.png``,
``rle.csv#image=a&order=rows`` and ``a.xml``, shapes. Text behind a ``#`` that is none of these belongs to the address of an
image (:mod:`overread.images.address`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from overread.core.errors import ImageError, checked

_PART = r"(?:image|classes|order)=[^&#]*"
_FRAGMENT = re.compile(rf"(?s)(.+?)#({_PART}(?:&{_PART})*)\Z")
#: Which way run lengths go: down the columns (COCO, most of Kaggle), or along the rows.
ORDERS = ("columns", "rows")


@dataclass(frozen=True)
class MaskAddress:
    """A file or folder, the ``image`` of an annotation file, ``classes`` of a class mask as (number, name), and the
    ``order`` of run lengths."""

    path: str
    image: str = ""
    classes: tuple[tuple[int, str], ...] = ()
    order: str = ""

    def __str__(self) -> str:
        parts = [f"image={quote(self.image, safe='/ ')}"] if self.image else []
        parts += (
            ["classes=" + ",".join(f"{n}:{quote(name, safe=' ')}" for n, name in self.classes)] if self.classes else []
        )
        parts += [f"order={self.order}"] if self.order else []
        return f"{self.path}#{'&'.join(parts)}" if parts else self.path


@checked
def parse_mask(text: str) -> MaskAddress:
    """The address that ``text`` is. Raises :class:`ImageError` for classes that are no numbers with names.

    >>> parse_mask("coco.json#image=a.png")
    MaskAddress(path='coco.json', image='a.png', classes=(), order='')
    >>> parse_mask("cells.png#classes=1:red,2:white").classes
    ((1, 'red'), (2, 'white'))
    >>> parse_mask("a#b.png").path
    'a#b.png'
    """
    match = _FRAGMENT.match(text)
    if match is None:
        return MaskAddress(text)
    values = dict(part.split("=", 1) for part in match[2].split("&"))
    order = values.get("order", "")
    if order not in ("", *ORDERS):
        raise ImageError(
            "run lengths go down columns or along rows", given=f"order={order[:40]}", todo="write #order=rows"
        )
    return MaskAddress(match[1], unquote(values.get("image", "")), _classes(values.get("classes", "")), order)


def _classes(text: str) -> tuple[tuple[int, str], ...]:
    if not text:
        return ()
    found: dict[int, str] = {}
    for pair in text.split(","):
        number, colon, name = pair.partition(":")
        number, name = number.strip(), unquote(name).strip()
        if not (
            number.isdecimal() and len(number) < 10 and colon and name and int(number) > 0 and int(number) not in found
        ):
            raise ImageError("classes of a mask are numbers above 0 with names, each once", given=pair[:80], todo="write #classes=1:red,2:white")  # fmt: skip
        found[int(number)] = name
    return tuple(found.items())


@checked
def of_image(address: str, image: str) -> str:
    """The address of what an annotation file holds of an image.

    >>> of_image("rle.csv#order=rows", "a.png")
    'rle.csv#image=a.png&order=rows'
    """
    return str(replace(parse_mask(address), image=image))


@checked
def several(text: str) -> list[str]:
    """The addresses in one cell.

    >>> several("a_mask.png|a_mask_1.png")
    ['a_mask.png', 'a_mask_1.png']
    """
    return [part.strip() for part in text.split("|") if part.strip()]


@checked
def mask_file(text: str) -> str:
    """The file or folder of one address.

    >>> mask_file("coco.json#image=a.png"), mask_file("masks/")
    ('coco.json', 'masks/')
    """
    from overread.images.address import file_of

    return file_of(parse_mask(text).path)
