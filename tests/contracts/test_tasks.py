"""Nothing outside ``tasks/`` branches on the kind of a task: it asks the task."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import get_args

from overread.tasks import TASKS, Kind
from overread.tasks.task import Task


def branches(module) -> Iterator[tuple[int, str]]:
    """A kind is compared, or looked up among words for tasks."""
    for node in module.nodes:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            words = any(_is_word(inner) for side in sides for inner in ast.walk(side))
            if any(_is_target_kind(s) for s in sides) or (words and any(_is_kind(s) for s in sides)):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Dict) and sum(_is_word(key) for key in node.keys) > 1:
            yield node.lineno, f"a table by kind: {ast.unparse(node)[:60]}"
        elif isinstance(node, ast.match_case) and any(_is_word(inner) for inner in ast.walk(node.pattern)):
            yield node.pattern.lineno, ast.unparse(node.pattern)


#: What a task is, by its traits: to ask for one is a question, to ask for two is to ask which kind it is.
TRAITS = {"binary", "multiclass", "exclusive", "multilabel", "continuous"}
#: Functions that ask for several; each may only leave. These decide which kind a table holds.
SEVERAL = {"read_cases._from_table", "read_cases._target"}


def kinds_by_traits(module) -> Iterator[tuple[int, str]]:
    """A function branches on two traits of a task: a kind under other names."""
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef):
            tests = [inner.test for inner in ast.walk(node) if isinstance(inner, ast.If | ast.IfExp)]
            asked = {trait for test in tests for trait in _traits(test)}
            if len(asked) > 1:
                yield node.lineno, f"{module.name.rpartition('.')[2]}.{node.name} asks for {', '.join(sorted(asked))}"


def _traits(test: ast.AST) -> set[str]:
    asked = [node for node in ast.walk(test) if isinstance(node, ast.Attribute) and node.attr in TRAITS]
    return {node.attr for node in asked if getattr(node.value, "attr", getattr(node.value, "id", "")) == "task"}


def _is_kind(node: ast.AST) -> bool:
    return getattr(node, "attr", getattr(node, "id", "")) == "kind"


def _is_target_kind(node: ast.AST) -> bool:
    inside = [inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute) and inner.attr == "kind"]
    return any(getattr(one.value, "attr", getattr(one.value, "id", "")) == "target" for one in inside)


def _is_word(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in TASKS


def test_no_module_branches_on_a_kind(package, offenders):
    asking = [m for m in package.values() if not m.name.startswith("overread.tasks")]
    assert not offenders(branches, asking), branches.__doc__


def test_no_function_tells_kinds_by_their_traits(package, offenders):
    asking = [m for m in package.values() if not m.name.startswith("overread.tasks")]
    found = {line.split(" ")[1] for line in offenders(kinds_by_traits, asking)}
    assert not found - SEVERAL, "add a method to Task"
    assert not SEVERAL - found, "take these off the list"


def test_a_kind_told_by_traits_is_found(snippet):
    chain = "def f(task):\n    if task.continuous:\n        return 1\n    return 2 if {} else 3"
    assert list(kinds_by_traits(snippet(chain.format("run.task.multilabel"))))
    for text in ("task.continuous", "other.binary", "task.names"):
        assert not list(kinds_by_traits(snippet(chain.format(text)))), text


def test_a_branch_on_a_kind_is_found(snippet):
    wrong = (
        'target.kind == "binary"',
        'run.kind in ("classes", "findings")',
        'kind != "quantity"',
        "(first.target.kind, 1) != (second.target.kind, 1)",
        '{"binary": 1, "classes": 2}[target.kind]',
        'match kind:\n    case "quantity":\n        pass',
    )
    for text in wrong:
        assert list(branches(snippet(text))), text
    for text in ('dtype.kind == "f"', 'grades.kind == "label"', "target.task.binary", 'Target("binary", names)'):
        assert not list(branches(snippet(text))), text


def test_every_kind_has_a_task_that_says_everything():
    assert tuple(TASKS) == get_args(Kind)
    for kind, task in TASKS.items():
        assert issubclass(task, Task)
        assert not task.__abstractmethods__, kind
        made = task(("a", "b"), ("b",))
        assert task.dense or made.outputs == len(made.prediction_columns), kind
        assert made.label_columns and made.summary, kind  # noqa: PT018
