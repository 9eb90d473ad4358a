"""What is to be learned, from the columns of a table: one label, several findings, or a quantity."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from overread.cases.derived import Rule, derived
from overread.cases.sources.tables import known, numbered
from overread.core.errors import InputError, checked, nearest
from overread.core.identifiers import MISSING, alike, identifiers, rewritten
from overread.core.phrases import count
from overread.images.address import file_of, parse
from overread.tasks.classes import disease_of, says_healthy
from overread.tasks.target import Target
from overread.tasks.task import Task

_YES = {"1", "1.0", "yes", "y", "true", "t", "positive", "present"}
_NO = {"0", "0.0", "no", "n", "false", "f", "negative", "absent"}
_UNSURE = {"-1", "-1.0", "unknown", "uncertain"}  # −1 is CheXpert's "uncertain" (Irvin et al. 2019)
_MOST = 200


def one_label(
    values: pd.Series, positive: Sequence[str], task: type[Task] | None, name: str, order: Sequence[str] = (),
    rename: Mapping[str, str] = MappingProxyType({}),
) -> tuple[pd.DataFrame, Target, list[str]]:  # fmt: skip
    """The ``label`` column, its target, and notes; classes stand in ``order`` or the natural one, never the rows'.

    ``rename`` as in :func:`renamed`.
    """
    written = identifiers(values)
    label, told = renamed(written, rename)
    told = [note for note in (rewritten(values, written, "label"), *told) if note]
    refuse_variants(label, rename)
    place = {name: i for i, name in enumerate(order)}
    names = sorted(set(label) - {""}, key=lambda name: (place.get(name, len(place)), natural(name)))
    if not names:
        raise InputError(f"the column {name!r} holds no label at all", given=f"{len(label):,} blank cells",
                         todo="choose another column with --label")  # fmt: skip
    _refuse_numbers(label, names, name)
    one_of_two = len(names) == 2 and (task is None or task.binary or not task.exclusive)
    if task and task.binary and not one_of_two:
        raise InputError(f"a binary label needs two classes, the column {name!r} has {len(names)}",
                         given=", ".join(names[:20]), todo="leave --kind out")  # fmt: skip
    chosen, notes = _positive(names, tuple(positive), guess=one_of_two)
    target = Target("binary" if one_of_two else "classes", tuple(names), chosen)
    return pd.DataFrame({"label": label}), target, [*told, *notes]


@checked
def renamed(labels: pd.Series, rename: Mapping[str, str], one_of_several: bool = False) -> tuple[pd.Series, list[str]]:
    """Labels under their new names, and how many cells that changed; a blank name makes a label unknown.

    Raises :class:`InputError` for a label that is not there, unless this is ``one_of_several`` tables.
    """
    found = set(labels) - {""}
    for old in rename:
        if old not in found and not one_of_several:
            raise InputError(f"there is no label {old!r} to rename", todo=nearest(old, sorted(found)))
    changed = {old: new for old, new in rename.items() if old != new}
    notes = [f"label: {int((labels == old).sum()):,} cells of {old!r} are taken as {repr(new) if new else 'unknown'}"
             for old, new in changed.items() if old in found]  # fmt: skip
    return (labels.replace(changed) if changed else labels), notes


@checked
def refuse_variants(labels: pd.Series, decided: Collection[str] = ()) -> None:
    """Raise :class:`InputError` where two labels differ only in capitals or in what stands between words.

    Those ``decided`` may.
    """
    counts = labels[labels != ""].value_counts()
    groups: dict[str, list[str]] = {}
    for name in counts.index:
        groups.setdefault(word_of(name), []).append(name)
    for names in groups.values():
        open_ = [name for name in names[1:] if name not in decided]
        if open_:
            shown = " and ".join(f"{name!r} ({int(counts[name]):,} rows)" for name in names)
            raise InputError("two labels differ only in capitals or in what stands between words", given=shown,
                             todo=f"say what is meant: --rename-label {shown_pair(open_[0], names[0])}, or {shown_pair(open_[0], open_[0])} if they are two classes")  # fmt: skip


@checked
def meant(strange: Sequence[str], names: Sequence[str]) -> str:
    """Which class each label might be, as flags."""
    words = {word_of(name): name for name in names}
    guessed = {name: words[word_of(name)] for name in strange if word_of(name) in words}
    if len(guessed) == len(strange):
        flags = " ".join(f"--rename-label {shown_pair(old, new)}" for old, new in guessed.items())
        return f"if these are the same, say {flags}"
    first = next(name for name in strange if name not in guessed)
    hint = nearest(first, names)
    return f"say which class it is: --rename-label {shown_pair(first, 'CLASS')}, or {shown_pair(first, '')} where it is not known; {hint}"


@checked
def shown_pair(old: str, new: str) -> str:
    """A pair for ``--rename-label`` that can be pasted.

    >>> shown_pair("No finding", "normal")
    '"No finding=normal"'
    """
    pair = f"{old}={new}"
    return pair if re.fullmatch(r"[\w=.+-]+", pair) else f'"{pair}"'


@checked
def word_of(label: str) -> str:
    """A label without capitals, and with a blank for whatever stands between its words: ``ER+`` and ``ER-`` stay two.

    >>> word_of("No_Finding"), word_of("ER-")
    ('no finding', 'er-')
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", text)


