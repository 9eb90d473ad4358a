from __future__ import annotations

import numpy as np
import pytest

from overread.core import errors
from overread.core.errors import (
    ArgumentError,
    ImageError,
    InputError,
    OverreadError,
    UnavailableError,
    UnsoundError,
    checked,
    nearest,
    one_of,
    require,
)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"what": "it broke"}, "it broke"),
        ({"what": "it broke", "given": 0}, "it broke (given: 0)"),
        ({"what": "it broke.", "todo": "mend it."}, "it broke. Mend it."),
        ({"what": "it broke", "given": "x", "todo": "mend it"}, "it broke (given: x). Mend it."),
        ({"what": "it broke", "todo": "overread predict x"}, "it broke. overread predict x"),
        ({"what": "it broke", "todo": "pip install y"}, "it broke. pip install y"),
    ],
)
def test_the_message_says_what_given_and_what_to_do(arguments, text):
    error = OverreadError(**arguments)
    assert str(error) == text
    assert error.what == arguments["what"]


def test_exit_codes_are_two_for_the_user_and_one_for_the_study():
    assert {InputError.exit_code, ImageError.exit_code, ArgumentError.exit_code} == {2}
    assert {UnsoundError.exit_code, UnavailableError.exit_code} == {1}


def test_every_error_is_one_of_ours():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert len(kinds) >= 6
    assert all(issubclass(kind, OverreadError) for kind in kinds)


def test_a_wrong_argument_is_also_a_type_error():
    @checked
    def double(x: int) -> int:
        return 2 * x

    assert double(2) == 4
    with pytest.raises(ArgumentError, match="x") as caught:
        double("two")
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)


def test_checks_take_numpy_and_whole_numbers_where_a_float_is_asked():
    @checked
    def half(x: float) -> float:
        return x / 2

    assert half(3) == 1.5
    assert half(np.float64(3)) == 1.5


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("Diagnosis", ["age", "diagnosis"], "did you mean 'diagnosis'?"),
        ("lesionid", ["lesion_id", "image"], "did you mean 'lesion_id'?"),
        ("zzz", [], "there is nothing to choose from"),
        (
            "zzz",
            range(30),
            "choose from 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 10 more",
        ),
    ],
)
def test_nearest(name, options, hint):
    assert nearest(name, options) == hint


def test_require_and_one_of():
    require(True, "never")
    with pytest.raises(ArgumentError, match=r"must be positive \(given: -1\)"):
        require(False, "it must be positive", given=-1)
    with pytest.raises(ArgumentError, match=r"fit is not known.*Did you mean 'crop'\?$"):
        one_of("crops", ["crop", "pad"], "fit")


def test_an_argument_that_a_function_does_not_take_is_named_with_the_nearest():
    @checked
    def judge(labels: int, *, patient: int = 0) -> int:
        return labels + patient

    @checked
    def other() -> int:
        return judge(1, patients=2)  # type: ignore[call-arg]

    for call in (lambda: judge(1, patients=2), other):
        with pytest.raises(
            ArgumentError, match=r"judge\(\) has no such argument \(given: patients\)\. Did you mean 'patient'\?$"
        ):
            call()
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        judge()
