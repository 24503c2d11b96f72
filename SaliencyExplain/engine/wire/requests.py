"""What a face asks of an engine: plain data, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.engine.wire.request_base import KINDS, Request
from SaliencyExplain.engine.wire.request_limits import (
    Millimetres,
    Processes,
    Radii,
    Seed,
)
from SaliencyExplain.engine.wire.results import (
    CompareResult,
    EvaluationResult,
)
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.probe_result import Probe
from SaliencyExplain.results.class_prediction import Prediction
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.specification.spec import ExplainSpec


@dataclass(frozen=True)
class PredictRequest(Request, kind="predict", result=Prediction, short=True):
    """Asks for the class probabilities of a volume.

    Attributes:
        classifier: Key of an opened classifier.
        volume: Hash of a volume ``(C, *S)`` that the engine holds, channels in its order.
    """

    classifier: str
    volume: str


@dataclass(frozen=True)
class ExplainRequest(Request, kind="explain", result=Explanation):
    """Asks for attributions of a volume.

    Attributes:
        classifier: Key of an opened classifier.
        volume: Hash of a volume ``(C, *S)``.
        spec: What is computed; its references are hashes of volumes that the engine holds.
        image_name: Name of the image in the provenance; must not name a patient.
    """

    classifier: str
    volume: str
    spec: ExplainSpec
    image_name: str = ""


@dataclass(frozen=True)
class EstimateRequest(Request, kind="estimate", result=Estimate, short=True):
    """Asks what an explanation would cost, before it is started."""

    explain: ExplainRequest


@dataclass(frozen=True)
class ProbeRequest(Request, kind="probe", result=Probe, short=True):
    """Asks how every class's probability moves when what is at a place is removed.

    Attributes:
        classifier: Key of an opened classifier.
        volume: Hash of a volume ``(C, *S)``.
        point_ras: Centre of the removed balls in RAS mm; None where a segment is removed.
        radii_mm: Radii of the balls.
        segment: Hash of a mask ``(*S)``, uint8, on the volume's grid; None: balls.
        segment_name: Its name.
        segment_notes: What is to be told of the segment; the answer's notes repeat it.
        fill: What stands in the place, as occlusion's parameter of that name.
        stream: Requests of one stream replace each other: a newer one cancels those before.
    """

    classifier: str
    volume: str
    point_ras: tuple[float, float, float] | None = None
    radii_mm: Radii = ()
    segment: str | None = None
    segment_name: str = ""
    segment_notes: tuple[str, ...] = ()
    fill: str = "mean"
    stream: str = ""


@dataclass(frozen=True)
class CompareRequest(Request, kind="compare", result=CompareResult):
    """Asks how maps agree with segments, beside what chance gives.

    Attributes:
        volume: Hash of the image ``(C, *S)``.
        maps: ``{label: hash}`` of maps ``(*S)`` on its grid.
        target_name: The class that the maps explain.
        segments: Hash of masks ``(N, *S)``, uint8, on its grid; they may overlap.
        segment_names: N names.
        segment_notes: What is to be told of the segments; the answer's notes repeat it.
        case: Name of the case in the table.
        seed: Of the random control map.
        resolutions_mm: ``{label: mm}`` of what the maps resolve; 0 where it is not known.
        fields_of_view: ``{label: what the network saw}``, where that is not the whole image.
        own_segments: ``{label: hashes}`` of the segments that are the regions of a map, with
            which its agreement is withheld.
    """

    volume: str
    maps: dict[str, str]
    target_name: str
    segments: str
    segment_names: tuple[str, ...]
    segment_notes: tuple[str, ...] = ()
    case: str = "image"
    seed: Seed = 0
    resolutions_mm: dict[str, Millimetres] = field(default_factory=dict)
    fields_of_view: dict[str, FieldOfView] = field(default_factory=dict)
    own_segments: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRequest(Request, kind="study", result=StudyResult):
    """Asks for a whole study; all paths are of the engine's own disk.

    Attributes:
        folder: Folder of cases, or a CSV of them.
        classifier: The classifier's file or folder.
        spec: What is computed for each case; without references.
        out: The output folder; what an earlier run has done there stays.
        jobs: Processes side by side.
        trust: Whether code that comes with the classifier may run.
        evaluate: Whether each case's maps are evaluated.
    """

    folder: str
    classifier: str
    spec: ExplainSpec
    out: str
    jobs: Processes = 1
    trust: bool = False
    evaluate: bool = False


@dataclass(frozen=True)
class EvaluationRequest(Request, kind="evaluation", result=EvaluationResult):
    """Asks for the evaluation of maps: do they beat chance, depend on the weights, stay?

    Attributes:
        explain: What the maps come from; they are computed again, on the network's grid, and
            its limit of passes is that of the evaluation. With segments the maps are held
            against them, too.
        image_sha256: Of the volume that the maps were computed from, as in their provenance;
            empty: it is not checked.
        segments_sha256: Of the segments that the maps were computed with, in the same way.
        backgrounds_sha256: Of their backgrounds.
    """

    explain: ExplainRequest
    image_sha256: str = ""
    segments_sha256: str = ""
    backgrounds_sha256: tuple[str, ...] = ()


def find_request_kind(kind: str) -> type[Request]:
    """The class of the requests of a kind.

    Raises:
        InputError: There is no such kind.
    """
    if kind not in KINDS:
        raise InputError(
            ErrorCode.ENGINE_REQUEST,
            f"There is no kind of job '{kind}'. Known: {', '.join(KINDS)}.",
        )
    return KINDS[kind]
