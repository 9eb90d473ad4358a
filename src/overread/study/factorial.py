"""A factorial of recipe settings on one table, audit and split: every cell a run, and one table of what each reaches."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from overread.cases.annotators import Grades, coded, read_grades
from overread.cases.cases import Cases
from overread.core.errors import InputError, OverreadError, UnavailableError, UnsoundError, checked, one_of
from overread.core.files import fingerprint, folder_lock, read_fields, read_json, write_csv, write_json
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.comparison.disagreement import Disagreement, disagreement
from overread.evaluation.comparison.grid_result import ENSEMBLE, Called, Grid, LeftOut, called_at, judge_grid
from overread.evaluation.comparison.opinion_pool import choose_shares, pooled
from overread.evaluation.decision.class_decision import Frozen, thresholds_of
from overread.evaluation.ledger import record_look
from overread.evaluation.operating_point import OperatingPoint
from overread.predictions import Predictions
from overread.study.context import RunContext, predictions_of, recipe_of
from overread.study.cross_validation import Dealt, Folded, called_by_fold, cross_validate_cell, deal, pooled_folds
from overread.study.image_steps import frozen_by, thresholds_by
from overread.study.question import OperatingRule, Study
from overread.study.run_like import carrying_inputs, refuse_unjudged_levels, run_like
from overread.study.steps import audit, begin, open_study, require_trainable, split, sweep, tell_findings

#: Parts that cells are judged on besides their folds.
PARTS = ("tuning", "test")
#: The least share of a budget that a cell is given, in seconds.
LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Readers:
    """Who decides where two systems disagree: a table of their calls (blank: one who is never wrong), and which two.

    ``threshold``: the least score of theirs that counts as positive; ``modality``: which one of their table; ``finding``:
    what they are asked for, where there are several questions: the first if not given, and that is said.
    """

    table: str = ""
    systems: tuple[str, ...] = ()
    threshold: float | None = None
    modality: str = ""
    finding: str = ""


@dataclass(frozen=True)
class Level:
    """One level of a factor: its name, and the fields of the recipe that it sets."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Factor:
    """What is varied: its name and its levels."""

    name: str
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Cell:
    """One combination of levels, with the study that it is: ``name`` for people, ``place`` its folder below ``cells/``."""

    name: str
    place: str
    levels: tuple[str, ...]
    study: Study


