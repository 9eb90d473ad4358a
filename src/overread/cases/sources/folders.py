"""Images in folders: class folders as cases, and the files that a table's cells name, wherever they lie below a folder."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from overread.cases.sources.layout import Layout
from overread.cases.sources.tables import ENDINGS, PART_NAMES, PLAIN, Roles, numbered, stems
from overread.core.errors import InputError, OverreadError, checked
from overread.images.address import file_of
from overread.images.read import read_image
from overread.tasks.classes import disease_of

_TABLES = (".csv", ".tsv", ".parquet", ".xlsx")
_DEEPEST = 20  # folders below folders
_USUAL = ("", "images/", "image/", "imgs/", "img/", "data/", "png/", "jpg/")


# -- cases from a folder of class folders -----------------------------------------------------------------------------


def read_folder(folder: Path, layout: Layout = PLAIN) -> tuple[pd.DataFrame, list[str]]:
    """A row per image: ``image``, ``label``, ``split``, ``patient`` (blank where nothing tells it), and notes.

    Raises :class:`InputError` where there are no class folders with images, and where it is in doubt which folder is
    the class or the patient.
    """
    found, notes = images_below(folder, layout)
    if not found:
        raise InputError("there are no images in class folders here", given=str(folder), todo=_hint(folder))
    try:
        table, more = arrange(found, layout)
    except InputError as error:
        beside = _tables(folder)
        todo = f"{error.todo}; or {_hint(folder)}" if beside and error.todo else error.todo or _hint(folder)
        raise InputError(error.what, given=error.given or str(folder), todo=todo) from error
    classes = table["label"].nunique()
    if _tables(folder) and (classes == 1 or classes > max(20, len(table) / 5)):
        raise InputError("the images lie in folders that are no classes", given=str(folder), todo=_hint(folder))
    unread = [f"folder: the table {name} in it is not read" for name in _tables(folder)[:1]]
    return table, [*notes, *more, *unread]


def arrange(images: Sequence[str], layout: Layout = PLAIN) -> tuple[pd.DataFrame, list[str]]:
    """What the folders above ``images`` say: ``image``, ``label``, ``split`` and ``patient``, and notes; the index
    tells the places of the images that are kept.

    Raises :class:`InputError` if an image does not lie in a class's folder, or if it is in doubt what a folder means.

    >>> arrange(["train/no/1.png", "test/yes/2.png"])[0]["split"].tolist()
    ['train', 'test']
    """
    table = pd.DataFrame({"image": list(images)})
    pieces = table["image"].map(lambda name: PurePosixPath(name).parts)
    kept, notes = _parts_first(pieces)
    table, pieces = table[kept], pieces[kept]
    top = {piece[0].lower() for piece in pieces}
    above = int(top <= set(PART_NAMES) and all(len(piece) > 1 for piece in pieces))
    table["split"] = [PART_NAMES[piece[0].lower()] if above else "" for piece in pieces]
    if layout.label_from:
        table["label"], more = by_pattern(table["image"], layout.label_from, "label")
        if (table["label"] == "").all():
            raise InputError(
                "the pattern of --label-from fits no image", given=layout.label_from, todo="see the paths of the images"
            )
        notes += more
        level = -1
    else:
        level = above + _wrappers(pieces, above)
        stray = pieces.map(len) < level + 2
        if above and 0 < stray.sum() < len(stray) and not set(table["split"][stray]) & set(table["split"][~stray]):
            left = ", ".join(sorted(pieces[stray].str[0].unique()))
            notes.append(f"folder: {int(stray.sum()):,} images of {left} lie in no folder of a class and are left out")
            table, pieces = table[~stray].copy(), pieces[~stray]
        elif stray.any():
            raise InputError("images stand beside the class folders", given=f"{int(stray.sum()):,} of {len(stray):,} images",
                             todo=_class_in_names(table["image"]))  # fmt: skip
        table["label"] = [piece[level] for piece in pieces]
        inside = f" within {'/'.join(pieces.iloc[0][above:level])}" if level > above else ""
        notes.append(f"label: the name of the folder{inside}")
        _refuse_other_class(pieces, level)
        if not above:
            table["split"], level_below = _part_below(pieces, level)
            pieces = pieces.map(lambda piece: (*piece[: level + 1], *piece[level + 1 + level_below :]))
    table["patient"], more = _patients(table, pieces, level, layout)
    return table[["image", "label", "split", "patient"]], notes + more


def _parts_first(pieces: pd.Series) -> tuple[pd.Series, list[str]]:
    """Which images to keep: what stands beside train and test at the top is set aside, and so is an inner copy."""
    top = pieces.map(lambda piece: piece[0] if len(piece) > 1 else "")
    part = top.str.lower().map(PART_NAMES)
    inside = pieces[part == "train"].map(len)
    if part.isna().any() and (part.nunique() > 1 or (len(inside) and (inside > 2).all())):
        others = top[part.isna()]
        shown = ", ".join(name or "the folder itself" for name in sorted(others.unique())[:5])
        return part.notna(), [
            f"folder: {len(others):,} images beside the parts {', '.join(sorted(top[part.notna()].unique()))} are left out, in {shown}"
        ]
    below = pieces.map(lambda piece: piece[1] if len(piece) > 2 else "").groupby(top).agg(set)
    copies = [name for name in below.index if len(below[name]) > 1 and below[name] <= set(below.index) - {name, ""}]
    if copies:
        inner = top.isin(copies)
        return ~inner, [
            f"folder: {int(inner.sum()):,} images in {', '.join(copies)} are left out: its folders are called as those beside it"
        ]
    return pd.Series(True, index=pieces.index), []


def _wrappers(pieces: pd.Series, start: int) -> int:
    """How many folders from ``start`` hold all the others: a data set that was unpacked into a folder of its own."""
    count = 0
    while all(len(piece) > start + count + 2 for piece in pieces) and pieces.str[start + count].nunique() == 1:
        count += 1
    return count


def _refuse_other_class(pieces: pd.Series, level: int) -> None:
    """Data sets beside each other, and a deeper folder that names disease and health where the upper one does not."""
    depth = pieces.map(len)
    for below in range(level + 1, int(depth.max()) - 1):
        names = pieces[depth > below + 1].str[below]
        if names[depth > below + 2].str.lower().map(PART_NAMES).nunique() > 1:
            raise InputError("train, val and test stand within several folders, each a data set of its own",
                             given=", ".join(sorted(pieces.str[level].unique())[:5]), todo="give one of these folders")  # fmt: skip
        kinds = sorted(set(names.str.replace(r"[\d_\- ]+", " ", regex=True).str.strip()))
        if len(names) == len(pieces) and disease_of(kinds) and not disease_of(sorted(pieces.str[level].unique())):
            words = [
                " ".join(
                    word for word in kind.split() if word not in set.intersection(*(set(k.split()) for k in kinds))
                )
                for kind in kinds
            ]
            raise InputError("it is in doubt which folder is the class",
                             given=f"{', '.join(sorted(pieces.str[level].unique())[:4])}, or below them {', '.join(sorted(names.unique())[:2])}",
                             todo=f"say it with --label-from '({'|'.join(words)})'")  # fmt: skip


def _class_in_names(images: pd.Series) -> str:
    """What to do where no folder is a class: the words that the names begin with, if these are few."""
    first = images.str.extract(r"(?:^|/)([A-Za-z]+)[^/]*$")[0]
    words = sorted(first.dropna().unique())
    pattern = f"'({'|'.join(words)})'" if first.notna().all() and 2 <= len(words) <= 20 else "PATTERN"
    return f"say where the class stands in the paths with --label-from {pattern}, or give a table of labels (for DICOM with --labels-from)"


def _part_below(pieces: pd.Series, level: int) -> tuple[pd.Series, int]:
    """The part of each image where train and test stand within the classes, and how many folders that takes."""
    names = pieces.map(lambda piece: piece[level + 1].lower() if len(piece) == level + 3 else "")
    part = names.map(PART_NAMES)
    return (part, 1) if part.notna().all() and part.nunique() > 1 else (pd.Series("", index=pieces.index), 0)


def _patients(table: pd.DataFrame, pieces: pd.Series, level: int, layout: Layout) -> tuple[pd.Series, list[str]]:
    """The patient that the pattern finds, or that a folder within the class is; blank where nothing tells it."""
    if layout.patient_from:
        return by_pattern(table["image"], layout.patient_from, "patient")
    if (named := patient_folders(table["image"])) is not None:
        return named
    none = pd.Series("", index=table.index)
    if level < 0:
        return none, []
    depth = pieces.map(len)
    nested = depth > level + 2
    if not nested.all():
        loose = int(nested.sum())
        return none, [
            f"patient: {loose:,} of {len(pieces):,} images lie in folders within their class; --patient-from says if these are patients"
        ] if loose else []
    levels = [k for k in range(level + 1, int(depth.min()) - 1)
              if pieces.str[k].groupby(table["label"]).nunique().max() > 1]  # fmt: skip
    own = [k for k in levels if _parents(pieces, k) <= 1.5]  # not names that each folder has, such as study1
    levels = own if len(levels) > 1 and own else levels
    if not levels and level + 3 == depth.min() and pieces.str[level + 1].nunique() > 1:
        levels = [level + 1]  # each class has one: patients still, since these differ
    if not levels:
        return none, []
    both = (
        pd.DataFrame({"name": pieces.str[levels[0]], "label": table["label"]}).drop_duplicates()["name"].value_counts()
    )
    if len(levels) == 1 and (both > 1).mean() <= 0.5:
        return pieces.str[levels[0]], [
            "patient: the name of the folder within the class's folder; another with --patient-from"
        ]
    best = max(levels, key=lambda k: (pieces.str[k].nunique(), -k))
    behind = {int(d) - 1 - best for d in depth}
    pattern = "([^/]+)" + "/[^/]+" * min(behind) + "$"
    raise InputError("it is in doubt which folder within the class is the patient's",
                     given=", ".join(f"{pieces.str[k].nunique():,} such as {pieces.iloc[0][k]}" for k in levels),
                     todo=f"say it with --patient-from '{pattern}' ({pieces.str[best].nunique():,} patients), or '[^/]+$' for each image")  # fmt: skip


def _parents(pieces: pd.Series, level: int) -> float:
    """In how many folders a folder's name at this level stands, on average."""
    return float(pieces.map(lambda piece: piece[:level]).groupby(pieces.str[level]).nunique().mean())


