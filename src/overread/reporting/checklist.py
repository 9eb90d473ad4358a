"""Reporting standards, filled in from a run: what it knows is written down, what only people know is marked.

A fact is what a run can say to one question of a standard: a sentence, from its stored files only.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, checked, one_of
from overread.core.files import build
from overread.core.phrases import count
from overread.reporting import advice, main_results, sections, words
from overread.reporting.run import Run, compared_metrics, shown_metrics, subgroups
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_said

#: The standards by the names of their files.
STANDARDS = ("claim", "stard_ai", "tripod_ai")
#: What stands where the run has no answer.
OPEN = "To be completed by the authors."
_HOME = Path(__file__).parent / "checklists"
HEAD = ("Item", "Section", "What it asks, in our words", "What the run says")


@dataclass(frozen=True)
class Item:
    """One item: its number in the standard, its section, what it asks in our words, and the facts that answer it."""

    number: str
    section: str
    asks: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standard:
    """A reporting standard: its edition, the publication, and where the list of its items was taken from."""

    name: str
    title: str
    edition: str
    source: str
    origin: str
    items: tuple[Item, ...]

    @property
    def about(self) -> str:
        """Title, edition and sources as a paragraph."""
        return f"{self.title}, {self.edition}. {self.source}. {self.origin}"


@dataclass(frozen=True)
class Answer:
    """An item with what the run says to it; empty where only the authors can answer."""

    item: Item
    found: tuple[str, ...]

    @property
    def text(self) -> str:
        """The answer as one paragraph."""
        return " ".join(self.found) or OPEN

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Number, section, what is asked, and the answer."""
        return self.item.number, self.item.section, self.item.asks, self.text


@checked
def standard(name: str) -> Standard:
    """A reporting standard: ``claim``, ``stard-ai`` or ``tripod-ai``.

    >>> len(standard("claim").items), standard("tripod-ai").edition
    (44, '2024, 27 items')
    """
    known = one_of(name.lower().replace("-", "_").replace("+", "_"), STANDARDS, "the standard")
    return build(Standard, tomllib.loads((_HOME / f"{known}.toml").read_text("utf-8")), where=f"{known}.toml")  # type: ignore[no-any-return]


@checked
def fill_in(run: Run, to: Standard) -> tuple[Answer, ...]:
    """Every item of a standard with what the run's files say to it."""
    return tuple(Answer(item, facts(run, item.facts)) for item in to.items)


@checked
def answered(run: Run) -> Table | None:
    """How many items of each standard have an answer in the run; None where there is no run."""
    if not run.study:
        return None
    rows = []
    for each in map(standard, STANDARDS):
        answers = fill_in(run, each)
        known = sum(bool(a.found) for a in answers)
        rows.append((each.name, each.edition, f"{known} of {len(answers)}", f"{len(answers) - known}"))
    head = ("Standard", "Edition", "Answered by the run", "Only the authors can")
    return Table("Reporting checklists", head, tuple(rows), 2)


# -- facts of the data: cases, reference standard, parts, and what was intended -----------------------------------


def _task(run: Run) -> str:
    return "; ".join([sections.title(run), *(f"{a}: {b}" for a, b, *_ in sections.question(run).rows[:3])]) if run.target else ""  # fmt: skip


def _data(run: Run) -> str:
    counts = run.audit.counts
    if not counts:
        return ""
    sources = ", ".join(f"{words.name(n)} ({count(k.images, 'image')})" for n, k in list(counts.sources.items())[:12])
    return words.size(counts.images, counts.patients) + (f"; sources: {sources}" if sources else "")


def _centres(run: Run) -> str:
    sources, column = run.audit.counts.sources, run.study.source
    named = f" by the column {words.name(column)!r}" if column else ""
    return f"{words.count(len(sources), 'source')} in the table{named}: {', '.join(map(words.name, sources))}; which of them are centres only the authors know" if len(sources) > 1 else ""  # fmt: skip


