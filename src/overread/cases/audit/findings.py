"""Findings of an audit, and the audit itself: what it found, how bad, in which cases, and what to do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from overread.core.errors import InputError, UnsoundError
from overread.core.files import FORMAT, build, read_json, write_json
from overread.core.files import fingerprint as digest_of

Severity = Literal["error", "warning", "note"]
#: Worst first.
ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One thing the audit found: what, how bad, in how many cases, and what to do. ``cases``: the first 1,000 names."""

    kind: str
    severity: Severity
    message: str
    advice: str = ""
    count: int = 0
    cases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}. {self.advice}".rstrip()


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found, worst first; ``counts`` and ``shortcut`` as in ``audit.json``.

    ``pairs``: (case, case, "exact" or "near"); ``excluded``: (case, reason) of cases that cannot be used.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, Any] = field(default_factory=dict)
    shortcut: dict[str, Any] = field(default_factory=dict)
    pairs: tuple[tuple[str, str, Literal["exact", "near"]], ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()

    def of(self, kind: str) -> Finding | None:
        """The first finding of a kind, or None."""
        return next(iter(self.all(kind)), None)

    def all(self, kind: str) -> tuple[Finding, ...]:
        """Every finding of a kind: there can be a leak of images and one of patients."""
        return tuple(f for f in self.findings if f.kind == kind)

    def require_none(self, *kinds: str) -> None:
        """Raise :class:`UnsoundError` if there is a finding of one of these kinds."""
        found = [f for kind in kinds for f in self.all(kind)]
        if found:
            raise UnsoundError("; ".join(f.message for f in found), todo=found[0].advice)

    def __str__(self) -> str:
        head = f"{self.counts.get('images', 0):,} images of {self.counts.get('patients', 0):,} patients"
        return "\n".join(
            [head, *(f"  {f}" for f in self.findings)] if self.findings else [f"{head}, nothing to report"]
        )

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Audit) and digest_of(self) == digest_of(other)

    def __hash__(self) -> int:
        return int(digest_of(self), 16)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        fields = {name: getattr(self, name) for name in ("findings", "counts", "shortcut", "pairs", "excluded")}
        return write_json(path, {"format": FORMAT, **fields})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Audit:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing, damaged or of a later version."""
        value = read_json(path)
        if not isinstance(value, dict) or value.pop("format", 0) != FORMAT:
            raise InputError("the audit is of another version", given=str(path), todo="run the audit again")
        return build(cls, value, where=Path(path).name)
