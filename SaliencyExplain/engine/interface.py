"""What a face asks of an engine, and what it is told: plain data, without torch.

Faces (panel, page, command line) know only :class:`Engine`. One implementation computes in
this process, another asks a server; both answer alike, and the same tests hold them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from SaliencyExplain.engine.volumes import Volume

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
class MethodChoice:
    """A method by name, with those of its parameters that are not the default."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictRequest:
    """Asks for the class probabilities of a volume.

    Attributes:
        classifier: Key of an opened classifier.
        volume: Hash of a volume ``(C, *S)`` that the engine holds, channels in its order.
    """

    classifier: str
    volume: str


@dataclass(frozen=True)
class ExplainRequest:
    """Asks for attributions of a volume.

    Attributes:
        classifier: Key of an opened classifier.
        volume: Hash of a volume ``(C, *S)``.
        methods: What is computed, in this order.
        target: Name or index of a class, or ``predicted``.
        seed: Of everything random.
        budget_seconds: Stop with the best maps so far after this time; None: compute all.
        image_name: Name of the image in the provenance; must not name a patient.
    """

    classifier: str
    volume: str
    methods: tuple[MethodChoice, ...]
    target: str = "predicted"
    seed: int = 0
    budget_seconds: float | None = None
    image_name: str = ""


@dataclass(frozen=True)
class EstimateRequest:
    """Asks what an explanation would cost, before it is started."""

    explain: ExplainRequest


@dataclass(frozen=True)
class ProbeRequest:
    """Asks how every class's probability moves when what is at a place is removed.

    Attributes:
        classifier: Key of an opened classifier.
        volume: Hash of a volume ``(C, *S)``.
        point_ras: Centre of the removed balls in RAS mm; None where a segment is removed.
        radii_mm: Radii of the balls.
        segment: Hash of a mask ``(*S)``, uint8, on the volume's grid; None: balls.
        segment_name: Its name.
        fill: What stands in the place, as occlusion's parameter of that name.
        stream: Requests of one stream replace each other: a newer one cancels those before.
    """

    classifier: str
    volume: str
    point_ras: tuple[float, float, float] | None = None
    radii_mm: tuple[float, ...] = ()
    segment: str | None = None
    segment_name: str = ""
    fill: str = "mean"
    stream: str = ""


@dataclass(frozen=True)
class CompareRequest:
    """Asks how maps agree with segments, beside what chance gives.

    Attributes:
        volume: Hash of the image ``(C, *S)``.
        maps: ``{label: hash}`` of maps ``(*S)`` on its grid.
        target_name: The class that the maps explain.
        segments: Hash of masks ``(N, *S)``, uint8, on its grid; they may overlap.
        segment_names: N names.
        case: Name of the case in the table.
        seed: Of the random yardstick.
    """

    volume: str
    maps: dict[str, str]
    target_name: str
    segments: str
    segment_names: tuple[str, ...]
    case: str = "image"
    seed: int = 0


@dataclass(frozen=True)
class StudyRequest:
    """Asks for a whole study; all paths are of the engine's own disk.

    Attributes:
        folder: Folder of cases, or a CSV of them.
        classifier: The classifier's file or folder.
        methods: What is computed for each case.
        out: The output folder; what an earlier run has done there stays.
        target: Name or index of a class, ``predicted`` or ``label``.
        seed: Of everything random.
        jobs: Processes side by side.
        trust: Whether code that comes with the classifier may run.
    """

    folder: str
    classifier: str
    methods: tuple[MethodChoice, ...]
    out: str
    target: str = "predicted"
    seed: int = 0
    jobs: int = 1
    trust: bool = False


Request: TypeAlias = (
    PredictRequest | ExplainRequest | EstimateRequest | ProbeRequest | CompareRequest | StudyRequest
)


@dataclass(frozen=True)
class PredictResult:
    """Probabilities, one for each class, in [0, 1]."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class MapResult:
    """One attribution; its values are fetched by their hash.

    Attributes:
        label: ``method`` or ``method@layer``.
        title: The method's name for people.
        method: Name of the method.
        layer: Name of the layer looked at, or empty.
        signed: Whether negative values speak against the class.
        target_name: Name of the class.
        volume: Hash of the map ``(*S)``, float32, on the image's own grid.
        parameters: Of the method.
        provenance: Classifier, input, seed and versions.
        seconds: Time that it took.
        share_done: Share of the computation that is in it; below 1: a partial map.
    """

    label: str
    title: str
    method: str
    layer: str
    signed: bool
    target_name: str
    volume: str
    parameters: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    share_done: float = 1.0


@dataclass(frozen=True)
class ExplainResult:
    """What the classifier says of a volume, and which voxels made it say so."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    target: int
    maps: tuple[MapResult, ...]
    notes: tuple[str, ...]
    timings: dict[str, float]


