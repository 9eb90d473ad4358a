"""The steps of a study of slides that need no network."""

from __future__ import annotations

from types import SimpleNamespace

from overread.study.slides.slide_predictions import _empty


def test_maps_of_another_model_go_also_where_one_was_stopped(tmp_path):
    """What was journalled of a map that was stopped is a folder beside it."""
    stopped = tmp_path / "maps" / "a.tif.part"
    stopped.mkdir(parents=True)
    (stopped / "rows-0.npy").write_bytes(b"x")
    (tmp_path / "maps" / "b.tif").write_bytes(b"x")
    _empty(tmp_path, SimpleNamespace(digest="one"))
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["of.json"]
    (tmp_path / "maps" / "c.tif").write_bytes(b"x")
    _empty(tmp_path, SimpleNamespace(digest="one"))
    assert (tmp_path / "maps" / "c.tif").exists()
