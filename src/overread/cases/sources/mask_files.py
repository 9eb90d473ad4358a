"""Where the masks of a table's images lie: a column, a file of annotations, a folder, beside the images, or a pattern."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from overread.cases.sources.folders import images_below
from overread.cases.sources.layout import Layout
from overread.cases.sources.tables import find, here_or_beside, numbered, passed_over
from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.images.address import file_of
from overread.images.outlines.annotation_file import AnnotationFile, is_annotation, open_annotations
from overread.images.outlines.mask_address import mask_file, of_image, parse_mask, several
from overread.tasks.segmentation import OBJECT

#: Masks that lie among the images, called like them.
BESIDE = "beside"
#: What may stand behind the name of an image in that of its mask.
_BEHIND = re.compile(
    r"(?:[-_. ]*)(?:masks?|labels?|segs?|segmentations?|gt|outlines|annotations?|cp_masks)(?:[-_ ]?\d+)?", re.IGNORECASE
)
#: Folders of masks that lie beside a folder of images, or beside the image.
_FOLDERS = ("masks", "mask", "labels", "segmentations", "annotations", "gt")
#: In a folder that was named for masks nothing is set aside.
_ALL = Layout(masks="keep")
#: What a pattern of paths can be made of.
_FIELDS = ("folder", "stem", "name")


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """Addresses as seen from the root, blank where there is none, the classes of objects, and what was found out."""

    addresses: pd.Series
    names: tuple[str, ...] = (OBJECT,)
    notes: tuple[str, ...] = ()


@checked
def find_masks(asked: str, table: pd.DataFrame, images: pd.Series, root: Path) -> FoundMasks:
    """The mask of each of the ``images`` (paths as seen from ``root``, with the index of ``table``).

    ``asked``: a column of the table; a file of annotations of all images; a folder of masks, or of folders of masks,
    named like the images; ``beside``: files called like the images with *mask* behind; or a pattern, such as
    ``{folder}/../masks`` or ``{folder}/{stem}_mask.png``, with a star for several masks of one image. Behind a ``#`` stands
    what holds for all (:mod:`overread.images.outlines.mask_address`). Raises :class:`InputError` for what is none of these,
    and where more than half of the masks are not there.
    """
    bare, _, behind = asked.partition("#")
    if bare in table.columns or asked in table.columns:
        column = asked if asked in table.columns else bare
        cells = table[column].loc[images.index].astype(str).str.strip().str.replace("\\", "/", regex=False)
        made = _there(cells, root, behind if column == bare else "")
        return replace(made, names=_classes(made.addresses, root))
    path = here_or_beside(bare, Path(), root)
    if path is not None and path.is_dir():
        made = _of_folder(path, images, root, behind)
        return replace(made, notes=(*passed_over(path, table, "mask"), *made.notes))
    if path is not None and is_annotation(bare):
        return _of_file(path, images, root, behind)
    if bare == BESIDE:
        return _beside(images, root, behind)
    if re.search(r"{(?:folder|stem|name)}", bare):
        return _of_pattern(bare, images, root, behind)
    if path is not None:
        raise InputError("the masks are one file, and no annotations", given=path.name, todo="give a column, a folder of masks, or a COCO .json, .xml or .csv file")  # fmt: skip
    find(list(map(str, table.columns)), asked, "mask")
    raise AssertionError


@checked
def masks_joined(table: pd.DataFrame, image: str, mask: str) -> tuple[pd.DataFrame, list[str]]:
    """The table with all masks of an image in each of its rows, where a row names the mask of one object; and notes."""
    several_ = table[table[mask] != ""].groupby(image)[mask].nunique() > 1
    if not several_.any():
        return table, []
    whole = table[table[mask] != ""].groupby(image)[mask].agg(lambda cells: "|".join(dict.fromkeys(cells)))
    rows = int(table[image].isin(several_.index[several_]).sum())
    note = f"mask: {rows:,} rows name several masks of {count(int(several_.sum()), 'image')}, whose objects are taken together"
    return table.assign(**{mask: table[image].map(whole).fillna("")}), [note]


# -- the ways, one function each -----------------------------------------------------------------------------------


def _there(cells: pd.Series, root: Path, behind: str = "") -> FoundMasks:
    """Addresses as they stand in cells, with what holds for all behind them; those that are not there are counted."""
    try:
        files = {cell: [mask_file(one) for one in several(cell)] for cell in cells.unique() if cell}
    except ImageError as error:
        raise InputError(error.what, given=error.given, todo=error.todo) from error
    found = {file: os.path.exists(root / file) for many in files.values() for file in many}
    absent = cells.map(lambda cell: cell != "" and not all(found[file] for file in files[cell]))
    filled = int((cells != "").sum())
    if absent.sum() * 2 > max(filled, 1) or not filled:
        what = f"{int(absent.sum()):,} of {count(filled, 'mask')} are not there" if filled else "there is no mask"
        raise InputError(what, given=f"first that of {numbered(absent)}" if filled else f"{count(len(cells), 'image')}",
                         todo="write paths as seen from the table, or name a folder of masks")  # fmt: skip
    made = cells.map(lambda cell: "|".join(_with(one, behind) for one in several(cell)))
    notes = _blank(made)
    if absent.any():
        notes = (*notes, f"mask: {int(absent.sum()):,} of {filled:,} files are not there, first that of {numbered(absent)}")  # fmt: skip
    return FoundMasks(made, notes=notes)


def _with(address: str, behind: str) -> str:
    return address if not behind else f"{address}{'&' if parse_mask(address).path != address else '#'}{behind}"


def _blank(masks: pd.Series) -> tuple[str, ...]:
    blank = int((masks == "").sum())
    return (f"mask: {count(blank, 'image')} without one can neither train nor be judged",) if blank else ()


def _of_file(path: Path, images: pd.Series, root: Path, behind: str) -> FoundMasks:
    """What one file of annotations holds of each image."""
    held = open_annotations(path)
    base = _from(path, root) + (f"#{behind}" if behind else "")
    names = images.map(lambda image: held.find(file_of(str(image))) or "")
    if not (names != "").any():
        raise InputError("the file of annotations holds none of the images", given=f"{path.name} names {next(iter(held.images), 'none')!r} and {len(held.images):,} others"[:160],
                         todo="see that it names files as the table does")  # fmt: skip
    twice = names[names != ""].duplicated()
    if twice.any():
        raise InputError("two images of the table fit one of the annotations", given=numbered(twice), todo="name images with their folders in both")  # fmt: skip
    masks = names.map(lambda name: of_image(base, name) if name else "")
    unused = len(held.images) - int((masks != "").sum())
    notes = [f"mask: {path.name} holds {count(int((masks != '').sum()), 'image')} of the table"]
    notes += [f"mask: {count(unused, 'image')} of {path.name} {'is' if unused == 1 else 'are'} not in the table"] if unused else []  # fmt: skip
    return FoundMasks(masks, _named(held), (*notes, *_blank(masks)))


def _of_folder(folder: Path, images: pd.Series, root: Path, behind: str) -> FoundMasks:
    """Files of a folder by the names of the images, with any ending, or with *_mask* and the like behind; or folders."""
    base = "" if folder == root else f"{_from(folder, root)}/"
    mine = {file_of(str(image)) for image in images}
    files = [file for file in (*images_below(folder, _ALL)[0], *sorted(_annotations(folder))) if base + file not in mine]  # fmt: skip
    by_name, inside = _by_name(files, {PurePosixPath(image.lower()).stem for image in mine})
    found = images.map(lambda image: _fitting(str(image), by_name))
    several_ = found.map(len) > 1
    if several_.any():
        two = found[several_].iloc[0][:2]
        raise InputError("two masks fit one image", given=f"{numbered(several_)}: {two[0]} and {two[1]}",
                         todo="write the masks into a column of the table, and name it with --mask")  # fmt: skip
    masks = found.map(lambda fits: _with(base + fits[0], behind) if fits else "")
    here = int((masks != "").sum())
    if not here:
        raise InputError("nothing in the folder of masks is named like an image", given=f"{count(len(files), 'file')} in {folder.name}",
                         todo="name masks like their images, or write them into a column")  # fmt: skip
    used = sum(inside.get(fits[0], 1) for fits in found if fits)
    notes = [f"mask: {here:,} {'folders' if inside else 'files'} of {folder.name} are named like images"]
    notes += [f"mask: {count(len(files) - used, 'file')} of {folder.name} {'is' if len(files) - used == 1 else 'are'} named like no image, and not used"] if len(files) > used else []  # fmt: skip
    return FoundMasks(masks, _classes(masks, root), (*notes, *_blank(masks)))


def _by_name(files: list[str], stems: set[str]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Files by the names of the images that they may belong to, and folders by that of the image that they, or a folder
    above, are called after: with how many files each holds."""
    by_name, inside = defaultdict[str, list[str]](list), dict[str, int]()
    for file in files:
        place = PurePosixPath(file).parent
        owner = next((part.name.lower() for part in (place, *place.parents) if part.name.lower() in stems), "")
        if owner:
            inside[place.as_posix()] = inside.get(place.as_posix(), 0) + 1
        for key in [owner] if owner else _keys(file):
            fit = place.as_posix() if owner else file
            by_name[key] += [fit] if fit not in by_name[key] else []
    return by_name, inside