@dataclass(frozen=True)
class EstimateResult:
    """Cost of an explanation in forward passes of one image, and at most in seconds."""

    forward_passes: float
    seconds: float


@dataclass(frozen=True)
class RemovalResult:
    """What the classifier says without a place.

    Attributes:
        name: Such as ``"8 mm"``, or the segment's name.
        radius_mm: Radius of the ball; None for a segment.
        voxels: Voxels of the network's grid that were replaced; 0: nothing was there to remove.
        probabilities: One for each class, in [0, 1].
    """

    name: str
    radius_mm: float | None
    voxels: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class ProbeResult:
    """A probe's answer: the probabilities before, and without each place."""

    classes: tuple[str, ...]
    before: tuple[float, ...]
    removals: tuple[RemovalResult, ...]
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class CurveResult:
    """How much of a segment lies among the strongest voxels of a map.

    Attributes:
        label: The map's label, or ``random``, ``centre``.
        segment: The segment's name.
        share_of_image: Rising from 0 to 1.
        share_of_segment: Of the segment's voxels, those within that share of the image;
            chance is the diagonal.
    """

    label: str
    segment: str
    share_of_image: tuple[float, ...]
    share_of_segment: tuple[float, ...]


@dataclass(frozen=True)
class CompareResult:
    """The rows of the comparison table, those of the yardsticks too, and its curves."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    curves: tuple[CurveResult, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StudyCase:
    """A case of a study, by files of the engine's own disk.

    Attributes:
        case: Its name, which is that of its folder in the output folder.
        done: Whether its results are there.
        images: Files or DICOM folders of its channels, in the classifier's order where known.
        segmentation: File of its ground truth; None: it has none.
    """

    case: str
    done: bool
    images: tuple[str, ...]
    segmentation: str | None


@dataclass(frozen=True)
class StudyResult:
    """What came out of a study, on the engine's own disk.

    Attributes:
        out: The output folder.
        report: The report.
        total: All cases.
        resumed: Cases that an earlier run had done.
        failed: Cases with a failure.
        notes: What a user should be told aloud.
        cases: The cases; their paths may hold patients' names.
    """

    out: str
    report: str
    total: int
    resumed: int
    failed: int
    notes: tuple[str, ...]
    cases: tuple[StudyCase, ...] = ()


Result: TypeAlias = (
    PredictResult | ExplainResult | EstimateResult | ProbeResult | CompareResult | StudyResult
)

#: Each kind of job with what asks for it and what answers it.
KINDS: dict[str, tuple[type[Request], type[Result]]] = {
    "predict": (PredictRequest, PredictResult),
    "explain": (ExplainRequest, ExplainResult),
    "estimate": (EstimateRequest, EstimateResult),
    "probe": (ProbeRequest, ProbeResult),
    "compare": (CompareRequest, CompareResult),
    "study": (StudyRequest, StudyResult),
}


def kind_of(request: Request) -> str:
    """The kind of the job that answers a request."""
    return next(kind for kind, (asks, _) in KINDS.items() if isinstance(request, asks))


@dataclass(frozen=True)
class JobStatus:
    """How far a job is.

    Attributes:
        job: Its name.
        kind: ``predict``, ``explain``, ``estimate``, ``probe``, ``compare`` or ``study``.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        place: Place in the line, 1 is the next; 0: not in the line.
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
        """Puts a job in the line and returns its name."""

    @abstractmethod
    def status(self, job: str, *, seen: int = -1, wait: float = 0.0) -> JobStatus:
        """How far a job is.

        Args:
            job: Its name.
            seen: The version that the caller knows.
            wait: Seconds to wait for a newer one, at most.
        """

    @abstractmethod
    def partial(self, job: str) -> ExplainResult | None:
        """The newest partial result of an explain job; None where there is none yet."""

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
