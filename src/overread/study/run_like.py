"""A run on another run's table, audit and split, by a recipe of its own: up to its predictions, without a look at its test part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked
from overread.core.files import write_bytes
from overread.core.progress import unheard
from overread.study.context import PARTITION, TAXONOMY, RunContext
from overread.study.question import Study
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
    for name in (PARTITION, TAXONOMY):
        _copy(like, context.folder, name)
    context.cases().save(context.folder / "cases.csv")  # under the classes of that run, where it cut them from a tree
    if not _same_cases(context.folder / "cases.csv", like / "cases.csv"):
        raise InputError("the table has changed since the run was made: it is split otherwise now", given=str(like),
                         todo="make the run anew, in another folder")  # fmt: skip
    for name in AUDITED:
        _copy(like, context.folder, name)
    context.note("audit", cases.digest, 0.0)


def _same_cases(one: Path, other: Path) -> bool:
    """Whether two tables agree in roles and labels; a recipe may see columns beside the pixels that another does not."""
    return one.read_bytes() == other.read_bytes() or Cases.load(one).taught == Cases.load(other).taught


@checked
def carrying_inputs(study: Study, others: Iterable[Study]) -> Study:
    """A study whose table carries what the recipes of the ``others`` show beside the pixels, in their order."""
    wanted = [column for other in others for column in other.training.recipe.get("extra_inputs", ())]
    kept = study.columns.keep_columns
    more = [column for column in dict.fromkeys(wanted) if column not in kept]
    return study.changed(keep_columns=(*kept, *more)) if more else study


@checked
def refuse_unjudged_levels(study: Study) -> None:
    """Raise :class:`InputError` for what a grid does not do with a tree of classes: nothing is ignored in silence."""
    tree = study.class_tree
    if tree.judge_at:
        raise InputError("a grid is judged at the classes that it learns, and at no other level of the tree", given=f"judge_at {', '.join(tree.judge_at)}",
                         todo="leave out --judge-at, and rank its cells at a level afterwards: overread leaderboard CELL CELL --judge-at LEVEL")  # fmt: skip
    if tree.cuts and study.split.folds:
        given = f"label_at {tree.label_at}" if tree.label_at else f"max_class_size {tree.max_class_size}"
        raise InputError("training classes are cut from the images of one training part, and cross-validation has one for each fold", given=given,
                         todo="compare on a split, without --folds, or learn the labels as the table has them")  # fmt: skip


def _copy(like: Path, folder: Path, name: str) -> None:
    if (like / name).exists():
        write_bytes(folder / name, (like / name).read_bytes())
