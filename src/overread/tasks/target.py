"""The target of a study: which task, with which names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from overread.core.errors import nearest, require
from overread.tasks.classes import Binary, Classes
from overread.tasks.findings import Findings
from overread.tasks.quantity import Quantity
from overread.tasks.segmentation import Segmentation
from overread.tasks.task import Task

Kind = Literal["binary", "classes", "findings", "quantity", "segmentation"]

#: Every task by the word for it in files. A new task is a module and its row here.
TASKS: dict[str, type[Task]] = {"binary": Binary, "classes": Classes, "findings": Findings, "quantity": Quantity,
                                "segmentation": Segmentation}  # fmt: skip


#: More classes or findings than any study has: a table of a hundred million cells for a thousand images.
MOST_NAMES = 100_000


@dataclass(frozen=True)
class Target:
    """What is to be learned.

    ``kind``: ``binary`` and ``classes`` have one label per case, the classes are ``names``; ``findings`` has a yes,
    no or unknown per finding in ``names``; ``quantity`` is a number called ``names[0]``; ``segmentation`` outlines objects
    of the classes in ``names`` (``object`` where there is one). ``positive`` are the classes
    that count as disease when sensitivity and specificity are asked for (for ``binary`` exactly one of the two).
    Who needs to know what a kind means asks its :attr:`task`.
    """

    kind: Kind
    names: tuple[str, ...]
    positive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(len(self.names) > 0, "a target needs at least one name")
        require(
            len(self.names) <= MOST_NAMES,
            "a target has too many names",
            given=f"{len(self.names):,}; at most {MOST_NAMES:,}",
        )
        require(len(set(self.names)) == len(self.names), "the names of a target must differ", given=self.names)
        for name in self.positive:
            require(name in self.names, f"the positive class {name!r} is not among the classes",
                    given=", ".join(self.names), todo=nearest(name, self.names))  # fmt: skip

    @cached_property
    def task(self) -> Task:
        """All that depends on what is asked."""
        return TASKS[self.kind](self.names, self.positive)

    def asks_as(self, other: Target) -> bool:
        """Whether the same is asked: the same task with the same names in one order, whatever counts as disease."""
        return (self.kind, self.names) == (other.kind, other.names)

    @property
    def outputs(self) -> int:
        """Outputs of a network for this target: classes, findings, or 1."""
        return self.task.outputs

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns of a table with this target."""
        return self.task.label_columns
