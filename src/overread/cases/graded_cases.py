"""The label of a study from several readers: their answers joined to the images, one label for each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.annotators import (
    Grades,
    coded,
    consensus,
    grades_of,
    in_order,
    latent_classes,
    read_grades,
    reader_numbers,
    wide,
)
from overread.cases.cases import Cases
from overread.cases.derived import Rule, columns_used, derived
from overread.cases.sources.labels import derived_findings, file_forms, natural, one_label, several_findings
from overread.cases.sources.tables import find
from overread.core.errors import InputError, checked, require
from overread.core.phrases import count
from overread.core.random import by_name
from overread.stats.agreement.pairs import cohen_kappa, specific_agreement
from overread.stats.agreement.panel import ceiling, fleiss_kappa, krippendorff_alpha
from overread.stats.estimate import Estimate
from overread.tasks.target import Target
from overread.tasks.task import Task

#: A table of answers, or columns of the table of images.
Asked = str | os.PathLike[str] | Sequence[str]
_NAMED = "readers: the names of their columns stand in study.toml and in the recorded command; rename them if they are people's names"
_TIED, _SILENT = "the readers are tied", "no reader answered"
_OPEN = "the readers are tied, or silent on what the label needs"


@dataclass(frozen=True, eq=False, repr=False)
class GradedCases(Cases):
    """Cases whose labels are the consensus of readers, by ``rule``; their column ``agreement`` is the share of a
    case's answers that gave its label. ``grades`` are the answers to these cases, under the names that the cases have;
    ``questions`` those to each of several questions, in their place.
    """

    grades: Grades | None = None
    rule: str = "majority"
    questions: dict[str, Grades] = field(default_factory=dict)

    def hidden(
        self, *, names: str = "hash", salt: str = "", keep: Sequence[str] = (), known: Sequence[str] = ()
    ) -> Self:
        """As :meth:`.Cases.hidden`, with the answers under the same codes."""
        hidden = super().hidden(names=names, salt=salt, keep=keep, known=(*known, "agreement"))
        if hidden is self:
            return hidden
        numbers = reader_numbers(self.questions.values())
        asked = {name: coded(held, hidden.salt, self.identifiers, numbers) for name, held in self.questions.items()}
        one = coded(self.grades, hidden.salt, self.identifiers) if self.grades else None
        return replace(hidden, grades=one, questions=asked)

    def undecided(self) -> dict[str, str]:
        """The cases that got no label, and the reason."""
        if self.grades is None:
            read = {case for held in self.questions.values() for case in held.table["case"][held.table["label"] != ""]}
            unknown = self.table["case"][~self.labelled] if self.questions else ()
            return {case: _OPEN if case in read else _SILENT for case in unknown}
        made = consensus(self.grades, rule=self.rule)
        tied = set(made["case"][made["tied"]])
        silent = self.table["case"][(self.table["label"] == "").to_numpy()]
        return {case: _TIED if case in tied else _SILENT for case in silent}


@checked
def judged(
    made: pd.DataFrame, table: pd.DataFrame, asked: Asked | Grades, *, rule: str = "majority", positive: Sequence[str] = (),
    task: type[Task] | None = None, case: str = "", rename: Mapping[str, str] = MappingProxyType({}),
) -> tuple[pd.DataFrame, Target, list[str], Grades]:  # fmt: skip
    """The consensus of readers as ``label`` of each row of ``made``, and its ``agreement``; target, notes and answers.

    ``made`` has the columns ``image``, ``case`` and ``patient``; ``table`` is the table that it came from. ``asked``: a
    table of answers, joined by case or by the name of the image, or names of columns of ``table``, a reader each.
    ``case``: the column of cases in that table, if it is called as in the other. Raises :class:`InputError` as
    :func:`read_grades`, and where the answers do not fit the cases.
    """
    if isinstance(asked, Grades):
        keys, grades, notes = _joined(made, asked)
    elif isinstance(asked, (str, os.PathLike)):
        keys, grades, notes = _joined(made, read_grades(asked, case=case or "case", rename=rename))
    else:
        rows = table.assign(case=made["case"], modality="").drop(columns="patient", errors="ignore")
        keys, grades, notes = (
            made["case"],
            grades_of(wide(rows, asked), "label", repeats="same", rename=rename),
            [_NAMED],
        )
    if grades.kind != "label":
        raise InputError("the label of a study comes from labels, and the readers gave scores", given=str(grades),
                         todo="give a table with a column of labels")  # fmt: skip
    one = consensus(grades, rule=rule).set_index("case")
    labels = keys.map(one["label"]).fillna("")
    kept = {name: name for name, new in rename.items() if name == new and name in set(labels)}
    wanted, target, more = one_label(labels, positive, task, "the readers' consensus", rename=kept)
    wanted["agreement"] = keys.map(one["share"]).astype(float).round(4)
    blank = int((wanted["label"] == "").sum())
    note = f"label: {rule} of {count(len(grades.readers), 'reader')}; {len(made) - blank:,} of {len(made):,} images have a label"  # fmt: skip
    return wanted, target, [note, *notes, *more], _known(grades, keys, made)


@checked
def judged_questions(
    made: pd.DataFrame, table: pd.DataFrame, answers: Mapping[str, Grades], labels: Sequence[str], rules: Sequence[Rule], *,
    rule: str = "majority", positive: Sequence[str] = (), blank: str = "unknown",
) -> tuple[pd.DataFrame, Target, list[str], dict[str, Grades]]:  # fmt: skip
    """The consensus of readers on several questions as findings: ``labels`` are questions of yes or no, ``rules`` derive
    others from any of them and from columns of ``table``; ``agreement`` is the mean over the questions.

    A question on which readers are tied, or that nobody answered for an image, is unknown there. Otherwise as
    :func:`judged`, and raises as it does.
    """
    wanted = list(dict.fromkeys([*labels, *columns_used(rules, list(answers))]))
    frame, kept, notes, shares = table.copy(), {}, list[str](), []
    for name in wanted:
        keys, grades, more = _joined(made, answers[find(list(answers), name, "labels")])
        one = consensus(grades, rule=rule).set_index("case")
        frame[name] = keys.map(one["label"]).fillna("")
        shares.append(keys.map(one["share"]).astype(float))
        tied, silent = int(keys.map(one["tied"]).eq(True).sum()), int((~keys.isin(one.index[one["answers"] > 0])).sum())
        known = int((frame[name] != "").sum())
        notes += [
            f"{name}: {rule} of {count(len(grades.readers), 'reader')}; {known:,} of {len(made):,} images decided, {tied:,} tied, {silent:,} without an answer"
        ]
        notes += [note for note in more if note not in notes]
        kept[name] = _known(grades, keys, made)
    found, target, more = derived_findings(frame, list(labels), rules, positive, blank)
    found["agreement"] = np.round(pd.concat(shares, axis=1).mean(axis=1), 4) if shares else np.nan
    return found, target, [*notes, *more], kept


def _joined(made: pd.DataFrame, grades: Grades) -> tuple[pd.Series, Grades, list[str]]:
    """The name under which readers know each row, by the form that fits most rows, and the answers to these."""
    known, forms = set(grades.cases), [made["case"], *file_forms(made["image"])]
    fits = [int(form.isin(known).sum()) for form in forms]
    hits, keys = max(fits), forms[fits.index(max(fits))]
    shared = set(keys) & known
    if (2 * hits < len(made) and 2 * len(shared) < len(known)) or not hits:
        raise InputError("the readers' answers do not fit the cases", given=f"at best {hits:,} of {count(len(made), 'image')} and {len(shared):,} of {count(len(known), 'case')} with answers share a name",
                         todo="name cases in both tables alike, or name the column with --case")  # fmt: skip
    spare = len(known) - len(shared)
    notes = [f"readers: {spare:,} of {count(len(known), 'case')} with answers have no image"] if spare else []
    kept = grades.table[grades.table["case"].isin(shared)].reset_index(drop=True)
    return keys, replace(grades, table=kept), notes


def _known(grades: Grades, keys: pd.Series, made: pd.DataFrame) -> Grades:
    """The answers under the names of the cases, where a case has one name among readers; with its patient."""
    pairs = pd.DataFrame({"key": keys, "case": made["case"], "patient": made["patient"]}).drop_duplicates()
    alone = ~pairs["case"].duplicated(keep=False) & ~pairs["key"].duplicated(keep=False)
    names = dict(zip(pairs["key"][alone], pairs["case"][alone], strict=True))
    patients = dict(zip(pairs["key"], pairs["patient"], strict=True))
    key = grades.table["case"]
    case = key.map(names)
    table = grades.table.assign(case=case.where(case.notna(), key), patient=key.map(patients))
    return replace(grades, table=table)


# -- how far readers agree, with intervals, and what that means for a model that is judged against one of them ----


#: Readers whose every pair is compared; more would be a table that nobody reads.
MOST_PAIRED = 10


@checked
def agreement(
    grades: Grades, *, classes: Sequence[str] = (), modality: str = "", level: float = 0.95,
    resamples: int | None = None, seed: int = 0,
) -> list[Estimate]:  # fmt: skip
    """How far readers agree: ``agreement``, ``fleiss kappa``, ``nominal alpha``, ``specific agreement`` of each class,
    ``kappa`` of each pair (ten readers at most), ``ceiling`` and ``panel accuracy``.

    Where classes have an order, also ``ordinal alpha`` and ``quadratic kappa`` of each pair. Intervals are by patient
    where the grades name patients, else by case. Sources: :mod:`overread.stats.agreement.pairs` and
    :mod:`overread.stats.agreement.panel`. Raises :class:`InputError` for scores or unknown classes.
    """
    names, cases = list(classes) or list(grades.classes), list(grades.cases)
    ratings, who = grades.ratings(cases, names, modality), grades.patients(cases)
    patients = None if who is None else pd.factorize(who)[0]  # numbers: each statistic numbers them again
    how: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    top = ceiling(ratings, patients, classes=max(len(names), 2), **how)
    ordered = len(names) > 2 and in_order(names)
    alphas = [krippendorff_alpha(ratings, patients, **how)]
    alphas += [krippendorff_alpha(ratings, patients, scale="ordinal", **how)] if ordered else []
    each = specific_agreement(ratings, patients, classes=len(names), **how) if names else []
    each = [replace(found, of=name) for found, name in zip(each, names, strict=True)]
    pairs = _pairs(ratings, patients, grades.readers, max(len(names), 1), ordered, level)
    return [top.agreement, fleiss_kappa(ratings, patients, **how), *alphas, *each, *pairs, top.best, top.panel]


def _pairs(
    ratings: NDArray[np.float64], patients: NDArray[Any] | None, readers: Sequence[str], classes: int,
    ordered: bool, level: float,
) -> list[Estimate]:  # fmt: skip
    if len(readers) > MOST_PAIRED:
        return []
    return [
        replace(cohen_kappa(ratings[:, i], ratings[:, j], patients, weights=weights, classes=classes, level=level), of=f"{readers[i]} and {readers[j]}")
        for weights in (("none", "quadratic") if ordered else ("none",))
        for i, j in combinations(range(len(readers)), 2)
    ]  # fmt: skip


@checked
def panel_of(grades: Grades, *, rule: str = "majority", level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """What ``agreement.json`` holds: counts, the estimates of :func:`agreement`, and how the consensus came about.

    ``undecided`` counts cases without a label; ``model`` are prevalence and each reader's confusion (rows: the truth)
    where ``rule`` is ``dawid-skene``.
    """
    made = consensus(grades, rule=rule)
    silent = made["answers"] == 0
    found = {
        "readers": list(grades.readers), "cases": len(made), "answers": int(made["answers"].sum()), "rule": rule,
        "classes": list(grades.classes), "undecided": {"tied": int(made["tied"].sum()), "no answer": int(silent.sum())},
        "estimates": agreement(grades, level=level, seed=seed),
    }  # fmt: skip
    return {**found, "model": _model(grades)} if rule == "dawid-skene" else found


def _model(grades: Grades) -> dict[str, Any]:
    model, names = latent_classes(grades), grades.classes
    return {
        "prevalence": dict(zip(names, model.prevalence.tolist(), strict=True)),
        "confusion": {reader: table.tolist() for reader, table in zip(grades.readers, model.confusion, strict=True)},
        "log likelihood": model.likelihood, "rounds": model.rounds, "converged": model.converged, "doubt": model.doubt,
    }  # fmt: skip


@checked
def panels_of(
    questions: Mapping[str, Grades], *, rule: str = "majority", level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """:func:`panel_of` of several questions together: its counts summed, the measures over all readers ``of`` each."""
    each = {name: panel_of(grades, rule=rule, level=level, seed=seed) for name, grades in questions.items()}
    estimates = [replace(e, of=name) for name, held in each.items() for e in held["estimates"] if not e.of]
    readers = sorted({reader for held in each.values() for reader in held["readers"]}, key=natural)
    tied, silent = (sum(held["undecided"][why] for held in each.values()) for why in ("tied", "no answer"))
    return {
        "readers": readers, "cases": max(held["cases"] for held in each.values()), "answers": sum(held["answers"] for held in each.values()),
        "rule": rule, "questions": list(each), "undecided": {"tied": tied, "no answer": silent}, "estimates": estimates,
    }  # fmt: skip


@checked
def agreement_in_words(found: dict[str, Any]) -> list[str]:
    """What :func:`panel_of` found, in two lines at most; of several questions a line each."""
    if found.get("questions"):
        of = {(e.metric, e.of): e for e in found["estimates"]}
        return [
            f"{name}: two readers agree in {of['agreement', name]}, Fleiss' kappa {of['fleiss kappa', name]}"
            for name in found["questions"]
        ]
    by_name = {estimate.metric: estimate for estimate in found["estimates"] if not estimate.of}
    lines = [f"{count(len(found['readers']), 'reader')} of {count(found['cases'], 'case')}: two agree in {by_name['agreement']}, Fleiss' kappa {by_name['fleiss kappa']}"]  # fmt: skip
    best, panel = by_name["ceiling"], by_name["panel accuracy"]
    if not best.undefined:
        rest = "" if panel.undefined else f"; the majority of the others reaches {panel}"
        lines.append(f"against a single reader no accuracy can pass {best}{rest}")
    return lines


# -- fewer graders, and the labels that they would have given -------------------------------------------------------


@checked
def fewer_grades(grades: Grades, many: int, *, seed: int = 0, repeat: int = 0) -> Grades:
    """The answers of ``many`` readers of each case, drawn at random from those who answered it.

    The draws of one ``repeat`` are nested: two readers are the one and another. Cases with fewer answers keep all.
    """
    require(many >= 1, "at least one grade per image is needed", given=many)
    table = grades.table[grades.table["label"] != ""]
    names = [f"{c}\n{r}" for c, r in zip(table["case"], table["reader"], strict=True)]
    drawn = table.assign(_chance=by_name(seed, names, f"grades/{repeat}")).sort_values(["case", "_chance"])
    kept = drawn[drawn.groupby("case").cumcount() < many]
    return replace(grades, table=kept.drop(columns="_chance").reset_index(drop=True))


@checked
def regraded(
    cases: Cases, questions: Mapping[str, Grades], rules: Sequence[Rule], rule: str = "majority"
) -> tuple[Cases, int]:
    """Cases whose findings come from the consensus of their answers to ``questions`` by ``rule``, by ``rules`` where these derive them;
    and how many answers had a tie, which goes to the reader who was drawn first.

    Findings that are neither asked nor derived stay as they are. Raises :class:`InputError` where nothing of the target
    follows from the questions.
    """
    frame, ties = pd.DataFrame(index=cases.table.index), 0
    own = set(cases.table["case"])
    for name, grades in questions.items():
        found = consensus(grades, rule=rule)
        first = grades.table[grades.table["label"] != ""].drop_duplicates("case").set_index("case")["label"]
        label = found["label"].where(found["label"] != "", found["case"].map(first))
        frame[name] = cases.table["case"].map(dict(zip(found["case"], label, strict=True))).fillna("")
        ties += int(found["tied"][found["case"].isin(own)].sum())
    known = [*questions]
    followed = list[Rule]()
    for one in rules:  # those that hang on the questions alone; the others' findings stay as they are
        if set(columns_used([one], [*known, *map(str, cases.table.columns)])) <= set(known):
            followed.append(one)
            known.append(one.name)
    made, _ = derived(frame, followed)
    asked = [name for name in cases.target.names if name in frame and name not in made]
    made = made.assign(**{name: several_findings(frame, [name], ())[0][f"label:{name}"] for name in asked})
    new = {f"label:{name}": made[name] for name in cases.target.names if name in made}
    if not new:
        raise InputError("no finding of the study follows from the readers' questions", given=", ".join(questions),
                         todo="give the answers to the questions that the labels were made of")  # fmt: skip
    return replace(cases, table=cases.table.assign(**new)), ties


@checked
def graded(cases: Cases, grades: Grades) -> tuple[Cases, int]:
    """Cases with the majority of their ``grades`` as label, and how many of them had a tie.

    A tie goes to the reader who was drawn first: none is left out, so that the number of images does not depend on
    how many graded them. Raises :class:`InputError` for a target without classes, an answer that is none of them, or
    cases without any grade.
    """
    if not cases.target.task.exclusive:
        raise InputError("grades can teach one label with classes", given=f"a target of kind {cases.target.kind}")
    found = consensus(grades, classes=cases.target.names)
    first = grades.table.drop_duplicates("case").set_index("case")["label"]
    label = found["label"].where(found["label"] != "", found["case"].map(first))
    known = dict(zip(found["case"], label, strict=True))
    new = cases.table["case"].map(known)
    missing = int(new.isna().sum())
    if missing:
        raise InputError("some training cases have no grade", given=f"{missing:,} of {count(len(cases), 'image')}",
                         todo="give at least one grade for each, under the names of the study's table")  # fmt: skip
    ties = int(found["tied"][found["case"].isin(set(cases.table["case"]))].sum())
    return replace(cases, table=cases.table.assign(label=new)), ties
