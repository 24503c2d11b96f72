"""Runs a viewer's server until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from typing import Any, Literal

from aiohttp import web
from trame.app import get_server

from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.server.slow_connections import LOOK_EVERY, Patience, Wait
from SaliencyExplain.viewer import page
from SaliencyExplain.viewer.page_auth import Handler, PageAuth
from SaliencyExplain.viewer.page_files import Files
from SaliencyExplain.viewer.page_settings import Settings
from SaliencyExplain.viewer.presses import Presses
from SaliencyExplain.viewer.shortcuts import Shortcuts
from SaliencyExplain.viewer.viewer import Viewer

#: Seconds of silence after which a page is asked whether it is there; half of that later its
#: connection counts as lost. A laptop that sleeps closes none. The loop, which draws, can be
#: busy for seconds on a loaded machine and hears no answer meanwhile: no less than this.
_HEART_BEAT_SECONDS = 60


def serve(engine: Engine, settings: Settings, ready: Callable[[str], None]) -> None:
    """Answers the page until a signal ends it.

    Args:
        engine: Computes; closed at the end.
        settings: How it is reached and what it opens.
        ready: Told the whole address, with its key, when it can be opened.

    Raises:
        OSError: The address cannot be listened on.
    """
    # The framework reads these, and sys.argv where TRAME_ARGS is not set.
    os.environ["TRAME_ARGS"] = "--server"
    os.environ["WSLINK_READY_MSG"] = ""
    os.environ["TRAME_WS_HEART_BEAT"] = str(_HEART_BEAT_SECONDS)
    key = secrets.token_urlsafe(32)
    server = get_server("saliency-explain", client_type="vue3")
    viewer = Viewer(server, engine, settings)
    Shortcuts(viewer)
    Presses(server)
    page.build(viewer)
    auth = PageAuth(key, settings.host, settings.names)
    files = Files(viewer)

    bounds: list[Any] = []
    tending: list[asyncio.Task[None]] = []

    def bind(bound: Any) -> None:
        bounds.append(bound)
        auth.protect(bound.app)
        bound.app.middlewares.append(_counting(viewer))
        files.add_routes(bound.app)

    def started(**_: Any) -> None:
        tending.append(asyncio.create_task(_tend(lambda: bounds[0].runner.server)))
        viewer.open_all()
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{server.port}/#{key}")

    server.controller.on_server_bind.add(bind)
    server.controller.on_server_ready.add(started)
    server.controller.on_exception.add(viewer.fail)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.start(
                port=settings.port,
                host=settings.host,
                open_browser=False,
                show_connection_info=False,
                timeout=0,
            )
    finally:
        viewer.close()
        files.close()


async def _tend(server: Callable[[], web.Server]) -> None:
    """Closes connections whose requests are late, for as long as the viewer runs."""
    patience = Patience()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        for one in patience.late({one: _wait_of(one) for one in server().connections}):
            one.force_close()


def _wait_of(connection: web.RequestHandler) -> Wait:
    request = connection._current_request
    if request is None:
        # Set anew with each answer. Browsers open a new connection where one was closed.
        return Wait("head", connection._next_keepalive_close_time)
    content = request.content
    phase: Literal["work", "body"] = "work" if content.is_eof() else "body"
    return Wait(phase, id(request), getattr(content, "total_bytes", 0))


def _counting(viewer: Viewer) -> Any:
    """Tells a viewer of each page that comes and goes: its websocket is one long request."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/ws":
            return await handler(request)
        viewer.pages_changed(1)
        try:
            return await handler(request)
        finally:
            viewer.pages_changed(-1)

    return count
