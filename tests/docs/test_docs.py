"""The documents are true: the tutorial runs, commands and options exist, links lead somewhere."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages whose blocks are run.
TUTORIALS = [*sorted((ROOT / "docs" / "tutorial").glob("*.md")), ROOT / "docs" / "how-to" / "in-a-notebook.md"]


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, its text, and where it starts."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    found, inside, start, language = [], None, 0, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if inside is None:
                inside, start, language = [], number, line[3:].strip()
            else:
                found.append(Block(language, "\n".join(inside) + "\n", start))
                inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{page.name}:{start}: the block is not closed"
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command_lines(page: Path) -> list[tuple[int, list[str]]]:
    """Every ``overread …`` line of the page's shell blocks, continuation lines and quoted texts joined, comments left out."""
    found = []
    for block in blocks(page):
        if block.language.split()[:1] == ["bash"]:
            rest = ""
            for line in block.text.replace("\\\n", " ").splitlines():
                rest += line + "\n"
                try:
                    words = shlex.split(rest, comments=True)
                except ValueError:  # a quoted text goes on in the next line
                    continue
                rest = ""
                if words[:1] == ["overread"]:
                    found.append((block.line, words[1:]))
    return found


# -- they run -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=name)
def test_the_tutorial_runs(page, tmp_path, monkeypatch):
    """Blocks in order, Python in one namespace, shell lines with the environment's own ``overread``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    namespace: dict[str, object] = {"__name__": "tutorial"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, name(page), "exec"), namespace)
        elif block.language == "bash":
            shell = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(shell, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{name(page)}:{block.line}\n{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_are_python(page):
    for block in blocks(page):
        if block.language.startswith("python"):
            compile(block.text, f"{name(page)}:{block.line}", "exec")
        elif block.language.startswith("toml"):
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_of_the_api_exist(page):
    overread = importlib.import_module("overread")
    used = {m for b in blocks(page) if b.language.startswith("python") for m in re.findall(r"\bov\.(\w+)", b.text)}
    assert not used - set(overread.__all__)


# -- what they name exists ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page):
    lines = command_lines(page)
    if not lines:
        pytest.skip("no commands on this page")
    typer = pytest.importorskip("typer")
    root = typer.main.get_command(pytest.importorskip("overread.cli.main").app)
    for line, words in lines:
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        alone = getattr(command, "invoke_without_command", False)
        assert alone or not hasattr(command, "commands"), f"{name(page)}:{line}: no such command: {words[:1]}"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [w for w in words if w.startswith("-") and w.split("=")[0] not in {*known, "--help"}]
        assert not unknown, f"{name(page)}:{line}: {command.name} has no option {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{name(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes from a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_of_the_docs_is_listed(page):
    if page.parent.name in ("tutorial", "how-to", "concepts", "reference", "decisions"):
        relative = page.relative_to(ROOT / "docs").as_posix()
        assert f"({relative})" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")


# -- tables are complete ------------------------------------------------------------------------------------


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(n for extra in project["optional-dependencies"].values() for n in extra)]
    page = (ROOT / "docs" / "decisions" / "dependencies.md").read_text(encoding="utf-8")
    missing = (
        {re.split(r"[\[><=~! ]", n)[0] for n in wanted} - {"overread"} - set(re.findall(r"^\| `([^`]+)`", page, re.M))
    )
    assert not missing


def test_every_tested_version_is_of_a_dependency_and_new_enough():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(n for extra in project["optional-dependencies"].values() for n in extra)]
    floors = {r.name: r.specifier for r in map(Requirement, wanted)}
    for line in (ROOT / "requirements" / "tested.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            package, version = line.split("==")
            assert floors[package].contains(version), line


def recipe_defaults() -> dict[str, object]:
    """The default of every field of a recipe and of its groups, as JSON has them."""
    recipe = pytest.importorskip("overread.learning.recipe")
    plain = importlib.import_module("overread.core.files").plain

    def of(group: object, before: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for each in dataclasses.fields(group):
            value = getattr(group, each.name)
            inner = before or each.name in ("augmentation", "segmentation", "tiles")  # other groups are no settings
            found[before + each.name] = None if dataclasses.is_dataclass(value) else plain(value)
            if inner and dataclasses.is_dataclass(value):
                found |= of(value, f"{before}{each.name}.")
        return found

    return of(recipe.Recipe())


def test_every_field_of_the_recipe_is_described_with_its_default():
    page = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", page, re.M))
    defaults = recipe_defaults()
    assert set(described) == set(defaults)
    coded = {name: text[1] for name, said in described.items() if (text := re.fullmatch(r"`(.*)`", said))}
    assert {name: json.loads(text) for name, text in coded.items()} == {name: defaults[name] for name in coded}
    uncoded = {name for name, value in defaults.items() if "." in name and value is not None} - set(coded)
    assert not uncoded, "the fields of a group have their default in the table"


def test_every_command_and_option_is_described():
    typer = pytest.importorskip("typer")
    root = typer.main.get_command(pytest.importorskip("overread.cli.main").app)
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    for path, command in leaves(root):
        assert f"`overread {path}" in page, f"docs/reference/command-line.md does not describe 'overread {path}'"
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden and parameter.name != "help":
                long = max(parameter.opts, key=len)
                assert long in page, f"docs/reference/command-line.md does not describe {long} of 'overread {path}'"


def leaves(command, path: tuple[str, ...] = ()):
    if hasattr(command, "commands"):
        for word, child in command.commands.items():
            if not child.hidden:
                yield from leaves(child, (*path, word))
    else:
        yield " ".join(path), command
