"""The application: routes of the reading room, each a few lines around what the room can do. Made without a port.

Behind :class:`~overread.serving.admission.gate.Gate` a request takes a place in the queue before its body is read, stores its
files in a folder that goes with it, waits for the slot, and gives both up when whoever asked has gone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import anyio
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from overread import __version__
from overread.core.errors import OverreadError, checked
from overread.serving.admission.access import COOKIE, SESSION, session
from overread.serving.admission.audit_log import AuditLog
from overread.serving.admission.counters import Counters
from overread.serving.admission.gate import STRICT, Gate, Visit, told
from overread.serving.admission.rate_limit import RateLimit
from overread.serving.admission.refusal import Refusal
from overread.serving.admission.slots import Call, Slots, gone
from overread.serving.page_files import PageFile, page_files, report_page
from overread.serving.policy import NO_LOG, ServingSettings
from overread.serving.private_folder import PrivateFolder
from overread.serving.reading_room import Reader, ReadingRoom
from overread.serving.rest import (
    About,
    ExplainAnswer,
    Health,
    Line,
    OpinionAnswer,
    OutlineAnswer,
    Problem,
    Session,
    SimilarAnswer,
    as_json,
)
from overread.serving.slides.slide_routes import AT_ONCE, WAITING, add_slides
from overread.serving.uploads import Form, received

#: What any route may answer instead; the schema stands once in OpenAPI, where a route names it as a model.
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status in (400, 401, 403, 404, 405, 408, 413, 415, 416, 421, 422, 429, 431, 500)
}  # fmt: skip
_JSON = "application/json"


@checked
def application(
    reader: Reader, settings: ServingSettings, *, run: Path | None = None, counts: Path | None = None
) -> FastAPI:
    """The application that answers for ``reader``: ``run`` is the folder of its report, its card and its audit log.

    ``counts``: folder that several workers share, for their counters. Uploads lie in a private folder, removed when the
    application ends and when its process is killed. Raises :class:`UnavailableError` where the audit log or that folder
    cannot be written.
    """
    limits, operation = settings.limits, settings.operation
    counters, rate = Counters(counts), RateLimit(limits.rate / operation.workers)
    log = AuditLog(log_path(settings, run), int(operation.log_mb * 1e6))
    folder = PrivateFolder(operation.scratch, room=limits.upload_bytes * 2)
    room = ReadingRoom(reader, settings, run)
    desk = _Desk(room, settings, Slots(limits.queue, counters), folder, rate)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            folder.close()

    app = FastAPI(title="overread", version=__version__, summary="The reading room of a run.", lifespan=life, docs_url=None,
                  redoc_url=None, redirect_slashes=False,
                  exception_handlers={HTTPException: _refused}, responses=_PROBLEMS, separate_input_output_schemas=False)  # fmt: skip
    app.add_middleware(Gate, settings=settings, counters=counters, log=log, rate=rate)
    _add_reading(app, desk)
    _add_about(app, desk, run, counters)
    if room.slides is not None:
        tiles = Slots(limits.queue * WAITING, counters, AT_ONCE)
        add_slides(
            app,
            room.slides,
            desk.while_wanted,
            tiles,
            Slots(limits.queue * WAITING, counters),
            RateLimit(limits.tiles / operation.workers),
        )
    _add_page(app, "slides.html" if room.slides is not None else "index.html")
    return app


@checked
def log_path(settings: ServingSettings, run: Path | None) -> Path | None:
    """Where the audit log is written; None for nowhere."""
    chosen = settings.operation.log
    if chosen == NO_LOG or (not chosen and run is None):
        return None
    return Path(chosen) if chosen else Path(run or "") / "serving" / "audit.jsonl"


async def _refused(request: Request, error: Exception) -> NoReturn:
    """What no route answers: the same words whatever was asked for."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "there is nothing here", 405: "this cannot be asked in that way"}
    raise Refusal(status, words.get(status, "the request cannot be read"), headers=getattr(error, "headers", None))


