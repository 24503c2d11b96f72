"""Closes connections that send a part of a request or a very slow body.

Such connections need no token and each takes a file descriptor: a few hundred of them would
block all other clients.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

#: Seconds for the first line and the headers of a request, from the connection or their first byte.
HEAD_SECONDS = 20.0
#: Seconds after which a body must have come with so many bytes in each second, on average.
BODY_SECONDS, SLOWEST_BODY = 30.0, 4096
#: Seconds between two looks at the connections.
LOOK_EVERY = 0.5
#: Connections at most; of those above, the ones that wait longest for a request are closed.
_MOST = 256

Connection = TypeVar("Connection", bound=Hashable)


@dataclass(frozen=True)
class Wait:
    """The state of a connection that the server waits for.

    Attributes:
        phase: ``head``: a request that has not come, or in part; ``idle``: the next request of a
            client that has had an answer; ``body``: the rest of a request; ``work``: nothing.
        request: Tells the connection's requests from each other.
        received: Bytes that have come so far.
    """

    phase: Literal["head", "idle", "body", "work"]
    request: Hashable
    received: int = 0


class Patience:
    """Remembers for how long each connection has been waited for."""

    def __init__(
        self, most: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts without connections.

        Args:
            most: Connections at most; None: as many as the system lets the process have.
            clock: Seconds.
        """
        self._most = _most_connections() if most is None else most
        self._clock = clock
        self._known: dict[Hashable, tuple[Hashable, float, int]] = {}

    def late(self, waits: Mapping[Connection, Wait]) -> list[Connection]:
        """The connections to close.

        Args:
            waits: All open connections.
        """
        now = self._clock()
        known: dict[Hashable, tuple[Hashable, float, int]] = {}
        closed = []
        for connection, wait in waits.items():
            what = (wait.phase, wait.request)
            before = self._known.get(connection)
            if before is None or before[0] != what:
                before = (what, now, wait.received)
            known[connection] = before
            _, since, received = before
            allowed = {
                "head": HEAD_SECONDS,
                "body": BODY_SECONDS + (wait.received - received) / SLOWEST_BODY,
            }.get(wait.phase)
            if allowed is not None and now - since > allowed:
                closed.append(connection)
        self._known = known
        late = set(closed)
        spare = [
            one for one, wait in waits.items() if wait.phase in ("head", "idle") and one not in late
        ]
        spare.sort(key=lambda one: known[one][1])
        return closed + spare[: max(0, len(waits) - len(closed) - self._most)]


def _most_connections() -> int:
    if sys.platform == "win32":
        return _MOST
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if allowed == resource.RLIM_INFINITY else max(8, min(_MOST, allowed // 2))
