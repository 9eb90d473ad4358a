"""What REST answers, as types: OpenAPI is made from them, and nothing else leaves the server.

Numbers are rounded: a model can be copied from exact probabilities (Tramèr et al. 2016, "Stealing machine learning
models via prediction APIs"). No answer bears the name of a case, a patient or a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar, cast, get_args

from overread.core.errors import checked
from overread.core.files import build, field_types, plain

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """Why a request was not answered: a code, in words, what to do, and the random id that the audit log has."""

    error: str
    what: str
    todo: str
    id: str


@dataclass(frozen=True)
class Share:
    """A number with its interval; null where it is not known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class AnswerOf:
    """The probability of one outcome (of a quantity its value), and the least and most that an ensemble's members say."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CallOf:
    """The call at one frozen point, with what the point had on the test part."""

    of: str
    positive: bool
    score: float | None
    threshold: float | None
    at: str
    near: bool = False
    sensitivity: Share | None = None
    specificity: Share | None = None


@dataclass(frozen=True)
class CertaintyOf:
    """How sure the model is, in a word, and the margin and entropy behind it."""

    word: str = ""
    margin: float | None = None
    entropy: float | None = None
    of: str = ""


@dataclass(frozen=True)
class NoveltyOf:
    """Whether the case is unlike those of training; null where that was not checked, and ``why``."""

    unlike: bool | None = None
    distance: float | None = None
    limit: float | None = None
    why: str = ""


@dataclass(frozen=True)
class FindingOf:
    """A check of the image that failed: error, warning or note."""

    kind: str
    severity: str
    message: str
    todo: str = ""


@dataclass(frozen=True)
class OpinionAnswer:
    """What the model says of one case; see docs/reference/rest.md. No name of a case, patient or file is in it."""

    kind: str
    answers: list[AnswerOf]
    called: str = ""
    called_by: str = ""
    calls: list[CallOf] = field(default_factory=list)
    certainty: CertaintyOf = field(default_factory=CertaintyOf)
    novelty: NoveltyOf = field(default_factory=NoveltyOf)
    trusted: bool = True
    warnings: list[str] = field(default_factory=list)
    findings: list[FindingOf] = field(default_factory=list)
    seen: str = ""
    unchecked: list[str] = field(default_factory=list)
    ruled_in: list[str] = field(default_factory=list)
    coverage: float | None = None
    calibration: str = ""
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """An image of the case, or a slice of it, as the network sees it, with its map.

    ``image`` and ``overlay``: PNG as data URLs. ``map``: ``height`` × ``width`` bytes in base 64, row by row: 0 to 255 is 0 to
    ``strongest``; of a ``signed`` method 128 is 0, 255 is ``strongest`` and 1 is its negative.
    """

    name: str
    width: int
    height: int
    image: str
    overlay: str
    map: str
    strongest: float | None = None


@dataclass(frozen=True)
class CriterionOf:
    """How a method did by one criterion on a sample of cases of this run; ``passed`` only where the interval says so."""

    criterion: str
    passed: bool
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    cases: int = 0


@dataclass(frozen=True)
class MethodOf:
    """A method of explanation: how it is called, what it shows, its source, and what it was found to be worth here."""

    name: str
    title: str
    words: str
    source: str
    signed: bool = False
    criteria: list[CriterionOf] = field(default_factory=list)


@dataclass(frozen=True)
class ExplainAnswer:
    """Where the network looked, by one method; ``nothing``: the map says nothing for the target."""

    target: str
    probability: float | None
    method: MethodOf
    layer: str
    title: str
    nothing: bool
    verdict: str
    notes: list[str]
    panels: list[Panel]


@dataclass(frozen=True)
class Neighbour:
    """A known case that is alike: its label and source, how far it is, and a small picture (PNG as a data URL, or blank)."""

    rank: int
    label: str
    source: str = ""
    distance: float | None = None
    thumbnail: str = ""


@dataclass(frozen=True)
class Reliability:
    """How often such neighbours had the right label, on patients of the ``part`` ("test", first where it was judged, or
    "tuning"); beside it that of a shuffled index, and the share of the class among the known cases."""

    metric: str
    of: str = ""
    part: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SimilarAnswer:
    """The nearest known cases, nearest first, and how reliable such neighbours are.

    ``distance``: how far the case is from what is known, beside the ``limit`` within which 95 % of tuning patients lie.
    """

    layer: str
    measure: str
    cases: int
    patients: int
    neighbours: list[Neighbour]
    reliability: list[Reliability]
    distance: float | None = None
    limit: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ObjectOf:
    """An object: its number, its class (blank where it has none), where it lies, what was measured, and its outline.

    ``x`` and ``y``: its centre in pixels, from the upper left corner. ``measures``: as `overread measure` names them, in
    pixels. ``pieces``: of each piece its rings, the outer one first, then holes; a ring is a list of ``[x, y]`` corners along
    the edges of pixels, whose last is joined to the first.
    """

    number: int
    of: str
    x: float | None
    y: float | None
    measures: dict[str, float]
    pieces: list[list[list[list[int]]]]


@dataclass(frozen=True)
class OutlineAnswer:
    """The objects that were outlined in one image of ``width`` × ``height`` pixels; nothing names a case or a file."""

    width: int
    height: int
    objects: list[ObjectOf]
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class About:
    """What can be asked here: the task, its outcomes in order, methods of explanation, whether neighbours are shown.

    ``outlines``: the model outlines objects, and is asked by ``/outline`` alone. ``slides``: the run is of whole slides, which ``/slides`` lists. ``whole``: the network sees all of an image, whatever its shape, so that a map lies over all of it.
    """

    version: str
    task: str
    outcomes: list[str]
    volume: bool
    methods: list[MethodOf]
    neighbours: bool
    report: bool
    model_card: bool
    token: bool
    limits: dict[str, float]
    images_seen_together: bool = False
    whole: bool = False
    outlines: bool = False
    slides: bool = False


@dataclass(frozen=True)
class Line:
    """A line of the answer to a batch: the case ``number`` from 1 ``of`` how many, its opinion or why there is none."""

    number: int
    of: int
    opinion: OpinionAnswer | None = None
    error: str = ""
    what: str = ""


@dataclass(frozen=True)
class Health:
    """Whether it answers."""

    status: str = "ok"


@dataclass(frozen=True)
class Session:
    """Whether a token is wanted here; where it is, the answer sets a cookie that stands for it."""

    token: bool
    seconds: int = field(default=0)


@checked
def picked(kind: type[T], value: dict[str, Any], digits: int) -> T:
    """What an answer of ``kind`` may hold of ``value``, and nothing else; numbers rounded to ``digits``.

    >>> picked(NoveltyOf, {"unlike": False, "distance": 0.12345, "limit": float("nan"), "nearest": "patient-7"}, 3)
    NoveltyOf(unlike=False, distance=0.123, limit=None, why='')
    """
    return cast(T, build(kind, _only(kind, rounded(value, digits)), where=kind.__name__))


def _only(kind: Any, value: Any) -> Any:
    """``value`` without the keys that the dataclasses in the annotation ``kind`` do not have."""
    if isinstance(value, list):
        return [_only(kind, item) for item in value]
    if not isinstance(value, dict):
        return value
    of = next((each for each in _kinds(kind)), None)
    return {key: _only(hint, value[key]) for key, hint in field_types(of).items() if key in value} if of else value


def _kinds(hint: Any) -> Iterator[type]:
    """The dataclasses that an annotation names, also within a list or a union."""
    if is_dataclass(hint):
        yield cast(type, hint)
    for inside in get_args(hint):
        yield from _kinds(inside)


@checked
def rounded(value: object, digits: int) -> Any:
    """``value`` as JSON knows it, every number with at most ``digits`` decimals.

    >>> rounded({"p": 0.123456, "n": 3, "of": [float("nan"), True]}, 3)
    {'p': 0.123, 'n': 3, 'of': [None, True]}
    """
    made = plain(value)
    if isinstance(made, float):
        return round(made, digits)
    if isinstance(made, dict):
        return {key: rounded(item, digits) for key, item in made.items()}
    return [rounded(item, digits) for item in made] if isinstance(made, list) else made


@checked
def as_json(value: object) -> bytes:
    """``value`` as one line of JSON."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False).encode()