def _beside(images: pd.Series, root: Path, behind: str) -> FoundMasks:
    """Files beside each image that are called like it with *mask* behind, or a folder of masks beside it."""
    listed: dict[str, list[str]] = {}
    masks = images.map(lambda image: "|".join(_with(one, behind) for one in _neighbours(str(image), root, listed)))
    here = int((masks != "").sum())
    if not here:
        raise InputError("no masks lie beside the images", given=count(len(images), "image"), todo="call them like the images with _mask behind, or name their folder with --mask")  # fmt: skip
    many = int(masks.str.contains("|", regex=False).sum())
    notes = [f"mask: {count(here, 'image')} have masks beside them{f', {many:,} several' if many else ''}"]
    return FoundMasks(masks, _classes(masks, root), (*notes, *_blank(masks)))


def _neighbours(image: str, root: Path, listed: dict[str, list[str]]) -> list[str]:
    path = PurePosixPath(file_of(image))
    folder = path.parent
    beside = [name for name in _listed(root / folder, listed) if _is_mask_of(name, path.stem) and name != path.name]
    if beside:
        return [(folder / name).as_posix() for name in beside]
    for place in (folder, folder.parent):
        for name in (each for each in _FOLDERS if (place / each) != folder):
            files = _listed(root / place / name, listed)
            alike = [file for file in files if PurePosixPath(file).stem == path.stem or _is_mask_of(file, path.stem)]
            if alike:
                return [(place / name / file).as_posix() for file in alike]
            others = len(_listed(root / folder, listed))
            if files and others == 1:  # the folder of one image: its masks are called otherwise
                return [(place / name).as_posix()]
    return []