def _hint(folder: Path) -> str:
    if tables := _tables(folder):
        return f"read the table {tables[0]} that lies in it"
    return "give a table (CSV, TSV, Parquet, .xlsx), a MedMNIST .npz, or a folder with one folder per class"


def _tables(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _TABLES and not p.name.startswith("."))


# -- patterns in the paths of images ----------------------------------------------------------------------------------


@checked
def by_pattern(images: pd.Series, pattern: str, role: str) -> tuple[pd.Series, list[str]]:
    """What the one group of a pattern finds in each path, else the whole match; blank where it does not fit, and notes."""
    compiled = re.compile(pattern)
    found = images.map(lambda path: _found(compiled, path))
    fits = int((found != "").sum())
    rest = f"; {len(images) - fits:,} do not fit" if fits < len(images) else ""
    return found, [
        f"{role}: found by '{pattern}' in {fits:,} of {len(images):,} paths of images: {found[found != ''].nunique():,} different{rest}"
    ]


def _found(pattern: re.Pattern[str], path: str) -> str:
    match = pattern.search(path)
    if match is None:
        return ""
    return (match[1] if pattern.groups == 1 else match[0]) or ""


_PERSON = r"(?<![A-Za-z])((?:patient|person|subject|participant|subj|pat|sub|pid)[-_ ]?)\d+"


