"""Fuzzing of the one door: whatever the bytes, an image or an ImageError comes out, soon, in little memory.

A quick round runs with the other tests; ``make test-slow`` fuzzes for :data:`MINUTES`. Every finding became a line of
:data:`FOUND`, with the bytes inline, and stays.
"""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import os
import re
import struct
import sys
import textwrap
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Pillow
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

from overread.core.sandbox import Lost, contained

#: How long the slow round takes, and the quick one, in minutes.
MINUTES, QUICK = float(os.environ.get("OVERREAD_FUZZ_MINUTES", "10")), 5 / 60
#: What a file may cost.
SECONDS, MEMORY = 10.0, 10**9

#: Run in the processes that decode.
ATTEMPT = '''
    import traceback
    from overread.core.errors import ImageError
    from overread.images.read import LIMITS, read_image, content_digest

    def attempt(data, path, fragment):
        """'' for an image, the reason for an ImageError, a traceback for anything else."""
        if path:
            with open(path, "wb") as handle:
                handle.write(data)
        try:
            image = read_image(path + fragment if path else data)
        except ImageError as error:
            text = str(error)
            return "" if text.isprintable() else f"BUG: not printable: {text!r}"
        except Exception:
            return "BUG: " + traceback.format_exc()
        pixels = image.pixels
        sound = pixels.ndim in (3, 4) and pixels.size and str(pixels.dtype) in ("uint8", "uint16", "float32")
        if not sound:
            return f"BUG: {pixels.shape} {pixels.dtype}"
        if path:
            try:
                if content_digest(path + fragment) != image.digest:
                    return "BUG: another digest"
            except Exception:
                return "BUG: " + traceback.format_exc()
        return ""
'''


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "overread_fuzz.py").write_text(textwrap.dedent(ATTEMPT), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import overread_fuzz

        yield overread_fuzz.attempt


# -- one sound sample of everything --------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (3, 3, 3), dtype=np.uint8).repeat(4, 0).repeat(5, 1)  # (12, 15, 3)
GREY = np.ascontiguousarray(COLOUR[..., 0])
DEEP = GREY.astype(np.uint16) * 257
VOXELS = RNG.integers(-900, 900, (5, 6, 7), dtype=np.int16)

Sample = tuple[str, bytes, str]  # ending (empty: read from bytes), content, fragment of the address


def pillow(pixels: np.ndarray, kind: str, mode: str = "", **options: Any) -> bytes:
    made, handle = Pillow.fromarray(pixels), io.BytesIO()
    (made.convert(mode) if mode else made).save(handle, kind, **options)
    return handle.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    handle = io.BytesIO()
    tifffile.imwrite(handle, pixels, **options)
    return handle.getvalue()


def photographs() -> Iterator[Sample]:
    alpha = np.dstack([COLOUR, GREY])
    for pixels, mode in ((GREY, ""), (COLOUR, ""), (DEEP, ""), (COLOUR, "P"), (alpha, ""), (GREY, "1"), (GREY, "LA")):
        yield "", pillow(pixels, "PNG", mode), ""
    for pixels, mode, options in (
        (GREY, "", {}), (COLOUR, "", {}), (COLOUR, "", {"progressive": True}), (COLOUR, "CMYK", {}), (COLOUR, "", {"subsampling": 2}),
    ):  # fmt: skip
        yield "", pillow(pixels, "JPEG", mode, **options), ""
    yield "", pillow(COLOUR, "BMP"), ""
    yield "", pillow(GREY, "BMP"), ""
    for options in ({}, {"lossless": True}):
        yield "", pillow(COLOUR, "WEBP", **options), ""
        yield "", pillow(alpha, "WEBP", **options), ""
    for codec in ("jp2", "j2k"):
        for pixels in (GREY, COLOUR, DEEP):
            yield "", imagecodecs.jpeg2k_encode(pixels, level=0, codecformat=codec), ""


def tiffs() -> Iterator[Sample]:
    for compression in (None, "deflate", "lzw", "packbits", "jpeg", "lzma", "zstd"):
        yield "", tiff(COLOUR, compression=compression, photometric="rgb"), ""
    wide = np.tile(GREY, (2, 2))
    yield "", tiff(wide, tile=(16, 16), compression="deflate"), ""
    yield "", tiff(DEEP, byteorder=">", predictor=True, compression="deflate"), ""
    yield "", tiff(GREY.astype(np.float32) / 255), ""
    yield "", tiff(np.stack([GREY] * 3), photometric="minisblack"), ""
    yield ".tif", tiff(np.stack([GREY] * 3), photometric="minisblack"), "#frame=1"
    yield "", tiff(DEEP, bigtiff=True, photometric="miniswhite"), ""
    yield "", pillow(COLOUR, "TIFF", "P"), ""
    yield "", pillow(GREY, "TIFF", "1", compression="group4"), ""


SYNTAXES = {
    "1.2.840.10008.1.2": None,
    "1.2.840.10008.1.2.1": None,
    "1.2.840.10008.1.2.2": None,
    "1.2.840.10008.1.2.1.99": None,
    "1.2.840.10008.1.2.4.50": lambda p: imagecodecs.jpeg8_encode(p),
    "1.2.840.10008.1.2.4.57": lambda p: imagecodecs.ljpeg_encode(p),
    "1.2.840.10008.1.2.4.70": lambda p: imagecodecs.ljpeg_encode(p),
    "1.2.840.10008.1.2.4.80": lambda p: imagecodecs.jpegls_encode(p),
    "1.2.840.10008.1.2.4.90": lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.5": lambda p: pydicom.pixels.encoders.RLELosslessEncoder.encode(
        p.tobytes(), rows=p.shape[0], columns=p.shape[1], samples_per_pixel=1, bits_allocated=8 * p.itemsize,
        bits_stored=8 * p.itemsize, pixel_representation=0, photometric_interpretation="MONOCHROME2", number_of_frames=1,
    ),
}  # fmt: skip


