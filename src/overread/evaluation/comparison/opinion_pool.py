"""Several systems as one, from their tables of predictions alone: the mean of what they say, each by its share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.files import fingerprint
from overread.core.identifiers import among
from overread.evaluation.operating_point import SEEN, settled
from overread.predictions import Predictions

#: How often the greedy choice of members may take one.
MOST_DRAWS = 20


@checked
def choose_shares(tuning: Mapping[str, Predictions]) -> dict[str, float]:
    """The share of each system in their weighted mean, by their predictions of the same tuning cases; not chosen: 0.

    Greedy with replacement, from the best system on (:func:`greedy_shares`); the score is the mean AUC (of a quantity
    minus the mean squared error). Only the cases that stand in every table, with a known truth, count. Raises
    :class:`InputError` where there are none.

    >>> frame = pd.DataFrame({"case": list("abcd"), "label": ["ill", "well"] * 2, "p:ill": [0.9, 0.6, 0.4, 0.2]})
    >>> one = Predictions.from_frame(frame, ("ill",))
    >>> other = one.with_scores(np.array([[0.5], [0.1], [0.9], [0.8]]))
    >>> choose_shares({"one": one, "other": other})
    {'one': 0.5, 'other': 0.5}
    """
    require(len(tuning) > 0, "an ensemble needs a system")
    tables = on_shared_cases(tuning)
    first = next(iter(tables.values()))
    known = first.known
    if not known.any():
        raise InputError("no tuning case has a known truth, so no weights can be chosen", given=f"{len(first):,} cases")
    labels, task = first.truth[known], first.target.task
    outputs = [table.scores[known] for table in tables.values()]
    require_finite = all(np.isfinite(each).all() for each in outputs)
    if not require_finite:
        raise InputError(
            "weights cannot be chosen from scores that are not finite", todo="predict the tuning cases again"
        )

    def score(mean: NDArray[np.float64]) -> float:
        return task.answer_score(mean, labels)

    best = int(np.argmax([score(each) for each in outputs]))
    return dict(zip(tables, greedy_shares(outputs, score, best), strict=True))


@checked
def greedy_shares(
    outputs: Sequence[NDArray[np.float64]], score: Callable[[NDArray[np.float64]], float], first: int = 0
) -> tuple[float, ...]:
    """The share of each of M systems, by their outputs (N, K) on cases that none has seen.

    From ``first`` on, whichever system raises the ``score`` of the mean most is added, again and again, until none does
    (Caruana 2004, "Ensemble selection from libraries of models", section 2.1 and 2.3). Not chosen: 0.
    """
    counts = np.zeros(len(outputs), int)
    counts[first] = 1
    total = outputs[first].astype(np.float64)
    best = score(total)
    while counts.sum() < MOST_DRAWS:
        tried = [score((total + each) / (int(counts.sum()) + 1)) for each in outputs]
        which = int(np.argmax(tried))
        if tried[which] <= best + 1e-6:
            break
        total, best, counts[which] = total + outputs[which], tried[which], counts[which] + 1
    return tuple(float(count) / float(counts.sum()) for count in counts)


@checked
def pooled(systems: Mapping[str, Predictions], shares: Mapping[str, float]) -> Predictions:
    """The weighted mean of the probabilities (or quantities) of several systems on the cases that stand in every table.

    The linear opinion pool (Stone 1961); of a quantity the mean of the values. ``shares`` add up to 1; a system without
    one counts nothing. A patient whom any member has seen is ``seen`` in the column ``split``. Raises :class:`ArgumentError` for other shares, and what :func:`on_shared_cases` does.
    """
    given = [name for name in systems if shares.get(name, 0.0) > 0]
    require(len(given) > 0, "no system has a share")
    total = sum(shares[name] for name in given)
    require(abs(total - 1) < 1e-6, "shares must add up to 1", given=f"{total:g}")
    tables = on_shared_cases(systems)
    first = tables[given[0]]
    mean = np.sum([shares[name] * tables[name].scores for name in given], axis=0)
    made = first.with_scores(mean if first.target.task.continuous else settled(mean))
    made = replace(made, table=made.table.assign(split=_seen_by_any([tables[name] for name in given])))
    if first.by is None:
        return made
    models = [[name, shares[name], by.model if (by := tables[name].by) else ""] for name in given]
    return replace(made, by=replace(first.by, model=fingerprint(models)))


def _seen_by_any(tables: Sequence[Predictions]) -> pd.Series:
    """The column ``split`` of the first table, ``seen`` where another says, or its model knows, that it has seen the patient.

    The models hash whom they have seen each with a salt of its own, so that their lists cannot be joined; a patient who may
    be one of them counts too.
    """
    split = tables[0].table["split"]
    for table in tables:
        seen = table.table["split"].isin(SEEN).to_numpy()
        if table.by is not None:
            seen = seen | (among(table.patients, table.by.seen, table.by.salt, table.identifiers) != "").to_numpy()
        split = split.mask(seen & ~split.isin(SEEN).to_numpy(), "seen")
    return split


@checked
def on_shared_cases(systems: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Each table's rows of the cases that stand in all, in the order of the first.

    Raises :class:`InputError` where none does, or the tables ask different things, :class:`UnsoundError` where they
    differ in the truth.
    """
    first = next(iter(systems.values()))
    shared = set.intersection(*(set(table.table["case"]) for table in systems.values()))
    if not shared:
        given = ", ".join(f"{name} {len(table):,}" for name, table in systems.items())
        raise InputError(
            "the systems have no case in common", given=given[:200], todo="predict the same cases with each"
        )
    order = [case for case in first.table["case"] if case in shared]
    found = {}
    for name, table in systems.items():
        alike = table.in_order_of(first)
        if alike.target.names != first.target.names:
            raise InputError("the systems predict different things", given=f"{', '.join(first.target.names)}; {name}: {', '.join(table.target.names)}"[:200])  # fmt: skip
        found[name] = alike.take(pd.Index(table.table["case"]).get_indexer(pd.Index(order)))
    truth = next(iter(found.values())).truth
    for name, table in found.items():
        if not np.array_equal(table.truth, truth, equal_nan=truth.dtype.kind == "f"):
            raise UnsoundError("the same cases have different labels in two systems", given=name,
                               todo="predict them from one table")  # fmt: skip
    return found
