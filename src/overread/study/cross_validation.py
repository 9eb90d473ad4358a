"""Cross-validation as a study: every patient is judged once, by what was learned without him.

Of each fold, everything is learned from the other folds: normalisation, standardisation, penalties, weights of the
classes, networks and their snapshots. The threshold of a fold is chosen on cases that lie outside of it, by models that
have seen neither these cases nor the fold: of frozen features inner folds of the other folds say what they say; of a
network that is trained, a tuning part is cut from the other folds, which chooses the snapshot too. So a case is called by a
threshold which nothing of its own fold has moved. Weights of an ensemble are chosen in the same way, anew in each fold.

The predictions are pooled in one table with a column ``fold``. Its intervals are by patient; they tell how the pooled result
would vary with other patients under these very models. That the models of the folds share most of their training
patients, and would be other models with others, no interval of a single cross-validation covers (Bengio & Grandvalet 2004:
there is no unbiased estimate of that variance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.audit import Audit
from overread.cases.audit.fingerprints import group
from overread.cases.cases import Cases, paths
from overread.cases.extra_inputs import taught_with
from overread.cases.split import folds as folds_of
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.files import fingerprint, guarded, publish, unguarded, write_csv
from overread.core.phrases import count
from overread.core.progress import Say, unheard
from overread.distributed.repeated import Training, Trainings, train_each
from overread.evaluation.comparison.grid_result import Called, called_at, joined_calls
from overread.evaluation.comparison.opinion_pool import choose_shares, pooled
from overread.evaluation.subgroups import FEWEST
from overread.predictions import Predictions
from overread.study.context import RunContext, predictions_at, recipe_of
from overread.study.image_steps import thresholds_by
from overread.study.question import LEAVE_ONE_OUT, Study, number_of
from overread.study.run_like import begin_like
from overread.study.steps import refuse_errors

HELD_OUT, TUNED = "predictions/folds.csv", "predictions/folds-tuning.csv"
#: A threshold of its own for each fold, in words.
NOTE = "a threshold for each fold, chosen outside of it"


@dataclass(frozen=True, eq=False)
class Dealt:
    """Who is judged in which fold: ``table`` with ``case``, ``patient``, ``fold`` (from 1 on), ``count`` of them."""

    table: pd.DataFrame
    count: int

    @property
    def digest(self) -> str:
        """Hash of who is where."""
        return fingerprint(self.table.to_csv(index=False))

    def of(self, cases: Cases) -> NDArray[np.int64]:
        """The fold (N,) of each image."""
        return (
            cases.table["case"].map(dict(zip(self.table["case"], self.table["fold"], strict=True))).to_numpy(np.int64)
        )


@dataclass(frozen=True, eq=False)
class Folded:
    """Out-of-fold predictions of all cases with their ``fold``, and of each fold those on which its threshold is chosen."""

    held_out: Predictions
    tuning: Mapping[str, Predictions]


@dataclass(frozen=True, eq=False)
class TablesByFold(Mapping[str, Predictions]):
    """A table for each of the ``folds``, made when it is asked for: with leave-one-out there are as many as patients, and
    each holds nearly all cases."""

    folds: tuple[str, ...]
    make: Callable[[str], Predictions]

    def __getitem__(self, fold: str) -> Predictions:
        if fold not in self.folds:
            raise KeyError(fold)
        return self.make(fold)

    def __iter__(self) -> Iterator[str]:
        return iter(self.folds)

    def __len__(self) -> int:
        return len(self.folds)


@checked
def deal(context: RunContext) -> Dealt:
    """Deal the patients of an audited study into folds: ``folds.csv``.

    By patient, duplicates kept together, stratified by label and source; ``leave-one-out``: each patient, with whoever
    shares an image with her, is a fold. Raises :class:`UnsoundError` for errors of the audit or too few patients,
    :class:`InputError` for a rule of splitting that has no folds.
    """
    rule, found = context.study.split, Audit.load(context.folder / "audit.json")
    asked = [name for name in ("deploy_to", "leave_out", "by_time") if getattr(rule, name)]
    if asked:
        raise InputError("cross-validation judges every case, at random by patient", given=", ".join(asked),
                         todo="leave them out, or compare on a split: without --folds")  # fmt: skip
    refuse_errors(found, rule.despite)
    cases = _judged(context)
    if cases.patients < FEWEST and "few-patients" not in rule.despite:
        raise UnsoundError(
            f"there are {count(cases.patients, 'patient')}, and nothing is judged below {FEWEST}", todo="add patients"
        )
    if rule.keep_given and (cases.table["split"] != "").any():
        context.say("  the split that the table brings along is not used: cross-validation judges every case")
    if rule.folds == LEAVE_ONE_OUT:
        fold = group(cases.table, "patient", found.pairs).of
    else:
        fold = folds_of(cases, k=number_of(rule.folds), seed=context.study.training.seed, audit=found)
    table = (
        cases.table[["case", "patient"]]
        .assign(fold=fold + 1)
        .drop_duplicates("case")
        .sort_values("case", ignore_index=True)
    )
    write_csv(context.folder / "folds.csv", table)
    many = int(table["fold"].nunique())
    context.say(
        f"{count(many, 'fold')} of {count(len(table), 'case')} of {count(cases.patients, 'patient')}, by patient"
    )
    return Dealt(table, many)


def _judged(context: RunContext) -> Cases:
    usable = context.usable()
    return usable.take(usable.labelled)


@checked
def cross_validate_cell(context: RunContext, cases: Cases, dealt: Dealt, like: Path) -> Folded:
    """The out-of-fold predictions of one recipe, kept in its folder; called again, what is there is read.

    Raises what training does, and :class:`InputError` where the table is no longer that of ``like``.
    """
    from overread.distributed.out_of_fold import learns_inside

    begin_like(context, cases, like)
    study, recipe = context.study, recipe_of(context.study)
    key = _key_of(study, cases, dealt)
    if not context.done("folds", key, HELD_OUT, TUNED):
        began, judged = context.clock.elapsed, _judged(context)
        held_out, tuned = (_frozen if learns_inside(recipe) else _trained)(context, judged, dealt)
        held_out.save(context.folder / HELD_OUT)
        _write_tuning(context.folder / TUNED, tuned)
        context.note("folds", key, context.clock.elapsed - began)
    return read_folds(context.folder)


def _key_of(study: Study, cases: Cases, dealt: Dealt) -> str:
    """Hash of everything that out-of-fold predictions are made of."""
    from overread.distributed.out_of_fold import learns_inside

    recipe = recipe_of(study)
    tuned = 0 if learns_inside(recipe) else _tuning_folds(study)
    return fingerprint([taught_with(cases, recipe.extra_inputs), dealt.digest, recipe, study.training.weights, tuned])


def _tuning_folds(study: Study) -> int:
    """Into how many parts what lies outside of a fold is dealt, one of which tunes: by the shares of the study's split."""
    return max(2, round((1 - study.split.test) / study.split.tuning))


