"""DICOM: one frame or several, of every kind and coding, to grey or RGB pixels or to physical values.

Grey images that are stored in 8 bits without rescale, window or table stay as they are; all others become 16 bits,
black to white by the table or the first window of the file, by a window that the user names, or from the smallest to
the largest value. Padding becomes black. A window that the user gives is one of physical values (Hounsfield units for
CT), whatever the file has of its own; 8-bit samples without rescale are no physical values and keep theirs. Nothing but
pixels leaves this module: no tag, no name. See :mod:`.elements` and :mod:`.frame_view` for the steps before.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.conversions import FULL, Window, between, parse_window, spanning, stretched, strips, windowed
from overread.images.dicom.elements import MODALITY_LUT, PER_FRAME, SHARED, VOI_LUT, Parsed, parse, raw, text
from overread.images.dicom.frames import GREY, YBR, Frame, Layout, beyond, decode_frame, interpret, layout
from overread.images.image import DOUBT, broken_as, finite

Check = Callable[..., None]
Notes = tuple[str, ...]


@checked
def decode(data: bytes, check: Check, *, window: str = "", frame: int | None = None) -> tuple[NDArray[Any], Notes]:
    """Pixels and notes from the bytes of a DICOM file.

    (H, W, 1) or (H, W, 3), or (D, H, W, 1) for a film in grey; uint8 or uint16. ``frame``: only that one, from 0; of
    a film in colour it is the first where none is named. ``window``: see :func:`.parse_window`.
    ``check(height, width, frames)`` is asked before anything is decoded.

    Raises :class:`ImageError` for what is no image, cut off, damaged, of a kind that is not read, or in contradiction
    with itself, and :class:`.InputError` for a window that is not known.
    """
    chosen = parse_window(window)
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
            raise ImageError("colours are no physical values", given=made.photometric, todo="read it as an image")
        numbers = _numbers(made, frame)
        means = _meanings(parsed, made, numbers)
        values = np.empty((len(numbers), made.rows, made.columns), np.float32)
        whole = True
        for place, number, mean in zip(values, numbers, means):
            exact = mean.values(decode_frame(parsed, made, number).pixels)
            whole = whole and bool(np.abs(exact).max() < 2**15 and np.array_equal(exact, np.rint(exact)))
            place[:] = finite(exact.astype(np.float32))
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
    with warnings.catch_warnings(), broken_as("the DICOM file is damaged"):
        warnings.simplefilter("ignore")
        yield


def _numbers(made: Layout, frame: int | None) -> list[int]:
    return [frame] if frame is not None else list(range(made.frames))


def _meanings(parsed: Parsed, made: Layout, numbers: list[int]) -> list[Meaning]:
    """What the samples of each frame mean; the same for all where frames have no groups of their own."""
    if PER_FRAME in parsed.items:
        return [meaning(parsed, made, number) for number in numbers]
    return [meaning(parsed, made, 0)] * len(numbers)


# -- grey ------------------------------------------------------------------------------------------------


def _grey(
    parsed: Parsed, made: Layout, frame: int | None, chosen: Window | None, name: str
) -> tuple[NDArray[Any], Notes]:
    """Frames (D, H, W) as uint8 as stored, or as uint16 from black to white."""
    numbers = _numbers(made, frame)
    means = _meanings(parsed, made, numbers)
    frames = [decode_frame(parsed, made, number) for number in numbers]
    samples = [one.pixels for one in frames]
    padded = [padding(parsed, made, one) for one in frames]
    notes: Notes = (f"frame {frame} of {made.frames}",) if frame is not None and made.frames > 1 else ()
    display = samples[0].dtype == np.uint8 and means[0].plain  # 8 bits to be seen, not measured
    if display and chosen not in (None, FULL):
        chosen, notes = (None, (*notes, f"window {name[:40]} not applied: 8-bit samples are no physical values"))
    as_stored = display and chosen is None and not means[0].note
    if as_stored:
        grey, note = np.stack([stretched(one, frames[0].bits) for one in samples]), "as stored"
    else:
        grey, note = _of_interest(parsed, made, samples, padded, means, chosen)
    notes = (*notes, note)
    inverted, told = _inversion(parsed, made)
    if inverted:
        grey = np.iinfo(grey.dtype).max - grey
    for where, shade in zip(padded, () if as_stored else grey):
        if where is not None:
            shade[where] = 0
    return grey, (*notes, *told, *_oddities(made, frames, padded))


def _inversion(parsed: Parsed, made: Layout) -> tuple[bool, Notes]:
    """Whether the smallest value is white. The shape of presentation has the last word where a file has one
    (PS3.3 C.11.6.1.2), else the photometric interpretation; a note says so where they differ.
    """
    shape, white = text(parsed.head, "PresentationLUTShape"), made.photometric == "MONOCHROME1"
    if shape not in ("INVERSE", "IDENTITY"):
        return white, ("MONOCHROME1 inverted",) if white else ()
    inverted = shape == "INVERSE"
    if inverted == white:
        return white, ("MONOCHROME1 inverted",) if white else ()
    done = "inverted" if inverted else "not inverted"
    return inverted, (f"{DOUBT}PresentationLUTShape {shape} against {made.photometric}: {done}, by the shape",)


def _oddities(made: Layout, frames: list[Frame], padded: list[NDArray[np.bool_] | None]) -> Notes:
    """What contradicts the header and was decided."""
    odd = [
        one.beyond if where is None else one.beyond & ~where
        for one, where in zip(frames, padded)
        if one.beyond is not None
    ]
    count = sum(int(one.sum()) for one in odd)
    notes: Notes = (
        (f"{DOUBT}bits set beyond the {made.stored} stored ones in {count:,} samples, left out",) if count else ()
    )
    bits = frames[0].bits
    return notes + ((f"{DOUBT}coded in {bits} bits, {made.stored} by the header",) if bits != made.stored else ())


def _of_interest(
    parsed: Parsed, made: Layout, samples: list[NDArray[Any]], padded: list[NDArray[np.bool_] | None],
    means: list[Meaning], chosen: Window | None,
) -> tuple[NDArray[np.uint16], str]:  # fmt: skip
    """Frames as uint16 by the window that is chosen, else by what the file says, else over the whole range."""
    own, off, ends = chosen is None and all(mean.note for mean in means), "", None
    shade: Callable[[NDArray[Any]], NDArray[np.float64]]
    if own and any(mean.table is None for mean in means):
        ends = _ends(samples, padded, means)
        means = [mean.on(*ends) for mean in means]
        own = all(mean.note for mean in means)
        off = "" if own else ", as the window of the file lies off all of them"
    if own:
        note = means[0].note + (", each frame its own" if len({mean.note for mean in means}) > 1 else "")
    elif chosen is None or chosen is FULL:
        note = f"{DOUBT if off else ''}smallest to largest value{off}"
        low, high = ends or _ends(samples, padded, means)
        shade = partial(between, low=low, high=high)
    else:
        note = f"window {chosen.centre:g}/{chosen.width:g}"
        if text(parsed.head, "Modality") not in ("CT", ""):
            note += ", of values that may not be Hounsfield units"
        shade = partial(windowed, window=chosen)
    grey = np.empty((len(samples), made.rows, made.columns), np.uint16)
    for place, one, mean in zip(grey, samples, means):
        for rows in strips(one):  # on the way there they are in double precision
            place[rows] = np.rint((mean.grey if own else shade)(finite(mean.values(one[rows]))) * 65535)
    return grey, note


def _ends(
    samples: list[NDArray[Any]], padded: list[NDArray[np.bool_] | None], means: list[Meaning]
) -> tuple[float, float]:
    """Smallest and largest value of all frames, padding left out."""
    ends: list[float] = []
    for one, where, mean in zip(samples, padded, means):
        kept = None if where is None or where.all() else ~where
        for rows in strips(one):
            part = one[rows] if kept is None else one[rows][kept[rows]]
            ends += spanning(mean.values(part)) if part.size else ()
    return min(ends), max(ends)


# -- colour ----------------------------------------------------------------------------------------------


def _colour(parsed: Parsed, made: Layout, frame: int | None, chosen: Window | None) -> tuple[NDArray[Any], Notes]:
    """One frame as RGB (H, W, 3), uint8 or uint16."""
    one = decode_frame(parsed, made, frame or 0)
    notes: Notes = ()
    if made.frames > 1:
        notes = (f"frame {frame} of {made.frames}",) if frame is not None else (f"first of {made.frames} frames",)
    notes += ("window not applied: the image is in colour",) if chosen is not None else ()
    if made.photometric == "PALETTE COLOR":
        return palette(parsed, made, one.pixels), (*notes, "palette converted to RGB")
    pixels = one.pixels.view(f"u{one.pixels.dtype.itemsize}")
    if one.photometric in YBR:
        pixels, notes = ybr_to_rgb(pixels, one.bits), (*notes, "YBR converted to RGB")
    notes += (f"{one.bits} bits reduced to 16",) if one.bits > 16 else ()
    return np.ascontiguousarray(stretched(pixels, one.bits)), notes


# -- from stored samples to what they mean: physical values, grey by window or table, colour ----------------------


_TRANSFORMATION, _FRAME_VOI = 0x00289145, 0x00289132
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, eq=False)
class Table:
    """A lookup table: ``entries`` for the values from ``first`` on, of so many ``bits`` (PS3.3 C.11.1.1)."""

    entries: NDArray[np.float64]
    first: int
    bits: int

    def of(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The entries of ``values``; below the first and above the last it is these."""
        return self.entries[np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)]


