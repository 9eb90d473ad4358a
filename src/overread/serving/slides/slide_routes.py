"""The routes of slides: a list, one slide, and a tile. What may be asked is written down here exactly; all else is refused.

A slide is named by a key that the server made for it, a place in a tile by whole numbers within bounds: no request ever
becomes a path on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from starlette.responses import Response

from overread.core.errors import checked
from overread.serving.admission.gate import Visit
from overread.serving.admission.rate_limit import RateLimit
from overread.serving.admission.refusal import Refusal
from overread.serving.admission.slots import Call, Slots
from overread.serving.rest import as_json
from overread.serving.slides.run_slides import LAYERS, RunSlides
from overread.serving.slides.slide_answers import SkippedAnswer, SlideAnswer, SlidesAnswer
from overread.serving.slides.tile_pictures import STEPS

#: Tiles that are made at a time in a process: each of its threads keeps slides open.
AT_ONCE = 2
#: Requests for tiles that may wait for each that may wait to have images read: a viewer asks for some dozens at once.
WAITING = 8

#: ``answer(request, work, slots)``: the result of ``work`` in its turn in these slots, unless whoever asked has gone.
Turn = Callable[[Request, Callable[[Call], Any], Slots], Awaitable[Any]]

_KEY = re.compile(r"k[0-9a-f]{12}")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,6}")
_LONGEST = 200  # characters of a query
#: A browser of this user alone may keep a tile, and asks whether it is still the same before it shows it again.
_CACHE = "private, no-cache"
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 9_999_999}
_FIELDS: dict[str, dict[str, Any]] = {
    "slide": {"type": "string", "pattern": f"^{_KEY.pattern}$"},
    "layer": {"type": "string", "enum": list(LAYERS)},
    "level": _NUMBER, "column": _NUMBER, "row": _NUMBER, "least": {**_NUMBER, "maximum": STEPS},
}  # fmt: skip


def _query(*names: str) -> dict[str, Any]:
    """The query of a request in OpenAPI; ``least`` may be left out."""
    return {"parameters": [{"in": "query", "name": name, "required": name != "least", "schema": _FIELDS[name]} for name in names]}  # fmt: skip


@checked
def add_slides(app: FastAPI, slides: RunSlides, in_turn: Turn, slots: Slots, masks: Slots, rate: RateLimit) -> None:
    """Add the routes of ``slides`` to an application; ``in_turn`` works in the places of ``slots``, and what needs the mask of a
    slide, which takes seconds, in those of ``masks``, so that it holds up no other tile; ``rate`` is of tiles a minute."""

    def take(request: Request) -> None:
        visit: Visit = request.scope["overread"]
        if wait := rate.take(visit.who):
            raise Refusal(429, "more tiles a minute than the limit", "come again later", {"Retry-After": str(int(wait) + 1)}, code="rate")  # fmt: skip

    @app.get("/slides", response_model=SlidesAnswer)
    async def listed(request: Request) -> Response:
        """The slides of the run that can be looked at, with the label and the score of each."""
        _asked(request)
        async with slots.place():
            return _json(await in_turn(request, lambda call: slides.listed(), slots))

    @app.get("/slide", response_model=SlideAnswer, openapi_extra=_query("slide"))
    async def one(request: Request) -> Response:
        """One slide: its size, what was found on it and outlined, and the layers that tiles are made of."""
        asked = _asked(request, "slide")
        take(request)
        async with slots.place():
            return _json(await in_turn(request, lambda call: slides.about(asked["slide"]), slots))

    @app.get("/skipped", response_model=SkippedAnswer, openapi_extra=_query("slide"))
    async def skipped(request: Request) -> Response:
        """What was not looked at on a slide: background, pen, blur; and the layer that shows it."""
        asked = _asked(request, "slide")
        take(request)
        async with masks.place():
            return _json(await in_turn(request, lambda call: slides.skipped(asked["slide"], call.progress), masks))

    @app.get("/tile", response_class=Response, openapi_extra=_query("slide", "layer", "level", "column", "row", "least"),
             responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, 304: {"description": "Not Modified"}})  # fmt: skip
    async def tile(request: Request) -> Response:
        """A tile of a layer of a slide: JPEG of the slide itself, PNG of what lies over it."""
        asked = _asked(request, "slide", "layer", "level", "column", "row", "least")
        level, column, row, least = (int(asked.get(name, "0")) for name in ("level", "column", "row", "least"))
        take(request)
        place = (asked["slide"], asked["layer"], level, column, row, least)
        known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
        its = masks if asked["layer"] == "skipped" else slots
        async with its.place():
            tag, data, kind = await in_turn(request, lambda call: _made(slides, place, known, call), its)
        held = {"etag": tag, "cache-control": _CACHE, "vary": "Authorization, Cookie"}
        return Response(data, 200 if data else 304, {**held, **({"content-type": kind} if data else {})})


def _made(slides: RunSlides, place: tuple[str, str, int, int, int, int], known: list[str], call: Call) -> tuple[str, bytes, str]:  # fmt: skip
    """The tag of a tile, and its bytes and type, without bytes where whoever asks ``known`` it."""
    tag = slides.tag(*place)
    return (tag, b"", "") if tag in known else (tag, *slides.tile(*place, call.progress))


def _json(value: object) -> Response:
    return Response(as_json(value), media_type="application/json")


def _asked(request: Request, *names: str) -> dict[str, str]:
    """The fields of a query, each once, in the form that it must have. Raises :class:`Refusal` for anything else."""
    text = request.scope.get("query_string", b"")
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, strict_parsing=bool(text), max_num_fields=len(_FIELDS)
        )
    except ValueError:
        pairs = [("", "")]
    found = dict(pairs)
    wanted = {name for name in names if name != "least"}
    forms: dict[str, Callable[[str], object]] = {"slide": _KEY.fullmatch, "layer": LAYERS.__contains__}
    sound = len(text) <= _LONGEST and len(found) == len(pairs) and wanted <= found.keys() <= set(names)
    if not sound or not all(forms.get(name, _WHOLE.fullmatch)(value) for name, value in found.items()):
        raise Refusal(422, "the address is not one of those that can be asked here", f"give {', '.join(names) or 'no query'}, each once" if names else "give no query", code="address")  # fmt: skip
    if int(found.get("least", "0")) > STEPS:
        raise Refusal(422, "the threshold is beyond its bounds", f"give least from 0 to {STEPS}", code="address")
    return found