@checked
def natural(name: str) -> tuple[tuple[int, float, str], ...]:
    """A key to sort by that reads the numbers in a name: 2 before 10."""
    pieces = re.findall(r"\d+(?:\.\d+)?|\D+", name)
    return tuple((0, float(p), "") if p[0].isdecimal() else (1, 0.0, p.lower()) for p in pieces) + ((2, 0.0, name),)


def _refuse_numbers(label: pd.Series, names: list[str], column: str) -> None:
    number = pd.to_numeric(pd.Series(names), errors="coerce")
    measured = bool(number.notna().all()) and len(names) > _CODES and not _counted(number)
    if not measured and (len(names) <= 20 or (len(names) <= _MOST and len(names) < len(label) / 5)):
        return
    what = f"the column {column!r} has {len(names):,} different labels in {count(len(label), 'row')}"
    todo = (
        f"if it is a quantity, use --value {shlex.quote(column)}"
        if number.notna().all()
        else "choose the column of the diagnosis with --label"
    )
    todo += "; write classes as words" if measured else ""
    raise InputError(what, given=", ".join(names[:5]) + " …", todo=todo)


#: So many different numbers may be anything; more are codes of classes only where they count on from 0 or 1.
_CODES = 10


def _counted(number: pd.Series) -> bool:
    least = int(number.min())
    return least in (0, 1) and sorted(number) == list(range(least, least + len(number)))


def _positive(names: list[str], positive: tuple[str, ...], *, guess: bool = False) -> tuple[tuple[str, ...], list[str]]:
    whole_name = [name for name in names if "," in name and tuple(p.strip() for p in name.split(",")) == positive]
    positive = tuple(whole_name) or positive  # a class may hold the comma that parts several
    for name in positive:
        if name not in names:
            what = f"the positive class {name!r} is not among the classes"
            raise InputError(what, given=", ".join(names), todo=nearest(name, names))
    if positive and len(set(positive)) >= len(names):
        todo = "leave at least one class out of --positive"
        raise InputError("every class is called positive", given=", ".join(positive), todo=todo)
    if positive or not guess:
        return positive, []
    chosen = disease_of(names)
    if not chosen:
        raise InputError("the names of the two classes do not say which one is the disease", given=" and ".join(map(repr, names)),
                         todo=f"say it with --positive {shlex.quote(names[0])} or --positive {shlex.quote(names[1])}")  # fmt: skip
    return (chosen,), [f"positive class: guessed {chosen!r}; override with --positive"]


