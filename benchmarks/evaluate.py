"""`overread evaluate` on a table of its own: `python benchmarks/evaluate.py [--quick]`.

Bars: 1,000 rows in 2.5 s without importing torch; a million rows with everything on (subgroups, patients with two images
each, a tuning table, figures and page) in under 60 s and 2 GB. Each run is a process of its own, so its seconds hold the
start of the interpreter and all imports; wall-clock and processor time and the peak of resident memory are named, for on
a busy machine the first says little. No peer does this work.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

#: Runs the command, then says on the last line whether torch has been imported.
RUN = (
    "import sys; from overread.cli.main import main; sys.argv = ['overread', *sys.argv[1:]]\n"
    "try: main()\n"
    "except SystemExit as end: code = end.code or 0\n"
    "else: code = 0\n"
    "sys.exit(code if 'torch' not in sys.modules else 99)"
)


def write(path: Path, rows: int, seed: int) -> Path:
    """A table of predictions: two images a patient, a prevalence of .2, an AUC of about .86, two columns to group by."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.2
    risk = 1 / (1 + np.exp(2 - 1.5 * truth - rng.normal(size=rows)))
    patient = np.char.add(f"{seed}-", (np.arange(rows) // 2).astype(str))
    table = pd.DataFrame({"case": np.char.add(f"{seed}-", np.arange(rows).astype(str)), "patient": patient})
    table = table.assign(label=np.where(truth, "ill", "well"), sex=rng.choice(["f", "m"], rows))
    table = table.assign(site=rng.choice(["a", "b", "c"], rows))
    table["p:ill"], table["p:well"] = risk, 1 - risk
    table.to_csv(path, index=False)
    return path


def run(*arguments: str) -> tuple[int, float, float, float]:
    """Exit code, wall-clock seconds, processor seconds and peak memory in GB of one process."""
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", RUN, *arguments], os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    code, spent = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    return code, time.perf_counter() - start, spent, usage.ru_maxrss * unit / 1e9


def show(name: str, rows: int, *more: str) -> None:
    """Print one run."""
    with tempfile.TemporaryDirectory() as folder:
        test = write(Path(folder) / "test.csv", rows, 0)
        if "--tuning" in more:
            write(Path(folder) / "tuning.csv", rows, 1)
        given = [a.replace("TUNING", str(Path(folder) / "tuning.csv")) for a in more]
        code, wall, spent, memory = run("evaluate", str(test), "--positive", "ill", *given)
    said = {0: "torch not imported", 99: "TORCH WAS IMPORTED"}.get(code, f"FAILED with exit code {code}")
    print(f"N = {rows:>9,}  {name:14} {wall:6.1f} s, processor {spent:6.1f} s, peak {memory:5.2f} GB, {said}")


def main() -> None:
    """Print each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no million rows")
    quick = parser.parse_args().quick
    show("numbers only", 1_000, "--no-figures")
    show("with figures", 1_000)
    everything = ("--tuning", "TUNING", "--subgroup", "sex", "--subgroup", "site", "--sensitivity", "0.9")
    show("everything on", 10_000 if quick else 1_000_000, *everything)


if __name__ == "__main__":
    main()
