"""The endpoints. Each reads its request, calls the service, and returns the result."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from serkit import __version__
from serkit.serving.http import reference, sockets
from serkit.serving.http.errors import CODE, Refused
from serkit.serving.http.logs import of_loop, where
from serkit.serving.http.metrics import CONTENT_TYPE
from serkit.serving.http.openapi import BODY, ERRORS, JOB_ERRORS, described
from serkit.serving.http.schemas import Health, JobAnswer, ModelAnswer, PredictAnswer
from serkit.serving.http.service import Service
from serkit.serving.http.settings import ServiceSettings
from serkit.serving.http.uploads import Body, Vanished, read_body

REQUEST = "serkit.request"  # in the scope: what the log, and the header X-Request-Id, call it
LOG = logging.getLogger("serkit.serving")
Answer = TypeVar("Answer")


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """Make the service as an ASGI application; its workers start and end with the lifespan.

    The service itself is at ``app.state.service``. An application that mounts it runs its lifespan too, as
    ``app.router.lifespan_context(app)``.
    """
    service = Service(settings or ServiceSettings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        others = loop.get_exception_handler()
        loop.set_exception_handler(others or of_loop)
        try:
            await service.start()
            warm = asyncio.create_task(service.warm())
            try:
                yield
            finally:
                warm.cancel()
                await service.close()
        finally:
            loop.set_exception_handler(others)

    app = FastAPI(title="serkit", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    _add_errors(app, service)
    _add_operation(app, service)
    _add_answers(app, service)
    _add_jobs(app, service)
    described(app, keys=bool(service.settings.keys))
    if service.settings.page is not None and (service.settings.page / "index.html").is_file():
        app.router.routes.append(_Page("/", StaticFiles(directory=service.settings.page, html=True), name="page"))
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(service.settings.origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(_Watched, service=service)
    return app


def _add_operation(app: FastAPI, service: Service) -> None:
    """What whoever runs the service asks, and the interface to be read."""

    @app.get("/healthz", tags=["operation"], responses={503: {"model": Health}})
    async def healthz(response: Response) -> Health:
        """Whether the service lives; 503 where only a restart would help."""
        if service.started and service.clips.alive:
            return Health(status="ok")
        response.status_code = 503
        return Health(status="broken")

    @app.get("/readyz", tags=["operation"], responses={503: {"model": Health}})
    async def readyz(response: Response) -> Health:
        """Whether requests are answered; 503 while it starts or shuts down."""
        if service.ready:
            return Health(status="ready")
        response.status_code = 503
        return Health(status="shutting_down" if service.draining else "starting")

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """The interface, to be read."""
        here = f"{request.url.scheme}://{request.url.netloc}{_prefix(request.scope)}"
        text = reference.page(app.openapi(), here)
        return HTMLResponse(
            text, headers={"Content-Security-Policy": reference.policy(), "Referrer-Policy": "no-referrer"}
        )


def _add_answers(app: FastAPI, service: Service) -> None:
    """What is answered while somebody waits; bodies are read by hand, so that limits hold while they come in."""

    @app.get("/v1/model", tags=["answers"])
    async def model() -> ModelAnswer:
        """Which model answers, its labels, and what the service takes."""
        return ModelAnswer.model_validate(service.model_row())

    @app.post("/v1/predict", tags=["answers"], responses=ERRORS, response_model=PredictAnswer, openapi_extra=BODY)
    async def predict(request: Request) -> Response:
        """Answer recordings of minutes: label, calibrated scores, and with ``timeline`` when, who, which emotion."""

        async def answered(body: Body) -> Response:
            try:
                results = await _while_there(request, service.answer(body, request.scope[REQUEST]))
            finally:
                body.close()
            return JSONResponse({"model": service.about["model"], "results": results})

        return await _taken(request, service, service.settings.max_bytes, answered)

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await sockets.stream(socket, service)

    @app.get("/v1/stream", include_in_schema=False)
    async def no_stream() -> Response:
        """A plain request where a WebSocket is expected: a proxy has left out the headers of its handshake."""
        raise Refused("upgrade_required", "a stream is a WebSocket; a proxy has to pass on Upgrade and Connection")


def _add_jobs(app: FastAPI, service: Service) -> None:
    """What is answered later."""

    @app.post(
        "/v1/jobs", tags=["jobs"], status_code=202, responses=ERRORS, response_model=JobAnswer, openapi_extra=BODY
    )
    async def add_job(request: Request) -> Response:
        """Accept long recordings; ``Location`` has the address of the job."""
        owner = _owner(request, service)

        async def taken(body: Body) -> Response:
            try:
                if await request.is_disconnected():  # nobody would learn the address of this job
                    raise Vanished
                job = service.jobs.add(body, service.tasks(body, job=True, request=request.scope[REQUEST]), owner)
            except BaseException:
                body.close()
                raise
            service.begin(service.long)
            row = job.to_row(service.about["model"], _prefix(request.scope))
            return JSONResponse(row, 202, headers={"Location": row["url"]})

        service.jobs.check()
        return await _taken(request, service, service.settings.job_max_bytes, taken)

    @app.get("/v1/jobs/{job}", tags=["jobs"], responses=JOB_ERRORS)
    async def get_job(job: str, request: Request) -> JobAnswer:
        """The status of a job, and its results once it is done."""
        owner = _owner(request, service)
        found = service.jobs.get(job, owner)
        found.fetched = found.ended is not None
        return JobAnswer.model_validate(found.to_row(service.about["model"], _prefix(request.scope)))

    @app.delete("/v1/jobs/{job}", tags=["jobs"], status_code=204, responses=JOB_ERRORS)
    async def remove_job(job: str, request: Request) -> Response:
        """Stop a job and forget it."""
        owner = _owner(request, service)
        service.jobs.remove(job, owner)
        return Response(status_code=204)


def _owner(request: Request, service: Service) -> str:
    service.refuse_unstarted()
    return service.owner(request.headers.get("authorization"), request.headers.get("x-api-key"))


async def _taken(
    request: Request, service: Service, max_bytes: int, then: Callable[[Body], Awaitable[Response]]
) -> Response:
    """Check the page that asks and the key, hold the request, read its body, answer."""
    service.refuse_foreign(request.headers)
    _owner(request, service)
    with service.admitted():
        try:
            return await then(await read_body(request, service.settings, service.budget, max_bytes))
        except Vanished:
            return Response(status_code=499)  # nobody reads it; it is counted


async def _while_there(request: Request, work: Awaitable[Answer]) -> Answer:
    """Wait for an answer as long as somebody waits for it.

    Raises:
        Vanished: the client is gone; what still waited in a queue has left it.
    """
    answer = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Vanished
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_errors(app: FastAPI, service: Service) -> None:
    """Every error in one shape."""

    def shaped(error: Refused, **headers: str) -> JSONResponse:
        service.metrics.refused.labels(error.code).inc()
        return JSONResponse({"error": error.to_row()}, error.status, headers={**error.headers(), **headers})

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return shaped(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        status, code = error.status_code, CODE.get(error.status_code, "bad_request")
        headers = dict(error.headers or {})
        if code == "method_not_allowed":
            if methods := _methods(app, request) or ["GET", "HEAD"] * (_path(request.scope) == "/"):  # the page
                headers["Allow"] = ", ".join(methods)
            else:  # the page's, which takes every address that is no other's: something is sent to a mistyped one
                status, code, headers = 404, "not_found", {}
        service.metrics.refused.labels(code).inc()
        allowed = headers.get("Allow", "another method")
        said = {
            "not_found": "there is nothing at this address; /docs lists the known ones",
            "method_not_allowed": f"{request.method} is not allowed for this address, expected {allowed}; see /docs",
        }
        row = {"error": {"code": code, "message": said.get(code, str(error.detail))}}
        return JSONResponse(row, status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return shaped(Refused("bad_option", str(error.errors()[0]["msg"])))

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> JSONResponse:
        name = request.scope[REQUEST]
        LOG.error("request %s: %s", name, where(error))
        said = f"internal error; the service's log has it under request {name}"
        return shaped(Refused("internal", said), **{"x-request-id": name})


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Every method that the address of a request takes; the framework names those of the first route alone."""
    matching = (r for r in app.routes if isinstance(r, Route) and r.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods or ()})


