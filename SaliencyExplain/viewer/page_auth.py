"""Who may see the page and drive its views: those who came with the key, from the page itself.

The framework below has one default key that is known to all and looks neither at ``Origin``
nor at ``Host``: any page in the user's browser could drive the views and read what they show.
So the key comes in the address's fragment, which browsers send nowhere; the entrance page
changes it into a cookie, and without that cookie nothing else is answered, no websocket either.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from aiohttp import web

from SaliencyExplain.engine.server.auth import is_loopback

_ENTRANCE = Path(__file__).with_name("page") / "entrance.html"
_WILDCARD = ("0.0.0.0", "::", "")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d{1,5})?", re.IGNORECASE)

#: What the page may load: itself. Vue compiles the page's templates, hence 'unsafe-eval'.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-eval' 'unsafe-inline'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' ws: wss:; worker-src 'self' blob:; frame-ancestors 'none'; "
        "form-action 'self'; base-uri 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageAuth:
    """Lets requests through to the page, or refuses them before anything is done for them."""

    def __init__(self, key: str, host: str, names: Iterable[str] = ()) -> None:
        """Remembers who is to be let in.

        Args:
            key: What the address of the page carries behind its ``#``.
            host: Address that the server listens on.
            names: Further names by which it may be called.
        """
        self._key = key
        self._wildcard = host in _WILDCARD
        self._names = {name.lower() for name in (*names, *_LOOPBACK)}
        if not self._wildcard:
            self._names.add(host.lower())

    def protect(self, application: web.Application) -> None:
        """Puts the guard before all that an application answers."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._check(request, handler)

        application.middlewares.append(check)
        application.router.add_get("/", self._entrance)
        application.router.add_post("/enter", self._enter)

    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_own(request):
            return _refusal("This host name is not allowed; --allow-host adds names.")
        own = f"{request.scheme}://{request.headers['Host']}".lower()
        if any(origin.lower() != own for origin in request.headers.getall("Origin", [])):
            return _refusal("This viewer does not answer pages of another origin.")
        if request.path not in ("/", "/enter") and not self._has_cookie(request):
            return _refusal("Open the whole address that the viewer printed, with its key.")
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _entrance(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            text=_ENTRANCE.read_text(encoding="utf-8"),
            content_type="text/html",
            headers={"Cache-Control": "no-store"},
        )

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        given = (await request.content.read(1024)).decode("latin-1").strip()
        if not given and self._has_cookie(request):
            return web.Response(text="known")
        if not hmac.compare_digest(given.encode("latin-1"), self._key.encode("latin-1")):
            return _refusal("The key is wrong: open the whole address that the viewer printed.")
        response = web.Response(text="welcome")
        response.set_cookie(
            _cookie(request),
            self._key,
            httponly=True,
            samesite="Strict",
            secure=request.scheme == "https",
            path="/",
        )
        return response

    def _has_cookie(self, request: web.Request) -> bool:
        given = request.cookies.get(_cookie(request), "")
        return hmac.compare_digest(given.encode("utf-8"), self._key.encode("utf-8"))

    def _is_own(self, request: web.Request) -> bool:
        hosts = request.headers.getall("Host", [])
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        # The address through which this request came in: what a wildcard stands for here.
        here = request.transport.get_extra_info("sockname") if request.transport else None
        return name in self._names or (self._wildcard and here is not None and name == here[0])


def warn_of(host: str) -> str:
    """What must be said of an address that others can reach; empty where none can."""
    if is_loopback(host):
        return ""
    return (
        f"{host} can be reached by others, and images and the key travel in the open; "
        "an SSH tunnel to the default address keeps them private."
    )


def _cookie(request: web.Request) -> str:
    # Browsers share cookies between the ports of a host; two viewers must not.
    port = request.headers["Host"].rpartition(":")[2]
    return f"saliency-explain-{port if port.isdigit() else 'default'}"


def _refusal(reason: str) -> web.Response:
    return web.Response(status=403, text=reason + "\n", headers={"Connection": "close"})
