"""Habits of the whole package, read off its syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator

#: Draw from the global generator of torch unless they are handed one.
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like"}
#: Generators that are made from a key and hold no global state.
KEYED = {"np.random.Generator", "np.random.Philox"}
#: Where a loop stands changes while it runs; nobody outside the loop sees it change.
MUTABLE = {"overread.learning.loop.LoopState"}
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute chain, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def calls(module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def keywords(call: ast.Call) -> dict[str, object]:
    return {k.arg: getattr(k.value, "value", k.value) for k in call.keywords if k.arg}


def test_only_the_doors_print(module):
    if not module.is_door:
        assert not [call.lineno for name, call in calls(module) if name in ("print", "sys.stdout.write")]


def test_no_except_catches_everything(module):
    bad = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or dotted(kind) in ("Exception", "BaseException") for kind in caught):
                bad.append(node.lineno)
    assert not bad


def test_no_global_random_state(module):
    names = {dotted(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    assert not {name for name in names if name.startswith(("np.random.", "numpy.random."))} - KEYED
    assert not [line for name, line in module.imports if name.split(".")[0] == "random" or name == "numpy.random"]
    bare = [
        (name, call.lineno)
        for name, call in calls(module)
        if name.startswith("torch.") and name[6:] in TORCH_DRAWS and "generator" not in keywords(call)
    ]
    assert not bare, "torch draws from its global generator: hand it a generator=, or draw with overread.core.random"


def test_torch_is_seeded_in_one_place_at_most(package):
    seeded = {
        m.name for m in package.values() for name, _ in calls(m) if name.endswith("manual_seed") and "torch" in name
    }
    assert len(seeded) <= 1, seeded


def test_nothing_is_pickled(module):
    used = {name for name, _ in module.imports if "." in name} | {
        dotted(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)
    }
    assert not {name for name in used if name.split(".")[0] in PICKLERS} - {"pickle.UnpicklingError"}
    for name, call in calls(module):
        if name == "torch.load":
            assert keywords(call).get("weights_only") is True, f"line {call.lineno}: weights_only=True"
        assert name not in ("torch.save", "pd.read_pickle", "pandas.read_pickle"), f"line {call.lineno}"
        assert not keywords(call).get("allow_pickle"), f"line {call.lineno}"


def test_nothing_is_evaluated(module):
    assert not [call.lineno for name, call in calls(module) if name in ("eval", "exec", "compile", "__import__")]
    shell = [call.lineno for name, call in calls(module) if keywords(call).get("shell") or name == "os.system"]
    assert not shell


def test_dataclasses_are_frozen(module):
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and f"{module.name}.{node.name}" not in MUTABLE:
            for decorator in node.decorator_list:
                if dotted(decorator) in ("dataclass", "dataclasses.dataclass"):
                    raise AssertionError(f"{node.name} is not frozen")
                if isinstance(decorator, ast.Call) and dotted(decorator.func).endswith("dataclass"):
                    assert keywords(decorator).get("frozen") is True, f"{node.name} is not frozen"


def test_no_function_takes_a_mutable_default(module):
    if module.is_door:
        return  # typer asks for one, and copies it
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                assert not isinstance(default, (ast.List, ast.Dict, ast.Set)), f"line {node.lineno}"


def test_files_are_opened_as_utf8(module):
    """Text must read the same under every locale: open() and Path.read_text() name their encoding."""
    for name, call in calls(module):
        given = keywords(call)
        if name == "open" and "encoding" not in given:
            mode = ast.unparse(call.args[1]) if len(call.args) > 1 else str(given.get("mode", "r"))
            assert "b" in mode, f"line {call.lineno}"
        if name.endswith(".read_text") or (isinstance(call.func, ast.Attribute) and call.func.attr == "read_text"):
            assert "encoding" in given or call.args, f"line {call.lineno}"
