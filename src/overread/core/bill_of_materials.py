"""What overread is made of, as a software bill of materials: CycloneDX 1.5, from the metadata of what is installed and of what
lies within the package itself."""

from __future__ import annotations

import importlib.metadata
import re
from importlib.metadata import Distribution, PackageNotFoundError
from typing import Any

from overread.core.errors import checked

#: What others wrote and the package holds as they published it: name, version, licence, SHA-256 of the file.
WITHIN = (
    ("openseadragon", "6.1.1", "BSD-3-Clause", "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@checked
def bill_of_materials(root: str = "overread") -> dict[str, Any]:
    """The package ``root`` and all that it brings and that is installed, each with version, licence and package URL; of overread
    also what lies within it (:data:`WITHIN`), each with the hash of its file.

    Extras count where they are installed. Nothing of the machine is in it: no path, no name, no serial number.

    >>> bill_of_materials()["bomFormat"]
    'CycloneDX'
    """
    found = _installed(root)
    own = found.pop(_plain(root), None)
    about = {"type": "application", "name": root, "version": own.version if own else "", "bom-ref": _plain(root)}
    needs = {name: sorted({_plain(each) for each in _required(one)} & found.keys()) for name, one in found.items()}
    within = [_held(*each) for each in WITHIN] if own and _plain(root) == "overread" else []
    needs[_plain(root)] = (
        sorted({_plain(each) for each in _required(own)} & found.keys() | {each["bom-ref"] for each in within})
        if own
        else []
    )
    needs |= {each["bom-ref"]: [] for each in within}
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": about},
        "components": [*(_component(name, found[name]) for name in sorted(found)), *within],
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


def _held(name: str, version: str, licence: str, digest: str) -> dict[str, Any]:
    """A file of others that lies within the package."""
    return {"type": "library", "bom-ref": name, "name": name, "version": version, "purl": f"pkg:npm/{name}@{version}",
            "licenses": [{"license": {"name": licence}}], "hashes": [{"alg": "SHA-256", "content": digest}]}  # fmt: skip


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
