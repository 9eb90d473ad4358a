"""Several processes train as one does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

#: What every process runs: the first one fits, the others follow; ``sys.argv``: where the outputs go, the network, this folder.
SCRIPT = """
import sys
from contextlib import nullcontext
import numpy as np, torch
sys.path.insert(0, sys.argv[3])
from test_replicas import fitted
from overread.learning.replicas import follow, leads, process_group, processes
torch.set_num_threads(1)
with process_group() if processes() > 1 else nullcontext():
    if leads():
        np.savez(sys.argv[1], **fitted(sys.argv[2]))
    else:
        follow()
"""


def fitted(backbone: str) -> dict[str, np.ndarray]:
    """A network of two epochs on noise with a signal: its outputs and its losses."""
    from overread.learning.fit import fit
    from overread.learning.ladder import outputs_on

    sys.path.insert(0, str(Path(__file__).parent))
    from test_ladder import RECIPE, data

    found, said = data(patients=61), []
    table = found.cases.table.assign(source=["a", "b"] * 61)
    found = replace(found, cases=replace(found.cases, table=table))
    recipe = RECIPE.changed(
        backbone=backbone, dropout=0.0, epochs=2, batch_size=16, augment="none", mix="mixup", source_weights={"a": 0.5}
    )
    model = fit(found, recipe, threads=1, say=said.append)
    losses = [row["train loss"] for row in model.history]
    return {"outputs": outputs_on(model, found, found.tuning), "losses": np.array(losses), "said": np.array(said)}


def started(command: list[str], processes: int) -> list[int]:
    """The exit codes of a command in so many processes, told of each other as ``torchrun`` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    several = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} | several if processes > 1 else {} for rank in range(processes)]
    running = [subprocess.Popen([sys.executable, *command], env=shared | each) for each in own]
    return [process.wait(timeout=120) for process in running]


def run(folder: Path, backbone: str, processes: int) -> dict[str, np.ndarray]:
    (folder / "script.py").write_text(SCRIPT)
    command = [str(folder / "script.py"), str(folder / f"{processes}.npz"), backbone, str(Path(__file__).parent)]
    assert started(command, processes) == [0] * processes
    with np.load(folder / f"{processes}.npz") as held:
        return dict(held)


@pytest.mark.slow
def test_two_processes_give_the_predictions_of_one_within_a_ten_thousandth(tmp_path) -> None:
    """Without batch norms and dropout the parts of a batch are the batch, but for the order of sums."""
    one, two = (run(tmp_path, "lenet5", many) for many in (1, 2))
    np.testing.assert_allclose(two["outputs"], one["outputs"], atol=1e-4)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    assert any("processes: 2" in line for line in two["said"])
    assert not any("processes" in line for line in one["said"])


@pytest.mark.slow
def test_with_batch_norms_more_processes_than_a_small_batch_has_pairs_still_learn(tmp_path) -> None:
    three = run(tmp_path, "cnn_small", 3)
    assert np.isfinite(three["outputs"]).all()
    assert three["losses"][-1] < three["losses"][0]


@pytest.mark.slow
def test_the_command_runs_in_several_processes_and_ends_all_of_them_after_an_error(phantom, tmp_path) -> None:
    command = ["-m", "overread.cli.main", "run", str(phantom), "--image", "image", "--label", "diagnosis", "--patient", "patient", "--offline",
               "--recipe", "scratch", "--backbone", "lenet5", "--epochs", "1", "--image-size", "32", "-o", str(tmp_path / "run")]  # fmt: skip
    assert started(command, 2) == [0, 0]
    assert (tmp_path / "run" / "report.html").exists()
    assert len((tmp_path / "run" / "ledger.jsonl").read_text().splitlines()) == 1
    command[3] = str(tmp_path / "nothing.csv")
    assert started(command, 2) == [2, 0]


@pytest.mark.parametrize(("changed", "words"), [({"LOCAL_WORLD_SIZE": "1"}, "devices of one machine")])
def test_processes_on_several_machines_are_refused(monkeypatch, changed, words) -> None:
    from overread.core.errors import UnavailableError
    from overread.learning.replicas import process_group

    for name, value in ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"} | changed).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnavailableError, match=words), process_group():
        pass
