"""Read an image by its content, from a short list of allowed formats, under limits: the one door.

Every oddity has one defined conversion: EXIF rotation is applied; palettes become colour; CMYK becomes RGB by (1 −
ink)(1 − black); alpha is composited onto black; 1 to 7 bits are stretched to 8, 9 to 15 to 16; 16 bits stay 16 bits;
MINISWHITE and MONOCHROME1 are inverted last. NaN and infinity are refused. The digest is of the bytes decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from overread.core.errors import ArgumentError, ImageError, checked
from overread.core.files import sha256
from overread.images.address import Address, parse
from overread.images.formats import npz
from overread.images.formats.archives import address_bytes, head_bytes
from overread.images.formats.signatures import FORMATS, VOLUMES, sniff
from overread.images.frame_view import frames_digest, read_frames
from overread.images.image import LIMITS, Image, Limits, broken_as, image_of, printable, read_bytes

_NOWHERE = Address("")
_READERS = {row.name: row for row in FORMATS}
#: Endings of volumes: only their first bytes are read here.
_VOLUME_ENDINGS = tuple(ending for row in FORMATS if not row.reader for ending in row.endings)
_EXTENSIONS = {ending: row.name for row in FORMATS if row.reader for ending in row.endings}


@checked
def read_image(
    source: str | os.PathLike[str] | bytes,
    *,
    limits: Limits = LIMITS,
    at_least: tuple[int, int] | None = None,
    window: str = "",
) -> Image:
    """Read one image from a path, an address (see :mod:`.address` and :mod:`.npz`) or bytes, by content.

    ``at_least`` (height, width) lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size while it stays at
    least that large on both sides: quicker, and the pixels differ from a box average by about half a grey
    level. ``window`` (see :func:`.parse_window`) brings DICOM and volumes to grey: by default as the file says.

    Raises :class:`ImageError` for what is missing, empty, cut off, damaged, too large, not finite or not of
    an allowed format. The message names the file, never its folder or the patient; ``error.reason`` is the
    message without the name.
    """
    with naming(source):
        if isinstance(source, bytes):
            return _decode(source, _NOWHERE, limits, at_least, window)
        return _read(os.fspath(source), limits, at_least, window)


@checked
def content_digest(address: str | os.PathLike[str], *, limits: Limits = LIMITS) -> str:
    """The digest that :func:`read_image` would report, without decoding. Raises :class:`ImageError` as it does."""
    with naming(address):
        return _digest(os.fspath(address), limits)


@checked
def shown(text: str) -> str:
    """The name of an address in messages: without the folder, in printable characters.

    >>> shown("patient-17/study.zip#entry=IM/0001&frame=3"), shown("data/lungs.npz#test/12")
    ('study.zip#entry=0001&frame=3', 'lungs.npz#test/12')
    """
    if npz.is_address(text):
        return printable(npz.short_name(text))
    try:
        address = parse(text)
    except (ImageError, ArgumentError):
        return printable(Path(text).name)
    short_one = replace(address, path=Path(address.path).name, entry=address.entry.rpartition("/")[2])
    return printable(str(short_one))


@checked
@contextmanager
def naming(source: str | os.PathLike[str] | bytes) -> Iterator[None]:
    """Give errors the name of their source; a file may have put anything into what is told of it."""
    try:
        with broken_as("the image is damaged"):
            yield
    except ImageError as error:  # others: a window that is none
        name = "bytes" if isinstance(source, bytes) else shown(os.fspath(source))
        given = None if error.given is None else printable(str(error.given))
        named = ImageError(f"{name}: {printable(error.what)}", given=given, todo=printable(error.todo))
        named.reason = printable(str(error))
        raise named from error


def _read(text: str, limits: Limits, at_least: tuple[int, int] | None, window: str) -> Image:
    if npz.is_address(text):
        return _from_array(text, limits)
    address = _parsed(text)
    if address.frames:
        pixels, notes, digest, kind = read_frames(address, limits, lambda one: _read(one, limits, None, window).pixels)
        return image_of(pixels, kind, digest, notes)
    if address.whole_slide:
        from overread.images.slides import slide

        pixels, notes, digest, kind = slide.read_address(address, limits)
        return image_of(pixels, kind, digest, notes)
    if _is_volume(address):
        return _volume(address, limits, window)
    try:
        return _decode(address_bytes(address, limits), address, limits, at_least, window)
    except ImageError as error:
        told = _or_as_slide(error, address)
        if told is error:
            raise  # with the cause that it has
        raise told from error


def _or_as_slide(error: ImageError, address: Address) -> ImageError:
    """An error of a whole file; where that is a slide, with how a slide is read."""
    from overread.images.slides.slide import is_slide

    if address.entry or address.frame is not None or not address.path or not is_slide(address.path):
        return error
    first = f"{error.todo.rstrip('.')}, or read it" if error.todo else "read it"
    return ImageError(error.what, given=error.given, todo=f"{first} as a slide, with #slide behind its name")


def _digest(text: str, limits: Limits) -> str:
    if npz.is_address(text):
        return npz.digest(npz.read_row(text, limits.pixels))
    address = _parsed(text)
    if address.frames:
        return frames_digest(address, limits)
    if address.whole_slide:
        from overread.images.slides import slide

        return slide.address_digest(address)
    if not _is_volume(address):
        data = address_bytes(address, limits)
        if sniff(data) not in VOLUMES:
            return _digest_of(data, address)
    from overread.images.volumes import volume

    return volume.digest_of(address, limits)


def _parsed(text: str) -> Address:
    try:
        return parse(text)
    except ArgumentError as error:
        raise ImageError(error.what, given=error.given, todo=error.todo) from error


def _is_volume(address: Address) -> bool:
    """Whether :mod:`.volume` reads it: a plane, a series, or a file that ends like a volume and is one."""
    if address.series or address.plane or address.nan:
        return True
    if address.entry or not address.path.lower().endswith(_VOLUME_ENDINGS):
        return False
    return sniff(head_bytes(address, LIMITS, 4096)) in VOLUMES


def _volume(address: Address, limits: Limits, window: str) -> Image:
    from overread.images.volumes import volume

    with broken_as("the volume is damaged"):
        pixels, notes, digest, kind = volume.read_image_of(address, limits, window)
    return image_of(pixels, kind, digest, notes)


def _decode(data: bytes, address: Address, limits: Limits, at_least: tuple[int, int] | None, window: str) -> Image:
    kind = _kind(data, address)
    if kind in VOLUMES:
        if not address.path:
            raise ImageError("a volume is read from a file, not from bytes", given=kind)
        return _volume(address, limits, window)
    row, frame = _READERS[kind], address.frame
    if frame is not None and frame < 0:
        raise ImageError("frames are counted from 0", given=frame)
    if frame and "frame" not in row.options:
        raise ImageError("the file has one frame", given=f"frame {frame} of a {kind}")
    offered = {"at_least": at_least, "window": window, "frame": frame, "most": limits.frames}
    assert row.reader is not None
    pixels, notes = row.reader(data, limits.check, **{name: offered[name] for name in row.options})
    ending = os.path.splitext(address.entry or address.path)[1]
    claimed = _EXTENSIONS.get(ending.lower())
    if claimed not in (None, kind):
        notes = (f"extension {ending}, content {kind}", *notes)
    return image_of(pixels, kind, _digest_of(data, address), notes)


def _kind(data: bytes, address: Address) -> str:
    """The format; of the voxels of Analyze, which have no mark, the error says what they are by the file beside them."""
    try:
        return sniff(data)
    except ImageError:
        if address.path.lower().endswith(".img") and not address.entry:
            header = Path(address.path).with_suffix(".hdr")
            if header.is_file():
                sniff(read_bytes(header, most=4096))
        raise


def _digest_of(data: bytes, address: Address) -> str:
    """Of the bytes; two frames of one file are two images."""
    digest = sha256(data)
    return digest if address.frame is None else sha256(f"{digest}#frame={address.frame}".encode())


def _from_array(address: str, limits: Limits) -> Image:
    row = npz.read_row(address, limits.pixels)
    digest = npz.digest(row)
    if row.ndim == 2 or (row.ndim == 3 and row.shape[-1] not in (1, 3)):
        row = row[..., None]
    if row.ndim not in (3, 4) or row.shape[-1] not in (1, 3) or (row.ndim == 4 and row.shape[-1] != 1):
        raise ImageError("a row of the array is not an image", given=f"shape {row.shape}")
    return image_of(row, "array", digest, ())
