"""What a run can say of itself to a reporting standard: one sentence a question, from its stored files only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from overread.core.errors import InputError, checked
from overread.reporting import advice, main_results, sections, words
from overread.reporting.run import Run, compared, gap_of, read_estimate, shown, subgroups
from overread.reporting.sections import people

# -- what a run can say of its data to a reporting standard: cases, reference standard, parts, and what was intended ---


def _task(run: Run) -> str:
    return sections.title(run) + "; " + "; ".join(f"{a}: {b}" for a, b, *_ in sections.question(run).rows[:3]) if run.target else ""  # fmt: skip


def _data(run: Run) -> str:
    counts = run.audit.get("counts") or {}
    if not counts:
        return ""
    sources = ", ".join(f"{words.name(name)} ({sections.whole(held.get('images'))} images)"
                        for name, held in list((counts.get("sources") or {}).items())[:12])  # fmt: skip
    return words.size(counts.get("images"), counts.get("patients")) + (f"; sources: {sources}" if sources else "")


def _centres(run: Run) -> str:
    sources = (run.audit.get("counts") or {}).get("sources") or {}
    column = str(run.study.get("source") or "")
    named = f" by the column {words.name(column)!r}" if column else ""
    return f"{words.count(len(sources), 'source')} in the table{named}: {', '.join(map(words.name, sources))}; which of them are centres only the authors know" if len(sources) > 1 else ""  # fmt: skip


def _devices(run: Run) -> str:
    column, sources = str(run.study.get("source") or ""), (run.audit.get("counts") or {}).get("sources") or {}
    if not (column and len(sources) > 1):
        return ""
    return f"sources of the images by the column {words.name(column)!r}: {', '.join(map(words.name, sources))}; whether these are devices only the authors know"


def _exclusions(run: Run) -> str:
    if not run.audit:
        return ""
    listed = "; ".join(f"{number:,} {words.name(reason, 90)}" for reason, number in run.excluded)
    said = f"excluded after the table was read: {listed}" if listed else "no case of the table was excluded"
    left = (run.split.get("proof") or {}).get("left out") or {}
    rest = "; ".join(f"{int(number):,} {words.name(str(reason).split(':')[0], 90)}" for reason, number in left.items())
    return f"{said}{f'; then in no part of the split: {rest}' if rest else ''}; who was chosen for the table only the authors know"


def _subset(run: Run) -> str:
    query = run.study.get("where")
    return f"rows that fulfil {words.name(query, 200)}" if query else ("every row of the table was read" if run.study else "")  # fmt: skip


def _codes(run: Run) -> str:
    names = run.study.get("names")
    said = {"hash": "in all files of this run cases and patients stand under salted codes, and columns that identify people were left out when the table was read",
            "keep": "names were kept as they stood in the table"}.get(str(names), "")  # fmt: skip
    return f"{said}; how images and table were de-identified before only the authors know" if said else ""


def _missing(run: Run) -> str:
    if not run.audit:
        return ""
    counts = run.audit.get("counts") or {}
    unknown = int(counts.get("images") or 0) - int(counts.get("labelled") or 0)
    unread = sum(number for reason, number in run.excluded if "read" in reason)
    single = "; an image without a label for one finding is left out of that finding alone" if run.multilabel else ""
    return (
        f"{words.count(unknown, 'image')} without a label and {words.count(unread, 'case')} that could not be read took no part"
        f"{single}; nothing was imputed"
    )


def _reference(run: Run) -> str:
    held = run.agreement
    if run.study.get("graders"):
        many = f"{words.count(len(held.get('readers') or ()), 'reader')}" if held else "several readers"
        return f"consensus of {many} by the rule {words.name(run.study.get('consensus'))!r}; what the readers saw only the authors know"
    column = run.study.get("label") or run.study.get("value") or ", ".join(run.study.get("labels") or ())
    return f"{_columns(run)} {words.name(column, 120)!r} of the table; how it came about only the authors know" if column else ""  # fmt: skip


def _columns(run: Run) -> str:
    return "columns" if len(run.study.get("labels") or ()) > 1 else "column"


def _agreement(run: Run) -> str:
    found = [
        read_estimate(row, "agreement.json") for row in run.agreement.get("estimates") or () if isinstance(row, dict)
    ]
    said = [f"{words.metric(e.metric).name} {words.spoken(e)}" for e in found if not (e.of or e.undefined)]
    return (
        f"between readers: {words.name('; '.join(said[:6]), 500)}; within a reader it was not measured" if said else ""
    )


def _graders(run: Run) -> str:
    held = run.agreement
    if not held.get("readers"):
        return ""
    return (
        f"{words.count(len(held['readers']), 'reader')} with {words.count(held.get('answers'), 'answer')} on {words.count(held.get('cases'), 'case')}; "
        "who they were only the authors know"
    )


def _partitions(run: Run) -> str:
    parts = (run.split.get("proof") or {}).get("parts") or {}
    if not parts:
        return ""
    sizes = "; ".join(f"{sections.PARTS.get(k, words.name(k))} {words.size(p.get('images'), p.get('patients'))}" for k, p in parts.items())  # fmt: skip
    return f"{words.name(run.split.get('method'), 120)}, seed {run.split.get('seed')}: {sizes}"


def _disjoint(run: Run) -> str:
    proof = run.split.get("proof") or {}
    if not proof:
        return ""
    shared, twins = proof.get("patients shared"), proof.get("duplicate groups shared")
    unit = (
        "at the level of the patient"
        if sections.by_patient(run)
        else "at the level of the image, because no column says who the patient is: images of one patient may stand in several parts"
    )
    return f"{unit}: {sections.whole(shared)} {'patients' if sections.by_patient(run) else 'images'} and {sections.whole(twins)} groups of duplicates in more than one part; {words.name(proof.get('checked'), 200)}"  # fmt: skip


def _size(run: Run) -> str:
    counts = run.evaluation.get("counts") or {}
    return f"tested on {words.size(counts.get('images'), counts.get('patients'))}; how the number was arrived at only the authors know (`overread plan` computes one)" if counts else ""  # fmt: skip


def _internal(run: Run) -> str:
    proof = run.split.get("proof") or {}
    if not proof or run.study.get("leave_out"):
        return ""
    return f"tested once trained and tuned, on the held-out part of the same table ({words.name(run.split.get('method'), 120)})"


def _external(run: Run) -> str:
    if run.study.get("leave_out"):
        return f"tested on the source {words.name(run.study['leave_out'], 120)} of the table, of which no image was trained on; how it differs from the others only the authors know"
    if run.study.get("deploy_to"):
        return f"tuned and tested only where {words.name(run.study['deploy_to'], 120)}, trained on every source: the test is not external"
    if run.study.get("by_time"):
        return (
            "tested on the latest patients of the same table, trained on earlier ones: later in time, not another place"
        )
    return "no external test: the test part comes from the same table as the training part" if run.split.get("proof") and run.estimates else ""  # fmt: skip


def _flow(run: Run) -> str:
    return f"{_exclusions(run)}; the diagram stands in report.html and evaluation/figures/flow.svg" if run.audit else ""  # fmt: skip


def _characteristics(run: Run) -> str:
    table = people(run)
    columns = dict.fromkeys(row[0] for row in table.rows) if table else {}
    return f"by part, for {', '.join(columns)}: the table in model_card.md" if columns else ""


def _margin(run: Run) -> str:
    claim = sections.claim(run.study)
    return claim if claim != words.NOTHING else ""


def _protocol(run: Run) -> str:
    return "the file study.toml holds every choice of this run; a protocol only the authors have" if run.study else ""


def _audit_of_data(run: Run) -> str:
    found = run.audit.get("findings") or ()
    return f"the audit (audit.json) has {words.count(len(found), 'finding')} on unreadable, duplicate, mislabelled or marked images and shortcuts" if run.audit else ""  # fmt: skip


#: What can be asked of the data, under the names that the standards' files use.
OF_THE_DATA: dict[str, Callable[[Run], str]] = {
    "task": _task, "data": _data, "centres": _centres, "devices": _devices, "exclusions": _exclusions, "subset": _subset, "codes": _codes, "missing": _missing, "reference": _reference, "agreement": _agreement, "graders": _graders, "partitions": _partitions, "disjoint": _disjoint, "size": _size, "internal": _internal, "external": _external, "flow": _flow, "characteristics": _characteristics, "margin": _margin, "protocol": _protocol, "audit_of_data": _audit_of_data,
}  # fmt: skip


# -- what a run can say of itself to a reporting standard: one sentence a question, from its stored files only ----


def _technology(run: Run) -> str:
    backbone = (run.model.get("backbone") or {}).get("name")
    return f"deep learning: a neural network ({words.name(backbone)}) on images" if backbone else ""


def _preprocessing(run: Run) -> str:
    held = run.model.get("preprocess") or {}
    return "; ".join(f"{words.name(k.replace('_', ' '))} {_short(v)}" for k, v in held.items() if v not in (None, "", []))  # fmt: skip


def _short(value: Any) -> str:
    if isinstance(value, list):
        joint = " × " if all(isinstance(item, int) for item in value) else ", "
        return joint.join(_short(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else words.name(value, 80)


def _model(run: Run) -> str:
    facts = {name: value for name, value in sections.training_facts(run) if name in ("Network", "Parameters")}
    size = (run.model.get("preprocess") or {}).get("size")
    shape = f"; input {_short(size)} pixels" if size else ""
    return "; ".join(f"{k.lower()} {v}" for k, v in facts.items()) + shape if facts else ""


def _output(run: Run) -> str:
    return run.task.answer if run.task else ""


def _software(run: Run) -> str:
    held = run.record.get("versions") or {}
    machine = ", ".join(f"{k} {v}" for k, v in (run.record.get("hardware") or {}).items())
    return words.name("; ".join(f"{k} {v}" for k, v in held.items()), 400) + (
        f"; machine: {words.name(machine, 120)}" if machine else ""
    )


def _initial(run: Run) -> str:
    return "; ".join(
        f"{k.lower()}: {v}"
        for k, v in sections.training_facts(run)
        if k in ("Initial weights", "Licence of the weights")
    )


_TRAINING = ("method", "epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "dropout", "augment", "seed")  # fmt: skip


def _training(run: Run) -> str:
    recipe = run.model.get("recipe") or {}
    return "; ".join(f"{k.replace('_', ' ')} {_short(recipe[k])}" for k in _TRAINING if recipe.get(k) not in (None, ""))  # fmt: skip


def _selection(run: Run) -> str:
    last = {what: f"{what}: {choice} ({why})" for what, choice, why in sections.decisions(run)}  # the last word on each
    first = [name for name in ("snapshot", "stopped", "method", "backbone") if name in last]
    said = [last[name] for name in dict.fromkeys([*first, *last])][:6]
    return words.name("; ".join(said), 700) + "; on training and tuning patients only" if said else ""


def _ensemble(run: Run) -> str:
    views = (run.model.get("recipe") or {}).get("views")
    if not run.model:
        return ""
    return f"one model; its outputs for {views} views of each image are averaged" if views and views > 1 else "one model, no ensemble"  # fmt: skip


def _balance(run: Run) -> str:
    recipe = run.model.get("recipe") or {}
    if run.continuous or "balance" not in recipe:
        return ""
    power = float(recipe["balance"])
    return f"in the loss, each class weighs its frequency to the power {words.number(-power, 2)} (0: all images alike, −1: all classes alike)"


def _metrics(run: Run) -> str:
    return ", ".join(dict.fromkeys(words.metric(e.metric).name for e in run.estimates if not e.where))


def _uncertainty(run: Run) -> str:
    if not run.estimates:
        return ""
    methods = dict.fromkeys(e.method.split(";")[-1].strip() for e in run.estimates if e.method and not e.where)
    adjusted = "; p-values of gaps between groups after Holm's correction" if run.evaluation.get("gaps") else ""
    return f"{words.percent(run.level)} intervals that take into account which images share a patient: {words.name('; '.join(methods), 500)}{adjusted}"  # fmt: skip


def _threshold(run: Run) -> str:
    if not run.estimates:
        return ""
    if run.continuous:
        return "none: the output is a number"
    several = [
        f"{run.called('+'.join(map(str, p.get('positive') or ())))} {words.number(p.get('threshold'))}"
        for p in run.operating
    ]
    if len(several) > 1:
        return f"one for each label, by the rule {words.name(run.operating[0].get('rule'), 60)!r} on tuning data and frozen before the test set was opened: {words.name(', '.join(several), 600)}"
    default = (run.curve.get("point") or {}).get("rule")
    other = f"not prespecified: {words.name(default, 80)}" if default else "none: the most probable answer counts"
    return " ".join(main_results.points(run)) or other


def _subgroups(run: Run) -> str:
    groups = subgroups(run)
    if not groups:
        return ""
    columns = ", ".join(dict.fromkeys(words.name(column) for column, _ in groups))
    return f"by {columns}, with intervals; groups of fewer than ten patients are counted, not judged{_largest_gap(run)}"


def _largest_gap(run: Run) -> str:
    gaps = [g for g in run.evaluation.get("gaps") or () if g.get("adjusted") is not None]
    if not gaps:
        return ""
    worst = min(gaps, key=lambda g: g["adjusted"])
    where = " ".join(f"{words.name(k)} {words.name(v)}" for k, v in worst["where"].items())
    against, of = (
        words.name(worst.get("reference") or "the others", 40),
        f" of {run.called(worst['of'])}" if worst.get("of") else "",
    )
    return f"; the gap least likely to be chance: {words.metric(worst['metric']).name}{of}, {where} minus {against}, {words.spoken(gap_of(worst, run.level))}, {words.probability(float(worst['adjusted']))} after Holm's correction"  # fmt: skip


def _heterogeneity(run: Run) -> str:
    tests = [h for h in run.evaluation.get("heterogeneity") or () if h.get("p") is not None]
    first = [h for h in tests if (h.get("metric"), h.get("of")) in compared(run)] or tests
    return "; ".join(f"{words.metric(h['metric']).name} by {words.name(h['column'])}: Cochran's Q = {words.number(h['statistic'], 2)}, {words.probability(float(h['p']))}" for h in first[:6])  # fmt: skip


def _clusters(run: Run) -> str:
    sources = (run.evaluation.get("counts") or {}).get("sources") or {}
    apart = "; sources are reported as subgroups" if len(sources) > 1 else ""
    return (
        f"images of a patient are one cluster in every interval{apart}"
        if run.estimates and sections.by_patient(run)
        else ""
    )


def _classes(run: Run) -> str:
    per = (run.evaluation.get("counts") or {}).get("per class") or {}
    what = "with each finding in the test set" if run.multilabel else "test set"
    return f"{what}: " + "; ".join(f"{words.name(k)} {words.size(v.get('images'), v.get('patients'))}" for k, v in per.items()) if per else ""  # fmt: skip


def _prevalence(run: Run) -> str:
    if run.continuous:
        return "does not apply to a quantity" if run.estimates else ""
    here = [f"{words.percent(c['pr'].get('prevalence'), 1)} are {run.called(of)}" for of, c in run.chosen("pr")]
    if not here:
        return ""
    there = run.study.get("prevalence")
    use = f"expected in use: {words.share(there)}" if there else "what is expected in use only the authors know"
    return f"of the test images, {words.name(', '.join(here), 500)}; {use}"


def _performance(run: Run) -> str:
    found = [(m, run.estimate(m, of)) for m, of in shown(run)]
    return "; ".join(f"{words.metric(m).name} {words.spoken(e)}" for m, e in found if e is not None)


def _calibration(run: Run) -> str:
    of, wanted = (
        (run.names[0], ("bias",))
        if run.continuous and run.names
        else (run.primary, ("calibration slope", "calibration intercept", "ece"))
    )
    found = [(m, run.estimate(m, of)) for m in wanted]
    return "; ".join(f"{words.metric(m).name} {words.spoken(e)}" for m, e in found if e is not None and not e.undefined)  # fmt: skip


def _crosstab(run: Run) -> str:
    held = run.evaluation.get("confusion") or {}
    each = run.multilabel and any(c["point"].get("confusion") for _, c in run.chosen("point"))
    if len(held.get("labels") or ()) > 3 or each:
        return "evaluation/figures/confusion.svg and curves.json"
    return "; ".join(f"truly {words.name(name)}: " + ", ".join(f"{n:,} called {words.name(called)}" for called, n in zip(held["labels"], row, strict=True))
                     for name, row in zip(held.get("labels") or (), held.get("counts") or (), strict=True))  # fmt: skip


def _indeterminate(run: Run) -> str:
    counts = run.evaluation.get("counts") or {}
    return f"none: every readable image gets an answer; {words.count(counts.get('unlabelled', 0), 'test image')} without a reference standard took no part" if counts else ""  # fmt: skip


def _errors(run: Run) -> str:
    return f"the {len(run.gallery)} most confident errors are shown in report.html" if run.gallery else ""


def _blind(run: Run) -> str:
    return "the model is given the image alone: no clinical information, nothing of the reference standard, and no input that a person assesses" if run.model else ""  # fmt: skip


def _limits(run: Run) -> str:
    found = words.name(" ".join(advice.cautions(run)), 900)
    return f"what the program found: {found}" if found else ""


def _availability(run: Run) -> str:
    version = (run.record.get("versions") or {}).get("overread")
    return f"the folder model/ holds weights, preprocessing and classes; the code is overread {words.name(version)} (Apache-2.0); whether the model is shared only the authors know" if run.model and version else ""  # fmt: skip


def _audit(run: Run) -> str:
    if run.looks is None:
        return ""
    return f"every prediction is in predictions/, every look at the test set in ledger.jsonl ({words.count(run.looks, 'look')}{', which has been tampered with' if run.broken_ledger else ', chain intact'})"  # fmt: skip


def _updating(run: Run) -> str:
    path = run.folder / "calibration" / "recalibration.json"
    return "probabilities were recalibrated on tuning data (calibration/recalibration.json)" if path.exists() else "no recalibration or other updating is recorded in this run" if run.estimates else ""  # fmt: skip


def _bad_input(run: Run) -> str:
    return "files that cannot be decoded, are too large or too small are refused by name and reason, never predicted" if run.model else ""  # fmt: skip


#: What can be asked of a run, under the names that the standards' files use.
FACTS: dict[str, Callable[[Run], str]] = {
    **OF_THE_DATA,
    "technology": _technology, "preprocessing": _preprocessing, "model": _model, "output": _output, "software": _software, "initial": _initial, "training": _training, "selection": _selection, "ensemble": _ensemble, "balance": _balance, "metrics": _metrics, "uncertainty": _uncertainty, "threshold": _threshold, "subgroups": _subgroups, "heterogeneity": _heterogeneity, "clusters": _clusters, "classes": _classes, "prevalence": _prevalence, "performance": _performance, "calibration": _calibration, "crosstab": _crosstab, "indeterminate": _indeterminate, "errors": _errors, "blind": _blind, "limits": _limits, "availability": _availability, "audit": _audit, "updating": _updating, "bad_input": _bad_input,
}  # fmt: skip


@checked
def found(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """What the run says to these questions, as sentences; those it cannot answer are left out.

    Raises :class:`InputError` for a question that nobody knows.
    """
    unknown = [name for name in names if name not in FACTS]
    if unknown:
        raise InputError("a reporting standard asks for what is not known", given=", ".join(unknown))
    return tuple(words.sentence(said, 1000) for name in names if (said := FACTS[name](run)))
