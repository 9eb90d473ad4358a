"""What is installed is what the package asks for: no requirement of a requirement is missing or of another release."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement


def test_all_that_overread_requires_fits_together() -> None:
    offenders, seen, waiting = (
        [],
        set(),
        [("overread", Requirement("overread[export,index,search,serve,slides,weights]"))],
    )
    while waiting:
        by, wanted = waiting.pop()
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            offenders.append(f"{by} requires {wanted}, which is not installed")
            continue
        if not wanted.specifier.contains(found.version, prereleases=True):
            offenders.append(f"{by} requires {wanted}, but {found.version} is installed")
        if (found.name, *sorted(wanted.extras)) in seen:
            continue
        seen.add((found.name, *sorted(wanted.extras)))
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                waiting.append((found.name, needed))
    assert len(seen) > 30
    assert not offenders, "\n".join(offenders)