@checked
def patient_folders(images: pd.Series) -> tuple[pd.Series, list[str]] | None:
    """The patients where each image lies in a folder such as ``patient00012``, and a note; None otherwise."""
    folders = images.str.extract(rf"(?i)(?:^|/){_PERSON}/")[0]
    if folders.isna().any() or folders.nunique() != 1:
        return None
    pattern = rf"{folders.iloc[0]}(\d+)/"
    found, _ = by_pattern(images, pattern, "patient")
    return found, [
        f"patient: found in the paths by '{pattern}', {found.nunique():,} in all; another pattern with --patient-from"
    ]


@checked
def offered_patient(images: pd.Series) -> str:
    """A sentence that offers ``--patient-from`` with a pattern that groups the images sensibly; blank where none does."""
    words = images.str.extract(rf"(?i){_PERSON}[^/]*$")[0].value_counts()
    sides = images.str.extract(r"(?i)[^/]([-_ ])(?:left|right|od|os|lcc|rcc|lmlo|rmlo|l|r)(?:\.\w+)?$")[
        0
    ].value_counts()
    patterns = [rf"{words.index[0]}(\d+)"] if len(words) else []
    patterns += [rf"([^/]+){sides.index[0]}(?i:left|right|od|os|lcc|rcc|lmlo|rmlo|l|r)\b"] if len(sides) else []
    patterns += [_leading(images, tokens) for tokens in (1, 2, 3, 4)]
    for pattern in filter(None, patterns):
        found, _ = by_pattern(images, pattern, "patient")
        sizes = found[found != ""].value_counts()
        if (
            sizes.sum() * 2 >= len(images)
            and len(sizes) >= 5
            and sizes.mean() >= 1.3
            and sizes.iloc[0] <= max(20, sizes.sum() / 10)
        ):
            return f"; --patient-from '{pattern}' finds {len(sizes):,} in the paths of {sizes.sum():,} of {len(images):,} images"
    return ""


