"""The prober of the last clicked image, kept so that the next click is quick."""

from __future__ import annotations

import threading

from SaliencyExplain.engine.queue.cache import ClassifierStore, VolumeStore
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import ProbeRequest
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober


class CachedProber:
    """Keeps one prober, with the feature maps of its image."""

    def __init__(self, compute: Compute, classifiers: ClassifierStore, volumes: VolumeStore):
        """Computes nothing yet.

        Args:
            compute: On which device, and within which limits.
            classifiers: The open classifiers.
            volumes: The volumes that requests name.
        """
        self._compute = compute
        self._classifiers = classifiers
        self._volumes = volumes
        self._lock = threading.Lock()
        self._kept: tuple[tuple[str, ...], Prober] | None = None

    def get(self, request: ProbeRequest, reporter: Reporter) -> Prober:
        """The prober for a request's classifier, volume and fill, made where it is not kept.

        Args:
            request: The request.
            reporter: Receives the progress.
        """
        twin = self._classifiers.get(request.classifier).twin
        asked = (request.classifier, request.volume, request.fill)
        with self._lock:
            # Where the network has moved since (a GPU was full), its maps lie elsewhere.
            if self._kept is not None and self._kept[0] == (*asked, str(twin.device)):
                reporter.doing("removes what is there")
                return self._kept[1]
            # Before the new one is made: two would not fit a small GPU.
            self._kept = None
        reporter.doing("computes the image's feature maps")
        image = image_of(self._volumes.get(request.volume))
        prober = Prober(prepare(image, twin, compute=self._compute), fill=request.fill)
        with self._lock:
            self._kept = ((*asked, str(twin.device)), prober)
        reporter.doing("removes what is there")
        return prober

    def free_gpu_memory(self) -> None:
        """Releases a GPU's memory; the next click computes its feature maps again."""
        with self._lock:
            if self._kept is not None and self._compute.device.startswith("cuda"):
                self._kept[1].release()

    def clear(self) -> None:
        """Releases the prober."""
        with self._lock:
            self._kept = None
