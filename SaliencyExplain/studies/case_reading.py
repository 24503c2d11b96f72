"""The work list of a case, and reading of cases one ahead of the computation."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from monai.data import MetaTensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.errors import ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.inputs import read_input
from SaliencyExplain.records.case_entry import METHOD_STAGE, CaseEntry, StageFailure
from SaliencyExplain.studies.case import Case

#: Unexpected errors that libraries may raise for a case. One such case must not stop a study of
#: many hours; its reason is recorded.
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
SCENE_STAGE, EVALUATION_STAGE = "making the scene", "evaluating the maps"

#: Seconds for which the computation waits for a case that is being read, and how often it looks.
PATIENCE, _LOOK_EVERY = 600.0, 0.5

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass(frozen=True)
class PendingCase:
    """The work list of a case.

    Attributes:
        case: The case.
        entry: The journal's entry of a case whose maps are there and stay; None: it has none.
        methods: The methods whose maps are to be computed. None: all of the study's, or where the
            case has an entry none, since only its scene or evaluation is wanted and missing.
    """

    case: Case
    entry: CaseEntry | None = None
    methods: tuple[Method, ...] = ()


@dataclass
class ReadCase:
    """A case with its voxels, or with the reason why it has none.

    Attributes:
        case: The case.
        source: Digest of its files.
        image: ``(C, *S)`` in the classifier's channel order; None where it cannot be read.
        segmentation: On the image's grid; None where there is none, nothing is marked in it, or
            it cannot be read.
        segmentation_notes: Notes on the segmentation.
        failures: What could not be read, as it is recorded.
        errors: The same as it was raised, which may name files of patients.
        seconds: Time that reading took.
        prepared: The image before the classifier, once it was; None: not yet.
    """

    case: Case
    source: str = ""
    image: MetaTensor | None = None
    segmentation: Segmentation | None = None
    segmentation_notes: tuple[str, ...] = ()
    failures: list[StageFailure] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    seconds: float = 0.0
    prepared: PreparedCase | None = None

    def fail(self, stage: str, error: BaseException) -> None:
        """Records what could not be read."""
        self.failures.append(failure(self.case, stage, error))
        self.errors.append(error)

    def entry(self) -> CaseEntry:
        """Its entry in the journal before anything is computed."""
        return CaseEntry(self.case.case, self.source, self.case.label, tuple(self.failures))


def read_backgrounds(classifier: Classifier, cases: Sequence[Case]) -> tuple[MetaTensor, ...]:
    """The background images; errors name the case instead of the patient.

    Raises:
        InputError: One cannot be read.
    """
    images = [read_input(classifier, case.images, series=case.series) for case in cases]
    for case, image in zip(cases, images, strict=True):
        image.meta["name"] = case.case
    return tuple(images)


def failure(case: Case, stage: str, error: BaseException) -> StageFailure:
    """A failure for the record: a code and one line, without names of patients."""
    try:
        said = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - an error that cannot even say what it is
        said = ""
    reason = said or type(error).__name__
    if not isinstance(error, SaliencyExplainError):
        reason = f"{type(error).__name__}: {reason}"
    code = getattr(error, "code", None)
    code = code if isinstance(code, ErrorCode) else ErrorCode.JOB_FAILED
    return StageFailure(stage, code.value, case.public(reason)[:500])


def failures_of_methods(case: Case, failures: Sequence[MethodFailure]) -> list[StageFailure]:
    """The failures of methods as a case's entry has them."""
    return [
        StageFailure(f"{METHOD_STAGE} {one.method}", one.code, case.public(one.reason))
        for one in failures
    ]


def late(seconds: float) -> InputError:
    """The error for a case whose reading takes too long."""
    return InputError(
        ErrorCode.FILE_UNREADABLE,
        f"Reading did not finish within {seconds:g} s. Copy the file to a local disk.",
    )


class _Reader:
    """A thread that reads items, one at a time, until all are read or it is abandoned."""

    def __init__(self, items: Iterator[Item], read: Callable[[Item], Read]) -> None:
        self._items, self._read = items, read
        self._waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        #: What is read now, and since when; an empty tuple between two items.
        self._now: tuple[Item, float] | tuple[()] = ()
        self._thread = threading.Thread(target=self._run, name="reading ahead", daemon=True)
        self._thread.start()

    def take(self, patience: float) -> tuple[str, Any]:
        """What was read: ``item``, ``error`` or ``end``, and its content.

        ``late`` and the item where it is being read, and waited for, for longer than `patience`.
        """
        began = time.monotonic()
        while True:
            try:
                return self._waiting.get(timeout=min(_LOOK_EVERY, patience))
            except queue.Empty:
                with self._lock:
                    now = self._now
                    if now and time.monotonic() - max(began, now[1]) > patience:
                        self._stopped.set()
                        return "late", now[0]

    def stop(self, seconds: float) -> None:
        """Ends it after the item that it is at, and waits so long for that."""
        self._stopped.set()
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        try:
            for item in self._items:
                if self._stopped.is_set():
                    return
                self._now = (item, time.monotonic())
                content = self._read(item)
                with self._lock:
                    # An abandoned thread must take no further item.
                    if self._stopped.is_set():
                        return
                    self._now = ()
                self._put("item", content)
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits, who would wait for ever
            self._now = ()
            self._put("error", error)
        self._put("end", None)

    def _put(self, kind: str, content: Any) -> None:
        while not self._stopped.is_set():
            try:
                self._waiting.put((kind, content), timeout=0.1)
                return
            except queue.Full:
                continue


def read_ahead(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    given_up: Callable[[Item, float], Read],
    *,
    patience: float = PATIENCE,
) -> Iterator[Read]:
    """Yields ``read(item)`` for each item, reading the next one in a thread meanwhile.

    At most one item waits, so that memory holds three: one being computed, one
    that waits, one being read.

    Args:
        items: The items; taken from the iterable in the reading thread.
        read: Reads one.
        given_up: Stands for ``read`` where reading an item takes too long (a network drive that
            does not answer); told how long was waited. Its thread is left behind.
        patience: Seconds that an item is read, and waited for, at most.
    """
    source = iter(items)
    reader = _Reader(source, read)
    try:
        while True:
            kind, content = reader.take(patience)
            if kind == "error":
                raise content
            if kind == "end":
                return
            if kind == "late":
                reader = _Reader(source, read)
                yield given_up(content, patience)
            else:
                yield content
    finally:
        reader.stop(5)
