"""What every request passes before it is answered, and every answer before it is sent.

In: the size of its head, the Host header, the Origin, the token, the rate, then the size and the time of its body. Out:
the headers that keep a browser strict, a random identifier, a line in the audit log, a count. Whatever fails within
becomes an answer without a path and without a traceback.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import anyio

from overread.core.errors import OverreadError
from overread.core.files import hashed
from overread.serving.admission.access import allowed_host, authorised, same_origin
from overread.serving.admission.audit_log import AuditLog, Entry
from overread.serving.admission.counters import ACTIONS, READING, Counters
from overread.serving.admission.rate_limit import RateLimit
from overread.serving.admission.refusal import ASK, SLIP, Refusal, refusal_of
from overread.serving.policy import ServingSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What a browser may do with an answer that sets nothing else: nothing.
STRICT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "content-security-policy": STRICT, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY", "permissions-policy": "camera=(), geolocation=(), microphone=()", "cache-control": "no-store",
}  # fmt: skip
#: Wrong tokens a minute from one address.
_GUESSES = 30
#: Of which a request has one; two are the start of a quarrel between a proxy and us.
_SINGLE = ("host", "origin", "authorization", "content-length", "content-type")
#: What needs no token: it holds nothing of the run.
_OPEN = ("page", "healthz")


class Visit:
    """What is known of a request while it is answered."""

    def __init__(self, scope: Scope, root: str) -> None:
        self.id = secrets.token_hex(8)
        self.started = time.monotonic()
        self.status, self.outcome, self.images = 500, "", 0
        self.received, self.sent = 0, 0
        path = scope["path"].removeprefix(root).strip("/")
        first = path.partition("/")[0] or "page"
        self.action = first if first in ACTIONS and (path == first or first == "page") else "other"
        self.user = ""
        self.who = ""


class Gate:
    """The application behind all that is asked of a request; see the module."""

    def __init__(
        self, app: Application, settings: ServingSettings, counters: Counters, log: AuditLog, rate: RateLimit
    ) -> None:
        self._app, self._address, self._limits = app, settings.address, settings.limits
        self._salt = settings.operation.salt
        self._counters, self._log = counters, log
        self._rate = rate
        self._guesses = RateLimit(_GUESSES / settings.operation.workers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1000})
        visit = Visit(scope, self._address.root_path)
        scope = {**scope, **_below(self._address.root_path, scope["path"]), "overread": visit}
        door = _Door(visit, receive, send, self._limits.upload_bytes, self._limits.body_seconds)
        try:
            await self._answered(scope, visit, door)
        finally:
            seconds = time.monotonic() - visit.started
            self._counters.add(visit.action, visit.status, seconds, visit.received, visit.sent, visit.images)
            outcome = visit.outcome or ("answered" if visit.status < 400 else str(visit.status))
            self._log.write(Entry(visit.action, visit.id, visit.status, outcome, seconds, visit.received, visit.sent,
                                  visit.images, visit.user))  # fmt: skip

    async def _answered(self, scope: Scope, visit: Visit, door: _Door) -> None:
        refused: list[Refusal] = []
        with _answerable(refused):
            self._require(scope, visit)
            await self._app(scope, door.receive, door.send)
        if refused:
            visit.outcome = refused[0].code
            if not door.begun:
                await refuse(refused[0], visit.id, door.send)

    def _require(self, scope: Scope, visit: Visit) -> None:
        """Raise :class:`Refusal` unless the head of the request is in order."""
        limits, address = self._limits, self._address
        raw = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        size = (
            sum(len(name) + len(value) + 4 for name, value in raw)
            + len(scope["path"])
            + len(scope.get("query_string", b""))
        )
        if size > limits.header_bytes:
            raise Refusal(
                431,
                "the head of the request is larger than the limit",
                f"the limit is {limits.header_bytes} bytes (--header-bytes)",
            )
        often = Counter(name for name, _ in raw)
        if any(often[name] > 1 for name in _SINGLE):
            raise Refusal(400, "a header that may stand once stands twice")
        headers = dict(raw)
        if not allowed_host(headers.get("host", ""), address.hosts):
            raise Refusal(
                421, "this server is not known under that name", "the operator can allow it: --allow-host", code="host"
            )
        visit.who = (scope.get("client") or ("",))[0]
        if address.trust_proxy and (user := headers.get("x-forwarded-user", "")):
            visit.user = visit.who = hashed([user], self._salt)[0]
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not same_origin(headers, address.hosts):
            raise Refusal(403, "the request comes from the page of another server", code="origin")
        if visit.action not in _OPEN:
            self._require_token(headers, visit)
        if headers.get("range", "").count(",") >= limits.ranges:
            raise Refusal(
                416, "the Range header names more ranges than the limit", f"the limit is {limits.ranges} (--ranges)"
            )
        if visit.action in READING and scope["method"] == "POST" and (wait := self._rate.take(visit.who)):
            raise Refusal(
                429,
                "more images a minute than the limit",
                "come again later",
                {"Retry-After": str(int(wait) + 1)},
                code="rate",
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limits.upload_bytes:
            raise Refusal(
                413,
                "the request is larger than the limit",
                f"the limit is {limits.upload:g} MB (--upload)",
                code="too-large",
            )

    def _require_token(self, headers: MutableMapping[str, str], visit: Visit) -> None:
        """Raise :class:`Refusal` unless the token is there, or where it is guessed at too often."""
        if authorised(headers, self._address.token):
            return
        if "authorization" in headers and (wait := self._guesses.take(visit.who)):
            raise Refusal(
                429, "too many wrong tokens", "come again later", {"Retry-After": str(int(wait) + 1)}, code="guesses"
            )
        raise Refusal(
            401,
            "the token is missing or wrong",
            "send it: Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
            code="token",
        )


def _below(root: str, path: str) -> dict[str, str]:
    """The path as the application knows it, whether or not a proxy took ``root`` away."""
    inside = path == root or path.startswith(f"{root}/")
    return {"root_path": root, "path": path if inside else root + path}


async def refuse(refusal: Refusal, identifier: str, send: Send) -> None:
    """Send a refusal; the connection is closed after it, since the rest of the body is not read."""
    body = refusal.body(identifier)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **refusal.headers,
    }
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


class _answerable(AbstractContextManager[None]):
    """What goes wrong within becomes a :class:`Refusal` in ``refused``: nothing gets past it to a log with a traceback."""

    def __init__(self, refused: list[Refusal]) -> None:
        self._refused = refused

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        self._refused.append(told(error))
        return True


def told(error: Exception) -> Refusal:
    """What is said of an error: our own words, or that something went wrong, with the kind of error in its code."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OverreadError):
        return refusal_of(error)
    return Refusal(500, SLIP, ASK, code=f"error:{type(error).__name__}")


