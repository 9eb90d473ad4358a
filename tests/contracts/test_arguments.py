"""Every public function refuses a bad argument with our own error, and says what it does."""

from __future__ import annotations

import inspect
import typing
from contextlib import AbstractContextManager

import numpy as np
import pytest

import overread
from overread.core.errors import OverreadError, checked

#: Helpers that run inside error paths, or thousands of times a second: their callers have checked already.
UNCHECKED = {
    "overread.core.errors.nearest",
    "overread.core.errors.require",
    "overread.core.errors.one_of",
    "overread.core.progress.silent",
    "overread.core.progress.unheard",
    "overread.core.settings.setting",  # called while modules load
    "overread.core.settings.settings",
    "overread.stats.arrays.not_finite",  # any number of arrays
    "overread.stats.resample.per_patient",  # any number of columns
    "overread.stats.resample.draws",  # a generator: checked when its first chunk is asked for
}


class Wrong:
    """Nothing asks for one of these."""


def place(function) -> str:
    code = inspect.unwrap(function).__code__
    return f"{function.__module__}.{function.__name__} (line {code.co_firstlineno})"


def refusing(function) -> list[str]:
    """Parameters whose annotation refuses something."""
    try:
        hints = typing.get_type_hints(inspect.unwrap(function))
    except NameError:  # a name imported for type checkers only: the string is then as good
        hints = inspect.unwrap(function).__annotations__
    names = inspect.signature(function).parameters
    return [name for name in names if not _takes_anything(hints.get(name, inspect.Parameter.empty))]


def _takes_anything(annotation: object) -> bool:
    return annotation in (inspect.Parameter.empty, typing.Any, object) or isinstance(annotation, typing.TypeVar)


def accepted(function) -> list[str]:
    """Parameters that take what does not fit their annotation."""
    return [name for name in refusing(function) if not _refuses(function, name)]


def _refuses(function, parameter: str) -> bool:
    try:
        result = function(**{parameter: Wrong()})
        if isinstance(result, AbstractContextManager):
            with result:
                return False
    except OverreadError:
        return True
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        return False
    return False


def careless(function) -> list[str]:
    """What a signature lacks: annotations, and names in place of ``**keywords``."""
    given = inspect.signature(function).parameters.values()
    bare = [f"{p.name} is not annotated" for p in given if p.annotation is p.empty]
    return bare + [f"**{p.name} swallows any name" for p in given if p.kind is p.VAR_KEYWORD]


def silent(function) -> bool:
    """Whether a docstring does not begin with one sentence."""
    doc = inspect.getdoc(function) or ""
    return not doc.split("\n\n")[0].rstrip().endswith((".", ":"))


def test_bad_arguments_raise_our_error(offered):
    found = {place(f): accepted(f) for name, f in offered.items() if name not in UNCHECKED}
    found = {name: parameters for name, parameters in found.items() if parameters}
    assert not found, f"not checked: are they decorated with @checked? {sorted(found)}"


def test_every_parameter_is_annotated_and_named(public):
    found = {place(f): careless(f) for f in public.values()}
    assert not {name: what for name, what in found.items() if what}


def test_public_functions_have_a_docstring(offered):
    assert not [place(f) for f in offered.values() if silent(f)], "one sentence first"


def test_the_rules_find_what_breaks_them():
    def bare(a: int, b, **rest) -> None:
        """no sentence"""

    def good(a: int, *, b: object = None) -> None:
        """One sentence."""

    assert accepted(bare) == ["a"]
    assert accepted(checked(good)) == []
    assert careless(bare) == ["b is not annotated", "rest is not annotated", "**rest swallows any name"]
    assert careless(good) == []
    assert silent(bare)
    assert not silent(good)


def test_the_api_says_how_it_fails_or_shows_an_example():
    mute = []
    for name in overread.__all__:
        value = getattr(overread, name)
        doc = inspect.getdoc(value) or ""
        if not doc.strip() or (inspect.isfunction(value) and not (">>>" in doc or "aises" in doc)):
            mute.append(name)
    assert not [name for name in mute if name != "__version__"]


def test_no_error_of_the_check_itself_names_this_machine():
    """The message of a refused argument is one line of plain text."""
    from overread.core.random import integers

    with pytest.raises(OverreadError) as caught:
        integers("seven", 0, np.arange(3), "x", 3)
    assert "\n" not in str(caught.value)
    assert "seed" in str(caught.value)
    assert "\x1b" not in str(caught.value)
