"""The waist: a table of predictions, the only thing that judges see. Torch-free.

``case, patient, split, source``, subgroup columns, then for one label ``label`` and a ``p:<class>`` column per class;
for several findings ``label:<finding>`` (blank = unknown) and ``p:<finding>``; for a quantity ``value`` and
``predicted``. ``split`` says ``train``, ``tuning`` or ``seen`` where a model has seen the patient. Beside a table that
one of our models made lies ``<name>.model.json``: see :class:`PredictedBy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import labels_panel
from overread.cases.derived import Rule, chance_of, derived
from overread.cases.sources.labels import meant, refuse_variants, renamed, shown_pair
from overread.cases.sources.tables import as_text
from overread.core.display import Overview, Shown, panel_of
from overread.core.errors import InputError, checked, nearest
from overread.core.files import (
    FORMAT,
    EqualByDigest,
    build,
    fingerprint,
    hashed,
    read_json,
    unguarded,
    write_csv,
    write_json,
)
from overread.core.identifiers import alike, distinct, rewritten, trimmed
from overread.core.identifiers import identifiers as written
from overread.core.phrases import count
from overread.tasks.classes import disease_of
from overread.tasks.target import Target
from overread.tasks.taxonomy import TABLE_LABEL, Taxonomy, positive_of, require_one_label

_FIRST = ("case", "patient", "split", "source")


@runtime_checkable
class GroupedTable(Protocol):
    """A table with a row an image or case, and the columns that it can be reported by."""

    @property
    def table(self) -> pd.DataFrame:
        """The rows, with the columns ``case``, ``patient``, ``split`` and ``source``."""

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Columns that are neither roles nor labels nor outputs."""


@runtime_checkable
class PredictedTable(GroupedTable, Protocol):
    """What somebody predicted, in one form or another: who the patients are, and what the model says of itself."""

    @property
    def by(self) -> PredictedBy | None:
        """What the model says of itself."""

    @property
    def identifiers(self) -> str:
        """Whether two forms of a name are one."""

    @property
    def patients(self) -> NDArray[Any]:
        """The patient of each row."""


@runtime_checkable
class KnownTruth(Protocol):
    """A test set: its cases with their truth."""

    @property
    def truth_table(self) -> pd.DataFrame:
        """A row a case: its name, and its truth."""

    def case_marks(self, salt: str) -> tuple[str, ...]:
        """Salted hashes of the cases, each with a mark of its truth behind a colon; sorted. See :func:`shared_cases`."""


