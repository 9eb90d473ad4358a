"""A cleaned copy of a tree of DICOM files, by the Basic Application Level Confidentiality Profile of PS3.15 Annex E, and of whole slides.

Each file is read, judged, cleaned and written on its own, atomically, under a name made of codes. What cannot be
cleaned by its tags is not written but counted: images with text in their pixels, reports, documents, damaged
files. The secret salt makes the codes; without it they cannot be made again.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from overread.core.errors import ImageError, InputError, checked
from overread.core.files import (
    build,
    folder_lock,
    publish,
    read_json,
    sha256,
    versions,
    write_bytes,
    write_json,
    write_text,
)
from overread.core.progress import Progress, silent
from overread.core.sandbox import SECONDS, contained
from overread.deidentify.clean import NO_IMAGE, burned_in, clean, elements, may_show_a_face, patient_of, shows_a_label
from overread.deidentify.instance import as_bytes, broken
from overread.deidentify.rules import EDITION, Rules, create_secret, new_salt, read_salt
from overread.deidentify.slide_file import CANNOT, clean_slide
from overread.images.dicom.elements import looks_like_dicom, parse
from overread.images.image import LIMITS, Limits, broken_as, read_bytes
from overread.images.slides.files.tiled_tiff import tiff_slide_kind
from overread.images.slides.slide import is_slide

__all__ = ["Deidentified", "Rules", "clean", "deidentify", "new_salt", "read_salt"]

#: Seconds between two notes of what is done already.
NOTE_EVERY = 10.0
#: Bytes of a slide that are copied in a second of the processor, at the very least.
COPIED_A_SECOND = 10e6
#: What a row says became of its file.
WRITTEN, REFUSED, LEFT_OUT = "written", "refused", "left out"
_LABEL = "the label of a slide, or the photograph that shows it"
_NOT_CLEANED = "no image: a report, document, plan, signal or index cannot be cleaned by its tags"

#: Files beside the images of a copy.
TABLE, RECORD, LOCK = "deidentified.csv", "deidentified.json", ".lock"
_OURS = re.compile(r"(p-[0-9a-f]{16}/(s-[0-9a-f]{16}/)?)?[^/]*")
_IMAGE = re.compile(r"[0-9a-f]{16}\.(dcm|tif|svs)")
_KEY_COLUMNS = ("code", "file", "patient", "study", "patient identifier", "study UID", "path")


@dataclass(frozen=True)
class Deidentified:
    """A cleaned copy: its ``folder``, the ``edition`` of the profile, codes and meanings of the ``methods``, the counts.

    ``written``, ``patients`` and ``faces``: files written, their patients, those that may show a face. ``refused``
    and ``left_out``: files by reason. ``not_dicom`` and ``links``: files that were not looked into. ``slides``: of those written,
    whole slides that are not DICOM.
    """

    folder: Path
    edition: str
    methods: dict[str, str]
    written: int
    patients: int
    faces: int
    refused: dict[str, int]
    left_out: dict[str, int]
    not_dicom: int
    links: int
    slides: int = 0

    @property
    def files(self) -> list[Path]:
        """The table of all files, and the record of how the copy was made."""
        return [self.folder / TABLE, self.folder / RECORD]


@dataclass(frozen=True)
class Row:
    """What became of one file, without anything that was in it.

    ``code``: the keyed hash of its bytes. ``outcome``: written, refused or left out, with the ``reason``. ``removed``:
    attributes that are gone, at any depth, of which ``private``. ``may_show_a_face``: CT, MR or PET of the head, or
    of a part that is not named. ``source``: the keyed hash of its path, size and time.
    """

    code: str
    outcome: str
    reason: str = ""
    file: str = ""
    patient: str = ""
    study: str = ""
    modality: str = ""
    attributes: int = 0
    removed: int = 0
    private: int = 0
    may_show_a_face: bool = False
    source: str = ""


@dataclass(frozen=True)
class Original(Row):
    """A row and what stands behind its codes: these three go into the key and nowhere else."""

    patient_identifier: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    path: str = field(default="", repr=False)

    @property
    def row(self) -> Row:
        """The row alone."""
        return Row(**{part.name: getattr(self, part.name) for part in fields(Row)})


@dataclass(frozen=True)
class Task:
    """One file to clean: where it is, the code of that, and where to write."""

    path: str
    source: str
    folder: str
    rules: Rules
    allow_burned_in: bool
    limits: Limits


@checked
def deidentify(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, rules: Rules | None = None,
    key: str | os.PathLike[str] | None = None, allow_burned_in: bool = False, limits: Limits = LIMITS, progress: Progress = silent,
) -> Deidentified:  # fmt: skip
    """Write a cleaned copy of a DICOM file or folder ``source`` to the folder ``output``.

    Without ``rules`` everything goes that may go, under a salt that is forgotten. ``key``: a file for the list of
    codes and the identifiers behind them, written only if named, readable for its owner alone. Called again with
    the same salt, it goes on where it was stopped. Raises :class:`InputError` for folders that lie in each other,
    a key inside the copy, and an output that holds anything else.
    """
    source, output, key = Path(source), Path(output), None if key is None else Path(key)
    rules = rules or Rules(new_salt())
    require_apart(source, output, [key])
    require_ours(output)
    files, links = files_of(source)
    with folder_lock(output, name=LOCK):
        rows, lines = _earlier(output, rules, allow_burned_in), read_key(key)
        tasks = [_task(path, source, output, rules, allow_burned_in, limits) for path in files]
        todo = [task for task in tasks if not _is_done(rows.get(task.source), output, key, lines)]
        not_dicom = _work(todo, rows, lines, output, key, progress)
        made = _counted(output, rules, rows.values(), not_dicom, links)
        _write_record(made, rules, allow_burned_in, finished=True)
    (output / LOCK).unlink(missing_ok=True)
    return made


def _task(path: Path, source: Path, output: Path, rules: Rules, allow_burned_in: bool, limits: Limits) -> Task:
    try:
        about = path.stat()
        state = f"{about.st_size}\n{about.st_mtime_ns}"
    except OSError:  # gone meanwhile: told when it is opened
        state = ""
    place = f"{path.relative_to(source) if path != source else ''}\n{state}"
    return Task(str(path), rules.code("source", place), str(output), rules, allow_burned_in, limits)


def _work(
    tasks: list[Task], rows: dict[str, Row], lines: dict[str, tuple[str, ...]], output: Path, key: Path | None, progress: Progress
) -> int:  # fmt: skip
    """Clean all files; ``rows`` and the ``lines`` of the key grow and are noted now and then. Returns how many are no DICOM."""
    others, noted = 0, time.monotonic()
    seconds = _seconds(task.path for task in tasks)
    answers = contained(
        clean_file, ((task,) for task in tasks), seconds=seconds
    )  # parsers meet whatever the tree holds
    for number, (task, answer) in enumerate(zip(tasks, answers, strict=True), 1):
        made = _refused(task, b"", "its reader crashed") if isinstance(answer, ImageError) else answer
        if made is None:
            others += 1
        else:
            rows[task.source] = made.row
            lines[made.code] = key_line(made)
        if time.monotonic() - noted > NOTE_EVERY:
            _note(output, rows, key, lines)
            noted = time.monotonic()
        progress("cleaning files", number, len(tasks))
    _note(output, rows, key, lines)
    return others


def _seconds(paths: Iterable[str]) -> float:
    """What one file may take: 0, the usual, but for slides of gigabytes."""
    largest = 0
    for path in paths:
        with suppress(OSError):
            largest = max(largest, os.path.getsize(path))
    needed = largest / COPIED_A_SECOND
    return needed if needed > SECONDS else 0.0


def _note(output: Path, rows: dict[str, Row], key: Path | None, lines: dict[str, tuple[str, ...]]) -> None:
    write_rows(output / TABLE, _once(rows.values()))
    if key is not None:
        write_key(key, lines.values())


def _once(rows: Iterable[Row]) -> list[Row]:
    """Files with the same bytes are written once; the others are left out."""
    seen: set[str] = set()
    found = []
    for row in rows:
        again = row.outcome == WRITTEN and row.file in seen
        seen.add(row.file)
        found.append(replace(row, outcome=LEFT_OUT, reason="the same bytes as another file", file="") if again else row)
    return found


# -- one file ---------------------------------------------------------------------------------------------------


@checked
def clean_file(task: Task) -> Original | None:
    """Clean one file and write it; what became of it, or None if it is not DICOM."""
    try:
        with open(task.path, "rb") as handle:
            if not looks_like_dicom(handle.read(4096)):
                return _slide(task) if is_slide(task.path) else None
        data = read_bytes(task.path, limits=task.limits)
    except (ImageError, OSError):
        return _refused(task, b"", "the file cannot be read")
    try:
        return _exported(task, data)
    except ImageError as error:
        return _refused(task, data, error.what)
    except broken():
        return _refused(task, data, "the DICOM file is damaged")


def _refused(task: Task, data: bytes, reason: str) -> Original:
    code = task.rules.code("file", sha256(data) if data else task.source)
    return Original(code, REFUSED, reason, source=task.source, path=task.path)


def _exported(task: Task, data: bytes) -> Original:
    import pydicom

    try:
        parse(data)  # bounds, before the whole is read: lengths, depth, what a deflated data set inflates to
    except ImageError as error:
        if error.what == NO_IMAGE:
            return replace(_refused(task, data, _NOT_CLEANED), outcome=LEFT_OUT)
        raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote a value
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        new = clean(dataset, task.rules)
        made = _described(task, data, dataset, new)
        if shows_a_label(dataset):
            return replace(made, outcome=LEFT_OUT, reason=_LABEL)
        reason = burned_in(dataset, data, task.limits)
        if reason and not task.allow_burned_in:
            return replace(made, outcome=REFUSED, reason=reason)
        return _written(task, made, new, reason)


def _slide(task: Task) -> Original:
    """A whole slide that is not DICOM: its levels without label, photograph, thumbnail, names and dates."""
    rules = task.rules
    try:
        digest = _whole_digest(task.path)
        code, who = rules.code("file", digest), f"p-{rules.code('patient', digest)}"
        study = f"s-{rules.code('study', digest)}"
        ending = ".svs" if tiff_slide_kind(task.path) == "aperio" else ".tif"
        file = f"{who}/{study}/{code}{ending}"
        made = clean_slide(task.path, Path(task.folder) / file)
    except ImageError as error:
        given = f" ({error.given})" if error.what.startswith(CANNOT) else ""
        return _refused(task, b"", f"{error.what.rpartition(': ')[2]}{given}")
    counted = Counter(made.dropped)
    told = ", ".join(name if many == 1 else f"{many} x {name}" for name, many in sorted(counted.items()))
    return Original(
        code,
        WRITTEN,
        f"not copied of the slide: {told or 'nothing'}",
        file,
        who,
        study,
        "SM",
        source=task.source,
        path=task.path,
    )


def _whole_digest(path: str) -> str:
    """SHA-256 of a whole slide: one of samples would take two that differ in few places for one."""
    with broken_as("the slide is damaged"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(task: Task, data: bytes, dataset: Any, new: Any) -> Original:
    rules, who, study = task.rules, patient_of(dataset), str(dataset.get("StudyInstanceUID", "") or "")
    before, after = ({place for place, _ in elements(data_set)} for data_set in (dataset, new))
    private = sum(any(tag & 0x10000 for tag in place) for place in before)
    return Original(rules.code("file", sha256(data)), WRITTEN, patient=f"p-{rules.code('patient', who)}", source=task.source,
                    study=f"s-{rules.code('study', study or who)}", patient_identifier=who, study_uid=study, path=task.path,
                    modality=str(new.get("Modality", "") or ""), attributes=len(before), removed=len(before - after),
                    private=private, may_show_a_face=may_show_a_face(new))  # fmt: skip


def _written(task: Task, made: Original, new: Any, reason: str) -> Original:
    if reason:
        new.BurnedInAnnotation = "YES"
        reason = f"{reason}; allowed"
    file = f"{made.patient}/{made.study}/{made.code}.dcm"
    write_bytes(Path(task.folder) / file, as_bytes(new))
    return replace(made, reason=reason, file=file)


# -- what is known of the copy ----------------------------------------------------------------------------------


def _earlier(output: Path, rules: Rules, allow_burned_in: bool) -> dict[str, Row]:
    """The rows of an earlier call with the same salt and options; the record is begun if there is none."""
    if (output / RECORD).exists():
        record = read_json(output / RECORD)
        same = isinstance(record, dict) and record.get("check") == _check(rules)
        if not same or (record.get("allow_burned_in") and not allow_burned_in):
            todo = "give the same --salt and options to go on, or choose an empty folder"
            raise InputError("the output folder holds a copy made with another salt or other options", todo=todo)
    else:
        _write_record(_counted(output, rules, [], 0, 0), rules, allow_burned_in, finished=False)
    return {row.source: row for row in read_rows(output / TABLE)}


def _check(rules: Rules) -> str:
    """Tells whether salt and options are those of an earlier call."""
    return rules.code("check", f"{EDITION} {' '.join(rules.methods)}")


def _is_done(row: Row | None, output: Path, key: Path | None, lines: dict[str, tuple[str, ...]]) -> bool:
    """Whether a file need not be looked at again; what was refused may be allowed now."""
    if row is None or row.outcome == REFUSED or (key is not None and row.code not in lines):
        return False
    return not row.file or (output / row.file).exists()


def _counted(output: Path, rules: Rules, rows: Iterable[Row], not_dicom: int, links: int) -> Deidentified:
    listed = _once(rows)
    written = [row for row in listed if row.outcome == WRITTEN]
    reasons = ([row.reason for row in listed if row.outcome == outcome] for outcome in (REFUSED, LEFT_OUT))
    refused, left_out = (dict(sorted(Counter(found).items())) for found in reasons)
    return Deidentified(output, EDITION, rules.methods, len(written), len({row.patient for row in written}),
                        sum(row.may_show_a_face for row in written), refused, left_out, not_dicom, links,
                        sum(not row.file.endswith(".dcm") for row in written))  # fmt: skip


def _write_record(made: Deidentified, rules: Rules, allow_burned_in: bool, *, finished: bool) -> None:
    used = versions() | {"dicom-anonymizer": importlib.metadata.version("dicom-anonymizer")}
    write_json(made.folder / RECORD, {
        "profile": "Basic Application Level Confidentiality Profile", "standard": f"DICOM PS3.15 {EDITION}, Table E.1-1",
        "methods": made.methods, "dates": rules.dates, "keep_device": rules.keep_device,
        "keep_characteristics": rules.keep_characteristics, "allow_burned_in": allow_burned_in, "finished": finished,
        "written": made.written, "patients": made.patients, "may_show_a_face": made.faces, "refused": made.refused,
        "left_out": made.left_out, "not_dicom": made.not_dicom, "links": made.links, "slides": made.slides, "check": _check(rules),
        "versions": {name: used[name] for name in ("overread", "python", "pydicom", "numpy", "dicom-anonymizer") if name in used},
    })  # fmt: skip


# -- files that are read, and where the copy may lie -------------------------------------------------------------


def files_of(source: Path) -> tuple[list[Path], int]:
    """All regular files in a folder (or the file itself), sorted, and the number of links, which are not followed."""
    if source.is_file():
        return [source], 0
    if not source.is_dir():
        raise InputError("there is no such file or folder to de-identify", todo="check the path")
    found: list[Path] = []
    links = 0
    for folder, folders, names in os.walk(source, followlinks=False):
        links += sum(Path(folder, name).is_symlink() for name in (*folders, *names))
        files = (Path(folder, name) for name in names)
        found += [file for file in files if file.is_file() and not file.is_symlink()]
    return sorted(found), links


@checked
def require_apart(source: Path, output: Path, secret_files: Sequence[Path | None] = ()) -> None:
    """Raise :class:`InputError` if the copy lies in the source, the source in the copy, or a secret file in the copy."""
    here, there = source.resolve(), output.resolve()
    if there == here or here in there.parents or there in here.parents:
        todo = "choose an output folder outside the source"
        raise InputError("the source and the cleaned copy lie in each other", todo=todo)
    if any(secret and there in (secret.resolve(), *secret.resolve().parents) for secret in secret_files):
        todo = "keep the salt and the key outside the output folder"
        raise InputError("a secret file would lie inside the cleaned copy", todo=todo)


def require_ours(output: Path) -> None:
    """Raise :class:`InputError` if the output holds anything that is not part of a cleaned copy."""
    if output.exists() and not output.is_dir():
        raise InputError("the output is a file, not a folder", todo="choose a folder")
    for folder, folders, names in os.walk(output):
        place = os.path.relpath(folder, output).replace(os.sep, "/")
        for name in (*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))):
            if not _is_ours("" if place == "." else f"{place}/", name):
                what = "the output folder holds files that are not of a cleaned copy"
                raise InputError(what, todo="choose an empty folder")


def _is_ours(place: str, name: str) -> bool:
    if name.endswith(".part"):  # left by a process that was killed
        name = name.removeprefix(".").rsplit(".", 2)[0]
    level = place.count("/")
    fits = name in (TABLE, RECORD, LOCK) if level == 0 else level == 2 and _IMAGE.fullmatch(name) is not None
    return fits and _OURS.fullmatch(f"{place}{name}") is not None


# -- the table and the key --------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier call; none if there is no table."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as handle:
        return [build(Row, row, where=path.name) for row in csv.DictReader(handle)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write the table of what became of the files, atomically."""
    write_text(path, _as_csv([tuple(f.name for f in fields(Row)), *map(astuple, rows)]))


def _as_csv(rows: Iterable[tuple[object, ...]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_key(path: Path | None) -> dict[str, tuple[str, ...]]:
    """The lines of a key by code of file; none if there is no key yet. Raises :class:`InputError` for another table."""
    if path is None or not path.exists():
        return {}
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            heads, *lines = [tuple(line) for line in csv.reader(handle)] or [()]
    except (OSError, ValueError, csv.Error):
        heads, lines = (), []
    if heads != _KEY_COLUMNS:
        raise InputError("the file named for the key holds something else", todo="name a new file")
    return {line[0]: line for line in lines if len(line) == len(_KEY_COLUMNS)}


def key_line(made: Original) -> tuple[str, ...]:
    """A line of the key. Cells that a spreadsheet would take for a formula get an apostrophe in front."""
    row = (made.code, made.file, made.patient, made.study, made.patient_identifier, made.study_uid, made.path)
    cells = [cell.encode("utf-8", "replace").decode("utf-8") for cell in row]
    return tuple(f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells)


def write_key(path: Path, lines: Iterable[tuple[str, ...]]) -> None:
    """Write the key atomically, readable for its owner alone."""
    with publish(path) as beside:
        create_secret(beside, _as_csv([_KEY_COLUMNS, *lines]))
