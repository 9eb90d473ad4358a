"""The model card says what it must, from the files, safely."""

from __future__ import annotations

from overread.core.files import read_json
from overread.reporting import card


def test_the_card_holds_use_data_training_results_and_limits(each):
    text = card(each).read_text(encoding="utf-8")
    for heading in ("# ", "## Use", "## Data", "## Training", "## Results", "## Limits"):
        assert f"{heading}" in text
    assert "Not a medical device" in text
    assert "to be completed by the authors" in text


def test_its_numbers_are_those_of_the_files(finished):
    folder = finished("binary")
    text = card(folder).read_text(encoding="utf-8")
    auc = next(e for e in read_json(folder / "evaluation/metrics.json") if e["metric"] == "auc" and not e["where"])
    assert f"| AUC | {auc['value']:.3f} | {auc['low']:.3f} – {auc['high']:.3f} |" in text


def test_tables_cannot_be_broken_by_names(finished):
    text = card(finished("nasty")).read_text(encoding="utf-8")
    assert "<img" not in text
    assert "<script" not in text