def several_findings(
    table: pd.DataFrame, columns: Sequence[str], positive: Sequence[str], blank: str = "unknown"
) -> tuple[pd.DataFrame, Target, list[str]]:
    """A ``label:<finding>`` column of 1, 0 or NaN for each finding; −1 is unknown, blank is ``blank``."""
    notes, found = [], {}
    for column in columns:
        name = column.removeprefix("label:")
        marks, unsure = _yes_no(table[column], column)
        empty = known(table[column]) == ""
        if unsure:
            notes.append(f"{name}: {unsure:,} uncertain marks (−1 or 'unknown') are taken as unknown")
        if blank == "negative" and empty.any():
            marks = marks.mask(empty, 0.0)
            notes.append(f"{name}: {int(empty.sum()):,} blank cells are taken for absent")
        elif empty.any() and marks.notna().any() and not (marks == 0).any():
            notes.append(f"{name}: is present or blank, never absent; --blank negative takes a blank cell for absent")
        found[name] = marks
    _positive([*found, ""], tuple(positive))
    target = Target("findings", tuple(found), tuple(positive))
    return pd.DataFrame(found).add_prefix("label:"), target, notes


@checked
def derived_findings(
    table: pd.DataFrame, columns: Sequence[str], rules: Sequence[Rule], positive: Sequence[str], blank: str = "unknown"
) -> tuple[pd.DataFrame, Target, list[str]]:
    """The findings in ``columns``, and those that follow by ``rules``, as :func:`several_findings` gives them."""
    plain, notes = pd.DataFrame(index=table.index), list[str]()
    if columns:
        plain, _, notes = several_findings(table, columns, (), blank)
    plain = plain.rename(columns=lambda name: name.removeprefix("label:"))
    if both := sorted({rule.name for rule in rules} & set(plain)):
        raise InputError(
            "a finding is both a column and derived",
            given=", ".join(both),
            todo="name it in one of --labels and --derive",
        )
    made, more = derived(table.assign(**plain), rules, blank)
    names = [*plain, *made]
    _positive([*names, ""], tuple(positive))
    target = Target("findings", tuple(names), tuple(positive))
    return pd.concat([plain, made], axis=1).add_prefix("label:"), target, [*notes, *more]


# -- other ways to write labels: classes in columns of 1 and 0, several findings in a cell, several rows an image --


@checked
def from_one_hot(table: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.Series, list[str]]:
    """The class of each row as the one column that holds 1, blank where none does, and notes.

    Raises :class:`InputError` where several are 1.
    """
    marks = pd.DataFrame({column: _yes_no(table[column], column)[0] for column in columns}) == 1
    several = marks.sum(axis=1) > 1
    if several.any():
        raise InputError("several classes are 1 in one row", given=f"{int(several.sum()):,} rows, first {numbered(several)}",
                         todo=f"read them as findings with --labels {shlex.quote(','.join(columns))}")  # fmt: skip
    none, unseen = int((~marks.any(axis=1)).sum()), [column for column in columns if not marks[column].any()]
    notes = [f"label: {none:,} rows have no class that is 1 and stay without a label"] if none else []
    notes += [f"label: no row is {', '.join(unseen)}"] if unseen else []
    return marks.idxmax(axis=1).where(marks.any(axis=1), ""), notes


@checked
def findings_in(values: pd.Series, name: str, separator: str = "") -> tuple[pd.Series, list[str]] | None:
    """The findings that each cell of a column lists (a tuple; None where the cell is blank), and notes; None where each
    cell is one class.

    Cells in brackets (``['nodule', 'mass']``) are lists. Otherwise a ``separator`` parts them: the given one, or ``|``
    or ``;`` where its pieces stand in other cells too. Raises :class:`InputError` where a comma or the like could do
    so.
    """
    text = known(values)
    filled = text[text != ""].drop_duplicates()
    if separator == "none" or filled.empty:
        return None
    if separator:
        how = f"separated by {separator!r}"
    elif filled.str.fullmatch(r"\[.*\]").all():
        how = "in brackets"
    else:
        separator = next((mark for mark in ("|", ";") if _recur(filled, mark)), "")
        if not separator:
            _ask_about_commas(filled, name)
            return None
        how = f"separated by {separator!r} (--list-separator none: each cell is one class)"
    lists = text.map({cell: _pieces(cell, separator) for cell in filled})
    return lists.where(text != "", None), [f"label: each cell of {name!r} lists findings, {how}"]


def _pieces(cell: str, separator: str) -> tuple[str, ...]:
    if separator:
        pieces = cell.split(separator)
    else:
        inner = cell.strip()[1:-1]
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", inner)
        pieces = [first or second for first, second in quoted] if quoted else inner.split(",")
    return tuple(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()))


