"""A contact sheet before training: the images as a network will see them, and what stands out among them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.audit import modes, refuse_unreadable, sizes
from overread.cases.audit.fingerprints import exact, similar, take_fingerprints
from overread.cases.cases import Cases, paths
from overread.core import random
from overread.core.errors import ImageError, checked, require
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.images import augment
from overread.images.augment import Augmentation
from overread.images.conversions import eight_bits
from overread.images.preprocess import Preprocess, load
from overread.images.slides.slide import OVERVIEW_MPP
from overread.learning import auto
from overread.learning.model import Decision
from overread.learning.recipe import AUTO, Recipe
from overread.reporting import words
from overread.reporting.gallery import truths
from overread.reporting.page import Picture, Section, write_page
from overread.reporting.shown_cases import as_address
from overread.reporting.thumbnails import covered, png, small
from overread.reporting.words import Table

#: Pictures of each extreme, of a source, pairs of copies, cases with several images, rows of the table of unreadable ones.
EXTREMES, OF_SOURCE, PAIRS, SEVERAL, UNREAD = 6, 6, 8, 6, 100
#: Classes and sources that get pictures, and pictures of classes in all.
GROUPS, OF_CLASSES = 40, 240
#: What the section of copies is called.
COPIES = "Copies side by side"
#: Images that are augmented, and how often each.
AUGMENTED, TIMES = 6, 4
_SIDE, _GAP = 144, 6  # pixels of a picture, and between two
_SLICES = 9  # of a volume
#: Pixels of a side of the overview of a slide.
OVERVIEW_SIDE = 256


@checked
def show(
    cases: Cases, path: str | os.PathLike[str], *, recipe: Recipe = AUTO, weights: str | None = None, per_class: int = 8, most: int = 5000,
    seed: int = 0, threads: int = 0, cache: str | os.PathLike[str] | None = None, progress: Progress = silent, say: Say = unheard,
) -> Path:  # fmt: skip
    """Write one page of what a training on ``cases`` would look at, and give its path; nothing is trained.

    The images are prepared as the plan of ``recipe`` says: by class, augmented, of each source, copies side by side, the
    largest, smallest, darkest and brightest, all images of a case together, and by name those that cannot be read.
    ``per_class``: pictures of a class. ``most``: images that are looked at, drawn by ``seed`` with each class and source
    among them (0: all). ``weights``: a folder of weights for the plan; none are fetched. Pictures with writing in them are
    covered. Raises :class:`InputError` if no image can be read, and what the plan raises.
    """
    require(per_class >= 1, "per_class must be at least 1", given=per_class)
    require(most >= 0, "most must not be negative", given=most)
    rows = drawn_rows(cases, most, seed)
    some = cases.take(rows)
    prints = take_fingerprints(some, threads=threads, progress=progress, cache=cache)
    refuse_unreadable(prints)
    made, preprocess, decisions = planned(cases, some, prints, recipe, weights)
    for decision in decisions:
        say(decision.line)
    groups = [group for part in (by_class(some, prints, per_class, seed), copies(some, prints, threads), extremes(prints), by_source(some, prints, seed), several(some, prints))
              for group in part if group.items]  # fmt: skip
    wanted = sorted({row for group in groups for item in group.items for row in item})
    prepared = prepare(some, wanted, preprocess, prints, threads, progress)
    parts = [
        Section.of("What there is", [_looked(cases, some, seed, groups)], *_counts(cases, some, prints)),
        Section.of("What a network will see", [_tiles_of(made) if some.slides else _seen(preprocess)], _table("The plan, without a clock", ("What", "Choice", "Why"), [(d.what, d.choice, d.why) for d in decisions])),
        *(() if some.slides else (_augmented(made, preprocess, [group for group in groups if group.title.startswith("Class: ")], prepared, seed),)),
        *(_section(group, some, prepared) for group in groups),
        Section.of("Cannot be read", (), _unreadable(some, prints)),
    ]  # fmt: skip
    unread = int((prints["error"] != "").sum())
    cautions = [f"{count(unread, 'image')} of those looked at cannot be read: named at the end of this page."] if unread else []  # fmt: skip
    hidden = int((prints["text"] > 0).sum())
    cautions += [f"{count(hidden, 'image')} with writing in the pixels: covered here, for it may name a patient. A network sees it: mask it, or leave them out."] if hidden else []  # fmt: skip
    summary = [f"{count(len(cases), 'image')} of {count(cases.patients, 'patient')}, before anything is trained."]
    return write_page(path, "Contact sheet", summary, parts, cautions=cautions)


# -- which images are looked at, and how a network would be given them ------------------------------------------------


@checked
def drawn_rows(cases: Cases, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of the images that are looked at, in the order of the table: a few of each class and source, the rest drawn."""
    if not most or len(cases) <= most:
        return np.arange(len(cases))
    order = random.permutation(seed, 0, len(cases), "contact sheet")
    groups = pd.DataFrame({"stratum": cases.strata, "source": cases.table["source"].to_numpy()}).iloc[order]
    rank = groups.groupby(["stratum", "source"], dropna=False).cumcount().to_numpy()
    first = np.argsort(
        np.where(rank < OF_SOURCE, rank, OF_SOURCE), kind="stable"
    )  # the first of each group, then as drawn
    return np.sort(order[first[:most]])


