"""Every published system on its phantom, made smaller: one run each, then the papers' tables with ours beside them.

``python -m benchmarks.recipes [NAME …] -o runs/recipes`` (``make recipes``). Each system is ``overread demo --recipe NAME``
in a process of its own; called again, it goes on where it was stopped. Ends with ``published.md``: the tables, as
docs/reference/published.md has them, with the seconds of each run, and the bar: all of them within 30 minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from overread.core.errors import one_of
from overread.core.files import read_json, write_json, write_text
from overread.evaluation.comparison.beside_paper import BesidePaper, BesideRow
from overread.stats.estimate import Estimate
from overread.study.published import TABLE_FOLDER, PublishedSystem, systems

#: Seconds for all of them on two cores.
BAR = 30 * 60


def main() -> None:
    """Run each system, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which; all if none is given")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/recipes"))
    wanted = parser.parse_args()
    known = systems()
    names = [one_of(name, known, "the published system") for name in wanted.names] or sorted(known)
    failed, parts, took = [], [], 0.0
    for name in names:
        folder = wanted.output / name
        seconds = _run(name, folder)
        if seconds is None:
            failed.append(name)
            continue
        took += seconds
        parts.append(section(known[name], BesidePaper.load(folder / TABLE_FOLDER), seconds))
        print(f"{name}: {seconds:.0f} s", flush=True)
    print(f"all: {took:.0f} s (bar {BAR} s)" + (f"; failed: {', '.join(failed)}" if failed else ""))
    print(f"wrote {write_text(wanted.output / 'published.md', chr(10).join(parts))}")
    sys.exit(1 if failed or took > BAR else 0)


def _run(name: str, folder: Path) -> float | None:
    """Seconds of the run, those of an earlier one if it is there already; None where it failed."""
    kept = folder / "seconds.json"
    if kept.exists():
        return float(read_json(kept))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "overread.cli.main", "demo", "--recipe", name, "-o", str(folder)], check=False
    )
    seconds = time.monotonic() - began
    if done.returncode:
        return None
    write_json(kept, seconds)
    return seconds


def section(system: PublishedSystem, found: BesidePaper, seconds: float) -> str:
    """A system's part of the page, as Markdown."""
    paper = system.paper
    lines = [f"## {system.name}", "", f"{paper.authors}: {paper.title} ({paper.year}), [doi:{paper.doi}](https://doi.org/{paper.doi}). {paper.asks} "
             f"Their data: {paper.data}.", "", f"`overread demo --recipe {system.name}` ({seconds:.0f} s):", "",
             f"| | {found.paper} | phantom |", "|---|---|---|"]  # fmt: skip
    lines += [
        f"| {row.published.what} ({row.published.where}) | {row.published} | {_ours(row)} |" for row in found.rows
    ]
    lines += ["", "Reduced: " + "; ".join(found.reduced) + "." if found.reduced else ""]
    lines += [f"Left out: {line}." for line in found.left_out]
    return "\n".join([*lines, ""])


def _ours(row: BesideRow) -> str:
    return str(row.ours) if isinstance(row.ours, Estimate) else f"– {row.missing}"


if __name__ == "__main__":
    main()
