"""The known cases of a run that an image is likened to: found by its index, shown small, named by nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from overread.cases.cases import Cases, paths
from overread.core.errors import InputError, OverreadError, checked
from overread.core.files import plain
from overread.learning.model import Model
from overread.reporting.shown_cases import as_address
from overread.reporting.thumbnails import thumbnails
from overread.retrieval.index import Index
from overread.retrieval.precision import FIRST, PREVALENCE
from overread.serving.rest import Neighbour, Reliability, SimilarAnswer, picked
from overread.stats.estimate import Estimate
from overread.study.context import RunContext
from overread.study.question import Study

#: Said where the images of the known cases are not where the table says.
NO_PICTURES = "there are no pictures: the images of the known cases are not where the run's table says"


@dataclass(frozen=True, eq=False)
class KnownCases:
    """The index of a run, and where the images of its cases lie: ``addresses`` of the first image of each."""

    index: Index
    addresses: dict[str, str]

    @classmethod
    def open(cls, run: Path, model: Model) -> Self | None:
        """What ``run/index`` holds; None where there is none. Raises :class:`InputError` where it is damaged or another's."""
        if not (run / "index" / "index.json").is_file():
            return None
        index = Index.load(run / "index", model)
        addresses: dict[str, str] = {}
        with suppress(OverreadError):  # the table has moved, or changed: there are no pictures then
            cases = RunContext(Study.load(run / "study.toml"), run).cases()
            for case, address in zip(cases.table["case"], paths(cases), strict=True):
                addresses.setdefault(str(case), str(address))
        return cls(index, addresses)

    @checked
    def similar(self, asked: Cases, k: int, digits: int, **work: Any) -> SimilarAnswer:
        """The ``k`` nearest known cases of the one that is asked about; never the same patient, where DICOM names one, nor a copy.

        ``work``: as :meth:`overread.retrieval.index.Index.ask` takes it; fingerprints of what was sent are kept in its
        ``cache``, which goes with the request.
        """
        query = self.index.ask(asked, **work)
        found = self.index.search_asked(query, k)
        table, about = found.table, self.index.about
        pictures = thumbnails([self.addresses.get(case, "") for case in table["neighbour"]], covered=True)
        neighbours = [
            picked(Neighbour, {"rank": int(rank), "label": str(label), "source": str(source), "distance": float(distance),
                               "thumbnail": as_address(picture)}, digits)
            for rank, label, source, distance, picture in zip(table["rank"], table["label"], table["source"], table["distance"], pictures, strict=True)
        ]  # fmt: skip
        told = [picked(Reliability, {**plain(each), "part": each.where.get("part", "")}, digits) for each in _test_first(about.precision)
                if each.metric.endswith(f"@{FIRST}") or each.metric == PREVALENCE]  # fmt: skip
        far = {"distance": float(self.index.novelty_of(query)[0]), "limit": self.index.novelty_limit}
        return picked(SimilarAnswer, {"layer": about.layer, "measure": about.distance, "cases": len(self.index), "patients": about.patients,
                                      "neighbours": plain(neighbours), "reliability": plain(told), "notes": [*about.notes, *([] if self.addresses else [NO_PICTURES])], **far}, digits)  # fmt: skip


def _test_first(judged: Sequence[Estimate]) -> list[Estimate]:
    """Those of the test part, which chose nothing, before those of the tuning part."""
    return sorted(judged, key=lambda each: each.where.get("part") != "test")


@checked
def known_cases(run: Path | None, model: Model) -> tuple[KnownCases | None, str]:
    """The known cases of a run, or None and why there are none to show."""
    if run is None:
        return None, "there is no run"
    try:
        found = KnownCases.open(run, model)
    except InputError as error:
        return None, error.what
    return found, "" if found else "the run has no index; its operator makes one: overread similar RUN --build-only"
