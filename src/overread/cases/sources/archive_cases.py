"""Cases from a MedMNIST archive, whose rows have numbers and no names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from overread.cases.cases import Cases
from overread.cases.sources.catalogue import class_names, read_archive
from overread.cases.sources.labels import one_label, several_findings
from overread.cases.sources.tables import NO_PATIENT
from overread.core.errors import checked, one_of
from overread.tasks.target import TASKS
from overread.tasks.task import Task


@checked
def cases_of_archive(path: Path, positive: Sequence[str], task: type[Task] | None = None) -> Cases:
    """The rows of an archive under its labels. ``task``: what to take the labels for, classes or findings.

    Raises :class:`InputError` for labels that cannot be read, or not as that.
    """
    if task is not None:
        kind = next(word for word, asked in TASKS.items() if asked is task)
        one_of(kind, [k for k, asked in TASKS.items() if not asked.continuous], "the kind of an archive's labels")
    table, labels = read_archive(path)
    notes: list[str] = []
    names = class_names(path, labels)
    if names:
        notes.append("label: the names of the classes are those of the MedMNIST catalogue")
    made = table.assign(patient=table["case"], source="", view="", time="")
    if labels.shape[1] > 1:
        columns = names or [f"finding {i}" for i in range(labels.shape[1])]
        wanted, target, more = several_findings(pd.DataFrame(labels.astype(str), columns=columns), columns, positive)
    else:
        text = pd.Series(labels[:, 0]).astype(str)
        named_text = text.map({str(i): name for i, name in enumerate(names)}) if names else text
        wanted, target, more = one_label(named_text, positive, task, "labels", names or ())
    return Cases(pd.concat([made, wanted], axis=1), target, str(path.parent), (*notes, NO_PATIENT, *more))
