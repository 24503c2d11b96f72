"""An engine over HTTP: the routes, each a method of :class:`Engine`.

Bodies are JSON by the interface's own dataclasses, volumes the bytes of
:mod:`SaliencyExplain.engine.wire.volume_format`. Everything that a client sends is untrusted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from SaliencyExplain import errors
from SaliencyExplain.engine.interface import ENDED, ClassifierInfo, JobStatus
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.server.uploads import TooLargeError, Uploads
from SaliencyExplain.engine.wire.request_base import Result
from SaliencyExplain.engine.wire.requests import find_request_kind
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.engine.wire.volume_format import encode
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, SaliencyExplainError

#: Longest wait of a request for news, in seconds.
LONGEST_WAIT = 30.0
_NAME = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Changes:
    """Wakes the requests that wait for changes of jobs, from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def event(self) -> asyncio.Event:
        """Set at the next change."""
        self._loop = asyncio.get_running_loop()
        return self._event

    def tell(self) -> None:
        """Wakes all; may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        told, self._event = self._event, asyncio.Event()
        told.set()


def make_application(engine: LocalEngine, uploads: Uploads) -> FastAPI:
    """The routes; not the access control, which is :class:`RequestAuth`.

    Args:
        engine: What answers.
        uploads: Where files of clients lie until they are read.
    """
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    changes = Changes()
    engine.listen(changes.tell)
    _add_errors(application)
    _add_holdings(application, engine, uploads)
    _add_jobs(application, engine, uploads, changes)
    return application


def _add_holdings(application: FastAPI, engine: LocalEngine, uploads: Uploads) -> None:
    @application.get("/about")
    async def about() -> Response:
        return _json(await run_in_threadpool(engine.about))

    @application.get("/methods")
    async def methods() -> Response:
        return _json(engine.methods())

    @application.post("/classifiers")
    async def open_here(request: Request) -> Response:
        asked = parse_json(await uploads.small(request))
        path = made(str, _field(asked, "path"), "path")
        trust = made(bool, _field(asked, "trust"), "trust")
        return _json(
            await run_in_threadpool(engine.open_classifier, path, trust=trust, on_server=True)
        )

    @application.get("/classifiers/{digest}")
    async def find_classifier(digest: str, size: int = 0, trust: bool = False) -> Response:
        uploads.check_size(size)
        if trust:
            engine.check_trust()
        key = uploads.key_of(_checked(digest, _HASH), trust)
        found: ClassifierInfo | None = engine.find_classifier(key) if key else None
        return _json({"classifier": found})

    @application.put("/classifiers/{digest}")
    async def send_classifier(
        request: Request, digest: str, name: str, trust: bool = False
    ) -> Response:
        if trust:
            engine.check_trust()
        async with uploads.classifier(request, _checked(digest, _HASH), name) as path:
            info = await run_in_threadpool(engine.open_classifier, str(path), trust=trust)
        uploads.remember(digest, trust, info.key)
        return _json(info)

    @application.get("/volumes/{key}/known")
    async def known(key: str, size: int = 0) -> Response:
        uploads.check_size(size)
        return _json({"known": _checked(key, _HASH) in engine.volumes})

    @application.put("/volumes/{key}")
    async def send_volume(request: Request, key: str) -> Response:
        _checked(key, _HASH)
        async with uploads.volume(request, key) as volume:
            await run_in_threadpool(engine.volumes.put, volume, copied=False)
        return _json({})

    @application.get("/volumes/{key}")
    async def fetch(key: str) -> Response:
        volume = engine.get(_checked(key, _HASH))
        content = await run_in_threadpool(encode, volume)
        return Response(content, media_type="application/octet-stream")


def _add_jobs(
    application: FastAPI, engine: LocalEngine, uploads: Uploads, changes: Changes
) -> None:
    @application.get("/jobs")
    async def jobs() -> Response:
        return _json({"jobs": engine.jobs()})

    @application.put("/jobs/{name}")
    async def start(request: Request, name: str) -> Response:
        _checked(name, _NAME)
        asked = parse_json(await uploads.small(request))
        kind = find_request_kind(made(str, _field(asked, "kind"), "kind"))
        wanted = made(kind, _field(asked, "request"))
        await run_in_threadpool(engine.start, wanted, name=name)
        return _json({})

    @application.get("/jobs/{name}")
    async def status(name: str, seen: int = -1, wait: float = 0.0) -> Response:
        return _json(await _news(engine, changes, name, seen, wait))

    @application.get("/jobs/{name}/partial")
    async def partial(name: str) -> Response:
        return await run_in_threadpool(_json, _of_kind(engine, name, engine.partial(name)))

    @application.get("/jobs/{name}/result")
    async def result(name: str) -> Response:
        return await run_in_threadpool(_json, _of_kind(engine, name, engine.result(name)))

    @application.post("/jobs/{name}/cancel")
    async def cancel(name: str) -> Response:
        engine.cancel(name)
        return _json({})


async def _news(
    engine: LocalEngine, changes: Changes, name: str, seen: int, wait: float
) -> JobStatus:
    loop = asyncio.get_running_loop()
    # NaN is not a time to wait.
    until = loop.time() + (min(wait, LONGEST_WAIT) if wait > 0 else 0.0)
    while True:
        # Taken before the check, so that changes in between set this event.
        event = changes.event()
        status = engine.status(name)
        left = until - loop.time()
        if status.version > seen or status.state in ENDED or left <= 0:
            return status
        try:
            await asyncio.wait_for(event.wait(), left)
        except asyncio.TimeoutError:
            continue


def _add_errors(application: FastAPI) -> None:
    def answer(status: int) -> Callable[[Request, Exception], Response]:
        def handler(_request: Request, error: Exception) -> Response:
            return _refusal(str(error), _kind(error), getattr(error, "code", ""), status)

        return handler

    def gone(_request: Request, _error: Exception) -> Response:
        return _refusal(
            "The upload was interrupted. Send it again.",
            "InputError",
            ErrorCode.ENGINE_REQUEST,
            400,
        )

    def misread(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        names = ", ".join(str(one["loc"][-1]) for one in error.errors())
        line = f"The request's {names} cannot be read."
        return _refusal(line, "InputError", ErrorCode.ENGINE_REQUEST, 400)

    def unforeseen(_request: Request, error: Exception) -> Response:
        reason = (
            f"The engine failed unexpectedly ({type(error).__name__}); the engine's log has the "
            "details."
        )
        return _refusal(reason, "SaliencyExplainError", ErrorCode.JOB_FAILED, 500)

    application.add_exception_handler(SaliencyExplainError, answer(400))
    application.add_exception_handler(TooLargeError, answer(413))
    application.add_exception_handler(Cancelled, answer(409))
    application.add_exception_handler(RequestValidationError, misread)
    application.add_exception_handler(ClientDisconnect, gone)
    application.add_exception_handler(Exception, unforeseen)


def _refusal(line: str, kind: str, code: str, status: int) -> Response:
    return _json({"error": line, "kind": kind, "code": str(code)}, status)


def _kind(error: Exception) -> str:
    """The nearest type of error that clients can read."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def _of_kind(engine: LocalEngine, name: str, result: Result | None) -> dict[str, Any]:
    """A result, or a partial one, with the kind by which a client reads it."""
    return {"kind": engine.status(name).kind, "result": result}


def _json(document: Any, status: int = 200) -> Response:
    return Response(to_json(document), status, media_type="application/json")


def _field(document: Any, name: str) -> Any:
    if not isinstance(document, dict) or name not in document:
        raise InputError(ErrorCode.ENGINE_REQUEST, f"The request lacks the field '{name}'.")
    return document[name]


def _checked(text: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(text):
        raise InputError(
            ErrorCode.ENGINE_REQUEST,
            "A name in the address is not a name that the engine has given.",
        )
    return text
