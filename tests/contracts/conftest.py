"""What the contracts speak about: every module of the package, its syntax tree, and its public functions.

Each contract is a rule, a generator of ``(line, what is wrong)`` for one module, and one test that lists every offender
of the package. So a new module is under law from its first day, and a rule is tested on a snippet that breaks it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGE = "overread"
#: The doors speak to people, not to programs: their functions are commands.
DOORS = ("overread.cli.main", "overread.cli", "overread.__main__", "overread.serving")


@dataclass(frozen=True)
class Module:
    """A source file of the package."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree; walked once for all rules."""
        return list(ast.walk(self.tree))

    @property
    def folder(self) -> str:
        """What the module's neighbours share: its folder, or itself at the top."""
        return ".".join(self.name.split(".")[:2])

    @property
    def is_door(self) -> bool:
        return self.name.startswith(DOORS)

    @cached_property
    def for_types(self) -> set[int]:
        """Lines of imports that only type checkers see: ``if TYPE_CHECKING:``."""
        guards = [node for node in self.nodes if isinstance(node, ast.If)]
        guards = [node for node in guards if ast.unparse(node.test).endswith("TYPE_CHECKING")]
        return {line for node in guards for line in range(node.lineno, node.body[-1].end_lineno + 1)}

    @cached_property
    def later(self) -> set[int]:
        """Lines inside functions: what they import is loaded when they are called."""
        inside = [node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return {line for node in inside for line in range(node.body[0].lineno, node.end_lineno + 1)}

    @cached_property
    def imports(self) -> list[tuple[str, int]]:
        """Every imported module with its line, also inside functions; ``from a import b`` gives ``a.b``."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                found += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
            elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.append((first.value, node.lineno))
        return found

    @cached_property
    def uses(self) -> set[str]:
        """Full names it imports, or reaches through an import: ``roc.auc`` after ``from … import roc``."""
        names = {name for name, _ in self.imports}
        aliases = {}
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom):
                aliases |= {a.asname or a.name: f"{self._base(node)}.{a.name}" for a in node.names}
        for node in self.nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
                names.add(f"{aliases[node.value.id]}.{node.attr}")
        return names

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        here = here[: len(here) - node.level + 1]
        return ".".join([*here, node.module] if node.module else here)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, path.read_text(encoding="utf-8"))
    return found


def _load(name: str) -> ModuleType | None:
    """The module, or None: a broken one fails ``test_every_module_loads`` only."""
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError):
        return None


@cache
def functions() -> dict[str, Callable]:
    """Every function without a leading underscore by its full name, but for the doors."""
    found = {}
    for module in modules().values():
        loaded = None if module.is_door else _load(module.name)
        if loaded is not None:
            found.update(_functions(module.name, loaded))
    return found


def _functions(name: str, loaded: ModuleType) -> Iterator[tuple[str, Callable]]:
    for attribute, value in vars(loaded).items():
        mine = getattr(value, "__module__", "") == name
        if mine and not attribute.startswith("_") and inspect.isfunction(value):
            yield f"{name}.{attribute}", value


@cache
def offered_functions() -> dict[str, Callable]:
    """The public ones: what the package offers by name, the ground, and what other folders use."""
    overread = importlib.import_module(PACKAGE)
    names = {f"{home}.{name}" for name, home in overread._HOMES.items()}
    for module in modules().values():
        names |= {name for name in module.uses if ".".join(name.split(".")[:2]) != module.folder}
    return {
        name: function for name, function in functions().items() if name in names or name.startswith(f"{PACKAGE}.core.")
    }


@pytest.fixture(scope="session")
def package() -> dict[str, Module]:
    """Every module by its full name."""
    return modules()


@pytest.fixture(scope="session")
def public() -> dict[str, Callable]:
    """Every function without a leading underscore by its full name."""
    return functions()


@pytest.fixture(scope="session")
def offered() -> dict[str, Callable]:
    """The public functions that the package offers by name, or that are used from outside their folder."""
    return offered_functions()


@pytest.fixture(scope="session")
def snippet() -> Callable[..., Module]:
    """A module made of a few lines, to show a rule what breaks it."""

    def make(text: str, name: str = f"{PACKAGE}.core.snippet") -> Module:
        return Module(name, SOURCE / Path(*name.split(".")).with_suffix(".py"), text)

    return make


@pytest.fixture(scope="session")
def offenders() -> Callable[[Callable, Iterable[Module]], list[str]]:
    """Every place where modules break a rule, as ``file:line what``."""

    def find(rule: Callable[[Module], Iterable[tuple[int, str]]], found: Iterable[Module]) -> list[str]:
        return [f"{m.path.relative_to(SOURCE)}:{line} {what}" for m in found for line, what in rule(m)]

    return find