def dicom(syntax: str, pixels: np.ndarray, encode: Callable[..., bytes] | None = None, **tags: Any) -> bytes:
    made = pydicom.Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid(entropy_srcs=["fuzz"])
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    made.HighBit, made.Modality = made.BitsStored - 1, "OT"
    made.RescaleSlope, made.RescaleIntercept, made.WindowCenter, made.WindowWidth = 1, 0, 100, 200
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    for name, value in tags.items():
        setattr(made, name, value)
    frames = pixels if pixels.ndim == 3 else pixels[None]
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    plain = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    made.PixelData = encapsulate([encode(frame) for frame in frames]) if encode else plain + b"\0" * (len(plain) % 2)
    made["PixelData"].VR = "OB" if encode or pixels.itemsize == 1 else "OW"
    handle = io.BytesIO()
    made.save_as(handle, enforce_file_format=True)
    return handle.getvalue()


def dicoms() -> Iterator[Sample]:
    for syntax, encode in SYNTAXES.items():
        yield "", dicom(syntax, GREY, encode), ""
        if syntax[-3:] not in (".50",):
            yield "", dicom(syntax, DEEP, encode), ""
        yield "", dicom(syntax, np.stack([GREY] * 3), encode), ""
    yield (".dcm", dicom("1.2.840.10008.1.2.5", np.stack([GREY] * 3), SYNTAXES["1.2.840.10008.1.2.5"]), "#frame=2")
    table = {f"{c}PaletteColorLookupTableData": bytes(range(256)) * 2 for c in ("Red", "Green", "Blue")}
    about = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    yield ("", dicom("1.2.840.10008.1.2.1", GREY, PhotometricInterpretation="PALETTE COLOR", **about, **table), "")
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [256, 0, 16], bytes(range(256)) * 2
    item["LUTData"].VR = "OW"
    yield "", dicom("1.2.840.10008.1.2.1", GREY, VOILUTSequence=[item]), ""
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [256, 0, 16], bytes(range(256)) * 2, "US"
    item["LUTData"].VR = "OW"
    yield "", dicom("1.2.840.10008.1.2.1", DEEP % 256, ModalityLUTSequence=[item]), ""


