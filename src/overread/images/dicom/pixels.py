"""DICOM: one frame or several, of every kind and coding, to grey or RGB pixels or to physical values.

Grey images that are stored in 8 bits without rescale, window or table stay as they are; all others become 16 bits,
black to white by the table or the first window of the file, by a window that the user names, or from the smallest to
the largest value. Padding becomes black. A window that the user gives is one of physical values (Hounsfield units for
CT), whatever the file has of its own; 8-bit samples without rescale are no physical values and keep theirs. Nothing
but pixels leaves this module: no tag, no name. See :mod:`.dicom_parse`, :mod:`.dicom_frames`, :mod:`.dicom_codecs`
and :mod:`.dicom_values` for the steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import ImageError, checked
from overread.images import windows
from overread.images.dicom import values as dicom_values
from overread.images.dicom.frames import GREY, YBR, Layout, decode_frame, layout
from overread.images.dicom.parse import PER_FRAME, Parsed, parse, text
from overread.images.dicom.values import Meaning, meaning
from overread.images.windows import Window

Check = Callable[[int, int, int], None]
Notes = tuple[str, ...]


@checked
def decode(
    data: bytes, check: Check, *, window: str = "", frame: int | None = None
) -> tuple[NDArray[Any], Notes]:
    """Pixels and notes from the bytes of a DICOM file.

    (H, W, 1) or (H, W, 3), or (D, H, W, 1) for a film in grey; uint8 or uint16. ``frame``: only that one, from 0; of
    a film in colour it is the first where none is named. ``window``: see :func:`.windows.parse_window`.
    ``check(height, width, frames)`` is asked before anything is decoded.

    Raises :class:`ImageError` for what is no image, cut off, damaged, of a kind that is not read, or in contradiction
    with itself, and :class:`.InputError` for a window that is not known.
    """
    chosen = windows.parse_window(window)
    with _discreet():
        parsed = parse(data)
        made = layout(parsed, check, one=frame is not None)
        if made.photometric not in GREY:
            return _colour(parsed, made, frame, chosen)
        pixels, notes = _grey(parsed, made, frame, chosen, window)
        return (pixels[0] if made.frames == 1 or frame is not None else pixels)[..., None], notes


@checked
def physical(data: bytes, check: Check, *, frame: int | None = None) -> tuple[NDArray[Any], Notes]:
    """Physical values (frames, H, W) of a grey DICOM file, before any window: Hounsfield units for CT, Gy for doses.

    int16 where all values are whole and fit, else float32; one frame where ``frame`` names it. The notes say how
    samples became values. Raises :class:`ImageError` as :func:`decode` does, and for colour.
    """
    with _discreet():
        parsed = parse(data)
        made = layout(parsed, check, one=frame is not None)
        if made.photometric not in GREY:
            raise ImageError(
                "colours are no physical values", given=made.photometric, todo="read it as an image"
            )
        numbers = _numbers(made, frame)
        means = _meanings(parsed, made, numbers)
        values = np.empty((len(numbers), made.rows, made.columns), np.float32)
        whole = True
        for place, number, mean in zip(values, numbers, means):
            exact = mean.values(decode_frame(parsed, made, number).pixels)
            whole = whole and bool(np.abs(exact).max() < 2**15 and np.array_equal(exact, np.rint(exact)))
            place[:] = _finite(exact.astype(np.float32))
    note = "samples are the values" if means[0].plain else "rescaled"
    return values.astype(np.int16) if whole else values, (note,)


@checked
def stored(data: bytes, check: Check, *, frame: int | None = None) -> NDArray[Any]:
    """Samples as stored, (frames, H, W) or (frames, H, W, 3): before rescale, palette and conversion of colour.

    Samples of JPEG 2000 that the code mixed come as RGB. Raises :class:`ImageError` as :func:`decode` does.
    """
    with _discreet():
        parsed = parse(data)
        made = layout(parsed, check, one=frame is not None)
        return np.stack([decode_frame(parsed, made, n).pixels for n in _numbers(made, frame)])


@contextmanager
def _discreet() -> Iterator[None]:
    """What pydicom says of a header may quote a tag: oddities are no warnings, and damage is an error of ours."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (BytesLengthException, InvalidDicomError) as error:  # neither is a ValueError
            raise ImageError("the DICOM file is damaged", given=type(error).__name__) from None


def _numbers(made: Layout, frame: int | None) -> list[int]:
    return [frame] if frame is not None else list(range(made.frames))


def _meanings(parsed: Parsed, made: Layout, numbers: list[int]) -> list[Meaning]:
    """What the samples of each frame mean; the same for all where frames have no groups of their own."""
    if PER_FRAME in parsed.items:
        return [meaning(parsed, made, number) for number in numbers]
    return [meaning(parsed, made, 0)] * len(numbers)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(values).all():
        raise ImageError("the image holds NaN or infinite pixels")
    return values


