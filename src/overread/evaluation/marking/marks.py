"""Marks on images against lesions: how many were found at so many false alarms per image, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.errors import InputError, checked, require
from overread.evaluation.ledger import looked, record_look, verify
from overread.evaluation.marking.tables import Marks, read_marks
from overread.evaluation.stored import Alike, drawn, estimates, read_results
from overread.record import fingerprint, plain, write_json
from overread.stats.arrays import distinct
from overread.stats.estimate import Estimate
from overread.stats.localisation import CAMELYON16, LUNA16, afroc_area, froc, froc_curve

__all__ = ["BAND", "RATES", "Localisation", "Marks", "judge_marks", "read_marks"]

#: Whose rates of false positives per image the mean sensitivity is taken over.
RATES = {"camelyon16": CAMELYON16, "luna16": LUNA16}
#: Points of the band of a stored curve.
BAND = 25


@dataclass(frozen=True, eq=False)
class Localisation(Alike):
    """What marks on images found: estimates by reader (``where["reader"]``), the FROC curve of each, and counts."""

    estimates: tuple[Estimate, ...]
    curves: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    looks: int = 0
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """``result["mean sensitivity"]``, or ``result["mean sensitivity", "reader 2"]``."""
        metric, who = (key, None) if isinstance(key, str) else key
        for e in self.estimates:
            if e.metric == metric and who in (None, e.where.get("reader", "")):
                return e
        raise InputError(
            f"there is no {metric!r}", given=", ".join(dict.fromkeys(e.metric for e in self.estimates))
        )

    def __repr__(self) -> str:
        return f"localisation on {self.counts.get('images', 0):,} images, {len(self.estimates):,} estimates"

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        from overread.evaluation.comparing.table import aligned, counted

        c = self.counts
        head = f"{counted(c['images'], 'image')} of {counted(c['patients'], 'patient')}, {counted(c['lesions'], 'lesion')}"
        lines = [
            head + looked(self.looks),
            *(f"caution: {text}" for text in self.cautions),
        ]
        rows = [
            ("reader", "metric", "value (interval)"),
            *((e.where.get("reader", ""), e.metric, str(e)) for e in self.estimates),
        ]
        start = 0 if any(row[0] for row in rows[1:]) else 1
        return "\n".join([*lines, *aligned([row[start:] for row in rows])])

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json`` and ``froc.json``."""
        folder = Path(folder)
        write_json(folder / "froc.json", {name: getattr(self, name) for name in _KEPT})
        write_json(folder / "metrics.json", list(self.estimates))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Localisation:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        metrics, held = read_results(folder, "froc", _KEPT, "localisation")
        kept = {name: held[name] for name in _KEPT} | {"cautions": tuple(held["cautions"])}
        return cls(estimates(metrics), **kept)


_KEPT = ("curves", "counts", "cautions", "looks", "about")


@checked
def judge_marks(
    marks: Marks, *, rates: str | Sequence[float] = "camelyon16", level: float = 0.95, seed: int = 0,
    resamples: int | None = None, ledger: str | Path | None = None,
) -> Localisation:  # fmt: skip
    """FROC of every reader: the sensitivity at ``rates`` of false positives per image, its mean, and the AFROC area.

    ``rates``: ``camelyon16`` (¼, ½, 1, 2, 4, 8), ``luna16`` (⅛ too), or numbers. A lesion counts once, with its highest
    mark; further marks on it are neither hits nor false positives. Intervals: patient bootstrap
    (:mod:`overread.stats.localisation`). ``ledger``: where this look at the lesions is written down.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"reader": "", "image": [0, 1, 1], "score": [0.9, 0.4, 0.5], "hit": [0, 1, -1]})
    >>> found = judge_marks(Marks(2, np.arange(2), np.arange(2), table, "given", ""))
    >>> round(found["mean sensitivity"].value, 4)
    0.9167
    """
    at = _rates(rates)
    if ledger is not None:
        verify(ledger)
    parts = {reader: _judged(marks, reader, at, level, seed, resamples) for reader in marks.readers}
    extra = {reader: _extra(marks.marks[marks.marks["reader"] == reader]) for reader in marks.readers}
    cautions = [f"{sum(extra.values()):,} further marks on lesions that were hit already are ignored"] if any(extra.values()) else []  # fmt: skip
    counts = {"images": marks.images, "patients": distinct(marks.patients), "lesions": len(marks.lesion_image),
              "images with lesions": len(np.unique(marks.lesion_image)),
              "marks": {r: int((marks.marks["reader"] == r).sum()) for r in marks.readers}, "ignored marks": extra}  # fmt: skip
    about = {"level": level, "seed": seed, "rates": list(at), "rates of": rates if isinstance(rates, str) else "given",
             "hits": marks.rule, "test": marks.digest}  # fmt: skip
    estimates = tuple(
        replace(e, where={"reader": r} if r else {}) for r, (found, _) in parts.items() for e in found
    )
    # what could not be computed is no look
    looks = 0 if ledger is None else record_look(ledger, "marks", None, fingerprint(marks.marks.to_dict("list")), test=marks.digest)  # fmt: skip
    return Localisation(
        estimates, plain({r: curve for r, (_, curve) in parts.items()}), counts, tuple(cautions), looks, about
    )


def _rates(rates: str | Sequence[float]) -> tuple[float, ...]:
    if isinstance(rates, str):
        todo = f"choose {' or '.join(RATES)}, or give numbers"
        require(rates in RATES, "rates are not known", given=rates, todo=todo)
        return RATES[rates]
    given = tuple(float(rate) for rate in rates)
    good = bool(given) and all(1e-6 <= rate <= 1e6 for rate in given)
    require(good, "rates of false positives per image must be numbers above 0", given=given, todo="give some, such as 0.5, 1, 2")  # fmt: skip
    return given


def _extra(marks: pd.DataFrame) -> int:
    hits = marks["hit"][marks["hit"] >= 0]
    return int(len(hits) - hits.nunique())


def _judged(
    marks: Marks, reader: str, rates: tuple[float, ...], level: float, seed: int, resamples: int | None
) -> tuple[list[Estimate], dict[str, Any]]:
    own = marks.marks[marks.marks["reader"] == reader]
    given = (
        marks.lesion_image,
        own["image"].to_numpy(),
        own["score"].to_numpy(),
        own["hit"].to_numpy(),
        marks.images,
    )
    grid = _grid(rates)
    found = froc(*given, marks.patients, rates=rates, level=level, resamples=resamples, seed=seed)
    band = froc(*given, marks.patients, rates=grid, level=level, resamples=resamples, seed=seed)[1:]
    areas = [
        afroc_area(*given, marks.patients, weighted=weighted, level=level, resamples=resamples, seed=seed)
        for weighted in (True, False)
    ]
    mean = replace(found[0], metric="mean sensitivity")
    across, up, threshold = froc_curve(*given)
    if not len(across):
        return [mean, *found[1:], *areas], {"undefined": mean.undefined}
    step = drawn(across, up)
    curve = {"false positives per image": across[step], "sensitivity": up[step], "threshold": threshold[step],
             "band": {"false positives per image": grid, "value": [e.value for e in band], "low": [e.low for e in band], "high": [e.high for e in band]}}  # fmt: skip
    return [mean, *found[1:], *areas], curve


def _grid(rates: tuple[float, ...]) -> tuple[float, ...]:
    """Where the band is drawn: evenly on a logarithmic axis, and at the rates themselves."""
    low, high = min(rates) / 2, max(rates)
    return tuple(sorted({*rates, *(float(x) for x in np.geomspace(low, high, BAND))}))
