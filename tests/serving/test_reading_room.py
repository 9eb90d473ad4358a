"""What the room makes of what a reader says, whatever its classes are called and wherever its run lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import StandIn, a_model, files, png, settings_of

from overread.explanation.explanation import Explanation
from overread.explanation.verdict import Checks
from overread.serving.maps import explain_answer
from overread.serving.reading_room import ReadingRoom
from overread.serving.rest import MethodOf


@dataclass(frozen=True)
class Told:
    """An opinion of these fields."""

    held: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        return self.held

    def discreet(self) -> Told:
        return self


@dataclass(frozen=True, eq=False)
class Says(StandIn):
    """A reader that says what it is given."""

    said: dict[str, Any] | None = None

    def opinion(self, images: Any, *, case: str = "") -> Told:  # type: ignore[override]
        return Told({"kind": "classes", "answers": [], **(self.said or {})})


@pytest.mark.parametrize("run", [".", "mel"])
def test_names_of_classes_are_told_as_they_are(tmp_path, run):
    """Also where the run's folder is called like one, and where one holds a slash."""
    (tmp_path / "image.png").write_bytes(png())
    said = {"answers": [{"name": "mel / nevus", "value": 0.25}, {"name": "n.o.s.", "value": 0.75}], "called": "mel", "ruled_in": ["mel / nevus"],
            "facts": ["made to tell which of an image: mel / nevus, n.o.s.", "see /srv/runs/mel/model"]}  # fmt: skip
    room = ReadingRoom(Says(a_model(), said=said), settings_of(tmp_path), Path(run))
    told = room.opinion([str(tmp_path / "image.png")])
    assert [row.name for row in told.answers] == ["mel / nevus", "n.o.s."]
    assert (told.called, told.ruled_in) == ("mel", ["mel / nevus"])
    assert told.facts == ["made to tell which of an image: mel / nevus, n.o.s.", "see …"]


def test_sentences_name_the_run_by_no_path(tmp_path):
    (tmp_path / "image.png").write_bytes(png())
    why = f"make it with `overread similar {tmp_path} --build-only`"
    said = {"novelty": {"unlike": None, "why": why}, "calibration": why, "warnings": [why, "see /etc/passwd"]}
    told = ReadingRoom(Says(a_model(), said=said), settings_of(tmp_path), tmp_path).opinion(
        [str(tmp_path / "image.png")]
    )
    assert told.novelty.why == told.calibration == "make it with `overread similar RUN --build-only`"
    assert told.warnings == [told.calibration, "see …"]


def test_maps_are_made_on_the_device_and_with_the_threads_of_the_reader(opened, reader, monkeypatch):
    used = []

    def explain(*given, device="", threads=0, **rest):
        used.append((device, threads))
        raise RuntimeError

    monkeypatch.setattr("overread.serving.reading_room.explain", explain)
    opened(reader=replace(reader, device="cuda:1", threads=3)).post("/explain", files=files(png()))
    assert used == [("cuda:1", 3)]


def test_every_map_of_a_case_has_its_verdict():
    blank = np.zeros((1, 4, 4), np.float32)
    maps = [
        Explanation("case", "ill", "grad-cam", "relu", blank + 1, blank[..., None].astype(np.uint8), 0.5, ("",), ())
        for _ in range(2)
    ]
    poor, better = Checks(rank=0.9, ssim=0.9, edges=0.8), Checks(rank=0.1, ssim=0.1, edges=0.1)
    method = MethodOf("grad-cam", "Grad-CAM", "", "")
    same = [each.judged(poor) for each in maps]
    assert explain_answer(same, method, 3).verdict == same[0].verdict
    differ = [maps[0].judged(poor), maps[1].judged(better)]
    assert explain_answer(differ, method, 3).verdict == f"image 1: {differ[0].verdict} image 2: {differ[1].verdict}"
