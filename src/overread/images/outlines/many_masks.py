"""Masks from anywhere, read where a malicious file can do no harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from overread.core.errors import ImageError, checked
from overread.core.sandbox import contained
from overread.images.outlines.outlines import Outlines, read_outlines


@checked
def read_masks(
    addresses: Sequence[str], *, sizes: Sequence[tuple[int, int]] = (), classes: Sequence[str] = (), workers: int = 0
) -> Iterator[Outlines | ImageError]:
    """The outlines at each address, in their order, or why they cannot be read: see :func:`.read_outlines`.

    ``sizes``: (height, width) of each image, where it is known. ``workers``: processes that read, 0 for a core each.
    """
    known = [list(size) for size in sizes] or [[]] * len(addresses)
    tasks = ((address, size, list(classes)) for address, size in zip(addresses, known, strict=True))
    return contained(outlines_at, tasks, workers=workers)


@checked
def outlines_at(address: str, size: list[int], classes: list[str]) -> Outlines:
    """:func:`.read_outlines`, as a process of its own is asked."""
    return read_outlines(address, size=(size[0], size[1]) if size else None, classes=classes)
