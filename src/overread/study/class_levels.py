"""A run whose classes stand in a tree: training classes cut from it, and its predictions judged at coarser levels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from overread.cases.cases import Cases
from overread.cases.class_tree import with_classes
from overread.cases.split import Split
from overread.core.errors import InputError, checked
from overread.core.files import build, read_json, write_json
from overread.core.phrases import count
from overread.evaluation.decision.class_decision import Frozen
from overread.evaluation.evaluate import Evaluation
from overread.evaluation.evaluate import evaluate as evaluate_predictions
from overread.evaluation.uncertainty import uncertainty
from overread.predictions import Predictions
from overread.study.context import PARTITION, TAXONOMY, RunContext, tree_of
from overread.study.question import OperatingRule, Study, level_folder
from overread.tasks.taxonomy import Partition, Taxonomy, partition, positive_of, read_taxonomy

#: Why a case teaches and tunes nothing.
NO_CLASS = "the label lies under no training class of the taxonomy"
#: Where what holds at a coarser level lies, a folder each.
LEVELS = Path("evaluation") / "levels"


@checked
def cut_classes(context: RunContext, cases: Cases, parts: Split) -> frozenset[str]:
    """``taxonomy.csv`` and ``partition.json``: training classes out of the tree, from the images of training patients.

    Returns the cases of training and tuning whose label lies under no class; ``cases.csv`` then holds the classes that
    are learned. Nothing where labels are learned as they stand, or there is no tree. Raises :class:`InputError` for a
    level that these classes cannot be judged at.
    """
    tree, positive, folder = context.study.class_tree, context.study.columns.positive, context.folder
    (folder / PARTITION).unlink(missing_ok=True)
    if not tree.taxonomy:
        (folder / TAXONOMY).unlink(missing_ok=True)
        return frozenset()
    taxonomy = tree_of(context.study)
    taxonomy.save(folder / TAXONOMY)
    if not tree.cuts:
        _require_judged(context, taxonomy, cases.target.names)
        return frozenset()
    taught = cases.only(parts, "train").table
    made = partition(taxonomy, taught["label"], taught["patient"], max_class_size=tree.max_class_size, level=tree.label_at,
                     names=cases.target.names)  # fmt: skip
    context.say(str(made))
    _require_judged(context, taxonomy, made.names)
    learned = with_classes(context.labelled(), taxonomy, made, positive)
    write_json(folder / PARTITION, made)
    learned.save(folder / "cases.csv")
    without = learned.table["case"][~learned.labelled]
    split = parts.table.set_index("case")["part"].reindex(without)
    dropped = frozenset(without[split.isin(("train", "tuning")).to_numpy()])
    if dropped:
        context.say(f"  {count(len(dropped), 'case')} left out of training or tuning: {NO_CLASS}")
    return dropped


def _require_judged(context: RunContext, taxonomy: Taxonomy, names: tuple[str, ...]) -> None:
    """Refuse before training what could not be judged after it."""
    for level in context.study.class_tree.judge_at:
        found = tuple(dict.fromkeys(taxonomy.coarse(names, level).values()))
        ill = positive_of(taxonomy, found, context.study.columns.positive)
        if len(found) == 2 and len(ill) != 1:
            raise InputError(f"nobody says which of the two classes at the level {level!r} counts as disease", given=" and ".join(found),
                             todo=f"say it: --positive {found[0]}")  # fmt: skip


@checked
def judge_levels(
    context: RunContext, tuning: Predictions, test: Predictions, fine: Evaluation,
    freeze: Callable[[OperatingRule, Predictions, int], tuple[Frozen, ...]],
) -> None:  # fmt: skip
    """``evaluation/levels/<level>/``: each level that is asked for, as an evaluation of its own at points that ``freeze``
    chooses on tuning data. Part of the look at the test set that ``fine`` was."""
    study, home = context.study, context.folder / LEVELS
    shutil.rmtree(home, ignore_errors=True)
    if not study.class_tree.judge_at:
        return
    rule, seed = study.operating_point, study.training.seed
    costless = (
        replace(rule, cost_matrix="", decide="auto") if rule.cost_matrix else rule
    )  # costs are of the fine classes
    taxonomy, kept = tree_judged_by(context), context.folder / TAXONOMY
    if not kept.exists():
        taxonomy.save(kept)
    for level in study.class_tree.judge_at:
        tuned, seen = (part.at_level(taxonomy, level, study.columns.positive) for part in (tuning, test))
        tuned = tuned.in_order_of(seen)
        doubt = uncertainty(tuned, seen, seed=seed)
        judged = evaluate_predictions(seen, at=freeze(costless, tuned, seed) or None, by=list(study.columns.subgroups), seed=seed,
                                      prevalence=rule.prevalence or None, fixed=rule.fixed, net_benefit_at=rule.net_benefit_at or None)  # fmt: skip
        judged = replace(judged, looks=fine.looks, about=replace(judged.about, ledger=fine.about.ledger, model=fine.about.model))  # fmt: skip
        folder = home / level_folder(level)
        judged.extended(doubt.estimates, doubt.more).save(folder)
        write_json(folder / "level.json", {"level": level, "target": seen.target})


@checked
def tree_judged_by(context: RunContext) -> Taxonomy:
    """The tree that levels are judged in: the run's own copy, or the study's file where it has none yet."""
    kept = context.folder / TAXONOMY
    return read_taxonomy(kept) if kept.exists() else tree_of(context.study)


@checked
def coarse_run(
    folder: Path, part: Predictions, level: str, taxonomy: str = "", positive: tuple[str, ...] = ()
) -> Predictions:
    """Predictions of a run at a level of its own tree, or of a ``taxonomy`` file where it has none.

    Raises :class:`InputError` where there is no tree, and where there are two.
    """
    own = folder / TAXONOMY
    if own.exists() and taxonomy:
        raise InputError("the run's classes stand in a tree of their own", given=f"{folder.name} and --taxonomy {taxonomy}",
                         todo=f"leave --taxonomy out, or give the run's table: {folder / 'predictions' / 'test.csv'}")  # fmt: skip
    if not (own.exists() or taxonomy):
        raise InputError("the run's classes stand in no tree", given=folder.name, todo="give one: --taxonomy tree.csv")
    return part.at_level(read_taxonomy(own if own.exists() else taxonomy), level, positive)


@checked
def as_learned(folder: Path) -> Callable[[Cases], Cases] | None:
    """What puts the labels of another table under the training classes of the run in ``folder``; None where it learned
    the labels themselves, or ``folder`` holds a model alone."""
    if not (folder / PARTITION).exists():
        return None
    made = build(Partition, read_json(folder / PARTITION), where=PARTITION)
    tree, positive = read_taxonomy(folder / TAXONOMY), Study.load(folder / "study.toml").columns.positive
    return lambda cases: with_classes(cases, tree, made, positive)


@checked
def require_same_split(first: Path, second: Path) -> None:
    """Raise :class:`InputError` unless two runs train, tune and test on the same patients, but for cases of no class."""
    one, other = (Split.load(folder / "split.csv").table.groupby("part")["case"].agg(set) for folder in (first, second))
    for part, told in (("test", "tested"), ("train", "trained")):
        ours, theirs = one.get(part, set()), other.get(part, set())
        apart = (
            ours ^ theirs if part == "test" else (ours & other.get("test", set())) | (theirs & one.get("test", set()))
        )
        if apart:
            raise InputError(f"the two runs were not {told} on the same patients", given=count(len(apart), "case"),
                             todo="the table has changed since the first was made: make both anew")  # fmt: skip
