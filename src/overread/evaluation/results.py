"""What results keep in files, and how it comes back: JSON knows neither NaN nor infinity, and a curve needs few points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, Union, cast, get_args, get_origin

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, checked, nearest
from overread.core.files import EqualByDigest, build, field_types, read_json, write_json
from overread.stats.estimate import Estimate, estimates_frame, level_text

#: Points of a stored curve, at most.
POINTS = 500

T = TypeVar("T")


class Estimated(Shown):
    """What was found in numbers shows itself by them.

    A subclass has ``estimates``, as a field or made from its fields.
    """

    if TYPE_CHECKING:

        @property
        def estimates(self) -> tuple[Estimate, ...]:
            """The numbers that were found."""

    def to_frame(self) -> pd.DataFrame:
        """A row an estimate, in the columns of :func:`overread.stats.estimate.estimates_frame`."""
        return estimates_frame(self.estimates)

    def overview(self) -> Overview:
        """The estimates over all cases, then those of the subgroups; what must be known before they are believed."""
        whole, groups = ([e for e in self.estimates if bool(e.where) == inside] for inside in (False, True))
        panels = [estimates_panel(whole), estimates_panel(groups, "In subgroups")]
        return Overview(repr(self), tuple(p for p in panels if p.rows), tuple(getattr(self, "cautions", ())))

    def asked(self) -> tuple[Panel, ...]:
        """Its metrics, as keys, with what each is of, and its groups."""
        return (metrics_panel(self.estimates), groups_panel(self.estimates))


class Result(EqualByDigest, Estimated):
    """What a stage of judging found: a frozen dataclass that prints, compares, and saves itself in one file beside its
    estimates.

    A subclass names the :attr:`file` and has ``estimates``, as a field or made from its fields; what stands in the file
    under another form than its field it says in :meth:`held` and takes back in :meth:`restored`.
    """

    #: The file in which everything but the estimates stands, as ``comparison.json``.
    file: ClassVar[str]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        raise NotImplementedError

    @property
    def all(self) -> tuple[Estimate, ...]:
        """Every estimate: what ``metrics.json`` holds."""
        return self.estimates

    def held(self) -> dict[str, Any]:
        """What :attr:`file` holds."""
        return {f.name: getattr(self, f.name) for f in fields(cast("Any", self)) if f.name != "estimates"}

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> Self:
        """The result from what its two files hold."""
        names = {f.name for f in fields(cast("Any", cls))}
        held = {**_with_field_names(cls, held), "estimates": metrics}
        held = {name: value for name, value in held.items() if name in names}
        return cast("Self", build(cls, held, where=cls.file, null_is_nan=True))

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json`` and :attr:`file` into ``folder``."""
        write_json(Path(folder) / self.file, self.held())
        return write_json(Path(folder) / "metrics.json", list(self.all)).parent

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        held, metrics = (read_json(Path(folder) / name) for name in (cls.file, "metrics.json"))
        if not isinstance(metrics, list) or not isinstance(held, dict):
            raise cls.damaged(folder)
        return cls.restored(held, metrics)

    @classmethod
    def damaged(cls, where: str | Path) -> InputError:
        """The error for results that cannot be read back."""
        return InputError(
            f"{cls.file} or its metrics.json is damaged", given=str(where), todo="run the command that made it again"
        )


@checked
def estimates_panel(found: Sequence[Estimate], caption: str = "") -> Panel:
    """Estimates as a table: what, of whom, the value with its interval, and from how many."""
    groups = any(e.where for e in found)
    head = (*(["subgroup"] if groups else []), "metric", "of", f"value ({level_text(found)})", "images", "patients")
    rows = tuple(
        (*([", ".join(f"{k} {v}" for k, v in e.where.items())] if groups else []), e.metric, e.of, str(e), e.images, e.patients)
        for e in found
    )  # fmt: skip
    return Panel(head, rows, caption)


@checked
def metrics_panel(found: Iterable[Estimate], meaning: Callable[[str], str] | None = None) -> Panel:
    """The metrics by which a result can be asked, a row each: the key, its ``meaning`` where it is known, what it is of."""
    by_metric: dict[str, list[Estimate]] = {}
    for e in found:
        by_metric.setdefault(e.metric, []).append(e)
    rows = []
    for metric, held in by_metric.items():
        of = list(dict.fromkeys(e.of for e in held if e.of))
        key = f'["{metric}", "{of[0]}"]' if of else f'["{metric}"]'
        rows.append((key, *([meaning(metric)] if meaning else []), ", ".join(of[:20]) or "all cases"))
    head = ("ask", *(["what it is"] if meaning else []), "of")
    return Panel(head, tuple(rows), "Metrics", most=10**6)


@checked
def groups_panel(found: Iterable[Estimate]) -> Panel:
    """The columns of subgroups, with their values."""
    by_column: dict[str, dict[str, None]] = {}
    for e in found:
        for column, value in e.where.items():
            by_column.setdefault(column, {})[value] = None
    return Panel(("column", "groups"), tuple((c, ", ".join(v)) for c, v in by_column.items()), "Subgroups", most=10**6)


