"""Rows about files are made once, kept under keys that name nobody, and made again where they have to be."""

from __future__ import annotations

import pandas as pd
import pytest

from overread.cases.audit.described_rows import DescribedRows, file_state
from overread.core.errors import ArgumentError, ImageError

NOTHING = {"error": "", "size": 0, "hash": 0, "words": ""}
ROWS = DescribedRows("things", 1, NOTHING, {"hash": "uint64"})


@pytest.fixture
def asked(monkeypatch):
    """The words that were looked at, in order."""
    seen = []

    def looked_at(function, tasks, **how):
        for (word,) in tasks:
            seen.append(word)
            yield ImageError(f"{word} is torn") if word == "bad" else function(word)

    monkeypatch.setattr("overread.cases.audit.described_rows.contained", looked_at)
    return seen


def size(word):
    return NOTHING | {"size": len(word), "hash": 2**64 - len(word), "words": word}


def rows(words, cache=None, kind=ROWS):
    keys = [word and kind.key(word) for word in words]
    return kind.describe(size, [(word,) for word in words], keys, what="looking", threads=1, cache=cache)


def test_a_row_is_made_once_and_a_blank_key_is_a_row_of_nothing(asked, tmp_path):
    first = rows(["one", "", "three"], tmp_path)
    assert asked == ["one", "three"]
    assert first["size"].tolist() == [3, 0, 5]
    assert first["hash"].tolist() == [2**64 - 3, 0, 2**64 - 5]  # as a float it would have lost bits
    again = rows(["three", "four", "", "three"], tmp_path)
    assert asked == ["one", "three", "four"]
    pd.testing.assert_frame_equal(again.iloc[[0]], first.iloc[[2]].reset_index(drop=True))
    assert again["size"].tolist() == [5, 4, 0, 5]


def test_what_failed_is_tried_again_and_what_was_kept_by_another_version_is_not_taken(asked, tmp_path):
    assert rows(["bad", "one"], tmp_path)["error"].tolist() == ["bad is torn", ""]
    rows(["bad", "one"], tmp_path)
    assert asked == ["bad", "one", "bad"]
    rows(["one"], tmp_path, DescribedRows("things", 2, NOTHING, {"hash": "uint64"}))
    assert asked[3:] == ["one"]


def test_a_damaged_cache_or_one_of_other_columns_counts_as_empty(asked, tmp_path):
    rows(["one"], tmp_path)
    (tmp_path / "things.parquet").write_bytes(b"PAR1 torn")
    rows(["one"], tmp_path)
    rows(["one"], tmp_path, DescribedRows("things", 1, {"error": "", "size": 0}, {}))
    assert asked == ["one"] * 3


def test_threads_are_counted(asked):
    with pytest.raises(ArgumentError, match="threads must not be negative"):
        ROWS.describe(size, [], [], what="looking", threads=-1)


def test_the_state_of_a_folder_is_that_of_what_lies_in_it(tmp_path):
    (tmp_path / "a").write_text("1")
    before, file = file_state(str(tmp_path)), file_state(str(tmp_path / "a"))
    (tmp_path / "a").write_text("22")
    assert file_state(str(tmp_path)) != before
    assert file_state(str(tmp_path / "a")) != file
    assert file_state(str(tmp_path / "none")) == "absent"
