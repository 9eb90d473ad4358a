from __future__ import annotations

import hashlib

import pytest

from overread.cases import privacy as module
from overread.cases.privacy import SECRET, codes
from overread.core.errors import InputError


def test_a_code_is_a_keyed_hash() -> None:
    key = hashlib.blake2b(b"salt\n", digest_size=32).digest()
    wanted = "k" + hashlib.blake2b("Müller".encode(), key=key, digest_size=6).hexdigest()
    assert codes(["Müller"], "salt") == [wanted]


def test_equal_names_have_equal_codes_and_blank_stays_blank() -> None:
    made = codes(["a", "", "b", "a"], "salt")
    assert made[0] == made[3] != made[2]
    assert made[1] == ""


def test_another_salt_and_a_secret_change_every_code(monkeypatch) -> None:
    plain = set(codes(["a", "b"], "one"))
    other = set(codes(["a", "b"], "two"))
    monkeypatch.setenv(SECRET, "of the house")
    secret = set(codes(["a", "b"], "one"))
    assert len(plain | other | secret) == 6


def test_names_that_are_no_text_of_unicode_have_a_code() -> None:
    assert len(set(codes(["\udce9", "\udce8", "é"], ""))) == 3


def test_a_hundred_thousand_names_stay_apart() -> None:
    assert len(set(codes([str(i) for i in range(100_000)], "salt"))) == 100_000


def test_a_shared_code_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(module, "_code", lambda name, key: "k0")
    with pytest.raises(InputError, match="two names have the same code"):
        codes(["a", "b"], "salt")
