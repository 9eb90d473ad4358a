"""Is the table sound? Everything that makes a result too good, found before anything is trained."""

from __future__ import annotations

import os

import pandas as pd

from overread.cases import checks
from overread.cases.cases import Cases
from overread.cases.counts import count
from overread.cases.duplicates import exact, similar
from overread.cases.findings import ORDER, Audit, Finding
from overread.cases.fingerprint import fingerprint
from overread.cases.shortcut import shortcut
from overread.errors import checked, require
from overread.progress import Progress, silent

__all__ = ["Audit", "Finding", "audit"]


@checked
def audit(
    cases: Cases, *, fingerprints: pd.DataFrame | None = None, threads: int = 0, progress: Progress = silent,
    cache: str | os.PathLike[str] | None = None, seed: int = 0,
) -> Audit:  # fmt: skip
    """Look at every image and every row once and say what is wrong, how bad it is, and what to do.

    Reads all images (or takes ``fingerprints`` made before); ``cache`` is a folder that makes a second audit quick.
    Raises :class:`InputError` if no image at all can be read.
    """
    prints = (
        fingerprint(cases, threads=threads, progress=progress, cache=cache)
        if fingerprints is None
        else fingerprints
    )
    prints = prints.reset_index(drop=True)
    require(
        len(prints) == len(cases),
        "the fingerprints belong to other cases",
        given=f"{len(prints):,} for {len(cases):,} images",
    )
    checks.refuse_unreadable(prints)
    progress("looking for duplicates", 0, 1)
    seen = checks.Seen(cases, prints, exact(prints), similar(prints, threads=threads))
    progress("looking for duplicates", 1, 1)
    told = shortcut(cases, prints, seed=seed)
    findings = [finding for check in checks.CHECKS for finding in check(seen)] + checks.shortcut_risk(told)
    findings.sort(key=lambda finding: ORDER[finding.severity])
    excluded = checks.excluded(seen)
    return Audit(tuple(findings), count(cases, prints, len(excluded)), told, checks.pairs(seen), excluded)
