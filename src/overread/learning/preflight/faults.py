"""What a pre-flight check found: faults with their fix, what was measured, and a forecast. They print well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pandas as pd

from overread.core.display import Overview, Panel, Shown
from overread.core.errors import UnsoundError
from overread.core.phrases import count

if TYPE_CHECKING:
    from torch import Tensor

Severity = Literal["error", "warning", "note"]


_WORST_FIRST = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Fault:
    """One thing that a pre-flight check found: a stable ``kind``, how bad, what is wrong, the value found, the fix."""

    kind: str
    severity: Severity
    what: str
    found: str = ""
    fix: str = ""

    def __str__(self) -> str:
        found = f" (found: {self.found})" if self.found else ""
        words = self.fix.partition(" ")[0].isalpha()  # and not code, whose letters stay as they are
        fix = f". {self.fix[0].upper() if words else self.fix[0]}{self.fix[1:].rstrip('.')}." if self.fix else "."
        return f"{self.severity}: {self.what}{found}{fix}"


@dataclass(frozen=True)
class Forecast:
    """What a training will take: seconds and bytes.

    ``load`` and ``step``: seconds to prepare a batch and to learn from it. ``total``: of the whole training, judging
    included. ``memory``: bytes that it needs on its device, of ``available``.
    """

    load: float
    step: float
    total: float
    memory: float
    available: float = math.inf

    @property
    def bottleneck(self) -> str:
        """Where most of the time goes, and its share."""
        name, most = max(("augmentation", self.load), ("forward and backward", self.step), key=lambda pair: pair[1])
        return f"{name} {most / max(self.load + self.step, 1e-9):.0%}"

    def __str__(self) -> str:
        room = "" if math.isinf(self.available) else f" of {bytes_in_words(self.available)}"
        return f"{self.step:.2g} s a step ({self.bottleneck}); memory {bytes_in_words(self.memory)}{room}"


@dataclass(frozen=True)
class Preflight(Shown):
    """What a check found, worst first, and what it measured, by name. Prints, iterates, and never raises by itself."""

    faults: tuple[Fault, ...]
    measured: dict[str, str] = field(default_factory=dict)
    forecast: Forecast | None = None

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def __len__(self) -> int:
        return len(self.faults)

    def to_frame(self) -> pd.DataFrame:
        """A row a fault, worst first: ``kind``, ``severity``, ``what``, ``found``, ``fix``."""
        names = ["kind", "severity", "what", "found", "fix"]
        return pd.DataFrame([[getattr(fault, name) for name in names] for fault in self.faults], columns=names)

    def overview(self) -> Overview:
        """What was found, and what was measured."""
        rows = tuple((f.severity, f.what, f.found, f.fix) for f in self.faults)
        measured = tuple(self.measured.items())
        forecast = [str(self.forecast)] if self.forecast else []
        return Overview(str(self).splitlines()[0], (Panel(("severity", "what", "found", "what to do"), rows),
                                                    Panel(("measured", "value"), measured, "Measured")), tuple(forecast))  # fmt: skip

    @property
    def sound(self) -> bool:
        """Whether nothing worse than a note was found."""
        return all(fault.severity == "note" for fault in self.faults)

    def of(self, kind: str) -> Fault | None:
        """The first fault of a kind, or None."""
        return next((fault for fault in self.faults if fault.kind == kind), None)

    def require_sound(self) -> None:
        """Raise :class:`UnsoundError` if there is an error, naming the first fix."""
        errors = [fault for fault in self.faults if fault.severity == "error"]
        if errors:
            given = "; ".join(fault.found for fault in errors if fault.found) or None
            raise UnsoundError("the pre-flight check stopped the training: " + "; ".join(fault.what for fault in errors),
                               given=given, todo=f"to mend it: {errors[0].fix}")  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """As the terminal tells it at the start of a training: what was measured, then errors and warnings."""
        told = [f"{name} {value}" for name, value in self.measured.items()]
        told += [str(self.forecast)] if self.forecast else []
        head = f"  pre-flight: {'; '.join(told) or 'images and patients looked at'}"
        return [head, *(f"  {fault}" for fault in self.faults if fault.severity != "note")]

    def __str__(self) -> str:
        head = "pre-flight: " + ("nothing to report" if not self.faults else count(len(self.faults), "finding"))
        told = [f"{name} {value}" for name, value in self.measured.items()]
        return "\n  ".join([f"{head}; {'; '.join(told)}" if told else head, *map(str, self.faults)])

    __repr__ = __str__


class Attempt:
    """Somebody else's code is run: an error of it is kept here and is a finding, whatever its class; Ctrl-C goes on."""

    error: Exception | None = None

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None

    @property
    def said(self) -> str:
        """The first line of the error."""
        return (str(self.error).strip().splitlines() or [type(self.error).__name__])[0][:200]


def worst_first(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: _WORST_FIRST[fault.severity]))


def bytes_in_words(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def shape_of(x: Tensor) -> str:
    return str(tuple(x.shape))
