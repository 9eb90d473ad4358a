"""``kill -9`` anywhere between the first look at the data and the last checkpoint: the resumed weights are the unbroken run's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# One process imports everything, then forks a child for each training, so that a kill costs no new start.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
import torch
from overread import Recipe, read_cases, split, train
from overread.core.files import sha256_file
from overread.learning import auto, device, fit as fitting, ladder, loop, train as training

table, home, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
torch.set_num_threads(1)
device._cpu_bfloat16 = lambda: True  # as on a processor where precisions are compared
measured = auto.time_step
auto.time_step = lambda network, x, precision: (measured(network, x, precision), 1.0 if precision == "float32" else 2.0)[1]
cases = read_cases(table, image="image", label="diagnosis", patient="patient", source="microscope")
parts = split(cases, test=0.2, tuning=0.2, seed=1)
recipe = Recipe(method="scratch", backbone="resnet_tiny", epochs=2, image_size=24, batch_size=16, seed=3)
climbing = Recipe(backbone="lenet5", epochs=2, image_size=28, batch_size=16, members=2, seed=3)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def killed(module, name, call=1, late=True):
    real, calls = getattr(module, name), []

    def wrapped(*arguments, **named):
        calls.append(1)
        if len(calls) == call and not late:
            die()
        result = real(*arguments, **named)
        if len(calls) == call:
            die()
        return result

    setattr(module, name, wrapped)


POINTS = {
    "nowhere": lambda: None,
    "after the probe of precision": lambda: killed(auto, "_precision"),
    "within the probe of precision": lambda: killed(auto, "time_step", 2),
    "after the plan is kept": lambda: killed(training, "_keep_plan"),
    "after decoding": lambda: killed(training, "decode"),
    "with the first weights": lambda: killed(fitting, "initial_network"),
    "before the first checkpoint": lambda: killed(loop, "save_checkpoint", late=False),
    "after the first checkpoint": lambda: killed(loop, "save_checkpoint"),
    "in the first step": lambda: killed(loop, "backward"),
    "when the second epoch is judged": lambda: killed(loop, "_remember", 2),
    "before the last checkpoint": lambda: killed(loop, "save_checkpoint", 3, late=False),
    "a ladder nowhere": lambda: None,
    "a ladder when its heads are found": lambda: killed(training, "_frozen"),
    "a ladder after its first rung": lambda: killed(ladder, "_stand"),
    "a ladder in a step of its second fold": lambda: killed(loop, "backward", 6),
    "a ladder while a fold is judged": lambda: killed(ladder, "outputs_on", 4, late=False),
    "a ladder when its members are chosen": lambda: killed(ladder, "choose_members", late=False),
}


def child(name, point):
    if os.fork() == 0:
        point()
        wanted = climbing if name.startswith("a ladder") else recipe
        model = train(cases, parts, wanted, threads=1, cache=home / "cache", folder=home / name / "checkpoints", network=False)
        model.save(home / name / "model")
        os._exit(0)
    return os.wait()[1]


found = {}
for name in names:
    ended = child(name, POINTS[name])
    again = child(name, lambda: None) if ended else 0
    weights = home / name / "model" / "model.safetensors"
    found[name] = [ended, again, sha256_file(weights) if weights.exists() else "", sha256_file(weights.with_name("history.json"))]
print(json.dumps(found))
"""


SOON = ("before the first checkpoint",)
LATER = ("within the probe of precision", "after the probe of precision", "after the plan is kept", "after decoding", "with the first weights", "after the first checkpoint",
         "in the first step", "when the second epoch is judged", "before the last checkpoint")  # fmt: skip
LADDER = ("a ladder when its heads are found", "a ladder after its first rung", "a ladder in a step of its second fold",
          "a ladder while a fold is judged", "a ladder when its members are chosen")  # fmt: skip


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("whole", "names"),
    [
        ("nowhere", SOON),
        pytest.param("nowhere", LATER, marks=SLOW),
        pytest.param("a ladder nowhere", LADDER, marks=SLOW),
    ],
    ids=["soon", "later", "ladder"],
)
def test_a_training_killed_anywhere_ends_byte_for_byte_like_an_unbroken_one(phantom, tmp_path, whole, names) -> None:
    """Once the probe trained the network itself, moved its averages, and a resumed training began from others."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = subprocess.run([sys.executable, "-c", DRIVER, str(phantom), str(tmp_path), whole, *names], capture_output=True, text=True,
                          timeout=500, env=environment)  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    found = json.loads(made.stdout.strip().splitlines()[-1])
    ended, _, weights, _ = found.pop(whole)
    assert (ended, bool(weights)) == (0, True)
    assert set(found) == set(names)
    for name, (killed, resumed, same, _) in found.items():
        assert killed == 9, f"{name}: it was not killed there"
        assert resumed == 0, name
        assert same == weights, f"killed {name}, it ends with other weights"


def test_what_a_killed_process_left_half_written_is_removed_and_told(tmp_path) -> None:
    script = """
import os, signal, sys
from overread.core.files import publish
with publish(sys.argv[1]) as beside:
    beside.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    from overread.core.files import remove_strays

    targets = [tmp_path / "model" / "model.safetensors", tmp_path / "cache" / "features" / "x.safetensors"]
    for target in targets:
        ended = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
        assert ended.returncode == -9
        assert len(list(target.parent.iterdir())) == 1
    mine = tmp_path / "cache" / f".y.json.{_digits(targets[1])}-{os.getpid()}-1.part"  # a process that lives writes it
    others = tmp_path / "cache" / ".z.json.00000f-1-1.part"  # another machine may be writing it
    kept = [mine, others, tmp_path / "cache" / ".notes.part", tmp_path / "cache" / "b.part"]
    for path in kept:
        path.write_text("x")
    assert [path.suffix for path in remove_strays(tmp_path / "model")] == [".part"]
    assert len(remove_strays(tmp_path / "cache", shared=True)) == 1
    assert all(path.exists() for path in kept)
    assert not any(target.parent.exists() and list(target.parent.iterdir()) for target in targets)
    os.utime(others, (0, 0))  # since 1970
    assert remove_strays(tmp_path / "cache", shared=True) == [others]
    assert len(remove_strays(tmp_path / "cache")) == 1  # its folder is locked: nobody writes there


def _digits(target: Path) -> str:
    (stray,) = target.parent.iterdir()
    return stray.name.split(".")[-2].split("-")[0]
