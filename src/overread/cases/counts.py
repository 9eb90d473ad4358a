"""What the table holds, counted: images and patients by class, source, size, mode and given part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from overread.cases.cases import PARTS, Cases


def count(cases: Cases, prints: pd.DataFrame, excluded: int) -> dict[str, Any]:
    """``counts`` of an audit, as JSON."""
    table = cases.table
    per_patient = table.groupby("patient").size()
    readable = prints[prints["error"] == ""]
    return {
        "images": len(table), "cases": int(table["case"].nunique()), "patients": cases.patients,
        "labelled": int(cases.labelled.sum()), "excluded": excluded,
        "images per patient": {"median": float(per_patient.median()), "max": int(per_patient.max())},
        **_labels(cases), "sources": _sources(cases),
        "sizes": _most(sizes(readable)), "modes": _most(modes(readable)), "formats": _most(readable["format"]),
        "given split": _given(table),
    }  # fmt: skip


def sizes(prints: pd.DataFrame) -> pd.Series:
    """``224×224`` or ``28×28×28`` for each image."""
    flat = prints["height"].astype(str) + "×" + prints["width"].astype(str)
    return flat.where(prints["depth"] <= 1, prints["depth"].astype(str) + "×" + flat)


def modes(prints: pd.DataFrame) -> pd.Series:
    """``colour, 8 bit`` for each image."""
    return prints["mode"] + ", " + prints["bits"].astype(str) + " bit"


def _most(values: pd.Series, most: int = 20) -> dict[str, int]:
    counts = values.value_counts()
    counts = counts[sorted(counts.index, key=lambda name: (-counts[name], str(name)))]
    rest = int(counts.iloc[most:].sum())
    return {str(k): int(v) for k, v in counts.iloc[:most].items()} | ({"other": rest} if rest else {})


def _labels(cases: Cases) -> dict[str, Any]:
    labels, names, patient = cases.labels, cases.target.names, cases.table["patient"]
    if cases.target.kind == "quantity":
        known = labels[~np.isnan(labels)]
        found = (
            {
                k: float(f(known))
                for k, f in (("min", np.min), ("median", np.median), ("max", np.max), ("mean", np.mean))
            }
            if known.size
            else {}
        )
        return {"value": {"images": int(known.size), **found}}
    if cases.target.kind == "findings":
        return {"classes": {n: {"images": int((labels[:, i] == 1).sum()), "patients": int(patient[labels[:, i] == 1].nunique()),
                                "absent": int((labels[:, i] == 0).sum()), "unknown": int(np.isnan(labels[:, i]).sum())}
                            for i, n in enumerate(names)}}  # fmt: skip
    return {"classes": {n: {"images": int((labels == i).sum()), "patients": int(patient[labels == i].nunique())}
                        for i, n in enumerate(names)}}  # fmt: skip


def _sources(cases: Cases) -> dict[str, Any]:
    table = cases.table
    found = {}
    for source in sorted(set(table["source"]) - {""}):
        rows = (table["source"] == source).to_numpy()
        some = cases.take(rows)
        classes = {n: c["images"] for n, c in _labels(some).get("classes", {}).items()}
        found[source] = {"images": int(rows.sum()), "patients": some.patients, "classes": classes}
    return found


def _given(table: pd.DataFrame) -> dict[str, Any]:
    parts = [p for p in PARTS if (table["split"] == p).any()]
    return {
        p: {
            "images": int((table["split"] == p).sum()),
            "patients": int(table["patient"][table["split"] == p].nunique()),
        }
        for p in parts
    }
