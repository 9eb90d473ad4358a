from __future__ import annotations

from overread.core.progress import silent


def test_silence_is_golden(capsys):
    assert silent("reading images", 1, 2) is None
    assert capsys.readouterr() == ("", "")