def _devices(run: Run) -> str:
    column, sources = run.study.source, run.audit.counts.sources
    if not (column and len(sources) > 1):
        return ""
    return f"sources of the images by the column {words.name(column)!r}: {', '.join(map(words.name, sources))}; whether these are devices only the authors know"


def _exclusions(run: Run) -> str:
    if not run.audit:
        return ""
    listed = "; ".join(f"{number:,} {words.name(reason, 90)}" for reason, number in run.excluded)
    first = f"excluded after the table was read: {listed}" if listed else "no case of the table was excluded"
    left_out = run.split.proof.left_out.items()
    rest = "; ".join(f"{number:,} {words.name(reason.split(':')[0], 90)}" for reason, number in left_out)
    return f"{first}{f'; then in no part of the split: {rest}' if rest else ''}; who was chosen for the table only the authors know"


_NAMES = {
    "hash": "in all files of this run cases and patients stand under salted codes, and columns that identify people were left out when the table was read",
    "keep": "names were kept as they stood in the table",
}


def _codes(run: Run) -> str:
    kept = _NAMES.get(run.study.names, "")
    return f"{kept}; how images and table were de-identified before only the authors know" if kept else ""


def _missing(run: Run) -> str:
    if not run.audit:
        return ""
    unknown = run.audit.counts.images - run.audit.counts.labelled
    unread = sum(number for reason, number in run.excluded if "read" in reason)
    single = (
        "; an image without a label for one finding is left out of that finding alone" if run.task.multilabel else ""
    )
    return (
        f"{words.count(unknown, 'image')} without a label and {words.count(unread, 'case')} that could not be read took no part"
        f"{single}; nothing was imputed"
    )


def _reference(run: Run) -> str:
    study = run.study
    if study.graders:
        many = f"{words.count(len(run.agreement.readers), 'reader')}" if run.agreement else "several readers"
        return f"consensus of {many} by the rule {words.name(study.consensus)!r}; what the readers saw only the authors know"
    column, columns = study.label or study.value or ", ".join(study.labels), "columns" if len(study.labels) > 1 else "column"  # fmt: skip
    return f"{columns} {words.name(column, 120)!r} of the table; how it came about only the authors know" if column else ""  # fmt: skip


def _agreement(run: Run) -> str:
    found = [f"{_in_sentence(e)}" for e in run.agreement.estimates if not (e.of or e.undefined)]
    return (
        f"between readers: {words.name('; '.join(found[:6]), 500)}; within a reader it was not measured"
        if found
        else ""
    )


def _in_sentence(e: Estimate) -> str:
    return f"{words.label(e.metric)} {words.in_sentence(e)}"


def _graders(run: Run) -> str:
    held = run.agreement
    if not held.readers:
        return ""
    return (
        f"{words.count(len(held.readers), 'reader')} with {words.count(held.answers, 'answer')} on {words.count(held.cases, 'case')}; "
        "who they were only the authors know"
    )


def _partitions(run: Run) -> str:
    parts = run.split.proof.parts.items()
    sizes = "; ".join(f"{sections.part_name(k)} {words.size(part.images, part.patients)}" for k, part in parts)
    return f"{words.name(run.split.method, 120)}, seed {run.split.seed}: {sizes}" if sizes else ""


def _disjoint(run: Run) -> str:
    proof = run.split.proof
    if not proof:
        return ""
    who, unit = ("patients", "at the level of the patient") if sections.by_patient(run) else (
        "images", "at the level of the image, because no column says who the patient is: images of one patient may stand in several parts"
    )  # fmt: skip
    return f"{unit}: {sections.whole(proof.patients_shared)} {who} and {sections.whole(proof.duplicate_groups_shared)} groups of duplicates in more than one part; {words.name(proof.checked, 200)}"  # fmt: skip


def _internal(run: Run) -> str:
    if not run.split.proof or run.study.leave_out:
        return ""
    return f"tested once trained and tuned, on the held-out part of the same table ({words.name(run.split.method, 120)})"  # fmt: skip


