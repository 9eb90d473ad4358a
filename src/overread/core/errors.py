"""One base error: what is wrong, what was given, what to do.

Every error that a user can cause is an :class:`OverreadError`. Its message is one paragraph in a fixed order, and
the class says which exit code the command line ends with.

>>> print(InputError("there is no column 'diagnosis'", given="columns dx, age, sex", todo="use --label dx"))
there is no column 'diagnosis' (given: columns dx, age, sex). Use --label dx.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable)

_LINE_ENDS = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")

#: How advice begins that is a command.
_COMMANDS = ("overread ", "pip ")


class OverreadError(Exception):
    """Base of every error that overread raises on purpose.

    Parameters: ``what`` is wrong, what was ``given``, what to do (``todo``). Never put a patient's identifier in any
    of them.
    """

    exit_code = 2

    def __init__(self, what: str, *, given: object = None, todo: str = "") -> None:
        self.what, self.given, self.todo = what, given, todo
        super().__init__(_worded(what if given is None else f"{what} (given: {_shortened(str(given))})", todo))

    @property
    def in_general(self) -> str:
        """The message without what was given, which may be a path or a cell of the table: for files that are handed on.

        >>> InputError("there is no column 'dx'", given="columns of /home/anna/t.csv", todo="use --label").in_general
        "there is no column 'dx'. Use --label."
        """
        return _worded(self.what, self.todo)


def _worded(text: str, todo: str) -> str:
    """One printable paragraph."""
    if todo:
        command = todo.startswith(_COMMANDS)  # copied as it stands: a full stop would belong to its last word
        end = "" if command or todo.endswith(("?", ".")) else "."
        first = todo[0] if command else todo[0].upper()
        text = f"{text.rstrip('.')}. {first}{todo[1:]}{end}"
    text = _LINE_ENDS.sub(" ", text)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _shortened(text: str) -> str:
    """What a person can still read of what was given: a million names are not said."""
    return text if len(text) <= 1000 else f"{text[:1000]} …"


class InputError(OverreadError):
    """The input or its usage is wrong: a missing file, an unknown column, a value out of range. Exit code 2."""


class ImageError(InputError):
    """An image cannot be read, or is refused by a limit. Names the file, never the patient."""

    reason: str = ""


class ArgumentError(InputError, TypeError):
    """A public function was called with an argument of the wrong type or out of its range."""


class UnsoundError(OverreadError):
    """The study is unsound: a leak, one class only, a test patient seen in training. Exit code 1."""

    exit_code = 1


class UnavailableError(OverreadError):
    """Something outside cannot be had: weights without a network, a locked folder, a full disk. Exit code 1."""

    exit_code = 1


class _Violation(ArgumentError):
    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()), todo="see help() of the function for what it takes")


def checked(function: F) -> F:
    """Decorator of every public function: arguments that do not fit the annotations raise :class:`ArgumentError`.

    The check is made at the first call. There are hundreds of public functions, a check takes two milliseconds to make,
    and a process calls few of them.
    """
    made: Callable | None = None

    @functools.wraps(function)
    def checking(*arguments: Any, **named: Any) -> Any:
        nonlocal made
        if made is None:
            made = _decorator()(function)
        try:
            return made(*arguments, **named)
        except TypeError as error:
            if unknown := _unknown_argument(function, named, error):
                raise unknown from None
            raise

    return cast(F, checking)


def _unknown_argument(function: Callable, named: Iterable[str], error: TypeError) -> ArgumentError | None:
    """What is said of a name that a function does not take, where that is what a call failed by."""
    if isinstance(error, OverreadError) or f"{function.__name__}() got an unexpected keyword argument" not in str(
        error
    ):
        return None
    known = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    wrong = next((name for name in named if name not in known), "")
    return ArgumentError(f"{function.__name__}() has no such argument", given=wrong, todo=nearest(wrong, known)) if wrong else None  # fmt: skip


@functools.cache
def _decorator() -> Callable[[Callable], Callable]:
    from beartype import BeartypeConf, beartype

    return beartype(conf=BeartypeConf(violation_param_type=_Violation, is_pep484_tower=True))


def nearest(name: str, options: Iterable[object]) -> str:
    """A hint that names the nearest of ``options``, or lists them.

    >>> nearest("diagnsis", ["age", "diagnosis"])
    "did you mean 'diagnosis'?"
    >>> nearest("xyz", ["age", "diagnosis"])
    'choose from age, diagnosis'
    """
    names = [str(option) for option in options if str(option)]  # blank: the default, which nobody has to name
    folded = {option.lower(): option for option in names}
    close = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"choose from {shown}" if names else "there is nothing to choose from"


def require(condition: bool, what: str, *, given: object = None, todo: str = "") -> None:
    """Raise :class:`ArgumentError` unless ``condition`` holds: for ranges, which annotations cannot say.

    >>> require(0 < 0.5 < 1, "level must lie between 0 and 1", given=0.5)
    """
    if not condition:
        raise ArgumentError(what, given=given, todo=todo)


def one_of(value: str, options: Iterable[str], name: str) -> str:
    """``value`` if it is among ``options``, else an :class:`ArgumentError` that names the nearest.

    >>> one_of("crop", ["crop", "pad"], "fit")
    'crop'
    """
    options = list(options)
    if value not in options:
        raise ArgumentError(f"{name} is not known", given=repr(value), todo=nearest(value, options))
    return value
