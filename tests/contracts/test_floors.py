"""The floors (docs/decisions/floors.md): a module imports its own folder and lower floors only."""

from __future__ import annotations

import importlib
import subprocess
import sys
from itertools import pairwise

import pytest

#: From the ground up; what stands on one line is neighbours, strangers to each other.
#: ``predictions`` stands on ``cases`` because both speak of the same target; everything above sees both.
FLOORS = (
    {"", "core"},
    {"stats", "images"},
    {"tasks"},
    {"cases", "synthetic", "deidentify"},
    {"predictions"},
    {"evaluation", "networks"},
    {"learning"},
    {"explanation", "retrieval", "cells", "slides", "distributed"},
    {"reporting"},
    {"study"},
    {"serving", "cli"},
)
TORCH_FREE = ("core", "stats", "images", "tasks", "cases", "synthetic", "predictions", "evaluation", "reporting")
TORCH = ("torch", "torchvision", "timm")


def unit(name: str) -> str:
    """The folder or top-level module that ``name`` belongs to; "" for the package itself and the ground."""
    parts = name.split(".")
    first = parts[1] if len(parts) > 1 else ""
    return first


def floor(unit: str) -> int:
    for number, units in enumerate(FLOORS):
        if unit in units:
            return number
    raise LookupError(f"{unit!r} has no floor: add it to FLOORS in {__file__} and to docs/decisions/floors.md")


def imported(module, package) -> list[tuple[str, int]]:
    """The package's own modules that ``module`` imports, with lines."""
    found = []
    for name, line in module.imports:
        while name.startswith("overread") and name not in package:
            name = name.rpartition(".")[0]
        if name.startswith("overread") and name != module.name:
            found.append((name, line))
    return found


def test_every_module_stands_on_a_floor(module):
    if module.path.name != "__init__.py" or "." in module.name:
        floor(unit(module.name))


def test_every_module_loads(module):
    importlib.import_module(module.name)


def test_imports_go_down(module, package):
    here = unit(module.name)
    wrong = []
    for name, line in imported(module, package):
        there = unit(name)
        if there == here or (floor(there) == 0 and floor(here) >= 0):
            continue
        if floor(there) >= floor(here):
            wrong.append(f"{module.path.name}:{line} imports {name}")
    assert not wrong, f"floor {floor(here)} ({here}) may not import upwards or a neighbour: {wrong}"


def test_there_are_no_import_cycles(package):
    graph = {
        name: {other for other, line in imported(module, package) if line not in module.for_types}
        for name, module in package.items()
    }
    for name in [name for name in graph if name == "overread"]:
        graph[name] = set()  # the package's own doors are strings, loaded on first use
    assert not (cycle := _cycle(graph)), " → ".join(cycle)


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []


def test_the_cycle_finder_finds_a_cycle():
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_floors_name_each_unit_once():
    units = [unit for units in FLOORS for unit in units]
    assert len(units) == len(set(units))
    assert all(not lower & upper for lower, upper in pairwise(FLOORS))


def test_judges_never_name_torch(module):
    if unit(module.name) in TORCH_FREE and unit(module.name) != "tasks":  # a task imports torch where it is called
        assert not [(name, line) for name, line in module.imports if name.split(".")[0] in TORCH]


def test_judges_load_without_torch(package):
    names = [name for name in package if unit(name) in TORCH_FREE]
    loaded = _python(f"import importlib, sys; [importlib.import_module(n) for n in {names}]", "sys.modules")
    assert not {"torch", "torchvision", "timm"} & loaded


def test_the_package_itself_is_quick_to_import():
    assert not {"numpy", "pandas", "torch", "beartype"} & _python("import sys, overread", "sys.modules")


@pytest.mark.parametrize("name", [n for n in __import__("overread").__all__ if n != "__version__"])
def test_every_public_name_has_a_home(name):
    overread = importlib.import_module("overread")
    assert getattr(overread, name).__name__ == name
    assert getattr(overread, name).__module__.startswith("overread.")


def _python(setup: str, names: str) -> set[str]:
    """The names in an expression after ``setup`` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{setup}; print(*{names}, sep='\\n')"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