def _is_mask_of(name: str, stem: str) -> bool:
    mine = PurePosixPath(name).stem
    return mine.startswith(stem) and _BEHIND.fullmatch(mine[len(stem) :]) is not None


def _listed(folder: Path, listed: dict[str, list[str]]) -> list[str]:
    key = str(folder)
    if key not in listed:
        try:
            listed[key] = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != ".")
        except OSError:
            listed[key] = []
    return listed[key]


def _of_pattern(pattern: str, images: pd.Series, root: Path, behind: str) -> FoundMasks:
    """Paths made of those of the images; a star stands for any text within one folder."""

    def address(image: str) -> str:
        path = PurePosixPath(file_of(image))
        text = pattern
        for field, value in zip(_FIELDS, (path.parent.as_posix(), path.stem, path.name), strict=True):
            text = text.replace(f"{{{field}}}", value if "*" not in pattern else value.replace("[", "[[]"))
        if "*" not in text:
            return os.path.normpath(text)
        whole = Path(os.path.normpath(text))
        start = whole.parent if whole.is_absolute() else root / whole.parent
        fits = sorted(start.glob(whole.name)) if start.is_dir() else []
        return "|".join(_from(Path(os.path.abspath(one)), root) for one in fits)

    try:
        masks = images.map(lambda image: address(str(image)))
    except ValueError as error:
        raise InputError("the pattern of masks cannot be used", given=f"{pattern}: {error}") from error
    there = masks.map(lambda mask: mask != "" and all((root / one).exists() for one in several(mask)))
    if not there.any():
        raise InputError("the pattern of masks finds none", given=f"{pattern}: first {masks.iloc[0] or 'nothing'}", todo="its fields are {folder}, {stem} and {name}")  # fmt: skip
    made = masks.where(there, "").map(lambda mask: "|".join(_with(one, behind) for one in several(mask)))
    return FoundMasks(made, _classes(made, root), (f"mask: {int(there.sum()):,} are found as {pattern}", *_blank(made)))


