"""What a run can say of itself to a reporting standard: one sentence a question, from its stored files only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from overread.errors import InputError
from overread.record import read_json
from overread.reporting import advice, results, sections, words
from overread.reporting.gather import Run, shown, subgroups
from overread.reporting.people import people


def _technology(run: Run) -> str:
    backbone = (run.model.get("backbone") or {}).get("name")
    return f"deep learning: a neural network ({words.name(backbone)}) on images" if backbone else ""


def _task(run: Run) -> str:
    return sections.title(run) + "; " + "; ".join(f"{a}: {b}" for a, b, *_ in sections.question(run).rows[:3]) if run.target else ""  # fmt: skip


def _data(run: Run) -> str:
    counts = run.audit.get("counts") or {}
    if not counts:
        return ""
    sources = ", ".join(f"{words.name(name)} ({sections.whole(held.get('images'))} images)"
                        for name, held in list((counts.get("sources") or {}).items())[:12])  # fmt: skip
    return words.size(counts.get("images"), counts.get("patients")) + (
        f"; sources: {sources}" if sources else ""
    )


def _centres(run: Run) -> str:
    sources = (run.audit.get("counts") or {}).get("sources") or {}
    return f"{words.count(len(sources), 'source')} in the table: {', '.join(map(words.name, sources))}" if len(sources) > 1 else ""  # fmt: skip


def _devices(run: Run) -> str:
    column = str(run.study.get("source") or "")
    said = _centres(run)
    return f"by the column {words.name(column)!r}: {said}" if column and said else ""


def _exclusions(run: Run) -> str:
    if not run.audit:
        return ""
    listed = "; ".join(f"{number:,} {words.name(reason, 90)}" for reason, number in run.excluded)
    return f"excluded after the table was read: {listed}" if listed else "no case of the table was excluded"


def _subset(run: Run) -> str:
    query = run.study.get("where")
    return f"rows that fulfil {words.name(query, 200)}" if query else ("every row of the table was read" if run.study else "")  # fmt: skip


def _preprocessing(run: Run) -> str:
    held = run.model.get("preprocess") or {}
    return "; ".join(f"{words.name(k.replace('_', ' '))} {_short(v)}" for k, v in held.items() if v not in (None, "", []))  # fmt: skip


def _short(value: Any) -> str:
    if isinstance(value, list):
        joint = " × " if all(isinstance(item, int) for item in value) else ", "
        return joint.join(_short(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else words.name(value, 80)


def _codes(run: Run) -> str:
    names = run.study.get("names")
    if names == "hash":
        return "cases and patients stand under salted codes; columns that identify people were left out when the table was read"
    return "names were kept as they stood in the table" if names == "keep" else ""


def _missing(run: Run) -> str:
    if not run.audit:
        return ""
    counts = run.audit.get("counts") or {}
    unknown = int(counts.get("images") or 0) - int(counts.get("labelled") or 0)
    unread = sum(number for reason, number in run.excluded if "read" in reason)
    return (
        f"{words.count(unknown, 'image')} without a label and {words.count(unread, 'case')} that could not be read took no part; "
        "nothing was imputed"
    )


def _reference(run: Run) -> str:
    if run.study.get("graders"):
        return f"consensus of several readers by the rule {words.name(run.study.get('consensus'))!r}"
    column = run.study.get("label") or run.study.get("value") or ", ".join(run.study.get("labels") or ())
    return f"column {words.name(column, 120)!r} of the table" if column else ""


def _agreement(run: Run) -> str:
    path = run.folder / "agreement.json"
    held = read_json(path) if path.exists() else []
    rows = held.get("estimates", []) if isinstance(held, dict) else held
    said = [f"{e.get('metric')} {words.number(e.get('value'), 2)} ({words.number(e.get('low'), 2)} to {words.number(e.get('high'), 2)})"
            for e in rows if isinstance(e, dict) and e.get("value") is not None and not e.get("of")]  # fmt: skip
    return words.name("; ".join(said[:6]), 400)


def _graders(run: Run) -> str:
    return f"{_agreement(run)}; who they were only the authors know" if _agreement(run) else ""


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
    return f"the patient: {sections.whole(shared)} patients and {sections.whole(twins)} groups of duplicates in more than one part; {words.name(proof.get('checked'), 200)}"  # fmt: skip


def _size(run: Run) -> str:
    counts = run.evaluation.get("counts") or {}
    return f"tested on {words.size(counts.get('images'), counts.get('patients'))}; how the number was arrived at only the authors know (`overread plan` computes it)" if counts else ""  # fmt: skip


def _model(run: Run) -> str:
    facts = {name: value for name, value in sections.training_facts(run) if name in ("Network", "Parameters")}
    size = (run.model.get("preprocess") or {}).get("size")
    shape = f"; input {_short(size)} pixels" if size else ""
    return "; ".join(f"{k.lower()} {v}" for k, v in facts.items()) + shape if facts else ""


def _output(run: Run) -> str:
    kinds = {"binary": "a probability for each of two classes", "classes": f"a probability for each of {len(run.names)} classes",
             "findings": f"a probability for each of {len(run.names)} findings", "quantity": "a number"}  # fmt: skip
    return kinds.get(run.kind, "")


def _software(run: Run) -> str:
    held = run.record.get("versions") or {}
    machine = ", ".join(str(v) for v in (run.record.get("hardware") or {}).values())
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
    said = [f"{what}: {choice} ({why})" for what, choice, why in sections.decisions(run)[:6]]
    return words.name("; ".join(said), 600) + "; on training and tuning patients only" if said else ""


def _ensemble(run: Run) -> str:
    views = (run.model.get("recipe") or {}).get("views")
    if not run.model:
        return ""
    return f"one model; its outputs for {views} views of each image are averaged" if views and views > 1 else "one model, no ensemble"  # fmt: skip


def _balance(run: Run) -> str:
    recipe = run.model.get("recipe") or {}
    return f"classes were weighted by the power {_short(float(recipe['balance']))} of their inverse frequency in the loss (0: not at all)" if "balance" in recipe else ""  # fmt: skip


def _metrics(run: Run) -> str:
    return ", ".join(dict.fromkeys(words.metric(e.metric).name for e in run.estimates if not e.where))


def _uncertainty(run: Run) -> str:
    if not run.estimates:
        return ""
    methods = dict.fromkeys(
        e.method.split(";")[-1].strip() for e in run.estimates if e.method and not e.where
    )
    level = run.evaluation.get("level")
    return f"{words.percent(level)} intervals that know which images share a patient: {words.name('; '.join(methods), 500)}"  # fmt: skip


def _threshold(run: Run) -> str:
    return " ".join(results.points(run))


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
    return f"; least probable gap: {worst['metric']} of {where} {words.number(worst['value'])}, p = {words.number(worst['adjusted'])} after Holm's correction"  # fmt: skip


def _heterogeneity(run: Run) -> str:
    tests = [h for h in run.evaluation.get("heterogeneity") or () if h.get("p") is not None]
    return "; ".join(f"{words.metric(h['metric']).name} by {words.name(h['column'])}: Q = {words.number(h['statistic'], 2)}, p = {words.number(h['p'])}" for h in tests[:6])  # fmt: skip


def _clusters(run: Run) -> str:
    return "images of a patient are one cluster in every interval; sources are reported as subgroups" if run.estimates else ""  # fmt: skip


def _internal(run: Run) -> str:
    proof = run.split.get("proof") or {}
    if not proof or run.study.get("leave_out"):
        return ""
    return f"on held-out patients of the same table ({words.name(run.split.get('method'), 120)})"


def _external(run: Run) -> str:
    for key, said in (
        ("leave_out", "no image of the source {} was trained on"),
        ("deploy_to", "tuned and tested only where {}"),
    ):
        if run.study.get(key):
            return said.format(words.name(run.study[key], 120))
    return "tested on the latest patients, trained on earlier ones" if run.study.get("by_time") else ""


def _flow(run: Run) -> str:
    return f"{_exclusions(run)}; the diagram stands in report.html and evaluation/figures/flow.svg" if run.audit else ""  # fmt: skip


def _characteristics(run: Run) -> str:
    table = people(run)
    columns = dict.fromkeys(row[0] for row in table.rows) if table else {}
    return f"by part, for {', '.join(columns)}: the table in model_card.md" if columns else ""


def _classes(run: Run) -> str:
    per = (run.evaluation.get("counts") or {}).get("per class") or {}
    return "test set: " + "; ".join(f"{words.name(k)} {words.size(v.get('images'), v.get('patients'))}" for k, v in per.items()) if per else ""  # fmt: skip


def _prevalence(run: Run) -> str:
    here = (run.curve.get("pr") or {}).get("prevalence")
    if here is None:
        return ""
    there = run.study.get("prevalence")
    use = f"; expected in use: {words.percent(there, 1)}" if there else "; what is expected in use only the authors know"  # fmt: skip
    return f"{words.percent(here, 1)} of the test images are {run.called(run.primary)}{use}"


def _performance(run: Run) -> str:
    found = [(m, run.estimate(m, of)) for m, of in shown(run)]
    return "; ".join(f"{words.metric(m).name} {words.spoken(e)}" for m, e in found if e is not None)


def _calibration(run: Run) -> str:
    found = [(m, run.estimate(m, run.primary)) for m in ("calibration slope", "calibration intercept", "ece")]
    return "; ".join(f"{words.metric(m).name} {words.spoken(e)}" for m, e in found if e is not None and not e.undefined)  # fmt: skip


def _crosstab(run: Run) -> str:
    held = run.evaluation.get("confusion") or {}
    if not held.get("labels"):
        return ""
    if len(held["labels"]) > 3:
        return "evaluation/figures/confusion.svg and curves.json"
    return "; ".join(f"truly {words.name(name)}: " + ", ".join(f"{n:,} called {words.name(called)}" for called, n in zip(held["labels"], row, strict=True))
                     for name, row in zip(held["labels"], held["counts"], strict=True))  # fmt: skip


def _indeterminate(run: Run) -> str:
    counts = run.evaluation.get("counts") or {}
    return f"every readable image gets an answer; {words.count(counts.get('unlabelled', 0), 'test image')} without a reference standard took no part" if counts else ""  # fmt: skip


def _errors(run: Run) -> str:
    return f"the {len(run.gallery)} most confident errors are shown in report.html" if run.gallery else ""


def _blind(run: Run) -> str:
    return "the model is given the image alone, no clinical information" if run.model else ""


def _limits(run: Run) -> str:
    return words.name(" ".join(advice.cautions(run)), 900)


def _margin(run: Run) -> str:
    margin = run.study.get("margin")
    return f"non-inferiority by a margin of {margin:g} in {words.name(run.study.get('margin_of'))}, written in study.toml" if margin else ""  # fmt: skip


def _protocol(run: Run) -> str:
    return "study.toml holds every choice of this run; a protocol only the authors have" if run.study else ""


def _availability(run: Run) -> str:
    version = (run.record.get("versions") or {}).get("overread")
    return f"the folder model/ holds weights, preprocessing and classes; made with overread {words.name(version)} (Apache-2.0); whether it is shared only the authors know" if run.model and version else ""  # fmt: skip


def _audit(run: Run) -> str:
    if run.looks is None:
        return ""
    return f"every prediction is in predictions/, every look at the test set in ledger.jsonl ({words.count(run.looks, 'look')}{', which has been tampered with' if run.broken_ledger else ', chain intact'})"  # fmt: skip


def _audit_of_data(run: Run) -> str:
    found = run.audit.get("findings") or ()
    return f"audit.json: {words.count(len(found), 'finding')} on unreadable, duplicate, mislabelled or marked images and shortcuts" if run.audit else ""  # fmt: skip


def _updating(run: Run) -> str:
    path = run.folder / "calibration" / "recalibration.json"
    return "probabilities were recalibrated on tuning data (calibration/recalibration.json)" if path.exists() else "the model was not updated after the test" if run.estimates else ""  # fmt: skip


def _bad_input(run: Run) -> str:
    return "files that cannot be decoded, are too large or too small are refused by name and reason, never predicted" if run.model else ""  # fmt: skip


#: What can be asked of a run, under the names that the standards' files use.
FACTS: dict[str, Callable[[Run], str]] = {
    "technology": _technology, "task": _task, "data": _data, "centres": _centres, "devices": _devices, "exclusions": _exclusions,
    "subset": _subset, "preprocessing": _preprocessing, "codes": _codes, "missing": _missing, "reference": _reference,
    "agreement": _agreement, "graders": _graders, "partitions": _partitions, "disjoint": _disjoint, "size": _size, "model": _model,
    "output": _output, "software": _software, "initial": _initial, "training": _training, "selection": _selection,
    "ensemble": _ensemble, "balance": _balance, "metrics": _metrics, "uncertainty": _uncertainty, "threshold": _threshold,
    "subgroups": _subgroups, "heterogeneity": _heterogeneity, "clusters": _clusters, "internal": _internal, "external": _external,
    "flow": _flow, "characteristics": _characteristics, "classes": _classes, "prevalence": _prevalence, "performance": _performance,
    "calibration": _calibration, "crosstab": _crosstab, "indeterminate": _indeterminate, "errors": _errors, "blind": _blind,
    "limits": _limits, "margin": _margin, "protocol": _protocol, "availability": _availability, "audit": _audit,
    "audit_of_data": _audit_of_data, "updating": _updating, "bad_input": _bad_input,
}  # fmt: skip


def found(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """What the run says to these questions, as sentences; those it cannot answer are left out.

    Raises :class:`InputError` for a question that nobody knows.
    """
    unknown = [name for name in names if name not in FACTS]
    if unknown:
        raise InputError("a reporting standard asks for what is not known", given=", ".join(unknown))
    return tuple(words.sentence(said, 1000) for name in names if (said := FACTS[name](run)))
