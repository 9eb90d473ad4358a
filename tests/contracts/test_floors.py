"""The floors (docs/decisions/floors.md): a module imports its own folder and lower floors only."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

import overread

#: From the ground up; what stands on one line is neighbours, strangers to each other.
#: ``predictions`` stands on ``cases`` because both are tables of cases; everything above sees both.
FLOORS = (
    {"", "core"},
    {"stats", "images"},
    {"tasks"},
    {"cases", "synthetic", "deidentify"},
    {"predictions"},
    {"given_arrays"},
    {"evaluation", "networks"},
    {"learning"},
    {"explanation", "retrieval", "export", "cells", "slides", "distributed"},
    {"reporting"},
    {"study"},
    {"serving"},
    {"cli"},
)
TORCH_FREE = (
    "core",
    "stats",
    "images",
    "tasks",
    "cases",
    "synthetic",
    "predictions",
    "given_arrays",
    "evaluation",
    "reporting",
)
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


def climbs(module, package) -> Iterator[tuple[int, str]]:
    """No import goes upwards, or to a neighbour on the same floor."""
    here = unit(module.name)
    for name, line in imported(module, package):
        there = unit(name)
        if there != here and floor(there) and floor(there) >= floor(here):
            yield line, f"imports {name}, floor {floor(there)}, from floor {floor(here)}"


def names_torch(module) -> Iterator[tuple[int, str]]:
    """A judge never imports torch at module level; a task may where its loss is called."""
    if unit(module.name) in TORCH_FREE:
        inside = module.later | module.for_types if unit(module.name) == "tasks" else set()
        for name, line in module.imports:
            if name.split(".")[0] in TORCH and line not in inside:
                yield line, f"imports {name}"


def test_imports_go_down(package, offenders):
    found = offenders(lambda module: climbs(module, package), package.values())
    assert not found, "\n".join(found)


def test_an_import_that_goes_up_is_found(package, snippet):
    for text in ("from overread.learning.train import train", "import overread.images.read", "from ..cli import main"):
        assert list(climbs(snippet(text, "overread.stats.snippet"), package)), text
    for text in ("from overread.core.errors import checked", "from .estimate import Estimate", "import numpy"):
        assert not list(climbs(snippet(text, "overread.stats.snippet"), package)), text


def test_judges_never_name_torch(package, offenders):
    assert not (found := offenders(names_torch, package.values())), "\n".join(found)


def test_a_judge_that_names_torch_is_found(snippet):
    assert list(names_torch(snippet("from torch import nn", "overread.evaluation.snippet")))
    assert list(names_torch(snippet("def f():\n    import timm", "overread.stats.snippet")))
    assert not list(names_torch(snippet("from torch import nn", "overread.networks.snippet")))
    assert not list(names_torch(snippet("def f():\n    import torch", "overread.tasks.snippet")))
    assert list(names_torch(snippet("import torch", "overread.tasks.snippet")))


def test_every_module_stands_on_a_floor(package):
    for name in package:
        floor(unit(name))
    with pytest.raises(LookupError, match="has no floor"):
        floor(unit("overread.attic.chest"))


def test_every_module_loads(package):
    broken = {}
    for name in package:
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
            broken[name] = repr(error)
    assert not broken


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


def test_judges_load_without_torch(package):
    names = [name for name in package if unit(name) in TORCH_FREE]
    loaded = _python(f"import importlib, sys; [importlib.import_module(n) for n in {names}]", "sys.modules")
    assert not {"torch", "torchvision", "timm"} & loaded


def test_a_run_asks_for_its_table_before_it_loads_torch():
    assert not {"torch", "torchvision", "timm"} & _python(
        "import sys, overread.cli.main, overread.study.steps", "sys.modules"
    )


def test_the_package_itself_is_quick_to_import():
    assert not {"numpy", "pandas", "torch", "beartype"} & _python("import sys, overread", "sys.modules")


def test_every_public_name_has_a_home():
    for name in overread.__all__:
        if name != "__version__":
            assert getattr(overread, name).__name__ == name
            assert getattr(overread, name).__module__.startswith("overread.")


def _python(setup: str, names: str) -> set[str]:
    """The names in an expression after ``setup`` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{setup}; print(*{names}, sep='\\n')"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