# -- reading images ---------------------------------------------------------------------------------------------------


class _Desk:
    """Where requests with files are taken in: the room, and what it shares among them."""

    def __init__(
        self, room: ReadingRoom, settings: ServingSettings, slots: Slots, folder: PrivateFolder, rate: RateLimit
    ) -> None:
        self.room, self.settings, self.slots, self._folder, self._rate = room, settings, slots, folder, rate

    @asynccontextmanager
    async def form(self, request: Request, fields: Collection[str]) -> AsyncIterator[Form]:
        """The files and fields of a request, which has a place in the queue meanwhile."""
        async with self.slots.place():
            with self._folder.request() as place:
                yield await received(request, place, self.settings.limits, fields)

    async def answer(self, request: Request, fields: Collection[str], work: Callable[[Form, Call], Any]) -> Response:
        """What ``work`` makes of the form, as JSON."""
        async with self.form(request, fields) as form:
            return Response(as_json(await self.while_wanted(request, lambda call: work(form, call))), media_type=_JSON)

    async def while_wanted(self, request: Request, work: Callable[[Call], Any], slots: Slots | None = None) -> Any:
        """The result of ``work`` in its turn, in ``slots`` or those of all images. Raises :class:`Refusal` if whoever asked has gone: nobody hears it."""
        call, found = self.call(request), list[Any]()

        async def watch(scope: anyio.CancelScope) -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            call.unwanted.set()
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            found.append(await (slots or self.slots).run(lambda: work(call)))
            group.cancel_scope.cancel()
        if not found:
            raise gone()
        return found[0]

    def call(self, request: Request) -> Call:
        """The work for a request, whose images are counted; the gate has asked for the first of them."""
        visit: Visit = request.scope["overread"]

        def count(images: int) -> None:
            visit.images += images
            self._rate.charge(visit.who, images - 1)

        return Call(count)


