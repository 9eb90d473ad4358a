"""What `overread run` reaches by itself in a given time, rung by rung: HAM10000, PneumoniaMNIST, AdrenalMNIST3D.

    python benchmarks/learning.py --data FOLDER --weights FOLDER --seeds 0 1 2 [--set ham10000] [--budget 30m] [-o runs/bench]

FOLDER holds `ham10000/metadata.csv`, `pneumoniamnist/pneumoniamnist.npz` and `adrenalmnist3d/adrenalmnist3d.npz`. The test part is opened
once a run, as its ledger shows. Run it on a machine that does nothing else: the budget is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HAM = ["--image", "file", "--label", "dx", "--patient", "lesion_id", "--source", "dataset", "--names", "keep"]
#: The published splits hold some images twice.
LEAKS = ["--despite", "leak", "--despite", "near-leak"]
#: What is published of them is accuracy, so the threshold is the one of highest accuracy on tuning data.
ACCURACY = ["--rule", "accuracy"]
#: Each set: its table, the flags of the study, and its budget.
SETS = {
    "ham10000": ("ham10000/metadata.csv", HAM, "30m"),
    "pneumoniamnist": ("pneumoniamnist/pneumoniamnist.npz", [*LEAKS, *ACCURACY], "15m"),
    "adrenalmnist3d": ("adrenalmnist3d/adrenalmnist3d.npz", [*LEAKS, *ACCURACY], "15m"),
}
TOLD = ("macro auc", "auc", "accuracy", "top accuracy", "balanced accuracy", "top balanced accuracy", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", choices=SETS, action="append")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="further flags of overread run")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/learning"))
    asked = parser.parse_args()
    for name in asked.set or SETS:
        table, flags, budget = SETS[name]
        for seed in asked.seeds:
            folder = asked.output / f"{name}-{seed}"
            weights = ["--weights", str(asked.weights)] if asked.weights else []
            command = [sys.executable, "-m", "overread.cli.main", "run", str(asked.data / table), *flags, "--offline", "--seed", str(seed),
                       "--budget", asked.budget or budget, "-o", str(folder), *weights, *asked.more]  # fmt: skip
            subprocess.run(command, check=True)
            tell(name, seed, folder)


def tell(name: str, seed: int, folder: Path) -> None:
    """The rungs, and the test metrics of the whole."""
    print(f"\n{name}, seed {seed}: {json.loads((folder / 'record.json').read_text())['seconds']} s, "
          f"{len((folder / 'ledger.jsonl').read_text().splitlines())} entry of the ledger")  # fmt: skip
    for rung in json.loads((folder / "model" / "ladder.json").read_text()):
        print(f"  {rung['name']:28} {rung['score']:.3f} after {rung['began'] + rung['seconds']:5.0f} s  {'kept' if rung['taken'] else 'not kept'}  {rung['what']}")  # fmt: skip
    for estimate in json.loads((folder / "evaluation" / "metrics.json").read_text()):
        if not estimate["where"] and estimate["metric"] in TOLD and estimate["value"] is not None:
            print(f"  {estimate['metric']:22} {estimate['of'] or 'all':12} {estimate['value']:.3f} ({estimate['low']:.3f}–{estimate['high']:.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
