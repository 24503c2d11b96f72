"""The cache of an engine: volumes by their hash, open classifiers, and predictions."""

from __future__ import annotations

import copy
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from SaliencyExplain.engine.wire.wire_volumes import check_volume
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.voxel_volume import Volume

#: Share of the machine's memory that volumes may take, and the least in bytes.
_SHARE, _LEAST = 0.25, 512 * 1024**2
#: Classifiers that are kept, and bytes of weights above which only the last one is.
_MOST_CLASSIFIERS, _MOST_WEIGHTS = 8, 4 * 1024**3
#: Predictions that are kept.
_MOST_PREDICTIONS = 32


class VolumeStore:
    """Volumes by hash, up to a number of bytes; the least recently used are removed first.

    Volumes that a listed job needs or has made are held: they are never removed.

    Attributes:
        limit: Bytes of voxels.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit or max(_LEAST, int(_SHARE * psutil.virtual_memory().total))
        self._lock = threading.RLock()
        self._volumes: OrderedDict[str, Volume] = OrderedDict()
        self._holds: Counter[str] = Counter()
        self._bytes = 0

    def put(self, volume: Volume, *, copied: bool = True, beyond: bool = False) -> str:
        """Keeps a volume.

        Args:
            volume: The volume.
            copied: Keep a copy, since the owner may change the original.
            beyond: Keep it beyond the limit too: a job has made it.

        Raises:
            InputError: The volume is not of a supported form, or there is not enough memory for it.
        """
        check_volume(volume)
        key = volume.hash
        with self._lock:
            if key in self._volumes:
                self._volumes.move_to_end(key)
                return key
            self._make_room(volume.values.nbytes, beyond)
            values: NDArray[Any] = np.ascontiguousarray(volume.values)
            if copied and np.shares_memory(values, volume.values):
                values = values.copy()
            values.flags.writeable = False
            affine = np.array(volume.affine, dtype=np.float64)
            affine.flags.writeable = False
            self._volumes[key] = Volume(values, affine)
            self._bytes += values.nbytes
        return key

    def get(self, key: str) -> Volume:
        """The volume of that hash.

        Raises:
            InputError: It does not exist, or is no longer kept.
        """
        with self._lock:
            if key not in self._volumes:
                raise InputError(
                    ErrorCode.ENGINE_UNKNOWN,
                    f"The engine has no volume {key[:12]}. Send it again.",
                )
            self._volumes.move_to_end(key)
            return self._volumes[key]

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._volumes

    def hold(self, keys: Iterable[str]) -> None:
        """Holds volumes until they are released as often."""
        with self._lock:
            wanted = list(keys)
            for key in wanted:
                self.get(key)
            self._holds.update(wanted)

    def release(self, keys: Iterable[str]) -> None:
        """Releases held volumes."""
        with self._lock:
            self._holds.subtract(keys)
            self._holds = +self._holds

    @property
    def held_bytes(self) -> int:
        """Bytes of voxels that are held."""
        with self._lock:
            return sum(self._volumes[key].values.nbytes for key in self._holds)

    def clear(self) -> None:
        """Releases everything."""
        with self._lock:
            self._volumes.clear()
            self._holds.clear()
            self._bytes = 0

    def _make_room(self, size: int, beyond: bool) -> None:
        free = [key for key in self._volumes if not self._holds[key]]
        while free and self._bytes + size > self.limit:
            self._bytes -= self._volumes.pop(free.pop(0)).values.nbytes
        if not beyond and self._bytes + size > self.limit:
            raise InputError(
                ErrorCode.ENGINE_LIMIT,
                f"The engine's memory for volumes ({self.limit} bytes) does not hold this one "
                f"({size} bytes) in addition to those that jobs need. Wait for these jobs, or "
                "send a smaller volume.",
            )


@dataclass
class OpenClassifier:
    """A loaded classifier, and its copy for short jobs.

    A click may be answered in a pause of an explanation, whose method has its hooks on the
    network; so short jobs use a second network, which takes the memory of the weights once more.

    Attributes:
        classifier: For long jobs.
        size: Bytes of its weights.
    """

    classifier: Classifier
    size: int
    _twin: Classifier | None = None

    @property
    def twin(self) -> Classifier:
        """For short jobs."""
        if self._twin is None:
            self._twin = copy.copy(self.classifier)
            self._twin.network = copy.deepcopy(self.classifier.network)
        return self._twin


class ClassifierStore:
    """Loaded classifiers by identity; the least recently used are removed first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenClassifier] = OrderedDict()

    def put(self, classifier: Classifier) -> None:
        """Keeps a classifier; one of the same identity is not replaced."""
        tensors = [*classifier.network.parameters(), *classifier.network.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        with self._lock:
            self._open.setdefault(classifier.identity, OpenClassifier(classifier, size))
            self._open.move_to_end(classifier.identity)
            while len(self._open) > 1 and (
                len(self._open) > _MOST_CLASSIFIERS
                or sum(item.size for item in self._open.values()) > _MOST_WEIGHTS
            ):
                self._open.popitem(last=False)

    def get(self, key: str) -> OpenClassifier:
        """The classifier of that identity.

        Raises:
            InputError: It is not open, or no longer open.
        """
        with self._lock:
            if key not in self._open:
                raise InputError(
                    ErrorCode.ENGINE_UNKNOWN,
                    f"The engine has no open classifier {key[:12]}. Open it again.",
                )
            self._open.move_to_end(key)
            return self._open[key]

    def clear(self) -> None:
        """Releases all classifiers."""
        with self._lock:
            self._open.clear()


class PredictionStore:
    """The probabilities of volumes, for the partial results of explanations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], tuple[float, ...]] = OrderedDict()

    def put(self, classifier: str, volume: str, probabilities: tuple[float, ...]) -> None:
        """Keeps the probabilities of a volume; the oldest are removed first."""
        with self._lock:
            self._known[classifier, volume] = probabilities
            while len(self._known) > _MOST_PREDICTIONS:
                self._known.popitem(last=False)

    def get(self, classifier: str, volume: str) -> tuple[float, ...]:
        """The probabilities of a volume, one for each class; empty where they are not known."""
        with self._lock:
            return self._known.get((classifier, volume), ())
