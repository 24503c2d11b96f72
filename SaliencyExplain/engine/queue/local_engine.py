"""The engine in this process."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch

from SaliencyExplain import __version__
from SaliencyExplain.attribution.method_selection import describe_methods
from SaliencyExplain.attribution.passes.batches import free_memory
from SaliencyExplain.engine.interface import (
    CANCELLED,
    DONE,
    FAILED,
    About,
    ClassifierInfo,
    Engine,
    JobStatus,
)
from SaliencyExplain.engine.queue.allowed_paths import AllowedPaths
from SaliencyExplain.engine.queue.cache import ClassifierStore, PredictionStore, VolumeStore
from SaliencyExplain.engine.queue.cached_prober import CachedProber
from SaliencyExplain.engine.queue.engine_context import EngineContext
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.handlers.handler_registry import find_handler
from SaliencyExplain.engine.queue.job import Job, new_name
from SaliencyExplain.engine.queue.job_queue import JobQueue, Reporter
from SaliencyExplain.engine.wire.request_base import Request, Result
from SaliencyExplain.engine.wire.request_limits import check_request
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.compute import Compute, choose_device
from SaliencyExplain.memory_limit import memory_limited
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.specification.spec import Limits
from SaliencyExplain.voxel_volume import Volume

#: Share of the free memory that a job may reserve; beyond it the system might kill the engine.
_MEMORY_SHARE = 0.95


class LocalEngine(Engine):
    """Works in this process, on one device, one job at a time.

    Attributes:
        device: Its torch device.
        volumes: The volumes that it holds.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        data: Sequence[str | Path] = (),
        trust: bool = False,
        volume_bytes: int | None = None,
        memory_bytes: float = math.inf,
    ) -> None:
        """Starts the thread that works on jobs.

        Args:
            device: ``auto``, ``cpu`` or ``cuda:N``.
            data: Folders that jobs may name.
            trust: Whether code that comes with a classifier may run if a request allows it.
            volume_bytes: Most bytes of voxels that are kept; None: a share of the memory.
            memory_bytes: Most that batches, kept maps and packed weights may take while it
                computes.

        Raises:
            InputError: The device or a folder does not exist.
        """
        self.device = choose_device(device)
        memory = None if math.isinf(memory_bytes) else memory_bytes
        compute = Compute(str(self.device), Limits(memory))
        self.volumes = VolumeStore(volume_bytes)
        self._paths = AllowedPaths(data)
        self._classifiers = ClassifierStore()
        self._context = EngineContext(
            compute=compute,
            volumes=self.volumes,
            classifiers=self._classifiers,
            predictions=PredictionStore(),
            prober=CachedProber(compute, self._classifiers, self.volumes),
            allowed_paths=self._paths,
            trusts=trust,
        )
        # Loading runs the network once: always on the same thread, because each new one
        # that does so would get a set of OpenMP threads of its own.
        self._loader = ThreadPoolExecutor(1, "engine loading")
        self._queue = JobQueue(self._work, self._ended, self._forgotten)

    def about(self) -> About:
        """Version, device, memory and permissions."""
        name, free, total = _device_state(self.device)
        return About(
            version=__version__,
            device=name,
            memory_free=free,
            memory_total=total,
            data=tuple(map(str, self._paths.folders)),
            trusts=self._context.trusts,
            jobs=self._queue.busy(),
        )

    def methods(self) -> list[dict[str, Any]]:
        """All methods with their parameters."""
        return describe_methods()

    def open_classifier(
        self, path: str, *, trust: bool = False, on_server: bool = False
    ) -> ClassifierInfo:
        """Loads a classifier, or finds it loaded; see :class:`Engine`."""
        if trust:
            self.check_trust()
        place = Path(path)
        if on_server:
            place = self._paths.inside(path)
            self._paths.check_all([place])
        classifier = self._loader.submit(load_classifier, place, trust=trust).result()
        self._classifiers.put(classifier)
        return describe(classifier)

    def check_trust(self) -> None:
        """Raises ClassifierError where the engine was not started with --trust."""
        self._context.check_trust()

    def find_classifier(self, key: str) -> ClassifierInfo | None:
        """The open classifier of that key, or None."""
        try:
            return describe(self._classifiers.get(key).classifier)
        except InputError:
            return None

    def put(self, volume: Volume) -> str:
        """Adds a volume; see :class:`Engine`."""
        return self.volumes.put(volume)

    def get(self, volume: str) -> Volume:
        """The volume of that hash; its voxels must not be changed."""
        return self.volumes.get(volume)

    def start(self, request: Request, *, name: str | None = None) -> str:
        """Puts a job in the queue; see :class:`Engine`.

        Args:
            request: What is asked.
            name: The job's name, given by a caller that may repeat the request after a lost answer;
                a job that exists already is not added again.
        """
        check_request(request)
        handler = self._handler(request)
        handler.check(request)
        job = Job(request, name or new_name(), handler.volumes(request))
        self.volumes.hold(job.holds)
        added = False
        try:
            added = self._queue.add(job)
        finally:
            if not added:
                self.volumes.release(job.holds)
        return job.name

    def status(self, job: str, *, seen: int = -1, wait: float = 0.0) -> JobStatus:
        """The progress of a job; see :class:`Engine`."""
        return self._queue.status(job, seen, wait)

    def partial(self, job: str) -> Result | None:
        """The newest partial result of a job; None where there is none yet."""
        return self._queue.job(job).partial

    def result(self, job: str) -> Result:
        """The result of a job that is done; see :class:`Engine`."""
        found = self._queue.job(job)
        if found.state == DONE and found.result is not None:
            return found.result
        if found.state in (FAILED, CANCELLED) and found.failure is not None:
            raise copy.copy(found.failure)
        raise InputError(ErrorCode.ENGINE_UNKNOWN, "The job has not ended yet.")

    def cancel(self, job: str) -> None:
        """Requests that a job stops."""
        self._queue.cancel(job)

    def jobs(self) -> list[JobStatus]:
        """All listed jobs, the oldest first."""
        return self._queue.statuses()

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls the listener after each change of a job, on any thread; it must be quick."""
        self._queue.listen(listener)

    def close(self) -> None:
        """Cancels running jobs and releases everything."""
        self._queue.close()
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._context.prober.clear()
        self._classifiers.clear()
        self.volumes.clear()

    def _work(self, job: Job, reporter: Reporter) -> Result:
        # On a GPU the driver reserves far more than it uses.
        if self.device.type != "cpu":
            return self._answer(job, reporter)
        with memory_limited(_MEMORY_SHARE * free_memory(self.device)):
            return self._answer(job, reporter)

    def _answer(self, job: Job, reporter: Reporter) -> Result:
        result: Result = self._handler(job.request).run(job.request, reporter)
        return result

    def _handler(self, request: Request) -> Handler[Any, Any]:
        return find_handler(request)(self._context)

    def _ended(self, job: Job) -> None:
        """Releases the volumes of an ended job, and old jobs where memory is short."""
        kept: set[str] = set()
        if job.result is not None:
            kept = self._handler(job.request).kept_volumes(job.result)
        self.volumes.release(job.holds - kept)
        job.holds &= kept
        if self.device.type == "cuda" and not job.short:
            # Also for other programs: torch keeps allocated memory.
            torch.cuda.empty_cache()
        while 2 * self.volumes.held_bytes > self.volumes.limit and self._queue.forget_oldest():
            continue

    def _forgotten(self, job: Job) -> None:
        self.volumes.release(job.holds)
        job.holds.clear()


def describe(classifier: Classifier) -> ClassifierInfo:
    """The description of a classifier for user interfaces."""
    return ClassifierInfo(
        key=classifier.identity,
        name=classifier.name,
        classes=classifier.classes,
        channels=classifier.channels,
        spatial_dims=classifier.spatial_dims,
        format=classifier.format,
        input_size=classifier.input_size,
        spacing=classifier.spacing,
        layers=tuple(classifier.network.convolutions()),
        notes=classifier.notes,
    )


def _device_state(device: torch.device) -> tuple[str, int, int]:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)} ({device})", free, total
    memory = psutil.virtual_memory()
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})", memory.available, memory.total