def volumes(folder: Path) -> Iterator[Sample]:
    image = sitk.GetImageFromArray(VOXELS)
    for ending, compressed in itertools.product((".nrrd", ".mha"), (False, True)):
        sitk.WriteImage(image, str(folder / f"v{ending}"), useCompression=compressed)
        for fragment in ("", "#plane=coronal", "#plane=axial&point=-1,-2,3&side=4"):
            yield ending, (folder / f"v{ending}").read_bytes(), fragment
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        data = kind(VOXELS, np.diag([2.0, 3.0, 4.0, 1.0])).to_bytes()
        for fragment in ("", "#plane=sagittal&at=1"):
            yield ".nii", data, fragment
            yield ".nii.gz", gzip.compress(data, mtime=0), fragment


def archives() -> Iterator[Sample]:
    for save in (np.savez, np.savez_compressed):
        handle = io.BytesIO()
        save(handle, images=np.stack([COLOUR] * 3), scans=np.stack([VOXELS.astype(np.float32)] * 2))
        yield ".npz", handle.getvalue(), "#images/1"
        yield ".npz", handle.getvalue(), "#scans/1"
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM/0001", dicom("1.2.840.10008.1.2.1", GREY))
        archive.writestr("IM/0002.png", pillow(COLOUR, "PNG"))
    yield ".zip", handle.getvalue(), "#entry=IM/0001"
    yield ".zip", handle.getvalue(), "#entry=IM/0002.png"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("samples")
    return [*photographs(), *tiffs(), *dicoms(), *volumes(folder), *archives()]


# -- what happens to them ------------------------------------------------------------------------------------------