def _form(*fields: str) -> dict[str, Any]:
    """The body of a request in OpenAPI: files, and ``fields`` of text."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    held: dict[str, Any] = {"file": files, **{field: {"type": "string", "maxLength": 200} for field in fields}}
    schema = {"type": "object", "properties": held, "required": ["file"], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _add_reading(app: FastAPI, desk: _Desk) -> None:
    room = desk.room

    @app.post("/predict", response_model=OpinionAnswer, openapi_extra=_form())
    async def predict(request: Request) -> Response:
        """The opinion on one case: one file, several files of the case, a DICOM series, or a zip of them."""
        return await desk.answer(request, (), lambda form, call: room.predict(form.files, call))

    @app.post("/outline", response_model=OutlineAnswer, openapi_extra=_form())
    async def outline(request: Request) -> Response:
        """The objects in one image, of a model that outlines them: polygons and measures."""
        return await desk.answer(request, (), lambda form, call: room.outline(form.files, call))

    @app.post("/explain", response_model=ExplainAnswer, openapi_extra=_form("method", "target", "layer"))
    async def explain(request: Request) -> Response:
        """Where the network looked: a map as an overlay and as 8-bit values, and what such maps are worth on this run."""
        wanted = ("method", "target", "layer")
        return await desk.answer(request, wanted, lambda form, call: room.explain(form.files, form.fields, call))

    @app.post("/similar", response_model=SimilarAnswer, openapi_extra=_form("k"))
    async def similar(request: Request) -> Response:
        """The nearest known cases, with their labels, and how reliable such neighbours are."""
        return await desk.answer(request, ("k",), lambda form, call: room.similar(form.files, form.fields, call))

    @app.post(
        "/view",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
        openapi_extra=_form(),
    )
    async def view(request: Request) -> Response:
        """The pixels of one case for a viewer: a line of JSON that describes its images, then their bytes."""
        async with desk.form(request, ()) as form:
            pixels = await desk.slots.run(lambda: room.view(form.files, desk.call(request)))
            return Response(pixels, media_type="application/octet-stream")

    @app.post("/batch", responses={200: {"model": Line, "content": {"application/x-ndjson": {}}}}, response_class=StreamingResponse,
              openapi_extra=_form())  # fmt: skip
    async def batch(request: Request) -> Response:
        """The opinion on every file, and every file in a zip, each a case: a line of JSON as soon as it is read."""
        async with AsyncExitStack() as stack:
            form = await stack.enter_async_context(desk.form(request, ()))
            cases = await desk.slots.run(lambda: room.cases(form.files, desk.call(request)))
            return _Stream(_lines(desk, cases), stack.pop_all())


async def _lines(desk: _Desk, cases: list[list[str]]) -> AsyncIterator[bytes]:
    """A line for each case, in their order; a case that cannot be read costs its own line only."""
    for number, case in enumerate(cases, start=1):
        try:
            opinion = await desk.slots.run(lambda case=case: desk.room.opinion(case))  # type: ignore[misc]
            line = Line(number, len(cases), opinion)
        except (OverreadError, Refusal) as error:
            refusal = told(error)
            line = Line(number, len(cases), None, refusal.code, refusal.what)
        yield as_json(line) + b"\n"


class _Stream(StreamingResponse):
    """Lines of JSON, with what is held meanwhile given up at their end, or when nobody listens any more."""

    def __init__(self, lines: AsyncIterator[bytes], held: AsyncExitStack) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._held = held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


# -- about the run ------------------------------------------------------------------------------------------------


def _add_about(app: FastAPI, desk: _Desk, run: Path | None, counters: Counters) -> None:
    def held(name: str) -> Path:
        path = run / name if run is not None else Path(name)
        if run is None or not path.is_file():
            raise Refusal(404, "there is nothing here")
        return path

    @app.get("/about", response_model=About)
    async def about() -> Response:
        """What can be asked here, and within which limits."""
        there = {
            name: run is not None and (run / file).is_file()
            for name, file in (("report", "report.html"), ("model_card", "model_card.md"))
        }
        return Response(as_json(desk.room.about(**there)), media_type=_JSON)

    @app.get("/report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
    async def report() -> Response:
        """The run's report, a page of its own."""
        return _served(report_page(held("report.html").read_bytes()), {"x-frame-options": "SAMEORIGIN"})

    @app.get("/model-card", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def model_card() -> Response:
        """The model card, as plain text: nothing in it is taken for markup."""
        policy = re.sub("frame-ancestors 'none'", "frame-ancestors 'self'", STRICT)
        return _served(
            PageFile(held("model_card.md").read_bytes(), "text/plain; charset=utf-8", policy),
            {"x-frame-options": "SAMEORIGIN"},
        )

    @app.get("/healthz", response_model=Health, responses={503: {"model": Problem}})
    async def healthz() -> Response:
        """Whether the server answers; needs no token."""
        return Response(as_json(Health()), media_type=_JSON)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post("/session", response_model=Session)
    async def enter() -> Response:
        """A cookie for a browser that brought the token, so that its user need not enter it for each page."""
        address = desk.settings.address
        answer = Response(as_json(Session(bool(address.token), SESSION if address.token else 0)), media_type=_JSON)
        if address.token:
            answer.set_cookie(
                COOKIE,
                session(address.token),
                max_age=SESSION,
                path=address.root_path or "/",
                httponly=True,
                samesite="strict",
            )
        return answer


def _add_page(app: FastAPI, home: str) -> None:
    files = page_files()

    def answering(file: PageFile) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            return _served(file)

        return answer

    for name, file in files.items():
        app.add_route(f"/page/{name}", answering(file), include_in_schema=False)
    app.add_route("/", answering(files[home]), include_in_schema=False)


def _served(file: PageFile, headers: dict[str, str] | None = None) -> Response:
    return Response(
        file.data, headers={"content-type": file.kind, "content-security-policy": file.policy, **(headers or {})}
    )
