"""What a run can say of itself to a reporting standard: one sentence a question, from its stored files only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from overread.errors import InputError, checked
from overread.reporting import advice, results, sections, words
from overread.reporting.facts_data import OF_THE_DATA
from overread.reporting.gather import Run, compared, gap_of, shown, subgroups


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
    kinds = {"binary": "a probability for each of two classes", "classes": f"a probability for each of {len(run.names)} classes",
             "findings": f"a probability for each of {len(run.names)} findings", "quantity": "a number"}  # fmt: skip
    return kinds.get(run.kind, "")


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
    last = {
        what: f"{what}: {choice} ({why})" for what, choice, why in sections.decisions(run)
    }  # the last word on each
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
    if run.kind == "quantity" or "balance" not in recipe:
        return ""
    power = float(recipe["balance"])
    return f"in the loss, each class weighs its frequency to the power {words.number(-power, 2)} (0: all images alike, −1: all classes alike)"


def _metrics(run: Run) -> str:
    return ", ".join(dict.fromkeys(words.metric(e.metric).name for e in run.estimates if not e.where))


def _uncertainty(run: Run) -> str:
    if not run.estimates:
        return ""
    methods = dict.fromkeys(
        e.method.split(";")[-1].strip() for e in run.estimates if e.method and not e.where
    )
    adjusted = (
        "; p-values of gaps between groups after Holm's correction" if run.evaluation.get("gaps") else ""
    )
    return f"{words.percent(run.level)} intervals that take into account which images share a patient: {words.name('; '.join(methods), 500)}{adjusted}"  # fmt: skip


def _threshold(run: Run) -> str:
    if not run.estimates:
        return ""
    if run.kind == "quantity":
        return "none: the output is a number"
    several = [
        f"{run.called('+'.join(map(str, p.get('positive') or ())))} {words.number(p.get('threshold'))}"
        for p in run.operating
    ]
    if len(several) > 1:
        return f"one for each label, by the rule {words.name(run.operating[0].get('rule'), 60)!r} on tuning data and frozen before the test set was opened: {words.name(', '.join(several), 600)}"
    default = (run.curve.get("point") or {}).get("rule")
    other = (
        f"not prespecified: {words.name(default, 80)}" if default else "none: the most probable answer counts"
    )
    return " ".join(results.points(run)) or other


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
    what = "with each finding in the test set" if run.kind == "findings" else "test set"
    return f"{what}: " + "; ".join(f"{words.name(k)} {words.size(v.get('images'), v.get('patients'))}" for k, v in per.items()) if per else ""  # fmt: skip


def _prevalence(run: Run) -> str:
    if run.kind == "quantity":
        return "does not apply to a quantity" if run.estimates else ""
    here = [
        f"{words.percent(c['pr'].get('prevalence'), 1)} are {run.called(of)}" for of, c in run.chosen("pr")
    ]
    if not here:
        return ""
    there = run.study.get("prevalence")
    use = (
        f"expected in use: {words.share(there)}" if there else "what is expected in use only the authors know"
    )
    return f"of the test images, {words.name(', '.join(here), 500)}; {use}"


def _performance(run: Run) -> str:
    found = [(m, run.estimate(m, of)) for m, of in shown(run)]
    return "; ".join(f"{words.metric(m).name} {words.spoken(e)}" for m, e in found if e is not None)


def _calibration(run: Run) -> str:
    of, wanted = (
        (run.names[0], ("bias",))
        if run.kind == "quantity" and run.names
        else (run.primary, ("calibration slope", "calibration intercept", "ece"))
    )
    found = [(m, run.estimate(m, of)) for m in wanted]
    return "; ".join(f"{words.metric(m).name} {words.spoken(e)}" for m, e in found if e is not None and not e.undefined)  # fmt: skip


def _crosstab(run: Run) -> str:
    held = run.evaluation.get("confusion") or {}
    each = run.kind == "findings" and any(c["point"].get("confusion") for _, c in run.chosen("point"))
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