@dataclass(frozen=True, eq=False)
class Judged:
    """What a finished cell, or the ensemble, is judged by: its table, what it froze, and what it calls positive; ``lost``
    says of which question nothing is called, and why."""

    table: Predictions
    called: tuple[Called, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    ledger: Path | None = None
    lost: tuple[str, ...] = ()


@checked
def grid(
    study: Study, vary: Mapping[str, Sequence[Any]], folder: str | Path, *, part: str = "tuning", readers: Readers | None = None,
    metric: str = "", against: str = "best", level: float = 0.95, cache: str | Path | None = None, network: bool = True,
    progress: Progress = silent, say: Say = unheard,
) -> Grid:  # fmt: skip
    """Train every combination of the levels of ``vary``, judge all on the same cases, and write the table into ``folder``.

    ``vary``: the values of each factor by its name, as :func:`factors_of` reads them; without factors, the study's own
    recipe is the only cell. The table is audited and split once; each cell is a run's folder below ``cells/``, up to
    its predictions. Called again, what is trained is left alone, so a stopped grid goes on, and levels may be added. The
    study's budget is shared: each cell may use an equal part of what is left. A cell that cannot be trained (no weights
    at hand, a size too small for its network) is left out with its reason.

    ``part``: ``tuning`` (no look at the test set: sensitivity and specificity are then those on the data that chose the
    points, which flatters a little) or ``test`` (a look, in the ledgers of the cells and of the grid). Where the study has
    ``folds``, every cell is judged by cross-validation over all cases instead, and there is no test part
    (:mod:`overread.study.cross_validation`). ``readers``: who decides where two systems disagree, the two that are
    best on tuning data unless they are named; None where the rule is not asked for. Where there is nothing to ask (no two
    cells with an operating point), the table stands without the rule, and says so. ``metric``, ``against``, ``level``: as
    in :func:`overread.evaluation.comparison.leaderboard.leaderboard`; the study's primary endpoint where no metric is
    given.

    Writes ``grid.json``, ``metrics.json``, ``grid.csv``, ``grid.html`` and ``vary.json``; ``disagreement/`` for the rule.
    Raises :class:`InputError` for a factor, a level or a table that is wrong, :class:`UnsoundError` where the study
    cannot be trusted, and the first cell's error where none could be trained.
    """
    from overread.reporting.pages.leaderboard import grid_page

    one_of(part, PARTS, "part")
    refuse_unjudged_levels(study)
    _refuse_untold(study)
    folder, clock, factors = Path(folder), Clock(study.resources.limit), factors_of(vary)
    cells, lost = _trainable(*cells_of(study, factors), network)
    if readers:  # before anything is trained
        _refuse_readers(readers, (*(cell.name for cell in cells), ENSEMBLE))
    study, cases = open_study(carrying_inputs(study, [cell.study for cell in cells]), folder, progress)
    say(
        f"{count(len(cells), 'cell')}: "
        + "; ".join(f"{f.name}: {', '.join(x.name for x in f.levels)}" for f in factors)
    )
    with folder_lock(folder):
        context = RunContext(study, folder, Path(cache) if cache else None, network, clock, progress, say, cases)
        dealt = _set_up(context, cases, factors)
        made, more = _trained(context, cases, cells, dealt)
        lost = (*lost, *more)
        part = "folds" if dealt is not None else part
        found = _judged(context, made, part)
        shares: dict[str, float] = {}
        if len(made) > 1:
            found[ENSEMBLE], shares = _ensemble(context, made, found, part)
        # all that may fail comes before the look at the test set is written down
        asked, unasked = _asked(context, made, found, readers) if readers else (None, [])
        routed = _routed(context, found, asked, level) if asked else None
        board = _table(
            context, found, part, metric=metric or study.operating_point.primary, against=against, level=level
        )
        board = replace(
            board, part=part, factors={f.name: tuple(x.name for x in f.levels) for f in factors},
            levels={cell.name: cell.levels for cell in made}, left_out=lost, shares=shares, folds=dealt.count if dealt else 0,
            cautions=(*board.cautions, *_cautions(study, part, bool(shares)), *unasked,
                      *(f"{name}: {line}" for name, each in found.items() for line in each.lost)),
        )  # fmt: skip
        board.save(folder)
        write_csv(folder / "grid.csv", board.to_frame())
        if routed and asked:
            _record_rule(context, found, asked, part)
            routed.save(folder / "disagreement")
        elif readers:
            for path in (folder / "disagreement").glob("*.json"):
                path.unlink()  # of another part or other systems
        grid_page(board, folder, routed)
    return board


# -- the design: factors, levels, cells -------------------------------------------------------------------------------


@checked
def factors_of(vary: Mapping[str, Any]) -> tuple[Factor, ...]:
    """The factors of ``{"backbone": ["alexnet", "googlenet"], …}``.

    A value is one of the field of that name (``augmentation.rotate`` reaches inside); or a table of fields that change
    together, ``{"name": "extra", "augmentation": {"turn": 0.75, "clahe": 0.5}}``, and then the factor may have any
    name; or the path of a ``.toml`` file with such fields. Raises :class:`InputError` for a factor without levels or
    with two of one name.

    >>> [level.name for level in factors_of({"epochs": [1, 2]})[0].levels]
    ['1', '2']
    """
    found = []
    for name, values in vary.items():
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        levels = tuple(_level(name, value, place) for place, value in enumerate(values, start=1))
        names = [level.name for level in levels]
        if not levels or len(set(names)) < len(names):
            raise InputError(f"the factor {name} needs levels of different names", given=", ".join(names) or "none",
                             todo="give each value once; a table of fields says its name: {name = \"extra\", …}")  # fmt: skip
        found.append(Factor(name, levels))
    return tuple(found)


def _level(factor: str, value: Any, place: int) -> Level:
    if isinstance(value, str) and value.endswith(".toml"):
        held = read_fields(Path(value))
        return Level(str(held.pop("name", Path(value).stem)), held)
    if isinstance(value, Mapping):
        fields = {key: each for key, each in value.items() if key != "name"}
        return Level(str(value.get("name", f"{factor} {place}")), fields)
    plain = list(value) if isinstance(value, tuple) else value
    text = (
        " + ".join(map(str, plain))
        if isinstance(plain, list)
        else str(plain).lower()
        if isinstance(plain, bool)
        else str(plain)
    )
    return Level(text or "none", {factor: plain})


@checked
def parse_vary(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Factors from ``name=value,value`` as they are typed; a value in brackets is an array of TOML.

    >>> parse_vary(["backbone=lenet5,cnn_small", "epochs=1,2"])
    {'backbone': ['lenet5', 'cnn_small'], 'epochs': [1, 2]}
    """
    from overread.learning.recipe import toml_value

    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = (each.strip() for each in text.partition("="))
        if not equals or not name or not values:
            raise InputError(
                "what is varied reads name=value,value", given=repr(text), todo="--vary backbone=alexnet,googlenet"
            )
        if name in found:
            raise InputError(
                "a factor is given twice", given=name, todo=f"give all its values at once: --vary {name}=a,b"
            )
        if values.startswith("["):
            read = toml_value(values)
            if not isinstance(read, list):
                raise InputError("the values of a factor are no array of TOML", given=repr(text)[:200],
                                 todo="write --vary 'augmentation=[{name=\"none\"}, {name=\"extra\", augmentation={turn=0.75}}]'")  # fmt: skip
            found[name] = read
        else:
            found[name] = [toml_value(value.strip()) for value in values.split(",") if value.strip()]
    return found


@checked
def cells_of(study: Study, factors: Sequence[Factor]) -> tuple[list[Cell], list[LeftOut]]:
    """Every combination of the levels as a study, and the combinations that contradict themselves, with the reason.

    A level that is wrong in all of its combinations (a network that does not exist) raises its error.
    """
    cells, lost, errors, sound = list[Cell](), list[LeftOut](), dict[str, OverreadError](), set[str]()
    for levels in itertools.product(*(factor.levels for factor in factors)):
        name = ", ".join(level.name for level in levels) or str(study.training.recipe.get("name", "recipe"))
        marks = {f"{factor.name}={level.name}" for factor, level in zip(factors, levels, strict=True)}
        try:
            changed = _changed(study, levels, name)
        except OverreadError as error:
            lost.append(LeftOut(name, _reason(error)))
            errors |= dict.fromkeys(marks, error)
            continue
        sound |= marks
        own = tuple(level.name for level in levels)
        cells.append(Cell(name, _place(own, name), own, changed))
    if never := next((errors[mark] for mark in errors if mark not in sound), None):
        raise never
    return cells, lost


def _place(levels: tuple[str, ...], name: str) -> str:
    """A folder's name that depends on the levels alone, not on which other cells there are: where letters were changed
    or left out, so that another cell might have the same, a hash of the levels follows."""
    place = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.")[:80].strip("-.")
    if "-".join(levels) == place and not any("-" in level for level in levels):
        return place
    return f"{place or 'cell'}-{fingerprint(list(levels))[:8]}" if levels else place or "cell"


def _changed(study: Study, levels: Sequence[Level], name: str) -> Study:
    from overread.learning.recipe import amended, differing

    recipe, seed = recipe_of(study), study.training.seed
    for level in levels:
        changes = dict(level.changes)
        if "seed" in changes:
            seed = int(changes.pop("seed"))
        recipe = amended(recipe, changes, where=f"the level {level.name!r}")
    return study.changed(recipe=differing(recipe), seed=seed)


def _trainable(cells: list[Cell], lost: list[LeftOut], network: bool) -> tuple[list[Cell], tuple[LeftOut, ...]]:
    """The cells whose weights can come from somewhere; raises the first reason where there is none."""
    kept, first = [], None
    for cell in cells:
        try:
            require_trainable(cell.study, network)
        except UnavailableError as error:
            first = first or error
            lost = [*lost, LeftOut(cell.name, _reason(error))]
            continue
        kept.append(cell)
    if first is not None and not kept:
        raise first
    return kept, tuple(lost)


# -- the cells, trained one after the other -----------------------------------------------------------------------------


def _set_up(context: RunContext, cases: Cases, factors: Sequence[Factor]) -> Dealt | None:
    """Audit, and split or deal into folds; None, or the folds."""
    folder = context.folder
    begin(context, cases)
    write_json(folder / "vary.json", {f.name: {level.name: level.changes for level in f.levels} for f in factors})
    audit(context)
    tell_findings(context)
    if context.study.split.folds:
        return deal(context)
    split(context)
    return None


def _trained(
    context: RunContext, cases: Cases, cells: Sequence[Cell], dealt: Dealt | None
) -> tuple[dict[Cell, Folded | None], tuple[LeftOut, ...]]:
    """Each cell that could be trained, in order, with its folds where there are any; and those that failed."""
    made: dict[Cell, Folded | None] = {}
    lost, first = list[LeftOut](), None
    context.clock.credit(sum(_taken(context.folder / "cells" / cell.place) for cell in cells))
    for place, cell in enumerate(cells):
        context.progress("training cells", place, len(cells))
        own = _context_of(context, cell, len(cells) - place)
        began = time.monotonic()
        try:
            with folder_lock(own.folder):
                sweep(own)
                if dealt is None:
                    run_like(own, cases, context.folder)
                    made[cell] = None
                else:
                    made[cell] = cross_validate_cell(own, cases, dealt, context.folder)
        except (OverreadError, RuntimeError, MemoryError) as error:
            if _of_all_cells(error):
                raise
            first = first or error
            lost.append(LeftOut(cell.name, _reason(error)))
            context.say(f"  {cell.name}: left out — {str(error) or type(error).__name__}")
            continue
        context.say(f"  {cell.name}: done after {time.monotonic() - began:.0f} s ({place + 1} of {len(cells)})")
    context.progress("training cells", len(cells), len(cells))
    if first is not None and not made:
        raise first
    return made, tuple(lost)


def _reason(error: BaseException) -> str:
    """Why there is no result, for files that are handed on: without what was given, and of others' errors their kind."""
    if isinstance(error, OverreadError):
        return error.in_general
    return (
        "there is not enough memory"
        if isinstance(error, MemoryError)
        else f"the training failed ({type(error).__name__}); the message is in the terminal"
    )


def _of_all_cells(error: BaseException) -> bool:
    """Whether the next cell would meet it too: a full disk, another process, another study in the folder."""
    return isinstance(error.__cause__, OSError) or "another" in str(error).partition(":")[0]


def _context_of(context: RunContext, cell: Cell, left: int) -> RunContext:
    """The context of one cell, whose budget is an equal part of what is left; one that has begun keeps its own."""
    folder, study = context.folder / "cells" / cell.place, cell.study.changed(salt=context.study.columns.salt)
    known = folder / "study.toml"
    if context.clock.limit is not None:
        budget = f"{max(LEAST_SECONDS, context.clock.left / left):.0f}s"
        budget = Study.load(known).resources.budget if known.exists() else budget
        study = study.changed(budget=budget, preset="")
    whole = context.progress

    def progress(what: str, done: int, total: int) -> None:
        whole(f"{cell.name}: {what}", done, total)

    return replace(context, study=study, folder=folder, clock=Clock(study.resources.limit), progress=progress, closing=0.0,
                   say=lambda line: context.say(f"  {line}"))  # fmt: skip


def _taken(folder: Path) -> float:
    """Seconds that a cell has used already."""
    path = folder / "record.json"
    steps = read_json(path).get("steps", {}) if path.exists() else {}
    return float(sum(steps.get(step, {}).get("seconds", 0.0) for step in ("model", "predictions", "folds")))


# -- judging ---------------------------------------------------------------------------------------------------------


def _judged(context: RunContext, made: Mapping[Cell, Folded | None], part: str) -> dict[str, Judged]:
    """What each cell is judged by."""
    found = {}
    for cell, folded in made.items():
        home = context.folder / "cells" / cell.place
        if folded is not None:
            found[cell.name] = _in_folds(context.study, folded)
        else:
            tables = (predictions_of(home, "tuning"), predictions_of(home, part))
            found[cell.name] = _at_points(context.study, *tables, part, home / "ledger.jsonl")
    return found


def _at_points(study: Study, tuning: Predictions, table: Predictions, part: str, ledger: Path) -> Judged:
    """A table at what is frozen on tuning predictions; at nothing where these have one of the two answers only."""
    try:
        frozen = frozen_by(study.operating_point, tuning, seed=study.training.seed)
    except UnsoundError as error:
        return Judged(table, ledger=ledger, lost=(f"no sensitivity and specificity: {error}",))
    note = "at the threshold from tuning data" if part == "test" else "at the threshold chosen on these cases"
    return Judged(table, called_at(table, frozen, note), frozen, ledger)


def _in_folds(study: Study, folded: Folded) -> Judged:
    """Out-of-fold predictions at the points of each fold."""
    lost: list[str] = []
    called = called_by_fold(study, folded, lost.append)
    return Judged(folded.held_out, called, lost=tuple(lost))


def _ensemble(
    context: RunContext, made: Mapping[Cell, Folded | None], found: Mapping[str, Judged], part: str
) -> tuple[Judged, dict[str, float]]:
    """The weighted mean of all cells, its weights and its points from tuning data alone; with folds, anew in each."""
    folded = {cell.name: folds for cell, folds in made.items() if folds is not None}
    if folded:
        whole, shares = pooled_folds(folded)
        whole.held_out.save(context.folder / "predictions" / "folds.csv")
        return _in_folds(context.study, whole), shares
    tuning = {cell.name: predictions_of(context.folder / "cells" / cell.place, "tuning") for cell in made}
    shares = choose_shares(tuning)
    tables = {
        "tuning": pooled(tuning, shares),
        part: pooled({name: each.table for name, each in found.items()}, shares),
    }
    for name, table in tables.items():
        table.save(context.folder / "predictions" / f"{name}.csv")
    return _at_points(context.study, tables["tuning"], tables[part], part, context.folder / "ledger.jsonl"), shares


def _table(context: RunContext, found: Mapping[str, Judged], part: str, **how: Any) -> Grid:
    """The table of all systems, and the look that it is, written down where it is one."""
    tables = {name: each.table for name, each in found.items()}
    how |= {"seed": context.study.training.seed}
    if part == "test":
        return judge_grid(tables, at={name: each.frozen for name, each in found.items()},
                          ledgers={name: each.ledger for name, each in found.items() if each.ledger}, **how)  # fmt: skip
    board = judge_grid(tables, called={name: each.called for name, each in found.items()}, allow_seen=True, **how)
    board = replace(board, cautions=tuple(c for c in board.cautions if "in training or tuning" not in c))
    if part == "tuning":
        return board
    first = next(iter(tables.values()))
    looks = record_look(context.folder / "ledger.jsonl", fingerprint([t.digest for t in tables.values()]), None, first.digest, test=first)  # fmt: skip
    again = f"these cases have been judged {count(looks, 'time')} before in this folder: settings chosen by what came out are flattered"
    return replace(board, cautions=(*board.cautions, *([again] if looks else [])))


def _refuse_untold(study: Study) -> None:
    """Refuse what a grid cannot tell; nothing is ignored in silence."""
    rule, usual = study.operating_point, OperatingRule()
    names = ["net_benefit_at", "fixed", *(["prevalence"] if not rule.cost else [])]
    names += ["decide", "cost_matrix"] if study.split.folds else []
    if given := [name for name in names if getattr(rule, name) != getattr(usual, name)]:
        raise InputError("a grid does not tell this", given=" and ".join(f"{name} {getattr(rule, name)}" for name in given),
                         todo="leave it out, and judge a cell by itself afterwards: overread evaluate")  # fmt: skip


def _cautions(study: Study, part: str, ensemble: bool) -> list[str]:
    """What a reader of the table must know."""
    told = {
        "tuning": "judged on the tuning part, which chose snapshots and thresholds: all values flatter; --part test opens the test set",
        "folds": "intervals are by patient, and do not cover that the folds share most of their training patients: with others, the models would be others; auc, its differences and p are of the scores of all folds pooled, which come from different models: auc within folds compares cases of one model",
    }  # fmt: skip
    found = [told[part]] if part in told else []
    if ensemble and part == "tuning":
        found.append("the weights of the ensemble were chosen on these very cases")
    rule = study.operating_point
    if part == "tuning" and (rule.decide != "auto" or rule.cost_matrix):
        how = f"decide {rule.decide}" + (" by the table of costs" if rule.cost_matrix else "")
        found.append(
            f"classes are called by the most probable here: {how} is chosen on these very cases, and holds on the test part"
        )
    if study.columns.subgroups:
        found.append(
            f"not told by {', '.join(study.columns.subgroups)}: the cells' predictions carry these columns, for overread evaluate"
        )
    return found


@dataclass(frozen=True, eq=False)
class _Asked:
    """Two systems, the question that they are asked, what each calls positive, and the readers who decide."""

    readers: Readers
    called: dict[str, Called]
    grades: Grades | None


def _refuse_readers(readers: Readers, systems: tuple[str, ...]) -> None:
    """Raises :class:`InputError` for systems that do not exist, or are not two, and for a table of readers that is wrong."""
    if readers.systems and (len(readers.systems) != 2 or readers.systems[0] == readers.systems[1]):
        raise InputError("the rule of disagreement is for two systems", given=", ".join(readers.systems),
                         todo="name two: --disagree A --disagree B")  # fmt: skip
    for name in readers.systems:
        one_of(name, systems, "the system that may disagree")
    if readers.table:
        read_grades(readers.table)


def _asked(
    context: RunContext, made: Mapping[Cell, Folded | None], found: Mapping[str, Judged], readers: Readers
) -> tuple[_Asked | None, list[str]]:
    """Whom the rule of disagreement is for; None, with the reason, where there are no two to ask.

    Raises :class:`InputError` for systems or a finding that do not exist, and for a table of readers that is wrong.
    """
    _refuse_readers(readers, tuple(found))
    questions = tuple(dict.fromkeys(called.of for each in found.values() for called in each.called))
    if readers.finding:
        one_of(readers.finding, questions, "the finding that two systems may disagree on")
    for of in (readers.finding,) if readers.finding else questions:
        having = {
            n: next(c for c in each.called if c.of == of)
            for n, each in found.items()
            if of in {c.of for c in each.called}
        }
        names = readers.systems or tuple(
            _best_two(context.study, made, found, [n for n in having if n != ENSEMBLE], of)
        )
        if len(names) == 2 and set(names) <= set(having):
            break
    else:
        why = (
            "no two of the systems have an operating point (several classes need --positive)"
            if len(found) > 1
            else "there is one system"
        )
        return None, [f"no rule of disagreement: {why}"]
    grades = read_grades(readers.table) if readers.table else None
    if grades is not None and context.study.columns.salt:
        grades = coded(grades, context.study.columns.salt, context.cases().identifiers)
    others = [each for each in questions if each != of]
    told = f"the rule of disagreement is told of {of} alone, the first of {len(questions)} questions; --finding names another"
    return _Asked(readers, {n: having[n] for n in names}, grades), [told] if others and not readers.finding else []


def _routed(context: RunContext, found: Mapping[str, Judged], asked: _Asked, level: float) -> Disagreement:
    """What comes of it where two systems that disagree ask a reader."""
    return disagreement({n: found[n].table for n in asked.called}, asked.called, asked.grades, reader_threshold=asked.readers.threshold,
                        modality=asked.readers.modality, level=level, seed=context.study.training.seed)  # fmt: skip


def _record_rule(context: RunContext, found: Mapping[str, Judged], asked: _Asked, part: str) -> None:
    """The look at the test set that the rule is."""
    if part == "test":
        names, first = list(asked.called), found[next(iter(asked.called))].table
        record_look(context.folder / "ledger.jsonl", fingerprint(names), thresholds_of([f for n in names for f in found[n].frozen]),
                    first.digest, test=first)  # fmt: skip


def _best_two(
    study: Study, made: Mapping[Cell, Folded | None], found: Mapping[str, Judged], names: Sequence[str], of: str
) -> list[str]:
    """The two cells with the largest sum of sensitivity and specificity on the tuning data of their points; with folds,
    the largest mean of it over the folds."""
    folds = {cell.name: folded for cell, folded in made.items() if folded is not None}

    def youden(name: str) -> float:
        if name in folds:
            each = [thresholds_by(study.operating_point, tuning) for tuning in folds[name].tuning.values()]
        else:
            each = [tuple(p for p in found[name].frozen if isinstance(p, OperatingPoint))]
        first = [next((p for p in points if p.of == of), None) for points in each]
        return float(np.mean([p.sensitivity + p.specificity if p else 0.0 for p in first]))

    return sorted(names, key=youden, reverse=True)[:2]