@checked
def read_folds(folder: Path) -> Folded:
    """The out-of-fold predictions in a cell's folder."""
    held_out = predictions_at(folder, folder / HELD_OUT)
    held_out = replace(held_out, table=held_out.table.assign(fold=held_out.table["fold"].astype(str)))
    told = pd.read_csv(folder / TUNED, dtype={"fold": str, "case": str}, keep_default_na=False)
    which, named = pd.factorize(told["case"])  # a case stands in nearly every fold
    known = unguarded(pd.DataFrame({"case": np.asarray(named, object)}))["case"]
    place = pd.Index(held_out.table["case"]).get_indexer(pd.Index(known))[which]
    scores, rows = told[list(held_out.outputs)].to_numpy(np.float64), told.groupby("fold").indices

    def made(fold: str) -> Predictions:
        return held_out.take(place[rows[fold]]).with_scores(scores[rows[fold]])

    return Folded(held_out, TablesByFold(tuple(map(str, told["fold"].unique())), made))


def _write_tuning(path: Path, tuning: Mapping[str, Predictions]) -> None:
    """Fold, case and scores, one fold after the other."""
    with publish(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        for place, (fold, each) in enumerate(tuning.items()):
            rows = guarded(each.table.assign(fold=fold)[["fold", "case", *each.outputs]])
            rows.to_csv(file, index=False, header=not place, float_format="%.9g", lineterminator="\n")


def _frozen(context: RunContext, cases: Cases, dealt: Dealt) -> tuple[Predictions, Mapping[str, Predictions]]:
    """Of features that are made once, with heads of each fold."""
    from overread.distributed.out_of_fold import judge_frozen
    from overread.learning.predict import tabulate

    study, resources = context.study, context.study.resources
    found, prints = Audit.load(context.folder / "audit.json"), context.prints(cases)
    told = judge_frozen(cases, dealt.of(cases), recipe_of(study), weights=study.training.weights or None, cache=context.cache,
                        digests=dict(zip(paths(cases), prints["digest"], strict=True)), pairs=found.pairs, device=resources.device,
                        threads=resources.threads, network=context.network, progress=context.progress, say=context.say)  # fmt: skip
    named = replace(cases, table=cases.table.assign(fold=dealt.of(cases).astype(str)))
    held_out = tabulate(told.held_out, named, cases.target, "held-out")

    def made(fold: str) -> Predictions:
        return tabulate(told.inner[int(fold)], cases, cases.target, "held-out")

    return held_out, TablesByFold(tuple(map(str, told.inner)), made)


def _trained(context: RunContext, cases: Cases, dealt: Dealt) -> tuple[Predictions, dict[str, Predictions]]:
    """Of networks, one trained for each fold; each is kept until all are there."""
    study, fold, found = context.study, dealt.of(cases), Audit.load(context.folder / "audit.json")
    trainings = []
    for number in range(1, dealt.count + 1):
        rest = cases.take(fold != number)
        tunes = folds_of(rest, k=_tuning_folds(study), seed=study.training.seed, audit=found) == 0
        judged = cases.take((fold == number) | cases.table["case"].isin(rest.table["case"][tunes]).to_numpy())
        trainings.append(
            Training(f"fold {number}", rest.take(~tunes), rest.take(tunes), judged, "held-out", tuned=True)
        )
    learned = train_each(
        Trainings(tuple(trainings)), recipe_of(study), context.folder / "folds", weights=study.training.weights or None, cache=context.cache,
        device=study.resources.device, threads=study.resources.threads, network=context.network,
        seconds=None if context.clock.limit is None else context.clock.left, progress=context.progress,
        done=lambda training, new: context.say(f"{training.name} of {dealt.count}{'' if new else ', kept from before'}"),
    )  # fmt: skip
    of_case = dict(zip(dealt.table["case"], dealt.table["fold"], strict=True))
    parts, tuning = [], {}
    for number, (_, told, _) in enumerate(learned, start=1):
        own = told.table["case"].map(of_case).to_numpy() == number
        parts.append(told.take(own).table.assign(fold=str(number)))
        tuning[str(number)] = replace(told.take(~own), by=None)
    whole = pd.concat(parts, ignore_index=True)
    order = pd.Index(whole["case"]).get_indexer(pd.Index(cases.table["case"].drop_duplicates()))
    return Predictions(
        whole.iloc[order[order >= 0]].reset_index(drop=True), cases.target, identifiers=cases.identifiers
    ), tuning


# -- thresholds and weights of each fold ------------------------------------------------------------------------------


@checked
def called_by_fold(study: Study, folded: Folded, say: Say = unheard) -> tuple[Called, ...]:
    """What is called positive in each fold at the points chosen on its own tuning predictions, as one.

    A question without a point in one of the folds, for want of one of its answers there, has no calls; ``say`` hears why.
    """
    table = folded.held_out.table
    each: list[Sequence[Called]] = []
    for fold, tuning in folded.tuning.items():
        try:
            points = thresholds_by(study.operating_point, tuning)
        except UnsoundError as error:
            say(f"no sensitivity and specificity: no threshold can be chosen for fold {fold}: {error}")
            return ()
        each.append(called_at(folded.held_out.take((table["fold"] == fold).to_numpy()), points, NOTE))
    everywhere = set.intersection(*({called.of for called in some} for some in each)) if each else set()
    lost = dict.fromkeys(called.of for some in each for called in some if called.of not in everywhere)
    if lost:
        say(
            f"no sensitivity and specificity of {', '.join(lost)}: what a threshold is chosen on has one answer in a fold"
        )
    return joined_calls(each, NOTE)


@checked
def pooled_folds(cells: Mapping[str, Folded]) -> tuple[Folded, dict[str, float]]:
    """The weighted mean of several cells, its weights chosen anew for each fold outside of it; and the weights' mean."""
    first = next(iter(cells.values()))
    parts, shares = [], dict[str, dict[str, float]]()

    def outside(fold: str) -> dict[str, Predictions]:
        return {name: each.tuning[fold] for name, each in cells.items()}

    for fold in first.tuning:
        shares[fold] = choose_shares(outside(fold))
        inside = {name: each.held_out.take((each.held_out.table["fold"] == fold).to_numpy()) for name, each in cells.items()}  # fmt: skip
        parts.append(pooled(inside, shares[fold]).table)
    whole = (
        pd.concat(parts).set_index("case", drop=False).loc[list(first.held_out.table["case"])].reset_index(drop=True)
    )
    mean: dict[str, Any] = {name: float(np.mean([each[name] for each in shares.values()])) for name in cells}
    tuning = TablesByFold(tuple(shares), lambda fold: pooled(outside(fold), shares[fold]))
    return Folded(replace(first.held_out, table=whole), tuning), mean
