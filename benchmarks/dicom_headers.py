"""Headers of an export: our scan against a plain loop with pydicom.

    python benchmarks/dicom_headers.py [--files 10000] [--repeats 3] [--processes 0]

CT slices of 512 x 512 pixels in 16 bits, each with some hundred elements in front of its pixels, as scanners write
them; written sparsely to a temporary folder (the pixels take no room on the disk) that is removed at the end. The
files have just been written, so the system has them in memory: this is the time to read headers, not that of a disk.
Repeats take turns, and the median counts. On a shared machine only the ratios mean anything, and of these that of
processor time, which leaves out the work of other processes, ours included.

Unlike parts of the work, named: pydicom's loop makes a data set of each file and asks it for four values; ours makes
the table of cases: it finds the files, reads some thirty values of each, and sorts the slices into volumes.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from overread.cases.sources.dicom_export import read_tree
from overread.core.files import cores
from overread.images.dicom.header import read_header

SIDE, PER_SERIES = 512, 200
BAR = 2.5


def header(series: int, number: int) -> bytes:
    """One slice up to its pixels: the elements of a usual CT, a sequence, and a private group."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"1.2.826.0.1.{series}.{number}"
    made.ImageType, made.Modality, made.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "Acme"
    made.StudyDate, made.StudyTime, made.InstitutionName = "20240102", "101112", "Clinic"
    made.PatientID, made.PatientName, made.PatientSex, made.PatientAge = f"P{series}", "A^B", "F", "061Y"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"1.2.826.{series}", f"1.2.826.{series}.1"
    made.ImagePositionPatient, made.ImageOrientationPatient = [-250, -250, 1.5 * number], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.InstanceNumber = [0.7, 0.7], "1.5", str(number)
    made.Rows, made.Columns, made.BitsAllocated, made.SamplesPerPixel = SIDE, SIDE, 16, 1
    made.WindowCenter, made.WindowWidth, made.RescaleSlope, made.RescaleIntercept = "40", "400", "1", "-1024"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3"
    made.ReferencedImageSequence = Sequence([reference, reference])
    made["ReferencedImageSequence"].is_undefined_length = True
    block = made.private_block(0x0043, "ACME_PARM_01", create=True)
    for element in range(60):
        block.add_new(element, "LO", f"value {element} of the scanner")
    handle = io.BytesIO()
    pydicom.dcmwrite(handle, made, enforce_file_format=True)
    return handle.getvalue() + b"\xe0\x7f\x10\x00OW\0\0" + (2 * SIDE * SIDE).to_bytes(4, "little")


def write_export(folder: Path, files: int) -> list[Path]:
    """Series of slices, each in its folder, under names in no order."""
    names, paths = np.random.default_rng(0).permutation(files), []
    for n in range(files):
        series, number = divmod(n, PER_SERIES)
        path = folder / f"ST{series:04}" / f"IM{names[n]:06}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(header(series, number))
        os.truncate(path, path.stat().st_size + 2 * SIDE * SIDE)
        paths.append(path)
    return paths


def plain_pydicom(paths: list[Path]) -> int:
    wanted = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient")
    for path in paths:
        head = pydicom.dcmread(path, stop_before_pixels=True)
        for name in wanted:
            head.get(name)
    return len(paths)


def our_headers(paths: list[Path]) -> int:
    return sum(read_header(path).has_pixels for path in paths)


def our_table(folder: Path, processes: int) -> int:
    return int(read_tree(folder, threads=processes).table["slices"].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=0, help="of the scan; 0 for as many as there are cores")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_export(folder, options.files)
        print(f"{len(paths):,} files of {SIDE} pixels, {len(header(0, 0)) / 1024:.1f} KiB of header, {cores()} cores\n")
        peer = "pydicom, stop_before_pixels, one thread"
        works: dict[str, Callable[[], int]] = {
            peer: lambda: plain_pydicom(paths),
            "our headers, one thread": lambda: our_headers(paths),
            "our table of cases, one process": lambda: our_table(folder, 1),
            f"our table of cases, {options.processes or cores()} processes": lambda: our_table(
                folder, options.processes
            ),
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for _ in range(options.repeats):
            for name, work in works.items():
                start, busy = time.perf_counter(), time.process_time()
                made = work()
                seconds[name].append((time.perf_counter() - start, time.process_time() - busy))
                if made != len(paths):
                    raise SystemExit(f"{name}: {made:,} of {len(paths):,} files")
        medians = {name: np.median(times, axis=0) for name, times in seconds.items()}
        for name, (clock, busy) in medians.items():
            ratios = medians[peer] / (clock, busy)
            print(
                f"  {name:42} {len(paths) / clock:7,.0f} files/s {ratios[0]:5.1f}x by the clock {ratios[1]:5.1f}x of processor time"
            )
        print(f"  bar: the table in one process at least {BAR:g}x of pydicom's loop in processor time")


if __name__ == "__main__":
    main()
