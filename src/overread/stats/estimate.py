"""An estimate: a value with its interval, how it was made, and from how many patients."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from overread.errors import checked, require


@dataclass(frozen=True)
class Estimate:
    """One number of a report.

    ``value``, ``low``, ``high`` are NaN where undefined, and then ``undefined`` says why. ``level`` is the
    confidence of the interval. ``of`` is the class or finding, ``where`` the subgroup.
    """

    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = 0.95
    method: str = ""
    images: int = 0
    patients: int = 0
    of: str = ""
    where: dict[str, str] = field(default_factory=dict, hash=False)
    undefined: str = ""

    def __str__(self) -> str:
        if self.undefined:
            return f"undefined ({self.undefined})"
        if math.isnan(self.low):
            return f"{self.value:.3f} (no interval)"
        joint = "–" if self.low >= 0 else " to "  # no dash before a minus
        return f"{self.value:.3f} ({self.low:.3f}{joint}{self.high:.3f})"


@checked
def undefined(metric: str, why: str, *, of: str = "", images: int = 0, patients: int = 0) -> Estimate:
    """An estimate without a value, and its reason.

    >>> print(undefined("auc", "0 positives"))
    undefined (0 positives)
    """
    require(bool(why), "an undefined estimate needs its reason")
    return Estimate(metric, math.nan, of=of, images=images, patients=patients, undefined=why)
