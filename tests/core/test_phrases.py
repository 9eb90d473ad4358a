"""Words that every message shares."""

from __future__ import annotations

import os
import shlex

import numpy as np
import pytest

from overread.core.phrases import command_of, count, without_folders


@pytest.mark.parametrize(("many", "said"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (1234, "1,234 cases"), (np.int64(9), "9 cases"), (None, "an unknown number of cases")])  # fmt: skip
def test_a_number_has_its_noun(many, said):
    assert count(many, "case") == said


@pytest.mark.parametrize(
    ("word", "left"),
    [
        (r"C:\Users\anna\t.csv", "…/t.csv"),
        ("/home/anna smith/t.csv", "…/t.csv"),
        ("~/anna/skin/", "…/skin"),
        ("runs/skin", "…/skin"),
        ("--weights=/home/anna/w", "--weights=…/w"),
        ("t.csv", "t.csv"),
        ("-o", "-o"),
        ("source == 'a/b'", "source == 'a/b'"),
        ("augmentation.rotate=5", "augmentation.rotate=5"),
    ],
)
def test_a_path_loses_its_folders(word, left):
    assert without_folders(word) == left


@pytest.mark.skipif(os.name == "nt", reason="quoted as Windows reads it")
def test_a_command_can_be_pasted():
    words = ["overread", "split", "my runs/it's $HOME", "--where", "a == 'b c'"]
    assert shlex.split(command_of(words)) == words