def _external(run: Run) -> str:
    if run.study.leave_out:
        return f"tested on the source {words.name(run.study.leave_out, 120)} of the table, of which no image was trained on; how it differs from the others only the authors know"
    if run.study.deploy_to:
        return f"tuned and tested only where {words.name(run.study.deploy_to, 120)}, trained on every source: the test is not external"
    if run.study.by_time:
        return (
            "tested on the latest patients of the same table, trained on earlier ones: later in time, not another place"
        )
    return "no external test: the test part comes from the same table as the training part" if run.split.proof and run.estimates else ""  # fmt: skip


def _characteristics(run: Run) -> str:
    table = sections.characteristics(run)
    columns = dict.fromkeys(row[0] for row in table.rows) if table else {}
    return f"by part, for {', '.join(columns)}: the table in model_card.md" if columns else ""


# -- facts of the model, and of how it was judged -----------------------------------------------------------------


def _preprocessing(run: Run) -> str:
    held = {k: v for k, v in run.model.preprocess.items() if v not in (None, "", [])}
    return "; ".join(f"{words.name(k.replace('_', ' '))} {_short(v)}" for k, v in held.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        joint = " × " if all(isinstance(item, int) for item in value) else ", "
        return joint.join(_short(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else words.name(value, 80)


def _model(run: Run) -> str:
    rows = [f"{k.lower()} {v}" for k, v in sections.training_facts(run) if k in ("Network", "Parameters")]
    size = run.model.preprocess.get("size")
    return "; ".join(rows) + (f"; input {_short(size)} pixels" if size else "") if rows else ""


def _software(run: Run) -> str:
    versions = "; ".join(f"{k} {v}" for k, v in run.record.versions.items())
    machine = ", ".join(f"{k} {v}" for k, v in run.record.hardware.items())
    return words.name(versions, 400) + (f"; machine: {words.name(machine, 120)}" if machine else "")


_TRAINING = ("method", "epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "dropout", "augment", "seed")  # fmt: skip


def _training(run: Run) -> str:
    held = run.model.recipe
    return "; ".join(f"{k.replace('_', ' ')} {_short(held[k])}" for k in _TRAINING if held.get(k) not in (None, ""))  # fmt: skip


def _selection(run: Run) -> str:
    last = {
        what: f"{what}: {choice} ({reason})" for what, choice, reason in sections.decisions(run)
    }  # the last word on each
    first = [name for name in ("snapshot", "stopped", "method", "backbone") if name in last]
    lines = [last[name] for name in dict.fromkeys([*first, *last])][:6]
    return words.name("; ".join(lines), 700) + "; on training and tuning patients only" if lines else ""


def _ensemble(run: Run) -> str:
    views = run.model.recipe.get("views") or 1
    if not run.model:
        return ""
    many = len(run.model.shares)
    what = f"the outputs of {many} networks are averaged by their shares" if many else "one model"
    turned = f"its outputs for {views} orientations of each image are averaged" if views > 1 else ""
    return f"{what}; {turned}" if turned else what if many else "one model, no ensemble"


def _balance(run: Run) -> str:
    if run.task.continuous or "balance" not in run.model.recipe:
        return ""
    power = float(run.model.recipe["balance"])
    return f"in the loss, each class weighs its frequency to the power {words.number(-power, 2)} (0: all images alike, −1: all classes alike)"


def _uncertainty(run: Run) -> str:
    if not run.estimates:
        return ""
    methods = dict.fromkeys(e.method.split(";")[-1].strip() for e in run.estimates if e.method and not e.where)
    adjusted = "; p-values of gaps between groups after Holm's correction" if run.evaluation.gaps else ""
    return f"{words.percent(run.level)} intervals that take into account which images share a patient: {words.name('; '.join(methods), 500)}{adjusted}"  # fmt: skip


def _threshold(run: Run) -> str:
    if not run.estimates:
        return ""
    if run.task.continuous:
        return "none: the output is a number"
    points = run.operating
    if len(points) > 1:
        several = ", ".join(f"{run.called(p.of)}{p.name and f', {p.name}'} {words.number(p.threshold)}" for p in points)
        rules = " and ".join(dict.fromkeys(p.rule for p in points))
        of = "two for each label" if points[0].name else "one for each label"
        return f"{of}, by the rule {words.name(rules, 120)!r} on tuning data{main_results.when_chosen(run)}: {words.name(several, 600)}"
    default = run.curve.point.rule
    other = f"not prespecified: {words.name(default, 80)}" if default else "none: the most probable answer counts"
    return " ".join(main_results.points(run)) or other


def _subgroups(run: Run) -> str:
    groups = subgroups(run)
    if not groups:
        return ""
    columns = ", ".join(dict.fromkeys(words.name(column) for column, _ in groups))
    return f"by {columns}, with intervals; groups of fewer than ten patients are counted, not judged{_largest_gap(run)}"


def _largest_gap(run: Run) -> str:
    gaps = [gap for gap in run.evaluation.gaps if not math.isnan(gap.adjusted)]
    if not gaps:
        return ""
    worst = min(gaps, key=lambda gap: gap.adjusted)
    where = " ".join(f"{words.name(k)} {words.name(v)}" for k, v in worst.where.items())
    of = f" of {run.called(worst.of)}" if worst.of else ""
    return f"; the gap least likely to be chance: {words.label(worst.metric)}{of}, {where} minus {words.name(worst.reference, 40)}, {words.in_sentence(worst.estimate)}, {p_said(worst.adjusted)} after Holm's correction"  # fmt: skip


def _heterogeneity(run: Run) -> str:
    tests = [test for test in run.evaluation.heterogeneity if not math.isnan(test.p)]
    first = [test for test in tests if (test.metric, test.of) in compared_metrics(run)] or tests
    return "; ".join(f"{words.label(test.metric)} by {words.name(test.column)}: Cochran's Q = {words.number(test.statistic, 2)}, {p_said(test.p)}" for test in first[:6])  # fmt: skip


def _clusters(run: Run) -> str:
    apart = "; sources are reported as subgroups" if len(run.evaluation.counts.sources) > 1 else ""
    shown = run.estimates and sections.by_patient(run)
    return f"images of a patient are one cluster in every interval{apart}" if shown else ""


def _classes(run: Run) -> str:
    counts = run.evaluation.counts.per_class
    what = "with each finding in the test set" if run.task.multilabel else "test set"
    sizes = "; ".join(f"{words.name(k)} {words.size(v.images, v.patients)}" for k, v in counts.items())
    return f"{what}: {sizes}" if sizes else ""


def _prevalence(run: Run) -> str:
    if run.task.continuous:
        return "does not apply to a quantity" if run.estimates else ""
    here = [f"{words.percent(curve.pr.prevalence, 1)} are {run.called(of)}" for of, curve in run.chosen("pr")]
    if not here:
        return ""
    there = run.study.prevalence
    use = f"expected in use: {words.share(there)}" if there else "what is expected in use only the authors know"
    return f"of the test images, {words.name(', '.join(here), 500)}; {use}"


def _calibration(run: Run) -> str:
    if run.task.continuous:
        of, wanted = run.names[0], ["bias"]
    else:
        of, wanted = run.primary, ["calibration slope", "calibration intercept", "ece"]
    found = [run.known(metric, of) for metric in wanted]
    return "; ".join(_in_sentence(e) for e in found if e)


def _crosstab(run: Run) -> str:
    held = run.evaluation.confusion
    each = run.task.multilabel and any(curve.point.confusion for _, curve in run.chosen("point"))
    if len(held.labels) > 3 or each:
        return "evaluation/figures/confusion.svg and curves.json"
    rows = (
        f"truly {words.name(label)}: {', '.join(f'{n:,} called {words.name(c)}' for c, n in zip(held.labels, row, strict=True))}"
        for label, row in zip(held.labels, held.counts, strict=True)
    )
    return "; ".join(rows)


def _availability(run: Run) -> str:
    version = run.record.versions.get("overread", "")
    return f"the folder model/ holds weights, preprocessing and classes; the code is overread {words.name(version)} (Apache-2.0); whether the model is shared only the authors know" if run.model and version else ""  # fmt: skip


def _audit(run: Run) -> str:
    if run.looks is None:
        return ""
    return f"every prediction is in predictions/, every look at the test set in ledger.jsonl ({words.count(run.looks, 'look')}{', which has been tampered with' if run.broken_ledger else ', chain intact'})"  # fmt: skip


def _updating(run: Run) -> str:
    path = run.folder / "calibration" / "recalibration.json"
    return "probabilities were recalibrated on tuning data (calibration/recalibration.json)" if path.exists() else "no recalibration or other updating is recorded in this run" if run.estimates else ""  # fmt: skip


#: What can be asked of a run, under the names that the standards' files use.
FACTS: dict[str, Callable[[Run], str]] = {
    **{fact.__name__[1:]: fact for fact in (
        _task, _data, _centres, _devices, _exclusions, _codes, _missing, _reference, _agreement, _graders,
        _partitions, _disjoint, _internal, _external, _characteristics, _preprocessing, _model, _software,
        _training, _selection, _ensemble, _balance, _uncertainty, _threshold, _subgroups, _heterogeneity, _clusters,
        _classes, _prevalence, _calibration, _crosstab, _availability, _audit, _updating,
    )},
    "subset": lambda run: f"rows that fulfil {words.name(run.study.where, 200)}" if run.study.where else "every row of the table was read" if run.study else "",
    "indeterminate": lambda run: f"none: every readable image gets an answer; {words.count(run.evaluation.counts.unlabelled, 'test image')} without a reference standard took no part" if run.judged else "",
    "limits": lambda run: f"what the program found: {words.name(found, 900)}" if (found := " ".join(advice.cautions(run))) else "",
    "initial": lambda run: "; ".join(f"{k.lower()}: {v}" for k, v in sections.training_facts(run) if k in ("Initial weights", "Licence of the weights")),
    "output": lambda run: run.task.answer if run.target else "",
    "margin": lambda run: sections.claim(run.study) if run.study.margin else "",
    "metrics": lambda run: ", ".join(dict.fromkeys(words.label(e.metric) for e in run.estimates if not e.where)),
    "performance": lambda run: "; ".join(_in_sentence(e) for pair in shown_metrics(run) if (e := run.estimate(*pair))),
    "protocol": lambda run: "the file study.toml holds every choice of this run; a protocol only the authors have" if run.study else "",
    "blind": lambda run: "the model is given the image alone: no clinical information, nothing of the reference standard, and no input that a person assesses" if run.model else "",
    "bad_input": lambda run: "files that cannot be decoded, are too large or too small are refused by name and reason, never predicted" if run.model else "",
    "errors": lambda run: f"the {len(run.errors)} most confident errors are shown in report.html" if run.errors else "",
    "flow": lambda run: f"{_exclusions(run)}; the diagram stands in report.html and evaluation/figures/flow.svg" if run.audit else "",
    "size": lambda run: f"tested on {run.size}; how the number was arrived at only the authors know (`overread plan` computes one)" if run.judged else "",
    "technology": lambda run: f"deep learning: a neural network ({words.name(run.model.backbone.name)}) on images" if run.model.backbone.name else "",
    "audit_of_data": lambda run: f"the audit (audit.json) has {words.count(len(run.audit.findings), 'finding')} on unreadable, duplicate, mislabelled or marked images and shortcuts" if run.audit else "",
}  # fmt: skip


@checked
def facts(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """What the run says to these questions, as sentences; those it cannot answer are left out.

    Raises :class:`InputError` for a question that nobody knows.
    """
    unknown = [name for name in names if name not in FACTS]
    if unknown:
        raise InputError("a reporting standard asks for what is not known", given=", ".join(unknown))
    return tuple(words.sentence(answer, 1000) for name in names if (answer := FACTS[name](run)))