@checked
def planned(
    cases: Cases, some: Cases, prints: pd.DataFrame, recipe: Recipe, weights: str | None
) -> tuple[Recipe, Preprocess, list[Decision]]:
    """The recipe without open fields, how it prepares an image, and why: as training would begin, without the clock. Of slides their
    overviews are shown, and what tiles settle of the recipe, or bags of them, is told."""
    if some.slides:
        from overread.slides.tile_recipe import settle_recipe

        made, settled = settle_recipe(recipe, weights=weights)
        return made, Preprocess((OVERVIEW_SIDE, OVERVIEW_SIDE), fit="pad"), [d for d in settled if d.what != "orientations"]  # fmt: skip
    readable = some.take(np.flatnonzero((prints["error"] == "").to_numpy()))
    facts = auto.look(readable, np.flatnonzero(readable.labelled))
    known = cases.take(np.flatnonzero(cases.labelled))
    fewest = known.target.task.fewest_patients(known.labels, known.table["patient"].to_numpy())
    facts = replace(facts, images=len(known), patients=known.patients, fewest=fewest)
    recipe = recipe.changed(precision="float32") if recipe.precision == "auto" else recipe
    found = auto.weights_at_hand(recipe, facts, folder=weights)
    made, decisions = auto.plan(recipe, facts, pretrained=tuple(found), probe=auto.make_probe(facts, "cpu"))
    told = [d for d in decisions if d.what not in ("precision", "epochs")]
    return made, auto.preprocess_of(made, facts), told


# -- which of them stand together: rows of the images that are looked at ----------------------------------------------


@dataclass(frozen=True)
class Group:
    """Pictures under one heading: each item is the rows that stand side by side, with the line under them."""

    title: str
    words: str
    items: tuple[tuple[int, ...], ...]
    lines: tuple[str, ...]


def _single(title: str, said: str, rows: Sequence[int], lines: Sequence[str] | None = None) -> Group:
    return Group(title, said, tuple((int(row),) for row in rows), tuple(lines or [""] * len(rows)))


