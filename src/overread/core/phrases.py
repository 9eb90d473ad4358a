"""Words for people that every message shares: a number with its noun, a command to be pasted, a path without its folders."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import SupportsInt

from overread.core.errors import checked


@checked
def count(how_many: SupportsInt | None, noun: str, plural: str = "") -> str:
    """A number with its noun; None is unknown.

    >>> count(1, "patient"), count(1203, "patient"), count(2, "class", "classes")
    ('1 patient', '1,203 patients', '2 classes')
    """
    if how_many is None:
        return f"an unknown number of {plural or noun + 's'}"
    return f"{int(how_many):,} {noun if how_many == 1 else plural or noun + 's'}"


@checked
def command_of(words: Sequence[object]) -> str:
    """A command that can be pasted into the shell of this system: words with blanks or signs in quotes.

    >>> command_of(["overread", "split", "my runs/skin"]) if os.name != "nt" else "overread split 'my runs/skin'"
    "overread split 'my runs/skin'"
    """
    texts = list(map(str, words))
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


@checked
def without_folders(word: str) -> str:
    """A word of a command whose path, if it is one, has lost its folders: these may hold names.

    >>> without_folders("/home/anna smith/metadata.csv"), without_folders("--weights=~/w/x"), without_folders("modality == 'a/b'")
    ('…/metadata.csv', '--weights=…/x', "modality == 'a/b'")
    """
    found = _PATH.fullmatch(word)
    return f"{found['flag'] or ''}…/{found['name']}" if found else word


_PATH = re.compile(r"(?s)(?P<flag>--[\w-]+=)?[^=<>()'\"]*[/\\](?P<name>[^=<>()'\"/\\]+)[/\\]?")


@checked
def aligned(rows: Sequence[tuple[str, ...]], right: int = 0) -> list[str]:
    """Rows of texts as lines, each column as wide as its widest cell; the last ``right`` stand to the right.

    >>> aligned([("metric", "n"), ("auc", "10")], right=1)
    ['metric   n', 'auc     10']
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    last = len(widths) - right
    return [
        "  ".join(c.rjust(w) if i >= last else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
