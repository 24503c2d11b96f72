"""What is to be done for a case, and its reading, one case ahead of the work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from monai.data import MetaTensor

from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.classifiers.inputs import read_input
from SaliencyExplain.errors import ErrorCode, SaliencyExplainError
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.study.case import Case

#: What a library may raise for a case that nobody foresaw. In a study over a
#: weekend one such case must not cost the others; its reason is recorded.
UNFORESEEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

#: Stages of failures that leave a case's other results complete.
SCENE_STAGE, TRIAL_STAGE = "making the scene", "trying the maps"

#: Stage of a failure of one method, before its name: the case keeps the other methods' maps.
METHOD_STAGE = "explaining with"

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Todo:
    """What is to be done for a case.

    Attributes:
        case: The case.
        entry: The journal's entry of a case whose maps are there, and whose scene or trial is
            wanted and missing; None: everything is to be done.
    """

    case: Case
    entry: dict[str, Any] | None = None


@dataclass
class ReadCase:
    """A case with its voxels, or with the reason why it has none.

    Attributes:
        case: The case.
        source: Digest of its files.
        image: ``(C, *S)`` in the classifier's channel order; None where it cannot be read.
        segmentation: On the image's grid; None where there is none, nothing is marked in it, or
            it cannot be read.
        segmentation_notes: What is to be told of it.
        failures: What could not be read, as it is recorded.
        errors: The same as it was raised, which may name files of patients.
        seconds: Time that reading took.
    """

    case: Case
    source: str = ""
    image: MetaTensor | None = None
    segmentation: Segmentation | None = None
    segmentation_notes: tuple[str, ...] = ()
    failures: list[dict[str, str]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, stage: str, error: Exception) -> None:
        """Records what could not be read."""
        self.failures.append(failure(self.case, stage, error))
        self.errors.append(error)


def read_backgrounds(classifier: Classifier, cases: Sequence[Case]) -> tuple[MetaTensor, ...]:
    """The images of backgrounds; errors about one name it as its case, not as its patient.

    Raises:
        InputError: One cannot be read.
    """
    images = [read_input(classifier, case.images, series=case.series) for case in cases]
    for case, image in zip(cases, images, strict=True):
        image.meta["name"] = case.case
    return tuple(images)


def failure(case: Case, stage: str, error: BaseException) -> dict[str, str]:
    """A failure as it is recorded: a code and one line, without what may name the patient."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, SaliencyExplainError):
        reason = f"{type(error).__name__}: {reason}"
    code = getattr(error, "code", ErrorCode.JOB_FAILED)
    return {"stage": stage, "code": code.value, "reason": case.public(reason)[:500]}


def read_ahead(items: Iterable[Item], read: Callable[[Item], Read]) -> Iterator[Read]:
    """Yields ``read(item)`` for each item, reading the next one in a thread meanwhile.

    At most one item waits, so that memory holds three: one being computed, one
    that waits, one being read.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(kind: str, content: Any) -> None:
        while not stopped.is_set():
            try:
                waiting.put((kind, content), timeout=0.1)
                return
            except queue.Full:
                continue

    def reader() -> None:
        try:
            for item in items:
                if stopped.is_set():
                    return
                put("item", read(item))
        except Exception as error:  # noqa: BLE001 - raised by whoever waits, who would wait for ever
            put("error", error)
        put("end", None)

    thread = threading.Thread(target=reader, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, content = waiting.get()
            if kind == "error":
                raise content
            if kind == "end":
                return
            yield content
    finally:
        stopped.set()
        thread.join(timeout=5)
