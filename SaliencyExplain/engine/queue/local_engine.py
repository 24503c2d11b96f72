"""The engine in this process."""

from __future__ import annotations

import copy
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
from SaliencyExplain.engine.queue import handlers
from SaliencyExplain.engine.queue.allowed_paths import Places
from SaliencyExplain.engine.queue.cache import ClassifierStore, VolumeStore
from SaliencyExplain.engine.queue.evaluation_jobs import tried
from SaliencyExplain.engine.queue.job_queue import Job, Line, Reporter, new_name
from SaliencyExplain.engine.queue.study_jobs import run_request
from SaliencyExplain.engine.wire.request_limits import check_request
from SaliencyExplain.engine.wire.requests import (
    CompareRequest,
    EstimateRequest,
    ExplainRequest,
    PredictRequest,
    ProbeRequest,
    Request,
    StudyRequest,
    TrialRequest,
)
from SaliencyExplain.engine.wire.results import ExplainResult, Result
from SaliencyExplain.engine.wire.wire_volumes import Volume
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.memory_limit import memory_limited
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.probing import Prober
from SaliencyExplain.question import Compute, choose_device

#: Predictions that are remembered, for the partial results of explanations.
_PREDICTIONS = 32
#: Share of the free memory that a job may reserve; beyond it the system would end the engine.
_MEMORY_SHARE = 0.95


