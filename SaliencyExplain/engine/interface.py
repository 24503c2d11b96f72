"""The interface of an engine: its requests, and how a job is followed.

User interfaces (panel, page, command line) use only :class:`Engine`. One implementation computes in
this process, another sends requests to a server; both behave alike and pass the same tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.engine.wire.request_base import Request, Result
from SaliencyExplain.voxel_volume import Volume

#: States of a job.
WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class About:
    """The version, device and permissions of an engine.

    Attributes:
        version: Of SaliencyExplain.
        device: Where it computes, in words, such as ``"cpu (2 threads)"``.
        memory_free: Bytes free on that device.
        memory_total: Bytes of that device.
        data: Folders of the engine's own disk that jobs may name; empty: none.
        trusts: Whether it runs code that comes with a classifier where a request allows it.
        jobs: Jobs that wait or run.
    """

    version: str
    device: str
    memory_free: int
    memory_total: int
    data: tuple[str, ...]
    trusts: bool
    jobs: int


@dataclass(frozen=True)
class ClassifierInfo:
    """A classifier that an engine has loaded.

    Attributes:
        key: Names it in requests: the hash of its weights and configuration.
        name: For people.
        classes: Names of the classes in the order of the probabilities.
        channels: Names of the input's channels in the network's order.
        spatial_dims: 2 or 3.
        format: Such as ``"MONAI bundle"``.
        input_size: Voxels along each axis of the network's input where it is fixed.
        spacing: Voxel size on the network's grid in mm where preprocessing sets it.
        layers: Names of its convolution layers, for methods that use a layer.
        notes: What was guessed at loading, to be shown to the user.
    """

    key: str
    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    spatial_dims: int
    format: str
    input_size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobStatus:
    """The progress of a job.

    Attributes:
        job: Its name.
        kind: Name of the kind of its request, such as ``predict``.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        place: Place in the queue, 1 is the next; 0: not in the queue.
        done: Forward passes (study: cases) done.
        total: Of so many; 0 while unknown.
        seconds_left: Estimate; None while unknown.
        doing: Its current step, in words.
        partial: Number of the newest partial result; 0: there is none yet.
        version: Rises with every change of this status.
        error: The one line of a failed job.
        details: Details of a failed job for developers.
    """

    job: str
    kind: str
    state: str
    place: int = 0
    done: float = 0.0
    total: float = 0.0
    seconds_left: float | None = None
    doing: str = ""
    partial: int = 0
    version: int = 0
    error: str = ""
    details: str = ""


class Engine(ABC):
    """Holds classifiers and volumes, and works on jobs one after another.

    All methods may be called from any thread. They raise ``InputError`` for errors of the caller
    and ``EngineLostError`` where a server does not answer any more.
    """

    @abstractmethod
    def about(self) -> About:
        """Version, device, memory and permissions."""

    @abstractmethod
    def methods(self) -> list[dict[str, Any]]:
        """All methods with their parameters, as ``attribution.selection.describe_methods``."""

    @abstractmethod
    def open_classifier(
        self, path: str, *, trust: bool = False, on_server: bool = False
    ) -> ClassifierInfo:
        """Loads a classifier, or finds it loaded.

        Args:
            path: A bundle's folder or zip, a TorchScript or torch.export file.
            trust: Whether code that comes with it may run; refused unless the engine trusts.
            on_server: The path is of the engine's own disk, inside ``About.data``;
                else of the caller's disk, and the files are sent where they are not known.

        Raises:
            ClassifierError: It cannot be loaded, trusted or explained.
        """

    @abstractmethod
    def put(self, volume: Volume) -> str:
        """Sends a volume and returns its hash; one that the engine holds is not sent again."""

    @abstractmethod
    def get(self, volume: str) -> Volume:
        """The volume of that hash.

        Raises:
            InputError: The engine holds no such volume any more.
        """

    @abstractmethod
    def start(self, request: Request) -> str:
        """Puts a job in the queue and returns its name."""

    @abstractmethod
    def status(self, job: str, *, seen: int = -1, wait: float = 0.0) -> JobStatus:
        """The progress of a job.

        Args:
            job: Its name.
            seen: The last version that the caller has seen.
            wait: Seconds to wait for a newer one, at most.
        """

    @abstractmethod
    def partial(self, job: str) -> Result | None:
        """The newest partial result of a job; None where there is none yet."""

    @abstractmethod
    def result(self, job: str) -> Result:
        """The result of a job that is done.

        Raises:
            SaliencyExplainError: Why the job failed, in one line.
            Cancelled: It was cancelled.
            InputError: It has not ended yet, or does not exist.
        """

    @abstractmethod
    def cancel(self, job: str) -> None:
        """Requests that a job stops as soon as possible; an ended one is not changed."""

    @abstractmethod
    def jobs(self) -> list[JobStatus]:
        """All jobs that wait, run, or ended not long ago, the oldest first."""

    @abstractmethod
    def close(self) -> None:
        """Cancels running jobs and releases all volumes, or closes the connection to a server."""
