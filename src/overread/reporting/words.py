"""How pages and figures write estimates, counts and names, and the tables that are made of them."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from overread.core.errors import checked
from overread.core.phrases import count
from overread.evaluation.metrics import ENDINGS, metric_named
from overread.evaluation.operating_point import OperatingPoint
from overread.stats.estimate import Estimate, rounded

NOTHING = "–"
PERCENT = "\u00a0%"  # the sign stays with its number
POINTS = "\u00a0points"


def label(metric: str) -> str:
    """A metric's name as pages write it; differences and gaps after their metric.

    >>> label("auc gap"), label("own measure")
    ('AUC, gap', 'own measure')
    """
    return metric_named(metric).label


def is_percentage(metric: str) -> bool:
    """Whether a metric is written as a percentage.

    >>> is_percentage("sensitivity difference"), is_percentage("auc")
    (True, False)
    """
    return metric_named(metric).unit == "%"


def number(value: float | None, digits: int = 3, most: float = 1.0) -> str:
    """A number with fixed digits, a true minus sign, and a dash for what is not known; ``most`` as :func:`rounded`.

    >>> number(0.9127), number(-1.5, 1), number(None)
    ('0.913', '−1.5', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return rounded(value, digits, most).replace("-", "−")


@checked
def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage.

    >>> percent(0.837).replace("\\xa0", " "), percent(0.9988).replace("\\xa0", " ")
    ('84 %', '99.9 %')
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{number(100 * value, digits, 100)}{PERCENT}"


def share(value: float) -> str:
    """A share that was given, with the digits it needs.

    >>> share(0.05).replace("\\xa0", " "), share(0.0125).replace("\\xa0", " ")
    ('5 %', '1.25 %')
    """
    return f"{100 * value:.3g}{PERCENT}"


def value(estimate: Estimate | None, digits: int = 3) -> str:
    """The estimate's value alone, as its metric is written."""
    if estimate is None or estimate.undefined:
        return NOTHING
    if is_percentage(estimate.metric):
        return number(100 * estimate.value, max(0, digits - 2), 100) + unit(estimate)
    return number(estimate.value, digits)


def interval(estimate: Estimate | None, digits: int = 3, joint: str = " – ") -> str:
    """The estimate's interval alone, ``""`` where there is none; ``to`` in place of a dash beside a minus sign."""
    if estimate is None or estimate.undefined or not math.isfinite(estimate.low):
        return ""
    scale, places = (100, max(0, digits - 2)) if is_percentage(estimate.metric) else (1, digits)
    low, high = (number(scale * edge, places, scale) for edge in (estimate.low, estimate.high))
    return f"{low}{' to ' if low.startswith('−') else joint}{high}"


def unit(estimate: Estimate | None) -> str:
    """The percent sign of metrics that are percentages; percentages differ by points.

    >>> unit(Estimate("sensitivity difference", 0.022)).strip(), unit(Estimate("auc", 0.9))
    ('points', '')
    """
    if estimate is None or not is_percentage(estimate.metric):
        return ""
    return POINTS if estimate.metric.rpartition(" ")[2] in ENDINGS else PERCENT


@checked
def in_sentence(estimate: Estimate | None) -> str:
    """An estimate within a sentence: ``0.91 (95 % interval 0.86 to 0.95)``."""
    between = interval(estimate, 2, " to ")
    if estimate is None or not between:
        return value(estimate, 2)
    return f"{value(estimate, 2)} ({percent(estimate.level)} interval {between}{unit(estimate)})"


def times(how_many: int) -> str:
    """How often.

    >>> times(1), times(3)
    ('once', '3 times')
    """
    return "once" if how_many == 1 else f"{how_many:,} times"


def size(images: int | None, patients: int | None) -> str:
    """How many images of how many patients: what stands on every figure."""
    return f"{count(images, 'image')} of {count(patients, 'patient')}"


@checked
def name(text: object, limit: int = 40) -> str:
    """A name from the data, fit to be shown: no control characters, not too long.

    >>> name("a\\x00b"), name("x" * 50, 5)
    ('a�b', 'xxxx…')
    """
    clean = "".join("�" if unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co") or c in _TURNS else c for c in str(text))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # would reorder the text around them


def sentence(text: object, limit: int = 500) -> str:
    """A text from a file as a sentence: a capital at its start, a full stop at its end.

    >>> sentence("two images are equal")
    'Two images are equal.'
    """
    clean = name(text, limit).strip()
    clean = clean[:1].upper() + clean[1:]
    return clean if not clean or clean.endswith((".", "!", "?", "…")) else clean + "."


def group(of: str, names: tuple[str, ...] = (), limit: int = 60) -> str:
    """A class, or the positive group, in words; ``names`` are the classes, which may themselves hold a plus sign.

    >>> group("mel+bcc+akiec"), group("HER2+", ("HER2+", "HER2-"))
    ('mel, bcc or akiec', 'HER2+')
    """
    parts = [name(part) for part in ([of] if of in names else of.split("+"))]
    parts = [f"class {part}" if part.isdigit() else part for part in parts]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]
    return name(text, limit)


@checked
def case_key(case: str, salt: str) -> str:
    """A short key that stands for a case where its name must not be shown (8 hexadecimal digits).

    >>> len(case_key("ISIC_0027419", "salt"))
    8
    """
    return hashlib.blake2b(case.encode(), key=salt.encode()[:64], digest_size=4).hexdigest()


@checked
def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> duration(45), duration(605), duration(9000)
    ('45 seconds', '10 minutes', '2 h 30 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 90:
        return count(round(seconds), "second")
    if seconds < 5400:
        return count(round(seconds / 60), "minute")
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


@dataclass(frozen=True)
class Table:
    """A table of texts. The columns from ``numbers_from`` on are set as numbers, to the right.

    ``kind``: ``"results"`` (measure, value, interval, then words), ``"pairs"`` (what and which), or ``""``. ``marks``: the
    column whose cells stand as marks (error, warning, note, sound, not sound).
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1
    kind: str = ""
    marks: int = -1


def markdown(text: object, limit: int = 1500) -> str:
    """Text from the data, in one line, with what Markdown or HTML would act on escaped."""
    one_line = name(str(text).replace("\n", " "), limit)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    lines = [f"| {' | '.join(map(markdown, head))} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(markdown, row))} |" for row in rows)])


def cell(estimate: Estimate | None, digits: int = 2, joint: str = " – ") -> str:
    """Value and interval in one cell of a table; of what is undefined its reason."""
    if estimate is None:
        return NOTHING
    if estimate.undefined:
        return estimate.undefined
    between = interval(estimate, digits, joint)
    return f"{value(estimate, digits)} ({between})" if between else value(estimate, digits)


def first_of(many: Sequence[object], most: int, noun: str = "") -> str:
    """What a caption says where only ``most`` of ``many`` are drawn; ``""`` where all are.

    >>> first_of("abc", 2), first_of("ab", 2)
    (' The first 2 of 3 are drawn.', '')
    """
    return f" The first {most} of {len(many)}{noun} are drawn." if len(many) > most else ""


def points_table(
    points: Iterable[OperatingPoint], names: Iterable[str], head: tuple[str, ...], caption: str, digits: int = 1
) -> Table:
    """Operating points, one a row: name, threshold, rule, sensitivity and specificity on tuning data."""
    rows = tuple(
        (of, number(p.threshold), name(p.rule, 120), percent(p.sensitivity, digits), percent(p.specificity, digits))
        for of, p in zip(names, points)
    )
    return Table(caption, head, rows)