class LocalEngine(Engine):
    """Works in this process, on one device, one job at a time.

    Attributes:
        device: Its torch device.
        volumes: What it holds.
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
            trust: Whether code that comes with a classifier may run if a request asks for it.
            volume_bytes: Most bytes of voxels that are kept; None: a share of the memory.
            memory_bytes: Most that batches, kept maps and packed weights may take while it
                computes.

        Raises:
            InputError: There is no such device or folder.
        """
        self.device = choose_device(device)
        self._compute = Compute(str(self.device), memory_bytes)
        self.volumes = VolumeStore(volume_bytes)
        self._places = Places(data)
        self._trusts = trust
        self._classifiers = ClassifierStore()
        # Loading runs the network once: always on the same thread, because each new one
        # that does so would get a set of OpenMP threads of its own.
        self._loader = ThreadPoolExecutor(1, "engine loading")
        self._lock = threading.Lock()
        self._prober: tuple[tuple[str, ...], Prober] | None = None
        self._predictions: OrderedDict[tuple[str, str], tuple[float, ...]] = OrderedDict()
        self._line = Line(self._work, self._ended, self._forgotten)

    def about(self) -> About:
        """Version, device, memory and permissions."""
        name, free, total = _device_state(self.device)
        return About(
            version=__version__,
            device=name,
            memory_free=free,
            memory_total=total,
            data=tuple(map(str, self._places.folders)),
            trusts=self._trusts,
            jobs=self._line.busy(),
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
            place = self._places.inside(path)
            self._places.check_all([place])
        classifier = self._loader.submit(load_classifier, place, trust=trust).result()
        self._classifiers.put(classifier)
        return describe(classifier)

    def check_trust(self) -> None:
        """Raises ClassifierError where the engine was not started to run others' code."""
        if not self._trusts:
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                "This engine runs no code that comes with a classifier; start it with --trust "
                "if you know where the classifier comes from.",
            )

    def find_classifier(self, key: str) -> ClassifierInfo | None:
        """The open classifier of that key, or None."""
        try:
            return describe(self._classifiers.get(key).classifier)
        except InputError:
            return None

    def put(self, volume: Volume) -> str:
        """Hands over a volume; see :class:`Engine`."""
        return self.volumes.put(volume)

    def get(self, volume: str) -> Volume:
        """The volume of that hash; its voxels are not to be written to."""
        return self.volumes.get(volume)

    def start(self, request: Request, *, name: str | None = None) -> str:
        """Puts a job in the line; see :class:`Engine`.

        Args:
            request: What is asked.
            name: The job's name, made by a caller who may ask twice because the first answer
                was lost; a job that is there already is not put in again.
        """
        self._check(request)
        job = Job(request, name or new_name(), _volumes_of(request))
        self.volumes.hold(job.holds)
        added = False
        try:
            added = self._line.add(job)
        finally:
            if not added:
                self.volumes.release(job.holds)
        return job.name

    def status(self, job: str, *, seen: int = -1, wait: float = 0.0) -> JobStatus:
        """How far a job is; see :class:`Engine`."""
        return self._line.status(job, seen, wait)

    def partial(self, job: str) -> ExplainResult | None:
        """The newest partial result of an explain job."""
        return self._line.job(job).partial

    def result(self, job: str) -> Result:
        """The result of a job that is done; see :class:`Engine`."""
        found = self._line.job(job)
        if found.state == DONE and found.result is not None:
            return found.result
        if found.state in (FAILED, CANCELLED) and found.failure is not None:
            raise copy.copy(found.failure)
        raise InputError(ErrorCode.ENGINE_UNKNOWN, "The job has not ended yet.")

    def cancel(self, job: str) -> None:
        """Asks a job to stop."""
        self._line.cancel(job)

    def jobs(self) -> list[JobStatus]:
        """All listed jobs, the oldest first."""
        return self._line.statuses()

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls the listener after each change of a job, on any thread; it must be quick."""
        self._line.listen(listener)

    def close(self) -> None:
        """Cancels what runs and lets go of everything."""
        self._line.close()
        self._loader.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._prober = None
        self._classifiers.clear()
        self.volumes.clear()

    def _check(self, request: Request) -> None:
        """Finds out what is wrong with a request before it waits in the line."""
        check_request(request)
        if isinstance(request, (EstimateRequest, TrialRequest)):
            request = request.explain
        if isinstance(request, (PredictRequest, ExplainRequest, ProbeRequest)):
            self._classifiers.get(request.classifier)
        if isinstance(request, (ExplainRequest, StudyRequest)):
            handlers.chosen_methods(request.methods)
            replace(self._compute, precision=request.precision)  # raises where there is none such
        if isinstance(request, StudyRequest):
            if request.trust:
                self.check_trust()
            for path in (request.folder, request.classifier, request.out):
                self._places.inside(path)

    def _work(self, job: Job, reporter: Reporter) -> Result:
        # On a GPU the driver reserves far more than it uses.
        if self.device.type != "cpu":
            return self._answer(job, reporter)
        with memory_limited(_MEMORY_SHARE * free_memory(self.device)):
            return self._answer(job, reporter)

    def _answer(self, job: Job, reporter: Reporter) -> Result:
        request, compute = job.request, self._compute
        if isinstance(request, StudyRequest):
            compute = replace(compute, precision=request.precision)
            return run_request(request, self._places, compute, reporter)
        if isinstance(request, CompareRequest):
            maps = {label: self.volumes.get(key) for label, key in request.maps.items()}
            image, segments = self.volumes.get(request.volume), self.volumes.get(request.segments)
            return handlers.compared(request, image, maps, segments, reporter)
        if isinstance(request, ProbeRequest):
            segment = self.volumes.get(request.segment) if request.segment else None
            image, prober = self.volumes.get(request.volume), self._warm_prober(request, reporter)
            return handlers.probed(request, image, prober, segment, reporter)
        if isinstance(request, PredictRequest):
            reporter.doing("predicts")
            twin = self._classifiers.get(request.classifier).twin
            predicted = handlers.predict(self.volumes.get(request.volume), twin, compute)
            self._remember(request.classifier, request.volume, predicted.probabilities)
            return predicted
        asked = request if isinstance(request, ExplainRequest) else request.explain
        compute = replace(compute, precision=asked.precision)
        opened, volume = self._classifiers.get(asked.classifier), self.volumes.get(asked.volume)
        notes: list[str] = []
        given = handlers.given_beside(asked, volume, self.volumes.get, notes)
        if isinstance(request, EstimateRequest):
            reporter.doing("estimates")
            return handlers.estimated(asked, volume, opened.twin, compute, given)
        known = self._predictions.get((asked.classifier, asked.volume), ())
        self._make_room()
        if isinstance(request, TrialRequest):
            tried_maps = tried(request, volume, opened.classifier, compute, given, reporter)
            return replace(tried_maps, notes=(*notes, *tried_maps.notes))
        desk = _Desk(job, self.volumes, reporter)
        explained = handlers.explained(
            asked, volume, opened.classifier, compute, given, desk, known
        )
        self._remember(asked.classifier, asked.volume, explained.probabilities)
        return replace(explained, notes=(*notes, *explained.notes))

    def _warm_prober(self, request: ProbeRequest, reporter: Reporter) -> Prober:
        twin = self._classifiers.get(request.classifier).twin
        asked = (request.classifier, request.volume, request.fill)
        with self._lock:
            # Where the network has moved since (a GPU was full), its maps lie elsewhere.
            if self._prober is not None and self._prober[0] == (*asked, str(twin.device)):
                reporter.doing("removes what is there")
                return self._prober[1]
            # Before the new one is made: two would not fit a small GPU.
            self._prober = None
        reporter.doing("looks at the image for the first time")
        image = handlers.image_of(self.volumes.get(request.volume))
        prober = Prober(image, twin, compute=self._compute, fill=request.fill)
        with self._lock:
            self._prober = ((*asked, str(twin.device)), prober)
        reporter.doing("removes what is there")
        return prober

    def _make_room(self) -> None:
        """Gives a GPU's memory to the explanation that comes; a click makes its maps anew."""
        with self._lock:
            if self._prober is not None and self.device.type == "cuda":
                self._prober[1].release()

    def _remember(self, classifier: str, volume: str, probabilities: tuple[float, ...]) -> None:
        self._predictions[classifier, volume] = probabilities
        while len(self._predictions) > _PREDICTIONS:
            self._predictions.popitem(last=False)

    def _ended(self, job: Job) -> None:
        """Lets go of what an ended job needs no longer, and of old jobs where memory is short."""
        kept: set[str] = set()
        if isinstance(job.result, ExplainResult):
            kept = {map_.volume for map_ in job.result.maps}
        self.volumes.release(job.holds - kept)
        job.holds &= kept
        if self.device.type == "cuda" and not job.short:
            # Also for other programs: torch keeps what it was given.
            torch.cuda.empty_cache()
        while 2 * self.volumes.held_bytes > self.volumes.limit and self._line.forget_oldest():
            continue

    def _forgotten(self, job: Job) -> None:
        self.volumes.release(job.holds)
        job.holds.clear()