@dataclass(frozen=True, eq=False)
class Meaning:
    """How the samples of a frame become values, and values grey.

    ``slope`` and ``intercept``, or the ``modality`` table. ``table`` of interest, or else the window that is ``taken``
    of the ``windows`` of the file, with its ``function``; None where there is none, or none that any value lies in.
    """

    slope: float
    intercept: float
    modality: Table | None
    table: Table | None
    windows: tuple[Window, ...]
    function: str
    taken: int | None

    @property
    def plain(self) -> bool:
        """Whether samples are the values."""
        return self.slope == 1 and self.intercept == 0 and self.modality is None

    @property
    def note(self) -> str:
        """How values become grey, in words; empty where the file does not say."""
        if self.table is not None:
            return "table of the file"
        if self.window is None or self.taken is None:
            return ""
        number, count = self.taken + 1, len(self.windows)
        several = f", the first of {count}" if count > 1 else ""
        several = f", number {number} of {count}, as no value lies in those before" if number > 1 else several
        kind = "" if self.function == "LINEAR" else f" {self.function}"
        return f"window {self.window.centre:g}/{self.window.width:g}{kind}{several}"

    @property
    def window(self) -> Window | None:
        """The window that is taken."""
        return None if self.taken is None else self.windows[self.taken]

    def on(self, low: float, high: float) -> Meaning:
        """The same with the first window that values from ``low`` to ``high`` lie in; with none where there is none."""
        fits = (n for n, w in enumerate(self.windows) if low < w.centre + w.width / 2 and high > w.centre - w.width / 2)
        return replace(self, taken=next(fits, None))

    def values(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """The physical values of ``samples``."""
        if self.modality is not None:
            return self.modality.of(samples)
        return samples.astype(np.float64) * self.slope + self.intercept

    def grey(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values on 0 … 1 by the table or the window; one of them must be there."""
        if self.table is not None:
            return np.clip(self.table.of(values) / (2.0**self.table.bits - 1), 0.0, 1.0)
        assert self.window is not None
        return windowed(values, self.window, self.function)


@checked
def meaning(parsed: Parsed, made: Layout, index: int) -> Meaning:
    """How frame ``index`` is to be understood. Raises :class:`ImageError` for tables and numbers that are not valid."""
    rescale = _group(parsed, index, _TRANSFORMATION)
    voi = _group(parsed, index, _FRAME_VOI)
    slope, intercept = _first(rescale, "RescaleSlope"), _first(rescale, "RescaleIntercept")
    if slope is None and intercept is None:
        slope = _first(parsed.head, "DoseGridScaling")
    modality = None if rescale is not parsed.head else _table(parsed, made, MODALITY_LUT, signed=made.signed)
    slope, intercept = slope or 1.0, intercept or 0.0
    function = text(voi, "VOILUTFunction")
    if function not in _FUNCTIONS or made.number != "int":  # of floats a width of 1 is a width, not a threshold
        function = "SIGMOID" if function == "SIGMOID" else _FUNCTIONS[made.number != "int"]
    windows = _windows(voi, function)
    negative = modality is None and (made.signed or intercept < 0)
    return Meaning(
        slope=slope,
        intercept=intercept,
        modality=modality,
        table=_table(parsed, made, VOI_LUT, signed=negative) if voi is parsed.head and made.number == "int" else None,
        windows=windows,
        function=function,
        taken=0 if windows else None,
    )


def _group(parsed: Parsed, index: int, tag: int) -> Any:
    """Where the elements of a functional group are: the frame's, the shared one, or the file's head."""
    frames, shared = parsed.items.get(PER_FRAME, ()), parsed.items.get(SHARED, ())
    for item in (*frames[index : index + 1], *shared[:1]):
        inner = parsed.within(item, tag)
        if inner:
            return parsed.read(inner)
    return parsed.head


def _windows(head: Any, function: str) -> tuple[Window, ...]:
    """The windows that can be used (PS3.3 C.11.2.1.2)."""
    centres, widths = _decimals(head, "WindowCenter"), _decimals(head, "WindowWidth")
    exact = function != "LINEAR"
    return tuple(Window(c, w) for c, w in zip(centres, widths) if w >= 1 or (w > 0 and exact))


def _first(head: Any, name: str) -> float | None:
    return next(iter(_decimals(head, name)), None)


def _decimals(head: Any, name: str) -> list[float]:
    """The numbers of an element; empty where it is absent, empty or not a finite number."""
    try:
        value = head.get(name)
        many = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
        numbers = [float(item) for item in many if item not in (None, "")]
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise ImageError("the DICOM header is not valid", given=f"{name} is not a number") from error
    if not all(map(math.isfinite, numbers)):
        raise ImageError("the DICOM header is not valid", given=f"{name} is not finite")
    return numbers


def _table(parsed: Parsed, made: Layout, tag: int, *, signed: bool) -> Table | None:
    """The first table of a sequence (PS3.3 C.11.1.1 and C.11.2.1.1)."""
    items = parsed.items.get(tag, ())
    if not items:
        return None
    head = parsed.read(items[0])
    descriptor, data = raw(head, "LUTDescriptor"), raw(head, "LUTData")
    if not descriptor and not data:
        return None
    return lookup(descriptor, data, little=parsed.little, signed=signed)


@checked
def lookup(descriptor: bytes, data: bytes, *, little: bool, signed: bool) -> Table:
    """The table of a descriptor (entries, 0 for 65,536; first value; bits) and its data in 8 or 16 bits.

    Raises :class:`ImageError` where there are fewer data than entries.
    """
    count, first, bits = _described(descriptor, little=little, signed=signed)
    if len(data) >= 2 * count:
        entries = np.frombuffer(data, "<u2" if little else ">u2")[:count]
    elif len(data) >= count:
        entries = _bytewise(data, little=little)[:count]
    else:
        raise ImageError("a table of the DICOM file is too short", given=f"{len(data)} bytes for {count} entries")
    return Table(entries.astype(np.float64), first, bits)


def _described(descriptor: bytes, *, little: bool, signed: bool) -> tuple[int, int, int]:
    if len(descriptor) < 6:
        raise ImageError("a table of the DICOM file is not valid", given=f"a descriptor of {len(descriptor)} bytes")
    count, first, bits = (int(n) for n in np.frombuffer(descriptor[:6], "<u2" if little else ">u2"))
    if not 0 < bits <= 16:
        raise ImageError("a table of the DICOM file is not valid", given=f"entries of {bits} bits")
    return count or 2**16, first - 2**16 * (signed and first >= 2**15), bits


def _bytewise(data: bytes, *, little: bool) -> NDArray[np.uint8]:
    """Entries of one byte; in big-endian files they stand in words, the second byte first."""
    words = np.frombuffer(data[: len(data) // 2 * 2], np.uint8).reshape(-1, 2)
    tail = np.frombuffer(data[len(data) // 2 * 2 :], np.uint8)
    return np.concatenate([(words if little else words[:, ::-1]).reshape(-1), tail])


@checked
def padding(parsed: Parsed, made: Layout, frame: Frame) -> NDArray[np.bool_] | None:
    """Where stored samples are padding (PS3.3 C.7.5.1.1.2); None where the file does not say.

    A value with bits beyond the stored ones is met by samples that have such bits.
    """
    names = {"float32": "FloatPixelPadding", "float64": "DoubleFloatPixelPadding"}
    name = names.get(made.number, "PixelPadding")
    value, limit = raw(parsed.head, f"{name}Value"), raw(parsed.head, f"{name}RangeLimit")
    size = {"float32": 4, "float64": 8}.get(made.number, 2)
    if len(value) < size:
        return None
    kind = f"{'<' if parsed.little else '>'}{'f' if size > 2 else 'i' if made.signed else 'u'}{size}"
    one = np.frombuffer(value[:size], kind)[0]
    other = np.frombuffer(limit[:size], kind)[0] if len(limit) >= size else one
    samples = frame.pixels
    if frame.beyond is not None and one == other:
        word = np.frombuffer(value[:2], kind.replace("i", "u")).astype(np.uint16)
        if beyond(word, made.stored, made.high, made.signed) is not None:
            return np.asarray((samples == interpret(word, made.stored, made.high, made.signed)) & frame.beyond)
    return np.asarray((samples >= min(one, other)) & (samples <= max(one, other)))


@checked
def ybr_to_rgb(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """YBR_FULL samples (H, W, 3) of so many bits as RGB (PS3.3 C.7.6.3.1.2)."""
    full, half = float(2**bits - 1), float(2 ** (bits - 1))
    light, blue, red = (pixels[..., channel].astype(np.float64) for channel in range(3))
    blue, red = blue - half, red - half
    channels = (light + 1.402 * red, light - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587, light + 1.772 * blue)
    return np.stack([np.clip(np.rint(c), 0, full) for c in channels], axis=-1).astype(pixels.dtype)


@checked
def palette(parsed: Parsed, made: Layout, index: NDArray[Any]) -> NDArray[np.uint8]:
    """Indices (H, W) as RGB (H, W, 3) by the colour tables of the file (PS3.3 C.7.6.3.1.5 and C.7.9.2).

    Tables of 16 bits give their upper 8. Raises :class:`ImageError` for tables that are missing or not valid.
    """
    tables = [_colour_table(parsed, made, name) for name in ("Red", "Green", "Blue")]
    deep = max(float(table.entries.max()) for table in tables) > 255
    shades = [table.of(index).astype(np.uint16) for table in tables]
    return np.stack([shade >> 8 if deep else shade for shade in shades], axis=-1).astype(np.uint8)


def _colour_table(parsed: Parsed, made: Layout, name: str) -> Table:
    descriptor = raw(parsed.head, f"{name}PaletteColorLookupTableDescriptor")
    segmented = raw(parsed.head, f"Segmented{name}PaletteColorLookupTableData")
    if not segmented:
        data = raw(parsed.head, f"{name}PaletteColorLookupTableData")
        return lookup(descriptor, data, little=parsed.little, signed=made.signed)
    count, first, bits = _described(descriptor, little=parsed.little, signed=made.signed)
    words = np.frombuffer(segmented[: len(segmented) // 2 * 2], "<u2" if parsed.little else ">u2")
    if bits == 8:
        words = _bytewise(segmented, little=parsed.little).astype(np.uint16)
    return Table(np.asarray(_expanded(words.tolist(), count, bits), np.float64), first, bits)


def _expanded(words: list[int], count: int, bits: int) -> list[float]:
    """Segments of a table, discrete, linear or repeated (PS3.3 C.7.9.2), written out to ``count`` entries."""
    entries: list[float] = []
    try:
        at = 0
        while at < len(words) and len(entries) < count:
            if words[at] == 2:
                at = _repeat(words, at, entries, bits)
            else:
                at = _segment(words, at, entries)
    except IndexError as error:
        raise ImageError("a colour table of the DICOM file is cut off", given=f"{len(words)} words") from error
    if len(entries) < count:
        raise ImageError("a colour table of the DICOM file is too short", given=f"{len(entries)} of {count} entries")
    return entries[:count]


def _segment(words: list[int], at: int, entries: list[float]) -> int:
    """Append a discrete (0) or linear (1) segment; where the next begins."""
    kind, length = words[at], words[at + 1]
    if kind == 0:
        words[at + 1 + length]  # all of them must be there
        entries += words[at + 2 : at + 2 + length]
        return at + 2 + length
    if kind != 1 or not entries:
        raise ImageError("a colour table of the DICOM file is not valid", given=f"segment of kind {kind}")
    entries += np.rint(np.linspace(entries[-1], words[at + 2], length + 1)[1:]).tolist()
    return at + 3


def _repeat(words: list[int], at: int, entries: list[float], bits: int) -> int:
    """Append segments that came before: their number, and where the first is, counted in entries.

    The standard is read as pydicom and GDCM do. Whoever repeats a repetition means harm.
    """
    times, size = words[at + 1], 4 if bits == 8 else 2
    words[at + 1 + size]  # all of the offset must be there
    place = sum(word << (32 // size * n) for n, word in enumerate(words[at + 2 : at + 2 + size]))
    for _ in range(times):
        if words[place] == 2 or len(entries) > 2**16:
            raise ImageError("a colour table of the DICOM file is not valid", given="a repeated repetition")
        place = _segment(words, place, entries)
    return at + 2 + size
