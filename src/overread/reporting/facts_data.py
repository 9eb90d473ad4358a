"""What a run can say of its data to a reporting standard: cases, reference standard, parts, and what was intended."""

from __future__ import annotations

from collections.abc import Callable

from overread.reporting import sections, words
from overread.reporting.gather import Run, read_estimate
from overread.reporting.people import people


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
    rest = "; ".join(
        f"{int(number):,} {words.name(str(reason).split(':')[0], 90)}" for reason, number in left.items()
    )
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
    single = (
        "; an image without a label for one finding is left out of that finding alone"
        if run.kind == "findings"
        else ""
    )
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
        read_estimate(row, "agreement.json")
        for row in run.agreement.get("estimates") or ()
        if isinstance(row, dict)
    ]
    said = [f"{words.metric(e.metric).name} {words.spoken(e)}" for e in found if not (e.of or e.undefined)]
    return (
        f"between readers: {words.name('; '.join(said[:6]), 500)}; within a reader it was not measured"
        if said
        else ""
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
        return "tested on the latest patients of the same table, trained on earlier ones: later in time, not another place"
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
    return (
        "the file study.toml holds every choice of this run; a protocol only the authors have"
        if run.study
        else ""
    )


def _audit_of_data(run: Run) -> str:
    found = run.audit.get("findings") or ()
    return f"the audit (audit.json) has {words.count(len(found), 'finding')} on unreadable, duplicate, mislabelled or marked images and shortcuts" if run.audit else ""  # fmt: skip


#: What can be asked of the data, under the names that the standards' files use.
OF_THE_DATA: dict[str, Callable[[Run], str]] = {
    "task": _task, "data": _data, "centres": _centres, "devices": _devices, "exclusions": _exclusions, "subset": _subset, "codes": _codes, "missing": _missing, "reference": _reference, "agreement": _agreement, "graders": _graders, "partitions": _partitions, "disjoint": _disjoint, "size": _size, "internal": _internal, "external": _external, "flow": _flow, "characteristics": _characteristics, "margin": _margin, "protocol": _protocol, "audit_of_data": _audit_of_data,
}  # fmt: skip