def _recur(cells: pd.Series, mark: str) -> bool:
    """Whether a mark parts lists: some pieces stand alone in other cells, and there are fewer pieces than lists of them."""
    joined = cells[cells.str.contains(mark, regex=False)]
    pieces = set(joined.str.split(mark).explode().str.strip())
    alone = len(pieces & set(cells))
    return len(joined) > 0 and alone * 2 >= len(pieces)


def _ask_about_commas(cells: pd.Series, name: str) -> None:
    mark = next((mark for mark in (",", "+", "&", "/") if _recur(cells, mark)), "")
    if mark:
        example = cells[cells.str.contains(mark, regex=False)].iloc[0]
        raise InputError(f"it is in doubt whether cells of {name!r} list several findings", given=repr(example),
                         todo=f"say --list-separator {shlex.quote(mark)} if they do, --list-separator none if each is one class")  # fmt: skip


@checked
def listed_findings(
    lists: pd.Series, positive: Sequence[str], blank: str = "unknown"
) -> tuple[pd.DataFrame, Target, list[str]]:
    """Findings from the lists of each row (a tuple, or None for unknown): what is not listed is absent, and a name such
    as
    *No finding* is none."""
    every = sorted({piece for cell in lists if cell is not None for piece in cell}, key=natural)
    healthy = [name for name in every if says_healthy(name)]
    names = [name for name in every if name not in healthy]
    if not names:
        raise InputError(
            "the lists name no finding",
            given=", ".join(every[:5]) or "blank",
            todo="choose another column with --label",
        )
    if len(names) > _MOST:
        raise InputError(f"the lists name {len(names):,} different findings", given=", ".join(names[:5]) + " …",
                         todo=f"at most {_MOST} can be asked: leave out the rare ones, or say --list-separator none")  # fmt: skip
    cells = {name: lists.map(lambda cell, name=name: "" if cell is None else str(int(name in cell))) for name in names}
    made, target, notes = several_findings(pd.DataFrame(cells), names, positive, blank)
    if healthy:
        both = int(lists.map(lambda cell: cell is not None and 0 < len(set(cell) & set(healthy)) < len(cell)).sum())
        more = f"; in {both:,} rows it stands beside findings, which count" if both else ""
        notes.append(f"label: {', '.join(map(repr, healthy))} means that there is no finding{more}")
    return made, target, notes


