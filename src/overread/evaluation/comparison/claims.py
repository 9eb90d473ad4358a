"""Claims with a margin that was declared before the test set was opened, and the proof that it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, checked, nearest, one_of, require
from overread.core.files import plain
from overread.evaluation.ledger import is_declaration, looks_at, record_declaration, record_look, verify
from overread.evaluation.metrics import shown
from overread.predictions import KnownTruth
from overread.stats.estimate import Estimate
from overread.stats.hypotheses import Claim, equivalence, non_inferiority, superiority

#: One ledger, several of which the first is the study's own, or none.
Ledgers = str | Path | Sequence[str | Path] | None
#: Whether a claim was declared, why, and what else was claimed.
Standing = tuple[bool, str, tuple[str, ...]]
NOT_ASKED: Standing = (False, "", ())
CLAIMS = ("non-inferiority", "equivalence", "superiority")
#: What a margin can be of. More is better in each.
METRICS = tuple(m.name for m in shown("margin"))


@dataclass(frozen=True)
class Declaration:
    """What a study sets out to show: of which metric (and class ``of``), by which margin, at which one-sided alpha."""

    metric: str
    margin: float
    claim: str = "non-inferiority"
    alpha: float = 0.025
    of: str = ""

    def __post_init__(self) -> None:
        one_of(self.metric, METRICS, "the metric of a margin")
        one_of(self.claim, CLAIMS, "the claim")
        least = self.margin >= 0 if self.claim == "superiority" else self.margin > 0
        require(least and self.margin < 1, "margin must lie between 0 and 1", given=self.margin)
        require(0 < self.alpha < 0.5, "alpha must lie between 0 and .5", given=self.alpha)

    @classmethod
    def read(cls, margin: float, margin_of: str, claim: str = "non-inferiority", level: float = 0.95) -> Declaration:
        """From a study's fields: ``margin_of`` is a metric, or ``metric:class``; alpha fits the interval's ``level``."""
        metric, _, of = margin_of.partition(":")
        return cls(metric.strip(), margin, claim, round((1 - level) / 2, 12), of.strip())

    def __str__(self) -> str:
        of = f" of {self.of}" if self.of else ""
        return f"{self.claim} of {self.metric}{of}, margin {self.margin:g}, one-sided α {self.alpha:g}"


@dataclass(frozen=True)
class Verdict:
    """A claim met with the data. ``declared``: it stood in the ledger before the first look at this test set.

    ``why`` says when, or why not; ``others`` are other claims that were declared or asked of this test set.
    """

    claim: Claim
    declared: bool
    why: str
    others: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """What stands beside the claim wherever it is shown."""
        return "pre-declared" if self.declared else "not pre-declared (post hoc)"

    def __str__(self) -> str:
        return f"{self.status}: {self.claim}; {self.why}"


@checked
def declare(ledger: str | Path, declaration: Declaration) -> bool:
    """Write down, before the test set is opened, what is to be shown.

    False, and nothing written, if the last declaration of the same metric and class was the same. Raises :class:`UnsoundError` if the ledger
    has been cut or edited.
    """
    return record_declaration(ledger, plain(declaration))


@checked
def declared_at_first(ledgers: Ledgers, tests: Sequence[str | KnownTruth], declaration: Declaration) -> bool:
    """Declare now, in the first ledger, if nobody has looked at any of ``tests`` yet; False once somebody has."""
    paths = paths_of(ledgers)
    looked = any(looks_at(verify(path), test) for path in paths for test in tests)
    return bool(paths) and not looked and declare(paths[0], declaration)


@checked
def paths_of(ledgers: Ledgers) -> tuple[Path, ...]:
    """The files of ledgers, each once."""
    several = () if ledgers is None else (ledgers,) if isinstance(ledgers, (str, Path)) else ledgers
    return tuple({Path(path).resolve(): Path(path) for path in several}.values())


@checked
def look(
    ledgers: Ledgers, tests: Sequence[str | KnownTruth], wanted: Declaration | None, *, model: str,
    threshold: float | Sequence[float | str] | None, predictions: str,
) -> tuple[int, Standing]:  # fmt: skip
    """Write a look at ``tests`` (tables or hashes) into every ledger: how many came before, and how the claim stands.

    Call it when everything has been computed and nothing was shown: what cannot be computed is no look. A claim is
    declared first, if nobody has looked yet. Raises :class:`UnsoundError` if a ledger was cut or edited.
    """
    paths = paths_of(ledgers)
    if wanted:
        declared_at_first(paths, tests, wanted)
    stands = standing(paths, tests, wanted) if wanted else NOT_ASKED
    asked = plain(wanted) if wanted else None
    looks = [record_look(path, model, threshold, predictions, test=test, asked=asked) for path in paths for test in tests]  # fmt: skip
    return max(looks, default=0), stands


@checked
def standing(ledgers: Ledgers, tests: Sequence[str | KnownTruth], declaration: Declaration) -> Standing:
    """Whether a claim was declared before the first look at any of ``tests``, why, and what else was claimed.

    The declaration that counts is the last one in the first ledger before that look, for the same metric and class;
    another ledger must hold no earlier look. Call it before the look itself is written down.
    """
    paths = paths_of(ledgers)
    if not paths:
        return False, "no ledger was kept", ()
    entries, *beside = (verify(path) for path in paths)
    looks, other = ([e for held in several for test in tests for e in looks_at(held, test)] for several in ([entries], beside))  # fmt: skip
    first = min((e["entry"] for e in looks), default=len(entries) + 1)
    same = [e for e in entries if is_declaration(e) and _subject(e["declaration"]) == _subject(plain(declaration))]  # fmt: skip
    before = [e for e in same if e["entry"] < first and not any(o["when"] < e["when"] for o in other)]
    asked = (e["asked"] for e in (*looks, *other) if e.get("asked"))
    others = _others([*(e["declaration"] for e in same), *asked], declaration)
    if not before:
        late = "declared only after" if same else "nothing was declared before"
        return False, f"{late} the first look at this test set", others
    if before[-1]["declaration"] != plain(declaration):
        return False, f"declared was: {_read(before[-1]['declaration'])}", others
    return True, f"declared {before[-1]['when']}, before the first look (entry {before[-1]['entry']})", others


def _subject(declaration: dict[str, Any]) -> tuple[Any, Any]:
    return declaration.get("metric"), declaration.get("of")


def _others(found: Sequence[dict[str, Any]], declaration: Declaration) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_read(d) for d in found if d != plain(declaration)))


def _read(declaration: dict[str, Any]) -> str:
    return str(Declaration(**declaration))


@checked
def met(difference: Estimate, declaration: Declaration) -> Claim:
    """The claim against the difference's interval: new minus old, more is better."""
    by = {"non-inferiority": non_inferiority, "equivalence": equivalence, "superiority": superiority}
    return by[declaration.claim](difference, declaration.margin, alpha=declaration.alpha)


@checked
def subject(declaration: Declaration, names: Sequence[str], primary: str) -> tuple[str, str]:
    """The metric and the class that a declaration is about: its own, the primary one, or the only one of ``names``.

    Raises :class:`InputError` if there is none, or several and none is named.
    """
    metric, of = declaration.metric, declaration.of
    if metric == "macro auc":
        return metric, ""
    require(bool(names), "a quantity has no such margin", given=metric)
    found = of or primary or (names[0] if len(names) == 1 else "")
    if found in names:
        return metric, found
    todo = nearest(of, names) if of else f"say of which, such as {metric}:{names[0]}"
    raise InputError("the margin is of nothing that is compared", given=f"{metric} of {of or 'no class'}", todo=todo)
