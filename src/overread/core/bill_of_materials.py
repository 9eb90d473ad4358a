"""What overread is made of, as a software bill of materials: CycloneDX 1.5, from the metadata of what is installed."""

from __future__ import annotations

import importlib.metadata
import re
from importlib.metadata import Distribution, PackageNotFoundError
from typing import Any

from overread.core.errors import checked

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@checked
def bill_of_materials(root: str = "overread") -> dict[str, Any]:
    """The package ``root`` and all that it brings and that is installed, each with version, licence and package URL.

    Extras count where they are installed. Nothing of the machine is in it: no path, no name, no serial number.

    >>> bill_of_materials()["bomFormat"]
    'CycloneDX'
    """
    found = _installed(root)
    own = found.pop(_plain(root), None)
    about = {"type": "application", "name": root, "version": own.version if own else "", "bom-ref": _plain(root)}
    needs = {name: sorted({_plain(each) for each in _required(one)} & found.keys()) for name, one in found.items()}
    needs[_plain(root)] = sorted({_plain(each) for each in _required(own)} & found.keys()) if own else []
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": about},
        "components": [_component(name, found[name]) for name in sorted(found)],
        "dependencies": [{"ref": name, "dependsOn": needs[name]} for name in sorted(needs)],
    }  # fmt: skip


def _installed(root: str) -> dict[str, Distribution]:
    """``root`` and what it requires, and what that requires, by plain name; what is not installed is no part of it."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        try:
            one = importlib.metadata.distribution(name)
        except PackageNotFoundError:
            continue
        if _plain(name) not in found:
            found[_plain(name)] = one
            waiting += _required(one)
    return found


def _required(one: Distribution) -> list[str]:
    return [match[0] for text in one.requires or () if (match := _NAME.match(text))]


def _plain(name: str) -> str:
    """A package's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _component(name: str, one: Distribution) -> dict[str, Any]:
    licence = (one.metadata.get_all("License-Expression") or one.metadata.get_all("License") or [""])[0]
    trove = [
        text.rpartition(" :: ")[2] for text in one.metadata.get_all("Classifier") or () if text.startswith("License ::")
    ]
    short = licence if licence and len(licence) <= 100 and "\n" not in licence else "; ".join(trove)
    listed = {"licenses": [{"license": {"name": short}}]} if short else {}
    return {
        "type": "library",
        "bom-ref": name,
        "name": one.metadata["Name"],
        "version": one.version,
        "purl": f"pkg:pypi/{name}@{one.version}",
        **listed,
    }
