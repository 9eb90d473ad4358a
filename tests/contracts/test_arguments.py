"""Every public function refuses a bad argument with our own error, and says what it does."""

from __future__ import annotations

import importlib
import inspect
import typing
from contextlib import AbstractContextManager

import numpy as np
import pytest

from overread.core.errors import OverreadError

#: Helpers that run inside error paths, or thousands of times a second: their callers have checked already.
UNCHECKED = {
    "overread.core.errors.nearest",
    "overread.core.errors.require",
    "overread.core.errors.one_of",
    "overread.core.progress.silent",
    "overread.core.settings.setting",  # called while modules load
    "overread.core.settings.settings",
    "overread.stats.resample.per_patient",  # any number of columns
    "overread.stats.resample.draws",  # a generator: checked when its first chunk is asked for
}


class Wrong:
    """Nothing asks for one of these."""


def _name(function) -> str:
    return f"{function.__module__}.{function.__name__}"


def _takes_anything(annotation: object) -> bool:
    return annotation in (inspect.Parameter.empty, typing.Any, object) or isinstance(annotation, typing.TypeVar)


def parameters(function) -> list[str]:
    """Parameters whose annotation refuses something."""
    try:
        hints = typing.get_type_hints(inspect.unwrap(function))
    except NameError:  # a name imported for type checkers only: the string is then as good
        hints = inspect.unwrap(function).__annotations__
    names = inspect.signature(function).parameters
    return [name for name in names if not _takes_anything(hints.get(name, inspect.Parameter.empty))]


def test_a_bad_argument_raises_our_error(offered):
    if _name(offered) in UNCHECKED:
        pytest.skip("a helper without checks of its own")
    accepted = [name for name in parameters(offered) if not _refuses(offered, name)]
    assert not accepted, f"{_name(offered)} does not check {accepted}: is it decorated with @checked?"


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


def test_every_parameter_is_annotated(function):
    bare = [p.name for p in inspect.signature(function).parameters.values() if p.annotation is p.empty]
    assert not bare


def test_no_public_function_swallows_keywords(function):
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_public_functions_have_a_docstring(offered):
    doc = inspect.getdoc(offered) or ""
    assert doc.split("\n\n")[0].rstrip().endswith((".", ":")), "one sentence first"


@pytest.mark.parametrize("name", [n for n in __import__("overread").__all__ if n != "__version__"])
def test_the_api_says_how_it_fails_or_shows_an_example(name):
    value = getattr(importlib.import_module("overread"), name)
    doc = inspect.getdoc(value) or ""
    assert doc.strip()
    if inspect.isfunction(value):
        assert ">>>" in doc or "Raises" in doc or "raises" in doc


def test_no_error_of_the_check_itself_names_this_machine():
    """The message of a refused argument is one line of plain text."""
    from overread.core.random import integers

    with pytest.raises(OverreadError) as caught:
        integers("seven", 0, np.arange(3), "x", 3)
    assert "\n" not in str(caught.value)
    assert "seed" in str(caught.value)
    assert "\x1b" not in str(caught.value)
