"""Who may ask: the Host header, the Origin of a request, the token, and the cookie that stands for it in a browser.

Pure functions of a request's headers. Sources: OWASP "Cross-Site Request Forgery Prevention" (origin and fetch
metadata), RFC 6750 (bearer tokens), RFC 6265 section 5 (cookies).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from overread.core.errors import checked

COOKIE = "overread"
#: Seconds for which a browser that brought the token once need not bring it again.
SESSION = 8 * 3600

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")


@checked
def allowed_host(header: str, names: frozenset[str]) -> bool:
    """Whether a Host header names one of ``names``, at whatever port: keeps out pages that rebind a name to this machine.

    >>> [allowed_host(host, frozenset({"localhost"})) for host in ("localhost:8765", "LOCALHOST", "evil.example", "a@localhost", "")]
    [True, True, False, False, False]
    """
    match = _HOST.fullmatch(header)
    return match is not None and match["name"].lower() in names


@checked
def same_origin(headers: Mapping[str, str], names: frozenset[str]) -> bool:
    """Whether a request that changes or costs something comes from our own page, or from no page at all.

    An ``Origin`` must be at the name and port of the ``Host`` header, or at a name of ``names`` with the port that its
    scheme has by default (behind a proxy). Without one, ``Sec-Fetch-Site`` decides; programs send neither.

    >>> same_origin({"origin": "http://localhost:1", "host": "localhost:1"}, frozenset({"localhost"}))
    True
    >>> same_origin({"origin": "http://localhost:2", "host": "localhost:1"}, frozenset({"localhost"}))
    False
    """
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return False
    here = parts.netloc.lower() == headers.get("host", "").lower()
    return here or (port is None and parts.netloc.lower() in names)


@checked
def authorised(headers: Mapping[str, str], token: str, now: float | None = None) -> bool:
    """Whether a request brings the token, as a bearer's or by the cookie that :func:`session` made of it.

    Compared in constant time. True for all where no token is set.
    """
    if not token:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if given:
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return False
    until, _, seal = morsel.value.partition(".") if morsel else ("", "", "")
    if not re.fullmatch(r"\d{1,12}", until):
        return False
    fresh = int(until) >= (time.time() if now is None else now)
    return hmac.compare_digest(seal.encode(), _seal(until, token).encode()) and fresh


@checked
def session(token: str, now: float | None = None) -> str:
    """The value of a cookie that stands for the token until :data:`SESSION` seconds from now.

    It is a seal under the token, so every worker knows it, and it says nothing of the token itself.
    """
    until = str(int((time.time() if now is None else now) + SESSION))
    return f"{until}.{_seal(until, token)}"


def _seal(until: str, token: str) -> str:
    return hmac.new(token.encode(), f"overread session until {until}".encode(), hashlib.sha256).hexdigest()
