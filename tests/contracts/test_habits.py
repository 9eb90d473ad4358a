"""Habits of the whole package, read off its syntax trees: a rule each, and a snippet that breaks it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest

#: Draw from the global generator of torch unless they are handed one.
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like"}
#: Generators that are made from a key and hold no global state.
KEYED = {"np.random.Generator", "np.random.Philox"}
#: Where a loop stands changes while it runs; nobody outside the loop sees it change.
MUTABLE = {"overread.learning.loop.LoopState"}
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

Offence = tuple[int, str]


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute chain, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def calls(module) -> Iterator[tuple[str, ast.Call]]:
    for node in module.nodes:
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def attributes(module) -> Iterator[tuple[str, int]]:
    for node in module.nodes:
        if isinstance(node, ast.Attribute):
            yield dotted(node), node.lineno


def keywords(call: ast.Call) -> dict[str, object]:
    return {k.arg: getattr(k.value, "value", k.value) for k in call.keywords if k.arg}


# -- the rules ----------------------------------------------------------------------------------------------


def prints(module) -> Iterator[Offence]:
    """Only the doors print."""
    for name, call in calls(module):
        if not module.is_door and name in ("print", "sys.stdout.write"):
            yield call.lineno, name


def catches_everything(module) -> Iterator[Offence]:
    """No except catches everything."""
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or dotted(kind) in ("Exception", "BaseException") for kind in caught):
                yield node.lineno, "catches everything"


def draws_globally(module) -> Iterator[Offence]:
    """No global random state: a generator is handed over, or overread.core.random draws."""
    for name, line in attributes(module):
        if name.startswith(("np.random.", "numpy.random.")) and name not in KEYED:
            yield line, name
    for name, line in module.imports:
        if name.split(".")[0] == "random" or name == "numpy.random":
            yield line, f"imports {name}"
    for name, call in calls(module):
        if name.startswith("torch.") and name[6:] in TORCH_DRAWS and "generator" not in keywords(call):
            yield call.lineno, f"{name} without generator="


def pickles(module) -> Iterator[Offence]:
    """Nothing is pickled, neither written nor read."""
    for name, line in [*[(name, line) for name, line in module.imports], *attributes(module)]:
        if name.split(".")[0] in PICKLERS and name != "pickle.UnpicklingError" and name != "pickle":
            yield line, name
    for name, call in calls(module):
        if name == "torch.load" and keywords(call).get("weights_only") is not True:
            yield call.lineno, "torch.load without weights_only=True"
        if name in ("torch.save", "pd.read_pickle", "pandas.read_pickle") or keywords(call).get("allow_pickle"):
            yield call.lineno, name


def evaluates(module) -> Iterator[Offence]:
    """No text is run as code or as a command."""
    for name, call in calls(module):
        if name in ("eval", "exec", "compile", "__import__", "os.system") or keywords(call).get("shell"):
            yield call.lineno, name


def thaws(module) -> Iterator[Offence]:
    """Dataclasses are frozen."""
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and f"{module.name}.{node.name}" not in MUTABLE:
            for decorator in node.decorator_list:
                call = isinstance(decorator, ast.Call)
                name = dotted(decorator.func if call else decorator)
                if name.endswith("dataclass") and not (call and keywords(decorator).get("frozen") is True):
                    yield node.lineno, f"{node.name} is not frozen"


def shares_a_default(module) -> Iterator[Offence]:
    """No function takes a mutable default; typer asks the doors for one, and copies it."""
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef) and not module.is_door:
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if isinstance(default, (ast.List, ast.Dict, ast.Set)):
                    yield node.lineno, node.name


def opens_in_any_encoding(module) -> Iterator[Offence]:
    """Text reads the same under every locale: open() and Path.read_text() name their encoding."""
    for name, call in calls(module):
        given = keywords(call)
        if name == "open" and "encoding" not in given:
            mode = ast.unparse(call.args[1]) if len(call.args) > 1 else str(given.get("mode", "r"))
            if "b" not in mode:
                yield call.lineno, "open() of text without encoding="
        reads = isinstance(call.func, ast.Attribute) and call.func.attr == "read_text"
        if reads and "encoding" not in given and not call.args:
            yield call.lineno, "read_text() without encoding="


#: Each rule with lines that break it (all of them) and lines that keep it.
RULES: dict[Callable[..., Iterator[Offence]], tuple[list[str], list[str]]] = {
    prints: (["print(1)", "sys.stdout.write('x')"], ["blueprint(1)"]),
    catches_everything: (
        [f"try: f()\nexcept{kind}: pass" for kind in ("", " Exception", " (ValueError, BaseException)")],
        ["try: f()\nexcept (OSError, ValueError): pass"],
    ),
    draws_globally: (
        ["np.random.rand(3)", "import random", "from numpy import random", "torch.randn(3)"],
        ["np.random.Generator(np.random.Philox(key=1))", "torch.randn(3, generator=g)", "from overread.core import random"],
    ),
    pickles: (
        ["import joblib.numpy_pickle", "pickle.dumps(x)", "torch.load(p)", "torch.load(p, weights_only=False)",
         "torch.save(x, p)", "np.load(p, allow_pickle=True)"],
        ["torch.load(p, weights_only=True)", "import pickle\ntry: f()\nexcept pickle.UnpicklingError: pass"],
    ),
    evaluates: (["eval('1')", "exec(s)", "os.system(s)", "subprocess.run(s, shell=True)"], ["subprocess.run([s])"]),
    thaws: (
        [f"{decorator}\nclass C: pass" for decorator in ("@dataclass", "@dataclasses.dataclass()", "@dataclass(eq=True)")],
        ["@dataclass(frozen=True)\nclass C: pass"],
    ),
    shares_a_default: (["def f(a=[]): pass", "def f(*, a={}): pass"], ["def f(a=(), *, b=None): pass"]),
    opens_in_any_encoding: (
        ["open(p)", "open(p, 'w')", "p.read_text()"],
        ["open(p, 'rb')", "open(p, encoding='utf-8')", "p.read_text('utf-8')", "p.read_text(encoding='utf-8')"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module(rule, package, offenders):
    assert not (found := offenders(rule, package.values())), "\n".join([rule.__doc__, *found])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_finds_what_breaks_it(rule, snippet):
    bad, good = RULES[rule]
    assert not [text for text in bad if not list(rule(snippet(text)))], "broken, and not found"
    assert not [text for text in good if list(rule(snippet(text)))], "kept, and found"


def test_torch_is_seeded_in_one_place_at_most(package):
    seeded = {
        m.name for m in package.values() for name, _ in calls(m) if name.endswith("manual_seed") and "torch" in name
    }
    assert len(seeded) <= 1, seeded
