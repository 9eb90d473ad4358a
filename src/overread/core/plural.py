"""A number with its noun, singular or plural, for every message."""

from __future__ import annotations

from overread.core.errors import checked


@checked
def count(how_many: int | float | None, noun: str, plural: str = "") -> str:
    """A number with its noun; None is unknown.

    >>> count(1, "patient"), count(1203, "patient"), count(2, "class", "classes")
    ('1 patient', '1,203 patients', '2 classes')
    """
    if how_many is None:
        return f"an unknown number of {plural or noun + 's'}"
    return f"{int(how_many):,} {noun if how_many == 1 else plural or noun + 's'}"
