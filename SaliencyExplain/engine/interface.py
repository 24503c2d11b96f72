"""What an engine is for a face: what it can be asked, and how a job is followed.

Faces (panel, page, command line) know only :class:`Engine`. One implementation computes in
this process, another asks a server; both answer alike, and the same tests hold them.
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
    """What an engine is and what it may do.

    Attributes:
        version: Of SaliencyExplain.
        device: Where it computes, in words, such as ``"cpu (2 threads)"``.
        memory_free: Bytes free on that device.
        memory_total: Bytes of that device.
        data: Folders of the engine's own disk that jobs may name; empty: none.
        trusts: Whether it runs code that comes with a classifier when it is asked to.
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
        layers: Names of its convolution layers, for methods that look at a layer.
        notes: What was guessed at loading, to be said aloud.
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
    """How far a job is.

    Attributes:
        job: Its name.
        kind: Name of the kind of its request, such as ``predict``.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        place: Place in the queue, 1 is the next; 0: not in the queue.
        done: Forward passes (study: cases) done.
        total: Of so many; 0 while unknown.
        seconds_left: Estimate; None while unknown.
        doing: What it does now, in words.
        partial: Number of the newest partial result; 0: there is none yet.
        version: Rises with every change of this status.
        error: The one line of a failed job.
        details: What a developer would ask for about a failed job.
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

    All methods may be called from any thread. They raise ``InputError`` for what the
    caller got wrong and ``EngineLostError`` where a server does not answer any more.
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
        """Hands over a volume and returns its hash; one that the engine holds is not sent again."""

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
        """How far a job is.

        Args:
            job: Its name.
            seen: The version that the caller knows.
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
            InputError: It has not ended yet, or is not known.
        """

    @abstractmethod
    def cancel(self, job: str) -> None:
        """Asks a job to stop at the next moment at which it can; an ended one stays as it is."""

    @abstractmethod
    def jobs(self) -> list[JobStatus]:
        """All jobs that wait, run, or ended not long ago, the oldest first."""

    @abstractmethod
    def close(self) -> None:
        """Cancels what runs and lets go of classifiers and volumes (in process) or of the link."""
