"""A run on another run's table, audit and split, by a recipe of its own: up to its predictions, without a look at its test part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked
from overread.core.files import write_bytes
from overread.core.progress import unheard
from overread.study.context import RunContext
from overread.study.steps import begin, predict, train

#: What the run ``like`` found out of its table, and who trains, tunes and tests by it.
AUDITED = (
    "audit.json",
    "excluded.csv",
    "split.csv",
    "split.proof.json",
    "characteristics.json",
    "agreement.json",
    "graders.csv",
)


@checked
def run_like(context: RunContext, cases: Cases, like: Path) -> None:
    """Train the study of ``context`` on the audit and the split of the run ``like``, and predict tuning and test part.

    ``cases``: the table as it is read today. Called again, what is done is left alone. Raises :class:`InputError` where
    the table is no longer that of ``like``, and what :func:`overread.study.steps.train` does.
    """
    begin_like(context, cases, like)
    train(context)
    predict(context)


@checked
def begin_like(context: RunContext, cases: Cases, like: Path) -> None:
    """The study written down in its own folder, with the audit and the split of the run ``like``."""
    begin(replace(context, say=unheard), cases)  # it was said of the run that this one is like
    if (context.folder / "cases.csv").read_bytes() != (like / "cases.csv").read_bytes():
        raise InputError("the table has changed since the run was made: it is split otherwise now", given=str(like),
                         todo="make the run anew, in another folder")  # fmt: skip
    for name in AUDITED:
        if (like / name).exists():
            write_bytes(context.folder / name, (like / name).read_bytes())
    context.note("audit", cases.digest, 0.0)
