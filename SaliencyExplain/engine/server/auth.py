"""Access to a server: clients with its token, and web pages of its own origin only.

Any web page in a browser on the same machine can reach a loopback server. So the token is needed
for everything, the ``Host`` must be one of the server's own names (a page whose name resolves to
127.0.0.1 sends its own name), and an ``Origin`` must be the server's.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from SaliencyExplain.engine.wire.serialisation import to_json
from SaliencyExplain.errors import ErrorCode

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WILDCARD = ("0.0.0.0", "::", "")


def is_loopback(host: str) -> bool:
    """Whether a server at this address can be reached from this machine only."""
    return host in _LOOPBACK or host.startswith("127.")


class RequestAuth:
    """Passes a request to the application, or refuses it before its body is read.

    Attributes:
        last_request: Monotonic time of the last request that was let through.
    """

    def __init__(
        self, application: ASGIApp, token: str, host: str, allowed: Iterable[str] = ()
    ) -> None:
        """Remembers who is to be let through.

        Args:
            application: What is guarded.
            token: What every request must carry.
            host: Address that the server listens on.
            allowed: Further names by which it may be called.
        """
        self._application = application
        self._expected = f"Bearer {token}".encode()
        self._names = {name.lower() for name in (*allowed, *_LOOPBACK)}
        if host not in _WILDCARD:
            self._names.add(host.lower())
        self.last_request = -1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"a server of jobs speaks http, not {scope['type']}")
        refusal = self._refusal(scope)
        if refusal is None:
            self.last_request = time.monotonic()
            await self._application(scope, receive, send)
            return
        status, reason = refusal
        body = to_json(
            {"error": reason, "kind": "InputError", "code": ErrorCode.ENGINE_ACCESS.value}
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        given: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.lower(), []).append(value)
        hosts = given.get(b"host", [])
        if len(hosts) != 1 or not self._is_own(hosts[0], scope):
            return 403, "The host name is not one of this engine's. Add it with --allow-host."
        own = f"{scope['scheme']}://".encode() + hosts[0].lower()
        if any(origin.lower() != own for origin in given.get(b"origin", [])):
            return (
                403,
                "Requests from web pages of another origin are refused. Open the engine's own "
                "address.",
            )
        tokens = given.get(b"authorization", [])
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._expected):
            return (
                401,
                "The engine's token is missing or wrong; its token file holds the right one.",
            )
        return None

    def _is_own(self, host: bytes, scope: Scope) -> bool:
        text = host.decode("latin-1").lower()
        if text.startswith("["):
            name, bracket, port = text[1:].partition("]")
            fine = bracket and (not port or port[1:].isdigit())
        else:
            name, _, port = text.partition(":")
            fine = not port or port.isdigit()
        # The address through which this request came in: what a wildcard stands for here.
        here = (scope.get("server") or ("",))[0]
        return bool(fine) and name in {*self._names, here}
