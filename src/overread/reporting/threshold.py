"""Another threshold, tried on the page: what the stored curve says at each of its stops, for a slider without a server."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from overread.evaluation.curves import Curves
from overread.reporting import words
from overread.reporting.run import Run

_DIGITS = 6  # of a threshold, to be written into a command


@dataclass(frozen=True)
class Stop:
    """A threshold and the calls at it, in images; "" where nobody is flagged."""

    threshold: str
    hits: int
    alarms: int


@dataclass(frozen=True)
class Slider:
    """A yes-or-no question of the test part: its ``stops`` from the highest threshold down, and where it begins (``at``).

    The stored curve has its turns: between two stops either only hits are added or only false alarms.

    ``point``: what the stop where it begins is; ``study``: the position of the study's own point, None where it has none.
    """

    name: str
    positives: int
    negatives: int
    stops: tuple[Stop, ...]
    at: int
    study: int | None
    point: str

    @property
    def shown(self) -> Stop:
        """The stop where it begins."""
        return self.stops[self.at]

    @property
    def missed(self) -> int:
        return self.positives - self.shown.hits

    @property
    def cleared(self) -> int:
        return self.negatives - self.shown.alarms

    @property
    def sensitivity(self) -> str:
        return _share(self.shown.hits, self.positives)

    @property
    def specificity(self) -> str:
        return _share(self.cleared, self.negatives)

    @property
    def ppv(self) -> str:
        return _share(self.shown.hits, self.shown.hits + self.shown.alarms)

    @property
    def npv(self) -> str:
        return _share(self.cleared, self.cleared + self.missed)

    @property
    def prevalence(self) -> str:
        """Of the test part."""
        return _share(self.positives, self.positives + self.negatives)

    def place(self, position: int) -> tuple[str, str]:
        """Where a stop lies on a ROC curve of 100 by 100 units, from the upper left."""
        stop = self.stops[position]
        return f"{100 * stop.alarms / self.negatives:.3f}", f"{100 - 100 * stop.hits / self.positives:.3f}"

    @property
    def line(self) -> str:
        """The curve as the points of an SVG polyline; (0, 0) and (1, 1) are its ends."""
        return " ".join(",".join(self.place(i)) for i in range(len(self.stops)))


def _share(part: int, whole: int) -> str:
    return words.percent(part / whole, 1) if whole else words.NOTHING


def sliders(run: Run) -> tuple[Slider, ...]:
    """One for the question that matters most, else one for each class or finding."""
    found = (_slider(run, of, curve) for of, curve in run.chosen("roc"))
    return tuple(slider for slider in found if slider)


def as_json(found: tuple[Slider, ...]) -> str:
    """The sliders for the script of the page."""
    return json.dumps(
        [{**asdict(s), "stops": [[stop.threshold, stop.hits, stop.alarms] for stop in s.stops]} for s in found],
        separators=(",", ":"),
    )


def _slider(run: Run, of: str, curve: Curves) -> Slider | None:
    """None where the curve does not say how many images it is of."""
    scores, roc = curve.scores, curve.roc
    positives, negatives = sum(scores.positive), sum(scores.negative)
    if not (positives and negatives) or roc.threshold is None:
        return None
    held = {(round(t * positives), round(f * negatives)): at for f, t, at in zip(roc.fpr, roc.tpr, roc.threshold, strict=True)}  # fmt: skip
    point, study = curve.point, None
    if point.confusion:
        study = (point.confusion[1][1], point.confusion[0][1])
        held[study] = point.threshold
    places = sorted(held)
    stops = tuple(Stop(_threshold(held[place]), *place) for place in places)
    if study:
        said = words.name(point.rule, 100) + ("" if point.frozen else ", not frozen on tuning data")
        return Slider(run.called(of), positives, negatives, stops, places.index(study), places.index(study), said)
    half = next((i for i, place in enumerate(places) if held[place] < 0.5), len(places)) - 1
    return Slider(run.called(of), positives, negatives, stops, max(half, 0), None, "no point was chosen for it; this is a score of 0.5 or more")  # fmt: skip


def _threshold(value: float) -> str:
    """Rounded down, so that the score that it was taken from still reaches it."""
    if not math.isfinite(value) or not value:
        return "" if not math.isfinite(value) else "0"
    unit = 10.0 ** (math.floor(math.log10(abs(value))) + 1 - _DIGITS)
    return f"{math.floor(value / unit + 1e-6) * unit:.{_DIGITS}g}"
