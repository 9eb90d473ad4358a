"""How numbers and names are written."""

from __future__ import annotations

import math

import pytest

from overread.reporting import words
from overread.stats.estimate import Estimate, undefined

AUC = Estimate("auc", 0.91234, 0.86, 0.951, images=10, patients=8)
SENSITIVITY = Estimate("sensitivity", 0.5, 0.25, 0.75)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_estimates():
    assert words.value(AUC) == "0.912"
    assert words.interval(AUC, 2) == "0.86 – 0.95"
    assert plain(words.in_sentence(AUC)) == "0.91 (95 % interval 0.86 to 0.95)"
    assert plain(words.in_sentence(SENSITIVITY)) == "50 % (95 % interval 25 to 75 %)"
    assert plain(words.cell(SENSITIVITY)) == "50 % (25 – 75)"


def test_what_is_not_known_is_a_dash_or_its_reason():
    nothing = undefined("auc", "0 positives")
    assert words.value(nothing) == words.in_sentence(nothing) == words.value(None) == words.NOTHING
    assert words.interval(nothing) == ""
    assert words.cell(nothing) == "0 positives"
    assert words.number(math.inf) == words.number(math.nan) == words.NOTHING
    assert plain(words.in_sentence(Estimate("kappa", 0.5))) == "0.50"


@pytest.mark.parametrize(("given", "shown"), [("a\nb", "a�b"), ("x\u202ey", "x�y"), ("é✓", "é✓"), ("", "")])
def test_names_are_fit_to_be_shown(given, shown):
    assert words.name(given) == shown


def test_groups():
    assert words.group("a+b") == "a or b"
    assert words.group("1", ("0", "1")) == "class 1"
    assert words.group("HER2+", ("HER2+", "other")) == "HER2+"


def test_keys_stand_for_cases():
    assert words.case_key("a", "s") == words.case_key("a", "s")
    assert len({words.case_key(case, salt) for case in "ab" for salt in "st"}) == 4


def test_a_rate_that_is_not_all_is_not_told_as_all():
    npv = Estimate("npv", 0.9988, 0.9961, 0.99996)
    assert words.in_sentence(npv).replace("\xa0", " ") == "99.9 % (95 % interval 99.6 to 99.996 %)"
    assert words.cell(npv).replace("\xa0", " ") == "99.9 % (99.6 – 99.996)"
    assert words.percent(0.999).replace("\xa0", " ") == "99.9 %"
    assert words.percent(1.0).replace("\xa0", " ") == "100 %"
    assert words.value(Estimate("auc", 0.99962), 2) == "0.9996"
    assert words.value(Estimate("sensitivity", 0.002), 2).replace("\xa0", " ") == "0.2 %"
    assert words.number(-0.00004, 2) == "−0.00004"
