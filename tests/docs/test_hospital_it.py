"""docs/how-to/hospital-it.md says what ``overread serve --check`` says."""

from __future__ import annotations

from pathlib import Path

from overread.serving.hospital_it import hospital_it
from overread.serving.policy import ServingSettings


def test_the_page_holds_every_line_that_the_server_says(root: Path) -> None:
    page = (root / "docs" / "how-to" / "hospital-it.md").read_text(encoding="utf-8")
    for line in hospital_it(ServingSettings()):
        assert f"| {line.topic} | {line.question} | {line.answer} |" in page, line