@checked
def lookup(found: Iterable[tuple[str, str, T]], key: str | tuple[str, ...], order: Sequence[str] = ()) -> T:
    """The item under ``metric`` or ``(metric, name)`` among (metric, name, item).

    Without a name it is that of the first name of ``order`` which is there, else the first item of the metric. Raises
    :class:`InputError` naming the nearest.

    >>> lookup([("auc", "mel", 0.9), ("auc", "", 0.8)], "auc", order=[""])
    0.8
    """
    metric, *name = (key,) if isinstance(key, str) else key
    items = list(found)
    same = {of: item for each, of, item in items if each == metric}
    if not same:
        raise InputError(
            f"there is no metric {metric!r}", todo=nearest(metric, dict.fromkeys(each for each, _, _ in items))
        )
    for of in name[:1] or (*order, *same):
        if of in same:
            return same[of]
    raise InputError(f"there is no {metric} of {name[0]!r}", todo=nearest(name[0], same))


@dataclass(frozen=True)
class Tally:
    """How many images of how many patients."""

    images: int = 0
    patients: int = 0


@dataclass(frozen=True)
class Content:
    """What a file holds under some key; false where nothing is there, or where ``undefined`` says why."""

    undefined: str = field(default="", kw_only=True)

    @classmethod
    def from_found(cls, found: object, **more: Any) -> Self:
        """What was computed, by the names of the fields: arrays as tuples, of what is undefined the reason; and ``more``."""
        if reason := getattr(found, "undefined", ""):
            return cls(undefined=reason)
        held = {f.name: getattr(found, f.name) for f in fields(cls) if hasattr(found, f.name)}
        held = {name: tuple(item.tolist()) if isinstance(item, np.ndarray) else item for name, item in held.items()}
        return cls(**held, **more)

    def __bool__(self) -> bool:
        empty = type(self)()
        return not self.undefined and [getattr(self, f.name) for f in fields(self)] != [
            getattr(empty, f.name) for f in fields(self)
        ]


@dataclass(frozen=True)
class Cohort(Tally):
    """Who was judged: images and patients, all, by class (or with the finding); images by source."""

    unlabelled: int = 0
    patients_with_several_images: int = 0
    per_class: dict[str, Tally] = field(default_factory=dict, hash=False)
    sources: dict[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LedgerEntry(Content):
    """Which entry of the ledger a look at the test set is, and its hash."""

    entry: int = 0
    hash: str = ""


@checked
def to_file_form(value: Any) -> Any:
    """Dataclasses as objects whose keys are the words of a name: ``null_low`` stands under ``null low``.

    What has a reason in ``undefined`` is its reason alone, an empty :class:`Content` an empty object; a field that is
    None is left out.

    >>> to_file_form(_Example(1.0)), to_file_form(_Example(1.0, "0 positives"))
    ({'net benefit': 1.0}, {'undefined': '0 positives'})
    """
    if is_dataclass(value) and not isinstance(value, type):
        if reason := getattr(value, "undefined", ""):
            return {"undefined": reason}
        if isinstance(value, Content) and not value:
            return {}
        held = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "undefined"}
        return {name.replace("_", " "): to_file_form(item) for name, item in held.items() if item is not None}
    if isinstance(value, dict):
        return {key: to_file_form(item) for key, item in value.items()}
    return [to_file_form(item) for item in value] if isinstance(value, (list, tuple)) else value


@checked
def from_file_form(kind: type, held: Any, *, where: str = "input") -> Any:
    """A dataclass ``kind`` from what :func:`to_file_form` made: null in a number is NaN, unknown keys are left out.

    So a file opens that another version wrote. Raises :class:`InputError`, which names ``where``, for wrong types.
    """
    return build(kind, _with_field_names(kind, held), where=where, null_is_nan=True)


def _with_field_names(hint: Any, value: Any) -> Any:
    """``value`` with the names of fields for keys wherever the annotation ``hint`` says that a dataclass stands there."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _with_field_names(inside[0], value)
    if isinstance(value, dict):
        if is_dataclass(hint):
            known = field_types(cast("Any", hint))
            names = {key: key.replace(" ", "_").replace("-", "_") for key in value}
            return {n: _with_field_names(known[n], value[key]) for key, n in names.items() if n in known}
        return {k: _with_field_names(inside[1], v) for k, v in value.items()} if origin is dict else value
    if origin in (list, tuple) and isinstance(value, list) and is_dataclass(inside[0]):
        return [_with_field_names(inside[0], item) for item in value]
    return value


@dataclass(frozen=True)
class _Example:
    net_benefit: float
    undefined: str = ""


@dataclass(frozen=True)
class _Estimates:
    """Read together, because to prepare the reading of one takes milliseconds."""

    estimates: tuple[Estimate, ...]


@checked
def estimates(held: list[Any], where: str = "metrics.json") -> tuple[Estimate, ...]:
    """The estimates of a file, in order. Raises :class:`InputError` for anything else."""
    return tuple(build(_Estimates, {"estimates": held}, where=where, null_is_nan=True).estimates)


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
