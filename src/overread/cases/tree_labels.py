"""Labels to images: a table of labels joined to an export by the identifier that fits best.

Identifiers are compared and counted, never shown: messages name rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from overread.cases.columns import MISSING
from overread.errors import InputError, nearest
from overread.images.address import file_of, parse

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


def join_labels(table: pd.DataFrame, labels: pd.DataFrame, on: str) -> tuple[pd.DataFrame, list[str]]:
    """See :func:`overread.cases.tree.join`."""
    labels = labels.reset_index(drop=True).astype(object).where(labels.reset_index(drop=True).notna(), "")
    labels = labels.astype(str).apply(lambda column: column.str.strip()).rename(columns=str)
    keys, columns = _asked(on, labels)
    match = _best(table, labels, keys, columns)
    kept = _one_each(match, labels)
    values = kept.drop(columns=match.column).reindex(match.images.to_numpy()).set_axis(table.index)
    values = values.astype(object).where(values.notna(), "")
    joined, notes = _beside(table, values)
    blank = len(table) - match.images_hit
    spare = len(labels) - match.labels_hit
    first = f"labels: joined by {match.key} with the column {match.column!r}{match.note}"
    counts = f"{match.images_hit:,} of {len(table):,} rows have labels"
    rest = f", {spare:,} of {len(labels):,} rows of labels have no image" if spare else ""
    return joined, [
        f"{first}: {counts}{rest}",
        *([f"labels: {blank:,} rows stay without"] if blank else []),
        *notes,
    ]


def _asked(on: str, labels: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Which identifiers and which columns to try."""
    columns = [str(column) for column in labels.columns]
    if not on:
        return list(KEYS), columns
    if on in KEYS:
        return [on], columns
    if on in columns:
        return list(KEYS), [on]
    raise InputError(
        "there is no such key for joining labels", given=repr(on), todo=nearest(on, [*KEYS, *columns])
    )


def _best(table: pd.DataFrame, labels: pd.DataFrame, keys: list[str], columns: list[str]) -> _Match:
    """The match that fits best: without contradictions first, then by share, as written, and by how much it tells."""
    found = [m for loose in (False, True) for m in _matches(table, labels, keys, columns, loose)]
    fits = [match for match in found if _fits(match)]
    if fits:
        told = [
            (_contradicts(m, labels), -round(_share(m), 1), m.note, list(KEYS).index(m.key)) for m in fits
        ]
        return fits[min(range(len(fits)), key=told.__getitem__)]
    best = max(found, key=lambda match: (match.images_hit, match.labels_hit))
    raise InputError(
        "the table of labels does not fit the export",
        given=f"at best {best.images_hit:,} of {len(table):,} rows and {best.labels_hit:,} of {len(labels):,} rows of labels share {best.key} (column {best.column!r})",
        todo=f"give labels with one of {', '.join(KEYS)}, and name it with --key",
    )


def _matches(
    table: pd.DataFrame, labels: pd.DataFrame, keys: list[str], columns: list[str], loose: bool
) -> Iterator[_Match]:
    plain = {column: _known(labels[column]) for column in columns}
    for key in keys:
        for images in _forms(key, _known(table[KEYS[key]])):
            for column, values in plain.items():
                if not loose:
                    yield _Match(key, column, images, values)
                elif _loose(images).nunique() == images.nunique():  # two must not become one
                    yield _Match(
                        key, column, _loose(images), _loose(values), " (without leading zeros and case)"
                    )


def _known(values: pd.Series) -> pd.Series:
    values = values.astype(str)
    return values.mask(values.str.lower().isin(MISSING), "")


def _loose(values: pd.Series) -> pd.Series:
    """Without what spreadsheets change: leading zeros, a decimal point behind a number, case."""
    plain = values.str.lower().str.replace(r"^(\d+)\.0$", r"\1", regex=True)
    return plain.str.replace(r"^0+(?=\w)", "", regex=True)


def _forms(key: str, values: pd.Series) -> Iterator[pd.Series]:
    """Ways to write the values: files as paths, as names, and as names without their endings."""
    if key == "patient" and values.str.contains("^^^", regex=False).any():
        yield values
        yield values.str.split("^^^", regex=False).str[0]
    elif key == "file":
        paths = values.map(lambda text: parse(text).entry or file_of(text))
        names = paths.str.rsplit("/", n=1).str[-1]
        for form in (
            paths,
            paths.str.replace(r"\.\w{1,5}$", "", regex=True),
            names,
            names.str.replace(r"\.\w{1,5}$", "", regex=True),
        ):
            if form.is_unique:
                yield form
    else:
        yield values


def _fits(match: _Match) -> bool:
    """Whether half of the images, or half of the labels, find each other."""
    return match.images_hit > 0 and _share(match) >= 0.5


def _share(match: _Match) -> float:
    return max(match.images_hit / len(match.images), match.labels_hit / len(match.labels))


def _contradicts(match: _Match, labels: pd.DataFrame) -> bool:
    filled = labels.drop(columns=match.column).assign(key=match.labels)[match.labels != ""].drop_duplicates()
    return bool(filled["key"].duplicated().any())


def _one_each(match: _Match, labels: pd.DataFrame) -> pd.DataFrame:
    """The labels by key, a row each; rows that say the same twice are one."""
    filled = labels[match.labels != ""]
    keyed = filled.set_axis(match.labels[filled.index], axis="index")
    repeats = pd.concat(
        [filled.drop(columns=match.column), match.labels[filled.index].rename("\0")], axis=1
    ).duplicated()
    kept = keyed[~repeats.to_numpy()]
    twice = kept.index.duplicated(keep=False)
    if twice.any():
        rows = filled.index[~repeats.to_numpy()][kept.index == kept.index[twice][0]][:2]
        raise InputError(f"the same {match.key} stands on several rows of the labels, with different values",
                         given=f"{int(twice.sum()):,} rows, first rows {' and '.join(f'{row + 1:,}' for row in rows)}",
                         todo="correct the table, or join by another identifier with --key")  # fmt: skip
    return kept


def _beside(table: pd.DataFrame, values: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Both tables side by side; of a column in both, what the labels say counts, but for identifiers."""
    both = [column for column in values.columns if column in table.columns]
    replaced = [column for column in both if column not in _KEPT]
    fresh = values.drop(columns=both)
    filled = {column: values[column].where(values[column] != "", table[column]) for column in replaced}
    notes = (
        [f"labels: the columns {', '.join(replaced)} are taken from the table of labels"] if replaced else []
    )
    return pd.concat([table.assign(**filled), fresh], axis=1), notes
