"""What can be said of a file before anything in it is decoded: run in the processes that decode, so it imports little."""

from __future__ import annotations

from contextlib import suppress

from overread.core.errors import checked
from overread.images.address import parse
from overread.images.dicom.header import header_of, read_header
from overread.images.formats.archives import ArchiveLimits, members, open_member
from overread.images.image import Limits
from overread.images.read import read_image


@checked
def listed(path: str, total: int, count: int) -> list[str]:
    """The members of an archive that inflates to at most ``total`` bytes in at most ``count`` members."""
    return members(path, limits=ArchiveLimits(members=count, total_bytes=total, member_bytes=total))


@checked
def within(source: str | bytes, pixels: int) -> bool:
    """Whether the head of an image says that it has at most ``pixels``. Raises :class:`ImageError` if not."""
    with suppress(_Enough):
        read_image(source, limits=_HeadOnly(pixels=pixels))
    return True


@checked
def identity(address: str) -> list[str]:
    """The series and the patient that a DICOM header names, blank where it does not. Raises :class:`ImageError` for other files."""
    at = parse(address)
    if not at.entry:
        header = read_header(at.path)
    else:
        with open_member(at.path, at.entry) as handle:
            header = header_of(handle)
    return [header.series, header.patient]


class _Enough(BaseException):
    """The head was read, and the size allowed: nothing is decoded. No ``Exception``, which readers take for damage."""


class _HeadOnly(Limits):
    """Limits that stop a reader where it has asked whether the image may be decoded."""

    def check(self, height: int, width: int, frames: int = 1, *, each: int = 1) -> None:
        """As :meth:`Limits.check`, and then no further."""
        super().check(height, width, frames, each=each)
        raise _Enough