@dataclass(frozen=True)
class PredictedBy:
    """What a model says of itself beside its predictions.

    ``model``: its hash. ``seen``: the patients of training and tuning, hashed by ``salt``; ``identifiers`` whether two
    forms are one (see :mod:`overread.core.identifiers`).
    """

    model: str
    target: Target
    seen: tuple[str, ...] = ()
    salt: str = ""
    identifiers: str = "ask"
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class Predictions(EqualByDigest, Shown):
    """One row a case. ``table`` has the columns of the module's docstring; ``target`` says how to read them.

    Cases and patients stand in their one written form (:func:`overread.core.identifiers.identifiers`), labels under the
    names of the classes; ``notes`` say what was changed or guessed. ``by``: what the model says of itself, if it is one
    of ours. Raises :class:`InputError` for missing columns, a case that stands twice, and a label that is no class: no
    case leaves an evaluation in silence.
    """

    table: pd.DataFrame
    target: Target
    notes: tuple[str, ...] = field(default=(), compare=False)
    by: PredictedBy | None = None
    identifiers: str = "ask"

    def __post_init__(self) -> None:
        for column in (*_FIRST, *self.target.columns, *self.outputs):
            if column not in self.table.columns:
                raise InputError(f"the predictions lack the column {column!r}",
                                 given=", ".join(map(str, self.table.columns)), todo=nearest(column, self.table.columns))  # fmt: skip
        for column in (*self.outputs, *(() if "label" in self.target.columns else self.target.columns)):
            _require_numbers(self.table[column])
        table = self.table.reset_index(drop=True)
        changed: dict[str, pd.Series] = {role: written(table[role]) for role in ("case", "patient")}
        notes = [rewritten(table[role], new, role) for role, new in changed.items() if not new.equals(table[role])]
        if self.target.task.exclusive:
            changed["label"], told = _under_names(table["label"], self.target.names)
            notes.append(told)
        for column in self.target.columns if self.target.task.label_values else ():
            changed[column], told = _yes_or_no(table[column])
            notes.append(told)
        twice = changed["case"].duplicated()
        if twice.any():
            raise InputError("a case has more than one prediction", given=f"{count(int(twice.sum()), 'row')} too many")
        object.__setattr__(self, "table", table.assign(**changed))
        object.__setattr__(self, "notes", (*self.notes, *(note for note in notes if note and note not in self.notes)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that hold what the model says."""
        return self.target.task.prediction_columns

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N, classes or findings or 1)."""
        return self.table.loc[:, list(self.outputs)].to_numpy(np.float64)

    @property
    def truth(self) -> NDArray[Any]:
        """As :attr:`Cases.labels`: class index (−1 unknown), or 1/0/NaN per finding, or a number."""
        return self.target.task.read_labels(self.table)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether the truth is known; of findings, any of them."""
        return self.target.task.known(self.truth)

    @property
    def patients(self) -> NDArray[Any]:
        """The patient of each row."""
        return self.table["patient"].to_numpy()

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Columns that are neither roles nor labels nor outputs."""
        known = {*_FIRST, *self.target.columns, *self.outputs}
        return tuple(c for c in self.table.columns if c not in known)

    @property
    def truth_table(self) -> pd.DataFrame:
        """Cases and their truth, whoever predicted them."""
        return self.table.loc[:, ["case", *self.target.columns]]

    @property
    def digest(self) -> str:
        """Hash of the content, the same before and after a file."""
        content = hashlib.sha256(fingerprint(self.target).encode())
        for name in self.table.columns:
            content.update(f"\n{name}\n".encode("utf-8", "surrogatepass"))
            content.update(_bytes(self.table[name]))
        return content.hexdigest()[:16]

    def case_marks(self, salt: str) -> tuple[str, ...]:
        """Salted hashes of the cases, each with a mark of its truth behind a colon; sorted. See :func:`shared_cases`."""
        truth = pd.Series("", self.table.index, dtype=object)
        for name in (TABLE_LABEL,) if TABLE_LABEL in self.table else self.target.columns:  # at any level the same truth
            truth = truth + "|" + self.table[name].astype(str)
        which, kinds = pd.factorize(truth)
        mark = np.array([code[:4] for code in hashed(list(kinds), salt)], dtype=object)[which]
        cases = hashed(self.table["case"].tolist(), salt)
        return tuple(sorted(f"{case}:{label}" for case, label in zip(cases, mark, strict=True)))

    @property
    def codes(self) -> NDArray[np.int64]:
        """(N,) the number of each row's patient, in the order in which patients first appear."""
        return pd.factorize(self.table["patient"], use_na_sentinel=False)[0].astype(np.int64)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return f"predictions for {count(len(self), 'case')} of {count(self.table['patient'].nunique(), 'patient')}"

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row a case, in the columns of the module's docstring: :meth:`from_frame` takes it back."""
        return self.table.copy()

    def overview(self) -> Overview:
        """What is predicted, how often the truth is known, and the first rows without the patients."""
        shown = [c for c in self.table.columns if c != "patient" and not (self.table[c].astype(str) == "").all()]
        unknown = f", {count(int((~self.known).sum()), 'case')} of unknown truth" if not self.known.all() else ""
        panels = (
            labels_panel(self.target, self.truth, self.table["patient"]),
            panel_of(self.table[shown], "The first rows", most=5),
        )
        return Overview(f"{self}{unknown}", panels, self.notes)

    def take(self, rows: NDArray[Any]) -> Predictions:
        """The rows at these positions, or where a boolean mask is true."""
        return replace(self, table=self.table[rows] if rows.dtype == bool else self.table.iloc[rows])

    def with_scores(self, scores: NDArray[np.float64]) -> Predictions:
        """The same cases with what another model says of them: (N, outputs), or (N, 1) of the positive of two classes."""
        names, task = list(self.outputs), self.target.task
        if task.binary and scores.shape[1] == 1:
            scores = np.column_stack(
                [scores if name in self.target.positive else 1 - scores for name in self.target.names]
            )
        return replace(self, table=self.table.assign(**dict(zip(names, scores.T, strict=True))))

    def derive(self, rules: Sequence[Rule], how: str = "max") -> Predictions:
        """With more findings, which follow from those that there are by rules such as ``referable = moderate or oedema``.

        The label is the rule's in three-valued logic, the probability that of the findings it names, combined by
        ``how``: see :class:`overread.cases.derived.Chances`. A later rule may name an earlier one. Raises
        :class:`InputError` where there are no findings, for a finding that is not there, and for one that is there
        already.
        """
        if not self.target.task.multilabel:
            raise InputError("outputs are derived from findings", given=self.target.task.summary,
                             todo="of classes say which count as disease: --positive a,b sums their probabilities")  # fmt: skip
        made = self
        for rule in rules:
            names = made.target.names
            if rule.name in names:
                raise InputError(
                    f"there is an output {rule.name!r} already",
                    given=", ".join(names),
                    todo="give the derived one another name",
                )
            chance = chance_of(rule, made.scores, names, how)
            truth = pd.DataFrame(made.truth, columns=list(names), index=made.table.index)
            label, notes = derived(truth, [rule])
            table = made.table.copy()
            table[f"label:{rule.name}"], table[f"p:{rule.name}"] = label[rule.name], chance
            ways = f"; its probability from theirs by {how}"
            made = replace(
                made,
                table=table,
                target=replace(made.target, names=(*names, rule.name)),
                notes=(*made.notes, *(note + ways for note in notes)),
            )
        return made

    def in_order_of(self, other: Predictions) -> Predictions:
        """With the target of ``other`` where it has the same names: columns may stand in another order."""
        kinds = {type(each.target.task) for each in (self, other)}
        same = len(kinds) == 1 and set(self.target.names) == set(other.target.names)
        return replace(self, target=other.target) if same else self

    def at_level(self, taxonomy: Taxonomy, level: str, positive: tuple[str, ...] = ()) -> Predictions:
        """The same cases judged at a coarser level: the probability of a class is the sum over those below it.

        The truth is the class at that level of the column ``table label`` where there is one, else of ``label``;
        unknown where it lies above the level. ``positive``: nodes under which, or at which, a class counts as disease;
        of two classes that which names tell where none is given. Raises :class:`InputError` for several findings or a quantity, a class that the taxonomy does
        not have or that lies above the level, and a level at which there is one class only.

        >>> tree = Taxonomy(("all", "ill", "mel", "bcc", "well"), ("", "all", "ill", "ill", "all"))
        >>> frame = pd.DataFrame({"label": ["mel", "well"], "p:mel": [0.4, 0.1], "p:bcc": [0.3, 0.2], "p:well": [0.3, 0.7]})
        >>> coarse = Predictions.from_frame(frame).at_level(tree, "level-1", positive=("ill",))
        >>> coarse.target.names, coarse.scores.round(6).tolist()
        (('ill', 'well'), [[0.7, 0.3], [0.3, 0.7]])
        """
        require_one_label(self.target.task)
        fine, truth = self.target.names, self.table["label" if TABLE_LABEL not in self.table else TABLE_LABEL]
        taxonomy.require_labels(fine, "the predictions")
        taxonomy.require_labels(truth.unique())
        over, above = taxonomy.coarse(fine, level), taxonomy.at(level)
        label = truth.map({"": "", **above})
        met = {*over.values(), *label}
        names = tuple(node for node in taxonomy.nodes_at(level) if node in met)
        if len(names) < 2:
            raise InputError(f"there is one class only at the level {level!r}", given=", ".join(names), todo="judge at a finer level")  # fmt: skip
        lost, never = int(((truth != "") & (label == "")).sum()), [n for n in names if n not in over.values()]
        notes = [f"{count(lost, 'case')} labelled above the level {level!r}, so not judged at it"] if lost else []
        notes += [f"classes at the level {level!r} that no training class lies under have the probability 0: {', '.join(never)}"] if never else []  # fmt: skip
        sums = {f"p:{n}": self.scores[:, [over[f] == n for f in fine]].sum(axis=1).clip(max=1.0) for n in names}
        target = Target("binary" if len(names) == 2 else "classes", names, positive_of(taxonomy, names, positive))
        kept = self.table.drop(columns=[*self.outputs, "label"]).assign(**{TABLE_LABEL: truth})
        table = pd.concat([kept.assign(label=label), pd.DataFrame(sums, self.table.index)], axis=1)
        by = self.by and replace(self.by, target=target)
        return Predictions(table, target, (*self.notes, *notes), by, self.identifiers)

    def save(self, path: str | Path) -> Path:
        """Write as CSV with 9 significant digits, which a float32 survives; beside it what the model says of itself."""
        beside = _beside(path)
        if self.by is not None:
            write_json(beside, self.by)
        else:
            beside.unlink(missing_ok=True)  # of a table that stood here before
        return write_csv(path, self.table, float_format="%.9g")

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, positive: tuple[str, ...] = (), *, rename: Mapping[str, str] = MappingProxyType({}), identifiers: str = "ask",
    ) -> Predictions:  # fmt: skip
        """As :meth:`read`, from a DataFrame in the same columns; without a column ``case`` its rows are numbered."""
        table = frame.reset_index(drop=True).copy()
        if "case" not in table:
            table.insert(0, "case", [f"case {i + 1}" for i in range(len(table))])
        table = table.assign(**{c: as_text(table[c]) for c in (*_FIRST, "label", TABLE_LABEL) if c in table})
        return cls._of(table, positive, rename, identifiers, "the DataFrame", None)

    @classmethod
    def _of(
        cls, table: pd.DataFrame, positive: tuple[str, ...], rename: Mapping[str, str], answer: str, where: str, by: PredictedBy | None
    ) -> Predictions:  # fmt: skip
        table, notes = _with_labels(_with_plain_names(table), rename)
        table, more = with_people(_with_both_classes(table), answer)
        target, said = _target_of(list(map(str, table.columns)), positive, where, by)
        return cls(table, target, (*notes, *more, *said), by, answer)

    @classmethod
    def read(
        cls, path: str | Path, positive: tuple[str, ...] = (), *, rename: Mapping[str, str] = MappingProxyType({}),
        identifiers: str = "",
    ) -> Predictions:  # fmt: skip
        """Read a CSV; the kind of target follows from its columns (see the module's docstring).

        ``positive``: classes that count as disease; of two classes that which names tell, where it is not given.
        ``rename``: labels by the names that they are to have, blank for unknown. ``identifiers``: what patients are who
        differ in capitals, leading zeros or separators only: nobody knows (``ask``: refused), two (``as-written``) or
        one (``same``, which holds for cases too); blank: what the model knows, else ``ask``. Raises :class:`InputError`
        for a missing file, missing columns, a case that stands twice, or a label that is no class.
        """
        by = made_by(path)
        answer = identifiers or (by.identifiers if by else "") or "ask"
        try:
            head = pd.read_csv(path, nrows=0).columns
            text = {c: str for c in (*_FIRST, "label", TABLE_LABEL) if c in head}
            table = pd.read_csv(path, dtype=text, keep_default_na=False,
                                na_values={c: [""] for c in head if c.startswith(("p:", "label:")) or c in ("value", "predicted")})  # fmt: skip
        except FileNotFoundError as error:
            raise InputError("the predictions do not exist", given=str(path), todo="check the path") from error
        except (OSError, ValueError) as error:
            raise InputError("the predictions cannot be read", given=f"{path}: {error}") from error
        table = unguarded(table) if _has_apostrophes(table) else table
        return cls._of(table, positive, rename, answer, str(path), by)


@checked
def predicted_by(path: str | Path) -> tuple[PredictedBy, str]:
    """What the ``model.json`` of a model says of it, and the salt of the codes that it knows patients by; without torch."""
    held = read_json(path)
    names = ("target", "seen", "salt", "identifiers")
    known = {name: held[name] for name in names if held.get(name)} if isinstance(held, dict) else {}
    return build(PredictedBy, {"model": fingerprint(held), **known}, where=Path(path).name), str(
        held.get("names_salt", "")
    )


@checked
def made_by(path: str | Path) -> PredictedBy | None:
    """What the model says of itself that made the predictions in a file; None where it is not told."""
    beside = _beside(path)
    return build(PredictedBy, read_json(beside), where=beside.name) if beside.exists() else None


#: Agreement of the truth, beyond chance, below which two tables have other cases under the same names (numbers, say).
_ONE_TRUTH = 0.8


@checked
def shared_cases(these: Iterable[str], those: Iterable[str]) -> int:
    """How many cases are in both tables, by their :meth:`Predictions.case_marks`; 0 where only their names are the
    same.

    That is told by Cohen's kappa of the labels of the shared names; labels that are mended leave a test set what it is.
    """
    known = dict(mark.split(":", 1) for mark in those)
    pairs = [(known[case], truth) for case, truth in (mark.split(":", 1) for mark in these) if case in known]
    if not pairs:
        return 0
    a, b = np.array(pairs).T
    kinds = np.union1d(a, b)
    chance = sum(float((a == kind).mean() * (b == kind).mean()) for kind in kinds)
    kappa = 1.0 if chance == 1 else (float((a == b).mean()) - chance) / (1 - chance)
    return len(pairs) if kappa >= _ONE_TRUTH else 0


def _beside(path: str | Path) -> Path:
    return Path(path).with_suffix(".model.json")


def _has_apostrophes(table: pd.DataFrame) -> bool:
    """Whether a text begins with one: most tables have none, and to look at each cell takes seconds."""
    texts = [pd.Series(table.columns, dtype=str), *(table[c] for c in table if table[c].dtype.kind == "O")]
    return any(bool(text.str.startswith("'").eq(True).any()) for text in texts)


def _bytes(column: pd.Series) -> bytes:
    """A column's content: numbers as float64 (one NaN for all), texts with their lengths, blanks as no text."""
    if column.dtype.kind in "iuf":
        values = column.to_numpy(np.float64)
        return np.where(np.isnan(values), np.nan, values).tobytes()
    blank = column.isna()
    texts = list(map(str, (column.astype(object).where(~blank, "") if blank.any() else column).tolist()))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return lengths.tobytes() + "".join(texts).encode("utf-8", "surrogatepass")


def _require_numbers(column: pd.Series) -> None:
    if column.dtype.kind in "iuf":
        return
    bad = column.notna() & pd.to_numeric(column, errors="coerce").isna()
    if bad.any():
        raise InputError(f"the column {str(column.name)!r} must hold numbers",
                         given=f"{count(int(bad.sum()), 'row')} that do not, the first {column[bad].iloc[0]!r}"[:200])  # fmt: skip


@checked
def with_people(table: pd.DataFrame, answer: str) -> tuple[pd.DataFrame, list[str]]:
    """Columns that a stranger's table may lack (each case its own patient, no split, no source), and who is who."""
    if "case" not in table:
        return table, []
    named = "patient" in table
    for column in ("patient", "split", "source"):
        if column not in table:
            table[column] = ""
    case = alike(table["case"]) if answer == "same" else table["case"]
    patient = distinct(table["patient"], "patient", answer)
    blank = int((patient == "").sum())  # else all blanks were one patient
    notes = [rewritten(table["patient"], patient, "patient")]
    if blank and named:
        notes.append(f"patient: {blank:,} of {len(table):,} cases name none, and each counts as a patient of its own")
    elif blank:
        notes.append("patient: no column says who the patient is, so each case counts as a patient of its own")
    made = table.assign(case=case, patient=patient.where(patient != "", case))
    return made, [note for note in notes if note]


def _with_plain_names(table: pd.DataFrame) -> pd.DataFrame:
    """Without blanks around the names of columns, and with ``p:1.0`` as ``p:1``."""
    plain = trimmed(pd.Series(table.columns, dtype=object)).tolist()
    names = [
        "p:" + (written(pd.Series([name[2:]])).iloc[0] or name[2:]) if name.startswith("p:") else name for name in plain
    ]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError("two columns have the same name", given=", ".join(twice[:5]), todo="keep one of them")
    return table.set_axis(names, axis="columns")


def _with_labels(table: pd.DataFrame, rename: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """With the labels under their new names; the ``p:`` columns say which classes there are."""
    if "label" not in table:
        if rename:
            raise InputError("labels are renamed, and the predictions have no column 'label'",
                             given=", ".join(map(str, table.columns))[:200])  # fmt: skip
        return table, []
    names = tuple(c[2:] for c in table.columns if c.startswith("p:"))
    label = _plain_labels(table["label"], names)
    new, notes = renamed(label, rename, one_of_several=True)
    if len(names) == 1:  # the other class is known by its label alone
        new = new.replace({label: names[0] for label in set(new) if label not in rename and label == names[0]})
        refuse_variants(pd.concat([new, pd.Series(names)]), rename)
    before = rewritten(table["label"], label, "label")
    return table.assign(label=new), [*([before] if before else []), *notes]


#: The type of a column of text.
_TEXT = pd.Series([""]).dtype


def _plain_labels(label: pd.Series, names: tuple[str, ...]) -> pd.Series:
    """Labels that are classes as they stand; others without blanks around them, ``1.0`` as ``1``, blank where missing."""
    text = label.astype(object).where(label.notna(), "").map(str)
    known = set(names)
    different = {name: name for name in text.unique() if name in known or name == ""}
    others = pd.Series([name for name in text.unique() if name not in different], dtype=object)
    return text.map(different | dict(zip(others, written(others), strict=True)))


def _under_names(label: pd.Series, names: tuple[str, ...]) -> tuple[pd.Series, str]:
    """Labels as names of classes, and what was changed. Raises :class:`InputError` for one that is no class."""
    if label.dtype == _TEXT and set(label.unique()) <= {*names, ""}:  # as in every part of a table that was read before
        return label, ""
    plain = _plain_labels(label, names)
    same = dict(zip(written(pd.Series(names, dtype=object)), names, strict=True))
    strange = [name for name in plain.unique() if name and name not in names and name not in same]
    if strange:
        counts = plain.value_counts()
        found = ", ".join(f"{name!r} in {int(counts[name]):,} rows" for name in strange[:5])
        raise InputError(f"a label is none of the classes that are predicted: {', '.join(names[:20])}",
                         given=found + (f" and {len(strange) - 5} more" if len(strange) > 5 else ""),
                         todo=meant(strange, names))  # fmt: skip
    made = plain.replace({old: new for old, new in same.items() if old and old != new})
    return made, rewritten(label, made, "label")


def _yes_or_no(values: pd.Series) -> tuple[pd.Series, str]:
    """1, 0 or NaN; −1 is CheXpert's "uncertain" (Irvin et al. 2019). Raises :class:`InputError` for another number."""
    number = pd.to_numeric(values).astype(np.float64)
    strange = number[number.notna() & ~number.isin([0, 1, -1])]
    if len(strange):
        raise InputError(f"the finding {str(values.name)!r} must be 1, 0 or blank",
                         given=f"{len(strange):,} rows that are not, the first {strange.iloc[0]:g}")  # fmt: skip
    unsure = number == -1
    if not unsure.any():
        return number, ""
    return number.mask(unsure), f"{values.name}: {int(unsure.sum()):,} uncertain marks (−1) are taken as unknown"


def _with_both_classes(table: pd.DataFrame) -> pd.DataFrame:
    """One ``p:`` column beside a label of two kinds says enough: the other class has the rest of the probability."""
    given = [c for c in table.columns if c.startswith("p:")]
    if len(given) != 1 or "label" not in table:
        return table
    name = given[0][2:]
    others = sorted(set(table["label"]) - {name, ""})
    if len(others) > 1:
        raise InputError("one p: column needs a label with two values", given=", ".join((name, *others))[:200],
                         todo=f"add a p: column for every class, or say which label is which: --rename-label {shown_pair(others[-1], name)}")  # fmt: skip
    _require_numbers(table[given[0]])
    table.insert(list(table.columns).index(given[0]), f"p:{(others or ['not ' + name])[0]}", 1 - table[given[0]])
    return table


def _target_of(
    columns: list[str], positive: tuple[str, ...], where: str, by: PredictedBy | None
) -> tuple[Target, tuple[str, ...]]:
    """What is predicted, and what was guessed of it."""
    names = tuple(c[2:] for c in columns if c.startswith("p:"))
    if "predicted" in columns:
        return Target("quantity", ("value",)), ()
    if not names:
        raise InputError("the table holds no predictions", given=f"{where}: {', '.join(columns)}",
                         todo="name the columns p:<class>, p:<finding> or predicted")  # fmt: skip
    if any(c.startswith("label:") for c in columns):
        spare = [c for c in columns if c.startswith("label:") and c[6:] not in names]
        return Target("findings", names), (f"no p: column, so not judged: {', '.join(spare)}",) if spare else ()
    if by is not None and set(by.target.names) == set(names):
        return (replace(by.target, positive=positive) if positive else by.target), ()
    if len(names) != 2:
        return Target("classes", names, positive), ()
    guessed = "" if positive else disease_of(names)
    said = (f"positive class: guessed {guessed!r}; override with --positive",) if guessed else ()
    return Target("binary", names, positive or (guessed,) if positive or guessed else ()), said
