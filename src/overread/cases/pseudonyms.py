"""Codes in place of names: keyed hashes that tell patients apart without saying who they are.

A code is BLAKE2b (RFC 7693) of the name, 48 bits long. Its key is the salt of the study, which travels with the model so
that a patient who was seen is known again, and, where ``$OVERREAD_SECRET`` is set, that secret. Who holds the key can
test a guess: codes are pseudonyms (GDPR Art. 4(5)), not anonymity.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from overread.core.errors import InputError, checked

#: A secret of the house that is mixed into every code; the same one must be there to know a patient again.
SECRET = "OVERREAD_SECRET"


@checked
def codes(names: Iterable[str], salt: str) -> list[str]:
    """A code for each name: ``k`` and 12 hexadecimal digits; blank stays blank.

    Raises :class:`InputError` should two names share a code (1 in 50,000 for 100,000 names).

    >>> codes(["DOE^JANE", "", "DOE^JANE"], "salt")
    ['kf1d568fd77ca', '', 'kf1d568fd77ca']
    """
    secret = os.environ.get(SECRET, "")
    key = hashlib.blake2b(f"{salt}\n{secret}".encode(), digest_size=32).digest()
    made: dict[str, str] = {}
    found = []
    for name in names:
        if name not in made:
            made[name] = _code(name, key) if name else ""
        found.append(made[name])
    if len(set(made.values())) < len(made):
        raise InputError("two names have the same code", todo="set another salt in study.toml")
    return found


def _code(name: str, key: bytes) -> str:
    """A letter first, so that no program takes a code for a number."""
    return "k" + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=key, digest_size=6).hexdigest()
