"""What a server says where it does not answer: a status, a code, and words without a path, a name or a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus

from overread.core.errors import ArgumentError, ImageError, OverreadError, UnavailableError, UnsoundError, checked

#: Codes by status, for what has no code of its own; the audit log holds them.
_CODES = {status.value: status.phrase.lower().replace(" ", "-").replace("'", "") for status in HTTPStatus}
#: From a root on, of either kind of system; ``and/or``, ``mole / naevus`` and ``docs/how-to`` are none.
_PATH = re.compile(r"""(?<![\w.])(?:[A-Za-z]:(?=[\\/]))?[\\/][^\s'"`,;()\[\]<>]+""")


#: Of what is our fault.
SLIP, ASK = "something went wrong here, not with the request", "tell the operator the id of this answer"


class Refusal(Exception):
    """A request that is not answered: ``status`` of HTTP, ``what`` is wrong, what to do (``todo``), further headers."""

    def __init__(
        self, status: int, what: str, todo: str = "", headers: Mapping[str, str] | None = None, code: str = ""
    ) -> None:
        super().__init__(what)
        self.status, self.what, self.todo = status, what, todo
        self.headers = dict(headers or {})
        self.code = code or _CODES.get(status, str(status))

    def body(self, identifier: str) -> bytes:
        """The answer in JSON, with the random identifier by which the audit log has it."""
        held = {"error": self.code, "what": self.what, "todo": self.todo, "id": identifier}
        return json.dumps(held, ensure_ascii=False).encode()


@checked
def refusal_of(error: OverreadError) -> Refusal:
    """What is told of one of our errors: without what was given, which may hold a path; an image's reason names no file.

    >>> refusal_of(OverreadError("the file /srv/runs/skin/model.json is damaged", given="/srv", todo="train again")).what
    'the file … is damaged'
    """
    if isinstance(error, ArgumentError) and type(error) is not ArgumentError:  # a slip of ours, and it quotes values
        return Refusal(500, SLIP, ASK, code="error:ArgumentError")
    told = error.reason if isinstance(error, ImageError) and error.reason else error.what
    status = 503 if isinstance(error, UnavailableError) else 500 if isinstance(error, UnsoundError) else 422
    code = "unreadable" if isinstance(error, ImageError) else ""
    return Refusal(status, without_paths(told), without_paths(error.todo), code=code)


@checked
def without_paths(text: str) -> str:
    """``text`` with every absolute path replaced.

    >>> without_paths("see /etc/passwd (or C:\\\\x), ['/tmp/a.png'] and docs/how-to")
    "see … (or …), ['…'] and docs/how-to"
    """
    return _PATH.sub("…", text)
