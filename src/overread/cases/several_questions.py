"""Several readers' answers to several questions of the same cases, such as a grade, oedema, and whether it can be graded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from overread.cases.annotators import Grades, grades_of, reader_column, roles
from overread.cases.sources.tables import find, known, read_table
from overread.core.errors import InputError, checked

#: What the column of questions of a long table may be called, and that of answers.
_QUESTION, _ANSWER = ("question", "finding"), ("answer", "label")
_YES = frozenset({"1", "1.0", "yes", "y", "true", "t", "positive", "present"})
_NO = frozenset({"0", "0.0", "no", "n", "false", "f", "negative", "absent"})
_UNSURE = frozenset({"-1", "-1.0", "unknown", "uncertain", "unsure"})


@checked
def read_questions(
    path: str | os.PathLike[str], questions: Sequence[str] = (), *, case: str = "case", reader: str = "reader", modality: str = "modality",
    rename: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Grades]:  # fmt: skip
    """The answers to each question, in the order of ``questions``, or of the table; from CSV, TSV, Parquet or Excel.

    Long: a row for each answer, with the columns ``case``, ``reader``, ``question`` (or ``finding``) and ``answer`` (or
    ``label``). Or a row for each case and reader, with a column for each question, which may begin with ``label:``. Without
    ``questions``, all of the table's. A blank cell is no answer. ``rename`` as in :func:`.read_grades`. Raises
    :class:`InputError` for a question that nobody was asked, and as :func:`.read_grades`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     at = Path(folder) / "readers.csv"
    ...     _ = at.write_text("case,reader,grade,oedema\\n1,a,2,yes\\n1,b,3,\\n")
    ...     {name: grades.table["label"].tolist() for name, grades in read_questions(at).items()}
    {'grade': ['2', '3'], 'oedema': ['yes', '']}
    """
    table = read_table(Path(path))
    columns = [str(column) for column in table.columns]
    named = roles(table, case, modality)
    who = reader_column(table, reader)
    if who is None:
        raise InputError("answers to several questions need a column that names the reader", given=", ".join(columns[:20]),
                         todo="give the columns case, reader and one for each question")  # fmt: skip
    taken = {name for name in (*named.values(), who) if name}
    made = pd.DataFrame({role: table[name] for role, name in {**named, "reader": who}.items() if name})
    made = made if "modality" in made else made.assign(modality="")
    asked = next((name for name in _QUESTION if name in columns and name not in questions), None)
    answer = next((name for name in _ANSWER if name in columns), None)
    if asked and answer:
        parts = {
            str(q): made.assign(label=table[answer])[(table[asked] == q).to_numpy()] for q in table[asked].unique() if q
        }
    else:
        parts = {name.removeprefix("label:"): made.assign(label=table[name]) for name in columns if name not in taken}
    if not parts:
        raise InputError(
            "no column holds answers", given=", ".join(columns[:20]), todo="give a column for each question"
        )
    wanted = [find(list(parts), name.removeprefix("label:"), "question") for name in questions] or list(parts)
    return {name: grades_of(parts[name].reset_index(drop=True), "label", rename=rename) for name in wanted}


@checked
def questions_of(
    asked: str | os.PathLike[str] | Sequence[str], rename: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Grades]:
    """The answers to all questions of a table; :class:`InputError` for columns, in which readers answered one question."""
    if not isinstance(asked, (str, os.PathLike)):
        raise InputError("readers in columns of the table answered one question", given=", ".join(asked),
                         todo="give a table of answers with a column for each question: --graders readers.csv")  # fmt: skip
    return read_questions(asked, rename=rename)


@checked
def the_question(
    asked: str | os.PathLike[str] | Sequence[str], name: str, rename: Mapping[str, str] = MappingProxyType({})
) -> Grades:
    """The answers to the one question of that name."""
    answers = questions_of(asked, rename)
    return answers[find(list(answers), name, "label")]


@checked
def yes_or_no(grades: Grades, name: str) -> Grades:
    """The answers to a yes-or-no question as ``1`` and ``0``; uncertain ones (−1) are none. Raises :class:`InputError`
    for any other answer."""
    text = known(grades.table["label"]).str.lower()
    strange = sorted(set(text) - _YES - _NO - _UNSURE - {""})
    if strange:
        raise InputError(f"the readers' answers to {name!r} are no yes or no", given=", ".join(map(repr, strange[:5])),
                         todo=f"write 1, 0 or blank; of a grade derive a finding: --derive \"worse = {name} >= 2\"")  # fmt: skip
    label = pd.Series("", index=text.index).mask(text.isin(_YES), "1").mask(text.isin(_NO), "0")
    return Grades(grades.table.assign(label=label), "label")


@checked
def asks_several(
    path: str | os.PathLike[str], case: str = "case", reader: str = "reader", modality: str = "modality"
) -> bool:
    """Whether a table of answers has more than one question, and no column of one label."""
    table = read_table(Path(path))
    columns = [str(column) for column in table.columns]
    if reader_column(table, reader) is None:
        return False
    if any(name in columns for name in _QUESTION) and any(name in columns for name in _ANSWER):
        return True
    return (
        "label" not in columns
        and "score" not in columns
        and len(set(columns) - {*filter(None, roles(table, case, modality).values())}) > 2
    )
