"""A decision rule for several classes: chosen on tuning data, frozen, and refused on the patients it was chosen on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, checked, require
from overread.core.files import build, read_json, write_json
from overread.evaluation.operating_point import OperatingPoint, refuse_seen
from overread.predictions import Predictions
from overread.stats.estimate import Estimate
from overread.stats.multiclass_rules import calls

#: How the most probable class is called where a rule is named.
LARGEST = "largest probability"


@dataclass(frozen=True)
class TriedRule:
    """A rule that was tried on tuning data: what it would call is judged on patients that it was not fitted on.

    ``score`` is its balanced accuracy there (or its mean cost), ``gain`` what it adds to argmax, with the interval
    of a paired difference by patient.
    """

    rule: str
    said: str
    score: Estimate
    gain: Estimate


@dataclass(frozen=True)
class ClassDecision(Shown):
    """Call a case with the probabilities p the class j with the largest Σ_k p_k ``gains[k][j]``, of equals the first.

    ``names`` are the classes, rows and columns of ``gains`` in their order. ``rule``: ``argmax``, ``prior``,
    ``thresholds`` or ``cost``; ``said``: the same in words, ``why`` it was chosen. ``tried``: every rule that was looked
    at, argmax first. ``seen`` are the salted hashes of the tuning patients, ``cases`` those of the cases with their
    labels.
    """

    names: tuple[str, ...]
    gains: tuple[tuple[float, ...], ...]
    rule: str
    said: str
    why: str
    chosen_on: str
    tried: tuple[TriedRule, ...] = ()
    seen: tuple[str, ...] = ()
    salt: str = ""
    cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.names)
        square = len(self.gains) == size and all(len(row) == size for row in self.gains)
        require(square and bool(np.isfinite(np.array(self.gains)).all()),
                "the gains of a decision rule must be a number for each pair of classes", given=f"{size} classes")  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """A row a rule that was tried, argmax first: ``rule``, ``said``, ``score`` and ``gain`` with ``gain low``, ``gain high``."""
        rows = [{"rule": t.rule, "said": t.said, "score": t.score.value, "gain": t.gain.value, "gain low": t.gain.low,
                 "gain high": t.gain.high} for t in self.tried]  # fmt: skip
        return pd.DataFrame(rows, columns=["rule", "said", "score", "gain", "gain low", "gain high"])

    def overview(self) -> Overview:
        """The rule, why it was chosen, and what every rule reached that was tried."""
        rows = tuple((t.said, str(t.score), str(t.gain)) for t in self.tried)
        return Overview(str(self), (Panel(("rule", "on tuning data", "above argmax"), rows),))

    @property
    def moves(self) -> bool:
        """Whether another class than the most probable may be called."""
        return self.rule != "argmax"

    @property
    def called_by(self) -> str:
        """The rule as it stands beside what was called by it."""
        return f"{self.said}, frozen on tuning data" if self.moves else LARGEST

    def __str__(self) -> str:
        return f"called by {self.called_by} ({self.why})"

    def calls(self, scores: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.int64]:
        """(N,) the class called for scores (N, K) of the classes ``names``. Raises :class:`InputError` for other classes."""
        if set(names) != set(self.names):
            raise InputError("the decision rule was chosen for other classes", given=", ".join(names)[:200],
                             todo=f"choose it on tuning predictions of the same classes; it knows {', '.join(self.names)[:200]}")  # fmt: skip
        order = [self.names.index(name) for name in names]
        return calls(scores, np.array(self.gains)[np.ix_(order, order)])

    def costs(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(K, K) what each call (columns) costs for each truth (rows) of ``names``, where the rule is by cost."""
        order = [self.names.index(name) for name in names]
        return -np.array(self.gains)[np.ix_(order, order)]

    def save(self, path: str | Path) -> Path:
        """Write as JSON."""
        return write_json(path, self)

    @classmethod
    def load(cls, path: str | Path) -> ClassDecision:
        """Read it from its own file or from an ``operating.json``. Raises :class:`InputError` where there is none."""
        found = _decisions(path)
        if not found:
            raise InputError(f"{Path(path).name} holds no decision rule", given=str(path),
                             todo="judge with tuning predictions, which choose one: --tuning tuning.csv")  # fmt: skip
        return found[0]


#: What is chosen on tuning data and frozen.
Frozen: TypeAlias = OperatingPoint | ClassDecision


@checked
def load_frozen(path: str | Path) -> tuple[Frozen, ...]:
    """Everything that an ``operating.json`` holds, or a file of one point or rule. Raises :class:`InputError` if it is
    missing or damaged."""
    held = read_json(path)
    listing = held if isinstance(held, list) else [held]
    return tuple(
        build(ClassDecision if _is_decision(entry) else OperatingPoint, entry, where=Path(path).name, null_is_nan=True)
        for entry in listing
    )


@checked
def load_operating_points(path: str | Path) -> tuple[OperatingPoint, ...]:
    """The operating points alone of what :func:`load_frozen` reads."""
    return parted(load_frozen(path))[0]


def _decisions(path: str | Path) -> list[ClassDecision]:
    return [item for item in load_frozen(path) if isinstance(item, ClassDecision)]


def _is_decision(entry: object) -> bool:
    return isinstance(entry, dict) and "gains" in entry


@checked
def refuse_tuned(test: Predictions, frozen: Iterable[Frozen]) -> None:
    """Raise :class:`UnsoundError` if patients or cases of ``test`` were among those that any of it was chosen on."""
    for item in frozen:
        what = "decision rule" if isinstance(item, ClassDecision) else "threshold"
        refuse_seen(test, item.seen, item.salt, f"to choose the {what}", item.cases)


@checked
def thresholds_of(frozen: Iterable[Frozen]) -> list[float | str]:
    """What a ledger keeps of them: thresholds, and the decision rule in words."""
    return [item.called_by if isinstance(item, ClassDecision) else item.threshold for item in frozen]


@checked
def parted(at: Frozen | Iterable[Frozen] | None) -> tuple[tuple[OperatingPoint, ...], ClassDecision | None]:
    """The operating points, and the one decision rule, of what is given together. Raises :class:`ArgumentError` for two
    rules."""
    given = (at,) if isinstance(at, (OperatingPoint, ClassDecision)) else tuple(at or ())
    rules = [item for item in given if isinstance(item, ClassDecision)]
    require(len(rules) < 2, "classes are called by one rule", given=" and ".join(rule.said for rule in rules))
    return tuple(item for item in given if isinstance(item, OperatingPoint)), next(iter(rules), None)
