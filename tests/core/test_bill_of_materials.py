"""The bill of materials names what is installed, and nothing of the machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tomllib
from pathlib import Path

import overread
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
    assert all(part["purl"].startswith(("pkg:pypi/", "pkg:npm/")) for part in made["components"])


def test_what_lies_within_the_package_is_the_file_that_was_published() -> None:
    """By the hash of build/openseadragon/openseadragon.min.js of `npm pack openseadragon@6.1.1`; its licence lies beside it."""
    held = [part for part in bill_of_materials()["components"] if part["purl"].startswith("pkg:npm/")]
    assert [(part["name"], part["version"]) for part in held] == [("openseadragon", "6.1.1")]
    folder = Path(overread.__file__).parent / "serving" / "slides" / "page" / "openseadragon"
    data = (folder / "openseadragon.min.js").read_bytes()
    assert data.startswith(b"//! openseadragon 6.1.1\n")
    assert held[0]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}]
    licence = (folder / "openseadragon.LICENSE.txt").read_text("utf-8")
    assert "CodePlex Foundation" in licence
    assert "Redistribution and use in source and binary forms" in licence
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert any(file.endswith("openseadragon.LICENSE.txt") for file in project["license-files"])
    assert sorted(path.name for path in folder.iterdir()) == ["openseadragon.LICENSE.txt", "openseadragon.min.js"]


def test_it_says_nothing_of_the_machine_and_is_the_same_twice() -> None:
    text = json.dumps(bill_of_materials())
    assert text == json.dumps(bill_of_materials())
    assert str(Path.home()) not in text
    assert "site-packages" not in text


def test_a_package_that_is_not_there_has_no_parts() -> None:
    assert bill_of_materials("no-such-package")["components"] == []