@checked
def ways_to_label(table: pd.DataFrame, free: Sequence[str]) -> str:
    """What to say where no column is called a label: the flag for what the columns hold."""
    text = {column: known(table[column]) for column in free}
    marks = [
        c for c in free if set(text[c]) <= {"", "0", "1", "-1", "0.0", "1.0", "-1.0"} and text[c].str.match("1").any()
    ]
    if len(marks) > 1:
        columns = shlex.quote(",".join(marks))
        ones = pd.DataFrame({column: text[column].str.match("1") for column in marks}).sum(axis=1)
        if len(marks) > 2 and (ones == 1).all():
            return f"exactly one of {len(marks)} columns is 1 in each row: say --one-hot {columns} if they are classes, or --labels {columns} if they are findings"
        return f"say --labels {columns} if these are the findings"
    few = [c for c in free if 2 <= text[c][text[c] != ""].nunique() <= max(2, min(20, len(table) // 5))]
    few = marks + [c for c in few if c not in marks] + [c for c in free if text[c].str.fullmatch(r"\[.*\]").any()]
    ways = [f"--label {shlex.quote(column)}" for column in dict.fromkeys(few)][:4]
    return f"name it: {' or '.join(ways)}" if ways else ""


def _yes_no(values: pd.Series, name: str) -> tuple[pd.Series, int]:
    text = values.str.lower()
    strange = sorted(set(text) - _YES - _NO - _UNSURE - MISSING)
    if strange:
        raise InputError(f"the finding {name!r} must be 1, 0 or blank", given=", ".join(map(repr, strange[:5])),
                         todo="use --label for a column of class names")  # fmt: skip
    number = text.isin(_YES).astype(float).where(text.isin(_YES | _NO))
    return number, int(text.isin(_UNSURE).sum())


def quantity(values: pd.Series, name: str) -> tuple[pd.DataFrame, Target, list[str]]:
    """The ``value`` column as numbers, NaN where blank."""
    text = known(values)
    number = pd.to_numeric(text.mask(text == ""), errors="coerce")
    strange = text[~np.isfinite(number) & (text != "")]
    if len(strange):
        comma = strange.str.fullmatch(r"[+-]?\d+,\d+").all()
        todo = "write it with a point, as in 0.5" if comma else "use --label for a column of class names"
        raise InputError(f"the quantity {name!r} must be a number or blank", given=repr(strange.iloc[0]), todo=todo)
    if not number.notna().any():
        what, given = f"the column {name!r} holds no number at all", f"{len(text):,} blank cells"
        raise InputError(what, given=given, todo="choose another with --value")
    return pd.DataFrame({"value": number.astype(float)}), Target("quantity", (name,)), []


# -- labels to images: a table of labels joined to an export by the identifier that fits best ---------------------


#: Identifiers that a table of labels may share with an export, the most telling first, and their columns there.
KEYS = {"instance": "instance", "series": "series", "study": "case", "accession": "accession", "file": "image",
        "patient": "patient"}  # fmt: skip
#: Columns of the export that a table of labels never replaces.
_KEPT = ("image", "case", "patient", "series", "instance", "accession", "frames", "slices", "problems")


@dataclass(frozen=True, eq=False)
class _Match:
    """A way to join: by ``key``, with a column of the labels; the values of both, and how many fit."""

    key: str
    column: str
    images: pd.Series
    labels: pd.Series
    note: str = ""

    @property
    def images_hit(self) -> int:
        """Rows of the export with a label."""
        return int(self.images.isin(set(self.labels) - {""}).sum())

    @property
    def labels_hit(self) -> int:
        """Rows of the labels with an image."""
        return int(self.labels.isin(set(self.images) - {""}).sum())

    @property
    def share(self) -> float:
        """Of the images with a label, or of the labels with an image."""
        return max(self.images_hit / len(self.images), self.labels_hit / len(self.labels))


def join_labels(table: pd.DataFrame, labels: pd.DataFrame, on: str = "") -> tuple[pd.DataFrame, list[str]]:
    """The ``table`` of an export with the columns of a table of ``labels`` (text cells, a row per image, series, study
    or patient), and notes.

    ``on``: the identifier that both share (``instance``, ``series``, ``study``, ``accession``, ``patient``, ``file``)
    or a column of the labels; without it the one that fits best is found out. Images without labels stay, with
    blanks. Raises :class:`InputError`, which names rows and no identifiers, if less than half fits, or if a key stands
    twice with different labels.
    """
    labels = labels.reset_index(drop=True).astype(object)
    labels = labels.where(labels.notna(), "").astype(str).apply(lambda column: column.str.strip()).rename(columns=str)
    keys, columns = _asked(on, labels)
    match = _best(table, labels, keys, columns)
    kept = _one_each(match, labels)
    values = kept.drop(columns=match.column).reindex(match.images.to_numpy()).set_axis(table.index)
    values = values.astype(object).where(values.notna(), "")
    joined, notes = _beside(table, values)
    blank, spare = len(table) - match.images_hit, len(labels) - match.labels_hit
    first = f"labels: joined by {match.key} with the column {match.column!r}{match.note}"
    counts = f"{match.images_hit:,} of {len(table):,} rows have labels"
    rest = f", {spare:,} of {len(labels):,} rows of labels have no image" if spare else ""
    return joined, [f"{first}: {counts}{rest}", *([f"labels: {count(blank, 'row')} without"] if blank else []), *notes]


def _asked(on: str, labels: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Which identifiers and which columns to try."""
    columns = [str(column) for column in labels.columns]
    if not on:
        return list(KEYS), columns
    if on in KEYS:
        return [on], columns
    if on in columns:
        return list(KEYS), [on]
    raise InputError("there is no such key for joining labels", given=repr(on), todo=nearest(on, [*KEYS, *columns]))


def _best(table: pd.DataFrame, labels: pd.DataFrame, keys: list[str], columns: list[str]) -> _Match:
    """The match that fits best: without contradictions first, then by share, as written, and by how much it tells."""
    found = [m for loose in (False, True) for m in _matches(table, labels, keys, columns, loose)]
    fits = [match for match in found if match.images_hit and match.share >= 0.5]  # half of either find each other
    if fits:
        ranks = [(_contradicts(m, labels), -round(m.share, 1), m.note, list(KEYS).index(m.key)) for m in fits]
        return fits[min(range(len(fits)), key=ranks.__getitem__)]
    best = max(found, key=lambda match: (match.images_hit, match.labels_hit))
    given = f"at best {best.images_hit:,} of {count(len(table), 'row')} and {best.labels_hit:,} of {len(labels):,} rows of labels share {best.key} (column {best.column!r})"
    todo = f"give labels with one of {', '.join(KEYS)}, and name it with --key"
    raise InputError("the table of labels does not fit the export", given=given, todo=todo)


def _matches(
    table: pd.DataFrame, labels: pd.DataFrame, keys: list[str], columns: list[str], loose: bool
) -> Iterator[_Match]:
    plain = {column: identifiers(labels[column]) for column in columns}
    for key in keys:
        for images in _forms(key, identifiers(table[KEYS[key]])):
            for column, values in plain.items():
                if not loose:
                    yield _Match(key, column, images, values)
                elif alike(images).nunique() == images.nunique():  # two must not become one
                    yield _Match(
                        key, column, alike(images), alike(values), " (without capitals, leading zeros and separators)"
                    )


def _forms(key: str, values: pd.Series) -> Iterator[pd.Series]:
    """Ways to write the values: files as :func:`file_forms` says, patients also without who gave them their number."""
    if key == "file":
        yield from file_forms(values)
        return
    yield values
    if key == "patient" and values.str.contains("^^^", regex=False).any():
        yield values.str.split("^^^", regex=False).str[0]


def file_forms(images: pd.Series) -> Iterator[pd.Series]:
    """Ways to write the addresses of images: as paths, as names, either without endings; each if no two become one."""
    paths = images.map(lambda text: parse(text).entry or file_of(text)) if len(images) else images
    names = paths.str.rsplit("/", n=1).str[-1]
    for form in (paths, names):
        for written in (form, form.str.replace(r"(\.nii\.gz|\.\w{1,5})$", "", regex=True)):
            if written.is_unique:
                yield written


def _contradicts(match: _Match, labels: pd.DataFrame) -> bool:
    filled = labels.drop(columns=match.column).assign(key=match.labels)[match.labels != ""].drop_duplicates()
    return bool(filled["key"].duplicated().any())


def _one_each(match: _Match, labels: pd.DataFrame) -> pd.DataFrame:
    """The labels by key, a row each; rows that say the same twice are one."""
    filled = labels[match.labels != ""]
    key = match.labels[filled.index].rename("\0")
    once = ~pd.concat([filled.drop(columns=match.column), key], axis=1).duplicated().to_numpy()
    kept = filled.set_axis(key, axis="index")[once]
    twice = kept.index.duplicated(keep=False)
    if twice.any():
        rows = filled.index[once][kept.index == kept.index[twice][0]][:2]
        raise InputError(f"the same {match.key} stands on several rows of the labels, with different values",
                         given=f"{count(int(twice.sum()), 'row')}, first rows {' and '.join(f'{row + 1:,}' for row in rows)}",
                         todo="correct the table, or join by another identifier with --key")  # fmt: skip
    return kept


def _beside(table: pd.DataFrame, values: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Both tables side by side; of a column in both, what the labels say counts, but for identifiers."""
    both = [column for column in values.columns if column in table.columns]
    replaced = [column for column in both if column not in _KEPT]
    fresh = values.drop(columns=both)
    filled = {column: values[column].where(values[column] != "", table[column]) for column in replaced}
    notes = [f"labels: the columns {', '.join(replaced)} are taken from the table of labels"] if replaced else []
    return pd.concat([table.assign(**filled), fresh], axis=1), notes
