"""The bill of materials names what is installed, and nothing of the machine."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from overread.core.bill_of_materials import bill_of_materials


def test_it_names_the_dependencies_with_the_versions_that_are_installed() -> None:
    made = bill_of_materials()
    versions = {part["name"].lower().replace("_", "-"): part["version"] for part in made["components"]}
    for name in ("torch", "numpy", "pydicom", "safetensors", "typing-extensions"):  # the last by others only
        assert versions[name] == importlib.metadata.version(name)
    assert made["metadata"]["component"]["version"] == importlib.metadata.version("overread")


def test_every_reference_has_a_component_and_every_component_a_reference() -> None:
    made = bill_of_materials()
    names = {part["bom-ref"] for part in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    assert {entry["ref"] for entry in made["dependencies"]} == names
    assert {each for entry in made["dependencies"] for each in entry["dependsOn"]} <= names
    assert all(part["purl"].startswith("pkg:pypi/") for part in made["components"])


def test_it_says_nothing_of_the_machine_and_is_the_same_twice() -> None:
    text = json.dumps(bill_of_materials())
    assert text == json.dumps(bill_of_materials())
    assert str(Path.home()) not in text
    assert "site-packages" not in text


def test_a_package_that_is_not_there_has_no_parts() -> None:
    assert bill_of_materials("no-such-package")["components"] == []