@checked
def without_masks(asked: str, files: list[str], folder: Path) -> list[str]:
    """The files of a folder that are images and none of the masks that ``asked`` names, as :func:`find_masks` takes it.

    ``folder`` is absolute, and ``files`` are as seen from it.
    """
    bare = asked.partition("#")[0]
    path = here_or_beside(bare, Path(), folder)
    below = f"{_from(path, folder)}/" if path is not None and path.is_dir() and path != folder else ""
    if below:
        return [file for file in files if not file.startswith(below)]
    here = {(PurePosixPath(file).parent, PurePosixPath(file).stem) for file in files}
    return [file for file in files if not _is_mask_among(PurePosixPath(file), here)]


def _is_mask_among(file: PurePosixPath, here: set[tuple[PurePosixPath, str]]) -> bool:
    """Whether it is called like another with *mask* behind, or lies in a folder of masks."""
    if any(part.lower() in _FOLDERS for part in file.parts[:-1]):
        return True
    cuts = (cut for cut in range(1, len(file.stem)) if (file.parent, file.stem[:cut]) in here)
    return any(_BEHIND.fullmatch(file.stem[cut:]) for cut in cuts)


# -- names ---------------------------------------------------------------------------------------------------------


def _annotations(folder: Path) -> Iterable[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name).relative_to(folder).as_posix() for name in files if is_annotation(name))


def _keys(file: str) -> list[str]:
    """The names of images that a mask may belong to: with its folder, and without."""
    path = PurePosixPath(file.lower())
    stems = [path.stem]
    for cut in range(len(path.stem) - 1, 0, -1):
        if _BEHIND.fullmatch(path.stem[cut:]):
            stems.append(path.stem[:cut])
    return list(dict.fromkeys(key for stem in stems for key in ((path.parent / stem).as_posix(), stem)))


def _fitting(image: str, by_name: dict[str, list[str]]) -> list[str]:
    path = PurePosixPath(file_of(image).lower())
    for key in ((path.parent / path.stem).as_posix(), path.stem):
        if key in by_name:
            return by_name[key]
    return []


def _from(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _named(held: AnnotationFile) -> tuple[str, ...]:
    return held.classes or (OBJECT,)


def _classes(masks: pd.Series, root: Path) -> tuple[str, ...]:
    """The classes of the objects: those that addresses name, and those of all files of annotations."""
    found, files = set[str](), set[str]()
    for cell in masks.unique():
        for address in map(parse_mask, several(cell)):
            found.update(name for _, name in address.classes)
            if is_annotation(address.path):
                files.add(address.path)
    for file in sorted(files):
        if (root / file).is_file():
            try:
                found.update(open_annotations(root / file).classes)
            except InputError:  # the audit says so, and sets the image aside
                continue
    return tuple(sorted(found)) or (OBJECT,)


@checked
def microns(asked: str, table: pd.DataFrame) -> pd.Series:
    """Microns of a pixel for each row: the number that ``asked`` is, or those of the column of that name, NaN where blank.

    Raises :class:`InputError` for another name, for what is no number, and for numbers that are not above 0.
    """
    try:
        size = pd.Series(float(asked), index=table.index)
    except ValueError:
        cells = table[find(list(map(str, table.columns)), asked, "pixel-size")].astype(str).str.strip()
        size = pd.to_numeric(cells.mask(cells == ""), errors="coerce").astype(float)
        if (strange := size.isna() & (cells != "")).any():
            raise InputError("a pixel size is a number of microns", given=f"{numbered(strange)} of the column {asked!r}",
                             todo="correct the cells, or leave them blank") from None  # fmt: skip
    if (wrong := ~(size.isna() | ((size > 0) & (size < 1e6)))).any():
        raise InputError("a pixel size lies above 0 microns", given=f"{asked}, {numbered(wrong)}", todo="give microns of a pixel, such as 0.5")  # fmt: skip
    return size
