"""Runs a server until it is stopped, or until the process that started it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from SaliencyExplain.engine.interface import ENDED
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.server.auth import RequestAuth
from SaliencyExplain.engine.server.routes import make_application
from SaliencyExplain.engine.server.slow_connections import LOOK_EVERY, Patience, Wait
from SaliencyExplain.engine.server.uploads import Uploads
from SaliencyExplain.errors import ErrorCode, InputError

#: An orphan that somebody else has asked something stays for their next question so long.
_ADOPTED = 600.0
#: An orphan's jobs that no one has asked about for so long are cancelled; studies go on.
_FORGOTTEN = 60.0
_LOOK_EVERY = 0.2
#: What the process that started the server writes to its standard input to end it at once.
STOP = b"stop"


class Watch:
    """Notes when standard input is closed: the process that held its other end has gone."""

    def __init__(self) -> None:
        self.orphaned_at: float | None = None
        self.stop = False
        threading.Thread(target=self._read, name="standard input", daemon=True).start()

    def _read(self) -> None:
        # Not through sys.stdin: its lock, held by this thread, aborts the interpreter at its end.
        said = b""
        with contextlib.suppress(OSError, ValueError):
            while sys.stdin is not None and (piece := os.read(sys.stdin.fileno(), 64)):
                *lines, said = (said[-64:] + piece).split(b"\n")
                self.stop = self.stop or STOP in (line.strip() for line in lines)
        self.orphaned_at = time.monotonic()


class _Protocol(H11Protocol):
    """uvicorn's connection, whose bytes are counted."""

    received = 0

    def data_received(self, data: bytes) -> None:
        """Counts what comes."""
        self.received += len(data)
        super().data_received(data)

    @property
    def wait(self) -> Wait:
        """What it is waited for."""
        cycle = self.cycle
        if cycle is None:
            return Wait("head", 0)
        request = id(cycle)
        if not cycle.response_complete:
            # Where the engine is slower than the client, the server does not wait for the client.
            reads = cycle.more_body and not self.flow.read_paused
            return Wait("body" if reads else "work", request, self.received)
        begun = bool(self.conn.trailing_data[0]) or self.conn.their_state is not h11.IDLE
        return Wait("head" if begun else "idle", request)


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, closes late connections, and ends as an orphan should."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: LocalEngine,
        auth: RequestAuth,
        watch: Watch | None,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._auth = auth
        self._watch = watch
        self._ready = ready
        self._patience = Patience()
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, says so, and begins to look after standard input."""
        await super().startup(sockets)
        if self._watch is not None:
            self._tasks.append(asyncio.create_task(self._look(self._watch)))
        self._tasks.append(asyncio.create_task(self._tend()))
        self._ready()

    async def _tend(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(LOOK_EVERY)
            connections = self.server_state.connections
            waits = {one: one.wait for one in connections if isinstance(one, _Protocol)}
            for one in self._patience.late(waits):
                one.transport.abort()

    async def _look(self, watch: Watch) -> None:
        while not self.should_exit:
            await asyncio.sleep(_LOOK_EVERY)
            # Only ever set: a signal may have set it meanwhile.
            if watch.stop or self._is_done(watch):
                self.should_exit = True

    def _is_done(self, watch: Watch) -> bool:
        if watch.orphaned_at is None:
            return False
        last = self._auth.last_request
        adopted = last > watch.orphaned_at
        quiet = time.monotonic() - max(last, watch.orphaned_at)
        running = [job for job in self._engine.jobs() if job.state not in ENDED]
        if quiet > _FORGOTTEN:
            for job in running:
                if job.kind != "study":
                    self._engine.cancel(job.job)
        return not running and (not adopted or quiet > _ADOPTED)


def serve(
    engine: LocalEngine,
    *,
    token: str,
    uploads: Uploads,
    ready: Callable[[str], None],
    host: str = "127.0.0.1",
    port: int = 0,
    names: Sequence[str] = (),
    certificate: Path | None = None,
    key: Path | None = None,
    watch: Watch | None = None,
) -> None:
    """Answers until Ctrl-C, SIGTERM, or the watch says that it is time to go.

    Args:
        engine: What answers; it is closed at the end.
        token: What every request must carry.
        uploads: Where files of clients lie until they are read.
        ready: Told the address once it can be asked.
        host: Address to listen on.
        port: Port; 0: a free one.
        names: Further names by which the server may be called.
        certificate: For https.
        key: The certificate's key.
        watch: Ends the server with the process that started it.

    Raises:
        InputError: The address or the certificate cannot be used.
    """
    auth = RequestAuth(make_application(engine, uploads), token, host, names)
    listening = _listen(host, port)
    config = uvicorn.Config(
        auth,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Longer than the usual pause between two clicks, so that few requests open a new one.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=2,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    scheme = "https" if certificate else "http"
    place = f"[{host}]" if ":" in host else host
    address = f"{scheme}://{place}:{listening.getsockname()[1]}"
    try:
        with contextlib.closing(engine), contextlib.closing(listening):
            _load(config, certificate)
            server = _Server(config, engine, auth, watch, lambda: ready(address))
            server.run(sockets=[listening])
    finally:
        listening.close()


def _load(config: uvicorn.Config, certificate: Path | None) -> None:
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise InputError(
            ErrorCode.ENGINE_START,
            f"The certificate {certificate} or its key cannot be used: {error}.",
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    listening: socket.socket | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        # TCP by name: asyncio turns Nagle's algorithm off for such sockets only, and with it
        # each answer waits 40 ms for the acknowledgement of its header.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            ErrorCode.ENGINE_START, f"The engine cannot listen on {host}, port {port}: {reason}."
        ) from error
    return listening
