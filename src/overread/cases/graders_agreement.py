"""How far readers agree, with intervals, and what that means for a model that is judged against one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.graders import Grades, consensus, in_order, latent_classes
from overread.errors import checked
from overread.stats.agreement import cohen_kappa, specific_agreement
from overread.stats.agreement_panel import ceiling, fleiss_kappa, krippendorff_alpha
from overread.stats.estimate import Estimate

#: Readers whose every pair is compared; more would be a table that nobody reads.
MOST_PAIRED = 10


@checked
def agreement(
    grades: Grades, *, classes: Sequence[str] = (), modality: str = "", level: float = 0.95,
    resamples: int | None = None, seed: int = 0,
) -> list[Estimate]:  # fmt: skip
    """How far readers agree: ``agreement``, ``fleiss kappa``, ``nominal alpha``, ``specific agreement`` of each class,
    ``kappa`` of each pair (ten readers at most), ``ceiling`` and ``panel accuracy``.

    Where classes have an order, also ``ordinal alpha`` and ``quadratic kappa`` of each pair. Intervals are by patient
    where the grades name patients, else by case. Sources: :mod:`overread.stats.agreement` and
    :mod:`overread.stats.agreement_panel`. Raises :class:`InputError` for scores or unknown classes.
    """
    names, cases = list(classes) or list(grades.classes), list(grades.cases)
    ratings, who = grades.ratings(cases, names, modality), grades.patients(cases)
    patients = None if who is None else pd.factorize(who)[0]  # numbers: each statistic numbers them again
    how: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    top = ceiling(ratings, patients, classes=max(len(names), 2), **how)
    ordered = len(names) > 2 and in_order(names)
    alphas = [krippendorff_alpha(ratings, patients, **how)]
    alphas += [krippendorff_alpha(ratings, patients, scale="ordinal", **how)] if ordered else []
    each = specific_agreement(ratings, patients, classes=len(names), **how) if names else []
    each = [replace(found, of=name) for found, name in zip(each, names, strict=True)]
    pairs = _pairs(ratings, patients, grades.readers, max(len(names), 1), ordered, level)
    return [top.agreement, fleiss_kappa(ratings, patients, **how), *alphas, *each, *pairs, top.best, top.panel]  # fmt: skip


def _pairs(
    ratings: NDArray[np.float64], patients: NDArray[Any] | None, readers: Sequence[str], classes: int,
    ordered: bool, level: float,
) -> list[Estimate]:  # fmt: skip
    if len(readers) > MOST_PAIRED:
        return []
    return [
        replace(cohen_kappa(ratings[:, i], ratings[:, j], patients, weights=weights, classes=classes, level=level), of=f"{readers[i]} and {readers[j]}")
        for weights in (("none", "quadratic") if ordered else ("none",))
        for i, j in combinations(range(len(readers)), 2)
    ]  # fmt: skip


@checked
def panel_of(grades: Grades, *, rule: str = "majority", level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """What ``agreement.json`` holds: counts, the estimates of :func:`agreement`, and how the consensus came about.

    ``undecided`` counts cases without a label; ``model`` are prevalence and each reader's confusion (rows: the truth)
    where ``rule`` is ``dawid-skene``.
    """
    made = consensus(grades, rule=rule)
    silent = made["answers"] == 0
    found = {
        "readers": list(grades.readers), "cases": len(made), "answers": int(made["answers"].sum()), "rule": rule,
        "classes": list(grades.classes), "undecided": {"tied": int(made["tied"].sum()), "no answer": int(silent.sum())},
        "estimates": agreement(grades, level=level, seed=seed),
    }  # fmt: skip
    return {**found, "model": _model(grades)} if rule == "dawid-skene" else found


def _model(grades: Grades) -> dict[str, Any]:
    model, names = latent_classes(grades), grades.classes
    return {
        "prevalence": dict(zip(names, model.prevalence.tolist(), strict=True)),
        "confusion": {reader: table.tolist() for reader, table in zip(grades.readers, model.confusion, strict=True)},
        "log likelihood": model.likelihood, "rounds": model.rounds, "converged": model.converged, "doubt": model.doubt,
    }  # fmt: skip


@checked
def spoken(found: dict[str, Any]) -> list[str]:
    """What :func:`panel_of` found, in two lines at most."""
    by_name = {estimate.metric: estimate for estimate in found["estimates"] if not estimate.of}
    lines = [f"{len(found['readers']):,} readers of {found['cases']:,} cases: two agree in {by_name['agreement']}, Fleiss' kappa {by_name['fleiss kappa']}"]  # fmt: skip
    best, panel = by_name["ceiling"], by_name["panel accuracy"]
    if not best.undefined:
        rest = "" if panel.undefined else f"; the majority of the others reaches {panel}"
        lines.append(f"against a single reader no accuracy can pass {best}{rest}")
    return lines