def _prefix(scope: Scope) -> str:
    """What stands before the addresses of the service, where it is mounted in another application."""
    return str(scope.get("root_path", "")).rstrip("/")


def _path(scope: Scope) -> str:
    """The address within the service."""
    return str(scope["path"]).removeprefix(_prefix(scope))


class _Page(Mount):
    """The files of the page, which leave the paths of the service alone."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for a file of the page."""
        path = _path(scope)
        if path.startswith("/v1/") or path in ("/healthz", "/readyz", "/metrics"):
            return Match.NONE, {}
        return super().matches(scope)


class _Watched:
    """Counts, times and names requests and writes a line on each: no query, no file name, no address."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        name = scope[REQUEST] = secrets.token_hex(4)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _completed(message.get("headers", []), name, _path(scope))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            endpoint = getattr(scope.get("route"), "path", None) or "other"
            spent = time.perf_counter() - began
            self._service.metrics.requests.labels(endpoint, str(status)).inc()
            self._service.metrics.seconds.labels(endpoint).observe(spent)
            LOG.info("%s %s %d %.0f ms, request %s", scope["method"], endpoint, status, 1000 * spent, name)


def _completed(headers: Iterable[tuple[bytes, bytes]], name: str, path: str) -> list[tuple[bytes, bytes]]:
    """Headers with those of every answer: what is heard in a recording is kept by no browser and no proxy."""
    found = [*headers, (b"x-content-type-options", b"nosniff"), (b"x-request-id", name.encode())]
    if not any(key == b"content-security-policy" for key, _ in found):
        found.append((b"content-security-policy", b"frame-ancestors 'none'"))  # which the page itself cannot say
    if path.startswith("/v1/"):
        found.append((b"cache-control", b"no-store"))
    return found
