"""What results keep in files, and how it comes back: JSON knows neither NaN nor infinity, and a curve needs few points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked
from overread.core.files import build, fingerprint, read_json
from overread.stats.estimate import Difference, Estimate
from overread.stats.hypotheses import Claim

#: Points of a stored curve, at most.
POINTS = 500
#: Fields of estimates, differences, claims and contrasts that are numbers: there null is NaN.
NUMBERS = ("value", "low", "high", "error", "statistic", "p", "adjusted", "freedom")


class Alike:
    """Results that are equal where their content is, and print as their table."""

    def __str__(self) -> str:
        return self.table()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.digest == other.digest

    def __hash__(self) -> int:
        return int(self.digest, 16)

    @property
    def digest(self) -> str:
        """Hash of the content, in hexadecimal."""
        return fingerprint(self)

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        raise NotImplementedError


@checked
def read_results(folder: str | Path, name: str, keys: Sequence[str], what: str) -> tuple[list[Any], dict[str, Any]]:  # fmt: skip
    """The list in ``metrics.json`` and the object in ``<name>.json``, which must have all ``keys``.

    Raises :class:`InputError`, naming ``what`` is damaged, if a file is missing or holds something else.
    """
    metrics, held = (read_json(Path(folder) / f"{n}.json") for n in ("metrics", name))
    if not isinstance(metrics, list) or not isinstance(held, dict) or not {*keys} <= {*held}:
        raise damaged(what, folder)
    return metrics, held


@checked
def damaged(what: str, folder: str | Path) -> InputError:
    """The error for results that cannot be read back."""
    return InputError(f"the {what} is damaged", given=str(folder), todo="run the command that made it again")


@checked
def with_nan(held: Any, numbers: Sequence[str] = NUMBERS) -> Any:
    """JSON with NaN where one of ``numbers`` is null, and tuples in place of lists.

    >>> with_nan({"value": None, "undefined": "", "bound": [1]})
    {'value': nan, 'undefined': '', 'bound': (1,)}
    """
    if isinstance(held, dict):
        return {k: math.nan if v is None and k in numbers else with_nan(v, numbers) for k, v in held.items()}
    return tuple(with_nan(v, numbers) for v in held) if isinstance(held, (list, tuple)) else held


@dataclass(frozen=True)
class _Estimates:
    """Read together, because to prepare the reading of one takes milliseconds."""

    estimates: tuple[Estimate, ...]


@checked
def estimates(held: list[Any], where: str = "metrics.json") -> tuple[Estimate, ...]:
    """The estimates of a file, in order. Raises :class:`InputError` for anything else."""
    return tuple(build(_Estimates, {"estimates": with_nan(held)}, where=where).estimates)


@checked
def difference_again(found: Difference) -> Difference:
    """A difference from JSON with the infinite statistic that it had: one without any spread has p = 0."""
    if found.p == 0 and math.isnan(found.statistic):
        return replace(found, statistic=math.copysign(math.inf, found.difference.value))
    return found


@checked
def claim_again(found: Claim) -> Claim:
    """A claim from JSON with the infinite statistic that it had."""
    if found.p in (0, 1) and math.isnan(found.statistic):
        return replace(found, statistic=math.inf if found.p == 0 else -math.inf)
    return found


@checked
def drawn(x: NDArray[np.float64], y: NDArray[np.float64], most: int = POINTS) -> NDArray[np.int64]:
    """Positions, at most ``most``, that are enough to draw a curve (N,): where it turns, first and last included.

    >>> drawn(np.array([0.0, 0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0, 1.0, 1.0]))
    array([0, 2, 4])
    """
    at = np.flatnonzero(np.concatenate(([True], (np.diff(x) != 0) | (np.diff(y) != 0)))[: len(x)])  # no point twice
    dx, dy = np.diff(x[at]), np.diff(y[at])
    turn = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-15
    at = at[np.concatenate(([True], turn, [True]))[: len(at)]]
    return at[np.unique(np.linspace(0, len(at) - 1, min(len(at), most)).round().astype(int))]
