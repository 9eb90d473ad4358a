"""A tree of classes: read from a table of child and parent, cut into training classes, and seen at one of its levels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from overread.core.display import Shown
from overread.core.errors import InputError, checked, nearest, require
from overread.core.files import unguarded, write_csv
from overread.core.phrases import aligned, count
from overread.tasks.classes import disease_of
from overread.tasks.task import Task

#: The column of the label that a study's table gave, where training classes stand in its place.
TABLE_LABEL = "table label"
_BY_DEPTH = re.compile(r"level-(\d+)")


@dataclass(frozen=True)
class Taxonomy(Shown):
    """A tree of classes. ``nodes`` in the order of their file, the parent of each (``""`` of the root alone), and what
    the level of each is called (``""`` where nobody says).

    A level is a set of nodes of which every leaf has one above itself or is one: a name of ``levels``, or ``level-1``,
    ``level-2`` … for all nodes so many steps below the root, where a leaf that ends before stands for itself.

    >>> tree = Taxonomy(("lesion", "benign", "naevus", "malignant"), ("", "lesion", "benign", "lesion"))
    >>> tree.at("level-1")["naevus"], tree.path("naevus")
    ('benign', ('naevus', 'benign', 'lesion'))
    """

    nodes: tuple[str, ...]
    parents: tuple[str, ...]
    levels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", self.levels or ("",) * len(self.nodes))
        require(len(self.nodes) == len(self.parents) == len(self.levels), "each node needs a parent and a level",
                given=f"{len(self.nodes)}, {len(self.parents)} and {len(self.levels)}")  # fmt: skip
        _require_tree(self)
        _require_levels(self)

    def __str__(self) -> str:
        by_depth = [f"level-{n} ({len(self.nodes_at(f'level-{n}'))})" for n in range(1, self.depth + 1)]
        named = [f"{name} ({len(self.nodes_at(name))})" for name in self.named_levels]
        return f"{count(len(self.nodes), 'node')}, {count(len(self.leaves), 'leaf', 'leaves')} under {self.root!r}; classes by level: {', '.join((*named, *by_depth))}"

    @property
    def root(self) -> str:
        """The node above all."""
        return self.nodes[self.parents.index("")]

    @property
    def depth(self) -> int:
        """Steps from the root to the deepest leaf."""
        return max(len(self.path(node)) for node in self.nodes) - 1

    @property
    def leaves(self) -> tuple[str, ...]:
        """The nodes without a child, from the first branch to the last."""
        return tuple(node for node in self.descent(self.root) if not self.children(node))

    @property
    def named_levels(self) -> tuple[str, ...]:
        """The levels that have a name in the file."""
        return tuple(dict.fromkeys(filter(None, self.levels)))

    def children(self, node: str) -> tuple[str, ...]:
        """In the order of the file."""
        return self._children.get(node, ())

    def path(self, node: str) -> tuple[str, ...]:
        """The node, its parent, and so on to the root."""
        return self._paths[node]

    def descent(self, node: str) -> tuple[str, ...]:
        """The node and all below it, each branch to its end before the next."""
        found, open_ = [], [node]
        while open_:
            found.append(open_.pop())
            open_ += reversed(self.children(found[-1]))
        return tuple(found)

    def nodes_at(self, level: str) -> tuple[str, ...]:
        """The nodes of a level, from the first branch to the last. Raises :class:`InputError` for one that is not there."""
        steps = _BY_DEPTH.fullmatch(level)
        if level not in self.named_levels and not (steps and 1 <= int(steps[1]) <= self.depth):
            known = (*self.named_levels, *(f"level-{n}" for n in range(1, self.depth + 1)))
            raise InputError(f"the taxonomy has no level {level!r}", given=f"it has {', '.join(known)}", todo=nearest(level, known))  # fmt: skip
        if not steps:
            return tuple(node for node in self.descent(self.root) if self._level_of[node] == level)
        deep = int(steps[1]) + 1
        return tuple(node for node in self.descent(self.root)
                     if len(self.path(node)) == deep or (len(self.path(node)) < deep and not self.children(node)))  # fmt: skip

    def at(self, level: str) -> dict[str, str]:
        """The class of each node at a level; ``""`` for the nodes above it."""
        those = set(self.nodes_at(level))
        return {node: next((above for above in self.path(node) if above in those), "") for node in self.nodes}

    def require_labels(self, labels: Iterable[str], where: str = "the table") -> None:
        """Raise :class:`InputError` for a label that the tree does not have; ``""`` is no label."""
        known, strange = set(self.nodes), sorted({label for label in labels if label} - set(self.nodes))
        if strange:
            plain = {_plain(node): node for node in self.nodes}
            alike = [f"{label}={plain[_plain(label)]}" for label in strange if _plain(label) in plain]
            todo = "--rename-label " + " --rename-label ".join(alike) if alike else nearest(strange[0], known)
            raise InputError(f"the taxonomy lacks {count(len(strange), 'label')} of {where}", given=", ".join(strange[:10]) + (" …" if len(strange) > 10 else ""),
                             todo=f"{todo}; or add a row to the taxonomy: {strange[0]},PARENT")  # fmt: skip

    def require_apart(self, labels: Iterable[str]) -> None:
        """Raise :class:`InputError` where one label lies above another: a case of one could be a case of the other."""
        names = {label for label in labels if label}
        above = {over: name for name in sorted(names) for over in self.path(name)[1:] if over in names}
        if above:
            over, name = next(iter(above.items()))
            raise InputError(f"the label {over!r} is an inner node of the taxonomy, with the label {name!r} below it", given=f"{count(len(above), 'such label')}: {', '.join(list(above)[:10])}",
                             todo=f"cut training classes from the tree (--max-class-size 1000, or --label-at LEVEL), or leave such cases without a label (--rename-label {over}=)")  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """A row a node: ``child``, ``parent`` (blank of the root), ``level`` (blank where nobody says)."""
        return pd.DataFrame({"child": self.nodes, "parent": self.parents, "level": self.levels})

    def save(self, path: str | Path) -> Path:
        """Write as CSV in the form that :func:`read_taxonomy` takes."""
        table = self.to_frame()
        return write_csv(path, table if self.named_levels else table.drop(columns="level"))

    def coarse(self, names: Sequence[str], level: str) -> dict[str, str]:
        """The class at a level of each of ``names``. Raises :class:`InputError` for one that lies above the level."""
        above = self.at(level)
        if whole := [name for name in names if not above[name]]:
            raise InputError(f"a class that is predicted lies above the level {level!r}, so it cannot be told apart there", given=", ".join(whole[:10]),
                             todo="judge at a coarser level, or train on smaller classes")  # fmt: skip
        return {name: above[name] for name in names}

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for node, over in zip(self.nodes, self.parents, strict=True):
            found.setdefault(over, []).append(node)
        return {over: tuple(nodes) for over, nodes in found.items()}

    @cached_property
    def _level_of(self) -> dict[str, str]:
        return dict(zip(self.nodes, self.levels, strict=True))

    @cached_property
    def _paths(self) -> dict[str, tuple[str, ...]]:
        over = dict(zip(self.nodes, self.parents, strict=True))
        found = {}
        for node in self.nodes:
            path = [node]
            while over[path[-1]]:
                path.append(over[path[-1]])
            found[node] = tuple(path)
        return found


@checked
def read_taxonomy(path: str | Path) -> Taxonomy:
    """Read a CSV with the columns ``child`` and ``parent``, and perhaps ``level``, what the child's level is called.

    The root has a row without a parent, or none. Blanks around names do not count; rows that say the same twice are
    one, and that is said. Raises :class:`InputError` for a file that is none, a child with two parents, a cycle,
    several roots, names that differ only in capitals or in what stands between words, a level inside itself, and one
    that leaves out a leaf.
    """
    rows = _rows(Path(path))
    parent: dict[str, str] = {}
    level: dict[str, str] = {}
    twice = 0
    for child, over, called in rows:
        if parent.get(child, over) != over:
            raise InputError(f"{child!r} has two parents in the taxonomy", given=f"{parent[child] or 'none'} and {over or 'none'}", todo="keep one of the rows")  # fmt: skip
        if level.get(child, called) != called:
            raise InputError(f"{child!r} has two levels in the taxonomy", given=f"{level[child]!r} and {called!r}", todo="keep one of the rows")  # fmt: skip
        twice += child in parent
        parent[child], level[child] = over, called
    roots = [over for over in dict.fromkeys(parent.values()) if over and over not in parent]
    nodes = {**dict.fromkeys(roots, ""), **parent}
    _refuse_variants(nodes)
    notes = (f"taxonomy: {count(twice, 'row says', 'rows say')} again what stands before",) if twice else ()
    return Taxonomy(tuple(nodes), tuple(nodes.values()), tuple(level.get(node, "") for node in nodes), notes)


def _rows(path: Path) -> list[tuple[str, str, str]]:
    try:
        table = unguarded(pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError("the taxonomy does not exist", given=str(path), todo="check the path") from error
    except (OSError, ValueError) as error:
        raise InputError("the taxonomy cannot be read", given=f"{path}: {error}", todo="give a CSV with the columns child,parent") from error  # fmt: skip
    table = table.rename(columns=str.strip).map(str.strip)
    for wanted in ("child", "parent"):
        if wanted not in table:
            raise InputError(f"the taxonomy lacks the column {wanted!r}", given=f"{path.name}: {', '.join(table)[:200]}",
                             todo="its columns are child,parent, and level where levels have names")  # fmt: skip
    table = table[(table["child"] != "") | (table["parent"] != "")]
    blank = table["parent"][table["child"] == ""]
    if len(blank):
        raise InputError("a row of the taxonomy names no child", given=f"parent {blank.iloc[0]!r}", todo="fill in the column child")  # fmt: skip
    if table.empty:
        raise InputError("the taxonomy holds no row", given=path.name, todo="a row for each class: child,parent")
    levels = table["level"] if "level" in table else [""] * len(table)
    return list(zip(table["child"], table["parent"], levels, strict=True))


def _plain(name: str) -> str:
    return "".join(re.findall(r"\w", name.casefold().replace("_", "")))


def _refuse_variants(nodes: Iterable[str]) -> None:
    first: dict[str, str] = {}
    for node in nodes:
        same = first.setdefault(_plain(node) or node, node)
        if same != node:
            raise InputError("two names of the taxonomy differ only in how they are written", given=f"{same!r} and {node!r}", todo="write both alike, or give one another name")  # fmt: skip


def _require_tree(tree: Taxonomy) -> None:
    over = dict(zip(tree.nodes, tree.parents, strict=True))
    if len(over) < len(tree.nodes):
        twice = Counter(tree.nodes).most_common(1)[0][0]
        raise InputError(f"{twice!r} stands twice in the taxonomy", todo="keep one of the rows")
    for node in tree.nodes:
        path, at = [node], over[node]
        while at:
            require(at in over, f"the parent {at!r} is no node of the taxonomy", todo=nearest(at, over))
            if at in path:
                ring = path[path.index(at) :]
                raise InputError("the taxonomy goes round in a circle", given=" → ".join([*ring, ring[0]]), todo="each class has one parent, up to one root")  # fmt: skip
            path.append(at)
            at = over[at]
    roots = [node for node, up in over.items() if not up]
    if len(roots) != 1:
        raise InputError("the taxonomy has several roots", given=", ".join(roots[:10]),
                         todo="put one node above them: " + "; ".join(f"{node},all" for node in roots[:3]))  # fmt: skip
    if len(tree.nodes) < 3:
        raise InputError("the taxonomy has fewer than two classes", given=", ".join(tree.nodes))


def _require_levels(tree: Taxonomy) -> None:
    for name in tree.named_levels:
        if _BY_DEPTH.fullmatch(name):
            raise InputError(f"a level must not be called {name!r}: that is the name of a depth", todo="give it another name")  # fmt: skip
        those = set(tree.nodes_at(name))
        for leaf in tree.leaves:
            over = [node for node in tree.path(leaf) if node in those]
            if len(over) > 1:
                raise InputError(f"the level {name!r} lies inside itself", given=f"{over[0]!r} under {over[1]!r}", todo="give the two another level")  # fmt: skip
            if not over:
                raise InputError(f"the level {name!r} leaves out the leaf {leaf!r}", given=" → ".join(tree.path(leaf)),
                                 todo=f"write {name} beside one of these nodes")  # fmt: skip


# -- training classes out of a tree ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingClass:
    """A node that is learned as one class: the ``labels`` of the table under it, and its training images and patients."""

    name: str
    images: int
    patients: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Partition(Shown):
    """Training classes out of a tree.

    ``limit``: the most images of a class, 0 where the classes are those of ``level``. ``inner``: labels of nodes above
    every class, with the training images and patients that teach nothing; ``absent``: labels without a training image
    under any class, which only a coarser level can judge. ``class_of``: the class of each label of the table, ``""``
    for the inner and the absent ones.
    """

    classes: tuple[TrainingClass, ...]
    limit: int = 0
    level: str = ""
    inner: tuple[TrainingClass, ...] = ()
    absent: tuple[str, ...] = ()
    class_of: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The training classes, in the order of the tree."""
        return tuple(each.name for each in self.classes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the partition may surprise."""
        said, few = [], [f"{each.name} ({each.patients})" for each in self.classes if each.patients < 3]
        above = [f"{each.name} ({each.images:,})" for each in self.classes if self.limit and each.images > self.limit]
        if above:
            said.append(f"larger than {self.limit:,} training images, and without a child to be cut into: {', '.join(above)}")  # fmt: skip
        if self.inner:
            inner = [f"{each.name} ({count(each.images, 'image')})" for each in self.inner]
            said.append(f"labelled above every training class, so not learned from: {', '.join(inner)}")
        if self.absent:
            said.append(f"without a training image, so judged at coarser levels only: {', '.join(self.absent)}")
        if few:
            said.append(f"fewer than 3 training patients: {', '.join(few)}; a larger --max-class-size merges more")
        return tuple(said)

    def to_frame(self) -> pd.DataFrame:
        """A row a training class: ``name``, ``labels``, ``images``, ``patients``."""
        rows = [(each.name, _short(each.labels), each.images, each.patients) for each in self.classes]
        return pd.DataFrame(rows, columns=["name", "labels", "images", "patients"])

    def __str__(self) -> str:
        how = f"at most {count(self.limit, 'training image')} each" if self.limit else f"those of {self.level}"
        rows = [(each.name, _short(each.labels), f"{each.images:,}", f"{each.patients:,}") for each in self.classes]
        lines = aligned([("training class", "labels", "images", "patients"), *rows], 2)
        head = f"{count(len(self.classes), 'training class', 'training classes')} out of the taxonomy: {how}"
        return "\n".join([head, *(f"  {line}" for line in (*lines, *self.notes))])


def _short(names: Sequence[str]) -> str:
    """Some of the names, for a line of a terminal."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@checked
def partition(
    taxonomy: Taxonomy, labels: ArrayLike, patients: ArrayLike, *, max_class_size: int = 0, level: str = "",
    names: Sequence[str] = (),
) -> Partition:  # fmt: skip
    """Training classes out of a tree, from the labels (N,) and patients (N,) of the training images.

    With ``max_class_size`` the tree is descended from its root: a node becomes a class if its whole subtree has at most
    so many training images, else its children are tried; a leaf is a class whatever its size (Esteva 2017, supplementary
    "disease partitioning algorithm"). With ``level`` the classes are its nodes. ``names``: all labels of the table, of
    which some may have no training image. Blank labels count as unknown. Raises :class:`InputError` for a label
    that the tree does not have, and where fewer than two classes come out.
    """
    require((max_class_size > 0) != bool(level), "classes are cut from the tree in one way", given=f"max_class_size {max_class_size}, level {level!r}",
            todo="give a largest size of a class, or a level")  # fmt: skip
    label, who = np.asarray(labels, dtype=object), np.asarray(patients, dtype=object)
    require(label.shape == who.shape, "each label needs a patient", given=f"{label.shape} and {who.shape}")
    every = tuple(dict.fromkeys([*names, *label[label != ""].tolist()]))
    taxonomy.require_labels(every)
    counts = _Counts(taxonomy, label, who)
    chosen = _descend(taxonomy, counts, max_class_size) if max_class_size else [n for n in taxonomy.nodes_at(level) if counts.images(n)]  # fmt: skip
    if len(chosen) < 2:
        largest = sum(counts.images(node) for node in taxonomy.nodes if node == taxonomy.root)
        raise InputError("the tree is not cut into two classes", given=f"{', '.join(chosen) or 'no class'} of {count(largest, 'training image')}",
                         todo=f"choose a smaller size of a class: --max-class-size {max(1, largest // 4)}" if max_class_size else "choose a finer level")  # fmt: skip
    those = set(chosen)
    class_of = {name: next((n for n in taxonomy.path(name) if n in those), "") for name in every}
    classes = tuple(
        TrainingClass(node, counts.images(node), counts.patients(node), tuple(n for n in every if class_of[n] == node))
        for node in chosen
    )
    lost = [name for name in every if not class_of[name]]
    inner = tuple(TrainingClass(n, counts.own[n], len(counts.who[n])) for n in lost if counts.own[n])
    absent = tuple(name for name in lost if not counts.own[name])
    return Partition(classes, max_class_size, level, inner, absent, tuple(class_of.items()))


class _Counts:
    """Training images and patients of each node, and of its whole subtree."""

    def __init__(self, taxonomy: Taxonomy, labels: NDArray, patients: NDArray) -> None:
        known = pd.DataFrame({"label": labels, "patient": patients})[labels != ""]
        self.own: Counter[str] = Counter(known["label"].tolist())
        self.who: dict[str, set[str]] = known.groupby("label")["patient"].agg(set).to_dict()
        self._below = {node: taxonomy.descent(node) for node in taxonomy.nodes}

    def images(self, node: str) -> int:
        """Of the node and of all below it."""
        return sum(self.own[below] for below in self._below[node])

    def patients(self, node: str) -> int:
        """The same of patients, each of whom counts once."""
        return len(set[str]().union(*(self.who.get(below, set()) for below in self._below[node])))


def _descend(taxonomy: Taxonomy, counts: _Counts, limit: int) -> list[str]:
    found, open_ = [], [taxonomy.root]
    while open_:
        node = open_.pop()
        images, children = counts.images(node), [c for c in taxonomy.children(node) if counts.images(c)]
        if images and (images <= limit or not children):
            found.append(node)
        elif images:
            open_ += reversed(children)
    return found


@checked
def positive_of(taxonomy: Taxonomy, names: Sequence[str], positive: Sequence[str]) -> tuple[str, ...]:
    """Which classes count as disease: those under a ``positive`` node; without one, of two that which names tell."""
    if positive:
        return tuple(name for name in names if set(taxonomy.path(name)) & set(positive))
    guessed = disease_of(names)
    return (guessed,) if guessed else ()


@checked
def require_one_label(task: Task) -> None:
    """Raise :class:`InputError` unless a case has one of several classes as its label: only these stand in a tree."""
    if not task.exclusive:
        raise InputError("a taxonomy orders classes of which a case has one", given=task.summary, todo="leave --taxonomy out, or give one label: --label")  # fmt: skip
