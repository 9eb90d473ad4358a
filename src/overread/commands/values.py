"""Values that options hold as text."""

from __future__ import annotations

from pathlib import Path


def number(text: str, option: str) -> float | None:
    """The number that ``option`` was given; None where it is blank. Raises :class:`InputError` for anything else."""
    import math

    from overread.errors import InputError

    try:
        value = float(text) if text.strip() else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(
            f"{option} is not a number", given=repr(text), todo=f"give one, such as {option} 2.5"
        )
    return value


def place(output: str, otherwise: Path) -> Path:
    """The folder for what is written, made before anything is judged: an error after a look at a test set costs the look.

    Raises :class:`InputError` if it cannot be made.
    """
    from overread.errors import InputError

    folder = Path(output) if output else otherwise
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("the folder for what is written cannot be made", given=f"{folder}: {error.strerror}",
                         todo="choose another: -o FOLDER") from error  # fmt: skip
    return folder
