"""Runs a viewer's server until it is stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from typing import Any

from aiohttp import web
from trame.app import get_server

from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.viewer import page
from SaliencyExplain.viewer.files import Files
from SaliencyExplain.viewer.guard import Guard, Handler
from SaliencyExplain.viewer.presses import Presses
from SaliencyExplain.viewer.settings import Settings
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
    guard = Guard(key, settings.host, settings.names)
    files = Files(viewer)

    def bind(bound: Any) -> None:
        guard.protect(bound.app)
        bound.app.middlewares.append(_counting(viewer))
        files.add_routes(bound.app)

    def started(**_: Any) -> None:
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