# -- grey ------------------------------------------------------------------------------------------------


def _grey(
    parsed: Parsed, made: Layout, frame: int | None, chosen: Window | None, name: str
) -> tuple[NDArray[Any], Notes]:
    """Frames (D, H, W) as uint8 as stored, or as uint16 from black to white."""
    numbers = _numbers(made, frame)
    means = _meanings(parsed, made, numbers)
    frames = [decode_frame(parsed, made, number) for number in numbers]
    samples = [one.pixels for one in frames]
    notes: Notes = (f"frame {frame} of {made.frames}",) if frame is not None and made.frames > 1 else ()
    display = samples[0].dtype == np.uint8 and means[0].plain  # 8 bits to be seen, not measured
    if display and chosen not in (None, windows.FULL):
        chosen, notes = (
            None,
            (*notes, f"window {name[:40]} not applied: 8-bit samples are no physical values"),
        )
    as_stored = display and chosen is None and not means[0].note
    if as_stored:
        grey, note = np.stack([dicom_values.stretch(one, frames[0].bits) for one in samples]), "as stored"
    else:
        grey, note = _of_interest(parsed, made, samples, means, chosen)
    notes = (*notes, note)
    if made.photometric == "MONOCHROME1":
        grey, notes = np.iinfo(grey.dtype).max - grey, (*notes, "MONOCHROME1 inverted")
    if not as_stored:
        _blacken(parsed, made, samples, grey)
    return grey, notes


def _of_interest(
    parsed: Parsed, made: Layout, samples: list[NDArray[Any]], means: list[Meaning], chosen: Window | None
) -> tuple[NDArray[np.uint16], str]:
    """Frames as uint16 by the window that is chosen, else by what the file says, else over the whole range."""
    own = chosen is None and all(mean.note for mean in means)
    low, high = (0.0, 0.0)
    if chosen is windows.FULL or (chosen is None and not own):
        chosen, note = None, "smallest to largest value"
        low, high = _ends(parsed, made, samples, means)
    elif own:
        note = means[0].note + (", each frame its own" if len({mean.note for mean in means}) > 1 else "")
    else:
        assert chosen is not None
        note = f"window {chosen.centre:g}/{chosen.width:g}"
        if text(parsed.head, "Modality") not in ("CT", ""):
            note += ", of values that may not be Hounsfield units"
    grey = np.empty((len(samples), made.rows, made.columns), np.uint16)
    for place, one, mean in zip(grey, samples, means):
        values = _finite(mean.values(one))
        if own:
            shade = mean.grey(values)
        elif chosen is not None:
            shade = windows.apply(values, chosen)
        else:
            shade = windows.between(values, low, high)
        place[:] = np.rint(shade * 65535)
    return grey, note


def _ends(
    parsed: Parsed, made: Layout, samples: list[NDArray[Any]], means: list[Meaning]
) -> tuple[float, float]:
    """Smallest and largest value of all frames, padding left out."""
    ends: list[float] = []
    for one, mean in zip(samples, means):
        values, padded = mean.values(one), dicom_values.padding(parsed, made, one)
        ends += windows.spanning(values if padded is None or padded.all() else values[~padded])
    return min(ends), max(ends)


def _blacken(parsed: Parsed, made: Layout, samples: list[NDArray[Any]], grey: NDArray[Any]) -> None:
    for one, shade in zip(samples, grey):
        padded = dicom_values.padding(parsed, made, one)
        if padded is not None:
            shade[padded] = 0


# -- colour ----------------------------------------------------------------------------------------------


def _colour(
    parsed: Parsed, made: Layout, frame: int | None, chosen: Window | None
) -> tuple[NDArray[Any], Notes]:
    """One frame as RGB (H, W, 3), uint8 or uint16."""
    one = decode_frame(parsed, made, frame or 0)
    notes: Notes = ()
    if made.frames > 1:
        notes = (
            (f"frame {frame} of {made.frames}",) if frame is not None else (f"first of {made.frames} frames",)
        )
    notes += ("window not applied: the image is in colour",) if chosen is not None else ()
    if made.photometric == "PALETTE COLOR":
        return dicom_values.palette(parsed, made, one.pixels), (*notes, "palette converted to RGB")
    pixels = one.pixels.view(f"u{one.pixels.dtype.itemsize}")
    if one.photometric in YBR:
        pixels, notes = dicom_values.ybr_to_rgb(pixels, one.bits), (*notes, "YBR converted to RGB")
    notes += (f"{one.bits} bits reduced to 16",) if one.bits > 16 else ()
    return np.ascontiguousarray(dicom_values.stretch(pixels, one.bits)), notes
