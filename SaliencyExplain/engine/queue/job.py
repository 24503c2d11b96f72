"""A job: a request in the queue, and its outcome."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

from SaliencyExplain.engine.interface import WAITING
from SaliencyExplain.engine.queue.eta import Eta
from SaliencyExplain.engine.wire.request_base import Request, Result


@dataclass(eq=False)
class Job:
    """A job in the queue; what changes is changed under the queue's lock.

    Attributes:
        request: What was asked.
        name: Its name.
        holds: Hashes of the volumes that stay while it is listed.
    """

    request: Request
    name: str
    holds: set[str] = field(default_factory=set)
    state: str = WAITING
    done: float = 0.0
    total: float = 0.0
    seconds_left: float | None = None
    doing: str = ""
    partial_count: int = 0
    partial: Result | None = None
    version: int = 0
    stopping: bool = False
    result: Result | None = None
    failure: Exception | None = None
    details: str = ""
    told: float = 0.0
    ended_at: float = 0.0
    eta: Eta = field(default_factory=lambda: Eta(time.monotonic()))

    @property
    def kind(self) -> str:
        """The kind of its request."""
        return self.request.kind

    @property
    def short(self) -> bool:
        """Whether it takes about a forward pass or two."""
        return self.request.short

    @property
    def stream(self) -> str:
        """The stream of its request: a newer one replaces those before."""
        return self.request.stream


def new_name() -> str:
    """A name for a job that cannot be guessed."""
    return uuid.uuid4().hex
