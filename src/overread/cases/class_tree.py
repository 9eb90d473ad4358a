"""Cases whose labels stand in a tree: checked against it, and with training classes in the place of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked, nearest
from overread.core.phrases import count
from overread.tasks.target import Target
from overread.tasks.taxonomy import TABLE_LABEL, Partition, Taxonomy, positive_of, require_one_label

Labelled = TypeVar("Labelled", bound=Cases)


@checked
def in_tree(cases: Labelled, taxonomy: Taxonomy, *, positive: Sequence[str] = (), cut: bool = False) -> Labelled:
    """The cases, whose labels are nodes of the tree; every class under a ``positive`` node counts as disease.

    ``cut``: training classes will be made of the labels, so that one may lie above another. Raises :class:`InputError`
    for several findings or a quantity, a label that is no node, one above another unless they are ``cut``, and a
    ``positive`` that is no node or has no label under it.
    """
    require_one_label(cases.target.task)
    names = cases.target.names
    taxonomy.require_labels(names)
    if not cut:
        taxonomy.require_apart(names)
    for node in positive:
        if node not in taxonomy.nodes:
            raise InputError(f"the positive class {node!r} is no node of the taxonomy", todo=nearest(node, taxonomy.nodes))  # fmt: skip
        if not any(node in taxonomy.path(name) for name in names):
            raise InputError(f"no label of the table lies under the positive class {node!r}", given=", ".join(names[:20]))  # fmt: skip
    target = replace(cases.target, positive=positive_of(taxonomy, names, positive)) if positive else cases.target
    unused = [leaf for leaf in taxonomy.leaves if not set(taxonomy.path(leaf)) & set(names)]
    said = f"taxonomy: {taxonomy}"
    said += f"; no image has one of {count(len(unused), 'leaf', 'leaves')}: {', '.join(unused[:5])}{' …' if len(unused) > 5 else ''}" if unused else ""  # fmt: skip
    return replace(cases, target=target, notes=(*cases.notes, said, *taxonomy.notes))


@checked
def with_classes(cases: Labelled, taxonomy: Taxonomy, made: Partition, positive: Sequence[str] = ()) -> Labelled:
    """The cases under their training classes; what the table called them stands in the column ``table label``.

    A label without a training class is unknown. Raises :class:`InputError` for a label that is no node, where a class holds a ``positive`` node
    beside others, and where nobody says which of two classes is the disease.
    """
    for node in positive:
        if mixed := [name for name in made.names if node != name and name in taxonomy.path(node)]:
            raise InputError(f"the training class {mixed[0]!r} holds the positive class {node!r} beside others", given=f"at most {made.limit:,} images a class" if made.limit else f"the level {made.level}",
                             todo="choose smaller classes, or another positive class")  # fmt: skip
    taxonomy.require_labels(cases.table["label"].unique())
    those = set(made.names)
    of = {"": ""} | {
        node: next((above for above in taxonomy.path(node) if above in those), "") for node in taxonomy.nodes
    }
    ill = positive_of(taxonomy, made.names, positive)
    target = Target("binary" if len(made.names) == 2 else "classes", made.names, ill)
    if target.task.binary and len(ill) != 1:
        raise InputError("nobody says which of the two training classes counts as disease", given=" and ".join(made.names),
                         todo=f"say it: --positive {made.names[0]}")  # fmt: skip
    label = cases.table["label"]
    return replace(cases, table=cases.table.assign(**{TABLE_LABEL: label, "label": label.map(of)}), target=target)