def _leading(images: pd.Series, tokens: int) -> str:
    """A pattern for the number in one of the first tokens of the names, before which the name is the same; blank if it is not."""
    before = images.str.extract(rf"(?:^|/)((?:[^-_ /]+[-_ ]){{{tokens - 1}}}[A-Za-z]*)\d+[-_ ][^/]+$")[0]
    if before.isna().mean() > 0.5 or before.nunique() != 1:
        return ""
    return rf"(?:^|/){re.escape(before.mode()[0])}(\d+)[-_ ]".replace(r"\-", "-").replace("\\ ", " ")


# -- which files lie in a folder: without runs of ours, without masks -------------------------------------------------


@checked
def images_below(folder: Path, layout: Layout = PLAIN) -> tuple[list[str], list[str]]:
    """The images in a folder and all folders below it, sorted, relative to it; and what was left out, with numbers."""
    left: Counter[str] = Counter()
    found = sorted(_walk(folder, "", left))
    notes = [f"folder: {count:,} {what}" for what, count in sorted(left.items())]
    masks, more = masks_among(found, folder) if layout.masks == "set-aside" else (set(), [])
    return [name for name in found if name not in masks], notes + more


def _walk(folder: Path, prefix: str, left: Counter[str], depth: int = 0) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError("the folder cannot be read", given=f"{folder}: {error.strerror}") from error
    if {"study.toml", "record.json"} <= {entry.name for entry in entries}:
        left["folders of runs are left out"] += 1
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":  # what file systems and archives keep for themselves
            continue
        if entry.is_dir():
            if entry.is_symlink() or depth >= _DEEPEST:  # a loop of links is not followed
                left[
                    "links to folders are not followed"
                    if entry.is_symlink()
                    else "folders lie too deep and are left out"
                ] += 1
            else:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", left, depth + 1)
        elif entry.name.lower().endswith(ENDINGS) and entry.is_file():
            yield prefix + entry.name
        elif entry.name.lower().endswith(_PICTURES):
            left[f"files ending in {Path(entry.name).suffix.lower()} are left out"] += 1


#: Pictures that are not read: told, since somebody may have meant them.
_PICTURES = (".gif", ".svg", ".heic", ".heif", ".avif", ".jxl", ".psd", ".raw", ".pdf", ".mp4", ".avi")
_MASK = r"(?:masks?|seg|segs|segmentations?|gt|ground[-_ ]?truth|annotations?|contours?|labels?|labelsT[rs]|roi)"
_MASK_NAME = re.compile(rf"(.+?)[-_. ]+{_MASK}(?:[-_ ]?\d+)?", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf"(?:.*[-_ ])?{_MASK}", re.IGNORECASE)
_LOOKED_AT = 24
_LONGEST_FIRST = sorted(ENDINGS, key=len, reverse=True)


