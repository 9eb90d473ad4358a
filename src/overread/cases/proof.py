"""The proof beside a split: counted from the finished table alone, so that a fault in the dealing would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import PARTS, Cases
from overread.cases.findings import Audit
from overread.cases.groups import group
from overread.record import sha256


def digest(table: pd.DataFrame) -> str:
    """Hash of who is where."""
    return sha256(table.to_csv(index=False, lineterminator="\n").encode())[:16]


def prove(
    table: pd.DataFrame,
    cases: Cases,
    audit: Audit | None,
    left_out: dict[str, int],
    warnings: list[str],
    given: bool,
) -> dict[str, Any]:
    """``proof`` of a split with this table (``case``, ``patient``, ``part``), as in ``split.proof.json``."""
    where = table.set_index("case")["part"]
    part = cases.table["case"].map(where)
    inside = part.notna().to_numpy()
    groups = group(cases.table[inside].reset_index(drop=True), "patient", audit.pairs if audit else ())
    torn = int((part[inside].reset_index(drop=True).groupby(groups.of).nunique() > 1).sum())
    parts = {p: _counted(cases.take((part == p).to_numpy())) for p in PARTS}
    notes = [*warnings, *_thin(parts)]
    if groups.loosened:
        notes.append(
            f"{groups.loosened:,} near-duplicate links form long chains of alike images and were not kept together"
        )
    return {
        "patients shared": int((table.groupby("patient")["part"].nunique() > 1).sum()),
        "duplicate groups shared": torn, "groups": len(groups.names), "largest group": int(groups.sizes.max(initial=0)),
        "checked": f"patients compared between all parts; {_looked_up(audit)}", "parts": parts, "left out": left_out,
        "warnings": notes, "given": given, "digest": digest(table),
    }  # fmt: skip


def _looked_up(audit: Audit | None) -> str:
    if audit is None:
        return "duplicates not checked (no audit)"
    return f"{len(audit.pairs):,} {'pair' if len(audit.pairs) == 1 else 'pairs'} of duplicates looked up"


def _counted(cases: Cases) -> dict[str, Any]:
    table, names = cases.table, cases.target.names
    found: dict[str, Any] = {
        "images": len(cases),
        "cases": int(table["case"].nunique()),
        "patients": cases.patients,
    }
    if cases.target.kind != "quantity":
        strata = _columns(cases)
        found["classes"] = {n: int(table["patient"][strata[:, i]].nunique()) for i, n in enumerate(names)}
        found["class images"] = {n: int(strata[:, i].sum()) for i, n in enumerate(names)}
    sources = table["source"][table["source"] != ""].value_counts()
    return found | {"sources": {str(k): int(sources[k]) for k in sorted(sources.index)}}


def _columns(cases: Cases) -> NDArray[np.bool_]:
    """(N, names) of which class or finding each image has."""
    labels = cases.labels
    return (
        labels == 1
        if cases.target.kind == "findings"
        else labels[:, None] == np.arange(len(cases.target.names))
    )


def _thin(parts: dict[str, Any]) -> list[str]:
    """Classes that a part lacks, as sentences; parts without anybody are left out."""
    used = {p: counts for p, counts in parts.items() if counts["images"]}
    return [
        f"no patient with {name} in {p}"
        for p, counts in used.items()
        for name, n in counts.get("classes", {}).items()
        if not n
    ]
