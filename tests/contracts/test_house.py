"""The shape of the house (docs/concepts/architecture.md): folders, files, names, and no room that nobody enters."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import overread

FILES_A_FOLDER = 15
LINES_A_FILE = 600
#: Named after what they open, draw or tell, so their base names may stand elsewhere too; the doors may be many.
NAMED_BY_SUBJECT = ("cli", "reporting/figures", "reporting/pages")
#: Say how a file came to be, not what is in it.
EMPTY_NAMES = {"parts", "table", "stored", "others"}


def folder(module) -> str:
    """The folder within the package: "" at the top, ``evaluation/readers``."""
    inside = module.path.parent.parts
    return "/".join(inside[inside.index("overread") + 1 :])


def is_file(module) -> bool:
    return module.path.name != "__init__.py"


# -- rules of one file --------------------------------------------------------------------------------------


def is_long(module) -> Iterator[tuple[int, str]]:
    """A file is one subject of at most 600 lines."""
    if (lines := module.text.count("\n")) > LINES_A_FILE:
        yield lines, "lines"


def is_misnamed(module) -> Iterator[tuple[int, str]]:
    """A file is named by a noun of the field: no gerund, no word for a slice of something."""
    if is_file(module) and module.path.stem.endswith("ing"):
        yield 1, "a gerund"
    if is_file(module) and module.path.stem.rpartition("_")[2] in EMPTY_NAMES:
        yield 1, "says how it was cut off"


def test_no_file_is_long(package, offenders):
    assert not offenders(is_long, package.values()), is_long.__doc__


def test_files_are_named_by_nouns(package, offenders):
    assert not offenders(is_misnamed, package.values()), is_misnamed.__doc__


def test_a_long_or_misnamed_file_is_found(snippet):
    assert list(is_long(snippet("x\n" * 601)))
    assert not list(is_long(snippet("x\n" * 600)))
    for name in ("judging", "page_parts", "parts", "table", "header_stored", "others"):
        assert list(is_misnamed(snippet("", f"overread.core.{name}"))), name
    for name in ("page", "partial_auc", "tablet", "ingest"):
        assert not list(is_misnamed(snippet("", f"overread.core.{name}"))), name


# -- rules of folders ---------------------------------------------------------------------------------------


def crowded(modules) -> dict[str, int]:
    """Folders of more than fifteen files, ``cli/`` aside."""
    count = Counter(folder(module) for module in modules if is_file(module))
    return {name: files for name, files in count.items() if files > FILES_A_FOLDER and name != "cli"}


def twins(modules) -> dict[str, list[str]]:
    """Base names that stand in several folders."""
    places: dict[str, list[str]] = {}
    for module in modules:
        if is_file(module) and not folder(module).startswith(NAMED_BY_SUBJECT):
            places.setdefault(module.path.stem, []).append(folder(module))
    return {name: where for name, where in places.items() if len(where) > 1}


def test_no_folder_is_crowded(package):
    assert not crowded(package.values())


def test_no_base_name_stands_twice(package):
    assert not twins(package.values())


def test_a_crowd_and_twins_are_found(snippet):
    files = [snippet("", f"overread.stats.file{n}") for n in range(15)]
    assert crowded(files) == {}
    assert crowded([*files, snippet("", "overread.stats.one_more")]) == {"stats": 16}
    assert twins([snippet("", "overread.stats.roc"), snippet("", "overread.cli.roc")]) == {}
    assert twins([snippet("", "overread.stats.roc"), snippet("", "overread.images.roc")]) == {
        "roc": ["stats", "images"]
    }


# -- every public name has a caller -------------------------------------------------------------------------


def public_names(module) -> dict[str, range]:
    """Functions and classes of the module without a leading underscore, with the lines that define them."""
    kinds = ast.FunctionDef | ast.ClassDef
    defined = [node for node in module.tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    return {node.name: range(node.lineno, node.end_lineno + 1) for node in defined}


def registered(module) -> set[str]:
    """Names that the module itself hands on: in ``__all__``, or under a decorator that is called (``@app.command()``)."""
    found: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            found |= set(ast.literal_eval(node.value))
        if isinstance(node, ast.FunctionDef) and any(isinstance(d, ast.Call) for d in node.decorator_list):
            found.add(node.name)
    return found


def mentions(module) -> Iterator[tuple[str, int]]:
    """Every name in the module with its line: imported, reached, called, annotated, or a door named by a string."""
    for name, line in module.imports:
        yield name.rpartition(".")[2], line
    for node in module.nodes:
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.:]+", node.value):
            yield from ((name, node.lineno) for name in re.split("[.:]", node.value))


def uncalled(modules) -> list[str]:
    """Public names that nobody mentions outside the lines that define them, and that no ``__all__`` offers."""
    modules = list(modules)
    places: dict[str, set[tuple[str, int]]] = {}
    for module in modules:
        for name, line in mentions(module):
            places.setdefault(name, set()).add((module.name, line))
    found = []
    for module in modules:
        for name, lines in public_names(module).items():
            own = {(module.name, line) for line in lines}
            if name not in overread.__all__ and name not in registered(module) and not places.get(name, set()) - own:
                found.append(f"{module.name}:{lines.start} {name}")
    return found


def test_every_public_name_has_a_caller(package):
    assert not uncalled(package.values())


def test_a_name_without_a_caller_is_found(snippet):
    library = snippet(
        "def used(): pass\ndef again(): again()\nclass Lonely: pass\ndef _own(): pass", "overread.stats.a"
    )
    caller = snippet("from overread.stats.a import used", "overread.stats.b")
    assert uncalled([library, caller]) == ["overread.stats.a:2 again", "overread.stats.a:3 Lonely"]
    assert uncalled([snippet("__all__ = ['used']\ndef used(): pass"), snippet("@app.command()\ndef go(): pass")]) == []
