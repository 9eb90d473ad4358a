"""The stages of a network, from the image to the head: what is held still, drawn anew or learned more slowly together.

One rule for every network, ours, a library's or one's own: the parts beside the head are its stages; while there are
fewer than four, the largest that has parts of its own gives way to them. Parts in a row without a matrix (norms) belong
to the stage before.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from overread.core.errors import checked

_FEWEST = 4


@dataclass(frozen=True)
class Stage:
    """A stage: the names of its modules in the network."""

    modules: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its first module."""
        return self.modules[0]

    def holds(self, name: str) -> bool:
        """Whether a parameter, buffer or module of this name belongs to it."""
        return any(name == module or name.startswith(module + ".") for module in self.modules)


@checked
def stages(network: nn.Module) -> tuple[Stage, ...]:
    """The stages of a network, nearest to the image first; its ``head`` is none of them.

    >>> from overread.networks.backbones import build
    >>> [stage.name for stage in stages(build("resnet_tiny", outputs=2))]
    ['trunk.stem', 'trunk.block1', 'trunk.block2', 'trunk.block3']
    """
    parts = _parts("", network)
    while len(found := _joined(parts)) < _FEWEST:
        closed = [(_size(part), name) for name, part in parts.items() if _parts(name, part)]
        if not closed:
            break
        _, largest = max(closed)
        opened = {name: _parts(name, part) if name == largest else {name: part} for name, part in parts.items()}
        parts = {name: part for inside in opened.values() for name, part in inside.items()}
    return found


@checked
def stage_of(name: str, found: tuple[Stage, ...]) -> int:
    """The index of the stage that a parameter belongs to; ``len(found)`` for the head.

    What a network holds beside its parts (a class token, places) belongs to the first stage.
    """
    if name.startswith("head.") or not found:
        return len(found)
    return next((index for index, stage in enumerate(found) if stage.holds(name)), 0)


def _parts(name: str, module: nn.Module) -> dict[str, nn.Module]:
    inside = {f"{name}.{child}" if name else child: part for child, part in module.named_children()}
    return {path: part for path, part in inside.items() if path != "head" and _size(part)}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _joined(parts: dict[str, nn.Module]) -> tuple[Stage, ...]:
    rows: list[list[str]] = []
    for name, part in parts.items():
        matrix = any(parameter.ndim > 1 for parameter in part.parameters())
        if matrix or not rows:
            rows.append([name])
        else:
            rows[-1].append(name)
    return tuple(Stage(tuple(row)) for row in rows)