class _Door:
    """``receive`` that holds the body to its size and time, and ``send`` that adds what every answer bears."""

    def __init__(self, visit: Visit, receive: Receive, send: Send, most: int, seconds: float) -> None:
        self._visit, self._receive, self._send = visit, receive, send
        self._most, self._seconds = most, seconds
        self._whole = False
        self.begun = False

    async def receive(self) -> Message:
        """The next part of the body; once it is whole, what the server tells next, which is that the client has gone."""
        if self._whole:
            return await self._receive()
        left = self._seconds - (time.monotonic() - self._visit.started)
        with anyio.move_on_after(max(left, 0.0)) as scope:
            message = await self._receive()
        if scope.cancelled_caught:
            raise Refusal(
                408,
                "the request did not arrive in time",
                f"the limit is {self._seconds:g} seconds (--body-seconds)",
                code="too-slow",
            )
        if message["type"] == "http.request":
            self._visit.received += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._visit.received > self._most:
                raise Refusal(
                    413,
                    "the request is larger than the limit",
                    f"the limit is {self._most / 1e6:g} MB (--upload)",
                    code="too-large",
                )
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.begun = True
            self._visit.status = message["status"]
            own = {**_HEADERS, "x-request-id": self._visit.id}
            have = {name.lower() for name, _ in message["headers"]}
            more = [(name.encode(), value.encode()) for name, value in own.items() if name.encode() not in have]
            message = {**message, "headers": [*message["headers"], *more]}
        else:
            self._visit.sent += len(message.get("body", b""))
        await self._send(message)