def by_class(some: Cases, prints: pd.DataFrame, per_class: int, seed: int) -> list[Group]:
    """A few images of each class, finding or fifth of a quantity, of as many patients as can be."""
    task, order = some.target.task, _by_patient(some, prints, seed)
    if task.continuous:
        strata = some.strata
        has = np.stack([strata == i for i in np.unique(strata[strata >= 0])], 1)
        names = [f"{task.names[0]}, fifth {i + 1} from the lowest" for i in range(has.shape[1])]
    else:
        has, names = task.presence(some.labels), list(task.names)
    many = max(1, min(per_class, OF_CLASSES // max(1, min(len(names), GROUPS))))
    left = f" The first {GROUPS} of {len(names)} are shown." if len(names) > GROUPS else ""
    found = []
    for i, name in enumerate(names[:GROUPS]):
        rows = [row for row in order if has[row, i]]
        said = (
            f"{min(many, len(rows)):,} of {len(rows):,} that were looked at, drawn by chance.{left if i == 0 else ''}"
        )
        found.append(_single(f"Class: {words.name(name)}", said, rows[:many]))
    return found


def _by_patient(some: Cases, prints: pd.DataFrame, seed: int) -> list[int]:
    """Readable rows by chance, one of each patient before the second of any."""
    order = random.permutation(seed, 0, len(some), "contact sheet")
    order = order[(prints["error"] == "").to_numpy()[order]]
    turn = some.table["patient"].iloc[order].reset_index(drop=True)
    return [int(row) for row in order[np.argsort(turn.groupby(turn).cumcount().to_numpy(), kind="stable")]]


def copies(some: Cases, prints: pd.DataFrame, threads: int) -> list[Group]:
    """Pairs that are the same, or nearly, side by side; those of two patients first."""
    patient = some.table["patient"].to_numpy(object)
    rows = [(tuple(map(int, pair)), "pixel for pixel") for pair in exact(prints)]
    rows += [(tuple(map(int, pair)), "nearly") for pair in similar(prints, threads=threads)]
    rows.sort(key=lambda found: patient[found[0][0]] == patient[found[0][1]])
    lines = [f"{how} the same, {'of one patient' if patient[a] == patient[b] else 'of two patients'}" for (a, b), how in rows]  # fmt: skip
    said = f"{min(PAIRS, len(rows)):,} of {count(len(rows), 'pair')} among the images that were looked at."
    return [Group(COPIES, said, tuple(pair for pair, _ in rows[:PAIRS]), tuple(lines[:PAIRS]))]


def extremes(prints: pd.DataFrame) -> list[Group]:
    """The largest, smallest, darkest and brightest of the images that were looked at."""
    readable = prints[prints["error"] == ""]
    area, size = readable["height"] * readable["width"] * readable["depth"], sizes(readable)
    light = readable["mean"].map(lambda mean: f"mean {words.percent(mean)} of white")
    asked = [("Darkest", readable["mean"], False, light), ("Brightest", readable["mean"], True, light)]
    if size.nunique() > 1:
        asked = [("Largest", area, True, size), ("Smallest", area, False, size), *asked]
    found = []
    for title, by, falling, line in asked:
        rows = by.sort_values(ascending=not falling, kind="stable").index[:EXTREMES]
        found.append(_single(title, "", list(rows), [line[row] for row in rows]))
    return found


def by_source(some: Cases, prints: pd.DataFrame, seed: int) -> list[Group]:
    """A few images of each source, where there are several."""
    source, order = some.table["source"].to_numpy(object), _by_patient(some, prints, seed)
    names = sorted({str(name) for name in source if name})
    if len(names) < 2:
        return []
    return [_single(f"Source: {words.name(name)}", "", [row for row in order if source[row] == name][:OF_SOURCE]) for name in names[:GROUPS]]  # fmt: skip


def several(some: Cases, prints: pd.DataFrame) -> list[Group]:
    """Cases of several images, each with all of them side by side."""
    table = some.table.reset_index(drop=True)[(prints["error"] == "").to_numpy()]
    held = [(case, [int(row) for row in rows]) for case, rows in table.groupby("case", sort=False).groups.items() if len(rows) > 1]  # fmt: skip
    lines = []
    for case, rows in held[:SEVERAL]:
        views = [str(view) for view in table.loc[rows, "view"] if view]
        more = f", the first {SEVERAL}" if len(rows) > SEVERAL else ""
        lines.append(f"{words.name(case)}: {count(len(rows), 'image')}{more}{' — ' + ', '.join(map(words.name, views[:SEVERAL])) if views else ''}")  # fmt: skip
    said = f"{min(SEVERAL, len(held)):,} of {count(len(held), 'case')} with several images among those looked at."
    return [Group("All images of a case", said, tuple(tuple(rows[:SEVERAL]) for _, rows in held[:SEVERAL]), tuple(lines))]  # fmt: skip


# -- the pictures ----------------------------------------------------------------------------------------------------


@checked
def prepare(
    some: Cases, rows: Sequence[int], preprocess: Preprocess, prints: pd.DataFrame, threads: int, progress: Progress
) -> dict[int, NDArray[Any]]:
    """The images of these rows as a network is given them, before normalisation, (H, W, C) or (D, H, W, C).

    In the place of one with writing in it stands a small covered picture of it, (h, w, 3) or (h, w, 1) of another size.
    """
    addresses, found = paths(some), {}
    hidden = [row for row in rows if prints["text"].iloc[row] > 0]
    clear = [row for row in rows if prints["text"].iloc[row] <= 0]
    with closing(contained(load, ((addresses[row],) for row in clear), common=(preprocess,), workers=threads)) as made:
        for number, (row, pixels) in enumerate(zip(clear, made, strict=False), start=1):
            progress("preparing pictures", number, len(clear))
            if not isinstance(pixels, ImageError):
                found[row] = pixels
    for row, pixels in zip(hidden, covered([addresses[row] for row in hidden]), strict=True):
        if pixels is not None:
            found[row] = pixels
    return found


@checked
def shown(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """A prepared image as a picture (h, w, 3): of a volume nine slices, of deeper images their middle grey values."""
    if pixels.ndim == 4:
        many = min(_SLICES, len(pixels))
        places = ((np.arange(many) + 0.5) * len(pixels) / many).astype(int)  # the middle of each of so many parts
        side, width = pixels.shape[1:3]
        across = int(np.ceil(np.sqrt(len(places))))
        grid = np.zeros((-(-len(places) // across) * side, across * width, pixels.shape[-1]), pixels.dtype)
        for i, place in enumerate(places):
            top, left = i // across * side, i % across * width
            grid[top : top + side, left : left + width] = pixels[place]
        pixels = grid
    flat = small(eight_bits(pixels if pixels.shape[-1] == 3 else pixels[..., 0]), _SIDE)
    return flat if flat.ndim == 3 else np.repeat(flat[..., None], 3, axis=2)


@checked
def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures (h, w, 3) in one row, with grey between them."""
    high = max(picture.shape[0] for picture in pictures)
    columns = [np.pad(p, ((0, high - p.shape[0]), (0, 0), (0, 0)), constant_values=128) for p in pictures]
    between = np.full((high, _GAP, 3), 128, np.uint8)
    return np.concatenate([part for column in columns for part in (between, column)][1:], axis=1)


def _section(group: Group, some: Cases, prepared: dict[int, NDArray[Any]]) -> Section:
    names, truth = some.table["case"].to_numpy(object), truths(some)
    pictures = []
    for rows, line in zip(group.items, group.lines, strict=True):
        there = [row for row in rows if row in prepared]
        if not there:
            continue
        said = tuple(filter(None, (words.name(names[there[0]]), words.name(truth[names[there[0]]]), words.name(line, 120))))  # fmt: skip
        if len(there) > 1 and names[there[0]] != names[there[1]]:
            said = (*(f"{words.name(names[row])}: {words.name(truth[names[row]])}" for row in there), words.name(line, 120))  # fmt: skip
        data = png(side_by_side([shown(prepared[row]) for row in there]))
        pictures.append(Picture(as_address(data), f"{group.title}: {', '.join(said)}", said, len(there)))
    return Section(group.title, (group.words,) if group.words else (), pictures=tuple(pictures))


def _augmented(made: Recipe, preprocess: Preprocess, classes: Sequence[Group], prepared: dict[int, NDArray[Any]], seed: int) -> Section:  # fmt: skip
    """Some images, and beside each what training makes of it."""
    augmentation, whose = _augmentation(made, preprocess)
    turns = zip_longest(
        *([row for (row,) in group.items] for group in classes)
    )  # one of each class before the second of any
    rows = [row for turn in turns for row in turn if row in prepared and prepared[row].shape == preprocess.shape][:AUGMENTED]  # fmt: skip
    if augmentation == Augmentation():
        return Section("Augmented", (whose,))
    pictures = []
    for row in rows:
        drawn = augment.draw(augmentation, seed=seed, epoch=0, samples=np.arange(TIMES) + TIMES * row,
                             size=(preprocess.size[-2], preprocess.size[-1]), channels=preprocess.channels)  # fmt: skip
        made_of = augment.apply(np.repeat(prepared[row][None], TIMES, axis=0), drawn)
        data = png(side_by_side([shown(prepared[row]), *map(shown, made_of)]))
        pictures.append(Picture(as_address(data), f"An image and {TIMES} augmented versions of it", (), TIMES + 1))
    return Section("Augmented", (f"On the left an image as it is, beside it {TIMES} draws. {whose}",), pictures=tuple(pictures))  # fmt: skip


def _augmentation(made: Recipe, preprocess: Preprocess) -> tuple[Augmentation, str]:
    if made.augmentation != Augmentation():
        return made.augmentation, "Training images are drawn anew so in each epoch; others never are."
    if made.augment != "standard":
        return Augmentation(), "The recipe asks for no augmentation."
    usual = auto.standard(preprocess.channels == 3, len(preprocess.size) == 3, preprocess.size[0])
    return usual, "The plan reads frozen features, which are not augmented; a network that is trained is given these."


# -- counts and words ------------------------------------------------------------------------------------------------


def _looked(cases: Cases, some: Cases, seed: int, groups: Sequence[Group]) -> str:
    none = "" if any(group.title == COPIES for group in groups) else " No two of them are copies."
    if len(some) == len(cases):
        return f"Every image was looked at.{none}"
    return (f"{len(some):,} of {len(cases):,} images were looked at, drawn with seed {seed}, some of each class and source among them. "
            f"Copies and extremes of the rest are not seen here: --most 0 looks at all, and the audit of a study always does.{none}")  # fmt: skip


def _counts(cases: Cases, some: Cases, prints: pd.DataFrame) -> Iterator[Table | None]:
    counted = cases.target.task.count(cases.labels, cases.table["patient"]).get("classes", {})
    yield _table("Labels of the whole table", ("Label", "Images", "Patients"), [(words.name(k), f"{v['images']:,}", f"{v['patients']:,}") for k, v in counted.items()], 1)  # fmt: skip
    sources = cases.table.groupby("source")["patient"].agg(["size", "nunique"])
    yield _table("Sources of the whole table", ("Source", "Images", "Patients"), [(words.name(k) or "unknown", f"{int(v['size']):,}", f"{int(v['nunique']):,}") for k, v in sources.head(GROUPS).iterrows()], 1)  # fmt: skip
    readable = prints[prints["error"] == ""]
    for title, values in (("Sizes", sizes(readable)), ("Modes", modes(readable))):
        rows = [(str(k), f"{int(v):,}") for k, v in values.value_counts().head(12).items()]
        yield _table(f"{title} of the images looked at, the commonest first", (title[:-1], "Images"), rows, 1)


_FITS = {"squash": "squashed to that size", "crop": "their centre cut out", "pad": "padded with black"}


def _seen(preprocess: Preprocess) -> str:
    size = " × ".join(map(str, preprocess.size))
    crop = "" if preprocess.crop == "none" else f", cropped ({preprocess.crop})"
    window = f", window {preprocess.window}" if preprocess.window else ""
    deep = " Deeper images are drawn from their 0.5th to their 99.5th percentile." if preprocess.bits > 8 else ""
    return (f"All pictures below are as a network is given them before normalisation: {size} {'voxels' if len(preprocess.size) == 3 else 'pixels'}, "
            f"{'colour' if preprocess.channels == 3 else 'grey'}, {_FITS[preprocess.fit]}{crop}{window}.{deep}"
            f"{' Of volumes nine slices are shown, the middle of each ninth.' if len(preprocess.size) == 3 else ''}")  # fmt: skip


def _tiles_of(made: Recipe) -> str:
    tiles = made.tiles
    return (f"Tiles of the slides, {tiles.size} × {tiles.size} pixels at {', '.join(tiles.views)} µm a pixel. The pictures below are overviews of whole "
            f"slides at {OVERVIEW_MPP:g} µm a pixel, as large as they fit.")  # fmt: skip


def _unreadable(some: Cases, prints: pd.DataFrame) -> Table | None:
    rows = np.flatnonzero((prints["error"] != "").to_numpy())
    names = some.table["case"].to_numpy(object)
    left = f", the first {UNREAD} of {len(rows):,}" if len(rows) > UNREAD else ""
    return _table(f"Images that cannot be read{left}", ("Case", "Why"), [(words.name(names[i]), words.name(prints["error"].iloc[i], 200)) for i in rows[:UNREAD]])  # fmt: skip


def _table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers_from: int = 9) -> Table | None:
    return Table(caption, head, tuple(rows), numbers_from) if rows else None
