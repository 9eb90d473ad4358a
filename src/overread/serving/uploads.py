"""From the body of a request to addresses of images: into a private folder, under numbers, archives checked whole.

The names that a browser sends may hold a patient's; none is kept. Of a name only its ending stays, since some formats
of volumes are known by it; what a file is, its content says.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO

from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from overread.cases.sources.labels import natural
from overread.core.errors import ImageError, checked, nearest
from overread.core.sandbox import contained, contained_call
from overread.images.address import Address, parse
from overread.images.formats.archives import is_archive
from overread.serving.admission.refusal import Refusal
from overread.serving.policy import ServingLimits
from overread.serving.undecoded import identity, listed, within

#: The field of a form that holds files; it may stand any number of times.
FILES = "file"
_ENDING = re.compile(r"\.(?:nii\.gz|[A-Za-z0-9]{1,8})\Z")
#: What a system puts into an archive beside the files: no image, and no harm.
_LITTER = re.compile(r"(?:^|/)(?:__MACOSX/|\.DS_Store$|\._|Thumbs\.db$|desktop\.ini$|DICOMDIR$)", re.IGNORECASE)


@dataclass(frozen=True)
class Form:
    """What a request holds: ``files`` on the disk in the order they came, and the other fields."""

    files: tuple[Path, ...]
    fields: dict[str, str]


async def received(request: Request, folder: Path, limits: ServingLimits, fields: Collection[str] = ()) -> Form:
    """The files of a request, stored in ``folder`` as 00000.png, 00001.dcm …, and its other ``fields``.

    Raises :class:`Refusal`: 413 beyond a limit, 415 for another kind of body, 422 for unknown fields and for text where
    a file belongs, which is never taken for an address to fetch.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(415, "the body is no form", f"send files as multipart/form-data, in the field {FILES}")
    parser = _Parser(request.headers, request.stream(), folder=folder, max_files=limits.parts, max_fields=limits.fields)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith(("Too many", "Part exceeded")):
            raise Refusal(413, "the request has more parts than the limit, or too large a field",
                          f"the limits are {limits.parts} files and {limits.fields} fields (--parts, --fields)", code="too-many-parts") from error  # fmt: skip
        raise Refusal(400, "the form cannot be read", "send it as multipart/form-data with a boundary") from error
    try:
        return await _stored(form.multi_items(), folder, fields)
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """A parser whose large parts lie in ``folder`` while they arrive, and nowhere else on the disk."""

    def __init__(self, *given: Any, folder: Path, **limits: Any) -> None:
        super().__init__(*given, **limits)
        self._folder = folder

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if (upload := self._current_part.file) is not None:
            upload.file.close()
            spool = SpooledTemporaryFile(self.spool_max_size, dir=str(self._folder))  # noqa: SIM115 - closed with the form
            self._files_to_close_on_error.append(spool)
            upload.file = spool  # type: ignore[assignment]


async def _stored(items: Sequence[tuple[str, UploadFile | str]], folder: Path, known: Collection[str]) -> Form:
    files: list[Path] = []
    fields: dict[str, str] = {}
    for name, value in items:
        if name not in (FILES, *known):
            raise Refusal(422, "the form has a field that is not known", nearest(name[:40], (FILES, *known)))
        if isinstance(value, UploadFile):
            if name != FILES:
                raise Refusal(422, "a field that holds text holds a file", f"send files in the field {FILES}")
            path = folder / f"{len(files):05}{_ending(value.filename or '')}"
            await to_thread.run_sync(_copy, value.file, path)
            files.append(path)
        elif name == FILES:
            raise Refusal(
                422, "the field for files holds text", "send the file itself; an address is never fetched from here"
            )
        elif name in fields:
            raise Refusal(422, "a field stands twice in the form", name)
        else:
            fields[name] = value
    if not files:
        raise Refusal(422, "there is no file in the form", f"send one or several in the field {FILES}")
    return Form(tuple(files), fields)


def _copy(source: BinaryIO, path: Path) -> None:
    with open(path, "xb") as target:
        shutil.copyfileobj(source, target)


def _ending(name: str) -> str:
    match = _ENDING.search(name)
    return match[0].lower() if match else ""


# -- which images there are in them ---------------------------------------------------------------------------------


@checked
def images_of(files: Sequence[Path], limits: ServingLimits) -> list[str]:
    """The addresses of all images in ``files``, members of archives among them, each within the limit of pixels.

    Read in a process of its own. Raises :class:`ImageError` where an archive is not plain or an image is too large, and
    :class:`Refusal`, 413, where an archive holds more files than a request may.
    """
    found: list[str] = []
    for file in files:
        if not is_archive(file):
            found.append(str(file))
            continue
        inside = sorted(contained_call(listed, str(file), limits.inflated_bytes, limits.parts), key=natural)
        found += [str(Address(str(file), entry=name)) for name in inside if not _LITTER.search(name)]
    if not found:
        raise ImageError("the archive holds no file")
    if len(found) > limits.parts:
        raise Refusal(
            413, "there are more files than the limit", f"the limit is {limits.parts} (--parts)", code="too-many-parts"
        )
    return found


@checked
def require_pixels(addresses: Sequence[str], limits: ServingLimits) -> None:
    """Raise :class:`ImageError` for the first image that is larger than the limit, or whose head cannot be read.

    Heads are read in a process of their own, and nothing is decoded.
    """
    for outcome in contained(within, ((address,) for address in addresses), common=(limits.pixels,), workers=1):
        if isinstance(outcome, ImageError):
            raise outcome


@checked
def patient_of(addresses: Sequence[str]) -> str:
    """The patient that DICOM headers of one case name; blank where none does.

    Raises :class:`Refusal` where they name several.
    """
    found = contained(identity, ((address,) for address in addresses), workers=1)
    names = {each[1] for each in found if not isinstance(each, ImageError)} - {""}
    if len(names) > 1:
        raise Refusal(422, f"the files are of {len(names)} patients", "send the images of one case", code="patients")
    return names.pop() if names else ""


@checked
def one_case(addresses: Sequence[str], *, volume: bool) -> list[str]:
    """The addresses of one case: of a network that sees volumes several DICOM files are the slices of one series.

    Raises :class:`Refusal` where several files cannot be one volume: nothing that was sent is left out.
    """
    if not volume or len(addresses) == 1:
        return list(addresses)
    parsed = [parse(address) for address in addresses]
    found = list(contained(identity, ((address,) for address in addresses), workers=1))
    series = {"" if isinstance(each, ImageError) else each[0] for each in found}
    todo = "send one file, or the DICOM files of one series"
    if "" in series:
        raise Refusal(422, "several files are not one volume", todo, code="not-one-volume")
    if len(series) > 1:
        raise Refusal(422, f"the files are of {len(series)} series", todo, code="not-one-volume")
    first, places = parsed[0], {(Path(each.path).parent, each.entry.rpartition("/")[0]) for each in parsed}
    if len(places) > 1 or len({each.path for each in parsed if each.entry}) > 1:
        raise Refusal(422, "the files of the series do not lie in one folder", todo, code="not-one-volume")
    return [str(Address(first.path, entry=first.entry, series=True))]