class _Desk:
    """Where an explain job lays its maps down while it works.

    Attributes:
        reporter: Is told how far it is.
    """

    def __init__(self, job: Job, volumes: VolumeStore, reporter: Reporter) -> None:
        self.reporter = reporter
        self._job = job
        self._volumes = volumes
        self._inputs = set(job.holds)
        self._last: set[str] = set()

    def keep(self, volume: Volume) -> str:
        """Keeps a map for as long as the job is listed."""
        key = self._volumes.put(volume, copied=False, beyond=True)
        if key not in self._job.holds:
            self._volumes.hold([key])
            self._job.holds.add(key)
        return key

    def publish(self, partial: ExplainResult) -> None:
        """Shows a partial result; the one before it stays for those who fetch it just now."""
        now = {map_.volume for map_ in partial.maps}
        old = self._job.holds - self._inputs - self._last - now
        self._volumes.release(old)
        self._job.holds -= old
        self._last = now
        self.reporter.publish(partial)


def describe(classifier: Classifier) -> ClassifierInfo:
    """What a face is told of a classifier."""
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


def _volumes_of(request: Request) -> set[str]:
    if isinstance(request, (EstimateRequest, TrialRequest)):
        request = request.explain
    if isinstance(request, StudyRequest):
        return set()
    found = {request.volume}
    if isinstance(request, ProbeRequest) and request.segment is not None:
        found.add(request.segment)
    if isinstance(request, ExplainRequest):
        found |= {*request.backgrounds, *([request.segments] if request.segments else [])}
    if isinstance(request, CompareRequest):
        found |= {*request.maps.values(), request.segments}
    return found