EDGES = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A few blows to ``data``; most near its beginning, where the headers are."""
    made = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 3, 8]))):
        size = max(1, len(made))
        reach = size if rng.random() < 0.5 else min(size, 512)
        at = int(rng.integers(reach))
        blow = int(rng.integers(9))
        if blow == 0:
            made[at : at + 1] = bytes([(made[at] if made else 0) ^ 1 << int(rng.integers(8))])
        elif blow == 1:
            made[at : at + 1] = bytes([int(rng.integers(256))])
        elif blow == 2:
            del made[at:]
        elif blow == 3:
            del made[at : at + int(rng.integers(1, 40))]
        elif blow == 4:
            part = made[at : at + int(rng.integers(1, 200))]
            made[at:at] = part * int(rng.integers(1, 4))
        elif blow == 5:
            width = int(rng.choice([1, 2, 4, 8]))
            value = EDGES[int(rng.integers(len(EDGES)))] % 2 ** (8 * width)
            made[at : at + width] = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")
        elif blow == 6:
            start = int(rng.integers(max(1, len(other))))
            part = other[start : start + int(rng.integers(1, 400))]
            made[at : at + (len(part) if rng.random() < 0.5 else 0)] = part
        elif blow == 7:
            made[at : at + 8] = rng.bytes(8)
        else:
            made = _digits(made, rng)
    return bytes(made)


def _digits(made: bytearray, rng: np.random.Generator) -> bytearray:
    """A number that stands as text becomes another one."""
    spots = [i for i, byte in enumerate(made[:2000]) if 48 <= byte <= 57]
    if spots:
        at = spots[int(rng.integers(len(spots)))]
        text = [b"-1", b"0", b"99999999999", b"1e308", b"nan", b"-0", b"x"][int(rng.integers(7))]
        made[at : at + 1] = text
    return made


def reopened(ending: str, data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Blows to what is inside of a compressed file, which is closed again; of a PNG, with checksums that fit."""
    if ending == ".nii.gz":
        return gzip.compress(mutated(gzip.decompress(data), other, rng), mtime=0, compresslevel=1)
    if ending in (".npz", ".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
        handle = io.BytesIO()
        with zipfile.ZipFile(handle, "w") as archive:
            for info, content in members:
                archive.writestr(info, mutated(content, other, rng) if rng.random() < 0.7 else content)
        return handle.getvalue()
    if data[:4] == b"\x89PNG":
        return _png_again(mutated(data, other, rng))
    return mutated(data, other, rng)


def _png_again(data: bytes) -> bytes:
    made, at = bytearray(data), 8
    while at + 12 <= len(made):
        (size,) = struct.unpack_from(">I", made, at)
        if at + 12 + size > len(made):
            break
        struct.pack_into(">I", made, at + 8 + size, zlib.crc32(made[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(made)


def tasks(
    samples: list[Sample], folder: Path, seed: int, minutes: float, log: dict[int, Sample]
) -> Iterator[tuple[Any, ...]]:
    """Mutants until the time is over; those under way are kept in ``log``. Files take turns, so that few are written."""
    rng, ends = np.random.default_rng(seed), time.monotonic() + 60 * minutes
    for number in itertools.count():
        if time.monotonic() > ends:
            return
        ending, data, fragment = samples[int(rng.integers(len(samples)))]
        other = samples[int(rng.integers(len(samples)))][1]
        bad = reopened(ending, data, other, rng) if rng.random() < 0.5 else mutated(data, other, rng)
        log[number] = (ending, bad, fragment)
        log.pop(number - 4000, None)
        yield bad, str(folder / f"{number % 2000}{ending}") if ending else "", fragment


def fuzzed(
    attempt: Callable[..., str], samples: list[Sample], folder: Path, seed: int, minutes: float
) -> tuple[list[str], int]:
    """What was found, with the bytes that bring it back, and how many files were tried."""
    log: dict[int, Sample] = {}
    found: dict[str, str] = {}
    count = 0
    made = contained(attempt, tasks(samples, folder, seed, minutes, log), seconds=SECONDS, memory=MEMORY)
    for number, told in enumerate(made):
        count += 1
        if told == "":
            continue
        ending, data, fragment = log[number]
        line = told.strip().splitlines()[-1] if isinstance(told, str) else str(told)
        place = (
            next((x for x in reversed(told.splitlines()) if "src/overread" in x), "") if isinstance(told, str) else ""
        )
        key = re.sub(r"\d+", "", f"{place} {line[:60]} {ending if isinstance(told, Lost) else ''}")
        if key not in found:
            found[key] = f"{told}\n{(ending, base64.b64encode(data).decode(), fragment)!r}"
    return list(found.values()), count


def test_the_samples_are_sound(attempt: Callable[..., str], samples: list[Sample], tmp_path: Path) -> None:
    """Otherwise nothing would be tested but how a refusal looks."""
    from overread.images.read import read_image

    unread = []
    for number, (ending, data, fragment) in enumerate(samples):
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(data)
        try:
            read_image(f"{path}{fragment}" if ending else data)
        except Exception as error:  # noqa: BLE001
            unread.append(f"{number} {ending} {fragment} {data[:12]!r}: {error}")
    assert not unread


def test_a_quick_round(attempt: Callable[..., str], samples: list[Sample], tmp_path: Path) -> None:
    found, count = fuzzed(attempt, samples, tmp_path, 1, QUICK)
    assert not found, "\n\n".join(found)
    assert count > 50


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 600)
def test_ten_minutes(attempt: Callable[..., str], samples: list[Sample], tmp_path: Path) -> None:
    seed = int(os.environ.get("OVERREAD_FUZZ_SEED", time.time_ns() % 2**32))
    found, count = fuzzed(attempt, samples, tmp_path, seed, MINUTES)
    sys.stderr.write(f"\nseed {seed}: {count:,} files, {len(found)} findings\n")
    assert not found, "\n\n".join(found)


#: What fuzzing found: ending, bytes, fragment.
FOUND: list[tuple[str, str, str]] = [
    # a header of an array that no tokenizer can read
    (
        ".npz",
        "UEsDBC0AAAAIAAAAIQDMqZNljQAAANQGAAAKAAAAaW1hZ2VzLm5weZvsF+obEMnIUMZQrZ6SWpxcpG6loF5Taqiuo6Cell9UUpSY"
        "F59flJIKEndLzClOBYoXZyQWpAL5GsY6CoZGQGyqo2CsqaNQq0Ay4Or2eoqMPq50REZsC6Yio0GiOEttPTLacxYFPU36iYwGiWKu"
        "KfHIKGzyMWTkpJ6FjAaJ4kES3aNpYzRtjKaNIZQ2AFBLAwQtAAAACAAAACEAywEh7Z8AAADUAAAACQAAAHNjYW5zLm5weZvsF+ob"
        "EMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Cell9UUpSYF59flJIKEndLdClOBYoXZyQWpAL5GkY6ZjoK5r/K0uTmSl38q0Ai4GI4IHCE"
        "oeH7YYaGJYcZHDyA7I3ODAxbgGwZIPvgYQbvUJWCCTK3rzHMcWZosHRhYDigt1fU+u4HrdAjDAwN+xkagHSDgAtDgwmQrwZk3wSq"
        "Y3UBAFBLAQItAy0AAAAIAAAAIQDMqZNljQAAANQGAAAKAAAAAAAAAAAAAACAAQAAAABpbWFnZXMubnB5UEsBAi0DLQAAAAgAAAAh"
        "AMsBIe2fAAAA1AAAAAkAAAAAAAAAAAAAAIABtQAAAHNjYW5zLm5weVBLBQYAAAAAAgACAG8AAAB7AQAAAAA=",
        "#scans/1",
    ),
    # a control character in the name of an array
    (
        ".npz",
        "UO0DBC0AAAAIAAAAIQDMqZNl////////+/8KABQAaW1hZ2VzLm5weQEAEADUBgAAAAAAAI0AAAAAAAAAm+wX6hsQychQxlCtnpJa"
        "nFykbqWgXlNqqK6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkaxjoKhkZAbKqjYKypo1CrQDLg6vZ6iow+rnRERmwLpiKj"
        "QaI4S209MtpzFgU9TfqJjAaJYq4p8cgobPIxZOSknoWMBoniQRLdo2ljNG2Mpo0hlDYAUEsDBC0AAAAIAAAAIQDzzT63////////"
        "//8JABQAc2NhDAZKMng1bAwnUHMqy+h1ZpJSlBE/wMxUckRIUmakRRJc2tQiKrB2QS6iNm0CaVPQO/NOOouIPiQICoI+NrUsJOjr"
        "d2f6C2o7Lxzuc895zjnPPe+9c119nYmBVTqj2dBYMn0yFdrvhFrGm0Ktv210Mp3En54YnU6yr20MO5Gwsyfs7N0Zds45//AF5JXn"
        "ZFZ8mVu+3CPgezFpAVwJzvjyynJSbVy6EZNpZo3l5J3A14eZRzKspjwu08R+B/gtMby17L9Tsw5fBfUmslJ1XO5G8iej9PCleewK"
        "fZrgLoE/wn8ck1tDzlvwV+ochx+MSotZud1gJytziLhapWn8QWqPsPei8qpzchusNuodBQfg14NX03cDnAW421kHWVuoQ2+NZCTb"
        "I4zNoLGXPuIM59GxFd8luBXs18TlOewPktMek0LmvlBw20S/k/h9eHnyLxPvpjcxU0X8A/5naH3JeXrIz/uFPuY6c7X63FaZA/Gi"
        "nk3o7AVPkJOj1nJWHlqUJ/8p+S+YVcSe1ZNbBu+Y/vKzh7fjJqhDaIxig3CizM5yyTEB1vXUpL8ZgH8X7GTk1VEjAX8deiPEFvGT"
        "r1NoY36az8g8oc4w+Bu9esBD5Afh3Gb2c/A/43vlF/9FO72egxvsDOA85Az0MLv/zv8C/IucpQath/FtgVOJ/YL3gNg7V5plnvw/"
        "t4s+/C97l9wguS6cN9TdB/5Cr0/gRuwaeIlcdOos+wTz5A6oI1acVYj6zax3qGVnBsf8BBt7F7B68A+sHo79Z21YP/gqGjfD74Bf"
        "myvwrHZzkx68Ca34xflss/cb3O+X3lHpHZXe0f+/oz9QSwECLQMtAAAACAAAACEAzKmTZY0AAADUBgAACgAAAAAAAAAAAAAAgAEA"
        "AAAAaW1hZ2VzLm5weVBLAQItAy0AAAAIAAAAIQDzzT63iQIAABAHAAAJAAAAAAAAAAAAAD59UVIENqkHY2Fucy5ucHlQSwUGAAAA"
        "AAIAAgBvAAAAjQMAAAAA",
        "#scans/1",
    ),
    # a control character in what a TIFF calls its colours
    (
        "",
        "SUkqAAgAAAARAAABBAABAAAADwAAAAEBBAABAAAADAAAAAIBAwADAAAA2gAAAAMBAwABAAAABwAAAAYBAgABAAAABgAAAA4BAgAX"
        "AAAA4AAAABEBBAABAAAAYAEAABUBAwABAAAAAwAAABYBBAABAAAADAAAABcBBAABAAAAHAMAABoBBQABAAAABgEAABsBBQABAAAA"
        "DgEAABwBAwABAAAAAQAAACgBAwABAAAAAQAAADEBAgAMAAAAFgEAABICAwACAAAAAgACABQCBQAGAAAAIgEAAAAAAAAIAAgACAB7"
        "InNoYXBlIjogWzEyLCAxNSwgM119AAAAAAAAAAAAAAAAAAAAAAEAAAABAAAAAQAAAAEAAAB0aWZmZmlsZS5weQAAAAAAAQAAAP8A"
        "AAABAAAAgAAAAAEAAAD/AAAAAQAAAIAAAAABAAAA/wAAAAEAAAAAAAAAAAAAAAAAAAAAAP/Y/+AA+FBHawSR0/EAAAEAAQAA/9sA"
        "QwACAQEBAQECAQEBAgICAgIEAwICAgIFBAQDBAYFBgYGBQYGBgcJCAYHCQcGBggLCAkKCgoKCgYICwwLCgwJCgoK/9sAQwECAgIC"
        "AgIFAwMFCgcGBwoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoK/8AAEQgADAAPAwEiAAIR"
        "AQMRAf/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EAAABAAEAAP/bAEMAAgEBAQEBAgEBAQICAgICBAMCAgICBQQE"
        "AwQGBQYGBgUGBgYHCQgGBwkHBgYICwgJCgoKCgoGCAsMCwoMCQoKCv/bAEMBAgICAgICBQMDBQoHBgcKCgoKCgoKCgoKCgoKCgoK"
        "CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCv/AABEIAAwADwMBIgACEQEDEQH/xAAfAAABBQEBAQEBAQAAAAAAAAAA"
        "AQIDBAUGBwgJCgv/xAAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoK"
        "CgoKBggLDAsKDAkKCgr/2wBDAQICAgICAgUDAwUKBwYHCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoK"
        "CgoKCgoKCgr/wAARCAAMAA8DASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUF"
        "BAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVW"
        "V1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi"
        "4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAEC"
        "AxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVm"
        "Z2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq"
        "8vP09fb3+Pn6/9oADAMBAAIRAxEAPwBf+CYPj3/haXx81fw//ZX2HyfB9xced5/m5xdWi7cbV/v5zntXpf7RfwA/tz4yaxqn/CW+"
        "V5v2f939g3YxbxDr5g9K+evgb/yNtx/2Dn/9GR18yftm/wDJyniT/tz/APSOCv1XB4XJ+JeLqvGuJw/72rS9g4c8tFFxafMrL7O3"
        "It9z5fIONsg8YqH9ncRZX7TBwvVjS9vONqsbQU/aU405v3ZzXK3y63tdJr//2Q==",
        "",
    ),
    # a WebP between our limit and the library's
    (
        "",
        "UklGRo4AAABXRUJQVlA4TIIAAAAvDjogbGl0dGxlCmVuY29kaW5nOiBnemlwCnNwYWNlIG9yaWdpbjogKDAsMCwwKQoKH4sIAAAA"
        "AAAAAwXBTUjUYRAH4Jl5yYRUWCHTsPCSoAudUjJFokzCZCM92aehkBHCKqZUJFZIYlQEERprhKFQCC546MACEEegppEUKFd+MlBG"
        "j01UIABJSiJZofpXeAFelg8FcCgUFRCKAaCBMDIJK7IMZjCWfc+fkkhWqP4VXoCX5UMBHApFBUT0/j6LNzno6FErz+f5qlQLAAoh"
        "SXI+ApzCKbzCKzxABsgCEf0QIvofAL4U5zQdsa7FGKNbu/83RtIB",
        "",
    ),
]


@pytest.mark.parametrize("number", range(len(FOUND)))
def test_what_was_found_stays_mended(attempt: Callable[..., str], tmp_path: Path, number: int) -> None:
    ending, data, fragment = FOUND[number]
    path = str(tmp_path / f"a{ending}") if ending else ""
    (told,) = contained(attempt, [(base64.b64decode(data), path, fragment)], seconds=SECONDS, memory=MEMORY)
    assert told == ""
