"""A kind of request that is added in one file: how many voxels of a volume are above a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.wire.request_base import Request
from SaliencyExplain.engine.wire.request_limits import Within
from SaliencyExplain.errors import ErrorCode, InputError


@dataclass(frozen=True)
class CountResult:
    """How many voxels are above the value, in each channel."""

    voxels: tuple[int, ...]


@dataclass(frozen=True)
class CountRequest(Request, kind="count", result=CountResult, short=True):
    """Asks how many voxels of a volume are above a value."""

    volume: str
    above: Annotated[float, Within(-1000, 1000, "units")] = 0.0


class CountHandler(Handler[CountRequest, CountResult], answers=CountRequest):
    """Counts, channel by channel."""

    def check(self, request: CountRequest) -> None:
        """Refuses one value by its number, as a test of refusals."""
        if request.above == 13:
            raise InputError(ErrorCode.VALUE_RANGE, "The request's above is 13.")

    def volumes(self, request: CountRequest) -> set[str]:
        """The volume."""
        return {request.volume}

    def run(self, request: CountRequest, reporter: Reporter) -> CountResult:
        """Counts, and shows what is counted so far."""
        values = self.context.volumes.get(request.volume).values
        counted: tuple[int, ...] = ()
        for number, channel in enumerate(values):
            counted = (*counted, int((channel > request.above).sum()))
            reporter.publish(CountResult(counted))
            reporter.progress(number + 1, len(values))
        return CountResult(counted)