@checked
def masks_among(images: list[str], root: Path) -> tuple[set[str], list[str]]:
    """The images that are masks of others, and notes: named after another image, and of two grey levels.

    A mask is called as an image with *mask*, *segmentation* or the like behind it, or lies under the image's name in a
    folder called so. The first few are looked at: a name alone decides nothing (*left_roi* may be a photograph).
    """
    stems = [_stem(name) for name in images]
    here, anywhere = set(stems), Counter(stem.rsplit("/", 1)[-1] for stem in stems)
    called = []
    for name, stem in zip(images, stems, strict=True):
        folder, _, last = stem.rpartition("/")
        match = _MASK_NAME.fullmatch(last)
        beside = match is not None and (f"{folder}/{match[1]}" if folder else match[1]) in here
        apart = any(_MASK_FOLDER.fullmatch(part) for part in folder.split("/"))
        if beside or (apart and (anywhere[last] > 1 or (match is not None and anywhere[match[1]] > 0))):
            called.append(name)
    if not called:
        return set(), []
    seen = [
        flat for name in called[:: max(1, len(called) // _LOOKED_AT)] if (flat := _is_flat(root / name)) is not None
    ]
    if seen and sum(seen) >= 0.8 * len(seen):
        return set(called), [f"image: {len(called):,} masks of other images are set aside (--masks keep reads them)"]
    return set(), [f"image: {len(called):,} files are called masks of others but do not look so, and are read"]


def _stem(name: str) -> str:
    name = name.lower()
    return next((name[: -len(ending)] for ending in _LONGEST_FIRST if name.endswith(ending)), name)


def _is_flat(path: Path) -> bool | None:
    """Whether an image has but few levels, or nearly all of it two (a mask saved as JPEG); None if it cannot be read."""
    try:
        pixels = read_image(path).pixels.reshape(-1)
    except OverreadError:
        return None
    pixels = pixels[:: max(1, len(pixels) // 100_000)]
    low, high = float(pixels.min()), float(pixels.max())
    near = 0.06 * (high - low)
    return len(set(pixels.tolist())) <= 8 or bool(((pixels <= low + near) | (pixels >= high - near)).mean() > 0.97)


# -- where the images of a table lie: as it says, or below a folder, with an ending or a beginning that it leaves out --


def locate(images: pd.Series, root: Path, layout: Layout = PLAIN) -> tuple[pd.Series, list[str]]:
    """Paths (relative to ``root`` or absolute) of the files that the cells name, and notes on how they were found.

    Tried in turn: as written; in a usual folder beside the table; among all files below the table's folder (or that of
    ``layout.images_in``), by as much of the path as fits one file, with any ending, in any case. Two files that fit one
    cell are refused, and so are two cells that fit one file.
    """
    images = images.str.replace("\\", "/", regex=False)
    _refuse_addresses(images)
    base = Path(layout.images_in).absolute() if layout.images_in else root
    if not base.is_dir():
        raise InputError("the folder of --images is not there", given=str(base), todo="check the path")
    stay = "" if base == root else f"{_from(base, root)}/"
    filled = images[images != ""]
    sample = filled.iloc[:: max(1, len(filled) // 20)]
    usual = (
        max(_USUAL, key=lambda folder: sum(_exists(base, f"{folder}{name}") for name in sample)) if len(filled) else ""
    )
    there = {name: _exists(base, usual + name) for name in filled.map(file_of).unique()}
    whole = images.map(lambda name: name != "" and there[file_of(name)])
    made = images.where(images == "", stay + usual + images)
    notes = [f"image: files are found as {usual}<name>"] if usual and any(there.values()) else []
    if whole.all():
        return made, notes
    taken = set(made[whole])
    found, more = _sought(images[~whole], base)
    found = (stay + found)[~(stay + found).isin(taken)]  # the file of another cell is not that of this one
    _refuse_shared(images[found.index], found)
    behind = images[found.index].map(lambda cell: cell[len(file_of(cell)) :])  # the number of a frame
    made.loc[found.index] = found + behind
    return _count(made, images, whole | made.index.isin(found.index), base, [*notes, *more])


def _refuse_shared(written: pd.Series, files: pd.Series) -> None:
    pairs = pd.DataFrame({"written": written.map(file_of), "file": files}).drop_duplicates()
    twice = pairs["file"].duplicated(keep=False)
    if twice.any():
        first = pairs["written"][twice].iloc[:2].tolist()
        raise InputError("two names of images fit one file", given=f"{' and '.join(first)}: {pairs['file'][twice].iloc[0]}",
                         todo="write the paths of the files into the column, or name their folder with --images")  # fmt: skip


def _from(base: Path, root: Path) -> str:
    """``base`` as seen from ``root`` where it lies below it, else absolute."""
    return base.relative_to(root).as_posix() if base.is_relative_to(root) else base.as_posix()


def _sought(images: pd.Series, base: Path) -> tuple[pd.Series, list[str]]:
    """The files below ``base`` that fit the cells, for those where one does; see :func:`locate`."""
    files = sorted(_walk(base, "", Counter()))
    masks = masks_among(files, base)[0]
    files = [name for name in files if name not in masks]
    written = images.map(file_of).str.lower()
    parts = written.map(lambda name: [part for part in name.split("/") if part not in ("", ".", "..")])
    best, best_drop, doubtful = images.iloc[:0], 0, ""
    for drop in range(int(parts.map(len).max())):
        asked = parts.map(lambda each: "/".join(each[drop:]))  # noqa: B023 (used at once)
        if asked[asked != ""].nunique() < written[written != ""].nunique():  # two cells must not become one
            break
        found, doubt = _fitting(files, asked)
        if len(found) > len(best) or (drop == 0 and doubt):
            best, best_drop, doubtful = found, drop, doubt
    if doubtful:
        raise InputError("names of images fit several files", given=doubtful,
                         todo="name the folder with --images, or write the ending or the folder into the column")  # fmt: skip
    return best, _told(best, written, best_drop) if len(best) else []


def _fitting(files: list[str], asked: pd.Series) -> tuple[pd.Series, str]:
    """The file that each name fits but for case, else but for its ending too; and the first that fits several."""
    found: dict[object, str] = {}
    doubtful = ""
    for form in (str.lower, _stem):
        keys = asked.drop(index=list(found)).map(form)
        hits = _by_tail(files, keys, form)
        for row, key in keys.items():
            fits = hits.get(key, [])
            if len(fits) == 1:
                found[row] = fits[0]
            elif fits and not doubtful:
                doubtful = f"{fits[0]} and {fits[1]}"
    return pd.Series(found, dtype=object), doubtful


def _by_tail(files: list[str], keys: pd.Series, form: Callable[[str], str]) -> dict[str, list[str]]:
    """The files by as many of their last folders as any of the keys has."""
    wanted, deep = set(keys), {key.count("/") for key in keys}
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        pieces = form(file).split("/")
        for count in deep:
            if count < len(pieces) and (tail := "/".join(pieces[len(pieces) - 1 - count :])) in wanted:
                found[tail].append(file)
    return found


def _told(found: pd.Series, written: pd.Series, drop: int) -> list[str]:
    folders = sorted(set(found.str.rpartition("/")[0]))
    endings = Counter(PurePosixPath(name).suffix for name in found)
    told = ", ".join(f"{count:,} {ending or 'without ending'}" for ending, count in endings.most_common(4))
    where = (
        f"in {folders[0] or 'the folder itself'}"
        if len(folders) == 1
        else f"in {len(folders):,} folders, first {folders[0]}"
    )
    less = f", without the first {drop} folders of the written path" if drop else ""
    pairs = zip(written[found.index], found.str.lower(), strict=True)
    other = sum(cell.endswith(ENDINGS) and not file.endswith(PurePosixPath(cell).suffix) for cell, file in pairs)
    change = [f"image: {other:,} files are found with another ending than written"] if other else []
    return [f"image: {len(found):,} files are found by name {where} ({told}){less}", *change]


def _refuse_addresses(images: pd.Series) -> None:
    remote = images.str.match(r"[A-Za-z][A-Za-z0-9+.-]+://")
    if remote.any():
        raise InputError("images are read from files, never from the network", given=numbered(remote),
                         todo="download them first and name the files")  # fmt: skip


def _exists(root: Path, image: str) -> bool:
    try:
        return os.path.isfile(root / file_of(image)) or os.path.isdir(root / file_of(image))  # of frames
    except ValueError:  # a null byte in the name
        return False


def _count(
    made: pd.Series, written: pd.Series, there: pd.Series, base: Path, notes: list[str]
) -> tuple[pd.Series, list[str]]:
    absent = there.index[~there]
    if len(absent):
        row, tried = absent[0] + 1, base / written[absent[0]]
        if len(absent) * 2 > len(made):
            what = (
                "the images are not there"
                if len(absent) == len(made)
                else f"{len(absent):,} of {len(made):,} images are not there"
            )
            raise InputError(what, given=f"first that of row {row:,}: tried {tried}, and its name below {base}",
                             todo="name the folder of the images with --images, or another column with --image")  # fmt: skip
        first = f"first that of row {row:,}; the audit sets them aside"
        notes = [*notes, f"image: {len(absent):,} of {len(made):,} files are not there, {first}"]
    return made, notes


@checked
def named_like_files(roles: Roles, root: Path, layout: Layout) -> str | None:
    """The column whose cells are names of the images that lie beside the table; None where there is none."""
    base = Path(layout.images_in) if layout.images_in else root
    files = images_below(base, layout)[0] if base.is_dir() else []
    names = {form for file in files for form in (file.rsplit("/", 1)[-1].lower(), stems(pd.Series([file]))[0].lower())}

    def share(column: str) -> float:
        cells = roles.table[column][roles.table[column] != ""].drop_duplicates().head(50).str.lower()
        return float(cells.str.replace(r"^.*[/\\]", "", regex=True).isin(names).mean()) if len(cells) > 1 else 0.0

    best = max(roles.columns, key=share)
    if share(best) < 0.5:
        return None
    roles.notes.append(f"image: guessed column {best!r}, whose cells are names of files; override with --image")
    roles.taken.setdefault(best, "image")
    return best
